/*
 * mr_context_main: start, await, report, exit code.  The last line of a program.
 *
 *     main thread     blocks SIGINT and SIGTERM for the whole process, starts, waits for the
 *                     context, tells the signal thread to end
 *     signal thread   first signal: graceful stop; second: _exit(130 or 143) at once, which leaves
 *                     what a kill leaves
 *
 * Signals are taken with sigwait, so no code runs in a signal handler.
 */
#include "dstream/streams.h"

#include "base/log.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct signals {
    struct mr_context *ctx;
    struct mr_thread *thread;
    sigset_t set;
    pthread_t handle; /* of the thread; valid once ready */
    atomic_bool ready;
    atomic_bool over; /* the context has ended: the next signal is ours */
};

static void wait_for_signals(void *arg)
{
    struct signals *signals = arg;
    bool asked = false;

    signals->handle = pthread_self();
    atomic_store(&signals->ready, true);
    for (;;) {
        int number = 0;

        if (sigwait(&signals->set, &number) != 0)
            return;
        if (atomic_load(&signals->over))
            return;
        if (asked)
            _exit(128 + number);
        asked = true;
        mr_log(MR_LOG_INFO, "dstream", signals->ctx->name, -1,
               "stopping: finishing what was received; the same signal again quits at once");
        mr__context_request_stop(signals->ctx, true);
    }
}

static enum mr_status signals_start(struct signals *signals, struct mr_context *ctx,
                                    struct mr_error *err)
{
    signals->ctx = ctx;
    sigemptyset(&signals->set);
    sigaddset(&signals->set, SIGINT);
    sigaddset(&signals->set, SIGTERM);
    atomic_init(&signals->ready, false);
    atomic_init(&signals->over, false);
    pthread_sigmask(SIG_BLOCK, &signals->set, NULL);
    return mr_thread_start("mr-signals", wait_for_signals, signals, &signals->thread, err);
}

static void signals_stop(struct signals *signals)
{
    if (signals->thread == NULL)
        return;
    atomic_store(&signals->over, true);
    while (!atomic_load(&signals->ready))
        ; /* only when the context failed within microseconds */
    pthread_kill(signals->handle, SIGINT);
    mr_thread_join(signals->thread);
    pthread_sigmask(SIG_UNBLOCK, &signals->set, NULL);
}

int mr_context_main(struct mr_context *ctx)
{
    const char *dir = getenv("MILLRACE_CHECKPOINT");
    struct signals signals = {0};
    struct mr_error err;
    enum mr_status status;

    mr_error_clear(&err);
    if (ctx == NULL) {
        status = MR_FAIL(&err, MR_NOMEM, "cannot make a context: out of memory");
        goto done;
    }
    if (ctx->checkpoint_dir == NULL && dir != NULL && dir[0] != '\0')
        mr_context_checkpoint(ctx, dir);
    MR_TRY_GOTO(signals_start(&signals, ctx, &err));
    MR_TRY_GOTO(mr_context_start(ctx, &err));
    status = mr_context_await(ctx, &err);
done:
    signals_stop(&signals);
    if (status != MR_OK)
        fprintf(stderr, "%s: %s\n", ctx != NULL ? ctx->name : "millrace", err.text);
    mr_context_free(ctx);
    return mr_status_exit_code(status);
}
