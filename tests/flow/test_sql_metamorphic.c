/*
 * Metamorphic: the queries of the vectors (vectors_structured.inc) over random rows, run again and
 * again with the same input and everything else different: how many steps make a batch, where the
 * query is started anew, where it dies, how many workers it has. The result must not change.
 * Queries without windows must also give what DuckDB gives over the whole input.
 *
 * MILLRACE_SEED starts elsewhere, MILLRACE_CASES says how many inputs each query gets.
 */
#include "support/evidence.h"
#include "support/sql_flow.h"
#include "support/sql_random.h"

#include <stdlib.h>

struct step {
    const char *a;
    const char *b;
    const char *want;
};

struct vector {
    const char *id;
    int delay_a; /* seconds, -1: no watermark */
    int delay_b;
    const char *mode;
    const char *select;
};

static const struct vector vectors[] = {
#define VECTOR(id, title, delay_a, delay_b, mode, select, ...)                                     \
    {#id, delay_a, delay_b, mode, select},
#include "vectors_structured.inc"
#undef VECTOR
};

enum { ROUNDS = 6, FLUSH = 1000000 };

/* How one run of the input goes. */
struct course {
    const char *name;
    bool restarts; /* between the rounds */
    bool dies;
    int steps; /* of a batch; -1: another number each time */
    int workers;
    bool large; /* batches run as large ones do */
};

static const struct course courses[] = {
    {"all at once", false, false, 0, 1, false},
    {"a step a batch", false, false, 1, 2, true},
    {"restarts", true, false, -1, 1, false},
    {"restarts and deaths", true, true, -1, 2, true},
};

static void add_source(struct sql_flow *flow, const char *name, int delay)
{
    char extra[100] = "";

    if (delay >= 0)
        snprintf(extra, sizeof(extra), ", WATERMARK FOR ts AS ts - INTERVAL '%d seconds'", delay);
    sql_flow_source(flow, name, "v BIGINT, ts TIMESTAMP", extra);
}

/* Values grow, out of order by no more than the watermark allows, so that nothing is late. */
static void add_step(struct sql_flow *flow, const char *table, int delay, uint64_t *state,
                     int *from)
{
    int jitter = delay < 0 ? 20 : delay;
    int count = (int)random_below(state, 8);
    struct mr_buf sql = MR_BUF_INIT;

    for (int i = 0; i < count; i++) {
        int v = *from + i / 2 + (int)random_below(state, (uint32_t)jitter + 1);

        mr_buf_printf(&sql, "%s(%d, make_timestamp(%d000000))", i > 0 ? ", " : "", v, v);
    }
    *from += count / 2 + 1; /* what is as old as the watermark is late */
    mr_buf_add_char(&sql, '\0');
    sql_flow_step(flow, table, count > 0 ? sql.data : "");
    mr_buf_release(&sql);
}

static void live(struct sql_flow *flow, const struct course *course, uint64_t *state,
                 struct mr_buf *all)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};

    if (course->steps < 0)
        sql_flow_steps_per_batch(flow, (int)random_below(state, 3));
    if (course->dies && random_below(state, 2) == 0)
        sql_flow_run_until(flow, points[random_below(state, 4)]);
    else
        mr_buf_add_str(all, sql_flow_run(flow, "out"));
}

static const char *result_of(struct sql_flow *flow, const struct vector *vector,
                             const struct mr_buf *all)
{
    if (strcmp(vector->mode, "complete") == 0)
        return sql_flow_last(flow, "out");
    if (strcmp(vector->mode, "update") == 0)
        return sql_flow_upserted(flow, "out", strchr(vector->select, '+') != NULL ? 2 : 1);
    return all->data != NULL ? all->data : "";
}

