/*
 * Sums and counts per key over a window, as a fold with partitions (INV-1 .. INV-4, for functions
 * that are known).
 *
 *     tasks: sums by shard --> run_partition, for each of its shards
 *                                 one sum a key out of all tasks, into state for later
 *                                 sums -= what left        (t - slide - window, t - window]
 *                                 sums += what entered     the part of (t - window, t] not yet in
 *                                 emits every (key, sum)
 *
 * A firing costs what changed, and one pass over the keys for the output, which is in the order of
 * the keys' hashes: the same for the same keys, whatever has happened before.
 *
 * Two stores: <name> the sums at the last firing, <name>.batches those of the batches of the window
 * (sum_slices.c), deleted by the firing that takes them out.
 *
 * Sums that are null (no value of the key was there) count as 0.
 *
 * Thread: run_partition on any worker, with the shards of its partition in both stores.
 */
#include "dstream/window_sums.h"

#include <stdio.h>
#include <string.h>

struct sum_op {
    struct mr_context *ctx;
    char *name;
    int64_t size_us;
    int64_t slide_us;
    int64_t input_slide_us;
    struct mr_schema *pairs;
    struct mr__function *filter; /* borrowed from the context; NULL = none */
    uint32_t partition_count;
    struct mr_store *values;
    struct mr_store *batches;
};

static void sum_free(void *pointer)
{
    struct sum_op *op = pointer;

    if (op == NULL)
        return;
    mr_schema_unref(op->pairs);
    mr_free(op->name);
    mr_free(op);
}

static enum mr_status sum_open(void *pointer, struct mr_state *state, struct mr_error *err)
{
    struct sum_op *op = pointer;
    char name[MR_STATE_NAME_BYTES_MAX + 16];

    snprintf(name, sizeof(name), "%s.batches", op->name);
    MR_TRY(mr__values_open(state, op->name, "window", op->pairs, &op->values, err));
    return mr_state_store(state, name, "window", "batch time, shard, chunk", "sums by key",
                          &op->batches, err);
}

/* ---- what a batch brings ---- */

/* The shards of one partition, while it works. */
struct part {
    struct sum_op *op;
    int64_t time_us;
    unsigned first, end; /* shards */
    struct mr__sum_changes changes[MR_STORE_SHARDS];
};

static enum mr_status take_batch(const struct mr_batch *batch, struct mr__sum_changes *changes,
                                 struct mr_error *err)
{
    const uint64_t *hashes = mr_batch_column(batch, 0)->values;
    const struct mr_column *keys = mr_batch_column(batch, 1);
    const int64_t *sums = mr_batch_column(batch, 2)->values;
    int64_t rows = mr_batch_row_count(batch);
    struct mr__sum_row some[MR__SUM_ROWS];

    for (int64_t from = 0; from < rows; from += MR__SUM_ROWS) {
        uint32_t count = (uint32_t)MR_MIN(rows - from, (int64_t)MR__SUM_ROWS);

        for (uint32_t i = 0; i < count; i++)
            some[i] = (struct mr__sum_row){hashes[from + i], mr_column_text(keys, from + i),
                                           sums[from + i]};
        MR_TRY(mr__sum_changes_add(changes, some, count, true, err));
    }
    return MR_OK;
}

/* All rows of a batch are in one shard. */
static unsigned shard_of(const struct mr_batch *batch)
{
    return mr_store_shard(*(const uint64_t *)mr_batch_column(batch, 0)->values);
}

static enum mr_status take_shard(struct part *part, const struct mr_fold_input *input,
                                 unsigned shard, struct mr_error *err)
{
    struct mr__sum_changes *changes = &part->changes[shard];
    uint64_t rows = 0;

    for (size_t i = 0; i < input->batch_count; i++) {
        if (shard_of(input->batches[i]) == shard)
            rows += (uint64_t)mr_batch_row_count(input->batches[i]);
    }
    /* Tasks see many of the same keys, and about as many leave. */
    MR_TRY(mr__sum_changes_reserve(changes, rows / 2, err));
    for (size_t i = 0; i < input->batch_count; i++) {
        if (shard_of(input->batches[i]) == shard)
            MR_TRY(take_batch(input->batches[i], changes, err));
    }
    return mr__sum_slice_put(part->op->batches, part->time_us, shard, changes, err);
}

static enum mr_status take_input(struct part *part, const struct mr_fold_input *input,
                                 struct mr_error *err)
{
    struct sum_op *op = part->op;
    int64_t firing_us = mr__next_firing(op->ctx, op->slide_us, part->time_us);

