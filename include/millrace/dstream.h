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
 * a pair stream has `key` and `value`. What has two sides (joins, cogroup) is a pair whose value is
 * STRUCT("left", "right"); a side that may be missing is null. A struct of the program is a column
 * with a codec (<millrace/codec.h>). The type of a stream is known when it is built
 * (mr_dstream_schema); a wrong one is an error with the file and line of the call's function.
 *
 * Durations are milliseconds (dstream.md TIME-1). Thread: build and start in one thread;
 * mr_context_stop from any.
 */
#ifndef MILLRACE_DSTREAM_H
#define MILLRACE_DSTREAM_H

#include <millrace/rdd.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MR_MILLISECONDS(n) ((int64_t)(n))
#define MR_SECONDS(n) ((int64_t)(n)*1000)
#define MR_MINUTES(n) ((int64_t)(n)*60000)

struct mr_context;
struct mr_dstream;

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
 * file_remember, workers, retries, batches_max, ... (docs/options.md). A wrong name is an error
 * that says the nearest; a name of Spark that means nothing here is accepted, and the log says why.
 */
MR_API void mr_context_set(struct mr_context *ctx, const char *key, const char *value);
/* The same from a file: lines `key = value` or `key value`; `#` begins a comment line. */
MR_API void mr_context_set_file(struct mr_context *ctx, const char *path);
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
/*
 * Asks for it and returns at once: for signal handlers (async-signal-safe, which mr_context_stop is
 * not), listeners and other places that must not wait. Noticed within a tenth of a second by a
 * thread that awaits the context, else with the next batch.
 */
MR_API void mr_context_stop_soon(struct mr_context *ctx, bool graceful);
MR_API enum mr_context_state mr_context_state(const struct mr_context *ctx);
/*
 * start, await, report an error on standard error, free: the exit code of the program. Ctrl-C and
 * SIGTERM stop gracefully, a second one at once. Environment: MILLRACE_SETTINGS names a file for
 * mr_context_set_file, MILLRACE_SET is "key=value,key=value"; both win over what the program set.
 * MILLRACE_CHECKPOINT sets a checkpoint directory when the program set none.
 */
MR_API int mr_context_main(struct mr_context *ctx);
/* The same with the arguments of main: --set KEY=VALUE, --settings FILE, --checkpoint DIR win over
 * everything; --help lists the settings; what follows `--` is the program's. */
MR_API int mr_context_main_args(struct mr_context *ctx, int argc, char **argv);

/* The context of this process that is started and not stopped; NULL = none (CTX-8, CTX-13). */
MR_API struct mr_context *mr_context_active(void);
/* That one, else mr_context_get_or_create; dir NULL: else build. */
MR_API struct mr_context *mr_context_active_or_create(const char *dir,
                                                      struct mr_context *(*build)(void *arg),
                                                      void *arg);
/* Once, before start: streams keep their datasets at least that long (CTX-6, DS-10), for
 * mr_dstream_slice. */
MR_API void mr_context_remember(struct mr_context *ctx, int64_t duration_ms);
/* The session of its datasets; lives as long as the context. */
MR_API struct mr_session *mr_context_session(struct mr_context *ctx);

/* ---- Input ---- */

/* Lines of a TCP server; received blocks are in the write-ahead log before a batch sees them when
 * there is a checkpoint. */
MR_API struct mr_dstream *mr_socket_text_stream(struct mr_context *ctx, const char *host, int port);
/* Lines of new files in a directory or a glob of directories (FILE-*). */
MR_API struct mr_dstream *mr_text_file_stream(struct mr_context *ctx, const char *dir);
struct mr_file_stream {
    const char *dir;                             /* a directory, or a glob of directories */
    const char *format;                          /* "text" (NULL), "json", "csv", "parquet" ... */
    const char *columns;                         /* NULL = the format's own */
    bool (*filter)(const char *path, void *arg); /* replaces "name does not start with a dot" */
    void *filter_arg;
    bool all_files; /* also those that were there before (newFilesOnly = false) */
};
MR_API struct mr_dstream *mr_file_stream(struct mr_context *ctx,
                                         const struct mr_file_stream *files);
/* Records of a fixed length, one BINARY column; a file with a part of a record at its end is an
 * error of the batch. */
MR_API struct mr_dstream *mr_binary_records_stream(struct mr_context *ctx, const char *dir,
                                                   int64_t record_bytes);
/* The same rows in every batch. */
MR_API struct mr_dstream *mr_constant_stream(struct mr_context *ctx, const struct mr_batch *rows);
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
/* A batch without a dataset (DS-2): not the same as an empty one. */
MR_API void mr_queue_push_absent(struct mr_queue *queue);
/* What a batch gets when the queue is empty; NULL (the start) = no rows. */
MR_API void mr_queue_set_default(struct mr_queue *queue, const struct mr_batch *batch);
MR_API void mr_queue_free(struct mr_queue *queue); /* after the context */
MR_API struct mr_dstream *mr_queue_stream(struct mr_context *ctx, struct mr_queue *queue,
                                          bool one_at_a_time);

