/*
 * The SELECT list, HAVING and ORDER BY over the groups: keys, windows and aggregates become columns
 * of the aggregation's result.
 *
 *     sum(v) + 1, window_start, city   -->   mr_a0 + 1, mr_start, mr_k0
 *
 * Called by aggregate.c once the keys are known. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include <string.h>

enum mr_status mr_sql__put(struct mr_sql_block *block, struct mr_json *node, struct mr_json *with)
{
    const char *alias = mr_sql__alias(node);

    if (with == NULL)
        return mr_sql__no_memory(block->p);
    mr_sql__set_alias(block->p, with, alias);
    mr_sql__replace(node, with);
    return MR_OK;
}

static enum mr_status put_column(struct mr_sql_block *block, struct mr_json *node, const char *name)
{
    return mr_sql__put(block, node, mr_sql__column(block->p, name, ""));
}

static enum mr_status put_struct(struct mr_sql_block *block, struct mr_json *node,
                                 const char *start, const char *end)
{
    struct mr_json *parts[2] = {mr_sql__column(block->p, start, ""),
                                mr_sql__column(block->p, end, "")};
    static const char *const names[2] = {"start", "end"};

    if (parts[0] == NULL || parts[1] == NULL)
        return mr_sql__no_memory(block->p);
    return mr_sql__put(block, node, mr_sql__call(block->p, "struct_pack", parts, names, 2));
}

static enum mr_status put_window(struct mr_sql_block *block, struct mr_json *node,
                                 enum mr_sql_window_part part)
{
    block->uses_end = block->uses_end || part != MR_SQL_WINDOW_START;
    if (part == MR_SQL_WINDOW_WHOLE)
        return put_struct(block, node, "mr_start", "mr_end");
    return put_column(block, node, part == MR_SQL_WINDOW_START ? "mr_start" : "mr_end");
}

/* A column that a window of this kind has: window_start, and session_start of a session. */
static bool names_part(const struct mr_sql_block *block, const char *name, const char *plain,
                       const char *session)
{
    return mr_sql__same_name(name, plain) ||
           (block->window.session && mr_sql__same_name(name, session));
}

/* window_start, window.end, w.start where w is the alias of the window: which part, or -1. */
static int window_part(const struct mr_sql_block *block, const struct mr_json *reference)
{
    const struct mr_json *names = mr_json_get(reference, "column_names");
    const char *first = names->first->text;
    bool whole = mr_sql__same_name(first, "window") || mr_sql__same_name(first, "session_window") ||
                 (block->window_alias[0] != '\0' && mr_sql__same_name(first, block->window_alias));

    if (!block->has_window)
        return -1;
    if (names->count == 1 && names_part(block, first, "window_start", "session_start"))
        return MR_SQL_WINDOW_START;
    if (names->count == 1 && names_part(block, first, "window_end", "session_end"))
        return MR_SQL_WINDOW_END;
    if (!whole || names->count > 2)
        return -1;
    if (names->count == 1)
        return MR_SQL_WINDOW_WHOLE;
    if (mr_sql__same_name(names->last->text, "start"))
        return MR_SQL_WINDOW_START;
    return mr_sql__same_name(names->last->text, "end") ? MR_SQL_WINDOW_END : -1;
}

/* window(...).start: which part, or -1. */
static int extracted_part(const struct mr_json *node)
{
    const struct mr_json *children = mr_json_get(node, "children");
    const struct mr_json *field;

    if (!mr_sql__type_is(node, "STRUCT_EXTRACT") || children == NULL || children->count != 2 ||
        !mr_sql__is_window_call(children->first))
        return -1;
    field = mr_json_get(mr_json_get(children->last, "value"), "value");
    if (mr_json_is(field, "start"))
        return MR_SQL_WINDOW_START;
    return mr_json_is(field, "end") ? MR_SQL_WINDOW_END : -1;
}

static enum mr_status rewrite_window(struct mr_sql_block *block, struct mr_json *node,
                                     struct mr_json *call, int part)
{
    struct mr_sql_window window;

