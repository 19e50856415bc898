/*
 * The C API of the SQL side: readers, frames, writers, queries (structured.md 1, 9, 18; vectors 12
 * and 16).
 */
#include "support/streams.h"

static struct mr_stream_writer *memory(struct st *s, struct mr_frame *frame, const char *name,
                                       const char *mode)
{
    struct mr_stream_writer *writer = mr_write_stream(frame);

    mr_write_format(writer, "memory");
    mr_write_query_name(writer, st_name(s, name));
    return mr_write_output_mode(writer, mode);
}

TEST(words_are_counted_as_the_guide_does_it)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_frame *words, *counts;

    st_source(s, "lines", "value VARCHAR");
    words =
        mr_streams_sql(st_session(s), "SELECT unnest(string_split(value, ' ')) AS word FROM lines");
    counts = mr_frame_group_by(words, "word", "count(*) AS n");
    query = st_start(memory(s, counts, "word_counts", "complete"));
    st_rows(s, "lines", "('a b a'), ('c')");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM word_counts"), "a|2\nb|1\nc|1\n");
    st_rows(s, "lines", "('b')");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT word, n FROM word_counts WHERE n > 1"), "a|2\nb|2\n");
    st_stop(query);
    st_free(s);
}

/* ---- mistakes ---- */

static void check_mistake(struct mr_stream_writer *writer, enum mr_status status, const char *part,
                          uint32_t line, uint32_t column)
{
    struct mr_streaming_query *query = NULL;
    struct mr_error err = {0};

    CHECK_FAILS(mr_write_start(writer, NULL, &query, &err), &err, status, part);
    CHECK_NULL(query);
    CHECK_EQ_INT(err.sql_line, line);
    CHECK_EQ_INT(err.sql_column, column);
}

static struct mr_stream_writer *noop(struct mr_frame *frame)
{
    return mr_write_format(mr_write_stream(frame), "noop");
}

TEST(mistakes_in_sql_have_their_place_in_the_text_of_the_program)
{
    struct st *s = st_new(t);

    st_source(s, "a", "v BIGINT, w BIGINT");
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT v,\n  x FROM a")), MR_SQL_ERROR,
                  "test_streams_queries.c:", 2, 3);
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT v FROM\na GRUP BY v")), MR_SQL_ERROR,
                  "line 2", 2, 3);
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT v FROM b")), MR_SQL_ERROR,
                  "there is no table 'b'", 1, 15);
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT 'abc FROM a")), MR_SQL_ERROR,
                  "mr_streams_sql: line 1, column 8: ", 1, 8);
    check_mistake(noop(mr_frame_where(mr_streams_table(st_session(s), "a"), "v > u")), MR_SQL_ERROR,
                  "mr_frame_where", 1, 5);
    check_mistake(noop(mr_frame_select(mr_streams_table(st_session(s), "a"), "v, w + z")),
                  MR_SQL_ERROR, "mr_frame_select", 1, 8);
    st_free(s);
}

TEST(mistakes_of_building_calls_stick_and_have_their_line)
{
    struct st *s = st_new(t);
    struct mr_streams *session = st_session(s);
    struct mr_stream_reader *reader;
    struct mr_frame *frame;
    struct mr_error err = {0};

    frame = mr_read_load(mr_read_stream(session), "x");
    check_mistake(noop(mr_frame_where(frame, "a > 1")), MR_CONFIG, "there is no format", 0, 0);
    reader = mr_read_schema(mr_read_format(mr_read_stream(session), "memory"), "v BIGONT");
    check_mistake(noop(mr_read_load(reader, NULL)), MR_CONFIG, "BIGONT", 0, 0);
    reader = mr_read_option(st_reader(s, "a", "v BIGINT"), "partitons", "2");
    check_mistake(noop(mr_read_load(reader, NULL)), MR_CONFIG, "did you mean 'partitions'", 0, 0);
    check_mistake(noop(mr_streams_table(session, "nowhere")), MR_NOT_FOUND,
                  "there is no view 'nowhere'", 0, 0);
    check_mistake(noop(mr_frame_with_watermark(st_source(s, "a", "v BIGINT"), "v", "1 month")),
                  MR_CONFIG, "'1 month' is no delay", 0, 0);
    check_mistake(noop(mr_frame_with_watermark(mr_streams_table(session, "a"), "v", "1 s")),
                  MR_SQL_ERROR, "must be a TIMESTAMP", 0, 0);
    check_mistake(mr_write_output_mode(noop(mr_streams_table(session, "a")), "appendix"), MR_CONFIG,
                  "unknown output mode 'appendix'", 0, 0);
    check_mistake(mr_write_trigger(noop(mr_streams_table(session, "a")), "sometimes"), MR_CONFIG,
                  "unknown trigger 'sometimes'", 0, 0);
    check_mistake(mr_write_stream(mr_streams_table(session, "a")), MR_CONFIG, "there is no sink", 0,
                  0);
    check_mistake(mr_write_format(mr_write_stream(mr_streams_table(session, "a")), "kafkaa"),
                  MR_CONFIG, "mr_write_start", 0, 0);
    CHECK_FAILS(mr_frame_error(frame, &err), &err, MR_CONFIG, "test_streams_queries.c:");
    mr_streams_set(session, "shuffle_partitionz", "3");
    check_mistake(noop(mr_streams_table(session, "a")), MR_CONFIG, "mr_streams_set", 0, 0);
    st_free(s);
}

