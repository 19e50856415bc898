/*
 * ON LATE and WATERMARK ... DELAY OF: where late rows go, which they are, and what is refused.
 */
#include "support/sql_flow.h"

#include <stdlib.h>

/* Event times in seconds, as rows (v, ts) of table a. */
static void step(struct sql_flow *flow, const char *table, const char *seconds)
{
    char sql[1000];
    size_t used = (size_t)snprintf(sql, sizeof(sql), "%s", "");

    for (const char *at = seconds; *at != '\0';) {
        char *end;
        long v = strtol(at, &end, 10);

        used +=
            (size_t)snprintf(sql + used, sizeof(sql) - used,
                             "%s(%ld, make_timestamp(%ld * 1000000))", used > 0 ? ", " : "", v, v);
        at = end + strspn(end, " ");
    }
    sql_flow_step(flow, table, sql);
}

static struct sql_flow *flow_of(struct test *t, const char *late_columns, const char *mode)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_sink(flow, "late", late_columns, NULL);
    return flow;
}

static const char windows[] = "INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, count(*) "
                              "AS n FROM a GROUP BY window(ts, '5 seconds') ON LATE INTO late;";

TEST(late_rows_of_an_aggregation_go_to_their_table)
{
    struct sql_flow *flow =
        flow_of(t, "v BIGINT, window_start TIMESTAMP, mr_watermark TIMESTAMP, mr_operator VARCHAR",
                "append");

    sql_flow_text(flow, windows);
    step(flow, "a", "10 11 12 13 14 15");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    step(flow, "a", "25");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "10|5\n");
    step(flow, "a", "10 26 14");
    CHECK_EQ_STR(sql_flow_run(flow, "late"),
                 "10|1970-01-01 00:00:10|1970-01-01 00:00:15|out.agg\n"
                 "14|1970-01-01 00:00:10|1970-01-01 00:00:15|out.agg\n");
    CHECK_EQ_INT(sql_flow_late_rows(flow), 2);
    CHECK_EQ_STR(sql_flow_state(flow), "2/4/0/1");
    step(flow, "a", "60");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "15|1\n25|2\n");
    sql_flow_free(flow);
}

TEST(late_rows_have_the_columns_of_their_stream_behind_expressions_too)
{
    struct sql_flow *flow = flow_of(t, "ts TIMESTAMP, v INT, other VARCHAR", "update");

    sql_flow_text(flow, "INSERT INTO out SELECT v % 10 AS k, epoch(window_start)::BIGINT AS w, "
                        "sum(v * 2) AS s FROM a WHERE v <> 12 GROUP BY v % 10, window(ts, '5 "
                        "seconds') ON LATE INTO late");
    step(flow, "a", "10 25");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|10|20\n5|25|50\n");
    step(flow, "a", "11 12 27");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "7|25|54\n");
    CHECK_EQ_STR(sql_flow_run(flow, "late"), "1970-01-01 00:00:11|11|null\n");
    sql_flow_free(flow);
}

TEST(a_row_is_late_for_each_of_its_windows_alone)
{
    struct sql_flow *flow = flow_of(t, "v BIGINT, window_end TIMESTAMP", "append");

    sql_flow_text(flow, "CREATE VIEW w AS SELECT window_start, count(*) AS n FROM a GROUP BY "
                        "window(ts, '10 seconds', '5 seconds') ON LATE INTO late;\n"
                        "INSERT INTO out SELECT epoch(window_start)::BIGINT, n FROM w;");
    step(flow, "a", "25");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    step(flow, "a", "12"); /* watermark 15: [5, 15) is closed, [10, 20) is open */
    CHECK_EQ_STR(sql_flow_run(flow, "late"), "12|1970-01-01 00:00:15\n");
    step(flow, "a", "60");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "10|1\n20|1\n25|1\n");
    sql_flow_free(flow);
}

TEST(late_rows_of_a_table_without_columns_bring_all_of_theirs)
{
    struct sql_flow *flow = flow_of(t, "", "append");

    sql_flow_text(flow, "INSERT INTO out SELECT ts, count(*) AS n FROM a GROUP BY ts ON LATE INTO "
                        "late");
    step(flow, "a", "25");
    sql_flow_run(flow, "out");
    step(flow, "a", "15 16");
    CHECK_EQ_STR(sql_flow_run(flow, "late"),
                 "15|1970-01-01 00:00:15|1970-01-01 00:00:15|out.agg\n");
    sql_flow_free(flow);
}

