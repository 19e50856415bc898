/*
 * Inside of the aggregate fold: what agg_fold.c (the operator, expiry, results) and agg_merge.c
 * (partials into the store) share.
 *
 * Thread: a lane belongs to the worker that runs its partition; the rest is read-only meanwhile,
 * except the entries of `times` of the lane's own shards.
 */
#ifndef MR_OPS_AGG_FOLD_H
#define MR_OPS_AGG_FOLD_H

#include "ops/agg_deal.h"
#include "ops/agg_times.h"

#include "base/alloc.h"

struct mr_agg_key {
    const char *data;
    size_t size_bytes;
};

struct mr_agg_keys {
    struct mr_agg_key *keys;
    size_t count;
    size_t capacity;
};

/* A partial of a bucket: its hash, and its bytes in the input's memory. */
struct mr_agg_ref {
    uint64_t hash;
    const char *key;
    const char *value;
    uint32_t key_bytes;
    uint32_t value_bytes;
};

/* Its place in the order of hashes. */
struct mr_agg_place {
    uint32_t low; /* bits of the hash below those of the bucket */
    uint32_t number;
};

/* The partials of one bucket, from all batches of the input; memory of the largest so far. */
struct mr_agg_bucket_refs {
    uint32_t number; /* of the bucket */
    struct mr_agg_ref *refs;
    struct mr_agg_place *places;
    struct mr_agg_place *scratch;
    size_t count;
    size_t capacity;
};

/* What one partition of the output works with: one shard of the store, or all of them in a small
 * batch. Memory is kept between batches. */
struct mr_agg_lane {
    struct mr_output *out;
    const struct mr_batch_info *info;
    unsigned first_shard;
    unsigned last_shard;
    struct mr_agg_bucket_refs bucket; /* one shard: what is being merged */
    size_t *cursors;                  /* the same: how far each part has been read */
    struct mr_agg_keys touched; /* all shards, update mode: keys of merged partials, in the input's
                                   memory */
    struct mr_agg_keys expired; /* in arena */
    struct mr_arena arena;
    struct mr_buf merged;
    /* layouts that pack: partials of a key; what is in the store with them; as it is stored. (Here,
     * because large arrays of a function may be cleared whenever it is called.) */
    char fixed[MR_AGG_PACKS_UP_TO_BYTES];
    char group[MR_AGG_PACKS_UP_TO_BYTES];
    char packed[MR_AGG_PACK_ROOM_BYTES];
    struct mr_batch_builder *builder;
    int64_t builder_rows;
    size_t rows_left; /* at most so many more will be emitted by the merge; else 0 */
    uint64_t late_rows;
};

/* One batch of partials. */
struct mr_agg_part {
    const struct mr_column *keys;
    const struct mr_column *values;
    const uint64_t *hashes; /* NULL: of a plain half, which tells none */
};

struct mr_agg_fold {
    struct mr_agg_layout *layout;
    struct mr_agg_link *link; /* NULL: the input comes from a plain half */
    enum mr_output_mode mode;
    char *state_name;
    struct mr_store *store;
    int32_t time_key; /* index of the event time among the keys, -1 = none */
    bool time_is_nanos;
    int64_t time_add_us;
    struct mr_agg_keys always; /* groups that are there without rows; in arena */
    struct mr_arena arena;

    bool any_run; /* since open: the two below hold */
    uint64_t last_batch_id;
    int64_t last_watermark_us;
    struct mr_agg_times times[MR_STORE_SHARDS]; /* of groups; unused without a time */

    /* Of the batch being run. */
    struct mr_agg_part *parts;
    size_t part_count;
    struct mr_agg_lane lanes[MR_STORE_SHARDS];
};

enum mr_status mr_agg_fold_no_memory(struct mr_error *err);
bool mr_agg_keys_add(struct mr_agg_keys *list, const char *data, size_t size_bytes);
/* Sorts and leaves one of each. */
void mr_agg_keys_sort(struct mr_agg_keys *list);
/* Event time of a key; *ret_has false when it is null. */
enum mr_status mr_agg_key_time(const struct mr_agg_fold *fold, const char *key, size_t key_bytes,
                               bool *ret_has, int64_t *ret_time_us, struct mr_error *err);
/* One group into the lane's builder, which is handed on when it is full. */
enum mr_status mr_agg_lane_emit(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                struct mr_slice key, struct mr_slice buffers, struct mr_error *err);
/* The same of a narrow group. */
enum mr_status mr_agg_lane_emit_narrow(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                       struct mr_slice key, const uint64_t *words,
                                       struct mr_error *err);

/* Do groups leave, in the batch that changes others? */
static inline bool mr_agg_may_expire(const struct mr_agg_fold *fold)
{
    return fold->time_key >= 0 && fold->mode != MR_MODE_COMPLETE;
}

/* agg_merge.c */
/* Is it a group that every batch emits? */
bool mr_agg_is_always(const struct mr_agg_fold *fold, struct mr_slice key);
/* Everything, in order of arrival; update mode: their keys into lane->touched. */
enum mr_status mr_agg_merge_all(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                struct mr_error *err);
/* The partials of the lane's shard, in the order of their hashes; update mode: emits each group. */
enum mr_status mr_agg_merge_shard(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                  struct mr_error *err);
void mr_agg_bucket_release(struct mr_agg_bucket_refs *bucket);

#endif
