-- q12: bids of each bidder in each 10 seconds of processing time.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (bidder BIGINT, bids BIGINT, window_start TIMESTAMP, window_end TIMESTAMP)
  WITH (connector = 'null', output_mode = 'update');

INSERT INTO results
  SELECT bidder, count(*) AS bids, window_start, window_end
  FROM (SELECT bidder, now()::TIMESTAMP AS processed FROM bid) AS b
  GROUP BY bidder, TUMBLE(processed, INTERVAL '10' SECOND);
