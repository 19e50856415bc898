/*
 * The stores of a query, one version per batch.
 *
 *   prepare(N)   every changed store writes a delta (into the log, or a file when it is large), and
 *                a snapshot instead when one is due;
 *                the parts go into COMMIT(N).  Files are sealed and in place before COMMIT(N) is
 *                written: it alone makes them real.
 *   applied(N)   COMMIT(N) is in the log: changes become the base of N + 1.
 *   rollback     the batch failed: undo in memory; files it left are removed here, or at the next
 *                start.
 *   purge(N)     files that no retained commit reaches are removed; says from which batch on in-log
 *                deltas are still needed.
 *
 * A batch that writes a snapshot writes its delta too. The snapshot before it, and the deltas
 * between them, are kept until they leave the retained batches: a snapshot that turns out to be
 * damaged can be rebuilt from them (B15).
 */
#include "base/limits.h"
#include "state/internal.h"

#include "base/hash.h"
#include "base/mutant.h"

#include <millrace/ext/durable.h>

#include <string.h>

enum {
    DELTAS_MAX = MR_LIMIT_STATE_DELTAS,
    DELTA_COST_BYTES = 4096,
    NAME_BYTES_MAX = MR_LIMIT_STATE_STORE_NAME,
    PINNED_LOG_FACTOR = 8
};
/* A store may keep that much of the log from going, or so many times its own bytes. */
enum { PINNED_LOG_BYTES = 256 << 10, PINNED_SMALL_FACTOR = 64 };

/* Adds a copy to the list of live parts. */
enum mr_status mr__state_keep_part(struct mr_state *state, const struct mr_state_part *part,
                                   struct mr_error *err)
{
    struct mr_state_part copy = {0};

    MR_TRY(mr_part_list_reserve(&state->parts, 1, err));
    MR_TRY(mr_state_part_copy(part, &copy, err));
    mr_part_list_add(&state->parts, &copy);
    return MR_OK;
}

static void count_part(struct mr_store *store, const struct mr_state_part *part)
{
    if (store == NULL)
        return;
    store->persisted = true;
    if (part->is_snapshot) {
        store->snapshot_bytes = part->size_bytes;
        store->delta_bytes = store->delta_count = 0;
        store->pinned_from = UINT64_MAX;
    } else {
        store->delta_bytes += part->size_bytes;
        store->delta_count++;
    }
    if (part->in_log)
        store->pinned_from = MR_MIN(store->pinned_from, part->version);
}

void mr__state_recount(struct mr_state *state)
{
    for (uint32_t i = 0; i < state->parts.count; i++)
        count_part(mr_state_find(state, state->parts.parts[i].store), &state->parts.parts[i]);
    state->committed_parts = state->parts.count;
}

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
}

/* Names become directory names: what is not plain (a leading dot too) is percent-encoded. */
static char *encode_name(const char *name)
{
    static const char digits[] = "0123456789ABCDEF";
    struct mr_buf text = MR_BUF_INIT;

    for (const char *at = name; *at != '\0'; at++) {
        if (is_plain(*at) || (*at == '.' && at != name)) {
            mr_buf_add_char(&text, *at);
        } else {
            mr_buf_add_char(&text, '%');
            mr_buf_add_char(&text, digits[((unsigned char)*at) >> 4]);
            mr_buf_add_char(&text, digits[((unsigned char)*at) & 15]);
        }
    }
    return mr_buf_take(&text);
}

char *mr__state_part_path(const struct mr_state *state, const struct mr_state_part *part)
{
    char *dir_name = encode_name(part->store);
    char *path =
        dir_name != NULL ? mr_asprintf("%s/%s/%s", state->dir, dir_name, part->file) : NULL;

    mr_free(dir_name);
    return path;
}

enum mr_status mr__state_new(struct mr_env *env, const char *dir, const char *log_dir,
                             const struct mr_state_config *config, struct mr_state **ret_state,
                             struct mr_error *err)
{
    struct mr_state *state = mr_alloc_zero(NULL, sizeof(*state));

