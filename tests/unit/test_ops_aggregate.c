/*
 * Incremental aggregation without event time: aggregates by type, kinds of keys, output modes
 * without a watermark, and the differential test against a model that keeps every row.
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "ops/aggregate.h"

#include <stdlib.h>

/* count(*), count(a), sum(a), min(a), max(a), avg(a) of one column without keys, given in two
 * partitions and a second batch. */
static const char *all_of(struct test *t, const char *type, const char *rows, const char *more)
{
    static char text[1024];
    struct mr_agg aggs[] = {
        {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "rows"},
        {.kind = MR_AGG_COUNT, .column = 0, .name = "n"},
        {.kind = MR_AGG_SUM, .column = 0, .name = "total"},
        {.kind = MR_AGG_MIN, .column = 0, .name = "least"},
        {.kind = MR_AGG_MAX, .column = 0, .name = "most"},
        {.kind = MR_AGG_AVG, .column = 0, .name = "mean"},
    };
    struct mr_aggregate_spec spec = {.aggs = aggs,
                                     .agg_count = MR_ARRAY_SIZE(aggs),
                                     .mode = MR_MODE_COMPLETE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct ops_flow flow;
    char schema[64];

    snprintf(schema, sizeof(schema), "a %s", type);
    ops_flow_open(&flow, t->dir, schema, &spec);
    ops_flow_batch(&flow, (const char *const[]){rows, more}, 2);
    const char *result = ops_flow_batch(&flow, NULL, 0);
    snprintf(text, sizeof(text), "%s", result);
    ops_flow_close(&flow);
    return text;
}

/* The same for types without sum: min and max only. */
static const char *best_of(struct test *t, const char *type, const char *rows, const char *more)
{
    static char text[1024];
    struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT, .column = 0, .name = "n"},
                            {.kind = MR_AGG_MIN, .column = 0, .name = "least"},
                            {.kind = MR_AGG_MAX, .column = 0, .name = "most"}};
    struct mr_aggregate_spec spec = {.aggs = aggs,
                                     .agg_count = MR_ARRAY_SIZE(aggs),
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct ops_flow flow;
    char schema[64];

    snprintf(schema, sizeof(schema), "a %s", type);
    ops_flow_open(&flow, t->dir, schema, &spec);
    snprintf(text, sizeof(text), "%s", ops_flow_batch(&flow, (const char *const[]){rows, more}, 2));
    ops_flow_close(&flow);
    return text;
}

TEST(integers_of_every_width_are_aggregated_exactly)
{
    CHECK_EQ_STR(all_of(t, "TINYINT", "-128;null;127", "1"), "4|3|0|-128|127|0.0");
    CHECK_EQ_STR(all_of(t, "SMALLINT", "-32768;3", "null"), "3|2|-32765|-32768|3|-16382.5");
    CHECK_EQ_STR(all_of(t, "INTEGER", "2147483647;2147483647", "2"),
                 "3|3|4294967296|2|2147483647|1431655765.3333333");
    CHECK_EQ_STR(all_of(t, "BIGINT", "9223372036854775807;-9223372036854775807", "5"),
                 "3|3|5|-9223372036854775807|9223372036854775807|1.6666666666666667");
    CHECK_EQ_STR(all_of(t, "UTINYINT", "255;0", "1"), "3|3|256|0|255|85.33333333333333");
    CHECK_EQ_STR(all_of(t, "USMALLINT", "65535;1", "2"), "3|3|65538|1|65535|21846.0");
    CHECK_EQ_STR(all_of(t, "UINTEGER", "4294967295;1", "0"),
                 "3|3|4294967296|0|4294967295|1431655765.3333333");
    CHECK_EQ_STR(all_of(t, "UBIGINT", "9223372036854775000;7", "800"),
                 "3|3|9223372036854775807|7|9223372036854775000|3.0744573456182584e+18");
}

TEST(floats_and_decimals_are_aggregated)
{
    CHECK_EQ_STR(all_of(t, "DOUBLE", "0.5;-1.25", "null;2"),
                 "4|3|1.25|-1.25|2.0|0.4166666666666667");
    CHECK_EQ_STR(all_of(t, "FLOAT", "0.5;1.5", "4"), "3|3|6.0|0.5|4.0|2.0");
    CHECK_EQ_STR(all_of(t, "DECIMAL(10,2)", "1.10;-2.20", "3.30"),
                 "3|3|2.20|-2.20|3.30|0.7333333333333333");
    CHECK_EQ_STR(all_of(t, "DECIMAL(38,0)", "99999999999999999999999999999999999998;null", "1"),
                 "3|2|99999999999999999999999999999999999999|1|"
                 "99999999999999999999999999999999999998|5e+37");
}

