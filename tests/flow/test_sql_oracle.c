/*
 * The oracle: a streaming query over all the input gives what DuckDB gives over the whole at once,
 * however the input is cut into batches. Results are compared as multisets.
 *
 *     rows (seeded) --cut at random--> batches --> query --> memory sink  ==  DuckDB over the rows
 */
#include "support/sql_flow.h"

#include <stdlib.h>

enum { ROWS = 240 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static const char columns[] = "id BIGINT, city VARCHAR, n INTEGER, x DOUBLE, price DECIMAL(10,2), "
                              "ok BOOLEAN, ts TIMESTAMP, tags VARCHAR[], "
                              "s STRUCT(a INTEGER, b VARCHAR)";

/* Made by DuckDB from hashes of the row number: nulls, long texts, nested values, times over half
 * an hour. */
static const char rows_sql[] =
    "SELECT i AS id, "
    "CASE WHEN h %% 11 = 0 THEN NULL ELSE ['Bonn', 'Ulm', 'a city with a rather long name', ''][1 "
    "+ (h %% 4)::INT] END AS city, "
    "CASE WHEN h %% 13 = 0 THEN NULL ELSE (h %% 200)::INTEGER - 100 END AS n, "
    "CASE WHEN h %% 17 = 0 THEN NULL ELSE (h %% 64)::DOUBLE / 8 END AS x, "
    "((h %% 10000)::DECIMAL(10,2) / 8)::DECIMAL(10,2) AS price, "
    "CASE WHEN h %% 7 = 0 THEN NULL ELSE h %% 2 = 0 END AS ok, "
    "CASE WHEN h %% 23 = 0 THEN NULL ELSE TIMESTAMP '2026-01-01' + to_microseconds((h %% "
    "1800000000)::BIGINT) END AS ts, "
    "CASE WHEN h %% 5 = 0 THEN NULL ELSE ['t' || (h %% 3), 'u'] END AS tags, "
    "CASE WHEN h %% 9 = 0 THEN NULL ELSE {'a': (h %% 10)::INTEGER, 'b': 'b' || (h %% 4)} END AS s "
    "FROM (SELECT i, hash(i + %llu)::UBIGINT AS h FROM range(%d) t(i)) ORDER BY i";

struct query {
    const char *mode; /* NULL: append */
    uint32_t keys;    /* of update */
    const char *stream;
    const char *oracle; /* NULL: the same text */
};

static void add_rows(struct sql_flow *flow, const char *table, uint64_t seed, int count,
                     uint64_t *state)
{
    char sql[2000];
    struct mr_batch *rows;
    int64_t total;

    snprintf(sql, sizeof(sql), rows_sql, (unsigned long long)seed, count);
    rows = sql_flow_batch(flow, sql);
    total = mr_batch_row_count(rows);
    for (int64_t at = 0; at < total;) {
        int64_t step = 1 + (int64_t)(next_random(state) % 120);

        step = step < total - at ? step : total - at;
        sql_flow_step_slice(flow, table, rows, at, at + step);
        at += step;
    }
    mr_batch_unref(rows);
}

/* Both are sorted: the first line that differs says more than both texts. */
static void compare(const char *stream, const char *whole, const char *sql, uint64_t seed)
{
    const char *left = stream;
    const char *right = whole;

    if (strcmp(stream, whole) == 0)
        return;
    while (*left == *right) {
        left++;
        right++;
    }
    while (left > stream && left[-1] != '\n') {
        left--;
        right--;
    }
    FAIL("seed %llu: %s\n#   stream '%.*s'\n#   whole  '%.*s'", (unsigned long long)seed, sql,
         (int)strcspn(left, "\n"), left, (int)strcspn(right, "\n"), right);
}

/* One cut of the input, one batch a step. */
static void run_once(struct test *t, const struct query *query, uint64_t seed)
{
    struct sql_flow *flow = sql_flow_new(t);
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    const char *mode = query->mode != NULL ? query->mode : "append";
    char *mine;
    const char *have;

    sql_flow_source(flow, "t", columns, ", WATERMARK FOR ts AS ts - INTERVAL '1 hour'");
    sql_flow_source(flow, "u", columns, "");
    sql_flow_static(flow, "names", "name VARCHAR, code INTEGER");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, "CREATE VIEW good AS SELECT * FROM t WHERE ok;\nINSERT INTO out ");
    sql_flow_text(flow, query->stream);
    sql_flow_text(flow, ";");
    sql_flow_steps_per_batch(flow, 1);
    sql_flow_step(flow, "names", "('Bonn', 53), ('Ulm', 89), ('Ulm', 90), (NULL, 0)");
    add_rows(flow, "t", seed % 3, ROWS, &state);
    add_rows(flow, "u", seed % 3 + 1000, ROWS / 2, &state);
    have = sql_flow_run(flow, "out");
    if (strcmp(mode, "complete") == 0)
        have = sql_flow_last(flow, "out");
    else if (strcmp(mode, "update") == 0)
        have = sql_flow_upserted(flow, "out", query->keys);
    mine = malloc(strlen(have) + 1);
    memcpy(mine, have, strlen(have) + 1);
    sql_flow_sort(mine);
    have = sql_flow_oracle(flow, query->oracle != NULL ? query->oracle : query->stream);
    compare(mine, have, query->stream, seed);
    free(mine);
    sql_flow_free(flow);
}

