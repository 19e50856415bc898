/*
 * The context: what a program holds, its states, and the thread that runs its batches.
 *
 *     INITIALIZED --start: validate, lower, open--> ACTIVE --stop, failure, idle--> STOPPED
 *          \------------------- stop ---------------------------------------------------^
 *
 *     program's thread     building calls, start, await, free
 *     driver               mr_query_run: every batch, update and reduce functions, foreach_rdd; one
 *                          per context
 *     workers, receivers   of the kernel
 *
 *     bus                  callbacks of listeners (listener.c), while there are any
 *
 * At most one context of a process is ACTIVE (CTX-8). A batch that fails is run again by the
 * kernel; when it keeps failing the context stops, and await returns the failure
 * (docs/decisions/0006).
 *
 * mr_context_stop waits until the context is STOPPED, except inside a function of the program:
 * there it would wait for itself.  A context is STOPPED when nothing of it runs any more: the
 * checkpoint is free and no event is delivered.
 */
#include "dstream/monitor.h"
#include "dstream/remember.h"
#include "dstream/settings.h"
#include "dstream/streams.h"

#include "base/log.h"
#include "env/pin.h"
#include "plugins/plugins.h"
#include "rdd/rdd.h"

#include <stdio.h>
#include <string.h>

/* How often a waiting thread looks whether a signal handler asked to stop. */
enum { LOOK_NS = 100 * 1000 * 1000 };

static struct mr_mutex active_lock = {
    PTHREAD_MUTEX_INITIALIZER}; /* taken before ctx->lock; guards: */
static struct mr_context *active_context;

/* ---- making and freeing ---- */

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "out of memory");
}

struct mr_context *mr_context_new(const char *name, int64_t batch_interval_ms)
{
    struct mr_context *ctx = mr_alloc_zero(NULL, sizeof(*ctx));
    struct mr_error err;

    if (ctx == NULL)
        return NULL;
    ctx->name = mr_strdup(name != NULL ? name : "dstream");
    ctx->watch = mr__watch_new();
    if (ctx->name == NULL || ctx->watch == NULL) {
        mr__watch_free(ctx->watch);
        mr_free(ctx->name);
        mr_free(ctx);
        return NULL;
    }
    mr_plugins_register();
    ctx->env = mr_env_posix();
    mr_env_pin();
    ctx->interval_ms = batch_interval_ms;
    mr_query_config_init(&ctx->config);
    mr_mutex_init(&ctx->lock);
    mr_cond_init(&ctx->changed);
    if (batch_interval_ms < 1 || batch_interval_ms > MR_MINUTES(60 * 24 * 31)) {
        ctx->interval_ms = MR_SECONDS(1); /* so that what follows can be checked too */
        MR_FAIL(&err, MR_CONFIG, "cannot use a batch interval of %lld ms; use 1 ms to 31 days",
                (long long)batch_interval_ms);
        mr__context_blame(ctx, "mr_context_new", &err);
    }
    mr__statistics_init(&ctx->watch->statistics, ctx->interval_ms);
    return ctx;
}

static void output_free(struct mr__output *output)
{
    if (output == NULL)
        return;
    mr_free(output->name);
    mr_free(output->prefix);
    mr_free(output->suffix);
    mr_free(output);
}

void mr_context_free(struct mr_context *ctx)
{
    if (ctx == NULL)
        return;
    if (mr__inside_listener() || mr__inside_user_code > 0) {
        mr_log(MR_LOG_ERROR, "dstream", ctx->name, -1,
               "cannot free the context inside one of its own functions; it stays");
        return;
    }
    if (mr_context_state(ctx) == MR_CONTEXT_ACTIVE)
        mr_context_stop(ctx, false);
    mr_thread_join(ctx->thread);
    mr__watch_free(ctx->watch);
    mr__streams_free(ctx);
    for (size_t i = 0; i < ctx->output_count; i++)
        output_free(ctx->outputs[i]);
    mr_free(ctx->outputs);
    for (size_t i = 0; i < ctx->function_count; i++)
        mr__function_free(ctx->functions[i]);
    mr_free(ctx->functions);
    mr_session_free(ctx->session);
    mr__engines_release(&ctx->engines);
    mr__settings_free(ctx);
    mr_cond_release(&ctx->changed);
    mr_mutex_release(&ctx->lock);
    mr_free(ctx->checkpoint_dir);
    mr_free(ctx->name);
    mr_free(ctx);
    mr_env_unpin();
}

