/*
 * Progress documents and status of the C API (structured.md 1.3, 22; vectors 16), by a clock that
 * only the query moves.
 */
#include "support/streams.h"

#include "base/json.h"

#include <stdlib.h>

/* The clock begins a microsecond after 0, which the kernel takes for "never". */
enum { MS = 1000, SEEN_MAX = 16, FIRST_US = 1 };

/*
 * An environment whose clock stands still unless somebody sleeps, and a source on it whose plans
 * and reads take time, have rows at given times, and note the status of the query they belong to.
 */
struct timeline {
    struct mr_env env;
    struct mr_env_ops ops;
    _Atomic int64_t clock_us;
    struct mr_streaming_query *query; /* set by the listener, before the first trigger */
    int64_t data_at_us[4];            /* rows are there from then on; one batch each */
    size_t batches;
    size_t planned;
    int64_t stop_at_us;
    bool fails; /* at stop_at_us */
    bool slept; /* this batch took its time */
    struct seen {
        int64_t at_us;
        char where; /* 'p': asked for its offset, 'r': read, 'w': waiting */
        struct mr_streaming_status status;
    } seen[SEEN_MAX];
    size_t seen_count;
};

static struct timeline *timeline; /* the connector has no other way to it from its env */

static void see(char where)
{
    struct seen *seen = &timeline->seen[timeline->seen_count];

    if (timeline->query == NULL || timeline->seen_count == SEEN_MAX)
        return;
    seen->at_us = timeline->clock_us;
    seen->where = where;
    mr_streaming_query_status(timeline->query, &seen->status);
    timeline->seen_count++;
}

static int64_t clock_wall_us(struct mr_env *env)
{
    return ((struct timeline *)env)->clock_us;
}

static int64_t clock_monotonic_ns(struct mr_env *env)
{
    return ((struct timeline *)env)->clock_us * 1000;
}

static void clock_sleep(struct mr_env *env, int64_t duration_ns)
{
    see('w');
    ((struct timeline *)env)->clock_us += duration_ns / 1000;
}

static void timeline_init(struct timeline *line)
{
    memset(line, 0, sizeof(*line));
    line->ops = *mr_env_posix()->ops;
    line->ops.wall_us = clock_wall_us;
    line->ops.monotonic_ns = clock_monotonic_ns;
    line->ops.sleep_ns = clock_sleep;
    line->ops.virtual_time = true;
    line->env.ops = &line->ops;
    line->clock_us = FIRST_US;
    timeline = line;
}

/* ---- the source: offset n means n + 1 batches ---- */

struct mr_source {
    struct mr_schema *schema;
};
struct mr_reader {
    struct mr_source *source;
    bool done;
};

static enum mr_status line_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                struct mr_error *err)
{
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));

    (void)err;
    source->schema = mr_schema_ref(args->schema);
    *ret_source = source;
    return MR_OK;
}

static enum mr_status line_plan(struct mr_source *source, const char *start,
                                const struct mr_plan_limits *limits, char **ret_end,
                                struct mr_error *err)
{
    size_t have = start != NULL ? (size_t)atoi(start) + 1 : 0;

    (void)source;
    (void)limits;
    see('p');
    if (timeline->stop_at_us > 0 && timeline->clock_us >= timeline->stop_at_us) {
        if (timeline->fails)
            return MR_FAIL(err, MR_BAD_DATA, "the source is broken");
        mr_streaming_query_stop(timeline->query, true);
    } else if (have < timeline->batches && timeline->clock_us >= timeline->data_at_us[have]) {
        timeline->slept = false;
        *ret_end = mr_asprintf("%zu", have);
        timeline->clock_us += 50 * MS;
    }
    return MR_OK;
}

static enum mr_status line_split(struct mr_source *source, const char *start, const char *end,
                                 uint32_t *ret_partitions, uint64_t *ret_bytes,
                                 struct mr_error *err)
{
    (void)source;
    (void)err;
    *ret_partitions = start == NULL || strcmp(start, end) != 0 ? 1 : 0;
    *ret_bytes = 16;
    return MR_OK;
}

