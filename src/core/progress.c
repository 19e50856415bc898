/*
 * The progress document of a batch: field names and order of structured.md 22.1, so that what reads
 * Spark's reads ours.
 *
 * After each batch the driver notes its numbers (struct mr_report, a few dozen words and the
 * offsets); the document is made from them when somebody listens or asks.
 *
 * Thread: mr__progress_report: driver. The report is guarded by query->lock, which its readers
 * take.
 */
#include "core/internal.h"

#include "base/json.h"
#include "base/log.h"
#include "base/time_text.h"

#include <math.h>
#include <string.h>

static void add_time(struct mr_json_out *out, const char *key, int64_t us)
{
    char text[MR_TIME_TEXT_BYTES];

    mr_timestamp_print_ms(us, text);
    mr_json_add_string(out, key, text);
}

/* Rows a second with one decimal, halves up; 0 when there was no trigger before. */
static void add_rate(struct mr_json_out *out, const char *key, uint64_t rows, int64_t duration_us)
{
    double rate = duration_us > 0 ? (double)rows * 1e6 / (double)duration_us : 0.0;

    mr_json_add_double(out, key, floor(rate * 10 + 0.5) / 10, 1);
}

static void add_event_time(struct mr_json_out *out, const struct mr_report *report)
{
    if (!report->has_watermark)
        return;
    mr_json_begin_object(out, "eventTime");
    if (report->has_events) {
        add_time(out, "avg", report->event_avg_us);
        add_time(out, "max", report->event_max_us);
        add_time(out, "min", report->event_min_us);
    }
    add_time(out, "watermark", report->watermark_us == INT64_MIN ? 0 : report->watermark_us);
    mr_json_end_object(out);
}

static void add_fold(struct mr_json_out *out, const struct mr_query *query,
                     const struct mr_node *node)
{
    const struct mr_report_node *numbers = &query->report.nodes[node->id];
    const struct mr_fold_progress *progress = &numbers->fold.progress;

    mr_json_begin_object(out, NULL);
    mr_json_add_string(out, "operatorName", node->name);
    mr_json_add_int(out, "numRowsTotal", (int64_t)progress->rows_total);
    mr_json_add_int(out, "numRowsUpdated", (int64_t)progress->rows_updated);
    mr_json_add_int(out, "allUpdatesTimeMs", numbers->fold.run_us / 1000);
    mr_json_add_int(out, "numRowsRemoved", (int64_t)progress->rows_removed);
    /* removals are part of the operator's run; state of all operators is committed at once */
    mr_json_add_int(out, "allRemovalsTimeMs", 0);
    mr_json_add_int(out, "commitTimeMs", query->report.commit_us / 1000);
    mr_json_add_int(out, "memoryUsedBytes", (int64_t)progress->bytes);
    mr_json_add_int(out, "numRowsDroppedByWatermark", (int64_t)numbers->late_rows);
    mr_json_add_int(out, "numShufflePartitions", MR_KEY_GROUPS);
    mr_json_add_int(out, "numStateStoreInstances", progress->store_count);
    if (progress->metric_count > 0)
        mr_json_begin_object(out, "customMetrics");
    for (size_t k = 0; k < progress->metric_count; k++)
        mr_json_add_int(out, progress->metrics[k].name, progress->metrics[k].value);
    if (progress->metric_count > 0)
        mr_json_end_object(out);
    mr_json_add_string(out, "kind", node->fold->kind);
    mr_json_end_object(out);
}

static void add_state(struct mr_json_out *out, const struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;

    mr_json_begin_array(out, "stateOperators");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == MR_NODE_FOLD && query->report.nodes[i].fold.has_state)
            add_fold(out, query, graph->nodes[i]);
    }
    mr_json_end_array(out);
}

/* Offsets are JSON values when they are JSON, else strings; null when there is none yet. */
static void add_offset(struct mr_json_out *out, const char *key, const char *offset)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;

    if (offset != NULL && mr_json_parse(offset, strlen(offset), &arena, &json, NULL) == MR_OK)
        mr_json_add_raw(out, key, offset);
    else
        mr_json_add_string(out, key, offset);
    mr_arena_release(&arena);
}

static void add_source_metrics(struct mr_json_out *out, const struct mr_report *report,
                               const struct mr_report_source *source)
{
    mr_json_begin_object(out, "metrics");
    if (source->rows_behind >= 0)
        mr_json_add_int(out, "rowsBehind", source->rows_behind);
    if (source->newest_us != INT64_MIN)
        mr_json_add_double(
            out, "lagSeconds",
            (double)MR_MAX(report->reported_us - source->newest_us, (int64_t)0) / 1e6, 3);
    mr_json_add_int(out, "badRows", (int64_t)source->bad_rows);
    if (source->description != NULL && source->description[0] != '\0')
        mr_json_add_string(out, "rangeDescription", source->description);
    mr_json_end_object(out);
}

