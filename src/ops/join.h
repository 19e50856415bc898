/*
 * Joins of two streams: a symmetric hash join as a fold with two inputs (structured.md 14).
 *
 *     left rows  --> partition by key --> find right rows of earlier batches --> pairs --> store
 *     right rows --> partition by key --> find left rows, this batch's too   --> pairs --> store
 *     watermark  --> rows that can match no more leave; unmatched ones of an outer side with nulls
 *
 * Rows wait in two stores, <state_name>.left and <state_name>.right, in blocks (join_state.c
 * draws them), and memory has an index of them by key and by time. A semi join keeps
 * the unmatched left rows only.
 *
 * Thread: the constructor's caller; then as core/operator.h says for folds.
 */
#ifndef MR_OPS_JOIN_H
#define MR_OPS_JOIN_H

#include "ops/ops.h"

enum mr_join_type { MR_JOIN_INNER, MR_JOIN_LEFT, MR_JOIN_RIGHT, MR_JOIN_FULL, MR_JOIN_SEMI };

/* An event time of a row: a TIMESTAMP or TIMESTAMP_NS column or field of a STRUCT column, moved. */
struct mr_join_time {
    int32_t column; /* -1 = none */
    int32_t field;  /* -1 = the column itself */
    int64_t add_us;
};

struct mr_join_side {
    const struct mr_schema *schema;
    const uint32_t *keys; /* columns; key i of both sides has one type */
    int32_t pass_column;  /* BOOLEAN: a row where it is not true matches nothing; -1 = all pass */
    struct mr_join_time event;  /* rows at or below the late watermark are dropped, counted */
    struct mr_join_time expiry; /* rows at or below watermark + expiry_shift_us leave the state */
    int64_t expiry_shift_us;
};

/* left <compare> right + add, columns of one integer, DATE or TIMESTAMP type; nulls do not match.
 */
struct mr_join_range {
    uint32_t left;
    uint32_t right;
    enum mr_compare compare; /* not the IS forms */
    int64_t add;
};

struct mr_join_column {
    bool right; /* of which side */
    uint32_t column;
    const char *name;
};

/*
 * Any other condition: over a batch of candidate pairs with the given columns; keep[i] is set to
 * whether pair i matches. On the thread that runs the partition (info->worker).
 */
struct mr_join_filter {
    enum mr_status (*keep)(void *arg, const struct mr_batch_info *info,
                           const struct mr_batch *pairs, bool *keep, struct mr_error *err);
    void (*free)(void *arg);
    void *arg;
    const struct mr_join_column *columns;
    uint32_t column_count;
};

struct mr_join_spec {
    enum mr_join_type type;
    struct mr_join_side left;
    struct mr_join_side right;
    uint32_t key_count;     /* at least 1 */
    const bool *null_equal; /* per key: IS NOT DISTINCT FROM; NULL = none */
    const struct mr_join_range *ranges;
    uint32_t range_count;
    const struct mr_join_filter *filter;  /* NULL = none; taken, freed on failure too */
    const struct mr_join_column *outputs; /* of a semi join: the left side's only */
    uint32_t output_count;
    const char *state_name;
};

enum mr_status mr_op_join(const struct mr_join_spec *spec, struct mr_fold_op *ret_op,
                          struct mr_error *err);

#endif
