/*
 * The handle of a query: its thread, what it is at, what it has reported, how it ended.
 *
 *     STARTING --start.c--> ACTIVE --mr__handle_run--> ENDED
 *
 * The kernel's query exists between the two arrows; query->query is NULL before and after, so that
 * the checkpoint is free as soon as anybody sees ENDED. Triggers are counted: a waiter of
 * process_all_available wants an idle one that began after it asked.
 *
 * Thread: the loop and the kernel's calls on the query's own thread; the rest any, under
 * query->lock.
 */
#include "streams/streams.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

static _Thread_local struct mr_streaming_query *here;
static _Thread_local unsigned depth; /* of mr__handle_enter */

struct mr_streaming_query *mr__handle_here(void)
{
    return here;
}

void mr__handle_enter(struct mr_streaming_query *query)
{
    here = query;
    depth++;
}

void mr__handle_leave(struct mr_streaming_query *query)
{
    MR_ASSERT(here == query && depth > 0);
    if (--depth == 0)
        here = NULL;
}

/* ---- life ---- */

struct mr_streaming_query *mr__handle_new(struct mr_streams *streams, const char *name,
                                          struct mr_error *err)
{
    struct mr_streaming_query *query = mr_alloc_zero(NULL, sizeof(*query));

    if (query != NULL) {
        atomic_init(&query->references, 1);
        mr_mutex_init(&query->lock);
        mr_cond_init(&query->changed);
        query->env = streams->env;
        query->streams = streams;
        query->recent_max = streams->recent_max > 1 ? streams->recent_max - 1 : 1;
        query->recent = mr_alloc_zero(NULL, query->recent_max * sizeof(char *));
        query->name = name != NULL ? mr_strdup(name) : NULL;
    }
    if (query == NULL || query->recent == NULL || (name != NULL && query->name == NULL)) {
        mr_streaming_query_unref(query);
        MR_FAIL(err, MR_NOMEM, "cannot start a query: out of memory");
        return NULL;
    }
    mr__handle_set_message(query, "Initializing StreamExecution");
    return query;
}

struct mr_streaming_query *mr_streaming_query_ref(struct mr_streaming_query *query)
{
    atomic_fetch_add(&query->references, 1);
    return query;
}

void mr_streaming_query_unref(struct mr_streaming_query *query)
{
    if (query == NULL || atomic_fetch_sub(&query->references, 1) > 1)
        return;
    MR_ASSERT(query->query == NULL);
    for (size_t i = 0; query->recent != NULL && i < query->recent_max; i++)
        mr_free(query->recent[i]);
    mr_free(query->recent);
    mr_sql_plan_free(query->plan);
    mr__script_release(&query->script);
    mr_text_free(query->description);
    mr_text_free(query->start_offset);
    mr_text_free(query->end_offset);
    mr_free(query->checkpoint);
    mr_free(query->name);
    mr_cond_release(&query->changed);
    mr_mutex_release(&query->lock);
    mr_free(query);
}

/* ---- what the kernel tells ---- */

void mr__handle_set_message(struct mr_streaming_query *query, const char *format, ...)
{
    va_list args;

    mr_mutex_lock(&query->lock);
    va_start(args, format);
    vsnprintf(query->status.message, sizeof(query->status.message), format, args);
    va_end(args);
    mr_mutex_unlock(&query->lock);
}

void mr__handle_phase(void *arg, enum mr_query_phase phase, const char *name)
{
    static const char *const messages[] = {
        [MR_PHASE_LOG] = "Writing offsets to log",
        [MR_PHASE_DATA] = "Processing new data",
        [MR_PHASE_NO_DATA] = "No new data but cleaning up state",
        [MR_PHASE_DONE] = "Waiting for next trigger",
    };
    struct mr_streaming_query *query = arg;
    struct mr_streaming_status *status = &query->status;

    mr_mutex_lock(&query->lock);
    switch (phase) {
    case MR_PHASE_TRIGGER:
        query->trigger_count++;
        status->is_trigger_active = true;
        status->is_data_available = false;
        break;
    case MR_PHASE_OFFSETS:
        snprintf(status->message, sizeof(status->message), "Getting offsets from %s", name);
        break;
    case MR_PHASE_IDLE:
        snprintf(status->message, sizeof(status->message), "%s",
                 query->by_interval ? "Waiting for next trigger" : "Waiting for data to arrive");
        status->is_trigger_active = false;
        status->is_data_available = false;
        query->idle_trigger = query->trigger_count;
        mr_cond_broadcast(&query->changed);
        break;
    case MR_PHASE_LOG:
    case MR_PHASE_DATA:
    case MR_PHASE_NO_DATA:
    case MR_PHASE_DONE:
        snprintf(status->message, sizeof(status->message), "%s", messages[phase]);
        if (phase == MR_PHASE_DATA)
            status->is_data_available = true;
        if (phase == MR_PHASE_DONE)
            status->is_trigger_active = false;
        break;
    }
    mr_mutex_unlock(&query->lock);
}

