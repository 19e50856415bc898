/*
 * From the text of a SELECT to its syntax tree: a token pass first, because DuckDB's parser refuses
 * what streams add; then json_serialize_sql. Places of errors always refer to the user's script.
 *
 *     window(ts, '10 minutes')                       mr_window(ts, '10 minutes'): a keyword
 *     window.start                                   "window".start
 *     TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), ...))    .....(TUMBLE(..... t, DESCRIPTOR(ts), ...)
 *                                                    blanks, no outer brackets
 *     '${NAME}' in a text                            the variable's value
 *     STREAM t, STREAM(t) in FROM                     t
 *     ON LATE ..., WATERMARK c DELAY OF ...           marks in the tree: clauses.c
 *     `name`                                          "name"
 *
 * Each replacement is kept as an edit (duck/lex.h), so that query_location of a node leads back to
 * the script.
 *
 * Thread: the planner's.
 */
#include "base/text.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/number_text.h"
#include "sql/internal.h"

#include <string.h>

enum { BRACKETS_MAX = MR_LIMIT_SQL_BRACKETS };

struct pass {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    struct mr_lexer lexer;
    struct mr_token before; /* the token in front of the one at hand */
    struct mr_token token;
    struct mr_buf out;
    size_t copied;
    size_t depth;              /* of brackets */
    bool blank[BRACKETS_MAX];  /* the closing bracket of this depth is blanked: TABLE( ... ) */
    bool window[BRACKETS_MAX]; /* inside the brackets of TUMBLE( or HOP( */
};

enum mr_status mr_sql__of_mode(struct mr_sql_planner *p, enum mr_status status)
{
    p->mode_refused = true;
    return status;
}

enum mr_status mr_sql__no_memory(struct mr_sql_planner *p)
{
    return MR_FAIL(p->err, MR_NOMEM, "cannot plan the query: out of memory");
}

static void copy_until(struct pass *pass, size_t offset)
{
    mr_buf_add(&pass->out, pass->lexer.text + pass->copied, offset - pass->copied);
    pass->copied = offset;
}

static void replace(struct pass *pass, size_t at, size_t size, const char *with)
{
    struct mr_edit edit = {0, strlen(with), at, size};

    copy_until(pass, at);
    edit.from = pass->out.size;
    mr_buf_add_str(&pass->out, with);
    pass->copied = at + size;
    mr_edits_add(&pass->query->edits, &edit);
}

/* Same size, so no edit is needed. */
static void blank_out(struct pass *pass, size_t at, size_t size)
{
    copy_until(pass, at);
    for (size_t i = 0; i < size; i++)
        mr_buf_add_char(&pass->out, ' ');
    pass->copied = at + size;
}

static enum mr_status peek(const struct pass *pass, struct mr_token *ret_token)
{
    struct mr_lexer ahead = pass->lexer;

    return mr_lexer_next(&ahead, ret_token, pass->p->err);
}

/* `window` at hand: a call, a column, or the WINDOW clause (WINDOW name AS). */
static enum mr_status visit_window(struct pass *pass)
{
    struct mr_lexer ahead = pass->lexer;
    struct mr_token next;
    struct mr_token after;

    MR_TRY(mr_lexer_next(&ahead, &next, pass->p->err));
    if (mr_token_is_symbol(&ahead, &next, '(')) {
        replace(pass, pass->token.at, pass->token.size, "mr_window");
        return MR_OK;
    }
    MR_TRY(mr_lexer_next(&ahead, &after, pass->p->err));
    if (next.kind == MR_TOKEN_WORD && mr_token_is(&ahead, &after, "as") &&
        !mr_token_is(&ahead, &next, "as"))
        return MR_OK;
    replace(pass, pass->token.at, pass->token.size, "\"window\"");
    return MR_OK;
}

static bool is_window_function(const struct pass *pass, const struct mr_token *token)
{
    return mr_token_is(&pass->lexer, token, "tumble") || mr_token_is(&pass->lexer, token, "hop") ||
           mr_token_is(&pass->lexer, token, "cumulate") ||
           mr_token_is(&pass->lexer, token, "session") ||
           mr_token_is(&pass->lexer, token, "drop_duplicates") ||
           mr_token_is(&pass->lexer, token, "drop_duplicates_within_watermark") ||
           mr_token_is(&pass->lexer, token, "dropduplicates") ||
           mr_token_is(&pass->lexer, token, "dropduplicateswithinwatermark");
}

