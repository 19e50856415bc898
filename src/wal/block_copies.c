/*
 * Two copies of the block log: which one counts, and how the other becomes like it (features D11).
 *
 * Called by block_files.c. Both copies are the same segments with the same groups at the same
 * places; only what is behind the tail may differ.
 *
 *     open    both are read; the one that goes furthest counts. A copy that is damaged, empty or
 *             behind is made again from it. Both whole and different where both have blocks: they
 *             are of two histories, and the start is refused.
 *     run     a copy is lost when a write fails, or its file is not the one under its name any
 *             more; a reader that finds damage makes it suspect. It is repaired between two groups:
 *             the good copy is read and checked whole, every segment put into the other under its
 *             name, and the appender opened at the tail.
 *
 * A crash inside a repair leaves a copy that the next open repairs.
 *
 * Threads: the writer's. dir_lock keeps the driver from removing segments meanwhile.
 */
#include "wal/block_files.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

enum { SEGMENT_BYTES_LIMIT = MR_LIMIT_LOG_SEGMENT };

/* ---------------------------------------------------------------- one copy */

enum mr_status mr__block_copy_check(const struct mr_block_files *files,
                                    const struct mr_block_copy *copy, struct mr_error *err)
{
    struct mr_file_info info;
    enum mr_status status = mr_env_path_info(files->env, copy->path, false, &info, err);

    if (status == MR_NOT_FOUND ||
        (status == MR_OK && (info.inode != copy->inode || info.device != copy->device) &&
         !MR_MUTANT("block-copies.check.still-there")))
        return MR_FAIL(err, MR_IO,
                       "cannot write to '%s': the file was removed or replaced while the query "
                       "runs",
                       copy->path);
    return status;
}

enum mr_status mr__block_copy_adopt(struct mr_block_files *files, struct mr_block_copy *copy,
                                    uint64_t number, struct mr_appender *appender,
                                    struct mr_error *err)
{
    char name[MR_SEGMENT_NAME_BYTES];
    struct mr_file_info info = {0};
    char *path;
    enum mr_status status;

    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    path = mr_asprintf("%s/%s", copy->dir, name);
    status = path == NULL ? MR_FAIL(err, MR_NOMEM, "cannot open '%s': out of memory", name)
                          : mr_env_path_info(files->env, path, false, &info, err);
    if (status != MR_OK) {
        mr_appender_close(appender);
        mr_free(path);
        return status;
    }
    mr_appender_close(copy->appender);
    mr_free(copy->path);
    copy->appender = appender;
    copy->path = path;
    copy->inode = info.inode;
    copy->device = info.device;
    return MR_OK;
}

void mr__block_copy_lose(struct mr_block_files *files, struct mr_block_copy *copy,
                         const struct mr_error *why)
{
    mr_log(MR_LOG_WARNING, "wal", NULL, -1,
           "one of two copies of received blocks is lost, '%s': %s; going on with the other",
           copy->dir, why->text);
    atomic_store(&copy->lost, true);
    mr_appender_close(copy->appender);
    copy->appender = NULL;
    mr_mutex_lock(&files->lock);
    copy->spare_count = 0;
    mr_mutex_unlock(&files->lock);
    if (files->event != NULL)
        files->event(files->event_arg, MR_BLOCK_COPY_LOST);
}

/* ---------------------------------------------------------------- repairing */

static enum mr_status copy_segment(struct mr_block_files *files, const char *from, const char *to,
                                   uint64_t number, struct mr_error *err)
{
    char name[MR_SEGMENT_NAME_BYTES];
    char *data = NULL, *path;
    size_t size = 0;
    enum mr_status status;

    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    path = mr_asprintf("%s/%s", from, name);
    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot copy '%s': out of memory", name);
    status = mr_durable_get(files->env, path, SEGMENT_BYTES_LIMIT, &data, &size, err);
    if (status == MR_OK)
        status = mr_durable_put(files->env, to, name, data, size, false, err);
    mr_text_free(data);
    mr_free(path);
    return status;
}

static bool has_number(const struct mr_segment_list *list, uint64_t number)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->numbers[i] == number)
            return true;
    }
    return false;
}

