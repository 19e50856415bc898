"""DStream programs of every kind of state, receiver and output under kills (streams.c).

The lines that a batch saved say what its input was; every result is worked out from them here, batch by batch: sums with
timeouts, windows, rows of a database. What had to be in the lines is what was in the received-block log at a kill (a sender that
sends once), or what was acknowledged (one that sends again).
"""

import collections
import contextlib
import os
import re
import socket
import sys

from _base import Scenario, stray_files
from dstream import GAP_S, LINES, Feeder, durable_lines

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "system"))
import postgres  # noqa: E402  pylint: disable=wrong-import-position

INTERVAL_MS = 30
WINDOW_MS = 90
TIMEOUT_MS = 90


def rows_of(directory):
    """(key, number) of the lines or pairs that a batch saved, in order."""
    text = "".join(part.read_text() for part in sorted(directory.glob("part-*")))
    return [(key, int(number)) for key, number in re.findall(r"(\w+)[ ,](-?\d+)", text)]


class Streams(Scenario):
    mode = ""
    timeout_s = 30

    def __init__(self, tools):
        super().__init__(tools)
        self.program = tools.build and tools.build / "tests/crash/crash_streams"
        self.feeders = {}
        self.durable = {}

    def missing(self):
        built = self.program and self.program.exists()
        return None if built else "crash_streams is not built"

    def feeders_of_a_case(self):
        return [Feeder()]

    @contextlib.contextmanager
    def surroundings(self, work):
        self.feeders[work] = self.feeders_of_a_case()
        self.durable[work] = set()
        try:
            yield
        finally:
            for feeder in self.feeders.pop(work):
                feeder.stop()
            self.durable.pop(work)

    def prepare(self, work):
        (work / "out").mkdir()

    def more_arguments(self, work):
        return [str(feeder.port) for feeder in self.feeders[work][1:]]

    def command(self, work):
        return [str(self.program), self.mode, str(self.feeders[work][0].port), str(work / "ckpt"), str(work / "out"),
                *self.more_arguments(work)]

    def after_run(self, work):
        self.durable[work] |= durable_lines(work / "ckpt" / "received")

    def batches(self, work, name):
        """{batch time: directory} of one output, in the order of times."""
        found = {int(path.name.rpartition("-")[2]): path for path in (work / "out").glob(f"{name}-*")}
        return dict(sorted(found.items()))

    def actual(self, work):
        return collections.Counter(line for batch in self.batches(work, "lines").values()
                                   for part in sorted(batch.glob("part-*"))
                                   for line in part.read_text().splitlines())

    def expected(self, work):
        seen = set(self.actual(work)) & set(LINES)
        return collections.Counter(self.durable[work] | seen)

    def results(self, work):
        """{output: {batch time: rows}} as they have to be, from the lines of the batches."""
        return {}

    def check(self, work):
        found = stray_files(work)
        for name, wanted in self.results(work).items():
            have = {time: sorted(rows_of(path)) for time, path in self.batches(work, name).items()}
            for time in sorted(set(wanted) | set(have)):
                if have.get(time) != sorted(wanted.get(time, [])):
                    found.append(f"{name}-{time} is {have.get(time)}, the lines give {wanted.get(time)}")
        for name in ("lines", "results", "snapshots"):
            found += [f"'{path.name}' is unfinished" for path in self.batches(work, name).values()
                      if not (path / "_SUCCESS").exists()]
        times = list(self.batches(work, "lines"))
        found += [f"no batch {a + INTERVAL_MS}" for a, b in zip(times, times[1:]) if b - a != INTERVAL_MS]
        return found


