/*
 * The format text: every line is a row with one column, TEXT or BINARY.
 *
 *     line    bytes up to '\n', or to the end of the data; a '\r' before the '\n' is no part of it;
 *             empty lines are rows
 *     row     the column `value` (or whatever the table calls it)
 *
 * Decoding, a piece of PIECE_BYTES at a time: bitmap of newlines -> their count is the number of
 * rows, one reservation -> values are copied with stores of fixed width where there is room,
 * offsets follow from the bitmap. A piece that is all valid UTF-8 has only valid lines; else each
 * line is looked at.
 *
 * Called by sources and sinks of bytes through struct mr_format. Threads: a decoder belongs to one.
 */
#include "formats/formats_internal.h"
#include "formats/registry_internal.h"
#include "formats/scan.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

enum { PIECE_BYTES = 32 << 10, SHORT_BYTES = 16, WRITE_BYTES = 256 << 10 };

struct mr_decoder {
    size_t line_bytes_max;
    enum mr_on_error on_error;
    bool wanted; /* false: the query needs no column, only the number of rows */
    bool text;   /* TEXT: UTF-8 is checked */
    uint64_t bitmap[PIECE_BYTES / 64];
};

/* One decode call. */
struct run {
    struct mr_decoder *decoder;
    struct mr_column_builder *column; /* NULL when not wanted */
    struct mr__bad_context bad;
    const char *data;
    const char *end;
    const char *line; /* where the line at hand begins */
    uint64_t line_index;
    int64_t rows;
    bool check_lines; /* the bytes at hand are not all valid UTF-8 */
};

static const struct mr_schema *fixed_schema(void)
{
    static const struct mr_field fields[] = {{"value", {.id = MR_TYPE_TEXT}}};
    static struct mr__static_schema holder = {NULL, fields, 1};

    return mr__static_schema(&holder);
}

static bool is_bytes(enum mr_type_id id)
{
    return id == MR_TYPE_TEXT || id == MR_TYPE_BINARY;
}

static enum mr_status check(const struct mr_schema *declared, const struct mr_options *options,
                            bool sink, struct mr_error *err)
{
    char *columns;
    enum mr_status status;

    (void)options;
    if (mr_schema_field_count(declared) == 1 && is_bytes(mr_schema_field(declared, 0)->type.id))
        return MR_OK;
    columns = mr_schema_print(declared);
    status =
        MR_FAIL(err, MR_CONFIG,
                "cannot %s text with columns (%.200s): text has one VARCHAR or BLOB column a line; "
                "use one, or format = 'json' or 'csv'",
                sink ? "write" : "read", columns == NULL ? "" : columns);
    mr_text_free(columns);
    return status;
}

static enum mr_status decoder_new(const struct mr_decoder_args *args,
                                  struct mr_decoder **ret_decoder, struct mr_error *err)
{
    MR_TRY(check(args->declared, args->options, false, err));
    struct mr_decoder *decoder = mr_alloc(NULL, sizeof *decoder);
    if (decoder == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make text decoder: out of memory");
    decoder->line_bytes_max =
        mr__option_size(args->options, "max_line_bytes", MR__LINE_BYTES_MAX_DEFAULT);
    decoder->on_error = args->on_error;
    decoder->wanted = mr_schema_field_count(args->schema) == 1;
    decoder->text = mr_schema_field(args->declared, 0)->type.id == MR_TYPE_TEXT;
    *ret_decoder = decoder;
    return MR_OK;
}

static void decoder_free(struct mr_decoder *decoder)
{
    mr_free(decoder);
}

/* A line as it counts: without its '\r'. */
static size_t line_bytes(const char *line, const char *newline)
{
    return (size_t)(newline - line) - (newline > line && newline[-1] == '\r');
}

static bool line_is_bad(const struct run *run, size_t size_bytes)
{
    return size_bytes > run->decoder->line_bytes_max ||
           (run->check_lines && !mr_utf8_valid(run->line, size_bytes));
}

static enum mr_status bad_line(struct run *run, size_t size_bytes, struct mr_error *err)
{
    char reason[96];
    struct mr_slice raw = {run->line, size_bytes};

    if (size_bytes > run->decoder->line_bytes_max)
        (void)snprintf(reason, sizeof reason,
                       "the line has %zu bytes, more than max_line_bytes = %zu", size_bytes,
                       run->decoder->line_bytes_max);
    else
        (void)snprintf(reason, sizeof reason, "byte %zu of the line is not valid UTF-8",
                       mr_utf8_valid_prefix(run->line, size_bytes) + 1);
    return mr__bad_record(&run->bad, run->line_index, (uint64_t)(run->line - run->data), raw,
                          reason, err);
}

/* Appends the line that ends at newline; room was reserved. fast: 16 bytes may be read from
 * wherever the line begins. */
static inline void append_line(struct mr_column_builder *column, const char *line,
                               size_t size_bytes, bool fast)
{
    uint8_t *to = column->values + column->bytes_used;

    if (fast && size_bytes <= SHORT_BYTES)
        memcpy(to, line, SHORT_BYTES);
    else
        memcpy(to, line, size_bytes);
    mr_column_builder_valid(column);
    column->bytes_used += size_bytes;
    column->offsets[++column->length] = (int32_t)column->bytes_used;
}

/* All lines that end in the piece, whose newlines are in the bitmap. */
static enum mr_status decode_lines(struct run *run, const char *piece, size_t words,
                                   struct mr_error *err)
{
    struct mr_column_builder *column = run->column;
    const char *safe = run->end - run->data > SHORT_BYTES ? run->end - SHORT_BYTES : run->data;
    bool careful = run->check_lines;

