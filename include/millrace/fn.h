/*
 * Functions of a program: what map, reduce, updateStateByKey and all other operators of streams and
 * datasets take.
 *
 *     MR_SQL("value || '!'")     an SQL expression, evaluated over whole columns
 *     MR_FN(split)               a C function, by row or by batch
 *     MR_SUM                     a built-in
 *
 * All are named (expression text, C name, built-in), so a checkpoint survives a recompile.
 *
 * Thread: functions run on several threads at once, over different partitions: they must not change
 * what arg points to without a lock of their own.
 */
#ifndef MILLRACE_FN_H
#define MILLRACE_FN_H

#include <millrace/batch.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_emitter; /* where a C function puts its results */
struct mr_rdd;     /* a dataset, <millrace/rdd.h> */

/* By row: any number of results. map and map_to_pair want exactly one result each. */
typedef void (*mr_row_fn)(const struct mr_row *row, struct mr_emitter *out, void *arg);
/* By batch: appends results to out, whose schema is the result's. */
typedef enum mr_status (*mr_batch_fn)(const struct mr_batch *in, struct mr_batch_builder *out,
                                      void *arg, struct mr_error *err);
/* A test of one row (filter). */
typedef bool (*mr_test_fn)(const struct mr_row *row, void *arg);
/* Two values to one (reduce); the value is column 0 of a and b. Must be associative and
 * commutative. */
typedef void (*mr_reduce_fn)(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out,
                             void *arg);

/* The rows of one partition, one after the other (map_partitions, foreach_partition). */
struct mr_rows;
MR_API bool mr_rows_next(struct mr_rows *rows, struct mr_row *ret_row);
typedef void (*mr_partition_fn)(struct mr_rows *rows, struct mr_emitter *out, void *arg);

/*
 * New state of one key: values are the rows [0, value_count) of this batch (column 0 the value),
 * state is NULL when there is none. Emit the new state, or nothing to remove the key (UPD-4).
 */
struct mr_update {
    const struct mr_row *key;
    const struct mr_batch *values; /* one column */
    int64_t value_count;
    const struct mr_row *state; /* one column, or NULL */
    int64_t batch_time_ms;
};
typedef void (*mr_update_fn)(const struct mr_update *update, struct mr_emitter *out, void *arg);
/* The iterator form (UPD-1 c): all keys of a partition; emit (key, state) rows. */
struct mr_updates;
MR_API bool mr_updates_next(struct mr_updates *updates, struct mr_update *ret_update);
typedef void (*mr_update_all_fn)(struct mr_updates *updates, struct mr_emitter *out, void *arg);

/*
 * mapWithState (MWS-*): called for each record of a key, and once more when it times out (value is
 * NULL then). What is emitted is the mapped output.
 */
struct mr_key_state;
struct mr_state_call {
    const struct mr_row *key;
    const struct mr_row *value; /* NULL: the key is timing out */
    struct mr_key_state *state;
    int64_t batch_time_ms;
};
typedef void (*mr_state_fn)(const struct mr_state_call *call, struct mr_emitter *out, void *arg);
MR_API bool mr_key_state_exists(const struct mr_key_state *state);
/* One column; NULL when there is none. Valid until the state is changed. */
MR_API const struct mr_row *mr_key_state_get(const struct mr_key_state *state);
/* Emit the new state, one row, into the result. After a removal or while timing out it is a mistake
 * of the function: the call fails (MWS-3). */
MR_API struct mr_emitter *mr_key_state_update(struct mr_key_state *state);
MR_API void mr_key_state_update_int(struct mr_key_state *state, int64_t value);
MR_API void mr_key_state_remove(struct mr_key_state *state);
MR_API bool mr_key_state_timing_out(const struct mr_key_state *state);

/*
 * transform, transform_with (two inputs), transform_all: the datasets of this batch to a new one.
 * On the driver, once a batch (TR-1: not NULL).
 */
typedef struct mr_rdd *(*mr_transform_fn)(struct mr_rdd *const *inputs, size_t input_count,
                                          int64_t batch_time_ms, void *arg);

enum mr_fn_kind {
    MR_FN_KIND_SQL,
    MR_FN_KIND_BUILTIN,
    MR_FN_KIND_ROW,
    MR_FN_KIND_BATCH,
    MR_FN_KIND_TEST,
    MR_FN_KIND_REDUCE,
    MR_FN_KIND_UPDATE,
    MR_FN_KIND_PARTITION,
    MR_FN_KIND_UPDATE_ALL,
    MR_FN_KIND_STATE,
    MR_FN_KIND_TRANSFORM,
    MR_FN_KIND_NONE,
};
enum mr_builtin {
    MR_BUILTIN_NONE,
    MR_BUILTIN_SUM,
    MR_BUILTIN_MIN,
    MR_BUILTIN_MAX,
    MR_BUILTIN_COUNT,
    MR_BUILTIN_WORDS
};

