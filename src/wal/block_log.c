/*
 * The received-block log: writing, reading and forgetting blocks.  block_log.h says what it
 * promises, segment.c how it lies on the disk, block_log_recover.c draws the records and reads them
 * back at open.
 *
 * Called by the kernel's receiver host: a receiver's thread appends and syncs, tasks read what a
 * PLAN named, the driver purges.
 *
 *     append -> pending (framed, in order) -> sync: one write, one fdatasync -> index, visible to
 *     last and read -> purge: whole segments
 *
 * Rotation is that of the batch log: next segment durable under its name, NEXT synced at the end of
 * the old one, then the group. A crash leaves: before NEXT, an unused segment that the next open
 * removes; after it, an empty tail.
 *
 * The newest blocks stay in memory (memory_bytes), so that a batch that follows at once reads no
 * file; older ones are read from the disk and checked again, sum and chain.  Without files
 * (volatile_only) everything stays in memory until it is purged.
 *
 * Threads: `lock` guards the index, the segments and the blocks in memory.  Everything about the
 * tail belongs to whoever appends; the caller sees to it that this is one thread at a time.  No I/O
 * happens under the lock.
 */
#include "wal/block_replay.h"

#include "base/alloc.h"
#include "base/check.h"
#include "env/thread.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

struct mr_block_log {
    struct mr_env *env;
    char *dir;
    struct mr_block_log_config config;

    /* the appender's */
    struct mr_appender *appender; /* NULL before the first block of a new log */
    uint64_t segment;             /* its number */
    uint64_t key;
    uint32_t ordinal;
    uint64_t chain, synced_chain;
    uint64_t next_block;
    struct mr_buf pending;
    struct mr_buf sectors;
    struct mr_block_index fresh; /* appended, not synced */
    uint64_t segments_created;
    bool failed;

    struct mr_mutex put_lock;   /* one put after the other */
    struct mr_mutex lock;       /* the rest: */
    struct mr_block_replay log; /* index, segments */
    uint64_t memory_bytes;
    size_t oldest_in_memory; /* index of the first place that may have data */
};

static enum mr_status no_memory(const struct mr_block_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep received blocks in '%s': out of memory", log->dir);
}

static char *segment_path(const struct mr_block_log *log, uint64_t number)
{
    char name[MR_SEGMENT_NAME_BYTES];

    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    return mr_asprintf("%s/%s", log->dir, name);
}

/* ---------------------------------------------------------------- open, close */

static enum mr_status remove_segment(struct mr_block_log *log, uint64_t number,
                                     struct mr_error *err)
{
    char *path = segment_path(log, number);
    enum mr_status status;

    if (path == NULL)
        return no_memory(log, err);
    status = mr_env_unlink(log->env, path, err);
    if (status == MR_OK)
        status = mr_env_sync_dir(log->env, log->dir, err);
    mr_free(path);
    return status;
}

static enum mr_status open_files(struct mr_block_log *log, struct mr_error *err)
{
    char name[MR_SEGMENT_NAME_BYTES];
    struct mr_block_segment *newest;

    MR_TRY(mr__block_replay_run(log->env, log->dir, &log->log, err));
    log->next_block = log->log.next_block;
    log->chain = log->synced_chain = log->log.chain;
    log->segments_created = log->log.segment_count;
    if (log->next_block - 1 < log->config.min_last)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot go on with the blocks in '%s': a planned batch needs block %" PRIu64
                       " and the last one is %" PRIu64 "; restore the checkpoint from a copy",
                       log->dir, log->config.min_last, log->next_block - 1);
    if (log->log.segment_count == 0)
        return MR_OK;
    if (log->log.unused_segment != 0)
        MR_TRY(remove_segment(log, log->log.unused_segment, err));
    newest = &log->log.segments[log->log.segment_count - 1];
    mr__segment_name(newest->number, MR_BLOCK_LOG_SUFFIX, name);
    /*
     * Zeroes the torn tail and syncs what is relied on, which may be in a dead process's cache
     * only.
     */
    MR_TRY(mr_appender_open(log->env, log->dir, name, log->log.tail, &log->appender, err));
    log->segment = newest->number;
    log->key = mr__segment_key(MR_SEGMENT_BLOCK_LOG, newest->number);
    log->ordinal = log->log.ordinal;
    return MR_OK;
}

