"""tools/bind-library: a library that is bound to its own symbols does the same, and names hardly any of them."""
import ctypes
import os
import re
import shutil
import subprocess
import tempfile
import unittest

SOURCE = os.environ.get("MILLRACE_SOURCE_DIR", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
TOOL = os.path.join(SOURCE, "tools/bind-library")
PROGRAM = """
    #include <stdlib.h>
    int base = 40;
    int two(void) { return 2; }
    int (*table[])(void) = {two, two};
    int *place = &base;
    int sum(void) { return *place + table[1]() + abs(-100) + two(); }
"""


class BindLibrary(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-bind-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.before, self.after = os.path.join(self.dir, "before.so"), os.path.join(self.dir, "after.so")
        compiler = shutil.which(os.environ.get("CC", "gcc")) or self.skipTest("no compiler")
        subprocess.run([compiler, "-shared", "-fPIC", "-fno-builtin", "-fsemantic-interposition", "-Wl,-z,lazy", "-x", "c", "-", "-o",
                        self.before], input=PROGRAM, text=True, check=True)

    def bind(self, source, target):
        return subprocess.run([TOOL, source, target], capture_output=True, text=True, check=False)

    def test_a_bound_library_does_the_same_and_binding_it_again_changes_nothing(self):
        done = self.bind(self.before, self.after)
        if done.returncode == 65:
            self.skipTest(done.stderr)
        own, named = map(int, re.search(r"(\d+) relocations by address, (\d+) by name", done.stdout).groups())
        self.assertGreaterEqual(own, 6, done.stdout)
        self.assertLess(named, own)
        for path in (self.before, self.after):
            self.assertEqual(ctypes.CDLL(path).sum(), 144, path)
        again = os.path.join(self.dir, "again.so")
        self.assertEqual(self.bind(self.after, again).returncode, 0)
        with open(self.after, "rb") as first, open(again, "rb") as second:
            self.assertEqual(first.read(), second.read())

    def test_what_it_cannot_bind_is_left_alone(self):
        with open(self.before, "rb") as file:
            whole = file.read()
        for name, data in (("text", b"no library\n"), ("empty", b""), ("cut", whole[:200]), ("other machine", b"\x7fELF\x01" + whole[5:])):
            path = os.path.join(self.dir, name)
            with open(path, "wb") as file:
                file.write(data)
            done = self.bind(path, path)
            self.assertEqual(done.returncode, 65, name)
            self.assertIn("cannot bind", done.stderr)
            with open(path, "rb") as file:
                self.assertEqual(file.read(), data)


if __name__ == "__main__":
    unittest.main()
