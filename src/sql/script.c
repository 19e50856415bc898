/*
 * The statement parser: called by the front ends (mr_sql_script_parse) before the planner.
 *
 *     SET key = value ;
 *     CREATE TABLE name ( column type, ..., WATERMARK FOR c AS c - INTERVAL '5 seconds' )
 *         WITH ( key = value, ... ) ;
 *     CREATE [OR REPLACE] [TEMPORARY] VIEW name AS SELECT ... ;
 *     INSERT INTO name [( column, ... )] SELECT ... ;
 *     SELECT ... | WITH ... | FROM ... ;
 *
 * Recursive descent over duck/lex.h with one token of look-ahead. Types of columns are parsed by
 * mr_schema_parse; queries are cut out as text, up to the ';' on the top level.
 *
 * Thread: any.
 */
#include "sql/script.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/text.h"
#include "duck/lex.h"

#include <stdlib.h>
#include <string.h>

struct parser {
    struct mr_sql_script *script;
    struct mr_lexer lexer;
    struct mr_token token; /* look-ahead */
    struct mr_error *err;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot parse the statements: out of memory");
}

/* ---- Basics ---- */

static enum mr_status advance(struct parser *parser)
{
    return mr_lexer_next(&parser->lexer, &parser->token, parser->err);
}

static bool at_word(const struct parser *parser, const char *word)
{
    return mr_token_is(&parser->lexer, &parser->token, word);
}

static bool at_symbol(const struct parser *parser, char symbol)
{
    return mr_token_is_symbol(&parser->lexer, &parser->token, symbol);
}

static bool at_end(const struct parser *parser)
{
    return parser->token.kind == MR_TOKEN_END || at_symbol(parser, ';');
}

/* "expected X, found Y" at the token. */
static enum mr_status unexpected(struct parser *parser, const char *expected)
{
    int size = (int)MR_MIN(parser->token.size, (size_t)40);
    enum mr_status status;

    if (parser->token.kind == MR_TOKEN_END)
        status =
            MR_FAIL(parser->err, MR_SQL_ERROR, "expected %s, found the end of the text", expected);
    else
        status = MR_FAIL(parser->err, MR_SQL_ERROR, "expected %s, found '%.*s'", expected, size,
                         parser->lexer.text + parser->token.at);
    return mr_error_place(parser->err, parser->lexer.text, parser->token.at, status);
}

static enum mr_status expect_word(struct parser *parser, const char *word, const char *expected)
{
    return at_word(parser, word) ? advance(parser) : unexpected(parser, expected);
}

static enum mr_status expect_symbol(struct parser *parser, char symbol, const char *expected)
{
    return at_symbol(parser, symbol) ? advance(parser) : unexpected(parser, expected);
}

static enum mr_status skip_word(struct parser *parser, const char *word)
{
    return at_word(parser, word) ? advance(parser) : MR_OK;
}

/* Copies the inside of a quoted token, doubled quotes undone. */
static enum mr_status unquote(struct parser *parser, const char **ret_text)
{
    const char *from = parser->lexer.text + parser->token.at;
    size_t size = parser->token.size;
    char quote = from[0];
    char *text = mr_arena_alloc(&parser->script->arena, size + 1);
    size_t used = 0;

    if (text == NULL)
        return no_memory(parser->err);
    for (size_t i = 1; i + 1 < size; i++) {
        text[used++] = from[i];
        if (from[i] == quote)
            i++;
    }
    text[used] = '\0';
    *ret_text = text;
    return MR_OK;
}

static enum mr_status parse_name(struct parser *parser, const char *expected, const char **ret_name)
{
    const struct mr_token *token = &parser->token;

