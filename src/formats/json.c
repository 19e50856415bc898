/*
 * The format json: JSON lines, one object a line, straight into columns.
 *
 *     data -> regions (end in '\n', slack behind) -> pieces (of whole lines) -> lines
 *               the last lines of the data are           bitmap of what can end    json_line.c,
 *               copied, to have the slack                a string; UTF-8 checked   json_value.c
 *
 * A record is bad when json_line.c says so, when it is not valid UTF-8 (wherever in the line), or
 * longer than max_line_bytes. Lines of blanks are no records. A byte order mark at the start of a
 * file is skipped. After a bad record the columns are cut back to the rows before it.
 *
 * Called by sources and sinks of bytes through struct mr_format; encoding is in json_encode.c.
 * Threads: a decoder belongs to one.
 */
#include "formats/json_internal.h"

#include "formats/json_encode.h"

#include "base/alloc.h"
#include "base/text.h"

#include "formats/scan.h"

#include <stdio.h>
#include <string.h>

enum { PIECE_BYTES = 32 << 10 };

struct mr_decoder {
    struct mr__json json;
    size_t line_bytes_max;
    enum mr_on_error on_error;
    uint64_t *bitmap;
    size_t bitmap_words;
    struct mr_buf tail; /* the last lines of the data, with slack */
    /* What one call appended: so much is reserved at the start of the next. */
    size_t last_bytes;
    int64_t last_rows;
    size_t *last_text_bytes; /* a column */
};

/* One decode call. */
struct run {
    struct mr_decoder *decoder;
    struct mr__bad_context bad;
    uint64_t line_index;
    uint64_t byte_index; /* of the region at hand */
};

/* ---- decoder ---- */

static void decoder_free(struct mr_decoder *decoder)
{
    if (decoder == NULL)
        return;
    mr__json_shape_release(&decoder->json.shape);
    mr_buf_release(&decoder->json.scratch);
    mr_buf_release(&decoder->tail);
    mr_free(decoder->json.columns);
    mr_free((struct mr_field *)(uintptr_t)decoder->json.top.fields);
    mr_free(decoder->last_text_bytes);
    mr_free(decoder->bitmap);
    mr_free(decoder);
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot decode JSON: out of memory");
}

static enum mr_status init_columns(struct mr_decoder *decoder, const struct mr_schema *schema,
                                   struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(schema);
    struct mr__json *json = &decoder->json;
    struct mr_field *fields = mr_alloc(NULL, (count + (size_t)1) * sizeof *fields);

    json->top = (struct mr_type){.id = MR_TYPE_STRUCT, .field_count = count, .fields = fields};
    json->column_count = count;
    json->columns = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(struct mr_column_builder *));
    decoder->last_text_bytes = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(size_t));
    if (fields == NULL || json->columns == NULL || decoder->last_text_bytes == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++)
        fields[i] = *mr_schema_field(schema, i); /* borrowed: the caller keeps the schema */
    return mr__json_shape_init(&json->shape, &json->top, err);
}

static enum mr_status decoder_new(const struct mr_decoder_args *args,
                                  struct mr_decoder **ret_decoder, struct mr_error *err)
{
    struct mr_decoder *decoder = mr_alloc_zero(NULL, sizeof *decoder);

    if (decoder == NULL)
        return no_memory(err);
    decoder->line_bytes_max =
        mr__option_size(args->options, "max_line_bytes", MR__LINE_BYTES_MAX_DEFAULT);
    decoder->on_error = args->on_error;
    decoder->json.predict = true;
    decoder->json.date = (struct mr__json_date){"1970-01-01", 0};
    decoder->json.coerce_strings = mr__option_bool(args->options, "coerce_strings", false);
    decoder->json.timestamp_form = mr__timestamp_form(args->options);
    enum mr_status status = init_columns(decoder, args->schema, err);
    if (status != MR_OK) {
        decoder_free(decoder);
        return status;
    }
    *ret_decoder = decoder;
    return MR_OK;
}

