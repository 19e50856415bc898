-- Vectors of triggers and restarts (structured_ids.txt: triggers) that a script can show. What is about
-- timing is in tests/flow/test_sql_triggers.c.

CREATE TABLE a (v BIGINT) WITH (connector = 'memory');
CREATE TABLE b (v BIGINT) WITH (connector = 'memory');
CREATE TABLE names (id BIGINT, name VARCHAR) WITH (connector = 'memory', static = 'true');
CREATE TABLE out WITH (connector = 'memory', output_mode = 'append');

TEST 'TR-04 batches are numbered, idle triggers make none' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM a;
  INSERT INTO a VALUES (1), (2), (3);
  RUN;
  INSERT INTO a VALUES (4), (5), (6);
  RUN;
  ASSERT BATCHES 2;
  ADVANCE TIME BY '30 seconds';
  RUN;
  RESTART;
  RUN;
  ASSERT BATCHES 0;
  INSERT INTO a VALUES (7), (8), (9);
  CRASH AFTER COMMITTED IN BATCH 2;
  ASSERT out = VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9);
END;

TEST 'TR-05 a batch that lost its commit runs again with the same rows' AS BEGIN
  GIVEN INSERT INTO out SELECT (6 // v)::BIGINT AS q, (6 % v) AS r, error('zero') IS NULL AS fine FROM a WHERE v = 0
        UNION ALL SELECT 6 // v, 6 % v, true FROM a WHERE v <> 0;
  INSERT INTO a VALUES (1), (2);
  CRASH AFTER STAGED;
  INSERT INTO a VALUES (3);
  ASSERT NEW out = VALUES (6, 0, true), (3, 0, true), (2, 0, true);
  ASSERT BATCHES 2; -- that of 1 and 2 again, without 3, and one with 3
  INSERT INTO a VALUES (0);
  ASSERT ERROR 'zero';
  ASSERT ERROR 'zero'; -- it is planned: it comes again
END;

TEST 'TR-10 a stream joins a static table' AS BEGIN
  GIVEN INSERT INTO out SELECT a.v, names.id, names.name FROM a JOIN names ON a.v = names.id;
  INSERT INTO names VALUES (1, 'one'), (2, 'two'), (4, 'four');
  INSERT INTO a VALUES (1), (2), (3);
  ASSERT NEW out = VALUES (1, 1, 'one'), (2, 2, 'two');
  INSERT INTO a VALUES (4);
  ASSERT NEW out = VALUES (4, 4, 'four');
END;

TEST 'TR-11 union of two streams, in one and in the other' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM a UNION ALL SELECT v FROM b;
  INSERT INTO a VALUES (1), (3), (5);
  INSERT INTO b VALUES (2), (4), (6);
  RESTART;
  INSERT INTO a VALUES (7);
  RESTART;
  INSERT INTO b VALUES (8);
  ASSERT out = SELECT v FROM range(1, 9) t(v);
END;

TEST 'TR-11 SQL over a view' AS BEGIN
  GIVEN CREATE VIEW evens AS SELECT v FROM a WHERE v % 2 = 0;
  GIVEN INSERT INTO out SELECT v FROM evens;
  INSERT INTO a VALUES (1), (2), (3), (4);
  ASSERT out = VALUES (2), (4);
END;

TEST 'every step of a batch may be the last one: no row is lost or doubled' AS BEGIN
  GIVEN INSERT INTO out SELECT v FROM a;
  CRASH BEFORE PLANNED;
  INSERT INTO a VALUES (1);
  CRASH AFTER PLANNED;
  INSERT INTO a VALUES (2);
  CRASH AFTER RAN;
  INSERT INTO a VALUES (3);
  CRASH AFTER STAGED;
  INSERT INTO a VALUES (4);
  CRASH AFTER PUBLISHED;
  INSERT INTO a VALUES (5);
  CRASH AFTER COMMITTED;
  INSERT INTO a VALUES (6);
  KILL AFTER PUBLISHED;
  INSERT INTO a VALUES (7);
  KILL;
  ASSERT out = SELECT v FROM range(1, 8) t(v);
  ASSERT out = (SELECT v FROM a);
END;
