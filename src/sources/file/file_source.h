/*
 * Inside of the file source.
 *
 *     listing.c   directories and globs -> candidates offset.c one batch's files <-> offset text,
 *                 pieces, partitions
 *     file.c      options, planning, the seen-set             reader.c   one partition -> batches
 *     clean.c     what becomes of files that were read        partition.c columns from directories
 */
#ifndef MR_SOURCES_FILE_FILE_SOURCE_H
#define MR_SOURCES_FILE_FILE_SOURCE_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"

#include <millrace/ext/bad_records.h>
#include <millrace/ext/source.h>

#include <stdatomic.h>

enum {
    FSRC_CHUNK_BYTES =
        32
        /* a larger file is read in pieces of this size: part of every plan, never change it */
        << 20,
    FSRC_PARTITIONS_MAX = MR_LIMIT_FILE_PARTITIONS,   /* of one batch: likewise */
    FSRC_BATCH_FILES_MAX = MR_LIMIT_FILE_BATCH_FILES, /* their names travel in the PLAN record */
    FSRC_DEPTH_MAX = MR_LIMIT_FILE_DIRECTORY_DEPTH,   /* of recursive listing */
    FSRC_BLOCK_BYTES = 1 << 20,                       /* read and decoded at once */
};

/* A file as it was when it was planned. */
struct mr_fsrc_file {
    char *path;
    uint64_t size_bytes;
    int64_t mtime_ns;
    uint64_t inode;
};

/* A growing array of files; paths are owned. */
struct mr_fsrc_files {
    struct mr_fsrc_file *items;
    size_t count;
    size_t capacity;
};

void mr_fsrc_files_release(struct mr_fsrc_files *files);
/* Copies path. */
enum mr_status mr_fsrc_files_add(struct mr_fsrc_files *files, const char *path,
                                 const struct mr_file_info *info, struct mr_error *err);

struct mr_fsrc_pattern {
    const char *path;      /* directory, file or glob */
    const char *name_glob; /* NULL = all names */
    bool recursive;
};

/* Called for each path of the pattern, in no order. */
typedef enum mr_status (*mr_fsrc_found_fn)(void *arg, const char *path, struct mr_error *err);

/*
 * Names that begin with '.' or '_' and everything but regular files are left out, except that a
 * path without wildcards may name such a file itself. MR_NOT_FOUND when the directory (or what
 * stands before the first wildcard) is missing.
 */
enum mr_status mr_fsrc_list(struct mr_env *env, const struct mr_fsrc_pattern *pattern,
                            mr_fsrc_found_fn found, void *arg, struct mr_error *err);
bool mr_fsrc_is_compressed(const char *path);

/* A part of a file that one reader reads: records that begin in [chunk * FSRC_CHUNK_BYTES, ...), or
 * the whole file. */
struct mr_fsrc_piece {
    const struct mr_fsrc_file *file;
    uint64_t from;
    uint64_t to; /* the file's size in the last (or only) piece */
};

/* The files of one batch, parsed from the offset text. Immutable, shared by reference. */
struct mr_fsrc_range {
    _Atomic unsigned references;
    char *text;
    uint64_t number; /* of the batch, from 0 */
    struct mr_fsrc_files files;
    struct mr_fsrc_piece *pieces;
    size_t piece_count;
    uint32_t partition_count;
    uint64_t total_bytes;
};

/* {"batch":3,"files":[{"p":"in/a.json","s":120,"m":1700000000000000000,"i":12}]}; freed with
 * mr_text_free. */
enum mr_status mr_fsrc_range_print(uint64_t number, const struct mr_fsrc_file *files, size_t count,
                                   char **ret_text, struct mr_error *err);
/* cuttable: files may be cut at record ends, so large ones become several pieces. Returns new. */
enum mr_status mr_fsrc_range_parse(const char *text, bool cuttable,
                                   struct mr_fsrc_range **ret_range, struct mr_error *err);
/* The number of the batch in an offset's text; -1 when it has none. */
int64_t mr_fsrc_range_number(const char *text);
struct mr_fsrc_range *mr_fsrc_range_ref(struct mr_fsrc_range *range);
void mr_fsrc_range_unref(struct mr_fsrc_range *range); /* NULL allowed */
/* Pieces of one partition are [first, end). */
void mr_fsrc_range_partition(const struct mr_fsrc_range *range, uint32_t partition,
                             size_t *ret_first, size_t *ret_end);

/* ---- clean.c ---- */

/* As the choices of the option stand. */
enum mr_fsrc_clean_mode { FSRC_CLEAN_OFF, FSRC_CLEAN_ARCHIVE, FSRC_CLEAN_DELETE };

struct mr_fsrc_clean {
    struct mr_env *env;
    enum mr_fsrc_clean_mode mode;
    const char *archive_dir; /* borrowed; NULL = none */
    char *before;            /* the batch in front of the one that runs; NULL = none */
    char *end;               /* the one that runs */
};

/* Options clean_source and source_archive_dir. MR_CONFIG when they do not go with path. */
enum mr_status mr_fsrc_clean_open(struct mr_fsrc_clean *clean, struct mr_env *env, const char *path,
                                  const struct mr_options *options, struct mr_error *err);
void mr_fsrc_clean_release(struct mr_fsrc_clean *clean);
/* The batch (start, end] is about to run; it is committed: files of the one before go. */
void mr_fsrc_clean_running(struct mr_fsrc_clean *clean, const char *start, const char *end);
void mr_fsrc_clean_committed(struct mr_fsrc_clean *clean, const char *name, const char *end);

/* ---- partition.c ---- */

struct mr_fsrc_partitioning {
    const char *list;           /* borrowed; NULL = no column comes from directories */
    const char *base;           /* they stand below it; NULL = nowhere */
    struct mr_schema *produced; /* what the source gives */
    struct mr_schema *declared; /* what files have: all, and those to read */
    struct mr_schema *schema;
};

/* Option partition_columns. MR_CONFIG when the columns do not do. */
enum mr_status mr_fsrc_partitioning_open(struct mr_fsrc_partitioning *part,
                                         const struct mr_source_args *args, const char *path,
                                         struct mr_error *err);
void mr_fsrc_partitioning_release(struct mr_fsrc_partitioning *part);
/* The rows of one file with the columns of its directories. Returns new. */
enum mr_status mr_fsrc_partitioning_apply(const struct mr_fsrc_partitioning *part, const char *path,
                                          const struct mr_batch *batch, struct mr_batch **ret_batch,
                                          struct mr_error *err);

/* What a reader needs to know of its source. */
struct mr_fsrc_reading {
    struct mr_env *env;
    const char *name;
    const struct mr_format *format;
    struct mr_decoder_args decoder;
    struct mr_fsrc_partitioning partitioning;
    uint64_t line_bytes_max;
};

/* Shares range. Returns new. */
enum mr_status mr_fsrc_reader_new(const struct mr_fsrc_reading *reading,
                                  struct mr_fsrc_range *range, uint32_t partition,
                                  struct mr_reader **ret_reader, struct mr_error *err);
enum mr_status mr_fsrc_reader_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                   struct mr_error *err);
enum mr_status mr_fsrc_reader_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                       uint64_t *ret_count, struct mr_error *err);
void mr_fsrc_reader_close(struct mr_reader *reader);

#endif
