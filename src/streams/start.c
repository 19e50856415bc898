/*
 * From a writer to a running query (sql.h mr_write_start).
 *
 *     mistakes of building -> checkpoint -> script -> plan -> older run of the checkpoint stops
 *     -> the kernel's query opens (recovery) -> listeners hear of it -> its thread
 *
 * Planning and opening happen on the caller's thread, so that their errors are those of the call.
 *
 * The registry knows the queries of this process that have a checkpoint, of all sessions: the same
 * directory started again stops the older run, or is refused (structured.md 1.1). Directories are
 * compared by their inode, so another spelling of the path is no way around it.
 *
 * Thread: the one that starts.
 */
#include "base/limits.h"
#include "streams/streams.h"

#include "base/log.h"

#include <millrace/ext/memory.h>

#include <stdio.h>
#include <string.h>

enum { RUNNING_MAX = MR_LIMIT_QUERIES_RUNNING, SETTINGS_MAX = 4 };

static struct mr_mutex registry_lock = {PTHREAD_MUTEX_INITIALIZER}; /* guards: */
static struct mr_streaming_query *running[RUNNING_MAX];
static size_t running_count;

/* ---- the registry ---- */

static bool same_directory(struct mr_env *env, const char *a, const char *b)
{
    struct mr_file_info one, other;

    if (strcmp(a, b) == 0)
        return true;
    return mr_env_path_info(env, a, true, &one, NULL) == MR_OK &&
           mr_env_path_info(env, b, true, &other, NULL) == MR_OK && one.inode == other.inode &&
           one.device == other.device;
}

void mr__registry_remove(struct mr_streaming_query *query)
{
    mr_mutex_lock(&registry_lock);
    for (size_t i = 0; i < running_count; i++) {
        if (running[i] == query)
            running[i--] = running[--running_count];
    }
    mr_mutex_unlock(&registry_lock);
}

static struct mr_streaming_query *registry_find(struct mr_env *env, const char *checkpoint)
{
    struct mr_streaming_query *found = NULL;

    mr_mutex_lock(&registry_lock);
    for (size_t i = 0; i < running_count && found == NULL; i++) {
        if (running[i]->env == env && same_directory(env, running[i]->checkpoint, checkpoint))
            found = mr_streaming_query_ref(running[i]);
    }
    mr_mutex_unlock(&registry_lock);
    return found;
}

static enum mr_status registry_add(struct mr_streaming_query *query, struct mr_error *err)
{
    enum mr_status status = MR_OK;

    if (query->checkpoint == NULL)
        return MR_OK;
    mr_mutex_lock(&registry_lock);
    if (running_count == RUNNING_MAX)
        status = MR_FAIL(err, MR_LIMIT, "cannot start a query: %d run already", (int)RUNNING_MAX);
    else
        running[running_count++] = query;
    mr_mutex_unlock(&registry_lock);
    return status;
}

/* The older run of the same checkpoint goes, or the new one is refused. */
static enum mr_status make_way(const struct mr_stream_writer *writer,
                               const struct mr_streaming_query *query, struct mr_error *err)
{
    struct mr_streaming_query *older;
    enum mr_status status = MR_OK;

    if (query->checkpoint == NULL)
        return MR_OK;
    older = registry_find(query->env, query->checkpoint);
    if (older == NULL)
        return MR_OK;
    if (older == mr__handle_here()) {
        status = MR_FAIL(err, MR_STATE, "a query cannot start its own checkpoint '%s' again",
                         query->checkpoint);
    } else if (!writer->streams->stop_active_run) {
        status = MR_FAIL(err, MR_BUSY,
                         "checkpoint '%s' is that of query %s, which is active; stop it first, or "
                         "set stop_active_run = true",
                         query->checkpoint, older->id);
    } else {
        mr_log(MR_LOG_WARNING, "streams", older->id, -1,
               "stopping this run: its checkpoint is started again");
        mr_streaming_query_stop(older, false);
    }
    mr_streaming_query_unref(older);
    return status;
}

/* ---- the name ---- */

/* The handle takes its place among the session's queries; its name must be free. */
static enum mr_status enlist(struct mr_streams *streams, struct mr_streaming_query *query,
                             struct mr_error *err)
{
    enum mr_status status = MR_OK;

