/*
 * Aggregate functions of a block: what each call becomes in the fold, and what stands in its place
 * behind it.
 *
 *     sum(v)               an aggregate of the fold     mr_a0
 *     approx_quantile(v,   one each                     list_value(mr_a0, mr_a1)
 *       [0.5, 0.9])
 *     max(v, 3)            the 3 best of v by v         mr_a0
 *     median(v)            list of v                    list_aggregate(mr_a0, 'median')
 *
 * Functions that cannot be merged from parts but are functions of the values of one column keep the
 * list of these (or the set, with DISTINCT) and are computed by DuckDB when a group is emitted. All
 * others are refused by name.
 *
 * FILTER: arguments of functions that ignore nulls become CASE WHEN condition THEN argument END;
 * others get the condition as a column of its own.
 *
 * Called by aggregate_rewrite.c for every call it meets. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include "base/check.h"
#include "base/number_text.h"

#include <stdio.h>
#include <string.h>

enum form {
    FORM_PLAIN,    /* one argument, nulls ignored */
    FORM_STAR,     /* count(*) */
    FORM_IF,       /* count_if(condition) */
    FORM_TWO,      /* (y, x), rows with a null ignored */
    FORM_BY,       /* (value, by) */
    FORM_VALUE,    /* one argument, nulls count */
    FORM_LIST,     /* list(x ORDER BY ...) */
    FORM_SET,      /* the set of values */
    FORM_QUANTILE, /* approx_quantile(x, fraction or list of them) */
    FORM_BAG,      /* list_aggregate(list(x), name, constants) */
    FORM_USER,     /* of the program */
};

