/*
 * The datasets that streams remember, for mr_dstream_slice.
 *
 *     stream's node --> sink "<name>.remembered" --publish--> kept: time -> batches by partition
 *                                                             forgets time <= t - remember (DS-11)
 *
 * The sink is one of the kernel's, in front of the program's outputs, so that a function of
 * foreach_rdd finds the batch that it is called for. What is kept shares the memory of the batches
 * and lives in the stream: after the context has stopped it is still there. A batch that runs again
 * replaces its dataset.
 *
 * Thread: the sink is called by the driver; readers (slice.c) may be any, hence the lock.
 */
#include "dstream/remember.h"

#include <millrace/ext/sink.h>

#include <string.h>

struct mr_sink {
    const struct mr_context *ctx;
    struct mr__kept *kept;
    int64_t remember_us;
    int64_t slide_us;
    struct mr__dataset current; /* until it is published */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot remember a batch: out of memory");
}

/* ---- kept datasets ---- */

static void dataset_release(struct mr__dataset *dataset)
{
    for (uint32_t i = 0; i < dataset->partition_count; i++)
        mr__batches_release(&dataset->partitions[i]);
    mr_free(dataset->partitions);
    *dataset = (struct mr__dataset){0};
}

static struct mr__batches *lists_new(uint32_t count)
{
    return mr_alloc_zero(NULL, ((size_t)count + 1) * sizeof(struct mr__batches));
}

enum mr_status mr__dataset_share(const struct mr__dataset *dataset,
                                 struct mr__batches **ret_partitions, struct mr_error *err)
{
    struct mr__dataset copy = {.partitions = lists_new(dataset->partition_count),
                               .partition_count = dataset->partition_count};
    enum mr_status status = MR_OK;

    if (copy.partitions == NULL)
        return no_memory(err);
    for (uint32_t p = 0; status == MR_OK && p < dataset->partition_count; p++) {
        const struct mr__batches *rows = &dataset->partitions[p];

        for (size_t i = 0; status == MR_OK && i < rows->count; i++)
            status = mr__batches_add(&copy.partitions[p], rows->items[i], err);
    }
    if (status != MR_OK)
        dataset_release(&copy);
    else
        *ret_partitions = copy.partitions;
    return status;
}

struct mr__kept *mr__kept_new(void)
{
    struct mr__kept *kept = mr_alloc_zero(NULL, sizeof(*kept));

    if (kept != NULL)
        mr_mutex_init(&kept->lock);
    return kept;
}

void mr__kept_free(struct mr__kept *kept)
{
    if (kept == NULL)
        return;
    for (size_t i = 0; i < kept->count; i++)
        dataset_release(&kept->items[i]);
    mr_free(kept->items);
    mr_mutex_release(&kept->lock);
    mr_free(kept);
}

const struct mr__dataset *mr__kept_find(const struct mr__kept *kept, int64_t time_us)
{
    for (size_t i = kept->count; i-- > 0;) {
        if (kept->items[i].time_us == time_us)
            return &kept->items[i];
    }
    return NULL;
}

static void forget(struct mr__kept *kept, int64_t to_us)
{
    size_t gone = 0;

    while (gone < kept->count && kept->items[gone].time_us <= to_us)
        dataset_release(&kept->items[gone++]);
    if (gone == 0)
        return;
    kept->any_forgotten = true;
    kept->forgotten_us = to_us;
    kept->count -= gone;
    memmove(kept->items, kept->items + gone, kept->count * sizeof(*kept->items));
}

