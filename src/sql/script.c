/*
 * The statement parser: called by the front ends (mr_sql_script_parse) before the planner.
 *
 *     SET key = value ;            SET key TO value ;
 *     CREATE TABLE name ( column type, ..., WATERMARK FOR c AS c - INTERVAL '5 seconds' )
 *         WITH ( key = value, ... ) ;                                          script_table.c
 *     CREATE [OR REPLACE] [TEMPORARY | MATERIALIZED] VIEW name [( column, ... )] AS SELECT ... ;
 *     INSERT INTO name [( column, ... )] [BY NAME] SELECT ... ;
 *     SELECT ... | WITH ... | FROM ... ;
 *     EXPLAIN INSERT ... | SELECT ... ;
 *     TEST 'name' [AS] BEGIN statements END ;
 *
 * and what other dialects call them:
 *
 *     CREATE SOURCE | SINK | STREAM | STREAMING TABLE    CREATE TABLE
 *     CREATE ... USING kafka OPTIONS ( ... )              WITH ( connector = 'kafka', ... )
 *     CREATE STREAMING TABLE | MATERIALIZED VIEW x ... AS SELECT ...
 *         a view x; with a connector also a table x and INSERT INTO x
 *     CREATE FLOW f AS INSERT INTO x BY NAME SELECT ...   the INSERT
 *     [EXECUTE] [BEGIN] STATEMENT SET [BEGIN] ; ... END ; nothing: all INSERTs are one query
 *
 * Recursive descent over duck/lex.h with one token of look-ahead; queries are cut out as text, up
 * to the ';' on the top level.
 *
 * Thread: any.
 */
#include "sql/script.h"

#include "base/check.h"
#include "base/text.h"
#include "sql/script_parse.h"

#include <string.h>

static enum mr_status add_statement(struct mr_sql_parser *parser,
                                    struct mr_sql_statement **ret_statement)
{
    struct mr_sql_script *script = parser->script;

    if (script->count == MR_SQL_STATEMENTS_MAX)
        return mr_sql__unexpected(parser, "at most 1000 statements");
    /* Counted before parsing: what a half-parsed one holds is freed with the script. */
    *ret_statement = &script->statements[script->count++];
    memset(*ret_statement, 0, sizeof(**ret_statement));
    (*ret_statement)->at = parser->token.at;
    return MR_OK;
}

/* ---- Queries ---- */

static const char *const query_words[] = {"SELECT", "WITH", "FROM", "VALUES"};

static bool at_query(const struct mr_sql_parser *parser)
{
    return mr_sql__at_word(parser, "select") || mr_sql__at_word(parser, "with") ||
           mr_sql__at_word(parser, "from") || mr_sql__at_word(parser, "values") ||
           mr_sql__at_symbol(parser, '(');
}

static enum mr_status parse_query(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    size_t end;

    statement->select_at = parser->token.at;
    if (!at_query(parser))
        return mr_sql__unexpected_of(parser, "SELECT", query_words, MR_ARRAY_SIZE(query_words));
    end = parser->token.at;
    while (!mr_sql__at_end(parser)) {
        end = parser->token.at + parser->token.size;
        MR_TRY(mr_sql__advance(parser));
    }
    statement->select_size = end - statement->select_at;
    return MR_OK;
}

static enum mr_status parse_insert(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    bool query = false;

    statement->kind = MR_SQL_INSERT;
    MR_TRY(mr_sql__advance(parser));
    if (mr_sql__at_word(parser, "overwrite"))
        return mr_sql__parser_fail(
            parser, parser->token.at,
            "INSERT OVERWRITE is not supported: a stream adds to its table; "
            "use INSERT INTO, with output_mode = 'complete' for a table that "
            "each batch replaces");
    MR_TRY(mr_sql__expect_word(parser, "into", "INTO after INSERT"));
    MR_TRY(mr_sql__skip_word(parser, "table", NULL));
    statement->name_at = parser->token.at;
    MR_TRY(mr_sql__parse_name(parser, "the name of the table", &statement->name));
    if (mr_sql__at_symbol(parser, '(')) { /* INSERT INTO t (SELECT ...) has no list of columns */
        struct mr_sql_parser ahead = *parser;

        MR_TRY(mr_sql__advance(&ahead));
        query = at_query(&ahead);
    }
    if (mr_sql__at_symbol(parser, '(') && !query) {
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__parse_names(parser, &statement->insert_columns,
                                   &statement->insert_column_count));
    }
    if (mr_sql__at_word(parser, "by")) {
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__expect_word(parser, "name", "NAME after BY"));
        statement->by_name = true;
        if (statement->insert_column_count > 0)
            return mr_sql__parser_fail(parser, statement->name_at,
                                       "INSERT has both a list of columns and BY NAME; leave out "
                                       "one of them");
    }
    return parse_query(parser, statement);
}