/* PARTITION at hand, in SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap): an argument of its
 * own, up to DESCRIPTOR. */
static enum mr_status visit_partition(struct pass *pass)
{
    struct mr_lexer ahead = pass->lexer;
    struct mr_token before = {0};
    struct mr_token next;

    MR_TRY(mr_lexer_next(&ahead, &next, pass->p->err));
    if (!mr_token_is(&ahead, &next, "by"))
        return MR_OK;
    replace(pass, pass->token.at, next.at + next.size - pass->token.at, ", mr_partition(");
    pass->lexer.at = next.at + next.size;
    for (;;) {
        MR_TRY(mr_lexer_next(&ahead, &next, pass->p->err));
        if (next.kind == MR_TOKEN_END)
            return MR_OK; /* DuckDB tells what is missing */
        if (mr_token_is(&ahead, &next, "descriptor") && mr_token_is_symbol(&ahead, &before, ','))
            break;
        before = next;
    }
    replace(pass, before.at, before.size, "),");
    pass->lexer.at = before.at + before.size;
    return MR_OK;
}

/* TABLE at hand: TABLE(TUMBLE(...)), or TABLE t as an argument of TUMBLE. */
static enum mr_status visit_table(struct pass *pass)
{
    struct mr_lexer ahead = pass->lexer;
    struct mr_token next;
    struct mr_token after;

    MR_TRY(mr_lexer_next(&ahead, &next, pass->p->err));
    MR_TRY(mr_lexer_next(&ahead, &after, pass->p->err));
    if (mr_token_is_symbol(&ahead, &next, '(') && is_window_function(pass, &after)) {
        blank_out(pass, pass->token.at, pass->token.size);
        blank_out(pass, next.at, next.size);
        if (pass->depth + 1 < BRACKETS_MAX)
            pass->blank[++pass->depth] = true;
        pass->window[pass->depth] = false;
        pass->lexer.at = next.at + next.size;
    } else if (pass->depth > 0 && pass->window[pass->depth]) {
        blank_out(pass, pass->token.at, pass->token.size);
    }
    return MR_OK;
}

/* A clause of ours: taken out, with a mark for the tree in its place. */
static enum mr_status visit_clause(struct pass *pass, bool *ret_done)
{
    const char *text;
    size_t end;

    MR_TRY(mr_sql__clause(pass->p, pass->query, &pass->lexer, &pass->token, &end, &text));
    *ret_done = end != 0;
    if (end == 0)
        return MR_OK;
    replace(pass, pass->token.at, end - pass->token.at, text);
    pass->lexer.at = end;
    pass->token.size = end - pass->token.at;
    pass->token.kind = MR_TOKEN_NUMBER; /* nothing that the next word could lean on */
    return MR_OK;
}

/* What may follow a table of the name `stream`: then STREAM is no word of the dialect. */
static bool follows_table(const struct pass *pass, const struct mr_token *token)
{
    static const char *const words[] = {
        "where", "group",  "having",    "order",  "limit",       "offset",   "fetch",  "union",
        "join",  "inner",  "left",      "right",  "full",        "cross",    "outer",  "natural",
        "semi",  "anti",   "asof",      "on",     "using",       "as",       "window", "qualify",
        "using", "except", "intersect", "select", "tablesample", "watermark"};

    if (token->kind != MR_TOKEN_WORD)
        return token->kind != MR_TOKEN_QUOTED && !mr_token_is_symbol(&pass->lexer, token, '(');
    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (mr_token_is(&pass->lexer, token, words[i]))
            return true;
    }
    return false;
}

/* STREAM at hand, behind FROM, JOIN or a comma: STREAM t, STREAM(t). */
static enum mr_status visit_stream(struct pass *pass)
{
    struct mr_token next;

    MR_TRY(peek(pass, &next));
    if (follows_table(pass, &next) || mr_sql__table(pass->p, "stream") != NULL ||
        mr_sql__view(pass->p, "stream") != NULL)
        return MR_OK;
    blank_out(pass, pass->token.at, pass->token.size);
    if (!mr_token_is_symbol(&pass->lexer, &next, '('))
        return MR_OK;
    blank_out(pass, next.at, next.size);
    if (pass->depth + 1 < BRACKETS_MAX)
        pass->blank[++pass->depth] = true;
    pass->window[pass->depth] = false;
    pass->lexer.at = next.at + next.size;
    return MR_OK;
}

