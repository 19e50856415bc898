/*
 * One store, shard by shard: the end of a batch, and its content in file order.
 *
 * Called by state.c (accept, rollback) and part_write.c (visits); store_load.c loads.  store.c
 * explains the changes that are accepted or undone here, table.c the order.
 *
 * Threads: the driver's.
 */
#include "state/table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "state/spill.h"

#include <string.h>

#include "base/banned.h"

/* ---------------------------------------------------------------- end of a batch */

/* What a walk used will be used again by the next one; nothing else keeps much. */
static bool is_kept(const struct mr_shard *shard, size_t used, size_t capacity)
{
    return shard->is_walk && used >= capacity / 4 && !mr__state_is_spilled();
}

static void forget_changes(struct mr_shard *shard)
{
    enum { KEEP_CHANGES = 1 << 13, KEEP_UNDO_BYTES = 1 << 17 };

    /* A batch that changed everything should not hold its memory for ever. */
    if (shard->change_capacity > KEEP_CHANGES &&
        !is_kept(shard, shard->change_count, shard->change_capacity)) {
        mr__state_free(shard->changes);
        shard->changes = NULL;
        shard->change_capacity = 0;
    }
    if (shard->undo_capacity > KEEP_UNDO_BYTES &&
        !is_kept(shard, shard->undo_size, shard->undo_capacity)) {
        mr__state_free(shard->undo);
        shard->undo = NULL;
        shard->undo_capacity = 0;
    }
    shard->change_count = 0;
    shard->unsettled_count = 0;
    shard->is_walk = false;
    shard->replaced_count = 0;
    shard->undo_size = 0;
}

/* With many changes the entries are far apart: the loops over changes ask for them ahead. */
enum { AHEAD = 24 };

static inline void hint_change(const struct mr_shard *shard, size_t k)
{
    if (k < shard->change_count)
        __builtin_prefetch(mr__entry_at(shard, shard->changes[k].ref), 1);
}

/* Entries have no flags, and only those that were replaced are looked at. */
static void accept_walk(struct mr_shard *shard)
{
    for (size_t k = 0; k < shard->change_count && shard->replaced_count > 0; k++) {
        const struct mr_change *change = &shard->changes[k];

        if ((change->undo & MR_UNDO_MASK) == MR_UNDO_REPLACED)
            mr__entry_free(shard, mr__walk_replaced(shard, change));
    }
    shard->committed_count = shard->live_count;
    forget_changes(shard);
}

/*
 * Newest change first: whoever looks at a superseded entry (the REPLACED change that superseded it)
 * comes before the change that frees it.
 */
void mr__shard_accept(struct mr_shard *shard)
{
    bool any_deleted = false;

    if (shard->is_walk) {
        accept_walk(shard);
        return;
    }
    for (size_t k = shard->change_count; k-- > 0;) {
        const struct mr_change *change = &shard->changes[k];
        struct mr_entry *entry = mr__entry_at(shard, change->ref);
        uint32_t old_ref = (uint32_t)(change->undo >> 2);

        hint_change(shard, k - AHEAD); /* beyond the first: no number of a change */
        if ((change->undo & MR_UNDO_MASK) == MR_UNDO_REPLACED &&
            (mr__entry_at(shard, old_ref)->meta & MR_ENTRY_DIRTY) == 0)
            mr__entry_free(shard, old_ref); /* it has no change of its own */
        if ((entry->meta & MR_ENTRY_SUPERSEDED) != 0) {
            mr__entry_free(shard, change->ref);
        } else if ((entry->meta & MR_ENTRY_DELETED) != 0) {
            mr__table_remove(shard, mr__table_slot_of(shard, change->fragment, change->ref));
            mr__entry_free(shard, change->ref);
            any_deleted = true;
        } else {
            entry->meta &= ~(uint32_t)MR_ENTRY_MASK;
        }
    }
    shard->committed_count = shard->live_count;
    forget_changes(shard);
    if (any_deleted)
        mr__table_shrink(shard);
}

void mr__store_accept(struct mr_store *store)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        if (store->shards[i] != NULL)
            mr__shard_accept(store->shards[i]);
    }
}

