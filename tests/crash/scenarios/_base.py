"""What a scenario of the kill harness is. tests/crash/README.md shows how to write one."""

import collections
import contextlib
import os


class Scenario:
    """One program, one input, one oracle. `work` is always a fresh pathlib.Path of this case."""

    name = ""
    timeout_s = 20        # a run that takes longer is a failure
    restarts_max = 5      # runs without a kill until finished() must be true
    phases = ("entry", "torn", "exit")
    error_codes = (69, 71, 73, 74)  # how a run may end in which a call was made to fail
    second = 1            # kills tried during the recovery from each point in full mode
    net = False           # also stop at sends to sockets
    canary = False        # a program known to be broken: the harness must find it
    first_kill_safe = False  # a canary which only a second kill may catch

    def __init__(self, tools):
        self.tools = tools

    def missing(self):
        """Why the scenario cannot run here, or None."""
        return None

    def once(self, root):
        """Starts what all cases share (a broker). `root` is a directory that lives as long."""

    def once_done(self):
        """Stops it."""

    def prepare(self, work):
        """Puts the input into the empty directory `work`."""

    @contextlib.contextmanager
    def surroundings(self, work):
        """Side servers of one case: they live across its kills and restarts."""
        yield

    def command(self, work):
        """The program and its arguments."""
        raise NotImplementedError

    def env(self, work):
        return dict(os.environ)

    def under(self, work):
        """Only calls below this directory are points."""
        return work

    def after_run(self, work):
        """Called after every run, killed or not: a look at what is durable at that moment."""

    def finished(self, work):
        """Is all input processed, after a run that ended with code 0?"""
        return True

    def expected(self, work):
        """The oracle: a Counter of rows, made without the program."""
        raise NotImplementedError

    def actual(self, work):
        """A Counter of the rows that are there. Never remove doubles on the way."""
        raise NotImplementedError

    def check(self, work):
        """Further complaints, a list of texts: order, stray files, damaged records."""
        return []


def lines_of(paths):
    """All lines of the files, as a Counter; an unfinished last line shows as such."""
    rows = collections.Counter()
    for path in paths:
        text = path.read_text()
        rows.update(text.splitlines())
        if text and not text.endswith("\n"):
            rows[f"(unfinished line in {path.name})"] += 1
    return rows


def stray_files(directory):
    """Complaints about temporary files, which a clean stop must not leave behind."""
    return [f"stray file '{path.relative_to(directory)}'"
            for path in sorted(directory.rglob("*"))
            if path.name.endswith(".tmp") or path.name.startswith(".tmp-")]
