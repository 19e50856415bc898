/*
 * millrace run: runs a pipeline until it ends by itself or is asked to stop.
 *
 * Signals are blocked in all threads and taken by one that waits for them: the first SIGINT or
 * SIGTERM finishes the batch and commits, a second one ends the process at once, as a kill would;
 * the checkpoint is made for that. Before the query is open (a broker may take its time to answer)
 * there is nothing to finish, and the first one ends the process.
 */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/number_text.h"
#include "cli/sandbox.h"
#include "cli/script.h"
#include "core/doing.h"
#include "core/query.h"
#include "env/thread.h"
#include "plugins/plugins.h"
#include "sql/plan.h"
#include "state/state.h"

#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct cli_flag flags[] = {
    CLI_SCRIPT_FLAGS,
    CLI_ACCEPT_FLAG,
    {"--until-caught-up", NULL, NULL, "Process what is there, commit, exit."},
    {"--once", NULL, NULL, "Run one batch with everything that is there, then exit."},
    {"--memory", NULL, "SIZE",
     "Memory of the process, 512MB: state beyond its share goes to a file; wins over SET memory."},
    {"--progress", NULL, "none|line|json",
     "Progress on standard error: one live line, or a JSON document per batch."},
    CLI_SANDBOX_FLAGS,
};

enum progress_style { PROGRESS_NONE, PROGRESS_LINE, PROGRESS_JSON };

struct runner {
    _Atomic(struct mr_query *) query; /* NULL until it is open */
    enum progress_style style;
    bool line_open; /* a live line is on the terminal */
    uint64_t total_rows;
    uint64_t batches;
    struct mr_env *env;
    int64_t started_ns;
    _Atomic bool done;
    /* what mr_query_new found in the checkpoint of an earlier version of the query */
    struct mr_buf changes; /* as a table */
    char *wants;           /* what has to be accepted; NULL = nothing, or nothing helps */
};

static sigset_t stop_signals(void)
{
    sigset_t signals;

    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR2); /* from main: the query has ended */
    return signals;
}

static void signal_main(void *arg)
{
    struct runner *runner = arg;
    sigset_t signals = stop_signals();
    int asked = 0, signal_number;

    for (;;) {
        struct mr_query *query;

        if (sigwait(&signals, &signal_number) != 0 || atomic_load(&runner->done))
            return;
        if (signal_number == SIGUSR2)
            continue;
        query = atomic_load(&runner->query);
        if (query == NULL || asked++ > 0)
            _exit(128 + signal_number);
        fprintf(stderr, "\nmillrace: finishing the batch; once more to quit at once\n");
        mr_query_stop(query, true);
    }
}

/* A batch hangs (core/doing.h): nothing that still runs may be waited for. */
static void end_process(const char *query_name, const char *text, int code)
{
    MR_UNUSED(query_name);
    fprintf(stderr, "millrace: %s\n", text);
    _exit(code);
}

static void close_line(struct runner *runner)
{
    if (runner->line_open)
        fprintf(stderr, "\n");
    runner->line_open = false;
}

static void report(void *arg, const struct mr_progress *progress)
{
    struct runner *runner = arg;

    runner->total_rows += progress->input_rows;
    runner->batches += progress->idle ? 0 : 1;
    if (runner->style == PROGRESS_JSON) {
        fprintf(stderr, "%s\n", progress->json);
        return;
    }
    if (runner->style != PROGRESS_LINE)
        return;
    double seconds = (double)(mr_env_monotonic_ns(runner->env) - runner->started_ns) / 1e9;
    fprintf(stderr,
            "\r\033[Kbatch %" PRIu64 "  %" PRIu64 " rows  %.0f rows/s  %" PRIu64
            " keys  last batch %.1f ms",
            progress->batch_id, runner->total_rows,
            seconds > 0 ? (double)runner->total_rows / seconds : 0.0, progress->state_keys,
            (double)progress->duration_us / 1000.0);
    if (progress->late_rows + progress->bad_rows > 0)
        fprintf(stderr, "  %" PRIu64 " late  %" PRIu64 " bad", progress->late_rows,
                progress->bad_rows);
    if (mr_state_spilled_bytes() > 0)
        fprintf(stderr, "  %" PRIu64 " MiB spilled", mr_state_spilled_bytes() >> 20);
    fflush(stderr);
    runner->line_open = true;
}

static enum mr_status choose_style(const char *value, const struct mr_sql_plan *plan,
                                   enum progress_style *ret_style, struct mr_error *err)
{
    /* The live line is only for people, and not where it would tear up a table on the terminal. */
    bool tears = plan->prints && isatty(STDOUT_FILENO);

    *ret_style = PROGRESS_NONE;
    if (value == NULL)
        *ret_style = isatty(STDERR_FILENO) && !tears ? PROGRESS_LINE : PROGRESS_NONE;
    else if (strcmp(value, "line") == 0)
        *ret_style = PROGRESS_LINE;
    else if (strcmp(value, "json") == 0)
        *ret_style = PROGRESS_JSON;
    else if (strcmp(value, "none") != 0)
        return MR_FAIL(err, MR_USAGE, "cannot set --progress to '%s': it is none, line or json",
                       value);
    return MR_OK;
}

static void note_evolution(void *arg, const struct mr_evolution *evolution)
{
    struct runner *runner = arg;
    const char *wants = mr_evolution_wants(evolution);

    mr_buf_clear(&runner->changes);
    mr_free(runner->wants);
    runner->wants = wants != NULL ? mr_strdup(wants) : NULL;
    if (mr_evolution_class(evolution) == MR_CHANGE_SAME)
        return;
    mr_evolution_print(evolution, false, &runner->changes);
    if (runner->changes.data != NULL)
        fprintf(stderr, "changes since this checkpoint was made:\n%s", runner->changes.data);
}

