/*
 * The life of one batch (architecture section 2; README.md says what a crash between any two steps
 * leaves).
 *
 *   plan     ask every source for its end offset; PLAN(N) into the log mr__batch_plan
 *            -- the caller syncs: nothing runs before PLAN(N) is durable --
 *   run      tasks over exactly these ranges, then the folds in graph order compute
 *   stage    sinks make their output durable, out of sight mr__sinks_stage
 *   publish  sinks show it mr__sinks_publish
 *   commit   sources' memory and state deltas, COMMIT(N) into the log commit_batch
 *            -- the caller syncs, possibly together with PLAN(N + 1) --
 *   forget   acknowledge, purge mr__batch_after_commit
 *
 * A failure before COMMIT(N) is in the log is undone by mr__batch_abort; the same PLAN can then run
 * again.
 */
#include "core/internal.h"

#include "base/log.h"
#include "base/memory.h"
#include "base/mutant.h"

#include <stdlib.h>
#include <string.h>

enum mr_status mr__failpoint(struct mr_query *query, const char *point, struct mr_error *err)
{
    if (query->config.failpoint == NULL)
        return MR_OK;
    /* after a commit the plan may be that of the next batch already */
    return query->config.failpoint(
        query->config.failpoint_arg, point,
        strcmp(point, "committed") == 0 ? query->next_batch - 1 : query->plan.batch_id, err);
}

bool mr__same_offset(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return strcmp(a, b) == 0;
}

/* Asks one source; its end is start again when there is nothing new. */
static enum mr_status plan_source(struct mr_query *query, struct mr_node *node,
                                  int64_t batch_time_us, bool *ret_new, struct mr_error *err)
{
    struct mr_source_run *run = node->source;
    struct mr_plan_limits limits = {.ignore = query->config.trigger == MR_TRIGGER_ONCE,
                                    .batch_time_us = batch_time_us,
                                    .records_max_rate = atomic_load(&run->rate),
                                    .bytes_max = mr_memory_batch()};
    char *end = NULL;
    enum mr_status status = run->ops->plan(run->object, run->start, &limits, &end, err);

    if (status != MR_OK) {
        mr_error_prefix(err, "source '%s'", node->name);
        return status;
    }
    if (end == NULL && run->start != NULL) {
        end = mr_strdup(run->start);
        if (end == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot plan a batch: out of memory");
    }
    mr_free(run->end);
    run->end = end;
    *ret_new = !mr__same_offset(run->start, end);
    return MR_OK;
}

static enum mr_status fill_plan(struct mr_query *query, int64_t batch_time_us, struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;
    struct mr_plan *plan = &query->plan;

    mr_plan_release(plan);
    *plan = (struct mr_plan){0};
    plan->batch_id = query->next_batch;
    plan->epoch = query->epoch;
    plan->batch_time_us = batch_time_us;
    plan->watermark_us = query->watermark_us;
    plan->late_watermark_us = query->last_watermark_us;
    plan->graph_fingerprint = query->fingerprint;
    plan->settings = mr_strdup(query->settings);
    plan->sources = mr_alloc_zero(NULL, (graph->node_count + 1) * sizeof(*plan->sources));
    if (plan->settings == NULL || plan->sources == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot plan a batch: out of memory");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_source_run *run = graph->nodes[i]->source;
        struct mr_plan_source *source = &plan->sources[plan->source_count];

        if (graph->nodes[i]->kind != MR_NODE_SOURCE)
            continue;
        plan->source_count++;
        source->name = mr_strdup(graph->nodes[i]->name);
        source->start = run->start != NULL ? mr_strdup(run->start) : NULL;
        source->end = run->end != NULL ? mr_strdup(run->end) : NULL;
        if (source->name == NULL || (run->start != NULL && source->start == NULL) ||
            (run->end != NULL && source->end == NULL))
            return MR_FAIL(err, MR_NOMEM, "cannot plan a batch: out of memory");
    }
    return MR_OK;
}

static bool is_unended(const struct mr_node *node)
{
    return node->kind == MR_NODE_SOURCE && node->source->ops == &mr__receiver_source_ops &&
           mr__receiver_source_unended(node->source->object);
}

enum mr_status mr__batch_plan(struct mr_query *query, int64_t batch_time_us, bool always,
                              bool *ret_planned, struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;
    int64_t began = mr_env_monotonic_ns(query->env);
    bool any_new = false, unended = false;

    MR_ASSERT(!query->has_plan);
    *ret_planned = false;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        bool is_new = false;
        if (is_unended(graph->nodes[i]))
            unended = true;
        if (graph->nodes[i]->kind == MR_NODE_SOURCE)
            mr__phase(query, MR_PHASE_OFFSETS, graph->nodes[i]->name);
        if (graph->nodes[i]->kind == MR_NODE_SOURCE)
            MR_TRY(plan_source(query, graph->nodes[i], batch_time_us, &is_new, err));
        any_new |= is_new;
    }
    query->duration_plan_us = (mr_env_monotonic_ns(query->env) - began) / 1000;
    /* The one batch of ONCE waits for the end of what has one; asked again, sources plan again. */
    if (query->config.trigger == MR_TRIGGER_ONCE && unended)
        return MR_OK;
    if (!any_new && !always && !mr__watermark_wants_batch(query, batch_time_us))
        return MR_OK;
    MR_TRY(fill_plan(query, batch_time_us, err));
    if (query->log != NULL)
        MR_TRY(mr_batch_log_plan(query->log, &query->plan, err));
    query->has_plan = true;
    query->attempt = 0;
    *ret_planned = true;
    return MR_OK;
}

