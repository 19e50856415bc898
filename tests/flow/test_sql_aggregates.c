/*
 * Every aggregate function against DuckDB over the whole input, however the input is cut into
 * batches, with a restart at every run; grouping sets; and what is refused.
 *
 *     rows (seeded) --cut at random--> batches --> query --> memory sink  ==  DuckDB over the rows
 */
#include "support/sql_flow.h"

#include "base/check.h"

#include <stdlib.h>

enum { ROWS = 400, TEXT_BYTES = 8000 };

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static const char columns[] =
    "id BIGINT, k INTEGER, city VARCHAR, n INTEGER, big BIGINT, u UBIGINT, x DOUBLE, f FLOAT, "
    "price DECIMAL(10,2), ok BOOLEAN, d DATE, ts TIMESTAMP, tags VARCHAR[], "
    "s STRUCT(a INTEGER, b VARCHAR)";

/* Made by DuckDB from hashes of the row number: nulls, long texts, nested values. */
static const char rows_sql[] =
    "SELECT i AS id, CASE WHEN h %% 19 = 0 THEN NULL ELSE (h %% 5)::INTEGER END AS k, "
    "CASE WHEN h %% 11 = 0 THEN NULL ELSE ['Bonn', 'Ulm', 'a city with a rather long name', ''][1 "
    "+ (h // 7 %% 4)::INT] END AS city, "
    "CASE WHEN h %% 13 = 0 THEN NULL ELSE (h // 3 %% 200)::INTEGER - 100 END AS n, "
    "(h // 5 %% 1000003)::BIGINT * 1000003 - 500000000000 AS big, (h // 17)::UBIGINT AS u, "
    "CASE WHEN h %% 17 = 0 THEN NULL ELSE (h // 9 %% 6400)::DOUBLE / 8 END AS x, "
    "(h // 31 %% 77)::FLOAT / 4 AS f, "
    "((h // 2 %% 10000)::DECIMAL(10,2) / 8)::DECIMAL(10,2) AS price, "
    "CASE WHEN h %% 7 = 0 THEN NULL ELSE h %% 3 > 0 END AS ok, "
    "DATE '2026-01-01' + (h // 8 %% 40)::INTEGER AS d, "
    "CASE WHEN h %% 23 = 0 THEN NULL ELSE TIMESTAMP '2026-01-01' + to_microseconds((h %% "
    "1800000000)::BIGINT) END AS ts, "
    "CASE WHEN h %% 5 = 0 THEN NULL ELSE ['t' || (h %% 3), 'u'] END AS tags, "
    "CASE WHEN h %% 9 = 0 THEN NULL ELSE {'a': (h %% 10)::INTEGER, 'b': 'b' || (h %% 4)} END AS s "
    "FROM (SELECT i, hash(i + %llu)::UBIGINT AS h FROM range(%d) t(i)) ORDER BY i";

/* Feeds the rows in steps of random size, with runs (restarts) between some of them. */
static void feed(struct sql_flow *flow, uint64_t seed)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    struct mr_batch *rows;
    char sql[4000];
    int64_t total;

    snprintf(sql, sizeof(sql), rows_sql, (unsigned long long)seed, ROWS);
    rows = sql_flow_batch(flow, sql);
    total = mr_batch_row_count(rows);
    for (int64_t at = 0; at < total;) {
        int64_t step = 1 + (int64_t)(next_random(&state) % 150);

        step = step < total - at ? step : total - at;
        sql_flow_step_slice(flow, "a", rows, at, at + step);
        at += step;
        if (next_random(&state) % 3 == 0)
            (void)sql_flow_run(flow, "out");
    }
    mr_batch_unref(rows);
}

static void compare(const char *stream, const char *whole, const char *sql)
{
    const char *left = stream;
    const char *right = whole;

    CHECK(whole[0] != '\0');
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
    fprintf(stderr, "# %s\n# stream: %.*s\n# DuckDB: %.*s\n", sql, (int)strcspn(left, "\n"), left,
            (int)strcspn(right, "\n"), right);
    CHECK_EQ_STR(left, right);
}

/* list: the select list over table a; tail: GROUP BY and so on. {} in the list stands for rounding
 * of what floats make inexact. */
