/*
 * Blocks without aggregation, and the recursion over queries.
 *
 *     UNION, EXCEPT  setop.c
 *     SELECT         columns and simple comparisons only: native filter and project (no copy)
 *                    window() in the list: filter, window operator, statement
 *                    anything else: one statement of DuckDB over each batch
 *     GROUP BY       aggregate.c
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "base/number_text.h"
#include "sql/internal.h"

#include <string.h>

/* ---- WHERE as native predicates ---- */

static const struct comparison {
    const char *type;
    enum mr_compare compare;
    enum mr_compare flipped; /* literal on the left */
} comparisons[] = {
    {"COMPARE_EQUAL", MR_EQ, MR_EQ},       {"COMPARE_NOTEQUAL", MR_NE, MR_NE},
    {"COMPARE_LESSTHAN", MR_LT, MR_GT},    {"COMPARE_LESSTHANOREQUALTO", MR_LE, MR_GE},
    {"COMPARE_GREATERTHAN", MR_GT, MR_LT}, {"COMPARE_GREATERTHANOREQUALTO", MR_GE, MR_LE},
};

static bool plain_column(const struct mr_sql_from *from, const struct mr_json *node,
                         uint32_t *ret_column)
{
    uint32_t leaf;
    size_t rest;

    return mr_sql__class_is(node, "COLUMN_REF") &&
           mr_sql__resolve(from, node, &leaf, ret_column, &rest) && (int32_t)leaf == from->stream &&
           rest == 0;
}

static bool is_integer(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64;
}

/* A constant that means the same to our parser of the column's type as to DuckDB's cast. */
static bool plain_literal(struct mr_sql_planner *p, const struct mr_json *node,
                          enum mr_type_id column, struct mr_predicate *predicate)
{
    const struct mr_json *value = mr_json_get(node, "value");
    const char *type = mr_json_text(mr_json_get(value, "type"), "id");
    const struct mr_json *inner = mr_json_get(value, "value");

    if (!mr_sql__class_is(node, "CONSTANT") || type == NULL || inner == NULL)
        return false;
    if (strcmp(type, "VARCHAR") == 0 && inner->kind == MR_JSON_STRING && column == MR_TYPE_TEXT) {
        predicate->literal = inner->text;
        predicate->literal_bytes = inner->text_bytes;
        return true;
    }
    if ((strcmp(type, "INTEGER") == 0 || strcmp(type, "BIGINT") == 0) &&
        inner->kind == MR_JSON_NUMBER && is_integer(column)) {
        predicate->literal = mr_arena_copy(&p->arena, inner->text, strlen(inner->text));
        predicate->literal_bytes = strlen(inner->text);
        return predicate->literal != NULL;
    }
    return false;
}

static bool add_predicate(struct mr_sql_planner *p, const struct mr_sql_from *from,
                          const struct mr_json *node, struct mr_predicate *predicates,
                          uint32_t *count)
{
    struct mr_predicate *predicate = &predicates[*count];
    const struct mr_json *left = mr_json_get(node, "left");
    const struct mr_json *right = mr_json_get(node, "right");
    const struct mr_json *children = mr_json_get(node, "children");
    const struct mr_schema *schema = from->leaves[from->stream].schema;

    if (*count == MR_SQL_PREDICATES_MAX)
        return false;
    memset(predicate, 0, sizeof(*predicate));
    if (mr_sql__type_is(node, "CONJUNCTION_AND") && children != NULL) {
        for (const struct mr_json *child = children->first; child != NULL; child = child->next) {
            if (!add_predicate(p, from, child, predicates, count))
                return false;
        }
        return true;
    }
    if ((mr_sql__type_is(node, "OPERATOR_IS_NULL") ||
         mr_sql__type_is(node, "OPERATOR_IS_NOT_NULL")) &&
        children != NULL && plain_column(from, children->first, &predicate->column)) {
        predicate->compare =
            mr_sql__type_is(node, "OPERATOR_IS_NULL") ? MR_IS_NULL : MR_IS_NOT_NULL;
        ++*count;
        return true;
    }
    for (size_t i = 0; i < MR_ARRAY_SIZE(comparisons); i++) {
        bool flipped = !plain_column(from, left, &predicate->column);

        if (!mr_sql__type_is(node, comparisons[i].type))
            continue;
        if (flipped && !plain_column(from, right, &predicate->column))
            return false;
        predicate->compare = flipped ? comparisons[i].flipped : comparisons[i].compare;
        ++*count;
        return plain_literal(p, flipped ? left : right,
                             mr_schema_field(schema, predicate->column)->type.id, predicate);
    }
    return false;
}

