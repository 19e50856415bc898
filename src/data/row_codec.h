/*
 * Rows as bytes, for keys and values of state.
 *
 * Key encoding compares with memcmp in the order of the values (nulls first, numbers ascending,
 * text by bytes, false < true), so a sorted scan of a store is sorted by key; -0.0 and 0.0 are one
 * key, all NaNs are one key, after +infinity.
 *   null 0x00 | value 0x01 then:  integers, dates, timestamps: big-endian, sign bit flipped;
 *   floats: IEEE bits made monotonic;  decimal: 16 bytes big-endian, sign flipped;
 *   text, binary: bytes with 0x00 -> 0x00
 *               0xff, end 0x00 0x00;
 *   list: 0x01 item ... 0x00;  struct: its fields.
 * Value encoding is compact: a null bitmap, then fixed widths little-endian and varint-length
 * blocks.
 *
 * Both are part of the on-disk formats.  Thread: any.
 */
#ifndef MR_DATA_ROW_CODEC_H
#define MR_DATA_ROW_CODEC_H

#include "base/buf.h"

#include <millrace/ext/builder.h>

#include <string.h>

/* Appends the key bytes of value `row` of a column. */
void mr_key_encode(struct mr_buf *out, const struct mr_column *column, int64_t row);
/* The key bytes of a BIGINT or timestamp that is not null. */
enum { MR_KEY_INT64_BYTES = 9 };
static inline void mr_key_store_int64(char out[MR_KEY_INT64_BYTES], int64_t value)
{
    uint64_t swapped = __builtin_bswap64((uint64_t)value ^ UINT64_C(1) << 63);

    out[0] = 1;
    memcpy(out + 1, &swapped, sizeof(swapped));
}
static inline int64_t mr_key_load_int64(const char *at)
{
    uint64_t swapped;

    memcpy(&swapped, at + 1, sizeof(swapped));
    return (int64_t)(__builtin_bswap64(swapped) ^ UINT64_C(1) << 63);
}
/* Reads one key value of that type back and appends it to a column builder. MR_CORRUPT when the
 * bytes do not fit. */
enum mr_status mr_key_decode(struct mr_bytes *bytes, const struct mr_type *type,
                             struct mr_column_builder *out, struct mr_error *err);

/* Appends / reads the value form of the given columns of one row (columns: count of them, any
 * types). */
void mr_value_encode(struct mr_buf *out, const struct mr_column *const *columns, uint32_t count,
                     int64_t row);
enum mr_status mr_value_decode(struct mr_bytes *bytes, struct mr_column_builder *const *out,
                               uint32_t count, struct mr_error *err);

#endif
