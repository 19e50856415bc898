/*
 * Input that is wrong, huge or strange: each is an error that says what and where, or the value
 * that docs/sql.md promises; never a wrong row, never a crash.
 */
#include "support/sql_flow.h"

#include "base/buf.h"
#include "core/query.h"
#include "sql/plan.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/memory.h>

#include <stdlib.h>

/* ---- Texts ---- */

/* Plans `head` + count times `part` + `tail` as an INSERT of table a (v BIGINT, ts TIMESTAMP). */
static enum mr_status plan_repeated(struct test *t, const char *head, const char *part,
                                    size_t count, const char *tail, struct mr_error *ret_err)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '5 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    mr_buf_add_str(&sql, "INSERT INTO out ");
    mr_buf_add_str(&sql, head);
    for (size_t i = 0; i < count; i++)
        mr_buf_add_str(&sql, part);
    mr_buf_add_str(&sql, tail);
    sql_flow_text(flow, sql.data);
    mr_buf_release(&sql);
    status = sql_flow_check(flow, ret_err);
    sql_flow_free(flow);
    return status;
}

TEST(a_statement_of_nearly_a_megabyte_is_planned)
{
    struct mr_error err;

    /* tens of thousands of values, and a comment up to the limit */
    CHECK_OK(plan_repeated(t, "SELECT v FROM a WHERE v IN (0", ", 1234567",
                           test_quick() ? 20000 : 110000, ")", &err),
             &err);
    CHECK_OK(plan_repeated(t, "SELECT v /*", "0123456789", 100000, "*/ FROM a", &err), &err);
}

TEST(more_than_a_megabyte_of_statements_is_refused)
{
    struct mr_error err;

    CHECK_FAILS(plan_repeated(t, "SELECT v /*", "0123456789", 110000, "*/ FROM a", &err), &err,
                MR_LIMIT, "at most 1 MiB");
}

TEST(ten_thousand_things_inside_each_other_are_refused)
{
    static const struct {
        const char *head;
        const char *part;
        const char *tail;
        const char *text;
    } rows[] = {
        {"SELECT ", "(", "v FROM a", "more than 256 brackets"},
        {"SELECT v FROM ", "(SELECT v FROM ", "a", "more than 256 brackets"},
        {"SELECT ", "- ", "v FROM a", "more than 1000 levels"},
        {"SELECT ", "NOT ", "true FROM a", ""},
        {"SELECT v", " + 1", " FROM a", "more than 1000 levels"},
        {"SELECT v", "::BIGINT", " FROM a", ""},
        {"SELECT ", "CASE WHEN true THEN ", "1 END FROM a", ""},
        {"SELECT [", "[", "v FROM a", ""},
        {"SELECT v FROM a", " UNION ALL SELECT v FROM a", "", "more than 2000 operators"},
        {"SELECT v FROM a", " JOIN a ON true", "", ""},
        {"SELECT v FROM a WHERE true", " OR (v = 1 AND true", "", ""},
        {"SELECT v /*", "/*", "*/ FROM a", "no '*/'"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mr_error err = {0};
        enum mr_status status =
            plan_repeated(t, rows[i].head, rows[i].part, 10000, rows[i].tail, &err);

        if (status != MR_SQL_ERROR && status != MR_LIMIT)
            FAIL("'%s' 10000 times gave %s: %s", rows[i].part, mr_status_name(status), err.text);
        if (strstr(err.text, rows[i].text) == NULL)
            FAIL("'%s' 10000 times says '%s'", rows[i].part, err.text);
        CHECK(err.text[0] != '\0');
    }
}

TEST(types_inside_each_other_have_a_limit)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_sql_script *script;
    struct mr_error err = {0};

    mr_buf_add_str(&sql, "CREATE TABLE t (a ");
    for (int i = 0; i < 10000; i++)
        mr_buf_add_str(&sql, "STRUCT<a ");
    mr_buf_add_str(&sql, "INT");
    for (int i = 0; i < 10000; i++)
        mr_buf_add_str(&sql, ">");
    mr_buf_add_str(&sql, ") WITH (connector = 'memory')");
    CHECK_FAILS(mr_sql_script_parse("t.sql", sql.data, sql.size, &script, &err), &err, MR_SQL_ERROR,
                "");
    CHECK_EQ_INT(err.sql_line, 1);
    mr_buf_release(&sql);
}

/* ---- Plans ---- */

