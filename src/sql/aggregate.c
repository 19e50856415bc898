/*
 * GROUP BY over a stream: one block becomes
 *
 *     FROM, WHERE --pre--> keys, arguments, time --window--> --partial--> --agg--> --post--> rows
 *
 *     pre     nothing or a native filter when keys and arguments are plain columns; else a
 *             statement
 *     agg     ops' fold; its state is named <view or sink>.agg
 *     post    the SELECT list and HAVING over the groups: native when they only name columns, else
 *             a statement
 *
 * Names between the steps: mr_k0.. keys, mr_a0.. arguments and results, mr_time, mr_start, mr_end.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/number_text.h"
#include "sql/internal.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 16 };

struct key {
    struct mr_json *expr; /* NULL: the start of the block's window */
    char name[NAME_BYTES];
    uint32_t column; /* of the aggregation's input */
};

struct aggregate {
    enum mr_agg_kind kind;
    struct mr_json *call;     /* as written: equal calls are one */
    struct mr_json *argument; /* NULL: COUNT_ALL */
    char name[NAME_BYTES];
    uint32_t column;
};

struct block {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    struct mr_json *node;
    struct mr_json *list;
    struct mr_sql_from *from;
    struct key keys[MR_SQL_KEYS_MAX];
    uint32_t key_count;
    struct aggregate aggs[MR_SQL_AGGS_MAX];
    uint32_t agg_count;
    bool has_window;
    bool uses_end;
    struct mr_sql_window window;
    const char *window_alias; /* of the select item that is the window, or "" */
    struct mr_json
        *structs[4]; /* GROUP BY w, a window of a subquery: keys i, i + 1 are its fields */
    uint32_t struct_keys[4];
    uint32_t struct_count;
    struct mr_sql_rel input; /* of the partial aggregation */
};

/* ---- GROUP BY ---- */

static bool resolves(const struct block *block, const struct mr_json *reference)
{
    uint32_t leaf;
    uint32_t column;
    size_t rest;

    return mr_sql__resolve(block->from, reference, &leaf, &column, &rest);
}

static const char *single_name(const struct mr_json *node)
{
    const struct mr_json *names = mr_json_get(node, "column_names");

    return mr_sql__class_is(node, "COLUMN_REF") && names != NULL && names->count == 1
               ? names->first->text
               : NULL;
}

/* The select item of that alias, or NULL. */
static struct mr_json *item_of_alias(const struct block *block, const char *alias)
{
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
        if (mr_sql__same_name(mr_sql__alias(item), alias))
            return item;
    }
    return NULL;
}

static enum mr_status add_key(struct block *block, struct mr_json *expr)
{
    struct key *key = &block->keys[block->key_count];

    if (block->key_count == MR_SQL_KEYS_MAX)
        return mr_sql__fail(block->p, block->query, expr, "more than %d keys in GROUP BY",
                            MR_SQL_KEYS_MAX);
    key->expr = expr;
    if (expr == NULL)
        snprintf(key->name, sizeof(key->name), "mr_start");
    else
        snprintf(key->name, sizeof(key->name), "mr_k%u", block->key_count);
    block->key_count++;
    return MR_OK;
}

static enum mr_status add_window_key(struct block *block, struct mr_json *call)
{
    struct mr_sql_window window;

    MR_TRY(mr_sql__window_parse(block->p, block->query, call, &window));
    if (block->has_window) {
        if (mr_sql__window_equal(&window, &block->window))
            return MR_OK; /* tumble_start and tumble_end of one window */
        return mr_sql__fail(block->p, block->query, call,
                            "two different windows in one GROUP BY are not supported");
    }
    block->has_window = true;
    block->window = window;
    return add_key(block, NULL);
}

/* w, a {start, end} made by window() in a subquery: its fields are the keys, so that the watermark
 * closes them. */
static enum mr_status add_struct_key(struct block *block, struct mr_json *reference)
{
    static const char *const fields[2] = {"start", "end"};
    struct mr_sql_planner *p = block->p;

    if (block->struct_count == MR_ARRAY_SIZE(block->structs))
        return mr_sql__fail(p, block->query, reference,
                            "more than four window columns in GROUP BY");
    block->structs[block->struct_count] = reference;
    block->struct_keys[block->struct_count++] = block->key_count;
    for (size_t i = 0; i < 2; i++) {
        struct mr_json *field = mr_json_copy(&p->arena, reference);
        struct mr_json *name = mr_json_new_string(&p->arena, fields[i]);

        if (field == NULL || name == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(mr_json_get(field, "column_names"), name);
        MR_TRY(add_key(block, field));
    }
    return MR_OK;
}

static enum mr_status add_group(struct block *block, struct mr_json *expr)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *inner;
    uint32_t leaf;
    uint32_t column;
    size_t rest;

