/*
 * Listeners: which events, in which order, on which thread, and what a stop makes of them;
 * statistics and the report of delays.
 */
#include "dstream/monitor.h"
#include "env/sim.h"
#include "support/dstream.h"

#include "base/log.h"

#include <millrace/ext/durable.h>
#include <millrace/receiver.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

enum { TEXT_MAX = 65536 };

/* Everything that was delivered, as text: "submitted 1000; started 1000; ...". */
struct recorder {
    char text[TEXT_MAX];
    struct mr_batch_report last; /* completed; without what it points to */
    char failures[1024];         /* "0=text;" of the last batch completed */
    atomic_int count;
};

__attribute__((format(printf, 2, 3))) static void note(struct recorder *recorder,
                                                       const char *format, ...)
{
    size_t used = strlen(recorder->text);
    va_list args;

    va_start(args, format);
    vsnprintf(recorder->text + used, TEXT_MAX - used, format, args);
    va_end(args);
    atomic_fetch_add(&recorder->count, 1);
}

static void note_start(void *arg, int64_t time_ms)
{
    note(arg, "start %" PRId64 "; ", time_ms);
}

static void note_submitted(void *arg, const struct mr_batch_report *batch)
{
    CHECK_EQ_INT(batch->scheduling_delay_ms, -1);
    CHECK_EQ_INT(batch->processing_delay_ms, -1);
    CHECK_EQ_INT(batch->total_delay_ms, -1);
    note(arg, "submitted %" PRId64 "; ", batch->batch_time_ms);
}

static void note_started(void *arg, const struct mr_batch_report *batch)
{
    CHECK(batch->scheduling_delay_ms >= 0);
    CHECK_EQ_INT(batch->processing_delay_ms, -1);
    CHECK_EQ_INT(batch->total_delay_ms, -1);
    note(arg, "started %" PRId64 "; ", batch->batch_time_ms);
}

static void note_completed(void *arg, const struct mr_batch_report *batch)
{
    struct recorder *recorder = arg;

    CHECK(batch->scheduling_delay_ms >= 0);
    CHECK(batch->processing_delay_ms >= 0);
    CHECK_EQ_INT(batch->total_delay_ms, batch->scheduling_delay_ms + batch->processing_delay_ms);
    CHECK_EQ_INT(batch->total_delay_ms, batch->processing_ended_ms - batch->submitted_ms);
    note(arg, "completed %" PRId64 "; ", batch->batch_time_ms);
    recorder->last = *batch;
    recorder->failures[0] = '\0';
    for (size_t i = 0; i < batch->output_count; i++) {
        size_t used = strlen(recorder->failures);

        if (batch->outputs[i].failure != NULL)
            snprintf(recorder->failures + used, sizeof(recorder->failures) - used, "%u=%s;",
                     batch->outputs[i].id, batch->outputs[i].failure);
    }
}

static void note_output_started(void *arg, int64_t batch_time_ms,
                                const struct mr_output_info *output)
{
    CHECK(output->started_ms >= 0);
    CHECK_EQ_INT(output->ended_ms, -1);
    note(arg, "%u of %" PRId64 " started; ", output->id, batch_time_ms);
}

static void note_output_completed(void *arg, int64_t batch_time_ms,
                                  const struct mr_output_info *output)
{
    CHECK(output->ended_ms >= output->started_ms);
    note(arg, "%u of %" PRId64 " %s; ", output->id, batch_time_ms,
         output->failure != NULL ? "failed" : "completed");
}

static void record_in(struct mr_context *ctx, struct recorder *recorder)
{
    struct mr_listener listener = {
        .struct_size = sizeof(listener),
        .streaming_started = note_start,
        .batch_submitted = note_submitted,
        .batch_started = note_started,
        .batch_completed = note_completed,
        .output_started = note_output_started,
        .output_completed = note_output_completed,
        .arg = recorder,
    };

    mr_context_add_listener(ctx, &listener);
}

static struct recorder *recorder_new(void)
{
    return calloc(1, sizeof(struct recorder));
}