TEST(float_sums_survive_cancellation_and_do_not_depend_on_the_cut)
{
    CHECK_EQ_STR(all_of(t, "DOUBLE", "1e16;1;-1e16", "null"), "4|3|1.0|-1e+16|1e+16|"
                                                              "0.3333333333333333");
    CHECK_EQ_STR(all_of(t, "DOUBLE", "1e16;1", "-1e16"), "3|3|1.0|-1e+16|1e+16|0.3333333333333333");
    CHECK_EQ_STR(all_of(t, "DOUBLE", "1e16", "1;-1e16"), "3|3|1.0|-1e+16|1e+16|0.3333333333333333");
}

TEST(H10_NaN_is_above_infinity_and_zero_has_no_sign)
{
    CHECK_EQ_STR(best_of(t, "DOUBLE", "NaN;1", "Infinity"), "3|1.0|NaN");
    CHECK_EQ_STR(best_of(t, "DOUBLE", "NaN", "NaN"), "2|NaN|NaN");
    CHECK_EQ_STR(best_of(t, "DOUBLE", "-0.0", "0.0"), "2|0.0|0.0");
    CHECK_EQ_STR(best_of(t, "FLOAT", "-Infinity;2", "NaN"), "3|-Infinity|NaN");
    CHECK_EQ_STR(all_of(t, "DOUBLE", "Infinity;1", "2"), "3|3|Infinity|1.0|Infinity|Infinity");
    CHECK_EQ_STR(all_of(t, "DOUBLE", "Infinity", "-Infinity;1"), "3|3|NaN|-Infinity|Infinity|NaN");
}

TEST(min_and_max_take_every_type_that_compares)
{
    CHECK_EQ_STR(best_of(t, "BOOLEAN", "true;null", "false"), "2|false|true");
    CHECK_EQ_STR(best_of(t, "DATE", "1;0", "-1"), "3|1969-12-31|1970-01-02");
    CHECK_EQ_STR(best_of(t, "TIMESTAMP", "5s;7s", "null"), "2|5s|7s");
    CHECK_EQ_STR(best_of(t, "TIMESTAMP_NS", "5;-7", "null"), "2|-7|5");
    CHECK_EQ_STR(best_of(t, "UBIGINT", "18446744073709551615;0", "1"), "3|0|18446744073709551615");
    CHECK_EQ_STR(best_of(t, "VARCHAR", "pear;apple;null", "zebra;a"), "4|a|zebra");
    CHECK_EQ_STR(best_of(t, "VARCHAR", "null", ""), "0|null|null");
    CHECK_EQ_STR(best_of(t, "VARCHAR", "b", ";a"), "3||b");
    CHECK_EQ_STR(best_of(t, "BLOB", "b;a", "ab"), "3|\\x61|\\x62");
}

TEST(nothing_and_only_nulls_give_null_but_counts_give_zero)
{
    CHECK_EQ_STR(all_of(t, "INTEGER", NULL, NULL), "0|0|null|null|null|null");
    CHECK_EQ_STR(all_of(t, "INTEGER", "null", "null"), "2|0|null|null|null|null");
    CHECK_EQ_STR(all_of(t, "DOUBLE", "null", NULL), "1|0|null|null|null|null");
    CHECK_EQ_STR(all_of(t, "DECIMAL(5,1)", "null", NULL), "1|0|null|null|null|null");
}

TEST(result_types_are_as_documented)
{
    struct mr_schema *input =
        ops_schema("i INTEGER, d DECIMAL(10,2), f FLOAT, s VARCHAR, t TIMESTAMP_NS");
    struct mr_agg aggs[] = {
        {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "a"},
        {.kind = MR_AGG_SUM, .column = 0, .name = "b"},
        {.kind = MR_AGG_SUM, .column = 1, .name = "c"},
        {.kind = MR_AGG_SUM, .column = 2, .name = "d"},
        {.kind = MR_AGG_MIN, .column = 3, .name = "e"},
        {.kind = MR_AGG_MAX, .column = 4, .name = "f"},
        {.kind = MR_AGG_AVG, .column = 1, .name = "g"},
        {.kind = MR_AGG_MIN, .column = 2, .name = "h"},
    };
    const uint32_t keys[] = {3};
    const char *const names[] = {"key"};
    struct mr_aggregate_spec spec = {.input = input,
                                     .keys = keys,
                                     .key_names = names,
                                     .key_count = 1,
                                     .aggs = aggs,
                                     .agg_count = MR_ARRAY_SIZE(aggs),
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_fold_op op = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_op_aggregate_fold(&spec, &op, &err), &err);
    char *text = mr_schema_print(op.schema);
    CHECK_EQ_STR(text, "key VARCHAR, a BIGINT, b BIGINT, c DECIMAL(38,2), d DOUBLE, e VARCHAR, "
                       "f TIMESTAMP_NS, g DOUBLE, h FLOAT");
    mr_text_free(text);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_schema_unref(input);
}

