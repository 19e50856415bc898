/*
 * Event-time windows: the vectors of structured-vectors.md section 7 and the edges of structured.md
 * 10.1.
 */
#include "support/ops_harness.h"

#include "base/buf.h"

#define SECOND INT64_C(1000000)

/* Windows of "ts|id" rows as "start|end|ts|id". */
static const char *windows(int64_t size_us, int64_t slide_us, int64_t offset_us, const char *rows)
{
    struct mr_batch *batch = ops_batch("ts TIMESTAMP, id INTEGER", rows);
    struct mr_window_spec spec = {.column = 0,
                                  .size_us = size_us,
                                  .slide_us = slide_us,
                                  .offset_us = offset_us,
                                  .start_name = "window_start",
                                  .end_name = "window_end"};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_window(mr_batch_schema(batch), &spec, &op, &err), &err);
    return ops_map(&op, batch);
}

TEST(tumbling_windows_hold_their_start_and_not_their_end)
{
    CHECK_EQ_STR(windows(5 * SECOND, 5 * SECOND, 0, "0s|1;4999999|2;5s|3;9s|4;3s|5"),
                 "0s|5s|0s|1;0s|5s|4999999|2;5s|10s|5s|3;5s|10s|9s|4;0s|5s|3s|5");
}

TEST(TW_01_sliding_windows_come_latest_first)
{
    /* 19:39:27, :34, :56 of that day as seconds since 19:39:00 on a multiple of 3 s */
    CHECK_EQ_STR(windows(10 * SECOND, 3 * SECOND, 0, "27s|1"),
                 "27s|37s|27s|1;24s|34s|27s|1;21s|31s|27s|1;18s|28s|27s|1");
    CHECK_EQ_STR(windows(10 * SECOND, 3 * SECOND, 0, "34s|1"),
                 "33s|43s|34s|1;30s|40s|34s|1;27s|37s|34s|1");
    CHECK_EQ_STR(windows(10 * SECOND, 3 * SECOND, 0, "56s|1"),
                 "54s|64s|56s|1;51s|61s|56s|1;48s|58s|56s|1");
}

TEST(TW_02_a_start_of_plus_or_minus_five_seconds_is_the_same_grid)
{
    const char *want = "25s|35s|34s|1;55s|65s|56s|2;25s|35s|27s|3";

    CHECK_EQ_STR(windows(10 * SECOND, 10 * SECOND, 0, "34s|1;56s|2;27s|3"),
                 "30s|40s|34s|1;50s|60s|56s|2;20s|30s|27s|3");
    CHECK_EQ_STR(windows(10 * SECOND, 10 * SECOND, 5 * SECOND, "34s|1;56s|2;27s|3"), want);
    CHECK_EQ_STR(windows(10 * SECOND, 10 * SECOND, -5 * SECOND, "34s|1;56s|2;27s|3"), want);
}

TEST(TW_04_times_before_1970_round_down)
{
    CHECK_EQ_STR(windows(10 * SECOND, 10 * SECOND, 5 * SECOND, "2s|1;12s|2"),
                 "-5s|5s|2s|1;5s|15s|12s|2");
    CHECK_EQ_STR(windows(10 * SECOND, 10 * SECOND, 5 * SECOND, "-86398s|1"),
                 "-86405s|-86395s|-86398s|1");
    CHECK_EQ_STR(windows(10 * SECOND, 10 * SECOND, 0, "-1|1;-10s|2;-10000001|3"),
                 "-10s|0s|-1|1;-10s|0s|-10s|2;-20s|-10s|-10000001|3");
}

TEST(TW_05_two_hundred_milliseconds_every_forty)
{
    CHECK_EQ_STR(windows(200000, 40000, 0, "410000|1"),
                 "400000|600000|410000|1;360000|560000|410000|1;320000|520000|410000|1;"
                 "280000|480000|410000|1;240000|440000|410000|1");
    CHECK_EQ_STR(windows(200000, 40000, 0, "715000|1"),
                 "680000|880000|715000|1;640000|840000|715000|1;600000|800000|715000|1;"
                 "560000|760000|715000|1;520000|720000|715000|1");
}

TEST(a_size_that_is_no_multiple_of_the_slide_leaves_out_windows_that_end_before_the_row)
{
    CHECK_EQ_STR(windows(5 * SECOND, 3 * SECOND, 0, "5s|1;6s|2;8s|3"),
                 "3s|8s|5s|1;6s|11s|6s|2;3s|8s|6s|2;6s|11s|8s|3");
}

TEST(rows_without_a_time_are_in_no_window)
{
    CHECK_EQ_STR(windows(5 * SECOND, 5 * SECOND, 0, "null|1;6s|2;null|3"), "5s|10s|6s|2");
    CHECK_EQ_STR(windows(10 * SECOND, 5 * SECOND, 0, "null|1"), "");
    CHECK_EQ_STR(windows(10 * SECOND, 5 * SECOND, 0, "null|1;6s|null"),
                 "5s|15s|6s|null;0s|10s|6s|null");
}

