/*
 * mr_frame_with_watermark: a watermark operator behind any frame (structured.md 7.1). A program
 * view of the plan, so it stands on a source, a SELECT or an operator alike.
 *
 * On a table with declared columns that nothing else of the query reads, it becomes the table's own
 * WATERMARK (script.c), so that only the columns that are needed are read.
 *
 * A second watermark of the same column takes the place of the first for what is above it.
 *
 * Thread: build: the program's; plan: the one that starts the query.
 */
#include "streams/streams.h"

#include "ops/ops.h"
#include "sql/internal.h"

#include <millrace/ext/options.h>

#include <string.h>

struct watermark {
    const char *column; /* the session's */
    int64_t delay_us;
};

/* Marks of the input stay, except those of the column itself. */
static void keep_marks(const struct mr_sql_rel *input, uint32_t column, struct mr_sql_rel *rel)
{
    rel->aggregated = input->aggregated;
    rel->marks[0] =
        (struct mr_sql_mark){.column = column, .kind = MR_SQL_MARK_TIME, .watermarked = true};
    rel->mark_count = 1;
    for (uint32_t i = 0; i < input->mark_count && rel->mark_count < MR_SQL_MARKS_MAX; i++) {
        if (input->marks[i].column != column)
            rel->marks[rel->mark_count++] = input->marks[i];
    }
}

static enum mr_status plan(void *arg, struct mr_sql_planner *p, const struct mr_sql_rel *input,
                           struct mr_sql_rel *ret_rel)
{
    const struct watermark *watermark = arg;
    const char *name = watermark->column;
    int32_t index = mr_schema_find(input->schema, name, strlen(name));
    struct mr_sql_rel rel = {0};
    struct mr_node *node = input->node;
    const struct mr_type *type;
    struct mr_map_op op;

    if (index < 0)
        return MR_FAIL(p->err, MR_SQL_ERROR, "there is no column '%s' for the watermark", name);
    type = &mr_schema_field(input->schema, (uint32_t)index)->type;
    if (type->id != MR_TYPE_TIMESTAMP && type->id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(p->err, MR_SQL_ERROR,
                       "the watermark's column '%s' must be a TIMESTAMP; cast it", name);
    MR_TRY(mr_op_watermark(input->schema, (uint32_t)index, &op, p->err));
    MR_TRY(mr_sql__add_map(p, mr_node_name(node), "watermark", &op, &node, 1, &rel));
    mr_node_set_watermark(rel.node, watermark->delay_us);
    keep_marks(input, (uint32_t)index, &rel);
    *ret_rel = rel;
    return MR_OK;
}

bool mr__watermark_of(const struct mr_frame *frame, const char **ret_column, int64_t *ret_delay_us)
{
    const struct watermark *watermark = frame->plan_arg;

    if (frame->kind != MR__FRAME_PROGRAM || frame->plan != plan)
        return false;
    *ret_column = watermark->column;
    *ret_delay_us = watermark->delay_us;
    return true;
}

static enum mr_status parse(const char *column, const char *delay, int64_t *ret_us,
                            struct mr_error *err)
{
    if (column == NULL || delay == NULL)
        return MR_FAIL(err, MR_CONFIG, "a watermark needs a column and a delay");
    if (!mr_parse_duration_us(delay, ret_us) || *ret_us < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "'%s' is no delay of a watermark: write \"10 seconds\", zero or more, "
                       "without months",
                       delay);
    return MR_OK;
}

struct mr_frame *mr_frame_with_watermark_at(struct mr_frame *frame, const char *column,
                                            const char *delay, const char *file, int line)
{
    struct mr__place place = {file, line, "mr_frame_with_watermark"};
    struct watermark *watermark;
    struct mr_frame *result;
    struct mr_error err = {0};
    int64_t delay_us = 0;
    enum mr_status status;

    if (frame == NULL)
        return NULL;
    status = parse(column, delay, &delay_us, &err);
    watermark = mr_arena_alloc(&frame->streams->arena, sizeof(*watermark));
    if (watermark == NULL)
        return NULL;
    watermark->delay_us = delay_us;
    watermark->column = mr__keep(frame->streams, column != NULL ? column : "");
    if (watermark->column == NULL)
        return NULL;
    result = mr__frame_program(frame, NULL, plan, watermark, NULL, &place);
    return status == MR_OK ? result : mr__frame_blame(result, &place, &err);
}
