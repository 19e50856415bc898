/*
 * One store in memory: a hash table sorted by hash, entries in slabs, and an undo log of the
 * running batch.
 *
 * Called by operators and sources (get, put, upsert, delete, scan), by state.c (accept, rollback,
 * visit) and by part.c (load).
 *
 * Table.  A slot is 8 bytes: the top 32 bits of the key's hash (the fragment) and where the entry
 * is.
 *
 *     slots   | . | 03a1 | 03f7 | . | 1c20 | 1c20 | 1d00 | . | ... | slack | end mark |
 *               home of a fragment = its top capacity_bits; an entry is at its home or right of
 *               it, with no gap between
 *
 * The slots are kept sorted by fragment (linear probing that shifts instead of skipping), so that
 *   - the 256 key groups (top 8 bits) are contiguous runs of slots;
 *   - a miss ends at the first larger fragment; growing is one sequential pass;
 *   - a snapshot is one sequential pass, already in file order; loading one appends.
 * Equal fragments are in no order in the table; where order matters they are put in key order.
 *
 * Entries.  Blocks of a slab (slab.c): they never move.
 *
 *     0            4                    8             8+k              class size
 *     +------------+--------------------+-------------+----------------+--------+
 *     | value size | key size, class,   | key (k)     | value          | room   |
 *     | u32        | flags: 20 + 8 + 4  |             |                |        |
 *     +------------+--------------------+-------------+----------------+--------+
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
#include "state/internal.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/banned.h"

enum { FLAG_DIRTY = 1, FLAG_DELETED = 2, FLAG_NEW = 4, FLAG_SUPERSEDED = 8, FLAG_MASK = 15 };
enum { UNDO_NEW = 0, UNDO_INPLACE = 1, UNDO_REPLACED = 2, UNDO_KIND_MASK = 3 };
enum { ENTRY_HEADER_BYTES = 8, CAPACITY_BITS_MIN = 4, CAPACITY_BITS_MAX = 31, SLACK_MAX = 256 };

struct entry {
    uint32_t value_bytes;
    uint32_t meta; /* key size << 12 | class << 4 | flags */
    char bytes[];
};

/* ---------------------------------------------------------------- entries */

static struct entry *entry_at(const struct mr_store *store, uint32_t ref)
{
    return mr__slab_at(&store->slab, ref);
}

static size_t key_size(const struct entry *entry)
{
    return entry->meta >> 12;
}

static unsigned class_of_entry(const struct entry *entry)
{
    return entry->meta >> 4 & 0xff;
}

static char *value_of(struct entry *entry)
{
    return entry->bytes + key_size(entry);
}

static void free_entry(struct mr_store *store, uint32_t ref)
{
    mr__slab_free(&store->slab, ref, class_of_entry(entry_at(store, ref)));
}

/*
 * An entry with room for value_bytes (or more, when it is known to grow), holding the key; the
 * value is not set.
 */
static enum mr_status make_entry(struct mr_store *store, const void *key, size_t key_bytes,
                                 size_t value_bytes, size_t room_bytes, unsigned flags,
                                 uint32_t *ret_ref, struct mr_error *err)
{
    unsigned class;
    struct entry *entry;

    if (key_bytes > MR_STORE_KEY_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot put into state '%s': a key of %zu bytes, the limit is %d",
                       store->name, key_bytes, MR_STORE_KEY_BYTES_MAX);
    if (value_bytes > MR_STORE_VALUE_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot put into state '%s': a value of %zu bytes, the limit is %d",
                       store->name, value_bytes, MR_STORE_VALUE_BYTES_MAX);
    class = mr__slab_class(ENTRY_HEADER_BYTES + key_bytes + MR_MAX(room_bytes, value_bytes));
    if (!mr__slab_alloc(&store->slab, class, ret_ref))
        return MR_FAIL(err, MR_NOMEM, "cannot put into state '%s': out of memory", store->name);
    entry = entry_at(store, *ret_ref);
    entry->value_bytes = (uint32_t)value_bytes;
    entry->meta = (uint32_t)(key_bytes << 12 | class << 4 | flags);
    memcpy(entry->bytes, key, key_bytes);
    return MR_OK;
}

/* ---------------------------------------------------------------- table */

