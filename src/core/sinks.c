/*
 * The sinks of a batch: numbering their partitions, writing, staging, publishing. Called by
 * batch.c.
 *
 *     tasks of the batch     0   1   2 | 3   4 | 5   6   7      two sources, a fold of 3 partitions
 *     sink behind the fold                       0   1   2      dense numbers, in task order;
 *     sink behind both sources 0 1 2   3   4                    a partition without rows counts too
 *
 * A node without inputs or a fold is an origin: its rows begin in task contexts of its own. What a
 * sink sees is the partitions of the origins that reach it by nodes that fire in this batch.
 *
 * Thread: driver; concurrent sinks are written to by tasks, on any worker; with concurrent_outputs
 * each sink publishes on some thread of that pool while the driver waits.
 */
#include "core/internal.h"

#include "base/mutant.h"

#include <string.h>

static const uint32_t NO_PARTITION = UINT32_MAX;

/* The task contexts in which a node's rows begin belong to this node. */
static const struct mr_node *origin_of(const struct mr_node *node)
{
    return node->kind == MR_NODE_BAD ? node->source->node : node;
}

/* Marks the origins behind the inputs of a sink or map node. */
static void mark_origins(const struct mr_node *node, uint32_t *bases)
{
    for (size_t k = 0; k < node->input_count; k++) {
        const struct mr_node *input = node->inputs[k];

        if (input->fires && input->kind == MR_NODE_MAP) {
            /* a map node is walked once: its own place is free for the mark */
            if (bases[input->id] == NO_PARTITION)
                mark_origins(input, bases);
            bases[input->id] = 0;
        } else if (input->fires) {
            bases[origin_of(input)->id] = 0;
        }
    }
}

/* Gives every partition that reaches the sink its number: sources first, then folds, as the tasks
 * are. */
static enum mr_status number_partitions(const struct mr_graph *graph, struct mr_node *node,
                                        struct mr_error *err)
{
    static const enum mr_node_kind order[] = {MR_NODE_SOURCE, MR_NODE_FOLD};
    struct mr_sink_run *sink = node->sink;
    size_t size = graph->node_count * sizeof(*sink->bases);

    if (sink->bases == NULL)
        sink->bases = mr_alloc(NULL, size);
    if (sink->bases == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot begin a batch of '%s': out of memory", node->name);
    memset(sink->bases, 0xff, size);
    mark_origins(node, sink->bases);
    sink->partition_count = 0;
    for (size_t o = 0; o < sizeof(order) / sizeof(order[0]); o++) {
        for (uint32_t i = 0; i < graph->node_count; i++) {
            if (graph->nodes[i]->kind != order[o] || sink->bases[i] == NO_PARTITION)
                continue;
            sink->bases[i] = sink->partition_count;
            sink->partition_count += graph->nodes[i]->task_count;
        }
    }
    return MR_OK;
}

uint32_t mr__sink_partition(const struct mr_sink_run *sink, const struct mr_task *task)
{
    uint32_t base = sink->bases[task->origin->id];

    MR_ASSERT(base != NO_PARTITION);
    return base + task->index;
}

enum mr_status mr__sinks_begin(struct mr_query *query, struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];
        struct mr_sink_batch info = {query->plan.batch_id, query->attempt,
                                     query->plan.batch_time_us, 0};

        if (node->kind != MR_NODE_SINK)
            continue;
        node->sink->rows = 0;
        node->sink->skip =
            !node->fires || (node->sink->last_published >= (int64_t)query->plan.batch_id &&
                             !MR_MUTANT("sinks.begin.published"));
        if (node->sink->skip)
            continue;
        MR_TRY(number_partitions(graph, node, err));
        info.partition_count = node->sink->partition_count;
        if (node->sink->spec.connector->ops->begin(node->sink->object, &info, err) != MR_OK)
            return mr_error_prefix(err, "sink '%s'", node->name);
        node->sink->begun = true;
    }
    return MR_OK;
}

/* One task's rows for one sink, edge after edge. */
static enum mr_status write_task(struct mr_node *node, const struct mr_task *task,
                                 struct mr_error *err)
{
    const struct mr_sink_ops *ops = node->sink->spec.connector->ops;
    enum mr_status status = MR_OK;
    struct mr_doing doing;

