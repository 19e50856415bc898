/*
 * The batch log: writing it.  batch_log.h says what it promises, segment.c how it lies on the disk,
 * batch_log_codec.c what is in a record, batch_log_recover.c how it is read back.
 *
 * Called by the driver: open; per batch plan | sync | delta* commit [plan of the next] | sync; now
 * and then purge; close.
 *
 * Everything between two syncs is one group: one write, one fdatasync.
 *
 *     segment k                                              segment k+1
 *     +------+---------+--------+----------------+-- --+     +------+----------------+--
 *     | head | EPOCH   | PLAN 7 | DELTA 7 (a)    | ... |     | head | DELTA 9 (a)    |
 *     |      |         |        | DELTA 7 (b)    | NEXT+---->|      | COMMIT 9       |
 *     |      |         |        | COMMIT 7 PLAN 8|     |     |      | PLAN 10        |
 *     +------+---------+--------+----------------+-- --+     +------+----------------+--
 *             sync      sync     sync             sync        sync   sync
 *
 * Rotation, when the next group and a NEXT do not fit:
 *     1. make segment k+1 under a temporary name: zeros, head; sync; rename; sync directory
 *     2. append NEXT to segment k; sync           crash before: the next open removes k+1
 *     3. append the group to segment k+1; sync    crash before: k+1 is the tail, empty
 *
 * Open, after reading:
 *     1. remove an unused next segment
 *     2. zero what is behind the tail; sync file and directory: the bytes relied on may be in the
 *        cache of a dead process only (A3, A5)
 *     3. append EPOCH; sync: only after 2, so that the rule of segment.c holds
 *
 * `position` and `chain` include what is buffered; `synced` and `synced_chain` do not: a new
 * segment's head tells the latter. After a failed write or sync the log refuses everything but
 * close: what is on the disk is unknown until the next open (C5).
 *
 * Threads: the driver's alone.
 */
#include "wal/internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

struct mr_batch_log {
    struct mr_env *env;
    char *dir;
    struct mr_batch_log_config config;

    struct mr_appender *appender; /* the newest segment */
    char *path;
    uint64_t inode, device; /* of the file at path */
    uint64_t number;
    uint64_t key;
    uint32_t ordinal;            /* of the next group */
    struct mr_segment_use *uses; /* all segments, oldest first; the last is the newest */
    size_t use_count, use_capacity;

    struct mr_buf pending; /* framed records of the next group */
    struct mr_buf sectors;
    struct mr_log_position position, synced;
    uint64_t chain, synced_chain;
    bool has_deltas;               /* pending holds DELTA records whose COMMIT has not come */
    struct mr_part_list parts;     /* live ones as of the last synced commit */
    struct mr_part_list new_parts; /* of a pending commit */
    uint64_t sync_count;
    uint64_t segments_created;
    bool failed;
};

static enum mr_status refuse_failed(const struct mr_batch_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_IO, "cannot write to the log '%s': an earlier write failed; start again",
                   log->dir);
}

static enum mr_status no_memory(const struct mr_batch_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot write to the log '%s': out of memory", log->dir);
}

/* ---------------------------------------------------------------- segments */

static enum mr_status note_segment(struct mr_batch_log *log, uint64_t number, struct mr_error *err)
{
    if (log->use_count == log->use_capacity) {
        size_t capacity = MR_MAX(log->use_capacity * 2, (size_t)8);
        struct mr_segment_use *grown = mr_realloc(NULL, log->uses, capacity * sizeof(*grown));

        if (grown == NULL)
            return no_memory(log, err);
        log->uses = grown;
        log->use_capacity = capacity;
    }
    log->uses[log->use_count++] = (struct mr_segment_use){.number = number};
    return MR_OK;
}

/*
 * The file that is appended to is the one under its name: the directory was not moved or removed
 * under us (D12).
 */
static enum mr_status check_still_there(const struct mr_batch_log *log, struct mr_error *err)
{
    struct mr_file_info info;
    enum mr_status status = mr_env_path_info(log->env, log->path, false, &info, err);

    if (status == MR_NOT_FOUND ||
        (status == MR_OK && (info.inode != log->inode || info.device != log->device) &&
         !MR_MUTANT("batch-log.check.still-there")))
        return MR_FAIL(
            err, MR_IO,
            "cannot write to '%s': the file was removed or replaced while the query runs",
            log->path);
    return status;
}

