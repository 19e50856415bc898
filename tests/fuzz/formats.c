/*
 * Bytes through a format and back; formats.h says what holds. Called by fuzz_csv, fuzz_json and
 * fuzz_text. Thread: one.
 */
#include "fuzz/formats.h"

#include <millrace/batch.h>

#include <inttypes.h>
#include <string.h>

static void note_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                     const char *reason)
{
    struct fuzz_decoded *decoded = arg;

    FUZZ_CHECK(reason != NULL && reason[0] != '\0' && strchr(reason, '\n') == NULL);
    FUZZ_CHECK(raw.size_bytes <= MR_BAD_RAW_BYTES_MAX);
    mr_buf_printf(&decoded->bad, "%" PRIu64 ":%" PRIu64 ":%zu: %s\n", position->record,
                  position->byte_offset, raw.size_bytes, reason);
    decoded->bad_count++;
}

static enum mr_status add_bytes(void *arg, const void *data, size_t size_bytes,
                                struct mr_error *err)
{
    mr_buf_add(arg, data, size_bytes);
    return ((struct mr_buf *)arg)->failed ? MR_FAIL(err, MR_NOMEM, "no memory") : MR_OK;
}

static enum mr_status options_of(const struct fuzz_format *run, bool write,
                                 struct mr_options **ret_options, struct mr_error *err)
{
    struct mr_option_table table = {"format", run->format->options, run->format->option_count};
    const struct mr_option_table *tables[] = {&table};
    bool other = write && run->write_pairs != NULL;

    return mr_options_parse(tables, 1, other ? run->write_pairs : run->pairs,
                            other ? run->write_pair_count : run->pair_count,
                            write ? MR_OPTION_SINK : MR_OPTION_SOURCE, ret_options, err);
}

static enum mr_status encode(const struct fuzz_format *run, const struct mr_batch *batch,
                             struct mr_buf *rows, struct mr_error *err)
{
    struct mr_options *options = NULL;
    enum mr_status status = options_of(run, true, &options, err);

    if (status == MR_OK)
        status = run->format->encode(options, batch, true, add_bytes, rows, err);
    mr_options_free(options);
    return status;
}

static enum mr_status decode(const struct fuzz_format *run, const struct mr_decoder_args *args,
                             struct mr_slice data, struct fuzz_decoded *out, struct mr_error *err)
{
    struct mr_position position = {"fuzz", 1, run->offset};
    struct mr_decoder *decoder = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    MR_TRY_GOTO(run->format->decoder_new(args, &decoder, err));
    if (run->prepare != NULL)
        run->prepare(decoder);
    MR_TRY_GOTO(mr_batch_builder_new(args->schema, &builder, err));
    out->status = run->format->decode(decoder, data, &position, builder, note_bad, out, err);
    if (out->status == MR_BAD_DATA && args->on_error == MR_ON_ERROR_FAIL) {
        FUZZ_REFUSED(err, MR_BAD_DATA);
        FUZZ_CHECK(strstr(err->text, "fuzz") != NULL); /* the place */
        status = MR_BAD_DATA;
        goto done;
    }
    MR_TRY_GOTO(out->status);
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &batch, err));
    out->row_count = mr_batch_row_count(batch);
    if (run->format->encode != NULL)
        status = encode(run, batch, &out->rows, err);
done:
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    if (decoder != NULL)
        run->format->decoder_free(decoder);
    return status;
}

bool fuzz_decode(const struct fuzz_format *run, const char *data, size_t size_bytes,
                 struct fuzz_decoded *ret_decoded)
{
    struct mr_decoder_args args = {.on_error = run->strict ? MR_ON_ERROR_FAIL : MR_ON_ERROR_SKIP};
    struct mr_options *options = NULL;
    struct mr_schema *declared = NULL, *wanted = NULL;
    struct mr_error err = {0};
    enum mr_status status;

