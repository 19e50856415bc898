/*
 * Sinks of the C API: foreach, foreachBatch, memory, file (structured.md 18; vectors 12).
 */
#include "support/streams.h"

#include <millrace/ext/memory.h>

#include <stdlib.h>

/* ---- foreach ---- */

/* What the functions were called with, as text. */
struct calls {
    struct mr_mutex lock;
    struct mr_buf text;
    int64_t fail_on; /* a row of this value, -1 = none */
    bool fail_open;
    uint32_t skip; /* rows of this partition are not wanted; UINT32_MAX = none */
    unsigned batches_failing;
};

static void calls_init(struct calls *calls)
{
    memset(calls, 0, sizeof(*calls));
    mr_mutex_init(&calls->lock);
    calls->fail_on = -1;
    calls->skip = UINT32_MAX;
    mr_buf_reserve(&calls->text, 1);
    mr_buf_add_str(&calls->text, "");
}

static void calls_release(struct calls *calls)
{
    mr_buf_release(&calls->text);
    mr_mutex_release(&calls->lock);
}

static const char *text_of(const struct calls *calls)
{
    return calls->text.size > 0 ? calls->text.data : "";
}

static void add(struct calls *calls, const char *format, ...) MR_PRINTF(2, 3);
static void add(struct calls *calls, const char *format, ...)
{
    char text[200];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    mr_mutex_lock(&calls->lock);
    mr_buf_add_str(&calls->text, text);
    mr_mutex_unlock(&calls->lock);
}

static enum mr_status on_open(void *arg, uint32_t partition, uint64_t epoch_id, void **ret_state,
                              bool *ret_process, struct mr_error *err)
{
    struct calls *calls = arg;

    if (calls->fail_open)
        return MR_FAIL(err, MR_USER, "no connection");
    add(calls, "open(%u,%u) ", partition, (unsigned)epoch_id);
    *ret_process = partition != calls->skip;
    *ret_state = calls;
    return MR_OK;
}

static enum mr_status on_process(void *state, const struct mr_row *row, struct mr_error *err)
{
    struct calls *calls = state;

    add(calls, "process(%d) ", (int)mr_row_int(row, 0));
    if (mr_row_int(row, 0) == calls->fail_on)
        return MR_FAIL(err, MR_USER, "the database is full");
    return MR_OK;
}

static void on_close(void *state, const struct mr_error *failure)
{
    add(state, "close(%s) ", failure != NULL ? failure->text : "null");
}

static struct mr_stream_writer *foreach (struct mr_frame *frame, struct calls * calls)
{
    const struct mr_foreach_writer functions = {.struct_size = sizeof(functions),
                                                .open = on_open,
                                                .process = on_process,
                                                .close = on_close,
                                                .arg = calls};

    return mr_write_foreach(mr_write_stream(frame), &functions);
}

/* Steps go to partitions in turn: a batch is two of them. */
static struct mr_frame *two_partitions(struct st *s)
{
    struct mr_stream_reader *reader = st_reader(s, "a", "v BIGINT");

    mr_read_option(reader, "partitions", "2");
    mr_read_option(reader, "max_steps_per_trigger", "2");
    return mr_frame_create_view(mr_read_load(reader, NULL), "a");
}

static enum mr_status run(struct mr_stream_writer *writer, struct mr_streaming_query **ret_query,
                          struct mr_error *err)
{
    enum mr_status status;

    mr_write_trigger(writer, "available now");
    *ret_query = st_start(writer);
    status = mr_streaming_query_await(*ret_query, -1, NULL, err);
    return status;
}