static void remember(struct mr_streaming_query *query, char *document)
{
    char *old = NULL;

    mr_mutex_lock(&query->lock);
    if (query->recent_count == query->recent_max) {
        old = query->recent[query->recent_from];
        query->recent[query->recent_from] = NULL;
        query->recent_from = (query->recent_from + 1) % query->recent_max;
        query->recent_count--;
    }
    query->recent[(query->recent_from + query->recent_count) % query->recent_max] = document;
    query->recent_count++;
    mr_mutex_unlock(&query->lock);
    mr_free(old);
}

void mr__handle_progress(void *arg, const struct mr_progress *progress)
{
    struct mr_streaming_query *query = arg;
    char *document = mr_strdup(progress->json);

    if (document != NULL) /* a report that finds no memory does not stop a query */
        remember(query, document);
    mr__bell_tell(query->streams, progress->idle ? MR__EVENT_IDLE : MR__EVENT_PROGRESS, query,
                  progress->json, NULL);
}

/* ---- the thread ---- */

static const char *class_of(const struct mr_streaming_query *query, enum mr_status status)
{
    if (status != MR_USER || !atomic_load(&query->target.failed))
        return "STREAM_FAILED";
    return query->kind == MR__WRITE_FOREACH_BATCH ? "FOREACH_BATCH_USER_FUNCTION_ERROR"
                                                  : "FOREACH_USER_FUNCTION_ERROR";
}

/* The kernel's part goes, so that whoever sees ENDED finds the checkpoint free. */
static void close_query(struct mr_streaming_query *query)
{
    struct mr_query *kernel;

    mr_mutex_lock(&query->lock);
    kernel = query->query;
    query->query = NULL;
    mr_mutex_unlock(&query->lock);
    mr_query_free(kernel);
    mr_sql_plan_free(query->plan);
    query->plan = NULL;
    mr__script_release(&query->script);
    mr__registry_remove(query);
}

void mr__handle_end(struct mr_streaming_query *query, const struct mr_error *failure)
{
    mr_mutex_lock(&query->lock);
    query->failure = *failure;
    query->status.is_trigger_active = false;
    query->status.is_data_available = false;
    if (failure->status != MR_OK) {
        query->error_class = class_of(query, failure->status);
        snprintf(query->status.message, sizeof(query->status.message),
                 "Terminated with exception: %s", failure->text);
    } else {
        snprintf(query->status.message, sizeof(query->status.message), "Stopped");
    }
    query->state = MR__QUERY_ENDED;
    mr_cond_broadcast(&query->changed);
    mr_mutex_unlock(&query->lock);
}

void mr__handle_run(void *arg)
{
    struct mr_streaming_query *query = arg;
    struct mr_streams *streams = query->streams;
    struct mr_error failure = {0};

    mr__handle_enter(query);
    if (mr_query_run(query->query, &failure) != MR_OK) {
        query->start_offset = mr_query_offsets_json(query->query, false);
        query->end_offset = mr_query_offsets_json(query->query, true);
        mr_log(MR_LOG_ERROR, "streams", query->name != NULL ? query->name : query->id, -1, "%s",
               failure.text);
    }
    close_query(query);
    mr__bell_tell(streams, MR__EVENT_TERMINATED, query,
                  failure.status != MR_OK ? failure.text : NULL,
                  failure.status != MR_OK ? class_of(query, failure.status) : NULL);
    mr__streams_ended(streams, query, &failure);
    mr__handle_leave(query);
}

/* ---- looking ---- */

const char *mr_streaming_query_id(const struct mr_streaming_query *query)
{
    return query->id;
}

const char *mr_streaming_query_run_id(const struct mr_streaming_query *query)
{
    return query->run_id;
}

const char *mr_streaming_query_name(const struct mr_streaming_query *query)
{
    return query->name;
}

bool mr_streaming_query_is_active(struct mr_streaming_query *query)
{
    bool active;

    mr_mutex_lock(&query->lock);
    active = query->state != MR__QUERY_ENDED;
    mr_mutex_unlock(&query->lock);
    return active;
}

void mr_streaming_query_status(struct mr_streaming_query *query,
                               struct mr_streaming_status *ret_status)
{
    char doing[400];

