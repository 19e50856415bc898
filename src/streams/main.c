/*
 * mr_streams_main: await, report, exit code. The last line of a program.
 *
 * Signals are blocked in the whole process and taken with sigwait by a thread, so no code runs in a
 * signal handler: the first stops the query gracefully, a second one ends the process at once,
 * which leaves what a kill leaves. Threads of the library have all signals blocked already; those
 * of the program must be made after this call, or block both themselves.
 */
#include "streams/streams.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct signals {
    struct mr_streaming_query *query;
    sigset_t set;
    atomic_bool over; /* the query has ended: the next signal is ours */
};

static void wait_for_signals(void *arg)
{
    struct signals *signals = arg;
    bool asked = false;

    for (;;) {
        int number = 0;

        if (sigwait(&signals->set, &number) != 0 || atomic_load(&signals->over))
            return;
        if (number == SIGUSR2)
            continue;
        if (asked)
            _exit(128 + number);
        asked = true;
        mr_mutex_lock(&signals->query->lock);
        if (signals->query->query != NULL)
            mr_query_stop(signals->query->query, true);
        mr_mutex_unlock(&signals->query->lock);
    }
}

int mr_streams_main(struct mr_streams *streams, struct mr_streaming_query *query)
{
    struct signals signals = {.query = query};
    struct mr_thread *thread = NULL;
    struct mr_error err = {0};
    sigset_t before;

    if (query == NULL) {
        mr_streams_free(streams);
        return mr_status_exit_code(MR_INTERNAL);
    }
    sigemptyset(&signals.set);
    sigaddset(&signals.set, SIGINT);
    sigaddset(&signals.set, SIGTERM);
    sigaddset(&signals.set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals.set, &before);
    if (mr_thread_start("mr-signals", wait_for_signals, &signals, &thread, &err) == MR_OK)
        mr_streaming_query_await(query, -1, NULL, &err);
    atomic_store(&signals.over, true);
    if (thread != NULL)
        kill(getpid(), SIGUSR2);
    mr_thread_join(thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err.status != MR_OK)
        fprintf(stderr, "error: %s\n", err.text);
    mr_streaming_query_unref(query);
    mr_streams_free(streams);
    return mr_status_exit_code(err.status);
}
