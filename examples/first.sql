-- The first example: orders that are made up, counted per city and ten seconds of their own time.
-- It needs no service and ends by itself after 5,000 orders.
SET trigger = '200 milliseconds';

CREATE TABLE orders (
  id BIGINT, city TEXT, amount BIGINT, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '5 seconds'
) WITH (
  connector = 'datagen', rows = 5000, rows_per_batch = 250, seed = 7,
  'fields.id.kind' = 'sequence',
  'fields.city.choices' = 'Oslo,Bergen,Tromso,Trondheim',
  'fields.amount.min' = 1, 'fields.amount.max' = 99,
  'fields.ts.kind' = 'time', 'fields.ts.start' = '2026-01-01 00:00:00', 'fields.ts.step' = '10 ms'
);

-- A table on the terminal after each batch: the counts that changed.
SELECT window_start, city, count(*) AS orders, sum(amount) AS total
FROM orders
GROUP BY window(ts, '10 seconds'), city;

-- `millrace test` runs this without the generator: rows from here, a virtual clock, and a power cut on top.
TEST 'orders are counted once, per city and ten seconds' AS BEGIN
  INSERT INTO orders VALUES (1, 'Oslo', 10, '2026-01-01 00:00:01'), (2, 'Oslo', 5, '2026-01-01 00:00:09');
  ASSERT console = VALUES ('2026-01-01 00:00:00', 'Oslo', 2, 15);
  INSERT INTO orders VALUES (3, 'Oslo', 1, '2026-01-01 00:00:08'), (4, 'Bergen', 7, '2026-01-01 00:00:10');
  CRASH AFTER STAGED;
  ASSERT NEW console = VALUES ('2026-01-01 00:00:00', 'Oslo', 3, 16), ('2026-01-01 00:00:10', 'Bergen', 1, 7);
END;

-- next: That was 5,000 orders, counted exactly once. Try next:
-- next:   build/release/millrace check examples/first.sql
-- next:   build/release/millrace test examples/first.sql
-- next:   echo '{"city": "Oslo"}' | build/release/millrace run -e "SELECT city, count(*) AS n FROM stdin GROUP BY city"
-- next:   build/release/millrace options file
