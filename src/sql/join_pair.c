/*
 * One join of two streams: conditions to keys, ranges and filters.
 *
 *     a.k = b.k, IS NOT DISTINCT FROM   keys: columns of one type on both sides, made by a
 *                                       statement when they are more than columns
 *     one side only                     a filter below it; on the side that is kept: a column
 *                                       mr_pass, because rows that fail leave with nulls
 *     one column of each side compared  ranges, decided natively
 *     anything else                     a statement over candidate pairs
 *
 * join_times.c says when rows leave, join_node.c makes the operator.
 *
 * Called by join_tree.c. Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

static bool preserves(const struct mr_sql_pair *pair, unsigned side)
{
    return pair->type == MR_JOIN_FULL || pair->type == (side == 0 ? MR_JOIN_LEFT : MR_JOIN_RIGHT);
}

/* ---- Statements over one side ---- */

static void keep_marks(const struct mr_sql_rel *from, struct mr_sql_rel *to)
{
    to->mark_count = 0;
    for (uint32_t i = 0; i < from->mark_count; i++) {
        const char *name = mr_schema_field(from->schema, from->marks[i].column)->name;
        int32_t column = mr_schema_find(to->schema, name, strlen(name));

        if (column < 0)
            continue;
        to->marks[to->mark_count] = from->marks[i];
        to->marks[to->mark_count++].column = (uint32_t)column;
    }
}

/* SELECT all columns, more FROM the side WHERE condition (NULL: none). */
static enum mr_status side_statement(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                     const char *more, const char *condition)
{
    struct mr_sql_from from = {.count = 1};
    struct mr_sql_rel input = side->rel;
    struct mr_sql_rel output = {0};
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < mr_schema_field_count(input.schema); i++) {
        mr_buf_add_str(&sql, i > 0 ? ", " : "");
        mr_sql__add_quoted(&sql, mr_schema_field(input.schema, i)->name);
    }
    mr_buf_add_str(&sql, more);
    mr_buf_add_str(&sql, " FROM mr_input_0 AS " MR_SQL_JOINED);
    if (condition != NULL) {
        mr_buf_add_str(&sql, " WHERE ");
        mr_buf_add_str(&sql, condition);
    }
    from.leaves[0] = (struct mr_sql_leaf){
        .alias = MR_SQL_JOINED, .input = "mr_input_0", .schema = input.schema, .rel = &input};
    status = sql.failed
                 ? mr_sql__no_memory(joins->p)
                 : mr_sql__add_statement(joins->p, joins->query, &from, sql.data, false, &output);
    mr_buf_release(&sql);
    MR_TRY(status);
    keep_marks(&input, &output);
    side->rel = output;
    return MR_OK;
}

/* Takes the conditions over one side out of the list: their AND as one tree, NULL: none. */
static enum mr_status take_own(struct mr_sql_joins *joins, uint64_t leaves,
                               struct mr_sql_conjuncts *list, struct mr_json **ret_and)
{
    struct mr_arena *arena = &joins->p->arena;
    struct mr_json *children = mr_json_new_array(arena);
    struct mr_json *both = mr_json_new_object(arena);

    *ret_and = NULL;
    if (children == NULL || both == NULL)
        return mr_sql__no_memory(joins->p);
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_sql_conjunct *one = list->items[i];
        struct mr_json *copy;

        if (one->used || one->opaque || one->leaves == 0 || (one->leaves & ~leaves) != 0)
            continue;
        copy = mr_json_copy(arena, one->expr);
        if (copy == NULL)
            return mr_sql__no_memory(joins->p);
        one->used = true;
        mr_sql__count_uses(joins, one->expr, -1);
        mr_json_push(children, copy);
    }
    if (children->count == 0)
        return MR_OK;
    mr_json_put(arena, both, "class", mr_json_new_string(arena, "CONJUNCTION"));
    mr_json_put(arena, both, "type", mr_json_new_string(arena, "CONJUNCTION_AND"));
    mr_json_put(arena, both, "alias", mr_json_new_string(arena, ""));
    mr_json_put(arena, both, "children", children);
    *ret_and = children->count == 1 ? children->first : both;
    return MR_OK;
}

static enum mr_status filter_by(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                struct mr_json *condition)
{
    struct mr_sql_rel input = side->rel;
    struct mr_sql_from from = {.count = 1};
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t count;
    const char *text;
    bool done = false;

