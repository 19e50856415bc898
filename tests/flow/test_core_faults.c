/*
 * Faults of the batch loop that are not crashes: clocks that jump, peers that are away, stops at
 * bad moments, copies of a checkpoint, failing allocations, many workers (faults.md B, C, D, J).
 */
#include "support/evidence.h"
#include "support/flow.h"
#include "support/test.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "env/sim.h"
#include "plugins/plugins.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/memory.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

enum { SECOND_US = 1000000 };

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

/* "1=3 2=5": all rows of the output table in order. */
static void read_rows(char *text, size_t size)
{
    struct mr_batch *batch = NULL;
    size_t at = 0;

    text[0] = '\0';
    if (mr_memory_rows(mr_memory_table("out"), &batch, NULL) != MR_OK)
        return;
    for (int64_t row = 0; row < mr_batch_row_count(batch) && at < size; row++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld=%lld", row > 0 ? " " : "",
                               (long long)mr_column_int(mr_batch_column(batch, 0), row),
                               (long long)mr_column_int(mr_batch_column(batch, 1), row));
    mr_batch_unref(batch);
}

static struct mr_graph *step_by_step(void)
{
    const struct flow_end source = {"in", "memory", "max_steps_per_trigger=1",
                                    mr_memory_table("in")};
    const struct flow_end sink = {"out", "memory", "", mr_memory_table("out")};

    mr_log_set_sink(quiet, NULL);
    return flow_sum_graph(&source, &sink, "sum");
}

static void drop_tables(void)
{
    mr_memory_drop("in");
    mr_memory_drop("out");
}

static struct mr_query_config caught_up(const char *dir)
{
    struct mr_query_config config;

    mr_query_config_init(&config);
    config.name = "faults";
    config.checkpoint_dir = dir;
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 1;
    return config;
}

static enum mr_status run(struct mr_env *env, const struct mr_query_config *config,
                          struct mr_error *err)
{
    struct mr_query *query = NULL;
    enum mr_status status = mr_query_new(env, step_by_step(), config, &query, err);

    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

/* ---- Progress. ---- */

struct seen {
    char documents[4][2048];
    size_t count;
    char committed[32];
};

static void keep_document(void *arg, const struct mr_progress *progress)
{
    struct seen *seen = arg;

    if (seen->count < MR_ARRAY_SIZE(seen->documents))
        snprintf(seen->documents[seen->count++], sizeof(seen->documents[0]), "%s", progress->json);
}

static enum mr_status note_committed(void *arg, const char *point, uint64_t batch_id,
                                     struct mr_error *err)
{
    struct seen *seen = arg;
    size_t at = strlen(seen->committed);

    MR_UNUSED(err);
    if (strcmp(point, "committed") == 0)
        snprintf(seen->committed + at, sizeof(seen->committed) - at, "%d ", (int)batch_id);
    return MR_OK;
}

TEST(a_batch_reports_its_own_range_though_the_next_one_is_planned_already)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_query_config config = caught_up("/cp");
    struct seen seen = {.count = 0};
    struct mr_error err = {0};

    for (int64_t i = 0; i < 3; i++)
        add_pair("in", 1, i);
    config.on_progress = keep_document;
    config.on_progress_arg = &seen;
    config.failpoint = note_committed;
    config.failpoint_arg = &seen;
    CHECK_OK(run(mr_sim_env(sim), &config, &err), &err);
    CHECK_EQ_UINT(seen.count, 3);
    CHECK_CONTAINS(seen.documents[0], "\"startOffset\":null,\"endOffset\":1");
    CHECK_CONTAINS(seen.documents[1], "\"startOffset\":1,\"endOffset\":2");
    CHECK_CONTAINS(seen.documents[2], "\"startOffset\":2,\"endOffset\":3");
    CHECK_EQ_STR(seen.committed, "0 1 2 ");
    drop_tables();
    mr_sim_free(sim);
}

