/*
 * Clauses that stand in a SELECT and that DuckDB does not have.
 *
 *     FROM t WATERMARK ts DELAY OF INTERVAL '5 seconds' [AS a]      a watermark of this reading
 *     SELECT ... GROUP BY ... ON LATE DROP | INTO table             where late rows go
 *
 * The token pass (text.c) takes them out and leaves something that DuckDB parses and that has its
 * number: an alias "mr_clause:0:a", or OFFSET mr_clause(0). When the tree is there, the numbers
 * move to the nodes (member "mr_clause"), and what was left goes.
 *
 * Late rows are split off in front of the operator that would drop them:
 *
 *     rows --late (kept)--> operator          rows --late (routed)--> sink of the table
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/limits.h"
#include "base/text.h"
#include "ops/late.h"
#include "sql/internal.h"
#include "sql/script_parse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CLAUSES_MAX = MR_LIMIT_SQL_CLAUSES };

static const char mark[] = "mr_clause";

/* ---- In the text ---- */

static enum mr_status new_clause(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 enum mr_sql_clause_kind kind, size_t at,
                                 struct mr_sql_clause **ret_clause)
{
    if (query->clauses == NULL)
        query->clauses = mr_arena_alloc(&p->arena, CLAUSES_MAX * sizeof(*query->clauses));
    if (query->clauses == NULL)
        return mr_sql__no_memory(p);
    if (query->clause_count == CLAUSES_MAX)
        return mr_sql__fail_at(p, query->at + at,
                               "more than %d clauses ON LATE and WATERMARK in one statement",
                               CLAUSES_MAX);
    *ret_clause = &query->clauses[query->clause_count++];
    **ret_clause = (struct mr_sql_clause){.kind = kind, .at = query->at + at};
    return MR_OK;
}

static enum mr_status printed(struct mr_sql_planner *p, struct mr_buf *buf, const char **ret_text)
{
    *ret_text = buf->failed ? NULL : mr_arena_copy(&p->arena, buf->data, buf->size);
    mr_buf_release(buf);
    return *ret_text != NULL ? MR_OK : mr_sql__no_memory(p);
}

/* The text of a name token. */
static const char *name_of(struct mr_sql_planner *p, const struct mr_lexer *lexer,
                           const struct mr_token *token)
{
    bool quoted = token->kind == MR_TOKEN_QUOTED;

    return mr_arena_copy(&p->arena, lexer->text + token->at + (quoted ? 1 : 0),
                         token->size - (quoted ? 2 : 0));
}

static bool is_name(const struct mr_token *token)
{
    return token->kind == MR_TOKEN_WORD || token->kind == MR_TOKEN_QUOTED;
}

/* ON LATE DROP, ON LATE INTO t. `ahead` is behind ON. */
static enum mr_status late_clause(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_lexer ahead, size_t at, size_t *ret_end,
                                  const char **ret_text)
{
    struct mr_sql_clause *clause = NULL;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_token token;
    bool into;

    MR_TRY(mr_lexer_next(&ahead, &token, p->err));
    if (!mr_token_is(&ahead, &token, "late"))
        return MR_OK;
    MR_TRY(mr_lexer_next(&ahead, &token, p->err));
    into = mr_token_is(&ahead, &token, "into");
    if (!into && !mr_token_is(&ahead, &token, "drop")) {
        if (token.kind == MR_TOKEN_SYMBOL)
            return MR_OK; /* JOIN ... ON late = x */
        return mr_sql__fail_at(p, query->at + token.at, "expected DROP or INTO after ON LATE");
    }
    MR_TRY(new_clause(p, query, into ? MR_SQL_ON_LATE_INTO : MR_SQL_ON_LATE_DROP, at, &clause));
    MR_ASSERT(clause != NULL);
    if (into) {
        MR_TRY(mr_lexer_next(&ahead, &token, p->err));
        if (!is_name(&token))
            return mr_sql__fail_at(p, query->at + token.at,
                                   "expected the name of a table after ON LATE INTO");
        clause->name = name_of(p, &ahead, &token);
        if (clause->name == NULL)
            return mr_sql__no_memory(p);
    }
    *ret_end = token.at + token.size;
    mr_buf_printf(&text, "OFFSET %s(%zu)", mark, query->clause_count - 1);
    return printed(p, &text, ret_text);
}

