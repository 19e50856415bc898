/*
 * Object files (object_file.h draws the format): writing into buffers, reading block by block.
 *
 * Called by the outputs of streams and datasets, and by mr_rdd_object_file.
 *
 * Nothing that a file says is believed before its checksum was compared: sizes are bounded first,
 * rows are decoded after.
 *
 * Thread: the owner's.
 */
#include "data/object_file.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "data/row_codec.h"

#include <inttypes.h>
#include <string.h>

#define MAGIC "MRROWS\r\n"
enum { MAGIC_BYTES = 8, HEAD_BYTES = MAGIC_BYTES + 8, BLOCK_HEAD_BYTES = 8, SUM_BYTES = 8 };

/* ---- writing ---- */

static void set_u32(struct mr_buf *out, size_t at, uint32_t value)
{
    for (size_t i = 0; i < 4; i++)
        out->data[at + i] = (char)(value >> (8 * i));
}

static void add_sum(struct mr_buf *out, size_t from)
{
    if (!out->failed)
        mr_buf_add_u64(out, mr_checksum(out->data + from, out->size - from));
}

void mr_object_begin(struct mr_buf *out, const struct mr_schema *schema)
{
    char *columns = mr_schema_print(schema);
    size_t size = columns != NULL ? strlen(columns) : 0;
    size_t from = out->size;

    if (columns == NULL || size > MR_OBJECT_HEADER_BYTES_MAX) {
        out->failed = true;
    } else {
        mr_buf_add(out, MAGIC, MAGIC_BYTES);
        mr_buf_add_u32(out, MR_OBJECT_VERSION);
        mr_buf_add_u32(out, (uint32_t)size);
        mr_buf_add(out, columns, size);
        add_sum(out, from);
    }
    mr_text_free(columns);
}

/* Rows [*row, ...) as one block. */
static void add_block(struct mr_buf *out, const struct mr_batch *batch,
                      const struct mr_column *const *columns, int64_t *row)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));
    size_t from = out->size;
    size_t size = 0;
    uint32_t rows = 0;

    mr_buf_add_u32(out, 0);
    mr_buf_add_u32(out, 0);
    while (*row < mr_batch_row_count(batch) && size < MR_OBJECT_BLOCK_BYTES && !out->failed) {
        mr_value_encode(out, columns, count, (*row)++);
        size = out->size - from - BLOCK_HEAD_BYTES;
        rows++;
    }
    if (size > MR_OBJECT_BLOCK_BYTES_MAX)
        out->failed = true;
    if (out->failed)
        return;
    set_u32(out, from, rows);
    set_u32(out, from + 4, (uint32_t)size);
    add_sum(out, from);
}

void mr_object_add(struct mr_buf *out, const struct mr_batch *batch)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));
    const struct mr_column **columns = mr_alloc(NULL, (count + (size_t)1) * sizeof(*columns));

    if (columns == NULL) {
        out->failed = true;
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        columns[i] = mr_batch_column(batch, i);
    for (int64_t row = 0; row < mr_batch_row_count(batch) && !out->failed;)
        add_block(out, batch, columns, &row);
    mr_free(columns);
}

void mr_object_end(struct mr_buf *out, uint64_t row_count)
{
    size_t from = out->size;

    mr_buf_add_u32(out, 0);
    mr_buf_add_u32(out, 8);
    mr_buf_add_u64(out, row_count);
    add_sum(out, from);
}

/* ---- reading ---- */

struct mr_object_reader {
    struct mr_env *env;
    struct mr_file *file;
    char *path;
    uint64_t offset;
    uint64_t size_bytes;
    struct mr_schema *schema;
    struct mr_batch_builder *builder;
    struct mr_column_builder **columns;
    struct mr_buf part;
    uint64_t row_count;
    bool ended;
};

static enum mr_status damaged(const struct mr_object_reader *reader, const char *why,
                              struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA, "cannot read object file '%s' at byte %" PRIu64 ": %s",
                   reader->path, reader->offset, why);
}

