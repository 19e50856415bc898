/*
 * The struct mr_sim, shared by sim.c (environment, faults, trace) and sim_crash.c (states after a
 * crash); nobody else includes it.
 */
#ifndef MR_ENV_SIM_INTERNAL_H
#define MR_ENV_SIM_INTERNAL_H

#include "env/sim.h"
#include "env/sim_disk.h"

#include <pthread.h>

/* The durable view after the first `position` operations, and what is pending then. */
struct sim_replay {
    bool valid;
    uint64_t position;
    struct sim_image durable;
    uint64_t *pending; /* numbers of operations */
    size_t pending_count;
};

struct mr_sim {
    struct mr_env env; /* first: a struct mr_env * is a struct mr_sim * */
    pthread_mutex_t lock;
    /* Everything below is guarded by lock. */
    uint64_t seed;
    struct sim_image base; /* what was durable when the trace began */
    struct sim_image live; /* base and all operations */
    struct sim_op **ops;
    uint64_t op_count;
    uint64_t next_node;
    uint64_t open_count;
    uint64_t *locked; /* nodes */
    size_t locked_count;

    int64_t wall_ns;
    int64_t monotonic_ns;
    uint64_t random_state;

    uint64_t call_count;
    uint64_t fail_first; /* number of the call; 0 = off */
    bool fail_forever;
    int fail_errno;
    uint64_t sync_count;
    uint64_t ignored_sync; /* number of the sync; 0 = none */

    struct sim_replay replay;
};

/* A sim on a copy of `disk`, with the clocks and random numbers of `from` going on. */
struct mr_sim *sim_new_on(const struct mr_sim *from, const struct sim_image *disk);
void sim_replay_release(struct sim_replay *replay);

#endif