/* Words behind the clause that are no alias of the table. */
static bool ends_table(const struct mr_lexer *lexer, const struct mr_token *token)
{
    static const char *const words[] = {"where",  "group",     "having", "order",   "limit",
                                        "offset", "union",     "join",   "inner",   "left",
                                        "right",  "full",      "cross",  "natural", "semi",
                                        "anti",   "asof",      "on",     "using",   "window",
                                        "except", "intersect", "select", "qualify", "positional"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (mr_token_is(lexer, token, words[i]))
            return true;
    }
    return !is_name(token);
}

static bool is_unit(const struct mr_lexer *lexer, const struct mr_token *token)
{
    static const char *const words[] = {
        "day",         "days",         "hour",         "hours",  "minute",
        "minutes",     "second",       "seconds",      "week",   "weeks",
        "millisecond", "milliseconds", "month",        "months", "year",
        "years",       "microsecond",  "microseconds", "to"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
        if (mr_token_is(lexer, token, words[i]))
            return true;
    }
    return false;
}

/* INTERVAL '5' SECOND, INTERVAL 5 SECONDS, '5 seconds'. `token` is its first one; afterwards the
 * one behind. */
static enum mr_status delay(struct mr_sql_planner *p, const struct mr_sql_query *query,
                            struct mr_lexer *ahead, struct mr_token *token, size_t *ret_end,
                            int64_t *ret_us)
{
    size_t from = token->at;
    size_t end = from;
    const char *text;
    int64_t us;

    while (mr_token_is(ahead, token, "interval") || mr_token_is_symbol(ahead, token, '-') ||
           token->kind == MR_TOKEN_STRING || token->kind == MR_TOKEN_NUMBER ||
           is_unit(ahead, token)) {
        end = token->at + token->size;
        MR_TRY(mr_lexer_next(ahead, token, p->err));
    }
    text = mr_arena_copy(&p->arena, ahead->text + from, end - from);
    if (text == NULL)
        return mr_sql__no_memory(p);
    if (!mr_sql__interval_us(text, &us) || us < 0)
        return mr_sql__fail_at(p, query->at + from,
                               "'%.40s' is no delay of a watermark: write INTERVAL '5 seconds', "
                               "zero or more, without months",
                               text);
    *ret_end = end;
    *ret_us = us;
    return MR_OK;
}

/* WATERMARK c DELAY OF interval [[AS] alias]. `ahead` is behind WATERMARK. */
static enum mr_status watermark_clause(struct mr_sql_planner *p, struct mr_sql_query *query,
                                       struct mr_lexer ahead, size_t at, size_t *ret_end,
                                       const char **ret_text)
{
    struct mr_sql_clause *clause = NULL;
    struct mr_buf text = MR_BUF_INIT;
    struct mr_token column;
    struct mr_token token;
    struct mr_lexer before;
    const char *alias = "";
    size_t end = 0;

    MR_TRY(mr_lexer_next(&ahead, &column, p->err));
    MR_TRY(mr_lexer_next(&ahead, &token, p->err));
    if (!is_name(&column) || !mr_token_is(&ahead, &token, "delay"))
        return MR_OK;
    MR_TRY(mr_lexer_next(&ahead, &token, p->err));
    if (!mr_token_is(&ahead, &token, "of"))
        return mr_sql__fail_at(p, query->at + token.at, "expected OF after DELAY");
    MR_TRY(new_clause(p, query, MR_SQL_WATERMARK, column.at, &clause));
    MR_ASSERT(clause != NULL);
    clause->name = name_of(p, &ahead, &column);
    if (clause->name == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_lexer_next(&ahead, &token, p->err));
    MR_TRY(delay(p, query, &ahead, &token, &end, &clause->delay_us));
    before = ahead;
    if (mr_token_is(&before, &token, "as"))
        MR_TRY(mr_lexer_next(&ahead, &token, p->err));
    if (!ends_table(&ahead, &token)) {
        alias = name_of(p, &ahead, &token);
        if (alias == NULL)
            return mr_sql__no_memory(p);
        end = token.at + token.size;
    }
    (void)at;
    *ret_end = end;
    mr_buf_printf(&text, "AS \"%s:%zu:%s\"", mark, query->clause_count - 1, alias);
    return printed(p, &text, ret_text);
}

