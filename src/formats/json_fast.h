/*
 * Short cuts for values that are written in the commonest way. Each looks at the bytes where a
 * value begins and returns the place behind it, or NULL: not that common, the general way
 * (json_value.c) must look. What they accept, the general way accepts with an equal result;
 * tests/unit/test_format_json.c and tests/fuzz/fuzz_json.c compare the two.
 */
#ifndef MR_FORMATS_JSON_FAST_H
#define MR_FORMATS_JSON_FAST_H

#include "base/time_text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* True when the eight bytes are digits; *ret_value their number. */
static inline bool mr__json_eight_digits(const char *at, uint64_t *ret_value)
{
    uint64_t bytes;

    memcpy(&bytes, at, sizeof bytes); /* little-endian: the first digit is the lowest byte */
    uint64_t high = bytes & UINT64_C(0xf0f0f0f0f0f0f0f0);
    uint64_t over = (bytes + UINT64_C(0x0606060606060606)) & UINT64_C(0xf0f0f0f0f0f0f0f0);
    if ((high | over >> 4) != UINT64_C(0x3333333333333333))
        return false;
    bytes &= UINT64_C(0x0f0f0f0f0f0f0f0f);
    bytes = bytes * 10 + (bytes >> 8); /* pairs, then fours, then all */
    bytes = ((bytes & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
             ((bytes >> 16) & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
            32;
    *ret_value = bytes;
    return true;
}

/* Digits into *value, which keeps what it had in front. */
static inline const char *mr__json_digits(const char *at, uint64_t *value)
{
    uint64_t eight = 0;

    while (mr__json_eight_digits(at, &eight)) {
        *value = *value * 100000000 + eight;
        at += 8;
    }
    for (; (unsigned char)(*at - '0') <= 9; at++)
        *value = *value * 10 + (unsigned)(*at - '0');
    return at;
}

/* What stands behind a value most of the time. */
static inline bool mr__json_ends_value(char c)
{
    return c == ',' || c == '}' || c == ' ';
}

/* Up to 18 plain digits. */
static inline const char *mr__json_fast_int(const char *at, int64_t *ret_value)
{
    const char *digits = at + (*at == '-');
    uint64_t value = 0;
    const char *end = mr__json_digits(digits, &value);
    size_t count = (size_t)(end - digits);

    if (count == 0 || count > 18 || (*digits == '0' && count > 1))
        return NULL;
    *ret_value = *at == '-' ? -(int64_t)value : (int64_t)value;
    return end;
}

/* At most 15 digits with an optional point: one division of exact numbers, so correctly rounded. */
static inline const char *mr__json_fast_double(const char *at, double *ret_value)
{
    static const double powers[] = {1e0, 1e1, 1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15};
    const char *digits = at + (*at == '-');
    uint64_t value = 0;
    const char *end = mr__json_digits(digits, &value);
    size_t count = (size_t)(end - digits);
    size_t fraction = 0;

    if (count == 0 || (*digits == '0' && count > 1))
        return NULL;
    if (*end == '.') {
        const char *point = end;
        end = mr__json_digits(point + 1, &value);
        fraction = (size_t)(end - point) - 1;
        if (fraction == 0)
            return NULL;
    }
    if (count + fraction > 15 || !mr__json_ends_value(*end))
        return NULL;
    double real = (double)value / powers[fraction];
    *ret_value = *at == '-' ? -real : real;
    return end;
}

static inline const char *mr__json_fast_bool(const char *at, bool *ret_value)
{
    *ret_value = *at == 't';
    if (memcmp(at, "true", 4) == 0)
        at += 4;
    else if (memcmp(at, "false", 5) == 0)
        at += 5;
    else
        return NULL;
    return mr__json_ends_value(*at) ? at : NULL;
}

/* The date that was parsed last: most lines have the one of the line before. Never without a
 * date. */
struct mr__json_date {
    char text[10]; /* "2026-11-21" */
    int32_t days;
};

/* Two digits below limit, or 99. */
static inline unsigned mr__json_two(const char *at, unsigned limit)
{
    unsigned tens = (unsigned char)(at[0] - '0');
    unsigned ones = (unsigned char)(at[1] - '0');
    unsigned value = tens * 10 + ones;

    return tens <= 9 && ones <= 9 && value < limit ? value : 99;
}

/* "2026-11-21T10:00:00", 'T' or a blank, up to six digits of a fraction, 'Z' or nothing; at the
 * opening quote. The first 20 bytes are all looked at before the time counts, and the slack behind
 * a line lets them be read. */
static inline const char *mr__json_fast_timestamp(const char *at, struct mr__json_date *date,
                                                  int64_t *ret_us)
{
    static const uint32_t units[] = {0, 100000, 10000, 1000, 100, 10, 1};
    const char *clock = at + 12;
    const char *end = at + 20;
    uint64_t fraction = 0;

    if (at[0] != '"' || (at[11] != 'T' && at[11] != ' ') || clock[2] != ':' || clock[5] != ':')
        return NULL;
    if (memcmp(at + 1, date->text, sizeof date->text) != 0) {
        if (!mr_date_parse(at + 1, sizeof date->text, &date->days))
            return NULL;
        memcpy(date->text, at + 1, sizeof date->text);
    }
    unsigned hour = mr__json_two(clock, 24);
    unsigned minute = mr__json_two(clock + 3, 60);
    unsigned second = mr__json_two(clock + 6, 60);
    if (hour == 99 || minute == 99 || second == 99)
        return NULL;
    if (*end == '.') {
        const char *digits = end + 1;
        for (end = digits; (unsigned char)(*end - '0') <= 9 && end < digits + 7; end++)
            fraction = fraction * 10 + (unsigned)(*end - '0');
        if (end == digits || end == digits + 7)
            return NULL;
        fraction *= units[end - digits];
    }
    end += *end == 'Z';
    if (*end != '"')
        return NULL;
    *ret_us =
        ((int64_t)date->days * 86400 + (int64_t)(hour * 3600 + minute * 60 + second)) * 1000000 +
        (int64_t)fraction;
    return end + 1;
}

#endif
