/* See script.h. */
#include "support/script.h"

#include "base/alloc.h"
#include "base/check.h"
#include "plugins/plugins.h"
#include "support/flow.h"

#include <stdlib.h>

/* ---- The source: its offset is the number of batches planned so far. ---- */

int64_t script_plan_rate;

struct mr_source {
    const char *script;
};

struct mr_reader {
    const char *at; /* of the partition; NULL = read */
};

static uint64_t number_of(const char *offset)
{
    return offset != NULL ? strtoull(offset, NULL, 10) : 0;
}

/* The text of a batch: from it to its bar or the end; NULL past the script. */
static const char *batch_text(const struct mr_source *source, const char *start)
{
    const char *at = source->script;

    for (uint64_t i = number_of(start); i > 0 && at != NULL; i--) {
        at = strchr(at, '|');
        at = at != NULL ? at + 1 : NULL;
    }
    return at;
}

static enum mr_status script_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                  struct mr_error *err)
{
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));

    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    source->script = args->user;
    *ret_source = source;
    return MR_OK;
}

static enum mr_status script_plan(struct mr_source *source, const char *start,
                                  const struct mr_plan_limits *limits, char **ret_end,
                                  struct mr_error *err)
{
    script_plan_rate = limits->records_max_rate;
    if (batch_text(source, start) == NULL)
        return MR_OK;
    *ret_end = mr_asprintf("%llu", (unsigned long long)number_of(start) + 1);
    return *ret_end != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

static enum mr_status script_split(struct mr_source *source, const char *start, const char *end,
                                   uint32_t *ret_partitions, uint64_t *ret_bytes,
                                   struct mr_error *err)
{
    const char *text = batch_text(source, start);

    (void)end, (void)err;
    *ret_partitions = 1;
    for (size_t i = 0; i < strcspn(text, "|"); i++)
        *ret_partitions += text[i] == '/';
    *ret_bytes = 1;
    return MR_OK;
}

static enum mr_status script_read(struct mr_source *source, const char *start, const char *end,
                                  uint32_t partition, struct mr_reader **ret_reader,
                                  struct mr_error *err)
{
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));

    (void)end;
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    reader->at = batch_text(source, start);
    for (; partition > 0; partition--)
        reader->at = strchr(reader->at, '/') + 1;
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status script_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    struct mr_schema *schema;
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    *ret_batch = NULL;
    if (reader->at == NULL)
        return MR_OK;
    schema = flow_pair_schema();
    status = mr_batch_builder_new(schema, &builder, err);
    mr_schema_unref(schema);
    MR_TRY(status);
    while (strcspn(reader->at, "/|") > 0) {
        char *end;

        mr_batch_builder_int(builder, 0, strtoll(reader->at, &end, 10));
        mr_batch_builder_int(builder, 1, 1);
        mr_batch_builder_end_row(builder);
        reader->at = end;
    }
    reader->at = NULL;
    status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

static void script_close(struct mr_reader *reader)
{
    mr_free(reader);
}

static bool script_exhausted(struct mr_source *source, const char *end)
{
    return batch_text(source, end) == NULL;
}

static bool script_absent(struct mr_source *source, const char *start, const char *end)
{
    const char *text = batch_text(source, start);

    (void)end;
    return text != NULL && text[0] == '-' && strcspn(text, "|") == 1;
}

static void script_stop(struct mr_source *source)
{
    mr_free(source);
}

static const struct mr_source_ops script_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = script_plan,
    .split = script_split,
    .read = script_read,
    .next = script_next,
    .close = script_close,
    .exhausted = script_exhausted,
    .stop = script_stop,
    .absent = script_absent,
};

static const struct mr_source_connector script_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "script",
    .open = script_open,
    .ops = &script_ops,
};

struct mr_node *script_source(struct mr_graph *graph, const char *name, const char *script)
{
    struct mr_schema *schema = flow_pair_schema();
    struct mr_source_spec spec = {.name = name,
                                  .connector = &script_connector,
                                  .schema = schema,
                                  .user = (void *)(uintptr_t)script};
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_graph_source(graph, &spec, &node, &err), &err);
    mr_schema_unref(schema);
    return node;
}

/* ---- The sink. ---- */

struct mr_sink {
    struct script_notes *notes;
    uint32_t partition_count;
    char parts[SCRIPT_PARTS_MAX][512];
};

static enum mr_status notes_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                 struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    sink->notes = args->user;
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status notes_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                  struct mr_error *err)
{
    (void)err;
    MR_ASSERT(info->partition_count <= SCRIPT_PARTS_MAX);
    sink->partition_count = info->partition_count;
    memset(sink->parts, 0, sizeof(sink->parts));
    return MR_OK;
}