enum mr_status mr_sql__clause(struct mr_sql_planner *p, struct mr_sql_query *query,
                              const struct mr_lexer *lexer, const struct mr_token *token,
                              size_t *ret_end, const char **ret_text)
{
    enum mr_status status;

    *ret_end = 0;
    *ret_text = NULL;
    if (mr_token_is(lexer, token, "on"))
        status = late_clause(p, query, *lexer, token->at, ret_end, ret_text);
    else
        status = watermark_clause(p, query, *lexer, token->at, ret_end, ret_text);
    if (status == MR_SQL_ERROR && p->err->sql_line == 0) /* of the lexer */
        return mr_error_place(p->err, p->script->text, query->at + token->at, status);
    return status;
}

/* ---- In the tree ---- */

static const struct mr_sql_clause *clause_of(const struct mr_sql_query *query,
                                             const struct mr_json *node)
{
    int64_t number;

    if (node == NULL || !mr_json_int(mr_json_get(node, mark), &number) || number < 0 ||
        (size_t)number >= query->clause_count)
        return NULL;
    return &query->clauses[number];
}

static struct mr_sql_clause *take_clause(struct mr_sql_query *query, const struct mr_json *node)
{
    int64_t number;

    if (clause_of(query, node) == NULL)
        return NULL;
    mr_json_int(mr_json_get(node, mark), &number);
    query->clauses[number].used = true;
    return &query->clauses[number];
}

static void attach(struct mr_sql_planner *p, struct mr_json *node, int64_t number)
{
    mr_json_put(&p->arena, node, mark, mr_json_new_int(&p->arena, number));
}

/* AS "mr_clause:0:a" of a table. */
static void place_alias(struct mr_sql_planner *p, struct mr_json *node)
{
    const char *alias = mr_json_text(node, "alias");
    char *end;
    long number;

    if (alias == NULL || strncmp(alias, mark, sizeof(mark) - 1) != 0 ||
        alias[sizeof(mark) - 1] != ':')
        return;
    number = strtol(alias + sizeof(mark), &end, 10);
    if (*end != ':')
        return;
    attach(p, node, number);
    mr_sql__set_alias(p, node, end + 1);
}

/* The block an ON LATE at the end of a union stands in is its last SELECT. */
static struct mr_json *last_block(struct mr_json *node)
{
    while (mr_sql__type_is(node, "SET_OPERATION_NODE") && mr_json_get(node, "right") != NULL)
        node = mr_json_get(node, "right");
    return node;
}

/* OFFSET mr_clause(0) of a query. */
static void place_offset(struct mr_sql_planner *p, struct mr_json *node)
{
    struct mr_json *modifiers = mr_json_get(node, "modifiers");
    struct mr_json *kept = mr_json_new_array(&p->arena);
    struct mr_json *next;

    if (modifiers == NULL || kept == NULL)
        return;
    for (struct mr_json *one = modifiers->first; one != NULL; one = next) {
        struct mr_json *offset = mr_json_get(one, "offset");
        const struct mr_json *limit = mr_json_get(one, "limit");
        const char *function = mr_sql__function(offset);
        int64_t number;

        next = one->next;
        if (function != NULL && strcmp(function, mark) == 0 &&
            mr_json_int(
                mr_json_get(mr_json_get(mr_json_get(offset, "children")->first, "value"), "value"),
                &number)) {
            attach(p, last_block(node), number);
            if (limit == NULL || limit->kind == MR_JSON_NULL)
                continue;
            mr_json_put(&p->arena, one, "offset", mr_json_new_null(&p->arena));
        }
        one->next = NULL;
        mr_json_push(kept, one);
    }
    mr_json_put(&p->arena, node, "modifiers", kept);
}

