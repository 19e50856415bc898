/*
 * Backpressure: the estimator, figure by figure, and the limits that an input gets from it.
 */
#include "dstream/rate.h"
#include "support/test.h"

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
