/*
 * Functions with state when memory runs out, or a function fails, in the middle of a batch: the
 * batch is run again from the state before it, and nothing of the first run is left.
 */
#include "support/groups.h"
#include "support/sql_flow.h"
#include "support/test.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"

#include <millrace/groups.h>

/* 0: off; else the next call of a function lets that allocation fail, counted from there. */
static uint64_t armed;
/* 0: off; else that call of a function fails. */
static uint64_t failing_call;

static void fire(struct mr_emitter *out)
{
    if (failing_call > 0 && --failing_call == 0)
        mr_emit_fail(out, "this call fails once");
    if (armed == 0)
        return;
    mr_alloc_fail_at(armed, false);
    armed = 0;
}

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

/* ---- functions ---- */

static void running(const struct mr_group_call *call, struct mr_emitter *out, void *arg)
{
    const struct mr_row *state = mr_group_find(call->state);
    int64_t total = state != NULL ? mr_row_int(state, 0) : 0;
    struct mr_row row;

    (void)arg;
    fire(out);
    while (mr_rows_next(call->values, &row))
        total += mr_row_int(&row, 1);
    if (mr_group_timed_out(call->state))
        mr_group_remove(call->state);
    else
        mr_group_update_int(call->state, total);
    if (!mr_group_timed_out(call->state))
        mr_group_set_timeout_duration(call->state, 1500);
    mr_emit_value(out, mr_row_value(call->key, 0));
    mr_emit_int(out, mr_group_timed_out(call->state) ? -total : total);
    mr_emit_end(out);
}

static void gather(struct mr_transform *at, const struct mr_row *key, struct mr_rows *rows,
                   struct mr_emitter *out, void *arg)
{
    struct mr_row row;

    (void)arg;
    fire(out);
    while (mr_rows_next(rows, &row)) {
        mr_emit_int(mr_list_state_append(at, 0), mr_row_int(&row, 1));
        mr_emit_int(mr_map_state_update(at, 1, mr_map_key_int(mr_row_int(&row, 1) % 3)), 1);
    }
    mr_timer_register(at, mr_transform_batch_time_ms(at) + 1500);
    mr_emit_value(out, mr_row_value(key, 0));
    mr_emit_int(out, mr_list_state_count(at, 0) * 10 + mr_map_state_count(at, 1));
    mr_emit_end(out);
}

static void tell(struct mr_transform *at, const struct mr_row *key, int64_t expiry_ms,
                 struct mr_emitter *out, void *arg)
{
    (void)expiry_ms, (void)arg;
    fire(out);
    mr_emit_value(out, mr_row_value(key, 0));
    mr_emit_int(out, -mr_list_state_count(at, 0));
    mr_emit_end(out);
    if (mr_list_state_count(at, 0) > 3)
        mr_list_state_clear(at, 0);
}

/* ---- the loop ---- */

static struct sql_flow *new_flow(struct test *t, bool transform)
{
    static const struct mr_groups_spec groups = {.call = running,
                                                 .state = "n BIGINT",
                                                 .output = "k BIGINT, n BIGINT",
                                                 .timeout = MR_TIMEOUT_PROCESSING_TIME,
                                                 .mode = MR_MODE_UPDATE};
    static const struct mr_state_variable variables[] = {
        {.name = "all", .kind = MR_STATE_LIST, .columns = "v BIGINT", .ttl_ms = 4000},
        {.name = "rest", .kind = MR_STATE_MAP, .columns = "n BIGINT", .key_column = "BIGINT"}};
    static const struct mr_processor processor = {.rows = gather, .timer = tell};
    static const struct mr_transform_spec spec = {.processor = &processor,
                                                  .variables = variables,
                                                  .variable_count = 2,
                                                  .output = "k BIGINT, n BIGINT",
                                                  .time_mode = MR_TIME_MODE_PROCESSING,
                                                  .mode = MR_MODE_UPDATE};
    struct sql_flow *f = sql_flow_new(t);

    sql_flow_clock(f, 0);
    sql_flow_source(f, "a", "k BIGINT, v BIGINT", "");
    sql_flow_sink(f, "out", "", "update");
    if (transform)
        transform_view(f, "g", "a", "k", &spec);
    else
        groups_view(f, "g", "a", "k", &groups, false);
    sql_flow_text(f, "SET workers = 1; SET retries = 5; INSERT INTO out SELECT k, n FROM g;");
    return f;
}

/* Three batches; the failure falls into the second. Without memory the query ends, and is started
 * again; when a function fails, the batch is run again in the same life. */
static void run_three(struct sql_flow *f, uint64_t allocation, uint64_t call, char *rows,
                      size_t size)
{
    static const char *const steps[] = {"(1, 1), (2, 2), (3, 3)", "(1, 4), (4, 5), (1, 6)",
                                        "(2, 7), (5, 8)"};
    size_t used = 0;

    for (size_t i = 0; i < MR_ARRAY_SIZE(steps); i++) {
        struct mr_error err;

        sql_flow_clock(f, (int64_t)(i + 1) * 60000);
        sql_flow_step(f, "a", steps[i]);
        if (i == 1) {
            armed = allocation;
            failing_call = call;
            (void)sql_flow_fail(f, &err);
            mr_alloc_fail_at(0, false);
            armed = 0;
        }
        used += (size_t)snprintf(rows + used, size - used, "%s;", sql_flow_run(f, "out"));
    }
}

static void fail_everywhere(struct test *t, bool transform)
{
    uint64_t stride = test_quick() ? 25 : 7;
    char want[1000], have[1000];
    struct sql_flow *f = new_flow(t, transform);

    mr_log_set_sink(quiet, NULL);
    run_three(f, 0, 0, want, sizeof(want));
    sql_flow_free(f);
    CHECK(strlen(want) > 20);
    for (uint64_t nth = 1; nth < 120; nth++) {
        bool calls = nth <= 5;

        if (!calls && nth % stride != 0)
            continue;
        f = new_flow(t, transform);
        run_three(f, calls ? 0 : nth - 5, calls ? nth : 0, have, sizeof(have));
        sql_flow_free(f);
        if (strcmp(have, want) != 0)
            FAIL("failure %llu: have '%s', want '%s'", (unsigned long long)nth, have, want);
    }
    mr_log_set_sink(NULL, NULL);
}

TEST(map_groups_runs_a_batch_again_that_failed)
{
    fail_everywhere(t, false);
}

TEST(transform_runs_a_batch_again_that_failed)
{
    fail_everywhere(t, true);
}
