-- Views that were written, by either engine, through the sink that sums rows.
CREATE TABLE views (
  user_id TEXT, page_id TEXT, ad_id TEXT, ad_type TEXT, event_type TEXT, event_time TEXT, ip_address TEXT
) WITH (connector = 'file', path = '${OUTPUT}', format = 'json');
CREATE TABLE results WITH (connector = 'null');
INSERT INTO results SELECT * FROM views;
