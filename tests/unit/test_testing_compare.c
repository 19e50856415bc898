/*
 * What tells two tables apart (src/testing/compare.c), and where a block ends (parse.c); the rest
 * of `millrace test` is tested from outside, by tests/system/test_sql_blocks.py.
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"
#include "testing/internal.h"

static const char columns[] = "id BIGINT, name VARCHAR";

static struct mr_test_rows rows_of(const char *text)
{
    struct mr_test_rows rows = {0};
    struct mr_batch *batch = plug_batch(columns, text);

    CHECK_OK(mr_testing__rows_add(&rows, batch, NULL), NULL);
    mr_batch_unref(batch);
    return rows;
}

/* The difference of two tables, "" when there is none. */
static const char *difference(const char *have, const char *want, bool ordered)
{
    static char kept[4000];
    struct mr_test_rows have_rows = rows_of(have), want_rows = rows_of(want);
    struct mr_test_lines *have_lines = NULL, *want_lines = NULL;
    char *text;

    CHECK_OK(mr_testing__lines_of(&have_rows, &have_lines, NULL), NULL);
    CHECK_OK(mr_testing__lines_of(&want_rows, &want_lines, NULL), NULL);
    text = mr_testing__difference(have_lines, want_lines, ordered);
    snprintf(kept, sizeof(kept), "%s", text != NULL ? text : "");
    mr_text_free(text);
    mr_testing__lines_free(have_lines);
    mr_testing__lines_free(want_lines);
    mr_testing__rows_release(&have_rows);
    mr_testing__rows_release(&want_rows);
    return kept;
}

TEST(tables_are_equal_as_multisets)
{
    CHECK_EQ_STR(difference("1|a;2|b;1|a", "1|a;1|a;2|b", false), "");
    CHECK_EQ_STR(difference("1|a;1|a;2|b", "1|a;2|b;2|b", false),
                 "+  1 | a\n-  2 | b\n1 missing (-), 1 unexpected (+), of 3 expected rows\n");
    CHECK_EQ_STR(difference("1|a;1|a;1|a", "1|a", false),
                 "+  1 | a  (2 x)\n0 missing (-), 2 unexpected (+), of 1 expected rows\n");
}

TEST(order_counts_when_it_is_asked_for)
{
    CHECK_EQ_STR(difference("1|a;2|b", "1|a;2|b", true), "");
    CHECK_EQ_STR(difference("2|b;1|a", "1|a;2|b", true),
                 "-  1 | a\n+  2 | b\n-  2 | b\n+  1 | a\n2 missing (-), 2 unexpected (+), of 2 "
                 "expected rows\n");
    CHECK_EQ_STR(difference("1|a", "1|a;2|b", true),
                 "-  2 | b\n1 missing (-), 0 unexpected (+), of 2 expected rows\n");
}

TEST(null_is_not_the_text_null_nor_the_empty_text)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_test_lines *lines = NULL;
    struct mr_test_rows rows = {0};
    struct mr_batch *batch = NULL;
    struct mr_test_rows text = rows_of("1|NULL");
    struct mr_test_lines *text_lines = NULL;
    char *found;

    CHECK_OK(mr_schema_parse(columns, strlen(columns), &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_batch_builder_int(builder, 0, 1);
    mr_batch_builder_null(builder, 1);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    CHECK_OK(mr_testing__rows_add(&rows, batch, NULL), NULL);
    CHECK_OK(mr_testing__lines_of(&rows, &lines, NULL), NULL);
    CHECK_OK(mr_testing__lines_of(&text, &text_lines, NULL), NULL);
    found = mr_testing__difference(lines, text_lines, false);
    CHECK_EQ_STR(found, "+  1 | NULL\n-  1 | NULL\n1 missing (-), 1 unexpected (+), of 1 expected "
                        "rows\n");
    mr_text_free(found);
    mr_testing__lines_free(lines);
    mr_testing__lines_free(text_lines);
    mr_testing__rows_release(&rows);
    mr_testing__rows_release(&text);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(a_long_difference_is_cut_but_counted)
{
    char rows[1000] = "";
    size_t used = 0;

    for (int i = 0; i < 50; i++)
        used += (size_t)snprintf(rows + used, sizeof(rows) - used, "%s%d|x", i > 0 ? ";" : "", i);
    CHECK(strstr(difference(rows, "100|x", false),
                 "... and 31 more\n1 missing (-), 50 unexpected") != NULL);
}

TEST(folding_keeps_the_newest_row_of_a_key_in_its_order)
{
    static const uint32_t key[] = {0};
    struct mr_test_rows rows = rows_of("1|a;2|b;1|c;3|d;2|e"), folded = {0};
    struct mr_buf text = MR_BUF_INIT;

    CHECK_OK(mr_testing__fold(&rows, key, 1, &folded, NULL), NULL);
    CHECK_EQ_UINT(folded.count, 1);
    plug_print(&text, folded.batches[0]);
    CHECK_EQ_STR(text.data, "1|c;3|d;2|e");
    mr_buf_release(&text);
    mr_testing__rows_release(&folded);
    mr_testing__rows_release(&rows);
}

TEST(a_bracket_that_a_test_leaves_open_does_not_reach_behind_its_end)
{
    const char *text = "TEST 'a' AS BEGIN GIVEN SELECT (1;\nEND; SELECT 2);";
    struct mr_sql_script *script = NULL;
    struct mr_test_block block;
    struct mr_error err = {0};

    CHECK_OK(mr_sql_script_parse("t", text, strlen(text), &script, &err), &err);
    CHECK_FAILS(mr_testing__parse(script, &script->statements[0], &block, &err), &err, MR_SQL_ERROR,
                "expected ';', found the end of the text");
    mr_sql_script_free(script);
}