/* Nobody else goes on with this log: a process that was paused, and lost its lock, finds the epoch
 * of its successor where it would write next (D10). */
static enum mr_status check_not_taken(const struct mr_batch_log *log, struct mr_error *err)
{
    bool taken = false;

    MR_TRY(mr_appender_is_taken(log->appender, &taken, err));
    if (taken && !MR_MUTANT("batch-log.check.not-taken"))
        return MR_FAIL(err, MR_BUSY,
                       "cannot go on with the log '%s': another process has taken it over",
                       log->dir);
    return MR_OK;
}

enum mr_status mr_batch_log_check(const struct mr_batch_log *log, struct mr_error *err)
{
    if (log->failed)
        return refuse_failed(log, err);
    MR_TRY(check_still_there(log, err));
    return check_not_taken(log, err);
}

/* The log goes on in this segment. Takes appender and path, also on failure. */
static enum mr_status adopt_segment(struct mr_batch_log *log, uint64_t number, uint32_t ordinal,
                                    struct mr_appender *appender, char *path, struct mr_error *err)
{
    struct mr_file_info info = {0};
    enum mr_status status = mr_env_path_info(log->env, path, false, &info, err);

    mr_appender_close(log->appender);
    mr_free(log->path);
    log->appender = appender;
    log->path = path;
    log->inode = info.inode;
    log->device = info.device;
    log->number = number;
    log->key = mr__segment_key(MR_SEGMENT_BATCH_LOG, number);
    log->ordinal = ordinal;
    return status;
}

static char *segment_path(const struct mr_batch_log *log, uint64_t number)
{
    char name[MR_SEGMENT_NAME_BYTES];

    mr__segment_name(number, MR_BATCH_LOG_SUFFIX, name);
    return mr_asprintf("%s/%s", log->dir, name);
}

/*
 * Makes segment `number`, ready for a group of group_bytes. *ret_head_sum gets the sum of its head.
 */
static enum mr_status create_segment(struct mr_batch_log *log, uint64_t number,
                                     uint64_t group_bytes, struct mr_appender **ret_appender,
                                     uint64_t *ret_head_sum, struct mr_error *err)
{
    struct mr_buf rest = MR_BUF_INIT, payload = MR_BUF_INIT, head = MR_BUF_INIT;
    char name[MR_SEGMENT_NAME_BYTES];
    uint64_t head_bytes, size_bytes;
    enum mr_status status;

    if (log->synced.has_commit)
        mr_part_list_prune(&log->parts, log->synced.commit_batch, log->config.retain_batches, NULL,
                           NULL);
    mr__head_encode(&rest, &log->synced, &log->parts);
    head_bytes = mr__group_disk_bytes(MR_RECORD_HEADER_BYTES + MR_SEGMENT_HEAD_BYTES + rest.size);
    size_bytes =
        mr__segment_size(log->segments_created, log->config.segment_bytes, head_bytes, group_bytes);
    mr__segment_head_begin(&payload, number, size_bytes, log->config.query_id);
    mr_buf_add(&payload, rest.data, rest.size);
    if (rest.failed || payload.failed) {
        status = no_memory(log, err);
        goto done;
    }
    mr_record_append(&head, MR_RECORD_SEGMENT, MR_SEGMENT_FORMAT, log->synced_chain, payload.data,
                     payload.size, ret_head_sum);
    if (head.failed) {
        status = no_memory(log, err);
        goto done;
    }
    mr__segment_name(number, MR_BATCH_LOG_SUFFIX, name);
    status =
        mr__segment_create(log->env, log->dir, name, size_bytes,
                           mr__segment_key(MR_SEGMENT_BATCH_LOG, number), &head, ret_appender, err);
    log->segments_created++;
done:
    mr_buf_release(&rest);
    mr_buf_release(&payload);
    mr_buf_release(&head);
    return status;
}