static enum mr_status nothing(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                              struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)arg;
    (void)err;
    return MR_OK;
}

/* ---- batches and outputs ---- */

TEST(V271_outputs_are_numbered_and_told_in_the_order_of_their_registration)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct recorder *recorder = recorder_new();

    ds_input(d, "1,2 | 3");
    record_in(ds_begin(d, MR_SECONDS(1), NULL), recorder);
    for (int i = 0; i < 3; i++)
        mr_foreach_rdd(ds_stream(d), nothing, NULL);
    ds_must_run(d, 1);
    CHECK_CONTAINS(recorder->text, "submitted");
    CHECK_CONTAINS(strstr(recorder->text, "; ") + 2, "submitted");
    CHECK_EQ_UINT(recorder->last.output_count, 3);
    {
        char expected[512];
        int64_t at = recorder->last.batch_time_ms;

        snprintf(expected, sizeof(expected),
                 "submitted %lld; started %lld; 0 of %lld started; 0 of %lld completed; "
                 "1 of %lld started; 1 of %lld completed; 2 of %lld started; 2 of %lld "
                 "completed; completed %lld; ",
                 (long long)at, (long long)at, (long long)at, (long long)at, (long long)at,
                 (long long)at, (long long)at, (long long)at, (long long)at);
        CHECK_EQ_STR(strstr(recorder->text, "; ") + 2, expected);
    }
    ds_free(d);
    free(recorder);
}

static void keep_description(void *arg, int64_t batch_time_ms, const struct mr_output_info *output)
{
    size_t used = strlen(arg);

    (void)batch_time_ms;
    snprintf((char *)arg + used, 512 - used, "%s, %s; ", output->name, output->description);
}

TEST(an_output_says_what_stream_it_is_of)
{
    struct ds *d = ds_new(t, "value BIGINT");
    char text[512] = "", expected[512];
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .output_started = keep_description, .arg = text};
    struct mr_dstream *input;
    int line;

    ds_input(d, "1");
    mr_context_add_listener(ds_begin(d, MR_SECONDS(1), NULL), &listener);
    input = ds_stream(d);
    mr_foreach_rdd(input, nothing, NULL);
    line = __LINE__ + 1;
    mr_foreach_rdd(mr_map(input, MR_SQL("value + 1")), nothing, NULL);
    snprintf(expected, sizeof(expected),
             "foreach_rdd-0, memory-0; foreach_rdd-1, test_dstream_listener.c:%d: map 'map-0'; ",
             line);
    ds_must_run(d, 1);
    CHECK_EQ_STR(text, expected);
    ds_free(d);
}

static enum mr_status fail_with(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    return MR_FAIL(err, MR_USER, "%s", (const char *)arg);
}

TEST(V272_an_output_that_fails_is_told_with_its_text_and_ends_the_context)
{
    static char text[] = "no room", other[] = "no time";

    for (int failing = 1; failing <= 2; failing++) {
        struct ds *d = ds_new(t, "value BIGINT");
        struct recorder *recorder = recorder_new();
        struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
        struct mr_error err;

        ds_input(d, "1");
        record_in(ctx, recorder);
        mr_context_set(ctx, "retries", "0");
        mr_foreach_rdd(ds_stream(d), fail_with, text);
        mr_foreach_rdd(ds_stream(d), failing == 2 ? fail_with : nothing, other);
        CHECK_FAILS(ds_run(d, 1, &err), &err, MR_USER, "no room");
        CHECK_CONTAINS(recorder->failures, "0=");
        CHECK_CONTAINS(recorder->failures, "no room");
        /* the batch has one outcome: the second output is not begun */
        CHECK(strstr(recorder->failures, "1=") == NULL);
        CHECK_CONTAINS(recorder->text, "0 of");
        CHECK_CONTAINS(recorder->text, " failed; completed");
        ds_free(d);
        free(recorder);
    }
}

