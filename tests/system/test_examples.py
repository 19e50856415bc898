"""The programs of examples/ against a real TCP server, killed with SIGKILL in the middle and started again."""
import collections
import glob
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import postgres  # noqa: E402  pylint: disable=wrong-import-position

EXAMPLES = os.path.join(os.environ["MILLRACE_BUILD_DIR"], "examples")
WAIT = 60  # seconds until something counts as hung
RULE = "-------------------------------------------\n"


class Example(unittest.TestCase):
    def setUp(self):
        if not os.path.isdir(EXAMPLES):
            self.skipTest("the examples were not built")
        self.dir = tempfile.mkdtemp(prefix="millrace-examples-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(WAIT)
        self.addCleanup(self.server.close)
        self.port = str(self.server.getsockname()[1])
        self.process = None
        self.addCleanup(self.kill)

    def start(self, name, *args):
        # pylint: disable=consider-using-with
        with open(self.path("stdout"), "a", encoding="utf-8") as out, \
                open(self.path("stderr"), "a", encoding="utf-8") as err:
            self.process = subprocess.Popen([os.path.join(EXAMPLES, name), *args], cwd=self.dir, stdout=out, stderr=err)

    def path(self, name):
        return os.path.join(self.dir, name)

    def text(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        code = self.process.wait(timeout=WAIT)
        self.process = None
        self.assertEqual(code, 0, self.text("stderr"))

    def wait_until(self, what, test):
        deadline = time.monotonic() + WAIT
        while not test():
            self.assertLess(time.monotonic(), deadline, f"waited for {what}; " + self.text("stderr")[-500:])
            if self.process is not None:
                self.assertIsNone(self.process.poll(), self.text("stderr"))
            time.sleep(0.005)

    def batches(self):
        """What was printed: a list of (time, elements). Checks the layout."""
        text = self.text("stdout")
        found = re.findall(RULE + r"Time: (\d+) ms\n" + RULE + r"((?:\([^\n]*\)\n)*)(?:\.\.\.\n)?\n", text)
        return [(int(when), rows.splitlines()) for when, rows in found]

    def printed(self):
        total = collections.Counter()
        for _, rows in self.batches():
            for row in rows:
                word, count = row[1:-1].rsplit(",", 1)
                total[word] += int(count)
        return total


class NetworkWordCount(Example):
    def test_words_of_a_real_server_are_counted_and_printed(self):
        self.start("network_word_count", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"to be or not\nto be\n")
            self.wait_until("the first words", lambda: self.printed()["be"] == 2)
            peer.sendall(b"that is the question\n")
            self.wait_until("more words", lambda: self.printed()["question"] == 1)
            self.stop()
        self.assertEqual(self.printed(), collections.Counter("to be or not to be that is the question".split()))
        times = [when for when, _ in self.batches()]
        self.assertEqual([when % 1000 for when in times], [0] * len(times))
        self.assertEqual(times, sorted(set(times)))

    def test_a_graceful_stop_counts_what_was_received(self):
        self.start("network_word_count", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"x\n" * 1000)
            time.sleep(0.3)  # received, and still waiting for its batch
            self.stop(signal.SIGTERM)
        self.assertEqual(self.printed()["x"], 1000)

    def test_a_server_that_is_away_is_tried_again(self):
        self.server.close()
        self.start("network_word_count", "127.0.0.1", self.port)
        self.wait_until("a refused connection", lambda: "starting again" in self.text("stderr"))
        self.server = socket.create_server(("127.0.0.1", int(self.port)))
        self.server.settimeout(WAIT)
        self.addCleanup(self.server.close)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"late\n")
            self.wait_until("the word", lambda: self.printed()["late"] == 1)
        self.stop()

    def test_wrong_usage(self):
        self.start("network_word_count")
        self.assertEqual(self.process.wait(timeout=WAIT), 64)
        self.process = None


class StatefulNetworkWordCount(Example):
    def begin(self):
        self.start("stateful_network_word_count", "127.0.0.1", self.port, "checkpoint", "out/counts")
        peer, _ = self.server.accept()
        return peer

    def newest_counts(self):
        """Counts of the newest batch that is whole."""
        done = sorted(os.path.dirname(name) for name in glob.glob(self.path("out/counts-*/_SUCCESS")))
        counts = {}
        for name in glob.glob(os.path.join(done[-1], "part-*")) if done else []:
            with open(name, encoding="utf-8") as file:
                for line in file:
                    word, count = line.strip()[1:-1].rsplit(",", 1)
                    counts[word] = int(count)
        return counts

    def is_received(self, marker):
        """In the received-block log: sectors of 512 bytes, of which the first 496 are records."""
        for name in glob.glob(self.path("checkpoint/received/*/*.blk")):
            with open(name, "rb") as file:
                data = file.read()
            if marker in b"".join(data[at:at + 496] for at in range(0, len(data), 512)):
                return True
        return False

    def test_counts_are_exact_however_often_the_program_is_killed(self):
        wanted = collections.Counter()
        for number in range(6):
            with self.begin() as peer:
                for line in range(20):
                    words = [f"round{number}", "word", f"line{line}"]
                    wanted.update(words)
                    peer.sendall((" ".join(words) + "\n").encode())
                marker = f"end-of-round-{number}"
                wanted.update([marker])
                peer.sendall(marker.encode() + b"\n")
                # From the moment they are in the write-ahead log, the lines count.
                self.wait_until("the write-ahead log", lambda m=marker.encode(): self.is_received(m))
                if number % 2 == 1:  # now and then also in the middle of the batch after it
                    self.wait_until("a batch", lambda w=dict(wanted): self.newest_counts() == w)
                self.kill()
        with self.begin() as peer:
            wanted.update(["last"])
            peer.sendall(b"last\n")
            self.wait_until("the last word", lambda: self.newest_counts().get("last") == 1)
            self.stop()
        self.assertEqual(self.newest_counts(), dict(wanted))

    def test_a_second_program_on_the_same_checkpoint_is_refused(self):
        with self.begin():
            other = subprocess.run([os.path.join(EXAMPLES, "stateful_network_word_count"), "127.0.0.1", self.port,
                                    "checkpoint"], cwd=self.dir, capture_output=True, text=True, timeout=WAIT, check=False)
            self.assertEqual(other.returncode, 75, other.stderr)
            self.assertIn("checkpoint", other.stderr)
            self.stop()


class Others(Example):
    def test_queue_stream_ends_by_itself(self):
        self.start("queue_stream")
        self.assertEqual(self.process.wait(timeout=WAIT), 0, self.text("stderr"))
        self.process = None
        batches = self.batches()
        self.assertEqual(len(batches), 5)
        for _, rows in batches:
            self.assertEqual(sorted(rows), [f"({digit},100)" for digit in range(10)])

    def test_foreach_rdd_sees_every_line(self):
        self.start("foreach_rdd", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"short\na longer line\nx\n")
            self.wait_until("the lines", lambda: "longest so far: a longer line" in self.text("stdout"))
            self.stop()
        self.assertEqual(sum(int(n) for n in re.findall(r": (\d+) lines", self.text("stdout"))), 3)

    def test_windowed_word_count_fires_with_its_slide(self):
        self.start("windowed_word_count", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"a b a\n")
            self.wait_until("a window", lambda: self.printed()["a"] >= 2)
            self.stop()
        self.assertEqual(sorted(self.batches()[0][1]), ["(a,2)", "(b,1)"])


class SqlNetworkWordCount(Example):
    def test_each_batch_is_a_table(self):
        self.start("sql_network_word_count", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"to be or not to be\n")
            self.wait_until("the table", lambda: "to 2\n" in self.text("stdout"))
            self.stop()
        self.assertRegex(self.text("stdout"), r"========= \d+ =========\nbe 2\nnot 1\nor 1\nto 2\n")


class MapWithStateWordCount(Example):
    def begin(self):
        self.start("map_with_state_word_count", "127.0.0.1", self.port, "checkpoint")
        peer, _ = self.server.accept()
        return peer

    def test_counts_go_on_after_a_kill_and_only_words_of_the_batch_are_told(self):
        with self.begin() as peer:
            peer.sendall(b"a b\na\n")
            self.wait_until("the first counts", lambda: "(a,2)" in self.text("stdout"))
            self.wait_until("the batch behind it", lambda: self.batches()[-1][1] == [])
            self.kill()
        with self.begin() as peer:
            peer.sendall(b"a\n")
            self.wait_until("the next count", lambda: "(a,3)" in self.text("stdout"))
            self.stop()
        told = [rows for _, rows in self.batches() if rows]
        self.assertEqual(sum(rows.count("(b,1)") for rows in told), 1)
        self.assertIn(["(a,3)"], told)


class RecoverableNetworkWordCount(Example):
    def begin(self):
        self.start("recoverable_network_word_count", "127.0.0.1", self.port, "checkpoint", "counts.txt")
        peer, _ = self.server.accept()
        return peer

    def counts(self):
        """{word: count} of the file, and its newest number of dropped words."""
        if not os.path.exists(self.path("counts.txt")):
            return collections.Counter(), 0
        text = self.text("counts.txt")
        total = collections.Counter()
        for word, count in re.findall(r"\((\w+),(\d+)\)", text):
            total[word] += int(count)
        dropped = re.findall(r"dropped (\d+)\n", text)
        return total, int(dropped[-1]) if dropped else 0

    def test_words_of_the_list_are_left_out_and_counted(self):
        with self.begin() as peer:
            peer.sendall(b"a word b c word\n")
            self.wait_until("the words", lambda: self.counts()[0]["word"] == 2)
            self.stop()
        self.assertEqual(self.counts(), (collections.Counter(word=2), 3))

    def test_a_killed_program_goes_on_without_losing_a_line(self):
        with self.begin() as peer:
            peer.sendall(b"first\n")
            self.wait_until("the first word", lambda: self.counts()[0]["first"] >= 1)
            self.kill()
        with self.begin() as peer:
            peer.sendall(b"second\n")
            self.wait_until("the second word", lambda: self.counts()[0]["second"] == 1)
            self.stop()
        self.assertIn(self.counts()[0]["first"], (1, 2))  # an appended file has no ids: at least once


class PopularHashtags(Example):
    def test_the_most_used_come_first(self):
        self.start("popular_hashtags", "127.0.0.1", self.port, "checkpoint")
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"#c and #streams of #c\nno tag\n#rows #streams #c\n")
            self.wait_until("the tags", lambda: "(#c,3)" in self.text("stdout"))
            self.stop()
        self.assertIn(["(#c,3)", "(#streams,2)", "(#rows,1)"], [rows for _, rows in self.batches()])


