/*
 * reduce_by_key_and_window with an inverse function, as a fold: the window's value per key is kept,
 * and each firing takes out what left the window and adds what entered it (INV-1 .. INV-4).
 *
 *     firing at t, the one before at t - slide
 *         left      batches in (t - slide - window, t - slide] that are not in (t - window, t]
 *         entered   batches in (t - window, t] that are not in (t - slide - window, t - slide]
 *         value     = reduce(inverse(value, reduce(left)), reduce(entered)) per key; missing parts
 *                   are left out
 *
 * The two sets are disjoint also when the slide is longer than the window, where Spark counts a gap
 * wrongly (dstream.md 21, 4). A key stays, with the value that is left, until the filter says no:
 * then it is forgotten.
 *
 * Two stores: <name> the values of the window at the last firing, <name>.batches the reduced
 * batches of the window.
 *
 * Thread: run on the driver; the output (window_emit.c) on workers, by shards.
 */
#include "dstream/streams.h"

#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <stdio.h>
#include <string.h>

struct inverse_op {
    struct mr_context *ctx;
    char *name;
    int64_t size_us;
    int64_t slide_us;
    struct mr_schema *pairs;
    struct mr__function *reduce; /* borrowed from the context, as the next two */
    struct mr__function *inverse;
    struct mr__function *filter; /* NULL = none */
    uint32_t partition_count;
    struct mr_store *values;
    struct mr_store *batches;
};

static void inverse_free(void *pointer)
{
    struct inverse_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->pairs);
    mr_free(op->name);
    mr_free(op);
}

static enum mr_status inverse_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct inverse_op *op = pointer;
    char name[MR_STATE_NAME_BYTES_MAX + 16];

    snprintf(name, sizeof(name), "%s.batches", op->name);
    MR_TRY(mr__values_open(state, op->name, "window", op->pairs, &op->values, err));
    return mr__slices_open(state, name, op->pairs, &op->batches, err);
}

/* One row per key out of batches (from, to]; *ret_rows NULL when there is nothing. */
static enum mr_status reduce_range(struct inverse_op *op, struct mr__when when, int64_t from_us,
                                   int64_t to_us, struct mr_batch **ret_rows, struct mr_error *err)
{
    struct mr__batches list = {0};
    enum mr_status status;

    *ret_rows = NULL;
    MR_TRY_GOTO(mr__slices_get(op->batches, op->pairs, from_us, to_us, &list, err));
    status = mr__reduce_rows(op->reduce, when, list.items, list.count, op->pairs, ret_rows, err);
done:
    mr__batches_release(&list);
    return status;
}

/* ---- one step: value = f(value, change) for the keys of `changes` ---- */

struct step {
    struct mr_batch_builder *base;   /* values of keys that have one */
    struct mr_batch_builder *change; /* what goes in or out, row by row */
    struct mr_buf keys;              /* encoded, one block a row */
};

static enum mr_status step_begin(struct step *step, const struct mr_schema *value,
                                 struct mr_error *err)
{
    MR_TRY(mr_batch_builder_new(value, &step->base, err));
    return mr_batch_builder_new(value, &step->change, err);
}

static void step_end(struct step *step)
{
    mr_batch_builder_free(step->base);
    mr_batch_builder_free(step->change);
    mr_buf_release(&step->keys);
}

static enum mr_status put_value(struct inverse_op *op, const char *key, size_t key_bytes,
                                const struct mr_column *values, int64_t row, struct mr_error *err)
{
    struct mr_buf value = MR_BUF_INIT;
    enum mr_status status;

    mr__value_put(&value, values, row);
    status = value.failed ? MR_FAIL(err, MR_NOMEM, "out of memory")
                          : mr_store_put(op->values, key, key_bytes, value.data, value.size, err);
    mr_buf_release(&value);
    return status;
}

/* Collects the keys of changes that have a value; the others take the change as their value, when
 * it enters. */
static enum mr_status collect(struct inverse_op *op, const struct mr_batch *changes, bool entering,
                              struct step *step, struct mr_error *err)
{
    const struct mr_column *keys = mr_batch_column(changes, 0);
    const struct mr_column *values = mr_batch_column(changes, 1);
    struct mr_buf key = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (int64_t row = 0; row < mr_batch_row_count(changes) && status == MR_OK; row++) {
        const char *old;
        size_t old_bytes;

        mr_buf_clear(&key);
        mr_key_encode(&key, keys, row);
        if (key.failed) {
            status = MR_FAIL(err, MR_NOMEM, "out of memory");
        } else if (mr_store_get(op->values, key.data, key.size, &old, &old_bytes)) {
            status = mr__value_get(old, old_bytes, step->base, 0, err);
            if (status == MR_OK)
                status = mr_batch_builder_rows_added(step->base, 1, err);
            mr_batch_builder_copy(step->change, 0, values, row);
            mr_batch_builder_end_row(step->change);
            mr_buf_add_block(&step->keys, key.data, key.size);
        } else if (entering) {
            status = put_value(op, key.data, key.size, values, row, err);
        }
        /* A key that leaves and has no value was removed by the filter: nothing to take out of. */
    }
    mr_buf_release(&key);
    return status;
}

static enum mr_status apply_step(struct inverse_op *op, struct mr__function *function, bool inverse,
                                 struct mr__when when, struct step *step, struct mr_error *err)
{
    struct mr_batch *base = NULL, *change = NULL, *results = NULL;
    struct mr_bytes keys = mr_bytes_of(step->keys.data, step->keys.size);
    enum mr_status status;

