/*
 * Joins of streams in SQL: against DuckDB over the whole input, and what is refused.
 *
 *     rows (seeded), times that grow with some disorder --cut at random, restarts, crashes-->
 *     query --> memory sink  ==  DuckDB over the rows, once the watermark has passed all of them
 *
 * The vectors IJ-* and OJ-* are TEST blocks of tests/sql/joins.sql.
 */
#include "support/sql_flow.h"

#include "base/buf.h"

#include <stdlib.h>

enum { ROWS = 60 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static const char columns[] = "id BIGINT, k INTEGER, name VARCHAR, x BIGINT, ts TIMESTAMP";
static const char watermark[] = ", WATERMARK FOR ts AS ts - INTERVAL '2 minutes'";

/* Times are 10 s apart, up to 100 s out of order; keys and names have nulls. */
static const char rows_sql[] =
    "SELECT i AS id, CASE WHEN h %% 19 = 0 THEN NULL ELSE (h %% 7)::INTEGER END AS k, "
    "CASE WHEN h %% 17 = 0 THEN NULL ELSE ['Bonn', 'Ulm', 'a city with a rather long name', ''][1 "
    "+ (h %% 4)::INT] END AS name, "
    "CASE WHEN h %% 13 = 0 THEN NULL ELSE (h %% 50)::BIGINT - 10 END AS x, "
    "TIMESTAMP '2026-01-01' + to_seconds(i * 10) + to_microseconds((h %% 100000000)::BIGINT) AS ts "
    "FROM (SELECT i, hash(i + %llu)::UBIGINT AS h FROM range(%d) t(i)) ORDER BY i";

/* A row far in the future, of no key: the watermark passes all others. */
static const char last_sql[] =
    "SELECT -1::BIGINT, %d, 'nobody %d', 1000::BIGINT, TIMESTAMP '2027-01-01'";

struct cut {
    struct mr_batch *rows;
    int64_t at;
};

static int64_t add_some(struct sql_flow *flow, const char *table, struct cut *cut, uint64_t *state)
{
    int64_t left = mr_batch_row_count(cut->rows) - cut->at;
    int64_t step = (int64_t)(next_random(state) % 40);

    step = step < left ? step : left;
    if (step == 0)
        return 0;
    sql_flow_step_slice(flow, table, cut->rows, cut->at, cut->at + step);
    cut->at += step;
    return step;
}

static struct mr_batch *make_rows(struct sql_flow *flow, uint64_t seed, int count)
{
    char sql[2000];

