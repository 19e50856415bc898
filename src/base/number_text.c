/*
 * Numbers as text without locale; see number_text.h.
 *
 * Called by the formats, JSON, the SQL front end and options.
 *
 * Doubles are printed with the fewest digits that parse back to the same value (shortest.c), in
 * exponent form below 1e-4 and from 1e16 on, as DuckDB does.
 *
 * Parsing: at most 19 digits and a power of ten up to 22 are one exact operation on exact operands,
 * so the one rounding is correct; the rest goes through strtod in a "C" locale of our own.
 *
 * Thread: any.
 */
#include "base/number_text.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/shortest.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__extension__ typedef unsigned __int128 uint128;

enum { EXACT_POWER_MAX = 22, FIXED_EXPONENT_MIN = -4, FIXED_EXPONENT_MAX = 16 };
#define EXACT_INTEGER_MAX (UINT64_C(1) << 53)

static const double powers[EXACT_POWER_MAX + 1] = {
    1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
    1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
};

static pthread_once_t locale_once = PTHREAD_ONCE_INIT;
static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    MR_ASSERT(c_locale != (locale_t)0); /* glibc has "C" built in: no file, no memory */
}

static locale_t the_c_locale(void)
{
    pthread_once(&locale_once, make_locale);
    return c_locale;
}

/* ---------------------------------------------------------------- integers */

size_t mr_uint_print(uint64_t value, char *text)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    memcpy(text, digits + at, sizeof(digits) - at);
    text[sizeof(digits) - at] = '\0';
    return sizeof(digits) - at;
}

size_t mr_int_print(int64_t value, char *text)
{
    if (value >= 0)
        return mr_uint_print((uint64_t)value, text);
    text[0] = '-';
    return 1 + mr_uint_print(0 - (uint64_t)value, text + 1);
}

