/*
 * One store in memory, as operators use it: shards, each a table (table.c) and an undo log of the
 * running batch.
 *
 * Called by operators and sources (get, put, upsert, delete, scan). store_batch.c ends a batch,
 * visits what goes into parts, and loads.
 *
 * Changes.  The first change of a key in a batch appends to `changes` and marks the entry DIRTY, so
 * later ones cost nothing:
 *
 *     NEW        the key was not there              undo: take it out
 *     INPLACE    old value copied to `undo` (also for a delete, which only marks the entry
 *                DELETED)                           undo: copy it back
 *     REPLACED   the value outgrew its entry: a new entry took over the slot, the old one is
 *                SUPERSEDED                         undo: put it back
 *
 * An entry that is SUPERSEDED is freed when the batch is accepted: by its own change when it has
 * one (it was DIRTY), else by the REPLACED change.  Each changed key has exactly one change whose
 * entry is not SUPERSEDED: that one makes the delta.
 *
 * A walk (store_walk.c) does without flags: its changes get them when another change comes.
 *
 * Invariant: after accept or rollback no entry has a flag set, and changes and undo are empty.
 *
 * Threads: a shard has one writer, or many readers while nobody writes.
 */
#include "state/table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"
#include "state/spill.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* ---------------------------------------------------------------- changes */

bool mr__change_room(struct mr_shard *shard)
{
    size_t capacity = shard->change_capacity == 0 ? 16 : shard->change_capacity * 2;
    struct mr_change *grown;

    if (shard->change_count < shard->change_capacity)
        return true;
    grown = mr__state_grow(shard->changes, shard->change_count * sizeof(*grown),
                           capacity * sizeof(*grown));
    if (grown == NULL)
        return false;
    shard->changes = grown;
    shard->change_capacity = capacity;
    return true;
}

bool mr__undo_room(struct mr_shard *shard, size_t bytes)
{
    size_t capacity = MR_MAX(shard->undo_capacity * 2, shard->undo_size + bytes + 256);
    char *grown;

    if (shard->undo_size + bytes <= shard->undo_capacity)
        return true;
    grown = mr__state_grow(shard->undo, shard->undo_size, capacity);
    if (grown == NULL)
        return false;
    shard->undo = grown;
    shard->undo_capacity = capacity;
    return true;
}

static enum mr_status no_memory(const struct mr_shard *shard, struct mr_error *err)
{
    return mr__state_no_memory("change", shard->name, err);
}

/* Before the first change of a key in a batch: remembers its value. */
static enum mr_status save_value(struct mr_shard *shard, uint32_t fragment, uint32_t ref,
                                 struct mr_error *err)
{
    struct mr_entry *entry = mr__entry_at(shard, ref);
    size_t bytes = sizeof(uint32_t) + entry->value_bytes;

    if (!mr__change_room(shard) || !mr__undo_room(shard, bytes))
        return no_memory(shard, err);
    memcpy(shard->undo + shard->undo_size, &entry->value_bytes, sizeof(uint32_t));
    mr__copy(shard->undo + shard->undo_size + sizeof(uint32_t), mr__entry_value(entry),
             entry->value_bytes);
    mr__change_note(shard, fragment, ref, (uint64_t)shard->undo_size << 2 | MR_UNDO_INPLACE);
    shard->undo_size += bytes;
    entry->meta |= MR_ENTRY_DIRTY;
    return MR_OK;
}

/* The value outgrew its entry: another one, with the old bytes, takes over the slot. */
static enum mr_status replace_entry(struct mr_shard *shard, uint32_t i, size_t value_bytes,
                                    struct mr_error *err)
{
    uint32_t old_ref = shard->slots[i].ref;
    struct mr_entry *old = mr__entry_at(shard, old_ref);
    size_t room = (old->meta & MR_ENTRY_DIRTY) != 0 ? value_bytes + value_bytes / 2 : value_bytes;
    uint32_t ref = 0;

    if (!mr__change_room(shard))
        return no_memory(shard, err);
    shard->unsettled_count += (old->meta & MR_ENTRY_DIRTY) != 0;
    MR_TRY(mr__entry_make(shard, old->bytes, mr__entry_key_bytes(old), value_bytes, room,
                          MR_ENTRY_DIRTY | (old->meta & (MR_ENTRY_NEW | MR_ENTRY_DELETED)), &ref,
                          err));
    memcpy(mr__entry_value(mr__entry_at(shard, ref)), mr__entry_value(old),
           MR_MIN((size_t)old->value_bytes, value_bytes));
    old->meta |= MR_ENTRY_SUPERSEDED;
    mr__change_note(shard, shard->slots[i].fragment, ref,
                    (uint64_t)old_ref << 2 | MR_UNDO_REPLACED);
    shard->slots[i].ref = ref;
    return MR_OK;
}

