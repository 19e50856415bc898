/*
 * src/duck: every type in and out, errors with their places, statements that run again and again,
 * syntax trees, Parquet.
 */
#include "support/test.h"

#include "base/buf.h"
#include "duck/duck.h"

#include <millrace/ext/builder.h>
#include <millrace/ext/format.h>

#include <stdlib.h>

/* Rows as text: "a|b\n" each, as print shows values. */
static enum mr_status add_rows(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_buf *out = arg;
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));

    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row row = {batch, i};

        for (uint32_t k = 0; k < columns; k++) {
            char text[4096];
            size_t size = mr_row_print(&row, k, text, sizeof(text));

            mr_buf_add(out, text, size < sizeof(text) ? size : sizeof(text) - 1);
            mr_buf_add_char(out, k + 1 < columns ? '|' : '\n');
        }
    }
    (void)err;
    return MR_OK;
}

static enum mr_status count_rows(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    (void)err;
    *(int64_t *)arg += mr_batch_row_count(batch);
    return MR_OK;
}

static struct mr_duck *open_duck(void)
{
    struct mr_duck *duck;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_open(&duck, &err), &err);
    return duck;
}

static struct mr_schema *schema_of(const char *columns)
{
    struct mr_schema *schema;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(columns, strlen(columns), &schema, &err), &err);
    return schema;
}

static struct mr_duck_stmt *prepare(struct mr_duck *duck, const char *sql, const char *name,
                                    const struct mr_schema *schema)
{
    struct mr_duck_input input = {name, schema};
    struct mr_duck_stmt *stmt;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_prepare(duck, sql, &input, schema != NULL ? 1 : 0, &stmt, &err), &err);
    return stmt;
}

/* Runs over one batch (NULL: none); the text lives until the next call. */
static const char *run(struct mr_duck_stmt *stmt, struct mr_batch *batch, int64_t now_us)
{
    static struct mr_buf out;
    struct mr_batch *const *inputs[1] = {&batch};
    size_t counts[1] = {batch != NULL ? 1 : 0};
    struct mr_error err = {0};

    mr_buf_clear(&out);
    CHECK_OK(mr_duck_run(stmt, inputs, counts, now_us, add_rows, &out, &err), &err);
    return out.size > 0 ? out.data : "";
}

static const char *query(struct mr_duck *duck, const char *sql)
{
    struct mr_duck_stmt *stmt = prepare(duck, sql, NULL, NULL);
    const char *text = run(stmt, NULL, 0);

    mr_duck_stmt_free(stmt);
    return text;
}

static struct mr_batch *finish(struct mr_batch_builder *builder)
{
    struct mr_batch *batch;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    return batch;
}

static struct mr_batch_builder *builder_of(const struct mr_schema *schema)
{
    struct mr_batch_builder *builder;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    return builder;
}

static enum mr_status keep_batch(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_batch **kept = arg;

    (void)err;
    CHECK_NULL(*kept);
    *kept = mr_batch_ref(batch);
    return MR_OK;
}

/* A batch of the rows a query gives: the easiest way to any type. */
static struct mr_batch *batch_of(struct mr_duck *duck, const char *sql)
{
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_exec(duck, sql, keep_batch, &batch, &err), &err);
    CHECK_NOT_NULL(batch);
    return batch;
}

TEST(the_version_of_the_library_is_known)
{
    const char *version;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_version(&version, &err), &err);
    CHECK(version[0] == 'v');
    CHECK(mr_duck_loaded());
}