void mr__json_set_predict(struct mr_decoder *decoder, bool predict)
{
    decoder->json.predict = predict;
    memset(decoder->json.steps, 0, sizeof decoder->json.steps);
}

/* ---- bad lines ---- */

static enum mr_status bad_line(struct run *run, const char *region, const char *line,
                               size_t line_bytes, const char *reason, struct mr_error *err)
{
    struct mr__json *json = &run->decoder->json;
    struct mr_slice raw = {line, line_bytes};

    for (uint32_t i = 0; i < json->column_count; i++)
        mr_column_builder_truncate(json->columns[i], json->rows);
    return mr__bad_record(&run->bad, run->line_index, run->byte_index + (uint64_t)(line - region),
                          raw, reason, err);
}

/* Why the line is bad before anybody parses it; false: it is not. */
static bool is_refused(const struct run *run, const char *line, size_t line_bytes, bool check_utf8,
                       char *reason, size_t size)
{
    if (line_bytes > run->decoder->line_bytes_max) {
        (void)snprintf(reason, size, "the line has %zu bytes, more than max_line_bytes = %zu",
                       line_bytes, run->decoder->line_bytes_max);
        return true;
    }
    if (check_utf8 && !mr_utf8_valid(line, line_bytes)) {
        (void)snprintf(reason, size, "byte %zu of the line is not valid UTF-8",
                       mr_utf8_valid_prefix(line, line_bytes) + 1);
        return true;
    }
    return false;
}

/* ---- lines, pieces, regions ---- */

/* A line that the parser refused, or that must be looked at before: *ret_next behind it. */
static enum mr_status careful_line(struct run *run, const char *region, const char *line,
                                   const char *end, bool check_utf8, const char **ret_next,
                                   struct mr_error *err)
{
    struct mr__json *json = &run->decoder->json;
    const char *newline = memchr(line, '\n', (size_t)(end - line)); /* pieces end in one */
    size_t line_bytes = (size_t)(newline - line) - (newline > line && newline[-1] == '\r');
    char reason[96];
    bool blank = false;

    *ret_next = newline + 1;
    if (is_refused(run, line, line_bytes, check_utf8, reason, sizeof reason))
        return bad_line(run, region, line, line_bytes, reason, err);
    if (mr__json_line(json, line, &blank) != NULL) {
        json->rows += !blank;
        return MR_OK;
    }
    if (json->err.status == MR_BAD_DATA)
        return bad_line(run, region, line, line_bytes, json->err.text, err);
    if (err != NULL)
        *err = json->err;
    return json->err.status;
}

/* Brings the bytes that lie one piece ahead of the line near, so that the scan of the next piece
 * need not wait for memory. */
static inline void prefetch(const char *line, const char *end)
{
    for (uintptr_t at = (uintptr_t)line; at < (uintptr_t)end; at += 64)
        __builtin_prefetch((const void *)(at + PIECE_BYTES), 0, 2);
}

static enum mr_status decode_piece(struct run *run, const char *region, const char *piece,
                                   size_t size_bytes, struct mr_error *err)
{
    struct mr_decoder *decoder = run->decoder;
    struct mr__json *json = &decoder->json;
    const char *end = piece + size_bytes;
    bool ascii = true;

    mr__scan_json(piece, size_bytes, decoder->bitmap, &ascii);
    json->base = piece;
    json->specials = decoder->bitmap;
    bool check_utf8 = !ascii && !mr__scan_utf8_valid(piece, size_bytes);
    for (const char *line = piece; line < end; run->line_index++) {
        bool blank = false;
        const char *next = check_utf8 ? NULL : mr__json_line(json, line, &blank);
        if (next != NULL && (size_t)(next - line) <= decoder->line_bytes_max) {
            json->rows += !blank;
            prefetch(line, next);
            line = next;
            continue;
        }
        for (uint32_t i = 0; i < json->column_count; i++)
            mr_column_builder_truncate(json->columns[i], json->rows);
        MR_TRY(careful_line(run, region, line, end, check_utf8, &line, err));
    }
    return MR_OK;
}

