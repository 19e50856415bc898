/*
 * Rows as bytes: what the blocks of a program's receivers hold, whatever its columns are.
 *
 *     block   row | row | ...        each in the value form of the row codec (data/row_codec.h)
 *     frame   u32 big-endian length | rows                  (mr_raw_frame, RAW-1)
 *
 * Called by the receivers to encode, by the kernel through struct mr_format to decode. Whatever is
 * not exactly such rows is refused and leaves the builder's rows whole.
 *
 * Threads: pure functions; a decoder belongs to one thread.
 */
#include "dstream/receivers.h"

#include "data/row_codec.h"

#include <string.h>

struct mr_decoder {
    uint32_t column_count;
    struct mr_column_builder *columns[]; /* of the builder of the call */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot store received rows: out of memory");
}

/* ---------------------------------------------------------------- encoding */

static enum mr_status check_schema(const struct mr_schema *wanted, const struct mr_schema *given,
                                   struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(wanted);

    if (mr_schema_field_count(given) != count)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot store received rows: they have %u columns, the stream has %u",
                       mr_schema_field_count(given), count);
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_field *field = mr_schema_field(wanted, i);

        if (!mr_type_equal(&field->type, &mr_schema_field(given, i)->type))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot store received rows: column %u is not of the type of the "
                           "stream's column '%s'",
                           i + 1, field->name);
    }
    return MR_OK;
}

static enum mr_status encode_rows(struct mr_buf *out, const struct mr_batch *batch,
                                  const struct mr_column *const *columns, uint32_t count,
                                  struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);

    for (int64_t row = 0; row < rows; row++) {
        size_t before = out->size;

        mr_value_encode(out, columns, count, row);
        if (out->failed)
            return no_memory(err);
        if (out->size - before > MR_ELEMENT_BYTES_MAX)
            return MR_FAIL(err, MR_LIMIT,
                           "cannot store a received element of %zu bytes: the limit is %d",
                           out->size - before, MR_ELEMENT_BYTES_MAX);
    }
    return MR_OK;
}

enum mr_status mr__rows_encode(struct mr_buf *out, const struct mr_batch *batch,
                               const struct mr_schema *schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));
    const struct mr_column **columns;
    enum mr_status status;

    if (schema != NULL)
        MR_TRY(check_schema(schema, mr_batch_schema(batch), err));
    columns = mr_alloc(NULL, (count + 1) * sizeof(const struct mr_column *));
    if (columns == NULL)
        return no_memory(err);
    for (uint32_t i = 0; i < count; i++)
        columns[i] = mr_batch_column(batch, i);
    status = encode_rows(out, batch, columns, count, err);
    mr_free(columns);
    return status;
}

char *mr_raw_frame(const struct mr_batch *batch, size_t *ret_size_bytes)
{
    struct mr_buf frame = MR_BUF_INIT;
    size_t size;

    if (batch == NULL)
        return NULL;
    mr_buf_add_u32(&frame, 0);
    if (mr__rows_encode(&frame, batch, NULL, NULL) != MR_OK || frame.failed ||
        frame.size - 4 > MR_BLOCK_BYTES_MAX) {
        mr_buf_release(&frame);
        return NULL;
    }
    size = frame.size - 4;
    for (unsigned i = 0; i < 4; i++)
        frame.data[i] = (char)(size >> (8 * (3 - i)));
    *ret_size_bytes = frame.size;
    return mr_buf_take(&frame);
}

/* ---------------------------------------------------------------- decoding */

