/*
 * Functions with state of a key as views of a sql_flow. Header only. Thread: the test's.
 */
#ifndef MR_TESTS_SUPPORT_GROUPS_H
#define MR_TESTS_SUPPORT_GROUPS_H

#include "sql/plan.h"
#include "streams/groups_plan.h"
#include "support/sql_flow.h"

/* CREATE VIEW name AS map_groups(input BY keys). spec must outlive the flow. */
static inline void groups_view(struct sql_flow *flow, const char *name, const char *input,
                               const char *keys, const struct mr_groups_spec *spec, bool is_map)
{
    static struct mr_groups_frame frames[64];
    static size_t count;
    struct mr_groups_frame *frame = &frames[count++ % 64];
    struct mr_sql_program_view view = {
        .name = name, .input = input, .plan = mr_groups_plan, .arg = frame};

    *frame = (struct mr_groups_frame){.keys = keys, .spec = *spec, .is_map = is_map};
    frame->spec.name = name;
    sql_flow_view(flow, &view);
}

/* CREATE VIEW name AS transform(input BY keys). spec must outlive the flow. */
static inline void transform_view(struct sql_flow *flow, const char *name, const char *input,
                                  const char *keys, const struct mr_transform_spec *spec)
{
    static struct mr_transform_frame frames[64];
    static size_t count;
    struct mr_transform_frame *frame = &frames[count++ % 64];
    struct mr_sql_program_view view = {
        .name = name, .input = input, .plan = mr_transform_plan, .arg = frame};

    *frame = (struct mr_transform_frame){.keys = keys, .spec = *spec};
    frame->spec.name = name;
    sql_flow_view(flow, &view);
}

#endif
