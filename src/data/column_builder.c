/*
 * One column while it grows: the checked appends behind the inlines of ext/builder.h.
 *
 *     values    fixed width: value i at i * width; BOOL: bit i; TEXT and BINARY: bytes, then
 *               MR_BUILDER_SLACK_BYTES
 *     validity  made at the first null, with ones for all values before it
 *     offsets   TEXT, BINARY, LIST: entry i + 1 is where value i ends
 *     children  LIST: items;  STRUCT: one builder a field, as long as the column itself
 *
 * Invariants: bits of validity and of BOOL values at index >= length are 0, so an append only ever
 * sets bits; offsets[0] is 0 once there is room; capacity is a multiple of 64. Threads: the
 * builder's owner.
 */
#include "data/builder_internal.h"

#include "base/alloc.h"
#include "base/check.h"

#include <inttypes.h>

enum { CAPACITY_STEP = 64, TEXT_BYTES_FIRST = 1024 };

/* ---- memory ---- */

static bool has_bytes(const struct mr_column_builder *column)
{
    return column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY;
}

static bool has_offsets(const struct mr_column_builder *column)
{
    return has_bytes(column) || column->type->id == MR_TYPE_LIST;
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot grow column: out of memory; make batches smaller");
}

/* Grows a bitmap from old to new bits, the new bytes zero. */
static bool grow_bitmap(uint8_t **bitmap, int64_t old_bits, int64_t new_bits)
{
    size_t old_bytes = (size_t)(old_bits + 7) / 8;
    size_t new_bytes = (size_t)(new_bits + 7) / 8;
    uint8_t *grown = mr_realloc(NULL, *bitmap, new_bytes);

    if (grown == NULL)
        return false;
    memset(grown + old_bytes, 0, new_bytes - old_bytes);
    *bitmap = grown;
    return true;
}

static enum mr_status grow_rows(struct mr_column_builder *column, int64_t wanted,
                                struct mr_error *err)
{
    int64_t capacity = MR_MAX(wanted, column->capacity * 2);
    capacity = (capacity + CAPACITY_STEP - 1) / CAPACITY_STEP * CAPACITY_STEP;

    if (capacity > INT32_MAX - CAPACITY_STEP && wanted > INT32_MAX - CAPACITY_STEP)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot grow column: %" PRId64 " values; a batch holds at most 2^31",
                       wanted);
    if (column->validity != NULL && !grow_bitmap(&column->validity, column->capacity, capacity))
        return no_memory(err);
    if (has_offsets(column)) {
        int32_t *offsets =
            mr_realloc(NULL, column->offsets, sizeof *offsets * (size_t)(capacity + 1));
        if (offsets == NULL)
            return no_memory(err);
        if (column->offsets == NULL)
            offsets[0] = 0;
        column->offsets = offsets;
    } else if (column->type->id == MR_TYPE_BOOL) {
        if (!grow_bitmap(&column->values, column->capacity, capacity))
            return no_memory(err);
    } else if (column->type->id != MR_TYPE_STRUCT) {
        size_t size = (size_t)capacity * mr_type_width(column->type->id);
        uint8_t *values = mr_realloc(NULL, column->values, size);
        if (values == NULL)
            return no_memory(err);
        column->values = values;
    }
    column->capacity = capacity;
    return MR_OK;
}

static enum mr_status too_long(size_t bytes, struct mr_error *err)
{
    return MR_FAIL(err, MR_LIMIT,
                   "cannot grow column: %zu bytes of text; a column of a batch holds at most "
                   "2 GiB, so make batches smaller",
                   bytes);
}

static enum mr_status grow_bytes(struct mr_column_builder *column, size_t wanted,
                                 struct mr_error *err)
{
    if (wanted > INT32_MAX)
        return too_long(wanted, err);
    size_t capacity = MR_MAX(MR_MAX(wanted, column->bytes_capacity * 2), (size_t)TEXT_BYTES_FIRST);
    uint8_t *values = mr_realloc(NULL, column->values, capacity + MR_BUILDER_SLACK_BYTES);
    if (values == NULL)
        return no_memory(err);
    column->values = values;
    column->bytes_capacity = capacity;
    return MR_OK;
}