    mr_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->query_count && status == MR_OK && query->name != NULL; i++) {
        const struct mr_streaming_query *other = streams->queries[i];

        if (other->name != NULL && strcmp(other->name, query->name) == 0 &&
            mr_streaming_query_is_active(streams->queries[i]))
            status = MR_FAIL(err, MR_CONFIG,
                             "a query called '%s' is active already; stop it, or take another name",
                             query->name);
    }
    if (status == MR_OK && streams->query_count == streams->query_capacity) {
        size_t capacity = streams->query_capacity * 2 + 8;
        struct mr_streaming_query **queries =
            mr_realloc(NULL, streams->queries, capacity * sizeof(struct mr_streaming_query *));

        if (queries == NULL) {
            status = MR_FAIL(err, MR_NOMEM, "cannot start a query: out of memory");
        } else {
            streams->queries = queries;
            streams->query_capacity = capacity;
        }
    }
    if (status == MR_OK)
        streams->queries[streams->query_count++] = mr_streaming_query_ref(query);
    mr_mutex_unlock(&streams->lock);
    return status;
}

/* It did not come to run. */
static void delist(struct mr_streams *streams, struct mr_streaming_query *query)
{
    mr_mutex_lock(&streams->lock);
    for (size_t i = 0; i < streams->query_count; i++) {
        if (streams->queries[i] == query) {
            streams->queries[i] = streams->queries[--streams->query_count];
            mr_streaming_query_unref(query);
            break;
        }
    }
    mr_mutex_unlock(&streams->lock);
}

/* ---- checkpoint and sink ---- */

static bool needs_no_recovery(const struct mr_stream_writer *writer)
{
    static const char *const names[] = {"console", "memory", "null"};

    if (writer->kind != MR__WRITE_CONNECTOR)
        return true;
    for (size_t i = 0; i < MR_ARRAY_SIZE(names); i++) {
        if (strcmp(writer->format, names[i]) == 0)
            return true;
    }
    /* what does not exist is told by the planner */
    return mr_sink_find(writer->format) == NULL && mr_format_find(writer->format) == NULL;
}

/* A directory below the root: of the query's name, or a new one. */
static char *below_root(const struct mr_streams *streams, const char *name)
{
    unsigned char id[16];

    if (name != NULL)
        return mr_asprintf("%s/%s", streams->checkpoint_root, name);
    mr_env_random(streams->env, id, sizeof(id));
    return mr_asprintf("%s/%02x%02x%02x%02x-%02x%02x%02x%02x%02x%02x%02x%02x",
                       streams->checkpoint_root, id[0], id[1], id[2], id[3], id[4], id[5], id[6],
                       id[7], id[8], id[9], id[10], id[11]);
}

/* structured.md 1.2 */
static enum mr_status choose_checkpoint(const struct mr_stream_writer *writer,
                                        struct mr_streaming_query *query, struct mr_error *err)
{
    const struct mr_streams *streams = writer->streams;

    if (writer->checkpoint != NULL) {
        query->checkpoint = mr_strdup(writer->checkpoint);
    } else if (streams->checkpoint_root != NULL) {
        if (writer->name != NULL && strchr(writer->name, '/') != NULL)
            return MR_FAIL(err, MR_CONFIG,
                           "query name '%s' cannot be a directory below checkpoint_root; set "
                           "checkpointLocation",
                           writer->name);
        MR_TRY(mr_env_mkdir(streams->env, streams->checkpoint_root, err));
        query->checkpoint = below_root(streams, writer->name);
    } else if (needs_no_recovery(writer)) {
        return MR_OK;
    } else {
        return MR_FAIL(err, MR_CONFIG,
                       "this sink needs a checkpoint: add mr_write_option(writer, "
                       "\"checkpointLocation\", \"./checkpoints/clicks\"), or set "
                       "checkpoint_root");
    }
    return query->checkpoint != NULL ? MR_OK
                                     : MR_FAIL(err, MR_NOMEM, "cannot start: out of memory");
}

static bool writes_memory(const struct mr_stream_writer *writer)
{
    return writer->kind == MR__WRITE_CONNECTOR && strcmp(writer->format, "memory") == 0;
}

static bool is_known_sink(struct mr_streams *streams, const char *name)
{
    const struct mr__memory_sink *sink;

    mr_mutex_lock(&streams->lock);
    for (sink = streams->memory_sinks; sink != NULL && strcmp(sink->name, name) != 0;)
        sink = sink->next;
    mr_mutex_unlock(&streams->lock);
    return sink != NULL;
}