TEST(the_newest_progress_document_is_there_without_a_listener)
{
    struct mr_sim *sim = mr_sim_new(1);
    const struct mr_query_config config = caught_up(NULL);
    struct mr_query *query = NULL;
    struct mr_error err = {0};
    char *text;

    add_pair("in", 1, 1);
    add_pair("in", 2, 2);
    CHECK_OK(mr_query_new(mr_sim_env(sim), step_by_step(), &config, &query, &err), &err);
    CHECK_NULL(mr_query_last_progress(query));
    CHECK_OK(mr_query_run(query, &err), &err);
    text = mr_query_last_progress(query);
    CHECK_NOT_NULL(text);
    CHECK_CONTAINS(text, "\"batchId\":1");
    CHECK_CONTAINS(text, "\"startOffset\":1,\"endOffset\":2");
    CHECK_CONTAINS(text, "\"numInputRows\":1");
    mr_text_free(text);
    mr_query_free(query);
    drop_tables();
    mr_sim_free(sim);
}

/* ---- An environment with a clock of the test's own. Queries in it have no checkpoint. ---- */

struct strange_env {
    struct mr_env env;
    struct mr_env *inner;
    int64_t wall_offset_us;
    uint64_t calls;   /* of the clocks, by the thread of the test */
    pthread_t driver; /* that thread */
    uint64_t stop_at; /* the call during which a stop is asked; 0 = never */
    struct mr_query *query;
};

static void count_call(struct strange_env *strange)
{
    if (pthread_equal(strange->driver, pthread_self()) == 0)
        return; /* somebody watches how long batches take */
    if (++strange->calls == strange->stop_at)
        mr_query_stop(strange->query, true);
}

static int64_t strange_wall_us(struct mr_env *env)
{
    struct strange_env *strange = (struct strange_env *)env;

    count_call(strange);
    return mr_env_wall_us(strange->inner) + strange->wall_offset_us;
}

static int64_t strange_monotonic_ns(struct mr_env *env)
{
    struct strange_env *strange = (struct strange_env *)env;

    count_call(strange);
    return mr_env_monotonic_ns(strange->inner);
}

static void strange_sleep_ns(struct mr_env *env, int64_t duration_ns)
{
    mr_env_sleep_ns(((struct strange_env *)env)->inner, duration_ns);
}

static void strange_random(struct mr_env *env, void *data, size_t size)
{
    mr_env_random(((struct strange_env *)env)->inner, data, size);
}

static const struct mr_env_ops real_time_ops = {
    .struct_size = sizeof(struct mr_env_ops),
    .wall_us = strange_wall_us,
    .monotonic_ns = strange_monotonic_ns,
    .sleep_ns = strange_sleep_ns,
    .random = strange_random,
};

static const struct mr_env_ops virtual_time_ops = {
    .struct_size = sizeof(struct mr_env_ops),
    .wall_us = strange_wall_us,
    .monotonic_ns = strange_monotonic_ns,
    .sleep_ns = strange_sleep_ns,
    .random = strange_random,
    .virtual_time = true,
};

static void count_from_here(void *arg, const struct mr_progress *progress)
{
    struct strange_env *strange = arg;

    MR_UNUSED(progress);
    strange->calls = 0;
}

/* Between the end of a batch and the wait for the next trigger the driver looks at the clocks four
 * times (a fifth time under the lock that mr_query_stop takes). */
TEST(D2_a_stop_between_the_look_at_it_and_the_wait_is_not_slept_through)
{
    for (uint64_t stop_at = 1; stop_at <= 4; stop_at++) {
        struct strange_env strange = {
            .env = {&real_time_ops}, .inner = mr_env_posix(), .driver = pthread_self()};
        struct mr_query_config config = caught_up(NULL);
        struct mr_error err = {0};
        int64_t began_ns = mr_env_monotonic_ns(strange.inner);

        config.trigger = MR_TRIGGER_INTERVAL;
        config.interval_us = INT64_C(3600) * SECOND_US;
        config.on_progress = count_from_here;
        config.on_progress_arg = &strange;
        strange.stop_at = 1000 + stop_at;
        CHECK_OK(mr_query_new(&strange.env, step_by_step(), &config, &strange.query, &err), &err);
        strange.stop_at = stop_at;
        strange.calls = 1000; /* not before the first batch */
        add_pair("in", 1, 1);
        CHECK_OK(mr_query_run(strange.query, &err), &err);
        CHECK_EQ_UINT(strange.calls >= stop_at, 1);
        CHECK(mr_env_monotonic_ns(strange.inner) - began_ns < INT64_C(60000000000));
        mr_query_free(strange.query);
        drop_tables();
    }
}

struct jump {
    struct strange_env *strange;
    int64_t by_us;
    uint64_t after_batch;
    int64_t times_us[8];
    size_t count;
};