/*
 * A function: an SQL expression, a C function or a built-in. All are named (expression text, C
 * name, built-in), so a checkpoint survives a recompile. type: result columns as in "key VARCHAR,
 * value BIGINT"; NULL = the usual of the operator: the input's for map, flat_map, and (input's
 * value type, BIGINT) for map_to_pair.
 */
struct mr_fn {
    enum mr_fn_kind kind;
    enum mr_builtin builtin;
    const char *name;
    const char *type;
    void (*call)(void); /* cast back by kind */
    void *arg;
    const char *file;
    int line;
};

/*
 * Names inside an expression: `value`, for a pair `key` and `value`; in a reduce `a` and `b`; in
 * updateStateByKey "values" (a list) and state; batch_time everywhere. map_to_pair takes two
 * expressions with a comma; flat_map one that is a list; map_partitions aggregates, such as
 * sum(value); transform a whole SELECT over the table `input` (transform_with: `a` and `b`,
 * transform_all: `input_0`, `input_1`, ...).
 */
#define MR_SQL(expression)                                                                         \
    ((struct mr_fn){MR_FN_KIND_SQL, MR_BUILTIN_NONE, (expression), NULL, NULL, NULL, __FILE__,     \
                    __LINE__})
#define MR_FN_KIND_OF(function)                                                                    \
    _Generic((function), mr_row_fn                                                                 \
             : MR_FN_KIND_ROW, mr_batch_fn                                                         \
             : MR_FN_KIND_BATCH, mr_test_fn                                                        \
             : MR_FN_KIND_TEST, mr_reduce_fn                                                       \
             : MR_FN_KIND_REDUCE, mr_update_fn                                                     \
             : MR_FN_KIND_UPDATE, mr_partition_fn                                                  \
             : MR_FN_KIND_PARTITION, mr_update_all_fn                                              \
             : MR_FN_KIND_UPDATE_ALL, mr_state_fn                                                  \
             : MR_FN_KIND_STATE, mr_transform_fn                                                   \
             : MR_FN_KIND_TRANSFORM)
#define MR_FN_FULL(function, type, argument)                                                       \
    ((struct mr_fn){MR_FN_KIND_OF(function), MR_BUILTIN_NONE, #function, (type),                   \
                    (void (*)(void))(function), (argument), __FILE__, __LINE__})
#define MR_FN(function) MR_FN_FULL(function, NULL, NULL)
#define MR_FN_AS(function, type) MR_FN_FULL(function, type, NULL) /* with its result columns */
#define MR_FN_BUILTIN(which, text)                                                                 \
    ((struct mr_fn){MR_FN_KIND_BUILTIN, (which), (text), NULL, NULL, NULL, __FILE__, __LINE__})
#define MR_SUM MR_FN_BUILTIN(MR_BUILTIN_SUM, "sum")
#define MR_MIN_OF MR_FN_BUILTIN(MR_BUILTIN_MIN, "min")
#define MR_MAX_OF MR_FN_BUILTIN(MR_BUILTIN_MAX, "max")
#define MR_COUNT                                                                                   \
    MR_FN_BUILTIN(                                                                                 \
        MR_BUILTIN_COUNT,                                                                          \
        "count") /* reduce: number of values; update: running count; map_to_pair: with 1 */
#define MR_WORDS MR_FN_BUILTIN(MR_BUILTIN_WORDS, "words") /* flat_map: words between white space */
#define MR_NO_FN                                                                                   \
    ((struct mr_fn){MR_FN_KIND_NONE, MR_BUILTIN_NONE, NULL, NULL, NULL, NULL, __FILE__, __LINE__})

/* Emitting: one call per column in order, then mr_emit_end; a row of one column is whole with its
 * value. */
MR_API void mr_emit_str(struct mr_emitter *out, const char *data, size_t size_bytes);
MR_API void mr_emit_int(struct mr_emitter *out, int64_t value);
MR_API void mr_emit_double(struct mr_emitter *out, double value);
MR_API void mr_emit_bytes(struct mr_emitter *out, const void *data, size_t size_bytes);
MR_API void mr_emit_null(struct mr_emitter *out);
MR_API void mr_emit_value(struct mr_emitter *out, struct mr_value value); /* any type, copied */
/* Whole pairs. Objects of the program: mr_emit_object, <millrace/codec.h>. */
MR_API void mr_emit_pair_int_int(struct mr_emitter *out, int64_t key, int64_t value);
MR_API void mr_emit_pair_str_str(struct mr_emitter *out, const char *key, size_t key_bytes,
                                 const char *value, size_t value_bytes);
MR_API void mr_emit_pair_str_int(struct mr_emitter *out, const char *key, size_t key_bytes,
                                 int64_t value);
/* any row: append columns, then mr_emit_end */
MR_API struct mr_batch_builder *mr_emit_builder(struct mr_emitter *out);
MR_API void mr_emit_end(struct mr_emitter *out);
/* The function failed: the batch is run again, then the program ends with this text. */
MR_API void mr_emit_fail(struct mr_emitter *out, const char *format, ...) MR_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