/* ---- Transformations (dstream.md 5) ---- */

/* map, flat_map, filter: any stream. map and map_to_pair: exactly one result each. */
MR_API struct mr_dstream *mr_map(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_flat_map(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_filter(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_map_to_pair(struct mr_dstream *stream, struct mr_fn fn);
/* Once a partition, also for one without rows: SQL with aggregates, a C function with an iterator
 * (mr_partition_fn), or one of the partition as a batch. */
MR_API struct mr_dstream *mr_map_partitions(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_glom(struct mr_dstream *stream); /* a list per partition */
/* Exactly that many, 1 to 1024; rows are dealt out in turn. */
MR_API struct mr_dstream *mr_repartition(struct mr_dstream *stream, uint32_t partition_count);
/* Of streams with one column. An empty batch gives nothing. */
MR_API struct mr_dstream *mr_reduce(struct mr_dstream *stream, struct mr_fn reduce);
MR_API struct mr_dstream *mr_count(struct mr_dstream *stream); /* one row a batch, 0 when empty */
MR_API struct mr_dstream *mr_count_by_value(struct mr_dstream *stream);
/* Same context, slide and columns. A batch in which one has no dataset is an error. */
MR_API struct mr_dstream *mr_union(struct mr_dstream *a, struct mr_dstream *b);
MR_API struct mr_dstream *mr_union_all(struct mr_dstream *const *streams, size_t stream_count);
/* fn: a C mr_transform_fn with its result columns (MR_FN_AS; MR_FN = those of the first input), or
 * a whole SELECT. On the driver, once a batch. */
MR_API struct mr_dstream *mr_transform(struct mr_dstream *stream, struct mr_fn fn);
MR_API struct mr_dstream *mr_transform_with(struct mr_dstream *a, struct mr_dstream *b,
                                            struct mr_fn fn);
MR_API struct mr_dstream *mr_transform_all(struct mr_dstream *const *streams, size_t stream_count,
                                           struct mr_fn fn);

/* The rows with the greatest values of a column (NULL: "value"), greatest first; equal ones in the
 * order of their columns, nulls last. */
MR_API struct mr_dstream *mr_top(struct mr_dstream *stream, int64_t rows, const char *column);

/* Pairs. The functions of map_values and flat_map_values see the value, in C as a row of one
 * column; each result gets the key. */
MR_API struct mr_dstream *mr_map_values(struct mr_dstream *pairs, struct mr_fn fn);
MR_API struct mr_dstream *mr_flat_map_values(struct mr_dstream *pairs, struct mr_fn fn);
MR_API struct mr_dstream *mr_group_by_key(struct mr_dstream *pairs); /* value: a list */
MR_API struct mr_dstream *mr_reduce_by_key(struct mr_dstream *pairs, struct mr_fn reduce);
/* create: value -> combiner (map function); merge_value: a the combiner, b the value;
 * merge_combiners: a and b combiners. */
MR_API struct mr_dstream *mr_combine_by_key(struct mr_dstream *pairs, struct mr_fn create,
                                            struct mr_fn merge_value, struct mr_fn merge_combiners);
MR_API struct mr_dstream *mr_cogroup(struct mr_dstream *a, struct mr_dstream *b);
MR_API struct mr_dstream *mr_join(struct mr_dstream *a, struct mr_dstream *b);
MR_API struct mr_dstream *mr_left_outer_join(struct mr_dstream *a, struct mr_dstream *b);
MR_API struct mr_dstream *mr_right_outer_join(struct mr_dstream *a, struct mr_dstream *b);
MR_API struct mr_dstream *mr_full_outer_join(struct mr_dstream *a, struct mr_dstream *b);

/* Windows. window and slide: multiples of the stream's slide; slide 0 = the stream's. */
MR_API struct mr_dstream *mr_window(struct mr_dstream *stream, int64_t window_ms, int64_t slide_ms);
MR_API struct mr_dstream *mr_count_by_window(struct mr_dstream *stream, int64_t window_ms,
                                             int64_t slide_ms);
/* inverse MR_NO_FN: from the batches of the window (WIN-6); else incremental (WIN-7). */
MR_API struct mr_dstream *mr_reduce_by_window(struct mr_dstream *stream, struct mr_fn reduce,
                                              struct mr_fn inverse, int64_t window_ms,
                                              int64_t slide_ms);
MR_API struct mr_dstream *mr_group_by_key_and_window(struct mr_dstream *pairs, int64_t window_ms,
                                                     int64_t slide_ms);
MR_API struct mr_dstream *mr_count_by_value_and_window(struct mr_dstream *stream, int64_t window_ms,
                                                       int64_t slide_ms);
/*
 * inverse MR_NO_FN: recomputed from the batches of the window; else incremental (MR_SUM and
 * MR_COUNT are their own inverses). filter: MR_NO_FN or a test on the result (INV-4); a key that
 * fails it is forgotten.
 */
MR_API struct mr_dstream *mr_reduce_by_key_and_window(struct mr_dstream *pairs, struct mr_fn reduce,
                                                      struct mr_fn inverse, int64_t window_ms,
                                                      int64_t slide_ms, struct mr_fn filter);

/* State. It lives under `name` in the checkpoint, whatever else changes in the program; NULL = a
 * name made from the graph's order. */
MR_API struct mr_dstream *mr_update_state_by_key(struct mr_dstream *pairs, const char *name,
                                                 struct mr_fn update);
/* initial: pairs (key, state), used while there is no state yet (UPD-5); NULL allowed. */
MR_API struct mr_dstream *mr_update_state_by_key_from(struct mr_dstream *pairs, const char *name,
                                                      struct mr_fn update, struct mr_rdd *initial);
struct mr_state_spec {
    const char *name;
    /*
     * MR_FN_AS(fn, "the mapped columns"); MR_SUM or MR_COUNT: the running value, a (key, state) row
     * for each record; MR_SQL: "new state, mapped value" or "new state, key, value" over key, value
     * and state. A null state removes the key, a mapped row of nulls is left out, and value is null
     * when the key is timing out.
     */
    struct mr_fn function;
    const char *state_columns; /* "state BIGINT"; NULL = BIGINT */
    struct mr_rdd *initial;    /* pairs (key, state), or NULL */
    int64_t timeout_ms;        /* 0 = none */
};
/* MWS-*. Timeouts fire in the batches of the checkpoint interval: 10 slides, or what
 * mr_dstream_checkpoint says. */
MR_API struct mr_dstream *mr_map_with_state(struct mr_dstream *pairs,
                                            const struct mr_state_spec *spec);
/* All (key, state) after each batch, of a stream of mr_map_with_state. */
MR_API struct mr_dstream *mr_state_snapshots(struct mr_dstream *mapped);

/* ---- Streams: names, storing, partitions. Before start. ---- */

/* Name of the operator's state for windows and the like. */
MR_API void mr_dstream_set_name(struct mr_dstream *stream, const char *name);
/*
 * Partitions of what comes out of a shuffle (reduce_by_key, joins, state ...); default: workers. Of
 * state at most 8: more is 8. A function of all keys (mr_update_all_fn) has one unless this is
 * called; with more, it may emit keys of its own partition only.
 */
MR_API void mr_dstream_set_partitions(struct mr_dstream *stream, uint32_t partition_count);
/* Of a stream that failed to build (NULL): NULL, and a slide of 0. */
MR_API const struct mr_schema *mr_dstream_schema(const struct mr_dstream *stream);
MR_API struct mr_context *mr_dstream_context(const struct mr_dstream *stream);
MR_API int64_t mr_dstream_slide_ms(const struct mr_dstream *stream);
/* Datasets of the stream are kept; of a receiver's stream: how received blocks are kept (STO-4).
 * DS-5: cache is MEMORY_ONLY_SER. */
MR_API void mr_dstream_persist(struct mr_dstream *stream, enum mr_storage_level level);
MR_API void mr_dstream_cache(struct mr_dstream *stream);
/* A multiple of the slide (4.5). State is written in every batch, whatever the interval: it says
 * which batches timeouts of mr_map_with_state fire in, and how long the stream remembers (DS-4). */
MR_API void mr_dstream_checkpoint(struct mr_dstream *stream, int64_t interval_ms);
/*
 * The remembered datasets of from <= time <= to, oldest first (WIN-5); while the context runs, any
 * thread. The caller unrefs each and frees the array with mr_rdds_free.
 */
MR_API enum mr_status mr_dstream_slice(struct mr_dstream *stream, int64_t from_ms, int64_t to_ms,
                                       struct mr_rdd ***ret_rdds, size_t *ret_count,
                                       struct mr_error *err);
MR_API void mr_rdds_free(struct mr_rdd **rdds, size_t count); /* unrefs too */

/* ---- Output (dstream.md 6) ---- */

MR_API void mr_print(struct mr_dstream *stream, int rows); /* OUT-2; to standard output */
/* prefix-<batch time ms>[.suffix]/part-00000 ... and _SUCCESS (OUT-3); a batch that runs again
 * overwrites its directory. */
MR_API void mr_save_as_text_files(struct mr_dstream *stream, const char *prefix,
                                  const char *suffix);
/* The same with rows in the row codec (mr_rdd_object_file reads them), and with Parquet files. */
MR_API void mr_save_as_object_files(struct mr_dstream *stream, const char *prefix,
                                    const char *suffix);
MR_API void mr_save_as_parquet_files(struct mr_dstream *stream, const char *prefix,
                                     const char *suffix);
/* Once per batch, on the driver (OUT-5). The dataset, and what is made of it, is valid during the
 * call. A failure runs the batch again. */
typedef enum mr_status (*mr_rdd_fn)(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                    struct mr_error *err);
MR_API void mr_foreach_rdd(struct mr_dstream *stream, mr_rdd_fn fn, void *arg);

#ifdef __cplusplus
}
#endif
#endif
