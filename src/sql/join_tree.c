/*
 * Joins of several streams in one FROM: which are joined with which, in what order.
 *
 *     FROM tree     a static side stays in the tree; what it is joined with is reduced
 *     inner joins   flattened: operands and conditions, those of WHERE too; each next operand is
 *                   the first that has an equality with what is joined already
 *     outer, semi   both sides are made, then joined; conditions of WHERE over the side that is
 *                   kept go below
 *     units         a stream with its static tables, when streams are joined behind that: a block
 *                   of its own
 *
 * What comes out stands in the tree as a table of the planner's (mr_sql__own_stream).
 * Called by join.c. Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

static bool is_join(const struct mr_json *node)
{
    return mr_sql__type_is(node, "JOIN");
}

static uint32_t leaf_at(const struct mr_sql_joins *joins, const struct mr_json *node)
{
    for (uint32_t i = 0; i < joins->count; i++) {
        if (joins->leaves[i].node == node)
            return i;
    }
    return UINT32_MAX;
}

bool mr_sql__join_has_streams(const struct mr_sql_joins *joins, const struct mr_json *tree,
                              unsigned *ret_count)
{
    uint32_t leaf = leaf_at(joins, tree);
    unsigned before = *ret_count;

    if (is_join(tree)) {
        (void)mr_sql__join_has_streams(joins, mr_json_get(tree, "left"), ret_count);
        (void)mr_sql__join_has_streams(joins, mr_json_get(tree, "right"), ret_count);
    } else if (leaf != UINT32_MAX && !joins->leaves[leaf].is_static) {
        ++*ret_count;
    }
    return *ret_count > before;
}

static unsigned streams_in(const struct mr_sql_joins *joins, const struct mr_json *tree)
{
    unsigned count = 0;

    (void)mr_sql__join_has_streams(joins, tree, &count);
    return count;
}

static uint64_t leaves_in(const struct mr_sql_joins *joins, const struct mr_json *tree)
{
    uint32_t leaf = leaf_at(joins, tree);

    if (leaf != UINT32_MAX)
        return UINT64_C(1) << leaf;
    return is_join(tree) ? leaves_in(joins, mr_json_get(tree, "left")) |
                               leaves_in(joins, mr_json_get(tree, "right"))
                         : 0;
}

/* ---- Units ---- */

static enum mr_status mark_unit(struct mr_sql_joins *joins, const struct mr_json *tree)
{
    uint64_t leaves = leaves_in(joins, tree);

    for (uint32_t i = 0; i < joins->count; i++) {
        struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((leaves >> i & 1) == 0 || !leaf->is_static)
            continue;
        if (leaf->schema == NULL)
            return mr_sql__fail(joins->p, joins->query, leaf->node,
                                "'%s' is joined with one stream before others are; join it "
                                "last, behind the streams",
                                leaf->alias);
        leaf->in_unit = true;
    }
    return MR_OK;
}

enum mr_status mr_sql__join_units(struct mr_sql_joins *joins, struct mr_json *tree, bool below)
{
    struct mr_json *left = mr_json_get(tree, "left");
    struct mr_json *right = mr_json_get(tree, "right");
    bool inner = mr_json_is(mr_json_get(tree, "join_type"), "INNER");
    unsigned left_count, right_count;

    if (!is_join(tree))
        return MR_OK;
    left_count = streams_in(joins, left);
    right_count = streams_in(joins, right);
    if (left_count + right_count == 1)
        return below ? mark_unit(joins, tree) : MR_OK;
    if (left_count == 0 || right_count == 0) {
        if (below && !inner)
            return mr_sql__fail(joins->p, joins->query, tree,
                                "a static table can be joined with one stream, or behind all "
                                "joins of streams; put these streams into a subquery");
        return mr_sql__join_units(joins, left_count > 0 ? left : right, below);
    }
    MR_TRY(mr_sql__join_units(joins, left, true));
    return mr_sql__join_units(joins, right, true);
}

/* References as the block of a unit writes them. */
static struct mr_json *own_names(struct mr_sql_joins *joins, struct mr_json *expr)
{
    struct mr_arena *arena = &joins->p->arena;
    uint32_t leaf, column;
    size_t rest;

