/*
 * Differential: random queries over random rows, cut into random steps and batches, with restarts
 * and deaths of the query in between, against DuckDB over the whole input. The queries are those of
 * a grammar (support/sql_random.h).
 *
 * Append: what came out, as a multiset. Complete: the last result. Update: folded by key.
 *
 * MILLRACE_SEED starts elsewhere, MILLRACE_CASES says how many (make differential).
 */
#include "support/evidence.h"
#include "support/sql_flow.h"
#include "support/sql_random.h"

#include <stdlib.h>

static void add_step(struct sql_flow *flow, const char *table, bool right, uint64_t *state,
                     int *number, int count)
{
    struct mr_buf rows = MR_BUF_INIT;

    random_rows(&rows, right, state, *number, count);
    mr_buf_add_char(&rows, '\0');
    sql_flow_step(flow, table, count > 0 ? rows.data : "");
    mr_buf_release(&rows);
    *number += count;
}

static void add_flush(struct sql_flow *flow, const char *table, bool right, int number)
{
    struct mr_buf row = MR_BUF_INIT;

    random_flush_row(&row, right, number);
    mr_buf_add_char(&row, '\0');
    sql_flow_step(flow, table, row.data);
    mr_buf_release(&row);
}

/* One life: to the end of what is there, or to a point of a batch. */
static void live(struct sql_flow *flow, uint64_t *state, struct mr_buf *all)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};

    if (random_below(state, 3) == 0)
        sql_flow_run_until(flow, points[random_below(state, 4)]);
    else
        mr_buf_add_str(all, sql_flow_run(flow, "out"));
}

static void run_input(struct sql_flow *flow, uint64_t *state, struct mr_buf *all)
{
    int lefts = 0;
    int rights = 0;

    sql_flow_step(flow, "names", "('a', 'one'), ('b', 'two'), ('b', 'zwei'), (NULL, 'none')");
    for (int round = 0; round < 6; round++) {
        sql_flow_steps_per_batch(flow, (int)random_below(state, 3));
        for (uint32_t step = random_below(state, 3) + 1; step > 0; step--) {
            int count = (int)random_below(state, 12);

            /* both streams keep to one clock */
            add_step(flow, "lefts", false, state, &lefts, count);
            add_step(flow, "rights", true, state, &rights, count);
        }
        if (lefts > 0)
            live(flow, state, all);
    }
    add_flush(flow, "lefts", false, lefts);
    add_flush(flow, "rights", true, rights);
    mr_buf_add_str(all, sql_flow_run(flow, "out"));
}

/* The first line that differs says more than both texts. */
static void compare(const char *have, const char *want, const struct random_query *query,
                    uint64_t seed)
{
    const char *left = have;
    const char *right = want;

    if (strcmp(have, want) == 0)
        return;
    while (*left == *right && *left != '\0') {
        left++;
        right++;
    }
    while (left > have && left[-1] != '\n') {
        left--;
        right--;
    }
    FAIL("MILLRACE_SEED=%llu, %s mode\n#   %s\n#   whole: %s\n#   stream has '%.*s'\n#   whole has "
         "'%.*s'",
         (unsigned long long)seed, query->mode, query->stream.data, query->oracle.data,
         (int)strcspn(left, "\n"), left, (int)strcspn(right, "\n"), right);
}

static uint64_t rows_compared;

static uint64_t count_lines(const char *text)
{
    uint64_t count = 0;

    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

static void run_case(struct test *t, uint64_t seed)
{
    struct random_query query = {.stream = MR_BUF_INIT, .oracle = MR_BUF_INIT};
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_buf all = MR_BUF_INIT;
    uint64_t state = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    const char *have;
    char *mine;

    random_query_make(&query, seed);
    mr_buf_add_char(&query.stream, '\0');
    mr_buf_add_char(&query.oracle, '\0');
    sql_flow_source(flow, "lefts", "n BIGINT, k VARCHAR, i BIGINT, s VARCHAR, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '30 seconds'");
    sql_flow_source(flow, "rights", "n BIGINT, k VARCHAR, j BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '30 seconds'");
    sql_flow_static(flow, "names", "k VARCHAR, title VARCHAR");
    sql_flow_sink(flow, "out", "", query.mode);
    if (seed / RANDOM_SHAPES % 2 == 0)
        sql_flow_large_batches(flow);
    sql_flow_text(flow, "INSERT INTO out ");
    sql_flow_text(flow, query.stream.data);
    sql_flow_text(flow, ";");
    run_input(flow, &state, &all);
    have = strcmp(query.mode, "append") == 0 ? all.data
           : strcmp(query.mode, "complete") == 0
               ? sql_flow_last(flow, "out")
               : sql_flow_upserted(flow, "out", query.key_columns);
    mine = calloc(1, (have != NULL ? strlen(have) : 0) + 2);
    if (have != NULL)
        memcpy(mine, have, strlen(have));
    sql_flow_sort(mine);
    compare(mine, sql_flow_oracle(flow, query.oracle.data), &query, seed);
    rows_compared += count_lines(mine);
    free(mine);
    mr_buf_release(&all);
    random_query_release(&query);
    sql_flow_free(flow);
}

static void run_shape(struct test *t, enum random_shape shape)
{
    const char *wanted = getenv("MILLRACE_CASES");
    int cases = wanted != NULL ? atoi(wanted) : (!test_quick() ? 30 : test_slow_build() ? 2 : 6);
    uint64_t first = test_seed(1) * RANDOM_SHAPES + shape;

    for (int i = 0; i < cases; i++)
        run_case(t, first + (uint64_t)i * RANDOM_SHAPES);
    evidence_add("differential", "queries", (uint64_t)cases);
    evidence_add("differential", "rows", rows_compared);
    rows_compared = 0;
}

TEST(random_stateless_queries_and_unions)
{
    run_shape(t, RANDOM_STATELESS);
}

TEST(random_joins_with_a_static_table)
{
    run_shape(t, RANDOM_STATIC_JOIN);
}

TEST(random_aggregations_in_update_mode)
{
    run_shape(t, RANDOM_UPDATE);
}

TEST(random_aggregations_in_complete_mode)
{
    run_shape(t, RANDOM_COMPLETE);
}

TEST(random_grouping_sets)
{
    run_shape(t, RANDOM_SETS);
}

TEST(random_windows)
{
    run_shape(t, RANDOM_WINDOW);
}

TEST(random_sessions)
{
    run_shape(t, RANDOM_SESSION);
}

TEST(random_distinct_rows)
{
    run_shape(t, RANDOM_DISTINCT);
}

TEST(random_inner_joins)
{
    run_shape(t, RANDOM_JOIN);
}

TEST(random_outer_and_semi_joins)
{
    run_shape(t, RANDOM_OUTER_JOIN);
}

TEST(random_windows_of_joins)
{
    run_shape(t, RANDOM_JOIN_WINDOW);
}

TEST(random_windows_of_windows)
{
    run_shape(t, RANDOM_CHAIN);
}
