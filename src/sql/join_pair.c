/*
 * One join of two streams: conditions to keys, ranges, filters; when rows leave; the operator.
 *
 *     a.k = b.k, IS NOT DISTINCT FROM   keys: columns of one type on both sides, made by a
 *                                       statement when they are more than columns
 *     one side only                     a filter below it; on the side that is kept: a column
 *                                       mr_pass, because rows that fail leave with nulls
 *     one column of each side compared  ranges, decided natively
 *     anything else                     a statement over candidate pairs
 *
 * State of a side shrinks (structured.md 14.4) when a key is a watermarked time or window, or when
 * a range says that its time must be above the other side's watermarked time: the least of these
 * bounds.
 *
 * Called by join_tree.c. Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

enum { RANGES_MAX = 32 };

struct key {
    struct mr_json *exprs[2];
    struct mr_json *conjunct; /* for places */
    bool null_equal;
    const char *names[2]; /* of the columns */
};

struct pair {
    struct mr_sql_joins *joins;
    struct mr_sql_planner *p;
    const struct mr_json *place;
    enum mr_join_type type;
    struct mr_sql_side sides[2];
    struct key keys[MR_SQL_KEYS_MAX];
    uint32_t key_count;
    struct mr_sql_bound bounds[RANGES_MAX]; /* exact ones are ranges */
    uint32_t bound_count;
    struct mr_json *rest[MR_SQL_CONJUNCTS_MAX]; /* for the statement over pairs */
    uint32_t rest_count;
    struct mr_json *pass[2]; /* AND of conditions over a side that is kept */
    const char *pass_names[2];
    const char *time_names[2]; /* of the event time that conditions use */
    struct mr_join_time expiry[2];
    const char *expiry_names[2];
    int64_t shift_us[2];
    const char *state_name;
};

static bool preserves(const struct pair *pair, unsigned side)
{
    return pair->type == MR_JOIN_FULL || pair->type == (side == 0 ? MR_JOIN_LEFT : MR_JOIN_RIGHT);
}

/* ---- Statements over one side ---- */

static void keep_marks(const struct mr_sql_rel *from, struct mr_sql_rel *to)
{
    to->mark_count = 0;
    for (uint32_t i = 0; i < from->mark_count; i++) {
        const char *name = mr_schema_field(from->schema, from->marks[i].column)->name;
        int32_t column = mr_schema_find(to->schema, name, strlen(name));

        if (column < 0)
            continue;
        to->marks[to->mark_count] = from->marks[i];
        to->marks[to->mark_count++].column = (uint32_t)column;
    }
}

/* SELECT all columns, more FROM the side WHERE condition (NULL: none). */
static enum mr_status side_statement(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                     const char *more, const char *condition)
{
    struct mr_sql_from from = {.count = 1};
    struct mr_sql_rel input = side->rel;
    struct mr_sql_rel output;
    struct mr_buf sql = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_add_str(&sql, "SELECT ");
    for (uint32_t i = 0; i < mr_schema_field_count(input.schema); i++) {
        mr_buf_add_str(&sql, i > 0 ? ", " : "");
        mr_sql__add_quoted(&sql, mr_schema_field(input.schema, i)->name);
    }
    mr_buf_add_str(&sql, more);
    mr_buf_add_str(&sql, " FROM mr_input_0 AS " MR_SQL_JOINED);
    if (condition != NULL) {
        mr_buf_add_str(&sql, " WHERE ");
        mr_buf_add_str(&sql, condition);
    }
    from.leaves[0] = (struct mr_sql_leaf){
        .alias = MR_SQL_JOINED, .input = "mr_input_0", .schema = input.schema, .rel = &input};
    status = sql.failed
                 ? mr_sql__no_memory(joins->p)
                 : mr_sql__add_statement(joins->p, joins->query, &from, sql.data, false, &output);
    mr_buf_release(&sql);
    MR_TRY(status);
    keep_marks(&input, &output);
    side->rel = output;
    return MR_OK;
}

/* Takes the conditions over one side out of the list: their AND as one tree, NULL: none. */
static enum mr_status take_own(struct mr_sql_joins *joins, uint64_t leaves,
                               struct mr_sql_conjuncts *list, struct mr_json **ret_and)
{
    struct mr_arena *arena = &joins->p->arena;
    struct mr_json *children = mr_json_new_array(arena);
    struct mr_json *both = mr_json_new_object(arena);

    *ret_and = NULL;
    if (children == NULL || both == NULL)
        return mr_sql__no_memory(joins->p);
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_sql_conjunct *one = list->items[i];
        struct mr_json *copy;

        if (one->used || one->opaque || one->leaves == 0 || (one->leaves & ~leaves) != 0)
            continue;
        copy = mr_json_copy(arena, one->expr);
        if (copy == NULL)
            return mr_sql__no_memory(joins->p);
        one->used = true;
        mr_sql__count_uses(joins, one->expr, -1);
        mr_json_push(children, copy);
    }
    if (children->count == 0)
        return MR_OK;
    mr_json_put(arena, both, "class", mr_json_new_string(arena, "CONJUNCTION"));
    mr_json_put(arena, both, "type", mr_json_new_string(arena, "CONJUNCTION_AND"));
    mr_json_put(arena, both, "alias", mr_json_new_string(arena, ""));
    mr_json_put(arena, both, "children", children);
    *ret_and = children->count == 1 ? children->first : both;
    return MR_OK;
}

