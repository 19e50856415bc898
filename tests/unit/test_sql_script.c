/*
 * src/sql: the statement parser, settings, and everything a SELECT over a stream is refused for,
 * with its place.
 */
#include "support/sql_flow.h"

#include "sql/internal.h"
#include "sql/paths.h"
#include "sql/plan.h"
#include "sql/settings.h"

#include <stdlib.h>

static enum mr_status parse(const char *text, struct mr_sql_script **ret_script,
                            struct mr_error *err)
{
    memset(err, 0, sizeof(*err));
    return mr_sql_script_parse("test.sql", text, strlen(text), ret_script, err);
}

static struct mr_sql_script *parsed(const char *text)
{
    struct mr_sql_script *script;
    struct mr_error err;

    CHECK_OK(parse(text, &script, &err), &err);
    return script;
}

TEST(statements_end_with_semicolons_and_comments_are_skipped)
{
    struct mr_sql_script *script =
        parsed("-- a comment; with a semicolon\n"
               "SET a.b = 5 seconds; /* another; /* nested */ */ SET 'c' = 'd;e';;\n"
               "SELECT ';' FROM t");

    CHECK_EQ_INT(script->count, 3);
    CHECK_EQ_STR(script->statements[0].options[0].key, "a.b");
    CHECK_EQ_STR(script->statements[0].options[0].value, "5 seconds");
    CHECK_EQ_STR(script->statements[1].options[0].key, "c");
    CHECK_EQ_STR(script->statements[1].options[0].value, "d;e");
    CHECK_EQ_INT(script->statements[2].kind, MR_SQL_SELECT);
    CHECK_EQ_INT(script->statements[2].select_size, strlen("SELECT ';' FROM t"));
    mr_sql_script_free(script);
}

TEST(a_setting_is_found_without_a_plan_whatever_name_it_was_given_by)
{
    struct mr_sql_script *script = parsed("SET checkpoint = 'first'; SET library = './l.so';"
                                          "SET checkpointLocation = 'last'; SELECT 1 FROM t");
    const struct mr_option_pair given[] = {{"library", "./m.so"}, {"LIBRARY", "./n.so"}};

    CHECK_EQ_STR(mr_sql_setting(script, NULL, 0, "checkpoint"), "last");
    CHECK_EQ_STR(mr_sql_setting(script, NULL, 0, "library"), "./l.so");
    CHECK_EQ_STR(mr_sql_setting(script, given, 2, "library"), "./n.so");
    CHECK_EQ_STR(mr_sql_setting(script, given, 2, "checkpoint"), "last");
    CHECK_NULL(mr_sql_setting(script, given, 2, "trigger"));
    mr_sql_script_free(script);
}

TEST(a_table_has_columns_a_watermark_and_options)
{
    struct mr_sql_script *script = parsed("CREATE TABLE IF NOT EXISTS \"my clicks\" (\n"
                                          "  user_id BIGINT, price DECIMAL(10, 2), tags VARCHAR[], "
                                          "s STRUCT(a INT, b VARCHAR), ts TIMESTAMP,\n"
                                          "  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND\n"
                                          ") WITH (connector = 'kafka', 'topic' = 'it''s', "
                                          "kafka.security.protocol = SSL, max = -1);");
    const struct mr_sql_statement *table = &script->statements[0];

    CHECK_EQ_INT(table->kind, MR_SQL_TABLE);
    CHECK_EQ_STR(table->name, "my clicks");
    CHECK_EQ_INT(mr_schema_field_count(table->columns), 5);
    CHECK_EQ_STR(table->watermark, "ts");
    CHECK_EQ_INT(table->watermark_delay_us, 5000000);
    CHECK_EQ_INT(table->option_count, 4);
    CHECK_EQ_STR(table->options[1].key, "topic");
    CHECK_EQ_STR(table->options[1].value, "it's");
    CHECK_EQ_STR(table->options[2].key, "kafka.security.protocol");
    CHECK_EQ_STR(table->options[2].value, "SSL");
    CHECK_EQ_STR(table->options[3].value, "-1");
    mr_sql_script_free(script);
}

TEST(views_and_inserts_keep_the_text_of_their_select)
{
    struct mr_sql_script *script =
        parsed("CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1;\n"
               "INSERT INTO out (a, \"b c\") SELECT 1, 2 ;\nINSERT INTO x (SELECT 3);");

    CHECK_EQ_STR(script->statements[0].name, "v");
    CHECK_EQ_INT(memcmp(script->text + script->statements[0].select_at, "SELECT 1", 8), 0);
    CHECK_EQ_INT(script->statements[1].insert_column_count, 2);
    CHECK_EQ_STR(script->statements[1].insert_columns[1], "b c");
    CHECK_EQ_INT(script->statements[1].select_size, strlen("SELECT 1, 2"));
    CHECK_EQ_INT(script->statements[2].insert_column_count, 0);
    mr_sql_script_free(script);
}

