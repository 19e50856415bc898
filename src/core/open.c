/*
 * Opening and closing the parts of a query.
 *
 *   checkpoint (lock, identity) -> batch log (recovery, epoch) -> state (load) -> pinned settings
 *   -> comparison with the graph (evolution.c): operators claim their stores -> manifest
 *   -> sinks -> sources, at the offsets of the last plan
 *
 * Recovery may be killed at any point and run again: nothing here changes what a COMMIT says.
 * Called by mr_query_new and mr_query_free only. Thread: driver.
 */
#include "core/internal.h"

#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/mutant.h"
#include "env/memory_limit.h"

#include <stdlib.h>
#include <string.h>

/* Of a store: below it, threads cost more than they save. */
enum { SPREAD_MIN_BYTES = 4 << 20 };

static void make_uuid_text(struct mr_env *env, uint8_t id[16], char text[37])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;

    mr_env_random(env, id, 16);
    id[6] = (uint8_t)((id[6] & 0x0f) | 0x40);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    for (size_t i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        text[at++] = digits[id[i] >> 4];
        text[at++] = digits[id[i] & 15];
    }
    text[at] = '\0';
}

static enum mr_status open_log(struct mr_query *query, struct mr_recovered *recovered,
                               struct mr_error *err)
{
    struct mr_batch_log_config config = {
        .segment_bytes = query->config.segment_bytes,
        .retain_batches = query->config.retain_batches,
    };

    MR_TRY(mr_checkpoint_open(query->env, query->config.checkpoint_dir, &query->checkpoint, err));
    mr_metric_set(&query->metrics, MR_METRIC_TEMP_FILES_REMOVED,
                  (int64_t)query->checkpoint.temp_files_removed);
    if (mr_env_is_volatile(query->env, query->config.checkpoint_dir))
        mr_log(MR_LOG_WARNING, "core", query->name, -1,
               "checkpoint '%s' is on a file system in memory: it is gone when the machine stops",
               query->config.checkpoint_dir);
    memcpy(config.query_id, query->checkpoint.query_id, 16);
    MR_TRY(mr_batch_log_open(query->env, query->checkpoint.log_dir, &config, &query->log, recovered,
                             err));
    if (recovered->tail_dropped_bytes > 0)
        mr_log(MR_LOG_INFO, "core", query->name, -1,
               "cut %llu torn bytes behind the last flush of the batch log",
               (unsigned long long)recovered->tail_dropped_bytes);
    query->epoch = recovered->epoch;
    return MR_OK;
}

/* How the state uses the workers: the driver calls it between the runs of a batch. */
static enum mr_status run_jobs(void *pool, mr_job_fn fn, void *arg, size_t count,
                               struct mr_error *err)
{
    return mr__workers_run(pool, fn, arg, count, true, err);
}

static const char *temporary_dir(void)
{
    const char *dir = getenv("TMPDIR");

    return dir != NULL && dir[0] != '\0' ? dir : "/tmp";
}

static enum mr_status open_state(struct mr_query *query, const struct mr_recovered *recovered,
                                 struct mr_error *err)
{
    struct mr_state_config config = {
        .epoch = query->epoch,
        .inline_bytes_max = 1u << 20,
        .snapshot_min_bytes = 1u << 20,
        .snapshot_ratio = 1.0,
        .snapshot_every = query->config.snapshot_every,
        .retain_batches = query->config.retain_batches,
        .volatile_only = !query->durable,
        .spread_min_bytes = SPREAD_MIN_BYTES,
    };
    struct mr_state_totals totals;

    mr_state_memory_configure(query->config.spill_dir != NULL ? query->config.spill_dir
                              : query->durable                ? query->config.checkpoint_dir
                                                              : temporary_dir(),
                              mr_memory_state());
    if (query->config.workers > 1)
        config.jobs = (struct mr_jobs){run_jobs, query->workers};

    memcpy(config.query_id, query->checkpoint.query_id, 16);
    MR_TRY(mr_state_open(query->env, query->checkpoint.state_dir, query->checkpoint.log_dir,
                         &config, recovered, &query->state, err));
    mr_state_totals(query->state, &totals);
    if (totals.snapshots_rebuilt > 0)
        mr_log(MR_LOG_WARNING, "core", query->name, -1,
               "rebuilt %llu damaged state snapshots from older parts",
               (unsigned long long)totals.snapshots_rebuilt);
    return MR_OK;
}

/* First batch time is the first multiple of the interval after now (CLK-2); it is pinned with the
 * interval. */
