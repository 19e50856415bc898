-- Records that cannot be decoded take the way that on_error says; none goes without being counted.

CREATE TABLE strict (id BIGINT, city VARCHAR) WITH (connector = 'kafka', brokers = 'b:1', topic = 't', format = 'json');
CREATE TABLE skipping (id BIGINT, city VARCHAR)
  WITH (connector = 'file', path = 'in', format = 'csv', delimiter = ';', header = 'false', on_error = 'skip');
CREATE TABLE routed (id BIGINT, city VARCHAR)
  WITH (connector = 'kafka', brokers = 'b:1', topic = 't', format = 'json', on_error = 'into bad');
CREATE TABLE bad (source VARCHAR, position VARCHAR, reason VARCHAR, raw BLOB) WITH (connector = 'memory');
CREATE TABLE out WITH (connector = 'memory');

TEST 'a bad record fails the query, and again until it is gone' AS BEGIN
  GIVEN INSERT INTO out SELECT id, city FROM strict;
  INSERT INTO strict RECORDS ('{"id": 1, "city": "Oslo"}');
  ASSERT out = VALUES (1, 'Oslo');
  INSERT INTO strict RECORDS ('{"id": 2', '{"id": 3}');
  ASSERT ERROR 'cannot decode ''strict'' line 1';
  ASSERT ERROR 'cannot decode ''strict'' line 1';
END;

TEST 'bad records are skipped and counted' AS BEGIN
  GIVEN INSERT INTO out SELECT city, id FROM skipping;
  INSERT INTO skipping RECORDS ('1;Oslo', 'x;Bonn', '2;Rome');
  INSERT INTO skipping VALUES (3, 'Bern');
  ASSERT out = VALUES ('Oslo', 1), ('Rome', 2), ('Bern', 3);
  ASSERT BAD ROWS 1;
  ASSERT out = SELECT city, id FROM skipping;
END;

TEST 'bad records become rows of another table, once' AS BEGIN
  GIVEN INSERT INTO out SELECT id, city FROM routed;
  INSERT INTO routed RECORDS ('{"id": 1, "city": "Oslo"}', 'it''s no JSON', '{"id": "x"}', '{"id": 4}');
  CRASH AFTER STAGED;
  ASSERT out = VALUES (1, 'Oslo'), (4, NULL);
  ASSERT (SELECT source, decode(raw) AS raw FROM bad) = VALUES ('routed', 'it''s no JSON'), ('routed', '{"id": "x"}');
  ASSERT BAD ROWS 2;
END;
