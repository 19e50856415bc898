/*
 * Walks: the changes of a large batch, in the order of the table.
 *
 *     change   fragment | ref | undo = offset * 4 + what happened
 *     undo     u32 size of the old value | old value | entry of the delta     INPLACE
 *              u32 ref of the old entry  | entry of the delta                 REPLACED
 *                                          entry of the delta                 NEW
 *              ... and room behind the last one, for copies of more than there is
 *
 * Ordinary changes (store.c) mark each entry, so that a second change of it is known as one; when
 * the batch ends its entries are read for the delta, and again to take the marks off. With millions
 * of keys each of that is a wait for memory. In a walk nobody changes a key twice: nothing is
 * marked, the delta is written down while the key and its value are at hand, and to accept it is
 * to forget the changes.
 *
 * Invariant: while is_walk is set all changes of the shard are of the walk, ascending by fragment,
 * then key, and no entry has a flag. The first change that is not ends it (mr__walk_settle): flags
 * and `undo` become what store.c says.
 *
 * Called by the large batches of aggregations; by store.c before other changes; by store_batch.c
 * and part_write.c at the end of a batch. Threads: the shard's writer.
 */
#include "state/table.h"

#include "base/check.h"
#include "state/spill.h"

#include <string.h>

#include "base/banned.h"

enum { VARINT_BYTES_MAX = 10 };

static enum mr_status no_memory(const struct mr_shard *shard, struct mr_error *err)
{
    return mr__state_no_memory("change", shard->name, err);
}

enum mr_status mr_store_walk_begin(struct mr_store *store, unsigned index, struct mr_error *err)
{
    struct mr_shard *shard = NULL;

    MR_TRY(mr__store_shard(store, (uint64_t)index << (64 - MR_SHARD_BITS), &shard, err));
    if (shard->change_count == 0)
        shard->is_walk = true;
    return MR_OK;
}

/* ---------------------------------------------------------------- the log */

static size_t saved_bytes(const struct mr_shard *shard, const struct mr_change *change)
{
    uint32_t size = 0;

    if ((change->undo & MR_UNDO_MASK) == MR_UNDO_NEW)
        return 0;
    if ((change->undo & MR_UNDO_MASK) == MR_UNDO_INPLACE)
        memcpy(&size, shard->undo + (change->undo >> 2), sizeof(size));
    return sizeof(size) + size;
}

struct mr_slice mr__walk_entry(const struct mr_shard *shard, size_t k)
{
    const struct mr_change *change = &shard->changes[k];
    size_t at = (size_t)(change->undo >> 2) + saved_bytes(shard, change);
    size_t end = k + 1 < shard->change_count ? (size_t)(change[1].undo >> 2) : shard->undo_size;

    return (struct mr_slice){shard->undo + at, end - at};
}

uint32_t mr__walk_replaced(const struct mr_shard *shard, const struct mr_change *change)
{
    uint32_t ref = 0;

    if ((change->undo & MR_UNDO_MASK) == MR_UNDO_REPLACED)
        memcpy(&ref, shard->undo + (change->undo >> 2), sizeof(ref));
    return ref;
}

/* Room for a change with an old value of that size. */
static bool room(struct mr_shard *shard, size_t old_bytes, size_t key_bytes, size_t value_bytes)
{
    return mr__change_room(shard) &&
           mr__undo_room(shard, sizeof(uint32_t) + old_bytes + key_bytes + value_bytes +
                                    2 * VARINT_BYTES_MAX + MR_ENCODED_SLACK_BYTES);
}

static inline char *put_varint(char *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (char)(value | 0x80);
    *at++ = (char)value;
    return at;
}

static inline char *put_bytes(char *at, const char *from, size_t size_bytes)
{
    mr__copy(at, from, size_bytes);
    return at + size_bytes;
}

/* The change, and at `log`, behind what was saved of it, its entry; there is room. */
static inline void note(struct mr_shard *shard, uint32_t fragment, uint32_t ref, unsigned kind,
                        char *log, const char *key, size_t key_bytes, const char *value,
                        size_t value_bytes)
{
    mr__change_note(shard, fragment, ref, (uint64_t)shard->undo_size << 2 | kind);
    log = put_varint(log, (uint64_t)key_bytes << 1);
    log = put_bytes(log, key, key_bytes);
    log = put_varint(log, value_bytes);
    log = put_bytes(log, value, value_bytes);
    shard->undo_size = (size_t)(log - shard->undo);
}

/* Would a change of that key come behind all others? */
static inline bool is_next(const struct mr_shard *shard, uint32_t fragment, const char *key,
                           size_t key_bytes)
{
    const struct mr_change *last;
    const struct mr_entry *entry;
    size_t last_bytes;
    int order;

    if (shard->change_count == 0)
        return true;
    last = &shard->changes[shard->change_count - 1];
    if (last->fragment != fragment)
        return last->fragment < fragment;
    entry = mr__entry_at(shard, last->ref);
    last_bytes = mr__entry_key_bytes(entry);
    order = memcmp(entry->bytes, key, MR_MIN(last_bytes, key_bytes));
    return order < 0 || (order == 0 && last_bytes < key_bytes);
}

/* ---------------------------------------------------------------- changes */

