/*
 * Writing deltas and snapshots: the same bytes inside the batch log and in files.
 *
 * Called by state.c for each changed store of a batch.  A part is a run of framed records
 * (wal/record.h):
 *
 *     FILE_HEAD { u8 is_snapshot, 16 query id, u64 version, u32 epoch, u32 attempt,
 *                 u64 seed of the hash, blocks: store, kind, key schema, value schema }
 *     GROUP     { sections, one for each of some key groups, ascending:
 *                     u8 key group, u32 bytes of the entries that follow,
 *                     entries: varint key size * 2 + is_delete, key, value block unless
 *                     it is a delete }   any number of times
 *     FILE_FOOT { u64 entries, u32 GROUP records, u64 keys in the store afterwards }
 *
 * Each record's chain is the sum of the one before it (0 for the first), so a record that is
 * missing, doubled or of another part breaks it, and the sum of FILE_FOOT, which COMMIT repeats,
 * covers every byte.  Entries are in the order of the top 32 bits of their hash, equal ones by key:
 * so key groups (the top 8 bits) ascend, the same content is the same bytes, and both writing and
 * loading go through the table from its beginning to its end.  A GROUP record ends with a key group
 * once it holds 64 KiB, and within one at 1 MiB.
 *
 * The head is the manifest of the operator: its name and schemas are kept with every version of its
 * state.  A store without keys still writes one (empty) part.
 *
 * A part is gathered in memory while it is small enough for the log; beyond that a staged file
 * takes it, so memory stays bounded.
 *
 * Threads: the driver's.
 */
#include "state/internal.h"

#include <string.h>

#include "base/banned.h"

enum {
    PART_VERSION = 1,
    RECORD_BYTES = 64 << 10,
    RECORD_BYTES_MAX = 1 << 20,
    WRITE_BYTES = 1 << 20
};
enum { NO_GROUP = 256 };

struct writer {
    struct mr_part_target *target;
    const char *store_name;
    uint64_t chain;
    uint64_t flushed_bytes; /* handed to the staged file */
    struct mr_buf payload;  /* of the GROUP record being filled */
    size_t section;         /* in payload: where the length of the open section goes */
    unsigned group;         /* of it; NO_GROUP = none is open */
    uint64_t entries;
    uint32_t records;
};

static enum mr_status no_memory(const struct writer *writer, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot write state '%s': out of memory", writer->store_name);
}

/* ---------------------------------------------------------------- records */

static enum mr_status flush(struct writer *writer, struct mr_error *err)
{
    struct mr_part_target *target = writer->target;

    if (target->staged == NULL) {
        MR_TRY(target->make_dir(target->arg, err));
        MR_TRY(mr_staged_create(target->env, target->dir, target->file, &target->staged, err));
    }
    MR_TRY(mr_staged_write(target->staged, target->bytes.data, target->bytes.size, err));
    writer->flushed_bytes += target->bytes.size;
    mr_buf_clear(&target->bytes);
    return MR_OK;
}

static enum mr_status add_record(struct writer *writer, enum mr_record_kind kind,
                                 const struct mr_buf *payload, struct mr_error *err)
{
    struct mr_part_target *target = writer->target;

    if (payload->failed)
        return no_memory(writer, err);
    mr_record_append(&target->bytes, kind, PART_VERSION, writer->chain, payload->data,
                     payload->size, &writer->chain);
    if (target->bytes.failed)
        return no_memory(writer, err);
    if (target->bytes.size > (target->staged == NULL ? target->inline_bytes_max : WRITE_BYTES))
        return flush(writer, err);
    return MR_OK;
}

static void end_section(struct writer *writer)
{
    size_t bytes;

    if (writer->group == NO_GROUP || writer->payload.failed)
        return;
    bytes = writer->payload.size - writer->section - 4;
    for (unsigned i = 0; i < 4; i++)
        writer->payload.data[writer->section + i] = (char)(bytes >> (8 * i));
    writer->group = NO_GROUP;
}