    if (state == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the state: out of memory");
    state->env = env;
    state->config = *config;
    state->dir = mr_strdup(dir != NULL ? dir : "");
    state->log_dir = mr_strdup(log_dir != NULL ? log_dir : "");
    /*
     * A batch that runs again, also in the next process, must see its keys in the same order and
     * in the same shards: the seed is the query's, and as random as its id.
     */
    state->seed = mr_hash(config->query_id, sizeof(config->query_id), 0);
    if (state->dir == NULL || state->log_dir == NULL) {
        mr_state_close(state);
        return MR_FAIL(err, MR_NOMEM, "cannot open the state: out of memory");
    }
    *ret_state = state;
    return MR_OK;
}

void mr_state_close(struct mr_state *state)
{
    if (state == NULL)
        return;
    for (size_t i = 0; i < state->store_count; i++)
        mr__store_free(state->stores[i]);
    mr_part_list_release(&state->parts);
    mr_free(state->stores);
    mr_free(state->dir);
    mr_free(state->log_dir);
    mr_free(state);
}

struct mr_store *mr_state_find(struct mr_state *state, const char *name)
{
    for (size_t i = 0; i < state->store_count; i++) {
        if (strcmp(state->stores[i]->name, name) == 0)
            return state->stores[i];
    }
    return NULL;
}

enum mr_status mr__state_add_store(struct mr_state *state, const char *name, const char *kind,
                                   const char *key_schema, const char *value_schema,
                                   struct mr_store **ret_store, struct mr_error *err)
{
    struct mr_store **grown =
        mr_realloc(NULL, state->stores, (state->store_count + 1) * sizeof(*grown));
    struct mr_store *store;

    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make state '%s': out of memory", name);
    state->stores = grown;
    store = mr__store_new(name, kind, key_schema, value_schema, state->seed);
    if (store != NULL) {
        store->dir_name = encode_name(name);
        store->pinned_from = UINT64_MAX;
    }
    if (store == NULL || store->dir_name == NULL) {
        mr__store_free(store);
        return MR_FAIL(err, MR_NOMEM, "cannot make state '%s': out of memory", name);
    }
    grown[state->store_count++] = store;
    *ret_store = store;
    return MR_OK;
}

enum mr_status mr_state_store(struct mr_state *state, const char *name, const char *kind,
                              const char *key_schema, const char *value_schema,
                              struct mr_store **ret_store, struct mr_error *err)
{
    struct mr_store *store = mr_state_find(state, name);

    if (strlen(name) == 0 || strlen(name) > NAME_BYTES_MAX)
        return MR_FAIL(err, MR_CONFIG, "cannot name a state '%s': 1 to %d bytes", name,
                       NAME_BYTES_MAX);
    if (store == NULL) {
        MR_TRY(mr__state_add_store(state, name, kind, key_schema, value_schema, &store, err));
    } else {
        if (store->claimed && !MR_MUTANT("state.store.claimed"))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot use state '%s' for two operators: give each a name of its own",
                           name);
        MR_TRY(mr__store_adapt(state, store, kind, key_schema, value_schema, err));
    }
    MR_ASSERT(store != NULL);
    store->claimed = true;
    store->owner = state->owner;
    *ret_store = store;
    return MR_OK;
}

void mr_state_set_owner(struct mr_state *state, const char *owner)
{
    state->owner = owner;
}

const char *mr_state_unclaimed(struct mr_state *state, size_t index)
{
    for (size_t i = 0; i < state->store_count; i++) {
        if (!state->stores[i]->claimed && !mr__store_is_hidden(state->stores[i]) && index-- == 0)
            return state->stores[i]->name;
    }
    return NULL;
}

/* Prepare. */

/*
 * Due when loading the deltas since the last one costs more than loading it (each one costs
 * something even when it is tiny), when there are very many, or when they keep a long stretch of
 * log from going. Never for the first part of a store.
 */