    from.leaves[0] = (struct mr_sql_leaf){
        .alias = MR_SQL_JOINED, .input = "mr_input_0", .schema = input.schema, .rel = &input};
    if (mr_sql__native_filter(joins->p, &from, condition, predicates, &count))
        MR_TRY(mr_sql__add_filter(joins->p, joins->query->owner, &input, predicates, count,
                                  &side->rel, &done));
    if (done) {
        keep_marks(&input, &side->rel);
        side->rel.aggregated = input.aggregated;
        return MR_OK;
    }
    MR_TRY(mr_sql__expression_text(joins->p, condition, &text));
    return side_statement(joins, side, "", text);
}

enum mr_status mr_sql__join_filter(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                   struct mr_sql_conjuncts *list)
{
    struct mr_json *condition;

    MR_TRY(take_own(joins, side->leaves, list, &condition));
    return condition != NULL ? filter_by(joins, side, condition) : MR_OK;
}

/* ---- Classes of conditions ---- */

static bool equality_of(const struct mr_sql_joins *joins, const struct mr_json *expr, uint64_t left,
                        uint64_t right, struct mr_sql_pair_key *ret_key)
{
    struct mr_json *one = mr_json_get(expr, "left");
    struct mr_json *two = mr_json_get(expr, "right");
    bool opaque = false;
    uint64_t of_one, of_two;

    if (!mr_sql__type_is(expr, "COMPARE_EQUAL") &&
        !mr_sql__type_is(expr, "COMPARE_NOT_DISTINCT_FROM"))
        return false;
    of_one = mr_sql__leaves_of(joins, one, &opaque);
    of_two = mr_sql__leaves_of(joins, two, &opaque);
    if (opaque || of_one == 0 || of_two == 0)
        return false;
    ret_key->null_equal = mr_sql__type_is(expr, "COMPARE_NOT_DISTINCT_FROM");
    if ((of_one & ~left) == 0 && (of_two & ~right) == 0) {
        ret_key->exprs[0] = one;
        ret_key->exprs[1] = two;
        return true;
    }
    ret_key->exprs[0] = two;
    ret_key->exprs[1] = one;
    return (of_one & ~right) == 0 && (of_two & ~left) == 0;
}

bool mr_sql__join_linked(const struct mr_sql_joins *joins, uint64_t left, uint64_t right,
                         const struct mr_sql_conjuncts *list)
{
    struct mr_sql_pair_key key;

    for (uint32_t i = 0; i < list->count; i++) {
        if (!list->items[i]->used && !list->items[i]->opaque &&
            equality_of(joins, list->items[i]->expr, left, right, &key))
            return true;
    }
    return false;
}

static enum mr_status classify_one(struct mr_sql_pair *pair, struct mr_json *expr)
{
    struct mr_sql_joins *joins = pair->joins;
    struct mr_sql_bound bounds[2];
    struct mr_sql_pair_key key = {.conjunct = expr};
    bool exact = true;
    uint32_t count;

    if (equality_of(joins, expr, pair->sides[0].leaves, pair->sides[1].leaves, &key)) {
        if (pair->key_count == MR_SQL_KEYS_MAX)
            return mr_sql__fail(joins->p, joins->query, expr, "more than %d equalities in one join",
                                MR_SQL_KEYS_MAX);
        pair->keys[pair->key_count++] = key;
        return MR_OK;
    }
    MR_TRY(mr_sql__join_bounds(joins, &pair->sides[0], &pair->sides[1], expr, bounds, &count));
    for (uint32_t i = 0; i < count && pair->bound_count < MR_SQL_RANGES_MAX; i++) {
        exact = exact && bounds[i].exact;
        pair->bounds[pair->bound_count++] = bounds[i];
    }
    if (count == 0 || !exact || pair->bound_count == MR_SQL_RANGES_MAX)
        pair->rest[pair->rest_count++] = expr;
    return MR_OK;
}

static enum mr_status classify(struct mr_sql_pair *pair, struct mr_sql_conjuncts *list)
{
    struct mr_sql_joins *joins = pair->joins;
    uint64_t both = pair->sides[0].leaves | pair->sides[1].leaves;

    for (unsigned side = 0; side < 2; side++) {
        if (!preserves(pair, side))
            MR_TRY(mr_sql__join_filter(joins, &pair->sides[side], list));
        else
            MR_TRY(take_own(joins, pair->sides[side].leaves, list, &pair->pass[side]));
    }
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_sql_conjunct *one = list->items[i];

