"""Rows D of the fault catalogue that need a function of the program: one that blocks for ever (D16)."""
import os
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "support"))
from invariants import FaultCase, PIPELINE, SOURCE  # noqa: E402  pylint: disable=wrong-import-position


class Hanging(FaultCase):
    """The rows go through a function that waits while there is a file of the city's name."""

    @classmethod
    def setUpClass(cls):
        built = tempfile.TemporaryDirectory(prefix="millrace-hanging-")
        cls.addClassCleanup(built.cleanup)
        cls.library = os.path.join(built.name, "libhanging.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-I", os.path.join(SOURCE, "include"),
                        os.path.join(SOURCE, "tests/support/hostile/hanging.c"), "-o", cls.library], check=True)

    def query(self, **places):
        self.places.update(places)
        self.write("q.sql", f"SET library = '{self.library}';\n" + PIPELINE.format(**self.places)
                   .replace("FROM src;", "FROM src WHERE wait_if(city) = 1;", 1))

    def hang(self, settings):
        """A batch is committed, the next one hangs; the process, when it does."""
        self.query(settings="SET trigger = '10 ms'; SET slow_batch = '100 ms';")
        self.put("1.json", ["ulm", "rome"])
        self.ok()
        self.query(settings="SET trigger = '10 ms'; SET slow_batch = '100 ms'; " + settings)
        self.write("hang", "")
        self.put("2.json", ["ulm", "hang", "rome"])
        with open(self.path("log"), "wb") as log:
            process = self.start(stderr=log)
        self.wait_for("word of the slow batch", lambda: "this batch has been running for" in self.read("log"))
        return process

    def ended(self, process, code, *texts):
        self.assertEqual(process.wait(60), code, self.read("log"))
        self.assertRegex(self.read("log"), r"batch=1 .*running for \d+ ms, in function 'wait_if' in operator '[^']+' for \d+ ms")
        if texts:
            done = subprocess.CompletedProcess([], code, "", self.read("log"))
            self.stopped(done, code, *texts)
        self.no_partial_output()
        self.assertEqual(sum(self.rows().values()), 2)
        os.unlink(self.path("hang"))
        self.whole()

    def test_D16_a_function_that_blocks_ends_the_program_at_batch_timeout(self):
        process = self.hang("SET batch_timeout = '300 ms';")
        self.ended(process, 70, "batch 1 has been running", "in function 'wait_if'", "batch_timeout", "runs it again")

    def test_D16_a_function_that_blocks_ends_with_a_stop_that_takes_too_long(self):
        process = self.hang("SET stop_timeout = '150 ms';")
        process.send_signal(signal.SIGTERM)
        self.ended(process, 70, "batch 1 has been running", "in function 'wait_if'", "asked to stop", "runs it again")

    def test_D16_a_function_that_blocks_ends_with_a_second_signal(self):
        process = self.hang("")
        process.send_signal(signal.SIGTERM)
        self.wait_for("word of the stop", lambda: "finishing the batch" in self.read("log"))
        process.send_signal(signal.SIGTERM)
        self.ended(process, 143)


if __name__ == "__main__":
    unittest.main()