/* Makes the entry in slot i changeable at that size; the part both sizes have keeps its bytes. */
static enum mr_status open_entry(struct mr_shard *shard, uint32_t i, size_t value_bytes,
                                 struct mr_error *err)
{
    struct mr_entry *entry = mr__entry_at(shard, shard->slots[i].ref);
    size_t room = mr__slab_class_bytes(mr__entry_class(entry)) - MR_ENTRY_HEADER_BYTES -
                  mr__entry_key_bytes(entry);

    if (value_bytes > room)
        return replace_entry(shard, i, value_bytes, err);
    if ((entry->meta & MR_ENTRY_DIRTY) == 0)
        MR_TRY(save_value(shard, shard->slots[i].fragment, shard->slots[i].ref, err));
    entry->value_bytes = (uint32_t)value_bytes;
    return MR_OK;
}

/* ---------------------------------------------------------------- public */

uint64_t mr_store_hash(const struct mr_store *store, const void *key, size_t key_bytes)
{
    return mr_hash(key, key_bytes, store->seed);
}

uint64_t mr_store_seed(const struct mr_store *store)
{
    return store->seed;
}

static enum mr_status make_shard(struct mr_store *store, unsigned index, struct mr_error *err)
{
    struct mr_shard *shard = mr_alloc_zero(NULL, sizeof(*shard));

    if (shard == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot change state '%s': out of memory", store->name);
    shard->name = store->name;
    store->shards[index] = shard;
    return MR_OK;
}

enum mr_status mr__store_shard(struct mr_store *store, uint64_t hash, struct mr_shard **ret_shard,
                               struct mr_error *err)
{
    unsigned index = mr_store_shard(hash);

    if (store->shards[index] == NULL)
        MR_TRY(make_shard(store, index, err));
    *ret_shard = store->shards[index];
    return MR_OK;
}

/* The entry of a key, unless it was deleted in this batch; *ret_slot is its slot. */
static struct mr_entry *find_live(const struct mr_shard *shard, uint64_t hash, const void *key,
                                  size_t key_bytes, uint32_t *ret_slot)
{
    struct mr_entry *entry;
    bool found = false;

    if (shard == NULL || shard->slots == NULL)
        return NULL;
    *ret_slot = mr__table_find(shard, (uint32_t)(hash >> 32), key, key_bytes, &found);
    if (!found)
        return NULL;
    entry = mr__entry_at(shard, shard->slots[*ret_slot].ref);
    return (entry->meta & MR_ENTRY_DELETED) == 0 ? entry : NULL;
}

bool mr_store_get(const struct mr_store *store, const void *key, size_t key_bytes,
                  const char **ret_value, size_t *ret_value_bytes)
{
    return mr_store_get_hashed(store, mr_store_hash(store, key, key_bytes), key, key_bytes,
                               ret_value, ret_value_bytes);
}

bool mr_store_get_hashed(const struct mr_store *store, uint64_t hash, const void *key,
                         size_t key_bytes, const char **ret_value, size_t *ret_value_bytes)
{
    uint32_t slot = 0;
    struct mr_entry *entry =
        find_live(store->shards[mr_store_shard(hash)], hash, key, key_bytes, &slot);

    if (entry == NULL)
        return false;
    *ret_value = mr__entry_value(entry);
    *ret_value_bytes = entry->value_bytes;
    return true;
}

static void tell_entry(struct mr_entry *entry, uint32_t fragment, uint32_t slot,
                       struct mr_store_entry *ret_entry)
{
    *ret_entry = (struct mr_store_entry){entry->bytes,
                                         mr__entry_value(entry),
                                         (uint32_t)mr__entry_key_bytes(entry),
                                         entry->value_bytes,
                                         fragment,
                                         slot};
}

bool mr_store_find(const struct mr_store *store, uint64_t hash, const void *key, size_t key_bytes,
                   struct mr_store_entry *ret_entry)
{
    uint32_t slot = 0;
    struct mr_entry *entry =
        find_live(store->shards[mr_store_shard(hash)], hash, key, key_bytes, &slot);