/* Segments that the good copy does not have. */
static enum mr_status remove_others(struct mr_block_files *files, const char *dir,
                                    const struct mr_segment_list *wanted, struct mr_error *err)
{
    struct mr_segment_list found = {0};
    enum mr_status status = MR_OK;

    MR_TRY(mr__segment_list(files->env, dir, MR_BLOCK_LOG_SUFFIX, &found, err));
    for (size_t i = 0; i < found.count && status == MR_OK; i++) {
        char name[MR_SEGMENT_NAME_BYTES];
        char *path;

        if (has_number(wanted, found.numbers[i]))
            continue;
        mr__segment_name(found.numbers[i], MR_BLOCK_LOG_SUFFIX, name);
        path = mr_asprintf("%s/%s", dir, name);
        status = path == NULL ? MR_FAIL(err, MR_NOMEM, "out of memory")
                              : mr_env_unlink(files->env, path, err);
        mr_free(path);
    }
    mr__segment_list_release(&found);
    /* redundant: one that comes back makes the copy unlike the other, and it is made again */
    if (status == MR_OK && !MR_MUTANT("block-copies.remove-others.sync-dir"))
        status = mr_env_sync_dir(files->env, dir, err);
    return status;
}

/* Under dir_lock. The good copy stands between two groups. */
static enum mr_status copy_all(struct mr_block_files *files, const struct mr_block_copy *good,
                               struct mr_block_copy *bad, struct mr_error *err)
{
    struct mr_block_replay replay = {0};
    struct mr_segment_list list = {0};
    struct mr_appender *appender = NULL;
    char name[MR_SEGMENT_NAME_BYTES];
    enum mr_status status;

    if (!MR_MUTANT("block-copies.repair.verify"))
        MR_TRY(mr__block_replay_run(files->env, good->dir, &replay, err)); /* it really is good */
    MR_TRY_GOTO(mr_durable_mkdirs(files->env, bad->dir, err));
    MR_TRY_GOTO(mr__segment_list(files->env, good->dir, MR_BLOCK_LOG_SUFFIX, &list, err));
    MR_TRY_GOTO(remove_others(files, bad->dir, &list, err));
    for (size_t i = 0; i < list.count; i++)
        MR_TRY_GOTO(copy_segment(files, good->dir, bad->dir, list.numbers[i], err));
    if (files->segment != 0) {
        mr__segment_name(files->segment, MR_BLOCK_LOG_SUFFIX, name);
        MR_TRY_GOTO(mr_appender_open(files->env, bad->dir, name, mr_appender_tail(good->appender),
                                     &appender, err));
        status = mr__block_copy_adopt(files, bad, files->segment, appender, err);
    }
done:
    mr__segment_list_release(&list);
    mr__block_replay_release(&replay);
    return status;
}

static const struct mr_block_copy *find_good(const struct mr_block_files *files)
{
    for (unsigned i = 0; i < files->copy_count; i++) {
        const struct mr_block_copy *copy = &files->copies[i];

        if (!atomic_load(&copy->lost) && !atomic_load(&copy->suspect))
            return copy;
    }
    return NULL;
}

static void repair(struct mr_block_files *files, const struct mr_block_copy *good,
                   struct mr_block_copy *bad)
{
    struct mr_error err;
    enum mr_status status;

    mr_error_clear(&err);
    mr_mutex_lock(&files->dir_lock);
    status = copy_all(files, good, bad, &err);
    mr_mutex_unlock(&files->dir_lock);
    if (status != MR_OK) {
        files->repair_failed = true;
        mr_log(MR_LOG_WARNING, "wal", NULL, -1,
               "cannot repair the copy of received blocks in '%s': %s", bad->dir, err.text);
        return;
    }
    atomic_store(&bad->suspect, false);
    atomic_store(&bad->lost, false);
    mr_log(MR_LOG_WARNING, "wal", NULL, -1,
           "repaired the copy of received blocks in '%s' from '%s'", bad->dir, good->dir);
    if (files->event != NULL)
        files->event(files->event_arg, MR_BLOCK_COPY_REPAIRED);
}

void mr__block_copies_repair(struct mr_block_files *files)
{
    for (unsigned i = 0; i < files->copy_count && !files->repair_failed; i++) {
        struct mr_block_copy *copy = &files->copies[i];
        const struct mr_block_copy *good = find_good(files);

        if (good == NULL || (!atomic_load(&copy->lost) && !atomic_load(&copy->suspect)))
            continue;
        repair(files, good, copy);
    }
}

/* ---------------------------------------------------------------- choosing */

