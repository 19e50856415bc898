/*
 * The batch loop: when to plan, when to flush, when to wait, when to stop.
 *
 *   mr_query_run:   [run the recovered plan] { wait for the trigger -> plan -> flush -> run ->
 *                   (plan the next) -> flush }*
 *
 * The next batch is planned before COMMIT(N) is flushed whenever its trigger is due, so that both
 * records share the flush: a steady stream costs one fdatasync a batch.
 *
 * Thread: the caller of mr_query_run is the driver. mr_query_stop, mr_query_last_progress and the
 * wake-ups of sources: any; they take query->lock.
 */
#include "core/internal.h"
#include "core/receiver.h"

#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/mutant.h"

#include <string.h>

enum {
    POLL_US = 10 * 1000,       /* idle: how often sources without wake-ups are asked */
    POLL_CONTINUOUS_US = 1000, /* the same for MR_TRIGGER_CONTINUOUS */
    IDLE_SHARE = 20, /* of its time, an idle query asks its sources for one part in so many */
    IDLE_POLL_MAX_US = 1000000,
    BACKLOG_TOLD = 10, /* so many batches that wait are worth a line */
    BACKOFF_FIRST_US = 100 * 1000,
    BACKOFF_MAX_US = 5 * 1000000,
};

void mr_query_config_init(struct mr_query_config *config)
{
    *config = (struct mr_query_config){
        .trigger = MR_TRIGGER_ASAP,
        .retries = 3,
        .unavailable_us = 120 * INT64_C(1000000),
        .retain_batches = 100,
        .segment_bytes = 1u << 20,
        .no_data_batches = true,
        .block_interval_us = 200 * 1000,
        .restart_delay_us = 2000 * 1000,
        .receiver_queue_bytes = MR_LIMIT_RECEIVER_QUEUE,
        .received_memory_bytes = 64u << 20,
        .small_batch_bytes = MR_FOLD_SMALL_BYTES,
        .parallel_min_bytes = 1u << 20,
        .idle_progress_us = 10 * INT64_C(1000000), /* structured.md 22.2 */
        .slow_batch_us = 60 * INT64_C(1000000),
    };
}

void mr__phase(struct mr_query *query, enum mr_query_phase phase, const char *name)
{
    if (query->config.on_phase != NULL)
        query->config.on_phase(query->config.on_phase_arg, phase, name);
}

/* Stopping and waking: any thread. */

static void wake_driver(void *arg)
{
    struct mr_query *query = arg;

    mr_mutex_lock(&query->lock);
    query->woken = true;
    mr_cond_signal(&query->wake);
    mr_mutex_unlock(&query->lock);
}

void mr_query_stop(struct mr_query *query, bool graceful)
{
    int64_t timeout_us = query->config.stop_timeout_us;

    mr_mutex_lock(&query->lock);
    if (!graceful) {
        query->stop = MR_STOP_NOW;
        atomic_store(&query->interrupted, true);
    } else if (query->stop == MR_STOP_NONE) {
        query->stop = MR_STOP_GRACEFUL;
        query->stop_wall_us = mr_env_wall_us(query->env);
        if (timeout_us > 0)
            atomic_store(&query->stop_deadline_ns,
                         mr_env_monotonic_ns(query->env) + timeout_us * 1000);
    }
    query->woken = true;
    mr_cond_signal(&query->wake);
    mr_mutex_unlock(&query->lock);
    mr_doings_stop_asked();
}

static enum mr_stop stop_asked(struct mr_query *query)
{
    enum mr_stop stop;

    mr_mutex_lock(&query->lock);
    stop = query->stop;
    mr_mutex_unlock(&query->lock);
    return stop;
}

/*
 * Waits until somebody wakes the driver or the time is over. until_stop: only a stop ends it early.
 * seen: what the caller knows of stop; a stop that came after it looked must not be slept through.
 */