    if (entry == NULL)
        return false;
    tell_entry(entry, (uint32_t)(hash >> 32), slot, ret_entry);
    return true;
}

/*
 * Finds or makes the key with a value of that size; *ret_created: it was not there (its value is
 * not set then).
 */
static enum mr_status touch(struct mr_shard *shard, uint64_t hash, const void *key,
                            size_t key_bytes, size_t value_bytes, uint32_t *ret_ref,
                            bool *ret_created, struct mr_error *err)
{
    uint32_t fragment = (uint32_t)(hash >> 32);
    struct mr_entry *entry;
    bool found = false;
    uint32_t i;

    mr__walk_settle(shard);
    MR_TRY(mr__table_grow(shard, err));
    i = mr__table_find(shard, fragment, key, key_bytes, &found);
    if (!found) {
        if (!mr__change_room(shard))
            return no_memory(shard, err);
        MR_TRY(mr__table_add(shard, i, fragment, key, key_bytes, value_bytes,
                             MR_ENTRY_DIRTY | MR_ENTRY_NEW, ret_ref, err));
        mr__change_note(shard, fragment, *ret_ref, MR_UNDO_NEW);
        *ret_created = true;
        return MR_OK;
    }
    entry = mr__entry_at(shard, shard->slots[i].ref);
    if ((entry->meta & MR_ENTRY_DIRTY) == 0 || entry->value_bytes != value_bytes)
        MR_TRY(open_entry(shard, i, value_bytes, err));
    *ret_ref = shard->slots[i].ref;
    entry = mr__entry_at(shard, *ret_ref);
    *ret_created = (entry->meta & MR_ENTRY_DELETED) != 0;
    if (*ret_created) {
        entry->meta &= ~(uint32_t)MR_ENTRY_DELETED;
        shard->live_count++;
    }
    return MR_OK;
}

enum mr_status mr_store_put(struct mr_store *store, const void *key, size_t key_bytes,
                            const void *value, size_t value_bytes, struct mr_error *err)
{
    return mr_store_put_hashed(store, mr_store_hash(store, key, key_bytes), key, key_bytes, value,
                               value_bytes, err);
}

enum mr_status mr_store_put_hashed(struct mr_store *store, uint64_t hash, const void *key,
                                   size_t key_bytes, const void *value, size_t value_bytes,
                                   struct mr_error *err)
{
    struct mr_shard *shard = NULL;
    uint32_t ref = 0;
    bool created = false;