    if (token->kind == MR_TOKEN_QUOTED) {
        MR_TRY(unquote(parser, ret_name));
    } else if (token->kind == MR_TOKEN_WORD) {
        *ret_name =
            mr_arena_copy(&parser->script->arena, parser->lexer.text + token->at, token->size);
        if (*ret_name == NULL)
            return no_memory(parser->err);
    } else {
        return unexpected(parser, expected);
    }
    if ((*ret_name)[0] == '\0' || strlen(*ret_name) > MR_NAME_BYTES_MAX)
        return unexpected(parser, "a name of 1 to 255 bytes");
    return advance(parser);
}

/* ---- Values and keys ---- */

enum mr_status mr_sql_expand(struct mr_arena *arena, const char *text, size_t size,
                             const char **ret_text, struct mr_error *err)
{
    struct mr_buf out = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < size && status == MR_OK; i++) {
        const char *close;
        char name[MR_NAME_BYTES_MAX + 1];
        const char *value;
        size_t name_size;

        if (text[i] != '$' || i + 1 >= size || text[i + 1] != '{') {
            mr_buf_add_char(&out, text[i]);
            continue;
        }
        close = memchr(text + i, '}', size - i);
        name_size = close != NULL ? (size_t)(close - text) - i - 2 : 0;
        if (close == NULL || name_size == 0 || name_size >= sizeof(name)) {
            status = MR_FAIL(err, MR_SQL_ERROR, "this text has '${' without a name and '}'");
            break;
        }
        memcpy(name, text + i + 2, name_size);
        name[name_size] = '\0';
        value = getenv(name);
        if (value == NULL)
            status =
                MR_FAIL(err, MR_CONFIG,
                        "environment variable '%s' is not set; set it, or write the value", name);
        else
            mr_buf_add_str(&out, value);
        i += name_size + 2;
    }
    if (status == MR_OK) {
        *ret_text = mr_arena_copy(arena, out.data != NULL ? out.data : "", out.size);
        if (out.failed || *ret_text == NULL)
            status = no_memory(err);
    }
    mr_buf_release(&out);
    return status;
}

/* 'text' with ${NAME} filled in. */
static enum mr_status parse_string(struct parser *parser, const char **ret_text)
{
    const char *raw = NULL;
    enum mr_status status;

    MR_TRY(unquote(parser, &raw));
    MR_ASSERT(raw != NULL);
    status = mr_sql_expand(&parser->script->arena, raw, strlen(raw), ret_text, parser->err);
    if (status != MR_OK)
        return mr_error_place(parser->err, parser->lexer.text, parser->token.at, status);
    return advance(parser);
}

/* A key: 'a.b', a.b or "a.b". */
static enum mr_status parse_key(struct parser *parser, struct mr_sql_option *option)
{
    size_t end;

    option->at = parser->token.at;
    if (parser->token.kind == MR_TOKEN_STRING || parser->token.kind == MR_TOKEN_QUOTED) {
        MR_TRY(unquote(parser, &option->key));
        return advance(parser);
    }
    if (parser->token.kind != MR_TOKEN_WORD)
        return unexpected(parser, "the name of an option");
    do {
        end = parser->token.at + parser->token.size;
        MR_TRY(advance(parser));
        if (!at_symbol(parser, '.') && !at_symbol(parser, '-'))
            break;
        MR_TRY(advance(parser));
    } while (parser->token.kind == MR_TOKEN_WORD);
    option->key =
        mr_arena_copy(&parser->script->arena, parser->lexer.text + option->at, end - option->at);
    return option->key != NULL ? MR_OK : no_memory(parser->err);
}

/* A value: 'text', or what stands bare up to , ) or ; (5 seconds, true, -1). */
static enum mr_status parse_value(struct parser *parser, bool in_list, struct mr_sql_option *option)
{
    size_t from = parser->token.at;
    size_t end = from;

    if (parser->token.kind == MR_TOKEN_STRING)
        return parse_string(parser, &option->value);
    while (!at_end(parser) && !(in_list && (at_symbol(parser, ',') || at_symbol(parser, ')')))) {
        end = parser->token.at + parser->token.size;
        MR_TRY(advance(parser));
    }
    if (end == from)
        return unexpected(parser, "a value");
    option->value = mr_arena_copy(&parser->script->arena, parser->lexer.text + from, end - from);
    return option->value != NULL ? MR_OK : no_memory(parser->err);
}

