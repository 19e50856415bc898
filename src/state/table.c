/*
 * The table of one shard of a store: slots sorted by hash, and entries in a slab.
 *
 * Called by store.c (operators' calls) and store_batch.c (end of a batch, visits, loading).
 *
 * Table.  A slot is 8 bytes: the top 32 bits of the key's hash (the fragment) and where the entry
 * is.
 *
 *     slots   | . | 03a1 | 03f7 | . | 1c20 | 1c20 | 1d00 | . | ... | slack | end mark |
 *               home of a fragment = its top capacity_bits after those of the shard; an entry is
 *               at its home or right of it, with no gap between
 *
 * The slots are kept sorted by fragment (linear probing that shifts instead of skipping), so that
 *   - the 32 key groups of a shard are contiguous runs of slots;
 *   - a miss ends at the first larger fragment; growing is one sequential pass;
 *   - a snapshot is one sequential pass, already in file order; loading one appends.
 * Equal fragments are in the order of their keys, so the same keys stand in the same order whatever
 * has happened to the table.
 *
 * Entries.  Blocks of a slab (slab.c): they never move.
 *
 *     0            4                    8             8+k              class size
 *     +------------+--------------------+-------------+----------------+--------+
 *     | value size | key size, class,   | key (k)     | value          | room   |
 *     | u32        | flags: 20 + 8 + 4  |             |                |        |
 *     +------------+--------------------+-------------+----------------+--------+
 *
 * Threads: one writer, or many readers while nobody writes.
 */
#include "state/table.h"

#include "base/alloc.h"
#include "base/check.h"
#include "state/spill.h"

#include <string.h>

#include "base/banned.h"

enum { SLACK_MAX = 256, SHORT_VALUE_BYTES = 8 };

/* ---------------------------------------------------------------- entries */

int mr__entry_compare(const struct mr_entry *a, const struct mr_entry *b)
{
    size_t a_bytes = mr__entry_key_bytes(a), b_bytes = mr__entry_key_bytes(b);
    int order = memcmp(a->bytes, b->bytes, MR_MIN(a_bytes, b_bytes));

    return order != 0 ? order : a_bytes < b_bytes ? -1 : a_bytes > b_bytes;
}

void mr__entry_free(struct mr_shard *shard, uint32_t ref)
{
    mr__slab_free(&shard->slab, ref, mr__entry_class(mr__entry_at(shard, ref)));
}

/*
 * An entry with room for value_bytes (or more, when it is known to grow), holding the key; the
 * value is not set.
 */
enum mr_status mr__entry_make(struct mr_shard *shard, const void *key, size_t key_bytes,
                              size_t value_bytes, size_t room_bytes, unsigned flags,
                              uint32_t *ret_ref, struct mr_error *err)
{
    unsigned class;
    struct mr_entry *entry;

    if (key_bytes > MR_STORE_KEY_BYTES_MAX)
        return MR_FAIL(
            err, MR_LIMIT,
            "cannot put into state '%s': a key of %zu bytes, the limit is %d; use a hash of "
            "it, such as md5()",
            shard->name, key_bytes, MR_STORE_KEY_BYTES_MAX);
    if (value_bytes > MR_STORE_VALUE_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot put into state '%s': a value of %zu bytes, the limit is %d",
                       shard->name, value_bytes, MR_STORE_VALUE_BYTES_MAX);
    mr__spill_tick();
    /* The shortest values are numbers in few bytes (ops/agg_pack.c), and grow. */
    if (value_bytes > 0 && value_bytes < SHORT_VALUE_BYTES)
        room_bytes = MR_MAX(room_bytes, value_bytes + 1);
    class = mr__slab_class(MR_ENTRY_HEADER_BYTES + key_bytes + MR_MAX(room_bytes, value_bytes));
    if (!mr__slab_alloc(&shard->slab, class, ret_ref))
        return mr__state_no_memory("put into", shard->name, err);
    shard->loose_count++;
    entry = mr__entry_at(shard, *ret_ref);
    entry->value_bytes = (uint32_t)value_bytes;
    entry->meta = (uint32_t)(key_bytes << 12 | class << 4 | flags);
    memcpy(entry->bytes, key, key_bytes);
    return MR_OK;
}
/* ---------------------------------------------------------------- slots */

