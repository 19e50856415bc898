/*
 * Event times of groups; see agg_times.h.
 *
 *     buckets    | ..., 12 | ..., 13 | ..., 14 | ...      a second each, wider when many
 *                `-> fragments of hashes, 4 bytes a group
 *
 * A bucket that the watermark has passed in part stays as it is until it has passed all of it: who
 * asks looks at the time of each key anyway. So an entry may name a group that is gone, and none is
 * ever missing. Fragments are enough: keys that share one are told apart by their bytes.
 *
 * Called by agg_fold.c and agg_merge.c; rebuilt from the store when it is not known.
 */
#include "ops/agg_times.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/ordinal.h"

#include <string.h>

enum { FIRST_WIDTH_US = 1000 * 1000, BUCKETS_MAX = 4096, FRAGMENTS_MIN = 4 };

/* The bucket of that number, or where it belongs. */
static size_t find_bucket(const struct mr_agg_times *times, int64_t number)
{
    size_t low = 0, high = times->count;

    if (high > 0 && times->buckets[high - 1].number < number)
        return high; /* mostly the newest */
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (times->buckets[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool reserve_fragments(struct mr_agg_bucket *bucket, uint32_t more)
{
    uint64_t wanted = (uint64_t)bucket->count + more;
    uint64_t capacity = MR_MAX(wanted, (uint64_t)bucket->capacity * 2);
    uint32_t *fragments;

    if (wanted <= bucket->capacity)
        return true;
    capacity = MR_MAX(capacity, (uint64_t)FRAGMENTS_MIN);
    if (capacity > UINT32_MAX)
        return false;
    fragments = mr_realloc(NULL, bucket->fragments, capacity * sizeof(*fragments));
    if (fragments == NULL)
        return false;
    bucket->fragments = fragments;
    bucket->capacity = (uint32_t)capacity;
    return true;
}

static bool insert_bucket(struct mr_agg_times *times, size_t at, int64_t number)
{
    if (times->count == times->capacity) {
        size_t capacity = times->capacity == 0 ? 16 : times->capacity * 2;
        struct mr_agg_bucket *buckets =
            mr_realloc(NULL, times->buckets, capacity * sizeof(*buckets));

        if (buckets == NULL)
            return false;
        times->buckets = buckets;
        times->capacity = capacity;
    }
    memmove(&times->buckets[at + 1], &times->buckets[at],
            (times->count - at) * sizeof(*times->buckets));
    times->buckets[at] = (struct mr_agg_bucket){.number = number};
    times->count++;
    return true;
}

/* Buckets of twice the width: neighbours become one. */
static bool widen(struct mr_agg_times *times)
{
    size_t kept = 0;

    for (size_t i = 0; i < times->count; i++) {
        struct mr_agg_bucket bucket = times->buckets[i];
        struct mr_agg_bucket *last = kept > 0 ? &times->buckets[kept - 1] : NULL;

        bucket.number = mr_floor_div(bucket.number, 2);
        if (last == NULL || last->number != bucket.number) {
            times->buckets[kept++] = bucket;
            continue;
        }
        if (!reserve_fragments(last, bucket.count)) {
            times->buckets[i] = bucket; /* nothing is lost, but it is not an index any more */
            memmove(&times->buckets[kept], &times->buckets[i],
                    (times->count - i) * sizeof(*times->buckets));
            times->count -= i - kept;
            return false;
        }
        memcpy(last->fragments + last->count, bucket.fragments,
               bucket.count * sizeof(*bucket.fragments));
        last->count += bucket.count;
        mr_free(bucket.fragments);
    }
    times->count = kept;
    times->width_us *= 2;
    return true;
}

bool mr_agg_times_add(struct mr_agg_times *times, int64_t time_us, uint32_t fragment)
{
    int64_t number;
    size_t at;

    if (times->width_us == 0)
        times->width_us = FIRST_WIDTH_US;
    number = mr_floor_div(time_us, times->width_us);
    at = find_bucket(times, number);
    if (at == times->count || times->buckets[at].number != number) {
        if (!insert_bucket(times, at, number))
            return false;
    }
    if (!reserve_fragments(&times->buckets[at], 1))
        return false;
    times->buckets[at].fragments[times->buckets[at].count++] = fragment;
    while (times->count > BUCKETS_MAX && times->width_us <= INT64_MAX / 4) {
        if (!widen(times))
            return false;
    }
    return true;
}

static bool begins_by(const struct mr_agg_times *times, const struct mr_agg_bucket *bucket,
                      int64_t until_us)
{
    return bucket->number <= mr_floor_div(until_us, times->width_us);
}

uint64_t mr_agg_times_count(const struct mr_agg_times *times, int64_t until_us)
{
    uint64_t count = 0;

    for (size_t i = 0; i < times->count && begins_by(times, &times->buckets[i], until_us); i++)
        count += times->buckets[i].count;
    return count;
}

void mr_agg_times_read(const struct mr_agg_times *times, int64_t until_us, uint32_t *out)
{
    for (size_t i = 0; i < times->count && begins_by(times, &times->buckets[i], until_us); i++) {
        const struct mr_agg_bucket *bucket = &times->buckets[i];

        memcpy(out, bucket->fragments, bucket->count * sizeof(*out));
        out += bucket->count;
    }
}

/* Does the bucket end at or before that time? */
static bool ends_by(const struct mr_agg_times *times, const struct mr_agg_bucket *bucket,
                    int64_t until_us)
{
    return until_us == INT64_MAX || bucket->number < mr_floor_div(until_us + 1, times->width_us);
}

void mr_agg_times_drop(struct mr_agg_times *times, int64_t until_us)
{
    size_t gone = 0;

    while (gone < times->count && ends_by(times, &times->buckets[gone], until_us))
        mr_free(times->buckets[gone++].fragments);
    if (gone > 0)
        memmove(times->buckets, &times->buckets[gone],
                (times->count - gone) * sizeof(*times->buckets));
    times->count -= gone;
    times->least_us = INT64_MAX;
    if (times->count > 0) { /* in a bucket passed in part, later than that */
        int64_t begins_us;

        if (__builtin_mul_overflow(times->buckets[0].number, times->width_us, &begins_us))
            begins_us = INT64_MIN;
        times->least_us = MR_MAX(begins_us, until_us + 1);
    }
}

void mr_agg_times_clear(struct mr_agg_times *times)
{
    for (size_t i = 0; i < times->count; i++)
        mr_free(times->buckets[i].fragments);
    times->count = 0;
    times->width_us = 0;
    times->is_known = false;
    times->least_us = INT64_MAX;
}

void mr_agg_times_release(struct mr_agg_times *times)
{
    mr_agg_times_clear(times);
    mr_free(times->buckets);
    times->buckets = NULL;
    times->capacity = 0;
}
