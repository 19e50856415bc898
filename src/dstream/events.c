/*
 * What the kernel tells about a run becomes reports for listeners, figures of the statistics, and
 * rates (monitor.h).
 *
 *     kernel's event --> struct mr__watch.batch (one batch, field by field) --> bus (copies)
 *                                                                         \--> statistics, control
 *
 * The kernel knows sinks by name; those that are no output of the program (remembered datasets) are
 * not told.  Outputs are numbered by registration, whichever of them have a dataset in a batch
 * (hazard 20).
 *
 * Thread: the driver; a receiver's events come from its own.  One event at a time.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/log.h"
#include "core/events.h"

#include <string.h>

static int64_t to_ms(int64_t us)
{
    return us < 0 ? -1 : us / 1000;
}

/* ---- a batch ---- */

static const struct mr_query_event_source *find_source(const struct mr_query_event *event,
                                                       const char *name)
{
    for (size_t i = 0; name != NULL && i < event->source_count; i++) {
        if (strcmp(event->sources[i].name, name) == 0)
            return &event->sources[i];
    }
    return NULL;
}

/* Borrows the descriptions of the event. */
static void fill_inputs(struct mr__watch *watch, const struct mr_query_event *event)
{
    size_t count = 0;

    watch->batch.record_count = 0;
    for (size_t id = 0; id < watch->input_count; id++) {
        const struct mr_query_event_source *source = find_source(event, watch->inputs[id].source);

        if (source == NULL)
            continue;
        watch->input_infos[count++] = (struct mr_input_info){
            .stream_id = (uint32_t)id,
            .stream_name = watch->inputs[id].name,
            .record_count = source->rows,
            .description = source->description,
        };
        watch->batch.record_count += source->rows;
    }
    watch->batch.input_count = count;
}

static void fill_batch(struct mr__watch *watch, const struct mr_query_event *event)
{
    struct mr_batch_report *batch = &watch->batch;

    batch->batch_time_ms = event->batch_time_us / 1000;
    batch->batch_id = event->batch_id;
    batch->submitted_ms = to_ms(event->submitted_us);
    batch->processing_started_ms = to_ms(event->started_us);
    batch->processing_ended_ms = to_ms(event->ended_us);
    batch->scheduling_delay_ms = batch->processing_delay_ms = batch->total_delay_ms = -1;
    /* a clock that was set back makes no delay negative */
    if (event->started_us >= 0)
        batch->scheduling_delay_ms =
            MR_MAX(batch->processing_started_ms - batch->submitted_ms, INT64_C(0));
    if (event->started_us >= 0 && event->ended_us >= 0) {
        batch->processing_delay_ms =
            MR_MAX(batch->processing_ended_ms - batch->processing_started_ms, INT64_C(0));
        batch->total_delay_ms = batch->scheduling_delay_ms + batch->processing_delay_ms;
    }
    fill_inputs(watch, event);
}

static void forget_failure(struct mr_output_info *output)
{
    mr_free((char *)(uintptr_t)output->failure);
    output->failure = NULL;
}

/* Where the stream of an output was made, when a function says so. */
static const char *place_of(const struct mr_dstream *stream)
{
    return stream->function != NULL ? stream->function->place : stream->name;
}

/* Those that have something to do; until then they are not part of the batch. */
static void begin_outputs(struct mr_context *ctx)
{
    struct mr__watch *watch = ctx->watch;

    for (size_t i = 0; i < ctx->output_count; i++) {
        forget_failure(&watch->output_infos[i]);
        watch->output_infos[i] = (struct mr_output_info){
            .id = (uint32_t)i,
            .name = ctx->outputs[i]->name,
            .description = place_of(ctx->outputs[i]->stream),
            .started_ms = -1,
            .ended_ms = -1,
        };
    }
}

/* The report with those outputs only that had a dataset; borrows outputs, room for all. */
static struct mr_batch_report with_outputs(const struct mr__watch *watch, size_t output_count,
                                           struct mr_output_info *outputs)
{
    struct mr_batch_report report = watch->batch;

    report.output_count = 0;
    for (size_t i = 0; outputs != NULL && i < output_count; i++) {
        if (watch->output_infos[i].started_ms >= 0)
            outputs[report.output_count++] = watch->output_infos[i];
    }
    report.outputs = outputs;
    return report;
}

static void post_batch(struct mr_context *ctx, enum mr__event_kind kind)
{
    struct mr_output_info *outputs;
    struct mr_batch_report report;

    if (!mr__bus_has_listeners(ctx->watch->bus))
        return;
    outputs = mr_alloc(NULL, (ctx->output_count + 1) * sizeof(*outputs));
    report = with_outputs(ctx->watch, ctx->output_count, outputs);
    mr__bus_post_batch(ctx->watch->bus, kind, &report);
    mr_free(outputs);
}

