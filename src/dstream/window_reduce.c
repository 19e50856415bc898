/*
 * Building calls of windows whose result is made of others:
 *
 *     reduce_by_window           (1, value) -> reduce_by_key_and_window -> value   WIN-6, WIN-7
 *     count_by_window            (1, rows of a part) -> the same with sums         WIN-8
 *     count_by_value_and_window  (value, 1) -> the same; values with 0 go          WIN-10
 *
 * The constant key makes one entry of state out of a whole window. Before any element was seen
 * there is no entry, so nothing comes out; afterwards an empty window counts 0 (WIN-8).
 *
 * Thread: building in the building one; the two map operators on workers, immutable.
 */
#include "dstream/streams.h"

#include "data/batch_internal.h"

/* ---- columns of ones ---- */

enum keyed_kind {
    KEYED_VALUE, /* (1, value) */
    KEYED_COUNT, /* (1, number of rows), one row a batch */
    KEYED_ONE,   /* (value, 1) */
};

struct keyed_op {
    struct mr_schema *output;
    enum keyed_kind kind;
};

static void keyed_free(void *op)
{
    struct keyed_op *keyed = op;

    if (keyed != NULL)
        mr_schema_unref(keyed->output);
    mr_free(keyed);
}

static enum mr_status keyed_new(const struct mr_schema *output, enum keyed_kind kind,
                                const struct mr_map_ops *ops, struct mr_map_op *ret_op,
                                struct mr_error *err)
{
    struct keyed_op *keyed = mr_alloc_zero(NULL, sizeof(*keyed));

    if (keyed == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    keyed->output = mr_schema_ref(output);
    keyed->kind = kind;
    *ret_op = (struct mr_map_op){ops, keyed, NULL};
    return MR_OK;
}

/* One row: (1, rows). */
static enum mr_status count_rows(const struct keyed_op *keyed, const struct mr_batch *batch,
                                 struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr_batch_builder *builder;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(keyed->output, &builder, err));
    mr_batch_builder_int(builder, 0, 1);
    mr_batch_builder_int(builder, 1, mr_batch_row_count(batch));
    mr_batch_builder_end_row(builder);
    status = mr_batch_builder_finish(builder, ret_batch, err);
    mr_batch_builder_free(builder);
    return status;
}

struct with_ones {
    struct mr_batch *batch; /* owns the value column */
    int64_t *ones;
};

static void with_ones_free(void *owner)
{
    struct with_ones *with_ones = owner;

    mr_batch_unref(with_ones->batch);
    mr_free(with_ones->ones);
    mr_free(with_ones);
}

/* (1, value) or (value, 1) for each row; the column of values is shared. */
static enum mr_status add_ones(const struct keyed_op *keyed, const struct mr_batch *batch,
                               struct mr_batch **ret_batch, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);
    struct with_ones *with_ones = mr_alloc_zero(NULL, sizeof(*with_ones));
    uint32_t one = keyed->kind == KEYED_ONE ? 1 : 0;
    struct mr_column columns[2];

    if (with_ones != NULL)
        with_ones->ones = mr_alloc_aligned(NULL, ((size_t)rows + 1) * sizeof(int64_t));
    if (with_ones == NULL || with_ones->ones == NULL) {
        mr_free(with_ones);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    with_ones->batch = mr_batch_ref(batch);
    for (int64_t i = 0; i < rows; i++)
        with_ones->ones[i] = 1;
    columns[one] = (struct mr_column){
        .type = mr__column_type(keyed->output, one),
        .length = rows,
        .values = with_ones->ones,
    };
    columns[1 - one] = *mr_batch_column(batch, 0);
    return mr_batch_wrap(keyed->output, columns, rows, with_ones, with_ones_free, ret_batch, err);
}

static enum mr_status keyed_apply(void *op, void *task, const struct mr_batch_info *info,
                                  const struct mr_batch *batch, struct mr_output *out,
                                  struct mr_error *err)
{
    const struct keyed_op *keyed = op;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_UNUSED(task);
    MR_UNUSED(info);
    if (mr_batch_row_count(batch) == 0)
        return MR_OK;
    MR_TRY((keyed->kind == KEYED_COUNT ? count_rows : add_ones)(keyed, batch, &result, err));
    status = mr_output_emit(out, result, err);
    mr_batch_unref(result);
    return status;
}

static const struct mr_map_ops keyed_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "with a constant",
    .apply = keyed_apply,
    .free = keyed_free,
};

/* The value of each pair; its column is shared. */
static enum mr_status values_apply(void *op, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    const struct keyed_op *keyed = op;
    const uint32_t value = 1;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_UNUSED(task);
    MR_UNUSED(info);
    MR_TRY(mr_batch_select(batch, keyed->output, &value, &result, err));
    status = mr_output_emit(out, result, err);
    mr_batch_unref(result);
    return status;
}

static const struct mr_map_ops values_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "values",
    .apply = values_apply,
    .free = keyed_free,
};

static enum mr_status lower_with(struct mr__lowering *low, struct mr_dstream *stream,
                                 const struct mr_map_ops *ops, enum keyed_kind kind,
                                 struct mr_error *err)
{
    struct mr_node *node;
    struct mr_map_op op;