static enum mr_status write_group(struct mr_batch_log *log, const struct mr_buf *records,
                                  struct mr_error *err)
{
    mr_buf_clear(&log->sectors);
    mr__group_encode(&log->sectors, log->key, log->ordinal, records->data, records->size);
    if (log->sectors.failed)
        return no_memory(log, err);
    log->failed = !MR_MUTANT("batch-log.write-group.failed"); /* until it is known to be there */
    MR_TRY(mr_appender_write(log->appender, log->sectors.data, log->sectors.size, err));
    if (!MR_MUTANT("batch-log.write-group.sync"))
        MR_TRY(mr_appender_sync(log->appender, err));
    log->failed = false;
    log->ordinal++;
    log->uses[log->use_count - 1].size_bytes = mr_appender_tail(log->appender);
    return MR_OK;
}

static enum mr_status write_next(struct mr_batch_log *log, uint64_t number, uint64_t head_sum,
                                 struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT, record = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_add_u64(&payload, number);
    mr_buf_add_u64(&payload, head_sum);
    if (!payload.failed)
        mr_record_append(&record, MR_RECORD_NEXT, MR_NEXT_VERSION, log->synced_chain, payload.data,
                         payload.size, NULL);
    if (payload.failed || record.failed)
        status = no_memory(log, err);
    else
        status = write_group(log, &record, err);
    mr_buf_release(&payload);
    mr_buf_release(&record);
    return status;
}

/*
 * Steps 1 and 2 of a rotation; the caller's group is step 3. Any failure leaves the old segment
 * without a usable end.
 */
static enum mr_status rotate(struct mr_batch_log *log, uint64_t group_bytes, struct mr_error *err)
{
    uint64_t number = log->number + 1;
    struct mr_appender *appender = NULL;
    char *path = segment_path(log, number);
    uint64_t head_sum = 0;
    enum mr_status status;

    if (path == NULL)
        return no_memory(log, err);
    log->failed = true;
    MR_TRY_GOTO(create_segment(log, number, group_bytes, &appender, &head_sum, err));
    if (!MR_MUTANT("batch-log.rotate.next"))
        MR_TRY_GOTO(write_next(log, number, head_sum, err));
    log->failed = true;
    MR_TRY_GOTO(note_segment(log, number, err));
    status = adopt_segment(log, number, 1, appender, path, err);
    if (status == MR_OK)
        log->failed = false;
    return status;
done:
    mr_appender_close(appender);
    mr_free(path);
    return status;
}

/* ---------------------------------------------------------------- open */

static enum mr_status open_fresh(struct mr_batch_log *log, struct mr_recovered *ret_recovered,
                                 struct mr_error *err)
{
    struct mr_appender *appender = NULL;
    char *path = segment_path(log, 1);
    uint64_t head_sum = 0;
    enum mr_status status;

    if (path == NULL)
        return no_memory(log, err);
    log->position.epoch = log->synced.epoch = 1;
    status = note_segment(log, 1, err);
    if (status == MR_OK)
        status = create_segment(log, 1, 0, &appender, &head_sum, err);
    if (status != MR_OK) {
        mr_free(path);
        return status;
    }
    log->uses[0].size_bytes = mr_appender_tail(appender);
    MR_TRY(adopt_segment(log, 1, 1, appender, path, err));
    *ret_recovered = (struct mr_recovered){.epoch = 1};
    return MR_OK;
}

static enum mr_status append_epoch(struct mr_batch_log *log, struct mr_error *err);

static enum mr_status remove_unused(struct mr_batch_log *log, uint64_t number, struct mr_error *err)
{
    char *path = segment_path(log, number);
    enum mr_status status;

    if (path == NULL)
        return no_memory(log, err);
    status = mr_env_unlink(log->env, path, err);
    if (status == MR_OK && !MR_MUTANT("batch-log.remove-unused.sync-dir"))
        status = mr_env_sync_dir(log->env, log->dir, err);
    mr_free(path);
    return status;
}

static enum mr_status copy_parts(struct mr_batch_log *log, const struct mr_recovered *recovered,
                                 struct mr_error *err)
{
    MR_TRY(mr_part_list_reserve(&log->parts, recovered->part_count, err));
    for (uint32_t i = 0; i < recovered->part_count; i++) {
        struct mr_state_part copy;
        MR_TRY(mr_state_part_copy(&recovered->parts[i], &copy, err));
        mr_part_list_add(&log->parts, &copy);
    }
    return MR_OK;
}

