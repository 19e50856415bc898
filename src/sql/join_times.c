/*
 * One join of two streams: when rows leave, and which joins are allowed (structured.md 14.1, 14.4).
 *
 *     key case      a key is a watermarked time or window: both sides' rows leave by it
 *     value case    a range says that a side's time must be above the other side's watermarked
 *                   time: its rows leave by the least of these bounds
 *
 * Called by join_pair.c. Thread: the planner's.
 */
#include "base/check.h"
#include "sql/joins.h"

#include <string.h>

/* ---- Times ---- */

/* How a marked column tells when the watermark has passed its row. */
struct mr_join_time mr_sql__pair_time_of(const struct mr_sql_mark *mark, const struct mr_type *type)
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

const struct mr_sql_mark *mr_sql__mark_named(const struct mr_sql_rel *rel, const char *name)
{
    int32_t column = mr_schema_find(rel->schema, name, strlen(name));
    const struct mr_sql_mark *mark = column >= 0 ? mr_sql__mark_of(rel, (uint32_t)column) : NULL;

    return mark != NULL && mark->watermarked ? mark : NULL;
}

/* The mark of a key that is window.start or window.end of a marked window, computed. */
static bool field_mark(const struct mr_sql_pair *pair, unsigned side, const struct mr_json *expr,
                       struct mr_sql_mark *ret_mark)
{
    const struct mr_json *names = mr_json_get(expr, "column_names");
    const struct mr_sql_mark *mark;
    uint32_t leaf, column;
    size_t rest;

    if (!mr_sql__joined_column(pair->joins, expr, &leaf, &column, &rest) || rest != 1)
        return false;
    mark = mr_sql__mark_named(&pair->sides[side].rel, pair->joins->leaves[leaf].names[column]);
    if (mark == NULL || mark->kind != MR_SQL_MARK_WINDOW)
        return false;
    *ret_mark = *mark;
    ret_mark->kind =
        mr_sql__same_name(names->last->text, "start") ? MR_SQL_MARK_START : MR_SQL_MARK_END;
    return true;
}

/* A watermarked key: both sides' rows leave by it. */
bool mr_sql__pair_key_case(struct mr_sql_pair *pair)
{
    for (uint32_t i = 0; i < pair->key_count; i++) {
        const struct mr_sql_pair_key *key = &pair->keys[i];
        struct mr_sql_mark mark = {0};
        bool found = false;

        for (unsigned side = 0; side < 2 && !found; side++) {
            const struct mr_sql_mark *own =
                mr_sql__mark_named(&pair->sides[side].rel, key->names[side]);

            found = own != NULL || field_mark(pair, side, key->exprs[side], &mark);
            if (own != NULL)
                mark = *own;
        }
        for (unsigned side = 0; side < 2 && found; side++) {
            const struct mr_schema *schema = pair->sides[side].rel.schema;
            int32_t column = mr_schema_find(schema, key->names[side], strlen(key->names[side]));

            mark.column = (uint32_t)column;
            pair->expiry[side] =
                mr_sql__pair_time_of(&mark, &mr_schema_field(schema, (uint32_t)column)->type);
            pair->expiry_names[side] = key->names[side];
            pair->shift_us[side] = 0;
            if (mr_sql__mark_named(&pair->sides[side].rel, key->names[side]) != NULL)
                pair->time_names[side] = key->names[side];
        }
        if (found)
            return true;
    }
    return false;
}

