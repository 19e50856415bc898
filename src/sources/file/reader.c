/*
 * Reads one partition of a batch: its pieces one after another (offset.c draws them).
 *
 * Record formats are read in blocks. A piece of a large file owns the records that begin behind its
 * first record end and up to the first record end at or after its own end, so neighbours agree
 * without talking:
 *
 *     file   aaaa\n bbbbbbbb\n cccc\n dddd\n
 *     cut             ^ piece 1 starts here in bytes, and with "cccc" in records
 *
 *     SEEK   -- a '\n' was found -->  BLOCKS  -- end of the piece -->  next piece
 *       ^------- record too long, on_error skips it -------'
 *
 * A file must be what it was when it was planned (size, time, inode): looked at before the first
 * and after the last block. Line numbers are only needed for bad records, so they are counted when
 * one is met.
 *
 * Thread: the one that opened the reader.
 */
#include "sources/file/file_source.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct mr_reader {
    const struct mr_fsrc_reading *reading;
    struct mr_fsrc_range *range;
    size_t piece_at;
    size_t piece_end;
    struct mr_decoder *decoder;
    struct mr_batch_builder *builder;
    struct mr_bad_records *bad;

    const struct mr_fsrc_file *rows_of; /* the file of what was read last */

    /* The open piece: */
    const struct mr_fsrc_piece *piece; /* NULL = none is open */
    struct mr_file *file;
    void *whole;   /* the format's reader of a whole file */
    bool seeking;  /* no record begins in the buffer before the next '\n' */
    bool finished; /* nothing of the piece is left */
    char *data;    /* bytes [data_offset, data_offset + data_bytes) of the file */
    size_t data_bytes;
    size_t data_capacity;
    uint64_t data_offset;
    uint64_t counted_offset; /* '\n' before this byte of the file: counted_lines */
    uint64_t counted_lines;
};

static enum mr_status piece_changed(const struct mr_fsrc_file *file, const char *how,
                                    struct mr_error *err)
{
    return MR_FAIL(err, MR_SOURCE_CHANGED,
                   "cannot read '%s': %s after it was planned; write files elsewhere and rename "
                   "them into place when "
                   "they are complete",
                   file->path, how);
}

static enum mr_status check_unchanged(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr_fsrc_file *file = reader->piece->file;
    struct mr_env *env = reader->reading->env;
    struct mr_file_info info;
    enum mr_status status;

    status = reader->file != NULL ? mr_env_file_info(env, reader->file, &info, err)
                                  : mr_env_path_info(env, file->path, true, &info, err);
    if (status == MR_NOT_FOUND)
        return piece_changed(file, "it was removed", err);
    MR_TRY(status);
    if (info.size_bytes != file->size_bytes && !MR_MUTANT("file-source.unchanged.size"))
        return piece_changed(file, "its size changed", err);
    if (info.inode != file->inode && !MR_MUTANT("file-source.unchanged.inode"))
        return piece_changed(file, "it was replaced", err);
    if (info.mtime_ns != file->mtime_ns && !MR_MUTANT("file-source.unchanged.mtime"))
        return piece_changed(file, "it was written to", err);
    return MR_OK;
}

static enum mr_status open_record_piece(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr_fsrc_piece *piece = reader->piece;
    enum mr_status status;

    status = mr_env_open(reader->reading->env, piece->file->path, MR_FILE_READ, &reader->file, err);
    if (status == MR_NOT_FOUND)
        return piece_changed(piece->file, "it was removed", err);
    MR_TRY(status);
    reader->seeking = piece->from > 0;
    reader->data_offset = piece->from;
    reader->data_bytes = 0;
    reader->counted_offset = 0;
    reader->counted_lines = 0;
    return MR_OK;
}

static enum mr_status open_piece(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr_format *format = reader->reading->format;

    reader->piece = &reader->range->pieces[reader->piece_at];
    reader->finished = false;
    if (!format->whole_files)
        MR_TRY(open_record_piece(reader, err));
    /* redundant: close_piece looks again, before the batch is staged */
    if (!MR_MUTANT("file-source.open.unchanged"))
        MR_TRY(check_unchanged(reader, err));
    if (format->whole_files)
        MR_TRY(format->file_reader_new(reader->piece->file->path, &reader->reading->decoder,
                                       &reader->whole, err));
    return MR_OK;
}

