/*
 * Aggregation by event time: output modes and the watermark boundary (structured.md 7.4-7.7, 11),
 * vectors AGG-05, WM-01, WM-02, WM-04, WM-08, and a differential test of all modes against a model
 * that keeps every row.
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#include <stdlib.h>

#define SECOND INT64_C(1000000)

/* count(*) by window_start (5 s windows, given as their start) and key columns after it. */
static void open_windows(struct ops_flow *flow, struct test *t, enum mr_output_mode mode,
                         struct mr_aggregate_spec *spec)
{
    static const uint32_t keys[] = {0};
    static const char *const names[] = {"window_start"};
    static const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};

    *spec = (struct mr_aggregate_spec){.keys = keys,
                                       .key_names = names,
                                       .key_count = 1,
                                       .aggs = &agg,
                                       .agg_count = 1,
                                       .mode = mode,
                                       .state_name = "windows",
                                       .event_time_key = 0,
                                       .event_time_add_us = 5 * SECOND};
    ops_flow_open(flow, t->dir, "window_start TIMESTAMP", spec);
}

/* One batch as the driver would run it: the watermark in force, and the one of the batch before for
 * late rows. */
static const char *at_watermark(struct ops_flow *flow, int64_t watermark_us, const char *rows)
{
    flow->late_watermark_us = flow->watermark_us;
    flow->watermark_us = watermark_us;
    return rows == NULL ? ops_flow_batch(flow, NULL, 0) : ops_flow_rows(flow, rows);
}

static bool wants(struct ops_flow *flow, int64_t watermark_us)
{
    return flow->fold.ops->wants_batch(flow->fold.op, watermark_us, 0);
}

TEST(AGG_05_append_emits_a_window_once_it_is_closed)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "15s"), "");
    CHECK(wants(&flow, 5 * SECOND));
    CHECK_EQ_STR(at_watermark(&flow, 5 * SECOND, NULL), "");
    CHECK(!wants(&flow, 5 * SECOND));
    CHECK_EQ_STR(at_watermark(&flow, 5 * SECOND, "10s;10s;10s"), "");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    CHECK_EQ_STR(at_watermark(&flow, 5 * SECOND, "25s"), "");
    CHECK(wants(&flow, 15 * SECOND));
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, NULL), "10s|3");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    ops_flow_close(&flow);
}

TEST(WM_01_append_drops_late_rows_and_counts_them)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s;10s;10s;10s;10s;15s"), "");
    CHECK_EQ_STR(at_watermark(&flow, 5 * SECOND, "25s"), "");
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, NULL), "10s|5");
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, "10s;10s;10s"), "");
    CHECK_EQ_UINT(flow.out.late_rows, 3); /* rows, not groups */
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    ops_flow_close(&flow);
}

TEST(WM_02_update_emits_changes_and_evicts_silently)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_UPDATE, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s;10s;10s;10s;10s;15s"), "10s|5;15s|1");
    CHECK_EQ_STR(at_watermark(&flow, 5 * SECOND, "25s"), "25s|1");
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, NULL), "");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, "10s;25s"), "25s|2");
    CHECK_EQ_UINT(flow.out.late_rows, 1);
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, "10s"), "");
    CHECK_EQ_UINT(flow.out.late_rows, 1);
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    ops_flow_close(&flow);
}

TEST(complete_mode_ignores_the_watermark)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_COMPLETE, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s;25s"), "10s|1;25s|1");
    CHECK_EQ_STR(at_watermark(&flow, 100 * SECOND, "10s"), "10s|2;25s|1");
    CHECK_EQ_STR(at_watermark(&flow, 100 * SECOND, "10s"), "10s|3;25s|1");
    CHECK_EQ_UINT(flow.out.late_rows, 0);
    CHECK(!wants(&flow, 500 * SECOND));
    ops_flow_close(&flow);
}

TEST(WM_04_raw_timestamps_can_be_keys)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;
    const uint32_t keys[] = {0};
    const char *const names[] = {"ts"};
    const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};

    spec = (struct mr_aggregate_spec){.keys = keys,
                                      .key_names = names,
                                      .key_count = 1,
                                      .aggs = &agg,
                                      .agg_count = 1,
                                      .mode = MR_MODE_APPEND,
                                      .state_name = "s",
                                      .event_time_key = 0};
    ops_flow_open(&flow, t->dir, "ts TIMESTAMP", &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s"), "");
    CHECK_EQ_STR(at_watermark(&flow, 0, "25s"), "");
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, NULL), "10s|1");
    ops_flow_close(&flow);
}