static enum mr_status fail_once(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    int *tries = arg;

    (void)rdd;
    (void)batch_time_ms;
    return (*tries)++ == 0 ? MR_FAIL(err, MR_USER, "not yet") : MR_OK;
}

TEST(an_output_that_succeeds_the_second_time_has_no_failure_in_the_end)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct recorder *recorder = recorder_new();
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    int tries = 0;

    ds_input(d, "1");
    record_in(ctx, recorder);
    mr_foreach_rdd(ds_stream(d), fail_once, &tries);
    ds_must_run(d, 1);
    CHECK_EQ_INT(tries, 2);
    CHECK_EQ_STR(recorder->failures, "");
    CHECK_NULL(recorder->last.failure);
    CHECK_CONTAINS(recorder->text, "failed; 0 of");
    ds_free(d);
    free(recorder);
}

TEST(an_output_keeps_its_number_in_batches_in_which_others_have_nothing_to_do)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct recorder *recorder = recorder_new();
    struct mr_dstream *input;

    ds_input(d, "1 | 2 | 3");
    record_in(ds_begin(d, MR_SECONDS(1), NULL), recorder);
    input = ds_stream(d);
    mr_foreach_rdd(mr_window(input, MR_SECONDS(2), MR_SECONDS(2)), nothing, NULL);
    mr_foreach_rdd(input, nothing, NULL);
    ds_must_run(d, 3);
    CHECK_EQ_UINT(recorder->last.output_count, 1);
    CHECK(strstr(recorder->text, "0 of 1000 started") == NULL ||
          strstr(recorder->text, "0 of 3000 started") == NULL);
    CHECK_CONTAINS(recorder->text, "1 of ");
    ds_free(d);
    free(recorder);
}

/* ---- inputs ---- */

struct inputs {
    char names[512];
    char described[512];
    uint64_t records[4];
};

static void keep_inputs(void *arg, const struct mr_batch_report *batch)
{
    struct inputs *inputs = arg;

    inputs->names[0] = '\0';
    for (size_t i = 0; i < batch->input_count; i++) {
        size_t used = strlen(inputs->names);

        snprintf(inputs->names + used, sizeof(inputs->names) - used, "%s;",
                 batch->inputs[i].stream_name);
        inputs->records[i] += batch->inputs[i].record_count;
        if (batch->inputs[i].description[0] != '\0')
            snprintf(inputs->described, sizeof(inputs->described), "%s",
                     batch->inputs[i].description);
    }
}

TEST(inputs_have_names_numbers_and_records)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    struct inputs inputs = {0};
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = keep_inputs, .arg = &inputs};
    const int64_t values[] = {1, 2, 3};

    ds_input(d, "1,2 | 3");
    mr_queue_push_ints(queue, values, 3);
    mr_context_add_listener(ctx, &listener);
    mr_socket_text_stream(ctx, "localhost", 9); /* 0: no output needs it */
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), nothing, NULL);
    mr_foreach_rdd(ds_stream(d), nothing, NULL);
    ds_must_run(d, 2);
    CHECK_EQ_STR(inputs.names, "Queue stream [1];Memory stream [2];");
    CHECK_EQ_UINT(inputs.records[0], 3);
    CHECK_EQ_UINT(inputs.records[1], 3);
    ds_free(d);
    mr_queue_free(queue);
}

TEST(rows_of_files_are_counted_when_they_are_read)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);
    struct inputs inputs = {.names = ""};
    struct recorder *recorder = recorder_new();
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = keep_inputs, .arg = &inputs};

    mr_context_add_listener(ctx, &listener);
    record_in(ctx, recorder);
    mr_foreach_rdd(mr_text_file_stream(ctx, "/in"), nothing, NULL);
    mr_sim_advance_ns(ds_sim(d), 1000000);
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), "/in", NULL), NULL);
    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), "/in", "a", "1\n2\n3\n", 6, false, NULL), NULL);
    ds_must_run(d, 1);
    CHECK_EQ_STR(inputs.names, "File stream [0];");
    CHECK_EQ_UINT(inputs.records[0], 3); /* Spark says 0 (hazard 13) */
    CHECK_EQ_UINT(recorder->last.record_count, 3);
    ds_free(d);
    free(recorder);
}