TEST(the_environment_is_read_inside_texts)
{
    struct mr_sql_script *script;
    struct mr_error err;

    setenv("MR_TEST_SQL_HOST", "example:9092", 1);
    unsetenv("MR_TEST_SQL_NONE");
    script = parsed(
        "CREATE TABLE t (a INT) WITH (connector = 'kafka', brokers = '${MR_TEST_SQL_HOST},x');");
    CHECK_EQ_STR(script->statements[0].options[1].value, "example:9092,x");
    mr_sql_script_free(script);
    CHECK_FAILS(parse("SET x = 'a${MR_TEST_SQL_NONE}';", &script, &err), &err, MR_CONFIG,
                "environment variable 'MR_TEST_SQL_NONE' is not set");
    CHECK_EQ_INT(err.sql_line, 1);
    CHECK_EQ_INT(err.sql_column, 9);
}

TEST(delays_of_watermarks_WM_17)
{
    static const struct {
        const char *delay;
        int64_t us; /* -1: refused */
    } rows[] = {
        {"INTERVAL '3' DAY", INT64_C(259200000000)},
        {"INTERVAL '3 days'", INT64_C(259200000000)},
        {"interval '5 hours'", INT64_C(18000000000)},
        {"INTERVAL '8 minutes'", INT64_C(480000000)},
        {"INTERVAL '0 seconds'", 0},
        {"'10 seconds'", 10000000},
        {"3 days", INT64_C(259200000000)},
        {"interval 3 day", INT64_C(259200000000)},
        {"inTerval '3' day", INT64_C(259200000000)},
        {" 5 hours", INT64_C(18000000000)},
        {"\t8 minutes", INT64_C(480000000)},
        {"'1 day 2 hours 3 minutes 4 seconds'", INT64_C(93784000000)},
        {"interval '1 2:3:4' day to second", INT64_C(93784000000)},
        {"INTERVAL '2:3:4.5' HOUR TO SECOND", INT64_C(7384500000)},
        {"INTERVAL '2:3' HOUR TO MINUTE", INT64_C(7380000000)},
        {"INTERVAL 10 SECONDS", 10000000},
        {"1 months", -1}, /* Spark: of 31 days */
        {"1 years", -1},
        {"1 year 2 months", -1},
        {"interval '1-2' year to month", -1},
        {"1 foo", -1},
        {"interva 2 day", -1},
        {"interval 4 foo", -1},
        {"INTERVAL '1 foo'", -1},
        {"interval '1 2:3:4' day to hour", -1},
        {"interval '1 2' year to month", -1},
        {"-1 year", -1},
        {"1 year -13 months", -1},
        {"1 month -40 days", -1},
        {"-10 seconds", -1},
        {"INTERVAL '-10 seconds'", -1},
        {"INTERVAL '-1 2:3:4' DAY TO SECOND", -1},
        {"5", -1},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mr_sql_script *script;
        struct mr_error err;
        char text[200];
        enum mr_status status;

        snprintf(
            text, sizeof(text),
            "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts - %s) WITH (connector = 'x');",
            rows[i].delay);
        status = parse(text, &script, &err);
        if (rows[i].us < 0) {
            CHECK_FAILS(status, &err, MR_SQL_ERROR, "is no delay of a watermark");
            continue;
        }
        CHECK_OK(status, &err);
        CHECK_EQ_INT(script->statements[0].watermark_delay_us, rows[i].us);
        mr_sql_script_free(script);
    }
}