static enum mr_status filter_by(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                struct mr_json *condition)
{
    struct mr_sql_rel input = side->rel;
    struct mr_sql_from from = {.count = 1};
    struct mr_predicate predicates[MR_SQL_PREDICATES_MAX];
    uint32_t count;
    const char *text;
    bool done = false;

    from.leaves[0] = (struct mr_sql_leaf){
        .alias = MR_SQL_JOINED, .input = "mr_input_0", .schema = input.schema, .rel = &input};
    if (mr_sql__native_filter(joins->p, &from, condition, predicates, &count))
        MR_TRY(mr_sql__add_filter(joins->p, joins->query->owner, &input, predicates, count,
                                  &side->rel, &done));
    if (done) {
        keep_marks(&input, &side->rel);
        side->rel.aggregated = input.aggregated;
        return MR_OK;
    }
    MR_TRY(mr_sql__expression_text(joins->p, condition, &text));
    return side_statement(joins, side, "", text);
}

enum mr_status mr_sql__join_filter(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                   struct mr_sql_conjuncts *list)
{
    struct mr_json *condition;

    MR_TRY(take_own(joins, side->leaves, list, &condition));
    return condition != NULL ? filter_by(joins, side, condition) : MR_OK;
}

/* ---- Classes of conditions ---- */

static bool equality_of(const struct mr_sql_joins *joins, const struct mr_json *expr, uint64_t left,
                        uint64_t right, struct key *ret_key)
{
    struct mr_json *one = mr_json_get(expr, "left");
    struct mr_json *two = mr_json_get(expr, "right");
    bool opaque = false;
    uint64_t of_one, of_two;

    if (!mr_sql__type_is(expr, "COMPARE_EQUAL") &&
        !mr_sql__type_is(expr, "COMPARE_NOT_DISTINCT_FROM"))
        return false;
    of_one = mr_sql__leaves_of(joins, one, &opaque);
    of_two = mr_sql__leaves_of(joins, two, &opaque);
    if (opaque || of_one == 0 || of_two == 0)
        return false;
    ret_key->null_equal = mr_sql__type_is(expr, "COMPARE_NOT_DISTINCT_FROM");
    if ((of_one & ~left) == 0 && (of_two & ~right) == 0) {
        ret_key->exprs[0] = one;
        ret_key->exprs[1] = two;
        return true;
    }
    ret_key->exprs[0] = two;
    ret_key->exprs[1] = one;
    return (of_one & ~right) == 0 && (of_two & ~left) == 0;
}

bool mr_sql__join_linked(const struct mr_sql_joins *joins, uint64_t left, uint64_t right,
                         const struct mr_sql_conjuncts *list)
{
    struct key key;

    for (uint32_t i = 0; i < list->count; i++) {
        if (!list->items[i]->used && !list->items[i]->opaque &&
            equality_of(joins, list->items[i]->expr, left, right, &key))
            return true;
    }
    return false;
}

static enum mr_status classify_one(struct pair *pair, struct mr_json *expr)
{
    struct mr_sql_joins *joins = pair->joins;
    struct mr_sql_bound bounds[2];
    struct key key = {.conjunct = expr};
    bool exact = true;
    uint32_t count;

    if (equality_of(joins, expr, pair->sides[0].leaves, pair->sides[1].leaves, &key)) {
        if (pair->key_count == MR_SQL_KEYS_MAX)
            return mr_sql__fail(joins->p, joins->query, expr, "more than %d equalities in one join",
                                MR_SQL_KEYS_MAX);
        pair->keys[pair->key_count++] = key;
        return MR_OK;
    }
    MR_TRY(mr_sql__join_bounds(joins, &pair->sides[0], &pair->sides[1], expr, bounds, &count));
    for (uint32_t i = 0; i < count && pair->bound_count < RANGES_MAX; i++) {
        exact = exact && bounds[i].exact;
        pair->bounds[pair->bound_count++] = bounds[i];
    }
    if (count == 0 || !exact || pair->bound_count == RANGES_MAX)
        pair->rest[pair->rest_count++] = expr;
    return MR_OK;
}

static enum mr_status classify(struct pair *pair, struct mr_sql_conjuncts *list)
{
    struct mr_sql_joins *joins = pair->joins;
    uint64_t both = pair->sides[0].leaves | pair->sides[1].leaves;

    for (unsigned side = 0; side < 2; side++) {
        if (!preserves(pair, side))
            MR_TRY(mr_sql__join_filter(joins, &pair->sides[side], list));
        else
            MR_TRY(take_own(joins, pair->sides[side].leaves, list, &pair->pass[side]));
    }
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_sql_conjunct *one = list->items[i];

        if (one->used || one->opaque || (one->leaves & ~both) != 0 ||
            (one->leaves == 0 && pair->type == MR_JOIN_INNER))
            continue;
        one->used = true;
        mr_sql__count_uses(joins, one->expr, -1);
        MR_TRY(classify_one(pair, one->expr));
    }
    if (pair->key_count > 0)
        return MR_OK;
    return mr_sql__fail(joins->p, joins->query, pair->place,
                        "a join of two streams needs an equality between them, such as a.key "
                        "= b.key: without one every row would be compared with every other");
}

/* ---- Keys ---- */

