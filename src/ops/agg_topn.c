/*
 * The n best values of a group: arg_max(x, t, n), arg_min(x, t, n), max(x, n), min(x, n).
 *
 *     (key size varint | value size varint | key | value) ...    best first, at most n
 *
 * key is the key encoding of what decides (data/row_codec.h), for the greatest with all bits but
 * its first byte's turned over, so that the best is the least; value the value encoding of what is
 * wanted. Of equal keys the one that came first is better. Rows where one of them is null do not
 * count.
 *
 * In a task entries are appended and sealed (sorted, cut to n) when they have doubled, and at the
 * end; what is stored is sealed, so a group never keeps more than n.
 *
 * Called by agg_wide.c. Threads: those of the buffers.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/row_codec.h"

#include <stdlib.h>

enum { SEAL_BYTES = 1024 };

struct item {
    struct mr_slice key;
    struct mr_slice whole; /* with its sizes */
    struct mr_slice value;
    size_t index;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot aggregate values: out of memory; make batches smaller");
}

static bool next_item(struct mr_bytes *bytes, struct item *ret_item)
{
    const char *from = (const char *)bytes->at;
    uint64_t key_bytes = mr_bytes_varint(bytes);
    uint64_t value_bytes = mr_bytes_varint(bytes);

    if (bytes->failed || key_bytes > mr_bytes_left(bytes) ||
        value_bytes > mr_bytes_left(bytes) - key_bytes)
        return false;
    ret_item->key = (struct mr_slice){(const char *)bytes->at, (size_t)key_bytes};
    bytes->at += key_bytes;
    ret_item->value = (struct mr_slice){(const char *)bytes->at, (size_t)value_bytes};
    bytes->at += value_bytes;
    ret_item->whole = (struct mr_slice){from, (size_t)((const char *)bytes->at - from)};
    return true;
}

static int compare(const struct item *a, const struct item *b)
{
    size_t common = MR_MIN(a->key.size_bytes, b->key.size_bytes);
    int order = common == 0 ? 0 : memcmp(a->key.data, b->key.data, common);

    return order != 0
               ? order
               : (a->key.size_bytes > b->key.size_bytes) - (a->key.size_bytes < b->key.size_bytes);
}

static int best_first(const void *a_pointer, const void *b_pointer)
{
    const struct item *a = a_pointer;
    const struct item *b = b_pointer;
    int order = compare(a, b);

    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

enum mr_status mr_top_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                           struct mr_error *err)
{
    struct mr_bytes at = mr_bytes_of(bytes->data, bytes->size_bytes);
    struct mr_buf sorted = MR_BUF_INIT;
    struct item *items;
    size_t count = 0;
    enum mr_status status = MR_OK;

    if (bytes->sealed_bytes == bytes->size_bytes)
        return MR_OK;
    items = mr_alloc(NULL, (bytes->size_bytes / 2 + 1) * sizeof(*items)); /* two sizes each */
    if (items == NULL)
        return no_memory(err);
    for (; mr_bytes_left(&at) > 0; count++) {
        items[count].index = count;
        if (!next_item(&at, &items[count])) {
            status = mr_wide_corrupt(slot, err);
            goto done;
        }
    }
    qsort(items, count, sizeof(*items), best_first);
    for (size_t i = 0; i < count && i < slot->limit; i++)
        mr_buf_add(&sorted, items[i].whole.data, items[i].whole.size_bytes);
    if (sorted.failed) {
        status = no_memory(err);
        goto done;
    }
    MR_ASSERT(sorted.size <= bytes->size_bytes);
    if (sorted.size > 0)
        memcpy(bytes->data, sorted.data, sorted.size);
    bytes->size_bytes = bytes->sealed_bytes = (uint32_t)sorted.size;
done:
    mr_free(items);
    mr_buf_release(&sorted);
    return status;
}

enum mr_status mr_top_add(const struct mr_agg_slot *slot, const struct mr_batch *batch,
                          const struct mr_column *column, int64_t row, char *fixed,
                          struct mr_agg_bytes *bytes, struct mr_arena *arena,
                          struct mr_buf scratch[2], struct mr_error *err)
{
    const struct mr_column *by = mr_batch_column(batch, slot->other);
    struct mr_buf *parts = &scratch[0];
    struct mr_buf *item = &scratch[1];
    size_t key_bytes;
    char *to;

    if (mr_column_is_null(column, row) || mr_column_is_null(by, row))
        return MR_OK;
    mr_buf_clear(parts);
    mr_buf_clear(item);
    mr_key_encode(parts, by, row);
    key_bytes = parts->size;
    for (size_t i = 1; slot->wants_max && !parts->failed && i < key_bytes; i++)
        parts->data[i] = (char)~parts->data[i];
    mr_value_encode(parts, &column, 1, row);
    mr_buf_add_varint(item, key_bytes);
    mr_buf_add_varint(item, parts->size - key_bytes);
    mr_buf_add(item, parts->data, parts->size);
    if (parts->failed || item->failed)
        return no_memory(err);
    to = mr_wide_room(slot, bytes, item->size, arena, err);
    if (to == NULL)
        return bytes->size_bytes + item->size > MR_AGG_WIDE_BYTES_MAX ? MR_LIMIT : MR_NOMEM;
    memcpy(to, item->data, item->size);
    bytes->size_bytes += (uint32_t)item->size;
    *fixed = 1;
    if (bytes->size_bytes >= bytes->sealed_bytes * 2 + SEAL_BYTES)
        return mr_top_seal(slot, bytes, err);
    return MR_OK;
}

enum mr_status mr_top_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                            struct mr_buf *out, struct mr_error *err)
{
    struct mr_bytes mine = mr_bytes_of(a.data, a.size_bytes);
    struct mr_bytes theirs = mr_bytes_of(b.data, b.size_bytes);
    struct item left = {0}, right = {0};
    bool has_left = mr_bytes_left(&mine) > 0;
    bool has_right = mr_bytes_left(&theirs) > 0;

    if ((has_left && !next_item(&mine, &left)) || (has_right && !next_item(&theirs, &right)))
        return mr_wide_corrupt(slot, err);
    for (uint32_t i = 0; i < slot->limit && (has_left || has_right); i++) {
        bool takes_left = has_left && (!has_right || compare(&left, &right) <= 0);
        const struct item *best = takes_left ? &left : &right;

        mr_buf_add(out, best->whole.data, best->whole.size_bytes);
        if (takes_left && (has_left = mr_bytes_left(&mine) > 0) && !next_item(&mine, &left))
            return mr_wide_corrupt(slot, err);
        if (!takes_left && (has_right = mr_bytes_left(&theirs) > 0) && !next_item(&theirs, &right))
            return mr_wide_corrupt(slot, err);
    }
    return MR_OK;
}

enum mr_status mr_top_emit(const struct mr_agg_slot *slot, struct mr_slice bytes,
                           struct mr_column_builder *out, struct mr_error *err)
{
    struct mr_bytes at = mr_bytes_of(bytes.data, bytes.size_bytes);
    struct mr_column_builder *items = &out->children[0];
    struct item item;

    while (mr_bytes_left(&at) > 0) {
        struct mr_bytes value;

        if (!next_item(&at, &item))
            return mr_wide_corrupt(slot, err);
        value = mr_bytes_of(item.value.data, item.value.size_bytes);
        MR_TRY(mr_value_decode(&value, &items, 1, err));
        if (mr_bytes_left(&value) > 0)
            return mr_wide_corrupt(slot, err);
    }
    return mr_column_builder_list_end(out, err);
}
