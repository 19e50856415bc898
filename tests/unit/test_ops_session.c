/*
 * Session windows (structured.md 12): sessions of rows, merging, bridging, late ones, modes, runs
 * that are repeated, restarts; and random rows against a model that keeps every row.
 */
#include "support/ops_harness.h"

#include "ops/stateful.h"

#include <stdlib.h>

#define SECOND INT64_C(1000000)

static const uint32_t keys[] = {0, 1, 2};
static const char *const key_names[] = {"k", "start", "end"};
static const struct mr_agg aggs[] = {
    {.kind = MR_AGG_COUNT_ALL, .name = "n"},
    {.kind = MR_AGG_SUM, .column = 3, .name = "sum"},
    {.kind = MR_AGG_MAX, .column = 4, .name = "t"},
};
static const char columns[] = "k BIGINT, start TIMESTAMP, \"end\" TIMESTAMP, v BIGINT, t VARCHAR";

struct session_test {
    enum mr_output_mode mode;
    bool texts; /* also the max of texts: buffers of no fixed size */
};

static struct mr_aggregate_spec spec_of(const struct session_test *test)
{
    return (struct mr_aggregate_spec){.keys = keys,
                                      .key_names = key_names,
                                      .key_count = 3,
                                      .aggs = aggs,
                                      .agg_count = test->texts ? 3 : 2,
                                      .mode = test->mode,
                                      .state_name = "sessions",
                                      .event_time_key = 2};
}

static void make_sessions(struct ops_flow *flow, void *arg)
{
    struct mr_aggregate_spec spec = spec_of(arg);
    struct mr_error err = {0};

    spec.input = flow->input;
    CHECK_OK(mr_op_aggregate_partial(&spec, &flow->partial, &err), &err);
    CHECK_OK(mr_op_session_fold(&spec, &flow->fold, &err), &err);
}

static struct mr_fold_progress progress_of(const struct ops_flow *flow)
{
    struct mr_fold_progress progress = {0};

    flow->fold.ops->progress(flow->fold.op, &progress);
    return progress;
}

static void check_counts(const struct ops_flow *flow, uint64_t total, uint64_t updated,
                         uint64_t removed)
{
    struct mr_fold_progress progress = progress_of(flow);

    CHECK_EQ_UINT(progress.rows_total, total);
    CHECK_EQ_UINT(progress.rows_updated, updated);
    CHECK_EQ_UINT(progress.rows_removed, removed);
}

TEST(sessions_that_overlap_or_touch_are_one)
{
    struct session_test test = {.mode = MR_MODE_COMPLETE};
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, columns, make_sessions, &test);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|0s|10s|1|;1|10s|20s|2|;1|20000001|30s|4|;2|5s|15s|8|"),
                 "1|0s|20s|2|3;1|20000001|30s|1|4;2|5s|15s|1|8");
    check_counts(&flow, 3, 3, 0);
    /* a row between two of them makes one of both: the second start goes */
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|20s|21s|16|"), "1|0s|30s|4|23;2|5s|15s|1|8");
    check_counts(&flow, 2, 1, 1);
    /* an earlier row moves the start: the old one goes, too */
    CHECK_EQ_STR(ops_flow_rows(&flow, "2|0s|6s|1|"), "1|0s|30s|4|23;2|0s|15s|2|9");
    check_counts(&flow, 2, 1, 1);
    /* a row inside changes no bounds; a long gap covers what is behind it */
    CHECK_EQ_STR(ops_flow_rows(&flow, "2|3s|4s|1|;1|-100s|100s|0|;3|7s|8s|5|"),
                 "1|-100s|100s|5|23;2|0s|15s|3|10;3|7s|8s|1|5");
    check_counts(&flow, 3, 3, 1);
    ops_flow_restart(&flow, NULL);
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0), "1|-100s|100s|5|23;2|0s|15s|3|10;3|7s|8s|1|5");
    check_counts(&flow, 3, 0, 0);
    ops_flow_close(&flow);
}

TEST(append_emits_and_forgets_what_the_watermark_has_reached)
{
    struct session_test test = {.mode = MR_MODE_APPEND, .texts = true};
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, columns, make_sessions, &test);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|0s|10s|1|a;1|11s|20s|2|bb;2|5s|15s|8|c"), "");
    check_counts(&flow, 3, 3, 0);
    CHECK(flow.fold.ops->wants_batch(flow.fold.op, 10 * SECOND, 0));
    flow.watermark_us = 10 * SECOND;
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0), "1|0s|10s|1|1|a");
    check_counts(&flow, 2, 0, 1);
    CHECK(!flow.fold.ops->wants_batch(flow.fold.op, 10 * SECOND, 0));
    /* late is what ends at or below the watermark of the batch before */
    flow.late_watermark_us = 10 * SECOND;
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|0s|10s|1|z;3|0s|9s|1|z;1|1s|10000001|4|zzz"), "");
    CHECK_EQ_UINT(flow.out.late_rows, 2);
    check_counts(&flow, 3, 1, 0);
    ops_flow_restart(&flow, NULL);
    CHECK(!flow.fold.ops->wants_batch(flow.fold.op, 10 * SECOND, 0));
    CHECK(flow.fold.ops->wants_batch(flow.fold.op, 11 * SECOND, 0));
    flow.watermark_us = 60 * SECOND;
    CHECK_EQ_STR(ops_flow_batch(&flow, NULL, 0),
                 "1|1s|10000001|1|4|zzz;1|11s|20s|1|2|bb;2|5s|15s|1|8|c");
    CHECK_EQ_UINT(ops_flow_groups(&flow), 0);
    check_counts(&flow, 0, 0, 3);
    ops_flow_close(&flow);
}

