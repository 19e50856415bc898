/* Rates -> records of a batch (KD-7). Vectors V301 - V305 of the Kafka section. */
#include "support/test.h"

#ifdef MR_WITH_KAFKA
#include "sources/kafka/clamp.h"

#define MS INT64_C(1000)

static void check(struct mr_ksrc_rates rates, const struct mr_ksrc_waiting *waiting, size_t count,
                  const int64_t *expected)
{
    int64_t records[8];

    mr_ksrc_clamp(&rates, waiting, count, records);
    for (size_t i = 0; i < count; i++)
        CHECK_EQ_INT(records[i], expected[i]);
}

TEST(V301_a_rate_clamps_nothing_when_nothing_waits)
{
    check((struct mr_ksrc_rates){100, 1, 100 * MS}, (struct mr_ksrc_waiting[]){{0, 0}, {0, 0}}, 2,
          (int64_t[]){-1, -1});
}

TEST(V302_a_partition_has_its_share_and_at_most_its_own_limit)
{
    check((struct mr_ksrc_rates){1000, 1, 100 * MS},
          (struct mr_ksrc_waiting[]){{1000, 50}, {1000, 100}}, 2, (int64_t[]){5, 10});
}

TEST(V304_the_first_rate_honours_the_limit_of_a_partition)
{
    check((struct mr_ksrc_rates){1000, 1, 500 * MS}, (struct mr_ksrc_waiting[]){{1000, 300}}, 1,
          (int64_t[]){150});
}

TEST(V305_shares_follow_the_lags_and_have_a_minimum)
{
    check((struct mr_ksrc_rates){1, 5, 60000 * MS},
          (struct mr_ksrc_waiting[]){{0, 100}, {100, 100}, {200, 100}, {300, 100}}, 4,
          (int64_t[]){5, 10, 20, 30});
}

TEST(without_a_rate_each_limit_counts_and_others_are_not_clamped)
{
    check((struct mr_ksrc_rates){0, 1, 2000 * MS},
          (struct mr_ksrc_waiting[]){{1000, 10}, {1000, 0}}, 2, (int64_t[]){20, -1});
    check((struct mr_ksrc_rates){0, 1, 2000 * MS}, (struct mr_ksrc_waiting[]){{1000, 0}}, 1,
          (int64_t[]){-1});
}

TEST(a_limit_below_one_record_a_batch_is_the_minimum)
{
    check((struct mr_ksrc_rates){0, 1, 100 * MS}, (struct mr_ksrc_waiting[]){{1000, 3}}, 1,
          (int64_t[]){1});
}
#else
TEST(this_build_has_no_kafka)
{
    CHECK(true);
}
#endif
