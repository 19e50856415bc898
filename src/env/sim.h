/*
 * The simulated environment: a disk in memory that knows what is synced, a clock that moves only
 * when somebody sleeps, random numbers from a seed, and faults on demand.
 *
 * For tests.  A scenario runs to its end on one struct mr_sim; afterwards every state that a crash
 * could have left at every point of it can be built, each as a struct mr_sim of its own, on which
 * recovery runs, and so on (depth 2, 3).
 *
 * Model of the disk
 *     Every call that changes something is an operation of the trace.  The live view has all of
 *     them.  The durable view has those that were synced:
 *
 *         write, truncate of a file            durable at the next sync of that file
 *         create, mkdir, rename, unlink, rmdir durable at the next sync_dir of the directory (a
 *                                              rename between two: of either)
 *
 *     Until then an operation is pending.  A power loss after the first n operations leaves the
 *     durable view plus any subset of the pending operations, in their order, each of them
 *         absent | applied                              all kinds
 *         torn (a prefix) | zeros | garbage in its place      writes only
 *     A file whose directory entry is durable but whose data is not has size 0 plus such a subset.
 *     A process that dies without a power loss leaves everything visible, and still pending what
 *     was pending: mr_sim_kill.
 *     Locks and open files vanish at a crash.  There are no links and no permissions.
 *
 * A path is absolute, or relative to "/".  Memory comes from the C library, so that the fault loop
 * of base/alloc.h counts the allocations of the tested code only.
 *
 * Thread: any thread may call the environment (one lock); the functions below only while no other
 * thread does.
 */
#ifndef MR_ENV_SIM_H
#define MR_ENV_SIM_H

#include <millrace/ext/env.h>

struct mr_sim;

/* An empty disk. The same seed gives the same random numbers and order of listings. Never NULL. */
struct mr_sim *mr_sim_new(uint64_t seed);
void mr_sim_free(struct mr_sim *sim); /* NULL allowed; close its files and locks before */
struct mr_env *mr_sim_env(struct mr_sim *sim);

/* The trace: number of operations so far, and what one of them was: "rename /a/.tmp-x to /a/x". */
uint64_t mr_sim_op_count(const struct mr_sim *sim);
size_t mr_sim_op_text(const struct mr_sim *sim, uint64_t op, char *text, size_t size);
/* Hash of the whole live disk: equal contents, equal hash. */
uint64_t mr_sim_disk_hash(struct mr_sim *sim);
/* Files and locks that are open: 0 when the tested code gave everything back. */
uint64_t mr_sim_open_count(const struct mr_sim *sim);

/* Moves both clocks. */
void mr_sim_advance_ns(struct mr_sim *sim, int64_t duration_ns);

/*
 * Faults. Every call that can fail is counted: mr_sim_call_count. The nth from now (1 = next) fails
 * with os_errno, and all later ones too when forever; 0 = off. ENOSPC and EDQUOT only hit calls
 * that need space (the count goes on until one does). A failing write has written a prefix.
 */
void mr_sim_fail_at(struct mr_sim *sim, uint64_t nth, int os_errno, bool forever);
uint64_t mr_sim_call_count(const struct mr_sim *sim);
/* The nth sync or sync_dir from now (1 = next) says it worked and does nothing: for testing
 * tests. */
void mr_sim_ignore_sync(struct mr_sim *sim, uint64_t nth);
uint64_t mr_sim_sync_count(const struct mr_sim *sim);

/* A process dies after the first op_count operations, the machine lives. Returns new. */
struct mr_sim *mr_sim_kill(const struct mr_sim *sim, uint64_t op_count);

/* The machine loses its power after the first op_count operations, and nothing that was not synced
 * survives. Returns new. */
struct mr_sim *mr_sim_power_loss(struct mr_sim *sim, uint64_t op_count);

/*
 * The machine loses its power after the first op_count operations, and of what was not synced an
 * arbitrary part survives, as in mr_sim_crash_states: one sample by seed. text: what survived, for
 * people. Returns new.
 */
struct mr_sim *mr_sim_power_loss_sample(struct mr_sim *sim, uint64_t op_count, uint64_t seed,
                                        char *text, size_t size);

/* Both clocks of `to` show what those of `from` show. */
void mr_sim_set_time(struct mr_sim *to, const struct mr_sim *from);
/* The path by which a file was opened; borrowed until it is closed. */
const char *mr_sim_file_path(const struct mr_file *file);

/* One state after a power loss. */
struct mr_sim_crash {
    uint64_t op_count; /* operations before it */
    uint64_t number;   /* of the state among those with this op_count */
    const char *text;  /* "after 12 of 36 operations (sync /a/x); 7 torn, 9 absent", borrowed */
};
/* after is freed when the function returns; it may be run, crashed again, anything. */
typedef void (*mr_sim_crash_fn)(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg);

/*
 * Calls visit for the states that a power loss after the first op_count operations can leave: for
 * all of them when there are at most states_max, else for the corner cases (none, all, each one
 * alone, all but each one) and a sample by seed, states_max in all. Returns their number. Going
 * through growing op_count is linear.
 */
uint64_t mr_sim_crash_states(struct mr_sim *sim, uint64_t op_count, uint64_t states_max,
                             uint64_t seed, mr_sim_crash_fn visit, void *arg);
/* The same for every op_count from `from` to the end of the trace. */
uint64_t mr_sim_crash_everywhere(struct mr_sim *sim, uint64_t from, uint64_t states_max,
                                 uint64_t seed, mr_sim_crash_fn visit, void *arg);

#endif
