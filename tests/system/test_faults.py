"""Rows of the fault catalogue on the real binary and the real kernel: each test begins with the row's
id (docs/faults.md lists them all)."""
import glob
import json
import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

BIN = os.environ["MILLRACE_BIN"]
WAIT = 60  # seconds until a process counts as hung

COUNT = """
SET checkpoint = '{checkpoint}';
CREATE TABLE src (k BIGINT, city VARCHAR) WITH (connector = 'file', path = '{source}', format = 'json'{options});
CREATE TABLE dst (city VARCHAR, n BIGINT) WITH (connector = 'file', path = '{output}', format = 'json');
SET output_mode = 'update';
INSERT INTO dst SELECT city, count(*) AS n FROM src GROUP BY city;
"""


class Faults(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-faults-")
        os.mkdir(self.path("in"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.query()

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def query(self, checkpoint="cp", source="in", output="out", options=""):
        with open(self.path("q.sql"), "w") as file:
            file.write(COUNT.format(checkpoint=checkpoint, source=source, output=output, options=options))

    def put(self, name, cities, when=None):
        """An input file that appears whole, with one row for each city."""
        hidden = self.path("in", ".new")
        with open(hidden, "w") as file:
            for city in cities:
                file.write(json.dumps({"k": 1, "city": city}) + "\n")
        if when is not None:
            os.utime(hidden, (when, when))
        os.rename(hidden, self.path("in", name))

    def run_cli(self, *args, **more):
        return subprocess.run([BIN, *args], cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True, timeout=WAIT, **more)

    def run_through(self, **more):
        return self.run_cli("run", "--until-caught-up", "q.sql", **more)

    def expect_ok(self, **more):
        done = self.run_through(**more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def expect(self, code, *texts, **more):
        done = self.run_through(**more)
        self.assertEqual(done.returncode, code, done.stderr)
        for text in texts:
            self.assertIn(text, done.stderr)

    def totals(self, output="out"):
        """The newest count of each city; and no city's count is ever written twice."""
        newest, seen = {}, set()
        for name in sorted(glob.glob(self.path(output, "*.json"))):
            with open(name) as file:
                for line in file:
                    row = json.loads(line)
                    pair = (row["city"], row["n"])
                    self.assertNotIn(pair, seen)
                    seen.add(pair)
                    newest[row["city"]] = row["n"]
        return newest

    def contents(self, output):
        found = []
        for name in sorted(glob.glob(self.path(output, "*.json"))):
            with open(name, "rb") as file:
                found.append((os.path.basename(name), file.read()))
        return found

    def start(self, *args, **more):
        process = subprocess.Popen([BIN, *(args or ("run", "q.sql"))], cwd=self.dir, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)
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

    def parts(self, folder, pattern):
        return sorted(glob.glob(self.path("cp", folder, pattern), recursive=True))

    # ---- B: the checkpoint ----

    def test_B2_B3_a_damaged_log_stops_the_start_and_changes_nothing(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        log = self.parts("log", "*.log")[-1]
        with open(log, "rb") as file:
            whole = file.read()
        for at in (9, 600):
            with open(log, "wb") as file:
                file.write(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
            before = os.listdir(self.path("cp", "log"))
            self.expect(74, "cp/log")
            self.assertEqual(os.listdir(self.path("cp", "log")), before)
        with open(log, "wb") as file:
            file.write(whole)
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_B12_a_checkpoint_without_its_identity_is_refused(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        os.rename(self.path("cp", "query"), self.path("query"))
        self.expect(74, "'query' is missing")
        os.rename(self.path("query"), self.path("cp", "query"))
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_B17_a_copied_checkpoint_cannot_write_to_the_output_of_the_original(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        shutil.copytree(self.path("cp"), self.path("copy"))
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.query(checkpoint="copy")
        self.put("c.json", ["Bergen"])
        self.expect(78, "older copy")
        self.query()
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2, "Bergen": 1})

    def test_B18_a_fifo_or_a_link_in_the_checkpoint_is_refused_without_blocking(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        for name in ("query", "lock", os.path.relpath(self.parts("log", "*.log")[-1], self.path("cp"))):
            place, away = self.path("cp", name), self.path("away")
            os.rename(place, away)
            os.mkfifo(place)
            self.expect(74, "cp")
            os.unlink(place)
            os.symlink(away, place)
            self.expect(74, "cp")
            os.unlink(place)
            os.mkdir(place)
            self.expect(74, "cp")
            os.rmdir(place)
            os.rename(away, place)
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_B19_an_edited_identity_is_refused_and_left_alone(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        with open(self.path("cp", "query"), "rb") as file:
            whole = file.read()
        with open(self.path("cp", "query"), "wb") as file:
            file.write(whole + b"\r\n")
        self.expect(74, "cp")
        with open(self.path("cp", "query"), "rb") as file:
            self.assertEqual(file.read(), whole + b"\r\n")

    def test_B21_unknown_files_in_the_checkpoint_are_left_alone(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        names = [self.path("cp", "notes.txt"), self.path("cp", "log", ".nfs0001"), self.path("cp", "log", "x.log~")]
        for name in names:
            with open(name, "w") as file:
                file.write("mine")
        os.mkdir(self.path("cp", "lost+found"))
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})
        for name in names:
            self.assertTrue(os.path.exists(name), name)

    def test_B24_thousands_of_left_over_temporaries_are_swept_at_the_start(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        for i in range(5000):
            open(self.path("cp", "log", ".tmp-%d" % i), "w").close()
        began = time.monotonic()
        self.expect_ok()
        self.assertLess(time.monotonic() - began, 30)
        self.assertEqual(self.parts("log", ".tmp-*"), [])

    # ---- C: the system ----

    def test_C2_C3_an_output_that_may_not_grow_leaves_no_partial_file(self):
        self.put("a.json", ["city %d" % i for i in range(20000)])
        def small():
            resource.setrlimit(resource.RLIMIT_FSIZE, (300000, 300000))

        done = self.run_through(preexec_fn=small)
        self.assertEqual(done.returncode, 74, done.stderr)
        self.assertEqual(glob.glob(self.path("out", "*.json")), [])
        self.expect_ok()
        self.assertEqual(len(self.totals()), 20000)

    def test_C17_a_checkpoint_that_may_not_be_read_is_a_permission_error(self):
        if os.geteuid() == 0:
            self.skipTest("root may read everything")
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        os.chmod(self.path("cp", "query"), 0)
        self.expect(77, "cp")

    # ---- D: signals, two at once ----

    def test_D3_signals_that_mean_nothing_do_not_end_it(self):
        self.put("a.json", ["Oslo"])
        process = self.start()
        self.wait_for("output", lambda: self.totals() == {"Oslo": 1})
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM, signal.SIGCHLD, signal.SIGPIPE):
            process.send_signal(number)
        self.put("b.json", ["Oslo"])
        self.wait_for("output", lambda: self.totals() == {"Oslo": 2})
        self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(WAIT), 0)

    def test_D4_a_stopped_process_goes_on_without_a_burst(self):
        self.put("a.json", ["Oslo"])
        process = self.start("run", "--set", "trigger=100 ms", "--progress", "json", "q.sql")
        self.wait_for("output", lambda: self.totals() == {"Oslo": 1})
        process.send_signal(signal.SIGSTOP)
        self.put("b.json", ["Oslo"])
        process.send_signal(signal.SIGCONT)
        self.wait_for("output", lambda: self.totals() == {"Oslo": 2})
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(WAIT), 0)

    def test_D9_D11_the_second_is_refused_and_a_dead_holder_holds_nothing(self):
        self.put("a.json", ["Oslo"])
        first = self.start()
        self.wait_for("output", lambda: self.totals() == {"Oslo": 1})
        began = time.monotonic()
        self.expect(75, str(first.pid))
        self.assertLess(time.monotonic() - began, 5)
        first.kill()
        first.wait(WAIT)
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_D12_a_checkpoint_that_is_moved_away_ends_the_query_and_is_not_made_again(self):
        self.put("a.json", ["Oslo"])
        process = self.start()
        self.wait_for("output", lambda: self.totals() == {"Oslo": 1})
        os.rename(self.path("cp"), self.path("moved"))
        self.put("b.json", ["Oslo"])
        self.assertEqual(process.wait(WAIT), 74, process.stderr.read())
        self.assertFalse(os.path.exists(self.path("cp")))
        os.rename(self.path("moved"), self.path("cp"))
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_D6_the_locale_and_the_time_zone_change_no_byte(self):
        outputs = []
        self.put("a.json", ["Oslo", "Ísafjörður", "Oslo"])
        for i, more in enumerate(({"LANG": "C"}, {"LANG": "tr_TR.UTF-8", "LC_ALL": "de_DE.UTF-8", "TZ": "Asia/Kolkata"},
                                  {"TZ": "nowhere/never"})):
            self.query(checkpoint="cp%d" % i, output="out%d" % i)
            self.expect_ok(env={**os.environ, **more})
            outputs.append(self.contents("out%d" % i))
        self.assertTrue(outputs[0])
        self.assertEqual(outputs[0], outputs[1])
        self.assertEqual(outputs[0], outputs[2])

    # ---- G: sources ----

    def test_G2_a_planned_file_that_is_gone_or_changed_stops_the_batch_until_it_is_back(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        self.put("b.json", ["Oslo"])
        # A file in the place of the output's: the batch is planned, runs, and cannot be staged.
        place = glob.glob(self.path("out", "*.json"))[0].replace("part-0000000000", "part-0000000001")
        with open(place, "w"):
            pass
        self.expect(73, os.path.basename(place))
        os.unlink(place)
        os.rename(self.path("in", "b.json"), self.path("b.json"))
        self.expect(74, "b.json")
        self.put("b.json", ["Bergen", "Bergen"])
        self.expect(74, "b.json")
        os.rename(self.path("b.json"), self.path("in", "b.json"))
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_G3_G4_a_path_is_read_once_and_equal_content_under_two_names_is_two_inputs(self):
        self.put("a.json", ["Oslo"])
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.put("a.json", ["Bergen"])
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_G5_a_loop_of_links_ends(self):
        os.mkdir(self.path("in", "deep"))
        os.symlink("..", self.path("in", "deep", "up"))
        self.put("a.json", ["Oslo"])
        self.query(options=", recursive = true")
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_G6_files_of_the_past_and_of_the_future_are_all_read(self):
        self.put("now.json", ["Oslo"])
        self.put("past.json", ["Oslo"], when=0)
        self.put("future.json", ["Oslo"], when=4102444800)
        self.expect_ok()
        self.put("later.json", ["Oslo"], when=1)
        self.expect_ok()
        self.assertEqual(self.totals()["Oslo"], 4)

    def test_G9_special_files_hidden_ones_and_directories_are_no_input(self):
        self.put("a.json", ["Oslo"])
        os.mkdir(self.path("in", "x.json"))
        os.mkfifo(self.path("in", "pipe.json"))
        for name in (".hidden.json", "_tmp.json"):
            with open(self.path("in", name), "w") as file:
                file.write("not json")
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 1})

    def test_G11_a_directory_that_is_removed_while_it_runs_is_an_error_after_its_grace(self):
        self.put("a.json", ["Oslo"])
        process = self.start()
        self.wait_for("output", lambda: self.totals() == {"Oslo": 1})
        shutil.rmtree(self.path("in"))
        self.assertEqual(process.wait(WAIT), 74)
        os.mkdir(self.path("in"))
        self.put("b.json", ["Oslo"])
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_G12_a_line_cut_by_the_end_of_a_connection_is_kept_or_named(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        with open(self.path("s.sql"), "w") as file:
            file.write("SET checkpoint = 'cp';\n"
                       "CREATE TABLE src WITH (connector = 'socket', host = '127.0.0.1', port = %d, format = 'text');\n"
                       "CREATE TABLE dst (value VARCHAR) WITH (connector = 'file', path = 'out', format = 'text');\n"
                       "INSERT INTO dst SELECT value FROM src;\n" % server.getsockname()[1])
        process = self.start("run", "s.sql")
        for sent in (b"one\ntwo", b"three\nfo"):
            peer, _ = server.accept()
            peer.sendall(sent)
            peer.close()
        want = {"one", "two", "three"}
        def lines():
            found = []
            for name in sorted(glob.glob(self.path("out", "*"))):
                with open(name) as file:
                    found += file.read().splitlines()
            return found
        self.wait_for("lines", lambda: want <= set(lines()))
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(WAIT), 0, process.stderr.read())
        self.assertEqual(len(lines()), len(set(lines())))

    # ---- I: sinks ----

    def test_I3_a_foreign_file_of_our_name_is_not_overwritten(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        taken = glob.glob(self.path("out", "*.json"))[0]
        place = taken.replace("part-0000000000", "part-0000000001")
        with open(place, "w") as file:
            file.write("mine")
        self.put("b.json", ["Oslo"])
        self.expect(73, os.path.basename(place))
        with open(place) as file:
            self.assertEqual(file.read(), "mine")
        os.unlink(place)
        self.expect_ok()
        self.assertEqual(self.totals(), {"Oslo": 2})

    def test_I11_a_batch_without_rows_makes_no_file(self):
        self.put("a.json", [])
        self.expect_ok()
        self.assertEqual(glob.glob(self.path("out", "*.json")), [])

    # ---- J: configuration ----

    def test_J1_J2_unknown_keys_and_values_that_do_not_fit_are_named(self):
        for options, texts in (
                (", max_files_per_triger = 1", ["max_files_per_triger", "max_files_per_trigger"]),
                (", max_files_per_trigger = -1", ["max_files_per_trigger"]),
                (", max_file_age = '10sek'", ["max_file_age"]),
                (", max_line_bytes = '1'", ["max_line_bytes"])):
            self.query(options=options)
            self.expect(78, *texts)

    def test_J3_the_same_key_twice_is_refused(self):
        self.query(options=", recursive = true, recursive = false")
        done = self.run_through()
        self.assertIn(done.returncode, (64, 78), done.stderr)
        self.assertIn("recursive", done.stderr)

    def test_J7_an_output_directory_of_another_query_is_refused(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        self.query(checkpoint="other")
        self.expect(78, "out")

    def test_J9_places_that_must_not_be_one_are_refused(self):
        self.put("a.json", ["Oslo"])
        os.symlink("in", self.path("link"))
        for i, places in enumerate(({"checkpoint": "/"}, {"checkpoint": "."}, {"checkpoint": ".."},
                                    {"output": "cp3"}, {"output": "cp4/out"}, {"output": "in"},
                                    {"output": "link"})):
            self.query(**{"checkpoint": "cp%d" % i, **places})
            self.expect(78)
        self.assertEqual(os.listdir(self.path("in")), ["a.json"])

    def test_J9_a_source_s_name_does_not_lead_out_of_the_checkpoint(self):
        os.mkdir(self.path("deep"))
        with open(self.path("s.sql"), "w") as file:
            file.write("SET checkpoint = 'deep/cp';\n"
                       "CREATE TABLE \"../../../evil\" WITH (connector = 'socket', host = '127.0.0.1', port = 1, "
                       "format = 'text');\n"
                       "CREATE TABLE dst (value VARCHAR) WITH (connector = 'file', path = 'out', format = 'text');\n"
                       "INSERT INTO dst SELECT value FROM \"../../../evil\";\n")
        process = self.start("run", "s.sql")
        self.wait_for("directory", lambda: os.path.isdir(self.path("deep", "cp", "received")) and
                      os.listdir(self.path("deep", "cp", "received")))
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        process.wait(WAIT)
        self.assertFalse(os.path.exists(self.path("evil")))

    def test_L6_no_address_in_a_script_is_ever_fetched(self):
        """Whatever could name one: nothing connects, and the place is refused, or is a file of that odd name."""
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        url = "http://127.0.0.1:%d/x" % server.getsockname()[1]
        stdin = "CREATE TABLE s (v VARCHAR) WITH (connector = 'stdin', format = 'text'); "
        for sql, code in (("SELECT * FROM read_csv('%s.csv')", 64), ("SELECT * FROM '%s.parquet'", 64),
                          ("SELECT * FROM read_parquet('%s.parquet')", 64), ("INSTALL httpfs FROM '%s'", 64),
                          ("LOAD '%s'", 64), ("ATTACH '%s'", 64), ("COPY (SELECT 1) TO '%s'", 64),
                          ("CREATE TABLE f (v VARCHAR) WITH (connector = 'file', path = '%s', format = 'parquet'); SELECT v FROM f", 78),
                          ("CREATE TABLE f (v VARCHAR) WITH (connector = 'file', path = '%s', format = 'json'); SELECT v FROM f", 78),
                          (stdin + "CREATE TABLE o (v VARCHAR) WITH (connector = 'file', path = '%s', format = 'parquet'); "
                           "INSERT INTO o SELECT v FROM s", 0),
                          ("SET library = '%s'; SELECT 1 AS one", 78), ("SET checkpoint = '%s'; " + stdin + "SELECT v FROM s", 0)):
            with self.subTest(sql=sql):
                done = self.run_cli("run", "--until-caught-up", "-e", sql % url)
                self.assertEqual(done.returncode, code, done.stderr)
        server.setblocking(False)
        self.assertRaises(BlockingIOError, server.accept)

    def test_J8_the_checkpoint_does_not_depend_on_the_place_of_the_program(self):
        self.put("a.json", ["Oslo"])
        self.expect_ok()
        self.put("b.json", ["Oslo"])
        moved = self.path("moved")
        os.mkdir(moved)
        for name in ("cp", "in", "out", "q.sql"):
            os.rename(self.path(name), os.path.join(moved, name))
        done = subprocess.run([BIN, "run", "--until-caught-up", "q.sql"], cwd=moved, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=WAIT)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.totals("moved/out"), {"Oslo": 2})

    def test_J15_modes_are_0600_and_0700_whatever_the_umask(self):
        for umask in (0o000, 0o777):
            self.query(checkpoint="cp%o" % umask, output="out%o" % umask)
            self.put("a%o.json" % umask, ["Oslo"])
            done = self.run_through(preexec_fn=lambda value=umask: os.umask(value) and None)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = 0
            for root in ("cp%o" % umask, "out%o" % umask):
                for place, folders, files in os.walk(self.path(root)):
                    for name in folders:
                        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(place, name)).st_mode), 0o700, name)
                    for name in files:
                        self.assertEqual(stat.S_IMODE(os.stat(os.path.join(place, name)).st_mode), 0o600, name)
                        found += 1
            self.assertGreaterEqual(found, 4)


if __name__ == "__main__":
    unittest.main()
