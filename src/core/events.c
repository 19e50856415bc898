/*
 * Telling a listener what happens: events.h says what and when.
 *
 * Called by query.c, batch.c, sinks.c and receiver_host.c. Nothing is taken together while nobody
 * listens.
 *
 * Thread: any; one event at a time, under event_lock.
 */
#include "core/internal.h"
#include "core/receiver.h"

static bool listens(const struct mr_query *query)
{
    return query->config.on_event != NULL;
}

static void tell(struct mr_query *query, struct mr_query_event *event)
{
    event->time_us = mr_env_wall_us(query->env);
    mr_mutex_lock(&query->event_lock);
    query->config.on_event(query->config.on_event_arg, event);
    mr_mutex_unlock(&query->event_lock);
}

/* ---------------------------------------------------------------- sources of a batch */

/* After the commit the range lies behind: the source has moved on. */
static void take_source(const struct mr_node *node, enum mr_query_event_kind kind,
                        struct mr_query_event_source *ret_source)
{
    const struct mr_source_run *run = node->source;
    bool is_done = kind == MR_QUERY_BATCH_COMPLETED;

    *ret_source = (struct mr_query_event_source){
        .name = node->name,
        .start = is_done ? run->previous : run->start,
        .end = is_done ? run->start : run->end,
        .rows_known = is_done,
        .is_absent = is_done && !node->fires,
        .rows = is_done ? run->rows : 0,
        .bad_rows = is_done ? run->bad_rows : 0,
    };
    if (is_done)
        return;
    if (MR_SOURCE_HAS(run->ops, absent))
        ret_source->is_absent = run->ops->absent(run->object, run->start, run->end);
    if (mr__same_offset(run->start, run->end))
        ret_source->rows_known = true; /* nothing */
    else if (MR_SOURCE_HAS(run->ops, row_count))
        ret_source->rows_known =
            run->ops->row_count(run->object, run->start, run->end, &ret_source->rows);
}

static char *describe(const struct mr_node *node, const struct mr_query_event_source *source)
{
    const struct mr_source_run *run = node->source;

    if (mr__same_offset(source->start, source->end) || !MR_SOURCE_HAS(run->ops, describe))
        return NULL;
    return run->ops->describe(run->object, source->start, source->end);
}

/* Without memory the sources are left out. */
static struct mr_query_event_source *take_sources(const struct mr_query *query,
                                                  struct mr_query_event *event, char ***ret_texts)
{
    const struct mr_graph *graph = query->graph;
    struct mr_query_event_source *sources =
        mr_alloc_zero(NULL, (graph->node_count + 1) * sizeof(*sources));
    char **texts = mr_alloc_zero(NULL, (graph->node_count + 1) * sizeof(*texts));

    *ret_texts = texts;
    for (uint32_t i = 0; sources != NULL && texts != NULL && i < graph->node_count; i++) {
        struct mr_query_event_source *source = &sources[event->source_count];

        if (graph->nodes[i]->kind != MR_NODE_SOURCE)
            continue;
        take_source(graph->nodes[i], event->kind, source);
        texts[event->source_count] = describe(graph->nodes[i], source);
        source->description = texts[event->source_count] != NULL ? texts[event->source_count] : "";
        event->input_rows += source->rows;
        event->source_count++;
    }
    event->sources = sources;
    return sources;
}

/* ---------------------------------------------------------------- events */

void mr__event_batch(struct mr_query *query, enum mr_query_event_kind kind, const char *failure)
{
    struct mr_query_event event = {.kind = kind, .failure = failure};
    struct mr_query_event_source *sources;
    char **texts;

    if (!listens(query))
        return;
    if (kind == MR_QUERY_BATCH_SUBMITTED) {
        int64_t now_us = mr_env_wall_us(query->env);

        query->submitted_us = query->trigger_start_us;
        if (query->config.trigger == MR_TRIGGER_TICK)
            query->submitted_us =
                MR_MIN(MR_MAX(query->plan.batch_time_us, query->run_began_us), now_us);
        query->started_us = -1;
    } else if (kind == MR_QUERY_BATCH_STARTED) {
        query->started_us = mr_env_wall_us(query->env);
    }
    event.batch_id = query->told_batch_id;
    event.attempt = query->told_attempt;
    event.batch_time_us = query->told_batch_time_us;
    event.submitted_us = query->submitted_us;
    event.started_us = query->started_us;
    event.ended_us = kind == MR_QUERY_BATCH_COMPLETED || kind == MR_QUERY_BATCH_FAILED
                         ? mr_env_wall_us(query->env)
                         : -1;
    sources = take_sources(query, &event, &texts);
    tell(query, &event);
    for (size_t i = 0; i < event.source_count; i++)
        mr_text_free(texts[i]);
    mr_free(texts);
    mr_free(sources);
}

int64_t mr__event_output(struct mr_query *query, const struct mr_node *node, int64_t started_us,
                         const char *failure)
{
    int64_t now_us;
    bool is_done = started_us != MR_OUTPUT_STARTS;

    if (!listens(query))
        return 0;
    now_us = mr_env_wall_us(query->env);
    struct mr_query_event event = {
        .kind = is_done ? MR_QUERY_OUTPUT_COMPLETED : MR_QUERY_OUTPUT_STARTED,
        .batch_id = query->told_batch_id,
        .attempt = query->told_attempt,
        .batch_time_us = query->told_batch_time_us,
        .submitted_us = query->submitted_us,
        .started_us = query->started_us,
        .ended_us = -1,
        .output = node->sink->index,
        .output_name = node->name,
        .output_started_us = is_done ? started_us : now_us,
        .output_ended_us = is_done ? now_us : -1,
        .failure = failure,
    };
    tell(query, &event);
    return now_us;
}

void mr__event_receiver(struct mr_query *query, enum mr_query_event_kind kind, const char *name,
                        const struct mr_receiver_state *state)
{
    const struct mr_query_receiver receiver = {name, *state};
    struct mr_query_event event = {
        .kind = kind, .submitted_us = -1, .started_us = -1, .ended_us = -1, .receiver = &receiver};

    if (listens(query))
        tell(query, &event);
}
