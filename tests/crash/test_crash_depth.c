/*
 * Power loss under whole queries, twice and three times over (faults.md 5.4; rows A1 to A17, A22,
 * A24, TR-01).
 *
 * Each query of disk_flow.h runs on the simulated disk. For every operation of its trace, and the
 * parts of what was not synced then, the machine goes off; the query is started again and must end
 * with the output of a run that nothing disturbed. Inside these recoveries the machine goes off
 * again: of the smallest query in each of them and after every operation, of the others at a
 * sample; of those, a few a third time. The parts are all of them up to FIRST_MAX of one point,
 * SECOND_MAX inside a recovery; beyond that the corner cases and a sample (sim.h).
 *
 * QUICK: a sample of all of it.
 */
#include "support/disk_flow.h"
#include "support/evidence.h"
#include "support/test.h"

#include "base/hash.h"

#include <millrace/types.h>

enum { FIRST_MAX = 24, SECOND_MAX = 6 };

struct crashes {
    const struct disk_flow *flow;
    char *expected;
    uint64_t seed;
    uint64_t states[3]; /* visited at depth 1, 2, 3 */
    unsigned depth;
    bool every; /* at depth 2: all points, all parts */
    uint64_t third_one_in;
    uint64_t second_one_in; /* of depth 1: so many have a second loss */
};

static uint64_t pick(const struct crashes *all, uint64_t below)
{
    uint64_t counts[4] = {all->states[0], all->states[1], all->states[2], all->depth};

    return below == 0 ? 0 : mr_hash(counts, sizeof(counts), all->seed) % below;
}

static void visit(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct crashes *all = arg;
    struct mr_env *env = mr_sim_env(after);
    uint64_t before = mr_sim_op_count(after), one_in;
    struct mr_error err = {0};
    char *output;

    all->states[all->depth]++;
    if (disk_flow_run(all->flow, env, &err) != MR_OK)
        FAIL("%s, depth %u, %s: %s", all->flow->name, all->depth + 1, crash->text, err.text);
    output = disk_flow_output(env);
    if (strcmp(output, all->expected) != 0)
        FAIL("%s, depth %u, wrong output %s:\n%s\nexpected:\n%s", all->flow->name, all->depth + 1,
             crash->text, output, all->expected);
    mr_text_free(output);
    CHECK_EQ_UINT(mr_sim_open_count(after), 0);
    one_in = all->depth == 0 ? all->second_one_in : all->third_one_in;
    if (all->depth == 2 || one_in == 0 || pick(all, one_in) != 0)
        return;
    all->depth++;
    if (all->depth == 1 && all->every)
        mr_sim_crash_everywhere(after, before, SECOND_MAX, all->seed, visit, all);
    else
        mr_sim_crash_states(after, before + pick(all, mr_sim_op_count(after) - before + 1), 3,
                            all->seed + all->states[0], visit, all);
    all->depth--;
}

static void tell(const struct crashes *all)
{
    printf("# %s: %llu states, %llu of depth two, %llu of depth three, seed %llu\n",
           all->flow->name, (unsigned long long)all->states[0], (unsigned long long)all->states[1],
           (unsigned long long)all->states[2], (unsigned long long)all->seed);
    evidence_add("power-loss", "states", all->states[0]);
    evidence_add("power-loss", "depth2-states", all->states[1]);
    evidence_add("power-loss", "depth3-states", all->states[2]);
}

/* The undisturbed run, then all crashes of it. */
static void crash_all(struct crashes *all, size_t files, uint64_t states_max)
{
    struct mr_sim *sim = mr_sim_new(all->seed);
    struct mr_error err = {0};
    uint64_t from;

    disk_flow_prepare(all->flow, mr_sim_env(sim), files);
    from = mr_sim_op_count(sim);
    CHECK_OK(disk_flow_run(all->flow, mr_sim_env(sim), &err), &err);
    all->expected = disk_flow_output(mr_sim_env(sim));
    CHECK_CONTAINS(all->expected, "/out/part-"); /* not nothing */
    mr_sim_crash_everywhere(sim, from, states_max, all->seed, visit, all);
    tell(all);
    mr_text_free(all->expected);
    mr_sim_free(sim);
}

TEST(A22_a_power_loss_at_every_operation_of_every_recovery_changes_nothing)
{
    struct crashes all = {.flow = disk_flow_named("sum"), .seed = test_seed(21)};

    all.every = !test_quick();
    all.second_one_in = test_quick() ? 8 : 1;
    all.third_one_in = test_quick() ? 4 : 50;
    crash_all(&all, test_quick() ? 2 : 1, test_quick() ? 2 : FIRST_MAX);
    CHECK(all.states[1] > all.states[0] / 16);
}

TEST(A3_A5_what_a_dead_process_published_is_durable_before_its_commit_is)
{
    const struct disk_flow *flow = disk_flow_named("sum");
    struct mr_sim *sim = mr_sim_new(41);
    struct mr_error err = {0};
    uint64_t from, states = 0;
    char *expected;

    disk_flow_prepare(flow, mr_sim_env(sim), 1);
    from = mr_sim_op_count(sim);
    CHECK_OK(disk_flow_run(flow, mr_sim_env(sim), &err), &err);
    expected = disk_flow_output(mr_sim_env(sim));
    for (uint64_t op = from; op <= mr_sim_op_count(sim); op++, states++) {
        struct mr_sim *killed = mr_sim_kill(sim, op), *after;
        char *output;

        /* What the first process did is in the cache only; the second one relies on it. */
        CHECK_OK(disk_flow_run(flow, mr_sim_env(killed), &err), &err);
        after = mr_sim_power_loss(killed, mr_sim_op_count(killed));
        CHECK_OK(disk_flow_run(flow, mr_sim_env(after), &err), &err);
        output = disk_flow_output(mr_sim_env(after));
        if (strcmp(output, expected) != 0)
            FAIL("killed after %llu operations, started, then a power loss:\n%s",
                 (unsigned long long)op, output);
        mr_text_free(output);
        mr_sim_free(after);
        mr_sim_free(killed);
    }
    evidence_add("power-loss", "states", states);
    mr_text_free(expected);
    mr_sim_free(sim);
}

TEST(A1_to_A17_A24_a_power_loss_at_any_point_of_sql_with_state_leaves_it_exactly_once)
{
    for (size_t i = 0; i < disk_flow_count; i++) {
        struct crashes all = {.flow = &disk_flows[i], .seed = test_seed(31)};

        if (test_quick() && i != all.seed % (disk_flow_count - 1) + 1)
            continue; /* one of them, by the seed; "sum" has its own test */
        all.second_one_in = test_quick() ? 16 : 2;
        all.third_one_in = 8;
        crash_all(&all, test_quick() ? 2 : SIZE_MAX, test_quick() ? 1 : 16);
    }
}
