/*
 * FROM: which relations a block reads. Streams are planned recursively, so that a block sees one
 * stream as a node with a schema; static tables become further inputs of the block's statement, and
 * subqueries over static tables stay in its text.
 *
 *     table        source node (narrow columns, watermark) view, CTE, subquery planned as a block
 *                  of its own
 *     TUMBLE, HOP  the table with window_start and window_end
 *     static table an input that is read once
 *     JOIN         stream with static; the stream must be the side that is kept
 *
 * Thread: the planner's.
 */
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

struct walk {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    struct mr_sql_from *from;
    bool joined_right; /* on the right of a JOIN: a 'file' table is static there */
};

static enum mr_status visit(struct walk *walk, struct mr_json *node,
                            const struct mr_sql_scope *scope, bool *ret_stream);

static const char own_prefix[] = "mr_stream_";

static struct mr_sql_rel *own_stream(struct mr_sql_planner *p, const char *name)
{
    for (struct mr_sql_own *own = p->own; own != NULL; own = own->next) {
        if (strcmp(own->name, name) == 0)
            return &own->rel;
    }
    return NULL;
}

const struct mr_sql_mark *mr_sql__mark_of(const struct mr_sql_rel *rel, uint32_t column)
{
    for (uint32_t i = 0; rel != NULL && i < rel->mark_count; i++) {
        if (rel->marks[i].column == column)
            return &rel->marks[i];
    }
    return NULL;
}

bool mr_sql__resolve(const struct mr_sql_from *from, const struct mr_json *reference,
                     uint32_t *ret_leaf, uint32_t *ret_column, size_t *ret_rest)
{
    const struct mr_json *names = mr_json_get(reference, "column_names");
    const struct mr_json *first = names != NULL ? names->first : NULL;

    if (first == NULL)
        return false;
    if (first->next != NULL) { /* alias.column wins over column.field */
        for (uint32_t i = 0; i < from->count; i++) {
            const struct mr_sql_leaf *leaf = &from->leaves[i];
            int32_t column;

            if (leaf->schema == NULL || !mr_sql__same_name(leaf->alias, first->text))
                continue;
            column = mr_schema_find(leaf->schema, first->next->text, strlen(first->next->text));
            if (column < 0)
                continue;
            *ret_leaf = i;
            *ret_column = (uint32_t)column;
            *ret_rest = names->count - 2;
            return true;
        }
    }
    for (uint32_t i = 0; i < from->count; i++) {
        const struct mr_sql_leaf *leaf = &from->leaves[i];
        int32_t column = leaf->schema != NULL
                             ? mr_schema_find(leaf->schema, first->text, strlen(first->text))
                             : -1;

        if (column < 0)
            continue;
        *ret_leaf = i;
        *ret_column = (uint32_t)column;
        *ret_rest = names->count - 1;
        return true;
    }
    return false;
}

/* ---- Leaves ---- */

static enum mr_status add_leaf(struct walk *walk, struct mr_json *node, const char *alias,
                               struct mr_sql_leaf **ret_leaf)
{
    struct mr_sql_planner *p = walk->p;
    struct mr_sql_leaf *leaf = &walk->from->leaves[walk->from->count];
    struct mr_buf name = MR_BUF_INIT;

    if (walk->from->count == MR_SQL_INPUTS_MAX)
        return mr_sql__fail(p, walk->query, node, "more than %d tables in one FROM",
                            MR_SQL_INPUTS_MAX);
    memset(leaf, 0, sizeof(*leaf));
    mr_buf_printf(&name, "mr_input_%u", walk->from->count);
    leaf->alias = alias;
    leaf->input = name.failed ? NULL : mr_arena_copy(&p->arena, name.data, name.size);
    mr_buf_release(&name);
    if (leaf->input == NULL)
        return mr_sql__no_memory(p);
    walk->from->count++;
    *ret_leaf = leaf;
    return MR_OK;
}

