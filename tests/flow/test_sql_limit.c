/*
 * LIMIT, ORDER BY and set operations over streams: vectors LIM-*, AGG-04, and the plans of UN-01
 * that have to do with them.
 */
#include "support/sql_flow.h"

#include <millrace/ext/env.h>

static struct sql_flow *open_values(struct test *t, const char *mode, const char *insert)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT", "");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, insert);
    return flow;
}

/* Rows from, from + 1, ... to. */
static void add(struct sql_flow *flow, int from, int to)
{
    char sql[100];

    snprintf(sql, sizeof(sql), "SELECT unnest(range(%d, %d))::BIGINT", from, to + 1);
    sql_flow_step(flow, "a", sql);
}

static int count_lines(const char *text)
{
    int count = 0;

    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

TEST(LIM_01_the_first_rows_of_the_whole_life_pass)
{
    struct sql_flow *flow = open_values(t, "append", "INSERT INTO out SELECT v FROM a LIMIT 4;");

    add(flow, 1, 2);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n2\n");
    CHECK_EQ_STR(sql_flow_state(flow), "1/1/0/0");
    add(flow, 3, 6);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "3\n4\n");
    add(flow, 7, 9);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    CHECK_EQ_STR(sql_flow_state(flow), "1/1/0/0");
    sql_flow_free(flow);
}

TEST(LIM_01_none_with_limit_0)
{
    struct sql_flow *flow = open_values(t, "append", "INSERT INTO out SELECT v FROM a LIMIT 0;");

    add(flow, 1, 5);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    add(flow, 1, 5);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_free(flow);
}

TEST(LIM_02_rows_are_counted_behind_the_filter)
{
    struct sql_flow *flow =
        open_values(t, "append", "INSERT INTO out SELECT v FROM a WHERE v % 2 = 1 LIMIT 4;");

    add(flow, 1, 5);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n3\n5\n");
    add(flow, 6, 9);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "7\n");
    add(flow, 10, 12);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_free(flow);
}

TEST(LIM_04_an_aggregation_counts_the_rows_that_passed)
{
    struct sql_flow *flow = open_values(
        t, "complete",
        "INSERT INTO out SELECT v, count(*) AS n FROM (SELECT v FROM a LIMIT 5) GROUP BY v;");

    add(flow, 1, 3);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|1\n2|1\n3|1\n");
    add(flow, 1, 9);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "1|2\n2|2\n3|1\n");
    sql_flow_free(flow);
}

TEST(LIM_05_below_and_above_an_aggregation)
{
    struct sql_flow *flow =
        open_values(t, "complete",
                    "INSERT INTO out SELECT v, count(*) AS n FROM (SELECT v FROM a LIMIT 4) "
                    "GROUP BY v ORDER BY v LIMIT 3;");

    add(flow, 1, 9);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "1|1\n2|1\n3|1\n");
    add(flow, 2, 6);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "1|1\n2|1\n3|1\n");
    sql_flow_free(flow);
}

TEST(LIM_08_several_partitions_share_one_limit)
{
    struct sql_flow *flow = open_values(
        t, "append", "CREATE VIEW l AS SELECT v FROM a LIMIT 7; INSERT INTO out SELECT v FROM l;");

    add(flow, 1, 10);
    CHECK_EQ_INT(count_lines(sql_flow_run(flow, "out")), 7);
    add(flow, 11, 20);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_free(flow);
}

TEST(AGG_04_a_complete_result_is_ordered_by_the_count)
{
    struct sql_flow *flow = open_values(
        t, "complete",
        "INSERT INTO out SELECT v, count(*) AS n FROM a GROUP BY v ORDER BY n DESC, v;");

    sql_flow_step(flow, "a", "(3)");
    (void)sql_flow_run(flow, "out");
    sql_flow_step(flow, "a", "(2), (3)");
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "3|2\n2|1\n");
    sql_flow_step(flow, "a", "(3), (2), (1)");
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "3|3\n2|2\n1|1\n");
    sql_flow_step(flow, "a", "(4), (4), (4), (4)");
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "4|4\n3|3\n2|2\n1|1\n");
    sql_flow_free(flow);
}

TEST(a_complete_result_is_ordered_and_cut_off_by_a_query_around_it)
{
    struct sql_flow *flow = open_values(
        t, "complete",
        "CREATE VIEW counts AS SELECT v, count(*) AS n FROM a GROUP BY v;"
        "INSERT INTO out SELECT v, n * 10 AS n FROM counts WHERE v > 1 ORDER BY v DESC LIMIT 2;");

    add(flow, 1, 4);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "4|10\n3|10\n");
    add(flow, 3, 5);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "5|10\n4|20\n");
    sql_flow_free(flow);
}

