/*
 * Decodes CSV (RFC 4180): records of fields into columns.
 *
 *     record   fields with a delimiter between, up to '\n' (a '\r' before it is dropped) or the end
 *              of the data
 *     field    bytes without delimiter, quote and newline; or quoted, with newlines and escaped
 *              quotes inside
 *
 * A field that is null_value as it stands (not quoted) is null. Blanks belong to text and are cut
 * from all other types. Fields go to columns by the order in which the table declares them, or by
 * the names in the header of the file. Lines with nothing in them are no records, unless the table
 * has one column.
 *
 * A record is bad when it has another number of fields, a quote in the middle of a field, bytes
 * behind a closing quote, a quote without end, a value that is none of its type, bytes that are not
 * UTF-8, or more than max_line_bytes. Decoding goes on with the next record: after a stray quote
 * and bytes behind a closing one, behind the first newline after that place; after a quote without
 * end, behind the line where the record begins.
 *
 * Called through csv.c.  Threads: a decoder belongs to one.
 */
#include "formats/csv_internal.h"
#include "formats/scan.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { NOT_WANTED = -1 };

struct mr_decoder {
    struct mr__csv_dialect dialect;
    struct mr_schema *declared;
    struct mr_schema *schema;
    enum mr_on_error on_error;
    enum mr__timestamp_form timestamp_form;
    size_t record_bytes_max;
    int32_t *targets; /* of field i: column to produce, or NOT_WANTED */
    uint32_t target_count;
    struct mr_buf scratch; /* a quoted field with escapes */
    bool stops[256];       /* bytes that end a plain run of an unquoted field */
};

struct field {
    const char *text;
    size_t size_bytes;
    bool quoted;
};

/* One decode call. */
struct run {
    struct mr_decoder *decoder;
    struct mr_batch_builder *builder;
    struct mr__bad_context bad;
    const char *data;
    const char *end;
    const char *record; /* where the record at hand begins */
    const char *at;
    uint64_t line_index; /* of record */
    uint64_t line_ends;  /* newlines since record */
    int64_t rows;        /* in the columns */
    bool check_utf8;
    struct mr_error why;
};

/* ---- decoder ---- */

void mr__csv_decoder_free(struct mr_decoder *decoder)
{
    if (decoder == NULL)
        return;
    mr_schema_unref(decoder->declared);
    mr_schema_unref(decoder->schema);
    mr_free(decoder->targets);
    mr_buf_release(&decoder->scratch);
    mr_free(decoder);
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot decode csv: out of memory");
}

/* Field i is declared column i. */
static enum mr_status targets_by_position(struct mr_decoder *decoder, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(decoder->declared);
    int32_t *targets = mr_realloc(NULL, decoder->targets, (count + (size_t)1) * sizeof *targets);

    if (targets == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = mr_schema_field(decoder->declared, i)->name;
        int32_t column = mr_schema_find(decoder->schema, name, strlen(name));
        bool exact = column >= 0 &&
                     strcmp(mr_schema_field(decoder->schema, (uint32_t)column)->name, name) == 0;
        targets[i] = exact ? column : NOT_WANTED;
    }
    decoder->targets = targets;
    decoder->target_count = count;
    return MR_OK;
}

enum mr_status mr__csv_decoder_new(const struct mr_decoder_args *args,
                                   struct mr_decoder **ret_decoder, struct mr_error *err)
{
    struct mr_decoder *decoder = mr_alloc_zero(NULL, sizeof *decoder);
    enum mr_status status;