static void add_sources(struct mr_json_out *out, const struct mr_query *query)
{
    const struct mr_report *report = &query->report;

    mr_json_begin_array(out, "sources");
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_report_source *source = &report->nodes[i].source;

        if (query->graph->nodes[i]->kind != MR_NODE_SOURCE)
            continue;
        mr_json_begin_object(out, NULL);
        mr_json_add_string(out, "description", query->graph->nodes[i]->name);
        add_offset(out, "startOffset", source->start);
        add_offset(out, "endOffset", source->end);
        add_offset(out, "latestOffset", source->latest);
        mr_json_add_int(out, "numInputRows", (int64_t)source->rows);
        add_rate(out, "inputRowsPerSecond", source->rows, report->since_us);
        add_rate(out, "processedRowsPerSecond", source->rows, MR_MAX(report->duration_us, 1000));
        add_source_metrics(out, report, source);
        mr_json_end_object(out);
    }
    mr_json_end_array(out);
}

/* Each watermark operator with its own watermark, and whose is the one in force (issue B11). */
static void add_watermarks(struct mr_json_out *out, const struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;
    bool takes_max = query->config.watermark_policy_max;
    const struct mr_node *holder = NULL;

    if (!query->report.has_watermark)
        return;
    mr_json_begin_object(out, "watermarks");
    mr_json_add_string(out, "policy", takes_max ? "max" : "min");
    mr_json_begin_array(out, "operators");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        const struct mr_report_watermark *watermark = &query->report.nodes[i].watermark;
        int64_t held_us =
            holder != NULL ? query->report.nodes[holder->id].watermark.watermark_us : 0;

        if (!node->is_watermark)
            continue;
        if (!watermark->is_idle &&
            (holder == NULL ||
             (takes_max ? watermark->watermark_us > held_us : watermark->watermark_us < held_us)))
            holder = node;
        mr_json_begin_object(out, NULL);
        mr_json_add_string(out, "operator", node->name);
        mr_json_add_string(out, "source", watermark->source);
        if (watermark->watermark_us == INT64_MIN)
            mr_json_add_string(out, "watermark", NULL);
        else
            add_time(out, "watermark", watermark->watermark_us);
        mr_json_add_double(out, "delaySeconds", (double)watermark->delay_us / 1e6, -1);
        if (watermark->is_idle)
            mr_json_add_bool(out, "idle", true);
        mr_json_end_object(out);
    }
    mr_json_end_array(out);
    if (holder != NULL) {
        const char *source = query->report.nodes[holder->id].watermark.source;

        mr_json_add_string(out, takes_max ? "ledBy" : "heldBackBy",
                           source != NULL ? source : holder->name);
    }
    mr_json_end_object(out);
}

static void add_dropped(struct mr_json_out *out, const char *operator, const char * reason,
                        uint64_t rows)
{
    if (rows == 0)
        return;
    mr_json_begin_object(out, NULL);
    mr_json_add_string(out, "operator", operator);
    mr_json_add_string(out, "reason", reason);
    mr_json_add_int(out, "rows", (int64_t)rows);
    mr_json_end_object(out);
}

/* Rows of the batch that went no further, by operator and reason (issue B3). */
static void add_all_dropped(struct mr_json_out *out, const struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;

    mr_json_begin_array(out, "droppedRows");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_report_node *numbers = &query->report.nodes[i];

        add_dropped(out, graph->nodes[i]->name, "late", numbers->late_rows);
        if (graph->nodes[i]->kind == MR_NODE_SOURCE)
            add_dropped(out, graph->nodes[i]->name, "bad", numbers->source.bad_rows);
    }
    mr_json_end_array(out);
}

static void add_sinks(struct mr_json_out *out, const struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;
    bool first = true;

    /* One sink: "sink", as Spark has it; further ones in "sinks". */
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_report_sink *sink = &query->report.nodes[i].sink;

        if (graph->nodes[i]->kind != MR_NODE_SINK)
            continue;
        mr_json_begin_object(out, first ? "sink" : NULL);
        mr_json_add_string(out, "description", graph->nodes[i]->name);
        mr_json_add_int(out, "numOutputRows", (int64_t)sink->rows);
        if (sink->receipt != NULL)
            mr_json_add_string(out, "receipt", sink->receipt);
        mr_json_end_object(out);
        if (first)
            mr_json_begin_array(out, "sinks");
        first = false;
    }
    if (!first)
        mr_json_end_array(out);
}

