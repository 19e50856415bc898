/*
 * Direct Kafka streams (<millrace/kafka.h>): the source `kafka` of the kernel with the columns and
 * the beginnings of Spark's direct stream, the offset ranges of a batch, and commits to the
 * consumer group.
 *
 *     spec -> options of the source        offset texts of the running batch -> ranges
 *     mr_kafka_commit_async -> pending -> (the source's next plan) -> brokers -> callback
 *
 * Offsets of the source are {"topic":{"0":23}}, with "@from" for partitions that begin in the batch
 * (sources/kafka/offsets.c).
 *
 * Thread: building in the program's; ranges, take and done on the driver; commits any, the lock
 * guards what is pending.
 */
#include "dstream/input.h"

#include "base/json.h"
#include "base/number_text.h"

#include <millrace/ext/kafka_link.h>
#include <millrace/kafka.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { OPTIONS_MAX = 128, OWN_OPTIONS = 24 };

#define COLUMNS                                                                                    \
    "topic VARCHAR, partition INTEGER, \"offset\" BIGINT, timestamp TIMESTAMP, key %s, value %s, " \
    "headers STRUCT(key VARCHAR, value BLOB)[]"

struct direct {
    struct mr_kafka_link link;
    bool has_group;
    struct mr_mutex lock; /* guards: */
    struct mr_arena arena;
    struct mr_json *pending; /* {"topic":{"0":23}} in arena, NULL = nothing */
    mr_kafka_commit_fn callback;
    void *callback_arg;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* ---- ranges ---- */

void mr_kafka_ranges_free(struct mr_kafka_range *ranges)
{
    mr_free(ranges);
}

size_t mr_kafka_range_print(const struct mr_kafka_range *range, char *text, size_t size)
{
    int need = snprintf(text, size,
                        "OffsetRange(topic: '%s', partition: %" PRId32 ", range: [%" PRId64
                        " -> %" PRId64 "])",
                        range->topic, range->partition, range->from, range->until);

    return need > 0 ? (size_t)need : 0;
}

static int64_t offset_in(const struct mr_json *offsets, const char *topic, const char *partition,
                         int64_t missing)
{
    const struct mr_json *table = offsets != NULL ? mr_json_get(offsets, topic) : NULL;
    int64_t value = missing;

    if (table != NULL && mr_json_get(table, partition) != NULL)
        (void)mr_json_int(mr_json_get(table, partition), &value);
    return value;
}

/* Counts the ranges of an offset, and the bytes of their topics. */
static size_t count_ranges(const struct mr_json *end, size_t *ret_bytes)
{
    size_t count = 0;

    *ret_bytes = 0;
    for (const struct mr_json *topic = end->first; topic != NULL; topic = topic->next) {
        if (topic->key[0] == '@')
            continue;
        count += topic->count;
        *ret_bytes += strlen(topic->key) + 1;
    }
    return count;
}

/* One allocation: the ranges, then the names of the topics. start NULL = none. */
static enum mr_status ranges_of(const struct mr_json *start, const struct mr_json *end,
                                struct mr_kafka_range **ret_ranges, size_t *ret_count,
                                struct mr_error *err)
{
    const struct mr_json *begun = mr_json_get(end, "@from");
    size_t bytes = 0;
    size_t count = count_ranges(end, &bytes);
    struct mr_kafka_range *ranges = mr_alloc_zero(NULL, (count + 1) * sizeof(*ranges) + bytes);
    char *names;
    size_t at = 0;