static const struct type_case {
    const char *type;
    const char *values; /* of a VALUES list */
} type_cases[] = {
    {"BOOLEAN", "(true), (false), (NULL)"},
    {"TINYINT", "(-128), (127), (NULL)"},
    {"SMALLINT", "(-32768), (32767), (NULL)"},
    {"INTEGER", "(-2147483648), (2147483647), (NULL)"},
    {"BIGINT", "(-9223372036854775808), (9223372036854775807), (NULL)"},
    {"UTINYINT", "(0), (255), (NULL)"},
    {"USMALLINT", "(0), (65535), (NULL)"},
    {"UINTEGER", "(0), (4294967295), (NULL)"},
    {"UBIGINT", "(0), (18446744073709551615), (NULL)"},
    {"FLOAT", "(1.5), (-0.25), (NULL)"},
    {"DOUBLE", "(0.1), (1e300), (NULL)"},
    {"DECIMAL(4,2)", "(12.34), (-99.99), (NULL)"},
    {"DECIMAL(9,2)", "(1234567.89), (-0.01), (NULL)"},
    {"DECIMAL(18,6)", "(123456789012.345678), (-1), (NULL)"},
    {"DECIMAL(38,3)", "(12345678901234567890123456789012345.678), (-1), (NULL)"},
    {"VARCHAR", "(''), ('short'), ('a text of more than twelve bytes'), ('twelve bytes'), (NULL)"},
    {"BLOB", "('\\x00\\xFF'::BLOB), (''::BLOB), ('0123456789abcdefghij'::BLOB), (NULL)"},
    {"DATE", "('1970-01-01'), ('1969-12-31'), ('2026-11-21'), (NULL)"},
    {"TIMESTAMP", "('2026-11-21 10:00:00.123456'), ('1960-01-01'), (NULL)"},
    {"TIMESTAMP_NS", "('2026-11-21 10:00:00.123456789'), (NULL)"},
    {"INTEGER[]", "([1, 2, NULL]), ([]), (NULL), ([4])"},
    {"VARCHAR[]", "(['a', 'a much longer text than twelve bytes']), ([NULL]), (NULL)"},
    {"INTEGER[][]", "([[1], [], NULL, [2, 3]]), (NULL), ([])"},
    {"STRUCT(a INTEGER, b VARCHAR)",
     "({'a': 1, 'b': 'x'}), (NULL), ({'a': NULL, 'b': 'some text of some length'})"},
    {"STRUCT(a INTEGER[], s STRUCT(x DOUBLE))[]",
     "([{'a': [1], 's': {'x': 1.5}}, NULL]), (NULL), ([{'a': NULL, 's': NULL}])"},
};

TEST(every_type_goes_in_and_comes_back_the_same)
{
    struct mr_duck *duck = open_duck();

    for (size_t i = 0; i < sizeof(type_cases) / sizeof(type_cases[0]); i++) {
        char sql[600];
        struct mr_buf before = MR_BUF_INIT;
        struct mr_batch *batch;
        struct mr_duck_stmt *stmt;

        snprintf(sql, sizeof(sql), "SELECT CAST(v AS %s) AS v FROM (VALUES %s) t(v)",
                 type_cases[i].type, type_cases[i].values);
        batch = batch_of(duck, sql);
        stmt = prepare(duck, "SELECT v FROM input", "input", mr_batch_schema(batch));
        CHECK(mr_schema_equal(mr_duck_stmt_schema(stmt), mr_batch_schema(batch)));
        CHECK_OK(add_rows(&before, batch, NULL), NULL);
        CHECK_EQ_STR(run(stmt, batch, 0), before.data);
        mr_duck_stmt_free(stmt);
        /* DuckDB itself agrees about every value: what went in is what it would have made. */
        snprintf(
            sql, sizeof(sql),
            "SELECT count(*) AS n FROM (SELECT v, row_number() OVER () AS r FROM input) a JOIN "
            "(SELECT CAST(v AS %s) AS w, row_number() OVER () AS q FROM (VALUES %s) t(v)) b "
            "ON r = q AND v IS NOT DISTINCT FROM w",
            type_cases[i].type, type_cases[i].values);
        stmt = prepare(duck, sql, "input", mr_batch_schema(batch));
        snprintf(sql, sizeof(sql), "%" PRId64 "\n", mr_batch_row_count(batch));
        CHECK_EQ_STR(run(stmt, batch, 0), sql);
        mr_duck_stmt_free(stmt);
        mr_buf_release(&before);
        mr_batch_unref(batch);
    }
    mr_duck_close(duck);
}