/* Since the query was opened; docs/metrics.md lists them. */
static void add_metrics(struct mr_json_out *out, const struct mr_metrics *metrics)
{
    mr_json_begin_object(out, "metrics");
    for (enum mr_metric i = 0; i < MR_METRIC_COUNT; i++)
        mr_json_add_int(out, mr_metric_infos[i].name, mr_metric_get(metrics, i));
    mr_json_end_object(out);
}

/* The caller holds query->lock, or is the driver, who alone changes the report. */
/* The batch that runs while somebody asks, when it takes long: what it is in. */
static void add_running(struct mr_json_out *out, struct mr_query *query)
{
    struct mr_doing_now now;

    if (!mr_doings_now(&query->doings, &now) || now.batch_us < RUNNING_TOLD_US)
        return;
    mr_json_begin_object(out, "running");
    mr_json_add_int(out, "batchId", (int64_t)now.batch_id);
    mr_json_add_int(out, "durationMs", now.batch_us / 1000);
    if (now.what[0] != '\0') {
        mr_json_add_string(out, "in", now.what);
        mr_json_add_int(out, "inMs", now.what_us / 1000);
    }
    mr_json_end_object(out);
}

static void write_document(struct mr_buf *text, struct mr_query *query)
{
    const struct mr_report *report = &query->report;
    struct mr_json_out out = {text, false};

    mr_json_begin_object(&out, NULL);
    mr_json_add_string(&out, "id", query->checkpoint.query_id_text);
    mr_json_add_string(&out, "runId", query->run_id);
    mr_json_add_string(&out, "name", query->config.name != NULL ? query->name : NULL);
    add_time(&out, "timestamp", report->timestamp_us);
    mr_json_add_int(&out, "batchId", (int64_t)report->batch_id);
    mr_json_add_int(&out, "batchDuration", report->duration_us / 1000);
    mr_json_add_int(&out, "numInputRows", (int64_t)report->input_rows);
    add_rate(&out, "inputRowsPerSecond", report->input_rows, report->since_us);
    add_rate(&out, "processedRowsPerSecond", report->input_rows, MR_MAX(report->duration_us, 1000));
    mr_json_begin_object(&out, "durationMs");
    mr_json_add_int(&out, "addBatch", report->run_us / 1000);
    mr_json_add_int(&out, "commitOffsets", report->commit_us / 1000);
    mr_json_add_int(&out, "getBatch", 0); /* part of addBatch: tasks read */
    mr_json_add_int(&out, "latestOffset", report->plan_us / 1000);
    mr_json_add_int(&out, "queryPlanning", 0); /* once, when the query starts */
    mr_json_add_int(&out, "triggerExecution", report->duration_us / 1000);
    mr_json_add_int(&out, "walCommit", report->log_us / 1000);
    mr_json_end_object(&out);
    add_event_time(&out, report);
    add_state(&out, query);
    add_sources(&out, query);
    add_sinks(&out, query);
    add_watermarks(&out, query);
    add_all_dropped(&out, query);
    add_metrics(&out, &query->metrics);
    add_running(&out, query);
    mr_json_end_object(&out);
}

char *mr_query_offsets_json(const struct mr_query *query, bool ends)
{
    struct mr_buf text = MR_BUF_INIT;
    struct mr_json_out out = {&text, false};

    mr_json_begin_object(&out, NULL);
    for (uint32_t i = 0; i < query->graph->node_count; i++) {
        const struct mr_source_run *run = query->graph->nodes[i]->source;

        if (query->graph->nodes[i]->kind == MR_NODE_SOURCE)
            add_offset(&out, query->graph->nodes[i]->name, ends ? run->end : run->start);
    }
    mr_json_end_object(&out);
    return mr_buf_take(&text);
}

/* Taking the numbers: driver, without query->lock, which a source may take to wake the driver. */

static void report_release(const struct mr_query *query, struct mr_report *report)
{
    for (uint32_t i = 0; report->nodes != NULL && i < query->graph->node_count; i++) {
        struct mr_report_node *node = &report->nodes[i];

        if (query->graph->nodes[i]->kind == MR_NODE_SOURCE) {
            mr_free(node->source.start);
            mr_free(node->source.end);
            mr_text_free(node->source.latest);
            mr_text_free(node->source.description);
        } else if (query->graph->nodes[i]->kind == MR_NODE_SINK) {
            mr_free(node->sink.receipt);
        }
    }
    mr_free(report->nodes);
    *report = (struct mr_report){0};
}