/* Does a go further than b? */
static bool is_further(const struct mr_block_replay *a, const struct mr_block_replay *b)
{
    if (a->next_block != b->next_block)
        return a->next_block > b->next_block;
    if (a->segment_count == 0 || b->segment_count == 0)
        return a->segment_count > b->segment_count;
    if (a->segments[a->segment_count - 1].number != b->segments[b->segment_count - 1].number)
        return a->segments[a->segment_count - 1].number > b->segments[b->segment_count - 1].number;
    return a->ordinal > b->ordinal;
}

static bool is_like(const struct mr_block_replay *a, const struct mr_block_replay *b)
{
    if (a->next_block != b->next_block || a->chain != b->chain || a->tail != b->tail ||
        a->ordinal != b->ordinal || a->segment_count != b->segment_count ||
        a->unused_segment != b->unused_segment || a->index.first != b->index.first)
        return false;
    for (size_t i = 0; i < a->segment_count; i++) {
        if (a->segments[i].number != b->segments[i].number ||
            a->segments[i].size_bytes != b->segments[i].size_bytes)
            return false;
    }
    return true;
}

/* The newest block that both have is the same, behind the same ones: its sum says so. */
static bool same_history(const struct mr_block_replay *a, const struct mr_block_replay *b)
{
    uint64_t last = MR_MIN(a->next_block, b->next_block) - 1;

    if (last < a->index.first || last < b->index.first || last == 0 || a->index.places == NULL ||
        b->index.places == NULL)
        return true; /* nothing in common: one of them is behind */
    return a->index.places[last - a->index.first].sum == b->index.places[last - b->index.first].sum;
}

static enum mr_status choose_of_two(struct mr_block_files *files, struct mr_block_replay *replays,
                                    const enum mr_status *statuses, struct mr_error *errors,
                                    unsigned *ret_best, struct mr_error *err)
{
    unsigned best, other;

    if (statuses[0] != MR_OK && statuses[1] != MR_OK) {
        if (err != NULL)
            *err = errors[0];
        return statuses[0];
    }
    if (statuses[0] == MR_OK && statuses[1] == MR_OK)
        best = is_further(&replays[1], &replays[0]);
    else
        best = statuses[0] == MR_OK ? 0 : 1;
    other = 1 - best;
    if (statuses[other] != MR_OK && replays[best].segment_count == 0 &&
        !MR_MUTANT("block-copies.choose.empty")) {
        if (err != NULL) /* an empty copy is no reason to forget a damaged one */
            *err = errors[other];
        return statuses[other];
    }
    if (statuses[other] == MR_OK && !same_history(&replays[0], &replays[1]) &&
        !MR_MUTANT("block-copies.choose.history"))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot use '%s' and '%s' as two copies of the same blocks: they hold "
                       "different ones; remove the one that does not belong to this checkpoint",
                       files->copies[0].dir, files->copies[1].dir);
    if (statuses[other] == MR_OK && !is_like(&replays[0], &replays[1]) &&
        !MR_MUTANT("block-copies.choose.like"))
        MR_FAIL(&errors[other], MR_DATA_LOSS, "it ends at block %" PRIu64 ", the other at %" PRIu64,
                replays[other].next_block - 1, replays[best].next_block - 1);
    else if (statuses[other] == MR_OK)
        other = best; /* both are fine */
    if (other != best)
        mr__block_copy_lose(files, &files->copies[other], &errors[other]);
    *ret_best = best;
    return MR_OK;
}

enum mr_status mr__block_copies_choose(struct mr_block_files *files,
                                       struct mr_block_replay *ret_replay, struct mr_error *err)
{
    struct mr_block_replay replays[MR_BLOCK_COPIES_MAX] = {{.chain = 0}};
    struct mr_error errors[MR_BLOCK_COPIES_MAX];
    enum mr_status statuses[MR_BLOCK_COPIES_MAX] = {MR_OK};
    unsigned best = 0;
    enum mr_status status;

    if (files->copy_count == 1)
        return mr__block_replay_run(files->env, files->copies[0].dir, ret_replay, err);
    for (unsigned i = 0; i < files->copy_count; i++) {
        mr_error_clear(&errors[i]);
        statuses[i] =
            mr__block_replay_run(files->env, files->copies[i].dir, &replays[i], &errors[i]);
    }
    status = choose_of_two(files, replays, statuses, errors, &best, err);
    if (status == MR_OK) {
        *ret_replay = replays[best];
        replays[best] = (struct mr_block_replay){0};
    }
    for (unsigned i = 0; i < files->copy_count; i++)
        mr__block_replay_release(&replays[i]);
    return status;
}
