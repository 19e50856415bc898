/*
 * DuckDB's syntax trees: looking at them, building small ones, printing them. Called by every file
 * of the planner.
 *
 * An expression is an object with "class", "type", "alias", "query_location" and its own members; a
 * query node is a SELECT_NODE or a SET_OPERATION_NODE. Trees are edited in place; they belong to
 * the planner's arena.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/text.h"
#include "data/codec.h"
#include "sql/internal.h"

#include <string.h>

bool mr_sql__same_name(const char *a, const char *b)
{
    return mr_text_equal_nocase(a, strlen(a), b, strlen(b));
}

bool mr_sql__class_is(const struct mr_json *node, const char *name)
{
    return node != NULL && mr_json_is(mr_json_get(node, "class"), name);
}

bool mr_sql__type_is(const struct mr_json *node, const char *name)
{
    return node != NULL && mr_json_is(mr_json_get(node, "type"), name);
}

const char *mr_sql__function(const struct mr_json *node)
{
    return mr_sql__class_is(node, "FUNCTION") ? mr_json_text(node, "function_name") : NULL;
}

const char *mr_sql__alias(const struct mr_json *node)
{
    const char *alias = mr_json_text(node, "alias");

    return alias != NULL ? alias : "";
}

static bool is_star_class(const struct mr_json *node)
{
    return mr_sql__class_is(node, "STAR");
}

bool mr_sql__is_star(const struct mr_json *node)
{
    return is_star_class(node);
}

static bool has_items(const struct mr_json *node, const char *key)
{
    const struct mr_json *list = mr_json_get(node, key);

    return list != NULL && list->count > 0;
}

bool mr_sql__plain_star(const struct mr_json *node)
{
    const struct mr_json *columns = mr_json_get(node, "columns");
    const char *relation = mr_json_text(node, "relation_name");

    return is_star_class(node) && (columns == NULL || !columns->boolean) &&
           (relation == NULL || relation[0] == '\0') && !has_items(node, "exclude_list") &&
           !has_items(node, "replace_list") && !has_items(node, "rename_list") &&
           !has_items(node, "qualified_exclude_list");
}

bool mr_sql__is_over(const struct mr_json *node)
{
    return mr_sql__class_is(node, "WINDOW");
}

/* Every aggregate function of DuckDB 1.5 (a test compares this list with the library). */
static const char *const aggregate_names[] = {
    "any_value",
    "approx_count_distinct",
    "approx_quantile",
    "approx_top_k",
    "arbitrary",
    "arg_max",
    "arg_max_null",
    "arg_max_nulls_last",
    "arg_min",
    "arg_min_null",
    "arg_min_nulls_last",
    "argmax",
    "argmin",
    "array_agg",
    "avg",
    "bit_and",
    "bit_or",
    "bit_xor",
    "bitstring_agg",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "count_if",
    "count_star",
    "countif",
    "covar_pop",
    "covar_samp",
    "cume_dist",
    "dense_rank",
    "entropy",
    "favg",
    "fill",
    "first",
    "first_value",
    "fsum",
    "geometric_mean",
    "geomean",
    "group_concat",
    "histogram",
    "histogram_exact",
    "kahan_sum",
    "kurtosis",
    "kurtosis_pop",
    "lag",
    "last",
    "last_value",
    "lead",
    "list",
    "listagg",
    "mad",
    "max",
    "max_by",
    "mean",
    "median",
    "min",
    "min_by",
    "mode",
    "nth_value",
    "ntile",
    "percent_rank",
    "product",
    "quantile",
    "quantile_cont",
    "quantile_disc",
    "rank",
    "rank_dense",
    "regr_avgx",
    "regr_avgy",
    "regr_count",
    "regr_intercept",
    "regr_r2",
    "regr_slope",
    "regr_sxx",
    "regr_sxy",
    "regr_syy",
    "reservoir_quantile",
    "row_number",
    "sem",
    "skewness",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "string_agg",
    "sum",
    "sum_no_overflow",
    "sumkahan",
    "var_pop",
    "var_samp",
    "variance",
    "wavg",
    "weighted_avg",
};

/* Those of Spark that DuckDB does not have. */
static const char *const spark_aggregates[] = {
    "approx_percentile",
    "collect_list",
    "collect_set",
    "percentile_approx",
};

/* Whether a name is an aggregate is asked deep inside of searches through trees, which know of no
 * planner: the one at work on this thread says which functions there are. */
static _Thread_local const struct mr_sql_functions *functions_here;

void mr_sql__use_functions(const struct mr_sql_functions *functions)
{
    functions_here = functions;
}

