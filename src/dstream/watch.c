/*
 * What watches a context: listeners, statistics (monitor.h).
 *
 * Threads: mr_context_add_listener, mr_context_statistics: any.
 */
#include "dstream/monitor.h"
#include "dstream/streams.h"

#include "base/log.h"

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
    mr_mutex_release(&watch->lock);
    mr_free(watch);
}

enum mr_status mr__watch_prepare(struct mr_context *ctx, struct mr_error *err)
{
    (void)err;
    atomic_store(&ctx->watch->stop_at_once, !mr_options_bool(ctx->options, "stop_gracefully"));
    return MR_OK;
}

enum mr_status mr__watch_open(struct mr_context *ctx, struct mr_error *err)
{
    int64_t now_ms = mr_env_wall_us(ctx->env) / 1000;

    MR_TRY(mr__bus_open(ctx->watch->bus, err));
    mr_mutex_lock(&ctx->watch->lock);
    ctx->watch->statistics.started_ms = now_ms;
    mr_mutex_unlock(&ctx->watch->lock);
    mr__bus_post_started(ctx->watch->bus, now_ms);
    return MR_OK;
}

void mr__watch_close(struct mr_context *ctx)
{
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

void mr_context_statistics(struct mr_context *ctx, struct mr_statistics *ret_statistics)
{
    struct mr__watch *watch = ctx->watch;
    bool active = mr_context_state(ctx) == MR_CONTEXT_ACTIVE;
    int64_t now_ms = mr_env_wall_us(ctx->env) / 1000;

    mr_mutex_lock(&watch->lock);
    *ret_statistics = watch->statistics;
    if (active && watch->last_time_ms > 0)
        ret_statistics->waiting_batches +=
            mr__statistics_overdue(&watch->statistics, watch->last_time_ms, now_ms);
    mr_mutex_unlock(&watch->lock);
}