static uint32_t home_of(const struct mr_store *store, uint32_t fragment)
{
    return fragment >> (32 - store->capacity_bits);
}

static bool key_equal(const struct entry *entry, const void *key, size_t key_bytes)
{
    return key_size(entry) == key_bytes && memcmp(entry->bytes, key, key_bytes) == 0;
}

/* The slot of the key, or the one before which it belongs (*ret_found). Needs a table. */
static uint32_t find_slot(const struct mr_store *store, uint32_t fragment, const void *key,
                          size_t key_bytes, bool *ret_found)
{
    const struct mr_slot *slots = store->slots;
    uint32_t i = home_of(store, fragment);

    while (slots[i].ref != 0 && slots[i].fragment < fragment)
        i++;
    for (; slots[i].ref != 0 && slots[i].fragment == fragment; i++) {
        if (key_equal(entry_at(store, slots[i].ref), key, key_bytes)) {
            *ret_found = true;
            return i;
        }
    }
    *ret_found = false;
    return i;
}

static uint32_t slot_of_ref(const struct mr_store *store, uint32_t fragment, uint32_t ref)
{
    uint32_t i = home_of(store, fragment);

    while (store->slots[i].ref != ref) {
        MR_ASSERT(store->slots[i].ref != 0 && store->slots[i].fragment <= fragment);
        i++;
    }
    return i;
}

/*
 * Moves everything into a table of 2^bits homes. False without memory, or when it does not fit
 * (*ret_crowded).
 */
static bool rebuild(struct mr_store *store, unsigned bits, bool *ret_crowded)
{
    uint32_t capacity = (uint32_t)1 << bits;
    uint32_t slot_count = capacity + MR_MIN(capacity, (uint32_t)SLACK_MAX) + 1;
    struct mr_slot *slots = mr_alloc_zero(NULL, (size_t)slot_count * sizeof(*slots));
    uint32_t next = 0;

    *ret_crowded = false;
    if (slots == NULL)
        return false;
    for (uint32_t i = 0; i + 1 < store->slot_count; i++) {
        if (store->slots[i].ref == 0)
            continue;
        next = MR_MAX(next, store->slots[i].fragment >> (32 - bits));
        if (next + 1 >= slot_count) {
            *ret_crowded = true;
            mr_free(slots);
            return false;
        }
        slots[next++] = store->slots[i];
    }
    mr_free(store->slots);
    store->slots = slots;
    store->slot_count = slot_count;
    store->capacity_bits = bits;
    return true;
}

static enum mr_status resize(struct mr_store *store, unsigned bits, struct mr_error *err)
{
    bool crowded = true;

    for (; bits <= CAPACITY_BITS_MAX && crowded; bits++) {
        if (rebuild(store, bits, &crowded))
            return MR_OK;
    }
    if (crowded)
        return MR_FAIL(err, MR_LIMIT, "cannot put into state '%s': its table is full", store->name);
    return MR_FAIL(err, MR_NOMEM, "cannot put into state '%s': out of memory", store->name);
}

static bool is_full(const struct mr_store *store, uint64_t more)
{
    return store->slots == NULL ||
           store->used_slots + more > ((uint64_t)3 << store->capacity_bits) / 4;
}

static enum mr_status grow_if_full(struct mr_store *store, struct mr_error *err)
{
    if (!is_full(store, 1))
        return MR_OK;
    return resize(store, store->slots == NULL ? CAPACITY_BITS_MIN : store->capacity_bits + 1, err);
}

/* Puts a slot before position i by shifting up to the next gap. */
static enum mr_status insert_slot(struct mr_store *store, uint32_t i, struct mr_slot slot,
                                  struct mr_error *err)
{
    uint32_t gap = i;

    while (store->slots[gap].ref != 0)
        gap++;
    if (gap + 1 >= store->slot_count) { /* the end mark must stay empty */
        MR_TRY(resize(store, store->capacity_bits + 1, err));
        i = home_of(store, slot.fragment);
        while (store->slots[i].ref != 0 && store->slots[i].fragment <= slot.fragment)
            i++;
        return insert_slot(store, i, slot, err);
    }
    memmove(&store->slots[i + 1], &store->slots[i], (gap - i) * sizeof(*store->slots));
    store->slots[i] = slot;
    store->used_slots++;
    return MR_OK;
}

