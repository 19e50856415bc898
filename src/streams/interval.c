/*
 * Durations of timeouts as text. Called by groups_state.c.
 *
 *     ["interval"] { [+|-] digits blank* unit blank* }
 */
#include "streams/interval.h"

#include "base/check.h"

#include <string.h>

static const struct {
    const char *name; /* in the singular */
    int64_t ms;
} units[] = {
    {"millisecond", 1},
    {"ms", 1},
    {"second", 1000},
    {"sec", 1000},
    {"s", 1000},
    {"minute", 60000},
    {"min", 60000},
    {"m", 60000},
    {"hour", 3600000},
    {"h", 3600000},
    {"day", 86400000},
    {"d", 86400000},
    {"week", 7 * 86400000},
    {"w", 7 * 86400000},
    {"month", INT64_C(31) * 86400000},
    {"year", INT64_C(12) * 31 * 86400000},
};

static const char *skip_blanks(const char *at)
{
    while (*at == ' ' || *at == '\t')
        at++;
    return at;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* Is the word at `at`, of that many bytes, this unit, in singular or plural? */
static bool is_unit(const char *at, size_t bytes, const char *unit)
{
    size_t length = strlen(unit);

    if (bytes != length && !(bytes == length + 1 && length > 2 && lower(at[length]) == 's'))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (lower(at[i]) != unit[i])
            return false;
    }
    return true;
}

static bool read_unit(const char **at, int64_t *ret_ms)
{
    size_t bytes = 0;

    while (lower((*at)[bytes]) >= 'a' && lower((*at)[bytes]) <= 'z')
        bytes++;
    for (size_t i = 0; i < MR_ARRAY_SIZE(units); i++) {
        if (is_unit(*at, bytes, units[i].name)) {
            *ret_ms = units[i].ms;
            *at += bytes;
            return true;
        }
    }
    return false;
}

static bool read_number(const char **at, int64_t *ret_number)
{
    bool negative = **at == '-';
    int64_t number = 0;

    if (**at == '-' || **at == '+')
        *at = skip_blanks(*at + 1);
    if (**at < '0' || **at > '9')
        return false;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, **at - '0', &number))
            return false;
    }
    *ret_number = negative ? -number : number;
    return true;
}

bool mr_interval_ms(const char *text, int64_t *ret_ms)
{
    const char *at = skip_blanks(text);
    int64_t total = 0;

    if (strncmp(at, "interval ", 9) == 0 || strncmp(at, "INTERVAL ", 9) == 0)
        at = skip_blanks(at + 9);
    if (*at == '\0')
        return false;
    while (*at != '\0') {
        int64_t number = 0, unit = 0;

        if (!read_number(&at, &number))
            return false;
        at = skip_blanks(at);
        if (!read_unit(&at, &unit) || __builtin_mul_overflow(number, unit, &number) ||
            __builtin_add_overflow(total, number, &total))
            return false;
        at = skip_blanks(at);
    }
    *ret_ms = total;
    return true;
}
