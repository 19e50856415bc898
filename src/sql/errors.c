/*
 * Errors in a query: their place in the script, and what may have been meant. Called by every file
 * of the planner.
 *
 * Trees and statements are changed on their way to DuckDB, so a place is found in one of two ways:
 *
 *     a node of the tree     query_location --edits--> script
 *     a printed statement    the word at the error, and its neighbours --> the same words in the
 *                            query as the user wrote it
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/text.h"
#include "sql/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { CANDIDATES_MAX = 512, WORD_BYTES_MAX = 40, SHOWN_MAX = 6 };

/* ---- Failing with a place ---- */

/* The first place known at or below a node. */
static bool find_place(const struct mr_json *node, size_t *ret_offset, unsigned depth)
{
    int64_t offset;

    if (node == NULL || depth > MR_SQL_DEPTH_MAX)
        return false;
    if (node->kind == MR_JSON_OBJECT && mr_json_get(node, "query_location") != NULL &&
        mr_json_int(mr_json_get(node, "query_location"), &offset)) {
        *ret_offset = (size_t)offset;
        return true;
    }
    for (const struct mr_json *child = node->first; child != NULL; child = child->next) {
        if (find_place(child, ret_offset, depth + 1))
            return true;
    }
    return false;
}

enum mr_status mr_sql__fail(struct mr_sql_planner *p, const struct mr_sql_query *query,
                            const struct mr_json *node, const char *format, ...)
{
    va_list args;
    size_t offset = 0;
    enum mr_status status;

    va_start(args, format);
    status = mr_error_setv(p->err, __FILE__, __LINE__, MR_SQL_ERROR, format, args);
    va_end(args);
    if (find_place(node, &offset, 0))
        offset = mr_edits_old_position(&query->edits, offset);
    return mr_error_place(p->err, p->script->text, query->at + offset, status);
}

enum mr_status mr_sql__fail_at(struct mr_sql_planner *p, size_t at, const char *format, ...)
{
    va_list args;
    enum mr_status status;

    va_start(args, format);
    status = mr_error_setv(p->err, __FILE__, __LINE__, MR_SQL_ERROR, format, args);
    va_end(args);
    return mr_error_place(p->err, p->script->text, at, status);
}

enum mr_status mr_sql__as_sql_error(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    enum mr_status status)
{
    if (status != MR_CONFIG)
        return status;
    p->err->status = MR_SQL_ERROR;
    return mr_error_place(p->err, p->script->text, query->at, MR_SQL_ERROR);
}

/* ---- Columns ---- */

static size_t add_columns(const struct mr_schema *schema, const char **names, size_t count)
{
    for (uint32_t i = 0;
         schema != NULL && i < mr_schema_field_count(schema) && count < CANDIDATES_MAX; i++)
        names[count++] = mr_schema_field(schema, i)->name;
    return count;
}

/* Columns of all tables that are read, and of the views made so far. */
static size_t all_columns(const struct mr_sql_planner *p, const char **names)
{
    size_t count = 0;

    for (size_t i = 0; i < p->table_count; i++) {
        if (p->tables[i].resolved)
            count = add_columns(p->tables[i].full, names, count);
    }
    for (size_t i = 0; i < p->view_count; i++) {
        if (p->views[i].rel != NULL)
            count = add_columns(p->views[i].rel->schema, names, count);
    }
    return count;
}

static void describe_column(const struct mr_sql_planner *p, const char *name, char *text,
                            size_t size)
{
    const char *names[CANDIDATES_MAX];
    size_t count = all_columns(p, names);
    const char *nearest = mr_text_nearest(name, names, count);
    size_t used;

    if (nearest != NULL && !mr_sql__same_name(nearest, name)) {
        snprintf(text, size, "there is no column '%.100s' here; did you mean '%.100s'?", name,
                 nearest);
        return;
    }
    used = (size_t)snprintf(text, size, "there is no column '%.100s' here", name);
    for (size_t i = 0; i < count && i < SHOWN_MAX && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%.40s",
                                 i == 0 ? "; its tables have " : ", ", names[i]);
    if (count > SHOWN_MAX && used < size)
        snprintf(text + used, size - used, ", ...");
}

