/*
 * Loading state: at recovery, for the offline reader, and to verify.
 *
 * What to load is what the log names (struct mr_recovered), nothing else. For each store the newest
 * snapshot and the deltas after it are applied in order, each checked against the size and sum in
 * its COMMIT. When that snapshot is damaged or gone, the chain before it is tried: the snapshot
 * before, or the deltas from the very beginning. When no chain is whole the state cannot be loaded:
 * a store never starts from empty. Files that the log does not name are left-overs of attempts that
 * died, and are removed.
 */
#include "state/internal.h"

#include "base/hash.h"
#include "wal/checkpoint.h"

#include <millrace/ext/durable.h>

#include <string.h>

enum { READER_TRIES = 5 };

static char *part_place(struct mr_state *state, const struct mr_state_part *part)
{
    if (!part->in_log)
        return mr__state_part_path(state, part);
    return mr_asprintf("%s (%s of '%s', batch %llu)", state->log_dir,
                       part->is_snapshot ? "snapshot" : "delta", part->store,
                       (unsigned long long)part->version);
}

/* Applies one part to its store, which is made from the names in the head when this is its first. */
static enum mr_status apply_part(struct mr_state *state, const struct mr_state_part *part,
                                 bool count_keys, struct mr_error *err)
{
    struct mr_store *store = mr_state_find(state, part->store);
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    char *where = part_place(state, part);
    enum mr_status status;

    if (where == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot load state '%s': out of memory", part->store);
    MR_TRY_GOTO(mr__part_open(state->env, part, where, &reader, err));
    MR_TRY_GOTO(mr__part_head(reader, state->config.query_id, &names, err));
    if (store == NULL)
        MR_TRY_GOTO(mr__state_add_store(state, part->store, names.kind, names.key_schema,
                                        names.value_schema, &store, err));
    MR_TRY_GOTO(mr__part_apply(reader, store, count_keys, err));
    store->version = part->version;
done:
    mr__part_close(reader);
    mr_free(where);
    return status;
}

static bool is_of(const struct mr_state_part *part, const char *name)
{
    return strcmp(part->store, name) == 0;
}

/* Applies the parts of one store from index `from` on. */
static enum mr_status apply_chain(struct mr_state *state, const struct mr_state_part *parts,
                                  uint32_t count, const char *name, uint32_t from,
                                  struct mr_error *err)
{
    struct mr_store *store = mr_state_find(state, name);

    if (store != NULL)
        mr__store_clear(store);
    for (uint32_t i = from; i < count; i++) {
        if (!is_of(&parts[i], name))
            continue;
        MR_TRY(apply_part(state, &parts[i], true, err));
    }
    return MR_OK;
}

/* Where the chain may begin that comes before index `before`: the nearest snapshot, else the
 * store's first part. */
static uint32_t chain_before(const struct mr_state_part *parts, uint32_t before, const char *name,
                             bool *ret_found)
{
    uint32_t first = before;

    *ret_found = false;
    for (uint32_t i = before; i > 0; i--) {
        if (!is_of(&parts[i - 1], name))
            continue;
        *ret_found = true;
        first = i - 1;
        if (parts[i - 1].is_snapshot)
            break;
    }
    return first;
}

static enum mr_status load_store(struct mr_state *state, const struct mr_state_part *parts,
                                 uint32_t count, const char *name, struct mr_error *err)
{
    bool found = false;
    uint32_t from = chain_before(parts, count, name, &found);
    enum mr_status status = apply_chain(state, parts, count, name, from, err);

    while (status == MR_CORRUPT || status == MR_NOT_FOUND) {
        uint32_t earlier = chain_before(parts, from, name, &found);
        struct mr_error again = {0};

        if (!found)
            break;
        if (apply_chain(state, parts, count, name, earlier, &again) == MR_OK) {
            state->snapshots_rebuilt++;
            return MR_OK;
        }
        from = earlier;
    }
    if (status == MR_NOT_FOUND) /* a named file that is gone is damage, not a missing thing */
        return MR_FAIL(
            err, MR_CORRUPT,
            "state '%s' cannot be loaded: a file that batch %llu names is gone from '%s'; "
            "restore it from a copy",
            name, (unsigned long long)parts[count - 1].version, state->dir);
    return status;
}

static enum mr_status load_all(struct mr_state *state, const struct mr_recovered *recovered,
                               struct mr_error *err)
{
    for (uint32_t i = 0; i < recovered->part_count; i++) {
        bool is_first = true;

        for (uint32_t k = 0; k < i; k++)
            is_first &= !is_of(&recovered->parts[k], recovered->parts[i].store);
        if (is_first)
            MR_TRY(load_store(state, recovered->parts, recovered->part_count,
                              recovered->parts[i].store, err));
    }
    for (uint32_t i = 0; i < recovered->part_count; i++)
        MR_TRY(mr__state_keep_part(state, &recovered->parts[i], err));
    mr__state_recount(state);
    return MR_OK;
}

/* Removing what dead attempts left. */

struct sweep {
    struct mr_state *state;
    const char *dir; /* of one store */
    /* names with NUL ends: nothing is removed while the directory is being read */
    struct mr_buf doomed;
};

static bool ends_with(const char *text, const char *end)
{
    size_t text_bytes = strlen(text), end_bytes = strlen(end);
    return text_bytes >= end_bytes && strcmp(text + text_bytes - end_bytes, end) == 0;
}

static bool is_named(struct mr_state *state, const char *path)
{
    for (uint32_t i = 0; i < state->parts.count; i++) {
        char *named = state->parts.parts[i].file != NULL
                          ? mr__state_part_path(state, &state->parts.parts[i])
                          : NULL;
        bool same = named != NULL && strcmp(named, path) == 0;

        mr_free(named);
        if (same)
            return true;
    }
    return false;
}

static bool note_file(const char *name, enum mr_file_kind kind, void *arg)
{
    struct sweep *sweep = arg;
    char *path;

    if (kind != MR_KIND_FILE || (!ends_with(name, ".snap") && !ends_with(name, ".delta")))
        return true;
    path = mr_asprintf("%s/%s", sweep->dir, name);
    if (path != NULL && !is_named(sweep->state, path))
        mr_buf_add(&sweep->doomed, path, strlen(path) + 1);
    mr_free(path);
    return true;
}

static bool note_dir(const char *name, enum mr_file_kind kind, void *arg)
{
    struct mr_buf *names = arg;

    if (kind == MR_KIND_DIRECTORY)
        mr_buf_add(names, name, strlen(name) + 1);
    return true;
}

static enum mr_status sweep_store_dir(struct mr_state *state, const char *dir, struct mr_error *err)
{
    struct sweep sweep = {state, dir, MR_BUF_INIT};
    uint64_t removed = 0;
    enum mr_status status = mr_durable_sweep(state->env, dir, &removed, err);

    if (status == MR_OK)
        status = mr_env_list(state->env, dir, note_file, &sweep, err);
    for (size_t at = 0; status == MR_OK && at < sweep.doomed.size;
         at += strlen(sweep.doomed.data + at) + 1) {
        status = mr_env_unlink(state->env, sweep.doomed.data + at, err);
        if (status == MR_NOT_FOUND)
            status = MR_OK;
    }
    mr_buf_release(&sweep.doomed);
    return status;
}

static enum mr_status sweep_all(struct mr_state *state, struct mr_error *err)
{
    struct mr_buf names = MR_BUF_INIT;
    enum mr_status status = mr_env_list(state->env, state->dir, note_dir, &names, err);

    for (size_t at = 0; status == MR_OK && at < names.size; at += strlen(names.data + at) + 1) {
        char *dir = mr_asprintf("%s/%s", state->dir, names.data + at);
        status = dir != NULL ? sweep_store_dir(state, dir, err)
                             : MR_FAIL(err, MR_NOMEM, "cannot open the state: out of memory");
        mr_free(dir);
    }
    mr_buf_release(&names);
    return status;
}

enum mr_status mr_state_open(struct mr_env *env, const char *dir, const char *log_dir,
                             const struct mr_state_config *config,
                             const struct mr_recovered *recovered, struct mr_state **ret_state,
                             struct mr_error *err)
{
    struct mr_state *state = NULL;
    enum mr_status status;

    MR_TRY(mr__state_new(env, dir, log_dir, config, &state, err));
    status = load_all(state, recovered, err);
    if (status == MR_OK && !config->volatile_only)
        status = sweep_all(state, err);
    if (status != MR_OK) {
        mr_state_close(state);
        return status;
    }
    *ret_state = state;
    return MR_OK;
}

/* Reading beside a running query. */

static enum mr_status open_reader_once(const struct mr_checkpoint *checkpoint,
                                       struct mr_state **ret_state, struct mr_error *err)
{
    struct mr_state_config config = {.retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_state *state = NULL;
    enum mr_status status;

    memcpy(config.query_id, checkpoint->query_id, 16);
    MR_TRY(mr_batch_log_peek(checkpoint->env, checkpoint->log_dir, config.retain_batches,
                             &recovered, err));
    status = mr__state_new(checkpoint->env, checkpoint->state_dir, checkpoint->log_dir, &config,
                           &state, err);
    if (status == MR_OK) {
        state->read_only = true;
        status = load_all(state, &recovered, err);
    }
    mr_recovered_release(&recovered);
    if (status != MR_OK) {
        mr_state_close(state);
        return status;
    }
    *ret_state = state;
    return MR_OK;
}

/* The running query may purge a file between our reading the log and the file: then the log says
 * something newer by now. */
enum mr_status mr_state_open_reader(struct mr_env *env, const char *checkpoint_dir,
                                    struct mr_state **ret_state, struct mr_error *err)
{
    struct mr_checkpoint checkpoint = {0};
    enum mr_status status;

    MR_TRY(mr_checkpoint_peek(env, checkpoint_dir, &checkpoint, err));
    for (int tries = 1;; tries++) {
        status = open_reader_once(&checkpoint, ret_state, err);
        if (status != MR_CORRUPT || tries == READER_TRIES)
            break;
    }
    mr_checkpoint_release(&checkpoint);
    return status;
}

/* Verify: every part that the log names, also those that a load would not need. */
enum mr_status mr_state_verify(struct mr_env *env, const char *checkpoint_dir,
                               void (*report)(const char *line, void *arg), void *arg,
                               uint64_t *ret_bad, struct mr_error *err)
{
    struct mr_checkpoint checkpoint = {0};
    struct mr_state_config config = {.retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_state *state = NULL;
    enum mr_status status;

    *ret_bad = 0;
    MR_TRY(mr_checkpoint_peek(env, checkpoint_dir, &checkpoint, err));
    memcpy(config.query_id, checkpoint.query_id, 16);
    MR_TRY_GOTO(mr_batch_log_peek(env, checkpoint.log_dir, config.retain_batches, &recovered, err));
    MR_TRY_GOTO(mr__state_new(env, checkpoint.state_dir, checkpoint.log_dir, &config, &state, err));
    for (uint32_t i = 0; i < recovered.part_count; i++) {
        struct mr_error problem = {0};

        /* After a bad part the keys of its store cannot be counted any more. */
        if (apply_part(state, &recovered.parts[i], *ret_bad == 0, &problem) == MR_OK)
            continue;
        (*ret_bad)++;
        report(problem.text, arg);
    }
done:
    mr_state_close(state);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
    return status;
}