bool mr_sql__native_filter(struct mr_sql_planner *p, const struct mr_sql_from *from,
                           const struct mr_json *where, struct mr_predicate *predicates,
                           uint32_t *ret_count)
{
    *ret_count = 0;
    if (where == NULL || where->kind == MR_JSON_NULL)
        return true;
    return !from->joined && add_predicate(p, from, where, predicates, ret_count);
}

/* ---- Marks ---- */

static void inherit(struct mr_sql_rel *rel, const char *name, struct mr_sql_mark mark)
{
    int32_t column = mr_schema_find(rel->schema, name, strlen(name));

    if (column < 0 || rel->mark_count == MR_SQL_MARKS_MAX ||
        mr_sql__mark_of(rel, (uint32_t)column) != NULL)
        return;
    mark.column = (uint32_t)column;
    rel->marks[rel->mark_count++] = mark;
}

static bool is_window_time(const struct mr_json *node)
{
    const char *name = mr_sql__function(node);

    return name != NULL && mr_sql__same_name(name, "window_time") &&
           mr_json_get(node, "children") != NULL && mr_json_get(node, "children")->count == 1;
}

/* Mark of the stream's column that a reference means, or NULL. */
static const struct mr_sql_mark *mark_of_reference(const struct mr_sql_from *from,
                                                   const struct mr_json *reference)
{
    uint32_t leaf;
    uint32_t column;
    size_t rest;

    if (!mr_sql__class_is(reference, "COLUMN_REF") ||
        !mr_sql__resolve(from, reference, &leaf, &column, &rest) || (int32_t)leaf != from->stream ||
        rest != 0)
        return NULL;
    return mr_sql__mark_of(from->leaves[leaf].rel, column);
}

/* window_time(w), w a column or {start, end} of columns: an event time again. */
static bool window_time_mark(const struct mr_sql_from *from, const struct mr_json *call,
                             struct mr_sql_mark *ret_mark)
{
    const struct mr_json *window = mr_json_get(call, "children")->first;
    const char *function = mr_sql__function(window);
    enum mr_sql_mark_kind kind = MR_SQL_MARK_WINDOW;
    const struct mr_sql_mark *mark;

    if (function != NULL && mr_sql__same_name(function, "struct_pack") &&
        mr_json_get(window, "children")->count == 2) {
        window = mr_json_get(window, "children")->last;
        kind = MR_SQL_MARK_END;
    }
    mark = mark_of_reference(from, window);
    if (mark == NULL || mark->kind != kind)
        return false;
    *ret_mark = *mark;
    ret_mark->kind = MR_SQL_MARK_TIME;
    ret_mark->size_us = 0;
    return true;
}

enum mr_status mr_sql__window_of_window(struct mr_sql_planner *p, const struct mr_sql_from *from,
                                        struct mr_sql_window *window)
{
    const struct mr_sql_mark *mark = mark_of_reference(from, window->time);

    if (mark == NULL || mark->kind != MR_SQL_MARK_WINDOW)
        return MR_OK;
    MR_TRY(mr_sql__engine_window_time(p->engine, p->err));
    window->time = mr_sql__call(p, "window_time", &window->time, NULL, 1);
    return window->time != NULL ? MR_OK : mr_sql__no_memory(p);
}

void mr_sql__inherit_marks(const struct mr_sql_from *from, const struct mr_json *list,
                           struct mr_sql_rel *rel)
{
    const struct mr_sql_leaf *stream = &from->leaves[from->stream];

    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const struct mr_json *names = mr_json_get(item, "column_names");
        const struct mr_sql_mark *mark;
        struct mr_sql_mark of_window;
        uint32_t leaf;
        uint32_t column;
        size_t rest;

