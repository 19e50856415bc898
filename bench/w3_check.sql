-- The result of DuckDB's run, through the same sink: its checksum must be that of w3.sql.
CREATE TABLE reference (word TEXT, n BIGINT)
  WITH (connector = 'file', path = '${REFERENCE}', format = 'csv', header = true);
CREATE TABLE results (word TEXT, n BIGINT) WITH (connector = 'null');
INSERT INTO results SELECT word, n FROM reference;
