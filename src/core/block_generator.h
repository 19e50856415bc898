/*
 * Block generator: records that come one by one become blocks, one per block interval (dstream.md
 * 8.3), not faster than the rate limit says (8.4).
 *
 *     start -> { acquire, add }* -> stop
 *     add   the buffer grows; a buffer that is full, or an interval of 0, cuts at once
 *     cut   the buffer is swapped and written: timer, whoever filled it, stop
 *
 * States (BG-1): initialized -> active -> stopped. What was added before the stop is written by it
 * (BG-4, hazard 1). A write that fails sticks: everything after it is refused with the same error,
 * because records behind a hole must not be taken (hazard 18).
 *
 * Thread: any; cuts are in the order of the records.
 */
#ifndef MR_CORE_BLOCK_GENERATOR_H
#define MR_CORE_BLOCK_GENERATOR_H

#include "base/buf.h"
#include "env/thread.h"

#include <millrace/ext/env.h>

struct mr_generated {
    const char *data;
    size_t size_bytes;
    uint64_t record_count;
    const char *metadata; /* lines, in the order of the records; NULL = none */
};
/* Returns when the block is stored, and durable when there is a log. */
typedef enum mr_status (*mr_generated_fn)(void *arg, const struct mr_generated *block,
                                          struct mr_error *err);

struct mr_generator_config {
    struct mr_env *env;
    int64_t interval_us; /* 0: no timer, every add is a block */
    int64_t rate_max;    /* records a second; 0 or less: no limit (RL-3) */
    mr_generated_fn write;
    void *arg;
};

enum mr_generator_state { MR_GENERATOR_INITIALIZED, MR_GENERATOR_ACTIVE, MR_GENERATOR_STOPPED };

struct mr_generator {
    struct mr_generator_config config;
    struct mr_thread *timer;
    struct mr_mutex cut_lock; /* taken before lock */
    struct mr_mutex lock;     /* guards: */
    struct mr_cond changed;
    enum mr_generator_state state;
    bool hurry; /* nobody waits for permits any more; the timer ends */
    struct mr_buf current;
    struct mr_buf metadata;
    uint64_t current_records;
    int64_t rate;   /* in force; 0 = no limit */
    double permits; /* records that may come now */
    int64_t permits_at_ns;
    enum mr_status failed;
    struct mr_error failure;
};

void mr__generator_init(struct mr_generator *generator, const struct mr_generator_config *config);
void mr__generator_release(struct mr_generator *generator);
/* Once. */
enum mr_status mr__generator_start(struct mr_generator *generator, struct mr_error *err);
/* Waits until that many records may come (RL-1); mr__generator_hurry ends the wait. */
void mr__generator_acquire(struct mr_generator *generator, uint64_t records);
/* All of it lands in one block (BG-5). metadata may be NULL. MR_STOPPED when it is not active. */
enum mr_status mr__generator_add(struct mr_generator *generator, const struct mr_generated *records,
                                 struct mr_error *err);
/* Writes the buffer as a block; nothing when it is empty. The timer calls it at every tick. */
enum mr_status mr__generator_cut(struct mr_generator *generator, struct mr_error *err);
/* The failure that sticks, or MR_OK. */
enum mr_status mr__generator_failure(struct mr_generator *generator, struct mr_error *err);
/* Makes a failure of somebody else stick, unless there is one. What is in the buffer is not lost:
 * it was not acknowledged. */
void mr__generator_fail(struct mr_generator *generator, enum mr_status status,
                        const struct mr_error *failure);
/* A stop is near: waits for permits end, adding goes on. */
void mr__generator_hurry(struct mr_generator *generator);
/* Ends the timer, writes the rest. A second time it does nothing. */
void mr__generator_stop(struct mr_generator *generator);

/* RL-2: ignored unless rate > 0; never above the configured maximum. */
void mr__generator_set_rate(struct mr_generator *generator, int64_t rate);
int64_t mr__generator_rate(struct mr_generator *generator); /* 0 = no limit */

#endif
