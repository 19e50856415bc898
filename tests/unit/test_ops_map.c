/*
 * project, filter and watermark: the stateless operators.
 */
#include "support/ops_harness.h"

#include "base/buf.h"

TEST(project_chooses_orders_and_renames_columns)
{
    struct mr_batch *batch = ops_batch("a INTEGER, b VARCHAR, c DOUBLE", "1|x|0.5;2|null|1.5");
    const uint32_t columns[] = {2, 0, 0};
    const char *const names[] = {"z", "y", "x"};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_project(mr_batch_schema(batch), columns, names, 3, &op, &err), &err);
    char *schema = mr_schema_print(op.schema);
    CHECK_EQ_STR(schema, "z DOUBLE, y INTEGER, x INTEGER");
    mr_text_free(schema);
    CHECK_EQ_STR(ops_map(&op, batch), "0.5|1|1;1.5|2|2");
}

TEST(project_refuses_columns_that_are_not_there_and_double_names)
{
    struct mr_schema *schema = ops_schema("a INTEGER, b VARCHAR");
    const uint32_t columns[] = {0, 5};
    const char *const names[] = {"x", "x"};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_FAILS(mr_op_project(schema, columns, names, 2, &op, &err), &err, MR_CONFIG, "column 5");
    CHECK_FAILS(mr_op_project(schema, (const uint32_t[]){0, 1}, names, 2, &op, &err), &err,
                MR_CONFIG, "x");
    mr_schema_unref(schema);
}

static const char *filtered(const char *schema, const char *rows, uint32_t column,
                            enum mr_compare compare, const char *literal)
{
    struct mr_batch *batch = ops_batch(schema, rows);
    struct mr_predicate predicate = {column, compare, literal,
                                     literal == NULL ? 0 : strlen(literal)};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_filter(mr_batch_schema(batch), &predicate, 1, &op, &err), &err);
    return ops_map(&op, batch);
}

TEST(filter_keeps_rows_whose_integers_compare)
{
    const char *schema = "a INTEGER";
    const char *rows = "1;2;3;null";

    CHECK_EQ_STR(filtered(schema, rows, 0, MR_EQ, "2"), "2");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_NE, "2"), "1;3");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_LT, "2"), "1");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_LE, "2"), "1;2");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_GT, "2"), "3");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_GE, "2"), "2;3");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_IS_NULL, NULL), "null");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_IS_NOT_NULL, NULL), "1;2;3");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_EQ, "99999999999"), "");
    CHECK_EQ_STR(filtered(schema, rows, 0, MR_LT, "99999999999"), "1;2;3");
}

TEST(filter_compares_every_type_with_its_own_literal)
{
    CHECK_EQ_STR(filtered("a BOOLEAN", "true;false;null", 0, MR_EQ, "true"), "true");
    CHECK_EQ_STR(filtered("a TINYINT", "-128;127", 0, MR_LT, "0"), "-128");
    CHECK_EQ_STR(filtered("a SMALLINT", "-3;7", 0, MR_GE, "7"), "7");
    CHECK_EQ_STR(filtered("a UTINYINT", "0;255", 0, MR_GT, "128"), "255");
    CHECK_EQ_STR(filtered("a USMALLINT", "0;65535", 0, MR_GT, "128"), "65535");
    CHECK_EQ_STR(filtered("a UINTEGER", "0;4294967295", 0, MR_GT, "128"), "4294967295");
    CHECK_EQ_STR(filtered("a UBIGINT", "1;18446744073709551615", 0, MR_GT, "9223372036854775808"),
                 "18446744073709551615");
    CHECK_EQ_STR(filtered("a DOUBLE", "-0.0;0.0;1.0", 0, MR_EQ, "0"), "-0.0;0.0");
    CHECK_EQ_STR(filtered("a DOUBLE", "NaN;Infinity;1.0", 0, MR_GT, "Infinity"), "NaN");
    CHECK_EQ_STR(filtered("a DOUBLE", "NaN;Infinity;1.0", 0, MR_EQ, "NaN"), "NaN");
    CHECK_EQ_STR(filtered("a DOUBLE", "-1.5;-2.5;1.0", 0, MR_LT, "-2"), "-2.5");
    CHECK_EQ_STR(filtered("a FLOAT", "0.1;0.2", 0, MR_EQ, "0.1"), "0.1");
    CHECK_EQ_STR(filtered("a DECIMAL(10,2)", "-1.50;2.25", 0, MR_LT, "2.25"), "-1.50");
    CHECK_EQ_STR(filtered("a VARCHAR", "a;ab;;b", 0, MR_GT, "a"), "ab;b");
    CHECK_EQ_STR(filtered("a VARCHAR", "a;ab;;b", 0, MR_LE, "a"), "a;");
    CHECK_EQ_STR(filtered("a VARCHAR", "view;click;views;null", 0, MR_EQ, "view"), "view");
    CHECK_EQ_STR(filtered("a VARCHAR", "view;click;null", 0, MR_NE, "view"), "click");
    CHECK_EQ_STR(filtered("a DATE", "0;1;null", 0, MR_GE, "1970-01-02"), "1970-01-02");
    CHECK_EQ_STR(filtered("a TIMESTAMP", "1s;2s", 0, MR_GE, "1970-01-01 00:00:02"), "2s");
    CHECK_EQ_STR(filtered("a INTEGER[]", "[1,2];null", 0, MR_IS_NULL, NULL), "null");
}

