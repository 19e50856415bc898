"""What holds after every fault (INV1 to INV8 of docs/faults.md), for tests of the real program.

A FaultCase has a directory with an input, a checkpoint and two outputs of one pipeline: `rows`, each input row as it came,
and `dst`, the running count of each city. It remembers every row that it put into the input: that is the oracle. A test
causes its fault, and then calls

    self.stopped(done, 74, "space")     what a run that ends with an error must look like (INV6, INV7)
    self.whole()                        the cause is gone: the next start goes on, and all is as without a fault

whole() looks at what the fault left, runs the pipeline to its end, and asserts: exit code 0; the rows are the input's, each as
often (INV1); before and after, whatever is in an output has its plan in the log, and every commit there has its plan, its state
and, in the outputs, as many files and rows as its receipts say (INV2, in_step); no count was written twice (INV3); `checkpoint
verify` finds nothing (INV5); what was left out, most often nothing, is in log, progress and counters (INV6, left_out); no stray
file; a start that has nothing to do changes no byte of an output (INV8).
"""
import collections
import glob
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest

BIN = os.environ.get("MILLRACE_BIN", "")
SOURCE = os.environ.get("MILLRACE_SOURCE_DIR", os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
QUICK = os.environ.get("QUICK") == "1"
WAIT = 60  # seconds until a process counts as hung

PIPELINE = """
SET checkpoint = '{checkpoint}';
{settings}
CREATE TABLE src (k BIGINT, city VARCHAR) WITH (connector = 'file', path = '{source}', format = 'json'{options});
CREATE TABLE rows (k BIGINT, city VARCHAR) WITH (connector = 'file', path = '{output}/rows', format = 'json');
CREATE TABLE dst (city VARCHAR, n BIGINT) WITH (connector = 'file', path = '{output}/dst', format = 'json');
INSERT INTO rows SELECT k, city FROM src;
SET output_mode = 'update';
INSERT INTO dst SELECT city, count(*) AS n FROM src GROUP BY city;
"""


def documented_exit_codes():
    """The codes of the table at the end of docs/faults.md."""
    with open(os.path.join(SOURCE, "docs", "faults.md"), encoding="utf-8") as file:
        table = file.read().split("## Exit codes")[1]
    return {int(code) for cells in re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE) for code in cells.split(",")}


def check_stopped(test, code, stderr, want, texts):
    """A run that ended with an error: a documented code, one line that says what and where, no death of its own (INV6, 7)."""
    test.assertGreaterEqual(code, 0, f"died of signal {-code}: {stderr}")
    test.assertEqual(code, want, stderr)
    test.assertIn(code, documented_exit_codes())
    test.assertNotRegex(stderr, r"Sanitizer|runtime error:|assertion|Segmentation")
    said = [line for line in stderr.splitlines() if line.startswith("millrace: ") and "finishing the batch" not in line]
    test.assertEqual(len(said), 1, "not one line says why: " + stderr)
    for text in texts:
        test.assertIn(text, said[0])
    return said[0]