    if (decoder == NULL)
        return no_memory(err);
    MR_TRY_GOTO(mr__csv_dialect(args->options, &decoder->dialect, err));
    decoder->declared = mr_schema_ref(args->declared);
    decoder->schema = mr_schema_ref(args->schema);
    decoder->on_error = args->on_error;
    decoder->timestamp_form = mr__timestamp_form(args->options);
    decoder->record_bytes_max =
        mr__option_size(args->options, "max_line_bytes", MR__LINE_BYTES_MAX_DEFAULT);
    decoder->stops[(unsigned char)decoder->dialect.delimiter] = true;
    decoder->stops['\n'] = true;
    if (decoder->dialect.quote != 0)
        decoder->stops[(unsigned char)decoder->dialect.quote] = true;
    MR_TRY_GOTO(targets_by_position(decoder, err));
    *ret_decoder = decoder;
    decoder = NULL;
done:
    mr__csv_decoder_free(decoder);
    return status;
}

/* ---- fields ---- */

static enum mr_status wrong(struct run *run, const char *what)
{
    return MR_FAIL(&run->why, MR_BAD_DATA, "%s at byte %zu of the record", what,
                   (size_t)(run->at - run->record) + 1);
}

static enum mr_status take_plain(struct run *run, struct field *field)
{
    const bool *stops = run->decoder->stops;
    const char *at = run->at;

    while (at < run->end && !stops[(unsigned char)*at])
        at++;
    *field = (struct field){run->at, (size_t)(at - run->at), false};
    run->at = at;
    if (at < run->end && *at == run->decoder->dialect.quote && run->decoder->dialect.quote != 0)
        return wrong(run, "a quote inside a field that is not quoted");
    if ((at == run->end || *at == '\n') && field->size_bytes > 0 && at[-1] == '\r')
        field->size_bytes--;
    return MR_OK;
}

/* Copies the inside of a quoted field that has escapes. */
static enum mr_status remove_escapes(struct run *run, struct field *field)
{
    const struct mr__csv_dialect *dialect = &run->decoder->dialect;
    struct mr_buf *buf = &run->decoder->scratch;
    const char *end = field->text + field->size_bytes;

    mr_buf_clear(buf);
    if (!mr_buf_reserve(buf, field->size_bytes + 1))
        return no_memory(&run->why);
    for (const char *at = field->text; at < end; at++) {
        if (*at == dialect->escape && at + 1 < end &&
            (at[1] == dialect->quote || at[1] == dialect->escape))
            at++;
        mr_buf_add_char(buf, *at);
    }
    field->text = buf->data;
    field->size_bytes = buf->size;
    return MR_OK;
}

/* A quote that nothing closes: only the line where the record begins is lost. */
static enum mr_status no_end(struct run *run, const char *text)
{
    run->at = text;
    return wrong(run, "a quoted field without its end");
}

/* At the opening quote. */
static enum mr_status take_quoted(struct run *run, struct field *field)
{
    const struct mr__csv_dialect *dialect = &run->decoder->dialect;
    const char *text = ++run->at;
    bool escapes = false;

    for (;; run->at++) {
        if (run->at == run->end || (size_t)(run->at - run->record) > run->decoder->record_bytes_max)
            return no_end(run, text);
        char c = *run->at;
        bool next = run->at + 1 < run->end;
        if (c == dialect->escape && next &&
            (run->at[1] == dialect->quote ||
             (dialect->escape != dialect->quote && run->at[1] == dialect->escape))) {
            escapes = true;
            run->at++;
        } else if (c == dialect->quote) {
            break;
        } else if (c == '\n') {
            run->line_ends++;
        }
    }
    *field = (struct field){text, (size_t)(run->at - text), true};
    run->at++;
    if (run->at < run->end && *run->at == '\r' && (run->at + 1 == run->end || run->at[1] == '\n'))
        run->at++;
    if (run->at < run->end && *run->at != dialect->delimiter && *run->at != '\n')
        return wrong(run, "bytes behind a closing quote");
    return escapes ? remove_escapes(run, field) : MR_OK;
}

static enum mr_status take_field(struct run *run, struct field *field)
{
    char quote = run->decoder->dialect.quote;

    if (quote != 0 && run->at < run->end && *run->at == quote)
        return take_quoted(run, field);
    return take_plain(run, field);
}

