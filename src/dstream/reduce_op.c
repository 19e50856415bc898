/*
 * reduce_by_key and count_by_value as operators of the kernel. They keep nothing between batches.
 *
 *     any function    rows --partial: one row a key--------> exchange --> fold: once more
 *     built-ins       rows --aggregate buffers (src/ops)---> exchange --> fold: merges buffers
 *
 * Pairs come out by key within a partition.
 *
 * Thread: workers; a task's rows belong to it, a partition of the result to the one that runs it.
 */
#include "base/limits.h"
#include "dstream/exchange.h"

#include <stdlib.h>
#include <string.h>

enum {
    PARTIAL_BYTES_MAX = MR_LIMIT_DSTREAM_REDUCED
}; /* a task reduces what it has gathered beyond this */

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* ---- any function ---- */

struct reduce_op {
    struct mr__function *reduce; /* borrowed from the context */
    struct mr_schema *pairs;
    struct mr__exchange exchange; /* of the fold */
};

struct partial {
    struct mr__batches rows;
    size_t bytes;
};

static void reduce_free(void *pointer)
{
    struct reduce_op *op = pointer;

    if (op != NULL)
        mr_schema_unref(op->pairs);
    mr_free(op);
}

static enum mr_status reduce_new(struct mr__function *reduce, const struct mr_schema *pairs,
                                 void **ret_op, struct mr_error *err)
{
    struct reduce_op *op = mr_alloc_zero(NULL, sizeof(*op));

    if (op == NULL)
        return no_memory(err);
    op->reduce = reduce;
    op->pairs = mr_schema_ref(pairs);
    *ret_op = op;
    return MR_OK;
}

static enum mr_status partial_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                    struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(info);
    *ret_task = mr_alloc_zero(NULL, sizeof(struct partial));
    return *ret_task != NULL ? MR_OK : no_memory(err);
}

/* Replaces the rows gathered so far by one row a key. */
static enum mr_status shrink(struct reduce_op *op, struct partial *partial,
                             const struct mr_batch_info *info, struct mr_error *err)
{
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr_batch *reduced = NULL;
    enum mr_status status;

    MR_TRY(mr__reduce_rows(op->reduce, when, partial->rows.items, partial->rows.count, op->pairs,
                           &reduced, err));
    mr__batches_release(&partial->rows);
    partial->bytes = 0;
    if (reduced == NULL)
        return MR_OK;
    status = mr__batches_add(&partial->rows, reduced, err);
    mr_batch_unref(reduced);
    return status;
}

static enum mr_status partial_apply(void *op, void *task, const struct mr_batch_info *info,
                                    const struct mr_batch *batch, struct mr_output *out,
                                    struct mr_error *err)
{
    struct partial *partial = task;

    MR_UNUSED(out);
    MR_TRY(mr__batches_add(&partial->rows, batch, err));
    partial->bytes += mr_batch_bytes(batch);
    return partial->bytes > PARTIAL_BYTES_MAX ? shrink(op, partial, info, err) : MR_OK;
}

static enum mr_status partial_finish(void *op, void *task, const struct mr_batch_info *info,
                                     struct mr_output *out, struct mr_error *err)
{
    struct partial *partial = task;

    MR_TRY(shrink(op, partial, info, err));
    return partial->rows.count > 0 ? mr_output_emit(out, partial->rows.items[0], err) : MR_OK;
}

static void partial_end(void *op, void *task)
{
    struct partial *partial = task;

    MR_UNUSED(op);
    mr__batches_release(&partial->rows);
    mr_free(partial);
}

static const struct mr_map_ops partial_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "reduce partial",
    .begin = partial_begin,
    .apply = partial_apply,
    .finish = partial_finish,
    .end = partial_end,
    .free = reduce_free,
};

enum mr_status mr__reduce_partial_op(struct mr__function *reduce, const struct mr_schema *pairs,
                                     struct mr_map_op *ret_op, struct mr_error *err)
{
    *ret_op = (struct mr_map_op){.ops = &partial_ops};
    return reduce_new(reduce, pairs, &ret_op->op, err);
}

