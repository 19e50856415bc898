/*
 * Native operators that both front ends build graphs from. Each constructor gives the ops table and
 * the operator's object for mr_graph_map / mr_graph_fold (which take the object). See
 * core/operator.h for the contract.
 *
 *     scan -> filter -> project -> watermark -> window -> partial ==> fold -> project -> sink
 */
#ifndef MR_OPS_OPS_H
#define MR_OPS_OPS_H

#include "core/operator.h"

#include <millrace/ext/sink.h>

/* A map operator ready for mr_graph_map; schema is new and the caller's (unref after mr_graph_map,
 * which shares it). */
struct mr_map_op {
    const struct mr_map_ops *ops;
    void *op;
    struct mr_schema *schema;
};
struct mr_fold_op {
    const struct mr_fold_ops *ops;
    void *op;
    struct mr_schema *schema;
};

/* Columns of the input by index, renamed: zero-copy. */
enum mr_status mr_op_project(const struct mr_schema *input, const uint32_t *columns,
                             const char *const *names, uint32_t count, struct mr_map_op *ret_op,
                             struct mr_error *err);

/*
 * Filter: all comparisons must be true (null is not true). literal is parsed as the column's type
 * (text is compared by bytes).
 */
enum mr_compare { MR_EQ, MR_NE, MR_LT, MR_LE, MR_GT, MR_GE, MR_IS_NULL, MR_IS_NOT_NULL };
struct mr_predicate {
    uint32_t column;
    enum mr_compare compare;
    const char *literal; /* NULL with the IS forms */
    size_t literal_bytes;
};
enum mr_status mr_op_filter(const struct mr_schema *input, const struct mr_predicate *predicates,
                            uint32_t count, struct mr_map_op *ret_op, struct mr_error *err);

/* Passes rows through; a null in one of the columns is MR_BAD_DATA that names column and row.
 * table: for the error. */
enum mr_status mr_op_require(const struct mr_schema *input, const char *table,
                             const uint32_t *columns, uint32_t count, struct mr_map_op *ret_op,
                             struct mr_error *err);

/* Passes rows through and reports event times of a TIMESTAMP or TIMESTAMP_NS column (nulls ignored;
 * floored to ms). */
enum mr_status mr_op_watermark(const struct mr_schema *input, uint32_t column,
                               struct mr_map_op *ret_op, struct mr_error *err);

/*
 * Event-time windows (structured.md 10.1): appends TIMESTAMP columns start_name and end_name in
 * front of the input's columns; one output row per window that covers the row, latest window first;
 * rows with null time are left out.
 */
struct mr_window_spec {
    uint32_t column;
    int64_t size_us;
    int64_t slide_us; /* = size: tumbling */
    int64_t offset_us;
    const char *start_name;
    const char *end_name;
    int64_t step_us; /* > 0: of a tumbling window, [start, start + k * step) for each k; else 0 */
};
enum mr_status mr_op_window(const struct mr_schema *input, const struct mr_window_spec *spec,
                            struct mr_map_op *ret_op, struct mr_error *err);

/*
 * Incremental aggregation (structured.md 11). partial runs in tasks and emits one row per group of
 * a partition:
 *     key BINARY (row_codec key of the key columns) | value BINARY (aggregate buffers)
 * fold merges partials into its store and emits by output mode.
 *
 * Result types: count BIGINT; sum of integers BIGINT (128-bit buffer, MR_BAD_DATA when it does not
 * fit), of DECIMAL(p,s) DECIMAL(38,s), of FLOAT and DOUBLE DOUBLE; min, max the input's type (any
 * that compares, text too); avg, deviations, correlations and products DOUBLE; first, last,
 * any_value, arg_min, arg_max and bit_* the input's type; lists the list of it; approx_quantile
 * DOUBLE, or the input's type when that is a date or timestamp. Nulls are ignored as in SQL, except
 * by first, last and lists; without rows counts are 0 and all others null.
 */
