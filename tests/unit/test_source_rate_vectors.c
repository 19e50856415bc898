/*
 * The vectors RT-01 to RT-05 of Structured Streaming: the sources `rate` and `rate-micro-batch`.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <stdlib.h>

/* An environment whose wall clock the test moves. */
struct clocked {
    struct mr_env env;
    struct mr_env_ops ops;
    int64_t now_us;
};

static int64_t clock_now(struct mr_env *env)
{
    return ((struct clocked *)env)->now_us;
}

static struct mr_env *clock_at(struct clocked *clocked, int64_t now_us)
{
    clocked->ops = *mr_env_posix()->ops;
    clocked->ops.wall_us = clock_now;
    clocked->env.ops = &clocked->ops;
    clocked->now_us = now_us;
    return &clocked->env;
}

static void open_rate(struct plug_source *src, struct clocked *clocked, const char *options)
{
    plug_source_open(src, &(struct plug_source_spec){.connector = "rate",
                                                     .options = options,
                                                     .env = clock_at(clocked, 0)});
}

static void refused(const char *connector, const char *options, const char *columns,
                    const char *text)
{
    struct plug_source src;
    struct mr_error err = {0};

    CHECK_FAILS(plug_source_try(&src,
                                &(struct plug_source_spec){
                                    .connector = connector, .options = options, .columns = columns},
                                &err),
                &err, MR_CONFIG, text);
    plug_source_stop(&src);
}

static int64_t number_after(const char *text, size_t row, char mark)
{
    for (; row > 0; row--)
        text = strchr(text, ';') + 1;
    return strtoll(strchr(text, mark) + 1, NULL, 10);
}

TEST(RT_01_values_are_spread_over_the_seconds)
{
    static const char end[] = "{\"start_us\":0,\"seconds\":1}";
    struct clocked clocked;
    struct plug_source src;

    open_rate(&src, &clocked, "rowsPerSecond=10");
    CHECK_EQ_STR(plug_read(&src, NULL, end),
                 "1970-01-01 00:00:00|0;1970-01-01 00:00:00.1|1;1970-01-01 00:00:00.2|2;"
                 "1970-01-01 00:00:00.3|3;1970-01-01 00:00:00.4|4;1970-01-01 00:00:00.5|5;"
                 "1970-01-01 00:00:00.6|6;1970-01-01 00:00:00.7|7;1970-01-01 00:00:00.8|8;"
                 "1970-01-01 00:00:00.9|9");
    plug_source_stop(&src);
}

/* Milliseconds of "1970-01-01 00:00:00[.mmm]|v". */
static int64_t millis_of(const char *row)
{
    const char *dot = row + strlen("1970-01-01 00:00:00");
    int64_t ms = 0;

    if (*dot != '.')
        return 0;
    for (int i = 1; i <= 3; i++)
        ms = ms * 10 + (dot[i] >= '0' && dot[i] <= '9' ? dot[i] - '0' : 0);
    for (int i = 1; i <= 3; i++) {
        if (dot[i] == '|') { /* fewer digits: those that follow the bar were not counted */
            ms = 0;
            for (int k = 1; k <= 3; k++)
                ms = ms * 10 + (k < i ? dot[k] - '0' : 0);
            break;
        }
    }
    return ms;
}

TEST(RT_01_times_are_rounded_to_milliseconds)
{
    static const char end[] = "{\"start_us\":0,\"seconds\":1}";
    struct clocked clocked;
    struct plug_source src;
    const char *row;

    open_rate(&src, &clocked, "rowsPerSecond=1500");
    row = plug_read(&src, NULL, end);
    for (int64_t v = 0; v < 1500; v++) {
        CHECK_EQ_INT(millis_of(row), (v * 1000 * 2 + 1500) / 3000);
        CHECK_EQ_INT(number_after(row, 0, '|'), v);
        row = strchr(row, ';') != NULL ? strchr(row, ';') + 1 : row;
    }
    plug_source_stop(&src);
}

TEST(RT_01_partitions_get_every_nth_value)
{
    static const char end[] = "{\"start_us\":0,\"seconds\":1}";
    struct clocked clocked;
    struct plug_source src;
    const char *rows;

    open_rate(&src, &clocked, "rowsPerSecond=33\nnumPartitions=11");
    rows = plug_read(&src, NULL, end);
    CHECK_EQ_INT(src.partitions, 11);
    for (size_t i = 0; i < 33; i++) /* partition after partition: p, p + 11, p + 22 */
        CHECK_EQ_INT(number_after(rows, i, '|'), (int64_t)(i / 3 + i % 3 * 11));
    plug_source_stop(&src);
}

/* Values of the first `second` seconds: how many rows a range from the start has. */
static int64_t values_at(const char *options, int second)
{
    struct clocked clocked;
    struct plug_source src;
    char end[60];
    const char *rows;
    int64_t count = 0;

    open_rate(&src, &clocked, options);
    snprintf(end, sizeof(end), "{\"start_us\":0,\"seconds\":%d}", second);
    rows = plug_read(&src, NULL, end);
    for (const char *at = rows; at != NULL && *at != '\0'; at = strchr(at, ';')) {
        at += *at == ';' ? 1 : 0;
        count++;
    }
    plug_source_stop(&src);
    return count;
}

TEST(RT_02_the_rate_ramps_up_linearly)
{
    static const int64_t two[] = {0, 1, 3, 8};
    static const int64_t four[] = {0, 2, 6, 12, 20, 30};

    CHECK_EQ_INT(values_at("rowsPerSecond=5", 0), 0);
    CHECK_EQ_INT(values_at("rowsPerSecond=5", 1), 5);
    for (int s = 0; s < 4; s++)
        CHECK_EQ_INT(values_at("rowsPerSecond=5\nrampUpTime=2s", s), two[s]);
    for (int s = 0; s < 6; s++)
        CHECK_EQ_INT(values_at("rowsPerSecond=10\nrampUpTime=4s", s), four[s]);
}

