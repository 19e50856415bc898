/*
 * Wide slots: aggregates that keep values and not only numbers. Each has one byte string a group:
 *
 *     BEST_BYTES   the text                                    min, max of texts
 *     FIRST, LAST  value                                       first, any_value, last
 *     ARG_BEST     key size u32 | key | value                  arg_min, arg_max
 *     LIST         (key size | value size | key | value) ...   varints; the key orders, or is empty
 *     SET          (key size varint | key) ..., ascending      DISTINCT
 *     HLL, DIGEST  agg_sketch.c
 *     TOP          agg_topn.c                              arg_max(x, t, n)
 *
 * key and value are those of data/row_codec.h. In a task, sets and sketches are appended to and
 * sealed (sorted, made unique) when they have doubled, and at the end; what is stored is sealed.
 * Order of arrival is batch, partition, row: partials are merged in that order, so first, last,
 * lists and ties of arg_min do not depend on threads.
 *
 * Called by agg_update.c, aggregate.c and agg_emit.c. Threads: those of the buffers.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "data/row_codec.h"

#include <stdlib.h>

enum { SET_SEAL_BYTES = 4096, ROOM_MIN_BYTES = 16 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot aggregate values: out of memory; make batches smaller");
}

enum mr_status mr_wide_too_large(const struct mr_agg_slot *slot, struct mr_error *err)
{
    return MR_FAIL(err, MR_LIMIT,
                   "cannot keep more than %d MiB of '%s' for one group; use an approximate "
                   "aggregate (approx_count_distinct, approx_quantile) or smaller groups",
                   MR_AGG_WIDE_BYTES_MAX / (1024 * 1024), slot->identity);
}

enum mr_status mr_wide_corrupt(const struct mr_agg_slot *slot, struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read what a group keeps of '%s'; restore the checkpoint from a copy",
                   slot->identity);
}

/* ---- bytes of a task ---- */

char *mr_wide_room(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes, size_t more,
                   struct mr_arena *arena, struct mr_error *err)
{
    size_t wanted = bytes->size_bytes + more;

    if (wanted > MR_AGG_WIDE_BYTES_MAX) {
        (void)mr_wide_too_large(slot, err);
        return NULL;
    }
    if (wanted > bytes->capacity_bytes || bytes->data == NULL) {
        size_t capacity = MR_MAX(wanted, (size_t)bytes->capacity_bytes * 2);
        capacity = MR_MAX(capacity, (size_t)ROOM_MIN_BYTES);
        char *data = mr_arena_alloc(arena, capacity);
        if (data == NULL) {
            (void)no_memory(err);
            return NULL;
        }
        if (bytes->data != NULL)
            memcpy(data, bytes->data, bytes->size_bytes);
        bytes->data = data;
        bytes->capacity_bytes = (uint32_t)capacity;
    }
    return bytes->data + bytes->size_bytes;
}

/* Why mr_wide_room gave none. */
static enum mr_status room_status(const struct mr_agg_bytes *bytes, size_t more)
{
    return bytes->size_bytes + more > MR_AGG_WIDE_BYTES_MAX ? MR_LIMIT : MR_NOMEM;
}

static enum mr_status append(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                             const void *data, size_t size_bytes, struct mr_arena *arena,
                             struct mr_error *err)
{
    char *at = mr_wide_room(slot, bytes, size_bytes, arena, err);

    if (at == NULL)
        return room_status(bytes, size_bytes);
    if (size_bytes > 0)
        memcpy(at, data, size_bytes);
    bytes->size_bytes += (uint32_t)size_bytes;
    return MR_OK;
}

static enum mr_status replace(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                              const void *data, size_t size_bytes, struct mr_arena *arena,
                              struct mr_error *err)
{
    bytes->size_bytes = 0;
    return append(slot, bytes, data, size_bytes, arena, err);
}

static int compare(struct mr_slice a, struct mr_slice b)
{
    size_t common = MR_MIN(a.size_bytes, b.size_bytes);
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);

    return order != 0 ? order : (a.size_bytes > b.size_bytes) - (a.size_bytes < b.size_bytes);
}

