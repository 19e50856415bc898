/*
 * Dynamic allocation: the policy, figure by figure, and workers that come and go.
 */
#include "dstream/allocation.h"
#include "support/test.h"

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

TEST(V292_wrong_settings_are_refused)
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
