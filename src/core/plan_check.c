/*
 * Does a PLAN say what a plan can say? (faults.md H20)
 *
 * Called by open.c at a start, on what the log gave, before anything of it is used. The log has
 * checked sums, the chain and the numbers of batches; this is about fields that are well formed and
 * wrong, as only another program, or a mistake in this one, can have written them. What an offset
 * means its source checks, before it reads.
 *
 *     PLAN(N - 1)  times, watermark, ends of its sources
 *     COMMIT(N - 1)  next watermark
 *     PLAN(N)      not earlier, exactly that watermark, each source starts where it ended
 *
 * Thread: driver.
 */
#include "core/internal.h"

#include "base/mutant.h"

#include <string.h>

struct checking {
    const struct mr_query *query;
    const struct mr_plan *plan;
    struct mr_error *err;
};

static enum mr_status wrong(const struct checking *checking, const char *what, const char *source)
{
    return MR_FAIL(checking->err, MR_CORRUPT,
                   "cannot go on from checkpoint '%.200s': the plan of batch %llu %s%s%.60s%s; "
                   "restore the checkpoint from a copy",
                   checking->query->checkpoint.dir, (unsigned long long)checking->plan->batch_id,
                   what, source != NULL ? " '" : "", source != NULL ? source : "",
                   source != NULL ? "'" : "");
}

static const struct mr_plan_source *find(const struct mr_plan *plan, const char *name)
{
    for (uint32_t i = 0; i < plan->source_count; i++) {
        if (strcmp(plan->sources[i].name, name) == 0)
            return &plan->sources[i];
    }
    return NULL;
}

static bool is_source(const struct mr_graph *graph, const char *name)
{
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == MR_NODE_SOURCE && strcmp(graph->nodes[i]->name, name) == 0)
            return true;
    }
    return false;
}

static uint32_t count_sources(const struct mr_graph *graph)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < graph->node_count; i++)
        count += graph->nodes[i]->kind == MR_NODE_SOURCE;
    return count;
}

/* The sources alone, and against the query when the plan is of this very one. */
static enum mr_status check_sources(const struct checking *checking)
{
    const struct mr_plan *plan = checking->plan;
    const struct mr_graph *graph = checking->query->graph;
    bool is_ours = plan->graph_fingerprint == checking->query->fingerprint;

    for (uint32_t i = 0; i < plan->source_count; i++) {
        const struct mr_plan_source *source = &plan->sources[i];

        if (find(plan, source->name) != source && !MR_MUTANT("plan-check.source.twice"))
            return wrong(checking, "names a source twice:", source->name);
        if (source->start != NULL && source->end == NULL && !MR_MUTANT("plan-check.source.end"))
            return wrong(checking, "has no end for source", source->name);
        if (is_ours && !is_source(graph, source->name) && !MR_MUTANT("plan-check.source.unknown"))
            return wrong(checking, "reads a source that its query does not have:", source->name);
    }
    if (is_ours && plan->source_count != count_sources(graph) &&
        !MR_MUTANT("plan-check.source.missing"))
        return wrong(checking, "does not have all sources of its query", NULL);
    return MR_OK;
}

/* Against the batch before, which is committed. */
static enum mr_status check_follows(const struct checking *checking, const struct mr_plan *before,
                                    const struct mr_commit *commit)
{
    const struct mr_plan *plan = checking->plan;

    if (plan->batch_time_us < before->batch_time_us && !MR_MUTANT("plan-check.follows.time"))
        return wrong(checking, "has an earlier time than the batch before", NULL);
    if (plan->watermark_us != commit->next_watermark_us &&
        !MR_MUTANT("plan-check.follows.watermark"))
        return wrong(checking, "has another watermark than the commit before says", NULL);
    if (plan->late_watermark_us != before->watermark_us && !MR_MUTANT("plan-check.follows.late"))
        return wrong(checking, "has another watermark of late rows than the plan before says",
                     NULL);
    for (uint32_t i = 0; i < plan->source_count; i++) {
        const struct mr_plan_source *source = &plan->sources[i];
        const struct mr_plan_source *same = find(before, source->name);

        if (same != NULL && !mr__same_offset(same->end, source->start) &&
            !MR_MUTANT("plan-check.follows.start"))
            return wrong(checking, "does not begin where the batch before ended, in source",
                         source->name);
    }
    return MR_OK;
}

enum mr_status mr__plan_check(const struct mr_query *query, const struct mr_recovered *recovered,
                              bool run_again, struct mr_error *err)
{
    struct checking checking = {query, &recovered->last_plan, err};

    MR_TRY(check_sources(&checking));
    if (run_again && recovered->has_commit)
        MR_TRY(check_follows(&checking, &recovered->committed_plan, &recovered->last_commit));
    checking.plan = &recovered->committed_plan;
    if (recovered->has_commit &&
        recovered->last_commit.next_watermark_us < recovered->committed_plan.watermark_us &&
        !MR_MUTANT("plan-check.commit.watermark"))
        return wrong(&checking, "has a later watermark than its commit", NULL);
    if (run_again && !recovered->has_commit &&
        (recovered->last_plan.watermark_us != INT64_MIN ||
         recovered->last_plan.late_watermark_us != INT64_MIN) &&
        !MR_MUTANT("plan-check.first.watermark")) {
        checking.plan = &recovered->last_plan;
        return wrong(&checking, "is the first one and has a watermark", NULL);
    }
    return MR_OK;
}
