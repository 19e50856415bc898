-- q20: bids with the auction they are for, of one category.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE auction (
  id BIGINT, itemName TEXT, description TEXT, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP,
  expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT
) WITH (connector = 'nexmark', table = 'auction', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP, itemName TEXT, initialBid BIGINT, reserve BIGINT,
  expires TIMESTAMP, seller BIGINT, category BIGINT)
  WITH (connector = 'null');

INSERT INTO results
  SELECT b.auction, b.bidder, b.price, b.dateTime, a.itemName, a.initialBid, a.reserve, a.expires, a.seller, a.category
  FROM bid AS b JOIN auction AS a ON b.auction = a.id
  WHERE a.category = 10;
