-- Vectors of streaming aggregation (structured_ids.txt: agg), as far as SQL and TEST blocks say them.
-- The owners' tests in C check the same ids through the kernel; these check what a user would write.

CREATE TABLE a (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE b (v BIGINT) WITH (connector = 'memory');
CREATE TABLE plain (v BIGINT) WITH (connector = 'memory');
CREATE TABLE fixed (v BIGINT) WITH (connector = 'memory', static = 'true');
CREATE TABLE updates WITH (connector = 'memory', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE closed WITH (connector = 'memory', output_mode = 'append');

TEST 'AGG-01 count by value, update' AS BEGIN
  GIVEN INSERT INTO updates SELECT v, count(*) AS n FROM plain GROUP BY v;
  INSERT INTO plain VALUES (3);
  ASSERT LAST updates = VALUES (3, 1);
  INSERT INTO plain VALUES (3), (2);
  ASSERT LAST updates = VALUES (3, 2), (2, 1);
  RESTART;
  INSERT INTO plain VALUES (3), (2), (1);
  ASSERT LAST updates = VALUES (3, 3), (2, 2), (1, 1);
  INSERT INTO plain VALUES (4), (4), (4), (4);
  ASSERT LAST updates = VALUES (4, 4);
  ASSERT updates KEY (v) = SELECT v, count(*) FROM plain GROUP BY v;
END;

TEST 'a table with a key holds the newest row of each' AS BEGIN
  GIVEN CREATE TABLE keyed (v BIGINT, n BIGINT, PRIMARY KEY (v) NOT ENFORCED)
        WITH (connector = 'memory', output_mode = 'update');
  GIVEN INSERT INTO keyed SELECT v, count(*) AS n FROM plain GROUP BY v;
  INSERT INTO plain VALUES (3), (3), (2);
  RUN;
  INSERT INTO plain VALUES (3), (1);
  ASSERT keyed = VALUES (3, 3), (2, 1), (1, 1);
  ASSERT (SELECT sum(n) FROM keyed) = VALUES (5);
END;

TEST 'AGG-02 the same, complete' AS BEGIN
  GIVEN INSERT INTO whole SELECT v, count(*) AS n FROM plain GROUP BY v;
  INSERT INTO plain VALUES (3);
  ASSERT whole = VALUES (3, 1);
  INSERT INTO plain VALUES (2);
  ASSERT whole = VALUES (3, 1), (2, 1);
  RESTART;
  INSERT INTO plain VALUES (3), (2), (1);
  ASSERT whole = VALUES (3, 2), (2, 2), (1, 1);
  INSERT INTO plain VALUES (4), (4), (4), (4);
  ASSERT whole = VALUES (4, 4), (3, 2), (2, 2), (1, 1);
END;

TEST 'AGG-04 sorted after the aggregation' AS BEGIN
  GIVEN INSERT INTO whole SELECT v, count(*) AS n FROM plain GROUP BY v ORDER BY n DESC, v;
  INSERT INTO plain VALUES (3);
  ASSERT ORDERED whole = VALUES (3, 1);
  INSERT INTO plain VALUES (2), (3);
  ASSERT ORDERED whole = VALUES (3, 2), (2, 1);
  RESTART;
  INSERT INTO plain VALUES (3), (2), (1);
  ASSERT ORDERED whole = VALUES (3, 3), (2, 2), (1, 1);
  INSERT INTO plain VALUES (4), (4), (4), (4);
  ASSERT ORDERED whole = VALUES (4, 4), (3, 3), (2, 2), (1, 1);
END;

TEST 'AGG-05 windows, append, with the counts of the state' AS BEGIN
  GIVEN INSERT INTO closed SELECT epoch(window_start)::BIGINT AS w, count(*) AS n FROM a
        GROUP BY window(ts, '5 seconds');
  INSERT INTO a SELECT 15, make_timestamp(15000000);
  ASSERT closed IS EMPTY;
  ASSERT BATCHES 2; -- one without data: the watermark moved
  ASSERT STATE '1/1';
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (10), (12), (14)) rows(v);
  ASSERT closed IS EMPTY;
  ASSERT BATCHES 1;
  ASSERT STATE '2/1';
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT closed = VALUES (10, 3);
  ASSERT BATCHES 2;
  ASSERT STATE '2/1/0/1';
  ASSERT WATERMARK '1970-01-01 00:00:15';
END;

TEST 'AGG-07 several keys of one row, complete' AS BEGIN
  GIVEN INSERT INTO whole SELECT k, count(*) AS n FROM (SELECT unnest([v, v + 1]) AS k FROM plain) GROUP BY k;
  INSERT INTO plain VALUES (1);
  ASSERT whole = VALUES (1, 1), (2, 1);
  ASSERT STATE '2/2';
  INSERT INTO plain VALUES (2), (3);
  ASSERT whole = VALUES (1, 1), (2, 2), (3, 2), (4, 1);
  ASSERT STATE '4/3';
END;

TEST 'AGG-08 two keys, update' AS BEGIN
  GIVEN INSERT INTO updates SELECT v, v + 1 AS w, count(*) AS n FROM plain GROUP BY v, v + 1;
  INSERT INTO plain VALUES (1), (2);
  ASSERT NEW updates = VALUES (1, 2, 1), (2, 3, 1);
  INSERT INTO plain VALUES (1), (2);
  ASSERT NEW updates = VALUES (1, 2, 2), (2, 3, 2);
END;

TEST 'AGG-10 a batch that runs again keeps its time' AS BEGIN
  GIVEN INSERT INTO whole SELECT v, count(*) AS n FROM plain GROUP BY v
        HAVING v >= epoch(now()) - epoch(TIMESTAMP '2026-01-01 00:00:00') - 10;
  ADVANCE TIME TO '2026-01-01 00:00:10';
  INSERT INTO plain VALUES (0), (5), (5), (10);
  ASSERT whole = VALUES (0, 1), (5, 2), (10, 1);
  ADVANCE TIME TO '2026-01-01 00:00:20';
  INSERT INTO plain VALUES (15), (15), (20);
  ASSERT whole = VALUES (10, 1), (15, 2), (20, 1);
  ADVANCE TIME TO '2026-01-01 00:00:30';
  INSERT INTO plain VALUES (0), (85);
  CRASH AFTER RAN;
  ADVANCE TIME BY '60 seconds';
  ASSERT LAST whole = VALUES (20, 1), (85, 1);
  INSERT INTO plain VALUES (85), (90), (100), (105);
  ADVANCE TIME TO '2026-01-01 00:01:40';
  ASSERT whole = VALUES (90, 1), (100, 1), (105, 1);
END;

TEST 'AGG-11 an aggregate of a static table does not accumulate' AS BEGIN
  GIVEN INSERT INTO closed SELECT plain.v, s.k, s.n FROM plain
        JOIN (SELECT v % 2 AS k, count(*) AS n FROM fixed GROUP BY v % 2) s ON plain.v = s.k;
  INSERT INTO fixed VALUES (1), (2), (3), (4), (5);
  INSERT INTO plain VALUES (0), (1), (2), (3);
  ASSERT NEW closed = VALUES (0, 0, 2), (1, 1, 3);
  INSERT INTO plain VALUES (0), (1), (2), (3);
  ASSERT NEW closed = VALUES (0, 0, 2), (1, 1, 3);
END;

TEST 'AGG-13 grouping goes on after a restart' AS BEGIN
  GIVEN INSERT INTO whole SELECT v AS k, count(*) AS n FROM plain GROUP BY v;
  INSERT INTO plain VALUES (1), (2);
  ASSERT whole = VALUES (1, 1), (2, 1);
  RESTART;
  INSERT INTO plain VALUES (3), (2);
  ASSERT whole = VALUES (1, 1), (2, 2), (3, 1);
  RESTART;
  INSERT INTO plain VALUES (3), (1);
  ASSERT whole = VALUES (1, 2), (2, 2), (3, 2);
END;

TEST 'AGG-14 union of a plain and an aggregated stream, update' AS BEGIN
  GIVEN INSERT INTO updates SELECT v, v + 1 AS w FROM plain UNION ALL SELECT v, count(*) FROM b GROUP BY v;
  INSERT INTO plain VALUES (11), (12);
  INSERT INTO b VALUES (21), (22);
  ASSERT NEW updates = VALUES (11, 12), (12, 13), (21, 1), (22, 1);
  RESTART;
  INSERT INTO plain VALUES (13), (14);
  INSERT INTO b VALUES (22), (23);
  ASSERT NEW updates = VALUES (13, 14), (14, 15), (22, 2), (23, 1);
END;
