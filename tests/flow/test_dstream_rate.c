/*
 * Backpressure: the estimator, figure by figure, and the limits that an input gets from it.
 */
#include "dstream/rate.h"
#include "dstream/streams.h"
#include "support/test.h"

#include "base/log.h"

#include <millrace/ext/durable.h>
#include <millrace/listener.h>
#include <millrace/receiver.h>

#include <stdatomic.h>
#include <stdlib.h>

static struct mr__pid pid_of(int64_t interval_ms, double proportional, double integral,
                             double derivative, double min_rate)
{
    struct mr__pid_config config = {interval_ms, proportional, integral, derivative, min_rate};
    struct mr__pid pid;
    struct mr_error err;

    CHECK_OK(mr__pid_check(&config, &err), &err);
    mr__pid_init(&pid, &config);
    return pid;
}

/* The figure of a measurement; -1 = none. */
static double measure(struct mr__pid *pid, int64_t time_ms, int64_t record_count, int64_t work_ms,
                      int64_t wait_ms)
{
    double rate = -1;

    return mr__pid_measure(pid, time_ms, record_count, work_ms, wait_ms, &rate) ? rate : -1;
}

TEST(V257_the_estimator_checks_its_arguments)
{
    static const struct {
        struct mr__pid_config config;
        const char *text;
    } rows[] = {
        {{0, 1, 1, 0, 10}, "interval of 0 ms"},   {{100, -1, 1, 0, 10}, "the gains -1"},
        {{100, 0, -1, 0, 10}, "the gains 0, -1"}, {{100, 0, 0, -1, 10}, "0 and -1"},
        {{100, 0, 0, 0, 0}, "least rate of 0"},   {{100, 0, 0, 0, -10}, "least rate of -10"},
    };
    struct mr_error err;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_FAILS(mr__pid_check(&rows[i].config, &err), &err, MR_CONFIG, rows[i].text);
}

TEST(V259_the_second_measurement_gives_a_rate)
{
    struct mr__pid pid = pid_of(20, 1, 0, 0, 10);

    CHECK_EQ_DOUBLE(measure(&pid, 0, 10, 10, 0), -1);
    CHECK_EQ_DOUBLE(measure(&pid, 10, 10, 10, 0), 1000);
}

TEST(V260_no_rate_when_no_time_has_passed)
{
    struct mr__pid pid = pid_of(20, 1, 0, 0, 10);

    measure(&pid, 0, 10, 10, 0);
    CHECK_EQ_DOUBLE(measure(&pid, 10, 10, 10, 0), 1000);
    CHECK_EQ_DOUBLE(measure(&pid, 10, 10, 10, 0), -1);
}

TEST(V262_no_rate_from_a_batch_without_records_or_without_time)
{
    struct mr__pid pid = pid_of(20, 1, 0, 0, 10);

    CHECK_EQ_DOUBLE(measure(&pid, 0, 10, 10, 0), -1);
    CHECK_EQ_DOUBLE(measure(&pid, 10, 10, 0, 0), -1);
    CHECK_EQ_DOUBLE(measure(&pid, 20, 10, -10, 0), -1);
    CHECK_EQ_DOUBLE(measure(&pid, 30, 0, 10, 0), -1);
    CHECK_EQ_DOUBLE(measure(&pid, 40, -10, 10, 0), -1);
    /* and they change nothing: the next is the second */
    CHECK_EQ_DOUBLE(measure(&pid, 50, 10, 10, 0), 1000);
}

TEST(V263_a_rate_is_never_below_the_least)
{
    struct mr__pid pid = pid_of(20, 1, 1, 0, 5);

    CHECK_EQ_DOUBLE(measure(&pid, 0, 1, 20, 100), -1);
    for (int64_t i = 1; i < 50; i++)
        CHECK_EQ_DOUBLE(measure(&pid, i * 20, 1, 20, 100), 5);
}

TEST(V265_without_a_queue_the_rate_follows_the_processing_speed)
{
    struct mr__pid up = pid_of(20, 1, 1, 0, 10), down = up;

    CHECK_EQ_DOUBLE(measure(&up, 0, 20, 20, 0), -1);
    CHECK_EQ_DOUBLE(measure(&down, 0, 1000, 20, 0), -1);
    for (int64_t i = 1; i < 50; i++) {
        CHECK_EQ_DOUBLE(measure(&up, i * 20, (i + 1) * 20, 20, 0), (double)(i + 1) * 1000);
        CHECK_EQ_DOUBLE(measure(&down, i * 20, (50 - i) * 20, 20, 0), (double)(50 - i) * 1000);
    }
}

