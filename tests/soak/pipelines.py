"""The pipelines of the soak run: what they read, what feeds them, what must come out.

A pipeline is fed by feed(), a few times a second, from one thread; while its program is killed and started again from another. The
oracle grows with the input: it is made without the program, and compared as a multiset when all has been read.
"""
import collections
import contextlib
import functools
import json
import os
import random
import socket
import subprocess
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import kafka_broker  # noqa: E402  pylint: disable=wrong-import-position

JITTER_S = 3       # rows come this much out of order
DELAY_S = 10       # and the watermark waits this long, so that none is ever late


def stamp(second):
    """An event time; hours go on counting through the days of 2024."""
    day, rest = divmod(int(second), 86400)
    return f"2024-{1 + day // 28:02d}-{1 + day % 28:02d} {rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"


@functools.cache
def sandbox(build):
    """["--sandbox"] where the kernel has one: the soak run is inside."""
    done = subprocess.run([build / "millrace", "run", "--sandbox", "-e", "SELECT a FROM stdin"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    return [] if "cannot enter the sandbox" in done.stderr else ["--sandbox"]


def visible(out):
    """The files that a reader of the directory sees."""
    return sorted(path for path in out.rglob("*") if path.is_file()
                  and not any(part.startswith((".", "_")) for part in path.relative_to(out).parts))


class Pipeline:
    """One program in a directory of its own, with its input and oracle."""

    name = ""
    killed = True          # False: it lives through, and its memory is watched
    gap_s = 0.1            # between two calls of feed
    drains = True          # drain_command ends by itself when the input is read

    def __init__(self, work, seed):
        self.work = work
        self.random = random.Random(f"{seed}/{self.name}")
        self.fed = 0
        self.want = collections.Counter()

    def missing(self, build):
        """Why it cannot run here, or None."""
        return None if (build / "millrace").exists() else "millrace is not built"

    def prepare(self):
        """The first input and what else the program needs."""

    def feed(self):
        """More input; also counts what it must become."""

    def finish(self):
        """The last input."""

    def command(self, build):
        return [build / "millrace", "run", *sandbox(build), "--progress", "json", self.work / "q.sql"]

    def drain_command(self, build):
        return [build / "millrace", "run", *sandbox(build), "--until-caught-up", self.work / "q.sql"]

    def drained(self):
        """For programs that do not end by themselves: is everything out?"""
        return True

    def expected(self):
        return self.want

    def actual(self):
        found = collections.Counter()
        for path in visible(self.work / "out"):
            for line in path.read_text().splitlines():
                found[self.row(json.loads(line))] += 1
        return found

    def row(self, document):
        raise NotImplementedError

    def complaints(self):
        """What is wrong besides the rows."""
        return [f"stray file '{path.relative_to(self.work)}'" for path in sorted(self.work.rglob("*"))
                if path.name.endswith(".tmp") or path.name.startswith(".tmp-")]

    def close(self):
        """Stops what the pipeline started itself."""

    def put(self, folder, name, rows):
        """A whole file at once, as a careful producer does it."""
        hidden = self.work / folder / f".{name}"
        hidden.write_text("".join(json.dumps(row) + "\n" for row in rows))
        hidden.rename(self.work / folder / name)


class Windows(Pipeline):
    """Files, counted by window and key, to files; the input is deleted when it has been read. Names of files are remembered for
    ten minutes: without max_file_age they are for ever, 155 bytes each."""

    name = "windows"
    rows_each = 40

    def prepare(self):
        (self.work / "in").mkdir()
        (self.work / "q.sql").write_text(f"""
SET checkpoint = '{self.work}/ckpt';
CREATE TABLE visits (city TEXT, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '{DELAY_S} seconds')
  WITH (connector = 'file', path = '{self.work}/in', format = 'json', clean_source = 'delete', max_file_age = '10 minutes');
CREATE TABLE per_city (s TIMESTAMP, city TEXT, n BIGINT, v BIGINT)
  WITH (connector = 'file', path = '{self.work}/out', format = 'json');
INSERT INTO per_city SELECT window_start, city, count(*), sum(v)::BIGINT FROM visits GROUP BY window(ts, '20 seconds'), city;
""")
        self.sums = collections.defaultdict(lambda: [0, 0])

    def feed(self):
        rows = []
        for _ in range(self.rows_each):
            second = self.fed + DELAY_S - self.random.randint(0, JITTER_S)
            rows.append({"city": f"city{self.random.randrange(50)}", "v": self.random.randrange(1000), "ts": stamp(second)})
            one = self.sums[stamp(second // 20 * 20), rows[-1]["city"]]
            one[0] += 1
            one[1] += rows[-1]["v"]
        self.put("in", f"{self.fed:08d}.json", rows)
        self.fed += 1

    def finish(self):
        self.put("in", "end.json", [{"city": "end", "v": 0, "ts": "2025-06-01 00:00:00"}])

    def expected(self):
        return collections.Counter({(*key, *values): 1 for key, values in self.sums.items()})

    def row(self, document):
        return str(document["s"])[:19].replace("T", " "), document["city"], document["n"], document["v"]


class Steady(Windows):
    """The same, left alone for all the time: its memory, descriptors, threads are looked at."""

    name = "steady"
    killed = False


class Joined(Pipeline):
    """A full outer join of two streams by key and time; what has no partner leaves with the watermark."""

    name = "joined"
    rows_each = 10
    bound = 5

    def prepare(self):
        tables = ""
        for side in ("l", "r"):
            (self.work / side).mkdir()
            tables += f"""
CREATE TABLE {side} (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '{DELAY_S} seconds')
  WITH (connector = 'file', path = '{self.work}/{side}', format = 'json', clean_source = 'delete');
"""
        (self.work / "q.sql").write_text(f"""
SET checkpoint = '{self.work}/ckpt';
{tables}
CREATE TABLE pairs (l BIGINT, r BIGINT) WITH (connector = 'file', path = '{self.work}/out', format = 'json');
INSERT INTO pairs SELECT l.id, r.id FROM l FULL JOIN r
  ON l.k = r.k AND l.ts BETWEEN r.ts - INTERVAL '{self.bound} seconds' AND r.ts + INTERVAL '{self.bound} seconds';
""")
        self.sides = {"l": collections.defaultdict(list), "r": collections.defaultdict(list)}

    def feed(self):
        for side, number in (("l", 1), ("r", 2)):
            rows = []
            for i in range(self.rows_each):
                second = self.fed + DELAY_S - self.random.randint(0, JITTER_S)
                key = self.random.randrange(30)
                one = (self.fed * self.rows_each + i) * 10 + number
                rows.append({"id": one, "k": key, "ts": stamp(second)})
                self.sides[side][key].append((second, one))
            self.put(side, f"{self.fed:08d}.json", rows)
        self.fed += 1

    def finish(self):
        for side, key in (("l", -1), ("r", -2)):
            self.put(side, "end.json", [{"id": key, "k": key, "ts": "2025-06-01 00:00:00"}])

    def expected(self):
        want = collections.Counter()
        for key, left in self.sides["l"].items():
            by_second = collections.defaultdict(list)
            for second, one in self.sides["r"][key]:
                by_second[second].append(one)
            matched = set()
            for second, one in left:
                partners = [other for at in range(second - self.bound, second + self.bound + 1) for other in by_second[at]]
                want.update((one, other) for other in partners)
                matched.update(partners)
                if not partners:
                    want[one, None] += 1
            want.update((None, other) for others in by_second.values() for other in others if other not in matched)
        return want

    def row(self, document):
        return document.get("l"), document.get("r")

    def actual(self):
        found = super().actual()
        for row in list(found):  # the last rows may still wait for a watermark that nothing moves
            if row in ((-1, None), (None, -2)):
                del found[row]
        return found


class Dedup(Pipeline):
    """Every id comes up to three times within two seconds and passes once."""

    name = "dedup"

    def prepare(self):
        (self.work / "in").mkdir()
        (self.work / "q.sql").write_text(f"""
SET checkpoint = '{self.work}/ckpt';
SET retain_batches = 3;
CREATE TABLE events (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '{DELAY_S} seconds')
  WITH (connector = 'file', path = '{self.work}/in', format = 'json', clean_source = 'delete');
CREATE TABLE firsts (id BIGINT) WITH (connector = 'file', path = '{self.work}/out', format = 'json');
INSERT INTO firsts SELECT id FROM drop_duplicates_within_watermark(TABLE events, DESCRIPTOR(id));
""")
        self.recent = []

    def feed(self):
        fresh = [self.fed * 20 + i for i in range(20)]
        again = self.random.sample(self.recent, min(20, len(self.recent)))
        self.put("in", f"{self.fed:08d}.json", [{"id": one, "ts": stamp(self.fed + DELAY_S)} for one in fresh + again])
        self.want.update((one,) for one in fresh)
        self.recent = (self.recent + fresh)[-40:]
        self.fed += 1

    def row(self, document):
        return (document["id"],)


class Slow(Pipeline):
    """A program of the C API whose output takes its time."""

    name = "slow-output"
    slow_ms = 700

    def missing(self, build):
        return None if (build / "tests/soak/soak_slow").exists() else "soak_slow is not built"

    def prepare(self):
        (self.work / "in").mkdir()
        (self.work / "out").mkdir()

    def feed(self):
        self.put("in", f"{self.fed:08d}.json", [{"id": self.fed * 10 + i} for i in range(10)])
        self.want.update((self.fed * 10 + i,) for i in range(10))
        self.fed += 1

    def arguments(self, slow_ms):
        return [self.work / "in", self.work / "out", self.work / "ckpt", str(slow_ms)]

    def command(self, build):
        return [build / "tests/soak/soak_slow", *self.arguments(self.slow_ms)]

    def drain_command(self, build):
        return [build / "tests/soak/soak_slow", *self.arguments(0), "drain"]

    def actual(self):
        found = collections.Counter()
        for path in visible(self.work / "out"):
            for line in path.read_text().splitlines():
                found[(int(line.strip("()")),)] += 1
        return found


class Receiver(Pipeline):
    """A receiver that acknowledges what it stored. The sender sends again what was not acknowledged,
    so a line may come out as often as it was sent, and at least once."""

    name = "reliable-receiver"
    drains = False

    def missing(self, build):
        return None if (build / "tests/guarantee/guarantee").exists() else "the program guarantee is not built"

    def prepare(self):
        (self.work / "out").mkdir()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sent = collections.Counter()
        self.acknowledged = set()
        self.waiting = collections.deque()
        self.more = threading.Condition()
        self.over = False
        threading.Thread(target=self.serve, daemon=True).start()

    def feed(self):
        with self.more:
            if len(self.waiting) < 200:  # the sender waits while the program is down
                self.waiting.extend(f"line{self.fed * 5 + i}" for i in range(5))
                self.fed += 1
            self.more.notify()

    def serve(self):
        while not self.over:
            with contextlib.suppress(OSError):
                connection, _ = self.listener.accept()
                connection.settimeout(20)
                with connection:
                    self.talk(connection)

    def talk(self, connection):
        answers = connection.makefile("r")
        while not self.over:
            with self.more:
                self.more.wait_for(lambda: self.waiting or self.over)
                if self.over:
                    return
                line = self.waiting[0]
            self.sent[line] += 1
            connection.sendall(line.encode() + b"\n")
            if answers.readline() != f"ack {line}\n":
                return  # sent again on the next connection
            with self.more:
                self.waiting.popleft()
                self.acknowledged.add(line)

    def command(self, build):
        return [build / "tests/guarantee/guarantee", f"reliable:{self.port}", self.work / "ckpt", self.work / "out"]

    drain_command = command

    def actual(self):
        found = collections.Counter()
        for batch in (self.work / "out").glob("text-*"):
            for part in batch.glob("part-*"):
                found.update(part.read_text().splitlines())
        return found

    def drained(self):
        with self.more:
            if self.waiting:
                return False
        return self.acknowledged <= set(self.actual())

    def expected(self):
        """What was sent once came once; of the others, what came within what was sent."""
        have = self.actual()
        return collections.Counter({line: min(max(have[line], 1), times) for line, times in self.sent.items()
                                    if line in self.acknowledged or have[line]})

    def close(self):
        with self.more:
            self.over = True
            self.more.notify_all()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


class Kafka(Pipeline):
    """A topic of a real broker, which gets more partitions and is killed itself now and then, to files.

    A stop waits for the batch, hence for a broker that is down: as long as poll_timeout says."""

    name = "kafka"
    gap_s = 0.5
    partitions_max = 12

    def missing(self, build):
        os.environ.setdefault("MILLRACE_BUILD_DIR", str(build))
        return super().missing(build) or kafka_broker.missing()

    def prepare(self):
        self.broker = kafka_broker.Broker(str(self.work / "broker")).start()
        self.partitions = 2
        self.broker.tool("create", "words", self.partitions)
        (self.work / "q.sql").write_text(f"""
SET checkpoint = '{self.work}/ckpt';
CREATE TABLE words (id BIGINT) WITH (connector = 'kafka', brokers = '{self.broker.plain}', topic = 'words',
  format = 'json', start = 'earliest', maxOffsetsPerTrigger = 200, poll_timeout = '10 s');
CREATE TABLE ids (id BIGINT) WITH (connector = 'file', path = '{self.work}/out', format = 'json');
INSERT INTO ids SELECT id FROM words;
""")

    def feed(self):
        chance = self.random.random()
        if chance < 0.004:
            self.broker.kill()
            self.broker.start()
        elif chance < 0.02 and self.partitions < self.partitions_max:
            self.partitions += 1
            self.broker.tool("grow", "words", self.partitions)
        ids = [self.fed * 20 + i for i in range(20)]
        lines = [json.dumps({"id": one}) for one in ids]
        self.broker.tool("produce", "words", self.random.randrange(self.partitions), lines=lines)
        self.want.update((one,) for one in ids)
        self.fed += 1

    def row(self, document):
        return (document["id"],)

    def close(self):
        self.broker.kill()


PIPELINES = [Windows, Steady, Joined, Dedup, Slow, Receiver, Kafka]