TEST(mistakes_in_statements_have_their_place)
{
    static const struct {
        const char *text;
        uint32_t line;
        uint32_t column;
        const char *part;
    } rows[] = {
        {"DELETE FROM t;", 1, 1,
         "expected CREATE TABLE, CREATE VIEW, SET, INSERT INTO or SELECT, found 'DELETE'"},
        {"CREATE TABLE t (a INT)\n  SELECT", 2, 3, "expected WITH"},
        {"CREATE TABLE t (a INT,\n  b NOSUCHTYPE) WITH (x = 1)", 2, 3, "NOSUCHTYPE"},
        {"CREATE TABLE t (a INT, a INT) WITH (x = 1)", 1, 16, "a"},
        {"CREATE TABLE t (a INT, WATERMARK FOR b AS b) WITH (x = 1)", 1, 38, "no column 'b'"},
        {"CREATE TABLE t (a INT, WATERMARK FOR a AS a) WITH (x = 1)", 1, 38, "must be a TIMESTAMP"},
        {"CREATE TABLE t (a TIMESTAMP, WATERMARK FOR a AS b - INTERVAL '1 s') WITH (x = 1)", 1, 49,
         "its own column"},
        {"CREATE TABLE t (a INT) WITH (x 1)", 1, 32, "expected '='"},
        {"CREATE TABLE t (a INT UNIQUE) WITH (x = 1)", 1, 23, "not supported"},
        {"CREATE TABLE t (a INT, CONSTRAINT c CHECK (a > 0)) WITH (x = 1)", 1, 37,
         "expected PRIMARY KEY"},
        {"CREATE TABLE t (a INT METADATA FROM 'offset') WITH (x = 1)", 1, 23,
         "METADATA columns are not supported"},
        {"CREATE TABLE t (a MAP<STRING, INT>) WITH (x = 1)", 1, 19, "STRUCT(key"},
        {"CREATE TABLE t (a INT, WATERMARK FOR ts AS ts) WITH (x = 1)", 1, 38, "no column 'ts'"},
        {"CREATE TABLE t (event TIMESTAMP, WATERMARK FOR evnt AS evnt) WITH (x = 1)", 1, 48,
         "did you mean 'event'?"},
        {"CREATE TABLE t (a INT) PARTITIONED BY (a) WITH (x = 1)", 1, 24, "are options"},
        {"CREATE TABLE t (a INT) USING kafka", 0, 0, NULL},
        {"CREATE TABEL t (a INT) WITH (x = 1)", 1, 8, "did you mean 'TABLE'?"},
        {"SELCT a FROM t", 1, 1, "did you mean 'SELECT'?"},
        {"INSERT INTO t SELCT 1", 1, 15, "did you mean 'SELECT'?"},
        {"INSERT INOT t SELECT 1", 1, 8, "did you mean 'INTO'?"},
        {"CREATE VIEW v WITH (connector = 'x') AS SELECT 1", 1, 13, "MATERIALIZED VIEW"},
        {"CREATE STREAMING TABLE t (a INT) AS SELECT 1", 1, 24, "no connector"},
        {"CREATE FLOW f AS SELECT 1", 1, 18, "expected INSERT INTO"},
        {"INSERT OVERWRITE t SELECT 1", 1, 8, "output_mode = 'complete'"},
        {"INSERT INTO t (a) BY NAME SELECT 1", 1, 13, "both"},
        {"DROP TABLE t", 1, 1, "leave DROP out"},
        {"EXPLAIN CREATE TABLE t (a INT) WITH (x = 1)", 1, 9, "after EXPLAIN"},
        {"TEST 'a' BEGIN ASSERT t = VALUES (1);", 1, 6, "has no END"},
        {"CREATE TABLE `t (a INT)", 1, 14, "no closing `"},
        {"SET x", 1, 6, "expected '=' after the name of a setting, found the end of the text"},
        {"INSERT t SELECT 1", 1, 8, "expected INTO"},
        {"CREATE VIEW v AS\n\n  DROP TABLE x", 3, 3, "expected SELECT"},
        {"SELECT 'a", 1, 8, "no closing"},
        {"SELECT 1 /* x", 1, 10, "no '*/'"},
        {"SET a = '${}';", 1, 9, "without a name"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct mr_sql_script *script;
        struct mr_error err;

        if (rows[i].part == NULL) {
            CHECK_OK(parse(rows[i].text, &script, &err), &err);
            mr_sql_script_free(script);
            continue;
        }
        CHECK_FAILS(parse(rows[i].text, &script, &err), &err, MR_SQL_ERROR, rows[i].part);
        CHECK_EQ_INT(err.sql_line, rows[i].line);
        CHECK_EQ_INT(err.sql_column, rows[i].column);
    }
}

/* One row of a table of synonyms: both texts give the same statements. */
static void check_same(struct test *t, const char *text, const char *plain)
{
    struct sql_flow *flow = sql_flow_new(t); /* registers the plug-ins: USING asks for them */
    struct mr_sql_script *a = parsed(text);
    struct mr_sql_script *b = parsed(plain);

    CHECK_EQ_INT(a->count, b->count);
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        const struct mr_sql_statement *x = &a->statements[i];
        const struct mr_sql_statement *y = &b->statements[i];

        CHECK_EQ_INT(x->kind, y->kind);
        CHECK_EQ_STR(x->name != NULL ? x->name : "", y->name != NULL ? y->name : "");
        CHECK_EQ_STR(x->watermark != NULL ? x->watermark : "",
                     y->watermark != NULL ? y->watermark : "");
        CHECK_EQ_INT(x->watermark_delay_us, y->watermark_delay_us);
        CHECK_EQ_INT(x->by_name, y->by_name);
        CHECK_EQ_INT(x->select_size, y->select_size);
        CHECK_EQ_INT(memcmp(a->text + x->select_at, b->text + y->select_at, x->select_size), 0);
        CHECK((x->columns == NULL) == (y->columns == NULL));
        CHECK(x->columns == NULL || mr_schema_equal(x->columns, y->columns));
        CHECK_EQ_INT(x->option_count, y->option_count);
        for (size_t k = 0; k < x->option_count && k < y->option_count; k++) {
            CHECK_EQ_STR(x->options[k].key, y->options[k].key);
            CHECK_EQ_STR(x->options[k].value, y->options[k].value);
        }
    }
    mr_sql_script_free(a);
    mr_sql_script_free(b);
    sql_flow_free(flow);
}