/* Steps over the delimiter (true: a field follows) or the newline, if any. */
static bool more_fields(struct run *run)
{
    if (run->at < run->end && *run->at == run->decoder->dialect.delimiter) {
        run->at++;
        return true;
    }
    if (run->at < run->end) {
        run->at++;
        run->line_ends++;
    }
    return false;
}

/* ---- header ---- */

static enum mr_status add_target(struct mr_decoder *decoder, int32_t target, struct mr_error *err)
{
    int32_t *targets =
        mr_realloc(NULL, decoder->targets, (decoder->target_count + (size_t)1) * sizeof *targets);

    if (targets == NULL)
        return no_memory(err);
    decoder->targets = targets;
    decoder->targets[decoder->target_count++] = target;
    return MR_OK;
}

/* Which wanted columns the header names; every one must be there, once. */
static enum mr_status read_header(struct run *run, struct mr_error *err)
{
    struct mr_decoder *decoder = run->decoder;
    uint32_t wanted = mr_schema_field_count(decoder->schema);
    struct field field = {0};

    decoder->target_count = 0;
    do {
        enum mr_status status = take_field(run, &field);
        if (status != MR_OK)
            return MR_FAIL(err, status, "cannot decode '%s': header: %s; fix the first line",
                           run->bad.position->name, run->why.text);
        int32_t column = mr_schema_find(decoder->schema, field.text, field.size_bytes);
        if (decoder->target_count >= MR_COLUMNS_MAX)
            return MR_FAIL(err, MR_BAD_DATA, "cannot decode '%s': header has more than %d columns",
                           run->bad.position->name, MR_COLUMNS_MAX);
        for (uint32_t i = 0; column >= 0 && i < decoder->target_count; i++) {
            if (decoder->targets[i] == column)
                column = NOT_WANTED; /* the first of equal names */
        }
        MR_TRY(add_target(decoder, column, err));
    } while (more_fields(run));
    for (uint32_t c = 0; c < wanted; c++) {
        bool found = false;
        for (uint32_t i = 0; i < decoder->target_count; i++)
            found |= decoder->targets[i] == (int32_t)c;
        if (!found)
            return MR_FAIL(
                err, MR_BAD_DATA,
                "cannot decode '%s': header has no column '%s'; add it, or set header = false",
                run->bad.position->name, mr_schema_field(decoder->schema, c)->name);
    }
    run->line_index += run->line_ends;
    run->line_ends = 0;
    return MR_OK;
}

/* ---- records ---- */

static bool is_null(const struct mr_decoder *decoder, const struct field *field)
{
    MR_ASSERT(field->text != NULL);
    return !field->quoted && field->size_bytes == decoder->dialect.null_bytes &&
           memcmp(field->text, decoder->dialect.null_value, field->size_bytes) == 0;
}

static enum mr_status append_field(struct run *run, const struct field *field, int32_t target)
{
    struct mr_decoder *decoder = run->decoder;
    struct mr_column_builder *column;

    if (target == NOT_WANTED)
        return MR_OK;
    column = mr_batch_builder_column(run->builder, (uint32_t)target);
    if (is_null(decoder, field))
        return mr_column_builder_null(column, &run->why);
    enum mr_status status = mr__value_from_text(column, field->text, field->size_bytes,
                                                decoder->timestamp_form, &run->why);
    if (status == MR_BAD_DATA)
        mr_error_prefix(&run->why, "column '%s'",
                        mr_schema_field(decoder->schema, (uint32_t)target)->name);
    return status;
}

static enum mr_status take_record(struct run *run)
{
    struct mr_decoder *decoder = run->decoder;
    struct field field = {0};
    uint32_t count = 0;
    bool more = true;

