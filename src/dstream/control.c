/*
 * Steering a run by what its batches took: backpressure and the number of workers (dstream.md 13,
 * 18).
 *
 *     batch committed --> one estimator per input --> mr_query_set_rate
 *                    \--> policy of allocation -----> mr_query_set_workers
 *
 * Inputs that backpressure limits are those whose data waits elsewhere when it is not taken:
 * receivers, and connectors that plan within the rate of a batch (Kafka, Kinesis).  Files are taken
 * whole.  What an estimator has learnt is kept beside the checkpoint (rates.c): after a restart its
 * last rate is in force at once; Spark's receivers run without a limit until the first estimate
 * (BP-6).
 *
 * Thread: prepare, open: the starting one.  batch: the driver.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/log.h"

#include <millrace/ext/options.h>

#include <string.h>

/* How often what was learnt is written down while the context runs. */
enum { SAVE_MS = 10000 };

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

/* ---- workers ---- */

static enum mr_status prepare_workers(struct mr_context *ctx, struct mr_error *err)
{
    const struct mr_options *options = ctx->options;
    struct mr__allocation_config config = {
        .batch_interval_ms = ctx->interval_ms,
        .scaling_interval_ms = mr_options_int(options, "scaling_interval") / 1000,
        .up_ratio = mr_options_double(options, "scaling_up_ratio"),
        .down_ratio = mr_options_double(options, "scaling_down_ratio"),
        .has_min = mr_options_has(options, "workers_min"),
        .has_max = true,
        .max_workers = MR_DSTREAM_WORKERS_MAX,
    };

    if (!mr_options_bool(options, "dynamic_allocation"))
        return MR_OK;
    if (mr_options_bool(options, "engine_dynamic_allocation"))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot start '%s': dynamic allocation is on twice "
                       "(spark.streaming.dynamicAllocation.enabled and "
                       "spark.dynamicAllocation.enabled); choose one",
                       ctx->name);
    if (config.has_min)
        config.min_workers = mr_options_int(options, "workers_min");
    if (mr_options_has(options, "workers_max"))
        config.max_workers = mr_options_int(options, "workers_max");
    for (size_t id = 0; id < ctx->watch->input_count; id++)
        config.receiver_count +=
            ctx->watch->inputs[id].source != NULL && ctx->watch->inputs[id].is_receiver;
    MR_TRY(mr__allocation_check(&config, err));
    ctx->watch->is_allocation_on = true;
    mr__allocation_init(&ctx->watch->allocation, &config, mr_env_wall_us(ctx->env) / 1000);
    /* there are no more than that, whatever the limits ask for */
    ctx->config.workers_max = (unsigned)MR_MIN(
        mr__allocation_clamp(&config, MR_DSTREAM_WORKERS_MAX), (int64_t)MR_DSTREAM_WORKERS_MAX);
    ctx->config.workers =
        (unsigned)MR_MIN(mr__allocation_clamp(&config, (int64_t)ctx->config.workers),
                         (int64_t)ctx->config.workers_max);
    return MR_OK;
}

/* Batches that ran more than once say nothing about the load (DA-3). */
static void scale_workers(struct mr_context *ctx, const struct mr_batch_report *batch,
                          bool is_smooth)
{
    struct mr__allocation *allocation = &ctx->watch->allocation;
    unsigned current = mr_query_workers(ctx->query);
    int64_t total;

    if (is_smooth)
        mr__allocation_add(allocation, batch->processing_delay_ms);
    if (!mr__allocation_decide(allocation, batch->processing_ended_ms, current, &total))
        return;
    total = MR_MIN(total, (int64_t)ctx->config.workers_max);
    if (total == (int64_t)current)
        return;
    mr_log(MR_LOG_INFO, "dstream", ctx->name, (int64_t)batch->batch_id,
           "workers: %u become %lld, as the last batches took", current, (long long)total);
    mr_query_set_workers(ctx->query, (unsigned)total);
}

/* ---- both ---- */

enum mr_status mr__control_prepare(struct mr_context *ctx, struct mr_error *err)
{
    MR_TRY(prepare_rates(ctx, err));
    return prepare_workers(ctx, err);
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
    int64_t initial_rate = 0;

    if (!watch->is_backpressure_on)
        return;
    if (mr_options_has(ctx->options, "backpressure_initial_rate"))
        initial_rate = mr_options_int(ctx->options, "backpressure_initial_rate");
    mr__rates_load(ctx);
    for (size_t id = 0; id < watch->input_count; id++) {
        const struct mr__watched_input *input = &watch->inputs[id];

        if (input->is_controlled && input->source != NULL)
            set_rate(ctx, input, input->pid.any ? whole_rate(input->pid.rate) : initial_rate);
    }
}

void mr__control_close(struct mr_context *ctx)
{
    if (ctx->watch->is_backpressure_on)
        mr__rates_save(ctx);
}

void mr__control_batch(struct mr_context *ctx, const struct mr_batch_report *batch, bool is_smooth)
{
    struct mr__watch *watch = ctx->watch;
    double rate;

    watch->are_rates_new |= watch->is_backpressure_on;
    for (size_t i = 0; watch->is_backpressure_on && i < batch->input_count; i++) {
        struct mr__watched_input *input = &watch->inputs[batch->inputs[i].stream_id];

        if (input->is_controlled &&
            mr__pid_measure(&input->pid, batch->processing_ended_ms,
                            (int64_t)batch->inputs[i].record_count, batch->processing_delay_ms,
                            batch->scheduling_delay_ms, &rate))
            set_rate(ctx, input, whole_rate(rate));
    }
    if (watch->are_rates_new && batch->processing_ended_ms - watch->rates_saved_ms >= SAVE_MS) {
        watch->rates_saved_ms = batch->processing_ended_ms;
        mr__rates_save(ctx);
    }
    if (watch->is_allocation_on)
        scale_workers(ctx, batch, is_smooth);
}