/* The table of a memory sink is the query's name; the session remembers it for mr_streams_rows. */
static enum mr_status name_memory(struct mr_stream_writer *writer, struct mr_error *err)
{
    const char *name = mr__options_get(&writer->options, "table");
    struct mr__memory_sink *sink;

    if (name == NULL)
        name = writer->name;
    if (name == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "a memory sink needs a name: add mr_write_query_name(writer, \"counts\")");
    if (!mr__options_set(writer->streams, &writer->options, "table", name))
        return MR_FAIL(err, MR_NOMEM, "cannot start: out of memory");
    if (is_known_sink(writer->streams, name))
        return MR_OK;
    sink = mr_alloc_zero(NULL, sizeof(*sink));
    if (sink == NULL || (sink->name = mr_strdup(name)) == NULL) {
        mr_free(sink);
        return MR_FAIL(err, MR_NOMEM, "cannot start: out of memory");
    }
    mr_mutex_lock(&writer->streams->lock);
    sink->next = writer->streams->memory_sinks;
    writer->streams->memory_sinks = sink;
    mr_mutex_unlock(&writer->streams->lock);
    return MR_OK;
}

/* Rows of batches before the start are not in this process: the table would have a hole. */
static enum mr_status check_memory(const struct mr_stream_writer *writer,
                                   const struct mr_query *query, struct mr_error *err)
{
    struct mr_memory *table;

    if (!writes_memory(writer) || mr_query_next_batch(query) == 0 ||
        (writer->mode != NULL && strcmp(writer->mode, "complete") == 0))
        return MR_OK;
    table = mr_memory_table(mr__options_get(&writer->options, "table"));
    if (table == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start: out of memory");
    if (mr_memory_last_published(table, mr_query_id(query)) >= 0)
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG,
                   "a memory sink in output mode '%s' cannot go on from a checkpoint: the rows of "
                   "%llu earlier batches are gone; use mode 'complete', or another checkpoint",
                   writer->mode != NULL ? writer->mode : "append",
                   (unsigned long long)mr_query_next_batch(query));
}

/* ---- planning and opening ---- */

static enum mr_status check(const struct mr_stream_writer *writer, struct mr_error *err)
{
    const struct mr_error *mistake = &writer->streams->error;

    if (mistake->status == MR_OK)
        mistake = &writer->error;
    if (mistake->status != MR_OK) {
        if (err != NULL)
            *err = *mistake;
        return mistake->status;
    }
    if (writer->kind == MR__WRITE_CONNECTOR && writer->format == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "there is no sink; call mr_write_format(writer, \"console\"), "
                       "mr_write_foreach or mr_write_foreach_batch");
    return MR_OK;
}

static const struct mr_sink_connector *sink_of(const struct mr_stream_writer *writer)
{
    if (writer->kind == MR__WRITE_FOREACH_BATCH)
        return &mr__foreach_batch_connector;
    if (writer->kind == MR__WRITE_FOREACH)
        return writer->foreach.parallel ? &mr__foreach_parallel_connector : &mr__foreach_connector;
    return NULL;
}

static enum mr_status make_plan(struct mr_stream_writer *writer, struct mr_streaming_query *query,
                                const struct mr__place *place, struct mr_error *err)
{
    struct mr_option_pair settings[SETTINGS_MAX];
    const struct mr_sink_connector *sink = sink_of(writer);
    size_t count = 0;

    if (writer->trigger != NULL)
        settings[count++] = (struct mr_option_pair){"trigger", writer->trigger};
    if (query->checkpoint != NULL)
        settings[count++] = (struct mr_option_pair){"checkpoint", query->checkpoint};
    if (writer->name != NULL)
        settings[count++] = (struct mr_option_pair){"name", writer->name};
    query->kind = writer->kind;
    query->target.writer = writer->foreach;
    query->target.batch_fn = writer->batch_fn;
    query->target.batch_arg = writer->batch_arg;
    query->target.streams = writer->streams;
    query->target.query = query;
    MR_TRY(mr__script_make(writer->frame, writer, writer->mode != NULL ? writer->mode : "append",
                           sink, sink != NULL ? &query->target : NULL, place, &query->script, err));
    return mr__script_plan(&query->script, writer->streams, settings, count, false, &query->plan,
                           err);
}