static enum mr_status notes_write(struct mr_sink *sink, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    char *part = sink->parts[partition];
    size_t at = strlen(part);

    (void)err;
    MR_ASSERT(partition < sink->partition_count);
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++)
        at += (size_t)snprintf(part + at, sizeof(sink->parts[0]) - at, "%s%lld", at > 0 ? " " : "",
                               (long long)mr_column_int(mr_batch_column(batch, 0), row));
    return MR_OK;
}

static enum mr_status notes_stage(struct mr_sink *sink, struct mr_error *err)
{
    (void)sink, (void)err;
    return MR_OK;
}

static enum mr_status notes_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                    struct mr_error *err)
{
    struct script_notes *notes = sink->notes;
    size_t at;

    (void)ret_receipt;
    if (notes->on_publish != NULL)
        MR_TRY(notes->on_publish(notes->arg, batch_id, err));
    if (notes->fail != MR_OK) {
        enum mr_status status = notes->fail;

        notes->fail = MR_OK;
        return MR_FAIL(err, status, "the test says so");
    }
    mr_mutex_lock(&notes->lock);
    at = strlen(notes->text);
    if (at > sizeof(notes->text) / 2) { /* enough: the tests look at the first batches */
        mr_mutex_unlock(&notes->lock);
        return MR_OK;
    }
    at += (size_t)snprintf(notes->text + at, sizeof(notes->text) - at,
                           "%llu:", (unsigned long long)batch_id);
    for (uint32_t p = 0; p < sink->partition_count; p++)
        at += (size_t)snprintf(notes->text + at, sizeof(notes->text) - at, "%s%s", p > 0 ? "/" : "",
                               sink->parts[p]);
    snprintf(notes->text + at, sizeof(notes->text) - at, "|");
    mr_mutex_unlock(&notes->lock);
    return MR_OK;
}

static void notes_abort(struct mr_sink *sink)
{
    (void)sink;
}

static void notes_close(struct mr_sink *sink)
{
    mr_free(sink);
}

#define NOTES_OPS(at_once)                                                                         \
    {                                                                                              \
        .struct_size = sizeof(struct mr_sink_ops), .begin = notes_begin, .write = notes_write,     \
        .stage = notes_stage, .publish = notes_publish, .abort = notes_abort,                      \
        .close = notes_close, .concurrent = (at_once)                                              \
    }

static const struct mr_sink_ops ops_alone = NOTES_OPS(false);
static const struct mr_sink_ops ops_at_once = NOTES_OPS(true);

static const struct mr_sink_connector notes_alone = {.struct_size =
                                                         sizeof(struct mr_sink_connector),
                                                     .name = "notes",
                                                     .guarantee = MR_AT_LEAST_ONCE,
                                                     .modes = 1u << MR_MODE_APPEND,
                                                     .open = notes_open,
                                                     .ops = &ops_alone};
static const struct mr_sink_connector notes_at_once = {.struct_size =
                                                           sizeof(struct mr_sink_connector),
                                                       .name = "notes",
                                                       .guarantee = MR_AT_LEAST_ONCE,
                                                       .modes = 1u << MR_MODE_APPEND,
                                                       .open = notes_open,
                                                       .ops = &ops_at_once};

void script_notes_init(struct script_notes *notes, bool is_concurrent)
{
    *notes = (struct script_notes){.is_concurrent = is_concurrent};
    mr_mutex_init(&notes->lock);
}

void script_sink(struct mr_graph *graph, const char *name, struct script_notes *notes,
                 struct mr_node *const *inputs, size_t input_count)
{
    struct mr_sink_spec spec = {.name = name,
                                .connector = notes->is_concurrent ? &notes_at_once : &notes_alone,
                                .mode = MR_MODE_APPEND,
                                .user = notes};
    struct mr_error err = {0};

    CHECK_OK(mr_graph_sink(graph, &spec, inputs, input_count, &err), &err);
}

/* ---- The receiver. ---- */

struct mr_receiver {
    struct script_feed *feed;
};

static enum mr_status feed_open(const struct mr_receiver_args *args,
                                struct mr_receiver **ret_receiver, struct mr_error *err)
{
    struct mr_receiver *receiver = mr_alloc_zero(NULL, sizeof(*receiver));

    if (receiver == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    receiver->feed = args->user;
    *ret_receiver = receiver;
    return MR_OK;
}

/* Under the feed's lock, which is given up while the records are stored. */
static enum mr_status take_pending(struct script_feed *feed, struct mr_receiver_host *host,
                                   struct mr_error *err)
{
    char text[1024];
    size_t at = 0;
    enum mr_status status;

