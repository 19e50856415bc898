/*
 * One run of the simulation: a seed, a world, a program with several lives, a verdict.
 *
 * Thread: the only one; fibers inside.
 */
#ifndef MR_TESTS_SIM_RUN_H
#define MR_TESTS_SIM_RUN_H

#include "sim/database.h"
#include "sim/world.h"

/* A program under test: a pipeline or a DStream program with its input and its oracle. */
struct program;
struct program_ops {
    const char *name;
    bool by_wall_clock; /* its batches are times of the wall clock: nobody sets that */
    /* Chooses shape and options from the world's random numbers. Never NULL. */
    struct program *(*make)(struct world *world, struct database *db);
    /* A life begins: recovery happens here. last: faults are over, drain. */
    enum mr_status (*open)(struct program *program, bool last, struct mr_error *err);
    /* Runs until it ends by itself or is stopped; on a fiber of its own. */
    enum mr_status (*drive)(struct program *program, struct mr_error *err);
    void (*stop)(struct program *program, bool graceful);
    /* All its threads end; also after a failed open. */
    void (*close)(struct program *program);
    /* The world goes on, whether the process is alive or not: input that is due comes. */
    void (*feed)(struct program *program, bool all);
    bool (*fed)(const struct program *program);
    /* Is all output there? Asked in the last life of programs that do not end by themselves. */
    bool (*drained)(struct program *program);
    /* May a life end with that? Faults of the program's own world (data loss and the like). */
    bool (*expects)(struct program *program, enum mr_status status, const char *text);
    /* What came out against the oracle. whole: everything must be there by now. */
    void (*check)(struct program *program, bool whole);
    void (*free)(struct program *program);
};
extern const struct program_ops sql_program, dstream_program;

struct run_result {
    uint64_t seed;
    uint64_t hash;
    uint64_t batches;
    uint64_t lives;
    uint64_t crashes;
    uint64_t calls;
    uint64_t switches;
    int64_t virtual_us;
    uint64_t cpu_us;
    uint64_t faults[FAULT_KINDS];
    uint64_t damages_found; /* refused with an error that says so */
    char shape[300];
    char anomaly[2048]; /* "" = none */
};

void run_seed(uint64_t seed, FILE *verbose, struct run_result *ret_result);

/* What the program is and which options it has, for people. */
void program_describe(struct world *world, const char *text);

#endif
