/*
 * Jobs: a call for each partition, on the workers of the session and on the thread that asks.
 *
 *     mr__run_tasks --job--> session->jobs --> worker: take the next partition, run, again ...
 *                        \-> this thread:      the same; waits until the last one is done
 *
 *     inside a task: all partitions one after the other on this thread, with its slot
 *
 * The thread that asks works too, so a job ends without any worker: nothing can wait for itself.
 * Partitions are taken in order. A try that fails makes the task run again, on the same thread; a
 * task that has used up its tries ends the job: no more partitions are taken, and the error is that
 * of the lowest partition that failed.
 *
 * Threads: any. A job is on the stack of its thread, which leaves only when no worker is in it.
 */
#include "rdd/task.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdio.h>

struct mr__job {
    struct mr_rdd *rdd; /* for its session, batch and errors */
    mr__task_fn fn;
    void *arg;
    uint32_t first;
    uint32_t count;
    struct mr__scope *scope;
    /* Under session->lock: */
    uint32_t next;
    unsigned running;
    bool failed;
    uint32_t failed_partition;
    enum mr_status status;
    struct mr_error error;
    struct mr__job *next_job;
};

static _Thread_local struct mr__task *current_task;
static _Thread_local struct mr__action *current_action;

/* ---- what a thread runs ---- */

void mr__task_enter(struct mr__task *task, const struct mr_task_info *info)
{
    *task = (struct mr__task){.info = *info, .outer = current_task};
    current_task = task;
}

void mr__task_enter_stream(struct mr__task *task, const struct mr_batch_info *info)
{
    struct mr_task_info shown = {
        .batch_id = info->batch_id,
        .batch_time_ms = info->batch_time_us / 1000,
        .partition = info->partition,
        .attempt = info->attempt,
        .worker = info->worker,
    };

    mr__task_enter(task, &shown);
}

void mr__task_leave(struct mr__task *task)
{
    MR_ASSERT(current_task == task);
    current_task = task->outer;
}

bool mr_task_info(struct mr_task_info *ret_info)
{
    if (current_task == NULL)
        return false;
    *ret_info = current_task->info;
    return true;
}

static const struct mr__action *action_on(const struct mr_session *session)
{
    const struct mr__action *action = current_action;

    while (action != NULL && action->session != session)
        action = action->outer;
    return action;
}

void mr__action_enter(struct mr__action *action, struct mr_session *session)
{
    const struct mr__action *outer = action_on(session);

    *action = (struct mr__action){.session = session, .outer = current_action};
    action->owns_slot = outer == NULL;
    action->slot = outer != NULL ? outer->slot : mr__slot_take(session);
    current_action = action;
}

void mr__action_leave(struct mr__action *action)
{
    MR_ASSERT(current_action == action);
    current_action = action->outer;
    if (action->owns_slot)
        mr__slot_give(action->session, action->slot);
}

unsigned mr__action_slot(const struct mr_session *session)
{
    const struct mr__action *action = action_on(session);

    MR_ASSERT(action != NULL);
    return action->slot;
}

/* ---- one task ---- */

static bool may_try_again(enum mr_status status)
{
    return status != MR_NOMEM && status != MR_STOPPED;
}

static enum mr_status run_task(const struct mr__job *job, uint32_t partition, struct mr_error *err)
{
    struct mr_session *session = job->rdd->session;
    unsigned slot = mr__action_slot(session);
    enum mr_status status = MR_OK;

    for (uint32_t attempt = 0; attempt < session->task_tries; attempt++) {
        struct mr_task_info info = {
            .batch_id = job->rdd->batch_id,
            .batch_time_ms = job->rdd->in_batch ? job->rdd->time_us / 1000 : 0,
            .partition = partition,
            .attempt = attempt,
            .worker = slot - 1,
        };
        struct mr__task task;

        mr_error_clear(err);
        mr__task_enter(&task, &info);
        task.when = (struct mr__when){slot, job->rdd->time_us};
        status = job->fn(&task, job->arg, err);
        mr__task_leave(&task);
        if (status == MR_OK || !may_try_again(status))
            return status;
        mr_log(MR_LOG_WARNING, "rdd", job->rdd->kind->name, -1,
               "partition %" PRIu32 ": try %" PRIu32 " of %" PRIu32 " failed: %s", partition,
               attempt + 1, session->task_tries, err->text);
    }
    return status;
}

/* ---- jobs ---- */

