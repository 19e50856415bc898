/*
 * map_groups_with_state and flat_map_groups_with_state: the vectors of
 * spec/structured-vectors.md section 8 (GS-*). Every run is a restart. Most run with one and with
 * several workers.
 */
#include "support/groups.h"
#include "support/sql_flow.h"
#include "support/test.h"

#include "base/check.h"
#include "streams/groups.h"

#include <millrace/groups.h>

/* Function C of the vectors: a running count; at 3 the key is removed and emits nothing (or -1). */
static void running_count(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);
    const struct mr_row *state = mr_group_find(call->state);
    int64_t count = state != NULL ? mr_row_int(state, 0) : 0;
    const int64_t *at_three = arg;
    struct mr_row row;

    while (mr_rows_next(call->values, &row))
        count++;
    if (count == 3)
        mr_group_remove(call->state);
    else
        mr_group_update_int(call->state, count);
    if (count != 3 || at_three != NULL)
        mr_emit_pair_str_int(out, key.data, key.size_bytes, count == 3 ? *at_three : count);
}

/* GS-02: the state is touched while rows are pulled. */
static void count_each(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(call->values, &row)) {
        const struct mr_row *state = mr_group_find(call->state);
        int64_t count = (state != NULL ? mr_row_int(state, 0) : 0) + 1;

        if (count == 3) {
            mr_group_remove(call->state);
            continue;
        }
        mr_group_update_int(call->state, count);
        mr_emit_pair_str_int(out, key.data, key.size_bytes, count);
    }
}

static const struct mr_groups_spec counting = {
    .call = running_count,
    .state = "count BIGINT",
    .output = "k VARCHAR, n BIGINT",
    .mode = MR_MODE_UPDATE,
};

static struct sql_flow *count_flow(struct test *t, const struct mr_groups_spec *spec, bool is_map,
                                   const char *workers, const char *mode)
{
    struct sql_flow *f = sql_flow_new(t);

    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", mode);
    groups_view(f, "counts", "a", "v", spec, is_map);
    sql_flow_text(f, workers);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM counts;");
    return f;
}