enum mr_status mr_block_log_open(struct mr_env *env, const char *dir,
                                 const struct mr_block_log_config *config,
                                 struct mr_block_log **ret_log, struct mr_error *err)
{
    struct mr_block_log *log = mr_alloc_zero(NULL, sizeof(*log));
    enum mr_status status = MR_OK;

    if (log == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the block log: out of memory");
    mr_mutex_init(&log->put_lock);
    mr_mutex_init(&log->lock);
    log->env = env;
    log->config = *config;
    log->next_block = log->log.next_block = log->log.index.first = 1;
    log->dir = mr_strdup(dir == NULL ? "memory" : dir);
    if (log->dir == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot open the block log: out of memory");
    else if (!config->volatile_only)
        status = open_files(log, err);
    if (status == MR_OK) {
        *ret_log = log;
    } else {
        log->failed = true;
        mr_block_log_close(log);
    }
    return status;
}

static enum mr_status write_group(struct mr_block_log *log, const struct mr_buf *records,
                                  struct mr_error *err)
{
    mr_buf_clear(&log->sectors);
    mr__group_encode(&log->sectors, log->key, log->ordinal, records->data, records->size);
    if (log->sectors.failed)
        return no_memory(log, err);
    log->failed = true; /* until it is known to be there */
    MR_TRY(mr_appender_write(log->appender, log->sectors.data, log->sectors.size, err));
    MR_TRY(mr_appender_sync(log->appender, err));
    log->failed = false;
    log->ordinal++;
    return MR_OK;
}

/*
 * At a clean end: then no damage at rest can pass for a torn tail (segment.c). Not needed for
 * anything else.
 */
static void write_close(struct mr_block_log *log)
{
    static const uint8_t payload[1] = {0};
    struct mr_buf record = MR_BUF_INIT;

    if (log->failed || log->appender == NULL || log->pending.size != 0 ||
        mr_appender_room(log->appender) < 2 * MR_SECTOR_BYTES)
        return;
    mr_record_append(&record, MR_RECORD_CLOSE, MR_BLOCK_VERSION, log->synced_chain, payload,
                     sizeof(payload), NULL);
    if (!record.failed)
        (void)write_group(log, &record, NULL);
    mr_buf_release(&record);
}

void mr_block_log_close(struct mr_block_log *log)
{
    if (log == NULL)
        return;
    write_close(log);
    mr_appender_close(log->appender);
    mr_buf_release(&log->pending);
    mr_buf_release(&log->sectors);
    mr__block_index_release(&log->fresh);
    mr__block_replay_release(&log->log);
    mr_mutex_release(&log->lock);
    mr_mutex_release(&log->put_lock);
    mr_free(log->dir);
    mr_free(log);
}

/* ---------------------------------------------------------------- append */

static enum mr_status refuse_failed(const struct mr_block_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_IO,
                   "cannot write received blocks to '%s': an earlier write failed; start again",
                   log->dir);
}

/* Frames the block behind the pending ones; on failure nothing has changed. */
static enum mr_status frame_block(struct mr_block_log *log, struct mr_block_place *place,
                                  const void *data, struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT;
    size_t before = log->pending.size;
    uint64_t sum = 0;
    bool failed;

    mr_buf_reserve(&payload, MR_BLOCK_FIELDS_BYTES + place->info.size_bytes);
    mr_buf_add_u64(&payload, place->info.number);
    mr_buf_add_u64(&payload, (uint64_t)place->info.received_us);
    mr_buf_add_u64(&payload, place->info.record_count);
    mr_buf_add(&payload, data, place->info.size_bytes);
    if (!payload.failed)
        mr_record_append(&log->pending, MR_RECORD_BLOCK, MR_BLOCK_VERSION, log->chain, payload.data,
                         payload.size, &sum);
    failed = payload.failed || log->pending.failed;
    mr_buf_release(&payload);
    if (failed) {
        log->pending.size = before;
        log->pending.failed = false;
        return no_memory(log, err);
    }
    place->offset = before;
    place->chain = log->chain;
    log->chain = sum;
    return MR_OK;
}

enum mr_status mr_block_log_append(struct mr_block_log *log, const void *data, size_t size_bytes,
                                   uint64_t record_count, int64_t received_us, uint64_t *ret_block,
                                   struct mr_error *err)
{
    struct mr_block_place place = {
        .info = {log->next_block, size_bytes, record_count, received_us}};

