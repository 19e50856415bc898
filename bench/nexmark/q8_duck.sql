SELECT p.id, p.name, p.w AS window_start
FROM (SELECT DISTINCT id, name, time_bucket(INTERVAL '10 seconds', dateTime) AS w FROM person) AS p
JOIN (SELECT DISTINCT seller, time_bucket(INTERVAL '10 seconds', dateTime) AS w FROM auction) AS a ON p.id = a.seller AND p.w = a.w
WHERE p.w + INTERVAL '10 seconds' <= (SELECT least(max(dateTime), (SELECT max(dateTime) FROM auction)) FROM person)