static void check_query(struct test *t, const char *mode, uint32_t keys, const char *list,
                        const char *oracle_list, const char *tail, uint64_t seed)
{
    struct sql_flow *flow = sql_flow_new(t);
    char sql[TEXT_BYTES];
    char oracle[TEXT_BYTES];
    const char *rows;
    char *have;

    sql_flow_source(flow, "a", columns,
                    strcmp(mode, "append") == 0 ? ", WATERMARK FOR ts AS ts - INTERVAL '1 hour'"
                                                : "");
    sql_flow_sink(flow, "out", "", mode);
    snprintf(sql, sizeof(sql), "INSERT INTO out SELECT %s FROM a %s;", list, tail);
    sql_flow_text(flow, sql);
    sql_flow_steps_per_batch(flow, 1); /* rows arrive in the order of their ids */
    feed(flow, seed);
    sql_flow_run(flow, "out");
    snprintf(oracle, sizeof(oracle), "SELECT %s FROM a %s",
             oracle_list != NULL ? oracle_list : list, tail);
    if (strcmp(mode, "append") == 0) {
        /* A row far in the future closes all windows; it is not in one itself when asked. */
        char row[300];

        snprintf(row, sizeof(row),
                 "(9999, 77, 'x', 0, 0, 0, 0, 0, 0, true, DATE '2030-01-01', "
                 "TIMESTAMP '2030-01-01', NULL, NULL)");
        sql_flow_step(flow, "a", row);
        sql_flow_run(flow, "out");
        snprintf(oracle, sizeof(oracle),
                 "SELECT %s FROM (SELECT * FROM a WHERE ts < TIMESTAMP '2029-01-01') %s",
                 oracle_list != NULL ? oracle_list : list, tail);
    }
    rows = strcmp(mode, "complete") == 0 ? sql_flow_last(flow, "out")
                                         : sql_flow_upserted(flow, "out", keys);
    have = calloc(1, strlen(rows) + 1); /* the oracle's rows take the place of these */
    memcpy(have, rows, strlen(rows));
    sql_flow_sort(have);
    compare(have, sql_flow_oracle(flow, oracle), sql);
    free(have);
    sql_flow_free(flow);
}