/* The leaf's place in the tree becomes a table of its input's name. */
static enum mr_status put_leaf(struct walk *walk, struct mr_json *node,
                               const struct mr_sql_leaf *leaf)
{
    struct mr_json *table = mr_sql__table_ref(walk->p, leaf->input, leaf->alias);
    struct mr_json *aliases = mr_json_get(node, "column_name_alias");

    if (table == NULL)
        return mr_sql__no_memory(walk->p);
    if (aliases != NULL && aliases->count > 0)
        return mr_sql__fail(
            walk->p, walk->query, node,
            "new names for the columns of '%s' are not supported; give them in its SELECT",
            leaf->alias);
    mr_sql__replace(node, table);
    return MR_OK;
}

static enum mr_status stream_leaf(struct walk *walk, struct mr_json *node, const char *alias,
                                  struct mr_sql_rel *rel)
{
    struct mr_sql_leaf *leaf = NULL;

    MR_TRY(mr_sql__clause_watermark(walk->p, walk->query, node, &rel));
    if (walk->from->stream >= 0)
        return mr_sql__fail(walk->p, walk->query, node,
                            "'%s' and '%s' are both streams here; write static = 'false' in "
                            "the WITH of a table on the right to join streams, static = 'true' "
                            "in that of one that is read once",
                            walk->from->leaves[walk->from->stream].alias, alias);
    MR_TRY(add_leaf(walk, node, alias, &leaf));
    MR_ASSERT(leaf != NULL);
    leaf->rel = rel;
    leaf->schema = rel->schema;
    walk->from->stream = (int32_t)walk->from->count - 1;
    return put_leaf(walk, node, leaf);
}

static enum mr_status static_leaf(struct walk *walk, struct mr_json *node, const char *alias,
                                  struct mr_sql_table *table)
{
    struct mr_sql_planner *p = walk->p;
    struct mr_sql_leaf *leaf = NULL;

    MR_TRY(mr_sql__check_static(p, table));
    MR_TRY(mr_sql__source_prepare(p, table));
    if (table->rows == NULL) {
        if (!p->args->check_only) {
            MR_TRY(mr_sql__static_read(p->args->env, table, &table->rows, p->err));
        } else {
            table->rows = mr_alloc_zero(NULL, sizeof(*table->rows));
            if (table->rows == NULL)
                return mr_sql__no_memory(p);
        }
        mr_buf_printf(&p->text, "static table %s: %s\n", table->name, table->connector);
    }
    MR_TRY(add_leaf(walk, node, alias, &leaf));
    MR_ASSERT(leaf != NULL);
    leaf->is_static = true;
    leaf->schema = table->narrow;
    leaf->rows = table->rows;
    return put_leaf(walk, node, leaf);
}

/* A 'file' table on the right of a JOIN is read as a whole, unless it says static = 'false' or has
 * a watermark, as only streams do. */
static bool is_static_table(const struct mr_sql_table *table, bool on_right)
{
    return table->is_static ||
           (on_right && table->rel == NULL && !table->is_stream && table->statement != NULL &&
            table->statement->watermark == NULL && mr_sql__same_name(table->connector, "file"));
}

static enum mr_status table_leaf(struct walk *walk, struct mr_json *node, const char *alias,
                                 struct mr_sql_table *table, bool *ret_stream)
{
    struct mr_sql_rel *rel;

    MR_TRY(mr_sql__resolve_source(walk->p, table));
    if (is_static_table(table, walk->joined_right)) {
        *ret_stream = false;
        return static_leaf(walk, node, alias, table);
    }
    *ret_stream = true;
    MR_TRY(mr_sql__source_rel(walk->p, table, &rel));
    return stream_leaf(walk, node, alias, rel);
}

/* ---- Subqueries, views, names ---- */