/* True when b takes the place of a; of equals the first stays. */
static bool gives_way(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b)
{
    int order = compare(b, a);

    return slot->wants_max ? order > 0 : order < 0;
}

/* ---- entries ---- */

struct entry {
    struct mr_slice key;
    struct mr_slice value;
};

static bool take_slice(struct mr_bytes *bytes, uint64_t size_bytes, struct mr_slice *ret_slice)
{
    if (bytes->failed || size_bytes > mr_bytes_left(bytes))
        return false;
    *ret_slice = (struct mr_slice){(const char *)bytes->at, (size_t)size_bytes};
    bytes->at += size_bytes;
    return true;
}

static bool next_key(struct mr_bytes *bytes, struct mr_slice *ret_key)
{
    return take_slice(bytes, mr_bytes_varint(bytes), ret_key);
}

static bool next_item(struct mr_bytes *bytes, struct entry *ret_entry)
{
    uint64_t key_bytes = mr_bytes_varint(bytes);
    uint64_t value_bytes = mr_bytes_varint(bytes);

    return take_slice(bytes, key_bytes, &ret_entry->key) &&
           take_slice(bytes, value_bytes, &ret_entry->value);
}

/* The two parts of an ARG_BEST. */
static bool split_best(struct mr_slice whole, struct entry *ret_entry)
{
    struct mr_bytes bytes = mr_bytes_of(whole.data, whole.size_bytes);
    uint32_t key_bytes = mr_bytes_u32(&bytes);

    return take_slice(&bytes, key_bytes, &ret_entry->key) &&
           take_slice(&bytes, mr_bytes_left(&bytes), &ret_entry->value);
}

static int compare_slices(const void *a, const void *b)
{
    return compare(*(const struct mr_slice *)a, *(const struct mr_slice *)b);
}

/* Keys of a byte string of a SET; *ret_keys is freed with mr_free. */
static enum mr_status read_keys(const struct mr_agg_slot *slot, struct mr_slice whole,
                                struct mr_slice **ret_keys, size_t *ret_count, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(whole.data, whole.size_bytes);
    struct mr_slice *keys = mr_alloc(NULL, (whole.size_bytes / 2 + 1) * sizeof(*keys));
    size_t count = 0;

    if (keys == NULL)
        return no_memory(err);
    while (mr_bytes_left(&bytes) > 0) { /* each is at least two bytes: its size and a flag */
        if (!next_key(&bytes, &keys[count]) || keys[count].size_bytes == 0) {
            mr_free(keys);
            return mr_wide_corrupt(slot, err);
        }
        count++;
    }
    *ret_keys = keys;
    *ret_count = count;
    return MR_OK;
}

static void add_key(struct mr_buf *out, struct mr_slice key)
{
    mr_buf_add_block(out, key.data, key.size_bytes);
}

static enum mr_status seal_set(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                               struct mr_error *err)
{
    struct mr_buf sorted = MR_BUF_INIT;
    struct mr_slice *keys = NULL;
    size_t count = 0;
    enum mr_status status = MR_OK;

    if (bytes->sealed_bytes == bytes->size_bytes)
        return MR_OK;
    MR_TRY(read_keys(slot, (struct mr_slice){bytes->data, bytes->size_bytes}, &keys, &count, err));
    qsort(keys, count, sizeof(*keys), compare_slices);
    for (size_t i = 0; i < count; i++) {
        if (i == 0 || compare(keys[i - 1], keys[i]) != 0)
            add_key(&sorted, keys[i]);
    }
    if (sorted.failed) {
        status = no_memory(err);
        goto done;
    }
    MR_ASSERT(sorted.size <= bytes->size_bytes);
    if (sorted.size > 0)
        memcpy(bytes->data, sorted.data, sorted.size);
    bytes->size_bytes = (uint32_t)sorted.size;
    bytes->sealed_bytes = bytes->size_bytes;
done:
    mr_free(keys);
    mr_buf_release(&sorted);
    return status;
}

/* ---- rows ---- */

