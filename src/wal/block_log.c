/*
 * The received-block log: writing and forgetting blocks.  block_log.h says what it promises,
 * segment.c how it lies on the disk, block_log_recover.c draws the records and reads them back at
 * open, block_log_read.c reads single blocks, block_files.c keeps the files.
 *
 * Called by the kernel's receiver host: receivers' threads append and sync, tasks read what a PLAN
 * named, the driver purges.
 *
 *     append -> pending (framed, in order) -> sync: one write, one fdatasync -> index, visible to
 *     last and read -> purge: whole segments
 *
 * Whoever comes to sync first flushes all that is pending; who comes meanwhile waits, and the first
 * of them flushes for the others. After a failure nothing is written any more.
 *
 * The newest blocks stay in memory (memory_bytes), so that a batch that follows at once reads no
 * file; older ones are read from the disk and checked again, sum and chain.  Without files
 * (volatile_only) everything stays in memory until it is purged, or goes to spill files.
 *
 * Threads: `append_lock` guards what is pending, `lock` the index, the segments and the blocks in
 * memory.  Files belong to whoever flushes.  No I/O happens under either lock.
 */
#include "wal/block_log_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

static enum mr_status no_memory(const struct mr_block_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep received blocks in '%s': out of memory", log->dir);
}

/* ---------------------------------------------------------------- open, close */

static void tell_of_files(void *arg, enum mr_block_event event)
{
    mr__block_log_tell(arg, event);
}

/*
 * A rotation made the newest segment, and a crash came before its first group. Were that group
 * larger now than the segment, the next one would need the same number: an empty block takes it.
 */
static enum mr_status use_empty_tail(struct mr_block_log *log, struct mr_error *err)
{
    struct mr_block_data empty = {.data = ""};
    uint64_t block;

    if (log->files.segment == 0 || log->files.segment != log->next_block)
        return MR_OK;
    empty.received_us = mr_env_wall_us(log->env);
    return mr_block_log_put(log, &empty, &block, err);
}

static enum mr_status open_files(struct mr_block_log *log, struct mr_error *err)
{
    const char *dirs[MR_BLOCK_COPIES_MAX] = {log->dir, log->copy_dir};
    unsigned count = log->copy_dir != NULL ? 2 : 1;

    MR_TRY(
        mr__block_files_init(&log->files, log->env, dirs, count, log->config.segment_bytes, err));
    log->files.event = tell_of_files;
    log->files.event_arg = log;
    MR_TRY(mr__block_files_recover(&log->files, &log->log, err));
    log->next_block = log->log.next_block;
    log->durable_block = log->next_block - 1;
    log->pending.chain = log->synced_chain = log->log.chain;
    if (log->next_block - 1 < log->config.min_last && !MR_MUTANT("block-log.open.min-last"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot go on with the blocks in '%s': a planned batch needs block %" PRIu64
                       " and the last one is %" PRIu64 "; restore the checkpoint from a copy",
                       log->dir, log->config.min_last, log->next_block - 1);
    if (!MR_MUTANT("block-log.open.empty-tail"))
        MR_TRY(use_empty_tail(log, err));
    return log->config.prepares ? mr__block_files_prepare(&log->files, err) : MR_OK;
}

/* Copies what the configuration only borrows. */
static enum mr_status keep_names(struct mr_block_log *log, const char *dir, struct mr_error *err)
{
    const struct mr_block_log_config *config = &log->config;
    const char *copy_dir = config->volatile_only ? NULL : config->copy_dir;
    const char *spill_dir = config->volatile_only ? config->spill_dir : NULL;

    log->dir = mr_strdup(dir == NULL ? "memory" : dir);
    log->copy_dir = copy_dir != NULL ? mr_strdup(copy_dir) : NULL;
    log->spill_dir = spill_dir != NULL ? mr_strdup(spill_dir) : NULL;
    if (log->dir == NULL || (copy_dir != NULL && log->copy_dir == NULL) ||
        (spill_dir != NULL && log->spill_dir == NULL))
        return MR_FAIL(err, MR_NOMEM, "cannot open the block log: out of memory");
    log->config.copy_dir = log->copy_dir;
    log->config.spill_dir = log->spill_dir;
    return MR_OK;
}

enum mr_status mr_block_log_open(struct mr_env *env, const char *dir,
                                 const struct mr_block_log_config *config,
                                 struct mr_block_log **ret_log, struct mr_error *err)
{
    struct mr_block_log *log = mr_alloc_zero(NULL, sizeof(*log));
    enum mr_status status;