static void drop_piece(struct mr_reader *reader)
{
    if (reader->file != NULL)
        mr_env_close(reader->reading->env, reader->file);
    if (reader->whole != NULL)
        reader->reading->format->file_reader_free(reader->whole);
    reader->file = NULL;
    reader->whole = NULL;
    reader->piece = NULL;
}

static enum mr_status close_piece(struct mr_reader *reader, struct mr_error *err)
{
    if (!MR_MUTANT("file-source.close.unchanged"))
        MR_TRY(check_unchanged(reader, err));
    drop_piece(reader);
    reader->piece_at++;
    return MR_OK;
}

/* ---- blocks of record formats ---- */

/* The room of the buffer; it starts at one block and doubles up to the longest record. */
static enum mr_status grow(struct mr_reader *reader, struct mr_error *err)
{
    size_t capacity = reader->data_capacity == 0 ? FSRC_BLOCK_BYTES : reader->data_capacity * 2;
    char *data = mr_realloc(NULL, reader->data, capacity);

    if (data == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", reader->piece->file->path);
    reader->data = data;
    reader->data_capacity = capacity;
    return MR_OK;
}

/* Fills the buffer, never past the planned size. */
static enum mr_status fill(struct mr_reader *reader, struct mr_error *err)
{
    const struct mr_fsrc_file *file = reader->piece->file;
    uint64_t from = reader->data_offset + reader->data_bytes;
    uint64_t left = file->size_bytes - from;
    size_t wanted = (size_t)MR_MIN((uint64_t)(reader->data_capacity - reader->data_bytes), left);
    size_t got = 0;

    if (wanted == 0)
        return MR_OK;
    MR_TRY(mr_env_pread(reader->reading->env, reader->file, reader->data + reader->data_bytes,
                        wanted, from, &got, err));
    if (got < wanted)
        return piece_changed(file, "it became shorter", err);
    reader->data_bytes += got;
    return MR_OK;
}

static void consume(struct mr_reader *reader, size_t size_bytes)
{
    reader->data_bytes -= size_bytes;
    reader->data_offset += size_bytes;
    memmove(reader->data, reader->data + size_bytes, reader->data_bytes);
}

/* SEEK: throws bytes away up to the next record end. */
static enum mr_status seek_record(struct mr_reader *reader, struct mr_error *err)
{
    uint64_t size = reader->piece->file->size_bytes;

    while (reader->seeking && !reader->finished) {
        const char *end = memchr(reader->data, '\n', reader->data_bytes);
        uint64_t at;

        if (end == NULL) {
            consume(reader, reader->data_bytes);
            if (reader->data_offset >= size)
                reader->finished = true;
            else
                MR_TRY(fill(reader, err));
            continue;
        }
        at = reader->data_offset + (uint64_t)(end - reader->data);
        consume(reader, (size_t)(end - reader->data) + 1);
        reader->seeking = false;
        if (reader->piece->to < size && at >= reader->piece->to)
            reader->finished = true; /* the record that ended here spans the whole piece */
    }
    return MR_OK;
}

/* Bytes of whole records at the beginning of the buffer, 0 = none; sets finished when they are the
 * last of the piece. */
static size_t cut_block(struct mr_reader *reader)
{
    const struct mr_fsrc_piece *piece = reader->piece;
    const struct mr_format *format = reader->reading->format;
    uint64_t available = reader->data_offset + reader->data_bytes;
    const char *end;

    if (piece->to < piece->file->size_bytes && available > piece->to) {
        size_t limit = (size_t)(piece->to - reader->data_offset);

        end = memchr(reader->data + limit, '\n', reader->data_bytes - limit);
        if (end != NULL) {
            reader->finished = true;
            return (size_t)(end - reader->data) + 1;
        }
    }
    if (available == piece->file->size_bytes) {
        reader->finished = true;
        return reader->data_bytes;
    }
    if (format->cut != NULL)
        return format->cut(reader->reading->decoder.options,
                           (struct mr_slice){reader->data, reader->data_bytes});
    end = memrchr(reader->data, '\n', reader->data_bytes);
    return end != NULL ? (size_t)(end - reader->data) + 1 : 0;
}

/* Line ends before the first byte of the buffer. The file is read again from where it was counted
 * before. */
static enum mr_status lines_before(struct mr_reader *reader, uint64_t *ret_lines,
                                   struct mr_error *err)
{
    enum { COUNT_BYTES = 65536 };
    char *data = NULL;
    enum mr_status status = MR_OK;