static void jump_once(void *arg, const struct mr_progress *progress)
{
    struct jump *jump = arg;

    add_pair("in", 1, 1);
    if (progress->batch_id == jump->after_batch)
        jump->strange->wall_offset_us += jump->by_us;
    if (jump->count < MR_ARRAY_SIZE(jump->times_us))
        jump->times_us[jump->count++] = progress->batch_time_us;
}

/* Six batches, a second apart, with a jump of the wall clock after the third. Returns the
 * seconds. */
static int64_t run_with_jump(enum mr_trigger_kind trigger, int64_t by_us, struct jump *jump)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct strange_env strange = {
        .env = {&virtual_time_ops}, .inner = mr_sim_env(sim), .driver = pthread_self()};
    struct mr_query_config config = caught_up(NULL);
    struct mr_error err = {0};
    int64_t began_ns = mr_env_monotonic_ns(strange.inner), seconds;

    *jump = (struct jump){&strange, by_us, 2, {0}, 0};
    config.trigger = trigger;
    config.interval_us = SECOND_US;
    config.batches_max = 6;
    config.on_progress = jump_once;
    config.on_progress_arg = jump;
    add_pair("in", 1, 1);
    CHECK_OK(run(&strange.env, &config, &err), &err);
    seconds = (mr_env_monotonic_ns(strange.inner) - began_ns) / 1000000000;
    for (size_t i = 1; i < jump->count; i++)
        CHECK(jump->times_us[i] > jump->times_us[i - 1]);
    drop_tables();
    mr_sim_free(sim);
    return seconds;
}

TEST(D5_a_clock_that_is_set_back_neither_stops_the_triggers_nor_the_batch_times)
{
    const int64_t back_us[] = {-INT64_C(3600) * SECOND_US, -INT64_C(315360000) * SECOND_US};
    struct jump jump;

    for (size_t i = 0; i < MR_ARRAY_SIZE(back_us); i++) {
        CHECK(run_with_jump(MR_TRIGGER_INTERVAL, back_us[i], &jump) <= 8);
        CHECK_EQ_UINT(jump.count, 6);
        CHECK(run_with_jump(MR_TRIGGER_TICK, back_us[i], &jump) <= 8);
        CHECK_EQ_UINT(jump.count, 6);
        CHECK_EQ_INT(jump.times_us[5] - jump.times_us[0], 5 * SECOND_US);
    }
}

TEST(D5_a_clock_that_is_set_forward_fires_an_interval_trigger_once)
{
    struct jump jump;
    int64_t seconds = run_with_jump(MR_TRIGGER_INTERVAL, INT64_C(3600) * SECOND_US, &jump);

    CHECK(seconds >= 4); /* one trigger of the six came early */
    CHECK_EQ_UINT(jump.count, 6);
}

/* ---- Peers that are away. ---- */

struct away {
    struct mr_query **query;
    int failures;
};

static enum mr_status be_away(void *arg, const char *point, uint64_t batch_id, struct mr_error *err)
{
    struct away *away = arg;

    if (strcmp(point, "ran") != 0 || batch_id != 1 || away->failures == 0)
        return MR_OK;
    if (--away->failures == 0)
        mr_query_stop(*away->query, true);
    return MR_FAIL(err, MR_UNAVAILABLE, "nobody answers");
}

TEST(D2_a_stop_while_a_peer_is_away_leaves_the_batch_to_the_next_start)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_query_config config = caught_up("/cp");
    struct mr_query *query = NULL;
    struct away away = {&query, 3};
    struct mr_error err = {0};
    char rows[64];

    for (int64_t i = 1; i <= 3; i++)
        add_pair("in", 1, i);
    config.failpoint = be_away;
    config.failpoint_arg = &away;
    CHECK_OK(mr_query_new(mr_sim_env(sim), step_by_step(), &config, &query, &err), &err);
    CHECK_OK(mr_query_run(query, &err), &err);
    mr_query_free(query);
    read_rows(rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=1");
    config.failpoint = NULL;
    CHECK_OK(run(mr_sim_env(sim), &config, &err), &err);
    read_rows(rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=1 1=3 1=6");
    drop_tables();
    mr_sim_free(sim);
}

static enum mr_status always_away(void *arg, const char *point, uint64_t batch_id,
                                  struct mr_error *err)
{
    MR_UNUSED(arg);
    MR_UNUSED(batch_id);
    return strcmp(point, "ran") == 0 ? MR_FAIL(err, MR_UNAVAILABLE, "nobody answers") : MR_OK;
}

TEST(a_peer_that_stays_away_ends_the_query_when_its_budget_is_spent_and_not_before)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_query_config config = caught_up("/cp");
    struct mr_error err = {0};
    int64_t began_ns = mr_env_monotonic_ns(mr_sim_env(sim)), seconds;

    add_pair("in", 1, 1);
    config.failpoint = always_away;
    config.unavailable_us = 30 * SECOND_US;
    CHECK_FAILS(run(mr_sim_env(sim), &config, &err), &err, MR_UNAVAILABLE, "nobody answers");
    seconds = (mr_env_monotonic_ns(mr_sim_env(sim)) - began_ns) / 1000000000;
    CHECK(seconds >= 30 && seconds <= 36);
    CHECK_EQ_INT(mr_status_exit_code(MR_UNAVAILABLE), 69);
    drop_tables();
    mr_sim_free(sim);
}