static void remove_slot(struct mr_store *store, uint32_t i)
{
    uint32_t end = i + 1;

    while (store->slots[end].ref != 0 && home_of(store, store->slots[end].fragment) < end)
        end++;
    memmove(&store->slots[i], &store->slots[i + 1], (end - i - 1) * sizeof(*store->slots));
    store->slots[end - 1] = (struct mr_slot){0, 0};
    store->used_slots--;
}

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
    struct entry *entry = entry_at(store, ref);
    size_t bytes = sizeof(uint32_t) + entry->value_bytes;

    if (!room_for_change(store) || !room_for_undo(store, bytes))
        return no_memory(store, err);
    memcpy(store->undo + store->undo_size, &entry->value_bytes, sizeof(uint32_t));
    memcpy(store->undo + store->undo_size + sizeof(uint32_t), value_of(entry), entry->value_bytes);
    note_change(store, fragment, ref, (uint64_t)store->undo_size << 2 | UNDO_INPLACE);
    store->undo_size += bytes;
    entry->meta |= FLAG_DIRTY;
    return MR_OK;
}

/* The value outgrew its entry: another one, with the old bytes, takes over the slot. */
static enum mr_status replace_entry(struct mr_store *store, uint32_t i, size_t value_bytes,
                                    struct mr_error *err)
{
    uint32_t old_ref = store->slots[i].ref;
    struct entry *old = entry_at(store, old_ref);
    size_t room = (old->meta & FLAG_DIRTY) != 0 ? value_bytes + value_bytes / 2 : value_bytes;
    uint32_t ref;

    if (!room_for_change(store))
        return no_memory(store, err);
    MR_TRY(make_entry(store, old->bytes, key_size(old), value_bytes, room,
                      FLAG_DIRTY | (old->meta & (FLAG_NEW | FLAG_DELETED)), &ref, err));
    memcpy(value_of(entry_at(store, ref)), value_of(old),
           MR_MIN((size_t)old->value_bytes, value_bytes));
    old->meta |= FLAG_SUPERSEDED;
    note_change(store, store->slots[i].fragment, ref, (uint64_t)old_ref << 2 | UNDO_REPLACED);
    store->slots[i].ref = ref;
    return MR_OK;
}

/* Makes the entry in slot i changeable at that size; the part both sizes have keeps its bytes. */
static enum mr_status open_entry(struct mr_store *store, uint32_t i, size_t value_bytes,
                                 struct mr_error *err)
{
    struct entry *entry = entry_at(store, store->slots[i].ref);
    size_t room =
        mr__slab_class_bytes(class_of_entry(entry)) - ENTRY_HEADER_BYTES - key_size(entry);

    if (value_bytes > room)
        return replace_entry(store, i, value_bytes, err);
    if ((entry->meta & FLAG_DIRTY) == 0)
        MR_TRY(save_value(store, store->slots[i].fragment, store->slots[i].ref, err));
    entry->value_bytes = (uint32_t)value_bytes;
    return MR_OK;
}

static enum mr_status add_key(struct mr_store *store, uint32_t i, uint32_t fragment,
                              const void *key, size_t key_bytes, size_t value_bytes, unsigned flags,
                              uint32_t *ret_ref, struct mr_error *err)
{
    enum mr_status status;

    MR_TRY(make_entry(store, key, key_bytes, value_bytes, value_bytes, flags, ret_ref, err));
    status = insert_slot(store, i, (struct mr_slot){fragment, *ret_ref}, err);
    if (status != MR_OK) {
        free_entry(store, *ret_ref);
        return status;
    }
    store->live_count++;
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
    struct entry *entry;
    bool found;
    uint32_t i;

    if (store->slots == NULL)
        return false;
    i = find_slot(store, (uint32_t)(mr_store_hash(store, key, key_bytes) >> 32), key, key_bytes,
                  &found);
    if (!found)
        return false;
    entry = entry_at(store, store->slots[i].ref);
    if ((entry->meta & FLAG_DELETED) != 0)
        return false;
    *ret_value = value_of(entry);
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
    struct entry *entry;
    bool found;
    uint32_t i;

    MR_TRY(grow_if_full(store, err));
    i = find_slot(store, fragment, key, key_bytes, &found);
    if (!found) {
        if (!room_for_change(store))
            return no_memory(store, err);
        MR_TRY(add_key(store, i, fragment, key, key_bytes, value_bytes, FLAG_DIRTY | FLAG_NEW,
                       ret_ref, err));
        note_change(store, fragment, *ret_ref, UNDO_NEW);
        *ret_created = true;
        return MR_OK;
    }
    entry = entry_at(store, store->slots[i].ref);
    if ((entry->meta & FLAG_DIRTY) == 0 || entry->value_bytes != value_bytes)
        MR_TRY(open_entry(store, i, value_bytes, err));
    *ret_ref = store->slots[i].ref;
    entry = entry_at(store, *ret_ref);
    *ret_created = (entry->meta & FLAG_DELETED) != 0;
    if (*ret_created) {
        entry->meta &= ~(uint32_t)FLAG_DELETED;
        store->live_count++;
    }
    return MR_OK;
}