static enum mr_status decoder_new(const struct mr_decoder_args *args,
                                  struct mr_decoder **ret_decoder, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(args->schema);
    struct mr_decoder *decoder =
        mr_alloc_zero(NULL, sizeof(*decoder) + count * sizeof(struct mr_column_builder *));

    if (decoder == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read received rows: out of memory");
    decoder->column_count = count;
    *ret_decoder = decoder;
    return MR_OK;
}

static void decoder_free(struct mr_decoder *decoder)
{
    mr_free(decoder);
}

static enum mr_status decode(struct mr_decoder *decoder, struct mr_slice data,
                             const struct mr_position *position, struct mr_batch_builder *builder,
                             mr_bad_record_fn bad, void *bad_arg, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(data.data, data.size_bytes);
    enum mr_status status = MR_OK;
    int64_t rows = 0;

    MR_UNUSED(bad); /* a row that does not decode is damage, not bad data */
    MR_UNUSED(bad_arg);
    for (uint32_t i = 0; i < decoder->column_count; i++)
        decoder->columns[i] = mr_batch_builder_column(builder, i);
    while (mr_bytes_left(&bytes) > 0) {
        status = mr_value_decode(&bytes, decoder->columns, decoder->column_count, err);
        if (status != MR_OK)
            break;
        rows++;
    }
    MR_TRY(mr_batch_builder_rows_added(builder, rows, err));
    return status == MR_OK ? MR_OK
                           : mr_error_prefix(err, "row %llu of %s", (unsigned long long)rows + 1,
                                             position->name);
}

const struct mr_format mr__rows_format = {
    .struct_size = sizeof(struct mr_format),
    .name = "rows",
    .summary = "Rows of a program's receiver.",
    .decoder_new = decoder_new,
    .decoder_free = decoder_free,
    .decode = decode,
    .exact_columns = true,
};

enum mr_status mr__rows_check(const struct mr_schema *schema, struct mr_slice data,
                              uint64_t *ret_rows, struct mr_error *err)
{
    const struct mr_decoder_args args = {schema, schema, NULL, MR_ON_ERROR_FAIL};
    const struct mr_position position = {"the frame", 1, 0};
    struct mr_batch_builder *builder = NULL;
    struct mr_decoder *decoder = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    MR_TRY_GOTO(decoder_new(&args, &decoder, err));
    MR_TRY_GOTO(decode(decoder, data, &position, builder, NULL, NULL, err));
    *ret_rows = (uint64_t)mr_batch_builder_row_count(builder);
done:
    decoder_free(decoder);
    mr_batch_builder_free(builder);
    return status;
}

/* ---------------------------------------------------------------- frames */

static enum mr_status take_frame(const struct mr_schema *schema, struct mr_slice rows,
                                 const char *peer, mr__frame_fn store, void *arg,
                                 struct mr_error *err)
{
    uint64_t row_count = 0;

    if (rows.size_bytes == 0)
        return MR_OK;
    if (mr__rows_check(schema, rows, &row_count, err) != MR_OK)
        return mr_error_prefix(err, "a frame of %zu bytes from %s", rows.size_bytes, peer);
    return store(arg, rows, row_count, err);
}

enum mr_status mr__frames_cut(const struct mr_schema *schema, struct mr_slice received,
                              const char *peer, mr__frame_fn store, void *arg, size_t *ret_used,
                              struct mr_error *err)
{
    size_t at = 0, size = received.size_bytes;

    *ret_used = 0;
    while (size - at >= MR_FRAME_HEAD_BYTES) {
        const uint8_t *head = (const uint8_t *)received.data + at;
        size_t length =
            (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | (size_t)head[3];
        struct mr_slice rows = {(const char *)received.data + at + MR_FRAME_HEAD_BYTES, length};

        if (length > MR_BLOCK_BYTES_MAX)
            return MR_FAIL(err, MR_LIMIT,
                           "cannot take a frame of %zu bytes from %s: the limit is %d", length,
                           peer, MR_BLOCK_BYTES_MAX);
        if (size - at - MR_FRAME_HEAD_BYTES < length)
            break;
        MR_TRY(take_frame(schema, rows, peer, store, arg, err));
        at += MR_FRAME_HEAD_BYTES + length;
    }
    *ret_used = at;
    return MR_OK;
}