TEST(words_of_other_dialects_mean_the_same_statements)
{
    static const struct {
        const char *text;
        const char *plain;
    } rows[] = {
        {"CREATE SOURCE t (a INT) WITH (connector = 'x')",
         "CREATE TABLE t (a INT) WITH (connector = 'x')"},
        {"CREATE SINK t (a INT) WITH ('connector' = 'x', \"k\" = 'v', `l` = 'w')",
         "CREATE TABLE t (a INT) WITH (connector = 'x', k = 'v', l = 'w')"},
        {"CREATE OR REPLACE STREAM t (a INT) WITH (connector = x)",
         "CREATE TABLE t (a INT) WITH (connector = 'x')"},
        {"CREATE TEMPORARY TABLE IF NOT EXISTS `t` (`a` INT) WITH (connector = 'x')",
         "CREATE TABLE t (a INT) WITH (connector = 'x')"},
        {"CREATE STREAMING TABLE t (a INT) WITH (connector = 'x')",
         "CREATE TABLE t (a INT) WITH (connector = 'x')"},
        {"CREATE TABLE t (a INT) USING kafka OPTIONS (subscribe 'x', 'kafka.bootstrap.servers' = "
         "'y')",
         "CREATE TABLE t (a INT) WITH (connector = 'kafka', subscribe = 'x', "
         "kafka.bootstrap.servers = 'y')"},
        {"CREATE TABLE t (a INT) USING json OPTIONS (path 'x') COMMENT 'files'",
         "CREATE TABLE t (a INT) WITH (connector = 'file', format = 'json', path = 'x')"},
        {"CREATE TABLE t (a INT64 NOT NULL COMMENT 'id', b STRING, c TIMESTAMP_LTZ(3), "
         "d ARRAY<STRING>, e STRUCT<x: INT, y: ARRAY<DOUBLE>>, f DECIMAL(10, 2), g ROW<z BYTES>, "
         "PRIMARY KEY (a) NOT ENFORCED) WITH (connector = 'x')",
         "CREATE TABLE t (a BIGINT, b VARCHAR, c TIMESTAMP, d VARCHAR[], e STRUCT(x INT, y "
         "DOUBLE[]), f DECIMAL(10, 2), g STRUCT(z BLOB)) WITH (connector = 'x')"},
        {"CREATE TABLE t (a INT PRIMARY KEY NOT ENFORCED, CONSTRAINT k PRIMARY KEY (a)) WITH "
         "(connector = 'x')",
         "CREATE TABLE t (a INT) WITH (connector = 'x')"},
        {"CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH (connector = 'x')",
         "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0 s') WITH (connector = "
         "'x')"},
        {"CREATE TABLE t (ts TIMESTAMP, WATERMARK ts DELAY OF INTERVAL 5 SECONDS) WITH (connector "
         "= 'x')",
         "CREATE TABLE t (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH "
         "(connector = 'x')"},
        {"SET k TO v", "SET k = 'v'"},
        {"SET 'k' = 'v'", "SET k = v"},
        {"CREATE FLOW f AS INSERT INTO x BY NAME SELECT 1", "INSERT INTO x BY NAME SELECT 1"},
        {"INSERT INTO TABLE x SELECT 1", "INSERT INTO x SELECT 1"},
        {"EXECUTE STATEMENT SET BEGIN INSERT INTO x SELECT 1; INSERT INTO y SELECT 2; END;",
         "INSERT INTO x SELECT 1; INSERT INTO y SELECT 2"},
        {"BEGIN STATEMENT SET; INSERT INTO x SELECT 1; END;", "INSERT INTO x SELECT 1"},
        {"#!/usr/bin/env -S millrace run\n/* a /* b */ */ SELECT 1 -- c", "SELECT 1"},
        {"CREATE MATERIALIZED VIEW IF NOT EXISTS v COMMENT 'c' AS SELECT 1",
         "CREATE VIEW v AS SELECT 1"},
        {"CREATE STREAMING TABLE v AS SELECT 1", "CREATE VIEW v AS SELECT 1"},
        {"TEST 'late; rows' AS BEGIN INSERT INTO t SELECT CASE WHEN a THEN 1 END; END; SELECT 1",
         "TEST 'late; rows' BEGIN INSERT INTO t SELECT CASE WHEN a THEN 1 END; END;; SELECT 1;"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        check_same(t, rows[i].text, rows[i].plain);
}

TEST(a_table_made_by_a_select_is_a_view_a_table_and_an_insert)
{
    struct mr_sql_script *script =
        parsed("CREATE STREAMING TABLE x (a INT) WITH (connector = 'y') AS SELECT 1;\n"
               "CREATE VIEW v (p, q) AS SELECT 1, 2;\nEXPLAIN PLAN FOR SELECT 3");

    CHECK_EQ_INT(script->count, 5);
    CHECK_EQ_INT(script->statements[0].kind, MR_SQL_VIEW);
    CHECK_EQ_INT(script->statements[0].option_count, 0);
    CHECK_EQ_INT(script->statements[1].kind, MR_SQL_TABLE);
    CHECK_EQ_INT(script->statements[1].option_count, 1);
    CHECK_EQ_INT(mr_schema_field_count(script->statements[1].columns), 1);
    CHECK_EQ_INT(script->statements[2].kind, MR_SQL_INSERT);
    CHECK(script->statements[2].whole_view);
    CHECK_EQ_INT(script->statements[3].insert_column_count, 2);
    CHECK(script->statements[4].explain);
    mr_sql_script_free(script);
}

TEST(bytes_that_are_not_text_are_refused)
{
    struct mr_sql_script *script;
    struct mr_error err = {0};

    CHECK_FAILS(mr_sql_script_parse("x", "SELECT 1\n\xff", 10, &script, &err), &err, MR_SQL_ERROR,
                "UTF-8");
    CHECK_EQ_INT(err.sql_line, 2);
    CHECK_FAILS(mr_sql_script_parse("x", "SELECT 1\0 2", 11, &script, &err), &err, MR_SQL_ERROR,
                "NUL");
}

TEST(triggers_are_intervals_or_words)
{
    static const struct {
        const char *text;
        enum mr_trigger_kind kind;
        int64_t us;
    } rows[] = {
        {"1 second", MR_TRIGGER_INTERVAL, 1000000},
        {"500 ms", MR_TRIGGER_INTERVAL, 500000},
        {"asap", MR_TRIGGER_ASAP, 0},
        {"Once", MR_TRIGGER_ONCE, 0},
        {"until caught up", MR_TRIGGER_CAUGHT_UP, 0},
        {"availableNow", MR_TRIGGER_CAUGHT_UP, 0},
        {"0 seconds", MR_TRIGGER_ASAP, 0},
        {"interval 2 minutes", MR_TRIGGER_INTERVAL, 120000000},
        {"available now", MR_TRIGGER_CAUGHT_UP, 0},
        {"continuous", MR_TRIGGER_CONTINUOUS, 0},
        {"CONTINUOUS '1 second'", MR_TRIGGER_CONTINUOUS, 0},
        {"Continuous(1 second)", MR_TRIGGER_CONTINUOUS, 0},
        {"real time", MR_TRIGGER_CONTINUOUS, 0},
        {"realTime '5 minutes'", MR_TRIGGER_CONTINUOUS, 0},
    };
    static const char *const refused[][2] = {
        {"1 month", "months and years have no fixed length"},
        {"2 years", "months and years have no fixed length"},
        {"-1 second", "unknown trigger '-1 second'"},
        {"continuous '1 month'", "months and years have no fixed length"},
        {"continous", "did you mean 'continuous'?"},
        {"continuously", "did you mean 'continuous'?"},
        {"5 apples", "unknown trigger"},
        {"", "unknown trigger ''"},
    };
    enum mr_trigger_kind kind;
    struct mr_error err = {0};
    int64_t us;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        CHECK_OK(mr_sql_trigger_parse(rows[i].text, &kind, &us, &err), &err);
        CHECK_EQ_INT(kind, rows[i].kind);
        CHECK_EQ_INT(us, rows[i].us);
    }
    CHECK_FAILS(mr_sql_trigger_parse("soon", &kind, &us, &err), &err, MR_CONFIG,
                "unknown trigger 'soon'");
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        CHECK_FAILS(mr_sql_trigger_parse(refused[i][0], &kind, &us, &err), &err, MR_CONFIG,
                    refused[i][1]);
}

/* ---- Planning ---- */

struct refusal {
    const char *select; /* the text of INSERT INTO out ..., on a line of its own */
    uint32_t column;    /* 0: anywhere */
    const char *part;
};

static void check_refusals(struct test *t, const char *mode, const struct refusal *rows,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sql_flow *flow = sql_flow_new(t);
        struct mr_error err;

        sql_flow_source(flow, "t", "a BIGINT, b VARCHAR, ts TIMESTAMP",
                        ", WATERMARK FOR ts AS ts - INTERVAL '5 seconds'");
        sql_flow_source(flow, "u", "a BIGINT, c VARCHAR", "");
        sql_flow_static(flow, "fixed", "k BIGINT, name VARCHAR");
        sql_flow_sink(flow, "out", "", mode);
        sql_flow_text(flow, "INSERT INTO out");
        sql_flow_text(flow, rows[i].select);
        CHECK_FAILS(sql_flow_check(flow, &err), &err, MR_SQL_ERROR, rows[i].part);
        CHECK(strchr(err.text, '\n') == NULL);
        CHECK(strstr(err.text, "mr_input") == NULL);
        if (rows[i].column != 0) {
            CHECK_EQ_INT(err.sql_line, 8);
            CHECK_EQ_INT(err.sql_column, rows[i].column);
        }
        sql_flow_free(flow);
    }
}