/* ---- Old copies. ---- */

TEST(B7_an_output_that_is_one_batch_ahead_of_its_checkpoint_is_refused)
{
    struct mr_sim *sim = mr_sim_new(1);
    const struct mr_query_config config = caught_up("/cp");
    struct mr_query *query = NULL;
    struct mr_error err = {0};
    char id[64], rows[64];

    add_pair("in", 1, 1);
    CHECK_OK(mr_query_new(mr_sim_env(sim), step_by_step(), &config, &query, &err), &err);
    CHECK_OK(mr_query_run(query, &err), &err);
    snprintf(id, sizeof(id), "%s", mr_query_id(query));
    mr_query_free(query);
    /* what a newer copy of the checkpoint had published: batch 1 */
    CHECK_OK(mr_memory_publish(mr_memory_table("out"), id, 1, false, NULL, 0, &err), &err);
    add_pair("in", 5, 5);
    CHECK_FAILS(run(mr_sim_env(sim), &config, &err), &err, MR_CONFIG, "older copy");
    read_rows(rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=1");
    drop_tables();
    mr_sim_free(sim);
}

/* ---- Files on the simulated disk. ---- */

static void put_inputs(struct mr_env *env, int files)
{
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(env, "/in", &err), &err);
    for (int i = 0; i < files; i++) {
        char name[32], text[128];
        int size = snprintf(text, sizeof(text), "{\"k\": 1, \"v\": %d}\n{\"k\": %d, \"v\": 100}\n",
                            i + 1, i + 10);

        snprintf(name, sizeof(name), "f%02d.json", i);
        if (mr_durable_put(env, "/in", name, text, (size_t)size, true, &err) != MR_OK)
            continue; /* it is there from before */
        mr_env_sleep_ns(env, 1000000);
    }
}

