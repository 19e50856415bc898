-- The events as Parquet, for DuckDB.
CREATE TABLE events WITH (connector = 'nexmark', table = '${TABLE}', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS}');
CREATE TABLE files WITH (connector = 'file', path = '${FOLDER}', format = 'parquet');
INSERT INTO files SELECT * FROM events;
