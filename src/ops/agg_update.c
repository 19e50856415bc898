/*
 * Rows into buffers: one loop per kind of slot over a chunk of at most 1,024 rows whose group
 * numbers are known.
 *
 *     column --ordinal.h--> values[1024] --for each row--> buffers[groups[row]]
 *
 * The buffers have the stored form (aggregate.c) from the start, except that byte strings live in
 * the task's arena until the group is written (mr_agg_write_group). Rows are added in their order,
 * so float sums are the same whenever the same rows come in the same batches.
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

static enum mr_status update_sum_decimal(struct rows rows, const struct mr_agg_slot *described,
                                         struct mr_error *err)
{
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        mr_int128 sum;
        if (__builtin_add_overflow(mr_load_i128(slot),
                                   mr_column_decimal(rows.column, rows.from + i), &sum))
            return mr_agg_sum_overflow(described, err);
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

/* Numbers of a column as doubles, decimals too. */
static void load_numbers(const struct mr_column *column, int64_t from, uint32_t count, double *out)
{
    if (column->type->id != MR_TYPE_DECIMAL) {
        mr_double_load(column, from, count, out);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        out[i] = mr_column_is_null(column, from + i) ? 0 : mr_column_double(column, from + i);
}

static void update_product(struct rows rows)
{
    double values[MR_CHUNK_ROWS];

    load_numbers(rows.column, rows.from, rows.count, values);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        int64_t count = mr_load_i64(slot + 8);
        mr_store_f64(slot, count == 0 ? values[i] : mr_load_f64(slot) * values[i]);
        mr_store_i64(slot + 8, count + 1);
    }
}

/* Welford's method: the mean moves toward each value. */
static void update_moments(struct rows rows)
{
    double values[MR_CHUNK_ROWS];

    load_numbers(rows.column, rows.from, rows.count, values);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        int64_t count = mr_load_i64(slot) + 1;
        double mean = mr_load_f64(slot + 8);
        double away = values[i] - mean;
        mean += away / (double)count;
        mr_store_i64(slot, count);
        mr_store_f64(slot + 8, mean);
        mr_store_f64(slot + 16, mr_load_f64(slot + 16) + away * (values[i] - mean));
    }
}

static void update_comoments(struct rows rows, const struct mr_column *other)
{
    double ys[MR_CHUNK_ROWS];
    double xs[MR_CHUNK_ROWS];
    bool nulls = mr_column_has_nulls(other);

    load_numbers(rows.column, rows.from, rows.count, ys);
    load_numbers(other, rows.from, rows.count, xs);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i) || (nulls && mr_column_is_null(other, rows.from + i)))
            continue;
        char *slot = slot_at(&rows, i);
        int64_t count = mr_load_i64(slot) + 1;
        double mean_y = mr_load_f64(slot + 8), mean_x = mr_load_f64(slot + 16);
        double away_y = ys[i] - mean_y, away_x = xs[i] - mean_x;
        mean_y += away_y / (double)count;
        mean_x += away_x / (double)count;
        mr_store_i64(slot, count);
        mr_store_f64(slot + 8, mean_y);
        mr_store_f64(slot + 16, mean_x);
        mr_store_f64(slot + 24, mr_load_f64(slot + 24) + away_y * (ys[i] - mean_y));
        mr_store_f64(slot + 32, mr_load_f64(slot + 32) + away_x * (xs[i] - mean_x));
        mr_store_f64(slot + 40, mr_load_f64(slot + 40) + away_y * (xs[i] - mean_x));
    }
}

static void update_bits(struct rows rows, const struct mr_agg_slot *described)
{
    int64_t values[MR_CHUNK_ROWS];

    mr_ordinal_load(rows.column, rows.from, rows.count, values);
    for (uint32_t i = 0; i < rows.count; i++) {
        if (is_null(&rows, i))
            continue;
        char *slot = slot_at(&rows, i);
        uint64_t bits =
            described->is_unsigned ? mr_ordinal_to_uint(values[i]) : (uint64_t)values[i];
        mr_store_u64(slot + 1,
                     *slot == 0 ? bits : mr_bits_of(described, mr_load_u64(slot + 1), bits));
        *slot = 1;
    }
}

static enum mr_status update_slot(const struct mr_agg_slot *slot, struct rows rows,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    switch (slot->kind) {
    case MR_SLOT_COUNT:
        update_count(rows);
        break;
    case MR_SLOT_SUM_INT:
        if (slot->type.id == MR_TYPE_DECIMAL)
            return update_sum_decimal(rows, slot, err);
        update_sum_int(rows, slot->is_unsigned);
        break;
    case MR_SLOT_SUM_FLOAT:
        update_sum_float(rows);
        break;
    case MR_SLOT_PRODUCT:
        update_product(rows);
        break;
    case MR_SLOT_MOMENTS:
        update_moments(rows);
        break;
    case MR_SLOT_COMOMENTS:
        update_comoments(rows, mr_batch_column(batch, slot->other));
        break;
    case MR_SLOT_BEST_64:
        update_best_64(rows, slot->wants_max);
        break;
    case MR_SLOT_BEST_128:
        update_best_128(rows, slot->wants_max);
        break;
    case MR_SLOT_BITS:
        update_bits(rows, slot);
        break;
    default:
        MR_ASSERT(!mr_slot_is_wide(slot->kind)); /* those have kernels of their own */
    }
    return MR_OK;
}

static enum mr_status update_wide(const struct mr_agg_layout *layout,
                                  const struct mr_agg_slot *slot, struct rows rows,
                                  const struct mr_batch *batch, struct mr_agg_bytes *bytes,
                                  struct mr_arena *arena, struct mr_error *err)
{
    struct mr_agg_rows wide = {.batch = batch,
                               .from = rows.from,
                               .count = rows.count,
                               .groups = rows.groups,
                               .slots = rows.slots,
                               .slot_stride = rows.stride,
                               .bytes = bytes + slot->bytes_index,
                               .bytes_stride = layout->bytes_count,
                               .arena = arena};

    return mr_wide_update(slot, &wide, err);
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
        MR_TRY(mr_slot_is_wide(slot->kind)
                   ? update_wide(layout, slot, rows, batch, bytes, arena, err)
                   : update_slot(slot, rows, batch, err));
    }
    return MR_OK;
}

enum mr_status mr_agg_write_group(const struct mr_agg_layout *layout, char *fixed,
                                  struct mr_agg_bytes *bytes, struct mr_arena *arena,
                                  struct mr_column_builder *out, struct mr_error *err)
{
    size_t size_bytes = layout->fixed_bytes;

    for (uint32_t i = 0; layout->bytes_count > 0 && i < layout->slot_count; i++) {
        const struct mr_agg_slot *slot = &layout->slots[i];
        if (!mr_slot_is_wide(slot->kind))
            continue;
        MR_TRY(mr_wide_seal(slot, &bytes[slot->bytes_index], arena, err));
        mr_store_u32(fixed + slot->offset + 1, bytes[slot->bytes_index].size_bytes);
        size_bytes += bytes[slot->bytes_index].size_bytes;
    }
    MR_TRY(mr_column_builder_reserve(out, 1, size_bytes, err));
    mr_column_builder_bytes(out, fixed, layout->fixed_bytes);
    for (uint32_t i = 0; i < layout->bytes_count; i++) {
        if (bytes[i].size_bytes > 0)
            memcpy(out->values + out->bytes_used, bytes[i].data, bytes[i].size_bytes);
        out->bytes_used += bytes[i].size_bytes;
    }
    out->offsets[out->length] = (int32_t)out->bytes_used;
    return MR_OK;
}
