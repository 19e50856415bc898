/*
 * Files of the block log: writing groups, beginning segments, spare files. block_files.h says what
 * this promises, segment.c how a segment lies on the disk, block_copies.c what becomes of a copy
 * that is lost.
 *
 * Called by block_log.c: one writer at a time, and the driver, which recycles.
 *
 * Beginning a segment. A crash between two steps leaves what is on the right.
 *
 *     1. a spare file gets the new head, synced                a spare file
 *     2. it is renamed to its number, directory synced         an unused segment, removed at open
 *     3. NEXT is synced at the end of the segment before       an empty tail
 *
 * Without a spare file 1 and 2 make a new one, filled with zeros. Spare files are segments that
 * were purged (up to as many as were lately used between two purges), and, with a preparer thread,
 * one or two made ahead: so that no group waits for 16 MiB of zeros.
 *
 * Threads: the tail belongs to the writer; `lock` guards the spare files.
 */
#include "wal/block_files.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

#define SPARE_SUFFIX ".spare"

enum {
    SPARES_AHEAD = 2,
    SEGMENTS_BEFORE_SPARES = 3, /* a log that is hardly used makes none ahead */
};

static enum mr_status no_memory(const struct mr_block_files *files, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep received blocks in '%s': out of memory",
                   files->copies[0].dir);
}

/* ---------------------------------------------------------------- spare files */

static char *spare_path(const struct mr_block_copy *copy, uint64_t number)
{
    char name[MR_SEGMENT_NAME_BYTES];

    mr__segment_name(number, SPARE_SUFFIX, name);
    return mr_asprintf("%s/%s", copy->dir, name);
}

static void remove_spare(const struct mr_block_files *files, const struct mr_block_copy *copy,
                         uint64_t number)
{
    char *path = spare_path(copy, number);

    if (path != NULL)
        (void)mr_env_unlink(files->env, path, NULL); /* the next open tries again */
    mr_free(path);
}

/* What an earlier process left: whole spare files are taken over, others removed. */
static enum mr_status find_spares(struct mr_block_files *files, struct mr_block_copy *copy,
                                  struct mr_error *err)
{
    struct mr_segment_list list = {0};
    enum mr_status status;

    MR_TRY(mr__segment_list(files->env, copy->dir, SPARE_SUFFIX, &list, err));
    for (size_t i = 0; i < list.count; i++) {
        struct mr_file_info info = {0};
        char *path = spare_path(copy, list.numbers[i]);

        files->next_spare = MR_MAX(files->next_spare, list.numbers[i] + 1);
        status = path != NULL ? mr_env_path_info(files->env, path, false, &info, NULL) : MR_NOMEM;
        mr_free(path);
        if (status == MR_OK &&
            (info.size_bytes == files->segment_bytes || MR_MUTANT("block-files.spares.size")) &&
            copy->spare_count < SPARES_AHEAD)
            copy->spares[copy->spare_count++] = list.numbers[i];
        else
            remove_spare(files, copy, list.numbers[i]);
    }
    mr__segment_list_release(&list);
    return MR_OK;
}

/* 0 = there is none. */
static uint64_t take_spare(struct mr_block_files *files, struct mr_block_copy *copy)
{
    uint64_t number = 0;

    mr_mutex_lock(&files->lock);
    if (copy->spare_count > 0)
        number = copy->spares[--copy->spare_count];
    mr_cond_broadcast(&files->changed);
    mr_mutex_unlock(&files->lock);
    return number;
}

/* False: there are enough. */
static bool add_spare(struct mr_block_files *files, struct mr_block_copy *copy, uint64_t number,
                      size_t enough)
{
    bool added;

    mr_mutex_lock(&files->lock);
    added = copy->spare_count < MR_MIN(enough, (size_t)MR_BLOCK_SPARES_MAX);
    if (added)
        copy->spares[copy->spare_count++] = number;
    mr_mutex_unlock(&files->lock);
    return added;
}

