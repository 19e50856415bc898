/*
 * Set operations over streams.
 *
 *     a UNION ALL b    both sides, cast to one schema, into one node
 *     a UNION b        the same, then GROUP BY all columns: an aggregation without functions
 *     a EXCEPT s       rows of each batch that the static query s has not, then GROUP BY all
 *     ORDER BY, LIMIT  over both sides at once when they come whole (complete mode)
 *
 * EXCEPT goes batch by batch because (a1 + a2) minus s is (a1 minus s) + (a2 minus s). The others
 * would have to take rows back, or count the rows of the static side anew with every batch, and are
 * refused.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

/* ---- UNION ---- */

/* The schema DuckDB gives the union of two: the wider type of each column, names of the first. */
static enum mr_status union_schema(struct mr_sql_planner *p, struct mr_sql_query *query,
                                   const struct mr_sql_rel *left, const struct mr_sql_rel *right,
                                   struct mr_schema **ret_schema)
{
    struct mr_duck_input inputs[2] = {{"mr_input_0", left->schema}, {"mr_input_1", right->schema}};
    struct mr_duck_stmt *stmt;

    if (mr_schema_field_count(left->schema) != mr_schema_field_count(right->schema))
        return mr_sql__fail(
            p, query, NULL, "the sides of UNION have %u and %u columns; they must have as many",
            mr_schema_field_count(left->schema), mr_schema_field_count(right->schema));
    if (mr_duck_prepare(p->duck, "SELECT * FROM mr_input_0 UNION ALL SELECT * FROM mr_input_1",
                        inputs, 2, &stmt, p->err) != MR_OK)
        return mr_error_place(p->err, p->script->text, query->at, MR_SQL_ERROR);
    *ret_schema = mr_schema_ref(mr_duck_stmt_schema(stmt));
    mr_duck_stmt_free(stmt);
    return MR_OK;
}

/* In complete mode the result of a batch replaces the one before, which only an aggregation brings
 * whole. */
static enum mr_status check_whole(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                  const struct mr_json *node, const struct mr_sql_rel *left,
                                  const struct mr_sql_rel *right)
{
    const struct mr_json *all = mr_json_get(node, "setop_all");

    if (p->mode != MR_MODE_COMPLETE || left->aggregated == right->aggregated || all == NULL ||
        !all->boolean)
        return MR_OK;
    return mr_sql__of_mode(
        p, mr_sql__fail(p, query, mr_json_get(node, left->aggregated ? "right" : "left"),
                        "with output_mode = 'complete' both sides of UNION ALL must be "
                        "aggregations: the earlier rows of this side would be gone from the "
                        "result; aggregate it, or write it to another table with 'append'"));
}

static enum mr_status join_rels(struct mr_sql_planner *p, struct mr_sql_query *query,
                                const struct mr_sql_rel *left, const struct mr_sql_rel *right,
                                struct mr_sql_rel *rel)
{
    struct mr_node *nodes[2] = {left->node, right->node};
    uint32_t count = mr_schema_field_count(left->schema);
    uint32_t *columns = mr_arena_alloc(&p->arena, count * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, count * sizeof(*names));
    struct mr_map_op op;

    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        columns[i] = i;
        names[i] = mr_schema_field(left->schema, i)->name;
    }
    MR_TRY(mr_op_project(left->schema, columns, names, count, &op, p->err));
    MR_TRY(mr_sql__add_map(p, query->owner, "union", &op, nodes, 2, rel));
    rel->aggregated = left->aggregated || right->aggregated;
    for (uint32_t i = 0; i < left->mark_count; i++) {
        const struct mr_sql_mark *other = mr_sql__mark_of(right, left->marks[i].column);

        if (other != NULL && other->kind == left->marks[i].kind &&
            other->size_us == left->marks[i].size_us &&
            other->watermarked == left->marks[i].watermarked)
            rel->marks[rel->mark_count++] = left->marks[i];
    }
    return MR_OK;
}

