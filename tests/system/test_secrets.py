"""A planted secret, looked for in everything that a run leaves: output, log, errors, progress, plans, checkpoint, state exports.

Where secrets can stand: in the script, in the environment (${NAME}), in a file (file:PATH). The Kafka broker of the other system tests
has passwords that tools/run-tests looks for in the output of the whole suite, and tools/run-unittest in every file that a test removes.
"""
import concurrent.futures
import itertools
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ["MILLRACE_BIN"]
SECRET = "canary-4f1d0c6b9e"
WAIT = 60
KAFKA = """
SET checkpoint = 'cp';
SET unavailable_timeout = '100 ms';
CREATE TABLE src (k BIGINT) WITH (connector = 'kafka', brokers = '127.0.0.1:1', topic = 't', format = 'json',
  'kafka.security.protocol' = 'sasl_plaintext', 'kafka.sasl.mechanism' = 'PLAIN', 'kafka.sasl.username' = 'u', 'kafka.sasl.password' = {secret});
CREATE TABLE dst (k BIGINT) WITH (connector = 'file', path = 'out', format = 'json');
INSERT INTO dst SELECT k FROM src;
"""
WAYS = {"in the script": f"'{SECRET}'", "from the environment": "'${PASSWORD_OF_THE_TEST}'", "from a file": "'file:secret'"}


