/*
 * Conformance: the vectors of vectors_structured.inc, one test each, named after the id; those that
 * need more than steps of rows (static tables, two watermarks, allowed plans) follow as tests of
 * their own.
 */
#include "support/sql_flow.h"

#include <millrace/ext/env.h>

enum { STEPS_MAX = 8 };

struct step {
    const char *a; /* NULL: no step */
    const char *b;
    const char *want;
};

struct vector {
    const char *title;
    int delay_a; /* seconds, -1: no watermark */
    int delay_b;
    const char *mode;
    const char *select;
    struct step steps[STEPS_MAX];
};

static void add_source(struct sql_flow *flow, const char *name, int delay)
{
    char extra[100] = "";

    if (delay >= 0)
        snprintf(extra, sizeof(extra), ", WATERMARK FOR ts AS ts - INTERVAL '%d seconds'", delay);
    sql_flow_source(flow, name, "v BIGINT, ts TIMESTAMP", extra);
}

/* "1 2 3" as rows (v, ts). */
static void add_times(struct sql_flow *flow, const char *table, const char *times)
{
    char sql[2000];
    char list[1000];
    size_t used = 0;

    if (times == NULL)
        return;
    for (const char *at = times; *at != '\0' && used + 2 < sizeof(list); at++) {
        if (*at == ' ')
            list[used++] = ',';
        else
            list[used++] = *at;
    }
    list[used] = '\0';
    snprintf(sql, sizeof(sql),
             "SELECT v, make_timestamp(v * 1000000) FROM (SELECT unnest([%s])::BIGINT AS v)", list);
    sql_flow_step(flow, table, used > 0 ? sql : "");
}

/* "1|2 3|4" -> "1|2\n3|4\n", sorted unless the order matters. */
static void expect(const char *have, const char *want, bool sorted)
{
    char lines[2000];
    char mine[4000];
    size_t size = strlen(want);

    CHECK(size + 2 < sizeof(lines) && strlen(have) < sizeof(mine));
    memcpy(lines, want, size + 1);
    for (size_t i = 0; i < size; i++)
        lines[i] = lines[i] == ' ' ? '\n' : lines[i];
    if (size > 0)
        memcpy(lines + size, "\n", 2);
    memcpy(mine, have, strlen(have) + 1);
    if (sorted) {
        sql_flow_sort(lines);
        sql_flow_sort(mine);
    }
    CHECK_EQ_STR(mine, lines);
}

static void run_vector(struct test *t, const struct vector *vector)
{
    struct sql_flow *flow = sql_flow_new(t);
    bool complete = strcmp(vector->mode, "complete") == 0;

    add_source(flow, "a", vector->delay_a);
    add_source(flow, "b", vector->delay_b);
    sql_flow_sink(flow, "out", "", vector->mode);
    sql_flow_text(flow, "CREATE VIEW evens AS SELECT v FROM a WHERE v % 2 = 0;\nINSERT INTO out ");
    sql_flow_text(flow, vector->select);
    sql_flow_text(flow, ";");
    for (size_t i = 0; i < STEPS_MAX && vector->steps[i].want != NULL; i++) {
        const struct step *step = &vector->steps[i];
        const char *added;

        add_times(flow, "a", step->a);
        add_times(flow, "b", step->b);
        added = sql_flow_run(flow, "out");
        if (complete)
            added = sql_flow_last(flow, "out");
        expect(added, step->want[0] == '>' ? step->want + 1 : step->want, step->want[0] != '>');
    }
    sql_flow_free(flow);
}

#define VECTOR(id, title, delay_a, delay_b, mode, select, ...)                                     \
    TEST(id)                                                                                       \
    {                                                                                              \
        static const struct vector one = {title, delay_a, delay_b, mode, select, {__VA_ARGS__}};   \
        run_vector(t, &one);                                                                       \
    }
#include "vectors_structured.inc"
#undef VECTOR

TEST(AGG_05_counts_of_the_state_are_reported)
{
    struct sql_flow *flow = sql_flow_new(t);

    add_source(flow, "a", 10);
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, count(*) AS n "
                        "FROM a GROUP BY window(ts, '5 seconds');");
    add_times(flow, "a", "15");
    expect(sql_flow_run(flow, "out"), "", true);
    CHECK_EQ_STR(sql_flow_state(flow), "1/1/0/0");
    add_times(flow, "a", "10 12 14");
    expect(sql_flow_run(flow, "out"), "", true);
    CHECK_EQ_STR(sql_flow_state(flow), "2/1/0/0");
    add_times(flow, "a", "25");
    expect(sql_flow_run(flow, "out"), "10|3", true);
    CHECK_EQ_STR(sql_flow_state(flow), "2/1/0/1");
    sql_flow_free(flow);
}

