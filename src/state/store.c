/*
 * One store in memory, as operators use it: a table (table.c) and an undo log of the running batch.
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
 * Invariant: after accept or rollback no entry has a flag set, and changes and undo are empty.
 *
 * Threads: one writer, or many readers while nobody writes.
 */
#include "state/table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

/* ---------------------------------------------------------------- changes */

static bool room_for_change(struct mr_store *store)
{
    size_t capacity = store->change_capacity == 0 ? 16 : store->change_capacity * 2;
    struct mr_change *grown;

    if (store->change_count < store->change_capacity)
        return true;
    grown = mr_realloc(NULL, store->changes, capacity * sizeof(*grown));
    if (grown == NULL)
        return false;
    store->changes = grown;
    store->change_capacity = capacity;
    return true;
}

static bool room_for_undo(struct mr_store *store, size_t bytes)
{
    size_t capacity = MR_MAX(store->undo_capacity * 2, store->undo_size + bytes + 256);
    char *grown;

    if (store->undo_size + bytes <= store->undo_capacity)
        return true;
    grown = mr_realloc(NULL, store->undo, capacity);
    if (grown == NULL)
        return false;
    store->undo = grown;
    store->undo_capacity = capacity;
    return true;
}

static void note_change(struct mr_store *store, uint32_t fragment, uint32_t ref, uint64_t undo)
{
    store->changes[store->change_count++] = (struct mr_change){fragment, ref, undo};
}

static enum mr_status no_memory(const struct mr_store *store, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot change state '%s': out of memory", store->name);
}

/* Before the first change of a key in a batch: remembers its value. */
static enum mr_status save_value(struct mr_store *store, uint32_t fragment, uint32_t ref,
                                 struct mr_error *err)
{
    struct mr_entry *entry = mr__entry_at(store, ref);
    size_t bytes = sizeof(uint32_t) + entry->value_bytes;

    if (!room_for_change(store) || !room_for_undo(store, bytes))
        return no_memory(store, err);
    memcpy(store->undo + store->undo_size, &entry->value_bytes, sizeof(uint32_t));
    memcpy(store->undo + store->undo_size + sizeof(uint32_t), mr__entry_value(entry),
           entry->value_bytes);
    note_change(store, fragment, ref, (uint64_t)store->undo_size << 2 | MR_UNDO_INPLACE);
    store->undo_size += bytes;
    entry->meta |= MR_ENTRY_DIRTY;
    return MR_OK;
}

/* The value outgrew its entry: another one, with the old bytes, takes over the slot. */
static enum mr_status replace_entry(struct mr_store *store, uint32_t i, size_t value_bytes,
                                    struct mr_error *err)
{
    uint32_t old_ref = store->slots[i].ref;
    struct mr_entry *old = mr__entry_at(store, old_ref);
    size_t room = (old->meta & MR_ENTRY_DIRTY) != 0 ? value_bytes + value_bytes / 2 : value_bytes;
    uint32_t ref = 0;

    if (!room_for_change(store))
        return no_memory(store, err);
    MR_TRY(mr__entry_make(store, old->bytes, mr__entry_key_bytes(old), value_bytes, room,
                          MR_ENTRY_DIRTY | (old->meta & (MR_ENTRY_NEW | MR_ENTRY_DELETED)), &ref,
                          err));
    memcpy(mr__entry_value(mr__entry_at(store, ref)), mr__entry_value(old),
           MR_MIN((size_t)old->value_bytes, value_bytes));
    old->meta |= MR_ENTRY_SUPERSEDED;
    note_change(store, store->slots[i].fragment, ref, (uint64_t)old_ref << 2 | MR_UNDO_REPLACED);
    store->slots[i].ref = ref;
    return MR_OK;
}

/* Makes the entry in slot i changeable at that size; the part both sizes have keeps its bytes. */
static enum mr_status open_entry(struct mr_store *store, uint32_t i, size_t value_bytes,
                                 struct mr_error *err)
{
    struct mr_entry *entry = mr__entry_at(store, store->slots[i].ref);
    size_t room = mr__slab_class_bytes(mr__entry_class(entry)) - MR_ENTRY_HEADER_BYTES -
                  mr__entry_key_bytes(entry);