static uint32_t reduce_count(void *op)
{
    return ((struct reduce_op *)op)->exchange.partition_count;
}

static enum mr_status reduce_run(void *pointer, uint32_t partition, struct mr_fold_call *call,
                                 struct mr_error *err)
{
    struct reduce_op *op = pointer;
    struct mr__when when = {call->info->worker, call->info->batch_time_us};
    struct mr__batches rows = {0};
    struct mr_batch *reduced = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__exchange_pick(&call->inputs[0], partition, op->exchange, &rows, err));
    MR_TRY_GOTO(
        mr__reduce_rows(op->reduce, when, rows.items, rows.count, op->pairs, &reduced, err));
    if (reduced != NULL)
        status = mr_output_emit(call->out, reduced, err);
done:
    mr_batch_unref(reduced);
    mr__batches_release(&rows);
    return status;
}

static const struct mr_fold_ops reduce_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "reduce",
    .free = reduce_free,
    .partition_count = reduce_count,
    .run_partition = reduce_run,
};

enum mr_status mr__reduce_fold_op(struct mr__function *reduce, const struct mr_schema *pairs,
                                  uint32_t partition_count, struct mr_fold_op *ret_op,
                                  struct mr_error *err)
{
    *ret_op = (struct mr_fold_op){.ops = &reduce_ops};
    MR_TRY(reduce_new(reduce, pairs, &ret_op->op, err));
    ((struct reduce_op *)ret_op->op)->exchange.partition_count = partition_count;
    return MR_OK;
}

/* ---- built-ins: buffers of src/ops ---- */

struct merge_op {
    struct mr_agg_layout *layout;
    struct mr_schema *partials; /* key, value: bytes */
    struct mr_schema *output;
    struct mr__exchange exchange;
};

static void merge_free(void *pointer)
{
    struct merge_op *op = pointer;

    if (op == NULL)
        return;
    mr_agg_layout_free(op->layout);
    mr_schema_unref(op->partials);
    mr_schema_unref(op->output);
    mr_free(op);
}

/* A row of the partials. Keys are bytes already: sorting finds equal ones, and their order. */
struct keyed_row {
    uint64_t prefix; /* the first eight bytes as a number that orders as they do */
    struct mr_slice key;
    struct mr_slice buffers;
    size_t number; /* in the order of arrival */
};

static uint64_t prefix_of(struct mr_slice key)
{
    uint64_t bytes = 0;

    memcpy(&bytes, key.data, MR_MIN(key.size_bytes, sizeof(bytes)));
    return __builtin_bswap64(bytes);
}

static int compare_bytes(const struct keyed_row *a, const struct keyed_row *b)
{
    size_t common = MR_MIN(a->key.size_bytes, b->key.size_bytes);
    int order = a->prefix < b->prefix ? -1 : a->prefix > b->prefix;

    if (order == 0 && common > sizeof(a->prefix))
        order = memcmp(a->key.data + sizeof(a->prefix), b->key.data + sizeof(a->prefix),
                       common - sizeof(a->prefix));
    return order != 0 ? order : (a->key.size_bytes > common) - (b->key.size_bytes > common);
}

static int compare_rows(const void *a_pointer, const void *b_pointer)
{
    const struct keyed_row *a = a_pointer, *b = b_pointer;
    int order = compare_bytes(a, b);

    return order != 0 ? order : (a->number > b->number) - (a->number < b->number);
}

