/*
 * The join operator without SQL: watermarks, chains of a key, restarts, batches that run again, and
 * the state in its stores (structured.md 14.3, 14.4; vector OJ-14).
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "ops/join.h"

#define SECOND INT64_C(1000000)

struct join_flow {
    const char *dir;
    struct mr_state *state;
    struct mr_fold_op op;
    struct mr_schema *schemas[2];
    struct mr_output out;
    uint64_t batch_id;
    int64_t watermark_us;
    int64_t late_us;
    struct mr_join_spec spec;
};

static const char columns[] = "k BIGINT, ts TIMESTAMP, name VARCHAR";

static void open_state(struct join_flow *flow)
{
    struct mr_state_config config = {.volatile_only = true, .retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_state_open(mr_env_posix(), flow->dir, flow->dir, &config, &recovered, &flow->state,
                           &err),
             &err);
    CHECK_OK(mr_op_join(&flow->spec, &flow->op, &err), &err);
    CHECK_OK(flow->op.ops->open(flow->op.op, flow->state, &err), &err);
}

/* left.k = right.k and, when seconds says so, left.ts between right.ts - before and + after. */
static void open_join(struct join_flow *flow, struct test *t, enum mr_join_type type,
                      const int64_t *seconds)
{
    static const uint32_t keys[] = {0};
    static const struct mr_join_column outputs[] = {
        {false, 0, "lk"}, {false, 1, "lt"}, {true, 1, "rt"}, {true, 2, "rn"}};
    static struct mr_join_range ranges[2];
    struct mr_join_time time = {.column = 1, .field = -1};
    struct mr_join_time none = {.column = -1, .field = -1};

    *flow = (struct join_flow){.dir = t->dir, .watermark_us = INT64_MIN, .late_us = INT64_MIN};
    flow->schemas[0] = ops_schema(columns);
    flow->schemas[1] = ops_schema(columns);
    flow->spec = (struct mr_join_spec){.type = type,
                                       .key_count = 1,
                                       .outputs = outputs,
                                       .output_count = type == MR_JOIN_SEMI ? 2 : 4,
                                       .state_name = "j"};
    flow->spec.left = (struct mr_join_side){
        .schema = flow->schemas[0], .keys = keys, .pass_column = -1, .event = none, .expiry = none};
    flow->spec.right = flow->spec.left;
    flow->spec.right.schema = flow->schemas[1];
    if (seconds != NULL) {
        ranges[0] = (struct mr_join_range){1, 1, MR_GE, -seconds[0] * SECOND};
        ranges[1] = (struct mr_join_range){1, 1, MR_LE, seconds[1] * SECOND};
        flow->spec.ranges = ranges;
        flow->spec.range_count = 2;
        flow->spec.left.event = flow->spec.right.event = time;
        flow->spec.left.expiry = flow->spec.right.expiry = time;
        flow->spec.left.expiry_shift_us = -seconds[0] * SECOND - 1000;
        flow->spec.right.expiry_shift_us = -seconds[1] * SECOND - 1000;
    }
    open_state(flow);
}

static void close_join(struct join_flow *flow)
{
    flow->op.ops->free(flow->op.op);
    mr_schema_unref(flow->op.schema);
    mr_state_close(flow->state);
    for (int i = 0; i < 2; i++)
        mr_schema_unref(flow->schemas[i]);
    ops_output_release(&flow->out);
}

static enum mr_status run(struct join_flow *flow, const char *left, const char *right,
                          struct mr_error *err)
{
    struct mr_batch_info info = {.batch_id = flow->batch_id,
                                 .watermark_us = flow->watermark_us,
                                 .late_watermark_us = flow->late_us};
    const char *texts[2] = {left, right};
    struct mr_batch *batches[2] = {NULL, NULL};
    struct mr_fold_input inputs[2];
    struct mr_fold_call call = {.info = &info,
                                .inputs = inputs,
                                .input_count = 2,
                                .fires = true,
                                .out = &flow->out,
                                .outputs = &flow->out,
                                .partition_count = 8};
    enum mr_status status;