TEST(aggregates_that_make_no_sense_are_refused_when_planned)
{
    struct mr_schema *input = ops_schema("s VARCHAR, l INTEGER[], ts TIMESTAMP, b BOOLEAN");
    struct mr_agg agg = {.kind = MR_AGG_SUM, .column = 0, .name = "x"};
    const uint32_t keys[] = {0, 2};
    const char *const names[] = {"a", "b"};
    struct mr_aggregate_spec spec = {.input = input,
                                     .keys = keys,
                                     .key_names = names,
                                     .key_count = 1,
                                     .aggs = &agg,
                                     .agg_count = 1,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_fold_op op = {0};
    struct mr_error err = {0};

    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "sum of 's'");
    agg = (struct mr_agg){.kind = MR_AGG_AVG, .column = 3, .name = "x"};
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "avg of 'b'");
    agg = (struct mr_agg){.kind = MR_AGG_MAX, .column = 1, .name = "x"};
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "INTEGER[]");
    agg = (struct mr_agg){.kind = MR_AGG_COUNT, .column = 9, .name = "x"};
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "column 9");
    agg = (struct mr_agg){.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "a"};
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "a");
    agg = (struct mr_agg){.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    spec.mode = MR_MODE_APPEND;
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "watermark");
    spec.event_time_key = 0;
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "TIMESTAMP");
    spec.event_time_key = 1;
    CHECK_FAILS(mr_op_aggregate_fold(&spec, &op, &err), &err, MR_CONFIG, "there are 1 keys");
    mr_schema_unref(input);
}

TEST(H9_sums_that_do_not_fit_their_result_are_bad_data_not_a_wrong_number)
{
    static const char *const types[][3] = {
        {"BIGINT", "9223372036854775807;1", "BIGINT"},
        {"UBIGINT", "9223372036854775808", "BIGINT"},
        {"DECIMAL(38,0)",
         "99999999999999999999999999999999999999;99999999999999999999999999999999999999;"
         "99999999999999999999999999999999999999;99999999999999999999999999999999999999",
         "38 digits"},
        {"DECIMAL(38,0)", "99999999999999999999999999999999999999;1", "38 digits"},
    };
    struct mr_agg agg = {.kind = MR_AGG_SUM, .column = 0, .name = "total"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(types); i++) {
        struct mr_aggregate_spec spec = {.aggs = &agg,
                                         .agg_count = 1,
                                         .mode = MR_MODE_UPDATE,
                                         .state_name = "s",
                                         .event_time_key = -1};
        struct ops_flow flow;
        struct mr_error err = {0};
        char schema[64];
        snprintf(schema, sizeof(schema), "a %s", types[i][0]);
        ops_flow_open(&flow, t->dir, schema, &spec);
        CHECK_FAILS(ops_flow_run(&flow, &types[i][1], 1, &err), &err, MR_BAD_DATA, types[i][2]);
        ops_flow_close(&flow);
    }
}

/* count(*) by the first `count` columns, complete mode. */
static const char *counts_by(struct test *t, const char *schema, uint32_t count, const char *rows)
{
    static struct mr_buf text;
    const uint32_t keys[] = {0, 1, 2};
    const char *const names[] = {"k0", "k1", "k2"};
    struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    struct mr_aggregate_spec spec = {.keys = keys,
                                     .key_names = names,
                                     .key_count = count,
                                     .aggs = &agg,
                                     .agg_count = 1,
                                     .mode = MR_MODE_COMPLETE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, schema, &spec);
    mr_buf_clear(&text);
    mr_buf_add_str(&text, ops_flow_rows(&flow, rows));
    ops_flow_close(&flow);
    return text.data == NULL ? "" : text.data;
}

