/*
 * Structured Streaming from C: readStream and writeStream, the SQL side of the library.
 *
 *     struct mr_streams *s = mr_streams_new();
 *     struct mr_stream_reader *in = mr_read_stream(s);
 *     struct mr_stream_writer *out;
 *
 *     mr_read_format(in, "socket");
 *     mr_read_option(in, "host", "localhost");
 *     mr_read_option(in, "port", "9999");
 *     mr_frame_create_view(mr_read_load(in, NULL), "lines");
 *     out = mr_write_stream(mr_streams_sql(s,
 *         "SELECT word, count(*) AS count"
 *         " FROM (SELECT unnest(string_split(value, ' ')) AS word FROM lines) GROUP BY word"));
 *     mr_write_output_mode(out, "complete");
 *     mr_write_format(out, "console");
 *     return mr_streams_main(s, out);
 *
 * or mr_write_start, which gives a handle of the query (mr_streaming_query_await ...).
 *
 * A session (struct mr_streams) makes frames, starts queries and is their manager. A frame is what
 * a SELECT may stand on: a source that was loaded, SQL over views, a function with state
 * (<millrace/groups.h>). Nothing is read before a query is started; each query reads its sources
 * for itself, under a checkpoint of its own.
 *
 * Building calls need no check: the first mistake sticks to its frame, reader or writer (and to
 * everything made from it), with the file and line of the call, and mr_write_start returns it.
 * They give back their argument, so that they can be nested too. NULL is ignored.
 *
 * Names are identity (docs/structured.md): the state of a query and its place in a source belong to
 * the names of the views that it stands on, and to the order of those without a name.
 *
 * Ownership: frames, readers and writers belong to their session. A query is counted: each one that
 * a call returns needs an mr_streaming_query_unref; that does not stop it. Texts that a call
 * returns are freed with mr_text_free.
 *
 * Thread: build in one thread at a time; everything about queries may be called from any.
 */
#ifndef MILLRACE_SQL_H
#define MILLRACE_SQL_H

#include <millrace/rdd.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_streams;
struct mr_frame;
struct mr_stream_reader;
struct mr_stream_writer;
struct mr_streaming_query;

/* The place of a building call, for its mistakes; the macros below give it. */
#define MR_HERE __FILE__, __LINE__

/* ---- Session ---- */

MR_API struct mr_streams *mr_streams_new(void); /* NULL only without memory */
/* Stops its queries at once first, as a crash would for those with a checkpoint; NULL allowed. Not
 * from a function of a query. Queries that the program holds stay readable. */
MR_API void mr_streams_free(struct mr_streams *streams);
/*
 * What SET sets, by our names or Spark's, for the queries that are started from now on (workers,
 * retries, watermark_policy, ...: docs/options.md), and the session's own:
 *
 *   checkpoint_root (spark.sql.streaming.checkpointLocation)  a query without checkpointLocation
 *       gets the directory of its name below it
 *   stop_active_run (spark.sql.streaming.stopActiveRunOnRestart) = true  starting a checkpoint that
 *       runs already stops the older run; false: it is an error
 *   recent_progress (spark.sql.streaming.numRecentProgressUpdates) = 100
 *   idle_progress (spark.sql.streaming.noDataProgressEventInterval) = 10 s
 *
 * A wrong name is a mistake that sticks to the session: no query starts.
 */
MR_API void mr_streams_set(struct mr_streams *streams, const char *key, const char *value);

/* ---- Reading: spark.readStream ---- */

MR_API struct mr_stream_reader *mr_read_stream(struct mr_streams *streams);
/* spark.read: a table that is read once, when a query starts, to join a stream with. */
MR_API struct mr_stream_reader *mr_read_static(struct mr_streams *streams);
/* A connector ("kafka", "socket", "rate", "file", "memory", ...) or the format of files ("json",
 * "csv", "parquet", "text": connector "file"). */