TEST(sinks_that_need_recovery_need_a_checkpoint)
{
    struct st *s = st_new(t);
    struct mr_stream_writer *writer = mr_write_stream(st_source(s, "a", "v BIGINT"));
    struct mr_streaming_query *query;

    mr_write_option(mr_write_format(writer, "json"), "path", st_path(s, "out"));
    check_mistake(writer, MR_CONFIG, "this sink needs a checkpoint", 0, 0);
    mr_streams_set(st_session(s), "checkpoint_root", st_path(s, "root"));
    query = st_start(mr_write_query_name(writer, "copies"));
    st_rows(s, "a", "(1)");
    st_drain(query);
    st_stop(query);
    CHECK_OK(mr_env_path_info(mr_env_posix(), st_path(s, "root/copies"), true,
                              &(struct mr_file_info){0}, NULL),
             NULL);
    st_free(s);
}

/* ---- frames ---- */

TEST(frames_stand_on_each_other_in_every_way)
{
    struct st *s = st_new(t);
    struct mr_streams *session = st_session(s);
    struct mr_frame *a = st_source(s, "a", "v BIGINT, w BIGINT");
    struct mr_streaming_query *query;
    struct mr_frame *big;

    big = mr_frame_create_view(mr_frame_where(a, "v > 1 -- the others are small"), "big");
    mr_frame_create_view(big, "large"); /* a second name */
    query = st_start(memory(
        s,
        mr_frame_union(mr_streams_sql(session, "SELECT v + 0 AS v FROM big;"),
                       mr_streams_sql(session, "SELECT w AS v FROM \"large\" WHERE w < 100")),
        "every_way", "append"));
    st_rows(s, "a", "(1, 10), (2, 20), (3, 300)");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM every_way"), "2\n20\n3\n");
    st_stop(query);
    st_free(s);
}

TEST(a_name_that_is_given_again_changes_nothing_for_what_stood_on_it)
{
    struct st *s = st_new(t);
    struct mr_streams *session = st_session(s);
    struct mr_frame *a = st_source(s, "a", "v BIGINT");
    struct mr_streaming_query *first, *second;
    struct mr_frame *before, *after;

    mr_frame_create_view(mr_frame_where(a, "v < 10"), "part");
    before = mr_streams_sql(session, "SELECT * FROM part");
    mr_frame_create_view(mr_frame_where(a, "v > 10"), "part");
    after = mr_streams_sql(session, "SELECT * FROM part");
    st_rows(s, "a", "(1), (11)");
    first = st_start(memory(s, before, "before_it", "append"));
    second = st_start(memory(s, after, "after_it", "append"));
    st_drain(first);
    st_drain(second);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM before_it"), "1\n");
    CHECK_EQ_STR(st_select(s, "SELECT * FROM after_it"), "11\n");
    st_stop(first);
    st_stop(second);
    st_free(s);
}

TEST(a_watermark_may_stand_on_any_frame)
{
    struct st *s = st_new(t);
    struct mr_streams *session = st_session(s);
    struct mr_frame *events = st_source(s, "events", "v BIGINT");
    struct mr_streaming_query *query;
    struct mr_frame *timed;

    timed = mr_frame_select(events, "make_timestamp(v * 1000000) AS ts, v");
    mr_frame_create_view(mr_frame_with_watermark(timed, "ts", "10 seconds"), "timed");
    query = st_start(memory(s,
                            mr_streams_sql(session, "SELECT epoch(window_start)::BIGINT AS w, "
                                                    "count(*) AS n FROM timed GROUP BY "
                                                    "window(ts, '5 seconds')"),
                            "windows", "append"));
    st_rows(s, "events", "(10), (12), (14)");
    st_drain(query);
    st_rows(s, "events", "(25)");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM windows"), "10|3\n"); /* WM-01 */
    st_stop(query);
    st_free(s);
}

