"""The kill harness on itself: the tracer stops where it says, the enumerator finds planted bugs.

Uses small shell programs and tests/crash/tracer/demo.c. Prints a last line `N passed, N failed`.
"""

import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
import unittest

os.environ.pop("QUICK", None)  # the demo is small: all of its points, always
TOP = pathlib.Path(__file__).resolve().parent.parent.parent
CRASH = TOP / "tests" / "crash"


def build(scratch, name, source):
    """The program of the build directory, else one compiled here: both need libc only."""
    directory = pathlib.Path(os.environ.get("MILLRACE_BUILD_DIR", "/nonexistent"))
    ready = directory / "tests" / "crash" / name
    if ready.exists():
        return str(ready)
    out = scratch / name
    subprocess.run(["cc", "-std=c17", "-O2", "-pthread", "-o", out, CRASH / "tracer" / source],
                   check=True)
    return str(out)


@unittest.skipUnless(sys.platform == "linux" and platform.machine() == "x86_64",
                     "the tracer knows x86-64 Linux only")
class TracerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="killpoint-selftest-")
        cls.killpoint = build(pathlib.Path(cls.scratch.name), "killpoint", "killpoint.c")
        cls.demo = build(pathlib.Path(cls.scratch.name), "killpoint_demo", "demo.c")

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="killpoint-case-", dir=self.scratch.name)
        self.addCleanup(directory.cleanup)
        self.work = pathlib.Path(directory.name)

    def trace(self, verb, options, program, under=True):
        """Returns (exit code, lines of the report without the last, its words)."""
        report = self.work.with_suffix(".report")
        words = [self.killpoint, verb, "-o", str(report), *options]
        if under:
            words += ["--files-only", "--under", str(self.work)]
        done = subprocess.run([*words, "--", *program], cwd=self.work, check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        lines = report.read_text().splitlines() if report.exists() else []
        report.unlink(missing_ok=True)
        last = dict(w.split("=", 1) for w in lines[-1].split(" point=")[0].split()) if lines else {}
        return done.returncode, lines[:-1], last

    def test_count_lists_the_calls_below_the_directory_in_order(self):
        code, lines, last = self.trace("count", [], ["sh", "-c", "echo 123456789 >f; mv f g; rm g"])
        self.assertEqual(code, 0)
        self.assertEqual(last["outcome"], "finished")
        names = [line.split("\t")[2].replace(str(self.work) + "/", "") for line in lines]
        self.assertEqual([n for n in names if not n.startswith("close")],
                         ["openat f", "write f len=10", "renameat2 f -> g", "unlinkat g"])
        self.assertEqual([line.split("\t")[0] for line in lines],
                         [str(i) for i in range(1, len(lines) + 1)])

    def test_entry_is_before_the_effect_torn_in_the_middle_exit_after(self):
        for phase, size in (("entry", 0), ("torn", 5), ("exit", 10)):
            with self.subTest(phase=phase):
                code, _, last = self.trace(
                    "kill", ["--only", "write", "--at", "1", "--phase", phase],
                    ["sh", "-c", "echo 123456789 >f; touch after"])
                self.assertEqual((code, last["outcome"]), (137, "killed"))
                self.assertEqual((self.work / "f").stat().st_size, size)
                self.assertFalse((self.work / "after").exists())

    def test_a_rename_is_undone_at_entry_and_done_at_exit(self):
        for phase, name in (("entry", "f"), ("exit", "g")):
            with self.subTest(phase=phase):
                for path in self.work.iterdir():
                    path.unlink()
                (self.work / "f").touch()
                self.trace("kill", ["--only", "rename,renameat,renameat2", "--at", "1",
                                    "--phase", phase], ["mv", "f", "g"])
                self.assertEqual([p.name for p in self.work.iterdir()], [name])

    def test_the_whole_process_tree_dies_at_the_point(self):
        start = time.monotonic()
        code, _, _ = self.trace(
            "kill", ["--only", "write", "--at", "1", "--phase", "exit"],
            ["sh", "-c", "(sleep 30; touch late) & (setsid sleep 30 &); echo x >f; wait"])
        self.assertEqual(code, 137)
        self.assertLess(time.monotonic() - start, 10)
        self.assertFalse((self.work / "late").exists())

    def test_threads_share_one_numbering_and_die_together(self):
        (self.work / "input.txt").write_text("".join(f"line {i}\n" for i in range(9)))
        program = [self.demo, str(self.work), "--threads", "3"]
        _, lines, last = self.trace("count", [], program)
        self.assertGreaterEqual(len({line.split("\t")[1] for line in lines}), 4)
        self.assertEqual(int(last["calls"]), len(lines))
        for directory in ("out", "ckpt"):
            subprocess.run(["rm", "-r", self.work / directory], check=True)
        middle = next(i for i, line in enumerate(lines, 1) if "/out/part-1" in line)
        code, _, last = self.trace("kill", ["--at", str(middle), "--phase", "exit"], program)
        self.assertEqual((code, int(last["signal"])), (137, 9))

    def test_an_injected_error_replaces_the_call(self):
        program = ["sh", "-c", "echo x >f || exit 5; echo y >g || exit 6"]
        code, _, last = self.trace("inject", ["--only", "write", "--at", "2", "--errno", "ENOSPC"],
                                   program)
        self.assertEqual((code, last["exit"], last["injected"]), (1, "6", "1"))
        self.assertEqual((self.work / "f").read_text(), "x\n")
        self.assertEqual((self.work / "g").read_text(), "")

    def test_an_error_can_stay(self):
        _, _, last = self.trace("inject", ["--only", "write", "--at", "2", "--errno", "EIO",
                                           "--every"],
                                ["sh", "-c", "for i in 1 2 3 4; do echo $i >f$i; done; exit 0"])
        self.assertEqual(last["injected"], "3")
        self.assertEqual([(self.work / f"f{i}").stat().st_size for i in (1, 2, 3, 4)], [2, 0, 0, 0])

    def test_a_short_write_is_told_to_the_program_and_leaves_its_registers_alone(self):
        (self.work / "input.txt").write_text("".join(f"line {i}\n" for i in range(9)))
        code, _, last = self.trace("inject", ["--at", "1", "--short", "3", "--every"],
                                   [self.demo, str(self.work)])
        self.assertEqual(code, 0)
        self.assertGreater(int(last["injected"]), 20)
        text = "".join(p.read_text() for p in sorted((self.work / "out").glob("part-*")))
        self.assertEqual(text, "".join(f"LINE {i}\n" for i in range(9)))

    def test_a_short_vector_write_becomes_a_plain_one(self):
        code = "import os; fd = os.open('f', os.O_CREAT | os.O_WRONLY)\n" \
               "print(os.writev(fd, [b'', b'abcdef', b'ghi']), os.pwritev(fd, [b'XYZ'], 4))\n"
        self.trace("inject", ["--at", "1", "--short", "2", "--every"], [sys.executable, "-c", code])
        self.assertEqual((self.work / "f").read_bytes(), b"ab\0\0XY")

    def test_a_delayed_call_takes_so_long_while_other_threads_run_on(self):
        code = ("import os, threading, time\n"
                "def late():\n"
                "    with open('late', 'w') as file: file.write('x')\n"
                "    os.write(out, b'late ')\n"
                "out = os.open('order', os.O_CREAT | os.O_WRONLY | os.O_APPEND)\n"
                "thread = threading.Thread(target=late); thread.start(); time.sleep(0.1)\n"
                "os.write(out, b'meanwhile '); thread.join()\n")
        lines = self.trace("count", [], [sys.executable, "-c", code])[1]
        at = [i for i, line in enumerate(lines, 1) if "openat" in line and "/late" in line][0]
        (self.work / "order").unlink()
        code, _, last = self.trace("inject", ["--at", str(at), "--delay", "400"],
                                   [sys.executable, "-c", code])
        self.assertEqual((code, last["injected"]), (0, "1"))
        self.assertEqual((self.work / "order").read_text(), "meanwhile late ")

    def test_exit_codes(self):
        for program, wanted, words in ((["true"], 0, {"exit": "0"}),
                                       (["sh", "-c", "exit 7"], 1, {"exit": "7"}),
                                       (["sh", "-c", "kill -SEGV $$"], 2, {"signal": "11"})):
            with self.subTest(program=program):
                code, _, last = self.trace("kill", ["--at", "99"], program)
                self.assertEqual(code, wanted)
                self.assertEqual({k: last[k] for k in words}, words)
        self.assertEqual(self.trace("kill", ["--at", "0"], ["true"])[0], 64)
        self.assertEqual(self.trace("count", [], ["/nonexistent/program"])[0], 70)
        code, _, last = self.trace("count", ["--timeout", "1"], ["sleep", "30"])
        self.assertEqual((code, last["outcome"]), (124, "timeout"))

    def test_without_filters_every_changing_call_counts_even_on_pipes(self):
        done = subprocess.run([self.killpoint, "count", "--only", "write", "--", "echo", "x"],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=True)
        self.assertEqual(done.stdout, "x\n")
        self.assertEqual(done.stderr.splitlines()[0], "1\tt0\twrite pipe len=2")

    def test_sends_count_when_asked(self):
        code = "import socket; a, b = socket.socketpair(); a.send(b'x'); a.sendall(b'yz')"
        program = [sys.executable, "-c", code]
        self.assertEqual(self.trace("count", [], program)[2]["calls"], "0")
        self.assertEqual(self.trace("count", ["--net"], program)[2]["calls"], "2")


@unittest.skipUnless(sys.platform == "linux" and platform.machine() == "x86_64",
                     "the tracer knows x86-64 Linux only")
class EnumeratorTest(unittest.TestCase):
    def enumerate(self, *arguments):
        done = subprocess.run([sys.executable, CRASH / "run", "--seed", "7", *arguments],
                              stdout=subprocess.PIPE, text=True, check=False, timeout=300)
        return done.returncode, done.stdout

    def test_the_correct_program_survives_every_point(self):
        code, text = self.enumerate("--scenario", "demo", "--scenario", "demo-threads")
        self.assertEqual(code, 0, text)
        self.assertTrue(text.endswith("2 passed, 0 failed\n"), text)
        points = [int(n) for n in re.findall(r"^demo\S*: (\d+) of", text, re.MULTILINE)]
        self.assertTrue(all(n > 100 for n in points), text)

    def test_the_correct_program_survives_errors_short_writes_and_delays(self):
        code, text = self.enumerate("--quick", "--scenario", "demo", "--phases",
                                    "ENOSPC,EIO+,EINTR,short,delay")
        self.assertEqual(code, 0, text)

    def test_every_broken_copy_is_caught(self):
        code, text = self.enumerate("--scenario", "demo-canary-*")
        self.assertEqual(code, 0, text)
        self.assertEqual(text.count("caught as it must be"), 6, text)

    def test_a_broken_copy_that_is_not_caught_fails(self):
        code, text = self.enumerate("--scenario", "demo-canary-recovery", "--second", "0")
        self.assertEqual(code, 1, text)
        self.assertIn("the broken program was not caught", text)
        self.assertTrue(text.endswith("0 passed, 1 failed\n"), text)

    def test_a_failure_can_be_replayed_from_the_printed_line(self):
        _, text = self.enumerate("--scenario", "demo-canary-append")
        words = re.search(r"caught: tests/crash/run (.*?): ", text).group(1).split()
        _, again = self.enumerate(*words)
        self.assertIn("double", again)


if __name__ == "__main__":
    program = unittest.main(exit=False, verbosity=1)
    bad = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - bad} passed, {bad} failed")
    sys.exit(bad != 0)