TEST(shards_of_a_large_batch_close_their_sessions)
{
    struct session_test test = {.mode = MR_MODE_APPEND};
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, columns, make_sessions, &test);
    flow.sharded = true;
    flow.watermark_us = 15 * SECOND;
    for (int round = 0; round < 2; round++) {
        struct mr_buf rows = MR_BUF_INIT;

        /* one session of each key is closed, one stays and gets a row in the next round */
        for (int key = 0; key < 100; key++)
            mr_buf_printf(&rows, "%s%d|%ds|%ds|1|;%d|30s|31s|1|", key > 0 ? ";" : "", key, round,
                          round + 1, key);
        (void)ops_flow_rows(&flow, rows.data);
        CHECK_EQ_INT(flow.out.rows, 100);
        check_counts(&flow, 100, 200, 100);
        mr_buf_release(&rows);
        if (round == 0)
            ops_flow_restart(&flow, NULL);
    }
    flow.sharded = false;
    flow.watermark_us = 40 * SECOND;
    flow.late_watermark_us = 15 * SECOND;
    (void)ops_flow_rows(&flow, "7|14s|15s|1|;8|20s|21s|1|");
    CHECK_EQ_UINT(flow.out.late_rows, 1);
    CHECK_EQ_INT(flow.out.rows, 101);
    check_counts(&flow, 0, 1, 101);
    ops_flow_close(&flow);
}

TEST(a_batch_that_runs_again_gives_the_same_sessions)
{
    struct session_test test = {.mode = MR_MODE_APPEND};
    const char *rows = "1|9s|19s|1|;1|30s|40s|1|;2|1s|2s|1|";
    struct mr_error err = {0};
    struct ops_flow flow;

    ops_flow_open_with(&flow, t->dir, columns, make_sessions, &test);
    CHECK_EQ_STR(ops_flow_rows(&flow, "1|0s|10s|1|;1|20s|30s|1|"), "");
    flow.watermark_us = 20 * SECOND;
    for (int i = 0; i < 3; i++) {
        CHECK_OK(ops_flow_run(&flow, &rows, 1, &err), &err);
        CHECK_EQ_INT(flow.out.rows, 2);
        ops_flow_rollback(&flow);
    }
    CHECK_EQ_STR(ops_flow_rows(&flow, rows), "1|0s|19s|2|2;2|1s|2s|1|1");
    check_counts(&flow, 1, 3, 2);
    ops_flow_close(&flow);
}

TEST(each_row_gets_the_session_it_would_be_alone)
{
    struct mr_schema *schema = ops_schema("ts TIMESTAMP, gap BIGINT");
    struct mr_session_window_spec spec = {
        .column = 0, .gap_column = -1, .gap_us = 5 * SECOND, .start_name = "s", .end_name = "e"};
    struct mr_error err = {0};
    struct mr_map_op op;

    CHECK_OK(mr_op_session_window(schema, &spec, &op, &err), &err);
    CHECK_EQ_STR(ops_map(&op, ops_batch("ts TIMESTAMP, gap BIGINT", "1s|7;-3s|null")),
                 "1s|6s|1s|7;-3s|2s|-3s|null");
    CHECK_OK(mr_op_session_window(schema, &spec, &op, &err), &err);
    CHECK_EQ_STR(ops_map(&op, ops_batch("ts TIMESTAMP, gap BIGINT", "1s|7;null|7")), "1s|6s|1s|7");
    spec.gap_column = 1;
    CHECK_OK(mr_op_session_window(schema, &spec, &op, &err), &err);
    CHECK_EQ_STR(ops_map(&op, ops_batch("ts TIMESTAMP, gap BIGINT",
                                        "1s|7;1s|null;null|1;1s|0;1s|-5;2s|1000000")),
                 "1s|1000007|1s|7;2s|3s|2s|1000000");
    mr_schema_unref(schema);
}

