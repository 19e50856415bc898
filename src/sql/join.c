/*
 * Joins of several streams in one FROM: names.
 *
 *     leaves      every table, view and subquery of the FROM; streams are planned
 *     one name    a column gets its own name when no other leaf has it, else "leaf.column"
 *     rewriting   each reference in the block becomes "mr_joined".name; stars are written out;
 *                 a column of USING becomes that of the side that is kept
 *     order       join_tree.c
 *
 * After that the block reads one stream, mr_joined, with those columns, and the rest of the
 * planner needs to know nothing of joins. Called by from.c. Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

/* ---- Leaves ---- */

static bool is_join(const struct mr_json *node)
{
    return mr_sql__type_is(node, "JOIN");
}

static const char *name_of(const struct mr_json *node)
{
    const struct mr_json *function = mr_json_get(node, "function");
    const struct mr_json *children = mr_json_get(function, "children");
    const struct mr_json *names =
        children != NULL ? mr_json_get(children->first, "column_names") : NULL;

    if (mr_sql__alias(node)[0] != '\0')
        return mr_sql__alias(node);
    if (mr_json_text(node, "table_name") != NULL)
        return mr_json_text(node, "table_name");
    if (names != NULL && names->last != NULL)
        return names->last->text; /* tumble(table, ...) */
    return "subquery";
}

static enum mr_status add_leaf(struct mr_sql_joins *joins, struct mr_json *node, bool on_right)
{
    struct mr_sql_join_leaf *leaf = &joins->leaves[joins->count];
    struct mr_sql_table *table = NULL;
    bool stream;

    if (joins->count == MR_SQL_INPUTS_MAX)
        return mr_sql__fail(joins->p, joins->query, node, "more than %d tables in one FROM",
                            MR_SQL_INPUTS_MAX);
    memset(leaf, 0, sizeof(*leaf));
    leaf->node = node;
    leaf->alias = name_of(node);
    MR_TRY(mr_sql__from_leaf_kind(joins->p, joins->query, node, joins->scope, on_right, &stream,
                                  &table));
    leaf->is_static = !stream;
    leaf->all = table != NULL ? table->full : NULL;
    if (table != NULL && !stream) {
        MR_TRY(mr_sql__source_prepare(joins->p, table));
        leaf->schema = table->narrow;
    }
    for (uint32_t i = 0; i < joins->count; i++) {
        if (mr_sql__same_name(joins->leaves[i].alias, leaf->alias))
            return mr_sql__fail(
                joins->p, joins->query, node,
                "two tables are called '%s' here; give one of them another name (AS)", leaf->alias);
    }
    joins->count++;
    return MR_OK;
}

static enum mr_status find_leaves(struct mr_sql_joins *joins, struct mr_json *tree, bool on_right)
{
    if (!is_join(tree))
        return add_leaf(joins, tree, on_right);
    MR_TRY(find_leaves(joins, mr_json_get(tree, "left"), on_right));
    return find_leaves(joins, mr_json_get(tree, "right"), true);
}

static enum mr_status plan_leaf(struct mr_sql_joins *joins, struct mr_sql_join_leaf *leaf)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_sql_rel *rel = NULL;
    uint32_t columns;

    if (!leaf->is_static) {
        MR_TRY(mr_sql__from_leaf(p, joins->query, leaf->node, joins->scope, &rel));
        MR_ASSERT(rel != NULL);
        leaf->rel = *rel;
        leaf->schema = rel->schema;
    }
    if (leaf->schema == NULL)
        return MR_OK;
    columns = mr_schema_field_count(leaf->schema);
    leaf->names = mr_arena_alloc(&p->arena, (columns + 1) * sizeof(*leaf->names));
    leaf->merged = mr_arena_alloc(&p->arena, columns + 1);
    leaf->uses = mr_arena_alloc(&p->arena, (columns + 1) * sizeof(*leaf->uses));
    if (leaf->names == NULL || leaf->merged == NULL || leaf->uses == NULL)
        return mr_sql__no_memory(p);
    memset(leaf->merged, 0, columns + 1);
    memset(leaf->uses, 0, (columns + 1) * sizeof(*leaf->uses));
    return MR_OK;
}

