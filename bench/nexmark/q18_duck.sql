SELECT auction, bidder, price, channel, url, dateTime, extra FROM bid
QUALIFY row_number() OVER (PARTITION BY auction, bidder ORDER BY dateTime DESC) = 1