/* From the settings, also before start. */
static enum mr_status new_session(struct mr_context *ctx, struct mr_error *err)
{
    const struct mr_option_table *const tables[] = {mr__settings_table()};
    struct mr_session_options wanted = {.workers = ctx->config.workers};
    struct mr_options *options = NULL;
    enum mr_status status;

    MR_TRY(mr_options_parse(tables, 1, ctx->settings, ctx->setting_count, 0, &options, err));
    if (wanted.workers == 0)
        wanted.workers = (unsigned)mr_options_int(options, "workers");
    wanted.workers = MR_MIN(wanted.workers, (unsigned)MR_DSTREAM_WORKERS_MAX - 1);
    wanted.memory_bytes = (uint64_t)mr_options_int(options, "stored_memory");
    if (mr_options_has(options, "spill_dir"))
        wanted.spill_dir = mr_options_text(options, "spill_dir");
    status = mr__session_new_on(ctx->env, &wanted, &ctx->session, err);
    mr_options_free(options);
    return status;
}

struct mr_session *mr_context_session(struct mr_context *ctx)
{
    struct mr_session *session;
    struct mr_error err;

    if (ctx == NULL)
        return NULL;
    mr_mutex_lock(&ctx->lock);
    mr_error_clear(&err);
    if (ctx->session == NULL)
        new_session(ctx, &err);
    session = ctx->session;
    mr_mutex_unlock(&ctx->lock);
    if (session == NULL)
        mr_log(MR_LOG_ERROR, "dstream", ctx->name, -1, "%s", err.text);
    return session;
}

struct mr_context *mr_context_get_or_create(const char *dir, struct mr_context *(*build)(void *arg),
                                            void *arg)
{
    struct mr_context *ctx = build(arg);
    struct mr_error err;

    if (ctx == NULL)
        return NULL;
    if (ctx->checkpoint_dir != NULL && (dir == NULL || strcmp(ctx->checkpoint_dir, dir) != 0)) {
        MR_FAIL(&err, MR_CONFIG,
                "the build function chose the checkpoint directory '%s'; leave it to "
                "mr_context_get_or_create",
                ctx->checkpoint_dir);
        mr__context_blame(ctx, "mr_context_get_or_create", &err);
        return ctx;
    }
    mr_context_checkpoint(ctx, dir);
    return ctx;
}

struct mr_context *mr_context_active(void)
{
    struct mr_context *ctx;

    mr_mutex_lock(&active_lock);
    ctx = active_context;
    mr_mutex_unlock(&active_lock);
    return ctx;
}

struct mr_context *mr_context_active_or_create(const char *dir,
                                               struct mr_context *(*build)(void *arg), void *arg)
{
    struct mr_context *ctx = mr_context_active();

    if (ctx != NULL)
        return ctx;
    return dir != NULL ? mr_context_get_or_create(dir, build, arg) : build(arg);
}

/* ---- the first mistake ---- */

void mr__place(const struct mr_fn *fn, const char *operation, char *text, size_t size)
{
    const char *slash = fn->file != NULL ? strrchr(fn->file, '/') : NULL;

    if (fn->file == NULL)
        snprintf(text, size, "%s", operation);
    else
        snprintf(text, size, "%s:%d: %s", slash != NULL ? slash + 1 : fn->file, fn->line,
                 operation);
}

bool mr__context_blame(struct mr_context *ctx, const char *place, const struct mr_error *err)
{
    if (ctx->error.status != MR_OK)
        return false;
    ctx->error = *err;
    mr__tell_position(&ctx->error);
    mr_error_prefix(&ctx->error, "%s", place);
    return false;
}

enum mr_status mr_context_error(const struct mr_context *ctx, struct mr_error *err)
{
    if (ctx == NULL)
        return no_memory(err);
    if (ctx->error.status != MR_OK && err != NULL)
        *err = ctx->error;
    return ctx->error.status;
}

bool mr__context_is_open(struct mr_context *ctx, const char *operation)
{
    enum mr_context_state state;
    struct mr_error err;

    if (ctx == NULL || ctx->error.status != MR_OK)
        return false;
    state = mr_context_state(ctx);
    if (state == MR_CONTEXT_INITIALIZED)
        return true;
    if (state == MR_CONTEXT_ACTIVE)
        MR_FAIL(&err, MR_STATE,
                "cannot add to a context after starting a context; build everything before "
                "mr_context_start");
    else
        MR_FAIL(&err, MR_STATE, "cannot add to a context after stopping a context; make a new one");
    return mr__context_blame(ctx, operation, &err);
}