    inner = mr_sql__find(expr, mr_sql__is_aggregate);
    if (inner != NULL)
        return mr_sql__fail(p, block->query, inner, "an aggregate function cannot be in GROUP BY");
    if (mr_sql__is_window_call(expr))
        return add_window_key(block, expr);
    inner = mr_sql__find(expr, mr_sql__is_window_call);
    if (inner != NULL)
        return mr_sql__fail(p, block->query, inner,
                            "GROUP BY the window itself: GROUP BY window(ts, '10 minutes')");
    if (mr_sql__class_is(expr, "COLUMN_REF") &&
        mr_sql__resolve(block->from, expr, &leaf, &column, &rest) && rest == 0) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(block->from->leaves[leaf].rel, column);

        if (mark != NULL && mark->kind == MR_SQL_MARK_WINDOW)
            return add_struct_key(block, expr);
    }
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr != NULL && mr_sql__equal(block->keys[i].expr, expr))
            return MR_OK;
    }
    return add_key(block, expr);
}

/* 1, 2, ... and aliases of the list mean its items; a column of the input wins over an alias. */
static enum mr_status resolve_group(struct block *block, struct mr_json *group)
{
    struct mr_sql_planner *p = block->p;
    const struct mr_json *value = mr_json_get(mr_json_get(group, "value"), "value");
    const char *name = single_name(group);
    struct mr_json *item = NULL;
    int64_t number;

    if (mr_sql__class_is(group, "CONSTANT") && mr_json_int(value, &number)) {
        if (number < 1 || (uint64_t)number > block->list->count)
            return mr_sql__fail(p, block->query, group, "GROUP BY %lld: the list has %zu columns",
                                (long long)number, block->list->count);
        item = mr_json_at(block->list, (size_t)number - 1);
    } else if (name != NULL && !resolves(block, group)) {
        item = item_of_alias(block, name);
    }
    if (item == NULL)
        return add_group(block, group);
    item = mr_json_copy(&p->arena, item);
    return item != NULL ? add_group(block, item) : mr_sql__no_memory(p);
}

static enum mr_status read_groups(struct block *block)
{
    struct mr_json *groups = mr_json_get(block->node, "group_expressions");
    struct mr_json *sets = mr_json_get(block->node, "group_sets");

    if (sets != NULL && (sets->count > 1 || (sets->count == 1 && groups != NULL &&
                                             sets->first->count != groups->count)))
        return mr_sql__fail(
            block->p, block->query, groups,
            "GROUPING SETS, ROLLUP and CUBE over a stream are not supported; use one GROUP BY");
    if (mr_json_is(mr_json_get(block->node, "aggregate_handling"), "FORCE_AGGREGATES")) {
        for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
            struct mr_json *copy = mr_json_copy(&block->p->arena, item);

            if (copy == NULL)
                return mr_sql__no_memory(block->p);
            if (mr_sql__find(item, mr_sql__is_aggregate) == NULL)
                MR_TRY(add_group(block, copy));
        }
        return MR_OK;
    }
    for (struct mr_json *group = groups != NULL ? groups->first : NULL; group != NULL;
         group = group->next)
        MR_TRY(resolve_group(block, group));
    return MR_OK;
}

/* ---- Aggregate functions ---- */

static const struct agg_function {
    const char *name;
    enum mr_agg_kind kind;
    size_t arguments;
} agg_functions[] = {
    {"count_star", MR_AGG_COUNT_ALL, 0},
    {"count", MR_AGG_COUNT, 1},
    {"sum", MR_AGG_SUM, 1},
    {"min", MR_AGG_MIN, 1},
    {"max", MR_AGG_MAX, 1},
    {"avg", MR_AGG_AVG, 1},
    {"mean", MR_AGG_AVG, 1},
    {"count_if", MR_AGG_COUNT, 1},
    {"countif", MR_AGG_COUNT, 1},
};

