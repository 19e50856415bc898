/*
 * Rows into buffers: one loop per kind of slot over a chunk of at most 1,024 rows whose group
 * numbers are known.
 *
 *     column --ordinal.h--> values[1024] --for each row--> buffers[groups[row]]
 *
 * The buffers have the stored form (aggregate.c) from the start, except that byte strings live in
 * the task's arena until the group is written. Rows are added in their order, so float sums are the
 * same whenever the same rows come in the same batches.
 *
 * Called by agg_partial.c.  Threads: the task's.
 */
#include "ops/aggregate.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/ordinal.h"

/* What every kernel takes. */
struct rows {
    const struct mr_column *column;
    int64_t from;
    uint32_t count;
    const uint32_t *groups;
    char *slots;   /* the slot of group 0 */
    size_t stride; /* to the slot of the next group */
    bool nulls;
};

static inline bool is_null(const struct rows *rows, uint32_t i)
{
    return rows->nulls && mr_column_is_null(rows->column, rows->from + i);
}

static inline char *slot_at(const struct rows *rows, uint32_t i)
{
    return rows->slots + rows->groups[i] * rows->stride;
}

static void count_rows(const uint32_t *groups, uint32_t count, char *fixed, size_t stride)
{
    for (uint32_t i = 0; i < count; i++) {
        char *at = fixed + groups[i] * stride;
        mr_store_u64(at, mr_load_u64(at) + 1);
    }
}

/* Only counts: the buffers are an array of counters. */
static void count_rows_dense(const uint32_t *groups, uint32_t count, char *fixed)
{
    count_rows(groups, count, fixed, MR_AGG_ROWS_BYTES);
}

static void update_count(struct rows rows)
{
    for (uint32_t i = 0; i < rows.count; i++) {
        char *slot = slot_at(&rows, i);
        mr_store_i64(slot, mr_load_i64(slot) + !is_null(&rows, i));
    }
}

static void update_sum_int(struct rows rows, bool is_unsigned)
{
    int64_t values[MR_CHUNK_ROWS];

    mr_ordinal_load(rows.column, rows.from, rows.count, values);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        mr_int128 value = is_unsigned ? (mr_int128)mr_ordinal_to_uint(values[i]) : values[i];
        mr_store_i128(slot,
                      mr_load_i128(slot) + value); /* 2^31 rows of 64 bits: far from the end */
        mr_store_i64(slot + 16, mr_load_i64(slot + 16) + 1);
    }
}

static enum mr_status update_sum_decimal(struct rows rows, struct mr_error *err)
{
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        mr_int128 sum;
        if (__builtin_add_overflow(mr_load_i128(slot),
                                   mr_column_decimal(rows.column, rows.from + i), &sum))
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot add decimals: the sum has more than 38 digits; cast to DOUBLE");
        mr_store_i128(slot, sum);
        mr_store_i64(slot + 16, mr_load_i64(slot + 16) + 1);
    }
    return MR_OK;
}

static void update_sum_float(struct rows rows)
{
    double values[MR_CHUNK_ROWS];

    mr_double_load(rows.column, rows.from, rows.count, values);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        double sum = mr_load_f64(slot);
        double error = mr_load_f64(slot + 8);
        mr_float_add(&sum, &error, values[i]);
        mr_store_f64(slot, sum);
        mr_store_f64(slot + 8, error);
        mr_store_i64(slot + 16, mr_load_i64(slot + 16) + 1);
    }
}

static void update_best_64(struct rows rows, bool wants_max)
{
    int64_t values[MR_CHUNK_ROWS];

    mr_ordinal_load(rows.column, rows.from, rows.count, values);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        if (*slot == 0 || mr_better_i64(wants_max, mr_load_i64(slot + 1), values[i])) {
            *slot = 1;
            mr_store_i64(slot + 1, values[i]);
        }
    }
}