    if (log->failed)
        return refuse_failed(log, err);
    if (size_bytes > MR_RECORD_BYTES_MAX - MR_BLOCK_FIELDS_BYTES)
        return MR_FAIL(err, MR_LIMIT, "cannot keep a block of %zu bytes: the limit is %d",
                       size_bytes, MR_RECORD_BYTES_MAX - MR_BLOCK_FIELDS_BYTES);
    MR_TRY(mr__block_index_reserve(&log->fresh, 1, err));
    place.data = mr_alloc(NULL, size_bytes);
    if (place.data == NULL)
        return no_memory(log, err);
    if (size_bytes > 0)
        memcpy(place.data, data, size_bytes);
    if (!log->config.volatile_only) {
        enum mr_status status = frame_block(log, &place, data, err);

        if (status != MR_OK) {
            mr_free(place.data);
            return status;
        }
    }
    log->fresh.places[log->fresh.count++] = place;
    *ret_block = log->next_block++;
    return MR_OK;
}

/* Makes the segment whose first block is the first of the pending ones. */
static enum mr_status create_segment(struct mr_block_log *log, uint64_t number,
                                     uint64_t group_bytes, struct mr_appender **ret_appender,
                                     uint64_t *ret_sum, struct mr_error *err)
{
    static const uint8_t no_query[16] = {0};
    struct mr_buf payload = MR_BUF_INIT, head = MR_BUF_INIT;
    char name[MR_SEGMENT_NAME_BYTES];
    uint64_t size_bytes = mr__segment_size(log->segments_created, log->config.segment_bytes,
                                           MR_SECTOR_BYTES, group_bytes);
    enum mr_status status;

    mr__segment_head_begin(&payload, number, size_bytes, no_query);
    mr_buf_add_u64(&payload, log->segment);
    if (!payload.failed)
        mr_record_append(&head, MR_RECORD_SEGMENT, MR_SEGMENT_FORMAT, log->synced_chain,
                         payload.data, payload.size, ret_sum);
    mr__segment_name(number, MR_BLOCK_LOG_SUFFIX, name);
    status = payload.failed || head.failed
                 ? no_memory(log, err)
                 : mr__segment_create(log->env, log->dir, name, size_bytes,
                                      mr__segment_key(MR_SEGMENT_BLOCK_LOG, number), &head,
                                      ret_appender, err);
    log->segments_created++;
    mr_buf_release(&payload);
    mr_buf_release(&head);
    return status;
}

static enum mr_status write_next(struct mr_block_log *log, uint64_t number, uint64_t head_sum,
                                 struct mr_error *err)
{
    struct mr_buf payload = MR_BUF_INIT, record = MR_BUF_INIT;
    enum mr_status status;

