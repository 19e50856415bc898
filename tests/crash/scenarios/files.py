"""Files to files through the SQL command: without state, and a windowed aggregation.

One input file is one batch, so batch boundaries are the same in every run.
"""

import collections
import json
import subprocess

from _base import Scenario, stray_files

BATCHES = 3


def part_files(out):
    """What a reader of the directory sees: not hidden files, not metadata."""
    return sorted(p for p in out.rglob("*") if p.is_file()
                  and not any(part.startswith((".", "_")) for part in p.relative_to(out).parts))


class FilesToFiles(Scenario):
    name = "file-to-file"
    rows_each = 5

    def missing(self):
        return None if self.tools.millrace else "millrace is not built"

    def rows(self):
        return [[{"id": b * 100 + i, "word": f"word{b}x{i}"} for i in range(self.rows_each)]
                for b in range(BATCHES)]

    def sql(self, work):
        return f"""
SET checkpoint = '{work}/ckpt';
CREATE TABLE words (id BIGINT, word TEXT)
  WITH (connector = 'file', path = '{work}/in', format = 'json', maxFilesPerTrigger = 1);
CREATE TABLE loud (id BIGINT, word TEXT)
  WITH (connector = 'file', path = '{work}/out', format = 'json');
INSERT INTO loud SELECT id, upper(word) AS word FROM words WHERE id % 5 <> 3;
"""

    def prepare(self, work):
        (work / "in").mkdir()
        for number, rows in enumerate(self.rows()):
            (work / "in" / f"{number}.json").write_text(
                "".join(json.dumps(row) + "\n" for row in rows))
        (work / "q.sql").write_text(self.sql(work))

    def command(self, work):
        return [self.tools.millrace, "run", "--until-caught-up", str(work / "q.sql")]

    def expected(self, work):
        return collections.Counter((row["id"], row["word"].upper()) for rows in self.rows()
                                   for row in rows if row["id"] % 5 != 3)

    def row(self, document):
        return document["id"], document["word"]

    def actual(self, work):
        found = collections.Counter()
        for path in part_files(work / "out"):
            for line in path.read_text().splitlines():
                found[self.row(json.loads(line))] += 1
        return found

    def check(self, work):
        verify = subprocess.run([self.tools.millrace, "checkpoint", "verify", str(work / "ckpt")],
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                check=False)
        damage = [f"verify says {verify.returncode}: {verify.stdout.splitlines()[:1]}"]
        return stray_files(work) + (damage if verify.returncode != 0 else [])


class Windows(FilesToFiles):
    """Count by tumbling window and key; a window comes out once, when the watermark passes it."""

    name = "window-to-file"

    def rows(self):
        files = []
        for b in range(BATCHES):
            files.append([{"city": city, "ts": f"2024-01-01 00:00:{b * 10 + s:02d}"}
                          for s in (0, 4, 9) for city in ("rome", "oslo")])
        files.append([{"city": "late", "ts": "2024-01-01 00:00:01"},   # behind the watermark
                      {"city": "end", "ts": "2024-01-01 01:00:00"}])   # closes all windows
        return files

    def sql(self, work):
        return f"""
SET checkpoint = '{work}/ckpt';
CREATE TABLE visits (city TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
  WITH (connector = 'file', path = '{work}/in', format = 'json', maxFilesPerTrigger = 1);
CREATE TABLE per_city (window_start TIMESTAMP, city TEXT, n BIGINT)
  WITH (connector = 'file', path = '{work}/out', format = 'json');
INSERT INTO per_city
  SELECT window_start, city, count(*) AS n FROM visits GROUP BY window(ts, '10 seconds'), city;
"""

    def expected(self, work):
        return collections.Counter((f"00:00:{b * 10:02d}", city, 3) for b in range(BATCHES)
                                   for city in ("rome", "oslo"))

    def row(self, document):
        return str(document["window_start"])[11:19], document["city"], document["n"]


class StateFiles(Windows):
    """State too large to travel inside the log: files of deltas and snapshots. Few batches are
    kept, so that the purge after the sixteenth has something to remove."""

    name = "state-files"
    phases = ("entry", "exit")
    keys = 4000       # 300 bytes each: more than 1 MiB a batch
    big = 4           # batches with all keys
    small = 14        # batches with a few of them
    few = 10

    def once(self, root):
        self.input = root / f"{self.name}-input"
        self.input.mkdir()
        for number in range(self.big + self.small):
            (self.input / f"{number:02d}.json").write_text("".join(
                json.dumps({"city": f"{key:05d}" + "x" * 300, "ts": "2024-01-01 00:00:01"}) + "\n"
                for key in range(self.keys if number < self.big else self.few)))
        (self.input / "end.json").write_text(
            '{"city": "end", "ts": "2024-01-01 01:00:00"}\n')

    def prepare(self, work):
        (work / "q.sql").write_text(
            "SET retain_batches = 2;\n" + self.sql(work).replace(f"{work}/in", str(self.input)))

    def expected(self, work):
        return collections.Counter((key, 300, self.big + (self.small if key < self.few else 0))
                                   for key in range(self.keys))

    def row(self, document):
        return int(document["city"][:5]), document["city"].count("x"), document["n"]


class LogSegments(StateFiles):
    """The largest state that still travels inside the log: a new log segment for every batch."""

    name = "log-segments"
    keys = 2500


class TwoInserts(Windows):
    """One source, read once, into two sinks: its rows, and counts of windows with what was late."""

    name = "two-inserts"

    def sql(self, work):
        return f"""
SET checkpoint = '{work}/ckpt';
CREATE TABLE visits (city TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
  WITH (connector = 'file', path = '{work}/in', format = 'json', maxFilesPerTrigger = 1);
CREATE TABLE loud (city TEXT, ts TIMESTAMP)
  WITH (connector = 'file', path = '{work}/out/loud', format = 'json');
CREATE TABLE per_city (window_start TIMESTAMP, city TEXT, n BIGINT)
  WITH (connector = 'file', path = '{work}/out/per_city', format = 'json');
INSERT INTO loud SELECT upper(city), ts FROM visits;
INSERT INTO per_city
  SELECT window_start, city, count(*) AS n FROM visits GROUP BY window(ts, '10 seconds'), city;
"""

    def expected(self, work):
        loud = collections.Counter((row["ts"][11:], row["city"].upper(), 0) for rows in self.rows()
                                   for row in rows)
        return super().expected(work) + loud

    def row(self, document):
        if "n" in document:
            return super().row(document)
        return str(document["ts"])[11:19], document["city"], 0


SCENARIOS = [FilesToFiles, Windows, StateFiles, LogSegments, TwoInserts]
