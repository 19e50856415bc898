/*
 * Event time in the kernel (structured.md 7): one global watermark per query, and what each
 * operator sees of it.
 *
 *     after a batch    event times that passed each watermark node -> its own watermark
 *                      -> min or max of them = the global one, which never goes back
 *     in a batch       the global one flows from the watermark nodes down the graph; an operator
 *                      that may send rows older than its input's watermark (an interval join) holds
 *                      it back, one that sends any time (map groups) ends it
 *
 * A watermark whose sources have been idle for long (idle_after_us) is left out of the minimum: an
 * idle source is one whose end offset is where its last batch ended, whatever the clock says.
 *
 * Every operator gets two: the one in force evicts state, that of the batch before decides what is
 * late, because an operator above may send in this batch what the new watermark closes.
 *
 * The global one is in every COMMIT. Those of the nodes are forgotten by a restart, as in Spark
 * (vector WM-11). Where idle sources are left out, which Spark has not, they are in the COMMIT too,
 * and when each source last had anything: else a restart would wait for an idle source again. A
 * query that was edited begins without them.
 *
 * Called by batch.c, open.c and progress. Thread: driver.
 */
#include "core/internal.h"

#include "base/mutant.h"

#include <string.h>

/* What reaches the input of a node, from what its inputs pass on: the least of those that have
 * one. */
static int64_t input_watermark(const struct mr_node *node)
{
    int64_t least_us = INT64_MIN;

    for (size_t k = 0; k < node->input_count; k++) {
        int64_t one_us = node->inputs[k]->reach_us;

        if (one_us != INT64_MIN)
            least_us = least_us == INT64_MIN ? one_us : MR_MIN(least_us, one_us);
    }
    return least_us;
}

/* Lets a global watermark flow; returns what reaches the input of `node`, whose inputs come before
 * it. */
static int64_t flow(struct mr_node *node, int64_t global_us)
{
    int64_t input_us = input_watermark(node);

    node->reach_us = node->is_watermark ? global_us : input_us;
    if (input_us != INT64_MIN && node->kind == MR_NODE_FOLD && node->fold->output_watermark != NULL)
        node->reach_us = node->fold->output_watermark(node->op, input_us);
    return input_us;
}

void mr__watermarks_place(struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++)
        graph->nodes[i]->evict_input_us = flow(graph->nodes[i], query->plan.watermark_us);
    for (uint32_t i = 0; i < graph->node_count; i++)
        graph->nodes[i]->late_input_us = flow(graph->nodes[i], query->plan.late_watermark_us);
}

bool mr__watermark_wants_batch(struct mr_query *query, int64_t batch_time_us)
{
    const struct mr_graph *graph = query->graph;
    bool wants = false;

    if (!query->config.no_data_batches || !query->any_batch_ran)
        return false;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];
        int64_t input_us = flow(node, query->watermark_us);

        wants = wants || (node->kind == MR_NODE_FOLD && node->fold->wants_batch != NULL &&
                          node->fold->wants_batch(node->op, input_us, batch_time_us));
    }
    return wants;
}

const struct mr_source_run *mr__watermark_source(const struct mr_node *node)
{
    while (node->kind == MR_NODE_MAP && node->input_count == 1)
        node = node->inputs[0];
    return node->kind == MR_NODE_SOURCE ? node->source : NULL;
}

/* Takes an event time that the source brought without a row. */
static void advance_by_source(struct mr_node *node)
{
    const struct mr_source_run *run = mr__watermark_source(node);
    int64_t event_us;

    if (run == NULL || !MR_SOURCE_HAS(run->ops, event_time) ||
        mr__same_offset(run->start, run->end) ||
        !run->ops->event_time(run->object, run->start, run->end, &event_us) ||
        event_us < INT64_MIN + node->watermark_delay_us)
        return;
    node->watermark_us = MR_MAX(node->watermark_us, event_us - node->watermark_delay_us);
}

/* Takes the event times of the batch into the watermark of a node. */
static void advance_node(struct mr_node *node)
{
    advance_by_source(node);
    if (node->event_count == 0 || node->event_max_us < INT64_MIN + node->watermark_delay_us)
        return;
    if (MR_MUTANT("watermark.advance.delay"))
        node->watermark_us = MR_MAX(node->watermark_us, node->event_max_us);
    node->watermark_us = MR_MAX(node->watermark_us, node->event_max_us - node->watermark_delay_us);
}

