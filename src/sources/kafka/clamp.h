/*
 * How much of what waits goes into a batch, by rates (KD-7). Pure functions. Thread: any.
 */
#ifndef MR_SOURCES_KAFKA_CLAMP_H
#define MR_SOURCES_KAFKA_CLAMP_H

#include <stddef.h>
#include <stdint.h>

struct mr_ksrc_waiting {
    int64_t lag;      /* records between the position and the end; < 0 counts as 0 */
    int64_t rate_max; /* records a second of this partition; 0 = no limit */
};

struct mr_ksrc_rates {
    int64_t rate;              /* of all partitions together (backpressure); 0 = none */
    int64_t records_min;       /* of a partition and batch, where there is a limit */
    int64_t batch_interval_us; /* what the rates count for */
};

/* Records of each partition that the batch may have, ret_records[i]; -1 = no limit. */
void mr_ksrc_clamp(const struct mr_ksrc_rates *rates, const struct mr_ksrc_waiting *waiting,
                   size_t count, int64_t *ret_records);

#endif