static enum mr_status plan_union(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 struct mr_json *node, const struct mr_sql_scope *scope,
                                 struct mr_sql_rel *rel)
{
    struct mr_json *left_node = mr_json_get(node, "left");
    struct mr_json *right_node = mr_json_get(node, "right");
    struct mr_schema *schema = NULL;
    struct mr_sql_rel *left = NULL;
    struct mr_sql_rel *right = NULL;
    struct mr_sql_rel sides[2];
    enum mr_status status;

    if (mr_sql__is_static(p, left_node, scope) || mr_sql__is_static(p, right_node, scope))
        return mr_sql__fail(
            p, query, right_node,
            "UNION with a side that reads no stream is not supported: the static rows "
            "would come once or with every batch; read them as a stream, too");
    MR_TRY(mr_sql__plan_query(p, query, left_node, scope, &left));
    MR_TRY(mr_sql__plan_query(p, query, right_node, scope, &right));
    MR_ASSERT(left != NULL && right != NULL);
    MR_TRY(check_whole(p, query, node, left, right));
    MR_TRY(union_schema(p, query, left, right, &schema));
    status = mr_sql__cast(p, query, left, schema, &sides[0]);
    if (status == MR_OK)
        status = mr_sql__cast(p, query, right, schema, &sides[1]);
    mr_schema_unref(schema);
    MR_TRY(status);
    return join_rels(p, query, &sides[0], &sides[1], rel);
}

/* ---- EXCEPT ---- */

static enum mr_status plan_except(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  struct mr_sql_rel *rel)
{
    struct mr_json *right = mr_json_get(node, "right");
    struct mr_json *copy = mr_json_copy(&p->arena, node);
    struct mr_json *select = mr_sql__select(p, mr_sql__table_ref(p, "mr_input_0", NULL));
    struct mr_json *list = mr_json_new_array(&p->arena);
    struct mr_sql_from *from = mr_arena_alloc(&p->arena, sizeof(*from));
    struct mr_sql_rel *left = NULL;
    const char *sql;

    if (!mr_sql__is_static(p, right, scope))
        return mr_sql__fail(p, query, right,
                            "EXCEPT with a stream on the right is not supported: its rows would "
                            "take back what was written; use a static table (static = 'true')");
    if (copy == NULL || select == NULL || list == NULL || from == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_sql__plan_query(p, query, mr_json_get(node, "left"), scope, &left));
    MR_ASSERT(left != NULL);
    memset(from, 0, sizeof(*from));
    from->count = 1;
    from->leaves[0] = (struct mr_sql_leaf){
        .alias = "mr_input_0", .input = "mr_input_0", .schema = left->schema, .rel = left};
    for (uint32_t i = 0; i < mr_schema_field_count(left->schema); i++) {
        struct mr_json *column = mr_sql__column(p, mr_schema_field(left->schema, i)->name, "");

        if (column == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(list, column);
    }
    mr_json_put(&p->arena, select, "select_list", list);
    mr_json_put(&p->arena, copy, "left", select);
    mr_json_put(&p->arena, copy, "modifiers", mr_json_new_array(&p->arena)); /* behind the groups */
    MR_TRY(mr_sql__adopt_static(p, query, mr_json_get(copy, "right"), scope, from));
    MR_TRY(mr_sql__print(p, copy, &sql));
    MR_TRY(mr_sql__add_statement(p, query, from, sql, false, rel));
    mr_sql__inherit_marks(from, list, rel);
    return MR_OK;
}

/* ---- Behind the set operation ---- */

/* SELECT all columns FROM rel. */
static enum mr_status select_all(struct mr_sql_planner *p, struct mr_sql_rel *rel,
                                 struct mr_sql_from **ret_from, struct mr_json **ret_select)
{
    struct mr_json *select = mr_sql__select(p, mr_sql__table_ref(p, "mr_input_0", NULL));
    struct mr_json *list = mr_json_new_array(&p->arena);
    struct mr_sql_from *from = mr_arena_alloc(&p->arena, sizeof(*from));

