/*
 * Which output modes and chains functions with state of a key allow: their rows of UN-01, and what
 * their results are for operators behind them.
 */
#include "support/groups.h"
#include "support/sql_flow.h"
#include "support/test.h"

#include "base/check.h"

#include <millrace/groups.h>

#include <stdlib.h>

/* Emits (k, time of the newest row, rows) once a call. */
static void pass(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    struct mr_slice key = mr_row_text(call->key, 0);
    int64_t newest = 0, count = 0;
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(call->values, &row)) {
        newest = mr_row_int(&row, 1) > newest ? mr_row_int(&row, 1) : newest;
        count++;
    }
    mr_group_update_int(call->state, count);
    mr_emit_str(out, key.data, key.size_bytes);
    mr_emit_int(out, newest);
    mr_emit_int(out, count);
    mr_emit_end(out);
}

static struct mr_groups_spec spec_of(enum mr_output_mode mode, enum mr_group_timeout timeout)
{
    return (struct mr_groups_spec){.call = pass,
                                   .state = "n BIGINT",
                                   .output = "k VARCHAR, ts TIMESTAMP, n BIGINT",
                                   .mode = mode,
                                   .timeout = timeout};
}

static struct sql_flow *new_flow(struct test *t, const char *mode)
{
    struct sql_flow *f = sql_flow_new(t);