    MR_TRY(mr_sql__window_parse(block->p, block->query, call, &window));
    if (!block->has_window || !mr_sql__window_equal(&window, &block->window))
        return mr_sql__fail(block->p, block->query, call,
                            "this window must be the one in GROUP BY");
    return put_window(block, node, part >= 0 ? (enum mr_sql_window_part)part : window.part);
}

static bool names_parameter(const struct mr_json *names, const char *name)
{
    if (mr_sql__class_is(names, "COLUMN_REF"))
        return mr_sql__same_name(mr_json_get(names, "column_names")->first->text, name);
    for (const struct mr_json *child = names->kind >= MR_JSON_ARRAY ? names->first : NULL;
         child != NULL; child = child->next) {
        if (names_parameter(child, name))
            return true;
    }
    return false;
}

static bool is_parameter(const struct mr_sql_block *block, const struct mr_json *reference)
{
    const char *name = mr_json_get(reference, "column_names")->first->text;

    for (const struct mr_sql_lambda *one = block->lambda; one != NULL; one = one->outer) {
        if (names_parameter(one->names, name))
            return true;
    }
    return false;
}

static enum mr_status rewrite_lambda(struct mr_sql_block *block, struct mr_json *node, bool aliases)
{
    struct mr_sql_lambda lambda = {mr_json_get(node, "lhs"), block->lambda};
    enum mr_status status;

    if (lambda.names == NULL)
        return MR_OK;
    block->lambda = &lambda;
    status = mr_sql__rewrite(block, mr_json_get(node, "expr"), aliases);
    block->lambda = lambda.outer;
    return status;
}

static enum mr_status rewrite_column(struct mr_sql_block *block, struct mr_json *node, bool aliases)
{
    const char *name = mr_sql__single_name(node);
    int part = mr_sql__block_resolves(block, node) ? -1 : window_part(block, node);
    struct mr_json *item = aliases && name != NULL ? mr_sql__item_of_alias(block, name) : NULL;

    if (part >= 0)
        return put_window(block, node, (enum mr_sql_window_part)part);
    if (item != NULL) { /* of the list, which is rewritten already */
        struct mr_json *copy = mr_json_copy(&block->p->arena, item);

        if (copy == NULL)
            return mr_sql__no_memory(block->p);
        mr_sql__set_alias(block->p, copy, "");
        mr_sql__replace(node, copy);
        return MR_OK;
    }
    if (!mr_sql__block_resolves(block, node))
        return mr_sql__unknown_column(block->p, block->query, node,
                                      mr_json_get(node, "column_names")->last->text);
    return mr_sql__fail(
        block->p, block->query, node,
        "column '%s' must be in GROUP BY or inside an aggregate function such as max()",
        mr_json_get(node, "column_names")->last->text);
}

/* Does a table inside of the subqueries have it? Those come first. */
static bool is_inner(const struct mr_sql_block *block, const struct mr_json *reference)
{
    const struct mr_json *names = mr_json_get(reference, "column_names");
    const char *name = names->first->text;

    for (uint32_t i = 0; i < block->from->count; i++) {
        const struct mr_sql_leaf *leaf = &block->from->leaves[i];

        if ((int32_t)i == block->from->stream)
            continue;
        if (names->count > 1
                ? mr_sql__same_name(name, leaf->alias)
                : leaf->schema == NULL || mr_schema_find(leaf->schema, name, strlen(name)) >= 0)
            return true;
    }
    return false;
}

/* Keys that a subquery names become columns of the aggregation's result there, too. */
static enum mr_status rewrite_outer(struct mr_sql_block *block, struct mr_json *node)
{
    struct mr_sql_planner *p = block->p;