    mr_buf_add_u64(&payload, number);
    mr_buf_add_u64(&payload, head_sum);
    if (!payload.failed)
        mr_record_append(&record, MR_RECORD_NEXT, MR_BLOCK_VERSION, log->synced_chain, payload.data,
                         payload.size, NULL);
    status = payload.failed || record.failed ? no_memory(log, err) : write_group(log, &record, err);
    mr_buf_release(&payload);
    mr_buf_release(&record);
    return status;
}

static enum mr_status rotate(struct mr_block_log *log, uint64_t group_bytes, struct mr_error *err)
{
    uint64_t number = log->fresh.places[0].info.number, head_sum = 0;
    struct mr_appender *appender = NULL;
    enum mr_status status;

    log->failed = true;
    MR_TRY_GOTO(create_segment(log, number, group_bytes, &appender, &head_sum, err));
    if (log->appender != NULL)
        MR_TRY_GOTO(write_next(log, number, head_sum, err));
    mr_mutex_lock(&log->lock);
    status = mr__block_note_segment(&log->log, number, err);
    mr_mutex_unlock(&log->lock);
done:
    log->failed = status != MR_OK;
    if (status != MR_OK) {
        mr_appender_close(appender);
        return status;
    }
    mr_appender_close(log->appender);
    log->appender = appender;
    log->segment = number;
    log->key = mr__segment_key(MR_SEGMENT_BLOCK_LOG, number);
    log->ordinal = 1;
    return MR_OK;
}

/*
 * Under the lock: blocks in memory beyond the limit go, oldest first. Without files nothing may go.
 */
static void trim_memory(struct mr_block_log *log)
{
    struct mr_block_index *index = &log->log.index;

    while (!log->config.volatile_only && log->memory_bytes > log->config.memory_bytes &&
           log->oldest_in_memory < index->count) {
        struct mr_block_place *place = &index->places[log->oldest_in_memory++];

        if (place->data == NULL)
            continue;
        log->memory_bytes -= place->info.size_bytes;
        mr_free(place->data);
        place->data = NULL;
    }
}

/* The fresh blocks are durable: they become visible. Room was reserved. */
static void publish_fresh(struct mr_block_log *log, uint64_t segment, uint64_t group)
{
    struct mr_block_index *index = &log->log.index;

    for (size_t i = 0; i < log->fresh.count; i++) {
        struct mr_block_place *place = &log->fresh.places[i];

        place->segment = segment;
        place->group = group;
        log->memory_bytes += place->info.size_bytes;
        index->places[index->count++] = *place;
    }
    log->log.next_block = log->next_block;
    if (log->log.segment_count > 0)
        log->log.segments[log->log.segment_count - 1].last = log->next_block - 1;
    log->fresh.count = 0;
    trim_memory(log);
}

enum mr_status mr_block_log_sync(struct mr_block_log *log, struct mr_error *err)
{
    uint64_t segment = 0, group = 0;
    enum mr_status status;

    if (log->failed)
        return refuse_failed(log, err);
    if (log->fresh.count == 0)
        return MR_OK;
    mr_mutex_lock(&log->lock);
    status = mr__block_index_reserve(&log->log.index, log->fresh.count, err);
    mr_mutex_unlock(&log->lock);
    if (status != MR_OK)
        return status;
    if (!log->config.volatile_only) {
        uint64_t bytes = mr__group_disk_bytes(log->pending.size);

        if (log->appender == NULL || bytes + MR_SECTOR_BYTES > mr_appender_room(log->appender))
            MR_TRY(rotate(log, bytes, err));
        group = mr_appender_tail(log->appender);
        segment = log->segment;
        MR_TRY(write_group(log, &log->pending, err));
        mr_buf_clear(&log->pending);
        log->synced_chain = log->chain;
    }
    mr_mutex_lock(&log->lock);
    publish_fresh(log, segment, group);
    mr_mutex_unlock(&log->lock);
    return MR_OK;
}

enum mr_status mr_block_log_put(struct mr_block_log *log, const struct mr_block_data *block,
                                uint64_t *ret_block, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&log->put_lock);
    status = mr_block_log_append(log, block->data, block->size_bytes, block->record_count,
                                 block->received_us, ret_block, err);
    if (status == MR_OK)
        status = mr_block_log_sync(log, err);
    mr_mutex_unlock(&log->put_lock);
    return status;
}