TEST(plain_selects_are_refused_with_their_place)
{
    static const struct refusal rows[] = {
        {"SELECT nosuch FROM t", 8, "there is no column 'nosuch' here; its tables have a, b, ts"},
        {"SELECT a + nosuch AS x FROM t", 12, "there is no column 'nosuch' here"},
        {"SELECT tss + a AS x FROM t", 8, "there is no column 'tss' here"},
        {"SELECT nosuch(a) FROM t", 8, "there is no function 'nosuch'"},
        {"SELECT uper(b) FROM t", 8, "there is no function 'uper'; did you mean 'upper'?"},
        {"SELECT x.a FROM t", 8, "there is no table or column 'x' in this FROM"},
        {"SELECT a FORM t", 10, "syntax error at or near 'FORM'; did you mean 'FROM'?"},
        {"SELECT a FROM t GROPU BY a", 17, "did you mean 'GROUP'?"},
        {"SELECT a FROM t WHERE a = 1 AND b || 'x' = 1 AND a + b > 0", 0, ""},
        {"SELECT b AS a, a + [1] AS c FROM t", 0, "no function matches"},
        {"SELECT a FROM nosuch", 15, "there is no table 'nosuch'"},
        {"SELECT a FROM fixd", 15, "did you mean 'fixed'?"},
        {"SELECT a b c FROM t", 12, "syntax error at or near \"c\""},
        {"SELECT a FROM t ORDER BY a", 26, "ORDER BY needs the whole result"},
        {"SELECT a FROM t WHERE a IN (SELECT a FROM u)", 0, "static tables only"},
        {"SELECT row_number() OVER () AS r FROM t", 8, "OVER"},
        {"SELECT random() FROM t", 8, "when a batch runs again"},
        {"SELECT a FROM t, read_csv('x.csv')", 18, "table function 'read_csv'"},
        {"SELECT a FROM t TABLESAMPLE 10%", 0, "samples"},
        {"SELECT 1", 0, "reads no stream"},
        {"SELECT k FROM fixed", 0, "reads no stream"},
        {"SELECT a FROM t UNION ALL SELECT a, c FROM u", 0, "must have as many"},
        {"SELECT a, INTERVAL '1 day' AS i FROM t", 0, "column 'i' has type INTERVAL"},
        {"SELECT a, b AS a FROM t", 0, "'a'"},
    };

    check_refusals(t, "append", rows, sizeof(rows) / sizeof(rows[0]));
}

