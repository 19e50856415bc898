/*
 * Which columns of which source are used: a dry walk over everything an INSERT reads, before any
 * node is made, so that a source that several queries share is read once with the columns all of
 * them need.
 *
 *     a block needs of its inputs    the names in its expressions;  all columns when it has a star;
 *                                    with SELECT * alone: what the block around it needs
 *
 * The walk goes by name and errs on the side of more: a name that is a column of two inputs is
 * needed of both.
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

struct name {
    const char *text;
    const char *qualifier; /* NULL: none; a table's alias, or a column of which text is a field */
    bool alias; /* also the alias of a result column: no reason to guess that stdin has it */
    struct name *next;
};

enum { WALKS_MAX = 16 };

struct need {
    bool all;
    struct name *names;
};

static enum mr_status walk(struct mr_sql_planner *p, struct mr_sql_query *query,
                           struct mr_json *node, const struct mr_sql_scope *scope,
                           const struct need *outer);

static bool has_name(const struct need *need, const char *text)
{
    for (const struct name *name = need->names; name != NULL; name = name->next) {
        if (mr_sql__same_name(name->text, text))
            return true;
    }
    return false;
}

static enum mr_status add_qualified(struct mr_sql_planner *p, struct need *need,
                                    const char *qualifier, const char *text)
{
    struct name *name;

    for (name = need->names; name != NULL; name = name->next) {
        if (mr_sql__same_name(name->text, text) &&
            (qualifier == NULL) == (name->qualifier == NULL) &&
            (qualifier == NULL || mr_sql__same_name(qualifier, name->qualifier)))
            return MR_OK;
    }
    name = mr_arena_alloc(&p->arena, sizeof(*name));
    if (name == NULL)
        return mr_sql__no_memory(p);
    name->text = text;
    name->qualifier = qualifier;
    name->alias = false;
    name->next = need->names;
    need->names = name;
    return MR_OK;
}

static enum mr_status add_name(struct mr_sql_planner *p, struct need *need, const char *text)
{
    return text == NULL ? MR_OK : add_qualified(p, need, NULL, text);
}

/*
 * What is needed of the input that the query calls `alias`, without qualifiers:
 *
 *     a.x    of a: x;    of others: a, which may be a column with a field x
 */
static enum mr_status need_of_alias(struct mr_sql_planner *p, const struct need *need,
                                    const char *alias, struct need *ret_need)
{
    *ret_need = (struct need){.all = need->all};
    for (const struct name *name = need->names; name != NULL; name = name->next) {
        bool ours = name->qualifier == NULL || mr_sql__same_name(name->qualifier, alias);

        const struct name *before = ret_need->names;

        MR_TRY(add_name(p, ret_need, ours ? name->text : name->qualifier));
        if (ret_need->names != before && (!ours || name->alias))
            ret_need->names->alias = true; /* no reason to guess it */
    }
    return MR_OK;
}

