/*
 * The life cycle of a context: states, one active context per process, waiting, stopping from
 * anywhere, mistakes with their place.
 *
 * These run on the real clock with short intervals; they wait for events, never for time.
 */
#include "env/sim.h"
#include "env/thread.h"
#include "support/dstream.h"

#include "base/log.h"

#include <millrace/listener.h>
#include <millrace/receiver.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FAST_MS = 5 };

static enum mr_status look_away(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    if (arg != NULL)
        atomic_fetch_add((_Atomic int *)arg, 1);
    return MR_OK;
}

/* A context over an empty queue that counts its batches. */
static struct mr_context *named_context(const char *name, struct mr_queue *queue,
                                        _Atomic int *batches)
{
    struct mr_context *ctx = mr_context_new(name, FAST_MS);

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), look_away, batches);
    return ctx;
}

static struct mr_context *idle_context(struct mr_queue *queue, _Atomic int *batches)
{
    return named_context("test", queue, batches);
}

static void wait_for_batches(_Atomic int *batches, int count)
{
    while (atomic_load(batches) < count)
        mr_env_sleep_ns(mr_env_posix(), 1000000);
}

TEST(V134_new_start_stop)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    _Atomic int batches = 0;
    struct mr_context *ctx = idle_context(queue, &batches);
    struct mr_error err;

    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_INITIALIZED);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_ACTIVE);
    CHECK_OK(mr_context_start(ctx, &err), &err); /* a warning only */
    wait_for_batches(&batches, 3);
    mr_context_stop(ctx, true);
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

TEST(V136_V137_V139_stop_twice_stop_before_start_start_after_stop)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = idle_context(queue, NULL);
    struct mr_error err;

    mr_context_stop(ctx, false);
    mr_context_stop(ctx, true);
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_STATE, "after stopping");
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

TEST(V142_a_second_context_cannot_start_while_one_is_active)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT"), *other = mr_queue_new("value BIGINT");
    struct mr_context *first = idle_context(queue, NULL);
    struct mr_context *second = named_context("second", other, NULL);
    struct mr_error err;

    CHECK_OK(mr_context_start(first, &err), &err);
    CHECK_FAILS(mr_context_start(second, &err), &err, MR_STATE,
                "cannot start 'second': the context 'test' of this process is active");
    CHECK_EQ_INT(mr_context_state(second), MR_CONTEXT_INITIALIZED);
    mr_context_stop(first, false);
    CHECK_OK(mr_context_start(second, &err), &err);
    mr_context_free(second); /* stops it */
    mr_context_free(first);
    mr_queue_free(queue);
    mr_queue_free(other);
}

/* Adds to a context in one of three ways, each of which is refused. */
static void check_refused(struct test *t, int how, bool stopped, const char *part)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    struct mr_dstream *stream = mr_queue_stream(ctx, queue, true);
    struct mr_error err;

    mr_foreach_rdd(stream, look_away, NULL);
    if (stopped)
        mr_context_stop(ctx, false);
    else
        CHECK_OK(mr_context_start(ctx, &err), &err);
    if (how == 0)
        CHECK_NULL(mr_queue_stream(ctx, queue, true));
    else if (how == 1)
        CHECK_NULL(mr_map(stream, MR_SQL("value + 1")));
    else if (how == 2)
        mr_print(stream, 10);
    else if (how == 3)
        mr_context_set(ctx, "workers", "1");
    else
        mr_context_checkpoint(ctx, test_path(t, "cp"));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_STATE, part);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

TEST(V143_nothing_can_be_added_while_active_or_stopped)
{
    for (int how = 0; how < 5; how++) {
        check_refused(t, how, false, "after starting a context");
        check_refused(t, how, true, "after stopping a context");
    }
}

static void stop_it(void *arg)
{
    mr_context_stop(arg, true);
}

TEST(V145_await_with_a_limit_and_a_stop_from_another_thread)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = idle_context(queue, NULL);
    struct mr_thread *thread = NULL;
    struct mr_error err;
    bool stopped = true;

    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await_for(ctx, 20, &stopped, &err), &err);
    CHECK(!stopped);
    CHECK_OK(mr_thread_start("stopper", stop_it, ctx, &thread, &err), &err);
    CHECK_OK(mr_context_await_for(ctx, 100000, &stopped, &err), &err);
    CHECK(stopped);
    mr_thread_join(thread);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

static void refuse_three(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    if (mr_row_int(row, 0) == 3)
        mr_emit_fail(out, "three is not %s", "welcome");
    else
        mr_emit_int(out, mr_row_int(row, 0));
}

TEST(V146_a_function_that_fails_ends_the_program_with_its_text)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    const int64_t values[] = {1, 2, 3};
    struct mr_error err;

    mr_context_set(ctx, "retries", "1");
    mr_foreach_rdd(mr_map(mr_queue_stream(ctx, queue, true), MR_FN(refuse_three)), look_away, NULL);
    mr_queue_push_ints(queue, values, 3);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_FAILS(mr_context_await(ctx, &err), &err, MR_USER, "map 'map-0': three is not welcome");
    CHECK_CONTAINS(err.text, "test_dstream_context.c:");
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

