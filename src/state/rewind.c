/*
 * A copy of a checkpoint in which an older batch is the newest one.
 *
 *     DIR --read as of batch N--> stores, PLAN(N), next watermark
 *         --> INTO.rewinding: query, log { EPOCH PLAN(N) parts COMMIT(N) CLOSE }, state/
 *         --rename--> INTO
 *
 * A crash before the rename leaves a directory that no query was told of.  The copy has a new query
 * id, so state is hashed anew and sinks know none of its batches: they cannot take those after N
 * for those that the original has published.
 *
 * Called by the command. Thread: the caller's.
 */
#include "state/internal.h"

#include "base/mutant.h"

#include "wal/checkpoint.h"

#include <millrace/ext/durable.h>

#include <string.h>

enum { ENTRIES_MAX = 8192 }; /* a graph has at most 4096 nodes */

struct copying {
    struct mr_state *from;
    struct mr_state *to;
    struct mr_store *target;
    struct mr_manifest_entry *entries;
    size_t entry_count;
    enum mr_status status;
    struct mr_error *err;
};

static bool copy_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct copying *copying = arg;

    copying->status =
        mr_store_put(copying->target, key, key_bytes, value, value_bytes, copying->err);
    return copying->status == MR_OK;
}

static bool note_entry(const char *key, const char *text, void *arg)
{
    struct copying *copying = arg;
    struct mr_manifest_entry *entry = &copying->entries[copying->entry_count++];

    *entry = (struct mr_manifest_entry){mr_strdup(key), mr_strdup(text)};
    if (entry->key == NULL || entry->text == NULL)
        copying->status =
            MR_FAIL(copying->err, MR_NOMEM, "cannot copy the manifest: out of memory");
    return copying->status == MR_OK && copying->entry_count < ENTRIES_MAX;
}

static enum mr_status copy_manifest(struct copying *copying)
{
    enum mr_status status;

    copying->entries = mr_alloc_zero(NULL, ENTRIES_MAX * sizeof(*copying->entries));
    if (copying->entries == NULL)
        return MR_FAIL(copying->err, MR_NOMEM, "cannot copy the manifest: out of memory");
    status = mr_state_manifest_visit(copying->from, note_entry, copying, copying->err);
    if (status == MR_OK)
        status = copying->status;
    if (status == MR_OK && copying->entry_count > 0)
        status = mr_state_manifest_set(copying->to, copying->entries, copying->entry_count,
                                       copying->err);
    for (size_t i = 0; i < copying->entry_count; i++) {
        mr_free((char *)copying->entries[i].key);
        mr_free((char *)copying->entries[i].text);
    }
    mr_free(copying->entries);
    return status;
}

static enum mr_status copy_stores(struct mr_state *from, struct mr_state *to, struct mr_error *err)
{
    struct copying copying = {.from = from, .to = to, .status = MR_OK, .err = err};
    struct mr_store_info info;

    for (size_t i = 0; mr_state_info(from, i, &info); i++) {
        MR_TRY(mr_state_store(to, info.name, info.kind, info.key_schema, info.value_schema,
                              &copying.target, err));
        mr_store_scan(mr_state_find(from, info.name), copy_entry, &copying);
        MR_TRY(copying.status);
    }
    return copy_manifest(&copying);
}

/* PLAN(N), the state, COMMIT(N). */
static enum mr_status write_batch(const struct mr_recovered *as_of, struct mr_state *state,
                                  struct mr_batch_log *log, uint32_t epoch, struct mr_error *err)
{
    struct mr_plan plan = as_of->committed_plan;
    struct mr_commit commit = {.batch_id = plan.batch_id,
                               .epoch = epoch,
                               .next_watermark_us = as_of->last_commit.next_watermark_us};
    enum mr_status status;

    plan.epoch = epoch; /* the rest is borrowed */
    commit.marks = as_of->last_commit.marks;
    commit.mark_count = as_of->last_commit.mark_count;
    MR_TRY_GOTO(mr_batch_log_plan(log, &plan, err));
    MR_TRY_GOTO(mr_batch_log_sync(log, err));
    status = mr_state_prepare(state, plan.batch_id, 0, log, &commit, err);
    if (status == MR_OK)
        status = mr_batch_log_commit(log, &commit, err);
    if (status == MR_OK && !MR_MUTANT("rewind.write-batch.sync"))
        status = mr_batch_log_sync(log, err);
done:
    commit.marks = NULL; /* borrowed as well */
    commit.mark_count = 0;
    mr_commit_release(&commit);
    return status;
}

static enum mr_status write_copy(struct mr_env *env, const struct mr_checkpoint *checkpoint,
                                 const struct mr_recovered *as_of, struct mr_state *from,
                                 struct mr_error *err)
{
    struct mr_batch_log_config log_config = {.segment_bytes = 1u << 20, .retain_batches = 100};
    struct mr_state_config state_config = {.inline_bytes_max = 1u << 20,
                                           .snapshot_min_bytes = 1u << 20,
                                           .snapshot_ratio = 1.0,
                                           .retain_batches = 100};
    struct mr_batch_log *log = NULL;
    struct mr_recovered nothing = {0};
    struct mr_state *to = NULL;
    enum mr_status status;

