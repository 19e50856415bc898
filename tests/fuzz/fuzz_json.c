/*
 * libFuzzer: any bytes through the JSON decoder, with prediction and the general way; both must
 * give the same rows and the same reports, and what was read must be written and read back without
 * a complaint.
 */
#include "base/buf.h"

#include "formats/json_internal.h"

#include <millrace/batch.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const char columns[] =
    "n BIGINT, i TINYINT, t TEXT, d DOUBLE, m DECIMAL(10,2), b BOOLEAN, dt DATE, ts TIMESTAMP, "
    "l INT[], s STRUCT(x INT, t TEXT, p STRUCT(q INT[])[])";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
    if (!condition)
        abort();
}

static void note_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                     const char *reason)
{
    mr_buf_printf(arg, "%" PRIu64 ":%" PRIu64 ":%zu: %s\n", position->record, position->byte_offset,
                  raw.size_bytes, reason);
}

static enum mr_status add_bytes(void *arg, const void *data, size_t size_bytes,
                                struct mr_error *err)
{
    (void)err;
    mr_buf_add(arg, data, size_bytes);
    return MR_OK;
}

/* Rows as JSON and bad records as text. */
static void run(const struct mr_schema *schema, const char *data, size_t size_bytes, bool predict,
                struct mr_buf *rows, struct mr_buf *bad)
{
    struct mr_decoder_args args = {
        .declared = schema, .schema = schema, .on_error = MR_ON_ERROR_SKIP};
    struct mr_position position = {"fuzz", 1, 0};
    struct mr_decoder *decoder = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;

    must(mr__format_json.decoder_new(&args, &decoder, NULL) == MR_OK);
    mr__json_set_predict(decoder, predict);
    must(mr_batch_builder_new(schema, &builder, NULL) == MR_OK);
    must(mr__format_json.decode(decoder, (struct mr_slice){data, size_bytes}, &position, builder,
                                note_bad, bad, NULL) == MR_OK);
    must(mr_batch_builder_finish(builder, &batch, NULL) == MR_OK);
    must(mr__format_json.encode(NULL, batch, true, add_bytes, rows, NULL) == MR_OK);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr__format_json.decoder_free(decoder);
}

static void must_equal(const struct mr_buf *a, const struct mr_buf *b)
{
    must(a->size == b->size && (a->size == 0 || memcmp(a->data, b->data, a->size) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr_schema *schema = NULL;
    struct mr_buf rows[3] = {MR_BUF_INIT, MR_BUF_INIT, MR_BUF_INIT};
    struct mr_buf bad[3] = {MR_BUF_INIT, MR_BUF_INIT, MR_BUF_INIT};

    must(mr_schema_parse(columns, strlen(columns), &schema, NULL) == MR_OK);
    run(schema, (const char *)data, size, true, &rows[0], &bad[0]);
    run(schema, (const char *)data, size, false, &rows[1], &bad[1]);
    must_equal(&rows[0], &rows[1]);
    must_equal(&bad[0], &bad[1]);
    if (rows[0].size > 0) {
        run(schema, rows[0].data, rows[0].size, true, &rows[2], &bad[2]);
        must_equal(&rows[0], &rows[2]);
        must(bad[2].size == 0);
    }
    for (int i = 0; i < 3; i++) {
        mr_buf_release(&rows[i]);
        mr_buf_release(&bad[i]);
    }
    mr_schema_unref(schema);
    return 0;
}