/* The tree of "CASE WHEN condition THEN value END"; value NULL: 1. */
static enum mr_status make_case(struct block *block, const struct mr_json *condition,
                                const struct mr_json *value, struct mr_json **ret_expr)
{
    struct mr_sql_planner *p = block->p;
    struct mr_buf sql = MR_BUF_INIT;
    const char *when;
    const char *then = "1";
    struct mr_json *tree;
    char *json = NULL;
    enum mr_status status;

    MR_TRY(mr_sql__expression_text(p, condition, &when));
    if (value != NULL)
        MR_TRY(mr_sql__expression_text(p, value, &then));
    mr_buf_printf(&sql, "SELECT CASE WHEN (%s) THEN (%s) END", when, then);
    status = sql.failed ? mr_sql__no_memory(p) : mr_duck_parse(p->duck, sql.data, &json, p->err);
    mr_buf_release(&sql);
    MR_TRY(status);
    MR_ASSERT(json != NULL);
    status = mr_json_parse(json, strlen(json), &p->arena, &tree, p->err);
    mr_text_free(json);
    MR_TRY(status);
    tree = mr_json_get(mr_json_get(tree, "statements")->first, "node");
    *ret_expr = mr_json_get(tree, "select_list")->first;
    return MR_OK;
}

/* argument FILTER (condition), and count_if(condition): a null does not count. */
static enum mr_status make_argument(struct block *block, const struct mr_json *call,
                                    const struct agg_function *function,
                                    struct mr_json **ret_argument)
{
    struct mr_json *children = mr_json_get(call, "children");
    struct mr_json *filter = mr_json_get(call, "filter");
    struct mr_json *argument = function->arguments > 0 ? children->first : NULL;

    if (strcmp(function->name, "count_if") == 0 || strcmp(function->name, "countif") == 0)
        MR_TRY(make_case(block, argument, NULL, &argument));
    if (filter != NULL && filter->kind != MR_JSON_NULL)
        MR_TRY(make_case(block, filter, argument, &argument));
    *ret_argument = argument;
    return MR_OK;
}

static enum mr_status check_call(struct block *block, struct mr_json *call,
                                 const struct agg_function *function)
{
    struct mr_json *children = mr_json_get(call, "children");
    struct mr_json *orders = mr_json_get(mr_json_get(call, "order_bys"), "orders");
    struct mr_json *distinct = mr_json_get(call, "distinct");
    const char *name = mr_sql__function(call);

    if (function == NULL)
        return mr_sql__fail(block->p, block->query, call,
                            "aggregate function '%s' is not supported over a stream (supported: "
                            "count, sum, min, max, avg, "
                            "count_if, with FILTER)",
                            name);
    if (distinct != NULL && distinct->boolean)
        return mr_sql__fail(
            block->p, block->query, call,
            "%s(DISTINCT ...) over a stream is not supported: every value would have to be kept",
            name);
    if (orders != NULL && orders->count > 0)
        return mr_sql__fail(block->p, block->query, call,
                            "ORDER BY inside %s() is not supported over a stream", name);
    if ((children != NULL ? children->count : 0) != function->arguments)
        return mr_sql__fail(block->p, block->query, call, "%s() takes one argument", name);
    for (struct mr_json *child = children != NULL ? children->first : NULL; child != NULL;
         child = child->next) {
        if (mr_sql__find(child, mr_sql__is_aggregate) != NULL)
            return mr_sql__fail(block->p, block->query, child,
                                "an aggregate function cannot be inside another");
        if (mr_sql__find(child, mr_sql__is_window_call) != NULL)
            return mr_sql__fail(block->p, block->query, child,
                                "a window cannot be inside an aggregate function");
    }
    return MR_OK;
}

/* The aggregate a call means: an equal one, or a new one. */
static enum mr_status find_aggregate(struct block *block, struct mr_json *call,
                                     const struct aggregate **ret_agg)
{
    const char *name = mr_sql__function(call);
    const struct agg_function *function = NULL;
    struct aggregate *agg;

    for (size_t i = 0; i < MR_ARRAY_SIZE(agg_functions); i++) {
        if (mr_sql__same_name(agg_functions[i].name, name))
            function = &agg_functions[i];
    }
    MR_TRY(check_call(block, call, function));
    for (uint32_t i = 0; i < block->agg_count; i++) {
        if (mr_sql__equal(block->aggs[i].call, call)) {
            *ret_agg = &block->aggs[i];
            return MR_OK;
        }
    }
    if (block->agg_count == MR_SQL_AGGS_MAX)
        return mr_sql__fail(block->p, block->query, call, "more than %d aggregates in one SELECT",
                            MR_SQL_AGGS_MAX);
    agg = &block->aggs[block->agg_count];
    memset(agg, 0, sizeof(*agg));
    agg->call = mr_json_copy(&block->p->arena, call); /* the call itself is about to be replaced */
    if (agg->call == NULL)
        return mr_sql__no_memory(block->p);
    MR_TRY(make_argument(block, agg->call, function, &agg->argument));
    agg->kind =
        function->kind == MR_AGG_COUNT_ALL && agg->argument != NULL ? MR_AGG_COUNT : function->kind;
    snprintf(agg->name, sizeof(agg->name), "mr_a%u", block->agg_count++);
    *ret_agg = agg;
    return MR_OK;
}

