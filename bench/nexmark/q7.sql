-- q7: the highest bids of each 10 seconds.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE VIEW highest AS
  SELECT max(price) AS price, window_start, window_end
  FROM TUMBLE(TABLE bid, DESCRIPTOR(dateTime), INTERVAL '10' SECOND)
  GROUP BY window_start, window_end;

CREATE TABLE results (auction BIGINT, price BIGINT, bidder BIGINT, dateTime TIMESTAMP, extra TEXT)
  WITH (connector = 'null', output_mode = 'append');

INSERT INTO results
  SELECT b.auction, b.price, b.bidder, b.dateTime, b.extra
  FROM bid AS b JOIN highest AS h ON b.price = h.price
  WHERE b.dateTime >= h.window_end - INTERVAL '10' SECOND AND b.dateTime < h.window_end;