/* A copy of an offset; without memory it is left out of the report. */
static char *copy_of(const char *text)
{
    return text != NULL ? mr_strdup(text) : NULL;
}

static void take_source(const struct mr_source_run *run, bool is_idle,
                        struct mr_report_source *ret_source)
{
    struct mr_source_stats stats = {.rows_behind = -1, .newest_us = INT64_MIN};

    if (run->ops->stats != NULL)
        run->ops->stats(run->object, run->start, &stats);
    ret_source->start = copy_of(is_idle ? run->start : run->previous);
    ret_source->end = copy_of(run->start);
    ret_source->latest = stats.latest_offset != NULL ? stats.latest_offset : copy_of(run->start);
    ret_source->rows_behind = stats.rows_behind;
    ret_source->newest_us = stats.newest_us;
    ret_source->rows = is_idle ? 0 : run->rows;
    ret_source->bad_rows = is_idle ? 0 : run->bad_rows;
    if (!is_idle && run->start != NULL && MR_SOURCE_HAS(run->ops, describe) &&
        (run->previous == NULL || strcmp(run->previous, run->start) != 0))
        ret_source->description = run->ops->describe(run->object, run->previous, run->start);
}

static void store_progress(const struct mr_store *store, struct mr_fold_progress *ret_progress)
{
    struct mr_store_stats stats;

    mr_store_stats(store, &stats);
    ret_progress->rows_total = mr_store_count(store);
    ret_progress->rows_updated = stats.updated;
    ret_progress->rows_removed = stats.removed;
    ret_progress->bytes = mr_store_bytes(store);
    ret_progress->store_count = 1;
}

static void take_fold(const struct mr_node *node, bool is_idle, struct mr_report_fold *ret_fold)
{
    struct mr_store *store = node->fold->store != NULL ? node->fold->store(node->op) : NULL;
    struct mr_fold_progress *progress = &ret_fold->progress;

    ret_fold->has_state = store != NULL || node->fold->progress != NULL;
    if (node->fold->progress != NULL)
        node->fold->progress(node->op, progress);
    else if (store != NULL)
        store_progress(store, progress);
    if (is_idle) {
        progress->rows_updated = progress->rows_removed = 0;
        for (size_t i = 0; i < progress->metric_count; i++)
            progress->metrics[i].value = 0;
    }
    ret_fold->run_us = is_idle ? 0 : node->run_us;
}

static void take_events(const struct mr_node *node, struct mr_report *report)
{
    report->has_watermark = true;
    if (node->event_count == 0 || report->has_events)
        return;
    report->has_events = true;
    report->event_avg_us = (int64_t)(node->event_sum_us / (double)node->event_count);
    report->event_min_us = node->event_min_us;
    report->event_max_us = node->event_max_us;
}

static void take_watermark(const struct mr_query *query, const struct mr_node *node,
                           struct mr_report_watermark *ret_watermark)
{
    const struct mr_source_run *run = mr__watermark_source(node);

    *ret_watermark = (struct mr_report_watermark){.source = run != NULL ? run->node->name : NULL,
                                                  .watermark_us = node->watermark_us,
                                                  .delay_us = node->watermark_delay_us,
                                                  .is_idle = mr__watermark_is_idle(query, node)};
}

/* The newest event of a source's rows, where a watermark operator has seen it. */
static void take_newest(const struct mr_node *node, struct mr_report_node *nodes)
{
    const struct mr_source_run *run = mr__watermark_source(node);
    struct mr_report_source *source;

    if (run == NULL || node->watermark_us == INT64_MIN)
        return;
    source = &nodes[run->node->id].source;
    source->newest_us = MR_MAX(source->newest_us, node->watermark_us + node->watermark_delay_us);
}

static void take_report(const struct mr_query *query, bool is_idle, int64_t duration_us,
                        struct mr_report *ret_report)
{
    const struct mr_graph *graph = query->graph;
    struct mr_report_node *nodes = mr_alloc_zero(NULL, (graph->node_count + 1) * sizeof(*nodes));

    *ret_report = (struct mr_report){
        .batch_id = is_idle ? query->next_batch : query->next_batch - 1,
        .timestamp_us = query->trigger_start_us,
        .reported_us = mr_env_wall_us(query->env),
        .since_us = query->previous_trigger_start_us == 0
                        ? 0
                        : query->trigger_start_us - query->previous_trigger_start_us,
        .duration_us = duration_us,
        .plan_us = query->duration_plan_us,
        .log_us = is_idle ? 0 : query->duration_log_us,
        .run_us = is_idle ? 0 : query->duration_run_us,
        .commit_us = is_idle ? 0 : query->duration_commit_us,
        .input_rows = is_idle ? 0 : query->batch_input_rows,
        /* of the batch just done: the plan may be the next one's already */
        .watermark_us = query->last_watermark_us,
        .nodes = nodes,
    };
    for (uint32_t i = 0; nodes != NULL && i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];