static enum mr_status grow_bitmap(struct mr_decoder *decoder, size_t size_bytes,
                                  struct mr_error *err)
{
    size_t words = mr__scan_words(size_bytes) + 1; /* mr__json_special may load past the end */

    if (words <= decoder->bitmap_words)
        return MR_OK;
    mr_free(decoder->bitmap);
    decoder->bitmap_words = 0;
    decoder->bitmap = mr_alloc_zero(NULL, words * sizeof *decoder->bitmap);
    if (decoder->bitmap == NULL)
        return no_memory(err);
    decoder->bitmap_words = words;
    return MR_OK;
}

/* The region ends in '\n' and has slack behind it. */
static enum mr_status decode_region(struct run *run, const char *region, size_t size_bytes,
                                    struct mr_error *err)
{
    const char *end = region + size_bytes;

    for (const char *piece = region; piece < end;) {
        const char *piece_end = end;
        if ((size_t)(end - piece) > PIECE_BYTES) {
            const char *newline = memrchr(piece, '\n', PIECE_BYTES);
            if (newline == NULL) /* one long line */
                newline = memchr(piece + PIECE_BYTES, '\n', (size_t)(end - piece) - PIECE_BYTES);
            piece_end = newline + 1;
        }
        size_t piece_bytes = (size_t)(piece_end - piece);
        MR_TRY(grow_bitmap(run->decoder, piece_bytes, err));
        MR_TRY(decode_piece(run, region, piece, piece_bytes, err));
        piece = piece_end;
    }
    run->byte_index += size_bytes;
    return MR_OK;
}

/* The last lines, which have too little behind them: copied, with a newline and slack. */
static enum mr_status decode_tail(struct run *run, const char *tail, size_t size_bytes,
                                  struct mr_error *err)
{
    static const char slack[MR__JSON_SLACK_BYTES] = {0};
    struct mr_buf *copy = &run->decoder->tail;

    if (size_bytes == 0)
        return MR_OK;
    mr_buf_clear(copy);
    mr_buf_add(copy, tail, size_bytes);
    if (tail[size_bytes - 1] != '\n')
        mr_buf_add_char(copy, '\n');
    size_t region_bytes = copy->size;
    mr_buf_add(copy, slack, sizeof slack);
    if (copy->failed)
        return no_memory(err);
    return decode_region(run, copy->data, region_bytes, err);
}

static enum mr_status decode_regions(struct run *run, struct mr_slice data, struct mr_error *err)
{
    size_t main_bytes = 0;

    if (data.size_bytes > MR__JSON_SLACK_BYTES) {
        const char *newline = memrchr(data.data, '\n', data.size_bytes - MR__JSON_SLACK_BYTES);
        main_bytes = newline == NULL ? 0 : (size_t)(newline - data.data) + 1;
    }
    if (main_bytes > 0)
        MR_TRY(decode_region(run, data.data, main_bytes, err));
    return decode_tail(run, data.data + main_bytes, data.size_bytes - main_bytes, err);
}

/* ---- one call ---- */

static bool has_text(const struct mr_column_builder *column)
{
    return column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY;
}

/* A guess is only a guess: it is bounded, and columns grow by themselves past it. */
static enum mr_status reserve_as_before(struct mr_decoder *decoder, uint32_t index, double scale,
                                        struct mr_error *err)
{
    enum { ROWS_MAX = 1 << 16, TEXT_BYTES_MAX = 4 << 20 };
    struct mr_column_builder *column = decoder->json.columns[index];
    double rows = scale * (double)decoder->last_rows;
    double bytes = has_text(column) ? scale * (double)decoder->last_text_bytes[index] : 0;

    return mr_column_builder_reserve(column, (int64_t)MR_MIN(rows, (double)ROWS_MAX),
                                     (size_t)MR_MIN(bytes, (double)TEXT_BYTES_MAX), err);
}

/* Takes the columns of the builder, with as much room as the last call would say for so many
 * bytes. */
