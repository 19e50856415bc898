/*
 * Session windows in SQL: vectors SW-*, the spellings, gaps of each row, chains, and random input
 * cut at random with random restarts against DuckDB.
 */
#include "support/sql_flow.h"

#include "base/buf.h"

#include <millrace/ext/env.h>

#include <stdlib.h>

static const char words_query[] =
    "INSERT INTO out SELECT word, epoch(session_window.start)::BIGINT AS s, "
    "epoch(session_window.end)::BIGINT AS e, "
    "(epoch(session_window.end) - epoch(session_window.start))::BIGINT AS len, count(*) AS n "
    "FROM (SELECT unnest(string_split(text, ' ')) AS word, ts FROM a) "
    "GROUP BY session_window(ts, '10 seconds'), word;";

static struct sql_flow *open_words(struct test *t, const char *mode, const char *query)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "text VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '30 seconds'");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, query);
    return flow;
}

static void add_words(struct sql_flow *flow, const char *words, int second)
{
    char sql[200];

    snprintf(sql, sizeof(sql), "SELECT '%s', make_timestamp(%d * 1000000)", words, second);
    sql_flow_step(flow, "a", sql);
}

TEST(SW_01_append_emits_sessions_that_the_watermark_has_passed)
{
    struct sql_flow *flow = open_words(t, "append", words_query);

    add_words(flow, "hello world spark streaming", 40);
    add_words(flow, "world hello structured streaming", 41);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    CHECK_EQ_STR(sql_flow_state(flow), "5/5/0/0");
    add_words(flow, "spark streaming", 25);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    CHECK_EQ_STR(sql_flow_state(flow), "7/2/0/0");
    add_words(flow, "spark streaming", 0);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    CHECK_EQ_STR(sql_flow_state(flow), "7/0/2/0");
    add_words(flow, "spark streaming", 30);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    CHECK_EQ_STR(sql_flow_state(flow), "5/2/0/2"); /* the later of two starts goes */
    add_words(flow, "hello apache spark", 60);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    add_words(flow, "structured streaming", 90);
    CHECK_EQ_STR(sql_flow_run(flow, "out"),
                 "hello|40|51|11|2\nspark|25|50|25|3\nstreaming|25|51|26|4\n"
                 "structured|41|51|10|1\nworld|40|51|11|2\n");
    sql_flow_free(flow);
}

TEST(SW_02_complete_emits_all_sessions_and_keeps_them)
{
    struct sql_flow *flow = open_words(t, "complete", words_query);

    add_words(flow, "hello world spark streaming", 40);
    add_words(flow, "world hello structured streaming", 41);
    CHECK_EQ_STR(sql_flow_run(flow, "out"),
                 "hello|40|51|11|2\nspark|40|50|10|1\nstreaming|40|51|11|2\n"
                 "structured|41|51|10|1\nworld|40|51|11|2\n");
    add_words(flow, "spark streaming", 25);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"),
                 "hello|40|51|11|2\nspark|25|35|10|1\nspark|40|50|10|1\nstreaming|25|35|10|1\n"
                 "streaming|40|51|11|2\nstructured|41|51|10|1\nworld|40|51|11|2\n");
    add_words(flow, "spark streaming", 30);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"),
                 "hello|40|51|11|2\nspark|25|50|25|3\nstreaming|25|51|26|4\n"
                 "structured|41|51|10|1\nworld|40|51|11|2\n");
    add_words(flow, "hello apache spark", 60);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(
        sql_flow_last(flow, "out"),
        "apache|60|70|10|1\nhello|40|51|11|2\nhello|60|70|10|1\nspark|25|50|25|3\n"
        "spark|60|70|10|1\nstreaming|25|51|26|4\nstructured|41|51|10|1\nworld|40|51|11|2\n");
    add_words(flow, "structured streaming", 90);
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"),
                 "apache|60|70|10|1\nhello|40|51|11|2\nhello|60|70|10|1\nspark|25|50|25|3\n"
                 "spark|60|70|10|1\nstreaming|25|51|26|4\nstreaming|90|100|10|1\n"
                 "structured|41|51|10|1\nstructured|90|100|10|1\nworld|40|51|11|2\n");
    sql_flow_free(flow);
}