TEST(a_batch_that_runs_again_after_a_restart_reports_what_it_reads)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct inputs inputs = {.names = ""};
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = keep_inputs, .arg = &inputs};
    struct mr_error err;

    ds_input(d, "1,2,3");
    for (int run = 0; run < 2; run++) {
        mr_context_add_listener(ds_begin(d, MR_SECONDS(1), "/cp"), &listener);
        mr_foreach_rdd(ds_stream(d), nothing, NULL);
        if (run == 0) {
            ds_fail_at(d, "ran", 0);
            CHECK_FAILS(ds_run(d, 1, &err), &err, MR_INTERNAL, "killed at");
            CHECK_EQ_UINT(inputs.records[0], 0);
        } else {
            ds_must_run(d, 1);
            CHECK_EQ_UINT(inputs.records[0], 3); /* Spark says 0 (hazard 7) */
        }
    }
    ds_free(d);
}

/* ---- stopping ---- */

static void stop_there(void *arg, const struct mr_batch_report *batch)
{
    struct mr_context *ctx = *(struct mr_context **)arg;
    struct mr_error err;

    (void)batch;
    mr_context_stop(ctx, true); /* refused: it would wait for itself */
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_ACTIVE);
    CHECK_FAILS(mr_context_await(ctx, &err), &err, MR_STATE, "it would wait for itself");
    mr_context_stop_soon(ctx, true);
}

static struct mr_context *fast_context(struct mr_queue *queue)
{
    struct mr_context *ctx = mr_context_new("test", 5);

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), nothing, NULL);
    return ctx;
}

static void count_line(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)size_bytes;
    if (level == MR_LOG_ERROR && strstr(line, "inside a callback of a listener") != NULL)
        atomic_fetch_add((atomic_int *)arg, 1);
}

TEST(V274_stopping_inside_a_callback_is_refused_and_does_not_lock)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = fast_context(queue);
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = stop_there, .arg = &ctx};
    atomic_int refused = 0;
    struct mr_error err;

    mr_log_set_sink(count_line, &refused);
    mr_context_add_listener(ctx, &listener);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_log_set_sink(NULL, NULL);
    CHECK(atomic_load(&refused) > 0);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

static void wait_for_events(struct recorder *recorder, int count)
{
    while (atomic_load(&recorder->count) < count)
        mr_env_sleep_ns(mr_env_posix(), 1000000);
}

TEST(V275_nothing_is_delivered_after_the_stop)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = fast_context(queue);
    struct recorder *recorder = recorder_new();
    struct mr_batch_report late = {.batch_time_ms = 1};
    struct mr_error err;
    int count;

    record_in(ctx, recorder);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    wait_for_events(recorder, 6);
    mr_context_stop(ctx, true);
    count = atomic_load(&recorder->count);
    mr__bus_post_batch(ctx->watch->bus, MR_EVENT_BATCH_COMPLETED, &late);
    CHECK_EQ_INT(atomic_load(&recorder->count), count);
    /* gracefully: every batch that started was told to its end */
    CHECK(strstr(recorder->text, "start ") == recorder->text);
    CHECK_CONTAINS(recorder->text + strlen(recorder->text) - 30, "completed");
    mr_context_free(ctx);
    free(recorder);
    mr_queue_free(queue);
}

TEST(a_listener_may_come_while_the_context_runs)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = fast_context(queue);
    struct recorder *recorder = recorder_new();
    struct mr_error err;

    CHECK_OK(mr_context_start(ctx, &err), &err);
    record_in(ctx, recorder);
    wait_for_events(recorder, 6);
    mr_context_stop(ctx, false);
    mr_context_free(ctx);
    free(recorder);
    mr_queue_free(queue);
}