/* fail_nth: that allocation from the opening of the query on fails; 0 = none. */
static enum mr_status run_files(struct mr_sim *sim, unsigned workers, const char *limit,
                                uint64_t fail_nth, bool forever, struct mr_error *err)
{
    struct mr_graph *graph;
    char options[64];
    const struct flow_end source = {"in", "file", options, NULL};
    const struct flow_end sink = {"out", "file", "path=/out", NULL};
    struct mr_query_config config = caught_up("/cp");
    struct mr_query *query = NULL;
    enum mr_status status;

    snprintf(options, sizeof(options), "path=/in%s", limit);
    mr_log_set_sink(quiet, NULL);
    config.workers = workers;
    config.parallel_min_bytes = 1;
    config.snapshot_every = 2;
    graph = flow_sum_graph(&source, &sink, "sum");
    mr_alloc_fail_at(fail_nth, forever);
    status = mr_query_new(mr_sim_env(sim), graph, &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    mr_alloc_fail_at(0, false);
    return status;
}

struct listing {
    char *names[64];
    size_t count;
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct listing *listing = arg;

    if (kind != MR_KIND_FILE || name[0] == '.' || listing->count == MR_ARRAY_SIZE(listing->names))
        return true;
    listing->names[listing->count++] = strdup(name);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names and contents of what `ls` shows. */
static char *read_dir(struct mr_sim *sim, const char *dir)
{
    struct listing listing = {.count = 0};
    struct mr_buf text = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_env_list(mr_sim_env(sim), dir, add_name, &listing, &err), &err);
    qsort(listing.names, listing.count, sizeof(char *), compare_names);
    for (size_t i = 0; i < listing.count; i++) {
        char path[128], *data = NULL;
        size_t size = 0;

        snprintf(path, sizeof(path), "%s/%s", dir, listing.names[i]);
        CHECK_OK(mr_durable_get(mr_sim_env(sim), path, 1 << 20, &data, &size, &err), &err);
        mr_buf_printf(&text, "%s:\n", listing.names[i]);
        mr_buf_add(&text, data, size);
        mr_text_free(data);
        free(listing.names[i]);
    }
    return mr_buf_take(&text);
}

static char *read_output(struct mr_sim *sim)
{
    return read_dir(sim, "/out");
}

TEST(D15_I2_the_same_plan_gives_the_same_files_with_one_worker_and_with_many)
{
    const unsigned workers[] = {1, 2, 4, 16};
    char *expected = NULL;

    for (size_t i = 0; i < MR_ARRAY_SIZE(workers); i++) {
        struct mr_sim *sim = mr_sim_new(1);
        struct mr_error err = {0};
        char *output;

        put_inputs(mr_sim_env(sim), 24);
        CHECK_OK(run_files(sim, workers[i], " max_files_per_trigger=8", 0, false, &err), &err);
        output = read_output(sim);
        CHECK_CONTAINS(output, "{\"k\":1,\"v\":300}");
        if (expected != NULL)
            CHECK_EQ_STR(output, expected);
        mr_text_free(expected);
        expected = output;
        CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
        mr_sim_free(sim);
    }
    mr_text_free(expected);
}

/* A query that ran before, and two files that are new since. */
static struct mr_sim *sim_with_a_past(void)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_error err = {0};

    put_inputs(mr_sim_env(sim), 1);
    CHECK_OK(run_files(sim, 1, "", 0, false, &err), &err);
    put_inputs(mr_sim_env(sim), 3);
    return sim;
}

/* One allocation fails, or all from there on; whatever comes of it, the next start has it all. */
static bool fail_one_allocation(uint64_t nth, bool forever, unsigned workers, const char *expected)
{
    struct mr_sim *sim = sim_with_a_past();
    struct mr_error err = {0};
    enum mr_status status;
    char *output;

    status = run_files(sim, workers, " max_files_per_trigger=1", nth, forever, &err);
    if (status != MR_OK && status != MR_NOMEM)
        FAIL("allocation %llu: not reported as memory: %s", (unsigned long long)nth, err.text);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    if (status != MR_OK)
        CHECK_OK(run_files(sim, 1, " max_files_per_trigger=1", 0, false, &err), &err);
    output = read_output(sim);
    if (strcmp(output, expected) != 0)
        FAIL("allocation %llu: wrong output:\n%s", (unsigned long long)nth, output);
    mr_text_free(output);
    mr_sim_free(sim);
    return status != MR_OK;
}

static void fail_all_allocations(bool forever, unsigned workers)
{
    struct mr_sim *sim = sim_with_a_past();
    struct mr_error err = {0};
    uint64_t failures = 0, quiet_ones = 0;
    char *expected;

    CHECK_OK(run_files(sim, workers, " max_files_per_trigger=1", 0, false, &err), &err);
    expected = read_output(sim);
    mr_sim_free(sim);
    /* Some failures are survived (a report that is not made); enough of them in a row: past the
     * end. */
    for (uint64_t nth = 1; quiet_ones < 64; nth += test_quick() ? 1 + nth / 50 : 1 + nth / 400) {
        bool failed = fail_one_allocation(nth, forever, workers, expected);

        failures += failed;
        quiet_ones = failed ? 0 : quiet_ones + 1;
    }
    CHECK(failures > 50);
    evidence_add("failure-loops", "allocations", failures);
    mr_text_free(expected);
}

TEST(C11_any_allocation_of_a_query_may_fail_once)
{
    fail_all_allocations(false, 1);
}

TEST(C11_any_allocation_of_a_query_may_be_the_last)
{
    fail_all_allocations(true, 1);
}

TEST(C11_any_allocation_of_a_query_with_workers_may_fail)
{
    fail_all_allocations(false, 4);
}

/* ---- Two sources, two sinks; killed at every operation. ---- */

static enum mr_status pass_on(void *op, void *task, const struct mr_batch_info *info,
                              const struct mr_batch *batch, struct mr_output *out,
                              struct mr_error *err)
{
    (void)op, (void)task, (void)info;
    return mr_output_emit(out, batch, err);
}

