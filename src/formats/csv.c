/*
 * The format csv: options, where to cut, rows as CSV.  Reading is in csv_decode.c.
 *
 * A cut is the end of a record as the decoder sees it: both ask mr__csv_record_end, so that bytes
 * give the same records however they come. A stray quote spoils its line, not what follows.
 *
 * Written rows quote a field only when they must: a delimiter, quote or line end inside, or text
 * that would read as null. Times are SQL text ("2026-11-21 10:00:00"), nulls are null_value.
 *
 * Called by sources and sinks of bytes through struct mr_format.  Threads: any.
 */
#include "formats/csv_internal.h"

#include "base/buf.h"

#include <string.h>

enum { WRITE_BYTES = 256 << 10 };

/* ---- options ---- */

/* One byte; "\t" may be written as backslash and t. empty: what no text means. */
static enum mr_status one_byte(const char *name, const char *text, bool may_be_empty,
                               char *ret_byte, struct mr_error *err)
{
    bool tab = strcmp(text, "\\t") == 0;

    if (tab || strlen(text) == 1 || (text[0] == '\0' && may_be_empty))
        *ret_byte = tab ? '\t' : text[0];
    else
        return MR_FAIL(err, MR_CONFIG, "cannot use %s = '%.20s' for csv: it must be one byte", name,
                       text);
    if (*ret_byte == '\n' || *ret_byte == '\r' || (unsigned char)*ret_byte >= 0x80)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot use this %s for csv: line ends and bytes past ASCII are not possible", name);
    return MR_OK;
}

enum mr_status mr__csv_dialect(const struct mr_options *options,
                               struct mr__csv_dialect *ret_dialect, struct mr_error *err)
{
    struct mr__csv_dialect dialect = {
        .header = mr__option_bool(options, "header", false),
        .null_value = mr__option_text(options, "null_value", ""),
    };
    const char *quote = mr__option_text(options, "quote", "\"");

    MR_TRY(one_byte("delimiter", mr__option_text(options, "delimiter", ","), false,
                    &dialect.delimiter, err));
    MR_TRY(one_byte("quote", quote, true, &dialect.quote, err));
    MR_TRY(
        one_byte("escape", mr__option_text(options, "escape", quote), true, &dialect.escape, err));
    if (dialect.escape == 0)
        dialect.escape = dialect.quote;
    if (dialect.delimiter == dialect.quote || dialect.delimiter == dialect.escape)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot use '%c' for csv both as delimiter and as quote or escape; change one",
            dialect.delimiter);
    dialect.null_bytes = strlen(dialect.null_value);
    *ret_dialect = dialect;
    return MR_OK;
}

static enum mr_status check(const struct mr_schema *declared, const struct mr_options *options,
                            bool sink, struct mr_error *err)
{
    struct mr__csv_dialect dialect;

    for (uint32_t i = 0; i < mr_schema_field_count(declared); i++) {
        const struct mr_field *field = mr_schema_field(declared, i);
        if (field->type.id == MR_TYPE_LIST || field->type.id == MR_TYPE_STRUCT)
            return MR_FAIL(
                err, MR_CONFIG,
                "cannot %s column '%s' as csv: csv has no lists and structs; use json or "
                "parquet",
                sink ? "write" : "read", field->name);
    }
    if (mr_schema_field_count(declared) == 0)
        return MR_FAIL(err, MR_CONFIG, "cannot %s csv without columns: declare them in order",
                       sink ? "write" : "read");
    return mr__csv_dialect(options, &dialect, err);
}

/* ---- where to cut ---- */

static size_t behind_newline(struct mr_slice data, size_t from)
{
    const char *newline =
        from < data.size_bytes ? memchr(data.data + from, '\n', data.size_bytes - from) : NULL;

    return newline == NULL ? 0 : (size_t)(newline - data.data) + 1;
}

/* From an opening quote to behind the closing one; false: there is none. */
static bool skip_quoted(const struct mr__csv_dialect *dialect, size_t bytes_max,
                        struct mr_slice data, size_t record, size_t *at)
{
    char quote = dialect->quote, escape = dialect->escape;

    for (size_t i = *at + 1; i < data.size_bytes && i - record <= bytes_max; i++) {
        char c = data.data[i];
        char next = i + 1 < data.size_bytes ? data.data[i + 1] : '\0';

        if (c == escape && i + 1 < data.size_bytes &&
            (next == quote || (escape != quote && next == escape))) {
            i++;
        } else if (c == quote) {
            *at = i + 1;
            return true;
        }
    }
    return false;
}