/* `name`, with the quotes of Spark and Flink. */
static enum mr_status visit_backquote(struct pass *pass)
{
    const char *text = pass->lexer.text;
    size_t from = pass->token.at + 1;
    const char *close = memchr(text + from, '`', pass->lexer.size - from);
    struct mr_buf name = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    if (close == NULL)
        return mr_sql__fail_at(pass->p, pass->query->at + pass->token.at,
                               "cannot read the statement: this name has no closing `");
    mr_buf_add_char(&name, '"');
    for (const char *at = text + from; at < close; at++) {
        mr_buf_add_str(&name, *at == '"' ? "\"" : "");
        mr_buf_add_char(&name, *at);
    }
    mr_buf_add_char(&name, '"');
    if (name.failed)
        status = mr_sql__no_memory(pass->p);
    else
        replace(pass, pass->token.at, (size_t)(close - text) + 1 - pass->token.at, name.data);
    mr_buf_release(&name);
    pass->lexer.at = (size_t)(close - text) + 1;
    pass->token.size = pass->lexer.at - pass->token.at;
    pass->token.kind = MR_TOKEN_QUOTED;
    return status;
}

static enum mr_status visit_string(struct pass *pass)
{
    const char *text = pass->lexer.text + pass->token.at;
    struct mr_buf out = MR_BUF_INIT;
    const char *expanded;
    enum mr_status status;

    if (memmem(text, pass->token.size, "${", 2) == NULL)
        return MR_OK;
    status =
        mr_sql_expand(&pass->p->arena, text + 1, pass->token.size - 2, &expanded, pass->p->err);
    if (status != MR_OK)
        return mr_error_place(pass->p->err, pass->p->script->text, pass->query->at + pass->token.at,
                              status);
    mr_buf_add_char(&out, text[0]);
    /* Quotes of the text itself are still doubled; those of a variable's value are not. */
    for (const char *at = expanded; *at != '\0'; at++) {
        mr_buf_add_char(&out, *at);
        if (*at == '\'') {
            mr_buf_add_char(&out, '\'');
            at += at[1] == '\'';
        }
    }
    mr_buf_add_char(&out, '\'');
    if (out.failed)
        status = mr_sql__no_memory(pass->p);
    else
        replace(pass, pass->token.at, pass->token.size, out.data);
    mr_buf_release(&out);
    return status;
}

static enum mr_status visit_bracket(struct pass *pass, bool open)
{
    if (open) {
        if (pass->depth + 1 == BRACKETS_MAX)
            return mr_error_place(pass->p->err, pass->p->script->text,
                                  pass->query->at + pass->token.at,
                                  MR_FAIL(pass->p->err, MR_LIMIT,
                                          "more than %d brackets inside each other", BRACKETS_MAX));
        pass->depth++;
        pass->blank[pass->depth] = false;
        pass->window[pass->depth] = is_window_function(pass, &pass->before);
    } else if (pass->depth > 0) {
        if (pass->blank[pass->depth])
            blank_out(pass, pass->token.at, pass->token.size);
        pass->depth--;
    }
    return MR_OK;
}

static enum mr_status visit(struct pass *pass)
{
    bool named = mr_token_is_symbol(&pass->lexer, &pass->before, '.') ||
                 mr_token_is(&pass->lexer, &pass->before, "as");

    if (mr_token_is_symbol(&pass->lexer, &pass->token, '`'))
        return visit_backquote(pass);
    if (!named && (mr_token_is(&pass->lexer, &pass->token, "on") ||
                   mr_token_is(&pass->lexer, &pass->token, "watermark"))) {
        bool done;

        MR_TRY(visit_clause(pass, &done));
        if (done)
            return MR_OK;
    }
    if (mr_token_is(&pass->lexer, &pass->token, "stream") &&
        (mr_token_is(&pass->lexer, &pass->before, "from") ||
         mr_token_is(&pass->lexer, &pass->before, "join") ||
         mr_token_is_symbol(&pass->lexer, &pass->before, ',')))
        return visit_stream(pass);
    if (!named && mr_token_is(&pass->lexer, &pass->token, "window"))
        return visit_window(pass);
    if (!named && mr_token_is(&pass->lexer, &pass->token, "table"))
        return visit_table(pass);
    if (!named && pass->depth > 0 && pass->window[pass->depth] &&
        mr_token_is(&pass->lexer, &pass->token, "partition"))
        return visit_partition(pass);
    if (pass->token.kind == MR_TOKEN_STRING && pass->lexer.text[pass->token.at] == '\'')
        return visit_string(pass);
    if (mr_token_is_symbol(&pass->lexer, &pass->token, '('))
        return visit_bracket(pass, true);
    if (mr_token_is_symbol(&pass->lexer, &pass->token, ')'))
        return visit_bracket(pass, false);
    return MR_OK;
}

