/*
 * Sink `memory`: rows kept in the process, for tests and programs (include/millrace/ext/memory.h).
 *
 * Rows of a batch wait in the sink, partition by partition, and are added to the table in one step
 * at publish. The table remembers (query, batch), so a batch that is published again changes
 * nothing: exactly once for as long as the process lives. Append and update add rows; complete
 * replaces all of them.
 *
 * Thread: driver.
 */
#include "base/alloc.h"
#include "base/check.h"

#include <millrace/ext/memory.h>
#include <millrace/ext/sink.h>

#include <inttypes.h>
#include <string.h>

struct mr_sink {
    struct mr_memory *table;
    char *query_id;
    enum mr_output_mode mode;
    uint64_t batch_id;
    struct mr_batch **batches;
    size_t batch_count;
    size_t batch_capacity;
};

static const struct mr_option memory_options[] = {
    {"table", "queryName", MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Name of the table in memory; the name in CREATE TABLE when unset."},
};

static void memory_abort(struct mr_sink *sink)
{
    for (size_t i = 0; i < sink->batch_count; i++)
        mr_batch_unref(sink->batches[i]);
    sink->batch_count = 0;
}

static void memory_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    memory_abort(sink);
    mr_free(sink->batches);
    mr_free(sink->query_id);
    mr_free(sink);
}

static enum mr_status memory_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                  struct mr_error *err)
{
    const char *name = mr_options_text(args->options, "table");
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink != NULL) {
        sink->table =
            args->user != NULL ? args->user : mr_memory_table(name != NULL ? name : args->name);
        sink->query_id = mr_strdup(args->query_id);
        sink->mode = args->mode;
    }
    if (sink == NULL || sink->table == NULL || sink->query_id == NULL) {
        memory_close(sink);
        return MR_FAIL(err, MR_NOMEM, "cannot open memory sink '%s': out of memory", args->name);
    }
    mr_memory_declare(sink->table, args->schema);
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status memory_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                            struct mr_error *err)
{
    MR_UNUSED(err);
    *ret_batch_id = mr_memory_last_published(sink->table, sink->query_id);
    return MR_OK;
}

static enum mr_status memory_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                   struct mr_error *err)
{
    MR_UNUSED(err);
    memory_abort(sink);
    sink->batch_id = info->batch_id;
    return MR_OK;
}

static enum mr_status memory_write(struct mr_sink *sink, uint32_t partition,
                                   const struct mr_batch *batch, struct mr_error *err)
{
    MR_UNUSED(partition);
    if (sink->batch_count == sink->batch_capacity) {
        size_t capacity = sink->batch_capacity * 2 + 8;
        struct mr_batch **batches =
            mr_realloc(NULL, sink->batches, capacity * sizeof(struct mr_batch *));

        if (batches == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot keep rows in memory: out of memory");
        sink->batches = batches;
        sink->batch_capacity = capacity;
    }
    sink->batches[sink->batch_count++] = mr_batch_ref(batch);
    return MR_OK;
}

static enum mr_status memory_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status memory_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                     struct mr_error *err)
{
    MR_UNUSED(ret_receipt);
    MR_ASSERT(batch_id == sink->batch_id);
    MR_TRY(mr_memory_publish(sink->table, sink->query_id, (int64_t)batch_id,
                             sink->mode == MR_MODE_COMPLETE, sink->batches, sink->batch_count,
                             err));
    memory_abort(sink);
    return MR_OK;
}

static const struct mr_sink_ops memory_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = memory_last_published,
    .begin = memory_begin,
    .write = memory_write,
    .stage = memory_stage,
    .publish = memory_publish,
    .abort = memory_abort,
    .close = memory_close,
};

extern const struct mr_sink_connector mr_sink_memory_connector;
const struct mr_sink_connector mr_sink_memory_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "memory",
    .summary = "Keeps the rows in the process, for tests and programs.",
    .guarantee = MR_EXACTLY_ONCE,
    .options = memory_options,
    .option_count = MR_ARRAY_SIZE(memory_options),
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE,
    .open = memory_open,
    .ops = &memory_ops,
};