    snprintf(sql, sizeof(sql), rows_sql, (unsigned long long)seed, count);
    return sql_flow_batch(flow, sql);
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

/* L, R and M in a query are the tables. */
static void name_tables(char *out, size_t size, const char *sql, bool oracle)
{
    size_t used = 0;

    for (; *sql != '\0' && used + 100 < size; sql++) {
        const char *name = *sql == '@' ? sql + 1 : NULL;

        if (name == NULL) {
            out[used++] = *sql;
            continue;
        }
        used += (size_t)snprintf(out + used, size - used,
                                 oracle ? "(SELECT * FROM %c WHERE id >= 0)" : "%c", *name);
        sql++;
    }
    out[used] = '\0';
}

struct query {
    const char *stream; /* @l, @r, @m: the tables */
    const char *oracle; /* NULL: the same */
};

static void run_once(struct test *t, const struct query *query, uint64_t seed)
{
    struct sql_flow *flow = sql_flow_new(t);
    uint64_t state = seed * 2654435761u + 88172645463325252u;
    struct cut cuts[3];
    static const char *const names[] = {"l", "r", "m"};
    char sql[4000];
    char all[4000];
    struct mr_buf mine = MR_BUF_INIT;

    for (int i = 0; i < 3; i++)
        sql_flow_source(flow, names[i], columns, watermark);
    sql_flow_static(flow, "places", "name VARCHAR, code INTEGER");
    sql_flow_sink(flow, "out", "", "append");
    name_tables(sql, sizeof(sql), query->stream, false);
    sql_flow_text(flow, "INSERT INTO out ");
    sql_flow_text(flow, sql);
    sql_flow_text(flow, ";");
    sql_flow_steps_per_batch(flow, 1);
    sql_flow_step(flow, "places", "('Bonn', 53), ('Ulm', 89), (NULL, 0)");
    for (int i = 0; i < 3; i++)
        cuts[i] = (struct cut){make_rows(flow, seed * 3 + (uint64_t)i, ROWS), 0};
    while (cuts[0].at + cuts[1].at + cuts[2].at < 3 * ROWS) {
        int any = 0;

        for (int i = 0; i < 3; i++)
            any = add_some(flow, names[i], &cuts[i], &state) > 0 && i == 0 ? 1 : any;
        if (next_random(&state) % 3 == 0)
            mr_buf_add_str(&mine, sql_flow_run(flow, "out"));
        else if (any > 0 && next_random(&state) % 4 == 0)
            sql_flow_run_until(flow, next_random(&state) % 2 == 0 ? "ran" : "staged");
    }
    for (int i = 0; i < 3; i++) {
        snprintf(all, sizeof(all), last_sql, -1000 - i, i);
        sql_flow_step(flow, names[i], all);
        mr_batch_unref(cuts[i].rows);
    }
    mr_buf_add_str(&mine, sql_flow_run(flow, "out"));
    name_tables(all, sizeof(all), query->oracle != NULL ? query->oracle : query->stream, true);
    if (mine.data != NULL && mine.size > 0)
        sql_flow_sort(mine.data);
    compare(mine.size > 0 ? mine.data : "", sql_flow_oracle(flow, all), sql, seed);
    CHECK_EQ_INT(sql_flow_late_rows(flow), 0);
    mr_buf_release(&mine);
    sql_flow_free(flow);
}

static void run_all(struct test *t, const struct query *queries, size_t count)
{
    uint64_t seed = test_seed(1);

    for (size_t i = 0; i < count; i++)
        run_once(t, &queries[i], seed + i);
}

#define RUN(queries) run_all(t, queries, sizeof(queries) / sizeof((queries)[0]))

TEST(inner_joins_equal_the_whole)
{
    static const struct query queries[] = {
        {"SELECT a.id, b.id AS other, a.name, b.x FROM @l a JOIN @r b ON a.k = b.k WHERE a.x > 10 "
         "AND b.x < 20",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a, @r b WHERE a.k = b.k AND a.name = b.name AND a.ts "
         "BETWEEN b.ts - INTERVAL '1 minute' AND b.ts + INTERVAL '30 seconds'",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a JOIN @r b ON a.k IS NOT DISTINCT FROM b.k AND a.ts "
         "< b.ts AND b.ts < a.ts + INTERVAL '1 minute'",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a JOIN @r b ON a.k + 1 = b.k AND b.ts - a.ts BETWEEN "
         "INTERVAL '0 seconds' AND INTERVAL '2 minutes' AND (a.x + b.x) % 2 = 0",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a JOIN @r b ON a.k = b.x AND a.x <> b.k AND a.id >= "
         "b.id - 30",
         NULL},
        {"SELECT k, a.id, b.id AS other FROM @l a JOIN @r b USING (k, name) WHERE a.id < b.id",
         NULL},
        {"SELECT u.id, v.id AS other FROM @l u JOIN @l v ON u.k = v.k AND u.ts < v.ts AND v.ts < "
         "u.ts + INTERVAL '1 minute'",
         NULL},
        {"SELECT * FROM (SELECT id, k FROM @l) a JOIN (SELECT id AS rid, k AS rk, x FROM @r WHERE "
         "x > 5) b ON a.k = b.rk AND a.id = b.rid",
         NULL},
    };

    RUN(queries);
}

TEST(outer_joins_equal_the_whole)
{
    static const struct query queries[] = {
        {"SELECT a.id, b.id AS other, b.name FROM @l a LEFT JOIN @r b ON a.k = b.k AND a.ts "
         "BETWEEN b.ts - INTERVAL '1 minute' AND b.ts + INTERVAL '1 minute'",
         NULL},
        {"SELECT a.id, b.id AS other, a.name FROM @l a RIGHT JOIN @r b ON a.k = b.k AND a.name = "
         "b.name AND a.ts > b.ts - INTERVAL '1 minute' AND a.ts <= b.ts + INTERVAL '50 seconds'",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a FULL JOIN @r b ON a.k = b.k AND a.ts BETWEEN b.ts - "
         "INTERVAL '1 minute' AND b.ts + INTERVAL '1 minute' AND a.x > 5 AND b.x > 0",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a FULL JOIN @r b ON a.k = b.k AND a.ts BETWEEN b.ts - "
         "INTERVAL '1 minute' AND b.ts + INTERVAL '1 minute' AND a.x + b.x > 15",
         NULL},
        {"SELECT a.id, a.name FROM @l a SEMI JOIN @r b ON a.k = b.k AND a.ts BETWEEN b.ts - "
         "INTERVAL '20 seconds' AND b.ts + INTERVAL '20 seconds'",
         NULL},
        {"SELECT a.id FROM @l a SEMI JOIN @r b ON a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '1 "
         "minute' AND b.ts + INTERVAL '20 seconds' AND a.x < b.x",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a LEFT JOIN @r b ON a.k = b.k AND a.ts BETWEEN b.ts - "
         "INTERVAL '1 minute' AND b.ts + INTERVAL '1 minute' WHERE a.x > 0 AND b.id IS NULL",
         NULL},
        {"SELECT a.id, b.id AS other FROM (SELECT id, k, window(ts, '1 minute') AS w FROM @l) a "
         "FULL JOIN (SELECT id, k, window(ts, '1 minute') AS w FROM @r) b ON a.k = b.k AND a.w = "
         "b.w",
         "SELECT a.id, b.id AS other FROM (SELECT id, k, time_bucket(INTERVAL '1 minute', ts) AS w "
         "FROM @l) a FULL JOIN (SELECT id, k, time_bucket(INTERVAL '1 minute', ts) AS w FROM @r) b "
         "ON a.k = b.k AND a.w = b.w"},
        {"SELECT a.id, b.id AS other FROM (SELECT id, k, window(ts, '1 minute') AS w FROM @l) a "
         "LEFT JOIN (SELECT id, k, window(ts, '1 minute') AS w FROM @r) b ON a.k = b.k AND "
         "a.w.end = b.w.end",
         "SELECT a.id, b.id AS other FROM (SELECT id, k, time_bucket(INTERVAL '1 minute', ts) AS w "
         "FROM @l) a LEFT JOIN (SELECT id, k, time_bucket(INTERVAL '1 minute', ts) AS w FROM @r) b "
         "ON a.k = b.k AND a.w = b.w"},
    };

    RUN(queries);
}

TEST(joins_of_more_than_two_equal_the_whole)
{
    static const struct query queries[] = {
        {"SELECT a.id, b.id AS second, c.id AS third FROM @l a JOIN @r b ON a.k = b.k AND a.ts "
         "BETWEEN b.ts - INTERVAL '20 seconds' AND b.ts + INTERVAL '20 seconds' JOIN @m c ON "
         "b.name "
         "= c.name AND c.ts BETWEEN b.ts - INTERVAL '20 seconds' AND b.ts + INTERVAL '20 seconds'",
         NULL},
        {"SELECT a.id, b.id AS second, c.id AS third FROM @l a, @m c, @r b WHERE a.k = b.k AND "
         "b.id = c.id AND a.x > 5 AND c.x + a.x > 10 AND b.x IS NOT NULL",
         NULL},
        {"SELECT a.id, b.id AS second, p.code FROM @l a JOIN @r b ON a.k = b.k AND a.id = b.id "
         "LEFT JOIN places p ON p.name = a.name",
         NULL},
        {"SELECT a.id, b.id AS second, p.code FROM @l a JOIN places p ON p.name = a.name JOIN @r b "
         "ON a.k = b.k AND p.code = b.x + 60",
         NULL},
        {"SELECT a.id, b.id AS second, p.code FROM places p, @l a, @r b WHERE p.name = a.name AND "
         "b.name = p.name AND a.id = b.id AND a.k IN (SELECT code - 50 FROM places)",
         NULL},
        {"SELECT a.id, b.id AS second, c.id AS third FROM @l a LEFT JOIN @r b ON a.k = b.k AND "
         "a.ts "
         "BETWEEN b.ts - INTERVAL '20 seconds' AND b.ts + INTERVAL '20 seconds' LEFT JOIN @m c ON "
         "a.k = c.k AND a.ts BETWEEN c.ts - INTERVAL '20 seconds' AND c.ts + INTERVAL '20 seconds'",
         NULL},
    };

    RUN(queries);
}

TEST(aggregations_around_joins_equal_the_whole)
{
    static const struct query queries[] = {
        {"SELECT window_start AS w, count(*) AS n, sum(b.x) AS s FROM @l a JOIN @r b ON a.k = b.k "
         "AND a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts + INTERVAL '1 minute' GROUP BY "
         "window(a.ts, '5 minutes')",
         "SELECT time_bucket(INTERVAL '5 minutes', a.ts) AS w, count(*) AS n, sum(b.x)::BIGINT AS "
         "s "
         "FROM @l a JOIN @r b ON a.k = b.k AND a.ts BETWEEN b.ts - INTERVAL '1 minute' AND b.ts + "
         "INTERVAL '1 minute' GROUP BY w"},
        {"SELECT a.id, a.ts, max(b.x) AS m FROM @l a JOIN @r b ON a.k = b.k WHERE b.ts BETWEEN "
         "a.ts "
         "AND a.ts + INTERVAL '1 minute' GROUP BY a.id, a.ts HAVING max(b.x) > 0",
         NULL},
        {"SELECT a.w AS w, a.n, b.n AS m FROM (SELECT window_start AS w, k, count(*) AS n FROM @l "
         "GROUP BY window(ts, '1 minute'), k) a JOIN (SELECT window_start AS w, k, count(*) AS n "
         "FROM @r GROUP BY window(ts, '1 minute'), k) b ON a.w = b.w AND a.k = b.k",
         "SELECT a.w AS w, a.n, b.n AS m FROM (SELECT time_bucket(INTERVAL '1 minute', ts) AS w, "
         "k, "
         "count(*) AS n FROM @l GROUP BY ALL) a JOIN (SELECT time_bucket(INTERVAL '1 minute', ts) "
         "AS w, k, count(*) AS n FROM @r GROUP BY ALL) b ON a.w = b.w AND a.k = b.k"},
    };

    RUN(queries);
}

TEST(a_join_of_static_tables_with_a_stream_reads_views_and_with)
{
    static const struct query queries[] = {
        {"WITH p AS (SELECT name, code FROM places WHERE code > 0) SELECT a.id, p.code FROM @l a "
         "JOIN p ON p.name = a.name",
         NULL},
        {"WITH p AS (WITH q AS (SELECT * FROM places) SELECT name, max(code) AS code FROM q GROUP "
         "BY name) SELECT a.id, p.code FROM p RIGHT JOIN @l a ON p.name = a.name WHERE a.id >= 0",
         NULL},
        {"SELECT a.id, b.id AS other FROM @l a JOIN @r b ON a.id = b.id AND a.x < (SELECT "
         "max(code) "
         "- 60 FROM places)",
         NULL},
        {"SELECT a.id FROM @l a ANTI JOIN places ON places.name = a.name WHERE a.id >= 0", NULL},
        {"SELECT a.id FROM @l a SEMI JOIN places ON places.name = a.name", NULL},
    };

    RUN(queries);
}

/* ---- Refusals ---- */

static void refuse(struct test *t, const char *mode, const char *select, const char *text)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_error err = {0};

