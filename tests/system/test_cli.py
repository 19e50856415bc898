"""The command from outside: what it prints, its exit codes, and that a checkpoint can be started again
once the cause of an error is gone. Each test has a directory of its own and runs the real binary."""
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

BIN = os.environ["MILLRACE_BIN"]
SOURCE = os.environ["MILLRACE_SOURCE_DIR"]
WAIT = 60  # seconds until a process counts as hung

COUNT = """
SET checkpoint = 'cp';
CREATE TABLE src (k BIGINT, city VARCHAR) WITH (connector = 'file', path = 'in', format = 'json'{source});
CREATE TABLE dst (city VARCHAR, n BIGINT) WITH (connector = 'file', path = 'out', format = 'json');
SET output_mode = 'update';
INSERT INTO dst SELECT city, count(*) AS n FROM src GROUP BY city;
"""


class Cli(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-cli-")
        os.mkdir(os.path.join(self.dir, "in"))
        self.addCleanup(shutil.rmtree, self.dir, True)

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        mode = "wb" if isinstance(text, bytes) else "w"
        hidden = self.path(os.path.dirname(name), ".new")  # files appear whole, under their name
        with open(hidden, mode) as file:
            file.write(text)
        os.rename(hidden, self.path(name))

    def run_cli(self, *args, stdin="", **more):
        return subprocess.run([BIN, *args], cwd=self.dir, input=stdin, capture_output=True, text=True,
                              timeout=WAIT, **more)

    def expect(self, code, text, *args, **more):
        """Runs, wants that exit code, one line on standard error with that text, and returns the result."""
        done = self.run_cli(*args, **more)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        lines = [line for line in done.stderr.splitlines() if line.startswith("millrace: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertIn(text, lines[0])
        return done

    def rows(self):
        """All rows of all visible output files, as they are: never de-duplicated."""
        rows = []
        for name in sorted(glob.glob(self.path("out", "*.json"))):
            with open(name) as file:
                rows += [tuple(sorted(json.loads(line).items())) for line in file]
        return sorted(rows)

    def totals(self):
        """Update mode: the newest count of each city."""
        newest = {}
        for name in sorted(glob.glob(self.path("out", "*.json"))):
            with open(name) as file:
                for line in file:
                    row = json.loads(line)
                    newest[row["city"]] = row["n"]
        return newest

    def test_every_command_has_help_that_names_its_flags(self):
        for command in ("run", "check", "state", "checkpoint", "options", "version"):
            done = self.run_cli(command, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn("usage: millrace " + command, done.stdout)
            self.assertIn("--log-level", done.stdout)

    def test_a_wrong_command_or_flag_names_the_nearest(self):
        self.expect(64, "did you mean 'check'", "chekc")
        self.expect(64, "did you mean --until-caught-up", "run", "--until-caugth-up", "x.sql")

    def test_a_missing_file_is_a_usage_error(self):
        self.expect(64, "nothing.sql", "run", "nothing.sql")

    def test_an_unknown_column_has_its_place_and_a_caret(self):
        self.write("q.sql", COUNT.format(source="").replace("SELECT city,", "SELECT citty,"))
        done = self.expect(64, "q.sql:6:24", "check", "q.sql")
        self.assertIn("citty", done.stderr)
        self.assertRegex(done.stderr, r"\n +\^\n")

    def test_of_a_long_line_the_part_around_the_mistake_is_shown(self):
        self.write("q.sql", COUNT.format(source="").replace("SELECT city,", "SELECT [" + "city, " * 5000 + "cti" + ", city" * 5000 + "],"))
        done = self.expect(64, "", "check", "q.sql")
        line, caret = done.stderr.split("\n")[1:3]
        self.assertLess(len(line), 200)
        self.assertTrue(line.startswith("  ...") and line.endswith("..."))
        self.assertEqual(caret.strip(), "^")

    def test_explain_shows_the_plan_and_runs_nothing(self):
        self.write("q.sql", COUNT.format(source="").replace("INSERT INTO", "EXPLAIN INSERT INTO"))
        done = self.run_cli("run", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("source src: file", done.stdout)
        self.assertEqual(done.stdout.split("checkpoint")[0], self.run_cli("check", "q.sql").stdout.split("checkpoint")[0])
        self.assertFalse(os.path.exists(os.path.join(self.dir, "out")))

    def test_an_unknown_option_names_the_nearest(self):
        self.write("q.sql", COUNT.format(source=", max_files_per_triger = '1'"))
        self.expect(78, "max_files_per_trigger", "check", "q.sql")

    def test_an_unknown_connector_is_a_configuration_error(self):
        self.write("q.sql", COUNT.format(source="").replace("'file', path = 'in'", "'files', path = 'in'"))
        self.expect(78, "files", "check", "q.sql")

    def test_what_is_not_supported_is_refused_with_its_place(self):
        self.write("q.sql", COUNT.format(source="").replace(
            "SELECT city, count(*) AS n FROM src GROUP BY city", "SELECT city, k FROM src ORDER BY k"))
        done = self.expect(64, "q.sql:6:", "check", "q.sql")
        self.assertIn("ORDER BY needs the whole result", done.stderr)

    def test_check_touches_nothing(self):
        self.write("q.sql", COUNT.format(source=""))
        done = self.run_cli("check", "q.sql")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists(self.path("cp")))
        self.assertFalse(os.path.exists(self.path("out")))
        self.assertIn("cp", done.stdout)

    def test_a_pipeline_goes_on_where_it_stopped_and_its_state_can_be_read(self):
        self.write("q.sql", COUNT.format(source=""))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n{"k": 2, "city": "Bergen"}\n')
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        self.write("in/b.json", '{"k": 3, "city": "Oslo"}')
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        self.assertEqual(self.totals(), {"Oslo": 2, "Bergen": 1})
        listed = self.run_cli("state", "ls", "cp")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        store = next(line.split()[0] for line in listed.stdout.splitlines() if "agg" in line)
        exported = self.run_cli("state", "export", "cp", store)
        rows = [json.loads(line) for line in exported.stdout.splitlines()]
        self.assertEqual(sorted(list(row.values()) for row in rows), [["Bergen", 1], ["Oslo", 2]])
        self.assertIn("Oslo", self.run_cli("state", "get", "cp", store, "Oslo").stdout)
        self.expect(66, "Paris", "state", "get", "cp", store, "Paris")
        shown = self.run_cli("checkpoint", "show", "cp")
        self.assertIn("PLAN 1", shown.stdout)
        self.assertIn("COMMIT 1", shown.stdout)
        self.assertEqual(self.run_cli("checkpoint", "verify", "cp").returncode, 0)

    def test_a_damaged_checkpoint_is_refused_and_verify_says_where(self):
        self.write("q.sql", COUNT.format(source=""))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        log = sorted(glob.glob(self.path("cp", "log", "*.log")))[0]
        with open(log, "rb") as file:
            whole = file.read()
        at = whole.index(b"Oslo")
        with open(log, "r+b") as file:
            file.seek(at)
            file.write(b"oslo")
        self.expect(74, os.path.basename(log), "run", "--until-caught-up", "q.sql")
        self.expect(74, os.path.basename(log), "checkpoint", "verify", "cp")
        with open(log, "r+b") as file:
            file.write(whole)
        self.write("in/b.json", '{"k": 3, "city": "Oslo"}')
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        self.assertEqual(self.totals(), {"Oslo": 2})

    def bad_line(self, line, text, policy=""):
        self.write("q.sql", COUNT.format(source=policy))
        good = '{"k": 1, "city": "Oslo"}\n'
        self.write("in/a.json", (good.encode() if isinstance(line, bytes) else good) + line)
        return self.expect(65, text, "run", "--until-caught-up", "q.sql") if not policy else \
            self.run_cli("run", "--until-caught-up", "q.sql")

    def test_a_json_line_cut_in_half_names_file_and_line(self):
        self.bad_line('{"k": 2, "ci', "a.json")

    def test_a_value_that_does_not_fit_its_type_names_file_line_and_column(self):
        self.write("q.sql", COUNT.format(source="").replace("count(*)", "sum(k)"))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n{"k": "two", "city": "Oslo"}\n')
        done = self.expect(65, "a.json", "run", "--until-caught-up", "q.sql")
        self.assertIn("line 2", done.stderr)
        self.assertIn("'k'", done.stderr)

    def test_invalid_utf8_is_bad_data(self):
        self.bad_line(b'{"k": 2, "city": "\xff\xfe"}\n', "a.json")

    def test_a_line_of_100_megabytes_is_over_the_limit(self):
        self.bad_line('{"k": 2, "city": "' + "x" * 100_000_000 + '"}\n', "max_line_bytes")

    def test_bad_lines_can_be_skipped_and_are_counted(self):
        done = self.bad_line('{"k": 2, "ci', "", ", on_error = 'skip'")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 records could not be decoded", done.stderr)
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_after_bad_data_the_checkpoint_starts_again(self):
        self.bad_line('{"k": 2, "ci', "a.json")
        self.write("q.sql", COUNT.format(source=", on_error = 'skip'"))
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_a_missing_input_directory_is_a_configuration_error(self):
        self.write("q.sql", COUNT.format(source="").replace("path = 'in'", "path = 'nowhere'"))
        self.expect(78, "nowhere", "run", "q.sql")

    def test_an_output_directory_of_another_query_is_refused(self):
        self.write("q.sql", COUNT.format(source=""))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        self.expect(78, "out", "run", "--until-caught-up", "--checkpoint", "cp2", "q.sql")

    def start(self, *args):
        process = subprocess.Popen([BIN, *args], cwd=self.dir, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, what, check):
        deadline = time.monotonic() + WAIT
        while not check():
            self.assertLess(time.monotonic(), deadline, "no " + what)
            time.sleep(0.01)  # polling another process for an event, bounded by the deadline

    def test_a_busy_checkpoint_names_its_holder_and_the_holder_goes_on(self):
        self.write("q.sql", COUNT.format(source=""))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        first = self.start("run", "q.sql")
        self.wait_for("output", lambda: self.totals() == {"Oslo": 1})
        self.expect(75, str(first.pid), "run", "q.sql")
        self.write("in/b.json", '{"k": 1, "city": "Oslo"}\n')
        self.wait_for("output", lambda: self.totals() == {"Oslo": 2})
        first.send_signal(signal.SIGINT)
        self.assertEqual(first.wait(WAIT), 0)

    def test_the_first_signal_finishes_the_second_quits(self):
        self.write("q.sql", COUNT.format(source=""))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        for count, number in ((1, signal.SIGINT), (2, signal.SIGTERM)):
            process = self.start("run", "q.sql")
            self.write("in/%d.json" % count, '{"k": 1, "city": "Oslo"}\n')
            self.wait_for("output", lambda want=count + 1: self.totals() == {"Oslo": want})
            process.send_signal(number)
            self.assertEqual(process.wait(WAIT), 0)

    def test_a_closed_standard_output_is_an_error_not_a_death(self):
        process = self.start("run", "-e", "SELECT value FROM numbers; CREATE TABLE numbers (value BIGINT) "
                             "WITH (connector = 'rate', rows_per_second = '1000')")
        process.stdout.close()
        if process.wait(WAIT) == 64:  # statements in order: the table comes first
            process = self.start("run", "-e", "CREATE TABLE numbers WITH (connector = 'rate', "
                                 "rows_per_second = '1000'); SELECT value FROM numbers")
            process.stdout.close()
        self.assertEqual(process.wait(WAIT), 74, process.stderr.read())

    def test_a_one_liner_counts_standard_input(self):
        done = self.run_cli("run", "-e", "SELECT city, count(*) AS n FROM stdin GROUP BY city",
                            stdin='{"city": "Oslo"}\n{"city": "Bergen"}\n{"city": "Oslo"}\n')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"Oslo\s*\|\s*2")
        self.assertRegex(done.stdout, r"Bergen\s*\|\s*1")

    def test_a_full_disk_is_an_error_and_the_next_start_goes_on(self):
        if os.geteuid() != 0:
            self.skipTest("mounting a small file system needs root")
        small = self.path("small")
        os.mkdir(small)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small]).returncode != 0:
            self.skipTest("cannot mount a tmpfs here")
        self.addCleanup(subprocess.run, ["umount", small])
        self.write("q.sql", COUNT.format(source="").replace("'cp'", "'small/cp'"))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        with open(os.path.join(small, "ballast"), "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096) == 4096:
                    pass
            except OSError:
                pass  # that was the last free byte
        self.expect(74, "space", "run", "--until-caught-up", "q.sql")
        os.unlink(os.path.join(small, "ballast"))
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_verify_checks_received_blocks_too(self):
        done = self.run_cli("run", "--checkpoint", "cp", "-e", "SELECT city FROM stdin",
                            stdin='{"city": "Oslo"}\n')
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(self.run_cli("checkpoint", "verify", "cp").stdout, "received blocks of 'stdin' are good")
        block = glob.glob(self.path("cp", "received", "stdin", "*.blk"))[0]
        with open(block, "rb") as file:
            at = file.read().index(b"Oslo")
        with open(block, "r+b") as file:
            file.seek(at)
            file.write(b"oslo")
        self.expect(74, ".blk", "checkpoint", "verify", "cp")

    def test_B22_verify_names_the_batches_whose_output_files_are_gone(self):
        self.write("q.sql", COUNT.format(source=", maxFilesPerTrigger = 1"))
        for name in "abc":
            self.write(f"in/{name}.json", '{"k": 1, "city": "Oslo"}\n')
        self.assertEqual(self.run_cli("run", "--until-caught-up", "q.sql").returncode, 0)
        whole = self.run_cli("checkpoint", "verify", "--output", "dst=out", "cp")
        self.assertEqual((whole.returncode, whole.stderr), (0, ""))
        self.assertIn("the files of 3 batches are in 'out'", whole.stdout)
        os.unlink(glob.glob(self.path("out", "part-0000000001-*"))[0])
        lacking = self.run_cli("checkpoint", "verify", "--output", "dst=out", "cp")
        self.assertEqual(lacking.returncode, 74)
        self.assertIn("batch 1: table 'dst' wrote 1 files, and 0 are in 'out'", lacking.stderr)
        self.assertIn("'out' is not whole", lacking.stderr)
        self.expect(64, "no batch in the log has a receipt of a table 'src'", "checkpoint", "verify", "--output", "src=out", "cp")
        self.expect(64, "say TABLE=DIR", "checkpoint", "verify", "--output", "out", "cp")
        self.expect(66, "nowhere", "checkpoint", "verify", "--output", "dst=nowhere", "cp")

    def test_environment_variables_are_filled_in_and_missing_ones_named(self):
        self.write("q.sql", COUNT.format(source="").replace("'in'", "'${INPUT_DIR}'"))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        self.expect(78, "INPUT_DIR", "check", "q.sql")
        done = self.run_cli("run", "--until-caught-up", "q.sql", env={**os.environ, "INPUT_DIR": "in"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_the_options_page_is_what_the_program_prints(self):
        with open(os.path.join(SOURCE, "docs", "options.md")) as file:
            page = file.read()
        done = self.run_cli("options", "--markdown")
        self.assertEqual(done.returncode, 0)
        if "`kafka`" not in done.stdout:
            self.skipTest("built without kafka: its options are missing")
        self.assertEqual(done.stdout, page, "run: millrace options --markdown > docs/options.md")

    def test_the_limits_page_is_what_the_program_prints(self):
        with open(os.path.join(SOURCE, "docs", "limits.md")) as file:
            page = file.read()
        done = self.run_cli("options", "--limits-markdown")
        self.assertEqual(done.returncode, 0)
        self.assertEqual(done.stdout, page,
                         "run: millrace options --limits-markdown > docs/limits.md")

    def test_the_metrics_page_is_what_the_program_prints_and_counts(self):
        with open(os.path.join(SOURCE, "docs", "metrics.md")) as file:
            page = file.read()
        done = self.run_cli("options", "--metrics-markdown")
        self.assertEqual(done.stdout, page,
                         "run: millrace options --metrics-markdown > docs/metrics.md")
        self.write("q.sql", COUNT.format(source=""))
        self.write("in/a.json", '{"k": 1, "city": "Oslo"}\n')
        done = self.run_cli("run", "--until-caught-up", "--progress", "json", "q.sql")
        counted = json.loads(done.stderr.splitlines()[-1])["metrics"]
        self.assertEqual(list(counted), re.findall(r"^\| `(\w+)`", page, re.M))
        self.assertEqual(counted["input_rows"], 1)

    def test_version_names_what_it_stands_on(self):
        done = self.run_cli("version", "--deps")
        self.assertRegex(done.stdout, r"millrace \d+\.\d+\.\d+")
        self.assertRegex(done.stdout, r"duckdb +v\d")


if __name__ == "__main__":
    unittest.main()