TEST(values_are_read_as_duckdb_means_them)
{
    struct mr_duck *duck = open_duck();

    CHECK_EQ_STR(query(duck, "SELECT 1::TINYINT, 2.50::DECIMAL(4,2), 'x', DATE '2026-01-02', true, "
                             "[1,2], {'a': 1}"),
                 "1|2.50|x|2026-01-02|true|[1, 2]|{a: 1}\n");
    CHECK_EQ_STR(query(duck, "SELECT sum(i) FROM range(5) t(i)"), "10\n"); /* HUGEINT */
    CHECK_EQ_STR(query(duck, "SELECT TIMESTAMPTZ '2026-01-01 00:00:00+02' AS t"),
                 "2025-12-31 22:00:00\n");
    CHECK_EQ_STR(query(duck, "SELECT TIMESTAMP_S '2026-01-01 00:00:01' AS t, "
                             "TIMESTAMP_MS '1969-12-31 23:59:59.999' AS u"),
                 "2026-01-01 00:00:01|1969-12-31 23:59:59.999\n");
    mr_duck_close(duck);
}

static void add_test_row(struct mr_batch_builder *builder, int64_t row)
{
    struct mr_column_builder *list = mr_batch_builder_column(builder, 3);
    struct mr_error err = {0};
    char text[64];

    mr_batch_builder_int(builder, 0, row);
    snprintf(text, sizeof(text), "%s%" PRId64, row % 3 == 0 ? "" : "text number ", row);
    mr_batch_builder_text(builder, 1, text, strlen(text));
    if (row % 7 == 0)
        mr_batch_builder_null(builder, 2);
    else
        mr_batch_builder_int(builder, 2, row % 100);
    CHECK_OK(mr_column_builder_reserve(list, 1, 0, &err), &err);
    for (int64_t k = 0; k < row % 3; k++)
        CHECK_OK(mr_column_builder_int(&list->children[0], row + k, &err), &err);
    CHECK_OK(mr_column_builder_list_end(list, &err), &err);
    mr_batch_builder_bool(builder, 4, row % 5 == 0);
    mr_batch_builder_end_row(builder);
}

