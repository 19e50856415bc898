-- UN-01: which shapes of a query an output mode takes (structured_ids.txt: shapes). A shape that is taken runs over no rows; one
-- that is refused fails when it is planned. The whole table is a test in C; these are what a user meets first.

CREATE TABLE a (v BIGINT, w BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE b (v BIGINT, w BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') WITH (connector = 'memory');
CREATE TABLE fixed (v BIGINT, w BIGINT) WITH (connector = 'memory', static = 'true');
CREATE TABLE appended WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE updated WITH (connector = 'memory', output_mode = 'update');
CREATE TABLE whole WITH (connector = 'memory', output_mode = 'complete');

TEST 'UN-01 an aggregation without a watermark cannot be appended' AS BEGIN
  GIVEN INSERT INTO appended SELECT v, count(*) AS n FROM a GROUP BY v;
  ASSERT ERROR 'append';
END;

TEST 'UN-01 an aggregation by a watermarked key can' AS BEGIN
  GIVEN INSERT INTO appended SELECT ts, count(*) AS n FROM a GROUP BY ts;
  ASSERT appended IS EMPTY;
END;

TEST 'UN-01 an aggregation can be updated' AS BEGIN
  GIVEN INSERT INTO updated SELECT v, count(*) AS n FROM a GROUP BY v;
  ASSERT updated IS EMPTY;
END;

TEST 'UN-01 complete needs an aggregation' AS BEGIN
  GIVEN INSERT INTO whole SELECT v FROM a;
  ASSERT ERROR 'needs an aggregation';
END;

TEST 'UN-01 an inner join can be appended' AS BEGIN
  GIVEN INSERT INTO appended SELECT a.v FROM a JOIN b ON a.v = b.v;
  ASSERT appended IS EMPTY;
END;

TEST 'UN-01 an outer join cannot be updated' AS BEGIN
  GIVEN INSERT INTO updated SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts = b.ts;
  ASSERT ERROR 'append';
END;

TEST 'UN-01 an outer join needs a key or a range of time' AS BEGIN
  GIVEN INSERT INTO appended SELECT a.v FROM a LEFT JOIN b ON a.v = b.v;
  ASSERT ERROR 'WATERMARK';
END;

TEST 'UN-01 a static side on the left of a left join is refused' AS BEGIN
  GIVEN INSERT INTO appended SELECT a.v FROM fixed LEFT JOIN a ON a.v = fixed.v;
  ASSERT ERROR 'static table';
END;

TEST 'UN-01 a static side on the right of a left join is not' AS BEGIN
  GIVEN INSERT INTO appended SELECT a.v, fixed.w FROM a LEFT JOIN fixed ON a.v = fixed.v;
  INSERT INTO fixed VALUES (1, 10);
  INSERT INTO a (v) VALUES (1), (2);
  ASSERT appended = VALUES (1, 10), (2, NULL);
END;

TEST 'UN-01 a limit cannot be updated' AS BEGIN
  GIVEN INSERT INTO updated SELECT v FROM a LIMIT 3;
  ASSERT ERROR 'LIMIT';
END;

TEST 'UN-01 OFFSET is refused' AS BEGIN
  GIVEN INSERT INTO appended SELECT v FROM a LIMIT 3 OFFSET 1;
  ASSERT ERROR 'OFFSET';
END;

TEST 'UN-01 sorting needs the whole result' AS BEGIN
  GIVEN INSERT INTO appended SELECT v FROM a ORDER BY v;
  ASSERT ERROR 'ORDER BY';
END;

TEST 'UN-01 windows of rows are refused' AS BEGIN
  GIVEN INSERT INTO appended SELECT v, row_number() OVER (PARTITION BY v ORDER BY ts) AS n FROM a;
  ASSERT ERROR 'OVER';
END;

TEST 'UN-01 a sample is refused' AS BEGIN
  GIVEN INSERT INTO appended SELECT v FROM a USING SAMPLE 10 PERCENT;
  ASSERT ERROR 'samples of a stream';
END;

TEST 'UN-01 rollups can be updated' AS BEGIN
  GIVEN INSERT INTO updated SELECT v, w, count(*) AS n FROM a GROUP BY ROLLUP (v, w);
  INSERT INTO a (v, w) VALUES (1, 2);
  ASSERT updated = VALUES (1, 2, 1), (1, NULL, 1), (NULL, NULL, 1);
END;

TEST 'UN-01 a deduplication below an aggregation can be appended' AS BEGIN
  GIVEN INSERT INTO appended SELECT window_start, count(*) AS n FROM (SELECT DISTINCT ON (v, ts) * FROM a)
        GROUP BY window(ts, '5 seconds');
  ASSERT appended IS EMPTY;
END;
