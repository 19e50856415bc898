-- W9 as a batch query: columns declared as in w9.sql, so that nothing is sampled.
COPY (
  SELECT * FROM read_json('${EVENTS}', format = 'newline_delimited', columns = {
    user_id: 'VARCHAR', page_id: 'VARCHAR', ad_id: 'VARCHAR', ad_type: 'VARCHAR',
    event_type: 'VARCHAR', event_time: 'VARCHAR', ip_address: 'VARCHAR'})
  WHERE event_type = 'view'
) TO '${OUTPUT}' (FORMAT json);
