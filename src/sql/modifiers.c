/*
 * DISTINCT, ORDER BY and LIMIT of a query over a stream.
 *
 *     LIMIT n               the first n rows of the query's whole life: a local limit in tasks, a
 *                           fold that counts
 *     DISTINCT ON (k, ...)  the first row of each key: the list and the keys (mr_d0, ...) and event
 *                           times (mr_m0, ...) next to it, and for ON LATE INTO the columns
 *                           that late rows have in their table (mr_l0, ...); the split, which ends
 *                           the last ones; the dedup fold; the list alone
 *     DISTINCT              an aggregation without functions: GROUP BY ALL
 *     ORDER BY              only of a result that comes whole with every batch
 *
 * Threads: the planner's.
 */
#include "base/check.h"
#include "ops/stateful.h"
#include "sql/internal.h"

#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 16 };

static bool is_null(const struct mr_json *node)
{
    return node == NULL || node->kind == MR_JSON_NULL;
}

/* ---- Taking them ---- */

static enum mr_status take_limit(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                 struct mr_json *modifier, struct mr_sql_modifiers *modifiers)
{
    struct mr_json *limit = mr_json_get(modifier, "limit");
    const struct mr_json *value = mr_json_get(mr_json_get(limit, "value"), "value");
    int64_t rows;

    p->modes &= ~(1u << MR_MODE_UPDATE);
    if (p->mode == MR_MODE_UPDATE)
        return mr_sql__of_mode(
            p, mr_sql__fail(p, query, modifier,
                            "LIMIT is not supported with output_mode = 'update': a row that passed "
                            "may change later; use 'append', or 'complete' with an aggregation"));
    if (!mr_sql__type_is(modifier, "LIMIT_MODIFIER") || !mr_sql__class_is(limit, "CONSTANT") ||
        !mr_json_int(value, &rows) || rows < 0)
        return mr_sql__fail(p, query, modifier, "LIMIT of a stream needs a number of rows");
    modifiers->limits = true;
    modifiers->rows_max = (uint64_t)rows;
    return MR_OK;
}

enum mr_status mr_sql__take_modifiers(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                      struct mr_json *node, bool whole,
                                      struct mr_sql_modifiers *ret_modifiers)
{
    struct mr_json *modifiers = mr_json_get(node, "modifiers");
    struct mr_json *kept = mr_json_new_array(&p->arena);

    memset(ret_modifiers, 0, sizeof(*ret_modifiers));
    if (kept == NULL)
        return mr_sql__no_memory(p);
    for (struct mr_json *one = modifiers != NULL ? modifiers->first : NULL; one != NULL;
         one = one->next) {
        if (!is_null(mr_json_get(one, "offset")))
            return mr_sql__fail(p, query, mr_json_get(one, "offset"),
                                "OFFSET over a stream is not supported");
        if (mr_sql__type_is(one, "DISTINCT_MODIFIER")) {
            ret_modifiers->distinct = one;
        } else if (whole) {
            struct mr_json *copy = mr_json_copy(&p->arena, one);

            if (copy == NULL)
                return mr_sql__no_memory(p);
            mr_json_push(kept, copy);
        } else if (mr_sql__type_is(one, "ORDER_MODIFIER")) {
            return mr_sql__fail(p, query, one,
                                "ORDER BY needs the whole result: it is supported for an "
                                "aggregation with output_mode = "
                                "'complete'");
        } else {
            MR_TRY(take_limit(p, query, one, ret_modifiers));
        }
    }
    if (modifiers != NULL)
        mr_json_put(&p->arena, node, "modifiers", kept);
    return MR_OK;
}

/* ---- LIMIT ---- */

enum mr_status mr_sql__add_limit(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                 uint64_t rows_max, struct mr_sql_rel *rel)
{
    const char *name = mr_sql__node_name(p, query->owner, "limit");
    char rows_text[24];
    struct mr_sql_rel local = *rel;
    struct mr_map_op map;
    struct mr_fold_op fold;
    enum mr_status status;

    if (name == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_op_local_limit(rel->schema, rows_max, &map, p->err));
    MR_TRY(mr_sql__add_map(p, query->owner, "first", &map, &rel->node, 1, &local));
    MR_TRY(mr_op_limit(rel->schema, rows_max, name, &fold, p->err));
    mr_buf_printf(&p->text, "operator %s: the first %llu rows, state '%s'\n", name,
                  (unsigned long long)rows_max, name);
    status = mr_graph_fold(p->graph, name, &local.node, 1, fold.schema, fold.ops, fold.op,
                           &rel->node, p->err);
    mr_schema_unref(fold.schema);
    MR_TRY(status);
    (void)snprintf(rows_text, sizeof(rows_text), "%llu", (unsigned long long)rows_max);
    mr_node_set_detail(rel->node, rows_text);
    rel->schema = mr_node_schema(rel->node);
    return MR_OK;
}

