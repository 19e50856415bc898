/*
 * One store: the end of a batch, its content in file order, and loading.
 *
 * Called by state.c (accept, rollback), part_write.c (visits) and part_read.c (load).  store.c
 * explains the changes that are accepted or undone here, table.c the order.
 *
 * Threads: the driver's.
 */
#include "state/table.h"

#include "base/alloc.h"
#include "base/check.h"

#include <string.h>

#include "base/banned.h"

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
 * Newest change first: whoever looks at a superseded entry (the REPLACED change that superseded it)
 * comes before the change that frees it.
 */
void mr__store_accept(struct mr_store *store)
{
    bool any_deleted = false;

    for (size_t k = store->change_count; k-- > 0;) {
        const struct mr_change *change = &store->changes[k];
        struct mr_entry *entry = mr__entry_at(store, change->ref);
        uint32_t old_ref = (uint32_t)(change->undo >> 2);

        if ((change->undo & MR_UNDO_MASK) == MR_UNDO_REPLACED &&
            (mr__entry_at(store, old_ref)->meta & MR_ENTRY_DIRTY) == 0)
            mr__entry_free(store, old_ref); /* it has no change of its own */
        if ((entry->meta & MR_ENTRY_SUPERSEDED) != 0) {
            mr__entry_free(store, change->ref);
        } else if ((entry->meta & MR_ENTRY_DELETED) != 0) {
            mr__table_remove(store, mr__table_slot_of(store, change->fragment, change->ref));
            mr__entry_free(store, change->ref);
            any_deleted = true;
        } else {
            entry->meta &= ~(uint32_t)MR_ENTRY_MASK;
        }
    }
    store->committed_count = store->live_count;
    forget_changes(store);
    if (any_deleted)
        mr__table_shrink(store);
}