    for (int i = 0; i < 3; i++) {
        static const char *const names[] = {"l", "r", "m"};

        sql_flow_source(flow, names[i], columns, i < 2 ? watermark : "");
    }
    sql_flow_static(flow, "places", "name VARCHAR, code INTEGER");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, "INSERT INTO out ");
    sql_flow_text(flow, select);
    sql_flow_text(flow, ";");
    if (text == NULL) {
        if (sql_flow_check(flow, &err) != MR_OK)
            FAIL("%s: %s", select, err.text);
    } else if (sql_flow_check(flow, &err) == MR_OK) {
        FAIL("planned, but should not be: %s", select);
    } else if (strstr(err.text, text) == NULL || err.sql_line == 0) {
        FAIL("%s: line %u: '%s', not '%s'", select, err.sql_line, err.text, text);
    }
    sql_flow_free(flow);
}

TEST(UN_01_joins_that_could_not_end_are_refused)
{
    static const char equal[] = "needs an equality between them";
    static const char bound[] = "must know when a row can match no more";

    refuse(t, "append", "SELECT l.id FROM l JOIN r ON l.ts < r.ts", equal);
    refuse(t, "append", "SELECT l.id FROM l, r", equal);
    refuse(t, "append", "SELECT l.id FROM l CROSS JOIN r", equal);
    refuse(t, "append", "SELECT l.id FROM l LEFT JOIN r ON l.k = r.k", bound);
    refuse(t, "append", "SELECT l.id FROM l SEMI JOIN r ON l.k = r.k", bound);
    refuse(t, "append", "SELECT r.id FROM l RIGHT JOIN r ON l.k = r.k", bound);
    refuse(t, "append", "SELECT r.id FROM l FULL JOIN r ON l.k = r.k", bound);
    refuse(t, "append",
           "SELECT l.id FROM l LEFT JOIN r ON l.k = r.k AND l.ts < r.ts + INTERVAL '10 s'", bound);
    refuse(t, "append", "SELECT l.id FROM l LEFT JOIN m ON l.k = m.k AND l.ts > m.ts", bound);
    refuse(t, "append",
           "SELECT l.id FROM l LEFT JOIN r ON l.k = r.k AND l.ts > r.ts + INTERVAL '10 s'", NULL);
    refuse(t, "append", "SELECT l.id FROM l LEFT JOIN m ON l.ts = m.ts", NULL);
    refuse(t, "append", "SELECT m.id FROM l RIGHT JOIN m ON l.ts = m.ts", NULL);
    refuse(t, "append", "SELECT l.id FROM l ANTI JOIN r ON l.ts = r.ts",
           "ANTI join of two streams");
}

