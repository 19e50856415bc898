/*
 * What a native window of sums keeps of each batch: its sums per key, by shard.
 *
 *     key    batch time u64 big-endian | shard u8 | chunk u24 big-endian          (slices.c)
 *     value  rows: key size varint, key bytes (row_codec), sum i64 little-endian
 *
 * A key may have several rows in a batch, one for each task that saw it. Rows are split by the shard
 * of the store of sums, so that the partitions of a firing each read what concerns their shards and
 * nothing else. An entry has at most CHUNK_BYTES.
 *
 * Sums that are null (no value of the key was there) count as 0.
 *
 * Thread: put on the driver; apply on any worker, one shard by one thread.
 */
#include "dstream/window_sums.h"

#include <string.h>

enum {
    CHUNK_BYTES = 1 << 20,
    ROW_BYTES_MAX = 5 + 8, /* without the key */
    AHEAD = 32,            /* rows between the hint of a key and its use */
    GROUP = 512,           /* rows that are looked up together */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a batch in state: out of memory");
}

/* ---- writing ---- */

struct writer {
    struct mr_store *slices;
    int64_t time_us;
    struct {
        struct mr_buf rows;
        uint32_t chunk_count;
    } shards[MR_STORE_SHARDS];
};

static uint32_t chunk_number(unsigned shard, uint32_t chunk)
{
    return (uint32_t)shard << 24 | chunk;
}

static enum mr_status write_chunk(struct writer *writer, unsigned shard, struct mr_error *err)
{
    struct mr_buf *rows = &writer->shards[shard].rows;
    uint32_t chunk = writer->shards[shard].chunk_count++;

    MR_TRY(mr__slice_put_bytes(writer->slices, writer->time_us, chunk_number(shard, chunk),
                               rows->data, rows->size, err));
    mr_buf_clear(rows);
    return MR_OK;
}

/* The sum in a buffer of the partial aggregation. */
static enum mr_status sum_of(const struct mr_agg_layout *layout, struct mr_slice buffers,
                             int64_t *ret_sum, struct mr_error *err)
{
    const char *at;
    mr_int128 sum;

    MR_ASSERT(buffers.size_bytes == layout->fixed_bytes);
    if (layout->results[0].kind == MR_AGG_COUNT_ALL) {
        *ret_sum = mr_load_i64(buffers.data);
        return MR_OK;
    }
    at = buffers.data + layout->slots[layout->results[0].slot].offset;
    sum = mr_load_i128(at); /* 0 when there was no value */
    if (sum > INT64_MAX || sum < INT64_MIN)
        return MR_FAIL(err, MR_BAD_DATA,
                       "the sum does not fit into its type; use DOUBLE or DECIMAL(38, 0) values");
    *ret_sum = (int64_t)sum;
    return MR_OK;
}

static enum mr_status put_row(struct writer *writer, unsigned shard, struct mr_slice key,
                              int64_t sum, struct mr_error *err)
{
    struct mr_buf *rows = &writer->shards[shard].rows;

    if (rows->size + key.size_bytes + ROW_BYTES_MAX > CHUNK_BYTES && rows->size > 0)
        MR_TRY(write_chunk(writer, shard, err));
    if (!mr_buf_reserve(rows, key.size_bytes + ROW_BYTES_MAX))
        return no_memory(err);
    mr_buf_add_varint(rows, key.size_bytes);
    memcpy(rows->data + rows->size, key.data, key.size_bytes);
    mr_store_i64(rows->data + rows->size + key.size_bytes, sum);
    rows->size += key.size_bytes + 8;
    return MR_OK;
}

static enum mr_status put_batch(struct writer *writer, const struct mr_store *values,
                                const struct mr_agg_layout *layout, const struct mr_batch *batch,
                                struct mr_error *err)
{
    const struct mr_column *keys = mr_batch_column(batch, 0);
    const struct mr_column *buffers = mr_batch_column(batch, 1);

    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        struct mr_slice key = mr_column_text(keys, row);
        uint64_t hash = mr_store_hash(values, key.data, key.size_bytes);
        int64_t sum;

        MR_TRY(sum_of(layout, mr_column_text(buffers, row), &sum, err));
        MR_TRY(put_row(writer, mr_store_shard(hash), key, sum, err));
    }
    return MR_OK;
}

