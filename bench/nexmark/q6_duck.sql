-- Auctions whose time has passed (the watermark of the join: a bid may come a second after its auction).
SELECT seller, avg(final) AS average FROM (
  SELECT seller, final FROM (
    SELECT a.id, a.seller, a.dateTime, max(b.price) AS final
    FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.dateTime BETWEEN a.dateTime AND a.expires
      AND b.dateTime <= a.dateTime + INTERVAL '1 second'
    GROUP BY a.id, a.seller, a.dateTime
    HAVING a.dateTime <= (SELECT date_trunc('milliseconds', least(max(bid.dateTime), (SELECT max(dateTime) FROM auction))) FROM bid)
      - INTERVAL '1 second' - INTERVAL '1 millisecond')
  QUALIFY row_number() OVER (PARTITION BY seller ORDER BY dateTime DESC, id DESC) <= 10)
GROUP BY seller
