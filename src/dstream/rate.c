/*
 * The PID estimator of rates: see rate.h.  Pure: no clock, no thread, no memory.
 *
 * Called by the controller (control.c), once a batch and input.
 */
#include "dstream/rate.h"

#include "base/check.h"

#include <math.h>

enum mr_status mr__pid_check(const struct mr__pid_config *config, struct mr_error *err)
{
    if (config->interval_ms <= 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot estimate rates: a batch interval of %lld ms is not positive",
                       (long long)config->interval_ms);
    /* negated, so that what is no number is refused too */
    if (!(config->proportional >= 0) || !(config->integral >= 0) || !(config->derivative >= 0))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot estimate rates: the gains %g, %g and %g must be 0 or more",
                       config->proportional, config->integral, config->derivative);
    if (!(config->min_rate > 0) || isinf(config->min_rate))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot estimate rates: a least rate of %g records a second must be more "
                       "than 0",
                       config->min_rate);
    return MR_OK;
}

void mr__pid_init(struct mr__pid *pid, const struct mr__pid_config *config)
{
    MR_ASSERT(mr__pid_check(config, NULL) == MR_OK);
    *pid = (struct mr__pid){.config = *config};
}

bool mr__pid_measure(struct mr__pid *pid, int64_t time_ms, int64_t record_count,
                     int64_t processing_ms, int64_t scheduling_ms, double *ret_rate)
{
    const struct mr__pid_config *config = &pid->config;
    double since_s, speed, error, queue, change, rate;

    if ((pid->any && time_ms <= pid->time_ms) || time_ms < 0 || record_count <= 0 ||
        processing_ms <= 0)
        return false;
    speed = (double)record_count / (double)processing_ms * 1000;
    if (!pid->any) {
        pid->any = true;
        pid->time_ms = time_ms;
        pid->rate = speed;
        pid->error = 0;
        return false;
    }
    since_s = (double)(time_ms - pid->time_ms) / 1000;
    error = pid->rate - speed;
    queue = (double)scheduling_ms * speed / (double)config->interval_ms;
    change = (error - pid->error) / since_s;
    rate = pid->rate - config->proportional * error - config->integral * queue -
           config->derivative * change;
    rate = MR_MAX(rate, config->min_rate);
    pid->time_ms = time_ms;
    pid->rate = rate;
    pid->error = error;
    *ret_rate = rate;
    return true;
}