enum mr_status mr_column_builder_reserve(struct mr_column_builder *column, int64_t rows,
                                         size_t text_bytes, struct mr_error *err)
{
    MR_ASSERT(rows >= 0);
    if (text_bytes > INT32_MAX)
        return too_long(text_bytes, err);
    /* Bytes first: where there is room for a row there is memory for an empty text, also after a
     * failure. */
    if (has_bytes(column) &&
        (text_bytes > column->bytes_capacity - column->bytes_used || column->values == NULL))
        MR_TRY(grow_bytes(column, column->bytes_used + text_bytes, err));
    if (rows > column->capacity - column->length || column->capacity == 0)
        MR_TRY(grow_rows(column, column->length + rows, err));
    if (column->type->id == MR_TYPE_STRUCT) {
        for (uint32_t i = 0; i < column->type->field_count; i++)
            MR_TRY(mr_column_builder_reserve(&column->children[i], rows, 0, err));
    }
    return MR_OK;
}

static void release_columns(struct mr_column_builder *columns, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        mr_free(columns[i].validity);
        mr_free(columns[i].values);
        mr_free(columns[i].offsets);
        mr__columns_free(columns[i].children, columns[i].type->field_count);
    }
}

void mr__columns_free(struct mr_column_builder *columns, uint32_t count)
{
    if (columns == NULL)
        return;
    release_columns(columns, count);
    mr_free(columns);
}

enum mr_status mr__columns_new(const struct mr_field *fields, uint32_t count,
                               struct mr_column_builder **ret_columns, struct mr_error *err)
{
    struct mr_column_builder *columns = mr_alloc_zero(NULL, sizeof *columns * (count + (size_t)1));

    if (columns == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_type *type = &fields[i].type;
        columns[i].type = type;
        if (type->field_count == 0)
            continue;
        enum mr_status status =
            mr__columns_new(type->fields, type->field_count, &columns[i].children, err);
        if (status != MR_OK) {
            mr__columns_free(columns, i);
            return status;
        }
    }
    *ret_columns = columns;
    return MR_OK;
}

size_t mr__column_bytes(const struct mr_column_builder *column)
{
    size_t rows = (size_t)column->length;
    size_t bytes = column->validity != NULL ? (rows + 7) / 8 : 0;

    if (column->type->id == MR_TYPE_BOOL)
        bytes += (rows + 7) / 8;
    else if (has_offsets(column))
        bytes += column->bytes_used + rows * sizeof(int32_t);
    else
        bytes += rows * mr_type_width(column->type->id);
    for (uint32_t i = 0; i < column->type->field_count; i++)
        bytes += mr__column_bytes(&column->children[i]);
    return bytes;
}

/* ---- nulls and undo ---- */

void mr__bits_set(uint8_t *bitmap, int64_t from, int64_t count)
{
    int64_t i = from;
    int64_t end = from + count;

    for (; i < end && (i & 7) != 0; i++)
        bitmap[i >> 3] |= (uint8_t)(1u << (i & 7));
    if (end - i >= 8) {
        memset(bitmap + (i >> 3), 0xff, (size_t)((end - i) >> 3));
        i = end & ~(int64_t)7;
    }
    for (; i < end; i++)
        bitmap[i >> 3] |= (uint8_t)(1u << (i & 7));
}

static void clear_bits(uint8_t *bitmap, int64_t from, int64_t count)
{
    for (int64_t i = from; i < from + count; i++)
        bitmap[i >> 3] &= (uint8_t) ~(1u << (i & 7));
}

enum mr_status mr__column_make_validity(struct mr_column_builder *column, struct mr_error *err)
{
    if (column->validity != NULL)
        return MR_OK;
    if (!grow_bitmap(&column->validity, 0, column->capacity))
        return no_memory(err);
    mr__bits_set(column->validity, 0, column->length);
    return MR_OK;
}

enum mr_status mr_column_builder_null(struct mr_column_builder *column, struct mr_error *err)
{
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    MR_TRY(mr__column_make_validity(column, err));
    if (has_offsets(column)) {
        column->offsets[column->length + 1] = column->offsets[column->length];
    } else if (column->type->id == MR_TYPE_STRUCT) {
        enum mr_status status = MR_OK;
        for (uint32_t i = 0; status == MR_OK && i < column->type->field_count; i++)
            status = mr_column_builder_null(&column->children[i], err);
        if (status != MR_OK) {
            mr_column_builder_truncate(column, column->length);
            return status;
        }
    } else if (column->type->id != MR_TYPE_BOOL) {
        size_t width = mr_type_width(column->type->id);
        memset(column->values + (size_t)column->length * width, 0, width);
    }
    column->length++;
    column->null_count++;
    return MR_OK;
}