TEST(SW_04_what_sessions_cannot_do_is_refused)
{
    static const struct {
        const char *mode;
        const char *select;
        const char *text;
    } cases[] = {
        {"update", "SELECT text, count(*) AS n FROM a GROUP BY session_window(ts, '10 s'), text",
         "sessions are not supported with output_mode = 'update'"},
        {"update", "SELECT count(*) AS n FROM a GROUP BY session_window(ts, '10 s')",
         "sessions are not supported with output_mode = 'update'"},
        {"append", "SELECT count(*) AS n FROM a GROUP BY session_window(ts, '10 s')",
         "sessions need another key in GROUP BY"},
        {"complete", "SELECT count(*) AS n FROM a GROUP BY session_window(ts, '10 s')",
         "sessions need another key in GROUP BY"},
        {"append", "SELECT text, count(*) AS n FROM b GROUP BY session_window(ts, '10 s'), text",
         "output_mode = 'append' needs"},
        {"append", "SELECT count(*) AS n FROM a GROUP BY session_window(ts, '-1 s'), text",
         "a session's gap must be more than zero"},
        {"append", "SELECT count(*) AS n FROM a GROUP BY session_window(ts, '0 s'), text",
         "a session's gap must be more than zero"},
        {"append",
         "SELECT count(*) AS n FROM a GROUP BY session_window(ts, INTERVAL 1 MONTH), text",
         "months and years have no fixed length"},
        {"append", "SELECT count(*) AS n FROM a GROUP BY session_window(ts), text",
         "a session is session_window(time, gap)"},
        {"append",
         "SELECT count(*) AS n FROM a GROUP BY session_window(ts, '1 s'), window(ts, '1 s'), text",
         "two different windows in one GROUP BY"},
        {"append", "SELECT session_window(ts, '10 s') AS w, text FROM a",
         "a session needs GROUP BY"},
        {"append",
         "SELECT window_start, text, count(*) AS n FROM SESSION(TABLE a, DESCRIPTOR(ts), INTERVAL "
         "'1' SECOND) GROUP BY window_start, window_end, text",
         "needs PARTITION BY"},
        {"append",
         "SELECT window_start, count(*) AS n FROM SESSION(TABLE a PARTITION BY text, "
         "DESCRIPTOR(ts), INTERVAL '1' SECOND) GROUP BY window_start, window_end, v",
         "must have the columns of PARTITION BY"},
        {"append",
         "SELECT window_start, text FROM SESSION(TABLE a PARTITION BY text, DESCRIPTOR(ts), "
         "INTERVAL '1' SECOND)",
         "SESSION(...) needs GROUP BY window_start"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_error err = {0};

        sql_flow_source(flow, "a", "text VARCHAR, v BIGINT, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '30 seconds'");
        sql_flow_source(flow, "b", "text VARCHAR, ts TIMESTAMP", "");
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

TEST(SW_05_all_aggregates_work_in_sessions)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, v BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '30 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(
        flow, "INSERT INTO out SELECT k, epoch(session_start(ts, '10 seconds'))::BIGINT AS s, "
              "epoch(session_end(ts, '10 seconds'))::BIGINT AS e, count(*) AS n, sum(v) AS sum, "
              "avg(v) AS mean, approx_quantile(v, 0.5) AS median, stddev(v) AS dev, "
              "variance(v) AS var, min(k) AS m, list(v ORDER BY v) AS l FROM a GROUP BY "
              "session(ts, INTERVAL '10' SECOND), k;");
    sql_flow_step(flow, "a", "SELECT 'a', v, make_timestamp(v * 1000000) FROM (VALUES (41)) t(v)");
    sql_flow_step(flow, "a", "SELECT 'a', v, make_timestamp(v * 1000000) FROM (VALUES (42)) t(v)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_step(flow, "a", "SELECT 'a', v, make_timestamp(v * 1000000) FROM (VALUES (40)) t(v)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_step(flow, "a",
                  "SELECT 'b', v, make_timestamp(v * 1000000) FROM (VALUES (100), (101)) t(v)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "a|40|52|3|123|41.0|41.0|1.0|1.0|a|[40, 41, 42]\n");
    sql_flow_free(flow);
}

/* A bounded input is the complete result at the end of it. */
static void run_day(struct test *t, const char *rows, const char *want)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, ts TIMESTAMP, v BIGINT", "");
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_text(flow, "INSERT INTO out SELECT strftime(session_window.start, '%M:%S') AS s, "
                        "strftime(session_window.end, '%M:%S') AS e, k, count(*) AS n, "
                        "sum(v) AS sum FROM a GROUP BY session_window(ts, '10 seconds'), k;");
    sql_flow_step(flow, "a", rows);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), want);
    sql_flow_free(flow);
}

