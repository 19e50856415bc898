/*
 * Raw column builders, for decoders on the hot path.
 *
 * Memory only grows at mr_column_builder_reserve; the inline appenders write without checking, so a
 * decoder reserves once for many rows. validity is allocated on the first null only. Thread: the
 * builder's owner.
 */
#ifndef MILLRACE_EXT_BUILDER_H
#define MILLRACE_EXT_BUILDER_H

#include <millrace/batch.h>

#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Once reserved, `values` of TEXT and BINARY has this much room past bytes_capacity: wide stores
 * may overshoot. */
enum { MR_BUILDER_SLACK_BYTES = 64 };

struct mr_column_builder {
    const struct mr_type *type;
    int64_t length;
    int64_t capacity; /* values that fit without reserve */
    int64_t null_count;
    uint8_t *validity; /* NULL until the first null */
    uint8_t *values;   /* fixed width, bitmap, or text bytes */
    size_t bytes_used; /* TEXT, BINARY: bytes in values */
    size_t bytes_capacity;
    int32_t *offsets; /* TEXT, BINARY, LIST: length + 1 entries */
    struct mr_column_builder *children;
};

MR_API struct mr_column_builder *mr_batch_builder_column(struct mr_batch_builder *builder,
                                                         uint32_t column);

/* Makes room for rows more values and, for TEXT and BINARY, text_bytes more bytes. MR_NOMEM, or
 * MR_LIMIT past 2 GiB. */
MR_API enum mr_status mr_column_builder_reserve(struct mr_column_builder *column, int64_t rows,
                                                size_t text_bytes, struct mr_error *err);
/* Appends a null (reserves by itself, also for nested types). */
MR_API enum mr_status mr_column_builder_null(struct mr_column_builder *column,
                                             struct mr_error *err);
/* Marks the value just appended (index length - 1) as valid once a validity bitmap exists; called
 * by the inlines. */
static inline void mr_column_builder_valid(struct mr_column_builder *column)
{
    if (column->validity != NULL)
        column->validity[column->length >> 3] |= (uint8_t)(1u << (column->length & 7));
}

/* Unchecked appends: room must have been reserved. */
static inline void mr_column_builder_i64(struct mr_column_builder *column, int64_t value)
{
    mr_column_builder_valid(column);
    memcpy(column->values + (size_t)column->length++ * 8, &value, 8);
}
static inline void mr_column_builder_i32(struct mr_column_builder *column, int32_t value)
{
    mr_column_builder_valid(column);
    memcpy(column->values + (size_t)column->length++ * 4, &value, 4);
}
static inline void mr_column_builder_f64(struct mr_column_builder *column, double value)
{
    mr_column_builder_valid(column);
    memcpy(column->values + (size_t)column->length++ * 8, &value, 8);
}
static inline void mr_column_builder_bytes(struct mr_column_builder *column, const char *data,
                                           size_t size_bytes)
{
    mr_column_builder_valid(column);
    memcpy(column->values + column->bytes_used, data, size_bytes);
    column->bytes_used += size_bytes;
    column->offsets[++column->length] = (int32_t)column->bytes_used;
}
/* Checked appends for any integer, date, timestamp width (MR_BAD_DATA when it does not fit) and
 * other types. */
MR_API enum mr_status mr_column_builder_int(struct mr_column_builder *column, int64_t value,
                                            struct mr_error *err);
MR_API enum mr_status mr_column_builder_uint(struct mr_column_builder *column, uint64_t value,
                                             struct mr_error *err);
MR_API enum mr_status mr_column_builder_double(struct mr_column_builder *column, double value,
                                               struct mr_error *err);
MR_API enum mr_status mr_column_builder_bool(struct mr_column_builder *column, bool value,
                                             struct mr_error *err);
MR_API enum mr_status mr_column_builder_decimal(struct mr_column_builder *column,
                                                mr_int128 unscaled, struct mr_error *err);
MR_API enum mr_status mr_column_builder_text(struct mr_column_builder *column, const char *data,
                                             size_t size_bytes, struct mr_error *err);
/* LIST: call after appending the items to children[0]. STRUCT: after appending one value to every
 * child. */
MR_API enum mr_status mr_column_builder_list_end(struct mr_column_builder *column,
                                                 struct mr_error *err);
MR_API enum mr_status mr_column_builder_struct_end(struct mr_column_builder *column,
                                                   struct mr_error *err);
/* Takes the last value away again (a bad row is undone column by column); length must be > 0. */
MR_API void mr_column_builder_pop(struct mr_column_builder *column);
/* Keeps the first length values; also forgets items and fields appended below a LIST or STRUCT but
 * not ended yet. */
MR_API void mr_column_builder_truncate(struct mr_column_builder *column, int64_t length);
/* Copies one value of an equal type. */
MR_API enum mr_status mr_column_builder_copy(struct mr_column_builder *column,
                                             const struct mr_column *from, int64_t row,
                                             struct mr_error *err);

/* Tells a batch builder that `rows` complete rows were appended through its raw columns. All
 * columns must agree. */
MR_API enum mr_status mr_batch_builder_rows_added(struct mr_batch_builder *builder, int64_t rows,
                                                  struct mr_error *err);

#ifdef __cplusplus
}
#endif
#endif
