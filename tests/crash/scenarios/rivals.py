"""Two processes on one checkpoint at the same time, one of them killed at every point.

Each starts the same query again and again, for what has come since; whoever has the checkpoint works,
the other one is refused with 75. Files come one by one, so both have something to do. The traced one
dies at its point; its rival goes on, takes over, and is itself refused when the first is back.
"""

import contextlib
import json
import os
import subprocess
import threading

from files import Windows, stray_files

BUSY = 75
PAUSE_S = 0.02        # between two starts of one process
ARRIVAL_S = 0.08      # between two files
STARTS = 4            # of the traced process, in one run

# What the traced program is: some starts, of which those that were refused do not count.
LOOP = """
left=$1; shift
while [ "$left" -gt 0 ]; do
    "$@"; code=$?
    [ $code -eq 0 ] && left=$((left - 1))
    [ $code -eq 0 ] || [ $code -eq 75 ] || exit $code
    sleep 0.02
done
"""


class Rival:
    """The other process, and whoever brings the files."""

    def __init__(self, command, work, rows):
        self.command, self.work, self.rows = command, work, rows
        self.over = threading.Event()
        self.codes = []
        self.threads = [threading.Thread(target=self.compete), threading.Thread(target=self.bring)]
        for thread in self.threads:
            thread.start()

    def compete(self):
        while not self.over.is_set():
            done = subprocess.run(self.command, cwd=self.work, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
            self.codes.append((done.returncode, done.stderr.decode(errors="replace")))
            self.over.wait(PAUSE_S)

    def bring(self):
        for number, rows in enumerate(self.rows[1:], start=1):
            self.over.wait(ARRIVAL_S)
            temporary = self.work / f".{number}.json"
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
            os.rename(temporary, self.work / "in" / f"{number}.json")

    def stop(self):
        self.over.set()
        for thread in self.threads:
            thread.join()


class Rivals(Windows):
    """Counts by window and key, by two processes in turns."""

    name = "two-processes"
    phases = ("entry", "exit")
    restarts_max = 10

    def __init__(self, tools):
        super().__init__(tools)
        self.rivals = {}      # of the cases that are running now

    def prepare(self, work):
        super().prepare(work)
        for number in range(1, len(self.rows())):
            (work / "in" / f"{number}.json").unlink()

    def one(self, work):
        return super().command(work)

    def command(self, work):
        return ["/bin/sh", "-c", LOOP, "sh", str(STARTS), *self.one(work)]

    @contextlib.contextmanager
    def surroundings(self, work):
        self.rivals[work] = Rival(self.one(work), work, self.rows())
        try:
            yield
        finally:
            self.rivals.pop(work).stop()

    def finished(self, work):
        return super().actual(work) == self.expected(work)

    def actual(self, work):
        self.rivals[work].stop()      # it may be in the middle of something
        return super().actual(work)

    def check(self, work):
        wrong = [f"the rival ended with {code}: {text.strip().splitlines()[-1:]}"
                 for code, text in self.rivals[work].codes if code not in (0, BUSY)]
        return stray_files(work) + wrong + super().check(work)


SCENARIOS = [Rivals]