TEST(SW_07_sessions_of_two_keys)
{
    run_day(t,
            "('a', '2016-03-27 19:39:34', 1), ('a', '2016-03-27 19:39:39', 1), "
            "('a', '2016-03-27 19:39:56', 2), ('a', '2016-03-27 19:40:04', 2), "
            "('b', '2016-03-27 19:39:27', 4)",
            "39:27|39:37|b|1|4\n39:34|39:49|a|2|2\n39:56|40:14|a|2|4\n");
}

TEST(SW_08_sessions_of_two_keys_that_overlap)
{
    run_day(t,
            "('a', '2016-03-27 19:39:34', 1), ('a', '2016-03-27 19:39:40', 1), "
            "('b', '2016-03-27 19:39:39', 1), ('b', '2016-03-27 19:39:45', 1), "
            "('b', '2016-03-27 19:39:27', 1)",
            "39:27|39:37|b|1|1\n39:34|39:50|a|2|2\n39:39|39:55|b|2|2\n");
}

static const char *const spellings[] = {
    "SELECT k, epoch(session_window.start)::BIGINT AS s, epoch(session_window.end)::BIGINT AS e, "
    "count(*) AS n FROM a GROUP BY session_window(ts, '10 seconds'), k",
    "SELECT k, epoch(w.start)::BIGINT AS s, epoch(w.end)::BIGINT AS e, n FROM (SELECT k, "
    "session_window(ts, '10 seconds') AS w, count(*) AS n FROM a GROUP BY k, w)",
    "SELECT k, epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, count(*) AS n "
    "FROM a GROUP BY k, session(ts, INTERVAL '10' SECOND)",
    "SELECT k, epoch(SESSION_START(ts, INTERVAL '10' SECOND))::BIGINT AS s, "
    "epoch(SESSION_END(ts, INTERVAL '10' SECOND))::BIGINT AS e, count(*) AS n "
    "FROM a GROUP BY SESSION(ts, INTERVAL '10' SECOND), k",
    "SELECT k, epoch(window_start)::BIGINT AS s, epoch(window_end)::BIGINT AS e, count(*) AS n "
    "FROM TABLE(SESSION(TABLE a PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND)) "
    "GROUP BY window_start, window_end, k",
    "SELECT x.k, epoch(x.window_start)::BIGINT AS s, epoch(x.window_end)::BIGINT AS e, "
    "count(*) AS n FROM SESSION(TABLE a PARTITION BY (k), DESCRIPTOR(ts), INTERVAL '10' SECOND) x "
    "GROUP BY x.k, x.window_start, x.window_end",
    "SELECT k, epoch(s)::BIGINT AS s, epoch(e)::BIGINT AS e, n FROM (SELECT k, window_start AS s, "
    "window_end AS e, count(*) AS n FROM SESSION(TABLE a PARTITION BY k, DESCRIPTOR(ts), "
    "INTERVAL '10' SECOND) GROUP BY 1, 2, 3)",
};

TEST(sessions_have_the_spellings_of_spark_and_flink)
{
    for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "k VARCHAR, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
        sql_flow_sink(flow, "out", "", "append");
        sql_flow_text(flow, "INSERT INTO out ");
        sql_flow_text(flow, spellings[i]);
        sql_flow_text(flow, ";");
        sql_flow_step(flow, "a",
                      "('x', '1970-01-01 00:00:01'), ('y', '1970-01-01 00:00:02'), "
                      "('x', '1970-01-01 00:00:11'), ('y', '1970-01-01 00:00:12.000001')");
        sql_flow_step(flow, "a", "('z', '1970-01-01 00:01:00')");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "x|1|21|2\ny|12|22|1\ny|2|12|1\n");
        sql_flow_free(flow);
    }
}