static enum mr_status parse_with(struct parser *parser, struct mr_sql_statement *statement)
{
    MR_TRY(expect_symbol(parser, '(', "'(' after WITH"));
    statement->options =
        mr_arena_alloc(&parser->script->arena, MR_SQL_OPTIONS_MAX * sizeof(*statement->options));
    if (statement->options == NULL)
        return no_memory(parser->err);
    for (;;) {
        struct mr_sql_option *option = &statement->options[statement->option_count];

        if (statement->option_count == MR_SQL_OPTIONS_MAX)
            return unexpected(parser, "at most 200 options");
        MR_TRY(parse_key(parser, option));
        MR_TRY(expect_symbol(parser, '=', "'=' after the name of an option"));
        MR_TRY(parse_value(parser, true, option));
        statement->option_count++;
        if (at_symbol(parser, ')'))
            return advance(parser);
        MR_TRY(expect_symbol(parser, ',', "',' or ')' after an option"));
    }
}

/* ---- CREATE TABLE ---- */

/* WATERMARK FOR c AS c [- INTERVAL ...]: the look-ahead is the word after WATERMARK. */
static enum mr_status parse_watermark(struct parser *parser, struct mr_sql_statement *statement)
{
    const char *again;
    const char *delay;
    size_t from;
    size_t end;

    if (statement->watermark != NULL)
        return unexpected(parser, "one WATERMARK at most");
    MR_TRY(expect_word(parser, "for", "FOR after WATERMARK"));
    statement->watermark_at = parser->token.at;
    MR_TRY(parse_name(parser, "the column of the watermark", &statement->watermark));
    MR_TRY(expect_word(parser, "as", "AS"));
    if (parser->token.kind != MR_TOKEN_WORD && parser->token.kind != MR_TOKEN_QUOTED)
        return unexpected(parser, "the column again, as in: ts - INTERVAL '5 seconds'");
    from = parser->token.at;
    MR_TRY(parse_name(parser, "the column again", &again));
    if (!mr_text_equal_nocase(again, strlen(again), statement->watermark,
                              strlen(statement->watermark)))
        return mr_error_place(
            parser->err, parser->lexer.text, from,
            MR_FAIL(parser->err, MR_SQL_ERROR,
                    "a watermark follows its own column: write %s - INTERVAL '5 seconds'",
                    statement->watermark));
    statement->watermark_delay_us = 0;
    if (at_symbol(parser, ',') || at_symbol(parser, ')'))
        return MR_OK;
    MR_TRY(expect_symbol(parser, '-', "'- INTERVAL ...' after the column"));
    from = end = parser->token.at;
    while (!at_end(parser) && !at_symbol(parser, ',') && !at_symbol(parser, ')')) {
        end = parser->token.at + parser->token.size;
        MR_TRY(advance(parser));
    }
    delay = mr_arena_copy(&parser->script->arena, parser->lexer.text + from, end - from);
    if (delay == NULL)
        return no_memory(parser->err);
    if (!mr_parse_duration_us(delay, &statement->watermark_delay_us) ||
        statement->watermark_delay_us < 0)
        return mr_error_place(
            parser->err, parser->lexer.text, from,
            MR_FAIL(parser->err, MR_SQL_ERROR,
                    "'%s' is no delay of a watermark: write INTERVAL '5 seconds', zero or more, "
                    "without months",
                    delay));
    return MR_OK;
}

/* What mr_schema_parse refuses is a mistake in the text here. */
static enum mr_status bad_columns(struct parser *parser, size_t at, enum mr_status status)
{
    if (status != MR_CONFIG)
        return status;
    if (parser->err != NULL)
        parser->err->status = MR_SQL_ERROR;
    return mr_error_place(parser->err, parser->lexer.text, at, MR_SQL_ERROR);
}

