/*
 * In tasks, behind the partial aggregation: its rows with the hash of their key, a batch for each
 * shard of the store of sums. So the partitions of the fold read what is theirs and nothing else.
 *
 *     key bytes, buffers --> hash UBIGINT, key BINARY, sum BIGINT; all rows of a batch in one shard
 *
 * Thread: the task's worker; nothing is kept.
 */
#include "dstream/window_sums.h"

#include <millrace/ext/builder.h>

#include <string.h>

struct split_op {
    struct mr_store *const *values; /* the fold's, which is open when tasks run */
    struct mr_agg_layout *layout;
    struct mr_schema *rows;
};

static void split_free(void *pointer)
{
    struct split_op *op = pointer;

    if (op == NULL)
        return;
    mr_agg_layout_free(op->layout);
    mr_schema_unref(op->rows);
    mr_free(op);
}

/* The sum in a buffer of the partial aggregation; 0 when no value was there. */
static enum mr_status sum_of(const struct mr_agg_layout *layout, struct mr_slice buffers,
                             int64_t *ret_sum, struct mr_error *err)
{
    mr_int128 sum;

    MR_ASSERT(buffers.size_bytes == layout->fixed_bytes);
    if (layout->results[0].kind == MR_AGG_COUNT_ALL) {
        *ret_sum = mr_load_i64(buffers.data);
        return MR_OK;
    }
    sum = mr_load_i128(buffers.data + layout->slots[layout->results[0].slot].offset);
    if (sum > INT64_MAX || sum < INT64_MIN)
        return MR_FAIL(err, MR_BAD_DATA,
                       "the sum does not fit into its type; use DOUBLE or DECIMAL(38, 0) values");
    *ret_sum = (int64_t)sum;
    return MR_OK;
}

/* What a batch has for each shard. */
struct shares {
    int64_t rows[MR_STORE_SHARDS];
    size_t key_bytes[MR_STORE_SHARDS];
    struct mr_batch_builder *builders[MR_STORE_SHARDS];
};

static void hash_rows(const struct split_op *op, const struct mr_column *keys, uint64_t *hashes,
                      struct shares *shares)
{
    for (int64_t row = 0; row < keys->length; row++) {
        struct mr_slice key = mr_column_text(keys, row);
        unsigned shard;

        hashes[row] = mr_store_hash(*op->values, key.data, key.size_bytes);
        shard = mr_store_shard(hashes[row]);
        shares->rows[shard]++;
        shares->key_bytes[shard] += key.size_bytes;
    }
}

static enum mr_status make_builders(const struct split_op *op, struct shares *shares,
                                    struct mr_error *err)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        struct mr_batch_builder **builder = &shares->builders[shard];
        int64_t rows = shares->rows[shard];

        if (rows == 0)
            continue;
        MR_TRY(mr_batch_builder_new(op->rows, builder, err));
        MR_TRY(mr_column_builder_reserve(mr_batch_builder_column(*builder, 0), rows, 0, err));
        MR_TRY(mr_column_builder_reserve(mr_batch_builder_column(*builder, 1), rows,
                                         shares->key_bytes[shard], err));
        MR_TRY(mr_column_builder_reserve(mr_batch_builder_column(*builder, 2), rows, 0, err));
    }
    return MR_OK;
}

static enum mr_status deal_rows(const struct split_op *op, const struct mr_batch *batch,
                                const uint64_t *hashes, struct shares *shares, struct mr_error *err)
{
    const struct mr_column *keys = mr_batch_column(batch, 0);
    const struct mr_column *buffers = mr_batch_column(batch, 1);
    struct mr_column_builder *columns[MR_STORE_SHARDS][3] = {0};

    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        for (uint32_t i = 0; i < 3 && shares->rows[shard] > 0; i++)
            columns[shard][i] = mr_batch_builder_column(shares->builders[shard], i);
    }
    for (int64_t row = 0; row < keys->length; row++) {
        struct mr_column_builder **out = columns[mr_store_shard(hashes[row])];
        struct mr_slice key = mr_column_text(keys, row);
        int64_t sum = 0;

        MR_TRY(sum_of(op->layout, mr_column_text(buffers, row), &sum, err));
        mr_column_builder_i64(out[0], (int64_t)hashes[row]);
        mr_column_builder_bytes(out[1], key.data, key.size_bytes);
        mr_column_builder_i64(out[2], sum);
    }
    return MR_OK;
}

static enum mr_status emit_shares(struct shares *shares, struct mr_output *out,
                                  struct mr_error *err)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        struct mr_batch *batch;
        enum mr_status status;

        if (shares->rows[shard] == 0)
            continue;
        MR_TRY(mr_batch_builder_rows_added(shares->builders[shard], shares->rows[shard], err));
        MR_TRY(mr_batch_builder_finish(shares->builders[shard], &batch, err));
        status = mr_output_emit(out, batch, err);
        mr_batch_unref(batch);
        MR_TRY(status);
    }
    return MR_OK;
}

static enum mr_status split_apply(void *pointer, void *task, const struct mr_batch_info *info,
                                  const struct mr_batch *batch, struct mr_output *out,
                                  struct mr_error *err)
{
    struct split_op *op = pointer;
    struct shares shares = {0};
    size_t rows = (size_t)mr_batch_row_count(batch);
    uint64_t *hashes = mr_alloc(NULL, (rows + 1) * sizeof(*hashes));
    enum mr_status status;

    MR_UNUSED(task);
    MR_UNUSED(info);
    if (hashes == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    hash_rows(op, mr_batch_column(batch, 0), hashes, &shares);
    MR_TRY_GOTO(make_builders(op, &shares, err));
    MR_TRY_GOTO(deal_rows(op, batch, hashes, &shares, err));
    status = emit_shares(&shares, out, err);
done:
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++)
        mr_batch_builder_free(shares.builders[shard]);
    mr_free(hashes);
    return status;
}

static const struct mr_map_ops split_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "sums by shard",
    .apply = split_apply,
    .free = split_free,
};

enum mr_status mr__sum_split_op(const struct mr_aggregate_spec *spec,
                                struct mr_store *const *values, struct mr_map_op *ret_op,
                                struct mr_error *err)
{
    static const char columns[] = "hash UBIGINT, key BLOB, sum BIGINT";
    struct split_op *op = mr_alloc_zero(NULL, sizeof(*op));
    enum mr_status status;

    if (op == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    op->values = values;
    MR_TRY_GOTO(mr_agg_layout_new(spec, &op->layout, err));
    MR_TRY_GOTO(mr_schema_parse(columns, sizeof(columns) - 1, &op->rows, err));
    *ret_op = (struct mr_map_op){&split_ops, op, mr_schema_ref(op->rows)};
    return MR_OK;
done:
    split_free(op);
    return status;
}
