/*
 * Pairs, one stream at a time: map_values and flat_map_values.
 *
 *     (key, value) --function of the value--> (key, new value)        map operators: keys and
 *                                                                     partitions stay
 *
 * Thread: building in the building one; the operators on workers, immutable.
 */
#include "dstream/streams.h"

#include "rdd/rdd.h"

struct values_op {
    struct mr__function *function; /* borrowed from the context */
    bool is_flat;
};

static enum mr_status values_apply(void *pointer, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    const struct values_op *op = pointer;
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr__batches results = {0};
    struct mr__task shown;
    enum mr_status status;

    MR_UNUSED(task);
    mr__task_enter_stream(&shown, info);
    status = mr__apply_values(op->function, op->is_flat, when, batch, &results, err);
    mr__task_leave(&shown);
    for (size_t i = 0; status == MR_OK && i < results.count; i++)
        status = mr_output_emit(out, results.items[i], err);
    mr__batches_release(&results);
    return status;
}

static void values_free(void *op)
{
    mr_free(op);
}

static const struct mr_map_ops values_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "map values",
    .apply = values_apply,
    .free = values_free,
};

static enum mr_status lower_values(struct mr__lowering *low, struct mr_dstream *stream,
                                   struct mr_error *err)
{
    struct values_op *op = mr_alloc_zero(NULL, sizeof(*op));
    struct mr_map_op map = {&values_ops, op, NULL};
    struct mr_node *node;

    if (op == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    op->function = stream->function;
    op->is_flat = !stream->one_to_one;
    return mr__lower_add_map(low, stream, NULL, stream->schema, &map, &node, err);
}

static enum mr_status compile_map(struct mr__engines *engines, const char *operation,
                                  const struct mr_fn *fn, const struct mr_schema *input,
                                  struct mr__function **ret_function, struct mr_error *err)
{
    return mr__compile_values(engines, operation, false, fn, input, ret_function, err);
}

static enum mr_status compile_flat_map(struct mr__engines *engines, const char *operation,
                                       const struct mr_fn *fn, const struct mr_schema *input,
                                       struct mr__function **ret_function, struct mr_error *err)
{
    return mr__compile_values(engines, operation, true, fn, input, ret_function, err);
}

static struct mr_dstream *build_values(struct mr_dstream *pairs, const char *operation,
                                       const struct mr_fn *fn, mr__compile_fn compile)
{
    if (pairs == NULL || !mr__context_is_open(pairs->ctx, operation) ||
        !mr__needs_pairs(pairs, fn, operation))
        return NULL;
    return mr__build_mapped(pairs, operation, fn, compile, lower_values);
}

struct mr_dstream *mr_map_values(struct mr_dstream *pairs, struct mr_fn fn)
{
    struct mr_dstream *stream = build_values(pairs, "map_values", &fn, compile_map);

    if (stream != NULL)
        stream->one_to_one = true;
    return stream;
}

struct mr_dstream *mr_flat_map_values(struct mr_dstream *pairs, struct mr_fn fn)
{
    return build_values(pairs, "flat_map_values", &fn, compile_flat_map);
}
