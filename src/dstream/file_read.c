/*
 * Files of a batch -> rows.
 *
 *     records    blocks of a file -> (unpack) -> whole records -> decoder -> rows
 *     fixed      the same, cut every record_bytes
 *     whole      a format that reads files by itself (Parquet)
 *
 * A partition is some neighbouring files of the batch's list. The bytes that the plan counted are
 * read and no others: a file that is gone or shorter is MR_DATA_LOSS; of one that has grown the
 * planned bytes are read, unless its format reads whole files, which is MR_SOURCE_CHANGED.
 *
 * Thread: any worker; a reader has everything it needs of its own.
 */
#include "dstream/file_stream.h"

#include <millrace/ext/bad_records.h>

#include <inttypes.h>
#include <string.h>

enum { PACKED_BYTES = 1 << 16 };

struct mr_reader {
    struct mr_source *source;
    struct mr__files files;
    size_t next;
    size_t end;
    /* Of files.items[next], when it is open: */
    struct mr_file *file;
    struct mr__unpacker *unpacker; /* NULL = not compressed */
    void *whole;
    uint64_t offset;     /* of the file, read so far */
    uint64_t rest_begin; /* of the unpacked bytes: where rest begins */
    uint64_t line;
    struct mr_buf rest; /* unpacked and not decoded yet */
    struct mr_buf packed;
    struct mr_decoder *decoder;
    struct mr_batch_builder *builder;
    struct mr_bad_records *bad;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read files: out of memory");
}

static bool reads_whole(const struct mr_reader *reader)
{
    return reader->source->format != NULL && reader->source->format->whole_files;
}

/* ---- life ---- */

static void close_file(struct mr_reader *reader)
{
    mr_env_close(reader->source->env, reader->file);
    reader->file = NULL;
    mr__unpacker_free(reader->unpacker);
    reader->unpacker = NULL;
    if (reader->whole != NULL)
        reader->source->format->file_reader_free(reader->whole);
    reader->whole = NULL;
    mr_buf_clear(&reader->rest);
}

void mr__file_reader_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    close_file(reader);
    if (reader->decoder != NULL)
        reader->source->format->decoder_free(reader->decoder);
    mr_batch_builder_free(reader->builder);
    mr_bad_records_free(reader->bad);
    mr_buf_release(&reader->rest);
    mr_buf_release(&reader->packed);
    mr__files_release(&reader->files);
    mr_free(reader);
}

static struct mr_decoder_args decoder_args(const struct mr_source *source)
{
    return (struct mr_decoder_args){source->schema, source->schema, source->options,
                                    source->on_error};
}

enum mr_status mr__file_reader_new(struct mr_source *source, const char *end, uint32_t partition,
                                   struct mr_reader **ret_reader, struct mr_error *err)
{
    struct mr_decoder_args args = decoder_args(source);
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    int64_t time_ms;
    size_t count;
    enum mr_status status;

    if (reader == NULL)
        return no_memory(err);
    reader->source = source;
    MR_TRY_GOTO(mr__files_parse(end, &reader->files, &time_ms, err));
    count = mr__file_partitions(&reader->files);
    MR_ASSERT(partition < count);
    reader->next = reader->files.count * partition / count;
    reader->end = reader->files.count * (partition + 1) / count;
    MR_TRY_GOTO(mr_bad_records_new(source->name, source->on_error, &reader->bad, err));
    MR_TRY_GOTO(mr_batch_builder_new(source->schema, &reader->builder, err));
    if (source->format != NULL && !source->format->whole_files)
        MR_TRY_GOTO(source->format->decoder_new(&args, &reader->decoder, err));
    *ret_reader = reader;
    reader = NULL;
done:
    mr__file_reader_close(reader);
    return status;
}

/* ---- opening ---- */

static enum mr_status check_size(const struct mr_reader *reader, const struct mr__file *file,
                                 struct mr_error *err)
{
    struct mr_env *env = reader->source->env;
    struct mr_file_info info;

    MR_TRY(mr_env_file_info(env, reader->file, &info, err));
    if (info.size_bytes < file->size_bytes)
        return MR_FAIL(err, MR_DATA_LOSS,
                       "cannot read '%s': it has %" PRIu64 " bytes, and had %" PRIu64
                       " when its batch was planned; rename complete files in",
                       file->path, info.size_bytes, file->size_bytes);
    if (reads_whole(reader) && info.size_bytes != file->size_bytes)
        return MR_FAIL(err, MR_SOURCE_CHANGED,
                       "cannot read '%s': it has %" PRIu64 " bytes, and had %" PRIu64
                       " when its batch was planned; rename complete files in",
                       file->path, info.size_bytes, file->size_bytes);
    return MR_OK;
}

static enum mr_status open_next(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr_source *source = reader->source;
    const struct mr__file *file = &reader->files.items[reader->next];
    struct mr_decoder_args args = decoder_args(source);
    enum mr_status status = mr_env_open(source->env, file->path, MR_FILE_READ, &reader->file, err);

    if (status == MR_NOT_FOUND)
        return MR_FAIL(
            err, MR_DATA_LOSS,
            "cannot read '%s': it was removed after its batch was planned; leave files in "
            "place until they are %lld s old",
            file->path, (long long)(source->remember_ms / 1000));
    MR_TRY(status);
    MR_TRY(check_size(reader, file, err));
    reader->offset = 0;
    reader->rest_begin = 0;
    reader->line = 1;
    mr_buf_clear(&reader->rest);
    if (reads_whole(reader))
        return source->format->file_reader_new(file->path, &args, &reader->whole, err);
    return mr__unpacker_new(file->path, &reader->unpacker, err);
}

