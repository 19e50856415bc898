/*
 * Receivers under a whole query: faster than the batches, failing, stopped, killed (faults.md
 * A18-A20, A25, G13, G14). The receiver is a counter: it stores the numbers from where the test
 * says on.
 */
#include "support/flow.h"
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "plugins/plugins.h"
#include "wal/checkpoint.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/memory.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

struct counter {
    int64_t next; /* number to store next; the receiver's thread */
    int64_t end;  /* one past the last; then run returns */
    int failures; /* runs that fail before they store anything */
    _Atomic int64_t stored;
    struct mr_query *query;
    uint64_t most_waiting; /* bytes: received and not yet processed, at most */
    uint64_t processed_bytes;
    uint64_t base_bytes; /* received by runs before */
    uint64_t skip_batch; /* already died */
    const char *dir;
    bool stop_early;
};

struct mr_receiver {
    struct counter *counter;
};

static enum mr_status counter_open(const struct mr_receiver_args *args,
                                   struct mr_receiver **ret_receiver, struct mr_error *err)
{
    struct mr_receiver *receiver = calloc(1, sizeof(*receiver));

    MR_UNUSED(err);
    CHECK_NOT_NULL(receiver);
    receiver->counter = args->user;
    *ret_receiver = receiver;
    return MR_OK;
}

static enum mr_status counter_run(struct mr_receiver *receiver, struct mr_receiver_host *host,
                                  struct mr_error *err)
{
    struct counter *counter = receiver->counter;

    if (counter->failures > 0) {
        counter->failures--;
        return MR_FAIL(err, MR_UNAVAILABLE, "not yet");
    }
    while (counter->next < counter->end) {
        char line[32];
        int size = snprintf(line, sizeof(line), "%09lld\n", (long long)counter->next);
        enum mr_status status = mr_receiver_store(host, line, (size_t)size, err);

        if (status != MR_OK && status != MR_STOPPED)
            return status;
        counter->next++; /* what is stored while stopping is kept */
        atomic_store(&counter->stored, counter->next);
        if (status == MR_STOPPED)
            return status;
    }
    return MR_OK;
}

static void counter_free(struct mr_receiver *receiver)
{
    free(receiver);
}

static const struct mr_receiver_ops counter_ops = {.struct_size = sizeof(struct mr_receiver_ops),
                                                   .run = counter_run,
                                                   .free = counter_free,
                                                   .ends = true};

static const struct mr_source_connector counter_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "counter",
    .takes_format = true,
    .receiver_open = counter_open,
    .receiver_ops = &counter_ops,
};

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static struct mr_graph *counter_graph(struct counter *counter)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_schema *schema = NULL;
    struct mr_node *node = NULL;
    struct mr_error err = {0};
    struct mr_source_spec source = {.name = "in", .connector = &counter_connector, .user = counter};
    struct mr_sink_spec sink = {
        .name = "out", .mode = MR_MODE_APPEND, .user = mr_memory_table("out")};

    mr_plugins_register();
    mr_log_set_sink(quiet, NULL);
    CHECK_OK(mr_schema_parse("value VARCHAR", 13, &schema, &err), &err);
    source.declared = source.schema = schema;
    source.format = mr_format_find("text");
    source.options = flow_options("counter", NULL, 0, source.format, "");
    sink.connector = mr_sink_find("memory");
    sink.options =
        flow_options("memory", sink.connector->options, sink.connector->option_count, NULL, "");
    CHECK_OK(mr_graph_source(graph, &source, &node, &err), &err);
    CHECK_OK(mr_graph_sink(graph, &sink, &node, 1, &err), &err);
    mr_schema_unref(schema);
    return graph;
}

static struct mr_query_config receiving(const char *dir)
{
    struct mr_query_config config;

    mr_query_config_init(&config);
    config.name = "receive";
    config.checkpoint_dir = dir;
    config.workers = 1;
    config.block_interval_us = 1000;
    config.restart_delay_us = 1000;
    return config;
}