static struct mr_rdd *make_nothing(struct mr_rdd *const *inputs, size_t input_count,
                                   int64_t batch_time_ms, void *arg)
{
    (void)inputs;
    (void)input_count;
    (void)batch_time_ms;
    (void)arg;
    return NULL;
}

TEST(V146_a_transform_that_fails_ends_the_program_too)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    struct mr_error err;

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_context_set(ctx, "retries", "0");
    mr_foreach_rdd(mr_transform(mr_queue_stream(ctx, queue, true), MR_FN(make_nothing)), look_away,
                   NULL);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_FAILS(mr_context_await(ctx, &err), &err, MR_USER, "test_dstream_context.c:");
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

/* ---- the active context ---- */

struct builder {
    struct mr_queue *queue;
    int count;
};

static struct mr_context *build_idle(void *arg)
{
    struct builder *builder = arg;

    builder->count++;
    return idle_context(builder->queue, NULL);
}

TEST(V148_the_active_context_is_found_and_nothing_is_built)
{
    struct builder builder = {mr_queue_new("value BIGINT"), 0};
    struct mr_context *ctx = build_idle(&builder);
    struct mr_error err;

    CHECK_NULL(mr_context_active());
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK(mr_context_active() == ctx);
    CHECK(mr_context_active_or_create(NULL, build_idle, &builder) == ctx);
    CHECK_EQ_INT(builder.count, 1);
    mr_context_stop(ctx, true);
    CHECK_NULL(mr_context_active());
    mr_context_free(ctx);

    ctx = mr_context_active_or_create(NULL, build_idle, &builder);
    CHECK_EQ_INT(builder.count, 2);
    CHECK_NULL(mr_context_active());
    mr_context_free(ctx);
    ctx = mr_context_active_or_create(test_path(t, "cp"), build_idle, &builder);
    CHECK_EQ_INT(builder.count, 3);
    CHECK_EQ_STR(ctx->checkpoint_dir, test_path(t, "cp"));
    mr_context_free(ctx);
    mr_queue_free(builder.queue);
}

TEST(V149_a_queue_stream_and_a_checkpoint_exclude_each_other)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = idle_context(queue, NULL);
    struct mr_error err;

    mr_context_checkpoint(ctx, test_path(t, "cp"));
    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_CONFIG, "doesn't support checkpointing");
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

TEST(V154_the_checkpoint_directory_may_come_from_a_setting)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = idle_context(queue, NULL);
    struct mr_error err;

    mr_context_set(ctx, "spark.streaming.checkpoint.directory", test_path(t, "cp"));
    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_CONFIG, "doesn't support checkpointing");
    mr_context_free(ctx);
    mr_queue_free(queue);
}

/* ---- stopping ---- */

static enum mr_status stop_inside(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    mr_context_stop(*(struct mr_context **)arg, true); /* must not wait for itself */
    return MR_OK;
}

TEST(a_function_of_the_program_may_stop_its_context)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    struct mr_error err;

    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), stop_inside, &ctx);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

static struct mr_context *signalled;

static void handle_signal(int number)
{
    (void)number;
    mr_context_stop_soon(signalled, true);
}

TEST(a_signal_handler_may_ask_to_stop)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = idle_context(queue, NULL);
    struct sigaction action = {.sa_handler = handle_signal}, old;
    struct mr_error err;

    signalled = ctx;
    CHECK_EQ_INT(sigaction(SIGUSR1, &action, &old), 0);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_EQ_INT(raise(SIGUSR1), 0);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    sigaction(SIGUSR1, &old, NULL);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

static enum mr_status wait_inside(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                  struct mr_error *err)
{
    struct mr_context *ctx = *(struct mr_context **)arg;
    enum mr_status status = mr_context_await(ctx, err);

    (void)rdd;
    (void)batch_time_ms;
    mr_context_free(ctx); /* refused, with a line in the log */
    return status;
}

TEST(waiting_for_oneself_is_an_error)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    struct mr_error err;

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    CHECK_FAILS(mr_context_await(ctx, &err), &err, MR_STATE, "it was not started");
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), wait_inside, &ctx);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_FAILS(mr_context_await(ctx, &err), &err, MR_STATE, "it would wait for itself");
    mr_context_free(ctx);
    mr_queue_free(queue);
}

TEST(several_threads_may_stop_at_once)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = idle_context(queue, NULL);
    struct mr_thread *threads[4] = {NULL};
    struct mr_error err;

    CHECK_OK(mr_context_start(ctx, &err), &err);
    for (size_t i = 0; i < 4; i++)
        CHECK_OK(mr_thread_start("stopper", stop_it, ctx, &threads[i], &err), &err);
    for (size_t i = 0; i < 4; i++)
        mr_thread_join(threads[i]);
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

