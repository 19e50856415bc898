/*
 * Formats: bytes to batches and back. Implemented by src/formats (json, csv, text, raw) and
 * src/duck (parquet).
 *
 * A record format turns bytes with many records (one a line) into rows; sources of bytes (file,
 * socket, stdin, kafka) use it. A file format reads and writes whole files (parquet).
 */
#ifndef MILLRACE_EXT_FORMAT_H
#define MILLRACE_EXT_FORMAT_H

#include <millrace/batch.h>
#include <millrace/ext/env.h>
#include <millrace/ext/options.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What to do with a record that cannot be decoded (on_error = ...). */
enum mr_on_error { MR_ON_ERROR_FAIL, MR_ON_ERROR_SKIP, MR_ON_ERROR_ROUTE };

/* Where a run of bytes came from, for error texts: "part-1.json:12", "topic clicks/0 offset 17". */
struct mr_position {
    const char *name;     /* file, peer or topic and partition */
    uint64_t record;      /* number of the first record (1-based line, or offset) */
    uint64_t byte_offset; /* of the first byte within name */
};

struct mr_decoder_args {
    const struct mr_schema *declared; /* all columns as the table declares them (csv positions) */
    /* the columns to produce: a subset of declared, in its order */
    const struct mr_schema *schema;
    const struct mr_options *options; /* has the format's own options */
    enum mr_on_error on_error;
};

/* Bad records of one call: filled by decoders. raw is cut at MR_BAD_RAW_BYTES_MAX. */
enum { MR_BAD_RAW_BYTES_MAX = 65536 };
typedef void (*mr_bad_record_fn)(void *arg, const struct mr_position *position, struct mr_slice raw,
                                 const char *reason);

struct mr_decoder; /* one per reader; one thread at a time */

struct mr_format {
    size_t struct_size;
    const char *name; /* "json" */
    const char *summary;
    const struct mr_option *options;
    size_t option_count;
    bool whole_files; /* true: only open_file / new_file_writer below */

    /* Schema to use when the table declares none (text: one column `value`), or NULL. Borrowed,
     * static. */
    const struct mr_schema *(*fixed_schema)(void);
    enum mr_status (*check)(const struct mr_schema *declared, const struct mr_options *options,
                            bool sink,
                            struct mr_error *err); /* can this format carry these types */

    enum mr_status (*decoder_new)(const struct mr_decoder_args *args,
                                  struct mr_decoder **ret_decoder, struct mr_error *err);
    void (*decoder_free)(struct mr_decoder *decoder);
    /*
     * Decodes all records in data (records end with '\n'; the last may lack it) and appends rows to
     * builder. A bad record, by policy: MR_BAD_DATA with position; or skipped and reported through
     * bad (never NULL for SKIP and ROUTE). csv with a header skips it when position->byte_offset is
     * 0. UTF-8 is checked for text columns.
     */
    enum mr_status (*decode)(struct mr_decoder *decoder, struct mr_slice data,
                             const struct mr_position *position, struct mr_batch_builder *builder,
                             mr_bad_record_fn bad, void *bad_arg, struct mr_error *err);
    /* Where to cut so that only whole records come before: index after the last record end in data,
     * 0 = none. NULL = '\n'. data begins at a record boundary (csv quotes). options: of the table;
     * NULL = defaults. */
    size_t (*cut)(const struct mr_options *options, struct mr_slice data);

    /* Encodes rows as records; calls write any number of times. first: nothing of this file was
     * written yet (csv header). */
    enum mr_status (*encode)(const struct mr_options *options, const struct mr_batch *batch,
                             bool first,
                             enum mr_status (*write)(void *arg, const void *data, size_t size_bytes,
                                                     struct mr_error *err),
                             void *arg, struct mr_error *err);

    /* Whole files. The reader gives batches until *ret_batch is NULL. */
    enum mr_status (*file_reader_new)(const char *path, const struct mr_decoder_args *args,
                                      void **ret_reader, struct mr_error *err);
    enum mr_status (*file_reader_next)(void *reader, struct mr_batch **ret_batch,
                                       struct mr_error *err);
    void (*file_reader_free)(void *reader);
    enum mr_status (*file_schema)(const char *path, struct mr_schema **ret_schema,
                                  struct mr_error *err);
    /* Writes batches to path (a staged file that exists and is empty). */
    enum mr_status (*file_writer_new)(const char *path, const struct mr_schema *schema,
                                      const struct mr_options *options, void **ret_writer,
                                      struct mr_error *err);
    enum mr_status (*file_writer_write)(void *writer, const struct mr_batch *batch,
                                        struct mr_error *err);
    /* flushes; frees also on failure */
    enum mr_status (*file_writer_close)(void *writer, struct mr_error *err);
    const char *extension; /* "json", "parquet": of files that a sink writes */
    /* Records can only be read with the columns they were written with: the kernel keeps these
     * beside received blocks, and refuses others. */
    bool exact_columns;
};

/* The registry: filled at start by the front ends (mr_format_register), read by plug-ins. NULL when
 * there is none. */
MR_API void mr_format_register(const struct mr_format *format);
MR_API const struct mr_format *mr_format_find(const char *name);
MR_API const struct mr_format *mr_format_at(size_t index); /* NULL past the end */

#ifdef __cplusplus
}
#endif
#endif
