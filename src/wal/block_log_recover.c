/*
 * Reading the received-block log back: the index of its blocks.
 *
 * Called by mr_block_log_open and mr_block_log_verify.  The rules are those of segment.c; the
 * records of a group are
 *
 *     SEGMENT  u64 number of its first block, u64 file size, 16 zeros, u64 number of the
 *              segment before (0 = first), u64 flags: 1 = made of a file that was a segment before
 *     BLOCK    u64 number, u64 received at (us), u64 records, bytes; numbers grow by one,
 *              through all segments. Version 2: u32 length, metadata, before the bytes
 *     NEXT     u64 number of the next segment, u64 sum of its head; nothing follows it
 *     CLOSE    u8 0                                                      clean end; anywhere
 *
 * A segment that was made and not used yet has no NEXT naming it, and holds nothing.
 *
 * Threads: the caller's.
 */
#include "wal/block_replay.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

#include "base/banned.h"

struct reader {
    struct mr_env *env;
    const char *dir;
    struct mr_block_replay *replay;
    struct mr_segment segment;
    struct mr_buf group;
    uint64_t group_start;
    uint64_t next_segment, next_sum;
    bool started;
    bool is_reused; /* the segment */
};

/* ---------------------------------------------------------------- memory */

void mr__block_place_release(struct mr_block_place *place)
{
    mr_free(place->data);
    mr_free(place->metadata);
    place->data = place->metadata = NULL;
}

void mr__block_index_release(struct mr_block_index *index)
{
    for (size_t i = 0; i < index->count; i++)
        mr__block_place_release(&index->places[i]);
    mr_free(index->places);
    *index = (struct mr_block_index){0};
}

enum mr_status mr__block_index_reserve(struct mr_block_index *index, size_t more,
                                       struct mr_error *err)
{
    size_t capacity = MR_MAX(index->capacity * 2, index->count + more + 16);
    struct mr_block_place *grown;

    if (index->count + more <= index->capacity)
        return MR_OK;
    grown = mr_realloc(NULL, index->places, capacity * sizeof(*grown));
    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot index received blocks: out of memory");
    index->places = grown;
    index->capacity = capacity;
    return MR_OK;
}

void mr__block_replay_release(struct mr_block_replay *replay)
{
    mr__block_index_release(&replay->index);
    mr_free(replay->segments);
    *replay = (struct mr_block_replay){0};
}

enum mr_status mr__block_note_segment(struct mr_block_replay *replay, uint64_t number,
                                      uint64_t size_bytes, struct mr_error *err)
{
    if (replay->segment_count == replay->segment_capacity) {
        size_t capacity = MR_MAX(replay->segment_capacity * 2, (size_t)8);
        struct mr_block_segment *grown =
            mr_realloc(NULL, replay->segments, capacity * sizeof(*grown));

        if (grown == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot index received blocks: out of memory");
        replay->segments = grown;
        replay->segment_capacity = capacity;
    }
    replay->segments[replay->segment_count++] =
        (struct mr_block_segment){.number = number, .size_bytes = size_bytes};
    return MR_OK;
}

/* ---------------------------------------------------------------- records */

static enum mr_status damaged(const struct reader *reader, uint64_t byte, const char *reason,
                              struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read '%s' at byte %" PRIu64 ": %s; restore the checkpoint from a copy",
                   reader->segment.path, byte, reason);
}

static uint64_t disk_byte(const struct reader *reader, size_t offset)
{
    return reader->group_start + offset / MR_SECTOR_DATA_BYTES * MR_SECTOR_BYTES +
           offset % MR_SECTOR_DATA_BYTES;
}

