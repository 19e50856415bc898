/*
 * Both halves of an aggregation together (mr_op_aggregate): rows whose keys differ pass the group
 * table by, others do not, tasks change from one to the other, and whatever they did the groups are
 * those of a model. A hot key behind distinct ones, keys with equal hashes, sums that outgrow the
 * form they are kept in.
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "data/row_codec.h"
#include "ops/aggregate.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_ROWS = 16384,
    LOOK_ROWS = 32 * 1024, /* as in agg_partial.c */
    PASS_ROWS = 7 * LOOK_ROWS,
};

static const char SCHEMA[] = "k BIGINT, v BIGINT, name VARCHAR";
static const struct mr_agg AGGS[] = {
    {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
    {.kind = MR_AGG_SUM, .column = 1, .name = "s"},
};

static struct mr_aggregate_spec spec_of(const uint32_t *keys, uint32_t key_count)
{
    static const char *const names[] = {"a", "b"};

    return (struct mr_aggregate_spec){.keys = keys,
                                      .key_names = names,
                                      .key_count = key_count,
                                      .aggs = AGGS,
                                      .agg_count = 2,
                                      .mode = MR_MODE_UPDATE,
                                      .state_name = "s",
                                      .event_time_key = -1};
}

/* The key and the value of a row number; the third column is the key as text, null for every tenth
 * one. */
typedef int64_t (*key_fn)(int64_t row);
static int64_t value_of(int64_t row)
{
    return row % 1000 - 300;
}

static struct mr_batch *rows_of(const struct mr_schema *schema, key_fn key, int64_t from,
                                int64_t end)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int64_t row = from; row < end; row++) {
        char text[32];
        int size = snprintf(text, sizeof(text), "name of %lld", (long long)key(row));

        mr_batch_builder_int(builder, 0, key(row));
        mr_batch_builder_int(builder, 1, value_of(row));
        if (key(row) % 10 == 0)
            mr_batch_builder_null(builder, 2);
        else
            mr_batch_builder_text(builder, 2, text, (size_t)size);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    return batch;
}

/* One task over the rows [from, end); appends to partials. */
static enum mr_status run_task(struct ops_flow *flow, key_fn key, int64_t from, int64_t end,
                               struct mr_output *partials, struct mr_error *err)
{
    struct mr_batch_info info = {.batch_id = flow->batch_id};
    const struct mr_map_op *op = &flow->partial;
    enum mr_status status;
    void *task = NULL;

    MR_TRY(op->ops->begin(op->op, &info, &task, err));
    status = MR_OK;
    for (; from < end && status == MR_OK; from += BATCH_ROWS) {
        struct mr_batch *batch = rows_of(flow->input, key, from, MR_MIN(from + BATCH_ROWS, end));

        status = op->ops->apply(op->op, task, &info, batch, partials, err);
        mr_batch_unref(batch);
    }
    if (status == MR_OK)
        status = op->ops->finish(op->op, task, &info, partials, err);
    op->ops->end(op->op, task);
    return status;
}

/* The fold over the partials, as in a large batch when the flow is sharded. */
static enum mr_status run_fold(struct ops_flow *flow, struct mr_output *partials,
                               struct mr_error *err)
{
    struct mr_batch_info info = {
        .batch_id = flow->batch_id, .watermark_us = INT64_MIN, .late_watermark_us = INT64_MIN};
    struct mr_fold_input input = {true, partials->batches, partials->batch_count, NULL, 0};
    struct mr_fold_call call = {.info = &info,
                                .inputs = &input,
                                .input_count = 1,
                                .fires = true,
                                .out = &flow->out,
                                .outputs = &flow->out,
                                .partition_count = flow->sharded ? MR_STORE_SHARDS : 1};

    ops_output_release(&flow->out);
    MR_TRY(flow->fold.ops->run(flow->fold.op, &call, err));
    for (uint32_t p = 0; p < call.partition_count; p++)
        MR_TRY(flow->fold.ops->run_partition(flow->fold.op, p, &call, err));
    return MR_OK;
}

/* Rows of one batch in tasks of so many. Returns how many partials there were. */
static int64_t run_rows(struct ops_flow *flow, key_fn key, int64_t row_count, int64_t task_rows)
{
    struct mr_output partials = {0};
    struct mr_error err = {0};
    int64_t count;

    for (int64_t from = 0; from < row_count; from += task_rows)
        CHECK_OK(run_task(flow, key, from, MR_MIN(from + task_rows, row_count), &partials, &err),
                 &err);
    count = partials.rows;
    CHECK_OK(run_fold(flow, &partials, &err), &err);
    ops_output_release(&partials);
    return count;
}