/* ---------------------------------------------------------------- reading */

uint64_t mr_block_log_last(struct mr_block_log *log)
{
    uint64_t last;

    mr_mutex_lock(&log->lock);
    last = log->log.next_block - 1;
    mr_mutex_unlock(&log->lock);
    return last;
}

uint64_t mr_block_log_first(struct mr_block_log *log)
{
    uint64_t first;

    mr_mutex_lock(&log->lock);
    first = log->log.index.first;
    mr_mutex_unlock(&log->lock);
    return first;
}

/* Under the lock. */
static enum mr_status find_block(struct mr_block_log *log, uint64_t block,
                                 struct mr_block_place **ret_place, struct mr_error *err)
{
    struct mr_block_index *index = &log->log.index;

    if (block < index->first)
        return MR_FAIL(err, MR_DATA_LOSS,
                       "cannot read block %" PRIu64 " of '%s': blocks up to %" PRIu64
                       " were removed",
                       block, log->dir, index->first - 1);
    if (block - index->first >= index->count)
        return MR_FAIL(err, MR_NOT_FOUND,
                       "cannot read block %" PRIu64 " of '%s': the last one is %" PRIu64, block,
                       log->dir, log->log.next_block - 1);
    *ret_place = &index->places[block - index->first];
    return MR_OK;
}

enum mr_status mr_block_log_info(struct mr_block_log *log, uint64_t block,
                                 struct mr_block_info *ret_info, struct mr_error *err)
{
    struct mr_block_place *place = NULL;
    enum mr_status status;

    mr_mutex_lock(&log->lock);
    status = find_block(log, block, &place, err);
    if (status == MR_OK && place != NULL)
        *ret_info = place->info;
    mr_mutex_unlock(&log->lock);
    return status;
}

/* The sectors that hold the block's record, without their tags. */
static enum mr_status read_record(struct mr_block_log *log, const struct mr_block_place *place,
                                  const char *path, struct mr_buf *out, struct mr_error *err)
{
    size_t record_bytes =
        MR_RECORD_HEADER_BYTES + MR_BLOCK_FIELDS_BYTES + (size_t)place->info.size_bytes;
    uint64_t first = place->offset / MR_SECTOR_DATA_BYTES;
    uint64_t end = (place->offset + record_bytes + MR_SECTOR_DATA_BYTES - 1) / MR_SECTOR_DATA_BYTES;
    size_t size = (size_t)(end - first) * MR_SECTOR_BYTES, got = 0;
    char *sectors = mr_alloc(NULL, size);
    struct mr_file *file = NULL;
    enum mr_status status;

    if (sectors == NULL)
        return no_memory(log, err);
    MR_TRY_GOTO(mr_env_open(log->env, path, MR_FILE_READ, &file, err));
    MR_TRY_GOTO(mr_env_pread(log->env, file, sectors, size, place->group + first * MR_SECTOR_BYTES,
                             &got, err));
    mr_buf_reserve(out, got);
    for (size_t at = 0; at + MR_SECTOR_BYTES <= got; at += MR_SECTOR_BYTES)
        mr_buf_add(out, sectors + at, MR_SECTOR_DATA_BYTES);
    if (out->failed)
        status = no_memory(log, err);
done:
    mr_env_close(log->env, file);
    mr_free(sectors);
    return status;
}

static enum mr_status read_from_disk(struct mr_block_log *log, const struct mr_block_place *place,
                                     struct mr_buf *out, struct mr_error *err)
{
    size_t skip = (size_t)(place->offset % MR_SECTOR_DATA_BYTES), size = 0;
    char *path = segment_path(log, place->segment);
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_record record;
    enum mr_record_result result;
    enum mr_status status;

