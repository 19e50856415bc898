-- W5a, W6: a count and a sum for each of many keys, durable.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE updates (k BIGINT, v BIGINT)
  WITH (connector = 'datagen', rows = '${ROWS}', rows_per_batch = '${ROWS_PER_BATCH}', seed = '1',
        fields.k.kind = 'random', fields.k.min = '0', fields.k.max = '${LAST_KEY}',
        fields.v.kind = 'random', fields.v.min = '0', fields.v.max = '999');

CREATE TABLE results (k BIGINT, n BIGINT, total BIGINT)
  WITH (connector = 'null', output_mode = 'update');

INSERT INTO results SELECT k, count(*) AS n, sum(v) AS total FROM updates GROUP BY k;
