/*
 * Receivers as others see them: their limits and their numbers. Thread: any, but where it says
 * otherwise.
 */
#ifndef MR_CORE_RECEIVER_H
#define MR_CORE_RECEIVER_H

#include <millrace/ext/source.h>

enum { MR_RECEIVER_ERROR_BYTES = 480 };

struct mr_receiver_state {
    bool active; /* it is running, and not between two runs */
    char last_error[MR_RECEIVER_ERROR_BYTES];
    int64_t last_error_us; /* -1 = none */
    uint64_t error_count;
    uint64_t restart_count;
    uint64_t record_count; /* stored since start */
    uint64_t byte_count;
    int64_t rate_limit; /* records a second in force; 0 = none */
};
/* All: of a source that mr__receiver_source_open made. */

/* Starts its threads, if they were not; the first plan does it too. Driver. */
enum mr_status mr__receiver_source_start(struct mr_source *source, struct mr_error *err);
void mr__receiver_source_state(struct mr_source *source, struct mr_receiver_state *ret_state);
/* RL-2: the receiver takes at most that many records a second, and never more than the setting
 * says; ignored unless rate > 0. */
void mr__receiver_source_set_rate(struct mr_source *source, int64_t rate);

#endif
