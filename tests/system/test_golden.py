"""Golden checkpoints (faults.md 5.6): what an earlier build left in the middle, this one goes on with, to the same rows."""
import os
import pathlib
import subprocess
import tarfile
import tempfile
import unittest

BIN = os.environ["MILLRACE_BIN"]
BUILD = pathlib.Path(BIN).resolve().parent
GOLDEN = pathlib.Path(os.environ["MILLRACE_SOURCE_DIR"]) / "tests" / "golden"


class Golden(unittest.TestCase):
    def millrace(self, work, *arguments):
        done = subprocess.run([BIN, *arguments], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, f"{work.name}: {done.stdout}")
        return done.stdout

    def run_again(self, work):
        program = work / "command.txt"
        if not program.exists():
            self.millrace(work, "run", "q.sql")
            return
        words = program.read_text().split()
        if not (BUILD / words[0]).exists():
            self.skipTest(f"{words[0]} is not built")
        done = subprocess.run([str(BUILD / words[0]), *words[1:]], cwd=work, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, f"{work.name}: {done.stdout}")

    def go_on(self, work):
        self.assertIn("are good", self.millrace(work, "checkpoint", "verify", "cp"))
        for path in sorted(work.glob("rest/*/*")):
            path.rename(work / path.parent.name / path.name)
        self.run_again(work)
        rows = sorted(line for path in work.glob("out*/part-*") for line in path.read_text().splitlines())
        self.assertEqual(rows, (work / "expected.txt").read_text().splitlines(), work.name)
        self.assertIn("are good", self.millrace(work, "checkpoint", "verify", "cp"))

    def test_every_program_of_every_release_goes_on_to_the_same_rows(self):
        archives = sorted(GOLDEN.glob("release-*.tar.gz"))
        self.assertTrue(archives)
        for path in archives:
            with tempfile.TemporaryDirectory(prefix="millrace-golden-") as folder, tarfile.open(path) as archive:
                archive.extractall(folder)
                for work in sorted(pathlib.Path(folder).iterdir()):
                    with self.subTest(release=path.name, program=work.name):
                        self.go_on(work)


if __name__ == "__main__":
    unittest.main()