bool mr__context_keep(struct mr_context *ctx, struct mr__function *function)
{
    struct mr__function **grown =
        mr_realloc(NULL, ctx->functions, (ctx->function_count + 1) * sizeof(struct mr__function *));
    struct mr_error err;

    if (grown == NULL) {
        mr__function_free(function);
        no_memory(&err);
        return mr__context_blame(ctx, "building", &err);
    }
    ctx->functions = grown;
    ctx->functions[ctx->function_count++] = function;
    return true;
}

/* ---- settings of the program ---- */

void mr_context_checkpoint(struct mr_context *ctx, const char *dir)
{
    struct mr_error err;
    char *copy = NULL;

    if (!mr__context_is_open(ctx, "mr_context_checkpoint"))
        return;
    if (dir != NULL) {
        copy = mr_strdup(dir);
        if (copy == NULL) {
            no_memory(&err);
            mr__context_blame(ctx, "mr_context_checkpoint", &err);
            return;
        }
    }
    mr_free(ctx->checkpoint_dir);
    ctx->checkpoint_dir = copy;
}

void mr_context_set(struct mr_context *ctx, const char *key, const char *value)
{
    struct mr_error err;

    if (!mr__context_is_open(ctx, "mr_context_set"))
        return;
    if (mr__settings_set(ctx, key, value, &err) != MR_OK)
        mr__context_blame(ctx, "mr_context_set", &err);
}

/* ---- states ---- */

enum mr_context_state mr_context_state(const struct mr_context *ctx)
{
    struct mr_context *open = (struct mr_context *)(uintptr_t)ctx;
    enum mr_context_state state;

    mr_mutex_lock(&open->lock);
    state = open->state;
    mr_mutex_unlock(&open->lock);
    return state;
}

/* The context is over: failure tells why, or MR_OK. */
static void become_stopped(struct mr_context *ctx, const struct mr_error *failure)
{
    mr_mutex_lock(&active_lock);
    if (active_context == ctx)
        active_context = NULL;
    mr_mutex_unlock(&active_lock);
    mr_mutex_lock(&ctx->lock);
    if (failure != NULL && ctx->failure.status == MR_OK)
        ctx->failure = *failure;
    ctx->state = MR_CONTEXT_STOPPED;
    mr_cond_broadcast(&ctx->changed);
    mr_mutex_unlock(&ctx->lock);
}

/* ---- running ---- */

static enum mr_status validate(struct mr_context *ctx, struct mr_error *err)
{
    if (ctx->output_count == 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot start '%s': no output operation, so nothing to execute; add "
                       "mr_print or another output",
                       ctx->name);
    if (ctx->checkpoint_dir == NULL)
        return MR_OK;
    for (size_t i = 0; i < ctx->stream_count; i++) {
        if (ctx->streams[i]->source.volatile_only && ctx->streams[i]->wanted)
            return MR_FAIL(
                err, MR_CONFIG,
                "cannot start '%s' with a checkpoint directory: %s is a queue stream, which "
                "doesn't support checkpointing; leave the directory out or use another input",
                ctx->name, ctx->streams[i]->name);
    }
    return MR_OK;
}

/* The kernel's graph, validated and watched. *ret_graph is new. */
static enum mr_status make_graph(struct mr_context *ctx, struct mr_graph **ret_graph,
                                 struct mr_error *err)
{
    struct mr_graph *graph = NULL;
    enum mr_status status;

    MR_TRY(mr__lower(ctx, &graph, err));
    status = validate(ctx, err);
    if (status == MR_OK)
        status = mr__watch_prepare(ctx, err);
    if (status == MR_OK && ctx->checkpoint_dir != NULL &&
        mr_options_bool(ctx->options, "create_on_error"))
        status = mr__checkpoint_put_aside(ctx, err);
    if (status != MR_OK) {
        mr_graph_free(graph);
        return status;
    }
    *ret_graph = graph;
    return MR_OK;
}

/* What was built becomes a query: recovery happens here. */
static enum mr_status open_query(struct mr_context *ctx, struct mr_error *err)
{
    struct mr_query *query = NULL;
    struct mr_graph *graph = NULL;