static enum mr_status open_existing(struct mr_batch_log *log, struct mr_replay *replay,
                                    struct mr_recovered *ret_recovered, struct mr_error *err)
{
    struct mr_recovered recovered = {0};
    struct mr_appender *appender = NULL;
    char name[MR_SEGMENT_NAME_BYTES];
    char *path = NULL;
    enum mr_status status;

    MR_TRY_GOTO(
        mr__replay_recovered(replay, log->dir, log->config.retain_batches, &recovered, err));
    MR_TRY_GOTO(copy_parts(log, &recovered, err));
    if (replay->unused_segment != 0 && !MR_MUTANT("batch-log.open.remove-unused"))
        MR_TRY_GOTO(remove_unused(log, replay->unused_segment, err));
    if (replay->ordinal == 1 && replay->use_count > 1 && !MR_MUTANT("batch-log.open.sync-before"))
        MR_TRY_GOTO(mr__segment_sync(log->env, log->dir, replay->uses[replay->use_count - 2].number,
                                     MR_BATCH_LOG_SUFFIX, err));
    path = segment_path(log, replay->segment);
    if (path == NULL) {
        status = no_memory(log, err);
        goto done;
    }
    mr__segment_name(replay->segment, MR_BATCH_LOG_SUFFIX, name);
    MR_TRY_GOTO(mr_appender_open(log->env, log->dir, name, replay->tail, &appender, err));
    status = adopt_segment(log, replay->segment, replay->ordinal, appender, path, err);
    path = NULL;
    if (status != MR_OK)
        goto done;
    log->uses = replay->uses;
    log->use_count = replay->use_count;
    log->use_capacity = replay->use_capacity;
    replay->uses = NULL;
    log->uses[log->use_count - 1].size_bytes = replay->tail;
    log->segments_created = replay->segment;
    log->position = log->synced = replay->position;
    log->chain = log->synced_chain = replay->chain;
    if (!MR_MUTANT("batch-log.open.epoch"))
        MR_TRY_GOTO(append_epoch(log, err));
    recovered.epoch = log->position.epoch;
done:
    mr_free(path);
    if (status == MR_OK)
        *ret_recovered = recovered;
    else
        mr_recovered_release(&recovered);
    return status;
}

static void free_log(struct mr_batch_log *log)
{
    mr_appender_close(log->appender);
    mr_free(log->path);
    mr_free(log->dir);
    mr_free(log->uses);
    mr_buf_release(&log->pending);
    mr_buf_release(&log->sectors);
    mr_part_list_release(&log->parts);
    mr_part_list_release(&log->new_parts);
    mr_free(log);
}

enum mr_status mr_batch_log_open(struct mr_env *env, const char *dir,
                                 const struct mr_batch_log_config *config,
                                 struct mr_batch_log **ret_log, struct mr_recovered *ret_recovered,
                                 struct mr_error *err)
{
    struct mr_replay_options options = {.query_id = config->query_id, .keep_data = true};
    struct mr_batch_log *log = mr_alloc_zero(NULL, sizeof(*log));
    struct mr_replay replay = {0};
    enum mr_status status;

    if (log == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the log '%s': out of memory", dir);
    log->env = env;
    log->config = *config;
    log->dir = mr_strdup(dir);
    if (log->dir == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot open the log '%s': out of memory", dir);
        goto done;
    }
    MR_TRY_GOTO(mr__replay_run(env, dir, &options, &replay, err));
    if (replay.segment == 0)
        status = open_fresh(log, ret_recovered, err);
    else
        status = open_existing(log, &replay, ret_recovered, err);
done:
    mr__replay_release(&replay);
    if (status == MR_OK)
        *ret_log = log;
    else
        free_log(log);
    return status;
}

/* ---------------------------------------------------------------- appending */

/* Frames a record behind the pending ones; on failure nothing has changed. */
static enum mr_status append(struct mr_batch_log *log, enum mr_record_kind kind, uint8_t version,
                             const struct mr_buf *payload, uint64_t *ret_sum, struct mr_error *err)
{
    size_t before = log->pending.size;
    uint64_t sum = 0;

    if (payload->failed)
        return no_memory(log, err);
    /* redundant: mr_record_append asserts the same; here it is an error */
    if (payload->size > MR_RECORD_BYTES_MAX && !MR_MUTANT("batch-log.append.size"))
        return MR_FAIL(err, MR_LIMIT,
                       "cannot write a record of %zu bytes to the log '%s': the limit is %d",
                       payload->size, log->dir, MR_RECORD_BYTES_MAX);
    mr_record_append(&log->pending, kind, version, log->chain, payload->data, payload->size, &sum);
    if (log->pending.failed) {
        log->pending.size = before;
        log->pending.failed = false;
        return no_memory(log, err);
    }
    log->chain = sum;
    if (ret_sum != NULL)
        *ret_sum = sum;
    return MR_OK;
}

static enum mr_status append_epoch(struct mr_batch_log *log, struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_add_u32(&payload, log->position.epoch + 1);
    status = append(log, MR_RECORD_EPOCH, MR_EPOCH_VERSION, &payload, NULL, err);
    mr_buf_release(&payload);
    if (status != MR_OK)
        return status;
    log->position.epoch++;
    return mr_batch_log_sync(log, err);
}

enum mr_status mr_batch_log_plan(struct mr_batch_log *log, const struct mr_plan *plan,
                                 struct mr_error *err)
{
    const struct mr_log_position *position = &log->position;
    struct mr_buf payload = MR_BUF_INIT;
    uint64_t sum = 0;
    enum mr_status status;

