/*
 * group_by_key and combine_by_key.
 *
 *     group_by_key     rows --exchange--> fold: (key, list of values) of each partition
 *     combine_by_key   rows --partial: create, merge_value; one row a key and task--> exchange
 *                           --> fold: merge_combiners
 *
 * The kernels are those of datasets (src/rdd/pairs.h): keys come out in the order of their encoded
 * bytes, the values of a key in the order of arrival.
 *
 * Thread: building in the building one; everything else on workers, where a partition of the result
 * belongs to the one that runs it.
 */
#include "base/limits.h"
#include "dstream/exchange.h"

#include "rdd/pairs.h"

enum {
    PARTIAL_BYTES_MAX = MR_LIMIT_DSTREAM_COMBINED
}; /* a task combines what it has gathered beyond this */

/* ---- the fold of both ---- */

typedef enum mr_status (*merge_fn)(const void *arg, struct mr__when when, struct mr__pairs pairs,
                                   const struct mr_schema *output, struct mr_batch **ret_batch,
                                   struct mr_error *err);

struct merge_op {
    merge_fn merge;
    const void *arg; /* the combiner, owned by the stream */
    struct mr__exchange exchange;
    struct mr_schema *input;
    struct mr_schema *output;
};

static uint32_t merge_count(void *op)
{
    return ((struct merge_op *)op)->exchange.partition_count;
}

static enum mr_status merge_run(void *pointer, uint32_t partition, struct mr_fold_call *call,
                                struct mr_error *err)
{
    const struct merge_op *op = pointer;
    struct mr__when when = {call->info->worker, call->info->batch_time_us};
    struct mr__batches rows = {0};
    struct mr__pairs pairs;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__exchange_pick(&call->inputs[0], partition, op->exchange, &rows, err));
    if (rows.count == 0)
        goto done;
    pairs = (struct mr__pairs){rows.items, rows.count, op->input};
    MR_TRY_GOTO(op->merge(op->arg, when, pairs, op->output, &result, err));
    status = mr_output_emit(call->out, result, err);
done:
    mr_batch_unref(result);
    mr__batches_release(&rows);
    return status;
}

static void merge_free(void *pointer)
{
    struct merge_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->input);
    mr_schema_unref(op->output);
    mr_free(op);
}

static const struct mr_fold_ops merge_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "by key",
    .free = merge_free,
    .partition_count = merge_count,
    .run_partition = merge_run,
};

/* The exchange behind `from`, and the fold. */
static enum mr_status lower_merge(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_node *from, merge_fn merge, const void *arg,
                                  struct mr_error *err)
{
    struct merge_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_fold_op fold = {&merge_ops, op, NULL};
    struct mr_node *exchanged;
    enum mr_status status;

    if (op == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    op->merge = merge;
    op->arg = arg;
    op->exchange.partition_count = mr__partition_count(low, stream);
    op->input = mr_schema_ref(mr_node_schema(from));
    op->output = mr_schema_ref(stream->schema);
    status = mr__exchange_add(low, stream, "exchange", op->exchange, from, &exchanged, err);
    if (status != MR_OK) {
        merge_free(op);
        return status;
    }
    return mr__lower_add_fold(low, stream, &exchanged, 1, &fold, err);
}

/* ---- group_by_key ---- */

static enum mr_status group(const void *arg, struct mr__when when, struct mr__pairs pairs,
                            const struct mr_schema *output, struct mr_batch **ret_batch,
                            struct mr_error *err)
{
    MR_UNUSED(arg);
    MR_UNUSED(when);
    return mr__group_by_key(pairs, output, ret_batch, err);
}

static enum mr_status lower_group(struct mr__lowering *low, struct mr_dstream *stream,
                                  struct mr_error *err)
{
    return lower_merge(low, stream, stream->inputs[0]->node, group, NULL, err);
}

struct mr_dstream *mr_group_by_key(struct mr_dstream *pairs)
{
    const struct mr_fn none = {.kind = MR_FN_KIND_NONE};
    struct mr_dstream *stream;
    struct mr_error err;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, "group_by_key") ||
        !mr__needs_pairs(pairs, &none, "group_by_key"))
        return NULL;
    stream = mr__stream_new(pairs->ctx, lower_group, "group_by_key", &pairs, 1);
    if (stream != NULL && mr__grouped_schema(pairs->schema, &stream->schema, &err) != MR_OK) {
        mr__context_blame(pairs->ctx, "group_by_key", &err);
        return NULL;
    }
    return stream;
}

/* ---- combine_by_key ---- */

struct combine_op {
    const struct mr__combiner *combiner; /* the stream's */
    struct mr_schema *input;
};

/* What a task has: rows that it gathers, and combiners of earlier ones. */
struct combining {
    struct mr__batches rows;
    size_t bytes;
    struct mr__batches combined;
};