    memset(ret_decoded, 0, sizeof *ret_decoded);
    MR_TRY_GOTO(options_of(run, false, &options, &err));
    MR_TRY_GOTO(mr_schema_parse(run->columns, strlen(run->columns), &declared, &err));
    if (run->wanted != NULL)
        MR_TRY_GOTO(mr_schema_parse(run->wanted, strlen(run->wanted), &wanted, &err));
    args.options = options;
    args.declared = declared;
    args.schema = wanted == NULL ? declared : wanted;
    status = decode(run, &args, (struct mr_slice){data, size_bytes}, ret_decoded, &err);
done:
    if (status != MR_OK && status != MR_BAD_DATA)
        fuzz_refused(__FILE__, __LINE__, &err, MR_NOMEM, MR_NOMEM, MR_NOMEM);
    mr_options_free(options);
    mr_schema_unref(declared);
    mr_schema_unref(wanted);
    return status == MR_OK && !ret_decoded->rows.failed && !ret_decoded->bad.failed;
}

void fuzz_decoded_release(struct fuzz_decoded *decoded)
{
    mr_buf_release(&decoded->rows);
    mr_buf_release(&decoded->bad);
}

/* Written rows are read without a complaint and written to the same bytes. */
static void check_written(const struct fuzz_format *run, const struct fuzz_decoded *first)
{
    struct fuzz_format again = *run;
    struct fuzz_decoded second;

    again.offset = 0;
    if (run->write_pairs != NULL) {
        again.pairs = run->write_pairs;
        again.pair_count = run->write_pair_count;
    }
    if (run->wanted != NULL) {
        again.columns = run->wanted;
        again.wanted = NULL;
    }
    again.strict = false;
    if (fuzz_decode(&again, first->rows.data, first->rows.size, &second)) {
        if (second.bad_count > 0)
            FUZZ_SAME(&first->rows, &second.bad);
        FUZZ_CHECK(second.row_count == first->row_count);
        FUZZ_SAME(&first->rows, &second.rows);
    }
    fuzz_decoded_release(&second);
}

/* In two pieces, the first of which ends where cut says. */
static void check_pieces(const struct fuzz_format *run, const char *data, size_t size_bytes,
                         const struct fuzz_decoded *whole)
{
    struct mr_options *options = NULL;
    struct fuzz_decoded a = {0}, b = {0};
    size_t end = 0;

    if (run->format->cut == NULL) {
        const char *newline = memrchr(data, '\n', size_bytes);
        end = newline == NULL ? 0 : (size_t)(newline - data) + 1;
    } else if (options_of(run, false, &options, NULL) == MR_OK) {
        end = run->format->cut(options, (struct mr_slice){data, size_bytes});
        FUZZ_CHECK(end <= size_bytes);
        if (end > 1) { /* a record earlier */
            size_t earlier = run->format->cut(options, (struct mr_slice){data, end - 1});
            FUZZ_CHECK(earlier < end);
            end = earlier > 0 ? earlier : end;
        }
    }
    mr_options_free(options);
    if (end > 0 && end < size_bytes) {
        struct fuzz_format rest = *run;

        rest.offset = run->offset + end;
        if (fuzz_decode(run, data, end, &a) &&
            fuzz_decode(&rest, data + end, size_bytes - end, &b)) {
            FUZZ_CHECK(a.row_count + b.row_count == whole->row_count);
            FUZZ_CHECK(a.bad_count + b.bad_count == whole->bad_count);
        }
    }
    fuzz_decoded_release(&a);
    fuzz_decoded_release(&b);
}

void fuzz_format_laws(const struct fuzz_format *run, const char *data, size_t size_bytes)
{
    struct fuzz_format strict = *run;
    struct fuzz_decoded first, failing;

    if (fuzz_decode(run, data, size_bytes, &first)) {
        if (first.rows.size > 0)
            check_written(run, &first);
        if (size_bytes > 0 && !run->whole)
            check_pieces(run, data, size_bytes, &first);
        strict.strict = true;
        if (fuzz_decode(&strict, data, size_bytes, &failing))
            FUZZ_CHECK(first.bad_count == 0);
        else
            FUZZ_CHECK(first.bad_count > 0);
        fuzz_decoded_release(&failing);
    }
    fuzz_decoded_release(&first);
}
