/*
 * UN-01: which plans are allowed in which output mode, and what the refusals say. One row of the
 * table after the other; where it is decided otherwise than in Spark, the comment says so. Plans
 * with functions of state (mapGroups and the like) come from C: test_groups_vectors.c.
 *
 * a, b: v BIGINT, ts TIMESTAMP with a watermark; plain, plain2: without; fixed: a static table.
 */
#include "support/sql_flow.h"

struct row {
    char mode; /* A append, U update, C complete */
    const char *select;
    const char *refusal; /* NULL: allowed */
};

static const char *mode_name(char mode)
{
    return mode == 'A' ? "append" : mode == 'U' ? "update" : "complete";
}

static void check_row(struct test *t, const struct row *row)
{
    static const char watermark[] = ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'";
    static const char columns[] = "v BIGINT, ts TIMESTAMP";
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_error err;
    enum mr_status status;

    sql_flow_source(flow, "a", columns, watermark);
    sql_flow_source(flow, "b", columns, watermark);
    sql_flow_source(flow, "plain", columns, "");
    sql_flow_source(flow, "plain2", columns, "");
    sql_flow_static(flow, "fixed", columns);
    sql_flow_sink(flow, "out", "", mode_name(row->mode));
    sql_flow_text(flow, "INSERT INTO out ");
    sql_flow_text(flow, row->select);
    sql_flow_text(flow, ";");
    status = sql_flow_check(flow, &err);
    if (row->refusal == NULL && status != MR_OK)
        FAIL("%s: '%s' is refused: %s", mode_name(row->mode), row->select, err.text);
    if (row->refusal != NULL &&
        (status != MR_SQL_ERROR || err.sql_line == 0 || strstr(err.text, row->refusal) == NULL))
        FAIL("%s: '%s' gives '%s' at line %u, want '%s'", mode_name(row->mode), row->select,
             status == MR_OK ? "no error" : err.text, err.sql_line, row->refusal);
    if (row->refusal != NULL && strstr(err.text, "mr_") != NULL)
        FAIL("'%s' shows a name of ours: '%s'", row->select, err.text);
    sql_flow_free(flow);
}

