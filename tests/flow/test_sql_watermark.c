/*
 * Vectors of event time that need more than rows in and rows out (the others are TEST blocks in
 * tests/sql/watermark.sql): the event times that the progress document shows, settings that the
 * checkpoint pins, and watermarks on watermarks.
 */
#include "support/sql_flow.h"

#include "base/buf.h"
#include "core/query.h"
#include "sql/plan.h"

#include <stdlib.h>

enum { DOCUMENTS_MAX = 32 };

/* What the batches of one life showed. */
struct life {
    char *documents[DOCUMENTS_MAX];
    size_t count;
    int64_t watermark_ms; /* in force in the newest batch */
};

static void keep(void *arg, const struct mr_progress *progress)
{
    struct life *life = arg;

    if (progress->idle || life->count == DOCUMENTS_MAX)
        return;
    life->documents[life->count++] = strdup(progress->json);
    life->watermark_ms = progress->watermark_us < 0 ? 0 : progress->watermark_us / 1000;
}

/* Runs a script to the end of its input; '@' in it is the test's name, as in memory tables of
 * sql_flow.h. */
static void live(struct test *t, const char *text, struct life *life)
{
    struct mr_sql_args args = {.env = mr_env_posix()};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    struct mr_query *query = NULL;
    struct mr_error err = {0};
    struct mr_buf sql = MR_BUF_INIT;

    *life = (struct life){0};
    mr_buf_printf(&sql, "SET trigger = 'until caught up'; SET checkpoint = '%s';\n",
                  test_path(t, "own"));
    for (; *text != '\0'; text++) {
        if (*text == '@')
            mr_buf_printf(&sql, "%.100s", t->name);
        else
            mr_buf_add_char(&sql, *text);
    }
    CHECK_OK(mr_sql_script_parse("test.sql", sql.data, sql.size, &script, &err), &err);
    CHECK_OK(mr_sql_plan(script, &args, &plan, &err), &err);
    plan->config.on_progress = keep;
    plan->config.on_progress_arg = life;
    CHECK_OK(mr_query_new(mr_env_posix(), plan->graph, &plan->config, &query, &err), &err);
    plan->graph = NULL;
    CHECK_OK(mr_query_run(query, &err), &err);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    mr_buf_release(&sql);
}

static void end(struct life *life)
{
    for (size_t i = 0; i < life->count; i++)
        free(life->documents[i]);
    life->count = 0;
}

/* The block as it is printed, times in seconds after the epoch. */
static void check_block(const struct life *life, size_t index, const char *want)
{
    const char *block = index < life->count ? strstr(life->documents[index], "\"eventTime\":") : "";

    CHECK(block != NULL);
    if (block == NULL)
        return;
    if (strncmp(block, want, strlen(want)) != 0)
        FAIL("batch %zu shows %.160s, want %s", index, block, want);
}

static const char one_source[] =
    "CREATE TABLE a (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') "
    "WITH (connector = 'memory', table = '@.a', partitions = 2, max_steps_per_trigger = 1);\n"
    "CREATE TABLE out WITH (connector = 'memory', table = '@.out', output_mode = 'append');\n"
    "INSERT INTO out SELECT window_start, count(*) AS n FROM a GROUP BY window(ts, '5 seconds');";

static void step(struct sql_flow *flow, const char *table, const char *seconds)
{
    char sql[400];

    snprintf(sql, sizeof(sql),
             "SELECT v, make_timestamp(v * 1000000) FROM (SELECT unnest([%s])::BIGINT AS v)",
             seconds);
    sql_flow_step(flow, table, sql);
}

TEST(WM_05_the_progress_of_a_batch_has_its_event_times)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct life life;

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", "");
    sql_flow_sink(flow, "out", "", "append");
    step(flow, "a", "15");
    step(flow, "a", "10, 12, 14");
    step(flow, "a", "25");
    live(t, one_source, &life);
    CHECK_EQ_INT(life.count, 4);
    check_block(&life, 0,
                "\"eventTime\":{\"avg\":\"1970-01-01T00:00:15.000Z\",\"max\":\"1970-01-01T00:00:15."
                "000Z\",\"min\":\"1970-01-01T00:00:15.000Z\",\"watermark\":\"1970-01-01T00:00:00."
                "000Z\"}");
    check_block(&life, 1,
                "\"eventTime\":{\"avg\":\"1970-01-01T00:00:12.000Z\",\"max\":\"1970-01-01T00:00:14."
                "000Z\",\"min\":\"1970-01-01T00:00:10.000Z\",\"watermark\":\"1970-01-01T00:00:05."
                "000Z\"}");
    check_block(&life, 2,
                "\"eventTime\":{\"avg\":\"1970-01-01T00:00:25.000Z\",\"max\":\"1970-01-01T00:00:25."
                "000Z\",\"min\":\"1970-01-01T00:00:25.000Z\",\"watermark\":\"1970-01-01T00:00:05."
                "000Z\"}");
    check_block(&life, 3, "\"eventTime\":{\"watermark\":\"1970-01-01T00:00:15.000Z\"}");
    end(&life);
    sql_flow_free(flow);
}