static bool source_fires(const struct mr_source_run *run)
{
    return !MR_SOURCE_HAS(run->ops, absent) || !run->ops->absent(run->object, run->start, run->end);
}

/* A node fires when one of its inputs does and its slide does; a fold with a slide of its own, by
 * that alone. */
static enum mr_status mark_node(const struct mr_query *query, struct mr_node *node,
                                struct mr_error *err)
{
    int64_t since_zero_us = query->plan.batch_time_us - query->zero_time_us;
    bool has_slide = node->slide_us > 0 && query->config.trigger == MR_TRIGGER_TICK;
    const struct mr_node *absent = NULL;
    bool is_due = true;
    bool fires = node->input_count == 0 && source_fires(node->source);

    for (size_t k = 0; k < node->input_count; k++) {
        fires |= node->inputs[k]->fires;
        if (!node->inputs[k]->fires)
            absent = node->inputs[k];
    }
    if (has_slide)
        is_due = since_zero_us % node->slide_us == 0;
    if (node->requires_all && absent != NULL && (fires || (has_slide && is_due)))
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot run '%s': could not generate its dataset, as its input '%s' has none "
            "in this batch; an empty one will do",
            node->name, absent->name);
    if (has_slide)
        fires = (fires || node->kind == MR_NODE_FOLD) && is_due;
    node->fires = fires;
    return MR_OK;
}

static enum mr_status mark_firing(struct mr_query *query, struct mr_error *err)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];

        MR_TRY(mark_node(query, node, err));
        node->late_rows = 0;
        node->event_count = 0;
        node->event_sum_us = 0;
    }
    return MR_OK;
}

static enum mr_status split_sources(struct mr_query *query, size_t *ret_tasks, uint64_t *ret_bytes,
                                    struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    *ret_tasks = 0;
    *ret_bytes = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_source_run *run = graph->nodes[i]->source;
        if (graph->nodes[i]->kind != MR_NODE_SOURCE)
            continue;
        graph->nodes[i]->task_count = 0;
        run->work_bytes = 0;
        run->rows = 0;
        run->bad_rows = 0;
        if (mr__same_offset(run->start, run->end) || !graph->nodes[i]->fires)
            continue;
        if (run->ops->split(run->object, run->start, run->end, &graph->nodes[i]->task_count,
                            &run->work_bytes, err) != MR_OK)
            return mr_error_prefix(err, "source '%s'", graph->nodes[i]->name);
        *ret_tasks += graph->nodes[i]->task_count;
        *ret_bytes += run->work_bytes;
    }
    return MR_OK;
}

/* The source tasks of the batch: one per partition, numbered through all sources in graph order. */
static enum mr_status make_tasks(struct mr_query *query, struct mr_task *tasks, size_t *task_count,
                                 struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];
        for (uint32_t p = 0; node->kind == MR_NODE_SOURCE && p < node->task_count; p++) {
            MR_TRY(mr__task_init(&tasks[*task_count], query, node, p, err));
            tasks[*task_count].info.partition = (uint32_t)*task_count;
            (*task_count)++;
        }
    }
    return MR_OK;
}

static enum mr_status run_task(void *arg, size_t index, unsigned worker, struct mr_error *err)
{
    struct mr_task *tasks = arg;

    MR_TRY(mr__check_interrupt(tasks[index].query, err));
    tasks[index].info.worker = worker;
    return mr__task_run(&tasks[index], err);
}