const struct mr_agg_user *mr_sql__user_aggregate(const char *name)
{
    if (functions_here == NULL || functions_here->aggregate == NULL || name == NULL)
        return NULL;
    return functions_here->aggregate(functions_here->arg, name);
}

bool mr_sql__is_aggregate(const struct mr_json *node)
{
    const char *name = mr_sql__function(node);

    for (size_t i = 0; name != NULL && i < MR_ARRAY_SIZE(spark_aggregates); i++) {
        if (mr_sql__same_name(name, spark_aggregates[i]))
            return true;
    }
    for (size_t i = 0; name != NULL && i < MR_ARRAY_SIZE(aggregate_names); i++) {
        if (mr_sql__same_name(name, aggregate_names[i]))
            return true;
    }
    return mr_sql__user_aggregate(name) != NULL;
}

struct mr_json *mr_sql__find(struct mr_json *node, bool (*accepts)(const struct mr_json *node))
{
    if (node == NULL || mr_sql__class_is(node, "SUBQUERY"))
        return NULL;
    if (node->kind == MR_JSON_OBJECT && accepts(node))
        return node;
    for (struct mr_json *child = node->first; child != NULL; child = child->next) {
        struct mr_json *found = mr_sql__find(child, accepts);

        if (found != NULL)
            return found;
    }
    return NULL;
}

/* ---- Equality ---- */

static bool skipped(const struct mr_json *member)
{
    return strcmp(member->key, "alias") == 0 || strcmp(member->key, "query_location") == 0;
}

/* a.city and city are one column when the longer one ends in the shorter. */
static bool columns_equal(const struct mr_json *a, const struct mr_json *b)
{
    const struct mr_json *left = mr_json_get(a, "column_names");
    const struct mr_json *right = mr_json_get(b, "column_names");

    if (left == NULL || right == NULL)
        return false;
    if (left->count < right->count) {
        const struct mr_json *swap = left;
        left = right;
        right = swap;
    }
    if (left->count - right->count > 1)
        return false;
    left = left->count > right->count ? left->first->next : left->first;
    for (right = right->first; right != NULL; right = right->next, left = left->next) {
        if (!mr_sql__same_name(left->text, right->text))
            return false;
    }
    return true;
}

bool mr_sql__equal(const struct mr_json *a, const struct mr_json *b)
{
    const struct mr_json *x;
    const struct mr_json *y;

    if (a == NULL || b == NULL || a->kind != b->kind)
        return a == b;
    switch (a->kind) {
    case MR_JSON_NULL:
        return true;
    case MR_JSON_BOOL:
        return a->boolean == b->boolean;
    case MR_JSON_NUMBER:
    case MR_JSON_STRING:
        return strcmp(a->text, b->text) == 0;
    default:
        break;
    }
    if (mr_sql__class_is(a, "COLUMN_REF") && mr_sql__class_is(b, "COLUMN_REF"))
        return columns_equal(a, b);
    x = a->first;
    y = b->first;
    for (;;) {
        while (x != NULL && a->kind == MR_JSON_OBJECT && skipped(x))
            x = x->next;
        while (y != NULL && b->kind == MR_JSON_OBJECT && skipped(y))
            y = y->next;
        if (x == NULL || y == NULL)
            return x == y;
        if (a->kind == MR_JSON_OBJECT && strcmp(x->key, y->key) != 0)
            return false;
        if (!mr_sql__equal(x, y))
            return false;
        x = x->next;
        y = y->next;
    }
}

/* ---- Building ---- */

void mr_sql__replace(struct mr_json *node, const struct mr_json *with)
{
    struct mr_json *next = node->next;
    const char *key = node->key;

    *node = *with;
    node->next = next;
    node->key = key;
}

void mr_sql__set_alias(struct mr_sql_planner *p, struct mr_json *node, const char *alias)
{
    mr_json_put(&p->arena, node, "alias", mr_json_new_string(&p->arena, alias));
}

/* An empty expression of a class and type. */
static struct mr_json *expression(struct mr_sql_planner *p, const char *name, const char *alias)
{
    struct mr_json *node = mr_json_new_object(&p->arena);

    if (node == NULL)
        return NULL;
    mr_json_put(&p->arena, node, "class", mr_json_new_string(&p->arena, name));
    mr_json_put(&p->arena, node, "type", mr_json_new_string(&p->arena, name));
    mr_json_put(&p->arena, node, "alias",
                mr_json_new_string(&p->arena, alias != NULL ? alias : ""));
    return node;
}

static void forget_places(struct mr_json *node)
{
    struct mr_json **at = &node->first;

    node->last = NULL;
    while (*at != NULL) {
        if (node->kind == MR_JSON_OBJECT && strcmp((*at)->key, "query_location") == 0) {
            *at = (*at)->next; /* DuckDB takes no null here */
            node->count--;
            continue;
        }
        forget_places(*at);
        node->last = *at;
        at = &(*at)->next;
    }
}

