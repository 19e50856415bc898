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

#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <stdio.h>
#include <string.h>

enum {
    ROWS_MAX = 16384, /* of a batch of the output */
    READ_MAX = 512,   /* entries read at once */
};

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

/* Rows on their way out. */
struct emission {
    struct sum_op *op;
    struct mr_fold_call *call;
    struct mr_batch_builder *builder;
    struct mr_store_entry
        *entries; /* of the rows in the builder; READ_MAX when there is no filter */
};

/* Is one of these bytes 0? */
static bool has_nul(const char *data, size_t size)
{
    uint64_t word;

    if (size > 8)
        return memchr(data, 0, size) != NULL;
    /* The value behind the key is longer than what is read too much. */
    memcpy(&word, data, 8);
    if (size < 8)
        word |= UINT64_MAX << (8 * size);
    return ((word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080)) != 0;
}

/* A text without NUL is its key bytes but for the first and the last two. */
static bool is_plain_text(const struct mr_store_entry *entry)
{
    return entry->key_bytes >= 3 && entry->key[0] == 1 &&
           !has_nul(entry->key + 1, entry->key_bytes - 3);
}

/* Like mr_column_builder_bytes; short ones by copying more than they are, for which a builder and
 * an entry have room. */
static void add_text(struct mr_column_builder *out, const char *data, size_t size)
{
    if (size > 8) {
        mr_column_builder_bytes(out, data, size);
        return;
    }
    mr_column_builder_valid(out);
    memcpy(out->values + out->bytes_used, data, 8);
    out->bytes_used += size;
    out->offsets[++out->length] = (int32_t)out->bytes_used;
}

static enum mr_status add_keys(struct mr_column_builder *out, const struct mr_store_entry *entries,
                               size_t count, struct mr_error *err)
{
    bool is_text = out->type->id == MR_TYPE_TEXT;
    size_t bytes = 0;

    for (size_t i = 0; i < count; i++)
        bytes += entries[i].key_bytes;
    if (is_text)
        MR_TRY(mr_column_builder_reserve(out, (int64_t)count, bytes, err));
    for (size_t i = 0; i < count; i++) {
        if (is_text && is_plain_text(&entries[i])) {
            add_text(out, entries[i].key + 1, entries[i].key_bytes - 3);
        } else {
            struct mr_bytes key = mr_bytes_of(entries[i].key, entries[i].key_bytes);

            MR_TRY(mr_key_decode(&key, out->type, out, err));
            if (is_text) /* it may have taken room of those behind */
                MR_TRY(mr_column_builder_reserve(out, (int64_t)(count - i), bytes, err));
        }
    }
    return MR_OK;
}

static enum mr_status add_rows(struct emission *emission, const struct mr_store_entry *entries,
                               size_t count, struct mr_error *err)
{
    struct mr_column_builder *sums = mr_batch_builder_column(emission->builder, 1);

    MR_TRY(mr_column_builder_reserve(sums, (int64_t)count, 0, err));
    for (size_t i = 0; i < count; i++) {
        if (entries[i].value_bytes != MR__SUM_BYTES)
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot read a stored sum; restore the checkpoint from a copy");
        mr_column_builder_i64(sums, mr_load_i64(entries[i].value + 1));
    }
    MR_TRY(add_keys(mr_batch_builder_column(emission->builder, 0), entries, count, err));
    return mr_batch_builder_rows_added(emission->builder, (int64_t)count, err);
}

static bool same_row(const struct mr_batch *a, int64_t row_a, const struct mr_batch *b,
                     int64_t row_b, struct mr_buf scratch[2])
{
    mr_buf_clear(&scratch[0]);
    mr_buf_clear(&scratch[1]);
    mr_key_encode(&scratch[0], mr_batch_column(a, 0), row_a);
    mr_key_encode(&scratch[1], mr_batch_column(b, 0), row_b);
    return scratch[0].size == scratch[1].size && scratch[0].size > 0 &&
           memcmp(scratch[0].data, scratch[1].data, scratch[0].size) == 0;
}

