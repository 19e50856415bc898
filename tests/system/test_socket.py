"""The receivers of lines through the command: a real TCP server that misbehaves, and standard input."""
import glob
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest

BIN = os.environ["MILLRACE_BIN"]
WAIT = 60  # seconds until a process counts as hung


class Lines(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-socket-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(WAIT)
        self.addCleanup(self.server.close)
        self.port = self.server.getsockname()[1]
        self.process = None
        self.addCleanup(self.kill)

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def start(self, more=""):
        sql = ("SET checkpoint = 'cp';\n"
               f"CREATE TABLE lines WITH (connector = 'socket', host = '127.0.0.1', port = '{self.port}'{more});\n"
               "CREATE TABLE dst WITH (connector = 'file', path = 'out', format = 'json');\n"
               "INSERT INTO dst SELECT value FROM lines;\n")
        with open(os.path.join(self.dir, "q.sql"), "w", encoding="utf-8") as file:
            file.write(sql)
        # pylint: disable=consider-using-with
        self.process = subprocess.Popen([BIN, "run", "q.sql"], cwd=self.dir, text=True, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE)

    def accept(self):
        connection, _ = self.server.accept()
        return connection

    def stop(self):
        """Ctrl-C; what the program said."""
        self.process.send_signal(signal.SIGINT)
        _, text = self.process.communicate(timeout=WAIT)
        self.assertEqual(self.process.returncode, 0, text)
        self.process = None
        return text

    def values(self):
        found = []
        for name in sorted(glob.glob(os.path.join(self.dir, "out", "part-*"))):
            with open(name, encoding="utf-8") as file:
                found += [json.loads(line)["value"] for line in file]
        return found

    def wait_for(self, wanted):
        deadline = time.monotonic() + WAIT
        while time.monotonic() < deadline:
            values = self.values()
            if len(values) >= len(wanted):
                break
            time.sleep(0.02)
        self.assertEqual(values, wanted)

    def test_lines_arrive_whole_however_they_are_sent(self):
        self.start()
        with self.accept() as peer:
            peer.sendall(b"one\ntw")
            self.wait_for(["one"])
            peer.sendall(b"o\r\nthree\n")
            self.wait_for(["one", "two", "three"])
        self.stop()

    def test_lines_end_with_newline_return_or_both(self):
        self.start()
        with self.accept() as peer:
            peer.sendall(b"one\rtwo\r")
            self.wait_for(["one", "two"])  # a return ends a line at once
            peer.sendall(b"\nthree\r\n\rfive\n")
            self.wait_for(["one", "two", "three", "", "five"])
        self.stop()

    def test_the_last_line_of_a_peer_that_closes_counts(self):
        self.start()
        with self.accept() as peer:
            peer.sendall(b"one\nlast")
        self.wait_for(["one", "last"])
        self.stop()

    def test_a_closed_connection_is_made_again(self):
        self.start()
        with self.accept() as peer:
            peer.sendall(b"one\n")
        with self.accept() as peer:
            peer.sendall(b"two\n")
            self.wait_for(["one", "two"])
        self.stop()

    def test_half_a_line_of_a_broken_connection_is_dropped_and_logged(self):
        self.start()
        with self.accept() as peer:
            peer.sendall(b"one\nhalf")
            self.wait_for(["one"])
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close sends a reset
        with self.accept() as peer:
            peer.sendall(b"two\n")
            self.wait_for(["one", "two"])
        self.assertIn("the line was not complete", self.stop())

    def test_a_line_longer_than_the_limit_is_dropped_and_logged(self):
        self.start(", max_line_bytes = '1 KiB'")
        with self.accept() as peer:
            peer.sendall(b"one\n" + b"x" * 300000)
            peer.sendall(b"x" * 1000 + b"\ntwo\n")
            self.wait_for(["one", "two"])
        self.assertIn("longer than max_line_bytes", self.stop())

    def test_received_lines_survive_a_kill(self):
        self.start()
        with self.accept() as peer:
            peer.sendall(b"".join(b"%d\n" % i for i in range(500)))
            self.wait_for([str(i) for i in range(500)])
            self.kill()
        self.start()
        with self.accept() as peer:
            peer.sendall(b"again\n")
            self.wait_for([str(i) for i in range(500)] + ["again"])
        self.stop()

    def test_a_server_that_is_away_is_waited_for(self):
        self.server.close()
        self.start()
        self.server = socket.create_server(("127.0.0.1", self.port))
        self.server.settimeout(WAIT)
        with self.accept() as peer:
            peer.sendall(b"one\n")
            self.wait_for(["one"])
        self.stop()


class Stdin(unittest.TestCase):
    def run_sql(self, data, sql="SELECT value FROM stdin"):
        done = subprocess.run([BIN, "run", "-e", "CREATE TABLE stdin WITH (connector = 'stdin', format = 'text'); "
                               "CREATE TABLE c WITH (connector = 'console', style = 'json'); INSERT INTO c " + sql],
                              input=data, capture_output=True, check=False, timeout=WAIT)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line)["value"] for line in done.stdout.splitlines()]

    def test_every_line_comes_once_and_the_program_ends_with_its_input(self):
        wanted = [f"line {i} " + "x" * (i % 300) for i in range(20000)]
        self.assertEqual(self.run_sql(("\n".join(wanted) + "\n").encode()), wanted)

    def test_the_last_line_may_lack_its_end_and_empty_input_is_fine(self):
        self.assertEqual(self.run_sql(b"one\ntwo"), ["one", "two"])
        self.assertEqual(self.run_sql(b""), [])

    def test_a_line_longer_than_a_buffer_is_one_row(self):
        self.assertEqual(self.run_sql(b"a\n" + b"y" * 3000000 + b"\nb\n"), ["a", "y" * 3000000, "b"])


if __name__ == "__main__":
    unittest.main()
