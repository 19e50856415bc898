-- W1a: ad events as JSON lines -> views per campaign and 10 seconds of event time.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE events (
  user_id TEXT, page_id TEXT, ad_id TEXT, ad_type TEXT, event_type TEXT, event_time TEXT, ip_address TEXT
) WITH (connector = 'file', path = '${EVENTS}', format = 'json');

CREATE TABLE ads (ad_id TEXT, campaign_id TEXT)
  WITH (connector = 'file', path = '${ADS}', format = 'csv', header = true, static = true);

CREATE VIEW views AS
  SELECT campaign_id, event_time::BIGINT AS event_time, epoch_ms(event_time::BIGINT) AS ts
  FROM events JOIN ads ON events.ad_id = ads.ad_id
  WHERE event_type = 'view';

CREATE TABLE results (window_start TIMESTAMP, campaign_id TEXT, n BIGINT, last BIGINT)
  WITH (connector = 'null', output_mode = 'update');

INSERT INTO results
  SELECT window_start, campaign_id, count(*) AS n, max(event_time) AS last
  FROM views
  GROUP BY window(ts, '10 seconds'), campaign_id;