TEST(filter_takes_several_comparisons_at_once)
{
    struct mr_batch *batch = ops_batch("a INTEGER, b VARCHAR", "1|x;2|y;3|x;4|null;5|x;6|y");
    struct mr_predicate predicates[] = {
        {0, MR_GT, "1", 1},
        {1, MR_EQ, "x", 1},
    };
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_filter(mr_batch_schema(batch), predicates, 2, &op, &err), &err);
    CHECK_EQ_STR(ops_map(&op, batch), "3|x;5|x");
}

TEST(filter_keeps_the_order_over_many_chunks)
{
    struct mr_buf rows = MR_BUF_INIT;
    struct mr_buf want = MR_BUF_INIT;

    for (int i = 0; i < 5000; i++) {
        mr_buf_printf(&rows, "%s%d", i == 0 ? "" : ";", i);
        if (i >= 1020)
            mr_buf_printf(&want, "%s%d", i == 1020 ? "" : ";", i);
    }
    CHECK_EQ_STR(filtered("a INTEGER", rows.data, 0, MR_GE, "1020"), want.data);
    CHECK_EQ_STR(filtered("a INTEGER", rows.data, 0, MR_GE, "0"), rows.data);
    CHECK_EQ_STR(filtered("a INTEGER", rows.data, 0, MR_LT, "0"), "");
    mr_buf_release(&rows);
    mr_buf_release(&want);
}

static void refuse(const char *schema_text, enum mr_compare compare, const char *literal,
                   const char *part)
{
    struct mr_schema *schema = ops_schema(schema_text);
    struct mr_predicate predicate = {0, compare, literal, literal == NULL ? 0 : strlen(literal)};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_FAILS(mr_op_filter(schema, &predicate, 1, &op, &err), &err, MR_CONFIG, part);
    mr_schema_unref(schema);
}

TEST(filter_refuses_literals_of_another_type)
{
    refuse("a INTEGER", MR_EQ, "one", "'one': not a INTEGER");
    refuse("a UBIGINT", MR_EQ, "-1", "not a UBIGINT");
    refuse("a BOOLEAN", MR_EQ, "2", "not a BOOLEAN");
    refuse("a DECIMAL(4,1)", MR_EQ, "1.25", "not a DECIMAL(4,1)");
    refuse("a DATE", MR_EQ, "yesterday", "not a DATE");
    refuse("a INTEGER[]", MR_EQ, "1", "INTEGER[]");
    refuse("a INTEGER", MR_EQ, NULL, "give a literal");
}

TEST(watermark_reports_event_times_floored_to_milliseconds)
{
    struct mr_batch *batch = ops_batch("ts TIMESTAMP", "10s;12s;null;14000999;-1");
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_watermark(mr_batch_schema(batch), 0, &op, &err), &err);
    CHECK_OK(op.ops->apply(op.op, NULL, &info, batch, &out, &err), &err);
    CHECK_EQ_INT(out.rows, 5); /* rows pass as they are */
    CHECK(out.batches[0] == batch);
    CHECK_EQ_UINT(out.event_count, 4);
    CHECK_EQ_INT(out.event_min_us, -1000);
    CHECK_EQ_INT(out.event_max_us, 14000000);
    CHECK_EQ_DOUBLE(out.event_sum_us, 10000000 + 12000000 + 14000000 - 1000);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
}

TEST(WM_20_averages_of_event_times_do_not_overflow)
{
    struct mr_batch *batch =
        ops_batch("ts TIMESTAMP_NS", "9223372036854775806;9223372036854775806;null");
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_watermark(mr_batch_schema(batch), 0, &op, &err), &err);
    CHECK_OK(op.ops->apply(op.op, NULL, &info, batch, &out, &err), &err);
    CHECK_EQ_INT(out.event_max_us, INT64_C(9223372036854000));
    CHECK_EQ_UINT(out.event_count, 2);
    CHECK_NEAR(out.event_sum_us / 2, 9223372036854000.0, 4);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
}

TEST(infinity_is_no_event_time)
{
    struct mr_batch *batch =
        ops_batch("ts TIMESTAMP", "5000;9223372036854775807;-9223372036854775807");
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_watermark(mr_batch_schema(batch), 0, &op, &err), &err);
    CHECK_OK(op.ops->apply(op.op, NULL, &info, batch, &out, &err), &err);
    CHECK_EQ_UINT(out.event_count, 1);
    CHECK_EQ_INT(out.event_max_us, 5000);
    CHECK_EQ_INT(out.rows, 3);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
}

TEST(watermark_says_nothing_about_batches_without_times_and_refuses_other_types)
{
    struct mr_batch *batch = ops_batch("ts TIMESTAMP, a INTEGER", "null|1;null|2");
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op = {0};
    struct mr_error err = {0};

    CHECK_FAILS(mr_op_watermark(mr_batch_schema(batch), 1, &op, &err), &err, MR_CONFIG, "'a'");
    CHECK_FAILS(mr_op_watermark(mr_batch_schema(batch), 2, &op, &err), &err, MR_CONFIG, "column 2");
    CHECK_OK(mr_op_watermark(mr_batch_schema(batch), 0, &op, &err), &err);
    CHECK_OK(op.ops->apply(op.op, NULL, &info, batch, &out, &err), &err);
    CHECK_EQ_UINT(out.event_count, 0);
    CHECK_EQ_INT(out.rows, 2);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
}
