/*
 * What operators keep in the kernel's state: rows of past batches, keys and values as bytes.
 *
 *     store of slices   key    batch time u64 big-endian, chunk u32 big-endian
 *                       value  row count varint, then the value form (row_codec) of each row's
 *                              columns
 *     store of values   key    row_codec key of the pair's key
 *                       value  value form of the pair's value
 *
 * Both are part of the on-disk formats. The stores are versioned with the batches, so what an
 * operator keeps is exactly once whatever kills the process. Thread: driver.
 */
#include "dstream/internal.h"

#include "data/row_codec.h"

#include <string.h>

enum {
    CHUNK_BYTES = 1 << 20, /* rows of one entry */
    SLICE_KEY_BYTES = 12,
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a batch in state: out of memory");
}

/* ---- single values ---- */

void mr__value_put(struct mr_buf *out, const struct mr_column *column, int64_t row)
{
    mr_value_encode(out, &column, 1, row);
}

enum mr_status mr__value_get(const char *value, size_t value_bytes,
                             struct mr_batch_builder *builder, uint32_t column,
                             struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value, value_bytes);
    struct mr_column_builder *out = mr_batch_builder_column(builder, column);

    return mr_value_decode(&bytes, &out, 1, err);
}

enum mr_status mr__key_get(const char *key, size_t key_bytes, struct mr_batch_builder *builder,
                           uint32_t column, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key, key_bytes);
    struct mr_column_builder *out = mr_batch_builder_column(builder, column);

    return mr_key_decode(&bytes, out->type, out, err);
}

static char *type_text(const struct mr_schema *schema, uint32_t first, uint32_t count)
{
    struct mr_buf text = MR_BUF_INIT;

    for (uint32_t i = first; i < first + count; i++) {
        const struct mr_type *type = mr__column_type(schema, i);
        size_t need = mr_type_print(type, NULL, 0);

        mr_buf_add_str(&text, i > first ? ", " : "");
        if (!mr_buf_reserve(&text, need + 1))
            break;
        mr_type_print(type, text.data + text.size, need + 1);
        text.size += need;
    }
    return mr_buf_take(&text);
}

static enum mr_status open_store(struct mr_state *state, const char *name, const char *kind,
                                 char *key, char *value, struct mr_store **ret_store,
                                 struct mr_error *err)
{
    enum mr_status status;

    if (key == NULL || value == NULL)
        status = no_memory(err);
    else
        status = mr_state_store(state, name, kind, key, value, ret_store, err);
    mr_free(key);
    mr_free(value);
    return status;
}

enum mr_status mr__values_open(struct mr_state *state, const char *name, const char *kind,
                               const struct mr_schema *pairs, struct mr_store **ret_store,
                               struct mr_error *err)
{
    return open_store(state, name, kind, type_text(pairs, 0, 1), type_text(pairs, 1, 1), ret_store,
                      err);
}

enum mr_status mr__slices_open(struct mr_state *state, const char *name,
                               const struct mr_schema *schema, struct mr_store **ret_store,
                               struct mr_error *err)
{
    return open_store(state, name, "window", mr_strdup("batch time, chunk"),
                      type_text(schema, 0, mr_schema_field_count(schema)), ret_store, err);
}

/* ---- slices ---- */

static void make_key(int64_t time_us, uint32_t chunk, uint8_t key[SLICE_KEY_BYTES])
{
    for (unsigned i = 0; i < 8; i++)
        key[i] = (uint8_t)((uint64_t)time_us >> (56 - 8 * i));
    for (unsigned i = 0; i < 4; i++)
        key[8 + i] = (uint8_t)(chunk >> (24 - 8 * i));
}

static int64_t time_of(const char *key)
{
    uint64_t time = 0;

    for (unsigned i = 0; i < 8; i++)
        time = time << 8 | (uint8_t)key[i];
    return (int64_t)time;
}

/* Rows of one entry while it is filled. */
struct chunk {
    struct mr_store *store;
    int64_t time_us;
    uint32_t number;
    uint64_t rows;
    struct mr_buf body;
    struct mr_buf entry;
};

static enum mr_status write_chunk(struct chunk *chunk, struct mr_error *err)
{
    uint8_t key[SLICE_KEY_BYTES];

    if (chunk->rows == 0)
        return MR_OK;
    mr_buf_clear(&chunk->entry);
    mr_buf_add_varint(&chunk->entry, chunk->rows);
    mr_buf_add(&chunk->entry, chunk->body.data, chunk->body.size);
    if (chunk->entry.failed || chunk->body.failed)
        return no_memory(err);
    make_key(chunk->time_us, chunk->number++, key);
    chunk->rows = 0;
    mr_buf_clear(&chunk->body);
    return mr_store_put(chunk->store, key, sizeof(key), chunk->entry.data, chunk->entry.size, err);
}

