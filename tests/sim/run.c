/*
 * One seed: lives under faults, then one without, then the oracle; see run.h.
 *
 *     { open -> drive (a fiber) | feed, stop, die -> unwind -> judge -> what was left -> pause }*
 *     faults off: open -> drive until drained -> stop -> check
 *
 * Thread: the main fiber; drive on its own.
 */
#include "sim/run.h"

#include "base/check.h"
#include "base/log.h"
#include "env/thread.h"
#include "sim/fibers.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LIVES_MAX = 12, DRAIN_BOUND_S = 3600, TICK_MS = 200, SWITCHES_MAX = 40000000 };

struct run {
    struct world *world;
    struct database *db;
    const struct program_ops *ops;
    struct program *program;
    struct mr_thread *driver;
    bool finished;
    enum mr_status status;
    struct mr_error err;
    bool opened;
    char damage[400]; /* what was damaged before this life, "" = nothing */
    struct run_result *result;
};

static struct run *the_run;

static int64_t now_ns(void *arg)
{
    return world_now_ns(((struct run *)arg)->world);
}

static void advance_ns(void *arg, int64_t duration_ns)
{
    mr_sim_advance_ns(((struct run *)arg)->world->sim, duration_ns);
}

static void stuck(void *arg, const char *what)
{
    struct run *run = arg;

    fprintf(stdout, "seed %" PRIu64 ": hang: %s (%s); replay with: make sim SEED=%" PRIu64 "\n",
            run->world->seed, what, run->result->shape, run->world->seed);
    fflush(stdout);
    abort();
}

static void log_line(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    MR_UNUSED(arg);
    MR_UNUSED(level);
    /* 24 characters of real time come first */
    if (the_run != NULL && the_run->world->verbose != NULL && size_bytes > 24)
        fprintf(the_run->world->verbose, "                     log:%.*s", (int)(size_bytes - 24),
                line + 24);
}

void program_describe(struct world *world, const char *text)
{
    snprintf(the_run->result->shape, sizeof(the_run->result->shape), "%s", text);
    world_note(world, "program: %s", text);
}

/* ---------------------------------------------------------------- one life */

static void drive(void *arg)
{
    struct run *run = arg;

    run->status = run->ops->drive(run->program, &run->err);
    run->finished = true;
}

/* When, and how, this life ends. */
static void arm(struct world *world)
{
    world->die_by_power = world_has(world, FAULT_POWER) && world_chance(world, 512);
    if (!world->die_by_power && !world_has(world, FAULT_KILL))
        return;
    switch (world_random(world, 4)) {
    case 0: /* inside recovery */
        world->die_at_call = 1 + world_random(world, 60);
        break;
    case 1:
        world->die_at_call = 1 + world_random(world, 300);
        break;
    case 2:
        world->die_at_call = 1 + world_random(world, 1500);
        break;
    default:
        world->die_at_ns = world_now_ns(world) + (int64_t)world_random(world, 30000) * 1000000;
    }
}

/* The fibre of the driver runs; the world goes on around it. */
static void supervise(struct run *run, bool last)
{
    struct world *world = run->world;
    int64_t begin_ns = world_now_ns(world);
    int64_t stop_ns = begin_ns + (int64_t)(1 + world_random(world, 60000)) * 1000000;
    bool graceful = world_has(world, FAULT_STOP) && world_chance(world, 512);
    bool stops = world->faults_on && (graceful || world_has(world, FAULT_STOP_NOW));
    bool stopped = false;
    int64_t bound_ns = begin_ns + (int64_t)DRAIN_BOUND_S * 1000000000;

    while (!run->finished) {
        fibers_sleep_ns((int64_t)TICK_MS * 1000000);
        run->ops->feed(run->program, last);
        if (!run->ops->by_wall_clock && world_strikes(world, FAULT_JUMP, 4))
            world_jump(world);
        if (world_strikes(world, FAULT_STANDSTILL, 6))
            world_stand_still(world);
        if (!world->dead && world->die_at_ns != 0 && world_now_ns(world) >= world->die_at_ns)
            world_die(world, world->die_by_power);
        if (stopped)
            continue;
        if (world->dead || (last && run->ops->drained(run->program))) {
            run->ops->stop(run->program, !world->dead);
            stopped = true;
        } else if (!last && world_now_ns(world) >= stop_ns) {
            world->faults[graceful ? FAULT_STOP : FAULT_STOP_NOW] += stops;
            world_note(world, "stop: %s", graceful ? "graceful" : "at once");
            run->ops->stop(run->program, graceful);
            stopped = true;
        } else if (last && world_now_ns(world) > bound_ns) {
            world_anomaly(world, "stuck", "not drained %d virtual seconds after the last fault",
                          (int)DRAIN_BOUND_S);
            run->ops->check(run->program, true);
            run->ops->stop(run->program, false);
            stopped = true;
        }
    }
}

