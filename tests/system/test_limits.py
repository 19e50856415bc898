"""Memory and limits on the real binary: a budget B, a cage a stated margin larger, and every case must
end with the oracle's result or with the documented error, never by the kernel's hand.

The cage is a control group of our own where the machine lets us make one (version 2 or 1, no swap),
else RLIMIT_DATA. MARGIN says how much larger than the budget it is: the allocator's slack, the pages of
the program and of the SQL engine's library, and pages of files that the kernel has not taken back yet.

MILLRACE_LIMITS=long runs the long forms (make limits): ten million keys, a join of a million, a line of
a GiB."""
import collections
import glob
import gzip
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.environ["MILLRACE_SOURCE_DIR"], "tests", "support"))
import evidence  # noqa: E402  pylint: disable=wrong-import-position

BIN = os.environ["MILLRACE_BIN"]
WAIT = 1800 if os.environ.get("MILLRACE_LIMITS") == "long" else 240
LONG = os.environ.get("MILLRACE_LIMITS") == "long"
MIB = 1 << 20


def margin(budget):
    return budget // 4 + 32 * MIB


class Cage:
    """A place with so much memory and no more. One for each process."""

    def __init__(self, limit):
        self.limit = limit
        self.group = None
        name = f"millrace-limits-{os.getpid()}-{id(self):x}"
        for mount, files in (("/sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.max_usage_in_bytes")),
                             ("/sys/fs/cgroup", ("memory.max", "memory.peak"))):
            group = os.path.join(mount, name)
            try:
                os.mkdir(group)
                with open(os.path.join(group, files[0]), "w", encoding="ascii") as file:
                    file.write(str(limit))
            except OSError:
                if os.path.isdir(group):
                    os.rmdir(group)
                continue
            self.group, self.peak_file = group, os.path.join(group, files[1])
            for no_swap, value in (("memory.swap.max", "0"), ("memory.swappiness", "0")):
                try:
                    with open(os.path.join(group, no_swap), "w", encoding="ascii") as file:
                        file.write(value)
                except OSError:
                    pass
            break

    def enter(self):
        """In the child, before exec."""
        if self.group is not None:
            with open(os.path.join(self.group, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write("0")
        else:
            resource.setrlimit(resource.RLIMIT_DATA, (self.limit, self.limit))

    def peak(self):
        if self.group is None:
            return 0
        try:
            with open(self.peak_file, encoding="ascii") as file:
                return int(file.read())
        except OSError:
            return 0

    def leave(self):
        if self.group is not None:
            try:
                os.rmdir(self.group)
            except OSError:
                pass


class Measured(subprocess.Popen):
    """Keeps what the kernel says of the process when it has ended."""
    usage = None

    def _try_wait(self, wait_flags):
        try:
            pid, status, usage = os.wait4(self.pid, wait_flags)
        except ChildProcessError:
            return self.pid, 0
        if pid == self.pid:
            self.usage = usage
        return pid, status

    def resident(self):
        """Its own pages and those of files it had mapped, at their most."""
        return self.usage.ru_maxrss * 1024 if self.usage is not None else 0


class Limits(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-limits-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def start(self, *args, budget=None, limits=None, **more):
        """A process in its cage; budget None: no cage."""
        cage = Cage(budget + margin(budget)) if budget is not None else None

        def prepare():
            if cage is not None:
                cage.enter()
            for which, value in (limits or {}).items():
                resource.setrlimit(which, (value, value))

        if budget is not None:
            args = (*args[:1], "--memory", f"{budget}B", *args[1:])
        more.setdefault("stdin", subprocess.DEVNULL)
        more.setdefault("stdout", subprocess.PIPE)
        # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
        process = Measured([BIN, *args], cwd=self.dir, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=prepare, **more)
        process.cage = cage
        self.addCleanup(self.end, process)
        return process

    @staticmethod
    def end(process):
        process.kill()
        process.communicate()
        if process.cage is not None:
            process.cage.leave()

    def finish(self, process, case=None, budget=None):
        out, err = process.communicate(timeout=WAIT)
        if case is not None and process.cage is not None:
            evidence.add("limits", f"{case}_budget_max", budget)
            evidence.add("limits", f"{case}_cage_max", process.cage.limit)
            evidence.add("limits", f"{case}_cage_peak_max", process.cage.peak())
            evidence.add("limits", f"{case}_resident_max", process.resident())
            self.assertGreater(process.resident(), 0)
            self.assertLess(process.resident(), budget + margin(budget))
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_caged(self, case, budget, *args, **more):
        done = self.finish(self.start(*args, budget=budget, **more), case, budget)
        self.assertNotEqual(done.returncode, -signal.SIGKILL, f"{case}: the kernel killed it")
        return done

    def rows(self, output="out"):
        for name in sorted(glob.glob(self.path(output, "part-*"))):
            with open(name, encoding="utf-8") as file:
                for line in file:
                    yield json.loads(line)

    @staticmethod
    def metrics(done):
        reports = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
        return [report["metrics"] for report in reports]

    # ---- state larger than memory ----

    def groups(self, keys, rounds):
        """Each key in every round: as many rows a key, and sums that are known."""
        self.write("q.sql", f"""
SET checkpoint = 'cp';
CREATE TABLE src (v BIGINT) WITH (connector = 'datagen', rows = {keys * rounds}, rows_per_batch = 10000000,
  'fields.v.kind' = 'sequence');
CREATE TABLE out (k BIGINT, n BIGINT, s BIGINT) WITH (connector = 'file', path = 'out', format = 'json');
SET output_mode = 'update';
INSERT INTO out SELECT (v * 7919) % {keys} AS k, count(*) AS n, sum(v) AS s FROM src
  GROUP BY (v * 7919) % {keys};
""")

    def check_groups(self, keys, rounds):
        newest = {}
        for row in self.rows():
            known = newest.get(row["k"], (0, 0))
            self.assertGreater(row["n"], known[0], "a group's row is written once for each of its values")
            newest[row["k"]] = (row["n"], row["s"])
        self.assertEqual(len(newest), keys)
        inverse = pow(7919, -1, keys)
        for k, (n, s) in newest.items():
            first = k * inverse % keys
            self.assertEqual((n, s), (rounds, rounds * first + keys * rounds * (rounds - 1) // 2), k)

    def test_C13_H17_more_keys_than_memory_spill_and_are_counted_exactly(self):
        keys, budget = (10_000_000, 512 * MIB) if LONG else (700_000, 128 * MIB)
        self.groups(keys, 2)
        done = self.run_caged("keys", budget, "run", "--until-caught-up", "--progress", "json", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertGreater(max(one["state_spilled_bytes"] for one in self.metrics(done)), 0)
        self.check_groups(keys, 2)
        evidence.add("limits", "keys_keys_max", keys)

    def test_C12_C13_a_kill_while_state_is_spilled_loses_and_doubles_nothing(self):
        keys, budget = (2_000_000, 256 * MIB) if LONG else (500_000, 112 * MIB)
        self.groups(keys, 3)
        killed = 0
        for batches in (2, 5, 9):
            process = self.start("run", "--until-caught-up", "--progress", "json", "q.sql", budget=budget)
            spilled = 0
            for line in process.stderr:
                if line.startswith("{") and json.loads(line)["metrics"]["state_spilled_bytes"] > 0:
                    spilled += 1
                if spilled == batches:
                    process.send_signal(signal.SIGKILL)
                    killed += 1
                    break
            process.wait(timeout=WAIT)
            if process.returncode == 0:
                break
        self.assertGreater(killed, 0)
        self.assertEqual(glob.glob(self.path("cp", "**", "*spill*"), recursive=True), [])
        done = self.run_caged("restart", budget, "run", "--until-caught-up", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.check_groups(keys, 3)
        evidence.add("limits", "kills_while_spilled", killed)

    def test_C13_a_spill_file_that_is_lost_ends_with_74_and_the_next_start_goes_on(self):
        keys, budget = 500_000, 112 * MIB
        self.groups(keys, 3)
        process = self.start("run", "--until-caught-up", "--progress", "json", "q.sql", budget=budget)
        for line in process.stderr:
            if line.startswith("{") and json.loads(line)["metrics"]["state_spilled_bytes"] > 0:
                break
        for fd in os.listdir(f"/proc/{process.pid}/fd"):
            try:
                if "(deleted)" in os.readlink(f"/proc/{process.pid}/fd/{fd}"):
                    os.truncate(f"/proc/{process.pid}/fd/{fd}", 0)
            except OSError:
                pass
        done = self.finish(process)
        self.assertEqual(done.returncode, 74, done.stderr[-2000:])
        self.assertIn("cannot read spilled state", done.stderr)
        done = self.run_caged("after_loss", budget, "run", "--until-caught-up", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.check_groups(keys, 3)

    @staticmethod
    def padding(number):
        return hashlib.sha512(b"%d" % number).hexdigest()  # nothing that could be packed

    def test_C13_a_join_of_more_rows_than_memory_spills_and_is_exact(self):
        keys, budget = (1_000_000, 256 * MIB) if LONG else (200_000, 96 * MIB)
        self.write("q.sql", """
SET checkpoint = 'cp';
CREATE TABLE a (v BIGINT, p TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 hour') WITH (connector = 'file', path = 'a', format = 'json');
CREATE TABLE b (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 hour') WITH (connector = 'file', path = 'b', format = 'json');
CREATE TABLE out (k BIGINT, x BIGINT, p TEXT) WITH (connector = 'file', path = 'out', format = 'json');
INSERT INTO out SELECT a.v AS k, a.v + b.v AS x, a.p AS p FROM a JOIN b ON a.v = b.v
  AND b.ts BETWEEN a.ts - INTERVAL '1 hour' AND a.ts + INTERVAL '1 hour';
""")
        step = 10_000
        tail = '"ts": "2024-01-01 00:00:00"}\n'
        for first in range(0, keys, step):
            self.write(f"a/{first:09}.json", "".join(
                f'{{"v": {v}, "p": "{self.padding(v)}", {tail}' for v in range(first, first + step)))
            self.write(f"b/{first:09}.json", "".join(
                f'{{"v": {v}, {tail}' for v in range(keys - first - step, keys - first)))
        done = self.run_caged("join", budget, "run", "--until-caught-up", "--progress", "json", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertEqual(sorted((row["k"], row["x"], row["p"]) for row in self.rows()),
                         [(v, 2 * v, self.padding(v)) for v in range(keys)])
        evidence.add("limits", "join_keys_max", keys)
        spilled = max(one["state_spilled_bytes"] for one in self.metrics(done))
        self.assertGreater(spilled, 0)
        evidence.add("limits", "join_spilled_max", spilled)

    def test_C13_what_cannot_fit_fails_with_71_and_says_who_has_the_memory(self):
        self.write("q.sql", """
CREATE TABLE src (v BIGINT) WITH (connector = 'datagen', rows = 3000000, rows_per_batch = 3000000,
  'fields.v.kind' = 'sequence');
SET trigger = 'once';
CREATE TABLE out (k BIGINT, n BIGINT) WITH (connector = 'null');
INSERT INTO out SELECT v AS k, count(*) AS n FROM src GROUP BY v;
""")
        done = self.run_caged("too_much", 96 * MIB, "run", "q.sql")
        self.assertEqual(done.returncode, 71, done.stderr[-2000:])
        for part in ("'memory' is 96 MiB", "'out.agg'", "keys", "smaller batches"):
            self.assertIn(part, done.stderr)

    # ---- input that comes faster than it is worked on ----

    def flood(self, connection, lines, size):
        line = b"x" * (size - 10)
        try:
            with connection:
                for first in range(0, lines, 1000):
                    connection.sendall(b"".join(b"%09d%s\n" % (i, line) for i in range(first, first + 1000)))
        except OSError:
            pass  # the test that reads what arrived says what is missing

    def test_G13_a_flood_from_a_socket_waits_at_the_log_and_nothing_is_lost(self):
        lines, size, budget = (4_000_000, 250, 128 * MIB) if LONG else (400_000, 500, 96 * MIB)
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        self.write("q.sql", f"""
SET checkpoint = 'cp';
CREATE TABLE lines WITH (connector = 'socket', host = '127.0.0.1', port = '{server.getsockname()[1]}');
CREATE TABLE out (n BIGINT, distinct_rows BIGINT, least TEXT, most TEXT)
  WITH (connector = 'file', path = 'out', format = 'json');
SET output_mode = 'update';
INSERT INTO out SELECT count(*) AS n, sum(CAST(substr(value, 1, 9) AS BIGINT)) AS distinct_rows,
  min(substr(value, 1, 9)) AS least, max(substr(value, 1, 9)) AS most FROM lines;
""")
        process = self.start("run", "q.sql", budget=budget)
        connection, _ = server.accept()
        sender = threading.Thread(target=self.flood, args=(connection, lines, size))
        sender.start()
        deadline = time.monotonic() + WAIT
        newest = {}
        while newest.get("n") != lines and process.poll() is None:
            self.assertLess(time.monotonic(), deadline, f"only {newest}")
            newest = collections.deque(self.rows(), 1)[0] if glob.glob(self.path("out", "part-*")) else {}
            time.sleep(0.1)  # polling another process for its output, bounded by the deadline
        process.send_signal(signal.SIGINT)
        done = self.finish(process, "flood", budget)
        sender.join()
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertEqual(newest, {"n": lines, "distinct_rows": lines * (lines - 1) // 2, "least": "000000000",
                                  "most": f"{lines - 1:09}"})
        evidence.add("limits", "flood_bytes_max", lines * size)

    def test_I1_a_sink_that_takes_nothing_holds_the_source_back_and_memory_stays_flat(self):
        budget = 96 * MIB
        self.write("q.sql", """
CREATE TABLE src (v BIGINT, pad TEXT) WITH (connector = 'datagen', rows = 60000, rows_per_batch = 5000,
  'fields.v.kind' = 'sequence', 'fields.pad.length' = 200);
CREATE TABLE out (v BIGINT, pad TEXT) WITH (connector = 'console', style = 'json');
INSERT INTO out SELECT v, pad FROM src;
""")
        process = self.start("run", "--until-caught-up", "q.sql", budget=budget)
        clock = resident = None
        deadline = time.monotonic() + WAIT
        still = 0
        while still < 20:  # nobody reads: it stands still once the pipe is full
            self.assertLess(time.monotonic(), deadline)
            self.assertIsNone(process.poll())
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            now = (fields[11], fields[12])
            still = still + 1 if now == clock and int(now[0]) > 0 else 0
            clock = now
            time.sleep(0.02)  # looking whether another process stands still, bounded by the deadline
        with open(f"/proc/{process.pid}/statm", encoding="ascii") as file:
            resident = int(file.read().split()[1]) * resource.getpagesize()
        self.assertLess(resident, budget)
        done = self.finish(process, "slow_sink", budget)
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertEqual([json.loads(line)["v"] for line in done.stdout.splitlines()], list(range(60000)))
        evidence.add("limits", "slow_sink_still_max", resident)

    # ---- one thing that is too large ----

    def test_H6_a_line_without_an_end_is_dropped_counted_and_costs_no_memory(self):
        size, budget = (1 << 30, 128 * MIB) if LONG else (160 * MIB, 96 * MIB)
        os.mkdir(self.path("in"))
        with open(self.path("in", "a.txt"), "wb") as file:
            file.truncate(size)  # a hole: one line of zeros
            file.seek(0, os.SEEK_END)
            file.write(b"\nlast line, no end")
        self.write("q.sql", """
CREATE TABLE src WITH (connector = 'file', path = 'in', format = 'text', on_error = 'skip');
CREATE TABLE out WITH (connector = 'file', path = 'out', format = 'json');
INSERT INTO out SELECT value FROM src;
""")
        done = self.run_caged("line", budget, "run", "--until-caught-up", "--progress", "json", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.assertEqual([row["value"] for row in self.rows()], ["last line, no end"])
        self.assertEqual(self.metrics(done)[-1]["bad_rows"], 1)
        evidence.add("limits", "line_bytes_max", size)

    def test_H17_a_group_key_of_16_MiB_is_refused_by_name(self):
        self.write("in/a.json", json.dumps({"k": "x" * (16 * MIB)}) + "\n")
        self.write("q.sql", """
CREATE TABLE src (k TEXT) WITH (connector = 'file', path = 'in', format = 'json', max_line_bytes = '32 MiB');
CREATE TABLE out (k TEXT, n BIGINT) WITH (connector = 'file', path = 'out', format = 'json');
SET output_mode = 'update';
INSERT INTO out SELECT k, count(*) AS n FROM src GROUP BY k;
""")
        done = self.run_caged("key", 256 * MIB, "run", "--until-caught-up", "q.sql")
        self.assertEqual(done.returncode, 71, done.stderr[-2000:])
        self.assertIn("bytes, the limit is 1048575", done.stderr)
        self.assertEqual(list(self.rows()), [])

    def test_G10_a_compressed_bomb_is_refused_before_anything_is_unpacked(self):
        os.mkdir(self.path("in"))
        with gzip.open(self.path("in", "a.json.gz"), "wb", 1) as file:
            for _ in range(256 if LONG else 32):
                file.write(b"0" * MIB)
        self.write("q.sql", """
CREATE TABLE src (k TEXT) WITH (connector = 'file', path = 'in', format = 'json');
CREATE TABLE out WITH (connector = 'null');
INSERT INTO out SELECT k FROM src;
""")
        done = self.run_caged("bomb", 64 * MIB, "run", "--until-caught-up", "q.sql")
        self.assertIn(done.returncode, (65, 78), done.stderr[-2000:])
        self.assertIn("a.json.gz", done.stderr)

    # ---- limits of the process ----

    def test_J12_small_limits_of_the_process_end_with_an_error_that_names_them(self):
        self.groups(1000, 1)
        for limits, codes, parts in (
                ({resource.RLIMIT_NOFILE: 16}, (0, 71, 78), ("ulimit -n",)),
                ({resource.RLIMIT_AS: 64 * MIB}, (71, 78), ("memory", "ulimit -v")),
                ({resource.RLIMIT_FSIZE: 4096}, (71, 73, 74), ("ulimit -f",))):
            with self.subTest(limits=limits):
                shutil.rmtree(self.path("cp"), True)
                shutil.rmtree(self.path("out"), True)
                done = self.finish(self.start("run", "--until-caught-up", "q.sql", limits=limits))
                self.assertIn(done.returncode, codes, done.stderr[-2000:])
                if done.returncode != 0:
                    self.assertTrue(any(part in done.stderr for part in parts), done.stderr[-2000:])
                done = self.finish(self.start("run", "--until-caught-up", "q.sql"))
                self.assertEqual(done.returncode, 0, done.stderr[-2000:])
                self.check_groups(1000, 1)

    def test_the_memory_of_a_control_group_is_respected_without_being_told(self):
        cage = Cage(200 * MIB)
        if cage.group is None:
            self.skipTest("this machine lets us make no control group")
        self.addCleanup(cage.leave)
        self.groups(1000, 1)
        # pylint: disable=subprocess-run-check,subprocess-popen-preexec-fn
        done = subprocess.run([BIN, "run", "--until-caught-up", "q.sql"], cwd=self.dir, text=True, timeout=WAIT,
                              capture_output=True, preexec_fn=cage.enter, env={**os.environ, "MILLRACE_LOG": "debug"})
        self.assertEqual(done.returncode, 0, done.stderr[-2000:])
        self.check_groups(1000, 1)

    def test_every_limit_of_the_table_stands_in_the_code_and_is_printed(self):
        source = os.path.join(os.environ["MILLRACE_SOURCE_DIR"], "src")
        with open(os.path.join(source, "base", "limits.h"), encoding="utf-8") as file:
            names = re.findall(r"\bX\(([A-Z_]+), ", file.read())
        code = ""
        for name in glob.glob(os.path.join(source, "**", "*.[ch]"), recursive=True):
            if not name.endswith("base/limits.h"):
                with open(name, encoding="utf-8") as file:
                    code += file.read()
        done = self.finish(self.start("options", "--limits"))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertGreater(len(names), 100)
        for name in names:
            self.assertRegex(code, rf"\bMR_LIMIT_{name}\b")
            self.assertRegex(done.stdout, rf"(?m)^  {name.lower()} ")
        evidence.add("limits", "limits_named_max", len(names))

    def test_memory_that_is_no_size_or_too_small_is_refused(self):
        self.groups(10, 1)
        for value in ("lots", "1 MiB"):
            done = self.finish(self.start("run", "--memory", value, "q.sql"))
            self.assertIn(done.returncode, (64, 78), done.stderr)
            self.assertIn("memory", done.stderr)


if __name__ == "__main__":
    unittest.main()