/* ---- the order of outputs ---- */

/* Two outputs that meet: only side by side both can arrive. */
struct meeting {
    struct mr_mutex lock;
    struct mr_cond changed;
    int arrived;
    int order[16]; /* the output that ran, one after the other */
    int count;
    bool side_by_side;
};

struct guest {
    struct meeting *meeting;
    int number;
};

static enum mr_status arrive(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                             struct mr_error *err)
{
    struct guest *guest = arg;
    struct meeting *meeting = guest->meeting;

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    mr_mutex_lock(&meeting->lock);
    if (meeting->count < 16)
        meeting->order[meeting->count++] = guest->number;
    meeting->arrived++;
    mr_cond_broadcast(&meeting->changed);
    while (meeting->side_by_side && meeting->arrived < 2)
        mr_cond_wait(&meeting->changed, &meeting->lock);
    mr_mutex_unlock(&meeting->lock);
    return MR_OK;
}

static void run_meeting(struct meeting *meeting, const char *jobs)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("meeting", FAST_MS);
    struct mr_dstream *stream = mr_queue_stream(ctx, queue, true);
    struct guest guests[] = {{meeting, 0}, {meeting, 1}};
    struct mr_error err;

    mr_mutex_init(&meeting->lock);
    mr_cond_init(&meeting->changed);
    mr_context_set(ctx, "spark.streaming.concurrentJobs", jobs);
    mr_context_set(ctx, "batches_max", "3");
    for (int i = 0; i < 2; i++)
        mr_foreach_rdd(stream, arrive, &guests[i]);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    CHECK_EQ_INT(meeting->count, 6);
    mr_context_free(ctx);
    mr_queue_free(queue);
    mr_cond_release(&meeting->changed);
    mr_mutex_release(&meeting->lock);
}

TEST(outputs_run_in_the_order_of_their_registration)
{
    struct meeting meeting = {.arrived = 0};

    run_meeting(&meeting, "1");
    for (int i = 0; i < 6; i++)
        CHECK_EQ_INT(meeting.order[i], i % 2);
}

TEST(an_output_beside_others_may_stop_its_context)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    struct mr_dstream *stream = mr_queue_stream(ctx, queue, true);
    struct mr_error err;

    mr_context_set(ctx, "concurrent_jobs", "4");
    for (int i = 0; i < 3; i++)
        mr_foreach_rdd(stream, stop_inside, &ctx);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    mr_queue_free(queue);
}

TEST(with_concurrent_jobs_outputs_of_a_batch_run_side_by_side)
{
    struct meeting meeting = {.side_by_side = true};

    run_meeting(&meeting, "2");
    /* batches stay one after the other */
    for (int i = 0; i < 6; i += 2)
        CHECK(meeting.order[i] != meeting.order[i + 1]);
}

/* ---- what a graceful stop waits for ---- */

/* A receiver that counts up, on a thread of its own. */
struct counting {
    struct mr_receiver_handle *receiver;
    struct mr_thread *thread;
    int64_t limit; /* on_stop waits for that many; 0 = it ends the thread */
    atomic_bool ending;
    _Atomic int64_t received; /* taken by the context */
    _Atomic int64_t processed;
};

static void count_up(void *arg)
{
    struct counting *counting = arg;

    for (int64_t i = 1; counting->limit == 0 || i <= counting->limit; i++) {
        if (counting->limit == 0 && atomic_load(&counting->ending))
            return;
        if (mr_receiver_put_int(counting->receiver, i, NULL) == MR_OK)
            atomic_fetch_add(&counting->received, 1);
        mr_env_sleep_ns(mr_env_posix(), counting->limit == 0 ? 100000 : 5000000);
    }
}

static enum mr_status start_counting(struct mr_receiver_handle *receiver, void *arg,
                                     struct mr_error *err)
{
    struct counting *counting = arg;

    counting->receiver = receiver;
    atomic_store(&counting->ending, false);
    return mr_thread_start("counting", count_up, counting, &counting->thread, err);
}

static void stop_counting(struct mr_receiver_handle *receiver, void *arg)
{
    struct counting *counting = arg;

    (void)receiver;
    atomic_store(&counting->ending, true);
    mr_thread_join(counting->thread);
    counting->thread = NULL;
}

static enum mr_status count_processed(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                      struct mr_error *err)
{
    struct counting *counting = arg;
    int64_t count = 0;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_count(rdd, &count, err));
    atomic_fetch_add(&counting->processed, count);
    return MR_OK;
}

static struct mr_context *counting_context(struct counting *counting)
{
    struct mr_receiver_spec spec = {.name = "Counting",
                                    .columns = "value BIGINT",
                                    .on_start = start_counting,
                                    .on_stop = stop_counting,
                                    .arg = counting};
    struct mr_context *ctx = mr_context_new("counting", 20);

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_context_set(ctx, "block_interval", "5ms");
    mr_foreach_rdd(mr_receiver_stream(ctx, &spec), count_processed, counting);
    return ctx;
}

