/*
 * Queue streams: batches that the program pushes (Q-1 .. Q-3).  For tests and experiments.
 *
 * A source of the kernel whose offset is the number of batches consumed; what is pushed stays until
 * its batch is committed, so a batch that failed can run again. Nothing is durable: a checkpoint
 * directory is refused at start.
 *
 *     pushed   0 1 2 3 4         one at a time: range (2, 3] is batch number 2, one partition
 *              ^ base            else all that is there, a partition each
 *
 * Thread: pushing from any; the rest on the driver and its workers; the lock guards the list.
 */
#include "dstream/streams.h"

#include "base/number_text.h"

#include <inttypes.h>
#include <string.h>

struct mr_queue {
    struct mr_schema *schema;
    struct mr_mutex lock;       /* guards: */
    struct mr__batches batches; /* numbers base, base + 1, ... */
    uint64_t base;
    bool failed; /* a push was lost for lack of memory */
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
    mr__batches_release(&queue->batches);
    mr_schema_unref(queue->schema);
    mr_mutex_release(&queue->lock);
    mr_free(queue);
}

void mr_queue_push(struct mr_queue *queue, const struct mr_batch *batch)
{
    mr_mutex_lock(&queue->lock);
    if (mr__batches_add(&queue->batches, batch, NULL) != MR_OK)
        queue->failed = true;
    mr_mutex_unlock(&queue->lock);
}

/* Finishes what a push of values has built. */
static void push_built(struct mr_queue *queue, struct mr_batch_builder *builder)
{
    struct mr_batch *batch = NULL;

    if (mr_batch_builder_finish(builder, &batch, NULL) == MR_OK) {
        mr_queue_push(queue, batch);
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

static enum mr_status parse_range(const char *start, const char *end, uint64_t *ret_from,
                                  uint64_t *ret_to, struct mr_error *err)
{
    *ret_from = *ret_to = 0;
    if ((start == NULL || mr_uint_parse(start, strlen(start), ret_from)) &&
        (end == NULL || mr_uint_parse(end, strlen(end), ret_to)))
        return MR_OK;
    return MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a queue stream");
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
    uint64_t from, unused, end;
    bool failed;

    MR_UNUSED(limits);
    MR_TRY(parse_range(start, NULL, &from, &unused, err));
    mr_mutex_lock(&queue->lock);
    end = queue->base + queue->batches.count;
    failed = queue->failed;
    mr_mutex_unlock(&queue->lock);
    if (failed)
        return MR_FAIL(
            err, MR_NOMEM,
            "a batch pushed to the queue was lost: out of memory, or its values do not fit the "
            "columns of the queue");
    *ret_end = NULL;
    if (end <= from)
        return MR_OK;
    if (source->one_at_a_time)
        end = from + 1;
    *ret_end = mr_asprintf("%" PRIu64, end);
    return *ret_end != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

static enum mr_status queue_split(struct mr_source *source, const char *start, const char *end,
                                  uint32_t *ret_partitions, uint64_t *ret_bytes,
                                  struct mr_error *err)
{
    uint64_t from, to;

    MR_UNUSED(source);
    MR_TRY(parse_range(start, end, &from, &to, err));
    if (to - from > UINT32_MAX)
        return MR_FAIL(err, MR_LIMIT, "too many batches in a queue");
    *ret_partitions = (uint32_t)(to - from);
    *ret_bytes = 1; /* known and small: tests do not wake workers for it */
    return MR_OK;
}

static enum mr_status queue_read(struct mr_source *source, const char *start, const char *end,
                                 uint32_t partition, struct mr_reader **ret_reader,
                                 struct mr_error *err)
{
    struct mr_queue *queue = source->queue;
    struct mr_reader *reader;
    uint64_t from, to;

    MR_TRY(parse_range(start, end, &from, &to, err));
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr_mutex_lock(&queue->lock);
    MR_ASSERT(from + partition >= queue->base &&
              from + partition < queue->base + queue->batches.count);
    reader->batch = mr_batch_ref(queue->batches.items[from + partition - queue->base]);
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

/* Batches before the end of a committed one are not needed any more. */
static void queue_committed(struct mr_source *source, const char *end)
{
    struct mr_queue *queue = source->queue;
    uint64_t unused, to;
    size_t gone;

    if (parse_range(NULL, end, &unused, &to, NULL) != MR_OK)
        return;
    mr_mutex_lock(&queue->lock);
    gone = to > queue->base ? (size_t)MR_MIN(to - queue->base, (uint64_t)queue->batches.count) : 0;
    for (size_t i = 0; i < gone; i++)
        mr_batch_unref(queue->batches.items[i]);
    if (gone > 0)
        memmove(queue->batches.items, queue->batches.items + gone,
                (queue->batches.count - gone) * sizeof(*queue->batches.items));
    queue->batches.count -= gone;
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
