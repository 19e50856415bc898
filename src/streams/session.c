/*
 * Sessions: what owns frames and readers, and the manager of the queries that were started on them.
 *
 * A query of the session is in `queries` from its start until its thread was joined, which happens
 * at the next start or at the end of the session. `any_terminated` and `last_failure` are what
 * await_any looks at until they are reset.
 *
 * Thread: building as sql.h says; the manager any, under lock.
 */
#include "streams/streams.h"

#include "base/log.h"
#include "base/text.h"
#include "env/pin.h"
#include "plugins/plugins.h"
#include "rdd/rdd.h"
#include "sql/settings.h"

#include <string.h>

enum { RECENT_STANDARD = 100 };

static const struct mr_option own_settings[] = {
    {"checkpoint_root", "spark.sql.streaming.checkpointLocation", MR_OPTION_TEXT, 0, NULL, NULL,
     NULL, "Directory below which queries without a checkpoint get one of their name."},
    {"stop_active_run", "stopActiveRunOnRestart|spark.sql.streaming.stopActiveRunOnRestart",
     MR_OPTION_BOOL, 0, "true", NULL, NULL,
     "Whether starting a checkpoint that runs in this process stops the older run."},
    {"recent_progress", "numRecentProgressUpdates|spark.sql.streaming.numRecentProgressUpdates",
     MR_OPTION_INT, 0, "100", "1", "1000000",
     "Progress documents that a query keeps, and one more."},
    {"idle_progress", "noDataProgressEventInterval|spark.sql.streaming.noDataProgressEventInterval",
     MR_OPTION_DURATION, 0, "10 s", "0 s", NULL, "How often an idle query reports its progress."},
};

struct mr_streams *mr_streams_new(void)
{
    struct mr_streams *streams = mr_alloc_zero(NULL, sizeof(*streams));

    if (streams == NULL)
        return NULL;
    if (mr__bell_new(&streams->bell, NULL) != MR_OK) {
        mr_free(streams);
        return NULL;
    }
    mr_plugins_register();
    streams->env = mr_env_posix();
    mr_env_pin();
    streams->stop_active_run = true;
    streams->recent_max = RECENT_STANDARD;
    streams->idle_progress_us = 10 * INT64_C(1000000);
    mr_mutex_init(&streams->lock);
    mr_cond_init(&streams->changed);
    return streams;
}

void mr__streams_use(struct mr_streams *streams, struct mr_env *env)
{
    streams->env = env;
}

static void free_memory_sinks(struct mr__memory_sink *sink)
{
    while (sink != NULL) {
        struct mr__memory_sink *next = sink->next;

        mr_free(sink->name);
        mr_free(sink);
        sink = next;
    }
}

/* Every query is asked before any is waited for. */
static void stop_all(struct mr_streams *streams)
{
    mr_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->query_count; i++) {
        struct mr_streaming_query *query = streams->queries[i];

        mr_mutex_lock(&query->lock);
        if (query->query != NULL)
            mr_query_stop(query->query, false);
        mr_mutex_unlock(&query->lock);
    }
    mr_mutex_unlock(&streams->lock);
    mr__streams_reap(streams, true);
}

void mr_streams_free(struct mr_streams *streams)
{
    if (streams == NULL)
        return;
    if (mr__handle_here() != NULL || mr__bell_rings()) {
        mr_log(MR_LOG_ERROR, "streams", "", -1,
               "cannot free a session inside one of its functions or listeners; it stays");
        return;
    }
    stop_all(streams);
    mr__bell_free(streams->bell);
    for (struct mr_frame *frame = streams->frames; frame != NULL; frame = frame->next) {
        if (frame->plan_free != NULL)
            frame->plan_free(frame->plan_arg);
    }
    for (struct mr__function_entry *entry = streams->functions; entry != NULL;) {
        struct mr__function_entry *next = entry->next;

        if (entry->free != NULL)
            entry->free(entry->functions.arg);
        mr_free(entry);
        entry = next;
    }
    mr_session_free(streams->session);
    free_memory_sinks(streams->memory_sinks);
    mr_free(streams->queries);
    mr_cond_release(&streams->changed);
    mr_mutex_release(&streams->lock);
    mr_arena_release(&streams->arena);
    mr_free(streams);
    mr_env_unpin();
}

/* ---- settings ---- */