static enum mr_status apply_block(struct reader *reader, const struct mr_record *record,
                                  size_t offset, struct mr_error *err)
{
    struct mr_block_replay *replay = reader->replay;
    struct mr_bytes bytes = mr_bytes_of(record->payload.data, record->payload.size_bytes);
    struct mr_block_place place = {
        .segment = reader->segment.number,
        .group = reader->group_start,
        .offset = offset,
        .chain = record->chain,
        .sum = record->sum,
    };
    const char *metadata = NULL;
    size_t metadata_bytes = 0;

    place.info.number = mr_bytes_u64(&bytes);
    place.info.received_us = (int64_t)mr_bytes_u64(&bytes);
    place.info.record_count = mr_bytes_u64(&bytes);
    if (record->version == MR_BLOCK_VERSION_METADATA) {
        metadata_bytes = mr_bytes_u32(&bytes);
        metadata = mr_bytes_take(&bytes, metadata_bytes);
    }
    place.info.size_bytes = mr_bytes_left(&bytes);
    place.fields_bytes = (uint32_t)(record->payload.size_bytes - place.info.size_bytes);
    if (bytes.failed)
        return damaged(reader, disk_byte(reader, offset), "a block does not decode", err);
    if (place.info.number != replay->next_block && !MR_MUTANT("block-recover.block.order"))
        return damaged(reader, disk_byte(reader, offset), "a block is out of order", err);
    MR_TRY(mr__block_index_reserve(&replay->index, 1, err));
    if (metadata != NULL) {
        place.metadata = mr_alloc(NULL, metadata_bytes + 1);
        if (place.metadata == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot index received blocks: out of memory");
        memcpy(place.metadata, metadata, metadata_bytes);
        place.metadata[metadata_bytes] = '\0';
    }
    replay->index.places[replay->index.count++] = place;
    replay->next_block++;
    replay->segments[replay->segment_count - 1].last = place.info.number;
    return MR_OK;
}

static enum mr_status apply_next(struct reader *reader, const struct mr_record *record,
                                 size_t offset, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(record->payload.data, record->payload.size_bytes);

    reader->next_segment = mr_bytes_u64(&bytes);
    reader->next_sum = mr_bytes_u64(&bytes);
    if ((bytes.failed || mr_bytes_left(&bytes) != 0 ||
         reader->next_segment != reader->replay->next_block) &&
        !MR_MUTANT("block-recover.next.number"))
        return damaged(reader, disk_byte(reader, offset), "it names a next segment that cannot be",
                       err);
    return MR_OK;
}

static enum mr_status apply_group(struct reader *reader, struct mr_error *err)
{
    size_t offset = 0;

    for (;;) {
        struct mr_record record;
        size_t size = 0;
        enum mr_record_result result =
            mr_record_read(reader->group.data + offset, reader->group.size - offset,
                           reader->replay->chain, &record, &size);

        if (result == MR_RECORD_END)
            break;
        if (result != MR_RECORD_OK && !MR_MUTANT("block-recover.group.record"))
            return damaged(reader, disk_byte(reader, offset), mr_record_result_text(result), err);
        if (record.version != MR_BLOCK_VERSION &&
            (record.kind != MR_RECORD_BLOCK || record.version != MR_BLOCK_VERSION_METADATA) &&
            !MR_MUTANT("block-recover.record.version"))
            return MR_FAIL(err, MR_VERSION,
                           "cannot read '%s': it has records of version %u; run a newer millrace",
                           reader->segment.path, record.version);
        if (reader->next_segment != 0 && !MR_MUTANT("block-recover.group.behind-next"))
            return damaged(reader, disk_byte(reader, offset),
                           "a record follows the last one of its segment", err);
        if (record.kind == MR_RECORD_BLOCK)
            MR_TRY(apply_block(reader, &record, offset, err));
        else if (record.kind == MR_RECORD_NEXT)
            MR_TRY(apply_next(reader, &record, offset, err));
        else if (record.kind != MR_RECORD_CLOSE && !MR_MUTANT("block-recover.record.kind"))
            return damaged(reader, disk_byte(reader, offset),
                           "a record of this kind has no place among blocks", err);
        if (record.kind != MR_RECORD_NEXT)
            reader->replay->chain = record.sum;
        offset += size;
    }
    if (offset == 0 && !MR_MUTANT("block-recover.group.empty"))
        return damaged(reader, reader->group_start, "a flush without any record", err);
    return MR_OK;
}

/* ---------------------------------------------------------------- segments */

static enum mr_status read_groups(struct reader *reader, struct mr_error *err)
{
    struct mr_block_replay *replay = reader->replay;
    const struct mr_segment *segment = &reader->segment;
    enum mr_group_result result;
    struct mr_group group;

    replay->tail = segment->first_group;
    replay->torn_bytes = 0;
    for (replay->ordinal = 1;; replay->ordinal++) {
        result = mr__group_read(segment->data, segment->size_bytes, replay->tail, segment->key,
                                replay->ordinal, reader->is_reused, &reader->group, &group);
        if (reader->group.failed)
            return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", segment->path);
        if (result == MR_GROUP_DAMAGED && !MR_MUTANT("block-recover.groups.damaged"))
            return damaged(reader, group.bad, group.reason, err);
        if (result != MR_GROUP_WHOLE)
            break;
        reader->group_start = replay->tail;
        if (reader->next_segment != 0 && !MR_MUTANT("block-recover.groups.flush-behind-next"))
            return damaged(reader, replay->tail, "a flush follows the last one of its segment",
                           err);
        MR_TRY(apply_group(reader, err));
        replay->tail = group.end;
    }
    if (result == MR_GROUP_TORN) {
        size_t end = segment->size_bytes;

        while (end > replay->tail && segment->data[end - 1] == 0)
            end--;
        replay->torn_bytes = end - replay->tail;
        if (reader->next_segment != 0 && !MR_MUTANT("block-recover.groups.behind-next"))
            return damaged(reader, replay->tail,
                           "foreign bytes follow the last record of the segment", err);
    }
    return MR_OK;
}

static enum mr_status check_head(struct reader *reader, struct mr_error *err)
{
    struct mr_block_replay *replay = reader->replay;
    const struct mr_segment *segment = &reader->segment;
    struct mr_bytes bytes = mr__segment_head_rest(segment);
    uint64_t before = mr_bytes_u64(&bytes);
    uint64_t flags = mr_bytes_left(&bytes) > 0 ? mr_bytes_u64(&bytes) : 0;

    reader->is_reused = (flags & MR_BLOCK_SEGMENT_REUSED) != 0;
    if ((bytes.failed || mr_bytes_left(&bytes) != 0 || before >= segment->number ||
         flags > MR_BLOCK_SEGMENT_REUSED) &&
        !MR_MUTANT("block-recover.head.decode"))
        return damaged(reader, 0, "the head does not decode", err);
    if (!reader->started) {
        reader->started = true;
        replay->chain = segment->record.chain;
        replay->next_block = replay->index.first = segment->number;
        return MR_OK;
    }
    if ((segment->record.chain != replay->chain || segment->number != replay->next_block) &&
        !MR_MUTANT("block-recover.head.position"))
        return damaged(reader, 0,
                       "it was made when the log stood elsewhere: blocks before it are missing",
                       err);
    return MR_OK;
}

static enum mr_status load(struct reader *reader, uint64_t number, struct mr_error *err)
{
    struct mr_segment segment;

    MR_TRY(mr__segment_load(reader->env, reader->dir, MR_BLOCK_LOG_SUFFIX, number,
                            MR_SEGMENT_BLOCK_LOG, &segment, err));
    mr__segment_release(&reader->segment);
    reader->segment = segment;
    return check_head(reader, err);
}

/*
 * A segment behind the newest one that counts: made by a rotation that did not come to its NEXT,
 * and empty.
 */
static enum mr_status check_unused(struct reader *reader, uint64_t number, struct mr_error *err)
{
    const struct mr_segment *segment = &reader->segment;
    struct mr_group group;

    MR_TRY(load(reader, number, err));
    if (mr__group_read(segment->data, segment->size_bytes, segment->first_group, segment->key, 1,
                       reader->is_reused, &reader->group, &group) != MR_GROUP_NONE &&
        !MR_MUTANT("block-recover.unused.used"))
        return damaged(reader, segment->first_group,
                       "it was written to, but the segment before it does not say that it follows",
                       err);
    reader->replay->unused_segment = number;
    return MR_OK;
}

static enum mr_status read_all(struct reader *reader, const struct mr_segment_list *list,
                               struct mr_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        uint64_t number = list->numbers[i];

        if (i > 0 && reader->next_segment == 0) {
            if (i + 1 < list->count && !MR_MUTANT("block-recover.all.more"))
                return MR_FAIL(err, MR_CORRUPT,
                               "cannot read the blocks in '%s': segment %" PRIu64
                               " does not say that one follows, but there are %zu more; restore "
                               "the checkpoint from a copy",
                               reader->dir, reader->segment.number, list->count - i);
            return check_unused(reader, number, err);
        }
        if (i > 0 && number != reader->next_segment && !MR_MUTANT("block-recover.all.gap"))
            return MR_FAIL(err, MR_CORRUPT,
                           "cannot read the blocks in '%s': segment %" PRIu64
                           " is missing between %" PRIu64 " and %" PRIu64
                           "; restore the checkpoint from a copy",
                           reader->dir, reader->next_segment, reader->segment.number, number);
        uint64_t wanted_sum = reader->next_sum;
        reader->next_segment = 0;
        MR_TRY(mr__block_note_segment(reader->replay, number, 0, err));
        MR_TRY(load(reader, number, err));
        reader->replay->segments[i].size_bytes = reader->segment.size_bytes;
        if (i > 0 && reader->segment.record.sum != wanted_sum &&
            !MR_MUTANT("block-recover.all.sum"))
            return damaged(reader, 0, "it is not the segment that the one before it names", err);
        MR_TRY(read_groups(reader, err));
    }
    if (reader->next_segment != 0 && !MR_MUTANT("block-recover.all.next-missing"))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read the blocks in '%s': segment %" PRIu64
                       ", which follows '%s', is missing; restore the checkpoint from a copy",
                       reader->dir, reader->next_segment, reader->segment.path);
    return MR_OK;
}

enum mr_status mr__block_replay_run(struct mr_env *env, const char *dir,
                                    struct mr_block_replay *ret_replay, struct mr_error *err)
{
    struct mr_block_replay replay = {.next_block = 1, .index.first = 1};
    struct reader reader = {.env = env, .dir = dir, .replay = &replay};
    struct mr_segment_list list;
    enum mr_status status;

    MR_TRY(mr__segment_list(env, dir, MR_BLOCK_LOG_SUFFIX, &list, err));
    status = read_all(&reader, &list, err);
    mr_buf_release(&reader.group);
    mr__segment_release(&reader.segment);
    mr__segment_list_release(&list);
    if (status == MR_OK)
        *ret_replay = replay;
    else
        mr__block_replay_release(&replay);
    return status;
}

enum mr_status mr_block_log_verify(struct mr_env *env, const char *dir, uint64_t *ret_first,
                                   uint64_t *ret_last, struct mr_error *err)
{
    struct mr_block_replay replay;

    MR_TRY(mr__block_replay_run(env, dir, &replay, err));
    *ret_first = replay.index.first;
    *ret_last = replay.next_block - 1;
    mr__block_replay_release(&replay);
    return MR_OK;
}