enum mr_agg_kind {
    MR_AGG_COUNT_ALL,
    MR_AGG_COUNT,
    MR_AGG_SUM,
    MR_AGG_MIN,
    MR_AGG_MAX,
    MR_AGG_AVG,
    MR_AGG_STDDEV_SAMP,
    MR_AGG_STDDEV_POP,
    MR_AGG_VAR_SAMP,
    MR_AGG_VAR_POP,
    MR_AGG_SEM,        /* standard error of the mean */
    MR_AGG_COVAR_SAMP, /* these take (y, x): column and other */
    MR_AGG_COVAR_POP,
    MR_AGG_CORR,
    MR_AGG_REGR_COUNT,
    MR_AGG_REGR_AVGX,
    MR_AGG_REGR_AVGY,
    MR_AGG_REGR_SXX,
    MR_AGG_REGR_SYY,
    MR_AGG_REGR_SXY,
    MR_AGG_REGR_SLOPE,
    MR_AGG_REGR_INTERCEPT,
    MR_AGG_REGR_R2,
    MR_AGG_PRODUCT,
    MR_AGG_BOOL_AND,
    MR_AGG_BOOL_OR,
    MR_AGG_BIT_AND,
    MR_AGG_BIT_OR,
    MR_AGG_BIT_XOR,
    MR_AGG_FIRST, /* by batch, partition, row; nulls count */
    MR_AGG_LAST,
    MR_AGG_ANY_VALUE, /* the first that is not null */
    MR_AGG_ARG_MIN,   /* column where other is least; the first of equals */
    MR_AGG_ARG_MAX,
    MR_AGG_TOP_MIN, /* list of column where other is least, best first; mr_agg.limit of them */
    MR_AGG_TOP_MAX,
    MR_AGG_LIST,           /* all values, nulls too, in order of arrival or by orders */
    MR_AGG_COUNT_DISTINCT, /* these four keep the set of values */
    MR_AGG_SUM_DISTINCT,
    MR_AGG_AVG_DISTINCT,
    MR_AGG_LIST_DISTINCT,         /* ascending, a null first */
    MR_AGG_APPROX_COUNT_DISTINCT, /* HyperLogLog: exact to 512 values, then 1.6 % */
    MR_AGG_APPROX_QUANTILE,       /* t-digest: exact to 256 values */
    MR_AGG_USER,                  /* of the program: mr_agg.user */
};
/*
 * An aggregate of a program: what it keeps of a group is a run of bytes. Must outlive what uses it.
 * Thread: any, for different groups.
 */
struct mr_agg_user {
    const char *name;
    const struct mr_schema *arguments; /* of update's rows; several: fields of a STRUCT column */
    const struct mr_schema *result;    /* one column */
    const void *arg;
    /* bytes is empty: what a group begins with */
    enum mr_status (*begin)(const void *arg, struct mr_buf *bytes, struct mr_error *err);
    /* bytes are the group's */
    enum mr_status (*update)(const void *arg, const struct mr_batch *rows, int64_t row,
                             struct mr_buf *bytes, struct mr_error *err);
    /* the group's are those from `from` on */
    enum mr_status (*merge)(const void *arg, struct mr_slice other, struct mr_buf *bytes,
                            size_t from, struct mr_error *err);
    /* appends one value */
    enum mr_status (*finish)(const void *arg, struct mr_slice bytes, struct mr_column_builder *out,
                             struct mr_error *err);
};
/* One of ORDER BY inside list(). */
struct mr_agg_order {
    uint32_t column; /* of the input */
    bool descending;
    bool nulls_first;
};
enum { MR_AGG_ORDERS_MAX = 8, MR_AGG_TOP_MAX_COUNT = 10000 };
struct mr_agg {
    enum mr_agg_kind kind;
    uint32_t column;  /* of the input; unused for COUNT_ALL */
    const char *name; /* of the result column */
    /*
     * What is aggregated, as normalised SQL ("price * 2", "city WHERE v > 3"): together with what
     * the kind keeps and the types, the identity of the buffers in the checkpoint, whatever the
     * columns are called and wherever they stand. NULL: name of the column.
     */
    const char *identity;
    uint32_t other; /* second argument, of the kinds that take one */
    uint32_t limit; /* TOP: how many, 1 to MR_AGG_TOP_MAX_COUNT */
    /* FILTER of what keeps values: a BOOLEAN column, rows where it is not true are left out */
    bool has_filter;
    uint32_t filter;
    double fraction;                   /* APPROX_QUANTILE: 0 to 1 */
    const struct mr_agg_user *user;    /* USER */
    const struct mr_agg_order *orders; /* LIST; at most MR_AGG_ORDERS_MAX */
    uint32_t order_count;
};
struct mr_aggregate_spec {
    const struct mr_schema *input;
    const uint32_t *keys; /* input columns; none: one global group */
    const char *const *key_names;
    const char *const *key_identities; /* normalised SQL; NULL, or NULL of a key: its name */
    uint32_t key_count;
    const struct mr_agg *aggs;
    uint32_t agg_count;
    enum mr_output_mode mode;
    /* Keys (row_codec bytes) of groups that are there without rows, in update and complete mode:
     * the grouping set (). The one group of no keys always is. */
    const struct mr_slice *always;
    uint32_t always_count;
    const char *state_name; /* store */
    int32_t
        /* index into keys of the column that decides lateness and expiry, -1 = none */
        event_time_key;
    int64_t
        /* added to it before comparing with the watermark (window size when the key is a start) */
        event_time_add_us;
};
/*
 * Late and expired: event time <= watermark. append: emits and removes groups when they expire;
 * update: emits changed groups, removes expired ones silently; complete: emits everything, evicts
 * nothing. Without keys each executed batch emits the one row (count 0, others null at first) in
 * update and complete mode. Emission order: by key.
 */