class CustomReceiver(Example):
    def test_a_receiver_of_the_program_connects_again_when_its_server_leaves(self):
        self.start("custom_receiver", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"one two\ntwo\n")
            self.wait_until("the words", lambda: self.printed()["two"] == 2)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"three\n")
            self.wait_until("the next word", lambda: self.printed()["three"] == 1)
            self.stop()
        self.assertEqual(self.printed(), collections.Counter(one=1, two=2, three=1))


class PostgresWordCount(Example):
    @classmethod
    def setUpClass(cls):
        why = postgres.missing()
        if why is not None or not os.path.exists(os.path.join(EXAMPLES, "postgres_word_count")):
            raise unittest.SkipTest(why or "the example was built without libpq")
        cls.root = tempfile.mkdtemp(prefix="millrace-examples-pg-")
        cls.database = postgres.Postgres(os.path.join(cls.root, "pg"))
        cls.database.create()
        cls.database.start()
        cls.database.sql("CREATE TABLE counts (word text PRIMARY KEY, n bigint);"
                         "CREATE TABLE done (batch bigint, part int, PRIMARY KEY (batch, part))")

    @classmethod
    def tearDownClass(cls):
        cls.database.stop()
        shutil.rmtree(cls.root, True)

    def begin(self):
        self.start("postgres_word_count", "127.0.0.1", self.port, "checkpoint", self.database.connection)
        peer, _ = self.server.accept()
        return peer

    def counts(self):
        return {word: int(n) for word, n in self.database.sql("SELECT word, n FROM counts")}

    def test_counts_are_exact_though_the_program_and_the_database_are_killed(self):
        wanted = collections.Counter()
        for number in range(4):
            with self.begin() as peer:
                for line in range(30):
                    words = [f"round{number}", "word", f"line{line}"]
                    peer.sendall((" ".join(words) + "\n").encode())
                    wanted.update(words)
                if number == 2:  # the database dies in between, and comes back
                    self.database.kill()
                    self.database.start()
                # What is counted was received; the program dies anywhere behind it.
                self.wait_until("all words of the round", lambda n=number: self.counts().get(f"round{n}") == 30)
                if number < 3:
                    self.kill()
                else:
                    self.stop()
        self.assertEqual(self.counts(), dict(wanted))


