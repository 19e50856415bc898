/*
 * Rows of a join in memory: per partition a table of blocks of rows, a hash table of keys, a heap
 * of blocks by time.
 *
 *     keys:   hash -> { left: head..tail, right: head..tail }
 *     blocks: [columns in the store | per row: next, prev in the chain of the key, flags]
 *     row     block << 10 | place in the block
 *
 * A chain is in the order of rows in their blocks, blocks in the order of their numbers, which is
 * the order in which rows came: pairs come out in the same order after a restart. The heap has a
 * block by the first of its rows that expires; when that time has come its rows are gone through,
 * and it comes back with the time of the next one.
 *
 * Thread: a partition is one worker's at a time.
 */
#include "ops/join_internal.h"

#include <stdlib.h>

enum mr_status mr_join__no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot join a batch: out of memory; make batches smaller");
}

/* ---- keys ---- */

static bool same_key(const struct mr_join *join, const struct mr_join_part *part,
                     const struct mr_join_key *key, unsigned side, const struct mr_join_in *in)
{
    unsigned of = key->head[0] != MR_JOIN_NO_ROW ? 0 : 1;
    struct mr_join_ref row = mr_join__ref(part, of, key->head[of]);

    return mr_join__equal(join, of, row.held, row.at, side, in->held, in->at);
}

uint32_t mr_join__find_key(const struct mr_join *join, const struct mr_join_part *part,
                           unsigned side, const struct mr_join_in *in)
{
    const struct mr_join_keys *keys = &part->keys;

    if (keys->live == 0)
        return MR_JOIN_NO_ROW;
    for (uint32_t slot = (uint32_t)in->hash & keys->slot_mask; keys->slots[slot] != 0;
         slot = (slot + 1) & keys->slot_mask) {
        const struct mr_join_key *key = &keys->keys[keys->slots[slot] - 1];

        if (key->hash == (uint32_t)in->hash && same_key(join, part, key, side, in))
            return keys->slots[slot] - 1;
    }
    return MR_JOIN_NO_ROW;
}

void mr_join__hint(const struct mr_join_part *part, unsigned side, uint64_t hash, unsigned step)
{
    const struct mr_join_keys *keys = &part->keys;
    uint32_t slot = (uint32_t)hash & keys->slot_mask;
    uint32_t row;

    if (keys->live == 0)
        return;
    if (step == 0) {
        __builtin_prefetch(&keys->slots[slot]);
        return;
    }
    if (keys->slots[slot] == 0)
        return;
    if (step == 1) {
        __builtin_prefetch(&keys->keys[keys->slots[slot] - 1]);
        return;
    }
    for (unsigned of = 0; of < 2; of++) {
        row = keys->keys[keys->slots[slot] - 1].head[of];
        if (row != MR_JOIN_NO_ROW && (of == 0 || of != side))
            __builtin_prefetch(&mr_join__block(part, of, row)->links[mr_join__place(row)]);
    }
}

static bool grow_slots(struct mr_join_keys *keys)
{
    uint32_t size = keys->slots == NULL ? 64 : (keys->slot_mask + 1) * 2;
    uint32_t *slots;

    if (size > UINT32_C(1) << 31)
        return false;
    slots = mr_alloc_zero(NULL, (size_t)size * sizeof(*slots));
    if (slots == NULL)
        return false;
    for (uint32_t i = 0; keys->slots != NULL && i <= keys->slot_mask; i++) {
        uint32_t slot;

        if (keys->slots[i] == 0)
            continue;
        slot = keys->keys[keys->slots[i] - 1].hash & (size - 1);
        while (slots[slot] != 0)
            slot = (slot + 1) & (size - 1);
        slots[slot] = keys->slots[i];
    }
    mr_free(keys->slots);
    keys->slots = slots;
    keys->slot_mask = size - 1;
    return true;
}

static enum mr_status add_key(struct mr_join_keys *keys, uint32_t hash, uint32_t *ret_key,
                              struct mr_error *err)
{
    uint32_t slot;
    uint32_t key = keys->free;

