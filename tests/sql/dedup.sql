-- Vectors of deduplication (structured_ids.txt: dedup). Times are seconds since the epoch.

CREATE TABLE a (v VARCHAR) WITH (connector = 'memory');
CREATE TABLE pairs (k VARCHAR, n BIGINT) WITH (connector = 'memory');
CREATE TABLE timed (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE short (k VARCHAR, v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '2 seconds')
  WITH (connector = 'memory');
CREATE TABLE out WITH (connector = 'memory', output_mode = 'append');

TEST 'DD-01 all columns' AS BEGIN
  GIVEN INSERT INTO out SELECT * FROM drop_duplicates(TABLE a);
  INSERT INTO a VALUES ('a');
  ASSERT LAST out = VALUES ('a');
  ASSERT STATE '1/1';
  INSERT INTO a VALUES ('a');
  ASSERT LAST out IS EMPTY;
  ASSERT STATE '1/0';
  INSERT INTO a VALUES ('b');
  ASSERT LAST out = VALUES ('b');
  ASSERT STATE '2/1';
END;

TEST 'DD-02 by the first column' AS BEGIN
  GIVEN INSERT INTO out SELECT DISTINCT ON (k) * FROM pairs;
  INSERT INTO pairs VALUES ('a', 1);
  ASSERT NEW out = VALUES ('a', 1);
  ASSERT STATE '1/1/0';
  INSERT INTO pairs VALUES ('a', 2);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '1/0/0';
  INSERT INTO pairs VALUES ('b', 1);
  ASSERT NEW out = VALUES ('b', 1);
  ASSERT STATE '2/1/0';
END;

TEST 'DD-04 the time among the keys' AS BEGIN
  GIVEN INSERT INTO out SELECT DISTINCT ON (v, ts) v FROM timed;
  INSERT INTO timed SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v), range(5);
  ASSERT NEW out = SELECT v FROM range(10, 16) t(v);
  ASSERT STATE '6/6/0/0';
  INSERT INTO timed SELECT 25, make_timestamp(25000000);
  ASSERT NEW out = VALUES (25);
  ASSERT STATE '1/1/0/6';
  INSERT INTO timed SELECT 10, make_timestamp(10000000);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '1/0/1/0';
  INSERT INTO timed SELECT 45, make_timestamp(45000000);
  ASSERT NEW out = VALUES (45);
  ASSERT STATE '1/1';
END;

TEST 'DD-05 without batches without data' AS BEGIN
  GIVEN SET no_data_batches = false;
  GIVEN INSERT INTO out SELECT DISTINCT ON (v, ts) v FROM timed;
  INSERT INTO timed SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v);
  RUN;
  INSERT INTO timed SELECT 25, make_timestamp(25000000);
  ASSERT LAST out = VALUES (25);
  ASSERT STATE '7';
END;

TEST 'DD-08 then counts of windows' AS BEGIN
  GIVEN INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, count(*) AS n
        FROM (SELECT DISTINCT ON (v, ts) * FROM timed) GROUP BY window(ts, '5 seconds');
  INSERT INTO timed SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v), range(5);
  ASSERT LAST out IS EMPTY;
  ASSERT STATE '2/2 6/6';
  INSERT INTO timed SELECT 25, make_timestamp(25000000);
  ASSERT LAST out = VALUES (10, 5);
  ASSERT STATE '2/1 1/1';
  INSERT INTO timed SELECT 10, make_timestamp(10000000);
  ASSERT LAST out IS EMPTY;
  ASSERT STATE '2/0/0 1/0/1';
  INSERT INTO timed SELECT 40, make_timestamp(40000000);
  ASSERT LAST out = VALUES (15, 1), (25, 1);
  ASSERT STATE '1/1 1/1';
END;

TEST 'DDW-01 within the watermark, all columns' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM drop_duplicates_within_watermark(TABLE timed, DESCRIPTOR(v));
  INSERT INTO timed SELECT v, make_timestamp(v * 1000000) FROM range(10, 16) t(v), range(5);
  ASSERT NEW out = SELECT v FROM range(10, 16) t(v);
  ASSERT STATE '6/6';
  INSERT INTO timed SELECT v, make_timestamp(v * 1000000) FROM range(13, 18) t(v);
  ASSERT NEW out = VALUES (16), (17);
  ASSERT STATE '8/2';
  INSERT INTO timed SELECT 5, make_timestamp(5000000);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '8/0/1';
  INSERT INTO timed SELECT 35, make_timestamp(35000000);
  ASSERT NEW out = VALUES (35);
  ASSERT STATE '3/1';
  INSERT INTO timed SELECT 55, make_timestamp(55000000);
  ASSERT NEW out = VALUES (55);
  ASSERT STATE '1/1';
END;

TEST 'DDW-02 within the watermark, by key' AS BEGIN
  GIVEN INSERT INTO out SELECT k, v FROM drop_duplicates_within_watermark(TABLE short, DESCRIPTOR(k));
  INSERT INTO short SELECT 'a', 17, make_timestamp(17000000);
  ASSERT NEW out = VALUES ('a', 17);
  ASSERT STATE '1/1';
  INSERT INTO short SELECT 'a', 16, make_timestamp(16000000);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '1/0';
  INSERT INTO short SELECT 'a', 13, make_timestamp(13000000);
  ASSERT NEW out IS EMPTY;
  ASSERT STATE '1/0/1';
  INSERT INTO short SELECT k, v, make_timestamp(v * 1000000) FROM (VALUES ('b', 22), ('c', 21)) t(k, v);
  ASSERT NEW out = VALUES ('b', 22), ('c', 21);
  ASSERT STATE '2/2';
  INSERT INTO short SELECT 'a', 21, make_timestamp(21000000);
  ASSERT NEW out = VALUES ('a', 21);
  ASSERT STATE '3/1';
  INSERT INTO short SELECT 'd', 25, make_timestamp(25000000);
  ASSERT NEW out = VALUES ('d', 25);
  ASSERT STATE '2/1';
END;
