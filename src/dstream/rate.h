/*
 * Backpressure: from what a batch took to the records a second that its inputs may take in
 * (dstream.md 13).
 *
 *     speed = records / processing time
 *     error = last rate - speed
 *     queue = scheduling delay * speed / interval      records that wait, as a rate
 *     rate  = last rate - proportional * error - integral * queue - derivative * change of error,
 *             at least min_rate
 *
 * Thread: a pid belongs to one thread.
 */
#ifndef MR_DSTREAM_RATE_H
#define MR_DSTREAM_RATE_H

#include <millrace/error.h>

struct mr__pid_config {
    int64_t interval_ms;
    double proportional;
    double integral;
    double derivative;
    double min_rate;
};

struct mr__pid {
    struct mr__pid_config config;
    bool any; /* a batch was measured */
    int64_t time_ms;
    double rate;
    double error;
};

/* MR_CONFIG for an interval or a least rate that is not positive, and for negative gains. */
enum mr_status mr__pid_check(const struct mr__pid_config *config, struct mr_error *err);
/* config was checked. */
void mr__pid_init(struct mr__pid *pid, const struct mr__pid_config *config);
/*
 * A batch of record_count records that was done at time_ms. False: no new rate, because it is the
 * first batch, or because it says nothing (no records, no time) and is ignored.
 */
bool mr__pid_measure(struct mr__pid *pid, int64_t time_ms, int64_t record_count,
                     int64_t processing_ms, int64_t scheduling_ms, double *ret_rate);

#endif