/* What came out is each key below key_count once, with count and sum of its rows, times `times`. */
static void check_groups(struct ops_flow *flow, key_fn key, int64_t row_count, int64_t key_count,
                         int64_t times)
{
    int64_t *counts = calloc((size_t)key_count, sizeof(*counts));
    int64_t *sums = calloc((size_t)key_count, sizeof(*sums));

    for (int64_t row = 0; row < row_count; row++) {
        counts[key(row)] += times;
        sums[key(row)] += times * value_of(row);
    }
    for (size_t b = 0; b < flow->out.batch_count; b++) {
        const struct mr_batch *batch = flow->out.batches[b];

        for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
            int64_t k = mr_column_int(mr_batch_column(batch, 0), i);
            uint32_t results = mr_schema_field_count(mr_batch_schema(batch)) - 2;

            CHECK(k >= 0 && k < key_count && counts[k] != 0);
            CHECK_EQ_INT(mr_column_int(mr_batch_column(batch, results), i), counts[k]);
            CHECK_EQ_INT(mr_column_int(mr_batch_column(batch, results + 1), i), sums[k]);
            counts[k] = 0;
        }
    }
    for (int64_t k = 0; k < key_count; k++)
        CHECK_EQ_INT(counts[k], 0);
    free(counts);
    free(sums);
}

static int64_t distinct(int64_t row)
{
    return row;
}

static int64_t few(int64_t row)
{
    return row * 7 % 1000;
}

/* Just not distinct enough: 30,000 of 32,768. */
static int64_t nearly(int64_t row)
{
    return row % 30000;
}

static int64_t hot(int64_t row)
{
    return row < LOOK_ROWS ? row : 5;
}

static void check_mode(struct test *t, key_fn key, int64_t rows, int64_t keys, int64_t partials)
{
    static const uint32_t columns[] = {0};
    struct mr_aggregate_spec spec = spec_of(columns, 1);

    for (int sharded = 0; sharded < 2; sharded++) {
        struct ops_flow flow;

        ops_flow_open(&flow, t->dir, SCHEMA, &spec);
        flow.sharded = sharded == 1;
        CHECK_EQ_INT(run_rows(&flow, key, rows, rows), partials);
        check_groups(&flow, key, rows, keys, 1);
        ops_flow_commit(&flow);
        CHECK_EQ_INT(run_rows(&flow, key, rows, rows), partials);
        check_groups(&flow, key, rows, keys, 2);
        CHECK_EQ_UINT(ops_flow_groups(&flow), keys);
        ops_flow_close(&flow);
    }
}

TEST(rows_of_distinct_keys_pass_the_table)
{
    check_mode(t, distinct, 50000, 50000, 50000);
}

TEST(rows_of_few_keys_become_a_row_a_group)
{
    check_mode(t, few, 50000, 1000, 1000);
}

TEST(rows_that_repeat_a_little_stay_in_the_table)
{
    check_mode(t, nearly, 60000, 30000, 30000);
}

/* The first 32,768 were distinct, so as many as pass by are a partial each; then the table looks
 * again, and one partial has the rest. All of one key are merged in one run. */
TEST(a_hot_key_behind_distinct_ones_is_found_again)
{
    check_mode(t, hot, LOOK_ROWS + PASS_ROWS + 50000, LOOK_ROWS, LOOK_ROWS + PASS_ROWS + 1);
}

TEST(small_tasks_do_not_look)
{
    static const uint32_t columns[] = {0};
    struct mr_aggregate_spec spec = spec_of(columns, 1);
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, SCHEMA, &spec);
    flow.sharded = true;
    CHECK_EQ_INT(run_rows(&flow, few, 20000, 500), 20000); /* 500 keys in each task */
    check_groups(&flow, few, 20000, 1000, 1);
    ops_flow_close(&flow);
}

TEST(keys_of_several_columns_with_nulls_pass_the_table_too)
{
    static const uint32_t columns[] = {0, 2};
    struct mr_aggregate_spec spec = spec_of(columns, 2);
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, SCHEMA, &spec);
    flow.sharded = true;
    CHECK_EQ_INT(run_rows(&flow, distinct, 40000, 40000), 40000);
    check_groups(&flow, distinct, 40000, 40000, 1);
    CHECK(mr_column_is_null(mr_batch_column(flow.out.batches[0], 1), 0) ==
          (mr_column_int(mr_batch_column(flow.out.batches[0], 0), 0) % 10 == 0));
    ops_flow_close(&flow);
}

/* ---- keys whose hashes begin alike ---- */

static int64_t twins[2];

static int64_t twin(int64_t row)
{
    return twins[row % 2];
}

struct hashed {
    uint32_t fragment;
    int64_t key;
};

static int compare_hashed(const void *a_pointer, const void *b_pointer)
{
    const struct hashed *a = a_pointer, *b = b_pointer;

    return (a->fragment > b->fragment) - (a->fragment < b->fragment);
}

/* Two keys whose entries a store cannot tell apart by the top 32 bits of the hash. */
static void find_twins(uint64_t seed)
{
    enum { KEYS = 400000 };
    struct hashed *all = calloc(KEYS, sizeof(*all));

    for (int64_t k = 0; k < KEYS; k++) {
        char bytes[MR_KEY_INT64_BYTES];

        mr_key_store_int64(bytes, k);
        all[k] = (struct hashed){(uint32_t)(mr_hash(bytes, sizeof(bytes), seed) >> 32), k};
    }
    qsort(all, KEYS, sizeof(*all), compare_hashed);
    for (size_t i = 1; i < KEYS; i++) {
        if (all[i].fragment == all[i - 1].fragment) {
            twins[0] = all[i - 1].key;
            twins[1] = all[i].key;
        }
    }
    free(all);
    CHECK(twins[0] != twins[1]);
}

