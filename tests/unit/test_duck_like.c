/*
 * src/duck/like.c: LIKE, ILIKE and GLOB give what DuckDB's own operators give, in bounded time.
 */
#include "support/test.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "duck/duck.h"

#include <millrace/ext/builder.h>

static const char *const operators[][2] = {
    {"s LIKE p", "system.main.\"~~\"(s, p)"},
    {"s NOT LIKE p", "system.main.\"!~~\"(s, p)"},
    {"s ILIKE p", "system.main.\"~~*\"(s, p)"},
    {"s NOT ILIKE p", "system.main.\"!~~*\"(s, p)"},
    {"s GLOB p", "system.main.\"~~~\"(s, p)"},
    {"s LIKE p ESCAPE e", "system.main.like_escape(s, p, e)"},
    {"s NOT LIKE p ESCAPE e", "system.main.not_like_escape(s, p, e)"},
    {"s ILIKE p ESCAPE e", "system.main.ilike_escape(s, p, e)"},
    {"s NOT ILIKE p ESCAPE e", "system.main.not_ilike_escape(s, p, e)"},
    {"s COLLATE NOCASE LIKE p", "system.main.\"~~\"(s COLLATE NOCASE, p)"},
    {"s LIKE p COLLATE NOACCENT", "system.main.\"~~\"(s, p COLLATE NOACCENT)"},
};
enum { OPERATORS = sizeof(operators) / sizeof(operators[0]) };

static uint64_t state;

static unsigned below(unsigned bound)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (unsigned)((state >> 33) % bound);
}

/* Texts of few different characters, so that patterns match now and then. */
static void add_random(struct mr_buf *out, const char *const *pieces, size_t count, unsigned most)
{
    mr_buf_clear(out);
    for (unsigned n = below(most + 1); n > 0; n--)
        mr_buf_add_str(out, pieces[below((unsigned)count)]);
    mr_buf_add_char(out, '\0');
}

static const char *const text_pieces[] = {"a",        "a", "b", "A", "\xc3\xa9", "\xe2\x82\xac",
                                          "\xc3\x89", "%", "_", "x", "]",        "*"};
static const char *const like_pieces[] = {
    "%", "%", "%", "_", "a", "a", "b", "\xc3\xa9", "B", "\xe2\x82\xac", "x", "x%", "x_"};
static const char *const glob_pieces[] = {"*",     "*",   "*",  "?", "a", "b",    "[ab]", "[!a]",
                                          "[a-x]", "\\*", "\\", "[", "]", "[]a]", "-"};

/* NULL now and then. */
static void append(struct mr_batch_builder *builder, uint32_t column, const struct mr_buf *text)
{
    struct mr_column_builder *to = mr_batch_builder_column(builder, column);
    struct mr_error err = {0};

    if (below(40) == 0)
        CHECK_OK(mr_column_builder_null(to, &err), &err);
    else
        CHECK_OK(mr_column_builder_text(to, text->data, text->size - 1, &err), &err);
}

static struct mr_batch *random_rows(const struct mr_schema *schema, bool glob, unsigned rows)
{
    static const char *const escapes[] = {"x", "\\", "x", "", "_", "%"};
    struct mr_batch_builder *builder;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_batch *batch;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (unsigned i = 0; i < rows; i++) {
        add_random(&text, text_pieces, MR_ARRAY_SIZE(text_pieces), 12);
        append(builder, 0, &text);
        if (glob)
            add_random(&text, glob_pieces, MR_ARRAY_SIZE(glob_pieces), 7);
        else
            add_random(&text, like_pieces, MR_ARRAY_SIZE(like_pieces), 8);
        append(builder, 1, &text);
        add_random(&text, &escapes[below((unsigned)MR_ARRAY_SIZE(escapes))], 1, 1);
        append(builder, 2, &text);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_buf_release(&text);
    return batch;
}

static enum mr_status add_rows(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_buf *out = arg;

    (void)err;
    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row row = {batch, i};
        char text[200];

        mr_row_print(&row, 0, text, sizeof(text));
        mr_buf_add_str(out, text);
        mr_buf_add_char(out, '\n');
    }
    return MR_OK;
}