static enum mr_status new_settings(struct mr_query *query, struct mr_error *err)
{
    struct mr_buf text = MR_BUF_INIT;
    struct mr_json_out out = {&text, false};
    int64_t interval_us = query->config.interval_us;

    if (query->config.trigger == MR_TRIGGER_TICK) {
        MR_ASSERT(interval_us > 0);
        query->zero_time_us = mr_env_wall_us(query->env) / interval_us * interval_us;
    }
    mr_json_begin_object(&out, NULL);
    mr_json_add_int(&out, "zero_time_us", query->zero_time_us);
    mr_json_add_int(&out, "tick_us", query->config.trigger == MR_TRIGGER_TICK ? interval_us : 0);
    mr_json_add_string(&out, "watermark_policy",
                       query->config.watermark_policy_max ? "max" : "min");
    mr_json_add_raw(&out, "query", query->config.settings != NULL ? query->config.settings : "{}");
    mr_json_end_object(&out);
    query->settings = mr_buf_take(&text);
    if (query->settings == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot pin the settings: out of memory");
    return MR_OK;
}

/* The checkpoint's settings win; an interval that changed would move every batch time, so it is
 * refused. */
static enum mr_status adopt_settings(struct mr_query *query, const char *pinned,
                                     struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    int64_t zero_us = 0, tick_us = 0;
    int64_t wanted_us = query->config.trigger == MR_TRIGGER_TICK ? query->config.interval_us : 0;
    enum mr_status status = mr_json_parse(pinned, strlen(pinned), &arena, &json, err);

    if (status == MR_NOMEM)
        goto done;
    if ((status != MR_OK || !mr_json_int(mr_json_get(json, "zero_time_us"), &zero_us) ||
         !mr_json_int(mr_json_get(json, "tick_us"), &tick_us) || tick_us < 0) &&
        !MR_MUTANT("open.settings.decode")) {
        status = MR_FAIL(err, MR_CORRUPT, "cannot read the pinned settings of checkpoint '%s'",
                         query->checkpoint.dir);
        goto done;
    }
    if (tick_us != wanted_us && !MR_MUTANT("open.settings.tick")) {
        status = MR_FAIL(err, MR_CONFIG,
                         "cannot go on from checkpoint '%s': its batch interval is %lld ms and the "
                         "program's is %lld "
                         "ms; use the old interval or a new checkpoint directory",
                         query->checkpoint.dir, (long long)(tick_us / 1000),
                         (long long)(wanted_us / 1000));
        goto done;
    }
    bool pinned_max = mr_json_is(mr_json_get(json, "watermark_policy"), "max");
    if (pinned_max != query->config.watermark_policy_max)
        mr_log(MR_LOG_WARNING, "core", query->name, -1,
               "the checkpoint pins watermark policy '%s'; it wins", pinned_max ? "max" : "min");
    query->config.watermark_policy_max = pinned_max;
    query->zero_time_us = zero_us;
    query->settings = mr_strdup(pinned);
    if (query->settings == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot read the pinned settings: out of memory");
done:
    mr_arena_release(&arena);
    return status;
}

static struct mr_node *find_source(struct mr_graph *graph, const char *name)
{
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == MR_NODE_SOURCE && strcmp(graph->nodes[i]->name, name) == 0)
            return graph->nodes[i];
    }
    return NULL;
}

/* Puts the offsets of a plan into the sources: of the batch to run again, or the ends of the last
 * committed one. */
static enum mr_status place_sources(struct mr_query *query, const struct mr_plan *plan,
                                    bool run_again, struct mr_error *err)
{
    for (uint32_t i = 0; i < plan->source_count; i++) {
        const struct mr_plan_source *planned = &plan->sources[i];
        struct mr_node *node = find_source(query->graph, planned->name);
        const char *start =
            run_again && !MR_MUTANT("open.place.run-again") ? planned->start : planned->end;

        if (node == NULL && query->config.on_change != MR_ON_CHANGE_KEEP)
            continue; /* the comparison tells of it */
        if (node == NULL)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot go on from checkpoint '%s': it reads source '%s', which the "
                           "query no longer has; put it "
                           "back or use a new checkpoint directory",
                           query->checkpoint.dir, planned->name);
        node->source->start = start != NULL ? mr_strdup(start) : NULL;
        node->source->end = planned->end != NULL ? mr_strdup(planned->end) : NULL;
        if ((start != NULL && node->source->start == NULL) ||
            (planned->end != NULL && node->source->end == NULL))
            return MR_FAIL(err, MR_NOMEM, "cannot place source '%s': out of memory", planned->name);
    }
    return MR_OK;
}