/* ---- The list over the groups ---- */

static enum mr_status put(struct block *block, struct mr_json *node, struct mr_json *with)
{
    const char *alias = mr_sql__alias(node);

    if (with == NULL)
        return mr_sql__no_memory(block->p);
    mr_sql__set_alias(block->p, with, alias);
    mr_sql__replace(node, with);
    return MR_OK;
}

static enum mr_status put_column(struct block *block, struct mr_json *node, const char *name)
{
    return put(block, node, mr_sql__column(block->p, name, ""));
}

static enum mr_status put_struct(struct block *block, struct mr_json *node, const char *start,
                                 const char *end)
{
    struct mr_json *parts[2] = {mr_sql__column(block->p, start, ""),
                                mr_sql__column(block->p, end, "")};
    static const char *const names[2] = {"start", "end"};

    if (parts[0] == NULL || parts[1] == NULL)
        return mr_sql__no_memory(block->p);
    return put(block, node, mr_sql__call(block->p, "struct_pack", parts, names, 2));
}

static enum mr_status put_window(struct block *block, struct mr_json *node,
                                 enum mr_sql_window_part part)
{
    block->uses_end = block->uses_end || part != MR_SQL_WINDOW_START;
    if (part == MR_SQL_WINDOW_WHOLE)
        return put_struct(block, node, "mr_start", "mr_end");
    return put_column(block, node, part == MR_SQL_WINDOW_START ? "mr_start" : "mr_end");
}