static void merge_stats(struct mr_query *query, const struct mr_task *tasks, size_t task_count)
{
    const struct mr_graph *graph = query->graph;

    for (size_t t = 0; t < task_count; t++) {
        if (tasks[t].origin->kind == MR_NODE_SOURCE) {
            tasks[t].origin->source->rows += tasks[t].rows;
            tasks[t].origin->source->bad_rows += tasks[t].bad_rows;
        }
        for (uint32_t i = 0; i < graph->node_count; i++) {
            struct mr_node *node = graph->nodes[i];
            const struct mr_node_stats *stats = &tasks[t].stats[i];

            node->late_rows += stats->late_rows;
            if (node->kind == MR_NODE_SINK)
                node->sink->rows += tasks[t].sink_rows[i];
            if (stats->event_count == 0)
                continue;
            if (node->event_count == 0 || stats->event_min_us < node->event_min_us)
                node->event_min_us = stats->event_min_us;
            if (node->event_count == 0 || stats->event_max_us > node->event_max_us)
                node->event_max_us = stats->event_max_us;
            node->event_count += stats->event_count;
            node->event_sum_us += stats->event_sum_us;
        }
    }
}

static enum mr_status collect_receipts(struct mr_query *query, struct mr_commit *commit,
                                       struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    commit->receipts = mr_alloc_zero(NULL, (graph->node_count + 1) * sizeof(*commit->receipts));
    if (commit->receipts == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot commit: out of memory");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        if (node->kind != MR_NODE_SINK || node->sink->receipt == NULL)
            continue;
        char *text = mr_asprintf("%s=%s", node->name, node->sink->receipt);
        if (text == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot commit: out of memory");
        commit->receipts[commit->receipt_count++] = text;
    }
    return MR_OK;
}

static enum mr_status remember_sources(struct mr_query *query, struct mr_error *err)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_source_run *run = query->graph->nodes[i]->source;
        if (query->graph->nodes[i]->kind != MR_NODE_SOURCE || run->ops->remember == NULL ||
            mr__same_offset(run->start, run->end))
            continue;
        if (run->ops->remember(run->object, run->start, run->end, run->kv, err) != MR_OK)
            return mr_error_prefix(err, "source '%s'", query->graph->nodes[i]->name);
    }
    return MR_OK;
}

static enum mr_status commit_batch(struct mr_query *query, struct mr_error *err)
{
    struct mr_commit commit = {0};
    enum mr_status status;

    commit.batch_id = query->plan.batch_id;
    commit.epoch = query->epoch;
    commit.attempt = query->attempt;
    commit.next_watermark_us = mr__watermark_next(query);
    MR_TRY_GOTO(mr__watermark_keep(query, &commit, err));
    if (!MR_MUTANT("batch.commit.remember"))
        MR_TRY_GOTO(remember_sources(query, err));
    MR_TRY_GOTO(
        mr_state_prepare(query->state, commit.batch_id, commit.attempt, query->log, &commit, err));
    MR_TRY_GOTO(collect_receipts(query, &commit, err));
    if (query->log != NULL)
        MR_TRY_GOTO(mr_batch_log_commit(query->log, &commit, err));
    mr_state_applied(query->state, commit.batch_id);
    query->settles = false;
    query->last_watermark_us = query->plan.watermark_us;
    query->watermark_us = commit.next_watermark_us;
done:
    mr_commit_release(&commit);
    return status;
}

/* Runs the tasks and the folds; writes what they collected for sinks that are not concurrent. */
static enum mr_status compute(struct mr_query *query, struct mr_task *tasks, size_t *task_count,
                              uint64_t bytes, struct mr_error *err)
{
    bool wake = bytes == 0 || bytes >= query->config.parallel_min_bytes;

    MR_TRY(make_tasks(query, tasks, task_count, err));
    MR_TRY(mr__workers_run(query->workers, run_task, tasks, *task_count, wake, err));
    MR_TRY(mr__folds_run(query, tasks, task_count, err));
    merge_stats(query, tasks, *task_count);
    return mr__sinks_write(query, tasks, *task_count, err);
}

static enum mr_status run_to_staged(struct mr_query *query, struct mr_error *err)
{
    struct mr_task *tasks = NULL;
    size_t task_count = 0, source_tasks = 0, room;
    uint64_t bytes = 0;
    enum mr_status status;