static void undo_change(struct mr_shard *shard, const struct mr_change *change)
{
    struct mr_entry *entry = mr__entry_at(shard, change->ref);
    uint32_t old_ref =
        shard->is_walk ? mr__walk_replaced(shard, change) : (uint32_t)(change->undo >> 2);
    const char *saved = shard->undo + (change->undo >> 2);

    MR_ASSERT((entry->meta & MR_ENTRY_SUPERSEDED) == 0); /* later changes were undone before */
    switch (change->undo & MR_UNDO_MASK) {
    case MR_UNDO_NEW:
        mr__table_remove(shard, mr__table_slot_of(shard, change->fragment, change->ref));
        mr__entry_free(shard, change->ref);
        break;
    case MR_UNDO_INPLACE:
        memcpy(&entry->value_bytes, saved, sizeof(uint32_t));
        memcpy(mr__entry_value(entry), saved + sizeof(uint32_t), entry->value_bytes);
        entry->meta &= ~(uint32_t)MR_ENTRY_MASK;
        break;
    default:
        shard->slots[mr__table_slot_of(shard, change->fragment, change->ref)].ref = old_ref;
        mr__entry_free(shard, change->ref);
        mr__entry_at(shard, old_ref)->meta &= ~(uint32_t)MR_ENTRY_SUPERSEDED;
        break;
    }
}

void mr__store_rollback(struct mr_store *store)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        struct mr_shard *shard = store->shards[i];

        if (shard == NULL)
            continue;
        for (size_t k = shard->change_count; k-- > 0;)
            undo_change(shard, &shard->changes[k]);
        shard->live_count = shard->committed_count;
        forget_changes(shard);
    }
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

bool mr__store_is_changed(const struct mr_store *store)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        if (store->shards[i] != NULL && store->shards[i]->change_count > 0)
            return true;
    }
    return false;
}

/* Is this change the one that says what became of its key, and did anything? */
static bool is_the_last(unsigned flags)
{
    return (flags & MR_ENTRY_SUPERSEDED) == 0 &&
           (flags & (MR_ENTRY_NEW | MR_ENTRY_DELETED)) != (MR_ENTRY_NEW | MR_ENTRY_DELETED);
}

static void count_changes(const struct mr_shard *shard, struct mr_store_stats *stats)
{
    if (shard->is_walk) {
        stats->updated += shard->change_count;
        return;
    }
    for (size_t k = 0; k < shard->change_count; k++) {
        unsigned flags = mr__entry_at(shard, shard->changes[k].ref)->meta & MR_ENTRY_MASK;

        hint_change(shard, k + AHEAD);
        if (!is_the_last(flags))
            continue;
        if ((flags & MR_ENTRY_DELETED) != 0)
            stats->removed++;
        else
            stats->updated++;
    }
}