static enum mr_status open_query(const struct mr_stream_writer *writer,
                                 struct mr_streaming_query *query, struct mr_error *err)
{
    struct mr_query_config *config = &query->plan->config;
    struct mr_graph *graph = query->plan->graph;
    struct mr_query *kernel = NULL;
    enum mr_status status;

    config->on_progress = mr__handle_progress;
    config->on_progress_arg = query;
    config->on_phase = mr__handle_phase;
    config->on_phase_arg = query;
    config->name = query->name; /* not the sink's */
    config->idle_progress_us = writer->streams->idle_progress_us;
    query->by_interval = config->trigger == MR_TRIGGER_INTERVAL;
    query->description = query->plan->description;
    query->plan->description = NULL;
    query->plan->graph = NULL; /* the query takes it, also when it fails */
    MR_TRY(mr_query_new(query->env, graph, config, &kernel, err));
    status = check_memory(writer, kernel, err);
    if (status != MR_OK) {
        mr_query_free(kernel);
        return status;
    }
    snprintf(query->id, sizeof(query->id), "%s", mr_query_id(kernel));
    snprintf(query->run_id, sizeof(query->run_id), "%s", mr_query_run_id(kernel));
    mr_mutex_lock(&query->lock);
    query->query = kernel;
    mr_mutex_unlock(&query->lock);
    return MR_OK;
}

static void drop_query(struct mr_streaming_query *query)
{
    struct mr_query *kernel;

    mr_mutex_lock(&query->lock);
    kernel = query->query;
    query->query = NULL;
    query->state = MR__QUERY_ENDED;
    mr_cond_broadcast(&query->changed);
    mr_mutex_unlock(&query->lock);
    mr_query_free(kernel);
    mr__registry_remove(query);
}

static enum mr_status run(struct mr_streams *streams, struct mr_streaming_query *query,
                          struct mr_error *err)
{
    struct mr_thread *thread = NULL;

    mr__handle_set_message(query, "Initializing sources");
    mr_mutex_lock(&query->lock);
    query->state = MR__QUERY_ACTIVE;
    mr_mutex_unlock(&query->lock);
    mr__bell_tell(streams, MR__EVENT_STARTED, query, NULL, NULL);
    MR_TRY(mr_thread_start("mr-streams", mr__handle_run, query, &thread, err));
    mr_mutex_lock(&query->lock);
    query->thread = thread;
    mr_mutex_unlock(&query->lock);
    return MR_OK;
}

static enum mr_status start(struct mr_stream_writer *writer, struct mr_streaming_query *query,
                            const struct mr__place *place, struct mr_error *err)
{
    enum mr_status status;

    MR_TRY(choose_checkpoint(writer, query, err));
    if (writes_memory(writer))
        MR_TRY(name_memory(writer, err));
    MR_TRY(make_plan(writer, query, place, err));
    MR_TRY(make_way(writer, query, err));
    MR_TRY(open_query(writer, query, err));
    status = registry_add(query, err);
    return status == MR_OK ? run(writer->streams, query, err) : status;
}

enum mr_status mr_write_start_at(struct mr_stream_writer *writer, const char *path,
                                 struct mr_streaming_query **ret_query, struct mr_error *err,
                                 const char *file, int line)
{
    struct mr__place place = {file, line, "mr_write_start"};
    struct mr_streaming_query *query;
    struct mr_error local = {0};
    enum mr_status status;

    if (writer == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start a query: out of memory");
    if (path != NULL)
        mr_write_option(writer, "path", path);
    MR_TRY(check(writer, err));
    mr__streams_reap(writer->streams, false);
    query = mr__handle_new(writer->streams, writer->name, err);
    if (query == NULL)
        return MR_NOMEM;
    status = enlist(writer->streams, query, &local);
    if (status == MR_OK) {
        status = start(writer, query, &place, &local);
        if (status != MR_OK) {
            drop_query(query);
            delist(writer->streams, query);
        }
    }
    if (status == MR_OK && ret_query != NULL)
        *ret_query = query;
    else
        mr_streaming_query_unref(query);
    if (status != MR_OK && err != NULL)
        *err = local;
    return status;
}
