-- Vectors of time windows (structured_ids.txt: windows).

CREATE TABLE a (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0 seconds') WITH (connector = 'memory');
CREATE TABLE d (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE closed WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE whole WITH (connector = 'memory', output_mode = 'complete');

TEST 'TW-01 sliding windows' AS BEGIN
  GIVEN INSERT INTO whole SELECT strftime(window_start, '%H:%M:%S') AS s, count(*) AS n FROM a
        GROUP BY window(ts, '10 seconds', '3 seconds');
  INSERT INTO a VALUES (1, '2016-03-27 19:39:34'), (2, '2016-03-27 19:39:56'), (3, '2016-03-27 19:39:27');
  ASSERT whole = VALUES ('19:39:18', 1), ('19:39:21', 1), ('19:39:24', 1), ('19:39:27', 2), ('19:39:30', 1),
                        ('19:39:33', 1), ('19:39:48', 1), ('19:39:51', 1), ('19:39:54', 1);
END;

TEST 'TW-02 tumbling windows' AS BEGIN
  GIVEN INSERT INTO whole SELECT epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, count(*) AS n
        FROM a GROUP BY window(ts, '10 seconds');
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (34), (56), (27)) t(v);
  ASSERT whole = VALUES (30, 40, 1), (50, 60, 1), (20, 30, 1);
END;

TEST 'TW-02 tumbling windows with a start' AS BEGIN
  GIVEN INSERT INTO whole SELECT epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, count(*) AS n
        FROM a GROUP BY window(ts, '10 seconds', '10 seconds', '5 seconds');
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM (VALUES (34), (56), (27)) t(v);
  ASSERT whole = VALUES (25, 35, 2), (55, 65, 1);
END;

TEST 'TW-04 windows of times before the epoch' AS BEGIN
  GIVEN INSERT INTO whole SELECT window_start, window_end, count(*) AS n FROM a
        GROUP BY window(ts, '10 seconds', '10 seconds', '5 seconds');
  INSERT INTO a VALUES (1, '1970-01-01 00:00:02'), (2, '1970-01-01 00:00:12'), (3, '1969-12-31 00:00:02');
  ASSERT whole = VALUES ('1969-12-31 23:59:55', '1970-01-01 00:00:05', 1),
                        ('1970-01-01 00:00:05', '1970-01-01 00:00:15', 1),
                        ('1969-12-30 23:59:55', '1969-12-31 00:00:05', 1);
END;

TEST 'TW-05 windows of milliseconds' AS BEGIN
  GIVEN INSERT INTO whole SELECT epoch_ms(window_start) % 60000 AS s, count(*) AS n FROM a
        GROUP BY window(ts, '200 milliseconds', '40 milliseconds');
  INSERT INTO a VALUES (1, '2016-03-27 09:00:00.41'), (2, '2016-03-27 09:00:00.62'), (3, '2016-03-27 09:00:00.715');
  ASSERT whole = VALUES (240, 1), (280, 1), (320, 1), (360, 1), (400, 1), (440, 1), (480, 1), (520, 2), (560, 2),
                        (600, 2), (640, 1), (680, 1);
END;

TEST 'TW-08 arguments that are no window' AS BEGIN
  GIVEN INSERT INTO whole SELECT window_start, count(*) AS n FROM a GROUP BY window(ts, '1 month');
  ASSERT ERROR 'month';
END;

TEST 'TW-08 a slide that is longer than the window' AS BEGIN
  GIVEN INSERT INTO whole SELECT window_start, count(*) AS n FROM a GROUP BY window(ts, '1 second', '2 seconds');
  ASSERT ERROR 'slide';
END;

TEST 'TW-08 a window without length' AS BEGIN
  GIVEN INSERT INTO whole SELECT window_start, count(*) AS n FROM a GROUP BY window(ts, '0 seconds');
  ASSERT ERROR 'more than zero';
END;

TEST 'TW-10 windows of windows of windows' AS BEGIN
  GIVEN CREATE VIEW fives AS
        SELECT window_start AS t, count(*) AS n FROM a GROUP BY window(ts, '5 seconds');
  GIVEN CREATE VIEW tens AS
        SELECT window_start AS t, sum(n) AS m FROM fives GROUP BY window(t, '10 seconds');
  GIVEN INSERT INTO closed SELECT epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, count(*) AS n,
        sum(m)::BIGINT AS m FROM tens GROUP BY window(t, '20 seconds');
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(0, 38) t(v);
  ASSERT NEW closed = VALUES (0, 20, 2, 20);
  ASSERT STATE '1 1 1';
  INSERT INTO a SELECT v, make_timestamp(v * 1000000) FROM range(30, 61) t(v);
  ASSERT NEW closed = VALUES (20, 40, 2, 23), (40, 60, 2, 20);
  ASSERT STATE '0 0 1';
  ASSERT LATE ROWS 5; -- 30 to 34: their window is closed
END;
