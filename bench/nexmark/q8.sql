-- q8: people who came and put something up for sale in the same 10 seconds.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE person (
  id BIGINT, name TEXT, emailAddress TEXT, creditCard TEXT, city TEXT, state TEXT, dateTime TIMESTAMP, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'person', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE auction (
  id BIGINT, itemName TEXT, description TEXT, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP,
  expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'auction', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE VIEW newcomers AS
  SELECT id, name, window_start, window_end
  FROM TUMBLE(TABLE person, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)
  GROUP BY id, name, window_start, window_end;

CREATE VIEW sellers AS
  SELECT seller, window_start, window_end
  FROM TUMBLE(TABLE auction, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)
  GROUP BY seller, window_start, window_end;

CREATE TABLE results (id BIGINT, name TEXT, window_start TIMESTAMP)
  WITH (connector = 'null', output_mode = 'append');

INSERT INTO results
  SELECT p.id, p.name, p.window_start
  FROM newcomers AS p JOIN sellers AS a
    ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end;