    ops_output_release(&flow->out);
    for (int i = 0; i < 2; i++) {
        if (texts[i] != NULL)
            batches[i] = ops_batch(columns, texts[i]);
        inputs[i] = (struct mr_fold_input){true, &batches[i], texts[i] != NULL, NULL, 0};
    }
    status = flow->op.ops->run(flow->op.op, &call, err);
    for (uint32_t p = 0; p < 8 && status == MR_OK; p++)
        status = flow->op.ops->run_partition(flow->op.op, p, &call, err);
    for (int i = 0; i < 2; i++)
        mr_batch_unref(batches[i]);
    return status;
}

static const char *text_of(struct join_flow *flow)
{
    mr_buf_clear(&flow->out.text);
    for (size_t i = 0; i < flow->out.batch_count; i++)
        ops_print(&flow->out.text, flow->out.batches[i]);
    return flow->out.text.size > 0 ? flow->out.text.data : "";
}

static const char *batch(struct join_flow *flow, const char *left, const char *right)
{
    struct mr_commit commit = {0};
    struct mr_error err = {0};

    CHECK_OK(run(flow, left, right, &err), &err);
    CHECK_OK(mr_state_prepare(flow->state, flow->batch_id, 1, NULL, &commit, &err), &err);
    mr_state_applied(flow->state, flow->batch_id);
    mr_commit_release(&commit);
    flow->batch_id++;
    return text_of(flow);
}

static bool copy_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct mr_error err = {0};

    CHECK_OK(mr_store_put(arg, key, key_bytes, value, value_bytes, &err), &err);
    return true;
}

/* A new operator over a new state with the same content. */
static void restart(struct join_flow *flow)
{
    static const char *const names[] = {"j.left", "j.right"};
    struct join_flow old = *flow;
    struct mr_commit commit = {0};
    struct mr_error err = {0};

    open_state(flow);
    for (int i = 0; i < 2; i++)
        mr_store_scan(mr_state_find(old.state, names[i]), copy_entry,
                      mr_state_find(flow->state, names[i]));
    CHECK_OK(mr_state_prepare(flow->state, flow->batch_id - 1, 1, NULL, &commit, &err), &err);
    mr_state_applied(flow->state, flow->batch_id - 1);
    mr_commit_release(&commit);
    old.op.ops->free(old.op.op);
    mr_schema_unref(old.op.schema);
    mr_state_close(old.state);
}

static uint64_t rows_in_state(struct join_flow *flow)
{
    struct mr_fold_progress progress = {0};

    flow->op.ops->progress(flow->op.op, &progress);
    CHECK_EQ_INT(progress.store_count, 2);
    return progress.rows_total;
}

TEST(OJ_14_the_output_watermark_is_that_of_the_side_that_lags_more)
{
    static const int64_t bounds[][2] = {{0, 40}, {30, 0}, {30, 40}};
    static const int64_t want_us[] = {-40001000, -30001000, -40001000};

    for (int i = 0; i < 3; i++) {
        struct join_flow flow;

        open_join(&flow, t, MR_JOIN_INNER, bounds[i]);
        CHECK_EQ_INT(flow.op.ops->output_watermark(flow.op.op, 0), want_us[i]);
        close_join(&flow);
    }
}

TEST(a_join_without_times_passes_the_watermark_on)
{
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_INNER, NULL);
    CHECK_EQ_INT(flow.op.ops->output_watermark(flow.op.op, 7 * SECOND), 7 * SECOND);
    CHECK(!flow.op.ops->wants_batch(flow.op.op, 7 * SECOND, 0));
    close_join(&flow);
}