/* Each is a select item; what depends on the order in which floats are added is rounded. */
static const struct {
    const char *stream;
    const char *oracle; /* NULL: the same */
} functions[] = {
    {"count(*) AS c1, count(n) AS c2, sum(n)::BIGINT AS c3, min(city) AS c4, max(d) AS c5, "
     "round(avg(x), 6) AS c6, sum(price) AS c7",
     NULL},
    {"round(stddev(x), 6) AS c1, round(stddev_samp(n), 6) AS c2, round(stddev_pop(price), 6) AS "
     "c3, round(variance(f), 6) AS c4, round(var_samp(x), 4) AS c5, round(var_pop(u), -30) AS c6, "
     "round(sem(n), 6) AS c7",
     NULL},
    /* The slope of one row is null; DuckDB has NaN. */
    {"round(corr(x, n), 6) AS c1, round(covar_pop(x, n), 4) AS c2, round(covar_samp(n, f), 4) AS "
     "c3, regr_count(x, n) AS c4, round(regr_slope(x, n), 6) AS c5, round(regr_intercept(x, n), 4) "
     "AS c6, round(regr_r2(x, n), 6) AS c7, round(regr_avgx(x, n), 6) AS c8, "
     "round(regr_avgy(x, n), 6) AS c9, round(regr_sxx(x, n), 3) AS c10, round(regr_syy(x, n), 3) "
     "AS c11, round(regr_sxy(x, n), 3) AS c12",
     "round(corr(x, n), 6) AS c1, round(covar_pop(x, n), 4) AS c2, round(covar_samp(n, f), 4) AS "
     "c3, regr_count(x, n) AS c4, CASE WHEN regr_count(x, n) > 1 THEN round(regr_slope(x, n), 6) "
     "END AS c5, round(regr_intercept(x, n), 4) "
     "AS c6, round(regr_r2(x, n), 6) AS c7, round(regr_avgx(x, n), 6) AS c8, "
     "round(regr_avgy(x, n), 6) AS c9, round(regr_sxx(x, n), 3) AS c10, round(regr_syy(x, n), 3) "
     "AS c11, round(regr_sxy(x, n), 3) AS c12"},
    {"bool_and(ok) AS c1, bool_or(ok) AS c2, bit_and(n) AS c3, bit_or(u) AS c4, bit_xor(big) AS "
     "c5, bit_xor(u) AS c6, bool_and(n < 100) AS c7",
     NULL},
    {"first(id) AS c1, last(id) AS c2, any_value(city) AS c3, first(city) AS c4, last(s) AS c5, "
     "first(tags) AS c6, any_value(price) AS c7",
     "first(id ORDER BY id) AS c1, last(id ORDER BY id) AS c2, any_value(city ORDER BY id) AS c3, "
     "first(city ORDER BY id) AS c4, last(s ORDER BY id) AS c5, first(tags ORDER BY id) AS c6, "
     "any_value(price ORDER BY id) AS c7"},
    /* A null inside of a list is the least; DuckDB takes it for the greatest here. */
    {"arg_min(id, u) AS c1, arg_max(city, u) AS c2, min_by(s, u) AS c3, max_by(tags, big) AS c4, "
     "arg_max(price, city || id) AS c5, arg_min(id, [n, id::INTEGER]) AS c6",
     "arg_min(id, u) AS c1, arg_max(city, u) AS c2, min_by(s, u) AS c3, max_by(tags, big) AS c4, "
     "arg_max(price, city || id) AS c5, arg_min(id, [coalesce(n, -1000000), id::INTEGER]) AS c6"},
    {"arg_max(id, id, 3) AS c1, arg_min(city, id, 2) AS c2, max(n, 4) AS c3, min(x, 2) AS c4, "
     "max(city, 3) FILTER (WHERE ok) AS c5, max_by(tags, id, 2) AS c6, min(price, 1) AS c7, "
     "list_sum(max(u % 1000, 5))::BIGINT AS c8, arg_max(price, city || id, 3) AS c9",
     NULL},
    {"list(id) AS c1, array_agg(city) AS c2, list(id ORDER BY n DESC, id) AS c3, "
     "list(city ORDER BY x NULLS FIRST, id) AS c4, list(id) FILTER (WHERE n > 0) AS c5, "
     "list(s) AS c6",
     "list(id ORDER BY id) AS c1, array_agg(city ORDER BY id) AS c2, list(id ORDER BY n DESC, id) "
     "AS c3, list(city ORDER BY x NULLS FIRST, id) AS c4, list(id ORDER BY id) FILTER (WHERE n > "
     "0) AS c5, list(s ORDER BY id) AS c6"},
    {"string_agg(city, ', ') AS c1, group_concat(city, '/' ORDER BY id DESC) AS c2, "
     "string_agg(DISTINCT city, ';') AS c3, listagg(id::VARCHAR, '') FILTER (WHERE ok) AS c4",
     "string_agg(city, ', ' ORDER BY id) AS c1, group_concat(city, '/' ORDER BY id DESC) AS c2, "
     "string_agg(DISTINCT city, ';' ORDER BY city) AS c3, listagg(id::VARCHAR, '' ORDER BY id) "
     "FILTER (WHERE ok) AS c4"},
    {"count(DISTINCT city) AS c1, count(DISTINCT n) FILTER (WHERE ok) AS c2, sum(DISTINCT "
     "n)::BIGINT AS c3, round(avg(DISTINCT x), 6) AS c4, sum(DISTINCT price) AS c5, count(DISTINCT "
     "s) AS c6, count(DISTINCT tags) AS c7, list(DISTINCT city) AS c8, round(stddev(DISTINCT n), "
     "6) AS c9, min(DISTINCT n) AS c10, sum(DISTINCT u % 1000)::BIGINT AS c11, "
     "list(DISTINCT n ORDER BY n DESC) AS c12",
     "count(DISTINCT city) AS c1, count(DISTINCT n) FILTER (WHERE ok) AS c2, sum(DISTINCT "
     "n)::BIGINT AS c3, round(avg(DISTINCT x), 6) AS c4, sum(DISTINCT price) AS c5, count(DISTINCT "
     "s) AS c6, count(DISTINCT tags) AS c7, list_sort(list(DISTINCT city), 'ASC', 'NULLS LAST') AS "
     "c8, round(stddev(DISTINCT n), 6) AS c9, min(DISTINCT n) AS c10, sum(DISTINCT u % "
     "1000)::BIGINT AS c11, list_sort(list(DISTINCT n), 'DESC', 'NULLS LAST') AS c12"},
    {"approx_count_distinct(id) AS c1, approx_count_distinct(city) AS c2, "
     "approx_count_distinct(s) AS c3",
     "count(DISTINCT id) AS c1, count(DISTINCT city) AS c2, count(DISTINCT s) AS c3"},
    {"round(approx_quantile(x, 0.25), 6) AS c1, round(percentile_approx(n, 0.9), 6) AS c2, "
     "list_transform(approx_quantile(big, [0.1, 0.5]), lambda q: round(q)) AS c3",
     "round(quantile_cont(x, 0.25), 6) AS c1, round(quantile_cont(n, 0.9), 6) AS c2, "
     "list_transform(quantile_cont(big, [0.1, 0.5]), lambda q: round(q)) AS c3"},
    {"median(n) AS c1, quantile_cont(x, 0.3) AS c2, quantile_disc(city, 0.5) AS c3, "
     "percentile_cont(0.75) WITHIN GROUP (ORDER BY x) AS c4, median(d) AS c5, mad(n) AS c6, "
     "round(skewness(x), 6) AS c7, round(kurtosis(x), 6) AS c8, round(entropy(city), 6) AS c9",
     NULL},
    /* count_if of no true rows is 0. */
    {"round(ln(abs(product(x / 300 + 0.4)) + 1e-300), 5) AS c1, count_if(n > 5) AS c2, count(*) "
     "FILTER (WHERE ok) AS c3, max(n) FILTER (WHERE city = 'Ulm') AS c4",
     "round(ln(abs(product(x / 300 + 0.4)) + 1e-300), 5) AS c1, coalesce(count_if(n > 5), 0) AS "
     "c2, count(*) "
     "FILTER (WHERE ok) AS c3, max(n) FILTER (WHERE city = 'Ulm') AS c4"},
};