class StructuredNetworkWordCount(Example):
    def test_words_are_counted_since_the_beginning(self):
        self.start("structured_network_word_count", "127.0.0.1", self.port)
        peer, _ = self.server.accept()
        with peer:
            peer.sendall(b"to be or not\nto be\n")
            self.wait_until("the first words", lambda: re.search(r"\| *be\| *2\|", self.text("stdout")))
            peer.sendall(b"be it\n")
            self.wait_until("more words", lambda: re.search(r"\| *be\| *3\|", self.text("stdout")))
            self.stop()
        batches = self.text("stdout").split(RULE + "Batch: ")[1:]
        self.assertEqual([int(batch.split("\n")[0]) for batch in batches], list(range(len(batches))))
        self.assertIn("|word|count|\n", batches[-1])

    def test_a_wrong_port_is_told(self):
        self.start("structured_network_word_count", "127.0.0.1", "none")
        self.assertEqual(self.process.wait(timeout=WAIT), 78)
        self.process = None
        self.assertIn("port", self.text("stderr"))


class ForeachBatch(Example):
    def total(self):
        return tuple(map(int, self.text("out/total").split())) if os.path.exists(self.path("out/total")) else (-1, 0)

    def test_two_outputs_have_every_batch_once_whatever_is_killed(self):
        os.makedirs(self.path("in"))
        os.makedirs(self.path("out"))
        for number in range(40):
            with open(self.path(f"in/{number:03}.json"), "w", encoding="utf-8") as file:
                file.write("".join(f'{{"v":{number * 10 + i}}}\n' for i in range(10)))
        for reached in (3, 11, 12, 25):  # each run is killed once the total has that batch
            self.start("foreach_batch", "in", "out", "checkpoint")
            self.wait_until("a batch", lambda reached=reached: self.total()[0] >= reached or self.process.poll() is not None)
            self.kill()
        self.start("foreach_batch", "in", "out", "checkpoint")
        self.assertEqual(self.process.wait(timeout=WAIT), 0, self.text("stderr"))
        self.process = None
        self.assertEqual(self.total(), (39, sum(range(400))))
        rows = []
        for number in range(40):
            for name in glob.glob(self.path(f"out/batch-{number}/part-*")):
                with open(name, encoding="utf-8") as file:
                    rows += [int(line.strip().strip("()")) for line in file]
        self.assertEqual(sorted(rows), list(range(400)))


