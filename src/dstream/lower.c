/*
 * Lowering: what the outputs need becomes a graph of the kernel, in the order in which the program
 * built it.
 *
 *     stream                      nodes of the kernel
 *     source                      source
 *     map, flat_map, filter       map
 *     reduce_by_key               map (partial, in tasks) -> map (exchange) -> fold
 *     joins, group_by_key         map (exchange), one an input -> fold
 *     window, update ...          fold
 *     output                      sink, in registration order (OUT-6)
 *
 * Streams that no output needs are left out.  Thread: the starting one.
 */
#include "dstream/exchange.h"
#include "dstream/remember.h"

#include <stdio.h>

static void want(struct mr_dstream *stream)
{
    if (stream == NULL || stream->wanted)
        return;
    stream->wanted = true;
    for (size_t i = 0; i < stream->input_count; i++)
        want(stream->inputs[i]);
}

enum mr_status mr__lower_source(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err)
{
    struct mr_source_spec spec = {
        .name = stream->name,
        .connector = stream->source.connector,
        .options = stream->source.options,
        .declared = stream->source.declared,
        .schema = stream->schema,
        .format = stream->source.format,
        .on_error = stream->source.on_error,
        .user = stream->source.is_own ? stream : stream->source.user,
        .level = stream->storage,
    };

    stream->source.options = NULL; /* the graph takes them */
    return mr_graph_source(low->graph, &spec, &stream->node, err);
}

enum mr_status mr__lower_map(struct mr__lowering *low, struct mr_dstream *stream,
                             struct mr_error *err)
{
    bool is_flat = !stream->one_to_one;
    struct mr_map_op op;

    MR_TRY(mr__map_op(stream->function, is_flat, &op, err));
    return mr_graph_map(low->graph, stream->name, &stream->inputs[0]->node, 1, stream->schema,
                        op.ops, op.op, &stream->node, err);
}

enum mr_status mr__lower_add_map(struct mr__lowering *low, struct mr_dstream *stream,
                                 const char *part, const struct mr_schema *schema,
                                 const struct mr_map_op *op, struct mr_node **ret_node,
                                 struct mr_error *err)
{
    char name[2 * MR_STATE_NAME_BYTES_MAX];

    snprintf(name, sizeof(name), "%s%s%s", stream->name, part != NULL ? "." : "",
             part != NULL ? part : "");
    MR_TRY(mr_graph_map(low->graph, name, &stream->inputs[0]->node, 1, schema, op->ops, op->op,
                        ret_node, err));
    if (part == NULL)
        stream->node = *ret_node;
    return MR_OK;
}

enum mr_status mr__lower_add_fold(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_node *const *inputs, size_t input_count,
                                  const struct mr_fold_op *op, struct mr_error *err)
{
    return mr_graph_fold(low->graph, stream->name, inputs, input_count, stream->schema, op->ops,
                         op->op, &stream->node, err);
}

enum mr_status mr__lower_reduce(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err)
{
    uint32_t partitions = mr__partition_count(low, stream);
    struct mr_node *partial, *exchanged;
    struct mr_map_op map;
    struct mr_fold_op fold;

    MR_TRY(mr__reduce_partial_op(stream->function, stream->schema, &map, err));
    MR_TRY(mr__lower_add_map(low, stream, "partial", stream->schema, &map, &partial, err));
    MR_TRY(mr__exchange_add(low, stream, "exchange", (struct mr__exchange){partitions, false},
                            partial, &exchanged, err));
    MR_TRY(mr__reduce_fold_op(stream->function, stream->schema, partitions, &fold, err));
    return mr__lower_add_fold(low, stream, &exchanged, 1, &fold, err);
}

enum mr_status mr__lower_reduce_builtin(struct mr__lowering *low, struct mr_dstream *stream,
                                        struct mr_error *err)
{
    uint32_t partitions = mr__partition_count(low, stream);
    struct mr_aggregate_spec spec;
    struct mr__agg_names names;
    struct mr_node *partial, *exchanged;
    struct mr_map_op map;
    struct mr_fold_op fold;
    enum mr_status status;