TEST(plans_that_make_no_sense_are_refused_with_their_place)
{
    static const struct {
        const char *text;
        const char *part;
    } rows[] = {
        {"CREATE VIEW x AS SELECT * FROM x; INSERT INTO out SELECT * FROM x", "made of itself"},
        {"CREATE VIEW x AS SELECT * FROM y; CREATE VIEW y AS SELECT * FROM x; INSERT INTO out "
         "SELECT * FROM x",
         "made of itself"},
        {"INSERT INTO out WITH x AS (SELECT * FROM x) SELECT * FROM x", "there is no table 'x'"},
        {"INSERT INTO out WITH RECURSIVE x AS (SELECT v FROM a UNION ALL SELECT v FROM x) SELECT v "
         "FROM x",
         ""},
        {"INSERT INTO out SELECT v FROM a JOIN fixed ON a.v = fixed.v", "mbiguous"},
        {"INSERT INTO out SELECT v, count(*) FROM a JOIN fixed ON a.v = fixed.v GROUP BY v",
         "mbiguous"},
        {"INSERT INTO out SELECT v AS x, ts AS x FROM a", "x"},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(ts, '-5 seconds')",
         "more than zero"},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(ts, INTERVAL '-5' SECOND)",
         "more than zero"},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(ts, '5 seconds', '-1 second')",
         "more than zero"},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(ts, '1 month')", "use days"},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(ts, INTERVAL '1' YEAR)",
         "use days"},
        {"INSERT INTO out SELECT count(*) FROM TUMBLE(TABLE a, DESCRIPTOR(ts), INTERVAL '1' MONTH)",
         "use days"},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(ts, '300000 years')", ""},
        {"INSERT INTO out SELECT count(*) FROM a GROUP BY window(v, '1 minute')",
         "needs a TIMESTAMP"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_error err;

        sql_flow_source(flow, "a", "v BIGINT, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '5 seconds'");
        sql_flow_static(flow, "fixed", "v BIGINT");
        sql_flow_sink(flow, "out", "", "append");
        sql_flow_text(flow, rows[i].text);
        CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, rows[i].part);
        CHECK(err.sql_line > 0);
        CHECK(strstr(err.text, "mr_") == NULL);
        sql_flow_free(flow);
    }
}

/* ---- Data ---- */

static enum mr_status put_file(struct test *t, const char *name, const char *text)
{
    char path[600];
    FILE *file;

    snprintf(path, sizeof(path), "%s", test_path(t, name));
    file = fopen(path, "w");
    CHECK(file != NULL);
    if (file == NULL)
        return MR_IO;
    fputs(text, file);
    fclose(file);
    return MR_OK;
}

/* Runs "SELECT list FROM in" over a file; rows of `out` as text, or the error. */
static enum mr_status run_file(struct test *t, const char *format, const char *columns,
                               const char *options, const char *list, struct sql_flow *flow,
                               const char **ret_rows, struct mr_error *err)
{
    struct mr_sql_args args = {.env = mr_env_posix()};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    struct mr_query *query = NULL;
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_printf(&sql,
                  "SET trigger = 'once'; SET checkpoint = '%s';\n"
                  "CREATE TABLE f (%s) WITH (connector = 'file', path = '%s', format = '%s'%s);\n",
                  test_path(t, "own"), columns, test_path(t, "in"), format, options);
    mr_buf_printf(&sql,
                  "CREATE TABLE out WITH (connector = 'memory', table = '%.100s.out');\n"
                  "INSERT INTO out SELECT %s;",
                  t->name, list);
    status = mr_sql_script_parse("test.sql", sql.data, sql.size, &script, err);
    if (status == MR_OK)
        status = mr_sql_plan(script, &args, &plan, err);
    if (status == MR_OK) {
        plan->config.retries = 0;
        status = mr_query_new(mr_env_posix(), plan->graph, &plan->config, &query, err);
        plan->graph = NULL;
    }
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    mr_buf_release(&sql);
    if (status == MR_OK && ret_rows != NULL)
        *ret_rows = sql_flow_last(flow, "out");
    return status;
}

static const char drifting[] = "{\"id\": 1, \"price\": 10}\n"
                               "{\"id\": 2, \"price\": 11, \"new\": \"x\"}\n" /* appears */
                               "{\"id\": 3}\n"                                /* disappears */
                               "{\"price\": 12, \"id\": 4}\n"                 /* in another order */
                               "{\"id\": 5, \"price\": null}\n"
                               "{\"id\": 6, \"price\": \"cheap\"}\n" /* another type */
                               "{\"id\": 7, \"price\": {\"eur\": 1}}\n"
                               "{\"id\": 8, \"price\": 13}\n";

TEST(a_schema_that_drifts_gives_nulls_and_bad_records)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_error err = {0};
    const char *rows = "";

    sql_flow_sink(flow, "out", "", "append");
    CHECK_OK(put_file(t, "in", drifting), NULL);
    CHECK_OK(run_file(t, "json", "id BIGINT, price BIGINT", ", on_error = 'skip'",
                      "id, price FROM f", flow, &rows, &err),
             &err);
    CHECK_EQ_STR(rows, "1|10\n2|11\n3|null\n4|12\n5|null\n8|13\n");
    sql_flow_free(flow);
}