TEST(many_rows_keep_their_order_across_chunks_and_batches)
{
    struct mr_schema *schema = schema_of("i BIGINT, s VARCHAR, n BIGINT, l BIGINT[], b BOOLEAN");
    struct mr_batch_builder *builder = builder_of(schema);
    struct mr_duck *duck = open_duck();
    struct mr_batch *batches[3];
    struct mr_batch *const *inputs[1] = {batches};
    size_t counts[1] = {3};
    struct mr_buf out = MR_BUF_INIT;
    struct mr_batch *all = NULL;
    struct mr_error err = {0};
    struct mr_duck_stmt *stmt;
    int64_t row = 0;

    for (int64_t b = 0; b < 3; b++) {
        for (int64_t i = 0; i < 5000 + b; i++)
            add_test_row(builder, row++);
        batches[b] = finish(builder);
    }
    stmt = prepare(
        duck,
        "SELECT count(*) AS c FROM (SELECT *, row_number() OVER () - 1 AS r FROM t) "
        "WHERE i = r AND s = (CASE WHEN i % 3 = 0 THEN '' ELSE 'text number ' END) || i AND "
        "n IS NOT DISTINCT FROM (CASE WHEN i % 7 = 0 THEN NULL ELSE i % 100 END) AND "
        "len(l) = i % 3 AND list_sum(l) IS NOT DISTINCT FROM "
        "(CASE i % 3 WHEN 0 THEN NULL WHEN 1 THEN i ELSE 2 * i + 1 END) AND b = (i % 5 = 0)",
        "t", schema);
    CHECK_OK(mr_duck_run(stmt, inputs, counts, 0, add_rows, &out, &err), &err);
    CHECK_EQ_STR(out.data, "15003\n");
    mr_duck_stmt_free(stmt);
    stmt = prepare(duck, "SELECT s, l, n, b, i FROM t", "t", schema);
    CHECK_OK(mr_duck_run(stmt, inputs, counts, 0, keep_batch, &all, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(all), 15003);
    for (int64_t i = 0; i < 15003; i++)
        CHECK_EQ_INT(mr_column_int(mr_batch_column(all, 4), i), i);
    mr_batch_unref(all);
    mr_duck_stmt_free(stmt);
    mr_buf_release(&out);
    for (size_t b = 0; b < 3; b++)
        mr_batch_unref(batches[b]);
    mr_batch_builder_free(builder);
    mr_duck_close(duck);
    mr_schema_unref(schema);
}

TEST(a_field_below_a_null_struct_is_null)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *batch = batch_of(duck, "SELECT v FROM (VALUES ({'a': 1, 's': {'x': 'y'}}), "
                                            "(NULL), ({'a': 3, 's': NULL})) t(v)");
    struct mr_duck_stmt *stmt = prepare(
        duck, "SELECT v.a AS a, v.s.x AS x, v.s IS NULL AS n FROM t", "t", mr_batch_schema(batch));

    CHECK_EQ_STR(run(stmt, batch, 0), "1|y|false\nnull|null|true\n3|null|true\n");
    mr_duck_stmt_free(stmt);
    mr_batch_unref(batch);
    mr_duck_close(duck);
}

TEST(inputs_without_rows_give_no_rows_and_a_count_of_zero)
{
    struct mr_schema *schema = schema_of("a BIGINT, s VARCHAR");
    struct mr_batch_builder *builder = builder_of(schema);
    struct mr_duck *duck = open_duck();
    struct mr_duck_stmt *stmt = prepare(duck, "SELECT * FROM t", "t", schema);
    struct mr_batch *empty = finish(builder);

    CHECK_EQ_STR(run(stmt, NULL, 0), "");
    CHECK_EQ_STR(run(stmt, empty, 0), "");
    mr_duck_stmt_free(stmt);
    stmt = prepare(duck, "SELECT count(*) AS n FROM t", "t", schema);
    CHECK_EQ_STR(run(stmt, empty, 0), "0\n");
    mr_duck_stmt_free(stmt);
    mr_batch_unref(empty);
    mr_batch_builder_free(builder);
    mr_duck_close(duck);
    mr_schema_unref(schema);
}

TEST(a_statement_runs_over_many_batches)
{
    struct mr_schema *schema = schema_of("k VARCHAR, v BIGINT");
    struct mr_batch_builder *builder = builder_of(schema);
    struct mr_duck *duck = open_duck();
    struct mr_duck_stmt *stmt = prepare(duck,
                                        "SELECT k, sum(v)::BIGINT AS s, count(*) AS n FROM t WHERE "
                                        "v >= 0 GROUP BY k ORDER BY k",
                                        "t", schema);

    for (int64_t round = 0; round < 300; round++) {
        struct mr_batch *batch;
        char want[100];

        for (int64_t i = 0; i < 10; i++) {
            mr_batch_builder_text(builder, 0, i % 2 == 0 ? "even" : "odd", i % 2 == 0 ? 4 : 3);
            mr_batch_builder_int(builder, 1, round + i);
            mr_batch_builder_end_row(builder);
        }
        batch = finish(builder);
        snprintf(want, sizeof(want), "even|%" PRId64 "|5\nodd|%" PRId64 "|5\n", 5 * round + 20,
                 5 * round + 25);
        CHECK_EQ_STR(run(stmt, batch, 0), want);
        mr_batch_unref(batch);
    }
    mr_duck_stmt_free(stmt);
    mr_batch_builder_free(builder);
    mr_duck_close(duck);
    mr_schema_unref(schema);
}

