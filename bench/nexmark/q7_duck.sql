SELECT b.auction, b.price, b.bidder, b.dateTime, b.extra
FROM bid AS b JOIN (
  SELECT max(price) AS highest, time_bucket(INTERVAL '10 seconds', dateTime) AS w FROM bid GROUP BY w) AS h
  ON b.price = h.highest AND b.dateTime >= h.w AND b.dateTime < h.w + INTERVAL '10 seconds'
WHERE h.w + INTERVAL '10 seconds' <= (SELECT max(dateTime) FROM bid)
