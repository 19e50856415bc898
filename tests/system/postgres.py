"""A real PostgreSQL server for tests: in a directory of its own, on a socket there, no TCP.

    with Postgres(directory) as server:
        server.sql("CREATE TABLE t (a int)")
        ... server.connection is what libpq wants ...

initdb refuses to run as root: then the server runs as the user postgres, which Debian's package makes.
"""
import glob
import os
import shutil
import subprocess
import time

START_SECONDS = 60


def bindir():
    """The newest server's programs, or None."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]))
    if found:
        return found[-1]
    initdb = shutil.which("initdb")
    return os.path.dirname(initdb) if initdb else None


def missing():
    """Why the server cannot run here, or None."""
    return None if bindir() else "no PostgreSQL server; run tools/setup --postgres"


class Postgres:
    def __init__(self, directory):
        self.dir = directory
        self.data = os.path.join(directory, "data")
        self.connection = f"host={directory} user=mr dbname=postgres"
        self.process = None

    def _as_server(self, *args):
        """The command, as a user that the server accepts."""
        command = [os.path.join(bindir(), args[0]), *args[1:]]
        if os.geteuid() != 0:
            return command
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]

    def _run(self, *args):
        done = subprocess.run(self._as_server(*args), cwd="/", capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(args)}: {done.stdout}{done.stderr}")

    def create(self):
        os.makedirs(self.dir, exist_ok=True)
        if os.geteuid() == 0:
            shutil.chown(self.dir, "postgres", "postgres")
            os.chmod(os.path.dirname(self.dir), 0o711)  # a directory of tempfile's lets nobody else through
        os.chmod(self.dir, 0o755)
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "mr", "--no-sync", "--locale=C", "-E", "UTF8")
        with open(os.path.join(self.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(f"listen_addresses=''\nunix_socket_directories='{self.dir}'\nshared_buffers=32MB\n")

    def start(self):
        """Starts it; after a kill the first attempt may find the old one's children still going."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self._run("pg_ctl", "-D", self.data, "-l", os.path.join(self.dir, "log"), "-w", "start")
                return self
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def kill(self):
        """SIGKILL for the server and all its processes."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            os.kill(int(file.readline()), 9)

    def stop(self):
        subprocess.run(self._as_server("pg_ctl", "-D", self.data, "-m", "immediate", "-w", "stop"), cwd="/",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def __enter__(self):
        self.create()
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def sql(self, text):
        """Rows as lists of texts."""
        done = subprocess.run([os.path.join(bindir(), "psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1",
                               "-d", self.connection, "-c", text], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return [line.split("\t") for line in done.stdout.splitlines()]