static enum mr_status no_memory(const char *path, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read object file '%s': out of memory", path);
}

/* Reads size more bytes behind what is in reader->part. */
static enum mr_status read_more(struct mr_object_reader *reader, size_t size, struct mr_error *err)
{
    size_t got = 0;

    if (size > reader->size_bytes - reader->offset - reader->part.size)
        return damaged(reader, "it ends too early", err);
    if (!mr_buf_reserve(&reader->part, size + 1))
        return no_memory(reader->path, err);
    MR_TRY(mr_env_pread(reader->env, reader->file, reader->part.data + reader->part.size, size,
                        reader->offset + reader->part.size, &got, err));
    if (got < size)
        return damaged(reader, "it became shorter while it was read", err);
    reader->part.size += size;
    return MR_OK;
}

/* The part is complete but for its checksum. */
static enum mr_status check_sum(struct mr_object_reader *reader, struct mr_error *err)
{
    size_t size = reader->part.size;
    struct mr_bytes sum;

    MR_TRY(read_more(reader, SUM_BYTES, err));
    sum = mr_bytes_of(reader->part.data + size, SUM_BYTES);
    if (mr_bytes_u64(&sum) != mr_checksum(reader->part.data, size))
        return damaged(reader, "its checksum does not fit: it was changed or cut", err);
    return MR_OK;
}

static void part_done(struct mr_object_reader *reader)
{
    reader->offset += reader->part.size;
    mr_buf_clear(&reader->part);
}

static enum mr_status read_header(struct mr_object_reader *reader, struct mr_error *err)
{
    struct mr_bytes head;
    uint32_t version, size;
    enum mr_status status;

    if (reader->size_bytes < HEAD_BYTES)
        return damaged(reader, "it is no object file, or was cut", err);
    MR_TRY(read_more(reader, HEAD_BYTES, err));
    if (memcmp(reader->part.data, MAGIC, MAGIC_BYTES) != 0)
        return damaged(reader, "it is no object file", err);
    head = mr_bytes_of(reader->part.data + MAGIC_BYTES, HEAD_BYTES - MAGIC_BYTES);
    version = mr_bytes_u32(&head);
    size = mr_bytes_u32(&head);
    if (version != MR_OBJECT_VERSION)
        return MR_FAIL(err, MR_VERSION,
                       "cannot read object file '%s': it has version %" PRIu32
                       ", this program reads version %d",
                       reader->path, version, MR_OBJECT_VERSION);
    if (size > MR_OBJECT_HEADER_BYTES_MAX)
        return damaged(reader, "its header is damaged", err);
    MR_TRY(read_more(reader, size, err));
    MR_TRY(check_sum(reader, err));
    status = mr_schema_parse(reader->part.data + HEAD_BYTES, size, &reader->schema, err);
    if (status == MR_CONFIG) /* whole, but not written by us */
        return damaged(reader, "its columns cannot be read", err);
    MR_TRY(status);
    MR_TRY(mr_batch_builder_new(reader->schema, &reader->builder, err));
    part_done(reader);
    return MR_OK;
}

enum mr_status mr_object_open(struct mr_env *env, const char *path,
                              struct mr_object_reader **ret_reader, struct mr_error *err)
{
    struct mr_object_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    struct mr_file_info info;
    uint32_t count;
    enum mr_status status;

    if (reader == NULL)
        return no_memory(path, err);
    reader->env = env;
    reader->path = mr_strdup(path);
    if (reader->path == NULL) {
        status = no_memory(path, err);
        goto done;
    }
    MR_TRY_GOTO(mr_env_open(env, path, MR_FILE_READ, &reader->file, err));
    MR_TRY_GOTO(mr_env_file_info(env, reader->file, &info, err));
    reader->size_bytes = info.size_bytes;
    MR_TRY_GOTO(read_header(reader, err));
    count = mr_schema_field_count(reader->schema);
    reader->columns = mr_alloc(NULL, (count + (size_t)1) * sizeof(struct mr_column_builder *));
    if (reader->columns == NULL) {
        status = no_memory(path, err);
        goto done;
    }
    *ret_reader = reader;
    reader = NULL;
done:
    mr_object_close(reader);
    return status;
}