static const struct agg_function {
    const char *name;
    enum form form;
    enum mr_agg_kind kind;
    const char *bag; /* FORM_BAG: DuckDB's name; others: that of DISTINCT, NULL = the same */
} agg_functions[] = {
    {"count_star", FORM_STAR, MR_AGG_COUNT_ALL, NULL},
    {"count", FORM_PLAIN, MR_AGG_COUNT, NULL},
    {"count_if", FORM_IF, MR_AGG_COUNT, NULL},
    {"countif", FORM_IF, MR_AGG_COUNT, NULL},
    {"sum", FORM_PLAIN, MR_AGG_SUM, NULL},
    {"min", FORM_PLAIN, MR_AGG_MIN, NULL},
    {"max", FORM_PLAIN, MR_AGG_MAX, NULL},
    {"avg", FORM_PLAIN, MR_AGG_AVG, NULL},
    {"mean", FORM_PLAIN, MR_AGG_AVG, NULL},
    {"stddev", FORM_PLAIN, MR_AGG_STDDEV_SAMP, "stddev_samp"},
    {"stddev_samp", FORM_PLAIN, MR_AGG_STDDEV_SAMP, "stddev_samp"},
    {"stddev_pop", FORM_PLAIN, MR_AGG_STDDEV_POP, "stddev_pop"},
    {"variance", FORM_PLAIN, MR_AGG_VAR_SAMP, "var_samp"},
    {"var_samp", FORM_PLAIN, MR_AGG_VAR_SAMP, "var_samp"},
    {"var_pop", FORM_PLAIN, MR_AGG_VAR_POP, "var_pop"},
    {"sem", FORM_PLAIN, MR_AGG_SEM, "sem"},
    {"product", FORM_PLAIN, MR_AGG_PRODUCT, "product"},
    {"bool_and", FORM_PLAIN, MR_AGG_BOOL_AND, NULL},
    {"bool_or", FORM_PLAIN, MR_AGG_BOOL_OR, NULL},
    {"bit_and", FORM_PLAIN, MR_AGG_BIT_AND, NULL},
    {"bit_or", FORM_PLAIN, MR_AGG_BIT_OR, NULL},
    {"bit_xor", FORM_PLAIN, MR_AGG_BIT_XOR, "bit_xor"},
    {"covar_samp", FORM_TWO, MR_AGG_COVAR_SAMP, NULL},
    {"covar_pop", FORM_TWO, MR_AGG_COVAR_POP, NULL},
    {"corr", FORM_TWO, MR_AGG_CORR, NULL},
    {"regr_count", FORM_TWO, MR_AGG_REGR_COUNT, NULL},
    {"regr_avgx", FORM_TWO, MR_AGG_REGR_AVGX, NULL},
    {"regr_avgy", FORM_TWO, MR_AGG_REGR_AVGY, NULL},
    {"regr_sxx", FORM_TWO, MR_AGG_REGR_SXX, NULL},
    {"regr_syy", FORM_TWO, MR_AGG_REGR_SYY, NULL},
    {"regr_sxy", FORM_TWO, MR_AGG_REGR_SXY, NULL},
    {"regr_slope", FORM_TWO, MR_AGG_REGR_SLOPE, NULL},
    {"regr_intercept", FORM_TWO, MR_AGG_REGR_INTERCEPT, NULL},
    {"regr_r2", FORM_TWO, MR_AGG_REGR_R2, NULL},
    {"first", FORM_VALUE, MR_AGG_FIRST, NULL},
    {"first_value", FORM_VALUE, MR_AGG_FIRST, NULL},
    {"arbitrary", FORM_VALUE, MR_AGG_FIRST, NULL},
    {"last", FORM_VALUE, MR_AGG_LAST, NULL},
    {"last_value", FORM_VALUE, MR_AGG_LAST, NULL},
    {"any_value", FORM_PLAIN, MR_AGG_ANY_VALUE, NULL},
    {"arg_min", FORM_BY, MR_AGG_ARG_MIN, NULL},
    {"argmin", FORM_BY, MR_AGG_ARG_MIN, NULL},
    {"min_by", FORM_BY, MR_AGG_ARG_MIN, NULL},
    {"arg_max", FORM_BY, MR_AGG_ARG_MAX, NULL},
    {"argmax", FORM_BY, MR_AGG_ARG_MAX, NULL},
    {"max_by", FORM_BY, MR_AGG_ARG_MAX, NULL},
    {"list", FORM_LIST, MR_AGG_LIST, NULL},
    {"array_agg", FORM_LIST, MR_AGG_LIST, NULL},
    {"collect_list", FORM_LIST, MR_AGG_LIST, NULL},
    {"collect_set", FORM_SET, MR_AGG_LIST_DISTINCT, NULL},
    {"approx_count_distinct", FORM_PLAIN, MR_AGG_APPROX_COUNT_DISTINCT, NULL},
    {"approx_quantile", FORM_QUANTILE, MR_AGG_APPROX_QUANTILE, NULL},
    {"percentile_approx", FORM_QUANTILE, MR_AGG_APPROX_QUANTILE, NULL},
    {"approx_percentile", FORM_QUANTILE, MR_AGG_APPROX_QUANTILE, NULL},
    {"string_agg", FORM_BAG, MR_AGG_LIST, "string_agg"},
    {"group_concat", FORM_BAG, MR_AGG_LIST, "string_agg"},
    {"listagg", FORM_BAG, MR_AGG_LIST, "string_agg"},
    {"median", FORM_BAG, MR_AGG_LIST, "median"},
    {"quantile", FORM_BAG, MR_AGG_LIST, "quantile_disc"},
    {"quantile_cont", FORM_BAG, MR_AGG_LIST, "quantile_cont"},
    {"quantile_disc", FORM_BAG, MR_AGG_LIST, "quantile_disc"},
    {"mode", FORM_BAG, MR_AGG_LIST, "mode"},
    {"mad", FORM_BAG, MR_AGG_LIST, "mad"},
    {"entropy", FORM_BAG, MR_AGG_LIST, "entropy"},
    {"skewness", FORM_BAG, MR_AGG_LIST, "skewness"},
    {"kurtosis", FORM_BAG, MR_AGG_LIST, "kurtosis"},
    {"kurtosis_pop", FORM_BAG, MR_AGG_LIST, "kurtosis_pop"},
    {"histogram", FORM_BAG, MR_AGG_LIST, "histogram"},
};

/* Functions that are known and refused, with what to write instead. */
static const struct {
    const char *name;
    const char *instead;
} refused[] = {
    {"approx_top_k", "count(*) GROUP BY the value and ORDER BY it in complete mode"},
    {"reservoir_quantile", "approx_quantile(x, fraction)"},
    {"bitstring_agg", "list(DISTINCT x)"},
    {"histogram_exact", "histogram(x)"},
    {"arg_min_null", "arg_min(x, y)"},
    {"arg_max_null", "arg_max(x, y)"},
    {"arg_min_nulls_last", "arg_min(x, y)"},
    {"arg_max_nulls_last", "arg_max(x, y)"},
    {"favg", "avg(x)"},
    {"fsum", "sum(x), which adds doubles exactly enough"},
    {"kahan_sum", "sum(x), which adds doubles exactly enough"},
    {"sumkahan", "sum(x), which adds doubles exactly enough"},
    {"sum_no_overflow", "sum(x)"},
    {"wavg", "sum(x * w) / sum(w)"},
    {"weighted_avg", "sum(x * w) / sum(w)"},
    {"geomean", "exp(avg(ln(x)))"},
    {"geometric_mean", "exp(avg(ln(x)))"},
};

/* ---- Expressions ---- */