TEST(duplicates_are_dropped_by_columns_by_rows_and_within_a_watermark)
{
    struct st *s = st_new(t);
    struct mr_frame *a = st_source(s, "a", "v BIGINT, w BIGINT, ts TIMESTAMP");
    struct mr_frame *timed = mr_frame_with_watermark(a, "ts", "10 seconds");
    struct mr_streaming_query *by_v, *by_row, *within;

    by_v = st_start(memory(s, mr_frame_drop_duplicates(a, "v"), "by_v", "append"));
    by_row = st_start(memory(s, mr_frame_drop_duplicates(a, NULL), "by_row", "append"));
    within = st_start(
        memory(s, mr_frame_drop_duplicates_within_watermark(timed, "v"), "within", "append"));
    st_rows(s, "a", "(1, 1, TIMESTAMP '1970-01-01'), (1, 2, '1970-01-01'), (1, 1, '1970-01-01')");
    st_drain(by_v);
    st_drain(by_row);
    st_drain(within);
    CHECK_EQ_STR(st_select(s, "SELECT v, w FROM by_v"), "1|1\n");
    CHECK_EQ_STR(st_select(s, "SELECT v, w FROM by_row"), "1|1\n1|2\n");
    CHECK_EQ_STR(st_select(s, "SELECT v, w FROM within"), "1|1\n");
    st_stop(by_v);
    st_stop(by_row);
    st_stop(within);
    st_free(s);
}

TEST(a_watermark_of_a_table_reads_only_the_columns_that_are_needed)
{
    struct st *s = st_new(t);
    struct mr_frame *a = st_source(s, "a", "v BIGINT, w VARCHAR, ts TIMESTAMP");
    struct mr_frame *timed = mr_frame_with_watermark(a, "TS", "10 seconds");
    struct mr_error err = {0};
    char *text = NULL;

    mr_frame_create_view(timed, "timed");
    CHECK_OK(mr_frame_explain(mr_streams_sql(st_session(s), "SELECT window_start, sum(v) AS s FROM "
                                                            "timed GROUP BY window(ts, '5 s')"),
                              "append", &text, &err),
             &err);
    CHECK_CONTAINS(text, "source a: memory (v BIGINT, ts TIMESTAMP), watermark");
    mr_text_free(text);
    /* read with and without its watermark, it is one source all the same */
    CHECK_OK(mr_frame_explain(mr_frame_union(timed, a), "append", &text, &err), &err);
    CHECK_CONTAINS(text, "source a: memory (v BIGINT, w VARCHAR, ts TIMESTAMP)\n");
    CHECK_NULL(strstr(strstr(text, "source a") + 1, "source a"));
    mr_text_free(text);
    st_free(s);
}

TEST(a_stream_joins_a_table_that_is_read_once)
{
    struct st *s = st_new(t);
    struct mr_streams *session = st_session(s);
    struct mr_streaming_query *query;

    st_source(s, "a", "v BIGINT");
    mr_read_option(st_reader(s, "names", "v BIGINT, name VARCHAR"), "static", "true");
    st_rows(s, "names", "(1, 'one'), (2, 'two')");
    mr_frame_create_view(
        mr_read_load(
            mr_read_option(st_reader(s, "names", "v BIGINT, name VARCHAR"), "static", "true"),
            NULL),
        "names");
    query = st_start(
        memory(s, mr_streams_sql(session, "SELECT a.v, name FROM a JOIN names ON a.v = names.v"),
               "joined", "append"));
    st_rows(s, "a", "(2), (3)");
    st_drain(query);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM joined"), "2|two\n");
    st_stop(query);
    st_free(s);
}