void mr_column_builder_truncate(struct mr_column_builder *column, int64_t length)
{
    MR_ASSERT(length >= 0 && length <= column->length);
    int64_t removed = column->length - length;
    if (removed > 0 && column->validity != NULL) {
        for (int64_t i = length; i < column->length; i++) {
            if (((column->validity[i >> 3] >> (i & 7)) & 1) == 0)
                column->null_count--;
        }
        clear_bits(column->validity, length, removed);
    }
    if (removed > 0 && column->type->id == MR_TYPE_BOOL)
        clear_bits(column->values, length, removed);
    column->length = length;
    if (has_bytes(column))
        column->bytes_used = column->offsets == NULL ? 0 : (size_t)column->offsets[length];
    if (column->type->id == MR_TYPE_LIST)
        mr_column_builder_truncate(&column->children[0],
                                   column->offsets == NULL ? 0 : column->offsets[length]);
    if (column->type->id == MR_TYPE_STRUCT) {
        for (uint32_t i = 0; i < column->type->field_count; i++)
            mr_column_builder_truncate(&column->children[i], length);
    }
}

void mr_column_builder_pop(struct mr_column_builder *column)
{
    MR_ASSERT(column->length > 0);
    mr_column_builder_truncate(column, column->length - 1);
}

/* ---- checked appends ---- */

static enum mr_status wrong_type(const struct mr_column_builder *column, const char *what,
                                 struct mr_error *err)
{
    char type[128];

    (void)mr_type_print(column->type, type, sizeof type);
    return MR_FAIL(err, MR_USAGE, "cannot append %s to a column of type %s; use the matching call",
                   what, type);
}

static enum mr_status does_not_fit(const struct mr_column_builder *column, bool negative,
                                   uint64_t magnitude, struct mr_error *err)
{
    char type[128];

    (void)mr_type_print(column->type, type, sizeof type);
    return MR_FAIL(err, MR_BAD_DATA, "%s%" PRIu64 " does not fit into %s", negative ? "-" : "",
                   magnitude, type);
}

static void append_fixed(struct mr_column_builder *column, const void *value, size_t width)
{
    mr_column_builder_valid(column);
    memcpy(column->values + (size_t)column->length * width, value, width);
    column->length++;
}

/* Range of the signed types; false for others. */
static bool signed_range(enum mr_type_id id, int64_t *ret_min, int64_t *ret_max)
{
    switch (id) {
    case MR_TYPE_INT8:
        *ret_min = INT8_MIN, *ret_max = INT8_MAX;
        return true;
    case MR_TYPE_INT16:
        *ret_min = INT16_MIN, *ret_max = INT16_MAX;
        return true;
    case MR_TYPE_INT32:
    case MR_TYPE_DATE:
        *ret_min = INT32_MIN, *ret_max = INT32_MAX;
        return true;
    case MR_TYPE_INT64:
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        *ret_min = INT64_MIN, *ret_max = INT64_MAX;
        return true;
    default:
        return false;
    }
}

static bool unsigned_max(enum mr_type_id id, uint64_t *ret_max)
{
    switch (id) {
    case MR_TYPE_UINT8:
        *ret_max = UINT8_MAX;
        return true;
    case MR_TYPE_UINT16:
        *ret_max = UINT16_MAX;
        return true;
    case MR_TYPE_UINT32:
        *ret_max = UINT32_MAX;
        return true;
    case MR_TYPE_UINT64:
        *ret_max = UINT64_MAX;
        return true;
    default:
        return false;
    }
}