    if ((keys->slots == NULL || keys->live >= keys->slot_mask / 2) && !grow_slots(keys))
        return mr_join__no_memory(err);
    if (key != MR_JOIN_NO_ROW) {
        keys->free = keys->keys[key].head[0];
    } else {
        if (keys->count == keys->capacity) {
            uint32_t capacity = keys->capacity == 0 ? 64 : keys->capacity * 2;
            struct mr_join_key *grown =
                mr_realloc(NULL, keys->keys, (size_t)capacity * sizeof(*grown));

            if (grown == NULL || capacity > UINT32_C(1) << 31)
                return mr_join__no_memory(err);
            keys->keys = grown;
            keys->capacity = capacity;
        }
        key = keys->count++;
    }
    keys->live++;
    keys->keys[key] = (struct mr_join_key){
        hash, {MR_JOIN_NO_ROW, MR_JOIN_NO_ROW}, {MR_JOIN_NO_ROW, MR_JOIN_NO_ROW}};
    slot = hash & keys->slot_mask;
    while (keys->slots[slot] != 0)
        slot = (slot + 1) & keys->slot_mask;
    keys->slots[slot] = key + 1;
    *ret_key = key;
    return MR_OK;
}

/* Closes the gap that a key leaves: the ones behind it move up as far as their own place. */
static void remove_key(struct mr_join_keys *keys, uint32_t key)
{
    uint32_t mask = keys->slot_mask;
    uint32_t gap = keys->keys[key].hash & mask;

    while (keys->slots[gap] != key + 1)
        gap = (gap + 1) & mask;
    for (uint32_t at = (gap + 1) & mask; keys->slots[at] != 0; at = (at + 1) & mask) {
        uint32_t home = keys->keys[keys->slots[at] - 1].hash & mask;

        if (((at - home) & mask) < ((at - gap) & mask))
            continue;
        keys->slots[gap] = keys->slots[at];
        gap = at;
    }
    keys->slots[gap] = 0;
    keys->keys[key].head[0] = keys->free;
    keys->free = key;
    keys->live--;
}

/* ---- heap ---- */

static bool is_before(const struct mr_join_due *a, const struct mr_join_due *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->number < b->number;
}

