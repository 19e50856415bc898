/*
 * What stands between the name of a table and the end of its statement. Called by script.c.
 *
 *     ( name TYPE [NOT NULL] [COMMENT 'text'], name AS expression, PRIMARY KEY (a) NOT ENFORCED,
 *       WATERMARK FOR ts AS ts - INTERVAL '5 seconds' | WATERMARK ts DELAY OF INTERVAL 5 SECONDS )
 *     COMMENT 'text'   USING kafka   OPTIONS ( key value, ... )   WITH ( key = value, ... )
 *
 * Keys and NOT NULL are taken as promises of who wrote the data: read, not checked. Types of
 * columns are parsed by mr_schema_parse.
 *
 * Thread: any.
 */
#include "sql/script_parse.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/text.h"

#include <millrace/ext/format.h>
#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <string.h>

/* ---- Watermarks ---- */

static enum mr_status parse_watermark(struct mr_sql_parser *parser,
                                      struct mr_sql_statement *statement)
{
    const char *again;
    size_t from;
    bool clause;

    if (statement->watermark != NULL)
        return mr_sql__unexpected(parser, "one WATERMARK at most");
    MR_TRY(mr_sql__skip_word(parser, "for", &clause));
    statement->watermark_at = parser->token.at;
    MR_TRY(mr_sql__parse_name(parser,
                              clause ? "the column of the watermark" : "FOR after WATERMARK",
                              &statement->watermark));
    if (!clause) { /* Spark's clause */
        MR_TRY(mr_sql__expect_word(parser, "delay",
                                   "DELAY OF, as in: WATERMARK FOR ts AS ts - "
                                   "INTERVAL '5 seconds'"));
        MR_TRY(mr_sql__expect_word(parser, "of", "OF after DELAY"));
        return mr_sql__parse_delay(parser, NULL, 0, &statement->watermark_delay_us);
    }
    MR_TRY(mr_sql__expect_word(parser, "as", "AS"));
    from = parser->token.at;
    if (parser->token.kind == MR_TOKEN_STRING || parser->token.kind == MR_TOKEN_NUMBER)
        return mr_sql__unexpected(parser, "the column again, as in: ts - INTERVAL '5 seconds'");
    MR_TRY(mr_sql__parse_name(parser, "the column again", &again));
    if (!mr_text_equal_nocase(again, strlen(again), statement->watermark,
                              strlen(statement->watermark)))
        return mr_sql__parser_fail(
            parser, from, "a watermark follows its own column: write %s - INTERVAL '5 seconds'",
            statement->watermark);
    statement->watermark_delay_us = 0;
    if (mr_sql__at_symbol(parser, ',') || mr_sql__at_symbol(parser, ')'))
        return MR_OK;
    MR_TRY(mr_sql__expect_symbol(parser, '-', "'- INTERVAL ...' after the column"));
    return mr_sql__parse_delay(parser, NULL, 0, &statement->watermark_delay_us);
}