        if (mr_sql__is_star(item)) {
            for (uint32_t i = 0; i < stream->rel->mark_count; i++)
                inherit(rel, mr_schema_field(stream->schema, stream->rel->marks[i].column)->name,
                        stream->rel->marks[i]);
            continue;
        }
        if (is_window_time(item) && window_time_mark(from, item, &of_window)) {
            inherit(rel, mr_sql__alias(item), of_window);
            continue;
        }
        if (!mr_sql__class_is(item, "COLUMN_REF") ||
            !mr_sql__resolve(from, item, &leaf, &column, &rest) || (int32_t)leaf != from->stream)
            continue;
        mark = mr_sql__mark_of(stream->rel, column);
        if (mark == NULL || rest > (mark->kind == MR_SQL_MARK_WINDOW ? 1u : 0u))
            continue;
        {
            struct mr_sql_mark out = *mark;

            if (rest == 1 && mark->size_us == 0 && mr_sql__same_name(names->last->text, "start"))
                continue; /* of a session: tells nothing */
            if (rest == 1)
                out.kind = mr_sql__same_name(names->last->text, "start") ? MR_SQL_MARK_START
                                                                         : MR_SQL_MARK_END;
            inherit(rel, mr_sql__alias(item)[0] != '\0' ? mr_sql__alias(item) : names->last->text,
                    out);
        }
    }
}

/* ---- Blocks ---- */

/* Functions of Spark and Flink that have a meaning there and none here. */
static bool is_foreign(const struct mr_json *node)
{
    static const char *const names[] = {"cumulate", "monotonically_increasing_id"};
    const char *name = mr_sql__function(node);

    for (size_t i = 0; name != NULL && i < MR_ARRAY_SIZE(names); i++) {
        if (mr_sql__same_name(names[i], name))
            return true;
    }
    return false;
}

static enum mr_status check_foreign(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    struct mr_json *node)
{
    static const char *const parts[] = {"select_list", "where_clause", "group_expressions",
                                        "having"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(parts); i++) {
        struct mr_json *found = mr_sql__find(mr_json_get(node, parts[i]), is_foreign);

        if (found != NULL)
            return mr_sql__fail(
                p, query, found,
                "'%s' is not supported over a stream (supported: window, tumble, hop, session)",
                mr_sql__function(found));
    }
    return MR_OK;
}

static const char instead_of_over[] =
    "for the newest row of a key (row_number() ... = 1) write arg_max({...}, time) with GROUP BY "
    "key, for the one that comes first SELECT DISTINCT ON (key), for intervals of time GROUP BY "
    "window(...)";

enum mr_status mr_sql__check_block(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                   struct mr_json *node)
{
    struct mr_json *over = mr_sql__find(mr_json_get(node, "select_list"), mr_sql__is_over);
    const struct mr_json *sample = mr_json_get(node, "sample");
    const struct mr_json *qualify = mr_json_get(node, "qualify");

    MR_TRY(check_foreign(p, query, node));
    if (sample != NULL && sample->kind != MR_JSON_NULL)
        return mr_sql__fail(
            p, query, node,
            "samples of a stream are not supported; use WHERE hash(column) %% 10 = 0");
    if (qualify != NULL && qualify->kind != MR_JSON_NULL)
        return mr_sql__fail(p, query, qualify, "QUALIFY over a stream is not supported; %s",
                            instead_of_over);
    if (over != NULL)
        return mr_sql__fail(p, query, over,
                            "functions OVER (...) are not supported over a stream; %s",
                            instead_of_over);
    return MR_OK;
}

static bool is_null(const struct mr_json *node)
{
    return node == NULL || node->kind == MR_JSON_NULL;
}

/* Only columns and a plain star: their indexes and names, or false. */
static bool native_list(struct mr_sql_planner *p, const struct mr_sql_from *from,
                        const struct mr_json *list, uint32_t **ret_columns, const char ***ret_names,
                        uint32_t *ret_count)
{
    const struct mr_schema *schema = from->leaves[from->stream].schema;
    uint32_t all = mr_schema_field_count(schema);
    size_t room = list->count * (size_t)(all + 1);
    uint32_t *columns = mr_arena_alloc(&p->arena, room * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, room * sizeof(*names));
    uint32_t count = 0;

    if (columns == NULL || names == NULL || from->joined)
        return false;
    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const struct mr_json *parts = mr_json_get(item, "column_names");

        if (mr_sql__plain_star(item)) {
            for (uint32_t i = 0; i < all; i++) {
                columns[count] = i;
                names[count++] = mr_schema_field(schema, i)->name;
            }
            continue;
        }
        if (!plain_column(from, item, &columns[count]))
            return false;
        names[count++] = mr_sql__alias(item)[0] != '\0' ? mr_sql__alias(item) : parts->last->text;
    }
    *ret_columns = columns;
    *ret_names = names;
    *ret_count = count;
    return true;
}

