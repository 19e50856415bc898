/* UTF-8, nearest names, escaping, and times and numbers as text. */
#include "support/test.h"

#include "base/check.h"
#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- text */

TEST(utf8_is_checked_to_the_last_byte)
{
    static const struct {
        const char *text;
        size_t valid; /* bytes */
    } cases[] = {
        {"", 0},
        {"plain text that is longer than sixteen bytes", 44},
        {"0123456789abcdef\xc3\xa4", 18},
        {"\xed\x9f\xbf", 3},     /* U+D7FF */
        {"\xed\xa0\x80", 0},     /* a surrogate */
        {"\xf4\x8f\xbf\xbf", 4}, /* U+10FFFF */
        {"\xf4\x90\x80\x80", 0}, /* past it */
        {"\xc0\xaf", 0},         /* overlong */
        {"\xe0\x80\xaf", 0},
        {"\xf0\x80\x80\xaf", 0},
        {"a\xe2\x82", 1}, /* cut */
        {"a\x80z", 1},    /* a stray continuation */
        {"\xff", 0},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        size_t size = strlen(cases[i].text);

        CHECK_EQ_UINT(mr_utf8_valid_prefix(cases[i].text, size), cases[i].valid);
        CHECK_EQ_INT(mr_utf8_valid(cases[i].text, size), cases[i].valid == size);
    }
}

TEST(the_nearest_name_is_found_or_none)
{
    static const char *const names[] = {"topic", "brokers", "max_offsets_per_trigger", "format"};

    CHECK_EQ_STR(mr_text_nearest("tpoic", names, 4), "topic");
    CHECK_EQ_STR(mr_text_nearest("TOPIC", names, 4), "topic");
    CHECK_EQ_STR(mr_text_nearest("broker", names, 4), "brokers");
    CHECK_EQ_STR(mr_text_nearest("max_offset_per_triger", names, 4), "max_offsets_per_trigger");
    CHECK_NULL(mr_text_nearest("password", names, 4));
    CHECK_NULL(mr_text_nearest("", names, 4));
    CHECK_NULL(mr_text_nearest("ab", names, 4));
}

TEST(escaped_text_has_no_control_characters_and_is_cut_between_characters)
{
    char text[64];

    CHECK_EQ_UINT(mr_text_escape("a\nb\x1b[0m\xff", 8, text, sizeof(text)), 17);
    CHECK_EQ_STR(text, "a\\x0ab\\x1b[0m\\xff");
    /* a control character of two bytes */
    mr_text_escape("\xc2\x85\xc3\xa4", 4, text, sizeof(text));
    CHECK_EQ_STR(text, "\\xc2\\x85\xc3\xa4");
    mr_text_escape("abc\xc3\xa4\xc3\xa4\xc3\xa4", 9, text, 9);
    CHECK_EQ_STR(text, "abc\xc3\xa4...");
    CHECK_EQ_UINT(mr_text_escape("abcdef", 6, text, 7), 6);
    CHECK_EQ_UINT(mr_text_escape("abcdef", 6, text, 1), 0);
}

/* ---------------------------------------------------------------- time */

TEST(days_and_dates_are_inverse_over_the_whole_range)
{
    for (int64_t days = -800000; days < 3000000; days += 997) {
        int64_t year;
        unsigned month;
        unsigned day;

        mr_civil_from_days(days, &year, &month, &day);
        CHECK_EQ_INT(mr_days_from_civil(year, month, day), days);
    }
    CHECK_EQ_INT(mr_days_from_civil(1970, 1, 1), 0);
    CHECK_EQ_INT(mr_days_from_civil(2000, 3, 1), 11017);
    CHECK_EQ_INT(mr_days_from_civil(1582, 10, 15), -141427);
    CHECK_EQ_INT(mr_days_from_civil(1582, 10, 4), -141438); /* proleptic: no gap */
}

static void check_timestamp(const char *text, bool nanos, int64_t want)
{
    int64_t value = -77;

    if (!mr_timestamp_parse(text, strlen(text), nanos, &value))
        FAIL("'%s' was refused", text);
    if (value != want)
        FAIL("'%s' gives %" PRId64 ", not %" PRId64, text, value, want);
}

