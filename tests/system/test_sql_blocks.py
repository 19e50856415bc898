"""`millrace test` from outside: the TEST blocks of tests/sql, what TAP and JUnit say, exit codes, files that use others."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import xml.etree.ElementTree

BIN = os.environ["MILLRACE_BIN"]
SOURCE = os.environ["MILLRACE_SOURCE_DIR"]

PIPELINE = """
CREATE TABLE clicks (id BIGINT, city VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
  WITH (connector = 'kafka', brokers = '${MILLRACE_NO_SUCH}', topic = 'clicks', format = 'json');
CREATE TABLE cities (city VARCHAR, n BIGINT) WITH (connector = 'memory', output_mode = 'update');
INSERT INTO cities SELECT city, count(*) AS n FROM clicks GROUP BY city;
"""


def block(title, steps):
    return f"TEST '{title}' AS BEGIN\n{steps}\nEND;\n"


PASSES = block("counts", "INSERT INTO clicks VALUES (1, 'Bonn', '2026-01-01 10:00:00');\nASSERT cities = VALUES ('Bonn', 1);")


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


class Blocks(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-test-")
        self.addCleanup(shutil.rmtree, self.dir, True)

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def run_tests(self, *args):
        return subprocess.run([BIN, "test", *args], cwd=self.dir, capture_output=True, text=True, timeout=300)

    def expect(self, code, *args):
        done = self.run_tests(*args)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done

    def test_the_blocks_of_the_repository_pass(self):
        files = sorted(glob.glob(os.path.join(SOURCE, "tests", "sql", "*.sql")))
        examples = [path for path in sorted(glob.glob(os.path.join(SOURCE, "examples", "*.sql")))
                    if re.search(r"^TEST '", read(path), re.M)]
        done = self.run_tests(*files, *examples)
        failed = [line for line in done.stdout.splitlines() if not line.startswith("ok ")]
        self.assertEqual(done.returncode, 0, "\n".join(failed) + done.stderr)
        self.assertRegex(done.stdout, r"\ATAP version 14\n1\.\.\d+\n")
        blocks = sum(len(re.findall(r"^TEST '", read(path), re.M)) for path in files + examples)
        self.assertEqual(len(re.findall(r"^ok \d+ - ", done.stdout, re.M)), blocks)

    def test_equal_runs_print_equal_bytes(self):
        path = self.write("q.sql", PIPELINE + PASSES)
        self.assertEqual(self.expect(0, path).stdout, self.expect(0, path).stdout)

    def test_a_failing_assert_shows_the_difference_and_its_line(self):
        path = self.write("q.sql", PIPELINE + block("wrong", """
INSERT INTO clicks VALUES (1, 'Bonn', '2026-01-01 10:00:00'), (2, 'Bonn', '2026-01-01 10:00:01');
ASSERT cities = VALUES ('Oslo', 1), (NULL, 7);"""))
        done = self.expect(1, path)
        line = 1 + next(i for i, text in enumerate(read(path).splitlines()) if text.startswith("ASSERT"))
        self.assertIn("not ok 1 - wrong", done.stdout)
        self.assertIn(f"q.sql:{line}'", done.stdout)
        self.assertIn("+  Bonn | 2", done.stdout)
        self.assertIn("-  Oslo | 1", done.stdout)
        self.assertIn("-  NULL | 7", done.stdout)
        self.assertIn("2 missing (-), 1 unexpected (+), of 2 expected rows", done.stdout)

    def test_junit_says_the_same(self):
        path = self.write("q.sql", PIPELINE + PASSES + block("wrong <&>", "ASSERT cities = VALUES ('Oslo', 1);"))
        self.expect(1, path, "--junit", os.path.join(self.dir, "out.xml"))
        root = xml.etree.ElementTree.parse(os.path.join(self.dir, "out.xml")).getroot()
        self.assertEqual((root.get("tests"), root.get("failures")), ("2", "1"))
        cases = root.findall("testsuite/testcase")
        self.assertEqual([case.get("name") for case in cases], ["counts", "wrong <&>"])
        self.assertEqual([len(case.findall("failure")) for case in cases], [0, 1])

    def test_a_file_beside_it_is_read_with_the_pipeline_in_front(self):
        path = self.write("q.sql", PIPELINE)
        self.write("q.test.sql", PASSES)
        self.assertIn("ok 1 - counts", self.expect(0, path).stdout)
        self.assertIn("ok 1 - counts", self.expect(0, os.path.join(self.dir, "q.test.sql")).stdout)

    def test_a_file_may_use_another_one(self):
        self.write("pipelines/q.sql", PIPELINE + PASSES)
        path = self.write("tests/other.sql", "-- uses: ../pipelines/q.sql\n" + block("of the other", "ASSERT cities IS EMPTY;"))
        done = self.expect(0, path)
        self.assertIn("1..1\n", done.stdout)
        self.assertIn("ok 1 - of the other", done.stdout)

    def test_places_of_errors_are_those_of_their_own_file(self):
        self.write("q.sql", PIPELINE.replace("count(*)", "cuont(*)"))
        self.write("q.test.sql", "\n\n" + block("broken pipeline", "ASSERT cities IS EMPTY;"))
        done = self.expect(1, os.path.join(self.dir, "q.test.sql"))
        self.assertIn("q.sql:5:33: ", done.stdout)
        self.assertIn("q.test.sql:4'", done.stdout)

    def test_the_filter_chooses_by_title(self):
        path = self.write("q.sql", PIPELINE + PASSES + block("another", "ASSERT cities IS EMPTY;"))
        self.assertIn("1..1\n", self.expect(0, path, "--filter", "anoth").stdout)
        self.assertIn("no test was found", self.expect(64, path, "--filter", "nothing").stderr)

    def test_a_mistake_in_a_block_shows_its_line(self):
        for steps, text in (("INSERT clicks VALUES (1);", "expected INTO after INSERT, found 'clicks'"),
                            ("ASSERT cities;", "expected '=' and the rows that are expected, or IS EMPTY, found ';'"),
                            ("CRASH AFTER LUNCH;", "PLANNED, RAN, STAGED, PUBLISHED or COMMITTED, found 'LUNCH'"),
                            ("ADVANCE TIME TO 'noon';", "'noon' is no time"),
                            ("INSERT INTO clicks RECORDS (1);", "expected a record in quotes, found '1'"),
                            ("FLY;", "found 'FLY'")):
            path = self.write("q.sql", PIPELINE + block("mistake", steps))
            done = self.expect(64, path)
            self.assertIn(text, done.stderr)
            self.assertRegex(done.stderr, r"q\.sql:7:\d+: ")
            self.assertIn(steps, done.stderr)

    def test_check_and_run_leave_tests_alone_but_check_reads_them(self):
        path = self.write("q.sql", PIPELINE.replace("'kafka', brokers = '${MILLRACE_NO_SUCH}', topic = 'clicks'",
                                                    "'memory'").replace(", format = 'json'", "") + PASSES)
        self.assertEqual(subprocess.run([BIN, "check", path], capture_output=True, cwd=self.dir).returncode, 0)
        done = subprocess.run([BIN, "run", "--once", path], capture_output=True, cwd=self.dir, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        with open(path, "a", encoding="utf-8") as file:
            file.write(block("mistake", "FLY;"))
        done = subprocess.run([BIN, "check", path], capture_output=True, cwd=self.dir, text=True)
        self.assertEqual(done.returncode, 64)
        self.assertIn("found 'FLY'", done.stderr)

    def test_what_is_done_wrong_in_a_step_fails_the_test(self):
        for steps, text in (("INSERT INTO clikcs VALUES (1);", "there is no table 'clikcs'; did you mean 'clicks'?"),
                            ("INSERT INTO clicks VALUES (1);", "the rows have 1 columns, the table has 3"),
                            ("INSERT INTO clicks (id, town) VALUES (1, 'x');", "the table has no column 'town'"),
                            ("INSERT INTO clicks VALUES ('x', 'y', 'z');", "could not convert string 'x' to INT64"),
                            ("CRASH AFTER RAN;", "no batch came to 'ran': nothing crashed"),
                            ("ADVANCE TIME TO '2020-01-01';", "the clock is at '2026-01-01 00:00:00' already"),
                            ("ADVANCE WATERMARK OF cities TO '2026-01-01';", "table 'cities' has no WATERMARK"),
                            ("ASSERT ERROR 'x';", "the pipeline runs, but 'x' is expected to fail it"),
                            ("ASSERT cities KEY (town) IS EMPTY;", "table 'cities' has no column 'town'"),
                            ("ASSERT STATE '1/1';", "the state is"),
                            ("INSERT INTO cities RECORDS ('x');", "table 'cities' has no format of records"),
                            ("INSERT INTO clicks RECORDS ('{');\nRUN;", "cannot decode 'clicks' line 1"),
                            ("ASSERT BAD ROWS 1;", "0 records could not be decoded, not 1"),
                            ("ASSERT WATERMARK '2026-01-01';", "the watermark is none, not 2026-01-01 00:00:00")):
            path = self.write("q.sql", PIPELINE + block("wrong", steps))
            self.assertIn(text.replace("'", "''"), self.expect(1, path).stdout, steps)

    def test_a_crash_at_any_point_changes_nothing(self):
        files = [os.path.join(SOURCE, name) for name in ("examples/first.sql", "tests/sql/limit.sql", "tests/sql/bad_rows.sql")]
        self.expect(0, "--crash-everywhere", *files)

    def test_what_a_restart_forgets_is_a_note_and_no_failure(self):
        # what each of two streams had is forgotten by a restart (WM-11): the common watermark waits for both again
        table = "CREATE TABLE {} (ts TIMESTAMP, WATERMARK FOR ts AS ts) WITH (connector = 'memory');\n"
        path = self.write("q.sql", table.format("a") + table.format("b") + """
CREATE TABLE out WITH (connector = 'memory', output_mode = 'append');
INSERT INTO out SELECT count(*) AS n FROM (SELECT ts FROM a UNION ALL SELECT ts FROM b) GROUP BY window(ts, '5 seconds');
""" + block("waits", """INSERT INTO a VALUES ('2026-01-01 00:00:01');
INSERT INTO b VALUES ('2026-01-01 00:00:01');
RUN;
INSERT INTO a VALUES ('2026-01-01 00:01:00');
RUN;
INSERT INTO b VALUES ('2026-01-01 00:01:00');
ASSERT BATCHES 5;
ASSERT out = VALUES (2);"""))
        self.assertNotIn("note:", self.expect(0, path).stdout)
        junit = os.path.join(self.dir, "report.xml")
        self.assertIn("note: 'with a crash after ''committed'' of batch 2 other rows come out: a restart forgets how far each",
                      self.expect(0, path, "--crash-everywhere", "--junit", junit).stdout)
        self.assertIn("<system-out>with a crash after 'committed' of batch 2", read(junit))

    STATIC = """CREATE TABLE e (k BIGINT) WITH (connector = 'memory');
CREATE TABLE names (k BIGINT, name VARCHAR) WITH (connector = 'file', path = 'names', format = 'json', static = 'true');
CREATE TABLE out (k BIGINT, name VARCHAR) WITH (connector = 'file', path = 'out', format = 'json');
INSERT INTO out SELECT e.k, name FROM e LEFT JOIN names ON e.k = names.k;
"""

    def test_a_crash_that_changes_the_result_is_named(self):
        path = self.write("q.sql", self.STATIC + block("earlier", """INSERT INTO e VALUES (1);
RUN;
INSERT INTO names VALUES (2, 'two');
INSERT INTO e VALUES (2);
ASSERT out = VALUES (1, NULL), (2, NULL);"""))
        self.expect(0, path)
        self.assertIn("with a crash after ''planned'' of batch 1: ''out'' is not what was expected",
                      self.expect(1, path, "--crash-everywhere").stdout)

    def test_a_batch_that_is_published_twice_brings_the_same_rows(self):
        steps = """INSERT INTO names VALUES (1, 'one');
INSERT INTO e VALUES (1);
RUN;{}
INSERT INTO e VALUES (2), (1);
CRASH AFTER PUBLISHED;
RUN;
ASSERT ERROR 'other rows';"""
        path = self.write("q.sql", self.STATIC + block("changes", steps.format("\nINSERT INTO names VALUES (2, 'two');")))
        out = self.expect(1, path).stdout
        self.assertIn("batch 1 of ''out'' ran again and gave other rows than those that were published", out)
        self.assertIn("the first time, 2 rows:\n       1 | one\n       2 | NULL\n    again, 2 rows:\n       1 | one\n       2 | two\n", out)
        self.assertIn("    -  2 | NULL\n    +  2 | two\n    1 missing (-), 1 unexpected (+), of 2 expected rows\n", out)
        path = self.write("q.sql", self.STATIC + block("stays", steps.format("").replace("ASSERT ERROR 'other rows'",
                          "ASSERT out = VALUES (1, 'one'), (1, 'one'), (2, NULL)")))
        self.expect(0, path)

    def test_idle_sources_survive_a_crash(self):
        self.expect(0, "--crash-everywhere", os.path.join(SOURCE, "tests/sql/idle.sql"))

    def test_a_simple_test_takes_milliseconds(self):
        path = self.write("q.sql", PIPELINE + PASSES * 40)
        began = time.monotonic()
        self.expect(0, path)
        self.assertLess((time.monotonic() - began) / 40, 0.5)


if __name__ == "__main__":
    unittest.main()
