/*
 * Sinks that call functions of the program: foreach (each row) and foreachBatch (each batch).
 *
 *     foreach        begin -> write: open, process* -> stage: close, and open + close of partitions
 *                    without rows -> publish                     abort: close with an error
 *     foreachBatch   begin -> write: rows are kept -> stage -> publish: the function
 *
 * Both are at least once: what the functions did cannot be taken back when the batch fails later.
 * Partition and batch numbers are the same when it runs again, whatever the threads do.
 *
 * Thread: driver; write of the parallel foreach: any worker, one thread a partition, each in a slot
 * of its own.
 */
#include "streams/streams.h"

#include "fn/fn.h"
#include "rdd/rdd.h"

#include <millrace/ext/sink.h>

struct part {
    void *state;
    bool is_open;
    bool wants; /* open said that it wants the rows */
};

struct mr_sink {
    struct mr__foreach_target *target;
    struct mr_schema *schema;
    struct mr_sink_batch info;
    struct part *parts;          /* foreach */
    struct mr__batches *batches; /* foreachBatch: per partition */
    uint32_t count;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a batch: out of memory");
}

static enum mr_status sink_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return no_memory(err);
    sink->target = args->user;
    sink->schema = mr_schema_ref(args->schema);
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status nothing(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

/* A function of the program has returned. What it did not say is filled in. */
static enum mr_status judge(struct mr__foreach_target *target, const char *what,
                            enum mr_status status, struct mr_error *failure)
{
    if (status == MR_OK)
        return MR_OK;
    if (failure->status == MR_OK)
        MR_FAIL(failure, status, "the function failed");
    mr_error_prefix(failure, "%s", what);
    failure->status = status;
    atomic_store(&target->failed, true);
    return status;
}

/* ---- foreach ---- */

static void close_part(const struct mr_sink *sink, struct part *part,
                       const struct mr_error *failure)
{
    const struct mr_foreach_writer *writer = &sink->target->writer;

    if (!part->is_open)
        return;
    part->is_open = false;
    if (writer->close == NULL)
        return;
    mr__handle_enter(sink->target->query);
    writer->close(part->state, failure);
    mr__handle_leave(sink->target->query);
}

static void foreach_abort(struct mr_sink *sink)
{
    struct mr_error left = {0};

    MR_FAIL(&left, MR_STOPPED, "the batch was left before its end; it runs again");
    for (uint32_t i = 0; i < sink->count; i++)
        close_part(sink, &sink->parts[i], &left);
    mr_free(sink->parts);
    sink->parts = NULL;
    sink->count = 0;
}

static void foreach_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    foreach_abort(sink);
    mr_schema_unref(sink->schema);
    mr_free(sink);
}

static enum mr_status foreach_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                    struct mr_error *err)
{
    foreach_abort(sink);
    atomic_store(&sink->target->failed, false);
    sink->info = *info;
    sink->parts = mr_alloc_zero(NULL, (info->partition_count + (size_t)1) * sizeof(*sink->parts));
    if (sink->parts == NULL)
        return no_memory(err);
    sink->count = info->partition_count;
    return MR_OK;
}

static enum mr_status open_part(struct mr_sink *sink, uint32_t partition, struct mr_error *failure)
{
    const struct mr_foreach_writer *writer = &sink->target->writer;
    struct part *part = &sink->parts[partition];
    enum mr_status status = MR_OK;

    part->state = writer->arg;
    part->wants = true;
    if (writer->open != NULL) {
        mr__handle_enter(sink->target->query);
        status = writer->open(writer->arg, partition, sink->info.batch_id, &part->state,
                              &part->wants, failure);
        mr__handle_leave(sink->target->query);
    }
    part->is_open = status == MR_OK;
    return judge(sink->target, "open of foreach", status, failure);
}

static enum mr_status process_rows(struct mr_sink *sink, struct part *part,
                                   const struct mr_batch *batch, struct mr_error *failure)
{
    const struct mr_foreach_writer *writer = &sink->target->writer;
    struct mr_row row = {batch, 0};
    enum mr_status status = MR_OK;

    mr__handle_enter(sink->target->query);
    for (; row.index < mr_batch_row_count(batch) && status == MR_OK; row.index++)
        status = writer->process(part->state, &row, failure);
    mr__handle_leave(sink->target->query);
    return judge(sink->target, "process of foreach", status, failure);
}

static enum mr_status foreach_write(struct mr_sink *sink, uint32_t partition,
                                    const struct mr_batch *batch, struct mr_error *err)
{
    struct part *part = &sink->parts[partition];
    struct mr_error failure = {0};
    enum mr_status status = MR_OK;

    MR_ASSERT(partition < sink->count);
    if (!part->is_open)
        status = open_part(sink, partition, &failure);
    if (status == MR_OK && part->wants)
        status = process_rows(sink, part, batch, &failure);
    if (status != MR_OK) {
        close_part(sink, part, &failure);
        if (err != NULL)
            *err = failure;
    }
    return status;
}

static enum mr_status foreach_stage(struct mr_sink *sink, struct mr_error *err)
{
    struct mr_error failure = {0};