static void wait_for_records(_Atomic int64_t *records, int64_t count)
{
    while (atomic_load(records) < count)
        mr_env_sleep_ns(mr_env_posix(), 500000);
}

static enum mr_status stop_at_start(struct mr_receiver_handle *receiver, void *arg,
                                    struct mr_error *err)
{
    (void)receiver;
    (void)err;
    mr_context_stop(*(struct mr_context **)arg, true);
    return MR_OK;
}

TEST(a_receiver_may_stop_its_context)
{
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    struct mr_receiver_spec spec = {
        .columns = "value BIGINT", .on_start = stop_at_start, .arg = &ctx};
    struct mr_error err;

    mr_foreach_rdd(mr_receiver_stream(ctx, &spec), look_away, NULL);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
}

TEST(V151_a_graceful_stop_waits_for_a_slow_receiver_and_processes_what_it_took)
{
    struct counting counting = {.limit = 15};
    struct mr_context *ctx = counting_context(&counting);
    struct mr_error err;

    mr_context_set(ctx, "spark.streaming.gracefulStopTimeout", "20000s");
    CHECK_OK(mr_context_start(ctx, &err), &err);
    wait_for_records(&counting.received, 7);
    mr_context_stop(ctx, true);
    CHECK_NULL(counting.thread); /* it has come to its end by itself */
    CHECK(atomic_load(&counting.received) >= 7);
    CHECK_EQ_INT(atomic_load(&counting.processed), atomic_load(&counting.received));
    mr_context_free(ctx);
}

TEST(V152_a_graceful_stop_processes_everything_that_was_received)
{
    for (int run = 0; run < 4; run++) {
        struct counting counting = {.limit = 0};
        struct mr_context *ctx = counting_context(&counting);
        struct mr_statistics now;
        struct mr_error err;

        CHECK_OK(mr_context_start(ctx, &err), &err);
        wait_for_records(&counting.processed, 50);
        mr_context_stop(ctx, true);
        mr_context_statistics(ctx, &now);
        CHECK_EQ_INT(atomic_load(&counting.processed), atomic_load(&counting.received));
        CHECK_EQ_UINT(now.processed_records, (uint64_t)atomic_load(&counting.received));
        CHECK_EQ_UINT(now.received_records, now.processed_records);
        mr_context_free(ctx);
    }
}

struct late {
    struct ds *d;
    int64_t late_ms; /* 0: an ordinary batch */
    int64_t again_ms;
    bool graceful;
};

/* The first batch takes so long that others are due, and asks to stop. */
static enum mr_status stop_late(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    struct late *late = arg;
    int64_t ms = late->late_ms;

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    late->late_ms = late->again_ms;
    mr_sim_advance_ns(ds_sim(late->d), ms * 1000000);
    mr_context_stop(ds_context(late->d), late->graceful);
    return MR_OK;
}

static void run_late(struct test *t, struct late *late, const char *timeout, const char *expected)
{
    struct ds *d = ds_new(t, "value BIGINT");

    late->d = d;
    ds_input(d, "1 | 2 | 3 | 4 | 5 | 6");
    mr_context_set(ds_begin(d, MR_SECONDS(1), NULL), "graceful_stop_timeout", timeout);
    ds_collect(d, ds_stream(d));
    mr_foreach_rdd(ds_stream(d), stop_late, late);
    ds_must_run(d, 0);
    CHECK_EQ_STR(ds_output(d, false), expected);
    ds_free(d);
}

TEST(a_graceful_stop_runs_the_batches_whose_time_had_come)
{
    struct late graceful = {.late_ms = 3500, .graceful = true};
    struct late bounded = {.late_ms = 3500, .again_ms = 700, .graceful = true};

    run_late(t, &graceful, "60s", "1 | 2 | 3 | 4");
    run_late(t, &bounded, "1s", "1 | 2 | 3");
}

TEST(a_graceful_stop_of_a_program_whose_outputs_have_nothing_to_do_is_prompt)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", FAST_MS);
    _Atomic int batches = 0;
    struct mr_error err;
    int64_t began_ns;

    /* the last ticks are without any dataset: Spark waits for its whole timeout then (hazard 6) */
    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_foreach_rdd(mr_window(mr_queue_stream(ctx, queue, true), 4 * FAST_MS, 4 * FAST_MS),
                   look_away, &batches);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    wait_for_batches(&batches, 1);
    began_ns = mr_env_monotonic_ns(mr_env_posix());
    mr_context_stop(ctx, true);
    CHECK(mr_env_monotonic_ns(mr_env_posix()) - began_ns < INT64_C(5000000000));
    mr_context_free(ctx);
    mr_queue_free(queue);
}

/* ---- mistakes stick, with their place ---- */

