/*
 * The progress document of a batch: field names and order of structured.md 22.1, so that what reads
 * Spark's reads ours.
 *
 * Thread: driver; the copy in query->last_progress is guarded by query->lock.
 */
#include "core/internal.h"

#include "base/json.h"
#include "base/time_text.h"

#include <string.h>

static void add_time(struct mr_json_out *out, const char *key, int64_t us)
{
    char text[MR_TIME_TEXT_BYTES];

    mr_timestamp_print_ms(us, text);
    mr_json_add_string(out, key, text);
}

static double per_second(uint64_t rows, int64_t duration_us)
{
    return duration_us > 0 ? (double)rows * 1e6 / (double)duration_us : 0.0;
}

static void add_event_time(struct mr_json_out *out, const struct mr_query *query)
{
    const struct mr_graph *graph = query->graph;
    const struct mr_node *seen = NULL;
    bool any = false;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        any |= node->is_watermark;
        if (node->is_watermark && node->event_count > 0 && seen == NULL)
            seen = node;
    }
    if (!any)
        return;
    mr_json_begin_object(out, "eventTime");
    if (seen != NULL) {
        add_time(out, "avg", (int64_t)(seen->event_sum_us / (double)seen->event_count));
        add_time(out, "max", seen->event_max_us);
        add_time(out, "min", seen->event_min_us);
    }
    add_time(out, "watermark",
             query->plan.watermark_us == INT64_MIN ? 0 : query->plan.watermark_us);
    mr_json_end_object(out);
}

static void add_state(struct mr_json_out *out, const struct mr_query *query, bool is_idle)
{
    const struct mr_graph *graph = query->graph;

    mr_json_begin_array(out, "stateOperators");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        struct mr_store *store = node->kind == MR_NODE_FOLD && node->fold->store != NULL
                                     ? node->fold->store(node->op)
                                     : NULL;
        struct mr_store_stats stats = {0};

        if (store == NULL)
            continue;
        mr_store_stats(store, &stats);
        mr_json_begin_object(out, NULL);
        mr_json_add_string(out, "operatorName", node->name);
        mr_json_add_int(out, "numRowsTotal", (int64_t)mr_store_count(store));
        mr_json_add_int(out, "numRowsUpdated", is_idle ? 0 : (int64_t)stats.updated);
        mr_json_add_int(out, "numRowsRemoved", is_idle ? 0 : (int64_t)stats.removed);
        mr_json_add_int(out, "memoryUsedBytes", (int64_t)mr_store_bytes(store));
        mr_json_add_int(out, "numRowsDroppedByWatermark", is_idle ? 0 : (int64_t)node->late_rows);
        mr_json_add_int(out, "numShufflePartitions", MR_KEY_GROUPS);
        mr_json_end_object(out);
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

static const char *planned_start(const struct mr_query *query, const char *name)
{
    for (uint32_t i = 0; i < query->plan.source_count; i++) {
        if (strcmp(query->plan.sources[i].name, name) == 0)
            return query->plan.sources[i].start;
    }
    return NULL;
}

static void add_sources(struct mr_json_out *out, const struct mr_query *query, bool is_idle)
{
    const struct mr_graph *graph = query->graph;
    int64_t since_us = query->trigger_start_us - query->previous_trigger_start_us;

    mr_json_begin_array(out, "sources");
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        struct mr_source_stats stats = {.rows_behind = -1};
        uint64_t rows;

        if (node->kind != MR_NODE_SOURCE)
            continue;
        rows = is_idle ? 0 : node->source->rows;
        if (node->source->ops->stats != NULL)
            node->source->ops->stats(node->source->object, node->source->start, &stats);
        mr_json_begin_object(out, NULL);
        mr_json_add_string(out, "description", node->name);
        add_offset(out, "startOffset",
                   is_idle ? node->source->start : planned_start(query, node->name));
        add_offset(out, "endOffset", node->source->start);
        add_offset(out, "latestOffset",
                   stats.latest_offset != NULL ? stats.latest_offset : node->source->start);
        mr_json_add_int(out, "numInputRows", (int64_t)rows);
        mr_json_add_double(out, "inputRowsPerSecond",
                           query->previous_trigger_start_us == 0 ? 0.0 : per_second(rows, since_us),
                           1);
        mr_json_add_double(out, "processedRowsPerSecond",
                           per_second(rows, MR_MAX(query->duration_run_us, 1000)), 1);
        mr_json_begin_object(out, "metrics");
        if (stats.rows_behind >= 0)
            mr_json_add_int(out, "rowsBehind", stats.rows_behind);
        mr_json_add_int(out, "badRows", is_idle ? 0 : (int64_t)node->source->bad_rows);
        mr_json_end_object(out);
        mr_json_end_object(out);
        mr_text_free(stats.latest_offset);
    }
    mr_json_end_array(out);
}