/* One of the next threads cannot be started, or (0) all can. */
static void fail_a_start(struct world *world, uint64_t nth)
{
    if (fibers_failed_starts() > 0 && world->errors_injected++ == 0)
        world->faults[FAULT_THREAD]++;
    mr_thread_fail_at(nth, false);
}

static void live(struct run *run, bool last)
{
    struct world *world = run->world;

    run->finished = false;
    mr_error_clear(&run->err);
    run->result->lives++;
    world_note(world, "---- life %" PRIu64 "%s ----", run->result->lives, last ? " (last)" : "");
    fail_a_start(world,
                 world->faults_on && world_has(world, FAULT_THREAD) && world_chance(world, 60)
                     ? 1 + world_random(world, 4)
                     : 0);
    run->status = run->ops->open(run->program, last, &run->err);
    fail_a_start(world, 0);
    run->opened = run->status == MR_OK;
    if (run->opened) {
        MR_ASSERT(mr_thread_start("driver", drive, run, &run->driver, NULL) == MR_OK);
        fail_a_start(world,
                     world->faults_on && world_has(world, FAULT_THREAD) && world_chance(world, 60)
                         ? 1 + world_random(world, 6)
                         : 0);
        supervise(run, last);
        mr_thread_join(run->driver);
        fail_a_start(world, 0);
    }
    run->ops->close(run->program);
    world_note(world, "ended: %s%s%s", world->dead ? "dead, " : "",
               run->status == MR_OK ? "ok" : "error: ", run->status == MR_OK ? "" : run->err.text);
}

/* ---------------------------------------------------------------- verdicts */

static bool says_damaged(enum mr_status status)
{
    return status == MR_CORRUPT || status == MR_IO || status == MR_VERSION || status == MR_CONFIG ||
           status == MR_NOT_FOUND || status == MR_STATE || status == MR_SOURCE_CHANGED ||
           status == MR_BAD_DATA || status == MR_BUSY || status == MR_LIMIT;
}

/* May a life end like this? *ret_over: the run cannot go on, and that is as it should be. */
static void judge(struct run *run, bool last, struct mr_sim **snapshot, bool *ret_over)
{
    struct world *world = run->world;

    *ret_over = false;
    if (world->dead || run->status == MR_OK)
        return;
    if (run->status == MR_INTERNAL && world->errors_injected == 0) {
        world_anomaly(world, "internal error", "%s", run->err.text);
        return;
    }
    if (run->damage[0] != '\0' && says_damaged(run->status)) {
        run->result->damages_found++;
        if (!run->opened && *snapshot != NULL) { /* repaired: as it was */
            world_restore(world, *snapshot);
            *snapshot = NULL;
            run->damage[0] = '\0';
        } else {
            *ret_over = true;
        }
        return;
    }
    if (run->ops->expects(run->program, run->status, run->err.text))
        return;
    if (!last && world->errors_injected > 0)
        return;
    if (!last && run->status == MR_UNAVAILABLE && run->db->refused > 0)
        return;
    world_anomaly(world, "refused", "life %" PRIu64 " ended with: %s%s%s", run->result->lives,
                  run->err.text, run->damage[0] != '\0' ? " after " : "", run->damage);
}

static void pause_between(struct run *run)
{
    struct world *world = run->world;
    uint64_t seconds = world_random(world, 4) == 0 ? world_random(world, 60) : 0;

    fibers_sleep_ns((int64_t)(seconds * 1000 + world_random(world, 500)) * 1000000);
    run->ops->feed(run->program, false);
}

