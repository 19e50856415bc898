/*
 * Queue streams: batches that the program pushes (Q-1 .. Q-3).  For tests and experiments.
 *
 * A source of the kernel whose offset is the number of entries consumed; what is pushed stays until
 * its batch is committed, so a batch that failed can run again. Nothing is durable: a checkpoint
 * directory is refused at start.
 *
 *     pushed   0 1 2 3 4         one at a time: range (2, 3] is entry number 2, one partition
 *              ^ base            else all that is there, a partition each
 *     offset   "3"               and "3 1", "3 2" ... for batches of the default
 *
 * An entry may be absent: one at a time, its batch has no dataset (DS-2); among others it adds
 * nothing.
 *
 * Thread: pushing from any; the rest on the driver and its workers; the lock guards the list.
 */
#include "dstream/streams.h"

#include "base/number_text.h"

#include <inttypes.h>
#include <string.h>

struct mr_queue {
    struct mr_schema *schema;
    struct mr_mutex lock;    /* guards: */
    struct mr_batch **items; /* numbers base, base + 1, ...; NULL = absent */
    size_t count;
    size_t capacity;
    uint64_t base;
    struct mr_batch *fallback; /* what an empty queue gives; NULL = no rows */
    bool failed;               /* a push was lost for lack of memory */
};

struct mr_source {
    struct mr_queue *queue;
    bool one_at_a_time;
};

struct mr_reader {
    struct mr_batch *batch;
};

/* ---- the program's side ---- */

struct mr_queue *mr_queue_new(const char *columns)
{
    struct mr_queue *queue = mr_alloc_zero(NULL, sizeof(*queue));

    if (queue == NULL)
        return NULL;
    if (mr_schema_parse(columns, strlen(columns), &queue->schema, NULL) != MR_OK) {
        mr_free(queue);
        return NULL;
    }
    mr_mutex_init(&queue->lock);
    return queue;
}

void mr_queue_free(struct mr_queue *queue)
{
    if (queue == NULL)
        return;
    for (size_t i = 0; i < queue->count; i++)
        mr_batch_unref(queue->items[i]);
    mr_free(queue->items);
    mr_batch_unref(queue->fallback);
    mr_schema_unref(queue->schema);
    mr_mutex_release(&queue->lock);
    mr_free(queue);
}

/* Does a batch have the columns of the queue? Else the stream fails: a push returns nothing. */
static bool fits(const struct mr_queue *queue, const struct mr_batch *batch)
{
    return batch == NULL || mr_schema_equal(mr_batch_schema(batch), queue->schema);
}

/* batch NULL: absent. */
static void push(struct mr_queue *queue, const struct mr_batch *batch)
{
    mr_mutex_lock(&queue->lock);
    if (queue->count == queue->capacity) {
        size_t capacity = queue->capacity * 2 + 16;
        struct mr_batch **grown =
            mr_realloc(NULL, queue->items, capacity * sizeof(struct mr_batch *));

        if (grown != NULL) {
            queue->items = grown;
            queue->capacity = capacity;
        }
    }
    if (queue->count < queue->capacity && fits(queue, batch))
        queue->items[queue->count++] = batch != NULL ? mr_batch_ref(batch) : NULL;
    else
        queue->failed = true;
    mr_mutex_unlock(&queue->lock);
}

void mr_queue_push(struct mr_queue *queue, const struct mr_batch *batch)
{
    if (queue != NULL && batch != NULL)
        push(queue, batch);
}

void mr_queue_push_absent(struct mr_queue *queue)
{
    if (queue != NULL)
        push(queue, NULL);
}

void mr_queue_set_default(struct mr_queue *queue, const struct mr_batch *batch)
{
    struct mr_batch *before;

    if (queue == NULL)
        return;
    mr_mutex_lock(&queue->lock);
    before = queue->fallback;
    queue->fallback = batch != NULL ? mr_batch_ref(batch) : NULL;
    queue->failed = queue->failed || !fits(queue, batch);
    mr_mutex_unlock(&queue->lock);
    mr_batch_unref(before);
}

/* Finishes what a push of values has built. */
static void push_built(struct mr_queue *queue, struct mr_batch_builder *builder)
{
    struct mr_batch *batch = NULL;

    if (mr_batch_builder_finish(builder, &batch, NULL) == MR_OK) {
        push(queue, batch);
        mr_batch_unref(batch);
        return;
    }
    mr_mutex_lock(&queue->lock);
    queue->failed = true;
    mr_mutex_unlock(&queue->lock);
}