TEST(on_late_drop_is_what_happens_without_it)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT ts, count(*) AS n FROM a GROUP BY ts ON LATE DROP");
    step(flow, "a", "25");
    sql_flow_run(flow, "out");
    step(flow, "a", "15 16");
    sql_flow_run(flow, "out");
    CHECK_EQ_INT(sql_flow_late_rows(flow), 1);
    sql_flow_free(flow);
}

TEST(late_rows_are_routed_once_also_when_the_batch_runs_again)
{
    struct sql_flow *flow = flow_of(t, "v BIGINT", "append");

    sql_flow_text(flow, windows);
    step(flow, "a", "25");
    sql_flow_run(flow, "out");
    step(flow, "a", "10 27");
    sql_flow_run_until(flow, "published");
    CHECK_EQ_STR(sql_flow_run(flow, "late"), "10\n");
    CHECK_EQ_STR(sql_flow_run(flow, "late"), "");
    sql_flow_free(flow);
}

TEST(a_watermark_may_be_said_where_the_table_is_read)
{
    static const char *const froms[] = {
        "a WATERMARK ts DELAY OF INTERVAL 10 SECONDS",
        "a WATERMARK ts DELAY OF INTERVAL '10' SECOND AS x",
        "STREAM(a) WATERMARK ts DELAY OF '10 seconds' x WHERE x.v > 0",
        "STREAM a WATERMARK ts DELAY OF INTERVAL 10 SECONDS",
        "(SELECT v, ts FROM STREAM a) WATERMARK ts DELAY OF INTERVAL 10 SECONDS AS x",
    };

    for (size_t i = 0; i < sizeof(froms) / sizeof(froms[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);
        char sql[500];

        sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", "");
        sql_flow_sink(flow, "out", "", "append");
        snprintf(sql, sizeof(sql),
                 "INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, count(*) AS n FROM %s "
                 "GROUP BY window(ts, '5 seconds')",
                 froms[i]);
        sql_flow_text(flow, sql);
        step(flow, "a", "10 11 12 13 14 15");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
        step(flow, "a", "25");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "10|5\n");
        sql_flow_free(flow);
    }
}

TEST(a_table_may_be_called_stream)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "stream", "v BIGINT", "");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT s.v FROM stream s WHERE s.v > 1");
    sql_flow_step(flow, "stream", "(1), (2)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "2\n");
    sql_flow_free(flow);
}

TEST(clauses_are_refused_with_their_place)
{
    static const struct {
        const char *select;
        uint32_t column;
        const char *part;
    } rows[] = {
        {"SELECT v FROM a ON LATE INTO late", 17, "nothing in its SELECT drops late rows"},
        {"SELECT n FROM (SELECT count(*) AS n FROM a GROUP BY window(ts, '5 s')) ON LATE DROP", 72,
         "put it behind the GROUP BY"},
        {"SELECT count(*) FROM a GROUP BY window(ts, '5 s') ON LATE INTO nosuch", 51,
         "there is no table 'nosuch'"},
        {"SELECT count(*) FROM a GROUP BY window(ts, '5 s') ON LATE INTO lat", 51,
         "did you mean 'late'?"},
        {"SELECT count(*) FROM a GROUP BY window(ts, '5 s') ON LATE KEEP", 59,
         "expected DROP or INTO"},
        {"SELECT count(*) FROM a GROUP BY window(ts, '5 s') ON LATE INTO", 0, "name of a table"},
        {"SELECT count(*) FROM a GROUP BY window(ts, '5 s') ON LATE INTO other", 51,
         "has none of the columns of the late rows; they have"},
        {"SELECT count(*) FROM a WATERMARK ts DELAY OF INTERVAL 5 SECONDS GROUP BY ts", 34,
         "have a watermark already, on 'ts'; a second one would redefine it"},
        {"SELECT count(*) FROM b WATERMARK w DELAY OF INTERVAL 5 SECONDS GROUP BY w", 34,
         "must be a TIMESTAMP"},
        {"SELECT count(*) FROM b WATERMARK x DELAY OF INTERVAL 5 SECONDS", 34,
         "there is no column 'x'"},
        {"SELECT count(*) FROM b WATERMARK w DELAY OF INTERVAL 1 MONTH", 45, "no delay"},
        {"SELECT count(*) FROM b WATERMARK w DELAY INTERVAL 1 DAY", 42, "expected OF"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sql_flow *flow = flow_of(t, "v BIGINT", "append");
        struct mr_error err;

        sql_flow_source(flow, "b", "w BIGINT", "");
        sql_flow_sink(flow, "other", "z BIGINT", NULL);
        sql_flow_text(flow, "INSERT INTO out");
        sql_flow_text(flow, rows[i].select);
        CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, rows[i].part);
        if (rows[i].column != 0)
            CHECK_EQ_INT(err.sql_column, rows[i].column);
        sql_flow_free(flow);
    }
}

