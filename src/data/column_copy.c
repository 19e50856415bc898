/*
 * Copies between finished columns and builders: ranges (slice, append), lists of rows (take),
 * single values.
 *
 * Called by batch.c, batch_builder.c and by decoders through mr_column_builder_copy. Source and
 * target have equal types; offsets of the source need not begin at 0. Threads: the builder's owner;
 * the source column may be shared.
 */
#include "data/builder_internal.h"

#include "base/check.h"

static bool is_valid(const struct mr_column *column, int64_t row)
{
    return !mr_column_is_null(column, row);
}

/* Bits [from, from + count) of source to the end of the builder's bitmap, which holds zeros
 * there. */
static void append_bits(uint8_t *target, int64_t at, const uint8_t *source, int64_t from,
                        int64_t count)
{
    MR_ASSERT(target != NULL && source != NULL);
    if ((at & 7) == 0 && (from & 7) == 0) {
        int64_t whole = count >> 3;
        memcpy(target + (at >> 3), source + (from >> 3), (size_t)whole);
        at += whole * 8;
        from += whole * 8;
        count -= whole * 8;
    }
    for (int64_t i = 0; i < count; i++) {
        unsigned bit = ((unsigned)source[(from + i) >> 3] >> ((from + i) & 7)) & 1u;
        target[(at + i) >> 3] |= (uint8_t)(bit << ((at + i) & 7));
    }
}

static int64_t count_nulls(const struct mr_column *from, int64_t from_row, int64_t count)
{
    int64_t nulls = 0;

    if (from->validity == NULL || from->null_count == 0)
        return 0;
    for (int64_t i = from_row; i < from_row + count; i++)
        nulls += !is_valid(from, i);
    return nulls;
}

static size_t range_bytes(const struct mr_column *from, int64_t from_row, int64_t count)
{
    return (size_t)(from->offsets[from_row + count] - from->offsets[from_row]);
}

/* Values of the range, everything but validity; room for the rows was reserved. */
static enum mr_status append_values(struct mr_column_builder *column, const struct mr_column *from,
                                    int64_t from_row, int64_t count, struct mr_error *err)
{
    size_t width = mr_type_width(column->type->id);

    switch (column->type->id) {
    case MR_TYPE_BOOL:
        append_bits(column->values, column->length, from->values, from_row, count);
        return MR_OK;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY: {
        size_t bytes = range_bytes(from, from_row, count);
        int32_t shift = (int32_t)column->bytes_used - from->offsets[from_row];
        if (bytes > 0)
            memcpy(column->values + column->bytes_used,
                   (const char *)from->values + from->offsets[from_row], bytes);
        for (int64_t i = 1; i <= count; i++)
            column->offsets[column->length + i] = from->offsets[from_row + i] + shift;
        column->bytes_used += bytes;
        return MR_OK;
    }
    case MR_TYPE_LIST: {
        int64_t items = column->children[0].length;
        MR_TRY(mr__column_append(&column->children[0], &from->children[0], from->offsets[from_row],
                                 from->offsets[from_row + count] - from->offsets[from_row], err));
        int32_t shift = (int32_t)items - from->offsets[from_row];
        for (int64_t i = 1; i <= count; i++)
            column->offsets[column->length + i] = from->offsets[from_row + i] + shift;
        return MR_OK;
    }
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < column->type->field_count; i++)
            MR_TRY(
                mr__column_append(&column->children[i], &from->children[i], from_row, count, err));
        return MR_OK;
    default:
        memcpy(column->values + (size_t)column->length * width,
               (const char *)from->values + (size_t)from_row * width, (size_t)count * width);
        return MR_OK;
    }
}

enum mr_status mr__column_append(struct mr_column_builder *column, const struct mr_column *from,
                                 int64_t from_row, int64_t count, struct mr_error *err)
{
    MR_ASSERT(from_row >= 0 && count >= 0 && from_row + count <= from->length);
    if (count == 0)
        return MR_OK;
    bool text = column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY;
    size_t bytes = text ? range_bytes(from, from_row, count) : 0;
    MR_TRY(mr_column_builder_reserve(column, count, bytes, err));
    int64_t nulls = count_nulls(from, from_row, count);
    if (nulls > 0)
        MR_TRY(mr__column_make_validity(column, err));
    enum mr_status status = append_values(column, from, from_row, count, err);
    if (status != MR_OK) {
        mr_column_builder_truncate(column, column->length); /* items and fields that came in */
        return status;
    }
    if (nulls > 0)
        append_bits(column->validity, column->length, from->validity, from_row, count);
    else if (column->validity != NULL)
        mr__bits_set(column->validity, column->length, count);
    column->null_count += nulls;
    column->length += count;
    return MR_OK;
}

enum mr_status mr_column_builder_copy(struct mr_column_builder *column,
                                      const struct mr_column *from, int64_t row,
                                      struct mr_error *err)
{
    if (!is_valid(from, row))
        return mr_column_builder_null(column, err);
    if (mr_type_width(column->type->id) == 8) {
        int64_t value;
        MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
        memcpy(&value, (const char *)from->values + (size_t)row * 8, sizeof value);
        mr_column_builder_i64(column, value);
        return MR_OK;
    }
    if (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY) {
        struct mr_slice text = mr_column_text(from, row);
        return mr_column_builder_text(column, text.data, text.size_bytes, err);
    }
    return mr__column_append(column, from, row, 1, err);
}

static enum mr_status gather_text(struct mr_column_builder *column, const struct mr_column *from,
                                  const uint32_t *rows, int64_t row_count, struct mr_error *err)
{
    size_t bytes = 0;

    for (int64_t i = 0; i < row_count; i++)
        bytes += range_bytes(from, rows[i], 1);
    MR_TRY(mr_column_builder_reserve(column, row_count, bytes, err));
    for (int64_t i = 0; i < row_count; i++) {
        struct mr_slice text = mr_column_text(from, rows[i]);
        mr_column_builder_bytes(column, text.size_bytes > 0 ? text.data : "", text.size_bytes);
    }
    return MR_OK;
}

enum mr_status mr__column_gather(struct mr_column_builder *column, const struct mr_column *from,
                                 const uint32_t *rows, int64_t row_count, struct mr_error *err)
{
    bool nulls = from->validity != NULL && from->null_count != 0;
    size_t width = mr_type_width(column->type->id);

    if (!nulls && (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY))
        return gather_text(column, from, rows, row_count, err);
    MR_TRY(mr_column_builder_reserve(column, row_count, 0, err));
    if (!nulls && width == 8) {
        const char *values = from->values;
        for (int64_t i = 0; i < row_count; i++) {
            int64_t value;
            memcpy(&value, values + (size_t)rows[i] * 8, sizeof value);
            mr_column_builder_i64(column, value);
        }
        return MR_OK;
    }
    for (int64_t i = 0; i < row_count; i++)
        MR_TRY(mr_column_builder_copy(column, from, rows[i], err));
    return MR_OK;
}
