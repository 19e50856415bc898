/*
 * Deduplication in SQL: DISTINCT ON, drop_duplicates, drop_duplicates_within_watermark; vectors
 * DD-* and DDW-*, the allowed modes of UN-01, and random cuts and restarts against DuckDB.
 */
#include "support/sql_flow.h"

#include "base/buf.h"

#include <millrace/ext/env.h>

#include <stdlib.h>

/* "1 2 3" as rows (v, ts). */
static void add_times(struct sql_flow *flow, const char *table, const char *times)
{
    char list[1000];
    char sql[2000];
    size_t used = 0;

    for (const char *at = times; *at != '\0' && used + 2 < sizeof(list); at++)
        list[used++] = *at == ' ' ? ',' : *at;
    list[used] = '\0';
    snprintf(sql, sizeof(sql),
             "SELECT v, make_timestamp(v * 1000000) FROM (SELECT unnest([%s])::BIGINT AS v)", list);
    sql_flow_step(flow, table, sql);
}

static const char five_times[] = "10 11 12 13 14 15 10 11 12 13 14 15 10 11 12 13 14 15 "
                                 "10 11 12 13 14 15 10 11 12 13 14 15";

static struct sql_flow *open_times(struct test *t, int delay, const char *mode, const char *insert)
{
    struct sql_flow *flow = sql_flow_new(t);
    char extra[100];

    snprintf(extra, sizeof(extra), ", WATERMARK FOR ts AS ts - INTERVAL '%d seconds'", delay);
    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", extra);
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, insert);
    return flow;
}

static void expect(struct sql_flow *flow, const char *rows, const char *state)
{
    CHECK_EQ_STR(sql_flow_run(flow, "out"), rows);
    if (state != NULL)
        CHECK_EQ_STR(sql_flow_state(flow), state);
}

TEST(DD_01_all_columns_are_compared)
{
    static const char *const queries[] = {
        "INSERT INTO out SELECT DISTINCT ON (k) k FROM a;",
        "INSERT INTO out SELECT k FROM drop_duplicates(TABLE a);",
        "INSERT INTO out SELECT * FROM TABLE(dropDuplicates(TABLE a));",
        "INSERT INTO out SELECT d.k FROM drop_duplicates(TABLE a, DESCRIPTOR(k)) AS d;",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "k VARCHAR", "");
        sql_flow_sink(flow, "out", "", "append");
        sql_flow_text(flow, queries[i]);
        sql_flow_step(flow, "a", "('a')");
        expect(flow, "a\n", "1/1/0/0");
        sql_flow_step(flow, "a", "('a')");
        expect(flow, "", "1/0/0/0");
        sql_flow_step(flow, "a", "('b')");
        expect(flow, "b\n", "2/1/0/0");
        sql_flow_free(flow);
    }
}

TEST(DD_02_the_first_row_of_a_key_passes_with_all_its_columns)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, n BIGINT", "");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT DISTINCT ON (k) k, n FROM a;");
    sql_flow_step(flow, "a", "('a', 1)");
    expect(flow, "a|1\n", "1/1/0/0");
    sql_flow_step(flow, "a", "('a', 2)");
    expect(flow, "", "1/0/0/0");
    sql_flow_step(flow, "a", "('b', 1)");
    expect(flow, "b|1\n", "2/1/0/0");
    sql_flow_free(flow);
}

TEST(DD_04_keys_leave_with_the_watermark_and_late_rows_are_dropped)
{
    struct sql_flow *flow =
        open_times(t, 10, "append",
                   "INSERT INTO out SELECT epoch(ts)::BIGINT AS s FROM drop_duplicates(TABLE a);");

    add_times(flow, "a", five_times);
    expect(flow, "10\n11\n12\n13\n14\n15\n", "6/6/0/0");
    add_times(flow, "a", "25");
    expect(flow, "25\n", "1/1/0/6");
    add_times(flow, "a", "10");
    expect(flow, "", "1/0/1/0");
    add_times(flow, "a", "45");
    expect(flow, "45\n", "1/1/0/1");
    sql_flow_free(flow);
}

