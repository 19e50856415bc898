/*
 * reduce and count: all elements of a batch to one.
 *
 *     rows --partial, in tasks--> one row a partition --fold--> one row, in one partition
 *
 * reduce of a built-in and count aggregate with the kernels of src/ops; reduce of a function goes
 * in rounds (src/fn/reduce.c). Of a batch without elements reduce gives nothing and count 0; count
 * of a batch without a dataset is an error, as it is built on transform there (5.1).
 *
 * Thread: building in the building one; partials on workers, folds on the driver.
 */
#include "dstream/streams.h"

/* ---- reduce with a function ---- */

struct reduce_op {
    struct mr__function *reduce; /* borrowed from the context */
};

static enum mr_status gather_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                   struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(info);
    *ret_task = mr_alloc_zero(NULL, sizeof(struct mr__batches));
    return *ret_task != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

static void gather_end(void *op, void *task)
{
    MR_UNUSED(op);
    mr__batches_release(task);
    mr_free(task);
}

/* What came so far and one more batch become one row: nothing piles up. */
static enum mr_status reduce_apply(void *pointer, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    struct reduce_op *op = pointer;
    struct mr__batches *rows = task;
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr_batch *reduced = NULL;
    enum mr_status status;

    MR_UNUSED(out);
    MR_TRY(mr__batches_add(rows, batch, err));
    MR_TRY(mr__reduce_all(op->reduce, when, rows->items, rows->count, &reduced, err));
    mr__batches_release(rows);
    if (reduced == NULL)
        return MR_OK;
    status = mr__batches_add(rows, reduced, err);
    mr_batch_unref(reduced);
    return status;
}

static enum mr_status reduce_finish(void *op, void *task, const struct mr_batch_info *info,
                                    struct mr_output *out, struct mr_error *err)
{
    const struct mr__batches *rows = task;

    MR_UNUSED(op);
    MR_UNUSED(info);
    return rows->count > 0 ? mr_output_emit(out, rows->items[0], err) : MR_OK;
}

static enum mr_status reduce_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct reduce_op *op = pointer;
    struct mr__when when = {call->info->worker, call->info->batch_time_us};
    const struct mr_fold_input *input = &call->inputs[0];
    struct mr_batch *reduced = NULL;
    enum mr_status status;

    MR_TRY(mr__reduce_all(op->reduce, when, input->batches, input->batch_count, &reduced, err));
    status = reduced != NULL ? mr_output_emit(call->out, reduced, err) : MR_OK;
    mr_batch_unref(reduced);
    return status;
}

static void reduce_free(void *op)
{
    mr_free(op);
}

static const struct mr_map_ops partial_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "reduce partial",
    .begin = gather_begin,
    .apply = reduce_apply,
    .finish = reduce_finish,
    .end = gather_end,
    .free = reduce_free,
};

static const struct mr_fold_ops reduce_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "reduce",
    .run = reduce_run,
    .free = reduce_free,
};

static struct reduce_op *reduce_new(const struct mr_dstream *stream)
{
    struct reduce_op *op = mr_alloc_zero(NULL, sizeof(*op));

    if (op != NULL)
        op->reduce = stream->function;
    return op;
}

static enum mr_status lower_reduce(struct mr__lowering *low, struct mr_dstream *stream,
                                   struct mr_error *err)
{
    struct mr_map_op map = {&partial_ops, reduce_new(stream), NULL};
    struct mr_fold_op fold = {&reduce_ops, reduce_new(stream), NULL};
    struct mr_node *partial;
    enum mr_status status;

    if (map.op == NULL || fold.op == NULL) {
        mr_free(map.op);
        mr_free(fold.op);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    status = mr__lower_add_map(low, stream, "partial", stream->schema, &map, &partial, err);
    if (status != MR_OK) {
        mr_free(fold.op);
        return status;
    }
    return mr__lower_add_fold(low, stream, &partial, 1, &fold, err);
}

/* ---- kernels of src/ops ---- */

struct merge_op {
    struct mr_agg_layout *layout;
    bool counts; /* nothing is 0 */
};

static void merge_free(void *pointer)
{
    struct merge_op *op = pointer;

    if (op != NULL)
        mr_agg_layout_free(op->layout);
    mr_free(op);
}

static enum mr_status emit_merged(const struct merge_op *op, const struct mr_buf *merged,
                                  struct mr_output *out, struct mr_error *err)
{
    struct mr_slice none = {"", 0}, buffers = {merged->data, merged->size};
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(mr_agg_layout_output(op->layout), &builder, err));
    if (merged->size == 0) {
        mr_batch_builder_int(builder, 0, 0);
        mr_batch_builder_end_row(builder);
    } else {
        MR_TRY_GOTO(mr_agg_emit(op->layout, none, buffers, builder, err));
    }
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &result, err));
    status = mr_output_emit(out, result, err);
