/*
 * Values as people read them: `print` of DStreams, the console sink, error texts, `millrace state
 * get`.
 *
 *     BIGINT 5 | DOUBLE 0.1 | DECIMAL 1.50 | VARCHAR as is | BLOB \x00ab | DATE 2026-11-21
 *     TIMESTAMP 2026-11-21 10:00:00.123 | list [1, null] | struct {a: 1, b: x} | null
 *
 * Threads: any.
 */
#include "data/types_internal.h"

#include "data/codec.h"

#include "base/check.h"
#include "base/number_text.h"
#include "base/time_text.h"

#include <millrace/batch.h>

#include <string.h>

static void print_binary(struct mr__out *out, struct mr_slice bytes)
{
    static const char hex[] = "0123456789abcdef";

    mr__out_add_str(out, "\\x");
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        unsigned byte = (unsigned char)bytes.data[i];
        char digits[2] = {hex[byte >> 4], hex[byte & 15]};
        mr__out_add(out, digits, 2);
    }
}

static void print_number(struct mr__out *out, const struct mr_column *column, int64_t row)
{
    char text[MR_NUMBER_TEXT_BYTES];
    size_t size_bytes;

    if (column->type->id == MR_TYPE_UINT64)
        size_bytes = mr_uint_print((uint64_t)mr_column_int(column, row), text);
    else if (column->type->id == MR_TYPE_DECIMAL)
        size_bytes = mr_decimal_print(mr_column_decimal(column, row), column->type->scale, text);
    else if (column->type->id == MR_TYPE_FLOAT)
        size_bytes = mr_float_print((float)mr_column_double(column, row), text);
    else if (column->type->id == MR_TYPE_DOUBLE)
        size_bytes = mr_double_print(mr_column_double(column, row), text);
    else
        size_bytes = mr_int_print(mr_column_int(column, row), text);
    mr__out_add(out, text, size_bytes);
}

static void print_time(struct mr__out *out, const struct mr_column *column, int64_t row)
{
    char text[MR_TIME_TEXT_BYTES];
    int64_t value = mr_column_int(column, row);
    size_t size_bytes =
        column->type->id == MR_TYPE_DATE
            ? mr_date_print((int32_t)value, text)
            : mr_timestamp_print(value, column->type->id == MR_TYPE_TIMESTAMP_NS, text);

    mr__out_add(out, text, size_bytes);
}

/* Columns with a codec. False: as bytes then. */
static bool print_object(struct mr__out *out, const struct mr_type *type, struct mr_slice bytes)
{
    size_t room = out->used < out->size ? out->size - out->used : 0;
    size_t need;

    if (type->extension == NULL ||
        !mr__object_print(type, bytes, room > 0 ? out->text + out->used : NULL, room, &need))
        return false;
    out->used += need;
    return true;
}

static void print_value(struct mr__out *out, const struct mr_column *column, int64_t row)
{
    struct mr_slice text;

    if (mr_column_is_null(column, row)) {
        mr__out_add_str(out, "null");
        return;
    }
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        mr__out_add_str(out, mr_column_bool(column, row) ? "true" : "false");
        return;
    case MR_TYPE_TEXT:
        text = mr_column_text(column, row);
        mr__out_add(out, text.data, text.size_bytes);
        return;
    case MR_TYPE_BINARY:
        if (!print_object(out, column->type, mr_column_text(column, row)))
            print_binary(out, mr_column_text(column, row));
        return;
    case MR_TYPE_DATE:
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        print_time(out, column, row);
        return;
    case MR_TYPE_LIST:
        mr__out_add_str(out, "[");
        for (int32_t i = column->offsets[row]; i < column->offsets[row + 1]; i++) {
            if (i > column->offsets[row])
                mr__out_add_str(out, ", ");
            print_value(out, &column->children[0], i);
        }
        mr__out_add_str(out, "]");
        return;
    case MR_TYPE_STRUCT:
        mr__out_add_str(out, "{");
        for (uint32_t i = 0; i < column->type->field_count; i++) {
            if (i > 0)
                mr__out_add_str(out, ", ");
            mr__out_add_str(out, column->type->fields[i].name);
            mr__out_add_str(out, ": ");
            print_value(out, &column->children[i], row);
        }
        mr__out_add_str(out, "}");
        return;
    default:
        print_number(out, column, row);
        return;
    }
}

size_t mr_row_print(const struct mr_row *row, uint32_t column, char *text, size_t size)
{
    struct mr__out out = {text, size, 0};

    MR_ASSERT(row->index >= 0 && row->index < mr_batch_row_count(row->batch));
    print_value(&out, mr_batch_column(row->batch, column), row->index);
    return mr__out_end(&out);
}