/* The same input for every course: it comes from the seed alone. */
static void run_course(struct test *t, const struct vector *vector, const struct course *course,
                       uint64_t seed, struct mr_buf *ret_result, struct mr_buf *ret_oracle)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_buf all = MR_BUF_INIT;
    uint64_t input = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    uint64_t chance = input ^ UINT64_C(0x123456789abcdef) ^ (uint64_t)course->steps;
    char flush[100];
    char workers[40];
    int a = 0;
    int b = 0;

    add_source(flow, "a", vector->delay_a);
    add_source(flow, "b", vector->delay_b);
    sql_flow_sink(flow, "out", "", vector->mode);
    snprintf(workers, sizeof(workers), "SET workers = '%d';", course->workers);
    sql_flow_text(flow, workers);
    sql_flow_text(flow, "CREATE VIEW evens AS SELECT v FROM a WHERE v % 2 = 0;\nINSERT INTO out ");
    sql_flow_text(flow, vector->select);
    sql_flow_text(flow, ";");
    sql_flow_steps_per_batch(flow, course->steps);
    if (course->large)
        sql_flow_large_batches(flow);
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t step = random_below(&input, 3) + 1; step > 0; step--) {
            add_step(flow, "a", vector->delay_a, &input, &a);
            add_step(flow, "b", vector->delay_b, &input, &b);
        }
        if (course->restarts)
            live(flow, course, &chance, &all);
    }
    snprintf(flush, sizeof(flush), "(%d, make_timestamp(%d000000))", FLUSH, FLUSH);
    sql_flow_step(flow, "a", flush);
    sql_flow_step(flow, "b", flush);
    mr_buf_add_str(&all, sql_flow_run(flow, "out"));
    mr_buf_add_char(&all, '\0');
    mr_buf_add_str(ret_result, result_of(flow, vector, &all));
    mr_buf_add_char(ret_result, '\0');
    sql_flow_sort(ret_result->data);
    if (ret_oracle != NULL) {
        mr_buf_add_str(ret_oracle, sql_flow_oracle(flow, vector->select));
        mr_buf_add_char(ret_oracle, '\0');
    }
    mr_buf_release(&all);
    sql_flow_free(flow);
}

static void check_vector(struct test *t, const struct vector *vector, uint64_t seed)
{
    /* the group of the last row stays open in append mode */
    bool open = strcmp(vector->mode, "append") == 0 && strstr(vector->select, "GROUP BY") != NULL;
    bool plain = !open && strstr(vector->select, "window") == NULL &&
                 strstr(vector->select, "w.") == NULL && strstr(vector->select, "evens") == NULL;
    struct mr_buf first = MR_BUF_INIT;
    struct mr_buf oracle = MR_BUF_INIT;

    run_course(t, vector, &courses[0], seed, &first, plain ? &oracle : NULL);
    if (plain && strcmp(first.data, oracle.data) != 0)
        FAIL("MILLRACE_SEED=%llu, %s: %s\n# stream:\n%s# whole:\n%s", (unsigned long long)seed,
             vector->id, vector->select, first.data, oracle.data);
    for (size_t i = 1; i < sizeof(courses) / sizeof(courses[0]); i++) {
        struct mr_buf other = MR_BUF_INIT;

        run_course(t, vector, &courses[i], seed, &other, NULL);
        if (strcmp(first.data, other.data) != 0)
            FAIL("MILLRACE_SEED=%llu, %s with %s: %s\n# all at once:\n%s# now:\n%s",
                 (unsigned long long)seed, vector->id, courses[i].name, vector->select, first.data,
                 other.data);
        mr_buf_release(&other);
    }
    mr_buf_release(&first);
    mr_buf_release(&oracle);
}

TEST(how_the_input_is_cut_and_the_query_is_run_changes_nothing)
{
    const char *wanted = getenv("MILLRACE_CASES");
    int cases = wanted != NULL ? atoi(wanted) : (test_quick() ? 1 : 4);
    uint64_t seed = test_seed(1);

    for (int i = 0; i < cases; i++) {
        for (size_t v = 0; v < sizeof(vectors) / sizeof(vectors[0]); v++)
            if (strcmp(vectors[v].id, "AGG_14") != 0) /* its rows have no key to fold them by */
                check_vector(t, &vectors[v], seed + (uint64_t)i * 1000 + v);
    }
    evidence_add("differential", "courses",
                 (uint64_t)cases * (sizeof(vectors) / sizeof(vectors[0])));
}