done:
    mr_batch_unref(result);
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status merge_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    const struct merge_op *op = pointer;
    const struct mr_fold_input *input = &call->inputs[0];
    struct mr_buf merged = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < input->batch_count; i++) {
        const struct mr_column *values = mr_batch_column(input->batches[i], 1);
        for (int64_t row = 0; row < values->length; row++) {
            struct mr_slice value = mr_column_text(values, row);
            MR_TRY_GOTO(mr_agg_merge(op->layout, &merged, value.data, value.size_bytes, err));
        }
    }
    if (merged.size > 0 || op->counts)
        status = emit_merged(op, &merged, call->out, err);
done:
    mr_buf_release(&merged);
    return status;
}

static const struct mr_fold_ops merge_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "reduce built-in",
    .run = merge_run,
    .free = merge_free,
};

/* Borrows agg and the stream. */
static struct mr_aggregate_spec whole_spec(const struct mr_dstream *stream, struct mr_agg *agg)
{
    *agg = (struct mr_agg){.kind = stream->agg, .column = 0, .name = "value"};
    return (struct mr_aggregate_spec){
        .input = stream->inputs[0]->schema,
        .aggs = agg,
        .agg_count = 1,
        .mode = MR_MODE_UPDATE,
        .state_name = stream->name,
        .event_time_key = -1,
    };
}

static enum mr_status lower_merge(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_error *err)
{
    struct mr_agg agg;
    struct mr_aggregate_spec spec = whole_spec(stream, &agg);
    struct merge_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_fold_op fold = {&merge_ops, op, NULL};
    struct mr_node *partial;
    struct mr_map_op map = {0};
    enum mr_status status;

    if (op == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    op->counts = stream->count_values;
    MR_TRY_GOTO(mr_agg_layout_new(&spec, &op->layout, err));
    MR_TRY_GOTO(mr_op_aggregate_partial(&spec, &map, err));
    MR_TRY_GOTO(mr__lower_add_map(low, stream, "partial", map.schema, &map, &partial, err));
    op = NULL; /* the graph takes it */
    status = mr__lower_add_fold(low, stream, &partial, 1, &fold, err);
    if (status == MR_OK && stream->count_values)
        mr__lower_require_all(stream);
done:
    mr_schema_unref(map.schema);
    merge_free(op);
    return status;
}

static struct mr_dstream *build_merge(struct mr_dstream *input, const struct mr_fn *fn,
                                      const char *operation, enum mr_agg_kind kind)
{
    struct mr_dstream *stream = mr__stream_new(input->ctx, lower_merge, operation, &input, 1);
    struct mr_aggregate_spec spec;
    struct mr_agg_layout *layout;
    struct mr_agg agg;
    struct mr_error err;

    if (stream == NULL)
        return NULL;
    stream->agg = kind;
    stream->count_values = fn->kind == MR_FN_KIND_NONE;
    spec = whole_spec(stream, &agg);
    mr_error_clear(&err);
    if (mr_agg_layout_new(&spec, &layout, &err) != MR_OK) {
        mr__blame(input->ctx, fn, operation, &err);
        return NULL;
    }
    stream->schema = mr_schema_ref(mr_agg_layout_output(layout));
    mr_agg_layout_free(layout);
    return stream;
}

/* ---- building ---- */

static enum mr_status compile_reduce(struct mr__engines *engines, const char *operation,
                                     const struct mr_fn *fn, const struct mr_schema *input,
                                     struct mr__function **ret_function, struct mr_error *err)
{
    return mr__compile_reduce_of(engines, operation, fn, mr__column_type(input, 0), ret_function,
                                 err);
}

struct mr_dstream *mr_reduce(struct mr_dstream *stream, struct mr_fn reduce)
{
    enum mr_agg_kind agg;
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "reduce"))
        return NULL;
    if (mr_schema_field_count(stream->schema) != 1) {
        MR_FAIL(&err, MR_CONFIG,
                "the elements have %u columns; map them to one first (a STRUCT for several)",
                mr_schema_field_count(stream->schema));
        mr__blame(stream->ctx, &reduce, "reduce", &err);
        return NULL;
    }
    if (mr__kernel_of(&reduce, mr__column_type(stream->schema, 0), &agg))
        return build_merge(stream, &reduce, "reduce", agg);
    return mr__build_mapped(stream, "reduce", &reduce, compile_reduce, lower_reduce);
}

struct mr_dstream *mr_count(struct mr_dstream *stream)
{
    const struct mr_fn none = {.kind = MR_FN_KIND_NONE};

    if (stream == NULL || !mr__context_is_open(stream->ctx, "count"))
        return NULL;
    return build_merge(stream, &none, "count", MR_AGG_COUNT_ALL);
}