class MapWithState(Streams):
    """A key that did not come for 90 ms is told as -1 and forgotten; looked for in every batch."""
    name = "dstream-map-with-state"
    mode = "state"

    def results(self, work):
        state, touched = {}, {}
        mapped, snapshots = {}, {}
        for time, path in self.batches(work, "lines").items():
            out = []
            for key, number in rows_of(path):
                state[key] = state.get(key, 0) + number
                touched[key] = time
                out.append((key, state[key]))
            for key in [key for key in state if touched[key] < time - TIMEOUT_MS]:
                out.append((key, -1))
                del state[key], touched[key]
            mapped[time], snapshots[time] = out, list(state.items())
        return {"results": mapped, "snapshots": snapshots}


class InverseWindow(Streams):
    """What came in the last 90 ms, kept by adding what is new and taking out what left."""
    name = "dstream-inverse-window"
    mode = "window"

    def results(self, work):
        lines = {time: rows_of(path) for time, path in self.batches(work, "lines").items()}
        wanted = {}
        for time in lines:
            sums = collections.Counter()
            for back in range(0, WINDOW_MS, INTERVAL_MS):
                for key, number in lines.get(time - back, []):
                    sums[key] += number
            wanted[time] = list(sums.items())
        return {"results": wanted}


class Union(Streams):
    """Two receivers with a log each."""
    name = "dstream-two-receivers"
    mode = "union"

    def feeders_of_a_case(self):
        return [Feeder(LINES[::2]), Feeder(LINES[1::2])]


class AcknowledgedFeeder(Feeder):
    """Sends one line at a time and waits for its acknowledgement; without one it sends it again."""

    def __init__(self):
        self.acknowledged = set()
        super().__init__()

    def talk(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(10)
        while not self.stopped.wait(GAP_S):
            line = self.lines[self.sent] if self.sent < len(self.lines) else "end"
            connection.sendall(line.encode() + b"\n")
            if connection.recv(256).decode() != f"ack {line}\n":
                return
            self.acknowledged.add(line)
            self.sent += 1


class Reliable(Streams):
    """What was acknowledged is never lost; a line whose acknowledgement was lost may come twice: at least once."""
    name = "dstream-reliable-receiver"
    mode = "reliable"
    net = True

    def feeders_of_a_case(self):
        return [AcknowledgedFeeder()]

    def after_run(self, work):
        pass

    def actual(self, work):
        """Each line once: how often a line may come twice is for check to say."""
        return collections.Counter(set(super().actual(work)))

    def expected(self, work):
        return collections.Counter(self.feeders[work][0].acknowledged - {"end"} | set(LINES))

    def check(self, work):
        rows = super().actual(work)
        kills = 2  # a case kills at most twice, and each can lose one acknowledgement
        doubled = sum(rows.values()) - len(rows)
        return super().check(work) + ([f"{doubled} lines twice after at most {kills} kills"] if doubled > kills else [])


class Postgres(Streams):
    """foreachPartition into transactions that hold the id (batch, partition): exactly once."""
    name = "dstream-postgres"
    mode = "postgres"
    net = True

    def __init__(self, tools):
        super().__init__(tools)
        self.server = None
        self.schemas = {}

    def missing(self):
        return super().missing() or postgres.missing()

    def once(self, root):
        self.server = postgres.Postgres(str(root / "pg"))
        self.server.create()
        self.server.start()

    def once_done(self):
        if self.server is not None:
            self.server.stop()

    def prepare(self, work):
        super().prepare(work)
        schema = self.schemas[work] = f"case{len(self.schemas)}"
        self.server.sql(f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.lines (line text);"
                        f"CREATE TABLE {schema}.done (batch bigint, part int, PRIMARY KEY (batch, part))")

    def more_arguments(self, work):
        return [f"{self.server.connection} options='-c search_path={self.schemas[work]}'"]

    def check(self, work):
        rows = collections.Counter(row[0] for row in self.server.sql(f"SELECT line FROM {self.schemas[work]}.lines"))
        lines = self.actual(work)
        return super().check(work) + ([f"the table has {rows}, the batches had {lines}"] if rows != lines else [])


SCENARIOS = [MapWithState, InverseWindow, Union, Reliable, Postgres]
