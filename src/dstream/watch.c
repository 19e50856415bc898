/*
 * What watches a context: listeners, statistics (monitor.h).
 *
 * Threads: mr_context_add_listener, mr_context_statistics: any.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/log.h"

#include <millrace/ext/options.h>
#include <millrace/ext/source.h>

#include <stdio.h>
#include <string.h>

struct mr__watch *mr__watch_new(void)
{
    struct mr__watch *watch = mr_alloc_zero(NULL, sizeof(*watch));

    if (watch == NULL)
        return NULL;
    watch->bus = mr__bus_new();
    if (watch->bus == NULL) {
        mr_free(watch);
        return NULL;
    }
    atomic_init(&watch->stop_soon, 0);
    atomic_init(&watch->stop_at_once, false);
    mr_mutex_init(&watch->lock);
    return watch;
}

void mr__watch_free(struct mr__watch *watch)
{
    if (watch == NULL)
        return;
    mr__bus_free(watch->bus);
    for (size_t i = 0; i < watch->stats_report_count; i++)
        mr__stats_report_free(watch->stats_reports[i]);
    for (size_t i = 0; i < watch->input_count; i++) {
        mr_free(watch->inputs[i].name);
        mr_free(watch->inputs[i].receiver_name);
    }
    for (size_t i = 0; watch->output_infos != NULL && i < watch->batch.output_count; i++)
        mr_free((char *)(uintptr_t)watch->output_infos[i].failure);
    mr_free(watch->inputs);
    mr_free(watch->input_infos);
    mr_free(watch->output_infos);
    mr_free(watch->failure);
    mr_mutex_release(&watch->lock);
    mr_free(watch);
}

/* ---- names ---- */

static const struct {
    const char *operation;
    const char *stream;   /* IN-1 */
    const char *receiver; /* NULL: it has none */
} kinds[] = {
    {"socket_text_stream", "Socket stream", "SocketReceiver"},
    {"socket_stream", "Socket stream", "SocketReceiver"},
    {"raw_socket_stream", "Raw stream", "RawNetworkReceiver"},
    {"receiver_stream", "Pluggable stream", "Receiver"},
    {"text_file_stream", "File stream", NULL},
    {"file_stream", "File stream", NULL},
    {"binary_records_stream", "File stream", NULL},
    {"queue_stream", "Queue stream", NULL},
    {"constant_stream", "Constant stream", NULL},
    {"kafka_direct_stream", "Kafka 0.10 direct stream", NULL},
};

static enum mr_status name_input(struct mr__watched_input *input, const struct mr_dstream *stream,
                                 size_t id, struct mr_error *err)
{
    const struct mr_source_connector *connector = stream->source.connector;
    const char *name = NULL, *receiver = NULL;

    for (size_t i = 0; i < MR_ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].operation, stream->operation) == 0) {
            name = kinds[i].stream;
            receiver = kinds[i].receiver;
        }
    }
    if (stream->receiver_name != NULL)
        receiver = stream->receiver_name;
    input->source = stream->wanted ? stream->name : NULL;
    input->is_receiver = connector->receiver_open != NULL;
    if (name != NULL) {
        input->name = mr_asprintf("%s [%zu]", name, id);
    } else {
        input->name = mr_asprintf("%s stream [%zu]", connector->name, id);
        if (input->name != NULL && input->name[0] >= 'a' && input->name[0] <= 'z')
            input->name[0] = (char)(input->name[0] - 'a' + 'A');
    }
    input->receiver_name = mr_asprintf("%s-%zu", receiver != NULL ? receiver : connector->name, id);
    return input->name != NULL && input->receiver_name != NULL
               ? MR_OK
               : MR_FAIL(err, MR_NOMEM, "out of memory");
}

/* Inputs in the order in which they were made (CTX-7), outputs in theirs. */
static enum mr_status watch_graph(struct mr_context *ctx, struct mr_error *err)
{
    struct mr__watch *watch = ctx->watch;
    size_t id = 0;

    watch->inputs = mr_alloc_zero(NULL, (ctx->stream_count + 1) * sizeof(*watch->inputs));
    watch->input_infos = mr_alloc_zero(NULL, (ctx->stream_count + 1) * sizeof(*watch->input_infos));
    watch->output_infos =
        mr_alloc_zero(NULL, (ctx->output_count + 1) * sizeof(*watch->output_infos));
    if (watch->inputs == NULL || watch->input_infos == NULL || watch->output_infos == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    for (size_t i = 0; i < ctx->stream_count; i++) {
        if (ctx->streams[i]->lower != mr__lower_source)
            continue;
        watch->input_count = id + 1;
        MR_TRY(name_input(&watch->inputs[id], ctx->streams[i], id, err));
        id++;
    }
    watch->batch.inputs = watch->input_infos;
    watch->batch.outputs = watch->output_infos;
    watch->batch.output_count = ctx->output_count;
    return MR_OK;
}

enum mr_status mr__watch_prepare(struct mr_context *ctx, struct mr_error *err)
{
    atomic_store(&ctx->watch->stop_at_once, !mr_options_bool(ctx->options, "stop_gracefully"));
    MR_TRY(watch_graph(ctx, err));
    MR_TRY(mr__control_prepare(ctx, err));
    ctx->config.on_event = mr__watch_event;
    ctx->config.on_event_arg = ctx;
    return MR_OK;
}

enum mr_status mr__watch_open(struct mr_context *ctx, struct mr_error *err)
{
    int64_t now_ms = mr_env_wall_us(ctx->env) / 1000;