static bool snapshot_is_due(const struct mr_state *state, const struct mr_store *store,
                            const struct mr_batch_log *log, uint64_t batch_id)
{
    const struct mr_state_config *config = &state->config;
    double limit = MR_MAX((double)config->snapshot_min_bytes,
                          config->snapshot_ratio * (double)store->snapshot_bytes);

    if (!store->persisted)
        return false;
    if (store->wants_snapshot)
        return true;
    if (config->snapshot_every > 0)
        return batch_id % config->snapshot_every == config->snapshot_every - 1;
    if (store->pinned_from != UINT64_MAX) {
        double pinned_bytes = (double)mr_batch_log_bytes_from(log, store->pinned_from);
        double store_bytes = (double)(store->snapshot_bytes + store->delta_bytes);

        /* A small store beside large ones (the manifest) is written anew for little. */
        if (pinned_bytes > PINNED_LOG_FACTOR * limit ||
            pinned_bytes > MR_MAX((double)PINNED_LOG_BYTES, PINNED_SMALL_FACTOR * store_bytes))
            return true;
    }
    return (double)store->delta_bytes + (double)store->delta_count * DELTA_COST_BYTES > limit ||
           store->delta_count >= DELTAS_MAX;
}

struct dir_maker {
    struct mr_state *state;
    struct mr_store *store;
    const char *dir;
};

/* Once in a run: making a directory durable flushes all its parents. */
static enum mr_status make_dir(void *arg, struct mr_error *err)
{
    struct dir_maker *maker = arg;

    if (!maker->store->has_dir)
        MR_TRY(MR_MUTANT("state.make-dir.durably")
                   ? mr_env_mkdir(maker->state->env, maker->dir, err)
                   : mr_durable_mkdirs(maker->state->env, maker->dir, err));
    maker->store->has_dir = true;
    return MR_OK;
}

static enum mr_status push_commit_part(struct mr_commit *commit, const struct mr_state_part *part,
                                       struct mr_error *err)
{
    struct mr_state_part *grown =
        mr_realloc(NULL, commit->parts, (commit->part_count + 1u) * sizeof(*grown));

    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot commit state '%s': out of memory", part->store);
    commit->parts = grown;
    MR_TRY(mr_state_part_copy(part, &grown[commit->part_count], err));
    commit->part_count++;
    return MR_OK;
}

/* What mr__part_write made goes where it belongs: into the log, or under its final name. */
static enum mr_status place_part(struct mr_state *state, struct mr_part_target *target,
                                 const struct mr_state_part *part, struct mr_batch_log *log,
                                 struct mr_error *err)
{
    if (part->in_log)
        return mr_batch_log_delta(log, part->version, part->store, part->is_snapshot,
                                  target->bytes.data, target->bytes.size, err);
    MR_TRY(mr_staged_publish(target->staged, err));
    return MR_MUTANT("state.place-part.sync-dir") ? MR_OK
                                                  : mr_env_sync_dir(state->env, target->dir, err);
}

/* One part: small ones go into the log, large ones into a file. */
static enum mr_status write_part(struct mr_state *state, struct mr_store *store, bool is_snapshot,
                                 uint64_t batch_id, uint32_t attempt, struct mr_batch_log *log,
                                 struct mr_commit *commit, struct mr_error *err)
{
    struct mr_state_part part = {.store = store->name,
                                 .version = batch_id,
                                 .epoch = state->config.epoch,
                                 .attempt = attempt,
                                 .is_snapshot = is_snapshot};
    char *dir = mr_asprintf("%s/%s", state->dir, store->dir_name);
    char *file = mr_asprintf("%llu-%u-%u.%s", (unsigned long long)batch_id, part.epoch, attempt,
                             is_snapshot ? "snap" : "delta");
    struct dir_maker maker = {state, store, dir};
    struct mr_part_target target = {.env = state->env,
                                    .dir = dir,
                                    .file = file,
                                    .inline_bytes_max = state->config.inline_bytes_max,
                                    .make_dir = make_dir,
                                    .arg = &maker};
    struct mr_store_stats stats;
    enum mr_status status;

