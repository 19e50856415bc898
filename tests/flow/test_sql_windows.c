/*
 * Windows of event time in SQL: the vectors TW-* that need more than a row of
 * vectors_structured.inc, windows of windows, window_time, CUMULATE.
 */
#include "support/sql_flow.h"

#include <millrace/ext/env.h>

/* Rows (v, ts) of the seconds from .. to. */
static void add_range(struct sql_flow *flow, int from, int to)
{
    char sql[200];

    snprintf(sql, sizeof(sql),
             "SELECT v, make_timestamp(v * 1000000) FROM (SELECT unnest(range(%d, %d)) AS v)", from,
             to + 1);
    sql_flow_step(flow, "a", sql);
}

static struct sql_flow *open_flow(struct test *t, int delay, const char *mode, const char *text)
{
    struct sql_flow *flow = sql_flow_new(t);
    char extra[100];

    snprintf(extra, sizeof(extra), ", WATERMARK FOR ts AS ts - INTERVAL '%d seconds'", delay);
    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", extra);
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, text);
    return flow;
}

TEST(TW_08_windows_that_have_no_meaning_are_refused)
{
    static const struct {
        const char *groups;
        const char *text;
    } cases[] = {
        {"window(ts, '1 second'), window(ts, '2 seconds')", "two different windows"},
        {"window(ts, '1 month')", "months and years have no fixed length"},
        {"window(ts, '1 day', '1 month')", "months and years have no fixed length"},
        {"window(ts, '1 day', '1 day', '1 month')", "months and years have no fixed length"},
        {"window(ts, INTERVAL 1 YEAR)", "months and years have no fixed length"},
        {"window(ts, '')", "this is no length of time"},
        {"window(ts, ' ')", "this is no length of time"},
        {"window(ts, '2 apples')", "this is no length of time"},
        {"window(ts, '1 second', '2 seconds')", "slide must not be longer than the window"},
        {"window(ts, '0 seconds')", "must be more than zero"},
        {"window(ts, '-1 second')", "must be more than zero"},
        {"window(ts, -1000000)", "must be more than zero"},
        {"window(ts, '2 seconds', '0 seconds')", "must be more than zero"},
        {"window(ts, '2 seconds', '2 seconds', '2 seconds')", "start must be less than its slide"},
        {"window(ts, '2 seconds', '2 seconds', '-2 seconds')", "start must be less than its slide"},
        {"window(v, '2 seconds')", "a window needs a TIMESTAMP"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sql_flow *flow = open_flow(t, 0, "update", "INSERT INTO out SELECT count(*) AS n ");
        struct mr_error err = {0};

        sql_flow_text(flow, "FROM a GROUP BY ");
        sql_flow_text(flow, cases[i].groups);
        sql_flow_text(flow, ";");
        CHECK_EQ_INT(sql_flow_check(flow, &err), MR_SQL_ERROR);
        if (strstr(err.text, cases[i].text) == NULL)
            FAIL("%s: '%s' is not in '%s'", cases[i].groups, cases[i].text, err.text);
        sql_flow_free(flow);
    }
}

TEST(TW_08_lengths_are_texts_intervals_or_microseconds)
{
    static const char *const windows[] = {
        "window(ts, '1 minute', '1 minute', '-10 seconds')",
        "window(ts, 'interval 1 minute', '1 minute', '-10 seconds')",
        "window(ts, INTERVAL '1 minute', INTERVAL 60 SECOND, INTERVAL '-10 seconds')",
        "window(ts, 60000000, 60000000, -10000000)",
    };

    for (size_t i = 0; i < sizeof(windows) / sizeof(windows[0]); i++) {
        struct sql_flow *flow = open_flow(
            t, 0, "complete",
            "INSERT INTO out SELECT epoch(window_start)::BIGINT AS s, count(*) AS n FROM a "
            "GROUP BY ");

        sql_flow_text(flow, windows[i]);
        sql_flow_text(flow, ";");
        add_range(flow, 45, 60);
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "-10|5\n50|11\n");
        sql_flow_free(flow);
    }
}

