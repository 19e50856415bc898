/*
 * What streams remember: how long, and the datasets themselves (persist.c, remember.c, slice.c).
 */
#ifndef MR_DSTREAM_REMEMBER_H
#define MR_DSTREAM_REMEMBER_H

#include "dstream/streams.h"

/* ---- persist.c ---- */

/* The checkpoint interval in force: the program's, or the default of what keeps state (DS-4); 0 for
 * everything else. */
int64_t mr__checkpoint_ms(const struct mr_dstream *stream);
/* What start checks of the streams that an output needs (dstream.md 4.5), and how long each of them
 * remembers (DS-4, DS-10). */
enum mr_status mr__remember_plan(struct mr_context *ctx, struct mr_error *err);
/* Are its datasets kept? */
bool mr__is_remembered(const struct mr_dstream *stream);

/* ---- remember.c ---- */

/* One dataset: the batches of each partition. */
struct mr__dataset {
    int64_t time_us;
    uint64_t batch_id;
    struct mr__batches *partitions;
    uint32_t partition_count;
};
/* Its partitions once more, sharing the batches. Returns new: the array and the lists. */
enum mr_status mr__dataset_share(const struct mr__dataset *dataset,
                                 struct mr__batches **ret_partitions, struct mr_error *err);
/* Those of one stream, oldest first. */
struct mr__kept {
    struct mr_mutex lock; /* guards what follows */
    bool is_open;         /* the context has started, and keeps them */
    int64_t zero_time_us; /* known once there are any */
    struct mr__dataset *items;
    size_t count;
    size_t capacity;
    int64_t forgotten_us; /* up to here, also what was before a restart */
    bool any_forgotten;
};
/* A sink of the kernel behind each stream that is remembered: keeps its datasets and forgets them
 * (DS-11). */
enum mr_status mr__remember_lower(struct mr__lowering *low, struct mr_error *err);
struct mr__kept *mr__kept_new(void);
void mr__kept_free(struct mr__kept *kept); /* NULL allowed */
/* The dataset of that time; NULL when there is none. Hold the lock. */
const struct mr__dataset *mr__kept_find(const struct mr__kept *kept, int64_t time_us);

#endif