/* A computed column is made later: its type is checked by the planner. */
static enum mr_status check_watermark(struct mr_sql_parser *parser,
                                      const struct mr_sql_statement *statement)
{
    const char *name = statement->watermark;
    const char *names[MR_SQL_OPTIONS_MAX];
    const char *nearest;
    const struct mr_type *type;
    size_t count = 0;
    int32_t index;

    if (name == NULL)
        return MR_OK;
    for (size_t i = 0; i < statement->computed_count; i++) {
        const char *computed = statement->computed[i].name;

        if (mr_text_equal_nocase(computed, strlen(computed), name, strlen(name)))
            return MR_OK;
    }
    index = mr_schema_find(statement->columns, name, strlen(name));
    if (index < 0) {
        for (uint32_t i = 0;
             i < mr_schema_field_count(statement->columns) && count < MR_ARRAY_SIZE(names); i++)
            names[count++] = mr_schema_field(statement->columns, i)->name;
        nearest = mr_text_nearest(name, names, count);
        return mr_sql__parser_fail(parser, statement->watermark_at,
                                   "table '%s' has no column '%s' for its watermark%s%s%s",
                                   statement->name, name, nearest != NULL ? "; did you mean '" : "",
                                   nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
    }
    type = &mr_schema_field(statement->columns, (uint32_t)index)->type;
    if (type->id != MR_TYPE_TIMESTAMP && type->id != MR_TYPE_TIMESTAMP_NS)
        return mr_sql__parser_fail(parser, statement->watermark_at,
                                   "the watermark's column '%s' must be a TIMESTAMP; declare it so",
                                   name);
    return MR_OK;
}

/* ---- Columns ---- */

/* What mr_schema_parse refuses is a mistake in the text here. */
static enum mr_status bad_columns(struct mr_sql_parser *parser, size_t at, enum mr_status status)
{
    if (status != MR_CONFIG)
        return status;
    if (parser->err != NULL)
        parser->err->status = MR_SQL_ERROR;
    return mr_error_place(parser->err, parser->lexer.text, at, MR_SQL_ERROR);
}

/* Words that end a type and begin what is said about its column. */
static bool at_tail(const struct mr_sql_parser *parser)
{
    static const char *const words[] = {"not",     "null",    "primary",   "unique",
                                        "comment", "default", "metadata",  "constraint",
                                        "check",   "collate", "generated", "references"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (mr_sql__at_word(parser, words[i]))
            return true;
    }
    return false;
}

static enum mr_status skip_not_enforced(struct mr_sql_parser *parser)
{
    if (mr_sql__at_word(parser, "enforced"))
        return mr_sql__parser_fail(parser, parser->token.at,
                                   "a PRIMARY KEY is not enforced: that no two rows have one key "
                                   "is for the writer of the data to see to; write NOT ENFORCED, "
                                   "and SELECT DISTINCT ON (key) to drop duplicates");
    if (mr_sql__at_word(parser, "not") && mr_sql__next_is_word(parser, "enforced")) {
        MR_TRY(mr_sql__advance(parser));
        return mr_sql__advance(parser);
    }
    return MR_OK;
}

static enum mr_status require(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                              const char *name)
{
    if (statement->required_count == MR_SQL_OPTIONS_MAX)
        return mr_sql__unexpected(parser, "at most 200 columns that are NOT NULL");
    if (statement->required == NULL)
        statement->required =
            mr_arena_alloc(&parser->script->arena, MR_SQL_OPTIONS_MAX * sizeof(char *));
    if (statement->required == NULL)
        return mr_sql__parser_no_memory(parser);
    statement->required[statement->required_count++] = name;
    return MR_OK;
}

/* NOT NULL, NULL, PRIMARY KEY NOT ENFORCED, COMMENT 'text' of the column of that name; the rest is
 * refused by name. */
static enum mr_status parse_tail(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                 const char *name)
{
    const char *text;

    while (at_tail(parser)) {
        if (mr_sql__at_word(parser, "not")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__expect_word(parser, "null", "NULL after NOT"));
            MR_TRY(require(parser, statement, name));
        } else if (mr_sql__at_word(parser, "null")) {
            MR_TRY(mr_sql__advance(parser));
        } else if (mr_sql__at_word(parser, "primary")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__expect_word(parser, "key", "KEY after PRIMARY"));
            MR_TRY(skip_not_enforced(parser));
        } else if (mr_sql__at_word(parser, "comment")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__parse_raw_text(parser, "a text after COMMENT", &text));
        } else if (mr_sql__at_word(parser, "metadata")) {
            return mr_sql__parser_fail(
                parser, parser->token.at,
                "METADATA columns are not supported; a kafka table without columns has key, value, "
                "topic, partition, offset and timestamp: read those, and value with JSON "
                "functions");
        } else {
            return mr_sql__unexpected(parser, "a type, NOT NULL, PRIMARY KEY or COMMENT (other "
                                              "constraints and defaults are not supported)");
        }
    }
    return MR_OK;
}

/* Types of other engines that have no column here. */
static enum mr_status refuse_type(struct mr_sql_parser *parser, const char *name)
{
    static const struct {
        const char *word;
        const char *instead;
    } rows[] = {
        {"map", "use STRUCT(key ..., value ...)[], a list of pairs"},
        {"multiset", "use a list, such as VARCHAR[]"},
        {"time", "use TIMESTAMP, or VARCHAR and a cast in the SELECT"},
        {"interval", "use BIGINT with a count of seconds"},
        {"json", "use VARCHAR and JSON functions in the SELECT"},
        {"variant", "use VARCHAR and JSON functions in the SELECT"},
        {"uuid", "use VARCHAR and a cast in the SELECT"},
        {"hugeint", "use DECIMAL(38, 0)"},
    };

    for (size_t i = 0; i < MR_ARRAY_SIZE(rows); i++) {
        if (mr_sql__at_word(parser, rows[i].word))
            return mr_sql__parser_fail(
                parser, parser->token.at, "column '%s': type %.*s is not supported; %s", name,
                (int)parser->token.size, parser->lexer.text + parser->token.at, rows[i].instead);
    }
    return MR_OK;
}