static uint64_t new_spare_number(struct mr_block_files *files)
{
    uint64_t number;

    mr_mutex_lock(&files->lock);
    number = files->next_spare++;
    mr_mutex_unlock(&files->lock);
    return number;
}

/* Makes a spare file of zeros. Failing is no harm: a rotation then makes its own segment. */
static bool make_spare(struct mr_block_files *files, struct mr_block_copy *copy)
{
    uint64_t number = new_spare_number(files);
    struct mr_appender *appender = NULL;
    char name[MR_SEGMENT_NAME_BYTES];

    mr__segment_name(number, SPARE_SUFFIX, name);
    if (mr_appender_create(files->env, copy->dir, name, files->segment_bytes, &appender, NULL) !=
        MR_OK)
        return false;
    mr_appender_close(appender);
    if (!add_spare(files, copy, number, SPARES_AHEAD + 1))
        remove_spare(files, copy, number);
    return true;
}

/* The copy that lacks spare files, or NULL. Under the lock. */
static struct mr_block_copy *lacking_spares(struct mr_block_files *files)
{
    for (unsigned i = 0; i < files->copy_count; i++) {
        if (files->copies[i].spare_count < SPARES_AHEAD)
            return &files->copies[i];
    }
    return NULL;
}

static void preparer_main(void *arg)
{
    struct mr_block_files *files = arg;
    bool fails = false;

    mr_mutex_lock(&files->lock);
    while (!files->stopping) {
        struct mr_block_copy *copy = fails ? NULL : lacking_spares(files);

        if (copy == NULL || files->used_since_recycle == 0) {
            mr_cond_wait(&files->changed, &files->lock);
            fails = false; /* something changed: try again */
            continue;
        }
        mr_mutex_unlock(&files->lock);
        fails = !make_spare(files, copy);
        mr_mutex_lock(&files->lock);
    }
    mr_mutex_unlock(&files->lock);
}

enum mr_status mr__block_files_prepare(struct mr_block_files *files, struct mr_error *err)
{
    return mr_thread_start("mr-segments", preparer_main, files, &files->preparer, err);
}

/* ---------------------------------------------------------------- making, freeing */