TEST(K1_one_microsecond_around_the_watermark_decides)
{
    static const enum mr_output_mode modes[] = {MR_MODE_APPEND, MR_MODE_UPDATE};

    for (size_t i = 0; i < 2; i++) {
        struct mr_aggregate_spec spec;
        struct ops_flow flow;
        /* Windows of 5 s: these starts end at wm - 1, wm, wm + 1 for a watermark of 20 s. */
        const char *rows = "14999999;15s;15000001";

        open_windows(&flow, t, modes[i], &spec);
        CHECK_EQ_STR(at_watermark(&flow, 0, rows), i == 0 ? "" : "14999999|1;15s|1;15000001|1");
        CHECK_EQ_STR(at_watermark(&flow, 20 * SECOND, NULL), i == 0 ? "14999999|1;15s|1" : "");
        CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
        CHECK_EQ_STR(at_watermark(&flow, 20 * SECOND, rows), i == 0 ? "" : "15000001|2");
        CHECK_EQ_UINT(flow.out.late_rows, 2);
        ops_flow_close(&flow);
    }
}

TEST(late_and_expired_are_judged_by_two_watermarks)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    flow.watermark_us = 20 * SECOND; /* in force now, */
    flow.late_watermark_us = 0; /* but rows of this batch were emitted upstream under the old one */
    CHECK_EQ_STR(ops_flow_rows(&flow, "10s;30s"), "10s|1");
    CHECK_EQ_UINT(flow.out.late_rows, 0);
    ops_flow_close(&flow);
}

TEST(without_a_watermark_nothing_is_late_and_nothing_expires)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_UPDATE, &spec);
    CHECK_EQ_STR(ops_flow_rows(&flow, "-9000000s;10s"), "-9000000s|1;10s|1");
    CHECK(!wants(&flow, INT64_MIN));
    CHECK_EQ_UINT(ops_flow_groups(&flow), 2);
    CHECK_EQ_UINT(flow.out.late_rows, 0);
    ops_flow_close(&flow);
}

TEST(groups_without_event_time_are_never_late_and_stay)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 50 * SECOND, "null;60s"), "");
    CHECK_EQ_STR(at_watermark(&flow, 100 * SECOND, "null"), "60s|1");
    CHECK_EQ_UINT(flow.out.late_rows, 0);
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
    ops_flow_close(&flow);
}

TEST(K10_a_watermark_at_the_end_of_time_closes_everything)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s;9223372036854775806"), "");
    CHECK_EQ_STR(at_watermark(&flow, INT64_MAX - 1, NULL), "10s|1");
    CHECK_EQ_STR(at_watermark(&flow, INT64_MAX, NULL), "9223372036854775806|1");
    ops_flow_close(&flow);
}

TEST(a_batch_run_again_after_rollback_emits_the_same_windows)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;
    struct mr_error err = {0};
    const char *rows = "40s;40s";

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s;15s;30s"), "");
    flow.watermark_us = 20 * SECOND;
    for (int attempt = 0; attempt < 3; attempt++) {
        CHECK_OK(ops_flow_run(&flow, &rows, 1, &err), &err);
        CHECK_EQ_INT(flow.out.rows, 2); /* 10 and 15 */
        ops_flow_rollback(&flow);
        CHECK_EQ_UINT(ops_flow_groups(&flow), 3);
    }
    CHECK_EQ_STR(ops_flow_rows(&flow, rows), "10s|1;15s|1");
    CHECK_EQ_STR(at_watermark(&flow, 45 * SECOND, NULL), "30s|1;40s|2");
    ops_flow_close(&flow);
}