enum mr_status mr_sql__unknown_column(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                      const struct mr_json *node, const char *name)
{
    char text[MR_ERROR_TEXT_BYTES];

    describe_column(p, name, text, sizeof(text));
    return mr_sql__fail(p, query, node, "%s", text);
}

/* ---- Texts of DuckDB ---- */

/* The first name in double quotes of an error text; false: none. */
static bool quoted_name(const char *text, char *name, size_t size)
{
    const char *open = strchr(text, '"');
    const char *close = open != NULL ? strchr(open + 1, '"') : NULL;

    if (close == NULL || close == open + 1 || (size_t)(close - open) > size)
        return false;
    memcpy(name, open + 1, (size_t)(close - open) - 1);
    name[close - open - 1] = '\0';
    return true;
}

/* "... Function with name X does not exist! Did you mean "Y"?" */
static bool improve_function(char *text)
{
    static const char with_name[] = "Function with name ";
    const char *at = strstr(text, with_name);
    size_t size = at != NULL ? strcspn(at + sizeof(with_name) - 1, " ") : 0;
    char nearest[MR_NAME_BYTES_MAX + 1];
    char better[MR_ERROR_TEXT_BYTES];

    if (size == 0 || size > MR_NAME_BYTES_MAX || strstr(at, "does not exist") == NULL)
        return false;
    at += sizeof(with_name) - 1;
    if (strstr(at, "Did you mean") != NULL && quoted_name(at, nearest, sizeof(nearest)))
        snprintf(better, sizeof(better), "there is no function '%.*s'; did you mean '%.100s'?",
                 (int)MR_MIN(size, (size_t)100), at, nearest);
    else
        snprintf(better, sizeof(better), "there is no function '%.*s'",
                 (int)MR_MIN(size, (size_t)100), at);
    memcpy(text, better, sizeof(better));
    return true;
}

/* Its candidates for columns are those that are left after narrowing: ours are all of them. Its
 * lists of overloads say nothing to people. */
static void improve_text(const struct mr_sql_planner *p)
{
    static const char too_deep[] = "this expression has more than 1000 levels inside each other; "
                                   "compute parts of it in a view";
    char *text = p->err->text;
    char *candidates = strstr(text, "Candidate functions");
    char name[MR_NAME_BYTES_MAX + 1];
    char better[MR_ERROR_TEXT_BYTES];

    if (improve_function(text))
        return;
    if (strncmp(text, "Max expression depth", 20) == 0 ||
        strncmp(text, "memory exhausted", 16) == 0) {
        memcpy(text, too_deep, sizeof(too_deep));
    } else if (strncmp(text, "referenced column ", 18) == 0 &&
               quoted_name(text, name, sizeof(name))) {
        describe_column(p, name, better, sizeof(better));
        memcpy(text, better, sizeof(better));
    } else if (strncmp(text, "referenced table ", 17) == 0 &&
               quoted_name(text, name, sizeof(name))) {
        snprintf(better, sizeof(better), "there is no table or column '%.100s' in this FROM", name);
        memcpy(text, better, sizeof(better));
    } else if (candidates != NULL) {
        while (candidates > text && strchr(" .\t", candidates[-1]) != NULL)
            candidates--;
        *candidates = '\0';
    }
}

/* ---- Places in printed statements ---- */

/* The name a token stands for, quotes taken off. */
static void token_name(const char *text, const struct mr_token *token, const char **ret_name,
                       size_t *ret_size)
{
    bool quoted = token->kind == MR_TOKEN_QUOTED;

    *ret_name = text + token->at + (quoted ? 1 : 0);
    *ret_size = token->size - (quoted ? 2 : 0);
}

static bool same_token(const char *a, const struct mr_token *x, const char *b,
                       const struct mr_token *y)
{
    const char *left, *right;
    size_t left_size, right_size;

    token_name(a, x, &left, &left_size);
    token_name(b, y, &right, &right_size);
    return mr_text_equal_nocase(left, left_size, right, right_size);
}

