/*
 * Fixed-width columns as arrays of one machine type, a chunk at a time: what filters, group tables
 * and aggregates loop over, so that each of them needs one kernel and not one per type.
 *
 * The ordinal of a value is an int64 that orders like the value: integers, dates and timestamps are
 * their own, UINT64 has its top bit flipped, FLOAT and DOUBLE are IEEE bits made monotonic, with
 * -0.0 = 0.0 and one NaN above +infinity (as row_codec.h says). Thread: any.
 */
#ifndef MR_OPS_ORDINAL_H
#define MR_OPS_ORDINAL_H

#include <millrace/batch.h>

#include <string.h>

/* Rows that kernels work on at once: its arrays stay in the first-level cache. */
enum { MR_CHUNK_ROWS = 1024 };

/* True for BOOL and the fixed-width types of at most 8 bytes. */
bool mr_ordinal_has(enum mr_type_id id);
/* Values of rows [from, from + count); what is written for nulls means nothing. count is at most
 * MR_CHUNK_ROWS. */
void mr_ordinal_load(const struct mr_column *column, int64_t from, uint32_t count, int64_t *out);
/* The same as doubles: integers, FLOAT and DOUBLE. */
void mr_double_load(const struct mr_column *column, int64_t from, uint32_t count, double *out);

static inline bool mr_column_has_nulls(const struct mr_column *column)
{
    return column->validity != NULL && column->null_count != 0;
}

static inline int64_t mr_ordinal_of_double(double value)
{
    int64_t bits;

    if (value != value)
        return INT64_C(0x7ff8000000000000);
    if (value == 0)
        return 0;
    memcpy(&bits, &value, sizeof(bits));
    return bits ^ ((bits >> 63) & INT64_MAX);
}
static inline double mr_ordinal_to_double(int64_t ordinal)
{
    double value;

    ordinal ^= (ordinal >> 63) & INT64_MAX;
    memcpy(&value, &ordinal, sizeof(value));
    return value;
}
static inline int64_t mr_ordinal_of_uint(uint64_t value)
{
    return (int64_t)(value ^ (UINT64_C(1) << 63));
}
static inline uint64_t mr_ordinal_to_uint(int64_t ordinal)
{
    return (uint64_t)ordinal ^ (UINT64_C(1) << 63);
}

/* a / b toward minus infinity; b > 0. */
static inline int64_t mr_floor_div(int64_t a, int64_t b)
{
    int64_t quotient = a / b;

    return a % b < 0 ? quotient - 1 : quotient;
}

#endif
