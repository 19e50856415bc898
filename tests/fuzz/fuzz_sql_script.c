/*
 * Statements from anywhere: a script or an error with a place. What is accepted has its places
 * inside the text, in order, and is accepted again; the text of a SELECT goes through the lexer and
 * the rewriter that stand before DuckDB's parser.
 */
#include "fuzz/fuzz.h"

#include "duck/lex.h"
#include "plugins/plugins.h"
#include "sql/script.h"

#include <string.h>

static void check_option(const struct mr_sql_option *option, size_t size)
{
    FUZZ_CHECK(option->key != NULL && option->value != NULL && option->at < size);
}

static void check_statement(const struct mr_sql_script *script, size_t index, size_t size)
{
    const struct mr_sql_statement *statement = &script->statements[index];

    FUZZ_CHECK(statement->at < size);
    /* CREATE ... AS SELECT is a view, a table and an INSERT in one place */
    FUZZ_CHECK(index == 0 || script->statements[index - 1].at <= statement->at);
    FUZZ_CHECK(statement->select_at <= size && statement->select_size <= size &&
               statement->select_at + statement->select_size <= size);
    for (size_t i = 0; i < statement->option_count; i++)
        check_option(&statement->options[i], size);
    for (size_t i = 0; i < statement->insert_column_count; i++)
        FUZZ_CHECK(statement->insert_columns[i] != NULL);
    for (size_t i = 0; i < statement->computed_count; i++)
        FUZZ_CHECK(statement->computed[i].at + statement->computed[i].size <= size);
    if (statement->watermark != NULL)
        FUZZ_CHECK(statement->watermark_delay_us >= 0 && statement->watermark_at < size);
}

/* Tokens follow each other inside the text; the rewritten text leads back into the old one. */
static void check_tokens(const char *text, size_t size)
{
    struct mr_lexer lexer = mr_lexer_of(text, size);
    struct mr_token token = {MR_TOKEN_WORD, 0, 0};
    struct mr_error err = {0};
    size_t end = 0;

    while (mr_lexer_next(&lexer, &token, &err) == MR_OK) {
        FUZZ_CHECK(token.at >= end && token.at + token.size <= size);
        if (token.kind == MR_TOKEN_END)
            return;
        FUZZ_CHECK(token.size > 0);
        end = token.at + token.size;
    }
    FUZZ_REFUSED(&err, MR_SQL_ERROR);
    FUZZ_CHECK(err.sql_line > 0 && err.sql_column > 0);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_sql_script *script = NULL, *again = NULL;
    struct mr_error err = {0};

    check_tokens((const char *)data, size);
    if (mr_sql_script_parse("fuzz", (const char *)data, size, &script, &err) != MR_OK) {
        FUZZ_REFUSED3(&err, MR_SQL_ERROR, MR_CONFIG, MR_LIMIT);
        if (err.status == MR_SQL_ERROR)
            FUZZ_CHECK(err.sql_line > 0 && err.sql_column > 0);
        return;
    }
    FUZZ_CHECK(script->count <= MR_SQL_STATEMENTS_MAX);
    for (size_t i = 0; i < script->count; i++)
        check_statement(script, i, size);
    if (mr_sql_script_parse("fuzz", (const char *)data, size, &again, &err) == MR_OK)
        FUZZ_CHECK(again->count == script->count);
    else
        fuzz_fail(__FILE__, __LINE__, "the same text is accepted again");
    mr_sql_script_free(again);
    mr_sql_script_free(script);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    mr_plugins_register(); /* USING json is a format, USING kafka a connector */
    return fuzz_run(one, data, size);
}
