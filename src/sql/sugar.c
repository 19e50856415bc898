/*
 * Table functions that mean a query, replaced in the syntax tree right after parsing, so that the
 * planner knows only what they mean.
 *
 *     drop_duplicates(TABLE t)                      (SELECT DISTINCT ON (all columns) * FROM t)
 *     drop_duplicates(TABLE t, DESCRIPTOR(k))       (SELECT DISTINCT ON (k) * FROM t)
 *     drop_duplicates_within_watermark(...)         the same, with a mark for the planner
 *
 *     SELECT window_start, k, ... FROM SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap)
 *     GROUP BY window_start, window_end, k
 *                                                   SELECT session_start(ts, gap), k, ... FROM t
 *                                                   GROUP BY session_start(..), session_end(..), k
 *
 * The DISTINCT_MODIFIER gets "mr_all" and "mr_within" (modifiers.c).
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

static bool is_function(const struct mr_json *node, const char *const *names, size_t count)
{
    const char *name = mr_sql__function(node);

    for (size_t i = 0; name != NULL && i < count; i++) {
        if (mr_sql__same_name(name, names[i]))
            return true;
    }
    return false;
}

/* The argument that is a call of that name (descriptor, mr_partition), or NULL. */
static struct mr_json *call_argument(struct mr_json *function, const char *name)
{
    struct mr_json *children = mr_json_get(function, "children");

    for (struct mr_json *child = children != NULL ? children->first : NULL; child != NULL;
         child = child->next) {
        if (is_function(child, &name, 1))
            return child;
    }
    return NULL;
}

/* ---- drop_duplicates ---- */

static bool drops_within(const struct mr_json *function)
{
    static const char *const names[] = {"drop_duplicates_within_watermark",
                                        "dropDuplicatesWithinWatermark"};

    return is_function(function, names, MR_ARRAY_SIZE(names));
}

static bool drops(const struct mr_json *function)
{
    static const char *const names[] = {"drop_duplicates", "dropDuplicates"};

    return is_function(function, names, MR_ARRAY_SIZE(names)) || drops_within(function);
}

/* WATERMARK and ON LATE (clauses.c) stay where they mean something. */
static void move_clause(struct mr_sql_planner *p, const struct mr_json *from, struct mr_json *to)
{
    const struct mr_json *clause = mr_json_get(from, "mr_clause");

    if (clause != NULL)
        mr_json_put(&p->arena, to, "mr_clause", mr_json_copy(&p->arena, clause));
}

static enum mr_status replace_drop(struct mr_sql_planner *p, struct mr_sql_query *query,
                                   struct mr_json *node)
{
    struct mr_json *function = mr_json_get(node, "function");
    struct mr_json *children = mr_json_get(function, "children");
    struct mr_json *table = children != NULL ? children->first : NULL;
    struct mr_json *keys = call_argument(function, "descriptor");
    const struct mr_json *names = mr_json_get(table, "column_names");
    struct mr_buf sql = MR_BUF_INIT;
    const char *text;
    struct mr_json *select = NULL;
    struct mr_json *modifier;
    enum mr_status status = MR_OK;

    if (children == NULL || names == NULL || children->count != (keys != NULL ? 2u : 1u) ||
        keys == table)
        return mr_sql__fail(p, query, function,
                            "write drop_duplicates(TABLE t, DESCRIPTOR(k, ...)), or "
                            "drop_duplicates(TABLE t) to compare all columns");
    mr_buf_add_str(&sql, "SELECT * FROM (SELECT DISTINCT ON (");
    for (struct mr_json *key = keys != NULL ? mr_json_get(keys, "children")->first : NULL;
         key != NULL && status == MR_OK; key = key->next) {
        status = mr_sql__expression_text(p, key, &text);
        if (status == MR_OK)
            mr_buf_printf(&sql, "%s%s", key == mr_json_get(keys, "children")->first ? "" : ", ",
                          text);
    }
    if (keys == NULL)
        mr_buf_add_char(&sql, '*');
    mr_buf_add_str(&sql, ") * FROM ");
    mr_sql__add_quoted(&sql, names->last->text);
    mr_buf_add_str(&sql, ") AS ");
    mr_sql__add_quoted(&sql,
                       mr_sql__alias(node)[0] != '\0' ? mr_sql__alias(node) : names->last->text);
    if (status == MR_OK)
        status = sql.failed ? mr_sql__no_memory(p) : mr_sql__parse_select(p, sql.data, &select);
    mr_buf_release(&sql);
    MR_TRY(status);
    select = mr_json_get(select, "from_table");
    modifier =
        mr_json_get(mr_json_get(mr_json_get(select, "subquery"), "node"), "modifiers")->first;
    mr_json_put(&p->arena, modifier, "mr_within",
                mr_json_new_bool(&p->arena, drops_within(function)));
    mr_json_put(&p->arena, modifier, "mr_all", mr_json_new_bool(&p->arena, keys == NULL));
    move_clause(p, node, select);
    mr_sql__replace(node, select);
    return MR_OK;
}