/* clang-format off */
static const struct row rows[] = {
    /* aggregation without a watermark */
    {'A', "SELECT v, count(*) FROM plain GROUP BY v", "needs a window or column with a watermark"},
    {'A', "SELECT v, count(*) FROM a GROUP BY v", "needs a window or column with a watermark"},
    {'A', "SELECT count(*) FROM plain", "needs a window or column with a watermark"},
    /* aggregation with a watermarked key */
    {'A', "SELECT ts, count(*) FROM a GROUP BY ts", NULL},
    {'A', "SELECT window_start, count(*) FROM a GROUP BY window(ts, '5 seconds')", NULL},
    /* aggregation */
    {'U', "SELECT v, count(*) FROM plain GROUP BY v", NULL},
    {'C', "SELECT v, count(*) FROM plain GROUP BY v", NULL},
    /* distinct aggregate: allowed here, its values are state (Spark refuses it) */
    {'C', "SELECT count(DISTINCT v) FROM plain", NULL},
    /* two aggregations of static tables in a streaming query */
    {'A',
     "SELECT a.v FROM a JOIN (SELECT max(n) AS n FROM (SELECT v, count(*) AS n FROM "
     "fixed GROUP BY v)) s ON a.v = s.n",
     NULL},
    /* aggregation of an aggregation */
    {'A',
     "SELECT max(n) FROM (SELECT window_start AS w, count(*) AS n FROM a GROUP BY "
     "window(ts, '5 seconds')) GROUP BY window(w, '10 seconds')",
     NULL},
    {'U',
     "SELECT max(n) FROM (SELECT window_start AS w, count(*) AS n FROM a GROUP BY "
     "window(ts, '5 seconds')) GROUP BY window(w, '10 seconds')",
     "an aggregation of an aggregation"},
    {'C',
     "SELECT max(n) FROM (SELECT window_start AS w, count(*) AS n FROM a GROUP BY "
     "window(ts, '5 seconds')) GROUP BY window(w, '10 seconds')",
     "an aggregation of an aggregation"},
    /* no aggregation */
    {'A', "SELECT v FROM a", NULL},
    {'U', "SELECT v FROM a", NULL},
    {'C', "SELECT v FROM a", "output_mode = 'complete' needs an aggregation"},
    /* inner join of two streams */
    {'A', "SELECT plain.v FROM plain JOIN plain2 ON plain.v = plain2.v", NULL},
    {'U', "SELECT plain.v FROM plain JOIN plain2 ON plain.v = plain2.v", NULL},
    {'C',
     "SELECT plain.v FROM plain JOIN plain2 ON plain.v = plain2.v",
     "output_mode = 'complete' needs an aggregation"},
    /* inner join, then an aggregation */
    {'A', "SELECT a.ts, count(*) FROM a JOIN b ON a.ts = b.ts GROUP BY a.ts", NULL},
    {'U',
     "SELECT plain.v, count(*) FROM plain JOIN plain2 ON plain.v = plain2.v GROUP "
     "BY plain.v",
     NULL},
    {'C',
     "SELECT plain.v, count(*) FROM plain JOIN plain2 ON plain.v = plain2.v GROUP "
     "BY plain.v",
     "its whole result would have to be kept"},
    /* outer joins of two streams */
    {'A', "SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts = b.ts", NULL},
    {'U',
     "SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts = b.ts",
     "needs output_mode = 'append'"},
    {'C',
     "SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts = b.ts",
     "output_mode = 'complete' needs an aggregation"},
    {'A', "SELECT a.v FROM a RIGHT JOIN b ON a.v = b.v AND a.ts = b.ts", NULL},
    {'U',
     "SELECT a.v FROM a RIGHT JOIN b ON a.v = b.v AND a.ts = b.ts",
     "needs output_mode = 'append'"},
    {'C',
     "SELECT a.v FROM a RIGHT JOIN b ON a.v = b.v AND a.ts = b.ts",
     "output_mode = 'complete' needs an aggregation"},
    {'A', "SELECT a.v FROM a FULL JOIN b ON a.v = b.v AND a.ts = b.ts", NULL},
    {'U',
     "SELECT a.v FROM a FULL JOIN b ON a.v = b.v AND a.ts = b.ts",
     "needs output_mode = 'append'"},
    {'C',
     "SELECT a.v FROM a FULL JOIN b ON a.v = b.v AND a.ts = b.ts",
     "output_mode = 'complete' needs an aggregation"},
    /* left semi join of two streams */
    {'A', "SELECT a.v FROM a SEMI JOIN b ON a.v = b.v AND a.ts = b.ts", NULL},
    {'U', "SELECT a.v FROM a SEMI JOIN b ON a.v = b.v AND a.ts = b.ts", NULL},
    {'C',
     "SELECT a.v FROM a SEMI JOIN b ON a.v = b.v AND a.ts = b.ts",
     "output_mode = 'complete' needs an aggregation"},
    /* outer or semi join on a watermarked key of either side */
    {'A', "SELECT a.v FROM a LEFT JOIN plain ON a.ts = plain.ts", NULL},
    {'A', "SELECT plain.v FROM plain LEFT JOIN b ON plain.ts = b.ts", NULL},
    {'A', "SELECT a.v FROM a SEMI JOIN plain ON a.ts = plain.ts", NULL},
    /* outer or semi join on a key without a watermark */
    {'A',
     "SELECT plain.v FROM plain LEFT JOIN plain2 ON plain.v = plain2.v",
     "must know when a row can match no more"},
    {'A', "SELECT a.v FROM a LEFT JOIN b ON a.v = b.v", "must know when a row can match no more"},
    {'A', "SELECT a.v FROM a SEMI JOIN b ON a.v = b.v", "must know when a row can match no more"},
    /* outer or semi join with a range that gives a bound, or none */
    {'A',
     "SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts > b.ts + INTERVAL '10 "
     "seconds'",
     NULL},
    {'A',
     "SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts < b.ts + INTERVAL '10 "
     "seconds'",
     "must know when a row can match no more"},
    {'A',
     "SELECT a.v FROM a SEMI JOIN b ON a.v = b.v AND a.ts > b.ts + INTERVAL '10 "
     "seconds'",
     NULL},
    {'A',
     "SELECT a.v FROM a SEMI JOIN b ON a.v = b.v AND a.ts < b.ts + INTERVAL '10 "
     "seconds'",
     "must know when a row can match no more"},
    /* joins with a static table */
    {'A', "SELECT a.v FROM a JOIN fixed ON a.v = fixed.v", NULL},
    {'A',
     "SELECT fixed.v FROM fixed LEFT JOIN a ON a.v = fixed.v",
     "keeps unmatched rows of the static table"},
    {'A',
     "SELECT fixed.v FROM fixed SEMI JOIN a ON a.v = fixed.v",
     "keeps unmatched rows of the static table"},
    {'A',
     "SELECT fixed.v FROM fixed ANTI JOIN a ON a.v = fixed.v",
     "keeps unmatched rows of the static table"},
    {'A', "SELECT a.v FROM a LEFT JOIN fixed ON a.v = fixed.v", NULL},
    {'A', "SELECT a.v FROM a SEMI JOIN fixed ON a.v = fixed.v", NULL},
    {'A', "SELECT a.v FROM a ANTI JOIN fixed ON a.v = fixed.v", NULL},
    {'A',
     "SELECT a.v FROM a RIGHT JOIN fixed ON a.v = fixed.v",
     "keeps unmatched rows of the static table"},
    {'A', "SELECT a.v FROM fixed RIGHT JOIN a ON a.v = fixed.v", NULL},
    {'A',
     "SELECT a.v FROM a FULL JOIN fixed ON a.v = fixed.v",
     "keeps unmatched rows of the static table"},
    {'A',
     "SELECT a.v FROM fixed FULL JOIN a ON a.v = fixed.v",
     "keeps unmatched rows of the static table"},
    /* join of a time range or an equality, then an aggregation */
    {'A',
     "SELECT window_start, count(*) FROM (SELECT a.ts AS ts FROM a JOIN b ON a.v = "
     "b.v AND b.ts BETWEEN a.ts - INTERVAL '10 seconds' AND a.ts + INTERVAL '10 "
     "seconds') GROUP BY window(ts, '5 seconds')",
     NULL},
    {'A',
     "SELECT window_start, count(*) FROM (SELECT a.ts AS ts FROM a JOIN b ON a.v = "
     "b.v) GROUP BY window(ts, '5 seconds')",
     NULL},
    /* duplicates removed, then an aggregation */
    {'A',
     "SELECT window_start, count(*) FROM (SELECT DISTINCT ON (v, ts) v, ts FROM a) "
     "GROUP BY window(ts, '5 seconds')",
     NULL},
    {'A',
     "SELECT window_start, count(*) FROM (SELECT DISTINCT ON (v) v, ts FROM a) "
     "GROUP BY window(ts, '5 seconds')",
     NULL},
    /* aggregation, then duplicates removed by the time */
    {'A',
     "SELECT DISTINCT ON (w) w, n FROM (SELECT window_start AS w, count(*) AS n "
     "FROM a GROUP BY window(ts, '5 seconds'))",
     NULL},
    {'U',
     "SELECT DISTINCT ON (w) w, n FROM (SELECT window_start AS w, count(*) AS n "
     "FROM a GROUP BY window(ts, '5 seconds'))",
     "needs output_mode = 'append'"},
    {'C',
     "SELECT DISTINCT ON (w) w, n FROM (SELECT window_start AS w, count(*) AS n "
     "FROM a GROUP BY window(ts, '5 seconds'))",
     "is not supported with output_mode = 'complete'"},
    /* aggregation, then duplicates removed by other columns: not in complete mode (Spark: yes) */
    {'U',
     "SELECT DISTINCT ON (n) n FROM (SELECT window_start AS w, count(*) AS n FROM a "
     "GROUP BY window(ts, '5 seconds'))",
     NULL},
    {'C',
     "SELECT DISTINCT ON (n) n FROM (SELECT window_start AS w, count(*) AS n FROM a "
     "GROUP BY window(ts, '5 seconds'))",
     "is not supported with output_mode = 'complete'"},
    /* duplicates removed without a watermark */
    {'A', "SELECT DISTINCT ON (v, ts) v, ts FROM plain", NULL},
    {'U', "SELECT DISTINCT ON (v, ts) v, ts FROM plain", NULL},
    {'C',
     "SELECT DISTINCT ON (v, ts) v, ts FROM plain",
     "output_mode = 'complete' needs an aggregation"},
    /* SELECT DISTINCT and UNION without a watermark */
    {'A', "SELECT DISTINCT v FROM plain", "needs a window or column with a watermark"},
    {'U', "SELECT DISTINCT v FROM plain", NULL},
    {'A',
     "SELECT v FROM plain UNION SELECT v FROM plain2",
     "needs a window or column with a watermark"},
    {'U', "SELECT v FROM plain UNION SELECT v FROM plain2", NULL},
    /* EXCEPT ALL of a static table: refused (Spark takes it) */
    {'A',
     "SELECT v FROM plain EXCEPT ALL SELECT v FROM fixed",
     "this set operation is not supported"},
    {'U',
     "SELECT v FROM plain EXCEPT ALL SELECT v FROM fixed",
     "this set operation is not supported"},
    /* EXCEPT of a static table: refused when it is checked, not in the first batch */
    {'A',
     "SELECT v FROM plain EXCEPT SELECT v FROM fixed",
     "needs a window or column with a watermark"},
    {'U', "SELECT v FROM plain EXCEPT SELECT v FROM fixed", NULL},
    /* EXCEPT with a stream on the right, INTERSECT, a stream with a static table */
    {'A', "SELECT v FROM fixed EXCEPT SELECT v FROM plain", "EXCEPT with a stream on the right"},
    {'A', "SELECT v FROM plain EXCEPT SELECT v FROM plain2", "EXCEPT with a stream on the right"},
    {'U',
     "SELECT v FROM plain INTERSECT SELECT v FROM fixed",
     "this set operation is not supported"},
    {'A', "SELECT v FROM plain UNION ALL SELECT v FROM fixed", "a side that reads no stream"},
    /* rollup, cube, grouping sets */
    {'U', "SELECT v, ts, count(*) FROM plain GROUP BY ROLLUP (v, ts)", NULL},
    {'C', "SELECT v, ts, count(*) FROM plain GROUP BY ROLLUP (v, ts)", NULL},
    {'A',
     "SELECT v, ts, count(*) FROM plain GROUP BY ROLLUP (v, ts)",
     "needs a window or column with a watermark"},
    {'U', "SELECT v, ts, count(*) FROM plain GROUP BY CUBE (v, ts)", NULL},
    {'C', "SELECT v, ts, count(*) FROM plain GROUP BY CUBE (v, ts)", NULL},
    {'A',
     "SELECT v, ts, count(*) FROM plain GROUP BY CUBE (v, ts)",
     "needs a window or column with a watermark"},
    {'U', "SELECT v, ts, count(*) FROM plain GROUP BY GROUPING SETS ((v), (ts))", NULL},
    {'C', "SELECT v, ts, count(*) FROM plain GROUP BY GROUPING SETS ((v), (ts))", NULL},
    {'A',
     "SELECT v, ts, count(*) FROM plain GROUP BY GROUPING SETS ((v), (ts))",
     "needs a window or column with a watermark"},
    /* join without an equality: refused when it is checked */
    {'A', "SELECT plain.v FROM plain CROSS JOIN plain2", "needs an equality between them"},
    {'A',
     "SELECT plain.v FROM plain JOIN plain2 ON plain.v < plain2.v",
     "needs an equality between them"},
    /* limit */
    {'A', "SELECT v FROM plain LIMIT 3", NULL},
    {'U', "SELECT v FROM plain LIMIT 3", "LIMIT is not supported with output_mode = 'update'"},
    {'U',
     "SELECT v, count(*) FROM plain GROUP BY v LIMIT 3",
     "LIMIT is not supported with output_mode = 'update'"},
    {'U',
     "SELECT v, count(*) FROM (SELECT v FROM plain LIMIT 3) GROUP BY v",
     "LIMIT is not supported with output_mode = 'update'"},
    {'C', "SELECT v FROM plain LIMIT 3", "output_mode = 'complete' needs an aggregation"},
    {'C', "SELECT v, count(*) FROM plain GROUP BY v LIMIT 3", NULL},
    /* sort */
    {'A', "SELECT v FROM plain ORDER BY v", "ORDER BY needs the whole result"},
    {'U', "SELECT v FROM plain ORDER BY v", "ORDER BY needs the whole result"},
    {'U',
     "SELECT v, count(*) AS n FROM plain GROUP BY v ORDER BY n",
     "ORDER BY needs the whole result"},
    {'C', "SELECT v, count(*) AS n FROM plain GROUP BY v ORDER BY n", NULL},
    {'C',
     "SELECT v, count(*) AS n FROM (SELECT v FROM plain ORDER BY v) GROUP BY v",
     "ORDER BY needs the whole result"},
    /* samples, OFFSET, OVER */
    {'A', "SELECT v FROM plain TABLESAMPLE 10%", "samples of a stream"},
    {'A', "SELECT v FROM plain USING SAMPLE 10%", "samples of a stream"},
    {'A', "SELECT v FROM plain OFFSET 3", "OFFSET over a stream"},
    {'C', "SELECT v, count(*) FROM plain GROUP BY v LIMIT 3 OFFSET 2", "OFFSET over a stream"},
    {'A', "SELECT v, row_number() OVER (ORDER BY ts) FROM plain", "functions OVER (...)"},
    {'A', "SELECT v, sum(v) OVER (PARTITION BY v) FROM plain", "functions OVER (...)"},
    /* values that differ when a batch runs again: refused (Spark takes rand and uuid) */
    {'A', "SELECT random() FROM plain", "use hash()"},
    {'A', "SELECT uuid() FROM plain", "use md5()"},
    {'A', "SELECT gen_random_uuid() FROM plain", "use md5()"},
    {'A', "SELECT nextval('x') FROM plain", "use a column of the input"},
    /* sessions */
    {'A', "SELECT v, count(*) FROM a GROUP BY v, session_window(ts, '5 seconds')", NULL},
    {'U',
     "SELECT v, count(*) FROM a GROUP BY v, session_window(ts, '5 seconds')",
     "sessions are not supported with output_mode = 'update'"},
    {'C', "SELECT v, count(*) FROM a GROUP BY v, session_window(ts, '5 seconds')", NULL},
    {'A', "SELECT v, count(*) FROM plain GROUP BY v, session_window(ts, '5 seconds')", "watermark"},
    /* no stream at all */
    {'A', "SELECT v FROM fixed", "reads no stream"},
    {'A', "SELECT 1", "reads no stream"},
};
/* clang-format on */

TEST(UN_01_which_plans_are_allowed_in_which_output_mode)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_row(t, &rows[i]);
}
