/*
 * One store from its parts, by all workers: each loads a shard, from all parts in their order.
 *
 *     driver    head and index of each part (part_read.c): names, seed, where its records are
 *     job s     part after part: the records with keys of shard s -> the shard's table
 *     driver    for each part: did the jobs find as many entries as its foot says, and are there as
 *               many keys as its commit says
 *
 * Called by load.c for a store that is worth it. What is in memory afterwards is what loading part
 * by part gives, whoever took which shard: a shard sees its keys in the same order. Nothing is
 * judged less strictly; but a failure is that of some shard, and what a damaged checkpoint is told
 * to its owner comes from the loading part by part that follows.
 *
 * Memory: a record for each worker, and 24 bytes for each record of all parts.
 *
 * Threads: the driver's; jobs on any. A job has readers of its own and touches its shard only.
 */
#include "state/internal.h"

#include "base/mutant.h"

#include <string.h>

#include "base/banned.h"

struct chain_part {
    const struct mr_state_part *part;
    char *where;
    struct mr_part_index index;
    uint64_t entries[MR_STORE_SHARDS]; /* that each job found */
    uint64_t keys[MR_STORE_SHARDS];    /* in each shard after this part */
};

struct chain {
    struct mr_state *state;
    struct mr_store *store;
    struct chain_part *parts;
    uint32_t count;
    uint64_t bytes;
};

static void release_chain(struct chain *chain)
{
    for (uint32_t i = 0; chain->parts != NULL && i < chain->count; i++) {
        mr__part_index_release(&chain->parts[i].index);
        mr_free(chain->parts[i].where);
    }
    mr_free(chain->parts);
}

/* Which parts, as load.c has it; a snapshot that cannot be gone round is left to it. */
static enum mr_status collect_parts(struct chain *chain, const struct mr_state_part *parts,
                                    uint32_t count, const char *name, uint32_t from,
                                    struct mr_error *err)
{
    chain->parts = mr_alloc_zero(NULL, (count - from + 1u) * sizeof(*chain->parts));
    if (chain->parts == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot load state '%s': out of memory", name);
    for (uint32_t i = from; i < count; i++) {
        if (strcmp(parts[i].store, name) != 0)
            continue;
        /* redundant: `from` is the newest snapshot, and none comes behind it */
        if (parts[i].is_snapshot && i != from && !mr__part_has_delta(parts, i) &&
            !MR_MUTANT("load-shards.collect.relaid"))
            return MR_FAIL(err, MR_CORRUPT, "cannot load state '%s': a snapshot is missing", name);
        if (parts[i].is_snapshot && i != from)
            continue;
        chain->parts[chain->count++].part = &parts[i];
        chain->bytes += parts[i].size_bytes;
    }
    return MR_OK;
}

/* The head of one part, and where its records are. */
static enum mr_status open_part(struct chain *chain, uint32_t i, struct mr_error *err)
{
    struct mr_state *state = chain->state;
    struct chain_part *part = &chain->parts[i];
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    enum mr_status status;

    part->where = mr__part_place(state, part->part);
    if (part->where == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot load state '%s': out of memory", part->part->store);
    MR_TRY_GOTO(mr__part_open(state->env, part->part, part->where, &reader, err));
    MR_TRY_GOTO(mr__part_head(reader, state->config.query_id, &names, err));
    if (chain->store == NULL)
        MR_TRY_GOTO(mr__state_add_store(state, part->part->store, names.kind, names.key_schema,
                                        names.value_schema, &chain->store, err));
    MR_TRY_GOTO(mr__part_take_names(chain->store, part->part, &names, i == 0, part->where, err));
    if (i > 0 && names.seed != chain->store->seed && !MR_MUTANT("load-shards.open.seed")) {
        status = MR_FAIL(err, MR_CORRUPT, "cannot read '%s': another seed", part->where);
        goto done;
    }
    chain->store->seed = names.seed;
    status = mr__part_index(reader, &part->index, err);
done:
    mr__part_close(reader);
    return status;
}

static enum mr_status load_part_of_shard(struct chain *chain, struct chain_part *part,
                                         unsigned shard, struct mr_error *err)
{
    struct mr_state *state = chain->state;
    struct mr_part_reader *reader = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr__part_open(state->env, part->part, part->where, &reader, err));
    MR_TRY_GOTO(mr__part_apply_shard(reader, &part->index, chain->store, shard,
                                     &part->entries[shard], err));
    part->keys[shard] = mr_store_shard_count(chain->store, shard);
done:
    mr__part_close(reader);
    return status;
}

static enum mr_status load_shard(void *arg, size_t shard, unsigned worker, struct mr_error *err)
{
    struct chain *chain = arg;

    MR_UNUSED(worker);
    for (uint32_t i = 0; i < chain->count; i++)
        MR_TRY(load_part_of_shard(chain, &chain->parts[i], (unsigned)shard, err));
    return MR_OK;
}

/* Every entry went into some shard, and each part left as many keys as it says. */
static enum mr_status count_all(const struct chain *chain, struct mr_error *err)
{
    for (uint32_t i = 0; i < chain->count; i++) {
        const struct chain_part *part = &chain->parts[i];
        uint64_t entries = 0, keys = 0;

        for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
            entries += part->entries[shard];
            keys += part->keys[shard];
        }
        if ((entries != part->index.entries && !MR_MUTANT("load-shards.count.entries")) ||
            (keys != part->part->key_count && !MR_MUTANT("load-shards.count.keys")))
            return MR_FAIL(err, MR_CORRUPT, "cannot read '%s': it counts other entries",
                           part->where);
    }
    return MR_OK;
}

enum mr_status mr__load_by_shards(struct mr_state *state, const struct mr_state_part *parts,
                                  uint32_t count, const char *name, uint32_t from, bool *ret_done,
                                  struct mr_error *err)
{
    struct chain chain = {.state = state, .store = mr_state_find(state, name)};
    const struct mr_state_part *newest;
    enum mr_status status;

    *ret_done = false;
    if (!mr_jobs_any(&state->config.jobs))
        return MR_OK;
    MR_TRY_GOTO(collect_parts(&chain, parts, count, name, from, err));
    if (chain.count == 0 || chain.bytes < state->config.spread_min_bytes)
        goto done;
    *ret_done = true;
    if (chain.store != NULL)
        mr__store_clear(chain.store);
    for (uint32_t i = 0; i < chain.count; i++)
        MR_TRY_GOTO(open_part(&chain, i, err));
    MR_TRY_GOTO(mr_jobs_run(&state->config.jobs, load_shard, &chain, MR_STORE_SHARDS, err));
    MR_TRY_GOTO(count_all(&chain, err));
    newest = chain.parts[chain.count - 1].part;
    chain.store->told_keys = newest->key_count;
    chain.store->version = newest->version;
done:
    release_chain(&chain);
    return status;
}