TEST(statements_of_one_instance_do_not_mix_up_inputs_of_the_same_name)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *one = batch_of(duck, "SELECT 1::BIGINT AS a");
    struct mr_batch *two = batch_of(duck, "SELECT 'x' AS a");
    struct mr_duck_stmt *first =
        prepare(duck, "SELECT a + 1 AS b FROM input", "input", mr_batch_schema(one));
    struct mr_duck_stmt *second =
        prepare(duck, "SELECT a || 'y' AS b FROM INPUT", "input", mr_batch_schema(two));

    for (int i = 0; i < 3; i++) {
        CHECK_EQ_STR(run(first, one, 0), "2\n");
        CHECK_EQ_STR(run(second, two, 0), "xy\n");
    }
    mr_duck_stmt_free(first);
    CHECK_EQ_STR(run(second, two, 0), "xy\n");
    mr_duck_stmt_free(second);
    mr_batch_unref(one);
    mr_batch_unref(two);
    mr_duck_close(duck);
}

TEST(two_inputs_can_be_joined_and_one_joined_with_itself)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *a = batch_of(duck, "SELECT i AS k FROM range(4) t(i)");
    struct mr_batch *b = batch_of(
        duck, "SELECT * FROM (VALUES (1::BIGINT, 'one'), (3::BIGINT, 'three')) t(k, name)");
    struct mr_duck_input inputs[] = {{"a", mr_batch_schema(a)}, {"b", mr_batch_schema(b)}};
    struct mr_batch *const *batches[2] = {&a, &b};
    size_t counts[2] = {1, 1};
    struct mr_buf out = MR_BUF_INIT;
    struct mr_error err = {0};
    struct mr_duck_stmt *stmt;

    CHECK_OK(mr_duck_prepare(duck, "SELECT a.k, b.name FROM a JOIN b ON a.k = b.k ORDER BY a.k",
                             inputs, 2, &stmt, &err),
             &err);
    CHECK_OK(mr_duck_run(stmt, batches, counts, 0, add_rows, &out, &err), &err);
    CHECK_EQ_STR(out.data, "1|one\n3|three\n");
    mr_duck_stmt_free(stmt);
    mr_buf_clear(&out);
    CHECK_OK(mr_duck_prepare(duck, "SELECT count(*) AS n FROM a x, a y", inputs, 2, &stmt, &err),
             &err);
    CHECK_OK(mr_duck_run(stmt, batches, counts, 0, add_rows, &out, &err), &err);
    CHECK_EQ_STR(out.data, "16\n");
    mr_duck_stmt_free(stmt);
    mr_buf_release(&out);
    mr_batch_unref(a);
    mr_batch_unref(b);
    mr_duck_close(duck);
}

TEST(time_functions_mean_the_time_of_the_batch)
{
    struct mr_duck *duck = open_duck();
    struct mr_duck_stmt *stmt =
        prepare(duck,
                "SELECT now() AS a, current_timestamp AS b, NOW ( ) AS c, localtimestamp AS d, "
                "current_date AS e, today() AS f, get_current_timestamp() AS g, 'now()' AS h, "
                "age(TIMESTAMP '1970-01-01')::VARCHAR AS i",
                NULL, NULL);

    CHECK_EQ_STR(run(stmt, NULL, INT64_C(86401000000)),
                 "1970-01-02 00:00:01|1970-01-02 00:00:01|1970-01-02 00:00:01|1970-01-02 00:00:01|"
                 "1970-01-02|1970-01-02|1970-01-02 00:00:01|now()|1 day\n");
    CHECK_EQ_STR(run(stmt, NULL, INT64_C(172801000000)),
                 "1970-01-03 00:00:01|1970-01-03 00:00:01|1970-01-03 00:00:01|1970-01-03 00:00:01|"
                 "1970-01-03|1970-01-03|1970-01-03 00:00:01|now()|2 days\n");
    mr_duck_stmt_free(stmt);
    mr_duck_close(duck);
}