    MR_TRY(mr__store_shard(store, hash, &shard, err));
    MR_TRY(touch(shard, hash, key, key_bytes, value_bytes, &ref, &created, err));
    if (value_bytes > 0)
        memmove(mr__entry_value(mr__entry_at(shard, ref)), value,
                value_bytes); /* value may be the one that get gave */
    return MR_OK;
}

enum mr_status mr_store_upsert(struct mr_store *store, const void *key, size_t key_bytes,
                               size_t value_bytes, char **ret_value, bool *ret_created,
                               struct mr_error *err)
{
    return mr_store_upsert_hashed(store, mr_store_hash(store, key, key_bytes), key, key_bytes,
                                  value_bytes, ret_value, ret_created, err);
}

void mr_store_hint(const struct mr_store *store, uint64_t hash, unsigned step)
{
    const struct mr_shard *shard = store->shards[mr_store_shard(hash)];
    const struct mr_slot *slot;

    if (shard == NULL || shard->slots == NULL)
        return;
    slot = &shard->slots[mr__table_home(shard, (uint32_t)(hash >> 32))];
    if (step == 0)
        __builtin_prefetch(slot);
    else if (slot->ref != 0) /* often the right one, and a wrong one costs little */
        __builtin_prefetch(mr__entry_at(shard, slot->ref), 1);
}

uint32_t mr_store_locate(const struct mr_store *store, uint64_t hash)
{
    const struct mr_shard *shard = store->shards[mr_store_shard(hash)];
    uint32_t fragment = (uint32_t)(hash >> 32);
    const struct mr_slot *slot;

    if (shard == NULL || shard->slots == NULL)
        return 0;
    slot = &shard->slots[mr__table_home(shard, fragment)];
    while (slot->ref != 0 && slot->fragment < fragment)
        slot++;
    if (slot->ref != 0) {
        const char *entry = mr__slab_at(&shard->slab, slot->ref);

        __builtin_prefetch(entry, 1);
        __builtin_prefetch(entry + MR_ENTRY_HEADER_BYTES + 12, 1); /* the end of a small one */
    }
    return (uint32_t)(slot - shard->slots);
}

bool mr_store_find_at(const struct mr_store *store, uint64_t hash, const void *key,
                      size_t key_bytes, uint32_t place, struct mr_store_entry *ret_entry)
{
    const struct mr_shard *shard = store->shards[mr_store_shard(hash)];
    uint32_t fragment = (uint32_t)(hash >> 32);

    if (shard != NULL && place < shard->slot_count && shard->slots[place].ref != 0 &&
        shard->slots[place].fragment == fragment) {
        struct mr_entry *entry = mr__entry_at(shard, shard->slots[place].ref);

        if ((entry->meta & MR_ENTRY_DELETED) == 0 && mr__entry_has_key(entry, key, key_bytes)) {
            tell_entry(entry, fragment, place, ret_entry);
            return true;
        }
    }
    return mr_store_find(store, hash, key, key_bytes, ret_entry);
}

void mr_store_expect(struct mr_store *store, unsigned shard_index, uint64_t more)
{
    struct mr_shard *shard = store->shards[shard_index];
    unsigned bits = MR_TABLE_BITS_MIN;

    if (shard == NULL || !mr__table_is_full(shard, more))
        return;
    while (bits < MR_TABLE_BITS_MAX &&
           shard->used_slots + more > ((uint64_t)3 << bits) / 4) /* as in mr__table_is_full */
        bits++;
    (void)mr__table_resize(shard, bits, NULL);
}

enum mr_status mr_store_upsert_hashed(struct mr_store *store, uint64_t hash, const void *key,
                                      size_t key_bytes, size_t value_bytes, char **ret_value,
                                      bool *ret_created, struct mr_error *err)
{
    struct mr_shard *shard = NULL;
    uint32_t ref = 0;
    bool created = false;

    MR_TRY(mr__store_shard(store, hash, &shard, err));
    MR_TRY(touch(shard, hash, key, key_bytes, value_bytes, &ref, &created, err));
    *ret_value = mr__entry_value(mr__entry_at(shard, ref));
    if (created)
        memset(*ret_value, 0, value_bytes);
    *ret_created = created;
    return MR_OK;
}

/* Marks the live entry in that slot deleted. */
static enum mr_status delete_slot(struct mr_shard *shard, uint32_t slot, struct mr_error *err)
{
    struct mr_entry *entry = mr__entry_at(shard, shard->slots[slot].ref);

    mr__walk_settle(shard);
    if ((entry->meta & MR_ENTRY_DIRTY) == 0)
        MR_TRY(save_value(shard, shard->slots[slot].fragment, shard->slots[slot].ref, err));
    entry->meta |= MR_ENTRY_DELETED;
    shard->unsettled_count++;
    shard->live_count--;
    return MR_OK;
}

enum mr_status mr_store_delete(struct mr_store *store, const void *key, size_t key_bytes,
                               struct mr_error *err)
{
    uint64_t hash = mr_store_hash(store, key, key_bytes);
    struct mr_shard *shard = store->shards[mr_store_shard(hash)];
    uint32_t slot = 0;

    if (find_live(shard, hash, key, key_bytes, &slot) == NULL)
        return MR_OK;
    return delete_slot(shard, slot, err);
}

uint64_t mr_store_shard_count(const struct mr_store *store, unsigned shard)
{
    return store->shards[shard] != NULL ? store->shards[shard]->live_count : 0;
}

uint64_t mr_store_count(const struct mr_store *store)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        count += mr_store_shard_count(store, i);
    return count;
}

uint64_t mr_store_bytes(const struct mr_store *store)
{
    uint64_t bytes = sizeof(*store);

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        const struct mr_shard *shard = store->shards[i];

        if (shard != NULL)
            bytes += sizeof(*shard) + (uint64_t)shard->slot_count * sizeof(*shard->slots) +
                     shard->slab.memory_bytes +
                     (uint64_t)shard->slab.chunk_capacity * sizeof(*shard->slab.chunks) +
                     shard->change_capacity * sizeof(*shard->changes) + shard->undo_capacity;
    }
    return bytes;
}

void mr_store_stats(const struct mr_store *store, struct mr_store_stats *ret_stats)
{
    *ret_stats = store->stats;
}

/* ---------------------------------------------------------------- scans */