/* By all columns that others have, read or not: a name must not change when a query reads one more,
 * because it is part of what the state is compared by. */
static bool others_have(const struct mr_sql_joins *joins, uint32_t self, const char *name)
{
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];
        const struct mr_schema *schema = leaf->all != NULL ? leaf->all : leaf->schema;

        if (i != self && schema != NULL && mr_schema_find(schema, name, strlen(name)) >= 0)
            return true;
    }
    return false;
}

static enum mr_status give_names(struct mr_sql_joins *joins)
{
    struct mr_sql_planner *p = joins->p;

    for (uint32_t i = 0; i < joins->count; i++) {
        struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        for (uint32_t c = 0; leaf->schema != NULL && c < mr_schema_field_count(leaf->schema); c++) {
            const char *name = mr_schema_field(leaf->schema, c)->name;
            struct mr_buf text = MR_BUF_INIT;

            leaf->names[c] = name;
            if (!others_have(joins, i, name))
                continue;
            mr_buf_printf(&text, "%s.%s", leaf->alias, name);
            leaf->names[c] = text.failed ? NULL : mr_arena_copy(&p->arena, text.data, text.size);
            mr_buf_release(&text);
            if (leaf->names[c] == NULL)
                return mr_sql__no_memory(p);
            if (strlen(leaf->names[c]) > MR_NAME_BYTES_MAX)
                return mr_sql__fail(joins->p, joins->query, leaf->node,
                                    "the name '%s' is too long for a join; use AS with a "
                                    "shorter one for the table",
                                    leaf->names[c]);
        }
    }
    return MR_OK;
}

/* ---- References ---- */

struct found {
    uint32_t leaf;
    uint32_t column;
    struct mr_json *expr; /* of USING; NULL: a column */
    size_t parts;         /* of the reference that name it */
};

static bool is_visible(const struct mr_sql_joins *joins, uint32_t leaf, uint64_t scope,
                       bool in_block)
{
    return (scope >> leaf & 1) != 0 && joins->leaves[leaf].schema != NULL &&
           !(in_block && joins->leaves[leaf].hidden);
}

static bool find_qualified(const struct mr_sql_joins *joins, const struct mr_json *first,
                           uint64_t scope, bool in_block, struct found *found)
{
    if (first->next == NULL)
        return false;
    for (uint32_t i = 0; i < joins->count; i++) {
        const char *name = first->next->text;
        int32_t column;

        if (!is_visible(joins, i, scope, in_block) ||
            !mr_sql__same_name(joins->leaves[i].alias, first->text))
            continue;
        column = mr_schema_find(joins->leaves[i].schema, name, strlen(name));
        if (column < 0)
            continue;
        *found = (struct found){.leaf = i, .column = (uint32_t)column, .parts = 2};
        return true;
    }
    return false;
}

/* How many there are; the first in *found. */
static uint32_t find_bare(const struct mr_sql_joins *joins, const char *name, uint64_t scope,
                          bool in_block, struct found found[2])
{
    uint32_t count = 0;

    for (uint32_t i = joins->merged_count; i-- > 0;) { /* the outermost first */
        const struct mr_sql_join_merged *merged = &joins->merged[i];

        if ((merged->leaves & ~scope) == 0 && mr_sql__same_name(merged->name, name)) {
            found[0] = (struct found){.expr = merged->expr, .parts = 1};
            return 1;
        }
    }
    for (uint32_t i = 0; i < joins->count && count < 2; i++) {
        int32_t column;

        if (!is_visible(joins, i, scope, in_block))
            continue;
        column = mr_schema_find(joins->leaves[i].schema, name, strlen(name));
        if (column < 0 || joins->leaves[i].merged[column])
            continue;
        found[count++] = (struct found){.leaf = i, .column = (uint32_t)column, .parts = 1};
    }
    return count;
}

/* "mr_joined".name for a column of a stream, leaf.column for one of a static table. */
static struct mr_json *reference_to(struct mr_sql_joins *joins, uint32_t leaf_index,
                                    uint32_t column)
{
    struct mr_sql_planner *p = joins->p;
    const struct mr_sql_join_leaf *leaf = &joins->leaves[leaf_index];
    bool joined = !leaf->is_static || leaf->in_unit;
    struct mr_json *node = mr_sql__column(p, joined ? MR_SQL_JOINED : leaf->alias, "");
    struct mr_json *name = mr_json_new_string(
        &p->arena, joined ? leaf->names[column] : mr_schema_field(leaf->schema, column)->name);

    if (node == NULL || name == NULL)
        return NULL;
    mr_json_push(mr_json_get(node, "column_names"), name);
    return node;
}