enum mr_status mr_column_builder_int(struct mr_column_builder *column, int64_t value,
                                     struct mr_error *err)
{
    int64_t min = 0;
    int64_t max = 0;
    uint64_t top = 0;
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    if (signed_range(column->type->id, &min, &max)) {
        if (value < min || value > max)
            return does_not_fit(column, value < 0, magnitude, err);
    } else if (unsigned_max(column->type->id, &top)) {
        if (value < 0 || magnitude > top)
            return does_not_fit(column, value < 0, magnitude, err);
    } else {
        return wrong_type(column, "an integer", err);
    }
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    append_fixed(column, &value, mr_type_width(column->type->id)); /* little-endian machines only */
    return MR_OK;
}

enum mr_status mr_column_builder_uint(struct mr_column_builder *column, uint64_t value,
                                      struct mr_error *err)
{
    int64_t min = 0;
    int64_t max = 0;
    uint64_t top = 0;

    if (signed_range(column->type->id, &min, &max))
        top = (uint64_t)max;
    else if (!unsigned_max(column->type->id, &top))
        return wrong_type(column, "an integer", err);
    if (value > top)
        return does_not_fit(column, false, value, err);
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    append_fixed(column, &value, mr_type_width(column->type->id));
    return MR_OK;
}

enum mr_status mr_column_builder_double(struct mr_column_builder *column, double value,
                                        struct mr_error *err)
{
    float narrow = (float)value;

    if (column->type->id != MR_TYPE_DOUBLE && column->type->id != MR_TYPE_FLOAT)
        return wrong_type(column, "a double", err);
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    if (column->type->id == MR_TYPE_DOUBLE)
        append_fixed(column, &value, sizeof value);
    else
        append_fixed(column, &narrow, sizeof narrow);
    return MR_OK;
}

enum mr_status mr_column_builder_bool(struct mr_column_builder *column, bool value,
                                      struct mr_error *err)
{
    if (column->type->id != MR_TYPE_BOOL)
        return wrong_type(column, "a boolean", err);
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    mr_column_builder_valid(column);
    if (value)
        column->values[column->length >> 3] |= (uint8_t)(1u << (column->length & 7));
    column->length++;
    return MR_OK;
}

enum mr_status mr_column_builder_decimal(struct mr_column_builder *column, mr_int128 unscaled,
                                         struct mr_error *err)
{
    mr_int128 bound = 1;

    if (column->type->id != MR_TYPE_DECIMAL)
        return wrong_type(column, "a decimal", err);
    for (unsigned i = 0; i < column->type->precision; i++)
        bound *= 10;
    if (unscaled <= -bound || unscaled >= bound)
        return MR_FAIL(err, MR_BAD_DATA, "number has more digits than DECIMAL(%u,%u) holds",
                       column->type->precision, column->type->scale);
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    append_fixed(column, &unscaled, sizeof unscaled);
    return MR_OK;
}

enum mr_status mr_column_builder_text(struct mr_column_builder *column, const char *data,
                                      size_t size_bytes, struct mr_error *err)
{
    if (!has_bytes(column))
        return wrong_type(column, "text", err);
    MR_TRY(mr_column_builder_reserve(column, 1, size_bytes, err));
    if (size_bytes == 0)
        data = ""; /* a NULL with no bytes is fine for callers, not for memcpy */
    mr_column_builder_bytes(column, data, size_bytes);
    return MR_OK;
}

enum mr_status mr_column_builder_list_end(struct mr_column_builder *column, struct mr_error *err)
{
    if (column->type->id != MR_TYPE_LIST)
        return wrong_type(column, "a list", err);
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    if (column->children[0].length > INT32_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot grow column: more than 2^31 list items; make batches smaller");
    mr_column_builder_valid(column);
    column->offsets[++column->length] = (int32_t)column->children[0].length;
    return MR_OK;
}

enum mr_status mr_column_builder_struct_end(struct mr_column_builder *column, struct mr_error *err)
{
    if (column->type->id != MR_TYPE_STRUCT)
        return wrong_type(column, "a struct", err);
    MR_TRY(mr_column_builder_reserve(column, 1, 0, err));
    for (uint32_t i = 0; i < column->type->field_count; i++) {
        if (column->children[i].length != column->length + 1)
            return MR_FAIL(err, MR_USAGE,
                           "cannot end struct: field '%s' has %" PRId64 " values, not %" PRId64
                           "; append one value to every field first",
                           column->type->fields[i].name, column->children[i].length,
                           column->length + 1);
    }
    mr_column_builder_valid(column);
    column->length++;
    return MR_OK;
}