static enum mr_status parse_buf(struct mr_sql_planner *p, struct mr_buf *sql,
                                struct mr_json **ret_expr)
{
    enum mr_status status =
        sql->failed ? mr_sql__no_memory(p) : mr_sql__parse_expression(p, sql->data, ret_expr);

    mr_buf_release(sql);
    return status;
}

/* The tree of "CASE WHEN condition THEN value END"; value NULL: 1. */
static enum mr_status make_case(struct mr_sql_block *block, const struct mr_json *condition,
                                const struct mr_json *value, struct mr_json **ret_expr)
{
    struct mr_sql_planner *p = block->p;
    struct mr_buf sql = MR_BUF_INIT;
    const char *when;
    const char *then = "1";

    MR_TRY(mr_sql__expression_text(p, condition, &when));
    if (value != NULL)
        MR_TRY(mr_sql__expression_text(p, value, &then));
    mr_buf_printf(&sql, "CASE WHEN (%s) THEN (%s) END", when, then);
    return parse_buf(p, &sql, ret_expr);
}

/* References become the names of columns: t.city and city are the same. */
static void strip_qualifiers(struct mr_sql_block *block, struct mr_json *node)
{
    struct mr_json *names = mr_json_get(node, "column_names");
    uint32_t leaf, column;
    size_t rest;

    if (node->kind < MR_JSON_ARRAY)
        return;
    if (mr_sql__class_is(node, "COLUMN_REF") && names != NULL &&
        mr_sql__resolve(block->from, node, &leaf, &column, &rest) &&
        (int32_t)leaf == block->from->stream) {
        struct mr_json *plain = mr_json_new_array(&block->p->arena);
        const char *name = mr_schema_field(block->from->leaves[leaf].schema, column)->name;

        if (plain == NULL)
            return; /* the text only gets longer */
        mr_json_push(plain, mr_json_new_string(&block->p->arena, name));
        for (size_t i = names->count - rest; i < names->count; i++)
            mr_json_push(plain, mr_json_copy(&block->p->arena, mr_json_at(names, i)));
        mr_json_put(&block->p->arena, node, "column_names", plain);
        return;
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        strip_qualifiers(block, child);
}

enum mr_status mr_sql__identity(struct mr_sql_block *block, const struct mr_json *expr,
                                const char **ret_text)
{
    struct mr_json *copy = mr_json_copy(&block->p->arena, expr);

    if (copy == NULL)
        return mr_sql__no_memory(block->p);
    mr_sql__set_alias(block->p, copy, "");
    strip_qualifiers(block, copy);
    if (mr_sql__class_is(copy, "COLUMN_REF") && mr_json_get(copy, "column_names")->count == 1) {
        *ret_text = mr_json_get(copy, "column_names")->first->text; /* not quoted */
        return MR_OK;
    }
    return mr_sql__expression_text(block->p, copy, ret_text);
}

static bool is_column(const struct mr_json *node)
{
    return mr_sql__class_is(node, "COLUMN_REF");
}

static bool is_constant(struct mr_json *expr)
{
    return mr_sql__find(expr, is_column) == NULL;
}

/* ---- Calls ---- */

/* A call while it is taken apart. */
struct call {
    struct mr_json *node;
    const char *name; /* as written */
    const struct agg_function *function;
    struct mr_json *children; /* never NULL */
    struct mr_json *orders;   /* never NULL */
    struct mr_json *filter;   /* NULL: none */
    bool distinct;
    uint32_t limit;                 /* arg_max(x, y, n): n */
    const struct mr_agg_user *user; /* FORM_USER */
};

static enum mr_status refuse(struct mr_sql_block *block, const struct call *call)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(refused); i++) {
        if (mr_sql__same_name(refused[i].name, call->name))
            return mr_sql__fail(block->p, block->query, call->node,
                                "aggregate function '%s' is not supported over a stream; use %s",
                                call->name, refused[i].instead);
    }
    return mr_sql__fail(block->p, block->query, call->node,
                        "aggregate function '%s' is not supported over a stream: it cannot be "
                        "merged from the results of parts (docs/sql.md lists those that can)",
                        call->name);
}

static const struct agg_function of_program = {"", FORM_USER, MR_AGG_USER, NULL};

static enum mr_status read_call(struct mr_sql_block *block, struct mr_json *node,
                                struct call *ret_call)
{
    struct mr_json *filter = mr_json_get(node, "filter");
    struct mr_json *distinct = mr_json_get(node, "distinct");
    struct call call = {.node = node,
                        .name = mr_sql__function(node),
                        .children = mr_json_get(node, "children"),
                        .orders = mr_json_get(mr_json_get(node, "order_bys"), "orders"),
                        .filter = filter != NULL && filter->kind != MR_JSON_NULL ? filter : NULL,
                        .distinct = distinct != NULL && distinct->boolean};