TEST(SK_02_foreach_opens_processes_and_closes_each_partition_of_each_batch)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    two_partitions(s);
    st_rows(s, "a", "(1), (2)");
    st_rows(s, "a", "(3), (4)");
    st_rows(s, "a", "(5), (6)");
    st_rows(s, "a", "(7), (8)");
    CHECK_OK(run(foreach (mr_streams_table(st_session(s), "a"), &calls), &query, &err), &err);
    CHECK_EQ_STR(text_of(&calls), "open(0,0) process(1) process(2) open(1,0) process(3) process(4) "
                                  "close(null) close(null) "
                                  "open(0,1) process(5) process(6) open(1,1) process(7) process(8) "
                                  "close(null) close(null) ");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(SK_02_foreach_of_a_complete_count)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    two_partitions(s);
    st_rows(s, "a", "(1), (2)");
    st_rows(s, "a", "(3), (4)");
    st_rows(s, "a", "(5), (6)");
    st_rows(s, "a", "(7), (8)");
    writer = foreach (mr_streams_sql(st_session(s), "SELECT count(*) AS n FROM a"), &calls);
    CHECK_OK(run(mr_write_output_mode(writer, "complete"), &query, &err), &err);
    CHECK_EQ_STR(text_of(&calls), "open(0,0) process(4) close(null) "
                                  "open(0,1) process(8) close(null) ");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(SK_02_a_failure_in_process_closes_with_it_and_ends_the_query)
{
    struct st *s = st_new(t);
    struct mr_streaming_exception exception;
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    calls.fail_on = 1;
    mr_streams_set(st_session(s), "retries", "0");
    st_source(s, "a", "v BIGINT");
    st_rows(s, "a", "(1), (2)");
    CHECK_FAILS(run(foreach (mr_streams_table(st_session(s), "a"), &calls), &query, &err), &err,
                MR_USER, "the database is full");
    CHECK_EQ_STR(text_of(&calls),
                 "open(0,0) process(1) close(process of foreach: the database is full) ");
    CHECK(mr_streaming_query_exception(query, &exception));
    CHECK_EQ_STR(exception.error_class, "FOREACH_USER_FUNCTION_ERROR");
    CHECK_CONTAINS(exception.error.text, "the database is full");
    CHECK_EQ_STR(exception.start_offset, "{\"a\":null}");
    CHECK_EQ_STR(exception.end_offset, "{\"a\":1}");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(SK_02_a_failure_before_the_sink_is_no_failure_of_foreach)
{
    struct st *s = st_new(t);
    struct mr_streaming_exception exception;
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct calls calls;

    calls_init(&calls);
    st_source(s, "texts", "v VARCHAR");
    st_rows(s, "texts", "('x')");
    writer = foreach (mr_streams_sql(st_session(s), "SELECT CAST(v AS INTEGER) AS n FROM texts"),
                      &calls);
    CHECK(run(writer, &query, NULL) != MR_OK);
    /* rows reach the functions when all of the batch is computed: nothing was opened */
    CHECK_EQ_STR(text_of(&calls), "");
    CHECK(mr_streaming_query_exception(query, &exception));
    CHECK_EQ_STR(exception.error_class, "STREAM_FAILED");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(rows_that_open_does_not_want_are_skipped_and_it_is_closed_all_the_same)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    calls.skip = 0;
    two_partitions(s);
    st_rows(s, "a", "(1), (2)");
    st_rows(s, "a", "(3)");
    CHECK_OK(run(foreach (mr_streams_table(st_session(s), "a"), &calls), &query, &err), &err);
    CHECK_EQ_STR(text_of(&calls), "open(0,0) open(1,0) process(3) close(null) close(null) ");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(an_open_that_fails_is_not_closed)
{
    struct st *s = st_new(t);
    struct mr_streaming_exception exception;
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    calls.fail_open = true;
    mr_streams_set(st_session(s), "retries", "0");
    st_source(s, "a", "v BIGINT");
    st_rows(s, "a", "(1)");
    CHECK_FAILS(run(foreach (mr_streams_table(st_session(s), "a"), &calls), &query, &err), &err,
                MR_USER, "open of foreach: no connection");
    CHECK_EQ_STR(text_of(&calls), "");
    CHECK(mr_streaming_query_exception(query, &exception));
    CHECK_EQ_STR(exception.error_class, "FOREACH_USER_FUNCTION_ERROR");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

struct sum {
    _Atomic int64_t rows;
    _Atomic int64_t total;
    _Atomic int64_t open;
};

static enum mr_status open_sum(void *arg, uint32_t partition, uint64_t epoch_id, void **ret_state,
                               bool *ret_process, struct mr_error *err)
{
    struct sum *sum = arg;

    (void)partition;
    (void)epoch_id;
    (void)ret_state;
    (void)ret_process;
    (void)err;
    atomic_fetch_add(&sum->open, 1);
    return MR_OK;
}

static enum mr_status process_sum(void *state, const struct mr_row *row, struct mr_error *err)
{
    struct sum *sum = state;

    (void)err;
    atomic_fetch_add(&sum->rows, 1);
    atomic_fetch_add(&sum->total, mr_row_int(row, 0));
    return MR_OK;
}

static void close_sum(void *state, const struct mr_error *failure)
{
    struct sum *sum = state;

    CHECK_NULL(failure);
    atomic_fetch_sub(&sum->open, 1);
}

TEST(a_parallel_foreach_sees_every_row_once)
{
    struct st *s = st_new(t);
    struct mr_stream_reader *reader = st_reader(s, "a", "v BIGINT");
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};
    struct sum sum = {0};
    const struct mr_foreach_writer functions = {.struct_size = sizeof(functions),
                                                .open = open_sum,
                                                .process = process_sum,
                                                .close = close_sum,
                                                .arg = &sum,
                                                .parallel = true};

    mr_streams_set(st_session(s), "workers", "4");
    for (int i = 0; i < 8; i++)
        st_rows(s, "a", "(1), (2), (3)");
    mr_read_option(reader, "partitions", "8");
    writer = mr_write_foreach(mr_write_stream(mr_read_load(reader, NULL)), &functions);
    CHECK_OK(run(writer, &query, &err), &err);
    CHECK_EQ_INT(sum.rows, 24);
    CHECK_EQ_INT(sum.total, 48);
    CHECK_EQ_INT(sum.open, 0);
    mr_streaming_query_unref(query);
    st_free(s);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned count = 0;

    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part))
        count++;
    return count;
}

