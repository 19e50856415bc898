/*
 * map, flat_map, filter and map_to_pair as map operators of the kernel: one function, applied batch
 * by batch.
 *
 * Called by tasks; the order of rows is kept. The functions of a program run here on any worker,
 * several at the same time on different partitions. Thread: the task's worker; the operator itself
 * is immutable.
 */
#include "dstream/streams.h"

#include "rdd/rdd.h"

struct map_op {
    struct mr__function *function; /* borrowed from the context */
    bool is_flat;                  /* any number of results per row */
};

static enum mr_status apply(void *op, void *task, const struct mr_batch_info *info,
                            const struct mr_batch *batch, struct mr_output *out,
                            struct mr_error *err)
{
    struct map_op *map = op;
    struct mr__batches results = {0};
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr__task shown;
    enum mr_status status;

    MR_UNUSED(task);
    mr__task_enter_stream(&shown, info);
    status = mr__apply(map->function, map->is_flat, when, batch, &results, err);
    mr__task_leave(&shown);
    for (size_t i = 0; status == MR_OK && i < results.count; i++)
        status = mr_output_emit(out, results.items[i], err);
    mr__batches_release(&results);
    return status;
}

static void map_free(void *op)
{
    mr_free(op);
}

static const struct mr_map_ops map_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "map",
    .apply = apply,
    .free = map_free,
};

enum mr_status mr__map_op(struct mr__function *function, bool is_flat, struct mr_map_op *ret_op,
                          struct mr_error *err)
{
    struct map_op *map = mr_alloc_zero(NULL, sizeof(*map));

    if (map == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    map->function = function;
    map->is_flat = is_flat;
    *ret_op = (struct mr_map_op){&map_ops, map, NULL};
    return MR_OK;
}