static enum mr_status put_reference(struct mr_sql_joins *joins, struct mr_json *node,
                                    const struct found *found)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_json *names = mr_json_get(node, "column_names");
    struct mr_json *rest = names->first;
    struct mr_json *alias = mr_json_get(node, "alias");
    struct mr_json *with = found->expr != NULL ? mr_json_copy(&p->arena, found->expr)
                                               : reference_to(joins, found->leaf, found->column);

    for (size_t i = 0; i < found->parts; i++)
        rest = rest->next;
    if (with == NULL)
        return mr_sql__no_memory(p);
    if (found->expr == NULL || mr_sql__class_is(with, "COLUMN_REF")) {
        struct mr_json *place = mr_json_copy(&p->arena, mr_json_get(node, "query_location"));

        for (; rest != NULL; rest = rest->next)
            mr_json_push(mr_json_get(with, "column_names"),
                         mr_json_new_string(&p->arena, rest->text));
        if (place != NULL)
            mr_json_put(&p->arena, with, "query_location", place);
    } else if (rest != NULL) {
        return mr_sql__fail(joins->p, joins->query, node, "write the table in front of '%s'",
                            names->first->text);
    }
    if (alias != NULL && alias->text != NULL)
        mr_sql__set_alias(p, with, alias->text);
    mr_sql__replace(node, with);
    return MR_OK;
}

static bool is_alias_of(const struct mr_sql_joins *joins, const char *name)
{
    const struct mr_json *list = mr_json_get(joins->select, "select_list");

    for (const struct mr_json *item = list != NULL ? list->first : NULL; item != NULL;
         item = item->next) {
        if (mr_sql__same_name(mr_sql__alias(item), name))
            return true;
    }
    return false;
}

struct rewrite {
    struct mr_sql_joins *joins;
    uint64_t scope; /* leaves that names may mean */
    bool in_block;  /* behind the FROM */
    bool aliases;   /* result columns may be meant: ORDER BY, GROUP BY, HAVING */
    bool subquery;  /* inside one: only names with a table are ours */
};

/* Is there a stream of that name? "" when it can be named here, else why it cannot. */
static const char *table_called(const struct rewrite *rewrite, const char *name)
{
    const struct mr_sql_joins *joins = rewrite->joins;

    for (uint32_t i = 0; i < joins->count; i++) {
        if (joins->leaves[i].schema == NULL || !mr_sql__same_name(joins->leaves[i].alias, name))
            continue;
        if (rewrite->in_block && joins->leaves[i].hidden)
            return " here: it is the right side of a SEMI join, which only its ON can see";
        return (rewrite->scope >> i & 1) != 0 ? ""
                                              : " here: it is joined further out; move the "
                                                "condition to that ON";
    }
    return NULL;
}

static enum mr_status rewrite_reference(const struct rewrite *rewrite, struct mr_json *node)
{
    struct mr_sql_joins *joins = rewrite->joins;
    const struct mr_json *names = mr_json_get(node, "column_names");
    const struct mr_json *first = names != NULL ? names->first : NULL;
    struct found found[2];
    uint32_t count;

    if (first == NULL || mr_sql__same_name(first->text, MR_SQL_JOINED))
        return MR_OK;
    if (find_qualified(joins, first, rewrite->scope, rewrite->in_block, &found[0]))
        return put_reference(joins, node, &found[0]);
    if (rewrite->subquery)
        return MR_OK;
    count = find_bare(joins, first->text, rewrite->scope, rewrite->in_block, found);
    if (count == 0 && first->next != NULL) {
        const char *known = table_called(rewrite, first->text);

        if (known != NULL)
            return mr_sql__fail(joins->p, joins->query, node, "'%s' has no column '%s'%s",
                                first->text, first->next->text, known);
    }
    if (count == 0 || (rewrite->aliases && is_alias_of(joins, first->text) && first->next == NULL))
        return MR_OK; /* DuckDB tells what it thinks of it */
    if (count > 1)
        return mr_sql__fail(joins->p, joins->query, node,
                            "column '%s' is in both '%s' and '%s'; write %s.%s or %s.%s",
                            first->text, joins->leaves[found[0].leaf].alias,
                            joins->leaves[found[1].leaf].alias, joins->leaves[found[0].leaf].alias,
                            first->text, joins->leaves[found[1].leaf].alias, first->text);
    return put_reference(joins, node, &found[0]);
}

