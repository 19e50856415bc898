/*
 * The format raw: the bytes of one record are one row with one BLOB column.
 *
 * A record is what the source hands over in one piece: a Kafka message, or a whole file (no place
 * to cut is ever found, so a source of files reads to the end). Writing puts the bytes one after
 * the other with nothing between.
 *
 * Called by sources and sinks of bytes through struct mr_format. Threads: a decoder belongs to one.
 */
#include "formats/formats_internal.h"
#include "formats/registry_internal.h"

#include "base/alloc.h"

struct mr_decoder {
    bool wanted;
};

static const struct mr_schema *fixed_schema(void)
{
    static const struct mr_field fields[] = {{"value", {.id = MR_TYPE_BINARY}}};
    static struct mr__static_schema holder = {NULL, fields, 1};

    return mr__static_schema(&holder);
}

static enum mr_status check(const struct mr_schema *declared, const struct mr_options *options,
                            bool sink, struct mr_error *err)
{
    (void)options;
    if (mr_schema_field_count(declared) == 1 &&
        mr_schema_field(declared, 0)->type.id == MR_TYPE_BINARY)
        return MR_OK;
    return MR_FAIL(
        err, MR_CONFIG,
        "cannot %s raw records with these columns: raw has exactly one BLOB column; declare "
        "'value BLOB'",
        sink ? "write" : "read");
}

static enum mr_status decoder_new(const struct mr_decoder_args *args,
                                  struct mr_decoder **ret_decoder, struct mr_error *err)
{
    MR_TRY(check(args->declared, args->options, false, err));
    struct mr_decoder *decoder = mr_alloc(NULL, sizeof *decoder);
    if (decoder == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make raw decoder: out of memory");
    decoder->wanted = mr_schema_field_count(args->schema) == 1;
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
    (void)position;
    (void)bad;
    (void)bad_arg;
    if (decoder->wanted)
        MR_TRY(mr_column_builder_text(mr_batch_builder_column(builder, 0), data.data,
                                      data.size_bytes, err));
    return mr_batch_builder_rows_added(builder, 1, err);
}

static size_t cut(const struct mr_options *options, struct mr_slice data)
{
    (void)options;
    (void)data;
    return 0;
}

static enum mr_status encode(const struct mr_options *options, const struct mr_batch *batch,
                             bool first,
                             enum mr_status (*write)(void *arg, const void *data, size_t size_bytes,
                                                     struct mr_error *err),
                             void *arg, struct mr_error *err)
{
    (void)first;
    MR_TRY(check(mr_batch_schema(batch), options, true, err));
    const struct mr_column *column = mr_batch_column(batch, 0);
    for (int64_t row = 0; row < column->length; row++) {
        struct mr_slice bytes = mr_column_text(column, row);
        if (!mr_column_is_null(column, row) && bytes.size_bytes > 0)
            MR_TRY(write(arg, bytes.data, bytes.size_bytes, err));
    }
    return MR_OK;
}

const struct mr_format mr__format_raw = {
    .struct_size = sizeof(struct mr_format),
    .name = "raw",
    .summary = "Each message or whole file is a row with one BLOB column.",
    .fixed_schema = fixed_schema,
    .check = check,
    .decoder_new = decoder_new,
    .decoder_free = decoder_free,
    .decode = decode,
    .cut = cut,
    .encode = encode,
    .extension = "bin",
};
