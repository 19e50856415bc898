/*
 * Filling a store from parts: without undo, and without the notes a batch would leave.
 *
 * Called by part_read.c, for each part:
 *
 *     mr__loader_begin(shard) -> mr__loader_put, mr__loader_delete ... -> mr__loader_end
 *
 * A part holds its keys in the order of the table. In an empty shard each of them therefore belongs
 * behind the one before it, and is put there without a search; whatever comes out of order, or into
 * a shard that has keys already, takes the way that operators take.
 *
 * Threads: a shard's keys are loaded by one thread; different shards by several at once.
 */
#include "state/table.h"

#include "base/alloc.h"
#include "base/check.h"

#include <string.h>

#include "base/banned.h"

/* Room for all keys that the store will have, when they are spread evenly. */
static enum mr_status reserve(struct mr_shard *shard, uint64_t key_count, struct mr_error *err)
{
    enum { FEW = 64 };
    uint64_t each = key_count / MR_STORE_SHARDS;
    unsigned bits = shard->slots == NULL ? MR_TABLE_BITS_MIN : shard->capacity_bits;

    if (each <= FEW || each <= shard->used_slots ||
        !mr__table_is_full(shard, each - shard->used_slots))
        return MR_OK;
    while (bits < MR_TABLE_BITS_MAX && ((uint64_t)3 << bits) / 4 < each)
        bits++;
    return mr__table_resize(shard, bits, err);
}

enum mr_status mr__loader_begin(struct mr_store *store, unsigned index, uint64_t key_count,
                                struct mr_loader *ret_loader, struct mr_error *err)
{
    struct mr_shard *shard = NULL;

    MR_TRY(mr__store_shard(store, (uint64_t)index << (64 - MR_SHARD_BITS), &shard, err));
    MR_ASSERT(shard->change_count == 0);
    MR_TRY(reserve(shard, key_count, err));
    *ret_loader = (struct mr_loader){.shard = shard, .in_order = shard->used_slots == 0};
    return MR_OK;
}

/* Does the key belong behind the last one? */
static bool is_next(const struct mr_loader *loader, uint32_t fragment, const void *key,
                    size_t key_bytes)
{
    const struct mr_slot *last = &loader->shard->slots[loader->last];
    const struct mr_entry *entry;
    int order;

    if (loader->shard->used_slots == 0 || last->fragment != fragment)
        return loader->shard->used_slots == 0 || last->fragment < fragment;
    entry = mr__entry_at(loader->shard, last->ref);
    order = memcmp(entry->bytes, key, MR_MIN(mr__entry_key_bytes(entry), key_bytes));
    return order < 0 || (order == 0 && mr__entry_key_bytes(entry) < key_bytes);
}

/* The table grew: where is the last key now? */
static void find_last(struct mr_loader *loader)
{
    const struct mr_shard *shard = loader->shard;

    loader->last = shard->slot_count - 1;
    while (loader->last > 0 && shard->slots[loader->last].ref == 0)
        loader->last--;
}

/* Behind the last key; *ret_done is false when this is not its place. */
static enum mr_status append(struct mr_loader *loader, uint32_t fragment, const void *key,
                             size_t key_bytes, size_t value_bytes, uint32_t *ret_ref,
                             bool *ret_done, struct mr_error *err)
{
    struct mr_shard *shard = loader->shard;
    uint32_t i = mr__table_home(shard, fragment);

    if (shard->used_slots > 0)
        i = MR_MAX(i, loader->last + 1);
    loader->in_order = i + 1 < shard->slot_count && is_next(loader, fragment, key, key_bytes);
    *ret_done = loader->in_order;
    if (!loader->in_order)
        return MR_OK;
    MR_TRY(mr__entry_make(shard, key, key_bytes, value_bytes, value_bytes, 0, ret_ref, err));
    shard->slots[i] = (struct mr_slot){fragment, *ret_ref};
    shard->used_slots++;
    shard->live_count++;
    loader->last = i;
    return MR_OK;
}