static enum mr_status rewrite_names(const struct rewrite *rewrite, struct mr_json *node)
{
    struct rewrite inner = *rewrite;

    if (node == NULL)
        return MR_OK;
    if (mr_sql__class_is(node, "COLUMN_REF"))
        return rewrite_reference(rewrite, node);
    for (struct mr_json *child = node->first; child != NULL; child = child->next) {
        inner.subquery =
            rewrite->subquery || (child->key != NULL && strcmp(child->key, "subquery") == 0);
        MR_TRY(rewrite_names(&inner, child));
    }
    return MR_OK;
}

/* ---- USING, ON ---- */

static enum mr_status push_condition(struct mr_sql_joins *joins, struct mr_json *join,
                                     struct mr_json *left, struct mr_json *right)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_json *old = mr_json_get(join, "condition");
    struct mr_json *equal = mr_json_new_object(&p->arena);
    struct mr_json *both = mr_json_new_object(&p->arena);
    struct mr_json *children = mr_json_new_array(&p->arena);

    if (equal == NULL || both == NULL || children == NULL || left == NULL || right == NULL)
        return mr_sql__no_memory(p);
    mr_json_put(&p->arena, equal, "class", mr_json_new_string(&p->arena, "COMPARISON"));
    mr_json_put(&p->arena, equal, "type", mr_json_new_string(&p->arena, "COMPARE_EQUAL"));
    mr_json_put(&p->arena, equal, "alias", mr_json_new_string(&p->arena, ""));
    mr_json_put(&p->arena, equal, "left", left);
    mr_json_put(&p->arena, equal, "right", right);
    if (old == NULL || old->kind == MR_JSON_NULL) {
        mr_json_put(&p->arena, join, "condition", equal);
        return MR_OK;
    }
    mr_json_put(&p->arena, both, "class", mr_json_new_string(&p->arena, "CONJUNCTION"));
    mr_json_put(&p->arena, both, "type", mr_json_new_string(&p->arena, "CONJUNCTION_AND"));
    mr_json_put(&p->arena, both, "alias", mr_json_new_string(&p->arena, ""));
    mr_json_push(children, mr_json_copy(&p->arena, old));
    mr_json_push(children, equal);
    mr_json_put(&p->arena, both, "children", children);
    mr_json_put(&p->arena, join, "condition", both);
    return MR_OK;
}

/* What a bare name means on one side of USING. */
static enum mr_status using_side(struct mr_sql_joins *joins, const struct mr_json *join,
                                 const char *name, uint64_t leaves, struct mr_json **ret_expr)
{
    struct found found[2];
    uint32_t count = find_bare(joins, name, leaves, false, found);

    if (count != 1)
        return mr_sql__fail(joins->p, joins->query, join,
                            count == 0 ? "USING (%s): one side has no column '%s'"
                                       : "USING (%s): one side has column '%s' twice; use ON",
                            name, name);
    if (found[0].expr == NULL)
        joins->leaves[found[0].leaf].merged[found[0].column] = true;
    *ret_expr = found[0].expr != NULL ? mr_json_copy(&joins->p->arena, found[0].expr)
                                      : reference_to(joins, found[0].leaf, found[0].column);
    return *ret_expr != NULL ? MR_OK : mr_sql__no_memory(joins->p);
}

static struct mr_json *coalesce_of(struct mr_sql_planner *p, struct mr_json *const sides[2])
{
    struct mr_json *node = mr_json_new_object(&p->arena);
    struct mr_json *children = mr_json_new_array(&p->arena);