TEST(timestamps_are_read_exactly)
{
    check_timestamp("1970-01-01", false, 0);
    check_timestamp("1970-01-01 00:00", false, 0);
    check_timestamp("1970-01-01T00:00:01Z", false, 1000000);
    check_timestamp("1970-01-01t00:00:01.5z", false, 1500000);
    check_timestamp("1970-01-01 00:00:00,123456", false, 123456);
    check_timestamp("1970-01-01 01:00:00+01", false, 0);
    check_timestamp("1970-01-01T14:00:00+14:00", false, 0);
    check_timestamp("1969-12-31T19:00:00-0500", false, 0);
    check_timestamp("1969-12-31 23:59:59.999999", false, -1);
    check_timestamp("1969-12-31 23:59:59.9999999", false, -1); /* cut toward minus infinity */
    check_timestamp("1970-01-01 00:00:00.000000999", false, 0);
    check_timestamp("1970-01-01 00:00:00.000000999", true, 999);
    check_timestamp("0000-01-01", false, INT64_C(-62167219200000000));
    check_timestamp("0000-02-29", false, INT64_C(-62162121600000000));
    check_timestamp("9999-12-31T23:59:59.999999Z", false, INT64_C(253402300799999999));
    check_timestamp("1582-10-10", false, INT64_C(-12219724800000000));
    check_timestamp("2262-04-11 23:47:16.854775807", true, INT64_MAX);
    check_timestamp("1677-09-21 00:12:43.145224192", true, INT64_MIN);
    check_timestamp("+294247-01-10 04:00:54.775807", false, INT64_MAX);
    check_timestamp("-290308-12-21 19:59:05.224192", false, INT64_MIN);
}

TEST(what_is_no_timestamp_or_does_not_fit_is_refused)
{
    static const char *const texts[] = {
        "",
        "1970",
        "1970-1-1",
        "1970-13-01",
        "1970-00-01",
        "1970-02-30",
        "1900-02-29",
        "1970-01-01 ",
        "1970-01-01T",
        "1970-01-01 00",
        "1970-01-01 24:00:00",
        "9999-12-31T23:59:60Z",
        "1970-01-01 00:60",
        "1970-01-01 00:00:00.",
        "1970-01-01 00:00:00Zx",
        "1970-01-01 00:00:00.1234567890",
        "1970-01-01 00:00:00+19",
        "1970-01-01 00:00:00+18:01",
        "1970-01-01 00:00:00+1",
        "1970-01-01 00:00:00 UTC",
        "19700101",
        "10000-01-01",
        "1970-01-01X00:00:00",
        " 1970-01-01",
        "+99-01-01",
        "-290308-12-21 19:59:05.224191",
        "+294247-01-10 04:00:54.775808",
        "1970-01-01 00:00:00+01:",
        "1970-01-01\n00:00:00",
    };
    int64_t value = 42;
    int32_t days = 42;

    for (size_t i = 0; i < MR_ARRAY_SIZE(texts); i++) {
        if (mr_timestamp_parse(texts[i], strlen(texts[i]), false, &value))
            FAIL("'%s' was read as %" PRId64, texts[i], value);
    }
    CHECK(!mr_timestamp_parse("2262-04-11 23:47:16.854775808", 29, true, &value));
    CHECK(!mr_timestamp_parse("1677-09-21 00:12:43.145224191", 29, true, &value));
    CHECK(!mr_timestamp_parse("2263-01-01", 10, true, &value));
    CHECK(!mr_date_parse("1970-01-01 00:00", 16, &days));
    CHECK_EQ_INT(value, 42);
    CHECK_EQ_INT(days, 42);
}

