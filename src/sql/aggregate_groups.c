/*
 * GROUP BY: expressions, positions, aliases and the window become the keys of a block.
 *
 * Called by aggregate.c first, when nothing of the block is rewritten yet. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include "base/check.h"

#include <stdio.h>

bool mr_sql__block_resolves(const struct mr_sql_block *block, const struct mr_json *reference)
{
    uint32_t leaf;
    uint32_t column;
    size_t rest;

    return mr_sql__resolve(block->from, reference, &leaf, &column, &rest);
}

bool mr_sql__same_expr(const struct mr_sql_block *block, const struct mr_json *a,
                       const struct mr_json *b)
{
    uint32_t leaves[2], columns[2];
    size_t rests[2];

    if (mr_sql__equal(a, b))
        return true;
    return mr_sql__class_is(a, "COLUMN_REF") && mr_sql__class_is(b, "COLUMN_REF") &&
           mr_sql__resolve(block->from, a, &leaves[0], &columns[0], &rests[0]) &&
           mr_sql__resolve(block->from, b, &leaves[1], &columns[1], &rests[1]) &&
           leaves[0] == leaves[1] && columns[0] == columns[1] && rests[0] == 0 && rests[1] == 0;
}

const char *mr_sql__single_name(const struct mr_json *node)
{
    const struct mr_json *names = mr_json_get(node, "column_names");

    return mr_sql__class_is(node, "COLUMN_REF") && names != NULL && names->count == 1
               ? names->first->text
               : NULL;
}

/* The select item of that alias, or NULL. */
struct mr_json *mr_sql__item_of_alias(const struct mr_sql_block *block, const char *alias)
{
    for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
        if (mr_sql__same_name(mr_sql__alias(item), alias))
            return item;
    }
    return NULL;
}

static enum mr_status add_key(struct mr_sql_block *block, struct mr_json *expr)
{
    struct mr_sql_key *key = &block->keys[block->key_count];

    if (block->key_count == MR_SQL_KEYS_MAX)
        return mr_sql__fail(block->p, block->query, expr, "more than %d keys in GROUP BY",
                            MR_SQL_KEYS_MAX);
    block->last_keys |= UINT64_C(1) << block->key_count;
    key->expr = expr;
    if (expr == NULL)
        snprintf(key->name, sizeof(key->name), "mr_start");
    else
        snprintf(key->name, sizeof(key->name), "mr_k%u", block->key_count);
    block->key_count++;
    return MR_OK;
}

static enum mr_status add_window_key(struct mr_sql_block *block, struct mr_json *call)
{
    struct mr_sql_window window;

    MR_TRY(mr_sql__window_parse(block->p, block->query, call, &window));
    if (block->has_window) {
        if (mr_sql__window_equal(&window, &block->window)) {
            for (uint32_t i = 0; i < block->key_count; i++) {
                if (block->keys[i].expr == NULL)
                    block->last_keys |= UINT64_C(1) << i;
            }
            return MR_OK; /* tumble_start and tumble_end of one window */
        }
        return mr_sql__fail(block->p, block->query, call,
                            "two different windows in one GROUP BY are not supported");
    }
    block->has_window = true;
    block->window = window;
    return add_key(block, NULL);
}

/* w, a {start, end} made by window() in a subquery: its fields are the keys, so that the watermark
 * closes them. */
static enum mr_status add_struct_key(struct mr_sql_block *block, struct mr_json *reference)
{
    static const char *const fields[2] = {"start", "end"};
    struct mr_sql_planner *p = block->p;

    if (block->struct_count == MR_ARRAY_SIZE(block->structs))
        return mr_sql__fail(p, block->query, reference,
                            "more than four window columns in GROUP BY");
    block->structs[block->struct_count] = reference;
    block->struct_keys[block->struct_count++] = block->key_count;
    for (size_t i = 0; i < 2; i++) {
        struct mr_json *field = mr_json_copy(&p->arena, reference);
        struct mr_json *name = mr_json_new_string(&p->arena, fields[i]);

        if (field == NULL || name == NULL)
            return mr_sql__no_memory(p);
        mr_json_push(mr_json_get(field, "column_names"), name);
        MR_TRY(add_key(block, field));
    }
    return MR_OK;
}

static enum mr_status add_group(struct mr_sql_block *block, struct mr_json *expr)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *inner;
    uint32_t leaf;
    uint32_t column;
    size_t rest;

    inner = mr_sql__find(expr, mr_sql__is_aggregate);
    if (inner != NULL)
        return mr_sql__fail(p, block->query, inner, "an aggregate function cannot be in GROUP BY");
    if (mr_sql__is_window_call(expr))
        return add_window_key(block, expr);
    inner = mr_sql__find(expr, mr_sql__is_window_call);
    if (inner != NULL)
        return mr_sql__fail(p, block->query, inner,
                            "GROUP BY the window itself: GROUP BY window(ts, '10 minutes')");
    if (mr_sql__class_is(expr, "COLUMN_REF") &&
        mr_sql__resolve(block->from, expr, &leaf, &column, &rest) && rest == 0) {
        const struct mr_sql_mark *mark = mr_sql__mark_of(block->from->leaves[leaf].rel, column);

        if (mark != NULL && mark->kind == MR_SQL_MARK_WINDOW)
            return add_struct_key(block, expr);
    }
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr != NULL && mr_sql__same_expr(block, block->keys[i].expr, expr)) {
            block->last_keys |= UINT64_C(1) << i;
            return MR_OK;
        }
    }
    return add_key(block, expr);
}