TEST(pairs_come_in_the_order_of_the_rows_before_and_after_a_restart)
{
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_INNER, NULL);
    CHECK_EQ_STR(batch(&flow, "1|1s|a;1|2s|b;1|3s|c", NULL), "");
    CHECK_EQ_STR(batch(&flow, "1|4s|d", "1|9s|x"), "1|1s|9s|x;1|2s|9s|x;1|3s|9s|x;1|4s|9s|x");
    restart(&flow);
    CHECK_EQ_STR(batch(&flow, "1|5s|e", "1|8s|y"),
                 "1|5s|9s|x;1|1s|8s|y;1|2s|8s|y;1|3s|8s|y;1|4s|8s|y;1|5s|8s|y");
    CHECK_EQ_INT(rows_in_state(&flow), 7);
    close_join(&flow);
}

TEST(null_keys_match_nothing_but_wait_for_their_nulls)
{
    static const int64_t bounds[] = {5, 5};
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_LEFT, bounds);
    CHECK_EQ_STR(batch(&flow, "null|1s|a", "null|1s|b"), "");
    CHECK_EQ_INT(rows_in_state(&flow), 2);
    flow.watermark_us = 20 * SECOND;
    CHECK(flow.op.ops->wants_batch(flow.op.op, 20 * SECOND, 0));
    CHECK_EQ_STR(batch(&flow, NULL, NULL), "null|1s|null|null");
    CHECK_EQ_INT(rows_in_state(&flow), 0);
    close_join(&flow);
}

TEST(null_keys_match_when_the_key_says_so)
{
    static const bool null_equal[] = {true};
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_INNER, NULL);
    flow.spec.null_equal = null_equal;
    flow.op.ops->free(flow.op.op);
    mr_schema_unref(flow.op.schema);
    mr_state_close(flow.state);
    open_state(&flow);
    CHECK_EQ_STR(batch(&flow, "null|1s|a;2|1s|a", NULL), "");
    CHECK_EQ_STR(batch(&flow, NULL, "null|3s|b;3|1s|a"), "null|1s|3s|b");
    close_join(&flow);
}

TEST(rows_leave_at_the_bound_and_not_before)
{
    static const int64_t bounds[] = {5, 5};
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_FULL, bounds);
    CHECK_EQ_STR(batch(&flow, "1|10s|a;2|20s|b", "3|11s|c"), "");
    flow.watermark_us = 15 * SECOND;
    CHECK_EQ_STR(batch(&flow, NULL, NULL), "");
    flow.watermark_us = 15 * SECOND + 1000;
    CHECK_EQ_STR(batch(&flow, NULL, NULL), "1|10s|null|null");
    flow.watermark_us = 16 * SECOND + 1000;
    CHECK_EQ_STR(batch(&flow, NULL, NULL), "null|null|11s|c");
    restart(&flow);
    CHECK(!flow.op.ops->wants_batch(flow.op.op, 25 * SECOND, 0));
    CHECK(flow.op.ops->wants_batch(flow.op.op, 25 * SECOND + 1000, 0));
    CHECK_EQ_INT(rows_in_state(&flow), 1);
    close_join(&flow);
}

TEST(a_batch_that_runs_again_gives_the_same_rows)
{
    static const int64_t bounds[] = {5, 5};
    struct join_flow flow;
    struct mr_error err = {0};
    char first[200];

    open_join(&flow, t, MR_JOIN_LEFT, bounds);
    CHECK_EQ_STR(batch(&flow, "1|10s|a;1|11s|b;2|2s|c", NULL), "");
    flow.watermark_us = 8 * SECOND;
    CHECK_OK(run(&flow, "1|12s|d", "1|11s|x;1|12s|y", &err), &err);
    snprintf(first, sizeof(first), "%s", text_of(&flow));
    mr_state_rollback(flow.state);
    CHECK_EQ_STR(batch(&flow, "1|12s|d", "1|11s|x;1|12s|y"), first);
    CHECK(strstr(first, "2|2s|null|null") != NULL);
    CHECK_EQ_INT(rows_in_state(&flow), 5);
    close_join(&flow);
}