enum mr_status mr__sum_slices_put(struct mr_store *slices, const struct mr_store *values,
                                  const struct mr_agg_layout *layout, int64_t time_us,
                                  struct mr_batch *const *batches, size_t batch_count,
                                  struct mr_error *err)
{
    struct writer writer = {.slices = slices, .time_us = time_us};
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < batch_count && status == MR_OK; i++)
        status = put_batch(&writer, values, layout, batches[i], err);
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        if (status == MR_OK && writer.shards[shard].rows.size > 0)
            status = write_chunk(&writer, shard, err);
        mr_buf_release(&writer.shards[shard].rows);
    }
    return status;
}

/* ---- reading ---- */

struct row {
    const char *key;
    size_t key_bytes;
    uint64_t hash;
    int64_t sum;
};

/* What happens to the sums of one shard. */
struct change {
    struct mr_store *values;
    bool take_out;
    bool skip_missing;
};

static enum mr_status corrupt(struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the stored sums of a batch; restore the checkpoint from a copy");
}

static enum mr_status change_sum(const struct change *change, const struct row *row,
                                 struct mr_error *err)
{
    const char *old;
    size_t old_bytes;
    char *value;
    bool created;
    int64_t sum;

    /* A key that leaves and has no sum was removed by the filter: nothing to take out of. */
    if (change->skip_missing &&
        !mr_store_get_hashed(change->values, row->hash, row->key, row->key_bytes, &old, &old_bytes))
        return MR_OK;
    MR_TRY(mr_store_upsert_hashed(change->values, row->hash, row->key, row->key_bytes,
                                  MR__SUM_BYTES, &value, &created, err));
    sum = mr_load_i64(value + 1);
    if (change->take_out ? __builtin_sub_overflow(sum, row->sum, &sum)
                         : __builtin_add_overflow(sum, row->sum, &sum))
        return MR_FAIL(err, MR_BAD_DATA,
                       "the sum does not fit into its type; use DOUBLE or DECIMAL(38, 0) values");
    value[0] = 0;
    mr_store_i64(value + 1, sum);
    return MR_OK;
}

/* Takes up to GROUP rows. */
static enum mr_status take_rows(const struct mr_store *values, struct mr_bytes *bytes,
                                struct row rows[GROUP], uint32_t *ret_count, struct mr_error *err)
{
    uint32_t count = 0;

    while (count < GROUP && mr_bytes_left(bytes) > 0) {
        struct row *row = &rows[count++];
        const char *sum;

        row->key = mr_bytes_block(bytes, &row->key_bytes);
        sum = mr_bytes_take(bytes, 8);
        if (row->key == NULL || sum == NULL)
            return corrupt(err);
        row->sum = mr_load_i64(sum);
        row->hash = mr_store_hash(values, row->key, row->key_bytes);
    }
    *ret_count = count;
    return MR_OK;
}

static enum mr_status apply_chunk(const struct change *change, const char *data, size_t size,
                                  struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(data, size);
    struct row rows[GROUP];
    uint32_t count = 0;

    while (mr_bytes_left(&bytes) > 0) {
        MR_TRY(take_rows(change->values, &bytes, rows, &count, err));
        for (uint32_t i = 0; i < MR_MIN(count, (uint32_t)AHEAD); i++)
            mr_store_hint(change->values, rows[i].hash, 0);
        for (uint32_t i = 0; i < count; i++) {
            if (i + AHEAD < count)
                mr_store_hint(change->values, rows[i + AHEAD].hash, 0);
            if (i + AHEAD / 2 < count)
                mr_store_hint(change->values, rows[i + AHEAD / 2].hash, 1);
            MR_TRY(change_sum(change, &rows[i], err));
        }
    }
    return MR_OK;
}

enum mr_status mr__sum_slices_apply(const struct mr_store *slices, struct mr_store *values,
                                    int64_t time_us, unsigned shard, bool take_out,
                                    bool skip_missing, struct mr_error *err)
{
    struct change change = {values, take_out, skip_missing};
    const char *data;
    size_t size;

    for (uint32_t chunk = 0;
         mr__slice_get_bytes(slices, time_us, chunk_number(shard, chunk), &data, &size); chunk++)
        MR_TRY(apply_chunk(&change, data, size, err));
    return MR_OK;
}
