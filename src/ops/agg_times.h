/*
 * When the groups of one shard close: an index in memory from event time to keys, so that taking
 * out what has expired costs what it takes out and not a look at every group.
 *
 * Thread: that of the shard.
 */
#ifndef MR_OPS_AGG_TIMES_H
#define MR_OPS_AGG_TIMES_H

#include "state/state.h"

/* Groups whose time is in [number * width, (number + 1) * width). */
struct mr_agg_bucket {
    int64_t number;
    uint32_t
        *fragments; /* top 32 bits of the hashes of their keys; may name groups that are gone */
    uint32_t count;
    uint32_t capacity;
};

struct mr_agg_times {
    bool is_known;                 /* everything below holds for all groups of the shard */
    int64_t least_us;              /* no group is older; INT64_MAX = none with a time */
    int64_t width_us;              /* 0 until the first one */
    struct mr_agg_bucket *buckets; /* by number */
    size_t count;
    size_t capacity;
};

/* A new group; false without memory. */
bool mr_agg_times_add(struct mr_agg_times *times, int64_t time_us, uint32_t fragment);
/* How many groups may be at or below that time: those of whole buckets. */
uint64_t mr_agg_times_count(const struct mr_agg_times *times, int64_t until_us);
/* Appends their fragments to out, which has room for that count. */
void mr_agg_times_read(const struct mr_agg_times *times, int64_t until_us, uint32_t *out);
/* All groups at or below that time are gone. */
void mr_agg_times_drop(struct mr_agg_times *times, int64_t until_us);
/* Forgets everything; not known then. */
void mr_agg_times_clear(struct mr_agg_times *times);
void mr_agg_times_release(struct mr_agg_times *times);

#endif