static enum mr_status adopt_recovered(struct mr_query *query, struct mr_recovered *recovered,
                                      struct mr_error *err)
{
    bool run_again =
        recovered->has_plan &&
        (!recovered->has_commit || recovered->last_plan.batch_id > recovered->last_commit.batch_id);

    if (!recovered->has_plan)
        return new_settings(query, err);
    MR_TRY(mr__plan_check(query, recovered, run_again, err));
    MR_TRY(adopt_settings(query, recovered->last_plan.settings, err));
    MR_TRY(place_sources(query, &recovered->last_plan, run_again, err));
    if (recovered->has_commit) {
        query->watermark_us = recovered->last_commit.next_watermark_us;
        query->last_watermark_us = recovered->committed_plan.watermark_us;
        query->any_batch_ran = true;
        if (recovered->last_plan.graph_fingerprint == query->fingerprint)
            mr__watermark_restore(query, &recovered->last_commit);
    }
    query->last_batch_time_us = recovered->last_plan.batch_time_us;
    query->next_batch = recovered->last_plan.batch_id + (run_again ? 0 : 1);
    if (recovered->last_plan.graph_fingerprint != query->fingerprint)
        mr_log(MR_LOG_INFO, "core", query->name, (int64_t)query->next_batch,
               "the query has changed since its last run");
    if (run_again) {
        query->plan = recovered->last_plan;
        recovered->last_plan = (struct mr_plan){0};
        query->has_plan = true;
        mr_log(MR_LOG_INFO, "core", query->name, (int64_t)query->plan.batch_id,
               "running the batch again that was planned and not committed");
    }
    return MR_OK;
}

enum mr_status mr__source_store_open(struct mr_node *node, struct mr_state *state,
                                     struct mr_error *err)
{
    char *store_name;
    enum mr_status status;

    if (node->source->ops->remember == NULL)
        return MR_OK;
    store_name = mr_asprintf("source.%s", node->name);
    if (store_name == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open source '%s': out of memory", node->name);
    status = mr_state_store(state, store_name, "source", "source key", "source value",
                            &node->source->store, err);
    mr_free(store_name);
    MR_TRY(status);
    node->source->kv = mr_kv_of(node->source->store);
    return MR_OK;
}

/* Nothing is compared: what the checkpoint has must be asked for, in its form. */
static enum mr_status open_operators(struct mr_query *query, struct mr_error *err)
{
    struct mr_graph *graph = query->graph;
    const char *unclaimed;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_node *node = graph->nodes[i];

        mr_state_set_owner(query->state, node->name);
        if (node->kind == MR_NODE_FOLD && node->fold->open != NULL)
            MR_TRY(node->fold->open(node->op, query->state, err));
        if (node->kind == MR_NODE_SOURCE)
            MR_TRY(mr__source_store_open(node, query->state, err));
    }
    mr_state_set_owner(query->state, NULL);
    unclaimed = mr_state_unclaimed(query->state, 0);
    if (unclaimed != NULL && !MR_MUTANT("open.operators.unclaimed"))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot go on from checkpoint '%s': it holds state of '%s', which the query "
                       "no longer has; put it back "
                       "or use a new checkpoint directory",
                       query->checkpoint.dir, unclaimed);
    return MR_OK;
}

/* Nothing but notes: the checkpoint is of this query. */
static bool is_settled(const struct mr_evolution *evolution)
{
    return mr_evolution_class(evolution) == MR_CHANGE_SAME;
}

/* Compares with the checkpoint, when there is one, and opens the operators on the way. */
static enum mr_status compare_and_open(struct mr_query *query, const struct mr_recovered *recovered,
                                       struct mr_error *err)
{
    const struct mr__comparing comparing = {
        .env = query->env,
        .graph = query->graph,
        .state = query->state,
        /* adopt_recovered may have moved the plan into the query */
        .plan = query->has_plan ? &query->plan : &recovered->last_plan,
        .has_commit = recovered->has_commit,
        .on_change = query->config.on_change,
        .accept = query->config.accept,
        .checkpoint_dir = query->checkpoint.dir,
    };
    struct mr_evolution *evolution = NULL;
    enum mr_status status;