    if (reader->counted_offset == reader->data_offset) {
        *ret_lines = reader->counted_lines;
        return MR_OK;
    }
    data = mr_alloc(NULL, COUNT_BYTES);
    if (data == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot count the lines of '%s': out of memory",
                       reader->piece->file->path);
    while (reader->counted_offset < reader->data_offset) {
        size_t wanted =
            (size_t)MR_MIN((uint64_t)COUNT_BYTES, reader->data_offset - reader->counted_offset);
        size_t got = 0;

        MR_TRY_GOTO(mr_env_pread(reader->reading->env, reader->file, data, wanted,
                                 reader->counted_offset, &got, err));
        if (got == 0)
            break;
        for (const char *at = data; (at = memchr(at, '\n', got - (size_t)(at - data))) != NULL;
             at++)
            reader->counted_lines++;
        reader->counted_offset += got;
    }
    *ret_lines = reader->counted_lines;
done:
    mr_free(data);
    return status;
}

static void add_bad(void *arg, const struct mr_position *position, struct mr_slice raw,
                    const char *reason)
{
    struct mr_reader *reader = arg;
    struct mr_position there = *position;
    uint64_t lines = 0;

    /* When the lines cannot be counted the number is that within the block: better than losing the
     * record. */
    if (lines_before(reader, &lines, NULL) == MR_OK)
        there.record += lines;
    mr_bad_records_add(reader->bad, &there, raw, reason);
}

static enum mr_status decode_block(struct mr_reader *reader, size_t size_bytes,
                                   struct mr_error *err)
{
    const struct mr_format *format = reader->reading->format;
    struct mr_slice block = {reader->data, size_bytes};
    struct mr_position position = {reader->piece->file->path, 1, reader->data_offset};
    struct mr_batch_builder *scratch = NULL;
    uint64_t lines = 0;
    enum mr_status status;

    status =
        format->decode(reader->decoder, block, &position, reader->builder, add_bad, reader, err);
    if (status != MR_BAD_DATA || reader->data_offset == 0 ||
        lines_before(reader, &lines, NULL) != MR_OK)
        return status;
    /* Once more, only for the error's text: now with the line number of the file instead of the
     * block. */
    position.record += lines;
    if (mr_batch_builder_new(reader->reading->decoder.schema, &scratch, NULL) != MR_OK)
        return status;
    if (err != NULL)
        mr_error_clear(err);
    status = format->decode(reader->decoder, block, &position, scratch, add_bad, reader, err);
    mr_batch_builder_free(scratch);
    return status == MR_OK ? MR_FAIL(err, MR_INTERNAL,
                                     "cannot decode '%s': two answers for one block", position.name)
                           : status;
}

static enum mr_status refuse_long_record(struct mr_reader *reader, struct mr_error *err)
{
    struct mr_position position = {reader->piece->file->path, 1, reader->data_offset};
    uint64_t lines = 0;
    char reason[96];

    snprintf(reason, sizeof(reason), "record is longer than max_line_bytes = %" PRIu64,
             reader->reading->line_bytes_max);
    if (reader->reading->decoder.on_error == MR_ON_ERROR_FAIL) {
        MR_TRY(lines_before(reader, &lines, err));
        return MR_FAIL(err, MR_BAD_DATA, "%s:%" PRIu64 ": %s; set it higher, or on_error = 'skip'",
                       position.name, lines + 1, reason);
    }
    add_bad(reader, &position, (struct mr_slice){reader->data, reader->data_bytes}, reason);
    reader->seeking = true;
    return MR_OK;
}

/* Reads and decodes one block of the open piece into the builder. */
static enum mr_status next_block(struct mr_reader *reader, struct mr_error *err)
{
    size_t size_bytes = 0;

