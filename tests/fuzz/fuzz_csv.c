/*
 * libFuzzer: any bytes through the CSV decoder, the first byte choosing the options; what was read
 * must be written and read back to the same text.
 */
#include "base/buf.h"

#include "formats/formats_internal.h"

#include <millrace/batch.h>

#include <stdlib.h>
#include <string.h>

static const char columns[] = "n BIGINT, t TEXT, d DOUBLE, b BOOLEAN, ts TIMESTAMP";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void ignore_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                       const char *reason)
{
    size_t *count = arg;

    must(position != NULL && raw.data != NULL && reason != NULL);
    ++*count;
}

static enum mr_status add_bytes(void *arg, const void *data, size_t size_bytes,
                                struct mr_error *err)
{
    (void)err;
    mr_buf_add(arg, data, size_bytes);
    return MR_OK;
}

/* Returns the bad records; rows as CSV. */
static size_t run(const struct mr_schema *schema, const struct mr_options *options,
                  const char *data, size_t size_bytes, struct mr_buf *rows)
{
    struct mr_decoder_args args = {
        .declared = schema, .schema = schema, .options = options, .on_error = MR_ON_ERROR_SKIP};
    struct mr_position position = {"fuzz", 1, 1};
    struct mr_decoder *decoder = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    size_t bad = 0;

    must(mr__format_csv.decoder_new(&args, &decoder, NULL) == MR_OK);
    must(mr_batch_builder_new(schema, &builder, NULL) == MR_OK);
    must(mr__format_csv.decode(decoder, (struct mr_slice){data, size_bytes}, &position, builder,
                               ignore_bad, &bad, NULL) == MR_OK);
    must(mr_batch_builder_finish(builder, &batch, NULL) == MR_OK);
    must(mr__format_csv.encode(options, batch, false, add_bytes, rows, NULL) == MR_OK);
    must(mr__format_csv.cut(options, (struct mr_slice){data, size_bytes}) <= size_bytes);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr__format_csv.decoder_free(decoder);
    return bad;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mr_option_pair choices[][2] = {
        {{"delimiter", ","}, {"null_value", ""}},
        {{"delimiter", "\t"}, {"escape", "\\"}},
        {{"quote", "'"}, {"null_value", "NULL"}},
    };
    struct mr_option_table table = {"format", mr__format_csv.options, mr__format_csv.option_count};
    const struct mr_option_table *tables[] = {&table};
    struct mr_options *options = NULL;
    struct mr_schema *schema = NULL;
    struct mr_buf first = MR_BUF_INIT;
    struct mr_buf second = MR_BUF_INIT;

    if (size == 0)
        return 0;
    must(mr_options_parse(tables, 1, choices[data[0] % 3], 2, 0, &options, NULL) == MR_OK);
    must(mr_schema_parse(columns, strlen(columns), &schema, NULL) == MR_OK);
    (void)run(schema, options, (const char *)data + 1, size - 1, &first);
    if (first.size > 0) {
        must(run(schema, options, first.data, first.size, &second) == 0);
        must(first.size == second.size && memcmp(first.data, second.data, first.size) == 0);
    }
    mr_buf_release(&first);
    mr_buf_release(&second);
    mr_schema_unref(schema);
    mr_options_free(options);
    return 0;
}