TEST(SK_02_a_parallel_foreach_that_fails_closes_everything_that_was_opened)
{
    struct st *s = st_new(t);
    struct mr_foreach_writer functions = {.struct_size = sizeof(functions),
                                          .open = on_open,
                                          .process = on_process,
                                          .close = on_close,
                                          .parallel = true};
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    calls.fail_on = 3;
    functions.arg = &calls;
    mr_streams_set(st_session(s), "retries", "0");
    two_partitions(s);
    st_rows(s, "a", "(1), (2)");
    st_rows(s, "a", "(3), (4)");
    CHECK_FAILS(
        run(mr_write_foreach(mr_write_stream(mr_streams_table(st_session(s), "a")), &functions),
            &query, &err),
        &err, MR_USER, "the database is full");
    CHECK_EQ_INT(count_of(text_of(&calls), "open("), count_of(text_of(&calls), "close("));
    CHECK_CONTAINS(text_of(&calls), "close(process of foreach: the database is full)");
    CHECK_EQ_INT(count_of(text_of(&calls), "close(null)"), 0); /* the others: left, it runs again */
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

/* ---- foreachBatch ---- */

static enum mr_status two_outputs(struct mr_rdd *rows, uint64_t batch_id, void *arg,
                                  struct mr_error *err)
{
    struct calls *calls = arg;
    struct mr_batch *sum = NULL;
    struct mr_row row = {NULL, 0};
    int64_t count = 0;

    CHECK_EQ_UINT(mr_rdd_batch_id(rows), batch_id);
    MR_TRY(mr_rdd_count(rows, &count, err));
    MR_TRY(mr_rdd_collect(mr_rdd_sql(rows, "SELECT coalesce(sum(v), 0)::BIGINT AS s FROM input"),
                          &sum, err));
    row.batch = sum;
    add(calls, "%u:%d,%d ", (unsigned)batch_id, (int)count, (int)mr_row_int(&row, 0));
    mr_batch_unref(sum);
    if (calls->batches_failing > 0) {
        calls->batches_failing--;
        return MR_FAIL(err, MR_USER, "the second output is away");
    }
    return MR_OK;
}

TEST(foreach_batch_gets_every_batch_and_may_use_it_twice)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    two_partitions(s);
    st_rows(s, "a", "(1), (2)");
    st_rows(s, "a", "(3)");
    st_rows(s, "a", "");
    st_rows(s, "a", "");
    st_rows(s, "a", "(4)");
    writer = mr_write_stream(mr_streams_table(st_session(s), "a"));
    CHECK_OK(run(mr_write_foreach_batch(writer, two_outputs, &calls), &query, &err), &err);
    CHECK_EQ_STR(text_of(&calls), "0:3,6 1:0,0 2:1,4 "); /* a batch without rows, too */
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(a_foreach_batch_that_fails_gets_the_same_batch_again)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    calls.batches_failing = 1;
    st_source(s, "a", "v BIGINT");
    st_rows(s, "a", "(1), (2)");
    writer = mr_write_stream(mr_streams_table(st_session(s), "a"));
    CHECK_OK(run(mr_write_foreach_batch(writer, two_outputs, &calls), &query, &err), &err);
    CHECK_EQ_STR(text_of(&calls), "0:2,3 0:2,3 ");
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

TEST(a_foreach_batch_that_goes_on_failing_ends_the_query_and_a_restart_runs_the_batch)
{
    struct st *s = st_new(t);
    struct mr_streaming_exception exception;
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};
    struct calls calls;

    calls_init(&calls);
    calls.batches_failing = 1;
    mr_streams_set(st_session(s), "retries", "0");
    st_source(s, "a", "v BIGINT");
    st_rows(s, "a", "(1), (2)");
    writer = mr_write_stream(mr_streams_table(st_session(s), "a"));
    mr_write_option(writer, "checkpointLocation", st_path(s, "checkpoint"));
    mr_write_foreach_batch(writer, two_outputs, &calls);
    CHECK_FAILS(run(writer, &query, &err), &err, MR_USER, "the second output is away");
    CHECK(mr_streaming_query_exception(query, &exception));
    CHECK_EQ_STR(exception.error_class, "FOREACH_BATCH_USER_FUNCTION_ERROR");
    CHECK_CONTAINS(exception.error.text, "the second output is away");
    mr_streaming_query_unref(query);
    st_rows(s, "a", "(3)");
    CHECK_OK(run(writer, &query, &err), &err);
    CHECK_EQ_STR(text_of(&calls), "0:2,3 0:2,3 1:1,3 "); /* number and rows are the same */
    mr_streaming_query_unref(query);
    calls_release(&calls);
    st_free(s);
}