enum mr_status mr_sql__parse_select(struct mr_sql_planner *p, const char *sql,
                                    struct mr_json **ret_node)
{
    struct mr_json *tree = NULL;
    char *json = NULL;
    enum mr_status status;

    MR_TRY(mr_duck_parse(p->duck, sql, &json, p->err));
    MR_ASSERT(json != NULL);
    status = mr_json_parse(json, strlen(json), &p->arena, &tree, p->err);
    mr_text_free(json);
    MR_TRY(status);
    tree = mr_json_get(mr_json_get(tree, "statements")->first, "node");
    forget_places(tree);
    *ret_node = tree;
    return MR_OK;
}

enum mr_status mr_sql__parse_expression(struct mr_sql_planner *p, const char *text,
                                        struct mr_json **ret_expression)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_json *select = NULL;
    enum mr_status status;

    mr_buf_printf(&sql, "SELECT %s", text);
    status = sql.failed ? mr_sql__no_memory(p) : mr_sql__parse_select(p, sql.data, &select);
    mr_buf_release(&sql);
    MR_TRY(status);
    *ret_expression = mr_json_get(select, "select_list")->first;
    return MR_OK;
}

struct mr_json *mr_sql__column(struct mr_sql_planner *p, const char *name, const char *alias)
{
    struct mr_json *node = expression(p, "COLUMN_REF", alias);
    struct mr_json *names = mr_json_new_array(&p->arena);
    struct mr_json *one = mr_json_new_string(&p->arena, name);

    if (node == NULL || names == NULL || one == NULL)
        return NULL;
    mr_json_push(names, one);
    mr_json_put(&p->arena, node, "column_names", names);
    return node;
}

struct mr_json *mr_sql__call(struct mr_sql_planner *p, const char *function,
                             struct mr_json *const *arguments, const char *const *names,
                             size_t count)
{
    struct mr_json *node = expression(p, "FUNCTION", NULL);
    struct mr_json *children = mr_json_new_array(&p->arena);
    struct mr_json *order = mr_json_new_object(&p->arena);

    if (node == NULL || children == NULL || order == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        struct mr_json *copy = mr_json_copy(&p->arena, arguments[i]);

        if (copy == NULL)
            return NULL;
        if (names != NULL)
            mr_sql__set_alias(p, copy, names[i]);
        mr_json_push(children, copy);
    }
    mr_json_put(&p->arena, node, "function_name", mr_json_new_string(&p->arena, function));
    mr_json_put(&p->arena, node, "schema", mr_json_new_string(&p->arena, ""));
    mr_json_put(&p->arena, node, "children", children);
    mr_json_put(&p->arena, node, "filter", mr_json_new_null(&p->arena));
    mr_json_put(&p->arena, order, "type", mr_json_new_string(&p->arena, "ORDER_MODIFIER"));
    mr_json_put(&p->arena, order, "orders", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "order_bys", order);
    mr_json_put(&p->arena, node, "distinct", mr_json_new_bool(&p->arena, false));
    mr_json_put(&p->arena, node, "is_operator", mr_json_new_bool(&p->arena, false));
    mr_json_put(&p->arena, node, "export_state", mr_json_new_bool(&p->arena, false));
    mr_json_put(&p->arena, node, "catalog", mr_json_new_string(&p->arena, ""));
    return node;
}

struct mr_json *mr_sql__table_ref(struct mr_sql_planner *p, const char *name, const char *alias)
{
    struct mr_json *node = mr_json_new_object(&p->arena);

    if (node == NULL)
        return NULL;
    mr_json_put(&p->arena, node, "type", mr_json_new_string(&p->arena, "BASE_TABLE"));
    mr_json_put(&p->arena, node, "alias",
                mr_json_new_string(&p->arena, alias != NULL ? alias : ""));
    mr_json_put(&p->arena, node, "sample", mr_json_new_null(&p->arena));
    mr_json_put(&p->arena, node, "schema_name", mr_json_new_string(&p->arena, ""));
    mr_json_put(&p->arena, node, "table_name", mr_json_new_string(&p->arena, name));
    mr_json_put(&p->arena, node, "column_name_alias", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "catalog_name", mr_json_new_string(&p->arena, ""));
    mr_json_put(&p->arena, node, "at_clause", mr_json_new_null(&p->arena));
    return node;
}

struct mr_json *mr_sql__select(struct mr_sql_planner *p, struct mr_json *from)
{
    struct mr_json *node = mr_json_new_object(&p->arena);
    struct mr_json *ctes = mr_json_new_object(&p->arena);

