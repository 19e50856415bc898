/*
 * Any bytes as a number, time, duration or size: what is accepted is printed and read back as the
 * same value.
 */
#include "fuzz/fuzz.h"

#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <millrace/ext/options.h>

#include <math.h>
#include <string.h>

enum { TEXT_BYTES_MAX = 4096 };

static void try_numbers(const char *text, size_t size)
{
    char printed[MR_NUMBER_TEXT_BYTES];
    int64_t whole;
    int64_t whole_again;
    double real;
    double real_again;
    mr_int128 decimal;
    mr_int128 decimal_again;

    if (mr_int_parse(text, size, &whole))
        FUZZ_CHECK(mr_int_parse(printed, mr_int_print(whole, printed), &whole_again) &&
                   whole == whole_again);
    if (mr_double_parse(text, size, &real)) {
        FUZZ_CHECK(mr_double_parse(printed, mr_double_print(real, printed), &real_again));
        FUZZ_CHECK(real == real_again || (isnan(real) && isnan(real_again)));
        (void)mr_float_print((float)real, printed);
        (void)mr_double_print_fixed(real, 15, printed);
    }
    for (unsigned scale = 0; scale <= 38; scale += 19) {
        if (mr_decimal_parse(text, size, 38, scale, &decimal))
            FUZZ_CHECK(mr_decimal_parse(printed, mr_decimal_print(decimal, scale, printed), 38,
                                        scale, &decimal_again) &&
                       decimal == decimal_again);
    }
}

static void try_times(const char *text, size_t size)
{
    char printed[MR_TIME_TEXT_BYTES];
    int64_t value;
    int64_t again;
    int32_t days;
    int32_t days_again;

    for (int nanos = 0; nanos < 2; nanos++) {
        if (mr_timestamp_parse(text, size, nanos == 1, &value))
            FUZZ_CHECK(mr_timestamp_parse(printed, mr_timestamp_print(value, nanos == 1, printed),
                                          nanos == 1, &again) &&
                       value == again);
    }
    if (mr_date_parse(text, size, &days))
        FUZZ_CHECK(mr_date_parse(printed, mr_date_print(days, printed), &days_again) &&
                   days == days_again);
}

static void one(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"topic", "format", "max_offsets_per_trigger"};
    char text[TEXT_BYTES_MAX + 1];
    char escaped[100];
    int64_t value = -1;

    if (size > TEXT_BYTES_MAX)
        return;
    memcpy(text, data, size);
    text[size] = '\0';
    try_numbers(text, size);
    try_times(text, size);
    FUZZ_CHECK(!mr_parse_duration_us(text, &value) || value >= 0);
    FUZZ_CHECK(!mr_parse_size(text, &value) || value >= 0);
    (void)mr_text_nearest(text, names, MR_ARRAY_SIZE(names));
    FUZZ_CHECK(mr_text_escape(text, size, escaped, sizeof(escaped)) < sizeof(escaped));
    FUZZ_CHECK(mr_utf8_valid(escaped, strlen(escaped)));
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
