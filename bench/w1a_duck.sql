-- W1a as a batch query: columns declared as in w1a.sql, so that nothing is sampled.
COPY (
  SELECT time_bucket(INTERVAL '10 seconds', epoch_ms(event_time::BIGINT)) AS window_start, campaign_id,
         count(*) AS n, max(event_time::BIGINT) AS last
  FROM read_json('${EVENTS}', format = 'newline_delimited', columns = {
         user_id: 'VARCHAR', page_id: 'VARCHAR', ad_id: 'VARCHAR', ad_type: 'VARCHAR',
         event_type: 'VARCHAR', event_time: 'VARCHAR', ip_address: 'VARCHAR'}) AS events
  JOIN read_csv('${ADS}', header = true, columns = {ad_id: 'VARCHAR', campaign_id: 'VARCHAR'}) AS ads
    ON events.ad_id = ads.ad_id
  WHERE event_type = 'view'
  GROUP BY ALL
) TO '${REFERENCE}' (FORMAT csv, HEADER true);
