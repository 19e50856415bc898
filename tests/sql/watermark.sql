-- Vectors of event-time watermarks (structured_ids.txt: watermark). Times are seconds since the epoch.

CREATE TABLE a (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE b (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5 seconds') WITH (connector = 'memory');
CREATE TABLE closed WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE updates WITH (connector = 'memory', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'memory', output_mode = 'complete');

CREATE VIEW fives AS
  SELECT epoch(window_start)::BIGINT AS w, count(*) AS n FROM a GROUP BY window(ts, '5 seconds');

TEST 'WM-01 append emits closed windows once, late rows are dropped' AS BEGIN
  GIVEN INSERT INTO closed SELECT * FROM fives;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v);
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT NEW closed = VALUES (10, 5);
  ASSERT STATE '2/3/0/1';
  INSERT INTO a SELECT 10, make_timestamp(10000000);
  ASSERT NEW closed IS EMPTY;
  ASSERT STATE '2/0/1/0';
  ASSERT LATE ROWS 1;
END;

TEST 'WM-02 update emits changed windows, late rows are dropped' AS BEGIN
  GIVEN INSERT INTO updates SELECT * FROM fives;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v);
  ASSERT NEW updates = VALUES (10, 5), (15, 1);
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT NEW updates = VALUES (25, 1);
  ASSERT STATE '2';
  ASSERT LATE ROWS 0;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (10), (25)) t(v);
  ASSERT NEW updates = VALUES (25, 2);
  ASSERT STATE '2/1/1/0';
  INSERT INTO a SELECT 10, make_timestamp(10000000);
  ASSERT NEW updates IS EMPTY;
  ASSERT STATE '2/0/1/0';
END;

TEST 'WM-04 grouping by the time itself' AS BEGIN
  GIVEN INSERT INTO closed SELECT epoch(ts)::BIGINT AS t, count(*) AS n FROM a GROUP BY ts;
  INSERT INTO a SELECT 10, make_timestamp(10000000);
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT NEW closed = VALUES (10, 1);
  ASSERT WATERMARK '1970-01-01 00:00:15';
END;

TEST 'WM-05 the watermark that each batch had' AS BEGIN
  GIVEN INSERT INTO closed SELECT * FROM fives;
  GIVEN SET no_data_batches = false;
  INSERT INTO a SELECT 15, make_timestamp(15000000);
  ASSERT NEW closed IS EMPTY;
  ASSERT LAST WATERMARK '1970-01-01 00:00:00';
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (10), (12), (14)) t(v);
  ASSERT NEW closed IS EMPTY;
  ASSERT LAST WATERMARK '1970-01-01 00:00:05';
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT LAST WATERMARK '1970-01-01 00:00:05';
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT closed = VALUES (10, 3);
END;

TEST 'WM-07 processing what is there runs the batch without data too' AS BEGIN
  GIVEN INSERT INTO closed SELECT * FROM fives;
  INSERT INTO a SELECT 15, make_timestamp(15000000);
  RUN;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (10), (12), (14)) t(v);
  RESTART;
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT NEW closed = VALUES (10, 3);
  RESTART;
  INSERT INTO a SELECT 50, make_timestamp(50000000);
  ASSERT NEW closed = VALUES (15, 1), (25, 1);
  RESTART;
  INSERT INTO a SELECT 50, make_timestamp(50000000);
  ASSERT NEW closed IS EMPTY;
END;

TEST 'WM-08 the watermark survives restarts' AS BEGIN
  GIVEN INSERT INTO closed SELECT * FROM fives;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v);
  RUN;
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT NEW closed = VALUES (10, 5);
  RESTART;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (10), (27), (30)) t(v);
  ASSERT NEW closed = VALUES (15, 1);
  RESTART;
  INSERT INTO a SELECT 17, make_timestamp(17000000);
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a SELECT 40, make_timestamp(40000000);
  ASSERT NEW closed = VALUES (25, 2);
  ASSERT LATE ROWS 2;
END;

TEST 'WM-10 a batch without data that lost its commit runs again first' AS BEGIN
  GIVEN INSERT INTO closed SELECT * FROM fives;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v);
  RUN;
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  CRASH AFTER STAGED IN BATCH 3;
  ASSERT NEW closed = VALUES (10, 5);
  INSERT INTO a SELECT 30, make_timestamp(30000000);
  CRASH BEFORE PUBLISHED IN BATCH 5;
  ASSERT NEW closed = VALUES (15, 1);
  INSERT INTO a SELECT 50, make_timestamp(50000000);
  CRASH AFTER PLANNED;
  ASSERT NEW closed = VALUES (25, 1), (30, 1);
