/* Types and schemas: printing, parsing, what is refused. */
#include "support/test.h"

#include <millrace/types.h>

#include <stdio.h>

static struct mr_schema *parse(const char *text)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    return schema;
}

static void check_print(const char *text, const char *want)
{
    struct mr_schema *schema = parse(text);
    char *printed = mr_schema_print(schema);

    CHECK_EQ_STR(printed, want);
    struct mr_schema *again = parse(printed);
    CHECK(mr_schema_equal(schema, again));
    mr_text_free(printed);
    mr_schema_unref(schema);
    mr_schema_unref(again);
}

TEST(every_type_name_is_read_and_printed_in_its_sql_spelling)
{
    static const char *const rows[][2] = {
        {"a boolean", "a BOOLEAN"},
        {"a bool, b TINYINT, c int2, d INT, e long",
         "a BOOLEAN, b TINYINT, c SMALLINT, d INTEGER, e BIGINT"},
        {"a utinyint, b usmallint, c uinteger, d ubigint",
         "a UTINYINT, b USMALLINT, c UINTEGER, d UBIGINT"},
        {"a REAL, b float4, c FLOAT, d double precision", "a FLOAT, b FLOAT, c FLOAT, d DOUBLE"},
        {"a DECIMAL, b NUMERIC(10), c dec(38, 38)",
         "a DECIMAL(18,3), b DECIMAL(10,0), c DECIMAL(38,38)"},
        {"a STRING, b varchar(10), c CHARACTER VARYING(3)", "a VARCHAR, b VARCHAR, c VARCHAR"},
        {"a bytes, b BLOB", "a BLOB, b BLOB"},
        {"a date, b timestamp, c TIMESTAMP(3), d timestamp(9), e TIMESTAMP WITH TIME ZONE",
         "a DATE, b TIMESTAMP, c TIMESTAMP, d TIMESTAMP_NS, e TIMESTAMP"},
        {"a INT[], b int[][], c ARRAY<string>", "a INTEGER[], b INTEGER[][], c VARCHAR[]"},
        {"a STRUCT(x INT, y DOUBLE), b struct<x: int, y: array<date>>",
         "a STRUCT(x INTEGER, y DOUBLE), b STRUCT(x INTEGER, y DATE[])"},
        {"a ROW(b STRUCT(c INT)[])[]", "a STRUCT(b STRUCT(c INTEGER)[])[]"},
        {"\"order\" INT, \"a b\" INT, \"q\"\"q\" INT",
         "\"order\" INTEGER, \"a b\" INTEGER, \"q\"\"q\" INTEGER"},
        {" a /* c */ INT , -- rest\n b INT ", "a INTEGER, b INTEGER"},
        {"", ""},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        check_print(rows[i][0], rows[i][1]);
}

TEST(a_wrong_column_list_is_refused_with_the_word)
{
    static const char *const rows[][2] = {
        {"a BIGNT", "did you mean 'BIGINT'"},
        {"a QWERTYUIOP", "unknown type 'QWERTYUIOP'"},
        {"a", "it ends where a type"},
        {"a INT b", "'b' stands where"},
        {"a INT,", "it ends where a column name"},
        {"a INT, a INT", "two columns are named 'a'"},
        {"a DECIMAL(39)", "DECIMAL(39,0)"},
        {"a DECIMAL(4,5)", "DECIMAL(4,5)"},
        {"a INT(4)", "takes no such parameters"},
        {"a TIMESTAMP(10)", "TIMESTAMP(10)"},
        {"a STRUCT(x INT", "it ends where ',' or ')'"},
        {"a STRUCT", "it ends where '('"},
        {"a INT[3]", "lists have no fixed length"},
        {"\"a INT", "no closing"},
        {"\"\" INT", "has no name"},
        {"a INT NOT NULL", "'NOT' stands where"},
        {"\xff INT", "not valid UTF-8"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mr_schema *schema = NULL;
        struct mr_error err = {0};
        CHECK_FAILS(mr_schema_parse(rows[i][0], strlen(rows[i][0]), &schema, &err), &err, MR_CONFIG,
                    rows[i][1]);
        CHECK_NULL(schema);
    }
}

TEST(nesting_deeper_than_the_limit_is_refused)
{
    char text[300] = "a INT";
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    for (int i = 0; i < MR_TYPE_DEPTH_MAX - 1; i++)
        strcat(text, "[]");
    mr_schema_unref(parse(text));
    strcat(text, "[]");
    CHECK_FAILS(mr_schema_parse(text, strlen(text), &schema, &err), &err, MR_CONFIG,
                "nested deeper");
}

TEST(names_are_found_exactly_first_then_without_case)
{
    struct mr_schema *schema = parse("Id INT, id INT, City INT");

    CHECK_EQ_INT(mr_schema_find(schema, "id", 2), 1);
    CHECK_EQ_INT(mr_schema_find(schema, "ID", 2), 0);
    CHECK_EQ_INT(mr_schema_find(schema, "city", 4), 2);
    CHECK_EQ_INT(mr_schema_find(schema, "cit", 3), -1);
    mr_schema_unref(schema);
}

TEST(printing_a_type_into_little_room_terminates_and_says_what_it_needs)
{
    struct mr_schema *schema = parse("a STRUCT(x INT, y DOUBLE)");
    char text[8];

    CHECK_EQ_UINT(mr_type_print(&mr_schema_field(schema, 0)->type, text, sizeof text),
                  strlen("STRUCT(x INTEGER, y DOUBLE)"));
    CHECK_EQ_STR(text, "STRUCT(");
    CHECK_EQ_UINT(mr_type_print(&mr_schema_field(schema, 0)->type, NULL, 0),
                  strlen("STRUCT(x INTEGER, y DOUBLE)"));
    mr_schema_unref(schema);
}

TEST(schemas_differ_by_name_type_and_order)
{
    struct mr_schema *a = parse("a INT, b STRUCT(x INT)");
    static const char *const others[] = {"a INT",
                                         "a INT, c STRUCT(x INT)",
                                         "a BIGINT, b STRUCT(x INT)",
                                         "b STRUCT(x INT), a INT",
                                         "a INT, b STRUCT(y INT)",
                                         "a INT, b STRUCT(x INT)[]"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct mr_schema *b = parse(others[i]);
        CHECK(!mr_schema_equal(a, b));
        mr_schema_unref(b);
    }
    mr_schema_unref(a);
}