/* True when nothing below a query node is a stream: then DuckDB may see it as it is. */
static bool is_static(struct mr_sql_planner *p, const struct mr_json *node,
                      const struct mr_sql_scope *scope, unsigned depth)
{
    const char *name = mr_json_text(node, "table_name");

    if (node == NULL)
        return true;
    if (depth > MR_SQL_TREE_DEPTH_MAX)
        return false; /* who plans it will say so */
    if (mr_sql__type_is(node, "TABLE_FUNCTION") &&
        mr_sql__is_window_table(mr_json_get(node, "function")))
        return false;
    if (mr_sql__type_is(node, "BASE_TABLE") && name != NULL) {
        const struct mr_sql_table *table = mr_sql__table(p, name);
        struct mr_sql_view *view = mr_sql__view(p, name);

        for (const struct mr_sql_scope *one = scope; one != NULL; one = one->next) {
            if (mr_sql__same_name(one->name, name))
                return is_static(p, one->node, one->outer, depth + 1);
        }
        if (view != NULL) {
            if (view->static_known)
                return view->is_static;
            view->static_known = true;
            view->is_static = true; /* met again below itself */
            view->is_static = is_static(p, view->query->node, NULL, depth + 1);
            return view->is_static;
        }
        return strncmp(name, "mr_input_", 9) == 0 || (table != NULL && table->is_static);
    }
    if (mr_json_get(node, "cte_map") != NULL &&
        mr_sql__ctes(p, (struct mr_json *)(uintptr_t)node, &scope) != MR_OK)
        return false;
    for (const struct mr_json *child = node->first; child != NULL; child = child->next) {
        if (!is_static(p, child, scope, depth + 1))
            return false;
    }
    return true;
}

static enum mr_status adopt_static(struct walk *walk, struct mr_json *node,
                                   const struct mr_sql_scope *scope);

/* A view or CTE over static tables stands in the tree as a subquery. */
static enum mr_status adopt_query(struct walk *walk, struct mr_json *node, const char *alias,
                                  const struct mr_json *query, const struct mr_sql_scope *scope)
{
    struct mr_sql_planner *p = walk->p;
    struct mr_arena *arena = &p->arena;
    struct mr_json *copy = mr_json_copy(arena, query);
    struct mr_json *subquery = mr_json_new_object(arena);
    struct mr_json *table = mr_json_new_object(arena);
    struct mr_json *columns = mr_json_copy(arena, mr_json_get(node, "column_name_alias"));
    enum mr_status status;

    if (p->depth >= MR_SQL_DEPTH_MAX)
        return mr_sql__fail(p, walk->query, node, "more than %d queries inside each other",
                            MR_SQL_DEPTH_MAX);
    if (copy == NULL || subquery == NULL || table == NULL)
        return mr_sql__no_memory(p);
    p->depth++;
    status = adopt_static(walk, copy, scope);
    p->depth--;
    MR_TRY(status);
    mr_json_put(arena, subquery, "node", copy);
    mr_json_put(arena, subquery, "named_param_map", mr_json_new_array(arena));
    mr_json_put(arena, table, "type", mr_json_new_string(arena, "SUBQUERY"));
    mr_json_put(arena, table, "alias", mr_json_new_string(arena, alias));
    mr_json_put(arena, table, "sample", mr_json_new_null(arena));
    mr_json_put(arena, table, "subquery", subquery);
    mr_json_put(arena, table, "column_name_alias",
                columns != NULL ? columns : mr_json_new_array(arena));
    mr_sql__replace(node, table);
    return MR_OK;
}

static enum mr_status adopt_view(struct walk *walk, struct mr_json *node, const char *alias,
                                 const struct mr_sql_view *view)
{
    const struct mr_sql_statement *statement = view->statement;
    struct mr_arena *arena = &walk->p->arena;
    struct mr_json *names = mr_json_get(node, "column_name_alias");

    if (statement != NULL && statement->insert_column_count > 0 &&
        (names == NULL || names->count == 0)) { /* CREATE VIEW v (a, b) */
        names = mr_json_new_array(arena);
        if (names == NULL)
            return mr_sql__no_memory(walk->p);
        for (size_t i = 0; i < statement->insert_column_count; i++)
            mr_json_push(names, mr_json_new_string(arena, statement->insert_columns[i]));
        mr_json_put(arena, node, "column_name_alias", names);
    }
    return adopt_query(walk, node, alias, view->query->node, NULL);
}

