/*
 * See format_harness.h.
 */
#include "support/format_harness.h"

#include "formats/json_internal.h"

#include <stdlib.h>

struct mr_options *format_options(const struct mr_format *format, const char *text, unsigned flags)
{
    struct mr_option_table table = {"format", format->options, format->option_count};
    const struct mr_option_table *tables[] = {&table};
    struct mr_option_pair pairs[8];
    struct mr_options *options = NULL;
    struct mr_error err = {0};
    size_t count = 0;
    char copy[256] = "";

    snprintf(copy, sizeof copy, "%s", text == NULL ? "" : text);
    for (char *at = copy; *at != '\0' && count < 8; count++) {
        char *end = strchr(at, ';');
        if (end != NULL)
            *end = '\0';
        char *value = strchr(at, '=');
        CHECK_NOT_NULL(value);
        *value = '\0';
        pairs[count] = (struct mr_option_pair){at, value + 1};
        if (end == NULL) {
            count++;
            break;
        }
        at = end + 1;
    }
    CHECK_OK(mr_options_parse(tables, 1, pairs, count, flags, &options, &err), &err);
    return options;
}

static void note_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                     const char *reason)
{
    struct decoded *decoded = arg;

    mr_buf_printf(&decoded->bad_buf, "%" PRIu64 ":%" PRIu64 ":%zu: %s\n", position->record,
                  position->byte_offset, raw.size_bytes, reason);
}

static void print_rows(struct decoded *decoded)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(decoded->batch));

    for (int64_t i = 0; i < decoded->row_count; i++) {
        struct mr_row row = {decoded->batch, i};
        for (uint32_t c = 0; c < columns; c++) {
            char text[4096];
            CHECK(mr_row_print(&row, c, text, sizeof text) < sizeof text);
            mr_buf_printf(&decoded->rows_buf, "%s%s", c > 0 ? "|" : "", text);
        }
        mr_buf_add_char(&decoded->rows_buf, '\n');
    }
}

void format_decode(const struct decode_setup *setup, const char *data, size_t size_bytes,
                   struct decoded *ret_decoded)
{
    struct mr_decoder_args args = {.on_error = setup->on_error};
    const char *wanted_text = setup->wanted != NULL ? setup->wanted : setup->declared;
    struct mr_schema *declared = NULL;
    struct mr_schema *wanted = NULL;
    struct mr_decoder *decoder = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_position position = {"part-1", 1, setup->byte_offset};
    struct decoded decoded = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(setup->declared, strlen(setup->declared), &declared, &err), &err);
    CHECK_OK(mr_schema_parse(wanted_text, strlen(wanted_text), &wanted, &err), &err);
    struct mr_options *options = format_options(setup->format, setup->options, MR_OPTION_SOURCE);
    args.declared = declared;
    args.schema = wanted;
    args.options = options;
    CHECK_OK(setup->format->decoder_new(&args, &decoder, &err), &err);
    if (setup->general)
        mr__json_set_predict(decoder, false);
    CHECK_OK(mr_batch_builder_new(wanted, &builder, &err), &err);
    /* Exactly the bytes, so that a read past them is found. */
    char *copy = malloc(size_bytes + 1);
    memcpy(copy + 1, data, size_bytes);
    decoded.status = setup->format->decode(decoder, (struct mr_slice){copy + 1, size_bytes},
                                           &position, builder, note_bad, &decoded, &decoded.err);
    free(copy);
    CHECK_OK(mr_batch_builder_finish(builder, &decoded.batch, &err), &err);
    decoded.row_count = mr_batch_row_count(decoded.batch);
    print_rows(&decoded);
    mr_batch_builder_free(builder);
    setup->format->decoder_free(decoder);
    mr_options_free(options);
    mr_schema_unref(declared);
    mr_schema_unref(wanted);
    decoded.rows = decoded.rows_buf.data != NULL ? decoded.rows_buf.data : "";
    decoded.bad = decoded.bad_buf.data != NULL ? decoded.bad_buf.data : "";
    *ret_decoded = decoded;
}

void decoded_release(struct decoded *decoded)
{
    mr_buf_release(&decoded->rows_buf);
    mr_buf_release(&decoded->bad_buf);
    mr_batch_unref(decoded->batch);
}

static enum mr_status add_bytes(void *arg, const void *data, size_t size_bytes,
                                struct mr_error *err)
{
    (void)err;
    mr_buf_add(arg, data, size_bytes);
    return MR_OK;
}

void format_encode(const struct mr_format *format, const char *options,
                   const struct mr_batch *batch, enum mr_status *ret_status, struct mr_error *err,
                   struct mr_buf *ret_text)
{
    struct mr_options *parsed = format_options(format, options, MR_OPTION_SINK);

    *ret_text = (struct mr_buf)MR_BUF_INIT;
    *ret_status = format->encode(parsed, batch, true, add_bytes, ret_text, err);
    mr_options_free(parsed);
}