TEST(a_gap_may_differ_from_row_to_row)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, kind VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow,
                  "INSERT INTO out SELECT k, epoch(session_window.start)::BIGINT AS s, "
                  "epoch(session_window.end)::BIGINT AS e, count(*) AS n FROM a GROUP BY "
                  "session_window(ts, CASE kind WHEN 'long' THEN INTERVAL '1 minute' WHEN 'short' "
                  "THEN INTERVAL '2 seconds' WHEN 'none' THEN INTERVAL '0 seconds' END), k;");
    /* a long one covers those after it; no gap and a gap of 0 are in no session */
    sql_flow_step(flow, "a",
                  "('x', 'long', '1970-01-01 00:00:01'), ('x', 'short', '1970-01-01 00:00:30'), "
                  "('y', 'short', '1970-01-01 00:00:01'), ('y', 'short', '1970-01-01 00:00:04'), "
                  "('y', 'none', '1970-01-01 00:00:05'), ('y', NULL, '1970-01-01 00:00:02'), "
                  "('y', 'short', NULL)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "y|1|3|1\ny|4|6|1\n");
    sql_flow_step(flow, "a", "('z', 'short', '1970-01-01 00:02:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "x|1|61|2\n");
    sql_flow_free(flow);
}

TEST(sessions_feed_windows_and_deduplications)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow,
                  "CREATE VIEW s AS SELECT k, session_window(ts, '5 seconds') AS w, count(*) AS n "
                  "FROM a GROUP BY ALL;"
                  "CREATE VIEW d AS SELECT DISTINCT ON (n, window_time(w)) * FROM s;"
                  "INSERT INTO out SELECT epoch(window_start)::BIGINT AS m, count(*) AS sessions, "
                  "sum(n)::BIGINT AS n FROM d GROUP BY window(w, '1 minute');");
    sql_flow_step(flow, "a",
                  "SELECT k, make_timestamp(s * 1000000) FROM (VALUES (1, 1), (1, 3), (2, 1), "
                  "(3, 10), (4, 10), (1, 20)) t(k, s)");
    sql_flow_step(flow, "a", "(9, '1970-01-01 00:01:00')");
    /* sessions: 1 [1,8) 2, 2 [1,6) 1, 3 and 4 [10,15) 1, 1 [20,25) 1 */
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|4|5\n");
    sql_flow_free(flow);
}

/* ---- against DuckDB ---- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static const char sessions_sql[] =
    "SELECT k, epoch_us(min(ts)) AS s, epoch_us(max(ts)) + 7000000 AS e, count(*) AS n, "
    "sum(v)::BIGINT AS v, max(t) AS t FROM (SELECT *, sum(fresh) OVER (PARTITION BY k ORDER BY ts, "
    "v "
    "ROWS UNBOUNDED PRECEDING) AS g FROM (SELECT *, CASE WHEN ts - lag(ts) OVER (PARTITION BY k "
    "ORDER BY ts, v) <= INTERVAL 7 SECONDS THEN 0 ELSE 1 END AS fresh FROM a)) GROUP BY k, g";

TEST(sessions_of_random_input_are_those_of_duckdb_however_it_is_cut)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15);
        struct sql_flow *flow = sql_flow_new(t);
        int steps = 3 + (int)(next_random(&state) % 6);
        struct mr_buf all = MR_BUF_INIT;
        char values[200];

        sql_flow_source(flow, "a", "k VARCHAR, v BIGINT, t VARCHAR, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '1000 seconds'");
        sql_flow_sink(flow, "closed", "", "append");
        sql_flow_sink(flow, "whole", "", "complete");
        sql_flow_text(flow, "INSERT INTO closed SELECT k, epoch_us(session_window.start) AS s, "
                            "epoch_us(session_window.end) AS e, count(*) AS n, sum(v) AS v, "
                            "max(t) AS t FROM a GROUP BY session_window(ts, '7 seconds'), k;"
                            "INSERT INTO whole SELECT k, epoch_us(session_window.start) AS s, "
                            "epoch_us(session_window.end) AS e, count(*) AS n, sum(v) AS v, "
                            "max(t) AS t FROM a GROUP BY session_window(ts, '7 seconds'), k;");
        sql_flow_steps_per_batch(flow, 1 + (int)(next_random(&state) % 3));
        for (int i = 0; i < steps; i++) {
            snprintf(
                values, sizeof(values),
                "SELECT 'k' || (hash(i * %llu) %% 5), i, repeat('x', (hash(i) %% 9)::INTEGER), "
                "make_timestamp((hash(i + %llu) %% 400)::BIGINT * 500000) FROM range(%d, %d) r(i)",
                (unsigned long long)seed, (unsigned long long)seed, i * 40, i * 40 + 40);
            sql_flow_step(flow, "a", values);
            if (next_random(&state) % 2 == 0)
                mr_buf_add_str(&all, sql_flow_run(flow, "closed"));
        }
        (void)sql_flow_run(flow, "whole");
        {
            char *want = strdup(sql_flow_oracle(flow, sessions_sql));
            char *whole = strdup(sql_flow_last(flow, "whole"));

            sql_flow_sort(whole);
            CHECK_EQ_STR(whole, want);
            /* a row far behind closes all of them */
            sql_flow_step(flow, "a", "('z', 0, '', '1970-01-01 01:00:00')");
            mr_buf_add_str(&all, sql_flow_run(flow, "closed"));
            sql_flow_sort(all.data);
            CHECK_EQ_STR(all.data, want);
            free(want);
            free(whole);
        }
        mr_buf_release(&all);
        sql_flow_free(flow);
    }
}