/* Static tables anywhere below a static query become inputs; views and CTEs become subqueries. */
static enum mr_status adopt_static(struct walk *walk, struct mr_json *node,
                                   const struct mr_sql_scope *scope)
{
    struct mr_sql_planner *p = walk->p;
    const char *name = mr_json_text(node, "table_name");

    if (node == NULL)
        return MR_OK;
    if (mr_sql__type_is(node, "BASE_TABLE") && name != NULL) {
        struct mr_sql_table *table = mr_sql__table(p, name);
        struct mr_sql_view *view = mr_sql__view(p, name);
        const char *alias = mr_sql__alias(node)[0] != '\0' ? mr_sql__alias(node) : name;

        for (const struct mr_sql_scope *one = scope; one != NULL; one = one->next) {
            if (mr_sql__same_name(one->name, name))
                return adopt_query(walk, node, alias, one->node, one->outer);
        }
        if (view != NULL)
            return adopt_view(walk, node, alias, view);
        if (strncmp(name, "mr_input_", 9) == 0)
            return MR_OK;
        if (table == NULL)
            return mr_sql__unknown_table(p, walk->query, node, name);
        MR_TRY(mr_sql__resolve_source(p, table));
        return static_leaf(walk, node, alias, table);
    }
    if (mr_json_get(node, "cte_map") != NULL) {
        MR_TRY(mr_sql__ctes(p, node, &scope));
        mr_json_put(&p->arena, mr_json_get(node, "cte_map"), "map", mr_json_new_array(&p->arena));
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(adopt_static(walk, child, scope));
    return MR_OK;
}

bool mr_sql__is_static(struct mr_sql_planner *p, const struct mr_json *node,
                       const struct mr_sql_scope *scope)
{
    return is_static(p, node, scope, 0);
}

enum mr_status mr_sql__adopt_static(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *node, const struct mr_sql_scope *scope,
                                    struct mr_sql_from *from)
{
    struct walk walk = {.p = p, .query = query, .from = from};

    return adopt_static(&walk, node, scope);
}

static enum mr_status planned_leaf(struct walk *walk, struct mr_json *node, const char *alias,
                                   struct mr_sql_query *query, struct mr_json *inner,
                                   const struct mr_sql_scope *scope)
{
    struct mr_sql_rel *rel;
    struct mr_json *copy = mr_json_copy(&walk->p->arena, inner);

    if (copy == NULL)
        return mr_sql__no_memory(walk->p);
    MR_TRY(mr_sql__plan_query(walk->p, query, copy, scope, &rel));
    return stream_leaf(walk, node, alias, rel);
}

/* The rows of a view; of a program's, its operator behind the rows of its input. */
static enum mr_status plan_view(struct mr_sql_planner *p, struct mr_sql_view *view,
                                struct mr_json *node)
{
    struct mr_sql_rel *rel = NULL;
    struct mr_sql_rel *out;

    MR_TRY(mr_sql__plan_query(p, view->query, node, NULL, &rel));
    if (view->program == NULL)
        return mr_sql__view_columns(p, view, rel);
    out = mr_arena_alloc(&p->arena, sizeof(*out));
    if (out == NULL)
        return mr_sql__no_memory(p);
    memset(out, 0, sizeof(*out));
    MR_TRY(view->program->plan(view->program->arg, p, rel, out));
    view->rel = out;
    return MR_OK;
}

enum mr_output_mode mr_sql__view_mode(const struct mr_sql_planner *p,
                                      const struct mr_sql_view *view)
{
    return view->statement != NULL && view->statement->appends ? MR_MODE_APPEND : p->mode;
}

static enum mr_status plan_view_alone(struct mr_sql_planner *p, struct mr_sql_view *view,
                                      struct mr_json *node)
{
    bool appends = view->statement != NULL && view->statement->appends;
    enum mr_output_mode outer = p->mode;
    unsigned modes = p->modes;
    enum mr_status status;

    p->mode = mr_sql__view_mode(p, view);
    p->modes = MR_SQL_ALL_MODES;
    view->busy = true;
    status = plan_view(p, view, node);
    view->busy = false;
    view->modes = appends ? MR_SQL_ALL_MODES : p->modes;
    p->mode = outer;
    p->modes = modes;
    /* Rows of a view in append mode come once and for all, like those of a table: others may
     * aggregate them in any mode. */
    if (status == MR_OK && appends)
        view->rel->aggregated = false;
    return status;
}

/* The modes in which others read the view, as bits. */
static unsigned modes_of_readers(const struct mr_sql_view *view)
{
    unsigned modes = 0;

    for (unsigned i = 0; i < MR_ARRAY_SIZE(view->readers); i++)
        modes |= view->readers[i] != NULL ? 1u << i : 0;
    return modes;
}

/* Names a reader of each of two modes: in the order of the modes, not of the file. */
static enum mr_status fail_of_readers(struct walk *walk, const struct mr_json *node,
                                      const struct mr_sql_view *view)
{
    struct mr_sql_planner *p = walk->p;
    unsigned first = view->readers[MR_MODE_APPEND] != NULL ? MR_MODE_APPEND : MR_MODE_UPDATE;
    unsigned second = first == MR_MODE_APPEND && view->readers[MR_MODE_UPDATE] != NULL
                          ? MR_MODE_UPDATE
                          : MR_MODE_COMPLETE;
    static const char *const modes[] = {"append", "update", "complete"};
    static const char text[] =
        "view '%s' is read by %s in output mode %s and by %s in output mode %s, and what it gives "
        "depends on the mode; give both the same output_mode, or make two views";

    if (view->statement != NULL)
        return mr_sql__fail_at(p, view->statement->name_at, text, view->name, view->readers[first],
                               modes[first], view->readers[second], modes[second]);
    return mr_sql__fail(p, walk->query, node, text, view->name, view->readers[first], modes[first],
                        view->readers[second], modes[second]);
}

/* Who plans the view first must not matter: it serves the modes of all its readers, or none. */
static enum mr_status view_leaf(struct walk *walk, struct mr_json *node, const char *alias,
                                struct mr_sql_view *view)
{
    struct mr_sql_planner *p = walk->p;
    unsigned readers = modes_of_readers(view);
    bool several = (readers & (readers - 1)) != 0;
    enum mr_status status;

    if (view->busy)
        return mr_sql__fail(p, walk->query, node, "view '%s' is made of itself", view->name);
    if (view->rel == NULL) {
        struct mr_json *copy = mr_json_copy(&p->arena, view->query->node);

        if (copy == NULL)
            return mr_sql__no_memory(p);
        status = plan_view_alone(p, view, copy);
        if (status != MR_OK && several && p->mode_refused) {
            p->mode_refused = false; /* once: of the innermost view */
            return fail_of_readers(walk, node, view);
        }
        MR_TRY(status);
        if (several && (view->rel->aggregated || (readers & ~view->modes) != 0 ||
                        (view->program != NULL && mr_node_keeps_state(view->rel->node))))
            return fail_of_readers(walk, node, view);
    }
    p->modes &= view->modes;
    return stream_leaf(walk, node, alias, view->rel);
}

static enum mr_status named_leaf(struct walk *walk, struct mr_json *node, const char *name,
                                 const char *alias, const struct mr_sql_scope *scope,
                                 bool *ret_stream)
{
    struct mr_sql_planner *p = walk->p;
    struct mr_sql_table *table;
    struct mr_sql_view *view;

    *ret_stream = true;
    if (own_stream(p, name) != NULL)
        return stream_leaf(walk, node, alias, own_stream(p, name));
    for (; scope != NULL; scope = scope->next) {
        if (!mr_sql__same_name(scope->name, name))
            continue;
        *ret_stream = !is_static(p, scope->node, scope->outer, 0);
        return *ret_stream ? planned_leaf(walk, node, alias, walk->query, scope->node, scope->outer)
                           : adopt_query(walk, node, alias, scope->node, scope->outer);
    }
    view = mr_sql__view(p, name);
    if (view != NULL && view->program == NULL && is_static(p, view->query->node, NULL, 0)) {
        *ret_stream = false;
        return adopt_view(walk, node, alias, view);
    }
    if (view != NULL)
        return view_leaf(walk, node, alias, view);
    table = mr_sql__table(p, name);
    if (table == NULL)
        return mr_sql__unknown_table(p, walk->query, node, name);
    return table_leaf(walk, node, alias, table, ret_stream);
}

/* tumble(t, descriptor(ts), ...) AS alias */
static enum mr_status window_leaf(struct walk *walk, struct mr_json *node,
                                  const struct mr_sql_scope *scope)
{
    struct mr_sql_planner *p = walk->p;
    struct mr_sql_from inner = {.stream = -1};
    struct walk below = {p, walk->query, &inner, false};
    struct mr_sql_rel *rel = mr_arena_alloc(&p->arena, sizeof(*rel));
    struct mr_json *function = mr_json_get(node, "function");
    struct mr_sql_window window;
    struct mr_json *table;
    const char *column;
    const char *name;
    bool stream;
    int32_t index;

    if (rel == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(mr_sql__window_table(p, walk->query, function, &table, &column, &window));
    name = mr_json_get(table, "column_names")->last->text;
    MR_TRY(named_leaf(&below, mr_json_copy(&p->arena, table), name, name, scope, &stream));
    if (!stream)
        return mr_sql__fail(p, walk->query, table, "'%s' is not a stream", name);
    index = mr_schema_find(inner.leaves[0].schema, column, strlen(column));
    if (index < 0)
        return mr_sql__fail(p, walk->query, function, "table '%s' has no column '%s'", name,
                            column);
    MR_TRY(mr_sql__add_window(p, walk->query->owner, inner.leaves[0].rel, (uint32_t)index, &window,
                              "window_start", "window_end", rel));
    return stream_leaf(walk, node, mr_sql__alias(node)[0] != '\0' ? mr_sql__alias(node) : name,
                       rel);
}

static enum mr_status function_leaf(struct walk *walk, struct mr_json *node,
                                    const struct mr_sql_scope *scope, bool *ret_stream)
{
    struct mr_json *function = mr_json_get(node, "function");
    const char *name = mr_sql__function(function);

    *ret_stream = false;
    if (mr_sql__is_window_table(function)) {
        *ret_stream = true;
        return window_leaf(walk, node, scope);
    }
    if (name != NULL && (mr_sql__same_name(name, "unnest") || mr_sql__same_name(name, "range") ||
                         mr_sql__same_name(name, "generate_series")))
        return MR_OK; /* row by row, or constant */
    return mr_sql__fail(walk->p, walk->query, node,
                        "table function '%s' cannot be read here; declare a table for it "
                        "(supported: tumble, hop, unnest, "
                        "range, generate_series)",
                        name != NULL ? name : "?");
}

/* ---- Joins ---- */

static enum mr_status visit_join(struct walk *walk, struct mr_json *node,
                                 const struct mr_sql_scope *scope, bool *ret_stream)
{
    struct mr_sql_planner *p = walk->p;
    const char *type = mr_json_text(node, "join_type");
    const char *kind = mr_json_text(node, "ref_type");
    bool outer_right = walk->joined_right;
    bool left;
    bool right;

    walk->from->joined = true;
    if (type == NULL || kind == NULL || strcmp(kind, "ASOF") == 0 ||
        strcmp(kind, "POSITIONAL") == 0)
        return mr_sql__fail(p, walk->query, node,
                            "this join is not supported; use INNER JOIN or LEFT JOIN ... ON");
    MR_TRY(visit(walk, mr_json_get(node, "left"), scope, &left));
    walk->joined_right = true;
    MR_TRY(visit(walk, mr_json_get(node, "right"), scope, &right));
    walk->joined_right = outer_right;
    *ret_stream = left || right;
    if (!left && !right)
        return MR_OK;
    if (strcmp(type, "INNER") == 0 || (strcmp(type, "LEFT") == 0 && left) ||
        (strcmp(type, "RIGHT") == 0 && right) ||
        ((strcmp(type, "SEMI") == 0 || strcmp(type, "ANTI") == 0) && left))
        return MR_OK;
    return mr_sql__fail(p, walk->query, node,
                        "a %s join that keeps unmatched rows of the static table is not supported: "
                        "they would come again "
                        "with every batch; use INNER, or LEFT with the stream on the left",
                        type);
}

static enum mr_status visit(struct walk *walk, struct mr_json *node,
                            const struct mr_sql_scope *scope, bool *ret_stream)
{
    struct mr_sql_planner *p = walk->p;
    struct mr_json *sample = mr_json_get(node, "sample");
    const char *alias = mr_sql__alias(node);
    const char *name = mr_json_text(node, "table_name");

    *ret_stream = false;
    if (sample != NULL && sample->kind != MR_JSON_NULL)
        return mr_sql__fail(
            p, walk->query, node,
            "samples of a stream are not supported; use WHERE hash(column) %% 10 = 0");
    if (mr_sql__type_is(node, "EMPTY") || mr_sql__type_is(node, "EXPRESSION_LIST"))
        return MR_OK;
    if (mr_sql__type_is(node, "JOIN"))
        return visit_join(walk, node, scope, ret_stream);
    if (mr_sql__type_is(node, "TABLE_FUNCTION"))
        return function_leaf(walk, node, scope, ret_stream);
    if (mr_sql__type_is(node, "BASE_TABLE") && name != NULL)
        return named_leaf(walk, node, name, alias[0] != '\0' ? alias : name, scope, ret_stream);
    if (mr_sql__type_is(node, "SUBQUERY")) {
        struct mr_json *inner = mr_json_get(mr_json_get(node, "subquery"), "node");

        if (is_static(p, inner, scope, 0))
            return adopt_static(walk, inner, scope);
        *ret_stream = true;
        return planned_leaf(walk, node, alias[0] != '\0' ? alias : "subquery", walk->query, inner,
                            scope);
    }
    return mr_sql__fail(p, walk->query, node,
                        "this kind of FROM is not supported (supported: tables, views, subqueries, "
                        "joins with static "
                        "tables, tumble and hop)");
}

/* Subqueries in expressions (IN, EXISTS, scalar) may read static tables only. */
static enum mr_status visit_expressions(struct walk *walk, struct mr_json *node,
                                        const struct mr_sql_scope *scope)
{
    if (node == NULL)
        return MR_OK;
    if (mr_sql__class_is(node, "SUBQUERY")) {
        struct mr_json *inner = mr_json_get(mr_json_get(node, "subquery"), "node");

        if (!is_static(walk->p, inner, scope, 0))
            return mr_sql__fail(
                walk->p, walk->query, node,
                "a subquery in an expression can read static tables only (static = 'true')");
        walk->from->joined = true; /* no native operator for the block */
        return adopt_static(walk, inner, scope);
    }
    for (struct mr_json *child = node->first; child != NULL; child = child->next)
        MR_TRY(visit_expressions(walk, child, scope));
    return MR_OK;
}

/* ---- For joins of streams ---- */

enum mr_status mr_sql__from_leaf_kind(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_scope *scope,
                                      bool on_right, bool *ret_stream,
                                      struct mr_sql_table **ret_table)
{
    const char *name = mr_json_text(node, "table_name");
    struct mr_sql_table *table;

    *ret_table = NULL;
    *ret_stream = !is_static(p, node, scope, 0);
    if (mr_sql__type_is(node, "EMPTY") || mr_sql__type_is(node, "EXPRESSION_LIST") ||
        (mr_sql__type_is(node, "TABLE_FUNCTION") &&
         !mr_sql__is_window_table(mr_json_get(node, "function"))))
        *ret_stream = false;
    if (!mr_sql__type_is(node, "BASE_TABLE") || name == NULL)
        return MR_OK;
    for (; scope != NULL; scope = scope->next) {
        if (mr_sql__same_name(scope->name, name))
            return MR_OK;
    }
    table = mr_sql__table(p, name);
    if (table == NULL || mr_sql__view(p, name) != NULL)
        return MR_OK; /* an unknown one is told when it is planned */
    MR_TRY(mr_sql__resolve_source(p, table));
    *ret_stream = !is_static_table(table, on_right);
    *ret_table = table;
    MR_UNUSED(query);
    return MR_OK;
}

enum mr_status mr_sql__from_leaf(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 const struct mr_json *node, const struct mr_sql_scope *scope,
                                 struct mr_sql_rel **ret_rel)
{
    struct mr_sql_from *from = mr_arena_alloc(&p->arena, sizeof(*from));
    struct mr_json *copy = mr_json_copy(&p->arena, node);
    struct walk walk = {p, query, from, false};
    bool stream;

    if (from == NULL || copy == NULL)
        return mr_sql__no_memory(p);
    memset(from, 0, sizeof(*from));
    from->stream = -1;
    MR_TRY(visit(&walk, copy, scope, &stream));
    MR_ASSERT(from->stream >= 0);
    *ret_rel = from->leaves[from->stream].rel;
    return MR_OK;
}

const char *mr_sql__own_stream(struct mr_sql_planner *p, const struct mr_sql_rel *rel)
{
    struct mr_sql_own *own = mr_arena_alloc(&p->arena, sizeof(*own));
    struct mr_buf name = MR_BUF_INIT;

    if (own == NULL)
        return NULL;
    mr_buf_printf(&name, "%s%u", own_prefix, p->own_count++);
    own->name = name.failed ? NULL : mr_arena_copy(&p->arena, name.data, name.size);
    mr_buf_release(&name);
    if (own->name == NULL)
        return NULL;
    own->rel = *rel;
    own->next = p->own;
    p->own = own;
    return own->name;
}

enum mr_status mr_sql__from(struct mr_sql_planner *p, struct mr_sql_query *query,
                            struct mr_json *node, const struct mr_sql_scope *scope,
                            struct mr_sql_from *ret_from)
{
    struct walk walk = {p, query, ret_from, false};
    struct mr_json *from = mr_json_get(node, "from_table");
    bool stream;

    memset(ret_from, 0, sizeof(*ret_from));
    ret_from->stream = -1;
    if (from == NULL)
        return mr_sql__fail(p, query, node, "this SELECT has no FROM; name a table");
    MR_TRY(mr_sql__plan_joins(p, query, node, scope));
    MR_TRY(visit(&walk, from, scope, &stream));
    MR_TRY(visit_expressions(&walk, mr_json_get(node, "select_list"), scope));
    MR_TRY(visit_expressions(&walk, mr_json_get(node, "where_clause"), scope));
    MR_TRY(visit_expressions(&walk, mr_json_get(node, "having"), scope));
    ret_from->tree = from;
    if (ret_from->stream < 0)
        return mr_sql__fail(p, query, node,
                            "this SELECT reads no stream; name a table that is not static (a query "
                            "over static tables "
                            "alone would never end)");
    return MR_OK;
}