static void wait_us(struct mr_query *query, int64_t duration_us, bool until_stop, enum mr_stop seen)
{
    int64_t deadline_ns = mr_env_monotonic_ns(query->env) + duration_us * 1000;

    if (duration_us <= 0)
        return;
    if (query->env->ops->virtual_time) {
        mr_env_sleep_ns(query->env, duration_us * 1000);
        return;
    }
    mr_mutex_lock(&query->lock);
    for (;;) {
        int64_t left_ns = deadline_ns - mr_env_monotonic_ns(query->env);

        if (left_ns <= 0 || query->stop != seen || (query->woken && !until_stop))
            break;
        mr_cond_wait_for(&query->wake, &query->lock, left_ns);
    }
    query->woken = false;
    mr_mutex_unlock(&query->lock);
}

/* Receivers. */

static bool is_receiver(const struct mr_node *node)
{
    return node->kind == MR_NODE_SOURCE && node->source->ops == &mr__receiver_source_ops;
}

/* Graceful stop: what receivers have taken in is made durable and still run. */
static void start_draining(struct mr_query *query)
{
    int64_t since_us = mr_env_monotonic_ns(query->env) / 1000;

    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        if (is_receiver(query->graph->nodes[i]))
            mr__receiver_source_drain(query->graph->nodes[i]->source->object);
    }
    query->draining = true;
    query->draining_since_us = since_us;
    if (query->config.stop_timeout_us > 0)
        atomic_store(&query->stop_deadline_ns, (since_us + query->config.stop_timeout_us) * 1000);
}

static bool has_receivers(const struct mr_query *query)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        if (is_receiver(query->graph->nodes[i]))
            return true;
    }
    return false;
}

static bool all_exhausted(const struct mr_query *query)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_source_run *run = query->graph->nodes[i]->source;
        if (query->graph->nodes[i]->kind != MR_NODE_SOURCE)
            continue;
        if (run->ops->exhausted == NULL || !run->ops->exhausted(run->object, run->start))
            return false;
    }
    return true;
}

/* Triggers. */

static int64_t floor_to(int64_t value, int64_t step)
{
    int64_t rest = value % step;
    return value - (rest < 0 ? rest + step : rest);
}

/* When the next trigger is due, in wall-clock microseconds; 0 = at once. */
static int64_t next_trigger_us(const struct mr_query *query)
{
    const struct mr_query_config *config = &query->config;

    if (config->trigger == MR_TRIGGER_TICK)
        return query->last_batch_time_us + config->interval_us;
    if (config->trigger == MR_TRIGGER_INTERVAL && config->interval_us > 0 &&
        query->trigger_start_us != 0)
        return floor_to(query->trigger_start_us, config->interval_us) + config->interval_us;
    return 0;
}

static bool trigger_is_due(struct mr_query *query)
{
    return mr_env_wall_us(query->env) >= next_trigger_us(query);
}

/* Batch times are whole milliseconds and strictly increase whatever the clock does (D5). */
static int64_t choose_batch_time(struct mr_query *query)
{
    int64_t now_us = floor_to(mr_env_wall_us(query->env), 1000);

    if (query->config.trigger == MR_TRIGGER_TICK)
        return query->last_batch_time_us + query->config.interval_us;
    return MR_MAX(now_us, query->last_batch_time_us + 1000);
}

static void count_missed(struct mr_query *query, int64_t due_us)
{
    int64_t late_us = mr_env_wall_us(query->env) - due_us;

    if (query->config.trigger != MR_TRIGGER_INTERVAL || due_us == 0 ||
        late_us < query->config.interval_us)
        return;
    mr_metric_add(&query->metrics, MR_METRIC_MISSED_TRIGGERS, late_us / query->config.interval_us);
    mr_log(MR_LOG_WARNING, "core", query->name, -1,
           "falling behind: a batch took longer than the trigger interval");
}

/*
 * The grid is the wall clock's, but a wall clock that is set back must not stop the triggers: by
 * the monotonic clock none is further away than an interval from the one before (D5). An interval
 * trigger, whose grid moves with the clock, gets a second one, so that a clock that is only
 * adjusted a little does not fire it twice.
 */
