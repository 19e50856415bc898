/*
 * Aggregate functions of a block: which there are, what they take, FILTER and DISTINCT.
 *
 * Called by aggregate_rewrite.c for every call it meets. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include "base/check.h"

#include <stdio.h>
#include <string.h>

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
static enum mr_status make_case(struct mr_sql_block *block, const struct mr_json *condition,
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
static enum mr_status make_argument(struct mr_sql_block *block, const struct mr_json *call,
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

static enum mr_status check_call(struct mr_sql_block *block, struct mr_json *call,
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
enum mr_status mr_sql__find_aggregate(struct mr_sql_block *block, struct mr_json *call,
                                      const struct mr_sql_agg **ret_agg)
{
    const char *name = mr_sql__function(call);
    const struct agg_function *function = NULL;
    struct mr_sql_agg *agg;

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