void mr_store_tidy_shard(struct mr_store *store, unsigned index)
{
    enum { LOOSE_MIN = 4096, SCANS = 2 };
    struct mr_shard *shard = store->shards[index];

    /* Moving everything costs about as much as a scan: it must pay, and keys may still come. */
    if (shard != NULL && shard->change_count == 0 && !mr__state_is_spilled() &&
        ++shard->scan_count > SCANS && shard->loose_count > LOOSE_MIN + shard->live_count / 8)
        mr__table_tidy(shard);
}

/* Used slots from *cursor on, without a branch that is taken as often as not; returns how many. */
static size_t find_used(const struct mr_shard *shard, uint32_t *cursor,
                        struct mr_store_entry *entries, size_t max)
{
    uint32_t i = *cursor, last = shard->slot_count - 1;
    size_t count = 0;

    while (count < max && i < last) {
        uint32_t stop = i + (uint32_t)MR_MIN((uint64_t)(max - count), (uint64_t)(last - i));

        for (; i < stop; i++) {
            entries[count].fragment = shard->slots[i].fragment;
            entries[count].slot = i;
            count += shard->slots[i].ref != 0;
        }
    }
    *cursor = i;
    return count;
}

size_t mr_store_read_shard(const struct mr_store *store, unsigned index, uint32_t *cursor,
                           struct mr_store_entry *entries, size_t max)
{
    const struct mr_shard *shard = store->shards[index];
    size_t count = 0;

    if (shard == NULL || shard->slots == NULL)
        return 0;
    mr__spill_tick();
    while (count == 0) {
        size_t used = find_used(shard, cursor, entries, max);

        if (used == 0)
            break;
        for (size_t k = 0; k < used; k++)
            __builtin_prefetch(mr__entry_at(shard, shard->slots[entries[k].slot].ref));
        for (size_t k = 0; k < used; k++) {
            uint32_t slot = entries[k].slot, fragment = entries[k].fragment;
            struct mr_entry *entry = mr__entry_at(shard, shard->slots[slot].ref);

            if ((entry->meta & MR_ENTRY_DELETED) == 0)
                entries[count++] = (struct mr_store_entry){entry->bytes,
                                                           mr__entry_value(entry),
                                                           (uint32_t)mr__entry_key_bytes(entry),
                                                           entry->value_bytes,
                                                           fragment,
                                                           slot};
        }
    }
    return count;
}

enum mr_status mr_store_put_at(struct mr_store *store, const struct mr_store_entry *at,
                               const void *value, size_t value_bytes, struct mr_error *err)
{
    struct mr_shard *shard = store->shards[at->fragment >> (32 - MR_SHARD_BITS)];
    struct mr_entry *entry = mr__entry_at(shard, shard->slots[at->slot].ref);

    mr__spill_tick();
    mr__walk_settle(shard);
    MR_ASSERT((entry->meta & MR_ENTRY_DELETED) == 0);
    if ((entry->meta & MR_ENTRY_DIRTY) == 0 || entry->value_bytes != value_bytes)
        MR_TRY(open_entry(shard, at->slot, value_bytes, err));
    entry = mr__entry_at(shard, shard->slots[at->slot].ref);
    if (value_bytes > 0)
        mr__copy(mr__entry_value(entry), value, value_bytes);
    return MR_OK;
}

enum mr_status mr_store_delete_at(struct mr_store *store, const struct mr_store_entry *at,
                                  struct mr_error *err)
{
    return delete_slot(store->shards[at->fragment >> (32 - MR_SHARD_BITS)], at->slot, err);
}

void mr_store_visit_fragment(const struct mr_store *store, uint32_t fragment,
                             mr_store_visit_fn visit, void *arg)
{
    const struct mr_shard *shard = store->shards[fragment >> (32 - MR_SHARD_BITS)];

    if (shard == NULL || shard->slots == NULL)
        return;
    mr__spill_tick();
    for (uint32_t i = mr__table_home(shard, fragment);
         shard->slots[i].ref != 0 && shard->slots[i].fragment <= fragment; i++) {
        struct mr_entry *entry = mr__entry_at(shard, shard->slots[i].ref);

        if (shard->slots[i].fragment == fragment && (entry->meta & MR_ENTRY_DELETED) == 0 &&
            !visit(entry->bytes, mr__entry_key_bytes(entry), mr__entry_value(entry),
                   entry->value_bytes, arg))
            return;
    }
}