/* 1, 2, ... and aliases of the list mean its items; a column of the input wins over an alias. */
static enum mr_status resolve_group(struct mr_sql_block *block, struct mr_json *group)
{
    struct mr_sql_planner *p = block->p;
    const struct mr_json *value = mr_json_get(mr_json_get(group, "value"), "value");
    const char *name = mr_sql__single_name(group);
    struct mr_json *item = NULL;
    int64_t number;

    if (mr_sql__class_is(group, "CONSTANT") && mr_json_int(value, &number)) {
        if (number < 1 || (uint64_t)number > block->list->count)
            return mr_sql__fail(p, block->query, group, "GROUP BY %lld: the list has %zu columns",
                                (long long)number, block->list->count);
        item = mr_json_at(block->list, (size_t)number - 1);
    } else if (name != NULL && !mr_sql__block_resolves(block, group)) {
        item = mr_sql__item_of_alias(block, name);
    }
    if (item == NULL)
        return add_group(block, group);
    item = mr_json_copy(&p->arena, item);
    return item != NULL ? add_group(block, item) : mr_sql__no_memory(p);
}

/* ---- GROUPING SETS, ROLLUP, CUBE ---- */

static bool has_sets(const struct mr_json *groups, const struct mr_json *sets)
{
    return sets != NULL && (sets->count > 1 || (sets->count == 1 && groups != NULL &&
                                                sets->first->count != groups->count));
}

/* sets: indexes into GROUP BY; masks: the keys that each expression there became. */
static enum mr_status read_sets(struct mr_sql_block *block, const struct mr_json *sets,
                                const uint64_t *masks, size_t mask_count)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *number;

    if (sets->count > MR_SQL_SETS_MAX)
        return mr_sql__fail(p, block->query, mr_json_get(block->node, "group_expressions"),
                            "%zu grouping sets: at most %d", sets->count, MR_SQL_SETS_MAX);
    for (const struct mr_json *set = sets->first; set != NULL; set = set->next) {
        uint64_t keys = 0;

        for (const struct mr_json *one = set->first; one != NULL; one = one->next) {
            int64_t index;

            if (!mr_json_int(one, &index) || index < 0 || (uint64_t)index >= mask_count)
                return mr_sql__fail(p, block->query, NULL,
                                    "these grouping sets are not understood");
            keys |= masks[index];
        }
        for (uint32_t i = 0; i < block->key_count; i++) {
            if (block->keys[i].expr == NULL && (keys >> i & 1) == 0)
                return mr_sql__fail(p, block->query, mr_json_get(block->node, "group_expressions"),
                                    "every grouping set must contain the window");
        }
        block->sets[block->set_count++] = keys;
    }
    number = mr_sql__column(p, "mr_set", "");
    if (number == NULL)
        return mr_sql__no_memory(p);
    block->set_key = block->key_count;
    return add_key(block, number);
}

enum mr_status mr_sql__put_grouping(struct mr_sql_block *block, struct mr_json *node)
{
    struct mr_sql_planner *p = block->p;
    struct mr_json *children = mr_json_get(node, "children");
    struct mr_buf sql = MR_BUF_INIT;
    struct mr_json *with = NULL;
    enum mr_status status;

    if (block->set_count == 0)
        mr_buf_add_str(&sql, "0::BIGINT");
    else
        mr_buf_printf(&sql, "CASE %s", block->keys[block->set_key].name);
    for (uint32_t set = 0; set < block->set_count; set++) {
        uint64_t bits = 0;

        for (struct mr_json *child = children->first; child != NULL; child = child->next) {
            uint32_t key = 0;

            while (key < block->set_key &&
                   (block->keys[key].expr == NULL ||
                    !mr_sql__same_expr(block, block->keys[key].expr, child)))
                key++;
            if (key == block->set_key) {
                mr_buf_release(&sql);
                return mr_sql__fail(p, block->query, child,
                                    "grouping() takes expressions of GROUP BY");
            }
            bits = bits << 1 | (block->sets[set] >> key & 1 ? 0 : 1);
        }
        mr_buf_printf(&sql, " WHEN %u THEN %llu::BIGINT", set, (unsigned long long)bits);
    }
    if (block->set_count > 0)
        mr_buf_add_str(&sql, " END");
    status = sql.failed ? mr_sql__no_memory(p) : mr_sql__parse_expression(p, sql.data, &with);
    mr_buf_release(&sql);
    MR_TRY(status);
    return mr_sql__put(block, node, with);
}

enum mr_status mr_sql__read_groups(struct mr_sql_block *block)
{
    struct mr_json *groups = mr_json_get(block->node, "group_expressions");
    struct mr_json *sets = mr_json_get(block->node, "group_sets");
    uint64_t masks[MR_SQL_KEYS_MAX];
    size_t mask_count = 0;

    if (mr_json_is(mr_json_get(block->node, "aggregate_handling"), "FORCE_AGGREGATES")) {
        for (struct mr_json *item = block->list->first; item != NULL; item = item->next) {
            struct mr_json *copy = mr_json_copy(&block->p->arena, item);

            if (copy == NULL)
                return mr_sql__no_memory(block->p);
            if (mr_sql__find(item, mr_sql__is_aggregate) == NULL)
                MR_TRY(add_group(block, copy));
        }
        return MR_OK;
    }
    for (struct mr_json *group = groups != NULL ? groups->first : NULL; group != NULL;
         group = group->next) {
        if (mask_count == MR_SQL_KEYS_MAX)
            return mr_sql__fail(block->p, block->query, group, "more than %d keys in GROUP BY",
                                MR_SQL_KEYS_MAX);
        block->last_keys = 0;
        MR_TRY(resolve_group(block, group));
        masks[mask_count++] = block->last_keys;
    }
    return has_sets(groups, sets) ? read_sets(block, sets, masks, mask_count) : MR_OK;
}
