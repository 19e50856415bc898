/*
 * One store in memory: an open-addressing table from key bytes to value bytes, with the changes of
 * the batch in flight.
 *
 * Entries live in slabs and keep their address until their value outgrows its room. The first
 * change of a key in a batch records what it was (in the undo arena), so the batch can be rolled
 * back, and so the delta holds each key once. Linear probing; removal shifts neighbours back, so
 * there are no tombstones.
 *
 * The hash of a key is seeded per checkpoint (hash flooding) and stored: growing does not read
 * keys.
 */
#include "state/internal.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

enum {
    SLAB_BYTES_FIRST = 4096,
    SLAB_BYTES_MAX = 1 << 20,
    SLOTS_FIRST = 64,
    KEY_BYTES_MAX = 16 << 20
};

struct mr_slab {
    struct mr_slab *next;
    size_t size_bytes;
};

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

static size_t entry_size(uint32_t key_bytes, uint32_t value_capacity)
{
    size_t size = sizeof(struct mr_entry) + key_bytes + value_capacity;
    return (size + MR_ENTRY_UNIT - 1) / MR_ENTRY_UNIT * MR_ENTRY_UNIT;
}

static bool is_large(size_t size_bytes)
{
    return size_bytes > (size_t)MR_ENTRY_CLASSES * MR_ENTRY_UNIT;
}

/* Large entries have an allocation of their own; the table is the only list of them. */
static void free_large_entries(struct mr_store *store)
{
    for (uint64_t i = 0; i < store->slot_count; i++) {
        struct mr_entry *entry = store->slots[i].entry;
        if (entry != NULL && is_large(entry_size(entry->key_bytes, entry->value_capacity)))
            mr_free(entry);
    }
}

void mr__store_clear(struct mr_store *store)
{
    free_large_entries(store);
    while (store->slabs != NULL) {
        struct mr_slab *next = store->slabs->next;
        mr_free(store->slabs);
        store->slabs = next;
    }
    mr_free(store->slots);
    store->slots = NULL;
    store->slot_count = store->used = store->live = store->bytes = 0;
    store->slab_at = store->slab_end = NULL;
    memset(store->free_entries, 0, sizeof(store->free_entries));
    store->change_count = 0;
    mr_arena_clear(&store->undo);
}

void mr__store_free(struct mr_store *store)
{
    if (store == NULL)
        return;
    mr__store_clear(store);
    mr_free(store->changes);
    mr_arena_release(&store->undo);
    mr_free(store->name);
    mr_free(store->dir_name);
    mr_free(store->kind);
    mr_free(store->key_schema);
    mr_free(store->value_schema);
    mr_free(store);
}

/* Entries. */

static char *slab_take(struct mr_store *store, size_t size_bytes)
{
    if ((size_t)(store->slab_end - store->slab_at) < size_bytes || store->slab_at == NULL) {
        size_t last = store->slabs != NULL ? store->slabs->size_bytes : SLAB_BYTES_FIRST / 2;
        size_t slab_bytes = MR_MIN(last * 2, (size_t)SLAB_BYTES_MAX);
        struct mr_slab *slab = mr_alloc(NULL, slab_bytes);

        if (slab == NULL)
            return NULL;
        slab->next = store->slabs;
        slab->size_bytes = slab_bytes;
        store->slabs = slab;
        store->slab_at = (char *)(slab + 1);
        store->slab_end = (char *)slab + slab_bytes;
        store->bytes += slab_bytes;
    }
    char *at = store->slab_at;
    store->slab_at += size_bytes;
    return at;
}

static struct mr_entry *entry_new(struct mr_store *store, const void *key, uint32_t key_bytes,
                                  uint32_t value_capacity)
{
    size_t size_bytes = entry_size(key_bytes, value_capacity);
    size_t class = size_bytes / MR_ENTRY_UNIT;
    struct mr_entry *entry;

    if (is_large(size_bytes)) {
        entry = mr_alloc(NULL, size_bytes);
        store->bytes += entry != NULL ? size_bytes : 0;
    } else if (store->free_entries[class] != NULL) {
        entry = store->free_entries[class];
        memcpy(&store->free_entries[class], entry, sizeof(entry));
    } else {
        entry = (struct mr_entry *)(void *)slab_take(store, size_bytes);
    }
    if (entry == NULL)
        return NULL;
    *entry =
        (struct mr_entry){.key_bytes = key_bytes,
                          .value_capacity = (uint32_t)(size_bytes - sizeof(*entry) - key_bytes)};
    memcpy(mr__entry_key(entry), key, key_bytes);
    return entry;
}