/* One "name TYPE": checked alone, so that an error has its place; then added to the list. */
static enum mr_status parse_column(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                   const char *name, size_t from, struct mr_buf *columns)
{
    const char *text = parser->lexer.text;
    struct mr_buf one = MR_BUF_INIT;
    struct mr_schema *schema = NULL;
    size_t type_at = parser->token.at;
    size_t end = type_at;
    unsigned depth = 0;
    enum mr_status status;

    MR_TRY(refuse_type(parser, name));
    while (!mr_sql__at_end(parser)) {
        if (depth == 0 &&
            (mr_sql__at_symbol(parser, ',') || mr_sql__at_symbol(parser, ')') || at_tail(parser)))
            break;
        if (mr_sql__at_symbol(parser, '(') || mr_sql__at_symbol(parser, '[') ||
            mr_sql__at_symbol(parser, '<'))
            depth++;
        else if (mr_sql__at_symbol(parser, ')') || mr_sql__at_symbol(parser, ']') ||
                 mr_sql__at_symbol(parser, '>'))
            depth--;
        end = parser->token.at + parser->token.size;
        MR_TRY(mr_sql__advance(parser));
    }
    mr_buf_add_char(&one, '"');
    for (const char *at = name; *at != '\0'; at++) {
        mr_buf_add_str(&one, *at == '"' ? "\"" : "");
        mr_buf_add_char(&one, *at);
    }
    mr_buf_add_str(&one, "\" ");
    mr_buf_add(&one, text + type_at, end - type_at);
    status = one.failed ? mr_sql__parser_no_memory(parser)
                        : mr_schema_parse(one.data, one.size, &schema, parser->err);
    if (status == MR_OK) {
        mr_schema_unref(schema);
        mr_buf_add_str(columns, columns->size > 0 ? ", " : "");
        mr_buf_add(columns, one.data, one.size);
    }
    mr_buf_release(&one);
    return status == MR_OK ? parse_tail(parser, statement, name)
                           : bad_columns(parser, from, status);
}

/* name AS expression: the expression's place, up to ',' or ')' */
static enum mr_status parse_computed(struct mr_sql_parser *parser, const char *name,
                                     struct mr_sql_statement *statement)
{
    struct mr_sql_computed *computed;
    size_t end;
    unsigned depth = 0;
    bool is = false; /* the word before is IS: its NOT NULL belongs to the expression */

    if (statement->computed == NULL)
        statement->computed = mr_arena_alloc(&parser->script->arena,
                                             MR_SQL_OPTIONS_MAX * sizeof(*statement->computed));
    if (statement->computed == NULL)
        return mr_sql__parser_no_memory(parser);
    if (statement->computed_count == MR_SQL_OPTIONS_MAX)
        return mr_sql__unexpected(parser, "at most 200 computed columns");
    MR_TRY(mr_sql__advance(parser));
    computed = &statement->computed[statement->computed_count++];
    *computed = (struct mr_sql_computed){.name = name, .at = parser->token.at};
    end = computed->at;
    while (!mr_sql__at_end(parser)) {
        if (depth == 0 &&
            (mr_sql__at_symbol(parser, ',') || mr_sql__at_symbol(parser, ')') ||
             mr_sql__at_word(parser, "comment") ||
             (!is && mr_sql__at_word(parser, "not") && mr_sql__next_is_word(parser, "null"))))
            break;
        is = mr_sql__at_word(parser, "is");
        depth += mr_sql__at_symbol(parser, '(') || mr_sql__at_symbol(parser, '[');
        depth -= mr_sql__at_symbol(parser, ')') || mr_sql__at_symbol(parser, ']');
        end = parser->token.at + parser->token.size;
        MR_TRY(mr_sql__advance(parser));
    }
    computed->size = end - computed->at;
    if (computed->size == 0)
        return mr_sql__unexpected(parser, "an expression after AS");
    return parse_tail(parser, statement, name);
}

/* [CONSTRAINT name] PRIMARY KEY ( a, b ) [NOT ENFORCED] */
static enum mr_status parse_key_clause(struct mr_sql_parser *parser,
                                       struct mr_sql_statement *statement)
{
    const char *name;
    bool there;

    MR_TRY(mr_sql__skip_word(parser, "constraint", &there));
    if (there)
        MR_TRY(mr_sql__parse_name(parser, "the name of the constraint", &name));
    if (!mr_sql__at_word(parser, "primary"))
        return mr_sql__unexpected(parser, "PRIMARY KEY (other constraints are not supported)");
    MR_TRY(mr_sql__advance(parser));
    MR_TRY(mr_sql__expect_word(parser, "key", "KEY after PRIMARY"));
    MR_TRY(mr_sql__expect_symbol(parser, '(', "'(' and the columns of the key"));
    MR_TRY(
        mr_sql__parse_names(parser, &statement->insert_columns, &statement->insert_column_count));
    return skip_not_enforced(parser);
}