static void add_order_key(const struct mr_agg_order *order, const struct mr_batch *batch,
                          int64_t row, struct mr_buf *out)
{
    const struct mr_column *column = mr_batch_column(batch, order->column);
    size_t from = out->size;

    if (mr_column_is_null(column, row)) {
        mr_buf_add_u8(out, order->nulls_first ? 0 : 2);
        return;
    }
    mr_key_encode(out, column, row); /* begins with 1 */
    for (size_t i = from + 1; order->descending && !out->failed && i < out->size; i++)
        out->data[i] = (char)~out->data[i];
}

static enum mr_status add_item(const struct mr_agg_slot *slot, const struct mr_batch *batch,
                               const struct mr_column *column, int64_t row,
                               struct mr_agg_bytes *bytes, struct mr_arena *arena,
                               struct mr_buf scratch[2], struct mr_error *err)
{
    struct mr_buf *item = &scratch[0];
    struct mr_buf *parts = &scratch[1];
    size_t key_bytes;

    mr_buf_clear(item);
    mr_buf_clear(parts);
    for (uint32_t i = 0; i < slot->order_count; i++)
        add_order_key(&slot->orders[i], batch, row, parts);
    key_bytes = parts->size;
    mr_value_encode(parts, &column, 1, row);
    mr_buf_add_varint(item, key_bytes);
    mr_buf_add_varint(item, parts->size - key_bytes);
    mr_buf_add(item, parts->data, parts->size);
    if (item->failed || parts->failed)
        return no_memory(err);
    return append(slot, bytes, item->data, item->size, arena, err);
}

static enum mr_status take_best(const struct mr_agg_slot *slot, const struct mr_batch *batch,
                                const struct mr_column *column, int64_t row, char *fixed,
                                struct mr_agg_bytes *bytes, struct mr_arena *arena,
                                struct mr_buf *scratch, struct mr_error *err)
{
    const struct mr_column *by = mr_batch_column(batch, slot->other);
    struct entry best;

    if (mr_column_is_null(column, row) || mr_column_is_null(by, row))
        return MR_OK;
    mr_buf_clear(scratch);
    mr_buf_add_u32(scratch, 0);
    mr_key_encode(scratch, by, row);
    if (scratch->failed)
        return no_memory(err);
    size_t key_bytes = scratch->size - 4;
    if (*fixed != 0) {
        bool whole = split_best((struct mr_slice){bytes->data, bytes->size_bytes}, &best);
        MR_ASSERT(whole);
        if (!gives_way(slot, best.key, (struct mr_slice){scratch->data + 4, key_bytes}))
            return MR_OK;
    }
    mr_store_u32(scratch->data, (uint32_t)key_bytes);
    mr_value_encode(scratch, &column, 1, row);
    if (scratch->failed)
        return no_memory(err);
    *fixed = 1;
    return replace(slot, bytes, scratch->data, scratch->size, arena, err);
}

static enum mr_status take_text(const struct mr_agg_slot *slot, const struct mr_column *column,
                                int64_t row, char *fixed, struct mr_agg_bytes *bytes,
                                struct mr_arena *arena, struct mr_error *err)
{
    struct mr_slice text;

    if (mr_column_is_null(column, row))
        return MR_OK;
    text = mr_column_text(column, row);
    if (*fixed != 0 && !gives_way(slot, (struct mr_slice){bytes->data, bytes->size_bytes}, text))
        return MR_OK;
    *fixed = 1;
    return replace(slot, bytes, text.data, text.size_bytes, arena, err);
}

static enum mr_status take_value(const struct mr_agg_slot *slot, const struct mr_column *column,
                                 int64_t row, char *fixed, struct mr_agg_bytes *bytes,
                                 struct mr_arena *arena, struct mr_buf *scratch,
                                 struct mr_error *err)
{
    if (slot->kind == MR_SLOT_FIRST &&
        (*fixed != 0 || (slot->skips_nulls && mr_column_is_null(column, row))))
        return MR_OK;
    mr_buf_clear(scratch);
    mr_value_encode(scratch, &column, 1, row);
    if (scratch->failed)
        return no_memory(err);
    *fixed = 1;
    return replace(slot, bytes, scratch->data, scratch->size, arena, err);
}

