/*
 * The output of windows with an inverse: every key with its value, out of the store.
 *
 *     entries of a shard, in the order of their hashes --> columns --filter--> rows
 *                                                                 \--> what it drops is forgotten
 *
 * The order is the same for the same keys, whatever has happened before, and needs no sorting.
 *
 * Called by window_sum_op.c and inverse_op.c. Thread: any worker, with shards of its own.
 */
#include "dstream/streams.h"

#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum {
    ROWS_MAX = 16384, /* of a batch of the output */
    READ_MAX = 512,   /* entries read at once */
};

/* Rows on their way out. */
struct emission {
    const struct mr__window_values *values;
    struct mr_fold_call *call;
    struct mr_batch_builder *builder;
    struct mr_store_entry
        *entries; /* of the rows in the builder; READ_MAX when there is no filter */
};

/* Is one of these bytes 0? 8 of them can be read (is_plain_text). */
static bool has_nul(const char *data, size_t size)
{
    uint64_t word;

    if (size > 8)
        return memchr(data, 0, size) != NULL;
    memcpy(&word, data, 8);
    if (size < 8)
        word |= UINT64_MAX << (8 * size);
    return ((word - UINT64_C(0x0101010101010101)) & ~word & UINT64_C(0x8080808080808080)) != 0;
}

/* A text without NUL is its key bytes but for the first and the last two. The value stands behind
 * the key: with it there are the 8 bytes that short ones are read in. */
static bool is_plain_text(const struct mr_store_entry *entry)
{
    return entry->key_bytes >= 3 && entry->key_bytes + entry->value_bytes >= 9 &&
           entry->value == entry->key + entry->key_bytes && entry->key[0] == 1 &&
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

/* A BIGINT that is not null, in the value form of row_codec. */
enum { BIGINT_BYTES = 9 };

static enum mr_status add_values(struct mr_column_builder *out,
                                 const struct mr_store_entry *entries, size_t count,
                                 struct mr_error *err)
{
    bool is_bigint = out->type->id == MR_TYPE_INT64;

    MR_TRY(mr_column_builder_reserve(out, (int64_t)count, 0, err));
    for (size_t i = 0; i < count; i++) {
        if (is_bigint && entries[i].value_bytes == BIGINT_BYTES && entries[i].value[0] == 0) {
            int64_t value;

            memcpy(&value, entries[i].value + 1, sizeof(value));
            mr_column_builder_i64(out, value);
        } else {
            struct mr_bytes bytes = mr_bytes_of(entries[i].value, entries[i].value_bytes);

            MR_TRY(mr_value_decode(&bytes, &out, 1, err));
        }
    }
    return MR_OK;
}

static enum mr_status add_rows(struct emission *emission, const struct mr_store_entry *entries,
                               size_t count, struct mr_error *err)
{
    MR_TRY(add_keys(mr_batch_builder_column(emission->builder, 0), entries, count, err));
    MR_TRY(add_values(mr_batch_builder_column(emission->builder, 1), entries, count, err));
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
            status = mr_store_delete_at(emission->values->store, &emission->entries[row], err);
        if (scratch[0].failed || scratch[1].failed)
            status = MR_FAIL(err, MR_NOMEM, "out of memory");
    }
    mr_buf_release(&scratch[0]);
    mr_buf_release(&scratch[1]);
    return status;
}

/* The rows that the filter keeps, in their order. Returns new. */
static enum mr_status run_filter(struct mr__function *filter, struct mr__when when,
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

static enum mr_status emit_filtered(struct emission *emission, struct mr_batch *rows,
                                    struct mr_error *err)
{
    const struct mr__window_values *values = emission->values;
    const struct mr_batch_info *info = emission->call->info;
    struct mr__when when = {info->worker, info->batch_time_us};
    struct mr_batch *kept = NULL;
    enum mr_status status;

    MR_TRY(mr__function_blame(
        values->filter, run_filter(values->filter, when, values->pairs, rows, &kept, err), err));
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
    if (emission->values->filter == NULL)
        status = mr_output_emit(emission->call->out, rows, err);
    else
        status = emit_filtered(emission, rows, err);
    mr_batch_unref(rows);
    return status;
}

static enum mr_status emit_shard(struct emission *emission, unsigned shard, struct mr_error *err)
{
    bool keep_entries = emission->values->filter != NULL;
    uint32_t cursor = 0;

    for (;;) {
        size_t have = (size_t)mr_batch_builder_row_count(emission->builder);
        struct mr_store_entry *entries = emission->entries + (keep_entries ? have : 0);
        size_t count =
            mr_store_read_shard(emission->values->store, shard, &cursor, entries, READ_MAX);

        if (count == 0)
            return MR_OK;
        MR_TRY(add_rows(emission, entries, count, err));
        if (have + count + READ_MAX > ROWS_MAX)
            MR_TRY(flush(emission, err));
    }
}

static enum mr_status emission_begin(struct emission *emission, struct mr_error *err)
{
    size_t count = emission->values->filter != NULL ? ROWS_MAX : READ_MAX;

    emission->entries = mr_alloc(NULL, count * sizeof(*emission->entries));
    if (emission->entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    return mr_batch_builder_new(emission->values->pairs, &emission->builder, err);
}

enum mr_status mr__window_emit(const struct mr__window_values *values, unsigned first_shard,
                               unsigned end_shard, struct mr_fold_call *call, struct mr_error *err)
{
    struct emission emission = {.values = values, .call = call};
    enum mr_status status;

    MR_TRY_GOTO(emission_begin(&emission, err));
    for (unsigned shard = first_shard; shard < end_shard; shard++)
        MR_TRY_GOTO(emit_shard(&emission, shard, err));
    status = flush(&emission, err);
done:
    mr_batch_builder_free(emission.builder);
    mr_free(emission.entries);
    return status;
}