TEST(keys_of_every_type_group_and_come_out_in_order)
{
    CHECK_EQ_STR(counts_by(t, "k VARCHAR", 1, "b;a;b;;null;a;a"), "null|1;|1;a|3;b|2");
    CHECK_EQ_STR(counts_by(t, "k VARCHAR", 1, "1234567;12345678;123456789;12345678;1234567"),
                 "1234567|2;12345678|2;123456789|1");
    CHECK_EQ_STR(counts_by(t, "k BOOLEAN", 1, "true;false;null;true"), "null|1;false|1;true|2");
    CHECK_EQ_STR(counts_by(t, "k TINYINT", 1, "-1;1;-1;0"), "-1|2;0|1;1|1");
    CHECK_EQ_STR(counts_by(t, "k SMALLINT", 1, "-300;300;-300"), "-300|2;300|1");
    CHECK_EQ_STR(counts_by(t, "k INTEGER", 1, "7;-7;7;null"), "null|1;-7|1;7|2");
    CHECK_EQ_STR(counts_by(t, "k BIGINT", 1, "0;-9223372036854775807;null;0"),
                 "null|1;-9223372036854775807|1;0|2");
    CHECK_EQ_STR(counts_by(t, "k UTINYINT", 1, "200;2;200"), "2|1;200|2");
    CHECK_EQ_STR(counts_by(t, "k USMALLINT", 1, "60000;2"), "2|1;60000|1");
    CHECK_EQ_STR(counts_by(t, "k UINTEGER", 1, "4000000000;2"), "2|1;4000000000|1");
    CHECK_EQ_STR(counts_by(t, "k UBIGINT", 1, "18446744073709551615;0;null"),
                 "null|1;0|1;18446744073709551615|1");
    CHECK_EQ_STR(counts_by(t, "k DECIMAL(20,2)", 1, "1.50;-1.50;1.50;null"),
                 "null|1;-1.50|1;1.50|2");
    CHECK_EQ_STR(counts_by(t, "k DATE", 1, "1;0;1"), "1970-01-01|1;1970-01-02|2");
    CHECK_EQ_STR(counts_by(t, "k TIMESTAMP", 1, "1s;-1s;1s"), "-1s|1;1s|2");
    CHECK_EQ_STR(counts_by(t, "k INTEGER[]", 1, "[1,2];[1];[1,2];[];null;[null]"),
                 "null|1;[]|1;[null]|1;[1]|1;[1, 2]|2");
    CHECK_EQ_STR(counts_by(t, "k BLOB", 1, "b;a;b"), "\\x61|1;\\x62|2");
}

TEST(H10_NaN_is_one_key_and_so_are_both_zeros)
{
    CHECK_EQ_STR(counts_by(t, "k DOUBLE", 1, "NaN;0.0;-0.0;-NaN;Infinity;-1.5"),
                 "-1.5|1;0.0|2;Infinity|1;NaN|2");
    CHECK_EQ_STR(counts_by(t, "k FLOAT", 1, "NaN;0.0;-0.0;-1.5;0.1;0.1"),
                 "-1.5|1;0.0|2;0.1|2;NaN|1");
}

TEST(keys_of_several_columns_are_tuples)
{
    CHECK_EQ_STR(counts_by(t, "a VARCHAR, b VARCHAR", 2, "x|y;xy|;|xy;x|y;null|y;x|null"),
                 "null|y|1;|xy|1;x|null|1;x|y|2;xy||1");
    CHECK_EQ_STR(counts_by(t, "a TIMESTAMP, b BIGINT, c VARCHAR", 3,
                           "5s|1|a;5s|1|a;5s|2|a;10s|1|a;5s|1|abcdefghij;5s|1|abcdefghij"),
                 "5s|1|a|2;5s|1|abcdefghij|2;5s|2|a|1;10s|1|a|1");
}