    if (dir == NULL || file == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot write state '%s': out of memory", store->name);
        goto done;
    }
    MR_TRY_GOTO(mr__part_write(store, &part, state->config.query_id, &state->config.jobs, &target,
                               &stats, err));
    if (!is_snapshot)
        store->stats = stats;
    part.file = part.in_log ? NULL : file;
    MR_TRY_GOTO(place_part(state, &target, &part, log, err));
    state->snapshots_written += is_snapshot;
    MR_TRY_GOTO(mr__state_keep_part(state, &part, err));
    status = push_commit_part(commit, &part, err);
done:
    mr__part_target_release(&target);
    mr_free(file);
    mr_free(dir);
    return status;
}

/* The delta always, so that a snapshot that turns out damaged can be rebuilt; the snapshot behind
 * it when one is due. */
static enum mr_status prepare_store(struct mr_state *state, struct mr_store *store,
                                    uint64_t batch_id, uint32_t attempt, struct mr_batch_log *log,
                                    struct mr_commit *commit, struct mr_error *err)
{
    bool due = snapshot_is_due(state, store, log, batch_id);

    if (store->relaid)
        return write_part(state, store, true, batch_id, attempt, log, commit, err);
    if (mr__store_is_changed(store) ||
        (!store->persisted && !MR_MUTANT("state.prepare.first-part")))
        MR_TRY(write_part(state, store, false, batch_id, attempt, log, commit, err));
    if (due)
        MR_TRY(write_part(state, store, true, batch_id, attempt, log, commit, err));
    return MR_OK;
}

enum mr_status mr_state_prepare(struct mr_state *state, uint64_t batch_id, uint32_t attempt,
                                struct mr_batch_log *log, struct mr_commit *commit,
                                struct mr_error *err)
{
    MR_ASSERT(!state->read_only);
    for (size_t i = 0; i < state->store_count; i++) {
        struct mr_store *store = state->stores[i];

        store->stats = (struct mr_store_stats){0};
        if (state->config.volatile_only || store->relaid)
            mr__store_count_changes(store, &store->stats); /* else by who writes them */
        /* A store without changes writes nothing, but its first part tells the checkpoint that it
         * exists. */
        if (!state->config.volatile_only)
            MR_TRY(prepare_store(state, store, batch_id, attempt, log, commit, err));
    }
    return mr_state_check_memory(err);
}

/* The shards of a store; each is set to NULL when it is done. */
struct accepting {
    struct mr_shard *shards[MR_STORE_SHARDS];
};

static enum mr_status accept_shard(void *arg, size_t index, unsigned worker, struct mr_error *err)
{
    struct accepting *accepting = arg;

    MR_UNUSED(worker);
    MR_UNUSED(err);
    if (accepting->shards[index] != NULL)
        mr__shard_accept(accepting->shards[index]);
    accepting->shards[index] = NULL;
    return MR_OK;
}

/* Many changes are accepted by all workers. When these cannot be had nothing was accepted, or all
 * that they began, and the driver does the rest. */
static void accept_store(struct mr_state *state, struct mr_store *store)
{
    enum { MANY = 16 << 10 };
    struct accepting accepting;
    size_t change_count = 0;

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        accepting.shards[i] = store->shards[i];
        change_count += store->shards[i] != NULL ? store->shards[i]->change_count : 0;
    }
    if (change_count > MANY)
        (void)mr_jobs_run(&state->config.jobs, accept_shard, &accepting, MR_STORE_SHARDS, NULL);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        (void)accept_shard(&accepting, i, 0, NULL);
}

void mr_state_applied(struct mr_state *state, uint64_t batch_id)
{
    for (size_t i = 0; i < state->store_count; i++) {
        struct mr_store *store = state->stores[i];
        if (mr__store_is_changed(store))
            store->version = batch_id;
        accept_store(state, store);
    }
    for (uint32_t i = state->committed_parts; i < state->parts.count; i++) {
        struct mr_store *store = mr_state_find(state, state->parts.parts[i].store);

        count_part(store, &state->parts.parts[i]);
        if (state->parts.parts[i].is_snapshot)
            store->wants_snapshot = store->relaid = false;
    }
    state->committed_parts = state->parts.count;
}

