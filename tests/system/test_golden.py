"""Golden checkpoints (faults.md 5.6): what an earlier build left in the middle, this one goes on with, to the same rows.

Also when the first start of this build, the one that rewrites older forms, is killed at any of its calls (A23): each program of
each release at a few points spread over that run; MILLRACE_A23=all takes every point."""
import os
import pathlib
import platform
import shutil
import subprocess
import tarfile
import tempfile
import unittest

BIN = os.environ["MILLRACE_BIN"]
BUILD = pathlib.Path(BIN).resolve().parent
GOLDEN = pathlib.Path(os.environ["MILLRACE_SOURCE_DIR"]) / "tests" / "golden"
KILLPOINT = BUILD / "tests" / "crash" / "killpoint"
POINTS = 2 if os.environ.get("QUICK") == "1" else 6


class Golden(unittest.TestCase):
    def millrace(self, work, *arguments):
        done = subprocess.run([BIN, *arguments], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, check=False, timeout=120)
        self.assertEqual(done.returncode, 0, f"{work.name}: {done.stdout}")
        return done.stdout

    def command(self, work):
        """How this program of a release is run; None: it is not in this build."""
        program = work / "command.txt"
        if not program.exists():
            return [BIN, "run", "q.sql"]
        words = program.read_text().split()
        return [str(BUILD / words[0]), *words[1:]] if (BUILD / words[0]).exists() else None

    def go_on(self, work):
        self.assertIn("are good", self.millrace(work, "checkpoint", "verify", "cp"))
        self.add_rest(work)
        self.finish(work)

    def add_rest(self, work):
        for path in sorted(work.glob("rest/*/*")):
            path.rename(work / path.parent.name / path.name)

    def finish(self, work):
        command = self.command(work)
        if command is None:
            self.skipTest(f"{work.name} is not built")
        done = subprocess.run(command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
                              timeout=120)
        self.assertEqual(done.returncode, 0, f"{work.name}: {done.stdout}")
        rows = sorted(line for path in work.glob("out*/part-*") for line in path.read_text().splitlines())
        self.assertEqual(rows, (work / "expected.txt").read_text().splitlines(), work.name)
        self.assertIn("are good", self.millrace(work, "checkpoint", "verify", "cp"))

    def trace(self, work, *words):
        """The lines of the tracer's report about a run."""
        report = work.with_suffix(".report")
        subprocess.run([KILLPOINT, words[0], "-o", report, *words[1:], "--files-only", "--under", work, "--", *self.command(work)],
                       cwd=work, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
        return report.read_text(encoding="utf-8").splitlines()

    def kill_and_finish(self, golden, scratch, seed):
        self.add_rest(golden)
        count = len(self.trace(shutil.copytree(golden, scratch / "count"), "count")) - 1
        self.assertGreater(count, 10, golden.name)
        wanted = range(1, count + 1)
        if os.environ.get("MILLRACE_A23") != "all":
            wanted = [1 + (seed + i * count) // POINTS % count for i in range(POINTS)]
        for at in wanted:
            phase = "entry" if (at + seed) % 2 else "exit"
            with self.subTest(program=golden.name, at=at, phase=phase):
                work = shutil.copytree(golden, scratch / f"at-{at}")
                self.assertIn("outcome=killed", self.trace(work, "kill", "--at", str(at), "--phase", phase)[-1])
                self.finish(work)
                shutil.rmtree(work)

    @unittest.skipUnless(platform.machine() == "x86_64" and KILLPOINT.exists(), "the tracer is not in this build")
    def test_A23_a_kill_at_any_call_of_the_first_start_of_this_build_loses_and_doubles_nothing(self):
        seed = int(os.environ.get("MILLRACE_SEED", "7"))
        for path in sorted(GOLDEN.glob("release-*.tar.gz")):
            with tempfile.TemporaryDirectory(prefix="millrace-golden-") as folder, tarfile.open(path) as archive:
                archive.extractall(folder)
                for work in sorted(pathlib.Path(folder).iterdir()):
                    if self.command(work) is None:
                        continue
                    with tempfile.TemporaryDirectory(prefix="millrace-golden-") as scratch:
                        self.kill_and_finish(work, pathlib.Path(scratch), seed)

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