static enum mr_status take_key(const struct mr_agg_slot *slot, const struct mr_column *column,
                               int64_t row, char *fixed, struct mr_agg_bytes *bytes,
                               struct mr_arena *arena, struct mr_buf scratch[2],
                               struct mr_error *err)
{
    if (slot->kind == MR_SLOT_HLL && mr_column_is_null(column, row))
        return MR_OK;
    mr_buf_clear(&scratch[0]);
    mr_buf_clear(&scratch[1]);
    mr_key_encode(&scratch[0], column, row);
    if (scratch[0].failed)
        return no_memory(err);
    *fixed = 1;
    if (slot->kind == MR_SLOT_HLL)
        return mr_hll_add(slot, bytes, mr_checksum(scratch[0].data, scratch[0].size), arena, err);
    mr_buf_add_block(&scratch[1], scratch[0].data, scratch[0].size);
    if (scratch[1].failed)
        return no_memory(err);
    MR_TRY(append(slot, bytes, scratch[1].data, scratch[1].size, arena, err));
    if (bytes->size_bytes >= bytes->sealed_bytes * 2 + SET_SEAL_BYTES)
        return seal_set(slot, bytes, err);
    return MR_OK;
}

static enum mr_status take_number(const struct mr_agg_slot *slot, const struct mr_column *column,
                                  int64_t row, char *fixed, struct mr_agg_bytes *bytes,
                                  struct mr_arena *arena, struct mr_error *err)
{
    enum mr_type_id id = column->type->id;
    double value;

    if (mr_column_is_null(column, row))
        return MR_OK;
    if (id == MR_TYPE_DATE || id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS)
        value = (double)mr_column_int(column, row);
    else
        value = mr_column_double(column, row);
    *fixed = 1;
    return mr_digest_add(slot, bytes, value, arena, err);
}

static enum mr_status take_row(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                               uint32_t i, struct mr_buf scratch[2], struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(rows->batch, slot->column);
    char *fixed = rows->slots + rows->groups[i] * rows->slot_stride;
    struct mr_agg_bytes *bytes = &rows->bytes[rows->groups[i] * rows->bytes_stride];
    int64_t row = rows->from + i;

    switch (slot->kind) {
    case MR_SLOT_BEST_BYTES:
        return take_text(slot, column, row, fixed, bytes, rows->arena, err);
    case MR_SLOT_ARG_BEST:
        return take_best(slot, rows->batch, column, row, fixed, bytes, rows->arena, scratch, err);
    case MR_SLOT_TOP:
        return mr_top_add(slot, rows->batch, column, row, fixed, bytes, rows->arena, scratch, err);
    case MR_SLOT_LIST:
        *fixed = 1;
        return add_item(slot, rows->batch, column, row, bytes, rows->arena, scratch, err);
    case MR_SLOT_SET:
    case MR_SLOT_HLL:
        return take_key(slot, column, row, fixed, bytes, rows->arena, scratch, err);
    case MR_SLOT_DIGEST:
        return take_number(slot, column, row, fixed, bytes, rows->arena, err);
    default:
        return take_value(slot, column, row, fixed, bytes, rows->arena, scratch, err);
    }
}

enum mr_status mr_wide_update(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                              struct mr_error *err)
{
    const struct mr_column *filter =
        slot->has_filter ? mr_batch_column(rows->batch, slot->filter) : NULL;
    struct mr_buf scratch[2] = {MR_BUF_INIT, MR_BUF_INIT};
    enum mr_status status = MR_OK;

    if (slot->kind == MR_SLOT_USER)
        return mr_user_update(slot, rows, err);
    if (mr_set_is_fixed(slot))
        return mr_set_update(slot, rows, filter, err);
    for (uint32_t i = 0; i < rows->count && status == MR_OK; i++) {
        if (filter != NULL &&
            (mr_column_is_null(filter, rows->from + i) || !mr_column_bool(filter, rows->from + i)))
            continue;
        status = take_row(slot, rows, i, scratch, err);
    }
    mr_buf_release(&scratch[0]);
    mr_buf_release(&scratch[1]);
    return status;
}