/* The error of one building call on a stream of (value BIGINT). */
#define CHECK_MISTAKE(t, call, status, part)                                                       \
    do {                                                                                           \
        struct mr_queue *queue_ = mr_queue_new("value BIGINT");                                    \
        struct mr_context *ctx_ = mr_context_new("test", MR_SECONDS(1));                           \
        struct mr_dstream *numbers = mr_queue_stream(ctx_, queue_, true);                          \
        struct mr_error err_;                                                                      \
        CHECK_NULL(call);                                                                          \
        CHECK_FAILS(mr_context_error(ctx_, &err_), &err_, status, part);                           \
        CHECK_STATUS(mr_context_start(ctx_, NULL), status);                                        \
        mr_context_free(ctx_);                                                                     \
        mr_queue_free(queue_);                                                                     \
    } while (0)

static void add(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) + mr_row_int(b, 0));
}

TEST(an_sql_mistake_has_the_file_the_line_and_the_column)
{
    char place[64];

    snprintf(place, sizeof(place), "test_dstream_context.c:%d: map: ", __LINE__ + 1);
    CHECK_MISTAKE(t, mr_map(numbers, MR_SQL("value + valu")), MR_SQL_ERROR, place);
    CHECK_MISTAKE(t, mr_map(numbers, MR_SQL("value + valu")), MR_SQL_ERROR,
                  "column 9 of the expression");
    CHECK_MISTAKE(t, mr_map(numbers, MR_SQL("value +\n  valu")), MR_SQL_ERROR,
                  "line 2, column 3 of the expression");
}

TEST(an_expression_that_cannot_be_repeated_is_refused)
{
    CHECK_MISTAKE(t, mr_map(numbers, MR_SQL("random()")), MR_SQL_ERROR,
                  "gives another value when a batch runs again");
}

TEST(a_wrong_mix_says_what_to_use)
{
    CHECK_MISTAKE(t, mr_map(numbers, MR_SUM), MR_CONFIG, "use MR_SQL or MR_FN");
    CHECK_MISTAKE(t, mr_map(numbers, MR_FN(add)), MR_CONFIG, "cannot use a reduce function 'add'");
    CHECK_MISTAKE(t, mr_flat_map(numbers, MR_WORDS), MR_CONFIG, "MR_WORDS takes a stream of texts");
    CHECK_MISTAKE(t, mr_filter(numbers, MR_COUNT), MR_CONFIG,
                  "use MR_SQL or MR_FN of a test function");
    CHECK_MISTAKE(t, mr_map_to_pair(numbers, MR_SQL("value")), MR_SQL_ERROR,
                  "two expressions with a comma");
    CHECK_MISTAKE(t, mr_reduce_by_key(numbers, MR_SUM), MR_CONFIG, "use mr_map_to_pair first");
    CHECK_MISTAKE(t, mr_update_state_by_key(numbers, "x", MR_SUM), MR_CONFIG,
                  "use mr_map_to_pair first");
    CHECK_MISTAKE(t, mr_flat_map(numbers, MR_SQL("value")), MR_SQL_ERROR, "UNNEST");
    CHECK_MISTAKE(t, mr_reduce_by_key(mr_map_to_pair(numbers, MR_SQL("value, 'x'")), MR_SUM),
                  MR_CONFIG, "sum");
    CHECK_MISTAKE(t,
                  mr_reduce_by_key_and_window(mr_map_to_pair(numbers, MR_COUNT), MR_MIN_OF,
                                              MR_MIN_OF, MR_SECONDS(2), 0, MR_NO_FN),
                  MR_CONFIG, "as the inverse of 'min'");
    CHECK_MISTAKE(t, mr_union(numbers, mr_window(numbers, MR_SECONDS(4), MR_SECONDS(2))), MR_CONFIG,
                  "different slides");
    CHECK_MISTAKE(t, mr_union(numbers, mr_map(numbers, MR_SQL("'x'"))), MR_CONFIG,
                  "different columns");
}

TEST(a_program_without_output_has_nothing_to_execute)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_error err;

    mr_queue_stream(ctx, queue, true);
    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_CONFIG, "nothing to execute");
    mr_context_free(ctx);
    mr_queue_free(queue);
}

/* ---- settings ---- */

TEST(settings_are_checked_when_they_are_set)
{
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_error err;

    mr_context_set(ctx, "spark.streaming.blockInterval", "100ms");
    mr_context_set(ctx, "block_interval", "50ms");
    CHECK_OK(mr_context_error(ctx, &err), &err);
    mr_context_set(ctx, "block_intervall", "50ms");
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "block_interval");
    mr_context_free(ctx);

    ctx = mr_context_new("test", 0);
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "batch interval of 0 ms");
    mr_context_free(ctx);
}

/* What a context would run with. */
static const struct mr_query_config *applied(struct mr_context *ctx)
{
    struct mr_error err;

    CHECK_OK(mr_context_error(ctx, &err), &err);
    CHECK_OK(mr__settings_apply(ctx, &err), &err);
    return mr__context_config(ctx);
}