    for (size_t w = 0; w < words; w++) {
        for (uint64_t bits = run->decoder->bitmap[w]; bits != 0; bits &= bits - 1) {
            const char *newline = piece + w * 64 + (unsigned)__builtin_ctzll(bits);
            size_t size_bytes = line_bytes(run->line, newline);
            if ((careful || size_bytes > run->decoder->line_bytes_max) &&
                line_is_bad(run, size_bytes)) {
                MR_TRY(bad_line(run, size_bytes, err));
            } else {
                if (column != NULL)
                    append_line(column, run->line, size_bytes, run->line < safe);
                run->rows++;
            }
            run->line = newline + 1;
            run->line_index++;
        }
    }
    return MR_OK;
}

static enum mr_status decode_piece(struct run *run, const char *piece, size_t size_bytes,
                                   struct mr_error *err)
{
    size_t words = mr__scan_words(size_bytes);
    int64_t lines = 0;

    mr__scan_newlines(piece, size_bytes, run->decoder->bitmap);
    for (size_t w = 0; w < words; w++)
        lines += __builtin_popcountll(run->decoder->bitmap[w]);
    if (lines == 0)
        return MR_OK;
    /* From the beginning of the line that this piece may end, so a line is checked whole. */
    run->check_lines = run->decoder->text &&
                       !mr__scan_utf8_valid(run->line, (size_t)(piece + size_bytes - run->line));
    if (run->column != NULL)
        MR_TRY(mr_column_builder_reserve(run->column, lines,
                                         (size_t)(piece + size_bytes - run->line), err));
    return decode_lines(run, piece, words, err);
}

/* What comes after the last newline. */
static enum mr_status decode_rest(struct run *run, struct mr_error *err)
{
    size_t size_bytes = (size_t)(run->end - run->line);

    if (size_bytes == 0)
        return MR_OK;
    run->check_lines = run->decoder->text;
    if (line_is_bad(run, size_bytes))
        return bad_line(run, size_bytes, err);
    if (run->column != NULL)
        MR_TRY(mr_column_builder_text(run->column, run->line, size_bytes, err));
    run->rows++;
    return MR_OK;
}

static enum mr_status decode(struct mr_decoder *decoder, struct mr_slice data,
                             const struct mr_position *position, struct mr_batch_builder *builder,
                             mr_bad_record_fn bad, void *bad_arg, struct mr_error *err)
{
    struct run run = {
        .decoder = decoder,
        .column = decoder->wanted ? mr_batch_builder_column(builder, 0) : NULL,
        .bad = {decoder->on_error, position, bad, bad_arg},
        .data = data.data,
        .end = data.data + data.size_bytes,
        .line = data.data,
    };
    enum mr_status status = MR_OK;

    for (size_t at = 0; status == MR_OK && at < data.size_bytes; at += PIECE_BYTES)
        status = decode_piece(&run, data.data + at,
                              MR_MIN(data.size_bytes - at, (size_t)PIECE_BYTES), err);
    if (status == MR_OK)
        status = decode_rest(&run, err);
    enum mr_status added = mr_batch_builder_rows_added(builder, run.rows, NULL);
    MR_ASSERT(added == MR_OK);
    return status;
}

/* ---- encoding ---- */

static enum mr_status encode(const struct mr_options *options, const struct mr_batch *batch,
                             bool first,
                             enum mr_status (*write)(void *arg, const void *data, size_t size_bytes,
                                                     struct mr_error *err),
                             void *arg, struct mr_error *err)
{
    struct mr_buf buf = MR_BUF_INIT;
    enum mr_status status;

    (void)first;
    MR_TRY_GOTO(check(mr_batch_schema(batch), options, true, err));
    const struct mr_column *column = mr_batch_column(batch, 0);
    for (int64_t row = 0; row < column->length; row++) {
        struct mr_slice text = mr_column_text(column, row);
        if (!mr_column_is_null(column, row)) /* a null is an empty line */
            mr_buf_add(&buf, text.data, text.size_bytes);
        mr_buf_add_char(&buf, '\n');
        if (buf.size >= WRITE_BYTES && !buf.failed) {
            MR_TRY_GOTO(write(arg, buf.data, buf.size, err));
            mr_buf_clear(&buf);
        }
    }
    if (buf.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot encode text: out of memory");
        goto done;
    }
    if (buf.size > 0)
        MR_TRY_GOTO(write(arg, buf.data, buf.size, err));
done:
    mr_buf_release(&buf);
    return status;
}

/* ---- descriptor ---- */

static const struct mr_option options_table[] = {MR__OPTION_MAX_LINE_BYTES};

const struct mr_format mr__format_text = {
    .struct_size = sizeof(struct mr_format),
    .name = "text",
    .summary = "Lines, each a row with one VARCHAR or BLOB column.",
    .options = options_table,
    .option_count = MR_ARRAY_SIZE(options_table),
    .fixed_schema = fixed_schema,
    .check = check,
    .decoder_new = decoder_new,
    .decoder_free = decoder_free,
    .decode = decode,
    .encode = encode,
    .extension = "txt",
};
