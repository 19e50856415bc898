/*
 * Groups of counts and integer sums as machine words: the short way through a large batch.
 *
 *     words    rows | slot | slot ...       COUNT: nulls      SUM_INT: sum, nulls
 *     packed   the same as varints (agg_pack.c), here at most 8 bytes, read and written as one word
 *
 * Most groups of most queries are of this kind. Whatever is not (a larger number, a plain value, a
 * damaged one) is left to agg_pack.c and aggregate.c by the functions below, which then say no. No
 * branch depends on the length of a number: they are too even to be guessed.
 *
 * Threads: any.
 */
#ifndef MR_OPS_AGG_NARROW_H
#define MR_OPS_AGG_NARROW_H

#include "ops/aggregate.h"

/* 7 bits of each byte, the lowest first. */
static inline uint64_t mr_narrow_join(uint64_t bytes)
{
    bytes = (bytes & UINT64_C(0x007f007f007f007f)) | (bytes & UINT64_C(0x7f007f007f007f00)) >> 1;
    bytes = (bytes & UINT64_C(0x00003fff00003fff)) | (bytes & UINT64_C(0x3fff00003fff0000)) >> 2;
    return (bytes & UINT64_C(0x0fffffff)) | (bytes & UINT64_C(0x0fffffff00000000)) >> 4;
}

/* A number below 2^56 into bytes of 7 bits. */
static inline uint64_t mr_narrow_split(uint64_t value)
{
    value = (value & UINT64_C(0x0fffffff)) | (value & UINT64_C(0x00fffffff0000000)) << 4;
    value = (value & UINT64_C(0x00003fff00003fff)) | (value & UINT64_C(0x0fffc0000fffc000)) << 2;
    return (value & UINT64_C(0x007f007f007f007f)) | (value & UINT64_C(0x3f803f803f803f80)) << 1;
}

/* Of a number below 2^56. */
static inline unsigned mr_narrow_bytes(uint64_t value)
{
    return (70 - (unsigned)__builtin_clzll(value | 1)) / 7;
}

static inline bool mr_narrow_is_sum(const struct mr_agg_layout *layout, uint32_t word)
{
    return (layout->narrow_sums >> word & 1) != 0;
}

/* A packed value, as the word that it is, zeros behind it. */
static inline bool mr_narrow_read(const struct mr_agg_layout *layout, uint64_t packed,
                                  size_t size_bytes, uint64_t *ret_words)
{
    static const uint64_t CONTINUES = UINT64_C(0x8080808080808080);
    unsigned left = (unsigned)size_bytes * 8;

    for (uint32_t i = 0; i < layout->narrow_words; i++) {
        uint64_t ends = ~packed & CONTINUES;
        unsigned bits = ends == 0 ? 64 : ((unsigned)__builtin_ctzll(ends) | 7) + 1;
        uint64_t value;

        if (bits > left || bits == 64)
            return false;
        value = mr_narrow_join(packed & ((UINT64_C(1) << bits) - 1));
        ret_words[i] = mr_narrow_is_sum(layout, i) ? value >> 1 ^ -(value & 1) : value;
        packed >>= bits;
        left -= bits;
    }
    return left == 0;
}

/* There are MR_NARROW_BYTES_MAX readable bytes at `data`. */
static inline bool mr_narrow_read_ahead(const struct mr_agg_layout *layout, const char *data,
                                        size_t size_bytes, uint64_t *ret_words)
{
    if (size_bytes - 1 >= layout->narrow_bytes)
        return false;
    return mr_narrow_read(layout,
                          mr_load_u64(data) & UINT64_MAX >> (MR_NARROW_BYTES_MAX - size_bytes) * 8,
                          size_bytes, ret_words);
}

/* There are MR_NARROW_BYTES_MAX readable bytes that end with the value. */
static inline bool mr_narrow_read_behind(const struct mr_agg_layout *layout, const char *data,
                                         size_t size_bytes, uint64_t *ret_words)
{
    if (size_bytes - 1 >= layout->narrow_bytes)
        return false;
    return mr_narrow_read(layout,
                          mr_load_u64(data + size_bytes - MR_NARROW_BYTES_MAX) >>
                              (MR_NARROW_BYTES_MAX - size_bytes) * 8,
                          size_bytes, ret_words);
}

/* Adds b to a; false: a sum does not fit, and a is spoilt. */
static inline bool mr_narrow_merge(const struct mr_agg_layout *layout, uint64_t *a,
                                   const uint64_t *b)
{
    bool fits = true;

    for (uint32_t i = 0; i < layout->narrow_words; i++) {
        int64_t sum;

        fits &= !__builtin_add_overflow((int64_t)a[i], (int64_t)b[i], &sum);
        a[i] = (uint64_t)sum;
    }
    return fits;
}

/* Packs it at `out`, which has MR_NARROW_BYTES_MAX bytes; returns how many are used, 0: too many
 * for this way. */
static inline size_t mr_narrow_write(const struct mr_agg_layout *layout, const uint64_t *words,
                                     char *out)
{
    static const uint64_t CONTINUES = UINT64_C(0x8080808080808080);
    uint64_t packed = 0;
    unsigned used = 0;

    for (uint32_t i = 0; i < layout->narrow_words; i++) {
        uint64_t value = mr_narrow_is_sum(layout, i)
                             ? words[i] << 1 ^ (uint64_t)((int64_t)words[i] >> 63)
                             : words[i];
        unsigned bytes = mr_narrow_bytes(value);

        if (value >> 56 != 0 || used + bytes > layout->narrow_bytes)
            return 0;
        packed |= (mr_narrow_split(value) | (CONTINUES & ((UINT64_C(1) << (bytes - 1) * 8) - 1)))
                  << used * 8;
        used += bytes;
    }
    mr_store_u64(out, packed);
    return used;
}

#endif
