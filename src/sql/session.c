/*
 * Session windows in a GROUP BY: what differs from other windows.
 *
 *     FROM, WHERE --pre--> keys, arguments, time, gap --session window--> --partial--> --sessions
 *
 * The keys of the fold are those of GROUP BY, then start and end, in this order (ops/stateful.h).
 * A session is closed by its end; its start says nothing to a watermark.
 *
 * Called by aggregate*.c. Thread: the planner's.
 */
#include "sql/aggregate.h"

#include "ops/stateful.h"

#include <stdio.h>
#include <string.h>

enum mr_status mr_sql__session_gap(struct mr_sql_block *block, struct mr_json **ret_expr)
{
    struct mr_sql_planner *p = block->p;
    struct mr_buf sql = MR_BUF_INIT;
    const char *text;
    enum mr_status status;

    MR_TRY(mr_sql__expression_text(p, block->window.gap, &text));
    mr_buf_printf(&sql, "epoch_us(CAST((%s) AS INTERVAL))", text);
    status = sql.failed ? mr_sql__no_memory(p) : mr_sql__parse_expression(p, sql.data, ret_expr);
    mr_buf_release(&sql);
    return status;
}

enum mr_status mr_sql__add_session_window(struct mr_sql_block *block, uint32_t time_column,
                                          struct mr_sql_rel *ret_rel)
{
    struct mr_sql_planner *p = block->p;
    const struct mr_sql_rel *input = &block->input;
    struct mr_session_window_spec spec = {
        .column = time_column,
        .gap_column = block->window.gap != NULL ? (int32_t)block->gap_column : -1,
        .gap_us = block->window.size_us,
        .start_name = "mr_start",
        .end_name = "mr_end"};
    const struct mr_sql_mark *time = mr_sql__mark_of(input, time_column);
    struct mr_sql_rel rel = {0};
    struct mr_node *node = input->node;
    struct mr_map_op op;

    MR_TRY(mr_sql__as_sql_error(p, block->query,
                                mr_op_session_window(input->schema, &spec, &op, p->err)));
    MR_TRY(mr_sql__add_map(p, block->query->owner, "window", &op, &node, 1, &rel));
    rel.aggregated = input->aggregated;
    rel.marks[rel.mark_count++] =
        (struct mr_sql_mark){.column = 1,
                             .kind = MR_SQL_MARK_END,
                             .watermarked = time != NULL && time->watermarked,
                             .delay_us = time != NULL ? time->delay_us : 0};
    for (uint32_t i = 0; i < input->mark_count && rel.mark_count < MR_SQL_MARKS_MAX; i++) {
        rel.marks[rel.mark_count] = input->marks[i];
        rel.marks[rel.mark_count++].column += 2;
    }
    *ret_rel = rel;
    return MR_OK;
}

enum mr_status mr_sql__session_keys(struct mr_sql_block *block)
{
    struct mr_sql_planner *p = block->p;
    struct mr_sql_key start = {0};
    uint32_t kept = 0;

    if (p->mode == MR_MODE_UPDATE)
        return mr_sql__of_mode(
            p, mr_sql__fail(p, block->query, block->list,
                            "sessions are not supported with output_mode = 'update': one that "
                            "grows or merges is another row; use 'append' or 'complete'"));
    if (block->key_count < 2)
        return mr_sql__fail(p, block->query, block->list,
                            "sessions need another key in GROUP BY: over all rows of a stream they "
                            "would hardly ever end");
    if (block->key_count == MR_SQL_KEYS_MAX)
        return mr_sql__fail(p, block->query, NULL, "more than %d keys in GROUP BY",
                            MR_SQL_KEYS_MAX);
    for (uint32_t i = 0; i < block->key_count; i++) {
        if (block->keys[i].expr == NULL)
            start = block->keys[i];
        else
            block->keys[kept++] = block->keys[i];
    }
    block->keys[kept++] = start;
    memset(&block->keys[kept], 0, sizeof(block->keys[kept]));
    snprintf(block->keys[kept].name, sizeof(block->keys[kept].name), "mr_end");
    block->keys[kept].column = 1;
    block->key_count = kept + 1;
    return MR_OK;
}

void mr_sql__session_time(const struct mr_sql_block *block, struct mr_aggregate_spec *spec)
{
    const struct mr_sql_mark *mark = mr_sql__mark_of(&block->input, 1);

    spec->event_time_add_us = 0;
    spec->event_time_key = mark != NULL && mark->watermarked ? (int32_t)block->key_count - 1 : -1;
}