    if (node == NULL || node->kind < MR_JSON_ARRAY)
        return MR_OK;
    if (mr_sql__class_is(node, "COLUMN_REF") && !is_inner(block, node)) {
        for (uint32_t i = 0; i < block->key_count; i++) {
            struct mr_json *column, *name;

            if (block->keys[i].expr == NULL || !mr_sql__same_expr(block, block->keys[i].expr, node))
                continue;
            column = mr_sql__column(p, block->from->leaves[block->from->stream].input, "");
            name = mr_json_new_string(&p->arena, block->keys[i].name);
            if (column == NULL || name == NULL)
                return mr_sql__no_memory(p);
            mr_json_push(mr_json_get(column, "column_names"), name);
            return mr_sql__put(block, node, column);
        }
        return MR_OK; /* what nobody knows DuckDB will tell */
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(rewrite_outer(block, child));
    return MR_OK;
}

/* A subquery over static tables stays; what is compared with it is rewritten. */
static enum mr_status rewrite_subquery(struct mr_sql_block *block, struct mr_json *node,
                                       bool aliases)
{
    MR_TRY(mr_sql__rewrite(block, mr_json_get(node, "child"), aliases));
    return rewrite_outer(block, mr_json_get(node, "subquery"));
}

/* Keys, windows and aggregates become columns of the aggregation's result. aliases: names of the
 * list may be used. */
enum mr_status mr_sql__rewrite(struct mr_sql_block *block, struct mr_json *node, bool aliases)
{
    int part;

    if (node == NULL || node->kind < MR_JSON_ARRAY)
        return MR_OK;
    if (node->kind == MR_JSON_OBJECT && mr_json_get(node, "class") != NULL) {
        for (uint32_t i = 0; i < block->struct_count; i++) {
            if (mr_sql__equal(block->structs[i], node))
                return put_struct(block, node, block->keys[block->struct_keys[i]].name,
                                  block->keys[block->struct_keys[i] + 1].name);
        }
        for (uint32_t i = 0; i < block->key_count; i++) {
            if (block->keys[i].expr != NULL && mr_sql__same_expr(block, block->keys[i].expr, node))
                return put_column(block, node, block->keys[i].name);
        }
        part = extracted_part(node);
        if (part >= 0)
            return rewrite_window(block, node, mr_json_get(node, "children")->first, part);
        if (mr_sql__is_window_call(node))
            return rewrite_window(block, node, node, -1);
        if (mr_sql__is_aggregate(node))
            return mr_sql__put_aggregate(block, node);
        if (mr_sql__type_is(node, "GROUPING_FUNCTION"))
            return mr_sql__put_grouping(block, node);
        if (mr_sql__class_is(node, "SUBQUERY"))
            return rewrite_subquery(block, node, aliases);
        if (mr_sql__class_is(node, "LAMBDA"))
            return rewrite_lambda(block, node, aliases);
        if (mr_sql__class_is(node, "COLUMN_REF"))
            return is_parameter(block, node) ? MR_OK : rewrite_column(block, node, aliases);
        if (mr_sql__is_star(node))
            return mr_sql__fail(block->p, block->query, node,
                                "name the columns instead of '*' next to an aggregation");
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(mr_sql__rewrite(block, child, aliases));
    return MR_OK;
}

/* Names of result columns, before the expressions are replaced. */
enum mr_status mr_sql__name_items(struct mr_sql_block *block)
{
    static const char *const part_names[2][3] = {
        {"window", "window_start", "window_end"},
        {"session_window", "session_start", "session_end"}};

    for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
        struct mr_sql_window window;
        const char *name;

        if (mr_sql__alias(item)[0] != '\0') {
            if (mr_sql__is_window_call(item))
                block->window_alias = mr_sql__alias(item);
            continue;
        }
        if (mr_sql__is_window_call(item)) {
            MR_TRY(mr_sql__window_parse(block->p, block->query, item, &window));
            name = part_names[window.session][window.part];
        } else if (extracted_part(item) >= 0) {
            name = extracted_part(item) == MR_SQL_WINDOW_START ? "start" : "end";
        } else if (!mr_sql__is_star(item)) {
            MR_TRY(mr_sql__natural_name(block->p, item, &name));
        } else {
            continue;
        }
        mr_sql__set_alias(block->p, item, name);
    }
    return MR_OK;
}