static int64_t longest_wait_us(const struct mr_query *query, int64_t began_us)
{
    const struct mr_query_config *config = &query->config;
    int64_t from_us = query->trigger_mono_us != 0 ? query->trigger_mono_us : began_us;
    int64_t longest_us = config->interval_us;

    if (config->trigger != MR_TRIGGER_TICK)
        longest_us = MR_MIN(longest_us, INT64_MAX / 4) * 2;
    return from_us + longest_us - mr_env_monotonic_ns(query->env) / 1000;
}

static void wait_for_trigger(struct mr_query *query)
{
    int64_t began_us = mr_env_monotonic_ns(query->env) / 1000;

    for (;;) {
        enum mr_stop stop = stop_asked(query);
        int64_t left_us = next_trigger_us(query) - mr_env_wall_us(query->env);

        left_us = MR_MIN(left_us, longest_wait_us(query, began_us));
        if (query->draining && query->config.stop_timeout_us > 0)
            left_us = MR_MIN(left_us, query->draining_since_us + query->config.stop_timeout_us -
                                          mr_env_monotonic_ns(query->env) / 1000);
        if (left_us <= 0 || stop == MR_STOP_NOW || (stop == MR_STOP_GRACEFUL && !query->draining))
            return;
        wait_us(query, left_us, true, stop);
    }
}

/* The log. */

static enum mr_status sync_log(struct mr_query *query, struct mr_error *err)
{
    int64_t began = mr_env_monotonic_ns(query->env);

    if (query->log == NULL)
        return MR_OK;
    MR_TRY(mr_batch_log_sync(query->log, err));
    mr_metric_set(&query->metrics, MR_METRIC_LOG_SYNCS,
                  (int64_t)mr_batch_log_sync_count(query->log));
    query->duration_log_us = (mr_env_monotonic_ns(query->env) - began) / 1000;
    return MR_OK;
}

/* Failures. */

/* A peer is away: waits and lets the caller try again, until the budget is spent. */
static bool may_try_again(struct mr_query *query, enum mr_status status, uint32_t tries,
                          const struct mr_error *err)
{
    int64_t now_us = mr_env_monotonic_ns(query->env) / 1000;
    int64_t pause_us =
        MR_MIN((int64_t)BACKOFF_FIRST_US << MR_MIN(tries, 10u), (int64_t)BACKOFF_MAX_US);

    if (stop_asked(query) != MR_STOP_NONE)
        return false;
    if (status == MR_UNAVAILABLE) {
        if (query->down_since_us == 0)
            query->down_since_us = now_us;
        if (now_us - query->down_since_us >= query->config.unavailable_us)
            return false;
    } else if (status != MR_USER || tries >= query->config.retries) {
        return false;
    }
    mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->next_batch,
           "%s; trying again in %lld ms", err->text, (long long)(pause_us / 1000));
    wait_us(query, pause_us, true, MR_STOP_NONE);
    return stop_asked(query) == MR_STOP_NONE;
}

/* C13: who has the memory, and what to do about it. */
static void explain_memory(struct mr_query *query, struct mr_error *err)
{
    char said[MR_ERROR_TEXT_BYTES];
    uint64_t keys = 0, bytes = 0;
    const char *name = mr_state_largest(query->state, &keys, &bytes);

    memcpy(said, err->text, sizeof(said));
    MR_FAIL(err, MR_NOMEM,
            "%.200s; 'memory' is %llu MiB, %llu MiB of it counted; most state: '%.64s', %llu keys, "
            "%llu MiB; give more memory, or smaller batches",
            said, (unsigned long long)(mr_memory_bytes() >> 20),
            (unsigned long long)(mr_budget_used(NULL) >> 20), name != NULL ? name : "none",
            (unsigned long long)keys, (unsigned long long)(bytes >> 20));
}

