/*
 * mr_context_main: settings, start, await, report, exit code.  The last line of a program.
 *
 *     main thread     blocks SIGINT and SIGTERM for the whole process, starts, waits for the
 *                     context, tells the signal thread to end
 *     signal thread   first signal: graceful stop; second: _exit(130 or 143) at once, which leaves
 *                     what a kill leaves
 *
 * Signals are taken with sigwait, so no code runs in a signal handler.
 */
#include "dstream/monitor.h"
#include "dstream/settings.h"
#include "dstream/streams.h"

#include "base/log.h"
#include "core/doing.h"

#include <millrace/ext/options.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

struct signals {
    struct mr_context *ctx;
    struct mr_thread *thread;
    sigset_t set;
    pthread_t handle; /* of the thread; valid once ready */
    atomic_bool ready;
    atomic_bool over; /* the context has ended: the next signal is ours */
};

static void stop(struct mr_context *ctx)
{
    bool at_once = atomic_load(&ctx->watch->stop_at_once);

    mr_log(MR_LOG_INFO, "dstream", ctx->name, -1, "stopping%s; the same signal again quits at once",
           at_once ? "" : ": finishing what was received");
    mr__context_request_stop(ctx, !at_once);
}

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
        stop(signals->ctx);
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

static void print_help(const char *program)
{
    const struct mr_option_table *table = mr__settings_table();

    printf("usage: %s [--set KEY=VALUE]... [--settings FILE] [--checkpoint DIR] [-- ...]\n\n"
           "settings:\n",
           program);
    for (size_t i = 0; i < table->option_count; i++) {
        const struct mr_option *option = &table->options[i];

        printf("  %s%s%s\n      %s\n", option->name, option->standard != NULL ? " = " : "",
               option->standard != NULL ? option->standard : "", option->help);
        if (option->aliases != NULL)
            printf("      also: %s\n", option->aliases);
    }
}

/* A batch hangs (core/doing.h): nothing that still runs may be waited for. */
static void end_process(const char *query_name, const char *text, int code)
{
    fprintf(stderr, "%s: %s\n", query_name, text);
    _exit(code);
}

static enum mr_status run(struct mr_context *ctx, struct signals *signals, struct mr_error *err)
{
    MR_TRY(signals_start(signals, ctx, err));
    MR_TRY(mr_context_start(ctx, err));
    return mr_context_await(ctx, err);
}

int mr_context_main_args(struct mr_context *ctx, int argc, char **argv)
{
    struct signals signals = {0};
    struct mr_error err;
    enum mr_status status;
    bool help = false;

    mr_error_clear(&err);
    mr_doing_set_end(end_process);
    if (ctx == NULL)
        status = MR_FAIL(&err, MR_NOMEM, "cannot make a context: out of memory");
    else
        status = mr__configure_by_environment(ctx, &err);
    if (status == MR_OK)
        status = mr__configure_by_flags(ctx, argc, (const char *const *)argv, &help, &err);
    if (status == MR_OK && help)
        print_help(ctx->name);
    else if (status == MR_OK)
        status = run(ctx, &signals, &err);
    signals_stop(&signals);
    if (status != MR_OK)
        fprintf(stderr, "%s: %s\n", ctx != NULL ? ctx->name : "millrace", err.text);
    mr_context_free(ctx);
    return mr_status_exit_code(status);
}

int mr_context_main(struct mr_context *ctx)
{
    return mr_context_main_args(ctx, 0, NULL);
}