/* Among the equal fragments that end before slot `end`: where a key that is not there belongs. */
static __attribute__((noinline)) uint32_t place_among_equals(const struct mr_shard *shard,
                                                             uint32_t end, const void *key,
                                                             size_t key_bytes)
{
    uint32_t fragment = shard->slots[end - 1].fragment;
    uint32_t i = end;

    while (i > 0 && shard->slots[i - 1].ref != 0 && shard->slots[i - 1].fragment == fragment) {
        const struct mr_entry *entry = mr__entry_at(shard, shard->slots[i - 1].ref);
        size_t entry_bytes = mr__entry_key_bytes(entry);
        int order = memcmp(entry->bytes, key, MR_MIN(entry_bytes, key_bytes));

        if (order < 0 || (order == 0 && entry_bytes < key_bytes))
            break;
        i--;
    }
    return i;
}

/* The slot of the key, or the one before which it belongs (*ret_found). Needs a table. */
uint32_t mr__table_find(const struct mr_shard *shard, uint32_t fragment, const void *key,
                        size_t key_bytes, bool *ret_found)
{
    const struct mr_slot *slots = shard->slots;
    uint32_t i = mr__table_home(shard, fragment);
    uint32_t from;

    while (slots[i].ref != 0 && slots[i].fragment < fragment)
        i++;
    for (from = i; slots[i].ref != 0 && slots[i].fragment == fragment; i++) {
        if (mr__entry_has_key(mr__entry_at(shard, slots[i].ref), key, key_bytes)) {
            *ret_found = true;
            return i;
        }
    }
    *ret_found = false;
    return i == from ? i : place_among_equals(shard, i, key, key_bytes);
}

uint32_t mr__table_slot_of(const struct mr_shard *shard, uint32_t fragment, uint32_t ref)
{
    uint32_t i = mr__table_home(shard, fragment);

    while (shard->slots[i].ref != ref) {
        MR_ASSERT(shard->slots[i].ref != 0 && shard->slots[i].fragment <= fragment);
        i++;
    }
    return i;
}

/*
 * Moves everything into a table of 2^bits homes. False without memory, or when it does not fit
 * (*ret_crowded).
 */
static bool rebuild(struct mr_shard *shard, unsigned bits, bool *ret_crowded)
{
    uint32_t capacity = (uint32_t)1 << bits;
    uint32_t slot_count = capacity + MR_MIN(capacity, (uint32_t)SLACK_MAX) + 1;
    struct mr_slot *slots = mr__state_alloc_zero((size_t)slot_count * sizeof(*slots));
    uint32_t next = 0;

    *ret_crowded = false;
    if (slots == NULL)
        return false;
    for (uint32_t i = 0; i + 1 < shard->slot_count; i++) {
        if (shard->slots[i].ref == 0)
            continue;
        next = MR_MAX(next, shard->slots[i].fragment << MR_SHARD_BITS >> (32 - bits));
        if (next + 1 >= slot_count) {
            *ret_crowded = true;
            mr__state_free(slots);
            return false;
        }
        slots[next++] = shard->slots[i];
    }
    mr__state_free(shard->slots);
    shard->slots = slots;
    shard->slot_count = slot_count;
    shard->capacity_bits = bits;
    return true;
}

enum mr_status mr__table_resize(struct mr_shard *shard, unsigned bits, struct mr_error *err)
{
    bool crowded = true;

    for (; bits <= MR_TABLE_BITS_MAX && crowded; bits++) {
        if (rebuild(shard, bits, &crowded))
            return MR_OK;
    }
    if (crowded)
        return MR_FAIL(err, MR_LIMIT, "cannot put into state '%s': its table is full", shard->name);
    return mr__state_no_memory("put into", shard->name, err);
}

bool mr__table_is_full(const struct mr_shard *shard, uint64_t more)
{
    return shard->slots == NULL ||
           shard->used_slots + more > ((uint64_t)3 << shard->capacity_bits) / 4;
}

enum mr_status mr__table_grow(struct mr_shard *shard, struct mr_error *err)
{
    mr__spill_tick();
    if (!mr__table_is_full(shard, 1))
        return MR_OK;
    return mr__table_resize(
        shard, shard->slots == NULL ? MR_TABLE_BITS_MIN : shard->capacity_bits + 1, err);
}

/* Puts a slot before position i by shifting up to the next gap. */
enum mr_status mr__table_insert(struct mr_shard *shard, uint32_t i, struct mr_slot slot,
                                struct mr_error *err)
{
    uint32_t gap = i;

