-- Vectors of LIMIT (structured_ids.txt: limit).

CREATE TABLE a (v BIGINT) WITH (connector = 'memory');
CREATE TABLE out WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE whole WITH (connector = 'memory', output_mode = 'complete');

TEST 'LIM-01 the first rows of the whole life' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM a LIMIT 4;
  INSERT INTO a VALUES (1), (2);
  ASSERT out = VALUES (1), (2);
  INSERT INTO a VALUES (3), (4), (5), (6);
  ASSERT out = VALUES (1), (2), (3), (4);
  CRASH;
  INSERT INTO a VALUES (7), (8), (9);
  ASSERT out = VALUES (1), (2), (3), (4);
END;

TEST 'LIM-01 no rows at all' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM a LIMIT 0;
  INSERT INTO a VALUES (1), (2);
  ASSERT out IS EMPTY;
END;

TEST 'LIM-02 behind a filter' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM a WHERE v % 2 = 1 LIMIT 4;
  INSERT INTO a SELECT v FROM range(1, 6) t(v);
  ASSERT out = VALUES (1), (3), (5);
  INSERT INTO a SELECT v FROM range(6, 10) t(v);
  ASSERT out = VALUES (1), (3), (5), (7);
  INSERT INTO a SELECT v FROM range(10, 13) t(v);
  ASSERT out = VALUES (1), (3), (5), (7);
END;

TEST 'LIM-04 below an aggregation' AS BEGIN
  GIVEN INSERT INTO whole SELECT v, count(*) AS n FROM (SELECT v FROM a LIMIT 5) GROUP BY v;
  INSERT INTO a VALUES (1), (2), (3);
  ASSERT whole = VALUES (1, 1), (2, 1), (3, 1);
  INSERT INTO a SELECT v FROM range(1, 10) t(v);
  ASSERT whole = VALUES (1, 2), (2, 2), (3, 1);
END;

TEST 'LIM-05 below and above an aggregation' AS BEGIN
  GIVEN INSERT INTO whole SELECT v, count(*) AS n FROM (SELECT v FROM a LIMIT 4) GROUP BY v ORDER BY v LIMIT 3;
  INSERT INTO a SELECT v FROM range(1, 10) t(v);
  ASSERT ORDERED whole = VALUES (1, 1), (2, 1), (3, 1);
  INSERT INTO a SELECT v FROM range(2, 7) t(v);
  ASSERT ORDERED whole = VALUES (1, 1), (2, 1), (3, 1);
END;