static enum mr_status put_batch(struct chunk *chunk, const struct mr_batch *batch,
                                struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));
    const struct mr_column **columns = mr_alloc(NULL, count * sizeof(struct mr_column *));
    enum mr_status status = MR_OK;

    if (columns == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++)
        columns[i] = mr_batch_column(batch, i);
    for (int64_t row = 0; row < mr_batch_row_count(batch) && status == MR_OK; row++) {
        mr_value_encode(&chunk->body, columns, count, row);
        chunk->rows++;
        if (chunk->body.size >= CHUNK_BYTES)
            status = write_chunk(chunk, err);
    }
    mr_free((void *)columns);
    return status;
}

enum mr_status mr__slices_put(struct mr_store *store, int64_t time_us,
                              struct mr_batch *const *batches, size_t batch_count,
                              struct mr_error *err)
{
    struct chunk chunk = {.store = store, .time_us = time_us};
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < batch_count && status == MR_OK; i++)
        status = put_batch(&chunk, batches[i], err);
    if (status == MR_OK)
        status = write_chunk(&chunk, err);
    mr_buf_release(&chunk.body);
    mr_buf_release(&chunk.entry);
    return status;
}

/* Entries of a range of times, while they are visited in order. */
struct visit {
    const struct mr_schema *schema;
    int64_t to_us;
    struct mr__batches *list;
    struct mr_error *err;
    enum mr_status status;
};

static enum mr_status decode_rows(const struct mr_schema *schema, const char *value,
                                  size_t value_bytes, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value, value_bytes);
    uint32_t count = mr_schema_field_count(schema);
    uint64_t rows = mr_bytes_varint(&bytes);
    struct mr_column_builder **columns = mr_alloc(NULL, count * sizeof(struct mr_column_builder *));
    struct mr_batch_builder *builder = NULL;
    enum mr_status status;

    if (columns == NULL)
        return no_memory(err);
    MR_TRY_GOTO(mr_batch_builder_new(schema, &builder, err));
    for (uint32_t i = 0; i < count; i++)
        columns[i] = mr_batch_builder_column(builder, i);
    for (uint64_t row = 0; row < rows; row++)
        MR_TRY_GOTO(mr_value_decode(&bytes, columns, count, err));
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, (int64_t)rows, err));
    status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr_batch_builder_free(builder);
    mr_free(columns);
    return status;
}

static bool get_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                      void *arg)
{
    struct visit *visit = arg;
    struct mr_batch *batch = NULL;

    MR_ASSERT(key_bytes == SLICE_KEY_BYTES);
    if (time_of(key) > visit->to_us)
        return false;
    visit->status = decode_rows(visit->schema, value, value_bytes, &batch, visit->err);
    if (visit->status == MR_OK)
        visit->status = mr__batches_add(visit->list, batch, visit->err);
    mr_batch_unref(batch);
    return visit->status == MR_OK;
}

enum mr_status mr__slices_get(const struct mr_store *store, const struct mr_schema *schema,
                              int64_t from_us, int64_t to_us, struct mr__batches *list,
                              struct mr_error *err)
{
    struct visit visit = {schema, to_us, list, err, MR_OK};
    uint8_t first[SLICE_KEY_BYTES];

    if (to_us <= from_us)
        return MR_OK;
    make_key(MR_MAX(from_us + 1, 0), 0, first);
    MR_TRY(mr_store_scan_sorted(store, first, sizeof(first), get_entry, &visit, err));
    return visit.status;
}

struct old_keys {
    int64_t to_us;
    struct mr_buf keys;
};

static bool collect_old(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                        void *arg)
{
    struct old_keys *old = arg;

    MR_UNUSED(value);
    MR_UNUSED(value_bytes);
    if (time_of(key) <= old->to_us)
        mr_buf_add(&old->keys, key, key_bytes);
    return true;
}

enum mr_status mr__slices_drop(struct mr_store *store, int64_t to_us, struct mr_error *err)
{
    struct old_keys old = {to_us, MR_BUF_INIT};
    enum mr_status status = MR_OK;

    mr_store_scan(store, collect_old, &old);
    if (old.keys.failed)
        status = no_memory(err);
    for (size_t at = 0; at < old.keys.size && status == MR_OK; at += SLICE_KEY_BYTES)
        status = mr_store_delete(store, old.keys.data + at, SLICE_KEY_BYTES, err);
    mr_buf_release(&old.keys);
    return status;
}