static void entry_free(struct mr_store *store, struct mr_entry *entry)
{
    size_t size_bytes = entry_size(entry->key_bytes, entry->value_capacity);

    if (is_large(size_bytes)) {
        store->bytes -= size_bytes;
        mr_free(entry);
        return;
    }
    memcpy(entry, &store->free_entries[size_bytes / MR_ENTRY_UNIT], sizeof(entry));
    store->free_entries[size_bytes / MR_ENTRY_UNIT] = entry;
}

/* The table. */

uint64_t mr_store_hash(const struct mr_store *store, const void *key, size_t key_bytes)
{
    return mr_hash(key, key_bytes, store->seed);
}

static struct mr_slot *find_slot(const struct mr_store *store, uint64_t hash, const void *key,
                                 size_t key_bytes)
{
    uint64_t mask = store->slot_count - 1;

    if (store->slot_count == 0)
        return NULL;
    for (uint64_t i = hash & mask;; i = (i + 1) & mask) {
        struct mr_slot *slot = &store->slots[i];
        if (slot->entry == NULL)
            return NULL;
        if (slot->hash == hash && slot->entry->key_bytes == key_bytes &&
            memcmp(mr__entry_key(slot->entry), key, key_bytes) == 0)
            return slot;
    }
}

static void insert_slot(struct mr_slot *slots, uint64_t slot_count, uint64_t hash,
                        struct mr_entry *entry)
{
    uint64_t i = hash & (slot_count - 1);

    while (slots[i].entry != NULL)
        i = (i + 1) & (slot_count - 1);
    slots[i] = (struct mr_slot){hash, entry};
}

/* At most 5/8 full: linear probing stays short. */
static bool make_room(struct mr_store *store)
{
    uint64_t slot_count = store->slot_count == 0 ? SLOTS_FIRST : store->slot_count * 2;
    struct mr_slot *slots;

    if ((store->used + 1) * 8 <= store->slot_count * 5)
        return true;
    slots = mr_alloc_zero(NULL, slot_count * sizeof(*slots));
    if (slots == NULL)
        return false;
    for (uint64_t i = 0; i < store->slot_count; i++) {
        if (store->slots[i].entry != NULL)
            insert_slot(slots, slot_count, store->slots[i].hash, store->slots[i].entry);
    }
    store->bytes += (slot_count - store->slot_count) * sizeof(*slots);
    mr_free(store->slots);
    store->slots = slots;
    store->slot_count = slot_count;
    return true;
}

static void remove_slot(struct mr_store *store, uint64_t at)
{
    uint64_t mask = store->slot_count - 1;
    uint64_t hole = at;

    for (uint64_t i = (at + 1) & mask; store->slots[i].entry != NULL; i = (i + 1) & mask) {
        uint64_t home = store->slots[i].hash & mask;
        /* Move back only what may stand in the hole: its home is not behind it. */
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            store->slots[hole] = store->slots[i];
            hole = i;
        }
    }
    store->slots[hole].entry = NULL;
    store->used--;
}

static void drop_entry(struct mr_store *store, uint64_t hash, struct mr_entry *entry)
{
    struct mr_slot *slot = find_slot(store, hash, mr__entry_key(entry), entry->key_bytes);

    MR_ASSERT(slot != NULL && slot->entry == entry);
    remove_slot(store, (uint64_t)(slot - store->slots));
    entry_free(store, entry);
}

/* Changes. */

