/*
 * mr_foreach_rdd: the program sees the data of each batch as a dataset (OUT-5).
 *
 * A sink of the kernel that keeps the batch's data by partition and calls the function at publish,
 * on the driver, outputs in registration order. A failure runs the batch again; a crash after the
 * call and before the commit calls it again with the same batch id, time and rows, so a program
 * that remembers (batch id, partition) with its output has exactly-once (OUT-7).
 *
 * The dataset has the partitions of the stream, those without rows too. It and what the function
 * makes of it live until the call returns. Thread: driver; the tasks of its actions on the
 * session's workers.
 */
#include "dstream/streams.h"

#include "rdd/rdd.h"

#include <millrace/ext/sink.h>

struct mr_sink {
    const struct mr__output *output;
    struct mr_schema *schema;
    uint64_t batch_id;
    int64_t batch_time_us;
    struct mr__batches *partitions;
    uint32_t partition_count;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a batch: out of memory");
}

static enum mr_status rdd_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                               struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return no_memory(err);
    sink->output = args->user;
    sink->schema = mr_schema_ref(args->schema);
    *ret_sink = sink;
    return MR_OK;
}

static void free_partitions(struct mr__batches *partitions, uint32_t count)
{
    for (uint32_t i = 0; partitions != NULL && i < count; i++)
        mr__batches_release(&partitions[i]);
    mr_free(partitions);
}

static void rdd_abort(struct mr_sink *sink)
{
    free_partitions(sink->partitions, sink->partition_count);
    sink->partitions = NULL;
    sink->partition_count = 0;
}

static void rdd_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    rdd_abort(sink);
    mr_schema_unref(sink->schema);
    mr_free(sink);
}

static enum mr_status rdd_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                struct mr_error *err)
{
    rdd_abort(sink);
    sink->batch_id = info->batch_id;
    sink->batch_time_us = info->batch_time_us;
    sink->partitions =
        mr_alloc_zero(NULL, (info->partition_count + (size_t)1) * sizeof(*sink->partitions));
    if (sink->partitions == NULL)
        return no_memory(err);
    sink->partition_count = info->partition_count;
    return MR_OK;
}

static enum mr_status rdd_write(struct mr_sink *sink, uint32_t partition,
                                const struct mr_batch *batch, struct mr_error *err)
{
    MR_ASSERT(partition < sink->partition_count);
    return mr__batches_add(&sink->partitions[partition], batch, err);
}

static enum mr_status rdd_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

/* The sink keeps its own: publish may be called again. */
static enum mr_status share_partitions(const struct mr_sink *sink,
                                       struct mr__batches **ret_partitions, struct mr_error *err)
{
    struct mr__batches *shared =
        mr_alloc_zero(NULL, (sink->partition_count + (size_t)1) * sizeof(*shared));
    enum mr_status status = shared != NULL ? MR_OK : no_memory(err);

    for (uint32_t p = 0; status == MR_OK && p < sink->partition_count; p++) {
        const struct mr__batches *rows = &sink->partitions[p];
        for (size_t i = 0; status == MR_OK && i < rows->count; i++)
            status = mr__batches_add(&shared[p], rows->items[i], err);
    }
    if (status != MR_OK) {
        free_partitions(shared, sink->partition_count);
        return status;
    }
    *ret_partitions = shared;
    return MR_OK;
}

static enum mr_status rdd_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                  struct mr_error *err)
{
    const struct mr__output *output = sink->output;
    struct mr_session *session = mr_context_session(output->stream->ctx);
    struct mr__batches *partitions = NULL;
    struct mr__scope scope;
    struct mr_rdd *rdd;
    enum mr_status status;

    MR_UNUSED(ret_receipt);
    MR_ASSERT(batch_id == sink->batch_id);
    if (session == NULL)
        return no_memory(err);
    MR_TRY(share_partitions(sink, &partitions, err));
    mr__scope_enter(&scope, batch_id, sink->batch_time_us);
    rdd = mr__rdd_of_batches(session, sink->schema, partitions, sink->partition_count, batch_id,
                             sink->batch_time_us);
    status = mr_rdd_error(rdd, err);
    if (status == MR_OK) {
        mr__inside_user_code++;
        status = output->fn(rdd, sink->batch_time_us / 1000, output->arg, err);
        mr__inside_user_code--;
    }
    mr__scope_leave(&scope);
    if (status == MR_OK)
        rdd_abort(sink);
    return status;
}

static const struct mr_sink_ops rdd_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = rdd_begin,
    .write = rdd_write,
    .stage = rdd_stage,
    .publish = rdd_publish,
    .abort = rdd_abort,
    .close = rdd_close,
};

static const struct mr_sink_connector rdd_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "foreach_rdd",
    .summary = "A function of the program, once per batch.",
    .guarantee = MR_AT_LEAST_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = rdd_open,
    .ops = &rdd_ops,
};

void mr_foreach_rdd(struct mr_dstream *stream, mr_rdd_fn fn, void *arg)
{
    struct mr__output *output = mr__output_new(stream, "foreach_rdd", &rdd_connector);
    struct mr_error err;

    if (output == NULL)
        return;
    output->fn = fn;
    output->arg = arg;
    if (fn == NULL) {
        MR_FAIL(&err, MR_CONFIG, "there is no function to call");
        mr__context_blame(stream->ctx, "foreach_rdd", &err);
    }
}