bool mr_store_scan_shard(const struct mr_store *store, unsigned index, mr_store_visit_fn visit,
                         void *arg)
{
    enum { AT_ONCE = 64 };
    struct mr_store_entry entries[AT_ONCE];
    uint32_t cursor = 0;
    size_t count;

    while ((count = mr_store_read_shard(store, index, &cursor, entries, AT_ONCE)) > 0) {
        for (size_t i = 0; i < count; i++) {
            if (!visit(entries[i].key, entries[i].key_bytes, entries[i].value,
                       entries[i].value_bytes, arg))
                return false;
        }
    }
    return true;
}

void mr_store_scan(const struct mr_store *store, mr_store_visit_fn visit, void *arg)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        if (!mr_store_scan_shard(store, i, visit, arg))
            return;
    }
}

static int compare_entries(const void *a, const void *b)
{
    return mr__entry_compare(*(struct mr_entry *const *)a, *(struct mr_entry *const *)b);
}

static bool is_before(const struct mr_entry *entry, const void *from, size_t from_bytes)
{
    int order = from_bytes == 0
                    ? 0
                    : memcmp(entry->bytes, from, MR_MIN(mr__entry_key_bytes(entry), from_bytes));

    return order < 0 || (order == 0 && mr__entry_key_bytes(entry) < from_bytes);
}

/* Live entries of a shard that are not before `from`, in any order; returns how many. */
static size_t collect_entries(const struct mr_shard *shard, const void *from, size_t from_bytes,
                              struct mr_entry **entries)
{
    size_t count = 0;

    for (uint32_t i = 0; shard != NULL && i + 1 < shard->slot_count; i++) {
        struct mr_entry *entry =
            shard->slots[i].ref != 0 ? mr__entry_at(shard, shard->slots[i].ref) : NULL;

        if (entry != NULL && (entry->meta & MR_ENTRY_DELETED) == 0 &&
            !is_before(entry, from, from_bytes))
            entries[count++] = entry;
    }
    return count;
}

enum mr_status mr_store_scan_sorted(const struct mr_store *store, const void *from,
                                    size_t from_bytes, mr_store_visit_fn visit, void *arg,
                                    struct mr_error *err)
{
    struct mr_entry **sorted;
    uint64_t live_count = mr_store_count(store);
    size_t count = 0;

    if (live_count == 0)
        return MR_OK;
    sorted = mr_alloc(NULL, live_count * sizeof(*sorted));
    if (sorted == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read state '%s': out of memory", store->name);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        count +=
            collect_entries(store->shards[i], from, from == NULL ? 0 : from_bytes, sorted + count);
    MR_ASSERT(count <= live_count);
    if (count > 1)
        qsort(sorted, count, sizeof(struct mr_entry *), compare_entries);
    for (size_t i = 0; i < count; i++) {
        if (!visit(sorted[i]->bytes, mr__entry_key_bytes(sorted[i]), mr__entry_value(sorted[i]),
                   sorted[i]->value_bytes, arg))
            break;
    }
    mr_free(sorted);
    return MR_OK;
}

/* ---------------------------------------------------------------- life */

struct mr_store *mr__store_new(const char *name, const char *kind, const char *key_schema,
                               const char *value_schema, uint64_t seed)
{
    struct mr_store *store = mr_alloc_zero(NULL, sizeof(*store));

    if (store == NULL)
        return NULL;
    store->name = mr_strdup(name);
    store->kind = mr_strdup(kind);
    store->key_schema = mr_strdup(key_schema);
    store->value_schema = mr_strdup(value_schema);
    store->seed = seed;
    if (store->name == NULL || store->kind == NULL || store->key_schema == NULL ||
        store->value_schema == NULL) {
        mr__store_free(store);
        return NULL;
    }
    return store;
}

void mr__store_clear(struct mr_store *store)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        struct mr_shard *shard = store->shards[i];

        if (shard == NULL)
            continue;
        mr__slab_release(&shard->slab);
        mr__state_free(shard->slots);
        mr__state_free(shard->changes);
        mr__state_free(shard->undo);
        mr_free(shard);
        store->shards[i] = NULL;
    }
}

void mr__store_free(struct mr_store *store)
{
    if (store == NULL)
        return;
    mr__store_clear(store);
    mr_free(store->name);
    mr_free(store->dir_name);
    mr_free(store->kind);
    mr_free(store->key_schema);
    mr_free(store->value_schema);
    mr_free(store);
}
