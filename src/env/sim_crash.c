/*
 * States that a power loss can leave; see the model in sim.h.
 *
 * Called by tests after a scenario ran.  For a number of operations the trace is replayed on the
 * durable view: a sync applies what it makes durable, the rest is pending.  Then every pending
 * operation gets a fate, and the fated ones are applied in their order to a copy.
 *
 *     fates of one state, as a number in mixed radix:   entries 2, truncate 2, write 5
 *
 * Thread: any, while nobody uses the struct mr_sim.
 */
#include "env/sim.h"

#include "base/check.h"
#include "env/sim_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FATES_OF_WRITE = 5, FATES_OF_OTHERS = 2, TEXT_BYTES = 1024 };

/* ---------------------------------------------------------------- replay */

void sim_replay_release(struct sim_replay *replay)
{
    if (replay->valid)
        sim_image_release(&replay->durable);
    free(replay->pending);
    memset(replay, 0, sizeof(*replay));
}

static void make_durable(struct mr_sim *sim, const struct sim_op *sync)
{
    struct sim_replay *replay = &sim->replay;
    size_t kept = 0;

    for (size_t i = 0; i < replay->pending_count; i++) {
        const struct sim_op *op = sim->ops[replay->pending[i]];

        if (sim_op_is_synced_by(op, sync))
            sim_op_apply(op, SIM_APPLIED, 0, &replay->durable);
        else
            replay->pending[kept++] = replay->pending[i];
    }
    replay->pending_count = kept;
}

static void replay_to(struct mr_sim *sim, uint64_t op_count)
{
    struct sim_replay *replay = &sim->replay;

    MR_ASSERT(op_count <= sim->op_count);
    if (!replay->valid || replay->position > op_count) {
        sim_replay_release(replay);
        sim_image_copy(&replay->durable, &sim->base);
        replay->valid = true;
    }
    for (; replay->position < op_count; replay->position++) {
        const struct sim_op *op = sim->ops[replay->position];

        if (!sim_op_waits(op)) {
            make_durable(sim, op);
            continue;
        }
        replay->pending =
            sim_realloc(replay->pending, (replay->pending_count + 1) * sizeof(uint64_t));
        replay->pending[replay->pending_count++] = replay->position;
    }
}

struct mr_sim *mr_sim_power_loss(struct mr_sim *sim, uint64_t op_count)
{
    replay_to(sim, op_count);
    return sim_new_on(sim, &sim->replay.durable);
}

/* ---------------------------------------------------------------- one state */

static unsigned fates_of(const struct sim_op *op)
{
    return op->kind == SIM_WRITE && op->size_bytes > 0 ? FATES_OF_WRITE : FATES_OF_OTHERS;
}

static const struct sim_op *pending_op(const struct mr_sim *sim, size_t index)
{
    return sim->ops[sim->replay.pending[index]];
}

static void describe(const struct mr_sim *sim, const unsigned char *fates, char *text)
{
    static const char *const names[] = {"absent", "applied", "torn", "zeros", "garbage"};
    const struct sim_replay *replay = &sim->replay;
    size_t at;
    int size;

    size = snprintf(text, TEXT_BYTES, "after %" PRIu64 " of %" PRIu64 " operations (%s)",
                    replay->position, sim->op_count,
                    replay->position == 0 ? "nothing" : sim->ops[replay->position - 1]->text);
    at = size < 0 ? 0 : MR_MIN((size_t)size, (size_t)TEXT_BYTES - 1);
    for (size_t i = 0; i < replay->pending_count; i++) {
        size = snprintf(text + at, TEXT_BYTES - at, "%s %" PRIu64 " %s", i == 0 ? ";" : ",",
                        replay->pending[i] + 1, names[fates[i]]);
        if (size < 0 || (size_t)size >= TEXT_BYTES - at)
            return;
        at += (size_t)size;
    }
}

struct walk {
    struct mr_sim *sim;
    uint64_t seed;
    uint64_t states_max;
    uint64_t states;
    mr_sim_crash_fn visit;
    void *arg;
    unsigned char *fates;
};

/* The disk of walk->fates. */
static void build_image(const struct walk *walk, struct sim_image *ret_disk)
{
    const struct sim_replay *replay = &walk->sim->replay;

    sim_image_copy(ret_disk, &replay->durable);
    for (size_t i = 0; i < replay->pending_count; i++)
        sim_op_apply(pending_op(walk->sim, i), (enum sim_fate)walk->fates[i],
                     sim_mix(walk->seed ^ sim_mix(replay->pending[i] ^ sim_mix(walk->states))),
                     ret_disk);
}

