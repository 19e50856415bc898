"""Rows J and I of the fault catalogue (docs/faults.md) that need the real program: settings, limits of the process, logs that
cannot be written, sinks that are slow."""
import fcntl
import glob
import json
import os
import resource
import select
import signal
import subprocess
import sys
import termios
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
from invariants import WAIT, FaultCase  # noqa: E402  pylint: disable=wrong-import-position


class Operators(FaultCase):
    def checkpoint_texts(self):
        """Everything that the checkpoint and the outputs hold, as bytes."""
        found = b""
        for root in ("cp", "out"):
            for place, _, names in os.walk(self.path(root)):
                for name in names:
                    with open(os.path.join(place, name), "rb") as file:
                        found += file.read()
        return found

    # ---- J11: a checkpoint in memory ----

    def test_J11_a_checkpoint_in_memory_is_warned_of(self):
        self.mount("tmpfs", "memory", "size=8m")
        self.put("a.json", ["Oslo"])
        self.query(checkpoint="memory/cp")
        self.assertRegex(self.ok().stderr, r"(?m) W core .*'memory/cp' is on a file system in memory")
        self.whole()

    # ---- J12: tiny limits of the process ----

    def test_J12_too_little_address_space_ends_with_what_is_needed(self):
        self.put("a.json", ["Oslo"])
        worked = False
        for megabytes in (24, 64, 72, 80, 84, 88, 96, 112, 128, 144, 160, 192, 256, 400):
            done = self.run_through(preexec_fn=lambda size=megabytes << 20: resource.setrlimit(resource.RLIMIT_AS, (size, size)))
            if done.returncode == 0:
                worked = True
            elif not worked:
                self.stopped(done, 71, "MB of address space", "ulimit -v")
            else:
                self.stopped(done, 71)
            self.no_partial_output()
        self.assertTrue(worked)
        self.whole()

    def test_J12_too_few_processes_end_with_the_limit_to_raise(self):
        self.put("a.json", ["Oslo"])

        def few():
            os.setgroups([])
            resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

        if os.geteuid() == 0:
            self.skipTest("root is not bound by this limit")
        self.expect(71, "ulimit -u", preexec_fn=few)
        self.whole()

    # ---- J14: the log cannot be written ----

    def test_J14_a_full_disk_under_the_log_loses_lines_and_counts_them(self):
        self.put("a.json", ["Oslo"])
        self.write("in/bad.json", "no json\n")
        self.query(options=", on_error = 'skip'")
        with open("/dev/full", "wb") as full:
            self.ok("--log-level", "debug", stderr=full)
        shown = self.run_cli("options", "--metrics-markdown")
        self.assertIn("`log_lines_lost`", shown.stdout)
        self.put("b.json", ["Bergen"])
        read, write = os.pipe()
        os.close(read)  # whoever read the log went away
        with os.fdopen(write, "wb") as gone:
            self.ok("--log-level", "debug", "--progress", "json", stderr=gone)
        os.unlink(self.path("in", "bad.json"))
        self.whole()

    def test_J14_closed_standard_streams_take_no_part_of_the_checkpoint(self):
        """The next file to be opened would become descriptor 2, and the log and the progress would be written into it."""
        def close(numbers):
            def close_them():
                for number in numbers:
                    os.close(number)
            return close_them

        for numbers in ((2,), (1, 2), (0, 1, 2)):
            self.put(f"{len(numbers)}.json", ["Oslo", "Bergen"])
            done = self.run_through("--log-level", "debug", "--progress", "json", preexec_fn=close(numbers))
            self.assertEqual(done.returncode, 0)
            held = self.checkpoint_texts()
            self.assertNotIn(b'"batchId"', held)
            self.assertNotIn(b" D core ", held)
            self.assertEqual(sum(self.rows().values()), len(self.put_rows))
        self.whole()
        self.stopped(self.run_cli("run", "-e", "SELECT * FROM stdin", preexec_fn=close((0,))), 74, "standard input")
        self.stopped(self.run_cli("version", preexec_fn=close((1,))), 74, "standard output")

    # ---- I1: a slow sink ----

    def test_I1_a_sink_that_nobody_reads_stops_the_source_and_memory_stays_flat(self):
        self.write("s.sql", "SET trigger = '10 ms';\nCREATE TABLE numbers WITH (connector = 'rate', rows_per_second = '200000');\n"
                   "CREATE TABLE o WITH (connector = 'console', style = 'json');\nINSERT INTO o SELECT value FROM numbers;\n")
        read, write = os.pipe()
        process = self.start("run", "s.sql", stdout=write)
        os.close(write)

        def rss():
            with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def full():
            waiting = bytearray(4)
            fcntl.ioctl(read, termios.FIONREAD, waiting)
            return int.from_bytes(waiting, sys.byteorder) > 60000

        self.wait_for("full pipe", full)
        before = rss()
        select.select([process.stderr], [], [], 1)  # a second in which nothing can be written
        select.select([], [], [], 1)
        self.assertLess(rss() - before, 32 << 20)
        os.close(read)
        self.assertEqual(process.wait(WAIT), 74, process.stderr.read())

    # ---- J4: what is secret ----

    def test_J4_a_missing_secret_file_is_named_and_its_content_never_shown(self):
        secret = "correct-horse-battery-staple"
        self.write("password", secret + "\n")
        os.chmod(self.path("password"), 0o600)
        self.write("k.sql", "SET checkpoint = 'cp';\nSET unavailable_timeout = '1 ms';\n"
                   "CREATE TABLE src (v VARCHAR) WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't', format = 'json', "
                   "\"kafka.sasl.password\" = 'file:password', \"kafka.sasl.username\" = 'u', "
                   "\"kafka.security.protocol\" = 'SASL_PLAINTEXT', \"kafka.sasl.mechanism\" = 'PLAIN');\n"
                   "CREATE TABLE rows WITH (connector = 'file', path = 'out/rows', format = 'json');\n"
                   "INSERT INTO rows SELECT v FROM src;\n")
        for command in (("check", "k.sql"), ("run", "--until-caught-up", "--log-level", "debug", "--progress", "json", "k.sql")):
            done = self.run_cli(*command)
            if "this build has no Kafka" in done.stderr or "unknown connector" in done.stderr:
                self.skipTest("this build has no Kafka")
            self.assertNotIn(secret, done.stdout + done.stderr)
        self.assertNotIn(secret.encode(), self.checkpoint_texts())

    # ---- J6, J13 on the real program ----

    def test_J13_kills_and_starts_in_a_row_keep_the_log_bounded(self):
        self.put("a.json", ["Oslo"])
        self.ok()
        sizes = []
        for i in range(12):
            self.put(f"{i}.json", ["Oslo", "Bergen"])
            process = self.start("run", "--set", "trigger=1 ms", "q.sql", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.wait_for("output", self.has_all)
            process.send_signal(signal.SIGKILL)
            process.wait(WAIT)
            sizes.append(len(glob.glob(self.path("cp", "**", "*"), recursive=True)))
        self.assertLessEqual(max(sizes), min(sizes) + 12)
        self.whole()

    # ---- the JSON log ----

    def test_errors_are_lines_of_json_where_the_log_is(self):
        self.put("a.json", ["Oslo"])
        self.write("in/b.json", "no json\n")
        done = self.run_through("--log", "json")
        self.assertEqual(done.returncode, 65, done.stderr)
        last = json.loads(done.stderr.splitlines()[-1])
        self.assertEqual((last["level"], last["code"], last["exit"]), ("E", "MR_BAD_DATA", 65))
        self.assertIn("in/b.json", last["text"])


if __name__ == "__main__":
    unittest.main()