    if (select == NULL || list == NULL || from == NULL)
        return mr_sql__no_memory(p);
    memset(from, 0, sizeof(*from));
    from->count = 1;
    from->leaves[0] = (struct mr_sql_leaf){
        .alias = "mr_input_0", .input = "mr_input_0", .schema = rel->schema, .rel = rel};
    from->tree = mr_json_get(select, "from_table");
    for (uint32_t i = 0; i < mr_schema_field_count(rel->schema); i++) {
        struct mr_json *column = mr_sql__column(p, mr_schema_field(rel->schema, i)->name, "");

        if (column == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(list, column);
    }
    mr_json_put(&p->arena, select, "select_list", list);
    *ret_from = from;
    *ret_select = select;
    return MR_OK;
}

/* SELECT all columns FROM rel GROUP BY ALL. */
static enum mr_status plan_distinct(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_sql_rel *rel, struct mr_sql_rel **ret_rel)
{
    struct mr_sql_from *from = NULL;
    struct mr_json *select = NULL;

    MR_TRY(select_all(p, rel, &from, &select));
    mr_json_put(&p->arena, select, "aggregate_handling",
                mr_json_new_string(&p->arena, "FORCE_AGGREGATES"));
    return mr_sql__plan_aggregate(p, query, select, from, ret_rel);
}

/* SELECT all columns FROM rel ORDER BY ... LIMIT ...: rel comes whole with every batch. */
static enum mr_status plan_order(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 struct mr_json *modifiers, struct mr_sql_rel *rel,
                                 struct mr_sql_rel **ret_rel)
{
    struct mr_sql_rel *ordered = mr_arena_alloc(&p->arena, sizeof(*ordered));
    struct mr_sql_from *from = NULL;
    struct mr_json *select = NULL;
    const char *sql;

    *ret_rel = rel;
    if (modifiers == NULL || modifiers->count == 0)
        return MR_OK;
    if (ordered == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(select_all(p, rel, &from, &select));
    mr_json_put(&p->arena, select, "modifiers", modifiers);
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, query, from, sql, true, ordered));
    mr_sql__inherit_marks(from, mr_json_get(select, "select_list"), ordered);
    *ret_rel = ordered;
    return MR_OK;
}

enum mr_status mr_sql__plan_setop(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  struct mr_sql_rel **ret_rel)
{
    const struct mr_json *type = mr_json_get(node, "setop_type");
    const struct mr_json *all = mr_json_get(node, "setop_all");
    bool keeps_all = all != NULL && all->boolean;
    struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));
    struct mr_sql_modifiers modifiers;
    bool whole;

    if (rel == NULL)
        return mr_sql__no_memory(p);
    memset(rel, 0, sizeof(*rel));
    if (mr_json_is(type, "UNION"))
        MR_TRY(plan_union(p, query, node, scope, rel));
    else if (mr_json_is(type, "EXCEPT") && !keeps_all)
        MR_TRY(plan_except(p, query, node, scope, rel));
    else
        return mr_sql__fail(p, query, mr_json_get(node, "right"),
                            "this set operation is not supported over streams, as rows would have "
                            "to be taken back (supported: UNION ALL, UNION, EXCEPT of a static "
                            "table); write an ANTI or SEMI JOIN with a static table, or DISTINCT "
                            "ON over a join");
    if (!keeps_all)
        MR_TRY(plan_distinct(p, query, rel, &rel));
    whole = p->mode == MR_MODE_COMPLETE && rel->aggregated;
    MR_TRY(mr_sql__take_modifiers(p, query, node, whole, &modifiers));
    if (whole)
        MR_TRY(plan_order(p, query, mr_json_get(node, "modifiers"), rel, &rel));
    if (modifiers.limits)
        MR_TRY(mr_sql__add_limit(p, query, modifiers.rows_max, rel));
    *ret_rel = rel;
    return MR_OK;
}
