-- Auctions whose time has passed (the watermark of the join: a bid may come a second after its auction).
SELECT a.id, a.itemName, a.reserve, a.dateTime, a.expires, a.seller, b.bidder, b.price, b.dateTime AS bid_dateTime, b.extra AS bid_extra
FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires
  AND b.dateTime <= a.dateTime + INTERVAL '1 second'
WHERE a.dateTime <= (SELECT date_trunc('milliseconds', least(max(bid.dateTime), (SELECT max(dateTime) FROM auction))) FROM bid)
  - INTERVAL '1 second' - INTERVAL '1 millisecond'
QUALIFY row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.dateTime) = 1