    for (const char *value = feed->pending; *value != '\0'; value += strspn(value, " ")) {
        size_t size = strcspn(value, " ");

        at += (size_t)snprintf(text + at, sizeof(text) - at, "{\"k\":%.*s,\"v\":1}\n", (int)size,
                               value);
        value += size;
    }
    mr_mutex_unlock(&feed->lock);
    status = mr_receiver_store(host, text, at, err);
    mr_mutex_lock(&feed->lock);
    return status;
}

static enum mr_status feed_run(struct mr_receiver *receiver, struct mr_receiver_host *host,
                               struct mr_error *err)
{
    struct script_feed *feed = receiver->feed;
    enum mr_status status = MR_OK;

    mr_mutex_lock(&feed->lock);
    feed->is_running = true;
    feed->runs++;
    while (status == MR_OK && !feed->is_interrupted) {
        if (feed->pending == NULL) {
            mr_cond_wait(&feed->changed, &feed->lock);
            continue;
        }
        if (feed->fail != MR_OK)
            status = MR_FAIL(err, feed->fail, "the test breaks it");
        else
            status = take_pending(feed, host, err);
        feed->fail = MR_OK;
        feed->pending = NULL;
        mr_cond_broadcast(&feed->changed);
    }
    feed->is_running = false;
    mr_mutex_unlock(&feed->lock);
    return status;
}

static void feed_interrupt(struct mr_receiver *receiver)
{
    mr_mutex_lock(&receiver->feed->lock);
    receiver->feed->is_interrupted = true;
    mr_cond_broadcast(&receiver->feed->changed);
    mr_mutex_unlock(&receiver->feed->lock);
}

static void feed_free(struct mr_receiver *receiver)
{
    mr_free(receiver);
}

static const struct mr_receiver_ops feed_ops = {.struct_size = sizeof(struct mr_receiver_ops),
                                                .run = feed_run,
                                                .interrupt = feed_interrupt,
                                                .free = feed_free};

static const struct mr_source_connector feed_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "feed",
    .takes_format = true,
    .receiver_open = feed_open,
    .receiver_ops = &feed_ops,
};

void script_feed_init(struct script_feed *feed)
{
    *feed = (struct script_feed){0};
    mr_mutex_init(&feed->lock);
    mr_cond_init(&feed->changed);
}

struct mr_node *script_feed_source(struct mr_graph *graph, const char *name,
                                   struct script_feed *feed)
{
    struct mr_schema *schema = flow_pair_schema();
    struct mr_source_spec spec = {.name = name,
                                  .connector = &feed_connector,
                                  .declared = schema,
                                  .schema = schema,
                                  .user = feed};
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    mr_plugins_register();
    spec.format = mr_format_find("json");
    spec.options = flow_options("feed", NULL, 0, spec.format, "");
    CHECK_OK(mr_graph_source(graph, &spec, &node, &err), &err);
    mr_schema_unref(schema);
    return node;
}

static void hand_over(struct script_feed *feed, const char *values, enum mr_status fail)
{
    mr_mutex_lock(&feed->lock);
    feed->pending = values;
    feed->fail = fail;
    mr_cond_broadcast(&feed->changed);
    while (feed->pending != NULL)
        mr_cond_wait(&feed->changed, &feed->lock);
    mr_mutex_unlock(&feed->lock);
}

void script_feed_store(struct script_feed *feed, const char *values)
{
    hand_over(feed, values, MR_OK);
}

void script_feed_break(struct script_feed *feed)
{
    hand_over(feed, "", MR_UNAVAILABLE);
}

/* ---- The clock. ---- */

static int64_t clock_wall_us(struct mr_env *env)
{
    struct script_clock *clock = (struct script_clock *)env;

    return mr_env_wall_us(clock->inner) + clock->wall_offset_us;
}

static int64_t clock_monotonic_ns(struct mr_env *env)
{
    return mr_env_monotonic_ns(((struct script_clock *)env)->inner);
}

static void clock_sleep_ns(struct mr_env *env, int64_t duration_ns)
{
    mr_env_sleep_ns(((struct script_clock *)env)->inner, duration_ns);
}

static void clock_random(struct mr_env *env, void *data, size_t size)
{
    mr_env_random(((struct script_clock *)env)->inner, data, size);
}

static void clock_close(struct mr_env *env, struct mr_file *file)
{
    (void)env;
    MR_ASSERT(file == NULL); /* there are no files */
}

static const struct mr_env_ops clock_ops = {
    .struct_size = sizeof(struct mr_env_ops),
    .close = clock_close,
    .wall_us = clock_wall_us,
    .monotonic_ns = clock_monotonic_ns,
    .sleep_ns = clock_sleep_ns,
    .random = clock_random,
    .virtual_time = true,
};

void script_clock_init(struct script_clock *clock, struct mr_env *inner)
{
    *clock = (struct script_clock){.env = {&clock_ops}, .inner = inner};
}