    if (node == NULL || children == NULL)
        return NULL;
    mr_json_push(children, mr_json_copy(&p->arena, sides[0]));
    mr_json_push(children, mr_json_copy(&p->arena, sides[1]));
    mr_json_put(&p->arena, node, "class", mr_json_new_string(&p->arena, "OPERATOR"));
    mr_json_put(&p->arena, node, "type", mr_json_new_string(&p->arena, "OPERATOR_COALESCE"));
    mr_json_put(&p->arena, node, "alias", mr_json_new_string(&p->arena, ""));
    mr_json_put(&p->arena, node, "children", children);
    return node;
}

static enum mr_status merge_column(struct mr_sql_joins *joins, struct mr_json *join,
                                   const char *name, uint64_t left_leaves, uint64_t right_leaves)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_sql_join_merged *merged = &joins->merged[joins->merged_count];
    struct mr_json *sides[2] = {NULL, NULL};

    if (joins->merged_count == MR_SQL_MERGED_MAX)
        return mr_sql__fail(joins->p, joins->query, join, "more than %d columns in USING",
                            MR_SQL_MERGED_MAX);
    MR_TRY(using_side(joins, join, name, left_leaves, &sides[0]));
    MR_TRY(using_side(joins, join, name, right_leaves, &sides[1]));
    MR_TRY(push_condition(joins, join, mr_json_copy(&p->arena, sides[0]),
                          mr_json_copy(&p->arena, sides[1])));
    merged->name = name;
    merged->leaves = left_leaves | right_leaves;
    if (mr_json_is(mr_json_get(join, "join_type"), "OUTER") ||
        mr_json_is(mr_json_get(join, "join_type"), "FULL"))
        merged->expr = coalesce_of(p, sides);
    else
        merged->expr = sides[mr_json_is(mr_json_get(join, "join_type"), "RIGHT") ? 1 : 0];
    if (merged->expr == NULL)
        return mr_sql__no_memory(p);
    joins->merged_count++;
    return MR_OK;
}

static enum mr_status merge_natural(struct mr_sql_joins *joins, struct mr_json *join,
                                    uint64_t left_leaves, uint64_t right_leaves)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_json *names = mr_json_new_array(&p->arena);

    if (names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((left_leaves >> i & 1) == 0 || leaf->schema == NULL)
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            const char *name = mr_schema_field(leaf->schema, c)->name;
            struct found found[2];

            if (!leaf->merged[c] && find_bare(joins, name, right_leaves, false, found) > 0)
                mr_json_push(names, mr_json_new_string(&p->arena, name));
        }
    }
    for (const struct mr_json *name = names->first; name != NULL; name = name->next)
        MR_TRY(merge_column(joins, join, name->text, left_leaves, right_leaves));
    mr_json_put(&p->arena, join, "ref_type", mr_json_new_string(&p->arena, "REGULAR"));
    return MR_OK;
}

static uint64_t leaves_below(const struct mr_sql_joins *joins, const struct mr_json *tree)
{
    uint64_t leaves = 0;

    for (uint32_t i = 0; i < joins->count; i++) {
        if (joins->leaves[i].node == tree)
            leaves |= UINT64_C(1) << i;
    }
    if (is_join(tree))
        leaves |= leaves_below(joins, mr_json_get(tree, "left")) |
                  leaves_below(joins, mr_json_get(tree, "right"));
    return leaves;
}

/* ON and USING, from the innermost join to the outermost. */
static enum mr_status rewrite_joins(struct mr_sql_joins *joins, struct mr_json *tree)
{
    struct mr_json *left = mr_json_get(tree, "left");
    struct mr_json *right = mr_json_get(tree, "right");
    struct mr_json *using = mr_json_get(tree, "using_columns");
    const char *type = mr_json_text(tree, "join_type");
    struct rewrite rewrite = {.joins = joins};
    uint64_t left_leaves, right_leaves;

