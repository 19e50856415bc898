/*
 * Dynamic allocation: the policy, figure by figure, and workers that come and go.
 */
#include "dstream/allocation.h"
#include "env/sim.h"
#include "support/dstream.h"

#include <millrace/receiver.h>

/* One receiver, two workers, a batch a second: what the policy says of a mean processing time. */
static struct mr__allocation_config usual(uint32_t receiver_count)
{
    return (struct mr__allocation_config){
        .batch_interval_ms = 1000,
        .scaling_interval_ms = 60000,
        .up_ratio = 0.9,
        .down_ratio = 0.3,
        .receiver_count = receiver_count,
    };
}

/* 0 = nothing changes. */
static int64_t decision(int64_t mean_ms, int64_t current)
{
    struct mr__allocation_config config = usual(1);
    struct mr__allocation allocation;
    int64_t total = 0;

    mr__allocation_init(&allocation, &config, 5000);
    mr__allocation_add(&allocation, mean_ms - 100);
    mr__allocation_add(&allocation, mean_ms + 100);
    CHECK(!mr__allocation_decide(&allocation, 64999, current, &total));
    return mr__allocation_decide(&allocation, 65000, current, &total) ? total : 0;
}

TEST(V286_slow_batches_ask_for_more_workers)
{
    CHECK_EQ_INT(decision(1000, 2), 3);
    CHECK_EQ_INT(decision(2000, 2), 4);
    CHECK_EQ_INT(decision(901, 2), 3);
}

TEST(V287_between_the_ratios_nothing_changes)
{
    CHECK_EQ_INT(decision(899, 2), 0);
    CHECK_EQ_INT(decision(301, 2), 0);
}

TEST(fast_batches_give_one_worker_back_but_keep_one_for_each_receiver)
{
    CHECK_EQ_INT(decision(300, 2), 1);
    CHECK_EQ_INT(decision(101, 3), 2);
    CHECK_EQ_INT(decision(101, 1), 0);
}

static int64_t total_of(const struct mr__allocation_config *config, int64_t current, int64_t more)
{
    struct mr_error err;
    int64_t total = 0;

    CHECK_OK(mr__allocation_total(config, current, more, &total, &err), &err);
    return total;
}

TEST(V289_never_fewer_workers_than_receivers)
{
    struct mr__allocation_config one = usual(1), two = usual(2);
    struct mr_error err;
    int64_t total;

    CHECK_EQ_INT(total_of(&one, 0, 1), 1);
    CHECK_EQ_INT(total_of(&one, 1, 1), 2);
    CHECK_EQ_INT(total_of(&one, 2, 2), 4);
    CHECK_EQ_INT(total_of(&two, 0, 1), 2);
    CHECK_EQ_INT(total_of(&two, 1, 1), 2);
    CHECK_EQ_INT(total_of(&two, 2, 2), 4);
    CHECK_FAILS(mr__allocation_total(&one, 1, 0, &total, &err), &err, MR_CONFIG,
                "ask for 1 or more");
}

TEST(V290_the_limits_that_were_given)
{
    static const int64_t pairs[][2] = {{0, 1}, {0, 3}, {1, 1}, {1, 2}, {2, 1}, {2, 2}};
    static const int64_t with_min[] = {2, 3, 2, 3, 3, 4};
    static const int64_t with_max[] = {1, 2, 2, 2, 2, 2};
    struct mr__allocation_config min = usual(1), max = usual(1);

    min.has_min = true;
    min.min_workers = 2;
    max.has_max = true;
    max.max_workers = 2;
    for (size_t i = 0; i < 6; i++) {
        CHECK_EQ_INT(total_of(&min, pairs[i][0], pairs[i][1]), with_min[i]);
        CHECK_EQ_INT(total_of(&max, pairs[i][0], pairs[i][1]), with_max[i]);
    }
}

TEST(V292_wrong_limits_and_ratios_are_refused)
{
    struct mr__allocation_config config = usual(1);
    struct mr_error err;

#define CHECK_REFUSED(change, part)                                                                \
    do {                                                                                           \
        config = usual(1);                                                                         \
        change;                                                                                    \
        CHECK_FAILS(mr__allocation_check(&config, &err), &err, MR_CONFIG, part);                   \
    } while (0)
    CHECK_OK(mr__allocation_check(&config, &err), &err);
    CHECK_REFUSED((config.has_min = true, config.min_workers = 0), "'workers_min' is 0");
    CHECK_REFUSED((config.has_min = true, config.min_workers = -1), "'workers_min' is -1");
    CHECK_REFUSED((config.has_max = true, config.max_workers = 0), "'workers_max' is 0");
    CHECK_REFUSED((config.has_max = true, config.max_workers = -1), "'workers_max' is -1");
    CHECK_REFUSED(
        (config.has_min = config.has_max = true, config.min_workers = 4, config.max_workers = 3),
        "(3) is below 'workers_min' (4)");
    CHECK_REFUSED(config.scaling_interval_ms = 0, "of 0 ms");
    CHECK_REFUSED(config.scaling_interval_ms = -1, "of -1 ms");
    CHECK_REFUSED(config.up_ratio = 0, "more than 0");
    CHECK_REFUSED(config.down_ratio = 0, "more than 0");
    CHECK_REFUSED(config.up_ratio = -0.1, "more than 0");
    CHECK_REFUSED((config.up_ratio = 0.5, config.down_ratio = 0.5), "must be above");
    CHECK_REFUSED((config.up_ratio = 0.3, config.down_ratio = 0.5), "must be above");
}

