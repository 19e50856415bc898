/*
 * DStreams: Spark Streaming's programs in C.
 *
 *     struct mr_context *ctx = mr_context_new("network-word-count", MR_SECONDS(1));
 *     struct mr_dstream *lines = mr_socket_text_stream(ctx, "localhost", 9999);
 *     struct mr_dstream *words = mr_flat_map(lines, MR_SQL("string_split(value, ' ')"));
 *     struct mr_dstream *pairs = mr_map_to_pair(words, MR_SQL("value, 1"));
 *     mr_print(mr_reduce_by_key(pairs, MR_SUM), 10);
 *     return mr_context_main(ctx);
 *
 * Building calls need no check: the first mistake sticks to the context with the file and line of
 * the call's function, and mr_context_start returns it; calls on a stream that failed to build are
 * ignored. Streams belong to their context.
 *
 * Elements: a stream's element is a row of named columns. A scalar stream has one column, `value`;
 * a pair stream has `key` and `value`. The type of a stream is known when it is built
 * (mr_dstream_schema).
 *
 * Durations are milliseconds (dstream.md TIME-1). Thread: build and start in one thread;
 * mr_context_stop from any.
 */
#ifndef MILLRACE_DSTREAM_H
#define MILLRACE_DSTREAM_H

#include <millrace/batch.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MR_MILLISECONDS(n) ((int64_t)(n))
#define MR_SECONDS(n) ((int64_t)(n)*1000)
#define MR_MINUTES(n) ((int64_t)(n)*60000)

struct mr_context;
struct mr_dstream;
struct mr_emitter; /* where a C function puts its results */
struct mr_rdd;     /* the data of one stream in one batch */

/* ---- Functions ---- */

/*
 * By row: any number of results. map and map_to_pair want exactly one result each. Functions of
 * map, flat_map, filter and map_to_pair run on several threads at once, over different partitions:
 * they must not change what arg points to.
 */
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

enum mr_fn_kind {
    MR_FN_KIND_SQL,
    MR_FN_KIND_BUILTIN,
    MR_FN_KIND_ROW,
    MR_FN_KIND_BATCH,
    MR_FN_KIND_TEST,
    MR_FN_KIND_REDUCE,
    MR_FN_KIND_UPDATE,
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
 * expressions with a comma; flat_map one that is a list.
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
             : MR_FN_KIND_UPDATE)
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

/* Emitting: one call per column in order, then mr_emit_end; the _str, _int... shorthands emit a
 * whole one-column row. */
MR_API void mr_emit_str(struct mr_emitter *out, const char *data, size_t size_bytes);
MR_API void mr_emit_int(struct mr_emitter *out, int64_t value);
MR_API void mr_emit_double(struct mr_emitter *out, double value);
MR_API void mr_emit_pair_str_int(struct mr_emitter *out, const char *key, size_t key_bytes,
                                 int64_t value);
/* any row: append columns, then mr_emit_end */
MR_API struct mr_batch_builder *mr_emit_builder(struct mr_emitter *out);
MR_API void mr_emit_end(struct mr_emitter *out);
/* The function failed: the batch is run again, then the program ends with this text. */
MR_API void mr_emit_fail(struct mr_emitter *out, const char *format, ...) MR_PRINTF(2, 3);

/* ---- Context ---- */

enum mr_context_state { MR_CONTEXT_INITIALIZED, MR_CONTEXT_ACTIVE, MR_CONTEXT_STOPPED };

/* NULL only without memory; a bad interval sticks as an error. */
MR_API struct mr_context *mr_context_new(const char *name, int64_t batch_interval_ms);
/*
 * Recovers or builds (CTX-14): build makes the graph either way (code is not in the checkpoint,
 * state and offsets are), and the context goes on from dir when it has a checkpoint. build returns
 * a context without checkpoint directory; dir is set here.
 */
MR_API struct mr_context *mr_context_get_or_create(const char *dir,
                                                   struct mr_context *(*build)(void *arg),
                                                   void *arg);
MR_API void mr_context_free(struct mr_context *ctx); /* stops first; NULL allowed */

MR_API void mr_context_checkpoint(struct mr_context *ctx, const char *dir); /* NULL: off */
/*
 * Settings by our names or Spark's: block_interval (spark.streaming.blockInterval) = "200ms",
 * receiver_rate_max (spark.streaming.receiver.maxRate) = "1000", graceful_stop_timeout, checkpoint,
 * file_remember, workers, retries, batches_max, ... A wrong name is an error that says the nearest.
 */
MR_API void mr_context_set(struct mr_context *ctx, const char *key, const char *value);
/* The first mistake so far, or MR_OK. */
MR_API enum mr_status mr_context_error(const struct mr_context *ctx, struct mr_error *err);

/* Validates and starts; returns at once, batches run on a thread of the context. */
MR_API enum mr_status mr_context_start(struct mr_context *ctx, struct mr_error *err);
/* Blocks until it is stopped or has failed; the failure is returned. */
MR_API enum mr_status mr_context_await(struct mr_context *ctx, struct mr_error *err);
/* *ret_stopped false: the time ran out. */
MR_API enum mr_status mr_context_await_for(struct mr_context *ctx, int64_t timeout_ms,
                                           bool *ret_stopped, struct mr_error *err);
