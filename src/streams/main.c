/*
 * mr_streams_main: start, await, report, exit code. The last line of a program.
 *
 * Signals are blocked in the whole process and taken with sigwait by a thread, so no code runs in a
 * signal handler: the first stops all queries gracefully, a second one ends the process at once,
 * which leaves what a kill leaves. Threads of the library have all signals blocked already; those
 * of the program must be made after this call, or block SIGINT and SIGTERM themselves.
 */
#include "streams/streams.h"

#include "core/doing.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct signals {
    struct mr_streams *streams;
    sigset_t set;
    atomic_bool asked; /* to stop; looked at again when a query has been started meanwhile */
    atomic_bool over;  /* the queries have ended: the next signal is ours */
    struct mr_mutex lock;
    struct mr_cond changed;
    pthread_t handle; /* of the thread, once it is ready; guarded by lock */
    bool ready;
};

static void ask_all(struct mr_streams *streams)
{
    mr_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->query_count; i++) {
        struct mr_streaming_query *query = streams->queries[i];

        mr_mutex_lock(&query->lock);
        if (query->query != NULL)
            mr_query_stop(query->query, true);
        mr_mutex_unlock(&query->lock);
    }
    mr_mutex_unlock(&streams->lock);
}

/* A batch hangs (core/doing.h): nothing that still runs may be waited for. */
static void end_process(const char *query_name, const char *text, int code)
{
    fprintf(stderr, "error: query '%s': %s\n", query_name, text);
    _exit(code);
}

static void wait_for_signals(void *arg)
{
    struct signals *signals = arg;

    mr_mutex_lock(&signals->lock);
    signals->handle = pthread_self();
    signals->ready = true;
    mr_cond_signal(&signals->changed);
    mr_mutex_unlock(&signals->lock);
    for (;;) {
        int number = 0;

        if (sigwait(&signals->set, &number) != 0 || atomic_load(&signals->over))
            return;
        if (atomic_exchange(&signals->asked, true))
            _exit(128 + number);
        ask_all(signals->streams);
    }
}

/* Ends the thread by a signal to it alone, so that no other thread of the program meets one. */
static void end_thread(struct signals *signals, struct mr_thread *thread)
{
    atomic_store(&signals->over, true);
    mr_mutex_lock(&signals->lock);
    while (!signals->ready)
        mr_cond_wait(&signals->changed, &signals->lock);
    pthread_kill(signals->handle, SIGINT);
    mr_mutex_unlock(&signals->lock);
    mr_thread_join(thread);
}

/* Under streams->lock. */
static bool any_runs(struct mr_streams *streams)
{
    for (size_t i = 0; i < streams->query_count; i++) {
        if (mr_streaming_query_is_active(streams->queries[i]))
            return true;
    }
    return false;
}

/* Until all have ended or one has failed. */
static void await_all(struct mr_streams *streams, struct mr_error *ret_failure)
{
    mr_mutex_lock(&streams->lock);
    while (streams->last_failure.status == MR_OK && any_runs(streams))
        mr_cond_wait(&streams->changed, &streams->lock);
    *ret_failure = streams->last_failure;
    mr_mutex_unlock(&streams->lock);
    ask_all(streams);
    mr__streams_reap(streams, true);
}

int mr_streams_main(struct mr_streams *streams, struct mr_stream_writer *writer)
{
    struct signals signals = {.streams = streams};
    struct mr_thread *thread = NULL;
    struct mr_error err = {0};
    sigset_t before;

    if (streams == NULL || (writer == NULL && streams->error.status == MR_OK &&
                            mr_streams_active(streams, NULL, 0) == 0)) {
        int code = mr_status_exit_code(streams == NULL ? MR_NOMEM : MR_USAGE);

        fprintf(stderr, "error: there is no query to run\n");
        mr_streams_free(streams);
        return code;
    }
    mr_doing_set_end(end_process);
    sigemptyset(&signals.set);
    sigaddset(&signals.set, SIGINT);
    sigaddset(&signals.set, SIGTERM);
    mr_mutex_init(&signals.lock);
    mr_cond_init(&signals.changed);
    pthread_sigmask(SIG_BLOCK, &signals.set, &before);
    if (mr_thread_start("mr-signals", wait_for_signals, &signals, &thread, &err) == MR_OK) {
        if (writer == NULL || mr_write_start_at(writer, NULL, NULL, &err, NULL, 0) == MR_OK) {
            if (atomic_load(&signals.asked)) /* perhaps before there was a query to ask */
                ask_all(streams);
            await_all(streams, &err);
        }
        end_thread(&signals, thread);
    }
    mr_cond_release(&signals.changed);
    mr_mutex_release(&signals.lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err.status != MR_OK)
        fprintf(stderr, "error: %s\n", err.text);
    mr_streams_free(streams);
    return mr_status_exit_code(err.status);
}