static bool is_bracket(const char *text, const struct mr_token *token)
{
    return token->kind == MR_TOKEN_SYMBOL && (text[token->at] == '(' || text[token->at] == ')');
}

/* A word with those around it, brackets left out: printing adds and takes away brackets. */
struct context {
    struct mr_token before;
    struct mr_token word;
    struct mr_token after;
};

/* Moves on to the next word; false at the end. */
static bool next_word(struct mr_lexer *lexer, struct context *context)
{
    struct mr_lexer ahead;

    if (context->word.size > 0)
        context->before = context->word;
    do {
        if (mr_lexer_next(lexer, &context->word, NULL) != MR_OK ||
            context->word.kind == MR_TOKEN_END)
            return false;
    } while (is_bracket(lexer->text, &context->word));
    ahead = *lexer;
    do {
        if (mr_lexer_next(&ahead, &context->after, NULL) != MR_OK) {
            context->after = (struct mr_token){MR_TOKEN_END, lexer->size, 0};
            return true;
        }
    } while (is_bracket(lexer->text, &context->after));
    return true;
}

/* Where the user wrote the word at `offset` of the printed statement; false: nowhere. */
static bool find_word(const char *printed, size_t offset, const char *sql, size_t *ret_offset)
{
    struct mr_lexer lexer = mr_lexer_of(printed, strlen(printed));
    struct context wanted = {0};
    struct context have = {0};
    int best = -1;

    do {
        if (!next_word(&lexer, &wanted))
            return false;
    } while (wanted.word.at + wanted.word.size <= offset);
    if (wanted.word.kind == MR_TOKEN_SYMBOL)
        return false;
    lexer = mr_lexer_of(sql, strlen(sql));
    while (next_word(&lexer, &have)) {
        int score = 0;

        if (have.word.kind == MR_TOKEN_SYMBOL ||
            !same_token(printed, &wanted.word, sql, &have.word))
            continue;
        score += same_token(printed, &wanted.before, sql, &have.before) ? 1 : 0;
        score += same_token(printed, &wanted.after, sql, &have.after) ? 1 : 0;
        if (score > best) {
            best = score;
            *ret_offset = have.word.at;
        }
    }
    return best >= 0;
}

/* A word of the user's text that is the name; false: none. */
static bool find_name(const char *name, const char *sql, size_t *ret_offset)
{
    struct mr_lexer lexer = mr_lexer_of(sql, strlen(sql));
    struct mr_token token;

    while (mr_lexer_next(&lexer, &token, NULL) == MR_OK && token.kind != MR_TOKEN_END) {
        const char *have;
        size_t size;

        token_name(sql, &token, &have, &size);
        if (token.kind != MR_TOKEN_SYMBOL && mr_text_equal_nocase(have, size, name, strlen(name))) {
            *ret_offset = token.at;
            return true;
        }
    }
    return false;
}

static size_t offset_of(const char *text, uint32_t sql_line, uint32_t sql_column)
{
    size_t offset = 0;

    for (uint32_t line = 1; line < sql_line && text[offset] != '\0'; offset++)
        line += text[offset] == '\n';
    return sql_line > 0 ? offset + sql_column - 1 : 0;
}

void mr_sql__place_printed(struct mr_sql_planner *p, const struct mr_sql_query *query,
                           const char *printed)
{
    size_t offset = 0;
    char name[MR_NAME_BYTES_MAX + 1];
    bool found;

    if (p->err == NULL || query->sql == NULL)
        return;
    if (p->err->sql_line > 0)
        found = find_word(printed, offset_of(printed, p->err->sql_line, p->err->sql_column),
                          query->sql, &offset);
    else
        found =
            quoted_name(p->err->text, name, sizeof(name)) && find_name(name, query->sql, &offset);
    improve_text(p);
    if (found)
        offset = mr_edits_old_position(&query->edits, offset);
    mr_error_place(p->err, p->script->text, query->at + (found ? offset : 0), p->err->status);
}