void mr_queue_push_ints(struct mr_queue *queue, const int64_t *values, size_t count)
{
    struct mr_batch_builder *builder = NULL;

    if (mr_batch_builder_new(queue->schema, &builder, NULL) == MR_OK) {
        for (size_t i = 0; i < count; i++) {
            mr_batch_builder_int(builder, 0, values[i]);
            mr_batch_builder_end_row(builder);
        }
        push_built(queue, builder);
    }
    mr_batch_builder_free(builder);
}

void mr_queue_push_texts(struct mr_queue *queue, const char *const *values, size_t count)
{
    struct mr_batch_builder *builder = NULL;

    if (mr_batch_builder_new(queue->schema, &builder, NULL) == MR_OK) {
        for (size_t i = 0; i < count; i++) {
            mr_batch_builder_text(builder, 0, values[i], strlen(values[i]));
            mr_batch_builder_end_row(builder);
        }
        push_built(queue, builder);
    }
    mr_batch_builder_free(builder);
}

/* ---- the kernel's side ---- */

/* An offset: entries consumed, and batches of the default since then. */
struct place {
    uint64_t entries;
    uint64_t defaults;
};

static enum mr_status parse_place(const char *text, struct place *ret_place, struct mr_error *err)
{
    size_t size = text != NULL ? strcspn(text, " ") : 0;

    *ret_place = (struct place){0, 0};
    if (text == NULL ||
        (mr_uint_parse(text, size, &ret_place->entries) &&
         (text[size] == '\0' ||
          mr_uint_parse(text + size + 1, strlen(text + size + 1), &ret_place->defaults))))
        return MR_OK;
    return MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a queue stream");
}

struct range {
    struct place from;
    struct place to;
};

static enum mr_status parse_range(const char *start, const char *end, struct range *ret_range,
                                  struct mr_error *err)
{
    MR_TRY(parse_place(start, &ret_range->from, err));
    return parse_place(end, &ret_range->to, err);
}

static bool is_default(const struct range *range)
{
    return range->from.entries == range->to.entries && range->from.defaults != range->to.defaults;
}

/* The index-th entry of the range that is not absent; NULL past the last one. Under the lock. */
static struct mr_batch *entry_at(const struct mr_queue *queue, const struct range *range,
                                 uint32_t index)
{
    if (is_default(range))
        return index == 0 ? queue->fallback : NULL;
    for (uint64_t i = range->from.entries; i < range->to.entries; i++) {
        struct mr_batch *batch;

        MR_ASSERT(i >= queue->base && i < queue->base + queue->count);
        batch = queue->items[i - queue->base];
        if (batch != NULL && index-- == 0)
            return batch;
    }
    return NULL;
}

static enum mr_status queue_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                 struct mr_error *err)
{
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));
    struct mr_dstream *stream = args->user;

    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    source->queue = stream->source.queue;
    source->one_at_a_time = stream->source.one_at_a_time;
    *ret_source = source;
    return MR_OK;
}

static enum mr_status queue_plan(struct mr_source *source, const char *start,
                                 const struct mr_plan_limits *limits, char **ret_end,
                                 struct mr_error *err)
{
    struct mr_queue *queue = source->queue;
    struct place from;
    uint64_t end;
    bool failed, has_default;

    MR_UNUSED(limits);
    MR_TRY(parse_place(start, &from, err));
    mr_mutex_lock(&queue->lock);
    end = queue->base + queue->count;
    failed = queue->failed;
    has_default = queue->fallback != NULL;
    mr_mutex_unlock(&queue->lock);
    if (failed)
        return MR_FAIL(
            err, MR_NOMEM,
            "a batch pushed to the queue was lost: out of memory, or its values do not fit the "
            "columns of the queue");
    *ret_end = NULL;
    if (end <= from.entries && !has_default)
        return MR_OK;
    if (end <= from.entries)
        *ret_end = mr_asprintf("%" PRIu64 " %" PRIu64, from.entries, from.defaults + 1);
    else
        *ret_end = mr_asprintf("%" PRIu64, source->one_at_a_time ? from.entries + 1 : end);
    return *ret_end != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

static enum mr_status queue_split(struct mr_source *source, const char *start, const char *end,
                                  uint32_t *ret_partitions, uint64_t *ret_bytes,
                                  struct mr_error *err)
{
    struct mr_queue *queue = source->queue;
    struct range range;
    uint32_t count = 0;

