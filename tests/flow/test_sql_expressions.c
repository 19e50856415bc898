/*
 * Expressions over a stream: anything that DuckDB evaluates row by row, compared with DuckDB over
 * the same rows; functions of the time mean the batch; several INSERTs share a source; words of
 * other dialects run.
 */
#include "support/sql_flow.h"

static struct sql_flow *flow_of(struct test *t)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a",
                    "i BIGINT, s VARCHAR, d DOUBLE, l BIGINT[], st STRUCT(x INT, y VARCHAR), ts "
                    "TIMESTAMP, j VARCHAR, dec DECIMAL(10, 2)",
                    "");
    sql_flow_static(flow, "fixed", "k BIGINT, name VARCHAR");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_step(flow, "fixed", "(1, 'one'), (2, 'two')");
    return flow;
}

static void add_rows(struct sql_flow *flow)
{
    sql_flow_step(flow, "a",
                  "(1, 'Anna', 0.5, [1, 2, 3], {'x': 7, 'y': 'q'}, TIMESTAMP '2024-02-29 "
                  "12:34:56.789', '{\"a\": {\"b\": [10, 20]}, \"c\": \"x\"}', 12.34)");
    sql_flow_step(flow, "a",
                  "(-2, 'o''b, c', -1e10, [], {'x': NULL, 'y': ''}, TIMESTAMP '1969-12-31 "
                  "23:59:59', '[1, 2]', -0.01), (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)");
}

TEST(any_expression_of_the_engine_gives_what_it_gives_over_the_whole)
{
    static const char *const lists[] = {
        "i + 1 AS a, -i AS b, i * d AS c, i % 3 AS e, i // 2 AS f, abs(i) AS g, round(d, 1) AS h",
        "upper(s) AS a, s || '!' AS b, length(s) AS c, substr(s, 2, 2) AS e, s LIKE '%n%' AS f, "
        "s ILIKE 'A%' AS g, reverse(s) AS h, replace(s, 'n', 'm') AS k, concat_ws('-', s, i) AS m",
        "CASE WHEN i > 0 THEN 'pos' WHEN i < 0 THEN 'neg' ELSE 'none' END AS a, CASE i WHEN 1 THEN "
        "s END AS b, coalesce(s, 'x') AS c, nullif(i, 1) AS e, i IS DISTINCT FROM 1 AS f, i IN (1, "
        "3) AS g, i BETWEEN 0 AND 5 AS h, greatest(i, 0) AS k",
        "i::VARCHAR AS a, CAST(d AS DECIMAL(20, 3)) AS b, TRY_CAST(s AS BIGINT) AS c, s::BLOB AS "
        "e, ts::DATE AS f, dec::DOUBLE AS g",
        "l[1] AS a, len(l) AS b, list_sum(l) AS c, list_transform(l, x -> x * 2) AS e, [i, i + 1] "
        "AS f, list_filter(l, x -> x > 1) AS g, list_contains(l, 2) AS h, array_to_string(l, ',') "
        "AS k",
        "st.x AS a, st.y AS b, {'n': i, 'm': s} AS c, struct_pack(p := i) AS e, struct_extract(st, "
        "'y') AS f",
        "json_extract(j, '$.a.b[1]')::VARCHAR AS a, j->>'$.c' AS b, json_valid(j) AS c, "
        "json_array_length(j) AS e, to_json({'k': i})::VARCHAR AS f",
        "regexp_matches(s, '^A.*a$') AS a, regexp_replace(s, '[aeiou]', '*', 'g') AS b, "
        "regexp_extract(s, '(.)n', 1) AS c, string_split(s, 'n') AS e",
        "year(ts) AS a, date_trunc('hour', ts) AS b, ts + INTERVAL '1 day' AS c, epoch_ms(ts) AS "
        "e, strftime(ts, '%Y/%m') AS f, dayname(ts) AS g, date_diff('day', ts, TIMESTAMP "
        "'2024-03-01') AS h",
        "md5(s) AS a, sha256(s) AS b, hash(i) % 7 AS c, bit_count(i) AS e",
        "dec + 1 AS a, dec * dec AS b, round(dec) AS c, dec::VARCHAR AS e",
        "i, unnest(l) AS x",
        "* EXCLUDE (j, st, l), i AS again",
        "COLUMNS('i|s')",
    };

    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        struct sql_flow *flow = flow_of(t);
        char sql[1200];
        char have[4000];

        snprintf(sql, sizeof(sql), "INSERT INTO out SELECT %s FROM a", lists[i]);
        sql_flow_text(flow, sql);
        add_rows(flow);
        snprintf(have, sizeof(have), "%s", sql_flow_run(flow, "out"));
        snprintf(sql, sizeof(sql), "SELECT %s FROM a", lists[i]);
        CHECK_EQ_STR(have, sql_flow_oracle(flow, sql));
        sql_flow_free(flow);
    }
}

