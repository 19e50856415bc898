-- W9: the ad events that are views, from JSON lines to JSON lines.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE events (
  user_id TEXT, page_id TEXT, ad_id TEXT, ad_type TEXT, event_type TEXT, event_time TEXT, ip_address TEXT
) WITH (connector = 'file', path = '${EVENTS}', format = 'json');

CREATE TABLE views (
  user_id TEXT, page_id TEXT, ad_id TEXT, ad_type TEXT, event_type TEXT, event_time TEXT, ip_address TEXT
) WITH (connector = 'file', path = '${OUTPUT}', format = 'json');

INSERT INTO views SELECT * FROM events WHERE event_type = 'view';