/* ---- CREATE ---- */

/* [IF NOT EXISTS] name */
static enum mr_status parse_created_name(struct mr_sql_parser *parser, const char *expected,
                                         struct mr_sql_statement *statement)
{
    if (mr_sql__at_word(parser, "if") && mr_sql__next_is_word(parser, "not")) {
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__expect_word(parser, "not", "NOT"));
        MR_TRY(mr_sql__expect_word(parser, "exists", "EXISTS"));
    }
    statement->name_at = parser->token.at;
    return mr_sql__parse_name(parser, expected, &statement->name);
}

static bool same_word(const char *a, const char *b)
{
    return mr_text_equal_nocase(a, strlen(a), b, strlen(b));
}

/* MATERIALIZED VIEW ... WITH (output_mode = 'append'): a view all the same, of its own mode. */
static enum mr_status take_append(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    const struct mr_sql_option *option = statement->options;

    if (!statement->materialized || statement->option_count != 1 ||
        (!same_word(option->key, "output_mode") && !same_word(option->key, "outputMode")))
        return MR_OK;
    if (!same_word(option->value, "append"))
        return mr_sql__parser_fail(parser, option->at,
                                   "a view gives each row once: its output_mode can be 'append' "
                                   "and not '%s'; give the table that is written a mode instead",
                                   option->value);
    statement->appends = true;
    statement->option_count = 0;
    return MR_OK;
}

/* The view has the names that the table declares. */
static enum mr_status name_columns(struct mr_sql_parser *parser, struct mr_sql_statement *view)
{
    uint32_t count = view->columns != NULL ? mr_schema_field_count(view->columns) : 0;

    if (count == 0 || view->insert_column_count > 0)
        return MR_OK;
    view->insert_columns = mr_arena_alloc(&parser->script->arena, count * sizeof(const char *));
    if (view->insert_columns == NULL)
        return mr_sql__parser_no_memory(parser);
    for (uint32_t i = 0; i < count; i++)
        view->insert_columns[i] = mr_schema_field(view->columns, i)->name;
    view->insert_column_count = count;
    return MR_OK;
}

/*
 * CREATE ... AS SELECT: the table becomes the view of that query, so that others who read it get
 * its rows as they are made; with a connector a table of the name follows, and an INSERT of all
 * rows.
 */
static enum mr_status parse_as(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    struct mr_sql_statement *table = NULL;
    struct mr_sql_statement *insert = NULL;

    MR_TRY(mr_sql__advance(parser));
    statement->kind = MR_SQL_VIEW;
    MR_TRY(parse_query(parser, statement));
    MR_TRY(take_append(parser, statement));
    if (statement->watermark != NULL || statement->computed_count > 0)
        return mr_sql__parser_fail(
            parser, statement->name_at,
            "'%s' is made by a SELECT: it takes no WATERMARK and no computed "
            "columns; put them into the table that the SELECT reads",
            statement->name);
    if (statement->option_count == 0) {
        if (statement->columns != NULL)
            return mr_sql__parser_fail(
                parser, statement->name_at,
                "'%s' has columns and a SELECT, but no connector that keeps its rows; add WITH "
                "(connector = '...'), or give the columns their names in the SELECT",
                statement->name);
        return MR_OK;
    }
    MR_TRY(add_statement(parser, &table));
    MR_ASSERT(table != NULL);
    *table = *statement;
    table->kind = MR_SQL_TABLE;
    table->select_size = 0;
    MR_TRY(name_columns(parser, statement));
    statement->columns = NULL; /* the table's */
    statement->options = NULL;
    statement->option_count = 0;
    MR_TRY(add_statement(parser, &insert));
    MR_ASSERT(insert != NULL);
    insert->kind = MR_SQL_INSERT;
    insert->at = statement->at;
    insert->name = statement->name;
    insert->name_at = statement->name_at;
    insert->whole_view = true;
    return MR_OK;
}