    if (log == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open the block log: out of memory");
    mr_mutex_init(&log->append_lock);
    mr_mutex_init(&log->lock);
    mr_cond_init(&log->flushed);
    log->env = env;
    log->config = *config;
    log->next_block = log->log.next_block = log->log.index.first = 1;
    status = keep_names(log, dir, err);
    mr__spill_init(&log->spill, env, log->spill_dir);
    if (status == MR_OK && !config->volatile_only)
        status = open_files(log, err);
    if (status == MR_OK) {
        *ret_log = log;
    } else {
        log->failed = status;
        mr_block_log_close(log);
    }
    return status;
}

/*
 * At a clean end: then no damage at rest can pass for a torn tail (segment.c). Not needed for
 * anything else.
 */
static void write_close(struct mr_block_log *log)
{
    static const uint8_t payload[1] = {0};
    struct mr_buf record = MR_BUF_INIT;
    uint64_t at;

    if (log->failed != MR_OK || log->files.segment == 0 || log->pending.blocks.count != 0 ||
        !mr__block_files_room(&log->files, MR_SECTOR_BYTES))
        return;
    mr_record_append(&record, MR_RECORD_CLOSE, MR_BLOCK_VERSION, log->synced_chain, payload,
                     sizeof(payload), NULL);
    if (!record.failed)
        (void)mr__block_files_write(&log->files, record.data, record.size, &at, NULL);
    mr_buf_release(&record);
}

static void batch_release(struct mr_block_batch *batch)
{
    mr_buf_release(&batch->records);
    mr__block_index_release(&batch->blocks);
}

void mr_block_log_close(struct mr_block_log *log)
{
    if (log == NULL)
        return;
    if (!MR_MUTANT("block-log.close.record"))
        write_close(log);
    mr__block_files_release(&log->files);
    mr__spill_release(&log->spill);
    batch_release(&log->pending);
    batch_release(&log->flushing);
    mr__block_replay_release(&log->log);
    mr_cond_release(&log->flushed);
    mr_mutex_release(&log->lock);
    mr_mutex_release(&log->append_lock);
    mr_free(log->dir);
    mr_free(log->copy_dir);
    mr_free(log->spill_dir);
    mr_free(log);
}

/* ---------------------------------------------------------------- append */

static enum mr_status refuse_failed(const struct mr_block_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_IO,
                   "cannot write received blocks to '%s': an earlier write failed (%s); start "
                   "again",
                   log->dir, log->failure.text);
}

/* Frames the block behind the pending ones; on failure nothing has changed. */
static enum mr_status frame_block(struct mr_block_log *log, struct mr_block_place *place,
                                  const struct mr_block_data *block, struct mr_error *err)
{
    struct mr_buf *records = &log->pending.records;
    size_t before = records->size, metadata_bytes = 0, start;
    uint64_t sum = 0;

    mr_buf_reserve(records, MR_RECORD_HEADER_BYTES + 64 + block->size_bytes);
    start = mr_record_begin(records);
    mr_buf_add_u64(records, place->info.number);
    mr_buf_add_u64(records, (uint64_t)place->info.received_us);
    mr_buf_add_u64(records, place->info.record_count);
    if (block->metadata != NULL) {
        metadata_bytes = strlen(block->metadata);
        mr_buf_add_u32(records, (uint32_t)metadata_bytes);
        mr_buf_add(records, block->metadata, metadata_bytes);
    }
    place->fields_bytes = (uint32_t)(records->size - start - MR_RECORD_HEADER_BYTES);
    mr_buf_add(records, block->data, block->size_bytes);
    mr_record_finish(records, start, MR_RECORD_BLOCK,
                     block->metadata != NULL ? MR_BLOCK_VERSION_METADATA : MR_BLOCK_VERSION,
                     log->pending.chain, &sum);
    if (records->failed) {
        records->size = before;
        records->failed = false;
        return no_memory(log, err);
    }
    place->offset = before;
    place->chain = log->pending.chain;
    log->pending.chain = sum;
    return MR_OK;
}

static enum mr_status fill_place(struct mr_block_log *log, struct mr_block_place *place,
                                 const struct mr_block_data *block, struct mr_error *err)
{
    place->info = (struct mr_block_info){log->next_block, block->size_bytes, block->record_count,
                                         block->received_us};
    place->data = mr_alloc(NULL, block->size_bytes);
    if (place->data == NULL)
        return no_memory(log, err);
    if (block->size_bytes > 0)
        memcpy(place->data, block->data, block->size_bytes);
    if (block->metadata != NULL) {
        place->metadata = mr_strdup(block->metadata);
        if (place->metadata == NULL)
            return no_memory(log, err);
    }
    return log->config.volatile_only ? MR_OK : frame_block(log, place, block, err);
}

/* Under append_lock. */
static enum mr_status append_locked(struct mr_block_log *log, const struct mr_block_data *block,
                                    uint64_t *ret_block, struct mr_error *err)
{
    size_t metadata_bytes = block->metadata != NULL ? strlen(block->metadata) : 0;
    struct mr_block_place place = {.data = NULL};
    enum mr_status status;

    if (log->failed != MR_OK && !MR_MUTANT("block-log.append.failed"))
        return refuse_failed(log, err);
    if (metadata_bytes > MR_BLOCK_METADATA_BYTES_MAX && !MR_MUTANT("block-log.append.metadata-max"))
        return MR_FAIL(err, MR_LIMIT, "cannot keep metadata of %zu bytes: the limit is %d",
                       metadata_bytes, MR_BLOCK_METADATA_BYTES_MAX);
    /* redundant: mr_record_finish asserts the same; here it is an error */
    if (block->size_bytes > MR_RECORD_BYTES_MAX - 64 - metadata_bytes &&
        !MR_MUTANT("block-log.append.size-max"))
        return MR_FAIL(err, MR_LIMIT, "cannot keep a block of %zu bytes: the limit is %zu",
                       block->size_bytes, MR_RECORD_BYTES_MAX - 64 - metadata_bytes);
    MR_TRY(mr__block_index_reserve(&log->pending.blocks, 1, err));
    status = fill_place(log, &place, block, err);
    if (status != MR_OK) {
        mr__block_place_release(&place);
        return status;
    }
    log->pending.blocks.places[log->pending.blocks.count++] = place;
    *ret_block = log->next_block++;
    return MR_OK;
}

enum mr_status mr_block_log_append(struct mr_block_log *log, const struct mr_block_data *block,
                                   uint64_t *ret_block, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&log->append_lock);
    status = append_locked(log, block, ret_block, err);
    mr_mutex_unlock(&log->append_lock);
    return status;
}