/* The rows of all batches, in the order of their keys. The slices point into the batches. */
static enum mr_status sorted_rows(const struct mr__batches *batches, struct keyed_row **ret_rows,
                                  size_t *ret_count, struct mr_error *err)
{
    struct keyed_row *rows;
    size_t count = 0;

    for (size_t i = 0; i < batches->count; i++)
        count += (size_t)mr_batch_row_count(batches->items[i]);
    rows = mr_alloc(NULL, (count + 1) * sizeof(*rows));
    if (rows == NULL)
        return no_memory(err);
    count = 0;
    for (size_t i = 0; i < batches->count; i++) {
        const struct mr_column *keys = mr_batch_column(batches->items[i], 0);
        const struct mr_column *values = mr_batch_column(batches->items[i], 1);

        for (int64_t row = 0; row < keys->length; row++) {
            struct mr_slice key = mr_column_text(keys, row);
            rows[count] =
                (struct keyed_row){prefix_of(key), key, mr_column_text(values, row), count};
            count++;
        }
    }
    qsort(rows, count, sizeof(*rows), compare_rows);
    *ret_rows = rows;
    *ret_count = count;
    return MR_OK;
}

/* Merges the buffers of each key and appends its pair. */
static enum mr_status merge_rows(const struct merge_op *op, const struct keyed_row *rows,
                                 size_t count, struct mr_batch_builder *out, struct mr_error *err)
{
    struct mr_buf merged = MR_BUF_INIT;
    enum mr_status status = MR_OK;
    size_t next;

    for (size_t i = 0; i < count; i = next) {
        struct mr_slice buffers = rows[i].buffers;

        next = i + 1;
        if (next < count && compare_bytes(&rows[i], &rows[next]) == 0) {
            mr_buf_clear(&merged);
            MR_TRY_GOTO(mr_agg_merge(op->layout, &merged, buffers.data, buffers.size_bytes, err));
            for (; next < count && compare_bytes(&rows[i], &rows[next]) == 0; next++)
                MR_TRY_GOTO(mr_agg_merge(op->layout, &merged, rows[next].buffers.data,
                                         rows[next].buffers.size_bytes, err));
            buffers = (struct mr_slice){merged.data, merged.size};
        }
        MR_TRY_GOTO(mr_agg_emit(op->layout, rows[i].key, buffers, out, err));
    }
done:
    mr_buf_release(&merged);
    return status;
}

static uint32_t merge_count(void *op)
{
    return ((struct merge_op *)op)->exchange.partition_count;
}

static enum mr_status merge_run(void *pointer, uint32_t partition, struct mr_fold_call *call,
                                struct mr_error *err)
{
    const struct merge_op *op = pointer;
    struct mr__batches batches = {0};
    struct keyed_row *rows = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    size_t count = 0;
    enum mr_status status;

    MR_TRY_GOTO(mr__exchange_pick(&call->inputs[0], partition, op->exchange, &batches, err));
    if (batches.count == 0)
        goto done;
    MR_TRY_GOTO(sorted_rows(&batches, &rows, &count, err));
    MR_TRY_GOTO(mr_batch_builder_new(op->output, &builder, err));
    MR_TRY_GOTO(merge_rows(op, rows, count, builder, err));
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &result, err));
    status = mr_output_emit(call->out, result, err);
done:
    mr_batch_unref(result);
    mr_batch_builder_free(builder);
    mr_free(rows);
    mr__batches_release(&batches);
    return status;
}

static const struct mr_fold_ops merge_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "reduce built-in",
    .free = merge_free,
    .partition_count = merge_count,
    .run_partition = merge_run,
};

enum mr_status mr__builtin_fold_op(const struct mr_aggregate_spec *spec,
                                   const struct mr_schema *partials, const struct mr_schema *output,
                                   uint32_t partition_count, struct mr_fold_op *ret_op,
                                   struct mr_error *err)
{
    struct merge_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status;

    if (op == NULL)
        return no_memory(err);
    op->partials = mr_schema_ref(partials);
    op->output = mr_schema_ref(output);
    op->exchange = (struct mr__exchange){partition_count, true};
    status = mr_agg_layout_new(spec, &op->layout, err);
    if (status != MR_OK) {
        merge_free(op);
        return status;
    }
    *ret_op = (struct mr_fold_op){.ops = &merge_ops, .op = op};
    return MR_OK;
}
