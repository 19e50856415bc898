-- Watermarks are whole milliseconds.
SELECT bidder, count(*) AS bids, min(dateTime) AS session_start, max(dateTime) + INTERVAL '10 milliseconds' AS session_end
FROM (SELECT bidder, dateTime, sum(new) OVER (PARTITION BY bidder ORDER BY dateTime ROWS UNBOUNDED PRECEDING) AS number
  FROM (SELECT bidder, dateTime,
      coalesce(dateTime > lag(dateTime) OVER (PARTITION BY bidder ORDER BY dateTime) + INTERVAL '10 milliseconds', true)::INT AS new
    FROM bid))
GROUP BY bidder, number
HAVING session_end <= (SELECT date_trunc('milliseconds', max(dateTime)) FROM bid)
