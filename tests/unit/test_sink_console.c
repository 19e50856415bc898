/*
 * The console sink: what it prints, and when.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <errno.h>

/* An environment whose standard output is a buffer. */
struct caught {
    struct mr_env env;
    struct mr_env_ops ops;
    struct mr_buf out;
    unsigned writes;
    bool closed;
};

static enum mr_status catch_output(struct mr_env *env, const void *data, size_t size,
                                   struct mr_error *err)
{
    struct caught *caught = (struct caught *)env;

    caught->writes++;
    if (caught->closed) {
        errno = EPIPE;
        return MR_FAIL(err, MR_IO, "cannot write to standard output: the reader went away");
    }
    mr_buf_add(&caught->out, data, size);
    return MR_OK;
}

static struct mr_env *catching(struct caught *caught)
{
    memset(caught, 0, sizeof(*caught));
    caught->ops = *mr_env_posix()->ops;
    caught->ops.write_stdout = catch_output;
    caught->env.ops = &caught->ops;
    return &caught->env;
}

static const char *output(struct caught *caught)
{
    return caught->out.data != NULL ? caught->out.data : "";
}

TEST(a_batch_is_an_aligned_table_in_one_write)
{
    struct caught caught;
    struct plug_sink sink;
    const char *rows[] = {"London|3", "Paris|12;null|null"};

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "city VARCHAR, n BIGINT",
                                                   .env = catching(&caught)});
    plug_batch_out(&sink, 3, rows, 2);
    CHECK_EQ_STR(output(&caught), "-- batch 3, 2023-11-14T22:13:20.000Z, 3 rows\n"
                                  "city   |    n\n"
                                  "-------+-----\n"
                                  "London |    3\n"
                                  "Paris  |   12\n"
                                  "null   | null\n"
                                  "\n");
    CHECK_EQ_INT(caught.writes, 1);
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(nothing_is_printed_before_publish_and_nothing_of_a_failed_batch)
{
    struct caught caught;
    struct plug_sink sink;
    struct mr_error err = {0};
    const char *rows[] = {"1"};

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a BIGINT",
                                                   .env = catching(&caught)});
    CHECK_OK(plug_stage(&sink, 0, rows, 1, &err), &err);
    sink.connector->ops->abort(sink.object);
    CHECK_EQ_STR(output(&caught), "");
    plug_batch_out(&sink, 0, rows, 1);
    CHECK_CONTAINS(output(&caught), "1 row\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(rows_past_the_limit_are_counted)
{
    struct caught caught;
    struct plug_sink sink;
    const char *rows[] = {"1;2", "3;4"};

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a BIGINT",
                                                   .options = "numRows=3",
                                                   .env = catching(&caught)});
    plug_batch_out(&sink, 0, rows, 2);
    CHECK_CONTAINS(output(&caught), "4 rows\n");
    CHECK_CONTAINS(output(&caught), "3\n... 1 more row\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(long_values_are_cut_and_control_characters_escaped)
{
    struct caught caught;
    struct plug_sink sink;
    const char *rows[] = {"abcdefghij;a\tb\x1b[2J;\xea\xb0\x80\xeb\x82\x98"};

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a VARCHAR, b BIGINT",
                                                   .options = "truncate=9",
                                                   .env = catching(&caught)});
    plug_sink_close(&sink);
    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a VARCHAR",
                                                   .options = "truncate=9",
                                                   .env = &caught.env});
    plug_batch_out(&sink, 0, rows, 1);
    CHECK_CONTAINS(output(&caught), "\nabcdef...\n");
    CHECK_CONTAINS(output(&caught), "\na\\tb\\x...\n");
    CHECK_CONTAINS(output(&caught), "\xea\xb0\x80\xeb\x82\x98\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(wide_characters_take_two_columns)
{
    struct caught caught;
    struct plug_sink sink;
    const char *rows[] = {"\xea\xb0\x80\xeb\x82\x98|1;abcde|2"};

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a VARCHAR, b BIGINT",
                                                   .env = catching(&caught)});
    plug_batch_out(&sink, 0, rows, 1);
    CHECK_CONTAINS(output(&caught), "\n\xea\xb0\x80\xeb\x82\x98  | 1\nabcde | 2\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(an_empty_batch_is_shown_in_complete_mode_only)
{
    struct caught caught;
    struct plug_sink sink;

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a BIGINT",
                                                   .env = catching(&caught)});
    plug_batch_out(&sink, 0, NULL, 0);
    CHECK_EQ_INT(caught.writes, 0);
    plug_sink_close(&sink);
    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a BIGINT",
                                                   .mode = MR_MODE_COMPLETE,
                                                   .env = &caught.env});
    plug_batch_out(&sink, 0, NULL, 0);
    CHECK_CONTAINS(output(&caught), "0 rows\na\n-\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(json_style_prints_every_row_as_a_line)
{
    struct caught caught;
    struct plug_sink sink;
    const char *rows[] = {"1|x;2|null"};

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a BIGINT, b VARCHAR",
                                                   .options = "style=json\nrows=1",
                                                   .env = catching(&caught)});
    plug_batch_out(&sink, 0, rows, 1);
    CHECK_CONTAINS(output(&caught), "{\"a\":1,\"b\":\"x\"}\n");
    CHECK_CONTAINS(output(&caught), "{\"a\":2");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(a_closed_reader_ends_the_batch_with_an_error)
{
    struct caught caught;
    struct plug_sink sink;
    struct mr_error err = {0};
    const char *rows[] = {"1"};
    char *receipt = NULL;

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "console",
                                                   .columns = "a BIGINT",
                                                   .env = catching(&caught)});
    CHECK_OK(plug_stage(&sink, 0, rows, 1, &err), &err);
    caught.closed = true;
    CHECK_FAILS(sink.connector->ops->publish(sink.object, 0, &receipt, &err), &err, MR_IO,
                "went away");
    CHECK_EQ_INT(err.os_errno, EPIPE);
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