static bool push_due(struct mr_join_rows *side, struct mr_join_due due)
{
    size_t at = side->heap_count;

    if (side->heap_count == side->heap_capacity) {
        size_t capacity = side->heap_capacity == 0 ? 64 : side->heap_capacity * 2;
        struct mr_join_due *grown = mr_realloc(NULL, side->heap, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        side->heap = grown;
        side->heap_capacity = capacity;
    }
    side->heap_count++;
    while (at > 0 && is_before(&due, &side->heap[(at - 1) / 2])) {
        side->heap[at] = side->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    side->heap[at] = due;
    return true;
}

static void pop_due(struct mr_join_rows *side)
{
    struct mr_join_due last = side->heap[--side->heap_count];
    size_t count = side->heap_count;
    size_t at = 0;

    while (2 * at + 1 < count) {
        size_t child = 2 * at + 1;

        if (child + 1 < count && is_before(&side->heap[child + 1], &side->heap[child]))
            child++;
        if (!is_before(&side->heap[child], &last))
            break;
        side->heap[at] = side->heap[child];
        at = child;
    }
    if (count > 0)
        side->heap[at] = last;
}

/* Drops entries of blocks that are gone from the top. */
static void settle(struct mr_join_rows *side)
{
    while (side->heap_count > 0) {
        const struct mr_join_block *block = side->blocks[side->heap[0].slot];

        if (block != NULL && block->number == side->heap[0].number &&
            block->due_us == side->heap[0].time_us)
            return;
        pop_due(side);
    }
}

int64_t mr_join__first_due(struct mr_join_part *part, unsigned side)
{
    settle(&part->side[side]);
    return part->side[side].heap_count > 0 ? part->side[side].heap[0].time_us : MR_JOIN_NO_TIME;
}

static bool list_room(struct mr_join_list *list, size_t capacity)
{
    uint32_t *grown;

    if (capacity <= list->capacity)
        return true;
    grown = mr_realloc(NULL, list->rows, capacity * sizeof(*grown));
    if (grown == NULL)
        return false;
    list->rows = grown;
    list->capacity = capacity;
    return true;
}

enum mr_status mr_join__list_add(struct mr_join_list *list, uint32_t row, struct mr_error *err)
{
    if (list->count == list->capacity &&
        !list_room(list, list->capacity == 0 ? 64 : list->capacity * 2))
        return mr_join__no_memory(err);
    list->rows[list->count++] = row;
    return MR_OK;
}

static int by_number(const void *a, const void *b, void *arg)
{
    struct mr_join_block *const *blocks = arg;
    uint64_t one = blocks[*(const uint32_t *)a]->number;
    uint64_t two = blocks[*(const uint32_t *)b]->number;

    return one < two ? -1 : one > two;
}

/* Its rows that expire at or below *until_us, NULL = none, go to the list. */
static enum mr_status expire_block(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   struct mr_join_block *block, const int64_t *until_us,
                                   struct mr_error *err)
{
    int64_t next_us = MR_JOIN_NO_TIME;

    for (uint32_t at = 0; at < block->rows; at++) {
        int64_t time_us;

        if ((block->flags[at] & MR_JOIN_LIVE) == 0)
            continue;
        time_us = mr_join__time(join, side, &join->expiry[side], &block->held, at);
        if (until_us != NULL && time_us <= *until_us && time_us != MR_JOIN_NO_TIME)
            MR_TRY(mr_join__list_add(&part->list, block->slot << MR_JOIN_BLOCK_BITS | at, err));
        else
            next_us = MR_MIN(next_us, time_us);
    }
    block->due_us = next_us;
    if (next_us != MR_JOIN_NO_TIME &&
        !push_due(&part->side[side], (struct mr_join_due){next_us, block->number, block->slot}))
        return mr_join__no_memory(err);
    return MR_OK;
}

enum mr_status mr_join__block_due(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                  struct mr_join_block *block, struct mr_error *err)
{
    if (join->expiry[side].column < 0)
        return MR_OK;
    return expire_block(join, part, side, block, NULL, err);
}

/* The blocks that are due, then their rows behind them, of which the list consists in the end. */
enum mr_status mr_join__expired(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                int64_t until_us, struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];
    size_t blocks;

    part->list.count = 0;
    for (settle(rows); rows->heap_count > 0 && rows->heap[0].time_us <= until_us; settle(rows)) {
        struct mr_join_block *block = rows->blocks[rows->heap[0].slot];

        MR_TRY(mr_join__list_add(&part->list, block->slot, err));
        pop_due(rows);
        block->due_us = MR_JOIN_NO_TIME; /* not twice */
    }
    blocks = part->list.count;
    if (blocks > 1)
        qsort_r(part->list.rows, blocks, sizeof(*part->list.rows), by_number, rows->blocks);
    for (size_t i = 0; i < blocks; i++)
        MR_TRY(expire_block(join, part, side, rows->blocks[part->list.rows[i]], &until_us, err));
    part->list.count -= blocks;
    if (part->list.count > 0)
        memmove(part->list.rows, part->list.rows + blocks,
                part->list.count * sizeof(*part->list.rows));
    return MR_OK;
}

/* ---- blocks ---- */

static enum mr_status take_slot(struct mr_join_rows *side, uint32_t *ret_slot, struct mr_error *err)
{
    if (side->free.count > 0) {
        *ret_slot = side->free.rows[--side->free.count];
        return MR_OK;
    }
    if (side->count == side->capacity) {
        uint32_t capacity = side->capacity == 0 ? 16 : side->capacity * 2;
        struct mr_join_block **grown =
            mr_realloc(NULL, side->blocks, (size_t)capacity * sizeof(struct mr_join_block *));

        if (grown == NULL)
            return mr_join__no_memory(err);
        side->blocks = grown;
        if (!list_room(&side->free, capacity)) /* so that giving a slot back cannot fail */
            return mr_join__no_memory(err);
        side->capacity = capacity;
    }
    if (side->count >= MR_JOIN_NO_ROW >> MR_JOIN_BLOCK_BITS)
        return MR_FAIL(err, MR_LIMIT, "cannot join: more than %u blocks of rows in one state",
                       MR_JOIN_NO_ROW >> MR_JOIN_BLOCK_BITS);
    *ret_slot = side->count++;
    return MR_OK;
}

/* Into its place by number, which is the end, unless it takes over from others. */
static void link_block(struct mr_join_rows *side, struct mr_join_block *block)
{
    uint32_t before = side->last;

    while (before != MR_JOIN_NO_ROW && side->blocks[before]->number > block->number)
        before = side->blocks[before]->before;
    block->before = before;
    block->after = before != MR_JOIN_NO_ROW ? side->blocks[before]->after : side->first;
    if (block->before != MR_JOIN_NO_ROW)
        side->blocks[block->before]->after = block->slot;
    else
        side->first = block->slot;
    if (block->after != MR_JOIN_NO_ROW)
        side->blocks[block->after]->before = block->slot;
    else
        side->last = block->slot;
}

/* One piece of memory: the block, its columns, the links of its rows, their flags. */
enum mr_status mr_join__block_new(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                  uint64_t number, uint32_t rows, struct mr_join_block **ret_block,
                                  struct mr_error *err)
{
    struct mr_join_rows *of = &part->side[side];
    size_t columns = mr_schema_field_count(join->schema[side]);
    size_t packed_bytes = columns * sizeof(struct mr_join_packed);
    size_t links_bytes = rows * sizeof(struct mr_join_link);
    struct mr_join_block *block =
        mr_alloc_zero(NULL, sizeof(*block) + packed_bytes + links_bytes + rows);
    uint32_t slot = 0;
    enum mr_status status;

    MR_ASSERT(rows > 0 && rows <= MR_JOIN_BLOCK_ROWS);
    if (block == NULL)
        return mr_join__no_memory(err);
    status = take_slot(of, &slot, err);
    if (status != MR_OK) {
        mr_free(block);
        return status;
    }
    block->held.packed = (struct mr_join_packed *)(void *)(block + 1);
    block->links = (struct mr_join_link *)(void *)((char *)(block + 1) + packed_bytes);
    block->flags = (uint8_t *)(void *)((char *)block->links + links_bytes);
    block->number = number;
    block->due_us = MR_JOIN_NO_TIME;
    block->run = part->run;
    block->slot = slot;
    block->rows = rows;
    of->blocks[slot] = block;
    of->held += rows;
    link_block(of, block);
    *ret_block = block;
    return MR_OK;
}

static void free_block(struct mr_join_block *block)
{
    if (block == NULL)
        return;
    mr_batch_unref(block->held.batch);
    mr_free((void *)(uintptr_t)block->held.columns);
    mr_free(block->row_numbers);
    mr_free(block);
}

void mr_join__block_free(struct mr_join_part *part, unsigned side, struct mr_join_block *block)
{
    struct mr_join_rows *of = &part->side[side];

    if (block->before != MR_JOIN_NO_ROW)
        of->blocks[block->before]->after = block->after;
    else
        of->first = block->after;
    if (block->after != MR_JOIN_NO_ROW)
        of->blocks[block->after]->before = block->before;
    else
        of->last = block->before;
    of->held -= block->rows;
    of->blocks[block->slot] = NULL;
    MR_ASSERT(of->free.count < of->free.capacity);
    of->free.rows[of->free.count++] = block->slot;
    free_block(block);
}

/* ---- rows ---- */

static void link_row(struct mr_join_part *part, unsigned side, uint32_t row, uint32_t key)
{
    struct mr_join_key *entry = &part->keys.keys[key];
    struct mr_join_link *link = mr_join__link(part, side, row);

    *link = (struct mr_join_link){MR_JOIN_NO_ROW, entry->tail[side], key};
    if (entry->tail[side] != MR_JOIN_NO_ROW)
        mr_join__link(part, side, entry->tail[side])->next = row;
    else
        entry->head[side] = row;
    entry->tail[side] = row;
}

enum mr_status mr_join__add_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                struct mr_join_block *block, uint32_t at,
                                const struct mr_join_in *in, struct mr_error *err)
{
    uint32_t key = MR_JOIN_NO_ROW;

    block->links[at] = (struct mr_join_link){MR_JOIN_NO_ROW, MR_JOIN_NO_ROW, MR_JOIN_NO_ROW};
    if (in->fate == MR_JOIN_SEARCHES) {
        key = in->key != MR_JOIN_NO_ROW ? in->key : mr_join__find_key(join, part, side, in);
        if (key == MR_JOIN_NO_ROW)
            MR_TRY(add_key(&part->keys, (uint32_t)in->hash, &key, err));
        link_row(part, side, block->slot << MR_JOIN_BLOCK_BITS | at, key);
    }
    block->flags[at] = (uint8_t)(MR_JOIN_LIVE | (in->matched ? MR_JOIN_MATCHED : 0));
    block->live++;
    part->side[side].live++;
    return MR_OK;
}

