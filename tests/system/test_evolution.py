"""A pipeline that was edited, its checkpoint, and the inspectors: from outside, with the real binary. The golden checkpoint was
made by an earlier build and must open and go on."""
import json
import os
import pty
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import unittest

BIN = os.environ["MILLRACE_BIN"]
SOURCE = os.environ["MILLRACE_SOURCE_DIR"]
WAIT = 60

PIPELINE = """
CREATE TABLE clicks (city VARCHAR, price BIGINT) WITH (connector = 'file', path = 'in', format = 'json');
CREATE TABLE totals WITH (connector = 'file', path = 'out', format = 'json');
SET checkpoint = 'cp';
SET trigger = 'until caught up';
{more}
INSERT INTO totals SELECT {columns} FROM clicks GROUP BY {keys};
"""


class Evolution(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-evolution-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.files = 0

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        hidden = os.path.join(os.path.dirname(self.path(name)), ".new")
        with open(hidden, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(hidden, self.path(name))

    def rows(self, *rows):
        self.files += 1
        self.write(f"in/{self.files}.json", "".join(json.dumps(dict(zip(("city", "price"), row))) + "\n" for row in rows))

    def script(self, columns="city, count(*) AS n, sum(price) AS total", keys="city", more=""):
        self.write("q.sql", PIPELINE.format(columns=columns, keys=keys, more=more))

    def millrace(self, *args, code=0, text=None):
        done = subprocess.run([BIN, *args], cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=WAIT, check=False)
        self.assertEqual(done.returncode, code, done.stderr + done.stdout)
        if text is not None:
            self.assertIn(text, done.stderr + done.stdout)
        return done

    def newest(self):
        """The newest row of each city."""
        found = {}
        for name in sorted(os.listdir(self.path("out"))):
            if name.endswith(".json"):
                with open(self.path("out", name), encoding="utf-8") as file:
                    found.update({row["city"]: row for row in map(json.loads, file)})
        return found

    def start(self):
        self.script()
        self.rows(("Oslo", 3), ("Bonn", 4))
        self.millrace("run", "q.sql")

    def test_check_compares_every_part_and_touches_nothing(self):
        self.start()
        self.script("city, count(*) AS n, sum(price) AS total, max(price) AS top")
        before = {name: os.stat(self.path("cp", "log", name)).st_mtime_ns for name in os.listdir(self.path("cp", "log"))}
        done = self.millrace("check", "q.sql")
        self.assertRegex(done.stdout, r"source +clicks +same")
        self.assertRegex(done.stdout, r"operator +totals.agg +extend +new, counting from now on: max of 'price'")
        self.assertRegex(done.stdout, r"sink +totals +same")
        self.assertIn("--accept extend", done.stdout)
        self.assertEqual(before, {name: os.stat(self.path("cp", "log", name)).st_mtime_ns
                                  for name in os.listdir(self.path("cp", "log"))})

    def test_run_refuses_with_the_flag_to_use_and_goes_on_with_it(self):
        self.start()
        self.script("city, count(*) AS n, sum(price) AS total, max(price) AS top")
        self.rows(("Oslo", 10))
        done = self.millrace("run", "q.sql", code=78)
        self.assertIn("run with --accept extend", done.stderr)
        self.assertEqual(len([line for line in done.stderr.splitlines() if line.startswith("millrace: ")]), 1)
        self.millrace("run", "--accept", "rebuild", "q.sql", code=78)
        self.millrace("run", "--accept", "extend:totals.agg", "q.sql")
        self.assertEqual(self.newest()["Oslo"], {"city": "Oslo", "n": 2, "total": 13, "top": 10})
        self.millrace("run", "q.sql")
        self.millrace("checkpoint", "verify", "cp", text="are good")

    def test_a_rebuilt_operator_begins_anew(self):
        self.start()
        self.script("upper(city) AS city, count(*) AS n", "upper(city)")
        self.rows(("Oslo", 10))
        self.millrace("run", "q.sql", code=78, text="--accept rebuild")
        self.millrace("run", "--accept", "rebuild", "q.sql", text="2 keys are emptied")
        self.assertEqual(self.newest()["OSLO"], {"city": "OSLO", "n": 1})
        self.millrace("checkpoint", "verify", "cp", text="are good")

    def test_the_file_itself_can_answer(self):
        self.start()
        self.script("city, max(price) AS top", more="SET on_change = 'reject';")
        self.millrace("run", "q.sql", code=78)
        self.script("city, max(price) AS top", more="SET on_change = 'allow';")
        self.millrace("check", "q.sql", text="on_change = 'allow'")
        self.millrace("run", "q.sql")

    def test_a_wrong_word_to_accept_is_a_usage_error(self):
        self.start()
        self.millrace("run", "--accept", "all", "q.sql", code=64, text="rebuild:out.agg")

    def ask(self, answer):
        parent, child = pty.openpty()
        with subprocess.Popen([BIN, "run", "q.sql"], cwd=self.dir, stdin=child, stdout=subprocess.DEVNULL, stderr=child) as run:
            os.close(child)
            shown = b""
            while b"[y/N]" not in shown:
                shown += os.read(parent, 4096)
            os.write(parent, answer)
            code = run.wait(WAIT)
        os.close(parent)
        return shown.decode(), code

    def test_on_a_terminal_it_asks(self):
        self.start()
        self.script("city, count(*) AS n, min(price) AS least")
        shown, code = self.ask(b"n\n")
        self.assertIn("min of 'price'", shown)
        self.assertEqual(code, 78)
        self.assertEqual(self.ask(b"y\n")[1], 0)
        self.millrace("run", "q.sql")

    def test_the_same_file_with_another_binary_and_other_settings_is_the_same(self):
        self.start()
        shutil.copy(BIN, self.path("copy"))
        os.symlink(os.path.join(os.path.dirname(os.path.realpath(BIN)), "lib"), self.path("lib"))  # its libraries stand beside it
        self.script(more="SET workers = 2; SET retain_batches = 7;")
        self.rows(("Oslo", 1))
        done = subprocess.run([self.path("copy"), "run", "q.sql"], cwd=self.dir, capture_output=True, text=True, timeout=WAIT,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.newest()["Oslo"]["n"], 2)

    # ---- inspectors

    def test_state_is_shown_with_the_names_of_the_query(self):
        self.start()
        self.assertIn("city VARCHAR", self.millrace("state", "ls", "cp").stdout)
        row = json.loads(self.millrace("state", "get", "cp", "totals.agg", "Oslo").stdout)
        self.assertEqual(row, {"city": "Oslo", "rows": 1, "sum(price)": 3, "avg(price)": 3.0})
        exported = self.millrace("state", "export", "--format", "csv", "cp", "totals.agg").stdout
        self.assertEqual(exported.splitlines(), ["city,rows,sum(price),avg(price)", "Bonn,1,4,4.0", "Oslo,1,3,3.0"])
        self.millrace("state", "export", "--format", "parquet", "cp", "totals.agg", code=64, text="--output")
        os.mkdir(self.path("px"))
        self.millrace("state", "export", "--format", "parquet", "-o", "px/x.parquet", "cp", "totals.agg")
        read = self.millrace("run", "--until-caught-up", "-e", "CREATE TABLE p (city VARCHAR, rows BIGINT) WITH (connector = 'file', "
                             "path = 'px', format = 'parquet'); SELECT city, rows FROM p")
        self.assertIn("Oslo", read.stdout)
        self.assertIn("totals.agg", self.millrace("state", "du", "cp").stdout)
        self.millrace("state", "get", "cp", "totals.agg", "Rome", code=66, text="no key 'Rome'")
        self.millrace("state", "get", "cp", "none", "Rome", code=66, text="state ls cp")

    def test_state_of_older_batches_and_what_changed_since(self):
        self.start()
        self.rows(("Oslo", 10), ("Rome", 1))
        self.millrace("run", "q.sql")
        old = self.millrace("state", "export", "--batch", "0", "cp", "totals.agg").stdout
        self.assertEqual(len(old.splitlines()), 2)
        done = self.millrace("state", "diff", "--from", "0", "cp", "totals.agg")
        self.assertEqual(done.stdout.splitlines(), [
            '- totals.agg {"city":"Oslo","rows":1,"sum(price)":3,"avg(price)":3.0}',
            '+ totals.agg {"city":"Oslo","rows":2,"sum(price)":13,"avg(price)":6.5}',
            '+ totals.agg {"city":"Rome","rows":1,"sum(price)":1,"avg(price)":1.0}'])
        self.millrace("state", "diff", "--from", "0", "--to", "99", "cp", code=66)

    def test_a_checkpoint_is_rewound_into_a_copy_that_runs(self):
        self.start()
        self.rows(("Oslo", 10))
        self.millrace("run", "q.sql")
        wanted = self.newest()
        self.millrace("checkpoint", "rewind", "--to", "99", "cp", "back", code=66, text="retained from batch 0 to")
        done = self.millrace("checkpoint", "rewind", "--to", "0", "cp", "back")
        self.assertIn("sinks were not rewound", done.stdout)
        self.millrace("checkpoint", "rewind", "--to", "0", "cp", "back", code=78, text="there already")
        self.millrace("state", "diff", "--from", "0", "--to", "0", "cp", "back")
        os.rename(self.path("out"), self.path("old"))
        self.millrace("run", "--checkpoint", "back", "q.sql")
        self.assertEqual(self.newest(), {"Oslo": wanted["Oslo"]})
        self.millrace("checkpoint", "verify", "back", text="are good")

    def test_inspectors_work_beside_a_running_query(self):
        self.script()
        with open(self.path("q.sql"), encoding="utf-8") as file:
            endless = file.read().replace("SET trigger = 'until caught up';", "")
        self.write("q.sql", endless)
        self.rows(("Oslo", 3))
        with subprocess.Popen([BIN, "run", "q.sql"], cwd=self.dir, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
            deadline = time.monotonic() + WAIT
            while not (os.path.isdir(self.path("out")) and self.newest()) and time.monotonic() < deadline:
                self.assertIsNone(run.poll())
            for _ in range(5):
                self.assertIn("same", self.millrace("check", "q.sql").stdout)
                self.assertIn("Oslo", self.millrace("state", "export", "cp", "totals.agg").stdout)
                self.millrace("state", "diff", "cp")
            self.millrace("checkpoint", "rewind", "--to", "0", "cp", "back")
            run.send_signal(signal.SIGTERM)
            self.assertEqual(run.wait(WAIT), 0)

    # ---- golden

    def golden(self, number):
        with tarfile.open(os.path.join(SOURCE, "tests", "golden", f"checkpoint-{number}.tar.gz")) as archive:
            archive.extractall(self.dir)

    def test_the_checkpoint_of_an_earlier_build_opens_and_goes_on(self):
        self.golden(1)
        listed = self.millrace("check", "q.sql").stdout
        self.assertRegex(listed, r"operator +per_city.agg +same")
        self.assertRegex(listed, r"operator +windows.agg +same")
        self.write("in/9.jsonl", '{"city":"Oslo","price":7,"ts":"2026-01-01 00:00:59"}\n')
        self.millrace("run", "q.sql")
        with open(self.path("out", "part-0000000006-00000.csv"), encoding="utf-8") as file:
            self.assertEqual(file.read().split(), ["Oslo,3,20,6.666666666666667"])
        with open(self.path("windows", "part-0000000007-00000.csv"), encoding="utf-8") as file:
            self.assertEqual(file.read().splitlines(), ["2026-01-01 00:00:30,Bonn,3"])
        self.millrace("checkpoint", "verify", "checkpoint", text="are good")
        self.assertIn("same", self.millrace("check", "q.sql").stdout)

    def test_a_checkpoint_with_a_manifest_opens_and_goes_on(self):
        self.golden(2)
        compared = self.millrace("check", "q.sql").stdout.split("compared with the checkpoint:")[1]
        self.assertEqual(sorted(line.split()[1:3] for line in compared.splitlines() if line.startswith("  ")), [
            ["clicks", "same"], ["per_city.agg", "same"], ["totals", "same"], ["windows", "same"], ["windows.agg", "same"]])
        self.write("in/9.jsonl", '{"city":"Oslo","price":7,"ts":"2026-01-01 00:00:59"}\n')
        self.millrace("run", "q.sql")
        row = json.loads(self.millrace("state", "get", "checkpoint", "per_city.agg", "Oslo").stdout)
        self.assertEqual(row, {"city": "Oslo", "rows": 3, "sum(price)": 20, "avg(price)": 20 / 3})

    def test_a_join_s_rows_of_an_earlier_build_are_joined_and_leave(self):
        """The golden checkpoint has an entry for each row that waits; newer ones have blocks of rows."""
        self.golden(3)
        self.assertRegex(self.millrace("check", "q.sql").stdout, r"operator +paid.join +same")
        before = self.millrace("state", "export", "checkpoint", "paid.join.left").stdout
        self.assertIn('"matched":true,"o.id":1,"item":"pen","price":1.50,"tags":["blue","thin"]', before)
        self.write("in/b/2.jsonl", '{"id":4,"method":"cash","ts":"2026-01-01 00:00:30"}\n'
                                   '{"id":1,"method":"voucher","ts":"2026-01-01 00:00:31"}\n')
        self.write("in/a/2.jsonl", '{"id":9,"item":"hat","price":20.00,"tags":["wool"],"ts":"2026-01-01 00:00:05"}\n')
        self.millrace("run", "--until-caught-up", "q.sql")
        rows = [json.loads(line) for line in self.millrace("state", "export", "checkpoint", "paid.join.left").stdout.splitlines()]
        self.assertEqual({row["o.id"]: row["matched"] for row in rows}, {1: True, 2: False, 3: False, 4: True, 9: True})
        hat = next(row for row in rows if row["o.id"] == 9)
        found = self.millrace("state", "get", "checkpoint", "paid.join.left", str(hat["row"])).stdout
        self.assertEqual(json.loads(found), hat)
        self.write("in/a/3.jsonl", '{"id":8,"item":"egg","price":0.20,"tags":["egg"],"ts":"2026-01-01 00:02:00"}\n')
        self.write("in/b/3.jsonl", '{"id":8,"method":"coin","ts":"2026-01-01 00:02:30"}\n')
        self.millrace("run", "--until-caught-up", "q.sql")
        paid = []
        for name in sorted(os.listdir(self.path("out"))):
            if name.endswith(".csv"):
                with open(self.path("out", name), encoding="utf-8") as file:
                    paid += file.read().split()[1:]
        self.assertEqual(sorted(paid), ["1,pen,1.50,blue,card", "1,pen,1.50,blue,voucher", "2,book,12.00,,", "3,,,,",
                                        "4,cup,3.25,red,cash", "8,egg,0.20,egg,coin", "9,hat,20.00,wool,cash"])
        self.assertEqual(self.millrace("state", "export", "checkpoint", "paid.join.left").stdout.count("\n"), 1)
        self.millrace("checkpoint", "verify", "checkpoint", text="are good")

    def test_the_checkpoint_of_an_earlier_build_can_be_edited_too(self):
        self.golden(1)
        with open(self.path("q.sql"), encoding="utf-8") as file:
            text = file.read()
        self.write("q.sql", text.replace("avg(price) AS mean FROM", "avg(price) AS mean, min(price) AS least FROM"))
        self.millrace("run", "q.sql", code=78, text="--accept extend")
        self.write("in/9.jsonl", '{"city":"Oslo","price":7,"ts":"2026-01-01 00:00:59"}\n')
        self.millrace("run", "--accept", "extend", "q.sql")
        row = json.loads(self.millrace("state", "get", "checkpoint", "per_city.agg", "Oslo").stdout)
        self.assertEqual((row["rows"], row["sum(price)"], row["min(price)"]), (3, 20, 7))


if __name__ == "__main__":
    unittest.main()