/* The value outgrew its entry: another one takes over the slot. */
static enum mr_status replace(struct mr_shard *shard, uint32_t slot, const char *value,
                              size_t value_bytes, struct mr_error *err)
{
    uint32_t old_ref = shard->slots[slot].ref, ref = 0;
    const struct mr_entry *old = mr__entry_at(shard, old_ref);
    size_t key_bytes = mr__entry_key_bytes(old);
    char *log;

    if (!room(shard, 0, key_bytes, value_bytes))
        return no_memory(shard, err);
    MR_TRY(mr__entry_make(shard, old->bytes, key_bytes, value_bytes, value_bytes, 0, &ref, err));
    mr__copy(mr__entry_value(mr__entry_at(shard, ref)), value, value_bytes);
    log = shard->undo + shard->undo_size;
    memcpy(log, &old_ref, sizeof(old_ref));
    note(shard, shard->slots[slot].fragment, ref, MR_UNDO_REPLACED, log + sizeof(old_ref),
         old->bytes, key_bytes, value, value_bytes);
    shard->slots[slot].ref = ref;
    shard->replaced_count++;
    return MR_OK;
}

enum mr_status mr_store_walk_put(struct mr_store *store, const struct mr_store_entry *at,
                                 const void *value, size_t value_bytes, struct mr_error *err)
{
    struct mr_shard *shard = store->shards[at->fragment >> (32 - MR_SHARD_BITS)];
    struct mr_entry *entry = mr__entry_at(shard, shard->slots[at->slot].ref);
    size_t key_bytes = mr__entry_key_bytes(entry), old_bytes = entry->value_bytes;
    char *log;

    if (!shard->is_walk || !is_next(shard, at->fragment, entry->bytes, key_bytes))
        return mr_store_put_at(store, at, value, value_bytes, err);
    mr__spill_tick();
    if (value_bytes >
        mr__slab_class_bytes(mr__entry_class(entry)) - MR_ENTRY_HEADER_BYTES - key_bytes)
        return replace(shard, at->slot, value, value_bytes, err);
    if (!room(shard, old_bytes, key_bytes, value_bytes))
        return no_memory(shard, err);
    log = shard->undo + shard->undo_size;
    memcpy(log, &entry->value_bytes, sizeof(uint32_t));
    log = put_bytes(log + sizeof(uint32_t), mr__entry_value(entry), old_bytes);
    note(shard, at->fragment, shard->slots[at->slot].ref, MR_UNDO_INPLACE, log, entry->bytes,
         key_bytes, value, value_bytes);
    entry->value_bytes = (uint32_t)value_bytes;
    mr__copy(mr__entry_value(entry), value, value_bytes);
    return MR_OK;
}

enum mr_status mr_store_walk_add(struct mr_store *store, uint64_t hash, const void *key,
                                 size_t key_bytes, const void *value, size_t value_bytes,
                                 struct mr_error *err)
{
    struct mr_shard *shard = store->shards[mr_store_shard(hash)];
    uint32_t fragment = (uint32_t)(hash >> 32), slot, ref = 0;
    bool found = false;

    if (shard == NULL || !shard->is_walk || !is_next(shard, fragment, key, key_bytes))
        return mr_store_put_hashed(store, hash, key, key_bytes, value, value_bytes, err);
    MR_TRY(mr__table_grow(shard, err));
    slot = mr__table_find(shard, fragment, key, key_bytes, &found);
    if (found)
        return mr_store_put_hashed(store, hash, key, key_bytes, value, value_bytes, err);
    if (!room(shard, 0, key_bytes, value_bytes))
        return no_memory(shard, err);
    MR_TRY(mr__table_add(shard, slot, fragment, key, key_bytes, value_bytes, 0, &ref, err));
    mr__copy(mr__entry_value(mr__entry_at(shard, ref)), value, value_bytes);
    note(shard, fragment, ref, MR_UNDO_NEW, shard->undo + shard->undo_size, key, key_bytes, value,
         value_bytes);
    return MR_OK;
}

/* ---------------------------------------------------------------- the end of it */

void mr__walk_settle(struct mr_shard *shard)
{
    if (!shard->is_walk)
        return;
    shard->is_walk = false;
    shard->replaced_count = 0;
    for (size_t k = 0; k < shard->change_count; k++) {
        struct mr_change *change = &shard->changes[k];
        unsigned kind = change->undo & MR_UNDO_MASK;

        mr__entry_at(shard, change->ref)->meta |=
            MR_ENTRY_DIRTY | (kind == MR_UNDO_NEW ? MR_ENTRY_NEW : 0);
        if (kind == MR_UNDO_REPLACED) {
            uint32_t old_ref = mr__walk_replaced(shard, change);

            mr__entry_at(shard, old_ref)->meta |= MR_ENTRY_SUPERSEDED;
            change->undo = (uint64_t)old_ref << 2 | MR_UNDO_REPLACED;
        }
    }
}

static size_t take_varint(const char **at)
{
    size_t value = 0;

    for (unsigned shift = 0;; shift += 7) {
        uint8_t byte = (uint8_t) * (*at)++;

        value |= (size_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return value;
    }
}

enum mr_status mr__walk_visit(const struct mr_shard *shard, size_t from, size_t end,
                              mr_item_fn visit, void *arg, struct mr_error *err)
{
    for (size_t k = from; k < end; k++) {
        const char *at = mr__walk_entry(shard, k).data;
        struct mr_item item = {.fragment = shard->changes[k].fragment};

        item.key_bytes = take_varint(&at) >> 1;
        item.key = at;
        at += item.key_bytes;
        item.value_bytes = take_varint(&at);
        item.value = at;
        mr__spill_tick();
        MR_TRY(visit(&item, arg, err));
    }
    return MR_OK;
}