enum mr_status mr_store_put(struct mr_store *store, const void *key, size_t key_bytes,
                            const void *value, size_t value_bytes, struct mr_error *err)
{
    uint32_t ref;
    bool created;

    MR_TRY(touch(store, mr_store_hash(store, key, key_bytes), key, key_bytes, value_bytes, &ref,
                 &created, err));
    if (value_bytes > 0)
        memmove(value_of(entry_at(store, ref)), value,
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
    slot = &store->slots[home_of(store, (uint32_t)(hash >> 32))];
    if (step == 0)
        __builtin_prefetch(slot);
    else if (slot->ref != 0) /* often the right one, and a wrong one costs little */
        __builtin_prefetch(entry_at(store, slot->ref), 1);
}

enum mr_status mr_store_upsert_hashed(struct mr_store *store, uint64_t hash, const void *key,
                                      size_t key_bytes, size_t value_bytes, char **ret_value,
                                      bool *ret_created, struct mr_error *err)
{
    uint32_t ref;
    bool created;

    MR_TRY(touch(store, hash, key, key_bytes, value_bytes, &ref, &created, err));
    *ret_value = value_of(entry_at(store, ref));
    if (created)
        memset(*ret_value, 0, value_bytes);
    *ret_created = created;
    return MR_OK;
}

enum mr_status mr_store_delete(struct mr_store *store, const void *key, size_t key_bytes,
                               struct mr_error *err)
{
    uint32_t fragment = (uint32_t)(mr_store_hash(store, key, key_bytes) >> 32);
    struct entry *entry;
    bool found;
    uint32_t i;

    if (store->slots == NULL)
        return MR_OK;
    i = find_slot(store, fragment, key, key_bytes, &found);
    if (!found)
        return MR_OK;
    entry = entry_at(store, store->slots[i].ref);
    if ((entry->meta & FLAG_DELETED) != 0)
        return MR_OK;
    if ((entry->meta & FLAG_DIRTY) == 0)
        MR_TRY(save_value(store, fragment, store->slots[i].ref, err));
    entry->meta |= FLAG_DELETED;
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
        struct entry *entry;

        if (store->slots[i].ref == 0)
            continue;
        entry = entry_at(store, store->slots[i].ref);
        if ((entry->meta & FLAG_DELETED) == 0 &&
            !visit(entry->bytes, key_size(entry), value_of(entry), entry->value_bytes, arg))
            return;
    }
}

