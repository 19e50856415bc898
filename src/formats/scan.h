/*
 * Bitmaps over bytes: one bit a byte, bit i % 64 of word i / 64 for byte i. A bitmap of n bytes has
 * mr__scan_words(n) words; bits past the last byte are 0. Nothing outside [data, data + size) is
 * read.
 */
#ifndef MR_FORMATS_SCAN_H
#define MR_FORMATS_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t mr__scan_words(size_t size_bytes)
{
    return (size_bytes + 63) / 64;
}

/* The widest vectors that are used from here on; the machine's own limit holds besides. For tests,
 * which compare the kernels. Thread: while no other scans. */
enum mr_scan_width { MR_SCAN_PLAIN, MR_SCAN_AVX2, MR_SCAN_AVX512 };
void mr__scan_limit(enum mr_scan_width widest);

/* Newlines. */
void mr__scan_newlines(const char *data, size_t size_bytes, uint64_t *bitmap);
/*
 * What can end or change a JSON string: quotes, backslashes, control characters (below 0x20, so
 * newlines too). *ret_ascii: no byte has its high bit set.
 */
void mr__scan_json(const char *data, size_t size_bytes, uint64_t *bitmap, bool *ret_ascii);

/* The same answer as mr_utf8_valid, several times faster on text that is not ASCII. */
bool mr__scan_utf8_valid(const char *data, size_t size_bytes);

#endif