/* Notes which sources of the batch have more than before it. */
static void note_sources(struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_source_run *run = graph->nodes[i]->source;

        if (graph->nodes[i]->kind == MR_NODE_SOURCE &&
            (run->moved_us == 0 || !mr__same_offset(run->start, run->end)))
            run->moved_us = query->plan.batch_time_us;
    }
}

bool mr__watermark_is_idle(const struct mr_query *query, const struct mr_node *node)
{
    bool has_source = false;

    if (query->config.idle_after_us <= 0)
        return false;
    for (uint32_t i = 0; i < node->origin_count; i++) {
        const struct mr_source_run *run = node->origins[i]->source;

        if (run == NULL) /* a fold: it moves with what is above it */
            return false;
        has_source = true;
        if (query->judged_us - run->moved_us < query->config.idle_after_us)
            return false;
    }
    return has_source;
}

/* It never goes back; a node without data yet holds a `min` watermark. */
int64_t mr__watermark_next(struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;
    int64_t global = INT64_MIN;
    bool any = false;

    note_sources(query);
    query->judged_us = query->plan.batch_time_us;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];

        if (!node->is_watermark)
            continue;
        advance_node(node);
        if (!query->config.watermark_policy_max && mr__watermark_is_idle(query, node))
            continue;
        if (!any)
            global = node->watermark_us;
        else if (query->config.watermark_policy_max || MR_MUTANT("watermark.next.min"))
            global = MR_MAX(global, node->watermark_us);
        else
            global = MR_MIN(global, node->watermark_us);
        any = true;
    }
    return MR_MAX(global, query->plan.watermark_us);
}

/* ---------------------------------------------------------------- across a restart */

static bool has_mark(const struct mr_node *node, enum mr_mark_kind kind)
{
    return kind == MR_MARK_WATERMARK ? node->is_watermark : node->kind == MR_NODE_SOURCE;
}

static uint32_t count_marks(const struct mr_graph *graph, enum mr_mark_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < graph->node_count; i++)
        count += has_mark(graph->nodes[i], kind);
    return count;
}

static bool add_mark(struct mr_commit *commit, const struct mr_node *node, enum mr_mark_kind kind)
{
    struct mr_mark *mark = &commit->marks[commit->mark_count];

    *mark = (struct mr_mark){.name = mr_strdup(node->name), .kind = kind};
    mark->time_us = kind == MR_MARK_WATERMARK ? node->watermark_us : node->source->moved_us;
    commit->mark_count += mark->name != NULL;
    return mark->name != NULL;
}

enum mr_status mr__watermark_keep(const struct mr_query *query, struct mr_commit *commit,
                                  struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;
    uint32_t count = count_marks(graph, MR_MARK_WATERMARK);
    bool kept = true;

    if (count < 2 || query->config.idle_after_us <= 0) /* the common one says it all */
        return MR_OK;
    count += count_marks(graph, MR_MARK_MOVED);
    commit->marks = mr_alloc_zero(NULL, count * sizeof(*commit->marks));
    kept = commit->marks != NULL;
    for (uint32_t i = 0; kept && i < graph->node_count; i++) {
        for (int kind = MR_MARK_WATERMARK; kept && kind <= MR_MARK_MOVED; kind++) {
            if (has_mark(graph->nodes[i], (enum mr_mark_kind)kind))
                kept = add_mark(commit, graph->nodes[i], (enum mr_mark_kind)kind);
        }
    }
    return kept ? MR_OK : MR_FAIL(err, MR_NOMEM, "cannot commit the watermarks: out of memory");
}

void mr__watermark_restore(struct mr_query *query, const struct mr_commit *commit)
{
    const struct mr_graph *graph = query->graph;

    if (query->config.idle_after_us <= 0)
        return;
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];

        for (uint32_t k = 0; k < commit->mark_count; k++) {
            const struct mr_mark *mark = &commit->marks[k];

            if (!has_mark(node, mark->kind) || strcmp(mark->name, node->name) != 0)
                continue;
            if (mark->kind == MR_MARK_WATERMARK)
                node->watermark_us = mark->time_us;
            else
                node->source->moved_us = mark->time_us;
        }
    }
}
