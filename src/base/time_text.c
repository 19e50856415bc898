/*
 * Times as text without locale and time zone settings; see time_text.h.
 *
 * Called by the formats, the SQL front end, progress and logs.
 *
 * Accepted:
 *     date       YYYY-MM-DD, or a sign and 4 to 7 digits for years outside 0000 .. 9999
 *     timestamp  date [ (T | t | blank) hh:mm[:ss[(. | ,)d{1,9}]] [ Z | z | (+ | -)hh[[:]mm] ] ]
 *
 * Everything else is refused: second 60 and hour 24 name instants that a timestamp cannot tell from
 * others, and a value that does not fit is an error, never another instant.  The calendar is the
 * proleptic Gregorian one with a year 0.  Thread: any.
 */
#include "base/time_text.h"

#include <string.h>

enum { ZONE_HOURS_MAX = 18, YEAR_DIGITS_MAX = 7 };

#define US_PER_SECOND INT64_C(1000000)
#define NS_PER_SECOND INT64_C(1000000000)
#define SECONDS_PER_DAY INT64_C(86400)

/* ---------------------------------------------------------------- calendar */

/* Years are counted from March, so that the leap day is the last; 400 years are 146097 days. */
void mr_civil_from_days(int64_t days, int64_t *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    int64_t from_march = days + 719468;
    int64_t era = (from_march >= 0 ? from_march : from_march - 146096) / 146097;
    int64_t day_of_era = from_march - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    unsigned month =
        (unsigned)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);

    *ret_day = (unsigned)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    *ret_month = month;
    *ret_year = year_of_era + era * 400 + (month <= 2 ? 1 : 0);
}

int64_t mr_days_from_civil(int64_t year, unsigned month, unsigned day)
{
    int64_t shifted = year - (month <= 2 ? 1 : 0);
    int64_t era = (shifted >= 0 ? shifted : shifted - 399) / 400;
    int64_t year_of_era = shifted - era * 400;
    int64_t month_from_march = month > 2 ? (int64_t)month - 3 : (int64_t)month + 9;
    int64_t day_of_year = (153 * month_from_march + 2) / 5 + (int64_t)day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static unsigned days_in_month(int64_t year, unsigned month)
{
    static const unsigned char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap ? 1u : 0u);
}

/* ---------------------------------------------------------------- printing */