    if (call.children == NULL)
        call.children = mr_json_new_array(&block->p->arena);
    if (call.orders == NULL)
        call.orders = mr_json_new_array(&block->p->arena);
    if (call.children == NULL || call.orders == NULL)
        return mr_sql__no_memory(block->p);
    for (size_t i = 0; i < MR_ARRAY_SIZE(agg_functions); i++) {
        if (mr_sql__same_name(agg_functions[i].name, call.name))
            call.function = &agg_functions[i];
    }
    call.user = mr_sql__user_aggregate(call.name);
    if (call.function == NULL && call.user != NULL)
        call.function = &of_program;
    *ret_call = call;
    return call.function != NULL ? MR_OK : refuse(block, &call);
}

/* No aggregate and no window inside of another. */
static enum mr_status check_inside(struct mr_sql_block *block, struct mr_json *inside)
{
    struct mr_json *found = mr_sql__find(inside, mr_sql__is_aggregate);

    if (found != NULL)
        return mr_sql__fail(block->p, block->query, found,
                            "an aggregate function cannot be inside another");
    found = mr_sql__find(inside, mr_sql__is_window_call);
    if (found != NULL)
        return mr_sql__fail(block->p, block->query, found,
                            "a window cannot be inside an aggregate function");
    return MR_OK;
}

/* max(x), which also is max(x, n) */
static bool is_best(const struct call *call)
{
    return call->function->kind == MR_AGG_MIN || call->function->kind == MR_AGG_MAX;
}

static enum mr_status check_count(struct mr_sql_block *block, const struct call *call)
{
    static const struct {
        size_t least, most;
        const char *text;
    } counts[] = {
        [FORM_PLAIN] = {1, 1, "one argument"}, /* min and max: is_best */
        [FORM_STAR] = {0, 0, "no arguments"},
        [FORM_IF] = {1, 1, "one argument"},
        [FORM_TWO] = {2, 2, "two arguments"},
        [FORM_BY] = {2, 3, "two arguments and, for a list of the best, how many"},
        [FORM_VALUE] = {1, 1, "one argument"},
        [FORM_LIST] = {1, 1, "one argument"},
        [FORM_SET] = {1, 1, "one argument"},
        [FORM_QUANTILE] = {2, 3, "a value and a fraction"},
        [FORM_BAG] = {0, 3, "one argument, then constants"},
        [FORM_USER] = {1, MR_SQL_KEYS_MAX, "at least one argument"},
    };
    enum form form = call->function->form;

    if (is_best(call) && call->children->count == 2)
        return MR_OK;
    if (call->children->count >= counts[form].least && call->children->count <= counts[form].most)
        return MR_OK;
    return mr_sql__fail(block->p, block->query, call->node, "%s() takes %s over a stream",
                        call->name, counts[form].text);
}

static enum mr_status check_call(struct mr_sql_block *block, const struct call *call)
{
    enum form form = call->function->form;

    MR_TRY(check_count(block, call));
    MR_TRY(check_inside(block, call->children));
    MR_TRY(check_inside(block, call->orders));
    if (call->filter != NULL)
        MR_TRY(check_inside(block, call->filter));
    if (call->orders->count > 0 &&
        (form == FORM_VALUE || form == FORM_BY || call->function->kind == MR_AGG_ANY_VALUE))
        return mr_sql__fail(block->p, block->query, call->node,
                            "ORDER BY inside %s() is not supported over a stream; use "
                            "arg_min(x, y) or arg_max(x, y)",
                            call->name);
    if (call->distinct &&
        (form == FORM_TWO || form == FORM_STAR || form == FORM_IF || form == FORM_USER))
        return mr_sql__fail(block->p, block->query, call->node,
                            "%s(DISTINCT ...) is not supported over a stream", call->name);
    return MR_OK;
}

/* ---- Into the fold ---- */

/* The argument that is this expression: an equal one, or a new one. */
static enum mr_status add_argument(struct mr_sql_block *block, const struct mr_json *expr,
                                   uint32_t *ret_index)
{
    struct mr_sql_argument *argument = &block->arguments[block->argument_count];

    for (uint32_t i = 0; i < block->argument_count; i++) {
        if (mr_sql__same_expr(block, block->arguments[i].expr, expr)) {
            *ret_index = i;
            return MR_OK;
        }
    }
    if (block->argument_count == MR_SQL_AGGS_MAX)
        return mr_sql__fail(block->p, block->query, expr,
                            "more than %d arguments of aggregates in one SELECT", MR_SQL_AGGS_MAX);
    memset(argument, 0, sizeof(*argument));
    argument->expr = mr_json_copy(&block->p->arena, expr); /* the call is about to be replaced */
    if (argument->expr == NULL)
        return mr_sql__no_memory(block->p);
    snprintf(argument->name, sizeof(argument->name), "mr_i%u", block->argument_count);
    *ret_index = block->argument_count++;
    return MR_OK;
}

