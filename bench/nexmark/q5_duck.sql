WITH counts AS (
  SELECT auction, w AS window_start, w + INTERVAL '10 seconds' AS window_end, count(*) AS num
  FROM (SELECT auction, unnest([time_bucket(INTERVAL '2 seconds', dateTime) - to_seconds(2 * i) FOR i IN range(5)]) AS w FROM bid)
  GROUP BY ALL
  HAVING window_end <= (SELECT max(dateTime) FROM bid))
SELECT c.auction, c.num FROM counts AS c
JOIN (SELECT window_start, max(num) AS num FROM counts GROUP BY ALL) AS m ON c.window_start = m.window_start AND c.num >= m.num
