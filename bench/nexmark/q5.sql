-- q5: the auctions with the most bids in the last 10 seconds, every 2 seconds.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE VIEW counts AS
  SELECT auction, window_start, window_end, count(*) AS num
  FROM HOP(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '2' SECOND, INTERVAL '10' SECOND)
  GROUP BY auction, window_start, window_end;

CREATE VIEW most AS
  SELECT window_start, window_end, max(num) AS num FROM counts GROUP BY window_start, window_end;

CREATE TABLE results (auction BIGINT, num BIGINT)
  WITH (connector = 'null', output_mode = 'append');

INSERT INTO results
  SELECT c.auction, c.num
  FROM counts AS c JOIN most AS m ON c.window_start = m.window_start AND c.window_end = m.window_end AND c.num >= m.num;
