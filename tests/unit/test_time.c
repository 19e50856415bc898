/*
 * Times and durations: the grid of batch times, and what people read.
 */
#include "support/test.h"

#include <millrace/dstream.h>
#include <millrace/time.h>

enum { TIMES_MAX = 8 };

TEST(V1_floor_to_a_multiple_of_a_duration)
{
    CHECK_EQ_INT(mr_time_floor(1350, 200, 0), 1200);
    CHECK_EQ_INT(mr_time_floor(1200, 200, 0), 1200);
    CHECK_EQ_INT(mr_time_floor(199, 200, 0), 0);
    CHECK_EQ_INT(mr_time_floor(1, 1, 0), 1);
}

TEST(V2_floor_on_a_grid_that_does_not_begin_at_zero)
{
    CHECK_EQ_INT(mr_time_floor(1350, 200, 50), 1250);
    CHECK_EQ_INT(mr_time_floor(1350, 200, 150), 1350);
    CHECK_EQ_INT(mr_time_floor(1350, 200, 200), 1200);
}

TEST(a_time_before_the_zero_time_is_floored_downwards_too)
{
    CHECK_EQ_INT(mr_time_floor(-1, 200, 0), -200);
    CHECK_EQ_INT(mr_time_floor(40, 200, 50), -150);
    CHECK_EQ_INT(mr_time_floor(40, 0, 50), 40);
    CHECK_EQ_INT(mr_time_floor(40, -5, 50), 40);
}

static void check_list(size_t count, const int64_t *times, size_t expected_count,
                       const int64_t *expected)
{
    CHECK_EQ_UINT(count, expected_count);
    for (size_t i = 0; i < expected_count; i++)
        CHECK_EQ_INT(times[i], expected[i]);
}

TEST(V4_until_leaves_the_end_out)
{
    int64_t times[TIMES_MAX];

    check_list(mr_time_until(1000, 1100, 100, times, TIMES_MAX), times, 1, (int64_t[]){1000});
    check_list(mr_time_until(1000, 1000, 100, times, TIMES_MAX), times, 0, NULL);
    check_list(mr_time_until(1000, 1100, 30, times, TIMES_MAX), times, 4,
               (int64_t[]){1000, 1030, 1060, 1090});
}

TEST(V5_to_takes_the_end_when_it_is_hit)
{
    int64_t times[TIMES_MAX];

    check_list(mr_time_to(1000, 1100, 100, times, TIMES_MAX), times, 2, (int64_t[]){1000, 1100});
    check_list(mr_time_to(1000, 1000, 100, times, TIMES_MAX), times, 1, (int64_t[]){1000});
    check_list(mr_time_to(1000, 1100, 30, times, TIMES_MAX), times, 4,
               (int64_t[]){1000, 1030, 1060, 1090});
}

TEST(a_list_says_how_many_there_are_when_they_do_not_fit)
{
    int64_t times[TIMES_MAX] = {0};

    CHECK_EQ_UINT(mr_time_until(0, 1000, 1, times, 2), 1000);
    CHECK_EQ_INT(times[1], 1);
    CHECK_EQ_INT(times[2], 0);
    CHECK_EQ_UINT(mr_time_to(0, 1000, 1, NULL, 0), 1001);
    CHECK_EQ_UINT(mr_time_to(0, INT64_MAX, INT64_MAX, NULL, 0), 1);
    CHECK_EQ_UINT(mr_time_to(0, 1000, 0, NULL, 0), 0);
}

TEST(V7_durations_are_plain_numbers)
{
    CHECK_EQ_DOUBLE((double)MR_SECONDS(1) / (double)MR_MILLISECONDS(5), 200.0);
    CHECK_EQ_DOUBLE((double)MR_SECONDS(1) / (double)MR_SECONDS(2), 0.5);
    CHECK_EQ_INT(MR_MILLISECONDS(100) * 0, 0);
    CHECK(mr_time_is_multiple(0, 1000));
    CHECK(mr_time_is_multiple(3000, 1000));
    CHECK(!mr_time_is_multiple(1, 1000));
    CHECK(!mr_time_is_multiple(1000, 0)); /* Spark divides by zero there */
}

TEST(V8_seconds_minutes_and_milliseconds)
{
    CHECK_EQ_INT(MR_SECONDS(30), 30000);
    CHECK_EQ_INT(MR_MINUTES(2), 120000);
    CHECK_EQ_INT(MR_MILLISECONDS(100), 100);
}

TEST(a_time_and_a_duration_have_a_text)
{
    char text[MR_TIME_BYTES];

    CHECK_EQ_STR(mr_time_print(1000, text), "1000 ms");
    CHECK_EQ_STR(mr_time_print(INT64_MIN, text), "-9223372036854775808 ms");
    CHECK_EQ_STR(mr_duration_print(999, text), "999 ms");
    CHECK_EQ_STR(mr_duration_print(1000, text), "1.0 s");
    CHECK_EQ_STR(mr_duration_print(1250, text), "1.3 s");
    CHECK_EQ_STR(mr_duration_print(59999, text), "60.0 s");
    CHECK_EQ_STR(mr_duration_print(60000, text), "1.0 m");
    CHECK_EQ_STR(mr_duration_print(3600000, text), "1.00 h");
    CHECK_EQ_STR(mr_duration_print(4500000, text), "1.25 h");
    CHECK_EQ_STR(mr_duration_print(INT64_MAX, text), "2562047788015.22 h");
}

TEST(V281_units_of_a_chart)
{
    static const struct {
        int64_t ms;
        const char *name;
        int64_t value;
    } rows[] = {
        {900, "ms", 900},    {1000, "sec", 1},      {60000, "min", 1},
        {3600000, "hrs", 1}, {86400000, "days", 1},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct mr_time_unit *unit = mr_duration_unit(rows[i].ms);

        CHECK_EQ_STR(unit->name, rows[i].name);
        CHECK_EQ_INT(rows[i].ms / unit->size_ms, rows[i].value);
    }
    CHECK_EQ_STR(mr_duration_unit(0)->name, "ms");
}

TEST(V284_short_texts_of_durations)
{
    static const struct {
        int64_t ms;
        const char *text;
    } rows[] = {
        {99, "99 ms"},       {100, "0.1 s"},     {999, "1.0 s"},       {1000, "1 s"},
        {59999, "60 s"},     {60000, "1.0 min"}, {599999, "10.0 min"}, {600000, "10 min"},
        {3599999, "60 min"}, {3600000, "1.0 h"},
    };
    char text[MR_TIME_BYTES];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        CHECK_EQ_STR(mr_duration_print_short(rows[i].ms, text), rows[i].text);
}