/* ---- SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), gap) ---- */

struct session_table {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    const char *alias;
    struct mr_json *time; /* column */
    struct mr_json *gap;
};

/* window_start and window_end, also behind the table's alias, become calls. */
static enum mr_status replace_columns(const struct session_table *table, struct mr_json *node)
{
    const struct mr_json *names = mr_json_get(node, "column_names");
    struct mr_json *arguments[2] = {table->time, table->gap};
    struct mr_json *call;
    bool start;

    if (node == NULL || mr_sql__class_is(node, "SUBQUERY"))
        return MR_OK;
    if (!mr_sql__class_is(node, "COLUMN_REF")) {
        for (struct mr_json *child = node->first; child != NULL; child = child->next)
            MR_TRY(replace_columns(table, child));
        return MR_OK;
    }
    start = mr_sql__same_name(names->last->text, "window_start");
    if ((!start && !mr_sql__same_name(names->last->text, "window_end")) || names->count > 2 ||
        (names->count == 2 && !mr_sql__same_name(names->first->text, table->alias)))
        return MR_OK;
    call = mr_sql__call(table->p, start ? "session_start" : "session_end", arguments, NULL, 2);
    if (call == NULL)
        return mr_sql__no_memory(table->p);
    mr_sql__set_alias(table->p, call,
                      mr_sql__alias(node)[0] != '\0' ? mr_sql__alias(node) : names->last->text);
    mr_sql__replace(node, call);
    return MR_OK;
}

static bool is_session_part(const struct mr_json *node)
{
    return mr_sql__function(node) != NULL &&
           (mr_sql__same_name(mr_sql__function(node), "session_start") ||
            mr_sql__same_name(mr_sql__function(node), "session_end"));
}

/* The column a key names: itself, or the item of the list at that position. */
static const char *key_name(const struct mr_json *list, const struct mr_json *key)
{
    const struct mr_json *value = mr_json_get(mr_json_get(key, "value"), "value");
    const struct mr_json *names;
    int64_t number;

    if (mr_sql__class_is(key, "CONSTANT") && mr_json_int(value, &number) && number >= 1 &&
        (uint64_t)number <= list->count)
        key = mr_json_at(list, (size_t)number - 1);
    if (is_session_part(key))
        return "";
    names = mr_json_get(key, "column_names");
    return names != NULL ? names->last->text : NULL;
}

/* The keys of GROUP BY besides the session must be those of PARTITION BY: then both mean the same
 * sessions. */
static enum mr_status check_partition(const struct session_table *table, struct mr_json *node,
                                      struct mr_json *function)
{
    const struct mr_json *list = mr_json_get(node, "select_list");
    const struct mr_json *groups = mr_json_get(node, "group_expressions");
    struct mr_json *partition = call_argument(function, "mr_partition");
    const struct mr_json *columns = mr_json_get(partition, "children");
    static const char *const row[] = {"row"};
    size_t sessions = 0;
    size_t others = 0;

