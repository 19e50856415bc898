/*
 * union: the rows of the first stream, then those of the second, and so on.
 *
 *     tasks of a, tasks of b ...    --map, several inputs--> the same tasks go on     no barrier
 *     tasks that a and b share      --fold--> all of a, then all of b                 one partition
 *
 * Partitions of the result are those of the inputs in order, and most unions only put tasks side by
 * side. Where that would give another order, because both inputs come out of the same tasks
 * (s.union(s.map(f))) or the first is computed later than the second, a fold puts them in order.
 *
 * A batch in which an input has no dataset is an error (4.1), also when none has one.
 *
 * Thread: building in the building one; the map on workers, the fold on the driver.
 */
#include "dstream/streams.h"

static enum mr_status pass_on(void *op, void *task, const struct mr_batch_info *info,
                              const struct mr_batch *batch, struct mr_output *out,
                              struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(task);
    MR_UNUSED(info);
    return mr_output_emit(out, batch, err);
}

static const struct mr_map_ops side_by_side_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "union",
    .apply = pass_on,
};

static enum mr_status in_order_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    MR_UNUSED(op);
    for (size_t i = 0; i < call->input_count; i++) {
        const struct mr_fold_input *input = &call->inputs[i];
        for (size_t k = 0; k < input->batch_count; k++)
            MR_TRY(mr_output_emit(call->out, input->batches[k], err));
    }
    return MR_OK;
}

static const struct mr_fold_ops in_order_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "union",
    .run = in_order_run,
};

static enum mr_status lower_nodes(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_node *const *inputs, struct mr_error *err)
{
    struct mr_fold_op fold = {&in_order_ops, NULL, NULL};

    if (!mr_nodes_in_order(inputs, stream->input_count))
        return mr__lower_add_fold(low, stream, inputs, stream->input_count, &fold, err);
    return mr_graph_map(low->graph, stream->name, inputs, stream->input_count, stream->schema,
                        &side_by_side_ops, NULL, &stream->node, err);
}

static enum mr_status lower_union(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_error *err)
{
    struct mr_node **inputs = mr_alloc(NULL, stream->input_count * sizeof(struct mr_node *));
    enum mr_status status;

    if (inputs == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    for (size_t i = 0; i < stream->input_count; i++)
        inputs[i] = stream->inputs[i]->node;
    status = lower_nodes(low, stream, inputs, err);
    mr_free(inputs);
    if (status == MR_OK)
        mr__lower_require_all(stream);
    return status;
}

static bool have_equal_columns(struct mr_dstream *const *streams, size_t count)
{
    struct mr_error err;
    size_t i = 1;
    char *first, *other;

    while (i < count && mr_schema_equal(streams[0]->schema, streams[i]->schema))
        i++;
    if (i == count)
        return true;
    first = mr_schema_print(streams[0]->schema);
    other = mr_schema_print(streams[i]->schema);
    MR_FAIL(&err, MR_CONFIG,
            "the streams have different columns ('%s' and '%s'); map one to the other's",
            first != NULL ? first : "", other != NULL ? other : "");
    mr_text_free(first);
    mr_text_free(other);
    return mr__context_blame(streams[0]->ctx, "union", &err);
}

struct mr_dstream *mr_union_all(struct mr_dstream *const *streams, size_t stream_count)
{
    const struct mr_fn none = {.kind = MR_FN_KIND_NONE};
    struct mr_dstream *stream;

    if (stream_count == 0)
        return NULL;
    for (size_t i = 0; i < stream_count; i++) {
        if (streams[i] == NULL)
            return NULL;
    }
    if (!mr__context_is_open(streams[0]->ctx, "union") ||
        !mr__go_together(streams, stream_count, &none, "union") ||
        !have_equal_columns(streams, stream_count))
        return NULL;
    stream = mr__stream_new(streams[0]->ctx, lower_union, "union", streams, stream_count);
    if (stream != NULL)
        stream->schema = mr_schema_ref(streams[0]->schema);
    return stream;
}

struct mr_dstream *mr_union(struct mr_dstream *a, struct mr_dstream *b)
{
    return mr_union_all((struct mr_dstream *const[]){a, b}, 2);
}