    mr__aggregate_spec(stream, &names, &spec);
    MR_TRY(mr_op_aggregate_partial(&spec, &map, err));
    status = mr__lower_add_map(low, stream, "partial", map.schema, &map, &partial, err);
    if (status == MR_OK)
        status = mr__exchange_add(low, stream, "exchange", (struct mr__exchange){partitions, true},
                                  partial, &exchanged, err);
    if (status == MR_OK)
        status = mr__builtin_fold_op(&spec, map.schema, stream->schema, partitions, &fold, err);
    mr_schema_unref(map.schema);
    MR_TRY(status);
    return mr__lower_add_fold(low, stream, &exchanged, 1, &fold, err);
}

void mr__lower_require_all(struct mr_dstream *stream)
{
    mr_node_set_slide(stream->node, stream->slide_ms * 1000);
    mr_node_require_all(stream->node);
}

uint32_t mr__partition_count(const struct mr__lowering *low, const struct mr_dstream *stream)
{
    return stream->partition_count > 0 ? stream->partition_count : low->ctx->partition_count;
}

static struct mr__window window_of(const struct mr__lowering *low, const struct mr_dstream *stream)
{
    return (struct mr__window){
        .ctx = low->ctx,
        .name = stream->name,
        .size_us = stream->window_ms * 1000,
        .slide_us = stream->slide_ms * 1000,
        .partition_count = mr__partition_count(low, stream),
    };
}

enum mr_status mr__lower_window(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err)
{
    struct mr__window window = window_of(low, stream);
    struct mr_fold_op fold;

    MR_TRY(mr__window_op(&window, stream->inputs[0]->schema, &fold, err));
    MR_TRY(mr__lower_add_fold(low, stream, &stream->inputs[0]->node, 1, &fold, err));
    mr_node_set_slide(stream->node, window.slide_us);
    return MR_OK;
}

enum mr_status mr__lower_inverse(struct mr__lowering *low, struct mr_dstream *stream,
                                 struct mr_error *err)
{
    struct mr__window window = window_of(low, stream);
    struct mr_fold_op fold;

    MR_TRY(mr__inverse_op(&window, stream->inputs[0]->schema, stream->function, stream->inverse,
                          stream->filter, &fold, err));
    MR_TRY(mr__lower_add_fold(low, stream, &stream->inputs[0]->node, 1, &fold, err));
    mr_node_set_slide(stream->node, window.slide_us);
    return MR_OK;
}

static enum mr_status lower_output(struct mr__lowering *low, struct mr__output *output,
                                   struct mr_error *err)
{
    struct mr_sink_spec spec = {
        .name = output->name,
        .connector = output->connector,
        .mode = MR_MODE_APPEND,
        .user = output,
    };

    return mr_graph_sink(low->graph, &spec, &output->stream->node, 1, err);
}

enum mr_status mr__lower(struct mr_context *ctx, struct mr_graph **ret_graph, struct mr_error *err)
{
    struct mr__lowering low = {ctx, mr_graph_new()};
    enum mr_status status = MR_OK;

    if (low.graph == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    for (size_t i = 0; i < ctx->output_count; i++)
        want(ctx->outputs[i]->stream);
    MR_TRY_GOTO(mr__remember_plan(ctx, err));
    for (size_t i = 0; i < ctx->stream_count; i++) {
        struct mr_dstream *stream = ctx->streams[i];

        if (!stream->wanted)
            continue;
        /* Whatever goes wrong from here on is told with the stream's name. */
        if (stream->function != NULL)
            MR_TRY_GOTO(mr__function_set_name(stream->function, stream->name, err));
        MR_TRY_GOTO(stream->lower(&low, stream, err));
    }
    MR_TRY_GOTO(mr__remember_lower(&low, err));
    for (size_t i = 0; i < ctx->output_count; i++)
        MR_TRY_GOTO(lower_output(&low, ctx->outputs[i], err));
    *ret_graph = low.graph;
    low.graph = NULL;
done:
    mr_graph_free(low.graph);
    return status;
}
