"""Two directories of files to files through a full outer join with a range of times.

File i of both is batch i; rows leave the state as the watermark passes them, unmatched ones with
nulls. The last file of both is far in the future, so that everything else has left at the end.
"""

import collections
import json

from files import FilesToFiles

BOUND = 5  # seconds


def at(second):
    return f"2024-01-01 00:{second // 60:02d}:{second % 60:02d}"


class JoinWithEviction(FilesToFiles):
    name = "join-with-eviction"

    def sides(self):
        """Per side, per file: (id, key, second)."""
        left = [[(1, 1, 0), (2, 2, 1), (3, 1, 4)],
                [(4, 1, 20), (5, 3, 24)],
                [(6, 2, 44), (7, None, 45)],
                [(8, 1, 70)],
                [(100, -1, 3000)]]
        right = [[(11, 1, 2), (12, 4, 3)],
                 [(13, 1, 8), (14, 1, 22), (15, 2, 23)],
                 [(16, 2, 47), (17, None, 45), (18, 2, 41)],
                 [(19, 5, 66)],
                 [(200, -2, 3000)]]
        return {"left": left, "right": right}

    def prepare(self, work):
        for side, files in self.sides().items():
            (work / side).mkdir()
            for number, rows in enumerate(files):
                (work / side / f"{number}.json").write_text("".join(
                    json.dumps({"id": i, "k": k, "ts": at(s)}) + "\n" for i, k, s in rows))
        (work / "q.sql").write_text(self.sql(work))

    def sql(self, work):
        tables = "".join(f"""
CREATE TABLE {side}_rows (id BIGINT, k BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
  WITH (connector = 'file', path = '{work}/{side}', format = 'json', maxFilesPerTrigger = 1);
""" for side in ("left", "right"))
        return f"""
SET checkpoint = '{work}/ckpt';
{tables}
CREATE TABLE pairs (l BIGINT, r BIGINT) WITH (connector = 'file', path = '{work}/out', format = 'json');
INSERT INTO pairs
  SELECT a.id, b.id FROM left_rows a FULL JOIN right_rows b
    ON a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '{BOUND} seconds' AND b.ts + INTERVAL '{BOUND} seconds';
"""

    def expected(self, work):
        left, right = ([row for rows in files[:-1] for row in rows] for files in self.sides().values())
        pairs = [(a[0], b[0]) for a in left for b in right
                 if a[1] is not None and a[1] == b[1] and abs(a[2] - b[2]) <= BOUND]
        matched = [{pair[side] for pair in pairs} for side in (0, 1)]
        return collections.Counter(pairs + [(a[0], None) for a in left if a[0] not in matched[0]]
                                   + [(None, b[0]) for b in right if b[0] not in matched[1]])

    def row(self, document):
        return document.get("l"), document.get("r")


SCENARIOS = [JoinWithEviction]