/* Native operators when they can do all of it; *ret_done false: nothing was added. */
static enum mr_status plan_native(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_from *from,
                                  struct mr_sql_rel *rel, bool *ret_done)
{
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    struct mr_sql_rel filtered;
    const char **names;
    uint32_t *columns;
    uint32_t predicate_count;
    uint32_t count;

    *ret_done = false;
    if (!native_list(p, from, mr_json_get(node, "select_list"), &columns, &names, &count) ||
        !mr_sql__native_filter(p, from, mr_json_get(node, "where_clause"), predicates,
                               &predicate_count))
        return MR_OK;
    MR_TRY(mr_sql__add_filter(p, query->owner, from->leaves[from->stream].rel, predicates,
                              predicate_count, &filtered, ret_done));
    if (!*ret_done)
        return MR_OK;
    return mr_sql__as_sql_error(
        p, query, mr_sql__add_project(p, query->owner, &filtered, columns, names, count, rel));
}

/* The rows of the FROM that pass WHERE, all columns. */
static enum mr_status plan_where(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 struct mr_json *node, const struct mr_sql_from *from,
                                 struct mr_sql_rel *rel)
{
    struct mr_json *list = mr_json_new_array(&p->arena);
    struct mr_json *select = mr_sql__select(p, mr_json_copy(&p->arena, from->tree));
    const struct mr_schema *schema = from->leaves[from->stream].schema;
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t count;
    const char *sql;
    bool done;

    if (mr_sql__native_filter(p, from, mr_json_get(node, "where_clause"), predicates, &count)) {
        MR_TRY(mr_sql__add_filter(p, query->owner, from->leaves[from->stream].rel, predicates,
                                  count, rel, &done));
        if (done)
            return MR_OK;
    }
    if (list == NULL || select == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++)
        mr_json_push(list, mr_sql__column(p, mr_schema_field(schema, i)->name, ""));
    mr_json_put(&p->arena, select, "select_list", list);
    mr_json_put(&p->arena, select, "where_clause",
                mr_json_copy(&p->arena, mr_json_get(node, "where_clause")));
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, query, from, sql, false, rel));
    mr_sql__inherit_marks(from, list, rel);
    return MR_OK;
}

/* Puts {start, end} in the place of window calls; all must be the one window. */
static enum mr_status replace_windows(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_window *window)
{
    struct mr_sql_window one;
    struct mr_json *start = mr_sql__column(p, "mr_start", "");
    struct mr_json *end = mr_sql__column(p, "mr_end", "");
    struct mr_json *parts[2] = {start, end};
    const char *const names[2] = {"start", "end"};
    const char *alias = mr_sql__alias(node);
    struct mr_json *with;

    if (!mr_sql__is_window_call(node)) {
        for (struct mr_json *child = node->first; child != NULL; child = child->next)
            MR_TRY(replace_windows(p, query, child, window));
        return MR_OK;
    }
    MR_TRY(mr_sql__window_parse(p, query, node, &one));
    if (!mr_sql__window_equal(&one, window))
        return mr_sql__fail(
            p, query, node,
            "two different windows in one SELECT are not supported; use two SELECTs");
    if (one.part == MR_SQL_WINDOW_WHOLE)
        with =
            start != NULL && end != NULL ? mr_sql__call(p, "struct_pack", parts, names, 2) : NULL;
    else
        with = one.part == MR_SQL_WINDOW_START ? start : end;
    if (with == NULL)
        return mr_sql__no_memory(p);
    mr_sql__set_alias(p, with, alias[0] != '\0' ? alias : "window");
    mr_sql__replace(node, with);
    return MR_OK;
}

