-- The result of DuckDB's run, through the same sink: its checksum must be that of w1a.sql.
CREATE TABLE reference (window_start TIMESTAMP, campaign_id TEXT, n BIGINT, last BIGINT)
  WITH (connector = 'file', path = '${REFERENCE}', format = 'csv', header = true);
CREATE TABLE results (window_start TIMESTAMP, campaign_id TEXT, n BIGINT, last BIGINT) WITH (connector = 'null');
INSERT INTO results SELECT window_start, campaign_id, n, last FROM reference;
