/*
 * Functions with state of a key as operators of a plan: columns of the key, the column that decides
 * which rows are late, the fold. Called by the planner when a query reads their frame; frames are
 * made in groups_frame.c. Rules about output modes of whole queries: sql/groups_rules.c.
 *
 * Thread: the one that starts the query.
 */
#include "streams/groups_plan.h"

#include "base/check.h"
#include "sql/internal.h"
#include "streams/groups.h"
#include "streams/transform.h"

#include <string.h>

/* ---- the key ---- */

/* Cuts the next name off a list with commas; quotes may be around it. */
static struct mr_slice next_name(const char **at)
{
    struct mr_slice name;
    const char *end;

    *at += strspn(*at, " \t\n,");
    if (**at == '"' && (end = strchr(*at + 1, '"')) != NULL) {
        name = (struct mr_slice){*at + 1, (size_t)(end - *at - 1)};
        *at = end + 1;
        return name;
    }
    name = (struct mr_slice){*at, strcspn(*at, ",")};
    *at += name.size_bytes;
    while (name.size_bytes > 0 && strchr(" \t\n", name.data[name.size_bytes - 1]) != NULL)
        name.size_bytes--;
    return name;
}

static enum mr_status find_keys(struct mr_sql_planner *p, const struct mr_schema *input,
                                const char *keys, uint32_t *columns, uint32_t *ret_count)
{
    uint32_t count = 0;

    for (const char *at = keys + strspn(keys, " \t\n,"); *at != '\0'; at += strspn(at, " \t\n,")) {
        struct mr_slice name = next_name(&at);
        int32_t column = mr_schema_find(input, name.data, name.size_bytes);

        if (column < 0)
            return MR_FAIL(p->err, MR_SQL_ERROR, "there is no column '%.*s' to group by",
                           (int)name.size_bytes, name.data);
        if (count == MR_SQL_KEYS_MAX)
            return MR_FAIL(p->err, MR_SQL_ERROR, "a key has at most %d columns", MR_SQL_KEYS_MAX);
        columns[count++] = (uint32_t)column;
    }
    if (count == 0)
        return MR_FAIL(p->err, MR_SQL_ERROR, "name at least one column to group by");
    *ret_count = count;
    return MR_OK;
}

/* ---- event time ---- */

/* The column whose time is compared with the watermark; false: none. */
static bool find_time(const struct mr_sql_rel *input, int32_t *ret_column, int64_t *ret_add_us)
{
    for (uint32_t i = 0; i < input->mark_count; i++) {
        const struct mr_sql_mark *mark = &input->marks[i];

        if (!mark->watermarked || mark->kind == MR_SQL_MARK_WINDOW)
            continue;
        *ret_column = (int32_t)mark->column;
        *ret_add_us = mark->kind == MR_SQL_MARK_START ? mark->size_us : 0;
        return true;
    }
    return false;
}

/* What both kinds of operators need; columns has room for MR_SQL_KEYS_MAX. */
static enum mr_status begin(struct mr_sql_planner *p, const struct mr_sql_rel *input,
                            const char *keys, const char *name, bool by_event_time,
                            uint32_t *columns, struct mr_keyed_spec *ret_spec)
{
    struct mr_keyed_spec spec = {.input = input->schema, .keys = columns, .time_column = -1};
    int32_t column = -1;

    if (input->aggregated && p->mode != MR_MODE_APPEND)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "a function with state behind an aggregation needs output_mode = 'append': "
                       "the rows of the aggregation must be final");
    MR_TRY(find_keys(p, input->schema, keys, columns, &spec.key_count));
    spec.has_watermark = find_time(input, &column, &spec.time_add_us);
    if (by_event_time && !spec.has_watermark)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "event time needs a column with a watermark in the input; add WATERMARK FOR "
                       "to the table, or mr_frame_with_watermark");
    if (by_event_time)
        spec.time_column = column;
    spec.partition_count = MR_STORE_SHARDS; /* whatever the workers: same plan, same bytes */
    spec.name = mr_sql__node_name(p, name != NULL ? name : mr_node_name(input->node), "groups");
    if (spec.name == NULL)
        return mr_sql__no_memory(p);
    *ret_spec = spec;
    return MR_OK;
}

/* Takes op. */
static enum mr_status add_fold(struct mr_sql_planner *p, const struct mr_sql_rel *input,
                               const char *name, struct mr_fold_op *op, struct mr_sql_rel *ret_rel)
{
    struct mr_node *inputs[] = {input->node}, *node = NULL;
    enum mr_status status;

    mr_buf_printf(&p->text, "operator %s: %s\n", name, op->ops->kind);
    status = mr_graph_fold(p->graph, name, inputs, 1, op->schema, op->ops, op->op, &node, p->err);
    mr_schema_unref(op->schema);
    MR_TRY(status);
    MR_ASSERT(node != NULL);
    *ret_rel = (struct mr_sql_rel){
        .node = node, .schema = mr_node_schema(node), .aggregated = input->aggregated};
    return MR_OK;
}

/* ---- map groups ---- */

enum mr_status mr_groups_plan(void *arg, struct mr_sql_planner *p, const struct mr_sql_rel *input,
                              struct mr_sql_rel *ret_rel)
{
    const struct mr_groups_frame *frame = arg;
    uint32_t columns[MR_SQL_KEYS_MAX];
    struct mr_groups_op_spec spec = {.groups = &frame->spec, .is_map = frame->is_map};
    struct mr_fold_op op;

    MR_TRY(begin(p, input, frame->keys, frame->spec.name,
                 frame->spec.timeout == MR_TIMEOUT_EVENT_TIME, columns, &spec.keyed));
    spec.keyed.output = frame->spec.output;
    spec.keyed.initial = frame->spec.initial_state;
    MR_TRY(mr_groups_op(&spec, &op, p->err));
    return add_fold(p, input, spec.keyed.name, &op, ret_rel);
}

/* ---- transform ---- */

enum mr_status mr_transform_plan(void *arg, struct mr_sql_planner *p,
                                 const struct mr_sql_rel *input, struct mr_sql_rel *ret_rel)
{
    static const char *const modes[] = {"append", "update", "complete"};
    const struct mr_transform_frame *frame = arg;
    uint32_t columns[MR_SQL_KEYS_MAX];
    struct mr_transform_op_spec spec = {.transform = &frame->spec};
    struct mr_fold_op op;

    if (frame->spec.mode != p->mode)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "transform_with_state has mode %s, and is read with output_mode = '%s'; "
                       "make them the same",
                       modes[frame->spec.mode], modes[p->mode]);
    MR_TRY(begin(p, input, frame->keys, frame->spec.name,
                 frame->spec.time_mode == MR_TIME_MODE_EVENT, columns, &spec.keyed));
    spec.keyed.output = frame->spec.output;
    spec.keyed.initial = frame->spec.initial_state;
    MR_TRY(mr_transform_op(&spec, &op, p->err));
    MR_TRY(add_fold(p, input, spec.keyed.name, &op, ret_rel));
    if (frame->spec.event_time == NULL)
        return MR_OK;
    ret_rel->marks[0] = (struct mr_sql_mark){
        .column = (uint32_t)mr_schema_find(ret_rel->schema, frame->spec.event_time,
                                           strlen(frame->spec.event_time)),
        .kind = MR_SQL_MARK_TIME,
        .watermarked = true};
    ret_rel->mark_count = 1;
    return MR_OK;
}
