-- Vectors of session windows (structured_ids.txt: sessions). Times are seconds since the epoch.

CREATE TABLE a (sentence VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '30 seconds') WITH (connector = 'memory');
CREATE TABLE closed WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE whole WITH (connector = 'memory', output_mode = 'complete');
CREATE TABLE updates WITH (connector = 'memory', output_mode = 'update');

CREATE VIEW words AS SELECT unnest(string_split(sentence, ' ')) AS word, ts FROM a;

TEST 'SW-01 append' AS BEGIN
  GIVEN INSERT INTO closed SELECT word, epoch(session_window.start)::BIGINT AS s, epoch(session_window.end)::BIGINT AS e,
        count(*) AS n FROM words GROUP BY session_window(ts, '10 seconds'), word;
  INSERT INTO a VALUES ('hello world spark streaming', make_timestamp(40000000)),
                       ('world hello structured streaming', make_timestamp(41000000));
  ASSERT NEW closed IS EMPTY;
  ASSERT WATERMARK '1970-01-01 00:00:11';
  INSERT INTO a VALUES ('spark streaming', make_timestamp(25000000));
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a VALUES ('spark streaming', make_timestamp(0));
  ASSERT NEW closed IS EMPTY;
  ASSERT LATE ROWS 2;
  INSERT INTO a VALUES ('spark streaming', make_timestamp(30000000));
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a VALUES ('hello apache spark', make_timestamp(60000000));
  ASSERT NEW closed IS EMPTY;
  INSERT INTO a VALUES ('structured streaming', make_timestamp(90000000));
  ASSERT NEW closed = VALUES ('spark', 25, 50, 3), ('streaming', 25, 51, 4), ('hello', 40, 51, 2), ('world', 40, 51, 2),
                             ('structured', 41, 51, 1);
END;

TEST 'SW-02 complete' AS BEGIN
  GIVEN INSERT INTO whole SELECT word, epoch(session_window.start)::BIGINT AS s, epoch(session_window.end)::BIGINT AS e,
        count(*) AS n FROM words GROUP BY session_window(ts, '10 seconds'), word;
  INSERT INTO a VALUES ('hello world spark streaming', make_timestamp(40000000)),
                       ('world hello structured streaming', make_timestamp(41000000));
  ASSERT whole = VALUES ('hello', 40, 51, 2), ('world', 40, 51, 2), ('streaming', 40, 51, 2), ('spark', 40, 50, 1),
                        ('structured', 41, 51, 1);
  INSERT INTO a VALUES ('spark streaming', make_timestamp(25000000));
  RUN;
  INSERT INTO a VALUES ('spark streaming', make_timestamp(30000000));
  CRASH AFTER PUBLISHED;
  ASSERT whole = VALUES ('hello', 40, 51, 2), ('world', 40, 51, 2), ('streaming', 25, 51, 4), ('spark', 25, 50, 3),
                        ('structured', 41, 51, 1);
END;

TEST 'SW-04 update mode is refused' AS BEGIN
  GIVEN INSERT INTO updates SELECT word, count(*) AS n FROM words GROUP BY session_window(ts, '10 seconds'), word;
  ASSERT ERROR 'session';
END;

TEST 'SW-04 sessions without another key are refused' AS BEGIN
  GIVEN INSERT INTO closed SELECT count(*) AS n FROM words GROUP BY session_window(ts, '10 seconds');
  ASSERT ERROR 'session';
END;

TEST 'SW-05 sums, means and deviations' AS BEGIN
  GIVEN INSERT INTO closed SELECT sentence, epoch(session_window.start)::BIGINT AS s, epoch(session_window.end)::BIGINT AS e,
        count(*) AS n, sum(epoch(ts)::BIGINT) AS total, avg(epoch(ts)) AS mean, median(epoch(ts)) AS middle,
        stddev(epoch(ts)) AS deviation, variance(epoch(ts)) AS spread
        FROM a GROUP BY session_window(ts, '10 seconds'), sentence;
  INSERT INTO a SELECT 'a', make_timestamp(v * 1000000) FROM (VALUES (41), (42), (40)) t(v);
  ASSERT closed IS EMPTY;
  INSERT INTO a SELECT 'b', make_timestamp(v * 1000000) FROM (VALUES (100), (101)) t(v);
  ASSERT closed = VALUES ('a', 40, 52, 3, 123, 41.0, 41.0, 1.0, 1.0);
END;
