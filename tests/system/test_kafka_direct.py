"""Direct Kafka streams against a real broker: vectors V293 - V311 and what a kill leaves (tests/support/kafka_direct)."""
import glob
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kafka_broker  # noqa: E402  pylint: disable=wrong-import-position

WAIT = 60  # seconds until something counts as hung
STATE = {}


def program():
    return os.path.join(os.environ.get("MILLRACE_BUILD_DIR", ""), "tests/kafka/kafka_direct")


setUpModule, tearDownModule = kafka_broker.for_module(STATE, "kafka-direct", program())


class Running:
    """The program while it runs; its lines are parsed as they come."""

    def __init__(self, directory, arguments):
        # pylint: disable=consider-using-with
        self.errors = open(os.path.join(directory, "stderr"), "w+", encoding="utf-8")
        self.process = subprocess.Popen([program(), *arguments], cwd=directory, text=True,
                                        stdout=subprocess.PIPE, stderr=self.errors)

    def until(self, done):
        """Reads lines until done(all of them so far); the lines."""
        lines = []
        deadline = time.monotonic() + WAIT
        while not done(lines):
            if time.monotonic() > deadline:
                raise AssertionError("hung: " + self.stderr())
            line = self.process.stdout.readline()
            if line == "":
                raise AssertionError("ended: " + self.stderr())
            lines.append(json.loads(line))
        return lines

    def stderr(self):
        self.errors.flush()
        self.errors.seek(0)
        return self.errors.read()

    def end(self, how=signal.SIGINT):
        """Stops it; the lines that were left."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        # Not communicate(): it would not see what until() has read ahead, and begin within a line.
        hung = threading.Timer(WAIT, self.process.kill)
        hung.start()
        out = self.process.stdout.read()
        self.process.wait()
        hung.cancel()
        if how == signal.SIGINT and self.process.returncode != 0:
            raise AssertionError(f"exit code {self.process.returncode}: {self.stderr()}")
        return [json.loads(line) for line in out.splitlines() if line.endswith("}")]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def records(lines):
    """All records of the batches, in order."""
    return [record for line in lines for partition in line.get("partitions", []) for record in partition]


def values(lines):
    return [record.rsplit("=", 1)[1] for record in records(lines)]


class Direct(unittest.TestCase):
    def setUp(self):
        self.broker = STATE["broker"]
        self.topic = self.id().rsplit(".", 1)[1].replace("_", "-")[:80]
        self.dir = tempfile.mkdtemp(dir=STATE["dir"])
        self.addCleanup(shutil.rmtree, self.dir, True)

    # --- helpers ----------------------------------------------------------------------------------

    def create(self, partitions=1, *config, topic=None):
        self.broker.tool("create", topic or self.topic, partitions, *config)

    def produce(self, partition, lines, topic=None, how=None, **more):
        topic = topic or self.topic
        action = ["produce", topic, partition] if how is None else ["transact", topic, partition, how]
        return self.broker.tool(*action, lines=lines, **more)

    def start(self, **arguments):
        given = {"brokers": self.broker.plain}
        if not {"topics", "pattern", "assign"} & set(arguments):
            given["topics"] = self.topic
        given.update({key.replace("__", "."): value for key, value in arguments.items()})
        running = Running(self.dir, [f"{key}={value}" for key, value in given.items()])
        self.addCleanup(running.close)
        return running

    def run_all(self, count, **arguments):
        """Runs until that many records came, then stops: the lines."""
        running = self.start(**arguments)
        lines = running.until(lambda lines: len(records(lines)) >= count)
        return lines + running.end()

    def refused(self, text, **arguments):
        running = self.start(**arguments)
        running.end(signal.SIGCONT)
        self.assertNotEqual(running.process.returncode, 0)
        self.assertIn(text, running.stderr())

    # --- where it begins, what it reads ---------------------------------------------------------

    def test_V293_three_topics_are_read_from_the_earliest_or_a_given_offset(self):
        topics = [f"{self.topic}-{i}" for i in range(3)]
        for topic in topics:
            self.create(1, topic=topic)
            self.produce(0, [f"{i}" for i in range(16)], topic=topic)
        lines = self.run_all(46, topics=",".join(topics), offsets=f"{topics[2]}/0:2", reset="earliest")
        self.assertEqual(len(records(lines)), 46)
        for line in lines:
            if line.get("partitions"):
                self.assertEqual([until - since for _, _, since, until in line["ranges"]],
                                 [len(partition) for partition in line["partitions"]])
        self.assertEqual(values(lines)[:16], [str(i) for i in range(16)])

    def test_partitions_are_the_ranges_in_order_also_empty_ones(self):
        self.create(3)
        self.produce(0, ["a", "b"])
        self.produce(2, ["c"])
        lines = self.run_all(3, reset="earliest")
        first = [line for line in lines if line.get("partitions")][0]
        self.assertEqual(first["ranges"], [[self.topic, 0, 0, 2], [self.topic, 1, 0, 0], [self.topic, 2, 0, 1]])
        self.assertEqual(first["partitions"],
                         [[f"{self.topic}/0/0:null=a", f"{self.topic}/0/1:null=b"], [], [f"{self.topic}/2/0:null=c"]])

    def test_V295_latest_reads_only_what_comes_after_the_start(self):
        self.create()
        self.produce(0, ["a"] * 10)
        running = self.start(reset="latest")
        running.until(lambda lines: len(lines) >= 1)  # a batch ran: it has begun at the end
        self.produce(0, ["b"] * 10)
        lines = running.until(lambda lines: len(records(lines)) >= 10)
        lines += running.end()
        self.assertEqual(values(lines), ["b"] * 10)

    def test_V296_assign_begins_at_the_given_offset_without_a_reset(self):
        self.create()
        self.produce(0, ["a"] * 11 + ["b"] * 10)
        lines = self.run_all(10, assign=f"{self.topic}/0", offsets=f"{self.topic}/0:11", reset="none")
        self.assertEqual(values(lines), ["b"] * 10)
        self.assertEqual([line for line in lines if line.get("partitions")][0]["ranges"][0], [self.topic, 0, 11, 21])

    def test_without_offsets_group_and_reset_it_says_so(self):
        self.create()
        self.refused("where to begin", reset="none")

    def test_a_group_without_commits_and_without_reset_says_so(self):
        self.create()
        self.refused("has committed no offset", reset="none", group="nobody")

    def test_topics_by_pattern(self):
        for name in ("x1", "x2", "y"):
            self.create(1, topic=f"{self.topic}-{name}")
            self.produce(0, [name], topic=f"{self.topic}-{name}")
        lines = self.run_all(2, pattern=f"{self.topic}-x.", reset="earliest")
        self.assertEqual(sorted(values(lines)), ["x1", "x2"])

    def test_keys_values_headers_and_nulls(self):
        self.create()
        self.produce(0, ["k\tv", "k\t"], headers="h1=one;h2")
        self.produce(0, ["plain"])
        lines = self.run_all(3, reset="earliest")
        self.assertEqual([record.split(":", 1)[1] for record in records(lines)],
                         ["k=v [{key: h1, value: \\x6f6e65}, {key: h2, value: null}]",
                          "k=null [{key: h1, value: \\x6f6e65}, {key: h2, value: null}]", "null=plain"])

    def test_new_partitions_of_a_subscribed_topic_are_picked_up(self):
        self.create()
        self.produce(0, ["a"])
        running = self.start(reset="latest")
        running.until(lambda lines: len(lines) >= 1)
        self.broker.tool("grow", self.topic, 2)
        self.produce(1, ["b", "c"])
        lines = running.until(lambda lines: len(records(lines)) >= 2)
        self.assertEqual(values(lines + running.end()), ["b", "c"])

    def test_a_partition_that_disappears_is_an_error(self):
        self.create()
        self.produce(0, ["a"])
        running = self.start(reset="earliest")
        running.until(lambda lines: len(records(lines)) >= 1)
        self.broker.tool("delete", self.topic)
        running.process.wait(timeout=WAIT)
        self.assertEqual(running.process.returncode, 65, running.stderr())
        self.assertIn("deleted", running.stderr())

    # --- rates ------------------------------------------------------------------------------------

    def test_each_partition_has_at_most_its_rate(self):
        self.create(2)
        for partition in range(2):
            self.produce(partition, [str(i) for i in range(100)])
        running = self.start(reset="earliest", interval=200, option__max_rate_per_partition=50,
                             rates=f"{self.topic}/1:100")
        lines = running.until(lambda lines: len(records(lines)) >= 90)
        running.end()
        for line in lines:
            for _, partition, since, until in line["ranges"]:
                self.assertLessEqual(until - since, (10, 20)[partition])
        self.assertEqual([until - since for _, _, since, until in lines[0]["ranges"]], [10, 20])

    def test_the_first_rate_of_backpressure_limits_the_first_batch(self):
        self.create(2)
        for partition in range(2):
            self.produce(partition, [str(i) for i in range(100)])
        running = self.start(reset="earliest", interval=200, set__backpressure="true",
                             set__backpressure_initial_rate=100)
        lines = running.until(lambda lines: len(records(lines)) >= 200)
        running.end()
        self.assertEqual([until - since for _, _, since, until in lines[0]["ranges"]], [10, 10])

    # --- commits ----------------------------------------------------------------------------------

    def test_V298_committed_offsets_are_where_a_new_program_begins(self):
        self.create(2)
        self.produce(0, ["a"] * 10)
        self.produce(1, ["a"] * 5)
        running = self.start(reset="earliest", group=self.topic, commit=1)
        running.until(lambda lines: any(line.get("committed", [0, 0, 0])[2] == 10 for line in lines))
        running.end()
        committed = dict(map(int, line.split()) for line in
                         self.broker.tool("committed", self.topic, self.topic).splitlines())
        self.assertEqual(committed, {0: 10, 1: 5})
        self.produce(0, ["b"] * 3)
        lines = self.run_all(3, reset="earliest", group=self.topic)
        self.assertEqual(values(lines), ["b"] * 3)

    def test_what_is_enqueued_at_the_stop_is_committed_too(self):
        self.create()
        self.produce(0, ["a"] * 7)
        running = self.start(reset="earliest", group=self.topic, commit=1, interval=1000)
        running.until(lambda lines: len(records(lines)) >= 7)
        running.end()
        self.assertEqual(self.broker.tool("committed", self.topic, self.topic).split(), ["0", "7"])

    # --- listeners --------------------------------------------------------------------------------

    def test_V299_listeners_count_every_record_once(self):
        self.create(2)
        self.produce(0, [str(i) for i in range(10)])
        self.produce(1, [str(i) for i in range(6)])
        running = self.start(reset="earliest")
        running.until(lambda lines: len(records(lines)) >= 16)
        self.assertEqual(running.end()[-1], {"submitted": 16, "started": 16, "completed": 16})
        self.assertIn(f"description: topic: {self.topic}\tpartition: 0\toffsets: 0 to 10\tcount: 10\n"
                      f"topic: {self.topic}\tpartition: 1\toffsets: 0 to 6\tcount: 6\n", running.stderr())

    # --- datasets ---------------------------------------------------------------------------------

    def test_V307_the_dataset_of_a_batch_is_its_range(self):
        self.create()
        self.produce(0, ["the", "quick", "brown", "fox"])
        for take, taken in ((1, 1), (14, 4)):
            line = [line for line in self.run_all(4, reset="earliest", take=take) if line.get("partitions")][0]
            self.assertEqual(line["ranges"], [[self.topic, 0, 0, 4]])
            self.assertEqual((line["count"], line["taken"], line["first"]), (4, taken, f"{self.topic}/0/0:null=the"))

    def test_V307_a_range_that_the_log_does_not_have_is_a_failure(self):
        self.create()
        self.produce(0, ["the", "quick", "brown", "fox"])
        self.refused("past the end", offsets=f"{self.topic}/0:5")

    def compacted(self):
        """Seven records of the vector, compacted except for the newest segment."""
        self.create(1, "cleanup.policy=compact", "segment.ms=200", "min.cleanable.dirty.ratio=0.01",
                    "segment.bytes=1048576", "delete.retention.ms=100")
        self.produce(0, ["a\t1", "a\t2", "b\t1", "c\t1", "c\t2", "b\t2", "b\t3"])
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            self.produce(0, ["roll\tx"])
            left = self.broker.tool("dump", self.topic).splitlines()
            if len([line for line in left if int(line.split()[1]) < 7]) == 3:
                return
        raise AssertionError("the broker did not compact")

    def test_V308_gaps_of_compaction_are_no_records_and_no_loss(self):
        self.compacted()
        running = self.start(assign=f"{self.topic}/0", offsets=f"{self.topic}/0:0", reset="none", take=1,
                             rates=f"{self.topic}/0:70")
        line = running.until(lambda lines: len(lines) >= 1)[0]
        running.end()
        self.assertEqual(line["ranges"], [[self.topic, 0, 0, 7]])
        self.assertEqual([record.split(":")[1] for record in records([line])], ["a=2", "c=2", "b=3"])
        self.assertEqual((line["count"], line["taken"]), (3, 1))
        self.assertTrue(line["first"].endswith("a=2"))

    def test_aborted_transactions_are_no_records(self):
        self.create()
        self.produce(0, ["a", "b"], how="commit")
        self.produce(0, ["lost"], how="abort")
        self.produce(0, ["c"], how="commit")
        self.assertEqual(values(self.run_all(3, reset="earliest")), ["a", "b", "c"])

    # --- the example ------------------------------------------------------------------------------

    def test_the_example_counts_words_and_commits(self):
        example = os.path.join(os.environ.get("MILLRACE_BUILD_DIR", ""), "examples", "direct_kafka_word_count")
        if not os.access(example, os.X_OK):
            self.skipTest("the examples were not built")
        self.create()
        with open(os.path.join(self.dir, "out"), "w+", encoding="utf-8") as out:
            with subprocess.Popen([example, self.broker.plain, self.topic, self.topic], stdout=out, stderr=out) as process:
                self.addCleanup(process.kill)
                self.wait_for(out, "Time: ")  # it has begun, at the end of the topic
                self.produce(0, ["to be or", "not to be"])
                text = self.wait_for(out, "(not,1)")
                process.send_signal(signal.SIGINT)
                self.assertEqual(process.wait(WAIT), 0)
        for line in ("(to,2)", "(be,2)", "(or,1)"):
            self.assertIn(line, text)
        self.assertEqual(self.broker.tool("committed", self.topic, self.topic).split(), ["0", "2"])

    def wait_for(self, file, text):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            file.seek(0)
            found = file.read()
            if text in found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"no '{text}' in: {found}")

    # --- failures ---------------------------------------------------------------------------------

    def test_a_program_that_is_killed_again_and_again_writes_every_record_once(self):
        self.create(3)
        os.mkdir(os.path.join(self.dir, "out"))
        expected = []
        seen = random.Random(7)
        given = {"reset": "earliest", "checkpoint": "cp", "out": "out", "interval": 50,
                 "option__max_rate_per_partition": 400}
        for turn in range(6):
            for partition in range(3):
                lines = [f"{turn}-{partition}-{i}" for i in range(60)]
                expected += lines
                self.produce(partition, lines)
            running = self.start(**given)
            want = seen.randrange(1, 6)
            running.until(lambda lines, want=want: len(lines) >= want)
            running.end(signal.SIGKILL)
            running.close()
        running = self.start(**given)
        deadline = time.monotonic() + WAIT
        while len(self.written()) < len(expected) and time.monotonic() < deadline:
            running.until(lambda lines: len(lines) >= 1)
        running.end()
        self.assertEqual(sorted(self.written()), sorted(expected))

    def written(self):
        """The values in the files of all batches."""
        found = []
        for name in sorted(glob.glob(os.path.join(self.dir, "out", "[0-9]" * 6))):
            with open(name, encoding="utf-8") as file:
                found += [record.rsplit("=", 1)[1] for partition in json.load(file) for record in partition]
        return found


if __name__ == "__main__":
    unittest.main()