    /* A batch in the gap between two windows is in none. */
    if (!input->present || part->time_us <= firing_us - op->size_us)
        return MR_OK;
    for (unsigned shard = part->first; shard < part->end; shard++)
        MR_TRY(take_shard(part, input, shard, err));
    return MR_OK;
}

/* ---- a firing, shard by shard ---- */

/* The times of batches in (from, to], each before the statement that follows. */
#define EACH_BATCH(op, time_us, from_us, to_us)                                                    \
    for (int64_t time_us = MR_MAX((from_us), (op)->ctx->zero_time_us) + (op)->input_slide_us;      \
         time_us <= (to_us); time_us += (op)->input_slide_us)

static enum mr_status change_shard(struct part *part, unsigned shard, struct mr_error *err)
{
    struct sum_op *op = part->op;
    struct mr__sum_changes *changes = &part->changes[shard];
    int64_t before_us = part->time_us - op->slide_us;
    int64_t begin_us = part->time_us - op->size_us;

    /* The batch of this very time is among the changes already. */
    EACH_BATCH(op, time_us, MR_MAX(before_us, begin_us), part->time_us - op->input_slide_us)
    MR_TRY(mr__sum_slice_get(op->batches, op->values, time_us, shard, true, changes, err));
    EACH_BATCH(op, time_us, before_us - op->size_us, MR_MIN(before_us, begin_us))
    MR_TRY(mr__sum_slice_get(op->batches, op->values, time_us, shard, false, changes, err));
    MR_TRY(mr__sum_changes_apply(changes, op->values, op->filter != NULL, err));
    EACH_BATCH(op, time_us, before_us - op->size_us, MR_MIN(before_us, begin_us))
    MR_TRY(mr__sum_slice_drop(op->batches, time_us, shard, err));
    return MR_OK;
}

static enum mr_status fire(struct part *part, struct mr_fold_call *call, struct mr_error *err)
{
    struct sum_op *op = part->op;
    struct mr__window_values values = {op->values, op->pairs, op->filter};

    for (unsigned shard = part->first; shard < part->end; shard++)
        MR_TRY(change_shard(part, shard, err));
    return mr__window_emit(&values, part->first, part->end, call, err);
}

static enum mr_status sum_run_partition(void *pointer, uint32_t partition,
                                        struct mr_fold_call *call, struct mr_error *err)
{
    struct sum_op *op = pointer;
    struct part part = {
        .op = op,
        .time_us = call->info->batch_time_us,
        .first = partition * MR_STORE_SHARDS / op->partition_count,
        .end = (partition + 1) * MR_STORE_SHARDS / op->partition_count,
    };
    enum mr_status status = take_input(&part, &call->inputs[0], err);

    if (status == MR_OK && call->fires)
        status = fire(&part, call, err);
    for (unsigned shard = part.first; shard < part.end; shard++)
        mr__sum_changes_release(&part.changes[shard]);
    return status;
}

static uint32_t sum_partition_count(void *pointer)
{
    const struct sum_op *op = pointer;

    return op->partition_count;
}

static struct mr_store *sum_store(void *pointer)
{
    const struct sum_op *op = pointer;

    return op->values;
}

static const struct mr_fold_ops sum_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "window of sums",
    .open = sum_open,
    .free = sum_free,
    .store = sum_store,
    .partition_count = sum_partition_count,
    .run_partition = sum_run_partition,
};

enum mr_status mr__sum_window_op(const struct mr__sum_window *window, struct mr_fold_op *ret_op,
                                 struct mr_store *const **ret_values, struct mr_error *err)
{
    struct sum_op *op = mr_alloc_zero(NULL, sizeof(*op));

    if (op != NULL)
        op->name = mr_strdup(window->window.name);
    if (op == NULL || op->name == NULL) {
        mr_free(op);
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    op->ctx = window->window.ctx;
    op->size_us = window->window.size_us;
    op->slide_us = window->window.slide_us;
    op->input_slide_us = window->input_slide_us;
    op->pairs = mr_schema_ref(window->pairs);
    op->filter = window->filter;
    op->partition_count = MR_MIN(window->window.partition_count, (uint32_t)MR_STORE_SHARDS);
    *ret_op = (struct mr_fold_op){.ops = &sum_ops, .op = op};
    *ret_values = &op->values;
    return MR_OK;
}