static struct mr_node *unite(struct mr_graph *graph, struct mr_node *const *inputs,
                             const struct mr_schema *schema)
{
    static const struct mr_map_ops pass_ops = {
        .struct_size = sizeof(pass_ops), .kind = "union", .apply = pass_on};
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_graph_map(graph, "both", inputs, 2, schema, &pass_ops, NULL, &node, &err), &err);
    return node;
}

static enum mr_status run_two(struct mr_sim *sim, struct mr_error *err)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_schema *schema = flow_pair_schema();
    struct mr_query_config config = caught_up("/cp");
    struct mr_query *query = NULL;
    struct mr_node *inputs[2], *sum;
    enum mr_status status;

    mr_plugins_register();
    mr_log_set_sink(quiet, NULL);
    for (int i = 0; i < 2; i++) {
        const struct mr_format *json = mr_format_find("json");
        struct mr_source_spec source = {.name = i == 0 ? "in0" : "in1",
                                        .connector = mr_source_find("file"),
                                        .declared = schema,
                                        .schema = schema,
                                        .format = json};

        source.options =
            flow_options("file", source.connector->options, source.connector->option_count, json,
                         i == 0 ? "path=/in/f*[02].json max_files_per_trigger=1"
                                : "path=/in/f*[13].json max_files_per_trigger=1");
        CHECK_OK(mr_graph_source(graph, &source, &inputs[i], err), err);
    }
    sum = flow_add_sum(graph, unite(graph, inputs, schema), "sum");
    for (int i = 0; i < 2; i++) {
        const struct mr_format *json = mr_format_find("json");
        struct mr_sink_spec sink = {.name = i == 0 ? "out0" : "out1",
                                    .connector = mr_sink_find("file"),
                                    .format = json,
                                    .mode = MR_MODE_UPDATE};

        sink.options = flow_options("file", sink.connector->options, sink.connector->option_count,
                                    json, i == 0 ? "path=/out" : "path=/out1");
        CHECK_OK(mr_graph_sink(graph, &sink, &sum, 1, err), err);
    }
    mr_schema_unref(schema);
    status = mr_query_new(mr_sim_env(sim), graph, &config, &query, err);
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

static void check_both(struct mr_sim *sim, const char *expected, uint64_t op)
{
    const char *const dirs[] = {"/out", "/out1"};

    for (size_t i = 0; i < 2; i++) {
        char *output = read_dir(sim, dirs[i]);

        if (strcmp(output, expected) != 0)
            FAIL("killed after %llu operations, '%s' has:\n%s", (unsigned long long)op, dirs[i],
                 output);
        mr_text_free(output);
    }
}

TEST(A15_A24_a_kill_at_any_operation_leaves_two_sources_and_two_sinks_in_step)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_error err = {0};
    uint64_t from;
    char *expected;

    put_inputs(mr_sim_env(sim), 4);
    from = mr_sim_op_count(sim);
    CHECK_OK(run_two(sim, &err), &err);
    expected = read_dir(sim, "/out");
    CHECK_CONTAINS(expected, "{\"k\":1,\"v\":10}");
    check_both(sim, expected, 0);
    for (uint64_t op = from; op <= mr_sim_op_count(sim); op += test_quick() ? 3 : 1) {
        struct mr_sim *after = mr_sim_kill(sim, op);

        CHECK_OK(run_two(after, &err), &err);
        check_both(after, expected, op);
        CHECK_EQ_UINT(mr_sim_open_count(after), 0);
        mr_sim_free(after);
    }
    mr_text_free(expected);
    mr_sim_free(sim);
}

/* ---- The disk answers with an error. ---- */

TEST(C4_C5_an_io_error_of_any_call_ends_the_query_and_the_next_start_goes_on)
{
    struct mr_sim *sim = sim_with_a_past();
    struct mr_error err = {0};
    uint64_t failures = 0, nth = 1;
    char *expected;

    CHECK_OK(run_files(sim, 1, " max_files_per_trigger=1", 0, false, &err), &err);
    expected = read_output(sim);
    mr_sim_free(sim);
    for (bool more = true; more; nth++) {
        enum mr_status status;
        uint64_t calls;
        char *output;

        sim = sim_with_a_past();
        calls = mr_sim_call_count(sim);
        mr_sim_fail_at(sim, nth, 5 /* EIO */, false);
        status = run_files(sim, 1, " max_files_per_trigger=1", 0, false, &err);
        mr_sim_fail_at(sim, 0, 0, false);
        more = mr_sim_call_count(sim) - calls >= nth;
        failures += status != MR_OK;
        if (status != MR_OK && mr_status_exit_code(status) != 74)
            FAIL("call %llu: exit code %d: %s", (unsigned long long)nth,
                 mr_status_exit_code(status), err.text);
        CHECK_OK(run_files(sim, 1, " max_files_per_trigger=1", 0, false, &err), &err);
        output = read_output(sim);
        CHECK_EQ_STR(output, expected);
        mr_text_free(output);
        mr_sim_free(sim);
    }
    CHECK(failures > 20);
    evidence_add("failure-loops", "file-calls", nth - 1);
    mr_text_free(expected);
}