size_t mr__csv_record_end(const struct mr__csv_dialect *dialect, size_t bytes_max, bool is_last,
                          struct mr_slice data, size_t record)
{
    const char *bytes = data.data;
    size_t size = data.size_bytes, at = record;

    for (;; at++) { /* over the delimiter */
        if (dialect->quote != 0 && at < size && bytes[at] == dialect->quote) {
            if (!skip_quoted(dialect, bytes_max, data, record, &at))
                return is_last || size - record > bytes_max ? behind_newline(data, record) : 0;
            at += at + 1 < size && bytes[at] == '\r' && bytes[at + 1] == '\n';
            if (at < size && bytes[at] != dialect->delimiter)
                return behind_newline(data, at);
        } else {
            while (at < size && bytes[at] != dialect->delimiter && bytes[at] != '\n' &&
                   (dialect->quote == 0 || bytes[at] != dialect->quote))
                at++;
            if (at < size && bytes[at] != dialect->delimiter)
                return behind_newline(data, at);
        }
        if (at >= size)
            return 0;
    }
}

static size_t cut(const struct mr_options *options, struct mr_slice data)
{
    struct mr__csv_dialect dialect = {0};
    size_t bytes_max = mr__option_size(options, "max_line_bytes", MR__LINE_BYTES_MAX_DEFAULT);
    size_t last = 0, end;

    if (mr__csv_dialect(options, &dialect, NULL) != MR_OK)
        return 0; /* decoder_new refuses these options */
    if (data.size_bytes >= 3 && memcmp(data.data, "\xef\xbb\xbf", 3) == 0)
        end = mr__csv_record_end(&dialect, bytes_max, false, data, 3);
    else
        end = mr__csv_record_end(&dialect, bytes_max, false, data, 0);
    while (end != 0) {
        last = end;
        end = mr__csv_record_end(&dialect, bytes_max, false, data, last);
    }
    return last;
}

/* ---- encoding ---- */

struct encoder {
    struct mr__csv_dialect dialect;
    struct mr_buf buf;
};

static bool must_quote(const struct mr__csv_dialect *dialect, const char *text, size_t size_bytes)
{
    MR_ASSERT(text != NULL && dialect->null_value != NULL);
    for (size_t i = 0; i < size_bytes; i++) {
        if (text[i] == dialect->delimiter || text[i] == dialect->quote || text[i] == '\n' ||
            text[i] == '\r')
            return true;
    }
    /* At the beginning of a file it would be read as a byte order mark. */
    if (dialect->quote != 0 && size_bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
        return true;
    return size_bytes == dialect->null_bytes && memcmp(text, dialect->null_value, size_bytes) == 0;
}

static enum mr_status add_field(struct encoder *encoder, const char *name, const char *text,
                                size_t size_bytes, struct mr_error *err)
{
    const struct mr__csv_dialect *dialect = &encoder->dialect;

    if (!must_quote(dialect, text, size_bytes)) {
        mr_buf_add(&encoder->buf, text, size_bytes);
        return MR_OK;
    }
    if (dialect->quote == 0)
        return MR_FAIL(
            err, MR_BAD_DATA,
            "cannot write csv: a value of column '%s' must be quoted, and quote is empty; set "
            "quote",
            name);
    mr_buf_add_char(&encoder->buf, dialect->quote);
    for (size_t i = 0; i < size_bytes; i++) {
        if (text[i] == dialect->quote || text[i] == dialect->escape)
            mr_buf_add_char(&encoder->buf, dialect->escape);
        mr_buf_add_char(&encoder->buf, text[i]);
    }
    mr_buf_add_char(&encoder->buf, dialect->quote);
    return MR_OK;
}

static enum mr_status add_value(struct encoder *encoder, const struct mr_batch *batch,
                                uint32_t index, int64_t row, struct mr_error *err)
{
    const struct mr_column *column = mr_batch_column(batch, index);
    const char *name = mr_schema_field(mr_batch_schema(batch), index)->name;
    struct mr_row cursor = {batch, row};
    char text[128]; /* numbers and times */

    if (mr_column_is_null(column, row)) {
        mr_buf_add(&encoder->buf, encoder->dialect.null_value, encoder->dialect.null_bytes);
        return MR_OK;
    }
    if (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY) {
        struct mr_slice bytes = mr_column_text(column, row);
        return add_field(encoder, name, bytes.data, bytes.size_bytes, err);
    }
    size_t size_bytes = mr_row_print(&cursor, index, text, sizeof text);
    return add_field(encoder, name, text, size_bytes, err);
}

static enum mr_status add_header(struct encoder *encoder, const struct mr_schema *schema,
                                 struct mr_error *err)
{
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        const char *name = mr_schema_field(schema, i)->name;
        if (i > 0)
            mr_buf_add_char(&encoder->buf, encoder->dialect.delimiter);
        MR_TRY(add_field(encoder, name, name, strlen(name), err));
    }
    mr_buf_add_char(&encoder->buf, '\n');
    return MR_OK;
}