    if (mr_sql__joined_column(joins, expr, &leaf, &column, &rest)) {
        struct mr_json *names = mr_json_get(expr, "column_names");
        struct mr_json *first = mr_json_new_string(arena, joins->leaves[leaf].alias);
        struct mr_json *second =
            mr_json_new_string(arena, mr_schema_field(joins->leaves[leaf].schema, column)->name);

        if (first == NULL || second == NULL)
            return NULL;
        mr_sql__replace(names->first->next, second);
        mr_sql__replace(names->first, first);
        return expr;
    }
    for (struct mr_json *child = expr->first; child != NULL; child = child->next) {
        if (own_names(joins, child) == NULL)
            return NULL;
    }
    return expr;
}

/* ANDs an expression to a member of an object. */
static enum mr_status and_to(struct mr_sql_joins *joins, struct mr_json *object, const char *key,
                             struct mr_json *expr)
{
    struct mr_arena *arena = &joins->p->arena;
    struct mr_json *old = mr_json_get(object, key);
    struct mr_json *both = mr_json_new_object(arena);
    struct mr_json *children = mr_json_new_array(arena);

    if (both == NULL || children == NULL || expr == NULL)
        return mr_sql__no_memory(joins->p);
    if (old == NULL || old->kind == MR_JSON_NULL) {
        mr_json_put(arena, object, key, expr);
        return MR_OK;
    }
    mr_json_put(arena, both, "class", mr_json_new_string(arena, "CONJUNCTION"));
    mr_json_put(arena, both, "type", mr_json_new_string(arena, "CONJUNCTION_AND"));
    mr_json_put(arena, both, "alias", mr_json_new_string(arena, ""));
    mr_json_push(children, mr_json_copy(arena, old));
    mr_json_push(children, expr);
    mr_json_put(arena, both, "children", children);
    mr_json_put(arena, object, key, both);
    return MR_OK;
}

/* The stream leaf's place is taken by a table of the planner's: it was planned already. */
static enum mr_status put_own(struct mr_sql_joins *joins, struct mr_json *node,
                              const struct mr_sql_rel *rel, const char *alias)
{
    const char *name = mr_sql__own_stream(joins->p, rel);
    struct mr_json *table = name != NULL ? mr_sql__table_ref(joins->p, name, alias) : NULL;

    if (table == NULL)
        return mr_sql__no_memory(joins->p);
    mr_sql__replace(node, table);
    return MR_OK;
}

/* SELECT columns in use FROM the unit WHERE what is over it alone. */
static enum mr_status plan_unit(struct mr_sql_joins *joins, struct mr_json *tree,
                                struct mr_sql_conjuncts *list, struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_json *select;
    struct mr_json *columns;
    struct mr_sql_rel *rel = NULL;

    ret_side->leaves = leaves_in(joins, tree);
    select = mr_sql__select(p, own_names(joins, tree));
    if (select == NULL)
        return mr_sql__no_memory(p);
    columns = mr_json_get(select, "select_list");
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_sql_conjunct *one = list->items[i];

        if (one->used || one->opaque || one->leaves == 0 || (one->leaves & ~ret_side->leaves) != 0)
            continue;
        one->used = true;
        mr_sql__count_uses(joins, one->expr, -1);
        MR_TRY(and_to(joins, select, "where_clause",
                      own_names(joins, mr_json_copy(&p->arena, one->expr))));
    }
    for (uint32_t i = 0; i < joins->count; i++) {
        struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((ret_side->leaves >> i & 1) == 0)
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            struct mr_json *column = mr_sql__column(p, leaf->alias, leaf->names[c]);

            if (column == NULL)
                return mr_sql__no_memory(p);
            if (leaf->hidden)
                continue;
            mr_json_push(mr_json_get(column, "column_names"),
                         mr_json_new_string(&p->arena, mr_schema_field(leaf->schema, c)->name));
            mr_json_push(columns, column);
        }
        if (!leaf->is_static)
            MR_TRY(put_own(joins, leaf->node, &leaf->rel, leaf->alias));
    }
    MR_TRY(mr_sql__plan_query(p, joins->query, select, joins->scope, &rel));
    MR_ASSERT(rel != NULL);
    ret_side->rel = *rel;
    return MR_OK;
}

/* ---- Sides ---- */

static enum mr_status make(struct mr_sql_joins *joins, struct mr_json *tree,
                           struct mr_sql_conjuncts *list, bool spine, struct mr_sql_side *ret_side);