/* ---- Syntax ---- */

/* The keyword that a word is probably meant to be, or NULL. */
static const char *nearest_keyword(const char *sql, const struct mr_token *token)
{
    static const char *const keywords[] = {
        "SELECT",   "FROM",  "WHERE",   "GROUP",  "ORDER",  "HAVING",    "LIMIT",      "OFFSET",
        "JOIN",     "INNER", "LEFT",    "RIGHT",  "UNION",  "INTERSECT", "EXCEPT",     "DISTINCT",
        "BETWEEN",  "LIKE",  "CASE",    "WHEN",   "THEN",   "ELSE",      "FILTER",     "WINDOW",
        "INTERVAL", "CAST",  "USING",   "AND",    "OVER",   "PARTITION", "WITH",       "QUALIFY",
        "LATERAL",  "CROSS", "NULLS",   "EXISTS", "UNNEST", "TUMBLE",    "DESCRIPTOR", "END",
        "AS",       "ON",    "IN",      "IS",     "OR",     "NOT",       "NULL",       "BY",
        "ALL",      "ANY",   "TRUE",    "FALSE",  "ASC",    "DESC",      "FOR",        "SET",
        "TABLE",    "LAST",  "FIRST",   "ROWS",   "RANGE",  "TO",        "INTO",       "VALUES",
        "FULL",     "OUTER", "NATURAL", "SEMI",   "ANTI",   "ILIKE",     "DATE",       "TIMESTAMP"};
    char word[WORD_BYTES_MAX + 1];

    if (token->kind != MR_TOKEN_WORD || token->size > WORD_BYTES_MAX)
        return NULL;
    for (size_t i = 0; i < token->size; i++) {
        char c = sql[token->at + i];

        word[i] = (char)(c >= 'a' && c <= 'z' ? c - 32 : c);
    }
    word[token->size] = '\0';
    for (size_t i = 0; i < MR_ARRAY_SIZE(keywords); i++) {
        if (strcmp(keywords[i], word) == 0)
            return NULL;
    }
    return mr_text_nearest(word, keywords, MR_ARRAY_SIZE(keywords));
}

/* DuckDB stops behind a misspelt keyword, which it took for an alias: the last like one up to the
 * error. */
static const char *misspelt(const char *sql, size_t offset, struct mr_token *ret_token)
{
    struct mr_lexer lexer = mr_lexer_of(sql, strlen(sql));
    struct mr_token last[3] = {{MR_TOKEN_END, 0, 0}, {MR_TOKEN_END, 0, 0}, {MR_TOKEN_END, 0, 0}};
    struct mr_token token;

    while (mr_lexer_next(&lexer, &token, NULL) == MR_OK && token.kind != MR_TOKEN_END &&
           token.at <= offset) {
        last[0] = last[1];
        last[1] = last[2];
        last[2] = token;
    }
    for (size_t i = MR_ARRAY_SIZE(last); i > 0; i--) {
        const char *keyword = nearest_keyword(sql, &last[i - 1]);

        if (keyword != NULL) {
            *ret_token = last[i - 1];
            return keyword;
        }
    }
    return NULL;
}

enum mr_status mr_sql__place_syntax(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    enum mr_status status)
{
    struct mr_token token;
    const char *keyword;
    size_t offset;

    if (p->err == NULL)
        return status;
    improve_text(p);
    if (p->err->sql_line == 0)
        return mr_error_place(p->err, p->script->text, query->at, status);
    offset = offset_of(query->sql, p->err->sql_line, p->err->sql_column);
    keyword = strncmp(p->err->text, "syntax error", 12) == 0 ? misspelt(query->sql, offset, &token)
                                                             : NULL;
    if (keyword != NULL) {
        offset = token.at;
        status = MR_FAIL(p->err, MR_SQL_ERROR, "syntax error at or near '%.*s'; did you mean '%s'?",
                         (int)token.size, query->sql + token.at, keyword);
    }
    return mr_error_place(p->err, p->script->text,
                          query->at + mr_edits_old_position(&query->edits, offset), status);
}
