-- q6: average price of the last 10 auctions of each seller that have closed. An auction is open for less than a second here (q4).
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE auction (
  id BIGINT, itemName TEXT, description TEXT, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP,
  expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'auction', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

-- An auction is final when no bid for it can come any more: once, in append mode.
CREATE MATERIALIZED VIEW winning WITH (output_mode = 'append') AS
  SELECT a.id, a.seller, a.dateTime, max(b.price) AS final
  FROM auction AS a JOIN bid AS b ON a.id = b.auction
  WHERE b.dateTime BETWEEN a.dateTime AND a.expires AND b.dateTime <= a.dateTime + INTERVAL '1 second'
  GROUP BY a.id, a.seller, a.dateTime;

CREATE TABLE results (seller BIGINT, average DOUBLE)
  WITH (connector = 'null', output_mode = 'update');

-- The last 10 by their time; of the same time, by their number.
INSERT INTO results
  SELECT seller, list_avg(arg_max(final, {'at': dateTime, 'id': id}, 10)) AS average FROM winning GROUP BY seller;
