"""The harness on itself: a correct small program must survive every kill, broken copies must not.

The program is tests/crash/tracer/demo.c; the kinds of damage are described there.
"""

import collections

from _base import Scenario, lines_of, stray_files

LINES = 12


class Demo(Scenario):
    name = "demo"
    second = 2
    arguments = ()

    def missing(self):
        return None if self.tools.demo else "killpoint_demo is not built"

    def prepare(self, work):
        (work / "input.txt").write_text("".join(f"line {i}\n" for i in range(LINES)))

    def command(self, work):
        return [self.tools.demo, str(work), *self.arguments]

    def expected(self, work):
        return collections.Counter(f"LINE {i}" for i in range(LINES))

    def actual(self, work):
        return lines_of(sorted((work / "out").glob("part-*")))

    def check(self, work):
        return stray_files(work)


class DemoThreads(Demo):
    name = "demo-threads"
    arguments = ("--threads", "3")


def canary(kind, *arguments, only_second=False):
    class Canary(Demo):
        name = f"demo-canary-{kind}"
        canary = True
        first_kill_safe = only_second

        def check(self, work):
            return []  # the rows alone must give it away

    Canary.arguments = ("--broken", kind, *arguments)
    return Canary


SCENARIOS = [
    Demo,
    DemoThreads,
    canary("in-place"),
    canary("commit-first"),
    canary("no-plan"),
    canary("append"),
    canary("unjoined", "--threads", "2"),
    canary("recovery", only_second=True),
]