TEST(every_function_gives_what_duckdb_gives_in_complete_mode)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(functions); i++) {
        char list[TEXT_BYTES / 2], oracle[TEXT_BYTES / 2];

        snprintf(list, sizeof(list), "k, %s", functions[i].stream);
        snprintf(oracle, sizeof(oracle), "k, %s",
                 functions[i].oracle != NULL ? functions[i].oracle : functions[i].stream);
        check_query(t, "complete", 1, list, oracle, "GROUP BY k", 11 + i);
    }
}

TEST(every_function_gives_what_duckdb_gives_in_update_mode)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(functions); i++) {
        char list[TEXT_BYTES / 2], oracle[TEXT_BYTES / 2];

        snprintf(list, sizeof(list), "coalesce(k, -1) AS g, %s", functions[i].stream);
        snprintf(oracle, sizeof(oracle), "coalesce(k, -1) AS g, %s",
                 functions[i].oracle != NULL ? functions[i].oracle : functions[i].stream);
        check_query(t, "update", 1, list, oracle, "GROUP BY coalesce(k, -1)", 101 + i);
    }
}

TEST(every_function_gives_what_duckdb_gives_in_append_mode)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(functions); i++) {
        char list[TEXT_BYTES / 2], oracle[TEXT_BYTES / 2];

        snprintf(list, sizeof(list), "ts, k, %s", functions[i].stream);
        snprintf(oracle, sizeof(oracle), "ts, k, %s",
                 functions[i].oracle != NULL ? functions[i].oracle : functions[i].stream);
        check_query(t, "append", 2, list, oracle, "GROUP BY ts, k HAVING ts IS NOT NULL", 201 + i);
    }
}