    if (value_bytes > room)
        return replace_entry(store, i, value_bytes, err);
    if ((entry->meta & MR_ENTRY_DIRTY) == 0)
        MR_TRY(save_value(store, store->slots[i].fragment, store->slots[i].ref, err));
    entry->value_bytes = (uint32_t)value_bytes;
    return MR_OK;
}

/* ---------------------------------------------------------------- public */

uint64_t mr_store_hash(const struct mr_store *store, const void *key, size_t key_bytes)
{
    return mr_hash(key, key_bytes, store->seed);
}

bool mr_store_get(const struct mr_store *store, const void *key, size_t key_bytes,
                  const char **ret_value, size_t *ret_value_bytes)
{
    struct mr_entry *entry;
    bool found = false;
    uint32_t i;

    if (store->slots == NULL)
        return false;
    i = mr__table_find(store, (uint32_t)(mr_store_hash(store, key, key_bytes) >> 32), key,
                       key_bytes, &found);
    if (!found)
        return false;
    entry = mr__entry_at(store, store->slots[i].ref);
    if ((entry->meta & MR_ENTRY_DELETED) != 0)
        return false;
    *ret_value = mr__entry_value(entry);
    *ret_value_bytes = entry->value_bytes;
    return true;
}

/*
 * Finds or makes the key with a value of that size; *ret_created: it was not there (its value is
 * not set then).
 */
static enum mr_status touch(struct mr_store *store, uint64_t hash, const void *key,
                            size_t key_bytes, size_t value_bytes, uint32_t *ret_ref,
                            bool *ret_created, struct mr_error *err)
{
    uint32_t fragment = (uint32_t)(hash >> 32);
    struct mr_entry *entry;
    bool found = false;
    uint32_t i;

    MR_TRY(mr__table_grow(store, err));
    i = mr__table_find(store, fragment, key, key_bytes, &found);
    if (!found) {
        if (!room_for_change(store))
            return no_memory(store, err);
        MR_TRY(mr__table_add(store, i, fragment, key, key_bytes, value_bytes,
                             MR_ENTRY_DIRTY | MR_ENTRY_NEW, ret_ref, err));
        note_change(store, fragment, *ret_ref, MR_UNDO_NEW);
        *ret_created = true;
        return MR_OK;
    }
    entry = mr__entry_at(store, store->slots[i].ref);
    if ((entry->meta & MR_ENTRY_DIRTY) == 0 || entry->value_bytes != value_bytes)
        MR_TRY(open_entry(store, i, value_bytes, err));
    *ret_ref = store->slots[i].ref;
    entry = mr__entry_at(store, *ret_ref);
    *ret_created = (entry->meta & MR_ENTRY_DELETED) != 0;
    if (*ret_created) {
        entry->meta &= ~(uint32_t)MR_ENTRY_DELETED;
        store->live_count++;
    }
    return MR_OK;
}

