/*
 * The kernel's side of one receiver: what it stores, how it lives (dstream.md 8.2). The source side
 * of the same object, which batches read, is receiver.c.
 *
 *     start -> { run -> pause -> run ... } -> drain
 *
 * Thread: what a comment says; fields below `lock` are shared.
 */
#ifndef MR_CORE_RECEIVER_HOST_H
#define MR_CORE_RECEIVER_HOST_H

#include "core/block_generator.h"
#include "core/internal.h"
#include "core/receiver.h"

struct mr_receiver_host {
    struct mr_query *query;
    const char *name;
    struct mr_block_log *log;
    struct mr_receiver *receiver;
    const struct mr_receiver_ops *ops;
    struct mr_generator generator;
    struct mr_thread *thread;
    void (*wake)(void *arg);
    void *wake_arg;

    struct mr_mutex lock; /* guards: */
    struct mr_cond changed;
    uint64_t backlog_bytes; /* stored, not yet in a committed batch */
    bool stopping;
    bool run_ended;           /* for good: an `ends` receiver at its end, or stopped */
    int64_t restart_delay_us; /* of the next restart only; below 0 = by the setting */
    uint32_t fruitless_runs;  /* failures behind each other that stored nothing */
    uint64_t records_at_run;  /* record_count when this run began */
    struct mr_receiver_state state;
};

/* receiver_store.c: the log of a receiver's blocks, kept as its storage level says. */
enum mr_status mr__receiver_open_log(struct mr_query *query, const struct mr_source_spec *spec,
                                     uint64_t min_last, struct mr_block_log **ret_log,
                                     struct mr_error *err);
/* Are the blocks up to `last`, behind `committed`, of these columns? Notes the columns for the next
 * start. */
enum mr_status mr__receiver_check_columns(struct mr_query *query, const struct mr_source_spec *spec,
                                          uint64_t committed, uint64_t last, struct mr_error *err);
/* ops and query are set. */
void mr__receiver_host_init(struct mr_receiver_host *host);
void mr__receiver_host_release(struct mr_receiver_host *host);
/* Starts the threads; nothing when they run or have ended. Driver. */
enum mr_status mr__receiver_host_start(struct mr_receiver_host *host, struct mr_error *err);
/* Stops taking data in; what was taken is stored. Driver. */
void mr__receiver_host_drain(struct mr_receiver_host *host);
bool mr__receiver_host_ended(struct mr_receiver_host *host);
/* A batch is committed: there is room again. Driver. */
void mr__receiver_host_give_room(struct mr_receiver_host *host, uint64_t bytes);

#endif