TEST(complete_mode_drops_nothing_and_has_no_late_rows)
{
    struct sql_flow *flow = flow_of(t, "v BIGINT", "complete");
    struct mr_error err;

    sql_flow_text(flow, windows);
    CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, "'complete' drops nothing");
    sql_flow_free(flow);
}

TEST(computed_columns_are_made_behind_the_source)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT, s BIGINT",
                    ", w AS v * 2 + length('a,b)') COMMENT 'c', ts AS make_timestamp(s * 1000000), "
                    "WATERMARK FOR ts AS ts - INTERVAL '10' SECOND");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT epoch(window_start)::BIGINT AS t, sum(w) AS w FROM "
                        "a GROUP BY window(ts, '5 seconds')");
    sql_flow_step(flow, "a", "(1, 10), (2, 11)");
    sql_flow_step(flow, "a", "(3, 30)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "10|14\n");
    sql_flow_free(flow);
}

/* ---- Columns that only the table of late rows reads ---- */

/* Tables a (k, v, ts) and b (k, w, bts) with watermarks of no delay; `late` has their columns. */
static struct sql_flow *sides_of(struct test *t)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, v BIGINT, ts TIMESTAMP", ", WATERMARK FOR ts AS ts");
    sql_flow_source(flow, "b", "k BIGINT, w BIGINT, bts TIMESTAMP", ", WATERMARK FOR bts AS bts");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_sink(flow, "late", "k BIGINT, v BIGINT, w BIGINT, mr_operator VARCHAR", NULL);
    return flow;
}

static const char on_time[] = "(1, 1, make_timestamp(100000000))";

#define WITHIN "b.bts BETWEEN a.ts AND a.ts + INTERVAL '1 second'"

TEST(late_rows_of_a_join_have_columns_that_the_query_does_not_read)
{
    static const char *const queries[] = {
        "SELECT a.k AS x FROM a JOIN b ON a.k = b.k AND " WITHIN,
        "SELECT a.k AS x FROM (SELECT * FROM a) a JOIN (SELECT k, w, bts FROM b) b "
        "ON a.k = b.k AND " WITHIN,
        "SELECT a.k AS x FROM a JOIN b ON a.k + 0 = b.k + 0 AND " WITHIN
        " WHERE a.v > 0 AND b.k % 1 = 0",
        "SELECT a.k AS x FROM a LEFT JOIN b ON a.k = b.k AND " WITHIN,
        "SELECT a.k AS x FROM a SEMI JOIN b ON a.k = b.k AND " WITHIN,
        "SELECT l.k AS x FROM (SELECT k, v, window(ts, '10 seconds') AS g FROM a) l JOIN "
        "(SELECT k, w, window(bts, '10 seconds') AS g FROM b) r ON l.k = r.k AND l.g = r.g",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = sides_of(t);

        sql_flow_text(flow, "INSERT INTO out");
        sql_flow_text(flow, queries[i]);
        sql_flow_text(flow, "ON LATE INTO late;");
        sql_flow_step(flow, "a", on_time);
        sql_flow_step(flow, "b", on_time);
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n");
        sql_flow_step(flow, "a", "(2, 77, make_timestamp(1000000))");
        sql_flow_step(flow, "b", "(3, 78, make_timestamp(1000000))");
        CHECK_EQ_STR(sql_flow_run(flow, "late"), "2|77|null|out.join\n3|null|78|out.join\n");
        CHECK_EQ_INT(sql_flow_late_rows(flow), 2);
        sql_flow_free(flow);
    }
}