    while (shard->slots[gap].ref != 0)
        gap++;
    if (gap + 1 >= shard->slot_count) { /* the end mark must stay empty */
        const struct mr_entry *entry = mr__entry_at(shard, slot.ref);
        bool found = false;

        MR_TRY(mr__table_resize(shard, shard->capacity_bits + 1, err));
        i = mr__table_find(shard, slot.fragment, entry->bytes, mr__entry_key_bytes(entry), &found);
        return mr__table_insert(shard, i, slot, err);
    }
    memmove(&shard->slots[i + 1], &shard->slots[i], (gap - i) * sizeof(*shard->slots));
    shard->slots[i] = slot;
    shard->used_slots++;
    return MR_OK;
}

void mr__table_remove(struct mr_shard *shard, uint32_t i)
{
    uint32_t end = i + 1;

    while (shard->slots[end].ref != 0 && mr__table_home(shard, shard->slots[end].fragment) < end)
        end++;
    memmove(&shard->slots[i], &shard->slots[i + 1], (end - i - 1) * sizeof(*shard->slots));
    shard->slots[end - 1] = (struct mr_slot){0, 0};
    shard->used_slots--;
}
enum mr_status mr__table_add(struct mr_shard *shard, uint32_t i, uint32_t fragment, const void *key,
                             size_t key_bytes, size_t value_bytes, unsigned flags,
                             uint32_t *ret_ref, struct mr_error *err)
{
    enum mr_status status;

    MR_TRY(mr__entry_make(shard, key, key_bytes, value_bytes, value_bytes, flags, ret_ref, err));
    status = mr__table_insert(shard, i, (struct mr_slot){fragment, *ret_ref}, err);
    if (status != MR_OK) {
        mr__entry_free(shard, *ret_ref);
        return status;
    }
    shard->live_count++;
    return MR_OK;
}

/*
 * Many keys went: a smaller table makes scans short again. Not finding memory for it is no failure.
 */
void mr__table_shrink(struct mr_shard *shard)
{
    unsigned bits = shard->capacity_bits;
    bool crowded = false;

    while (bits > MR_TABLE_BITS_MIN && shard->used_slots < ((uint64_t)1 << bits) / 8)
        bits--;
    if (shard->slots != NULL && bits + 1 < shard->capacity_bits)
        (void)rebuild(shard, bits + 1, &crowded);
}

/* Copies an entry into another slab; the class stays. */
static bool move_entry(const struct mr_shard *shard, struct mr_slot *slot, struct mr_slab *slab)
{
    const struct mr_entry *entry = mr__entry_at(shard, slot->ref);
    size_t bytes = MR_ENTRY_HEADER_BYTES + mr__entry_key_bytes(entry) + entry->value_bytes;
    uint32_t ref = 0;

    if (!mr__slab_alloc(slab, mr__entry_class(entry), &ref))
        return false;
    memcpy(mr__slab_at(slab, ref), entry, bytes);
    slot->ref = ref;
    return true;
}

/*
 * The refs of the slots are all there is to an entry's place while nothing is in flight. They are
 * changed in a copy of the slots, so that running out of memory half way changes nothing.
 */
void mr__table_tidy(struct mr_shard *shard)
{
    enum { AHEAD = 24 };
    struct mr_slot *slots = mr__state_alloc((size_t)shard->slot_count * sizeof(*slots));
    struct mr_slab slab = {0};
    bool moved = slots != NULL;

    MR_ASSERT(shard->change_count == 0);
    if (moved)
        memcpy(slots, shard->slots, (size_t)shard->slot_count * sizeof(*slots));
    for (uint32_t i = 0; moved && i + 1 < shard->slot_count; i++) {
        if (i + AHEAD < shard->slot_count && slots[i + AHEAD].ref != 0)
            __builtin_prefetch(mr__entry_at(shard, slots[i + AHEAD].ref));
        if (slots[i].ref != 0)
            moved = move_entry(shard, &slots[i], &slab);
    }
    mr__slab_release(moved ? &shard->slab : &slab);
    mr__state_free(moved ? shard->slots : slots);
    if (moved) {
        shard->slab = slab;
        shard->slots = slots;
    }
    shard->loose_count = 0; /* without memory: later */
    shard->scan_count = 0;
}
