/*
 * Rows of a join as columns: those of a batch, and those of a block, which lies in the store
 * (join_block.c draws it). Shared by the join and by the view of its state.
 *
 * Thread: any; what is read does not change.
 */
#ifndef MR_OPS_JOIN_BLOCK_H
#define MR_OPS_JOIN_BLOCK_H

#include "base/buf.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { MR_JOIN_BLOCK_BITS = 10, MR_JOIN_BLOCK_ROWS = 1 << MR_JOIN_BLOCK_BITS };

/* A column of a block. No alignment: memory is the store's. */
struct mr_join_packed {
    const uint8_t *validity; /* a bitmap; NULL = no nulls */
    const uint8_t *values;   /* numbers: of that width, less base; texts: their bytes */
    const uint8_t *ends;     /* texts: where text i ends, of that width; NULL = numbers */
    uint64_t base;
    uint32_t width; /* 0 (all are base), 1, 2, 4, 8, 16; of ends 2 or 4 */
};

/* Rows of a batch, or of a block. */
struct mr_join_held {
    struct mr_batch *batch;              /* may be NULL */
    const struct mr_column **columns;    /* NULL: all are packed; an entry is NULL: that one is */
    const struct mr_join_packed *packed; /* NULL: none is */
};

struct mr_join_ref {
    const struct mr_join_held *held; /* NULL: nulls */
    uint32_t at;
};

static inline const struct mr_column *mr_join__column(const struct mr_join_held *held,
                                                      uint32_t column)
{
    return held->columns != NULL ? held->columns[column] : NULL;
}

static inline uint64_t mr_join__packed_number(const struct mr_join_packed *packed, uint32_t at)
{
    uint16_t two;
    uint32_t four;
    uint64_t eight;

    switch (packed->width) {
    case 0:
        return packed->base;
    case 1:
        return packed->base + packed->values[at];
    case 2:
        memcpy(&two, packed->values + (size_t)at * 2, 2);
        return packed->base + two;
    case 4:
        memcpy(&four, packed->values + (size_t)at * 4, 4);
        return packed->base + four;
    default:
        memcpy(&eight, packed->values + (size_t)at * 8, 8);
        return packed->base + eight;
    }
}

static inline bool mr_join__is_null(const struct mr_join_held *held, uint32_t column, uint32_t at)
{
    const struct mr_column *from = mr_join__column(held, column);
    const uint8_t *validity = from != NULL ? from->validity : held->packed[column].validity;

    return validity != NULL && ((validity[at >> 3] >> (at & 7)) & 1) == 0;
}

/* The bits of a value of up to 8 bytes, zeros above. */
static inline uint64_t mr_join__bits(const struct mr_join_held *held, uint32_t column,
                                     uint32_t width, uint32_t at)
{
    const struct mr_column *from = mr_join__column(held, column);
    uint64_t bits = 0;

    if (from == NULL)
        return mr_join__packed_number(&held->packed[column], at);
    if (width == 8)
        memcpy(&bits, (const uint8_t *)from->values + (size_t)at * 8, 8);
    else
        memcpy(&bits, (const uint8_t *)from->values + (size_t)at * width, width);
    return bits;
}

/* The 16 bytes of a DECIMAL. */
static inline const uint8_t *mr_join__wide(const struct mr_join_held *held, uint32_t column,
                                           uint32_t at)
{
    const struct mr_column *from = mr_join__column(held, column);
    const uint8_t *values = from != NULL ? from->values : held->packed[column].values;

    return values + (size_t)at * 16;
}

struct mr_slice mr_join__packed_text(const struct mr_join_packed *packed, uint32_t at);
/* TEXT and BINARY. */
static inline struct mr_slice mr_join__text(const struct mr_join_held *held, uint32_t column,
                                            uint32_t at)
{
    const struct mr_column *from = mr_join__column(held, column);

    return from != NULL ? mr_column_text(from, at)
                        : mr_join__packed_text(&held->packed[column], at);
}

/* About how many bytes value `row` takes in a block, of any type. */
size_t mr_join__value_bytes(const struct mr_column *column, int64_t row);

/* Lists, structs: their bytes are in the block, and they are decoded for use. */
static inline bool mr_join__is_nested(const struct mr_type *type)
{
    return type->id == MR_TYPE_LIST || type->id == MR_TYPE_STRUCT;
}

/*
 * Appends rows as a block. matched: a byte a row, not 0 = matched; NULL: this side does not keep
 * it. numbers: room for MR_JOIN_BLOCK_ROWS. out->failed tells that there is no memory.
 */
void mr_join__pack(struct mr_buf *out, const struct mr_schema *schema,
                   const struct mr_join_ref *refs, size_t count, const uint8_t *matched,
                   uint64_t *numbers);
/*
 * The columns of a block, which stay where they are; packed: room for all of them. *ret_matched: a
 * bitmap, NULL = none. MR_CORRUPT.
 */
enum mr_status mr_join__unpack(struct mr_slice value, const struct mr_schema *schema,
                               struct mr_join_packed *packed, uint32_t *ret_rows,
                               const uint8_t **ret_matched, struct mr_error *err);
/* How many rows the block has; 0 when it is none. */
uint32_t mr_join__packed_rows(struct mr_slice value);
/* Where its bitmap of matched rows is. */
enum { MR_JOIN_MATCHED_AT = 4 };

/* Appends value `at` of a packed column of any type. */
enum mr_status mr_join__append(struct mr_column_builder *out, const struct mr_join_packed *packed,
                               uint32_t at, struct mr_error *err);
/* Column `column` of refs appended to a builder's column. */
enum mr_status mr_join__gather(struct mr_column_builder *out, const struct mr_join_ref *refs,
                               size_t count, uint32_t column, struct mr_error *err);

#endif