static const char *const three_levels[] = {
    /* Spark: window() of a window column */
    "CREATE VIEW five AS SELECT window(ts, '5 seconds') AS w, count(*) AS n FROM a GROUP BY 1;"
    "CREATE VIEW ten AS SELECT window(w, '10 seconds') AS w2, sum(n) AS n FROM five GROUP BY 1;"
    "INSERT INTO out SELECT epoch(window.start)::BIGINT AS s, epoch(window.end)::BIGINT AS e, "
    "count(*) AS c, sum(n)::BIGINT AS n FROM ten GROUP BY window(w2, '20 seconds');",
    /* the same in words */
    "CREATE VIEW five AS SELECT window_time(window) AS t, count(*) AS n FROM a "
    "GROUP BY window(ts, '5 seconds');"
    "CREATE VIEW ten AS SELECT window_time(w) AS t, n FROM (SELECT window(t, '10 seconds') AS w, "
    "sum(n) AS n FROM five GROUP BY 1);"
    "INSERT INTO out SELECT epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, "
    "count(*) AS c, sum(n)::BIGINT AS n FROM ten GROUP BY window(t, '20 seconds');",
};

TEST(TW_10_windows_of_windows_close_with_the_watermark_too)
{
    for (size_t i = 0; i < sizeof(three_levels) / sizeof(three_levels[0]); i++) {
        struct sql_flow *flow = open_flow(t, 0, "append", three_levels[i]);

        add_range(flow, 0, 37);
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|20|2|20\n");
        CHECK_EQ_STR(sql_flow_state(flow), "1/1/0/0 1/1/0/0 1/8/0/7");
        add_range(flow, 30, 60);
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "20|40|2|23\n40|60|2|20\n");
        /* rows 30 .. 34 are late; Spark counts the one group that they would be */
        CHECK_EQ_STR(sql_flow_state(flow), "0/0/0/1 0/0/0/1 1/6/5/5");
        sql_flow_free(flow);
    }
}

TEST(TW_11_windows_of_rows_without_duplicates)
{
    struct sql_flow *flow =
        open_flow(t, 10, "append",
                  "INSERT INTO out SELECT epoch(window_start)::BIGINT AS s, count(*) AS n FROM "
                  "drop_duplicates(TABLE a, DESCRIPTOR(v, ts)) GROUP BY window(ts, '5 seconds');");

    add_range(flow, 1, 15);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|4\n");
    CHECK_EQ_STR(sql_flow_state(flow), "3/4/0/1 10/15/0/5");
    sql_flow_free(flow);
}

/* Spark's counts with window_end are 3/1: a field of a window has no watermark there, and its keys
 * stay for ever. Here they leave as they do with window_time. */
TEST(TW_13_windows_without_duplicates)
{
    for (size_t i = 0; i < 2; i++) {
        struct sql_flow *flow = open_flow(
            t, 0, "append",
            "CREATE VIEW five AS SELECT window(ts, '5 seconds') AS w, window_end, count(*) AS n "
            "FROM a GROUP BY 1;");

        sql_flow_text(flow, i == 0
                                ? "CREATE VIEW d AS SELECT DISTINCT ON (n, window_end) * FROM five;"
                                : "CREATE VIEW d AS SELECT DISTINCT ON (n, window_time(w)) * FROM "
                                  "five;");
        sql_flow_text(flow,
                      i == 0 ? "INSERT INTO out SELECT epoch(window_end)::BIGINT AS e, n FROM d;"
                             : "INSERT INTO out SELECT epoch_us(window_time(w)) AS e, n FROM d;");
        sql_flow_step(flow, "a",
                      "SELECT v, make_timestamp(v * 1000000) FROM (SELECT unnest([1, 5, 10, 15]) "
                      "AS v)");
        CHECK_EQ_STR(sql_flow_run(flow, "out"),
                     i == 0 ? "10|1\n15|1\n5|1\n" : "14999999|1\n4999999|1\n9999999|1\n");
        CHECK_EQ_STR(sql_flow_state(flow), "0/3/0/3 1/4/0/3");
        sql_flow_free(flow);
    }
}

TEST(cumulate_makes_windows_that_grow_by_a_step)
{
    struct sql_flow *flow = open_flow(
        t, 0, "append",
        "INSERT INTO out SELECT epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, "
        "count(*) AS n FROM TABLE(CUMULATE(TABLE a, DESCRIPTOR(ts), INTERVAL '5' SECOND, "
        "INTERVAL '15' SECOND)) GROUP BY window_start, window_end;");

    add_range(flow, 0, 7);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|5|5\n");
    add_range(flow, 8, 16);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|10|10\n0|15|15\n");
    sql_flow_free(flow);
}