TEST(a_frame_is_explained_without_running)
{
    struct st *s = st_new(t);
    struct mr_frame *a = st_source(s, "a", "v BIGINT");
    struct mr_error err = {0};
    char *text = NULL;

    CHECK_OK(mr_frame_explain(mr_frame_group_by(a, "v", "count(*) AS n"), "update", &text, &err),
             &err);
    CHECK_CONTAINS(text, "source a: memory");
    CHECK_CONTAINS(text, "output mode update");
    mr_text_free(text);
    CHECK_FAILS(mr_frame_explain(mr_frame_group_by(a, "v", "count(*) AS n"), "append", &text, &err),
                &err, MR_SQL_ERROR, "mr_frame_group_by");
    st_free(s);
}

/* ---- life ---- */

TEST(a_restart_goes_on_where_it_was)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    char id[64];

    for (int i = 0; i < 3; i++) {
        struct mr_frame *counts =
            mr_frame_group_by(st_source(s, "a", "v BIGINT"), "v", "count(*) AS n");
        struct mr_stream_writer *writer = memory(s, counts, "going_on", "complete");

        mr_write_option(writer, "checkpointLocation", st_path(s, "checkpoint"));
        st_rows(s, "a", "(1), (2)");
        query = st_start(writer);
        if (i > 0)
            CHECK_EQ_STR(mr_streaming_query_id(query), id);
        snprintf(id, sizeof(id), "%s", mr_streaming_query_id(query));
        st_drain(query);
        CHECK_EQ_STR(st_select(s, "SELECT * FROM going_on"),
                     i == 0 ? "1|1\n2|1\n" : (i == 1 ? "1|2\n2|2\n" : "1|3\n2|3\n"));
        st_stop(query);
        st_again(s);
    }
    st_free(s);
}

TEST(two_queries_read_one_source_each_for_itself)
{
    struct st *s = st_new(t);
    struct mr_frame *a = st_source(s, "a", "v BIGINT");
    struct mr_streaming_query *even, *odd;

    even = st_start(memory(s, mr_frame_where(a, "v % 2 = 0"), "even", "append"));
    odd = st_start(memory(s, mr_frame_where(a, "v % 2 = 1"), "odd", "append"));
    st_rows(s, "a", "(1), (2), (3), (4)");
    st_drain(even);
    st_stop(even);
    st_rows(s, "a", "(5), (6)");
    st_drain(odd);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM even"), "2\n4\n");
    CHECK_EQ_STR(st_select(s, "SELECT * FROM odd"), "1\n3\n5\n");
    st_stop(odd);
    st_free(s);
}

TEST(await_with_a_limit_tells_whether_it_ended)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query = st_start(noop(st_source(s, "a", "v BIGINT")));
    bool terminated = true;

    CHECK_OK(mr_streaming_query_await(query, 1, &terminated, NULL), NULL);
    CHECK(!terminated);
    st_end(s, "a");
    CHECK_OK(mr_streaming_query_await(query, -1, &terminated, NULL), NULL);
    CHECK(terminated);
    mr_streaming_query_stop(query, true); /* a stop after the end is fine */
    mr_streaming_query_unref(query);
    st_free(s);
}

static enum mr_status stop_itself(void *state, const struct mr_row *row, struct mr_error *err)
{
    struct mr_streams *streams = state;
    struct mr_streaming_query *query = mr_streams_get(streams, "itself");
    struct mr_error refused = {0};

    (void)row;
    (void)err;
    CHECK_NOT_NULL(query);
    CHECK_FAILS(mr_streaming_query_await(query, -1, NULL, &refused), &refused, MR_STATE, "inside");
    CHECK_FAILS(mr_streaming_query_process_all_available(query, &refused), &refused, MR_STATE,
                "inside");
    mr_streaming_query_stop(query, true); /* only asks */
    mr_streaming_query_unref(query);
    return MR_OK;
}

TEST(a_query_may_be_stopped_by_its_own_function)
{
    struct st *s = st_new(t);
    const struct mr_foreach_writer functions = {
        .struct_size = sizeof(functions), .process = stop_itself, .arg = st_session(s)};
    struct mr_stream_writer *writer = mr_write_stream(st_source(s, "a", "v BIGINT"));
    struct mr_streaming_query *query;
    struct mr_error err = {0};

    st_rows(s, "a", "(1)");
    query = st_start(mr_write_query_name(mr_write_foreach(writer, &functions), "itself"));
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, &err), &err);
    mr_streaming_query_unref(query);
    st_free(s);
}

/* Until the status says where the batch is; it does after a second. */
static enum mr_status wait_to_be_told(void *state, const struct mr_row *row, struct mr_error *err)
{
    struct mr_streaming_query *query = mr_streams_get(state, "slow");
    struct mr_streaming_status status;