/* Takes the keys of rows that are not in kept, a part of rows in the same order, out of the
 * store. */
static enum mr_status forget_others(struct emission *emission, const struct mr_batch *rows,
                                    const struct mr_batch *kept, struct mr_error *err)
{
    struct mr_buf scratch[2] = {MR_BUF_INIT, MR_BUF_INIT};
    int64_t at = 0, kept_count = mr_batch_row_count(kept);
    enum mr_status status = MR_OK;

    for (int64_t row = 0; row < mr_batch_row_count(rows) && status == MR_OK; row++) {
        if (at < kept_count && same_row(rows, row, kept, at, scratch))
            at++;
        else
            status = mr_store_delete_at(emission->op->values, &emission->entries[row], err);
        if (scratch[0].failed || scratch[1].failed)
            status = MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    mr_buf_release(&scratch[0]);
    mr_buf_release(&scratch[1]);
    return status;
}

static enum mr_status emit_filtered(struct emission *emission, struct mr_batch *rows,
                                    struct mr_error *err)
{
    struct sum_op *op = emission->op;
    const struct mr_batch_info *info = emission->call->info;
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr_batch *kept = NULL;
    enum mr_status status;

    MR_TRY(mr__function_blame(
        op->filter, mr__window_filter(op->filter, when, op->pairs, rows, &kept, err), err));
    status = MR_OK;
    if (mr_batch_row_count(kept) != mr_batch_row_count(rows))
        status = forget_others(emission, rows, kept, err);
    if (status == MR_OK)
        status = mr_output_emit(emission->call->out, kept, err);
    mr_batch_unref(kept);
    return status;
}

static enum mr_status flush(struct emission *emission, struct mr_error *err)
{
    struct mr_batch *rows = NULL;
    enum mr_status status;

    if (mr_batch_builder_row_count(emission->builder) == 0)
        return MR_OK;
    MR_TRY(mr_batch_builder_finish(emission->builder, &rows, err));
    if (emission->op->filter == NULL)
        status = mr_output_emit(emission->call->out, rows, err);
    else
        status = emit_filtered(emission, rows, err);
    mr_batch_unref(rows);
    return status;
}

static enum mr_status emit_shard(struct emission *emission, unsigned shard, struct mr_error *err)
{
    bool keep_entries = emission->op->filter != NULL;
    uint32_t cursor = 0;

    for (;;) {
        size_t have = (size_t)mr_batch_builder_row_count(emission->builder);
        struct mr_store_entry *entries = emission->entries + (keep_entries ? have : 0);
        size_t count = mr_store_read_shard(emission->op->values, shard, &cursor, entries, READ_MAX);

        if (count == 0)
            return MR_OK;
        MR_TRY(add_rows(emission, entries, count, err));
        if (have + count + READ_MAX > ROWS_MAX)
            MR_TRY(flush(emission, err));
    }
}

static enum mr_status emission_begin(struct emission *emission, struct mr_error *err)
{
    size_t count = emission->op->filter != NULL ? ROWS_MAX : READ_MAX;

    emission->entries = mr_alloc(NULL, count * sizeof(*emission->entries));
    if (emission->entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    return mr_batch_builder_new(emission->op->pairs, &emission->builder, err);
}

static enum mr_status fire(struct part *part, struct mr_fold_call *call, struct mr_error *err)
{
    struct emission emission = {.op = part->op, .call = call};
    enum mr_status status;

    MR_TRY_GOTO(emission_begin(&emission, err));
    for (unsigned shard = part->first; shard < part->end; shard++) {
        MR_TRY_GOTO(change_shard(part, shard, err));
        MR_TRY_GOTO(emit_shard(&emission, shard, err));
    }
    status = flush(&emission, err);
done:
    mr_batch_builder_free(emission.builder);
    mr_free(emission.entries);
    return status;
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
    op->partition_count = MR_MIN(window->partition_count, (uint32_t)MR_STORE_SHARDS);
    *ret_op = (struct mr_fold_op){.ops = &sum_ops, .op = op};
    *ret_values = &op->values;
    return MR_OK;
}
