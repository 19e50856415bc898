/*
 * Building and lowering of a native window of sums.
 *
 *     pairs --> maps: partial sums (src/ops), by shard (sum_split.c) --> fold: window_sum_op.c
 *
 * Thread: building in the building one, lowering in the starting one.
 */
#include "dstream/window_sums.h"

#include <stdio.h>

static bool agg_of(const struct mr_fn *fn, enum mr_agg_kind *ret_agg)
{
    if (fn->kind != MR_FN_KIND_BUILTIN)
        return false;
    *ret_agg = fn->builtin == MR_BUILTIN_COUNT ? MR_AGG_COUNT_ALL : MR_AGG_SUM;
    return fn->builtin == MR_BUILTIN_COUNT || fn->builtin == MR_BUILTIN_SUM;
}

static void spec_of(const struct mr_schema *pairs, enum mr_agg_kind agg,
                    struct mr__agg_names *names, struct mr_aggregate_spec *ret_spec)
{
    names->key = 0;
    names->key_name = "key";
    names->agg = (struct mr_agg){.kind = agg, .column = 1, .name = "value"};
    *ret_spec = (struct mr_aggregate_spec){
        .input = pairs,
        .keys = &names->key,
        .key_names = &names->key_name,
        .key_count = 1,
        .aggs = &names->agg,
        .agg_count = 1,
        .mode = MR_MODE_UPDATE,
        .event_time_key = -1,
    };
}

/* The columns of the result; NULL when the kernels of src/ops do not do it. Returns new. */
static struct mr_schema *result_of(const struct mr_schema *pairs, enum mr_agg_kind agg)
{
    struct mr_aggregate_spec spec;
    struct mr__agg_names names;
    struct mr_agg_layout *layout;
    struct mr_schema *result = NULL;

    spec_of(pairs, agg, &names, &spec);
    spec.state_name = "";
    if (mr_agg_layout_new(&spec, &layout, NULL) != MR_OK)
        return NULL;
    if (mr__column_type(layout->output, 1)->id == MR_TYPE_INT64)
        result = mr_schema_ref(layout->output);
    mr_agg_layout_free(layout);
    return result;
}

bool mr__has_sum_window(const struct mr_dstream *pairs, const struct mr_fn *reduce,
                        const struct mr_fn *inverse)
{
    enum mr_agg_kind agg;
    struct mr_schema *result;

    if (!agg_of(reduce, &agg) || inverse->kind != MR_FN_KIND_BUILTIN ||
        inverse->builtin != reduce->builtin || !mr__is_pairs(pairs->schema))
        return false;
    result = result_of(pairs->schema, agg);
    mr_schema_unref(result);
    return result != NULL;
}

/* Behind *node, and becomes it. */
static enum mr_status add_split(struct mr__lowering *low, const struct mr_dstream *stream,
                                struct mr_map_op *map, struct mr_node **node, struct mr_error *err)
{
    char name[2 * MR_STATE_NAME_BYTES_MAX];
    enum mr_status status;

    snprintf(name, sizeof(name), "%s.split", stream->name);
    status = mr_graph_map(low->graph, name, node, 1, map->schema, map->ops, map->op, node, err);
    mr_schema_unref(map->schema);
    return status;
}

static enum mr_status lower_sum_window(struct mr__lowering *low, struct mr_dstream *stream,
                                       struct mr_error *err)
{
    struct mr_aggregate_spec spec;
    struct mr__agg_names names;
    struct mr_store *const *values;
    struct mr_node *node;
    struct mr_map_op map;
    struct mr_fold_op fold;
    struct mr__sum_window window = {
        .window = {.ctx = low->ctx,
                   .name = stream->name,
                   .size_us = stream->window_ms * 1000,
                   .slide_us = stream->slide_ms * 1000,
                   .partition_count = mr__partition_count(low, stream)},
        .input_slide_us = stream->inputs[0]->slide_ms * 1000,
        .pairs = stream->schema,
        .filter = stream->filter,
    };
    enum mr_status status;

    spec_of(stream->inputs[0]->schema, stream->agg, &names, &spec);
    spec.state_name = stream->name;
    MR_TRY(mr_op_aggregate_partial(&spec, &map, err));
    status = mr__lower_add_map(low, stream, "partial", map.schema, &map, &node, err);
    mr_schema_unref(map.schema);
    MR_TRY(status);
    MR_TRY(mr__sum_window_op(&window, &fold, &values, err));
    status = mr__sum_split_op(&spec, values, &map, err);
    if (status == MR_OK)
        status = add_split(low, stream, &map, &node, err);
    if (status != MR_OK) {
        fold.ops->free(fold.op);
        return status;
    }
    MR_TRY(mr__lower_add_fold(low, stream, &node, 1, &fold, err));
    mr_node_set_slide(stream->node, window.window.slide_us);
    return MR_OK;
}

struct mr_dstream *mr__sum_window(struct mr_dstream *pairs, const struct mr_fn *reduce,
                                  int64_t window_ms, int64_t slide_ms)
{
    struct mr_dstream *stream =
        mr__stream_new(pairs->ctx, lower_sum_window, "reduce_by_key_and_window", &pairs, 1);

    if (stream == NULL)
        return NULL;
    agg_of(reduce, &stream->agg);
    stream->schema = result_of(pairs->schema, stream->agg);
    if (stream->schema == NULL) {
        struct mr_error err;

        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__context_blame(pairs->ctx, "reduce_by_key_and_window", &err);
        return NULL;
    }
    stream->window_ms = window_ms;
    stream->slide_ms = slide_ms;
    stream->default_checkpoint = MR__CHECKPOINT_TEN_SECONDS;
    return stream;
}