void mr_join__remove_row(struct mr_join_part *part, unsigned side, uint32_t row)
{
    struct mr_join_block *block = mr_join__block(part, side, row);
    struct mr_join_link *link = mr_join__link(part, side, row);

    if (link->key != MR_JOIN_NO_ROW) {
        struct mr_join_key *key = &part->keys.keys[link->key];

        if (link->prev != MR_JOIN_NO_ROW)
            mr_join__link(part, side, link->prev)->next = link->next;
        else
            key->head[side] = link->next;
        if (link->next != MR_JOIN_NO_ROW)
            mr_join__link(part, side, link->next)->prev = link->prev;
        else
            key->tail[side] = link->prev;
        if (key->head[0] == MR_JOIN_NO_ROW && key->head[1] == MR_JOIN_NO_ROW)
            remove_key(&part->keys, link->key);
    }
    block->flags[mr_join__place(row)] = 0;
    block->live--;
    part->side[side].live--;
}

void mr_join__move_row(struct mr_join_part *part, unsigned side, uint32_t from, uint32_t to)
{
    struct mr_join_block *old = mr_join__block(part, side, from);
    struct mr_join_block *block = mr_join__block(part, side, to);
    struct mr_join_link *link = mr_join__link(part, side, to);

    *link = *mr_join__link(part, side, from);
    if (link->key != MR_JOIN_NO_ROW) {
        struct mr_join_key *key = &part->keys.keys[link->key];

        if (link->prev != MR_JOIN_NO_ROW)
            mr_join__link(part, side, link->prev)->next = to;
        else
            key->head[side] = to;
        if (link->next != MR_JOIN_NO_ROW)
            mr_join__link(part, side, link->next)->prev = to;
        else
            key->tail[side] = to;
    }
    block->flags[mr_join__place(to)] = old->flags[mr_join__place(from)];
    old->flags[mr_join__place(from)] = 0;
    block->live++;
    old->live--;
}

