/*
 * What sees whole partitions, and what changes them:
 *
 *     map_partitions    rows of a partition --function, once a partition--> rows
 *     glom              rows of a partition --> one row, the list of them, empty for none
 *     repartition(n)    rows --> exactly n partitions, row i to partition i mod n
 *
 * The first two are map operators that gather until the partition ends and are called for
 * partitions without rows too; a batch without partitions gives nothing. A partition's rows are
 * held until its end. repartition is a fold with n partitions of output: each picks its rows out of
 * all that came, on a worker of its own, so nothing is handed out by the driver. The number of a
 * row counts through the whole batch: partitions differ by one row at most, and the same batch is
 * dealt out in the same way again. A batch without a dataset is an error of repartition (5.1).
 *
 * Thread: building in the building one; the operators on workers.
 */
#include "dstream/streams.h"

#include "data/batch_internal.h"
#include "rdd/rdd.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* ---- gathering the rows of a partition ---- */

struct gather_op {
    struct mr__function *function; /* map_partitions; borrowed from the context */
    struct mr_schema *input;
    struct mr_schema *output;
};

static enum mr_status gather_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                   struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(info);
    *ret_task = mr_alloc_zero(NULL, sizeof(struct mr__batches));
    return *ret_task != NULL ? MR_OK : no_memory(err);
}

static enum mr_status gather_apply(void *op, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(info);
    MR_UNUSED(out);
    return mr__batches_add(task, batch, err);
}

static void gather_end(void *op, void *task)
{
    MR_UNUSED(op);
    mr__batches_release(task);
    mr_free(task);
}

static void gather_free(void *pointer)
{
    struct gather_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->input);
    mr_schema_unref(op->output);
    mr_free(op);
}

static enum mr_status lower_gather(struct mr__lowering *low, struct mr_dstream *stream,
                                   const struct mr_map_ops *ops, struct mr_error *err)
{
    struct gather_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_map_op map = {ops, op, NULL};
    struct mr_node *node;

    if (op == NULL)
        return no_memory(err);
    op->function = stream->function;
    op->input = mr_schema_ref(stream->inputs[0]->schema);
    op->output = mr_schema_ref(stream->schema);
    return mr__lower_add_map(low, stream, NULL, stream->schema, &map, &node, err);
}

/* ---- map_partitions ---- */

static enum mr_status partitions_finish(void *pointer, void *task, const struct mr_batch_info *info,
                                        struct mr_output *out, struct mr_error *err)
{
    struct gather_op *op = pointer;
    const struct mr__batches *rows = task;
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr__batches results = {0};
    struct mr__task shown;
    enum mr_status status;

    mr__task_enter_stream(&shown, info);
    status = mr__apply_partition(op->function, when, rows->items, rows->count, &results, err);
    mr__task_leave(&shown);
    for (size_t i = 0; status == MR_OK && i < results.count; i++)
        status = mr_output_emit(out, results.items[i], err);
    mr__batches_release(&results);
    return status;
}

static const struct mr_map_ops partitions_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "map partitions",
    .begin = gather_begin,
    .apply = gather_apply,
    .finish = partitions_finish,
    .end = gather_end,
    .free = gather_free,
    .every_partition = true,
};

static enum mr_status lower_partitions(struct mr__lowering *low, struct mr_dstream *stream,
                                       struct mr_error *err)
{
    return lower_gather(low, stream, &partitions_ops, err);
}

struct mr_dstream *mr_map_partitions(struct mr_dstream *stream, struct mr_fn fn)
{
    return mr__build_mapped(stream, "map_partitions", &fn, mr__compile_map_partitions,
                            lower_partitions);
}

/* ---- glom ---- */

static void drop_rows(void *owner)
{
    mr_batch_unref(owner);
}

/* One row: the list of all rows. Their columns are shared. */
static enum mr_status list_of(const struct gather_op *op, struct mr_batch *rows,
                              struct mr_batch **ret_batch, struct mr_error *err)
{
    int64_t count = mr_batch_row_count(rows);
    const struct mr_type *item = &mr__column_type(op->output, 0)->fields[0].type;
    int32_t offsets[2] = {0, (int32_t)count};
    struct mr_column list = {.type = mr__column_type(op->output, 0), .length = 1};
    struct mr_column object = {.type = item, .length = count};
    struct mr_batch *borrowed = NULL;
    const uint32_t all = 0;
    enum mr_status status;

    list.offsets = offsets;
    list.children = item->id == MR_TYPE_STRUCT && mr_schema_field_count(op->input) > 1
                        ? &object
                        : mr_batch_column(rows, 0);
    object.children = mr_batch_column(rows, 0);
    /* The offsets live on this stack: the row that goes on is a copy of this one. */
    MR_TRY(mr_batch_wrap(op->output, &list, 1, mr_batch_ref(rows), drop_rows, &borrowed, err));
    status = mr_batch_take(borrowed, &all, 1, ret_batch, err);
    mr_batch_unref(borrowed);
    return status;
}

static enum mr_status glom_finish(void *pointer, void *task, const struct mr_batch_info *info,
                                  struct mr_output *out, struct mr_error *err)
{
    const struct gather_op *op = pointer;
    const struct mr__batches *gathered = task;
    struct mr_batch *rows = NULL, *list = NULL;
    enum mr_status status;