TEST(filters_laterals_and_subqueries_over_static_tables_too)
{
    static const char *const queries[] = {
        "SELECT i FROM a WHERE s LIKE 'A%' OR len(l) = 0",
        "SELECT i, x FROM a, unnest(l) AS u(x) WHERE x > 1",
        "SELECT i, x FROM a CROSS JOIN LATERAL (SELECT unnest(a.l) AS x)",
        "SELECT i, r FROM a, range(2) AS g(r)",
        "SELECT i, (SELECT max(name) FROM fixed) AS m FROM a",
        "SELECT i, (SELECT name FROM fixed WHERE k = a.i) AS m FROM a",
        "SELECT i FROM a WHERE i IN (SELECT k FROM fixed)",
        "SELECT i FROM a WHERE NOT EXISTS (SELECT 1 FROM fixed WHERE k = a.i)",
        "SELECT b.i FROM (SELECT i, s FROM a WHERE i > 0) AS b WHERE b.s <> 'x'",
        "WITH c AS (SELECT i * 2 AS n FROM a) SELECT n FROM c WHERE n > 0",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = flow_of(t);
        char sql[600];
        char have[2000];

        snprintf(sql, sizeof(sql), "INSERT INTO out %s", queries[i]);
        sql_flow_text(flow, sql);
        add_rows(flow);
        snprintf(have, sizeof(have), "%s", sql_flow_run(flow, "out"));
        CHECK_EQ_STR(have, sql_flow_oracle(flow, queries[i]));
        sql_flow_free(flow);
    }
}

/* The shape with the call in the place of every '@'. */
static void put_call(char *sql, size_t size, const char *shape, const char *call)
{
    size_t used = 0;

    for (; *shape != '\0'; shape++) {
        char one[2] = {*shape, '\0'};

        used += (size_t)snprintf(sql + used, size - used, "%s", *shape == '@' ? call : one);
    }
}

/* All of them are the batch's time: the same in every row and when the batch runs again. */
TEST(functions_of_the_time_are_the_time_of_the_batch_everywhere)
{
    static const char *const calls[] = {"now()",
                                        "current_timestamp",
                                        "localtimestamp",
                                        "get_current_timestamp()",
                                        "transaction_timestamp()",
                                        "current_date",
                                        "today()",
                                        "current_time",
                                        "localtime",
                                        "get_current_time()",
                                        "unix_timestamp()"};
    static const char *const shapes[] = {
        "SELECT i, (@)::VARCHAR AS x FROM a",
        "SELECT i, CASE WHEN i = 1 THEN (@)::VARCHAR ELSE (@)::VARCHAR END AS x FROM (SELECT i "
        "FROM a WHERE (@) IS NOT NULL)",
    };

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (size_t k = 0; k < sizeof(shapes) / sizeof(shapes[0]); k++) {
            struct sql_flow *flow = flow_of(t);
            char sql[600];
            char rows[2000];
            char first[100];
            char second[100];

            put_call(sql, sizeof(sql), shapes[k], calls[i]);
            sql_flow_text(flow, "INSERT INTO out ");
            sql_flow_text(flow, sql);
            sql_flow_steps_per_batch(flow, 0);
            sql_flow_step(flow, "a",
                          "SELECT v, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM range(1, 3) "
                          "t(v)");
            snprintf(rows, sizeof(rows), "%s", sql_flow_run(flow, "out"));
            CHECK_EQ_INT(sscanf(rows, "1|%99[^\n]\n2|%99[^\n]", first, second), 2);
            CHECK_EQ_STR(first, second);
            sql_flow_free(flow);
        }
    }
}