/* Names in an expression or list of them; stars and positions need everything. */
static enum mr_status collect(struct mr_sql_planner *p, const struct mr_json *node,
                              struct need *need)
{
    if (node == NULL)
        return MR_OK;
    if (mr_sql__class_is(node, "COLUMN_REF")) {
        const struct mr_json *names = mr_json_get(node, "column_names");

        if (names == NULL || names->first == NULL)
            return MR_OK;
        if (names->first->next == NULL)
            return add_name(p, need, names->first->text);
        return add_qualified(p, need, names->first->text, names->first->next->text);
    }
    if (mr_sql__class_is(node, "STAR") || mr_sql__class_is(node, "POSITIONAL_REFERENCE"))
        need->all = true;
    for (const struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(collect(p, child, need));
    return MR_OK;
}

static enum mr_status need_of_table(struct mr_sql_planner *p, struct mr_sql_table *table,
                                    const char *alias, const struct need *need)
{
    MR_TRY(mr_sql__resolve_source(p, table));
    if (need->all || has_name(need, alias))
        table->needs_all = table->needs_all || need->all || table->statement == NULL ||
                           mr_schema_find(table->full, alias, strlen(alias)) < 0;
    for (const struct name *name = need->names; name != NULL; name = name->next) {
        int32_t index;

        if (table->statement == NULL) {
            bool known = name->alias || mr_sql__same_name(name->text, alias);

            for (size_t i = 0; i < table->guessed_count; i++)
                known = known || mr_sql__same_name(table->guessed[i], name->text);
            if (known || table->guessed_count == MR_SQL_OPTIONS_MAX)
                continue;
            if (table->guessed == NULL)
                table->guessed =
                    mr_arena_alloc(&p->arena, MR_SQL_OPTIONS_MAX * sizeof(*table->guessed));
            if (table->guessed == NULL)
                return mr_sql__no_memory(p);
            table->guessed[table->guessed_count++] = name->text;
            continue;
        }
        index = mr_schema_find(table->full, name->text, strlen(name->text));
        if (index >= 0)
            table->needed[index] = true;
    }
    return MR_OK;
}

/* What is below a view of its own mode is read by the view. */
static enum mr_status walk_view(struct mr_sql_planner *p, struct mr_sql_view *view,
                                const struct need *need)
{
    enum mr_output_mode mode = p->mode;
    const char *reader = p->reader;
    struct mr_buf text = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    p->mode = mr_sql__view_mode(p, view);
    if (view->readers[p->mode] == NULL)
        view->readers[p->mode] = p->reader;
    if (view->statement != NULL && view->statement->appends) {
        mr_buf_printf(&text, "MATERIALIZED VIEW %s", view->name);
        p->reader = text.failed ? NULL : mr_arena_copy(&p->arena, text.data, text.size);
        mr_buf_release(&text);
        status = p->reader != NULL ? MR_OK : mr_sql__no_memory(p);
    }
    if (status == MR_OK)
        status = walk(p, view->query, view->query->node, NULL, need);
    p->mode = mode;
    p->reader = reader;
    return status;
}

static enum mr_status walk_name(struct mr_sql_planner *p, struct mr_sql_query *query,
                                const struct mr_json *node, const char *name, const char *alias,
                                const struct mr_sql_scope *scope, const struct need *need)
{
    static const struct need everything = {.all = true};
    struct mr_sql_table *table;
    struct mr_sql_view *view;
    struct need own;
    enum mr_status status;

    MR_TRY(need_of_alias(p, need, alias[0] != '\0' ? alias : name, &own));
    need = &own;
    for (; scope != NULL; scope = scope->next) {
        if (mr_sql__same_name(scope->name, name))
            return walk(p, query, scope->node, scope->outer, need);
    }
    view = mr_sql__view(p, name);
    if (view != NULL) {
        if (view->busy)
            return mr_sql__fail(p, query, node, "view '%s' is made of itself", name);
        if (view->walked && view->readers[mr_sql__view_mode(p, view)] != NULL)
            return MR_OK;
        view->busy = true;
        if (++view->walks > WALKS_MAX)
            need = &everything;
        if (view->statement != NULL && view->statement->insert_column_count > 0)
            need = &everything; /* CREATE VIEW v (a, b): its names are not those of its query */
        if (view->program != NULL)
            need = &everything; /* nor are those of what a program's function gives */
        status = walk_view(p, view, need);
        view->walked = view->walked || need->all;
        view->busy = false;
        return status;
    }
    table = mr_sql__table(p, name);
    if (table == NULL)
        return mr_sql__unknown_table(p, query, node, name);
    return need_of_table(p, table, alias[0] != '\0' ? alias : name, need);
}

/* A subquery on the right of a join may name columns of the left (LATERAL). */
static enum mr_status add_lateral(struct mr_sql_planner *p, const struct mr_json *right,
                                  struct need *need)
{
    struct need inner = {0};