TEST(V266_with_a_queue_the_rate_stays_below_the_processing_speed)
{
    struct mr__pid pid = pid_of(20, 1, 0.01, 0, 10);
    unsigned seed = (unsigned)test_seed(266);

    for (int64_t i = 0; i < 50; i++) {
        int64_t count = 1000 + rand_r(&seed) % 1000, wait_ms = 1 + rand_r(&seed) % 19;
        double rate = measure(&pid, i * 20, count, 20, wait_ms);

        if (i == 0)
            CHECK_EQ_DOUBLE(rate, -1);
        else
            CHECK(rate >= 10 && rate < (double)count / 20 * 1000);
    }
}

TEST(V268_all_three_gains_at_once)
{
    struct mr__pid pid = pid_of(1000, 1, 0.2, 0.5, 100);

    CHECK_EQ_DOUBLE(measure(&pid, 1000, 1000, 1000, 0), -1);
    CHECK_NEAR(measure(&pid, 2000, 1200, 1000, 100), 1276, 1e-9);
    CHECK_NEAR(measure(&pid, 4000, 900, 1000, 0), 756, 1e-9);
}

/* ---- a receiver's limit ---- */

/* A receiver that always has more; its batches are slower than the least rate, which is thus what
 * the estimator says: a constant. */
struct flood {
    struct mr_receiver_handle *receiver;
    struct mr_thread *thread;
    atomic_bool ending;
};

static void pour(void *arg)
{
    struct flood *flood = arg;

    for (int64_t i = 0; !atomic_load(&flood->ending); i++) {
        if (mr_receiver_put_int(flood->receiver, i, NULL) != MR_OK)
            return;
    }
}

static enum mr_status start_pouring(struct mr_receiver_handle *receiver, void *arg,
                                    struct mr_error *err)
{
    struct flood *flood = arg;

    flood->receiver = receiver;
    atomic_store(&flood->ending, false);
    return mr_thread_start("pouring", pour, flood, &flood->thread, err);
}

static void stop_pouring(struct mr_receiver_handle *receiver, void *arg)
{
    struct flood *flood = arg;

    (void)receiver;
    atomic_store(&flood->ending, true);
    mr_thread_join(flood->thread);
    flood->thread = NULL;
}

/* 20 ms for a record: at most 50 a second. */
static enum mr_status be_slow(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                              struct mr_error *err)
{
    int64_t count = 0;

    (void)batch_time_ms;
    (void)arg;
    MR_TRY(mr_rdd_count(rdd, &count, err));
    mr_env_sleep_ns(mr_env_posix(), MR_MIN(count, INT64_C(4)) * 20000000);
    return MR_OK;
}

static struct mr_context *flooded(struct flood *flood, const char *checkpoint, const char *least)
{
    struct mr_receiver_spec spec = {.name = "Flood",
                                    .columns = "value BIGINT",
                                    .on_start = start_pouring,
                                    .on_stop = stop_pouring,
                                    .arg = flood};
    struct mr_context *ctx = mr_context_new("flooded", 20);

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_context_checkpoint(ctx, checkpoint);
    mr_context_set(ctx, "block_interval", "5ms");
    mr_context_set(ctx, "spark.streaming.backpressure.enabled", "true");
    mr_context_set(ctx, "spark.streaming.backpressure.initialRate", "50");
    mr_context_set(ctx, "spark.streaming.backpressure.pid.minRate", least);
    mr_foreach_rdd(mr_receiver_stream(ctx, &spec), be_slow, NULL);
    return ctx;
}

static int64_t limit_of(struct mr_context *ctx)
{
    struct mr_receiver_report report;

    return mr_context_receiver(ctx, 0, &report) ? report.rate_limit : 0;
}

/* Runs until the receiver's limit is that; returns after how many batches. */
static uint64_t run_to_limit(struct mr_context *ctx, int64_t limit)
{
    struct mr_statistics now;
    struct mr_error err;

    CHECK_OK(mr_context_start(ctx, &err), &err);
    while (limit_of(ctx) != limit) {
        CHECK(limit_of(ctx) == 50 || limit_of(ctx) == 0);
        mr_env_sleep_ns(mr_env_posix(), 500000);
    }
    mr_context_statistics(ctx, &now);
    mr_context_free(ctx);
    return now.completed_batches;
}