/* own > other's time + add (or >=): rows of own at or below the watermark + shift can go. */
static void take_bound(struct mr_sql_pair *pair, unsigned side, const char *own, const char *other,
                       bool strict, int64_t add)
{
    const struct mr_sql_mark *mark = mr_sql__mark_named(&pair->sides[!side].rel, other);
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

void mr_sql__pair_value_case(struct mr_sql_pair *pair)
{
    for (uint32_t i = 0; i < pair->bound_count; i++) {
        const struct mr_sql_bound *bound = &pair->bounds[i];
        bool strict = bound->compare == MR_LT || bound->compare == MR_GT;

        if (!bound->is_time)
            continue;
        if (mr_sql__mark_named(&pair->sides[0].rel, bound->left) != NULL)
            pair->time_names[0] = bound->left;
        if (mr_sql__mark_named(&pair->sides[1].rel, bound->right) != NULL)
            pair->time_names[1] = bound->right;
        if (bound->compare == MR_GT || bound->compare == MR_GE || bound->compare == MR_EQ)
            take_bound(pair, 0, bound->left, bound->right, strict, bound->add);
        if (bound->compare == MR_LT || bound->compare == MR_LE || bound->compare == MR_EQ)
            take_bound(pair, 1, bound->right, bound->left, strict, -bound->add);
    }
}

/* The event time of a side: that of the conditions, else its first. */
void mr_sql__pair_time(struct mr_sql_pair *pair, unsigned side)
{
    const struct mr_sql_rel *rel = &pair->sides[side].rel;

    for (uint32_t i = 0; i < rel->mark_count && pair->time_names[side] == NULL; i++) {
        if (rel->marks[i].watermarked)
            pair->time_names[side] = mr_schema_field(rel->schema, rel->marks[i].column)->name;
    }
}

/* ---- Rules ---- */

const char *mr_sql__pair_name(enum mr_join_type type)
{
    static const char *const names[] = {"inner", "left", "right", "full", "semi"};

    return names[type];
}

enum mr_status mr_sql__pair_rules(struct mr_sql_pair *pair, bool by_key)
{
    struct mr_sql_planner *p = pair->p;
    bool left = pair->expiry_names[0] != NULL;
    bool right = pair->expiry_names[1] != NULL;
    bool bounded = by_key || pair->type == MR_JOIN_INNER ||
                   ((pair->type == MR_JOIN_LEFT || pair->type == MR_JOIN_SEMI) && left) ||
                   (pair->type == MR_JOIN_RIGHT && right) ||
                   (pair->type == MR_JOIN_FULL && (left || right));

    p->modes &= ~(1u << MR_MODE_COMPLETE);
    if ((pair->type != MR_JOIN_INNER && pair->type != MR_JOIN_SEMI) ||
        pair->sides[0].rel.aggregated || pair->sides[1].rel.aggregated)
        p->modes &= 1u << MR_MODE_APPEND;
    if (p->mode == MR_MODE_COMPLETE)
        return mr_sql__of_mode(
            p, mr_sql__fail(pair->p, pair->joins->query, pair->place,
                            "a join of two streams cannot be in output mode complete: its "
                            "whole result would have to be kept; use append"));
    if (p->mode != MR_MODE_APPEND && pair->type != MR_JOIN_INNER && pair->type != MR_JOIN_SEMI)
        return mr_sql__of_mode(
            p, mr_sql__fail(pair->p, pair->joins->query, pair->place,
                            "a %s join of two streams needs output_mode = 'append': a row "
                            "with nulls cannot be taken back",
                            mr_sql__pair_name(pair->type)));
    if (p->mode != MR_MODE_APPEND &&
        (pair->sides[0].rel.aggregated || pair->sides[1].rel.aggregated))
        return mr_sql__of_mode(
            p, mr_sql__fail(pair->p, pair->joins->query, pair->place,
                            "an aggregation below a join of streams needs output_mode = "
                            "'append': a row that was joined cannot change"));
    if (bounded)
        return MR_OK;
    return mr_sql__fail(pair->p, pair->joins->query, pair->place,
                        "a %s join of two streams must know when a row can match no more: "
                        "give the tables a WATERMARK, and join on the event time or its "
                        "window, or add a condition such as %s",
                        mr_sql__pair_name(pair->type),
                        pair->type == MR_JOIN_RIGHT ? "right.ts >= left.ts - INTERVAL '1 hour'"
                                                    : "left.ts >= right.ts - INTERVAL '1 hour'");
}
