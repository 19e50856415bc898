/*
 * LIMIT n over a stream (structured.md 17): the first n rows of the query's whole life.
 *
 *     store    "" -> rows passed so far, u64 (little-endian)
 *
 *     task --at most n rows of each partition--> fold --while fewer than n have passed--> rows
 *
 * The map operator keeps what cannot be needed from being collected. The count is the state, not
 * n: a larger n in a later run goes on from there. Batches after the n-th row still run.
 *
 * Called by the front ends (constructors), then by tasks and the driver. Threads: the map operator
 * is read-only, what changes belongs to its task; the fold is the driver's.
 */
#include "ops/stateful.h"

#include "base/alloc.h"
#include "base/check.h"

#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot limit a stream: out of memory");
}

/* Emits the first rows of a batch, at most `room`; returns how many in *ret_rows. */
static enum mr_status emit_first(const struct mr_batch *batch, uint64_t room, struct mr_output *out,
                                 uint64_t *ret_rows, struct mr_error *err)
{
    uint64_t rows = (uint64_t)mr_batch_row_count(batch);
    struct mr_batch *first = NULL;
    enum mr_status status;

    *ret_rows = MR_MIN(rows, room);
    if (*ret_rows == 0)
        return MR_OK;
    if (*ret_rows == rows)
        return mr_output_emit(out, batch, err);
    MR_TRY(mr_batch_slice(batch, 0, (int64_t)*ret_rows, &first, err));
    status = mr_output_emit(out, first, err);
    mr_batch_unref(first);
    return status;
}

/* ---- in tasks ---- */

struct local {
    struct mr_schema *schema;
    uint64_t rows_max;
};

static enum mr_status local_begin(void *op, const struct mr_batch_info *info, void **ret_task,
                                  struct mr_error *err)
{
    uint64_t *passed = mr_alloc_zero(NULL, sizeof(*passed));

    (void)op;
    (void)info;
    if (passed == NULL)
        return no_memory(err);
    *ret_task = passed;
    return MR_OK;
}

static enum mr_status local_apply(void *op, void *task, const struct mr_batch_info *info,
                                  const struct mr_batch *batch, struct mr_output *out,
                                  struct mr_error *err)
{
    const struct local *local = op;
    uint64_t *passed = task;
    uint64_t rows = 0;

    (void)info;
    MR_TRY(emit_first(batch, local->rows_max - *passed, out, &rows, err));
    *passed += rows;
    return MR_OK;
}

static void local_end(void *op, void *task)
{
    (void)op;
    mr_free(task);
}

static void local_free(void *op)
{
    struct local *local = op;

    if (local == NULL)
        return;
    mr_schema_unref(local->schema);
    mr_free(local);
}

static const struct mr_map_ops local_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "local limit",
    .begin = local_begin,
    .apply = local_apply,
    .end = local_end,
    .free = local_free,
};

enum mr_status mr_op_local_limit(const struct mr_schema *input, uint64_t rows_max,
                                 struct mr_map_op *ret_op, struct mr_error *err)
{
    struct local *local = mr_alloc_zero(NULL, sizeof(*local));

    if (local == NULL)
        return no_memory(err);
    local->schema = mr_schema_ref(input);
    local->rows_max = rows_max;
    *ret_op = (struct mr_map_op){&local_ops, local, mr_schema_ref(input)};
    return MR_OK;
}

/* ---- over the whole stream ---- */

struct limit {
    uint64_t rows_max;
    char *state_name;
    struct mr_store *store;
};

static enum mr_status limit_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct limit *limit = op;

    return mr_state_store(state, limit->state_name, "limit", "", "rows UBIGINT", &limit->store,
                          err);
}

static enum mr_status take_input(struct limit *limit, struct mr_fold_call *call, uint64_t *passed,
                                 struct mr_error *err)
{
    for (size_t i = 0; i < call->input_count; i++) {
        const struct mr_fold_input *input = &call->inputs[i];

        for (size_t b = 0; input->present && b < input->batch_count; b++) {
            uint64_t rows = 0;

            if (*passed >= limit->rows_max)
                return MR_OK;
            MR_TRY(emit_first(input->batches[b], limit->rows_max - *passed, call->out, &rows, err));
            *passed += rows;
        }
    }
    return MR_OK;
}

static enum mr_status limit_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct limit *limit = op;
    const char *value = NULL;
    size_t value_bytes = 0;
    uint64_t passed = 0;
    uint64_t before;

    if (mr_store_get(limit->store, "", 0, &value, &value_bytes)) {
        if (value_bytes != sizeof(passed))
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot read the count of '%s': %zu bytes; restore the checkpoint from "
                           "a copy",
                           limit->state_name, value_bytes);
        memcpy(&passed, value, sizeof(passed));
    }
    before = passed;
    MR_TRY(take_input(limit, call, &passed, err));
    if (passed == before)
        return MR_OK;
    return mr_store_put(limit->store, "", 0, &passed, sizeof(passed), err);
}

static struct mr_store *limit_store(void *op)
{
    return ((struct limit *)op)->store;
}

static unsigned limit_traits(void *op)
{
    (void)op;
    return MR_FOLD_TIMELESS;
}

static void limit_free(void *op)
{
    struct limit *limit = op;

    if (limit == NULL)
        return;
    mr_free(limit->state_name);
    mr_free(limit);
}

static const struct mr_fold_ops limit_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "limit",
    .open = limit_open,
    .run = limit_run,
    .free = limit_free,
    .store = limit_store,
    .traits = limit_traits,
};

enum mr_status mr_op_limit(const struct mr_schema *input, uint64_t rows_max, const char *state_name,
                           struct mr_fold_op *ret_op, struct mr_error *err)
{
    struct limit *limit = mr_alloc_zero(NULL, sizeof(*limit));

    if (limit == NULL)
        return no_memory(err);
    limit->rows_max = rows_max;
    limit->state_name = mr_strdup(state_name);
    if (limit->state_name == NULL) {
        limit_free(limit);
        return no_memory(err);
    }
    *ret_op = (struct mr_fold_op){&limit_ops, limit, mr_schema_ref(input)};
    return MR_OK;
}