/* Takes the dataset. */
static enum mr_status keep(struct mr__kept *kept, struct mr__dataset *dataset, struct mr_error *err)
{
    if (kept->count > 0 && kept->items[kept->count - 1].time_us == dataset->time_us) {
        dataset_release(&kept->items[--kept->count]);
    } else if (kept->count == kept->capacity) {
        size_t capacity = kept->capacity == 0 ? 8 : kept->capacity * 2;
        struct mr__dataset *grown = mr_realloc(NULL, kept->items, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(err);
        kept->items = grown;
        kept->capacity = capacity;
    }
    kept->items[kept->count++] = *dataset;
    *dataset = (struct mr__dataset){0};
    return MR_OK;
}

/* ---- the sink ---- */

static enum mr_status remember_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                    struct mr_error *err)
{
    const struct mr_dstream *stream = args->user;
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return no_memory(err);
    sink->ctx = stream->ctx;
    sink->kept = stream->kept;
    sink->remember_us = stream->remember_ms * 1000;
    sink->slide_us = stream->slide_ms * 1000;
    mr_mutex_lock(&sink->kept->lock);
    sink->kept->is_open = true;
    mr_mutex_unlock(&sink->kept->lock);
    *ret_sink = sink;
    return MR_OK;
}

static void remember_abort(struct mr_sink *sink)
{
    dataset_release(&sink->current);
}

static void remember_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    remember_abort(sink);
    mr_free(sink);
}

static enum mr_status remember_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                     struct mr_error *err)
{
    remember_abort(sink);
    sink->current.partitions = lists_new(info->partition_count);
    if (sink->current.partitions == NULL)
        return no_memory(err);
    sink->current.partition_count = info->partition_count;
    sink->current.time_us = info->batch_time_us;
    sink->current.batch_id = info->batch_id;
    return MR_OK;
}

static enum mr_status remember_write(struct mr_sink *sink, uint32_t partition,
                                     const struct mr_batch *batch, struct mr_error *err)
{
    MR_ASSERT(partition < sink->current.partition_count);
    return mr__batches_add(&sink->current.partitions[partition], batch, err);
}

static enum mr_status remember_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status remember_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                       struct mr_error *err)
{
    int64_t time_us = sink->current.time_us;
    enum mr_status status;

    MR_UNUSED(ret_receipt);
    MR_ASSERT(batch_id == sink->current.batch_id);
    mr_mutex_lock(&sink->kept->lock);
    sink->kept->zero_time_us = sink->ctx->zero_time_us;
    if (sink->kept->count == 0 && !sink->kept->any_forgotten && batch_id > 0) {
        /* A process before this one had the datasets of these times. */
        sink->kept->any_forgotten = true;
        sink->kept->forgotten_us = time_us - sink->slide_us;
    }
    forget(sink->kept, time_us - sink->remember_us);
    status = keep(sink->kept, &sink->current, err);
    mr_mutex_unlock(&sink->kept->lock);
    return status;
}

static const struct mr_sink_ops remember_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = remember_begin,
    .write = remember_write,
    .stage = remember_stage,
    .publish = remember_publish,
    .abort = remember_abort,
    .close = remember_close,
};

static const struct mr_sink_connector remember_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "remember",
    .summary = "The datasets of a stream, for mr_dstream_slice.",
    /* nothing leaves the process, and a batch that runs again replaces its dataset */
    .guarantee = MR_EXACTLY_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = remember_open,
    .ops = &remember_ops,
};

static enum mr_status lower_one(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err)
{
    char *name = mr_asprintf("%s.remembered", stream->name);
    struct mr_sink_spec spec = {
        .name = name,
        .connector = &remember_connector,
        .mode = MR_MODE_APPEND,
        .user = stream,
    };
    enum mr_status status;

    if (name == NULL)
        status = no_memory(err);
    else
        status = mr_graph_sink(low->graph, &spec, &stream->node, 1, err);
    mr_free(name);
    return status;
}

enum mr_status mr__remember_lower(struct mr__lowering *low, struct mr_error *err)
{
    struct mr_context *ctx = low->ctx;

    for (size_t i = 0; i < ctx->stream_count; i++) {
        if (ctx->streams[i]->wanted && mr__is_remembered(ctx->streams[i]))
            MR_TRY(lower_one(low, ctx->streams[i], err));
    }
    return MR_OK;
}
