/*
 * Rows and stored keys of one partition of a stateful operator, side by side.
 *
 *     rows of the batch --keys of my shards--> sorted by hash, those of a key together
 *                                                                      \
 *     shards of the store, in the order of hashes --------------------- walk --> key, rows?, state?
 *
 * A partition is a range of shards (state/state.h), so partitions may run on different threads. The
 * order depends on the keys, not on what happened before: shard by shard, first the keys that have
 * a state, then the new ones, each in the order of (hash, key). Thread: the partition's.
 */
#ifndef MR_DSTREAM_STATE_ROWS_H
#define MR_DSTREAM_STATE_ROWS_H

#include "base/limits.h"
#include "dstream/internal.h"

struct mr_dstream;

/* How many partitions the output of a stateful stream has: what mr_dstream_set_partitions said, or
 * the workers; at most MR_STORE_SHARDS. */
uint32_t mr__state_partitions(const struct mr_dstream *stream);

/* At lowering: says in the log that a state in a checkpoint has a name made from the order of the
 * calls. */
void mr__state_check_name(const struct mr_dstream *stream);

/* Shards [first, end) of a store. */
struct mr__shards {
    unsigned first;
    unsigned end;
};
struct mr__shards mr__shards_of(uint32_t partition, uint32_t partition_count);

/* One row among those of a partition. */
struct mr__row_at {
    uint32_t batch;
    uint32_t row;
};

struct mr__hashed {
    uint32_t fragment; /* top 32 bits of the key's hash */
    uint32_t number;   /* of the row, in order of arrival */
};

struct mr__state_rows {
    struct mr_batch *const *batches; /* borrowed */
    uint32_t count;
    uint64_t foreign; /* rows of other partitions */
    struct mr__row_at *at;
    uint64_t *hashes;
    size_t *key_at; /* count + 1 */
    struct mr_buf keys;

    /* by key, once grouped */
    struct mr__hashed *sorted; /* those of a key in order of arrival */
    uint32_t group_count;
    uint32_t *starts; /* group_count + 1 */
};
/* Rows whose key (column 0) belongs to these shards, in order of arrival. ret_rows is released by
 * the caller, also on failure. */
enum mr_status mr__state_rows_take(struct mr__state_rows *rows, const struct mr_store *store,
                                   struct mr__shards shards, struct mr_batch *const *batches,
                                   size_t batch_count, struct mr_error *err);
/* The same for keys of several columns: those of each batch. */
struct mr__key_columns {
    const uint32_t *columns;
    uint32_t count;
};
enum mr_status mr__state_rows_take_keys(struct mr__state_rows *rows, const struct mr_store *store,
                                        struct mr__shards shards,
                                        const struct mr__key_columns *keys,
                                        struct mr_batch *const *batches, size_t batch_count,
                                        struct mr_error *err);
/* Brings the rows of each key together. */
enum mr_status mr__state_rows_group(struct mr__state_rows *rows, struct mr_error *err);
void mr__state_rows_release(struct mr__state_rows *rows);

static inline const char *mr__state_row_key(const struct mr__state_rows *rows, uint32_t number,
                                            size_t *ret_bytes)
{
    *ret_bytes = rows->key_at[number + 1] - rows->key_at[number];
    return rows->keys.data + rows->key_at[number];
}
/* Row i of group g. */
static inline struct mr__row_at mr__state_group_row(const struct mr__state_rows *rows,
                                                    uint32_t group, uint32_t i)
{
    return rows->at[rows->sorted[rows->starts[group] + i].number];
}
static inline uint32_t mr__state_group_rows(const struct mr__state_rows *rows, uint32_t group)
{
    return group == UINT32_MAX ? 0 : rows->starts[group + 1] - rows->starts[group];
}

/* A key of the store, of the rows, or of both. */
struct mr__state_item {
    const char *key;
    size_t key_bytes;
    uint32_t group; /* of the rows; UINT32_MAX = none */
    bool has_state;
    struct mr_store_entry entry; /* with has_state */
};

enum { MR__WALK_ENTRIES = 64 };
struct mr__state_walk {
    const struct mr_store *store;
    const struct mr__state_rows *rows;
    struct mr__shards shards; /* first: the one being walked */
    uint32_t cursor;
    struct mr_store_entry entries[MR__WALK_ENTRIES];
    size_t entry_count, entry_next;
    uint32_t next_group; /* all before are with an entry, or in fresh */
    uint32_t *fresh;     /* groups of this shard without a state */
    uint32_t fresh_count, fresh_next;
    bool scanned; /* the entries of this shard are through */
};
/* rows: grouped. The marker of a store that has begun (mr__state_begin) is left out. */
enum mr_status mr__state_walk_init(struct mr__state_walk *walk, const struct mr_store *store,
                                   const struct mr__state_rows *rows, struct mr__shards shards,
                                   struct mr_error *err);
void mr__state_walk_release(struct mr__state_walk *walk);
/* False at the end. Keys without a state may be added to the store only once they were given out;
 * those with one may be changed in place (mr_store_put_at) at any time. */
bool mr__state_walk_next(struct mr__state_walk *walk, struct mr__state_item *ret_item);

/* ---- the first batch (UPD-5, MWS-7) ---- */

/*
 * Has the store got the initial dataset already? It is remembered under the empty key, which no
 * encoded key is. A store that is in the checkpoint but not marked was made by a program without
 * an initial dataset: it counts as begun when it has keys.
 */
bool mr__state_has_begun(const struct mr_store *store);
enum mr_status mr__state_begin(struct mr_store *store, struct mr_error *err);
static inline bool mr__state_is_marker(size_t key_bytes)
{
    return key_bytes == 0;
}

/* MR_LIMIT with the key, for a state record that is too large. */
enum { MR_STATE_RECORD_BYTES_MAX = MR_LIMIT_STATE_RECORD };
enum mr_status mr__state_check_size(const char *name, const struct mr_batch *keys, int64_t row,
                                    size_t value_bytes, int64_t batch_time_us,
                                    struct mr_error *err);

#endif