TEST(UN_01_output_modes_of_joins)
{
    refuse(t, "update", "SELECT l.id FROM l JOIN r ON l.k = r.k", NULL);
    refuse(t, "update", "SELECT l.id FROM l SEMI JOIN r ON l.ts = r.ts", NULL);
    refuse(t, "update", "SELECT l.id FROM l LEFT JOIN r ON l.ts = r.ts", "output_mode = 'append'");
    refuse(t, "update", "SELECT l.k, count(*) AS n FROM l JOIN r ON l.k = r.k GROUP BY l.k", NULL);
    refuse(t, "complete", "SELECT l.k, count(*) AS n FROM l JOIN r ON l.k = r.k GROUP BY l.k",
           "output mode complete");
    refuse(t, "complete", "SELECT l.k FROM l JOIN r ON l.k = r.k", "complete");
    refuse(t, "update",
           "SELECT l.id FROM l JOIN (SELECT k, count(*) AS n FROM r GROUP BY k) c ON l.k = c.k",
           "an aggregation below a join");
    refuse(t, "append",
           "SELECT window_start, count(*) AS n FROM l JOIN r ON l.k = r.k GROUP BY window(l.ts, '1 "
           "minute')",
           NULL);
}

TEST(UN_01_joins_with_static_tables)
{
    refuse(t, "append", "SELECT l.id FROM places LEFT JOIN l ON l.name = places.name", "LEFT join");
    refuse(t, "append", "SELECT l.id FROM l RIGHT JOIN places ON l.name = places.name",
           "RIGHT join");
    refuse(t, "append", "SELECT l.id FROM l FULL JOIN places ON l.name = places.name", "static");
    refuse(t, "append", "SELECT l.id FROM l LEFT JOIN places ON l.name = places.name", NULL);
    refuse(t, "append", "SELECT l.id FROM places RIGHT JOIN l ON l.name = places.name", NULL);
    refuse(t, "append", "SELECT places.code FROM places SEMI JOIN l ON l.name = places.name",
           "SEMI join");
}

