-- NOT NULL and keys of tables.
CREATE TABLE a (v BIGINT NOT NULL, s VARCHAR, w AS v % 10 NOT NULL, known AS s IS NOT NULL)
  WITH (connector = 'memory');
CREATE TABLE b (v BIGINT, s VARCHAR) WITH (connector = 'memory');
CREATE TABLE out (s VARCHAR, known BOOLEAN) WITH (connector = 'memory', output_mode = 'append');
CREATE TABLE kept (s VARCHAR, n BIGINT NOT NULL, PRIMARY KEY (s) NOT ENFORCED)
  WITH (connector = 'memory', output_mode = 'append');

TEST 'a null in a source that must have a value ends the query, though nobody reads the column' AS BEGIN
  GIVEN INSERT INTO out SELECT s, known FROM a;
  INSERT INTO a VALUES (1, 'x'), (2, NULL);
  ASSERT out = VALUES ('x', true), (NULL, false);
  INSERT INTO a VALUES (3, 'y'), (NULL, 'z');
  ASSERT ERROR 'column ''v'' of table ''a'' is NOT NULL and is null in the row (v: null, s: z';
END;

TEST 'a null for a sink that must have a value ends the query before anything is published' AS BEGIN
  GIVEN INSERT INTO kept (n, s) SELECT v, s FROM b;
  INSERT INTO b VALUES (1, 'x'), (2, NULL);
  ASSERT kept = VALUES ('x', 1), (NULL, 2);
  INSERT INTO b VALUES (3, 'y'), (NULL, 'z');
  ASSERT ERROR 'column ''n'' of table ''kept'' is NOT NULL and is null in the row (s: z, n: null)';
END;