static enum mr_status parse_table(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    statement->kind = MR_SQL_TABLE;
    MR_TRY(parse_created_name(parser, "the name of the table", statement));
    if (mr_sql__at_symbol(parser, '('))
        MR_TRY(mr_sql__parse_columns(parser, statement));
    MR_TRY(mr_sql__parse_clauses(parser, statement));
    if (mr_sql__at_word(parser, "as"))
        return parse_as(parser, statement);
    if (statement->option_count == 0)
        return mr_sql__expect_word(parser, "with", "WITH (connector = '...', ...)");
    return MR_OK;
}

static enum mr_status parse_view(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    statement->kind = MR_SQL_VIEW;
    MR_TRY(parse_created_name(parser, "the name of the view", statement));
    if (mr_sql__at_symbol(parser, '(')) {
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__parse_names(parser, &statement->insert_columns,
                                   &statement->insert_column_count));
    }
    MR_TRY(mr_sql__parse_clauses(parser, statement));
    if (!mr_sql__at_word(parser, "as"))
        return mr_sql__expect_word(parser, "as", "AS and a SELECT");
    if (statement->option_count > 0 && !statement->materialized)
        return mr_sql__parser_fail(parser, statement->name_at,
                                   "view '%s' keeps no rows and takes no options; make it a "
                                   "MATERIALIZED VIEW, or INSERT INTO a table",
                                   statement->name);
    return parse_as(parser, statement);
}

/* CREATE FLOW name [COMMENT 'text'] AS INSERT INTO ...: the name has no meaning here. */
static enum mr_status parse_flow(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    MR_TRY(parse_created_name(parser, "the name of the flow", statement));
    MR_TRY(mr_sql__parse_clauses(parser, statement));
    MR_TRY(mr_sql__expect_word(parser, "as", "AS and an INSERT INTO"));
    if (!mr_sql__at_word(parser, "insert"))
        return mr_sql__expect_word(parser, "insert", "INSERT INTO");
    return parse_insert(parser, statement);
}

static enum mr_status parse_create(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    static const char *const kinds[] = {"TABLE", "VIEW",      "SOURCE",       "SINK",     "STREAM",
                                        "FLOW",  "STREAMING", "MATERIALIZED", "TEMPORARY"};
    bool streaming;
    bool there;

    MR_TRY(mr_sql__advance(parser));
    MR_TRY(mr_sql__skip_word(parser, "or", &there));
    if (there && mr_sql__at_word(parser, "refresh"))
        MR_TRY(mr_sql__advance(parser));
    else if (there)
        MR_TRY(mr_sql__expect_word(parser, "replace", "REPLACE"));
    MR_TRY(mr_sql__skip_word(parser, "temporary", NULL));
    MR_TRY(mr_sql__skip_word(parser, "temp", NULL));
    MR_TRY(mr_sql__skip_word(parser, "external", NULL));
    MR_TRY(mr_sql__skip_word(parser, "streaming", &streaming));
    if (mr_sql__at_word(parser, "table") ||
        (!streaming && (mr_sql__at_word(parser, "source") || mr_sql__at_word(parser, "sink") ||
                        mr_sql__at_word(parser, "stream")))) {
        MR_TRY(mr_sql__advance(parser));
        return parse_table(parser, statement);
    }
    if (!streaming && mr_sql__at_word(parser, "flow")) {
        MR_TRY(mr_sql__advance(parser));
        return parse_flow(parser, statement);
    }
    MR_TRY(mr_sql__skip_word(parser, "materialized", &statement->materialized));
    if (streaming || !mr_sql__at_word(parser, "view"))
        return mr_sql__unexpected_of(parser, "TABLE or VIEW", kinds, MR_ARRAY_SIZE(kinds));
    MR_TRY(mr_sql__advance(parser));
    return parse_view(parser, statement);
}

