/* Threads, locks and events. */
#include "support/test.h"

#include "env/thread.h"

#include <signal.h>

struct shared {
    struct mr_mutex mutex;
    struct mr_cond cond;
    int turns; /* guarded by mutex, as is ready */
    bool ready;
};

static struct mr_error err;

static void count_up(void *arg)
{
    struct shared *shared = arg;

    for (int i = 0; i < 1000; i++) {
        mr_mutex_lock(&shared->mutex);
        shared->turns++;
        mr_mutex_unlock(&shared->mutex);
    }
}

static void init(struct shared *shared)
{
    memset(shared, 0, sizeof(*shared));
    mr_mutex_init(&shared->mutex);
    mr_cond_init(&shared->cond);
}

static void release(struct shared *shared)
{
    mr_cond_release(&shared->cond);
    mr_mutex_release(&shared->mutex);
}

TEST(a_lock_keeps_threads_apart)
{
    struct mr_thread *threads[3];
    struct shared shared;

    init(&shared);
    for (int i = 0; i < 3; i++)
        CHECK_OK(
            mr_thread_start("a-name-of-more-than-15-bytes", count_up, &shared, &threads[i], &err),
            &err);
    for (int i = 0; i < 3; i++)
        mr_thread_join(threads[i]);
    CHECK_EQ_INT(shared.turns, 3000);
    release(&shared);
    mr_thread_join(NULL);
}

static void wait_until_ready(void *arg)
{
    struct shared *shared = arg;

    mr_mutex_lock(&shared->mutex);
    while (!shared->ready)
        mr_cond_wait(&shared->cond, &shared->mutex);
    shared->turns++;
    mr_mutex_unlock(&shared->mutex);
}

TEST(an_event_wakes_all_that_wait)
{
    struct mr_thread *threads[2];
    struct shared shared;

    init(&shared);
    for (int i = 0; i < 2; i++)
        CHECK_OK(mr_thread_start("waiter", wait_until_ready, &shared, &threads[i], &err), &err);
    mr_mutex_lock(&shared.mutex);
    shared.ready = true;
    mr_cond_broadcast(&shared.cond);
    mr_mutex_unlock(&shared.mutex);
    for (int i = 0; i < 2; i++)
        mr_thread_join(threads[i]);
    CHECK_EQ_INT(shared.turns, 2);
    release(&shared);
}

TEST(waiting_ends_when_the_time_passed)
{
    struct shared shared;

    init(&shared);
    mr_mutex_lock(&shared.mutex);
    while (mr_cond_wait_for(&shared.cond, &shared.mutex, 1))
        ; /* it may wake without reason, but not for ever */
    CHECK(!mr_cond_wait_for(&shared.cond, &shared.mutex, -5));
    mr_mutex_unlock(&shared.mutex);
    release(&shared);
}

static void wake_up(void *arg)
{
    struct shared *shared = arg;

    mr_mutex_lock(&shared->mutex);
    shared->ready = true;
    mr_cond_signal(&shared->cond);
    mr_mutex_unlock(&shared->mutex);
}

TEST(an_event_before_the_time_passed_is_no_timeout)
{
    struct mr_thread *thread;
    struct shared shared;
    bool timed_out = false;

    init(&shared);
    mr_mutex_lock(&shared.mutex);
    CHECK_OK(mr_thread_start("waker", wake_up, &shared, &thread, &err), &err);
    while (!shared.ready && !timed_out)
        timed_out = !mr_cond_wait_for(&shared.cond, &shared.mutex, INT64_MAX);
    mr_mutex_unlock(&shared.mutex);
    CHECK(!timed_out);
    mr_thread_join(thread);
    release(&shared);
}

static void look_at_signals(void *arg)
{
    sigset_t blocked;

    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    *(bool *)arg = sigismember(&blocked, SIGTERM) == 1 && sigismember(&blocked, SIGINT) == 1;
}

TEST(a_thread_gets_no_signals_and_the_starter_keeps_its_own)
{
    struct mr_thread *thread;
    bool blocked = false;
    bool mine = true;

    CHECK_OK(mr_thread_start("signals", look_at_signals, &blocked, &thread, &err), &err);
    mr_thread_join(thread);
    CHECK(blocked);
    look_at_signals(&mine);
    CHECK(!mine);
    CHECK(mr_cpu_count() >= 1);
}