MR_API struct mr_stream_reader *mr_read_format(struct mr_stream_reader *reader, const char *format);
/* Checked when a query starts, by the option table of the connector and its format; ${NAME} reads
 * the environment. The last value of a key counts. */
MR_API struct mr_stream_reader *mr_read_option(struct mr_stream_reader *reader, const char *key,
                                               const char *value);
/* Columns, "user_id BIGINT, ts TIMESTAMP"; the connector's own when not given. */
MR_API struct mr_stream_reader *mr_read_schema(struct mr_stream_reader *reader,
                                               const char *columns);
/* path: the option `path`; NULL: as the options say. Returns a frame of the session. */
#define mr_read_load(reader, path) mr_read_load_at((reader), (path), MR_HERE)
MR_API struct mr_frame *mr_read_load_at(struct mr_stream_reader *reader, const char *path,
                                        const char *file, int line);

/* ---- Frames ---- */

/* A SELECT over views of the session, as they are now; the dialect is docs/sql.md. Places in its
 * errors are those of this text. */
#define mr_streams_sql(streams, sql) mr_streams_sql_at((streams), (sql), MR_HERE)
MR_API struct mr_frame *mr_streams_sql_at(struct mr_streams *streams, const char *sql,
                                          const char *file, int line);
/* The frame under that name. */
#define mr_streams_table(streams, name) mr_streams_table_at((streams), (name), MR_HERE)
MR_API struct mr_frame *mr_streams_table_at(struct mr_streams *streams, const char *name,
                                            const char *file, int line);
/*
 * Names a frame for SQL; a name that was taken means this frame from now on. The first name of a
 * frame is also its identity in checkpoints. Returns frame.
 */
#define mr_frame_create_view(frame, name) mr_frame_create_view_at((frame), (name), MR_HERE)
MR_API struct mr_frame *mr_frame_create_view_at(struct mr_frame *frame, const char *name,
                                                const char *file, int line);
/* Rows whose time in `column` is `delay` behind the newest one seen may be dropped as late:
 * "10 seconds". */
#define mr_frame_with_watermark(frame, column, delay)                                              \
    mr_frame_with_watermark_at((frame), (column), (delay), MR_HERE)
MR_API struct mr_frame *mr_frame_with_watermark_at(struct mr_frame *frame, const char *column,
                                                   const char *delay, const char *file, int line);

/* Thin SQL: SELECT columns FROM frame, with the texts as SQL has them. */
#define mr_frame_select(frame, columns) mr_frame_select_at((frame), (columns), MR_HERE)
MR_API struct mr_frame *mr_frame_select_at(struct mr_frame *frame, const char *columns,
                                           const char *file, int line);
#define mr_frame_where(frame, condition) mr_frame_where_at((frame), (condition), MR_HERE)
MR_API struct mr_frame *mr_frame_where_at(struct mr_frame *frame, const char *condition,
                                          const char *file, int line);
/* SELECT keys, aggregates FROM frame GROUP BY keys: mr_frame_group_by(words, "word",
 * "count(*) AS count"). keys without aliases. */
#define mr_frame_group_by(frame, keys, aggregates)                                                 \
    mr_frame_group_by_at((frame), (keys), (aggregates), MR_HERE)
MR_API struct mr_frame *mr_frame_group_by_at(struct mr_frame *frame, const char *keys,
                                             const char *aggregates, const char *file, int line);
/* The first row of each value of the columns, "user, ts"; NULL: of all columns. With the column of
 * the watermark among them what is remembered stays small; else it grows. */
#define mr_frame_drop_duplicates(frame, columns)                                                   \
    mr_frame_drop_duplicates_at((frame), (columns), MR_HERE)
MR_API struct mr_frame *mr_frame_drop_duplicates_at(struct mr_frame *frame, const char *columns,
                                                    const char *file, int line);