/* ---- DISTINCT ON ---- */

/* What a DISTINCT ON is while it is planned. */
struct distinct {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    const struct mr_json *node;
    const struct mr_json *modifier;
    struct mr_json *list;    /* of the user, then keys and times */
    struct mr_sql_rel rows;  /* of that list */
    struct mr_sql_rel split; /* those that are not late */
    uint32_t visible_count;  /* columns of the user's list */
    uint32_t key_count;      /* hidden ones */
    uint32_t time_count;
    const char *hidden[MR_SQL_KEYS_MAX + MR_SQL_MARKS_MAX]; /* names that late rows have, or NULL */
    uint32_t late_count;     /* hidden ones behind those, gone after the split */
    const char **late_names; /* of them, in the stream */
    uint32_t columns[MR_SQL_KEYS_MAX];
    const char *identities[MR_SQL_KEYS_MAX];
    uint32_t column_count;
    int32_t time_column;
    const struct mr_sql_mark *time;
};

static bool has_flag(const struct mr_json *node, const char *name)
{
    const struct mr_json *flag = mr_json_get(node, name);

    return flag != NULL && flag->kind == MR_JSON_BOOL && flag->boolean;
}

static enum mr_status push_hidden(struct distinct *distinct, struct mr_json *expression,
                                  const char *prefix, uint32_t number)
{
    struct mr_sql_planner *p = distinct->p;
    char name[NAME_BYTES];

    if (expression == NULL)
        return mr_sql__no_memory(p);
    snprintf(name, sizeof(name), "%s%u", prefix, number);
    mr_sql__set_alias(p, expression, name);
    mr_json_push(distinct->list, expression);
    return MR_OK;
}

/* The expression that a target means: an item of the list by position or alias, or itself. */
static enum mr_status resolve_target(struct distinct *distinct, const struct mr_sql_from *from,
                                     const struct mr_json *list, struct mr_json *target,
                                     struct mr_json **ret_expression)
{
    const struct mr_json *value = mr_json_get(mr_json_get(target, "value"), "value");
    const struct mr_json *names = mr_json_get(target, "column_names");
    const struct mr_json *found = target;
    uint32_t leaf;
    uint32_t column;
    size_t rest;
    int64_t number;

    if (mr_sql__class_is(target, "CONSTANT") && mr_json_int(value, &number)) {
        if (number < 1 || (uint64_t)number > list->count)
            return mr_sql__fail(distinct->p, distinct->query, target,
                                "DISTINCT ON %lld: the list has %zu columns", (long long)number,
                                list->count);
        found = mr_json_at(list, (size_t)number - 1);
    } else if (mr_sql__class_is(target, "COLUMN_REF") && names->count == 1 &&
               !mr_sql__resolve(from, target, &leaf, &column, &rest)) {
        for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
            if (mr_sql__same_name(mr_sql__alias(item), names->first->text))
                found = item;
        }
    }
    *ret_expression = mr_json_copy(&distinct->p->arena, found);
    return *ret_expression != NULL ? MR_OK : mr_sql__no_memory(distinct->p);
}

static enum mr_status add_keys(struct distinct *distinct, const struct mr_sql_from *from,
                               const struct mr_json *list)
{
    struct mr_sql_planner *p = distinct->p;
    struct mr_json *targets = mr_json_get(distinct->modifier, "distinct_on_targets");

    if (has_flag(distinct->modifier, "mr_all"))
        return MR_OK;
    for (struct mr_json *target = targets->first; target != NULL; target = target->next) {
        struct mr_json *expression = NULL;

        if (distinct->key_count == MR_SQL_KEYS_MAX)
            return mr_sql__fail(p, distinct->query, target, "more than %d keys in DISTINCT ON",
                                MR_SQL_KEYS_MAX);
        MR_TRY(resolve_target(distinct, from, list, target, &expression));
        if (mr_sql__class_is(expression, "COLUMN_REF"))
            distinct->identities[distinct->key_count] = distinct->hidden[distinct->key_count] =
                mr_json_get(expression, "column_names")->last->text;
        else
            MR_TRY(
                mr_sql__expression_text(p, expression, &distinct->identities[distinct->key_count]));
        MR_TRY(push_hidden(distinct, expression, "mr_d", distinct->key_count++));
    }
    return MR_OK;
}

