/*
 * Files of a batch -> rows.
 *
 *     records    blocks of a file -> (unpack) -> whole records -> decoder -> rows
 *     fixed      the same, cut every record_bytes
 *     whole      a format that reads files by itself (Parquet)
 *
 * A partition is some neighbouring pieces of the files of the batch's list. The bytes that the plan
 * counted are read and no others: a file that is gone or shorter is MR_DATA_LOSS; of one that has
 * grown the planned bytes are read, unless its format reads whole files: MR_SOURCE_CHANGED.
 *
 * Thread: any worker; a reader has everything it needs of its own.
 */
#include "dstream/file_stream.h"

#include "base/mutant.h"

#include <millrace/ext/bad_records.h>

#include <inttypes.h>
#include <string.h>

enum { PACKED_BYTES = 1 << 16, REST_BYTES = 1 << 16 };

struct mr_reader {
    struct mr_source *source;
    struct mr__files files;
    size_t next;          /* file */
    uint64_t piece;       /* of it */
    uint64_t pieces_left; /* to read, this one included */
    /* Of files.items[next], when it is open: */
    struct mr_file *file;
    uint64_t end;                  /* of the piece, in bytes of the file */
    bool in_record;                /* the bytes up to the next '\n' belong to the piece before */
    struct mr__unpacker *unpacker; /* NULL = not compressed */
    void *whole;
    uint64_t offset;     /* of the file, read so far */
    uint64_t rest_begin; /* of the unpacked bytes: where rest begins */
    uint64_t line;       /* in the file once lines_counted, else in the piece */
    bool lines_counted;
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

/* The piece that was read is done. */
static void end_piece(struct mr_reader *reader)
{
    close_file(reader);
    reader->pieces_left--;
    if (++reader->piece == mr__file_pieces(reader->source, &reader->files.items[reader->next])) {
        reader->piece = 0;
        reader->next++;
    }
}

/* Goes to the first piece of a partition. */
static void find_pieces(struct mr_reader *reader, uint32_t partition)
{
    uint64_t total = mr__file_pieces_of(reader->source, &reader->files);
    uint64_t count = mr__file_partitions(reader->source, &reader->files);
    uint64_t first = total * partition / count;

    MR_ASSERT(partition < count);
    reader->pieces_left = total * (partition + 1) / count - first;
    for (; first > 0; reader->next++) {
        uint64_t pieces = mr__file_pieces(reader->source, &reader->files.items[reader->next]);

        if (first < pieces)
            break;
        first -= pieces;
    }
    reader->piece = first;
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
    enum mr_status status;

    if (reader == NULL)
        return no_memory(err);
    reader->source = source;
    MR_TRY_GOTO(mr__files_parse(end, &reader->files, &time_ms, err));
    find_pieces(reader, partition);
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
    if (info.size_bytes < file->size_bytes && !MR_MUTANT("file-read.open.shorter"))
        return MR_FAIL(err, MR_DATA_LOSS,
                       "cannot read '%s': it has %" PRIu64 " bytes, and had %" PRIu64
                       " when its batch was planned; rename complete files in",
                       file->path, info.size_bytes, file->size_bytes);
    if (reads_whole(reader) && info.size_bytes != file->size_bytes &&
        !MR_MUTANT("file-read.open.changed"))
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

    /* redundant: MR_TRY behind it returns what the system says */
    if (status == MR_NOT_FOUND && !MR_MUTANT("file-read.open.removed"))
        return MR_FAIL(
            err, MR_DATA_LOSS,
            "cannot read '%s': it was removed after its batch was planned; leave files in "
            "place until they are %lld s old",
            file->path, (long long)(source->remember_ms / 1000));
    MR_TRY(status);
    MR_TRY(check_size(reader, file, err));
    /* One byte earlier: a piece that begins with a record is told from one that does not. */
    reader->in_record = reader->piece > 0;
    reader->offset = reader->piece * MR__FILE_PIECE_BYTES - (reader->in_record ? 1 : 0);
    reader->end = reader->piece + 1 == mr__file_pieces(source, file)
                      ? file->size_bytes
                      : (reader->piece + 1) * MR__FILE_PIECE_BYTES;
    reader->rest_begin = reader->offset;
    reader->line = 1;
    reader->lines_counted = reader->piece == 0;
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

/* The number of the line, only for somebody who will read it: counts those before the piece. When
 * they cannot be read, the number is that within the piece. */
static uint64_t lines_before(struct mr_reader *reader)
{
    uint64_t begin = reader->piece * MR__FILE_PIECE_BYTES, lines = 0;
    char block[4096];
    size_t got;

    if (reader->lines_counted)
        return 0;
    for (uint64_t at = 0; at < begin; at += got) {
        size_t want = (size_t)MR_MIN(begin - at, (uint64_t)sizeof(block));

        if (mr_env_pread(reader->source->env, reader->file, block, want, at, &got, NULL) != MR_OK ||
            got == 0)
            return 0;
        for (size_t i = 0; i < got; i++)
            lines += block[i] == '\n';
    }
    reader->line += lines;
    reader->lines_counted = true;
    return lines;
}

static void add_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                    const char *reason)
{
    struct mr_reader *reader = arg;
    struct mr_position there = *position;

    there.record += lines_before(reader);
    mr_bad_records_add(reader->bad, &there, raw, reason);
}

/* Drops what belongs to the piece before. */
static void skip_to_record(struct mr_reader *reader)
{
    const char *newline =
        reader->rest.size > 0 ? memchr(reader->rest.data, '\n', reader->rest.size) : NULL;
    size_t size = newline != NULL ? (size_t)(newline - reader->rest.data) + 1 : reader->rest.size;

    memmove(reader->rest.data, reader->rest.data + size, reader->rest.size - size);
    reader->rest.size -= size;
    reader->rest_begin += size;
    reader->in_record = newline == NULL;
}

static enum mr_status decode_bytes(struct mr_reader *reader, size_t whole, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    struct mr_position position = {file->path, reader->line, reader->rest_begin};
    struct mr_slice bytes = {reader->rest.data, whole};
    enum mr_status status = reader->source->format->decode(reader->decoder, bytes, &position,
                                                           reader->builder, add_bad, reader, err);

    if (status == MR_OK || reader->lines_counted)
        return status;
    /* Again, with the number of the line in the file: only for the error's text. */
    lines_before(reader);
    position.record = reader->line;
    return reader->source->format->decode(reader->decoder, bytes, &position, reader->builder,
                                          add_bad, reader, err);
}

static enum mr_status decode(struct mr_reader *reader, bool at_end, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    size_t whole;

    if (reader->in_record)
        skip_to_record(reader);
    whole = at_end || reader->rest.size == 0 ? reader->rest.size : cut(reader);
    if (whole == 0 && reader->rest.size > MR__FILE_RECORD_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot read '%s': the record in line %" PRIu64 " is longer than %d MiB",
                       file->path, reader->line, MR__FILE_RECORD_BYTES_MAX >> 20);
    if (whole == 0)
        return MR_OK;
    MR_TRY(decode_bytes(reader, whole, err));
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

/* Reads up to want bytes of the file behind what is in out, none at limit or later. */
static enum mr_status read_bytes(struct mr_reader *reader, size_t want, uint64_t limit,
                                 struct mr_buf *out, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    size_t got;

    want = (size_t)MR_MIN(limit - reader->offset, (uint64_t)want);
    if (!mr_buf_reserve(out, want + 1))
        return no_memory(err);
    MR_TRY(mr_env_pread(reader->source->env, reader->file, out->data + out->size, want,
                        reader->offset, &got, err));
    if (got < want && !MR_MUTANT("file-read.bytes.shorter"))
        return MR_FAIL(err, MR_DATA_LOSS, "cannot read '%s': it became shorter while it was read",
                       file->path);
    out->size += got;
    reader->offset += got;
    return MR_OK;
}

/* The last record of a piece may go on in the next one: what is left has no '\n' yet. */
static enum mr_status finish_record(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];

    while (reader->rest.size > 0 && !reader->in_record) {
        size_t known = reader->rest.size;
        const char *newline;

        MR_TRY(read_bytes(reader, REST_BYTES, file->size_bytes, &reader->rest, err));
        newline = reader->rest.size > known
                      ? memchr(reader->rest.data + known, '\n', reader->rest.size - known)
                      : NULL;
        if (newline != NULL || reader->offset == file->size_bytes)
            return decode_bytes(reader,
                                newline != NULL ? (size_t)(newline - reader->rest.data) + 1
                                                : reader->rest.size,
                                err);
        MR_TRY(decode(reader, false, err)); /* only to see whether it is too long */
    }
    return MR_OK;
}

static enum mr_status read_block(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr__file *file = &reader->files.items[reader->next];
    bool at_end;

    if (reader->unpacker == NULL) {
        MR_TRY(read_bytes(reader, MR__FILE_BLOCK_BYTES, reader->end, &reader->rest, err));
    } else {
        mr_buf_clear(&reader->packed);
        MR_TRY(read_bytes(reader, PACKED_BYTES, reader->end, &reader->packed, err));
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
    if (reader->offset < reader->end)
        return MR_OK;
    if (!at_end)
        MR_TRY(finish_record(reader, err));
    end_piece(reader);
    return MR_OK;
}

/* ---- rows ---- */

static enum mr_status next_of_whole(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    while (reader->pieces_left > 0) {
        if (reader->file == NULL)
            MR_TRY(open_next(reader, err));
        MR_TRY(reader->source->format->file_reader_next(reader->whole, ret_batch, err));
        if (*ret_batch != NULL)
            return MR_OK;
        end_piece(reader);
    }
    return MR_OK;
}

enum mr_status mr__file_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    *ret_batch = NULL;
    if (reads_whole(reader))
        return next_of_whole(reader, ret_batch, err);
    while (reader->pieces_left > 0 &&
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