TEST(texts_that_hold_zero_bytes_are_different_keys)
{
    struct mr_schema *schema = ops_schema("k VARCHAR");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_error err = {0};
    const uint32_t keys[] = {0};
    const char *const names[] = {"k"};
    struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    struct mr_aggregate_spec spec = {.input = schema,
                                     .keys = keys,
                                     .key_names = names,
                                     .key_count = 1,
                                     .aggs = &agg,
                                     .agg_count = 1,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_map_op op = {0};
    void *task = NULL;

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (size_t size = 0; size <= 20; size++) { /* "", "\0", "\0\0", ... */
        for (int twice = 0; twice < 2; twice++) {
            mr_batch_builder_text(builder, 0, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", size);
            mr_batch_builder_end_row(builder);
        }
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_OK(mr_op_aggregate_partial(&spec, &op, &err), &err);
    CHECK_OK(op.ops->begin(op.op, &info, &task, &err), &err);
    CHECK_OK(op.ops->apply(op.op, task, &info, batch, &out, &err), &err);
    CHECK_OK(op.ops->finish(op.op, task, &info, &out, &err), &err);
    CHECK_EQ_INT(out.rows, 21);
    for (int64_t i = 0; i < 21; i++) {
        struct mr_slice key = mr_column_text(mr_batch_column(out.batches[0], 0), i);
        CHECK_EQ_UINT(key.size_bytes, 3 + 2 * (size_t)i); /* 01, each zero twice, 00 00 */
    }
    op.ops->end(op.op, task);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

static void open_counts(struct ops_flow *flow, struct test *t, enum mr_output_mode mode,
                        struct mr_aggregate_spec *spec)
{
    static const uint32_t keys[] = {0};
    static const char *const names[] = {"v"};
    static const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};

    *spec = (struct mr_aggregate_spec){.keys = keys,
                                       .key_names = names,
                                       .key_count = 1,
                                       .aggs = &agg,
                                       .agg_count = 1,
                                       .mode = mode,
                                       .state_name = "counts",
                                       .event_time_key = -1};
    ops_flow_open(flow, t->dir, "v INTEGER", spec);
}

TEST(AGG_01_update_mode_emits_changed_groups)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_counts(&flow, t, MR_MODE_UPDATE, &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "3"), "3|1");
    CHECK_EQ_STR(ops_flow_rows(&flow, "3;2"), "2|1;3|2");
    ops_flow_restart(&flow, &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "3;2;1"), "1|1;2|2;3|3");
    CHECK_EQ_STR(ops_flow_rows(&flow, "4;4;4;4"), "4|4");
    CHECK_EQ_STR(ops_flow_batch(&flow, (const char *const[]){"1;4", NULL, "4;1"}, 3), "1|3;4|6");
    CHECK_EQ_STR(ops_flow_rows(&flow, ""), "");
    ops_flow_close(&flow);
}

TEST(AGG_02_complete_mode_emits_everything)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_counts(&flow, t, MR_MODE_COMPLETE, &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "3"), "3|1");
    CHECK_EQ_STR(ops_flow_rows(&flow, "2"), "2|1;3|1");
    ops_flow_restart(&flow, &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "3;2;1"), "1|1;2|2;3|2");
    CHECK_EQ_STR(ops_flow_rows(&flow, "4;4;4;4"), "1|1;2|2;3|2;4|4");
    CHECK_EQ_STR(ops_flow_rows(&flow, ""), "1|1;2|2;3|2;4|4");
    ops_flow_close(&flow);
}

TEST(without_keys_there_is_one_row_in_every_batch)
{
    struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
                            {.kind = MR_AGG_MAX, .column = 0, .name = "m"}};
    struct mr_aggregate_spec spec = {.aggs = aggs,
                                     .agg_count = 2,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, "v VARCHAR", &spec);
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0), "0|null");
    CHECK_EQ_STR(ops_flow_rows(&flow, "a;b"), "2|b");
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0), "2|b");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
    ops_flow_close(&flow);
}

TEST(select_distinct_is_an_aggregation_without_aggregates)
{
    const uint32_t keys[] = {0};
    const char *const names[] = {"v"};
    struct mr_aggregate_spec spec = {.keys = keys,
                                     .key_names = names,
                                     .key_count = 1,
                                     .mode = MR_MODE_COMPLETE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, "v VARCHAR", &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "b;a;b"), "a;b");
    ops_flow_close(&flow);
}

TEST(a_batch_that_failed_and_is_run_again_counts_once)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;
    struct mr_error err = {0};
    const char *rows = "1;2;1";

    open_counts(&flow, t, MR_MODE_UPDATE, &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1"), "1|1");
    CHECK_OK(ops_flow_run(&flow, &rows, 1, &err), &err);
    ops_flow_rollback(&flow);
    CHECK_EQ_STR(ops_flow_rows(&flow, rows), "1|3;2|1");
    ops_flow_close(&flow);
}

/* ---- buffers ---- */

static struct mr_agg_layout *layout_of(const char *schema_text, const struct mr_agg *aggs,
                                       uint32_t count)
{
    struct mr_schema *schema = ops_schema(schema_text);
    struct mr_aggregate_spec spec = {.input = schema,
                                     .aggs = aggs,
                                     .agg_count = count,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_agg_layout *layout = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_agg_layout_new(&spec, &layout, &err), &err);
    mr_schema_unref(schema);
    return layout;
}