enum mr_status mr_wide_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                            struct mr_arena *arena, struct mr_error *err)
{
    switch (slot->kind) {
    case MR_SLOT_SET:
        return mr_set_is_fixed(slot) ? mr_set_seal(slot, bytes, arena, err)
                                     : seal_set(slot, bytes, err);
    case MR_SLOT_HLL:
        return mr_hll_seal(slot, bytes, arena, err);
    case MR_SLOT_DIGEST:
        return mr_digest_seal(bytes, arena, err);
    case MR_SLOT_TOP:
        return mr_top_seal(slot, bytes, err);
    default:
        return MR_OK;
    }
}

/* ---- merging ---- */

static enum mr_status merge_sets(const struct mr_agg_slot *slot, struct mr_slice a,
                                 struct mr_slice b, struct mr_buf *out, struct mr_error *err)
{
    struct mr_bytes mine = mr_bytes_of(a.data, a.size_bytes);
    struct mr_bytes theirs = mr_bytes_of(b.data, b.size_bytes);
    struct mr_slice left = {NULL, 0}, right = {NULL, 0};
    bool has_left = mr_bytes_left(&mine) > 0;
    bool has_right = mr_bytes_left(&theirs) > 0;

    if ((has_left && !next_key(&mine, &left)) || (has_right && !next_key(&theirs, &right)))
        return mr_wide_corrupt(slot, err);
    while (has_left || has_right) {
        int order = !has_left ? 1 : !has_right ? -1 : compare(left, right);
        add_key(out, order <= 0 ? left : right);
        if (order <= 0 && (has_left = mr_bytes_left(&mine) > 0) && !next_key(&mine, &left))
            return mr_wide_corrupt(slot, err);
        if (order >= 0 && (has_right = mr_bytes_left(&theirs) > 0) && !next_key(&theirs, &right))
            return mr_wide_corrupt(slot, err);
    }
    return MR_OK;
}

enum mr_status mr_wide_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                             struct mr_buf *out, struct mr_error *err)
{
    struct entry mine, theirs;
    bool takes_b = false;

    switch (slot->kind) {
    case MR_SLOT_SET:
        return mr_set_is_fixed(slot) ? mr_set_merge(slot, a, b, out, err)
                                     : merge_sets(slot, a, b, out, err);
    case MR_SLOT_HLL:
        return mr_hll_merge(slot, a, b, out, err);
    case MR_SLOT_DIGEST:
        return mr_digest_merge(slot, a, b, out, err);
    case MR_SLOT_TOP:
        return mr_top_merge(slot, a, b, out, err);
    case MR_SLOT_USER:
        return mr_user_merge(slot, a, b, out, err);
    case MR_SLOT_LIST:
        mr_buf_add(out, a.data, a.size_bytes);
        mr_buf_add(out, b.data, b.size_bytes);
        return MR_OK;
    case MR_SLOT_BEST_BYTES:
        takes_b = gives_way(slot, a, b);
        break;
    case MR_SLOT_ARG_BEST:
        if (!split_best(a, &mine) || !split_best(b, &theirs))
            return mr_wide_corrupt(slot, err);
        takes_b = gives_way(slot, mine.key, theirs.key);
        break;
    default:
        takes_b = slot->kind == MR_SLOT_LAST;
        break;
    }
    mr_buf_add(out, takes_b ? b.data : a.data, takes_b ? b.size_bytes : a.size_bytes);
    return MR_OK;
}

/* ---- results ---- */

static enum mr_status emit_value(const struct mr_agg_slot *slot, struct mr_slice value,
                                 struct mr_column_builder *out, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);

    MR_TRY(mr_value_decode(&bytes, &out, 1, err));
    return mr_bytes_left(&bytes) == 0 ? MR_OK : mr_wide_corrupt(slot, err);
}

struct ordered {
    struct entry entry;
    size_t index;
};

static int compare_ordered(const void *a_pointer, const void *b_pointer)
{
    const struct ordered *a = a_pointer;
    const struct ordered *b = b_pointer;
    int order = compare(a->entry.key, b->entry.key);

    return order != 0 ? order : (a->index > b->index) - (a->index < b->index);
}

