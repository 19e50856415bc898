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
 * Thread: driver.
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

/* ---- output ---- */

struct all_values {
    struct mr_batch_builder *builder;
    enum mr_status status;
    struct mr_error *err;
};

static bool add_value(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                      void *arg)
{
    struct all_values *all = arg;

    all->status = mr__key_get(key, key_bytes, all->builder, 0, all->err);
    if (all->status == MR_OK)
        all->status = mr__value_get(value, value_bytes, all->builder, 1, all->err);
    if (all->status == MR_OK)
        all->status = mr_batch_builder_rows_added(all->builder, 1, all->err);
    return all->status == MR_OK;
}

/* Every key with its value, in key order. */
static enum mr_status read_values(struct inverse_op *op, struct mr_batch **ret_rows,
                                  struct mr_error *err)
{
    struct all_values all = {NULL, MR_OK, err};
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(op->pairs, &all.builder, err));
    status = mr_store_scan_sorted(op->values, NULL, 0, add_value, &all, err);
    if (status == MR_OK)
        status = all.status;
    if (status == MR_OK)
        status = mr_batch_builder_finish(all.builder, ret_rows, err);
    mr_batch_builder_free(all.builder);
    return status;
}

/* Takes the keys that are in rows and not in kept, which is a part of rows in the same order, out
 * of the store. */
static enum mr_status forget_others(struct inverse_op *op, const struct mr_batch *rows,
                                    const struct mr_batch *kept, struct mr_error *err)
{
    struct mr_buf all = MR_BUF_INIT, some = MR_BUF_INIT;
    int64_t at = 0;
    enum mr_status status = MR_OK;

    for (int64_t row = 0; row < mr_batch_row_count(rows) && status == MR_OK; row++) {
        mr_buf_clear(&all);
        mr_key_encode(&all, mr_batch_column(rows, 0), row);
        mr_buf_clear(&some);
        if (at < mr_batch_row_count(kept))
            mr_key_encode(&some, mr_batch_column(kept, 0), at);
        if (all.failed || some.failed)
            status = MR_FAIL(err, MR_NOMEM, "out of memory");
        else if (some.size == all.size && memcmp(some.data, all.data, all.size) == 0)
            at++;
        else
            status = mr_store_delete(op->values, all.data, all.size, err);
    }
    mr_buf_release(&all);
    mr_buf_release(&some);
    return status;
}

enum mr_status mr__window_filter(struct mr__function *filter, struct mr__when when,
                                 const struct mr_schema *pairs, struct mr_batch *rows,
                                 struct mr_batch **ret_kept, struct mr_error *err)
{
    struct mr__batches results = {0};
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    if (filter->fn.kind == MR_FN_KIND_TEST)
        return mr__filter_rows(filter, rows, ret_kept, err);
    MR_TRY_GOTO(mr__function_run_sql(filter, when, &rows, 1, &results, err));
    MR_TRY_GOTO(mr_batch_builder_new(pairs, &builder, err));
    for (size_t i = 0; i < results.count; i++)
        mr_batch_builder_append(builder, results.items[i]);
    status = mr_batch_builder_finish(builder, ret_kept, err);
done:
    mr_batch_builder_free(builder);
    mr__batches_release(&results);
    return status;
}

static enum mr_status emit_values(struct inverse_op *op, struct mr__when when,
                                  struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *rows = NULL, *kept = NULL;
    enum mr_status status;

    MR_TRY_GOTO(read_values(op, &rows, err));
    if (op->filter == NULL) {
        status = mr_output_emit(out, rows, err);
        goto done;
    }
    MR_TRY_GOTO(mr__function_blame(
        op->filter, mr__window_filter(op->filter, when, op->pairs, rows, &kept, err), err));
    MR_TRY_GOTO(forget_others(op, rows, kept, err));
    status = mr_output_emit(out, kept, err);
done:
    mr_batch_unref(rows);
    mr_batch_unref(kept);
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
    MR_TRY_GOTO(emit_values(op, when, call->out, err));
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
    *ret_op = (struct mr_fold_op){.ops = &inverse_ops, .op = op};
    return MR_OK;
}