static enum mr_status run(struct counter *counter, const struct mr_query_config *config,
                          struct mr_metrics *ret_metrics, struct mr_error *err)
{
    enum mr_status status =
        mr_query_new(mr_env_posix(), counter_graph(counter), config, &counter->query, err);

    if (status == MR_OK)
        status = mr_query_run(counter->query, err);
    for (int i = 0; i < MR_METRIC_COUNT && counter->query != NULL && ret_metrics != NULL; i++)
        mr_metric_set(ret_metrics, (enum mr_metric)i,
                      mr_metric_get(mr_query_metrics(counter->query), (enum mr_metric)i));
    mr_query_free(counter->query);
    counter->query = NULL;
    return status;
}

/* The output is 0, 1, 2 ... count - 1: nothing lost, nothing twice, nothing out of order. */
static void check_numbers(int64_t count)
{
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_memory_rows(mr_memory_table("out"), &batch, &err), &err);
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        struct mr_slice text = mr_column_text(mr_batch_column(batch, 0), row);
        char want[32];

        snprintf(want, sizeof(want), "%09lld", (long long)row);
        CHECK_EQ_UINT(text.size_bytes, strlen(want));
        CHECK_EQ_MEM(text.data, want, strlen(want));
    }
    CHECK_EQ_INT(mr_batch_row_count(batch), count);
    mr_batch_unref(batch);
}

enum { LINE_BYTES = 10, QUEUE_BYTES = 1000 };

static void measure(void *arg, const struct mr_progress *progress)
{
    struct counter *counter = arg;
    uint64_t received =
        counter->base_bytes +
        (uint64_t)mr_metric_get(mr_query_metrics(counter->query), MR_METRIC_RECEIVED_BYTES);

    if (received - counter->processed_bytes > counter->most_waiting)
        counter->most_waiting = received - counter->processed_bytes;
    counter->processed_bytes += progress->input_rows * LINE_BYTES;
    if (counter->stop_early)
        mr_query_stop(counter->query, true);
}

TEST(G13_a_receiver_that_is_faster_than_the_batches_waits_and_loses_nothing)
{
    enum { NUMBERS = 3000 };
    struct counter counter = {.end = NUMBERS};
    struct mr_query_config config = receiving(test_path(t, "cp"));
    struct mr_error err = {0};

    config.block_interval_us = 0; /* each line is a block */
    config.receiver_queue_bytes = QUEUE_BYTES;
    config.on_progress = measure;
    config.on_progress_arg = &counter;
    CHECK_OK(run(&counter, &config, NULL, &err), &err);
    check_numbers(NUMBERS);
    CHECK(counter.most_waiting <= QUEUE_BYTES + LINE_BYTES);
    mr_memory_drop("out");
}

TEST(G14_a_receiver_that_fails_is_started_again_after_its_delay_and_counted)
{
    struct counter counter = {.end = 100, .failures = 5};
    const struct mr_query_config config = receiving(test_path(t, "cp"));
    struct mr_metrics metrics = {0};
    struct mr_error err = {0};

    CHECK_OK(run(&counter, &config, &metrics, &err), &err);
    CHECK_EQ_INT(mr_metric_get(&metrics, MR_METRIC_RECEIVER_RESTARTS), 5);
    check_numbers(100);
    mr_memory_drop("out");
}

static void keep_restarts(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    char *text = arg;
    const char *at = strstr(line, "not yet; ");

    (void)level, (void)size_bytes;
    if (at != NULL) /* the line has its end, or not: both are fine here */
        snprintf(text + strlen(text), 512 - strlen(text), "%.*s|", (int)strcspn(at + 9, "\n"),
                 at + 9);
}

