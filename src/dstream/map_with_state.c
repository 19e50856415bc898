/*
 * Building calls of map_with_state and of its snapshots, and their lowering.
 *
 *     pairs --> map_with_state --> mapped rows
 *                     |
 *                     +--> state_snapshots: all (key, state) after each batch
 *
 * Both are folds that fire in every slide; the snapshots come behind and read the same store.
 * Thread: the building one.
 */
#include "dstream/map_with_state.h"

#include "dstream/remember.h"

static const char operation[] = "map_with_state";

/* What the stream keeps until and after lowering. */
struct own {
    struct mr__initial *initial;
    struct mr_schema *state; /* one column */
    int64_t timeout_ms;
    struct map_op *op; /* once lowered; the graph's */
};

static void own_free(void *pointer)
{
    struct own *own = pointer;

    if (own == NULL)
        return;
    mr__initial_free(own->initial);
    mr_schema_unref(own->state);
    mr_free(own);
}

static enum mr_status lower_map(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err)
{
    struct own *own = stream->own;
    struct mr__map_spec spec = {
        .ctx = low->ctx,
        .function = stream->function,
        .initial = own->initial,
        .name = stream->name,
        .partition_count = mr__state_partitions(stream),
        .timeout_us = own->timeout_ms * 1000,
        .checkpoint_us = mr__checkpoint_ms(stream) * 1000,
        .pairs = stream->inputs[0]->schema,
        .state = own->state,
        .mapped = stream->schema,
    };
    struct mr_fold_op fold;

    mr__state_check_name(stream);
    MR_TRY(mr__map_with_state_op(&spec, &fold, &own->op, err));
    MR_TRY(mr__lower_add_fold(low, stream, &stream->inputs[0]->node, 1, &fold, err));
    mr_node_set_slide(stream->node, stream->slide_ms * 1000);
    return MR_OK;
}

/* Takes function and initial. */
static struct mr_dstream *make_stream(struct mr_dstream *pairs, const struct mr_state_spec *spec,
                                      struct mr__function *function, struct own *own)
{
    struct mr_dstream *stream;

    if (!mr__context_keep(pairs->ctx, function)) {
        own_free(own);
        return NULL;
    }
    stream = mr__stream_new(pairs->ctx, lower_map, operation, &pairs, 1);
    if (stream == NULL) {
        own_free(own);
        return NULL;
    }
    stream->function = function;
    stream->own = own;
    stream->own_free = own_free;
    stream->default_checkpoint = MR__CHECKPOINT_TEN_SLIDES;
    if (spec->name != NULL)
        mr_dstream_set_name(stream, spec->name);
    return stream;
}

static enum mr_status check_spec(const struct mr_dstream *pairs, const struct mr_state_spec *spec,
                                 const struct mr_schema *columns, const struct own *own,
                                 struct mr_error *err)
{
    if (spec->timeout_ms < 0)
        return MR_FAIL(err, MR_CONFIG, "cannot use a timeout of %lld ms; 0 is none",
                       (long long)spec->timeout_ms);
    if (own->initial == NULL)
        return MR_OK;
    return mr__initial_check(columns, mr__column_type(pairs->schema, 0),
                             mr__column_type(own->state, 0), err);
}

struct mr_dstream *mr__map_with_state_of(struct mr_dstream *pairs, const struct mr_state_spec *spec,
                                         const struct mr_schema *columns,
                                         struct mr__initial *initial)
{
    struct mr__function *function = NULL;
    struct mr_schema *mapped = NULL;
    struct mr_dstream *stream = NULL;
    struct own *own = NULL;
    struct mr_error err;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, operation) ||
        !mr__needs_pairs(pairs, &spec->function, operation)) {
        mr__initial_free(initial);
        return NULL;
    }
    mr_error_clear(&err);
    own = mr_alloc_zero(NULL, sizeof(*own));
    if (own == NULL) {
        mr__initial_free(initial);
        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__blame(pairs->ctx, &spec->function, operation, &err);
        return NULL;
    }
    own->initial = initial;
    own->timeout_ms = spec->timeout_ms;
    if (mr__compile_state(&pairs->ctx->engines, &spec->function, spec->state_columns, pairs->schema,
                          &function, &own->state, &mapped, &err) != MR_OK) {
        own_free(own);
        mr__blame(pairs->ctx, &spec->function, operation, &err);
        return NULL;
    }
    if (check_spec(pairs, spec, columns, own, &err) != MR_OK)
        mr__blame(pairs->ctx, &spec->function, operation, &err);
    stream = make_stream(pairs, spec, function, own);
    if (stream != NULL)
        stream->schema = mapped;
    else
        mr_schema_unref(mapped);
    return stream;
}

/* ---- snapshots ---- */

static enum mr_status lower_snapshots(struct mr__lowering *low, struct mr_dstream *stream,
                                      struct mr_error *err)
{
    const struct own *own = stream->inputs[0]->own;
    struct mr_fold_op fold;

    MR_TRY(mr__snapshots_op(own->op, &fold, err));
    MR_TRY(mr__lower_add_fold(low, stream, &stream->inputs[0]->node, 1, &fold, err));
    mr_node_set_slide(stream->node, stream->slide_ms * 1000);
    return MR_OK;
}

struct mr_dstream *mr_state_snapshots(struct mr_dstream *mapped)
{
    static const char snapshots[] = "state_snapshots";
    struct mr_dstream *stream;
    struct mr_error err;

    if (mapped == NULL || !mr__context_is_open(mapped->ctx, snapshots))
        return NULL;
    if (mapped->lower != lower_map) {
        MR_FAIL(&err, MR_CONFIG, "cannot take snapshots of '%s'; only map_with_state has states",
                mapped->name);
        mr__context_blame(mapped->ctx, snapshots, &err);
        return NULL;
    }
    stream = mr__stream_new(mapped->ctx, lower_snapshots, snapshots, &mapped, 1);
    if (stream == NULL)
        return NULL;
    struct mr__column_of columns[] = {
        {"key", mr__column_type(mapped->inputs[0]->schema, 0)},
        {"value", mr__column_type(((const struct own *)mapped->own)->state, 0)}};
    if (mr__schema_of(columns, 2, &stream->schema, &err) != MR_OK) {
        mr__context_blame(mapped->ctx, snapshots, &err);
        return NULL;
    }
    return stream;
}
