-- q19: the ten highest bids of each auction; of equal ones the first. A row says which bid is at a place now.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (auction BIGINT, place BIGINT, bidder BIGINT, price BIGINT, dateTime TIMESTAMP, extra TEXT)
  WITH (connector = 'null', output_mode = 'update');

CREATE VIEW best AS
  SELECT auction, arg_max({'bidder': bidder, 'price': price, 'dateTime': dateTime, 'extra': extra},
    {'price': price, 'early': -epoch_us(dateTime)}, 10) AS bids
  FROM bid GROUP BY auction;

INSERT INTO results
  SELECT auction, place, bids[place].bidder, bids[place].price, bids[place].dateTime, bids[place].extra
  FROM (SELECT auction, bids, unnest(range(1, len(bids) + 1)) AS place FROM best);