    if (query->config.on_change == MR_ON_CHANGE_KEEP || !recovered->has_plan)
        return open_operators(query, err);
    status = mr__evolution_open(&comparing, &evolution, err);
    if (evolution != NULL && (status == MR_OK || status == MR_CONFIG) &&
        query->config.on_evolution != NULL)
        query->config.on_evolution(query->config.on_evolution_arg, evolution);
    query->settles = status == MR_OK && !is_settled(evolution);
    mr_evolution_free(evolution);
    return status;
}

static enum mr_status open_sink(struct mr_query *query, struct mr_node *node, struct mr_error *err)
{
    struct mr_sink_run *run = node->sink;
    struct mr_sink_args args = {
        .env = query->env,
        .name = node->name,
        .query_id = query->checkpoint.query_id_text,
        .schema = node->schema,
        .options = run->spec.options,
        .format = run->spec.format,
        .mode = run->spec.mode,
        .ephemeral = !query->durable,
        .user = run->spec.user,
    };

    if (run->spec.connector->open(&args, &run->object, err) != MR_OK)
        return mr_error_prefix(err, "sink '%s'", node->name);
    if (run->spec.connector->guarantee == MR_AT_LEAST_ONCE && query->durable)
        mr_log(MR_LOG_INFO, "core", query->name, -1,
               "sink '%s' (%s) is at-least-once: a crash may repeat its last batch", node->name,
               run->spec.connector->name);
    if (run->spec.connector->ops->last_published == NULL)
        return MR_OK;
    if (run->spec.connector->ops->last_published(run->object, &run->last_published, err) != MR_OK)
        return mr_error_prefix(err, "sink '%s'", node->name);
    /* A batch is published only after its PLAN is on the disk: one that the log does not know means
     * that the log is older than the output, and its rows would be taken for published ones. */
    if (run->last_published > (int64_t)query->next_batch - (query->has_plan ? 0 : 1) &&
        !MR_MUTANT("open.sink.ahead"))
        return MR_FAIL(err, MR_CONFIG,
                       "sink '%s' has batch %lld of this query, but the next of checkpoint '%s' is "
                       "batch %llu: it was "
                       "restored from an older copy; use the newer checkpoint or a new output",
                       node->name, (long long)run->last_published, query->checkpoint.dir,
                       (unsigned long long)query->next_batch);
    return MR_OK;
}

static enum mr_status open_source(struct mr_query *query, struct mr_node *node,
                                  struct mr_error *err)
{
    struct mr_source_run *run = node->source;
    struct mr_source_args args = {
        .env = query->env,
        .name = node->name,
        .declared = run->spec.declared,
        .schema = run->schema,
        .options = run->spec.options,
        .format = run->spec.format,
        .on_error = run->spec.on_error,
        .kv = run->kv,
        .seed = query->checkpoint.seed,
        .until_caught_up = query->config.trigger == MR_TRIGGER_CAUGHT_UP,
        .user = run->spec.user,
    };
    enum mr_status status;

    if (run->spec.connector->receiver_open != NULL) {
        uint64_t min_last = run->end != NULL ? strtoull(run->end, NULL, 10) : 0;
        status = mr__receiver_source_open(query, run, min_last, &run->object, err);
    } else {
        status = run->spec.connector->open(&args, &run->object, err);
    }
    if (status != MR_OK)
        mr_error_prefix(err, "source '%s'", node->name);
    return status;
}

/* Directories that must not be one (J9). */

static bool has_path(const struct mr_option *options, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(options[i].name, "path") == 0)
            return true;
    }
    return false;
}

/* The path that a source or sink has as an option, or NULL. */
static const char *path_of(const struct mr_node *node)
{
    if (node->kind == MR_NODE_SOURCE &&
        has_path(node->source->spec.connector->options, node->source->spec.connector->option_count))
        return mr_options_text(node->source->spec.options, "path");
    if (node->kind == MR_NODE_SINK &&
        has_path(node->sink->spec.connector->options, node->sink->spec.connector->option_count))
        return mr_options_text(node->sink->spec.options, "path");
    return NULL;
}

/* What is not there yet is nothing else. */
static bool same_directory(struct mr_env *env, const char *a, const char *b)
{
    struct mr_file_info info_a, info_b;

    return mr_env_path_info(env, a, true, &info_a, NULL) == MR_OK &&
           mr_env_path_info(env, b, true, &info_b, NULL) == MR_OK && info_a.inode == info_b.inode &&
           info_a.device == info_b.device;
}

static bool is_below(const char *path, const char *dir)
{
    size_t size = strlen(dir);
    return strncmp(path, dir, size) == 0 && path[size] == '/';
}