    if (ranges == NULL)
        return no_memory(err);
    names = (char *)(ranges + count + 1);
    for (const struct mr_json *topic = end->first; topic != NULL; topic = topic->next) {
        const char *name = names;

        if (topic->key[0] == '@')
            continue;
        memcpy(names, topic->key, strlen(topic->key) + 1);
        names += strlen(topic->key) + 1;
        for (const struct mr_json *item = topic->first; item != NULL; item = item->next, at++) {
            int64_t partition = 0, until = 0;

            if (!mr_int_parse(item->key, strlen(item->key), &partition) ||
                !mr_json_int(item, &until)) {
                mr_free(ranges);
                return MR_FAIL(err, MR_CORRUPT, "cannot read the offsets of a Kafka source");
            }
            ranges[at] =
                (struct mr_kafka_range){name, (int32_t)partition,
                                        offset_in(start, topic->key, item->key,
                                                  offset_in(begun, topic->key, item->key, until)),
                                        until};
        }
    }
    *ret_ranges = ranges;
    *ret_count = count;
    return MR_OK;
}

static enum mr_status parse_ranges(const char *start, const char *end,
                                   struct mr_kafka_range **ret_ranges, size_t *ret_count,
                                   struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *from = NULL, *to = NULL;
    enum mr_status status = MR_OK;

    if (start != NULL)
        MR_TRY_GOTO(mr_json_parse(start, strlen(start), &arena, &from, err));
    MR_TRY_GOTO(mr_json_parse(end, strlen(end), &arena, &to, err));
    status = ranges_of(from, to, ret_ranges, ret_count, err);
done:
    mr_arena_release(&arena);
    return status;
}

static void direct_free(void *own)
{
    struct direct *direct = own;

    mr_arena_release(&direct->arena);
    mr_mutex_release(&direct->lock);
    mr_free(direct);
}

static enum mr_status check_stream(const struct mr_dstream *stream, struct mr_error *err)
{
    if (stream != NULL && stream->own_free == direct_free)
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG,
                   "this is no direct Kafka stream; give what "
                   "mr_kafka_direct_stream returned");
}

enum mr_status mr_kafka_offset_ranges(struct mr_dstream *stream, struct mr_kafka_range **ret_ranges,
                                      size_t *ret_count, struct mr_error *err)
{
    const char *start = NULL, *end = NULL;
    struct mr_query *query;

    MR_TRY(check_stream(stream, err));
    mr_mutex_lock(&stream->ctx->lock);
    query = stream->ctx->query;
    mr_mutex_unlock(&stream->ctx->lock);
    if (query == NULL || !mr_query_source_offsets(query, stream->name, &start, &end) || end == NULL)
        return MR_FAIL(err, MR_STATE,
                       "there are no offset ranges: no batch of '%s' runs; call it inside a "
                       "function of foreach_rdd",
                       stream->name);
    return parse_ranges(start, end, ret_ranges, ret_count, err);
}

/* ---- commits ---- */

/* False without memory. */
static bool put(struct mr_arena *arena, struct mr_json *object, const char *key,
                struct mr_json *item)
{
    mr_json_put(arena, object, key, item);
    return item != NULL && mr_json_get(object, key) == item;
}

/* Puts `until` of one range where no larger offset is. Under the lock. */
static bool put_pending(struct direct *direct, const struct mr_kafka_range *range)
{
    struct mr_arena *arena = &direct->arena;
    char partition[MR_NUMBER_TEXT_BYTES];
    struct mr_json *topic;

    partition[mr_int_print(range->partition, partition)] = '\0';
    if (offset_in(direct->pending, range->topic, partition, -1) >= range->until)
        return true;
    if (direct->pending == NULL)
        direct->pending = mr_json_new_object(arena);
    if (direct->pending == NULL)
        return false;
    topic = mr_json_get(direct->pending, range->topic);
    if (topic == NULL) {
        topic = mr_json_new_object(arena);
        if (!put(arena, direct->pending, range->topic, topic))
            return false;
    }
    return put(arena, topic, partition, mr_json_new_int(arena, range->until));
}

enum mr_status mr_kafka_commit_async(struct mr_dstream *stream, const struct mr_kafka_range *ranges,
                                     size_t count, mr_kafka_commit_fn callback, void *arg,
                                     struct mr_error *err)
{
    struct direct *direct;
    bool fits = true;

    MR_TRY(check_stream(stream, err));
    direct = stream->own;
    if (!direct->has_group)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot commit offsets of '%s': it has no consumer group; set group_id",
                       stream->name);
    mr_mutex_lock(&direct->lock);
    for (size_t i = 0; i < count && fits; i++)
        fits = put_pending(direct, &ranges[i]);
    if (fits && callback != NULL) {
        direct->callback = callback;
        direct->callback_arg = arg;
    }
    mr_mutex_unlock(&direct->lock);
    return fits ? MR_OK : no_memory(err);
}