END;

TEST 'WM-11 two streams: the smaller watermark' AS BEGIN
  GIVEN INSERT INTO whole SELECT sum(v) AS s FROM (SELECT v FROM a UNION ALL SELECT v FROM b);
  INSERT INTO a SELECT 11, make_timestamp(11000000);
  ASSERT WATERMARK NONE;
  INSERT INTO b SELECT 6, make_timestamp(6000000);
  ASSERT WATERMARK '1970-01-01 00:00:01';
  INSERT INTO b SELECT 8, make_timestamp(8000000);
  ASSERT WATERMARK '1970-01-01 00:00:01';
  INSERT INTO a SELECT 21, make_timestamp(21000000);
  ASSERT WATERMARK '1970-01-01 00:00:03';
  INSERT INTO b SELECT v, make_timestamp(v * 1000000) FROM (VALUES (17), (28), (39)) t(v);
  ASSERT WATERMARK '1970-01-01 00:00:11';
  INSERT INTO a SELECT 31, make_timestamp(31000000);
  ASSERT WATERMARK '1970-01-01 00:00:21';
  INSERT INTO a SELECT 41, make_timestamp(41000000);
  ASSERT WATERMARK '1970-01-01 00:00:31';
  INSERT INTO a SELECT 51, make_timestamp(51000000);
  ASSERT WATERMARK '1970-01-01 00:00:34';
  INSERT INTO a SELECT 100, make_timestamp(100000000);
  INSERT INTO b SELECT 100, make_timestamp(100000000);
  ASSERT WATERMARK '1970-01-01 00:01:30';
  INSERT INTO a SELECT 200, make_timestamp(200000000);
  INSERT INTO b SELECT 190, make_timestamp(190000000);
  ASSERT WATERMARK '1970-01-01 00:03:05';
  RESTART; -- what each stream had is forgotten, the common one is not
  INSERT INTO b SELECT 200, make_timestamp(200000000);
  ASSERT WATERMARK '1970-01-01 00:03:05';
  INSERT INTO a SELECT 200, make_timestamp(200000000);
  ASSERT WATERMARK '1970-01-01 00:03:10';
END;

TEST 'WM-13 policy min' AS BEGIN
  GIVEN SET watermark_policy = 'min';
  GIVEN INSERT INTO whole SELECT sum(v) AS s FROM (SELECT v FROM a UNION ALL SELECT v FROM b);
  ADVANCE EVENT TIME OF a TO '1970-01-01 00:00:20';
  ADVANCE EVENT TIME OF b TO '1970-01-01 00:00:20';
  ASSERT WATERMARK '1970-01-01 00:00:10';
  RESTART;
  ASSERT WATERMARK '1970-01-01 00:00:10';
  ADVANCE EVENT TIME OF a TO '1970-01-01 00:02:00';
  ADVANCE EVENT TIME OF b TO '1970-01-01 00:02:10';
  ASSERT WATERMARK '1970-01-01 00:01:50';
  ADVANCE EVENT TIME OF b TO '1970-01-01 00:02:30';
  ASSERT WATERMARK '1970-01-01 00:01:50';
END;

TEST 'WM-14 policy max' AS BEGIN
  GIVEN SET watermark_policy = 'max';
  GIVEN INSERT INTO whole SELECT sum(v) AS s FROM (SELECT v FROM a UNION ALL SELECT v FROM b);
  ADVANCE EVENT TIME OF a TO '1970-01-01 00:00:20';
  ADVANCE EVENT TIME OF b TO '1970-01-01 00:00:20';
  ASSERT WATERMARK '1970-01-01 00:00:15';
  RESTART;
  ADVANCE EVENT TIME OF a TO '1970-01-01 00:02:00';
  ADVANCE EVENT TIME OF b TO '1970-01-01 00:02:00';
  ASSERT WATERMARK '1970-01-01 00:01:55';
  ADVANCE EVENT TIME OF a TO '1970-01-01 00:02:30';
  ASSERT WATERMARK '1970-01-01 00:02:20';
END;

TEST 'WM-19 a window made before grouping keeps the mark' AS BEGIN
  GIVEN INSERT INTO closed SELECT epoch(w.start)::BIGINT AS s, count(*) AS n
        FROM (SELECT window(ts, '5 seconds') AS w FROM a) GROUP BY w;
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v);
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a SELECT 25, make_timestamp(25000000);
  ASSERT NEW closed = VALUES (10, 5);
  INSERT INTO a SELECT 10, make_timestamp(10000000);
  ASSERT NEW closed IS EMPTY;
END;
