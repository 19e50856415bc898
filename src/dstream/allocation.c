/*
 * The policy of dynamic allocation: see allocation.h.  Pure: no clock, no thread, no memory.
 *
 * Called by the controller (control.c) after each batch.
 */
#include "dstream/allocation.h"

#include "base/check.h"

enum mr_status mr__allocation_check(const struct mr__allocation_config *config,
                                    struct mr_error *err)
{
    if (config->has_min && config->min_workers < 1)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot allocate workers: 'workers_min' is %lld; use 1 or more",
                       (long long)config->min_workers);
    if (config->has_max && config->max_workers < 1)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot allocate workers: 'workers_max' is %lld; use 1 or more",
                       (long long)config->max_workers);
    if (config->has_min && config->has_max && config->max_workers < config->min_workers)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot allocate workers: 'workers_max' (%lld) is below 'workers_min' (%lld)",
            (long long)config->max_workers, (long long)config->min_workers);
    if (config->scaling_interval_ms <= 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot allocate workers: a 'scaling_interval' of %lld ms is not positive",
                       (long long)config->scaling_interval_ms);
    if (!(config->up_ratio > 0) || !(config->down_ratio > 0))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot allocate workers: 'scaling_up_ratio' (%g) and 'scaling_down_ratio' "
                       "(%g) must be more than 0",
                       config->up_ratio, config->down_ratio);
    if (config->up_ratio <= config->down_ratio)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot allocate workers: 'scaling_up_ratio' (%g) must be above "
                       "'scaling_down_ratio' (%g)",
                       config->up_ratio, config->down_ratio);
    return MR_OK;
}

void mr__allocation_init(struct mr__allocation *allocation,
                         const struct mr__allocation_config *config, int64_t now_ms)
{
    MR_ASSERT(mr__allocation_check(config, NULL) == MR_OK);
    *allocation = (struct mr__allocation){.config = *config, .since_ms = now_ms};
}

static int64_t least(const struct mr__allocation_config *config)
{
    /* a given number counts as it is, as in Spark, but never below the receivers (D24) */
    return MR_MAX(config->has_min ? config->min_workers : 1, (int64_t)config->receiver_count);
}

int64_t mr__allocation_clamp(const struct mr__allocation_config *config, int64_t current)
{
    if (config->has_max)
        current = MR_MIN(current, config->max_workers);
    return MR_MAX(current, least(config));
}

enum mr_status mr__allocation_total(const struct mr__allocation_config *config, int64_t current,
                                    int64_t more, int64_t *ret_total, struct mr_error *err)
{
    if (more < 1)
        return MR_FAIL(err, MR_CONFIG, "cannot ask for %lld more workers; ask for 1 or more",
                       (long long)more);
    *ret_total = mr__allocation_clamp(config, current + more);
    return MR_OK;
}

void mr__allocation_add(struct mr__allocation *allocation, int64_t processing_ms)
{
    allocation->sum_ms += processing_ms;
    allocation->batch_count++;
}

bool mr__allocation_decide(struct mr__allocation *allocation, int64_t now_ms, int64_t current,
                           int64_t *ret_total)
{
    const struct mr__allocation_config *config = &allocation->config;
    int64_t total = current;

    if (now_ms - allocation->since_ms < config->scaling_interval_ms)
        return false;
    if (allocation->batch_count > 0) {
        int64_t mean_ms = allocation->sum_ms / allocation->batch_count;
        double ratio = (double)mean_ms / (double)config->batch_interval_ms;

        if (ratio >= config->up_ratio)
            mr__allocation_total(config, current, MR_MAX((int64_t)(ratio + 0.5), INT64_C(1)),
                                 &total, NULL);
        else if (ratio <= config->down_ratio)
            total = mr__allocation_clamp(config, current - 1);
    }
    allocation->since_ms = now_ms;
    allocation->sum_ms = 0;
    allocation->batch_count = 0;
    *ret_total = total;
    return total != current;
}