    MR_TRY(mark_firing(query, err));
    mr__watermarks_place(query);
    MR_TRY(split_sources(query, &source_tasks, &bytes, err));
    room = source_tasks + mr__folds_split(query, bytes);
    tasks = mr_alloc_zero(NULL, (room + 1) * sizeof(*tasks));
    if (tasks == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot run a batch of %zu tasks: out of memory", room);
    MR_TRY_GOTO(mr__sinks_begin(query, err));
    MR_TRY_GOTO(compute(query, tasks, &task_count, bytes, err));
    MR_TRY_GOTO(mr__failpoint(query, "ran", err));
    MR_TRY_GOTO(mr__sinks_stage(query, err));
    MR_TRY_GOTO(mr_state_check_memory(err));
    status = mr__failpoint(query, "staged", err);
done:
    for (size_t i = 0; i < room; i++)
        mr__task_release(&tasks[i]);
    mr_free(tasks);
    return status;
}

/* The numbers of the batch, for progress and metrics; INV6: every dropped row is counted and logged
 * once per batch. */
static void count_batch(struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;

    query->batch_input_rows = query->batch_output_rows = query->batch_late_rows =
        query->batch_bad_rows = 0;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        if (node->kind == MR_NODE_SOURCE) {
            query->batch_input_rows += node->source->rows;
            query->batch_bad_rows += node->source->bad_rows;
            if (node->source->bad_rows > 0)
                mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->plan.batch_id,
                       "source '%s': %llu records could not be decoded and were %s", node->name,
                       (unsigned long long)node->source->bad_rows,
                       node->source->bad != NULL ? "routed" : "skipped");
        }
        if (node->kind == MR_NODE_SINK)
            query->batch_output_rows += node->sink->rows;
        query->batch_late_rows += node->late_rows;
        if (node->late_rows > 0)
            mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->plan.batch_id,
                   "operator '%s': %llu rows were older than the watermark and were %s", node->name,
                   (unsigned long long)node->late_rows,
                   node->kind == MR_NODE_MAP && node->map->routes_late ? "routed" : "dropped");
    }
    mr_metric_add(&query->metrics, MR_METRIC_INPUT_ROWS, (int64_t)query->batch_input_rows);
    mr_metric_add(&query->metrics, MR_METRIC_OUTPUT_ROWS, (int64_t)query->batch_output_rows);
    mr_metric_add(&query->metrics, MR_METRIC_LATE_ROWS, (int64_t)query->batch_late_rows);
    mr_metric_add(&query->metrics, MR_METRIC_BAD_ROWS, (int64_t)query->batch_bad_rows);
}

/* The ranges of the batch are done: the next one starts where they end. */
static enum mr_status advance_sources(struct mr_query *query, struct mr_error *err)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_source_run *run = query->graph->nodes[i]->source;
        char *start;

        if (query->graph->nodes[i]->kind != MR_NODE_SOURCE || run->end == NULL)
            continue;
        start = mr_strdup(run->end);
        if (start == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot go on to the next batch: out of memory");
        mr_free(run->previous);
        run->previous = run->start;
        run->start = start;
    }
    return MR_OK;
}

enum mr_status mr__batch_run(struct mr_query *query, struct mr_error *err)
{
    int64_t began = mr_env_monotonic_ns(query->env);
    int64_t ran;

    MR_ASSERT(query->has_plan);
    query->told_attempt = query->attempt;
    if (mr__workers_count(query->workers) != atomic_load(&query->wanted_workers))
        mr__workers_resize(query->workers, atomic_load(&query->wanted_workers));
    MR_TRY(mr__failpoint(query, "planned", err));
    MR_TRY(run_to_staged(query, err));
    MR_TRY(mr__sinks_publish(query, err));
    ran = mr_env_monotonic_ns(query->env);
    query->duration_run_us = (ran - began) / 1000;
    MR_TRY(mr__failpoint(query, "published", err));
    MR_TRY(commit_batch(query, err));
    count_batch(query);
    query->duration_commit_us = (mr_env_monotonic_ns(query->env) - ran) / 1000;
    MR_TRY(advance_sources(query, err));
    query->has_plan = false;
    query->any_batch_ran = true;
    query->next_batch = query->plan.batch_id + 1;
    query->last_batch_time_us = query->plan.batch_time_us;
    query->batches_done++;
    mr_metric_add(&query->metrics, MR_METRIC_BATCHES, 1);
    return MR_OK;
}

void mr__batch_abort(struct mr_query *query)
{
    if (!MR_MUTANT("batch.abort.sinks"))
        mr__sinks_abort(query);
    if (!MR_MUTANT("batch.abort.state"))
        mr_state_rollback(query->state);
    /* redundant: what fails behind the first delta ends the query, which writes nothing pending */
    if (query->log != NULL && !MR_MUTANT("batch.abort.deltas"))
        mr_batch_log_discard_deltas(query->log);
}

/*
 * COMMIT(N) is durable: sources move on and learn it; now and then old files go. The end offset is
 * that of the batch just done even when the next one was planned already.
 */
enum mr_status mr__batch_after_commit(struct mr_query *query, struct mr_error *err)
{
    enum { PURGE_EVERY = 16 };
    uint64_t needed_from = UINT64_MAX;
    uint64_t done = query->next_batch - 1;

    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_source_run *run = query->graph->nodes[i]->source;
        if (query->graph->nodes[i]->kind != MR_NODE_SOURCE || run->start == NULL ||
            run->ops->committed == NULL)
            continue;
        run->ops->committed(run->object, run->start);
    }
    if (query->log == NULL || done % PURGE_EVERY != 0)
        return MR_OK;
    MR_TRY(mr_state_purge(query->state, done, &needed_from, err));
    return mr_batch_log_purge(query->log, needed_from, err);
}