/* One "name TYPE": checked alone, so that an error has its place; then added to the list. */
static enum mr_status parse_column(struct parser *parser, struct mr_buf *columns)
{
    const char *text = parser->lexer.text;
    struct mr_schema *one;
    size_t from = parser->token.at;
    size_t end = from;
    unsigned depth = 0;
    enum mr_status status;

    while (!at_end(parser)) {
        if (depth == 0 && (at_symbol(parser, ',') || at_symbol(parser, ')')))
            break;
        if (at_symbol(parser, '(') || at_symbol(parser, '[') || at_symbol(parser, '<'))
            depth++;
        else if (at_symbol(parser, ')') || at_symbol(parser, ']') || at_symbol(parser, '>'))
            depth--;
        end = parser->token.at + parser->token.size;
        MR_TRY(advance(parser));
    }
    if (end == from)
        return unexpected(parser, "a column and its type");
    status = mr_schema_parse(text + from, end - from, &one, parser->err);
    if (status != MR_OK)
        return bad_columns(parser, from, status);
    mr_schema_unref(one);
    mr_buf_add_str(columns, columns->size > 0 ? ", " : "");
    mr_buf_add(columns, text + from, end - from);
    return MR_OK;
}

static enum mr_status parse_columns(struct parser *parser, struct mr_sql_statement *statement,
                                    struct mr_buf *columns)
{
    size_t at = parser->token.at;
    enum mr_status status;

    MR_TRY(expect_symbol(parser, '(', "'('"));
    for (;;) {
        if (at_word(parser, "watermark")) {
            MR_TRY(advance(parser));
            MR_TRY(parse_watermark(parser, statement));
        } else if (at_word(parser, "primary") || at_word(parser, "constraint") ||
                   at_word(parser, "unique")) {
            return unexpected(parser,
                              "a column and its type (keys and constraints are not supported)");
        } else {
            MR_TRY(parse_column(parser, columns));
        }
        if (at_symbol(parser, ')'))
            break;
        MR_TRY(expect_symbol(parser, ',', "',' or ')' after a column"));
    }
    MR_TRY(advance(parser));
    if (columns->failed)
        return no_memory(parser->err);
    if (columns->size == 0)
        return mr_error_place(
            parser->err, parser->lexer.text, at,
            MR_FAIL(parser->err, MR_SQL_ERROR, "a table needs at least one column"));
    status = mr_schema_parse(columns->data, columns->size, &statement->columns, parser->err);
    return status == MR_OK ? MR_OK : bad_columns(parser, at, status);
}

static enum mr_status check_watermark(struct parser *parser,
                                      const struct mr_sql_statement *statement)
{
    const char *name = statement->watermark;
    const struct mr_type *type;
    int32_t index;

    if (name == NULL)
        return MR_OK;
    index = mr_schema_find(statement->columns, name, strlen(name));
    if (index < 0)
        return mr_error_place(parser->err, parser->lexer.text, statement->watermark_at,
                              MR_FAIL(parser->err, MR_SQL_ERROR,
                                      "table '%s' has no column '%s' for its watermark",
                                      statement->name, name));
    type = &mr_schema_field(statement->columns, (uint32_t)index)->type;
    if (type->id != MR_TYPE_TIMESTAMP && type->id != MR_TYPE_TIMESTAMP_NS)
        return mr_error_place(
            parser->err, parser->lexer.text, statement->watermark_at,
            MR_FAIL(parser->err, MR_SQL_ERROR,
                    "the watermark's column '%s' must be a TIMESTAMP; declare it so", name));
    return MR_OK;
}