/* Column of a side that an expression is; -1: it is more. */
static int32_t plain_column(const struct pair *pair, unsigned side, const struct mr_json *expr)
{
    uint32_t leaf, column;
    size_t rest;
    const char *name;

    if (!mr_sql__joined_column(pair->joins, expr, &leaf, &column, &rest) || rest > 0)
        return -1;
    name = pair->joins->leaves[leaf].names[column];
    return mr_schema_find(pair->sides[side].rel.schema, name, strlen(name));
}

/* The type of an expression over a side. In arena. */
static enum mr_status type_of(struct pair *pair, unsigned side, const struct mr_json *expr,
                              struct mr_buf *ret_type)
{
    const struct mr_schema *schema = pair->sides[side].rel.schema;
    struct mr_duck_input input = {"mr_input_0", schema};
    int32_t column = plain_column(pair, side, expr);
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_duck_stmt *stmt = NULL;
    const char *text;
    enum mr_status status;

    mr_buf_clear(ret_type);
    if (column >= 0) {
        mr_sql__add_type(ret_type, &mr_schema_field(schema, (uint32_t)column)->type);
        return ret_type->failed ? mr_sql__no_memory(pair->p) : MR_OK;
    }
    MR_TRY(mr_sql__expression_text(pair->p, expr, &text));
    mr_buf_printf(&sql, "SELECT (%s) AS k FROM mr_input_0 AS " MR_SQL_JOINED, text);
    status = sql.failed ? mr_sql__no_memory(pair->p)
                        : mr_duck_prepare(pair->p->duck, sql.data, &input, 1, &stmt, pair->p->err);
    if (status == MR_OK)
        mr_sql__add_type(ret_type, &mr_schema_field(mr_duck_stmt_schema(stmt), 0)->type);
    else if (!sql.failed)
        mr_sql__place_printed(pair->p, pair->joins->query, sql.data);
    mr_duck_stmt_free(stmt);
    mr_buf_release(&sql);
    return status == MR_OK && ret_type->failed ? mr_sql__no_memory(pair->p) : status;
}

static bool is_text(const struct mr_buf *type)
{
    return strcmp(type->data, "VARCHAR") == 0;
}

/* The one type both sides of an equality are compared as. */
static enum mr_status common_type(struct pair *pair, const struct key *key,
                                  const struct mr_buf types[2], struct mr_buf *ret_type)
{
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_duck_stmt *stmt = NULL;
    enum mr_status status = MR_OK;

    mr_buf_clear(ret_type);
    if (is_text(&types[0]) != is_text(&types[1]))
        return mr_sql__fail(pair->p, pair->joins->query, key->conjunct,
                            "a key of the join is %s on the left and %s on the right; cast "
                            "one of them",
                            types[0].data, types[1].data);
    mr_buf_printf(&sql,
                  "SELECT CASE WHEN true THEN CAST(NULL AS %s) ELSE CAST(NULL AS %s) END AS k",
                  types[0].data, types[1].data);
    if (sql.failed || mr_duck_prepare(pair->p->duck, sql.data, NULL, 0, &stmt, NULL) != MR_OK)
        status = mr_sql__fail(pair->p, pair->joins->query, key->conjunct,
                              "a key of the join is %s on the left and %s on the right, "
                              "which cannot be compared; cast one of them",
                              types[0].data, types[1].data);
    else
        mr_sql__add_type(ret_type, &mr_schema_field(mr_duck_stmt_schema(stmt), 0)->type);
    mr_duck_stmt_free(stmt);
    mr_buf_release(&sql);
    return status;
}

/* mr_key_0, mr_pass ...: unique, as the names of leaves are not of this form. In arena. */
static const char *made_name(struct pair *pair, const char *what, uint32_t number)
{
    struct mr_buf text = MR_BUF_INIT;
    const char *name;

    mr_buf_printf(&text, "mr_%s_%u", what, number);
    name = text.failed ? NULL : mr_arena_copy(&pair->p->arena, text.data, text.size);
    mr_buf_release(&text);
    return name;
}

static enum mr_status add_made(struct pair *pair, const struct mr_json *expr, const char *type,
                               const char *name, struct mr_buf *more)
{
    const char *text;

    if (name == NULL)
        return mr_sql__no_memory(pair->p);
    MR_TRY(mr_sql__expression_text(pair->p, expr, &text));
    mr_buf_printf(more, ", CAST((%s) AS %s) AS ", text, type);
    mr_sql__add_quoted(more, name);
    return MR_OK;
}

static enum mr_status make_key(struct pair *pair, uint32_t index, struct mr_buf more[2],
                               struct mr_buf types[3])
{
    struct key *key = &pair->keys[index];
    const struct mr_schema *schemas[2] = {pair->sides[0].rel.schema, pair->sides[1].rel.schema};

    for (unsigned side = 0; side < 2; side++)
        MR_TRY(type_of(pair, side, key->exprs[side], &types[side]));
    if (strcmp(types[0].data, types[1].data) != 0) {
        MR_TRY(common_type(pair, key, types, &types[2]));
    } else {
        mr_buf_clear(&types[2]);
        mr_buf_add_str(&types[2], types[0].data);
    }
    if (types[2].failed)
        return mr_sql__no_memory(pair->p);
    for (unsigned side = 0; side < 2; side++) {
        int32_t column = plain_column(pair, side, key->exprs[side]);

        if (column >= 0 && strcmp(types[side].data, types[2].data) == 0) {
            key->names[side] = mr_schema_field(schemas[side], (uint32_t)column)->name;
            continue;
        }
        key->names[side] = made_name(pair, "key", index);
        MR_TRY(add_made(pair, key->exprs[side], types[2].data, key->names[side], &more[side]));
    }
    return MR_OK;
}