    if (columns != NULL && columns->count == 1 && is_function(columns->first, row, 1))
        columns = mr_json_get(columns->first, "children"); /* PARTITION BY (a, b) */
    if (partition == NULL)
        return mr_sql__fail(
            table->p, table->query, function,
            "SESSION over a stream needs PARTITION BY: sessions over all rows would "
            "hardly ever end; write SESSION(TABLE t PARTITION BY k, "
            "DESCRIPTOR(ts), gap)");
    for (const struct mr_json *key = groups != NULL ? groups->first : NULL; key != NULL;
         key = key->next) {
        const char *name = key_name(list, key);
        bool known = name != NULL && name[0] == '\0';

        sessions += known;
        others += !known;
        for (const struct mr_json *column = columns != NULL ? columns->first : NULL;
             column != NULL && !known && name != NULL; column = column->next)
            known = mr_sql__same_name(mr_json_get(column, "column_names")->last->text, name);
        if (!known)
            return mr_sql__fail(table->p, table->query, key,
                                "GROUP BY of sessions must have the columns of PARTITION BY and "
                                "window_start, window_end, nothing else");
    }
    if (sessions == 0 || others != columns->count)
        return mr_sql__fail(table->p, table->query, function,
                            "SESSION(...) needs GROUP BY window_start, window_end and the columns "
                            "of its PARTITION BY");
    return MR_OK;
}

static enum mr_status replace_session(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node)
{
    static const char *const parts[] = {"select_list", "group_expressions", "having", "modifiers",
                                        "where_clause"};
    struct mr_json *from = mr_json_get(node, "from_table");
    struct mr_json *function = mr_json_get(from, "function");
    struct mr_json *children = mr_json_get(function, "children");
    struct mr_json *time = call_argument(function, "descriptor");
    const struct mr_json *names =
        children != NULL ? mr_json_get(children->first, "column_names") : NULL;
    struct session_table table = {.p = p, .query = query};
    struct mr_json *base;

    if (names == NULL || time == NULL || mr_json_get(time, "children")->count != 1 ||
        mr_json_get(mr_json_get(time, "children")->first, "column_names") == NULL ||
        children->count < 3 || children->last == time)
        return mr_sql__fail(p, query, function,
                            "write SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10 "
                            "minutes')");
    table.alias = mr_sql__alias(from)[0] != '\0' ? mr_sql__alias(from) : names->last->text;
    table.time = mr_json_get(time, "children")->first;
    table.gap = mr_json_copy(&p->arena, children->last);
    base = mr_sql__table_ref(p, names->last->text, table.alias);
    if (table.gap == NULL || base == NULL)
        return mr_sql__no_memory(p);
    mr_sql__set_alias(p, table.gap, "");
    for (size_t i = 0; i < MR_ARRAY_SIZE(parts); i++)
        MR_TRY(replace_columns(&table, mr_json_get(node, parts[i])));
    MR_TRY(check_partition(&table, node, function));
    mr_sql__replace(from, base);
    return MR_OK;
}

static bool aggregates(const struct mr_json *node)
{
    const struct mr_json *groups = mr_json_get(node, "group_expressions");

    return (groups != NULL && groups->count > 0) ||
           mr_json_is(mr_json_get(node, "aggregate_handling"), "FORCE_AGGREGATES");
}

enum mr_status mr_sql__desugar(struct mr_sql_planner *p, struct mr_sql_query *query,
                               struct mr_json *node)
{
    static const char *const session[] = {"session"};
    struct mr_json *from = mr_json_get(node, "from_table");

    if (node == NULL)
        return MR_OK;
    if (mr_sql__type_is(node, "SELECT_NODE") && mr_sql__type_is(from, "TABLE_FUNCTION") &&
        is_function(mr_json_get(from, "function"), session, 1))
        MR_TRY(replace_session(p, query, node));
    if (mr_sql__type_is(node, "TABLE_FUNCTION") && drops(mr_json_get(node, "function")))
        return replace_drop(p, query, node);
    if (mr_sql__type_is(node, "SELECT_NODE") && mr_sql__type_is(from, "TABLE_FUNCTION") &&
        drops(mr_json_get(from, "function")) && !aggregates(node)) {
        MR_TRY(replace_drop(p, query, from)); /* its late rows are those of the SELECT */
        move_clause(p, node, mr_json_get(mr_json_get(from, "subquery"), "node"));
        if (mr_json_get(node, "mr_clause") != NULL)
            mr_json_put(&p->arena, node, "mr_clause", mr_json_new_null(&p->arena));
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(mr_sql__desugar(p, query, child));
    return MR_OK;
}
