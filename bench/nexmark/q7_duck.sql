SELECT b.auction, b.price, b.bidder, b.dateTime, b.extra FROM bid AS b JOIN (
  SELECT max(price) AS price, time_bucket(INTERVAL '10 seconds', dateTime) AS window_start FROM bid GROUP BY ALL
  HAVING window_start + INTERVAL '10 seconds' <= (SELECT max(dateTime) FROM bid)) AS h
ON b.price = h.price AND b.dateTime >= h.window_start AND b.dateTime < h.window_start + INTERVAL '10 seconds'
