/*
 * Joins of streams: expressions over the joined rows, after names were rewritten (join.c): which
 * tables they need, how often a column is still used, the operands of an AND.
 *
 * Thread: the planner's.
 */
#include "sql/joins.h"

#include <string.h>

bool mr_sql__joined_column(const struct mr_sql_joins *joins, const struct mr_json *reference,
                           uint32_t *ret_leaf, uint32_t *ret_column, size_t *ret_rest)
{
    const struct mr_json *names = mr_json_get(reference, "column_names");

    if (!mr_sql__class_is(reference, "COLUMN_REF") || names == NULL || names->count < 2 ||
        strcmp(names->first->text, MR_SQL_JOINED) != 0)
        return false;
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if (leaf->schema == NULL || (leaf->is_static && !leaf->in_unit))
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            if (strcmp(leaf->names[c], names->first->next->text) != 0)
                continue;
            *ret_leaf = i;
            *ret_column = c;
            *ret_rest = names->count - 2;
            return true;
        }
    }
    return false;
}

uint64_t mr_sql__leaves_of(const struct mr_sql_joins *joins, const struct mr_json *expr,
                           bool *ret_opaque)
{
    uint64_t leaves = 0;
    uint32_t leaf, column;
    size_t rest;

    if (expr == NULL)
        return 0;
    if (mr_sql__class_is(expr, "SUBQUERY"))
        *ret_opaque = true;
    if (mr_sql__class_is(expr, "COLUMN_REF")) {
        if (mr_sql__joined_column(joins, expr, &leaf, &column, &rest))
            return UINT64_C(1) << leaf;
        *ret_opaque = true;
        return 0;
    }
    for (const struct mr_json *child = expr->first; child != NULL; child = child->next)
        leaves |= mr_sql__leaves_of(joins, child, ret_opaque);
    return leaves;
}

void mr_sql__count_uses(struct mr_sql_joins *joins, const struct mr_json *expr, int n)
{
    uint32_t leaf, column;
    size_t rest;

    if (expr == NULL)
        return;
    if (mr_sql__joined_column(joins, expr, &leaf, &column, &rest)) {
        if (n > 0)
            joins->leaves[leaf].uses[column]++;
        else
            joins->leaves[leaf].uses[column]--;
        return;
    }
    for (const struct mr_json *child = expr->first; child != NULL; child = child->next)
        mr_sql__count_uses(joins, child, n);
}

enum mr_status mr_sql__conjuncts(struct mr_sql_joins *joins, struct mr_json *condition,
                                 bool in_where, struct mr_sql_conjuncts *list)
{
    struct mr_sql_conjunct *conjunct;

    if (condition == NULL || condition->kind == MR_JSON_NULL)
        return MR_OK;
    if (mr_sql__type_is(condition, "CONJUNCTION_AND")) {
        struct mr_json *children = mr_json_get(condition, "children");

        for (struct mr_json *child = children != NULL ? children->first : NULL; child != NULL;
             child = child->next)
            MR_TRY(mr_sql__conjuncts(joins, child, in_where, list));
        return MR_OK;
    }
    if (list->count == MR_SQL_CONJUNCTS_MAX)
        return mr_sql__fail(joins->p, joins->query, condition,
                            "more than %d conditions in one join", MR_SQL_CONJUNCTS_MAX);
    conjunct = mr_arena_alloc(&joins->p->arena, sizeof(*conjunct));
    if (conjunct == NULL)
        return mr_sql__no_memory(joins->p);
    memset(conjunct, 0, sizeof(*conjunct));
    conjunct->expr = condition;
    conjunct->in_where = in_where;
    conjunct->leaves = mr_sql__leaves_of(joins, condition, &conjunct->opaque);
    list->items[list->count++] = conjunct;
    return MR_OK;
}