    if (node == NULL || ctes == NULL || from == NULL)
        return NULL;
    mr_json_put(&p->arena, ctes, "map", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "type", mr_json_new_string(&p->arena, "SELECT_NODE"));
    mr_json_put(&p->arena, node, "modifiers", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "cte_map", ctes);
    mr_json_put(&p->arena, node, "select_list", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "from_table", from);
    mr_json_put(&p->arena, node, "where_clause", mr_json_new_null(&p->arena));
    mr_json_put(&p->arena, node, "group_expressions", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "group_sets", mr_json_new_array(&p->arena));
    mr_json_put(&p->arena, node, "aggregate_handling",
                mr_json_new_string(&p->arena, "STANDARD_HANDLING"));
    mr_json_put(&p->arena, node, "having", mr_json_new_null(&p->arena));
    mr_json_put(&p->arena, node, "sample", mr_json_new_null(&p->arena));
    mr_json_put(&p->arena, node, "qualify", mr_json_new_null(&p->arena));
    return node;
}

/* ---- Printing ---- */

enum mr_status mr_sql__print(struct mr_sql_planner *p, const struct mr_json *node,
                             const char **ret_sql)
{
    struct mr_buf json = MR_BUF_INIT;
    enum mr_status status;
    char *sql = NULL;

    mr_buf_add_str(&json, "{\"error\":false,\"statements\":[{\"node\":");
    if (node != NULL)
        mr_json_write(&json, node);
    mr_buf_add_str(&json, ",\"named_param_map\":[]}]}");
    if (json.failed || node == NULL)
        status = mr_sql__no_memory(p);
    else
        status = mr_duck_print(p->duck, json.data, &sql, p->err);
    mr_buf_release(&json);
    if (status == MR_OK) {
        MR_ASSERT(sql != NULL);
        *ret_sql = mr_arena_copy(&p->arena, sql, strlen(sql));
        if (*ret_sql == NULL)
            status = mr_sql__no_memory(p);
    }
    mr_text_free(sql);
    return status;
}

enum mr_status mr_sql__expression_text(struct mr_sql_planner *p,
                                       const struct mr_json *expression_node, const char **ret_text)
{
    static const char before[] = "SELECT ";
    static const char behind[] = " FROM t";
    struct mr_json *select = mr_sql__select(p, mr_sql__table_ref(p, "t", NULL));
    struct mr_json *copy = mr_json_copy(&p->arena, expression_node);
    const char *sql;
    size_t size;

    if (select == NULL || copy == NULL)
        return mr_sql__no_memory(p);
    mr_sql__set_alias(p, copy, "");
    mr_json_push(mr_json_get(select, "select_list"), copy);
    MR_TRY(mr_sql__print(p, select, &sql));
    size = strlen(sql);
    MR_ASSERT(size > sizeof(before) + sizeof(behind) - 2);
    *ret_text = mr_arena_copy(&p->arena, sql + sizeof(before) - 1,
                              size - (sizeof(before) + sizeof(behind) - 2));
    return *ret_text != NULL ? MR_OK : mr_sql__no_memory(p);
}

enum mr_status mr_sql__natural_name(struct mr_sql_planner *p, const struct mr_json *expression_node,
                                    const char **ret_name)
{
    struct mr_json *names = mr_json_get(expression_node, "column_names");
    size_t size;

    if (mr_sql__class_is(expression_node, "COLUMN_REF") && names != NULL && names->last != NULL) {
        *ret_name = names->last->text;
        return MR_OK;
    }
    MR_TRY(mr_sql__expression_text(p, expression_node, ret_name));
    MR_ASSERT(*ret_name != NULL);
    size = strlen(*ret_name);
    if (size > MR_NAME_BYTES_MAX)
        *ret_name =
            mr_arena_copy(&p->arena, *ret_name, mr_utf8_valid_prefix(*ret_name, MR_NAME_BYTES_MAX));
    return *ret_name != NULL ? MR_OK : mr_sql__no_memory(p);
}

void mr_sql__add_quoted(struct mr_buf *sql, const char *name)
{
    mr_buf_add_char(sql, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"')
            mr_buf_add_char(sql, '"');
        mr_buf_add_char(sql, *name);
    }
    mr_buf_add_char(sql, '"');
}

void mr_sql__add_type(struct mr_buf *sql, const struct mr_type *type)
{
    size_t size = mr__type_print_sql(type, NULL, 0) + 1;

    if (!mr_buf_reserve(sql, size))
        return;
    mr__type_print_sql(type, sql->data + sql->size, size);
    sql->size += size - 1;
}