static void run_all(struct test *t, const struct query *queries, size_t count)
{
    uint64_t seed = test_seed(1);
    uint64_t rounds = test_quick() ? 1 : 2;

    for (size_t i = 0; i < count; i++) {
        for (uint64_t round = 0; round < rounds; round++)
            run_once(t, &queries[i], seed + round);
    }
}

#define RUN(queries) run_all(t, queries, sizeof(queries) / sizeof((queries)[0]))

TEST(projections_and_filters_equal_the_whole)
{
    static const struct query queries[] = {
        {NULL, 0, "SELECT * FROM t", NULL},
        {NULL, 0, "SELECT id, city FROM t WHERE n > 10 AND city = 'Bonn'", NULL},
        {NULL, 0, "SELECT id AS k, n FROM t WHERE city IS NULL", NULL},
        {NULL, 0,
         "SELECT id, upper(city) AS c, n * 2 + 1 AS m, x / 3 AS q, price * 2 AS p FROM t WHERE x > "
         "1.5 OR ok",
         NULL},
        {NULL, 0, "SELECT id, s.a AS a, s.b AS b, tags[1] AS tag, len(tags) AS l FROM t", NULL},
        {NULL, 0, "SELECT id, s, tags, {'n': n, 'l': [x, 1.5]} AS made FROM t WHERE s IS NOT NULL",
         NULL},
        {NULL, 0,
         "SELECT id, date_trunc('minute', ts) AS m, extract(hour FROM ts) AS h, ts::DATE AS d FROM "
         "t",
         NULL},
        {NULL, 0,
         "SELECT id, regexp_replace(city, '[aeiou]', '*', 'g') AS r, city LIKE 'a%' AS l, city || "
         "'!' AS e FROM t",
         NULL},
        {NULL, 0,
         "SELECT id, CASE WHEN n BETWEEN -5 AND 5 THEN 'near' WHEN n IN (7, 8) THEN 'exact' END AS "
         "w FROM t",
         NULL},
        {NULL, 0, "SELECT id, unnest(tags) AS tag FROM t", NULL},
        {NULL, 0, "SELECT t.id, e.tag FROM t, unnest(t.tags) AS e(tag) WHERE e.tag <> 'u'", NULL},
    };

    RUN(queries);
}