static volatile sig_atomic_t interruptions;

static void interrupt(int number)
{
    MR_UNUSED(number);
    interruptions = interruptions + 1;
}

TEST(C8_a_timer_that_interrupts_a_thousand_times_a_second_changes_nothing)
{
    const struct itimerval fast = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = interrupt}, before;
    struct mr_query_config config = caught_up(test_path(t, "cp"));
    struct mr_error err = {0};
    enum mr_status status;
    struct mr_batch *rows = NULL;

    config.batches_max = 200;
    for (int64_t i = 0; i < 200; i++)
        add_pair("in", 1, 1);
    CHECK(sigaction(SIGALRM, &action, &before) == 0);
    CHECK(setitimer(ITIMER_REAL, &fast, NULL) == 0);
    status = run(mr_env_posix(), &config, &err);
    CHECK(setitimer(ITIMER_REAL, &off, NULL) == 0);
    CHECK(sigaction(SIGALRM, &before, NULL) == 0);
    CHECK_OK(status, &err);
    CHECK(interruptions > 0);
    CHECK_OK(mr_memory_rows(mr_memory_table("out"), &rows, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(rows), 200);
    CHECK_EQ_INT(mr_column_int(mr_batch_column(rows, 1), 199), 200);
    mr_batch_unref(rows);
    drop_tables();
}

/* ---- Many starts. ---- */

struct usage {
    struct mr_env *env;
    const char *dir;
    uint64_t files;
    uint64_t bytes;
};

static bool add_usage(const char *name, enum mr_file_kind kind, void *arg)
{
    struct usage *usage = arg;
    struct mr_file_info info;
    struct mr_error err = {0};
    char path[256];

    if (kind != MR_KIND_FILE)
        return true;
    snprintf(path, sizeof(path), "%s/%s", usage->dir, name);
    CHECK_OK(mr_env_path_info(usage->env, path, false, &info, &err), &err);
    usage->files++;
    usage->bytes += info.size_bytes;
    return true;
}

TEST(J13_a_thousand_kills_and_starts_keep_the_log_and_the_start_bounded)
{
    enum { STARTS = 1000, WARM = 300 };
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_query_config config = caught_up("/cp");
    uint64_t calls_warm = 0, calls_last = 0, bytes_warm = 0;
    struct mr_error err = {0};
    char rows[32];

    config.segment_bytes = 65536;
    for (int i = 1; i <= STARTS; i++) {
        struct usage usage = {mr_sim_env(sim), "/cp/log", 0, 0};
        struct mr_query *query = NULL;
        uint64_t calls = mr_sim_call_count(sim);

        add_pair("in", 1, 1);
        CHECK_OK(mr_query_new(mr_sim_env(sim), step_by_step(), &config, &query, &err), &err);
        calls_last = mr_sim_call_count(sim) - calls;
        CHECK_OK(mr_query_run(query, &err), &err);
        mr_query_free(query);
        CHECK_OK(mr_env_list(usage.env, usage.dir, add_usage, &usage, &err), &err);
        if (i == WARM) {
            calls_warm = calls_last;
            bytes_warm = usage.bytes;
        }
        if (i > WARM) {
            CHECK(calls_last <= calls_warm + calls_warm / 2 + 32);
            CHECK(usage.bytes <= 2 * bytes_warm + 3 * config.segment_bytes);
        }
    }
    mr_memory_drop("out"); /* so that only the last sum is in it: all starts together */
    add_pair("in", 1, 1);
    CHECK_OK(run(mr_sim_env(sim), &config, &err), &err);
    read_rows(rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=1001");
    drop_tables();
    mr_sim_free(sim);
}