static void undo_change(struct mr_store *store, const struct mr_change *change)
{
    struct mr_entry *entry = mr__entry_at(store, change->ref);
    uint32_t old_ref = (uint32_t)(change->undo >> 2);
    const char *saved = store->undo + (change->undo >> 2);

    MR_ASSERT((entry->meta & MR_ENTRY_SUPERSEDED) == 0); /* later changes were undone before */
    switch (change->undo & MR_UNDO_MASK) {
    case MR_UNDO_NEW:
        mr__table_remove(store, mr__table_slot_of(store, change->fragment, change->ref));
        mr__entry_free(store, change->ref);
        break;
    case MR_UNDO_INPLACE:
        memcpy(&entry->value_bytes, saved, sizeof(uint32_t));
        memcpy(mr__entry_value(entry), saved + sizeof(uint32_t), entry->value_bytes);
        entry->meta &= ~(uint32_t)MR_ENTRY_MASK;
        break;
    default:
        store->slots[mr__table_slot_of(store, change->fragment, change->ref)].ref = old_ref;
        mr__entry_free(store, change->ref);
        mr__entry_at(store, old_ref)->meta &= ~(uint32_t)MR_ENTRY_SUPERSEDED;
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

static struct mr_item item_of(uint32_t fragment, struct mr_entry *entry)
{
    return (struct mr_item){
        .fragment = fragment,
        .key = entry->bytes,
        .key_bytes = mr__entry_key_bytes(entry),
        .value = mr__entry_value(entry),
        .value_bytes = entry->value_bytes,
        .is_delete = (entry->meta & MR_ENTRY_DELETED) != 0,
    };
}

void mr__store_count_changes(const struct mr_store *store, struct mr_store_stats *ret_stats)
{
    *ret_stats = (struct mr_store_stats){0};
    for (size_t k = 0; k < store->change_count; k++) {
        unsigned flags = mr__entry_at(store, store->changes[k].ref)->meta & MR_ENTRY_MASK;

        if ((flags & MR_ENTRY_SUPERSEDED) != 0 ||
            (flags & (MR_ENTRY_NEW | MR_ENTRY_DELETED)) == (MR_ENTRY_NEW | MR_ENTRY_DELETED))
            continue;
        if ((flags & MR_ENTRY_DELETED) != 0)
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
               mr__entry_compare(mr__entry_at(store, items[k - 1].ref),
                                 mr__entry_at(store, item.ref)) > 0;
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
        return MR_FAIL(err, MR_NOMEM, "cannot read state '%s' out: out of memory", store->name);
    for (size_t k = 0; k < store->change_count; k++) {
        const struct mr_change *change = &store->changes[k];
        unsigned flags = mr__entry_at(store, change->ref)->meta & MR_ENTRY_MASK;

        if ((flags & MR_ENTRY_SUPERSEDED) == 0 &&
            (flags & (MR_ENTRY_NEW | MR_ENTRY_DELETED)) != (MR_ENTRY_NEW | MR_ENTRY_DELETED))
            items[count++] = (struct mr_slot){change->fragment, change->ref};
    }
    if (count <= FEW)
        sort_few(items, count);
    else
        items = sort_by_fragment(items, items + store->change_count, count);
    order_equals(store, items, count);
    for (size_t i = 0; i < count && status == MR_OK; i++) {
        struct mr_item item = item_of(items[i].fragment, mr__entry_at(store, items[i].ref));
        status = visit(&item, arg, err);
    }
    mr_free(memory);
    return status;
}

/* A run of slots with the same fragment: in key order, smallest first, by looking for it. */
static enum mr_status visit_run(const struct mr_store *store, uint32_t from, uint32_t to,
                                mr_item_fn visit, void *arg, struct mr_error *err)
{
    struct mr_entry *last = NULL;

    for (uint32_t n = from; n < to; n++) {
        struct mr_entry *smallest = NULL;
        struct mr_item item;

        for (uint32_t i = from; i < to; i++) {
            struct mr_entry *entry = mr__entry_at(store, store->slots[i].ref);
            if ((last == NULL || mr__entry_compare(entry, last) > 0) &&
                (smallest == NULL || mr__entry_compare(entry, smallest) < 0))
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
            __builtin_prefetch(mr__entry_at(store, store->slots[i + AHEAD].ref));
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
    unsigned bits = store->slots == NULL ? MR_TABLE_BITS_MIN : store->capacity_bits;

    if (!mr__table_is_full(store, key_count))
        return MR_OK;
    while (bits < MR_TABLE_BITS_MAX && ((uint64_t)3 << bits) / 4 < store->used_slots + key_count)
        bits++;
    return mr__table_resize(store, bits, err);
}

enum mr_status mr__store_load_put(struct mr_store *store, uint64_t hash, const void *key,
                                  size_t key_bytes, const void *value, size_t value_bytes,
                                  struct mr_error *err)
{
    uint32_t fragment = (uint32_t)(hash >> 32);
    uint32_t i, ref = 0;
    bool found = false;

    MR_ASSERT(store->change_count == 0);
    MR_TRY(mr__table_grow(store, err));
    i = mr__table_find(store, fragment, key, key_bytes, &found);
    if (found) {
        struct mr_entry *entry = mr__entry_at(store, store->slots[i].ref);

        if (value_bytes <=
            mr__slab_class_bytes(mr__entry_class(entry)) - MR_ENTRY_HEADER_BYTES - key_bytes) {
            entry->value_bytes = (uint32_t)value_bytes;
            memcpy(mr__entry_value(entry), value, value_bytes);
            return MR_OK;
        }
        MR_TRY(mr__entry_make(store, key, key_bytes, value_bytes, value_bytes, 0, &ref, err));
        mr__entry_free(store, store->slots[i].ref);
        store->slots[i].ref = ref;
    } else {
        MR_TRY(mr__table_add(store, i, fragment, key, key_bytes, value_bytes, 0, &ref, err));
    }
    memcpy(mr__entry_value(mr__entry_at(store, ref)), value, value_bytes);
    store->committed_count = store->live_count;
    return MR_OK;
}

void mr__store_load_delete(struct mr_store *store, uint64_t hash, const void *key, size_t key_bytes)
{
    uint32_t i, ref = 0;
    bool found = false;

    MR_ASSERT(store->change_count == 0);
    if (store->slots == NULL)
        return;
    i = mr__table_find(store, (uint32_t)(hash >> 32), key, key_bytes, &found);
    if (!found)
        return;
    ref = store->slots[i].ref;
    mr__table_remove(store, i);
    mr__entry_free(store, ref);
    store->committed_count = --store->live_count;
}
