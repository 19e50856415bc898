/*
 * Triggers, batch times, watermarks and stopping, on the virtual clock (structured.md 5, 7;
 * dstream.md 3).
 */
#include "support/flow.h"
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "env/sim.h"
#include "env/thread.h"
#include "ops/ops.h"
#include "plugins/plugins.h"

#include <millrace/ext/memory.h>

enum { SECOND_US = 1000000, TIMES_MAX = 64 };

struct times {
    int64_t batch_us[TIMES_MAX];
    int64_t watermark_us[TIMES_MAX];
    size_t count;
    uint64_t late_rows;
    struct mr_query *query;
    size_t stop_after;
};

static void keep_times(void *arg, const struct mr_progress *progress)
{
    struct times *times = arg;

    if (progress->idle || times->count == TIMES_MAX)
        return;
    times->batch_us[times->count] = progress->batch_time_us;
    times->watermark_us[times->count++] = progress->watermark_us;
    times->late_rows += progress->late_rows;
}

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static void add_pair(const char *table, int64_t k, int64_t v)
{
    struct mr_schema *schema = flow_pair_schema();
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    mr_batch_builder_int(builder, 0, k);
    mr_batch_builder_int(builder, 1, v);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table(table), batch, &err), &err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

static struct mr_graph *memory_graph(void)
{
    const struct flow_end source = {"in", "memory", "", mr_memory_table("in")};
    const struct flow_end sink = {"out", "memory", "", mr_memory_table("out")};

    mr_log_set_sink(quiet, NULL);
    return flow_sum_graph(&source, &sink, "sum");
}

static void drop_tables(void)
{
    mr_memory_drop("in");
    mr_memory_drop("out");
}

static void run_for(struct mr_sim *sim, const struct mr_query_config *config)
{
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_query_new(mr_sim_env(sim), memory_graph(), config, &query, &err), &err);
    CHECK_OK(mr_query_run(query, &err), &err);
    mr_query_free(query);
}

static struct mr_query_config ticking(struct times *times, uint64_t batches)
{
    struct mr_query_config config;

    mr_query_config_init(&config);
    config.checkpoint_dir = "/cp";
    config.trigger = MR_TRIGGER_TICK;
    config.interval_us = SECOND_US;
    config.workers = 1;
    config.batches_max = batches;
    config.on_progress = keep_times;
    config.on_progress_arg = times;
    return config;
}

TEST(CLK_2_ticks_are_multiples_of_the_interval_and_come_without_data_too)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times times = {0};
    const struct mr_query_config config = ticking(&times, 4);

    run_for(sim, &config);
    CHECK_EQ_UINT(times.count, 4);
    CHECK_EQ_INT(times.batch_us[0] % SECOND_US, 0);
    for (size_t i = 1; i < times.count; i++)
        CHECK_EQ_INT(times.batch_us[i] - times.batch_us[i - 1], SECOND_US);
    CHECK(mr_env_wall_us(mr_sim_env(sim)) >= times.batch_us[3]);
    drop_tables();
    mr_sim_free(sim);
}

TEST(CP_13_after_downtime_missed_ticks_are_made_up_with_their_own_times)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times before = {0}, after = {0};
    struct mr_query_config config = ticking(&before, 2);

    run_for(sim, &config);
    mr_sim_advance_ns(sim, 5 * INT64_C(1000000000));
    config = ticking(&after, 6);
    run_for(sim, &config);
    CHECK_EQ_UINT(after.count, 6);
    CHECK_EQ_INT(after.batch_us[0] - before.batch_us[1], SECOND_US);
    for (size_t i = 1; i < after.count; i++)
        CHECK_EQ_INT(after.batch_us[i] - after.batch_us[i - 1], SECOND_US);
    drop_tables();
    mr_sim_free(sim);
}

TEST(a_changed_batch_interval_is_refused_with_both_values)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times times = {0};
    struct mr_query_config config = ticking(&times, 1);
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    run_for(sim, &config);
    config.interval_us = 2 * SECOND_US;
    CHECK_FAILS(mr_query_new(mr_sim_env(sim), memory_graph(), &config, &query, &err), &err,
                MR_CONFIG, "1000 ms");
    drop_tables();
    mr_sim_free(sim);
}

static enum mr_status take_250_ms(void *arg, const char *point, uint64_t batch_id,
                                  struct mr_error *err)
{
    MR_UNUSED(batch_id);
    MR_UNUSED(err);
    add_pair("in", 1, 1); /* there is always something for the next trigger */
    if (strcmp(point, "ran") == 0)
        mr_sim_advance_ns(arg, 250000000);
    return MR_OK;
}