static enum mr_status make_columns(struct pair *pair)
{
    struct mr_buf more[2] = {MR_BUF_INIT, MR_BUF_INIT};
    struct mr_buf types[3] = {MR_BUF_INIT, MR_BUF_INIT, MR_BUF_INIT};
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < pair->key_count && status == MR_OK; i++)
        status = make_key(pair, i, more, types);
    for (unsigned side = 0; side < 2 && status == MR_OK; side++) {
        if (pair->pass[side] != NULL) {
            pair->pass_names[side] = made_name(pair, "pass", 0);
            status =
                add_made(pair, pair->pass[side], "BOOLEAN", pair->pass_names[side], &more[side]);
        }
        if (status == MR_OK && more[side].failed)
            status = mr_sql__no_memory(pair->p);
        if (status == MR_OK && more[side].size > 0)
            status = side_statement(pair->joins, &pair->sides[side], more[side].data, NULL);
    }
    for (unsigned i = 0; i < 3; i++)
        mr_buf_release(&types[i]);
    for (unsigned side = 0; side < 2; side++)
        mr_buf_release(&more[side]);
    return status;
}

/* ---- Times ---- */

/* How a marked column tells when the watermark has passed its row. */
static struct mr_join_time time_of(const struct mr_sql_mark *mark, const struct mr_type *type)
{
    struct mr_join_time time = {.column = (int32_t)mark->column, .field = -1};

    if (mark->kind == MR_SQL_MARK_START)
        time.add_us = mark->size_us;
    if (mark->kind == MR_SQL_MARK_WINDOW) {
        for (uint32_t i = 0; i < type->field_count; i++) {
            if (mr_sql__same_name(type->fields[i].name, "end"))
                time.field = (int32_t)i;
        }
    }
    return time;
}

static const struct mr_sql_mark *mark_named(const struct mr_sql_rel *rel, const char *name)
{
    int32_t column = mr_schema_find(rel->schema, name, strlen(name));
    const struct mr_sql_mark *mark = column >= 0 ? mr_sql__mark_of(rel, (uint32_t)column) : NULL;

    return mark != NULL && mark->watermarked ? mark : NULL;
}

/* The mark of a key that is window.start or window.end of a marked window, computed. */
static bool field_mark(const struct pair *pair, unsigned side, const struct mr_json *expr,
                       struct mr_sql_mark *ret_mark)
{
    const struct mr_json *names = mr_json_get(expr, "column_names");
    const struct mr_sql_mark *mark;
    uint32_t leaf, column;
    size_t rest;

    if (!mr_sql__joined_column(pair->joins, expr, &leaf, &column, &rest) || rest != 1)
        return false;
    mark = mark_named(&pair->sides[side].rel, pair->joins->leaves[leaf].names[column]);
    if (mark == NULL || mark->kind != MR_SQL_MARK_WINDOW)
        return false;
    *ret_mark = *mark;
    ret_mark->kind =
        mr_sql__same_name(names->last->text, "start") ? MR_SQL_MARK_START : MR_SQL_MARK_END;
    return true;
}

/* A watermarked key: both sides' rows leave by it. */
static bool key_case(struct pair *pair)
{
    for (uint32_t i = 0; i < pair->key_count; i++) {
        const struct key *key = &pair->keys[i];
        struct mr_sql_mark mark = {0};
        bool found = false;

        for (unsigned side = 0; side < 2 && !found; side++) {
            const struct mr_sql_mark *own = mark_named(&pair->sides[side].rel, key->names[side]);

            found = own != NULL || field_mark(pair, side, key->exprs[side], &mark);
            if (own != NULL)
                mark = *own;
        }
        for (unsigned side = 0; side < 2 && found; side++) {
            const struct mr_schema *schema = pair->sides[side].rel.schema;
            int32_t column = mr_schema_find(schema, key->names[side], strlen(key->names[side]));

            mark.column = (uint32_t)column;
            pair->expiry[side] = time_of(&mark, &mr_schema_field(schema, (uint32_t)column)->type);
            pair->expiry_names[side] = key->names[side];
            pair->shift_us[side] = 0;
            if (mark_named(&pair->sides[side].rel, key->names[side]) != NULL)
                pair->time_names[side] = key->names[side];
        }
        if (found)
            return true;
    }
    return false;
}

/* own > other's time + add (or >=): rows of own at or below the watermark + shift can go. */
static void take_bound(struct pair *pair, unsigned side, const char *own, const char *other,
                       bool strict, int64_t add)
{
    const struct mr_sql_mark *mark = mark_named(&pair->sides[!side].rel, other);
    int64_t shift_us = add - (strict ? 0 : 1000);

    if (mark == NULL || mark->kind == MR_SQL_MARK_WINDOW)
        return;
    if (mark->kind == MR_SQL_MARK_START)
        shift_us -= mark->size_us;
    if (pair->expiry_names[side] != NULL && pair->shift_us[side] <= shift_us)
        return;
    pair->expiry_names[side] = own;
    pair->expiry[side] = (struct mr_join_time){.column = 0, .field = -1};
    pair->shift_us[side] = shift_us;
}