/* At its place, wherever that is. */
static enum mr_status insert(struct mr_shard *shard, uint32_t fragment, const void *key,
                             size_t key_bytes, size_t value_bytes, uint32_t *ret_ref,
                             struct mr_error *err)
{
    bool found = false;
    uint32_t i = mr__table_find(shard, fragment, key, key_bytes, &found);
    struct mr_entry *entry;

    if (!found)
        return mr__table_add(shard, i, fragment, key, key_bytes, value_bytes, 0, ret_ref, err);
    *ret_ref = shard->slots[i].ref;
    entry = mr__entry_at(shard, *ret_ref);
    if (value_bytes <=
        mr__slab_class_bytes(mr__entry_class(entry)) - MR_ENTRY_HEADER_BYTES - key_bytes) {
        entry->value_bytes = (uint32_t)value_bytes;
        return MR_OK;
    }
    MR_TRY(mr__entry_make(shard, key, key_bytes, value_bytes, value_bytes, 0, ret_ref, err));
    mr__entry_free(shard, shard->slots[i].ref);
    shard->slots[i].ref = *ret_ref;
    return MR_OK;
}

enum mr_status mr__loader_put(struct mr_loader *loader, uint64_t hash, const void *key,
                              size_t key_bytes, const void *value, size_t value_bytes,
                              struct mr_error *err)
{
    struct mr_shard *shard = loader->shard;
    uint32_t fragment = (uint32_t)(hash >> 32), ref = 0;
    bool done = false;

    if (mr__table_is_full(shard, 1)) {
        MR_TRY(mr__table_grow(shard, err));
        find_last(loader);
    }
    if (loader->in_order)
        MR_TRY(append(loader, fragment, key, key_bytes, value_bytes, &ref, &done, err));
    if (!done)
        MR_TRY(insert(shard, fragment, key, key_bytes, value_bytes, &ref, err));
    memcpy(mr__entry_value(mr__entry_at(shard, ref)), value, value_bytes);
    shard->committed_count = shard->live_count;
    return MR_OK;
}

void mr__loader_delete(struct mr_loader *loader, uint64_t hash, const void *key, size_t key_bytes)
{
    struct mr_shard *shard = loader->shard;
    uint32_t i, ref = 0;
    bool found = false;

    loader->in_order = false;
    if (shard->slots == NULL)
        return;
    i = mr__table_find(shard, (uint32_t)(hash >> 32), key, key_bytes, &found);
    if (!found)
        return;
    ref = shard->slots[i].ref;
    mr__table_remove(shard, i);
    mr__entry_free(shard, ref);
    shard->committed_count = --shard->live_count;
}

void mr__loader_hint(const struct mr_loader *loader, uint64_t hash, unsigned step)
{
    const struct mr_shard *shard = loader->shard;
    const struct mr_slot *slot;

    if (loader->in_order || shard->slots == NULL)
        return;
    slot = &shard->slots[mr__table_home(shard, (uint32_t)(hash >> 32))];
    if (step == 0)
        __builtin_prefetch(slot);
    else if (slot->ref != 0) /* often the right one, and a wrong one costs little */
        __builtin_prefetch(mr__entry_at(shard, slot->ref), 1);
}

void mr__loader_end(struct mr_loader *loader)
{
    if (loader->shard != NULL && loader->in_order)
        loader->shard->loose_count = 0; /* the entries lie in the order of the table */
}

enum mr_status mr__store_load_put(struct mr_store *store, uint64_t hash, const void *key,
                                  size_t key_bytes, const void *value, size_t value_bytes,
                                  struct mr_error *err)
{
    struct mr_loader loader;

    MR_TRY(mr__loader_begin(store, mr_store_shard(hash), 0, &loader, err));
    loader.in_order = false;
    return mr__loader_put(&loader, hash, key, key_bytes, value, value_bytes, err);
}