        if (one->used || one->opaque || (one->leaves & ~both) != 0 ||
            (one->leaves == 0 && pair->type == MR_JOIN_INNER))
            continue;
        one->used = true;
        mr_sql__count_uses(joins, one->expr, -1);
        MR_TRY(classify_one(pair, one->expr));
    }
    if (pair->key_count > 0)
        return MR_OK;
    return mr_sql__fail(joins->p, joins->query, pair->place,
                        "a join of two streams needs an equality between them, such as a.key "
                        "= b.key: without one every row would be compared with every other");
}

/* ---- Keys ---- */

/* Column of a side that an expression is; -1: it is more. */
static int32_t plain_column(const struct mr_sql_pair *pair, unsigned side,
                            const struct mr_json *expr)
{
    uint32_t leaf, column;
    size_t rest;
    const char *name;

    if (!mr_sql__joined_column(pair->joins, expr, &leaf, &column, &rest) || rest > 0)
        return -1;
    name = pair->joins->leaves[leaf].names[column];
    return mr_schema_find(pair->sides[side].rel.schema, name, strlen(name));
}

/* The type of an expression over a side. In arena. */
static enum mr_status type_of(struct mr_sql_pair *pair, unsigned side, const struct mr_json *expr,
                              struct mr_buf *ret_type)
{
    const struct mr_schema *schema = pair->sides[side].rel.schema;
    struct mr_duck_input input = {"mr_input_0", schema};
    int32_t column = plain_column(pair, side, expr);
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_duck_stmt *stmt = NULL;
    const char *text;
    enum mr_status status;

    mr_buf_clear(ret_type);
    if (column >= 0) {
        mr_sql__add_type(ret_type, &mr_schema_field(schema, (uint32_t)column)->type);
        return ret_type->failed ? mr_sql__no_memory(pair->p) : MR_OK;
    }
    MR_TRY(mr_sql__expression_text(pair->p, expr, &text));
    mr_buf_printf(&sql, "SELECT (%s) AS k FROM mr_input_0 AS " MR_SQL_JOINED, text);
    status = sql.failed ? mr_sql__no_memory(pair->p)
                        : mr_duck_prepare(pair->p->duck, sql.data, &input, 1, &stmt, pair->p->err);
    if (status == MR_OK)
        mr_sql__add_type(ret_type, &mr_schema_field(mr_duck_stmt_schema(stmt), 0)->type);
    else if (!sql.failed)
        mr_sql__place_printed(pair->p, pair->joins->query, sql.data);
    mr_duck_stmt_free(stmt);
    mr_buf_release(&sql);
    return status == MR_OK && ret_type->failed ? mr_sql__no_memory(pair->p) : status;
}

static bool is_text(const struct mr_buf *type)
{
    return strcmp(type->data, "VARCHAR") == 0;
}

/* The one type both sides of an equality are compared as. */
static enum mr_status common_type(struct mr_sql_pair *pair, const struct mr_sql_pair_key *key,
                                  const struct mr_buf types[2], struct mr_buf *ret_type)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_duck_stmt *stmt = NULL;
    enum mr_status status = MR_OK;

    mr_buf_clear(ret_type);
    if (is_text(&types[0]) != is_text(&types[1]))
        return mr_sql__fail(pair->p, pair->joins->query, key->conjunct,
                            "a key of the join is %s on the left and %s on the right; cast "
                            "one of them",
                            types[0].data, types[1].data);
    mr_buf_printf(&sql,
                  "SELECT CASE WHEN true THEN CAST(NULL AS %s) ELSE CAST(NULL AS %s) END AS k",
                  types[0].data, types[1].data);
    if (sql.failed || mr_duck_prepare(pair->p->duck, sql.data, NULL, 0, &stmt, NULL) != MR_OK)
        status = mr_sql__fail(pair->p, pair->joins->query, key->conjunct,
                              "a key of the join is %s on the left and %s on the right, "
                              "which cannot be compared; cast one of them",
                              types[0].data, types[1].data);
    else
        mr_sql__add_type(ret_type, &mr_schema_field(mr_duck_stmt_schema(stmt), 0)->type);
    mr_duck_stmt_free(stmt);
    mr_buf_release(&sql);
    return status;
}

/* mr_key_0, mr_pass ...: unique, as the names of leaves are not of this form. In arena. */
static const char *made_name(struct mr_sql_pair *pair, const char *what, uint32_t number)
{
    struct mr_buf text = MR_BUF_INIT;
    const char *name;

    mr_buf_printf(&text, "mr_%s_%u", what, number);
    name = text.failed ? NULL : mr_arena_copy(&pair->p->arena, text.data, text.size);
    mr_buf_release(&text);
    return name;
}

