-- q11: bids of each bidder while they are active (sessions with gaps of 10 milliseconds: our events are 1000 times as dense).
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel TEXT, url TEXT, dateTime TIMESTAMP, extra TEXT,
  WATERMARK FOR dateTime AS dateTime - INTERVAL '0 seconds'
) WITH (connector = 'nexmark', table = 'bid', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (bidder BIGINT, bids BIGINT, session_start TIMESTAMP, session_end TIMESTAMP)
  WITH (connector = 'null', output_mode = 'append');

INSERT INTO results
  SELECT bidder, count(*) AS bids, session_start, session_end
  FROM bid
  GROUP BY bidder, SESSION(dateTime, INTERVAL '10 milliseconds');
