SELECT b.auction, b.bidder, b.price, b.dateTime, a.itemName, a.initialBid, a.reserve, a.expires, a.seller, a.category
FROM bid AS b JOIN auction AS a ON b.auction = a.id
WHERE a.category = 10