TEST(names_that_mean_two_columns_or_none_are_refused)
{
    refuse(t, "append", "SELECT id FROM l JOIN r ON l.k = r.k",
           "column 'id' is in both 'l' and 'r'");
    refuse(t, "append", "SELECT l.id FROM l JOIN r ON k = r.k", "column 'k' is in both");
    refuse(t, "append", "SELECT l.id FROM l JOIN r ON l.k = r.k WHERE x > 1",
           "column 'x' is in both");
    refuse(t, "append", "SELECT l.nope FROM l JOIN r ON l.k = r.k", "'l' has no column 'nope'");
    refuse(t, "append", "SELECT l.id FROM l JOIN l ON l.k = l.k", "two tables are called 'l'");
    refuse(t, "append", "SELECT r.id FROM l SEMI JOIN r ON l.ts = r.ts",
           "right side of a SEMI join");
    refuse(t, "append", "SELECT l.id FROM l JOIN r USING (nothing)", "one side has no column");
    refuse(t, "append", "SELECT l.id FROM l JOIN r ON l.k = r.name", "cast one of them");
    refuse(t, "append", "SELECT q.* FROM l JOIN r ON l.k = r.k", "no table 'q'");
}

TEST(stars_are_written_out_with_names_of_their_own)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, x BIGINT", "");
    sql_flow_source(flow, "b", "k BIGINT, y BIGINT", "");
    sql_flow_sink(flow, "o1", "", "append");
    sql_flow_sink(flow, "o2", "", "append");
    sql_flow_sink(flow, "o3", "", "append");
    sql_flow_text(flow, "INSERT INTO o1 SELECT * FROM a JOIN b ON a.k = b.k;");
    sql_flow_text(flow, "INSERT INTO o2 SELECT * FROM a JOIN b USING (k);");
    sql_flow_text(flow, "INSERT INTO o3 SELECT b.*, a.* EXCLUDE (k) FROM a NATURAL JOIN b;");
    sql_flow_step(flow, "a", "(1, 10), (2, 20)");
    sql_flow_step(flow, "b", "(1, 100), (3, 300)");
    CHECK_EQ_STR(sql_flow_run(flow, "o1"), "1|10|1|100\n");
    CHECK_EQ_STR(sql_flow_run(flow, "o2"), "1|10|100\n");
    CHECK_EQ_STR(sql_flow_run(flow, "o3"), "1|100|10\n");
    sql_flow_free(flow);
}