TEST(G14_the_delay_grows_to_a_bound_and_the_failures_in_a_row_are_logged)
{
    struct counter counter = {.end = 10, .failures = 6};
    const struct mr_query_config config = receiving(test_path(t, "cp"));
    struct mr_graph *graph = counter_graph(&counter);
    struct mr_error err = {0};
    char text[512] = "";

    mr_log_set_sink(keep_restarts, text);
    CHECK_OK(mr_query_new(mr_env_posix(), graph, &config, &counter.query, &err), &err);
    CHECK_OK(mr_query_run(counter.query, &err), &err);
    mr_query_free(counter.query);
    mr_log_set_sink(quiet, NULL);
    CHECK_EQ_STR(text, "starting again in 1 ms|failure 2 in a row, starting again in 2 ms|"
                       "failure 3 in a row, starting again in 4 ms|"
                       "failure 4 in a row, starting again in 8 ms|"
                       "failure 5 in a row, starting again in 8 ms|"
                       "failure 6 in a row, starting again in 8 ms|");
    mr_memory_drop("out");
}

TEST(A19_A20_a_graceful_stop_runs_what_was_stored_and_the_next_start_goes_on_behind_it)
{
    struct counter counter = {.end = 1000000, .stop_early = true};
    struct mr_query_config config = receiving(test_path(t, "cp"));
    struct mr_error err = {0};

    config.receiver_queue_bytes = 20000;
    config.on_progress = measure;
    config.on_progress_arg = &counter;
    CHECK_OK(run(&counter, &config, NULL, &err), &err);
    check_numbers(atomic_load(&counter.stored));
    CHECK(counter.next < counter.end);
    counter.end = counter.next + 10;
    counter.stop_early = false;
    CHECK_OK(run(&counter, &config, NULL, &err), &err);
    check_numbers(counter.end);
    mr_memory_drop("out");
}

struct crash {
    const char *point;
    int left; /* batches until then */
};

/* Behind the batches of a run: the plan of one more, as the kernel writes it but for its end. */
static void forge_plan(const char *dir, const char *end)
{
    struct mr_batch_log_config config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_checkpoint checkpoint = {0};
    struct mr_batch_log *log = NULL;
    struct mr_plan_source source;
    struct mr_error err = {0};
    struct mr_plan plan;

    CHECK_OK(mr_checkpoint_open(mr_env_posix(), dir, &checkpoint, &err), &err);
    memcpy(config.query_id, checkpoint.query_id, 16);
    CHECK_OK(mr_batch_log_open(mr_env_posix(), checkpoint.log_dir, &config, &log, &recovered, &err),
             &err);
    plan = recovered.last_plan;
    plan.batch_id++;
    plan.late_watermark_us = plan.watermark_us;
    plan.watermark_us = recovered.last_commit.next_watermark_us;
    CHECK_EQ_UINT(plan.source_count, 1);
    source =
        (struct mr_plan_source){plan.sources[0].name, plan.sources[0].end, (char *)(uintptr_t)end};
    plan.sources = &source;
    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    mr_batch_log_close(log);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
}

TEST(H20_a_plan_of_blocks_that_cannot_be_is_refused)
{
    static const char *const ends[] = {"0", "-3", "x", "99999999"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        struct counter counter = {.end = 200};
        char name[16];
        struct mr_query_config config;
        struct mr_error err = {0};

        snprintf(name, sizeof(name), "cp%zu", i);
        config = receiving(test_path(t, name));
        config.trigger = MR_TRIGGER_CAUGHT_UP;
        CHECK_OK(run(&counter, &config, NULL, &err), &err);
        check_numbers(counter.end);
        forge_plan(config.checkpoint_dir, ends[i]);
        CHECK_STATUS(run(&counter, &config, NULL, &err), MR_CORRUPT);
        check_numbers(counter.end);
        mr_memory_drop("out");
    }
}

static enum mr_status crash_at(void *arg, const char *point, uint64_t batch_id,
                               struct mr_error *err)
{
    struct crash *crash = arg;

    MR_UNUSED(batch_id);
    if (strcmp(point, crash->point) != 0 || crash->left-- > 0)
        return MR_OK;
    return MR_FAIL(err, MR_INTERNAL, "failpoint '%s'", point);
}

/* The peer sends again what it was not told is stored: here, what no block has; the log keeps the
 * rest. */