TEST(WM_05_without_a_watermark_there_are_no_event_times)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct life life;

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", "");
    sql_flow_sink(flow, "out", "", "append");
    step(flow, "a", "15");
    live(t,
         "CREATE TABLE a (v BIGINT, ts TIMESTAMP) WITH (connector = 'memory', table = '@.a');\n"
         "CREATE TABLE out WITH (connector = 'memory', table = '@.out');\n"
         "INSERT INTO out SELECT v FROM a;",
         &life);
    CHECK_EQ_INT(life.count, 1);
    CHECK(strstr(life.documents[0], "eventTime") == NULL);
    end(&life);
    sql_flow_free(flow);
}

/* Sums of event times are kept as what a 64-bit integer could not hold. */
TEST(WM_20_event_times_far_away_have_an_average)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct life life;

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", "");
    sql_flow_sink(flow, "out", "", "append");
    /* 253370764800 s = the year 9999: 2.5e17 us, 1000 of them are 2.5e20. The first step is in one
     * of two partitions alone: the other brings nothing, and nothing changes. */
    step(flow, "a", "253370764800");
    sql_flow_step(
        flow, "a",
        "SELECT i, make_timestamp((253370764800 + i % 2) * 1000000) FROM range(1000) t(i)");
    live(t, one_source, &life);
    check_block(&life, 0,
                "\"eventTime\":{\"avg\":\"9999-01-01T00:00:00.000Z\",\"max\":\"9999-01-01T00:00:00."
                "000Z\",\"min\":\"9999-01-01T00:00:00.000Z\"");
    check_block(&life, 1,
                "\"eventTime\":{\"avg\":\"9999-01-01T00:00:00.500Z\",\"max\":\"9999-01-01T00:00:01."
                "000Z\",\"min\":\"9999-01-01T00:00:00.000Z\"");
    end(&life);
    sql_flow_free(flow);
}

static const char two_sources[] =
    "CREATE TABLE a (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '10 seconds') "
    "WITH (connector = 'memory', table = '@.a', max_steps_per_trigger = 1);\n"
    "CREATE TABLE b (v BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '15 seconds') "
    "WITH (connector = 'memory', table = '@.b', max_steps_per_trigger = 1);\n"
    "CREATE TABLE out WITH (connector = 'memory', table = '@.out', output_mode = 'complete');\n"
    "INSERT INTO out SELECT sum(v)::BIGINT AS s FROM (SELECT v FROM a UNION ALL SELECT v FROM b);";

/* One life of that policy; the watermark in the batch after the rows. */
static int64_t watermark_after(struct test *t, struct sql_flow *flow, const char *policy,
                               const char *a, const char *b)
{
    struct life life;
    char text[1200];

    step(flow, "a", a);
    step(flow, "b", b);
    step(flow, "a", "0");
    step(flow, "b", "0");
    snprintf(text, sizeof(text), "SET watermark_policy = '%s';\n%s", policy, two_sources);
    live(t, text, &life);
    end(&life);
    return life.watermark_ms;
}

TEST(WM_14_the_policy_of_the_checkpoint_wins)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP", "");
    sql_flow_source(flow, "b", "v BIGINT, ts TIMESTAMP", "");
    sql_flow_sink(flow, "out", "", "complete");
    CHECK_EQ_INT(watermark_after(t, flow, "max", "20", "30"), 15000);
    CHECK_EQ_INT(watermark_after(t, flow, "min", "120", "130"), 115000);
    CHECK_EQ_INT(watermark_after(t, flow, "min", "150", "0"), 140000);
    sql_flow_free(flow);
}

TEST(WM_16_a_watermark_above_another_is_refused)
{
    static const char *const selects[] = {
        "SELECT count(*) FROM a WATERMARK other DELAY OF INTERVAL 2 MINUTES",
        "SELECT count(*) FROM (SELECT ts AS t, other FROM a) WATERMARK other DELAY OF '2 minutes'",
        "SELECT count(*) FROM (SELECT * FROM a) WATERMARK ts DELAY OF INTERVAL 1 MINUTE",
    };

    for (size_t i = 0; i < sizeof(selects) / sizeof(selects[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_error err;

        sql_flow_source(flow, "a", "ts TIMESTAMP, other TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '1 minute'");
        sql_flow_sink(flow, "out", "", "complete");
        sql_flow_text(flow, "INSERT INTO out ");
        sql_flow_text(flow, selects[i]);
        CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, "would redefine it");
        CHECK(err.sql_line > 0);
        sql_flow_free(flow);
    }
}