TEST(an_interval_trigger_keeps_to_its_grid_and_starts_at_once_when_it_is_late)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times times = {0};
    struct mr_query_config config = ticking(&times, 4);
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    config.trigger = MR_TRIGGER_INTERVAL;
    config.interval_us = 100000; /* a batch takes 250 ms: two boundaries are missed each time */
    config.failpoint = take_250_ms;
    config.failpoint_arg = sim;
    add_pair("in", 1, 1);
    CHECK_OK(mr_query_new(mr_sim_env(sim), memory_graph(), &config, &query, &err), &err);
    CHECK_OK(mr_query_run(query, &err), &err);
    CHECK(mr_metric_get(mr_query_metrics(query), MR_METRIC_MISSED_TRIGGERS) >= 3);
    for (size_t i = 1; i < times.count; i++)
        CHECK(times.batch_us[i] - times.batch_us[i - 1] < 300000);
    mr_query_free(query);
    drop_tables();
    mr_sim_free(sim);
}

TEST(batch_times_increase_when_the_clock_stands_still)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times times = {0};
    struct mr_query_config config = ticking(&times, 3);

    config.trigger = MR_TRIGGER_ASAP;
    add_pair("in", 1, 1);
    add_pair("in", 2, 1);
    for (int i = 0; i < 3; i++) {
        config.batches_max = 1;
        run_for(sim, &config);
        add_pair("in", 3, i);
    }
    CHECK_EQ_UINT(times.count, 3);
    CHECK(times.batch_us[1] > times.batch_us[0] && times.batch_us[2] > times.batch_us[1]);
    drop_tables();
    mr_sim_free(sim);
}

/* ---- Watermarks: memory table of times -> watermark -> tumbling window -> count, append. ---- */

static struct mr_graph *window_graph(int64_t delay_us)
{
    static const uint32_t keys[] = {0};
    static const char *const key_names[] = {"window_start"};
    static const struct mr_agg count = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    const char *text = "ts TIMESTAMP";
    const struct mr_window_spec window = {.column = 0,
                                          .size_us = 10 * SECOND_US,
                                          .slide_us = 10 * SECOND_US,
                                          .offset_us = 0,
                                          .start_name = "window_start",
                                          .end_name = "window_end"};
    struct mr_graph *graph = mr_graph_new();
    struct mr_schema *schema = NULL;
    struct mr_node *node = NULL;
    struct mr_map_op map;
    struct mr_fold_op fold;
    struct mr_error err = {0};

    mr_plugins_register();
    mr_log_set_sink(quiet, NULL);
    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    struct mr_source_spec source = {.name = "in",
                                    .connector = mr_source_find("memory"),
                                    .declared = schema,
                                    .schema = schema,
                                    .user = mr_memory_table("in")};
    struct mr_sink_spec sink = {.name = "out",
                                .connector = mr_sink_find("memory"),
                                .mode = MR_MODE_APPEND,
                                .user = mr_memory_table("out")};
    source.options =
        flow_options("memory", source.connector->options, source.connector->option_count, NULL, "");
    sink.options =
        flow_options("memory", sink.connector->options, sink.connector->option_count, NULL, "");
    CHECK_OK(mr_graph_source(graph, &source, &node, &err), &err);
    CHECK_OK(mr_op_watermark(schema, 0, &map, &err), &err);
    CHECK_OK(mr_graph_map(graph, "watermark", &node, 1, map.schema, map.ops, map.op, &node, &err),
             &err);
    mr_node_set_watermark(node, delay_us);
    mr_schema_unref(map.schema);
    CHECK_OK(mr_op_window(mr_node_schema(node), &window, &map, &err), &err);
    CHECK_OK(mr_graph_map(graph, "window", &node, 1, map.schema, map.ops, map.op, &node, &err),
             &err);
    const struct mr_aggregate_spec spec = {.input = map.schema,
                                           .keys = keys,
                                           .key_names = key_names,
                                           .key_count = 1,
                                           .aggs = &count,
                                           .agg_count = 1,
                                           .mode = MR_MODE_APPEND,
                                           .state_name = "agg",
                                           .event_time_key = 0,
                                           .event_time_add_us = 10 * SECOND_US};
    struct mr_map_op partial;
    CHECK_OK(mr_op_aggregate_partial(&spec, &partial, &err), &err);
    CHECK_OK(mr_graph_map(graph, "partial", &node, 1, partial.schema, partial.ops, partial.op,
                          &node, &err),
             &err);
    CHECK_OK(mr_op_aggregate_fold(&spec, &fold, &err), &err);
    CHECK_OK(mr_graph_fold(graph, "agg", &node, 1, fold.schema, fold.ops, fold.op, &node, &err),
             &err);
    CHECK_OK(mr_graph_sink(graph, &sink, &node, 1, &err), &err);
    mr_schema_unref(map.schema);
    mr_schema_unref(partial.schema);
    mr_schema_unref(fold.schema);
    mr_schema_unref(schema);
    return graph;
}

static void add_times(const int64_t *seconds, size_t count)
{
    const char *text = "ts TIMESTAMP";
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (size_t i = 0; i < count; i++) {
        mr_batch_builder_int(builder, 0, seconds[i] * SECOND_US);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table("in"), batch, &err), &err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

/* "0:2 10:1": window start in seconds and count, of all rows that came out. */
static void read_windows(char *text, size_t size)
{
    struct mr_batch *batch = NULL;
    size_t at = 0;

    text[0] = '\0';
    if (mr_memory_rows(mr_memory_table("out"), &batch, NULL) != MR_OK)
        return;
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++)
        at +=
            (size_t)snprintf(text + at, size - at, "%s%lld:%lld", row > 0 ? " " : "",
                             (long long)(mr_column_int(mr_batch_column(batch, 0), row) / SECOND_US),
                             (long long)mr_column_int(mr_batch_column(batch, 1), row));
    mr_batch_unref(batch);
}