/* The first column of a query over rows named t, or the error's text; the status too. */
static enum mr_status rows_of(struct mr_duck *duck, const char *sql, struct mr_batch *batch,
                              struct mr_buf *out)
{
    struct mr_duck_input input = {"t", mr_batch_schema(batch)};
    struct mr_batch *const *inputs[1] = {&batch};
    size_t counts[1] = {1};
    struct mr_duck_stmt *stmt;
    struct mr_error err = {0};
    enum mr_status status;

    mr_buf_clear(out);
    CHECK_OK(mr_duck_prepare(duck, sql, &input, 1, &stmt, &err), &err);
    status = mr_duck_run(stmt, inputs, counts, 0, add_rows, out, &err);
    if (status != MR_OK)
        mr_buf_add_str(out, err.text);
    mr_buf_add_char(out, '\0');
    mr_duck_stmt_free(stmt);
    return status;
}

static void compare(struct mr_duck *duck, const char *const pair[2], struct mr_batch *rows)
{
    struct mr_buf sql = MR_BUF_INIT, ours = MR_BUF_INIT, theirs = MR_BUF_INIT;
    enum mr_status status;

    /* The rows that differ; one by one, and their errors too, when the whole fails. */
    mr_buf_printf(&sql,
                  "SELECT concat(s, ' / ', p, ' / ', e) AS r FROM t WHERE (%s) IS DISTINCT "
                  "FROM (%s)",
                  pair[0], pair[1]);
    status = rows_of(duck, sql.data, rows, &ours);
    if (status == MR_OK)
        CHECK_EQ_STR(ours.data, "");
    for (int64_t i = 0; status != MR_OK && i < mr_batch_row_count(rows); i++) {
        struct mr_batch *one;
        struct mr_error err = {0};
        enum mr_status mine;

        CHECK_OK(mr_batch_slice(rows, i, 1, &one, &err), &err);
        mr_buf_clear(&sql);
        mr_buf_printf(&sql, "SELECT %s AS r FROM t", pair[0]);
        mine = rows_of(duck, sql.data, one, &ours);
        mr_buf_clear(&sql);
        mr_buf_printf(&sql, "SELECT %s AS r FROM t", pair[1]);
        CHECK_EQ_INT(mine, rows_of(duck, sql.data, one, &theirs));
        CHECK_EQ_STR(ours.data, theirs.data);
        mr_batch_unref(one);
    }
    mr_buf_release(&sql);
    mr_buf_release(&ours);
    mr_buf_release(&theirs);
}

static struct mr_schema *schema_of_three(void)
{
    static const char columns[] = "s TEXT, p TEXT, e TEXT";
    struct mr_schema *schema;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(columns, strlen(columns), &schema, &err), &err);
    return schema;
}

static struct mr_duck *open_duck(void)
{
    struct mr_duck *duck;
    struct mr_error err = {0};

    state = test_seed(20260114);
    CHECK_OK(mr_duck_open(&duck, &err), &err);
    return duck;
}

TEST(H14_patterns_of_any_kind_match_what_they_match_in_duckdb)
{
    struct mr_duck *duck = open_duck();
    struct mr_schema *schema = schema_of_three();

    for (unsigned k = 0; k < OPERATORS; k++) {
        bool escapes = strstr(operators[k][0], "ESCAPE") != NULL;
        struct mr_batch *rows = random_rows(schema, strstr(operators[k][0], "GLOB") != NULL,
                                            escapes        ? 60
                                            : test_quick() ? 20000
                                                           : 100000);

        compare(duck, operators[k], rows);
        mr_batch_unref(rows);
    }
    mr_schema_unref(schema);
    mr_duck_close(duck);
}