static enum mr_status add_orders(struct mr_sql_block *block, const struct call *call,
                                 struct mr_sql_agg *agg)
{
    for (struct mr_json *order = call->orders->first; order != NULL; order = order->next) {
        struct mr_agg_order *to = &agg->orders[agg->order_count];
        const struct mr_json *nulls = mr_json_get(order, "null_order");

        if (agg->order_count == MR_AGG_ORDERS_MAX)
            return mr_sql__fail(block->p, block->query, call->node,
                                "more than %d expressions in ORDER BY inside %s()",
                                MR_AGG_ORDERS_MAX, call->name);
        MR_TRY(add_argument(block, mr_json_get(order, "expression"), &to->column));
        to->descending = mr_sql__type_is(order, "DESCENDING");
        to->nulls_first = mr_json_is(nulls, "NULLS FIRST") || mr_json_is(nulls, "NULLS_FIRST");
        agg->order_count++;
    }
    return MR_OK;
}

/* price FILTER (city = 'Bonn') ORDER BY ts DESC: identity in the checkpoint. */
static enum mr_status make_identity(struct mr_sql_block *block, const struct call *call,
                                    const struct mr_json *argument, const struct mr_json *other,
                                    struct mr_sql_agg *agg)
{
    struct mr_buf text = MR_BUF_INIT;
    const char *part = "";

    if (argument != NULL)
        MR_TRY(mr_sql__identity(block, argument, &part));
    mr_buf_add_str(&text, part);
    if (other != NULL && mr_sql__identity(block, other, &part) == MR_OK)
        mr_buf_printf(&text, ", %s", part);
    if (agg->limit > 0)
        mr_buf_printf(&text, ", %u", agg->limit);
    if (call->filter != NULL && mr_sql__identity(block, call->filter, &part) == MR_OK)
        mr_buf_printf(&text, "%sFILTER (%s)", text.size > 0 ? " " : "", part);
    for (uint32_t i = 0; i < agg->order_count; i++) {
        const struct mr_agg_order *order = &agg->orders[i];

        if (mr_sql__identity(block, block->arguments[order->column].expr, &part) == MR_OK)
            mr_buf_printf(&text, "%s%s%s%s", i == 0 ? " ORDER BY " : ", ", part,
                          order->descending ? " DESC" : "",
                          order->nulls_first ? " NULLS FIRST" : "");
    }
    agg->identity = text.failed ? NULL : mr_arena_copy(&block->p->arena, text.data, text.size);
    mr_buf_release(&text);
    return agg->identity != NULL ? MR_OK : mr_sql__no_memory(block->p);
}

static bool same_agg(const struct mr_sql_agg *a, const struct mr_sql_agg *b)
{
    if (a->kind != b->kind || a->user != b->user || a->argument != b->argument ||
        a->other != b->other || a->filter != b->filter || a->fraction != b->fraction ||
        a->limit != b->limit || a->order_count != b->order_count)
        return false;
    for (uint32_t i = 0; i < a->order_count; i++) {
        if (a->orders[i].column != b->orders[i].column ||
            a->orders[i].descending != b->orders[i].descending ||
            a->orders[i].nulls_first != b->orders[i].nulls_first)
            return false;
    }
    return true;
}

/* Which of the fold's results this is: an equal one, or a new one. */
static enum mr_status add_agg(struct mr_sql_block *block, const struct call *call,
                              struct mr_sql_agg *agg, const char **ret_name)
{
    for (uint32_t i = 0; i < block->agg_count; i++) {
        if (same_agg(&block->aggs[i], agg)) {
            *ret_name = block->aggs[i].name;
            return MR_OK;
        }
    }
    if (block->agg_count == MR_SQL_AGGS_MAX)
        return mr_sql__fail(block->p, block->query, call->node,
                            "more than %d aggregates in one SELECT", MR_SQL_AGGS_MAX);
    snprintf(agg->name, sizeof(agg->name), "mr_a%u", block->agg_count);
    block->aggs[block->agg_count] = *agg;
    *ret_name = block->aggs[block->agg_count++].name;
    return MR_OK;
}

