/*
 * top: the rows with the greatest values of a column, greatest first.
 *
 *     rows --map, in tasks: candidates--> at most n a partition --fold--> n rows, in order
 *
 * A task keeps candidates: rows that are not below the n-th best so far. When there are CANDIDATES
 * more than needed they are sorted and cut to n, which raises the bar; most rows of a large
 * partition cost one comparison of a number.
 *
 * Rows with equal values are ordered by the bytes of their key form (data/row_codec.h), nulls come
 * last, so the result does not depend on partitions or order.
 *
 * Thread: building in the building one; map tasks on workers, the fold on the driver.
 */
#include "base/limits.h"
#include "dstream/streams.h"

#include "data/row_codec.h"
#include "ops/ordinal.h"

#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 4096, TOP_ROWS_MAX = MR_LIMIT_DSTREAM_TOP_ROWS };

struct top_op {
    struct mr_schema *schema;
    uint32_t column;
    int64_t rows;
};

/* Of one task, or of the fold. */
struct top_task {
    struct mr_batch_builder *candidates;
    bool is_full;         /* there are n rows not below the bar */
    bool bar_is_null;     /* the n-th is null: below everything else */
    int64_t bar;          /* its ordinal */
    struct mr_buf sorted; /* key forms, while sorting */
};

struct candidate {
    int64_t ordinal;
    uint32_t row;
    bool is_null;
    const char *bytes; /* key form of the row; the offset first, while the buffer grows */
    size_t size_bytes;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot find the top rows: out of memory");
}

static void top_free(void *pointer)
{
    struct top_op *op = pointer;

    if (op != NULL)
        mr_schema_unref(op->schema);
    mr_free(op);
}

static void task_release(struct top_task *task)
{
    mr_batch_builder_free(task->candidates);
    mr_buf_release(&task->sorted);
}

/* ---- sorting and cutting ---- */

static int compare(const void *left, const void *right)
{
    const struct candidate *a = left, *b = right;
    size_t common = MR_MIN(a->size_bytes, b->size_bytes);
    int order;

    if (a->is_null != b->is_null)
        return a->is_null ? 1 : -1;
    if (!a->is_null && a->ordinal != b->ordinal)
        return a->ordinal > b->ordinal ? -1 : 1;
    order = common == 0 ? 0 : memcmp(a->bytes, b->bytes, common);
    return order != 0 ? order : (a->size_bytes > b->size_bytes) - (a->size_bytes < b->size_bytes);
}

static enum mr_status list_candidates(const struct top_op *op, struct top_task *task,
                                      const struct mr_batch *batch, struct candidate *list,
                                      struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(batch, op->column);
    uint32_t columns = mr_schema_field_count(op->schema);
    uint32_t rows = (uint32_t)mr_batch_row_count(batch);
    int64_t ordinals[MR_CHUNK_ROWS];

    mr_buf_clear(&task->sorted);
    for (uint32_t row = 0; row < rows; row++) {
        size_t start = task->sorted.size;

        if (row % MR_CHUNK_ROWS == 0)
            mr_ordinal_load(column, row, MR_MIN(rows - row, (uint32_t)MR_CHUNK_ROWS), ordinals);
        for (uint32_t i = 0; i < columns; i++)
            mr_key_encode(&task->sorted, mr_batch_column(batch, i), row);
        list[row] = (struct candidate){
            .ordinal = ordinals[row % MR_CHUNK_ROWS],
            .row = row,
            .is_null = mr_column_is_null(column, row),
            .size_bytes = task->sorted.size - start,
        };
    }
    if (task->sorted.failed)
        return no_memory(err);
    for (size_t row = 0, at = 0; row < rows; at += list[row++].size_bytes)
        list[row].bytes = task->sorted.data + at;
    return MR_OK;
}

/* The best rows so far, sorted; they stay candidates. NULL when there are none. Returns new. */
static enum mr_status cut(const struct top_op *op, struct top_task *task,
                          struct mr_batch **ret_best, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    struct candidate *list = NULL;
    uint32_t *rows = NULL;
    int64_t count, kept;
    enum mr_status status;

    *ret_best = NULL;
    if (task->candidates == NULL || mr_batch_builder_row_count(task->candidates) == 0)
        return MR_OK;
    MR_TRY_GOTO(mr_batch_builder_finish(task->candidates, &batch, err));
    count = mr_batch_row_count(batch);
    kept = MR_MIN(count, op->rows);
    list = mr_alloc(NULL, (size_t)count * sizeof(*list));
    rows = mr_alloc(NULL, (size_t)kept * sizeof(*rows));
    if (list == NULL || rows == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(list_candidates(op, task, batch, list, err));
    qsort(list, (size_t)count, sizeof(*list), compare);
    for (int64_t i = 0; i < kept; i++)
        rows[i] = list[i].row;
    task->is_full = kept == op->rows;
    task->bar = list[kept - 1].ordinal;
    task->bar_is_null = list[kept - 1].is_null;
    MR_TRY_GOTO(mr_batch_take(batch, rows, kept, ret_best, err));
    mr_batch_builder_append(task->candidates, *ret_best);
done:
    mr_batch_unref(batch);
    mr_free(list);
    mr_free(rows);
    return status;
}

/* ---- rows ---- */

static bool is_candidate(const struct top_task *task, int64_t ordinal, bool is_null)
{
    if (!task->is_full || task->bar_is_null)
        return true;
    return !is_null && ordinal >= task->bar;
}

static enum mr_status add_candidate(const struct top_op *op, struct top_task *task,
                                    const struct mr_batch *batch, int64_t row, struct mr_error *err)
{
    struct mr_batch *best;

    for (uint32_t i = 0; i < mr_schema_field_count(op->schema); i++)
        mr_batch_builder_copy(task->candidates, i, mr_batch_column(batch, i), row);
    mr_batch_builder_end_row(task->candidates);
    if (mr_batch_builder_row_count(task->candidates) < op->rows + CANDIDATES)
        return MR_OK;
    MR_TRY(cut(op, task, &best, err));
    mr_batch_unref(best);
    return MR_OK;
}

static enum mr_status add_rows(const struct top_op *op, struct top_task *task,
                               const struct mr_batch *batch, struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(batch, op->column);
    int64_t rows = mr_batch_row_count(batch);
    int64_t ordinals[MR_CHUNK_ROWS];

    if (task->candidates == NULL)
        MR_TRY(mr_batch_builder_new(op->schema, &task->candidates, err));
    for (int64_t from = 0; from < rows; from += MR_CHUNK_ROWS) {
        uint32_t count = (uint32_t)MR_MIN(rows - from, (int64_t)MR_CHUNK_ROWS);

        mr_ordinal_load(column, from, count, ordinals);
        for (uint32_t i = 0; i < count; i++) {
            if (is_candidate(task, ordinals[i], mr_column_is_null(column, from + i)))
                MR_TRY(add_candidate(op, task, batch, from + i, err));
        }
    }
    return MR_OK;
}

static enum mr_status emit_best(const struct top_op *op, struct top_task *task,
                                struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *best;
    enum mr_status status;

    MR_TRY(cut(op, task, &best, err));
    if (best == NULL)
        return MR_OK;
    status = mr_output_emit(out, best, err);
    mr_batch_unref(best);
    return status;
}

/* ---- the map ---- */

static enum mr_status top_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(info);
    *ret_task = mr_alloc_zero(NULL, sizeof(struct top_task));
    return *ret_task != NULL ? MR_OK : no_memory(err);
}