/* Runs the planned batch, again after failures that may pass. *ret_left: a peer is away and a stop
 * was asked: the batch is left to the next start. */
static enum mr_status run_with_retries(struct mr_query *query, bool *ret_left, struct mr_error *err)
{
    struct mr_error local;

    for (uint32_t tries = 0;; tries++) {
        mr_error_clear(&local);
        enum mr_status status = mr__batch_run(query, &local);

        if (status == MR_OK) {
            query->down_since_us = 0;
            return MR_OK;
        }
        if (!MR_MUTANT("query.retry.abort"))
            mr__batch_abort(query);
        if (status == MR_STOPPED && atomic_load(&query->interrupted)) {
            mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->plan.batch_id,
                   "stopping in the middle of this batch; %s",
                   query->durable ? "the next start runs it" : "it is lost without a checkpoint");
            *ret_left = true;
            return MR_OK;
        }
        mr__event_batch(query, MR_QUERY_BATCH_FAILED, local.text);
        if (!may_try_again(query, status, tries, &local)) {
            if (status == MR_UNAVAILABLE && stop_asked(query) != MR_STOP_NONE) {
                mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->plan.batch_id,
                       "stopping without this batch: %s; the next start runs it", local.text);
                *ret_left = true;
                return MR_OK;
            }
            if (status == MR_NOMEM)
                explain_memory(query, &local);
            if (err != NULL)
                *err = local;
            if (err != NULL && err->sql_line == 0)
                mr_error_prefix(err, "batch %llu", (unsigned long long)query->plan.batch_id);
            return status;
        }
        query->attempt++;
        mr_metric_add(&query->metrics, MR_METRIC_TASK_RETRIES, 1);
    }
}

static enum mr_status plan_with_retries(struct mr_query *query, int64_t batch_time_us,
                                        bool *ret_planned, struct mr_error *err)
{
    bool always = (query->config.trigger == MR_TRIGGER_TICK && !query->draining) || query->settles;
    struct mr_error local;

    for (uint32_t tries = 0;; tries++) {
        mr_error_clear(&local);
        enum mr_status status = mr__batch_plan(query, batch_time_us, always, ret_planned, &local);

        if (status == MR_OK) {
            query->down_since_us = 0;
            return MR_OK;
        }
        if (!may_try_again(query, status, tries, &local)) {
            if (stop_asked(query) != MR_STOP_NONE && mr_status_retriable(status)) {
                /* asked to stop while a peer is away: nothing is planned, nothing is lost */
                *ret_planned = false;
                return MR_OK;
            }
            if (err != NULL)
                *err = local;
            return status;
        }
    }
}

/* The loop. */

static bool enough_batches(const struct mr_query *query)
{
    return query->config.batches_max > 0 && query->batches_done >= query->config.batches_max;
}

static void begin_trigger(struct mr_query *query)
{
    query->previous_trigger_start_us = query->trigger_start_us;
    query->trigger_start_us = mr_env_wall_us(query->env);
    query->trigger_mono_us = mr_env_monotonic_ns(query->env) / 1000;
    mr__phase(query, MR_PHASE_TRIGGER, NULL);
}

/* May the next batch be planned right behind this one, to share its flush? */
static bool may_plan_ahead(struct mr_query *query)
{
    return query->log != NULL && !query->draining && query->config.trigger != MR_TRIGGER_ONCE &&
           stop_asked(query) == MR_STOP_NONE && !enough_batches(query) && trigger_is_due(query);
}

/* After a pause, a slow batch or a clock that was set forward, every batch is made up; that is said
 * once. */
static void note_backlog(struct mr_query *query)
{
    uint64_t waiting = mr_query_waiting_batches(query);

    if (waiting >= BACKLOG_TOLD && !query->backlog_told)
        mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->plan.batch_id,
               "%llu batches are due and wait for this one", (unsigned long long)waiting);
    if (waiting >= BACKLOG_TOLD || waiting == 0)
        query->backlog_told = waiting > 0;
}

