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
    f = count_flow(t, &spec, false, "", "append");
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

/* ---- GS-08 ---- */

/* Sets a timeout that is in the past by the time of the next batch. */
static void half_a_second(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);

    (void)arg;
    if (!mr_group_exists(call->state) && mr_group_watermark_ms(call->state) == 0) {
        mr_group_update_int(call->state, 1);
        mr_group_set_timeout_timestamp(call->state, 500);
    }
    mr_emit_pair_str_int(out, key.data, key.size_bytes, mr_group_timed_out(call->state));
}

TEST(GS_08_a_key_with_rows_does_not_time_out_in_the_same_batch)
{
    struct mr_groups_spec spec = latest_spec;
    struct sql_flow *f = sql_flow_new(t);

    spec.call = half_a_second;
    sql_flow_source(f, "a", "k VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(f, "out", "", "update");
    groups_view(f, "halves", "a", "k", &spec, false);
    sql_flow_text(f, "SET no_data_batches = false; INSERT INTO out SELECT k, n FROM halves;");
    sql_flow_step(f, "a", "('a', to_timestamp(1))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|0\n");
    sql_flow_step(f, "a", "('a', to_timestamp(2))");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "a|0\n");
    sql_flow_step(f, "a", "('b', to_timestamp(3))"); /* the timeout of 'a' was cleared */
    CHECK_EQ_STR(sql_flow_run(f, "out"), "b|0\n");
    sql_flow_free(f);
}

/* ---- GS-10 ---- */

/* (key, values, count), and keeps the count, unless the key is noUpdate. */
static void with_initial(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);
    const struct mr_row *state = mr_group_find(call->state);
    int64_t count = state != NULL ? mr_row_int(state, 0) : 0;
    char values[80] = "";
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(call->values, &row)) {
        struct mr_slice value = mr_row_text(&row, 0);
        size_t used = strlen(values);

        snprintf(values + used, sizeof(values) - used, "[%.*s]", (int)value.size_bytes, value.data);
        count++;
    }
    if (key.size_bytes != 8 || memcmp(key.data, "noUpdate", 8) != 0)
        mr_group_update_int(call->state, count);
    mr_emit_str(out, key.data, key.size_bytes);
    mr_emit_str(out, values, strlen(values));
    mr_emit_int(out, count);
    mr_emit_end(out);
}

TEST(GS_10_an_initial_state_is_there_in_the_first_batch)
{
    static const char *const workers[] = {"SET workers = 1;", "SET workers = 2;",
                                          "SET workers = 6;"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(workers); i++) {
        struct sql_flow *f = sql_flow_new(t);
        struct mr_groups_spec spec = counting;

        spec.call = with_initial;
        spec.output = "k VARCHAR, vs VARCHAR, n BIGINT";
        spec.initial_state = sql_flow_batch(
            f, "SELECT CAST(k AS VARCHAR) AS k, CAST(n AS BIGINT) AS n FROM (VALUES ('k1', 1), "
               "('k2', 2), ('noUpdate', 2), ('only', 1)) t(k, n)");
        sql_flow_source(f, "a", "v VARCHAR", "");
        sql_flow_sink(f, "out", "", "update");
        groups_view(f, "counts", "a", "v", &spec, false);
        sql_flow_text(f, workers[i]);
        sql_flow_text(f, "INSERT INTO out SELECT * FROM counts;");
        sql_flow_step(f, "a", "('onlyData'), ('k2')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "k1||1\nk2|[k2]|3\nnoUpdate||2\n"
                                             "onlyData|[onlyData]|1\nonly||1\n");
        CHECK_EQ_STR(sql_flow_state(f), "5/4/0/0");
        sql_flow_step(f, "a", "('k1')");
        CHECK_EQ_STR(sql_flow_run(f, "out"), "k1|[k1]|2\n");
        CHECK_EQ_STR(sql_flow_state(f), "5/1/0/0");
        mr_batch_unref((struct mr_batch *)(uintptr_t)spec.initial_state);
        sql_flow_free(f);
    }
}

TEST(GS_10_a_key_twice_in_the_initial_state_is_refused)
{
    struct sql_flow *f = sql_flow_new(t);
    struct mr_groups_spec spec = counting;
    struct mr_error err;

    spec.initial_state =
        sql_flow_batch(f, "SELECT CAST(k AS VARCHAR) AS k, CAST(n AS BIGINT) AS n FROM (VALUES "
                          "('k1', 1), ('k1', 2)) t(k, n)");
    sql_flow_source(f, "a", "v VARCHAR", "");
    sql_flow_sink(f, "out", "", "update");
    groups_view(f, "counts", "a", "v", &spec, false);
    sql_flow_text(f, "SET retries = 0; INSERT INTO out SELECT * FROM counts;");
    sql_flow_step(f, "a", "('a')");
    CHECK_FAILS(sql_flow_fail(f, &err), &err, MR_CONFIG, "has key 'k1' twice");
    mr_batch_unref((struct mr_batch *)(uintptr_t)spec.initial_state);
    sql_flow_free(f);
}