/* ---- records ---- */

static void consume(struct mr_reader *reader, size_t size)
{
    for (const char *at = reader->rest.data;
         (at = memchr(at, '\n', size - (size_t)(at - reader->rest.data))) != NULL; at++)
        reader->line++;
    memmove(reader->rest.data, reader->rest.data + size, reader->rest.size - size);
    reader->rest.size -= size;
    reader->rest_begin += size;
}

/* Bytes of whole records in rest. */
static size_t cut(const struct mr_reader *reader)
{
    const struct mr_format *format = reader->source->format;
    struct mr_slice rest = {reader->rest.data, reader->rest.size};
    const char *last;

    if (format->cut != NULL)
        return format->cut(reader->source->options, rest);
    last = rest.size_bytes > 0 ? memrchr(rest.data, '\n', rest.size_bytes) : NULL;
    return last != NULL ? (size_t)(last - rest.data) + 1 : 0;
}

static enum mr_status decode(struct mr_reader *reader, bool at_end, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    struct mr_position position = {file->path, reader->line, reader->rest_begin};
    size_t whole = at_end || reader->rest.size == 0 ? reader->rest.size : cut(reader);

    if (whole == 0 && reader->rest.size > MR__FILE_RECORD_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot read '%s': the record in line %" PRIu64 " is longer than %d MiB",
                       file->path, reader->line, MR__FILE_RECORD_BYTES_MAX >> 20);
    if (whole == 0)
        return MR_OK;
    MR_TRY(reader->source->format->decode(reader->decoder,
                                          (struct mr_slice){reader->rest.data, whole}, &position,
                                          reader->builder, mr_bad_records_add, reader->bad, err));
    consume(reader, whole);
    return MR_OK;
}

static enum mr_status take_fixed(struct mr_reader *reader, bool at_end, struct mr_error *err)
{
    size_t record_bytes = (size_t)reader->source->spec->record_bytes;
    size_t whole = reader->rest.size / record_bytes * record_bytes;

    for (size_t at = 0; at < whole; at += record_bytes) {
        mr_batch_builder_text(reader->builder, 0, reader->rest.data + at, record_bytes);
        mr_batch_builder_end_row(reader->builder);
    }
    if (whole > 0)
        consume(reader, whole);
    if (at_end && reader->rest.size > 0)
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot read '%s': its %" PRIu64
                       " bytes are no whole number of records of %zu bytes; the last one has %zu",
                       reader->files.items[reader->next].path,
                       reader->rest_begin + reader->rest.size, record_bytes, reader->rest.size);
    return MR_OK;
}

/* Reads up to want bytes of the file behind what is in out. */
static enum mr_status read_bytes(struct mr_reader *reader, size_t want, struct mr_buf *out,
                                 struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    size_t got;

    want = (size_t)MR_MIN(file->size_bytes - reader->offset, (uint64_t)want);
    if (!mr_buf_reserve(out, want + 1))
        return no_memory(err);
    MR_TRY(mr_env_pread(reader->source->env, reader->file, out->data + out->size, want,
                        reader->offset, &got, err));
    if (got < want)
        return MR_FAIL(err, MR_DATA_LOSS, "cannot read '%s': it became shorter while it was read",
                       file->path);
    out->size += got;
    reader->offset += got;
    return MR_OK;
}

static enum mr_status read_block(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    bool at_end;

    if (reader->unpacker == NULL) {
        MR_TRY(read_bytes(reader, MR__FILE_BLOCK_BYTES, &reader->rest, err));
    } else {
        mr_buf_clear(&reader->packed);
        MR_TRY(read_bytes(reader, PACKED_BYTES, &reader->packed, err));
        MR_TRY(mr__unpack(reader->unpacker, reader->packed.data, reader->packed.size, &reader->rest,
                          err));
    }
    at_end = reader->offset == file->size_bytes;
    if (at_end && reader->unpacker != NULL && !mr__unpacker_at_end(reader->unpacker))
        return MR_FAIL(err, MR_BAD_DATA,
                       "cannot unpack '%s': it ends too early; rename complete "
                       "files in",
                       file->path);
    MR_TRY(reader->decoder != NULL ? decode(reader, at_end, err) : take_fixed(reader, at_end, err));
    if (at_end) {
        close_file(reader);
        reader->next++;
    }
    return MR_OK;
}

/* ---- rows ---- */

static enum mr_status next_of_whole(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    while (reader->next < reader->end) {
        if (reader->file == NULL)
            MR_TRY(open_next(reader, err));
        MR_TRY(reader->source->format->file_reader_next(reader->whole, ret_batch, err));
        if (*ret_batch != NULL)
            return MR_OK;
        close_file(reader);
        reader->next++;
    }
    return MR_OK;
}

enum mr_status mr__file_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    *ret_batch = NULL;
    if (reads_whole(reader))
        return next_of_whole(reader, ret_batch, err);
    while (reader->next < reader->end &&
           mr_batch_builder_bytes(reader->builder) < MR__FILE_BLOCK_BYTES) {
        if (reader->file == NULL)
            MR_TRY(open_next(reader, err));
        MR_TRY(read_block(reader, err));
    }
    if (mr_batch_builder_row_count(reader->builder) == 0)
        return MR_OK;
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

enum mr_status mr__file_reader_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                        uint64_t *ret_count, struct mr_error *err)
{
    return mr_bad_records_take(reader->bad, ret_bad, ret_count, err);
}