/* ---- SET, TEST, STATEMENT SET ---- */

static enum mr_status parse_set(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    struct mr_sql_option *option;

    statement->kind = MR_SQL_SET;
    MR_TRY(mr_sql__advance(parser));
    MR_TRY(mr_sql__new_option(parser, statement, &option));
    MR_TRY(mr_sql__parse_key(parser, option));
    if (mr_sql__at_word(parser, "to"))
        MR_TRY(mr_sql__advance(parser));
    else
        MR_TRY(mr_sql__expect_symbol(parser, '=', "'=' after the name of a setting"));
    return mr_sql__parse_value(parser, false, option);
}

/* TEST 'name' [AS] BEGIN ... END: END is the word at the start of a statement of its body. */
static enum mr_status parse_test(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    bool start = true;

    statement->kind = MR_SQL_TEST;
    MR_TRY(mr_sql__advance(parser));
    statement->name_at = parser->token.at;
    MR_TRY(mr_sql__parse_raw_text(parser, "the name of the test, as in TEST 'name'",
                                  &statement->name));
    MR_TRY(mr_sql__skip_word(parser, "as", NULL));
    if (!mr_sql__at_word(parser, "begin"))
        return mr_sql__expect_word(parser, "begin", "BEGIN");
    statement->select_at = parser->token.at + parser->token.size;
    MR_TRY(mr_sql__advance(parser));
    while (!(start && mr_sql__at_word(parser, "end"))) {
        if (parser->token.kind == MR_TOKEN_END)
            return mr_sql__parser_fail(parser, statement->name_at,
                                       "test '%s' has no END; write it after its last statement",
                                       statement->name);
        start = mr_sql__at_symbol(parser, ';');
        MR_TRY(mr_sql__advance(parser));
    }
    statement->select_size = parser->token.at - statement->select_at;
    return mr_sql__advance(parser);
}

/* The words around Flink's statement sets; all INSERTs of a file are one query anyway. */
static enum mr_status skip_statement_set(struct mr_sql_parser *parser, bool *ret_skipped)
{
    *ret_skipped = true;
    if (mr_sql__at_word(parser, "begin") && mr_sql__next_is_word(parser, "statement")) {
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__expect_word(parser, "set", "SET after STATEMENT"));
    } else if ((mr_sql__at_word(parser, "execute") && mr_sql__next_is_word(parser, "statement")) ||
               (mr_sql__at_word(parser, "statement") && mr_sql__next_is_word(parser, "set"))) {
        MR_TRY(mr_sql__skip_word(parser, "execute", NULL));
        MR_TRY(mr_sql__advance(parser));
        MR_TRY(mr_sql__expect_word(parser, "set", "SET after STATEMENT"));
        MR_TRY(mr_sql__expect_word(parser, "begin", "BEGIN after STATEMENT SET"));
    } else if (mr_sql__at_word(parser, "end")) {
        MR_TRY(mr_sql__advance(parser));
    } else {
        *ret_skipped = false;
    }
    return MR_OK;
}

/* ---- All of it ---- */

