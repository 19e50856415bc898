/*
 * Bytes as a course of operations and faults: batches, clean ends, kills, power losses with any
 * part of what was not synced, system calls that fail. After each death what is on the disk must be
 * a version that the protocol promises, and go on (protocol.h).
 */
#include "fuzz/protocol.h"

#include <errno.h>

enum { STEPS_MAX = 40, STATES_MAX = 40 };

struct chosen {
    uint64_t number;
    struct mr_sim *sim;
};

static void keep_chosen(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct chosen *chosen = arg;

    /* A power loss right away at a state that has nothing pending is that state, kept. */
    if (crash->number == chosen->number && chosen->sim == NULL)
        chosen->sim = mr_sim_kill(after, mr_sim_op_count(after));
}

static void power_loss(struct protocol *protocol, struct fuzz_input *input, uint64_t *least)
{
    uint64_t ops = mr_sim_op_count(protocol->sim);
    uint64_t back = fuzz_below(input, 12);
    uint64_t at = ops > back ? ops - back : ops;
    struct chosen chosen = {fuzz_below(input, STATES_MAX), NULL};

    *least = protocol_durable_at(protocol, at);
    (void)mr_sim_crash_states(protocol->sim, at, STATES_MAX, 1, keep_chosen, &chosen);
    if (chosen.sim == NULL)
        chosen.sim = mr_sim_power_loss(protocol->sim, at);
    protocol_die(protocol, chosen.sim);
}

static void kill_process(struct protocol *protocol)
{
    protocol_die(protocol, mr_sim_kill(protocol->sim, mr_sim_op_count(protocol->sim)));
}

/* The disk is well again, the process is new. */
static bool recover(struct protocol *protocol, uint64_t least)
{
    struct mr_error err = {0};

    mr_sim_fail_at(protocol->sim, 0, 0, false);
    if (protocol_open(protocol, least, &err) == MR_OK)
        return true;
    FUZZ_REFUSED(&err, MR_NOMEM);
    return false;
}

/* Something failed: the process dies of it, and the next one finds what is promised. */
static bool after_failure(struct protocol *protocol, const struct mr_error *err)
{
    FUZZ_REFUSED3(err, MR_IO, MR_CANNOT_CREATE, MR_PERMISSION);
    kill_process(protocol);
    return recover(protocol, protocol->synced);
}

static bool step(struct protocol *protocol, struct fuzz_input *input)
{
    static const int errors[] = {EIO, ENOSPC, EACCES, EDQUOT};
    struct mr_error err = {0};
    uint64_t least = protocol->synced;
    uint8_t what = fuzz_byte(input);

    switch (what % 8) {
    case 5:
        protocol_close(protocol);
        return recover(protocol, least);
    case 6:
        kill_process(protocol);
        return recover(protocol, least);
    case 7:
        power_loss(protocol, input, &least);
        return recover(protocol, least);
    case 4: /* a failing call, perhaps in recovery itself */
        mr_sim_fail_at(protocol->sim, 1 + fuzz_below(input, 60), errors[what / 8 % 4], what >= 128);
        if ((what & 64) != 0) {
            protocol_close(protocol);
            if (protocol_open(protocol, least, &err) != MR_OK)
                return after_failure(protocol, &err);
        }
        break;
    default:
        break;
    }
    if (protocol_batch(protocol, input, &err) != MR_OK)
        return after_failure(protocol, &err);
    return true;
}

static void one(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_of(data, size);
    struct protocol protocol;
    struct mr_error err = {0};
    bool alive;

    protocol_init(&protocol, &input);
    alive = protocol_open(&protocol, 0, &err) == MR_OK;
    if (!alive)
        FUZZ_REFUSED(&err, MR_NOMEM);
    for (int i = 0; i < STEPS_MAX && alive && !fuzz_is_empty(&input); i++)
        alive = step(&protocol, &input);
    protocol_release(&protocol);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