TEST(settings_of_spark_keep_their_units_and_their_meaning)
{
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));

    mr_context_set(ctx, "block_interval", "1s"); /* replaced by the next */
    mr_context_set(ctx, "spark.streaming.blockInterval", "350");
    mr_context_set(ctx, "spark.streaming.gracefulStopTimeout", "20000");
    mr_context_set(ctx, "spark.streaming.fileStream.minRememberDuration", "90");
    mr_context_set(ctx, "spark.task.maxFailures", "4");
    mr_context_set(ctx, "spark.streaming.receiver.maxRate", "-1");
    CHECK_EQ_INT(applied(ctx)->block_interval_us, 350000);
    CHECK_EQ_INT(mr__context_config(ctx)->stop_timeout_us, 20000000);
    CHECK_EQ_INT(ctx->remember_files_us, 90000000);
    CHECK_EQ_INT(mr__context_config(ctx)->retries, 3);
    CHECK_EQ_INT(mr__context_config(ctx)->receiver_rate_max, 0);
    mr_context_free(ctx);
}

TEST(a_setting_of_spark_without_a_meaning_is_accepted_and_explained)
{
    static const char *const names[] = {
        "receiver.writeAheadLog.enable",
        "driver.writeAheadLog.allowBatching",
        "unpersist",
        "clock",
        "ui.retainedBatches",
        "kafka.maxRatePerPartition",
    };
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_error err;
    char name[96];

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(name, sizeof(name), "spark.streaming.%s", names[i]);
        mr_context_set(ctx, name, "true");
    }
    CHECK_OK(mr_context_error(ctx, &err), &err);
    CHECK_EQ_UINT(ctx->setting_count, 0);
    mr_context_set(ctx, "spark.master", "local[4]");
    mr_context_set(ctx, "spark.executor.memory", "4g");
    CHECK_OK(mr_context_error(ctx, &err), &err);
    mr_context_set(ctx, "spark.dynamicAllocation.enabled", "false"); /* this one is known */
    CHECK_EQ_UINT(ctx->setting_count, 1);
    mr_context_set(ctx, "spark.streaming.unpersistent", "true");
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "spark.streaming.unpersistent");
    mr_context_free(ctx);
}

static const char *write_settings(struct test *t, const char *text)
{
    const char *path = test_path(t, "settings");
    FILE *file = fopen(path, "w");

    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
    return path;
}

TEST(settings_may_come_from_a_file)
{
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_error err;

    mr_context_set_file(ctx, write_settings(t, "# for tests\n\n  block_interval = 70ms\r\n"
                                               "spark.streaming.receiver.maxRate 99\n"
                                               "checkpoint=/a=b c"));
    CHECK_EQ_INT(applied(ctx)->block_interval_us, 70000);
    CHECK_EQ_INT(mr__context_config(ctx)->receiver_rate_max, 99);
    CHECK_EQ_STR(ctx->checkpoint_dir, "/a=b c");
    mr_context_free(ctx);

    ctx = mr_context_new("test", MR_SECONDS(1));
    mr_context_set_file(ctx, write_settings(t, "\nworkers\n"));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_CONFIG, "line 2: 'workers' has no value");
    mr_context_free(ctx);

    ctx = mr_context_new("test", MR_SECONDS(1));
    mr_context_set_file(ctx, test_path(t, "none"));
    CHECK_FAILS(mr_context_error(ctx, &err), &err, MR_NOT_FOUND, "none");
    mr_context_free(ctx);
}

/* Configures a context as mr_context_main_args does. */
static enum mr_status configure(struct mr_context *ctx, int argc, const char *const *argv,
                                bool *ret_help, struct mr_error *err)
{
    MR_TRY(mr__configure_by_environment(ctx, err));
    return mr__configure_by_flags(ctx, argc, argv, ret_help, err);
}

TEST(flags_win_over_the_environment_and_that_over_the_program)
{
    const char *const argv[] = {"program",      "--set", "workers=3", "--set=retries=2",
                                "--checkpoint", "/flag", "--",        "--what"};
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_error err;
    bool help;

    setenv("MILLRACE_SETTINGS", write_settings(t, "workers = 7\nretries = 7\nbatches_max = 7"), 1);
    setenv("MILLRACE_SET", "workers=5, retries=5, batches_max=5 ,", 1);
    setenv("MILLRACE_CHECKPOINT", "/environment", 1);
    mr_context_set(ctx, "block_interval", "1ms");
    mr_context_set(ctx, "workers", "9");
    CHECK_OK(configure(ctx, 8, argv, &help, &err), &err);
    CHECK(!help);
    CHECK_EQ_INT(applied(ctx)->workers, 3);
    CHECK_EQ_INT(mr__context_config(ctx)->retries, 2);
    CHECK_EQ_INT(mr__context_config(ctx)->batches_max, 5);
    CHECK_EQ_INT(mr__context_config(ctx)->block_interval_us, 1000);
    CHECK_EQ_STR(ctx->checkpoint_dir, "/flag");
    mr_context_free(ctx);

    ctx = mr_context_new("test", MR_SECONDS(1));
    setenv("MILLRACE_SET", "workers=5,worker=6", 1);
    CHECK_FAILS(configure(ctx, 0, NULL, &help, &err), &err, MR_CONFIG, "MILLRACE_SET: ");
    unsetenv("MILLRACE_SET");
    unsetenv("MILLRACE_SETTINGS");
    CHECK_OK(configure(ctx, 0, NULL, &help, &err), &err);
    CHECK_EQ_STR(ctx->checkpoint_dir, "/environment");
    unsetenv("MILLRACE_CHECKPOINT");
    mr_context_free(ctx);
}

