/*
 * Deduplication and limits (structured.md 13, 17): what passes, what is late, what leaves the
 * state, runs of one batch that are repeated, restarts; and random rows against a list.
 */
#include "support/ops_harness.h"

#include "ops/stateful.h"

#include <stdlib.h>

#define SECOND INT64_C(1000000)

static const uint32_t first_column[] = {0};
static const uint32_t second_column[] = {1};
static const uint32_t both_columns[] = {0, 1};

static void make_dedup(struct ops_flow *flow, void *arg)
{
    struct mr_dedup_spec *spec = arg;
    struct mr_error err = {0};

    spec->input = flow->input;
    CHECK_OK(mr_op_dedup(spec, &flow->fold, &err), &err);
}

static void open_dedup(struct ops_flow *flow, struct test *t, const char *schema,
                       struct mr_dedup_spec *spec)
{
    spec->state_name = "dedup";
    ops_flow_open_with(flow, t->dir, schema, make_dedup, spec);
}

static struct mr_fold_progress progress_of(const struct ops_flow *flow)
{
    struct mr_fold_progress progress = {0};

    flow->fold.ops->progress(flow->fold.op, &progress);
    return progress;
}

TEST(the_first_row_of_a_key_passes)
{
    struct mr_dedup_spec spec = {.keys = first_column, .key_count = 1, .time_column = -1};
    const char *partitions[] = {"1|a;2|b;1|c", "2|d;3|e"};
    struct ops_flow flow;

    open_dedup(&flow, t, "k BIGINT, x VARCHAR", &spec);
    CHECK_EQ_STR(ops_flow_batch(&flow, partitions, 2), "1|a;2|b;3|e");
    CHECK_EQ_INT(progress_of(&flow).metrics[0].value, 2);
    CHECK_EQ_STR(ops_flow_rows(&flow, "3|f;null|g;4|h;null|i"), "null|g;4|h");
    CHECK_EQ_UINT(progress_of(&flow).rows_total, 5);
    CHECK_EQ_UINT(progress_of(&flow).rows_updated, 2);
    CHECK_EQ_INT(progress_of(&flow).metrics[0].value, 2);
    ops_flow_restart(&flow, NULL);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|j;null|k;5|l"), "5|l");
    ops_flow_close(&flow);
}

TEST(a_batch_that_runs_again_lets_the_same_rows_pass)
{
    struct mr_dedup_spec spec = {
        .keys = both_columns, .key_count = 2, .time_column = 0, .state_name = "dedup"};
    const char *rows = "1s|a;2s|a;1s|a;9s|a";
    struct mr_error err = {0};
    struct ops_flow flow;

    open_dedup(&flow, t, "ts TIMESTAMP, k VARCHAR", &spec);
    flow.watermark_us = 2 * SECOND;
    for (int i = 0; i < 3; i++) {
        CHECK_OK(ops_flow_run(&flow, &rows, 1, &err), &err);
        CHECK_EQ_INT(flow.out.rows, 3);
        ops_flow_rollback(&flow);
    }
    CHECK_EQ_STR(ops_flow_rows(&flow, rows), "1s|a;2s|a;9s|a");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1); /* 1 s and 2 s have left */
    CHECK_EQ_UINT(progress_of(&flow).rows_removed, 2);
    ops_flow_close(&flow);
}

TEST(a_key_with_the_event_time_leaves_when_the_watermark_reaches_it)
{
    struct mr_dedup_spec spec = {.keys = both_columns, .key_count = 2, .time_column = 1};
    struct ops_flow flow;

    open_dedup(&flow, t, "k VARCHAR, ts TIMESTAMP", &spec);
    CHECK(!flow.fold.ops->wants_batch(flow.fold.op, INT64_MIN, 0));
    CHECK_EQ_STR(ops_flow_rows(&flow, "a|5s;a|5s;b|7s;c|null"), "a|5s;b|7s;c|null");
    CHECK(flow.fold.ops->wants_batch(flow.fold.op, 5 * SECOND, 0));
    flow.watermark_us = 5 * SECOND;
    CHECK_EQ_STR(ops_flow_rows(&flow, "a|5s;c|null"), "");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    flow.late_watermark_us = 5 * SECOND;
    CHECK_EQ_STR(ops_flow_rows(&flow, "a|5s;a|4s;b|7s;d|6s;c|null"), "d|6s");
    CHECK_EQ_UINT(flow.out.late_rows, 2);
    ops_flow_restart(&flow, NULL);
    CHECK(!flow.fold.ops->wants_batch(flow.fold.op, 5 * SECOND, 0));
    CHECK(flow.fold.ops->wants_batch(flow.fold.op, 6 * SECOND, 0));
    flow.watermark_us = 100 * SECOND;
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0), "");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1); /* the one without a time stays */
    ops_flow_close(&flow);
}

