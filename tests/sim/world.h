/*
 * The world around a simulated process: disk, clock, faults, deaths, and the trace of all of it.
 *
 *     product -> struct mr_env (this) -> struct mr_sim (src/env/sim.h: the disk)
 *                  | counts, traces, injects, kills
 *
 * A process dies at a call: from there on every call fails and nothing that it does reaches the
 * disk or a peer, until it has unwound; the next life starts from what the death left. So there are
 * no leaks to forgive, and the address sanitizer sees everything.
 *
 * Everything that is decided comes from the seed. Everything that happens goes into the trace hash:
 * calls with their arguments and results, bytes written, what peers and tables saw.
 *
 * Thread: fibers (fibers.h).
 */
#ifndef MR_TESTS_SIM_WORLD_H
#define MR_TESTS_SIM_WORLD_H

#include "env/sim.h"

#include <millrace/error.h>

#include <stdio.h>

#define SIM_FAULTS(X)                                                                              \
    X(KILL, "kills")                                                                               \
    X(POWER, "power_losses")                                                                       \
    X(EIO, "io_errors")                                                                            \
    X(ENOSPC, "no_space")                                                                          \
    X(SLOW, "slow_calls")                                                                          \
    X(FLIP, "bit_flips")                                                                           \
    X(CUT, "truncations")                                                                          \
    X(TAIL, "garbage_tails")                                                                       \
    X(HOLE, "zeroed_sectors")                                                                      \
    X(MISDIRECT, "misdirected_writes")                                                             \
    X(STALE, "lost_writes")                                                                        \
    X(STOP_NOW, "stops_at_once")                                                                   \
    X(STOP, "graceful_stops")                                                                      \
    X(DB_DOWN, "database_down")                                                                    \
    X(DB_ABORT, "database_aborts")                                                                 \
    X(DB_UNKNOWN, "database_unknown_commits")                                                      \
    X(USER, "user_failures")                                                                       \
    X(USER_KILL, "user_kills")                                                                     \
    X(REFUSED, "connections_refused")                                                              \
    X(RESET, "connections_reset")                                                                  \
    X(SPLIT, "split_reads")                                                                        \
    X(MID_LINE, "ends_inside_a_line")                                                              \
    X(PEER_SLOW, "slow_peers")                                                                     \
    X(BROKER_DOWN, "broker_down")                                                                  \
    X(ABORTED, "aborted_transactions")                                                             \
    X(HANGING, "hanging_transactions")                                                             \
    X(RETENTION, "retention")                                                                      \
    X(RECREATED, "topics_recreated")                                                               \
    X(TRUNCATED, "logs_truncated")                                                                 \
    X(GROWN, "partitions_added")                                                                   \
    X(ELECTED, "leaders_changed")                                                                  \
    X(THROTTLED, "throttled")                                                                      \
    X(JUMP, "clock_jumps")                                                                         \
    X(STANDSTILL, "clock_standstills")                                                             \
    X(THREAD, "thread_starts_failed")

enum sim_fault {
#define X(name, text) FAULT_##name,
    SIM_FAULTS(X)
#undef X
        FAULT_KINDS
};
extern const char *const sim_fault_names[FAULT_KINDS];

struct world {
    struct mr_env env; /* first */
    struct mr_sim *sim;
    struct mr_sim *after; /* what the death left; NULL while alive */
    uint64_t seed;
    uint64_t random;
    uint64_t hash;
    FILE *verbose; /* NULL = quiet */

    bool dead;
    bool failed; /* the life ended with an error: what it had begun to publish may not be durable */
    bool faults_on;
    uint64_t enabled;       /* bit per enum sim_fault: the swarm */
    unsigned error_of_4096; /* calls that fail, of so many */
    unsigned slow_of_4096;
    uint64_t die_at_call; /* 0 = never */
    int64_t die_at_ns;    /* 0 = never */
    bool die_by_power;
    bool spared; /* no more errors in this life */

    int64_t wall_offset_us; /* somebody set the clock */
    int64_t still_ns;       /* what the monotonic clock says until still_until_ns */
    int64_t still_until_ns;

    uint64_t disk_calls;      /* of this life */
    uint64_t errors_injected; /* of this life */
    uint64_t dead_calls;
    uint64_t calls; /* in all */
    uint64_t faults[FAULT_KINDS];

    /* What went wrong, the first of it; "" = nothing. */
    char anomaly[2048];

    void *net;            /* struct peer, or NULL */
    struct mr_sim *older; /* the disk as it was some lives ago, or NULL: for writes that get lost */
};

struct world *world_new(uint64_t seed, FILE *verbose);
void world_free(struct world *world);

uint64_t world_random(struct world *world, uint64_t below);
bool world_chance(struct world *world, unsigned of_1024);
bool world_has(const struct world *world, enum sim_fault fault);
/* Faults are on, this kind is enabled, and the dice say so: counted. */
bool world_strikes(struct world *world, enum sim_fault fault, unsigned of_1024);
uint64_t sim_mix64(uint64_t value);

int64_t world_now_ns(const struct world *world); /* monotonic */
int64_t world_now_us(const struct world *world); /* wall clock */
/* The disk as other processes see it: no faults, lives on. */
struct mr_env *world_outside(struct world *world);

void world_mix(struct world *world, uint64_t value);
void world_mix_bytes(struct world *world, const void *data, size_t size);
/* A line of the trace: hashed, printed when verbose. */
__attribute__((format(printf, 2, 3))) void world_note(struct world *world, const char *format, ...);
__attribute__((format(printf, 3, 4))) void world_anomaly(struct world *world, const char *kind,
                                                         const char *format, ...);

/* The wall clock is set, by up to two hours in either direction. */
void world_jump(struct world *world);
/* The monotonic clock stands still for a while, then it is right again. */
void world_stand_still(struct world *world);

/* The process dies here: nothing after this has an effect. */
void world_die(struct world *world, bool power);
/* The process is gone (all its threads ended): the next one finds what it left. */
void world_next_life(struct world *world);

/* Damages one file of the checkpoint at rest; false: there was none to damage. notices_old_logs:
 * the outputs know their batches, so a log that is an older copy of itself shows (B7); else nothing
 * can tell. what: for people. */
bool world_damage(struct world *world, const char *dir, bool notices_old_logs, char *what,
                  size_t size);
/* Copy of the disk, to go back to; freed with mr_sim_free. */
struct mr_sim *world_snapshot(struct world *world);
void world_restore(struct world *world, struct mr_sim *snapshot);

#endif