static void update_best_128(struct rows rows, bool wants_max)
{
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        mr_int128 value = mr_column_decimal(rows.column, rows.from + i);
        mr_int128 best = mr_load_i128(slot + 1);
        if (*slot == 0 || (wants_max ? value > best : value < best)) {
            *slot = 1;
            mr_store_i128(slot + 1, value);
        }
    }
}

static bool bytes_better(bool wants_max, struct mr_slice a, struct mr_slice b)
{
    size_t common = MR_MIN(a.size_bytes, b.size_bytes);
    int order = common == 0 ? 0 : memcmp(b.data, a.data, common);

    if (order == 0)
        order = (b.size_bytes > common) - (a.size_bytes > common);
    return wants_max ? order > 0 : order < 0;
}

/* Keeps a copy; the room of the one before is used again when it is large enough. */
static bool keep_bytes(struct mr_agg_bytes *bytes, struct mr_slice value, struct mr_arena *arena)
{
    if (value.size_bytes > bytes->capacity_bytes || bytes->data == NULL) {
        size_t capacity = MR_MAX(value.size_bytes, (size_t)bytes->capacity_bytes * 2);
        capacity = MR_MAX(MR_MIN(capacity, (size_t)UINT32_MAX), (size_t)16);
        bytes->data = mr_arena_alloc(arena, capacity);
        bytes->capacity_bytes = bytes->data == NULL ? 0 : (uint32_t)capacity;
        if (bytes->data == NULL)
            return false;
    }
    if (value.size_bytes > 0)
        memcpy(bytes->data, value.data, value.size_bytes);
    bytes->size_bytes = (uint32_t)value.size_bytes;
    return true;
}

static enum mr_status update_best_bytes(struct rows rows, bool wants_max,
                                        struct mr_agg_bytes *bytes, uint32_t bytes_count,
                                        struct mr_arena *arena, struct mr_error *err)
{
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        struct mr_agg_bytes *best = &bytes[(size_t)rows.groups[i] * bytes_count];
        struct mr_slice value = mr_column_text(rows.column, rows.from + i);
        if (*slot != 0 &&
            !bytes_better(wants_max, (struct mr_slice){best->data, best->size_bytes}, value))
            continue;
        if (!keep_bytes(best, value, arena))
            return MR_FAIL(err, MR_NOMEM, "cannot keep the least or greatest text: out of memory");
        *slot = 1;
        mr_store_u32(slot + 1, best->size_bytes);
    }
    return MR_OK;
}

enum mr_status mr_agg_update(const struct mr_agg_layout *layout, const struct mr_batch *batch,
                             int64_t from, uint32_t count, const uint32_t *groups, char *fixed,
                             struct mr_agg_bytes *bytes, struct mr_arena *arena,
                             struct mr_error *err)
{
    if (layout->fixed_bytes == MR_AGG_ROWS_BYTES)
        count_rows_dense(groups, count, fixed);
    else
        count_rows(groups, count, fixed, layout->fixed_bytes);
    for (uint32_t i = 0; i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        const struct mr_column *column = mr_batch_column(batch, slot->column);
        struct rows rows = {column,
                            from,
                            count,
                            groups,
                            fixed + slot->offset,
                            layout->fixed_bytes,
                            mr_column_has_nulls(column)};
        switch (slot->kind) {
        case MR_SLOT_COUNT:
            update_count(rows);
            break;
        case MR_SLOT_SUM_INT:
            if (slot->type.id == MR_TYPE_DECIMAL)
                MR_TRY(update_sum_decimal(rows, err));
            else
                update_sum_int(rows, slot->is_unsigned);
            break;
        case MR_SLOT_SUM_FLOAT:
            update_sum_float(rows);
            break;
        case MR_SLOT_BEST_64:
            update_best_64(rows, slot->wants_max);
            break;
        case MR_SLOT_BEST_128:
            update_best_128(rows, slot->wants_max);
            break;
        case MR_SLOT_BEST_BYTES:
            MR_TRY(update_best_bytes(rows, slot->wants_max, bytes + slot->bytes_index,
                                     layout->bytes_count, arena, err));
            break;
        }
    }
    return MR_OK;
}