TEST(aggregations_are_refused_with_their_place)
{
    static const struct refusal rows[] = {
        {"SELECT b, a FROM t GROUP BY b", 11, "column 'a' must be in GROUP BY"},
        {"SELECT nosuch, count(*) FROM t GROUP BY b", 8, "there is no column 'nosuch'"},
        {"SELECT approx_top_k(a, 3) FROM t", 8, "use count(*) GROUP BY the value"},
        {"SELECT sum(count(*)) FROM t", 12, "inside another"},
        {"SELECT count(*) FROM t GROUP BY count(*)", 33, "cannot be in GROUP BY"},
        {"SELECT * FROM t GROUP BY b", 8, "name the columns"},
        {"SELECT count(*) FROM t GROUP BY 7", 33, "the list has 1 columns"},
        {"SELECT count(*) FROM t GROUP BY window(ts, '1 month')", 0, "days"},
        {"SELECT count(*) FROM t GROUP BY window(ts, '2 apples')", 0, "length of time"},
        {"SELECT count(*) FROM t GROUP BY window(ts, '0 seconds')", 33, "more than zero"},
        {"SELECT count(*) FROM t GROUP BY window(ts, '5 seconds', '6 seconds')", 33, "slide"},
        {"SELECT count(*) FROM t GROUP BY window(ts, '5 seconds', '5 seconds', '5 seconds')", 33,
         "start"},
        {"SELECT count(*) FROM t GROUP BY session_window(ts, '5 minutes')", 0,
         "sessions need another key in GROUP BY"},
        {"SELECT count(*) FROM t GROUP BY window(a, '5 seconds')", 0, "needs a TIMESTAMP"},
        {"SELECT count(*) FROM t GROUP BY window(ts, '5 seconds'), window(ts, '6 seconds')", 58,
         "two different windows"},
        {"SELECT window(ts, '1 second'), count(*) FROM t GROUP BY b", 8,
         "must be the one in GROUP BY"},
        {"SELECT sum(b) FROM t", 0, ""},
        {"SELECT count(*) FROM TUMBLE(TABLE t, DESCRIPTOR(nosuch), INTERVAL '1 minute')", 0,
         "no column 'nosuch'"},
        {"SELECT count(*) FROM TUMBLE(TABLE t, ts, INTERVAL '1 minute')", 0,
         "write TUMBLE(TABLE t, DESCRIPTOR(ts)"},
    };

    check_refusals(t, "complete", rows, sizeof(rows) / sizeof(rows[0]));
}