    if (!is_join(tree))
        return MR_OK;
    MR_TRY(rewrite_joins(joins, left));
    MR_TRY(rewrite_joins(joins, right));
    left_leaves = leaves_below(joins, left);
    right_leaves = leaves_below(joins, right);
    for (const struct mr_json *name = using != NULL ? using->first : NULL; name != NULL;
         name = name->next)
        MR_TRY(merge_column(joins, tree, name->text, left_leaves, right_leaves));
    if (using != NULL)
        mr_json_put(&joins->p->arena, tree, "using_columns", mr_json_new_array(&joins->p->arena));
    if (mr_json_is(mr_json_get(tree, "ref_type"), "NATURAL"))
        MR_TRY(merge_natural(joins, tree, left_leaves, right_leaves));
    rewrite.scope = left_leaves | right_leaves;
    MR_TRY(rewrite_names(&rewrite, mr_json_get(tree, "condition")));
    mr_sql__count_uses(joins, mr_json_get(tree, "condition"), 1);
    for (uint32_t i = 0; i < joins->count; i++) {
        if ((right_leaves >> i & 1) != 0 && type != NULL &&
            (strcmp(type, "SEMI") == 0 || strcmp(type, "ANTI") == 0))
            joins->leaves[i].hidden = true;
    }
    return MR_OK;
}

/* ---- The block ---- */

static bool is_excluded(const struct mr_json *star, const char *name)
{
    const struct mr_json *list = mr_json_get(star, "exclude_list");

    for (const struct mr_json *one = list != NULL ? list->first : NULL; one != NULL;
         one = one->next) {
        if (one->kind == MR_JSON_STRING && mr_sql__same_name(one->text, name))
            return true;
    }
    return false;
}

/* A name that no column of the list has yet: x, x_1, x_2 ... as DuckDB does in CREATE TABLE AS. */
static const char *free_name(struct mr_sql_joins *joins, const struct mr_json *list,
                             const char *name)
{
    for (unsigned number = 0;; number++) {
        struct mr_buf text = MR_BUF_INIT;
        const char *copy;
        bool taken = false;

        mr_buf_printf(&text, number > 0 ? "%s_%u" : "%s", name, number);
        copy = text.failed ? NULL : mr_arena_copy(&joins->p->arena, text.data, text.size);
        mr_buf_release(&text);
        for (const struct mr_json *item = list->first; item != NULL && copy != NULL;
             item = item->next)
            taken = taken || mr_sql__same_name(mr_sql__alias(item), copy);
        if (!taken)
            return copy;
    }
}

static enum mr_status push_column(struct mr_sql_joins *joins, struct mr_json *list,
                                  struct mr_json *expr, const char *name)
{
    const char *alias = free_name(joins, list, name);

    if (expr == NULL || alias == NULL)
        return mr_sql__no_memory(joins->p);
    mr_sql__set_alias(joins->p, expr, alias);
    mr_json_push(list, expr);
    return MR_OK;
}

static enum mr_status expand_leaf(struct mr_sql_joins *joins, const struct mr_json *star,
                                  uint32_t index, struct mr_json *list, bool *merged_done)
{
    struct mr_sql_planner *p = joins->p;
    const struct mr_sql_join_leaf *leaf = &joins->leaves[index];
    const char *relation = mr_json_text(star, "relation_name");
    bool qualified = relation != NULL && relation[0] != '\0';
    uint64_t all = (UINT64_C(1) << joins->count) - 1;

    if (leaf->schema == NULL)
        return mr_sql__fail(joins->p, joins->query, star,
                            "'*' does not know the columns of '%s'; name them", leaf->alias);
    for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
        const char *name = mr_schema_field(leaf->schema, c)->name;
        struct mr_json *expr = reference_to(joins, index, c);
        struct found found[2];

        if (is_excluded(star, name))
            continue;
        if (!qualified && leaf->merged[c]) {
            if (find_bare(joins, name, all, true, found) != 1 || found[0].expr == NULL)
                continue;
            for (uint32_t m = 0; m < joins->merged_count; m++) {
                if (joins->merged[m].expr != found[0].expr)
                    continue;
                expr = merged_done[m] ? NULL : mr_json_copy(&p->arena, found[0].expr);
                merged_done[m] = true;
            }
            if (expr == NULL)
                continue; /* stands where the first of them did */
        }
        MR_TRY(push_column(joins, list, expr, name));
    }
    return MR_OK;
}

static enum mr_status expand_star(struct mr_sql_joins *joins, const struct mr_json *star,
                                  struct mr_json *list)
{
    static const char *const others[] = {"replace_list", "rename_list", "qualified_exclude_list"};
    const char *relation = mr_json_text(star, "relation_name");
    const struct mr_json *columns = mr_json_get(star, "columns");
    bool merged_done[MR_SQL_MERGED_MAX] = {false};
    bool any = false;