TEST(wrong_flags_are_refused)
{
    const char *const unknown[] = {"program", "--sets"};
    const char *const without[] = {"program", "--set"};
    const char *const wrong[] = {"program", "--set", "workers=many"};
    const char *const help[] = {"program", "--help"};
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_error err;
    bool asked;

    CHECK_FAILS(configure(ctx, 2, unknown, &asked, &err), &err, MR_USAGE, "'--sets'");
    CHECK_FAILS(configure(ctx, 2, without, &asked, &err), &err, MR_USAGE, "needs a value");
    CHECK_FAILS(configure(ctx, 3, wrong, &asked, &err), &err, MR_CONFIG, "--set: ");
    CHECK_OK(configure(ctx, 2, help, &asked, &err), &err);
    CHECK(asked);
    mr_context_free(ctx);
}

TEST(the_first_mistake_wins_and_later_calls_are_ignored)
{
    struct mr_context *ctx = mr_context_new("test", MR_SECONDS(1));
    struct mr_dstream *none = mr_connector_stream(ctx, "no such thing", NULL, NULL);
    struct mr_error err;

    CHECK_NULL(none);
    CHECK_NULL(mr_map(none, MR_SQL("value")));
    CHECK_NULL(mr_reduce_by_key(mr_map_to_pair(mr_flat_map(none, MR_WORDS), MR_COUNT), MR_SUM));
    CHECK_NULL(mr_dstream_schema(none));
    CHECK_NULL(mr_dstream_context(none));
    CHECK_EQ_INT(mr_dstream_slide_ms(none), 0);
    mr_dstream_set_name(none, "x");
    mr_print(none, 10);
    mr_foreach_rdd(none, look_away, NULL);
    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_CONFIG, "no such thing");
    CHECK_FAILS(mr_context_await(ctx, &err), &err, MR_CONFIG, "no such thing");
    mr_context_free(ctx);
}

/* Exit code of a program with these arguments, that would stop after two batches; its output in
 * text. */
static int run_program(struct test *t, int argc, char **argv, char *text, size_t size)
{
    const char *path = test_path(t, "output");
    int status = 0;
    pid_t pid = fork();
    FILE *file;

    if (pid == 0) {
        struct mr_queue *queue = mr_queue_new("value BIGINT");
        struct mr_context *ctx;

        if (freopen(path, "w", stdout) == NULL || dup2(STDOUT_FILENO, STDERR_FILENO) < 0)
            _exit(99);
        ctx = mr_context_new("program", FAST_MS);
        mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
        mr_context_set(ctx, "batches_max", "2");
        mr_foreach_rdd(mr_queue_stream(ctx, queue, true), look_away, NULL);
        status = mr_context_main_args(ctx, argc, argv);
        fflush(stdout);
        _exit(status);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    file = fopen(path, "r");
    CHECK(file != NULL);
    text[fread(text, 1, size - 1, file)] = '\0';
    fclose(file);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_program_takes_its_settings_as_flags)
{
    char program[] = "program", help[] = "--help", set[] = "--set", one[] = "batches_max=1";
    char wrong[] = "batches_max=one", unknown[] = "--verbose";
    char *asks[] = {program, help}, *sets[] = {program, set, one};
    char *fails[] = {program, set, wrong}, *odd[] = {program, unknown};
    char text[16384];

    CHECK_EQ_INT(run_program(t, 2, asks, text, sizeof(text)), 0);
    CHECK_CONTAINS(text, "usage: program [--set KEY=VALUE]");
    CHECK_CONTAINS(text, "also: spark.streaming.blockInterval");
    CHECK_EQ_INT(run_program(t, 3, sets, text, sizeof(text)), 0);
    CHECK_EQ_STR(text, "");
    CHECK_EQ_INT(run_program(t, 3, fails, text, sizeof(text)), 78);
    CHECK_CONTAINS(text, "program: --set: ");
    CHECK_EQ_INT(run_program(t, 2, odd, text, sizeof(text)), 64);
    CHECK_CONTAINS(text, "unknown argument '--verbose'");
}

/* ---- without memory ---- */

static void ignore_line(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg;
    (void)level;
    (void)line;
    (void)size_bytes;
}

static void ignore_batch(void *arg, const struct mr_batch_report *batch)
{
    (void)arg;
    (void)batch;
}

/* Builds a context and runs two batches; any allocation may fail. */
static enum mr_status build_and_run(const char *settings, struct mr_queue *queue,
                                    struct mr_error *err)
{
    struct mr_listener listener = {.struct_size = sizeof(listener),
                                   .batch_submitted = ignore_batch,
                                   .batch_completed = ignore_batch};
    struct mr_context *ctx = mr_context_new("memory", 1);
    enum mr_status status = MR_NOMEM;

    if (ctx == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr_context_set(ctx, "workers", "1");
    mr_context_set(ctx, "batches_max", "2");
    mr_context_set_file(ctx, settings);
    mr_context_add_listener(ctx, &listener);
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), look_away, NULL);
    status = mr_context_start(ctx, err);
    if (status == MR_OK)
        status = mr_context_await(ctx, err);
    CHECK_EQ_INT(mr_context_state(ctx), MR_CONTEXT_STOPPED);
    CHECK_NULL(mr_context_active());
    mr_context_free(ctx);
    return status;
}