    for (uint32_t i = 0; i < sink->count; i++) {
        enum mr_status status = sink->parts[i].is_open ? MR_OK : open_part(sink, i, &failure);

        if (status != MR_OK) {
            if (err != NULL)
                *err = failure;
            return status;
        }
        close_part(sink, &sink->parts[i], NULL);
    }
    return MR_OK;
}

static enum mr_status foreach_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                      struct mr_error *err)
{
    MR_UNUSED(ret_receipt);
    MR_UNUSED(err);
    MR_ASSERT(batch_id == sink->info.batch_id);
    foreach_abort(sink); /* everything is closed */
    return MR_OK;
}

static const struct mr_sink_ops foreach_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = foreach_begin,
    .write = foreach_write,
    .stage = foreach_stage,
    .publish = foreach_publish,
    .abort = foreach_abort,
    .close = foreach_close,
};

static const struct mr_sink_ops parallel_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = foreach_begin,
    .write = foreach_write,
    .stage = foreach_stage,
    .publish = foreach_publish,
    .abort = foreach_abort,
    .close = foreach_close,
    .concurrent = true,
};

enum { ALL_MODES = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE };

const struct mr_sink_connector mr__foreach_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "foreach",
    .summary = "A function of the program for each row.",
    .guarantee = MR_AT_LEAST_ONCE,
    .modes = ALL_MODES,
    .open = sink_open,
    .ops = &foreach_ops,
};

const struct mr_sink_connector mr__foreach_parallel_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "foreach",
    .summary = "A function of the program for each row, several partitions at once.",
    .guarantee = MR_AT_LEAST_ONCE,
    .modes = ALL_MODES,
    .open = sink_open,
    .ops = &parallel_ops,
};

/* ---- foreachBatch ---- */

static void free_batches(struct mr__batches *batches, uint32_t count)
{
    for (uint32_t i = 0; batches != NULL && i < count; i++)
        mr__batches_release(&batches[i]);
    mr_free(batches);
}

static void batch_abort(struct mr_sink *sink)
{
    free_batches(sink->batches, sink->count);
    sink->batches = NULL;
    sink->count = 0;
}

static void batch_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    batch_abort(sink);
    mr_schema_unref(sink->schema);
    mr_free(sink);
}

static enum mr_status batch_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                  struct mr_error *err)
{
    batch_abort(sink);
    atomic_store(&sink->target->failed, false);
    sink->info = *info;
    sink->batches =
        mr_alloc_zero(NULL, (info->partition_count + (size_t)1) * sizeof(*sink->batches));
    if (sink->batches == NULL)
        return no_memory(err);
    sink->count = info->partition_count;
    return MR_OK;
}

static enum mr_status batch_write(struct mr_sink *sink, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    MR_ASSERT(partition < sink->count);
    return mr__batches_add(&sink->batches[partition], batch, err);
}

/* The sink keeps its own: publish may be called again. */
static enum mr_status share(const struct mr_sink *sink, struct mr__batches **ret_batches,
                            struct mr_error *err)
{
    struct mr__batches *shared = mr_alloc_zero(NULL, (sink->count + (size_t)1) * sizeof(*shared));
    enum mr_status status = shared != NULL ? MR_OK : no_memory(err);

    for (uint32_t p = 0; status == MR_OK && p < sink->count; p++) {
        const struct mr__batches *rows = &sink->batches[p];

        for (size_t i = 0; status == MR_OK && i < rows->count; i++)
            status = mr__batches_add(&shared[p], rows->items[i], err);
    }
    if (status != MR_OK) {
        free_batches(shared, sink->count);
        return status;
    }
    *ret_batches = shared;
    return MR_OK;
}

static enum mr_status batch_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                    struct mr_error *err)
{
    struct mr__foreach_target *target = sink->target;
    struct mr_session *session = NULL;
    struct mr__batches *batches = NULL;
    struct mr_error failure = {0};
    struct mr__scope scope;
    struct mr_rdd *rows;
    enum mr_status status;

    MR_UNUSED(ret_receipt);
    MR_ASSERT(batch_id == sink->info.batch_id);
    MR_TRY(mr__streams_session(target->streams, &session, err));
    MR_TRY(share(sink, &batches, err));
    mr__scope_enter(&scope, batch_id, sink->info.batch_time_us);
    rows = mr__rdd_of_batches(session, sink->schema, batches, sink->count, batch_id,
                              sink->info.batch_time_us);
    status = mr_rdd_error(rows, err);
    if (status == MR_OK) {
        mr__handle_enter(target->query);
        mr__inside_user_code++;
        status = target->batch_fn(rows, batch_id, target->batch_arg, &failure);
        mr__inside_user_code--;
        mr__handle_leave(target->query);
        status = judge(target, "function of foreachBatch", status, &failure);
        if (status != MR_OK && err != NULL)
            *err = failure;
    }
    mr__scope_leave(&scope);
    if (status == MR_OK)
        batch_abort(sink);
    return status;
}

static const struct mr_sink_ops batch_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = batch_begin,
    .write = batch_write,
    .stage = nothing,
    .publish = batch_publish,
    .abort = batch_abort,
    .close = batch_close,
};

const struct mr_sink_connector mr__foreach_batch_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "foreach_batch",
    .summary = "A function of the program for each batch.",
    .guarantee = MR_AT_LEAST_ONCE,
    .modes = ALL_MODES,
    .open = sink_open,
    .ops = &batch_ops,
};