TEST(timestamps_printed_are_read_back_exactly)
{
    static const int64_t values[] = {0,
                                     1,
                                     -1,
                                     999999,
                                     1000000,
                                     -1000000,
                                     INT64_MAX,
                                     INT64_MIN,
                                     INT64_C(253402300800000000),
                                     INT64_C(-62167219200000001)};
    char text[MR_TIME_TEXT_BYTES];
    int64_t value;

    for (size_t i = 0; i < MR_ARRAY_SIZE(values); i++) {
        for (int nanos = 0; nanos < 2; nanos++) {
            size_t size = mr_timestamp_print(values[i], nanos == 1, text);

            CHECK_EQ_UINT(strlen(text), size);
            CHECK(mr_timestamp_parse(text, size, nanos == 1, &value));
            CHECK_EQ_INT(value, values[i]);
        }
    }
    mr_timestamp_print(1500000, false, text);
    CHECK_EQ_STR(text, "1970-01-01 00:00:01.5");
    mr_timestamp_print(-1, true, text);
    CHECK_EQ_STR(text, "1969-12-31 23:59:59.999999999");
    mr_timestamp_print_ms(1795255200123456, text);
    CHECK_EQ_STR(text, "2026-11-21T10:00:00.123Z");
    mr_timestamp_print_ms(-1, text);
    CHECK_EQ_STR(text, "1969-12-31T23:59:59.999Z");
}

TEST(dates_print_and_parse)
{
    static const int32_t values[] = {0, -1, 20778, INT32_MAX, INT32_MIN, -719528, -719529};
    char text[MR_TIME_TEXT_BYTES];
    int32_t days;

    for (size_t i = 0; i < MR_ARRAY_SIZE(values); i++) {
        size_t size = mr_date_print(values[i], text);

        CHECK(mr_date_parse(text, size, &days));
        CHECK_EQ_INT(days, values[i]);
    }
    mr_date_print(-719528, text);
    CHECK_EQ_STR(text, "0000-01-01");
    mr_date_print(-719529, text);
    CHECK_EQ_STR(text, "-0001-12-31");
}

/* ---------------------------------------------------------------- numbers */

TEST(integers_are_exact_or_refused)
{
    char text[MR_NUMBER_TEXT_BYTES];
    int64_t value;
    uint64_t large;

    CHECK_EQ_UINT(mr_int_print(INT64_MIN, text), 20);
    CHECK(mr_int_parse(text, 20, &value) && value == INT64_MIN);
    CHECK(mr_int_parse("9223372036854775807", 19, &value) && value == INT64_MAX);
    CHECK(mr_int_parse("+0009", 5, &value) && value == 9);
    CHECK(!mr_int_parse("9223372036854775808", 19, &value));
    CHECK(!mr_int_parse("-9223372036854775809", 20, &value));
    CHECK(!mr_int_parse("", 0, &value));
    CHECK(!mr_int_parse("-", 1, &value));
    CHECK(!mr_int_parse("1 ", 2, &value));
    CHECK(!mr_int_parse("1e3", 3, &value));
    CHECK(mr_uint_parse("18446744073709551615", 20, &large) && large == UINT64_MAX);
    CHECK(!mr_uint_parse("18446744073709551616", 20, &large));
    CHECK(!mr_uint_parse("99999999999999999999", 20, &large));
    CHECK(!mr_uint_parse("-1", 2, &large));
}

TEST(doubles_have_their_shortest_text)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.0, "0.0"},
        {-0.0, "-0.0"},
        {5, "5.0"},
        {0.1, "0.1"},
        {0.3, "0.3"},
        {-2.5, "-2.5"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {1e300, "1e+300"},
        {1e-4, "0.0001"},
        {1e-5, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {5e-324, "5e-324"},
        {1.0 / 3, "0.3333333333333333"},
        {0.1 + 0.2, "0.30000000000000004"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {9007199254740993.0, "9007199254740992.0"},
        {(double)INFINITY, "Infinity"},
        {-(double)INFINITY, "-Infinity"},
        {(double)NAN, "NaN"},
    };
    char text[MR_NUMBER_TEXT_BYTES];

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        CHECK_EQ_UINT(mr_double_print(cases[i].value, text), strlen(cases[i].text));
        CHECK_EQ_STR(text, cases[i].text);
    }
    mr_float_print(0.1f, text);
    CHECK_EQ_STR(text, "0.1");
    mr_float_print(16777216.0f, text);
    CHECK_EQ_STR(text, "16777216.0");
    mr_float_print(1e-45f, text);
    CHECK_EQ_STR(text, "1e-45");
}

