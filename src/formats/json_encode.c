/*
 * Rows as JSON lines: keys in the order of the schema, no blanks.
 *
 *     {"b":true,"n":12,"t":"text","ts":"2026-11-21T10:00:00.123Z","l":[1,null],"s":{"x":1}}
 *
 * Nulls are left out (ignore_null_fields = false writes them), but stay in lists. Timestamps have
 * milliseconds, and as many digits more as are not zero by threes. Doubles are the shortest text
 * that reads back; NaN and infinities are strings. BLOB is written as text and must be UTF-8: JSON
 * has no bytes.
 *
 * Called by sinks of bytes through struct mr_format.  Threads: any.
 */
#include "formats/json_encode.h"

#include "formats/formats_internal.h"

#include "base/buf.h"
#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WRITE_BYTES = 256 << 10 };

struct encoder {
    struct mr_buf buf;
    bool nulls; /* write null fields */
    struct mr_error *err;
};

/* ---- strings ---- */

static void add_escape(struct mr_buf *buf, unsigned char c)
{
    static const char hex[] = "0123456789abcdef";
    static const char named[] = "\b\f\n\r\t\"\\";
    static const char letters[] = "bfnrt\"\\";
    const char *name = c == 0 ? NULL : strchr(named, (int)c);

    if (name != NULL) {
        const char text[2] = {'\\', letters[name - named]};
        mr_buf_add(buf, text, sizeof text);
    } else {
        const char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        mr_buf_add(buf, text, sizeof text);
    }
}

static void add_string(struct mr_buf *buf, const char *text, size_t size_bytes)
{
    size_t plain = 0;

    mr_buf_add_char(buf, '"');
    for (size_t i = 0; i < size_bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        mr_buf_add(buf, text + plain, i - plain);
        add_escape(buf, c);
        plain = i + 1;
    }
    mr_buf_add(buf, text + plain, size_bytes - plain);
    mr_buf_add_char(buf, '"');
}

static enum mr_status add_bytes(struct encoder *encoder, const struct mr_column *column,
                                int64_t row)
{
    struct mr_slice text = mr_column_text(column, row);

    if (!mr_utf8_valid(text.data, text.size_bytes))
        return MR_FAIL(encoder->err, MR_BAD_DATA,
                       "cannot write JSON: row %" PRId64 " has bytes that are not UTF-8; write "
                       "base64(column) instead",
                       row + 1);
    add_string(&encoder->buf, text.data, text.size_bytes);
    return MR_OK;
}

/* ---- values ---- */

/* "2026-11-21 10:00:00.1" -> "2026-11-21T10:00:00.100Z" */
static void add_timestamp(struct mr_buf *buf, int64_t value, bool nanos)
{
    char text[MR_TIME_TEXT_BYTES];
    size_t size_bytes = mr_timestamp_print(value, nanos, text);
    char *blank = memchr(text, ' ', size_bytes);
    const char *point = memchr(text, '.', size_bytes);
    size_t digits = point == NULL ? 0 : size_bytes - (size_t)(point - text) - 1;

    if (blank != NULL)
        *blank = 'T';
    mr_buf_add_char(buf, '"');
    mr_buf_add(buf, text, size_bytes);
    if (point == NULL)
        mr_buf_add_char(buf, '.');
    for (; digits == 0 || digits % 3 != 0; digits++)
        mr_buf_add_char(buf, '0');
    mr_buf_add_str(buf, "Z\"");
}

static void add_real(struct mr_buf *buf, const struct mr_column *column, int64_t row)
{
    char text[MR_NUMBER_TEXT_BYTES];
    double value = mr_column_double(column, row);
    size_t size_bytes = column->type->id == MR_TYPE_FLOAT ? mr_float_print((float)value, text)
                                                          : mr_double_print(value, text);

    if (isfinite(value))
        mr_buf_add(buf, text, size_bytes);
    else
        add_string(buf, text, size_bytes);
}

static enum mr_status add_value(struct encoder *encoder, const struct mr_column *column,
                                int64_t row);

static void add_key(struct mr_buf *buf, const char *name, bool *comma)
{
    if (*comma)
        mr_buf_add_char(buf, ',');
    *comma = true;
    add_string(buf, name, strlen(name));
    mr_buf_add_char(buf, ':');
}