TEST(a_limit_of_windows_counts_those_that_were_closed)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "ts TIMESTAMP", ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, count(*) AS n "
                        "FROM a GROUP BY window(ts, '5 seconds') LIMIT 2;");
    sql_flow_step(flow, "a", "SELECT make_timestamp(unnest(range(0, 8)) * 1000000)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|5\n");
    sql_flow_step(flow, "a", "SELECT make_timestamp(unnest(range(8, 30)) * 1000000)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "5|5\n");
    sql_flow_free(flow);
}

TEST(a_limit_survives_a_crash_at_every_point_of_a_batch)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};
    struct sql_flow *flow = open_values(t, "append", "INSERT INTO out SELECT v FROM a LIMIT 7;");

    for (int i = 0; i < 4; i++) {
        add(flow, i * 2, i * 2 + 1);
        sql_flow_run_until(flow, points[i]);
    }
    CHECK_EQ_INT(count_lines(sql_flow_run(flow, "out")), 7);
    sql_flow_free(flow);
}

TEST(UN_01_union_without_duplicates_is_an_aggregation)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT", "");
    sql_flow_source(flow, "b", "v INTEGER", "");
    sql_flow_sink(flow, "out", "", "update");
    sql_flow_text(flow, "INSERT INTO out SELECT v FROM a UNION SELECT v FROM b;");
    sql_flow_step(flow, "a", "(1), (2), (2)");
    sql_flow_step(flow, "b", "(2), (3)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n2\n3\n");
    sql_flow_free(flow);
}

