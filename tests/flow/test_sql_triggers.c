/*
 * The vectors TR-01 to TR-05 of Structured Streaming: when batches begin. On the virtual clock,
 * with a pipeline of SQL; what a script can show of triggers is in tests/sql/triggers.sql.
 */
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "base/metrics.h"
#include "core/query.h"
#include "env/sim.h"
#include "plugins/plugins.h"
#include "sql/plan.h"

#include <millrace/ext/memory.h>

enum { TIMES_MAX = 32, MS_US = 1000 };

static const char pipeline[] = "CREATE TABLE trigger_in (v BIGINT) WITH (connector = 'memory');\n"
                               "CREATE TABLE trigger_out WITH (connector = 'memory');\n"
                               "SET checkpoint = '/cp';\n"
                               "INSERT INTO trigger_out SELECT v FROM trigger_in;\n";

/* A run of the pipeline: how long each batch takes, and when each began. */
struct timed {
    struct mr_sim *sim;
    int64_t zero_us; /* of the clock when the run began */
    const int64_t *takes_ms;
    size_t takes_count;
    bool feeds; /* there is always something for the next trigger */
    int64_t begins_ms[TIMES_MAX];
    uint64_t ids[TIMES_MAX];
    size_t count;
    int64_t missed;
};

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static void add_row(int64_t v)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse("v BIGINT", 8, &schema, &err), &err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    mr_batch_builder_int(builder, 0, v);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table("trigger_in"), batch, &err), &err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

static enum mr_status at_point(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    struct timed *timed = arg;

    (void)err;
    if (strcmp(point, "planned") == 0) {
        CHECK(timed->count < TIMES_MAX);
        timed->begins_ms[timed->count] =
            (mr_env_wall_us(mr_sim_env(timed->sim)) - timed->zero_us) / MS_US;
        timed->ids[timed->count] = batch_id;
    }
    if (strcmp(point, "ran") == 0) {
        if (timed->feeds)
            add_row(1);
        if (timed->count < timed->takes_count)
            mr_sim_advance_ns(timed->sim, timed->takes_ms[timed->count] * 1000000);
        timed->count++;
    }
    return MR_OK;
}

/* Runs until so many batches are done (0: until caught up). */
static void run(struct timed *timed, const char *trigger, uint64_t batches)
{
    const struct mr_option_pair settings[] = {{"trigger", trigger}};
    const struct mr_sql_args args = {
        .env = mr_sim_env(timed->sim), .settings = settings, .setting_count = 1};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    mr_plugins_register();
    mr_log_set_sink(quiet, NULL);
    CHECK_OK(mr_sql_script_parse("t.sql", pipeline, strlen(pipeline), &script, &err), &err);
    CHECK_OK(mr_sql_plan(script, &args, &plan, &err), &err);
    plan->config.workers = 1;
    plan->config.batches_max = batches;
    plan->config.failpoint = at_point;
    plan->config.failpoint_arg = timed;
    CHECK_OK(mr_query_new(args.env, plan->graph, &plan->config, &query, &err), &err);
    plan->graph = NULL;
    CHECK_OK(mr_query_run(query, &err), &err);
    timed->missed = mr_metric_get(mr_query_metrics(query), MR_METRIC_MISSED_TRIGGERS);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
}

/* The clock of a new machine is at a multiple of any interval used here. */
static struct timed begin(void)
{
    struct timed timed = {.sim = mr_sim_new(1)};

    timed.zero_us = mr_env_wall_us(mr_sim_env(timed.sim));
    CHECK_EQ_INT(timed.zero_us % 1000000, 0);
    return timed;
}

static void end(struct timed *timed)
{
    mr_sim_free(timed->sim);
    mr_memory_drop("trigger_in");
    mr_memory_drop("trigger_out");
}

TEST(TR_01_the_next_trigger_is_at_the_next_multiple_of_the_interval)
{
    static const int64_t table[][2] = {{0, 100},   {1, 100},   {99, 100},
                                       {100, 200}, {101, 200}, {150, 200}};

    for (size_t i = 0; i < MR_ARRAY_SIZE(table); i++) {
        struct timed timed = begin();

        timed.feeds = true;
        mr_sim_advance_ns(timed.sim, table[i][0] * 1000000);
        add_row(0);
        run(&timed, "100 ms", 2);
        CHECK_EQ_INT(timed.begins_ms[0], table[i][0]); /* the first one at once */
        CHECK_EQ_INT(timed.begins_ms[1], table[i][1]);
        end(&timed);
    }
}

TEST(TR_01_ten_intervals_are_ten_triggers)
{
    struct timed timed = begin();

    timed.feeds = true;
    add_row(0);
    run(&timed, "100 ms", 11);
    for (size_t i = 0; i < 11; i++)
        CHECK_EQ_INT(timed.begins_ms[i], (int64_t)i * 100);
    CHECK_EQ_INT(timed.missed, 0);
    end(&timed);
}

TEST(TR_02_a_batch_that_takes_long_is_followed_at_once_and_then_by_the_grid)
{
    static const int64_t takes_ms[] = {0, 500, 1500, 0};
    static const int64_t begins_ms[] = {0, 1000, 2000, 3500, 4000};
    struct timed timed = begin();

    timed.feeds = true;
    timed.takes_ms = takes_ms;
    timed.takes_count = MR_ARRAY_SIZE(takes_ms);
    add_row(0);
    run(&timed, "1 second", 5);
    for (size_t i = 0; i < MR_ARRAY_SIZE(begins_ms); i++)
        CHECK_EQ_INT(timed.begins_ms[i], begins_ms[i]);
    end(&timed);
}

TEST(TR_02_falling_behind_is_counted)
{
    static const int64_t takes_ms[] = {200};
    struct timed timed = begin();

    timed.feeds = true;
    timed.takes_ms = takes_ms;
    timed.takes_count = 1;
    add_row(0);
    run(&timed, "100 ms", 2);
    CHECK_EQ_INT(timed.missed, 1);
    end(&timed);
}

TEST(TR_04_idle_triggers_make_no_batch_and_numbers_go_on_after_a_restart)
{
    struct timed timed = begin();
    uint64_t operations;

    add_row(1);
    run(&timed, "until caught up", 0);
    add_row(2);
    run(&timed, "until caught up", 0);
    CHECK_EQ_UINT(timed.count, 2);
    CHECK_EQ_UINT(timed.ids[1], 1);
    operations = mr_sim_op_count(timed.sim);
    run(&timed, "until caught up", 0);
    CHECK_EQ_UINT(timed.count, 2);
    CHECK(mr_sim_op_count(timed.sim) > operations); /* only that of the start: its epoch */
    add_row(3);
    run(&timed, "until caught up", 0);
    CHECK_EQ_UINT(timed.count, 3);
    CHECK_EQ_UINT(timed.ids[2], 2);
    end(&timed);
}

TEST(TR_05_once_is_one_batch_and_then_the_query_ends)
{
    struct timed timed = begin();

    add_row(1);
    add_row(2);
    run(&timed, "once", 0);
    CHECK_EQ_UINT(timed.count, 1);
    add_row(3);
    run(&timed, "once", 0);
    CHECK_EQ_UINT(timed.count, 2);
    CHECK_EQ_UINT(timed.ids[1], 1);
    CHECK_EQ_INT(mr_memory_row_count(mr_memory_table("trigger_out")), 3);
    end(&timed);
}