TEST(matched_rows_leave_without_nulls_also_after_a_restart)
{
    static const int64_t bounds[] = {5, 5};
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_LEFT, bounds);
    CHECK_EQ_STR(batch(&flow, "1|10s|a;2|10s|b", NULL), "");
    CHECK_EQ_STR(batch(&flow, NULL, "1|11s|x"), "1|10s|11s|x");
    restart(&flow);
    flow.watermark_us = 60 * SECOND;
    CHECK_EQ_STR(batch(&flow, NULL, NULL), "2|10s|null|null");
    CHECK_EQ_INT(rows_in_state(&flow), 0);
    close_join(&flow);
}

TEST(a_semi_join_keeps_unmatched_left_rows_only)
{
    static const int64_t bounds[] = {5, 5};
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_SEMI, bounds);
    CHECK_EQ_STR(batch(&flow, "1|10s|a;2|10s|b", "1|11s|x;1|12s|y"), "1|10s");
    CHECK_EQ_INT(rows_in_state(&flow), 3);
    CHECK_EQ_STR(batch(&flow, NULL, "2|11s|x;2|11s|x"), "2|10s");
    CHECK_EQ_INT(rows_in_state(&flow), 4);
    CHECK_EQ_STR(batch(&flow, "1|12s|z", NULL), "1|12s");
    CHECK_EQ_INT(rows_in_state(&flow), 4);
    close_join(&flow);
}

TEST(late_rows_are_dropped_and_counted_on_both_sides)
{
    static const int64_t bounds[] = {5, 5};
    struct join_flow flow;

    open_join(&flow, t, MR_JOIN_INNER, bounds);
    flow.late_us = flow.watermark_us = 10 * SECOND;
    CHECK_EQ_STR(batch(&flow, "1|10s|a;1|11s|b;1|null|c", "1|9s|x;1|11s|y"), "1|11s|11s|y");
    CHECK_EQ_INT(flow.out.late_rows, 2);
    close_join(&flow);
}

/* Many rows of one key, and rows that die in many small batches: what is held stays small. */
TEST(a_key_with_many_rows_and_many_small_batches)
{
    static const int64_t bounds[] = {0, 0};
    struct join_flow flow;
    struct mr_buf rows = MR_BUF_INIT;
    int64_t pairs = 0;

    open_join(&flow, t, MR_JOIN_INNER, bounds);
    for (int i = 0; i < 9000; i++)
        mr_buf_printf(&rows, "%s7|1s|a", i > 0 ? ";" : "");
    (void)batch(&flow, rows.data, NULL);
    (void)batch(&flow, NULL, "7|1s|x;7|1s|y");
    CHECK_EQ_INT(flow.out.rows, 18000);
    for (int i = 0; i < 700; i++) {
        char row[100];

        flow.late_us = flow.watermark_us;
        flow.watermark_us = (i - 5) * SECOND;
        snprintf(row, sizeof(row), "%d|%ds|a", i % 5, i);
        (void)batch(&flow, row, row);
        pairs += flow.out.rows;
    }
    CHECK_EQ_INT(pairs, 700);
    CHECK(rows_in_state(&flow) <= 14);
    mr_buf_release(&rows);
    close_join(&flow);
}

/* What a batch brings, by its number: a row or two a side, times that go on in steps. */
static const char *small_batch(int number, unsigned side, char text[200])
{
    int at = number / 3 * 2;

    if ((number + (int)side) % 4 == 3)
        return NULL;
    snprintf(text, 200, "%d|%ds|a%d;%d|%ds|b", number * 7 % 11, at, number, number % 5, at + 1);
    return text;
}

static uint64_t entries_in(struct join_flow *flow)
{
    return mr_store_count(mr_state_find(flow->state, "j.left")) +
           mr_store_count(mr_state_find(flow->state, "j.right"));
}