class Sessionize(Example):
    def run_once(self, clicks, number):
        with open(self.path(f"in/{number}.json"), "w", encoding="utf-8") as file:
            for user, minute in clicks:
                file.write(f'{{"user":"{user}","ts":"2024-01-01 {minute // 60:02}:{minute % 60:02}:00","page":"/"}}\n')
        self.start("sessionize", "in", "out", "checkpoint")
        self.assertEqual(self.process.wait(timeout=WAIT), 0, self.text("stderr"))
        self.process = None
        rows = []
        for name in glob.glob(self.path("out/*.json")):
            with open(name, encoding="utf-8") as file:
                rows += [json.loads(line) for line in file]
        return sorted((row["user"], row["first"][11:16], row["last"][11:16], row["clicks"]) for row in rows)

    def test_visits_end_ten_minutes_after_the_last_click(self):
        os.makedirs(self.path("in"))
        self.assertEqual(self.run_once([("ann", 0), ("bob", 3)], 1), [])
        self.assertEqual(self.run_once([("ann", 8)], 2), [])
        visits = [("bob", "00:03", "00:03", 1)]
        self.assertEqual(self.run_once([("ann", 15)], 3), visits)       # bob was last there at 3
        visits = sorted(visits + [("ann", "00:00", "00:15", 3)])
        self.assertEqual(self.run_once([("bob", 90)], 4), visits)

    def test_its_state_can_be_read(self):
        os.makedirs(self.path("in"))
        self.run_once([("ann", 0), ("bob", 3), ("ann", 8)], 1)
        millrace = os.path.join(os.environ["MILLRACE_BUILD_DIR"], "millrace")
        done = subprocess.run([millrace, "state", "export", self.path("checkpoint"), "visits.groups"],
                              capture_output=True, text=True, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([(row["user"], row["clicks"], row["timeout"][11:16]) for row in sorted(rows, key=lambda r: r["user"])],
                         [("ann", 2, "00:18"), ("bob", 1, "00:13")])


class Lines(unittest.TestCase):
    """The guide's programs in C have at most 1.2 times the lines that they have in Scala."""

    # Lines of code of Spark 3.0.2's own examples, without comments and empty lines.
    SCALA = {"network_word_count": 21, "map_with_state_word_count": 30, "recoverable_network_word_count": 82,
             "sql_network_word_count": 44, "custom_receiver": 60, "queue_stream": 25, "direct_kafka_word_count": 34,
             "structured_network_word_count": 29}

    def test_programs_of_the_guide_are_as_short_in_c(self):
        for name, scala in self.SCALA.items():
            with open(os.path.join(os.environ["MILLRACE_SOURCE_DIR"], "examples", name + ".c"), encoding="utf-8") as file:
                code = re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)
            lines = sum(1 for line in code.splitlines() if line.strip())
            with self.subTest(name):
                self.assertLessEqual(lines, scala * 1.2)


if __name__ == "__main__":
    unittest.main()