/* ---- GS-11, GS-13: the handle alone, at batch time 1000 ms and watermark 1000 ms ---- */

struct handle {
    struct mr_schema *schema;
    struct mr_batch *old;
    struct mr__new_states news;
    struct mr_row row;
    struct mr_group_state state;
};

static void handle_init(struct handle *handle, enum mr_group_timeout kind, bool has_old)
{
    struct mr_batch_builder *builder = NULL;

    memset(handle, 0, sizeof(*handle));
    CHECK_OK(mr_schema_parse("n BIGINT", 8, &handle->schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(handle->schema, &builder, NULL), NULL);
    mr_batch_builder_int(builder, 0, 0);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &handle->old, NULL), NULL);
    mr_batch_builder_free(builder);
    CHECK_OK(mr__new_states_init(&handle->news, handle->schema, NULL), NULL);
    handle->row = (struct mr_row){handle->old, 0};
    handle->state = (struct mr_group_state){.old = has_old ? &handle->row : NULL,
                                            .news = &handle->news,
                                            .kind = kind,
                                            .timeout_ms = MR_DUE_NEVER,
                                            .batch_time_ms = 1000,
                                            .watermark_ms = 1000,
                                            .has_watermark = true};
}

static void handle_release(struct handle *handle)
{
    mr__new_states_release(&handle->news);
    mr_batch_unref(handle->old);
    mr_schema_unref(handle->schema);
}

/* The rules of one row of GS-11: what the function does; the result as "state/timeout". */
static void check_rule(enum mr_group_timeout kind, bool has_old, int64_t old_timeout,
                       void (*does)(struct mr_group_state *state), const char *want)
{
    struct handle handle;
    char text[64], state[24] = "none", timeout[24] = "none";
    bool has_state = false, had_entry = has_old || old_timeout != MR_DUE_NEVER;
    int64_t news = -1;
    enum mr_group_write write;

    handle_init(&handle, kind, has_old);
    does(&handle.state);
    CHECK_OK(mr_group_end(&handle.state, &news, NULL), NULL);
    write = mr_group_writes(&handle.state, had_entry, old_timeout, &has_state);
    if (has_state)
        snprintf(state, sizeof(state), "%lld",
                 (long long)mr_row_int(mr_group_get(&handle.state), 0));
    if (handle.state.timeout_ms != MR_DUE_NEVER)
        snprintf(timeout, sizeof(timeout), "%lld", (long long)handle.state.timeout_ms);
    snprintf(text, sizeof(text), "%s/%s", state, timeout);
    CHECK_EQ_STR(text, want);
    CHECK_EQ_INT(write == MR_GROUP_DELETE, had_entry && strcmp(text, "none/none") == 0);
    handle_release(&handle);
}

static void does_nothing(struct mr_group_state *state)
{
    (void)state;
}

static void does_update(struct mr_group_state *state)
{
    mr_group_update_int(state, 5);
}

static void does_remove(struct mr_group_state *state)
{
    mr_group_remove(state);
}

static void does_duration(struct mr_group_state *state)
{
    CHECK(mr_group_set_timeout_duration(state, 5000));
}

static void does_update_duration(struct mr_group_state *state)
{
    does_update(state);
    does_duration(state);
}

static void does_remove_duration(struct mr_group_state *state)
{
    does_remove(state);
    does_duration(state);
}

static void does_timestamp(struct mr_group_state *state)
{
    CHECK(mr_group_set_timeout_timestamp(state, 10000));
}

static void does_update_timestamp(struct mr_group_state *state)
{
    does_update(state);
    CHECK(mr_group_set_timeout_timestamp(state, 5000));
}

static void does_remove_timestamp(struct mr_group_state *state)
{
    does_remove(state);
    does_timestamp(state);
}

