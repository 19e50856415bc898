/*
 * Any bytes as the rows of a frame that a peer sends (RAW-1), which are also those of a received
 * block. What the check at the socket takes, the decoder of the batch takes, with as many rows;
 * they make the same frame again. The first byte chooses the columns.
 */
#include "fuzz/fuzz.h"

#include "dstream/receivers.h"

#include <millrace/receiver.h>

#include <string.h>

static const char *const schemas[] = {
    "value VARCHAR",
    "a BIGINT, b VARCHAR, c DOUBLE",
    "a DECIMAL(20,4), b TIMESTAMP[], c STRUCT(x BOOLEAN, y BLOB)",
};

static enum mr_status decode(const struct mr_schema *schema, struct mr_slice data,
                             struct mr_batch **ret_batch, struct mr_error *err)
{
    const struct mr_decoder_args args = {schema, schema, NULL, MR_ON_ERROR_FAIL};
    const struct mr_position position = {"block 1", 1, 0};
    struct mr_batch_builder *builder = NULL;
    struct mr_decoder *decoder = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    MR_TRY_GOTO(mr__rows_format.decoder_new(&args, &decoder, err));
    MR_TRY_GOTO(mr__rows_format.decode(decoder, data, &position, builder, NULL, NULL, err));
    status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr__rows_format.decoder_free(decoder);
    mr_batch_builder_free(builder);
    return status;
}

/* Rows of other columns are none of the stream's. */
static void check_columns(const struct mr_batch *batch, const struct mr_schema *schema)
{
    static const char *const others[] = {"value BIGINT", "a BIGINT, b VARCHAR, c BIGINT, d BIGINT"};
    struct mr_buf out = MR_BUF_INIT;
    struct mr_error err = {0};

    if (mr__rows_encode(&out, batch, schema, &err) != MR_OK)
        FUZZ_REFUSED(&err, MR_NOMEM);
    for (size_t i = 0; i < MR_ARRAY_SIZE(others); i++) {
        struct mr_schema *other = NULL;

        if (mr_schema_parse(others[i], strlen(others[i]), &other, NULL) == MR_OK) {
            FUZZ_CHECK(mr__rows_encode(&out, batch, other, &err) == MR_CONFIG);
            FUZZ_CHECK(err.text[0] != '\0');
        }
        mr_schema_unref(other);
    }
    FUZZ_CHECK(mr_raw_frame(NULL, NULL) == NULL);
    mr_buf_release(&out);
}

static void check_taken(const struct mr_schema *schema, struct mr_slice data, uint64_t rows)
{
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    size_t size = 0;
    char *frame;

    if (decode(schema, data, &batch, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_NOMEM);
        return;
    }
    FUZZ_CHECK((uint64_t)mr_batch_row_count(batch) == rows);
    frame = mr_raw_frame(batch, &size);
    FUZZ_CHECK(frame != NULL);
    if (frame != NULL) {
        FUZZ_CHECK(size == data.size_bytes + 4);
        FUZZ_CHECK(memcmp(frame + 4, data.data, data.size_bytes) == 0);
        FUZZ_CHECK(((size_t)(uint8_t)frame[2] << 8 | (uint8_t)frame[3]) == data.size_bytes);
    }
    mr_text_free(frame);
    check_columns(batch, schema);
    mr_batch_unref(batch);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};
    struct mr_slice rows;
    uint64_t count = 0;
    const char *text;

    if (size < 2)
        return;
    text = schemas[data[0] % MR_ARRAY_SIZE(schemas)];
    rows = (struct mr_slice){(const char *)data + 1, size - 1};
    if (mr_schema_parse(text, strlen(text), &schema, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_NOMEM);
        return;
    }
    if (mr__rows_check(schema, rows, &count, &err) == MR_OK)
        check_taken(schema, rows, count);
    else
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_LIMIT, MR_BAD_DATA);
    mr_schema_unref(schema);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