static void refuse(struct mr_aggregate_spec spec, const char *text)
{
    struct mr_schema *schema = ops_schema(columns);
    struct mr_error err = {0};
    struct mr_fold_op op;

    spec.input = schema;
    CHECK_EQ_INT(mr_op_session_fold(&spec, &op, &err), MR_CONFIG);
    CHECK_CONTAINS(err.text, text);
    mr_schema_unref(schema);
}

TEST(sessions_that_cannot_be_are_refused)
{
    struct session_test test = {.mode = MR_MODE_APPEND};
    struct mr_aggregate_spec spec = spec_of(&test);

    spec.mode = MR_MODE_UPDATE;
    refuse(spec, "cannot update sessions");
    spec = spec_of(&test);
    spec.keys = keys + 1;
    spec.key_count = 2;
    spec.event_time_key = 1;
    refuse(spec, "group by another column");
    spec = spec_of(&test);
    spec.event_time_key = -1;
    refuse(spec, "needs a watermark");
}

/* ---- random rows ---- */

struct row {
    int64_t key;
    int64_t start_s;
    int64_t end_s;
    int64_t value;
};

static int compare_rows(const void *a_pointer, const void *b_pointer)
{
    const struct row *a = a_pointer;
    const struct row *b = b_pointer;

    if (a->key != b->key)
        return a->key < b->key ? -1 : 1;
    return (a->start_s > b->start_s) - (a->start_s < b->start_s);
}

/* All sessions of the rows, in order. */
static void expect_sessions(struct row *rows, size_t count, struct mr_buf *out)
{
    qsort(rows, count, sizeof(*rows), compare_rows);
    for (size_t from = 0, to; from < count; from = to) {
        int64_t end = rows[from].end_s;
        int64_t sum = 0;

        for (to = from; to < count && rows[to].key == rows[from].key && rows[to].start_s <= end;
             to++) {
            end = rows[to].end_s > end ? rows[to].end_s : end;
            sum += rows[to].value;
        }
        mr_buf_printf(out, "%s%lld|%llds|%llds|%zu|%lld", out->size > 0 ? ";" : "",
                      (long long)rows[from].key, (long long)rows[from].start_s, (long long)end,
                      to - from, (long long)sum);
    }
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Rows of a text in order: those of large batches come in the order of hashes. Caller frees. */
static char *sorted(const char *rows)
{
    static char *at[4000];
    size_t size = strlen(rows);
    char *copy = strdup(rows);
    char *out = malloc(size + 2);
    size_t count = 0;
    size_t used = 0;

    at[count++] = copy;
    for (char *c = copy; *c != '\0'; c++) {
        if (*c == ';') {
            *c = '\0';
            at[count++] = c + 1;
        }
    }
    qsort(at, count, sizeof(*at), compare_texts);
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(at[i]);

        memcpy(out + used, at[i], length);
        used += length;
        out[used++] = ';';
    }
    out[used] = '\0';
    free(copy);
    return out;
}

TEST(random_rows_make_the_sessions_of_a_model_however_they_are_cut)
{
    for (unsigned seed = 1; seed <= 8; seed++) {
        struct session_test test = {.mode = MR_MODE_COMPLETE};
        unsigned state = seed * 2654435761u;
        struct row rows[4000];
        size_t count = 0;
        struct ops_flow flow;

        ops_flow_open_with(&flow, t->dir, columns, make_sessions, &test);
        flow.sharded = seed % 2 == 0;
        for (int batch = 0; batch < 10; batch++) {
            struct mr_buf text = MR_BUF_INIT;
            struct mr_buf want = MR_BUF_INIT;
            const char *texts[1];

            for (unsigned i = 0; i < 1 + (state >> 3) % 300; i++) {
                struct row *row = &rows[count++];

                state = state * 1664525u + 1013904223u;
                row->key = (state >> 8) % 7;
                row->start_s = (state >> 12) % 2000;
                row->end_s = row->start_s + 1 + (state >> 24) % 9;
                row->value = (int64_t)count;
                mr_buf_printf(&text, "%s%lld|%llds|%llds|%lld|", text.size > 0 ? ";" : "",
                              (long long)row->key, (long long)row->start_s, (long long)row->end_s,
                              (long long)row->value);
            }
            texts[0] = text.data;
            if (state % 4 == 0) { /* a run that fails before its commit */
                struct mr_error err = {0};

                CHECK_OK(ops_flow_run(&flow, texts, 1, &err), &err);
                ops_flow_rollback(&flow);
            }
            expect_sessions(rows, count, &want);
            {
                char *have_rows = sorted(ops_flow_rows(&flow, text.data));
                char *want_rows = sorted(want.data);

                CHECK_EQ_STR(have_rows, want_rows);
                free(have_rows);
                free(want_rows);
            }
            if (state % 3 == 0)
                ops_flow_restart(&flow, NULL);
            mr_buf_release(&text);
            mr_buf_release(&want);
        }
        ops_flow_close(&flow);
    }
}