static void value_case(struct pair *pair)
{
    for (uint32_t i = 0; i < pair->bound_count; i++) {
        const struct mr_sql_bound *bound = &pair->bounds[i];
        bool strict = bound->compare == MR_LT || bound->compare == MR_GT;

        if (!bound->is_time)
            continue;
        if (mark_named(&pair->sides[0].rel, bound->left) != NULL)
            pair->time_names[0] = bound->left;
        if (mark_named(&pair->sides[1].rel, bound->right) != NULL)
            pair->time_names[1] = bound->right;
        if (bound->compare == MR_GT || bound->compare == MR_GE || bound->compare == MR_EQ)
            take_bound(pair, 0, bound->left, bound->right, strict, bound->add);
        if (bound->compare == MR_LT || bound->compare == MR_LE || bound->compare == MR_EQ)
            take_bound(pair, 1, bound->right, bound->left, strict, -bound->add);
    }
}

/* ---- Rules ---- */

static const char *name_of_type(enum mr_join_type type)
{
    static const char *const names[] = {"inner", "left", "right", "full", "semi"};

    return names[type];
}

static enum mr_status check_rules(struct pair *pair, bool by_key)
{
    struct mr_sql_planner *p = pair->p;
    bool left = pair->expiry_names[0] != NULL;
    bool right = pair->expiry_names[1] != NULL;
    bool bounded = by_key || pair->type == MR_JOIN_INNER ||
                   ((pair->type == MR_JOIN_LEFT || pair->type == MR_JOIN_SEMI) && left) ||
                   (pair->type == MR_JOIN_RIGHT && right) ||
                   (pair->type == MR_JOIN_FULL && (left || right));

    if (p->mode == MR_MODE_COMPLETE)
        return mr_sql__fail(pair->p, pair->joins->query, pair->place,
                            "a join of two streams cannot be in output mode complete: its "
                            "whole result would have to be kept; use append");
    if (p->mode != MR_MODE_APPEND && pair->type != MR_JOIN_INNER && pair->type != MR_JOIN_SEMI)
        return mr_sql__fail(pair->p, pair->joins->query, pair->place,
                            "a %s join of two streams needs output_mode = 'append': a row "
                            "with nulls cannot be taken back",
                            name_of_type(pair->type));
    if (p->mode != MR_MODE_APPEND &&
        (pair->sides[0].rel.aggregated || pair->sides[1].rel.aggregated))
        return mr_sql__fail(pair->p, pair->joins->query, pair->place,
                            "an aggregation below a join of streams needs output_mode = "
                            "'append': a row that was joined cannot change");
    if (bounded)
        return MR_OK;
    return mr_sql__fail(pair->p, pair->joins->query, pair->place,
                        "a %s join of two streams must know when a row can match no more: "
                        "give the tables a WATERMARK, and join on the event time or its "
                        "window, or add a condition such as %s",
                        name_of_type(pair->type),
                        pair->type == MR_JOIN_RIGHT ? "right.ts >= left.ts - INTERVAL '1 hour'"
                                                    : "left.ts >= right.ts - INTERVAL '1 hour'");
}

/* ---- The operator ---- */

/* A column of the state: marks in need. */
static bool need(struct pair *pair, unsigned side, bool *needed, const char *name)
{
    const struct mr_schema *schema = pair->sides[side].rel.schema;
    int32_t column = name != NULL ? mr_schema_find(schema, name, strlen(name)) : -1;

    if (column >= 0)
        needed[column] = true;
    return column >= 0;
}

static void need_rest(struct pair *pair, unsigned side, bool *needed, const struct mr_json *expr)
{
    uint32_t leaf, column;
    size_t rest;

    if (expr == NULL)
        return;
    if (mr_sql__joined_column(pair->joins, expr, &leaf, &column, &rest))
        (void)need(pair, side, needed, pair->joins->leaves[leaf].names[column]);
    for (const struct mr_json *child = expr->first; child != NULL; child = child->next)
        need_rest(pair, side, needed, child);
}

/* Is a column wanted behind the join? */
static bool is_wanted(const struct pair *pair, unsigned side, const char *name)
{
    const struct mr_sql_joins *joins = pair->joins;

    if (pair->type == MR_JOIN_SEMI && side == 1)
        return false;
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((pair->sides[side].leaves >> i & 1) == 0)
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            if (leaf->uses[c] > 0 && strcmp(leaf->names[c], name) == 0)
                return true;
        }
    }
    return false;
}

/* The event time of a side: that of the conditions, else its first. */
static void settle_time(struct pair *pair, unsigned side)
{
    const struct mr_sql_rel *rel = &pair->sides[side].rel;

    for (uint32_t i = 0; i < rel->mark_count && pair->time_names[side] == NULL; i++) {
        if (rel->marks[i].watermarked)
            pair->time_names[side] = mr_schema_field(rel->schema, rel->marks[i].column)->name;
    }
}

/* ON LATE INTO: rows that the join would drop go to a table, under their own names. Behind another
 * join the watermark of a side is not the join's, so only tables and subqueries can do that. */