/* SK-01: the exact text of Spark's console. */
#define RULE "-------------------------------------------\n"

static void open_spark(struct plug_sink *sink, const char *columns, const char *options,
                       struct caught *caught)
{
    plug_sink_open(sink, &(struct plug_sink_spec){.connector = "console",
                                                  .columns = columns,
                                                  .options = options,
                                                  .env = catching(caught)});
}

TEST(SK_01_every_batch_is_a_box_below_its_number)
{
    struct caught caught;
    struct plug_sink sink;
    const char *first[] = {"1;2;3"}, *second[] = {"4;5;6"};

    open_spark(&sink, "value INTEGER", "style=spark", &caught);
    plug_batch_out(&sink, 0, first, 1);
    CHECK_EQ_STR(output(&caught),
                 RULE "Batch: 0\n" RULE "+-----+\n|value|\n+-----+\n|    1|\n|    2|\n|    3|\n"
                      "+-----+\n\n");
    mr_buf_clear(&caught.out);
    plug_batch_out(&sink, 1, second, 1);
    CHECK_EQ_STR(output(&caught),
                 RULE "Batch: 1\n" RULE "+-----+\n|value|\n+-----+\n|    4|\n|    5|\n|    6|\n"
                      "+-----+\n\n");
    mr_buf_clear(&caught.out);
    plug_batch_out(&sink, 2, NULL, 0);
    CHECK_EQ_STR(output(&caught), RULE "Batch: 2\n" RULE "+-----+\n|value|\n+-----+\n+-----+\n\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(SK_01_numRows_and_truncate_as_spark_has_them)
{
    struct caught caught;
    struct plug_sink sink;
    const char *rows[] = {"1;2;3"}, *digits[] = {"123456789012345678901234567890"};

    open_spark(&sink, "value INTEGER", "style=spark\nnumRows=2", &caught);
    plug_batch_out(&sink, 0, rows, 1);
    CHECK_EQ_STR(output(&caught),
                 RULE "Batch: 0\n" RULE "+-----+\n|value|\n+-----+\n|    1|\n|    2|\n+-----+\n"
                      "only showing top 2 rows\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
    open_spark(&sink, "value VARCHAR", "style=spark", &caught);
    plug_batch_out(&sink, 0, digits, 1);
    CHECK_EQ_STR(output(&caught),
                 RULE "Batch: 0\n" RULE "+--------------------+\n|               value|\n"
                      "+--------------------+\n|12345678901234567...|\n"
                      "+--------------------+\n\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
    open_spark(&sink, "value VARCHAR, n BIGINT", "style=spark\ntruncate=false", &caught);
    plug_batch_out(&sink, 0, (const char *[]){"abcdefghijklmnopqrstuvwxyz|null"}, 1);
    CHECK_EQ_STR(output(&caught), RULE "Batch: 0\n" RULE "+--------------------------+----+\n"
                                       "|value                     |n   |\n"
                                       "+--------------------------+----+\n"
                                       "|abcdefghijklmnopqrstuvwxyz|NULL|\n"
                                       "+--------------------------+----+\n\n");
    plug_sink_close(&sink);
    mr_buf_release(&caught.out);
}

TEST(truncate_that_is_no_number_is_refused)
{
    struct caught caught;
    struct plug_sink sink;
    struct mr_error err = {0};

    CHECK_FAILS(plug_sink_try(&sink,
                              &(struct plug_sink_spec){.connector = "console",
                                                       .columns = "a BIGINT",
                                                       .options = "truncate=some",
                                                       .env = catching(&caught)},
                              &err),
                &err, MR_CONFIG, "truncate = 'some'");
    plug_sink_close(&sink);
}