TEST(grouping_sets_rollup_and_cube_give_what_duckdb_gives)
{
    static const char list[] =
        "k, city, grouping(k) AS g, grouping_id(k, city) AS gg, count(*) AS n, sum(n)::BIGINT AS "
        "total, median(n) AS m";
    static const char *const tails[] = {
        "GROUP BY ROLLUP (k, city)",
        "GROUP BY CUBE (k, city)",
        "GROUP BY GROUPING SETS ((k), (city), (k, city), ())",
        "GROUP BY ok, GROUPING SETS ((k, city), (city))",
        "GROUP BY ROLLUP (k, city) HAVING grouping(city) = 1 AND count(*) > 3",
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(tails); i++) {
        check_query(t, "complete", 3, list, NULL, tails[i], 300 + i);
        if (i < 3)
            check_query(t, "update", 4, list, NULL, tails[i], 320 + i);
    }
    check_query(t, "append", 4, "ts, k, city, grouping_id(k, city) AS g, count(*) AS n", NULL,
                "GROUP BY GROUPING SETS ((ts, k), (ts, city), (ts, k, city)) HAVING ts IS NOT NULL",
                340);
}

TEST(a_column_is_the_same_with_and_without_the_name_of_its_table)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, v BIGINT", "");
    sql_flow_sink(flow, "out", "", "update");
    sql_flow_text(flow, "INSERT INTO out SELECT k, sum(v) AS s, sum(a.v) + avg(v) AS t FROM a "
                        "GROUP BY a.k HAVING max(a.v) > 0;");
    sql_flow_step(flow, "a", "(1, 5), (1, 7)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|12|18.0\n");
    sql_flow_free(flow);
}

/* The set without keys has a row even when no row passes WHERE. */
TEST(the_grouping_set_without_keys_is_never_empty)
{
    static const char *const modes[] = {"update", "complete"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(modes); i++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "k BIGINT, s VARCHAR, v BIGINT", "");
        sql_flow_sink(flow, "out", "", modes[i]);
        sql_flow_text(flow, "INSERT INTO out SELECT k, s, grouping(k, s) AS g, count(*) AS n, "
                            "list(v) AS l FROM a WHERE v > 0 GROUP BY CUBE (k, s);");
        sql_flow_step(flow, "a", "(1, 'x', 0)");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "null|null|3|0|null\n");
        sql_flow_step(flow, "a", "(1, 'x', 5)");
        sql_flow_run(flow, "out");
        CHECK_EQ_STR(sql_flow_upserted(flow, "out", 3),
                     "1|null|1|1|[5]\n1|x|0|1|[5]\nnull|null|3|1|[5]\nnull|x|2|1|[5]\n");
        sql_flow_free(flow);
    }
}

/* The list may ask static tables, and HAVING too. */
TEST(subqueries_over_static_tables_stand_beside_aggregates)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, v BIGINT", "");
    sql_flow_static(flow, "names", "id BIGINT, name VARCHAR");
    sql_flow_sink(flow, "out", "", "update");
    sql_flow_text(flow,
                  "INSERT INTO out SELECT k, sum(v)::BIGINT AS s, (SELECT max(name) FROM names) AS "
                  "m, (SELECT name FROM names WHERE id = k) AS own FROM a GROUP BY k HAVING k IN "
                  "(SELECT id FROM names) AND sum(v) > (SELECT min(id) FROM names);");
    sql_flow_step(flow, "names", "(1, 'one'), (2, 'two')");
    sql_flow_step(flow, "a", "(1, 5), (2, 1), (3, 9)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|5|two|one\n");
    sql_flow_step(flow, "a", "(2, 4)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "2|5|two|two\n");
    sql_flow_free(flow);
}

TEST(two_aggregations_follow_each_other_in_append_mode)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '0 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(
        flow, "INSERT INTO out SELECT epoch(window_start)::BIGINT AS w, max(n) AS m, list(k "
              "ORDER BY k) AS ks FROM (SELECT window_start AS ws, k, count(*) AS n FROM a GROUP "
              "BY window(ts, '5 seconds'), k) GROUP BY window(ws, '10 seconds');");
    sql_flow_step(flow, "a",
                  "(1, TIMESTAMP '1970-01-01 00:00:01'), (1, TIMESTAMP '1970-01-01 00:00:02'), "
                  "(2, TIMESTAMP '1970-01-01 00:00:07')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_step(flow, "a", "(3, TIMESTAMP '1970-01-01 00:01:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0|2|[1, 2]\n");
    sql_flow_free(flow);
}

static void check_refusal(struct test *t, const char *mode, const char *select, const char *text)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_error err;

    sql_flow_source(flow, "a", columns, ", WATERMARK FOR ts AS ts - INTERVAL '1 hour'");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, "INSERT INTO out ");
    sql_flow_text(flow, select);
    sql_flow_text(flow, ";");
    CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, text);
    CHECK(err.sql_line > 0);
    sql_flow_free(flow);
}