static void check_script(struct test *t, const char *text, enum mr_status want, uint32_t line,
                         const char *part)
{
    struct sql_flow *flow = sql_flow_new(t); /* registers the plug-ins */
    struct mr_sql_args args = {.env = mr_env_posix()};
    struct mr_sql_script *script = parsed(text);
    struct mr_error err = {0};
    char *description;

    CHECK_FAILS(mr_sql_check(script, &args, &description, &err), &err, want, part);
    CHECK_EQ_INT(err.sql_line, line);
    mr_sql_script_free(script);
    sql_flow_free(flow);
}

TEST(tables_settings_and_sinks_are_checked)
{
    check_script(t, "\nSET triggr = '1 second';\nSELECT 1 FROM t", MR_CONFIG, 2, "trigger");
    check_script(t,
                 "SET trigger = 'soon';\nCREATE TABLE t (a INT) WITH (connector = "
                 "'memory');\nSELECT a FROM t",
                 MR_CONFIG, 0, "unknown trigger");
    check_script(t, "CREATE TABLE t (a INT) WITH (connector = 'memry');\nSELECT a FROM t",
                 MR_CONFIG, 1, "did you mean 'memory'?");
    check_script(
        t, "\nCREATE TABLE t (a INT) WITH (connector = 'memory', partitons = 2);\nSELECT a FROM t",
        MR_CONFIG, 2, "partitions");
    check_script(t, "CREATE TABLE t (a INT) WITH (topic = 'x');\nSELECT a FROM t", MR_CONFIG, 1,
                 "has no connector");
    check_script(t, "CREATE TABLE t WITH (connector = 'memory');\nSELECT a FROM t", MR_SQL_ERROR, 1,
                 "declares no columns");
    check_script(t,
                 "CREATE TABLE t (a INT) WITH (connector = 'memory');\nCREATE VIEW T AS SELECT "
                 "1;\nSELECT a FROM t",
                 MR_SQL_ERROR, 2, "defined twice");
    check_script(t, "CREATE VIEW v AS SELECT * FROM v;\nSELECT * FROM v", MR_SQL_ERROR, 1,
                 "made of itself");
    check_script(t, "SET trigger = 'once';", MR_SQL_ERROR, 0, "nothing to run");
    check_script(
        t, "CREATE TABLE t (a INT) WITH (connector = 'memory');\nINSERT INTO o SELECT a FROM t;",
        MR_SQL_ERROR, 2, "there is no table 'o'");
    check_script(t,
                 "CREATE TABLE t (a INT) WITH (connector = 'memory');\nINSERT INTO t SELECT a FROM "
                 "t;\nSELECT a FROM t;",
                 MR_SQL_ERROR, 3, "would go nowhere");
}