TEST(functions_that_do_not_repeat_are_refused_with_a_remedy)
{
    static const char *const calls[] = {"random()",      "uuid()",        "gen_random_uuid()",
                                        "nextval('s')",  "\"random\" ()", "uuidv7 ()",
                                        "txid_current()"};
    struct mr_duck *duck = open_duck();

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        struct mr_duck_stmt *stmt;
        struct mr_error err = {0};
        char sql[100];

        snprintf(sql, sizeof(sql), "SELECT 1 AS a,\n  %s AS b", calls[i]);
        CHECK_FAILS(mr_duck_prepare(duck, sql, NULL, 0, &stmt, &err), &err, MR_SQL_ERROR,
                    "when a batch runs again; use");
        CHECK_EQ_INT(err.sql_line, 2);
        CHECK_EQ_INT(err.sql_column, 3);
    }
    mr_duck_close(duck);
}

TEST(errors_in_the_text_have_their_place)
{
    static const struct {
        const char *sql;
        uint32_t line;
        uint32_t column;
        const char *part;
    } cases[] = {
        {"SELECT a,\n       nosuch\nFROM t", 2, 8, "nosuch"},
        {"SELECT a frm t WHERE", 1, 14, "syntax error at or near \"t\""},
        {"SELECT now(), now(), nosuch FROM t", 1, 22, "nosuch"},
        {"SELECT current_date,\n /* x */ nosuch(a) FROM t", 2, 10, "nosuch"},
        {"SELECT * FROM\n other", 2, 2, "other"},
        {"SELECT 'abc", 1, 8, "no closing"},
        {"SELECT a FROM t WHERE a = $1", 1, 27, "parameters"},
        {"DELETE FROM t", 1, 0, ""},
    };
    struct mr_schema *schema = schema_of("a BIGINT");
    struct mr_duck_input input = {"t", schema};
    struct mr_duck *duck = open_duck();

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct mr_duck_stmt *stmt;
        struct mr_error err = {0};

        CHECK_FAILS(mr_duck_prepare(duck, cases[i].sql, &input, 1, &stmt, &err), &err, MR_SQL_ERROR,
                    cases[i].part);
        CHECK(strchr(err.text, '\n') == NULL);
        if (cases[i].column != 0) {
            CHECK_EQ_INT(err.sql_line, cases[i].line);
            CHECK_EQ_INT(err.sql_column, cases[i].column);
        }
    }
    mr_duck_close(duck);
    mr_schema_unref(schema);
}

TEST(types_that_cannot_leave_are_refused_with_a_cast)
{
    struct mr_duck *duck = open_duck();
    struct mr_duck_stmt *stmt;
    struct mr_error err = {0};

    CHECK_FAILS(mr_duck_prepare(duck, "SELECT INTERVAL '1' DAY AS pause", NULL, 0, &stmt, &err),
                &err, MR_SQL_ERROR,
                "column 'pause' has type INTERVAL, which cannot leave a query; cast it to VARCHAR");
    CHECK_FAILS(mr_duck_prepare(duck, "SELECT MAP {'a': 1} AS m", NULL, 0, &stmt, &err), &err,
                MR_SQL_ERROR, "MAP");
    CHECK_FAILS(mr_duck_prepare(duck, "SELECT 1 AS x, 2 AS x", NULL, 0, &stmt, &err), &err,
                MR_SQL_ERROR, "'x'");
    mr_duck_close(duck);
}