TEST(V269_the_receivers_limit_follows_the_estimator)
{
    static const char *const texts[] = {"100", "200", "300"};

    for (int i = 0; i < 3; i++) {
        struct flood flood = {.thread = NULL};

        CHECK(run_to_limit(flooded(&flood, NULL, texts[i]), (i + 1) * 100) >= 2);
    }
}

TEST(V167_after_a_restart_the_limit_is_in_force_at_once)
{
    struct flood flood = {.thread = NULL};
    struct mr_context *ctx;
    struct mr_error err;

    CHECK(run_to_limit(flooded(&flood, test_path(t, "cp"), "200"), 200) >= 2);
    ctx = flooded(&flood, test_path(t, "cp"), "200");
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_EQ_INT(limit_of(ctx), 200);
    mr_context_free(ctx);
}

TEST(rates_of_another_run_that_cannot_be_used_are_learnt_again)
{
    static const char *const texts[] = {
        "rubbish",
        "{}",
        "{\"inputs\":7}",
        "{\"inputs\":[{\"name\":\"receiver_stream-0\",\"time_ms\":9223372036854775807,"
        "\"rate_milli\":77000,\"error_milli\":0}]}",
        "{\"inputs\":[{\"name\":\"receiver_stream-0\",\"time_ms\":1,\"rate_milli\":-1,"
        "\"error_milli\":0}]}",
        "{\"inputs\":[{\"name\":\"other\",\"time_ms\":1,\"rate_milli\":77000,"
        "\"error_milli\":0}]}",
        "{\"inputs\":[{\"name\":\"receiver_stream-0\",\"time_ms\":1,\"rate_milli\":77000,"
        "\"error_milli\":0}]}", /* and a good one */
    };
    const char *dir = test_path(t, "cp");
    size_t count = sizeof(texts) / sizeof(texts[0]);
    struct mr_error err;

    for (size_t i = 0; i < count; i++) {
        struct flood flood = {.thread = NULL};
        struct mr_context *ctx = flooded(&flood, dir, "200");

        if (i > 0)
            CHECK_OK(mr_durable_put(mr_env_posix(), dir, "rates", texts[i], strlen(texts[i]), false,
                                    &err),
                     &err);
        CHECK_OK(mr_context_start(ctx, &err), &err);
        CHECK_EQ_INT(limit_of(ctx), i + 1 < count ? 50 : 77);
        mr_context_free(ctx);
    }
}

/* A millisecond for a record: 1000 a second. */
static enum mr_status take_a_millisecond_each(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                              struct mr_error *err)
{
    int64_t count = 0;

    (void)batch_time_ms;
    (void)arg;
    MR_TRY(mr_rdd_count(rdd, &count, err));
    mr_env_sleep_ns(mr_env_posix(), count * 1000000);
    return MR_OK;
}

TEST(a_flood_is_held_back_to_what_a_slow_output_can_do)
{
    struct flood flood = {.thread = NULL};
    struct mr_receiver_spec spec = {.name = "Flood",
                                    .columns = "value BIGINT",
                                    .on_start = start_pouring,
                                    .on_stop = stop_pouring,
                                    .arg = &flood};
    struct mr_context *ctx = mr_context_new("flooded", 50);
    struct mr_receiver_report report;
    struct mr_statistics now;
    struct mr_error err;

    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_context_set(ctx, "block_interval", "10ms");
    mr_context_set(ctx, "backpressure", "true");
    mr_context_set(ctx, "backpressure_initial_rate", "5000");
    mr_foreach_rdd(mr_receiver_stream(ctx, &spec), take_a_millisecond_each, NULL);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    do {
        mr_env_sleep_ns(mr_env_posix(), 5000000);
        mr_context_statistics(ctx, &now);
    } while (now.completed_batches < 20);
    CHECK(mr_context_receiver(ctx, 0, &report));
    mr_context_statistics(ctx, &now);
    /* without limits it would be millions */
    CHECK(report.rate_limit >= 100 && report.rate_limit < 1200);
    CHECK(report.record_count - now.processed_records < 5000);
    mr_context_stop(ctx, false);
    mr_context_free(ctx);
}

TEST(wrong_gains_end_the_start)
{
    struct flood flood = {.thread = NULL};
    struct mr_context *ctx = flooded(&flood, NULL, "0");
    struct mr_error err;

    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_CONFIG, "a least rate of 0");
    mr_context_free(ctx);
    ctx = flooded(&flood, NULL, "1");
    mr_context_set(ctx, "backpressure_estimator", "fixed");
    CHECK_FAILS(mr_context_start(ctx, &err), &err, MR_CONFIG, "pid");
    mr_context_free(ctx);
}