TEST(rows_that_do_not_fit_their_table_are_refused)
{
    static const char head[] = "CREATE TABLE t (a INT, b VARCHAR) WITH (connector = 'memory');\n"
                               "CREATE TABLE o (x TIMESTAMP, y VARCHAR) WITH (connector = "
                               "'memory', output_mode = 'append');\n";
    char text[600];

    snprintf(text, sizeof(text), "%sINSERT INTO o SELECT a, b FROM t;", head);
    check_script(
        t, text, MR_SQL_ERROR, 3,
        "column 1, 'a', is INTEGER and cannot become 'x' TIMESTAMP; cast it in the SELECT");
    snprintf(text, sizeof(text), "%sINSERT INTO o SELECT a FROM t;", head);
    check_script(t, text, MR_SQL_ERROR, 3, "table 'o' has 2 columns, but the SELECT gives 1");
    snprintf(text, sizeof(text), "%sINSERT INTO o (x, z) SELECT a, b FROM t;", head);
    check_script(t, text, MR_SQL_ERROR, 3, "table 'o' has no column 'z'");
    snprintf(text, sizeof(text), "%sINSERT INTO o (y) SELECT a, b FROM t;", head);
    check_script(t, text, MR_SQL_ERROR, 3, "names 1 columns, but the SELECT gives 2");
}

/* ---- Aggregates of the library ---- */

static enum mr_status check_names(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    (void)err;
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_slice name = mr_column_text(mr_batch_column(batch, 0), i);
        struct mr_json function = {.kind = MR_JSON_OBJECT};
        struct mr_arena arena = MR_ARENA_INIT;
        char text[200];

        snprintf(text, sizeof(text), "%.*s", (int)name.size_bytes, name.data);
        mr_json_put(&arena, &function, "class", mr_json_new_string(&arena, "FUNCTION"));
        mr_json_put(&arena, &function, "function_name", mr_json_new_string(&arena, text));
        if (!mr_sql__is_aggregate(&function))
            FAIL("'%s' is an aggregate function that the planner takes for a scalar one", text);
        mr_arena_release(&arena);
        ++*(int *)arg;
    }
    return MR_OK;
}

TEST(every_aggregate_function_of_the_library_is_known)
{
    struct mr_duck *duck;
    struct mr_error err = {0};
    int count = 0;

    CHECK_OK(mr_duck_open(&duck, &err), &err);
    CHECK_OK(mr_duck_exec(duck,
                          "SELECT DISTINCT function_name FROM duckdb_functions() WHERE "
                          "function_type = 'aggregate'",
                          check_names, &count, &err),
             &err);
    CHECK(count > 50);
    mr_duck_close(duck);
}

TEST(a_script_survives_failing_allocations)
{
    static const char text[] =
        "SET a = 'b';\nCREATE TABLE t (a INT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 "
        "s') WITH "
        "(connector = 'memory', x = y);\nCREATE VIEW v AS SELECT 1;\nINSERT INTO t (a) SELECT 2;";
    bool done = false;

    for (uint64_t nth = 1; !done && nth < 1000; nth++) {
        struct mr_sql_script *script = NULL;
        struct mr_error err;
        enum mr_status status;

        mr_alloc_fail_at(nth, false);
        status = parse(text, &script, &err);
        done = status == MR_OK;
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_OK || status == MR_NOMEM);
        mr_sql_script_free(status == MR_OK ? script : NULL);
    }
    CHECK(done);
}

TEST(a_plan_survives_failing_allocations)
{
    static const char text[] =
        "CREATE TABLE t (a INT, b VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 s') "
        "WITH (connector = 'memory');\n"
        "CREATE TABLE o (s TIMESTAMP, b VARCHAR, n BIGINT) WITH (connector = 'memory');\n"
        "CREATE VIEW v AS SELECT upper(b) AS b, ts FROM t WHERE a > 1;\n"
        "INSERT INTO o SELECT window_start, b, count(*) FROM v GROUP BY window(ts, '5 seconds'), "
        "b;";
    struct sql_flow *flow = sql_flow_new(t); /* registers the plug-ins */
    struct mr_sql_args args = {.env = mr_env_posix(), .check_only = true};
    struct mr_sql_script *script = parsed(text);
    uint64_t stride = 7;
    bool done = false;

    for (uint64_t nth = 1; !done && nth < 100000; nth += stride) {
        struct mr_error err = {0};
        char *description = NULL;
        enum mr_status status;

        mr_alloc_fail_at(nth, false);
        status = mr_sql_check(script, &args, &description, &err);
        done = status == MR_OK;
        mr_alloc_fail_at(0, false);
        CHECK(status != MR_OK || description != NULL);
        if (status != MR_OK && status != MR_NOMEM)
            FAIL("allocation %llu: %s", (unsigned long long)nth, err.text);
        mr_text_free(description);
        stride = nth > 200 ? 61 : 7;
    }
    CHECK(done);
    mr_sql_script_free(script);
    sql_flow_free(flow);
}