/* Event times of the stream travel along, so that late rows are seen. */
static enum mr_status add_times(struct distinct *distinct, const struct mr_sql_from *from)
{
    struct mr_sql_planner *p = distinct->p;
    const struct mr_sql_leaf *stream = &from->leaves[from->stream];

    for (uint32_t i = 0; i < stream->rel->mark_count; i++) {
        const struct mr_sql_mark *mark = &stream->rel->marks[i];
        struct mr_json *column;
        struct mr_json *alias;

        if (!mark->watermarked || mark->kind == MR_SQL_MARK_WINDOW)
            continue;
        column = mr_sql__column(p, stream->alias, "");
        alias = mr_json_new_string(&p->arena, mr_schema_field(stream->schema, mark->column)->name);
        if (column == NULL || alias == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(mr_json_get(column, "column_names"), alias);
        distinct->hidden[distinct->key_count + distinct->time_count] = alias->text;
        MR_TRY(push_hidden(distinct, column, "mr_m", distinct->time_count++));
    }
    return MR_OK;
}

/* ON LATE INTO: the stream's columns that the table of late rows declares, read or not. */
static enum mr_status add_late(struct distinct *distinct, const struct mr_sql_from *from)
{
    struct mr_sql_planner *p = distinct->p;
    const struct mr_sql_leaf *stream = &from->leaves[from->stream];
    uint32_t count = mr_schema_field_count(stream->schema);

    if (mr_sql__late_table(p, distinct->query, distinct->node) == NULL)
        return MR_OK;
    distinct->late_names = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*distinct->late_names));
    if (distinct->late_names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = mr_schema_field(stream->schema, i)->name;
        struct mr_json *column;
        struct mr_json *part;

        if (!mr_sql__late_wants(p, distinct->query, distinct->node, name))
            continue;
        column = mr_sql__column(p, stream->alias, "");
        part = mr_json_new_string(&p->arena, name);
        if (column == NULL || part == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(mr_json_get(column, "column_names"), part);
        distinct->late_names[distinct->late_count] = name;
        MR_TRY(push_hidden(distinct, column, "mr_l", distinct->late_count++));
    }
    return MR_OK;
}

/* For the comparison with a checkpoint: WHERE and what is joined. The keys are in the state's
 * schema, and the other columns may change. */
static enum mr_status tell_rows(const struct distinct *distinct, const struct mr_sql_from *from,
                                struct mr_json *where)
{
    struct mr_sql_planner *p = distinct->p;
    const struct mr_sql_leaf *stream = &from->leaves[from->stream];
    struct mr_json *select = mr_sql__select(p, mr_json_copy(&p->arena, from->tree));
    struct mr_json *list = mr_json_new_array(&p->arena);
    struct mr_json *column = mr_sql__column(p, mr_schema_field(stream->schema, 0)->name, "");
    const char *sql;

    if (distinct->rows.node == stream->rel->node)
        return MR_OK;
    if (!from->joined && (where == NULL || where->kind != MR_JSON_OBJECT)) {
        mr_node_set_meaning(distinct->rows.node, NULL);
        return MR_OK;
    }
    if (select == NULL || list == NULL || column == NULL)
        return mr_sql__no_memory(p);
    mr_json_push(list, column);
    mr_json_put(&p->arena, select, "select_list", list);
    mr_json_put(&p->arena, select, "where_clause", mr_json_copy(&p->arena, where));
    MR_TRY(mr_sql__print(p, select, &sql));
    sql = strstr(sql, " FROM ") != NULL ? strstr(sql, " FROM ") + 1 : sql;
    mr_node_set_meaning(distinct->rows.node, sql);
    return MR_OK;
}

/* Columns of the keys, and the one that tells the time of a row: a key if there is one. */
static enum mr_status find_columns(struct distinct *distinct)
{
    const struct mr_sql_rel *rows = &distinct->rows;
    uint32_t count = mr_schema_field_count(rows->schema);
    uint32_t hidden = distinct->key_count + distinct->time_count + distinct->late_count;
    bool all = distinct->key_count == 0;

