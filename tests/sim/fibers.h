/*
 * Threads of the simulation: src/env/thread.h on one thread of the operating system, in an order
 * that a seed chooses, on a virtual clock.
 *
 * fibers.c has all functions of src/env/thread.h, so a program that is linked with it has no real
 * thread, whatever the product starts. Each thread is a fiber with a stack of its own. One runs
 * until it waits (lock, event, join, sleep) or comes to a point where the scheduler may take the
 * processor away (fibers_pause); then the seed picks one of those that can run. When none can, the
 * clock moves to the earliest moment that somebody waits for. When nobody waits for one either,
 * that is a deadlock.
 *
 * Thread: the only one.
 */
#ifndef MR_TESTS_SIM_FIBERS_H
#define MR_TESTS_SIM_FIBERS_H

#include <stdbool.h>
#include <stdint.h>

struct fibers_config {
    uint64_t seed;
    /* Of 256 possible preemptions so many happen; 0 = threads change only where they wait. */
    unsigned preempt_of_256;
    unsigned cpu_count; /* what mr_cpu_count says */
    int64_t (*now_ns)(void *arg);
    void (*advance_ns)(void *arg, int64_t duration_ns);
    /* Nothing can ever run again, or too much was done: prints and ends the process. */
    void (*stuck)(void *arg, const char *what);
    void *arg;
    uint64_t switches_max;
};

/* From now on threads are fibers; the caller is the first one. */
void fibers_begin(const struct fibers_config *config);
/* All others have ended. */
void fibers_end(void);

/* A point where another fiber may go on. */
void fibers_pause(void);
void fibers_sleep_ns(int64_t duration_ns);
/*
 * Between the two nobody else runs, and nobody was stopped while holding a lock: for calls that
 * take locks under a lock that spins (tables in memory wake their readers so).
 */
void fibers_alone_begin(void);
void fibers_alone_end(void);
uint64_t fibers_switches(void);
/* Threads that were not started since the last mr_thread_fail_at. */
uint64_t fibers_failed_starts(void);
/* Hash over the choices made so far. */
uint64_t fibers_hash(void);

#endif
