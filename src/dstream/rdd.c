/*
 * mr_foreach_rdd: the program sees the data of each batch (OUT-5).
 *
 * A sink of the kernel that keeps the batch's data by partition and calls the function at publish,
 * on the driver, outputs in registration order. A failure runs the batch again; a crash after the
 * call and before the commit calls it again with the same batch id, time and rows, so a program
 * that remembers (batch id, partition) with its output has exactly-once (OUT-7).
 *
 * Thread: driver.
 */
#include "dstream/streams.h"

#include <millrace/ext/sink.h>

struct mr_rdd {
    uint64_t batch_id;
    int64_t batch_time_us;
    struct mr__batches *partitions; /* those that have rows, in order */
    uint32_t partition_count;
    uint32_t last_partition; /* the kernel's number of the newest */
    int64_t rows;
};

struct mr_sink {
    mr_rdd_fn fn;
    void *arg;
    struct mr_rdd rdd;
};

static enum mr_status rdd_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                               struct mr_error *err)
{
    const struct mr__output *output = args->user;
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    sink->fn = output->fn;
    sink->arg = output->arg;
    *ret_sink = sink;
    return MR_OK;
}

static void rdd_abort(struct mr_sink *sink)
{
    for (uint32_t i = 0; i < sink->rdd.partition_count; i++)
        mr__batches_release(&sink->rdd.partitions[i]);
    mr_free(sink->rdd.partitions);
    sink->rdd = (struct mr_rdd){0};
}

static void rdd_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    rdd_abort(sink);
    mr_free(sink);
}

static enum mr_status rdd_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                struct mr_error *err)
{
    MR_UNUSED(err);
    rdd_abort(sink);
    sink->rdd.batch_id = info->batch_id;
    sink->rdd.batch_time_us = info->batch_time_us;
    return MR_OK;
}

static enum mr_status add_partition(struct mr_rdd *rdd, struct mr_error *err)
{
    struct mr__batches *grown =
        mr_realloc(NULL, rdd->partitions, ((size_t)rdd->partition_count + 1) * sizeof(*grown));

    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a batch: out of memory");
    rdd->partitions = grown;
    rdd->partitions[rdd->partition_count++] = (struct mr__batches){0};
    return MR_OK;
}

static enum mr_status rdd_write(struct mr_sink *sink, uint32_t partition,
                                const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_rdd *rdd = &sink->rdd;

    if (rdd->partition_count == 0 || partition != rdd->last_partition)
        MR_TRY(add_partition(rdd, err));
    rdd->last_partition = partition;
    rdd->rows += mr_batch_row_count(batch);
    return mr__batches_add(&rdd->partitions[rdd->partition_count - 1], batch, err);
}

static enum mr_status rdd_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status rdd_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                  struct mr_error *err)
{
    enum mr_status status;

    MR_UNUSED(ret_receipt);
    MR_ASSERT(batch_id == sink->rdd.batch_id);
    status = sink->fn(&sink->rdd, sink->rdd.batch_time_us / 1000, sink->arg, err);
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

int64_t mr_rdd_count(const struct mr_rdd *rdd)
{
    return rdd->rows;
}

uint32_t mr_rdd_partition_count(const struct mr_rdd *rdd)
{
    return rdd->partition_count;
}

size_t mr_rdd_batch_count(const struct mr_rdd *rdd, uint32_t partition)
{
    return partition < rdd->partition_count ? rdd->partitions[partition].count : 0;
}

const struct mr_batch *mr_rdd_batch(const struct mr_rdd *rdd, uint32_t partition, size_t index)
{
    return index < mr_rdd_batch_count(rdd, partition) ? rdd->partitions[partition].items[index]
                                                      : NULL;
}

uint64_t mr_rdd_batch_id(const struct mr_rdd *rdd)
{
    return rdd->batch_id;
}