/* The same for duplicates that come within the delay of the watermark, whatever the columns. */
#define mr_frame_drop_duplicates_within_watermark(frame, columns)                                  \
    mr_frame_drop_duplicates_within_watermark_at((frame), (columns), MR_HERE)
MR_API struct mr_frame *mr_frame_drop_duplicates_within_watermark_at(struct mr_frame *frame,
                                                                     const char *columns,
                                                                     const char *file, int line);
#define mr_frame_union(a, b) mr_frame_union_at((a), (b), MR_HERE)
MR_API struct mr_frame *mr_frame_union_at(struct mr_frame *a, struct mr_frame *b, const char *file,
                                          int line);
/* The first mistake of a frame, or MR_OK; SQL is only checked when a query starts, or by
 * mr_frame_explain. */
MR_API enum mr_status mr_frame_error(const struct mr_frame *frame, struct mr_error *err);
/* Plans it as a query with this output mode (NULL: what fits) and gives sources, operators and
 * state in a few lines. */
MR_API enum mr_status mr_frame_explain(struct mr_frame *frame, const char *output_mode,
                                       char **ret_text, struct mr_error *err);

/* ---- Writing: df.writeStream ---- */

MR_API struct mr_stream_writer *mr_write_stream(struct mr_frame *frame);
/* A connector ("console", "kafka", "file", "memory", "noop", ...) or the format of files. */
MR_API struct mr_stream_writer *mr_write_format(struct mr_stream_writer *writer,
                                                const char *format);
/* Of the connector and its format; checkpointLocation is the query's. */
MR_API struct mr_stream_writer *mr_write_option(struct mr_stream_writer *writer, const char *key,
                                                const char *value);
/* "append" (when not given), "update", "complete". */
MR_API struct mr_stream_writer *mr_write_output_mode(struct mr_stream_writer *writer,
                                                     const char *mode);
/* As SET trigger has it: "1 second", "asap" (when not given), "once", "available now",
 * "continuous". */
MR_API struct mr_stream_writer *mr_write_trigger(struct mr_stream_writer *writer,
                                                 const char *trigger);
MR_API struct mr_stream_writer *mr_write_query_name(struct mr_stream_writer *writer,
                                                    const char *name);

/*
 * foreach: a function for each row. For every batch and partition of the output, also one without
 * rows: open, process for each row if it said so, close. At least once: after a failure or a crash
 * the same rows come again with the same partition and epoch, whatever the number of workers is.
 *
 * A failure runs the batch again (setting `retries`), then ends the query with error class
 * FOREACH_USER_FUNCTION_ERROR and the function's own text. Thread: the query's; when parallel, its
 * workers, one thread a partition, several partitions at once.
 */
struct mr_foreach_writer {
    size_t struct_size;
    /* *ret_state is handed to process and close (arg when it is left alone); *ret_process false:
     * the rows of this partition are skipped. NULL: all are wanted. */
    enum mr_status (*open)(void *arg, uint32_t partition, uint64_t epoch_id, void **ret_state,
                           bool *ret_process, struct mr_error *err);
    enum mr_status (*process)(void *state, const struct mr_row *row, struct mr_error *err);
    /* After every open that succeeded. failure NULL: everything was processed. NULL: nothing to
     * close. */
    void (*close)(void *state, const struct mr_error *failure);
    void *arg;
    bool parallel;
};
/* Copies functions. */
MR_API struct mr_stream_writer *mr_write_foreach(struct mr_stream_writer *writer,
                                                 const struct mr_foreach_writer *functions);
/*
 * foreachBatch: the rows of a batch as a dataset, with its number; called for batches without rows
 * too. It may compute and write several outputs (mr_rdd_sql, mr_rdd_save_as_parquet_file, a
 * database of its own). Rows live until it returns.
 *
 * At least once: called before the batch is committed, so after a crash in between the same batch
 * comes again, with the same number and the same rows. For exactly once write (batch number, rows)
 * in one step and leave out a number that is there already (docs/structured.md).
 */