static enum mr_status split_late(struct pair *pair, unsigned side)
{
    struct mr_sql_joins *joins = pair->joins;
    struct mr_sql_rel *rel = &pair->sides[side].rel;
    uint32_t count = mr_schema_field_count(rel->schema);
    const char **names = mr_arena_alloc(&pair->p->arena, (count + 1) * sizeof(*names));
    const struct mr_sql_mark *mark =
        pair->time_names[side] != NULL ? mark_named(rel, pair->time_names[side]) : NULL;
    uint64_t both = pair->sides[0].leaves | pair->sides[1].leaves;

    if (names == NULL)
        return mr_sql__no_memory(pair->p);
    if (mark == NULL || mark->kind == MR_SQL_MARK_WINDOW || __builtin_popcountll(both) > 2)
        return MR_OK;
    memset(names, 0, (count + 1) * sizeof(*names));
    for (uint32_t i = 0; i < joins->count; i++) {
        const struct mr_sql_join_leaf *leaf = &joins->leaves[i];

        if ((pair->sides[side].leaves >> i & 1) == 0)
            continue;
        for (uint32_t c = 0; c < mr_schema_field_count(leaf->schema); c++) {
            int32_t column = mr_schema_find(rel->schema, leaf->names[c], strlen(leaf->names[c]));

            if (column >= 0)
                names[column] = mr_schema_field(leaf->schema, c)->name;
        }
    }
    return mr_sql__late_split(pair->p, joins->query, joins->select, pair->state_name, rel,
                              mark->column, mark->kind == MR_SQL_MARK_START ? mark->size_us : 0,
                              names, rel);
}

/* Only what the join needs of a side goes into its state. */
static enum mr_status narrow(struct pair *pair, unsigned side)
{
    struct mr_sql_planner *p = pair->p;
    struct mr_sql_rel input = pair->sides[side].rel;
    uint32_t count = mr_schema_field_count(input.schema);
    bool *needed = mr_arena_alloc(&p->arena, count + 1);
    uint32_t *columns = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*columns));
    const char **names = mr_arena_alloc(&p->arena, (count + 1) * sizeof(*names));
    uint32_t used = 0;

    if (needed == NULL || columns == NULL || names == NULL)
        return mr_sql__no_memory(p);
    memset(needed, 0, count + 1);
    for (uint32_t i = 0; i < pair->key_count; i++)
        (void)need(pair, side, needed, pair->keys[i].names[side]);
    for (uint32_t i = 0; i < pair->bound_count; i++)
        (void)need(pair, side, needed, side == 0 ? pair->bounds[i].left : pair->bounds[i].right);
    for (uint32_t i = 0; i < pair->rest_count; i++)
        need_rest(pair, side, needed, pair->rest[i]);
    (void)need(pair, side, needed, pair->pass_names[side]);
    (void)need(pair, side, needed, pair->time_names[side]);
    (void)need(pair, side, needed, pair->expiry_names[side]);
    for (uint32_t i = 0; i < count; i++) {
        const char *name = mr_schema_field(input.schema, i)->name;

        if (!needed[i] && !is_wanted(pair, side, name))
            continue;
        columns[used] = i;
        names[used++] = name;
    }
    return mr_sql__add_project(p, pair->joins->query->owner, &input, columns, names, used,
                               &pair->sides[side].rel);
}

static int32_t column_at(const struct pair *pair, unsigned side, const char *name)
{
    return name != NULL ? mr_schema_find(pair->sides[side].rel.schema, name, strlen(name)) : -1;
}

static enum mr_status fill_side(struct pair *pair, unsigned side, struct mr_join_side *ret_side)
{
    const struct mr_sql_rel *rel = &pair->sides[side].rel;
    uint32_t *keys = mr_arena_alloc(&pair->p->arena, pair->key_count * sizeof(*keys));
    const struct mr_sql_mark *mark =
        pair->time_names[side] != NULL ? mark_named(rel, pair->time_names[side]) : NULL;

    if (keys == NULL)
        return mr_sql__no_memory(pair->p);
    for (uint32_t i = 0; i < pair->key_count; i++)
        keys[i] = (uint32_t)column_at(pair, side, pair->keys[i].names[side]);
    *ret_side = (struct mr_join_side){.schema = rel->schema,
                                      .keys = keys,
                                      .pass_column = column_at(pair, side, pair->pass_names[side]),
                                      .event = {.column = -1, .field = -1},
                                      .expiry = pair->expiry[side],
                                      .expiry_shift_us = pair->shift_us[side]};
    ret_side->expiry.column = column_at(pair, side, pair->expiry_names[side]);
    if (mark != NULL)
        ret_side->event = time_of(mark, &mr_schema_field(rel->schema, mark->column)->type);
    return MR_OK;
}

/* Columns behind the join, left ones first. */
static enum mr_status list_outputs(struct pair *pair, struct mr_join_column **ret_columns,
                                   uint32_t *ret_count)
{
    uint32_t counts[2] = {mr_schema_field_count(pair->sides[0].rel.schema),
                          mr_schema_field_count(pair->sides[1].rel.schema)};
    struct mr_join_column *columns =
        mr_arena_alloc(&pair->p->arena, (counts[0] + counts[1] + 1) * sizeof(*columns));
    uint32_t used = 0;

    if (columns == NULL)
        return mr_sql__no_memory(pair->p);
    for (unsigned side = 0; side < 2; side++) {
        for (uint32_t i = 0; i < counts[side]; i++) {
            const char *name = mr_schema_field(pair->sides[side].rel.schema, i)->name;

            if (is_wanted(pair, side, name))
                columns[used++] = (struct mr_join_column){side == 1, i, name};
        }
    }
    if (used == 0) /* count(*) alone */
        columns[used++] =
            (struct mr_join_column){false, 0, mr_schema_field(pair->sides[0].rel.schema, 0)->name};
    *ret_columns = columns;
    *ret_count = used;
    return MR_OK;
}