static int compare_keys(const struct entry *a, const struct entry *b)
{
    size_t a_bytes = key_size(a), b_bytes = key_size(b);
    int order = memcmp(a->bytes, b->bytes, MR_MIN(a_bytes, b_bytes));

    return order != 0 ? order : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

static int compare_entries(const void *a, const void *b)
{
    return compare_keys(*(struct entry *const *)a, *(struct entry *const *)b);
}

static bool is_before(const struct entry *entry, const void *from, size_t from_bytes)
{
    int order =
        from_bytes == 0 ? 0 : memcmp(entry->bytes, from, MR_MIN(key_size(entry), from_bytes));

    return order < 0 || (order == 0 && key_size(entry) < from_bytes);
}

enum mr_status mr_store_scan_sorted(const struct mr_store *store, const void *from,
                                    size_t from_bytes, mr_store_visit_fn visit, void *arg,
                                    struct mr_error *err)
{
    struct entry **sorted;
    size_t count = 0;

    if (store->live_count == 0)
        return MR_OK;
    sorted = mr_alloc(NULL, store->live_count * sizeof(*sorted));
    if (sorted == NULL)
        return no_memory(store, err);
    for (uint32_t i = 0; i + 1 < store->slot_count; i++) {
        struct entry *entry =
            store->slots[i].ref != 0 ? entry_at(store, store->slots[i].ref) : NULL;

        if (entry != NULL && (entry->meta & FLAG_DELETED) == 0 &&
            !is_before(entry, from, from == NULL ? 0 : from_bytes))
            sorted[count++] = entry;
    }
    MR_ASSERT(count <= store->live_count);
    if (count > 1)
        qsort(sorted, count, sizeof(struct entry *), compare_entries);
    for (size_t i = 0; i < count; i++) {
        if (!visit(sorted[i]->bytes, key_size(sorted[i]), value_of(sorted[i]),
                   sorted[i]->value_bytes, arg))
            break;
    }
    mr_free(sorted);
    return MR_OK;
}

/* ---------------------------------------------------------------- end of a batch */

static void forget_changes(struct mr_store *store)
{
    enum { KEEP_CHANGES = 1 << 16, KEEP_UNDO_BYTES = 1 << 20 };

    store->change_count = 0;
    store->undo_size = 0;
    /* A batch that changed everything should not hold its memory for ever. */
    if (store->change_capacity > KEEP_CHANGES) {
        mr_free(store->changes);
        store->changes = NULL;
        store->change_capacity = 0;
    }
    if (store->undo_capacity > KEEP_UNDO_BYTES) {
        mr_free(store->undo);
        store->undo = NULL;
        store->undo_capacity = 0;
    }
}

/*
 * Many keys went: a smaller table makes scans short again. Not finding memory for it is no failure.
 */
static void shrink(struct mr_store *store)
{
    unsigned bits = store->capacity_bits;
    bool crowded;

    while (bits > CAPACITY_BITS_MIN && store->used_slots < ((uint64_t)1 << bits) / 8)
        bits--;
    if (store->slots != NULL && bits + 1 < store->capacity_bits)
        (void)rebuild(store, bits + 1, &crowded);
}

/*
 * Newest change first: whoever looks at a superseded entry (the REPLACED change that superseded it)
 * comes before the change that frees it.
 */
void mr__store_accept(struct mr_store *store)
{
    bool any_deleted = false;

    for (size_t k = store->change_count; k-- > 0;) {
        const struct mr_change *change = &store->changes[k];
        struct entry *entry = entry_at(store, change->ref);
        uint32_t old_ref = (uint32_t)(change->undo >> 2);

        if ((change->undo & UNDO_KIND_MASK) == UNDO_REPLACED &&
            (entry_at(store, old_ref)->meta & FLAG_DIRTY) == 0)
            free_entry(store, old_ref); /* it has no change of its own */
        if ((entry->meta & FLAG_SUPERSEDED) != 0) {
            free_entry(store, change->ref);
        } else if ((entry->meta & FLAG_DELETED) != 0) {
            remove_slot(store, slot_of_ref(store, change->fragment, change->ref));
            free_entry(store, change->ref);
            any_deleted = true;
        } else {
            entry->meta &= ~(uint32_t)FLAG_MASK;
        }
    }
    store->committed_count = store->live_count;
    forget_changes(store);
    if (any_deleted)
        shrink(store);
}

static void undo_change(struct mr_store *store, const struct mr_change *change)
{
    struct entry *entry = entry_at(store, change->ref);
    uint32_t old_ref = (uint32_t)(change->undo >> 2);
    const char *saved = store->undo + (change->undo >> 2);

    MR_ASSERT((entry->meta & FLAG_SUPERSEDED) == 0); /* later changes were undone before */
    switch (change->undo & UNDO_KIND_MASK) {
    case UNDO_NEW:
        remove_slot(store, slot_of_ref(store, change->fragment, change->ref));
        free_entry(store, change->ref);
        break;
    case UNDO_INPLACE:
        memcpy(&entry->value_bytes, saved, sizeof(uint32_t));
        memcpy(value_of(entry), saved + sizeof(uint32_t), entry->value_bytes);
        entry->meta &= ~(uint32_t)FLAG_MASK;
        break;
    default:
        store->slots[slot_of_ref(store, change->fragment, change->ref)].ref = old_ref;
        free_entry(store, change->ref);
        entry_at(store, old_ref)->meta &= ~(uint32_t)FLAG_SUPERSEDED;
        break;
    }
}

void mr__store_rollback(struct mr_store *store)
{
    for (size_t k = store->change_count; k-- > 0;)
        undo_change(store, &store->changes[k]);
    store->live_count = store->committed_count;
    forget_changes(store);
}

/* ---------------------------------------------------------------- visits in file order */

static struct mr_item item_of(uint32_t fragment, struct entry *entry)
{
    return (struct mr_item){
        .fragment = fragment,
        .key = entry->bytes,
        .key_bytes = key_size(entry),
        .value = value_of(entry),
        .value_bytes = entry->value_bytes,
        .is_delete = (entry->meta & FLAG_DELETED) != 0,
    };
}

void mr__store_count_changes(const struct mr_store *store, struct mr_store_stats *ret_stats)
{
    *ret_stats = (struct mr_store_stats){0};
    for (size_t k = 0; k < store->change_count; k++) {
        unsigned flags = entry_at(store, store->changes[k].ref)->meta & FLAG_MASK;

        if ((flags & FLAG_SUPERSEDED) != 0 ||
            (flags & (FLAG_NEW | FLAG_DELETED)) == (FLAG_NEW | FLAG_DELETED))
            continue;
        if ((flags & FLAG_DELETED) != 0)
            ret_stats->removed++;
        else
            ret_stats->updated++;
    }
}

/* Stable by fragment, a byte at a time. Returns the one of both arrays that holds the result. */
static struct mr_slot *sort_by_fragment(struct mr_slot *items, struct mr_slot *scratch,
                                        size_t count)
{
    for (unsigned shift = 0; shift < 32; shift += 8) {
        size_t starts[256] = {0};
        struct mr_slot *sorted = scratch;
        size_t at = 0;

        for (size_t i = 0; i < count; i++)
            starts[items[i].fragment >> shift & 0xff]++;
        for (unsigned digit = 0; digit < 256; digit++) {
            size_t here = starts[digit];
            starts[digit] = at;
            at += here;
        }
        for (size_t i = 0; i < count; i++)
            sorted[starts[items[i].fragment >> shift & 0xff]++] = items[i];
        scratch = items;
        items = sorted;
    }
    return items;
}

/* Few items: by insertion, without the passes over 256 counters. */
static void sort_few(struct mr_slot *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct mr_slot item = items[i];
        size_t k = i;

        for (; k > 0 && items[k - 1].fragment > item.fragment; k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

/* Items with equal fragments get key order. Such runs are short: the hash is seeded. */
static void order_equals(const struct mr_store *store, struct mr_slot *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct mr_slot item = items[i];
        size_t k = i;

        for (; k > 0 && items[k - 1].fragment == item.fragment &&
               compare_keys(entry_at(store, items[k - 1].ref), entry_at(store, item.ref)) > 0;
             k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

enum mr_status mr__store_visit_changes(const struct mr_store *store, mr_item_fn visit, void *arg,
                                       struct mr_error *err)
{
    enum { FEW = 64 };
    size_t count = 0;
    struct mr_slot *memory, *items;
    enum mr_status status = MR_OK;

    if (store->change_count == 0)
        return MR_OK;
    memory = items = mr_alloc(NULL, 2 * store->change_count * sizeof(*memory));
    if (memory == NULL)
        return no_memory(store, err);
    for (size_t k = 0; k < store->change_count; k++) {
        const struct mr_change *change = &store->changes[k];
        unsigned flags = entry_at(store, change->ref)->meta & FLAG_MASK;

        if ((flags & FLAG_SUPERSEDED) == 0 &&
            (flags & (FLAG_NEW | FLAG_DELETED)) != (FLAG_NEW | FLAG_DELETED))
            items[count++] = (struct mr_slot){change->fragment, change->ref};
    }
    if (count <= FEW)
        sort_few(items, count);
    else
        items = sort_by_fragment(items, items + store->change_count, count);
    order_equals(store, items, count);
    for (size_t i = 0; i < count && status == MR_OK; i++) {
        struct mr_item item = item_of(items[i].fragment, entry_at(store, items[i].ref));
        status = visit(&item, arg, err);
    }
    mr_free(memory);
    return status;
}

/* A run of slots with the same fragment: in key order, smallest first, by looking for it. */
static enum mr_status visit_run(const struct mr_store *store, uint32_t from, uint32_t to,
                                mr_item_fn visit, void *arg, struct mr_error *err)
{
    struct entry *last = NULL;

    for (uint32_t n = from; n < to; n++) {
        struct entry *smallest = NULL;
        struct mr_item item;

        for (uint32_t i = from; i < to; i++) {
            struct entry *entry = entry_at(store, store->slots[i].ref);
            if ((last == NULL || compare_keys(entry, last) > 0) &&
                (smallest == NULL || compare_keys(entry, smallest) < 0))
                smallest = entry;
        }
        MR_ASSERT(smallest != NULL);
        last = smallest;
        item = item_of(store->slots[from].fragment, smallest);
        if (!item.is_delete)
            MR_TRY(visit(&item, arg, err));
    }
    return MR_OK;
}

enum mr_status mr__store_visit_all(const struct mr_store *store, mr_item_fn visit, void *arg,
                                   struct mr_error *err)
{
    enum { AHEAD = 16 };
    uint32_t i = 0;

    while (i + 1 < store->slot_count) {
        uint32_t end = i + 1;

        if (i + AHEAD < store->slot_count && store->slots[i + AHEAD].ref != 0)
            __builtin_prefetch(entry_at(store, store->slots[i + AHEAD].ref));
        if (store->slots[i].ref == 0) {
            i++;
            continue;
        }
        while (store->slots[end].ref != 0 && store->slots[end].fragment == store->slots[i].fragment)
            end++;
        MR_TRY(visit_run(store, i, end, visit, arg, err));
        i = end;
    }
    return MR_OK;
}

/* ---------------------------------------------------------------- loading */

enum mr_status mr__store_reserve(struct mr_store *store, uint64_t key_count, struct mr_error *err)
{
    unsigned bits = store->slots == NULL ? CAPACITY_BITS_MIN : store->capacity_bits;

    if (!is_full(store, key_count))
        return MR_OK;
    while (bits < CAPACITY_BITS_MAX && ((uint64_t)3 << bits) / 4 < store->used_slots + key_count)
        bits++;
    return resize(store, bits, err);
}

enum mr_status mr__store_load_put(struct mr_store *store, uint64_t hash, const void *key,
                                  size_t key_bytes, const void *value, size_t value_bytes,
                                  struct mr_error *err)
{
    uint32_t fragment = (uint32_t)(hash >> 32);
    uint32_t i, ref;
    bool found;

    MR_ASSERT(store->change_count == 0);
    MR_TRY(grow_if_full(store, err));
    i = find_slot(store, fragment, key, key_bytes, &found);
    if (found) {
        struct entry *entry = entry_at(store, store->slots[i].ref);

        if (value_bytes <=
            mr__slab_class_bytes(class_of_entry(entry)) - ENTRY_HEADER_BYTES - key_bytes) {
            entry->value_bytes = (uint32_t)value_bytes;
            memcpy(value_of(entry), value, value_bytes);
            return MR_OK;
        }
        MR_TRY(make_entry(store, key, key_bytes, value_bytes, value_bytes, 0, &ref, err));
        free_entry(store, store->slots[i].ref);
        store->slots[i].ref = ref;
    } else {
        MR_TRY(add_key(store, i, fragment, key, key_bytes, value_bytes, 0, &ref, err));
    }
    memcpy(value_of(entry_at(store, ref)), value, value_bytes);
    store->committed_count = store->live_count;
    return MR_OK;
}

void mr__store_load_delete(struct mr_store *store, uint64_t hash, const void *key, size_t key_bytes)
{
    uint32_t i, ref;
    bool found = false;

    MR_ASSERT(store->change_count == 0);
    if (store->slots == NULL)
        return;
    i = find_slot(store, (uint32_t)(hash >> 32), key, key_bytes, &found);
    if (!found)
        return;
    ref = store->slots[i].ref;
    remove_slot(store, i);
    free_entry(store, ref);
    store->committed_count = --store->live_count;
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