typedef enum mr_status (*mr_foreach_batch_fn)(struct mr_rdd *rows, uint64_t batch_id, void *arg,
                                              struct mr_error *err);
MR_API struct mr_stream_writer *mr_write_foreach_batch(struct mr_stream_writer *writer,
                                                       mr_foreach_batch_fn fn, void *arg);

/*
 * Plans and opens the query, tells the listeners, and runs it on a thread of its own. path: the
 * option `path` of the sink; NULL: as the options say.
 *
 * Checkpoint: option checkpointLocation, else below checkpoint_root, else none for the sinks that
 * need no recovery (console, memory, noop, foreach, foreachBatch): the query starts anew each time;
 * else MR_CONFIG. Errors: mistakes of building, those of planning with their place in the SQL text,
 * MR_BUSY for a checkpoint in use, MR_CONFIG for a name that is active.
 *
 * ret_query may be NULL: it runs on under the manager.
 */
#define mr_write_start(writer, path, ret_query, err)                                               \
    mr_write_start_at((writer), (path), (ret_query), (err), MR_HERE)
MR_API enum mr_status mr_write_start_at(struct mr_stream_writer *writer, const char *path,
                                        struct mr_streaming_query **ret_query, struct mr_error *err,
                                        const char *file, int line);

/*
 * A SELECT over the memory sinks of the session (tables under their queries' names), as they are
 * now. Returns new. MR_NOT_FOUND: no such table. Any thread.
 */
MR_API enum mr_status mr_streams_rows(struct mr_streams *streams, const char *sql,
                                      struct mr_batch **ret_rows, struct mr_error *err);

/* ---- A query ---- */

MR_API struct mr_streaming_query *mr_streaming_query_ref(struct mr_streaming_query *query);
MR_API void mr_streaming_query_unref(struct mr_streaming_query *query); /* NULL allowed */
/* UUIDs: the checkpoint's, and this start's. Borrowed. */
MR_API const char *mr_streaming_query_id(const struct mr_streaming_query *query);
MR_API const char *mr_streaming_query_run_id(const struct mr_streaming_query *query);
MR_API const char *mr_streaming_query_name(const struct mr_streaming_query *query); /* or NULL */
MR_API bool mr_streaming_query_is_active(struct mr_streaming_query *query);

struct mr_streaming_status {
    /* "Initializing sources", "Getting offsets from clicks", "Writing offsets to log",
     * "Processing new data", "No new data but cleaning up state", "Waiting for next trigger",
     * "Waiting for data to arrive", "Stopped", "Terminated with exception: ...". A batch that runs
     * for a second also says what it is in: "Processing new data: function 'f' for 1200 ms" */
    char message[MR_ERROR_TEXT_BYTES + 64];
    bool is_data_available;
    bool is_trigger_active;
};
MR_API void mr_streaming_query_status(struct mr_streaming_query *query,
                                      struct mr_streaming_status *ret_status);
/* The newest progress document (docs/metrics.md), or NULL. Returns new. */
MR_API char *mr_streaming_query_last_progress(struct mr_streaming_query *query);
/* Copies of the newest ones, oldest first, at most `capacity`; returns how many. The setting
 * recent_progress keeps one less than it says, as Spark does. */
MR_API size_t mr_streaming_query_recent_progress(struct mr_streaming_query *query,
                                                 char **ret_documents, size_t capacity);

struct mr_streaming_exception {
    struct mr_error error; /* the cause, with the text of the function that failed */
    /* "STREAM_FAILED", "FOREACH_USER_FUNCTION_ERROR", "FOREACH_BATCH_USER_FUNCTION_ERROR" */
    const char *error_class;
    /* of all sources, JSON {"name": offset}: the batch that failed; borrowed from the query */
    const char *start_offset;
    const char *end_offset;
};
/* False: it has not failed. */
MR_API bool mr_streaming_query_exception(struct mr_streaming_query *query,
                                         struct mr_streaming_exception *ret_exception);