static char *take_commits(void *arg)
{
    struct direct *direct = arg;
    struct mr_buf text = MR_BUF_INIT;
    bool any;

    mr_mutex_lock(&direct->lock);
    any = direct->pending != NULL;
    if (any)
        mr_json_write(&text, direct->pending);
    if (!text.failed) { /* else it stays for the next time */
        direct->pending = NULL;
        mr_arena_release(&direct->arena);
    }
    mr_mutex_unlock(&direct->lock);
    return any ? mr_buf_take(&text) : NULL;
}

static void commits_done(void *arg, const char *offsets, enum mr_status status, const char *text)
{
    struct direct *direct = arg;
    struct mr_kafka_range *ranges = NULL;
    mr_kafka_commit_fn callback;
    void *callback_arg;
    size_t count = 0;

    mr_mutex_lock(&direct->lock);
    callback = direct->callback;
    callback_arg = direct->callback_arg;
    mr_mutex_unlock(&direct->lock);
    if (callback == NULL || parse_ranges(NULL, offsets, &ranges, &count, NULL) != MR_OK)
        return;
    for (size_t i = 0; i < count; i++)
        ranges[i].from = 0;
    callback(callback_arg, ranges, count, status, text);
    mr_kafka_ranges_free(ranges);
}

/* ---- building ---- */

static struct direct *direct_new(bool has_group)
{
    struct direct *direct = mr_alloc_zero(NULL, sizeof(*direct));

    if (direct == NULL)
        return NULL;
    mr_mutex_init(&direct->lock);
    direct->has_group = has_group;
    direct->link = (struct mr_kafka_link){
        .struct_size = sizeof(struct mr_kafka_link),
        .arg = direct,
        .take = take_commits,
        .done = commits_done,
    };
    return direct;
}

/* Options as they are collected; texts in the arena. */
struct pairs {
    struct mr_arena arena;
    const char *texts[2 * OPTIONS_MAX + 1];
    size_t count;
    bool failed;
};

static void add(struct pairs *pairs, const char *key, const char *value)
{
    if (pairs->count + 2 > 2 * OPTIONS_MAX || value == NULL) {
        pairs->failed = true;
        return;
    }
    pairs->texts[pairs->count++] = key;
    pairs->texts[pairs->count++] = value;
    pairs->texts[pairs->count] = NULL;
}

/* {"topic":{"0":value}}, or {"topic":[0]} without values. NULL without memory. */
static const char *table_of(struct pairs *pairs, const struct mr_kafka_partition *partitions,
                            size_t count, bool values)
{
    struct mr_arena *arena = &pairs->arena;
    struct mr_json *table = mr_json_new_object(arena);
    struct mr_buf text = MR_BUF_INIT;
    const char *copy;

    for (size_t i = 0; i < count && table != NULL; i++) {
        const char *name = partitions[i].topic != NULL ? partitions[i].topic : "";
        struct mr_json *topic = mr_json_get(table, name), *item;
        char partition[MR_NUMBER_TEXT_BYTES];
        bool fits = true;

        if (topic == NULL) {
            topic = values ? mr_json_new_object(arena) : mr_json_new_array(arena);
            fits = put(arena, table, name, topic);
        }
        partition[mr_int_print(partitions[i].partition, partition)] = '\0';
        item = mr_json_new_int(arena, values ? partitions[i].value : partitions[i].partition);
        if (fits && values)
            fits = put(arena, topic, partition, item);
        else if (fits)
            mr_json_push(topic, item);
        if (!fits || item == NULL)
            table = NULL;
    }
    if (table != NULL)
        mr_json_write(&text, table);
    copy = table != NULL && !text.failed ? mr_arena_copy(arena, text.data, text.size) : NULL;
    mr_buf_release(&text);
    return copy;
}

static enum mr_status add_topics(struct pairs *pairs, const struct mr_kafka_direct *spec,
                                 struct mr_error *err)
{
    if (spec->brokers == NULL)
        return MR_FAIL(err, MR_CONFIG, "there are no brokers to ask");
    if (spec->strategy == MR_KAFKA_ASSIGN ? spec->partition_count == 0
                                          : spec->topics == NULL || spec->topics[0] == '\0')
        return MR_FAIL(err, MR_CONFIG, "there is nothing to read; give %s",
                       spec->strategy == MR_KAFKA_ASSIGN ? "partitions" : "topics");
    add(pairs, "brokers", spec->brokers);
    if (spec->strategy == MR_KAFKA_ASSIGN)
        add(pairs, "assign", table_of(pairs, spec->partitions, spec->partition_count, false));
    else
        add(pairs, spec->strategy == MR_KAFKA_PATTERN ? "topic_pattern" : "topic", spec->topics);
    return MR_OK;
}