    (void)row;
    (void)err;
    do
        mr_streaming_query_status(query, &status);
    while (strstr(status.message, ": sink '") == NULL);
    CHECK_CONTAINS(status.message, "Processing new data: sink 'output' for ");
    mr_streaming_query_unref(query);
    return MR_OK;
}

TEST(D16_the_status_says_what_a_batch_that_takes_long_is_in)
{
    struct st *s = st_new(t);
    const struct mr_foreach_writer functions = {
        .struct_size = sizeof(functions), .process = wait_to_be_told, .arg = st_session(s)};
    struct mr_stream_writer *writer = mr_write_stream(st_source(s, "a", "v BIGINT"));
    struct mr_streaming_query *query;
    struct mr_streaming_status status;

    st_rows(s, "a", "(1)");
    query = st_start(mr_write_query_name(mr_write_foreach(writer, &functions), "slow"));
    st_drain(query);
    mr_streaming_query_status(query, &status);
    CHECK_NULL(strstr(status.message, "sink"));
    st_stop(query);
    st_free(s);
}

TEST(handles_outlive_their_session)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query = st_start(noop(st_source(s, "a", "v BIGINT")));
    struct mr_streaming_status status;
    char *text;

    st_rows(s, "a", "(1)");
    st_drain(query);
    st_again(s); /* stops it */
    CHECK(!mr_streaming_query_is_active(query));
    mr_streaming_query_status(query, &status);
    CHECK_EQ_STR(status.message, "Stopped");
    text = mr_streaming_query_last_progress(query);
    CHECK_CONTAINS(text, "\"numInputRows\":1,");
    mr_text_free(text);
    text = mr_streaming_query_explain(query);
    CHECK_CONTAINS(text, "source a: memory");
    mr_text_free(text);
    mr_streaming_query_unref(query);
    st_free(s);
}

TEST(a_stop_while_it_runs_leaves_nothing_behind)
{
    struct st *s = st_new(t);
    struct mr_stream_reader *reader = mr_read_format(mr_read_stream(st_session(s)), "rate");
    struct mr_frame *rate;

    mr_read_option(reader, "rowsPerSecond", "100000");
    rate = mr_frame_create_view(mr_read_load(reader, NULL), "ticks");
    for (int i = 0; i < 10; i++) {
        struct mr_stream_writer *writer =
            memory(s, mr_frame_group_by(rate, "value % 10", "count(*) AS n"), "stopped", "update");
        struct mr_streaming_query *query = st_start(writer);

        mr_streaming_query_stop(query, i % 2 == 0);
        mr_streaming_query_unref(query);
    }
    st_free(s);
}

TEST(what_a_writer_says_wins_over_the_session_whatever_the_spelling)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    struct mr_error err = {0};

    mr_streams_set(st_session(s), "spark.trigger", "1 hour");
    mr_streams_set(st_session(s), "parallelism", "1");
    mr_streams_set(st_session(s), "workers", "2");
    st_source(s, "a", "v BIGINT");
    writer = memory(s, mr_streams_sql(st_session(s), "WITH b AS (SELECT * FROM a) SELECT * FROM b"),
                    "wins", "append");
    st_rows(s, "a", "(1)");
    query = st_start(mr_write_trigger(writer, "available now"));
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, &err), &err);
    CHECK_EQ_STR(st_select(s, "SELECT * FROM wins"), "1\n");
    mr_streaming_query_unref(query);
    st_free(s);
}

TEST(a_second_statement_in_a_text_is_refused_at_its_place)
{
    struct st *s = st_new(t);

    st_source(s, "a", "v BIGINT");
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT v FROM a; DROP TABLE a")),
                  MR_SQL_ERROR, "mr_streams_sql", 1, 18);
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT (v FROM a")), MR_SQL_ERROR,
                  "mr_streams_sql", 1, 11);
    check_mistake(noop(mr_streams_sql(st_session(s), " ; ")), MR_CONFIG, "there is no SQL text", 0,
                  0);
    check_mistake(noop(mr_streams_sql(st_session(s), "SELECT v FROM")), MR_SQL_ERROR,
                  "mr_streams_sql", 1, 14);
    st_free(s);
}

/* ---- triggers ---- */