    sql_flow_source(f, "a", "k VARCHAR, ts TIMESTAMP, v BIGINT",
                    ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'");
    sql_flow_source(f, "plain", "k VARCHAR, ts TIMESTAMP, v BIGINT", "");
    sql_flow_sink(f, "out", "", mode);
    return f;
}

/* Two views g and h over `a`; then the query. refusal NULL: it must plan. */
struct matrix_case {
    bool g_is_map, h_is_map;
    enum mr_output_mode g_mode, h_mode;
    enum mr_group_timeout g_timeout;
    const char *h_input;
    const char *mode;
    const char *insert;
    const char *refusal;
};

static const char only_g[] = "INSERT INTO out SELECT * FROM g;";
static const char agg_g[] = "INSERT INTO out SELECT k, count(*) AS n FROM g GROUP BY k;";
static const char both[] = "INSERT INTO out SELECT * FROM g UNION ALL SELECT * FROM h;";
static const char chain[] = "INSERT INTO out SELECT * FROM h;";

static const struct matrix_case cases[] = {
    /* flatMapGroups(Update) */
    {.g_mode = MR_MODE_UPDATE, .mode = "update", .insert = only_g},
    {.g_mode = MR_MODE_UPDATE,
     .mode = "append",
     .insert = only_g,
     .refusal = "mode update needs output_mode = 'update'"},
    {.g_mode = MR_MODE_UPDATE,
     .mode = "complete",
     .insert = only_g,
     .refusal = "'complete' needs an aggregation"},
    {.g_mode = MR_MODE_UPDATE,
     .mode = "update",
     .insert = agg_g,
     .refusal = "does not go together with an aggregation"},
    {.g_mode = MR_MODE_UPDATE,
     .mode = "complete",
     .insert = agg_g,
     .refusal = "does not go together with an aggregation"},
    /* flatMapGroups(Append) */
    {.g_mode = MR_MODE_APPEND, .mode = "append", .insert = only_g},
    {.g_mode = MR_MODE_APPEND,
     .mode = "update",
     .insert = only_g,
     .refusal = "mode append needs output_mode = 'append'"},
    {.g_mode = MR_MODE_APPEND,
     .mode = "complete",
     .insert = only_g,
     .refusal = "'complete' needs an aggregation"},
    {.g_mode = MR_MODE_APPEND,
     .g_timeout = MR_TIMEOUT_PROCESSING_TIME,
     .mode = "complete",
     .insert = agg_g},
    {.g_mode = MR_MODE_APPEND,
     .g_timeout = MR_TIMEOUT_EVENT_TIME,
     .mode = "complete",
     .insert = agg_g,
     .refusal = "may be late for the stateful operator behind it"},
    /* two of them */
    {.g_mode = MR_MODE_APPEND, .h_mode = MR_MODE_APPEND, .mode = "append", .insert = both},
    {.g_mode = MR_MODE_APPEND,
     .h_mode = MR_MODE_APPEND,
     .h_input = "g",
     .mode = "append",
     .insert = chain},
    {.g_mode = MR_MODE_APPEND,
     .h_mode = MR_MODE_UPDATE,
     .mode = "append",
     .insert = both,
     .refusal = "must all have mode append"},
    {.g_mode = MR_MODE_APPEND,
     .g_timeout = MR_TIMEOUT_EVENT_TIME,
     .h_mode = MR_MODE_APPEND,
     .h_input = "g",
     .mode = "append",
     .insert = chain,
     .refusal = "may be late"},
    /* mapGroups */
    {.g_is_map = true, .mode = "update", .insert = only_g},
    {.g_is_map = true,
     .mode = "append",
     .insert = only_g,
     .refusal = "map_groups_with_state needs output_mode = 'update'"},
    {.g_is_map = true,
     .mode = "complete",
     .insert = only_g,
     .refusal = "'complete' needs an aggregation"},
    {.g_is_map = true,
     .h_is_map = true,
     .mode = "update",
     .insert = both,
     .refusal = "may have one map_groups_with_state"},
    {.g_is_map = true,
     .h_mode = MR_MODE_APPEND,
     .mode = "update",
     .insert = both,
     .refusal = "do not go together in one query"},
    {.g_is_map = true, .mode = "update", .insert = agg_g},
    {.g_is_map = true,
     .mode = "complete",
     .insert = agg_g,
     .refusal = "map_groups_with_state needs output_mode = 'update'"},
};

TEST(UN_01_functions_with_state_by_output_mode)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(cases); i++) {
        const struct matrix_case *one = &cases[i];
        struct mr_groups_spec g = spec_of(one->g_mode, one->g_timeout);
        struct mr_groups_spec h = spec_of(one->h_mode, MR_TIMEOUT_NONE);
        struct sql_flow *f = new_flow(t, one->mode);
        struct mr_error err;
        enum mr_status status;

        groups_view(f, "g", "a", "k", &g, one->g_is_map);
        groups_view(f, "h", one->h_input != NULL ? one->h_input : "a", "k", &h, one->h_is_map);
        sql_flow_text(f, one->insert);
        status = sql_flow_check(f, &err);
        if (one->refusal == NULL && status != MR_OK)
            FAIL("case %zu: %s", i, err.text);
        if (one->refusal != NULL &&
            (status != MR_SQL_ERROR || strstr(err.text, one->refusal) == NULL))
            FAIL("case %zu: want '%s', have '%s'", i, one->refusal, err.text);
        sql_flow_free(f);
    }
}

TEST(UN_01_an_event_time_timeout_needs_a_watermark)
{
    struct mr_groups_spec g = spec_of(MR_MODE_APPEND, MR_TIMEOUT_EVENT_TIME);
    struct sql_flow *f = new_flow(t, "append");
    struct mr_error err;

    groups_view(f, "g", "plain", "k", &g, false);
    sql_flow_text(f, only_g);
    CHECK_FAILS(sql_flow_check(f, &err), &err, MR_SQL_ERROR, "needs a column with a watermark");
    sql_flow_free(f);
}

/* Behind an aggregation: its rows must be final. */
static struct sql_flow *behind_aggregation(struct test *t, const char *mode,
                                           const struct mr_groups_spec *spec)
{
    struct sql_flow *f = new_flow(t, mode);

    sql_flow_text(f, "CREATE VIEW w AS SELECT k, window_end AS ts, count(*) AS v FROM a GROUP BY "
                     "window(ts, '10 seconds'), k;");
    groups_view(f, "g", "w", "k", spec, false);
    sql_flow_text(f, only_g);
    return f;
}