void mr__store_count_changes(const struct mr_store *store, struct mr_store_stats *ret_stats)
{
    *ret_stats = (struct mr_store_stats){0};
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        if (store->shards[i] != NULL)
            count_changes(store->shards[i], ret_stats);
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
static void order_equals(const struct mr_shard *shard, struct mr_slot *items, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct mr_slot item = items[i];
        size_t k = i;

        for (; k > 0 && items[k - 1].fragment == item.fragment &&
               mr__entry_compare(mr__entry_at(shard, items[k - 1].ref),
                                 mr__entry_at(shard, item.ref)) > 0;
             k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

/* Changes that stand; returns how many. No entry is looked at when all of them do. */
static size_t collect_changes(const struct mr_shard *shard, struct mr_slot *items,
                              bool *ret_in_order)
{
    uint32_t greatest = 0;
    size_t count = 0;

    *ret_in_order = true;
    for (size_t k = 0; k < shard->change_count; k++) {
        const struct mr_change *change = &shard->changes[k];

        mr__spill_tick();
        if (shard->unsettled_count > 0) {
            hint_change(shard, k + AHEAD);
            if (!is_the_last(mr__entry_at(shard, change->ref)->meta & MR_ENTRY_MASK))
                continue;
        }
        *ret_in_order &= change->fragment >= greatest;
        greatest = change->fragment;
        items[count++] = (struct mr_slot){change->fragment, change->ref};
    }
    return count;
}

enum mr_status mr__shard_sort_changes(const struct mr_shard *shard,
                                      struct mr_sorted_changes *ret_sorted, struct mr_error *err)
{
    enum { FEW = 64 };
    size_t count;
    struct mr_slot *items, *smaller;
    bool in_order;

    *ret_sorted = (struct mr_sorted_changes){0};
    if (shard == NULL || shard->change_count == 0)
        return MR_OK;
    if (shard->is_walk) { /* in that order they were made */
        ret_sorted->count = shard->change_count;
        return MR_OK;
    }
    items = mr__state_alloc(2 * shard->change_count * sizeof(*items));
    if (items == NULL)
        return mr__state_no_memory("read out", shard->name, err);
    count = collect_changes(shard, items, &in_order);
    if (count <= FEW)
        sort_few(items, count);
    else if (!in_order) /* four passes: the result is where it began */
        MR_ASSERT(sort_by_fragment(items, items + shard->change_count, count) == items);
    order_equals(shard, items, count);
    smaller =
        mr__state_grow(items, count * sizeof(*items), MR_MAX(count, (size_t)1) * sizeof(*items));
    *ret_sorted = (struct mr_sorted_changes){smaller != NULL ? smaller : items, count};
    return MR_OK;
}

enum mr_status mr__shard_visit_changes(const struct mr_shard *shard,
                                       const struct mr_sorted_changes *sorted, size_t from,
                                       size_t end, mr_item_fn visit, void *arg,
                                       struct mr_error *err)
{
    const struct mr_slot *items = sorted->items;

    if (sorted->count > 0 && items == NULL)
        return mr__walk_visit(shard, from, end, visit, arg, err);
    for (size_t i = from; i < end; i++) {
        struct mr_item item;

        mr__spill_tick();
        if (i + AHEAD < sorted->count)
            __builtin_prefetch(mr__entry_at(shard, items[i + AHEAD].ref));
        item = item_of(items[i].fragment, mr__entry_at(shard, items[i].ref));
        MR_TRY(visit(&item, arg, err));
    }
    return MR_OK;
}

/* The table is in file order; a key stands at the home of its fragment or right of it, without a
 * gap between. */
enum mr_status mr__shard_visit_range(const struct mr_shard *shard, uint64_t from, uint64_t end,
                                     mr_item_fn visit, void *arg, struct mr_error *err)
{
    uint32_t i, home_of_end;

    if (shard == NULL || shard->slots == NULL)
        return MR_OK;
    home_of_end = mr__table_home(shard, (uint32_t)(end - 1));
    for (i = mr__table_home(shard, (uint32_t)from); i + 1 < shard->slot_count; i++) {
        const struct mr_slot *slot = &shard->slots[i];
        struct mr_item item;

        if (i + AHEAD < shard->slot_count && shard->slots[i + AHEAD].ref != 0)
            __builtin_prefetch(mr__entry_at(shard, shard->slots[i + AHEAD].ref));
        if (slot->ref == 0 ? i > home_of_end : slot->fragment >= end)
            break;
        if (slot->ref == 0 || slot->fragment < from)
            continue;
        mr__spill_tick();
        item = item_of(slot->fragment, mr__entry_at(shard, slot->ref));
        if (!item.is_delete)
            MR_TRY(visit(&item, arg, err));
    }
    return MR_OK;
}

enum mr_status mr__store_visit_changes(const struct mr_store *store, mr_item_fn visit, void *arg,
                                       struct mr_error *err)
{
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        struct mr_sorted_changes sorted = {0};
        enum mr_status status;

        MR_TRY(mr__shard_sort_changes(store->shards[i], &sorted, err));
        status =
            mr__shard_visit_changes(store->shards[i], &sorted, 0, sorted.count, visit, arg, err);
        mr__state_free(sorted.items);
        MR_TRY(status);
    }
    return MR_OK;
}

enum mr_status mr__store_visit_all(const struct mr_store *store, mr_item_fn visit, void *arg,
                                   struct mr_error *err)
{
    for (uint64_t i = 0; i < MR_STORE_SHARDS; i++)
        MR_TRY(mr__shard_visit_range(store->shards[i], i << (32 - MR_SHARD_BITS),
                                     (i + 1) << (32 - MR_SHARD_BITS), visit, arg, err));
    return MR_OK;
}