    MR_TRY(parse_range(start, end, &range, err));
    if (range.to.entries - range.from.entries > UINT32_MAX)
        return MR_FAIL(err, MR_LIMIT, "too many batches in a queue");
    mr_mutex_lock(&queue->lock);
    if (is_default(&range))
        count = 1;
    for (uint64_t i = range.from.entries; i < range.to.entries; i++)
        count += queue->items[i - queue->base] != NULL;
    mr_mutex_unlock(&queue->lock);
    *ret_partitions = count;
    *ret_bytes = 1; /* known and small: tests do not wake workers for it */
    return MR_OK;
}

/* A batch of nothing but absent entries has no dataset. */
static bool queue_absent(struct mr_source *source, const char *start, const char *end)
{
    struct mr_queue *queue = source->queue;
    struct range range;
    bool absent;

    if (parse_range(start, end, &range, NULL) != MR_OK || range.from.entries == range.to.entries)
        return false;
    mr_mutex_lock(&queue->lock);
    absent = entry_at(queue, &range, 0) == NULL;
    mr_mutex_unlock(&queue->lock);
    return absent;
}

static bool queue_row_count(struct mr_source *source, const char *start, const char *end,
                            uint64_t *ret_rows)
{
    struct mr_queue *queue = source->queue;
    const struct mr_batch *batch;
    struct range range;

    if (parse_range(start, end, &range, NULL) != MR_OK)
        return false;
    *ret_rows = 0;
    mr_mutex_lock(&queue->lock);
    for (uint32_t i = 0; (batch = entry_at(queue, &range, i)) != NULL; i++)
        *ret_rows += (uint64_t)mr_batch_row_count(batch);
    mr_mutex_unlock(&queue->lock);
    return true;
}

static enum mr_status queue_read(struct mr_source *source, const char *start, const char *end,
                                 uint32_t partition, struct mr_reader **ret_reader,
                                 struct mr_error *err)
{
    struct mr_queue *queue = source->queue;
    struct mr_reader *reader;
    struct mr_batch *batch;
    struct range range;

    MR_TRY(parse_range(start, end, &range, err));
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr_mutex_lock(&queue->lock);
    batch = entry_at(queue, &range, partition);
    if (batch != NULL) /* the default may have been taken back */
        reader->batch = mr_batch_ref(batch);
    mr_mutex_unlock(&queue->lock);
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status queue_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    MR_UNUSED(err);
    *ret_batch = reader->batch;
    reader->batch = NULL;
    return MR_OK;
}

static void queue_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_unref(reader->batch);
    mr_free(reader);
}

/* Entries before the end of a committed batch are not needed any more. */
static void queue_committed(struct mr_source *source, const char *end)
{
    struct mr_queue *queue = source->queue;
    struct place to;
    size_t gone;

    if (parse_place(end, &to, NULL) != MR_OK)
        return;
    mr_mutex_lock(&queue->lock);
    gone = to.entries > queue->base
               ? (size_t)MR_MIN(to.entries - queue->base, (uint64_t)queue->count)
               : 0;
    for (size_t i = 0; i < gone; i++)
        mr_batch_unref(queue->items[i]);
    if (gone > 0)
        memmove(queue->items, queue->items + gone, (queue->count - gone) * sizeof(*queue->items));
    queue->count -= gone;
    queue->base += gone;
    mr_mutex_unlock(&queue->lock);
}

static void queue_stop(struct mr_source *source)
{
    mr_free(source);
}

static const struct mr_source_ops queue_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = queue_plan,
    .split = queue_split,
    .read = queue_read,
    .next = queue_next,
    .close = queue_close,
    .committed = queue_committed,
    .stop = queue_stop,
    .absent = queue_absent,
    .row_count = queue_row_count,
};

static const struct mr_source_connector queue_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "queue",
    .summary = "Batches that the program pushes.",
    .guarantee = "not recoverable",
    .open = queue_open,
    .ops = &queue_ops,
};

struct mr_dstream *mr_queue_stream(struct mr_context *ctx, struct mr_queue *queue,
                                   bool one_at_a_time)
{
    struct mr__source source = {
        .connector = &queue_connector, .is_own = true, .volatile_only = true};
    struct mr_error err;

    if (!mr__context_is_open(ctx, "queue_stream"))
        return NULL;
    if (queue == NULL) {
        MR_FAIL(&err, MR_CONFIG, "there is no queue; mr_queue_new returned NULL for its columns");
        mr__context_blame(ctx, "queue_stream", &err);
        return NULL;
    }
    source.queue = queue;
    source.one_at_a_time = one_at_a_time;
    return mr__stream_source(ctx, "queue_stream", &source, queue->schema);
}