TEST(GS_11_what_is_written_after_a_call)
{
    static const enum mr_group_timeout kinds[] = {MR_TIMEOUT_NONE, MR_TIMEOUT_PROCESSING_TIME,
                                                  MR_TIMEOUT_EVENT_TIME};
    static const int64_t timeouts[] = {MR_DUE_NEVER, 1000};

    for (size_t k = 0; k < MR_ARRAY_SIZE(kinds); k++) {
        for (size_t i = 0; i < 4; i++) {
            bool has_old = i % 2 == 1;
            int64_t old = timeouts[i / 2];

            check_rule(kinds[k], has_old, old, does_nothing, has_old ? "0/none" : "none/none");
            check_rule(kinds[k], has_old, old, does_update, "5/none");
            check_rule(kinds[k], has_old, old, does_remove, "none/none");
        }
    }
    check_rule(MR_TIMEOUT_PROCESSING_TIME, false, MR_DUE_NEVER, does_duration, "none/6000");
    check_rule(MR_TIMEOUT_PROCESSING_TIME, true, 1000, does_update_duration, "5/6000");
    check_rule(MR_TIMEOUT_PROCESSING_TIME, true, 1000, does_remove_duration, "none/6000");
    check_rule(MR_TIMEOUT_EVENT_TIME, false, MR_DUE_NEVER, does_timestamp, "none/10000");
    check_rule(MR_TIMEOUT_EVENT_TIME, true, 1000, does_update_timestamp, "5/5000");
    check_rule(MR_TIMEOUT_EVENT_TIME, true, 1000, does_remove_timestamp, "none/10000");
}

TEST(GS_11_a_timestamp_before_the_watermark_is_refused)
{
    struct handle handle;
    struct mr_error err = {0};
    int64_t news;

    handle_init(&handle, MR_TIMEOUT_EVENT_TIME, false);
    mr_group_update_int(&handle.state, 5);
    CHECK(!mr_group_set_timeout_timestamp(&handle.state, 999));
    CHECK_EQ_INT(handle.state.timeout_ms, MR_DUE_NEVER);
    CHECK(mr_group_exists(&handle.state));
    CHECK_FAILS(mr_group_end(&handle.state, &news, &err), &err, MR_USER, "before the watermark");
    handle_release(&handle);
}

/* One setter on a fresh handle: the timeout, or -1 when it was refused, which must be a mistake. */
static int64_t try_duration(enum mr_group_timeout kind, const char *text, int64_t ms)
{
    struct handle handle;
    struct mr_error err = {0};
    int64_t news, timeout;
    bool taken;

    handle_init(&handle, kind, true);
    taken = text != NULL ? mr_group_set_timeout_duration_text(&handle.state, text)
                         : mr_group_set_timeout_duration(&handle.state, ms);
    timeout = handle.state.timeout_ms;
    CHECK_EQ_INT(mr_group_end(&handle.state, &news, &err) == MR_OK, taken);
    handle_release(&handle);
    return taken ? timeout : -1;
}

static int64_t try_timestamp(enum mr_group_timeout kind, int64_t ms, const char *text)
{
    struct handle handle;
    struct mr_error err = {0};
    int64_t news, timeout;
    bool taken;

    handle_init(&handle, kind, true);
    taken = text != NULL ? mr_group_set_timeout_timestamp_text(&handle.state, ms, text)
                         : mr_group_set_timeout_timestamp(&handle.state, ms);
    timeout = handle.state.timeout_ms;
    CHECK_EQ_INT(mr_group_end(&handle.state, &news, &err) == MR_OK, taken);
    handle_release(&handle);
    return taken ? timeout : -1;
}

TEST(GS_13_timeouts_are_taken_or_refused)
{
    enum mr_group_timeout processing = MR_TIMEOUT_PROCESSING_TIME, event = MR_TIMEOUT_EVENT_TIME;

    CHECK_EQ_INT(try_duration(processing, "-1 month 31 days 1 second", 0), 2000);
    CHECK_EQ_INT(try_duration(processing, NULL, 500), 1500);
    CHECK_EQ_INT(try_duration(processing, "2 second", 0), 3000);
    CHECK_EQ_INT(try_duration(processing, NULL, -1000), -1);
    CHECK_EQ_INT(try_duration(processing, NULL, 0), -1);
    CHECK_EQ_INT(try_duration(processing, "-2 second", 0), -1);
    CHECK_EQ_INT(try_duration(processing, "-1 month", 0), -1);
    CHECK_EQ_INT(try_duration(processing, "1 month -31 day", 0), -1);
    CHECK_EQ_INT(try_duration(processing, "soon", 0), -1);
    CHECK_EQ_INT(try_timestamp(event, 10000, NULL), 10000);
    CHECK_EQ_INT(try_timestamp(event, 10000, "1 month -31 days 3 seconds"), 13000);
    CHECK_EQ_INT(try_timestamp(event, -10000, NULL), -1);
    CHECK_EQ_INT(try_timestamp(event, 10000, "-3 second"), -1);
    CHECK_EQ_INT(try_timestamp(event, 10000, "-1 month"), -1);
    CHECK_EQ_INT(try_timestamp(event, 10000, "1 month -32 day"), -1);
    /* the wrong kind */
    CHECK_EQ_INT(try_duration(event, NULL, 500), -1);
    CHECK_EQ_INT(try_duration(MR_TIMEOUT_NONE, NULL, 500), -1);
    CHECK_EQ_INT(try_timestamp(processing, 10000, NULL), -1);
    CHECK_EQ_INT(try_timestamp(MR_TIMEOUT_NONE, 10000, "1 second"), -1);
}