TEST(WM_08_a_restart_knows_late_rows_and_what_is_still_to_emit)
{
    struct mr_aggregate_spec spec;
    struct ops_flow flow;

    open_windows(&flow, t, MR_MODE_APPEND, &spec);
    CHECK_EQ_STR(at_watermark(&flow, 0, "10s;10s;10s;10s;10s;15s"), "");
    CHECK_EQ_STR(at_watermark(&flow, 5 * SECOND, "25s"), "");
    ops_flow_restart(&flow,
                     &spec); /* before the batch without data that the watermark of 15 s asks for */
    CHECK(!wants(&flow, 5 * SECOND));
    CHECK(!wants(&flow, 14999999));
    CHECK(wants(&flow, 15 * SECOND));
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, NULL), "10s|5");
    ops_flow_restart(&flow, &spec);
    CHECK(!wants(&flow, 15 * SECOND));
    CHECK_EQ_STR(at_watermark(&flow, 15 * SECOND, "10s;25s;30s"), "");
    CHECK_EQ_UINT(flow.out.late_rows, 1);
    CHECK_EQ_STR(at_watermark(&flow, 20 * SECOND, NULL), "15s|1");
    CHECK_EQ_STR(at_watermark(&flow, 30 * SECOND, NULL), "25s|2");
    ops_flow_close(&flow);
}

TEST(the_event_time_may_stand_behind_keys_of_any_type)
{
    static const char *const cases[][2] = {
        {"BOOLEAN", "true"},
        {"TINYINT", "-1"},
        {"SMALLINT", "0"},
        {"INTEGER", "1"},
        {"BIGINT", "256"},
        {"UTINYINT", "0"},
        {"USMALLINT", "1"},
        {"UINTEGER", "7"},
        {"UBIGINT", "0"},
        {"FLOAT", "0.5"},
        {"DOUBLE", "0.0"},
        {"DECIMAL(9,2)", "1.25"},
        {"VARCHAR", "abc"},
        {"VARCHAR", ""},
        {"BLOB", "abc"},
        {"DATE", "3"},
        {"TIMESTAMP_NS", "5"},
        {"INTEGER[]", "[]"},
        {"VARCHAR[]", "[a,null,]"},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        const uint32_t keys[] = {0, 1};
        const char *const names[] = {"k", "ts"};
        const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
        struct mr_aggregate_spec spec = {.keys = keys,
                                         .key_names = names,
                                         .key_count = 2,
                                         .aggs = &agg,
                                         .agg_count = 1,
                                         .mode = MR_MODE_APPEND,
                                         .state_name = "s",
                                         .event_time_key = 1};
        struct ops_flow flow;
        char text[128];

        snprintf(text, sizeof(text), "k %s, ts TIMESTAMP", cases[i][0]);
        ops_flow_open(&flow, t->dir, text, &spec);
        snprintf(text, sizeof(text), "%s|10s;null|20s;%s|30s", cases[i][1], cases[i][1]);
        CHECK_EQ_STR(at_watermark(&flow, 0, text), "");
        at_watermark(&flow, 20 * SECOND, NULL);
        CHECK_EQ_INT(flow.out.rows, 2); /* 10 s and 20 s */
        CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
        ops_flow_close(&flow);
    }
}

TEST(many_groups_leave_in_key_order)
{
    const uint32_t keys[] = {0, 1};
    const char *const names[] = {"window_start", "id"};
    const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    struct mr_aggregate_spec spec = {.keys = keys,
                                     .key_names = names,
                                     .key_count = 2,
                                     .aggs = &agg,
                                     .agg_count = 1,
                                     .mode = MR_MODE_APPEND,
                                     .state_name = "s",
                                     .event_time_key = 0,
                                     .event_time_add_us = SECOND};
    struct ops_flow flow;
    struct mr_buf rows = MR_BUF_INIT;
    int64_t last = INT64_MIN;

    ops_flow_open(&flow, t->dir, "window_start TIMESTAMP, id INTEGER", &spec);
    for (int i = 0; i < 2000; i++)
        mr_buf_printf(&rows, "%s%ds|%d", i == 0 ? "" : ";", i % 7, i * 7919 % 2000 - 1000);
    CHECK_EQ_STR(at_watermark(&flow, 0, rows.data), "");
    at_watermark(&flow, 4 * SECOND, NULL); /* closes 0 s to 3 s */
    for (size_t b = 0; b < flow.out.batch_count; b++) {
        for (int64_t i = 0; i < mr_batch_row_count(flow.out.batches[b]); i++) {
            struct mr_row row = {flow.out.batches[b], i};
            int64_t rank = mr_row_int(&row, 0) * 10000 + mr_row_int(&row, 1);
            CHECK(rank > last);
            last = rank;
        }
    }
    CHECK_EQ_UINT(ops_flow_groups(&flow) + (uint64_t)flow.out.rows, 2000);
    CHECK_EQ_INT(flow.out.rows, 2000 / 7 * 4 + 4);
    mr_buf_release(&rows);
    ops_flow_close(&flow);
}