static enum mr_status end_record(struct writer *writer, struct mr_error *err)
{
    end_section(writer);
    if (writer->payload.size == 0)
        return writer->payload.failed ? no_memory(writer, err) : MR_OK;
    MR_TRY(add_record(writer, MR_RECORD_GROUP, &writer->payload, err));
    mr_buf_clear(&writer->payload);
    writer->records++;
    return MR_OK;
}

static enum mr_status add_item(const struct mr_item *item, void *arg, struct mr_error *err)
{
    struct writer *writer = arg;
    unsigned group = item->fragment >> 24;

    if ((group != writer->group && writer->payload.size >= RECORD_BYTES) ||
        writer->payload.size >= RECORD_BYTES_MAX)
        MR_TRY(end_record(writer, err));
    if (group != writer->group) {
        end_section(writer);
        mr_buf_add_u8(&writer->payload, (uint8_t)group);
        writer->section = writer->payload.size;
        mr_buf_add_u32(&writer->payload, 0);
        writer->group = group;
    }
    mr_buf_add_varint(&writer->payload, (uint64_t)item->key_bytes << 1 | (item->is_delete ? 1 : 0));
    mr_buf_add(&writer->payload, item->key, item->key_bytes);
    if (!item->is_delete)
        mr_buf_add_block(&writer->payload, item->value, item->value_bytes);
    writer->entries++;
    return MR_OK;
}

static enum mr_status add_head(struct writer *writer, const struct mr_store *store,
                               const struct mr_state_part *part, const uint8_t query_id[16],
                               struct mr_error *err)
{
    struct mr_buf *payload = &writer->payload;

    mr_buf_add_u8(payload, part->is_snapshot);
    mr_buf_add(payload, query_id, 16);
    mr_buf_add_u64(payload, part->version);
    mr_buf_add_u32(payload, part->epoch);
    mr_buf_add_u32(payload, part->attempt);
    mr_buf_add_u64(payload, store->seed);
    mr_buf_add_block(payload, store->name, strlen(store->name));
    mr_buf_add_block(payload, store->kind, strlen(store->kind));
    mr_buf_add_block(payload, store->key_schema, strlen(store->key_schema));
    mr_buf_add_block(payload, store->value_schema, strlen(store->value_schema));
    MR_TRY(add_record(writer, MR_RECORD_FILE_HEAD, payload, err));
    mr_buf_clear(payload);
    return MR_OK;
}

static enum mr_status add_foot(struct writer *writer, const struct mr_store *store,
                               struct mr_error *err)
{
    MR_TRY(end_record(writer, err));
    mr_buf_add_u64(&writer->payload, writer->entries);
    mr_buf_add_u32(&writer->payload, writer->records);
    mr_buf_add_u64(&writer->payload, mr_store_count(store));
    return add_record(writer, MR_RECORD_FILE_FOOT, &writer->payload, err);
}

/* ---------------------------------------------------------------- the whole part */

void mr__part_target_release(struct mr_part_target *target)
{
    mr_staged_free(target->staged); /* removes the temporary unless it was published */
    mr_buf_release(&target->bytes);
    target->staged = NULL;
}

enum mr_status mr__part_write(const struct mr_store *store, struct mr_state_part *part,
                              const uint8_t query_id[16], struct mr_part_target *target,
                              struct mr_error *err)
{
    struct writer writer = {.target = target, .store_name = store->name, .group = NO_GROUP};
    enum mr_status status;

    MR_ASSERT(target->staged == NULL && target->bytes.size == 0);
    MR_TRY_GOTO(add_head(&writer, store, part, query_id, err));
    MR_TRY_GOTO(part->is_snapshot ? mr__store_visit_all(store, add_item, &writer, err)
                                  : mr__store_visit_changes(store, add_item, &writer, err));
    MR_TRY_GOTO(add_foot(&writer, store, err));
    if (target->staged != NULL) {
        if (target->bytes.size > 0)
            MR_TRY_GOTO(flush(&writer, err));
        MR_TRY_GOTO(mr_staged_seal(target->staged, err));
    }
    part->in_log = target->staged == NULL;
    part->size_bytes = writer.flushed_bytes + target->bytes.size;
    part->sum = writer.chain;
    part->key_count = mr_store_count(store);
done:
    mr_buf_release(&writer.payload);
    return status;
}