/* A stream with its columns under their names in the joined rows. */
static enum mr_status leaf_side(struct mr_sql_joins *joins, uint32_t index,
                                struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_sql_join_leaf *leaf = &joins->leaves[index];
    uint32_t count = mr_schema_field_count(leaf->schema);
    uint32_t *columns = mr_arena_alloc(&p->arena, count * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, count * sizeof(*names));
    uint32_t used = 0;

    if (columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < count; i++) {
        if (leaf->uses[i] == 0 && mr_sql__mark_of(&leaf->rel, i) == NULL &&
            !mr_sql__late_wants(p, joins->query, joins->select,
                                mr_schema_field(leaf->schema, i)->name))
            continue;
        columns[used] = i;
        names[used++] = leaf->names[i];
    }
    if (used == 0) {
        columns[0] = 0;
        names[used++] = leaf->names[0];
    }
    ret_side->leaves = UINT64_C(1) << index;
    return mr_sql__add_project(p, joins->query->owner, &leaf->rel, columns, names, used,
                               &ret_side->rel);
}

/* ---- Inner joins ---- */

struct group {
    struct mr_json *operands[MR_SQL_INPUTS_MAX];
    bool is_static[MR_SQL_INPUTS_MAX];
    struct mr_sql_side sides[MR_SQL_INPUTS_MAX];
    bool done[MR_SQL_INPUTS_MAX];
    uint32_t count;
};

static bool is_inner(const struct mr_json *tree)
{
    return is_join(tree) && mr_json_is(mr_json_get(tree, "join_type"), "INNER") &&
           (mr_json_is(mr_json_get(tree, "ref_type"), "REGULAR") ||
            mr_json_is(mr_json_get(tree, "ref_type"), "CROSS"));
}

static bool is_unit(const struct mr_sql_joins *joins, const struct mr_json *tree)
{
    return is_join(tree) && streams_in(joins, tree) == 1;
}

static enum mr_status flatten(struct mr_sql_joins *joins, struct mr_json *tree, struct group *group,
                              struct mr_sql_conjuncts *list)
{
    if (is_inner(tree) && streams_in(joins, tree) != 1) {
        MR_TRY(mr_sql__conjuncts(joins, mr_json_get(tree, "condition"), false, list));
        MR_TRY(flatten(joins, mr_json_get(tree, "left"), group, list));
        return flatten(joins, mr_json_get(tree, "right"), group, list);
    }
    MR_ASSERT(group->count < MR_SQL_INPUTS_MAX);
    group->operands[group->count] = tree;
    group->done[group->count] = false;
    group->is_static[group->count++] = streams_in(joins, tree) == 0;
    return MR_OK;
}

static enum mr_status join_group(struct mr_sql_joins *joins, const struct mr_json *place,
                                 struct group *group, struct mr_sql_conjuncts *list,
                                 struct mr_sql_side *side)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < group->count; i++) {
        if (group->is_static[i])
            continue;
        MR_TRY(make(joins, group->operands[i], list, false, &group->sides[i]));
        MR_TRY(mr_sql__join_filter(joins, &group->sides[i], list));
        left++;
    }
    for (uint32_t i = 0; i < group->count && side->leaves == 0; i++) {
        if (group->is_static[i])
            continue;
        *side = group->sides[i];
        group->done[i] = true;
        left--;
    }
    while (left > 0) {
        uint32_t next = group->count;

        for (uint32_t i = 0; i < group->count && next == group->count; i++) {
            if (!group->is_static[i] && !group->done[i] &&
                mr_sql__join_linked(joins, side->leaves, group->sides[i].leaves, list))
                next = i;
        }
        for (uint32_t i = 0; i < group->count && next == group->count; i++) {
            if (!group->is_static[i] && !group->done[i])
                next = i; /* which fails, and says why */
        }
        MR_TRY(
            mr_sql__join_pair(joins, place, MR_JOIN_INNER, side, &group->sides[next], list, side));
        group->done[next] = true;
        left--;
    }
    return MR_OK;
}