    if (path == NULL)
        return no_memory(log, err);
    MR_TRY_GOTO(read_record(log, place, path, &bytes, err));
    result = bytes.size <= skip ? MR_RECORD_TRUNCATED
                                : mr_record_read(bytes.data + skip, bytes.size - skip, place->chain,
                                                 &record, &size);
    if (result != MR_RECORD_OK ||
        record.payload.size_bytes != MR_BLOCK_FIELDS_BYTES + place->info.size_bytes) {
        status =
            MR_FAIL(err, MR_CORRUPT,
                    "cannot read block %" PRIu64 " in '%s': %s; restore the checkpoint from a copy",
                    place->info.number, path, mr_record_result_text(result));
        goto done;
    }
    mr_buf_add(out, record.payload.data + MR_BLOCK_FIELDS_BYTES, (size_t)place->info.size_bytes);
    if (out->failed)
        status = no_memory(log, err);
done:
    mr_buf_release(&bytes);
    mr_free(path);
    return status;
}

enum mr_status mr_block_log_read(struct mr_block_log *log, uint64_t block, struct mr_buf *out,
                                 struct mr_error *err)
{
    struct mr_block_place *found = NULL, place = {0};
    bool in_memory = false;
    enum mr_status status;

    mr_buf_clear(out);
    mr_mutex_lock(&log->lock);
    status = find_block(log, block, &found, err);
    if (status == MR_OK && found != NULL) {
        place = *found;
        in_memory = place.data != NULL;
        if (in_memory)
            mr_buf_add(out, place.data, (size_t)place.info.size_bytes);
    }
    mr_mutex_unlock(&log->lock);
    if (status == MR_OK && in_memory && out->failed)
        return no_memory(log, err);
    return status != MR_OK || in_memory ? status : read_from_disk(log, &place, out, err);
}

/* ---------------------------------------------------------------- purge */

/* Under the lock: the index forgets everything before block `first`. */
static void forget_before(struct mr_block_log *log, uint64_t first)
{
    struct mr_block_index *index = &log->log.index;
    size_t gone =
        first > index->first ? (size_t)MR_MIN(first - index->first, (uint64_t)index->count) : 0;

    for (size_t i = 0; i < gone; i++) {
        if (index->places[i].data != NULL)
            log->memory_bytes -= index->places[i].info.size_bytes;
        mr_free(index->places[i].data);
    }
    memmove(index->places, index->places + gone, (index->count - gone) * sizeof(*index->places));
    index->count -= gone;
    index->first += gone;
    log->oldest_in_memory -= MR_MIN(log->oldest_in_memory, gone);
}

/*
 * Under the lock: the oldest segment when nothing in it is needed, else 0. The newest one always
 * stays.
 */
static uint64_t removable_segment(const struct mr_block_log *log, uint64_t keep_from)
{
    const struct mr_block_replay *blocks = &log->log;

    if (blocks->segment_count < 2 || blocks->segments[0].last >= keep_from)
        return 0;
    return blocks->segments[0].number;
}

enum mr_status mr_block_log_purge(struct mr_block_log *log, uint64_t keep_from,
                                  struct mr_error *err)
{
    uint64_t number;

    if (log->config.volatile_only) {
        mr_mutex_lock(&log->lock);
        forget_before(log, keep_from);
        mr_mutex_unlock(&log->lock);
        return MR_OK;
    }
    for (;;) {
        struct mr_block_replay *blocks = &log->log;

        mr_mutex_lock(&log->lock);
        number = removable_segment(log, keep_from);
        if (number != 0) {
            forget_before(log, blocks->segments[1].number);
            blocks->segment_count--;
            memmove(blocks->segments, blocks->segments + 1,
                    blocks->segment_count * sizeof(*blocks->segments));
        }
        mr_mutex_unlock(&log->lock);
        if (number == 0)
            return MR_OK;
        /*
         * Oldest first and each one durable: never a gap. A crash before it leaves a segment that
         * the next purge takes.
         */
        MR_TRY(remove_segment(log, number, err));
    }
}
