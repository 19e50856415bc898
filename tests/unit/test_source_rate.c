/*
 * The sources that make rows up: rate, datagen, template.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

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

static void check_plan(struct plug_source *src, const char *start, const char *wanted)
{
    char *end = plug_plan(src, start);

    if (wanted == NULL)
        CHECK_NULL(end);
    else
        CHECK_EQ_STR(end, wanted);
    mr_text_free(end);
}

TEST(rate_makes_its_rows_by_whole_seconds)
{
    struct clocked clocked;
    struct plug_source src;

    plug_source_open(&src, &(struct plug_source_spec){.connector = "rate",
                                                      .options = "rowsPerSecond=4",
                                                      .env = clock_at(&clocked, 1000000)});
    check_plan(&src, NULL, NULL);
    clocked.now_us += 999999;
    check_plan(&src, NULL, NULL);
    clocked.now_us += 1;
    check_plan(&src, NULL, "{\"start_us\":1000000,\"seconds\":1}");
    CHECK_EQ_STR(plug_read(&src, NULL, "{\"start_us\":1000000,\"seconds\":1}"),
                 "1970-01-01 00:00:01|0;1970-01-01 00:00:01.25|1;1970-01-01 "
                 "00:00:01.5|2;1970-01-01 00:00:01.75|3");
    plug_source_stop(&src);
}

TEST(rate_goes_on_where_its_offset_says_and_ignores_a_clock_that_goes_back)
{
    struct clocked clocked;
    struct plug_source src;
    const char *start = "{\"start_us\":1000000,\"seconds\":5}";

    plug_source_open(
        &src, &(struct plug_source_spec){.connector = "rate", .env = clock_at(&clocked, 9000000)});
    check_plan(&src, start, "{\"start_us\":1000000,\"seconds\":8}");
    CHECK_EQ_STR(plug_read(&src, start, "{\"start_us\":1000000,\"seconds\":8}"),
                 "1970-01-01 00:00:06|5;1970-01-01 00:00:07|6;1970-01-01 00:00:08|7");
    clocked.now_us = 2000000;
    check_plan(&src, "{\"start_us\":1000000,\"seconds\":8}", NULL);
    plug_source_stop(&src);
}

TEST(rate_ramps_up_and_deals_values_to_partitions_in_turn)
{
    struct clocked clocked;
    struct plug_source src;

    plug_source_open(&src, &(struct plug_source_spec){
                               .connector = "rate",
                               .options = "rowsPerSecond=8\nrampUpTime=3s\nnumPartitions=2",
                               .produce = "value BIGINT",
                               .env = clock_at(&clocked, 0)});
    /* slope 8 / 4 = 2: second 1 has 2 rows, second 2 has 4, second 3 has 6, then 8 each */
    CHECK_EQ_STR(plug_read(&src, NULL, "{\"start_us\":0,\"seconds\":2}"), "0;2;4;1;3;5");
    CHECK_EQ_STR(
        plug_read(&src, "{\"start_us\":0,\"seconds\":3}", "{\"start_us\":0,\"seconds\":4}"),
        "12;14;16;18;13;15;17;19");
    plug_source_stop(&src);
}

TEST(rate_refuses_other_columns_and_damaged_offsets)
{
    struct plug_source src;
    struct mr_error err = {0};
    struct mr_plan_limits limits = {false};
    struct plug_source_spec spec = {.connector = "rate", .columns = "value INTEGER"};
    char *end = NULL;

    CHECK_FAILS(plug_source_try(&src, &spec, &err), &err, MR_CONFIG, "column 'value'");
    plug_source_stop(&src);
    spec.columns = NULL;
    plug_source_open(&src, &spec);
    CHECK(src.connector->ops->plan(src.object, "{\"start_us\":1}", &limits, &end, NULL) != MR_OK);
    CHECK(src.connector->ops->plan(src.object, "x", &limits, &end, NULL) != MR_OK);
    plug_source_stop(&src);
}

