/*
 * Steering a run by what its batches took: backpressure and the number of workers (dstream.md 13,
 * 18).
 *
 *     batch committed --> one estimator per input --> mr_query_set_rate
 *
 * Inputs that backpressure limits are those whose data waits elsewhere when it is not taken:
 * receivers, and connectors that plan within the rate of a batch (Kafka, Kinesis).  Files are taken
 * whole.  Nothing of it is in the checkpoint: after a restart the initial rate is in force until the
 * second batch, which is all an estimator needs (BP-6, docs/decisions/0016).
 *
 * Thread: prepare, open: the starting one.  batch: the driver.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/log.h"

#include <millrace/ext/options.h>

#include <string.h>

/* A rate of records a second as the kernel takes it. */
static int64_t whole_rate(double rate)
{
    return rate >= (double)(INT64_MAX / 2) ? INT64_MAX / 2 : (int64_t)rate;
}

static bool is_limited(const struct mr_dstream *stream)
{
    const char *connector = stream->source.connector->name;

    return stream->source.connector->receiver_open != NULL || strcmp(connector, "kafka") == 0 ||
           strcmp(connector, "kinesis") == 0;
}

static enum mr_status prepare_rates(struct mr_context *ctx, struct mr_error *err)
{
    const struct mr_options *options = ctx->options;
    struct mr__watch *watch = ctx->watch;
    struct mr__pid_config config = {
        .interval_ms = ctx->interval_ms,
        .proportional = mr_options_double(options, "backpressure_proportional"),
        .integral = mr_options_double(options, "backpressure_integral"),
        .derivative = mr_options_double(options, "backpressure_derivative"),
        .min_rate = mr_options_double(options, "backpressure_rate_min"),
    };
    size_t id = 0;

    watch->is_backpressure_on = mr_options_bool(options, "backpressure");
    if (!watch->is_backpressure_on)
        return MR_OK;
    MR_TRY(mr__pid_check(&config, err));
    for (size_t i = 0; i < ctx->stream_count; i++) {
        if (ctx->streams[i]->lower != mr__lower_source)
            continue;
        watch->inputs[id].is_controlled = is_limited(ctx->streams[i]);
        mr__pid_init(&watch->inputs[id].pid, &config);
        id++;
    }
    return MR_OK;
}

enum mr_status mr__control_prepare(struct mr_context *ctx, struct mr_error *err)
{
    return prepare_rates(ctx, err);
}

static void set_rate(struct mr_context *ctx, const struct mr__watched_input *input, int64_t rate)
{
    struct mr_error err;

    mr_error_clear(&err);
    if (rate > 0 && mr_query_set_rate(ctx->query, input->source, rate, &err) != MR_OK)
        mr_log(MR_LOG_WARNING, "dstream", ctx->name, -1, "%s: %s", input->name, err.text);
}

void mr__control_open(struct mr_context *ctx)
{
    struct mr__watch *watch = ctx->watch;
    int64_t rate;

    if (!watch->is_backpressure_on || !mr_options_has(ctx->options, "backpressure_initial_rate"))
        return;
    rate = mr_options_int(ctx->options, "backpressure_initial_rate");
    for (size_t id = 0; id < watch->input_count; id++) {
        if (watch->inputs[id].is_controlled && watch->inputs[id].source != NULL)
            set_rate(ctx, &watch->inputs[id], rate);
    }
}

void mr__control_batch(struct mr_context *ctx, const struct mr_batch_report *batch)
{
    struct mr__watch *watch = ctx->watch;
    double rate;

    for (size_t i = 0; watch->is_backpressure_on && i < batch->input_count; i++) {
        struct mr__watched_input *input = &watch->inputs[batch->inputs[i].stream_id];

        if (input->is_controlled &&
            mr__pid_measure(&input->pid, batch->processing_ended_ms,
                            (int64_t)batch->inputs[i].record_count, batch->processing_delay_ms,
                            batch->scheduling_delay_ms, &rate))
            set_rate(ctx, input, whole_rate(rate));
    }
}