    if (!mr_sql__type_is(right, "SUBQUERY"))
        return MR_OK;
    MR_TRY(collect(p, mr_json_get(right, "subquery"), &inner));
    for (const struct name *name = inner.names; name != NULL; name = name->next)
        MR_TRY(add_name(p, need, name->text));
    return MR_OK;
}

static enum mr_status walk_from(struct mr_sql_planner *p, struct mr_sql_query *query,
                                struct mr_json *from, const struct mr_sql_scope *scope,
                                struct need *need)
{
    struct mr_json *function;
    struct mr_sql_window window;
    struct mr_json *table;
    const char *column;

    if (from == NULL || from->kind != MR_JSON_OBJECT)
        return MR_OK;
    MR_TRY(add_name(p, need, mr_sql__watermark_column(query, from)));
    if (mr_sql__type_is(from, "BASE_TABLE"))
        return walk_name(p, query, from, mr_json_text(from, "table_name"), mr_sql__alias(from),
                         scope, need);
    if (mr_sql__type_is(from, "SUBQUERY")) {
        struct need own;

        MR_TRY(need_of_alias(p, need, mr_sql__alias(from), &own));
        return walk(p, query, mr_json_get(mr_json_get(from, "subquery"), "node"), scope, &own);
    }
    if (mr_sql__type_is(from, "JOIN")) {
        if (!mr_json_is(mr_json_get(from, "ref_type"), "REGULAR") &&
            !mr_json_is(mr_json_get(from, "ref_type"), "CROSS"))
            need->all = true; /* NATURAL and the rest */
        MR_TRY(add_lateral(p, mr_json_get(from, "right"), need));
        MR_TRY(walk_from(p, query, mr_json_get(from, "left"), scope, need));
        return walk_from(p, query, mr_json_get(from, "right"), scope, need);
    }
    function = mr_json_get(from, "function");
    if (!mr_sql__type_is(from, "TABLE_FUNCTION") || !mr_sql__is_window_table(function))
        return MR_OK;
    MR_TRY(mr_sql__window_table(p, query, function, &table, &column, &window));
    MR_TRY(add_name(p, need, column));
    return walk_name(p, query, table, mr_json_get(table, "column_names")->last->text,
                     mr_sql__alias(from), scope, need);
}

/* What the JOINs of a FROM name: conditions and USING. */
static enum mr_status collect_from(struct mr_sql_planner *p, const struct mr_json *from,
                                   struct need *need)
{
    if (from == NULL || from->kind != MR_JSON_OBJECT)
        return MR_OK;
    if (mr_sql__type_is(from, "TABLE_FUNCTION")) {
        const struct mr_json *function = mr_json_get(from, "function");

        /* the table that a window is made over stands there like a column of its name, which would
         * mean all of it; walk_from sees to it */
        return mr_sql__is_window_table(function) ? MR_OK : collect(p, function, need);
    }
    if (!mr_sql__type_is(from, "JOIN"))
        return MR_OK;
    MR_TRY(collect(p, mr_json_get(from, "condition"), need));
    for (const struct mr_json *name = mr_json_get(from, "using_columns") != NULL
                                          ? mr_json_get(from, "using_columns")->first
                                          : NULL;
         name != NULL; name = name->next)
        MR_TRY(add_name(p, need, name->text));
    MR_TRY(collect_from(p, mr_json_get(from, "left"), need));
    return collect_from(p, mr_json_get(from, "right"), need);
}

/* Subqueries in expressions read static tables: whole. */
static enum mr_status walk_expressions(struct mr_sql_planner *p, struct mr_sql_query *query,
                                       struct mr_json *node, const struct mr_sql_scope *scope)
{
    static const struct need everything = {.all = true};