TEST(UN_01_a_function_behind_an_aggregation_needs_append)
{
    struct mr_groups_spec g = spec_of(MR_MODE_APPEND, MR_TIMEOUT_NONE);
    struct mr_groups_spec u = spec_of(MR_MODE_UPDATE, MR_TIMEOUT_NONE);
    struct sql_flow *f = behind_aggregation(t, "append", &g);
    struct mr_error err;

    sql_flow_step(f, "a",
                  "('x', to_timestamp(1), 1), ('x', to_timestamp(2), 1), "
                  "('y', to_timestamp(11), 1)");
    sql_flow_step(f, "a", "('z', to_timestamp(40), 1)");
    CHECK_EQ_STR(sql_flow_run(f, "out"), "x|1970-01-01 00:00:10|1\ny|1970-01-01 00:00:20|1\n");
    sql_flow_free(f);
    f = behind_aggregation(t, "update", &u);
    CHECK_FAILS(sql_flow_check(f, &err), &err, MR_SQL_ERROR, "needs output_mode = 'append'");
    sql_flow_free(f);
}

TEST(unknown_keys_and_no_keys_are_refused)
{
    struct mr_groups_spec g = spec_of(MR_MODE_APPEND, MR_TIMEOUT_NONE);
    static const char *const keys[][2] = {{"city", "no column 'city'"}, {" , ", "at least one"}};

    for (size_t i = 0; i < MR_ARRAY_SIZE(keys); i++) {
        struct sql_flow *f = new_flow(t, "append");
        struct mr_error err;

        groups_view(f, "g", "a", keys[i][0], &g, false);
        sql_flow_text(f, only_g);
        CHECK_FAILS(sql_flow_check(f, &err), &err, MR_SQL_ERROR, keys[i][1]);
        sql_flow_free(f);
    }
}

/* ---- the same rows with any number of workers ---- */

/* A key of two columns; processing-time timeouts; state of several columns. */
static void keep_sessions(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_group_find(call->state);
    int64_t count = state != NULL ? mr_row_int(state, 0) : 0;
    int64_t sum = state != NULL ? mr_row_int(state, 1) : 0;
    struct mr_emitter *to;
    struct mr_row row;

    (void)arg;
    if (mr_group_timed_out(call->state)) {
        mr_emit_value(out, mr_row_value(call->key, 1));
        mr_emit_value(out, mr_row_value(call->key, 0));
        mr_emit_int(out, count);
        mr_emit_int(out, sum);
        mr_emit_end(out);
        mr_group_remove(call->state);
        return;
    }
    while (mr_rows_next(call->values, &row)) {
        count++;
        sum += mr_row_int(&row, 2);
    }
    to = mr_group_update(call->state);
    mr_emit_int(to, count);
    mr_emit_int(to, sum);
    mr_emit_end(to);
    mr_group_set_timeout_duration(call->state, 3000 + 1000 * (count % 3));
}

static char *run_sessions(struct test *t, const char *workers)
{
    struct mr_groups_spec spec = {.call = keep_sessions,
                                  .state = "n BIGINT, s BIGINT",
                                  .output = "k VARCHAR, v BIGINT, n BIGINT, s BIGINT",
                                  .timeout = MR_TIMEOUT_PROCESSING_TIME};
    struct sql_flow *f = sql_flow_new(t);
    char *all = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&all, &size);

    sql_flow_clock(f, 0);
    sql_flow_source(f, "a", "k VARCHAR, v BIGINT, w BIGINT", "");
    sql_flow_sink(f, "out", "", "append");
    groups_view(f, "s", "a", "v, \"k\"", &spec, false);
    sql_flow_text(f, workers);
    sql_flow_text(f, "INSERT INTO out SELECT * FROM s;");
    for (int i = 1; i <= 12; i++) {
        char rows[300];

        sql_flow_clock(f, i * 1000);
        snprintf(rows, sizeof(rows),
                 "SELECT 'k' || ((range * 7 + %d) %% 11), range %% 3, range FROM range(%d)", i,
                 i <= 6 ? 20 : 1);
        sql_flow_step(f, "a", rows);
        fputs(sql_flow_run(f, "out"), text);
    }
    sql_flow_clock(f, 60000);
    fputs(sql_flow_run(f, "out"), text);
    fclose(text);
    sql_flow_free(f);
    sql_flow_sort(all);
    return all;
}

