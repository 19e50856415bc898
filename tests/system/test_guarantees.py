"""The fault-tolerance table of the guide (dstream.md 19), cell by cell: source x failure x configuration -> guarantee.

Each test runs tests/support/guarantee, makes one thing fail, and compares what came out with what was sent, as multisets that
are never de-duplicated. Two outputs are looked at: `text`, directories that a batch overwrites when it runs again, and `raw`,
a file to which a foreachRDD without any id appends: it shows how often a row came out.

    exactly once    nothing lost, nothing doubled in text
    at least once   nothing lost; the test makes a double happen
    at most once    nothing doubled; the test makes a loss happen
"""
import collections
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kafka_broker  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM = os.path.join(os.environ["MILLRACE_BUILD_DIR"], "tests/guarantee/guarantee")
WAIT = 60  # seconds until something counts as hung


class Sender:
    """Serves one connection after the other; what it sends is the test's business."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(WAIT)
        self.port = self.listener.getsockname()[1]
        self.peer = None

    def accept(self):
        self.drop()
        self.peer, _ = self.listener.accept()
        self.peer.settimeout(WAIT)

    def send(self, rows):
        self.peer.sendall("".join(row + "\n" for row in rows).encode())

    def acknowledged(self, count):
        """Waits for so many acknowledgements; fewer when the peer goes away."""
        text = b""
        while text.count(b"\n") < count:
            try:
                data = self.peer.recv(4096)
            except ConnectionError:
                break
            if not data:
                break
            text += data
        return [line[4:].decode() for line in text.split(b"\n")[:-1]]

    def drop(self):
        if self.peer is not None:
            self.peer.close()
            self.peer = None

    def close(self):
        self.drop()
        self.listener.close()


class Cell(unittest.TestCase):
    def setUp(self):
        if not os.path.exists(PROGRAM):
            self.skipTest("the program was not built")
        self.dir = tempfile.mkdtemp(prefix="millrace-guarantees-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.mkdir(self.path("in"))
        os.mkdir(self.path("out"))
        self.sender = Sender()
        self.addCleanup(self.sender.close)
        self.process = None
        self.addCleanup(self.kill)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def start(self, source, durable, *options):
        # pylint: disable=consider-using-with
        with open(self.path("stderr"), "a", encoding="utf-8") as err:
            self.process = subprocess.Popen(
                [PROGRAM, source, self.path("checkpoint") if durable else "-", self.path("out"), *options],
                cwd=self.dir, stdout=subprocess.DEVNULL, stderr=err)

    def errors(self):
        with open(self.path("stderr"), encoding="utf-8") as file:
            return file.read()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=WAIT)
        self.process = None
        self.assertEqual(code, 0, self.errors()[-600:])

    def wait_until(self, what, test):
        deadline = time.monotonic() + WAIT
        while not test():
            self.assertLess(time.monotonic(), deadline, f"waited for {what}; " + self.errors()[-600:])
            if self.process is not None:
                self.assertIsNone(self.process.poll(), self.errors()[-600:])
            time.sleep(0.005)

    def start_on_files(self, *options):
        """Only files that come after the start are read: waits for the first batch."""
        self.start("files:" + self.path("in"), True, *options)
        self.wait_until("the first batch", lambda: glob.glob(self.path("out", "text-*", "_SUCCESS")))

    def put_file(self, name, rows):
        with open(self.path(".new"), "w", encoding="utf-8") as file:
            file.writelines(row + "\n" for row in rows)
        os.rename(self.path(".new"), self.path("in", name))

    def raw(self):
        """Every row that the raw output was given, as often as it was."""
        if not os.path.exists(self.path("out", "raw")):
            return collections.Counter()
        with open(self.path("out", "raw"), encoding="utf-8") as file:
            return collections.Counter(file.read().splitlines())

    def text(self):
        """Rows of the batches that are whole."""
        rows = collections.Counter()
        for done in glob.glob(self.path("out", "text-*", "_SUCCESS")):
            for part in glob.glob(os.path.join(os.path.dirname(done), "part-*")):
                with open(part, encoding="utf-8") as file:
                    rows.update(file.read().splitlines())
        return rows

    def wait_for_row(self, row):
        self.wait_until(f"the row '{row}'", lambda: self.raw()[row] > 0 and self.text()[row] > 0)

    def kill_between_output_and_commit(self):
        """The program waits inside its output (slow=...); then it dies."""
        self.wait_until("the slow output", lambda: os.path.exists(self.path("out", "waiting")))
        self.kill()
        with open(self.path("out", "go"), "w", encoding="utf-8"):
            pass

    def assert_exactly_once(self, sent):
        self.assertEqual(self.text(), collections.Counter(sent))

    def assert_nothing_lost(self, sent):
        self.assertEqual([row for row in sent if self.text()[row] == 0], [], "lost")


class Files(Cell):
    """Files on a fault-tolerant disk: exactly once, whatever fails; an output without ids at least once."""

    def test_a_task_that_fails_runs_again(self):
        sent = [f"row-{i}" for i in range(100)]
        self.start_on_files("fail_at=row-50")
        self.put_file("a", sent)
        self.wait_for_row("row-99")
        self.stop()
        self.assert_exactly_once(sent)
        self.assertEqual(self.raw(), collections.Counter(sent))
        self.assertIn("the task fails at 'row-50'", self.errors())

    def test_a_process_killed_before_the_commit_reads_the_same_files_again(self):
        sent = [f"row-{i}" for i in range(100)]
        self.start_on_files("slow=row-7")
        self.put_file("a", sent)
        self.kill_between_output_and_commit()
        self.start_on_files()
        self.put_file("b", ["last"])
        self.wait_for_row("last")
        self.stop()
        self.assert_exactly_once(sent + ["last"])
        self.assertEqual(self.raw()["row-7"], 2, "an output without ids sees the batch that runs again")


class UnreliableReceiver(Cell):
    """A sender that nobody asks to send again."""

    def source(self):
        return f"socket:{self.sender.port}"

    def test_without_a_log_a_task_that_fails_runs_again(self):
        self.start(self.source(), False, "fail_at=row-5")
        self.sender.accept()
        sent = [f"row-{i}" for i in range(10)]
        self.sender.send(sent)
        self.wait_for_row("row-9")
        self.stop()
        self.assert_exactly_once(sent)

    def test_without_a_log_a_receiver_that_fails_keeps_what_it_stored(self):
        self.start(self.source(), False)
        self.sender.accept()
        self.sender.send(["before"])
        self.sender.accept()  # the connection ends: the receiver starts again
        self.sender.send(["after"])
        self.wait_for_row("after")
        self.stop()
        self.assert_exactly_once(["before", "after"])

    def test_without_a_log_a_process_that_is_killed_loses_what_was_in_memory(self):
        self.start(self.source(), False, "slow=first")
        self.sender.accept()
        self.sender.send(["first"])
        self.wait_until("the slow output", lambda: os.path.exists(self.path("out", "waiting")))
        self.sender.send(["in-memory"])  # received while the batch before it is not done
        self.kill_between_output_and_commit()
        self.start(self.source(), False)
        self.sender.accept()
        self.sender.send(["last"])
        self.wait_for_row("last")
        self.stop()
        self.assertEqual(self.text()["in-memory"], 0, "at most once: this was lost")
        self.assertEqual(self.raw()["in-memory"], 0)
        self.assertEqual({row: n for row, n in self.text().items() if n > 1}, {}, "at most once: nothing twice")

    def test_with_a_log_what_was_logged_survives_a_killed_process_exactly_once(self):
        self.start(self.source(), True, "slow=row-3")
        self.sender.accept()
        logged = [f"row-{i}" for i in range(10)]
        self.sender.send(logged)
        self.kill_between_output_and_commit()
        self.start(self.source(), True)
        self.sender.accept()
        self.sender.send(["last"])
        self.wait_for_row("last")
        self.stop()
        self.assertEqual(self.text()["row-3"], 1, "it was in a batch, so it was in the log")
        self.assertEqual({row: n for row, n in self.text().items() if n > 1}, {})
        self.assertGreaterEqual(self.raw()["row-3"], 2)

    def test_with_a_log_a_task_that_fails_runs_again(self):
        self.start(self.source(), True, "fail_at=row-5")
        self.sender.accept()
        sent = [f"row-{i}" for i in range(10)]
        self.sender.send(sent)
        self.wait_for_row("row-9")
        self.stop()
        self.assert_exactly_once(sent)

    def test_with_a_log_a_receiver_that_fails_keeps_what_it_stored(self):
        self.start(self.source(), True)
        self.sender.accept()
        self.sender.send(["before"])
        self.sender.accept()
        self.sender.send(["after"])
        self.wait_for_row("after")
        self.stop()
        self.assert_exactly_once(["before", "after"])


class ReliableReceiver(Cell):
    """A sender that sends again what was not acknowledged."""

    def source(self):
        return f"reliable:{self.sender.port}"

    def test_without_a_log_a_task_that_fails_runs_again(self):
        self.start(self.source(), False, "fail_at=row-5")
        self.sender.accept()
        sent = [f"row-{i}" for i in range(10)]
        self.sender.send(sent)
        self.assertEqual(self.sender.acknowledged(10), sent)
        self.wait_for_row("row-9")
        self.stop()
        self.assert_exactly_once(sent)

    def test_without_a_log_a_receiver_that_fails_loses_nothing(self):
        sent = [f"row-{i}" for i in range(10)]
        self.start(self.source(), False)
        self.sender.accept()
        self.sender.send(sent[:5])
        done = self.sender.acknowledged(5)
        self.sender.accept()
        self.sender.send([row for row in sent if row not in done])
        self.assertEqual(done + self.sender.acknowledged(10 - len(done)), sent)
        self.wait_for_row("row-9")
        self.stop()
        self.assert_exactly_once(sent)

    def test_without_a_log_a_process_that_is_killed_loses_what_it_acknowledged(self):
        self.start(self.source(), False, "slow=first")
        self.sender.accept()
        self.sender.send(["first"])
        self.wait_until("the slow output", lambda: os.path.exists(self.path("out", "waiting")))
        self.sender.send(["in-memory"])
        self.assertEqual(self.sender.acknowledged(2), ["first", "in-memory"])
        self.kill_between_output_and_commit()
        self.start(self.source(), False)
        self.sender.accept()
        self.sender.send(["last"])
        self.wait_for_row("last")
        self.stop()
        self.assertEqual(self.text()["in-memory"], 0, "acknowledged, and only in memory: lost")

    def test_with_a_log_nothing_acknowledged_is_lost_in_a_killed_process(self):
        sent = [f"row-{i}" for i in range(200)]
        pending = collections.deque(sent)
        rounds = 0
        while pending:
            self.start(self.source(), True)
            self.sender.accept()
            batch = list(pending)[:40]
            self.sender.send(batch)
            killer = threading.Timer(0.05 * (rounds % 4), self.process.kill)
            killer.start()
            for row in self.sender.acknowledged(len(batch)):
                self.assertEqual(row, pending.popleft())
            killer.join()
            self.kill()
            rounds += 1
        self.start(self.source(), True)
        self.sender.accept()
        self.sender.send(["last"])
        self.wait_for_row("last")
        self.stop()
        self.assert_nothing_lost(sent)

    def test_with_a_log_a_row_whose_acknowledgement_was_lost_comes_twice(self):
        self.start(self.source(), True)
        self.sender.accept()
        self.sender.send(["row"])
        self.assertEqual(self.sender.acknowledged(1), ["row"])
        self.kill()  # the sender is told nothing of it, say: it sends the row again
        self.start(self.source(), True)
        self.sender.accept()
        self.sender.send(["row", "last"])
        self.wait_for_row("last")
        self.stop()
        self.assertEqual(self.text()["row"], 2, "at least once: nobody knows that it is the same row")

    def test_with_a_log_a_receiver_that_fails_loses_nothing(self):
        self.start(self.source(), True)
        self.sender.accept()
        self.sender.send(["before"])
        self.assertEqual(self.sender.acknowledged(1), ["before"])
        self.sender.accept()
        self.sender.send(["after"])
        self.assertEqual(self.sender.acknowledged(1), ["after"])
        self.wait_for_row("after")
        self.stop()
        self.assert_exactly_once(["before", "after"])

    def test_with_a_log_a_task_that_fails_runs_again(self):
        self.start(self.source(), True, "fail_at=row-5")
        self.sender.accept()
        sent = [f"row-{i}" for i in range(10)]
        self.sender.send(sent)
        self.assertEqual(self.sender.acknowledged(10), sent)
        self.wait_for_row("row-9")
        self.stop()
        self.assert_exactly_once(sent)


class DirectKafka(Cell):
    """Offset ranges in the checkpoint: exactly once, whatever fails."""

    @classmethod
    def setUpClass(cls):
        why = kafka_broker.missing()
        if why is not None:
            raise unittest.SkipTest(why)
        cls.root = tempfile.mkdtemp(prefix="millrace-guarantees-kafka-")
        cls.broker = kafka_broker.Broker(os.path.join(cls.root, "broker")).start()

    @classmethod
    def tearDownClass(cls):
        cls.broker.kill()
        shutil.rmtree(cls.root, True)

    def source(self):
        self.topic = self.id().rsplit(".", 1)[1].replace("_", "-")[:80]  # pylint: disable=attribute-defined-outside-init
        self.broker.tool("create", self.topic, 2)
        return f"kafka:{self.broker.plain}/{self.topic}"

    def produce(self, rows):
        self.broker.tool("produce", self.topic, 0, lines=rows[::2])
        self.broker.tool("produce", self.topic, 1, lines=rows[1::2])

    def test_a_task_that_fails_reads_its_range_again(self):
        source, sent = self.source(), [f"row-{i}" for i in range(100)]
        self.start(source, True, "fail_at=row-50")
        self.produce(sent)
        self.wait_for_row("row-99")
        self.stop()
        self.assert_exactly_once(sent)

    def test_a_process_killed_before_the_commit_reads_the_same_ranges_again(self):
        source, sent = self.source(), [f"row-{i}" for i in range(100)]
        self.start(source, True, "slow=row-7")
        self.produce(sent)
        self.kill_between_output_and_commit()
        self.start(source, True)
        self.produce(["next", "last"])
        self.wait_for_row("last")
        self.wait_for_row("next")
        self.stop()
        self.assert_exactly_once(sent + ["next", "last"])
        self.assertEqual(self.raw()["row-7"], 2, "an output without ids sees the batch that runs again")


class Queues(Cell):
    def test_a_queue_cannot_be_part_of_a_checkpoint(self):
        self.start("queue:", True)
        self.assertEqual(self.process.wait(timeout=WAIT), 78, self.errors())
        self.process = None
        self.assertIn("queue", self.errors())


if __name__ == "__main__":
    unittest.main()