TEST(datagen_gives_the_same_rows_for_the_same_seed)
{
    const char *columns =
        "id BIGINT, city VARCHAR, score DOUBLE, small TINYINT, ok BOOLEAN, d DATE, blob BLOB";
    const char *options =
        "rows=100\nfields.id.kind=sequence\nfields.city.choices=London,Paris\nfields.score.max=10\n"
        "fields.small.min=-3\nfields.small.max=3\nfields.blob.length=2";
    struct plug_source one;
    struct plug_source two;
    char *end;

    plug_source_open(&one, &(struct plug_source_spec){
                               .connector = "datagen", .columns = columns, .options = options});
    plug_source_open(&two, &(struct plug_source_spec){
                               .connector = "datagen", .columns = columns, .options = options});
    end = plug_plan(&one, NULL);
    CHECK_CONTAINS(end, "\"rows\":100}");
    CHECK_EQ_STR(plug_read(&one, NULL, end), plug_read(&two, NULL, end));
    CHECK_CONTAINS(one.rows.data, "0|");
    CHECK_CONTAINS(one.rows.data, ";99|");
    CHECK_CONTAINS(one.rows.data, "|Paris|");
    CHECK_CONTAINS(one.rows.data, "|London|");
    CHECK(one.connector->ops->exhausted(one.object, end));
    mr_text_free(end);
    plug_source_stop(&one);
    plug_source_stop(&two);
}

TEST(datagen_rows_do_not_depend_on_the_batches)
{
    struct plug_source src;
    struct mr_buf joined = MR_BUF_INIT;

    plug_source_open(
        &src, &(struct plug_source_spec){.connector = "datagen", .columns = "a BIGINT, b VARCHAR"});
    mr_buf_add_str(&joined, plug_read(&src, NULL, "{\"start_us\":0,\"rows\":3}"));
    mr_buf_add_char(&joined, ';');
    mr_buf_add_str(&joined,
                   plug_read(&src, "{\"start_us\":0,\"rows\":3}", "{\"start_us\":0,\"rows\":7}"));
    CHECK_EQ_STR(plug_read(&src, NULL, "{\"start_us\":0,\"rows\":7}"), joined.data);
    mr_buf_release(&joined);
    plug_source_stop(&src);
}

TEST(datagen_keeps_to_its_rate_and_its_times)
{
    struct clocked clocked;
    struct plug_source src;

    plug_source_open(&src, &(struct plug_source_spec){
                               .connector = "datagen",
                               .columns = "ts TIMESTAMP",
                               .options = "rows_per_second=10\nfields.ts.start=2026-01-01 00:00:00",
                               .env = clock_at(&clocked, 5000000)});
    check_plan(&src, NULL, NULL);
    clocked.now_us += 250000;
    check_plan(&src, NULL, "{\"start_us\":5000000,\"rows\":2}");
    CHECK_EQ_STR(plug_read(&src, NULL, "{\"start_us\":5000000,\"rows\":2}"),
                 "2026-01-01 00:00:00;2026-01-01 00:00:00.1");
    plug_source_stop(&src);
}

TEST(datagen_names_the_option_that_does_not_fit)
{
    static const char *const wrong[][2] = {
        {"fields.a.kind=sequins", "fields.a.kind"},
        {"fields.a.maxx=3", "did you mean 'max'"},
        {"fields.zz.kind=random", "no such column"},
        {"fields.a=1", "fields.COLUMN.KEY"},
        {"fields.a.min=9\nfields.a.max=2", "min is larger"},
        {"fields.b.kind=sequence", "only random"},
        {"fields.a.choices=x,y", "only for text"},
        {"fields.a.nulls=101", "percentage"},
    };
    struct plug_source src;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct mr_error err = {0};

        CHECK_FAILS(plug_source_try(&src,
                                    &(struct plug_source_spec){.connector = "datagen",
                                                               .columns = "a BIGINT, b DOUBLE",
                                                               .options = wrong[i][0]},
                                    &err),
                    &err, MR_CONFIG, wrong[i][1]);
        plug_source_stop(&src);
    }
}

TEST(template_makes_its_numbers_batch_by_batch)
{
    struct plug_source src;

    plug_source_open(&src, &(struct plug_source_spec){.connector = "template",
                                                      .options = "rows=7\nrows_per_batch=4"});
    check_plan(&src, NULL, "4");
    check_plan(&src, "4", "7");
    check_plan(&src, "7", NULL);
    CHECK_EQ_STR(plug_read(&src, NULL, "4"), "1;2;3;4");
    CHECK_EQ_STR(plug_read(&src, "4", "7"), "5;6;7");
    CHECK(src.connector->ops->exhausted(src.object, "7"));
    CHECK(!src.connector->ops->exhausted(src.object, "4"));
    plug_source_stop(&src);
}
