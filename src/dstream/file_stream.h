/*
 * Inside of file streams: streams of new files in directories, chosen by modification time (FILE-1
 * .. FILE-11).
 *
 *     file_stream.c   building calls, planning, what is remembered
 *     file_list.c     the files of a batch: list, offset text, search in directories
 *     file_read.c     files -> rows: records of a format, whole files, records of a fixed length
 *     unpack.c        compressed files
 */
#ifndef MR_DSTREAM_FILE_STREAM_H
#define MR_DSTREAM_FILE_STREAM_H

#include "base/limits.h"
#include "dstream/streams.h"

enum {
    MR__BATCH_FILES_MAX = MR_LIMIT_DSTREAM_BATCH_FILES, /* their names travel in the PLAN record */
    MR__FILE_PARTITIONS_MAX = MR_LIMIT_DSTREAM_FILE_PARTITIONS,
    MR__FILE_BLOCK_BYTES = 1 << 20,
    MR__FILE_PIECE_BYTES = 16 << 20, /* large files of lines are read in pieces, by several tasks */
    MR__FILE_RECORD_BYTES_MAX = MR_LIMIT_DSTREAM_FILE_RECORD,
};

struct mr__file {
    const char *path; /* in the list's arena */
    uint64_t size_bytes;
};

/* The files of one batch, in the order of their paths. */
struct mr__files {
    struct mr_arena arena;
    struct mr__file *items;
    size_t count;
    size_t capacity;
    int64_t start_ms; /* files up to here are never read */
};

void mr__files_release(struct mr__files *files);
/*
 * The offset of a batch:
 *     {"start":1767225600000,"time":1767225602000,"files":[{"p":"in/a.txt","s":120}]}
 * mr_text_free; NULL without memory.
 */
char *mr__files_print(const struct mr__files *files, int64_t time_ms);
/* *ret_files is released by the caller, also on failure. */
enum mr_status mr__files_parse(const char *text, struct mr__files *ret_files, int64_t *ret_time_ms,
                               struct mr_error *err);

/* What the program asked for; the stream's own. */
struct mr__file_spec {
    char *dir; /* a directory, or a glob of directories */
    bool (*filter)(const char *path, void *arg);
    void *filter_arg;
    int64_t built_ms;     /* when the stream was built; 0 = all files */
    int64_t record_bytes; /* of records of a fixed length; 0 = a format decodes */
};

struct mr_source {
    struct mr_env *env;
    struct mr_kv *kv;
    char *name;
    const struct mr__file_spec *spec; /* the stream's */
    int64_t remember_ms;
    int64_t interval_ms;
    bool warned; /* the last search met directories that cannot be listed */
    const struct mr_format *format;
    const struct mr_options *options; /* the graph's */
    struct mr_schema *schema;
    enum mr_on_error on_error;
};

/* Appends the files that batch time_ms reads, by path; only MR_NOMEM is a failure (FILE-9). */
enum mr_status mr__files_search(struct mr_source *source, int64_t time_ms, struct mr__files *files,
                                struct mr_error *err);
/* FILE-3: the number of batches that is at least remember_ms long. */
int64_t mr__file_batches(int64_t remember_ms, int64_t interval_ms);
/*
 * Pieces: a file whose records end with '\n' and that is not compressed is cut every
 * MR__FILE_PIECE_BYTES; a record belongs to the piece in which it begins. Others are one piece.
 */
uint64_t mr__file_pieces(const struct mr_source *source, const struct mr__file *file);
uint64_t mr__file_pieces_of(const struct mr_source *source, const struct mr__files *files);
uint32_t mr__file_partitions(const struct mr_source *source, const struct mr__files *files);

/* Readers: the operations of the source. Any worker. */
enum mr_status mr__file_reader_new(struct mr_source *source, const char *end, uint32_t partition,
                                   struct mr_reader **ret_reader, struct mr_error *err);
enum mr_status mr__file_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err);
enum mr_status mr__file_reader_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                        uint64_t *ret_count, struct mr_error *err);
void mr__file_reader_close(struct mr_reader *reader);

/* ---- unpack.c ---- */

struct mr__unpacker;
/* *ret_unpacker NULL: the name says that the file is not compressed. MR_CONFIG for a compression
 * that this build cannot read. */
enum mr_status mr__unpacker_new(const char *path, struct mr__unpacker **ret_unpacker,
                                struct mr_error *err);
/* Appends what size bytes of the file unpack to. MR_BAD_DATA, MR_LIMIT. */
enum mr_status mr__unpack(struct mr__unpacker *unpacker, const char *data, size_t size,
                          struct mr_buf *out, struct mr_error *err);
/* Does the name say so? */
bool mr__is_compressed(const char *path);
/* Is everything given so far whole? Else the file was cut. */
bool mr__unpacker_at_end(const struct mr__unpacker *unpacker);
void mr__unpacker_free(struct mr__unpacker *unpacker); /* NULL allowed */

#endif