    MR_UNUSED(info);
    MR_TRY_GOTO(mr__batches_join(gathered->items, gathered->count, op->input, &rows, err));
    if (mr_batch_row_count(rows) > INT32_MAX) {
        status = MR_FAIL(err, MR_LIMIT, "a list has at most 2^31 - 1 items; repartition first");
        goto done;
    }
    MR_TRY_GOTO(list_of(op, rows, &list, err));
    status = mr_output_emit(out, list, err);
done:
    mr_batch_unref(rows);
    mr_batch_unref(list);
    return status;
}

static const struct mr_map_ops glom_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "glom",
    .begin = gather_begin,
    .apply = gather_apply,
    .finish = glom_finish,
    .end = gather_end,
    .free = gather_free,
    .every_partition = true,
};

static enum mr_status lower_glom(struct mr__lowering *low, struct mr_dstream *stream,
                                 struct mr_error *err)
{
    return lower_gather(low, stream, &glom_ops, err);
}

/* "value T[]"; of elements with several columns a list of structs. */
static enum mr_status glom_schema(const struct mr_schema *input, struct mr_schema **ret_schema,
                                  struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(input);
    struct mr_field item = *mr_schema_field(input, 0);
    struct mr_field list = {"value", {.id = MR_TYPE_LIST, .field_count = 1, .fields = &item}};

    item.name = "item";
    if (count > 1)
        item.type = (struct mr_type){
            .id = MR_TYPE_STRUCT, .field_count = count, .fields = mr_schema_field(input, 0)};
    return mr_schema_new(&list, 1, ret_schema, err);
}

struct mr_dstream *mr_glom(struct mr_dstream *stream)
{
    struct mr_dstream *made;
    struct mr_error err;

    if (stream == NULL)
        return NULL;
    made = mr__stream_new(stream->ctx, lower_glom, "glom", &stream, 1);
    if (made != NULL && glom_schema(stream->schema, &made->schema, &err) != MR_OK) {
        mr__context_blame(stream->ctx, "glom", &err);
        return NULL;
    }
    return made;
}

/* ---- repartition ---- */

struct deal_op {
    uint32_t partition_count;
};

static uint32_t deal_count(void *op)
{
    return ((struct deal_op *)op)->partition_count;
}

/* Rows first, first + step ... of a batch. */
static enum mr_status deal_batch(const struct mr_batch *batch, int64_t first, uint32_t step,
                                 struct mr_output *out, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch), count = 0;
    struct mr_batch *dealt = NULL;
    uint32_t *list;
    enum mr_status status;

    if (first >= rows)
        return MR_OK;
    if (step == 1)
        return mr_output_emit(out, batch, err);
    list = mr_alloc(NULL, ((size_t)rows / step + 1) * sizeof(*list));
    if (list == NULL)
        return no_memory(err);
    for (int64_t row = first; row < rows; row += step)
        list[count++] = (uint32_t)row;
    status = mr_batch_take(batch, list, count, &dealt, err);
    mr_free(list);
    MR_TRY(status);
    status = mr_output_emit(out, dealt, err);
    mr_batch_unref(dealt);
    return status;
}

static enum mr_status deal_run(void *pointer, uint32_t partition, struct mr_fold_call *call,
                               struct mr_error *err)
{
    const struct deal_op *op = pointer;
    const struct mr_fold_input *input = &call->inputs[0];
    uint64_t before = 0; /* rows of the batches before this one */

    for (size_t i = 0; i < input->batch_count; i++) {
        uint64_t passed = before % op->partition_count;
        int64_t first = (int64_t)((partition + op->partition_count - passed) % op->partition_count);

        MR_TRY(deal_batch(input->batches[i], first, op->partition_count, call->out, err));
        before += (uint64_t)mr_batch_row_count(input->batches[i]);
    }
    return MR_OK;
}

static void deal_free(void *op)
{
    mr_free(op);
}

static const struct mr_fold_ops deal_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "repartition",
    .free = deal_free,
    .partition_count = deal_count,
    .run_partition = deal_run,
};

static enum mr_status lower_repartition(struct mr__lowering *low, struct mr_dstream *stream,
                                        struct mr_error *err)
{
    struct deal_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_fold_op fold = {&deal_ops, op, NULL};

    if (op == NULL)
        return no_memory(err);
    op->partition_count = stream->partition_count;
    MR_TRY(mr__lower_add_fold(low, stream, &stream->inputs[0]->node, 1, &fold, err));
    mr__lower_require_all(stream);
    return MR_OK;
}

struct mr_dstream *mr_repartition(struct mr_dstream *stream, uint32_t partition_count)
{
    struct mr_dstream *made;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "repartition") ||
        !mr__partitions_are_good(stream->ctx, "repartition", partition_count))
        return NULL;
    made = mr__stream_new(stream->ctx, lower_repartition, "repartition", &stream, 1);
    if (made == NULL)
        return NULL;
    made->schema = mr_schema_ref(stream->schema);
    made->partition_count = partition_count;
    return made;
}