    MR_ASSERT(count > hidden);
    distinct->visible_count = count - hidden;
    distinct->column_count = all ? distinct->visible_count : distinct->key_count;
    if (distinct->column_count > MR_SQL_KEYS_MAX)
        return mr_sql__fail(distinct->p, distinct->query, NULL,
                            "more than %d columns to compare; name the keys", MR_SQL_KEYS_MAX);
    distinct->time_column = -1;
    for (uint32_t i = 0; i < distinct->column_count; i++) {
        uint32_t column = all ? i : distinct->visible_count + i;
        const struct mr_sql_mark *mark = mr_sql__mark_of(rows, column);

        distinct->columns[i] = column;
        if (all)
            distinct->identities[i] = mr_schema_field(rows->schema, column)->name;
        if (mark == NULL || !mark->watermarked || mark->kind == MR_SQL_MARK_WINDOW ||
            distinct->time != NULL)
            continue;
        distinct->time = mark;
        distinct->time_column = (int32_t)column;
    }
    for (uint32_t i = 0; i < rows->mark_count && distinct->time == NULL; i++) {
        if (!rows->marks[i].watermarked || rows->marks[i].kind == MR_SQL_MARK_WINDOW)
            continue;
        distinct->time = &rows->marks[i];
        distinct->time_column = (int32_t)rows->marks[i].column;
    }
    return MR_OK;
}

static enum mr_status check_mode(const struct distinct *distinct, bool time_is_key)
{
    struct mr_sql_planner *p = distinct->p;
    bool within = has_flag(distinct->modifier, "mr_within");

    if (within && distinct->time == NULL)
        return mr_sql__fail(p, distinct->query, distinct->modifier,
                            "drop_duplicates_within_watermark needs a watermark: add WATERMARK FOR "
                            "to the table");
    if (!distinct->rows.aggregated || p->mode == MR_MODE_APPEND)
        return MR_OK;
    if (p->mode == MR_MODE_COMPLETE)
        return mr_sql__of_mode(
            p, mr_sql__fail(p, distinct->query, distinct->list,
                            "removing duplicates of an aggregation's rows is not supported with "
                            "output_mode = 'complete': all rows come again with every batch"));
    if (within || time_is_key)
        return mr_sql__of_mode(
            p, mr_sql__fail(p, distinct->query, distinct->list,
                            "removing duplicates of an aggregation's rows by their time needs "
                            "output_mode = 'append': with 'update' they come again when they are "
                            "late"));
    return MR_OK;
}

/* What late rows are made of: columns of the stream, then the list, keys and times that are
 * columns. Each name once. */
static const char *const *late_names(const struct distinct *distinct)
{
    const struct mr_schema *schema = distinct->rows.schema;
    uint32_t count = mr_schema_field_count(schema);
    uint32_t others = count - distinct->late_count;
    const char **names = mr_arena_alloc(&distinct->p->arena, count * sizeof(*names));

    for (uint32_t i = 0; names != NULL && i < others; i++) {
        names[i] = i < distinct->visible_count ? mr_schema_field(schema, i)->name
                                               : distinct->hidden[i - distinct->visible_count];
        for (uint32_t k = 0; k < distinct->late_count && names[i] != NULL; k++) {
            if (mr_sql__same_name(distinct->late_names[k], names[i]))
                names[i] = NULL;
        }
    }
    for (uint32_t i = others; names != NULL && i < count; i++)
        names[i] = distinct->late_names[i - others];
    return names;
}

/* Late rows leave; what only they need, too. */
static enum mr_status split_late(struct distinct *distinct, const char *state_name)
{
    struct mr_sql_planner *p = distinct->p;
    const struct mr_sql_mark *time = distinct->time;
    int64_t add_us = time != NULL && time->kind == MR_SQL_MARK_START ? time->size_us : 0;
    uint32_t count = mr_schema_field_count(distinct->rows.schema) - distinct->late_count;
    struct mr_sql_rel rows = distinct->rows;
    uint32_t *columns;
    const char **names;

    if (distinct->time_column >= 0)
        MR_TRY(mr_sql__late_split(p, distinct->query, distinct->node, state_name, &distinct->rows,
                                  (uint32_t)distinct->time_column, add_us, late_names(distinct),
                                  &rows));
    distinct->split = rows;
    if (distinct->late_count == 0)
        return MR_OK;
    columns = mr_arena_alloc(&p->arena, count * sizeof(*columns));
    names = mr_arena_alloc(&p->arena, count * sizeof(*names));
    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        columns[i] = i;
        names[i] = mr_schema_field(rows.schema, i)->name;
    }
    return mr_sql__add_project(p, distinct->query->owner, &rows, columns, names, count,
                               &distinct->split);
}

static enum mr_status add_fold(struct distinct *distinct, struct mr_sql_rel *rel)
{
    struct mr_sql_planner *p = distinct->p;
    bool within = has_flag(distinct->modifier, "mr_within");
    const struct mr_sql_mark *time = distinct->time;
    struct mr_dedup_spec spec = {
        .keys = distinct->columns,
        .key_identities = distinct->identities,
        .key_count = distinct->column_count,
        .state_name = mr_sql__node_name(p, distinct->query->owner, "dedup"),
        .time_column = distinct->time_column,
        .time_add_us = time != NULL && time->kind == MR_SQL_MARK_START ? time->size_us : 0,
        .within = within,
        .delay_us = time != NULL ? time->delay_us : 0};
    struct mr_fold_op fold;
    enum mr_status status;