static void place(struct mr_sql_planner *p, struct mr_json *node)
{
    if (node->kind == MR_JSON_OBJECT) {
        place_alias(p, node);
        if (mr_json_get(node, "modifiers") != NULL)
            place_offset(p, node);
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        place(p, child);
}

void mr_sql__place_clauses(struct mr_sql_planner *p, struct mr_sql_query *query)
{
    if (query->clause_count > 0)
        place(p, query->node);
}

enum mr_status mr_sql__check_clauses(struct mr_sql_planner *p)
{
    for (const struct mr_sql_query *query = p->queries; query != NULL; query = query->next) {
        for (size_t i = 0; i < query->clause_count; i++) {
            const struct mr_sql_clause *clause = &query->clauses[i];

            if (clause->used || !query->planned)
                continue;
            if (clause->kind == MR_SQL_WATERMARK)
                return mr_sql__fail_at(p, clause->at,
                                       "WATERMARK is for a stream: '%s' is a column of none here",
                                       clause->name);
            return mr_sql__fail_at(p, clause->at,
                                   "ON LATE has nothing to do here: nothing in its SELECT drops "
                                   "late rows; put it behind the GROUP BY, DISTINCT or JOIN that a "
                                   "watermark closes (output_mode = 'complete' drops nothing)");
        }
    }
    return MR_OK;
}

/* ---- Watermarks ---- */

const char *mr_sql__watermark_column(const struct mr_sql_query *query, const struct mr_json *node)
{
    const struct mr_sql_clause *clause = clause_of(query, node);

    return clause != NULL && clause->kind == MR_SQL_WATERMARK ? clause->name : NULL;
}

enum mr_status mr_sql__clause_watermark(struct mr_sql_planner *p, struct mr_sql_query *query,
                                        const struct mr_json *node, struct mr_sql_rel **rel)
{
    const struct mr_sql_clause *clause;
    const struct mr_sql_rel *input = *rel;
    struct mr_sql_rel *with;

    if (mr_sql__watermark_column(query, node) == NULL)
        return MR_OK;
    clause = take_clause(query, node);
    for (uint32_t i = 0; i < input->mark_count; i++) {
        if (input->marks[i].watermarked)
            return mr_sql__fail_at(p, clause->at,
                                   "these rows have a watermark already, on '%s'; a second one "
                                   "would redefine it: leave one of them out",
                                   mr_schema_field(input->schema, input->marks[i].column)->name);
    }
    with = mr_arena_alloc(&p->arena, sizeof(*with));
    if (with == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_sql__add_watermark(p, query->owner, input, clause->name, clause->delay_us, clause->at,
                                 with));
    *rel = with;
    return MR_OK;
}

/* ---- Late rows ---- */

struct mr_sql_table *mr_sql__late_table(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                        const struct mr_json *node)
{
    const struct mr_sql_clause *clause = clause_of(query, node);

    return clause != NULL && clause->kind == MR_SQL_ON_LATE_INTO ? mr_sql__table(p, clause->name)
                                                                 : NULL;
}

bool mr_sql__late_wants(struct mr_sql_planner *p, const struct mr_sql_query *query,
                        const struct mr_json *node, const char *name)
{
    const struct mr_sql_table *late = mr_sql__late_table(p, query, node);
    const struct mr_schema *columns =
        late != NULL && late->statement != NULL ? late->statement->columns : NULL;

    return late != NULL && (columns == NULL || mr_schema_find(columns, name, strlen(name)) >= 0);
}

enum mr_status mr_sql__late_refuse(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                   const struct mr_json *node, const char *why)
{
    const struct mr_sql_clause *clause = clause_of(query, node);

    if (clause == NULL || clause->kind != MR_SQL_ON_LATE_INTO)
        return MR_OK;
    return mr_sql__fail_at(p, clause->at, "%s", why);
}

const char *const *mr_sql__late_names(struct mr_sql_planner *p, const struct mr_schema *schema)
{
    uint32_t count = mr_schema_field_count(schema);
    const char **names = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*names));

    for (uint32_t i = 0; names != NULL && i < count; i++) {
        const char *name = mr_schema_field(schema, i)->name;

        names[i] = name;
        if (strcmp(name, "mr_start") == 0)
            names[i] = "window_start";
        else if (strcmp(name, "mr_end") == 0)
            names[i] = "window_end";
        else if (strncmp(name, "mr_", 3) == 0)
            names[i] = NULL;
    }
    return names;
}