void mr_object_close(struct mr_object_reader *reader)
{
    if (reader == NULL)
        return;
    if (reader->file != NULL)
        mr_env_close(reader->env, reader->file);
    mr_batch_builder_free(reader->builder);
    mr_schema_unref(reader->schema);
    mr_buf_release(&reader->part);
    mr_free(reader->columns);
    mr_free(reader->path);
    mr_free(reader);
}

const struct mr_schema *mr_object_schema(const struct mr_object_reader *reader)
{
    return reader->schema;
}

static enum mr_status read_end(struct mr_object_reader *reader, uint32_t size, struct mr_error *err)
{
    struct mr_bytes bytes;

    if (size != 8)
        return damaged(reader, "its end is damaged", err);
    MR_TRY(read_more(reader, size, err));
    MR_TRY(check_sum(reader, err));
    bytes = mr_bytes_of(reader->part.data + BLOCK_HEAD_BYTES, size);
    if (mr_bytes_u64(&bytes) != reader->row_count)
        return damaged(reader, "rows are missing", err);
    part_done(reader);
    if (reader->offset != reader->size_bytes)
        return damaged(reader, "there is something behind its end", err);
    reader->ended = true;
    return MR_OK;
}

static enum mr_status decode_rows(struct mr_object_reader *reader, uint32_t rows, uint32_t size,
                                  struct mr_batch **ret_batch, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(reader->schema);
    struct mr_bytes bytes = mr_bytes_of(reader->part.data + BLOCK_HEAD_BYTES, size);

    for (uint32_t i = 0; i < columns; i++) /* finish makes new ones */
        reader->columns[i] = mr_batch_builder_column(reader->builder, i);
    if (columns > 0 && rows > size) /* a row has its null bits at least */
        return damaged(reader, "a block has more rows than bytes", err);
    for (uint32_t row = 0; columns > 0 && row < rows; row++) {
        enum mr_status status = mr_value_decode(&bytes, reader->columns, columns, err);

        if (status == MR_NOMEM || status == MR_LIMIT)
            return status;
        if (status != MR_OK)
            return damaged(reader, "a row cannot be decoded", err);
    }
    if (mr_bytes_left(&bytes) != 0)
        return damaged(reader, "there is something behind the rows of a block", err);
    MR_TRY(mr_batch_builder_rows_added(reader->builder, rows, err));
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

enum mr_status mr_object_next(struct mr_object_reader *reader, struct mr_batch **ret_batch,
                              struct mr_error *err)
{
    struct mr_bytes head;
    uint32_t rows, size;

    if (reader->ended) {
        *ret_batch = NULL;
        return MR_OK;
    }
    mr_buf_clear(&reader->part);
    MR_TRY(read_more(reader, BLOCK_HEAD_BYTES, err));
    head = mr_bytes_of(reader->part.data, BLOCK_HEAD_BYTES);
    rows = mr_bytes_u32(&head);
    size = mr_bytes_u32(&head);
    if (rows == 0) {
        MR_TRY(read_end(reader, size, err));
        *ret_batch = NULL;
        return MR_OK;
    }
    if (size > MR_OBJECT_BLOCK_BYTES_MAX)
        return damaged(reader, "the size of a block is damaged", err);
    MR_TRY(read_more(reader, size, err));
    MR_TRY(check_sum(reader, err));
    MR_TRY(decode_rows(reader, rows, size, ret_batch, err));
    reader->row_count += rows;
    part_done(reader);
    return MR_OK;
}