TEST(nanoseconds_are_floored_to_microseconds_for_the_window_only)
{
    struct mr_batch *batch = ops_batch("ts TIMESTAMP_NS", "4999999999;5000000000;-1");
    struct mr_window_spec spec = {.column = 0,
                                  .size_us = 5 * SECOND,
                                  .slide_us = 5 * SECOND,
                                  .offset_us = 0,
                                  .start_name = "a",
                                  .end_name = "b"};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_window(mr_batch_schema(batch), &spec, &op, &err), &err);
    /* The harness prints every timestamp whose number is a multiple of 10^6 in "s". */
    CHECK_EQ_STR(ops_map(&op, batch), "0s|5s|4999999999;5s|10s|5000s;-5s|0s|-1");
}

TEST(many_windows_a_row_come_in_pieces_and_none_is_lost)
{
    enum { ROWS = 500, WINDOWS = 1000 };
    struct mr_buf rows = MR_BUF_INIT;
    const char *at;
    int count = 1;

    for (int i = 0; i < ROWS; i++)
        mr_buf_printf(&rows, "%s%ds|%d", i == 0 ? "" : ";", i, i);
    at = windows(WINDOWS * SECOND, SECOND, 0, rows.data);
    for (; *at != '\0'; at++)
        count += *at == ';';
    CHECK_EQ_INT(count, ROWS * WINDOWS);
    mr_buf_release(&rows);
}

static void refuse(int64_t size_us, int64_t slide_us, int64_t offset_us, const char *part)
{
    struct mr_schema *schema = ops_schema("ts TIMESTAMP, id INTEGER");
    struct mr_window_spec spec = {.column = 0,
                                  .size_us = size_us,
                                  .slide_us = slide_us,
                                  .offset_us = offset_us,
                                  .start_name = "a",
                                  .end_name = "b"};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_FAILS(mr_op_window(schema, &spec, &op, &err), &err, MR_CONFIG, part);
    mr_schema_unref(schema);
}

TEST(H19_TW_08_impossible_windows_are_refused_when_planned)
{
    refuse(0, 1, 0, "size must be positive");
    refuse(-5, 1, 0, "size must be positive");
    refuse(5, 0, 0, "slide must be positive");
    refuse(5, 6, 0, "at most the size");
    refuse(5, 5, 5, "start must be between");
    refuse(5, 5, -5, "start must be between");
    refuse(INT64_MAX, 1, 0, "at most 10000");
}

TEST(only_timestamps_have_windows_and_names_must_be_free)
{
    struct mr_schema *schema = ops_schema("ts TIMESTAMP, id INTEGER");
    struct mr_window_spec spec = {.column = 1,
                                  .size_us = 5,
                                  .slide_us = 5,
                                  .offset_us = 0,
                                  .start_name = "a",
                                  .end_name = "b"};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_FAILS(mr_op_window(schema, &spec, &op, &err), &err, MR_CONFIG, "'id'");
    spec.column = 2;
    CHECK_FAILS(mr_op_window(schema, &spec, &op, &err), &err, MR_CONFIG, "column 2");
    spec = (struct mr_window_spec){.column = 0,
                                   .size_us = 5,
                                   .slide_us = 5,
                                   .offset_us = 0,
                                   .start_name = "ts",
                                   .end_name = "b"};
    CHECK_FAILS(mr_op_window(schema, &spec, &op, &err), &err, MR_CONFIG, "ts");
    mr_schema_unref(schema);
}

static void fail_at(int64_t size_us, int64_t slide_us, const char *rows)
{
    struct mr_batch *batch = ops_batch("ts TIMESTAMP", rows);
    struct mr_window_spec spec = {.column = 0,
                                  .size_us = size_us,
                                  .slide_us = slide_us,
                                  .offset_us = 0,
                                  .start_name = "a",
                                  .end_name = "b"};
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_window(mr_batch_schema(batch), &spec, &op, &err), &err);
    CHECK_FAILS(op.ops->apply(op.op, NULL, &info, batch, &out, &err), &err, MR_BAD_DATA,
                "out of range");
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
}

TEST(K10_times_whose_window_does_not_fit_64_bits_are_bad_data)
{
    fail_at(10 * SECOND, 10 * SECOND, "9223372036854775807");
    fail_at(10 * SECOND, 10 * SECOND, "-9223372036854775807");
    fail_at(10 * SECOND, 5 * SECOND, "0s;9223372036854775807");
    fail_at(10 * SECOND, 5 * SECOND, "-9223372036854775807");
    /* The last window before the start of time begins too early, the one that holds the row alone
     * does not. */
    CHECK_EQ_STR(windows(2, 1, 0, "-9223372036854775806|1"),
                 "-9223372036854775806|-9223372036854775804|-9223372036854775806|1;"
                 "-9223372036854775807|-9223372036854775805|-9223372036854775806|1");
}