enum mr_status mr_store_put(struct mr_store *store, const void *key, size_t key_bytes,
                            const void *value, size_t value_bytes, struct mr_error *err)
{
    uint32_t ref = 0;
    bool created = false;

    MR_TRY(touch(store, mr_store_hash(store, key, key_bytes), key, key_bytes, value_bytes, &ref,
                 &created, err));
    if (value_bytes > 0)
        memmove(mr__entry_value(mr__entry_at(store, ref)), value,
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
    const struct mr_slot *slot;

    if (store->slots == NULL)
        return;
    slot = &store->slots[mr__table_home(store, (uint32_t)(hash >> 32))];
    if (step == 0)
        __builtin_prefetch(slot);
    else if (slot->ref != 0) /* often the right one, and a wrong one costs little */
        __builtin_prefetch(mr__entry_at(store, slot->ref), 1);
}

enum mr_status mr_store_upsert_hashed(struct mr_store *store, uint64_t hash, const void *key,
                                      size_t key_bytes, size_t value_bytes, char **ret_value,
                                      bool *ret_created, struct mr_error *err)
{
    uint32_t ref = 0;
    bool created = false;

    MR_TRY(touch(store, hash, key, key_bytes, value_bytes, &ref, &created, err));
    *ret_value = mr__entry_value(mr__entry_at(store, ref));
    if (created)
        memset(*ret_value, 0, value_bytes);
    *ret_created = created;
    return MR_OK;
}

enum mr_status mr_store_delete(struct mr_store *store, const void *key, size_t key_bytes,
                               struct mr_error *err)
{
    uint32_t fragment = (uint32_t)(mr_store_hash(store, key, key_bytes) >> 32);
    struct mr_entry *entry;
    bool found = false;
    uint32_t i;

    if (store->slots == NULL)
        return MR_OK;
    i = mr__table_find(store, fragment, key, key_bytes, &found);
    if (!found)
        return MR_OK;
    entry = mr__entry_at(store, store->slots[i].ref);
    if ((entry->meta & MR_ENTRY_DELETED) != 0)
        return MR_OK;
    if ((entry->meta & MR_ENTRY_DIRTY) == 0)
        MR_TRY(save_value(store, fragment, store->slots[i].ref, err));
    entry->meta |= MR_ENTRY_DELETED;
    store->live_count--;
    return MR_OK;
}

uint64_t mr_store_count(const struct mr_store *store)
{
    return store->live_count;
}

uint64_t mr_store_bytes(const struct mr_store *store)
{
    return sizeof(*store) + (uint64_t)store->slot_count * sizeof(*store->slots) +
           store->slab.memory_bytes +
           (uint64_t)store->slab.chunk_capacity * sizeof(*store->slab.chunks) +
           store->change_capacity * sizeof(*store->changes) + store->undo_capacity;
}

void mr_store_stats(const struct mr_store *store, struct mr_store_stats *ret_stats)
{
    *ret_stats = store->stats;
}

void mr_store_scan(const struct mr_store *store, mr_store_visit_fn visit, void *arg)
{
    for (uint32_t i = 0; i + 1 < store->slot_count; i++) {
        struct mr_entry *entry;

        if (store->slots[i].ref == 0)
            continue;
        entry = mr__entry_at(store, store->slots[i].ref);
        if ((entry->meta & MR_ENTRY_DELETED) == 0 &&
            !visit(entry->bytes, mr__entry_key_bytes(entry), mr__entry_value(entry),
                   entry->value_bytes, arg))
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

enum mr_status mr_store_scan_sorted(const struct mr_store *store, const void *from,
                                    size_t from_bytes, mr_store_visit_fn visit, void *arg,
                                    struct mr_error *err)
{
    struct mr_entry **sorted;
    size_t count = 0;

    if (store->live_count == 0)
        return MR_OK;
    sorted = mr_alloc(NULL, store->live_count * sizeof(*sorted));
    if (sorted == NULL)
        return no_memory(store, err);
    for (uint32_t i = 0; i + 1 < store->slot_count; i++) {
        struct mr_entry *entry =
            store->slots[i].ref != 0 ? mr__entry_at(store, store->slots[i].ref) : NULL;

        if (entry != NULL && (entry->meta & MR_ENTRY_DELETED) == 0 &&
            !is_before(entry, from, from == NULL ? 0 : from_bytes))
            sorted[count++] = entry;
    }
    MR_ASSERT(count <= store->live_count);
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
    mr__slab_release(&store->slab);
    mr_free(store->slots);
    mr_free(store->changes);
    mr_free(store->undo);
    store->slots = NULL;
    store->changes = NULL;
    store->undo = NULL;
    store->slot_count = 0;
    store->capacity_bits = 0;
    store->used_slots = store->live_count = store->committed_count = 0;
    store->change_count = store->change_capacity = store->undo_size = store->undo_capacity = 0;
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