/* Where it begins (KD-2). */
static enum mr_status add_beginning(struct pairs *pairs, const struct mr_kafka_direct *spec,
                                    struct mr_error *err)
{
    static const char *const words[] = {"latest", "earliest", "none"};
    const char *reset = words[spec->reset];

    if (spec->group_id != NULL) {
        add(pairs, "group_id", spec->group_id);
        add(pairs, "start_reset", reset);
    }
    if (spec->offset_count > 0) {
        add(pairs, "start", table_of(pairs, spec->offsets, spec->offset_count, true));
        add(pairs, "start_others",
            spec->group_id != NULL               ? "committed"
            : spec->reset == MR_KAFKA_RESET_NONE ? "error"
                                                 : reset);
        return MR_OK;
    }
    if (spec->group_id == NULL && spec->reset == MR_KAFKA_RESET_NONE)
        return MR_FAIL(err, MR_CONFIG,
                       "it is not said where to begin; give offsets, a group_id, or another reset");
    add(pairs, "start", spec->group_id != NULL ? "committed" : reset);
    return MR_OK;
}

static enum mr_status collect(struct pairs *pairs, const struct mr_context *ctx,
                              const struct mr_kafka_direct *spec, struct mr_error *err)
{
    char interval[MR_NUMBER_TEXT_BYTES + 4];

    MR_TRY(add_topics(pairs, spec, err));
    MR_TRY(add_beginning(pairs, spec, err));
    snprintf(interval, sizeof(interval), "%" PRId64 "ms", ctx->interval_ms);
    add(pairs, "batch_interval", mr_arena_copy(&pairs->arena, interval, strlen(interval)));
    add(pairs, "empty_partitions", "true");
    add(pairs, "format", spec->binary ? "raw" : "text");
    if (spec->rate_count > 0)
        add(pairs, "max_rates", table_of(pairs, spec->rates, spec->rate_count, true));
    for (const char *const *more = spec->options; more != NULL && more[0] != NULL; more += 2) {
        if (more[1] == NULL)
            return MR_FAIL(err, MR_CONFIG,
                           "option '%s' has no value; options are pairs: key, value, ..., NULL",
                           more[0]);
        add(pairs, more[0], more[1]);
        if (pairs->failed)
            return MR_FAIL(err, MR_LIMIT, "at most %d options", OPTIONS_MAX - OWN_OPTIONS);
    }
    return pairs->failed ? no_memory(err) : MR_OK;
}

static struct mr_dstream *connect_direct(struct mr_context *ctx, const struct mr_kafka_direct *spec,
                                         struct pairs *pairs, struct mr_error *err)
{
    char columns[sizeof(COLUMNS) + 16];
    const char *type = spec->binary ? "BLOB" : "VARCHAR";
    struct mr_dstream *stream;

    snprintf(columns, sizeof(columns), COLUMNS, type, type);
    stream = mr__connect_named(ctx, "kafka_direct_stream", "kafka", columns, pairs->texts);
    if (stream == NULL)
        return NULL; /* the mistake sticks already */
    stream->own = direct_new(spec->group_id != NULL);
    if (stream->own == NULL) {
        no_memory(err);
        return NULL;
    }
    stream->own_free = direct_free;
    stream->source.user = &((struct direct *)stream->own)->link;
    return stream;
}

struct mr_dstream *mr_kafka_direct_stream(struct mr_context *ctx,
                                          const struct mr_kafka_direct *spec)
{
    struct pairs pairs = {.arena = MR_ARENA_INIT};
    struct mr_dstream *stream = NULL;
    struct mr_error err;
    enum mr_status status;

    if (!mr__context_is_open(ctx, "kafka_direct_stream"))
        return NULL;
    mr_error_clear(&err);
    status = spec != NULL ? collect(&pairs, ctx, spec, &err)
                          : MR_FAIL(&err, MR_CONFIG, "there is no spec");
    if (status == MR_OK)
        stream = connect_direct(ctx, spec, &pairs, &err);
    if (err.status != MR_OK)
        mr__context_blame(ctx, "kafka_direct_stream", &err);
    mr_arena_release(&pairs.arena);
    return stream;
}