void mr_join__part_clear(struct mr_join_part *part)
{
    struct mr_join_keys *keys = &part->keys;

    keys->count = keys->live = 0;
    keys->free = MR_JOIN_NO_ROW;
    if (keys->slots != NULL)
        memset(keys->slots, 0, ((size_t)keys->slot_mask + 1) * sizeof(*keys->slots));
    for (unsigned side = 0; side < 2; side++) {
        struct mr_join_rows *rows = &part->side[side];

        for (uint32_t slot = 0; slot < rows->count; slot++)
            free_block(rows->blocks[slot]);
        rows->count = 0;
        rows->live = rows->held = 0;
        rows->first = rows->last = MR_JOIN_NO_ROW;
        rows->free.count = rows->touched.count = 0;
        rows->heap_count = 0;
        rows->next_number = 0;
        part->in[side].count = 0;
    }
}

void mr_join__part_release(struct mr_join_part *part)
{
    mr_join__part_clear(part);
    mr_free(part->keys.keys);
    mr_free(part->keys.slots);
    for (unsigned side = 0; side < 2; side++) {
        mr_free(part->side[side].blocks);
        mr_free(part->side[side].heap);
        mr_free(part->side[side].free.rows);
        mr_free(part->side[side].touched.rows);
        mr_free(part->in[side].rows);
        mr_free(part->refs[side]);
    }
    mr_free(part->pairs);
    mr_free(part->keep);
    mr_free((void *)(uintptr_t)part->ins);
    mr_free(part->numbers);
    mr_free(part->list.rows);
    mr_batch_builder_free(part->builder);
    mr_batch_builder_free(part->candidates);
    mr_buf_release(&part->value);
}

/* ---- held batches ---- */

static void free_held(struct mr_join_held *held)
{
    mr_batch_unref(held->batch);
    mr_free(held->columns);
    mr_free(held);
}

enum mr_status mr_join__hold(struct mr_join *join, struct mr_batch *batch,
                             struct mr_join_held **ret_held, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));
    struct mr_join_held *held;

    if (join->held_count == join->held_capacity) {
        size_t capacity = join->held_capacity == 0 ? 64 : join->held_capacity * 2;
        struct mr_join_held **grown = mr_realloc(NULL, join->held, capacity * sizeof(*grown));

        if (grown == NULL)
            return mr_join__no_memory(err);
        join->held = grown;
        join->held_capacity = capacity;
    }
    held = mr_alloc_zero(NULL, sizeof(*held));
    if (held == NULL)
        return mr_join__no_memory(err);
    held->columns = mr_alloc(NULL, (count + 1) * sizeof(*held->columns));
    if (held->columns == NULL) {
        mr_free(held);
        return mr_join__no_memory(err);
    }
    for (uint32_t i = 0; i < count; i++)
        held->columns[i] = mr_batch_column(batch, i);
    held->batch = mr_batch_ref(batch);
    join->held[join->held_count++] = held;
    *ret_held = held;
    return MR_OK;
}

void mr_join__held_clear(struct mr_join *join)
{
    for (size_t i = 0; i < join->held_count; i++)
        free_held(join->held[i]);
    join->held_count = 0;
}
