-- q18: the last bid of each bidder for each auction.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT)
  WITH (connector = 'null', output_mode = 'update');

INSERT INTO results
  SELECT auction, bidder, last.price, last.channel, last.url, last.dateTime, last.extra
  FROM (
    SELECT auction, bidder,
      arg_max({'price': price, 'channel': channel, 'url': url, 'dateTime': dateTime, 'extra': extra}, dateTime) AS last
    FROM bid GROUP BY auction, bidder);
