/*
 * Sets of numbers, dates and times of up to 8 bytes: count(DISTINCT) and its kin without a slice, a
 * comparison of bytes and an allocation a value.
 *
 *     in a task   u64 has null | u64 value ...    sealed ones ascending and different, then any
 *     stored      [1, 0: a null] then, ascending, (width + 1, 1, value big-endian) ...
 *
 * value is what the key encoding writes (data/row_codec.h), read as a number: sets have the bytes
 * that agg_wide.c would give them, and the order of their bytes is that of the numbers. So entries
 * have one size, a merge can copy what lies between two values of the smaller set in one piece, and
 * counting needs no reading.
 *
 * Called by agg_wide.c. Threads: those of the buffers.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/row_codec.h"

enum { SEAL_BYTES = 4096, INSERTION_MAX = 32, DIGITS = 8, NULL_ENTRY_BYTES = 2 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot aggregate values: out of memory; make batches smaller");
}

static uint32_t width_of(const struct mr_agg_slot *slot)
{
    return mr_type_width(slot->type.id);
}

bool mr_set_is_fixed(const struct mr_agg_slot *slot)
{
    uint32_t width = width_of(slot);

    return slot->kind == MR_SLOT_SET && width > 0 && width <= 8;
}

/* ---- in a task ---- */

static void sort_few(uint64_t *values, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        uint64_t value = values[i];
        size_t at = i;

        for (; at > 0 && values[at - 1] > value; at--)
            values[at] = values[at - 1];
        values[at] = value;
    }
}

/* By their bytes from the lowest; a byte that all have alike costs nothing. */
static bool sort(uint64_t *values, size_t count)
{
    size_t(*counts)[256];
    uint64_t *from = values;
    uint64_t *to;

    if (count <= INSERTION_MAX) {
        sort_few(values, count);
        return true;
    }
    counts = mr_alloc_zero(NULL, DIGITS * sizeof(*counts));
    to = mr_alloc(NULL, count * sizeof(*to));
    if (counts == NULL || to == NULL) {
        mr_free(counts);
        mr_free(to);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        for (unsigned d = 0; d < DIGITS; d++)
            counts[d][values[i] >> (8 * d) & 0xff]++;
    }
    for (unsigned d = 0; d < DIGITS; d++) {
        size_t at = 0;
        uint64_t *swap = from;

        if (counts[d][values[0] >> (8 * d) & 0xff] == count)
            continue;
        for (unsigned b = 0; b < 256; b++) {
            size_t here = counts[d][b];

            counts[d][b] = at;
            at += here;
        }
        for (size_t i = 0; i < count; i++)
            to[counts[d][from[i] >> (8 * d) & 0xff]++] = from[i];
        from = to;
        to = swap;
    }
    if (from != values)
        memcpy(values, from, count * sizeof(*values));
    mr_free(from != values ? from : to);
    mr_free(counts);
    return true;
}

/* Ascending, each once. */
static enum mr_status seal(struct mr_agg_bytes *bytes, struct mr_error *err)
{
    uint64_t *values = (uint64_t *)(void *)bytes->data + 1;
    size_t count = bytes->size_bytes / 8 - 1;
    size_t kept = 0;

    if (bytes->sealed_bytes == bytes->size_bytes)
        return MR_OK;
    if (!sort(values, count))
        return no_memory(err);
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || values[kept - 1] != values[i])
            values[kept++] = values[i];
    }
    bytes->size_bytes = bytes->sealed_bytes = (uint32_t)(8 + kept * 8);
    return MR_OK;
}

/* The bytes of its key as a number. */
static inline bool value_of(const struct mr_column *column, int64_t row, uint32_t width,
                            bool is_plain, struct mr_buf *scratch, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (is_plain) { /* BIGINT, TIMESTAMP: the sign flipped */
        memcpy(&value, (const uint8_t *)column->values + (size_t)row * 8, 8);
        *ret_value = value ^ UINT64_C(1) << 63;
        return true;
    }
    mr_buf_clear(scratch);
    mr_key_encode(scratch, column, row);
    if (scratch->failed)
        return false;
    MR_ASSERT(scratch->size == width + 1);
    for (uint32_t i = 0; i < width; i++)
        value = value << 8 | (uint8_t)scratch->data[1 + i];
    *ret_value = value;
    return true;
}

static enum mr_status add(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes, bool is_null,
                          uint64_t value, struct mr_arena *arena, struct mr_error *err)
{
    size_t more = bytes->size_bytes == 0 ? 16 : 8;

    if (bytes->size_bytes + more > bytes->capacity_bytes) {
        if (mr_wide_room(slot, bytes, more, arena, err) == NULL)
            return bytes->size_bytes + more > MR_AGG_WIDE_BYTES_MAX ? MR_LIMIT : MR_NOMEM;
    }
    if (bytes->size_bytes == 0) {
        memset(bytes->data, 0, 8);
        bytes->size_bytes = bytes->sealed_bytes = 8;
    }
    if (is_null) {
        bytes->data[0] = 1;
        return MR_OK;
    }
    memcpy(bytes->data + bytes->size_bytes, &value, 8);
    bytes->size_bytes += 8;
    return bytes->size_bytes >= bytes->sealed_bytes * 2 + SEAL_BYTES ? seal(bytes, err) : MR_OK;
}