static enum mr_status emit_ordered_list(const struct mr_agg_slot *slot, struct mr_slice whole,
                                        struct mr_column_builder *out, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(whole.data, whole.size_bytes);
    struct ordered *items = mr_alloc(NULL, (whole.size_bytes / 3 + 1) * sizeof(*items));
    size_t count = 0;
    enum mr_status status = MR_OK;

    if (items == NULL)
        return no_memory(err);
    for (; mr_bytes_left(&bytes) > 0; count++) { /* at least two sizes and the null bits */
        items[count].index = count;
        if (!next_item(&bytes, &items[count].entry) || items[count].entry.value.size_bytes == 0) {
            status = mr_wide_corrupt(slot, err);
            goto done;
        }
    }
    qsort(items, count, sizeof(*items), compare_ordered);
    for (size_t i = 0; i < count; i++)
        MR_TRY_GOTO(emit_value(slot, items[i].entry.value, &out->children[0], err));
    status = mr_column_builder_list_end(out, err);
done:
    mr_free(items);
    return status;
}

static enum mr_status emit_list(const struct mr_agg_slot *slot, struct mr_slice whole,
                                struct mr_column_builder *out, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(whole.data, whole.size_bytes);
    struct entry item;

    if (slot->order_count > 0)
        return emit_ordered_list(slot, whole, out, err);
    while (mr_bytes_left(&bytes) > 0) {
        if (!next_item(&bytes, &item))
            return mr_wide_corrupt(slot, err);
        MR_TRY(emit_value(slot, item.value, &out->children[0], err));
    }
    return mr_column_builder_list_end(out, err);
}

/* The number in a key of a SET (data/row_codec.h): one byte 1, then big-endian. */
static uint64_t big_endian(const char *at, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++)
        value = value << 8 | (uint8_t)at[i];
    return value;
}

static mr_int128 key_integer(const struct mr_type *type, struct mr_slice key)
{
    size_t width = key.size_bytes - 1;
    uint64_t bits = big_endian(key.data + 1, MR_MIN(width, (size_t)8));

    if (type->id == MR_TYPE_DECIMAL) {
        __extension__ typedef unsigned __int128 uint128;
        uint128 whole = (uint128)(bits ^ UINT64_C(1) << 63) << 64 | big_endian(key.data + 9, 8);
        return (mr_int128)whole;
    }
    if (type->id >= MR_TYPE_UINT8 && type->id <= MR_TYPE_UINT64)
        return (mr_int128)bits;
    return (mr_int128)bits - ((mr_int128)1 << (8 * width - 1)); /* the sign bit is flipped */
}