TEST(AGG_10_a_batch_that_runs_again_keeps_its_time)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};
    struct sql_flow *flow = sql_flow_new(t);

    add_source(flow, "a", -1);
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT v, epoch_us(now()) AS t FROM a;");
    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        int64_t before;
        long long value;
        long long time_us;

        add_times(flow, "a", "7");
        sql_flow_run_until(flow, points[i]);
        before = mr_env_wall_us(mr_env_posix());
        CHECK_EQ_INT(sscanf(sql_flow_run(flow, "out"), "%lld|%lld", &value, &time_us), 2);
        CHECK_EQ_INT(value, 7);
        CHECK(time_us > 0 && time_us <= before);
    }
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_free(flow);
}

TEST(AGG_11_an_aggregate_of_a_static_table_does_not_accumulate)
{
    struct sql_flow *flow = sql_flow_new(t);

    add_source(flow, "a", -1);
    sql_flow_static(flow, "fixed", "v BIGINT");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT a.v, s.k, s.n FROM a JOIN (SELECT v % 2 AS k, "
                        "count(*) AS n FROM fixed GROUP "
                        "BY v % 2) s ON a.v = s.k;");
    sql_flow_step(flow, "fixed", "(1), (2), (3), (4), (5)");
    for (int i = 0; i < 2; i++) {
        add_times(flow, "a", "0 1 2 3");
        expect(sql_flow_run(flow, "out"), "0|0|2 1|1|3", true);
    }
    sql_flow_free(flow);
}

TEST(TR_10_a_stream_joins_a_static_table)
{
    struct sql_flow *flow = sql_flow_new(t);

    add_source(flow, "a", -1);
    sql_flow_static(flow, "names", "id BIGINT, name VARCHAR");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(
        flow,
        "INSERT INTO out SELECT a.v, names.id, names.name FROM a JOIN names ON a.v = names.id;");
    sql_flow_step(flow, "names", "(1, 'one'), (2, 'two'), (4, 'four')");
    add_times(flow, "a", "1 2 3");
    expect(sql_flow_run(flow, "out"), "1|1|one 2|2|two", true);
    add_times(flow, "a", "4");
    expect(sql_flow_run(flow, "out"), "4|4|four", true);
    sql_flow_free(flow);
}

TEST(TW_05_windows_of_milliseconds)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "ts TIMESTAMP", "");
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_text(flow, "INSERT INTO out SELECT (epoch_ms(window_start) % 1000) // 10 AS s, "
                        "count(*) AS n FROM a GROUP BY "
                        "window(ts, '200 milliseconds', '40 milliseconds');");
    sql_flow_step(
        flow, "a",
        "('2016-03-27 09:00:00.41'), ('2016-03-27 09:00:00.62'), ('2016-03-27 09:00:00.715')");
    sql_flow_run(flow, "out");
    expect(sql_flow_last(flow, "out"),
           "24|1 28|1 32|1 36|1 40|1 44|1 48|1 52|2 56|2 60|2 64|1 68|1", true);
    sql_flow_free(flow);
}

/* A row of WM-11: rows of a and of b, then a dummy row 0 of a, whose batch shows the watermark in
 * force. */
static const struct watermark_row {
    const char *a;
    const char *b;
    int64_t watermark_ms;
} watermark_rows[] = {
    {"11", "", 0},          {"", "6", 1000},         {"", "8", 1000},
    {"21", "", 3000},       {"", "17 28 39", 11000}, {"31", "", 21000},
    {"41", "", 31000},      {"51", "", 34000},       {"100", "100", 90000},
    {"120", "110", 105000}, {"130", "125", 120000},  {"100", "100", 120000},
    {"140", "100", 120000}, {"100", "135", 130000},  {"200", "190", 185000},
    {NULL, NULL, 0}, /* a restart: what each stream had is forgotten, the minimum is not */
    {"", "", 185000},       {"", "200", 185000},     {"200", "", 190000},
};

TEST(WM_11_the_watermark_of_two_streams_is_the_smaller_one)
{
    struct sql_flow *flow = sql_flow_new(t);
    size_t count = sizeof(watermark_rows) / sizeof(watermark_rows[0]);
    size_t from = 0;

    add_source(flow, "a", 10);
    add_source(flow, "b", 5);
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_text(flow, "INSERT INTO out SELECT sum(v)::BIGINT AS s FROM (SELECT v, ts FROM a "
                        "UNION ALL SELECT v, ts FROM b);");
    sql_flow_steps_per_batch(flow, 1);
    for (size_t i = 0; i <= count; i++) {
        if (i < count && watermark_rows[i].a != NULL) {
            add_times(flow, "a", watermark_rows[i].a);
            add_times(flow, "b", watermark_rows[i].b);
            add_times(flow, "a", "0");
            add_times(flow, "b", "");
            continue;
        }
        sql_flow_run(flow, "out");
        for (size_t k = from; k < i; k++)
            CHECK_EQ_INT(sql_flow_watermark_ms(flow, (k - from) * 2 + 1),
                         watermark_rows[k].watermark_ms);
        from = i + 1;
    }
    sql_flow_free(flow);
}