/* A JOIN of the tree reduced to the joined streams and the static operands behind them. */
static enum mr_status put_group(struct mr_sql_joins *joins, struct mr_json *tree,
                                const struct group *group, const struct mr_sql_conjuncts *list,
                                uint32_t from, const struct mr_sql_side *side)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_arena *arena = &p->arena;
    const char *name = mr_sql__own_stream(p, &side->rel);
    struct mr_json *all = name != NULL ? mr_sql__table_ref(p, name, MR_SQL_JOINED) : NULL;
    struct mr_json *join = NULL;

    if (all == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < group->count; i++) {
        if (!group->is_static[i])
            continue;
        join = mr_json_copy(arena, tree);
        if (join == NULL)
            return mr_sql__no_memory(p);
        mr_json_put(arena, join, "left", all);
        mr_json_put(arena, join, "right", mr_json_copy(arena, group->operands[i]));
        mr_json_put(arena, join, "condition", mr_json_new_null(arena));
        mr_json_put(arena, join, "join_type", mr_json_new_string(arena, "INNER"));
        mr_json_put(arena, join, "ref_type", mr_json_new_string(arena, "CROSS"));
        all = join;
    }
    for (uint32_t i = from; i < list->count; i++) {
        const struct mr_sql_conjunct *one = list->items[i];

        if (one->used || one->in_where)
            continue;
        if (join == NULL) {
            MR_TRY(and_to(joins, joins->select, "where_clause", mr_json_copy(arena, one->expr)));
            continue;
        }
        mr_json_put(arena, join, "ref_type", mr_json_new_string(arena, "REGULAR"));
        MR_TRY(and_to(joins, join, "condition", mr_json_copy(arena, one->expr)));
    }
    mr_sql__replace(tree, all);
    return MR_OK;
}

/* ---- Outer and semi joins ---- */

static enum mr_status type_of(struct mr_sql_joins *joins, const struct mr_json *tree,
                              enum mr_join_type *ret_type)
{
    static const struct {
        const char *name;
        enum mr_join_type type;
    } types[] = {{"INNER", MR_JOIN_INNER}, {"LEFT", MR_JOIN_LEFT},  {"RIGHT", MR_JOIN_RIGHT},
                 {"FULL", MR_JOIN_FULL},   {"OUTER", MR_JOIN_FULL}, {"SEMI", MR_JOIN_SEMI}};
    const char *name = mr_json_text(tree, "join_type");
    const char *kind = mr_json_text(tree, "ref_type");

    for (size_t i = 0; i < MR_ARRAY_SIZE(types) && name != NULL && kind != NULL; i++) {
        if (strcmp(types[i].name, name) != 0 ||
            (strcmp(kind, "REGULAR") != 0 && strcmp(kind, "CROSS") != 0))
            continue;
        *ret_type = types[i].type;
        return MR_OK;
    }
    if (name != NULL && strcmp(name, "ANTI") == 0)
        return mr_sql__fail(joins->p, joins->query, tree,
                            "an ANTI join of two streams is not supported: use LEFT JOIN and "
                            "WHERE right_column IS NULL");
    return mr_sql__fail(joins->p, joins->query, tree,
                        "this join of two streams is not supported; use INNER, LEFT, RIGHT, "
                        "FULL or SEMI JOIN ... ON");
}

/* Conditions of the block that may be tried below one side. */
static void pass_down(const struct mr_sql_conjuncts *list, uint64_t leaves,
                      struct mr_sql_conjuncts *ret_list)
{
    ret_list->count = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        if (!list->items[i]->used && !list->items[i]->opaque && list->items[i]->leaves != 0 &&
            (list->items[i]->leaves & ~leaves) == 0)
            ret_list->items[ret_list->count++] = list->items[i];
    }
}