/* SELECT window(ts, '10 minutes') AS w, ...: filter, window operator, then the list. */
static enum mr_status plan_windowed(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *node, const struct mr_sql_from *from,
                                    struct mr_json *call, struct mr_sql_rel *rel)
{
    struct mr_json *list = mr_json_get(node, "select_list");
    struct mr_json *select;
    struct mr_sql_from after = {.count = 1};
    struct mr_sql_window window;
    struct mr_sql_rel rows;
    struct mr_sql_rel windowed;
    const char *sql;
    uint32_t column;

    MR_TRY(mr_sql__window_parse(p, query, call, &window));
    if (window.session)
        return mr_sql__fail(p, query, call,
                            "a session needs GROUP BY: its end is known only when its rows are "
                            "together");
    if (from->joined || !plain_column(from, window.time, &column))
        return mr_sql__fail(p, query, call,
                            "outside GROUP BY, window() needs a column of the one table it reads; "
                            "compute the time in a "
                            "subquery");
    MR_TRY(plan_where(p, query, node, from, &rows));
    MR_TRY(mr_sql__add_window(p, query->owner, &rows, column, &window, "mr_start", "mr_end",
                              &windowed));
    for (struct mr_json *item = list->first; item != NULL; item = item->next) {
        if (mr_sql__is_star(item))
            return mr_sql__fail(p, query, item, "name the columns next to window() instead of '*'");
    }
    for (struct mr_json *item = list->first; item != NULL; item = item->next)
        MR_TRY(replace_windows(p, query, item, &window));
    after.leaves[0] = (struct mr_sql_leaf){.alias = from->leaves[from->stream].alias,
                                           .input = "mr_input_0",
                                           .schema = windowed.schema,
                                           .rel = &windowed};
    select = mr_sql__select(p, mr_sql__table_ref(p, "mr_input_0", after.leaves[0].alias));
    if (select == NULL)
        return mr_sql__no_memory(p);
    mr_json_put(&p->arena, select, "select_list", list);
    MR_TRY(mr_sql__print(p, select, &sql));
    MR_TRY(mr_sql__add_statement(p, query, &after, sql, false, rel));
    mr_sql__inherit_marks(&after, list, rel);
    for (struct mr_json *item = list->first; item != NULL; item = item->next) {
        const char *function = mr_sql__function(item);

        if (function != NULL && mr_sql__same_name(function, "struct_pack") &&
            rel->mark_count < MR_SQL_MARKS_MAX)
            inherit(rel, mr_sql__alias(item),
                    (struct mr_sql_mark){0, MR_SQL_MARK_WINDOW, window.size_us,
                                         windowed.marks[0].watermarked,
                                         windowed.marks[0].delay_us});
    }
    return MR_OK;
}

enum mr_status mr_sql__plan_stateless(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_from *from,
                                      struct mr_sql_rel *rel)
{
    struct mr_json *call = mr_sql__find(mr_json_get(node, "select_list"), mr_sql__is_window_call);
    const struct mr_json *modifiers = mr_json_get(node, "modifiers");
    bool whole = modifiers != NULL && modifiers->count > 0;
    struct mr_json *ctes;
    const char *sql;
    bool done = false;

    if (call != NULL)
        return plan_windowed(p, query, node, from, call, rel);
    if (!whole)
        MR_TRY(plan_native(p, query, node, from, rel, &done));
    if (done)
        return MR_OK;
    ctes = mr_json_get(node, "cte_map");
    if (ctes != NULL)
        mr_json_put(&p->arena, ctes, "map", mr_json_new_array(&p->arena));
    MR_TRY(mr_sql__print(p, node, &sql));
    MR_TRY(mr_sql__add_statement(p, query, from, sql, whole, rel));
    mr_sql__inherit_marks(from, mr_json_get(node, "select_list"), rel);
    return MR_OK;
}

/* Whether every batch brings the whole result, so that it can be ordered and cut off. */
static bool comes_whole(const struct mr_sql_planner *p, const struct mr_sql_from *from,
                        bool aggregates)
{
    return p->mode == MR_MODE_COMPLETE &&
           (aggregates || from->leaves[from->stream].rel->aggregated);
}

