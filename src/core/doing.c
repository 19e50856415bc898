/*
 * What queries are doing, and the one thread that looks whether a batch takes too long; doing.h.
 *
 * A thread cannot be made to leave a function that blocks for ever: what it holds would stay
 * held. So a batch that must end and does not ends with its process, as a kill would, which the
 * checkpoint bears at every point: nothing is torn, and the next start runs the batch again.
 *
 * Called by query.c (batches), task.c, fold.c, sinks.c and the functions of programs. Locks: the
 * watcher's, then that of one query's doings; nothing else is taken under them. Not with a virtual
 * clock, where nothing hangs.
 */
#include "core/doing.h"

#include "base/check.h"
#include "base/log.h"

#include <stdio.h>
#include <string.h>

static _Thread_local struct mr_doing *current;

static struct {
    struct mr_mutex lock;
    struct mr_cond wake; /* made with the first thread, and kept */
    atomic_bool has_wake;
    struct mr_thread *thread;
    uint64_t generation; /* of the thread: an older one ends */
    struct mr_doings *first;
    mr_doing_end_fn end;
} watcher = {.lock = {PTHREAD_MUTEX_INITIALIZER}};

static int64_t now_ns(const struct mr_doings *doings)
{
    return mr_env_monotonic_ns(doings->env);
}

/* ---- what is being done ---- */

void mr_doing_begin(struct mr_doing *doing, struct mr_doings *of, const char *kind,
                    const char *name)
{
    if (of == NULL && current != NULL)
        of = current->of;
    *doing =
        (struct mr_doing){.of = of != NULL && of->open ? of : NULL, .kind = kind, .name = name};
    of = doing->of;
    if (of == NULL)
        return;
    doing->since_ns = now_ns(of);
    doing->outer = current != NULL && current->of == of ? current : NULL;
    mr_mutex_lock(&of->lock);
    if (doing->outer != NULL)
        doing->outer->has_inner = true;
    doing->next = of->first;
    if (of->first != NULL)
        of->first->before = doing;
    of->first = doing;
    mr_mutex_unlock(&of->lock);
    current = doing;
}

void mr_doing_end(struct mr_doing *doing)
{
    struct mr_doings *of = doing->of;

    if (of == NULL)
        return;
    mr_mutex_lock(&of->lock);
    if (doing->outer != NULL)
        doing->outer->has_inner = false;
    if (doing->before != NULL)
        doing->before->next = doing->next;
    else
        of->first = doing->next;
    if (doing->next != NULL)
        doing->next->before = doing->before;
    mr_mutex_unlock(&of->lock);
    current = doing->outer;
}

struct mr_doing *mr_doing_swap(struct mr_doing *doing)
{
    struct mr_doing *before = current;

    current = doing;
    return before;
}

/* The innermost thing that takes longest. */
static const struct mr_doing *longest(const struct mr_doings *doings)
{
    const struct mr_doing *found = NULL;

    for (const struct mr_doing *at = doings->first; at != NULL; at = at->next) {
        if (!at->has_inner && (found == NULL || at->since_ns < found->since_ns))
            found = at;
    }
    return found;
}

/* Is something of it not coming back? A source that waits for its peer gives up by itself, and then
 * the batch is left. */
static bool hangs(struct mr_doings *doings, int64_t now)
{
    bool found = false;

    mr_mutex_lock(&doings->lock);
    for (const struct mr_doing *at = doings->first; at != NULL && !found; at = at->next)
        found = !at->has_inner && strcmp(at->kind, "source") != 0 &&
                now - at->since_ns >= doings->stop_us * 1000;
    mr_mutex_unlock(&doings->lock);
    return found;
}

bool mr_doings_now(struct mr_doings *doings, struct mr_doing_now *ret_now)
{
    int64_t since_ns = atomic_load(&doings->since_ns), now = now_ns(doings);
    const struct mr_doing *found;

    if (since_ns == 0)
        return false;
    *ret_now = (struct mr_doing_now){.batch_id = atomic_load(&doings->batch_id),
                                     .batch_us = (now - since_ns) / 1000};
    mr_mutex_lock(&doings->lock);
    found = longest(doings);
    if (found != NULL) {
        bool named = found->outer != NULL && strcmp(found->kind, "function") == 0;

        ret_now->what_us = (now - found->since_ns) / 1000;
        snprintf(ret_now->what, sizeof(ret_now->what), "%s '%.100s'%s%s%s%.100s%s", found->kind,
                 found->name, named ? " in " : "", named ? found->outer->kind : "",
                 named ? " '" : "", named ? found->outer->name : "", named ? "'" : "");
    }
    mr_mutex_unlock(&doings->lock);
    return true;
}

/* ---- the watcher ---- */

static void describe(struct mr_doings *doings, char *text, size_t size)
{
    struct mr_doing_now now;

    text[0] = '\0';
    if (!mr_doings_now(doings, &now))
        return;
    if (now.what[0] == '\0')
        snprintf(text, size, "between its steps");
    else
        snprintf(text, size, "in %s for %lld ms", now.what, (long long)(now.what_us / 1000));
}

