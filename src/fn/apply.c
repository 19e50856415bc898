/*
 * Applying a function of map, flat_map, filter and map_to_pair to a batch: streams (map_op.c of
 * src/dstream) and datasets (src/rdd) call this.
 *
 * The order of rows is kept. Results of SQL and of flat_map may be several batches. Functions of
 * the program run here on any worker, several at the same time on different partitions.
 *
 * Thread: the evaluating worker's; the function itself is not changed.
 */
#include "fn/fn.h"

#include "core/doing.h"

enum { RESULT_BYTES = 32 << 20, ROWS_A_LOOK = 256 };

/* Results of flat_map may be far more than the rows: they go on in batches of this size. */
static enum mr_status hand_on(struct mr_emitter *emitter, struct mr__batches *results,
                              struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status;

    MR_TRY(mr__emitter_finish(emitter, &batch, err));
    status = mr__batches_add(results, batch, err);
    mr_batch_unref(batch);
    return status;
}

/* Calls the program's function for each row. */
static enum mr_status call_rows(const struct mr__function *function, bool is_flat,
                                const struct mr_batch *batch, struct mr_emitter *out,
                                struct mr__batches *results, struct mr_error *err)
{
    mr_row_fn call = (mr_row_fn)function->fn.call;
    int64_t rows = mr_batch_row_count(batch);

    for (struct mr_row row = {batch, 0}; row.index < rows; row.index++) {
        call(&row, out, function->fn.arg);
        if (out->failed || out->column != 0)
            return mr__emitter_check(out, err);
        if (!is_flat && mr__emitter_rows(out) != row.index + 1)
            return mr__emitter_count_is_wrong(
                out, function->fn.name, "exactly one result per element; flat_map takes any number",
                err);
        if (is_flat && row.index % ROWS_A_LOOK == 0 &&
            mr_batch_builder_bytes(out->builder) > RESULT_BYTES)
            MR_TRY(hand_on(out, results, err));
    }
    return MR_OK;
}

static enum mr_status apply_row_fn(const struct mr__function *function, bool is_flat,
                                   const struct mr_batch *batch, struct mr__batches *results,
                                   struct mr_error *err)
{
    struct mr_emitter emitter;

    MR_TRY(mr__emitter_init(&emitter, function->output, err));
    mr__inside_user_code++;
    enum mr_status status = call_rows(function, is_flat, batch, &emitter, results, err);
    mr__inside_user_code--;
    if (status == MR_OK)
        status = hand_on(&emitter, results, err);
    mr__emitter_release(&emitter);
    return status;
}

static enum mr_status apply_batch_fn(const struct mr__function *function, bool is_flat,
                                     const struct mr_batch *batch, struct mr_batch **ret_batch,
                                     struct mr_error *err)
{
    mr_batch_fn call = (mr_batch_fn)function->fn.call;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(function->output, &builder, err));
    mr__inside_user_code++;
    status = call(batch, builder, function->fn.arg, err);
    mr__inside_user_code--;
    if (status == MR_OK)
        status = mr_batch_builder_finish(builder, &result, err);
    mr_batch_builder_free(builder);
    MR_TRY(status);
    if (!is_flat && mr_batch_row_count(result) != mr_batch_row_count(batch)) {
        mr_batch_unref(result);
        return MR_FAIL(err, MR_USER,
                       "'%s' must append exactly one result per element; flat_map takes any "
                       "number",
                       function->fn.name);
    }
    *ret_batch = result;
    return MR_OK;
}

static enum mr_status apply_native(struct mr__function *function, bool is_flat,
                                   const struct mr_batch *batch, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    switch (function->fn.kind) {
    case MR_FN_KIND_BATCH:
        return apply_batch_fn(function, is_flat, batch, ret_batch, err);
    case MR_FN_KIND_TEST:
        return mr__filter_rows(function, batch, ret_batch, err);
    case MR_FN_KIND_BUILTIN:
        if (function->fn.builtin == MR_BUILTIN_WORDS)
            return mr__words(batch, function->output, ret_batch, err);
        return mr__pair_with_one(batch, function->output, ret_batch, err);
    default:
        break; /* compile.c refuses them */
    }
    return MR_FAIL(err, MR_INTERNAL, "a function of the wrong kind");
}

static enum mr_status apply(struct mr__function *function, bool is_flat, struct mr__when when,
                            const struct mr_batch *batch, struct mr__batches *ret_results,
                            struct mr_error *err)
{
    struct mr_batch *input = (struct mr_batch *)(uintptr_t)batch;
    struct mr_batch *result = NULL;
    enum mr_status status;

    if (function->fn.kind == MR_FN_KIND_SQL)
        return mr__function_blame(
            function, mr__function_run_sql(function, when, &input, 1, ret_results, err), err);
    if (function->fn.kind == MR_FN_KIND_ROW)
        return mr__function_blame(function,
                                  apply_row_fn(function, is_flat, batch, ret_results, err), err);
    MR_TRY(mr__function_blame(function, apply_native(function, is_flat, batch, &result, err), err));
    status = mr__batches_add(ret_results, result, err);
    mr_batch_unref(result);
    return status;
}

enum mr_status mr__apply(struct mr__function *function, bool is_flat, struct mr__when when,
                         const struct mr_batch *batch, struct mr__batches *ret_results,
                         struct mr_error *err)
{
    struct mr_doing doing;
    enum mr_status status;

    mr_doing_begin(&doing, NULL, "function", function->fn.name);
    status = apply(function, is_flat, when, batch, ret_results, err);
    mr_doing_end(&doing);
    return status;
}

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