TEST(rows_that_are_late_for_a_session_go_where_the_query_says)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(flow, "late", "k VARCHAR, ts TIMESTAMP", NULL);
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT k, epoch(window_start)::BIGINT AS s, count(*) AS n "
                        "FROM a GROUP BY session_window(ts, '10 seconds'), k ON LATE INTO late;");
    sql_flow_step(flow, "a", "('x', '1970-01-01 00:00:01'), ('y', '1970-01-01 00:01:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "x|1|1\n");
    sql_flow_step(flow, "a", "('x', '1970-01-01 00:00:50'), ('x', '1970-01-01 00:00:50.000001')");
    sql_flow_step(flow, "a", "('z', '1970-01-01 00:02:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "x|50|1\ny|60|1\n");
    CHECK_EQ_STR(sql_flow_run(flow, "late"), "x|1970-01-01 00:00:50\n");
    sql_flow_free(flow);
}

TEST(the_output_mode_follows_from_what_a_query_is)
{
    static const struct {
        const char *select;
        const char *rows; /* of the first run */
    } cases[] = {
        /* append: closed by the watermark */
        {"SELECT k, count(*) AS n FROM a GROUP BY session_window(ts, '10 seconds'), k", ""},
        /* complete: nothing closes */
        {"SELECT k, count(*) AS n FROM b GROUP BY session_window(ts, '10 seconds'), k",
         "x|1\ny|1\n"},
        {"SELECT k, count(*) AS n FROM b GROUP BY k ORDER BY k DESC LIMIT 1", "y|1\n"},
        {"SELECT k FROM b LIMIT 5", "x\ny\n"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "k VARCHAR, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
        sql_flow_source(flow, "b", "k VARCHAR, ts TIMESTAMP", "");
        sql_flow_sink(flow, "out", "", NULL);
        sql_flow_text(flow, "INSERT INTO out ");
        sql_flow_text(flow, cases[i].select);
        sql_flow_text(flow, ";");
        sql_flow_step(flow, i == 0 ? "a" : "b",
                      "('x', '1970-01-01 00:00:01'), ('y', '1970-01-01 00:00:02')");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), cases[i].rows);
        sql_flow_free(flow);
    }
}

TEST(a_new_aggregate_keeps_the_sessions_of_a_checkpoint)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, v BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(flow, "out", "k VARCHAR, x VARCHAR", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT k, concat_ws(' ', count(*), sum(v)) AS x FROM a "
                        "GROUP BY session_window(ts, '10 seconds'), k;");
    sql_flow_step(flow, "a", "('x', 1, '1970-01-01 00:00:01'), ('x', 2, '1970-01-01 00:00:02')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_retext(flow, "SET on_change = 'allow';"
                          "INSERT INTO out SELECT k, concat_ws(' ', max(v), sum(v), count(*)) AS x "
                          "FROM a GROUP BY session_window(ts, '10 seconds'), k;");
    sql_flow_step(flow, "a", "('x', 5, '1970-01-01 00:00:03')");
    sql_flow_step(flow, "a", "('y', 9, '1970-01-01 00:01:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "x|5 8 3\n");
    sql_flow_free(flow);
}
