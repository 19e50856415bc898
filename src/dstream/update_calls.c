/*
 * Building calls of update_state_by_key, and its lowering: one fold that fires in every slide,
 * whether its input has a dataset or not (UPD-3).
 *
 * Thread: the building one.
 */
#include "dstream/update.h"

static const char operation[] = "update_state_by_key";

static enum mr_status lower_update(struct mr__lowering *low, struct mr_dstream *stream,
                                   struct mr_error *err)
{
    struct mr__update_spec spec = {
        .update = stream->function,
        .initial = stream->own,
        .name = stream->name,
        .partition_count = mr__state_partitions(stream),
        .pairs = stream->inputs[0]->schema,
        .output = stream->schema,
    };
    struct mr_fold_op fold;

    mr__state_check_name(stream);
    /* A function of all keys may make other keys: it sees all of them, unless told otherwise. */
    if (stream->function->fn.kind == MR_FN_KIND_UPDATE_ALL && stream->partition_count == 0)
        spec.partition_count = 1;
    MR_TRY(mr__update_op(&spec, &fold, err));
    MR_TRY(mr__lower_add_fold(low, stream, &stream->inputs[0]->node, 1, &fold, err));
    mr_node_set_slide(stream->node, stream->slide_ms * 1000);
    return MR_OK;
}

static void free_initial(void *own)
{
    mr__initial_free(own);
}

/* The state's type in the stream's columns. */
static const struct mr_type *state_type(const struct mr__function *function)
{
    return mr__column_type(function->output, function->fn.kind == MR_FN_KIND_UPDATE_ALL ? 1 : 0);
}

static struct mr_dstream *update_stream(struct mr_dstream *pairs, const char *name,
                                        const struct mr_fn *update)
{
    struct mr__function *function;
    struct mr_dstream *stream;
    struct mr_error err;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, operation) ||
        !mr__needs_pairs(pairs, update, operation))
        return NULL;
    mr_error_clear(&err);
    if (mr__compile_update(&pairs->ctx->engines, update, pairs->schema, &function, &err) != MR_OK) {
        mr__blame(pairs->ctx, update, operation, &err);
        return NULL;
    }
    if (!mr__context_keep(pairs->ctx, function))
        return NULL;
    stream = mr__stream_new(pairs->ctx, lower_update, operation, &pairs, 1);
    if (stream == NULL)
        return NULL;
    stream->function = function;
    stream->default_checkpoint = MR__CHECKPOINT_TEN_SECONDS;
    struct mr__column_of columns[] = {{"key", mr__column_type(pairs->schema, 0)},
                                      {"value", state_type(function)}};
    if (mr__schema_of(columns, 2, &stream->schema, &err) != MR_OK) {
        mr__blame(pairs->ctx, update, operation, &err);
        return NULL;
    }
    if (name != NULL)
        mr_dstream_set_name(stream, name);
    return stream;
}

struct mr_dstream *mr_update_state_by_key(struct mr_dstream *pairs, const char *name,
                                          struct mr_fn update)
{
    return update_stream(pairs, name, &update);
}

struct mr_dstream *mr__update_state_by_key_of(struct mr_dstream *pairs, const char *name,
                                              struct mr_fn update, const struct mr_schema *columns,
                                              struct mr__initial *initial)
{
    struct mr_dstream *stream = update_stream(pairs, name, &update);
    struct mr_error err;

    if (stream == NULL) {
        mr__initial_free(initial);
        return NULL;
    }
    stream->own = initial;
    stream->own_free = free_initial;
    if (initial == NULL)
        MR_FAIL(&err, MR_NOMEM, "out of memory");
    else if (mr__initial_check(columns, mr__column_type(stream->schema, 0),
                               mr__column_type(stream->schema, 1), &err) == MR_OK)
        return stream;
    mr__blame(stream->ctx, &update, operation, &err);
    return NULL;
}