TEST(UN_01_except_of_a_static_table)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT, w VARCHAR", "");
    sql_flow_static(flow, "s", "v BIGINT, w VARCHAR");
    sql_flow_sink(flow, "out", "", "update");
    sql_flow_text(flow, "INSERT INTO out SELECT v, w FROM a EXCEPT SELECT v + 1, w FROM s;");
    sql_flow_step(flow, "s", "(1, 'x'), (2, 'y')");
    sql_flow_step(flow, "a", "(2, 'x'), (2, 'y'), (4, NULL), (4, NULL)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "2|y\n4|null\n");
    sql_flow_step(flow, "a", "(3, 'y'), (3, 'x')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "3|x\n");
    sql_flow_free(flow);
}

TEST(UN_01_what_streams_cannot_do_is_refused)
{
    static const struct {
        const char *mode;
        const char *select;
        const char *text;
    } cases[] = {
        {"update", "SELECT v FROM a LIMIT 3", "LIMIT is not supported with output_mode = 'update'"},
        {"update", "SELECT v, count(*) AS n FROM (SELECT v FROM a LIMIT 3) GROUP BY v",
         "LIMIT is not supported with output_mode = 'update'"},
        {"update", "SELECT v, count(*) AS n FROM a GROUP BY v LIMIT 3",
         "LIMIT is not supported with output_mode = 'update'"},
        {"complete", "SELECT v FROM a LIMIT 3", "'complete' needs an aggregation"},
        {"append", "SELECT v FROM a LIMIT 3 OFFSET 2", "OFFSET over a stream is not supported"},
        {"complete", "SELECT v, count(*) AS n FROM a GROUP BY v LIMIT 3 OFFSET 1",
         "OFFSET over a stream is not supported"},
        {"append", "SELECT v FROM a LIMIT 10%", "LIMIT of a stream needs a number of rows"},
        {"append", "SELECT v FROM a ORDER BY v", "ORDER BY needs the whole result"},
        {"update", "SELECT v, count(*) AS n FROM a GROUP BY v ORDER BY v",
         "ORDER BY needs the whole result"},
        {"complete", "SELECT v, count(*) AS n FROM (SELECT v FROM a ORDER BY v) GROUP BY v",
         "ORDER BY needs the whole result"},
        {"append", "SELECT v FROM a UNION SELECT v FROM b", "output_mode = 'append' needs"},
        {"append", "SELECT DISTINCT v FROM a", "output_mode = 'append' needs"},
        {"complete", "SELECT DISTINCT ON (v) v FROM a", "'complete' needs an aggregation"},
        {"complete", "SELECT v FROM drop_duplicates(TABLE a)", "'complete' needs an aggregation"},
        {"append", "SELECT v FROM a INTERSECT SELECT v FROM b", "this set operation"},
        {"append", "SELECT v FROM a INTERSECT SELECT v FROM s", "this set operation"},
        {"append", "SELECT v FROM s EXCEPT SELECT v FROM a", "EXCEPT with a stream on the right"},
        {"update", "SELECT v FROM a EXCEPT SELECT v FROM b", "EXCEPT with a stream on the right"},
        {"append", "SELECT v FROM a EXCEPT SELECT v FROM s", "output_mode = 'append' needs"},
        {"append", "SELECT v FROM a UNION ALL SELECT v FROM s", "a side that reads no stream"},
        {"append", "SELECT v FROM s UNION SELECT v FROM a", "a side that reads no stream"},
        {"append", "SELECT v FROM drop_duplicates_within_watermark(TABLE a)",
         "needs a watermark: add WATERMARK FOR"},
        {"append", "SELECT v, monotonically_increasing_id() AS i FROM a", "is not supported"},
        {"append", "SELECT v, row_number() OVER (PARTITION BY v ORDER BY v) AS i FROM a",
         "OVER (...) are not supported"},
        {"append", "SELECT v FROM a USING SAMPLE 10%", "samples of a stream"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_error err = {0};

        sql_flow_source(flow, "a", "v BIGINT", "");
        sql_flow_source(flow, "b", "v BIGINT", "");
        sql_flow_static(flow, "s", "v BIGINT");
        sql_flow_sink(flow, "out", "", cases[i].mode);
        sql_flow_text(flow, "INSERT INTO out ");
        sql_flow_text(flow, cases[i].select);
        sql_flow_text(flow, ";");
        CHECK_EQ_INT(sql_flow_check(flow, &err), MR_SQL_ERROR);
        if (strstr(err.text, cases[i].text) == NULL)
            FAIL("%s: '%s' is not in '%s'", cases[i].select, cases[i].text, err.text);
        sql_flow_free(flow);
    }
}

TEST(UN_01_what_streams_can_do_is_planned)
{
    static const struct {
        const char *mode;
        const char *select;
    } cases[] = {
        {"append", "SELECT DISTINCT ON (v) v FROM a"},
        {"update", "SELECT DISTINCT ON (v) v FROM a"},
        {"append", "SELECT v FROM drop_duplicates(TABLE a)"},
        {"update", "SELECT v FROM drop_duplicates(TABLE a)"},
        {"update", "SELECT DISTINCT v FROM a"},
        {"update", "SELECT DISTINCT * FROM a"},
        {"complete", "SELECT DISTINCT v FROM a"},
        {"append", "SELECT DISTINCT v, ts FROM w"},
        {"update", "SELECT v FROM a UNION SELECT v FROM b"},
        {"append", "SELECT v, ts FROM w UNION SELECT v, ts FROM w"},
        {"update", "SELECT v FROM a EXCEPT SELECT v FROM s"},
        {"append", "SELECT v, ts FROM w EXCEPT SELECT v, ts FROM ws"},
        {"complete", "SELECT v, count(*) AS n FROM (SELECT DISTINCT ON (v) v FROM a) GROUP BY v"},
        {"append",
         "SELECT ts, count(*) AS n FROM (SELECT DISTINCT ON (v, ts) * FROM w) GROUP BY ts"},
        {"append", "SELECT DISTINCT ON (ts) * FROM (SELECT ts, count(*) AS n FROM w GROUP BY ts)"},
        {"update", "SELECT DISTINCT ON (n) * FROM (SELECT v, count(*) AS n FROM a GROUP BY v)"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_error err = {0};

        sql_flow_source(flow, "a", "v BIGINT", "");
        sql_flow_source(flow, "b", "v BIGINT", "");
        sql_flow_source(flow, "w", "v BIGINT, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '1 second'");
        sql_flow_static(flow, "s", "v BIGINT");
        sql_flow_static(flow, "ws", "v BIGINT, ts TIMESTAMP");
        sql_flow_sink(flow, "out", "", cases[i].mode);
        sql_flow_text(flow, "INSERT INTO out ");
        sql_flow_text(flow, cases[i].select);
        sql_flow_text(flow, ";");
        if (sql_flow_check(flow, &err) != MR_OK)
            FAIL("%s: %s", cases[i].select, err.text);
        sql_flow_free(flow);
    }
}