enum mr_status mr_op_aggregate_partial(const struct mr_aggregate_spec *spec,
                                       struct mr_map_op *ret_op, struct mr_error *err);
/* Partials of the operator above; all of a batch is one partition. */
enum mr_status mr_op_aggregate_fold(const struct mr_aggregate_spec *spec, struct mr_fold_op *ret_op,
                                    struct mr_error *err);
/*
 * Both at once, made for each other: partials come in the order of the shards of the fold's store
 * with the hashes of their keys, so large batches are merged by all workers. Large batches: order
 * by hash. What one half emits only the other one reads.
 */
enum mr_status mr_op_aggregate(const struct mr_aggregate_spec *spec, struct mr_map_op *ret_partial,
                               struct mr_fold_op *ret_fold, struct mr_error *err);

/* The same merge kernels for others (windows of DStreams): buffers of one group. */
struct mr_agg_layout;
enum mr_status mr_agg_layout_new(const struct mr_aggregate_spec *spec,
                                 struct mr_agg_layout **ret_layout, struct mr_error *err);
/* The layout that a store of kind "aggregate" was written with, from its key and value schema. */
enum mr_status mr_agg_layout_parse(const char *key_schema, const char *value_schema,
                                   struct mr_agg_layout **ret_layout, struct mr_error *err);
/* Key columns, then results; borrowed. */
const struct mr_schema *mr_agg_layout_output(const struct mr_agg_layout *layout);
void mr_agg_layout_free(struct mr_agg_layout *layout);
/* Merges buffer b into the buffer at a (both of this layout); *a may be empty (takes b). */
enum mr_status mr_agg_merge(const struct mr_agg_layout *layout, struct mr_buf *a, const char *b,
                            size_t b_bytes, struct mr_error *err);
/* Takes b out of a again: count, sum and avg (inverse functions); all others are MR_CONFIG. */
enum mr_status mr_agg_subtract(const struct mr_agg_layout *layout, struct mr_buf *a, const char *b,
                               size_t b_bytes, struct mr_error *err);
/* Appends the key columns and the results of one group to a builder of the output schema. */
enum mr_status mr_agg_emit(const struct mr_agg_layout *layout, struct mr_slice key,
                           struct mr_slice buffers, struct mr_batch_builder *out,
                           struct mr_error *err);

/*
 * The key and value schema that a store of kind "aggregate" of this layout has:
 *
 *     keys    city VARCHAR, "window(ts, 600s).start" TIMESTAMP
 *     values  rows, sum(price DOUBLE), moments("price * 2" DOUBLE), arg_max(name VARCHAR, BIGINT)
 *
 * Freed with mr_text_free.
 */
enum mr_status mr_agg_key_schema(const struct mr_agg_layout *layout, char **ret_text,
                                 struct mr_error *err);
enum mr_status mr_agg_value_schema(const struct mr_agg_layout *layout, char **ret_text,
                                   struct mr_error *err);

/*
 * State of another version of the query: mr_fold_ops.adapt of every fold whose store has such
 * schemas. Buffers are matched by what they keep and of what (mr_agg.identity), wherever they
 * stand: SAME when nothing else is kept, moved or not; EXTEND when aggregates are new (they begin
 * empty) or gone; REBUILD when keys or types differ. Driver.
 */
enum mr_status mr_agg_adapt_store(const struct mr_store_change *change,
                                  struct mr_store_adaption *ret_adaption, struct mr_error *err);

#endif