TEST(grouped_aggregates_equal_the_whole)
{
    static const struct query queries[] = {
        {"complete", 0,
         "SELECT city, count(*) AS c, count(n) AS cn, sum(n)::BIGINT AS s, min(n) AS lo, max(n) AS "
         "hi, avg(n) AS a FROM t "
         "GROUP BY city",
         NULL},
        {"complete", 0,
         "SELECT count(*) AS c, sum(n)::BIGINT AS s, min(city) AS lo, max(ts) AS hi FROM t", NULL},
        {"complete", 0,
         "SELECT city, sum(price) AS p, sum(x) AS x, max(x) AS m, min(ok) AS k FROM t GROUP BY "
         "city",
         NULL},
        {"update", 1, "SELECT city, count(*) AS c FROM t WHERE n > 0 GROUP BY city", NULL},
        {"update", 2,
         "SELECT upper(city) AS c, n % 3 AS m, count(*) AS k, sum(n * 2)::BIGINT AS s FROM t GROUP "
         "BY upper(city), n % 3",
         NULL},
        {"complete", 0,
         "SELECT city, sum(n)::BIGINT + count(*) AS mixed, avg(n) / 2 AS h FROM t GROUP BY city "
         "HAVING count(*) > 20",
         NULL},
        {"complete", 0, "SELECT city AS c, count(*) AS n FROM t GROUP BY c HAVING n > 20",
         "SELECT city AS c, count(*) AS n FROM t GROUP BY city HAVING count(*) > 20"},
        {"complete", 0,
         "SELECT city, ok, count(*) FILTER (WHERE n > 0) AS pos, sum(n) FILTER (WHERE x > "
         "2)::BIGINT AS s, count_if(ok) AS y "
         "FROM t GROUP BY ALL",
         "SELECT city, ok, count(*) FILTER (WHERE n > 0) AS pos, sum(n) FILTER (WHERE x > "
         "2)::BIGINT AS s, coalesce(count_if(ok), 0) AS y FROM t GROUP BY ALL"},
        {"complete", 0, "SELECT s.a AS a, count(*) AS n FROM t GROUP BY 1", NULL},
        {"complete", 0,
         "SELECT tag, count(*) AS n FROM (SELECT unnest(tags) AS tag FROM t) GROUP BY tag", NULL},
        {"complete", 0, "SELECT s, count(*) AS n FROM t GROUP BY s", NULL},
    };

    RUN(queries);
}