    MR_TRY(keyed_new(stream->schema, kind, ops, &op, err));
    return mr__lower_add_map(low, stream, NULL, stream->schema, &op, &node, err);
}

static enum mr_status lower_keyed(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_error *err)
{
    return lower_with(low, stream, &keyed_ops, KEYED_VALUE, err);
}

static enum mr_status lower_counted(struct mr__lowering *low, struct mr_dstream *stream,
                                    struct mr_error *err)
{
    return lower_with(low, stream, &keyed_ops, KEYED_COUNT, err);
}

static enum mr_status lower_paired(struct mr__lowering *low, struct mr_dstream *stream,
                                   struct mr_error *err)
{
    return lower_with(low, stream, &keyed_ops, KEYED_ONE, err);
}

static enum mr_status lower_values(struct mr__lowering *low, struct mr_dstream *stream,
                                   struct mr_error *err)
{
    return lower_with(low, stream, &values_ops, KEYED_VALUE, err);
}

/* ---- building ---- */

static struct mr_dstream *stream_of(struct mr_dstream *input, const char *operation,
                                    mr__lower_fn lower, const struct mr__column_of *columns,
                                    uint32_t column_count)
{
    struct mr_dstream *stream = mr__stream_new(input->ctx, lower, operation, &input, 1);
    struct mr_error err;

    if (stream == NULL)
        return NULL;
    if (mr__schema_of(columns, column_count, &stream->schema, &err) == MR_OK)
        return stream;
    mr__context_blame(input->ctx, operation, &err);
    return NULL;
}

/* Pairs under one key, windowed, without the key again. */
static struct mr_dstream *over_window(struct mr_dstream *keyed, const char *operation,
                                      const struct mr_fn *reduce, const struct mr_fn *inverse,
                                      int64_t window_ms, int64_t slide_ms)
{
    struct mr_dstream *reduced, *result;

    if (keyed == NULL)
        return NULL;
    reduced = mr_reduce_by_key_and_window(keyed, *reduce, *inverse, window_ms, slide_ms, MR_NO_FN);
    if (reduced == NULL)
        return NULL;
    struct mr__column_of value = {"value", mr__column_type(reduced->schema, 1)};
    result = stream_of(reduced, operation, lower_values, &value, 1);
    if (result != NULL)
        result->named = reduced->named;
    return result;
}

struct mr_dstream *mr_count_by_window(struct mr_dstream *stream, int64_t window_ms,
                                      int64_t slide_ms)
{
    const struct mr__column_of columns[] = {{"key", &mr__bigint}, {"value", &mr__bigint}};
    const struct mr_fn sum = MR_SUM;
    struct mr_dstream *keyed;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "count_by_window"))
        return NULL;
    keyed = stream_of(stream, "count_by_window.batch", lower_counted, columns, 2);
    return over_window(keyed, "count_by_window", &sum, &sum, window_ms, slide_ms);
}

struct mr_dstream *mr_reduce_by_window(struct mr_dstream *stream, struct mr_fn reduce,
                                       struct mr_fn inverse, int64_t window_ms, int64_t slide_ms)
{
    static const char operation[] = "reduce_by_window";
    struct mr_dstream *keyed;
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, operation))
        return NULL;
    if (mr_schema_field_count(stream->schema) != 1) {
        MR_FAIL(&err, MR_CONFIG,
                "the elements have %u columns; map them to the one to reduce first",
                mr_schema_field_count(stream->schema));
        mr__blame(stream->ctx, &reduce, operation, &err);
        return NULL;
    }
    struct mr__column_of columns[] = {{"key", &mr__bigint},
                                      {"value", mr__column_type(stream->schema, 0)}};
    keyed = stream_of(stream, "reduce_by_window.batch", lower_keyed, columns, 2);
    return over_window(keyed, operation, &reduce, &inverse, window_ms, slide_ms);
}

/* The filter of counts, native: such a program needs no SQL engine. */
static bool is_counted(const struct mr_row *row, void *arg)
{
    MR_UNUSED(arg);
    return mr_row_int(row, 1) != 0;
}

struct mr_dstream *mr_count_by_value_and_window(struct mr_dstream *stream, int64_t window_ms,
                                                int64_t slide_ms)
{
    static const char operation[] = "count_by_value_and_window";
    struct mr_dstream *pairs;
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, operation))
        return NULL;
    if (mr_schema_field_count(stream->schema) != 1) {
        MR_FAIL(&err, MR_CONFIG, "the elements have %u columns; map them to the one to count first",
                mr_schema_field_count(stream->schema));
        mr__context_blame(stream->ctx, operation, &err);
        return NULL;
    }
    struct mr__column_of columns[] = {{"key", mr__column_type(stream->schema, 0)},
                                      {"value", &mr__bigint}};
    pairs = stream_of(stream, "count_by_value_and_window.batch", lower_paired, columns, 2);
    return mr_reduce_by_key_and_window(pairs, MR_COUNT, MR_COUNT, window_ms, slide_ms,
                                       MR_FN(is_counted));
}