/* ---- workers that come and go ---- */

/* Each batch takes slow_ms, then fast_ms, of the virtual clock. */
struct load {
    struct ds *d;
    struct mr_context *ctx;
    int64_t slow_ms;
    int64_t fast_ms;
    int slow_batches;
    int batches;
    unsigned most;
    unsigned last;
};

static enum mr_status take_time(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    struct load *load = arg;
    bool slow = load->batches++ < load->slow_batches;

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    load->last = mr_query_workers(load->ctx->query);
    load->most = MR_MAX(load->most, load->last);
    mr_sim_advance_ns(ds_sim(load->d), (slow ? load->slow_ms : load->fast_ms) * 1000000);
    return MR_OK;
}

static void begin_load(struct load *load, struct ds *d)
{
    load->d = d;
    load->ctx = ds_begin(d, MR_SECONDS(1), NULL);
    mr_context_set(load->ctx, "workers", "2");
    mr_context_set(load->ctx, "spark.streaming.dynamicAllocation.enabled", "true");
    mr_context_set(load->ctx, "spark.streaming.dynamicAllocation.scalingInterval", "10");
    mr_foreach_rdd(ds_stream(d), take_time, load);
}

TEST(workers_are_added_while_batches_are_slow_and_given_back_when_they_are_fast)
{
    struct load load = {.slow_ms = 950, .fast_ms = 10, .slow_batches = 40};
    struct ds *d = ds_new(t, "value BIGINT");

    begin_load(&load, d);
    mr_context_set(load.ctx, "workers_max", "4");
    ds_must_run(d, 160);
    CHECK_EQ_UINT(load.most, 4);
    CHECK_EQ_UINT(load.last, 1);
    ds_free(d);
}

TEST(workers_stay_as_they_are_when_allocation_is_off_or_batches_are_as_they_should)
{
    struct load load = {.slow_ms = 600, .fast_ms = 600};
    struct ds *d = ds_new(t, "value BIGINT");

    begin_load(&load, d);
    ds_must_run(d, 60);
    CHECK_EQ_UINT(load.most, 2);
    CHECK_EQ_UINT(load.last, 2);
    load.fast_ms = 950;
    begin_load(&load, d);
    mr_context_set(load.ctx, "dynamic_allocation", "off");
    ds_must_run(d, 60);
    CHECK_EQ_UINT(load.most, 2);
    CHECK_EQ_UINT(load.last, 2);
    ds_free(d);
}

TEST(V292_both_kinds_of_allocation_at_once_are_refused_at_the_start)
{
    struct load load = {.slow_ms = 1};
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;

    begin_load(&load, d);
    mr_context_set(load.ctx, "spark.dynamicAllocation.enabled", "true");
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "on twice");
    begin_load(&load, d);
    mr_context_set(load.ctx, "spark.streaming.dynamicAllocation.minExecutors", "4");
    mr_context_set(load.ctx, "spark.streaming.dynamicAllocation.maxExecutors", "3");
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "'workers_max' (3) is below");
    ds_free(d);
}

static enum mr_status nothing(struct mr_receiver_handle *receiver, void *arg, struct mr_error *err)
{
    (void)receiver;
    (void)arg;
    (void)err;
    return MR_OK;
}

static enum mr_status stop_soon(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                struct mr_error *err)
{
    struct load *load = arg;

    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    load->last = mr_query_workers(load->ctx->query);
    mr_context_stop_soon(load->ctx, false);
    return MR_OK;
}

TEST(a_context_with_receivers_has_at_least_as_many_workers)
{
    struct mr_receiver_spec spec = {.columns = "value BIGINT", .on_start = nothing};
    struct load load = {.last = 0};
    struct mr_error err;

    load.ctx = mr_context_new("receivers", 20);
    mr_context_set(load.ctx, "workers", "1");
    mr_context_set(load.ctx, "dynamic_allocation", "on");
    for (int i = 0; i < 3; i++)
        mr_foreach_rdd(mr_receiver_stream(load.ctx, &spec), stop_soon, &load);
    CHECK_OK(mr_context_start(load.ctx, &err), &err);
    CHECK_OK(mr_context_await(load.ctx, &err), &err);
    CHECK_EQ_UINT(load.last, 3);
    mr_context_free(load.ctx);
}
