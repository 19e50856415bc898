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
#include "base/mutant.h"
#include "wal/checkpoint.h"

#include <millrace/ext/durable.h>

#include <string.h>

enum { READER_TRIES = 5 };

char *mr__part_place(struct mr_state *state, const struct mr_state_part *part)
{
    if (!part->in_log)
        return mr__state_part_path(state, part);
    return mr_asprintf("%s (%s of '%s', batch %llu)", state->log_dir,
                       part->is_snapshot ? "snapshot" : "delta", part->store,
                       (unsigned long long)part->version);
}

/*
 * The head of a part against the store as the parts before it left it. A snapshot may begin a new
 * form (change.c), and so does the first part of a chain; a delta belongs to what it stands on.
 */
enum mr_status mr__part_take_names(struct mr_store *store, const struct mr_state_part *part,
                                   const struct mr_part_names *names, bool is_first,
                                   const char *where, struct mr_error *err)
{
    if (strcmp(store->kind, names->kind) == 0 &&
        strcmp(store->key_schema, names->key_schema) == 0 &&
        strcmp(store->value_schema, names->value_schema) == 0)
        return MR_OK;
    /* redundant: a form begins with a snapshot without delta, where apply_chain stops */
    if (!is_first && !part->is_snapshot && !MR_MUTANT("load.names.form"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read '%s': it is of another form of the operator than the parts "
                       "before it; restore the checkpoint from a copy",
                       where);
    return mr__store_set_texts(store, names->kind, names->key_schema, names->value_schema, err);
}

/* Are the entries of that store wanted, or only its head? */
static bool wants_entries(const struct mr_state *state, const struct mr_store *store)
{
    return !state->heads_only || strcmp(store->kind, MR_STORE_KIND_MANIFEST) == 0;
}

/*
 * Applies one part to its store, which is made from the names in the head when this is its first.
 */
static enum mr_status apply_part(struct mr_state *state, const struct mr_state_part *part,
                                 bool is_first, bool count_keys, struct mr_error *err)
{
    struct mr_store *store = mr_state_find(state, part->store);
    struct mr_part_reader *reader = NULL;
    struct mr_part_names names;
    char *where = mr__part_place(state, part);
    enum mr_status status;

    if (where == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot load state '%s': out of memory", part->store);
    MR_TRY_GOTO(mr__part_open(state->env, part, where, &reader, err));
    MR_TRY_GOTO(mr__part_head(reader, state->config.query_id, &names, err));
    if (store == NULL)
        MR_TRY_GOTO(mr__state_add_store(state, part->store, names.kind, names.key_schema,
                                        names.value_schema, &store, err));
    MR_TRY_GOTO(mr__part_take_names(store, part, &names, is_first, where, err));
    if (wants_entries(state, store))
        MR_TRY_GOTO(mr__part_apply(reader, store, count_keys, err));
    store->told_keys = part->key_count;
    store->version = part->version;
    status = MR_OK;
done:
    mr__part_close(reader);
    mr_free(where);
    return status;
}

static bool is_of(const struct mr_state_part *part, const char *name)
{
    return strcmp(part->store, name) == 0;
}

/* Has the batch of this snapshot a delta too? Then the parts before it and that delta are the
 * same. */
bool mr__part_has_delta(const struct mr_state_part *parts, uint32_t snapshot)
{
    for (uint32_t i = snapshot; i-- > 0;) {
        if (is_of(&parts[i], parts[snapshot].store) && !parts[i].is_snapshot &&
            parts[i].version == parts[snapshot].version)
            return true;
    }
    return false;
}

/*
 * Applies the parts of one store from index `from` on: deltas only, but the first one may be a
 * snapshot.
 */
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
        if (parts[i].is_snapshot && i != from && !mr__part_has_delta(parts, i) &&
            !MR_MUTANT("load.chain.relaid"))
            return MR_FAIL(
                err, MR_CORRUPT,
                "state '%s' cannot be loaded: the snapshot of batch %llu, with which the "
                "operator changed, is damaged; restore the checkpoint from a copy",
                name, (unsigned long long)parts[i].version);
        if (parts[i].is_snapshot && i != from)
            continue;
        MR_TRY(apply_part(state, &parts[i], i == from, true, err));
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
    bool done = false;
    enum mr_status status = mr__load_by_shards(state, parts, count, name, from, &done, err);

    /* not worth it, or damaged: which part it is, and how, shows part by part */
    if (!done || status == MR_CORRUPT || status == MR_NOT_FOUND || status == MR_VERSION) {
        mr_error_clear(err);
        status = apply_chain(state, parts, count, name, from, err);
    }
    while (status == MR_CORRUPT || status == MR_NOT_FOUND) {
        uint32_t earlier = chain_before(parts, from, name, &found);
        struct mr_error again = {0};

        if (!found || MR_MUTANT("load.store.way-round"))
            break;
        if (apply_chain(state, parts, count, name, earlier, &again) == MR_OK) {
            /* The next commit writes a good one: this way round leaves retention some day. */
            mr_state_find(state, name)->wants_snapshot = !MR_MUTANT("load.store.wants-snapshot");
            state->snapshots_rebuilt++;
            return MR_OK;
        }
        from = earlier;
    }
    if (status == MR_NOT_FOUND && !MR_MUTANT("load.store.gone")) /* damage, not a missing thing */
        return MR_FAIL(
            err, MR_CORRUPT,
            "state '%s' cannot be loaded: a file that batch %llu names is gone from '%s'; "
            "restore it from a copy",
            name, (unsigned long long)parts[count - 1].version, state->dir);
    return status;
}

/* Heads only: the newest part says what the store is now, and its number of keys. */
static enum mr_status load_head(struct mr_state *state, const struct mr_state_part *parts,
                                uint32_t count, const char *name, struct mr_error *err)
{
    bool found = false;
    uint32_t newest = count;

    while (!is_of(&parts[newest - 1], name))
        newest--;
    MR_TRY(apply_part(state, &parts[newest - 1], true, false, err));
    /* the manifest is small, and wanted whole */
    if (!wants_entries(state, mr_state_find(state, name)))
        return MR_OK;
    return apply_chain(state, parts, count, name, chain_before(parts, count, name, &found), err);
}

static enum mr_status load_all(struct mr_state *state, const struct mr_recovered *recovered,
                               const char *only_store, struct mr_error *err)
{
    for (uint32_t i = 0; i < recovered->part_count; i++) {
        bool is_first = true;

        for (uint32_t k = 0; k < i; k++)
            is_first &= !is_of(&recovered->parts[k], recovered->parts[i].store);
        if (!is_first)
            continue;
        if (state->heads_only || (only_store != NULL && !is_of(&recovered->parts[i], only_store)))
            MR_TRY(load_head(state, recovered->parts, recovered->part_count,
                             recovered->parts[i].store, err));
        else
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
    const char *dir_name;  /* of one store, below the state's directory */
    uint64_t newest_batch; /* that may have written files: the last planned one */
    bool any_batch;
    uint64_t newer; /* a batch beyond it that did; valid with any_newer */
    bool any_newer;
    /* names with NUL ends: nothing is removed while the directory is being read */
    struct mr_buf doomed;
};

/* "41-2-0.delta": its batch; false for names that are not ours (B21). */
static bool batch_of_file(const char *name, uint64_t *ret_batch)
{
    static const char *const ends[] = {".delta", ".snap"};
    uint64_t numbers[3] = {0};

    for (unsigned i = 0; i < 3; i++) {
        if (*name < '0' || *name > '9')
            return false;
        for (; *name >= '0' && *name <= '9'; name++) {
            if (numbers[i] > UINT64_MAX / 10 - 1)
                return false;
            numbers[i] = numbers[i] * 10 + (uint64_t)(*name - '0');
        }
        if (i < 2 && *name++ != '-')
            return false;
    }
    *ret_batch = numbers[0];
    return strcmp(name, ends[0]) == 0 || strcmp(name, ends[1]) == 0;
}

static bool is_named(struct mr_state *state, const char *dir_name, const char *name)
{
    for (uint32_t i = 0; i < state->parts.count; i++) {
        const struct mr_state_part *part = &state->parts.parts[i];

        if (part->file != NULL && strcmp(part->file, name) == 0 &&
            strcmp(mr_state_find(state, part->store)->dir_name, dir_name) == 0)
            return true;
    }
    return false;
}

static bool note_file(const char *name, enum mr_file_kind kind, void *arg)
{
    struct sweep *sweep = arg;
    uint64_t batch = 0;

    if (kind != MR_KIND_FILE || !batch_of_file(name, &batch) ||
        (is_named(sweep->state, sweep->dir_name, name) && !MR_MUTANT("load.sweep.named")))
        return true;
    if (!sweep->any_batch || batch > sweep->newest_batch) {
        sweep->any_newer = true;
        sweep->newer = batch;
        return false;
    }
    mr_buf_add(&sweep->doomed, name, strlen(name) + 1);
    return true;
}

static bool note_dir(const char *name, enum mr_file_kind kind, void *arg)
{
    struct mr_buf *names = arg;

    if (kind == MR_KIND_DIRECTORY)
        mr_buf_add(names, name, strlen(name) + 1);
    return true;
}

static enum mr_status remove_doomed(struct sweep *sweep, const char *dir, struct mr_error *err)
{
    for (size_t at = 0; at < sweep->doomed.size; at += strlen(sweep->doomed.data + at) + 1) {
        char *path = mr_asprintf("%s/%s", dir, sweep->doomed.data + at);
        enum mr_status status =
            path != NULL ? mr_env_unlink(sweep->state->env, path, err)
                         : MR_FAIL(err, MR_NOMEM, "cannot open the state: out of memory");

        mr_free(path);
        if (status != MR_OK && status != MR_NOT_FOUND)
            return status;
    }
    return MR_OK;
}

/*
 * A file is written only after its batch was planned durably.  One of a later batch means that the
 * log is older than the state: the log was lost or put back from a copy, and removing what it does
 * not know would finish the damage (B13).
 */
static enum mr_status sweep_store_dir(struct sweep *sweep, const char *dir, struct mr_error *err)
{
    uint64_t removed = 0;

    MR_TRY(mr_durable_sweep(sweep->state->env, dir, &removed, err));
    MR_TRY(mr_env_list(sweep->state->env, dir, note_file, sweep, err));
    if (sweep->doomed.failed)
        return MR_FAIL(err, MR_NOMEM, "cannot open the state: out of memory");
    if (sweep->any_newer && !MR_MUTANT("load.sweep.newer"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot go on with the state in '%s': it was written by batch %llu, which "
                       "the log does not "
                       "know; restore the checkpoint from a copy",
                       dir, (unsigned long long)sweep->newer);
    return remove_doomed(sweep, dir, err);
}

static enum mr_status sweep_all(struct mr_state *state, const struct mr_recovered *recovered,
                                struct mr_error *err)
{
    struct mr_buf names = MR_BUF_INIT;
    enum mr_status status = mr_env_list(state->env, state->dir, note_dir, &names, err);

    for (size_t at = 0; status == MR_OK && at < names.size; at += strlen(names.data + at) + 1) {
        char *dir = mr_asprintf("%s/%s", state->dir, names.data + at);
        struct sweep sweep = {.state = state,
                              .dir_name = names.data + at,
                              .any_batch = recovered->has_plan,
                              .newest_batch = recovered->last_plan.batch_id};

        status = dir != NULL ? sweep_store_dir(&sweep, dir, err)
                             : MR_FAIL(err, MR_NOMEM, "cannot open the state: out of memory");
        mr_buf_release(&sweep.doomed);
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
    status = load_all(state, recovered, NULL, err);
    if (status == MR_OK && !config->volatile_only && !MR_MUTANT("load.open.sweep"))
        status = sweep_all(state, recovered, err);
    if (status != MR_OK) {
        mr_state_close(state);
        return status;
    }
    *ret_state = state;
    return MR_OK;
}

/* Reading beside a running query. */

/* What an older batch needs may be gone by now: that is no damage. */
static enum mr_status not_retained(uint64_t batch_id, const char *dir, struct mr_error *err)
{
    struct mr_error why = *err;

    mr_error_clear(err);
    return MR_FAIL(err, MR_NOT_FOUND,
                   "'%s' does not retain the state of batch %llu any more (%.200s); take a newer "
                   "one",
                   dir, (unsigned long long)batch_id, why.text);
}

static enum mr_status open_reader_once(const struct mr_checkpoint *checkpoint,
                                       const struct mr_state_reader_options *options,
                                       struct mr_state **ret_state, struct mr_error *err)
{
    struct mr_state_config config = {.retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_state *state = NULL;
    enum mr_status status;

    memcpy(config.query_id, checkpoint->query_id, 16);
    if (options->at_batch)
        MR_TRY(mr_batch_log_peek_at(checkpoint->env, checkpoint->log_dir, options->batch_id,
                                    &recovered, err));
    else
        MR_TRY(mr_batch_log_peek(checkpoint->env, checkpoint->log_dir, config.retain_batches,
                                 &recovered, err));
    status = mr__state_new(checkpoint->env, checkpoint->state_dir, checkpoint->log_dir, &config,
                           &state, err);
    if (status == MR_OK) {
        state->read_only = true;
        state->heads_only = options->heads;
        state->reader_batch = recovered.has_commit ? recovered.last_commit.batch_id : 0;
        status = load_all(state, &recovered, options->only_store, err);
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
enum mr_status mr_state_open_reader_at(struct mr_env *env, const char *checkpoint_dir,
                                       const struct mr_state_reader_options *options,
                                       struct mr_state **ret_state, struct mr_error *err)
{
    struct mr_checkpoint checkpoint = {0};
    struct mr_error own = {0};
    enum mr_status status;

    MR_TRY(mr_checkpoint_peek(env, checkpoint_dir, &checkpoint, err));
    for (int tries = 1;; tries++) {
        mr_error_clear(&own);
        status = open_reader_once(&checkpoint, options, ret_state, &own);
        if (status != MR_CORRUPT || tries == READER_TRIES)
            break;
    }
    if (status == MR_CORRUPT && options->at_batch)
        status = not_retained(options->batch_id, checkpoint_dir, &own);
    if (status != MR_OK && err != NULL)
        *err = own;
    mr_checkpoint_release(&checkpoint);
    return status;
}

enum mr_status mr_state_open_reader(struct mr_env *env, const char *checkpoint_dir,
                                    struct mr_state **ret_state, struct mr_error *err)
{
    const struct mr_state_reader_options options = {0};

    return mr_state_open_reader_at(env, checkpoint_dir, &options, ret_state, err);
}

uint64_t mr_state_reader_batch(const struct mr_state *state)
{
    return state->reader_batch;
}

/* Are the parts that a load as of that batch needs all there? Damage shows when it loads. */
static bool is_retained(const struct mr_checkpoint *checkpoint, uint64_t batch_id)
{
    struct mr_recovered recovered = {0};
    struct mr_state names = {.dir = checkpoint->state_dir}; /* for paths */
    bool all_there;

    if (mr_batch_log_peek_at(checkpoint->env, checkpoint->log_dir, batch_id, &recovered, NULL) !=
        MR_OK)
        return false;
    all_there = true;
    for (uint32_t i = 0; all_there && i < recovered.part_count; i++) {
        const struct mr_state_part *part = &recovered.parts[i];
        struct mr_file_info info;
        char *path;
        bool found;

        if (part->in_log ||
            i < chain_before(recovered.parts, recovered.part_count, part->store, &found))
            continue;
        path = mr__state_part_path(&names, part);
        all_there =
            path != NULL && mr_env_path_info(checkpoint->env, path, false, &info, NULL) == MR_OK;
        mr_free(path);
    }
    mr_recovered_release(&recovered);
    return all_there;
}

struct commits {
    bool any;
    uint64_t first, last;
};

static bool note_commit(const struct mr_log_entry *entry, void *arg)
{
    struct commits *commits = arg;

    if (entry->kind != MR_RECORD_COMMIT)
        return true;
    if (!commits->any)
        commits->first = entry->commit->batch_id;
    commits->any = true;
    commits->last = entry->commit->batch_id;
    return true;
}

/* What can be read of a batch can be read of all later ones: older parts go first. */
enum mr_status mr_state_retained(struct mr_env *env, const char *checkpoint_dir,
                                 uint64_t *ret_oldest, uint64_t *ret_newest, struct mr_error *err)
{
    struct mr_checkpoint checkpoint = {0};
    struct commits commits = {0};
    uint64_t torn_bytes = 0, low, high;
    enum mr_status status;

    MR_TRY(mr_checkpoint_peek(env, checkpoint_dir, &checkpoint, err));
    status = mr_batch_log_walk(env, checkpoint.log_dir, note_commit, &commits, &torn_bytes, err);
    if (status == MR_OK && !commits.any)
        status = MR_FAIL(err, MR_NOT_FOUND, "'%s' has no committed batch yet", checkpoint_dir);
    low = commits.first;
    high = commits.last;
    while (status == MR_OK && low < high) {
        uint64_t middle = low + (high - low) / 2;

        if (is_retained(&checkpoint, middle))
            high = middle;
        else
            low = middle + 1;
    }
    mr_checkpoint_release(&checkpoint);
    MR_TRY(status);
    *ret_oldest = low;
    *ret_newest = commits.last;
    return MR_OK;
}

/*
 * Verify: every part that the log names, also those that a load would not need.  Which of these the
 * running query keeps depends on its settings: one from before the newest snapshot may be gone, and
 * is then no damage; what is there must be good.
 */
static bool may_be_gone(const struct mr_recovered *recovered, uint32_t part)
{
    for (uint32_t i = part + 1; i < recovered->part_count; i++) {
        if (recovered->parts[i].is_snapshot &&
            is_of(&recovered->parts[i], recovered->parts[part].store))
            return true;
    }
    return false;
}

/* Are all parts there from the store's snapshot before this part on? Else its keys do not count. */
static bool is_unbroken(const struct mr_recovered *recovered, const bool *gone, uint32_t part)
{
    for (uint32_t i = part; !recovered->parts[part].is_snapshot && i > 0; i--) {
        if (!is_of(&recovered->parts[i - 1], recovered->parts[part].store))
            continue;
        if (gone[i - 1])
            return false;
        if (recovered->parts[i - 1].is_snapshot)
            break;
    }
    return true;
}

static enum mr_status verify_parts(struct mr_state *state, const struct mr_recovered *recovered,
                                   void (*report)(const char *line, void *arg), void *arg,
                                   uint64_t *bad, struct mr_error *err)
{
    bool *gone = mr_alloc_zero(NULL, (recovered->part_count + 1u) * sizeof(*gone));

    if (gone == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot verify the state: out of memory");
    for (uint32_t i = 0; i < recovered->part_count; i++) {
        struct mr_error problem = {0};
        /* After a bad part the keys of its store cannot be counted any more. */
        bool count_keys = *bad == 0 && is_unbroken(recovered, gone, i);
        enum mr_status status =
            apply_part(state, &recovered->parts[i], i == 0, count_keys, &problem);

        gone[i] = status == MR_NOT_FOUND && may_be_gone(recovered, i);
        if (status == MR_OK || gone[i])
            continue;
        (*bad)++;
        report(problem.text, arg);
    }
    mr_free(gone);
    return MR_OK;
}

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
    status = verify_parts(state, &recovered, report, arg, ret_bad, err);
done:
    mr_state_close(state);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
    return status;
}
