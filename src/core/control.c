/*
 * Looking at a running query and steering it, from any thread: receivers, rates, batches that
 * wait. query.h says what each does.
 *
 * Thread: any, unless a comment says otherwise. The graph does not change; what does is atomic, or
 * behind a lock of its own.
 */
#include "core/internal.h"
#include "core/receiver.h"

#include <stdio.h>
#include <string.h>

static struct mr_node *find_source(const struct mr_query *query, const char *name)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];

        if (node->kind == MR_NODE_SOURCE && strcmp(node->name, name) == 0)
            return node;
    }
    return NULL;
}

enum mr_status mr_query_set_rate(struct mr_query *query, const char *source_name, int64_t rate,
                                 struct mr_error *err)
{
    struct mr_node *node = find_source(query, source_name);

    if (node == NULL)
        return MR_FAIL(err, MR_NOT_FOUND, "cannot set a rate: there is no source '%s'",
                       source_name);
    if (rate <= 0)
        return MR_OK;
    if (node->source->ops == &mr__receiver_source_ops)
        mr__receiver_source_set_rate(node->source->object, rate);
    else
        atomic_store(&node->source->rate, rate);
    return MR_OK;
}

bool mr_query_receiver(struct mr_query *query, size_t index, struct mr_query_receiver *ret_receiver)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_node *node = query->graph->nodes[i];

        if (node->kind != MR_NODE_SOURCE || node->source->ops != &mr__receiver_source_ops)
            continue;
        if (index-- > 0)
            continue;
        ret_receiver->source_name = node->name;
        mr__receiver_source_state(node->source->object, &ret_receiver->state);
        return true;
    }
    return false;
}

void mr_query_set_workers(struct mr_query *query, unsigned workers)
{
    atomic_store(&query->wanted_workers, MR_MIN(MR_MAX(workers, 1u), query->config.workers_max));
}

unsigned mr_query_workers(const struct mr_query *query)
{
    return atomic_load(&query->wanted_workers);
}

bool mr_query_doing(struct mr_query *query, char *text, size_t size)
{
    struct mr_doing_now now;

    if (!mr_doings_now(&query->doings, &now) || now.batch_us < RUNNING_TOLD_US)
        return false;
    snprintf(text, size, "%s for %lld ms", now.what[0] != '\0' ? now.what : "between steps",
             (long long)(now.what[0] != '\0' ? now.what_us : now.batch_us) / 1000);
    return true;
}

enum mr_status mr__check_interrupt(struct mr_query *query, struct mr_error *err)
{
    if (atomic_load_explicit(&query->doings.overdue, memory_order_relaxed))
        return MR_FAIL(
            err, MR_USER,
            "the batch took longer than batch_timeout, or than a stop may take; the next "
            "start runs it again");
    if (!atomic_load_explicit(&query->interrupted, memory_order_relaxed)) {
        int64_t deadline_ns = atomic_load_explicit(&query->stop_deadline_ns, memory_order_relaxed);

        if (deadline_ns == 0 || mr_env_monotonic_ns(query->env) < deadline_ns)
            return MR_OK;
        atomic_store(&query->interrupted, true);
    }
    return MR_FAIL(err, MR_STOPPED, "the query was asked to stop");
}

uint64_t mr_query_waiting_batches(const struct mr_query *query)
{
    int64_t interval_us = query->config.interval_us;
    int64_t late_us;

    if (query->config.trigger != MR_TRIGGER_TICK)
        return 0;
    late_us = mr_env_wall_us(query->env) - atomic_load(&query->running_time_us);
    return late_us >= interval_us ? (uint64_t)(late_us / interval_us) : 0;
}

bool mr_query_source_offsets(const struct mr_query *query, const char *source_name,
                             const char **ret_start, const char **ret_end)
{
    const struct mr_node *node = find_source(query, source_name);

    if (node == NULL)
        return false;
    *ret_start = node->source->start;
    *ret_end = node->source->end;
    return true;
}
