"""A signal to stop that arrives before there is anything to stop: it must not be lost.

Each program is started with SIGTERM already pending, so that it comes as soon as somebody takes signals.
"""
import os
import shutil
import signal
import subprocess
import tempfile
import unittest

BUILD = os.environ["MILLRACE_BUILD_DIR"]
WAIT = 60


def pending_term():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    os.kill(os.getpid(), signal.SIGTERM)


class EarlySignals(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-signals-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        for name in ("in", "out"):
            os.mkdir(os.path.join(self.dir, name))

    def run_program(self, *command):
        if not os.access(os.path.join(BUILD, command[0]), os.X_OK):
            self.skipTest(f"{command[0]} is not built")
        return subprocess.run([os.path.join(BUILD, command[0]), *command[1:]], cwd=self.dir, preexec_fn=pending_term,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT, check=False)

    def test_D2_a_program_of_the_C_api_that_is_just_starting_stops(self):
        done = self.run_program("tests/soak/soak_slow", "in", "out", "cp", "1")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_D2_a_dstream_program_that_is_just_starting_stops(self):
        done = self.run_program("tests/guarantee/guarantee", "files:in", "cp", "out")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_D2_the_command_that_is_just_starting_ends(self):
        with open(os.path.join(self.dir, "q.sql"), "w", encoding="utf-8") as file:
            file.write("""SET checkpoint = 'cp';
                CREATE TABLE src (k BIGINT) WITH (connector = 'file', path = 'in', format = 'json');
                CREATE TABLE dst (k BIGINT) WITH (connector = 'file', path = 'out', format = 'json');
                INSERT INTO dst SELECT k FROM src;""")
        done = self.run_program("millrace", "run", "q.sql")
        self.assertIn(done.returncode, (0, 143), done.stderr)


if __name__ == "__main__":
    unittest.main()