enum mr_status mr__block_files_init(struct mr_block_files *files, struct mr_env *env,
                                    const char *const *dirs, unsigned dir_count,
                                    uint64_t segment_bytes, struct mr_error *err)
{
    MR_ASSERT(dir_count >= 1 && dir_count <= MR_BLOCK_COPIES_MAX);
    *files = (struct mr_block_files){
        .env = env, .segment_bytes = segment_bytes, .next_spare = 1, .spares_wanted = SPARES_AHEAD};
    files->copy_count = dir_count;
    mr_mutex_init(&files->dir_lock);
    mr_mutex_init(&files->lock);
    mr_cond_init(&files->changed);
    for (unsigned i = 0; i < dir_count; i++) {
        files->copies[i].dir = mr_strdup(dirs[i]);
        if (files->copies[i].dir == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot open the block log: out of memory");
    }
    return MR_OK;
}

void mr__block_files_release(struct mr_block_files *files)
{
    if (files->copy_count == 0)
        return;
    mr_mutex_lock(&files->lock);
    files->stopping = true;
    mr_cond_broadcast(&files->changed);
    mr_mutex_unlock(&files->lock);
    mr_thread_join(files->preparer);
    for (unsigned i = 0; i < files->copy_count; i++) {
        mr_appender_close(files->copies[i].appender);
        mr_free(files->copies[i].path);
        mr_free(files->copies[i].dir);
    }
    mr_buf_release(&files->sectors);
    mr_cond_release(&files->changed);
    mr_mutex_release(&files->lock);
    mr_mutex_release(&files->dir_lock);
    files->copy_count = 0;
}

/* The segment that a rotation made and never used. */
static enum mr_status remove_unused(const struct mr_block_files *files,
                                    const struct mr_block_copy *copy, uint64_t number,
                                    struct mr_error *err)
{
    char name[MR_SEGMENT_NAME_BYTES];
    char *path;
    enum mr_status status;

    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    path = mr_asprintf("%s/%s", copy->dir, name);
    if (path == NULL)
        return no_memory(files, err);
    status = mr_env_unlink(files->env, path, err);
    /* redundant: opening the tail syncs the same directory before anything relies on it */
    if (status == MR_OK && !MR_MUTANT("block-files.remove-unused.sync-dir"))
        status = mr_env_sync_dir(files->env, copy->dir, err);
    mr_free(path);
    return status;
}

/* The writer goes on where the replay ended. Zeroes the torn tail and syncs what is relied on,
 * which may be in a dead process's cache only. */
static enum mr_status go_on(struct mr_block_files *files, struct mr_block_copy *copy,
                            const struct mr_block_replay *replay, struct mr_error *err)
{
    struct mr_appender *appender = NULL;
    char name[MR_SEGMENT_NAME_BYTES];

    if (replay->unused_segment != 0 && !MR_MUTANT("block-files.go-on.remove-unused"))
        MR_TRY(remove_unused(files, copy, replay->unused_segment, err));
    if (replay->ordinal == 1 && replay->segment_count > 1 &&
        !MR_MUTANT("block-files.go-on.sync-before"))
        MR_TRY(mr__segment_sync(files->env, copy->dir,
                                replay->segments[replay->segment_count - 2].number,
                                MR_BLOCK_LOG_SUFFIX, err));
    mr__segment_name(files->segment, MR_BLOCK_LOG_SUFFIX, name);
    MR_TRY(mr_appender_open(files->env, copy->dir, name, replay->tail, &appender, err));
    return mr__block_copy_adopt(files, copy, files->segment, appender, err);
}

enum mr_status mr__block_files_recover(struct mr_block_files *files,
                                       struct mr_block_replay *ret_replay, struct mr_error *err)
{
    struct mr_block_replay replay;
    enum mr_status status = MR_OK;

    for (unsigned i = 0; i < files->copy_count; i++) {
        uint64_t removed = 0;

        MR_TRY(MR_MUTANT("block-files.recover.make-durably")
                   ? mr_env_mkdir(files->env, files->copies[i].dir, err)
                   : mr_durable_mkdirs(files->env, files->copies[i].dir, err));
        if (!MR_MUTANT("block-files.recover.sweep"))
            MR_TRY(mr_durable_sweep(files->env, files->copies[i].dir, &removed, err));
        MR_TRY(find_spares(files, &files->copies[i], err));
    }
    MR_TRY(mr__block_copies_choose(files, &replay, err));
    files->segments_created = replay.segment_count;
    if (replay.segment_count > 0) {
        files->segment = replay.segments[replay.segment_count - 1].number;
        files->key = mr__segment_key(MR_SEGMENT_BLOCK_LOG, files->segment);
        files->ordinal = replay.ordinal;
        for (unsigned i = 0; i < files->copy_count && status == MR_OK; i++) {
            if (!files->copies[i].lost)
                status = go_on(files, &files->copies[i], &replay, err);
        }
        if (status == MR_OK)
            mr__block_copies_repair(files);
    }
    if (status != MR_OK) {
        mr__block_replay_release(&replay);
        return status;
    }
    *ret_replay = replay;
    return MR_OK;
}

/* ---------------------------------------------------------------- writing */

/* What failed in one copy is no failure while another has it. */
static enum mr_status judge(struct mr_block_files *files, struct mr_block_copy *copy,
                            enum mr_status status, struct mr_error *local, struct mr_error *err)
{
    unsigned good = 0;

    if (status == MR_OK)
        return MR_OK;
    for (unsigned i = 0; i < files->copy_count; i++)
        good += &files->copies[i] != copy && !files->copies[i].lost;
    if (good == 0) {
        if (err != NULL)
            *err = *local;
        return status;
    }
    mr__block_copy_lose(files, copy, local);
    return MR_OK;
}

static enum mr_status write_sectors(struct mr_block_files *files, struct mr_error *err)
{
    struct mr_error local;

    for (unsigned i = 0; i < files->copy_count; i++) {
        struct mr_block_copy *copy = &files->copies[i];
        enum mr_status status = MR_OK;

        if (copy->lost)
            continue;
        mr_error_clear(&local);
        if (files->copy_count > 1 && !MR_MUTANT("block-files.write.check"))
            status = mr__block_copy_check(files, copy, &local);
        if (status == MR_OK)
            status =
                mr_appender_write(copy->appender, files->sectors.data, files->sectors.size, &local);
        MR_TRY(judge(files, copy, status, &local, err));
    }
    for (unsigned i = 0; i < files->copy_count; i++) {
        struct mr_block_copy *copy = &files->copies[i];

        if (copy->lost)
            continue;
        mr_error_clear(&local);
        if (!MR_MUTANT("block-files.write.sync"))
            MR_TRY(judge(files, copy, mr_appender_sync(copy->appender, &local), &local, err));
    }
    return MR_OK;
}

static const struct mr_block_copy *any_good(const struct mr_block_files *files)
{
    for (unsigned i = 0; i < files->copy_count; i++) {
        if (!files->copies[i].lost && files->copies[i].appender != NULL)
            return &files->copies[i];
    }
    return NULL;
}

bool mr__block_files_room(const struct mr_block_files *files, uint64_t group_bytes)
{
    const struct mr_block_copy *copy = any_good(files);

    return copy != NULL && group_bytes + MR_SECTOR_BYTES <= mr_appender_room(copy->appender);
}

enum mr_status mr__block_files_write(struct mr_block_files *files, const void *records,
                                     size_t size_bytes, uint64_t *ret_at, struct mr_error *err)
{
    const struct mr_block_copy *copy = any_good(files);

    MR_ASSERT(copy != NULL);
    *ret_at = mr_appender_tail(copy->appender);
    mr_buf_clear(&files->sectors);
    mr__group_encode(&files->sectors, files->key, files->ordinal, records, size_bytes);
    if (files->sectors.failed)
        return no_memory(files, err);
    MR_TRY(write_sectors(files, err));
    files->ordinal++;
    if (files->copy_count > 1)
        mr__block_copies_repair(files);
    return MR_OK;
}

/* ---------------------------------------------------------------- segments */

static enum mr_status make_head(struct mr_block_files *files, uint64_t number, uint64_t chain,
                                uint64_t size_bytes, bool is_reused, struct mr_buf *out,
                                uint64_t *ret_sum, struct mr_error *err)
{
    static const uint8_t no_query[16] = {0};
    struct mr_buf payload = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    mr__segment_head_begin(&payload, number, size_bytes, no_query);
    mr_buf_add_u64(&payload, files->segment);
    mr_buf_add_u64(&payload, is_reused ? MR_BLOCK_SEGMENT_REUSED : 0);
    if (!payload.failed)
        mr_record_append(out, MR_RECORD_SEGMENT, MR_SEGMENT_FORMAT, chain, payload.data,
                         payload.size, ret_sum);
    if (payload.failed || out->failed)
        status = no_memory(files, err);
    mr_buf_release(&payload);
    return status;
}

/* One copy's file of the new segment, whose head is framed. */
static enum mr_status make_file(struct mr_block_files *files, struct mr_block_copy *copy,
                                uint64_t number, uint64_t size_bytes, const struct mr_buf *head,
                                uint64_t spare, struct mr_error *err)
{
    uint64_t key = mr__segment_key(MR_SEGMENT_BLOCK_LOG, number);
    struct mr_appender *appender = NULL;
    struct mr_buf sectors = MR_BUF_INIT;
    char name[MR_SEGMENT_NAME_BYTES], spare_name[MR_SEGMENT_NAME_BYTES];
    enum mr_status status = MR_NOT_FOUND;

    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    if (spare != 0) {
        mr__segment_name(spare, SPARE_SUFFIX, spare_name);
        mr__group_encode(&sectors, key, 0, head->data, head->size);
        status = sectors.failed
                     ? no_memory(files, err)
                     : mr_appender_create_from(files->env, copy->dir, spare_name, name,
                                               sectors.data, sectors.size, &appender, err);
        mr_buf_release(&sectors);
    }
    if (status == MR_NOT_FOUND) /* no spare, or somebody removed it: zeros do as well */
        status =
            mr__segment_create(files->env, copy->dir, name, size_bytes, key, head, &appender, err);
    if (status == MR_OK)
        copy->next = appender;
    return status;
}

static enum mr_status write_next(struct mr_block_files *files, uint64_t number, uint64_t chain,
                                 uint64_t head_sum, struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT, record = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    mr_buf_add_u64(&payload, number);
    mr_buf_add_u64(&payload, head_sum);
    if (!payload.failed)
        mr_record_append(&record, MR_RECORD_NEXT, MR_BLOCK_VERSION, chain, payload.data,
                         payload.size, NULL);
    mr_buf_clear(&files->sectors);
    if (!payload.failed && !record.failed)
        mr__group_encode(&files->sectors, files->key, files->ordinal, record.data, record.size);
    if (payload.failed || record.failed || files->sectors.failed)
        status = no_memory(files, err);
    mr_buf_release(&payload);
    mr_buf_release(&record);
    return status == MR_OK ? write_sectors(files, err) : status;
}

/* Takes a spare file for every copy, or for none: their heads are the same. */
static bool take_spares(struct mr_block_files *files, uint64_t *spares)
{
    bool all = true;

    for (unsigned i = 0; i < files->copy_count; i++) {
        spares[i] = files->copies[i].lost ? 0 : take_spare(files, &files->copies[i]);
        all &= spares[i] != 0 || files->copies[i].lost;
    }
    for (unsigned i = 0; i < files->copy_count && !all; i++) {
        if (spares[i] != 0 && !add_spare(files, &files->copies[i], spares[i], SIZE_MAX))
            remove_spare(files, &files->copies[i], spares[i]);
        spares[i] = 0;
    }
    return all;
}

/* The files of the new segment, in every copy. */
static enum mr_status make_files(struct mr_block_files *files, uint64_t number, uint64_t chain,
                                 uint64_t group_bytes, uint64_t *ret_size_bytes, uint64_t *ret_sum,
                                 struct mr_error *err)
{
    uint64_t least = 2 * MR_SECTOR_BYTES + group_bytes;
    uint64_t spares[MR_BLOCK_COPIES_MAX] = {0};
    bool is_reused = least <= files->segment_bytes && take_spares(files, spares);
    struct mr_buf head = MR_BUF_INIT;
    enum mr_status status;

    *ret_size_bytes = is_reused ? files->segment_bytes
                                : mr__segment_size(files->segments_created, files->segment_bytes,
                                                   MR_SECTOR_BYTES, group_bytes);
    MR_TRY_GOTO(make_head(files, number, chain, *ret_size_bytes, is_reused, &head, ret_sum, err));
    for (unsigned i = 0; i < files->copy_count; i++) {
        struct mr_block_copy *copy = &files->copies[i];
        struct mr_error local;

        if (copy->lost)
            continue;
        mr_error_clear(&local);
        status = make_file(files, copy, number, *ret_size_bytes, &head, spares[i], &local);
        MR_TRY_GOTO(judge(files, copy, status, &local, err));
    }
done:
    mr_buf_release(&head);
    return status;
}

enum mr_status mr__block_files_rotate(struct mr_block_files *files, uint64_t number, uint64_t chain,
                                      uint64_t group_bytes, uint64_t *ret_size_bytes,
                                      struct mr_error *err)
{
    uint64_t head_sum = 0;
    bool had_one = any_good(files) != NULL;
    enum mr_status status;

    files->repair_failed = false;
    MR_TRY_GOTO(make_files(files, number, chain, group_bytes, ret_size_bytes, &head_sum, err));
    if (had_one && !MR_MUTANT("block-files.rotate.next"))
        MR_TRY_GOTO(write_next(files, number, chain, head_sum, err));
    for (unsigned i = 0; i < files->copy_count; i++) {
        struct mr_block_copy *copy = &files->copies[i];
        struct mr_appender *next = copy->next;
        struct mr_error local;

        copy->next = NULL;
        if (copy->lost) {
            mr_appender_close(next);
            continue;
        }
        mr_error_clear(&local);
        status = mr__block_copy_adopt(files, copy, number, next, &local);
        MR_TRY_GOTO(judge(files, copy, status, &local, err));
    }
    files->segment = number;
    files->key = mr__segment_key(MR_SEGMENT_BLOCK_LOG, number);
    files->ordinal = 1;
    files->segments_created++;
    mr_mutex_lock(&files->lock);
    files->used_since_recycle += files->segments_created >= SEGMENTS_BEFORE_SPARES;
    mr_cond_broadcast(&files->changed);
    mr_mutex_unlock(&files->lock);
done:
    for (unsigned i = 0; i < files->copy_count; i++) {
        mr_appender_close(files->copies[i].next);
        files->copies[i].next = NULL;
    }
    return status;
}

/* ---------------------------------------------------------------- recycling */

/* One copy's file of a segment that is not needed any more. */
static enum mr_status recycle_file(struct mr_block_files *files, struct mr_block_copy *copy,
                                   uint64_t number, bool keep, struct mr_error *err)
{
    char name[MR_SEGMENT_NAME_BYTES];
    uint64_t spare = keep ? new_spare_number(files) : 0;
    char *path, *new_path = NULL;
    enum mr_status status;

    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    path = mr_asprintf("%s/%s", copy->dir, name);
    if (keep)
        new_path = spare_path(copy, spare);
    if (path == NULL || (keep && new_path == NULL))
        status = no_memory(files, err);
    else if (keep)
        status = mr_env_rename(files->env, path, new_path, false, err); /* the number is new */
    else
        status = mr_env_unlink(files->env, path, err);
    if (status == MR_NOT_FOUND) { /* an earlier try came so far, or somebody took the file */
        status = MR_OK;
        keep = false;
    }
    /* It must not come back after the next one is gone: never a gap. */
    if (status == MR_OK && !MR_MUTANT("block-files.recycle.sync-dir"))
        status = mr_env_sync_dir(files->env, copy->dir, err);
    if (status == MR_OK && keep && !add_spare(files, copy, spare, files->spares_wanted))
        remove_spare(files, copy, spare);
    mr_free(path);
    mr_free(new_path);
    return status;
}

enum mr_status mr__block_files_recycle(struct mr_block_files *files, uint64_t number,
                                       uint64_t size_bytes, struct mr_error *err)
{
    enum mr_status status = MR_OK;

    mr_mutex_lock(&files->dir_lock);
    for (unsigned i = 0; i < files->copy_count && status == MR_OK; i++) {
        struct mr_block_copy *copy = &files->copies[i];
        bool keep;

        if (copy->lost)
            continue;
        mr_mutex_lock(&files->lock);
        keep = (size_bytes == files->segment_bytes || MR_MUTANT("block-files.recycle.size")) &&
               copy->spare_count < files->spares_wanted;
        mr_mutex_unlock(&files->lock);
        status = recycle_file(files, copy, number, keep, err);
        if (status == MR_NOT_FOUND && files->copy_count > 1)
            status = MR_OK; /* the writer finds out, and repairs */
    }
    mr_mutex_unlock(&files->dir_lock);
    return status;
}

void mr__block_files_trim(struct mr_block_files *files)
{
    mr_mutex_lock(&files->lock);
    files->spares_wanted = MR_MAX(files->used_since_recycle, files->spares_wanted / 2);
    files->spares_wanted = MR_MAX(files->spares_wanted, (size_t)SPARES_AHEAD);
    files->spares_wanted = MR_MIN(files->spares_wanted, (size_t)MR_BLOCK_SPARES_MAX);
    files->used_since_recycle = 0;
    for (unsigned i = 0; i < files->copy_count; i++) {
        struct mr_block_copy *copy = &files->copies[i];

        while (copy->spare_count > files->spares_wanted)
            remove_spare(files, copy, copy->spares[--copy->spare_count]);
    }
    mr_mutex_unlock(&files->lock);
}