/* ---- memory ---- */

static struct mr_stream_writer *memory(struct st *s, struct mr_frame *frame, const char *name,
                                       const char *mode)
{
    struct mr_stream_writer *writer = mr_write_format(mr_write_stream(frame), "memory");

    mr_write_query_name(writer, st_name(s, name));
    return mr_write_output_mode(writer, mode);
}

TEST(SK_04_complete_replaces_and_append_adds)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *all, *counts;
    struct mr_frame *a = st_source(s, "a", "v BIGINT");

    all = st_start(memory(s, a, "sk04_all", "append"));
    counts =
        st_start(memory(s, mr_frame_group_by(a, "v", "count(*) AS n"), "sk04_counts", "complete"));
    st_rows(s, "a", "(1), (2)");
    st_drain(all);
    st_drain(counts);
    st_rows(s, "a", "(2)");
    st_drain(all);
    st_drain(counts);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM sk04_all"), "1\n2\n2\n");
    CHECK_EQ_STR(st_select(s, "SELECT * FROM sk04_counts"), "1|1\n2|2\n");
    CHECK_EQ_STR(st_select(s, "SELECT a.v, n FROM sk04_all a JOIN sk04_counts c ON a.v = c.v "
                              "WHERE n > 1"),
                 "2|2\n2|2\n");
    st_stop(all);
    st_stop(counts);
    st_free(s);
}

TEST(SK_04_a_batch_that_is_there_already_is_ignored)
{
    struct mr_memory *table = mr_memory_table("sk04_twice");
    struct st *s = st_new(t);
    struct mr_batch *rows = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_streams_rows(st_session(s), "SELECT 1::BIGINT AS v", &rows, &err), &err);
    for (int i = 0; i < 2; i++)
        CHECK_OK(mr_memory_publish(table, "query", 3, false, &rows, 1, &err), &err);
    CHECK_EQ_INT(mr_memory_row_count(table), 1);
    mr_batch_unref(rows);
    mr_memory_drop("sk04_twice");
    st_free(s);
}

