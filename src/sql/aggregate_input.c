/*
 * In front of an aggregation: its keys, arguments and event time as columns, made by native
 * operators or by one statement, then the window operator.
 *
 * Called by aggregate.c. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include <string.h>

static bool plain(const struct mr_sql_block *block, const struct mr_json *expr,
                  uint32_t *ret_column)
{
    uint32_t leaf;
    size_t rest;

    return mr_sql__class_is(expr, "COLUMN_REF") &&
           mr_sql__resolve(block->from, expr, &leaf, ret_column, &rest) &&
           (int32_t)leaf == block->from->stream && rest == 0;
}

/* Keys and arguments are columns of the stream and WHERE is simple: no statement is needed. */
static enum mr_status pre_native(struct mr_sql_block *block, uint32_t *ret_time, bool *ret_done)
{
    struct mr_sql_from *from = block->from;
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t count;

    *ret_done = false;
    if (from->joined || block->set_count > 0 ||
        !mr_sql__native_filter(block->p, from, mr_json_get(block->node, "where_clause"), predicates,
                               &count))
        return MR_OK;
    if (block->has_window &&
        (block->window.gap != NULL || !plain(block, block->window.time, ret_time)))
        return MR_OK;
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr != NULL &&
            !plain(block, block->keys[i].expr, &block->keys[i].column))
            return MR_OK;
    }
    for (uint32_t i = 0; i < block->argument_count; i++) {
        if (!plain(block, block->arguments[i].expr, &block->arguments[i].column))
            return MR_OK;
    }
    return mr_sql__add_filter(block->p, block->query->owner, from->leaves[from->stream].rel,
                              predicates, count, &block->input, ret_done);
}