    MR_TRY(mr_context_error(ctx, err));
    MR_TRY(mr__settings_apply(ctx, err));
    MR_TRY(mr__partitions_load(ctx, err));
    MR_TRY(make_graph(ctx, &graph, err));
    ctx->config.name = ctx->name;
    ctx->config.checkpoint_dir = ctx->checkpoint_dir;
    ctx->config.trigger = MR_TRIGGER_TICK;
    ctx->config.interval_us = ctx->interval_ms * 1000;
    MR_TRY(mr_query_new(ctx->env, graph, &ctx->config, &query, err));
    ctx->zero_time_us = mr_query_zero_time_us(query);
    mr_mutex_lock(&ctx->lock);
    ctx->query = query;
    if (ctx->stop_early)
        mr_query_stop(query, ctx->stop_graceful);
    mr_mutex_unlock(&ctx->lock);
    MR_TRY(mr__partitions_pin(ctx, err));
    return mr__watch_open(ctx, err);
}

/* The query goes before anybody sees STOPPED: the checkpoint is free then, and no callback runs. */
static void close_query(struct mr_context *ctx)
{
    struct mr_query *query;

    if (ctx->query != NULL)
        mr__control_close(ctx);
    mr_mutex_lock(&ctx->lock);
    query = ctx->query;
    ctx->query = NULL;
    mr_mutex_unlock(&ctx->lock);
    mr_query_free(query);
    mr__watch_close(ctx);
}

static void drive(void *arg)
{
    struct mr_context *ctx = arg;
    struct mr_error err;

    mr_error_clear(&err);
    mr__inside_user_code++;
    mr_query_run(ctx->query, &err);
    mr__inside_user_code--;
    close_query(ctx);
    become_stopped(ctx, &err);
}

/* From INITIALIZED to ACTIVE. *ret_started false: it was ACTIVE already. */
static enum mr_status activate(struct mr_context *ctx, bool *ret_started, struct mr_error *err)
{
    enum mr_status status = MR_OK;

    *ret_started = false;
    mr_mutex_lock(&active_lock);
    mr_mutex_lock(&ctx->lock);
    if (ctx->state == MR_CONTEXT_STOPPED) {
        status =
            MR_FAIL(err, MR_STATE, "cannot start '%s' again after stopping it; make a new context",
                    ctx->name);
    } else if (ctx->state == MR_CONTEXT_ACTIVE) {
        mr_log(MR_LOG_WARNING, "dstream", ctx->name, -1, "the context was started already");
    } else if (active_context != NULL) {
        /* its name lives as long as it is the active one */
        status = MR_FAIL(err, MR_STATE,
                         "cannot start '%s': the context '%s' of this process is active; stop it "
                         "first",
                         ctx->name, active_context->name);
    } else {
        active_context = ctx;
        ctx->state = MR_CONTEXT_ACTIVE;
        *ret_started = true;
    }
    mr_mutex_unlock(&ctx->lock);
    mr_mutex_unlock(&active_lock);
    return status;
}

/* Opens the query of an activated context; a failure ends the context. */
static enum mr_status open_or_stop(struct mr_context *ctx, struct mr_error *err)
{
    struct mr_error local;
    enum mr_status status;

    mr_error_clear(&local);
    status = open_query(ctx, &local);
    if (status == MR_OK)
        return MR_OK;
    close_query(ctx);
    become_stopped(ctx, &local);
    if (err != NULL)
        *err = local;
    return status;
}

enum mr_status mr_context_start(struct mr_context *ctx, struct mr_error *err)
{
    struct mr_error local;
    bool started;

    if (ctx == NULL)
        return no_memory(err);
    MR_TRY(activate(ctx, &started, err));
    if (!started)
        return MR_OK;
    MR_TRY(open_or_stop(ctx, err));
    mr_error_clear(&local);
    if (mr_thread_start("mr-driver", drive, ctx, &ctx->thread, &local) == MR_OK)
        return MR_OK;
    close_query(ctx);
    become_stopped(ctx, &local);
    if (err != NULL)
        *err = local;
    return local.status;
}

enum mr_status mr__context_run_here(struct mr_context *ctx, struct mr_error *err)
{
    bool started;

    MR_TRY(activate(ctx, &started, err));
    MR_ASSERT(started);
    MR_TRY(open_or_stop(ctx, err));
    drive(ctx);
    return mr_context_await(ctx, err);
}

void mr__context_use(struct mr_context *ctx, struct mr_env *env)
{
    ctx->env = env;
}

struct mr_query_config *mr__context_config(struct mr_context *ctx)
{
    return &ctx->config;
}

/* ---- stopping and waiting ---- */

