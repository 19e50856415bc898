/*
 * Batches: immutable, reference-counted sets of columns in the layout of the Arrow C data
 * interface.
 *
 *     builder --(finish)--> batch --(cursor | column)--> rows, whole columns
 *
 * A builder belongs to one thread. A finished batch never changes and may be shared between
 * threads.
 */
#ifndef MILLRACE_BATCH_H
#define MILLRACE_BATCH_H

#include <millrace/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * One column of a batch.  validity NULL = no nulls.  There is no offset: value i is at index i.
 *   fixed width:  values holds length * width bytes
 *   BOOL:         values is a bitmap
 *   TEXT, BINARY: bytes of value i are values[offsets[i] .. offsets[i + 1])
 *   LIST:         items of value i are children[0] rows [offsets[i] .. offsets[i + 1])
 *   STRUCT:       children[k] row i is field k of value i
 */
struct mr_column {
    const struct mr_type *type;
    int64_t length;
    int64_t null_count;
    const uint8_t *validity;
    const void *values;
    const int32_t *offsets;
    const struct mr_column *children;
};

struct mr_batch;

MR_API struct mr_batch *mr_batch_ref(const struct mr_batch *batch);
MR_API struct mr_batch *mr_batch_unref(struct mr_batch *batch); /* NULL allowed; returns NULL */
MR_API const struct mr_schema *mr_batch_schema(const struct mr_batch *batch); /* borrowed */
MR_API int64_t mr_batch_row_count(const struct mr_batch *batch);
/* borrowed */
MR_API const struct mr_column *mr_batch_column(const struct mr_batch *batch, uint32_t index);
MR_API size_t mr_batch_bytes(const struct mr_batch *batch); /* memory held by its buffers */

/* Zero-copy: same rows, the columns named by indexes, in that order, under schema (which must fit).
 * Returns new. */
MR_API enum mr_status mr_batch_select(const struct mr_batch *batch, const struct mr_schema *schema,
                                      const uint32_t *indexes, struct mr_batch **ret_batch,
                                      struct mr_error *err);
/* Copies rows [from, from + count). Returns new. */
MR_API enum mr_status mr_batch_slice(const struct mr_batch *batch, int64_t from, int64_t count,
                                     struct mr_batch **ret_batch, struct mr_error *err);
/* Copies the rows listed, in that order. Returns new. */
MR_API enum mr_status mr_batch_take(const struct mr_batch *batch, const uint32_t *rows,
                                    int64_t row_count, struct mr_batch **ret_batch,
                                    struct mr_error *err);

static inline bool mr_column_is_null(const struct mr_column *column, int64_t row)
{
    return column->validity != NULL && ((column->validity[row >> 3] >> (row & 7)) & 1) == 0;
}

struct mr_slice {
    const char *data; /* not terminated; may hold NUL */
    size_t size_bytes;
};

static inline struct mr_slice mr_column_text(const struct mr_column *column, int64_t row)
{
    struct mr_slice slice = {(const char *)column->values + column->offsets[row],
                             (size_t)(column->offsets[row + 1] - column->offsets[row])};
    return slice;
}

/* Value of any integer, date or timestamp column, widened (UINT64 wraps); the value must not be
 * null. */
MR_API int64_t mr_column_int(const struct mr_column *column, int64_t row);
/* Value of any integer, FLOAT, DOUBLE or DECIMAL column as a double; the value must not be null. */
MR_API double mr_column_double(const struct mr_column *column, int64_t row);
static inline bool mr_column_bool(const struct mr_column *column, int64_t row)
{
    return ((((const uint8_t *)column->values)[row >> 3] >> (row & 7)) & 1) != 0;
}
MR_API mr_int128 mr_column_decimal(const struct mr_column *column, int64_t row);

/*
 * Row cursor: one row of a batch, as C callbacks see it.  It borrows the batch.
 */
struct mr_row {
    const struct mr_batch *batch;
    int64_t index;
};

MR_API bool mr_row_is_null(const struct mr_row *row, uint32_t column);
MR_API int64_t mr_row_int(const struct mr_row *row, uint32_t column);          /* 0 when null */
MR_API double mr_row_double(const struct mr_row *row, uint32_t column);        /* 0 when null */
MR_API bool mr_row_bool(const struct mr_row *row, uint32_t column);            /* false when null */
MR_API struct mr_slice mr_row_text(const struct mr_row *row, uint32_t column); /* empty when null */
/*
 * Values inside values: the two sides of a join, the list of a group.
 *
 *     struct mr_value sides = mr_row_value(row, 1);
 *     int64_t left = mr_value_int(mr_value_field(sides, 0));
 *
 * What is not there (a field of a null, an item past the end) reads as null. Borrows the batch.
 */