static enum mr_status parse_table(struct parser *parser, struct mr_sql_statement *statement)
{
    struct mr_buf columns = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    statement->kind = MR_SQL_TABLE;
    if (at_word(parser, "if")) {
        MR_TRY(advance(parser));
        MR_TRY(expect_word(parser, "not", "NOT"));
        MR_TRY(expect_word(parser, "exists", "EXISTS"));
    }
    statement->name_at = parser->token.at;
    MR_TRY(parse_name(parser, "the name of the table", &statement->name));
    if (at_symbol(parser, '('))
        status = parse_columns(parser, statement, &columns);
    mr_buf_release(&columns);
    MR_TRY(status);
    MR_TRY(check_watermark(parser, statement));
    MR_TRY(expect_word(parser, "with", "WITH (connector = '...', ...)"));
    return parse_with(parser, statement);
}

/* ---- The other statements ---- */

static enum mr_status parse_query(struct parser *parser, struct mr_sql_statement *statement)
{
    size_t end;

    statement->select_at = parser->token.at;
    if (!at_word(parser, "select") && !at_word(parser, "with") && !at_word(parser, "from") &&
        !at_word(parser, "values") && !at_symbol(parser, '('))
        return unexpected(parser, "SELECT");
    end = parser->token.at;
    while (!at_end(parser)) {
        end = parser->token.at + parser->token.size;
        MR_TRY(advance(parser));
    }
    statement->select_size = end - statement->select_at;
    return MR_OK;
}

static enum mr_status parse_create(struct parser *parser, struct mr_sql_statement *statement)
{
    MR_TRY(advance(parser));
    if (at_word(parser, "or")) {
        MR_TRY(advance(parser));
        MR_TRY(expect_word(parser, "replace", "REPLACE"));
    }
    MR_TRY(skip_word(parser, "temporary"));
    MR_TRY(skip_word(parser, "temp"));
    if (at_word(parser, "table")) {
        MR_TRY(advance(parser));
        return parse_table(parser, statement);
    }
    MR_TRY(expect_word(parser, "view", "TABLE or VIEW"));
    statement->kind = MR_SQL_VIEW;
    statement->name_at = parser->token.at;
    MR_TRY(parse_name(parser, "the name of the view", &statement->name));
    MR_TRY(expect_word(parser, "as", "AS and a SELECT"));
    return parse_query(parser, statement);
}

static enum mr_status parse_set(struct parser *parser, struct mr_sql_statement *statement)
{
    statement->kind = MR_SQL_SET;
    MR_TRY(advance(parser));
    statement->options = mr_arena_alloc(&parser->script->arena, sizeof(*statement->options));
    if (statement->options == NULL)
        return no_memory(parser->err);
    statement->option_count = 1;
    MR_TRY(parse_key(parser, statement->options));
    MR_TRY(expect_symbol(parser, '=', "'=' after the name of a setting"));
    return parse_value(parser, false, statement->options);
}

static enum mr_status parse_insert(struct parser *parser, struct mr_sql_statement *statement)
{
    statement->kind = MR_SQL_INSERT;
    MR_TRY(advance(parser));
    MR_TRY(expect_word(parser, "into", "INTO after INSERT"));
    statement->name_at = parser->token.at;
    MR_TRY(parse_name(parser, "the name of the table", &statement->name));
    if (!at_symbol(parser, '('))
        return parse_query(parser, statement);
    {
        struct parser ahead = *parser; /* INSERT INTO t (SELECT ...) has no list of columns */

        MR_TRY(advance(&ahead));
        if (at_word(&ahead, "select") || at_word(&ahead, "with") || at_word(&ahead, "from") ||
            at_symbol(&ahead, '('))
            return parse_query(parser, statement);
    }
    MR_TRY(advance(parser));
    statement->insert_columns = mr_arena_alloc(
        &parser->script->arena, MR_SQL_OPTIONS_MAX * sizeof(*statement->insert_columns));
    if (statement->insert_columns == NULL)
        return no_memory(parser->err);
    for (;;) {
        if (statement->insert_column_count == MR_SQL_OPTIONS_MAX)
            return unexpected(parser, "at most 200 columns");
        MR_TRY(parse_name(parser, "the name of a column",
                          &statement->insert_columns[statement->insert_column_count]));
        statement->insert_column_count++;
        if (at_symbol(parser, ')'))
            break;
        MR_TRY(expect_symbol(parser, ',', "',' or ')' after a column"));
    }
    MR_TRY(advance(parser));
    return parse_query(parser, statement);
}