    MR_TRY(mr__bus_open(ctx->watch->bus, err));
    mr_mutex_lock(&ctx->watch->lock);
    ctx->watch->statistics.started_ms = now_ms;
    mr_mutex_unlock(&ctx->watch->lock);
    mr__control_open(ctx);
    mr__bus_post_started(ctx->watch->bus, now_ms);
    return MR_OK;
}

void mr__watch_close(struct mr_context *ctx)
{
    mr__watch_give_up(ctx);
    mr__bus_close(ctx->watch->bus, false);
}

/* ---- listeners ---- */

void mr_context_add_listener(struct mr_context *ctx, const struct mr_listener *listener)
{
    struct mr_error err;

    if (ctx == NULL)
        return;
    mr_error_clear(&err);
    if (mr__bus_add(ctx->watch->bus, listener, &err) != MR_OK)
        mr_log(MR_LOG_ERROR, "dstream", ctx->name, -1, "cannot add a listener: %s", err.text);
}

void mr_context_add_stats_report(struct mr_context *ctx, uint32_t batch_count)
{
    struct mr_listener listener = {.struct_size = sizeof(listener),
                                   .batch_completed = mr__stats_report_add};
    struct mr__watch *watch;
    bool kept = false;

    if (ctx == NULL)
        return;
    watch = ctx->watch;
    listener.arg = mr__stats_report_new(MR_MAX(batch_count, 1u));
    mr_mutex_lock(&watch->lock);
    if (listener.arg != NULL && watch->stats_report_count < MR_LISTENERS_MAX) {
        watch->stats_reports[watch->stats_report_count++] = listener.arg;
        kept = true;
    }
    mr_mutex_unlock(&watch->lock);
    if (kept) {
        mr_context_add_listener(ctx, &listener);
        return;
    }
    mr__stats_report_free(listener.arg);
    mr_log(MR_LOG_ERROR, "dstream", ctx->name, -1,
           "cannot add a report of delays: out of memory, or there are %d", MR_LISTENERS_MAX);
}

/* ---- statistics ---- */

void mr__watch_receiver(const struct mr__watch *watch, const struct mr_query_receiver *receiver,
                        struct mr_receiver_report *ret_report)
{
    const struct mr_receiver_state *state = &receiver->state;
    size_t id = 0;

    while (id < watch->input_count &&
           (watch->inputs[id].source == NULL ||
            strcmp(watch->inputs[id].source, receiver->source_name) != 0))
        id++;
    *ret_report = (struct mr_receiver_report){
        .stream_id = (uint32_t)id,
        .name = id < watch->input_count ? watch->inputs[id].receiver_name : "",
        .active = state->active,
        .last_error_ms = state->last_error_us < 0 ? -1 : state->last_error_us / 1000,
        .record_count = state->record_count,
        .byte_count = state->byte_count,
        .restart_count = state->restart_count,
        .rate_limit = state->rate_limit,
    };
    snprintf(ret_report->last_error_message, sizeof(ret_report->last_error_message), "%s",
             state->last_error);
}

bool mr_context_receiver(struct mr_context *ctx, uint32_t index,
                         struct mr_receiver_report *ret_report)
{
    struct mr_query_receiver receiver;
    bool found;

    mr_mutex_lock(&ctx->lock);
    found = ctx->query != NULL && mr_query_receiver(ctx->query, index, &receiver);
    if (found)
        mr__watch_receiver(ctx->watch, &receiver, ret_report);
    mr_mutex_unlock(&ctx->lock);
    return found;
}

void mr_context_statistics(struct mr_context *ctx, struct mr_statistics *ret_statistics)
{
    struct mr__watch *watch = ctx->watch;
    struct mr_query_receiver receiver;

    mr_mutex_lock(&watch->lock);
    *ret_statistics = watch->statistics;
    mr_mutex_unlock(&watch->lock);
    mr_mutex_lock(&ctx->lock);
    if (ctx->query != NULL) {
        ret_statistics->waiting_batches += (uint32_t)mr_query_waiting_batches(ctx->query);
        for (size_t i = 0; mr_query_receiver(ctx->query, i, &receiver); i++) {
            ret_statistics->receiver_count++;
            ret_statistics->active_receivers += receiver.state.active;
        }
    }
    mr_mutex_unlock(&ctx->lock);
}