static enum mr_status line_read(struct mr_source *source, const char *start, const char *end,
                                uint32_t partition, struct mr_reader **ret_reader,
                                struct mr_error *err)
{
    (void)start;
    (void)end;
    (void)partition;
    (void)err;
    *ret_reader = mr_alloc_zero(NULL, sizeof(**ret_reader));
    (*ret_reader)->source = source;
    return MR_OK;
}

static enum mr_status line_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                struct mr_error *err)
{
    struct mr_batch_builder *builder = NULL;

    *ret_batch = NULL;
    if (reader->done)
        return MR_OK;
    reader->done = true;
    see('r');
    if (!timeline->slept)
        timeline->clock_us += 450 * MS;
    timeline->slept = true;
    MR_TRY(mr_batch_builder_new(reader->source->schema, &builder, err));
    for (int64_t i = 1; i <= 2; i++) {
        mr_batch_builder_int(builder, 0, i);
        mr_batch_builder_end_row(builder);
    }
    enum mr_status status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

static void line_close(struct mr_reader *reader)
{
    mr_free(reader);
}

static void line_stop(struct mr_source *source)
{
    if (source != NULL)
        mr_schema_unref(source->schema);
    mr_free(source);
}

static const struct mr_source_ops line_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = line_plan,
    .split = line_split,
    .read = line_read,
    .next = line_next,
    .close = line_close,
    .stop = line_stop,
};

static const struct mr_source_connector line_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "timeline",
    .summary = "Rows at given times.",
    .guarantee = "replayable",
    .open = line_open,
    .ops = &line_ops,
};

static void on_started(void *arg, const struct mr_streaming_event *event)
{
    struct mr_streams *streams = arg;

    timeline->query = mr_streams_get(streams, event->id);
}

/* Runs a count over the timeline with a trigger of 1 s to its end. */
static struct mr_streaming_query *run(struct st *s, struct timeline *line)
{
    const struct mr_streaming_listener listener = {
        .struct_size = sizeof(listener), .started = on_started, .arg = st_session(s)};
    struct mr_stream_reader *reader = mr_read_stream(st_session(s));
    struct mr_streaming_query *query = NULL;
    struct mr_stream_writer *writer;
    struct mr_frame *frame;
    struct mr_error err = {0};

    mr__streams_use(st_session(s), &line->env);
    mr_streams_add_listener(st_session(s), &listener);
    mr_read_schema(mr_read_format(reader, "memory"), "value BIGINT");
    frame = mr_read_load(reader, NULL);
    mr__frame_bind(frame, &line_connector, NULL);
    mr_frame_create_view(frame, "line");
    writer = mr_write_stream(mr_streams_sql(st_session(s), "SELECT count(*) AS n FROM line"));
    mr_write_output_mode(mr_write_format(writer, "noop"), "complete");
    mr_write_trigger(writer, "1 second");
    CHECK_OK(mr_write_start(writer, NULL, &query, &err), &err);
    mr_streaming_query_await(query, -1, NULL, &err);
    mr_streaming_query_unref(line->query);
    line->query = NULL;
    return query;
}

static void check_seen(const struct timeline *line, size_t index, int64_t at_us, char where,
                       const char *message, bool active, bool data)
{
    const struct seen *seen = &line->seen[index];

    CHECK(index < line->seen_count);
    CHECK_EQ_INT(seen->at_us, at_us);
    CHECK_EQ_INT(seen->where, where);
    CHECK_EQ_STR(seen->status.message, message);
    CHECK_EQ_INT(seen->status.is_trigger_active, active);
    CHECK_EQ_INT(seen->status.is_data_available, data);
}

