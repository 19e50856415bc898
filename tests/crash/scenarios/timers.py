"""transform_with_state with timers of event time: a program of the C API from files to files.

One input file is one batch; one without data follows the last. The oracle plays the same rules in
Python.
"""

import collections

from files import FilesToFiles

DELAY = 5


class Timers(FilesToFiles):
    """Each name's rows are gathered in a list; two timers a name tell it, the second one clears."""

    name = "transform-with-timers"

    def __init__(self, tools):
        super().__init__(tools)
        self.program = tools.build and tools.build / "tests/crash/crash_timers"

    def missing(self):
        there = self.program and self.program.exists()
        return super().missing() or (None if there else "crash_timers is not built")

    def batches(self):
        return [[("ann", 0), ("bob", 2), ("ann", 4)],
                [("ann", 9), ("tick", 17)],             # moves the watermark to ann's first timer
                [("bob", 13)],
                [("eve", 30), ("tick", 31), ("late", 1)],
                [("ann", 33)],                          # with it her second timer, and all of bob's
                [("ann", 34), ("end", 300)],            # a new beginning
                [("late", 20)]]

    def rows(self):
        return [[{"name": name, "ts": f"2024-01-01 00:{s // 60:02d}:{s % 60:02d}"} for name, s in batch]
                for batch in self.batches()]

    def sql(self, work):
        return ""

    def command(self, work):
        return [str(self.program), str(work / "in"), str(work / "out"), str(work / "ckpt")]

    def expected(self, work):
        found = collections.Counter()
        names, timers = {}, set()
        late = watermark = newest = None                # late: the watermark of the batch before

        for batch in [*self.batches(), []]:             # the last one has no data
            late, watermark = watermark, None if newest is None else newest - DELAY
            for name, second in batch:
                newest = second if newest is None else max(newest, second)
                if late is not None and second <= late:
                    continue
                if name not in names:
                    names[name] = (second + 20, [])
                    timers |= {(second + 10, name), (second + 20, name)}
                names[name][1].append(second)
            for when, name in sorted(timers):
                if watermark is not None and when <= watermark:
                    timers.discard((when, name))
                    last, seconds = names[name]
                    found[name, when, len(seconds), "".join(f"{s} " for s in seconds)] += 1
                    if when == last:
                        del names[name]
        return found

    def row(self, document):
        return document["name"], document["at"], document["n"], document["seconds"]


SCENARIOS = [Timers]
