/* Numbers as text without locale: exact integers, shortest round-trip doubles, decimals. Thread:
 * any. */
#ifndef MR_BASE_NUMBER_TEXT_H
#define MR_BASE_NUMBER_TEXT_H

#include <millrace/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MR_NUMBER_TEXT_BYTES = 64 };

size_t mr_int_print(int64_t value, char *text);
size_t mr_uint_print(uint64_t value, char *text);
/* Shortest text that parses back to the same double: "0.1", "1e+300", "5.0", "NaN", "Infinity",
 * "-Infinity". */
size_t mr_double_print(double value, char *text);
size_t mr_float_print(float value, char *text);
/* With exactly that many decimals (at most 15), rounded; from 1e18 on like mr_double_print. */
size_t mr_double_print_fixed(double value, unsigned decimals, char *text);
size_t mr_decimal_print(mr_int128 unscaled, unsigned scale, char *text);

/* The whole text must be the number; false on overflow too. */
bool mr_int_parse(const char *text, size_t size_bytes, int64_t *ret_value);
bool mr_uint_parse(const char *text, size_t size_bytes, uint64_t *ret_value);
/* correctly rounded; JSON and SQL forms */
bool mr_double_parse(const char *text, size_t size_bytes, double *ret_value);
/* Exact at that precision and scale, or false (digits past the scale must be zero). */
bool mr_decimal_parse(const char *text, size_t size_bytes, unsigned precision, unsigned scale,
                      mr_int128 *ret_unscaled);

#endif