    MR_ASSERT(!position->has_plan ||
              (position->has_commit && position->commit_batch == position->plan_batch));
    MR_ASSERT(!position->has_plan || plan->batch_id == position->plan_batch + 1);
    MR_ASSERT(!log->has_deltas);
    if (log->failed)
        return refuse_failed(log, err);
    mr__plan_encode(&payload, plan);
    status = append(log, MR_RECORD_PLAN, MR_PLAN_VERSION, &payload, &sum, err);
    mr_buf_release(&payload);
    if (status != MR_OK)
        return status;
    log->position.has_plan = true;
    log->position.plan_batch = plan->batch_id;
    log->position.plan_sum = sum;
    return MR_OK;
}

/* DELTA and COMMIT of a batch need its PLAN on the disk, and no COMMIT yet. */
static bool may_finish(const struct mr_batch_log *log, uint64_t batch_id)
{
    const struct mr_log_position *synced = &log->synced;

    return synced->has_plan && synced->plan_batch == batch_id &&
           log->position.plan_batch == batch_id &&
           !(log->position.has_commit && log->position.commit_batch == batch_id);
}

enum mr_status mr_batch_log_delta(struct mr_batch_log *log, uint64_t batch_id, const char *store,
                                  bool is_snapshot, const void *data, size_t size_bytes,
                                  struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT;
    enum mr_status status;

    MR_ASSERT(may_finish(log, batch_id));
    MR_ASSERT(log->has_deltas || log->pending.size == 0);
    if (log->failed)
        return refuse_failed(log, err);
    mr__delta_encode(&payload, batch_id, store, is_snapshot, data, size_bytes);
    status = append(log, MR_RECORD_DELTA, MR_DELTA_VERSION, &payload, NULL, err);
    mr_buf_release(&payload);
    if (status == MR_OK)
        log->has_deltas = true;
    return status;
}

void mr_batch_log_discard_deltas(struct mr_batch_log *log)
{
    if (!log->has_deltas)
        return;
    MR_ASSERT(log->new_parts.count == 0);
    mr_buf_clear(&log->pending);
    log->chain = log->synced_chain;
    log->has_deltas = false;
}

enum mr_status mr_batch_log_commit(struct mr_batch_log *log, const struct mr_commit *commit,
                                   struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT;
    uint64_t sum = 0;
    enum mr_status status = MR_OK;

    MR_ASSERT(may_finish(log, commit->batch_id));
    MR_ASSERT(log->new_parts.count == 0);
    if (log->failed)
        return refuse_failed(log, err);
    MR_TRY_GOTO(mr_part_list_reserve(&log->new_parts, commit->part_count, err));
    for (uint32_t i = 0; i < commit->part_count; i++) {
        struct mr_state_part copy;
        MR_TRY_GOTO(mr_state_part_copy(&commit->parts[i], &copy, err));
        mr_part_list_add(&log->new_parts, &copy);
    }
    MR_TRY_GOTO(mr_part_list_reserve(&log->parts, commit->part_count, err));
    mr__commit_encode(&payload, commit, &log->position);
    MR_TRY_GOTO(append(log, MR_RECORD_COMMIT,
                       commit->mark_count > 0 ? MR_COMMIT_MARKS_VERSION : MR_COMMIT_VERSION,
                       &payload, &sum, err));
    log->position.has_commit = true;
    log->position.commit_batch = commit->batch_id;
    log->position.commit_sum = sum;
    log->has_deltas = false;
done:
    mr_buf_release(&payload);
    if (status != MR_OK)
        mr_part_list_release(&log->new_parts);
    return status;
}

enum mr_status mr_batch_log_sync(struct mr_batch_log *log, struct mr_error *err)
{
    struct mr_segment_use *use;
    uint64_t group_bytes;