/* The buffers of those rows. */
static struct mr_buf buffers_of(const char *schema, const struct mr_agg *aggs, uint32_t count,
                                const char *rows)
{
    struct mr_batch *batch = ops_batch(schema, rows);
    struct mr_aggregate_spec spec = {.input = mr_batch_schema(batch),
                                     .aggs = aggs,
                                     .agg_count = count,
                                     .mode = MR_MODE_UPDATE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct mr_batch_info info = {0};
    struct mr_output out = {0};
    struct mr_map_op op = {0};
    struct mr_buf buffers = MR_BUF_INIT;
    struct mr_error err = {0};
    void *task = NULL;

    CHECK_OK(mr_op_aggregate_partial(&spec, &op, &err), &err);
    CHECK_OK(op.ops->begin(op.op, &info, &task, &err), &err);
    CHECK_OK(op.ops->apply(op.op, task, &info, batch, &out, &err), &err);
    CHECK_OK(op.ops->finish(op.op, task, &info, &out, &err), &err);
    op.ops->end(op.op, task);
    struct mr_slice value = mr_column_text(mr_batch_column(out.batches[0], 1), 0);
    mr_buf_add(&buffers, value.data, value.size_bytes);
    ops_output_release(&out);
    op.ops->free(op.op);
    mr_schema_unref(op.schema);
    mr_batch_unref(batch);
    return buffers;
}

TEST(what_was_merged_can_be_subtracted_again)
{
    const char *schema = "a INTEGER, b DOUBLE, c DECIMAL(10,2)";
    struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
                            {.kind = MR_AGG_SUM, .column = 0, .name = "s"},
                            {.kind = MR_AGG_SUM, .column = 1, .name = "t"},
                            {.kind = MR_AGG_SUM, .column = 2, .name = "u"},
                            {.kind = MR_AGG_COUNT, .column = 0, .name = "m"},
                            {.kind = MR_AGG_AVG, .column = 0, .name = "v"}};
    struct mr_agg_layout *layout = layout_of(schema, aggs, 6);
    struct mr_buf a = buffers_of(schema, aggs, 6, "1|0.1|1.10;null|0.2|2.20");
    struct mr_buf b = buffers_of(schema, aggs, 6, "5|1e300|3.30;7|0.5|null");
    struct mr_buf sum = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_agg_merge(layout, &sum, a.data, a.size, &err), &err);
    CHECK_EQ_MEM(sum.data, a.data, a.size); /* empty takes b */
    CHECK_OK(mr_agg_merge(layout, &sum, b.data, b.size, &err), &err);
    CHECK_OK(mr_agg_subtract(layout, &sum, b.data, b.size, &err), &err);
    CHECK_EQ_UINT(sum.size, a.size);
    CHECK_OK(mr_agg_subtract(layout, &sum, a.data, a.size, &err), &err);
    for (size_t i = 0; i < sum.size; i++)
        CHECK_EQ_INT(sum.data[i], 0);
    CHECK_FAILS(mr_agg_subtract(layout, &sum, a.data, a.size, &err), &err, MR_INTERNAL, "2 rows");
    mr_buf_release(&a);
    mr_buf_release(&b);
    mr_buf_release(&sum);
    mr_agg_layout_free(layout);
}

TEST(min_and_max_cannot_be_subtracted)
{
    struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
                            {.kind = MR_AGG_MIN, .column = 0, .name = "s"}};
    struct mr_agg_layout *layout = layout_of("a INTEGER", aggs, 2);
    struct mr_buf a = buffers_of("a INTEGER", aggs, 2, "1");
    struct mr_buf b = buffers_of("a INTEGER", aggs, 2, "1;2");
    struct mr_error err = {0};

    CHECK_FAILS(mr_agg_subtract(layout, &b, a.data, a.size, &err), &err, MR_CONFIG, "min or max");
    mr_buf_release(&a);
    mr_buf_release(&b);
    mr_agg_layout_free(layout);
}