void mr__context_request_stop(struct mr_context *ctx, bool graceful)
{
    bool active;

    mr_mutex_lock(&ctx->lock);
    active = ctx->state == MR_CONTEXT_ACTIVE;
    if (ctx->state != MR_CONTEXT_STOPPED) { /* a signal may come before the start */
        ctx->stop_graceful = graceful && (!ctx->stop_early || ctx->stop_graceful);
        ctx->stop_early = true;
        if (ctx->query != NULL)
            mr_query_stop(ctx->query, graceful);
    }
    mr_mutex_unlock(&ctx->lock);
    if (active && !graceful)
        mr__bus_give_up(ctx->watch->bus); /* the driver may be waiting for a listener */
}

void mr_context_stop_soon(struct mr_context *ctx, bool graceful)
{
    int wanted = graceful ? 1 : 2;

    if (ctx != NULL && atomic_load(&ctx->watch->stop_soon) < wanted)
        atomic_store(&ctx->watch->stop_soon, wanted);
}

void mr__context_look(struct mr_context *ctx)
{
    int asked = atomic_exchange(&ctx->watch->stop_soon, 0);

    if (asked != 0)
        mr__context_request_stop(ctx, asked == 1);
}

void mr_context_stop(struct mr_context *ctx, bool graceful)
{
    enum mr_context_state state;

    if (ctx == NULL)
        return;
    if (mr__inside_listener()) {
        mr_log(MR_LOG_ERROR, "dstream", ctx->name, -1,
               "cannot stop the context inside a callback of a listener, it would wait for "
               "itself; use mr_context_stop_soon or another thread");
        return;
    }
    state = mr_context_state(ctx);
    if (state == MR_CONTEXT_INITIALIZED) {
        mr_log(MR_LOG_WARNING, "dstream", ctx->name, -1,
               "the context is stopped before it was started");
        become_stopped(ctx, NULL);
        return;
    }
    mr__context_request_stop(ctx, graceful);
    if (mr__inside_user_code == 0)
        mr_context_await(ctx, NULL);
}

static enum mr_status result_of(struct mr_context *ctx, struct mr_error *err)
{
    enum mr_status status = ctx->failure.status;

    if (status != MR_OK && err != NULL)
        *err = ctx->failure;
    return status;
}

/* May the calling thread wait for the context at all? */
static enum mr_status may_wait(struct mr_context *ctx, struct mr_error *err)
{
    if (ctx == NULL)
        return no_memory(err);
    if (mr__inside_listener() || mr__inside_user_code > 0)
        return MR_FAIL(err, MR_STATE,
                       "cannot wait for '%s' inside one of its own functions, it would wait for "
                       "itself",
                       ctx->name);
    return MR_OK;
}

/* timeout_ns below 0: for ever. */
static enum mr_status wait_until_stopped(struct mr_context *ctx, int64_t timeout_ns,
                                         bool *ret_stopped, struct mr_error *err)
{
    struct mr_env *clock = mr_env_posix(); /* a real wait, whatever clock the batches have */
    int64_t end_ns = mr_env_monotonic_ns(clock) + timeout_ns;
    enum mr_status status = MR_OK;

    mr_mutex_lock(&ctx->lock);
    while (ctx->state != MR_CONTEXT_STOPPED) {
        int64_t left_ns = timeout_ns < 0 ? LOOK_NS : end_ns - mr_env_monotonic_ns(clock);

        if (left_ns <= 0)
            break;
        mr_cond_wait_for(&ctx->changed, &ctx->lock, MR_MIN(left_ns, (int64_t)LOOK_NS));
        mr_mutex_unlock(&ctx->lock);
        mr__context_look(ctx);
        mr_mutex_lock(&ctx->lock);
    }
    *ret_stopped = ctx->state == MR_CONTEXT_STOPPED;
    if (*ret_stopped)
        status = result_of(ctx, err);
    mr_mutex_unlock(&ctx->lock);
    return status;
}

enum mr_status mr_context_await(struct mr_context *ctx, struct mr_error *err)
{
    bool stopped;

    MR_TRY(may_wait(ctx, err));
    if (mr_context_state(ctx) == MR_CONTEXT_INITIALIZED)
        return MR_FAIL(err, MR_STATE, "cannot wait for '%s': it was not started", ctx->name);
    return wait_until_stopped(ctx, -1, &stopped, err);
}

enum mr_status mr_context_await_for(struct mr_context *ctx, int64_t timeout_ms, bool *ret_stopped,
                                    struct mr_error *err)
{
    MR_TRY(may_wait(ctx, err));
    return wait_until_stopped(ctx,
                              MR_MIN(MR_MAX(timeout_ms, INT64_C(0)), INT64_MAX / 2000000) * 1000000,
                              ret_stopped, err);
}