TEST(a_source_joined_with_itself_is_read_once)
{
    struct sql_flow *flow = sql_flow_new(t);
    const char *text;

    sql_flow_source(flow, "a", "k BIGINT, x BIGINT", "");
    sql_flow_sink(flow, "o", "", "append");
    sql_flow_text(flow, "INSERT INTO o SELECT u.x, v.x AS y FROM a u JOIN a v ON u.k = v.x;");
    text = sql_flow_description(flow);
    CHECK(strstr(text, "source a:") != NULL);
    CHECK(strstr(strstr(text, "source a:") + 1, "source a:") == NULL);
    sql_flow_step(flow, "a", "(1, 10), (10, 20)");
    CHECK_EQ_STR(sql_flow_run(flow, "o"), "20|10\n");
    sql_flow_free(flow);
}

TEST(late_rows_of_both_sides_go_to_their_table)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "l", columns, watermark);
    sql_flow_source(flow, "r", columns, watermark);
    sql_flow_sink(flow, "o", "", "append");
    sql_flow_sink(flow, "late", "id BIGINT, ts TIMESTAMP, mr_operator VARCHAR", NULL);
    sql_flow_text(flow, "INSERT INTO o SELECT l.id, r.id AS other FROM l JOIN r ON l.k = r.k AND "
                        "l.ts >= r.ts AND l.ts <= r.ts + INTERVAL '1 minute' ON LATE INTO late;");
    sql_flow_step(flow, "l", "(1, 1, 'a', 0, TIMESTAMP '2026-01-01 00:10:00')");
    sql_flow_step(flow, "r", "(2, 1, 'b', 0, TIMESTAMP '2026-01-01 00:10:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "o"), "1|2\n");
    sql_flow_step(flow, "l",
                  "(3, 1, 'c', 0, TIMESTAMP '2026-01-01 00:08:00'), "
                  "(4, 1, 'd', 0, TIMESTAMP '2026-01-01 00:10:30')");
    sql_flow_step(flow, "r", "(5, 1, 'e', 0, TIMESTAMP '2026-01-01 00:07:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "o"), "4|2\n");
    CHECK_EQ_INT(sql_flow_late_rows(flow), 2);
    CHECK_EQ_STR(sql_flow_run(flow, "late"),
                 "3|2026-01-01 00:08:00|o.join\n5|2026-01-01 00:07:00|o.join\n");
    sql_flow_free(flow);
}