TEST(errors_of_evaluation_are_bad_data_and_the_statement_stays_usable)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *bad = batch_of(duck, "SELECT * FROM (VALUES ('1'), ('x')) t(s)");
    struct mr_batch *good = batch_of(duck, "SELECT * FROM (VALUES ('1'), ('2')) t(s)");
    struct mr_duck_stmt *stmt =
        prepare(duck, "SELECT s::BIGINT AS n FROM t", "t", mr_batch_schema(bad));
    struct mr_batch *const *inputs[1] = {&bad};
    size_t counts[1] = {1};
    struct mr_error err = {0};
    int64_t rows = 0;

    CHECK_FAILS(mr_duck_run(stmt, inputs, counts, 0, count_rows, &rows, &err), &err, MR_BAD_DATA,
                "'x'");
    CHECK_EQ_INT(rows, 0);
    CHECK_EQ_STR(run(stmt, good, 0), "1\n2\n");
    mr_duck_stmt_free(stmt);
    mr_batch_unref(bad);
    mr_batch_unref(good);
    mr_duck_close(duck);
}

TEST(a_syntax_tree_prints_back_to_the_same_query)
{
    struct mr_duck *duck = open_duck();
    struct mr_error err = {0};
    char *json;
    char *sql;

    CHECK_OK(mr_duck_parse(duck, "SELECT a, 'it''s' AS b FROM t WHERE c > 1", &json, &err), &err);
    CHECK_CONTAINS(json, "\"table_name\":\"t\"");
    CHECK_OK(mr_duck_print(duck, json, &sql, &err), &err);
    CHECK_EQ_STR(sql, "SELECT a, 'it''s' AS b FROM t WHERE (c > 1)");
    mr_text_free(json);
    mr_text_free(sql);
    CHECK_FAILS(mr_duck_parse(duck, "SELECT a\nFROM t WHERE\nGROUP BY", &json, &err), &err,
                MR_SQL_ERROR, "syntax error");
    CHECK_EQ_INT(err.sql_line, 3);
    CHECK_EQ_INT(err.sql_column, 1);
    mr_duck_close(duck);
}

TEST(a_prepared_projection_runs_hundreds_of_times)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *batch = batch_of(duck, "SELECT i AS a, 'text' || i AS s FROM range(10) t(i)");
    struct mr_duck_stmt *stmt = prepare(duck, "SELECT upper(s) AS u, a * 2 AS b FROM t WHERE a > 3",
                                        "t", mr_batch_schema(batch));
    struct mr_batch *const *inputs[1] = {&batch};
    size_t counts[1] = {1};
    int64_t rows = 0;

    for (int i = 0; i < 300; i++)
        CHECK_OK(mr_duck_run(stmt, inputs, counts, 0, count_rows, &rows, NULL), NULL);
    CHECK_EQ_INT(rows, 300 * 6);
    mr_duck_stmt_free(stmt);
    mr_batch_unref(batch);
    mr_duck_close(duck);
}

/* ---- Parquet ---- */

static const struct mr_format *parquet(void)
{
    if (mr_format_find("parquet") == NULL)
        mr_duck_register_parquet();
    return mr_format_find("parquet");
}

static void write_parquet(const char *path, struct mr_batch **batches, size_t count)
{
    const struct mr_format *format = parquet();
    struct mr_error err = {0};
    void *writer;

    CHECK_OK(format->file_writer_new(path, mr_batch_schema(batches[0]), NULL, &writer, &err), &err);
    for (size_t i = 0; i < count; i++)
        CHECK_OK(format->file_writer_write(writer, batches[i], &err), &err);
    CHECK_OK(format->file_writer_close(writer, &err), &err);
}