    for (; more; count++) {
        MR_TRY(take_field(run, &field));
        if (count < decoder->target_count)
            MR_TRY(append_field(run, &field, decoder->targets[count]));
        more = more_fields(run);
    }
    if (count != decoder->target_count)
        return MR_FAIL(&run->why, MR_BAD_DATA, "%u columns where there must be %u", count,
                       decoder->target_count);
    size_t size_bytes = (size_t)(run->at - run->record);
    if (size_bytes > decoder->record_bytes_max)
        return MR_FAIL(&run->why, MR_BAD_DATA,
                       "the record has %zu bytes, more than max_line_bytes = %zu", size_bytes,
                       decoder->record_bytes_max);
    if (run->check_utf8 && !mr_utf8_valid(run->record, size_bytes))
        return MR_FAIL(&run->why, MR_BAD_DATA, "byte %zu of the record is not valid UTF-8",
                       mr_utf8_valid_prefix(run->record, size_bytes) + 1);
    return MR_OK;
}

static void cut_columns(struct run *run)
{
    for (uint32_t i = 0; i < mr_schema_field_count(run->decoder->schema); i++)
        mr_column_builder_truncate(mr_batch_builder_column(run->builder, i), run->rows);
}

/* Reports the record and goes on where the next one begins. */
static enum mr_status bad_record(struct run *run, struct mr_error *err)
{
    struct mr_slice data = {run->data, (size_t)(run->end - run->data)};
    size_t next = mr__csv_record_end(&run->decoder->dialect, run->decoder->record_bytes_max, true,
                                     data, (size_t)(run->record - run->data));
    const char *record_end = next == 0 ? run->end : run->data + next - 1;
    struct mr_slice raw = {run->record, (size_t)(record_end - run->record)};

    cut_columns(run);
    MR_TRY(mr__bad_record(&run->bad, run->line_index, (uint64_t)(run->record - run->data), raw,
                          run->why.text, err));
    for (const char *c = run->record; c < record_end; c++)
        run->line_index += *c == '\n';
    run->line_index += next != 0;
    run->at = next == 0 ? run->end : record_end + 1;
    return MR_OK;
}

static bool skip_blank_line(struct run *run)
{
    const char *at = run->at;

    if (run->decoder->target_count == 1)
        return false;
    at += at < run->end && *at == '\r';
    if (at >= run->end || *at != '\n')
        return false;
    run->at = at + 1;
    run->line_index++;
    return true;
}

static enum mr_status decode_records(struct run *run, struct mr_error *err)
{
    while (run->at < run->end) {
        if (skip_blank_line(run))
            continue;
        run->record = run->at;
        run->line_ends = 0;
        enum mr_status status = take_record(run);
        if (status == MR_BAD_DATA) {
            MR_TRY(bad_record(run, err));
        } else if (status != MR_OK) {
            if (err != NULL)
                *err = run->why;
            return status;
        } else {
            run->rows++;
            run->line_index += run->line_ends;
        }
    }
    return MR_OK;
}

enum mr_status mr__csv_decode(struct mr_decoder *decoder, struct mr_slice data,
                              const struct mr_position *position, struct mr_batch_builder *builder,
                              mr_bad_record_fn bad, void *bad_arg, struct mr_error *err)
{
    struct run run = {
        .decoder = decoder,
        .builder = builder,
        .bad = {decoder->on_error, position, bad, bad_arg},
        .data = data.data,
        .end = data.data + data.size_bytes,
        .record = data.data,
        .at = data.data,
        .rows = mr_batch_builder_row_count(builder),
        .check_utf8 = !mr__scan_utf8_valid(data.data, data.size_bytes),
    };
    int64_t rows_before = run.rows;

    if (position->byte_offset == 0) {
        if (data.size_bytes >= 3 && memcmp(data.data, "\xef\xbb\xbf", 3) == 0)
            run.at += 3; /* byte order mark */
        if (decoder->dialect.header && data.size_bytes > 0)
            MR_TRY(read_header(&run, err));
    }
    enum mr_status status = decode_records(&run, err);
    if (status != MR_OK)
        cut_columns(&run);
    enum mr_status added = mr_batch_builder_rows_added(builder, run.rows - rows_before, NULL);
    MR_ASSERT(added == MR_OK);
    return status;
}
