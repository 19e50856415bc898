/*
 * Object files: rows in the row codec, with their columns in the file (mr_save_as_object_files,
 * mr_rdd_save_as_object_file, mr_rdd_object_file).
 *
 *     file    header, block ..., end
 *     header  "MRROWS\r\n"  version u32 = 1  size u32  columns ("key VARCHAR, value BIGINT")  XXH3
 *     block   rows u32 (> 0)  size u32  rows in the value form of row_codec.h               XXH3
 *     end     0 u32  8 u32  rows of the whole file u64                                       XXH3
 *
 * Numbers are little-endian; each checksum is a u64 over its part from the first byte on, so a file
 * that was cut, at any byte, or changed is MR_BAD_DATA. The same rows in the same batches give the
 * same bytes.
 *
 * Writing appends to a buffer: whoever writes decides when the bytes go to a file. Thread: the
 * owner's.
 */
#ifndef MR_DATA_OBJECT_FILE_H
#define MR_DATA_OBJECT_FILE_H

#include "base/buf.h"
#include "base/limits.h"

#include <millrace/batch.h>
#include <millrace/ext/env.h>

enum {
    MR_OBJECT_VERSION = 1,
    MR_OBJECT_BLOCK_BYTES = 1 << 20, /* a block is ended behind the row that reaches this */
    MR_OBJECT_BLOCK_BYTES_MAX = MR_LIMIT_OBJECT_BLOCK,
    MR_OBJECT_HEADER_BYTES_MAX = MR_LIMIT_OBJECT_HEADER,
};

/* A failure (memory, MR_OBJECT_BLOCK_BYTES_MAX passed by one row) sets out->failed. */
void mr_object_begin(struct mr_buf *out, const struct mr_schema *schema);
void mr_object_add(struct mr_buf *out, const struct mr_batch *batch);
/* row_count: of all that was added. */
void mr_object_end(struct mr_buf *out, uint64_t row_count);

/* Reads a file block by block; a block is a batch. MR_NOT_FOUND, MR_BAD_DATA with the path and what
 * is wrong, MR_VERSION for a newer version. */
struct mr_object_reader;
enum mr_status mr_object_open(struct mr_env *env, const char *path,
                              struct mr_object_reader **ret_reader, struct mr_error *err);
/* Borrowed. */
const struct mr_schema *mr_object_schema(const struct mr_object_reader *reader);
/* *ret_batch NULL: the end, and the file is whole. Returns new. */
enum mr_status mr_object_next(struct mr_object_reader *reader, struct mr_batch **ret_batch,
                              struct mr_error *err);
void mr_object_close(struct mr_object_reader *reader); /* NULL allowed */

#endif