TEST(DD_05_without_empty_batches_keys_wait_for_the_next_rows)
{
    struct sql_flow *flow =
        open_times(t, 10, "append",
                   "INSERT INTO out SELECT DISTINCT ON (v, ts) epoch(ts)::BIGINT AS s FROM a;");

    sql_flow_text(flow, "SET no_data_batches = false;");
    add_times(flow, "a", "10 11 12 13 14 15");
    expect(flow, "10\n11\n12\n13\n14\n15\n", "6/6/0/0");
    add_times(flow, "a", "25");
    expect(flow, "25\n", "7/1/0/0");
    sql_flow_free(flow);
}

TEST(DD_07_without_the_event_time_among_the_keys_the_state_stays)
{
    struct sql_flow *flow = open_times(
        t, 1, "append",
        "INSERT INTO out SELECT id, epoch(ts)::BIGINT AS s FROM (SELECT DISTINCT ON (id) * FROM "
        "(SELECT v % 10 AS id, ts FROM a));");

    add_times(flow, "a", "1 11 12");
    expect(flow, "1|1\n2|12\n", "2/2/0/0");
    add_times(flow, "a", "103");
    expect(flow, "3|103\n", "3/1/0/0");
    add_times(flow, "a", "21 111"); /* 21 is late, 111 known */
    expect(flow, "", "3/0/1/0");
    sql_flow_free(flow);
}

TEST(DD_08_counts_of_windows_follow_a_deduplication)
{
    struct sql_flow *flow = open_times(
        t, 10, "append",
        "INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, count(*) AS n FROM (SELECT "
        "DISTINCT ON (v, ts) * FROM a) GROUP BY window(ts, '5 seconds');");

    add_times(flow, "a", five_times);
    expect(flow, "", "2/2/0/0 6/6/0/0");
    add_times(flow, "a", "25");
    expect(flow, "10|5\n", "2/1/0/1 1/1/0/6");
    add_times(flow, "a", "10");
    expect(flow, "", "2/0/0/0 1/0/1/0");
    add_times(flow, "a", "40");
    expect(flow, "15|1\n25|1\n", "1/1/0/2 1/1/0/1");
    sql_flow_free(flow);
}

TEST(DD_10_dropped_duplicates_are_counted)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, n BIGINT", "");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT DISTINCT ON (k) k, n FROM a;");
    sql_flow_step(flow, "a", "('a', 1)");
    expect(flow, "a|1\n", NULL);
    CHECK_EQ_INT(sql_flow_metric(flow, "numDroppedDuplicateRows"), 0);
    sql_flow_step(flow, "a", "('a', 2), ('b', 3)");
    expect(flow, "b|3\n", NULL);
    CHECK_EQ_INT(sql_flow_metric(flow, "numDroppedDuplicateRows"), 1);
    sql_flow_step(flow, "a", "('a', 5), ('b', 2), ('c', 9)");
    expect(flow, "c|9\n", NULL);
    CHECK_EQ_INT(sql_flow_metric(flow, "numDroppedDuplicateRows"), 2);
    sql_flow_free(flow);
}

TEST(DD_11_other_columns_may_change_between_runs)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, n BIGINT, x VARCHAR", "");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "CREATE VIEW d AS SELECT DISTINCT ON (k) k, n FROM a;"
                        "INSERT INTO out SELECT k || n AS r FROM d;");
    sql_flow_step(flow, "a", "('a', 1, ''), ('a', 2, ''), ('b', 3, '')");
    expect(flow, "a1\nb3\n", "2/2/0/0");
    sql_flow_retext(flow, "CREATE VIEW d AS SELECT DISTINCT ON (k) n, x, k FROM a;"
                          "INSERT INTO out SELECT k || x || n AS r FROM d;");
    sql_flow_step(flow, "a", "('a', 5, 'a'), ('b', 2, 'b'), ('c', 9, 'c')");
    expect(flow, "cc9\n", "3/1/0/0");
    sql_flow_free(flow);
}

TEST(DDW_01_within_the_watermark_all_columns_are_compared)
{
    struct sql_flow *flow = open_times(t, 10, "append",
                                       "INSERT INTO out SELECT epoch(ts)::BIGINT AS s FROM "
                                       "drop_duplicates_within_watermark(TABLE a);");

    add_times(flow, "a", five_times);
    expect(flow, "10\n11\n12\n13\n14\n15\n", "6/6/0/0");
    add_times(flow, "a", "13 14 15 16 17");
    expect(flow, "16\n17\n", "8/2/0/0");
    add_times(flow, "a", "5");
    expect(flow, "", "8/0/1/0");
    add_times(flow, "a", "35");
    expect(flow, "35\n", "3/1/0/6");
    add_times(flow, "a", "55");
    expect(flow, "55\n", "1/1/0/3");
    sql_flow_free(flow);
}