static enum mr_status schema_of(struct pair *pair, const struct mr_join_column *columns,
                                uint32_t count, struct mr_schema **ret_schema)
{
    struct mr_field *fields = mr_arena_alloc(&pair->p->arena, (count + 1) * sizeof(*fields));

    if (fields == NULL)
        return mr_sql__no_memory(pair->p);
    for (uint32_t i = 0; i < count; i++) {
        fields[i] = *mr_schema_field(pair->sides[columns[i].right].rel.schema, columns[i].column);
        fields[i].name = columns[i].name;
    }
    return mr_schema_new(fields, count, ret_schema, pair->p->err);
}

/* The conditions that are left, as a statement over pairs. */
static enum mr_status make_filter(struct pair *pair, struct mr_join_filter *ret_filter)
{
    struct mr_sql_planner *p = pair->p;
    uint32_t counts[2] = {mr_schema_field_count(pair->sides[0].rel.schema),
                          mr_schema_field_count(pair->sides[1].rel.schema)};
    struct mr_join_column *columns =
        mr_arena_alloc(&p->arena, (counts[0] + counts[1] + 1) * sizeof(*columns));
    struct mr_schema *schema = NULL;
    struct mr_buf sql = MR_BUF_INIT;
    uint32_t used = 0;
    enum mr_status status = MR_OK;

    if (columns == NULL)
        return mr_sql__no_memory(p);
    for (unsigned side = 0; side < 2; side++) {
        bool *needed = mr_arena_alloc(&p->arena, counts[side] + 1);

        if (needed == NULL)
            return mr_sql__no_memory(p);
        memset(needed, 0, counts[side] + 1);
        for (uint32_t i = 0; i < pair->rest_count; i++)
            need_rest(pair, side, needed, pair->rest[i]);
        for (uint32_t i = 0; i < counts[side]; i++) {
            if (needed[i])
                columns[used++] = (struct mr_join_column){
                    side == 1, i, mr_schema_field(pair->sides[side].rel.schema, i)->name};
        }
    }
    if (used == 0)
        columns[used++] =
            (struct mr_join_column){false, 0, mr_schema_field(pair->sides[0].rel.schema, 0)->name};
    mr_buf_add_str(&sql, "SELECT CAST(coalesce(");
    for (uint32_t i = 0; i < pair->rest_count && status == MR_OK; i++) {
        const char *text = "";

        status = mr_sql__expression_text(p, pair->rest[i], &text);
        mr_buf_printf(&sql, "%s(%s)", i > 0 ? " AND " : "", text);
    }
    mr_buf_add_str(&sql, ", false) AS BOOLEAN) AS keep FROM mr_input_0 AS " MR_SQL_JOINED);
    if (status == MR_OK)
        status = sql.failed ? mr_sql__no_memory(p) : schema_of(pair, columns, used, &schema);
    if (status == MR_OK) {
        status = mr_sql__pair_filter(p->engine, sql.data, schema, ret_filter, p->err);
        if (status != MR_OK)
            mr_sql__place_printed(p, pair->joins->query, sql.data);
    }
    mr_schema_unref(schema);
    mr_buf_release(&sql);
    ret_filter->columns = columns;
    ret_filter->column_count = used;
    return status;
}

static enum mr_status fill_ranges(struct pair *pair, struct mr_join_range *ranges,
                                  uint32_t *ret_count)
{
    *ret_count = 0;
    for (uint32_t i = 0; i < pair->bound_count; i++) {
        const struct mr_sql_bound *bound = &pair->bounds[i];

        if (!bound->exact)
            continue;
        ranges[(*ret_count)++] =
            (struct mr_join_range){.left = (uint32_t)column_at(pair, 0, bound->left),
                                   .right = (uint32_t)column_at(pair, 1, bound->right),
                                   .compare = bound->compare,
                                   .add = bound->add};
    }
    return MR_OK;
}

static void describe(const struct pair *pair, const char *name, bool by_key)
{
    mr_buf_printf(&pair->p->text, "operator %s: %s join, state '%s', %u keys%s%s\n", name,
                  name_of_type(pair->type), name, pair->key_count,
                  by_key || pair->expiry_names[0] != NULL || pair->expiry_names[1] != NULL
                      ? ", rows leave by the watermark"
                      : ", rows stay for ever",
                  pair->rest_count > 0 ? ", conditions by statement" : "");
}

/*
 * What the rows kept mean beyond their columns. An inner join does not keep what has matched, which
 * an outer one needs to know; keys that are expressions, and whether a row may match, are columns
 * made before they are kept.
 */
static enum mr_status tell_identity(struct pair *pair, enum mr_join_type type, struct mr_node *node)
{
    struct mr_buf text = MR_BUF_INIT;
    const char *exprs[2] = {"", ""};
    enum mr_status status = MR_OK;