    mr_doing_begin(&doing, &task->query->doings, "sink", node->name);
    for (size_t k = 0; k < node->input_count && status == MR_OK; k++) {
        const struct mr_batch_list *list = &task->collected[node->in_edges[k]->id];

        for (size_t b = 0; b < list->count && status == MR_OK; b++)
            status = ops->write(node->sink->object, mr__sink_partition(node->sink, task),
                                list->batches[b], err);
    }
    mr_doing_end(&doing);
    return status;
}

/* Sinks that are not concurrent get everything from the driver, partition after partition. */
enum mr_status mr__sinks_write(struct mr_query *query, const struct mr_task *tasks,
                               size_t task_count, struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];
        if (node->kind != MR_NODE_SINK || node->sink->skip ||
            node->sink->spec.connector->ops->concurrent)
            continue;
        MR_TRY(mr__check_interrupt(query, err));
        for (size_t t = 0; t < task_count; t++) {
            if (write_task(node, &tasks[t], err) != MR_OK)
                return mr_error_prefix(err, "sink '%s'", node->name);
        }
    }
    return MR_OK;
}

enum mr_status mr__sinks_stage(struct mr_query *query, struct mr_error *err)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];
        struct mr_doing doing;
        enum mr_status status;

        if (node->kind != MR_NODE_SINK || !node->sink->begun)
            continue;
        MR_TRY(mr__check_interrupt(query, err));
        mr_doing_begin(&doing, &query->doings, "sink", node->name);
        status = node->sink->spec.connector->ops->stage(node->sink->object, err);
        mr_doing_end(&doing);
        if (status != MR_OK)
            return mr_error_prefix(err, "sink '%s'", node->name);
    }
    return MR_OK;
}

static enum mr_status publish_sink(struct mr_query *query, struct mr_node *node,
                                   struct mr_error *err)
{
    struct mr_sink_run *sink = node->sink;
    int64_t started_us;
    char *receipt = NULL;
    struct mr_error failure;
    struct mr_doing doing;
    enum mr_status status;

    MR_TRY(mr__check_interrupt(query, err));
    started_us = mr__event_output(query, node, MR_OUTPUT_STARTS, NULL);
    mr_error_clear(&failure);
    mr_doing_begin(&doing, &query->doings, "sink", node->name);
    status =
        sink->spec.connector->ops->publish(sink->object, query->plan.batch_id, &receipt, &failure);
    mr_doing_end(&doing);
    if (status != MR_OK) {
        mr__event_output(query, node, started_us, failure.text);
        if (err != NULL)
            *err = failure;
        return mr_error_prefix(err, "sink '%s'", node->name);
    }
    sink->begun = false;
    sink->last_published = (int64_t)query->plan.batch_id;
    mr_free(sink->receipt);
    sink->receipt = receipt;
    mr__event_output(query, node, started_us, NULL);
    return MR_OK;
}

struct publishing {
    struct mr_query *query;
    struct mr_node **nodes;
};

static enum mr_status publish_job(void *arg, size_t index, unsigned worker, struct mr_error *err)
{
    const struct publishing *publishing = arg;

    MR_UNUSED(worker);
    return publish_sink(publishing->query, publishing->nodes[index], err);
}

/* Side by side; the outputs are begun in order, and the failure of the first of them is told. */
static enum mr_status publish_at_once(struct mr_query *query, struct mr_error *err)
{
    struct publishing publishing = {
        query, mr_alloc(NULL, query->graph->node_count * sizeof(*publishing.nodes))};
    size_t count = 0;
    enum mr_status status;

    if (publishing.nodes == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot publish a batch: out of memory");
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];

        if (node->kind == MR_NODE_SINK && node->sink->begun)
            publishing.nodes[count++] = node;
    }
    status = mr__workers_run(query->publishers, publish_job, &publishing, count, true, err);
    mr_free(publishing.nodes);
    return status;
}

enum mr_status mr__sinks_publish(struct mr_query *query, struct mr_error *err)
{
    if (query->log != NULL && !MR_MUTANT("sinks.publish.fence"))
        MR_TRY(mr_batch_log_check(query->log, err));
    if (query->publishers != NULL)
        return publish_at_once(query, err);
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];

        if (node->kind == MR_NODE_SINK && node->sink->begun)
            MR_TRY(publish_sink(query, node, err));
    }
    return MR_OK;
}

void mr__sinks_abort(struct mr_query *query)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];
        if (node->kind == MR_NODE_SINK && node->sink->begun) {
            node->sink->spec.connector->ops->abort(node->sink->object);
            node->sink->begun = false;
        }
    }
}