static enum mr_status run_pass(struct pass *pass)
{
    struct mr_token next;

    MR_TRY(peek(pass, &next));
    for (;;) {
        MR_TRY(mr_lexer_next(&pass->lexer, &pass->token, pass->p->err));
        if (pass->token.kind == MR_TOKEN_END)
            break;
        MR_TRY(visit(pass));
        pass->before = pass->token;
    }
    copy_until(pass, pass->lexer.size);
    return MR_OK;
}

static enum mr_status parse_tree(struct mr_sql_planner *p, struct mr_sql_query *query)
{
    struct mr_json *tree;
    struct mr_json *statements;
    char *json = NULL;
    enum mr_status status;

    MR_ASSERT(query->sql != NULL);
    status = mr_duck_parse(p->duck, query->sql, &json, p->err);

    if (status != MR_OK)
        return mr_sql__place_syntax(p, query, status);
    status = mr_json_parse(json, strlen(json), &p->arena, &tree, p->err);
    mr_text_free(json);
    MR_TRY(status);
    statements = mr_json_get(tree, "statements");
    if (statements == NULL || statements->count != 1)
        return mr_sql__fail(p, query, NULL, "expected one SELECT");
    query->node = mr_json_get(statements->first, "node");
    if (query->node == NULL)
        return mr_sql__fail(p, query, NULL, "expected a SELECT");
    return MR_OK;
}

static struct mr_sql_query *new_query(struct mr_sql_planner *p, const char *owner, size_t at)
{
    struct mr_sql_query *query = mr_arena_alloc(&p->arena, sizeof(*query));

    if (query == NULL)
        return NULL;
    memset(query, 0, sizeof(*query));
    query->owner = owner;
    query->at = at;
    query->next = p->queries;
    p->queries = query;
    return query;
}

enum mr_status mr_sql__query_make(struct mr_sql_planner *p, const char *owner, const char *input,
                                  struct mr_sql_query **ret_query)
{
    struct mr_sql_query *query = new_query(p, owner, 0);
    struct mr_buf sql = MR_BUF_INIT;

    mr_buf_add_str(&sql, "SELECT * FROM ");
    mr_sql__add_quoted(&sql, input);
    if (query != NULL && !sql.failed)
        query->sql = mr_arena_copy(&p->arena, sql.data, sql.size);
    mr_buf_release(&sql);
    if (query == NULL || query->sql == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(parse_tree(p, query));
    *ret_query = query;
    return MR_OK;
}

enum mr_status mr_sql__query_parse(struct mr_sql_planner *p, const char *owner, size_t at,
                                   size_t size, struct mr_sql_query **ret_query)
{
    struct mr_sql_query *query = new_query(p, owner, at);
    struct pass pass = {.p = p, .query = query};
    enum mr_status status;

    if (query == NULL)
        return mr_sql__no_memory(p);
    pass.lexer = mr_lexer_of(p->script->text + at, size);
    status = run_pass(&pass);
    if (status == MR_OK) {
        query->sql =
            mr_arena_copy(&p->arena, pass.out.data != NULL ? pass.out.data : "", pass.out.size);
        if (pass.out.failed || query->sql == NULL || query->edits.list.failed)
            status = mr_sql__no_memory(p);
    }
    mr_buf_release(&pass.out);
    if (status == MR_OK)
        status = parse_tree(p, query);
    if (status != MR_OK)
        return status;
    mr_sql__place_clauses(p, query);
    MR_TRY(mr_sql__desugar(p, query, query->node));
    *ret_query = query;
    return MR_OK;
}
