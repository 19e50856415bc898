-- q0: every bid, unchanged.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (auction BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP, extra TEXT)
  WITH (connector = 'null');

INSERT INTO results
  SELECT auction, bidder, price, dateTime, extra FROM bid;
