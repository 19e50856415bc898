-- Vectors of stream-stream joins (structured_ids.txt: joins). Times are seconds since the epoch.

CREATE TABLE l0 (v BIGINT) WITH (connector = 'memory');
CREATE TABLE m0 (v BIGINT) WITH (connector = 'memory');
CREATE TABLE r0 (v BIGINT) WITH (connector = 'memory');
CREATE TABLE l (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE r (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE lk (k BIGINT, t BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
  WITH (connector = 'memory');
CREATE TABLE rk (k BIGINT, t BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds')
  WITH (connector = 'memory');
CREATE TABLE out WITH (connector = 'memory', output_mode = 'append');

-- (v, window, 2v) and (v, window, 3v)
CREATE VIEW lw AS SELECT v, ts, window(ts, '10 seconds') AS w, v * 2 AS lv FROM l;
CREATE VIEW rw AS SELECT v, ts, window(ts, '10 seconds') AS w, v * 3 AS rv FROM r;

TEST 'IJ-01 equality without time' AS BEGIN
  GIVEN INSERT INTO out SELECT l0.v, l0.v * 2 AS lv, r0.v * 3 AS rv FROM l0 JOIN r0 ON l0.v = r0.v;
  INSERT INTO l0 VALUES (1);
  ASSERT NEW out IS EMPTY;
  INSERT INTO r0 VALUES (1), (10);
  ASSERT NEW out = VALUES (1, 2, 3);
  INSERT INTO l0 VALUES (10);
  ASSERT NEW out = VALUES (10, 20, 30);
  INSERT INTO r0 VALUES (1);
  ASSERT NEW out = VALUES (1, 2, 3);
  RESTART;
  INSERT INTO l0 VALUES (1);
  ASSERT NEW out = VALUES (1, 2, 3), (1, 2, 3);
  CRASH;
  INSERT INTO l0 VALUES (100);
  RUN;
  INSERT INTO r0 VALUES (100);
  ASSERT NEW out = VALUES (100, 200, 300);
  ASSERT out = SELECT l0.v, l0.v * 2, r0.v * 3 FROM l0 JOIN r0 USING (v);
END;

TEST 'IJ-04 a bound on one side' AS BEGIN
  GIVEN INSERT INTO out SELECT lk.k, lk.t AS lt, rk.t AS rt FROM lk JOIN rk
        ON lk.k = rk.k AND lk.ts < rk.ts - INTERVAL '5 seconds';
  INSERT INTO lk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (1, 5)) x(k, t);
  RUN;
  INSERT INTO rk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (1, 11)) x(k, t);
  ASSERT NEW out = VALUES (1, 5, 11);
  INSERT INTO rk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (1, 10)) x(k, t);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '3/3';
  INSERT INTO lk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (1, 3), (1, 30)) x(k, t);
  ASSERT NEW out = VALUES (1, 3, 10), (1, 3, 11);
  ASSERT STATE '5/2';
  INSERT INTO rk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (0, 30)) x(k, t);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '4/1';
  INSERT INTO rk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (1, 20), (1, 21), (1, 28)) x(k, t);
  ASSERT NEW out = VALUES (1, 3, 21), (1, 5, 21), (1, 3, 28), (1, 5, 28);
  ASSERT STATE '5/1/1';
  INSERT INTO lk SELECT k, t, make_timestamp(t * 1000000) FROM (VALUES (1, 20), (1, 21)) x(k, t);
  ASSERT NEW out = VALUES (1, 21, 28);
  ASSERT STATE '6/1/1';
END;

TEST 'IJ-08 three streams' AS BEGIN
  GIVEN INSERT INTO out SELECT l0.v, l0.v * 2 AS a, m0.v AS mv, m0.v * 3 AS b, r0.v AS rv, r0.v * 5 AS c
        FROM l0 JOIN m0 ON l0.v = m0.v JOIN r0 ON r0.v = m0.v;
  INSERT INTO l0 VALUES (1), (5);
  INSERT INTO m0 VALUES (1), (5), (10);
  INSERT INTO r0 VALUES (5), (10);
  ASSERT out = VALUES (5, 10, 5, 15, 5, 25);
END;

TEST 'OJ-01 left outer on key and window' AS BEGIN
  GIVEN INSERT INTO out SELECT lw.v, epoch(lw.w.end)::BIGINT AS e, lv, rv FROM lw LEFT JOIN rw
        ON lw.v = rw.v AND lw.w = rw.w;
  INSERT INTO l SELECT v, make_timestamp(v * 1000000) FROM range(1, 6) t(v);
  INSERT INTO r SELECT v, make_timestamp(v * 1000000) FROM range(3, 8) t(v);
  ASSERT NEW out = VALUES (3, 10, 6, 9), (4, 10, 8, 12), (5, 10, 10, 15);
  INSERT INTO l SELECT 21, make_timestamp(21000000);
  INSERT INTO r SELECT 22, make_timestamp(22000000);
  ASSERT NEW out = VALUES (1, 10, 2, NULL), (2, 10, 4, NULL);
  ASSERT STATE '2/12';
  INSERT INTO l SELECT 22, make_timestamp(22000000);
  ASSERT NEW out = VALUES (22, 30, 44, 66);
  ASSERT STATE '3/1';
END;

TEST 'OJ-02 right outer on key and window' AS BEGIN
  GIVEN INSERT INTO out SELECT rw.v, epoch(rw.w.end)::BIGINT AS e, lv, rv FROM lw RIGHT JOIN rw
        ON lw.v = rw.v AND lw.w = rw.w;
  INSERT INTO l SELECT v, make_timestamp(v * 1000000) FROM range(1, 6) t(v);
  INSERT INTO r SELECT v, make_timestamp(v * 1000000) FROM range(3, 8) t(v);
  ASSERT NEW out = VALUES (3, 10, 6, 9), (4, 10, 8, 12), (5, 10, 10, 15);
  INSERT INTO l SELECT 21, make_timestamp(21000000);
  INSERT INTO r SELECT 22, make_timestamp(22000000);
  CRASH AFTER STAGED;
  ASSERT NEW out = VALUES (6, 10, NULL, 18), (7, 10, NULL, 21);
END;

TEST 'OJ-04 left semi' AS BEGIN
  GIVEN INSERT INTO out SELECT lw.v, epoch(lw.w.end)::BIGINT AS e, lv FROM lw SEMI JOIN rw
        ON lw.v = rw.v AND lw.w = rw.w;
  INSERT INTO l SELECT v, make_timestamp(v * 1000000) FROM range(1, 6) t(v);
  INSERT INTO r SELECT v, make_timestamp(v * 1000000) FROM range(3, 8) t(v);
  ASSERT NEW out = VALUES (3, 10, 6), (4, 10, 8), (5, 10, 10);
  INSERT INTO l SELECT 21, make_timestamp(21000000);
  INSERT INTO r SELECT 22, make_timestamp(22000000);
  ASSERT NEW out IS EMPTY;
  INSERT INTO l SELECT 22, make_timestamp(22000000);
  ASSERT NEW out = VALUES (22, 30, 44);
  INSERT INTO l SELECT 1, make_timestamp(1000000);
  ASSERT NEW out IS EMPTY;
  ASSERT LATE ROWS 1;
END;