static void end_batch(struct mr_doings *doings, int64_t elapsed_ns, const char *why)
{
    char place[400], text[700];

    describe(doings, place, sizeof(place));
    snprintf(text, sizeof(text),
             "batch %llu has been running for %lld ms, %s, %s; the next start runs it again",
             (unsigned long long)atomic_load(&doings->batch_id), (long long)(elapsed_ns / 1000000),
             place, why);
    if (watcher.end != NULL)
        watcher.end(doings->query_name, text, mr_status_exit_code(MR_USER));
    mr_log(MR_LOG_ERROR, "core", doings->query_name, (int64_t)atomic_load(&doings->batch_id), "%s",
           text);
    atomic_store(&doings->overdue, true);
}

static void warn(struct mr_doings *doings, int64_t elapsed_ns)
{
    char place[400];

    describe(doings, place, sizeof(place));
    mr_log(MR_LOG_WARNING, "core", doings->query_name, (int64_t)atomic_load(&doings->batch_id),
           "this batch has been running for %lld ms, %s; it may be waiting for something (settings "
           "slow_batch, batch_timeout)",
           (long long)(elapsed_ns / 1000000), place);
}

/* Looks at one query; returns when to look again, at the latest. */
static int64_t look(struct mr_doings *doings, int64_t now)
{
    int64_t since = atomic_load(&doings->since_ns), again = INT64_MAX;
    int64_t deadline = atomic_load(doings->stop_deadline_ns);
    int64_t slow = doings->slow_us * 1000, timeout = doings->timeout_us * 1000;

    if (since != doings->seen_since_ns) {
        doings->seen_since_ns = since;
        doings->told_ns = since;
    }
    /* A batch that begins later has at least as long. */
    if (slow > 0)
        again = since == 0 ? now + slow : doings->told_ns + slow;
    if (slow > 0 && since != 0 && again <= now) {
        warn(doings, now - since);
        doings->told_ns = now;
        again = now + slow;
    }
    if (atomic_load(&doings->overdue))
        return again;
    if (timeout > 0 && since != 0 && since + timeout <= now)
        end_batch(doings, now - since, "longer than batch_timeout");
    else if (timeout > 0)
        again = MR_MIN(again, (since == 0 ? now : since) + timeout);
    if (doings->stop_us > 0 && deadline != 0) {
        deadline += doings->stop_us * 1000;
        if (since != 0 && deadline <= now && hangs(doings, now))
            end_batch(doings, now - since, "and was asked to stop");
        else
            again = MR_MIN(again, MR_MAX(deadline, now + INT64_C(100000000)));
    }
    return again;
}

static void watch(void *arg)
{
    uint64_t mine = (uint64_t)(uintptr_t)arg;

    mr_mutex_lock(&watcher.lock);
    while (watcher.generation == mine && watcher.first != NULL) {
        int64_t left_ns = INT64_MAX;

        for (struct mr_doings *at = watcher.first; at != NULL; at = at->next) {
            int64_t now = now_ns(at), again = look(at, now);

            left_ns = MR_MIN(left_ns, again == INT64_MAX ? again : again - now);
        }
        if (left_ns == INT64_MAX)
            mr_cond_wait(&watcher.wake, &watcher.lock);
        else
            mr_cond_wait_for(&watcher.wake, &watcher.lock, MR_MAX(left_ns, INT64_C(1000000)));
    }
    mr_mutex_unlock(&watcher.lock);
}

void mr_doing_set_end(mr_doing_end_fn end)
{
    watcher.end = end;
}

void mr_doings_init(struct mr_doings *doings)
{
    mr_mutex_init(&doings->lock);
}

void mr_doings_release(struct mr_doings *doings)
{
    mr_mutex_release(&doings->lock);
}

void mr_doings_open(struct mr_doings *doings)
{
    mr_mutex_lock(&watcher.lock);
    if (!atomic_load(&watcher.has_wake))
        mr_cond_init(&watcher.wake);
    atomic_store(&watcher.has_wake, true);
    doings->open = true;
    doings->next = watcher.first;
    watcher.first = doings;
    if (watcher.thread == NULL &&
        mr_thread_start("mr-watch", watch, (void *)(uintptr_t)++watcher.generation, &watcher.thread,
                        NULL) != MR_OK)
        watcher.thread = NULL; /* nobody looks; nothing else depends on it */
    mr_cond_signal(&watcher.wake);
    mr_mutex_unlock(&watcher.lock);
}

void mr_doings_close(struct mr_doings *doings)
{
    struct mr_thread *ended = NULL;

    if (!doings->open)
        return;
    mr_mutex_lock(&watcher.lock);
    for (struct mr_doings **at = &watcher.first; *at != NULL; at = &(*at)->next) {
        if (*at == doings) {
            *at = doings->next;
            break;
        }
    }
    doings->open = false;
    if (watcher.first == NULL) {
        ended = watcher.thread;
        watcher.thread = NULL;
        watcher.generation++;
        mr_cond_broadcast(&watcher.wake);
    }
    mr_mutex_unlock(&watcher.lock);
    mr_thread_join(ended);
}

void mr_doings_batch_begin(struct mr_doings *doings, uint64_t batch_id)
{
    atomic_store(&doings->batch_id, batch_id);
    if (doings->open)
        atomic_store(&doings->since_ns, now_ns(doings));
}

void mr_doings_batch_end(struct mr_doings *doings)
{
    atomic_store(&doings->since_ns, 0);
}

void mr_doings_stop_asked(void)
{
    /* Without the lock: somebody may stop a query from inside the log that the watcher writes. */
    if (atomic_load(&watcher.has_wake))
        mr_cond_signal(&watcher.wake);
}
