/*
 * Inside of map_with_state: the operator, and what its files share.
 *
 *   map_with_state.c       building calls, lowering
 *   map_with_state_op.c    the folds: records, timeouts, snapshots
 *   map_with_state_call.c  C functions, a record at a time
 *   map_with_state_sql.c   expressions, in rounds
 */
#ifndef MR_DSTREAM_MAP_WITH_STATE_H
#define MR_DSTREAM_MAP_WITH_STATE_H

#include "dstream/update.h"

enum { MR__TOUCHED_BYTES = 8, MR__STATE_CALLS = 16 * 1024 };

struct map_op {
    struct mr_context *ctx;
    struct mr__function *function; /* borrowed from the context */
    struct mr__initial *initial;   /* borrowed from the stream; NULL: none */
    uint32_t partition_count;
    int64_t timeout_us;    /* 0 = none */
    int64_t checkpoint_us; /* how often timeouts fire */
    char *name;
    struct mr_schema *pairs;  /* of the input */
    struct mr_schema *states; /* one column */
    struct mr_schema *keyed;  /* (key, state): of the store and the snapshots */
    struct mr_schema *mapped; /* of the output */
    struct mr_schema *keys;   /* one column: the key */
    struct mr_schema *values; /* one column: the value */
    struct mr_store *store;
};

struct mr__map_spec {
    struct mr_context *ctx;
    struct mr__function *function;
    struct mr__initial *initial;
    const char *name;
    uint32_t partition_count;
    int64_t timeout_us;
    int64_t checkpoint_us;
    const struct mr_schema *pairs;
    const struct mr_schema *state; /* one column */
    const struct mr_schema *mapped;
};
/* *ret_inner: for the snapshots of this stream; owned by the operator. */
enum mr_status mr__map_with_state_op(const struct mr__map_spec *spec, struct mr_fold_op *ret_op,
                                     struct map_op **ret_inner, struct mr_error *err);
/* The states after the operator has run in the same batch. Borrows inner. */
enum mr_status mr__snapshots_op(struct map_op *inner, struct mr_fold_op *ret_op,
                                struct mr_error *err);
/* mr_map_with_state with an initial dataset of these columns; takes it (NULL: none). */
struct mr_dstream *mr__map_with_state_of(struct mr_dstream *pairs, const struct mr_state_spec *spec,
                                         const struct mr_schema *columns,
                                         struct mr__initial *initial);

/* The records of a partition, in order of arrival, through the function; emits. */
enum mr_status mr__map_calls(struct map_op *op, const struct mr__state_rows *rows,
                             struct mr_fold_call *call, struct mr_error *err);
enum mr_status mr__map_rounds(struct map_op *op, const struct mr__state_rows *rows,
                              struct mr_fold_call *call, struct mr_error *err);

/* Keys whose time is over: the function is told, without a value; emits. The caller deletes
 * them. */
enum mr_status mr__map_expire_calls(struct map_op *op, const struct mr_store_entry *entries,
                                    uint32_t count, struct mr_fold_call *call,
                                    struct mr_error *err);
enum mr_status mr__map_expire_sql(struct map_op *op, const struct mr_store_entry *entries,
                                  uint32_t count, struct mr_fold_call *call, struct mr_error *err);

/* A stored value: touched time, then the state. */
enum mr_status mr__map_put(struct map_op *op, const char *key, size_t key_bytes, int64_t touched_us,
                           const struct mr_column *state, int64_t row, struct mr_buf *scratch,
                           struct mr_error *err);
/* Appends the state of a stored value, or null when there is none. */
enum mr_status mr__map_get(const struct map_op *op, uint64_t hash, const char *key,
                           size_t key_bytes, struct mr_batch_builder *builder, uint32_t column,
                           bool *ret_found, struct mr_error *err);

#endif