    if (reader->data_capacity == 0)
        MR_TRY(grow(reader, err));
    MR_TRY(fill(reader, err));
    MR_TRY(seek_record(reader, err));
    while (!reader->finished) {
        MR_TRY(fill(reader, err));
        size_bytes = cut_block(reader);
        if (size_bytes > 0 || reader->finished)
            break;
        if (reader->data_bytes >= reader->reading->line_bytes_max)
            return refuse_long_record(reader, err);
        if (reader->data_bytes == reader->data_capacity)
            MR_TRY(grow(reader, err));
    }
    if (size_bytes == 0)
        return MR_OK;
    MR_TRY(decode_block(reader, size_bytes, err));
    consume(reader, size_bytes);
    return MR_OK;
}

/* ---- the reader ---- */

enum mr_status mr_fsrc_reader_new(const struct mr_fsrc_reading *reading,
                                  struct mr_fsrc_range *range, uint32_t partition,
                                  struct mr_reader **ret_reader, struct mr_error *err)
{
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    enum mr_status status;

    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read source '%s': out of memory", reading->name);
    reader->reading = reading;
    reader->range = mr_fsrc_range_ref(range);
    mr_fsrc_range_partition(range, partition, &reader->piece_at, &reader->piece_end);
    if (!reading->format->whole_files)
        MR_TRY_GOTO(reading->format->decoder_new(&reading->decoder, &reader->decoder, err));
    MR_TRY_GOTO(mr_batch_builder_new(reading->decoder.schema, &reader->builder, err));
    MR_TRY_GOTO(mr_bad_records_new(reading->name, reading->decoder.on_error, &reader->bad, err));
    *ret_reader = reader;
    reader = NULL;
done:
    mr_fsrc_reader_close(reader);
    return status;
}

void mr_fsrc_reader_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    drop_piece(reader);
    if (reader->decoder != NULL)
        reader->reading->format->decoder_free(reader->decoder);
    mr_batch_builder_free(reader->builder);
    mr_bad_records_free(reader->bad);
    mr_fsrc_range_unref(reader->range);
    mr_free(reader->data);
    mr_free(reader);
}

/* One step: a batch of a whole file, or a block of records into the builder; closes the piece at
 * its end. */
static enum mr_status next_step(struct mr_reader *reader, struct mr_batch **ret_batch,
                                struct mr_error *err)
{
    const struct mr_format *format = reader->reading->format;
    struct mr_batch *batch = NULL;
    enum mr_status status = MR_OK;

    if (reader->piece == NULL)
        MR_TRY(open_piece(reader, err));
    reader->rows_of = reader->piece->file;
    if (format->whole_files) {
        MR_TRY(format->file_reader_next(reader->whole, &batch, err));
        reader->finished = batch == NULL;
    } else {
        MR_TRY(next_block(reader, err));
    }
    if (reader->finished)
        status = close_piece(reader, err);
    if (status == MR_OK)
        *ret_batch = batch;
    return status;
}

/* The columns of its directories are those of one file: its rows do not share a batch. */
static bool ends_with_file(const struct mr_reader *reader)
{
    return reader->reading->partitioning.list != NULL && reader->piece == NULL &&
           mr_batch_builder_row_count(reader->builder) > 0;
}

static enum mr_status add_directories(const struct mr_reader *reader, struct mr_batch **batch,
                                      struct mr_error *err)
{
    struct mr_batch *plain = *batch;
    enum mr_status status;

    if (plain == NULL || reader->reading->partitioning.list == NULL)
        return MR_OK;
    status = mr_fsrc_partitioning_apply(&reader->reading->partitioning, reader->rows_of->path,
                                        plain, batch, err);
    mr_batch_unref(plain);
    return status;
}

enum mr_status mr_fsrc_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    /* Small files share a batch: the rest of the pipeline has a price per batch. */
    while (reader->piece != NULL || reader->piece_at < reader->piece_end) {
        MR_TRY(next_step(reader, &batch, err));
        if (ends_with_file(reader))
            break;
        if (batch != NULL || (mr_batch_builder_row_count(reader->builder) > 0 &&
                              mr_batch_builder_bytes(reader->builder) >= FSRC_BLOCK_BYTES / 2))
            break;
    }
    if (batch == NULL && mr_batch_builder_row_count(reader->builder) > 0)
        MR_TRY(mr_batch_builder_finish(reader->builder, &batch, err));
    MR_TRY(add_directories(reader, &batch, err));
    *ret_batch = batch;
    return MR_OK;
}

enum mr_status mr_fsrc_reader_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                       uint64_t *ret_count, struct mr_error *err)
{
    return mr_bad_records_take(reader->bad, ret_bad, ret_count, err);
}
