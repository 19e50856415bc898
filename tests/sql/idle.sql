-- A source that is idle need not hold the watermark back: by its own end offset, not by a timer of rows.
SET idle_after = '10 seconds';
CREATE TABLE a (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0 seconds')
  WITH (connector = 'memory');
CREATE TABLE b (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0 seconds')
  WITH (connector = 'memory');
CREATE TABLE out (started BIGINT, n BIGINT) WITH (connector = 'memory', output_mode = 'append');
INSERT INTO out
  SELECT epoch(window_start)::BIGINT, count(*)
  FROM (SELECT ts FROM a UNION ALL SELECT ts FROM b)
  GROUP BY window(ts, '5 seconds');

TEST 'a source that is quiet for a while holds the watermark back' AS BEGIN
  INSERT INTO a VALUES (1, make_timestamp(1000000));
  INSERT INTO b VALUES (2, make_timestamp(2000000));
  RUN;
  ADVANCE TIME BY '5 seconds';
  INSERT INTO a VALUES (3, make_timestamp(20000000));
  RUN;
  ASSERT out IS EMPTY;
END;

TEST 'an idle source does not hold the watermark back' AS BEGIN
  INSERT INTO a VALUES (1, make_timestamp(1000000));
  INSERT INTO b VALUES (2, make_timestamp(2000000));
  RUN;
  ADVANCE TIME BY '11 seconds';
  INSERT INTO a VALUES (3, make_timestamp(20000000));
  RUN;
  ASSERT out = VALUES (0, 2);
END;

TEST 'a source that is back holds it again' AS BEGIN
  INSERT INTO a VALUES (1, make_timestamp(1000000));
  INSERT INTO b VALUES (2, make_timestamp(2000000));
  RUN;
  ADVANCE TIME BY '11 seconds';
  INSERT INTO a VALUES (3, make_timestamp(20000000));
  RUN;
  INSERT INTO b VALUES (4, make_timestamp(21000000));
  RUN;
  INSERT INTO a VALUES (5, make_timestamp(60000000));
  RUN;
  ASSERT out = VALUES (0, 2);
  INSERT INTO b VALUES (6, make_timestamp(60000000));
  RUN;
  ASSERT out = VALUES (0, 2), (20, 2);
END;
