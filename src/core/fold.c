/*
 * Folds: what sees a whole batch at once.
 *
 *     collected batches of all tasks before, in task order
 *        -> run (driver) -> run_partition 0 .. P - 1 (workers, several at once)
 *        -> one task context per partition of the output -> map operators -> folds, sinks
 *
 * Contexts are numbered behind the tasks before them, partitions in order, so that consumers see
 * the same bytes in the same order whatever the threads do. Called by batch.c.
 *
 * Thread: driver; run_partition and the map operators behind it on any worker, where a context is
 * only touched by the one that runs it.
 */
#include "core/internal.h"

#include <string.h>

/* Everything that the tasks so far collected on one edge, in task order. Borrows: batches stay with
 * the tasks. */
static enum mr_status gather(const struct mr_task *tasks, size_t task_count,
                             const struct mr_edge *edge, struct mr_fold_input *ret_input,
                             struct mr_error *err)
{
    bool wants_partitions = edge->to->fold->wants_partitions;
    size_t count = 0, at = 0;

    for (size_t i = 0; i < task_count; i++)
        count += tasks[i].collected[edge->id].count;
    ret_input->present = edge->from->fires;
    ret_input->batch_count = count;
    ret_input->batches = mr_alloc(NULL, (count + 1) * sizeof(*ret_input->batches));
    if (wants_partitions)
        ret_input->partition_ends = mr_alloc(NULL, (task_count + 1) * sizeof(size_t));
    if (ret_input->batches == NULL || (wants_partitions && ret_input->partition_ends == NULL))
        return MR_FAIL(err, MR_NOMEM, "cannot gather a batch: out of memory");
    for (size_t i = 0; i < task_count; i++) {
        const struct mr_batch_list *list = &tasks[i].collected[edge->id];
        if (list->count > 0)
            memcpy(ret_input->batches + at, list->batches, list->count * sizeof(*list->batches));
        at += list->count;
        if (wants_partitions && mr__task_reaches(&tasks[i], edge->from))
            ret_input->partition_ends[ret_input->partition_count++] = at;
    }
    return MR_OK;
}

/* One fold in one batch. */
struct fold_run {
    struct mr_query *query;
    struct mr_node *node;
    struct mr_task *tasks; /* of its partitions */
    struct mr_output *outputs;
    struct mr_fold_input *inputs;
    struct mr_fold_call call;
};

static void fold_run_release(struct fold_run *run)
{
    for (size_t k = 0; run->inputs != NULL && k < run->node->input_count; k++) {
        mr_free(run->inputs[k].batches);
        mr_free(run->inputs[k].partition_ends);
    }
    mr_free(run->inputs);
    mr_free(run->outputs);
}

static enum mr_status fold_run_init(struct fold_run *run, struct mr_task *tasks, size_t *task_count,
                                    struct mr_error *err)
{
    struct mr_node *node = run->node;
    size_t before = *task_count;

    run->tasks = &tasks[before];
    run->inputs = mr_alloc_zero(NULL, (node->input_count + 1) * sizeof(*run->inputs));
    run->outputs = mr_alloc_zero(NULL, node->task_count * sizeof(*run->outputs));
    if (run->inputs == NULL || run->outputs == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot run '%s': out of memory", node->name);
    for (uint32_t p = 0; p < node->task_count; p++) {
        MR_TRY(mr__task_init(&run->tasks[p], run->query, node, p, err));
        run->tasks[p].info.partition = (uint32_t)(before + p);
        run->outputs[p] = (struct mr_output){&run->tasks[p], node};
        (*task_count)++;
    }
    for (size_t k = 0; k < node->input_count; k++)
        MR_TRY(gather(tasks, before, node->in_edges[k], &run->inputs[k], err));
    run->call = (struct mr_fold_call){.info = &run->tasks[0].info,
                                      .inputs = run->inputs,
                                      .input_count = node->input_count,
                                      .fires = node->fires,
                                      .out = &run->outputs[0],
                                      .outputs = run->outputs,
                                      .partition_count = node->task_count};
    return MR_OK;
}

struct mr_output *mr_fold_output(struct mr_fold_call *call, uint32_t partition)
{
    MR_ASSERT(partition < call->outputs->node->task_count);
    return &call->outputs[partition];
}

static enum mr_status run_partition(void *arg, size_t index, unsigned worker, struct mr_error *err)
{
    struct fold_run *run = arg;
    struct mr_task *task = &run->tasks[index];
    struct mr_fold_call call = run->call;
    struct mr_doing doing;
    enum mr_status status;