TEST(a_memory_sink_that_lost_its_rows_cannot_go_on_from_a_checkpoint)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query = NULL;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};
    struct mr_frame *a = st_source(s, "a", "v BIGINT");

    writer = memory(s, a, "lost", "append");
    mr_write_option(writer, "checkpointLocation", st_path(s, "append"));
    st_rows(s, "a", "(1)");
    query = st_start(writer);
    st_drain(query);
    st_stop(query);
    query = st_start(writer); /* the rows are there: it may */
    st_stop(query);
    mr_memory_drop("lost"); /* as another process sees it */
    query = NULL;
    CHECK_FAILS(mr_write_start(writer, NULL, &query, &err), &err, MR_CONFIG,
                "a memory sink in output mode 'append' cannot go on from a checkpoint");

    writer = memory(s, mr_frame_group_by(a, "v", "count(*) AS n"), "lost_counts", "complete");
    mr_write_option(writer, "checkpointLocation", st_path(s, "complete"));
    query = st_start(writer);
    st_drain(query);
    st_stop(query);
    mr_memory_drop("lost_counts");
    st_rows(s, "a", "(1)");
    query = st_start(writer);
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM lost_counts"), "1|2\n");
    st_stop(query);
    st_free(s);
}

TEST(a_memory_sink_without_rows_has_its_columns)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query =
        st_start(memory(s, st_source(s, "a", "v BIGINT"), "no_rows_yet", "append"));

    CHECK_EQ_STR(st_select(s, "SELECT count(*) AS n, max(v) FROM no_rows_yet"), "0|null\n");
    st_stop(query);
    st_free(s);
}

TEST(a_memory_sink_needs_a_name)
{
    struct st *s = st_new(t);
    struct mr_stream_writer *writer =
        mr_write_format(mr_write_stream(st_source(s, "a", "v BIGINT")), "memory");
    struct mr_error err = {0};

    CHECK_FAILS(mr_write_start(writer, NULL, NULL, &err), &err, MR_CONFIG, "needs a name");
    st_free(s);
}

/* ---- file ---- */

static struct mr_stream_writer *file(struct st *s, const char *mode)
{
    struct mr_stream_writer *writer =
        mr_write_stream(mr_streams_sql(st_session(s), "SELECT v, count(*) AS n FROM a GROUP BY v"));

    mr_write_output_mode(mr_write_format(writer, "json"), mode);
    mr_write_option(writer, "path", st_path(s, "out"));
    return mr_write_option(writer, "checkpointLocation", st_path(s, "checkpoint"));
}

TEST(SK_08_the_file_sink_does_not_take_complete)
{
    struct st *s = st_new(t);
    struct mr_error err = {0};

    st_source(s, "a", "v BIGINT");
    CHECK_FAILS(mr_write_start(file(s, "complete"), NULL, NULL, &err), &err, MR_CONFIG,
                "connector 'file' does not take output_mode = 'complete'");
    CHECK_CONTAINS(err.text, "test_streams_sinks.c:");
    st_free(s);
}

/* Files of the output directory that a reader sees. */
static bool count_file(const char *name, enum mr_file_kind kind, void *arg)
{
    *(unsigned *)arg += kind == MR_KIND_FILE && name[0] != '.';
    return true;
}

static unsigned files(struct st *s)
{
    struct mr_env *env = mr_env_posix();
    unsigned count = 0;

    CHECK_OK(mr_env_list(env, st_path(s, "out"), count_file, &count, NULL), NULL);
    return count;
}

TEST(SK_05_SK_07_SK_08_a_batch_that_is_logged_already_is_not_written_again)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer = mr_write_stream(st_source(s, "a", "v BIGINT"));
    struct mr_error err = {0};

    mr_write_option(writer, "checkpointLocation", st_path(s, "checkpoint"));
    mr_write_option(mr_write_format(writer, "json"), "path", st_path(s, "out"));
    st_rows(s, "a", "(1)");
    CHECK_OK(run(writer, &query, &err), &err);
    mr_streaming_query_unref(query);
    CHECK_EQ_INT(files(s), 1);
    CHECK_OK(run(writer, &query, &err), &err); /* nothing new: nothing written */
    mr_streaming_query_unref(query);
    CHECK_EQ_INT(files(s), 1);
    for (int i = 0; i < 12; i++) { /* the log of the sink does not grow with the batches */
        st_rows(s, "a", "(2)");
        CHECK_OK(run(writer, &query, &err), &err);
        mr_streaming_query_unref(query);
    }
    CHECK_EQ_INT(files(s), 13);
    st_free(s);
}
