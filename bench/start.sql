-- Start to the first committed batch: the smallest pipeline that needs the SQL engine.
SET checkpoint = '${CHECKPOINT}';
CREATE TABLE words (value TEXT) WITH (connector = 'file', path = '${WORDS}', format = 'text');
CREATE TABLE results (word TEXT, n BIGINT) WITH (connector = 'null', output_mode = 'update');
INSERT INTO results SELECT upper(value) AS word, count(*) AS n FROM words GROUP BY upper(value);
