"""Files to files through operators with state: sessions that merge, and deduplication within the
watermark.

One input file is one batch; batches without data follow when the watermark has moved.
"""

import collections

from files import FilesToFiles


def at(second):
    return f"2024-01-01 00:{second // 60:02d}:{second % 60:02d}"


class SessionMerge(FilesToFiles):
    """Two sessions of ann become one by a row between them; all close with the watermark."""

    name = "session-merge"

    def rows(self):
        return [[{"name": name, "ts": at(s)} for name, s in batch] for batch in (
            [("ann", 0), ("bob", 0)],
            [("ann", 16), ("bob", 3)],
            [("ann", 8), ("tick", 60)],           # bridges, then closes ann's and bob's
            [("ann", 55)],
            [("late", 1)],                        # behind the watermark of the batch before
            [("end", 3000)],                      # closes the others
        )]

    def sql(self, work):
        return f"""
SET checkpoint = '{work}/ckpt';
CREATE TABLE visits (name TEXT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '20 seconds')
  WITH (connector = 'file', path = '{work}/in', format = 'json', maxFilesPerTrigger = 1);
CREATE TABLE sessions (name TEXT, s TIMESTAMP, e TIMESTAMP, n BIGINT)
  WITH (connector = 'file', path = '{work}/out', format = 'json');
INSERT INTO sessions
  SELECT name, session_window.start, session_window.end, count(*) FROM visits
  GROUP BY session_window(ts, '10 seconds'), name;
"""

    def expected(self, work):
        return collections.Counter([("ann", at(0), at(26), 3), ("bob", at(0), at(13), 2),
                                    ("ann", at(55), at(65), 1), ("tick", at(60), at(70), 1)])

    def row(self, document):
        start, end = (str(document[key])[:19].replace("T", " ") for key in ("s", "e"))
        return document["name"], start, end, document["n"]


class DedupWithin(FilesToFiles):
    """The first row of an id passes, and again when the watermark has left the first one behind."""

    name = "dedup-within-watermark"

    def rows(self):
        return [[{"id": number, "ts": at(s)} for number, s in batch] for batch in (
            [(1, 0), (2, 1), (1, 2), (3, 2)],
            [(1, 3), (4, 8), (2, 4)],
            [(5, 30), (3, 10)],
            [(1, 32), (5, 33)],                   # both known; 1 to 4 leave behind it
            [(1, 34), (9, 1)],                    # 1 is new again, 9 is late
            [(6, 3000)],
        )]

    def sql(self, work):
        return f"""
SET checkpoint = '{work}/ckpt';
CREATE TABLE events (id BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds')
  WITH (connector = 'file', path = '{work}/in', format = 'json', maxFilesPerTrigger = 1);
CREATE TABLE firsts (id BIGINT, ts TIMESTAMP)
  WITH (connector = 'file', path = '{work}/out', format = 'json');
INSERT INTO firsts SELECT id, ts FROM drop_duplicates_within_watermark(TABLE events, DESCRIPTOR(id));
"""

    def expected(self, work):
        return collections.Counter((number, at(s)) for number, s in (
            (1, 0), (2, 1), (3, 2), (4, 8), (5, 30), (1, 34), (6, 3000)))

    def row(self, document):
        return document["id"], str(document["ts"])[:19].replace("T", " ")


SCENARIOS = [SessionMerge, DedupWithin]