TEST(DDW_02_within_the_watermark_the_first_row_decides_how_long)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '2 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT k, epoch(ts)::BIGINT AS s FROM "
                        "dropDuplicatesWithinWatermark(TABLE a, DESCRIPTOR(k));");
    sql_flow_step(flow, "a", "('a', '1970-01-01 00:00:17')");
    expect(flow, "a|17\n", "1/1/0/0");
    sql_flow_step(flow, "a", "('a', '1970-01-01 00:00:16')");
    expect(flow, "", "1/0/0/0");
    sql_flow_step(flow, "a", "('a', '1970-01-01 00:00:13')");
    expect(flow, "", "1/0/1/0");
    sql_flow_step(flow, "a", "('b', '1970-01-01 00:00:22'), ('c', '1970-01-01 00:00:21')");
    expect(flow, "b|22\nc|21\n", "2/2/0/1");
    sql_flow_step(flow, "a", "('a', '1970-01-01 00:00:21')");
    expect(flow, "a|21\n", "3/1/0/0");
    sql_flow_step(flow, "a", "('d', '1970-01-01 00:00:25')");
    expect(flow, "d|25\n", "2/1/0/2");
    sql_flow_free(flow);
}

TEST(late_rows_of_a_deduplication_go_where_the_query_says)
{
    static const char *const queries[] = {
        "INSERT INTO out SELECT DISTINCT ON (v, ts) v, epoch(ts)::BIGINT AS s FROM a ON LATE INTO "
        "late;",
        "INSERT INTO out SELECT v, epoch(ts)::BIGINT AS s FROM drop_duplicates(TABLE a) "
        "ON LATE INTO late;",
        "INSERT INTO out SELECT DISTINCT ON (v) v, epoch(ts)::BIGINT AS s FROM a ON LATE INTO "
        "late;",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '1 second'");
        sql_flow_sink(flow, "late", "ts TIMESTAMP", NULL);
        sql_flow_sink(flow, "out", "", "append");
        sql_flow_text(flow, queries[i]);
        add_times(flow, "a", "10 20");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "10|10\n20|20\n");
        add_times(flow, "a", "11 20 21");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "21|21\n");
        CHECK_EQ_STR(sql_flow_run(flow, "late"), "1970-01-01 00:00:11\n");
        sql_flow_free(flow);
    }
}

TEST(the_first_rows_of_random_input_are_those_of_a_list_however_it_is_cut)
{
    for (int seed = 1; seed <= 4; seed++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_buf all = MR_BUF_INIT;
        char sql[300];

        /* one value a key, so that it does not matter which partition comes first */
        sql_flow_source(flow, "a", "k VARCHAR, v BIGINT, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '1000 seconds'");
        sql_flow_sink(flow, "out", "", "append");
        sql_flow_text(flow, "INSERT INTO out SELECT k, v, epoch_us(ts) AS s FROM "
                            "drop_duplicates_within_watermark(TABLE a, DESCRIPTOR(k, ts));");
        sql_flow_steps_per_batch(flow, 1 + seed % 3);
        for (int step = 0; step < 8; step++) {
            snprintf(
                sql, sizeof(sql),
                "SELECT 'k' || h %% 7, h %% 7 * 10, make_timestamp((h %% 40)::BIGINT * 500000) "
                "FROM (SELECT hash(i * %d)::UBIGINT %% 100000 AS h FROM range(%d, %d) r(i))",
                seed, step * 60, step * 60 + 60);
            sql_flow_step(flow, "a", sql);
            if ((step + seed) % 3 == 0)
                mr_buf_add_str(&all, sql_flow_run(flow, "out"));
            if ((step + seed) % 5 == 0)
                sql_flow_run_until(flow, step % 2 == 0 ? "ran" : "published");
        }
        mr_buf_add_str(&all, sql_flow_run(flow, "out"));
        sql_flow_sort(all.data);
        CHECK_EQ_STR(all.data,
                     sql_flow_oracle(flow, "SELECT k, any_value(v) AS v, epoch_us(ts) AS s "
                                           "FROM a GROUP BY k, ts"));
        mr_buf_release(&all);
        sql_flow_free(flow);
    }
}