/* The planned batch begins. */
static void announce(struct mr_query *query)
{
    atomic_store(&query->running_time_us, query->plan.batch_time_us);
    note_backlog(query);
    query->told_batch_id = query->plan.batch_id;
    query->told_batch_time_us = query->plan.batch_time_us;
    query->told_attempt = query->attempt;
    mr__event_batch(query, MR_QUERY_BATCH_SUBMITTED, NULL);
    mr__event_batch(query, MR_QUERY_BATCH_STARTED, NULL);
}

static bool has_new_data(const struct mr_query *query)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_source_run *run = query->graph->nodes[i]->source;

        if (query->graph->nodes[i]->kind == MR_NODE_SOURCE &&
            !mr__same_offset(run->start, run->end))
            return true;
    }
    return false;
}

/* One planned batch to its durable commit, with the next one planned ahead when it is due.
 * *ret_left: it was left to the next start. */
static enum mr_status run_planned(struct mr_query *query, bool *ret_left, struct mr_error *err)
{
    bool ahead = false;
    int64_t next_start_us = 0;
    enum mr_status status;

    *ret_left = false;
    announce(query);
    mr__phase(query, has_new_data(query) ? MR_PHASE_DATA : MR_PHASE_NO_DATA, NULL);
    mr_doings_batch_begin(&query->doings, query->plan.batch_id);
    status = run_with_retries(query, ret_left, err);
    mr_doings_batch_end(&query->doings);
    MR_TRY(status);
    if (*ret_left)
        return MR_OK;
    if (may_plan_ahead(query)) {
        struct mr_error plan_error;
        bool always = query->config.trigger == MR_TRIGGER_TICK;

        mr_error_clear(&plan_error);
        next_start_us = mr_env_wall_us(query->env);
        /* A failure to plan must not keep this commit from the disk: the loop plans again and
         * reports it. */
        if (mr__batch_plan(query, choose_batch_time(query), always, &ahead, &plan_error) != MR_OK)
            ahead = false;
    }
    if (!MR_MUTANT("query.run-planned.sync-commit"))
        MR_TRY(sync_log(query, err));
    MR_TRY(mr__failpoint(query, "committed", err));
    mr__event_batch(query, MR_QUERY_BATCH_COMPLETED, NULL);
    mr__progress_report(query, false);
    mr__phase(query, MR_PHASE_DONE, NULL);
    MR_TRY(mr__batch_after_commit(query, err));
    if (ahead) {
        count_missed(query, next_trigger_us(query));
        query->previous_trigger_start_us = query->trigger_start_us;
        query->trigger_start_us = next_start_us;
        query->trigger_mono_us = mr_env_monotonic_ns(query->env) / 1000;
        mr__phase(query, MR_PHASE_TRIGGER, NULL);
    }
    return MR_OK;
}

/* A receiver whose data has an end (stdin) is not caught up with before it. */
static bool awaits_an_end(const struct mr_query *query)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_source_run *run = query->graph->nodes[i]->source;

        if (is_receiver(query->graph->nodes[i]) && run->spec.connector->receiver_ops->ends &&
            !run->ops->exhausted(run->object, run->start))
            return true;
    }
    return false;
}

/* Nothing to do in this trigger. *ret_finished: and nothing will come. */
static void idle(struct mr_query *query, bool *ret_finished)
{
    int64_t now_us = mr_env_wall_us(query->env);

    bool caught_up =
        query->config.trigger == MR_TRIGGER_CAUGHT_UP || query->config.trigger == MR_TRIGGER_ONCE;
    bool continuous = query->config.trigger == MR_TRIGGER_CONTINUOUS;

    mr__phase(query, MR_PHASE_IDLE, NULL);
    *ret_finished = query->draining || (caught_up && !awaits_an_end(query)) || all_exhausted(query);
    if (*ret_finished)
        return;
    if (now_us - query->last_progress_us >= query->config.idle_progress_us)
        mr__progress_report(query, true);
    /* Asking may be dear, a directory with many files say: an idle query spends little of its time
     * on it. */
    if (query->config.trigger == MR_TRIGGER_ASAP || continuous || caught_up)
        wait_us(query,
                MR_MAX(continuous ? (int64_t)POLL_CONTINUOUS_US : (int64_t)POLL_US,
                       MR_MIN(query->duration_plan_us * IDLE_SHARE, (int64_t)IDLE_POLL_MAX_US)),
                false, MR_STOP_NONE);
}

