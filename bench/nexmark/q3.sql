-- q3: who sells in category 10 in three states.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE auction (
  id BIGINT, itemName TEXT, description TEXT, initialBid BIGINT, reserve BIGINT, dateTime TIMESTAMP,
  expires TIMESTAMP, seller BIGINT, category BIGINT, extra TEXT
) WITH (connector = 'nexmark', table = 'auction', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE person (
  id BIGINT, name TEXT, emailAddress TEXT, creditCard TEXT, city TEXT, state TEXT, dateTime TIMESTAMP, extra TEXT
) WITH (connector = 'nexmark', table = 'person', events = '${EVENTS}', inter_event_ns = '${GAP_NS}',
  events_per_batch = '${EVENTS_PER_BATCH}', mode = '${MODE}');

CREATE TABLE results (name TEXT, city TEXT, state TEXT, id BIGINT)
  WITH (connector = 'null');

INSERT INTO results
  SELECT p.name, p.city, p.state, a.id
  FROM auction AS a JOIN person AS p ON a.seller = p.id
  WHERE a.category = 10 AND (p.state = 'OR' OR p.state = 'ID' OR p.state = 'CA');
