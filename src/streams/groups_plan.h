/*
 * Functions with state of a key as program views (sql/plan.h): what a frame of theirs keeps, and
 * the functions that plan it. Thread: the one that plans.
 */
#ifndef MR_STREAMS_GROUPS_PLAN_H
#define MR_STREAMS_GROUPS_PLAN_H

#include "sql/plan.h"

#include <millrace/groups.h>

/* arg of mr_groups_plan: map_groups_with_state, flat_map_groups_with_state. */
struct mr_groups_frame {
    const char *keys; /* names with commas */
    struct mr_groups_spec spec;
    bool is_map;
};
enum mr_status mr_groups_plan(void *arg, struct mr_sql_planner *p, const struct mr_sql_rel *input,
                              struct mr_sql_rel *ret_rel);

/* arg of mr_transform_plan: transform_with_state. */
struct mr_transform_frame {
    const char *keys;
    struct mr_transform_spec spec;
};
enum mr_status mr_transform_plan(void *arg, struct mr_sql_planner *p,
                                 const struct mr_sql_rel *input, struct mr_sql_rel *ret_rel);

#endif