/* The significant digits of a number's text. */
static void digits_of(const char *text, char *digits)
{
    size_t count = 0;

    for (; *text != '\0' && *text != 'e'; text++) {
        if (*text >= '0' && *text <= '9' && (count > 0 || *text != '0'))
            digits[count++] = *text;
    }
    while (count > 0 && digits[count - 1] == '0')
        count--;
    digits[count] = '\0';
}

/*
 * The text must read back, and be what the C library prints with the fewest digits that do. It may
 * have fewer: beside a power of two the nearest decimal can lie outside while a farther one does.
 */
static void check_shortest(double value)
{
    char text[MR_NUMBER_TEXT_BYTES];
    char library[64];
    char have[64];
    char want[64];
    double back = 0;
    size_t size = mr_double_print(value, text);

    CHECK_EQ_UINT(strlen(text), size);
    for (int digits = 0; digits < 17; digits++) {
        snprintf(library, sizeof(library), "%.*e", digits, value);
        if (strtod(library, NULL) == value)
            break;
    }
    digits_of(text, have);
    digits_of(library, want);
    if (!mr_double_parse(text, size, &back) || back != value || strlen(have) > strlen(want) ||
        (strlen(have) == strlen(want) && strcmp(have, want) != 0))
        FAIL("%.17g prints as %s, the library says %s", value, text, library);
}

TEST(powers_of_two_and_their_neighbours_have_their_shortest_text)
{
    for (int exponent = -1074; exponent < 1024; exponent += test_quick() ? 13 : 1) {
        double value = ldexp(1, exponent);

        check_shortest(value);
        check_shortest(nextafter(value, (double)INFINITY));
        if (exponent > -1074)
            check_shortest(nextafter(value, 0));
    }
    check_shortest(1.7976931348623157e308);
}

TEST(random_doubles_have_their_shortest_text)
{
    uint64_t random = test_seed(88172645463325252u);
    int rounds = test_quick() ? 2000 : 20000;

    for (int i = 0; i < rounds; i++) {
        double value;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        memcpy(&value, &random, sizeof(value));
        if (i % 2 == 0)
            value = (double)(random % 100000000) / (i % 4 == 0 ? 1000 : 7);
        if (isfinite(value) && value != 0)
            check_shortest(value);
    }
}

TEST(random_floats_come_back_from_their_text)
{
    uint32_t random = (uint32_t)test_seed(2463534242u);

    for (int i = 0; i < (test_quick() ? 2000 : 20000); i++) {
        char text[MR_NUMBER_TEXT_BYTES];
        char library[64];
        char have[64];
        char want[64];
        float value;

        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        memcpy(&value, &random, sizeof(value));
        if (!isfinite(value) || value == 0)
            continue;
        mr_float_print(value, text);
        for (int digits = 0; digits < 9; digits++) {
            snprintf(library, sizeof(library), "%.*e", digits, (double)value);
            if (strtof(library, NULL) == value)
                break;
        }
        digits_of(text, have);
        digits_of(library, want);
        if (strtof(text, NULL) != value || strlen(have) > strlen(want))
            FAIL("%.9g prints as %s, the library says %s", (double)value, text, library);
    }
}

TEST(doubles_are_read_correctly_rounded_or_refused)
{
    static const char *const bad[] = {
        "",    ".",    "e5",  "1e",   "1e+", "--1",   "0x10",
        "1 ",  " 1",   "1,5", "nanx", "in",  "1e400", "-1e999999999999",
        "+-1", "1.2.3"};
    double value = 0;

    CHECK(mr_double_parse("9007199254740993", 16, &value) && value == 9007199254740992.0);
    CHECK(mr_double_parse("9007199254740993.00000000000000001", 34, &value) &&
          value == 9007199254740994.0);
    CHECK(mr_double_parse("2.4703282292062327208e-324", 26, &value) && value == 0);
    CHECK(mr_double_parse("2.4703282292062328e-324", 23, &value) && value == 5e-324);
    CHECK(mr_double_parse("1e-999999999999", 15, &value) && value == 0);
    CHECK(mr_double_parse(".5", 2, &value) && value == 0.5);
    CHECK(mr_double_parse("5.", 2, &value) && value == 5);
    CHECK(mr_double_parse("-0", 2, &value) && value == 0 && signbit(value));
    CHECK(mr_double_parse("1E2", 3, &value) && value == 100);
    CHECK(mr_double_parse("-inf", 4, &value) && isinf(value) && value < 0);
    CHECK(mr_double_parse("Infinity", 8, &value) && isinf(value));
    CHECK(mr_double_parse("NaN", 3, &value) && isnan(value));
    for (size_t i = 0; i < MR_ARRAY_SIZE(bad); i++) {
        if (mr_double_parse(bad[i], strlen(bad[i]), &value))
            FAIL("'%s' was read as %g", bad[i], value);
    }
}