static enum mr_status parse_statement(struct parser *parser, struct mr_sql_statement *statement)
{
    memset(statement, 0, sizeof(*statement));
    statement->at = parser->token.at;
    if (at_word(parser, "create"))
        MR_TRY(parse_create(parser, statement));
    else if (at_word(parser, "set"))
        MR_TRY(parse_set(parser, statement));
    else if (at_word(parser, "insert"))
        MR_TRY(parse_insert(parser, statement));
    else if (at_word(parser, "select") || at_word(parser, "with") || at_word(parser, "from") ||
             at_symbol(parser, '(')) {
        statement->kind = MR_SQL_SELECT;
        MR_TRY(parse_query(parser, statement));
    } else
        return unexpected(parser, "CREATE TABLE, CREATE VIEW, SET, INSERT INTO or SELECT");
    if (!at_end(parser))
        return unexpected(parser, "';'");
    return MR_OK;
}

static enum mr_status parse_all(struct parser *parser)
{
    struct mr_sql_script *script = parser->script;

    MR_TRY(advance(parser));
    for (;;) {
        while (at_symbol(parser, ';'))
            MR_TRY(advance(parser));
        if (parser->token.kind == MR_TOKEN_END)
            return MR_OK;
        if (script->count == MR_SQL_STATEMENTS_MAX)
            return unexpected(parser, "at most 1000 statements");
        script->count++; /* before parsing: what a half-parsed one holds is freed with the script */
        MR_TRY(parse_statement(parser, &script->statements[script->count - 1]));
    }
}

static enum mr_status check_text(const char *text, size_t size, struct mr_error *err)
{
    size_t valid = mr_utf8_valid_prefix(text, size);

    if (size > MR_SQL_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot read the statements: %zu bytes of SQL; at most 1 MiB",
                       size);
    if (valid < size)
        return mr_error_place(err, text, valid,
                              MR_FAIL(err, MR_SQL_ERROR, "this byte is not UTF-8 text"));
    if (memchr(text, '\0', size) != NULL)
        return mr_error_place(err, text, strlen(text),
                              MR_FAIL(err, MR_SQL_ERROR, "this byte is a NUL"));
    return MR_OK;
}

enum mr_status mr_sql_script_parse(const char *name, const char *text, size_t size,
                                   struct mr_sql_script **ret_script, struct mr_error *err)
{
    struct mr_sql_script *script;
    struct parser parser = {.err = err};
    enum mr_status status;

    MR_TRY(check_text(text, size, err));
    script = mr_alloc_zero(NULL, sizeof(*script));
    if (script == NULL)
        return no_memory(err);
    script->name = mr_arena_copy(&script->arena, name, strlen(name));
    script->text = mr_arena_copy(&script->arena, text, size);
    script->statements =
        mr_arena_alloc(&script->arena, MR_SQL_STATEMENTS_MAX * sizeof(*script->statements));
    script->size = size;
    if (script->name == NULL || script->text == NULL || script->statements == NULL) {
        status = no_memory(err);
    } else {
        parser.script = script;
        parser.lexer = mr_lexer_of(script->text, size);
        status = parse_all(&parser);
    }
    if (status == MR_OK)
        *ret_script = script;
    else
        mr_sql_script_free(script);
    return status;
}

void mr_sql_script_free(struct mr_sql_script *script)
{
    if (script == NULL)
        return;
    for (size_t i = 0; i < script->count; i++)
        mr_schema_unref(script->statements[i].columns);
    mr_arena_release(&script->arena);
    mr_free(script);
}