static enum mr_status make_outer(struct mr_sql_joins *joins, struct mr_json *tree,
                                 const struct mr_sql_conjuncts *list, struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = joins->p;
    struct mr_sql_conjuncts *own = mr_arena_alloc(&p->arena, sizeof(*own));
    struct mr_sql_conjuncts *below = mr_arena_alloc(&p->arena, sizeof(*below));
    struct mr_json *operands[2] = {mr_json_get(tree, "left"), mr_json_get(tree, "right")};
    struct mr_sql_side sides[2];
    enum mr_join_type type = MR_JOIN_INNER;

    if (own == NULL || below == NULL)
        return mr_sql__no_memory(p);
    MR_TRY(type_of(joins, tree, &type));
    for (unsigned i = 0; i < 2; i++) {
        bool kept = i == 0 ? type == MR_JOIN_LEFT || type == MR_JOIN_SEMI : type == MR_JOIN_RIGHT;

        below->count = 0;
        if (kept)
            pass_down(list, leaves_in(joins, operands[i]), below);
        MR_TRY(make(joins, operands[i], below, false, &sides[i]));
        MR_TRY(mr_sql__join_filter(joins, &sides[i], below));
    }
    own->count = 0;
    MR_TRY(mr_sql__conjuncts(joins, mr_json_get(tree, "condition"), false, own));
    MR_TRY(mr_sql__join_pair(joins, tree, type, &sides[0], &sides[1], own, ret_side));
    for (uint32_t i = 0; i < own->count; i++) {
        if (!own->items[i]->used)
            return mr_sql__fail(joins->p, joins->query, own->items[i]->expr,
                                "this condition of an outer join of streams needs more than "
                                "their columns; move it to a subquery of one side");
    }
    return MR_OK;
}

/* ---- Trees ---- */

/* The rows of a part of the tree that has streams. */
static enum mr_status make(struct mr_sql_joins *joins, struct mr_json *tree,
                           struct mr_sql_conjuncts *list, bool spine, struct mr_sql_side *ret_side)
{
    struct group *group;
    uint32_t leaf = leaf_at(joins, tree);
    uint32_t from = list->count;

    memset(ret_side, 0, sizeof(*ret_side));
    if (leaf != UINT32_MAX)
        return leaf_side(joins, leaf, ret_side);
    if (is_unit(joins, tree))
        return plan_unit(joins, tree, list, ret_side);
    if (!is_inner(tree))
        return make_outer(joins, tree, list, ret_side);
    group = mr_arena_alloc(&joins->p->arena, sizeof(*group));
    if (group == NULL)
        return mr_sql__no_memory(joins->p);
    memset(group, 0, sizeof(*group));
    MR_TRY(flatten(joins, tree, group, list));
    MR_TRY(join_group(joins, tree, group, list, ret_side));
    if (spine)
        return put_group(joins, tree, group, list, from, ret_side);
    for (uint32_t i = 0; i < group->count; i++) {
        if (group->is_static[i])
            return mr_sql__fail(joins->p, joins->query, tree,
                                "a static table can be joined with one stream, or behind all "
                                "joins of streams; put these streams into a subquery");
    }
    for (uint32_t i = from; i < list->count; i++) {
        if (!list->items[i]->used && !list->items[i]->in_where)
            return mr_sql__fail(joins->p, joins->query, list->items[i]->expr,
                                "this condition of a join of streams needs more than their "
                                "columns; move it to WHERE");
    }
    return MR_OK;
}

/* Reduces the tree; static sides of its outermost joins stay. */
static enum mr_status reduce(struct mr_sql_joins *joins, struct mr_json *tree,
                             struct mr_sql_conjuncts *where)
{
    struct mr_json *left = mr_json_get(tree, "left");
    struct mr_json *right = mr_json_get(tree, "right");
    struct mr_sql_conjuncts *below;
    struct mr_sql_side side;

    if (is_inner(tree))
        return make(joins, tree, where, true, &side);
    if (streams_in(joins, left) > 0 && streams_in(joins, right) > 0) {
        MR_TRY(make(joins, tree, where, true, &side));
        return put_own(joins, tree, &side.rel, MR_SQL_JOINED);
    }
    below = mr_arena_alloc(&joins->p->arena, sizeof(*below));
    if (below == NULL)
        return mr_sql__no_memory(joins->p);
    tree = streams_in(joins, left) > 0 ? left : right;
    pass_down(where, leaves_in(joins, tree), below);
    return reduce(joins, tree, below);
}

enum mr_status mr_sql__join_tree(struct mr_sql_joins *joins, struct mr_json *tree,
                                 struct mr_sql_conjuncts *where)
{
    struct mr_arena *arena = &joins->p->arena;
    uint32_t count = where->count;

    mr_json_put(arena, joins->select, "where_clause", mr_json_new_null(arena));
    MR_TRY(reduce(joins, tree, where));
    for (uint32_t i = 0; i < count; i++) {
        if (!where->items[i]->used)
            MR_TRY(and_to(joins, joins->select, "where_clause", where->items[i]->expr));
    }
    return MR_OK;
}