    if (node == NULL)
        return MR_OK;
    if (mr_sql__class_is(node, "SUBQUERY"))
        return walk(p, query, mr_json_get(mr_json_get(node, "subquery"), "node"), scope,
                    &everything);
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(walk_expressions(p, query, child, scope));
    return MR_OK;
}

/* Those in the conditions of joins, too. */
static enum mr_status walk_conditions(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      const struct mr_json *from, const struct mr_sql_scope *scope)
{
    if (from == NULL || !mr_sql__type_is(from, "JOIN"))
        return MR_OK;
    MR_TRY(walk_expressions(p, query, mr_json_get(from, "condition"), scope));
    MR_TRY(walk_conditions(p, query, mr_json_get(from, "left"), scope));
    return walk_conditions(p, query, mr_json_get(from, "right"), scope);
}

static bool is_alias(const struct mr_json *list, const char *text)
{
    for (const struct mr_json *item = list != NULL ? list->first : NULL; item != NULL;
         item = item->next) {
        if (mr_sql__same_name(mr_sql__alias(item), text))
            return true;
    }
    return false;
}

/* Late rows go to a table with the columns that it declares; all, when it declares none. */
static enum mr_status need_of_late(struct mr_sql_planner *p, const struct mr_sql_table *late,
                                   struct need *need)
{
    const struct mr_schema *columns =
        late != NULL && late->statement != NULL ? late->statement->columns : NULL;

    need->all = need->all || (late != NULL && columns == NULL);
    for (uint32_t i = 0; columns != NULL && i < mr_schema_field_count(columns); i++)
        MR_TRY(add_name(p, need, mr_schema_field(columns, i)->name));
    return MR_OK;
}

static enum mr_status walk_select(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  const struct need *outer)
{
    static const char *const parts[] = {"where_clause", "group_expressions", "having", "modifiers",
                                        "qualify"};
    struct mr_json *list = mr_json_get(node, "select_list");
    const struct mr_sql_table *late = mr_sql__late_table(p, query, node);
    struct need need = {0};
    struct name *selected;

    if (list != NULL && list->count == 1 && mr_sql__plain_star(list->first)) {
        need = *outer;
    } else {
        MR_TRY(collect(p, list, &need));
        MR_TRY(walk_expressions(p, query, list, scope));
    }
    selected = need.names;
    for (size_t i = 0; i < MR_ARRAY_SIZE(parts); i++) {
        struct mr_json *part = mr_json_get(node, parts[i]);

        MR_TRY(collect(p, part, &need));
        MR_TRY(walk_expressions(p, query, part, scope));
    }
    for (struct name *name = need.names; name != NULL && name != selected; name = name->next)
        name->alias = is_alias(list, name->text);
    MR_TRY(need_of_late(p, late, &need));
    MR_TRY(collect_from(p, mr_json_get(node, "from_table"), &need));
    MR_TRY(walk_conditions(p, query, mr_json_get(node, "from_table"), scope));
    return walk_from(p, query, mr_json_get(node, "from_table"), scope, &need);
}

static enum mr_status walk(struct mr_sql_planner *p, struct mr_sql_query *query,
                           struct mr_json *node, const struct mr_sql_scope *scope,
                           const struct need *outer)
{
    static const struct need everything = {.all = true};
    enum mr_status status;

    if (node == NULL)
        return MR_OK;
    if (p->depth >= MR_SQL_DEPTH_MAX)
        return mr_sql__fail(p, query, NULL, "more than %d queries inside each other",
                            MR_SQL_DEPTH_MAX);
    if (++p->walks > MR_SQL_WALKS_MAX)
        return mr_sql__fail(p, query, NULL,
                            "with its WITH queries put in where they are read, this is more than "
                            "%d queries; make views of those that are read several times",
                            MR_SQL_WALKS_MAX);
    MR_TRY(mr_sql__ctes(p, node, &scope));
    p->depth++;
    if (mr_sql__type_is(node, "SELECT_NODE")) {
        status = walk_select(p, query, node, scope, outer);
    } else {
        status = walk(p, query, mr_json_get(node, "left"), scope, &everything);
        if (status == MR_OK)
            status = walk(p, query, mr_json_get(node, "right"), scope, &everything);
    }
    p->depth--;
    return status;
}

enum mr_status mr_sql__needs(struct mr_sql_planner *p, struct mr_sql_query *query)
{
    static const struct need everything = {.all = true};

    return walk(p, query, query->node, NULL, &everything);
}
