/*
 * Sums and counts per key over a window, natively: what reduce_by_key_and_window does with MR_SUM
 * or MR_COUNT as function and inverse, when the sums are BIGINT.
 */
#ifndef MR_DSTREAM_WINDOW_SUMS_H
#define MR_DSTREAM_WINDOW_SUMS_H

#include "dstream/streams.h"
#include "ops/aggregate.h"

/* ---- rows of past batches in state (sum_slices.c) ---- */

/* The rows of a batch as a fold gets them from mr_op_aggregate_partial: split by the shard that
 * `values` has their keys in, and kept in `slices` under the time. */
enum mr_status mr__sum_slices_put(struct mr_store *slices, const struct mr_store *values,
                                  const struct mr_agg_layout *layout, int64_t time_us,
                                  struct mr_batch *const *batches, size_t batch_count,
                                  struct mr_error *err);
/* Adds (or takes out) the rows of one batch and shard to the sums in `values`. skip_missing: a key
 * without a sum is left alone; else it gets one. */
enum mr_status mr__sum_slices_apply(const struct mr_store *slices, struct mr_store *values,
                                    int64_t time_us, unsigned shard, bool take_out,
                                    bool skip_missing, struct mr_error *err);
/* A sum in `values`: null bits of one column, then the number (row_codec's value form). */
enum { MR__SUM_BYTES = 9 };

/* ---- the fold (window_sum_op.c) ---- */

struct mr__sum_window {
    struct mr__window window;
    int64_t input_slide_us;
    const struct mr_aggregate_spec *spec; /* the partial aggregation's */
    const struct mr_schema *pairs;        /* the result */
    struct mr__function *filter;          /* NULL = none */
    uint32_t partition_count;
};
enum mr_status mr__sum_window_op(const struct mr__sum_window *window, struct mr_fold_op *ret_op,
                                 struct mr_error *err);

/* ---- building (window_sum.c) ---- */

/* Is there such a window for these pairs? */
bool mr__has_sum_window(const struct mr_dstream *pairs, const struct mr_fn *reduce,
                        const struct mr_fn *inverse);
/* window_ms and slide_ms are checked, filter is compiled or NULL. */
struct mr_dstream *mr__sum_window(struct mr_dstream *pairs, const struct mr_fn *reduce,
                                  int64_t window_ms, int64_t slide_ms);

#endif