/* One aggregate over (argument, other) with the call's FILTER. */
static enum mr_status fold_call(struct mr_sql_block *block, const struct call *call,
                                enum mr_agg_kind kind, struct mr_json *argument,
                                struct mr_json *other, double fraction, const char **ret_name)
{
    struct mr_sql_agg agg = {.kind = kind,
                             .argument = MR_SQL_NONE,
                             .other = MR_SQL_NONE,
                             .filter = MR_SQL_NONE,
                             .fraction = fraction,
                             .limit = call->limit,
                             .user = kind == MR_AGG_USER ? call->user : NULL};
    enum form form = call->function->form;
    bool keeps_nulls = kind == MR_AGG_LIST || kind == MR_AGG_LIST_DISTINCT || form == FORM_VALUE;
    struct mr_json *given = argument;

    if (form == FORM_IF)
        MR_TRY(make_case(block, argument, NULL, &given));
    if (call->filter != NULL && !keeps_nulls) {
        MR_TRY(make_case(block, call->filter, given, &given));
        if (kind == MR_AGG_COUNT_ALL)
            agg.kind = MR_AGG_COUNT;
    } else if (call->filter != NULL) {
        struct mr_json *condition;
        const char *text;
        struct mr_buf sql = MR_BUF_INIT;

        MR_TRY(mr_sql__expression_text(block->p, call->filter, &text));
        mr_buf_printf(&sql, "CAST((%s) AS BOOLEAN)", text);
        MR_TRY(parse_buf(block->p, &sql, &condition));
        MR_TRY(add_argument(block, condition, &agg.filter));
    }
    if (given != NULL)
        MR_TRY(add_argument(block, given, &agg.argument));
    if (other != NULL)
        MR_TRY(add_argument(block, other, &agg.other));
    if (kind == MR_AGG_LIST)
        MR_TRY(add_orders(block, call, &agg));
    MR_TRY(make_identity(block, call, form == FORM_IF ? given : argument, other, &agg));
    return add_agg(block, call, &agg, ret_name);
}

/* ---- In the place of the call ---- */

static enum mr_status put_result(struct mr_sql_block *block, const struct call *call,
                                 const char *name)
{
    return mr_sql__put(block, call->node, mr_sql__column(block->p, name, ""));
}

/* list_aggregate(mr_a0, 'name', constants): computed by DuckDB from the values. */
static enum mr_status put_bag(struct mr_sql_block *block, const struct call *call,
                              const char *function, const char *result,
                              const struct mr_json *constants)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_json *with = NULL;

    mr_buf_printf(&sql, "list_aggregate(%s, '%s'", result, function);
    for (const struct mr_json *one = constants; one != NULL; one = one->next) {
        const char *text;
        enum mr_status status = mr_sql__expression_text(block->p, one, &text);

        if (status != MR_OK) {
            mr_buf_release(&sql);
            return status;
        }
        mr_buf_printf(&sql, ", %s", text);
    }
    mr_buf_add_char(&sql, ')');
    MR_TRY(parse_buf(block->p, &sql, &with));
    return mr_sql__put(block, call->node, with);
}

/* DISTINCT with ORDER BY: only by the value itself; a set is ascending, a null first. */
static enum mr_status check_set_order(struct mr_sql_block *block, const struct call *call,
                                      const struct mr_json *argument, bool *ret_descending)
{
    struct mr_json *order = call->orders->first;

    *ret_descending = order != NULL && mr_sql__type_is(order, "DESCENDING");
    if (order == NULL ||
        (call->orders->count == 1 && mr_sql__equal(mr_json_get(order, "expression"), argument)))
        return MR_OK;
    return mr_sql__fail(block->p, block->query, call->node,
                        "%s(DISTINCT ... ORDER BY ...) can be ordered by its argument only",
                        call->name);
}

static enum mr_status put_set(struct mr_sql_block *block, const struct call *call,
                              struct mr_json *argument, const char *function,
                              const struct mr_json *constants)
{
    struct mr_buf list = MR_BUF_INIT;
    struct mr_json *with = NULL;
    bool descending;
    const char *name;
    enum mr_status status;

    MR_TRY(check_set_order(block, call, argument, &descending));
    MR_TRY(fold_call(block, call, MR_AGG_LIST_DISTINCT, argument, NULL, 0, &name));
    /* Nulls last, as DuckDB sorts. */
    if (function == NULL || descending)
        mr_buf_printf(&list, "list_sort(%s, '%s', 'NULLS LAST')", name,
                      descending ? "DESC" : "ASC");
    else
        mr_buf_add_str(&list, name);
    if (function != NULL) {
        status = list.failed ? mr_sql__no_memory(block->p)
                             : put_bag(block, call, function, list.data, constants);
        mr_buf_release(&list);
        return status;
    }
    MR_TRY(parse_buf(block->p, &list, &with));
    return mr_sql__put(block, call->node, with);
}

static enum mr_status put_distinct(struct mr_sql_block *block, const struct call *call)
{
    struct mr_json *argument = call->children->first;
    const char *name;

