/*
 * What a native window of sums keeps of each batch: one sum per key, by shard.
 *
 *     key    batch time u64 big-endian | shard u8 | chunk u16 big-endian | choice u8
 *     value  rows: key size varint, key bytes (row_codec), sum i64 little-endian
 *
 * Rows are split by the shard in which the store of sums has their keys. The partition that owns
 * the shard also reads and writes these entries, so they have to be in the same shard of their own
 * store: `choice` is the first number that makes their key's hash so. An entry has about
 * CHUNK_BYTES.
 *
 * Thread: any worker, one shard by one thread.
 */
#include "dstream/window_sums.h"

#include <string.h>

enum {
    CHUNK_BYTES = 1 << 20,
    ROW_BYTES_MAX = 5 + 8, /* without the key */
    KEY_BYTES = 12,
};

static enum mr_status make_key(const struct mr_store *slices, int64_t time_us, unsigned shard,
                               uint32_t chunk, uint8_t key[KEY_BYTES], struct mr_error *err)
{
    if (chunk > UINT16_MAX)
        return MR_FAIL(err, MR_LIMIT, "a batch of a window has more than 64 GiB of keys");
    for (unsigned i = 0; i < 8; i++)
        key[i] = (uint8_t)((uint64_t)time_us >> (56 - 8 * i));
    key[8] = (uint8_t)shard;
    key[9] = (uint8_t)(chunk >> 8);
    key[10] = (uint8_t)chunk;
    for (unsigned choice = 0; choice <= UINT8_MAX; choice++) {
        key[11] = (uint8_t)choice;
        if (mr_store_shard(mr_store_hash(slices, key, KEY_BYTES)) == shard)
            return MR_OK;
    }
    return MR_FAIL(err, MR_INTERNAL, "no key of shard %u for a batch of a window", shard);
}

/* ---- writing ---- */

static enum mr_status write_chunk(struct mr_store *slices, int64_t time_us, unsigned shard,
                                  uint32_t *chunk, struct mr_buf *rows, struct mr_error *err)
{
    uint8_t key[KEY_BYTES];

    if (rows->size == 0)
        return MR_OK;
    MR_TRY(make_key(slices, time_us, shard, (*chunk)++, key, err));
    MR_TRY(mr_store_put(slices, key, sizeof(key), rows->data, rows->size, err));
    mr_buf_clear(rows);
    return MR_OK;
}

static enum mr_status add_row(struct mr_buf *rows, const struct mr__sum_change *sum,
                              struct mr_error *err)
{
    if (!mr_buf_reserve(rows, sum->key_bytes + ROW_BYTES_MAX))
        return MR_FAIL(err, MR_NOMEM, "cannot keep a batch in state: out of memory");
    mr_buf_add_varint(rows, sum->key_bytes);
    memcpy(rows->data + rows->size, sum->key, sum->key_bytes);
    mr_store_i64(rows->data + rows->size + sum->key_bytes, sum->in);
    rows->size += sum->key_bytes + 8;
    return MR_OK;
}

enum mr_status mr__sum_slice_put(struct mr_store *slices, int64_t time_us, unsigned shard,
                                 const struct mr__sum_changes *sums, struct mr_error *err)
{
    struct mr_buf rows = MR_BUF_INIT;
    uint32_t chunk = 0;
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < sums->count && status == MR_OK; i++) {
        status = add_row(&rows, &sums->items[i], err);
        if (status == MR_OK && rows.size >= CHUNK_BYTES)
            status = write_chunk(slices, time_us, shard, &chunk, &rows, err);
    }
    if (status == MR_OK)
        status = write_chunk(slices, time_us, shard, &chunk, &rows, err);
    mr_buf_release(&rows);
    return status;
}

/* ---- reading ---- */

static enum mr_status take_row(struct mr_bytes *bytes, const struct mr_store *values,
                               struct mr__sum_row *row, struct mr_error *err)
{
    const char *sum;

    row->key.data = mr_bytes_block(bytes, &row->key.size_bytes);
    sum = mr_bytes_take(bytes, 8);
    if (row->key.data == NULL || sum == NULL)
        return MR_FAIL(
            err, MR_CORRUPT,
            "cannot read the stored sums of a batch; restore the checkpoint from a copy");
    row->sum = mr_load_i64(sum);
    row->hash = mr_store_hash(values, row->key.data, row->key.size_bytes);
    return MR_OK;
}

static enum mr_status get_chunk(const char *data, size_t size, const struct mr_store *values,
                                bool enters, struct mr__sum_changes *changes, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(data, size);
    struct mr__sum_row rows[MR__SUM_ROWS];

    while (mr_bytes_left(&bytes) > 0) {
        uint32_t count = 0;

        while (count < MR__SUM_ROWS && mr_bytes_left(&bytes) > 0)
            MR_TRY(take_row(&bytes, values, &rows[count++], err));
        MR_TRY(mr__sum_changes_add(changes, rows, count, enters, err));
    }
    return MR_OK;
}

enum mr_status mr__sum_slice_get(const struct mr_store *slices, const struct mr_store *values,
                                 int64_t time_us, unsigned shard, bool enters,
                                 struct mr__sum_changes *changes, struct mr_error *err)
{
    uint8_t key[KEY_BYTES];
    const char *data;
    size_t size;

    for (uint32_t chunk = 0;; chunk++) {
        MR_TRY(make_key(slices, time_us, shard, chunk, key, err));
        if (!mr_store_get(slices, key, sizeof(key), &data, &size))
            return MR_OK;
        MR_TRY(get_chunk(data, size, values, enters, changes, err));
    }
}

enum mr_status mr__sum_slice_drop(struct mr_store *slices, int64_t time_us, unsigned shard,
                                  struct mr_error *err)
{
    uint8_t key[KEY_BYTES];
    const char *data;
    size_t size;

    for (uint32_t chunk = 0;; chunk++) {
        MR_TRY(make_key(slices, time_us, shard, chunk, key, err));
        if (!mr_store_get(slices, key, sizeof(key), &data, &size))
            return MR_OK;
        MR_TRY(mr_store_delete(slices, key, sizeof(key), err));
    }
}