/*
 * graceful: everything received is processed and committed first. Any thread; any number of times.
 * Returns when the context is stopped, except inside a function of the program, which would wait
 * for itself.
 */
MR_API void mr_context_stop(struct mr_context *ctx, bool graceful);
MR_API enum mr_context_state mr_context_state(const struct mr_context *ctx);
/*
 * start, await, report an error on standard error, free: the exit code of the program. Ctrl-C and
 * SIGTERM stop gracefully, a second one at once. Environment: MILLRACE_CHECKPOINT sets a checkpoint
 * directory when the program set none.
 */
MR_API int mr_context_main(struct mr_context *ctx);

/* ---- Input ---- */

/* Lines of a TCP server; received blocks are in the write-ahead log before a batch sees them when
 * there is a checkpoint. */
MR_API struct mr_dstream *mr_socket_text_stream(struct mr_context *ctx, const char *host, int port);
/* Lines of new files in a directory (FILE-*). */
MR_API struct mr_dstream *mr_text_file_stream(struct mr_context *ctx, const char *dir);
/* Any connector of the SQL side as a stream: options are pairs key, value, ..., NULL. columns NULL
 * = the connector's own. */
MR_API struct mr_dstream *mr_connector_stream(struct mr_context *ctx, const char *connector,
                                              const char *columns, const char *const *options);

/* Queue stream (Q-1 .. Q-3): for tests; not recoverable, so it cannot be used with a checkpoint
 * directory. */
struct mr_queue;
MR_API struct mr_queue *mr_queue_new(const char *columns); /* "value BIGINT"; NULL on a mistake */
/* any thread; shares */
MR_API void mr_queue_push(struct mr_queue *queue, const struct mr_batch *batch);
MR_API void mr_queue_push_ints(struct mr_queue *queue, const int64_t *values, size_t count);
MR_API void mr_queue_push_texts(struct mr_queue *queue, const char *const *values, size_t count);
MR_API void mr_queue_free(struct mr_queue *queue); /* after the context */
MR_API struct mr_dstream *mr_queue_stream(struct mr_context *ctx, struct mr_queue *queue,
                                          bool one_at_a_time);

/* ---- Transformations (dstream.md 5) ---- */

MR_API struct mr_dstream *mr_map(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_flat_map(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_filter(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_map_to_pair(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_reduce_by_key(struct mr_dstream *pairs, struct mr_fn reduce);
MR_API struct mr_dstream *mr_count_by_value(struct mr_dstream *stream);
MR_API struct mr_dstream *mr_union(struct mr_dstream *a, struct mr_dstream *b);
/* window and slide: multiples of the stream's slide; slide 0 = the stream's. */
MR_API struct mr_dstream *mr_window(struct mr_dstream *stream, int64_t window_ms, int64_t slide_ms);
/*
 * inverse MR_NO_FN: recomputed from the batches of the window; else incremental (MR_SUM and
 * MR_COUNT are their own inverses). filter: MR_NO_FN or a test on the result (INV-4); a key that
 * fails it is forgotten.
 */
MR_API struct mr_dstream *mr_reduce_by_key_and_window(struct mr_dstream *pairs, struct mr_fn reduce,
                                                      struct mr_fn inverse, int64_t window_ms,
                                                      int64_t slide_ms, struct mr_fn filter);
/* State lives under `name` in the checkpoint, whatever else changes in the program; NULL = a name
 * made from the graph's order. */
MR_API struct mr_dstream *mr_update_state_by_key(struct mr_dstream *pairs, const char *name,
                                                 struct mr_fn update);

/* Name of the operator's state for windows and the like. Before start. */
MR_API void mr_dstream_set_name(struct mr_dstream *stream, const char *name);
/* NULL when it failed to build */
MR_API const struct mr_schema *mr_dstream_schema(const struct mr_dstream *stream);

/* ---- Output (dstream.md 6) ---- */

MR_API void mr_print(struct mr_dstream *stream, int rows); /* OUT-2; to standard output */
/* prefix-<batch time ms>[.suffix]/part-00000 ... and _SUCCESS (OUT-3); a batch that runs again
 * overwrites its directory. */
MR_API void mr_save_as_text_files(struct mr_dstream *stream, const char *prefix,
                                  const char *suffix);
/* Once per batch, on the driver (OUT-5). The rdd is valid during the call. A failure runs the batch
 * again. */
typedef enum mr_status (*mr_rdd_fn)(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                    struct mr_error *err);
MR_API void mr_foreach_rdd(struct mr_dstream *stream, mr_rdd_fn fn, void *arg);

MR_API int64_t mr_rdd_count(const struct mr_rdd *rdd);
MR_API uint32_t mr_rdd_partition_count(const struct mr_rdd *rdd);
MR_API size_t mr_rdd_batch_count(const struct mr_rdd *rdd, uint32_t partition);
/* borrowed */
MR_API const struct mr_batch *mr_rdd_batch(const struct mr_rdd *rdd, uint32_t partition,
                                           size_t index);
/* with the partition: the id for idempotent output (OUT-7) */
MR_API uint64_t mr_rdd_batch_id(const struct mr_rdd *rdd);

#ifdef __cplusplus
}
#endif
#endif
