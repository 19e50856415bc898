/*
 * What a reading of the batch log is good for: recovery, a look beside a running query, inspectors.
 *
 * Called by mr_batch_log_open (recovered parts and plans), by the state's reader (peek) and by the
 * command (walk, one delta).  batch_log_recover.c does the reading.
 *
 * Threads: the caller's.
 */
#include "wal/internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

/* ---------------------------------------------------------------- what recovery gets */

static enum mr_status copy_plan(const struct mr_plan *plan, struct mr_plan *ret_plan,
                                struct mr_error *err)
{
    struct mr_buf bytes = MR_BUF_INIT;
    bool out_of_memory = false, copied;

    mr__plan_encode(&bytes, plan);
    copied = !bytes.failed &&
             mr__plan_decode(mr_bytes_of(bytes.data, bytes.size), ret_plan, &out_of_memory);
    mr_buf_release(&bytes);
    if (!copied)
        return MR_FAIL(err, MR_NOMEM, "cannot recover the last plan: out of memory");
    return MR_OK;
}

/* Index of the newest snapshot of a store, or the list's end. */
static uint32_t newest_snapshot(const struct mr_part_list *list, const char *store)
{
    for (uint32_t i = list->count; i-- > 0;) {
        if (list->parts[i].is_snapshot && list->parts[i].store != NULL &&
            strcmp(list->parts[i].store, store) == 0)
            return i;
    }
    return list->count;
}

/*
 * In-log parts whose segment was purged: fine in the way round (before the newest snapshot), which
 * is dropped then; anywhere else the log lost something that the state needs.
 */
static enum mr_status settle_parts(struct mr_part_list *list, const char *dir, struct mr_error *err)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_state_part *part = &list->parts[i];
        uint32_t snapshot;

        if (!part->in_log || part->data != NULL || part->store == NULL)
            continue;
        snapshot = newest_snapshot(list, part->store);
        if ((snapshot == list->count || i >= snapshot) && !MR_MUTANT("log-peek.settle.needed"))
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot recover from the log '%s': state '%s' needs what batch %" PRIu64
                           " wrote there, and that is missing; restore the checkpoint from a copy",
                           dir, part->store, part->version);
        for (uint32_t k = 0; k < snapshot; k++) {
            if (k != i && list->parts[k].store != NULL &&
                strcmp(list->parts[k].store, part->store) == 0)
                mr_state_part_release(&list->parts[k]);
        }
        mr_state_part_release(part);
    }
    for (uint32_t i = 0; i < list->count; i++) {
        struct mr_state_part part = list->parts[i];

        list->parts[i] = (struct mr_state_part){0};
        if (part.store != NULL)
            list->parts[kept++] = part;
    }
    list->count = kept;
    return MR_OK;
}

enum mr_status mr__replay_recovered(struct mr_replay *replay, const char *dir,
                                    uint32_t retain_batches, struct mr_recovered *ret_recovered,
                                    struct mr_error *err)
{
    const struct mr_log_position *position = &replay->position;
    struct mr_recovered recovered = {.epoch = position->epoch,
                                     .tail_dropped_bytes = replay->torn_bytes};
    bool plan_is_committed = position->has_commit && position->commit_batch == position->plan_batch;

    if (position->has_commit)
        mr_part_list_prune(&replay->parts, position->commit_batch, retain_batches, NULL, NULL);
    MR_TRY(settle_parts(&replay->parts, dir, err));
    if (((position->has_plan && !replay->has_last_plan) ||
         (position->has_commit && (replay->last_commit.batch_id != position->commit_batch ||
                                   (!plan_is_committed && !replay->has_committed_plan)))) &&
        !MR_MUTANT("log-peek.recovered.missing"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot recover from the log '%s': the segments with the plan or commit of "
                       "batch %" PRIu64 " are missing; restore the checkpoint from a copy",
                       dir, position->has_commit ? position->commit_batch : position->plan_batch);
    if (plan_is_committed)
        MR_TRY(copy_plan(&replay->last_plan, &recovered.committed_plan, err));
    else
        recovered.committed_plan = replay->committed_plan;
    recovered.has_plan = position->has_plan;
    recovered.has_commit = position->has_commit;
    recovered.last_plan = replay->last_plan;
    recovered.last_commit = replay->last_commit;
    recovered.parts = replay->parts.parts;
    recovered.part_count = replay->parts.count;
    if (plan_is_committed)
        mr_plan_release(&replay->committed_plan);
    replay->last_plan = replay->committed_plan = (struct mr_plan){0};
    replay->last_commit = (struct mr_commit){0};
    replay->parts = (struct mr_part_list){0};
    *ret_recovered = recovered;
    return MR_OK;
}

enum mr_status mr_batch_log_peek(struct mr_env *env, const char *dir, uint32_t retain_batches,
                                 struct mr_recovered *ret_recovered, struct mr_error *err)
{
    struct mr_replay_options options = {.keep_data = true, .beside_writer = true};
    struct mr_replay replay;
    enum mr_status status;