static char *print_digits(char *at, uint64_t value, unsigned digits)
{
    for (unsigned i = digits; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return at + digits;
}

static char *print_date(char *at, int64_t days)
{
    int64_t year;
    unsigned month;
    unsigned day;
    unsigned digits = 4;

    mr_civil_from_days(days, &year, &month, &day);
    if (year < 0 || year > 9999) {
        *at++ = year < 0 ? '-' : '+';
        year = year < 0 ? -year : year;
        for (int64_t rest = year / 10000; rest > 0; rest /= 10)
            digits++;
    }
    at = print_digits(at, (uint64_t)year, digits);
    *at++ = '-';
    at = print_digits(at, month, 2);
    *at++ = '-';
    return print_digits(at, day, 2);
}

static char *print_clock(char *at, int64_t second_of_day)
{
    at = print_digits(at, (uint64_t)(second_of_day / 3600), 2);
    *at++ = ':';
    at = print_digits(at, (uint64_t)(second_of_day / 60 % 60), 2);
    *at++ = ':';
    return print_digits(at, (uint64_t)(second_of_day % 60), 2);
}

static int64_t floor_div(int64_t value, int64_t by, int64_t *ret_rest)
{
    int64_t quotient = value / by;
    int64_t rest = value % by;

    if (rest < 0) {
        rest += by;
        quotient--;
    }
    *ret_rest = rest;
    return quotient;
}

size_t mr_date_print(int32_t days, char *text)
{
    char *end = print_date(text, days);

    *end = '\0';
    return (size_t)(end - text);
}

size_t mr_timestamp_print(int64_t value, bool nanos, char *text)
{
    int64_t fraction;
    int64_t second_of_day;
    int64_t seconds = floor_div(value, nanos ? NS_PER_SECOND : US_PER_SECOND, &fraction);
    int64_t days = floor_div(seconds, SECONDS_PER_DAY, &second_of_day);
    char *at = print_date(text, days);

    *at++ = ' ';
    at = print_clock(at, second_of_day);
    if (fraction != 0) {
        *at++ = '.';
        at = print_digits(at, (uint64_t)fraction, nanos ? 9 : 6);
        while (at[-1] == '0')
            at--;
    }
    *at = '\0';
    return (size_t)(at - text);
}

size_t mr_timestamp_print_ms(int64_t value_us, char *text)
{
    int64_t fraction;
    int64_t second_of_day;
    int64_t seconds = floor_div(value_us, US_PER_SECOND, &fraction);
    int64_t days = floor_div(seconds, SECONDS_PER_DAY, &second_of_day);
    char *at = print_date(text, days);

    *at++ = 'T';
    at = print_clock(at, second_of_day);
    *at++ = '.';
    at = print_digits(at, (uint64_t)(fraction / 1000), 3);
    *at++ = 'Z';
    *at = '\0';
    return (size_t)(at - text);
}

/* ---------------------------------------------------------------- parsing */

struct cursor {
    const char *at;
    const char *end;
};

static bool digit_next(const struct cursor *cursor)
{
    return cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9';
}

static bool take(struct cursor *cursor, char c)
{
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

static bool take_two(struct cursor *cursor, unsigned max, unsigned *ret_value)
{
    unsigned tens;
    unsigned ones;

    if (cursor->end - cursor->at < 2)
        return false;
    tens = (unsigned)(cursor->at[0] - '0');
    ones = (unsigned)(cursor->at[1] - '0');
    if (tens > 9 || ones > 9 || tens * 10 + ones > max)
        return false;
    *ret_value = tens * 10 + ones;
    cursor->at += 2;
    return true;
}

static bool take_date(struct cursor *cursor, int64_t *ret_days)
{
    bool negative = take(cursor, '-');
    bool sign = negative || take(cursor, '+');
    int64_t year = 0;
    unsigned digits = 0;
    unsigned month;
    unsigned day;

    while (digit_next(cursor) && digits <= YEAR_DIGITS_MAX) {
        year = year * 10 + (*cursor->at++ - '0');
        digits++;
    }
    if (digits < 4 || digits > (sign ? (unsigned)YEAR_DIGITS_MAX : 4u))
        return false;
    if (negative)
        year = -year;
    if (!take(cursor, '-') || !take_two(cursor, 12, &month) || !take(cursor, '-') ||
        !take_two(cursor, 31, &day))
        return false;
    if (month == 0 || day == 0 || day > days_in_month(year, month))
        return false;
    *ret_days = mr_days_from_civil(year, month, day);
    return true;
}

static bool take_fraction(struct cursor *cursor, int64_t *ret_ns)
{
    int64_t value = 0;
    unsigned digits = 0;

    if (!take(cursor, '.') && !take(cursor, ',')) {
        *ret_ns = 0;
        return true;
    }
    for (; digit_next(cursor); digits++) {
        if (digits == 9)
            return false;
        value = value * 10 + (*cursor->at++ - '0');
    }
    if (digits == 0)
        return false;
    for (; digits < 9; digits++)
        value *= 10;
    *ret_ns = value;
    return true;
}

static bool take_zone(struct cursor *cursor, int64_t *ret_offset_s)
{
    unsigned hours;
    unsigned minutes = 0;
    bool negative;

    *ret_offset_s = 0;
    if (cursor->at == cursor->end || take(cursor, 'Z') || take(cursor, 'z'))
        return true;
    negative = take(cursor, '-');
    if (!negative && !take(cursor, '+'))
        return false;
    if (!take_two(cursor, ZONE_HOURS_MAX, &hours))
        return false;
    if (cursor->at < cursor->end) {
        (void)take(cursor, ':');
        if (!take_two(cursor, 59, &minutes))
            return false;
    }
    if (hours == ZONE_HOURS_MAX && minutes > 0)
        return false;
    *ret_offset_s = (int64_t)(hours * 3600 + minutes * 60) * (negative ? -1 : 1);
    return true;
}

bool mr_date_parse(const char *text, size_t size_bytes, int32_t *ret_days)
{
    struct cursor cursor = {text, text + size_bytes};
    int64_t days;

    if (!take_date(&cursor, &days) || cursor.at != cursor.end || days < INT32_MIN ||
        days > INT32_MAX)
        return false;
    *ret_days = (int32_t)days;
    return true;
}

bool mr_timestamp_parse(const char *text, size_t size_bytes, bool nanos, int64_t *ret_value)
{
    struct cursor cursor = {text, text + size_bytes};
    unsigned hour = 0;
    unsigned minute = 0;
    unsigned second = 0;
    int64_t fraction_ns = 0;
    int64_t offset_s = 0;
    int64_t value;
    int64_t days;

    if (!take_date(&cursor, &days))
        return false;
    if (cursor.at < cursor.end) {
        if (!take(&cursor, 'T') && !take(&cursor, ' ') && !take(&cursor, 't'))
            return false;
        if (!take_two(&cursor, 23, &hour) || !take(&cursor, ':') || !take_two(&cursor, 59, &minute))
            return false;
        if (take(&cursor, ':') &&
            (!take_two(&cursor, 59, &second) || !take_fraction(&cursor, &fraction_ns)))
            return false;
        if (!take_zone(&cursor, &offset_s) || cursor.at != cursor.end)
            return false;
    }
    value = days * SECONDS_PER_DAY + (int64_t)(hour * 3600 + minute * 60 + second) - offset_s;
    /*
     * The smallest values are a second below zero plus a fraction: a plain product would overflow
     * though the sum fits. So negative seconds are counted from the second above.
     */
    if (value < 0 && fraction_ns != 0) {
        value++;
        fraction_ns -= NS_PER_SECOND;
    }
    if (!nanos) /* toward minus infinity */
        fraction_ns = fraction_ns >= 0 ? fraction_ns / 1000 : -((999 - fraction_ns) / 1000);
    if (__builtin_mul_overflow(value, nanos ? NS_PER_SECOND : US_PER_SECOND, &value) ||
        __builtin_add_overflow(value, fraction_ns, &value))
        return false;
    *ret_value = value;
    return true;
}
