/*
 * Threads, locks and events over pthread; see thread.h.
 *
 * Called by core (driver, workers), receivers and tests.  A new thread starts with every signal
 * blocked, so that signals reach the main thread only.  Failures of locks are our own mistakes and
 * end the process.
 */
#include "env/thread.h"

#include "base/alloc.h"
#include "base/check.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { NAME_BYTES_MAX = 16 };

struct mr_thread {
    pthread_t handle;
    void (*main)(void *arg);
    void *arg;
    char name[NAME_BYTES_MAX]; /* the kernel keeps 15 bytes */
};

static struct {
    atomic_uint_fast64_t count, fail_at;
    atomic_bool forever;
} starts;

void mr_thread_fail_at(uint64_t nth, bool forever)
{
    atomic_store(&starts.count, 0);
    atomic_store(&starts.forever, forever);
    atomic_store(&starts.fail_at, nth);
}

uint64_t mr_thread_start_count(void)
{
    return atomic_load(&starts.count);
}

/* Counts a start; true when it has to fail. */
static bool must_fail(void)
{
    uint64_t count = atomic_fetch_add(&starts.count, 1) + 1;
    uint64_t fail_at = atomic_load(&starts.fail_at);

    return fail_at != 0 && (count == fail_at || (count > fail_at && atomic_load(&starts.forever)));
}

static void *run(void *arg)
{
    struct mr_thread *thread = arg;

    (void)pthread_setname_np(pthread_self(), thread->name);
    thread->main(thread->arg);
    return NULL;
}

enum mr_status mr_thread_start(const char *name, void (*main)(void *arg), void *arg,
                               struct mr_thread **ret_thread, struct mr_error *err)
{
    struct mr_thread *thread = mr_alloc_zero(NULL, sizeof(*thread));
    sigset_t before;
    sigset_t all;
    int failed;

    if (thread == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start the thread '%s': out of memory", name);
    memcpy(thread->name, name, MR_MIN(strlen(name), (size_t)NAME_BYTES_MAX - 1));
    thread->main = main;
    thread->arg = arg;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = must_fail() ? EAGAIN : pthread_create(&thread->handle, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        mr_free(thread);
        errno = failed;
        return MR_FAIL(err, MR_LIMIT,
                       "cannot start the thread '%s': %s; raise the limit of processes "
                       "('ulimit -u')",
                       name, strerrordesc_np(failed));
    }
    *ret_thread = thread;
    return MR_OK;
}

void mr_thread_join(struct mr_thread *thread)
{
    if (thread == NULL)
        return;
    MR_ASSERT(pthread_join(thread->handle, NULL) == 0);
    mr_free(thread);
}

void mr_mutex_init(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_init(&mutex->handle, NULL) == 0);
}

void mr_mutex_release(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_destroy(&mutex->handle) == 0);
}

void mr_mutex_lock(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_lock(&mutex->handle) == 0);
}

void mr_mutex_unlock(struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_mutex_unlock(&mutex->handle) == 0);
}

void mr_cond_init(struct mr_cond *cond)
{
    pthread_condattr_t attributes;

    MR_ASSERT(pthread_condattr_init(&attributes) == 0);
    MR_ASSERT(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    MR_ASSERT(pthread_cond_init(&cond->handle, &attributes) == 0);
    pthread_condattr_destroy(&attributes);
}

void mr_cond_release(struct mr_cond *cond)
{
    MR_ASSERT(pthread_cond_destroy(&cond->handle) == 0);
}

void mr_cond_wait(struct mr_cond *cond, struct mr_mutex *mutex)
{
    MR_ASSERT(pthread_cond_wait(&cond->handle, &mutex->handle) == 0);
}

bool mr_cond_wait_for(struct mr_cond *cond, struct mr_mutex *mutex, int64_t timeout_ns)
{
    struct timespec until;
    int64_t at;
    int result;

    MR_ASSERT(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    at = (int64_t)until.tv_sec * 1000000000 + until.tv_nsec;
    timeout_ns = MR_MAX(timeout_ns, (int64_t)0);
    at = timeout_ns > INT64_MAX - at ? INT64_MAX : at + timeout_ns;
    until.tv_sec = (time_t)(at / 1000000000);
    until.tv_nsec = (long)(at % 1000000000);
    result = pthread_cond_timedwait(&cond->handle, &mutex->handle, &until);
    MR_ASSERT(result == 0 || result == ETIMEDOUT);
    return result == 0;
}

void mr_cond_signal(struct mr_cond *cond)
{
    MR_ASSERT(pthread_cond_signal(&cond->handle) == 0);
}

void mr_cond_broadcast(struct mr_cond *cond)
{
    MR_ASSERT(pthread_cond_broadcast(&cond->handle) == 0);
}

unsigned mr_cpu_count(void)
{
    cpu_set_t set;
    int count;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        count = CPU_COUNT(&set);
    } else {
        long online = sysconf(_SC_NPROCESSORS_ONLN); /* more cores than the set has room for */

        count = online > 0 ? (int)online : 1;
    }
    return count > 0 ? (unsigned)count : 1;
}