    MR_TRY(mr__replay_run(env, dir, &options, &replay, err));
    if (replay.segment == 0)
        status = MR_FAIL(err, MR_NOT_FOUND, "cannot read the log '%s': it is empty", dir);
    else
        status = mr__replay_recovered(&replay, dir, retain_batches, ret_recovered, err);
    mr__replay_release(&replay);
    return status;
}

/* ---------------------------------------------------------------- as of a batch */

struct stop_at {
    uint64_t batch_id;
    bool any, found;
    uint64_t first, last; /* commits seen; valid with any */
};

static bool stop_behind(const struct mr_log_entry *entry, void *arg)
{
    struct stop_at *stop = arg;

    if (entry->kind != MR_RECORD_COMMIT)
        return true;
    if (!stop->any)
        stop->first = entry->commit->batch_id;
    stop->any = true;
    stop->last = entry->commit->batch_id;
    stop->found = stop->last == stop->batch_id;
    return !stop->found;
}

enum mr_status mr_batch_log_peek_at(struct mr_env *env, const char *dir, uint64_t batch_id,
                                    struct mr_recovered *ret_recovered, struct mr_error *err)
{
    struct stop_at stop = {.batch_id = batch_id};
    struct mr_replay_options options = {
        .keep_data = true, .beside_writer = true, .visit = stop_behind, .arg = &stop};
    struct mr_replay replay;
    enum mr_status status;

    MR_TRY(mr__replay_run(env, dir, &options, &replay, err));
    if (!stop.any)
        status = MR_FAIL(err, MR_NOT_FOUND, "the log '%s' has no committed batch", dir);
    else if (!stop.found)
        status = MR_FAIL(err, MR_NOT_FOUND,
                         "the log '%s' does not have batch %" PRIu64 ": it goes from %" PRIu64
                         " to %" PRIu64,
                         dir, batch_id, stop.first, stop.last);
    else
        status = mr__replay_recovered(&replay, dir, UINT32_MAX, ret_recovered, err);
    mr__replay_release(&replay);
    return status;
}

enum mr_status mr_batch_log_walk(struct mr_env *env, const char *dir,
                                 bool (*visit)(const struct mr_log_entry *entry, void *arg),
                                 void *arg, uint64_t *ret_torn_bytes, struct mr_error *err)
{
    struct mr_replay_options options = {.beside_writer = true, .visit = visit, .arg = arg};
    struct mr_replay replay;

    MR_TRY(mr__replay_run(env, dir, &options, &replay, err));
    if (ret_torn_bytes != NULL)
        *ret_torn_bytes = replay.torn_bytes;
    mr__replay_release(&replay);
    return MR_OK;
}

/* ---------------------------------------------------------------- one delta */

struct delta_search {
    uint64_t batch_id;
    const char *store;
    bool is_snapshot;
    struct mr_buf found;
    bool any;
};

static bool match_delta(const struct mr_log_entry *entry, void *arg)
{
    struct delta_search *search = arg;

    if (entry->kind != MR_RECORD_DELTA || entry->delta_batch != search->batch_id ||
        entry->delta_is_snapshot != search->is_snapshot ||
        strcmp(entry->delta_store, search->store) != 0)
        return true;
    search->any = true;
    mr_buf_add(&search->found, entry->delta_data, entry->delta_bytes);
    return false;
}

enum mr_status mr_batch_log_read_delta(struct mr_env *env, const char *dir, uint64_t batch_id,
                                       const char *store, bool is_snapshot, char **ret_data,
                                       size_t *ret_size, struct mr_error *err)
{
    struct delta_search search = {.batch_id = batch_id, .store = store, .is_snapshot = is_snapshot};
    enum mr_status status = mr_batch_log_walk(env, dir, match_delta, &search, NULL, err);
    size_t size = search.found.size;
    char *data;

    if (status == MR_OK && !search.any)
        status = MR_FAIL(err, MR_NOT_FOUND,
                         "cannot find what batch %" PRIu64 " wrote for state '%s' in the log '%s'",
                         batch_id, store, dir);
    if (status == MR_OK) {
        data = mr_buf_take(&search.found);
        if (data == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot read the log '%s': out of memory", dir);
        *ret_data = data;
        *ret_size = size;
    }
    mr_buf_release(&search.found);
    return status;
}
