-- q9: the winning bid of each auction: the highest, of equal ones the first. An auction is open for less than a second here (q4).
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

CREATE TABLE results (id BIGINT, itemName TEXT, reserve BIGINT, dateTime TIMESTAMP, expires TIMESTAMP, seller BIGINT,
  bidder BIGINT, price BIGINT, bid_dateTime TIMESTAMP, bid_extra TEXT)
  WITH (connector = 'null', output_mode = 'append');

INSERT INTO results
  SELECT id, itemName, reserve, dateTime, expires, seller, best.bidder, best.price, best.at, best.extra
  FROM (
    SELECT a.id, a.itemName, a.reserve, a.dateTime, a.expires, a.seller,
      arg_max({'bidder': b.bidder, 'price': b.price, 'at': b.dateTime, 'extra': b.extra},
        {'price': b.price, 'early': -epoch_us(b.dateTime)}) AS best
    FROM auction AS a JOIN bid AS b ON a.id = b.auction
    WHERE b.dateTime BETWEEN a.dateTime AND a.expires AND b.dateTime <= a.dateTime + INTERVAL '1 second'
    GROUP BY a.id, a.itemName, a.reserve, a.dateTime, a.expires, a.seller);