    switch (call->function->kind) {
    case MR_AGG_COUNT:
        MR_TRY(fold_call(block, call, MR_AGG_COUNT_DISTINCT, argument, NULL, 0, &name));
        return put_result(block, call, name);
    case MR_AGG_SUM:
        MR_TRY(fold_call(block, call, MR_AGG_SUM_DISTINCT, argument, NULL, 0, &name));
        return put_result(block, call, name);
    case MR_AGG_AVG:
        MR_TRY(fold_call(block, call, MR_AGG_AVG_DISTINCT, argument, NULL, 0, &name));
        return put_result(block, call, name);
    case MR_AGG_LIST:
        return put_set(block, call, argument, NULL, NULL);
    default:
        return put_set(block, call, argument, call->function->bag, NULL);
    }
}

/* The constant fraction of approx_quantile. */
static enum mr_status read_fraction(struct mr_sql_block *block, const struct call *call,
                                    const struct mr_json *expr, double *ret_fraction)
{
    const char *text;

    MR_TRY(mr_sql__expression_text(block->p, expr, &text));
    if (!mr_double_parse(text, strlen(text), ret_fraction) || !(*ret_fraction >= 0) ||
        *ret_fraction > 1)
        return mr_sql__fail(block->p, block->query, expr,
                            "the fraction of %s() must be a number from 0 to 1, as 0.5, or a list "
                            "of such",
                            call->name);
    return MR_OK;
}

static enum mr_status put_quantiles(struct mr_sql_block *block, const struct call *call)
{
    struct mr_json *argument = call->children->first;
    struct mr_json *fractions = argument->next;
    const char *function = mr_sql__function(fractions);
    struct mr_json *list = mr_json_get(fractions, "children");
    bool many = (function != NULL && mr_sql__same_name(function, "list_value")) ||
                mr_sql__type_is(fractions, "ARRAY_CONSTRUCTOR");
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_json *with = NULL;
    const char *name;
    double fraction;

    if (!many) {
        MR_TRY(read_fraction(block, call, fractions, &fraction));
        MR_TRY(fold_call(block, call, MR_AGG_APPROX_QUANTILE, argument, NULL, fraction, &name));
        return put_result(block, call, name);
    }
    mr_buf_add_str(&sql, "list_value(");
    for (struct mr_json *one = list->first; one != NULL; one = one->next) {
        enum mr_status status = read_fraction(block, call, one, &fraction);

        if (status == MR_OK)
            status =
                fold_call(block, call, MR_AGG_APPROX_QUANTILE, argument, NULL, fraction, &name);
        if (status != MR_OK) {
            mr_buf_release(&sql);
            return status;
        }
        mr_buf_printf(&sql, "%s%s", one == list->first ? "" : ", ", name);
    }
    mr_buf_add_char(&sql, ')');
    MR_TRY(parse_buf(block->p, &sql, &with));
    return mr_sql__put(block, call->node, with);
}

/* quantile_cont(x, 0.5), and percentile_cont(0.5) WITHIN GROUP (ORDER BY x), which DuckDB's parser
 * gives as quantile_cont(0.5 ORDER BY x). */
static enum mr_status put_bag_call(struct mr_sql_block *block, const struct call *call)
{
    struct mr_json *argument = call->children->first;
    struct mr_json *constants = argument != NULL ? argument->next : NULL;
    struct call without_order = *call;
    const char *function = call->function->bag;
    const char *name;

    MR_ASSERT(function != NULL); /* FORM_BAG has one */
    if (strcmp(function, "string_agg") != 0 && call->orders->count > 0) {
        without_order.orders = mr_json_new_array(&block->p->arena);
        if (without_order.orders == NULL)
            return mr_sql__no_memory(block->p);
        if (argument == NULL || (argument->next == NULL && is_constant(argument))) {
            if (call->orders->count != 1 || mr_sql__type_is(call->orders->first, "DESCENDING"))
                return mr_sql__fail(block->p, block->query, call->node,
                                    "WITHIN GROUP takes one ascending ORDER BY over a stream");
            constants = argument;
            argument = mr_json_get(call->orders->first, "expression");
        }
    }
    if (argument == NULL)
        return mr_sql__fail(block->p, block->query, call->node, "%s() takes an argument",
                            call->name);
    for (struct mr_json *one = constants; one != NULL; one = one->next) {
        if (!is_constant(one))
            return mr_sql__fail(block->p, block->query, one,
                                "all arguments of %s() but the first must be constants",
                                call->name);
    }
    if (call->distinct)
        return put_set(block, strcmp(function, "string_agg") == 0 ? call : &without_order, argument,
                       function, constants);
    MR_TRY(fold_call(block, &without_order, MR_AGG_LIST, argument, NULL, 0, &name));
    return put_bag(block, call, function, name, constants);
}