TEST(a_very_long_number_is_read)
{
    char text[2001];
    double value;

    memset(text, '0', 2000);
    text[0] = '1';
    memcpy(text + 1990, "1e-1989", 8);
    CHECK(mr_double_parse(text, strlen(text), &value));
    CHECK_EQ_DOUBLE(value, 10.0);
}

TEST(the_locale_changes_nothing)
{
    static const char *const names[] = {"de_DE.UTF-8", "de_DE", "fr_FR.UTF-8"};
    char text[MR_NUMBER_TEXT_BYTES];
    double value;
    size_t i = 0;

    while (i < MR_ARRAY_SIZE(names) && setlocale(LC_ALL, names[i]) == NULL)
        i++;
    if (i == MR_ARRAY_SIZE(names))
        SKIP(t, "no locale with a decimal comma is installed");
    mr_double_print(1.0 / 3, text);
    CHECK(mr_double_parse("0.33333333333333331483", 22, &value));
    setlocale(LC_ALL, "C");
    CHECK_EQ_STR(text, "0.3333333333333333");
    CHECK_EQ_DOUBLE(value, 1.0 / 3);
}

static void check_decimal(const char *in, unsigned precision, unsigned scale, const char *want)
{
    char text[MR_NUMBER_TEXT_BYTES] = "refused";
    mr_int128 value;

    if (mr_decimal_parse(in, strlen(in), precision, scale, &value))
        mr_decimal_print(value, scale, text);
    CHECK_EQ_STR(text, want == NULL ? "refused" : want);
}

TEST(decimals_are_exact_or_refused)
{
    check_decimal("123.45", 5, 2, "123.45");
    check_decimal("123.4500", 5, 2, "123.45");
    check_decimal("-0.05", 5, 2, "-0.05");
    check_decimal("0", 5, 2, "0.00");
    check_decimal("1e2", 5, 2, "100.00");
    check_decimal("12345e-2", 5, 2, "123.45");
    check_decimal("7", 1, 0, "7");
    check_decimal("99999999999999999999999999999999999999", 38, 0,
                  "99999999999999999999999999999999999999");
    check_decimal("-0.99999999999999999999999999999999999999", 38, 38,
                  "-0.99999999999999999999999999999999999999");
    check_decimal("000000000000000000000000000000000000000000001.5", 2, 1, "1.5");
    check_decimal("100000000000000000000000000000000000000", 38, 0, NULL);
    check_decimal("123.456", 5, 2, NULL);
    check_decimal("1000.00", 5, 2, NULL);
    check_decimal("1e400000000", 38, 0, NULL);
    check_decimal("1e-400000000", 38, 0, NULL);
    check_decimal("", 5, 2, NULL);
    check_decimal("NaN", 5, 2, NULL);
    check_decimal("1.2.3", 5, 2, NULL);
}

TEST(a_double_with_a_fixed_number_of_decimals)
{
    char text[MR_NUMBER_TEXT_BYTES];

    mr_double_print_fixed(2.0 / 3, 2, text);
    CHECK_EQ_STR(text, "0.67");
    mr_double_print_fixed(-1, 0, text);
    CHECK_EQ_STR(text, "-1");
    mr_double_print_fixed(1e300, 3, text);
    CHECK_EQ_STR(text, "1e+300");
}