/* Nothing may be written into the checkpoint, and no query may read what it writes. */
static enum mr_status check_places(struct mr_query *query, struct mr_error *err)
{
    const struct mr_graph *graph = query->graph;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        const char *path = path_of(node);

        if (path == NULL)
            continue;
        if ((query->durable && (same_directory(query->env, path, query->checkpoint.dir) ||
                                is_below(path, query->checkpoint.dir))) &&
            !MR_MUTANT("open.places.checkpoint"))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot use '%s' for '%s': it belongs to the checkpoint '%s'; give each "
                           "a directory of its own",
                           path, node->name, query->checkpoint.dir);
        for (uint32_t k = 0; node->kind == MR_NODE_SINK && k < graph->node_count; k++) {
            if (graph->nodes[k]->kind == MR_NODE_SOURCE && path_of(graph->nodes[k]) != NULL &&
                same_directory(query->env, path, path_of(graph->nodes[k])) &&
                !MR_MUTANT("open.places.own-output"))
                return MR_FAIL(err, MR_CONFIG,
                               "cannot write '%s' to '%s': source '%s' reads it, and would read "
                               "what the query writes; use another directory",
                               node->name, path, graph->nodes[k]->name);
        }
    }
    return MR_OK;
}

void mr__choose_source_ops(struct mr_graph *graph)
{
    for (uint32_t i = 0; i < graph->node_count; i++) {
        struct mr_source_run *run = graph->nodes[i]->source;
        if (graph->nodes[i]->kind != MR_NODE_SOURCE)
            continue;
        run->ops = run->spec.connector->receiver_open != NULL ? &mr__receiver_source_ops
                                                              : run->spec.connector->ops;
    }
}

/* ---- A batch that another version of the query planned ---- */

enum { TAKEN_OVER_BYTES_MAX = 100 };
static const char taken_over_name[] = "taken-over";

/* "17 00c0ffee...": the batch and the fingerprint of the query that took it over. Other batches'
 * are of no interest. */
static enum mr_status read_taken_over(struct mr_query *query, uint64_t *fingerprint,
                                      struct mr_error *err)
{
    char *path = mr_asprintf("%s/%s", query->checkpoint.dir, taken_over_name);
    char *text = NULL, *rest = NULL;
    struct mr_error own = {0};
    size_t size;
    enum mr_status status;

    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the checkpoint: out of memory");
    status = mr_durable_get(query->env, path, TAKEN_OVER_BYTES_MAX, &text, &size, &own);
    mr_free(path);
    if (status == MR_NOT_FOUND)
        return MR_OK;
    if (status != MR_OK) {
        if (err != NULL)
            *err = own;
        return status;
    }
    if (strtoull(text, &rest, 10) == query->plan.batch_id)
        *fingerprint = strtoull(rest, NULL, 16);
    mr_text_free(text);
    return MR_OK;
}

static enum mr_status write_taken_over(struct mr_query *query, struct mr_error *err)
{
    char *text = mr_asprintf("%llu %016llx\n", (unsigned long long)query->plan.batch_id,
                             (unsigned long long)query->fingerprint);
    enum mr_status status;

    if (text == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the checkpoint: out of memory");
    status = mr_durable_put(query->env, query->checkpoint.dir, taken_over_name, text, strlen(text),
                            false, err);
    mr_free(text);
    return status;
}

/*
 * A batch that a sink has published is what the query of then made of it, and so must the state be:
 * that query has to finish it. One that nobody has published is made by this query; that is written
 * down before it is published, as the PLAN still has the fingerprint of the other one.
 *
 * DStream programs keep their rule: their functions cannot be compared.
 */
static enum mr_status check_pending(struct mr_query *query, struct mr_error *err)
{
    uint64_t fingerprint = query->plan.graph_fingerprint;

    if (!query->has_plan || query->config.on_change == MR_ON_CHANGE_KEEP)
        return MR_OK;
    MR_TRY(read_taken_over(query, &fingerprint, err));
    if (fingerprint == query->fingerprint)
        return MR_OK;
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_node *node = query->graph->nodes[i];

        if (node->kind == MR_NODE_SINK &&
            node->sink->last_published >= (int64_t)query->plan.batch_id &&
            !MR_MUTANT("open.pending.published"))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot go on from checkpoint '%.200s': sink '%.60s' has batch %llu as "
                           "the query made it before it was edited, and the state does not yet; "
                           "run the old query once more (millrace run --once), then the new one",
                           query->checkpoint.dir, node->name,
                           (unsigned long long)query->plan.batch_id);
    }
    return MR_MUTANT("open.pending.note") ? MR_OK : write_taken_over(query, err);
}

