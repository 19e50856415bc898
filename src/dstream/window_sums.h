/*
 * Sums and counts per key over a window, natively: what reduce_by_key_and_window does with MR_SUM
 * or MR_COUNT as function and inverse, when the sums are BIGINT.
 */
#ifndef MR_DSTREAM_WINDOW_SUMS_H
#define MR_DSTREAM_WINDOW_SUMS_H

#include "dstream/streams.h"
#include "ops/aggregate.h"

/* ---- what a firing changes, for the keys of one shard (sum_changes.c) ---- */

struct mr__sum_change {
    uint64_t hash;   /* mr_store_hash of the store of sums */
    const char *key; /* row_codec; borrowed from batches and from state */
    uint32_t key_bytes;
    bool entered; /* some batch brings this key ... */
    bool left;    /* ... or takes it along */
    int64_t in;
    int64_t out;
};
/* A list of keys, in order of appearance, and a hash table over it. */
struct mr__sum_changes {
    struct mr__sum_change *items;
    uint32_t count;
    uint32_t capacity;
    uint32_t *slots; /* index + 1; 0 = free; twice the capacity */
};
/* Makes room for that many keys. */
enum mr_status mr__sum_changes_reserve(struct mr__sum_changes *changes, uint64_t count,
                                       struct mr_error *err);
struct mr__sum_row {
    uint64_t hash;
    struct mr_slice key;
    int64_t sum;
};
enum { MR__SUM_ROWS = 256 }; /* that readers hand over at once */
enum mr_status mr__sum_changes_add(struct mr__sum_changes *changes, const struct mr__sum_row *rows,
                                   uint32_t count, bool enters, struct mr_error *err);
void mr__sum_changes_release(struct mr__sum_changes *changes);
/*
 * Changes the sums. may_be_missing: a filter may have removed keys; what leaves of such a one is
 * left out.
 */
enum mr_status mr__sum_changes_apply(const struct mr__sum_changes *changes, struct mr_store *values,
                                     bool may_be_missing, struct mr_error *err);
/* A sum in the store: null bits of one column, then the number (row_codec's value form). */
enum { MR__SUM_BYTES = 9 };

/* ---- the sums of past batches in state, by shard (sum_slices.c) ---- */

enum mr_status mr__sum_slice_put(struct mr_store *slices, int64_t time_us, unsigned shard,
                                 const struct mr__sum_changes *sums, struct mr_error *err);
/* Adds the rows of that batch and shard to changes, which borrow the keys. */
enum mr_status mr__sum_slice_get(const struct mr_store *slices, const struct mr_store *values,
                                 int64_t time_us, unsigned shard, bool enters,
                                 struct mr__sum_changes *changes, struct mr_error *err);
enum mr_status mr__sum_slice_drop(struct mr_store *slices, int64_t time_us, unsigned shard,
                                  struct mr_error *err);

/* ---- in tasks (sum_split.c) ---- */

/* Rows of the partial aggregation by shard; values is where the fold has its store of sums. */
enum mr_status mr__sum_split_op(const struct mr_aggregate_spec *spec,
                                struct mr_store *const *values, struct mr_map_op *ret_op,
                                struct mr_error *err);

/* ---- the fold (window_sum_op.c) ---- */

struct mr__sum_window {
    struct mr__window window;
    int64_t input_slide_us;
    const struct mr_schema *pairs; /* the result */
    struct mr__function *filter;   /* NULL = none */
};
/* *ret_values: where its store of sums is, for mr__sum_split_op; as long as the operator. */
enum mr_status mr__sum_window_op(const struct mr__sum_window *window, struct mr_fold_op *ret_op,
                                 struct mr_store *const **ret_values, struct mr_error *err);

/* ---- building (window_sum.c) ---- */

/* Is there such a window for these pairs? */
bool mr__has_sum_window(const struct mr_dstream *pairs, const struct mr_fn *reduce,
                        const struct mr_fn *inverse);
/* window_ms and slide_ms are checked. */
struct mr_dstream *mr__sum_window(struct mr_dstream *pairs, const struct mr_fn *reduce,
                                  int64_t window_ms, int64_t slide_ms);

#endif