/* window_start, window.end, w.start where w is the alias of the window: which part, or -1. */
static int window_part(const struct block *block, const struct mr_json *reference)
{
    const struct mr_json *names = mr_json_get(reference, "column_names");
    const char *first = names->first->text;
    bool whole = mr_sql__same_name(first, "window") ||
                 (block->window_alias[0] != '\0' && mr_sql__same_name(first, block->window_alias));

    if (!block->has_window)
        return -1;
    if (names->count == 1 && mr_sql__same_name(first, "window_start"))
        return MR_SQL_WINDOW_START;
    if (names->count == 1 && mr_sql__same_name(first, "window_end"))
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

static enum mr_status rewrite_window(struct block *block, struct mr_json *node,
                                     struct mr_json *call, int part)
{
    struct mr_sql_window window;

    MR_TRY(mr_sql__window_parse(block->p, block->query, call, &window));
    if (!block->has_window || !mr_sql__window_equal(&window, &block->window))
        return mr_sql__fail(block->p, block->query, call,
                            "this window must be the one in GROUP BY");
    return put_window(block, node, part >= 0 ? (enum mr_sql_window_part)part : window.part);
}

static enum mr_status rewrite(struct block *block, struct mr_json *node, bool aliases);

static enum mr_status rewrite_column(struct block *block, struct mr_json *node, bool aliases)
{
    const char *name = single_name(node);
    int part = resolves(block, node) ? -1 : window_part(block, node);
    struct mr_json *item = aliases && name != NULL ? item_of_alias(block, name) : NULL;

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
    if (!resolves(block, node))
        return mr_sql__fail(block->p, block->query, node, "there is no column '%s' here",
                            mr_json_get(node, "column_names")->last->text);
    return mr_sql__fail(
        block->p, block->query, node,
        "column '%s' must be in GROUP BY or inside an aggregate function such as max()",
        mr_json_get(node, "column_names")->last->text);
}

/* Keys, windows and aggregates become columns of the aggregation's result. aliases: names of the
 * list may be used. */
static enum mr_status rewrite(struct block *block, struct mr_json *node, bool aliases)
{
    int part;

    if (node == NULL || node->kind < MR_JSON_ARRAY || mr_sql__class_is(node, "SUBQUERY"))
        return MR_OK;
    if (node->kind == MR_JSON_OBJECT && mr_json_get(node, "class") != NULL) {
        for (uint32_t i = 0; i < block->struct_count; i++) {
            if (mr_sql__equal(block->structs[i], node))
                return put_struct(block, node, block->keys[block->struct_keys[i]].name,
                                  block->keys[block->struct_keys[i] + 1].name);
        }
        for (uint32_t i = 0; i < block->key_count; i++) {
            if (block->keys[i].expr != NULL && mr_sql__equal(block->keys[i].expr, node))
                return put_column(block, node, block->keys[i].name);
        }
        part = extracted_part(node);
        if (part >= 0)
            return rewrite_window(block, node, mr_json_get(node, "children")->first, part);
        if (mr_sql__is_window_call(node))
            return rewrite_window(block, node, node, -1);
        if (mr_sql__is_aggregate(node)) {
            const struct aggregate *agg;

            MR_TRY(find_aggregate(block, node, &agg));
            return put_column(block, node, agg->name);
        }
        if (mr_sql__class_is(node, "COLUMN_REF"))
            return rewrite_column(block, node, aliases);
        if (mr_sql__is_star(node))
            return mr_sql__fail(block->p, block->query, node,
                                "name the columns instead of '*' next to an aggregation");
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(rewrite(block, child, aliases));
    return MR_OK;
}

/* Names of result columns, before the expressions are replaced. */
static enum mr_status name_items(struct block *block)
{
    static const char *const part_names[] = {"window", "window_start", "window_end"};

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
            name = part_names[window.part];
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

/* ---- Before the aggregation ---- */

static bool plain(const struct block *block, const struct mr_json *expr, uint32_t *ret_column)
{
    uint32_t leaf;
    size_t rest;

    return mr_sql__class_is(expr, "COLUMN_REF") &&
           mr_sql__resolve(block->from, expr, &leaf, ret_column, &rest) &&
           (int32_t)leaf == block->from->stream && rest == 0;
}

/* Keys and arguments are columns of the stream and WHERE is simple: no statement is needed. */
static enum mr_status pre_native(struct block *block, uint32_t *ret_time, bool *ret_done)
{
    struct mr_sql_from *from = block->from;
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t count;

    *ret_done = false;
    if (from->joined ||
        !mr_sql__native_filter(block->p, from, mr_json_get(block->node, "where_clause"), predicates,
                               &count))
        return MR_OK;
    if (block->has_window && !plain(block, block->window.time, ret_time))
        return MR_OK;
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr != NULL &&
            !plain(block, block->keys[i].expr, &block->keys[i].column))
            return MR_OK;
    }
    for (uint32_t i = 0; i < block->agg_count; i++) {
        if (block->aggs[i].argument != NULL &&
            !plain(block, block->aggs[i].argument, &block->aggs[i].column))
            return MR_OK;
    }
    return mr_sql__add_filter(block->p, block->query->owner, from->leaves[from->stream].rel,
                              predicates, count, &block->input, ret_done);
}

static enum mr_status push_item(struct block *block, struct mr_json *list,
                                const struct mr_json *expr, const char *alias, uint32_t *ret_column)
{
    struct mr_json *copy = mr_json_copy(&block->p->arena, expr);

    if (copy == NULL)
        return mr_sql__no_memory(block->p);
    mr_sql__set_alias(block->p, copy, alias);
    *ret_column = (uint32_t)list->count;
    mr_json_push(list, copy);
    return MR_OK;
}

/* SELECT keys, arguments, time FROM ... WHERE ... */
static enum mr_status pre_statement(struct block *block, uint32_t *ret_time)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *select = mr_sql__select(p, mr_json_copy(&p->arena, block->from->tree));
    struct mr_json *list = mr_json_new_array(&p->arena);
    const char *sql;
    uint32_t unused;

    if (select == NULL || list == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr != NULL)
            MR_TRY(push_item(block, list, block->keys[i].expr, block->keys[i].name,
                             &block->keys[i].column));
    }
    for (uint32_t i = 0; i < block->agg_count; i++) {
        if (block->aggs[i].argument != NULL)
            MR_TRY(push_item(block, list, block->aggs[i].argument, block->aggs[i].name,
                             &block->aggs[i].column));
    }
    if (block->has_window)
        MR_TRY(push_item(block, list, block->window.time, "mr_time", ret_time));
    if (list->count == 0) { /* count(*) alone: a column is needed to carry the rows */
        const struct mr_sql_leaf *stream = &block->from->leaves[block->from->stream];

        MR_TRY(push_item(block, list,
                         mr_sql__column(p, mr_schema_field(stream->schema, 0)->name, ""), "mr_row",
                         &unused));
    }
    mr_json_put(&p->arena, select, "select_list", list);
    mr_json_put(&p->arena, select, "where_clause",
                mr_json_copy(&p->arena, mr_json_get(block->node, "where_clause")));
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, block->query, block->from, sql, false, &block->input));
    mr_sql__inherit_marks(block->from, list, &block->input);
    return MR_OK;
}