TEST(windowed_aggregates_equal_the_whole)
{
    static const struct query queries[] = {
        {"complete", 0,
         "SELECT window_start, window_end, city, count(*) AS n FROM t GROUP BY window(ts, '5 "
         "minutes'), city",
         "SELECT time_bucket(INTERVAL '5 minutes', ts) AS st, st + INTERVAL '5 minutes' AS e, "
         "city, "
         "count(*) AS n FROM t WHERE ts IS NOT "
         "NULL GROUP BY ALL"},
        {"update", 2,
         "SELECT window.start, city, sum(n)::BIGINT AS s FROM t GROUP BY window(ts, INTERVAL '5 "
         "minutes'), city",
         "SELECT time_bucket(INTERVAL '5 minutes', ts) AS s, city, sum(n)::BIGINT AS n FROM t "
         "WHERE ts IS NOT NULL GROUP BY ALL"},
        {"complete", 0,
         "SELECT window(ts, '10 minutes', '5 minutes').start AS s, count(*) AS n FROM t GROUP BY "
         "window(ts, '10 minutes', '5 minutes')",
         "SELECT s, count(*) AS n FROM (SELECT unnest([time_bucket(INTERVAL '5 minutes', ts), "
         "time_bucket(INTERVAL '5 minutes', ts) - "
         "INTERVAL '5 minutes']) AS s FROM t WHERE ts IS NOT NULL) GROUP BY s"},
        {"complete", 0,
         "SELECT window_start, window_end, count(*) AS n FROM TABLE(TUMBLE(TABLE t, "
         "DESCRIPTOR(ts), INTERVAL '5' MINUTE)) GROUP BY "
         "window_start, window_end",
         "SELECT time_bucket(INTERVAL '5 minutes', ts) AS st, st + INTERVAL '5 minutes' AS e, "
         "count(*) AS n FROM t WHERE ts IS NOT NULL "
         "GROUP BY ALL"},
        {"complete", 0,
         "SELECT w.city, w.window_start AS s, max(w.n) AS m FROM HOP(TABLE t, DESCRIPTOR(ts), "
         "INTERVAL '5 minutes', INTERVAL '10 "
         "minutes') w GROUP BY w.city, w.window_start",
         "SELECT city, s, max(n) AS m FROM (SELECT city, n, unnest([time_bucket(INTERVAL '5 "
         "minutes', ts), time_bucket(INTERVAL '5 minutes', "
         "ts) - INTERVAL '5 minutes']) AS s FROM t WHERE ts IS NOT NULL) GROUP BY ALL"},
        {"complete", 0,
         "SELECT tumble_start(ts, INTERVAL '5 minutes') AS s, tumble_end(ts, INTERVAL '5 minutes') "
         "AS e, avg(x) AS a FROM good GROUP "
         "BY tumble(ts, INTERVAL '5 minutes')",
         "SELECT time_bucket(INTERVAL '5 minutes', ts) AS st, st + INTERVAL '5 minutes' AS e, "
         "avg(x) "
         "AS a FROM t WHERE ok AND ts IS NOT NULL "
         "GROUP BY ALL"},
        {"complete", 0,
         "SELECT w, count(*) AS n FROM (SELECT window(ts, '5 minutes') AS w, n FROM t WHERE n > 0) "
         "GROUP BY w",
         "SELECT {'start': s, 'end': s + INTERVAL '5 minutes'} AS w, count(*) AS n FROM (SELECT "
         "time_bucket(INTERVAL '5 minutes', ts) AS s "
         "FROM t WHERE n > 0 AND ts IS NOT NULL) GROUP BY s"},
    };

    RUN(queries);
}

TEST(unions_views_and_joins_equal_the_whole)
{
    static const struct query queries[] = {
        {NULL, 0, "SELECT id, city FROM t UNION ALL SELECT id, city FROM u", NULL},
        {NULL, 0,
         "SELECT id, n FROM t WHERE n > 0 UNION ALL SELECT n, id FROM u UNION ALL SELECT id, x "
         "FROM t",
         NULL},
        {"complete", 0,
         "SELECT city, count(*) AS n FROM (SELECT city FROM t UNION ALL SELECT city FROM u) GROUP "
         "BY city",
         NULL},
        {NULL, 0, "SELECT id, n FROM good WHERE n < 0", "SELECT id, n FROM t WHERE ok AND n < 0"},
        {NULL, 0,
         "WITH big AS (SELECT * FROM t WHERE n > 50) SELECT b.id, b.city FROM big AS b WHERE b.ok",
         NULL},
        {NULL, 0,
         "SELECT q.id, q.m FROM (SELECT id, n * 2 AS m, ok FROM t) AS q WHERE q.m > 20 AND q.ok",
         NULL},
        {NULL, 0, "SELECT t.id, names.code FROM t JOIN names ON t.city = names.name", NULL},
        {NULL, 0,
         "SELECT t.id, t.city, d.code FROM t LEFT JOIN names AS d ON t.city = d.name AND t.n > 0",
         NULL},
        {NULL, 0, "SELECT id FROM t WHERE city IN (SELECT name FROM names WHERE code > 60)", NULL},
        {NULL, 0, "SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM names WHERE name = t.city)",
         NULL},
        {"complete", 0,
         "SELECT d.code, count(*) AS n, sum(t.n)::BIGINT AS s FROM t JOIN names AS d ON t.city = "
         "d.name GROUP BY d.code",
         NULL},
    };

    RUN(queries);
}