/* Ctrl-C ends the question, and the command. */
static bool ask(void)
{
    sigset_t signals = stop_signals();
    char answer[16];
    bool yes;

    fprintf(stderr, "Go on with these changes? [y/N] ");
    sigprocmask(SIG_UNBLOCK, &signals, NULL);
    yes = fgets(answer, sizeof(answer), stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
    sigprocmask(SIG_BLOCK, &signals, NULL);
    return yes;
}

static enum mr_status run_query(struct runner *runner, struct mr_sql_plan *plan,
                                struct mr_error *err)
{
    struct mr_query_config *config = &plan->config;
    struct mr_graph *graph = plan->graph;
    struct mr_thread *signal_thread = NULL;
    struct mr_query *query = NULL;
    enum mr_status status;

    config->on_progress = runner->style != PROGRESS_NONE ? report : NULL;
    config->on_progress_arg = runner;
    config->on_evolution = note_evolution;
    config->on_evolution_arg = runner;
    atomic_store(&runner->done, false);
    atomic_store(&runner->query, NULL);
    MR_TRY(mr_thread_start("mr-signals", signal_main, runner, &signal_thread, err));
    plan->graph = NULL; /* the query takes it, also when it fails */
    status = mr_query_new(runner->env, graph, config, &query, err);
    if (status == MR_OK) {
        atomic_store(&runner->query, query);
        status = mr_query_run(query, err);
    }
    close_line(runner);
    atomic_store(&runner->done, true);
    kill(getpid(), SIGUSR2);
    mr_thread_join(signal_thread); /* it may still stop the query: only then it goes */
    mr_query_free(query);
    return status;
}

/* A plan's graph is used up by a query, also by one that did not start: each try plans anew. */
static enum mr_status plan_and_run(struct runner *runner, struct cli_script *script,
                                   const char *progress, const char *accept, bool *ret_may_ask,
                                   struct mr_error *err)
{
    struct mr_sql_plan *plan = NULL;
    enum mr_status status;

    *ret_may_ask = false;
    MR_TRY(cli_script_plan(script, false, &plan, err));
    if (plan->explains) { /* EXPLAIN: the plan is the answer */
        printf("%s", plan->description);
        mr_sql_plan_free(plan);
        return MR_OK;
    }
    plan->config.accept = accept;
    status = choose_style(progress, plan, &runner->style, err);
    if (status == MR_OK)
        status = run_query(runner, plan, err);
    if (status == MR_CONFIG && runner->wants != NULL)
        *ret_may_ask = strcmp(mr_options_text(plan->settings, "on_change"), "ask") == 0 &&
                       isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    mr_sql_plan_free(plan);
    return status;
}

/* The two lists as one. */
static enum mr_status run_accepting(struct runner *runner, struct cli_script *script,
                                    const char *progress, const char *accept, struct mr_error *err)
{
    char *both = NULL;
    bool may_ask;
    enum mr_status status = plan_and_run(runner, script, progress, accept, &may_ask, err);

    if (!may_ask || !ask())
        return status;
    both = mr_asprintf("%s,%s", accept != NULL ? accept : "", runner->wants);
    if (both == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start: out of memory");
    mr_error_clear(err);
    status = plan_and_run(runner, script, progress, both, &may_ask, err);
    mr_free(both);
    return status;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct runner runner = {.env = mr_env_posix()};
    struct cli_script script = {0};
    struct cli_args args;
    struct mr_error err = {0};
    sigset_t signals = stop_signals();
    enum mr_status status;
    int code;

    /* before any thread exists, so that all inherit it */
    sigprocmask(SIG_BLOCK, &signals, NULL);
    mr_doing_set_end(end_process);
    runner.started_ns = mr_env_monotonic_ns(runner.env);
    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    mr_plugins_register();
    status = mr_evolution_check_accept(cli_value(command, &args, "--accept"), &err);
    if (status == MR_OK)
        status = cli_script_load(command, &args, &script, &err);
    if (status == MR_OK && cli_value(command, &args, "--until-caught-up") != NULL)
        status = cli_script_set(&script, "trigger", "until caught up", &err);
    if (status == MR_OK && cli_value(command, &args, "--once") != NULL)
        status = cli_script_set(&script, "trigger", "once", &err);
    if (status == MR_OK && cli_value(command, &args, "--memory") != NULL)
        status = cli_script_set(&script, "memory", cli_value(command, &args, "--memory"), &err);
    if (status == MR_OK)
        status = cli_sandbox_enter(command, &args, &script, &err);
    if (status == MR_OK)
        status = run_accepting(&runner, &script, cli_value(command, &args, "--progress"),
                               cli_value(command, &args, "--accept"), &err);
    code = status == MR_OK ? cli_finish_stdout() : cli_script_fail(&script, &err);
    if (status == MR_OK)
        cli_script_print_hints(&script);
    mr_buf_release(&runner.changes);
    mr_free(runner.wants);
    cli_script_release(&script);
    return code;
}

const struct cli_command cli_run = {
    .name = "run",
    .arguments = "FILE.sql",
    .summary = "Run a pipeline; Ctrl-C finishes the batch, commits and exits 0",
    .details =
        "  millrace run clicks.sql\n"
        "  millrace run --accept extend clicks.sql      after an edit: see 'millrace check'\n"
        "  cat a.jsonl | millrace run -e \"SELECT city, count(*) FROM stdin GROUP BY city\"\n",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
