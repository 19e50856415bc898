"""millrace run --sandbox: what a pipeline needs still works, what it does not need is refused.

A library with a hostile function (tests/support/hostile) runs inside the process and tries: each attempt is made without the sandbox
first, where it must work, so that a refusal is the sandbox's.
"""
import errno
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

BIN = os.environ["MILLRACE_BIN"]
SOURCE = os.environ["MILLRACE_SOURCE_DIR"]
WAIT = 60

COUNT = """
SET checkpoint = 'cp';
SET output_mode = 'update';
CREATE TABLE src (k BIGINT, city TEXT) WITH (connector = 'file', path = '{path}', format = 'json'{more});
CREATE TABLE dst (city TEXT, n BIGINT) WITH (connector = 'file', path = 'out', format = 'json');
INSERT INTO dst SELECT city, count(*) FROM src GROUP BY city;
"""


def supported():
    """Does the kernel have what the sandbox needs? A trial says so."""
    done = subprocess.run([BIN, "run", "--sandbox", "-e", "SELECT 1 AS one"], capture_output=True, text=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=WAIT)
    return "cannot enter the sandbox" not in done.stderr


class Sandbox(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.built = tempfile.mkdtemp(prefix="millrace-hostile-")
        cls.library = os.path.join(cls.built, "libhostile.so")
        subprocess.run(["cc", "-shared", "-fPIC", "-D_GNU_SOURCE", "-I", os.path.join(SOURCE, "include"),
                        os.path.join(SOURCE, "tests/support/hostile/hostile.c"), "-o", cls.library], check=True)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.built, True)

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-sandbox-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        os.mkdir(os.path.join(self.dir, "in"))
        for number in range(3):
            self.write(f"in/{number}.json", json.dumps({"k": number, "city": "rome"}) + "\n")

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def run_sql(self, sql, *flags, sandbox=True, stdin=""):
        self.write("q.sql", sql)
        return subprocess.run([BIN, "run", *(["--sandbox"] if sandbox else []), *flags, "q.sql"], cwd=self.dir, input=stdin,
                              capture_output=True, text=True, check=False, timeout=WAIT)

    def rows(self):
        found = []
        for name in sorted(os.listdir(self.path("out"))):
            if not name.startswith((".", "_")):
                with open(self.path("out", name), encoding="utf-8") as file:
                    found += [json.loads(line) for line in file]
        return found

    def attempt(self, what, sandbox):
        """The errno of the hostile function's attempt; 0: it worked."""
        done = self.run_sql("SELECT hostile(k || '') AS e FROM stdin", "--library", self.library, "--once", sandbox=sandbox,
                            stdin=json.dumps({"k": what}) + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        numbers = [int(word) for word in done.stdout.replace("|", " ").replace("│", " ").split() if word.isdigit()]
        self.assertTrue(numbers, done.stdout)
        return numbers[-1]

    def refused(self, what, *wanted):
        self.assertEqual(self.attempt(what, sandbox=False), 0, f"'{what}' must work outside")
        self.assertIn(self.attempt(what, sandbox=True), wanted)


@unittest.skipUnless(supported(), "this kernel has no Landlock or takes no filters")
class Inside(Sandbox):
    def test_files_to_files_with_state_work_and_go_on(self):
        for expected in (3, 4):
            done = self.run_sql(COUNT.format(path="in", more=""), "--until-caught-up")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.rows()[-1], {"city": "rome", "n": expected})
            self.write("in/9.json", '{"k": 9, "city": "rome"}\n')

    def test_a_glob_is_read_and_cleaned_input_is_removed(self):
        done = self.run_sql(COUNT.format(path="in/*.json", more=", clean_source = 'delete'"), "--until-caught-up")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.write("in/9.json", '{"k": 9, "city": "rome"}\n')
        self.run_sql(COUNT.format(path="in/*.json", more=", clean_source = 'delete'"), "--until-caught-up")
        self.assertEqual(self.rows()[-1]["n"], 4)
        self.assertNotIn("0.json", os.listdir(self.path("in")))

    def test_a_socket_is_read(self):
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"one\ntwo\n")

        threading.Thread(target=serve, daemon=True).start()
        done = self.run_sql(f"""
            SET checkpoint = 'cp';
            SET max_batches = 1;
            CREATE TABLE lines (value TEXT) WITH (connector = 'socket', host = '127.0.0.1', port = {listener.getsockname()[1]}, format = 'text');
            CREATE TABLE dst (value TEXT) WITH (connector = 'file', path = 'out', format = 'json');
            INSERT INTO dst SELECT value FROM lines;""")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn({"value": "one"}, self.rows())

    def test_L10_other_files_cannot_be_read(self):
        self.write("other", "x")
        self.refused(f"read {self.path('other')}", errno.EACCES)

    def test_other_files_can_be_read_when_they_are_named(self):
        self.write("other", "x")
        done = self.run_sql("SELECT hostile(k || '') AS e FROM stdin", "--library", self.library, "--once", "--sandbox-read",
                            f"/nonexistent:{self.path('other')}", stdin=json.dumps({"k": f"read {self.path('other')}"}) + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"\b0\b")

    def test_other_files_cannot_be_made_changed_or_removed(self):
        self.write("other", "x")
        self.refused(f"write {self.path('new')}", errno.EACCES)
        self.assertEqual(self.attempt(f"write {self.path('other')}", sandbox=True), errno.EACCES)
        self.assertEqual(self.attempt(f"remove {self.path('other')}", sandbox=True), errno.EACCES)
        self.assertTrue(os.path.exists(self.path("other")))

    def test_input_that_is_only_read_cannot_be_written(self):
        sql = COUNT.format(path="in", more="").replace("SELECT city, count(*)", "SELECT hostile('remove in/0.json')::TEXT || city, count(*)") \
            .replace("GROUP BY city", "GROUP BY ALL")
        done = self.run_sql(sql, "--until-caught-up", "--library", self.library)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.rows()[-1]["city"], f"{errno.EACCES}rome")
        self.assertTrue(os.path.exists(self.path("in/0.json")))

    def test_special_files_cannot_be_made_where_files_can(self):
        os.mkdir(self.path("cp"))
        done = self.run_sql("SET checkpoint = 'cp'; SELECT hostile(k || '') AS e FROM stdin", "--library", self.library, "--once",
                            stdin=json.dumps({"k": "fifo cp/pipe"}) + "\n")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(os.path.exists(self.path("cp/pipe")))

    def test_no_process_is_started(self):
        self.refused("fork", errno.EPERM)
        self.assertIn(self.attempt("exec", sandbox=True), (errno.EPERM, errno.EACCES))

    def test_nothing_listens(self):
        self.refused("listen", errno.EPERM, errno.EACCES)

    def test_no_raw_packets(self):
        self.assertEqual(self.attempt("packets", sandbox=True), errno.EPERM)

    def test_nothing_becomes_code(self):
        self.refused("code", errno.EPERM)

    def test_nothing_is_traced_and_nobody_else_is_signalled(self):
        self.assertEqual(self.attempt("trace", sandbox=True), errno.EPERM)
        self.refused("signal", errno.EPERM)

    def test_L12_the_process_cannot_be_dumped(self):
        self.assertEqual(self.attempt("dumpable", sandbox=False), 1)
        self.assertEqual(self.attempt("dumpable", sandbox=True), 0)

    def test_the_process_says_that_it_is_inside(self):
        process = subprocess.Popen([BIN, "run", "--sandbox", "-e", "SELECT k FROM stdin"], cwd=self.dir,  # pylint: disable=consider-using-with
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.stdin.write('{"k": 1}\n')
        process.stdin.flush()
        self.assertTrue(process.stdout.readline())
        with open(f"/proc/{process.pid}/status", encoding="utf-8") as file:
            status = file.read()
        process.communicate(timeout=WAIT)
        self.assertIn("NoNewPrivs:\t1", status)
        self.assertIn("Seccomp:\t2", status)


class Usage(Sandbox):
    def test_L11_a_library_that_others_may_write_is_not_loaded(self):
        theirs = self.path("theirs.so")
        shutil.copy(self.library, theirs)
        os.chmod(theirs, 0o666)
        done = self.run_sql("SELECT 1 AS one", "--library", theirs, sandbox=False)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn("chmod go-w", done.stderr)
        os.chmod(theirs, 0o755)
        if os.geteuid() == 0:
            os.chown(theirs, 12345, -1)
            done = self.run_sql("SELECT 1 AS one", "--library", theirs, sandbox=False)
            self.assertEqual(done.returncode, 77, done.stderr)
            self.assertIn("belongs to user 12345", done.stderr)

    def test_L11_a_library_is_named_with_its_directory(self):
        done = self.run_sql("SELECT 1 AS one", "--library", "libc.so.6", sandbox=False)
        self.assertEqual(done.returncode, 78, done.stderr)
        self.assertIn("write './libc.so.6'", done.stderr)

    def test_more_paths_need_the_sandbox(self):
        done = self.run_sql("SELECT 1 AS one", "--sandbox-read", "/tmp", sandbox=False)
        self.assertEqual(done.returncode, 64)
        self.assertIn("need --sandbox", done.stderr)


if __name__ == "__main__":
    unittest.main()