/* Constant patterns are sorted into fast and slow when the statement is planned. */
TEST(H14_constant_patterns_match_what_they_match_in_duckdb)
{
    struct mr_duck *duck = open_duck();
    struct mr_schema *schema = schema_of_three();
    struct mr_batch *rows = random_rows(schema, false, 2000);
    struct mr_buf pattern = MR_BUF_INIT, sql = MR_BUF_INIT, out = MR_BUF_INIT;

    for (unsigned i = 0; i < (test_quick() ? 5U : 20U); i++) {
        mr_buf_clear(&sql);
        mr_buf_add_str(&sql, "SELECT s AS r FROM t WHERE false");
        for (unsigned k = 0; k < 16; k++) {
            add_random(&pattern, like_pieces, MR_ARRAY_SIZE(like_pieces), 8);
            mr_buf_printf(&sql,
                          " OR (s LIKE '%s') IS DISTINCT FROM system.main.\"~~\"(s, '%s')"
                          " OR (s NOT ILIKE '%s') IS DISTINCT FROM system.main.\"!~~*\"(s, '%s')",
                          pattern.data, pattern.data, pattern.data, pattern.data);
        }
        CHECK_EQ_INT(rows_of(duck, sql.data, rows, &out), MR_OK);
        CHECK_EQ_STR(out.data, "");
    }
    mr_buf_release(&pattern);
    mr_buf_release(&sql);
    mr_buf_release(&out);
    mr_batch_unref(rows);
    mr_schema_unref(schema);
    mr_duck_close(duck);
}

TEST(H14_patterns_that_would_take_for_ever_take_no_time)
{
    static const char *const slow[] = {
        "repeat('a', 20000) LIKE '%a%a%a%a%a%a%a%a%a_b'",
        "(s || repeat('a', 20000)) LIKE '%a%a%a%a%a%a%a%a%a_b'",
        "(s || repeat('a', 20000)) NOT LIKE (p || '%a%a%a%a%a%a%a%a%ab')",
        "(s || repeat('A', 20000)) ILIKE '%a%a%a%a%a%a%a%a%a_b'",
        "(s || repeat('a', 20000)) LIKE '%a%a%a%a%a%a%a%a%ab' ESCAPE '!'",
        "(s || repeat('a', 20000)) GLOB '*a*a*a*a*a*a*a*a*a?b'",
        "(s || repeat('a', 20000)) GLOB (p || '*[a-c]*[a-c]*[a-c]*[a-c]*[a-c]*[a-c]*b')",
    };
    struct mr_duck *duck = open_duck();
    struct mr_schema *schema = schema_of_three();
    struct mr_batch *rows = random_rows(schema, false, 20);
    struct mr_buf sql = MR_BUF_INIT, out = MR_BUF_INIT;

    for (size_t i = 0; i < MR_ARRAY_SIZE(slow); i++) {
        mr_buf_clear(&sql);
        mr_buf_printf(&sql, "SELECT count(*) AS n FROM t WHERE %s", slow[i]);
        CHECK_EQ_INT(rows_of(duck, sql.data, rows, &out), MR_OK);
    }
    mr_buf_release(&sql);
    mr_buf_release(&out);
    mr_batch_unref(rows);
    mr_schema_unref(schema);
    mr_duck_close(duck);
}

TEST(H14_a_statement_from_before_the_first_pattern_still_runs)
{
    struct mr_duck *duck = open_duck();
    struct mr_schema *schema = schema_of_three();
    struct mr_batch *rows = random_rows(schema, false, 100);
    struct mr_duck_input input = {"t", schema};
    struct mr_batch *const *inputs[1] = {&rows};
    size_t counts[1] = {1};
    struct mr_duck_stmt *stmt;
    struct mr_buf out = MR_BUF_INIT;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_prepare(duck, "SELECT count(*) AS n FROM t", &input, 1, &stmt, &err), &err);
    CHECK_EQ_INT(rows_of(duck, "SELECT s LIKE p AS r FROM t LIMIT 0", rows, &out), MR_OK);
    for (unsigned i = 0; i < 3; i++) {
        mr_buf_clear(&out);
        CHECK_OK(mr_duck_run(stmt, inputs, counts, 0, add_rows, &out, &err), &err);
        CHECK_EQ_STR(out.data, "100\n");
    }
    mr_duck_stmt_free(stmt);
    mr_buf_release(&out);
    mr_batch_unref(rows);
    mr_schema_unref(schema);
    mr_duck_close(duck);
}
