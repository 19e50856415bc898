-- W3: one word a line -> how often each came.
SET checkpoint = '${CHECKPOINT}';

CREATE TABLE words (value TEXT) WITH (connector = 'file', path = '${WORDS}', format = 'text');
CREATE TABLE results (word TEXT, n BIGINT) WITH (connector = 'null', output_mode = 'update');

INSERT INTO results SELECT value AS word, count(*) AS n FROM words GROUP BY value;