static enum mr_status add_made(struct mr_sql_pair *pair, const struct mr_json *expr,
                               const char *type, const char *name, struct mr_buf *more)
{
    const char *text;

    if (name == NULL)
        return mr_sql__no_memory(pair->p);
    MR_TRY(mr_sql__expression_text(pair->p, expr, &text));
    mr_buf_printf(more, ", CAST((%s) AS %s) AS ", text, type);
    mr_sql__add_quoted(more, name);
    return MR_OK;
}

static enum mr_status make_key(struct mr_sql_pair *pair, uint32_t index, struct mr_buf more[2],
                               struct mr_buf types[3])
{
    struct mr_sql_pair_key *key = &pair->keys[index];
    const struct mr_schema *schemas[2] = {pair->sides[0].rel.schema, pair->sides[1].rel.schema};

    for (unsigned side = 0; side < 2; side++)
        MR_TRY(type_of(pair, side, key->exprs[side], &types[side]));
    if (strcmp(types[0].data, types[1].data) != 0) {
        MR_TRY(common_type(pair, key, types, &types[2]));
    } else {
        mr_buf_clear(&types[2]);
        mr_buf_add_str(&types[2], types[0].data);
    }
    if (types[2].failed)
        return mr_sql__no_memory(pair->p);
    for (unsigned side = 0; side < 2; side++) {
        int32_t column = plain_column(pair, side, key->exprs[side]);

        if (column >= 0 && strcmp(types[side].data, types[2].data) == 0) {
            key->names[side] = mr_schema_field(schemas[side], (uint32_t)column)->name;
            continue;
        }
        key->names[side] = made_name(pair, "key", index);
        MR_TRY(add_made(pair, key->exprs[side], types[2].data, key->names[side], &more[side]));
    }
    return MR_OK;
}

static enum mr_status make_columns(struct mr_sql_pair *pair)
{
    struct mr_buf more[2] = {MR_BUF_INIT, MR_BUF_INIT};
    struct mr_buf types[3] = {MR_BUF_INIT, MR_BUF_INIT, MR_BUF_INIT};
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < pair->key_count && status == MR_OK; i++)
        status = make_key(pair, i, more, types);
    for (unsigned side = 0; side < 2 && status == MR_OK; side++) {
        if (pair->pass[side] != NULL) {
            pair->pass_names[side] = made_name(pair, "pass", 0);
            status =
                add_made(pair, pair->pass[side], "BOOLEAN", pair->pass_names[side], &more[side]);
        }
        if (status == MR_OK && more[side].failed)
            status = mr_sql__no_memory(pair->p);
        if (status == MR_OK && more[side].size > 0)
            status = side_statement(pair->joins, &pair->sides[side], more[side].data, NULL);
    }
    for (unsigned i = 0; i < 3; i++)
        mr_buf_release(&types[i]);
    for (unsigned side = 0; side < 2; side++)
        mr_buf_release(&more[side]);
    return status;
}

enum mr_status mr_sql__join_pair(struct mr_sql_joins *joins, const struct mr_json *place,
                                 enum mr_join_type type, const struct mr_sql_side *left,
                                 const struct mr_sql_side *right, struct mr_sql_conjuncts *list,
                                 struct mr_sql_side *ret_side)
{
    struct mr_sql_pair *pair = mr_arena_alloc(&joins->p->arena, sizeof(*pair));
    bool by_key;

    if (pair == NULL)
        return mr_sql__no_memory(joins->p);
    memset(pair, 0, sizeof(*pair));
    pair->joins = joins;
    pair->p = joins->p;
    pair->place = place;
    pair->type = type;
    pair->sides[0] = *left;
    pair->sides[1] = *right;
    MR_TRY(classify(pair, list));
    MR_TRY(make_columns(pair));
    by_key = mr_sql__pair_key_case(pair);
    if (!by_key)
        mr_sql__pair_value_case(pair);
    MR_TRY(mr_sql__pair_rules(pair, by_key));
    pair->state_name = mr_sql__node_name(joins->p, joins->query->owner, "join");
    if (pair->state_name == NULL)
        return mr_sql__no_memory(joins->p);
    for (unsigned side = 0; side < 2; side++) {
        mr_sql__pair_time(pair, side);
        MR_TRY(mr_sql__pair_late(pair, side));
        MR_TRY(mr_sql__pair_narrow(pair, side));
    }
    return mr_sql__pair_node(pair, by_key, ret_side);
}