    if (step->keys.failed) {
        status = MR_FAIL(err, MR_NOMEM, "out of memory");
        goto done;
    }
    MR_TRY_GOTO(mr_batch_builder_finish(step->base, &base, err));
    MR_TRY_GOTO(mr_batch_builder_finish(step->change, &change, err));
    if (mr_batch_row_count(base) == 0)
        goto done;
    if (inverse && function->fn.kind == MR_FN_KIND_BUILTIN)
        status = mr__builtin_pairs(function->fn.builtin, true, base, change, function->output,
                                   &results, err);
    else
        status = mr__reduce_pairs(function, when, base, change, &results, err);
    for (int64_t row = 0; status == MR_OK && row < mr_batch_row_count(results); row++) {
        size_t key_bytes;
        const char *key = mr_bytes_block(&keys, &key_bytes);
        status = put_value(op, key, key_bytes, mr_batch_column(results, 0), row, err);
    }
done:
    mr_batch_unref(base);
    mr_batch_unref(change);
    mr_batch_unref(results);
    return status;
}

static enum mr_status change_values(struct inverse_op *op, const struct mr_batch *changes,
                                    bool entering, struct mr__when when, struct mr_error *err)
{
    struct mr__function *function = entering ? op->reduce : op->inverse;
    struct step step = {0};
    enum mr_status status;

    if (changes == NULL)
        return MR_OK;
    MR_TRY_GOTO(step_begin(&step, op->reduce->output, err));
    MR_TRY_GOTO(collect(op, changes, entering, &step, err));
    status = apply_step(op, function, !entering, when, &step, err);
done:
    step_end(&step);
    return status;
}

/* ---- the fold ---- */

static enum mr_status fire(struct inverse_op *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct mr__when when = {call->info->worker, call->info->batch_time_us};
    int64_t time_us = call->info->batch_time_us;
    int64_t before_us = time_us - op->slide_us;
    struct mr_batch *left = NULL, *entered = NULL;
    enum mr_status status;

    MR_TRY_GOTO(reduce_range(op, when, before_us - op->size_us,
                             MR_MIN(before_us, time_us - op->size_us), &left, err));
    MR_TRY_GOTO(
        reduce_range(op, when, MR_MAX(before_us, time_us - op->size_us), time_us, &entered, err));
    MR_TRY_GOTO(change_values(op, left, false, when, err));
    MR_TRY_GOTO(change_values(op, entered, true, when, err));
    status = mr__slices_drop(op->batches, time_us - op->size_us, err);
done:
    mr_batch_unref(left);
    mr_batch_unref(entered);
    return status;
}

static enum mr_status inverse_run(void *pointer, struct mr_fold_call *call, struct mr_error *err)
{
    struct inverse_op *op = pointer;
    const struct mr_fold_input *input = &call->inputs[0];
    int64_t time_us = call->info->batch_time_us;
    int64_t firing_us = mr__next_firing(op->ctx, op->slide_us, time_us);

    /* A batch in the gap between two windows is in none. */
    if (input->present && time_us > firing_us - op->size_us)
        MR_TRY(mr__slices_put(op->batches, time_us, input->batches, input->batch_count, err));
    return call->fires ? fire(op, call, err) : MR_OK;
}

static enum mr_status inverse_run_partition(void *pointer, uint32_t partition,
                                            struct mr_fold_call *call, struct mr_error *err)
{
    struct inverse_op *op = pointer;
    struct mr__window_values values = {op->values, op->pairs, op->filter};

    if (!call->fires)
        return MR_OK;
    return mr__window_emit(&values, partition * MR_STORE_SHARDS / op->partition_count,
                           (partition + 1) * MR_STORE_SHARDS / op->partition_count, call, err);
}

static uint32_t inverse_partition_count(void *pointer)
{
    const struct inverse_op *op = pointer;

    return op->partition_count;
}

static struct mr_store *inverse_store(void *pointer)
{
    const struct inverse_op *op = pointer;

    return op->values;
}

static const struct mr_fold_ops inverse_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "window with inverse",
    .open = inverse_open,
    .run = inverse_run,
    .free = inverse_free,
    .store = inverse_store,
    .partition_count = inverse_partition_count,
    .run_partition = inverse_run_partition,
};

enum mr_status mr__inverse_op(const struct mr__window *window, const struct mr_schema *pairs,
                              struct mr__function *reduce, struct mr__function *inverse,
                              struct mr__function *filter, struct mr_fold_op *ret_op,
                              struct mr_error *err)
{
    struct inverse_op *op = mr_alloc_zero(NULL, sizeof(*op));

    if (op != NULL)
        op->name = mr_strdup(window->name);
    if (op == NULL || op->name == NULL) {
        mr_free(op);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    op->ctx = window->ctx;
    op->size_us = window->size_us;
    op->slide_us = window->slide_us;
    op->pairs = mr_schema_ref(pairs);
    op->reduce = reduce;
    op->inverse = inverse;
    op->filter = filter;
    op->partition_count = MR_MIN(window->partition_count, (uint32_t)MR_STORE_SHARDS);
    *ret_op = (struct mr_fold_op){.ops = &inverse_ops, .op = op};
    return MR_OK;
}
