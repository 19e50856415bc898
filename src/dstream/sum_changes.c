/*
 * What one firing of a window of sums changes, by key.
 *
 *     rows that entered, rows that left --> one change a key: in, out --> sums += in - out
 *
 * A key that brings as much as it takes along costs no access of the store, and any other one. The
 * hash table over the changes is small enough for the cache; the store is not, so its keys are
 * hinted at ahead of their use.
 *
 * Thread: its owner's, which also owns the shard of the store.
 */
#include "dstream/window_sums.h"

#include <string.h>

enum {
    CAPACITY_MIN = 256,
    AHEAD = 32, /* changes between the hint of a key and its use */
};

static enum mr_status overflow(struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA,
                   "the sum does not fit into its type; use DOUBLE or DECIMAL(38, 0) values");
}

void mr__sum_changes_release(struct mr__sum_changes *changes)
{
    mr_free(changes->items);
    mr_free(changes->slots);
    *changes = (struct mr__sum_changes){0};
}

/* ---- collecting ---- */

/* The slot of the key, or the free one where it belongs. */
static uint32_t *slot_of(const struct mr__sum_changes *changes, uint64_t hash, struct mr_slice key)
{
    uint32_t mask = 2 * changes->capacity - 1;

    /* The top bits are those of the shard, the same for all. */
    for (uint32_t at = (uint32_t)hash & mask;; at = (at + 1) & mask) {
        uint32_t index = changes->slots[at];
        const struct mr__sum_change *item = &changes->items[index - 1];

        if (index == 0 || (item->hash == hash && item->key_bytes == key.size_bytes &&
                           memcmp(item->key, key.data, key.size_bytes) == 0))
            return &changes->slots[at];
    }
}

/* To a capacity, a power of two. */
static enum mr_status grow(struct mr__sum_changes *changes, uint64_t capacity, struct mr_error *err)
{
    struct mr__sum_change *items;
    uint32_t *slots;

    if (capacity > UINT32_MAX / 4)
        return MR_FAIL(err, MR_LIMIT, "a window has too many keys");
    items = mr_realloc(NULL, changes->items, (size_t)capacity * sizeof(*items));
    if (items == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    changes->items = items;
    slots = mr_alloc_zero(NULL, 2 * (size_t)capacity * sizeof(*slots));
    if (slots == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    mr_free(changes->slots);
    changes->slots = slots;
    changes->capacity = (uint32_t)capacity;
    for (uint32_t i = 0; i < changes->count; i++) {
        uint32_t mask = 2 * changes->capacity - 1;
        uint32_t at = (uint32_t)items[i].hash & mask;

        while (slots[at] != 0)
            at = (at + 1) & mask;
        slots[at] = i + 1;
    }
    return MR_OK;
}

enum mr_status mr__sum_changes_reserve(struct mr__sum_changes *changes, uint64_t count,
                                       struct mr_error *err)
{
    uint64_t capacity = CAPACITY_MIN;

    while (capacity < count)
        capacity *= 2;
    return capacity > changes->capacity ? grow(changes, capacity, err) : MR_OK;
}

static enum mr_status add(struct mr__sum_changes *changes, const struct mr__sum_row *row,
                          bool enters, struct mr_error *err)
{
    struct mr__sum_change *item;
    uint32_t *slot = slot_of(changes, row->hash, row->key);

    if (*slot == 0) {
        changes->items[changes->count] = (struct mr__sum_change){
            .hash = row->hash, .key = row->key.data, .key_bytes = (uint32_t)row->key.size_bytes};
        *slot = ++changes->count;
    }
    item = &changes->items[*slot - 1];
    item->entered |= enters;
    item->left |= !enters;
    if (__builtin_add_overflow(enters ? item->in : item->out, row->sum,
                               enters ? &item->in : &item->out))
        return overflow(err);
    return MR_OK;
}

enum mr_status mr__sum_changes_add(struct mr__sum_changes *changes, const struct mr__sum_row *rows,
                                   uint32_t count, bool enters, struct mr_error *err)
{
    MR_TRY(mr__sum_changes_reserve(changes, (uint64_t)changes->count + count, err));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t mask = 2 * changes->capacity - 1;

        if (i + AHEAD / 2 < count)
            __builtin_prefetch(&changes->slots[(uint32_t)rows[i + AHEAD / 2].hash & mask]);
        if (i + AHEAD / 4 < count) {
            uint32_t index = changes->slots[(uint32_t)rows[i + AHEAD / 4].hash & mask];

            if (index != 0) /* often the right one */
                __builtin_prefetch(&changes->items[index - 1], 1);
        }
        MR_TRY(add(changes, &rows[i], enters, err));
    }
    return MR_OK;
}

/* ---- applying ---- */

/* Does nothing change? What leaves has been in, so the key has a sum. */
static bool is_nothing(const struct mr__sum_change *change)
{
    return change->left && change->in == change->out;
}

static enum mr_status apply_one(const struct mr__sum_change *change, struct mr_store *values,
                                bool may_be_missing, struct mr_error *err)
{
    int64_t out = change->out, sum;
    const char *old;
    size_t old_bytes;
    char *value;
    bool created;

    if (may_be_missing && change->left &&
        !mr_store_get_hashed(values, change->hash, change->key, change->key_bytes, &old,
                             &old_bytes)) {
        if (!change->entered)
            return MR_OK;
        out = 0;
    }
    MR_TRY(mr_store_upsert_hashed(values, change->hash, change->key, change->key_bytes,
                                  MR__SUM_BYTES, &value, &created, err));
    sum = mr_load_i64(value + 1);
    if (__builtin_sub_overflow(sum, out, &sum) || __builtin_add_overflow(sum, change->in, &sum))
        return overflow(err);
    value[0] = 0;
    mr_store_i64(value + 1, sum);
    return MR_OK;
}

enum mr_status mr__sum_changes_apply(const struct mr__sum_changes *changes, struct mr_store *values,
                                     bool may_be_missing, struct mr_error *err)
{
    const struct mr__sum_change *items = changes->items;
    uint32_t count = changes->count;

    for (uint32_t i = 0; i < MR_MIN(count, (uint32_t)AHEAD); i++)
        mr_store_hint(values, items[i].hash, 0);
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            mr_store_hint(values, items[i + AHEAD].hash, 0);
        if (i + AHEAD / 2 < count)
            mr_store_hint(values, items[i + AHEAD / 2].hash, 1);
        if (may_be_missing || !is_nothing(&items[i]))
            MR_TRY(apply_one(&items[i], values, may_be_missing, err));
    }
    return MR_OK;
}