static void remove_part_file(struct mr_state *state, const struct mr_state_part *part)
{
    char *path = part->file != NULL ? mr__state_part_path(state, part) : NULL;

    if (path != NULL)
        (void)mr_env_unlink(state->env, path, NULL); /* what stays is removed by the next start */
    mr_free(path);
}

void mr_state_rollback(struct mr_state *state)
{
    for (size_t i = 0; i < state->store_count && !MR_MUTANT("state.rollback.stores"); i++)
        mr__store_rollback(state->stores[i]);
    while (state->parts.count > state->committed_parts && !MR_MUTANT("state.rollback.parts")) {
        struct mr_state_part *part = &state->parts.parts[--state->parts.count];
        if (!MR_MUTANT("state.rollback.files"))
            remove_part_file(state, part); /* no COMMIT ever named it */
        mr_state_part_release(part);
    }
}

/* Purge. */

static void drop_part(const struct mr_state_part *part, void *arg)
{
    if (!MR_MUTANT("state.purge.files"))
        remove_part_file(arg, part);
}

enum mr_status mr_state_purge(struct mr_state *state, uint64_t batch_id, uint64_t *ret_needed_from,
                              struct mr_error *err)
{
    MR_UNUSED(err);
    MR_ASSERT(state->parts.count == state->committed_parts);
    mr_part_list_prune(&state->parts, batch_id, state->config.retain_batches, drop_part, state);
    state->committed_parts = state->parts.count;
    *ret_needed_from = UINT64_MAX;
    for (uint32_t i = 0; i < state->parts.count; i++) {
        if (state->parts.parts[i].in_log)
            *ret_needed_from = MR_MUTANT("state.purge.needed")
                                   ? *ret_needed_from
                                   : MR_MIN(*ret_needed_from, state->parts.parts[i].version);
    }
    return MR_OK;
}

const char *mr_state_largest(const struct mr_state *state, uint64_t *ret_keys, uint64_t *ret_bytes)
{
    const char *name = NULL;

    *ret_bytes = 0;
    for (size_t i = 0; i < state->store_count; i++) {
        uint64_t bytes = mr_store_bytes(state->stores[i]);

        if (mr__store_is_hidden(state->stores[i]) || (name != NULL && bytes <= *ret_bytes))
            continue;
        name = state->stores[i]->name;
        *ret_bytes = bytes;
        *ret_keys = mr_store_count(state->stores[i]);
    }
    return name;
}

void mr_state_totals(const struct mr_state *state, struct mr_state_totals *ret_totals)
{
    *ret_totals = (struct mr_state_totals){.snapshots_written = state->snapshots_written,
                                           .snapshots_rebuilt = state->snapshots_rebuilt};
    for (size_t i = 0; i < state->store_count; i++) {
        if (mr__store_is_hidden(state->stores[i]))
            continue;
        ret_totals->key_count += mr_store_count(state->stores[i]);
        ret_totals->memory_bytes += mr_store_bytes(state->stores[i]);
    }
}

static void measure_parts(const struct mr_state *state, struct mr_store_info *info)
{
    for (uint32_t i = 0; i < state->parts.count; i++) {
        const struct mr_state_part *part = &state->parts.parts[i];

        if (strcmp(part->store, info->name) != 0)
            continue;
        if (part->is_snapshot)
            info->stored_bytes = 0;
        info->stored_bytes += part->size_bytes;
        info->retained_bytes += part->size_bytes;
        info->part_count++;
    }
}

bool mr_state_info(struct mr_state *state, size_t index, struct mr_store_info *ret_info)
{
    for (size_t i = 0; i < state->store_count; i++) {
        const struct mr_store *store = state->stores[i];

        if (mr__store_is_hidden(store) || index-- > 0)
            continue;
        *ret_info = (struct mr_store_info){
            .name = store->name,
            .kind = store->kind,
            .key_schema = store->key_schema,
            .value_schema = store->value_schema,
            .key_count = state->heads_only ? store->told_keys : mr_store_count(store),
            .memory_bytes = mr_store_bytes(store),
            .version = store->version,
            .owner = store->owner,
            .is_new = !store->persisted,
        };
        measure_parts(state, ret_info);
        return true;
    }
    return false;
}