/* What receivers took in is still run after a graceful stop, but not for ever (D2). */
static bool drained_long_enough(const struct mr_query *query)
{
    int64_t now_us = mr_env_monotonic_ns(query->env) / 1000;

    if (!query->draining || query->config.stop_timeout_us <= 0 ||
        now_us - query->draining_since_us < query->config.stop_timeout_us)
        return false;
    mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->next_batch,
           "stopping after %lld ms with received data that is not processed; %s",
           (long long)(query->config.stop_timeout_us / 1000),
           query->durable ? "the next start goes on with it" : "it is lost without a checkpoint");
    return true;
}

/*
 * TICK without receivers: a graceful stop runs the batches whose time had come when it was asked
 * for (JG-9), for as long as a stop may take; else what they were to read is left out without a
 * checkpoint.
 */
static bool owes_batches(struct mr_query *query)
{
    int64_t deadline_ns = atomic_load(&query->stop_deadline_ns);
    bool owes;

    if (query->config.trigger != MR_TRIGGER_TICK)
        return false;
    mr_mutex_lock(&query->lock);
    owes = next_trigger_us(query) <= query->stop_wall_us;
    mr_mutex_unlock(&query->lock);
    if (!owes || deadline_ns == 0 || mr_env_monotonic_ns(query->env) < deadline_ns)
        return owes;
    mr_log(MR_LOG_WARNING, "core", query->name, (int64_t)query->next_batch,
           "stopping after %lld ms with batches that are due; %s",
           (long long)(query->config.stop_timeout_us / 1000),
           query->durable ? "the next start runs them" : "they are lost without a checkpoint");
    return false;
}

/* One turn: wait for the trigger, plan, flush the plan, run. *ret_finished ends the loop. */
static enum mr_status turn(struct mr_query *query, bool *ret_finished, struct mr_error *err)
{
    bool planned = false, owes = false;

    if (stop_asked(query) == MR_STOP_GRACEFUL && !query->draining) {
        owes = !has_receivers(query) && owes_batches(query);
        if (!has_receivers(query) && !owes) {
            *ret_finished = true;
            return MR_OK;
        }
        if (!owes)
            start_draining(query);
    }
    wait_for_trigger(query);
    if (stop_asked(query) == MR_STOP_NOW ||
        (stop_asked(query) != MR_STOP_NONE && !query->draining && !owes))
        return MR_OK; /* the loop looks at stop */
    if (drained_long_enough(query)) {
        *ret_finished = true;
        return MR_OK;
    }
    count_missed(query, next_trigger_us(query));
    begin_trigger(query);
    MR_TRY(plan_with_retries(query, choose_batch_time(query), &planned, err));
    if (!planned) {
        idle(query, ret_finished);
        *ret_finished |= owes; /* what cannot be planned now is left to the next start */
        return MR_OK;
    }
    mr__phase(query, MR_PHASE_LOG, NULL);
    return MR_MUTANT("query.turn.sync-plan") ? MR_OK : sync_log(query, err);
}

/* By the clock the first plan may be an interval away: receivers do not wait for it (TRK-2). */
static enum mr_status start_receivers(struct mr_query *query, struct mr_error *err)
{
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_node *node = query->graph->nodes[i];

        if (is_receiver(node))
            MR_TRY(mr__receiver_source_start(node->source->object, err));
    }
    return MR_OK;
}