TEST(a_window_start_leaves_with_the_end_of_its_window)
{
    struct mr_dedup_spec spec = {
        .keys = first_column, .key_count = 1, .time_column = 0, .time_add_us = 5 * SECOND};
    struct ops_flow flow;

    open_dedup(&flow, t, "start TIMESTAMP_NS", &spec);
    flow.watermark_us = 4999999;
    CHECK_EQ_STR(ops_flow_rows(&flow, "0;1000"), "0s;1000");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    flow.watermark_us = 5 * SECOND;
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0), "");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
    ops_flow_close(&flow);
}

TEST(within_the_watermark_a_key_leaves_a_delay_after_its_first_row)
{
    struct mr_dedup_spec spec = {.keys = first_column,
                                 .key_count = 1,
                                 .time_column = 1,
                                 .within = true,
                                 .delay_us = 2 * SECOND};
    struct ops_flow flow;

    open_dedup(&flow, t, "k VARCHAR, ts TIMESTAMP", &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "a|17s;a|18s;b|18s"), "a|17s;b|18s");
    flow.watermark_us = 19 * SECOND;
    CHECK_EQ_STR(ops_flow_rows(&flow, "a|30s"), ""); /* due, but still there */
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
    CHECK_EQ_STR(ops_flow_rows(&flow, "a|30s;b|30s;c|null;c|null"), "a|30s;c|null");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2); /* a row without a time is known for one batch */
    ops_flow_close(&flow);
}

TEST(the_order_of_keys_does_not_matter_to_the_state)
{
    static const uint32_t swapped[] = {1, 0};
    struct mr_dedup_spec spec = {.keys = both_columns, .key_count = 2, .time_column = -1};
    struct ops_flow flow;

    open_dedup(&flow, t, "b VARCHAR, a BIGINT", &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "x|1;y|2"), "x|1;y|2");
    spec.keys = swapped;
    ops_flow_restart(&flow, NULL);
    CHECK_EQ_STR(ops_flow_rows(&flow, "x|1;y|2;y|1"), "y|1");
    ops_flow_close(&flow);
}

static void refuse(struct mr_dedup_spec *spec, const char *schema_text, const char *text)
{
    struct mr_schema *schema = ops_schema(schema_text);
    struct mr_error err = {0};
    struct mr_fold_op op;

    spec->input = schema;
    spec->state_name = "dedup";
    CHECK_EQ_INT(mr_op_dedup(spec, &op, &err), MR_CONFIG);
    CHECK_CONTAINS(err.text, text);
    mr_schema_unref(schema);
}

TEST(what_cannot_be_compared_is_refused)
{
    refuse(&(struct mr_dedup_spec){.time_column = -1}, "k BIGINT", "without a key");
    refuse(&(struct mr_dedup_spec){.keys = second_column, .key_count = 1, .time_column = -1},
           "k BIGINT", "the input has 1");
    refuse(&(struct mr_dedup_spec){.keys = first_column, .key_count = 1, .time_column = 0},
           "k BIGINT", "must be a TIMESTAMP");
    refuse(
        &(struct mr_dedup_spec){
            .keys = first_column, .key_count = 1, .time_column = -1, .within = true},
        "k BIGINT", "add WATERMARK FOR");
}

/* Rows of random keys, cut at random: the first of each key, in order. */
TEST(random_rows_pass_as_a_list_of_seen_keys_says)
{
    for (unsigned seed = 1; seed <= 5; seed++) {
        struct mr_dedup_spec spec = {.keys = first_column, .key_count = 1, .time_column = -1};
        unsigned state = seed * 2654435761u;
        bool seen[500] = {false};
        struct ops_flow flow;
        int number = 0;

        open_dedup(&flow, t, "k BIGINT, n BIGINT", &spec);
        for (int batch = 0; batch < 12; batch++) {
            struct mr_buf rows = MR_BUF_INIT;
            struct mr_buf want = MR_BUF_INIT;

            for (unsigned i = 0; i < 1 + state % 2500; i++) {
                unsigned key;

                state = state * 1664525u + 1013904223u;
                key = (state >> 8) % 500;
                mr_buf_printf(&rows, "%s%u|%d", rows.size > 0 ? ";" : "", key, number);
                if (!seen[key])
                    mr_buf_printf(&want, "%s%u|%d", want.size > 0 ? ";" : "", key, number);
                seen[key] = true;
                number++;
            }
            CHECK_EQ_STR(ops_flow_rows(&flow, rows.data), want.size > 0 ? want.data : "");
            if (state % 3 == 0)
                ops_flow_restart(&flow, NULL);
            mr_buf_release(&rows);
            mr_buf_release(&want);
        }
        ops_flow_close(&flow);
    }
}
