/*
 * Rates -> records of a batch (clamp.h).
 *
 *     with a rate      a partition's share of it is in proportion to its lag, and at most its own
 *                      limit
 *     without          its own limit; a partition without one is not clamped (Spark gives it the
 *                      minimum as soon as another has a limit: hazard 12)
 *     then             times the length of a batch, cut to a whole number, at least the minimum
 *
 * When all shares are zero (nothing waits) there is no clamp.
 */
#include "sources/kafka/clamp.h"

#include "base/check.h"

/* Records a second; 0 = no limit, or nothing waits. */
static double share_of(const struct mr_ksrc_rates *rates, const struct mr_ksrc_waiting *waiting,
                       double total_lag)
{
    double limit = (double)waiting->rate_max;
    double share;

    if (rates->rate <= 0)
        return limit;
    if (total_lag <= 0 || waiting->lag <= 0)
        return 0;
    share = (double)waiting->lag / total_lag * (double)rates->rate;
    return limit > 0 && limit < share ? limit : share;
}

void mr_ksrc_clamp(const struct mr_ksrc_rates *rates, const struct mr_ksrc_waiting *waiting,
                   size_t count, int64_t *ret_records)
{
    enum { RECORDS_MAX = INT32_MAX }; /* far above what a batch can hold */
    double total_lag = 0;
    double total_share = 0;

    for (size_t i = 0; i < count; i++)
        total_lag += waiting[i].lag > 0 ? (double)waiting[i].lag : 0;
    for (size_t i = 0; i < count; i++)
        total_share += share_of(rates, &waiting[i], total_lag);
    for (size_t i = 0; i < count; i++) {
        double share = share_of(rates, &waiting[i], total_lag);
        /* A share that is a whole number but for rounding is that number. */
        double records = share * ((double)rates->batch_interval_us / 1e6) + 1e-9;

        ret_records[i] = -1;
        if (total_share <= 0 || (rates->rate <= 0 && share <= 0))
            continue;
        ret_records[i] = MR_MAX((int64_t)MR_MIN(records, (double)RECORDS_MAX), rates->records_min);
    }
}