TEST(GS_01_flat_map_in_update_mode_counts_until_three)
{
    static const char *const workers[] = {"SET workers = 1;", "SET workers = 4;"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(workers); i++) {
        struct sql_flow *f = count_flow(t, &counting, false, workers[i], "update");

        sql_flow_step(f, "a", "('a')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
        CHECK_EQ_STR(sql_flow_state(f), "1/1/0/0");
        sql_flow_step(f, "a", "('a'), ('b')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "a|2\nb|1\n");
        CHECK_EQ_STR(sql_flow_state(f), "2/2/0/0");
        sql_flow_step(f, "a", "('a'), ('b')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "b|2\n");
        CHECK_EQ_STR(sql_flow_state(f), "1/1/0/1");
        sql_flow_step(f, "a", "('a'), ('c')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\nc|1\n");
        CHECK_EQ_STR(sql_flow_state(f), "3/2/0/0");
        sql_flow_free(f);
    }
}

TEST(GS_02_state_may_change_while_rows_are_pulled)
{
    struct mr_groups_spec spec = counting;
    struct sql_flow *f;

    spec.call = count_each;
    f = count_flow(t, &spec, false, "", "update");
    sql_flow_step(f, "a", "('a'), ('a'), ('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\na|2\nb|1\n");
    sql_flow_step(f, "a", "('a'), ('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "b|2\n");
    sql_flow_step(f, "a", "('a'), ('c')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\nc|1\n");
    sql_flow_free(f);
}

TEST(GS_04_map_groups_emits_one_row_for_each_call)
{
    static const int64_t at_three = -1;
    struct mr_groups_spec spec = counting;
    struct sql_flow *f;

    spec.arg = (void *)(uintptr_t)&at_three;
    f = count_flow(t, &spec, true, "", "update");
    sql_flow_step(f, "a", "('a')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\n");
    CHECK_EQ_STR(sql_flow_state(f), "1/1/0/0");
    sql_flow_step(f, "a", "('a'), ('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|2\nb|1\n");
    CHECK_EQ_STR(sql_flow_state(f), "2/2/0/0");
    sql_flow_step(f, "a", "('a'), ('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|-1\nb|2\n");
    CHECK_EQ_STR(sql_flow_state(f), "1/1/0/1");
    sql_flow_step(f, "a", "('a'), ('c')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|1\nc|1\n");
    CHECK_EQ_STR(sql_flow_state(f), "3/2/0/0");
    sql_flow_free(f);
}

TEST(GS_04_a_map_function_that_emits_nothing_is_refused)
{
    struct sql_flow *f = count_flow(t, &counting, true, "", "update");
    struct mr_error err;

    sql_flow_step(f, "a", "('a'), ('a'), ('a')");
    CHECK_FAILS(sql_flow_fail(f, &err), &err, MR_USER, "exactly one row in each call");
    CHECK_CONTAINS(err.text, "key 'a'");
    sql_flow_free(f);
}

/* ---- GS-05 ---- */

static void count_and_try_timeout(const struct mr_group_call *call, struct mr_emitter *out,
                                  void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);
    struct mr_row row;
    int64_t count = 0;

    (void)arg;
    if (mr_group_exists(call->state) || mr_group_timed_out(call->state))
        mr_emit_fail(out, "there is state before the first batch");
    while (mr_rows_next(call->values, &row))
        count++;
    mr_group_set_timeout_duration(call->state, 5000);
    mr_emit_pair_str_int(out, key.data, key.size_bytes, count);
}

TEST(GS_05_one_batch_of_everything_calls_each_key_once_without_state)
{
    struct mr_groups_spec spec = counting;
    struct sql_flow *f;

    spec.call = count_and_try_timeout;
    spec.timeout = MR_TIMEOUT_PROCESSING_TIME;
    spec.mode = MR_MODE_APPEND;
    f = count_flow(t, &spec, false, "SET trigger = 'once';", "append");
    sql_flow_clock(f, 1000);
    sql_flow_step(f, "a", "('a'), ('a'), ('b')");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|2\nb|1\n");
    sql_flow_free(f);
}

/* ---- GS-07 ---- */

/* Keeps the greatest event time; it times out five seconds later: -1. */
static void latest(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);
    const struct mr_row *state = mr_group_find(call->state);
    int64_t most = state != NULL ? mr_row_int(state, 0) : 0;
    struct mr_row row;

    (void)arg;
    if (mr_group_timed_out(call->state)) {
        mr_group_remove(call->state);
        mr_emit_pair_str_int(out, key.data, key.size_bytes, -1);
        return;
    }
    while (mr_rows_next(call->values, &row)) {
        if (mr_row_int(&row, 1) / 1000000 > most)
            most = mr_row_int(&row, 1) / 1000000;
    }
    mr_group_update_int(call->state, most);
    mr_group_set_timeout_timestamp(call->state, (most + 5) * 1000);
    mr_emit_pair_str_int(out, key.data, key.size_bytes, most);
}

static const struct mr_groups_spec latest_spec = {
    .call = latest,
    .state = "most BIGINT",
    .output = "k VARCHAR, n BIGINT",
    .timeout = MR_TIMEOUT_EVENT_TIME,
    .mode = MR_MODE_UPDATE,
};

/* Spark's filter of late rows counts nothing here; ours does, as everywhere. */
TEST(GS_07_event_time_timeouts)
{
    struct sql_flow *f = sql_flow_new(t);

    sql_flow_source(f, "a", "k VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'");
    sql_flow_sink(f, "out", "", "update");
    groups_view(f, "latest", "a", "k", &latest_spec, false);
    sql_flow_text(f, "INSERT INTO out SELECT k, n FROM latest;");
    sql_flow_step(f, "a",
                  "('a', to_timestamp(11)), ('a', to_timestamp(13)), "
                  "('a', to_timestamp(15))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|15\n");
    CHECK_EQ_STR(sql_flow_state(f), "1/1/0/0");
    sql_flow_step(f, "a", "('a', to_timestamp(4))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "");
    sql_flow_step(f, "a", "('a', to_timestamp(10))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|15\n");
    sql_flow_step(f, "a", "('b', to_timestamp(31))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|-1\nb|31\n");
    CHECK_EQ_STR(sql_flow_state(f), "1/2/1/1");
    sql_flow_free(f);
}
