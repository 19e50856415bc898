/*
 * All keys and states of some shards as batches of 64 K rows: what update_state_by_key with a
 * built-in and the snapshots of map_with_state put out.
 *
 * Keys of a few come sorted by their bytes, of more in the order of the scan. Integer keys and
 * states of eight bytes, the common case with many keys, are written straight into the columns: a
 * scan of ten million keys is bound by memory.
 *
 * Thread: the partition's worker; nobody changes these shards meanwhile.
 */
#include "dstream/update.h"

#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <stdlib.h>
#include <string.h>

enum { EMIT_ROWS = 64 * 1024, AT_ONCE = 64, FEW = 16 * 1024 };

struct emit {
    const struct mr_schema *output;
    size_t skip_bytes; /* before the state in a value */
    struct mr_output *out;
    struct mr_batch_builder *builder;
    struct mr_column_builder *keys, *states; /* its columns */
    bool int_keys;
    bool plain_states; /* eight bytes, little-endian */
    int64_t rows;
};

/* Finishing the builder gives it new ones. */
static void take_columns(struct emit *emit)
{
    emit->keys = mr_batch_builder_column(emit->builder, 0);
    emit->states = mr_batch_builder_column(emit->builder, 1);
}

static enum mr_status flush(struct emit *emit, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (emit->rows == 0)
        return MR_OK;
    MR_TRY(mr_batch_builder_rows_added(emit->builder, emit->rows, err));
    emit->rows = 0;
    MR_TRY(mr_batch_builder_finish(emit->builder, &batch, err));
    take_columns(emit);
    status = mr_output_emit(emit->out, batch, err);
    mr_batch_unref(batch);
    return status;
}

static enum mr_status add_key(const struct emit *emit, const struct mr_store_entry *entry,
                              struct mr_error *err)
{
    uint64_t bits;

    if (!emit->int_keys || entry->key[0] != 1)
        return mr__key_get(entry->key, entry->key_bytes, emit->builder, 0, err);
    memcpy(&bits, entry->key + 1, sizeof(bits));
    mr_column_builder_i64(emit->keys, (int64_t)(__builtin_bswap64(bits) ^ (UINT64_C(1) << 63)));
    return MR_OK;
}

static enum mr_status add_state(const struct emit *emit, const struct mr_store_entry *entry,
                                struct mr_error *err)
{
    const char *value = entry->value + emit->skip_bytes;
    int64_t bits;

    if (!emit->plain_states || value[0] != 0)
        return mr__value_get(value, entry->value_bytes - emit->skip_bytes, emit->builder, 1, err);
    memcpy(&bits, value + 1, sizeof(bits));
    mr_column_builder_i64(emit->states, bits);
    return MR_OK;
}

/* For the next rows; more each time, so that few times suffice. */
static enum mr_status make_room(struct emit *emit, struct mr_error *err)
{
    int64_t more = MR_MAX(emit->rows, (int64_t)AT_ONCE);

    if (emit->int_keys && emit->keys->capacity - emit->keys->length < AT_ONCE)
        MR_TRY(mr_column_builder_reserve(emit->keys, more, 0, err));
    if (emit->plain_states && emit->states->capacity - emit->states->length < AT_ONCE)
        MR_TRY(mr_column_builder_reserve(emit->states, more, 0, err));
    return MR_OK;
}

static enum mr_status add_entries(struct emit *emit, const struct mr_store_entry *entries,
                                  size_t count, struct mr_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (mr__state_is_marker(entries[i].key_bytes))
            continue;
        if (emit->rows % AT_ONCE == 0)
            MR_TRY(make_room(emit, err));
        MR_TRY(add_key(emit, &entries[i], err));
        MR_TRY(add_state(emit, &entries[i], err));
        if (++emit->rows == EMIT_ROWS)
            MR_TRY(flush(emit, err));
    }
    return MR_OK;
}

static int compare_entries(const void *a_pointer, const void *b_pointer)
{
    const struct mr_store_entry *a = a_pointer, *b = b_pointer;
    int order = memcmp(a->key, b->key, MR_MIN(a->key_bytes, b->key_bytes));

    return order != 0 ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static enum mr_status emit_sorted(struct emit *emit, const struct mr_store *store,
                                  struct mr__shards shards, uint64_t count, struct mr_error *err)
{
    struct mr_store_entry *entries = mr_alloc(NULL, (count + 1) * sizeof(*entries));
    enum mr_status status;
    size_t found = 0;

    if (entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot emit states: out of memory");
    for (unsigned shard = shards.first; shard < shards.end; shard++) {
        uint32_t cursor = 0;
        found += mr_store_read_shard(store, shard, &cursor, entries + found, count + 1 - found);
    }
    MR_ASSERT(found == count);
    if (found > 1)
        qsort(entries, found, sizeof(*entries), compare_entries);
    status = add_entries(emit, entries, found, err);
    mr_free(entries);
    return status;
}

static enum mr_status emit_shard(struct emit *emit, const struct mr_store *store, unsigned shard,
                                 struct mr_error *err)
{
    struct mr_store_entry entries[AT_ONCE];
    uint32_t cursor = 0;
    size_t count;

    while ((count = mr_store_read_shard(store, shard, &cursor, entries, AT_ONCE)) > 0)
        MR_TRY(add_entries(emit, entries, count, err));
    return MR_OK;
}

static bool is_plain(const struct mr_type *type)
{
    return type->id == MR_TYPE_INT64 || type->id == MR_TYPE_DOUBLE || type->id == MR_TYPE_TIMESTAMP;
}

enum mr_status mr__emit_all_states(const struct mr_store *store, const struct mr_schema *output,
                                   size_t skip_bytes, struct mr__shards shards,
                                   struct mr_output *out, struct mr_error *err)
{
    struct emit emit = {.output = output,
                        .skip_bytes = skip_bytes,
                        .out = out,
                        .int_keys = mr__column_type(output, 0)->id == MR_TYPE_INT64,
                        .plain_states = is_plain(mr__column_type(output, 1))};
    enum mr_status status;
    uint64_t count = 0;

    for (unsigned shard = shards.first; shard < shards.end; shard++)
        count += mr_store_shard_count(store, shard);
    MR_TRY_GOTO(mr_batch_builder_new(output, &emit.builder, err));
    take_columns(&emit);
    if (count <= FEW)
        MR_TRY_GOTO(emit_sorted(&emit, store, shards, count, err));
    for (unsigned shard = shards.first; count > FEW && shard < shards.end; shard++)
        MR_TRY_GOTO(emit_shard(&emit, store, shard, err));
    status = flush(&emit, err);
done:
    mr_batch_builder_free(emit.builder);
    return status;
}