    mr_mutex_lock(&query->lock);
    *ret_status = query->status;
    if (query->query != NULL && query->status.is_trigger_active &&
        mr_query_doing(query->query, doing, sizeof(doing)))
        snprintf(ret_status->message, sizeof(ret_status->message), "%.120s: %s",
                 query->status.message, doing);
    mr_mutex_unlock(&query->lock);
}

char *mr_streaming_query_last_progress(struct mr_streaming_query *query)
{
    char *copy = NULL;

    mr_mutex_lock(&query->lock);
    if (query->recent_count > 0)
        copy = mr_strdup(
            query->recent[(query->recent_from + query->recent_count - 1) % query->recent_max]);
    mr_mutex_unlock(&query->lock);
    return copy;
}

size_t mr_streaming_query_recent_progress(struct mr_streaming_query *query, char **ret_documents,
                                          size_t capacity)
{
    size_t count, used = 0;

    mr_mutex_lock(&query->lock);
    count = MR_MIN(query->recent_count, capacity);
    for (size_t i = query->recent_count - count; i < query->recent_count; i++) {
        char *copy = mr_strdup(query->recent[(query->recent_from + i) % query->recent_max]);

        if (copy != NULL)
            ret_documents[used++] = copy;
    }
    mr_mutex_unlock(&query->lock);
    return used;
}

bool mr_streaming_query_exception(struct mr_streaming_query *query,
                                  struct mr_streaming_exception *ret_exception)
{
    bool failed;

    mr_mutex_lock(&query->lock);
    failed = query->state == MR__QUERY_ENDED && query->failure.status != MR_OK;
    if (failed)
        *ret_exception = (struct mr_streaming_exception){
            .error = query->failure,
            .error_class = query->error_class,
            .start_offset = query->start_offset,
            .end_offset = query->end_offset,
        };
    mr_mutex_unlock(&query->lock);
    return failed;
}

char *mr_streaming_query_explain(struct mr_streaming_query *query)
{
    return mr_strdup(query->description != NULL ? query->description : "");
}

/* ---- waiting and stopping ---- */

/* Under query->lock. */
static enum mr_status failure_of(const struct mr_streaming_query *query, struct mr_error *err)
{
    if (query->state != MR__QUERY_ENDED)
        return MR_OK;
    if (query->failure.status != MR_OK && err != NULL)
        *err = query->failure;
    return query->failure.status;
}

enum mr_status mr_streaming_query_await(struct mr_streaming_query *query, int64_t timeout_ms,
                                        bool *ret_terminated, struct mr_error *err)
{
    struct mr_env *env = mr_env_posix(); /* people wait by the real clock */
    int64_t deadline_ns = mr_env_monotonic_ns(env) + timeout_ms * 1000000;
    enum mr_status status;

    if (here == query || mr__bell_rings())
        return MR_FAIL(err, MR_STATE,
                       "cannot wait for the end of a query inside one of its functions or inside a "
                       "listener");
    mr_mutex_lock(&query->lock);
    while (query->state != MR__QUERY_ENDED) {
        int64_t left_ns = deadline_ns - mr_env_monotonic_ns(env);

        if (timeout_ms < 0)
            mr_cond_wait(&query->changed, &query->lock);
        else if (left_ns <= 0 || !mr_cond_wait_for(&query->changed, &query->lock, left_ns))
            break;
    }
    if (ret_terminated != NULL)
        *ret_terminated = query->state == MR__QUERY_ENDED;
    status = failure_of(query, err);
    mr_mutex_unlock(&query->lock);
    return status;
}

void mr_streaming_query_stop(struct mr_streaming_query *query, bool graceful)
{
    if (query == NULL)
        return;
    mr_mutex_lock(&query->lock);
    if (query->query != NULL)
        mr_query_stop(query->query, graceful);
    while (query != here && !mr__bell_rings() && query->state == MR__QUERY_ACTIVE)
        mr_cond_wait(&query->changed, &query->lock);
    mr_mutex_unlock(&query->lock);
}

enum mr_status mr_streaming_query_process_all_available(struct mr_streaming_query *query,
                                                        struct mr_error *err)
{
    enum mr_status status;
    uint64_t began;

    if (here == query || mr__bell_rings())
        return MR_FAIL(err, MR_STATE,
                       "cannot wait for a query inside one of its functions or inside a listener");
    mr_mutex_lock(&query->lock);
    began = query->trigger_count;
    while (query->state != MR__QUERY_ENDED && query->idle_trigger <= began)
        mr_cond_wait(&query->changed, &query->lock);
    status = failure_of(query, err);
    mr_mutex_unlock(&query->lock);
    return status;
}
