/*
 * Running operators: one task is one source partition, or one partition of a fold's output, pushed
 * through the map operators behind it.
 *
 *     reader --batch--> [map] --> [map] --> edge of a fold   collected; the driver hands it on
 *                                       \-> sink             written at once when it is concurrent,
 *                                                            else collected
 *
 * workers.c calls mr__task_run on any thread; everything a task touches is its own or immutable.
 * batch.c gathers the collected batches in task order, so the result does not depend on which
 * worker ran what.
 */
#include "core/internal.h"

#include <string.h>

enum mr_status mr__batch_list_add(struct mr_batch_list *list, const struct mr_batch *batch,
                                  struct mr_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        struct mr_batch **grown = mr_realloc(NULL, list->batches, capacity * sizeof(*grown));

        if (grown == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot keep a batch: out of memory");
        list->batches = grown;
        list->capacity = capacity;
    }
    list->batches[list->count++] = mr_batch_ref(batch);
    return MR_OK;
}

void mr__batch_list_release(struct mr_batch_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        mr_batch_unref(list->batches[i]);
    mr_free(list->batches);
    *list = (struct mr_batch_list){0};
}

enum mr_status mr__task_init(struct mr_task *task, struct mr_query *query, struct mr_node *origin,
                             uint32_t index, struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    *task = (struct mr_task){.query = query, .origin = origin, .index = index};
    task->info.batch_id = query->plan.batch_id;
    task->info.attempt = query->attempt;
    task->info.batch_time_us = query->plan.batch_time_us;
    task->info.watermark_us = origin->evict_input_us;
    task->info.late_watermark_us = origin->late_input_us;
    task->map_tasks = mr_alloc_zero(NULL, graph->node_count * sizeof(*task->map_tasks));
    task->begun = mr_alloc_zero(NULL, graph->node_count * sizeof(*task->begun));
    task->stats = mr_alloc_zero(NULL, graph->node_count * sizeof(*task->stats));
    task->sink_rows = mr_alloc_zero(NULL, graph->node_count * sizeof(*task->sink_rows));
    task->collected = mr_alloc_zero(NULL, (graph->edge_count + 1) * sizeof(*task->collected));
    if (task->map_tasks == NULL || task->begun == NULL || task->stats == NULL ||
        task->sink_rows == NULL || task->collected == NULL) {
        mr__task_release(task);
        return MR_FAIL(err, MR_NOMEM, "cannot start a task: out of memory");
    }
    return MR_OK;
}

void mr__task_release(struct mr_task *task)
{
    if (task->query == NULL)
        return;
    const struct mr_graph *graph = task->query->graph;
    for (uint32_t i = 0; task->begun != NULL && task->map_tasks != NULL && i < graph->node_count;
         i++) {
        const struct mr_node *node = graph->nodes[i];
        if (task->begun[i] && node->map->end != NULL)
            node->map->end(node->op, task->map_tasks[i]);
    }
    for (uint32_t i = 0; task->collected != NULL && i < graph->edge_count; i++)
        mr__batch_list_release(&task->collected[i]);
    mr_free(task->map_tasks);
    mr_free(task->begun);
    mr_free(task->stats);
    mr_free(task->sink_rows);
    mr_free(task->collected);
    *task = (struct mr_task){0};
}

static enum mr_status write_to_sink(struct mr_task *task, struct mr_edge *edge,
                                    const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_sink_run *sink = edge->to->sink;
    struct mr_doing doing;
    enum mr_status status;

    task->sink_rows[edge->to->id] += (uint64_t)mr_batch_row_count(batch);
    if (sink->skip)
        return MR_OK;
    if (!sink->spec.connector->ops->concurrent)
        return mr__batch_list_add(&task->collected[edge->id], batch, err);
    mr_doing_begin(&doing, &task->query->doings, "sink", edge->to->name);
    status =
        sink->spec.connector->ops->write(sink->object, mr__sink_partition(sink, task), batch, err);
    mr_doing_end(&doing);
    return status;
}

/* What a node may know: its own watermarks. */
static struct mr_batch_info info_of(const struct mr_task *task, const struct mr_node *node)
{
    struct mr_batch_info info = task->info;

    info.watermark_us = node->evict_input_us;
    info.late_watermark_us = node->late_input_us;
    return info;
}

static enum mr_status begin_map(struct mr_task *task, struct mr_node *node, struct mr_error *err)
{
    struct mr_batch_info info = info_of(task, node);

    if (task->begun[node->id])
        return MR_OK;
    if (node->map->begin != NULL)
        MR_TRY(node->map->begin(node->op, &info, &task->map_tasks[node->id], err));
    task->begun[node->id] = true;
    return MR_OK;
}