TEST(rows_do_not_depend_on_workers)
{
    char *one = run_sessions(t, "SET workers = 1;");
    char *many = run_sessions(t, "SET workers = 8;");

    CHECK(strlen(one) > 100);
    CHECK_EQ_STR(many, one);
    free(one);
    free(many);
}

/* ---- large batches: partitions really run side by side ---- */

static void count_keys(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                       struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_value_state_get(at, 0);
    int64_t count = state != NULL ? mr_row_int(state, 0) : 0;
    struct mr_row row;

    (void)arg;
    while (mr_rows_next(rows, &row)) {
        mr_emit_int(mr_list_state_append(at, 1), mr_row_int(&row, 2));
        count++;
    }
    mr_value_state_update_int(at, 0, count);
    CHECK(mr_timer_register(at, mr_transform_batch_time_ms(at) + 500));
    mr_emit_value(out, mr_row_value(key, 0));
    mr_emit_int(out, mr_list_state_count(at, 1));
    mr_emit_end(out);
}

static void tell_sum(struct mr_transform *at, const struct mr_row *key, int64_t expiry_ms,
                     struct mr_emitter *out, void *arg)
{
    int64_t sum = 0;

    (void)expiry_ms, (void)arg;
    for (int64_t i = 0; i < mr_list_state_count(at, 1); i++)
        sum += mr_row_int(mr_list_state_item(at, 1, i), 0);
    mr_list_state_clear(at, 1);
    mr_emit_value(out, mr_row_value(key, 0));
    mr_emit_int(out, sum);
    mr_emit_end(out);
}

static char *run_large(struct test *t, const char *workers)
{
    static const struct mr_state_variable variables[] = {
        {.name = "count", .kind = MR_STATE_VALUE, .columns = "n BIGINT"},
        {.name = "values", .kind = MR_STATE_LIST, .columns = "v BIGINT"}};
    static const struct mr_processor processor = {.rows = count_keys, .timer = tell_sum};
    struct mr_transform_spec spec = {.processor = &processor,
                                     .variables = variables,
                                     .variable_count = 2,
                                     .output = "k BIGINT, n BIGINT",
                                     .time_mode = MR_TIME_MODE_PROCESSING,
                                     .mode = MR_MODE_UPDATE};
    struct sql_flow *f = sql_flow_new(t);
    char *all = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&all, &size);

    sql_flow_clock(f, 0);
    sql_flow_source(f, "a", "k BIGINT, x VARCHAR, v BIGINT", "");
    sql_flow_sink(f, "out", "", "update");
    transform_view(f, "s", "a", "k", &spec);
    sql_flow_text(f, workers);
    sql_flow_text(f, "INSERT INTO out SELECT k % 7 AS k, sum(n) AS n FROM s GROUP BY k % 7;");
    for (int i = 1; i <= 3; i++) {
        sql_flow_clock(f, i * 1000);
        for (int k = 0; k < 7; k++) /* seven of 700 KB make one batch */
            sql_flow_step(f, "a",
                          "SELECT (range * 31) % 5000, repeat('text', 20), range FROM range(7000)");
        fputs(sql_flow_run(f, "out"), text);
    }
    fclose(text);
    sql_flow_free(f);
    return all;
}

TEST(large_batches_give_the_same_rows_on_one_worker_and_on_four)
{
    char *one = run_large(t, "SET workers = 1;");
    char *many = run_large(t, "SET workers = 4;");

    CHECK(strlen(one) > 100);
    CHECK_EQ_STR(many, one);
    free(one);
    free(many);
}