enum mr_status mr_set_update(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                             const struct mr_column *filter, struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(rows->batch, slot->column);
    enum mr_type_id id = slot->type.id;
    bool is_plain = id == MR_TYPE_INT64 || id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS;
    struct mr_buf scratch = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < rows->count && status == MR_OK; i++) {
        int64_t row = rows->from + i;
        bool is_null = mr_column_is_null(column, row);
        uint64_t value = 0;

        if (filter != NULL && (mr_column_is_null(filter, row) || !mr_column_bool(filter, row)))
            continue;
        if (!is_null && !value_of(column, row, width_of(slot), is_plain, &scratch, &value)) {
            status = no_memory(err);
            break;
        }
        rows->slots[rows->groups[i] * rows->slot_stride] = 1;
        status = add(slot, &rows->bytes[rows->groups[i] * rows->bytes_stride], is_null, value,
                     rows->arena, err);
    }
    mr_buf_release(&scratch);
    return status;
}

/* ---- stored ---- */

enum mr_status mr_set_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                           struct mr_arena *arena, struct mr_error *err)
{
    struct mr_agg_bytes stored = {0};
    uint32_t width = width_of(slot);
    size_t count;
    char *to;

    if (bytes->size_bytes == 0)
        return MR_OK;
    MR_TRY(seal(bytes, err));
    count = bytes->size_bytes / 8 - 1;
    to = mr_wide_room(slot, &stored, NULL_ENTRY_BYTES + count * (width + 2), arena, err);
    if (to == NULL)
        return NULL_ENTRY_BYTES + count * (width + 2) > MR_AGG_WIDE_BYTES_MAX ? MR_LIMIT : MR_NOMEM;
    if (bytes->data[0] != 0) {
        *to++ = 1;
        *to++ = 0;
    }
    for (size_t i = 0; i < count; i++) {
        uint64_t value;

        memcpy(&value, bytes->data + 8 + i * 8, 8);
        value = __builtin_bswap64(value << (64 - 8 * width));
        *to++ = (char)(width + 1);
        *to++ = 1;
        memcpy(to, &value, width);
        to += width;
    }
    stored.size_bytes = stored.sealed_bytes = (uint32_t)(to - stored.data);
    *bytes = stored;
    return MR_OK;
}

/* A stored set: has it a null, and its values. False: it is none. */
struct values {
    const char *at;
    size_t count;
    bool has_null;
};

static bool read_values(const struct mr_agg_slot *slot, struct mr_slice whole,
                        struct values *ret_values)
{
    size_t stride = width_of(slot) + 2;
    struct values values = {whole.data, whole.size_bytes, false};

    if (values.count >= NULL_ENTRY_BYTES && values.at[0] == 1 && values.at[1] == 0) {
        values.has_null = true;
        values.at += NULL_ENTRY_BYTES;
        values.count -= NULL_ENTRY_BYTES;
    }
    if (values.count % stride != 0 ||
        (values.count > 0 && ((size_t)values.at[0] != stride - 1 || values.at[1] != 1)))
        return false;
    values.count /= stride;
    *ret_values = values;
    return true;
}

/* How many of the first values are below the one at `than`, found in steps that double. */
static size_t count_below(const char *at, size_t count, size_t stride, const char *than)
{
    size_t low = 0; /* all before it are below */
    size_t high = 1;

    while (high <= count && memcmp(at + (high - 1) * stride, than, stride) < 0) {
        low = high;
        high *= 2;
    }
    high = MR_MIN(high, count + 1) - 1; /* the one at it is not below, or it is the end */
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(at + middle * stride, than, stride) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum mr_status mr_set_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                            struct mr_buf *out, struct mr_error *err)
{
    size_t stride = width_of(slot) + 2;
    struct values one, two;

    if (!read_values(slot, a, &one) || !read_values(slot, b, &two))
        return mr_wide_corrupt(slot, err);
    if (!mr_buf_reserve(out, a.size_bytes + b.size_bytes))
        return no_memory(err);
    if (one.has_null || two.has_null)
        mr_buf_add(out, "\1\0", NULL_ENTRY_BYTES);
    while (one.count > 0 && two.count > 0) {
        size_t below = count_below(one.at, one.count, stride, two.at);
        struct values swap;

        mr_buf_add(out, one.at, below * stride);
        one.at += below * stride;
        one.count -= below;
        if (one.count > 0 && memcmp(one.at, two.at, stride) == 0) {
            one.at += stride;
            one.count--;
        }
        swap = one; /* two begins with what is least: its turn */
        one = two;
        two = swap;
    }
    mr_buf_add(out, one.at, one.count * stride);
    mr_buf_add(out, two.at, two.count * stride);
    return MR_OK;
}

int64_t mr_set_count(const struct mr_agg_slot *slot, struct mr_slice whole)
{
    struct values values;

    return read_values(slot, whole, &values) ? (int64_t)values.count : -1;
}