TEST(what_cannot_be_merged_is_refused_by_name)
{
    static const struct {
        const char *select;
        const char *text;
    } rows[] = {
        {"SELECT approx_top_k(city, 3) FROM a",
         "'approx_top_k' is not supported over a stream; use"},
        {"SELECT fsum(x) FROM a", "use sum(x)"},
        {"SELECT min(n, 3, 4) FROM a", "min() takes one argument"},
        {"SELECT min(n, 0) FROM a", "must be a number from 1 to 10000"},
        {"SELECT arg_max(n, id, k) FROM a", "must be a number from 1 to 10000"},
        {"SELECT max(DISTINCT n, 3) FROM a", "max(DISTINCT ...) of the best 3 is not supported"},
        {"SELECT corr(n) FROM a", "corr() takes two arguments"},
        {"SELECT first(n ORDER BY id) FROM a", "use arg_min(x, y)"},
        {"SELECT approx_quantile(n, 1.5) FROM a", "must be a number from 0 to 1"},
        {"SELECT quantile_cont(n, x) FROM a", "must be constants"},
        {"SELECT sum(city) FROM a", "cannot compute sum of 'city': it is a VARCHAR"},
        {"SELECT bool_and(n) FROM a", "cannot compute bool_and of 'n'"},
        {"SELECT sum(max(n)) FROM a", "cannot be inside another"},
        {"SELECT count(*), grouping(n) FROM a GROUP BY ROLLUP (k)", "expressions of GROUP BY"},
        {"SELECT count(*) FROM a GROUP BY GROUPING SETS ((window(ts, '5 seconds')), (k))",
         "must contain the window"},
        {"SELECT string_agg(DISTINCT city, ',' ORDER BY id) FROM a", "by its argument only"},
        {"SELECT lag(n) FROM a", "'lag'"},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(rows); i++)
        check_refusal(t, "complete", rows[i].select, rows[i].text);
    check_refusal(t, "append", "SELECT count(*) FROM a GROUP BY GROUPING SETS ((ts), (k))",
                  "needs a window or column with a watermark");
}

TEST(nan_is_one_key_and_zero_has_no_sign)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "v BIGINT, x DOUBLE", "");
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_text(flow, "INSERT INTO out SELECT x, sum(v) AS s, count(DISTINCT x) AS n, max(x) AS "
                        "m FROM a GROUP BY x;");
    sql_flow_step(flow, "a", "(9223372036854775807, 'nan'::DOUBLE), (0, -0.0::DOUBLE)");
    sql_flow_step(flow, "a", "(-5, '-nan'::DOUBLE), (1, 0.0::DOUBLE)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "0.0|1|1|0.0\nNaN|9223372036854775802|1|NaN\n");
    sql_flow_free(flow);
}

/* Aggregates that keep values and sketches, in sessions that grow together. */
TEST(sessions_merge_all_their_aggregates)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, v BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '1 minute'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(
        flow, "INSERT INTO out SELECT k, count(*) AS n, list(v) AS l, count(DISTINCT v) AS d, "
              "approx_count_distinct(v) AS h, approx_quantile(v, 0.5) AS q, string_agg(v::VARCHAR, "
              "'-' ORDER BY v DESC) AS s, round(stddev(v), 3) AS e, max_by(v, ts) AS last FROM a "
              "GROUP BY k, session_window(ts, INTERVAL '10 seconds');");
    sql_flow_step(
        flow, "a",
        "(1, 5, TIMESTAMP '2026-01-01 00:00:00'), (1, 7, TIMESTAMP '2026-01-01 00:00:15')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_step(flow, "a", "(1, 5, TIMESTAMP '2026-01-01 00:00:08')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
    sql_flow_step(flow, "a", "(2, 0, TIMESTAMP '2026-01-01 00:10:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|3|[5, 5, 7]|2|2|5.0|7-5-5|1.155|7\n");
    sql_flow_free(flow);
}