    mr_buf_printf(&text, "%s join", name_of_type(type));
    for (uint32_t i = 0; i < pair->key_count && status == MR_OK; i++) {
        const struct key *key = &pair->keys[i];

        if (strncmp(key->names[0], "mr_key_", 7) != 0 && strncmp(key->names[1], "mr_key_", 7) != 0)
            continue;
        for (unsigned side = 0; side < 2 && status == MR_OK; side++)
            status = mr_sql__expression_text(pair->p, key->exprs[side], &exprs[side]);
        mr_buf_printf(&text, ", %s = %s", exprs[0], exprs[1]);
    }
    for (unsigned side = 0; side < 2 && status == MR_OK; side++) {
        if (pair->pass[side] == NULL)
            continue;
        status = mr_sql__expression_text(pair->p, pair->pass[side], &exprs[side]);
        mr_buf_printf(&text, ", if %s", exprs[side]);
    }
    if (status == MR_OK)
        mr_node_set_identity(node, text.failed ? NULL : text.data);
    mr_buf_release(&text);
    return status;
}

static enum mr_status add_node(struct pair *pair, const struct mr_join_spec *spec,
                               struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = pair->p;
    struct mr_node *inputs[2] = {pair->sides[0].rel.node, pair->sides[1].rel.node};
    struct mr_sql_rel rel = {.aggregated =
                                 pair->sides[0].rel.aggregated || pair->sides[1].rel.aggregated};
    struct mr_fold_op op;
    enum mr_status status;

    MR_TRY(mr_op_join(spec, &op, p->err));
    status = mr_graph_fold(p->graph, spec->state_name, inputs, 2, op.schema, op.ops, op.op,
                           &rel.node, p->err);
    mr_schema_unref(op.schema);
    MR_TRY(status);
    MR_TRY(tell_identity(pair, spec->type, rel.node));
    rel.schema = mr_node_schema(rel.node);
    for (unsigned side = 0; side < 2; side++) {
        const struct mr_sql_rel *from = &pair->sides[side].rel;

        for (uint32_t i = 0; i < from->mark_count && rel.mark_count < MR_SQL_MARKS_MAX; i++) {
            const char *name = mr_schema_field(from->schema, from->marks[i].column)->name;
            int32_t column = mr_schema_find(rel.schema, name, strlen(name));

            if (column < 0)
                continue;
            rel.marks[rel.mark_count] = from->marks[i];
            rel.marks[rel.mark_count++].column = (uint32_t)column;
        }
    }
    ret_side->leaves = pair->sides[0].leaves | pair->sides[1].leaves;
    ret_side->rel = rel;
    return MR_OK;
}

static enum mr_status add_join(struct pair *pair, bool by_key, struct mr_sql_side *ret_side)
{
    struct mr_sql_planner *p = pair->p;
    struct mr_join_spec spec = {.type = pair->type, .key_count = pair->key_count};
    struct mr_join_range ranges[RANGES_MAX];
    struct mr_join_filter filter;
    struct mr_join_column *outputs = NULL;
    bool *null_equal = mr_arena_alloc(&p->arena, pair->key_count);

    spec.state_name = pair->state_name;
    if (null_equal == NULL)
        return mr_sql__no_memory(p);
    for (uint32_t i = 0; i < pair->key_count; i++)
        null_equal[i] = pair->keys[i].null_equal;
    MR_TRY(fill_side(pair, 0, &spec.left));
    MR_TRY(fill_side(pair, 1, &spec.right));
    MR_TRY(fill_ranges(pair, ranges, &spec.range_count));
    MR_TRY(list_outputs(pair, &outputs, &spec.output_count));
    spec.null_equal = null_equal;
    spec.ranges = ranges;
    spec.outputs = outputs;
    if (pair->rest_count > 0) {
        MR_TRY(make_filter(pair, &filter));
        spec.filter = &filter;
    }
    describe(pair, spec.state_name, by_key);
    return add_node(pair, &spec, ret_side);
}

enum mr_status mr_sql__join_pair(struct mr_sql_joins *joins, const struct mr_json *place,
                                 enum mr_join_type type, const struct mr_sql_side *left,
                                 const struct mr_sql_side *right, struct mr_sql_conjuncts *list,
                                 struct mr_sql_side *ret_side)
{
    struct pair *pair = mr_arena_alloc(&joins->p->arena, sizeof(*pair));
    bool by_key;

    if (pair == NULL)
        return mr_sql__no_memory(joins->p);
    memset(pair, 0, sizeof(*pair));
    pair->joins = joins;
    pair->p = joins->p;
    pair->place = place;
    pair->type = type;
    pair->sides[0] = *left;
    pair->sides[1] = *right;
    MR_TRY(classify(pair, list));
    MR_TRY(make_columns(pair));
    by_key = key_case(pair);
    if (!by_key)
        value_case(pair);
    MR_TRY(check_rules(pair, by_key));
    pair->state_name = mr_sql__node_name(joins->p, joins->query->owner, "join");
    if (pair->state_name == NULL)
        return mr_sql__no_memory(joins->p);
    for (unsigned side = 0; side < 2; side++) {
        settle_time(pair, side);
        MR_TRY(split_late(pair, side));
        MR_TRY(narrow(pair, side));
    }
    return add_join(pair, by_key, ret_side);
}
