/*
 * Dynamic allocation: how many workers a context should have (dstream.md 18, D24).
 *
 * Every scaling interval: the mean processing time of the batches since, against the batch
 * interval.  At or above up_ratio: as many more workers as the ratio says, at least one; at or
 * below down_ratio: one less.  Never fewer than min_workers, nor than receivers; never more than
 * max_workers.
 *
 * Thread: a policy belongs to one thread.
 */
#ifndef MR_DSTREAM_ALLOCATION_H
#define MR_DSTREAM_ALLOCATION_H

#include <millrace/error.h>

struct mr__allocation_config {
    int64_t batch_interval_ms;
    int64_t scaling_interval_ms;
    double up_ratio;
    double down_ratio;
    bool has_min; /* given; else one, or one for each receiver */
    bool has_max; /* given; else without limit */
    int64_t min_workers;
    int64_t max_workers;
    uint32_t receiver_count;
};

struct mr__allocation {
    struct mr__allocation_config config;
    int64_t since_ms; /* of the scaling interval that runs */
    int64_t sum_ms;
    int64_t batch_count;
};

/* MR_CONFIG, naming the setting. */
enum mr_status mr__allocation_check(const struct mr__allocation_config *config,
                                    struct mr_error *err);
/* config was checked. */
void mr__allocation_init(struct mr__allocation *allocation,
                         const struct mr__allocation_config *config, int64_t now_ms);
/* How many workers there should be when `more` are wanted on top of current; MR_CONFIG when none
 * are. */
enum mr_status mr__allocation_total(const struct mr__allocation_config *config, int64_t current,
                                    int64_t more, int64_t *ret_total, struct mr_error *err);
/* The same without a wish: current within the limits. */
int64_t mr__allocation_clamp(const struct mr__allocation_config *config, int64_t current);
/* A batch without a failed output was done. */
void mr__allocation_add(struct mr__allocation *allocation, int64_t processing_ms);
/* When a scaling interval is over: the number of workers there should be. False: it is not over, or
 * nothing changes. */
bool mr__allocation_decide(struct mr__allocation *allocation, int64_t now_ms, int64_t current,
                           int64_t *ret_total);

#endif