static enum mr_status plan_rows(struct mr_sql_planner *p, struct mr_sql_query *query,
                                struct mr_json *node, struct mr_sql_from *from, bool aggregates,
                                const struct mr_json *distinct, struct mr_sql_rel **ret_rel)
{
    struct mr_json *targets = mr_json_get(distinct, "distinct_on_targets");

    if (distinct != NULL && aggregates)
        return mr_sql__fail(p, query, mr_json_get(node, "select_list"),
                            "DISTINCT next to an aggregation is not supported; put the aggregation "
                            "into a subquery");
    if (distinct != NULL && targets != NULL && targets->count > 0)
        return mr_sql__plan_distinct_on(p, query, node, from, distinct, *ret_rel);
    if (distinct != NULL)
        MR_TRY(mr_sql__distinct_to_groups(p, query, node, from));
    if (distinct != NULL || aggregates)
        return mr_sql__plan_aggregate(p, query, node, from, ret_rel);
    return mr_sql__plan_stateless(p, query, node, from, *ret_rel);
}

static enum mr_status plan_block(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 struct mr_json *node, const struct mr_sql_scope *scope,
                                 struct mr_sql_rel **ret_rel)
{
    struct mr_json *groups = mr_json_get(node, "group_expressions");
    struct mr_json *list = mr_json_get(node, "select_list");
    struct mr_json *aggregate = mr_sql__find(list, mr_sql__is_aggregate);
    bool aggregates = aggregate != NULL || (groups != NULL && groups->count > 0) ||
                      mr_json_is(mr_json_get(node, "aggregate_handling"), "FORCE_AGGREGATES") ||
                      !is_null(mr_json_get(node, "having"));
    struct mr_sql_from *from = mr_arena_alloc(&p->arena, sizeof(*from));
    struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));
    struct mr_sql_modifiers modifiers;
    enum mr_status status;

    if (from == NULL || rel == NULL)
        return mr_sql__no_memory(p);
    memset(rel, 0, sizeof(*rel));
    MR_TRY(mr_sql__check_block(p, query, node));
    MR_TRY(mr_sql__from(p, query, node, scope, from));
    status = mr_sql__take_modifiers(p, query, node, comes_whole(p, from, aggregates), &modifiers);
    if (status != MR_OK && (aggregates || from->leaves[from->stream].rel->aggregated))
        return mr_sql__of_mode(p, status); /* ORDER BY: of a whole result */
    MR_TRY(status);
    MR_TRY(plan_rows(p, query, node, from, aggregates, modifiers.distinct, &rel));
    if (modifiers.limits)
        MR_TRY(mr_sql__add_limit(p, query, modifiers.rows_max, rel));
    *ret_rel = rel;
    return MR_OK;
}

enum mr_status mr_sql__ctes(struct mr_sql_planner *p, struct mr_json *node,
                            const struct mr_sql_scope **scope)
{
    struct mr_json *map = mr_json_get(mr_json_get(node, "cte_map"), "map");

    for (struct mr_json *entry = map != NULL ? map->first : NULL; entry != NULL;
         entry = entry->next) {
        struct mr_sql_scope *one = mr_arena_alloc(&p->arena, sizeof(*one));
        struct mr_json *query = mr_json_get(mr_json_get(entry, "value"), "query");

        if (one == NULL)
            return mr_sql__no_memory(p);
        one->name = mr_json_text(entry, "key");
        one->node = mr_json_get(query, "node");
        one->outer = *scope;
        one->next = *scope;
        *scope = one;
    }
    return MR_OK;
}

enum mr_status mr_sql__plan_query(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  struct mr_sql_rel **ret_rel)
{
    enum mr_status status;

    if (p->depth >= MR_SQL_DEPTH_MAX)
        return mr_sql__fail(p, query, node, "more than %d queries inside each other",
                            MR_SQL_DEPTH_MAX);
    MR_TRY(mr_sql__ctes(p, node, &scope));
    p->depth++;
    if (mr_sql__type_is(node, "SELECT_NODE"))
        status = plan_block(p, query, node, scope, ret_rel);
    else if (mr_sql__type_is(node, "SET_OPERATION_NODE"))
        status = mr_sql__plan_setop(p, query, node, scope, ret_rel);
    else
        status = mr_sql__fail(
            p, query, node,
            "this kind of query is not supported over streams (supported: SELECT, UNION "
            "ALL, WITH)");
    p->depth--;
    return status;
}
