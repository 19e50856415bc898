/*
 * LIMIT (structured.md 17): the first rows of a partition, and of the whole life of a query.
 */
#include "support/ops_harness.h"

#include "ops/stateful.h"

static void make_limit(struct ops_flow *flow, void *arg)
{
    const uint64_t *rows_max = arg;
    struct mr_error err = {0};

    CHECK_OK(mr_op_local_limit(flow->input, *rows_max, &flow->partial, &err), &err);
    CHECK_OK(mr_op_limit(flow->input, *rows_max, "limit", &flow->fold, &err), &err);
}

TEST(rows_pass_until_there_are_enough)
{
    const char *partitions[] = {"1;2;3", NULL, "4;5;6;7"};
    uint64_t rows_max = 8;
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, "v BIGINT", make_limit, &rows_max);
    CHECK_EQ_STR(ops_flow_batch(&flow, partitions, 3), "1;2;3;4;5;6;7");
    CHECK_EQ_STR(ops_flow_rows(&flow, "8;9"), "8");
    CHECK_EQ_STR(ops_flow_rows(&flow, "10"), "");
    ops_flow_close(&flow);
}

TEST(a_larger_limit_goes_on_from_what_has_passed)
{
    uint64_t rows_max = 2;
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, "v BIGINT", make_limit, &rows_max);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1;2;3"), "1;2");
    rows_max = 3;
    ops_flow_restart(&flow, NULL);
    CHECK_EQ_STR(ops_flow_rows(&flow, "4;5"), "4");
    rows_max = 1;
    ops_flow_restart(&flow, NULL);
    CHECK_EQ_STR(ops_flow_rows(&flow, "6"), "");
    ops_flow_close(&flow);
}

TEST(a_batch_that_is_rolled_back_has_not_counted)
{
    const char *rows = "1;2";
    uint64_t rows_max = 3;
    struct mr_error err = {0};
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, "v BIGINT", make_limit, &rows_max);
    for (int i = 0; i < 3; i++) {
        CHECK_OK(ops_flow_run(&flow, &rows, 1, &err), &err);
        CHECK_EQ_INT(flow.out.rows, 2);
        ops_flow_rollback(&flow);
    }
    CHECK_EQ_STR(ops_flow_rows(&flow, rows), "1;2");
    CHECK_EQ_STR(ops_flow_rows(&flow, "3;4"), "3");
    ops_flow_close(&flow);
}

TEST(a_partition_passes_no_more_than_the_limit)
{
    struct mr_schema *schema = ops_schema("v BIGINT");
    struct mr_error err = {0};
    struct mr_map_op op;

    CHECK_OK(mr_op_local_limit(schema, 2, &op, &err), &err);
    CHECK_EQ_STR(ops_map(&op, ops_batch("v BIGINT", "1;2;3")), "1;2");
    CHECK_OK(mr_op_local_limit(schema, 0, &op, &err), &err);
    CHECK_EQ_STR(ops_map(&op, ops_batch("v BIGINT", "1;2;3")), "");
    mr_schema_unref(schema);
}