TEST(values_that_cannot_repeat_are_refused_wherever_they_stand)
{
    static const char *const queries[] = {
        "SELECT random() FROM a",
        "SELECT i FROM a WHERE random() < 0.5",
        "SELECT i FROM (SELECT i, uuid() AS u FROM a)",
        "SELECT CASE WHEN i > 0 THEN gen_random_uuid()::VARCHAR END AS u FROM a",
        "SELECT list_transform(l, x -> x + random()) AS r FROM a",
        "SELECT max(random()) FROM a",
        "SELECT i FROM a JOIN fixed ON i = k AND random() > 0.5",
        "SELECT i, (SELECT max(random()) FROM fixed) AS m FROM a",
    };

    for (size_t i = 0; i < sizeof(queries) / sizeof(queries[0]); i++) {
        struct sql_flow *flow = flow_of(t);
        struct mr_error err;

        sql_flow_text(flow, "INSERT INTO out ");
        sql_flow_text(flow, queries[i]);
        CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, "");
        sql_flow_free(flow);
    }
}

TEST(several_inserts_read_a_source_once_and_commit_together)
{
    struct sql_flow *flow = flow_of(t);
    const char *text;

    sql_flow_sink(flow, "second", "", "append");
    sql_flow_text(flow, "BEGIN STATEMENT SET;\n"
                        "INSERT INTO out SELECT i FROM a WHERE i > 0;\n"
                        "INSERT INTO second SELECT s FROM a WHERE i < 0;\n"
                        "END;");
    text = sql_flow_description(flow);
    CHECK(strstr(text, "source a:") != NULL);
    CHECK(strstr(strstr(text, "source a:") + 1, "source a:") == NULL);
    CHECK(strstr(text, "(i BIGINT, s VARCHAR)") != NULL);
    add_rows(flow);
    sql_flow_run_until(flow, "published");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n");
    CHECK_EQ_STR(sql_flow_run(flow, "second"), "o'b, c\n");
    add_rows(flow);
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1\n");
    CHECK_EQ_STR(sql_flow_run(flow, "second"), "o'b, c\n");
    sql_flow_free(flow);
}

TEST(pipelines_of_other_dialects_run)
{
    static const char *const texts[] = {
        "CREATE FLOW f AS INSERT INTO out BY NAME SELECT s AS name, i AS id FROM STREAM(a);",
        "CREATE STREAMING TABLE clean AS SELECT i AS id, s AS name FROM STREAM a WHERE i > 0;\n"
        "CREATE FLOW f COMMENT 'x' AS INSERT INTO out BY NAME SELECT name, id FROM STREAM clean;",
        "CREATE MATERIALIZED VIEW clean (id, name) COMMENT 'c' AS SELECT i, s FROM a;\n"
        "EXECUTE STATEMENT SET BEGIN INSERT INTO out SELECT * FROM clean; END;",
        "CREATE OR REPLACE TEMPORARY VIEW clean AS SELECT i AS `id`, s AS `name` FROM `a`;\n"
        "INSERT INTO out SELECT `id`, `name` FROM clean;",
        "INSERT INTO out (name, id) SELECT s, i FROM a;",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "i BIGINT, s VARCHAR", "");
        sql_flow_sink(flow, "out", "id BIGINT, name VARCHAR", "append");
        sql_flow_text(flow, texts[i]);
        sql_flow_step(flow, "a", "(1, 'x')");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|x\n");
        sql_flow_free(flow);
    }
}

TEST(a_streaming_table_with_a_connector_is_written_and_read)
{
    struct sql_flow *flow = sql_flow_new(t);
    char sql[700];

    sql_flow_source(flow, "a", "i BIGINT", "");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_sink(flow, "kept", "", "append"); /* only for its rows: its name in memory */
    snprintf(sql, sizeof(sql),
             "CREATE STREAMING TABLE doubled (n BIGINT) WITH (connector = 'memory', table = "
             "'%.100s.kept') AS SELECT i * 2 FROM STREAM(a);\n"
             "INSERT INTO out SELECT * FROM doubled WHERE n > 2;",
             t->name);
    sql_flow_text(flow, sql);
    sql_flow_step(flow, "a", "(1), (2)");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "4\n");
    CHECK_EQ_STR(sql_flow_upserted(flow, "kept", 1), "2\n4\n");
    sql_flow_free(flow);
}