TEST(A18_A19_A25_blocks_that_were_durable_when_the_query_died_are_run_once)
{
    const char *const points[] = {"planned", "ran", "staged", "published", "committed"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(points); i++) {
        struct counter counter = {.end = 400};
        struct mr_query_config config = receiving(test_path(t, points[i]));
        struct mr_metrics metrics = {0};
        struct crash crash = {points[i], 1};
        struct mr_error err = {0};

        config.block_interval_us = 0;
        config.receiver_queue_bytes = 500;
        config.failpoint = crash_at;
        config.failpoint_arg = &crash;
        CHECK_FAILS(run(&counter, &config, &metrics, &err), &err, MR_INTERNAL, points[i]);
        config.failpoint = NULL;
        CHECK_OK(run(&counter, &config, NULL, &err), &err);
        check_numbers(400);
        mr_memory_drop("out");
    }
}

static uint64_t waiting_bytes(struct counter *counter)
{
    return (uint64_t)atomic_load(&counter->stored) * LINE_BYTES - counter->processed_bytes;
}

/* Each batch waits until the receiver has filled its queue behind it; batch 1 then dies. */
static enum mr_status fill_the_queue(void *arg, const char *point, uint64_t batch_id,
                                     struct mr_error *err)
{
    struct counter *counter = arg;

    if (strcmp(point, "ran") != 0 || batch_id < 1 || batch_id > 2 ||
        batch_id == counter->skip_batch)
        return MR_OK;
    while (waiting_bytes(counter) < QUEUE_BYTES)
        sched_yield(); /* the receiver stores until it is full: nothing else can stop it */
    /* as many flushes as the receiver would need to go well beyond the limit */
    for (int i = 0; i < 30; i++)
        CHECK_OK(mr_durable_put(mr_env_posix(), counter->dir, "x", "x", 1, false, err), err);
    if (waiting_bytes(counter) > counter->most_waiting)
        counter->most_waiting = waiting_bytes(counter);
    return batch_id == 2 ? MR_OK : MR_FAIL(err, MR_INTERNAL, "full");
}

TEST(G13_what_the_log_holds_from_before_a_restart_counts_as_waiting)
{
    struct counter counter = {.end = 2000, .dir = t->dir};
    struct mr_query_config config = receiving(test_path(t, "cp"));
    struct mr_error err = {0};

    config.block_interval_us = 0;
    config.receiver_queue_bytes = QUEUE_BYTES;
    config.on_progress = measure;
    config.on_progress_arg = &counter;
    config.failpoint = fill_the_queue;
    config.failpoint_arg = &counter;
    CHECK_FAILS(run(&counter, &config, NULL, &err), &err, MR_INTERNAL, "full");
    counter.base_bytes = (uint64_t)atomic_load(&counter.stored) * LINE_BYTES;
    counter.skip_batch = 1;
    CHECK_OK(run(&counter, &config, NULL, &err), &err);
    check_numbers(2000);
    /* what is stored while stopping is kept, above the limit too */
    CHECK(counter.most_waiting <= QUEUE_BYTES + 4 * LINE_BYTES);
    mr_memory_drop("out");
}

TEST(once_and_until_caught_up_wait_for_the_end_of_what_has_one)
{
    const enum mr_trigger_kind triggers[] = {MR_TRIGGER_CAUGHT_UP, MR_TRIGGER_ONCE};

    for (size_t i = 0; i < MR_ARRAY_SIZE(triggers); i++) {
        struct counter counter = {.end = 300, .failures = 1};
        struct mr_query_config config = receiving(NULL);
        struct mr_metrics metrics = {0};
        struct mr_error err = {0};

        config.trigger = triggers[i];
        config.receiver_queue_bytes = QUEUE_BYTES;
        CHECK_OK(run(&counter, &config, &metrics, &err), &err);
        check_numbers(300);
        if (triggers[i] == MR_TRIGGER_ONCE)
            CHECK_EQ_INT(mr_metric_get(&metrics, MR_METRIC_BATCHES), 1);
        mr_memory_drop("out");
    }
}