    MR_ASSERT(!log->has_deltas);
    /* redundant: the appender refuses what follows a failed write, too */
    if (log->failed && !MR_MUTANT("batch-log.sync.failed"))
        return refuse_failed(log, err);
    if (log->pending.size == 0)
        return MR_OK;
    if (!MR_MUTANT("batch-log.sync.check"))
        MR_TRY(mr_batch_log_check(log, err));
    group_bytes = mr__group_disk_bytes(log->pending.size);
    if (group_bytes + MR_SECTOR_BYTES > mr_appender_room(log->appender))
        MR_TRY(rotate(log, group_bytes, err));
    MR_TRY(write_group(log, &log->pending, err));
    log->sync_count++;
    mr_buf_clear(&log->pending);
    for (uint32_t i = 0; i < log->new_parts.count; i++)
        mr_part_list_add(&log->parts, &log->new_parts.parts[i]);
    log->new_parts.count = 0;
    log->synced = log->position;
    log->synced_chain = log->chain;
    use = &log->uses[log->use_count - 1];
    use->has_batch = log->synced.has_plan;
    use->last_batch = log->synced.plan_batch;
    return MR_OK;
}

uint64_t mr_batch_log_sync_count(const struct mr_batch_log *log)
{
    return log->sync_count;
}

uint64_t mr_batch_log_bytes_from(const struct mr_batch_log *log, uint64_t batch_id)
{
    uint64_t bytes = 0;

    for (size_t i = log->use_count; i-- > 0;) {
        if (log->uses[i].has_batch && log->uses[i].last_batch < batch_id)
            break;
        bytes += log->uses[i].size_bytes;
    }
    return bytes;
}

/* ---------------------------------------------------------------- purge, close */

enum mr_status mr_batch_log_purge(struct mr_batch_log *log, uint64_t needed_from,
                                  struct mr_error *err)
{
    uint64_t keep_from;

    if (log->failed)
        return refuse_failed(log, err);
    if (!log->synced.has_commit)
        return MR_OK;
    keep_from =
        log->synced.commit_batch -
        MR_MIN(log->synced.commit_batch,
               MR_MUTANT("batch-log.purge.retain") ? 0 : (uint64_t)log->config.retain_batches);
    if (!MR_MUTANT("batch-log.purge.needed"))
        keep_from = MR_MIN(keep_from, needed_from);
    while (log->use_count > 1 && (!log->uses[0].has_batch || log->uses[0].last_batch < keep_from)) {
        /*
         * Oldest first and each removal durable: a crash leaves a log without its beginning, never
         * one with a gap (A12).
         */
        MR_TRY(remove_unused(log, log->uses[0].number, err));
        log->use_count--;
        memmove(log->uses, log->uses + 1, log->use_count * sizeof(*log->uses));
    }
    return MR_OK;
}

static void append_close(struct mr_batch_log *log)
{
    struct mr_buf payload = MR_BUF_INIT;

    if (log->failed || log->pending.size != 0 ||
        mr_appender_room(log->appender) < 2 * MR_SECTOR_BYTES)
        return;
    mr_buf_add_u8(&payload, 0);
    if (append(log, MR_RECORD_CLOSE, MR_CLOSE_VERSION, &payload, NULL, NULL) == MR_OK)
        (void)mr_batch_log_sync(log, NULL);
    mr_buf_release(&payload);
}

void mr_batch_log_close(struct mr_batch_log *log)
{
    if (log == NULL)
        return;
    if (!MR_MUTANT("batch-log.close.record"))
        append_close(log);
    free_log(log);
}