TEST(a_type_that_changes_in_the_data_is_an_error_with_file_and_line)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_error err = {0};

    sql_flow_sink(flow, "out", "", "append");
    CHECK_OK(put_file(t, "in", drifting), NULL);
    CHECK_FAILS(
        run_file(t, "json", "id BIGINT, price BIGINT", "", "id, price FROM f", flow, NULL, &err),
        &err, MR_BAD_DATA, "line 6");
    CHECK(strstr(err.text, "price") != NULL);
    sql_flow_free(flow);
}

/* Timestamps as people write them: JSON and CSV read them the same way. */
static const struct {
    const char *text;
    const char *want; /* NULL: no timestamp */
} timestamps[] = {
    {"2024-02-29T12:34:56Z", "2024-02-29 12:34:56"},
    {"2024-02-29 12:34:56", "2024-02-29 12:34:56"},
    {"2024-02-29T12:34", "2024-02-29 12:34:00"},
    {"2024-02-29", "2024-02-29 00:00:00"},
    {"2024-02-29T12:34:56.7", "2024-02-29 12:34:56.7"},
    {"2024-02-29T12:34:56.789Z", "2024-02-29 12:34:56.789"},
    {"2024-02-29T12:34:56.123456789Z", "2024-02-29 12:34:56.123456"}, /* nanoseconds are cut */
    {"2024-02-29T12:34:56+01:00", "2024-02-29 11:34:56"},
    {"2024-02-29T00:30:00+0530", "2024-02-28 19:00:00"},
    {"2024-02-29T12:34:56-08", "2024-02-29 20:34:56"},
    {"1969-12-31T23:59:59.999999999Z", "1969-12-31 23:59:59.999999"}, /* toward the past */
    {"0001-01-01T00:00:00Z", "0001-01-01 00:00:00"},
    {"9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"},
    {"2023-02-29T00:00:00Z", NULL},
    {"2024-13-01T00:00:00Z", NULL},
    {"2024-01-01T24:00:01Z", NULL},
    {"2024-01-01T12:60:00Z", NULL},
    {"2024-01-01T12:00:00+25:00", NULL},
    {"+999999-01-01T00:00:00Z", NULL},
    {"300000-01-01T00:00:00Z", NULL},
    {"24-01-01", NULL},
    {"yesterday", NULL},
    {"2024-01-01T12:00:00Zulu", NULL},
};

/* As DuckDB would print it; trailing zeros of the fraction as wanted above. */
static void check_timestamps(struct test *t, const char *format, bool quoted)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_buf text = MR_BUF_INIT;
    struct mr_buf want = MR_BUF_INIT;
    struct mr_error err = {0};
    const char *rows = "";

    sql_flow_sink(flow, "out", "", "append");
    for (size_t i = 0; i < sizeof(timestamps) / sizeof(timestamps[0]); i++) {
        if (quoted)
            mr_buf_printf(&text, "{\"i\": %zu, \"ts\": \"%s\"}\n", i, timestamps[i].text);
        else
            mr_buf_printf(&text, "%zu,%s\n", i, timestamps[i].text);
        if (timestamps[i].want != NULL)
            mr_buf_printf(&want, "%zu|%s\n", i, timestamps[i].want);
    }
    CHECK_OK(put_file(t, "in", text.data), NULL);
    CHECK_OK(run_file(t, format, "i BIGINT, ts TIMESTAMP", ", on_error = 'skip'",
                      "i, ts::VARCHAR FROM f", flow, &rows, &err),
             &err);
    CHECK_EQ_STR(rows, want.data);
    mr_buf_release(&text);
    mr_buf_release(&want);
    sql_flow_free(flow);
}

TEST(S15_timestamps_in_json_are_iso_8601)
{
    check_timestamps(t, "json", true);
}

TEST(S15_timestamps_in_csv_are_iso_8601)
{
    check_timestamps(t, "csv", false);
}

TEST(S15_timestamps_of_nanoseconds_keep_them)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_error err = {0};
    const char *rows = "";

    sql_flow_sink(flow, "out", "", "append");
    CHECK_OK(put_file(t, "in",
                      "{\"ts\": \"2024-02-29T12:34:56.123456789+01:00\"}\n"
                      "{\"ts\": \"2263-01-01T00:00:00Z\"}\n"), /* past what 64 bits hold */
             NULL);
    CHECK_OK(run_file(t, "json", "ts TIMESTAMP(9)", ", on_error = 'skip'", "ts::VARCHAR FROM f",
                      flow, &rows, &err),
             &err);
    CHECK_EQ_STR(rows, "2024-02-29 11:34:56.123456789\n");
    sql_flow_free(flow);
}