/*
 * Waits for its end, at most timeout_ms (negative: for ever); its failure is returned.
 * *ret_terminated (may be NULL) false: the time ran out. MR_STATE from its own functions and from
 * listeners.
 */
MR_API enum mr_status mr_streaming_query_await(struct mr_streaming_query *query, int64_t timeout_ms,
                                               bool *ret_terminated, struct mr_error *err);
/*
 * Stops it and waits until it has ended. graceful: the running batch is finished and committed
 * first; else it is left, and the next start runs it. From one of its own functions or a listener
 * it only asks. Any number of times; a stop is not a failure.
 */
MR_API void mr_streaming_query_stop(struct mr_streaming_query *query, bool graceful);
/*
 * For tests: returns when a trigger that began after the call has found no new data, or the query
 * has ended (its failure is returned). Never, while data keeps coming. MR_STATE from its own
 * functions.
 */
MR_API enum mr_status mr_streaming_query_process_all_available(struct mr_streaming_query *query,
                                                               struct mr_error *err);
/* Sources, operators, state and sinks. Returns new. */
MR_API char *mr_streaming_query_explain(struct mr_streaming_query *query);
/*
 * The last line of main: starts writer (NULL: what was started already), waits until all queries of
 * the session have ended or one has failed, reports a failure on standard error, frees the session.
 * Ctrl-C and SIGTERM stop gracefully, a second one at once. Returns the exit code of the program.
 */
MR_API int mr_streams_main(struct mr_streams *streams, struct mr_stream_writer *writer);

/* ---- The manager: spark.streams ---- */

/* New references to its active queries, at most `capacity`; returns how many there are. */
MR_API size_t mr_streams_active(struct mr_streams *streams, struct mr_streaming_query **ret_queries,
                                size_t capacity);
/* The active query with that id or name, or NULL. Returns a new reference. */
MR_API struct mr_streaming_query *mr_streams_get(struct mr_streams *streams, const char *id);
/*
 * Waits until a query of the session has ended since it was made, or since
 * mr_streams_reset_terminated; at most timeout_ms (negative: for ever). The newest failure among
 * them is returned, again and again until it is reset. *ret_terminated false: the time ran out.
 */
MR_API enum mr_status mr_streams_await_any(struct mr_streams *streams, int64_t timeout_ms,
                                           bool *ret_terminated, struct mr_error *err);
MR_API void mr_streams_reset_terminated(struct mr_streams *streams);

struct mr_streaming_event {
    const char *id;
    const char *run_id;
    const char *name;        /* or NULL */
    int64_t time_ms;         /* started, idle */
    const char *progress;    /* progress: the document */
    const char *exception;   /* terminated: text of the failure, or NULL */
    const char *error_class; /* terminated: of the failure, or NULL */
    const char *json;        /* the event as Spark writes it */
};
/*
 * Any callback may be NULL. started is called inside mr_write_start, before the first batch; the
 * others one after the other on a thread of the session, in the order in which things happened;
 * when 1000 wait, the queries do. What the events point to is valid during the call.
 */
struct mr_streaming_listener {
    size_t struct_size;
    void (*started)(void *arg, const struct mr_streaming_event *event);
    void (*progress)(void *arg, const struct mr_streaming_event *event);
    void (*idle)(void *arg, const struct mr_streaming_event *event);
    void (*terminated)(void *arg, const struct mr_streaming_event *event);
    void *arg;
};
/* Copies listener. Returns a number for mr_streams_remove_listener; 0 without memory. */
MR_API uint32_t mr_streams_add_listener(struct mr_streams *streams,
                                        const struct mr_streaming_listener *listener);
/* It is not called any more when this returns (except inside a listener, where a call that runs may
 * still end). */
MR_API void mr_streams_remove_listener(struct mr_streams *streams, uint32_t number);

#ifdef __cplusplus
}
#endif
#endif