static const struct mr_json *parse(struct mr_arena *arena, const char *text)
{
    struct mr_json *json = NULL;
    struct mr_error err = {0};

    CHECK_NOT_NULL(text);
    CHECK_OK(mr_json_parse(text, strlen(text), arena, &json, &err), &err);
    return json;
}

/* Value at "a.b.0.c" as text. */
static const char *value(const struct mr_json *json, const char *path)
{
    static char text[400];
    struct mr_buf out = MR_BUF_INIT;
    char part[100];

    while (*path != '\0' && json != NULL) {
        size_t size = strcspn(path, ".");

        snprintf(part, sizeof(part), "%.*s", (int)size, path);
        json = json->kind == MR_JSON_ARRAY ? mr_json_at(json, (size_t)atoi(part))
                                           : mr_json_get(json, part);
        path += size + (path[size] == '.');
    }
    if (json == NULL)
        return "(none)";
    mr_json_write(&out, json);
    snprintf(text, sizeof(text), "%s", out.data);
    mr_buf_release(&out);
    return text;
}

static const char *keys(const struct mr_json *json)
{
    static char text[600];
    size_t used = 0;

    text[0] = '\0';
    for (const struct mr_json *one = json->first; one != NULL; one = one->next)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s", used > 0 ? " " : "",
                                 one->key);
    return text;
}

TEST(PR_01_status_and_progress_along_a_timeline)
{
    struct st *s = st_new(t);
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_streaming_query *query;
    struct mr_streaming_status status;
    struct timeline line;
    char *documents[8];
    const struct mr_json *json;

    timeline_init(&line);
    line.batches = 2;
    line.data_at_us[0] = 1000 * MS;
    line.data_at_us[1] = 2000 * MS;
    line.stop_at_us = 4000 * MS;
    query = run(s, &line);
    check_seen(&line, 0, FIRST_US, 'p', "Getting offsets from line", true, false);
    check_seen(&line, 1, FIRST_US, 'w', "Waiting for next trigger", false, false);
    check_seen(&line, 2, 1000 * MS, 'p', "Getting offsets from line", true, false);
    check_seen(&line, 3, 1050 * MS, 'r', "Processing new data", true, true);
    check_seen(&line, 4, 1500 * MS, 'w', "Waiting for next trigger", false, true);
    check_seen(&line, 5, 2000 * MS, 'p', "Getting offsets from line", true, false);
    check_seen(&line, 8, 3000 * MS, 'p', "Getting offsets from line", true, false);
    check_seen(&line, 9, 3000 * MS, 'w', "Waiting for next trigger", false, false);
    mr_streaming_query_status(query, &status);
    CHECK_EQ_STR(status.message, "Stopped");
    CHECK(!status.is_trigger_active && !mr_streaming_query_is_active(query));

    CHECK_EQ_INT(mr_streaming_query_recent_progress(query, documents, 8), 2);
    json = parse(&arena, documents[0]);
    CHECK_EQ_STR(value(json, "timestamp"), "\"1970-01-01T00:00:01.000Z\"");
    CHECK_EQ_STR(value(json, "batchId"), "0");
    CHECK_EQ_STR(value(json, "numInputRows"), "2");
    CHECK_EQ_STR(value(json, "processedRowsPerSecond"), "4.0");
    CHECK_EQ_STR(value(json, "durationMs.latestOffset"), "50");
    CHECK_EQ_STR(value(json, "durationMs.queryPlanning"), "0");
    CHECK_EQ_STR(value(json, "durationMs.walCommit"), "0");
    CHECK_EQ_STR(value(json, "durationMs.addBatch"), "450");
    CHECK_EQ_STR(value(json, "durationMs.commitOffsets"), "0");
    CHECK_EQ_STR(value(json, "durationMs.triggerExecution"), "500");
    CHECK_EQ_STR(value(json, "sources.0.startOffset"), "null");
    CHECK_EQ_STR(value(json, "sources.0.endOffset"), "0");
    CHECK_EQ_STR(value(json, "sources.0.processedRowsPerSecond"), "4.0");
    CHECK_EQ_STR(value(json, "stateOperators.0.numRowsUpdated"), "1");
    CHECK_EQ_STR(value(json, "stateOperators.0.numRowsTotal"), "1");
    CHECK_EQ_STR(value(json, "stateOperators.1"), "(none)");
    json = parse(&arena, documents[1]);
    CHECK_EQ_STR(value(json, "inputRowsPerSecond"), "2.0");
    CHECK_EQ_STR(value(json, "sources.0.startOffset"), "0");
    CHECK_EQ_STR(value(json, "sources.0.endOffset"), "1");
    for (int i = 0; i < 2; i++)
        mr_text_free(documents[i]);
    mr_arena_release(&arena);
    mr_streaming_query_unref(query);
    st_free(s);
}