    for (size_t i = 0; i < MR_ARRAY_SIZE(others); i++) {
        const struct mr_json *one = mr_json_get(star, others[i]);

        if ((one != NULL && one->count > 0) || (columns != NULL && columns->boolean))
            return mr_sql__fail(joins->p, joins->query, star,
                                "over a join of streams, name the columns instead of '*' "
                                "with REPLACE, RENAME or COLUMNS");
    }
    for (uint32_t i = 0; i < joins->count; i++) {
        if (joins->leaves[i].hidden || (relation != NULL && relation[0] != '\0' &&
                                        !mr_sql__same_name(relation, joins->leaves[i].alias)))
            continue;
        any = true;
        MR_TRY(expand_leaf(joins, star, i, list, merged_done));
    }
    return any ? MR_OK
               : mr_sql__fail(joins->p, joins->query, star, "there is no table '%s' in this FROM",
                              relation);
}

/* Stars are written out, and every column gets the name it would have had. */
static enum mr_status name_list(struct mr_sql_joins *joins)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_json *list = mr_json_get(joins->select, "select_list");
    struct mr_json *next;
    struct mr_json old = *list;

    list->first = list->last = NULL;
    list->count = 0;
    for (struct mr_json *item = old.first; item != NULL; item = next) {
        const char *name;

        next = item->next;
        item->next = NULL;
        if (mr_sql__is_star(item)) {
            MR_TRY(expand_star(joins, item, list));
            continue;
        }
        if (mr_sql__alias(item)[0] == '\0') {
            MR_TRY(mr_sql__natural_name(p, item, &name));
            name = free_name(joins, list, name);
            if (name == NULL)
                return mr_sql__no_memory(p);
            mr_sql__set_alias(p, item, name);
        }
        mr_json_push(list, item);
    }
    return MR_OK;
}

static enum mr_status rewrite_block(struct mr_sql_joins *joins)
{
    static const struct {
        const char *name;
        bool aliases;
    } parts[] = {{"select_list", false}, {"where_clause", false}, {"group_expressions", true},
                 {"having", true},       {"modifiers", true},     {"qualify", true}};
    struct rewrite rewrite = {
        .joins = joins, .scope = (UINT64_C(1) << joins->count) - 1, .in_block = true};

    MR_TRY(name_list(joins));
    for (size_t i = 0; i < MR_ARRAY_SIZE(parts); i++) {
        struct mr_json *part = mr_json_get(joins->select, parts[i].name);

        rewrite.aliases = parts[i].aliases;
        MR_TRY(rewrite_names(&rewrite, part));
        mr_sql__count_uses(joins, part, 1);
    }
    return MR_OK;
}

/* ---- Entry ---- */

enum mr_status mr_sql__plan_joins(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *select, const struct mr_sql_scope *scope)
{
    struct mr_json *tree = mr_json_get(select, "from_table");
    struct mr_sql_joins *joins;
    struct mr_sql_conjuncts *where;
    unsigned streams = 0;

    if (!is_join(tree))
        return MR_OK;
    joins = mr_arena_alloc(&p->arena, sizeof(*joins));
    where = mr_arena_alloc(&p->arena, sizeof(*where));
    if (joins == NULL || where == NULL)
        return mr_sql__no_memory(p);
    memset(joins, 0, sizeof(*joins));
    where->count = 0;
    joins->p = p;
    joins->query = query;
    joins->scope = scope;
    joins->select = select;
    MR_TRY(find_leaves(joins, tree, false));
    (void)mr_sql__join_has_streams(joins, tree, &streams);
    if (streams < 2)
        return MR_OK;
    MR_TRY(mr_sql__join_units(joins, tree, false));
    for (uint32_t i = 0; i < joins->count; i++)
        MR_TRY(plan_leaf(joins, &joins->leaves[i]));
    MR_TRY(give_names(joins));
    MR_TRY(rewrite_joins(joins, tree));
    MR_TRY(rewrite_block(joins));
    MR_TRY(mr_sql__conjuncts(joins, mr_json_get(select, "where_clause"), true, where));
    return mr_sql__join_tree(joins, tree, where);
}
