SELECT auction, row_number() OVER (PARTITION BY auction ORDER BY price DESC, dateTime) AS place, bidder, price, dateTime, extra FROM bid
QUALIFY place <= 10