static bool is_spelling(const char *list, const char *key)
{
    while (list != NULL && *list != '\0') {
        const char *bar = strchr(list, '|');
        size_t size = bar != NULL ? (size_t)(bar - list) : strlen(list);

        if (mr_text_equal_nocase(list, size, key, strlen(key)))
            return true;
        list = bar != NULL ? bar + 1 : NULL;
    }
    return false;
}

static bool is_own(const char *key)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(own_settings); i++) {
        if (is_spelling(own_settings[i].name, key) || is_spelling(own_settings[i].aliases, key))
            return true;
    }
    return false;
}

static enum mr_status set_own(struct mr_streams *streams, const struct mr_option_pair *pair,
                              struct mr_error *err)
{
    static const struct mr_option_table table = {"session", own_settings,
                                                 MR_ARRAY_SIZE(own_settings)};
    const struct mr_option_table *tables[] = {&table};
    struct mr_options *options = NULL;

    MR_TRY(mr_options_parse(tables, 1, pair, 1, 0, &options, err));
    if (mr_options_has(options, "checkpoint_root"))
        streams->checkpoint_root = mr__keep(streams, pair->value);
    if (mr_options_has(options, "stop_active_run"))
        streams->stop_active_run = mr_options_bool(options, "stop_active_run");
    if (mr_options_has(options, "recent_progress"))
        streams->recent_max = (size_t)mr_options_int(options, "recent_progress");
    if (mr_options_has(options, "idle_progress"))
        streams->idle_progress_us = mr_options_int(options, "idle_progress");
    mr_options_free(options);
    return MR_OK;
}

bool mr__same_setting(const struct mr_option_pair *a, const struct mr_option_pair *b)
{
    const struct mr_option_table *table = mr_sql_settings_table();
    struct mr_options *one = NULL, *other = NULL;
    bool same = false;

    if (mr_options_parse(&table, 1, a, 1, 0, &one, NULL) == MR_OK &&
        mr_options_parse(&table, 1, b, 1, 0, &other, NULL) == MR_OK) {
        for (size_t i = 0; i < table->option_count && !same; i++)
            same = mr_options_has(one, table->options[i].name) &&
                   mr_options_has(other, table->options[i].name);
    }
    mr_options_free(one);
    mr_options_free(other);
    return same;
}

static enum mr_status set_shared(struct mr_streams *streams, const struct mr_option_pair *pair,
                                 struct mr_error *err)
{
    const struct mr_option_table *table = mr_sql_settings_table();
    struct mr_options *options = NULL;

    MR_TRY(mr_options_parse(&table, 1, pair, 1, 0, &options, err));
    mr_options_free(options);
    for (size_t i = 0; i < streams->settings.count; i++) { /* another spelling of it goes */
        if (mr__same_setting(&streams->settings.items[i], pair))
            streams->settings.items[i] = streams->settings.items[--streams->settings.count];
    }
    if (!mr__options_set(streams, &streams->settings, pair->key, pair->value))
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    return MR_OK;
}

void mr_streams_set(struct mr_streams *streams, const char *key, const char *value)
{
    struct mr_option_pair pair = {key, value};
    struct mr_error *err;

    if (streams == NULL || streams->error.status != MR_OK)
        return;
    err = &streams->error;
    if (key == NULL || value == NULL)
        MR_FAIL(err, MR_CONFIG, "a setting needs a key and a value");
    else if (is_own(key))
        set_own(streams, &pair, err);
    else
        set_shared(streams, &pair, err);
    if (err->status != MR_OK)
        mr_error_prefix(err, "mr_streams_set");
}

enum mr_status mr__streams_add_functions(struct mr_streams *streams,
                                         const struct mr_sql_functions *functions,
                                         void (*free)(void *arg), struct mr_error *err)
{
    struct mr__function_entry *entry = mr_alloc_zero(NULL, sizeof(*entry));

    if (entry == NULL) {
        if (free != NULL)
            free(functions->arg);
        return MR_FAIL(err, MR_NOMEM, "cannot add a function: out of memory");
    }
    entry->functions = *functions;
    entry->free = free;
    entry->next = streams->functions;
    streams->functions = entry;
    return MR_OK;
}

enum mr_status mr__streams_session(struct mr_streams *streams, struct mr_session **ret_session,
                                   struct mr_error *err)
{
    enum mr_status status = MR_OK;