TEST(a_failing_allocation_is_an_error_and_leaves_nothing_behind)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    enum mr_status status = MR_NOMEM;
    struct mr_error err;
    const char *settings;
    int step = test_quick() ? 7 : 1;
    int failures = 0;

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_log_set_sink(ignore_line, NULL);
    settings = write_settings(t, "retries = 0\n");
    CHECK_OK(build_and_run(settings, queue, &err), &err);
    for (uint64_t nth = 1; nth < 2000; nth += (uint64_t)step) {
        uint64_t before = mr_alloc_count();

        mr_error_clear(&err);
        mr_alloc_fail_at(nth, false);
        status = build_and_run(settings, queue, &err);
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_OK || status == MR_NOMEM);
        failures += status != MR_OK;
        if (mr_alloc_count() - before < nth)
            break;
    }
    mr_log_set_sink(NULL, NULL);
    CHECK_OK(status, &err);
    CHECK(failures > 10);
    mr_queue_free(queue);
}

/* ---- signals ---- */

/* A function that never comes back, in a process that is told to stop again and again. */
static enum mr_status hang(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                           struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    for (;;) {
        kill(getpid(), *(int *)arg);
        mr_env_sleep_ns(mr_env_posix(), 5000000);
    }
    return MR_OK; /* never; gcc wants one */
}

/* Exit code of a program that hangs and gets that signal. */
static int exit_code_of(int number)
{
    struct mr_queue *queue;
    struct mr_context *ctx;
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        queue = mr_queue_new("value BIGINT");
        ctx = mr_context_new("test", FAST_MS);
        mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
        mr_foreach_rdd(mr_queue_stream(ctx, queue, true), hang, &number);
        _exit(mr_context_main(ctx)); /* not reached: the second signal ends the process */
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(a_second_signal_quits_at_once)
{
    CHECK_EQ_INT(exit_code_of(SIGINT), 130);
    CHECK_EQ_INT(exit_code_of(SIGTERM), 143);
}

/* ---- a function that hangs ---- */

struct hanging {
    struct mr_mutex lock;
    struct mr_cond changed;
    bool is_told; /* the log said that the batch takes long */
    bool has_batch_number;
};

static void look_for_slow(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    struct hanging *hanging = arg;
    char text[512];

    (void)level;
    snprintf(text, sizeof(text), "%.*s", (int)size_bytes, line);
    if (strstr(text, "has been running for") == NULL)
        return;
    mr_mutex_lock(&hanging->lock);
    hanging->is_told = true;
    hanging->has_batch_number = strstr(text, "batch=0") != NULL;
    mr_cond_broadcast(&hanging->changed);
    mr_mutex_unlock(&hanging->lock);
}

/* Returns only when the log has told of it. */
static enum mr_status hang_until_told(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                      struct mr_error *err)
{
    struct hanging *hanging = arg;

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    mr_mutex_lock(&hanging->lock);
    while (!hanging->is_told)
        mr_cond_wait(&hanging->changed, &hanging->lock);
    mr_mutex_unlock(&hanging->lock);
    return MR_OK;
}

TEST(a_function_that_hangs_is_told_in_the_log_with_its_batch)
{
    struct hanging hanging = {.is_told = false};
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("hangs", MR_MILLISECONDS(10));
    struct mr_error err;

    mr_mutex_init(&hanging.lock);
    mr_cond_init(&hanging.changed);
    mr_log_configure(MR_LOG_WARNING, MR_LOG_TEXT);
    mr_log_set_sink(look_for_slow, &hanging);
    mr_context_set(ctx, "slow_batch", "20ms");
    mr_context_set(ctx, "batches_max", "1");
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), hang_until_told, &hanging);
    mr_error_clear(&err);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_log_set_sink(NULL, NULL);
    CHECK(hanging.has_batch_number);
    mr_context_free(ctx);
    mr_queue_free(queue);
    mr_cond_release(&hanging.changed);
    mr_mutex_release(&hanging.lock);
}