static enum mr_status plan_input(struct block *block)
{
    struct mr_sql_planner *p = block->p;
    struct mr_sql_rel windowed;
    uint32_t time = 0;
    enum mr_type_id type;
    bool done;

    MR_TRY(pre_native(block, &time, &done));
    if (!done)
        MR_TRY(pre_statement(block, &time));
    if (!block->has_window)
        return MR_OK;
    type = mr_schema_field(block->input.schema, time)->type.id;
    if (type != MR_TYPE_TIMESTAMP && type != MR_TYPE_TIMESTAMP_NS)
        return mr_sql__fail(p, block->query, block->window.time,
                            "a window needs a TIMESTAMP; cast this or declare the column so");
    MR_TRY(mr_sql__add_window(p, block->query->owner, &block->input, time, &block->window,
                              "mr_start", "mr_end", &windowed));
    for (uint32_t i = 0; i < block->key_count; i++)
        block->keys[i].column = block->keys[i].expr == NULL ? 0 : block->keys[i].column + 2;
    for (uint32_t i = 0; i < block->agg_count; i++)
        block->aggs[i].column += 2;
    block->input = windowed;
    return MR_OK;
}

/* ---- The aggregation ---- */

/* Adds the end of the window as a key of its own when the list shows it. */
static enum mr_status add_end_key(struct block *block)
{
    struct key *key = &block->keys[block->key_count];

    if (!block->has_window || !block->uses_end)
        return MR_OK;
    if (block->key_count == MR_SQL_KEYS_MAX)
        return mr_sql__fail(block->p, block->query, NULL, "more than %d keys in GROUP BY",
                            MR_SQL_KEYS_MAX);
    memset(key, 0, sizeof(*key));
    snprintf(key->name, sizeof(key->name), "mr_end");
    key->column = 1;
    block->key_count++;
    return MR_OK;
}

/* The key that the watermark closes: index and what is added to it. */
static void find_event_time(const struct block *block, struct mr_aggregate_spec *spec)
{
    spec->event_time_key = -1;
    for (uint32_t i = 0; i < block->key_count && spec->event_time_key < 0; i++) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(&block->input, block->keys[i].column);

        if (mark == NULL || !mark->watermarked || mark->kind == MR_SQL_MARK_WINDOW)
            continue;
        spec->event_time_key = (int32_t)i;
        spec->event_time_add_us = mark->kind == MR_SQL_MARK_START ? mark->size_us : 0;
    }
}

static enum mr_status check_mode(struct block *block, const struct mr_aggregate_spec *spec)
{
    struct mr_sql_planner *p = block->p;

    if (block->input.aggregated && p->mode != MR_MODE_APPEND)
        return mr_sql__fail(p, block->query, block->list,
                            "an aggregation of an aggregation needs output_mode = 'append': the "
                            "inner one would send its "
                            "changed rows again");
    if (p->mode == MR_MODE_APPEND && spec->event_time_key < 0)
        return mr_sql__fail(p, block->query, block->list,
                            "output_mode = 'append' needs a window or column with a watermark in "
                            "GROUP BY, to know when a "
                            "row is final; add WATERMARK FOR to the table, or use output_mode = "
                            "'update' or 'complete'");
    return MR_OK;
}

static enum mr_status add_fold(struct block *block, const struct mr_aggregate_spec *spec,
                               struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = block->p;
    struct mr_node *node = block->input.node;
    struct mr_map_op partial;
    struct mr_fold_op fold;
    struct mr_sql_rel parts = {0};
    enum mr_status status;

    MR_TRY(mr_op_aggregate_partial(spec, &partial, p->err));
    MR_TRY(mr_sql__add_map(p, block->query->owner, "partial", &partial, &node, 1, &parts));
    MR_TRY(mr_op_aggregate_fold(spec, &fold, p->err));
    mr_buf_printf(&p->text, "operator %s: aggregate, state '%s', %u keys, %u aggregates%s\n",
                  spec->state_name, spec->state_name, spec->key_count, spec->agg_count,
                  spec->event_time_key >= 0 ? ", closed by the watermark" : "");
    status = mr_graph_fold(p->graph, spec->state_name, &parts.node, 1, fold.schema, fold.ops,
                           fold.op, &rel->node, p->err);
    mr_schema_unref(fold.schema);
    MR_TRY(status);
    rel->schema = mr_node_schema(rel->node);
    rel->aggregated = true;
    return MR_OK;
}