    mr_mutex_lock(&streams->lock);
    if (streams->session == NULL)
        status = mr__session_new_on(streams->env, NULL, &streams->session, err);
    *ret_session = streams->session;
    mr_mutex_unlock(&streams->lock);
    return status;
}

/* ---- the manager ---- */

static bool is_active(struct mr_streaming_query *query)
{
    bool active;

    mr_mutex_lock(&query->lock);
    active = query->state == MR__QUERY_ACTIVE;
    mr_mutex_unlock(&query->lock);
    return active;
}

size_t mr_streams_active(struct mr_streams *streams, struct mr_streaming_query **ret_queries,
                         size_t capacity)
{
    size_t count = 0;

    mr_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->query_count; i++) {
        if (!is_active(streams->queries[i]))
            continue;
        if (count < capacity)
            ret_queries[count] = mr_streaming_query_ref(streams->queries[i]);
        count++;
    }
    mr_mutex_unlock(&streams->lock);
    return count;
}

struct mr_streaming_query *mr_streams_get(struct mr_streams *streams, const char *id)
{
    struct mr_streaming_query *found = NULL;

    if (id == NULL)
        return NULL;
    mr_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->query_count && found == NULL; i++) {
        struct mr_streaming_query *query = streams->queries[i];

        if ((strcmp(query->id, id) == 0 || (query->name != NULL && strcmp(query->name, id) == 0)) &&
            is_active(query))
            found = mr_streaming_query_ref(query);
    }
    mr_mutex_unlock(&streams->lock);
    return found;
}

void mr__streams_ended(struct mr_streams *streams, struct mr_streaming_query *query,
                       const struct mr_error *failure)
{
    mr_mutex_lock(&streams->lock);
    mr__handle_end(query, failure);
    streams->any_terminated = true;
    if (failure->status != MR_OK)
        streams->last_failure = *failure;
    mr_cond_broadcast(&streams->changed);
    mr_mutex_unlock(&streams->lock);
}

enum mr_status mr_streams_await_any(struct mr_streams *streams, int64_t timeout_ms,
                                    bool *ret_terminated, struct mr_error *err)
{
    int64_t deadline_ns = mr_env_monotonic_ns(mr_env_posix()) + timeout_ms * 1000000;
    enum mr_status status;

    if (mr__handle_here() != NULL || mr__bell_rings())
        return MR_FAIL(err, MR_STATE,
                       "cannot wait for queries inside a function of one or inside a listener");
    mr_mutex_lock(&streams->lock);
    while (!streams->any_terminated) {
        int64_t left_ns = deadline_ns - mr_env_monotonic_ns(mr_env_posix());

        if (timeout_ms < 0)
            mr_cond_wait(&streams->changed, &streams->lock);
        else if (left_ns <= 0 || !mr_cond_wait_for(&streams->changed, &streams->lock, left_ns))
            break;
    }
    if (ret_terminated != NULL)
        *ret_terminated = streams->any_terminated;
    status = streams->last_failure.status;
    if (status != MR_OK && err != NULL)
        *err = streams->last_failure;
    mr_mutex_unlock(&streams->lock);
    return status;
}

void mr_streams_reset_terminated(struct mr_streams *streams)
{
    mr_mutex_lock(&streams->lock);
    streams->any_terminated = false;
    mr_error_clear(&streams->last_failure);
    mr_mutex_unlock(&streams->lock);
}

void mr__streams_reap(struct mr_streams *streams, bool all)
{
    for (;;) {
        struct mr_streaming_query *query = NULL;

        mr_mutex_lock(&streams->lock);
        for (size_t i = 0; i < streams->query_count && query == NULL; i++) {
            struct mr_streaming_query *one = streams->queries[i];

            mr_mutex_lock(&one->lock);
            if ((all || one->state == MR__QUERY_ENDED) && one != mr__handle_here() &&
                one->thread != NULL) {
                query = one;
                streams->queries[i] = streams->queries[--streams->query_count];
            }
            mr_mutex_unlock(&one->lock);
        }
        mr_mutex_unlock(&streams->lock);
        if (query == NULL)
            return;
        mr_thread_join(query->thread);
        query->thread = NULL;
        mr_streaming_query_unref(query);
    }
}
