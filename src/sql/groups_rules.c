/*
 * Which output modes and chains functions with state of a key allow (structured.md 9.1 to 9.3).
 *
 * The functions are operators of a program (map_groups, flat_map_groups, transform); what they are
 * is in the traits of their folds, so the rules are checked from the result upwards, whatever
 * stands in between. Called by plan.c for each INSERT. Thread: the planner's.
 */
#include "sql/internal.h"

#include <string.h>

enum { FOUND_MAX = 64, GROUPS = MR_FOLD_MAP_GROUPS | MR_FOLD_FLAT_APPEND | MR_FOLD_FLAT_UPDATE };

struct found {
    const struct mr_node *nodes[FOUND_MAX];
    bool stateful_above[FOUND_MAX]; /* of each: something with state reads what it emits */
    size_t count;
    /* Those behind which all was seen, without and with state below them: a node that many read is
     * walked over once. */
    const struct mr_node **seen[2];
    size_t seen_count[2];
    size_t seen_max;
    bool keeps_state; /* any of the nodes */
};

/* Was it seen before? Notes that it is now. */
static bool is_seen(struct found *found, const struct mr_node *node, bool stateful)
{
    const struct mr_node **seen = found->seen[stateful];

    for (size_t i = 0; i < found->seen_count[stateful]; i++) {
        if (seen[i] == node)
            return true;
    }
    if (found->seen_count[stateful] == found->seen_max)
        return false;
    seen[found->seen_count[stateful]++] = node;
    return false;
}

static void note(struct found *found, const struct mr_node *node, bool stateful_above)
{
    for (size_t i = 0; i < found->count; i++) {
        if (found->nodes[i] == node) {
            found->stateful_above[i] |= stateful_above;
            return;
        }
    }
    if (found->count < FOUND_MAX) {
        found->nodes[found->count] = node;
        found->stateful_above[found->count++] = stateful_above;
    }
}

/* Everything above a node, from it to the sources. */
static void collect(struct found *found, const struct mr_node *node, bool stateful, unsigned depth)
{
    unsigned traits = mr_node_traits(node);

    if (depth > MR_SQL_NODES_MAX || is_seen(found, node, stateful))
        return;
    if ((traits & GROUPS) != 0)
        note(found, node, stateful);
    found->keeps_state = found->keeps_state || mr_node_keeps_state(node);
    stateful = stateful || (mr_node_keeps_state(node) && (traits & MR_FOLD_TIMELESS) == 0);
    for (size_t i = 0; i < mr_node_input_count(node); i++)
        collect(found, mr_node_input(node, i), stateful, depth + 1);
}

static size_t count_of(const struct found *found, unsigned trait)
{
    size_t count = 0;

    for (size_t i = 0; i < found->count; i++)
        count += (mr_node_traits(found->nodes[i]) & trait) != 0;
    return count;
}

/* How many of them one query may have. */
static enum mr_status check_numbers(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    const struct found *found)
{
    size_t maps = count_of(found, MR_FOLD_MAP_GROUPS);
    size_t updates = count_of(found, MR_FOLD_FLAT_UPDATE);
    size_t flats = updates + count_of(found, MR_FOLD_FLAT_APPEND);

    if (maps > 1)
        return mr_sql__fail(p, query, NULL,
                            "a query may have one map_groups_with_state; use transform_with_state "
                            "for the others");
    if (maps > 0 && flats > 0)
        return mr_sql__fail(p, query, NULL,
                            "map_groups_with_state and flat_map_groups_with_state do not go "
                            "together in one query; use flat_map_groups_with_state for both");
    if (flats > 1 && (updates > 0 || p->mode != MR_MODE_APPEND))
        return mr_sql__fail(p, query, NULL,
                            "several flat_map_groups_with_state in one query must all have mode "
                            "append, and so must the query");
    return MR_OK;
}

static enum mr_status check_modes(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                  const struct found *found, bool aggregated)
{
    if (count_of(found, MR_FOLD_MAP_GROUPS) > 0 && p->mode != MR_MODE_UPDATE)
        return mr_sql__fail(p, query, NULL, "map_groups_with_state needs output_mode = 'update'");
    if (count_of(found, MR_FOLD_FLAT_UPDATE) > 0 && aggregated)
        return mr_sql__fail(p, query, NULL,
                            "flat_map_groups_with_state with mode update does not go together with "
                            "an aggregation: its rows replace older ones; use mode append");
    if (count_of(found, MR_FOLD_FLAT_UPDATE) > 0 && p->mode != MR_MODE_UPDATE)
        return mr_sql__fail(p, query, NULL,
                            "flat_map_groups_with_state with mode update needs output_mode = "
                            "'update'");
    if (count_of(found, MR_FOLD_FLAT_APPEND) > 0 && !aggregated && p->mode != MR_MODE_APPEND)
        return mr_sql__fail(p, query, NULL,
                            "flat_map_groups_with_state with mode append needs output_mode = "
                            "'append'");
    return MR_OK;
}

static enum mr_status collect_all(struct mr_sql_planner *p, const struct mr_node *node,
                                  struct found *found)
{
    found->seen_max = p->name_count + 3 * p->table_count + 1; /* sources and their watermarks */
    for (size_t i = 0; i < 2; i++) {
        found->seen[i] = mr_arena_alloc(&p->arena, found->seen_max * sizeof(struct mr_node *));
        if (found->seen[i] == NULL)
            return mr_sql__no_memory(p);
    }
    collect(found, node, false, 0);
    return MR_OK;
}

enum mr_status mr_sql__keeps_state(struct mr_sql_planner *p, const struct mr_sql_rel *rel,
                                   bool *ret_keeps)
{
    struct found found = {.count = 0};

    MR_TRY(collect_all(p, rel->node, &found));
    *ret_keeps = found.keeps_state;
    return MR_OK;
}

enum mr_status mr_sql__check_groups(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    const struct mr_sql_rel *rel)
{
    struct found found = {.count = 0};

    MR_TRY(collect_all(p, rel->node, &found));
    if (found.count == 0)
        return MR_OK;
    MR_TRY(check_numbers(p, query, &found));
    MR_TRY(check_modes(p, query, &found, rel->aggregated));
    for (size_t i = 0; i < found.count; i++) {
        if (found.stateful_above[i] &&
            (mr_node_traits(found.nodes[i]) & MR_FOLD_EVENT_TIMEOUT) != 0)
            return mr_sql__fail(p, query, NULL,
                                "'%s' has event-time timeouts, so what it emits may be late for "
                                "the stateful operator behind it; use processing time, or "
                                "transform_with_state with an event_time column",
                                mr_node_name(found.nodes[i]));
    }
    return MR_OK;
}