struct mr_value {
    const struct mr_column *column; /* NULL: null */
    int64_t index;
};
MR_API struct mr_value mr_row_value(const struct mr_row *row, uint32_t column);
MR_API bool mr_value_is_null(struct mr_value value);
MR_API struct mr_value mr_value_field(struct mr_value value, uint32_t field); /* of a STRUCT */
MR_API struct mr_value mr_value_named(struct mr_value value, const char *name);
MR_API int64_t mr_value_count(struct mr_value value); /* items of a LIST */
MR_API struct mr_value mr_value_item(struct mr_value value, int64_t item);
MR_API int64_t mr_value_int(struct mr_value value); /* these as mr_row_int ... */
MR_API double mr_value_double(struct mr_value value);
MR_API bool mr_value_bool(struct mr_value value);
MR_API struct mr_slice mr_value_text(struct mr_value value);

/*
 * Text form of one value as `print` shows it: integers, %.17g-shortest doubles, text as is, dates
 * and timestamps ISO 8601, lists [a, b], structs {a: 1}, null as "null", objects as their codec
 * does. Appends to a caller's buffer like snprintf; returns bytes needed.
 */
MR_API size_t mr_row_print(const struct mr_row *row, uint32_t column, char *text, size_t size);

/*
 * Builder. Values are appended column by column; a row is complete when every column got one value
 * and mr_batch_builder_end_row was called (which checks that and fills what is missing with null).
 */
struct mr_batch_builder;
struct mr_column_builder; /* ext/builder.h: the raw columns, for decoders */

MR_API enum mr_status mr_batch_builder_new(const struct mr_schema *schema,
                                           struct mr_batch_builder **ret_builder,
                                           struct mr_error *err);
MR_API void mr_batch_builder_free(struct mr_batch_builder *builder); /* NULL allowed */
MR_API int64_t mr_batch_builder_row_count(const struct mr_batch_builder *builder);
MR_API size_t mr_batch_builder_bytes(const struct mr_batch_builder *builder);

/* Appends; a failure (memory, 2 GiB of text in one column, wrong type) sticks and is returned by
 * finish. */
MR_API void mr_batch_builder_null(struct mr_batch_builder *builder, uint32_t column);
MR_API void mr_batch_builder_int(struct mr_batch_builder *builder, uint32_t column, int64_t value);
MR_API void mr_batch_builder_double(struct mr_batch_builder *builder, uint32_t column,
                                    double value);
MR_API void mr_batch_builder_bool(struct mr_batch_builder *builder, uint32_t column, bool value);
MR_API void mr_batch_builder_decimal(struct mr_batch_builder *builder, uint32_t column,
                                     mr_int128 unscaled);
MR_API void mr_batch_builder_text(struct mr_batch_builder *builder, uint32_t column,
                                  const char *data, size_t size_bytes);
/* Copies one value (any type, nested too) from a column of the same type. */
MR_API void mr_batch_builder_copy(struct mr_batch_builder *builder, uint32_t column,
                                  const struct mr_column *from, int64_t row);
MR_API void mr_batch_builder_end_row(struct mr_batch_builder *builder);
/* Appends all rows of a batch of an equal schema. */
MR_API void mr_batch_builder_append(struct mr_batch_builder *builder, const struct mr_batch *batch);

/* Makes the batch and empties the builder for the next one. Returns new. */
MR_API enum mr_status mr_batch_builder_finish(struct mr_batch_builder *builder,
                                              struct mr_batch **ret_batch, struct mr_error *err);

/*
 * Arrow C data interface. Export shares the buffers (the release callbacks drop the reference);
 * import takes both structs and calls their release when the batch goes. Import refuses types that
 * millrace does not have (MR_CONFIG).
 */
struct ArrowSchema;
struct ArrowArray;
MR_API enum mr_status mr_batch_export(const struct mr_batch *batch, struct ArrowSchema *ret_schema,
                                      struct ArrowArray *ret_array, struct mr_error *err);
MR_API enum mr_status mr_batch_import(struct ArrowSchema *schema, struct ArrowArray *array,
                                      struct mr_batch **ret_batch, struct mr_error *err);

#ifdef __cplusplus
}
#endif
#endif