static enum mr_status parse_item(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                 struct mr_buf *columns)
{
    size_t from = parser->token.at;
    const char *name;

    if (mr_sql__at_word(parser, "watermark") && !mr_sql__next_is_symbol(parser, ',')) {
        MR_TRY(mr_sql__advance(parser));
        return parse_watermark(parser, statement);
    }
    if ((mr_sql__at_word(parser, "primary") && mr_sql__next_is_word(parser, "key")) ||
        mr_sql__at_word(parser, "constraint") ||
        (mr_sql__at_word(parser, "unique") && mr_sql__next_is_symbol(parser, '(')))
        return parse_key_clause(parser, statement);
    MR_TRY(mr_sql__parse_name(parser, "a column and its type", &name));
    if (mr_sql__at_word(parser, "as"))
        return parse_computed(parser, name, statement);
    return parse_column(parser, statement, name, from, columns);
}

static enum mr_status parse_list(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                 struct mr_buf *columns)
{
    size_t at = parser->token.at;
    enum mr_status status;

    MR_TRY(mr_sql__expect_symbol(parser, '(', "'('"));
    for (;;) {
        MR_TRY(parse_item(parser, statement, columns));
        if (mr_sql__at_symbol(parser, ')'))
            break;
        MR_TRY(mr_sql__expect_symbol(parser, ',', "',' or ')' after a column"));
    }
    MR_TRY(mr_sql__advance(parser));
    if (columns->failed)
        return mr_sql__parser_no_memory(parser);
    if (columns->size == 0)
        return mr_sql__parser_fail(parser, at, "a table needs at least one column");
    status = mr_schema_parse(columns->data, columns->size, &statement->columns, parser->err);
    return status == MR_OK ? check_watermark(parser, statement) : bad_columns(parser, at, status);
}

enum mr_status mr_sql__parse_columns(struct mr_sql_parser *parser,
                                     struct mr_sql_statement *statement)
{
    struct mr_buf columns = MR_BUF_INIT;
    enum mr_status status = parse_list(parser, statement, &columns);

    mr_buf_release(&columns);
    return status;
}

/* ---- What follows ---- */

static enum mr_status add_option(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                 size_t at, const char *key, const char *value)
{
    struct mr_sql_option *option;

    MR_TRY(mr_sql__new_option(parser, statement, &option));
    *option = (struct mr_sql_option){.key = key, .value = value, .at = at};
    return MR_OK;
}

/* USING kafka names a connector; USING json, as Spark has it, files of that format. */
static enum mr_status parse_using(struct mr_sql_parser *parser, struct mr_sql_statement *statement)
{
    size_t at;
    const char *name;

    MR_TRY(mr_sql__advance(parser));
    at = parser->token.at;
    MR_TRY(mr_sql__parse_name(parser, "the name of a connector or format", &name));
    if (mr_source_find(name) == NULL && mr_sink_find(name) == NULL &&
        mr_format_find(name) != NULL) {
        MR_TRY(add_option(parser, statement, at, "connector", "file"));
        return add_option(parser, statement, at, "format", name);
    }
    return add_option(parser, statement, at, "connector", name);
}

enum mr_status mr_sql__parse_clauses(struct mr_sql_parser *parser,
                                     struct mr_sql_statement *statement)
{
    const char *text;

    for (;;) {
        if (mr_sql__at_word(parser, "with")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__parse_options(parser, statement, "'(' after WITH"));
        } else if (mr_sql__at_word(parser, "options")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__parse_options(parser, statement, "'(' after OPTIONS"));
        } else if (mr_sql__at_word(parser, "using")) {
            MR_TRY(parse_using(parser, statement));
        } else if (mr_sql__at_word(parser, "comment")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__parse_raw_text(parser, "a text after COMMENT", &text));
        } else if (mr_sql__at_word(parser, "partitioned") || mr_sql__at_word(parser, "clustered") ||
                   mr_sql__at_word(parser, "distributed") || mr_sql__at_word(parser, "location") ||
                   mr_sql__at_word(parser, "tblproperties") || mr_sql__at_word(parser, "cluster") ||
                   mr_sql__at_word(parser, "like")) {
            return mr_sql__unexpected(parser, "WITH (connector = '...', ...): what a table needs "
                                              "besides columns are options");
        } else {
            return MR_OK;
        }
    }
}