    MR_TRY(mr__check_interrupt(run->query, err));
    task->info.worker = worker;
    call.info = &task->info;
    call.out = &run->outputs[index];
    mr_doing_begin(&doing, &run->query->doings, "operator", run->node->name);
    status = run->node->fold->run_partition(run->node->op, (uint32_t)index, &call, err);
    mr_doing_end(&doing);
    MR_TRY(status);
    return mr__task_finish_maps(task, err);
}

/* Bytes that the partitions of a fold will go through: is it worth waking anybody? */
static uint64_t work_bytes(const struct fold_run *run)
{
    const struct mr_fold_ops *ops = run->node->fold;
    struct mr_store *store;
    uint64_t bytes = 0;

    if (ops->work_bytes != NULL)
        return ops->work_bytes(run->node->op, &run->call);
    store = ops->store != NULL ? ops->store(run->node->op) : NULL;
    if (store != NULL)
        bytes = mr_store_bytes(store);
    for (size_t k = 0; k < run->node->input_count; k++) {
        for (size_t b = 0; b < run->inputs[k].batch_count; b++)
            bytes += mr_batch_bytes(run->inputs[k].batches[b]);
    }
    return bytes;
}

static enum mr_status run_fold(struct fold_run *run, struct mr_error *err)
{
    const struct mr_fold_ops *ops = run->node->fold;
    uint32_t count = run->node->task_count;

    if (ops->run != NULL)
        MR_TRY(ops->run(run->node->op, &run->call, err));
    if (ops->run_partition != NULL)
        return mr__workers_run(
            run->query->workers, run_partition, run, count,
            count > 1 && work_bytes(run) >= run->query->config.parallel_min_bytes, err);
    for (uint32_t p = 0; p < count; p++)
        MR_TRY(mr__task_finish_maps(&run->tasks[p], err));
    return MR_OK;
}

/* Does it run in this batch? Also without its own output being wanted: windows take input in. */
static bool is_wanted(const struct mr_node *node)
{
    bool wanted = node->fires;

    for (size_t k = 0; k < node->input_count; k++)
        wanted |= node->inputs[k]->fires;
    return wanted && node->kind == MR_NODE_FOLD;
}

static uint32_t partitions_of(const struct mr_node *node, bool is_small)
{
    const struct mr_fold_ops *ops = node->fold;

    if (ops->partition_count == NULL || (ops->one_when_small && is_small))
        return 1;
    return ops->partition_count(node->op);
}

size_t mr__folds_split(struct mr_query *query, uint64_t input_bytes)
{
    const struct mr_graph *graph = query->graph;
    size_t total = 0;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];

        if (node->kind != MR_NODE_FOLD)
            continue;
        node->task_count = 0;
        if (!is_wanted(node))
            continue;
        node->task_count = partitions_of(node, input_bytes < query->config.small_batch_bytes);
        MR_ASSERT(node->task_count > 0);
        total += node->task_count;
    }
    return total;
}

enum mr_status mr__folds_run(struct mr_query *query, struct mr_task *tasks, size_t *task_count,
                             struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct fold_run run = {.query = query, .node = graph->nodes[i]};
        int64_t began_ns = mr_env_monotonic_ns(query->env);
        enum mr_status status;

        graph->nodes[i]->run_us = 0;
        if (run.node->kind != MR_NODE_FOLD || run.node->task_count == 0)
            continue;
        MR_TRY(mr__check_interrupt(query, err));
        status = fold_run_init(&run, tasks, task_count, err);
        if (status == MR_OK)
            status = run_fold(&run, err);
        graph->nodes[i]->run_us = (mr_env_monotonic_ns(query->env) - began_ns) / 1000;
        fold_run_release(&run);
        if (status == MR_OK)
            continue;
        if (status != MR_STOPPED && err != NULL && err->sql_line == 0)
            mr_error_prefix(err, "operator '%s'", run.node->name);
        return status;
    }
    return MR_OK;
}