/* ---------------------------------------------------------------- sync */

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

/* The flushed blocks become visible. Room was reserved. */
static void publish(struct mr_block_log *log, uint64_t group)
{
    struct mr_block_index *index = &log->log.index;
    struct mr_block_index *fresh = &log->flushing.blocks;

    mr_mutex_lock(&log->lock);
    for (size_t i = 0; i < fresh->count; i++) {
        struct mr_block_place *place = &fresh->places[i];

        if (!log->config.volatile_only) {
            place->segment = log->files.segment;
            place->group = group;
        }
        log->memory_bytes += place->data != NULL ? place->info.size_bytes : 0;
        log->log.next_block = place->info.number + 1;
        index->places[index->count++] = *place;
    }
    fresh->count = 0;
    if (log->log.segment_count > 0)
        log->log.segments[log->log.segment_count - 1].last = log->log.next_block - 1;
    trim_memory(log);
    mr_mutex_unlock(&log->lock);
}

/* Without files: what finds no room in memory goes to the spill files. */
static enum mr_status spill_fresh(struct mr_block_log *log, struct mr_error *err)
{
    struct mr_block_index *fresh = &log->flushing.blocks;
    uint64_t used;

    if (log->spill_dir == NULL)
        return MR_OK;
    mr_mutex_lock(&log->lock);
    used = log->memory_bytes;
    mr_mutex_unlock(&log->lock);
    for (size_t i = 0; i < fresh->count; i++) {
        struct mr_block_place *place = &fresh->places[i];

        used += place->info.size_bytes;
        if (used <= log->config.memory_bytes || place->info.size_bytes == 0)
            continue;
        MR_TRY(mr__spill_write(&log->spill, place, err));
        used -= place->info.size_bytes;
        mr_free(place->data);
        place->data = NULL;
        mr__block_log_tell(log, MR_BLOCK_SPILLED);
    }
    return MR_OK;
}

static enum mr_status rotate(struct mr_block_log *log, uint64_t group_bytes, struct mr_error *err)
{
    uint64_t number = log->flushing.blocks.places[0].info.number, size_bytes = 0;
    enum mr_status status;

    MR_TRY(mr__block_files_rotate(&log->files, number, log->synced_chain, group_bytes, &size_bytes,
                                  err));
    mr_mutex_lock(&log->lock);
    status = mr__block_note_segment(&log->log, number, size_bytes, err);
    mr_mutex_unlock(&log->lock);
    return status;
}

/* Writes log->flushing. Whoever flushes. */
static enum mr_status flush(struct mr_block_log *log, struct mr_error *err)
{
    struct mr_block_batch *batch = &log->flushing;
    uint64_t group = 0;
    enum mr_status status;