TEST(keys_with_equal_hashes_are_emitted_once_each)
{
    static const uint32_t columns[] = {0};
    struct mr_aggregate_spec spec = spec_of(columns, 1);
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, SCHEMA, &spec);
    flow.sharded = true;
    find_twins(mr_store_seed(flow.fold.ops->store(flow.fold.op)));
    /* tasks of 3 rows have them in either order */
    CHECK_EQ_INT(run_rows(&flow, twin, 90, 3), 60);
    CHECK_EQ_INT(flow.out.rows, 2);
    check_groups(&flow, twin, 90, 400000, 1);
    ops_flow_commit(&flow);
    (void)run_rows(&flow, twin, 90, 1);
    CHECK_EQ_INT(flow.out.rows, 2);
    check_groups(&flow, twin, 90, 400000, 2);
    ops_flow_close(&flow);
}

/* ---- failures ---- */

static enum mr_status run_all(struct ops_flow *flow, struct mr_error *err)
{
    struct mr_output partials = {0};
    enum mr_status status = run_task(flow, distinct, 0, 600, &partials, err);

    if (status == MR_OK)
        status = run_fold(flow, &partials, err);
    ops_output_release(&partials);
    return status;
}

TEST(a_batch_without_memory_is_rolled_back_and_runs_again)
{
    static const uint32_t columns[] = {0};
    struct mr_aggregate_spec spec = spec_of(columns, 1);
    enum mr_status status = MR_NOMEM;
    struct ops_flow flow;
    uint64_t nth = 1;

    ops_flow_open(&flow, t->dir, SCHEMA, &spec);
    flow.sharded = true;
    (void)run_rows(&flow, few, 300, 100);
    ops_flow_commit(&flow);
    for (; status != MR_OK; nth += nth / 8 + 1) {
        struct mr_error err = {0};
        struct mr_output partials = {0};

        CHECK_OK(run_task(&flow, distinct, 0, 600, &partials, &err), &err);
        mr_alloc_fail_at(nth, true);
        status = run_fold(&flow, &partials, &err);
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_OK || status == MR_NOMEM);
        ops_output_release(&partials);
        if (status != MR_OK) {
            mr_state_rollback(flow.state);
            CHECK_EQ_UINT(ops_flow_groups(&flow), 300);
        }
    }
    CHECK(nth > 3);
    mr_state_rollback(flow.state);
    CHECK_EQ_UINT(ops_flow_groups(&flow), 300);
    struct mr_error err = {0};
    CHECK_OK(run_all(&flow, &err), &err);
    CHECK_EQ_UINT(ops_flow_groups(&flow), 714); /* 114 of the 300 are not below 600 */
    ops_flow_close(&flow);
}

/* ---- sums that grow ---- */

TEST(a_sum_outgrows_the_form_it_is_kept_in_and_comes_back)
{
    static const uint32_t columns[] = {0};
    static const struct mr_agg aggs[] = {
        {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
        {.kind = MR_AGG_AVG, .column = 1, .name = "mean"},
    };
    struct mr_aggregate_spec spec = spec_of(columns, 1);
    struct ops_flow flow;

    spec.aggs = aggs;
    ops_flow_open(&flow, t->dir, "k BIGINT, v BIGINT", &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|1;2|-1"), "1|1|1.0;2|1|-1.0");
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|100000"), "1|2|50000.5");
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|null"), "1|3|50000.5");
    for (int i = 0; i < 3; i++)
        (void)ops_flow_rows(&flow, "1|9223372036854775807;2|-9223372036854775807");
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|9223372036854775807"), "1|7|6.148914691236534e+18");
    (void)ops_flow_rows(&flow, "1|-9223372036854775807;1|-9223372036854775807");
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|-9223372036854775807;1|-9223372036854775807;1|-100001"),
                 "1|12|0.0");
    ops_flow_close(&flow);
}

TEST(a_sum_that_left_the_range_says_so_and_may_come_back)
{
    static const uint32_t columns[] = {0};
    struct mr_aggregate_spec spec = spec_of(columns, 1);
    const char *const over = "1|9223372036854775807";
    struct mr_error err = {0};
    struct ops_flow flow;

    ops_flow_open(&flow, t->dir, "k BIGINT, v BIGINT", &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|10"), "1|1|10");
    CHECK_FAILS(ops_flow_run(&flow, &over, 1, &err), &err, MR_BAD_DATA, "does not fit a BIGINT");
    ops_flow_rollback(&flow);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|9223372036854775807;1|-20"), "1|3|9223372036854775797");
    ops_flow_close(&flow);
}