/* Records what the key was, once per batch. */
static bool note_change(struct mr_store *store, struct mr_entry *entry, uint64_t hash, bool existed)
{
    struct mr_change *change;

    if (entry->change != 0)
        return true;
    if (store->change_count == store->change_capacity) {
        uint32_t capacity = store->change_capacity == 0 ? 64 : store->change_capacity * 2;
        struct mr_change *grown = mr_realloc(NULL, store->changes, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        store->changes = grown;
        store->change_capacity = capacity;
    }
    change = &store->changes[store->change_count];
    *change = (struct mr_change){.entry = entry, .hash = hash, .existed = existed};
    if (existed) {
        change->old_value_bytes = entry->value_bytes;
        change->old_value = mr_arena_copy(&store->undo, mr__entry_value(entry), entry->value_bytes);
        if (change->old_value == NULL)
            return false;
    }
    entry->change = (++store->change_count) & 0x7fffffffu;
    return true;
}

/* The entry of a key, made (dead, without value) when there is none; its change is recorded. NULL
 * without memory. */
static struct mr_slot *touch(struct mr_store *store, const void *key, uint32_t key_bytes,
                             uint32_t value_capacity)
{
    uint64_t hash = mr_store_hash(store, key, key_bytes);
    struct mr_slot *slot = find_slot(store, hash, key, key_bytes);
    struct mr_entry *entry;

    if (slot != NULL)
        return note_change(store, slot->entry, hash, slot->entry->dead == 0) ? slot : NULL;
    if (!make_room(store))
        return NULL;
    entry = entry_new(store, key, key_bytes, value_capacity);
    if (entry == NULL)
        return NULL;
    entry->dead = 1;
    if (!note_change(store, entry, hash, false)) {
        entry_free(store, entry);
        return NULL;
    }
    insert_slot(store->slots, store->slot_count, hash, entry);
    store->used++;
    return find_slot(store, hash, key, key_bytes);
}

/* Gives the entry room for a value; it may move. */
static struct mr_entry *grow_value(struct mr_store *store, struct mr_slot *slot,
                                   uint32_t value_bytes)
{
    struct mr_entry *entry = slot->entry, *grown;

    if (value_bytes <= entry->value_capacity)
        return entry;
    grown = entry_new(store, mr__entry_key(entry), entry->key_bytes, value_bytes + value_bytes / 2);
    if (grown == NULL)
        return NULL;
    grown->dead = entry->dead;
    grown->change = entry->change;
    grown->value_bytes = entry->value_bytes;
    memcpy(mr__entry_value(grown), mr__entry_value(entry), entry->value_bytes);
    entry_free(store, entry);
    slot->entry = grown;
    if (grown->change != 0)
        store->changes[grown->change - 1].entry = grown;
    return grown;
}

bool mr_store_get(const struct mr_store *store, const void *key, size_t key_bytes,
                  const char **ret_value, size_t *ret_value_bytes)
{
    struct mr_slot *slot = find_slot(store, mr_store_hash(store, key, key_bytes), key, key_bytes);

    if (slot == NULL || slot->entry->dead)
        return false;
    *ret_value = mr__entry_value(slot->entry);
    *ret_value_bytes = slot->entry->value_bytes;
    return true;
}

static enum mr_status check_sizes(const struct mr_store *store, size_t key_bytes,
                                  size_t value_bytes, struct mr_error *err)
{
    if (key_bytes > KEY_BYTES_MAX || value_bytes > UINT32_MAX / 4)
        return MR_FAIL(
            err, MR_LIMIT,
            "cannot keep a key of %zu bytes with a value of %zu in state '%s': at most %d and %u",
            key_bytes, value_bytes, store->name, KEY_BYTES_MAX, UINT32_MAX / 4);
    return MR_OK;
}

enum mr_status mr_store_put(struct mr_store *store, const void *key, size_t key_bytes,
                            const void *value, size_t value_bytes, struct mr_error *err)
{
    struct mr_slot *slot;
    struct mr_entry *entry;

    MR_TRY(check_sizes(store, key_bytes, value_bytes, err));
    slot = touch(store, key, (uint32_t)key_bytes, (uint32_t)value_bytes);
    entry = slot != NULL ? grow_value(store, slot, (uint32_t)value_bytes) : NULL;
    if (entry == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a key in state '%s': out of memory",
                       store->name);
    if (value_bytes > 0)
        memmove(mr__entry_value(entry), value, value_bytes);
    entry->value_bytes = (uint32_t)value_bytes;
    store->live += entry->dead;
    entry->dead = 0;
    return MR_OK;
}

enum mr_status mr_store_upsert(struct mr_store *store, const void *key, size_t key_bytes,
                               size_t value_bytes, char **ret_value, bool *ret_created,
                               struct mr_error *err)
{
    struct mr_slot *slot;
    struct mr_entry *entry;

    MR_TRY(check_sizes(store, key_bytes, value_bytes, err));
    slot = touch(store, key, (uint32_t)key_bytes, (uint32_t)value_bytes);
    entry = slot != NULL ? grow_value(store, slot, (uint32_t)value_bytes) : NULL;
    if (entry == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep a key in state '%s': out of memory",
                       store->name);
    *ret_created = entry->dead != 0;
    if (entry->dead) {
        memset(mr__entry_value(entry), 0, value_bytes);
        entry->value_bytes = (uint32_t)value_bytes;
        entry->dead = 0;
        store->live++;
    }
    MR_ASSERT(entry->value_bytes == value_bytes);
    *ret_value = mr__entry_value(entry);
    return MR_OK;
}

enum mr_status mr_store_delete(struct mr_store *store, const void *key, size_t key_bytes,
                               struct mr_error *err)
{
    uint64_t hash = mr_store_hash(store, key, key_bytes);
    struct mr_slot *slot = find_slot(store, hash, key, key_bytes);

    if (slot == NULL || slot->entry->dead)
        return MR_OK;
    if (!note_change(store, slot->entry, hash, true))
        return MR_FAIL(err, MR_NOMEM, "cannot remove a key from state '%s': out of memory",
                       store->name);
    slot->entry->dead = 1;
    store->live--;
    return MR_OK;
}

uint64_t mr_store_count(const struct mr_store *store)
{
    return store->live;
}

uint64_t mr_store_bytes(const struct mr_store *store)
{
    return store->bytes;
}

void mr_store_stats(const struct mr_store *store, struct mr_store_stats *ret_stats)
{
    *ret_stats = store->stats;
}

void mr_store_scan(const struct mr_store *store, mr_store_visit_fn visit, void *arg)
{
    for (uint64_t i = 0; i < store->slot_count; i++) {
        struct mr_entry *entry = store->slots[i].entry;
        if (entry != NULL && !entry->dead &&
            !visit(mr__entry_key(entry), entry->key_bytes, mr__entry_value(entry),
                   entry->value_bytes, arg))
            return;
    }
}

static int compare_keys(const void *left, const void *right)
{
    struct mr_entry *a, *b;
    int order;

    memcpy(&a, left, sizeof(a));
    memcpy(&b, right, sizeof(b));
    order = memcmp(mr__entry_key(a), mr__entry_key(b), MR_MIN(a->key_bytes, b->key_bytes));
    return order != 0 ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static bool is_before(struct mr_entry *entry, const void *from, size_t from_bytes)
{
    int order = memcmp(mr__entry_key(entry), from, MR_MIN(entry->key_bytes, from_bytes));
    return order != 0 ? order < 0 : entry->key_bytes < from_bytes;
}

enum mr_status mr_store_scan_sorted(const struct mr_store *store, const void *from,
                                    size_t from_bytes, mr_store_visit_fn visit, void *arg,
                                    struct mr_error *err)
{
    struct mr_entry **entries = mr_alloc(NULL, (store->live + 1) * sizeof(*entries));
    size_t count = 0;

    if (entries == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot sort state '%s': out of memory", store->name);
    for (uint64_t i = 0; i < store->slot_count; i++) {
        struct mr_entry *entry = store->slots[i].entry;
        if (entry != NULL && !entry->dead && (from == NULL || !is_before(entry, from, from_bytes)))
            entries[count++] = entry;
    }
    qsort(entries, count, sizeof(*entries), compare_keys);
    for (size_t i = 0; i < count; i++) {
        if (!visit(mr__entry_key(entries[i]), entries[i]->key_bytes, mr__entry_value(entries[i]),
                   entries[i]->value_bytes, arg))
            break;
    }
    mr_free(entries);
    return MR_OK;
}

void mr__store_accept(struct mr_store *store)
{
    for (uint32_t i = 0; i < store->change_count; i++) {
        struct mr_entry *entry = store->changes[i].entry;
        entry->change = 0;
        if (entry->dead)
            drop_entry(store, store->changes[i].hash, entry);
    }
    store->change_count = 0;
    mr_arena_clear(&store->undo);
}

void mr__store_rollback(struct mr_store *store)
{
    for (uint32_t i = 0; i < store->change_count; i++) {
        struct mr_change *change = &store->changes[i];
        struct mr_entry *entry = change->entry;

        entry->change = 0;
        if (change->existed) {
            /* The old value fitted once and rooms never shrink. */
            MR_ASSERT(change->old_value_bytes <= entry->value_capacity);
            memcpy(mr__entry_value(entry), change->old_value, change->old_value_bytes);
            entry->value_bytes = change->old_value_bytes;
            store->live += entry->dead;
            entry->dead = 0;
        } else {
            store->live -= entry->dead ? 0 : 1;
            drop_entry(store, change->hash, entry);
        }
    }
    store->change_count = 0;
    mr_arena_clear(&store->undo);
}