static enum mr_status combine_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                    struct mr_error *err)
{
    MR_UNUSED(op);
    MR_UNUSED(info);
    *ret_task = mr_alloc_zero(NULL, sizeof(struct combining));
    return *ret_task != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* The rows gathered so far become one combiner a key. */
static enum mr_status combine_rows(const struct combine_op *op, struct combining *task,
                                   const struct mr_batch_info *info, struct mr_error *err)
{
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr__pairs pairs = {task->rows.items, task->rows.count, op->input};
    struct mr_batch *result = NULL;
    enum mr_status status;

    if (task->rows.count == 0)
        return MR_OK;
    MR_TRY(mr__combine_values(op->combiner, when, pairs, &result, err));
    status = mr__batches_add(&task->combined, result, err);
    mr_batch_unref(result);
    mr__batches_release(&task->rows);
    task->bytes = 0;
    return status;
}

static enum mr_status combine_apply(void *op, void *pointer, const struct mr_batch_info *info,
                                    const struct mr_batch *batch, struct mr_output *out,
                                    struct mr_error *err)
{
    struct combining *task = pointer;

    MR_UNUSED(out);
    MR_TRY(mr__batches_add(&task->rows, batch, err));
    task->bytes += mr_batch_bytes(batch);
    return task->bytes > PARTIAL_BYTES_MAX ? combine_rows(op, task, info, err) : MR_OK;
}

static enum mr_status combine_finish(void *op, void *pointer, const struct mr_batch_info *info,
                                     struct mr_output *out, struct mr_error *err)
{
    struct combining *task = pointer;
    enum mr_status status = combine_rows(op, task, info, err);

    for (size_t i = 0; status == MR_OK && i < task->combined.count; i++)
        status = mr_output_emit(out, task->combined.items[i], err);
    return status;
}

static void combine_end(void *op, void *pointer)
{
    struct combining *task = pointer;

    MR_UNUSED(op);
    mr__batches_release(&task->rows);
    mr__batches_release(&task->combined);
    mr_free(task);
}

static void combine_free(void *pointer)
{
    struct combine_op *op = pointer;

    if (op != NULL)
        mr_schema_unref(op->input);
    mr_free(op);
}

static const struct mr_map_ops combine_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "combine partial",
    .begin = combine_begin,
    .apply = combine_apply,
    .finish = combine_finish,
    .end = combine_end,
    .free = combine_free,
};

static enum mr_status merge_combiners(const void *arg, struct mr__when when, struct mr__pairs pairs,
                                      const struct mr_schema *output, struct mr_batch **ret_batch,
                                      struct mr_error *err)
{
    MR_UNUSED(output); /* the combiner knows it */
    return mr__combine_merge(arg, when, pairs, ret_batch, err);
}

/* Whatever goes wrong in one of the three is told with the stream's name. */
static enum mr_status name_functions(const struct mr__combiner *combiner, const char *name,
                                     struct mr_error *err)
{
    MR_TRY(mr__function_set_name(combiner->create, name, err));
    MR_TRY(mr__function_set_name(combiner->merge_value, name, err));
    return mr__function_set_name(combiner->merge, name, err);
}

static enum mr_status lower_combine(struct mr__lowering *low, struct mr_dstream *stream,
                                    struct mr_error *err)
{
    struct combine_op *op;
    struct mr_map_op map = {&combine_ops, NULL, NULL};
    struct mr_node *partial;

    MR_TRY(name_functions(stream->own, stream->name, err));
    op = mr_alloc_zero(NULL, sizeof(*op));
    if (op == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    map.op = op;
    op->combiner = stream->own;
    op->input = mr_schema_ref(stream->inputs[0]->schema);
    MR_TRY(mr__lower_add_map(low, stream, "partial", stream->schema, &map, &partial, err));
    return lower_merge(low, stream, partial, merge_combiners, stream->own, err);
}

static void free_combiner(void *own)
{
    mr__combiner_free(own);
    mr_free(own);
}

/* The three functions, compiled; NULL and the mistake sticks. */
static struct mr__combiner *compile_combiner(struct mr_dstream *pairs, const struct mr_fn *create,
                                             const struct mr_fn *merge_value,
                                             const struct mr_fn *merge)
{
    struct mr__combiner *combiner = mr_alloc_zero(NULL, sizeof(*combiner));
    struct mr_error err;
    enum mr_status status;

    mr_error_clear(&err);
    if (combiner == NULL)
        status = MR_FAIL(&err, MR_NOMEM, "out of memory");
    else
        status = mr__combiner_new(&pairs->ctx->engines, create, merge_value, merge, pairs->schema,
                                  combiner, &err);
    if (status == MR_OK)
        return combiner;
    mr_free(combiner);
    mr__blame(pairs->ctx, create, "combine_by_key", &err);
    return NULL;
}

struct mr_dstream *mr_combine_by_key(struct mr_dstream *pairs, struct mr_fn create,
                                     struct mr_fn merge_value, struct mr_fn merge_combiners_fn)
{
    struct mr__combiner *combiner;
    struct mr_dstream *stream;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, "combine_by_key") ||
        !mr__needs_pairs(pairs, &create, "combine_by_key"))
        return NULL;
    combiner = compile_combiner(pairs, &create, &merge_value, &merge_combiners_fn);
    if (combiner == NULL)
        return NULL;
    stream = mr__stream_new(pairs->ctx, lower_combine, "combine_by_key", &pairs, 1);
    if (stream == NULL) {
        free_combiner(combiner);
        return NULL;
    }
    stream->own = combiner;
    stream->own_free = free_combiner;
    stream->schema = mr_schema_ref(combiner->output);
    return stream;
}