class Secrets(unittest.TestCase):
    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="millrace-secrets-"))
        self.addCleanup(shutil.rmtree, self.root, True)
        self.dir = self.new_directory("work")

    def new_directory(self, name):
        (self.root / name).mkdir()
        (self.root / name / "secret").write_text(SECRET + "\n")
        return self.root / name

    def run_cli(self, *args, sql, where=None):
        where = where or self.dir
        (where / "q.sql").write_text(sql)
        done = subprocess.run([BIN, *args], cwd=where, capture_output=True, check=False, timeout=WAIT, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, PASSWORD_OF_THE_TEST=SECRET))
        self.assert_clean(done, where)
        return done

    def assert_clean(self, done, where):
        for name, text in (("standard output", done.stdout), ("standard error", done.stderr)):
            self.assertNotIn(SECRET.encode(), text, f"in {name}")
        for path in where.rglob("*"):
            if path.is_file() and path.name not in ("q.sql", "secret"):
                self.assertNotIn(SECRET.encode(), path.read_bytes(), f"in {path}")

    def test_J4_L12_no_command_shows_or_keeps_a_secret(self):
        def run(case):
            number, (secret, log) = case
            sql, where = KAFKA.format(secret=secret), self.new_directory(f"case{number}")
            check = self.run_cli("check", "q.sql", sql=sql, where=where)
            plan = self.run_cli("run", "q.sql", sql=sql.replace("INSERT", "EXPLAIN INSERT"), where=where)
            tried = self.run_cli("run", "--log", log, "--log-level", "debug", "--progress", "json", "q.sql", sql=sql, where=where)
            return check.returncode, plan.returncode, tried.returncode

        cases = list(itertools.product(WAYS.values(), ("text", "json")))
        with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:  # each waits for a broker that is not there
            for case, codes in zip(cases, pool.map(run, enumerate(cases))):
                self.assertEqual(codes, (0, 0, 69), case)

    def test_J4_errors_around_a_secret_hide_it(self):
        sql = KAFKA.format(secret=f"'{SECRET}'")
        broken = [
            ("an unknown option beside it", sql.replace("'kafka.sasl.username' = 'u'", "bogus = 1")),
            ("the same option twice", sql.replace("'kafka.sasl.username' = 'u'", f"'kafka.sasl.password' = '{SECRET}'")),
            ("a comma is missing behind it", sql.replace(f"'{SECRET}')", f"'{SECRET}' 'x' = 'y')")),
            ("a string without end", sql.replace(f"'{SECRET}')", f"'{SECRET}")),
            ("dollar quotes", sql.replace(f"'{SECRET}')", f"$$ {SECRET} $$ oops")),
            ("an unknown property", sql.replace("kafka.sasl.password", "kafka.sasl.passwort")),
            ("a wrong value of a property", sql.replace("'kafka.sasl.password'", "'kafka.enable.ssl.certificate.verification'")),
            ("a table of a connector that has no such option", sql.replace("'kafka', brokers", "'file', brokers")),
            ("a column that is missing", sql.replace("SELECT k", "SELECT kk")),
        ]
        for what, text in broken:
            with self.subTest(what):
                self.assertNotEqual(self.run_cli("run", "q.sql", sql=text).returncode, 0)

    def test_J4_a_file_that_cannot_be_read_is_named(self):
        done = self.run_cli("check", "q.sql", sql=KAFKA.format(secret="'file:missing'"))
        self.assertEqual(done.returncode, 78)
        self.assertIn(b"cannot read the secret from file 'missing'", done.stderr)

    def test_L7_names_of_tables_do_not_lead_out_of_the_checkpoint(self):
        (self.dir / "in").mkdir()
        (self.dir / "in" / "a.json").write_text('{"k": 1}\n')
        for number, name in enumerate(("../../up", "/etc/up", "a/../../b", "new\nline", "x" * 255, "%2e%2e%2f", ".", "..")):
            with self.subTest(name):
                sql = f"""
                    SET checkpoint = 'inside/cp{number}';
                    CREATE TABLE "{name}" (k BIGINT) WITH (connector = 'file', path = 'in', format = 'json');
                    CREATE TABLE "{name}out" (k BIGINT, n BIGINT) WITH (connector = 'file', path = 'inside/out{number}', format = 'json');
                    SET output_mode = 'update';
                    INSERT INTO "{name}out" SELECT k, count(*) FROM "{name}" GROUP BY k;"""
                (self.dir / "inside").mkdir(exist_ok=True)
                self.run_cli("run", "--until-caught-up", "q.sql", sql=sql)
                self.assertEqual({path.name for path in self.dir.iterdir()}, {"in", "inside", "q.sql", "secret"})
        self.assertEqual(list(self.root.iterdir()), [self.dir])

    def test_L8_what_data_says_cannot_forge_a_log_line(self):
        (self.dir / "in").mkdir()
        forged = "x\n2026-11-21T10:00:00.000Z E core forged\x1b[31m\r"
        (self.dir / "in" / "a.json").write_text("not json " + forged.replace("\n", "\\n") + "\n" + json.dumps({"k": forged}) + "\n")
        for log, name in itertools.product(("text", "json"), ("a.json", "b\n2026-11-21T10:00:00.000Z E core forged.json")):
            (self.dir / "in" / "a.json").rename(self.dir / "in" / name)
            sql = """
                CREATE TABLE src (k BIGINT) WITH (connector = 'file', path = 'in', format = 'json', on_error = 'skip');
                CREATE TABLE dst (k BIGINT) WITH (connector = 'null');
                INSERT INTO dst SELECT k FROM src;"""
            done = self.run_cli("run", "--until-caught-up", "--log", log, "--log-level", "debug", "q.sql", sql=sql)
            (self.dir / "in" / name).rename(self.dir / "in" / "a.json")
            self.assertEqual(done.returncode, 0, done.stderr)
            for line in done.stderr.decode().split("\n"):
                self.assertFalse(line.endswith("core forged") or line.startswith("2026-11-21T10:00:00.000Z E core forged"), line)
                self.assertNotIn("\x1b", line)
                self.assertNotIn("\r", line)

    def test_what_a_test_removes_is_searched_for_passwords(self):
        script = self.dir / "test_leaks.py"
        script.write_text("import pathlib, shutil, tempfile, unittest\n"
                          "class Leaks(unittest.TestCase):\n"
                          "    def leave(self, name):\n"
                          "        folder = tempfile.mkdtemp()\n"
                          "        self.addCleanup(shutil.rmtree, folder, True)\n"
                          "        pathlib.Path(folder, name).write_text('x canary-' + 'test-pw y')\n"
                          "    def test_state(self):\n"
                          "        self.leave('state')\n"
                          "    def test_script(self):\n"
                          "        self.leave('q.sql')\n", encoding="utf-8")
        tool = os.path.join(os.environ["MILLRACE_SOURCE_DIR"], "tools", "run-unittest")
        done = subprocess.run([tool, script], capture_output=True, text=True, check=False, timeout=WAIT)
        self.assertEqual(done.returncode, 1)
        self.assertIn("state had a planted password in it", done.stdout)
        self.assertTrue(done.stdout.endswith("1 passed, 1 failed\n"), done.stdout)


if __name__ == "__main__":
    unittest.main()