    if (spec.state_name == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(split_late(distinct, spec.state_name));
    *rel = distinct->split;
    spec.input = rel->schema;
    MR_TRY(mr_sql__as_sql_error(p, distinct->query, mr_op_dedup(&spec, &fold, p->err)));
    mr_buf_printf(&p->text, "operator %s: first row of %u keys%s, state '%s'\n", spec.state_name,
                  spec.key_count, within ? " within the watermark" : "", spec.state_name);
    status = mr_graph_fold(p->graph, spec.state_name, &distinct->split.node, 1, fold.schema,
                           fold.ops, fold.op, &rel->node, p->err);
    mr_schema_unref(fold.schema);
    MR_TRY(status);
    rel->schema = mr_node_schema(rel->node);
    return MR_OK;
}

enum mr_status mr_sql__plan_distinct_on(struct mr_sql_planner *p, struct mr_sql_query *query,
                                        struct mr_json *node, const struct mr_sql_from *from,
                                        const struct mr_json *modifier, struct mr_sql_rel *rel)
{
    struct distinct *distinct = mr_arena_alloc(&p->arena, sizeof(*distinct));
    struct mr_json *list = mr_json_get(node, "select_list");
    struct mr_sql_rel first = {0};
    uint32_t *columns;
    const char **names;
    bool time_is_key = false;

    if (distinct == NULL)
        return mr_sql__no_memory(p);
    memset(distinct, 0, sizeof(*distinct));
    distinct->p = p;
    distinct->query = query;
    distinct->node = node;
    distinct->modifier = modifier;
    distinct->list = mr_json_copy(&p->arena, list);
    if (distinct->list == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(add_keys(distinct, from, list));
    MR_TRY(add_times(distinct, from));
    MR_TRY(add_late(distinct, from));
    mr_json_put(&p->arena, node, "select_list", distinct->list);
    MR_TRY(mr_sql__plan_stateless(p, query, node, from, &distinct->rows));
    MR_TRY(tell_rows(distinct, from, mr_json_get(node, "where_clause")));
    MR_TRY(find_columns(distinct));
    for (uint32_t i = 0; i < distinct->column_count; i++)
        time_is_key = time_is_key || (int32_t)distinct->columns[i] == distinct->time_column;
    MR_TRY(check_mode(distinct, time_is_key));
    MR_TRY(add_fold(distinct, &first));
    columns = mr_arena_alloc(&p->arena, distinct->visible_count * sizeof(*columns));
    names = mr_arena_alloc(&p->arena, distinct->visible_count * sizeof(*names));
    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < distinct->visible_count; i++) {
        columns[i] = i;
        names[i] = mr_schema_field(first.schema, i)->name;
    }
    return mr_sql__add_project(p, query->owner, &first, columns, names, distinct->visible_count,
                               rel);
}

/* ---- DISTINCT ---- */

enum mr_status mr_sql__distinct_to_groups(struct mr_sql_planner *p,
                                          const struct mr_sql_query *query, struct mr_json *node,
                                          const struct mr_sql_from *from)
{
    struct mr_json *list = mr_json_get(node, "select_list");
    struct mr_json *out = mr_json_new_array(&p->arena);
    const struct mr_schema *schema = from->leaves[from->stream].schema;

    if (out == NULL)
        return mr_sql__no_memory(p);
    for (struct mr_json *item = list->first; item != NULL; item = item->next) {
        struct mr_json *copy;

        if (!mr_sql__is_star(item)) {
            copy = mr_json_copy(&p->arena, item);
            if (copy == NULL)
                return mr_sql__no_memory(p);
            mr_json_push(out, copy);
            continue;
        }
        if (!mr_sql__plain_star(item) || from->joined)
            return mr_sql__fail(p, query, item,
                                "name the columns of SELECT DISTINCT instead of this '*'");
        for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
            copy = mr_sql__column(p, mr_schema_field(schema, i)->name, "");
            if (copy == NULL)
                return mr_sql__no_memory(p);
            mr_json_push(out, copy);
        }
    }
    mr_json_put(&p->arena, node, "select_list", out);
    mr_json_put(&p->arena, node, "aggregate_handling",
                mr_json_new_string(&p->arena, "FORCE_AGGREGATES"));
    return MR_OK;
}
