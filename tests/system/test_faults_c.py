"""Rows C of the fault catalogue (docs/faults.md): the system says no. Real small file systems, refused calls, tiny limits;
after each the invariants of tests/support/invariants.py."""
import errno
import glob
import os
import resource
import signal
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import refuse  # noqa: E402  pylint: disable=wrong-import-position
from invariants import BIN, WAIT, FaultCase  # noqa: E402  pylint: disable=wrong-import-position


def limit(**values):
    """For preexec_fn: limit(NOFILE=16)."""
    def set_them():
        for name, value in values.items():
            resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value))
    return set_them


class Resources(FaultCase):
    def fill(self, where):
        """Takes the last byte of a file system; returns the file that has it."""
        ballast = self.path(where, "ballast")
        with open(ballast, "wb", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while file.write(b"x" * size) == size:
                        pass
                except OSError:
                    pass  # that was the last of this size
        return ballast

    # ---- C3: quota, limits, inodes, read-only ----

    def test_C1_C2_a_full_file_system_of_checkpoint_or_output_is_told_and_survived(self):
        self.mount("tmpfs", "small", "size=4m")
        for places in ({"checkpoint": "small/cp"}, {"checkpoint": "cp2", "output": "small/out"}):
            with self.subTest(**places):
                self.put_rows = []
                for name in glob.glob(self.path("in", "*")):
                    os.unlink(name)
                self.places.update(checkpoint="cp", output="out")
                self.query(**places)
                self.put("a.json", ["Oslo", "Bergen"])
                self.ok()
                ballast = self.fill("small")
                self.put("b.json", [f"city {i}" for i in range(20000)])
                self.expect(74, "space", "small")
                self.no_partial_output()
                os.unlink(ballast)
                self.whole()

    def test_C3_a_file_system_without_inodes_is_told_and_survived(self):
        self.mount("tmpfs", "small", "size=64m,nr_inodes=40")
        self.query(checkpoint="small/cp", output="small/out")
        self.put("a.json", ["Oslo"])
        self.ok()
        taken = []
        try:
            while len(taken) < 100:
                os.mkdir(self.path("small", str(len(taken))))
                taken.append(self.path("small", str(len(taken))))
        except OSError as error:
            self.assertEqual(error.errno, errno.ENOSPC)
        self.put("b.json", ["Oslo", "Bergen"])
        self.expect(74, "inodes", "small")
        self.no_partial_output()
        for name in taken:
            os.rmdir(name)
        self.whole()

    def test_C3_a_real_file_system_that_is_full_and_then_mounted_again_read_only(self):
        self.write("image", b"")
        os.truncate(self.path("image"), 16 << 20)
        made = subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", self.path("image")], check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if os.path.exists("/sbin/mkfs.ext4") \
            else None
        if made is None or made.returncode != 0:
            self.skipTest("no mkfs.ext4")
        self.mount("ext4", "disk", "loop", self.path("image"))
        self.query(checkpoint="disk/cp", output="disk/out")
        self.put("a.json", ["Oslo"])
        self.ok()
        ballast = self.fill("disk")
        self.put("b.json", [f"city {i}" for i in range(30000)])
        self.expect(74, "space", "disk")
        self.no_partial_output()
        os.unlink(ballast)
        self.ok()
        self.put("c.json", ["Oslo"])
        self.remount("disk", "ro")
        self.expect(74, "Read-only", "disk", "mount this file system for writing")
        self.remount("disk", "rw")
        self.whole()

    def test_C3_a_file_system_that_becomes_read_only_while_it_runs_ends_the_query(self):
        self.mount("tmpfs", "small", "size=8m")
        self.query(checkpoint="cp", output="small/out")
        self.put("a.json", ["Oslo"])
        process = self.start()
        self.wait_for("output", self.has_all)
        subprocess.run(["mount", "-o", "remount,ro", self.path("small")], check=True)
        self.put("b.json", ["Oslo", "Bergen"])
        _, text = process.communicate(timeout=WAIT)
        done = subprocess.CompletedProcess([], process.returncode, "", text.decode())
        self.stopped(done, 74, "Read-only", "small")
        self.remount("small", "rw")
        self.whole()

    def test_C3_a_limit_of_file_sizes_is_told_and_survived(self):
        self.put("a.json", ["Oslo"])
        self.ok()
        self.put("b.json", [f"city {i}" for i in range(20000)])
        self.expect(74, "ulimit -f", preexec_fn=limit(FSIZE=300000))
        self.no_partial_output()
        self.whole()

    def test_C3_a_quota_that_is_used_up_has_a_message_of_its_own(self):
        if not refuse.available():
            self.skipTest("refusing calls needs seccomp on x86-64")
        self.put("a.json", ["Oslo"])
        self.expect(74, "quota", preexec_fn=refuse.calls(renameat2=errno.EDQUOT))
        self.whole()

    # ---- C6, C7: close, short counts ----

    def traced(self, *how):
        """The program under the tracer of tests/crash, which makes calls below the test's directory fail."""
        tracer = os.path.join(os.environ.get("MILLRACE_BUILD_DIR", ""), "tests", "crash", "killpoint")
        if not os.access(tracer, os.X_OK):
            self.skipTest("this build has no tracer")
        self.program = [tracer, "inject", "--under", self.dir, "-o", self.path("report"), "--at", "1", "--every", *how, "--", BIN]
        self.addCleanup(lambda: self.assertRegex(self.report, r"injected=[1-9]"))
        done = self.run_through()
        self.report = self.read("report")
        os.unlink(self.path("report"))
        self.program = [BIN]
        return done

    def test_C6_a_close_that_fails_loses_nothing(self):
        """Whatever must last is flushed before it is closed, so an error of close has nothing to take away."""
        self.put("a.json", ["Oslo", "Bergen"])
        done = self.traced("--only", "close", "--errno", "EIO")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sum(self.rows().values()), 2)
        self.whole()

    def test_C7_every_write_that_moves_one_byte_is_carried_on(self):
        self.put("a.json", [f"city {i % 7}" for i in range(20)])
        done = self.traced("--short", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sum(self.rows().values()), 20)
        self.whole()

    # ---- C15: a slow disk ----

    def test_C15_a_disk_that_takes_long_to_flush_delays_and_changes_nothing(self):
        self.put("a.json", ["Oslo", "Bergen"])
        done = self.traced("--only", "fdatasync,fsync", "--delay", "100")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sum(self.rows().values()), 2)
        self.whole()

    # ---- C9: would block ----

    def test_C9_an_idle_socket_costs_no_time(self):
        server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(server.close)
        server.settimeout(WAIT)
        self.write("s.sql", "SET checkpoint = 'cp';\nCREATE TABLE src WITH (connector = 'socket', host = '127.0.0.1', "
                   f"port = {server.getsockname()[1]}, format = 'text');\n"
                   "CREATE TABLE rows (value VARCHAR) WITH (connector = 'file', path = 'out/rows', format = 'text');\n"
                   "INSERT INTO rows SELECT value FROM src;\n")
        process = self.start("run", "s.sql")
        peer, _ = server.accept()
        self.addCleanup(peer.close)
        peer.sendall(b"one\n")
        self.wait_for("output", lambda: glob.glob(self.path("out", "rows", "part-*")))

        def cpu_ticks():
            with open(f"/proc/{process.pid}/stat", encoding="ascii") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        before = cpu_ticks()
        timer = socket.socketpair()  # a wait of two seconds with nothing to wake it
        timer[0].settimeout(2)
        with self.assertRaises(TimeoutError):
            timer[0].recv(1)
        spent = cpu_ticks() - before
        for one in timer:
            one.close()
        self.assertLessEqual(spent, 0.05 * 2 * os.sysconf("SC_CLK_TCK") + 1, "an idle query takes time")
        self.end(process)

    # ---- C10: descriptors ----

    def test_C10_without_descriptors_it_ends_with_the_limit_and_goes_on_when_there_are_some(self):
        self.put("a.json", ["Oslo"])
        self.ok()
        self.put("b.json", ["Oslo", "Bergen"])
        ended, number = set(), 0
        for number in range(3, 40):
            done = self.run_through(preexec_fn=limit(NOFILE=number))
            if done.returncode == 0:
                break
            ended.add(done.returncode)
            if number >= 8:  # below, the loader finds not even its libraries
                self.assertEqual(done.returncode, 71, f"{number}: {done.stderr}")
                self.assertIn("ulimit -n", done.stderr)
            self.no_partial_output()
        self.assertEqual(done.returncode, 0, "40 descriptors are not enough: " + done.stderr)
        self.assertIn(71, ended)
        self.whole()

    # ---- C12: killed for its memory ----

    def test_C12_a_kill_of_the_kernel_for_memory_is_as_any_kill(self):
        groups = "/sys/fs/cgroup/memory"
        if not os.path.exists(os.path.join(groups, "memory.limit_in_bytes")) or not os.access(groups, os.W_OK):
            self.skipTest("no memory controller that can be written")
        group = os.path.join(groups, f"millrace-faults-{os.getpid()}")
        os.mkdir(group)
        self.addCleanup(os.rmdir, group)

        def set_value(name, value):
            with open(os.path.join(group, name), "w", encoding="ascii") as file:
                file.write(str(value))

        def join():
            with open(os.path.join(group, "cgroup.procs"), "w", encoding="ascii") as file:
                file.write(str(os.getpid()))

        self.put("a.json", ["Oslo", "Bergen"])
        process = self.start(preexec_fn=join)
        self.wait_for("output", self.has_all)
        with open(os.path.join(group, "memory.usage_in_bytes"), encoding="ascii") as file:
            set_value("memory.limit_in_bytes", int(file.read()) + (4 << 20))
        self.put("b.json", [f"city {i}" + "x" * 400 for i in range(60000)])
        self.assertEqual(process.wait(WAIT), -signal.SIGKILL)
        self.no_partial_output()
        self.whole()

    # ---- C14: small stacks ----

    def test_C14_small_stacks_and_deep_input_end_in_an_error_and_no_overflow(self):
        self.put("a.json", ["Oslo"])
        done = self.run_through(preexec_fn=limit(STACK=64 * 1024))
        self.assertEqual(done.returncode, 0, done.stderr)
        deep = "[" * 100000 + "]" * 100000
        self.write("in/b.json", '{"k": ' + deep + ', "city": "Oslo"}\n')
        self.expect(65, "b.json", preexec_fn=limit(STACK=64 * 1024))
        os.unlink(self.path("in", "b.json"))
        self.write("deep.sql", "SELECT " + "(" * 50000 + "1" + ")" * 50000 + ";")
        done = self.run_cli("check", "deep.sql", preexec_fn=limit(STACK=64 * 1024))
        self.stopped(done, 71, "deep.sql:1:", "inside each other")

    # ---- C16: nothing around it ----

    def test_C16_without_home_without_proc_and_on_a_read_only_root_it_runs(self):
        self.put("a.json", ["Oslo"])
        self.ok(env={"PATH": "/nowhere"})
        self.put("b.json", ["Oslo"])
        if os.geteuid() != 0:
            self.skipTest("unmounting /proc needs root")
        # Without /proc the loader does not know where the program is, and so not where the libraries beside it are.
        libraries = "LD_LIBRARY_PATH=" + os.path.join(os.path.dirname(BIN), "lib", "millrace")
        inside = ("mount --make-rprivate / && mount --bind \"$0\" \"$0\" && umount -l /proc 2>/dev/null; "
                  "mount -o remount,bind,ro / && cd \"$0\" && exec env -i \"$@\"")
        command = ["unshare", "-m", "sh", "-c", inside, self.dir, libraries, BIN, "run", "--until-caught-up",
                   "q.sql"]
        done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=WAIT)
        if "unshare" in done.stderr or "mount:" in done.stderr:
            self.skipTest("cannot make a name space here: " + done.stderr.strip())
        self.assertEqual(done.returncode, 0, done.stderr)
        self.whole()

    def test_C16_it_needs_no_other_process(self):
        if not refuse.available():
            self.skipTest("refusing calls needs seccomp on x86-64")
        self.put("a.json", ["Oslo"])
        self.write("filter.sh", "")
        self.ok(preexec_fn=refuse.calls(fork=errno.EPERM, vfork=errno.EPERM))
        self.whole()

    # ---- C17: rights taken away ----

    def test_C17_rights_that_are_taken_away_are_a_permission_error_and_all_is_well_when_they_are_back(self):
        self.put("a.json", ["Oslo"])
        self.ok(preexec_fn=refuse.without_privileges())
        self.put("b.json", ["Oslo"])
        for name in ("cp/query", "cp/log", "out/rows", "in/b.json", "in"):
            mode = os.stat(self.path(name)).st_mode & 0o777
            os.chmod(self.path(name), 0)
            said = self.run_through(preexec_fn=refuse.without_privileges())
            os.chmod(self.path(name), mode)
            self.stopped(said, 77, name)
        self.whole()

    def test_C17_rights_that_are_taken_away_while_it_runs_end_the_query(self):
        self.put("a.json", ["Oslo"])
        process = self.start(preexec_fn=refuse.without_privileges())
        self.wait_for("output", self.has_all)
        os.chmod(self.path("out", "rows"), 0o500)
        self.put("b.json", ["Oslo"])
        _, text = process.communicate(timeout=WAIT)
        os.chmod(self.path("out", "rows"), 0o700)
        self.stopped(subprocess.CompletedProcess([], process.returncode, "", text.decode()), 77, "out/rows")
        self.whole()

    # ---- C18, C20: calls that a kernel or file system does not have ----

    def test_C18_C20_without_renames_that_do_not_replace_links_are_used(self):
        if not refuse.available():
            self.skipTest("refusing calls needs seccomp on x86-64")
        for error in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
            self.put(f"{error}.json", ["Oslo", "Bergen"])
            self.ok(preexec_fn=refuse.calls(renameat2=error, copy_file_range=errno.EXDEV, sync_file_range=errno.ENOSYS,
                                            memfd_create=errno.ENOSYS, openat2=errno.ENOSYS, fallocate=errno.ENOTSUP))
            self.no_partial_output()
        self.whole()

    def test_C18_without_links_either_it_is_refused_before_anything_is_made(self):
        if not refuse.available():
            self.skipTest("refusing calls needs seccomp on x86-64")
        self.put("a.json", ["Oslo"])
        self.expect(74, "cp", "file system", preexec_fn=refuse.calls(renameat2=errno.EINVAL, link=errno.EPERM,
                                                                     linkat=errno.EPERM))
        self.assertEqual(self.rows(), {})
        self.whole()

    def test_C18_a_file_system_without_locks_is_refused(self):
        if not refuse.available():
            self.skipTest("refusing calls needs seccomp on x86-64")
        self.put("a.json", ["Oslo"])
        self.expect(71, "lock", preexec_fn=refuse.calls(fcntl=(errno.ENOLCK, 3), flock=errno.ENOLCK))
        self.assertEqual(self.rows(), {})
        self.whole()

    # ---- C19: names ----

    def test_C19_paths_that_are_too_long_are_refused_and_never_cut(self):
        self.put("a.json", ["Oslo"])
        for places in ({"checkpoint": "c" * 300}, {"checkpoint": "c/" * 2100 + "cp"}, {"checkpoint": "c/" * 2040 + "cp"},
                       {"output": "o" * 300}, {"source": "s" * 300}, {"source": "s/" * 2100}):
            self.query(**{**self.places, "checkpoint": "cp", "output": "out", "source": "in", **places})
            done = self.run_through()
            self.stopped(done, done.returncode, "shorter path")
            self.assertIn(done.returncode, (71, 78))
            self.assertLess(len(done.stderr), 500)
            self.assertEqual([name for name in os.listdir(self.dir) if name[0] in "os" and name != "out"], [])
            self.assertFalse(os.path.exists(self.path("c")), "a part of the path was made")
        self.query(checkpoint="cp", output="out", source="in")
        self.put("n" * 240 + ".json", ["Bergen"])
        self.whole()

    def test_C19_names_that_are_no_text_are_named(self):
        self.put("a.json", ["Oslo"])
        there = self.path("in").encode()
        os.rename(there + b"/a.json", there + b"/\xff\xfe.json")
        self.expect(65, "\\xff\\xfe.json", "rename it")
        os.rename(there + b"/\xff\xfe.json", there + b"/a.json")
        self.whole()


if __name__ == "__main__":
    unittest.main()