/* Statements of databases, and what to do instead. */
static enum mr_status refuse(struct mr_sql_parser *parser)
{
    static const struct {
        const char *word;
        const char *instead;
    } rows[] = {
        {"drop", "a file starts with no tables; leave DROP out"},
        {"delete", "a stream adds rows; filter them with WHERE"},
        {"update", "a stream adds rows; compute them in a SELECT"},
        {"merge", "use INSERT INTO with output_mode = 'update'"},
        {"alter", "change the CREATE statement; 'millrace check' compares it with the checkpoint"},
        {"use", "there is one catalogue; leave USE out"},
        {"show", "'millrace check' and 'millrace options' show what there is"},
        {"describe", "'millrace check' shows the plan"},
        {"desc", "'millrace check' shows the plan"},
        {"reset", "leave out the SET"},
        {"add", "functions of a program are registered through the C API"},
        {"load", "everything a build can do is there; 'millrace options' lists it"},
        {"attach", "declare a table for what is to be read"},
        {"copy", "INSERT INTO a table WITH (connector = 'file')"},
    };
    static const char *const words[] = {"CREATE", "SET",     "INSERT", "SELECT", "WITH",
                                        "FROM",   "EXPLAIN", "TEST",   "BEGIN",  "EXECUTE"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(rows); i++) {
        if (mr_sql__at_word(parser, rows[i].word))
            return mr_sql__parser_fail(
                parser, parser->token.at,
                "expected CREATE TABLE, CREATE VIEW, SET, INSERT INTO or SELECT, found '%.*s': %s",
                (int)parser->token.size, parser->lexer.text + parser->token.at, rows[i].instead);
    }
    return mr_sql__unexpected_of(parser, "CREATE TABLE, CREATE VIEW, SET, INSERT INTO or SELECT",
                                 words, MR_ARRAY_SIZE(words));
}

static enum mr_status parse_statement(struct mr_sql_parser *parser)
{
    struct mr_sql_statement *statement = NULL;

    MR_TRY(add_statement(parser, &statement));
    MR_ASSERT(statement != NULL);
    MR_TRY(mr_sql__skip_word(parser, "explain", &statement->explain));
    if (statement->explain && mr_sql__at_word(parser, "plan"))
        MR_TRY(mr_sql__advance(parser));
    if (statement->explain)
        MR_TRY(mr_sql__skip_word(parser, "for", NULL));
    if (mr_sql__at_word(parser, "insert"))
        return parse_insert(parser, statement);
    if (at_query(parser)) {
        statement->kind = MR_SQL_SELECT;
        return parse_query(parser, statement);
    }
    if (statement->explain)
        return mr_sql__unexpected_of(parser, "INSERT INTO or SELECT after EXPLAIN", query_words,
                                     MR_ARRAY_SIZE(query_words));
    if (mr_sql__at_word(parser, "create"))
        return parse_create(parser, statement);
    if (mr_sql__at_word(parser, "set"))
        return parse_set(parser, statement);
    if (mr_sql__at_word(parser, "test"))
        return parse_test(parser, statement);
    return refuse(parser);
}

static enum mr_status parse_all(struct mr_sql_parser *parser)
{
    MR_TRY(mr_sql__advance(parser));
    for (;;) {
        bool skipped;

        while (mr_sql__at_symbol(parser, ';'))
            MR_TRY(mr_sql__advance(parser));
        if (parser->token.kind == MR_TOKEN_END)
            return MR_OK;
        MR_TRY(skip_statement_set(parser, &skipped));
        if (skipped)
            continue;
        MR_TRY(parse_statement(parser));
        if (!mr_sql__at_end(parser))
            return mr_sql__unexpected(parser, "';'");
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
    struct mr_sql_parser parser = {.err = err};
    enum mr_status status;

    MR_TRY(check_text(text, size, err));
    script = mr_alloc_zero(NULL, sizeof(*script));
    if (script == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot parse the statements: out of memory");
    script->name = mr_arena_copy(&script->arena, name, strlen(name));
    script->text = mr_arena_copy(&script->arena, text, size);
    script->statements =
        mr_arena_alloc(&script->arena, MR_SQL_STATEMENTS_MAX * sizeof(*script->statements));
    script->size = size;
    if (script->name == NULL || script->text == NULL || script->statements == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot parse the statements: out of memory");
    } else {
        parser.script = script;
        parser.lexer = mr_lexer_of(script->text, size);
        if (size > 1 && script->text[0] == '#' && script->text[1] == '!')
            parser.lexer.at = strcspn(script->text, "\n"); /* #! of an executable file */
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
    mr_arena_wipe(&script->arena); /* options may be passwords */
    mr_arena_release(&script->arena);
    mr_free(script);
}