static void add_sinks(struct mr_json_out *out, const struct mr_query *query, bool is_idle)
{
    const struct mr_graph *graph = query->graph;
    bool first = true;

    /* One sink: "sink", as Spark has it; further ones in "sinks". */
    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        if (node->kind != MR_NODE_SINK)
            continue;
        if (first) {
            mr_json_begin_object(out, "sink");
        } else {
            mr_json_begin_object(out, NULL);
        }
        mr_json_add_string(out, "description", node->name);
        mr_json_add_int(out, "numOutputRows", is_idle ? 0 : (int64_t)node->sink->rows);
        if (node->sink->receipt != NULL)
            mr_json_add_string(out, "receipt", node->sink->receipt);
        mr_json_end_object(out);
        if (first)
            mr_json_begin_array(out, "sinks");
        first = false;
    }
    if (!first)
        mr_json_end_array(out);
}

static void write_document(struct mr_buf *text, const struct mr_query *query, bool is_idle,
                           int64_t duration_us)
{
    struct mr_json_out out = {text, false};
    uint64_t rows = is_idle ? 0 : query->batch_input_rows;
    int64_t since_us = query->trigger_start_us - query->previous_trigger_start_us;

    mr_json_begin_object(&out, NULL);
    mr_json_add_string(&out, "id", query->checkpoint.query_id_text);
    mr_json_add_string(&out, "runId", query->run_id);
    mr_json_add_string(&out, "name", query->name);
    add_time(&out, "timestamp", query->trigger_start_us);
    mr_json_add_int(&out, "batchId",
                    (int64_t)(is_idle ? query->next_batch : query->next_batch - 1));
    mr_json_add_int(&out, "batchDuration", duration_us / 1000);
    mr_json_add_int(&out, "numInputRows", (int64_t)rows);
    mr_json_add_double(&out, "inputRowsPerSecond",
                       query->previous_trigger_start_us == 0 ? 0.0 : per_second(rows, since_us), 1);
    mr_json_add_double(&out, "processedRowsPerSecond", per_second(rows, MR_MAX(duration_us, 1000)),
                       1);
    mr_json_begin_object(&out, "durationMs");
    mr_json_add_int(&out, "addBatch", is_idle ? 0 : query->duration_run_us / 1000);
    mr_json_add_int(&out, "commitOffsets", is_idle ? 0 : query->duration_commit_us / 1000);
    mr_json_add_int(&out, "latestOffset", query->duration_plan_us / 1000);
    mr_json_add_int(&out, "triggerExecution", duration_us / 1000);
    mr_json_add_int(&out, "walCommit", is_idle ? 0 : query->duration_log_us / 1000);
    mr_json_end_object(&out);
    add_event_time(&out, query);
    add_state(&out, query, is_idle);
    add_sources(&out, query, is_idle);
    add_sinks(&out, query, is_idle);
    mr_json_end_object(&out);
}

static void update_gauges(struct mr_query *query)
{
    struct mr_state_totals totals;

    mr_state_totals(query->state, &totals);
    mr_metric_set(&query->metrics, MR_METRIC_STATE_KEYS, (int64_t)totals.key_count);
    mr_metric_set(&query->metrics, MR_METRIC_STATE_BYTES, (int64_t)totals.memory_bytes);
    mr_metric_set(&query->metrics, MR_METRIC_SNAPSHOTS, (int64_t)totals.snapshots_written);
    mr_metric_set(&query->metrics, MR_METRIC_WATERMARK_US, query->watermark_us);
}

/* Nobody listens and nobody asked for the last document: then it is not made (a batch can be
 * cheaper than its report). */
void mr__progress_report(struct mr_query *query, bool is_idle)
{
    int64_t now_us = mr_env_wall_us(query->env);
    int64_t duration_us = is_idle ? 0 : MR_MAX(now_us - query->trigger_start_us, (int64_t)0);
    struct mr_buf text = MR_BUF_INIT;
    char *json;

    update_gauges(query);
    query->last_progress_us = now_us;
    if (query->config.on_progress == NULL)
        return;
    write_document(&text, query, is_idle, duration_us);
    json = mr_buf_take(&text);
    if (json == NULL)
        /* a report that does not fit into memory is no reason to stop a batch that is committed */
        return;
    struct mr_progress progress = {
        .json = json,
        .batch_id = is_idle ? query->next_batch : query->next_batch - 1,
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
    mr_mutex_lock(&query->lock);
    mr_free(query->last_progress);
    query->last_progress = json;
    mr_mutex_unlock(&query->lock);
}
