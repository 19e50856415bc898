"""The vectors FS-* of Structured Streaming: the file source, through the command. Every test has a directory of its own."""
import glob
import json
import os
import shutil
import subprocess
import tempfile
import unittest

BIN = os.environ["MILLRACE_BIN"]
WAIT = 60  # seconds until a process counts as hung


class Files(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="millrace-files-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.time = 1_700_000_000
        os.mkdir(self.path("in"))

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def put(self, name, text, mtime=None):
        """A file that appears whole, a second newer than the one before."""
        path = self.path("in", name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        hidden = os.path.join(os.path.dirname(path), ".new")
        with open(hidden, "w", encoding="utf-8") as file:
            file.write(text)
        self.time += 1
        os.utime(hidden, (mtime or self.time, mtime or self.time))
        os.rename(hidden, path)

    def sql(self, select="value", columns="", fmt="text", path="in", **options):
        given = "".join(f", \"{key}\" = '{value}'" for key, value in options.items())
        return (f"SET checkpoint = 'cp';\n"
                f"CREATE TABLE src {columns} WITH (connector = 'file', path = '{path}', format = '{fmt}'{given});\n"
                f"CREATE TABLE dst WITH (connector = 'file', path = 'out', format = 'json');\n"
                f"INSERT INTO dst SELECT {select};\n")

    def run_sql(self, sql, *args, code=0, text=None):
        with open(self.path("q.sql"), "w", encoding="utf-8") as file:
            file.write(sql)
        done = subprocess.run([BIN, "run", *(args or ("--until-caught-up",)), "q.sql"], cwd=self.dir, capture_output=True,
                              text=True, check=False, timeout=WAIT)
        self.assertEqual(done.returncode, code, done.stderr)
        if text is not None:
            self.assertIn(text, done.stderr)
        return done

    def rows(self):
        """Rows of each batch, sorted."""
        batches = {}
        for name in sorted(glob.glob(self.path("out", "part-*"))):
            with open(name, encoding="utf-8") as file:
                batches.setdefault(os.path.basename(name)[:15], []).extend(json.loads(line) for line in file)
        return [sorted(batch, key=str) for batch in batches.values()]

    def values(self):
        return [[row["value"] for row in batch] for batch in self.rows()]

    def there(self):
        return sorted(os.path.relpath(os.path.join(folder, name), self.path("in"))
                      for folder, _, names in os.walk(self.path("in")) for name in names)

    # --- which files, in which batches ------------------------------------------------------------

    def test_FS_01_files_are_read_once_over_restarts(self):
        sql = self.sql("value FROM src WHERE value LIKE '%keep%'")
        for text, kept in (("drop1\nkeep2\nkeep3\n", ["keep2", "keep3"]), ("drop4\nkeep5\nkeep6\n", ["keep5", "keep6"]),
                           ("drop7\nkeep8\nkeep9\n", ["keep8", "keep9"])):
            self.put(kept[0], text)
            self.run_sql(sql)
            self.assertEqual(self.values()[-1], kept)
        self.assertEqual(sum(map(len, self.values())), 6)

    def check_limits(self, **options):
        sql = self.sql("value FROM src", **options)
        for names, batches in (("abc", [["a", "b"], ["c"]]), ("defg", [["d", "e"], ["f", "g"]]),
                               ("hijkl", [["h", "i"], ["j", "k"], ["l"]])):
            before = len(self.values())
            for name in names:
                self.put(name, name)
            self.run_sql(sql)
            self.assertEqual(self.values()[before:], batches)

    def test_FS_02_max_files_per_trigger(self):
        self.check_limits(maxFilesPerTrigger=2)

    def test_FS_02_max_bytes_per_trigger(self):
        self.check_limits(maxBytesPerTrigger=2)

    def test_FS_04_once_ignores_the_limits(self):
        sql = self.sql("value FROM src", maxFilesPerTrigger=1)
        for names in ("abc", "de"):
            for name in names:
                self.put(name, name)
            self.run_sql(sql, "--once")
            self.assertEqual(self.values()[-1], list(names))
        self.assertEqual(len(self.values()), 2)

    def test_FS_05_once_then_caught_up(self):
        sql = self.sql("value FROM src", maxFilesPerTrigger=1)
        for name in "123":
            self.put(name, name)
        self.run_sql(sql, "--once")
        for names in ("45", "67"):
            for name in names:
                self.put(name, name)
            self.run_sql(sql)
        self.assertEqual(self.values(), [["1", "2", "3"], ["4"], ["5"], ["6"], ["7"]])

    # --- columns ------------------------------------------------------------------------------------

    def test_FS_10_partition_directories_fill_their_columns(self):
        columns = "(value BIGINT, part VARCHAR, n INTEGER)"
        self.put("part=foo/n=1/a.json", '{"value": 1}\n{"value": 2}\n')
        self.put("part=b%20r/n=2/b.json", '{"value": 3}\n')
        self.put("c.json", '{"value": 4}\n')
        self.run_sql(self.sql("value, part, n FROM src", columns, "json", partition_columns="part, n"))
        self.assertEqual(sorted((row["value"], row.get("part"), row.get("n")) for row in sum(self.rows(), [])),
                         [(1, "foo", 1), (2, "foo", 1), (3, "b r", 2), (4, None, None)])

    def test_FS_10_below_a_glob_they_are_null(self):
        self.put("part=foo/n=1/a.json", '{"value": 1}\n')
        self.run_sql(self.sql("value, part FROM src", "(value BIGINT, part VARCHAR)", "json", path="in/*/*",
                              partition_columns="part"))
        self.assertEqual(sum(self.rows(), []), [{"value": 1}])  # JSON leaves nulls out

    def test_FS_10_partition_columns_alone_can_be_read_and_are_checked(self):
        self.put("day=2026-11-21/a.json", '{"value": 1}\n{"value": 2}\n')
        columns = "(value BIGINT, day DATE)"
        self.run_sql(self.sql("day, 'x' AS x FROM src", columns, "json", partition_columns="day"))
        self.assertEqual(sum(self.rows(), []), [{"day": "2026-11-21", "x": "x"}] * 2)
        self.put("day=tomorrow/b.json", '{"value": 3}\n')
        self.run_sql(self.sql("day, 'x' AS x FROM src", columns, "json", partition_columns="day"), code=65,
                     text="is not what column 'day' may have")
        for folder in ("cp", "out"):
            shutil.rmtree(self.path(folder))
        self.run_sql(self.sql("value FROM src", columns, "json", partition_columns="dya"), code=78, text="does not declare")
        self.run_sql(self.sql("value FROM src", "(value BIGINT, day DOUBLE)", "json", partition_columns="day"), code=78,
                     text="must be VARCHAR, an integer or DATE")

    def test_FS_16_columns_must_be_declared_unless_the_format_has_them(self):
        self.put("a.json", '{"value": 1}\n')
        for fmt in ("json", "csv"):
            self.run_sql(self.sql("value FROM src", fmt=fmt), code=64, text="declares no columns")
        self.put("b.txt", "text\n")
        self.run_sql(self.sql("value FROM src", pathGlobFilter="*.txt"))
        self.assertEqual(self.values(), [["text"]])

    def test_FS_16_modified_before_and_after_are_no_options(self):
        for option in ("modifiedBefore", "modifiedAfter"):
            self.run_sql(self.sql("value FROM src", **{option: "2026-01-01T00:00:00"}), code=78, text=option)

    # --- what becomes of files that were read -------------------------------------------------------

    def test_FS_13_delete_takes_the_files_of_the_batch_before(self):
        sql = self.sql("value FROM src", maxFilesPerTrigger=1, cleanSource="delete")
        self.put("1", "one")
        self.run_sql(sql)
        self.assertEqual(self.there(), ["1"])
        self.put("2", "two")
        self.run_sql(sql)
        self.assertEqual(self.there(), ["2"])
        self.put("3", "three")
        self.run_sql(sql)
        self.assertEqual(self.there(), ["3"])
        self.assertEqual(self.values(), [["one"], ["two"], ["three"]])

    def test_FS_13_archive_moves_them_with_their_path(self):
        source = self.path("in", "k %1")
        sql = self.sql("value FROM src", path=source, maxFilesPerTrigger=1, cleanSource="archive",
                       sourceArchiveDir=self.path("archive"))
        for number, name in enumerate(("keep1", "keep2", "keep3")):
            self.put(os.path.join("k %1", name), name)
            self.run_sql(sql)
            moved = [f"keep{i}" for i in range(1, number + 1)]
            folder = self.path("archive", source.lstrip("/"))
            self.assertEqual(sorted(os.listdir(folder)) if os.path.isdir(folder) else [], moved)
            self.assertEqual(self.there(), [os.path.join("k %1", name)])
        self.assertEqual(self.values(), [["keep1"], ["keep2"], ["keep3"]])

    def test_FS_14_an_archive_where_the_source_looks_is_refused(self):
        for path, archive in (("hello*/spar?", "hello/spark/structured/streaming"),
                              ("hello*/spar?/structured/streaming", "hello/spark/structured"),
                              ("hello*/spar?/structured/*", "hello/spark/structured/streaming"), ("in", "in/archive")):
            os.makedirs(self.path("hello/spark/structured/streaming"), exist_ok=True)
            self.run_sql(self.sql("value FROM src", path=path, cleanSource="archive", sourceArchiveDir=archive), code=78,
                         text="would read them again")
        self.run_sql(self.sql("value FROM src", cleanSource="archive"), code=78, text="needs 'source_archive_dir'")
        self.run_sql(self.sql("value FROM src", sourceArchiveDir="x"), code=78, text="does nothing without")
        if os.path.isdir("/dev/shm") and os.stat("/dev/shm").st_dev != os.stat(self.dir).st_dev:
            other = tempfile.mkdtemp(dir="/dev/shm")
            self.addCleanup(shutil.rmtree, other, True)
            self.run_sql(self.sql("value FROM src", path=self.path("in"), cleanSource="archive", sourceArchiveDir=other),
                         code=78, text="another file system")


if __name__ == "__main__":
    unittest.main()
