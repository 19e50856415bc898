/*
 * The record frame; see record.h for the drawing.
 *
 * Called by every reader and writer of a checkpoint: logs (segment.c), state parts, the identity
 * file.  A record that passes mr_record_read is whole and in its place; anything else comes back as
 * a reason, never as a shorter record.
 *
 * Invariant: every bit of a record is either compared (magic, chain), checked against the room
 * (len), or covered by the sum; so each single flipped bit changes the result.
 *
 * Threads: pure functions.
 */
#include "wal/record.h"

#include "base/check.h"
#include "base/hash.h"
#include "base/mutant.h"

#include <string.h>

#include "base/banned.h"

enum { MAGIC = 0x4d52, MAGIC_SWAPPED = 0x524d, SUMMED_HEADER_BYTES = 16 };

static uint64_t get_u64(const uint8_t *at)
{
    uint64_t value = 0;

    for (unsigned i = 8; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

static void put_u64(uint8_t *at, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t sum_of(const uint8_t *header, const void *payload, size_t payload_bytes)
{
    return mr_hash(payload, payload_bytes, mr_checksum(header, SUMMED_HEADER_BYTES));
}

static void put_header(uint8_t *header, enum mr_record_kind kind, uint8_t version, uint64_t chain,
                       size_t payload_bytes)
{
    for (unsigned i = 0; i < 4; i++)
        header[i] = (uint8_t)(payload_bytes >> (8 * i));
    header[4] = MAGIC & 0xff;
    header[5] = MAGIC >> 8;
    header[6] = (uint8_t)kind;
    header[7] = version;
    put_u64(header + 8, chain);
}

void mr_record_append(struct mr_buf *out, enum mr_record_kind kind, uint8_t version, uint64_t chain,
                      const void *payload, size_t payload_bytes, uint64_t *ret_sum)
{
    uint8_t header[MR_RECORD_HEADER_BYTES];
    uint64_t sum;

    MR_ASSERT(payload_bytes >= 1 && payload_bytes <= MR_RECORD_BYTES_MAX);
    put_header(header, kind, version, chain, payload_bytes);
    sum = sum_of(header, payload, payload_bytes);
    put_u64(header + 16, sum);
    mr_buf_reserve(out, sizeof(header) + payload_bytes);
    mr_buf_add(out, header, sizeof(header));
    mr_buf_add(out, payload, payload_bytes);
    if (ret_sum != NULL)
        *ret_sum = sum;
}

size_t mr_record_begin(struct mr_buf *out)
{
    static const uint8_t header[MR_RECORD_HEADER_BYTES];
    size_t start = out->size;

    mr_buf_add(out, header, sizeof(header));
    return start;
}

void mr_record_frame(uint8_t header[MR_RECORD_HEADER_BYTES], enum mr_record_kind kind,
                     uint8_t version, uint64_t chain, size_t payload_bytes, uint64_t *ret_sum)
{
    uint64_t sum;

    MR_ASSERT(payload_bytes >= 1 && payload_bytes <= MR_RECORD_BYTES_MAX);
    put_header(header, kind, version, chain, payload_bytes);
    sum = sum_of(header, header + MR_RECORD_HEADER_BYTES, payload_bytes);
    put_u64(header + 16, sum);
    if (ret_sum != NULL)
        *ret_sum = sum;
}

void mr_record_finish(struct mr_buf *out, size_t start, enum mr_record_kind kind, uint8_t version,
                      uint64_t chain, uint64_t *ret_sum)
{
    if (out->failed)
        return;
    MR_ASSERT(out->size > start + MR_RECORD_HEADER_BYTES);
    mr_record_frame((uint8_t *)out->data + start, kind, version, chain,
                    out->size - start - MR_RECORD_HEADER_BYTES, ret_sum);
}

static bool all_zero(const uint8_t *data, size_t size_bytes)
{
    return size_bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, size_bytes - 1) == 0);
}

enum mr_record_result mr_record_read(const void *data, size_t size_bytes, uint64_t chain,
                                     struct mr_record *ret_record, size_t *ret_size)
{
    const uint8_t *at = data;
    struct mr_record record;
    size_t length;
    unsigned magic;

    if (all_zero(at, MR_MIN(size_bytes, (size_t)MR_RECORD_HEADER_BYTES)) &&
        (all_zero(at, size_bytes) || MR_MUTANT("record.read.zeros-behind")))
        return MR_RECORD_END;
    if (size_bytes < MR_RECORD_HEADER_BYTES && !MR_MUTANT("record.read.header"))
        return MR_RECORD_TRUNCATED;
    magic = (unsigned)(at[4] | at[5] << 8);
    if (magic == MAGIC_SWAPPED && !MR_MUTANT("record.read.byte-order"))
        return MR_RECORD_WRONG_ENDIAN;
    if (magic != MAGIC && !MR_MUTANT("record.read.magic"))
        return MR_RECORD_BAD_MAGIC;
    length = (size_t)at[0] | (size_t)at[1] << 8 | (size_t)at[2] << 16 | (size_t)at[3] << 24;
    if ((length == 0 || length > MR_RECORD_BYTES_MAX) && !MR_MUTANT("record.read.length"))
        return MR_RECORD_BAD_LENGTH;
    if (length > size_bytes - MR_RECORD_HEADER_BYTES && !MR_MUTANT("record.read.room"))
        return MR_RECORD_TRUNCATED;
    record.kind = (enum mr_record_kind)at[6];
    record.version = at[7];
    record.chain = get_u64(at + 8);
    record.sum = get_u64(at + 16);
    record.payload.data = at + MR_RECORD_HEADER_BYTES;
    record.payload.size_bytes = length;
    if (sum_of(at, record.payload.data, length) != record.sum && !MR_MUTANT("record.read.sum"))
        return MR_RECORD_BAD_SUM;
    if (record.chain != chain && !MR_MUTANT("record.read.chain"))
        return MR_RECORD_BAD_CHAIN;
    *ret_record = record;
    *ret_size = MR_RECORD_HEADER_BYTES + length;
    return MR_RECORD_OK;
}

const char *mr_record_result_text(enum mr_record_result result)
{
    switch (result) {
    case MR_RECORD_OK:
        return "fine";
    case MR_RECORD_END:
        return "nothing follows";
    case MR_RECORD_TRUNCATED:
        return "it is cut short";
    case MR_RECORD_BAD_MAGIC:
        return "it does not begin like a record";
    case MR_RECORD_BAD_LENGTH:
        return "its length is impossible";
    case MR_RECORD_BAD_SUM:
        return "its checksum does not match";
    case MR_RECORD_BAD_CHAIN:
        return "it does not follow the record before it";
    case MR_RECORD_WRONG_ENDIAN:
        return "it was written with another byte order";
    case MR_RECORD_BAD_VERSION:
        return "it was written by a newer version";
    }
    return "unknown";
}
