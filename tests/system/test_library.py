"""millrace run --library: functions for SQL out of a shared library that a user compiled."""
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MILLRACE = os.path.join(os.environ["MILLRACE_BUILD_DIR"], "millrace")
LINES = '{"city": "Bonn"}\n{"city": "Berlin"}\n{"city": "Ulm"}\n{"city": "Bad Ems"}\n'


class Library(unittest.TestCase):
    def setUp(self):
        compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            self.skipTest("there is no C compiler")
        self.dir = tempfile.mkdtemp(prefix="millrace-library-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.library = os.path.join(self.dir, "libword_functions.so")
        subprocess.run([*compiler.split(), "-shared", "-fPIC", "-I", os.path.join(ROOT, "include"),
                        os.path.join(ROOT, "examples", "library", "word_functions.c"), "-o", self.library],
                       check=True)

    def run_sql(self, sql, library=None, more=()):
        command = [MILLRACE, "run", "--until-caught-up", *more]
        if library is not None:
            command += ["--library", library]
        return subprocess.run([*command, "-e", sql], input=LINES, capture_output=True, text=True, cwd=self.dir,
                              timeout=120, check=False)

    def test_scalar_functions_and_aggregates_of_a_library(self):
        done = self.run_sql("SELECT initial(city) AS letter, longest(city) AS l FROM stdin GROUP BY initial(city)",
                            self.library)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Bad Ems", done.stdout)
        self.assertIn("Ulm", done.stdout)
        self.assertNotIn("Berlin", done.stdout)

    def test_a_library_may_be_named_in_the_script(self):
        done = self.run_sql(f"SET library = '{self.library}'; "
                            "SELECT unnest(letters(city), recursive := true) FROM stdin WHERE city = 'Ulm'")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("U", done.stdout)
        self.assertIn("3", done.stdout)

    def test_without_the_library_its_functions_are_unknown(self):
        done = self.run_sql("SELECT initial(city) AS letter FROM stdin")
        self.assertEqual(done.returncode, 64)
        self.assertIn("initial", done.stderr)

    def test_a_file_that_is_no_library_is_a_mistake_of_configuration(self):
        path = os.path.join(self.dir, "text.so")
        with open(path, "w", encoding="utf-8") as file:
            file.write("not a library")
        done = self.run_sql("SELECT city FROM stdin", path)
        self.assertEqual(done.returncode, 78)
        self.assertIn("cannot load the library", done.stderr)


if __name__ == "__main__":
    unittest.main()
