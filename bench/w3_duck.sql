-- W3 as a batch query. The separator does not occur: every line is one column.
COPY (
  SELECT word, count(*) AS n
  FROM read_csv('${WORDS}', header = false, delim = '|', quote = '', escape = '', auto_detect = false,
                columns = {word: 'VARCHAR'})
  GROUP BY word
) TO '${REFERENCE}' (FORMAT csv, HEADER true);
