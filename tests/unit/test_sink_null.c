/*
 * The null sink and the template sink.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"

#include <sys/stat.h>

static char *receipt_of(const char *columns, const char *const *rows, uint32_t partition_count)
{
    struct plug_sink sink;
    struct mr_error err = {0};
    char *receipt = NULL;

    plug_sink_open(&sink, &(struct plug_sink_spec){.connector = "null", .columns = columns});
    CHECK_OK(plug_stage(&sink, 0, rows, partition_count, &err), &err);
    CHECK_OK(sink.connector->ops->publish(sink.object, 0, &receipt, &err), &err);
    plug_sink_close(&sink);
    return receipt;
}

TEST(the_checksum_does_not_depend_on_order_or_partitions)
{
    const char *one[] = {"1|a|0.5;2|b|1.5;3|null|2.5"};
    const char *two[] = {"3|null|2.5;1|a|0.5", "2|b|1.5"};
    const char *other[] = {"1|a|0.5;2|b|1.5;3|null|2.25"};
    const char *twice[] = {"1|a|0.5;2|b|1.5;3|null|2.5;1|a|0.5"};
    const char *swapped[] = {"1|b|0.5;2|a|1.5;3|null|2.5"};
    char *first = receipt_of("a BIGINT, b VARCHAR, c DOUBLE", one, 1);
    char *second = receipt_of("a BIGINT, b VARCHAR, c DOUBLE", two, 2);
    const char *const *different[] = {other, twice, swapped};

    CHECK_CONTAINS(first, "{\"rows\":3,\"checksum\":\"");
    CHECK_EQ_STR(first, second);
    for (size_t i = 0; i < 3; i++) {
        char *third = receipt_of("a BIGINT, b VARCHAR, c DOUBLE", different[i], 1);

        CHECK(strcmp(first, third) != 0);
        mr_text_free(third);
    }
    mr_text_free(first);
    mr_text_free(second);
}

TEST(columns_with_swapped_values_have_another_checksum)
{
    const char *one[] = {"1|2"};
    const char *two[] = {"2|1"};
    char *first = receipt_of("a BIGINT, b BIGINT", one, 1);
    char *second = receipt_of("a BIGINT, b BIGINT", two, 1);

    CHECK(strcmp(first, second) != 0);
    mr_text_free(first);
    mr_text_free(second);
}

TEST(the_template_sink_recognises_its_batches)
{
    const char *rows[] = {"1|a", "2|null"};
    struct plug_sink sink;
    struct mr_error err = {0};
    char *options = mr_asprintf("path=%s", test_path(t, "out"));
    struct plug_sink_spec spec = {
        .connector = "template", .columns = "a BIGINT, b VARCHAR", .options = options};
    char *text;
    int64_t last;

    plug_sink_open(&sink, &spec);
    CHECK_EQ_INT(plug_last_published(&sink), -1);
    plug_batch_out(&sink, 12, rows, 2);
    plug_batch_out(&sink, 12, rows, 2);
    text = plug_read_file(test_path(t, "out/batch-12.txt"));
    CHECK_EQ_STR(text, "# q1\n1\ta\n2\tnull\n");
    mr_text_free(text);
    CHECK_EQ_INT(plug_last_published(&sink), 12);
    plug_sink_close(&sink);
    spec.query_id = "q2";
    plug_sink_open(&sink, &spec);
    CHECK_FAILS(sink.connector->ops->last_published(sink.object, &last, &err), &err, MR_CONFIG,
                "another query");
    mr_error_clear(&err);
    CHECK_FAILS(plug_stage(&sink, 12, rows, 2, &err), &err, MR_CANNOT_CREATE, "batch-12.txt");
    sink.connector->ops->abort(sink.object);
    plug_sink_close(&sink);
    mr_free(options);
}