TEST(a_listener_without_a_size_is_refused)
{
    struct mr_listener listener = {.batch_completed = stop_there};
    struct mr__bus *bus = mr__bus_new();
    struct mr_error err;

    CHECK_FAILS(mr__bus_add(bus, &listener, &err), &err, MR_CONFIG, "sizeof(struct mr_listener)");
    CHECK_FAILS(mr__bus_add(bus, NULL, &err), &err, MR_CONFIG, "struct_size");
    listener.struct_size = sizeof(listener);
    for (int i = 0; i < MR_LISTENERS_MAX; i++)
        CHECK_OK(mr__bus_add(bus, &listener, &err), &err);
    CHECK_FAILS(mr__bus_add(bus, &listener, &err), &err, MR_LIMIT, "at most 64 listeners");
    mr__bus_free(bus);
}

/* A callback that blocks until it is let go. */
struct gate {
    struct mr_mutex lock;
    struct mr_cond changed;
    bool open;
    atomic_int entered;
    atomic_int passed;
};

static void wait_at(void *arg, const struct mr_batch_report *batch)
{
    struct gate *gate = arg;

    (void)batch;
    atomic_fetch_add(&gate->entered, 1);
    mr_mutex_lock(&gate->lock);
    while (!gate->open)
        mr_cond_wait(&gate->changed, &gate->lock);
    mr_mutex_unlock(&gate->lock);
    atomic_fetch_add(&gate->passed, 1);
}

static void post_many(void *arg)
{
    struct mr_batch_report batch = {.batch_time_ms = 1};

    for (int i = 0; i < MR_BUS_EVENTS_MAX + 10; i++)
        mr__bus_post_batch(arg, MR_EVENT_BATCH_COMPLETED, &batch);
}

/* Fills the queue of a bus whose listener is stuck; *ret_thread waits for room or is done. */
static struct mr__bus *full_bus(struct gate *gate, struct mr_thread **ret_thread)
{
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = wait_at, .arg = gate};
    struct mr__bus *bus = mr__bus_new();
    struct mr_error err;

    mr_mutex_init(&gate->lock);
    mr_cond_init(&gate->changed);
    CHECK_OK(mr__bus_add(bus, &listener, &err), &err);
    CHECK_OK(mr__bus_open(bus, &err), &err);
    CHECK_OK(mr_thread_start("poster", post_many, bus, ret_thread, &err), &err);
    while (atomic_load(&gate->entered) == 0)
        mr_env_sleep_ns(mr_env_posix(), 100000);
    return bus;
}

static void open_gate(struct gate *gate)
{
    mr_mutex_lock(&gate->lock);
    gate->open = true;
    mr_cond_broadcast(&gate->changed);
    mr_mutex_unlock(&gate->lock);
}

TEST(events_wait_for_a_slow_listener_and_none_is_lost)
{
    struct gate gate = {.open = false};
    struct mr_thread *poster = NULL;
    struct mr__bus *bus = full_bus(&gate, &poster);

    open_gate(&gate);
    mr_thread_join(poster);
    mr__bus_close(bus, false);
    CHECK_EQ_INT(atomic_load(&gate.passed), MR_BUS_EVENTS_MAX + 10);
    mr__bus_free(bus);
    mr_cond_release(&gate.changed);
    mr_mutex_release(&gate.lock);
}

TEST(an_immediate_stop_frees_who_waits_for_a_listener)
{
    struct gate gate = {.open = false};
    struct mr_thread *poster = NULL;
    struct mr__bus *bus = full_bus(&gate, &poster);

    mr__bus_give_up(bus);
    mr_thread_join(poster); /* although the listener is stuck */
    open_gate(&gate);
    mr__bus_close(bus, true);
    CHECK_EQ_INT(atomic_load(&gate.passed), 1);
    mr__bus_free(bus);
    mr_cond_release(&gate.changed);
    mr_mutex_release(&gate.lock);
}

/* ---- statistics ---- */