static void on_submitted(struct mr_context *ctx, const struct mr_query_event *event)
{
    struct mr__watch *watch = ctx->watch;

    fill_batch(watch, event);
    watch->batch.failure = NULL;
    mr_free(watch->failure);
    watch->failure = NULL;
    begin_outputs(ctx);
    mr_mutex_lock(&watch->lock);
    mr__statistics_submitted(&watch->statistics, &watch->batch);
    mr_mutex_unlock(&watch->lock);
    post_batch(ctx, MR_EVENT_BATCH_SUBMITTED);
}

static void on_started(struct mr_context *ctx, const struct mr_query_event *event)
{
    struct mr__watch *watch = ctx->watch;

    fill_batch(watch, event);
    watch->counted_records = watch->batch.record_count;
    watch->is_running = true;
    mr_mutex_lock(&watch->lock);
    mr__statistics_started(&watch->statistics, &watch->batch);
    mr_mutex_unlock(&watch->lock);
    post_batch(ctx, MR_EVENT_BATCH_STARTED);
}

static void on_completed(struct mr_context *ctx, const struct mr_query_event *event)
{
    struct mr__watch *watch = ctx->watch;

    fill_batch(watch, event);
    watch->is_running = false;
    mr_mutex_lock(&watch->lock);
    /* now it is known of files too */
    watch->statistics.received_records += watch->batch.record_count - watch->counted_records;
    mr__statistics_completed(&watch->statistics, &watch->batch);
    mr_mutex_unlock(&watch->lock);
    post_batch(ctx, MR_EVENT_BATCH_COMPLETED);
    mr__control_batch(ctx, &watch->batch, watch->failure == NULL);
}

/* It is tried again, or the query ends: then mr__watch_give_up tells. */
static void on_failed(struct mr_context *ctx, const struct mr_query_event *event)
{
    struct mr__watch *watch = ctx->watch;

    mr_free(watch->failure);
    watch->failure = mr_strdup(event->failure != NULL ? event->failure : "");
    fill_batch(watch, event);
}

void mr__watch_give_up(struct mr_context *ctx)
{
    struct mr__watch *watch = ctx->watch;

    if (!watch->is_running)
        return;
    watch->is_running = false;
    mr_mutex_lock(&watch->lock);
    mr__statistics_failed(&watch->statistics);
    mr_mutex_unlock(&watch->lock);
    if (watch->failure == NULL)
        return; /* a stop, and the next start runs the batch */
    watch->batch.failure = watch->failure;
    watch->batch.input_count = 0; /* their descriptions are gone */
    post_batch(ctx, MR_EVENT_BATCH_COMPLETED);
}

/* ---- outputs and receivers ---- */

static void on_output(struct mr_context *ctx, const struct mr_query_event *event)
{
    bool is_done = event->kind == MR_QUERY_OUTPUT_COMPLETED;
    struct mr_output_info *output = NULL;

    for (size_t i = 0; i < ctx->output_count && output == NULL; i++) {
        if (strcmp(ctx->outputs[i]->name, event->output_name) == 0)
            output = &ctx->watch->output_infos[i];
    }
    if (output == NULL)
        return;
    forget_failure(output);
    output->started_ms = to_ms(event->output_started_us);
    output->ended_ms = to_ms(event->output_ended_us);
    output->failure = event->failure != NULL ? mr_strdup(event->failure) : NULL;
    mr__bus_post_output(ctx->watch->bus,
                        is_done ? MR_EVENT_OUTPUT_COMPLETED : MR_EVENT_OUTPUT_STARTED,
                        event->batch_time_us / 1000, output);
}

static void on_receiver(struct mr_context *ctx, enum mr__event_kind kind,
                        const struct mr_query_event *event)
{
    struct mr_receiver_report report;

    if (!mr__bus_has_listeners(ctx->watch->bus))
        return;
    mr__watch_receiver(ctx->watch, event->receiver, &report);
    mr__bus_post_receiver(ctx->watch->bus, kind, &report);
}

void mr__watch_event(void *arg, const struct mr_query_event *event)
{
    struct mr_context *ctx = arg;

    switch (event->kind) {
    case MR_QUERY_BATCH_SUBMITTED:
        mr__context_look(ctx);
        on_submitted(ctx, event);
        break;
    case MR_QUERY_BATCH_STARTED:
        on_started(ctx, event);
        break;
    case MR_QUERY_BATCH_COMPLETED:
        on_completed(ctx, event);
        break;
    case MR_QUERY_BATCH_FAILED:
        on_failed(ctx, event);
        break;
    case MR_QUERY_OUTPUT_STARTED:
    case MR_QUERY_OUTPUT_COMPLETED:
        on_output(ctx, event);
        break;
    case MR_QUERY_RECEIVER_STARTED:
        on_receiver(ctx, MR_EVENT_RECEIVER_STARTED, event);
        break;
    case MR_QUERY_RECEIVER_ERROR:
        on_receiver(ctx, MR_EVENT_RECEIVER_ERROR, event);
        break;
    case MR_QUERY_RECEIVER_STOPPED:
        on_receiver(ctx, MR_EVENT_RECEIVER_STOPPED, event);
        break;
    }
}