static char *bytes_of(const char *path, size_t *ret_size)
{
    FILE *file = fopen(path, "rb");
    char *data = malloc(1 << 20);

    CHECK_NOT_NULL(file);
    *ret_size = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

TEST(parquet_files_read_back_what_was_written)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *batch =
        batch_of(duck, "SELECT i AS id, 'name ' || i AS name, i::DECIMAL(10,2) AS d, [i, i + 1] AS "
                       "l, {'x': i, 'y': NULL::VARCHAR} AS s, TIMESTAMP '2026-01-01' + "
                       "to_seconds(i) AS ts FROM range(5000) t(i)");
    struct mr_decoder_args args = {.declared = mr_batch_schema(batch),
                                   .schema = mr_batch_schema(batch)};
    const char *path = test_path(t, "it's [odd]*.parquet");
    struct mr_buf want = MR_BUF_INIT;
    struct mr_buf have = MR_BUF_INIT;
    struct mr_error err = {0};
    struct mr_schema *schema;
    struct mr_batch *read;
    void *reader;

    write_parquet(path, &batch, 1);
    CHECK_OK(parquet()->file_reader_new(path, &args, &reader, &err), &err);
    for (;;) {
        CHECK_OK(parquet()->file_reader_next(reader, &read, &err), &err);
        if (read == NULL)
            break;
        CHECK_OK(add_rows(&have, read, &err), &err);
        mr_batch_unref(read);
    }
    parquet()->file_reader_free(reader);
    CHECK_OK(add_rows(&want, batch, &err), &err);
    CHECK_EQ_STR(have.data, want.data);
    CHECK_OK(parquet()->file_schema(path, &schema, &err), &err);
    CHECK(mr_schema_equal(schema, mr_batch_schema(batch)));
    mr_schema_unref(schema);
    mr_buf_release(&want);
    mr_buf_release(&have);
    mr_batch_unref(batch);
    mr_duck_close(duck);
}

TEST(the_same_rows_give_the_same_parquet_bytes)
{
    struct mr_duck *duck = open_duck();
    struct mr_batch *batch =
        batch_of(duck, "SELECT i AS id, 'k' || (i % 100) AS name FROM range(20000) t(i)");
    struct mr_batch *parts[2];
    char *first;
    char *second;
    size_t first_size;
    size_t second_size;

    CHECK_OK(mr_batch_slice(batch, 0, 12345, &parts[0], NULL), NULL);
    CHECK_OK(mr_batch_slice(batch, 12345, 20000 - 12345, &parts[1], NULL), NULL);
    write_parquet(test_path(t, "a.parquet"), parts, 2);
    write_parquet(test_path(t, "b.parquet"), &batch, 1);
    write_parquet(test_path(t, "b.parquet"), parts, 2); /* over an existing file */
    first = bytes_of(test_path(t, "a.parquet"), &first_size);
    second = bytes_of(test_path(t, "b.parquet"), &second_size);
    CHECK(first_size > 1000);
    CHECK_EQ_INT(first_size, second_size);
    CHECK_EQ_MEM(first, second, first_size);
    free(first);
    free(second);
    mr_batch_unref(parts[0]);
    mr_batch_unref(parts[1]);
    mr_batch_unref(batch);
    mr_duck_close(duck);
}

TEST(a_damaged_or_missing_parquet_file_says_which)
{
    struct mr_schema *schema = schema_of("a BIGINT");
    struct mr_decoder_args args = {.declared = schema, .schema = schema};
    struct mr_duck *duck = open_duck();
    struct mr_batch *batch = batch_of(duck, "SELECT 'x' AS a, 1 AS b");
    const char *path = test_path(t, "x.parquet");
    FILE *file = fopen(path, "wb");
    struct mr_error err = {0};
    void *reader;

    fputs("this is not a parquet file at all", file);
    fclose(file);
    CHECK_FAILS(parquet()->file_reader_new(path, &args, &reader, &err), &err, MR_BAD_DATA,
                "x.parquet");
    CHECK_FAILS(parquet()->file_reader_new(test_path(t, "none.parquet"), &args, &reader, &err),
                &err, MR_IO, "none.parquet");
    write_parquet(path, &batch, 1);
    /* The first chunk is decoded when the reader opens: a text that is no number shows up there. */
    CHECK_FAILS(parquet()->file_reader_new(path, &args, &reader, &err), &err, MR_BAD_DATA, "'x'");
    mr_batch_unref(batch);
    mr_duck_close(duck);
    mr_schema_unref(schema);
}