static bool parse_digits(const char *text, size_t size_bytes, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (size_bytes == 0)
        return false;
    for (size_t i = 0; i < size_bytes; i++) {
        unsigned digit = (unsigned)(text[i] - '0');

        if (digit > 9)
            return false;
        if (i >= 18 && (__builtin_mul_overflow(value, 10u, &value) ||
                        __builtin_add_overflow(value, digit, &value)))
            return false;
        if (i < 18)
            value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

bool mr_uint_parse(const char *text, size_t size_bytes, uint64_t *ret_value)
{
    if (size_bytes > 0 && text[0] == '+')
        return parse_digits(text + 1, size_bytes - 1, ret_value);
    return parse_digits(text, size_bytes, ret_value);
}

bool mr_int_parse(const char *text, size_t size_bytes, int64_t *ret_value)
{
    bool negative = size_bytes > 0 && text[0] == '-';
    size_t sign = negative || (size_bytes > 0 && text[0] == '+') ? 1 : 0;
    uint64_t value;

    if (!parse_digits(text + sign, size_bytes - sign, &value))
        return false;
    if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return false;
    *ret_value = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* ---------------------------------------------------------------- printing doubles */

/* digits d1d2d3... with the decimal exponent of d1: fixed or exponent form. */
static size_t lay_out(const char *digits, size_t count, int exponent, char *text)
{
    char *at = text;
    size_t whole = exponent < 0 ? 0 : (size_t)exponent + 1; /* digits before the point */

    if (exponent < FIXED_EXPONENT_MIN || exponent >= FIXED_EXPONENT_MAX) {
        *at++ = digits[0];
        if (count > 1) {
            *at++ = '.';
            memcpy(at, digits + 1, count - 1);
            at += count - 1;
        }
        *at++ = 'e';
        *at++ = exponent < 0 ? '-' : '+';
        exponent = exponent < 0 ? -exponent : exponent;
        if (exponent < 10)
            *at++ = '0';
        return (size_t)(at - text) + mr_uint_print((uint64_t)exponent, at);
    }
    if (whole == 0) {
        *at++ = '0';
        *at++ = '.';
        for (int i = -1; i > exponent; i--)
            *at++ = '0';
        memcpy(at, digits, count);
        at += count;
    } else {
        for (size_t i = 0; i < whole; i++)
            *at++ = i < count ? digits[i] : '0';
        *at++ = '.';
        if (count > whole) {
            memcpy(at, digits + whole, count - whole);
            at += count - whole;
        } else {
            *at++ = '0';
        }
    }
    *at = '\0';
    return (size_t)(at - text);
}

/* significand * 2^exponent > 0. */
static size_t print_shortest(uint64_t significand, int exponent, bool narrow_below, char *text)
{
    struct mr__decimal decimal = mr__shortest(significand, exponent, narrow_below);
    char digits[24];
    size_t count = mr_uint_print(decimal.digits, digits);
    int first = decimal.exponent + (int)count - 1;

    while (count > 1 && digits[count - 1] == '0')
        count--;
    return lay_out(digits, count, first, text);
}

static size_t print_special(double value, char *text)
{
    const char *name = isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity";

    memcpy(text, name, strlen(name) + 1);
    return strlen(name);
}

/* An IEEE number without its sign bit. */
static size_t print_bits(uint64_t bits, unsigned fraction_bits, int bias, char *text)
{
    uint64_t fraction = bits & ((UINT64_C(1) << fraction_bits) - 1);
    int exponent = (int)(bits >> fraction_bits);

    if (bits == 0) {
        memcpy(text, "0.0", 4);
        return 3;
    }
    if (exponent == 0)
        return print_shortest(fraction, 1 - bias, false, text);
    return print_shortest(fraction | (UINT64_C(1) << fraction_bits), exponent - bias,
                          fraction == 0 && exponent > 1, text);
}

size_t mr_double_print(double value, char *text)
{
    enum { FRACTION_BITS = 52, BIAS = 1023 + FRACTION_BITS };
    uint64_t bits;
    size_t sign = 0;

    if (!isfinite(value))
        return print_special(value, text);
    if (signbit(value) != 0) {
        text[sign++] = '-';
        value = -value;
    }
    memcpy(&bits, &value, sizeof(bits));
    return sign + print_bits(bits, FRACTION_BITS, BIAS, text + sign);
}

size_t mr_float_print(float value, char *text)
{
    enum { FRACTION_BITS = 23, BIAS = 127 + FRACTION_BITS };
    uint32_t bits;
    size_t sign = 0;

    if (!isfinite(value))
        return print_special((double)value, text);
    if (signbit(value) != 0) {
        text[sign++] = '-';
        value = -value;
    }
    memcpy(&bits, &value, sizeof(bits));
    return sign + print_bits(bits, FRACTION_BITS, BIAS, text + sign);
}

size_t mr_double_print_fixed(double value, unsigned decimals, char *text)
{
    locale_t before;
    int size;

    if (!isfinite(value) || value >= 1e18 || value <= -1e18)
        return mr_double_print(value, text);
    before = uselocale(the_c_locale());
    size = snprintf(text, MR_NUMBER_TEXT_BYTES, "%.*f", (int)MR_MIN(decimals, 15u), value);
    uselocale(before);
    MR_ASSERT(size > 0 && size < MR_NUMBER_TEXT_BYTES);
    return (size_t)size;
}

/* ---------------------------------------------------------------- parsing doubles */

/* A decimal number taken apart: digits without leading zeros, value = mantissa * 10^exponent. */
struct decimal_parts {
    bool negative;
    uint64_t mantissa; /* the first 19 significant digits */
    int64_t exponent;  /* of the mantissa's last digit */
    size_t digits;     /* significant digits in all */
    const char *first; /* first digit or point */
    const char *last;  /* behind the last digit or point */
};

static const char *take_digits(const char *at, const char *end, bool after_point,
                               struct decimal_parts *parts, size_t *ret_count)
{
    size_t count = 0;

    for (; at < end && (unsigned)(*at - '0') <= 9; at++, count++) {
        if (parts->digits == 0 && *at == '0') {
            parts->exponent -= after_point ? 1 : 0;
            continue;
        }
        parts->digits++;
        if (parts->digits <= 19) {
            parts->mantissa = parts->mantissa * 10 + (uint64_t)(*at - '0');
            parts->exponent -= after_point ? 1 : 0;
        } else {
            parts->exponent += after_point ? 0 : 1;
        }
    }
    *ret_count += count;
    return at;
}

static bool take_exponent(const char *at, const char *end, int64_t *ret_exponent)
{
    bool negative = at < end && *at == '-';
    int64_t value = 0;

    if (at < end && (*at == '-' || *at == '+'))
        at++;
    if (at == end)
        return false;
    for (; at < end; at++) {
        if ((unsigned)(*at - '0') > 9)
            return false;
        if (value < 1000000000) /* far past any number; more digits change nothing */
            value = value * 10 + (*at - '0');
    }
    *ret_exponent = negative ? -value : value;
    return true;
}

static bool take_apart(const char *text, size_t size_bytes, struct decimal_parts *ret_parts)
{
    struct decimal_parts parts = {0};
    const char *at = text;
    const char *end = text + size_bytes;
    size_t count = 0;
    int64_t exponent = 0;

    if (at < end && (*at == '-' || *at == '+'))
        parts.negative = *at++ == '-';
    parts.first = at;
    at = take_digits(at, end, false, &parts, &count);
    if (at < end && *at == '.')
        at = take_digits(at + 1, end, true, &parts, &count);
    parts.last = at;
    if (count == 0)
        return false;
    if (at < end) {
        if ((*at != 'e' && *at != 'E') || !take_exponent(at + 1, end, &exponent))
            return false;
    }
    parts.exponent += exponent;
    *ret_parts = parts;
    return true;
}

static bool is_name(const char *text, size_t size_bytes, const char *name)
{
    size_t i = 0;

    for (; i < size_bytes && name[i] != '\0'; i++) {
        if ((text[i] | 0x20) != name[i])
            return false;
    }
    return i == size_bytes && name[i] == '\0';
}

static bool parse_special(const char *text, size_t size_bytes, double *ret_value)
{
    bool negative = size_bytes > 0 && text[0] == '-';

    if (size_bytes > 0 && (negative || text[0] == '+')) {
        text++;
        size_bytes--;
    }
    if (is_name(text, size_bytes, "nan"))
        *ret_value = (double)NAN;
    else if (is_name(text, size_bytes, "infinity") || is_name(text, size_bytes, "inf"))
        *ret_value = negative ? -(double)INFINITY : (double)INFINITY;
    else
        return false;
    return true;
}

/* The C library wants a NUL at the end and would also take hexadecimal forms: only checked text. */
static bool parse_by_library(const char *text, size_t size_bytes, double *ret_value)
{
    char small[256];
    char *copy = small;
    int kept = errno;
    double value;
    bool ok;

    if (size_bytes >= sizeof(small)) {
        copy = mr_alloc(NULL, size_bytes + 1);
        if (copy == NULL)
            return false;
    }
    memcpy(copy, text, size_bytes);
    copy[size_bytes] = '\0';
    value = strtod_l(copy, NULL, the_c_locale());
    errno = kept;
    ok = isfinite(value) != 0;
    if (ok)
        *ret_value = value;
    if (copy != small)
        mr_free(copy);
    return ok;
}

bool mr_double_parse(const char *text, size_t size_bytes, double *ret_value)
{
    struct decimal_parts parts;
    double value;

    if (!take_apart(text, size_bytes, &parts))
        return parse_special(text, size_bytes, ret_value);
    if (parts.digits <= 19 && parts.mantissa <= EXACT_INTEGER_MAX &&
        parts.exponent >= -EXACT_POWER_MAX && parts.exponent <= EXACT_POWER_MAX) {
        value = (double)parts.mantissa;
        if (parts.exponent < 0)
            value /= powers[-parts.exponent];
        else
            value *= powers[parts.exponent];
    } else if (parts.digits == 0) {
        value = 0;
    } else {
        return parse_by_library(text, size_bytes, ret_value);
    }
    *ret_value = parts.negative ? -value : value;
    return true;
}

/* ---------------------------------------------------------------- decimals */

size_t mr_decimal_print(mr_int128 unscaled, unsigned scale, char *text)
{
    char digits[48];
    size_t at = sizeof(digits);
    uint128 value = unscaled < 0 ? 0 - (uint128)unscaled : (uint128)unscaled;
    char *out = text;
    size_t count = 0;

    MR_ASSERT(scale <= 38);
    while (value > 0 || count <= scale) {
        if (count == scale && scale > 0)
            digits[--at] = '.';
        digits[--at] = (char)('0' + (int)(value % 10));
        value /= 10;
        count++;
    }
    if (unscaled < 0)
        *out++ = '-';
    memcpy(out, digits + at, sizeof(digits) - at);
    out += sizeof(digits) - at;
    *out = '\0';
    return (size_t)(out - text);
}

bool mr_decimal_parse(const char *text, size_t size_bytes, unsigned precision, unsigned scale,
                      mr_int128 *ret_unscaled)
{
    struct decimal_parts parts;
    uint128 value = 0;
    uint128 limit = 1;
    int64_t place; /* of the digit at hand: its power of ten in the result, before the last one */

    if (precision == 0 || precision > 38 || scale > precision ||
        !take_apart(text, size_bytes, &parts))
        return false;
    for (unsigned i = 0; i < precision; i++)
        limit *= 10;
    if (parts.digits == 0) {
        *ret_unscaled = 0;
        return true;
    }
    place = parts.exponent + (int64_t)scale + (int64_t)MR_MIN(parts.digits, (size_t)19) - 1;
    if (place >= (int64_t)precision)
        return false;
    for (const char *at = parts.first; at < parts.last; at++) {
        if (*at == '.' || (value == 0 && *at == '0'))
            continue; /* leading zeros are not counted in `place` */
        if (place < 0) {
            if (*at != '0')
                return false;
            continue;
        }
        value = value * 10 + (unsigned)(*at - '0');
        place--;
    }
    for (; place >= 0; place--)
        value *= 10;
    if (value >= limit)
        return false;
    *ret_unscaled = parts.negative ? (mr_int128)(0 - value) : (mr_int128)value;
    return true;
}