TEST(buffers_of_a_wrong_size_are_damage)
{
    const char *schema = "a VARCHAR, b INTEGER";
    struct mr_agg aggs[] = {{.kind = MR_AGG_MIN, .column = 0, .name = "n"},
                            {.kind = MR_AGG_MAX, .column = 0, .name = "x"},
                            {.kind = MR_AGG_SUM, .column = 1, .name = "s"}};
    struct mr_agg_layout *layout = layout_of(schema, aggs, 3);
    struct mr_buf good = buffers_of(schema, aggs, 3, "abc|1;xyz|2");
    struct mr_buf sum = MR_BUF_INIT;
    struct mr_error err = {0};

    for (size_t size = 0; size < good.size; size++)
        CHECK_FAILS(mr_agg_merge(layout, &sum, good.data, size, &err), &err, MR_CORRUPT, NULL);
    good.data[8] = 2; /* present */
    CHECK_FAILS(mr_agg_merge(layout, &sum, good.data, good.size, &err), &err, MR_CORRUPT, NULL);
    good.data[8] = 1;
    good.data[9] = 4; /* size of the first string */
    CHECK_FAILS(mr_agg_merge(layout, &sum, good.data, good.size, &err), &err, MR_CORRUPT, NULL);
    mr_buf_release(&good);
    mr_buf_release(&sum);
    mr_agg_layout_free(layout);
}

TEST(sum_and_avg_of_one_column_share_their_slot)
{
    struct mr_agg aggs[] = {{.kind = MR_AGG_SUM, .column = 0, .name = "s"},
                            {.kind = MR_AGG_AVG, .column = 0, .name = "a"},
                            {.kind = MR_AGG_SUM, .column = 0, .name = "s2"},
                            {.kind = MR_AGG_MIN, .column = 0, .name = "m"},
                            {.kind = MR_AGG_MAX, .column = 0, .name = "x"}};
    struct mr_agg_layout *layout = layout_of("a INTEGER", aggs, 5);
    struct mr_buf text = MR_BUF_INIT;

    mr_agg_print(layout, &text);
    CHECK_EQ_STR(text.data, "rows, sum(a INTEGER), min(a INTEGER), max(a INTEGER)");
    CHECK_EQ_UINT(layout->fixed_bytes, 8 + 24 + 9 + 9);
    mr_buf_release(&text);
    mr_agg_layout_free(layout);
}

/* ---- the differential test ---- */

enum { MODEL_ROWS = 3000, MODEL_GROUPS = 400 };