/* Blocks of few rows become one, rows leave blocks that stay: all of it as if nothing was. */
TEST(many_small_batches_join_alike_with_and_without_restarts)
{
    static const int64_t bounds[] = {150, 100};
    static const enum mr_join_type types[] = {MR_JOIN_INNER, MR_JOIN_FULL, MR_JOIN_SEMI};

    for (int type = 0; type < 3; type++) {
        struct join_flow flows[2];
        char left[200], right[200];
        uint64_t most = 0;

        open_join(&flows[0], t, types[type], bounds);
        open_join(&flows[1], t, types[type], bounds);
        for (int i = 0; i < 600; i++) {
            const char *texts[2] = {small_batch(i, 0, left), small_batch(i, 1, right)};

            for (int f = 0; f < 2; f++) {
                flows[f].late_us = flows[f].watermark_us;
                flows[f].watermark_us = (i / 3 * 2 - 3) * SECOND;
            }
            if (i % 37 == 5)
                restart(&flows[1]);
            (void)batch(&flows[0], texts[0], texts[1]);
            CHECK_EQ_STR(batch(&flows[1], texts[0], texts[1]), text_of(&flows[0]));
            CHECK_EQ_INT(rows_in_state(&flows[1]), rows_in_state(&flows[0]));
            CHECK_EQ_INT(entries_in(&flows[1]), entries_in(&flows[0]));
            most = MR_MAX(most, entries_in(&flows[0]));
        }
        CHECK(most < 700); /* of up to 600 rows in 400 blocks and their marks */
        flows[0].watermark_us = 10000 * SECOND;
        (void)batch(&flows[0], NULL, NULL);
        CHECK_EQ_INT(entries_in(&flows[0]), 0);
        close_join(&flows[0]);
        close_join(&flows[1]);
    }
}

TEST(keys_of_every_type_are_found)
{
    static const char schema[] = "a BOOLEAN, b TINYINT, c UBIGINT, d DOUBLE, e DECIMAL(20,2), f "
                                 "VARCHAR, g DATE, h BIGINT[], i FLOAT";
    static const char row[] = "true|-3|18446744073709551615|-0.0|12.34|text|19000|[1,2]|0.5";
    static const uint32_t keys[] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const struct mr_join_column outputs[] = {{false, 5, "f"}, {true, 5, "g"}};
    struct mr_schema *one = ops_schema(schema);
    struct mr_join_time none = {.column = -1, .field = -1};
    struct mr_join_spec spec = {.type = MR_JOIN_INNER,
                                .key_count = 9,
                                .outputs = outputs,
                                .output_count = 2,
                                .state_name = "j"};
    struct join_flow flow = {.dir = t->dir, .watermark_us = INT64_MIN, .late_us = INT64_MIN};
    struct mr_batch *rows = ops_batch(schema, row);
    struct mr_batch_info info = {.watermark_us = INT64_MIN, .late_watermark_us = INT64_MIN};
    struct mr_fold_input inputs[2] = {{true, &rows, 1, NULL, 0}, {true, &rows, 1, NULL, 0}};
    struct mr_fold_call call = {.info = &info,
                                .inputs = inputs,
                                .input_count = 2,
                                .out = &flow.out,
                                .outputs = &flow.out,
                                .partition_count = 1};
    struct mr_error err = {0};

    spec.left = (struct mr_join_side){
        .schema = one, .keys = keys, .pass_column = -1, .event = none, .expiry = none};
    spec.right = spec.left;
    flow.spec = spec;
    flow.schemas[0] = one;
    flow.schemas[1] = mr_schema_ref(one);
    open_state(&flow);
    CHECK_OK(flow.op.ops->run(flow.op.op, &call, &err), &err);
    CHECK_OK(flow.op.ops->run_partition(flow.op.op, 0, &call, &err), &err);
    CHECK_EQ_STR(text_of(&flow), "text|text");
    mr_batch_unref(rows);
    close_join(&flow);
}