static enum mr_status plan_fold(struct block *block, struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = block->p;
    uint32_t columns[MR_SQL_KEYS_MAX];
    const char *names[MR_SQL_KEYS_MAX];
    struct mr_agg *aggs = mr_arena_alloc(&p->arena, (block->agg_count + 1) * sizeof(*aggs));
    struct mr_aggregate_spec spec = {.input = block->input.schema,
                                     .keys = columns,
                                     .key_names = names,
                                     .aggs = aggs,
                                     .agg_count = block->agg_count,
                                     .mode = p->mode};
    enum mr_status status;

    if (aggs == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(add_end_key(block));
    spec.key_count = block->key_count;
    for (uint32_t i = 0; i < block->key_count; i++) {
        columns[i] = block->keys[i].column;
        names[i] = block->keys[i].name;
    }
    for (uint32_t i = 0; i < block->agg_count; i++)
        aggs[i] = (struct mr_agg){.kind = block->aggs[i].kind,
                                  .column = block->aggs[i].column,
                                  .name = block->aggs[i].name};
    find_event_time(block, &spec);
    MR_TRY(check_mode(block, &spec));
    spec.state_name = mr_sql__node_name(p, block->query->owner, "agg");
    if (spec.state_name == NULL)
        return mr_sql__no_memory(p);
    memset(rel, 0, sizeof(*rel));
    status = add_fold(block, &spec, rel);
    if (status == MR_CONFIG) /* a type that cannot be added up, and the like */
        status = p->err->status = MR_SQL_ERROR;
    if (status != MR_OK)
        return mr_error_place(p->err, p->script->text, block->query->at, status);
    for (uint32_t i = 0; i < block->key_count && rel->mark_count < MR_SQL_MARKS_MAX; i++) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(&block->input, block->keys[i].column);

        if (mark == NULL)
            continue;
        rel->marks[rel->mark_count] = *mark;
        rel->marks[rel->mark_count++].column = i;
    }
    return MR_OK;
}

/* ---- After it ---- */

/* Only columns in the list and simple comparisons in HAVING. */
static enum mr_status post_native(struct block *block, const struct mr_sql_from *from,
                                  struct mr_sql_rel *rel, bool *ret_done)
{
    struct mr_sql_planner *p = block->p;
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t *columns = mr_arena_alloc(&p->arena, (block->list->count + 1) * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, (block->list->count + 1) * sizeof(*names));
    struct mr_json *modifiers = mr_json_get(block->node, "modifiers");
    struct mr_sql_rel filtered;
    uint32_t predicate_count;
    uint32_t count = 0;

    *ret_done = false;
    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    if (modifiers != NULL && modifiers->count > 0)
        return MR_OK;
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
        uint32_t leaf;
        size_t rest;

        if (!mr_sql__class_is(item, "COLUMN_REF") ||
            !mr_sql__resolve(from, item, &leaf, &columns[count], &rest) || rest != 0)
            return MR_OK;
        names[count++] = mr_sql__alias(item);
    }
    if (!mr_sql__native_filter(p, from, mr_json_get(block->node, "having"), predicates,
                               &predicate_count))
        return MR_OK;
    MR_TRY(mr_sql__add_filter(p, block->query->owner, from->leaves[0].rel, predicates,
                              predicate_count, &filtered, ret_done));
    return *ret_done
               ? mr_sql__add_project(p, block->query->owner, &filtered, columns, names, count, rel)
               : MR_OK;
}

/* w AS {start, end}: the struct keeps what the watermark knows. */
static void mark_structs(const struct block *block, const struct mr_sql_rel *groups,
                         struct mr_sql_rel *rel)
{
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
        const char *function = mr_sql__function(item);
        const struct mr_json *start;
        const struct mr_sql_mark *mark;
        int32_t column;

        if (function == NULL || !mr_sql__same_name(function, "struct_pack") ||
            rel->mark_count == MR_SQL_MARKS_MAX)
            continue;
        start = single_name(mr_json_get(item, "children")->first) != NULL
                    ? mr_json_get(item, "children")->first
                    : NULL;
        if (start == NULL)
            continue;
        column = mr_schema_find(groups->schema, single_name(start), strlen(single_name(start)));
        mark = column >= 0 ? mr_sql__mark_of(groups, (uint32_t)column) : NULL;
        column = mr_schema_find(rel->schema, mr_sql__alias(item), strlen(mr_sql__alias(item)));
        if (mark == NULL || column < 0 || mark->kind != MR_SQL_MARK_START)
            continue;
        rel->marks[rel->mark_count] = *mark;
        rel->marks[rel->mark_count].kind = MR_SQL_MARK_WINDOW;
        rel->marks[rel->mark_count++].column = (uint32_t)column;
    }
}

