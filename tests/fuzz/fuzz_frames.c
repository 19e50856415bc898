/*
 * Any bytes as what a socket receives: frames (RAW-1), cut off in pieces of any size. The frames
 * that come out, and how it ends, are the same however the bytes came; what is left is less than a
 * frame. The first bytes choose the columns and the pieces; a piece of the rest may be framed here,
 * so that whole frames are met.
 */
#include "fuzz/fuzz.h"

#include "dstream/receivers.h"

#include <string.h>

static const char *const schemas[] = {
    "value VARCHAR",
    "a BIGINT, b DOUBLE",
    "a BOOLEAN, b STRUCT(x DATE, y BLOB[])",
};

static enum mr_status keep(void *arg, struct mr_slice rows, uint64_t row_count,
                           struct mr_error *err)
{
    struct mr_buf *out = arg;

    FUZZ_CHECK(row_count > 0 && rows.size_bytes > 0);
    mr_buf_add_u64(out, row_count);
    mr_buf_add_u64(out, rows.size_bytes);
    mr_buf_add(out, rows.data, rows.size_bytes);
    return out->failed ? MR_FAIL(err, MR_NOMEM, "no memory") : MR_OK;
}

/* As the receiver does: what is not whole waits at the front. *ret_left: bytes of it at the end. */
static enum mr_status receive(const struct mr_schema *schema, const char *data, size_t size,
                              size_t piece, struct mr_buf *frames, size_t *ret_left,
                              struct mr_error *err)
{
    struct mr_buf waiting = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (size_t at = 0; at < size && status == MR_OK; at += piece) {
        struct mr_slice received;
        size_t used = 0;

        mr_buf_add(&waiting, data + at, MR_MIN(piece, size - at));
        if (waiting.failed) {
            status = MR_FAIL(err, MR_NOMEM, "no memory");
            break;
        }
        received = (struct mr_slice){waiting.data, waiting.size};
        status = mr__frames_cut(schema, received, "peer:1", keep, frames, &used, err);
        if (status != MR_OK)
            break;
        FUZZ_CHECK(used <= waiting.size);
        memmove(waiting.data, waiting.data + used, waiting.size - used);
        waiting.size -= used;
    }
    *ret_left = waiting.size;
    mr_buf_release(&waiting);
    return status;
}

/* A few rows of the columns, as a peer frames them. */
static void add_frame(const struct mr_schema *schema, uint8_t rows, struct mr_buf *out)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    size_t size = 0;
    char *frame = NULL;

    if (mr_batch_builder_new(schema, &builder, NULL) == MR_OK) {
        for (uint8_t i = 0; i < rows % 4; i++) {
            for (uint32_t k = 0; k < mr_schema_field_count(schema); k++)
                mr_batch_builder_null(builder, k);
            mr_batch_builder_end_row(builder);
        }
        if (mr_batch_builder_finish(builder, &batch, NULL) == MR_OK)
            frame = mr_raw_frame(batch, &size);
        if (frame != NULL)
            mr_buf_add(out, frame, size);
    }
    mr_text_free(frame);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
}

static void check_pieces(const struct mr_schema *schema, const struct mr_buf *bytes, size_t piece)
{
    struct mr_buf whole = MR_BUF_INIT, pieces = MR_BUF_INIT;
    struct mr_error err = {0}, err_pieces = {0};
    size_t left = 0, left_pieces = 0;
    enum mr_status status =
        receive(schema, bytes->data, bytes->size, bytes->size, &whole, &left, &err);
    enum mr_status status_pieces =
        receive(schema, bytes->data, bytes->size, piece, &pieces, &left_pieces, &err_pieces);

    if (status != MR_OK) {
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_LIMIT, MR_BAD_DATA);
        FUZZ_CHECK(strstr(err.text, "peer:1") != NULL);
    }
    FUZZ_CHECK(status == status_pieces);
    FUZZ_CHECK(status != MR_OK || left == left_pieces);
    if (!whole.failed && !pieces.failed)
        FUZZ_SAME(&whole, &pieces);
    mr_buf_release(&whole);
    mr_buf_release(&pieces);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_schema *schema = NULL;
    struct mr_buf bytes = MR_BUF_INIT;
    const char *text;

    if (size < 5)
        return;
    text = schemas[data[0] % MR_ARRAY_SIZE(schemas)];
    if (mr_schema_parse(text, strlen(text), &schema, NULL) != MR_OK)
        return;
    if ((data[1] & 1) != 0)
        add_frame(schema, data[1] >> 1, &bytes);
    if ((data[2] & 1) != 0) { /* the input in a frame of its size */
        mr_buf_add_u8(&bytes, 0);
        mr_buf_add_u8(&bytes, 0);
        mr_buf_add_u8(&bytes, (uint8_t)((size - 4) >> 8));
        mr_buf_add_u8(&bytes, (uint8_t)(size - 4));
    }
    mr_buf_add(&bytes, data + 4, size - 4);
    if ((data[2] & 2) != 0)
        add_frame(schema, data[2] >> 2, &bytes);
    if (!bytes.failed)
        check_pieces(schema, &bytes, 1 + data[3]);
    mr_buf_release(&bytes);
    mr_schema_unref(schema);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return size > 4096 ? 0 : fuzz_run(one, data, size);
}