TEST(late_rows_of_distinct_on_have_columns_that_the_query_does_not_read)
{
    static const char *const queries[] = {
        "INSERT INTO out SELECT DISTINCT ON (k, ts) k FROM a ON LATE INTO late;",
        "INSERT INTO out SELECT DISTINCT ON (x.k) x.k FROM a x WHERE x.k > 0 ON LATE INTO late;",
        "INSERT INTO out SELECT DISTINCT ON (k, ts) v + 1 - v AS v FROM a ON LATE INTO late;",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = sides_of(t);

        sql_flow_text(flow, queries[i]);
        sql_flow_step(flow, "a", on_time);
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n");
        sql_flow_step(flow, "a",
                      "(2, 77, make_timestamp(1000000)), (1, 5, make_timestamp(100000000))");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
        CHECK_CONTAINS(sql_flow_run(flow, "late"), "2|77|null|out.dedup\n");
        sql_flow_free(flow);
    }
}

TEST(late_rows_of_distinct_on_bring_all_columns_to_a_table_without_any)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, v BIGINT, ts TIMESTAMP", ", WATERMARK FOR ts AS ts");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_sink(flow, "late", "", NULL);
    sql_flow_text(flow, "INSERT INTO out SELECT DISTINCT ON (k, ts) k FROM a ON LATE INTO late;");
    sql_flow_step(flow, "a", on_time);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n");
    sql_flow_step(flow, "a", "(2, 77, make_timestamp(1000000))");
    CHECK_EQ_STR(sql_flow_run(flow, "late"),
                 "2|77|1970-01-01 00:00:01|1970-01-01 00:01:40|out.dedup\n");
    sql_flow_free(flow);
}

TEST(late_rows_of_a_join_behind_another_are_refused_with_a_remedy)
{
    static const char *const queries[] = {
        "INSERT INTO out SELECT a.k AS x FROM a JOIN b ON a.k = b.k AND " WITHIN
        " JOIN b z ON a.k = z.k AND z.bts BETWEEN a.ts AND a.ts + INTERVAL '1 second' "
        "ON LATE INTO late;",
        "INSERT INTO out SELECT y.k AS x FROM (SELECT a.k, a.ts FROM a JOIN b ON a.k = b.k "
        "AND " WITHIN
        ") y JOIN b z ON y.k = z.k AND z.bts BETWEEN y.ts AND y.ts + INTERVAL '1 second' "
        "ON LATE INTO late;",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = sides_of(t);
        struct mr_error err;

        sql_flow_text(flow, queries[i]);
        CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR,
                    "put the clause at the end of that");
        CHECK_EQ_INT(err.sql_column, strstr(queries[i], "ON LATE") - queries[i] + 1);
        sql_flow_free(flow);
    }
}

TEST(a_late_column_that_cannot_be_cast_is_refused_at_the_clause)
{
    struct sql_flow *flow = sides_of(t);
    struct mr_error err;

    sql_flow_text(flow, "INSERT INTO out SELECT l.k AS x FROM (SELECT k, ts, window(ts, '10 "
                        "seconds') AS w FROM a) l JOIN b ON l.k = b.k AND b.bts >= l.ts\n"
                        "  ON LATE INTO late;");
    CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, "give one of them another name");
    CHECK_EQ_INT(err.sql_column, 3);
    sql_flow_free(flow);
}

TEST(the_inner_one_of_two_joins_can_route_its_late_rows)
{
    struct sql_flow *flow = sides_of(t);

    sql_flow_text(flow,
                  "INSERT INTO out SELECT y.k AS x FROM (SELECT a.k, a.ts FROM a JOIN b ON a.k = "
                  "b.k AND " WITHIN " ON LATE INTO late) y JOIN b z ON y.k = z.k AND z.bts BETWEEN "
                  "y.ts AND y.ts + INTERVAL '1 second';");
    sql_flow_step(flow, "a", on_time);
    sql_flow_step(flow, "b", on_time);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n");
    sql_flow_step(flow, "a", "(2, 77, make_timestamp(1000000))");
    CHECK_EQ_STR(sql_flow_run(flow, "late"), "2|77|null|out.join\n");
    sql_flow_free(flow);
}