static enum mr_status run_batches(struct mr_query *query, struct mr_error *err)
{
    bool finished = false, left = false;
    bool replayed_once = query->has_plan && query->config.trigger == MR_TRIGGER_ONCE;

    query->run_began_us = mr_env_wall_us(query->env);
    query->last_progress_us = query->run_began_us; /* the first idle trigger says nothing */
    if (query->config.trigger == MR_TRIGGER_TICK)
        MR_TRY(start_receivers(query, err));
    while (!finished) {
        if (stop_asked(query) == MR_STOP_NOW || enough_batches(query))
            break;
        if (!query->has_plan)
            MR_TRY(turn(query, &finished, err));
        if (!query->has_plan)
            continue;
        if (query->trigger_start_us == 0)
            begin_trigger(query);
        MR_TRY(run_planned(query, &left, err));
        if (left || query->config.trigger == MR_TRIGGER_ONCE || replayed_once)
            finished = true;
    }
    return MR_OK;
}

enum mr_status mr_query_run(struct mr_query *query, struct mr_error *err)
{
    enum mr_status status;

    if (!query->env->ops->virtual_time)
        mr_doings_open(&query->doings);
    status = run_batches(query, err);
    mr_doings_close(&query->doings);
    return status;
}

enum mr_status mr_query_new(struct mr_env *env, struct mr_graph *graph,
                            const struct mr_query_config *config, struct mr_query **ret_query,
                            struct mr_error *err)
{
    struct mr_query *query = mr_alloc_zero(NULL, sizeof(*query));
    enum mr_status status;

    if (query == NULL) {
        mr_graph_free(graph);
        return MR_FAIL(err, MR_NOMEM, "cannot make a query: out of memory");
    }
    query->env = env;
    query->graph = graph;
    query->config = *config;
    query->watermark_us = INT64_MIN;
    query->last_watermark_us = INT64_MIN;
    mr_mutex_init(&query->lock);
    mr_mutex_init(&query->event_lock);
    mr_cond_init(&query->wake);
    mr_doings_init(&query->doings);
    query->doings.env = env;
    query->doings.slow_us = config->slow_batch_us;
    query->doings.timeout_us = config->batch_timeout_us;
    query->doings.stop_us = config->stop_timeout_us;
    query->doings.stop_deadline_ns = &query->stop_deadline_ns;
    query->name = mr_strdup(config->name != NULL ? config->name : "query");
    query->doings.query_name = query->name;
    if (query->name == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot make a query: out of memory");
    else
        status = mr__query_open_parts(query, err);
    if (status != MR_OK) {
        mr_query_free(query);
        return status;
    }
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_source_run *run = graph->nodes[i]->source;
        if (graph->nodes[i]->kind == MR_NODE_SOURCE && run->ops->set_wakeup != NULL)
            run->ops->set_wakeup(run->object, wake_driver, query);
    }
    atomic_init(&query->running_time_us,
                query->last_batch_time_us - (query->has_plan ? query->config.interval_us : 0));
    *ret_query = query;
    return MR_OK;
}

void mr_query_free(struct mr_query *query)
{
    if (query == NULL)
        return;
    mr__query_close_parts(query);
    mr__progress_release(query); /* goes by the graph */
    mr_graph_free(query->graph);
    mr_cond_release(&query->wake);
    mr_mutex_release(&query->lock);
    mr_mutex_release(&query->event_lock);
    mr_doings_release(&query->doings);
    mr_free(query->settings);
    mr_free(query->name);
    mr_free(query);
}

const struct mr_metrics *mr_query_metrics(const struct mr_query *query)
{
    return &query->metrics;
}

const char *mr_query_id(const struct mr_query *query)
{
    return query->checkpoint.query_id_text;
}

const char *mr_query_run_id(const struct mr_query *query)
{
    return query->run_id;
}

uint64_t mr_query_next_batch(const struct mr_query *query)
{
    return query->next_batch;
}

int64_t mr_query_zero_time_us(const struct mr_query *query)
{
    return query->zero_time_us;
}