/* ---- memory that runs out ---- */

static const char *const FAULT_SCHEMA = "window_start TIMESTAMP, k VARCHAR, l INTEGER[], v VARCHAR";

static struct mr_aggregate_spec fault_spec(void)
{
    static const uint32_t keys[] = {0, 1, 2};
    static const char *const names[] = {"window_start", "k", "l"};
    static const struct mr_agg aggs[] = {{.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"},
                                         {.kind = MR_AGG_MAX, .column = 3, .name = "most"}};

    return (struct mr_aggregate_spec){.keys = keys,
                                      .key_names = names,
                                      .key_count = 3,
                                      .aggs = aggs,
                                      .agg_count = 2,
                                      .mode = MR_MODE_APPEND,
                                      .state_name = "s",
                                      .event_time_key = 0,
                                      .event_time_add_us = SECOND};
}

TEST(operators_that_get_no_memory_when_made_leave_nothing_behind)
{
    struct mr_aggregate_spec spec = fault_spec();
    struct mr_schema *schema = ops_schema(FAULT_SCHEMA);
    struct mr_window_spec window = {
        .size_us = SECOND, .slide_us = SECOND, .start_name = "a", .end_name = "b"};
    struct mr_predicate predicate = {1, MR_EQ, "x", 1};
    const uint32_t columns[] = {1};
    const char *const names[] = {"z"};

    spec.input = schema;
    for (int which = 0; which < 6; which++) {
        enum mr_status status = MR_NOMEM;
        for (uint64_t nth = 1; status != MR_OK; nth++) {
            struct mr_map_op map = {0};
            struct mr_fold_op fold = {0};
            mr_alloc_fail_at(nth, true);
            if (which == 0)
                status = mr_op_aggregate_partial(&spec, &map, NULL);
            else if (which == 1)
                status = mr_op_aggregate_fold(&spec, &fold, NULL);
            else if (which == 2)
                status = mr_op_window(schema, &window, &map, NULL);
            else if (which == 3)
                status = mr_op_filter(schema, &predicate, 1, &map, NULL);
            else if (which == 4)
                status = mr_op_project(schema, columns, names, 1, &map, NULL);
            else
                status = mr_op_watermark(schema, 0, &map, NULL);
            mr_alloc_fail_at(0, false);
            CHECK(status == MR_OK || status == MR_NOMEM);
            CHECK(nth < 1000);
            if (map.op != NULL)
                map.ops->free(map.op);
            if (fold.op != NULL)
                fold.ops->free(fold.op);
            mr_schema_unref(map.schema);
            mr_schema_unref(fold.schema);
        }
    }
    mr_schema_unref(schema);
}

TEST(a_batch_that_runs_out_of_memory_fails_and_can_be_run_again)
{
    struct mr_aggregate_spec spec = fault_spec();
    struct mr_batch *batch = ops_batch(
        FAULT_SCHEMA,
        "1s|a|[1]|x;1s|abcdefghijkl|[1,2]|yy;9s|a|[1]|zzzzzzzzzzzzzzzzzzzzzz;1s|a|[1]|xx");
    struct mr_batch_info info = {.watermark_us = 5 * SECOND, .late_watermark_us = INT64_MIN};
    struct ops_flow flow;
    enum mr_status status = MR_NOMEM;
    uint64_t nth = 1;

    ops_flow_open(&flow, t->dir, FAULT_SCHEMA, &spec);
    for (; status != MR_OK; nth++) {
        struct mr_output partials = {0};
        struct mr_output out = {0};
        void *task = NULL;

        CHECK(nth < 2000);
        mr_alloc_fail_at(nth, false);
        status = flow.partial.ops->begin(flow.partial.op, &info, &task, NULL);
        if (status == MR_OK) {
            status = flow.partial.ops->apply(flow.partial.op, task, &info, batch, &partials, NULL);
            if (status == MR_OK)
                status = flow.partial.ops->finish(flow.partial.op, task, &info, &partials, NULL);
            flow.partial.ops->end(flow.partial.op, task);
        }
        struct mr_fold_input input = {true, partials.batches, partials.batch_count, NULL, 0};
        struct mr_fold_call call = {.info = &info,
                                    .inputs = &input,
                                    .input_count = 1,
                                    .fires = true,
                                    .out = &out,
                                    .outputs = &out,
                                    .partition_count = nth % 2 == 0 ? 1 : MR_STORE_SHARDS};
        if (status == MR_OK)
            status = flow.fold.ops->run(flow.fold.op, &call, NULL);
        for (uint32_t p = 0; p < call.partition_count && status == MR_OK; p++)
            status = flow.fold.ops->run_partition(flow.fold.op, p, &call, NULL);
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_OK || status == MR_NOMEM);
        if (status != MR_OK) {
            ops_flow_rollback(&flow);
            CHECK_EQ_UINT(ops_flow_groups(&flow), 0);
        } else {
            ops_print(&out.text, out.batches[0]);
            CHECK_EQ_STR(out.text.data, "1s|a|[1]|2|xx;1s|abcdefghijkl|[1, 2]|1|yy");
        }
        ops_output_release(&partials);
        ops_output_release(&out);
    }
    CHECK(nth > 20);
    CHECK_EQ_UINT(ops_flow_groups(&flow), 1);
    mr_batch_unref(batch);
    ops_flow_close(&flow);
}