static enum mr_status post_statement(struct block *block, const struct mr_sql_from *from,
                                     struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *select = mr_sql__select(p, mr_sql__table_ref(p, "mr_input_0", NULL));
    struct mr_json *modifiers = mr_json_get(block->node, "modifiers");
    struct mr_json *having = mr_json_get(block->node, "having");
    bool whole = modifiers != NULL && modifiers->count > 0;
    const char *sql;

    if (select == NULL)
        return mr_sql__no_memory(p);
    mr_json_put(&p->arena, select, "select_list", mr_json_copy(&p->arena, block->list));
    if (having != NULL)
        mr_json_put(&p->arena, select, "where_clause", mr_json_copy(&p->arena, having));
    if (modifiers != NULL)
        mr_json_put(&p->arena, select, "modifiers", mr_json_copy(&p->arena, modifiers));
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, block->query, from, sql, whole, rel));
    mr_sql__inherit_marks(from, block->list, rel);
    mark_structs(block, from->leaves[0].rel, rel);
    return MR_OK;
}

static enum mr_status plan_output(struct block *block, struct mr_sql_rel *groups,
                                  struct mr_sql_rel *rel)
{
    /* Static tables of subqueries in the list stay inputs; the stream is now the result of the
     * aggregation. */
    struct mr_sql_from from = *block->from;
    bool done = false;

    from.leaves[from.stream] = (struct mr_sql_leaf){
        .alias = "mr_input_0", .input = "mr_input_0", .schema = groups->schema, .rel = groups};
    if (from.stream != 0 || from.count > 1) {
        struct mr_sql_from alone = {.count = 1};

        alone.leaves[0] = from.leaves[from.stream];
        from = alone;
    }
    from.joined = false;
    MR_TRY(post_native(block, &from, rel, &done));
    return done ? MR_OK : post_statement(block, &from, rel);
}

static bool is_subquery(const struct mr_json *node)
{
    return mr_sql__class_is(node, "SUBQUERY");
}

static const struct mr_json *find_subquery(const struct mr_json *node)
{
    const struct mr_json *found = NULL;

    if (node == NULL || (node->kind == MR_JSON_OBJECT && is_subquery(node)))
        return node;
    for (const struct mr_json *child = node->first; child != NULL && found == NULL;
         child = child->next)
        found = find_subquery(child);
    return found;
}

static enum mr_status plan_block(struct block *block, struct mr_sql_rel *rel)
{
    struct mr_json *having = mr_json_get(block->node, "having");
    struct mr_json *modifiers = mr_json_get(block->node, "modifiers");
    const struct mr_json *subquery = find_subquery(block->list);
    struct mr_sql_rel groups;

    if (subquery == NULL)
        subquery = find_subquery(having);
    if (subquery != NULL)
        return mr_sql__fail(block->p, block->query, subquery,
                            "a subquery in the SELECT list or HAVING of an aggregation is not "
                            "supported; join the static "
                            "table in FROM");
    MR_TRY(name_items(block));
    MR_TRY(read_groups(block));
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next)
        MR_TRY(rewrite(block, item, false));
    MR_TRY(rewrite(block, having, true));
    for (struct mr_json *one = modifiers != NULL ? modifiers->first : NULL; one != NULL;
         one = one->next) {
        if (mr_sql__type_is(one, "ORDER_MODIFIER"))
            MR_TRY(rewrite(block, mr_json_get(one, "orders"), true));
    }
    MR_TRY(plan_input(block));
    MR_TRY(plan_fold(block, &groups));
    return plan_output(block, &groups, rel);
}

enum mr_status mr_sql__plan_aggregate(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, struct mr_sql_from *from,
                                      struct mr_sql_rel **ret_rel)
{
    struct block *block = mr_arena_alloc(&p->arena, sizeof(*block));
    struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));

    if (block == NULL || rel == NULL)
        return mr_sql__no_memory(p);
    memset(block, 0, sizeof(*block));
    memset(rel, 0, sizeof(*rel));
    block->p = p;
    block->query = query;
    block->node = node;
    block->list = mr_json_get(node, "select_list");
    block->from = from;
    block->window_alias = "";
    MR_TRY(plan_block(block, rel));
    *ret_rel = rel;
    return MR_OK;
}
