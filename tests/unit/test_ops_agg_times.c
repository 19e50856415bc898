/*
 * The index of the groups of a shard by event time.
 */
#include "support/test.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/agg_times.h"

#include <stdlib.h>

enum { GROUPS = 20000 };

static int compare_u32(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

/* Group i has time times[i]: all at or below the limit are named, whatever else is. */
static void check_named(const struct mr_agg_times *index, const int64_t *times, uint32_t count,
                        int64_t gone_us, int64_t until_us)
{
    uint64_t named = mr_agg_times_count(index, until_us);
    uint32_t *out = mr_alloc(NULL, (named + 1) * sizeof(*out));

    mr_agg_times_read(index, until_us, out);
    qsort(out, named, sizeof(*out), compare_u32);
    for (uint32_t i = 0; i < count; i++) {
        if (times[i] > gone_us && times[i] <= until_us)
            CHECK(bsearch(&i, out, named, sizeof(*out), compare_u32) != NULL);
    }
    mr_free(out);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Times within span_us of each other, dropped in steps. */
static void check_span(int64_t from_us, uint64_t span_us, uint64_t seed)
{
    struct mr_agg_times index = {.least_us = INT64_MAX};
    int64_t *times = mr_alloc(NULL, GROUPS * sizeof(*times));
    int64_t gone_us = INT64_MIN;

    for (uint32_t i = 0; i < GROUPS; i++) {
        times[i] = from_us + (int64_t)(next_random(&seed) % span_us);
        CHECK(mr_agg_times_add(&index, times[i], i));
    }
    CHECK(index.count <= 4096);
    for (int step = 1; step <= 8; step++) {
        int64_t until_us = from_us + (int64_t)(span_us / 8 * (uint64_t)step);

        check_named(&index, times, GROUPS, gone_us, until_us);
        mr_agg_times_drop(&index, until_us);
        CHECK(index.count == 0 || index.least_us > until_us);
        for (uint32_t i = 0; i < GROUPS; i++)
            CHECK(times[i] <= until_us || times[i] >= index.least_us);
        gone_us = until_us;
    }
    mr_agg_times_release(&index);
    mr_free(times);
}

TEST(every_group_is_named_when_its_time_has_passed)
{
    check_span(0, 1, 1);
    check_span(INT64_C(1700000000000000), 3000000, 2);               /* a few seconds */
    check_span(INT64_C(-86400000000), UINT64_C(2) * 86400000000, 3); /* around the epoch */
    check_span(0, UINT64_C(100) * 366 * 86400000000, 4);             /* a century */
    check_span(INT64_MIN + 1, (uint64_t)INT64_MAX, 5);               /* all there is */
    check_span(INT64_MAX - 5000000, 5000000, 6);
}

TEST(a_bucket_that_was_passed_in_part_stays_until_all_of_it_was)
{
    struct mr_agg_times index = {.least_us = INT64_MAX};

    CHECK(mr_agg_times_add(&index, 100, 1));
    CHECK(mr_agg_times_add(&index, 900000, 2));
    CHECK(mr_agg_times_add(&index, 5000000, 3));
    CHECK_EQ_UINT(mr_agg_times_count(&index, -1), 0);
    CHECK_EQ_UINT(mr_agg_times_count(&index, 100), 2);
    mr_agg_times_drop(&index, 100);
    CHECK_EQ_UINT(mr_agg_times_count(&index, 999999), 2);
    CHECK_EQ_INT(index.least_us, 101);
    mr_agg_times_drop(&index, 999999);
    CHECK_EQ_UINT(mr_agg_times_count(&index, 4999999), 0);
    CHECK_EQ_INT(index.least_us, 5000000);
    mr_agg_times_drop(&index, 6000000);
    CHECK_EQ_INT(index.least_us, INT64_MAX);
    mr_agg_times_release(&index);
}