/* Takes partitions until there are none; session->lock is held, but for the tasks. */
static void work_on(struct mr__job *job)
{
    struct mr_session *session = job->rdd->session;

    job->running++;
    while (job->next < job->count && !job->failed) {
        uint32_t partition = job->first + job->next++;
        struct mr_error local;
        enum mr_status status;

        mr_mutex_unlock(&session->lock);
        status = run_task(job, partition, &local);
        mr_mutex_lock(&session->lock);
        if (status != MR_OK && (!job->failed || partition < job->failed_partition)) {
            job->failed = true;
            job->failed_partition = partition;
            job->status = status;
            job->error = local;
        }
    }
    job->running--;
}

static struct mr__job *open_job(struct mr_session *session)
{
    struct mr__job *job = session->jobs;

    while (job != NULL && (job->next >= job->count || job->failed))
        job = job->next_job;
    return job;
}

/* The slot comes first: a job never waits for a worker that waits for a slot. */
static void worker_main(void *arg)
{
    struct mr_session *session = arg;

    mr_mutex_lock(&session->lock);
    while (!session->closing) {
        struct mr__action action;
        struct mr__job *job;

        if (open_job(session) == NULL) {
            mr_cond_wait(&session->changed, &session->lock);
            continue;
        }
        mr_mutex_unlock(&session->lock);
        mr__action_enter(&action, session);
        mr_mutex_lock(&session->lock);
        job = open_job(session);
        if (job != NULL) {
            mr__scope_swap(job->scope);
            work_on(job);
            mr__scope_swap(NULL);
            mr_cond_broadcast(&session->changed);
        }
        mr_mutex_unlock(&session->lock);
        mr__action_leave(&action);
        mr_mutex_lock(&session->lock);
    }
    mr_mutex_unlock(&session->lock);
}

/* Threads beside the one that asks. One that cannot be started is missed, no more. */
static void start_workers(struct mr_session *session)
{
    unsigned wanted = session->worker_count - 1;

    if (session->threads != NULL || wanted == 0 || session->closing)
        return;
    session->threads = mr_alloc_zero(NULL, wanted * sizeof(struct mr_thread *));
    while (session->threads != NULL && session->thread_count < wanted) {
        struct mr_error err;
        if (mr_thread_start("mr-rdd", worker_main, session,
                            &session->threads[session->thread_count], &err) != MR_OK) {
            mr_log(MR_LOG_WARNING, "rdd", "session", -1, "%s", err.text);
            return;
        }
        session->thread_count++;
    }
}

void mr__workers_stop(struct mr_session *session)
{
    mr_mutex_lock(&session->lock);
    session->closing = true;
    mr_cond_broadcast(&session->changed);
    mr_mutex_unlock(&session->lock);
    for (unsigned i = 0; i < session->thread_count; i++)
        mr_thread_join(session->threads[i]);
    mr_free(session->threads);
    session->threads = NULL;
    session->thread_count = 0;
}

static void remove_job(struct mr_session *session, struct mr__job *job)
{
    struct mr__job **at = &session->jobs;

    while (*at != job)
        at = &(*at)->next_job;
    *at = job->next_job;
}

static enum mr_status run_here(struct mr__job *job, struct mr_error *err)
{
    for (uint32_t i = 0; i < job->count; i++) {
        struct mr_error local;
        enum mr_status status = run_task(job, job->first + i, &local);

        if (status != MR_OK) {
            if (err != NULL)
                *err = local;
            return status;
        }
    }
    return MR_OK;
}

enum mr_status mr__run_tasks(struct mr_rdd *rdd, uint32_t first, uint32_t count, mr__task_fn fn,
                             void *arg, struct mr_error *err)
{
    struct mr_session *session = rdd->session;
    struct mr__job job = {.rdd = rdd, .fn = fn, .arg = arg, .first = first, .count = count};

    if (current_task != NULL || count == 1 || session->worker_count == 1)
        return run_here(&job, err);
    job.scope = mr__scope_swap(NULL);
    mr__scope_swap(job.scope);
    mr_mutex_lock(&session->lock);
    start_workers(session);
    job.next_job = session->jobs;
    session->jobs = &job;
    mr_cond_broadcast(&session->changed);
    work_on(&job);
    while (job.running > 0)
        mr_cond_wait(&session->changed, &session->lock);
    remove_job(session, &job);
    mr_mutex_unlock(&session->lock);
    if (job.failed && err != NULL)
        *err = job.error;
    return job.failed ? job.status : MR_OK;
}