    mr_mutex_lock(&log->lock);
    status = mr__block_index_reserve(&log->log.index, batch->blocks.count, err);
    mr_mutex_unlock(&log->lock);
    MR_TRY(status);
    if (log->config.volatile_only) {
        MR_TRY(spill_fresh(log, err));
    } else {
        uint64_t bytes = mr__group_disk_bytes(batch->records.size);

        if (!mr__block_files_room(&log->files, bytes))
            MR_TRY(rotate(log, bytes, err));
        MR_TRY(mr__block_files_write(&log->files, batch->records.data, batch->records.size, &group,
                                     err));
        log->synced_chain = batch->chain;
    }
    publish(log, group);
    return MR_OK;
}

/* Under append_lock, which is given back meanwhile: flushes all that is pending. */
static void flush_pending(struct mr_block_log *log)
{
    struct mr_block_batch free_batch = log->flushing;
    uint64_t last = log->next_block - 1;
    struct mr_error failure;
    enum mr_status status;

    log->is_flushing = true;
    log->flushing = log->pending;
    log->pending = free_batch;
    mr_buf_clear(&log->pending.records);
    log->pending.chain = log->flushing.chain;
    mr_mutex_unlock(&log->append_lock);
    mr_error_clear(&failure);
    status = flush(log, &failure);
    mr_mutex_lock(&log->append_lock);
    log->is_flushing = false;
    if (status == MR_OK) {
        log->durable_block = last;
    } else {
        log->failed = status;
        log->failure = failure;
    }
    mr_cond_broadcast(&log->flushed);
}

/* Under append_lock: returns when the block is durable. */
static enum mr_status wait_until_durable(struct mr_block_log *log, uint64_t block,
                                         struct mr_error *err)
{
    while (log->durable_block < block && log->failed == MR_OK) {
        if (log->is_flushing)
            mr_cond_wait(&log->flushed, &log->append_lock);
        else
            flush_pending(log);
    }
    if (log->durable_block >= block)
        return MR_OK;
    if (err != NULL)
        *err = log->failure;
    return log->failed;
}

enum mr_status mr_block_log_sync(struct mr_block_log *log, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&log->append_lock);
    status = log->failed != MR_OK ? refuse_failed(log, err)
                                  : wait_until_durable(log, log->next_block - 1, err);
    mr_mutex_unlock(&log->append_lock);
    return status;
}

enum mr_status mr_block_log_put(struct mr_block_log *log, const struct mr_block_data *block,
                                uint64_t *ret_block, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&log->append_lock);
    status = append_locked(log, block, ret_block, err);
    if (status == MR_OK && !MR_MUTANT("block-log.put.wait"))
        status = wait_until_durable(log, *ret_block, err);
    mr_mutex_unlock(&log->append_lock);
    return status;
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
        mr__spill_forget(&log->spill, &index->places[i]);
        mr__block_place_release(&index->places[i]);
    }
    memmove(index->places, index->places + gone, (index->count - gone) * sizeof(*index->places));
    index->count -= gone;
    index->first += gone;
    log->oldest_in_memory -= MR_MIN(log->oldest_in_memory, gone);
}

/* Is nothing in the oldest segment needed? Then its blocks are forgotten. The newest one stays. */
static bool is_oldest_free(struct mr_block_log *log, uint64_t keep_from,
                           struct mr_block_segment *ret_segment)
{
    struct mr_block_replay *blocks = &log->log;
    bool is_free;

    mr_mutex_lock(&log->lock);
    is_free = blocks->segment_count >= 2 &&
              (blocks->segments[0].last < keep_from || MR_MUTANT("block-log.purge.needed"));
    if (is_free) {
        *ret_segment = blocks->segments[0];
        forget_before(log, blocks->segments[1].number);
    }
    mr_mutex_unlock(&log->lock);
    return is_free;
}

/* Its files are gone. */
static void drop_oldest(struct mr_block_log *log)
{
    struct mr_block_replay *blocks = &log->log;

    mr_mutex_lock(&log->lock);
    blocks->segment_count--;
    memmove(blocks->segments, blocks->segments + 1,
            blocks->segment_count * sizeof(*blocks->segments));
    mr_mutex_unlock(&log->lock);
}

enum mr_status mr_block_log_purge(struct mr_block_log *log, uint64_t keep_from,
                                  struct mr_error *err)
{
    struct mr_block_segment segment;
    bool any = false;

    if (log->config.volatile_only) {
        mr_mutex_lock(&log->lock);
        forget_before(log, keep_from);
        mr_mutex_unlock(&log->lock);
        return MR_OK;
    }
    /*
     * Oldest first and each one durable: never a gap. A crash or a failure leaves a segment that
     * the next purge takes.
     */
    while (is_oldest_free(log, keep_from, &segment)) {
        MR_TRY(mr__block_files_recycle(&log->files, segment.number, segment.size_bytes, err));
        drop_oldest(log);
        any = true;
    }
    if (any)
        mr__block_files_trim(&log->files);
    return MR_OK;
}
