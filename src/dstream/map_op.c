/*
 * map, flat_map, filter and map_to_pair as map operators of the kernel: one function, applied batch
 * by batch.
 *
 * Called by tasks; the order of rows is kept. The functions of a program run here on any worker,
 * several at the same time on different partitions. Thread: the task's worker; the operator itself
 * is immutable.
 */
#include "dstream/streams.h"

struct map_op {
    struct mr__function *function; /* borrowed from the context */
    bool is_flat;                  /* any number of results per row */
};

static enum mr_status apply_sql(struct map_op *map, const struct mr_batch_info *info,
                                const struct mr_batch *batch, struct mr_output *out,
                                struct mr_error *err)
{
    struct mr_batch *input = (struct mr_batch *)(uintptr_t)batch;
    struct mr__batches results = {0};
    enum mr_status status =
        mr__function_run_sql(map->function, (struct mr__when){info->worker, info->batch_time_us},
                             &input, 1, &results, err);

    mr__function_blame(map->function, status, err);
    for (size_t i = 0; status == MR_OK && i < results.count; i++)
        status = mr_output_emit(out, results.items[i], err);
    mr__batches_release(&results);
    return status;
}

static enum mr_status emit_and_free(struct mr_output *out, struct mr_batch *batch,
                                    struct mr_error *err)
{
    enum mr_status status = mr_output_emit(out, batch, err);

    mr_batch_unref(batch);
    return status;
}

/* Calls the program's function for each row. */
static enum mr_status call_rows(struct map_op *map, const struct mr_batch *batch,
                                struct mr_emitter *out, struct mr_error *err)
{
    mr_row_fn call = (mr_row_fn)map->function->fn.call;
    int64_t rows = mr_batch_row_count(batch);

    for (struct mr_row row = {batch, 0}; row.index < rows; row.index++) {
        int64_t before = mr__emitter_rows(out);

        call(&row, out, map->function->fn.arg);
        MR_TRY(mr__emitter_check(out, err));
        if (!map->is_flat && mr__emitter_rows(out) != before + 1)
            return mr__emitter_count_is_wrong(
                out, map->function->fn.name,
                "exactly one result per element; flat_map takes any number", err);
    }
    return MR_OK;
}

static enum mr_status apply_row_fn(struct map_op *map, const struct mr_batch *batch,
                                   struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *result = NULL;
    struct mr_emitter emitter;
    enum mr_status status = mr__emitter_init(&emitter, map->function->output, err);

    if (status == MR_OK) {
        mr__inside_user_code++;
        status = call_rows(map, batch, &emitter, err);
        mr__inside_user_code--;
    }
    if (status == MR_OK)
        status = mr__emitter_finish(&emitter, &result, err);
    mr__emitter_release(&emitter);
    mr__function_blame(map->function, status, err);
    return status == MR_OK ? emit_and_free(out, result, err) : status;
}

static enum mr_status apply_batch_fn(struct map_op *map, const struct mr_batch *batch,
                                     struct mr_output *out, struct mr_error *err)
{
    mr_batch_fn call = (mr_batch_fn)map->function->fn.call;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(map->function->output, &builder, err));
    mr__inside_user_code++;
    status = call(batch, builder, map->function->fn.arg, err);
    mr__inside_user_code--;
    if (status == MR_OK)
        status = mr_batch_builder_finish(builder, &result, err);
    mr_batch_builder_free(builder);
    if (status == MR_OK && !map->is_flat &&
        mr_batch_row_count(result) != mr_batch_row_count(batch)) {
        mr_batch_unref(result);
        status =
            MR_FAIL(err, MR_USER,
                    "'%s' must append exactly one result per element; flat_map takes any number",
                    map->function->fn.name);
    }
    mr__function_blame(map->function, status, err);
    return status == MR_OK ? emit_and_free(out, result, err) : status;
}

static enum mr_status apply_test(struct map_op *map, const struct mr_batch *batch,
                                 struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *result = NULL;

    MR_TRY(mr__function_blame(map->function, mr__filter_rows(map->function, batch, &result, err),
                              err));
    return emit_and_free(out, result, err);
}

static enum mr_status apply(void *op, void *task, const struct mr_batch_info *info,
                            const struct mr_batch *batch, struct mr_output *out,
                            struct mr_error *err)
{
    struct map_op *map = op;
    struct mr_batch *result = NULL;

    MR_UNUSED(task);
    switch (map->function->fn.kind) {
    case MR_FN_KIND_SQL:
        return apply_sql(map, info, batch, out, err);
    case MR_FN_KIND_ROW:
        return apply_row_fn(map, batch, out, err);
    case MR_FN_KIND_BATCH:
        return apply_batch_fn(map, batch, out, err);
    case MR_FN_KIND_TEST:
        return apply_test(map, batch, out, err);
    case MR_FN_KIND_BUILTIN:
        if (map->function->fn.builtin == MR_BUILTIN_WORDS)
            MR_TRY(mr__words(batch, map->function->output, &result, err));
        else
            MR_TRY(mr__pair_with_one(batch, map->function->output, &result, err));
        return emit_and_free(out, result, err);
    default:
        break; /* compile.c refuses them */
    }
    return MR_FAIL(err, MR_INTERNAL, "a function of the wrong kind");
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

/* ---- filters, also used by windows with an inverse ---- */

/* Rows for which the C test says yes. */
enum mr_status mr__filter_rows(struct mr__function *test, const struct mr_batch *batch,
                               struct mr_batch **ret_batch, struct mr_error *err)
{
    mr_test_fn call = (mr_test_fn)test->fn.call;
    int64_t rows = mr_batch_row_count(batch), kept = 0;
    uint32_t *list = mr_alloc(NULL, ((size_t)rows + 1) * sizeof(*list));
    enum mr_status status;

    if (list == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr__inside_user_code++;
    for (struct mr_row row = {batch, 0}; row.index < rows; row.index++) {
        if (call(&row, test->fn.arg))
            list[kept++] = (uint32_t)row.index;
    }
    mr__inside_user_code--;
    if (kept == rows) {
        *ret_batch = mr_batch_ref(batch);
        status = MR_OK;
    } else {
        status = mr_batch_take(batch, list, kept, ret_batch, err);
    }
    mr_free(list);
    return status;
}
