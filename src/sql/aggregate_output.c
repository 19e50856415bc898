/*
 * Behind an aggregation: the SELECT list, HAVING, ORDER BY and LIMIT over the groups, native when
 * they only name columns and compare them with literals, else one statement.
 *
 * Called by aggregate.c. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include <string.h>

/* Only columns in the list and simple comparisons in HAVING. */
static enum mr_status post_native(struct mr_sql_block *block, const struct mr_sql_from *from,
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

/* Mark of the groups' column that a reference without a qualifier means, or NULL. */
static const struct mr_sql_mark *mark_of_name(const struct mr_sql_rel *groups,
                                              const struct mr_json *reference)
{
    const char *name = mr_sql__single_name(reference);
    int32_t column = name != NULL ? mr_schema_find(groups->schema, name, strlen(name)) : -1;

    return column >= 0 ? mr_sql__mark_of(groups, (uint32_t)column) : NULL;
}

/* w AS {start, end}: the struct keeps what the watermark knows; of a session only the end. */
static void mark_structs(const struct mr_sql_block *block, const struct mr_sql_rel *groups,
                         struct mr_sql_rel *rel)
{
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
        const char *function = mr_sql__function(item);
        const struct mr_sql_mark *start;
        const struct mr_sql_mark *end;
        int32_t column;

        if (function == NULL || !mr_sql__same_name(function, "struct_pack") ||
            rel->mark_count == MR_SQL_MARKS_MAX)
            continue;
        start = mark_of_name(groups, mr_json_get(item, "children")->first);
        end = mark_of_name(groups, mr_json_get(item, "children")->last);
        column = mr_schema_find(rel->schema, mr_sql__alias(item), strlen(mr_sql__alias(item)));
        if (end == NULL || column < 0 || end->kind != MR_SQL_MARK_END)
            continue;
        rel->marks[rel->mark_count] = *end;
        rel->marks[rel->mark_count].size_us = start != NULL ? start->size_us : 0;
        rel->marks[rel->mark_count].kind = MR_SQL_MARK_WINDOW;
        rel->marks[rel->mark_count++].column = (uint32_t)column;
    }
}

static enum mr_status post_statement(struct mr_sql_block *block, const struct mr_sql_from *from,
                                     struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *select = mr_sql__select(p, mr_sql__table_ref(p, from->leaves[0].input, NULL));
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

/* Does a subquery below read that input? */
static bool reads(const struct mr_json *node, const char *input)
{
    const char *name;

    if (node == NULL || node->kind < MR_JSON_ARRAY)
        return false;
    name = node->kind == MR_JSON_OBJECT ? mr_json_text(node, "table_name") : NULL;
    if (name != NULL && strcmp(name, input) == 0)
        return true;
    for (const struct mr_json *child = node->first; child != NULL; child = child->next) {
        if (reads(child, input))
            return true;
    }
    return false;
}

enum mr_status mr_sql__plan_agg_output(struct mr_sql_block *block, struct mr_sql_rel *groups,
                                       struct mr_sql_rel *rel)
{
    /* The stream is now the result of the aggregation; static tables of subqueries stay inputs. */
    const char *input = block->from->leaves[block->from->stream].input;
    struct mr_sql_from from = {.count = 1};
    bool done = false;

    from.leaves[0] = (struct mr_sql_leaf){
        .alias = input, .input = input, .schema = groups->schema, .rel = groups};
    for (uint32_t i = 0; i < block->from->count; i++) {
        const struct mr_sql_leaf *leaf = &block->from->leaves[i];

        if ((int32_t)i != block->from->stream &&
            (reads(block->list, leaf->input) ||
             reads(mr_json_get(block->node, "having"), leaf->input) ||
             reads(mr_json_get(block->node, "modifiers"), leaf->input)))
            from.leaves[from.count++] = *leaf;
    }
    from.joined = from.count > 1;
    MR_TRY(post_native(block, &from, rel, &done));
    return done ? MR_OK : post_statement(block, &from, rel);
}