    memcpy(log_config.query_id, checkpoint->query_id, 16);
    memcpy(state_config.query_id, checkpoint->query_id, 16);
    MR_TRY(mr_batch_log_open(env, checkpoint->log_dir, &log_config, &log, &nothing, err));
    state_config.epoch = nothing.epoch;
    status = mr_state_open(env, checkpoint->state_dir, checkpoint->log_dir, &state_config, &nothing,
                           &to, err);
    if (status == MR_OK)
        status = copy_stores(from, to, err);
    if (status == MR_OK)
        status = write_batch(as_of, to, log, nothing.epoch, err);
    mr_state_close(to);
    mr_batch_log_close(log);
    mr_recovered_release(&nothing);
    return status;
}

static bool note_dir(const char *name, enum mr_file_kind kind, void *arg)
{
    char **found = arg;

    if (kind == MR_KIND_DIRECTORY && *found == NULL)
        *found = mr_strdup(name);
    return *found == NULL;
}

/* What a receiver took in and a batch has processed is gone. */
static enum mr_status check_receivers(const struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    char *found = NULL;
    enum mr_status status =
        mr_env_list(checkpoint->env, checkpoint->received_dir, note_dir, &found, err);

    if (status == MR_OK && found != NULL)
        status =
            MR_FAIL(err, MR_CONFIG,
                    "cannot rewind '%s': source '%s' is a receiver, and what it received since "
                    "then is gone once it is processed; sources that can be read again can be "
                    "rewound",
                    checkpoint->dir, found);
    mr_free(found);
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status check_target(struct mr_env *env, const char *into, struct mr_error *err)
{
    struct mr_file_info info;
    enum mr_status status = mr_env_path_info(env, into, false, &info, err);

    if (status == MR_OK)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot rewind into '%s': it is there already; name a new "
                       "directory",
                       into);
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status sync_parent(struct mr_env *env, const char *path, struct mr_error *err)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash == NULL   ? mr_strdup(".")
                   : slash == path ? mr_strdup("/")
                                   : mr_strndup(path, (size_t)(slash - path));
    enum mr_status status;

    if (parent == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot rewind: out of memory");
    status = mr_env_sync_dir(env, parent, err);
    mr_free(parent);
    return status;
}

/* Builds the copy under a name of its own and then gives it the one that was asked for. */
static enum mr_status build(struct mr_env *env, const struct mr_checkpoint *original,
                            const struct mr_recovered *as_of, struct mr_state *from,
                            const char *into, char ret_query_id[37], struct mr_error *err)
{
    struct mr_checkpoint copy = {0};
    char *temporary = mr_asprintf("%s.rewinding", into);
    enum mr_status status;

    if (temporary == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot rewind: out of memory");
    MR_TRY_GOTO(mr_checkpoint_create(env, temporary, original->seed, &copy, err));
    MR_TRY_GOTO(write_copy(env, &copy, as_of, from, err));
    memcpy(ret_query_id, copy.query_id_text, sizeof(copy.query_id_text));
    /* redundant: the kernel replaces no directory that has entries */
    MR_TRY_GOTO(mr_env_rename(env, temporary, into, !MR_MUTANT("rewind.build.no-replace"), err));
    if (!MR_MUTANT("rewind.build.sync-parent"))
        status = sync_parent(env, into, err);
done:
    mr_checkpoint_release(&copy);
    mr_free(temporary);
    return status;
}

enum mr_status mr_state_rewind(struct mr_env *env, const char *dir, uint64_t batch_id,
                               const char *into, char ret_query_id[37], struct mr_error *err)
{
    const struct mr_state_reader_options options = {.at_batch = true, .batch_id = batch_id};
    struct mr_checkpoint checkpoint = {0};
    struct mr_recovered as_of = {0};
    struct mr_state *from = NULL;
    enum mr_status status;

    if (!MR_MUTANT("rewind.target.there"))
        MR_TRY(check_target(env, into, err));
    MR_TRY(mr_checkpoint_peek(env, dir, &checkpoint, err));
    if (!MR_MUTANT("rewind.receivers.none"))
        MR_TRY_GOTO(check_receivers(&checkpoint, err));
    MR_TRY_GOTO(mr_state_open_reader_at(env, dir, &options, &from, err));
    MR_TRY_GOTO(mr_batch_log_peek_at(env, checkpoint.log_dir, batch_id, &as_of, err));
    status = build(env, &checkpoint, &as_of, from, into, ret_query_id, err);
done:
    mr_state_close(from);
    mr_recovered_release(&as_of);
    mr_checkpoint_release(&checkpoint);
    return status;
}