/* CAST(x AS BIGINT), or a struct of all arguments, each cast to its declared type. */
static enum mr_status user_argument(struct mr_sql_block *block, const struct call *call,
                                    struct mr_json **ret_argument)
{
    const struct mr_schema *arguments = call->user->arguments;
    bool many = mr_schema_field_count(arguments) > 1;
    struct mr_json *one = call->children->first;
    struct mr_buf sql = MR_BUF_INIT;

    if (call->children->count != mr_schema_field_count(arguments))
        return mr_sql__fail(block->p, block->query, call->node, "%s() takes %u argument%s",
                            call->name, mr_schema_field_count(arguments), many ? "s" : "");
    mr_buf_add_str(&sql, many ? "struct_pack(" : "");
    for (uint32_t i = 0; one != NULL; i++, one = one->next) {
        const struct mr_field *field = mr_schema_field(arguments, i);
        const char *text;
        enum mr_status status = mr_sql__expression_text(block->p, one, &text);

        if (status != MR_OK) {
            mr_buf_release(&sql);
            return status;
        }
        if (many) {
            mr_buf_add_str(&sql, i > 0 ? ", " : "");
            mr_sql__add_quoted(&sql, field->name);
            mr_buf_add_str(&sql, " := ");
        }
        mr_buf_printf(&sql, "CAST((%s) AS ", text);
        mr_sql__add_type(&sql, &field->type);
        mr_buf_add_char(&sql, ')');
    }
    mr_buf_add_str(&sql, many ? ")" : "");
    return parse_buf(block->p, &sql, ret_argument);
}

static enum mr_status put_user(struct mr_sql_block *block, const struct call *call)
{
    struct mr_json *argument = NULL;
    const char *name;

    MR_TRY(user_argument(block, call, &argument));
    MR_TRY(fold_call(block, call, MR_AGG_USER, argument, NULL, 0, &name));
    return put_result(block, call, name);
}

/* arg_max(x, y, n); max(x, n) is arg_max(x, x, n). */
static enum mr_status put_top(struct mr_sql_block *block, struct call *call)
{
    enum mr_agg_kind kind = call->function->kind;
    struct mr_json *argument = call->children->first;
    struct mr_json *by = is_best(call) ? argument : argument->next;
    struct mr_json *count = is_best(call) ? argument->next : by->next;
    const char *text;
    const char *name;
    uint64_t limit = 0;

    MR_TRY(mr_sql__expression_text(block->p, count, &text));
    if (!mr_uint_parse(text, strlen(text), &limit) || limit < 1 || limit > MR_AGG_TOP_MAX_COUNT)
        return mr_sql__fail(block->p, block->query, count,
                            "the last argument of %s() must be a number from 1 to %d over a stream",
                            call->name, MR_AGG_TOP_MAX_COUNT);
    if (call->distinct)
        return mr_sql__fail(block->p, block->query, call->node,
                            "%s(DISTINCT ...) of the best %u is not supported over a stream",
                            call->name, (uint32_t)limit);
    call->limit = (uint32_t)limit;
    kind = kind == MR_AGG_MIN || kind == MR_AGG_ARG_MIN ? MR_AGG_TOP_MIN : MR_AGG_TOP_MAX;
    MR_TRY(fold_call(block, call, kind, argument, by, 0, &name));
    return put_result(block, call, name);
}

enum mr_status mr_sql__put_aggregate(struct mr_sql_block *block, struct mr_json *node)
{
    struct call call = {0};
    struct mr_json *argument;
    const char *name;
    bool has_set;

    MR_TRY(read_call(block, node, &call));
    MR_ASSERT(call.function != NULL);
    MR_TRY(check_call(block, &call));
    argument = call.children->first;
    has_set = call.function->bag != NULL || call.function->kind == MR_AGG_COUNT ||
              call.function->kind == MR_AGG_SUM || call.function->kind == MR_AGG_AVG ||
              call.function->kind == MR_AGG_LIST;
    switch (call.function->form) {
    case FORM_QUANTILE:
        return put_quantiles(block, &call);
    case FORM_BAG:
        return put_bag_call(block, &call);
    case FORM_SET:
        return put_set(block, &call, argument, NULL, NULL);
    case FORM_USER:
        return put_user(block, &call);
    default:
        break;
    }
    if (call.children->count == (is_best(&call) ? 2 : 3))
        return put_top(block, &call);
    if (call.distinct && has_set) /* for the others it changes nothing: min, any_value, ... */
        return put_distinct(block, &call);
    MR_TRY(fold_call(block, &call, call.function->kind, argument,
                     argument != NULL ? argument->next : NULL, 0, &name));
    return put_result(block, &call, name);
}