static enum mr_status top_apply(void *op, void *task, const struct mr_batch_info *info,
                                const struct mr_batch *batch, struct mr_output *out,
                                struct mr_error *err)
{
    MR_UNUSED(info);
    MR_UNUSED(out);
    return add_rows(op, task, batch, err);
}

static enum mr_status top_finish(void *op, void *task, const struct mr_batch_info *info,
                                 struct mr_output *out, struct mr_error *err)
{
    MR_UNUSED(info);
    return emit_best(op, task, out, err);
}

static void top_end(void *op, void *task)
{
    MR_UNUSED(op);
    task_release(task);
    mr_free(task);
}

static const struct mr_map_ops top_map_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "top partial",
    .begin = top_begin,
    .apply = top_apply,
    .finish = top_finish,
    .end = top_end,
    .free = top_free,
};

/* ---- the fold ---- */

static enum mr_status top_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    const struct mr_fold_input *input = &call->inputs[0];
    struct top_task task = {0};
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < input->batch_count && status == MR_OK; i++)
        status = add_rows(op, &task, input->batches[i], err);
    if (status == MR_OK)
        status = emit_best(op, &task, call->out, err);
    task_release(&task);
    return status;
}

static const struct mr_fold_ops top_fold_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "top",
    .run = top_run,
    .free = top_free,
};

/* ---- lowering and building ---- */

static struct top_op *op_copy(const struct top_op *from)
{
    struct top_op *op = mr_alloc(NULL, sizeof(*op));

    if (op == NULL)
        return NULL;
    *op = *from;
    op->schema = mr_schema_ref(from->schema);
    return op;
}

static enum mr_status lower_top(struct mr__lowering *low, struct mr_dstream *stream,
                                struct mr_error *err)
{
    struct mr_map_op map = {.ops = &top_map_ops, .op = op_copy(stream->own)};
    struct mr_fold_op fold = {.ops = &top_fold_ops};
    struct mr_node *partial;

    if (map.op == NULL)
        return no_memory(err);
    MR_TRY(mr__lower_add_map(low, stream, "partial", stream->schema, &map, &partial, err));
    fold.op = op_copy(stream->own);
    if (fold.op == NULL)
        return no_memory(err);
    return mr__lower_add_fold(low, stream, &partial, 1, &fold, err);
}

static enum mr_status check_top(const struct mr_dstream *stream, int64_t rows, const char *column,
                                uint32_t *ret_column, struct mr_error *err)
{
    int32_t found = mr_schema_find(stream->schema, column, strlen(column));

    if (rows < 1 || rows > TOP_ROWS_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot take the top %lld rows; use 1 to %d",
                       (long long)rows, TOP_ROWS_MAX);
    if (found < 0)
        return MR_FAIL(err, MR_CONFIG, "the stream has no column '%s'", column);
    if (!mr_ordinal_has(mr__column_type(stream->schema, (uint32_t)found)->id))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot order by '%s': it is not a number, date or time of at most 8 bytes; "
                       "map it to one first",
                       column);
    *ret_column = (uint32_t)found;
    return MR_OK;
}

struct mr_dstream *mr_top(struct mr_dstream *stream, int64_t rows, const char *column)
{
    struct top_op op = {.rows = rows};
    struct mr_dstream *top;
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "top"))
        return NULL;
    if (check_top(stream, rows, column != NULL ? column : "value", &op.column, &err) != MR_OK) {
        mr__context_blame(stream->ctx, "top", &err);
        return NULL;
    }
    top = mr__stream_new(stream->ctx, lower_top, "top", &stream, 1);
    if (top == NULL)
        return NULL;
    top->schema = mr_schema_ref(stream->schema);
    op.schema = stream->schema;
    top->own = op_copy(&op);
    top->own_free = top_free;
    if (top->own != NULL)
        return top;
    no_memory(&err);
    mr__context_blame(stream->ctx, "top", &err);
    return NULL;
}