TEST(append_gives_each_closed_window_once)
{
    struct sql_flow *flow = sql_flow_new(t);
    uint64_t state = 4711;
    char *have;

    sql_flow_source(flow, "t", columns, ", WATERMARK FOR ts AS ts - INTERVAL '1 hour'");
    sql_flow_sink(flow, "out", "s TIMESTAMP, city VARCHAR, n INTEGER", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT window_start, city, count(*) FROM t GROUP BY "
                        "window(ts, '1 minute'), city;");
    sql_flow_steps_per_batch(flow, 1);
    add_rows(flow, "t", 5, ROWS, &state);
    sql_flow_step(
        flow, "t",
        "(0, 'end', 0, 0, 0, true, '2026-02-01', NULL, NULL)"); /* closes everything before it */
    {
        const char *text = sql_flow_run(flow, "out");

        have = malloc(strlen(text) + 1);
        memcpy(have, text, strlen(text) + 1);
    }
    CHECK_EQ_STR(have,
                 sql_flow_oracle(
                     flow,
                     "SELECT time_bucket(INTERVAL '1 minute', ts) AS s, city, count(*) AS n FROM t "
                     "WHERE ts < '2026-01-02' GROUP BY ALL"));
    CHECK_EQ_INT(sql_flow_late_rows(flow), 0);
    free(have);
    sql_flow_free(flow);
}

TEST(two_inserts_read_a_source_once_and_a_view_is_planned_once)
{
    struct sql_flow *flow = sql_flow_new(t);
    uint64_t state = 99;
    const char *plan;

    sql_flow_source(flow, "t", columns, "");
    sql_flow_sink(flow, "cities", "", "update");
    sql_flow_sink(flow, "big", "", NULL);
    sql_flow_text(flow, "CREATE VIEW raised AS SELECT city, n + 1 AS m FROM t;\n"
                        "INSERT INTO cities SELECT city, count(*) AS n FROM raised GROUP BY city;\n"
                        "INSERT INTO big SELECT m FROM raised WHERE m > 50;\n"
                        "INSERT INTO big SELECT n FROM t WHERE n < -90;");
    plan = sql_flow_description(flow);
    CHECK_CONTAINS(plan, "source t: memory (city VARCHAR, n INTEGER)\n");
    CHECK(strstr(strstr(plan, "source t:") + 1, "source t:") == NULL);
    CHECK_CONTAINS(plan, "operator raised.sql: sql\n");
    CHECK(strstr(plan, "raised.sql2") == NULL);
    CHECK_CONTAINS(plan, "state 'cities.agg'");
    add_rows(flow, "t", 1, ROWS, &state);
    {
        char have[8000];

        snprintf(have, sizeof(have), "%s", sql_flow_run(flow, "big"));
        CHECK_EQ_STR(
            have,
            sql_flow_oracle(
                flow,
                "SELECT n + 1 FROM t WHERE n + 1 > 50 UNION ALL SELECT n FROM t WHERE n < -90"));
        snprintf(have, sizeof(have), "%s", sql_flow_upserted(flow, "cities", 1));
        CHECK_EQ_STR(have,
                     sql_flow_oracle(flow, "SELECT city, count(*) AS n FROM t GROUP BY city"));
    }
    sql_flow_free(flow);
}

TEST(rows_are_cast_to_the_columns_of_their_table)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "t", "a INTEGER, b VARCHAR", "");
    sql_flow_sink(flow, "by_position", "x BIGINT, y VARCHAR", NULL);
    sql_flow_sink(flow, "by_name", "x DOUBLE, y VARCHAR, z DATE", NULL);
    sql_flow_text(flow, "INSERT INTO by_position SELECT a, a + 1 FROM t;\n"
                        "INSERT INTO by_name (y, x) SELECT b, a FROM t;");
    sql_flow_step(flow, "t", "(1, 'one'), (2, NULL)");
    CHECK_EQ_STR(sql_flow_run(flow, "by_position"), "1|2\n2|3\n");
    CHECK_EQ_STR(sql_flow_last(flow, "by_name"), "1.0|one|null\n2.0|null|null\n");
    sql_flow_free(flow);
}