TEST(PR_01_a_failure_is_the_last_message)
{
    struct st *s = st_new(t);
    struct mr_streaming_exception exception;
    struct mr_streaming_query *query;
    struct mr_streaming_status status;
    struct timeline line;

    timeline_init(&line);
    line.stop_at_us = 2000 * MS;
    line.fails = true;
    query = run(s, &line);
    mr_streaming_query_status(query, &status);
    CHECK_CONTAINS(status.message, "Terminated with exception: ");
    CHECK_CONTAINS(status.message, "the source is broken");
    CHECK(mr_streaming_query_exception(query, &exception));
    CHECK_EQ_STR(exception.error_class, "STREAM_FAILED");
    CHECK_EQ_STR(exception.start_offset, "{\"line\":null}");
    mr_streaming_query_unref(query);
    st_free(s);
}

TEST(an_idle_query_reports_every_ten_seconds_and_keeps_its_state_numbers)
{
    struct st *s = st_new(t);
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_streaming_query *query;
    struct timeline line;
    char *documents[8];
    const struct mr_json *json;

    timeline_init(&line);
    line.batches = 1;
    line.data_at_us[0] = 1000 * MS;
    line.stop_at_us = 25000 * MS;
    query = run(s, &line);
    CHECK_EQ_INT(mr_streaming_query_recent_progress(query, documents, 8), 3);
    json = parse(&arena, documents[1]);
    CHECK_EQ_STR(value(json, "timestamp"), "\"1970-01-01T00:00:12.000Z\"");
    CHECK_EQ_STR(value(json, "batchId"), "1"); /* the next one's */
    CHECK_EQ_STR(value(json, "numInputRows"), "0");
    CHECK_EQ_STR(value(json, "inputRowsPerSecond"), "0.0");
    CHECK_EQ_STR(value(json, "stateOperators.0.numRowsTotal"), "1");
    CHECK_EQ_STR(value(json, "stateOperators.0.numRowsUpdated"), "0");
    for (int i = 0; i < 3; i++)
        mr_text_free(documents[i]);
    mr_arena_release(&arena);
    mr_streaming_query_unref(query);
    st_free(s);
}

/* ---- the document ---- */