struct model_group {
    char key[160];
    int64_t rows;
    int64_t count;
    int64_t sum;
    int64_t min;
    int64_t max;
    char least[24];
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One random row "a|b|v|s" of the schema below; keys of all lengths, some null. */
static void random_row(uint64_t *random, char *text, size_t size)
{
    char a[24] = "null";
    char v[24] = "null";
    char s[24] = "null";

    if (next_random(random) % 10 != 0)
        snprintf(a, sizeof(a), "%.*s", (int)(next_random(random) % 13), "abcdefghijklm");
    if (next_random(random) % 7 != 0)
        snprintf(v, sizeof(v), "%d", (int)(next_random(random) % 2001) - 1000);
    if (next_random(random) % 7 != 0)
        snprintf(s, sizeof(s), "%.*s", 1 + (int)(next_random(random) % 12),
                 &"zyxwvutsrqponm"[next_random(random) % 3]);
    snprintf(text, size, "%s|%d|%s|%s", a, (int)(next_random(random) % 20), v, s);
}

static void model_add(struct model_group *groups, size_t *count, const char *row)
{
    char copy[128];
    char *part[4];
    struct model_group *group = NULL;
    size_t i;

    snprintf(copy, sizeof(copy), "%s", row);
    part[0] = copy;
    for (i = 1; i < 4; i++) {
        part[i] = strchr(part[i - 1], '|');
        *part[i]++ = '\0';
    }
    char key[160];
    snprintf(key, sizeof(key), "%s|%s", part[0], part[1]);
    for (i = 0; i < *count && group == NULL; i++)
        if (strcmp(groups[i].key, key) == 0)
            group = &groups[i];
    if (group == NULL) {
        CHECK(*count < MODEL_GROUPS);
        group = &groups[(*count)++];
        snprintf(group->key, sizeof(group->key), "%s", key);
    }
    group->rows++;
    if (strcmp(part[2], "null") != 0) {
        int64_t value = strtoll(part[2], NULL, 10);
        group->min = group->count == 0 || value < group->min ? value : group->min;
        group->max = group->count == 0 || value > group->max ? value : group->max;
        group->sum += value;
        group->count++;
    }
    if (strcmp(part[3], "null") != 0 &&
        (group->least[0] == '\0' || strcmp(part[3], group->least) < 0))
        snprintf(group->least, sizeof(group->least), "%s", part[3]);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The rows of a text in byte order, so that two texts with the same rows are equal. */
static char *sorted_rows(const char *text)
{
    char *copy = strdup(text);
    char *lines[MODEL_GROUPS + 1];
    size_t count = 0;
    struct mr_buf out = MR_BUF_INIT;

    for (char *at = copy; at != NULL && *at != '\0';) {
        char *end = strchr(at, ';');
        CHECK(count < MR_ARRAY_SIZE(lines));
        lines[count++] = at;
        if (end != NULL)
            *end++ = '\0';
        at = end;
    }
    qsort(lines, count, sizeof(lines[0]), by_text);
    for (size_t i = 0; i < count; i++)
        mr_buf_printf(&out, "%s%s", i == 0 ? "" : "\n", lines[i]);
    free(copy);
    return mr_buf_take(&out);
}

static char *model_rows(const struct model_group *groups, size_t count)
{
    struct mr_buf out = MR_BUF_INIT;

    for (size_t i = 0; i < count; i++) {
        const struct model_group *group = &groups[i];
        mr_buf_printf(&out, "%s%s|%" PRId64 "|%" PRId64 "|", i == 0 ? "" : ";", group->key,
                      group->rows, group->count);
        if (group->count == 0)
            mr_buf_printf(&out, "null|null|null");
        else
            mr_buf_printf(&out, "%" PRId64 "|%" PRId64 "|%" PRId64, group->sum, group->min,
                          group->max);
        mr_buf_printf(&out, "|%s", group->least[0] == '\0' ? "null" : group->least);
    }
    char *sorted = sorted_rows(out.data);
    mr_buf_release(&out);
    return sorted;
}

/* Random rows, cut into random batches and partitions, against a model that sees them one by
 * one. */
static void compare_with_model(struct test *t, uint64_t seed)
{
    static struct model_group groups[MODEL_GROUPS];
    const uint32_t keys[] = {0, 1};
    const char *const names[] = {"a", "b"};
    struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "rows"},
                            {.kind = MR_AGG_COUNT, .column = 2, .name = "n"},
                            {.kind = MR_AGG_SUM, .column = 2, .name = "total"},
                            {.kind = MR_AGG_MIN, .column = 2, .name = "least"},
                            {.kind = MR_AGG_MAX, .column = 2, .name = "most"},
                            {.kind = MR_AGG_MIN, .column = 3, .name = "first"}};
    struct mr_aggregate_spec spec = {.keys = keys,
                                     .key_names = names,
                                     .key_count = 2,
                                     .aggs = aggs,
                                     .agg_count = MR_ARRAY_SIZE(aggs),
                                     .mode = MR_MODE_COMPLETE,
                                     .state_name = "s",
                                     .event_time_key = -1};
    struct ops_flow flow;
    struct mr_buf parts[3] = {{0}};
    uint64_t random = seed;
    size_t group_count = 0;
    const char *have = "";

    memset(groups, 0, sizeof(groups));
    ops_flow_open(&flow, t->dir, "a VARCHAR, b SMALLINT, v INTEGER, s VARCHAR", &spec);
    for (int row = 0; row < MODEL_ROWS;) {
        for (int p = 0; p < 3; p++) {
            int count = (int)(next_random(&random) % (next_random(&random) % 8 == 0 ? 1500 : 40));
            mr_buf_clear(&parts[p]);
            for (int i = 0; i < count && row < MODEL_ROWS; i++, row++) {
                char text[128];
                random_row(&random, text, sizeof(text));
                model_add(groups, &group_count, text);
                mr_buf_printf(&parts[p], "%s%s", i == 0 ? "" : ";", text);
            }
        }
        const char *texts[3];
        for (int p = 0; p < 3; p++)
            texts[p] = parts[p].size == 0 ? NULL : parts[p].data;
        have = ops_flow_batch(&flow, texts, 3);
    }
    char *want = model_rows(groups, group_count);
    char *sorted = sorted_rows(have);
    CHECK_EQ_STR(sorted, want);
    mr_text_free(want);
    mr_text_free(sorted);
    for (int p = 0; p < 3; p++)
        mr_buf_release(&parts[p]);
    ops_flow_close(&flow);
}

TEST(random_rows_in_random_cuts_agree_with_a_model)
{
    uint64_t first = test_seed(20261121);

    for (uint64_t i = 0; i < (test_quick() ? 4u : 15u); i++)
        compare_with_model(t, first + i * 7919);
}