class FaultCase(unittest.TestCase):
    program = [BIN]

    def setUp(self):
        if not os.access(BIN, os.X_OK):
            self.skipTest("there is no millrace program in this build")
        self.dir = tempfile.mkdtemp(prefix="millrace-faults-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.put_rows = []
        os.mkdir(self.path("in"))
        self.places = {"checkpoint": "cp", "source": "in", "output": "out", "options": "", "settings": ""}
        self.query()

    # ---- the pipeline and its input ----

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def write(self, name, text):
        with open(self.path(name), "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    def read(self, *names):
        with open(self.path(*names), "rb") as file:
            return file.read().decode("utf-8", "replace")

    def query(self, **places):
        self.places.update(places)
        self.write("q.sql", PIPELINE.format(**self.places))

    def put(self, name, cities):
        """An input file that appears whole, a row for each city; the oracle learns of it."""
        rows = [(len(self.put_rows) + i, city) for i, city in enumerate(cities)]
        hidden = self.path("in", "." + name)
        with open(hidden, "w", encoding="utf-8") as file:
            file.writelines(json.dumps({"k": k, "city": city}) + "\n" for k, city in rows)
        os.rename(hidden, self.path("in", name))
        self.put_rows += rows

    # ---- running ----

    def run_cli(self, *args, **more):
        given = {"cwd": self.dir, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                 "timeout": WAIT, **more}
        done = subprocess.run([*self.program, *args], check=False, **given)
        done.stdout = (done.stdout or b"").decode("utf-8", "replace")
        done.stderr = (done.stderr or b"").decode("utf-8", "replace")
        return done

    def run_through(self, *args, **more):
        return self.run_cli("run", "--until-caught-up", *args, "q.sql", **more)

    def start(self, *args, **more):
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen([*self.program, *(args or ("run", "q.sql"))], cwd=self.dir, **given)
        self.addCleanup(process.wait)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                self.addCleanup(stream.close)
        self.addCleanup(process.kill)
        return process

    def end(self, process, code=0, number=signal.SIGINT):
        """A graceful stop; what it said."""
        process.send_signal(number)
        _, text = process.communicate(timeout=WAIT)
        text = (text or b"").decode("utf-8", "replace")
        self.assertEqual(process.returncode, code, text)
        return text

    def wait_for(self, what, check):
        deadline = time.monotonic() + WAIT
        while not check():
            self.assertLess(time.monotonic(), deadline, "no " + what)
            time.sleep(0.01)  # looks at another process again, bounded by the deadline

    def ok(self, *args, **more):
        done = self.run_through(*args, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def expect(self, code, *texts, **more):
        """A run that ends with an error."""
        return self.stopped(self.run_through(**more), code, *texts)

    def stopped(self, done, code, *texts):
        return check_stopped(self, done.returncode, done.stderr, code, texts)

    # ---- outputs ----

    def lines_of(self, table):
        found = []
        for name in sorted(glob.glob(self.path(self.places["output"], table, "part-*"))):
            with open(name, encoding="utf-8") as file:
                found += [json.loads(line) for line in file]
        return found

    def rows(self):
        return collections.Counter((row["k"], row["city"]) for row in self.lines_of("rows"))

    def counts(self):
        """The newest count of each city; none is written twice, none goes back."""
        newest = {}
        for row in self.lines_of("dst"):
            self.assertGreater(row["n"], newest.get(row["city"], 0), "a count came twice or went back")
            newest[row["city"]] = row["n"]
        return newest

    def has_all(self):
        """Has everything that was put come out? For waiting."""
        return sum(self.rows().values()) >= len(self.put_rows)

    def output_bytes(self):
        """Name, mode and content of every file below the outputs."""
        found = {}
        for place, _, names in os.walk(self.path(self.places["output"])):
            for name in names:
                at = os.path.join(place, name)
                with open(at, "rb") as file:
                    found[at] = (stat.S_IMODE(os.stat(at).st_mode), hashlib.sha256(file.read()).hexdigest())
        return found

    def strays(self):
        """Files that nobody should leave behind: temporaries, and what is neither a part nor the sink's own."""
        found = []
        for root in (self.places["checkpoint"], self.places["output"]):
            for place, _, names in os.walk(self.path(root)):
                found += [os.path.join(place, name) for name in names if name.startswith(".tmp-")]
        for place, folders, names in os.walk(self.path(self.places["output"])):
            if ".millrace" in folders:
                folders.remove(".millrace")
            found += [os.path.join(place, name) for name in names if not name.startswith("part-")]
        return found

    # ---- the invariants ----

    def no_partial_output(self):
        """INV5: what is visible is whole: every line is a row of the input, none of them twice."""
        want = collections.Counter(self.put_rows)
        self.assertEqual(self.rows() - want, collections.Counter())
        most = collections.Counter(city for _, city in self.put_rows)
        for city, n in self.counts().items():
            self.assertLessEqual(n, most[city])

    def batches(self):
        """What the log says: numbers of the plans; of each commit its stores and the receipts of its sinks. None: it cannot say."""
        shown = self.run_cli("checkpoint", "show", self.places["checkpoint"])
        if shown.returncode != 0:
            return None, None
        plans, commits, newest = [], {}, {}
        for line in shown.stdout.splitlines():
            if found := re.match(r"PLAN (\d+) ", line):
                plans.append(int(found[1]))
            elif found := re.match(r"COMMIT (\d+) ", line):
                newest = commits.setdefault(int(found[1]), {"stores": set(), "sinks": {}})
            elif found := re.match(r"    state (\S+): ", line):
                newest["stores"].add(found[1])
            elif found := re.match(r"    sink (\w+)=(.*)$", line):
                newest["sinks"][found[1]] = json.loads(found[2])
        return plans, commits

    def in_step(self, must_say):
        """INV2: sinks, state and log agree, also between a fault and the next start."""
        plans, commits = self.batches()
        if plans is None or not plans:
            self.assertFalse(must_say and self.put_rows, "the log has no plan")
            return
        self.assertEqual(plans, list(range(plans[0], plans[0] + len(plans))), "plans that do not follow")
        self.assertLessEqual(set(plans) - set(commits), {plans[-1]}, "a plan before the last one has no commit")
        self.assertLessEqual(set(commits), set(plans), "a commit without its plan")
        for table in ("rows", "dst"):
            found = collections.Counter()
            written = collections.Counter()
            for path in glob.glob(self.path(self.places["output"], table, "part-*")):
                batch = int(os.path.basename(path).split("-")[1])
                self.assertLessEqual(batch, plans[-1], f"{path} is of a batch that the log does not know")
                found[batch] += 1
                with open(path, "rb") as file:
                    written[batch] += sum(1 for _ in file)
            for batch, commit in commits.items():
                self.assertTrue(commit["stores"], f"commit {batch} names no state")
                if table in commit["sinks"]:
                    receipt = commit["sinks"][table]
                    self.assertEqual((found[batch], written[batch]), (receipt["files"], receipt["rows"]),
                                     f"batch {batch} of {table} is not what its commit says")

    def left_out(self, said, rows):
        """INV6: what was left out of the input is in the progress, in a counter and in the log, and nothing else is."""
        documents = [json.loads(line) for line in said.splitlines() if line.startswith('{"id":')]
        dropped = [one for progress in documents for one in progress["droppedRows"]]
        self.assertEqual(sum(one["rows"] for one in dropped), rows, dropped)
        self.assertEqual(sum(source["metrics"].get("badRows", 0) for progress in documents for source in progress["sources"]), rows)
        for counter, want in (("bad_rows", rows), ("late_rows", 0), ("receiver_records_dropped", 0), ("block_copies_lost", 0)):
            self.assertEqual(max([progress["metrics"][counter] for progress in documents], default=0), want, counter)
        told = re.findall(r"(\d+) (?:rows?|records?|lines?)\b.* (?:were|was) (?:dropped|skipped)", said)
        self.assertEqual(sum(int(count) for count in told), rows, said)

    def whole(self, left_out=0):
        """The cause is gone. See the top. left_out: so many records of the input are bad, and on_error skips them."""
        self.no_partial_output()
        self.in_step(must_say=False)
        self.left_out(self.ok("--progress", "json").stderr, left_out)
        self.in_step(must_say=True)
        self.assertEqual(self.rows(), collections.Counter(self.put_rows))
        self.assertEqual(self.counts(), dict(collections.Counter(city for _, city in self.put_rows)))
        verified = self.run_cli("checkpoint", "verify", self.places["checkpoint"])
        self.assertEqual(verified.returncode, 0, verified.stderr + verified.stdout)
        self.assertEqual(self.strays(), [])
        before = self.output_bytes()
        self.ok()
        self.assertEqual(self.output_bytes(), before, "a start with nothing to do changed an output")

    # ---- small file systems ----

    def mount(self, kind, where, options, device="none"):
        """A file system of the test's own below its directory; skips where mounting is not allowed."""
        if os.geteuid() != 0:
            self.skipTest("mounting a small file system needs root")
        os.makedirs(self.path(where), exist_ok=True)
        done = subprocess.run(["mount", "-t", kind, "-o", options, device, self.path(where)], check=False,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            self.skipTest(f"cannot mount a {kind} here: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", self.path(where)], check=False, stderr=subprocess.DEVNULL)

    def remount(self, where, options):
        subprocess.run(["mount", "-o", "remount," + options, self.path(where)], check=True)