static enum mr_status open_all(struct mr_query *query, struct mr_recovered *recovered,
                               struct mr_error *err)
{
    struct mr_graph *graph = query->graph;

    if (query->durable &&
        strspn(query->config.checkpoint_dir, "/.") == strlen(query->config.checkpoint_dir))
        return MR_FAIL(err, MR_CONFIG, "cannot use '%s' as checkpoint: name a directory of its own",
                       query->config.checkpoint_dir);
    if (query->durable)
        MR_TRY(open_log(query, recovered, err));
    else
        make_uuid_text(query->env, query->checkpoint.query_id, query->checkpoint.query_id_text);
    MR_TRY(mr__workers_new(query->config.workers, query->config.workers_max, &query->workers, err));
    MR_TRY(open_state(query, recovered, err));
    MR_TRY(adopt_recovered(query, recovered, err));
    if (query->config.trigger == MR_TRIGGER_TICK && !recovered->has_plan)
        query->last_batch_time_us = query->zero_time_us;
    mr__choose_source_ops(graph);
    MR_TRY(check_places(query, err));
    MR_TRY(compare_and_open(query, recovered, err));
    if (query->durable)
        MR_TRY(mr__manifest_write(graph, query->state, err));
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == MR_NODE_SINK)
            MR_TRY(open_sink(query, graph->nodes[i], err));
    }
    MR_TRY(check_pending(query, err));
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == MR_NODE_SOURCE)
            MR_TRY(open_source(query, graph->nodes[i], err));
    }
    if (query->config.concurrent_outputs > 1)
        MR_TRY(mr__workers_new(query->config.concurrent_outputs, query->config.concurrent_outputs,
                               &query->publishers, err));
    return MR_OK;
}

/* The process's memory, when nobody said how much, and this query's shares of it. */
static void take_memory(struct mr_query *query)
{
    struct mr_query_config *config = &query->config;
    const char *what;

    /* A simulated world is the same on every machine. */
    if (mr_memory_bytes() == 0 && !query->env->ops->virtual_time) {
        uint64_t limit = mr_memory_of_machine(&what);

        mr_memory_set(MR_MAX(limit / 4 * 3, (uint64_t)MR_MEMORY_BYTES_MIN), false);
        mr_log(MR_LOG_DEBUG, "core", query->name, -1, "memory: %llu MiB, of the %s's %llu MiB",
               (unsigned long long)(mr_memory_bytes() >> 20), what,
               (unsigned long long)(limit >> 20));
    }
    /* A tick's batch has all that came in its interval: what waits must fit. */
    config->receiver_queue_bytes =
        mr_memory_part(config->trigger == MR_TRIGGER_TICK ? 32 : 8, config->receiver_queue_bytes);
    config->received_memory_bytes = mr_memory_part(16, config->received_memory_bytes);
}

enum mr_status mr__query_open_parts(struct mr_query *query, struct mr_error *err)
{
    struct mr_recovered recovered = {0};
    uint8_t run_id[16];
    enum mr_status status;

    take_memory(query);
    query->durable = query->config.checkpoint_dir != NULL;
    query->fingerprint = mr_graph_fingerprint(query->graph);
    if (query->config.workers == 0)
        query->config.workers = mr_cpu_count();
    query->config.workers_max = MR_MAX(query->config.workers_max, query->config.workers);
    atomic_init(&query->wanted_workers, query->config.workers);
    make_uuid_text(query->env, run_id, query->run_id);
    status = open_all(query, &recovered, err);
    mr_recovered_release(&recovered);
    return status;
}

void mr__query_close_parts(struct mr_query *query)
{
    for (uint32_t i = 0; query->graph != NULL && i < query->graph->node_count; i++) {
        struct mr_node *node = query->graph->nodes[i];
        if (node->kind == MR_NODE_SOURCE && node->source->object != NULL)
            node->source->ops->stop(node->source->object);
        if (node->kind == MR_NODE_SINK && node->sink->object != NULL) {
            if (node->sink->begun)
                node->sink->spec.connector->ops->abort(node->sink->object);
            node->sink->spec.connector->ops->close(node->sink->object);
        }
    }
    mr__workers_free(query->workers);
    mr__workers_free(query->publishers);
    mr_state_close(query->state);
    mr_batch_log_close(query->log);
    mr_plan_release(&query->plan);
    if (query->durable)
        mr_checkpoint_release(&query->checkpoint);
}