TEST(keys_that_are_no_number_are_one_key_and_minus_zero_is_zero)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "d DOUBLE", "");
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_text(flow, "INSERT INTO out SELECT d, count(*) AS n FROM a GROUP BY d");
    sql_flow_step(flow, "a",
                  "('NaN'::DOUBLE), ('-NaN'::DOUBLE), (0.0), (-0.0), ('Infinity'::DOUBLE)");
    sql_flow_step(flow, "a", "('NaN'::DOUBLE), (-0.0), (NULL)");
    sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_upserted(flow, "out", 1), "0.0|3\nInfinity|1\nNaN|3\nnull|1\n");
    sql_flow_free(flow);
}

/* One run of "INSERT INTO out SELECT ..." over a step of table a; the status of the run. */
static enum mr_status run_once(struct test *t, const char *type, const char *values,
                               const char *select, struct mr_error *err)
{
    struct sql_flow *flow = sql_flow_new(t);
    struct mr_sql_args args = {.env = mr_env_posix()};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    struct mr_query *query = NULL;
    char columns[100];
    char text[900];
    enum mr_status status;

    snprintf(columns, sizeof(columns), "v %s", type);
    sql_flow_source(flow, "a", columns, "");
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_step(flow, "a", values);
    snprintf(text, sizeof(text),
             "SET trigger = 'once';\nCREATE TABLE a (v %s) WITH (connector = 'memory', table = "
             "'%.100s.a');\nCREATE TABLE out WITH (connector = 'memory', table = '%.100s.out', "
             "output_mode = 'complete');\nINSERT INTO out %s;",
             type, t->name, t->name, select);
    CHECK_OK(mr_sql_script_parse("test.sql", text, strlen(text), &script, err), err);
    CHECK_OK(mr_sql_plan(script, &args, &plan, err), err);
    plan->config.retries = 0;
    CHECK_OK(mr_query_new(mr_env_posix(), plan->graph, &plan->config, &query, err), err);
    plan->graph = NULL;
    status = mr_query_run(query, err);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    sql_flow_free(flow);
    return status;
}

TEST(a_sum_that_does_not_fit_is_an_error_and_never_another_number)
{
    static const char sum[] = "SELECT sum(v) AS s FROM a";
    struct mr_error err = {0};

    CHECK_FAILS(run_once(t, "BIGINT", "(9223372036854775807), (1)", sum, &err), &err, MR_BAD_DATA,
                "sum");
    CHECK_FAILS(run_once(t, "BIGINT", "(-9223372036854775808), (-1)", sum, &err), &err, MR_BAD_DATA,
                "sum");
    CHECK_OK(run_once(t, "BIGINT", "(9223372036854775807), (1), (-1)", sum, &err), &err);
    /* Infinity, as DuckDB has it */
    CHECK_OK(run_once(t, "DOUBLE", "(1e308), (1e308)", sum, &err), &err);
}

TEST(a_key_of_sixteen_megabytes_is_refused_with_its_limit)
{
    struct mr_error err = {0};

    CHECK_FAILS(run_once(t, "BIGINT", "(16777216), (3)",
                         "SELECT length(k) AS k, n FROM (SELECT repeat('x', v::INT) AS k, count(*) "
                         "AS n FROM a GROUP BY repeat('x', v::INT))",
                         &err),
                &err, MR_LIMIT, "a key of 16777219 bytes, the limit is 1048575");
    CHECK_OK(run_once(t, "BIGINT", "(1000000), (3)",
                      "SELECT length(k) AS k, n FROM (SELECT repeat('x', v::INT) AS k, count(*) AS "
                      "n FROM a GROUP BY repeat('x', v::INT))",
                      &err),
             &err);
}

/* A key that never pauses: one session that only grows, and the progress shows its state. */
TEST(a_session_that_never_closes_is_seen_in_the_progress)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, ts TIMESTAMP",
                    ", WATERMARK FOR ts AS ts - INTERVAL '5 seconds'");
    sql_flow_sink(flow, "out", "", "append");
    sql_flow_text(flow, "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k, "
                        "session_window(ts, '10 seconds')");
    for (int i = 0; i < 10; i++) {
        char rows[300];

        snprintf(rows, sizeof(rows),
                 "SELECT 1, make_timestamp((%d + v) * 1000000) FROM range(0, 100, 5) t(v)",
                 i * 100);
        sql_flow_step(flow, "a", rows);
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "");
        CHECK(strncmp(sql_flow_state(flow), "1/", 2) == 0);
    }
    sql_flow_step(flow, "a", "(2, TIMESTAMP '1970-01-02 00:00:00')");
    CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|200\n");
    sql_flow_free(flow);
}