static void run_windows(struct mr_sim *sim, struct times *times)
{
    struct mr_query_config config = ticking(times, 0);
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    config.trigger = MR_TRIGGER_CAUGHT_UP;
    CHECK_OK(mr_query_new(mr_sim_env(sim), window_graph(5 * SECOND_US), &config, &query, &err),
             &err);
    CHECK_OK(mr_query_run(query, &err), &err);
    mr_query_free(query);
}

TEST(
    K1_a_watermark_closes_windows_in_a_batch_without_data_and_late_rows_are_counted_across_restarts)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times times = {0};
    char text[256];

    add_times((const int64_t[]){1, 2, 12, 15}, 4); /* watermark after it: 15 - 5 = 10 */
    run_windows(sim, &times);
    read_windows(text, sizeof(text));
    CHECK_EQ_STR(text, "0:2");     /* [0, 10) closed by a batch of its own: 10 <= 10 */
    CHECK_EQ_UINT(times.count, 2); /* one with data, one without */
    CHECK_EQ_INT(times.watermark_us[1], 10 * SECOND_US);
    add_times((const int64_t[]){9, 11, 26},
              3); /* 9 is late by a watermark from before the restart */
    run_windows(sim, &times);
    read_windows(text, sizeof(text));
    CHECK_EQ_STR(text, "0:2 10:3");
    CHECK_EQ_UINT(times.late_rows, 1);
    drop_tables();
    mr_sim_free(sim);
}

static enum mr_status die_once(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    const char **die_at = arg;

    if (*die_at == NULL || batch_id != 1 || strcmp(point, *die_at) != 0)
        return MR_OK;
    *die_at = NULL;
    return MR_FAIL(err, MR_INTERNAL, "failpoint '%s'", point);
}

TEST(A16_a_batch_without_data_that_dies_emits_its_windows_once)
{
    const char *const points[] = {"planned", "ran", "staged", "published", "committed"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(points); i++) {
        struct mr_sim *sim = mr_sim_new(1);
        struct times times = {0};
        struct mr_query_config config = ticking(&times, 0);
        struct mr_query *query = NULL;
        const char *die_at = points[i];
        struct mr_error err = {0};
        char text[256];

        add_times((const int64_t[]){1, 2, 12, 15}, 4); /* batch 1 has no data and closes [0, 10) */
        config.trigger = MR_TRIGGER_CAUGHT_UP;
        config.failpoint = die_once;
        config.failpoint_arg = &die_at;
        CHECK_OK(mr_query_new(mr_sim_env(sim), window_graph(5 * SECOND_US), &config, &query, &err),
                 &err);
        CHECK_FAILS(mr_query_run(query, &err), &err, MR_INTERNAL, points[i]);
        mr_query_free(query);
        run_windows(sim, &times);
        read_windows(text, sizeof(text));
        CHECK_EQ_STR(text, "0:2");
        drop_tables();
        mr_sim_free(sim);
    }
}

/* ---- Stopping. ---- */

static void stop_soon(void *arg, const struct mr_progress *progress)
{
    struct times *times = arg;

    keep_times(times, progress);
    if (times->count == times->stop_after)
        mr_query_stop(times->query, true);
}

TEST(D2_a_graceful_stop_commits_the_batch_and_returns)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct times times = {.stop_after = 3};
    struct mr_query_config config = ticking(&times, 0);
    struct mr_error err = {0};

    config.on_progress = stop_soon;
    CHECK_OK(mr_query_new(mr_sim_env(sim), memory_graph(), &config, &times.query, &err), &err);
    CHECK_OK(mr_query_run(times.query, &err), &err);
    CHECK(times.count == 3 || times.count == 4); /* a tick that was planned already still runs */
    mr_query_free(times.query);
    drop_tables();
    mr_sim_free(sim);
}

static void stop_main(void *arg)
{
    mr_query_stop(arg, true);
}

TEST(a_stop_from_another_thread_ends_an_idle_query_at_once)
{
    struct mr_query_config config;
    struct mr_query *query = NULL;
    struct mr_thread *thread = NULL;
    struct mr_error err = {0};

    mr_query_config_init(&config);
    config.trigger = MR_TRIGGER_INTERVAL;
    config.interval_us = INT64_C(3600) * SECOND_US;
    CHECK_OK(mr_query_new(mr_env_posix(), memory_graph(), &config, &query, &err), &err);
    CHECK_OK(mr_thread_start("stopper", stop_main, query, &thread, &err), &err);
    CHECK_OK(mr_query_run(query, &err), &err);
    mr_thread_join(thread);
    mr_query_free(query);
    drop_tables();
}
