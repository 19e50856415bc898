/*
 * The received-block log: reading single blocks.
 *
 * Called by tasks, beside whoever appends: from memory, from the spill files, or from the segment,
 * where the record is checked again, sum and chain. With two copies a block that one of them does
 * not give is read from the other, and the writer is told to repair the first.
 *
 * Threads: any; nothing is read under the lock.
 */
#include "wal/block_log_internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/log.h"
#include "base/mutant.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

static enum mr_status no_memory(const struct mr_block_log *log, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read received blocks of '%s': out of memory", log->dir);
}

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

enum mr_status mr_block_log_metadata(struct mr_block_log *log, uint64_t block, struct mr_buf *out,
                                     struct mr_error *err)
{
    struct mr_block_place *place = NULL;
    enum mr_status status;

    mr_mutex_lock(&log->lock);
    status = find_block(log, block, &place, err);
    if (status == MR_OK && place != NULL && place->metadata != NULL) {
        mr_buf_add_str(out, place->metadata);
        mr_buf_add_char(out, '\n');
    }
    mr_mutex_unlock(&log->lock);
    return status == MR_OK && out->failed ? no_memory(log, err) : status;
}

/* The sectors that hold the block's record, without their tags. */
static enum mr_status read_sectors(struct mr_block_log *log, const struct mr_block_place *place,
                                   const char *path, struct mr_buf *out, struct mr_error *err)
{
    size_t record_bytes =
        MR_RECORD_HEADER_BYTES + place->fields_bytes + (size_t)place->info.size_bytes;
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

static enum mr_status read_from_copy(struct mr_block_log *log, const struct mr_block_copy *copy,
                                     const struct mr_block_place *place, struct mr_buf *out,
                                     struct mr_error *err)
{
    size_t skip = (size_t)(place->offset % MR_SECTOR_DATA_BYTES), size = 0;
    char name[MR_SEGMENT_NAME_BYTES];
    struct mr_buf bytes = MR_BUF_INIT;
    struct mr_record record = {0};
    enum mr_record_result result;
    enum mr_status status;
    char *path;

    mr__segment_name(place->segment, MR_BLOCK_LOG_SUFFIX, name);
    path = mr_asprintf("%s/%s", copy->dir, name);
    if (path == NULL)
        return no_memory(log, err);
    MR_TRY_GOTO(read_sectors(log, place, path, &bytes, err));
    result = bytes.size <= skip ? MR_RECORD_TRUNCATED
                                : mr_record_read(bytes.data + skip, bytes.size - skip, place->chain,
                                                 &record, &size);
    /* the first is redundant: what is no record has no size that fits */
    if ((result != MR_RECORD_OK && !MR_MUTANT("block-read.record.check")) ||
        (record.payload.size_bytes != place->fields_bytes + place->info.size_bytes &&
         !MR_MUTANT("block-read.record.size"))) {
        status =
            MR_FAIL(err, MR_CORRUPT,
                    "cannot read block %" PRIu64 " in '%s': %s; restore the checkpoint from a copy",
                    place->info.number, path, mr_record_result_text(result));
        goto done;
    }
    mr_buf_add(out, record.payload.data + place->fields_bytes, (size_t)place->info.size_bytes);
    if (out->failed)
        status = no_memory(log, err);
done:
    mr_buf_release(&bytes);
    mr_free(path);
    return status;
}

/* The first error is the one that is told. */
/* No damage: memory or descriptors have run out. */
static bool is_of_this_process(enum mr_status status, const struct mr_error *err)
{
    return status == MR_NOMEM || err->os_errno == EMFILE || err->os_errno == ENFILE;
}

static enum mr_status read_from_disk(struct mr_block_log *log, const struct mr_block_place *place,
                                     struct mr_buf *out, struct mr_error *err)
{
    enum mr_status first = MR_OK;

    for (unsigned i = 0; i < log->files.copy_count; i++) {
        struct mr_block_copy *copy = &log->files.copies[i];
        struct mr_error local;
        enum mr_status status;

        if (atomic_load(&copy->lost))
            continue;
        mr_error_clear(&local);
        status = read_from_copy(log, copy, place, out, &local);
        if (status == MR_OK)
            return MR_OK;
        if (first == MR_OK) {
            first = status;
            if (err != NULL)
                *err = local;
        }
        if (log->files.copy_count > 1 && !is_of_this_process(status, &local) &&
            !atomic_exchange(&copy->suspect, true)) {
            mr_log(MR_LOG_WARNING, "wal", NULL, -1,
                   "a copy of received blocks is damaged: %s; trying the other", local.text);
            mr__block_log_tell(log, MR_BLOCK_COPY_LOST);
        }
    }
    return first;
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
    if (status != MR_OK || in_memory)
        return status;
    if (place.spill != 0)
        return mr__spill_read(&log->spill, &place, out, err);
    return place.info.size_bytes == 0 && log->config.volatile_only
               ? MR_OK
               : read_from_disk(log, &place, out, err);
}