TEST(V278_batches_and_records_add_up)
{
    struct mr_batch_report batch = {.batch_time_ms = 1000, .record_count = 600};
    struct mr_statistics now;

    mr__statistics_init(&now, 1000);
    CHECK_EQ_INT(now.last_total_delay_ms, -1);
    mr__statistics_submitted(&now, &batch);
    CHECK_EQ_UINT(now.waiting_batches, 1);
    CHECK_EQ_UINT(now.running_batches, 0);
    CHECK_EQ_UINT(now.completed_batches, 0);
    CHECK_EQ_UINT(now.received_records, 0);
    mr__statistics_started(&now, &batch);
    CHECK_EQ_UINT(now.waiting_batches, 0);
    CHECK_EQ_UINT(now.running_batches, 1);
    CHECK_EQ_UINT(now.received_records, 600);
    CHECK_EQ_UINT(now.processed_records, 0);
    batch.total_delay_ms = 30;
    mr__statistics_completed(&now, &batch);
    CHECK_EQ_UINT(now.running_batches, 0);
    CHECK_EQ_UINT(now.completed_batches, 1);
    CHECK_EQ_UINT(now.processed_records, 600);
    CHECK_EQ_INT(now.last_total_delay_ms, 30);
}

static enum mr_status take_time(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    mr_sim_advance_ns(arg, INT64_C(2500) * 1000000);
    return MR_OK;
}

struct delays {
    int64_t scheduling[4];
    int64_t processing[4];
    size_t count;
    struct mr_context *ctx;
    uint32_t waiting[4];
};

static void keep_delays(void *arg, const struct mr_batch_report *batch)
{
    struct delays *delays = arg;

    delays->scheduling[delays->count] = batch->scheduling_delay_ms;
    delays->processing[delays->count] = batch->processing_delay_ms;
    delays->count++;
}

static enum mr_status keep_waiting(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                   struct mr_error *err)
{
    struct delays *delays = arg;
    struct mr_statistics now;

    (void)rdd;
    (void)err;
    mr_context_statistics(delays->ctx, &now);
    CHECK_EQ_UINT(now.running_batches, 1);
    if (now.completed_batches < 4)
        delays->waiting[now.completed_batches] = now.waiting_batches;
    (void)batch_time_ms;
    return MR_OK;
}

TEST(batches_that_cannot_keep_up_wait_each_with_its_time_and_its_delay)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct delays delays = {.count = 0};
    struct mr_listener listener = {
        .struct_size = sizeof(listener), .batch_completed = keep_delays, .arg = &delays};

    ds_input(d, "1 | 2 | 3 | 4");
    delays.ctx = ds_begin(d, MR_SECONDS(1), NULL);
    mr_context_add_listener(delays.ctx, &listener);
    ds_collect(d, ds_stream(d));
    mr_foreach_rdd(ds_stream(d), take_time, ds_sim(d));
    mr_foreach_rdd(ds_stream(d), keep_waiting, &delays);
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, false), "1 | 2 | 3 | 4");
    CHECK_EQ_UINT(delays.count, 4);
    for (size_t i = 0; i < 4; i++) {
        CHECK(delays.processing[i] >= 2500 && delays.processing[i] < 2510);
        /* due a second after the one before, begun two and a half after it */
        CHECK(delays.scheduling[i] >= (int64_t)i * 1500 &&
              delays.scheduling[i] < (int64_t)i * 1500 + 30);
        CHECK_EQ_UINT(delays.waiting[i], (5 + 3 * i) / 2);
    }
    ds_free(d);
}

TEST(the_report_of_delays_is_printed_after_each_batch)
{
    struct ds *d = ds_new(t, "value BIGINT");
    const char *path = test_path(t, "stderr");
    char text[4096] = {0};
    FILE *file;
    int saved;

    ds_input(d, "1 | 2 | 3");
    mr_context_add_stats_report(ds_begin(d, MR_SECONDS(1), NULL), 2);
    mr_foreach_rdd(ds_stream(d), take_time, ds_sim(d));
    fflush(stderr);
    saved = dup(STDERR_FILENO);
    CHECK(freopen(path, "w", stderr) != NULL);
    ds_run(d, 3, NULL);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    file = fopen(path, "r");
    CHECK(file != NULL && fread(text, 1, sizeof(text) - 1, file) > 0);
    fclose(file);
    CHECK_CONTAINS(text, "total delay of the last 1 batches: 0% 2.5 s, 25% 2.5 s");
    CHECK_CONTAINS(text, "processing time of the last 2 batches: 0% 2.5 s");
    CHECK(strstr(text, "last 3 batches") == NULL);
    ds_free(d);
}