TEST(once_takes_everything_in_one_batch)
{
    struct st *s = st_new(t);
    struct mr_stream_reader *reader = st_reader(s, "a", "v BIGINT");
    struct mr_streaming_query *query;
    struct mr_error err = {0};
    char *documents[4];

    mr_read_option(reader, "max_steps_per_trigger", "1");
    for (int i = 0; i < 3; i++)
        st_rows(s, "a", "(1), (2)");
    query = st_start(mr_write_trigger(noop(mr_read_load(reader, NULL)), "once"));
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, &err), &err);
    CHECK_EQ_INT(mr_streaming_query_recent_progress(query, documents, 4), 1);
    CHECK_CONTAINS(documents[0], "\"numInputRows\":6,");
    mr_text_free(documents[0]);
    mr_streaming_query_unref(query);
    st_free(s);
}

TEST(a_continuous_query_runs_until_it_is_stopped)
{
    struct st *s = st_new(t);
    struct mr_streaming_query *query;

    query = st_start(mr_write_trigger(
        memory(s, st_source(s, "a", "v BIGINT"), "continuously", "append"), "continuous"));
    for (int i = 0; i < 3; i++) {
        st_rows(s, "a", "(7)");
        st_drain(query);
    }
    CHECK_EQ_STR(st_select(s, "SELECT count(*) FROM continuously"), "3\n");
    st_stop(query);
    st_free(s);
}

/* ---- without memory ---- */

static void count_event(void *arg, const struct mr_streaming_event *event)
{
    (void)event;
    atomic_fetch_add((_Atomic int *)arg, 1);
}

/* Everything a program does, on a table that is there; its status. */
static enum mr_status whole_program(struct st *s, const char *key, struct mr_error *err)
{
    _Atomic int heard = 0;
    const struct mr_streaming_listener listener = {.struct_size = sizeof(listener),
                                                   .started = count_event,
                                                   .progress = count_event,
                                                   .terminated = count_event,
                                                   .arg = &heard};
    struct mr_streams *streams = mr_streams_new();
    struct mr_stream_reader *reader = mr_read_format(mr_read_stream(streams), "memory");
    struct mr_streaming_query *query = NULL;
    struct mr_stream_writer *writer;
    struct mr_frame *frame;
    enum mr_status status;

    (void)s;
    if (streams != NULL)
        mr_streams_add_listener(streams, &listener);
    mr_streams_set(streams, "workers", "1");
    mr_streams_set(streams, "retries", "0");
    mr_read_option(mr_read_schema(reader, "v BIGINT, ts TIMESTAMP"), "table", key);
    frame = mr_frame_with_watermark(mr_read_load(reader, NULL), "ts", "10 seconds");
    frame = mr_frame_create_view(mr_frame_where(frame, "v > 0"), "some_rows");
    frame = frame != NULL ? mr_streams_sql(streams, "SELECT v, count(*) AS n FROM some_rows "
                                                    "GROUP BY v")
                          : NULL;
    writer = mr_write_output_mode(mr_write_format(mr_write_stream(frame), "noop"), "update");
    mr_write_trigger(mr_write_query_name(writer, "poor"), "available now");
    status = mr_write_start(writer, NULL, &query, err);
    if (status == MR_OK)
        status = mr_streaming_query_await(query, -1, NULL, err);
    mr_streaming_query_unref(query);
    mr_streams_free(streams);
    return status;
}

TEST(a_program_without_memory_ends_and_gives_everything_back)
{
    struct st *s = st_new(t);
    struct mr_error err = {0};
    char key[300];
    uint64_t last = 0;

    st_source(s, "a", "v BIGINT, ts TIMESTAMP");
    st_rows(s, "a", "(1, TIMESTAMP '1970-01-01 00:00:01'), (2, '1970-01-01 00:00:02')");
    snprintf(key, sizeof(key), "%s.a", t->name);
    for (uint64_t nth = 1; nth < 3000; nth += nth < 20 ? 1 : nth / 4) {
        enum mr_status status;

        mr_error_clear(&err);
        mr_alloc_fail_at(nth, false);
        status = whole_program(s, key, &err);
        mr_alloc_fail_at(0, false);
        if (status != MR_OK && status != MR_NOMEM)
            FAIL("allocation %llu: %s", (unsigned long long)nth, err.text);
        if (status == MR_NOMEM)
            last = nth;
    }
    CHECK(last > 200); /* the failures reached into the run */
    CHECK_OK(whole_program(s, key, &err), &err);
    st_free(s);
}