/* Builds the state of walk->fates, hands it out, frees it. */
static void visit_state(struct walk *walk)
{
    struct mr_sim *sim = walk->sim;
    const struct sim_replay *replay = &sim->replay;
    struct mr_sim_crash crash = {.op_count = replay->position, .number = walk->states};
    struct mr_sim *after;
    struct sim_image disk;
    char text[TEXT_BYTES];

    build_image(walk, &disk);
    after = sim_new_on(sim, &disk);
    sim_image_release(&disk);
    describe(sim, walk->fates, text);
    crash.text = text;
    walk->states++;
    walk->visit(after, &crash, walk->arg);
    mr_sim_free(after);
}

/* ---------------------------------------------------------------- choosing states */

/* Number of states; UINT64_MAX when it is more than `most`. */
static uint64_t count_states(const struct mr_sim *sim, uint64_t most)
{
    uint64_t count = 1;

    for (size_t i = 0; i < sim->replay.pending_count; i++) {
        count *= fates_of(pending_op(sim, i));
        if (count > most)
            return UINT64_MAX;
    }
    return count;
}

static void visit_all(struct walk *walk, uint64_t count)
{
    for (uint64_t state = 0; state < count; state++) {
        uint64_t rest = state;

        for (size_t i = 0; i < walk->sim->replay.pending_count; i++) {
            unsigned fates = fates_of(pending_op(walk->sim, i));

            walk->fates[i] = (unsigned char)(rest % fates);
            rest /= fates;
        }
        visit_state(walk);
    }
}

/* None and all, and for each operation: it alone, and all but it. */
static void visit_corners(struct walk *walk)
{
    size_t count = walk->sim->replay.pending_count;

    for (int base = SIM_ABSENT; base <= SIM_APPLIED; base++) {
        memset(walk->fates, base, count);
        if (walk->states < walk->states_max)
            visit_state(walk);
        for (size_t i = 0; i < count && walk->states < walk->states_max; i++) {
            walk->fates[i] = base == SIM_ABSENT ? SIM_APPLIED : SIM_ABSENT;
            visit_state(walk);
            walk->fates[i] = (unsigned char)base;
        }
    }
}

/* Each sample has its own share of operations that are lost: few, half or most of them. */
static void choose_fates(struct walk *walk, uint64_t *random)
{
    uint64_t lost_of_16;

    *random = sim_mix(*random);
    lost_of_16 = 1 + *random % 15;
    for (size_t i = 0; i < walk->sim->replay.pending_count; i++) {
        unsigned fates = fates_of(pending_op(walk->sim, i));

        *random = sim_mix(*random);
        if (*random % 16 >= lost_of_16)
            walk->fates[i] = SIM_APPLIED;
        else if (fates == FATES_OF_OTHERS)
            walk->fates[i] = SIM_ABSENT;
        else
            walk->fates[i] = (unsigned char)((*random >> 8) % fates);
    }
}

static void visit_samples(struct walk *walk)
{
    uint64_t random = sim_mix(walk->seed ^ walk->sim->replay.position);

    while (walk->states < walk->states_max) {
        choose_fates(walk, &random);
        visit_state(walk);
    }
}

struct mr_sim *mr_sim_power_loss_sample(struct mr_sim *sim, uint64_t op_count, uint64_t seed,
                                        char *text, size_t size)
{
    struct walk walk = {.sim = sim, .seed = seed};
    uint64_t random = sim_mix(seed);
    char description[TEXT_BYTES];
    struct mr_sim *after;
    struct sim_image disk;

    replay_to(sim, op_count);
    walk.fates = sim_calloc(sim->replay.pending_count, 1);
    choose_fates(&walk, &random);
    build_image(&walk, &disk);
    after = sim_new_on(sim, &disk);
    sim_image_release(&disk);
    describe(sim, walk.fates, description);
    (void)snprintf(text, size, "%s", description);
    free(walk.fates);
    return after;
}

uint64_t mr_sim_crash_states(struct mr_sim *sim, uint64_t op_count, uint64_t states_max,
                             uint64_t seed, mr_sim_crash_fn visit, void *arg)
{
    struct walk walk = {.sim = sim, .seed = seed, .states_max = states_max};
    uint64_t count;

    walk.visit = visit;
    walk.arg = arg;
    replay_to(sim, op_count);
    walk.fates = sim_calloc(sim->replay.pending_count, 1);
    count = count_states(sim, states_max);
    if (count <= states_max) {
        visit_all(&walk, count);
    } else {
        visit_corners(&walk);
        visit_samples(&walk);
    }
    free(walk.fates);
    return walk.states;
}

uint64_t mr_sim_crash_everywhere(struct mr_sim *sim, uint64_t from, uint64_t states_max,
                                 uint64_t seed, mr_sim_crash_fn visit, void *arg)
{
    uint64_t count = 0;

    for (uint64_t op_count = from; op_count <= sim->op_count; op_count++)
        count += mr_sim_crash_states(sim, op_count, states_max, seed, visit, arg);
    return count;
}