/* Lives under faults. False: the run is over. */
static bool live_with_faults(struct run *run)
{
    struct world *world = run->world;
    unsigned lives = 1 + (unsigned)world_random(world, LIVES_MAX);

    world->faults_on = true;
    for (unsigned i = 0; i < lives && world->anomaly[0] == '\0'; i++) {
        struct mr_sim *snapshot = NULL;
        bool over;

        if (i > 0 && run->damage[0] == '\0' && world_chance(world, 128)) {
            snapshot = world_snapshot(world);
            if (!world_damage(world, "/cp", !run->ops->by_wall_clock, run->damage,
                              sizeof(run->damage))) {
                mr_sim_free(snapshot);
                snapshot = NULL;
            }
        }
        arm(world);
        live(run, false);
        judge(run, false, &snapshot, &over);
        world->failed = !world->dead && run->status != MR_OK;
        mr_sim_free(snapshot);
        run->result->crashes += world->dead;
        world_next_life(world);
        run->ops->check(run->program, false);
        if (over)
            return false;
        pause_between(run);
    }
    return true;
}

static void drain(struct run *run)
{
    struct world *world = run->world;
    struct mr_sim *none = NULL;
    bool over;

    world->faults_on = false;
    run->ops->feed(run->program, true);
    live(run, true);
    judge(run, true, &none, &over);
    world_next_life(world);
    run->ops->check(run->program, !over && run->status == MR_OK && world->anomaly[0] == '\0');
}

/* ---------------------------------------------------------------- the swarm */

static void choose_faults(struct world *world)
{
    unsigned share = 1 + (unsigned)world_random(world, 3); /* of four kinds, so many */

    for (int i = 0; i < FAULT_KINDS; i++) {
        if (world_random(world, 4) < share)
            world->enabled |= UINT64_C(1) << i;
    }
    world->error_of_4096 = world_chance(world, 400) ? 1 + (unsigned)world_random(world, 24) : 0;
    world->slow_of_4096 = world_chance(world, 256) ? 1 + (unsigned)world_random(world, 10) : 0;
}

static uint64_t cpu_us(void)
{
    struct timespec spent;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * 1000000 + (uint64_t)spent.tv_nsec / 1000;
}

static void choose_threads(struct run *run)
{
    static const unsigned shares[] = {0, 2, 16, 96};
    struct fibers_config config = {
        .seed = world_random(run->world, UINT64_MAX),
        .preempt_of_256 = shares[world_random(run->world, MR_ARRAY_SIZE(shares))],
        .cpu_count = 1 + (unsigned)world_random(run->world, 4),
        .now_ns = now_ns,
        .advance_ns = advance_ns,
        .stuck = stuck,
        .arg = run,
        .switches_max = SWITCHES_MAX,
    };

    fibers_begin(&config);
}

void run_seed(uint64_t seed, FILE *verbose, struct run_result *ret_result)
{
    struct run run = {.result = ret_result};
    struct world *world = world_new(seed, verbose);
    uint64_t began_us = cpu_us();
    int64_t begin_us;

    memset(ret_result, 0, sizeof(*ret_result));
    ret_result->seed = seed;
    run.world = world;
    the_run = &run;
    mr_log_set_sink(log_line, NULL);
    choose_faults(world);
    choose_threads(&run);
    run.db = database_new(world);
    run.ops = world_chance(world, 512) ? &dstream_program : &sql_program;
    run.program = run.ops->make(world, run.db);
    begin_us = world_now_ns(world) / 1000;
    if (live_with_faults(&run) && world->anomaly[0] == '\0')
        drain(&run);
    ret_result->virtual_us = world_now_ns(world) / 1000 - begin_us;
    ret_result->batches = run.db->batches;
    run.ops->free(run.program);
    world_mix(world, fibers_hash());
    world_mix(world, mr_sim_disk_hash(world->sim));
    ret_result->switches = fibers_switches();
    fibers_end();
    ret_result->hash = world->hash;
    ret_result->calls = world->calls;
    memcpy(ret_result->faults, world->faults, sizeof(world->faults));
    memcpy(ret_result->anomaly, world->anomaly, sizeof(world->anomaly));
    database_free(run.db);
    world_free(world);
    the_run = NULL;
    mr_log_set_sink(NULL, NULL);
    ret_result->cpu_us = cpu_us() - began_us;
}