/* ---- receivers ---- */

struct told {
    char text[1024];
    atomic_int stopped;
};

static void tell_receiver(struct told *told, const char *what,
                          const struct mr_receiver_report *receiver)
{
    size_t used = strlen(told->text);

    snprintf(told->text + used, sizeof(told->text) - used, "%s %s %u %s; ", what, receiver->name,
             receiver->stream_id, receiver->last_error_message);
}

static void receiver_started(void *arg, const struct mr_receiver_report *receiver)
{
    tell_receiver(arg, "started", receiver);
}

static void receiver_error(void *arg, const struct mr_receiver_report *receiver)
{
    CHECK(receiver->last_error_ms >= 0);
    tell_receiver(arg, "error", receiver);
}

static void receiver_stopped(void *arg, const struct mr_receiver_report *receiver)
{
    struct told *told = arg;

    tell_receiver(told, "stopped", receiver);
    atomic_store(&told->stopped, 1);
}

static enum mr_status begin(struct mr_receiver_handle *receiver, void *arg, struct mr_error *err)
{
    (void)arg;
    MR_TRY(mr_receiver_put_int(receiver, 7, err));
    mr_receiver_report_error(receiver, "half a record");
    return MR_OK;
}

static void end(struct mr_receiver_handle *receiver, void *arg)
{
    (void)receiver;
    (void)arg;
}

static enum mr_status count_rows(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                 struct mr_error *err)
{
    int64_t count = 0;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_count(rdd, &count, err));
    atomic_fetch_add((atomic_int *)arg, (int)count);
    return MR_OK;
}

TEST(receivers_tell_their_starts_errors_and_ends)
{
    struct mr_context *ctx = mr_context_new("test", 20);
    struct mr_receiver_spec spec = {
        .name = "Lines", .columns = "value BIGINT", .on_start = begin, .on_stop = end};
    struct told told = {.stopped = 0};
    struct mr_listener listener = {.struct_size = sizeof(listener),
                                   .receiver_started = receiver_started,
                                   .receiver_error = receiver_error,
                                   .receiver_stopped = receiver_stopped,
                                   .arg = &told};
    struct mr_receiver_report report;
    struct mr_statistics now;
    atomic_int rows = 0;
    struct mr_error err;

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_context_set(ctx, "block_interval", "10ms");
    mr_context_add_listener(ctx, &listener);
    mr_foreach_rdd(mr_receiver_stream(ctx, &spec), count_rows, &rows);
    CHECK(!mr_context_receiver(ctx, 0, &report));
    CHECK_OK(mr_context_start(ctx, &err), &err);
    while (atomic_load(&rows) == 0)
        mr_env_sleep_ns(mr_env_posix(), 1000000);
    CHECK(mr_context_receiver(ctx, 0, &report));
    CHECK(report.active);
    CHECK_EQ_UINT(report.record_count, 1);
    CHECK_CONTAINS(report.last_error_message, "half a record");
    CHECK(!mr_context_receiver(ctx, 1, &report));
    mr_context_statistics(ctx, &now);
    CHECK_EQ_UINT(now.receiver_count, 1);
    CHECK_EQ_UINT(now.active_receivers, 1);
    mr_context_stop(ctx, true);
    CHECK_CONTAINS(told.text, "started Lines-0 0");
    CHECK_CONTAINS(told.text, "error Lines-0 0");
    CHECK_CONTAINS(told.text, "half a record");
    CHECK_CONTAINS(told.text, "stopped Lines-0 0");
    mr_context_free(ctx);
}
