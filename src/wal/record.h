/*
 * The record frame shared by every log and every file of a checkpoint.
 *
 *     0      4       6     7     8        16       24              24+n
 *     +------+-------+-----+-----+--------+--------+---------------+
 *     | len  | magic | kind| ver | chain  | sum    | payload (len) |   little-endian
 *     +------+-------+-----+-----+--------+--------+---------------+
 *
 *   len    payload bytes, 1 .. limit; checked against both before anything is allocated
 *   magic  0x4d52 ("MR"); a byte-swapped magic means a file of another endianness (MR_VERSION, B20)
 *   kind   what the payload is: a record of one kind never reads as another (B6)
 *   chain  binds the record to its place: the sum of the record before it
 *   sum    XXH3-64 of the payload, seeded with the XXH3-64 of bytes 0..16
 *
 * Readers say why a record is bad.
 */
#ifndef MR_WAL_RECORD_H
#define MR_WAL_RECORD_H

#include "base/buf.h"
#include "base/limits.h"

enum { MR_RECORD_HEADER_BYTES = 24, MR_RECORD_BYTES_MAX = MR_LIMIT_LOG_RECORD };

enum mr_record_kind {
    MR_RECORD_SEGMENT = 1, /* first record of a log segment */
    MR_RECORD_EPOCH = 2,
    MR_RECORD_PLAN = 3,
    MR_RECORD_DELTA = 4, /* state delta inside the batch log */
    MR_RECORD_COMMIT = 5,
    MR_RECORD_BLOCK = 6,     /* received block */
    MR_RECORD_FILE_HEAD = 7, /* state files: delta, snapshot */
    MR_RECORD_GROUP = 8,     /* one key group of a state file */
    MR_RECORD_FILE_FOOT = 9,
    MR_RECORD_MANIFEST = 10, /* operator manifest */
    MR_RECORD_QUERY = 11,    /* identity of the query */
    MR_RECORD_NEXT = 12,     /* last record of a log segment: the log goes on in the next one */
    MR_RECORD_CLOSE = 13,    /* clean shutdown: everything before it is proven to be synced */
};

enum mr_record_result {
    MR_RECORD_OK,
    MR_RECORD_END,       /* nothing but zeros follow, or no bytes left */
    MR_RECORD_TRUNCATED, /* the bytes end inside the record */
    MR_RECORD_BAD_MAGIC,
    MR_RECORD_BAD_LENGTH,
    MR_RECORD_BAD_SUM,
    MR_RECORD_BAD_CHAIN,
    MR_RECORD_WRONG_ENDIAN,
    MR_RECORD_BAD_VERSION,
};

struct mr_record {
    enum mr_record_kind kind;
    uint8_t version;
    uint64_t chain;
    uint64_t sum;
    struct mr_slice_bytes {
        const uint8_t *data;
        size_t size_bytes;
    } payload;
};

/* Appends a framed record; *ret_sum (may be NULL) gets its checksum. */
void mr_record_append(struct mr_buf *out, enum mr_record_kind kind, uint8_t version, uint64_t chain,
                      const void *payload, size_t payload_bytes, uint64_t *ret_sum);
/*
 * The same without a payload of its own: begin leaves room for the header, the caller appends the
 * payload, finish frames what came since. begin returns where the record starts.
 */
size_t mr_record_begin(struct mr_buf *out);
void mr_record_finish(struct mr_buf *out, size_t start, enum mr_record_kind kind, uint8_t version,
                      uint64_t chain, uint64_t *ret_sum);
/* The same in place: the header before payload_bytes that stand behind it. */
void mr_record_frame(uint8_t header[MR_RECORD_HEADER_BYTES], enum mr_record_kind kind,
                     uint8_t version, uint64_t chain, size_t payload_bytes, uint64_t *ret_sum);
/*
 * Reads the record at the start of data; *ret_record borrows from data; *ret_size gets header +
 * payload bytes.
 */
enum mr_record_result mr_record_read(const void *data, size_t size_bytes, uint64_t chain,
                                     struct mr_record *ret_record, size_t *ret_size);
const char *mr_record_result_text(enum mr_record_result result);

#endif