TEST(PR_02_the_document_has_its_keys_in_their_order)
{
    struct st *s = st_new(t);
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_stream_writer *writer;
    struct mr_streaming_query *query;
    const struct mr_json *json;
    struct mr_frame *events;
    char *document;

    events = st_source(s, "events", "v BIGINT, ts TIMESTAMP");
    events = mr_frame_create_view(mr_frame_with_watermark(events, "ts", "10 seconds"), "timed");
    writer = mr_write_stream(mr_streams_sql(
        st_session(s), "SELECT window_start, count(*) AS n FROM timed GROUP BY window(ts, '5 s')"));
    mr_write_output_mode(mr_write_format(writer, "noop"), "update");
    st_rows(s, "events", "(1, TIMESTAMP '1970-01-01 00:01:00'), (2, '1970-01-01 00:01:20')");
    query = st_start(writer);
    st_drain(query);
    document = mr_streaming_query_last_progress(query);
    st_stop(query);
    json = parse(&arena, document);
    CHECK_EQ_STR(keys(json),
                 "id runId name timestamp batchId batchDuration numInputRows inputRowsPerSecond "
                 "processedRowsPerSecond durationMs eventTime stateOperators sources sink sinks "
                 "watermarks droppedRows metrics");
    CHECK_EQ_STR(value(json, "name"), "null");
    CHECK_EQ_STR(keys(mr_json_get(json, "durationMs")),
                 "addBatch commitOffsets getBatch latestOffset queryPlanning triggerExecution "
                 "walCommit");
    CHECK_EQ_STR(keys(mr_json_at(mr_json_get(json, "stateOperators"), 0)),
                 "operatorName numRowsTotal numRowsUpdated allUpdatesTimeMs numRowsRemoved "
                 "allRemovalsTimeMs commitTimeMs memoryUsedBytes numRowsDroppedByWatermark "
                 "numShufflePartitions numStateStoreInstances kind");
    CHECK_EQ_STR(keys(mr_json_at(mr_json_get(json, "sources"), 0)),
                 "description startOffset endOffset latestOffset numInputRows inputRowsPerSecond "
                 "processedRowsPerSecond metrics");
    CHECK_EQ_STR(value(json, "sources.0.description"), "\"events\"");
    CHECK_EQ_STR(value(json, "sources.0.endOffset"), "1");
    CHECK_EQ_STR(value(json, "sink.description"), "\"output\"");
    CHECK_EQ_STR(value(json, "watermarks.heldBackBy"), "\"events\"");
    CHECK_EQ_STR(value(json, "watermarks.operators.0.watermark"), "\"1970-01-01T00:01:10.000Z\"");
    CHECK_EQ_STR(value(json, "watermarks.operators.0.delaySeconds"), "10.0");
    CHECK(atof(value(json, "sources.0.metrics.lagSeconds")) > 1e9); /* since 1970 */
    mr_text_free(document);
    mr_arena_release(&arena);
    st_free(s);
}

TEST(PR_02_without_a_watermark_there_is_no_event_time)
{
    struct st *s = st_new(t);
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_stream_writer *writer = mr_write_stream(st_source(s, "a", "v BIGINT"));
    struct mr_streaming_query *query;
    char *document;

    mr_write_query_name(mr_write_format(writer, "noop"), "plain");
    st_rows(s, "a", "(1)");
    query = st_start(writer);
    st_drain(query);
    document = mr_streaming_query_last_progress(query);
    st_stop(query);
    CHECK_EQ_STR(value(parse(&arena, document), "eventTime"), "(none)");
    CHECK_EQ_STR(value(parse(&arena, document), "watermarks"), "(none)");
    CHECK_EQ_STR(value(parse(&arena, document), "stateOperators"), "[]");
    CHECK_EQ_STR(value(parse(&arena, document), "name"), "\"plain\"");
    CHECK_EQ_STR(value(parse(&arena, document), "sink.numOutputRows"), "1");
    mr_text_free(document);
    mr_arena_release(&arena);
    st_free(s);
}