/* Hands a batch that `from` emitted to everybody behind it. */
enum mr_status mr__push(struct mr_task *task, struct mr_node *from, const struct mr_batch *batch,
                        struct mr_error *err)
{
    /* what a fold gives when its output is not wanted goes nowhere */
    if (mr_batch_row_count(batch) == 0 || !from->fires)
        return MR_OK;
    for (size_t i = 0; i < from->consumer_count; i++) {
        struct mr_edge *edge = from->consumers[i];
        struct mr_node *to = edge->to;
        struct mr_output out = {task, to};

        if (to->kind == MR_NODE_FOLD) {
            MR_TRY(mr__batch_list_add(&task->collected[edge->id], batch, err));
        } else if (!to->fires) {
            continue; /* a slide that does not fire in this batch */
        } else if (to->kind == MR_NODE_SINK) {
            MR_TRY(write_to_sink(task, edge, batch, err));
        } else {
            struct mr_batch_info info = info_of(task, to);
            struct mr_doing doing;
            enum mr_status status;

            MR_TRY(begin_map(task, to, err));
            mr_doing_begin(&doing, &task->query->doings, "operator", to->name);
            status = to->map->apply(to->op, task->map_tasks[to->id], &info, batch, &out, err);
            mr_doing_end(&doing);
            MR_TRY(status);
        }
    }
    return MR_OK;
}

enum mr_status mr_output_emit(struct mr_output *out, const struct mr_batch *batch,
                              struct mr_error *err)
{
    return mr__push(out->task, out->node, batch, err);
}

void mr_output_event_times(struct mr_output *out, int64_t min_us, int64_t max_us, double sum_us,
                           uint64_t count)
{
    struct mr_node_stats *stats = &out->task->stats[out->node->id];

    if (count == 0)
        return;
    if (stats->event_count == 0 || min_us < stats->event_min_us)
        stats->event_min_us = min_us;
    if (stats->event_count == 0 || max_us > stats->event_max_us)
        stats->event_max_us = max_us;
    stats->event_sum_us += sum_us;
    stats->event_count += count;
}

void mr_output_late_rows(struct mr_output *out, uint64_t count)
{
    out->task->stats[out->node->id].late_rows += count;
}

bool mr__task_reaches(const struct mr_task *task, const struct mr_node *node)
{
    for (uint32_t i = 0; i < node->origin_count; i++) {
        if (node->origins[i] == task->origin)
            return true;
    }
    return false;
}

/* Ends the partition for every map operator that it reached, upstream first: a finish may still
 * emit. Operators that want every partition are begun here when no row came by. */
enum mr_status mr__task_finish_maps(struct mr_task *task, struct mr_error *err)
{
    const struct mr_graph *graph = task->query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];
        struct mr_output out = {task, node};
        struct mr_batch_info info = info_of(task, node);
        struct mr_doing doing;
        enum mr_status status;

        if (!task->begun[i] && node->kind == MR_NODE_MAP && node->map->every_partition &&
            node->fires && mr__task_reaches(task, node))
            MR_TRY(begin_map(task, node, err));
        if (!task->begun[i] || node->map->finish == NULL)
            continue;
        mr_doing_begin(&doing, &task->query->doings, "operator", node->name);
        status = node->map->finish(node->op, task->map_tasks[i], &info, &out, err);
        mr_doing_end(&doing);
        MR_TRY(status);
    }
    return MR_OK;
}

static enum mr_status take_bad(struct mr_task *task, struct mr_reader *reader, struct mr_error *err)
{
    struct mr_source_run *run = task->origin->source;
    struct mr_batch *bad = NULL;
    uint64_t count = 0;
    enum mr_status status = MR_OK;

    if (run->ops->take_bad == NULL)
        return MR_OK;
    MR_TRY(run->ops->take_bad(reader, &bad, &count, err));
    task->bad_rows += count;
    if (bad != NULL && run->bad != NULL)
        status = mr__push(task, run->bad, bad, err);
    mr_batch_unref(bad);
    return status;
}

enum mr_status mr__task_run(struct mr_task *task, struct mr_error *err)
{
    struct mr_source_run *run = task->origin->source;
    struct mr_reader *reader = NULL;
    struct mr_doing doing;
    enum mr_status status;

    mr_doing_begin(&doing, &task->query->doings, "source", task->origin->name);
    status = run->ops->read(run->object, run->start, run->end, task->index, &reader, err);
    if (status != MR_OK) {
        mr_doing_end(&doing);
        return status;
    }
    for (;;) {
        struct mr_batch *batch = NULL;

        MR_TRY_GOTO(mr__check_interrupt(task->query, err));
        MR_TRY_GOTO(run->ops->next(reader, &batch, err));
        if (batch == NULL)
            break;
        task->rows += (uint64_t)mr_batch_row_count(batch);
        status = mr__push(task, task->origin, batch, err);
        mr_batch_unref(batch);
        if (status != MR_OK)
            goto done;
        MR_TRY_GOTO(take_bad(task, reader, err));
    }
    MR_TRY_GOTO(take_bad(task, reader, err));
    status = mr__task_finish_maps(task, err);
done:
    run->ops->close(reader);
    mr_doing_end(&doing);
    return status;
}