static enum mr_status add_row(struct encoder *encoder, const struct mr_batch *batch, int64_t row,
                              struct mr_error *err)
{
    for (uint32_t i = 0; i < mr_schema_field_count(mr_batch_schema(batch)); i++) {
        if (i > 0)
            mr_buf_add_char(&encoder->buf, encoder->dialect.delimiter);
        MR_TRY(add_value(encoder, batch, i, row, err));
    }
    mr_buf_add_char(&encoder->buf, '\n');
    return MR_OK;
}

static enum mr_status encode(const struct mr_options *options, const struct mr_batch *batch,
                             bool first,
                             enum mr_status (*write)(void *arg, const void *data, size_t size_bytes,
                                                     struct mr_error *err),
                             void *arg, struct mr_error *err)
{
    struct encoder encoder = {.buf = MR_BUF_INIT};
    enum mr_status status;

    MR_TRY_GOTO(check(mr_batch_schema(batch), options, true, err));
    MR_TRY_GOTO(mr__csv_dialect(options, &encoder.dialect, err));
    if (first && encoder.dialect.header)
        MR_TRY_GOTO(add_header(&encoder, mr_batch_schema(batch), err));
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        MR_TRY_GOTO(add_row(&encoder, batch, row, err));
        if (encoder.buf.size >= WRITE_BYTES && !encoder.buf.failed) {
            MR_TRY_GOTO(write(arg, encoder.buf.data, encoder.buf.size, err));
            mr_buf_clear(&encoder.buf);
        }
    }
    if (encoder.buf.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot encode csv: out of memory");
        goto done;
    }
    if (encoder.buf.size > 0)
        MR_TRY_GOTO(write(arg, encoder.buf.data, encoder.buf.size, err));
done:
    mr_buf_release(&encoder.buf);
    return status;
}

/* ---- descriptor ---- */

static const struct mr_option options_table[] = {
    MR__OPTION_MAX_LINE_BYTES,
    MR__OPTION_TIMESTAMP_FORMAT,
    {"delimiter", "sep|delim", MR_OPTION_TEXT, MR_OPTION_SOURCE | MR_OPTION_SINK, ",", NULL, NULL,
     "The byte between fields; \\t is a tab."},
    {"header", NULL, MR_OPTION_BOOL, MR_OPTION_SOURCE | MR_OPTION_SINK, "false", NULL, NULL,
     "The first line of a file has the names: columns are found by them, and written there."},
    {"null_value", "nullValue", MR_OPTION_TEXT, MR_OPTION_SOURCE | MR_OPTION_SINK, "", NULL, NULL,
     "The text, not quoted, that means null."},
    {"quote", NULL, MR_OPTION_TEXT, MR_OPTION_SOURCE | MR_OPTION_SINK, "\"", NULL, NULL,
     "The byte around fields that hold delimiters or line ends; empty: there is none."},
    {"escape", NULL, MR_OPTION_TEXT, MR_OPTION_SOURCE | MR_OPTION_SINK, NULL, NULL, NULL,
     "The byte before a quote inside quotes; unset: quotes are doubled."},
};

const struct mr_format mr__format_csv = {
    .struct_size = sizeof(struct mr_format),
    .name = "csv",
    .summary = "Comma-separated values as RFC 4180 has them.",
    .options = options_table,
    .option_count = MR_ARRAY_SIZE(options_table),
    .check = check,
    .decoder_new = mr__csv_decoder_new,
    .decoder_free = mr__csv_decoder_free,
    .decode = mr__csv_decode,
    .cut = cut,
    .encode = encode,
    .extension = "csv",
};