        nodes[i].late_rows = is_idle ? 0 : node->late_rows;
        if (node->kind == MR_NODE_SOURCE)
            take_source(node->source, is_idle, &nodes[i].source);
        if (node->kind == MR_NODE_FOLD)
            take_fold(node, is_idle, &nodes[i].fold);
        if (node->kind == MR_NODE_SINK) {
            nodes[i].sink.rows = is_idle ? 0 : node->sink->rows;
            nodes[i].sink.receipt = copy_of(node->sink->receipt);
        }
        if (node->is_watermark) {
            take_events(node, ret_report);
            take_watermark(query, node, &nodes[i].watermark);
            take_newest(node, nodes); /* sources come before */
        }
    }
}

static void update_gauges(struct mr_query *query)
{
    struct mr_state_totals totals;

    mr_state_totals(query->state, &totals);
    mr_metric_set(&query->metrics, MR_METRIC_STATE_KEYS, (int64_t)totals.key_count);
    mr_metric_set(&query->metrics, MR_METRIC_STATE_BYTES, (int64_t)totals.memory_bytes);
    mr_metric_set(&query->metrics, MR_METRIC_STATE_MEMORY_BYTES, (int64_t)mr_state_memory_bytes());
    mr_metric_set(&query->metrics, MR_METRIC_STATE_SPILLED_BYTES,
                  (int64_t)mr_state_spilled_bytes());
    mr_metric_set(&query->metrics, MR_METRIC_MEMORY_BYTES, (int64_t)mr_budget_used(NULL));
    mr_metric_set(&query->metrics, MR_METRIC_SNAPSHOTS, (int64_t)totals.snapshots_written);
    mr_metric_set(&query->metrics, MR_METRIC_WATERMARK_US, query->watermark_us);
    mr_metric_set(&query->metrics, MR_METRIC_LOG_LINES_LOST, (int64_t)mr_log_dropped());
}

static void tell_listener(struct mr_query *query, bool is_idle, int64_t duration_us)
{
    struct mr_buf text = MR_BUF_INIT;
    char *json;

    write_document(&text, query);
    json = mr_buf_take(&text);
    if (json == NULL)
        /* a report that does not fit into memory is no reason to stop a batch that is committed */
        return;
    struct mr_progress progress = {
        .json = json,
        .batch_id = query->report.batch_id,
        .batch_time_us = query->last_batch_time_us,
        .input_rows = is_idle ? 0 : query->batch_input_rows,
        .output_rows = is_idle ? 0 : query->batch_output_rows,
        .late_rows = is_idle ? 0 : query->batch_late_rows,
        .bad_rows = is_idle ? 0 : query->batch_bad_rows,
        .watermark_us = query->watermark_us,
        .duration_us = duration_us,
        .state_keys = (uint64_t)mr_metric_get(&query->metrics, MR_METRIC_STATE_KEYS),
        .idle = is_idle,
    };
    query->config.on_progress(query->config.on_progress_arg, &progress);
    mr_free(json);
}

void mr__progress_report(struct mr_query *query, bool is_idle)
{
    int64_t now_us = mr_env_wall_us(query->env);
    int64_t duration_us = is_idle ? 0 : MR_MAX(now_us - query->trigger_start_us, (int64_t)0);
    struct mr_report report, old;

    update_gauges(query);
    query->last_progress_us = now_us;
    take_report(query, is_idle, duration_us, &report);
    mr_mutex_lock(&query->lock);
    old = query->report;
    query->report = report;
    mr_mutex_unlock(&query->lock);
    report_release(query, &old);
    if (query->config.on_progress != NULL && query->report.nodes != NULL)
        tell_listener(query, is_idle, duration_us);
}

void mr__progress_release(struct mr_query *query)
{
    report_release(query, &query->report);
}

char *mr_query_last_progress(struct mr_query *query)
{
    struct mr_buf text = MR_BUF_INIT;
    bool any;

    mr_mutex_lock(&query->lock);
    any = query->report.nodes != NULL;
    if (any)
        write_document(&text, query);
    mr_mutex_unlock(&query->lock);
    return any ? mr_buf_take(&text) : NULL;
}
