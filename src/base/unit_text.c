/*
 * Durations and sizes as text: "500 ms", "INTERVAL '1' SECOND", "64 MB"; see
 * <millrace/ext/options.h>.
 *
 * Called by option tables, the SQL front end and the command.  Results are exact: a fraction of the
 * smallest unit is refused, and so is what does not fit.  KB, MB ... are powers of 1000; KiB, MiB
 * ... and the single letters k, m, g, t are powers of 1024.  Thread: any.
 */
#include <millrace/ext/options.h>

#include "base/check.h"
#include "base/text.h"

#include <string.h>

struct unit {
    const char *names; /* '|' between */
    int64_t factor;
};

static const struct unit time_units[] = {
    {"us|usec|usecs|microsecond|microseconds", 1},
    {"ms|msec|msecs|milli|millis|millisecond|milliseconds", 1000},
    {"s|sec|secs|second|seconds", 1000000},
    {"m|min|mins|minute|minutes", INT64_C(60) * 1000000},
    {"h|hr|hrs|hour|hours", INT64_C(3600) * 1000000},
    {"d|day|days", INT64_C(86400) * 1000000},
    {"w|week|weeks", INT64_C(604800) * 1000000},
};

static const struct unit size_units[] = {
    {"b|byte|bytes", 1},
    {"kb", 1000},
    {"mb", 1000000},
    {"gb", INT64_C(1000000000)},
    {"tb", INT64_C(1000000000000)},
    {"k|kib", 1024},
    {"m|mib", 1024 * 1024},
    {"g|gib", INT64_C(1) << 30},
    {"t|tib", INT64_C(1) << 40},
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at))
        at++;
    return at;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Digits with an optional fraction of at most 9 digits, as a count of 10^-decimals. */
static const char *take_number(const char *at, const char *end, int64_t *ret_value,
                               unsigned *ret_decimals)
{
    int64_t value = 0;
    unsigned decimals = 0;
    bool point = false;
    bool any = false;

    for (; at < end; at++) {
        if (*at == '.' && !point) {
            point = true;
            continue;
        }
        if ((unsigned)(*at - '0') > 9)
            break;
        if ((point && ++decimals > 9) || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *at - '0', &value))
            return NULL;
        any = true;
    }
    if (!any || at[-1] == '.')
        return NULL;
    *ret_value = value;
    *ret_decimals = decimals;
    return at;
}

static int64_t factor_of(const char *name, size_t size, const struct unit *units, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (const char *at = units[i].names;;) {
            size_t length = strcspn(at, "|");

            if (mr_text_equal_nocase(name, size, at, length))
                return units[i].factor;
            if (at[length] == '\0')
                break;
            at += length + 1;
        }
    }
    return 0;
}

/* number * factor / 10^decimals, exactly. */
static bool scale(int64_t number, unsigned decimals, int64_t factor, int64_t *ret_value)
{
    int64_t divisor = 1;

    for (unsigned i = 0; i < decimals; i++)
        divisor *= 10;
    while (divisor > 1 && number % 10 == 0) {
        number /= 10;
        divisor /= 10;
    }
    /* What is left of the divisor must divide the factor apart from a common part of the number. */
    for (int prime = 2; prime <= 5; prime += 3) {
        while (divisor % prime == 0 && factor % prime == 0) {
            divisor /= prime;
            factor /= prime;
        }
        while (divisor % prime == 0 && number % prime == 0) {
            divisor /= prime;
            number /= prime;
        }
    }
    if (divisor != 1 || __builtin_mul_overflow(number, factor, &number))
        return false;
    *ret_value = number;
    return true;
}

static const char *word_end(const char *at, const char *end)
{
    while (at < end && is_letter(*at))
        at++;
    return at;
}

/* One or more "number unit", blanks allowed between all parts; fills `total` in the small unit. */
static bool parse_sum(const char *at, const char *end, int64_t *ret_total)
{
    int64_t total = 0;

    at = skip_blanks(at, end);
    if (at == end)
        return false;
    while (at < end) {
        const char *unit;
        int64_t number;
        int64_t part;
        int64_t factor;
        unsigned decimals;

        at = take_number(at, end, &number, &decimals);
        if (at == NULL)
            return false;
        unit = skip_blanks(at, end);
        at = word_end(unit, end);
        factor = factor_of(unit, (size_t)(at - unit), time_units, MR_ARRAY_SIZE(time_units));
        if (at == unit && number == 0) /* nothing is nothing in every unit */
            factor = 1;
        if (factor == 0 || !scale(number, decimals, factor, &part) ||
            __builtin_add_overflow(total, part, &total))
            return false;
        at = skip_blanks(at, end);
    }
    *ret_total = total;
    return true;
}

bool mr_parse_duration_us(const char *text, int64_t *ret_us)
{
    enum { TEXT_BYTES_MAX = 128 };
    const char *at = text;
    const char *end = text + strlen(text);
    char plain[TEXT_BYTES_MAX];
    size_t size;
    unsigned quotes = 0;

    at = skip_blanks(at, end);
    if (word_end(at, end) - at != 8 || !mr_text_equal_nocase(at, 8, "interval", 8))
        return parse_sum(at, end, ret_us);
    at += 8;
    size = (size_t)(end - at);
    if (size >= sizeof(plain))
        return false;
    for (size_t i = 0; i < size; i++) {
        plain[i] = at[i] == '\'' ? ' ' : at[i];
        quotes += at[i] == '\'' ? 1 : 0;
    }
    return (quotes == 0 || quotes == 2) && parse_sum(plain, plain + size, ret_us);
}

bool mr_parse_size(const char *text, int64_t *ret_bytes)
{
    const char *end = text + strlen(text);
    const char *at = skip_blanks(text, end);
    const char *unit;
    int64_t number;
    int64_t factor = 1;
    unsigned decimals;

    at = take_number(at, end, &number, &decimals);
    if (at == NULL)
        return false;
    unit = skip_blanks(at, end);
    at = word_end(unit, end);
    if (at > unit)
        factor = factor_of(unit, (size_t)(at - unit), size_units, MR_ARRAY_SIZE(size_units));
    if (factor == 0 || skip_blanks(at, end) != end)
        return false;
    return scale(number, decimals, factor, ret_bytes);
}