/* ---- all modes against a model ---- */

enum { WINDOWS = 200, IDS = 5 };

struct model {
    enum mr_output_mode mode;
    int64_t counts[WINDOWS][IDS]; /* 0 = not in the store */
    bool changed[WINDOWS][IDS];
    uint64_t late_rows;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void model_row(struct model *model, int window, int id, int64_t late_s)
{
    if (model->mode != MR_MODE_COMPLETE && window + 1 <= late_s) {
        model->late_rows++;
        return;
    }
    model->counts[window][id]++;
    model->changed[window][id] = true;
}

/* What the batch emits, in key order; windows are one second. */
static void model_emit(struct model *model, int64_t watermark_s, struct mr_buf *out)
{
    mr_buf_clear(out);
    for (int w = 0; w < WINDOWS; w++) {
        for (int id = 0; id < IDS; id++) {
            bool there = model->counts[w][id] > 0;
            bool expired = there && w + 1 <= watermark_s;
            if ((model->mode == MR_MODE_COMPLETE && there) ||
                (model->mode == MR_MODE_APPEND && expired) ||
                (model->mode == MR_MODE_UPDATE && model->changed[w][id]))
                mr_buf_printf(out, "%s%ds|%d|%" PRId64, out->size == 0 ? "" : ";", w, id,
                              model->counts[w][id]);
            if (expired && model->mode != MR_MODE_COMPLETE)
                model->counts[w][id] = 0;
            model->changed[w][id] = false;
        }
    }
}

static void compare_with_model(struct test *t, enum mr_output_mode mode, uint64_t seed)
{
    static struct model model;
    const uint32_t keys[] = {0, 1};
    const char *const names[] = {"window_start", "id"};
    const struct mr_agg agg = {.kind = MR_AGG_COUNT_ALL, .column = 0, .name = "n"};
    struct mr_aggregate_spec spec = {.keys = keys,
                                     .key_names = names,
                                     .key_count = 2,
                                     .aggs = &agg,
                                     .agg_count = 1,
                                     .mode = mode,
                                     .state_name = "s",
                                     .event_time_key = 0,
                                     .event_time_add_us = SECOND};
    struct ops_flow flow;
    struct mr_buf rows = MR_BUF_INIT;
    struct mr_buf want = MR_BUF_INIT;
    uint64_t random = seed;
    int64_t watermark_s = 0;
    int64_t late_s = 0;

    memset(&model, 0, sizeof(model));
    model.mode = mode;
    ops_flow_open(&flow, t->dir, "window_start TIMESTAMP, id INTEGER", &spec);
    flow.watermark_us = 0;
    for (int batch = 0; batch < 120; batch++) {
        int newest = MR_MIN(batch * 3 / 2 + 1, WINDOWS - 2);
        int count = (int)(next_random(&random) % 40);
        uint64_t late_before = model.late_rows;
        mr_buf_clear(&rows);
        for (int i = 0; i < count; i++) {
            int window = newest - (int)(next_random(&random) % 12);
            window = MR_MAX(window, 0);
            int id = (int)(next_random(&random) % IDS);
            mr_buf_printf(&rows, "%s%ds|%d", i == 0 ? "" : ";", window, id);
            model_row(&model, window, id, late_s);
        }
        model_emit(&model, watermark_s, &want);
        flow.late_watermark_us = late_s * SECOND;
        flow.watermark_us = watermark_s * SECOND;
        if (next_random(&random) % 5 == 0) { /* a first run that is thrown away */
            struct mr_error err = {0};
            const char *text = rows.size == 0 ? NULL : rows.data;
            CHECK_OK(ops_flow_run(&flow, &text, 1, &err), &err);
            ops_flow_rollback(&flow);
        }
        if (next_random(&random) % 9 == 0)
            ops_flow_restart(&flow, &spec);
        CHECK_EQ_STR(ops_flow_rows(&flow, rows.size == 0 ? NULL : rows.data),
                     want.size == 0 ? "" : want.data);
        CHECK_EQ_UINT(flow.out.late_rows, model.late_rows - late_before);
        late_s = watermark_s;
        watermark_s = MR_MAX(watermark_s, newest - 6);
    }
    mr_buf_release(&rows);
    mr_buf_release(&want);
    ops_flow_close(&flow);
}

TEST(random_batches_agree_with_a_model_in_every_mode)
{
    uint64_t first = test_seed(41);

    for (uint64_t i = 0; i < (test_quick() ? 2u : 8u); i++) {
        compare_with_model(t, MR_MODE_APPEND, first + i);
        compare_with_model(t, MR_MODE_UPDATE, first + i);
        compare_with_model(t, MR_MODE_COMPLETE, first + i);
    }
}

static int compare_rows(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Rows "b;a;c" as "a;b;c;". */
static const char *sorted_rows(const char *rows, char *copy, size_t size)
{
    static char sorted[16000];
    const char *list[1000];
    size_t count = 0;
    size_t used = 0;

    snprintf(copy, size, "%s", rows);
    for (char *at = copy; at != NULL && *at != '\0' && count < 1000;) {
        char *end = strchr(at, ';');

        list[count++] = at;
        if (end != NULL)
            *end++ = '\0';
        at = end;
    }
    qsort(list, count, sizeof(*list), compare_rows);
    sorted[0] = '\0';
    for (size_t i = 0; i < count && used + 100 < sizeof(sorted); i++)
        used += (size_t)snprintf(sorted + used, sizeof(sorted) - used, "%s;", list[i]);
    return sorted;
}

/* "10s;25s;..." of so many rows, some of them late. */
static void make_times(char *rows, size_t size, unsigned *seed, int from, int to)
{
    size_t used = 0;

    for (int i = 0; i < 60; i++) {
        *seed = *seed * 1103515245 + 12345;
        used += (size_t)snprintf(rows + used, size - used, "%s%ds", i > 0 ? ";" : "",
                                 from + (int)(*seed >> 16) % (to - from) / 5 * 5);
    }
}

TEST(shards_that_run_by_themselves_give_the_rows_of_a_small_batch)
{
    static const enum mr_output_mode modes[] = {MR_MODE_APPEND, MR_MODE_UPDATE, MR_MODE_COMPLETE};

    for (size_t m = 0; m < sizeof(modes) / sizeof(modes[0]); m++) {
        struct mr_aggregate_spec spec;
        struct ops_flow flows[2];
        unsigned seed = 7;

        for (int i = 0; i < 2; i++) {
            open_windows(&flows[i], t, modes[m], &spec);
            flows[i].sharded = i == 1;
        }
        for (int batch = 0; batch < 20; batch++) {
            char first[1000];
            char second[1000];
            const char *const partitions[] = {first, second};
            char copy[16000];
            char whole[16000];

            make_times(first, sizeof(first), &seed, batch * 50, batch * 50 + 400);
            make_times(second, sizeof(second), &seed, batch * 50, batch * 50 + 400);
            for (int i = 0; i < 2; i++) {
                flows[i].late_watermark_us = flows[i].watermark_us;
                flows[i].watermark_us = (batch * 50 + 100) * SECOND;
            }
            snprintf(whole, sizeof(whole), "%s",
                     sorted_rows(ops_flow_batch(&flows[0], partitions, 2), copy, sizeof(copy)));
            CHECK_EQ_STR(sorted_rows(ops_flow_batch(&flows[1], partitions, 2), copy, sizeof(copy)),
                         whole);
            CHECK_EQ_UINT(flows[1].out.late_rows, flows[0].out.late_rows);
            CHECK_EQ_UINT(ops_flow_groups(&flows[1]), ops_flow_groups(&flows[0]));
        }
        for (int i = 0; i < 2; i++)
            ops_flow_close(&flows[i]);
    }
}