TEST(the_document_says_who_holds_the_watermark_back_and_what_was_dropped)
{
    struct st *s = st_new(t);
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_frame *fast = st_source(s, "fast", "v BIGINT, ts TIMESTAMP");
    struct mr_frame *slow = st_source(s, "slow", "v BIGINT, ts TIMESTAMP");
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    const struct mr_json *json;
    struct mr_frame *both;
    char *document;

    both = mr_frame_union(mr_frame_with_watermark(fast, "ts", "0 seconds"),
                          mr_frame_with_watermark(slow, "ts", "5 seconds"));
    mr_frame_create_view(both, "both_of_them");
    writer = mr_write_stream(mr_streams_sql(
        st_session(s),
        "SELECT window_start, count(*) AS n FROM both_of_them GROUP BY window(ts, '5 s')"));
    mr_write_output_mode(mr_write_format(writer, "noop"), "update");
    st_rows(s, "fast", "(1, TIMESTAMP '1970-01-01 00:10:00')");
    st_rows(s, "slow", "(1, TIMESTAMP '1970-01-01 00:01:05')");
    query = st_start(writer);
    st_drain(query);
    document = mr_streaming_query_last_progress(query);
    json = parse(&arena, document);
    CHECK_EQ_STR(value(json, "watermarks.heldBackBy"), "\"slow\"");
    CHECK_EQ_STR(value(json, "watermarks.operators.0.source"), "\"fast\"");
    CHECK_EQ_STR(value(json, "watermarks.operators.0.watermark"), "\"1970-01-01T00:10:00.000Z\"");
    CHECK_EQ_STR(value(json, "watermarks.operators.1.watermark"), "\"1970-01-01T00:01:00.000Z\"");
    CHECK_EQ_STR(value(json, "droppedRows"), "[]");
    mr_text_free(document);
    st_rows(s, "slow", "(1, TIMESTAMP '1970-01-01 00:00:01'), (2, '1970-01-01 00:00:02')");
    st_drain(query);
    document = mr_streaming_query_last_progress(query);
    CHECK_EQ_STR(value(parse(&arena, document), "droppedRows.0.reason"), "\"late\"");
    CHECK_EQ_STR(value(parse(&arena, document), "droppedRows.0.operator"), "\"output.agg\"");
    mr_text_free(document);
    st_stop(query);
    mr_arena_release(&arena);
    st_free(s);
}

TEST(a_source_that_knows_the_time_of_its_rows_has_a_lag_in_seconds)
{
    struct st *s = st_new(t);
    struct mr_stream_reader *reader = mr_read_format(mr_read_stream(st_session(s)), "rate");
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_streaming_query *query;
    char *document = NULL;
    struct mr_frame *rate;
    double lag_s;

    mr_streams_set(st_session(s), "max_batches", "1");
    mr_read_option(reader, "rowsPerSecond", "10");
    rate = mr_read_load(reader, NULL);
    query = st_start(mr_write_format(mr_write_stream(rate), "noop"));
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, NULL), NULL);
    document = mr_streaming_query_last_progress(query);
    lag_s = atof(value(parse(&arena, document), "sources.0.metrics.lagSeconds"));
    CHECK(lag_s >= 0 && lag_s < 60);
    CHECK_CONTAINS(document, "\"lagSeconds\":");
    mr_text_free(document);
    mr_streaming_query_unref(query);
    mr_arena_release(&arena);
    st_free(s);
}

TEST(recent_progress_keeps_one_less_than_it_says)
{
    struct st *s = st_new(t);
    struct mr_stream_reader *reader = st_reader(s, "a", "v BIGINT");
    struct mr_streaming_query *query;
    struct mr_stream_writer *writer;
    char *documents[20];
    size_t count;

    mr_streams_set(st_session(s), "numRecentProgressUpdates", "5");
    for (int i = 0; i < 10; i++) {
        char row[20];

        snprintf(row, sizeof(row), "(%d)", i);
        st_rows(s, "a", row);
    }
    mr_read_option(reader, "max_steps_per_trigger", "1");
    writer = mr_write_stream(mr_read_load(reader, NULL));
    mr_write_trigger(mr_write_format(writer, "noop"), "available now");
    query = st_start(writer);
    CHECK_OK(mr_streaming_query_await(query, -1, NULL, NULL), NULL);
    count = mr_streaming_query_recent_progress(query, documents, 20);
    CHECK_EQ_INT(count, 4);
    CHECK_CONTAINS(documents[0], "\"batchId\":6,");
    CHECK_CONTAINS(documents[3], "\"batchId\":9,");
    for (size_t i = 0; i < count; i++)
        mr_text_free(documents[i]);
    mr_streaming_query_unref(query);
    st_free(s);
}