TEST(RT_04_numbers_that_are_no_rate_are_refused)
{
    struct clocked clocked;
    struct plug_source src;
    struct mr_error err = {0};

    refused("rate", "rowsPerSecond=0", NULL, "rows_per_second");
    refused("rate", "rowsPerSecond=-1", NULL, "rows_per_second");
    refused("rate", "numPartitions=0", NULL, "num_partitions");
    refused("rate", "", "a INTEGER", "column 'a' is not one of");
    open_rate(&src, &clocked, "rowsPerSecond=1000000000");
    CHECK_FAILS(plug_read_try(&src, NULL, "{\"start_us\":0,\"seconds\":9223372036854}", &err), &err,
                MR_LIMIT, "too large");
    plug_source_stop(&src);
}

static void check_plan(struct plug_source *src, const char *start, const char *wanted)
{
    char *end = plug_plan(src, start);

    if (wanted == NULL)
        CHECK_NULL(end);
    else
        CHECK_EQ_STR(end, wanted);
    mr_text_free(end);
}

static const char *const ends[] = {"{\"offset\":10,\"timestamp\":1050}",
                                   "{\"offset\":20,\"timestamp\":1100}",
                                   "{\"offset\":30,\"timestamp\":1150}"};
static const char micro[] = "rowsPerBatch=10\nstartTimestamp=1000\nadvanceMillisPerBatch=50";

TEST(RT_05_every_batch_has_its_rows_at_one_time)
{
    struct plug_source src;
    const struct plug_source_spec spec = {.connector = "rate-micro-batch", .options = micro};

    plug_source_open(&src, &spec);
    check_plan(&src, NULL, ends[0]);
    CHECK_EQ_STR(plug_read(&src, NULL, ends[0]),
                 "1970-01-01 00:00:01|0;1970-01-01 00:00:01|1;1970-01-01 00:00:01|2;1970-01-01 "
                 "00:00:01|3;1970-01-01 00:00:01|4;1970-01-01 00:00:01|5;1970-01-01 "
                 "00:00:01|6;1970-01-01 00:00:01|7;1970-01-01 00:00:01|8;1970-01-01 00:00:01|9");
    check_plan(&src, ends[0], ends[1]);
    CHECK_EQ_INT(number_after(plug_read(&src, ends[0], ends[1]), 0, '|'), 10);
    CHECK(strncmp(plug_read(&src, ends[0], ends[1]), "1970-01-01 00:00:01.05|", 23) == 0);
    plug_source_stop(&src);
    plug_source_open(&src, &spec); /* a restart goes on where the offset says */
    check_plan(&src, ends[1], ends[2]);
    CHECK_EQ_INT(number_after(plug_read(&src, ends[1], ends[2]), 9, '|'), 29);
    CHECK(strncmp(plug_read(&src, ends[1], ends[2]), "1970-01-01 00:00:01.1|", 22) == 0);
    plug_source_stop(&src);
}

TEST(RT_05_caught_up_is_one_batch)
{
    struct plug_source src;
    const struct plug_source_spec spec = {
        .connector = "rate-micro-batch", .options = micro, .until_caught_up = true};

    plug_source_open(&src, &spec);
    check_plan(&src, NULL, ends[0]);
    check_plan(&src, NULL, ends[0]); /* the first plan was not used */
    check_plan(&src, ends[0], NULL);
    CHECK(src.connector->ops->exhausted(src.object, ends[0]));
    plug_source_stop(&src);
}

TEST(RT_05_partitions_share_the_rows_of_a_batch)
{
    struct plug_source src;

    plug_source_open(&src, &(struct plug_source_spec){.connector = "rate-micro-batch",
                                                      .options = "rowsPerBatch=5\n"
                                                                 "numPartitions=2"});
    CHECK_EQ_INT(number_after(plug_read(&src, NULL, "{\"offset\":5,\"timestamp\":1000}"), 3, '|'),
                 1);
    CHECK_EQ_INT(src.partitions, 2);
    plug_source_stop(&src);
}

TEST(RT_05_options_that_make_no_batches_are_refused)
{
    struct plug_source src;
    struct mr_error err = {0};

    refused("rate-micro-batch", "", NULL, "rows_per_batch");
    refused("rate-micro-batch", "rowsPerBatch=0", NULL, "rows_per_batch");
    refused("rate-micro-batch", "rowsPerBatch=1\nnumPartitions=0", NULL, "num_partitions");
    refused("rate-micro-batch", "rowsPerBatch=1\nstartTimestamp=-1", NULL, "start_timestamp");
    refused("rate-micro-batch", "rowsPerBatch=1\nadvanceMillisPerBatch=-1", NULL,
            "advance_ms_per_batch");
    plug_source_open(&src, &(struct plug_source_spec){.connector = "rate-micro-batch",
                                                      .options = "rowsPerBatch=1\nstartTimestamp=0"
                                                                 "\nadvanceMillisPerBatch=0"});
    check_plan(&src, NULL, "{\"offset\":1,\"timestamp\":0}");
    plug_source_stop(&src);
    /* batch 0 was planned, not committed; its start is in the options, which changed */
    plug_source_open(&src, &(struct plug_source_spec){.connector = "rate-micro-batch",
                                                      .options = "rowsPerBatch=10\n"
                                                                 "startTimestamp=5000"});
    CHECK_FAILS(plug_read_try(&src, NULL, ends[0], &err), &err, MR_CONFIG, "start_timestamp");
    plug_source_stop(&src);
}
