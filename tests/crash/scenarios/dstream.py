"""A DStream program that keeps sums by key, fed over TCP: the received-block log under kills.

A TCP peer cannot say what became durable before a kill, so the oracle is the received-block log
itself, read here after every run by a reader of its own: every line that was in the log at such a
moment is in the output exactly once, no line is there twice, and the sums are those of the lines.
The server sends each numbered line once, whatever became of the connection; what was under way when
the program died is lost, and that is what an unreliable receiver promises.
"""

import collections
import contextlib
import re
import socket
import struct
import threading

from _base import Scenario, stray_files

LINES = [f"{'abc'[i % 3]} {1 << i}" for i in range(12)]
GAP_S = 0.008
SECTOR = 512
SECTOR_DATA = 496
TAG_END = 0x5A
BLOCK = 6
HEADER = struct.Struct("<IHBBQQ")


def groups(data):
    """The flush groups of a log segment that arrived whole, up to the first that did not: sectors
    of 496 bytes of records and a tag, which says by its bit 32 that the group ends."""
    group = b""
    for at in range(0, len(data), SECTOR):
        sector = data[at:at + SECTOR]
        if len(sector) < SECTOR or sector[-1] != TAG_END:
            return
        group += sector[:SECTOR_DATA]
        if sector[SECTOR_DATA + 4] & 1:
            yield group
            group = b""


def durable_lines(directory):
    """Lines of all blocks in the received-block logs below a directory."""
    lines = set()
    for path in sorted(directory.rglob("*.blk")):
        for group in groups(path.read_bytes()):
            at = 0
            while at + HEADER.size <= len(group):
                length, magic, kind, _, _, _ = HEADER.unpack_from(group, at)
                if magic != 0x4D52:
                    break
                payload = group[at + HEADER.size:at + HEADER.size + length]
                if kind == BLOCK:
                    lines.update(payload[24:].decode().splitlines())
                at += HEADER.size + length
    return lines - {"end"}


class Feeder:
    """Serves lines, each once, over as many connections as it takes; then "end" for ever."""

    def __init__(self, lines=None):
        self.lines = LINES if lines is None else lines
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sent = 0
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while not self.stopped.is_set():
            with contextlib.suppress(OSError):
                connection, _ = self.listener.accept()
                with connection:
                    self.talk(connection)

    def talk(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not self.stopped.wait(GAP_S):
            line = self.lines[self.sent] if self.sent < len(self.lines) else "end"
            self.sent += 1
            connection.sendall(line.encode() + b"\n")

    def stop(self):
        self.stopped.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(10)


class Fold(Scenario):
    name = "dstream-socket"
    timeout_s = 30

    def __init__(self, tools):
        super().__init__(tools)
        self.program = tools.build and tools.build / "tests/crash/crash_fold"
        self.feeders = {}
        self.durable = {}

    def missing(self):
        built = self.program and self.program.exists()
        return None if built else "crash_fold is not built"

    @contextlib.contextmanager
    def surroundings(self, work):
        self.feeders[work] = Feeder()
        self.durable[work] = set()
        try:
            yield
        finally:
            self.feeders.pop(work).stop()
            self.durable.pop(work)

    def prepare(self, work):
        (work / "out").mkdir()

    def command(self, work):
        return [str(self.program), str(self.feeders[work].port), str(work / "ckpt"),
                str(work / "out")]

    def after_run(self, work):
        self.durable[work] |= durable_lines(work / "ckpt" / "received")

    def batches(self, work, name):
        """Directories of one output, in the order of their batch times."""
        found = (work / "out").glob(f"{name}-*")
        return sorted(found, key=lambda p: int(p.name.rpartition("-")[2]))

    def parts(self, work, name):
        return [part for batch in self.batches(work, name) for part in sorted(batch.glob("part-*"))]

    def actual(self, work):
        return collections.Counter(line for part in self.parts(work, "lines")
                                   for line in part.read_text().splitlines())

    def expected(self, work):
        # A line may have come, been counted and been purged within one run: the output shows it.
        seen = set(self.actual(work)) & set(LINES)
        return collections.Counter(self.durable[work] | seen)

    def check(self, work):
        found = stray_files(work)
        sums = collections.Counter()
        for line in self.actual(work).elements():
            key, number = line.split()
            sums[key] += int(number)
        last = self.batches(work, "sums")[-1:]
        text = "".join(part.read_text() for batch in last for part in sorted(batch.glob("part-*")))
        state = {key: int(number) for key, number in re.findall(r"\((\w+),(\d+)\)", text)}
        if state != dict(sums):
            found.append(f"sums are {state}, the lines give {dict(sums)}")
        found += [f"'{batch.name}' is unfinished" for name in ("lines", "sums")
                  for batch in self.batches(work, name) if not (batch / "_SUCCESS").exists()]
        return found


SCENARIOS = [Fold]