TEST(GS_13_state_may_be_removed_twice_and_updated_afterwards)
{
    struct handle handle;
    int64_t news;

    handle_init(&handle, MR_TIMEOUT_PROCESSING_TIME, true);
    CHECK(mr_group_set_timeout_duration(&handle.state, 500));
    mr_group_remove(&handle.state);
    mr_group_remove(&handle.state);
    CHECK(!mr_group_exists(&handle.state));
    CHECK_NULL(mr_group_find(&handle.state));
    CHECK_EQ_INT(handle.state.timeout_ms, 1500); /* a removal keeps the timeout */
    mr_group_update_int(&handle.state, 7);
    CHECK_EQ_INT(mr_row_int(mr_group_get(&handle.state), 0), 7);
    mr_group_update_int(&handle.state, 8);
    CHECK_EQ_INT(mr_row_int(mr_group_get(&handle.state), 0), 8);
    CHECK_OK(mr_group_end(&handle.state, &news, NULL), NULL);
    handle_release(&handle);
}

TEST(GS_13_a_state_that_is_not_there_and_one_of_nulls_are_mistakes)
{
    struct handle handle;
    struct mr_error err = {0};
    int64_t news;

    handle_init(&handle, MR_TIMEOUT_NONE, false);
    CHECK_NULL(mr_group_get(&handle.state));
    CHECK_FAILS(mr_group_end(&handle.state, &news, &err), &err, MR_USER, "does not exist");
    handle_release(&handle);
    handle_init(&handle, MR_TIMEOUT_NONE, false);
    mr_emit_null(mr_group_update(&handle.state));
    CHECK_FAILS(mr_group_end(&handle.state, &news, &err), &err, MR_USER, "nothing but nulls");
    handle_release(&handle);
    handle_init(&handle, MR_TIMEOUT_NONE, false);
    (void)mr_group_update(&handle.state);
    CHECK_FAILS(mr_group_end(&handle.state, &news, &err), &err, MR_USER, "exactly one row");
    handle_release(&handle);
}

TEST(GS_13_the_watermark_of_a_stream_without_one_is_a_mistake)
{
    struct handle handle;
    struct mr_error err = {0};
    int64_t news;

    handle_init(&handle, MR_TIMEOUT_NONE, false);
    CHECK_EQ_INT(mr_group_watermark_ms(&handle.state), 1000);
    CHECK_EQ_INT(mr_group_batch_time_ms(&handle.state), 1000);
    handle.state.has_watermark = false;
    CHECK_EQ_INT(mr_group_watermark_ms(&handle.state), -1);
    CHECK_FAILS(mr_group_end(&handle.state, &news, &err), &err, MR_USER, "has none");
    handle_release(&handle);
}

/* ---- GS-14 ---- */

static void fails_on_b(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    (void)arg;
    if (mr_row_text(call->key, 0).data[0] == 'b')
        mr_emit_fail(out, "b is not for me");
}

TEST(GS_14_mistakes_of_the_function_end_the_query_with_the_key)
{
    struct mr_groups_spec spec = counting;
    struct sql_flow *f;
    struct mr_error err;

    spec.call = fails_on_b;
    f = count_flow(t, &spec, false, "SET retries = 0;", "update");
    sql_flow_step(f, "a", "('a'), ('b')");
    CHECK_FAILS(sql_flow_fail(f, &err), &err, MR_USER, "b is not for me");
    CHECK_CONTAINS(err.text, "key 'b'");
    sql_flow_free(f);
}

TEST(GS_14_a_function_of_mode_complete_is_refused)
{
    struct mr_groups_spec spec = counting;
    struct sql_flow *f;
    struct mr_error err;

    spec.mode = MR_MODE_COMPLETE;
    f = count_flow(t, &spec, false, "", "update");
    CHECK_FAILS(sql_flow_check(f, &err), &err, MR_CONFIG, "is append or update");
    sql_flow_free(f);
}
