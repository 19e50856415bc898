/*
 * A query that was edited, compared with its checkpoint: see evolution.h and docs/evolution.md.
 *
 *     manifest of the last commit  --\                        /-- sources: connector, new, removed
 *     stores of the last commit    ---+-- against the graph --+-- operators, by opening each
 *     PLAN of the last batch       --/                        \-- sinks, what nobody claims
 *
 * Operators are compared by opening them: each asks for its stores, and for every one that the
 * checkpoint has the state asks mr__evolution_judge, which knows the operator at hand. What it
 * answers happens to the store in memory (state/change.c). When something is not accepted the start
 * fails with the whole list, and nothing was written: so everything is judged first, and a store
 * that nobody accepted is simply emptied in memory.
 *
 * evolution_parts.h says what is in which file. Called by open.c at a start, and offline by
 * mr_evolution_compare with a read-only state that has no entries. Thread: driver.
 */
#include "core/evolution_parts.h"

static enum mr_status compare(struct mr__comparison *c, struct mr_error *err)
{
    MR_TRY(mr__manifest_read(c->in->state, &c->manifest, err));
    MR_TRY(mr__evolution_sources(c, err));
    mr_state_set_judge(c->in->state, mr__evolution_judge, c);
    MR_TRY(mr__evolution_operators(c, err));
    MR_TRY(mr__evolution_unclaimed(c, err));
    MR_TRY(mr__evolution_sinks(c, err));
    return mr__evolution_settle(c, err);
}

static enum mr_status drop_unclaimed(struct mr_state *state, struct mr_error *err)
{
    const char *name;

    while ((name = mr_state_unclaimed(state, 0)) != NULL)
        MR_TRY(mr_state_drop(state, name, err));
    return MR_OK;
}

static enum mr_status run_comparison(const struct mr__comparing *in,
                                     struct mr_evolution **ret_evolution, struct mr_error *err)
{
    struct mr__comparison c = {.in = in};
    enum mr_status status;

    c.evolution = mr_alloc_zero(NULL, sizeof(*c.evolution));
    if (c.evolution == NULL)
        return mr__evolution_no_memory(err);
    status = compare(&c, err);
    mr_state_set_judge(in->state, NULL, NULL);
    for (size_t i = 0; status == MR_OK && i < c.evolution->count; i++) {
        if (!c.evolution->items[i].public.is_accepted)
            status = mr__evolution_refuse(&c, err);
    }
    mr__manifest_release(&c.manifest);
    *ret_evolution = c.evolution;
    return status;
}

enum mr_status mr__evolution_open(const struct mr__comparing *comparing,
                                  struct mr_evolution **ret_evolution, struct mr_error *err)
{
    MR_TRY(run_comparison(comparing, ret_evolution, err));
    return drop_unclaimed(comparing->state, err);
}

enum mr_status mr_evolution_compare(struct mr_env *env, struct mr_graph *graph,
                                    const char *checkpoint_dir, const char *accept,
                                    struct mr_evolution **ret_evolution, struct mr_error *err)
{
    const struct mr_state_reader_options heads = {.heads = true};
    struct mr__comparing in = {.env = env,
                               .graph = graph,
                               .on_change = MR_ON_CHANGE_ASK,
                               .accept = accept,
                               .checkpoint_dir = checkpoint_dir};
    struct mr_checkpoint checkpoint = {0};
    struct mr_recovered recovered = {0};
    struct mr_evolution *evolution = NULL;
    struct mr_error refused = {0};
    enum mr_status status;

    *ret_evolution = NULL;
    MR_TRY(mr_checkpoint_peek(env, checkpoint_dir, &checkpoint, err));
    status = mr_batch_log_peek(env, checkpoint.log_dir, 100, &recovered, err);
    if (status == MR_OK && recovered.has_plan)
        status = mr_state_open_reader_at(env, checkpoint_dir, &heads, &in.state, err);
    if (status == MR_OK && recovered.has_plan) {
        in.plan = &recovered.last_plan;
        in.has_commit = recovered.has_commit;
        mr__choose_source_ops(graph);
        status = run_comparison(&in, &evolution, &refused);
        /* What is not accepted is what the caller wants to see. */
        if (status == MR_CONFIG && evolution != NULL && mr_evolution_class(evolution) > 0)
            status = MR_OK;
        else if (status != MR_OK && err != NULL)
            *err = refused;
    }
    mr_state_close(in.state);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
    if (status == MR_OK)
        *ret_evolution = evolution;
    else
        mr_evolution_free(evolution);
    return status == MR_NOT_FOUND && recovered.has_plan ? MR_CORRUPT : status;
}