static enum mr_status add_list(struct encoder *encoder, const struct mr_column *column, int64_t row)
{
    mr_buf_add_char(&encoder->buf, '[');
    for (int32_t i = column->offsets[row]; i < column->offsets[row + 1]; i++) {
        if (i > column->offsets[row])
            mr_buf_add_char(&encoder->buf, ',');
        MR_TRY(add_value(encoder, &column->children[0], i));
    }
    mr_buf_add_char(&encoder->buf, ']');
    return MR_OK;
}

static enum mr_status add_struct(struct encoder *encoder, const struct mr_column *column,
                                 int64_t row)
{
    bool comma = false;

    mr_buf_add_char(&encoder->buf, '{');
    for (uint32_t i = 0; i < column->type->field_count; i++) {
        if (!encoder->nulls && mr_column_is_null(&column->children[i], row))
            continue;
        add_key(&encoder->buf, column->type->fields[i].name, &comma);
        MR_TRY(add_value(encoder, &column->children[i], row));
    }
    mr_buf_add_char(&encoder->buf, '}');
    return MR_OK;
}

static enum mr_status add_value(struct encoder *encoder, const struct mr_column *column,
                                int64_t row)
{
    struct mr_buf *buf = &encoder->buf;
    char text[MR_NUMBER_TEXT_BYTES];

    if (mr_column_is_null(column, row)) {
        mr_buf_add_str(buf, "null");
        return MR_OK;
    }
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        mr_buf_add_str(buf, mr_column_bool(column, row) ? "true" : "false");
        return MR_OK;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        return add_bytes(encoder, column, row);
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        add_real(buf, column, row);
        return MR_OK;
    case MR_TYPE_DECIMAL:
        mr_buf_add(buf, text,
                   mr_decimal_print(mr_column_decimal(column, row), column->type->scale, text));
        return MR_OK;
    case MR_TYPE_DATE:
        add_string(buf, text, mr_date_print((int32_t)mr_column_int(column, row), text));
        return MR_OK;
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        add_timestamp(buf, mr_column_int(column, row), column->type->id == MR_TYPE_TIMESTAMP_NS);
        return MR_OK;
    case MR_TYPE_LIST:
        return add_list(encoder, column, row);
    case MR_TYPE_STRUCT:
        return add_struct(encoder, column, row);
    case MR_TYPE_UINT64:
        mr_buf_add(buf, text, mr_uint_print((uint64_t)mr_column_int(column, row), text));
        return MR_OK;
    default:
        mr_buf_add(buf, text, mr_int_print(mr_column_int(column, row), text));
        return MR_OK;
    }
}

static enum mr_status add_row(struct encoder *encoder, const struct mr_batch *batch, int64_t row)
{
    const struct mr_schema *schema = mr_batch_schema(batch);
    bool comma = false;

    mr_buf_add_char(&encoder->buf, '{');
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        const struct mr_column *column = mr_batch_column(batch, i);
        if (!encoder->nulls && mr_column_is_null(column, row))
            continue;
        add_key(&encoder->buf, mr_schema_field(schema, i)->name, &comma);
        MR_TRY(add_value(encoder, column, row));
    }
    mr_buf_add_str(&encoder->buf, "}\n");
    return MR_OK;
}

enum mr_status mr__json_encode(const struct mr_options *options, const struct mr_batch *batch,
                               bool first,
                               enum mr_status (*write)(void *arg, const void *data,
                                                       size_t size_bytes, struct mr_error *err),
                               void *arg, struct mr_error *err)
{
    struct encoder encoder = {.nulls = !mr__option_bool(options, "ignore_null_fields", true),
                              .err = err};
    enum mr_status status = MR_OK;

    (void)first;
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        MR_TRY_GOTO(add_row(&encoder, batch, row));
        if (encoder.buf.size >= WRITE_BYTES && !encoder.buf.failed) {
            MR_TRY_GOTO(write(arg, encoder.buf.data, encoder.buf.size, err));
            mr_buf_clear(&encoder.buf);
        }
    }
    if (encoder.buf.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot encode JSON: out of memory");
        goto done;
    }
    if (encoder.buf.size > 0)
        MR_TRY_GOTO(write(arg, encoder.buf.data, encoder.buf.size, err));
done:
    mr_buf_release(&encoder.buf);
    return status;
}