/* The routed rows under the names that they have in the table. */
static enum mr_status offer(struct mr_sql_planner *p, const struct mr_sql_query *query,
                            const struct mr_sql_rel *routed, const char *const *names,
                            uint32_t name_count, struct mr_sql_rel *ret_rel)
{
    uint32_t count = mr_schema_field_count(routed->schema);
    uint32_t *columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*columns));
    const char **chosen = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*chosen));
    uint32_t used = 0;

    if (columns == NULL || chosen == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = i < name_count ? names[i] : mr_schema_field(routed->schema, i)->name;
        bool twice = false;

        for (uint32_t k = 0; name != NULL && k < used; k++)
            twice = twice || mr_sql__same_name(chosen[k], name);
        if (name == NULL || twice)
            continue;
        columns[used] = i;
        chosen[used++] = name;
    }
    return mr_sql__as_sql_error(
        p, query, mr_sql__add_project(p, query->owner, routed, columns, chosen, used, ret_rel));
}

static enum mr_status add_late(struct mr_sql_planner *p, const struct mr_sql_query *query,
                               const char *what, const struct mr_sql_rel *rows,
                               const struct mr_late_spec *spec, struct mr_sql_rel *ret_rel)
{
    struct mr_node *node = rows->node;
    struct mr_map_op op;
    struct mr_sql_rel rel = *rows;

    MR_TRY(mr_op_late(rows->schema, spec, &op, p->err));
    MR_TRY(mr_sql__add_map(p, query->owner, what, &op, &node, 1, &rel));
    *ret_rel = rel;
    return MR_OK;
}

enum mr_status mr_sql__late_split(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  const struct mr_json *node, const char *operator_name,
                                  const struct mr_sql_rel *rows, uint32_t column, int64_t add_us,
                                  const char *const *names, struct mr_sql_rel *ret_rel)
{
    struct mr_late_spec spec = {.column = column, .add_us = add_us};
    struct mr_sql_clause *clause = NULL;
    struct mr_sql_late *late;
    struct mr_sql_rel input = *rows;
    struct mr_sql_rel routed;

    *ret_rel = input;
    if (mr_sql__watermark_column(query, node) == NULL)
        clause = take_clause(query, node);
    if (clause == NULL || clause->kind != MR_SQL_ON_LATE_INTO)
        return MR_OK;
    if (mr_sql__table(p, clause->name) == NULL) {
        enum mr_status status = mr_sql__unknown_table(p, query, NULL, clause->name);

        return mr_error_place(p->err, p->script->text, clause->at, status);
    }
    late = mr_arena_alloc(&p->arena, sizeof(*late));
    if (late == NULL || names == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(add_late(p, query, "kept", &input, &spec, ret_rel));
    spec.operator_name = operator_name;
    MR_TRY(add_late(p, query, "late", &input, &spec, &routed));
    routed.mark_count = 0; /* a late row says nothing about the time */
    *late = (struct mr_sql_late){
        .table = clause->name, .owner = operator_name, .at = clause->at, .next = p->lates};
    MR_TRY(offer(p, query, &routed, names, mr_schema_field_count(input.schema), &late->rel));
    p->lates = late;
    return MR_OK;
}