static enum mr_status push_item(struct mr_sql_block *block, struct mr_json *list,
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

/* ON LATE INTO: the stream's own columns, too, for the table of late rows. */
static enum mr_status push_late(struct mr_sql_block *block, struct mr_json *list)
{
    struct mr_sql_planner *p = block->p;
    const struct mr_sql_leaf *stream = &block->from->leaves[block->from->stream];
    uint32_t unused;

    if (mr_sql__late_table(p, block->query, block->node) == NULL)
        return MR_OK;
    for (uint32_t i = 0; i < mr_schema_field_count(stream->schema); i++) {
        const char *name = mr_schema_field(stream->schema, i)->name;
        struct mr_json *column = mr_sql__column(p, stream->alias, "");
        struct mr_json *part = mr_json_new_string(&p->arena, name);

        if (column == NULL || part == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(mr_json_get(column, "column_names"), part);
        MR_TRY(push_item(block, list, column, name, &unused));
    }
    return MR_OK;
}

/* GROUPING SETS: each row once for every set, with the number of the set. */
static enum mr_status expand_sets(struct mr_sql_block *block, struct mr_json *select)
{
    struct mr_sql_planner *p = block->p;
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_json *join = NULL;
    enum mr_status status;

    if (block->set_count == 0)
        return MR_OK;
    mr_buf_printf(&sql,
                  "(SELECT 1 FROM mr_rows CROSS JOIN (SELECT unnest(range(%u))::INTEGER AS mr_set) "
                  "AS mr_sets)",
                  block->set_count);
    status = sql.failed ? mr_sql__no_memory(p) : mr_sql__parse_expression(p, sql.data, &join);
    mr_buf_release(&sql);
    MR_TRY(status);
    join = mr_json_get(mr_json_get(mr_json_get(join, "subquery"), "node"), "from_table");
    mr_sql__replace(mr_json_get(join, "left"), mr_json_get(select, "from_table"));
    mr_json_put(&p->arena, select, "from_table", join);
    return MR_OK;
}

/* A key that is not in all sets is null in the others. */
static enum mr_status key_of_sets(struct mr_sql_block *block, uint32_t key,
                                  struct mr_json **ret_expr)
{
    struct mr_buf sql = MR_BUF_INIT;
    bool everywhere = true;
    const char *text;
    const char *before = "";
    enum mr_status status;

    *ret_expr = block->keys[key].expr;
    for (uint32_t i = 0; i < block->set_count; i++)
        everywhere = everywhere && (block->sets[i] >> key & 1) != 0;
    if (everywhere || key == block->set_key)
        return MR_OK;
    MR_TRY(mr_sql__expression_text(block->p, *ret_expr, &text));
    mr_buf_add_str(&sql, "CASE WHEN mr_set IN (");
    for (uint32_t i = 0; i < block->set_count; i++) {
        if ((block->sets[i] >> key & 1) == 0)
            continue;
        mr_buf_printf(&sql, "%s%u", before, i);
        before = ", ";
    }
    mr_buf_printf(&sql, ") THEN (%s) END", text);
    status = sql.failed ? mr_sql__no_memory(block->p)
                        : mr_sql__parse_expression(block->p, sql.data, ret_expr);
    mr_buf_release(&sql);
    return status;
}

/* SELECT keys, arguments, time FROM ... WHERE ... */
static enum mr_status pre_statement(struct mr_sql_block *block, uint32_t *ret_time)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *select = mr_sql__select(p, mr_json_copy(&p->arena, block->from->tree));
    struct mr_json *list = mr_json_new_array(&p->arena);
    struct mr_json *expr;
    const char *sql;
    uint32_t unused;

    if (select == NULL || list == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(expand_sets(block, select));
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr == NULL)
            continue;
        MR_TRY(key_of_sets(block, i, &expr));
        MR_TRY(push_item(block, list, expr, block->keys[i].name, &block->keys[i].column));
    }
    for (uint32_t i = 0; i < block->argument_count; i++)
        MR_TRY(push_item(block, list, block->arguments[i].expr, block->arguments[i].name,
                         &block->arguments[i].column));
    if (block->has_window)
        MR_TRY(push_item(block, list, block->window.time, "mr_time", ret_time));
    MR_TRY(push_late(block, list));
    if (block->has_window && block->window.gap != NULL) {
        struct mr_json *gap;

        MR_TRY(mr_sql__session_gap(block, &gap));
        MR_TRY(push_item(block, list, gap, "mr_gap", &block->gap_column));
    }
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

/* For the comparison with a checkpoint: the WHERE and what is joined, however the step is made; the
 * keys and arguments are in the identities of the state. */
static enum mr_status tell_input(struct mr_sql_block *block)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *where = mr_json_get(block->node, "where_clause");
    struct mr_node *stream = block->from->leaves[block->from->stream].rel->node;
    struct mr_json *select;
    struct mr_json *list = mr_json_new_array(&p->arena);
    const char *sql;
    uint32_t unused;

    if (block->input.node == stream)
        return MR_OK;
    if (!block->from->joined && (where == NULL || where->kind != MR_JSON_OBJECT)) {
        mr_node_set_meaning(block->input.node, NULL);
        return MR_OK;
    }
    select = mr_sql__select(p, mr_json_copy(&p->arena, block->from->tree));
    if (select == NULL || list == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(push_item(
        block, list,
        mr_sql__column(p, mr_schema_field(block->from->leaves[block->from->stream].schema, 0)->name,
                       ""),
        "mr_row", &unused));
    mr_json_put(&p->arena, select, "select_list", list);
    mr_json_put(&p->arena, select, "where_clause", mr_json_copy(&p->arena, where));
    MR_TRY(mr_sql__print(p, select, &sql));
    sql = strstr(sql, " FROM ") != NULL ? strstr(sql, " FROM ") + 1 : sql;
    mr_node_set_meaning(block->input.node, sql);
    return MR_OK;
}

enum mr_status mr_sql__plan_agg_input(struct mr_sql_block *block)
{
    struct mr_sql_planner *p = block->p;
    struct mr_sql_rel windowed;
    uint32_t time = 0;
    enum mr_type_id type;
    bool done;

    if (block->has_window)
        MR_TRY(mr_sql__window_of_window(p, block->from, &block->window));
    MR_TRY(pre_native(block, &time, &done));
    if (!done)
        MR_TRY(pre_statement(block, &time));
    MR_TRY(tell_input(block));
    if (!block->has_window)
        return MR_OK;
    type = mr_schema_field(block->input.schema, time)->type.id;
    if (type != MR_TYPE_TIMESTAMP && type != MR_TYPE_TIMESTAMP_NS)
        return mr_sql__fail(p, block->query, block->window.time,
                            "a window needs a TIMESTAMP; cast this or declare the column so");
    if (block->window.session)
        MR_TRY(mr_sql__add_session_window(block, time, &windowed));
    else
        MR_TRY(mr_sql__add_window(p, block->query->owner, &block->input, time, &block->window,
                                  "mr_start", "mr_end", &windowed));
    for (uint32_t i = 0; i < block->key_count; i++)
        block->keys[i].column = block->keys[i].expr == NULL ? 0 : block->keys[i].column + 2;
    for (uint32_t i = 0; i < block->argument_count; i++)
        block->arguments[i].column += 2;
    block->input = windowed;
    return MR_OK;
}