static enum mr_status begin(struct mr_decoder *decoder, struct mr_batch_builder *builder,
                            size_t size_bytes, struct mr_error *err)
{
    struct mr__json *json = &decoder->json;
    double scale =
        decoder->last_bytes < 4096 ? 0 : 1.05 * (double)size_bytes / (double)decoder->last_bytes;

    json->rows = mr_batch_builder_row_count(builder);
    for (struct mr__json_step *step = json->steps; step->gap_bytes > 0; step++)
        step->value_bytes = MR__JSON_LENGTH_UNKNOWN; /* one odd value does not count for ever */
    for (uint32_t i = 0; i < json->column_count; i++) {
        struct mr_column_builder *column = mr_batch_builder_column(builder, i);
        json->columns[i] = column;
        if (scale > 0)
            MR_TRY(reserve_as_before(decoder, i, scale, err));
    }
    return MR_OK;
}

static void remember(struct mr_decoder *decoder, size_t size_bytes, int64_t rows)
{
    struct mr__json *json = &decoder->json;

    if (rows < 16)
        return;
    decoder->last_bytes = size_bytes;
    decoder->last_rows = rows;
    for (uint32_t i = 0; i < json->column_count; i++) {
        const struct mr_column_builder *column = json->columns[i];
        if (has_text(column))
            decoder->last_text_bytes[i] =
                column->bytes_used - (size_t)column->offsets[column->length - rows];
    }
}

static enum mr_status decode(struct mr_decoder *decoder, struct mr_slice data,
                             const struct mr_position *position, struct mr_batch_builder *builder,
                             mr_bad_record_fn bad, void *bad_arg, struct mr_error *err)
{
    struct run run = {.decoder = decoder, .bad = {decoder->on_error, position, bad, bad_arg}};
    size_t mark_bytes = 0;

    if (position->byte_offset == 0 && data.size_bytes >= 3 &&
        memcmp(data.data, "\xef\xbb\xbf", 3) == 0)
        mark_bytes = 3;
    data.data += mark_bytes;
    data.size_bytes -= mark_bytes;
    run.byte_index = mark_bytes;
    MR_TRY(begin(decoder, builder, data.size_bytes, err));
    int64_t rows_before = decoder->json.rows;
    enum mr_status status = decode_regions(&run, data, err);
    for (uint32_t i = 0; status != MR_OK && i < decoder->json.column_count; i++)
        mr_column_builder_truncate(decoder->json.columns[i], decoder->json.rows);
    int64_t rows = decoder->json.rows - rows_before;
    enum mr_status added = mr_batch_builder_rows_added(builder, rows, NULL);
    MR_ASSERT(added == MR_OK);
    remember(decoder, data.size_bytes, rows);
    return status;
}

static enum mr_status check(const struct mr_schema *declared, const struct mr_options *options,
                            bool sink, struct mr_error *err)
{
    (void)options;
    if (mr_schema_field_count(declared) > 0)
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG,
                   "cannot %s JSON without columns: declare the keys that are needed",
                   sink ? "write" : "read");
}

static const struct mr_option options_table[] = {
    MR__OPTION_MAX_LINE_BYTES,
    MR__OPTION_TIMESTAMP_FORMAT,
    {"coerce_strings", "coerceStrings", MR_OPTION_BOOL, MR_OPTION_SOURCE, "false", NULL, NULL,
     "Take numbers, booleans and decimals that are written as strings, as in {\"n\": \"12\"}."},
    {"ignore_null_fields", "ignoreNullFields", MR_OPTION_BOOL, MR_OPTION_SINK, "true", NULL, NULL,
     "Leave keys out whose value is null; false writes them as null."},
};

const struct mr_format mr__format_json = {
    .struct_size = sizeof(struct mr_format),
    .name = "json",
    .summary = "JSON lines: one object a line.",
    .options = options_table,
    .option_count = MR_ARRAY_SIZE(options_table),
    .check = check,
    .decoder_new = decoder_new,
    .decoder_free = decoder_free,
    .decode = decode,
    .encode = mr__json_encode,
    .extension = "json",
};