static double key_float(struct mr_slice key)
{
    size_t width = key.size_bytes - 1;
    uint64_t bits = big_endian(key.data + 1, width);
    uint64_t sign = UINT64_C(1) << (8 * width - 1);
    double value;
    float narrow;

    bits = (bits & sign) != 0 ? bits ^ sign : ~bits;
    if (width == 8) {
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    uint32_t low = (uint32_t)bits;
    memcpy(&narrow, &low, sizeof(narrow));
    return (double)narrow;
}

/* Sum and count of what is in a SET of numbers. */
struct total {
    mr_int128 exact;
    double sum, error;
    int64_t count;
};

static enum mr_status total_of(const struct mr_agg_slot *slot, struct mr_slice whole, bool floats,
                               struct total *total, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(whole.data, whole.size_bytes);
    size_t wanted = 1 + mr_type_width(slot->type.id);
    struct mr_slice key;

    while (mr_bytes_left(&bytes) > 0) {
        if (!next_key(&bytes, &key) || key.size_bytes == 0 ||
            (key.data[0] != 0 && key.size_bytes != wanted))
            return mr_wide_corrupt(slot, err);
        if (key.data[0] == 0)
            continue;
        total->count++;
        if (floats)
            mr_float_add(&total->sum, &total->error, key_float(key));
        else if (__builtin_add_overflow(total->exact, key_integer(&slot->type, key), &total->exact))
            return mr_agg_sum_overflow(slot, err);
    }
    return MR_OK;
}

static enum mr_status emit_total(const struct mr_agg_slot *slot, enum mr_agg_kind kind,
                                 struct mr_slice whole, struct mr_column_builder *out,
                                 struct mr_error *err)
{
    bool floats = slot->type.id == MR_TYPE_FLOAT || slot->type.id == MR_TYPE_DOUBLE;
    struct total total = {0};
    long double divisor;

    MR_TRY(total_of(slot, whole, floats, &total, err));
    if (total.count == 0)
        return mr_column_builder_null(out, err);
    if (kind == MR_AGG_SUM_DISTINCT)
        return floats ? mr_column_builder_double(out, total.sum + total.error, err)
                      : mr_agg_emit_int_sum(slot, total.exact, out, err);
    divisor = (long double)total.count;
    if (floats)
        return mr_column_builder_double(out, (total.sum + total.error) / (double)divisor, err);
    for (uint32_t i = 0; slot->type.id == MR_TYPE_DECIMAL && i < slot->type.scale; i++)
        divisor *= 10;
    return mr_column_builder_double(out, (double)((long double)total.exact / divisor), err);
}

/* count(DISTINCT), or the list of the values. */
static enum mr_status emit_set(const struct mr_agg_slot *slot, enum mr_agg_kind kind,
                               struct mr_slice whole, struct mr_column_builder *out,
                               struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(whole.data, whole.size_bytes);
    struct mr_slice key;
    int64_t count = 0;

    if (kind == MR_AGG_SUM_DISTINCT || kind == MR_AGG_AVG_DISTINCT)
        return emit_total(slot, kind, whole, out, err);
    if (kind == MR_AGG_COUNT_DISTINCT && mr_set_is_fixed(slot)) {
        count = mr_set_count(slot, whole);
        return count < 0 ? mr_wide_corrupt(slot, err) : mr_column_builder_int(out, count, err);
    }
    while (mr_bytes_left(&bytes) > 0) {
        if (!next_key(&bytes, &key) || key.size_bytes == 0)
            return mr_wide_corrupt(slot, err);
        count += key.data[0] != 0;
        if (kind == MR_AGG_COUNT_DISTINCT)
            continue;
        struct mr_bytes at = mr_bytes_of(key.data, key.size_bytes);
        MR_TRY(mr_key_decode(&at, &slot->type, &out->children[0], err));
    }
    return kind == MR_AGG_COUNT_DISTINCT ? mr_column_builder_int(out, count, err)
                                         : mr_column_builder_list_end(out, err);
}

static enum mr_status emit_quantile(const struct mr_agg_slot *slot, double fraction,
                                    struct mr_slice bytes, struct mr_column_builder *out,
                                    struct mr_error *err)
{
    double value;

    if (bytes.size_bytes == 0 || bytes.size_bytes % 16 != 0)
        return mr_wide_corrupt(slot, err);
    value = mr_digest_quantile(bytes, fraction);
    if (out->type->id == MR_TYPE_DOUBLE)
        return mr_column_builder_double(out, value, err);
    return mr_column_builder_int(out, (int64_t)__builtin_floor(value + 0.5), err);
}

enum mr_status mr_wide_emit(const struct mr_agg_slot *slot, enum mr_agg_kind kind, double fraction,
                            struct mr_slice bytes, struct mr_column_builder *out,
                            struct mr_error *err)
{
    struct entry best;
    int64_t count;

    switch (slot->kind) {
    case MR_SLOT_BEST_BYTES:
        return mr_column_builder_text(out, bytes.data, bytes.size_bytes, err);
    case MR_SLOT_ARG_BEST:
        if (!split_best(bytes, &best))
            return mr_wide_corrupt(slot, err);
        return emit_value(slot, best.value, out, err);
    case MR_SLOT_LIST:
        return emit_list(slot, bytes, out, err);
    case MR_SLOT_SET:
        return emit_set(slot, kind, bytes, out, err);
    case MR_SLOT_HLL:
        count = mr_hll_estimate(bytes);
        return count == INT64_MIN ? mr_wide_corrupt(slot, err)
                                  : mr_column_builder_int(out, count, err);
    case MR_SLOT_DIGEST:
        return emit_quantile(slot, fraction, bytes, out, err);
    case MR_SLOT_TOP:
        return mr_top_emit(slot, bytes, out, err);
    case MR_SLOT_USER:
        return mr_user_emit(slot, bytes, out, err);
    default:
        return emit_value(slot, bytes, out, err);
    }
}
