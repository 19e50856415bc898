/*
 * Rows of a join in memory: per partition a table of rows, a hash table of keys, a heap by time;
 * for all partitions, the batches the rows live in.
 *
 *     keys: hash -> { left: head..tail, right: head..tail }
 *     rows: [held, at | next, prev in the chain of the key | number, time]
 *
 * A chain is in the order of numbers, which is the order in which rows came: pairs come out in the
 * same order after a restart. Rows are not copied: a batch stays as long as one of its rows does,
 * and when few are left, or batches are small and many, the driver merges them (tidy): the work is
 * at most a few copies of each row.
 *
 * Thread: a partition is one worker's at a time; held batches change on the driver alone, but for
 * the live counts, which each partition has of its own.
 */
#include "ops/join_internal.h"

#include <stdlib.h>

enum {
    TIDY_ROWS_MIN = 64 * 1024, /* held rows below which nothing is merged for being dead */
    TIDY_BATCHES_MIN = 256,
    MERGED_ROWS = 16 * 1024, /* of a merged batch */
};

enum mr_status mr_join__no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot join a batch: out of memory; make batches smaller");
}

/* ---- keys ---- */

static bool same_key(const struct mr_join *join, const struct mr_join_part *part,
                     const struct mr_join_key *key, unsigned side, const struct mr_join_in *in)
{
    unsigned of = key->head[0] != MR_JOIN_NO_ROW ? 0 : 1;
    const struct mr_join_row *row = &part->side[of].rows[key->head[of]];

    return mr_join__equal(join, of, row->held, row->at, side, in->held, in->at);
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

        if (key->hash == in->hash && same_key(join, part, key, side, in))
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
            __builtin_prefetch(&part->side[of].rows[row]);
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
        slot = (uint32_t)keys->keys[keys->slots[i] - 1].hash & (size - 1);
        while (slots[slot] != 0)
            slot = (slot + 1) & (size - 1);
        slots[slot] = keys->slots[i];
    }
    mr_free(keys->slots);
    keys->slots = slots;
    keys->slot_mask = size - 1;
    return true;
}

static enum mr_status add_key(struct mr_join_keys *keys, uint64_t hash, uint32_t *ret_key,
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
    slot = (uint32_t)hash & keys->slot_mask;
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
    uint32_t gap = (uint32_t)keys->keys[key].hash & mask;

    while (keys->slots[gap] != key + 1)
        gap = (gap + 1) & mask;
    for (uint32_t at = (gap + 1) & mask; keys->slots[at] != 0; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)keys->keys[keys->slots[at] - 1].hash & mask;

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

/* Drops entries of rows that are gone from the top. */
static void settle(struct mr_join_rows *side)
{
    while (side->heap_count > 0) {
        const struct mr_join_row *row = &side->rows[side->heap[0].row];

        if (row->used && row->number == side->heap[0].number)
            return;
        pop_due(side);
    }
}

int64_t mr_join__first_due(struct mr_join_part *part, unsigned side)
{
    settle(&part->side[side]);
    return part->side[side].heap_count > 0 ? part->side[side].heap[0].time_us : MR_JOIN_NO_TIME;
}

enum mr_status mr_join__list_add(struct mr_join_list *list, uint32_t row, struct mr_error *err)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        uint32_t *grown = mr_realloc(NULL, list->rows, capacity * sizeof(*grown));

        if (grown == NULL)
            return mr_join__no_memory(err);
        list->rows = grown;
        list->capacity = capacity;
    }
    list->rows[list->count++] = row;
    return MR_OK;
}

static int by_number(const void *a, const void *b, void *arg)
{
    const struct mr_join_row *rows = arg;
    uint64_t one = rows[*(const uint32_t *)a].number;
    uint64_t two = rows[*(const uint32_t *)b].number;

    return one < two ? -1 : one > two;
}

enum mr_status mr_join__expired(struct mr_join_part *part, unsigned side, int64_t until_us,
                                struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];

    part->list.count = 0;
    for (settle(rows); rows->heap_count > 0 && rows->heap[0].time_us <= until_us; settle(rows)) {
        MR_TRY(mr_join__list_add(&part->list, rows->heap[0].row, err));
        pop_due(rows);
    }
    if (part->list.count > 1)
        qsort_r(part->list.rows, part->list.count, sizeof(*part->list.rows), by_number, rows->rows);
    return MR_OK;
}

/* ---- rows ---- */

static enum mr_status take_row(struct mr_join_rows *side, uint32_t *ret_row, struct mr_error *err)
{
    if (side->free != MR_JOIN_NO_ROW) {
        *ret_row = side->free;
        side->free = side->rows[side->free].next;
        return MR_OK;
    }
    if (side->count == side->capacity) {
        uint32_t capacity = side->capacity == 0 ? 64 : side->capacity * 2;
        struct mr_join_row *grown = mr_realloc(NULL, side->rows, (size_t)capacity * sizeof(*grown));

        if (grown == NULL || capacity > UINT32_C(1) << 31)
            return mr_join__no_memory(err);
        side->rows = grown;
        side->capacity = capacity;
    }
    *ret_row = side->count++;
    return MR_OK;
}

static void give_row(struct mr_join_rows *side, uint32_t row)
{
    side->rows[row].used = false;
    side->rows[row].next = side->free;
    side->free = row;
}

static void link_row(struct mr_join_part *part, unsigned side, uint32_t row, uint32_t key)
{
    struct mr_join_row *rows = part->side[side].rows;
    struct mr_join_key *entry = &part->keys.keys[key];

    rows[row].key = key;
    rows[row].next = MR_JOIN_NO_ROW;
    rows[row].prev = entry->tail[side];
    if (entry->tail[side] != MR_JOIN_NO_ROW)
        rows[entry->tail[side]].next = row;
    else
        entry->head[side] = row;
    entry->tail[side] = row;
}

enum mr_status mr_join__add_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct mr_join_in *in, uint64_t number, uint32_t *ret_row,
                                struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];
    uint32_t key = MR_JOIN_NO_ROW;
    struct mr_join_row *row;
    uint32_t index = MR_JOIN_NO_ROW;

    MR_TRY(take_row(rows, &index, err));
    row = &rows->rows[index];
    *row = (struct mr_join_row){.held = in->held,
                                .at = in->at,
                                .number = number,
                                .matched = in->matched,
                                .key = MR_JOIN_NO_ROW,
                                .time_us = mr_join__time(&join->expiry[side], in->held, in->at)};
    if (in->fate == MR_JOIN_SEARCHES) {
        key = in->key != MR_JOIN_NO_ROW ? in->key : mr_join__find_key(join, part, side, in);
        if (key == MR_JOIN_NO_ROW && add_key(&part->keys, in->hash, &key, err) != MR_OK) {
            give_row(rows, index);
            return MR_NOMEM;
        }
        link_row(part, side, index, key);
    }
    row->used = true;
    in->held->live[part->index]++;
    rows->live++;
    *ret_row = index;
    if (row->time_us != MR_JOIN_NO_TIME &&
        !push_due(rows, (struct mr_join_due){row->time_us, number, index}))
        return mr_join__no_memory(err);
    return MR_OK;
}

void mr_join__remove_row(struct mr_join_part *part, unsigned side, uint32_t index)
{
    struct mr_join_rows *rows = &part->side[side];
    struct mr_join_row *row = &rows->rows[index];

    if (row->key != MR_JOIN_NO_ROW) {
        struct mr_join_key *key = &part->keys.keys[row->key];

        if (row->prev != MR_JOIN_NO_ROW)
            rows->rows[row->prev].next = row->next;
        else
            key->head[side] = row->next;
        if (row->next != MR_JOIN_NO_ROW)
            rows->rows[row->next].prev = row->prev;
        else
            key->tail[side] = row->prev;
        if (key->head[0] == MR_JOIN_NO_ROW && key->head[1] == MR_JOIN_NO_ROW)
            remove_key(&part->keys, row->key);
    }
    row->held->live[part->index]--;
    rows->live--;
    give_row(rows, index);
}

void mr_join__part_clear(struct mr_join_part *part)
{
    struct mr_join_keys *keys = &part->keys;

    keys->count = keys->live = 0;
    keys->free = MR_JOIN_NO_ROW;
    if (keys->slots != NULL)
        memset(keys->slots, 0, ((size_t)keys->slot_mask + 1) * sizeof(*keys->slots));
    for (unsigned side = 0; side < 2; side++) {
        part->side[side].count = 0;
        part->side[side].live = 0;
        part->side[side].free = MR_JOIN_NO_ROW;
        part->side[side].heap_count = 0;
        part->side[side].next_number = 0;
        part->in[side].count = 0;
    }
}

void mr_join__part_release(struct mr_join_part *part)
{
    mr_free(part->keys.keys);
    mr_free(part->keys.slots);
    for (unsigned side = 0; side < 2; side++) {
        mr_free(part->side[side].rows);
        mr_free(part->side[side].heap);
        mr_free(part->in[side].rows);
        mr_free(part->refs[side]);
    }
    mr_free(part->pairs);
    mr_free(part->keep);
    mr_free(part->list.rows);
    mr_free(part->fresh.rows);
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

/* Rows of one partition's side, in their chains' places, into new batches. */
static enum mr_status merge_side(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 struct mr_join_ref *refs, struct mr_error *err)
{
    struct mr_join_rows *rows = &part->side[side];
    uint32_t columns = mr_schema_field_count(join->schema[side]);
    struct mr_batch_builder *builder = NULL;
    uint32_t from = 0;
    enum mr_status status = mr_batch_builder_new(join->schema[side], &builder, err);

    while (status == MR_OK && from < rows->count) {
        struct mr_join_held *held = NULL;
        struct mr_batch *batch = NULL;
        size_t count = 0;
        uint32_t to = from;

        for (; to < rows->count && count < MERGED_ROWS; to++) {
            if (rows->rows[to].used)
                refs[count++] = (struct mr_join_ref){rows->rows[to].held, rows->rows[to].at};
        }
        for (uint32_t i = 0; i < columns && status == MR_OK; i++)
            status = mr_join__gather(mr_batch_builder_column(builder, i), refs, count, i, err);
        if (status == MR_OK)
            status = mr_batch_builder_rows_added(builder, (int64_t)count, err);
        if (status == MR_OK)
            status = mr_batch_builder_finish(builder, &batch, err);
        if (status == MR_OK)
            status = mr_join__hold(join, batch, &held, err);
        mr_batch_unref(batch);
        for (uint32_t row = from, at = 0; status == MR_OK && row < to; row++) {
            if (!rows->rows[row].used)
                continue;
            rows->rows[row].held->live[part->index]--;
            rows->rows[row].held = held;
            rows->rows[row].at = at++;
            held->live[part->index]++;
        }
        from = to;
    }
    mr_batch_builder_free(builder);
    return status;
}

/* A failure leaves some rows moved and some not, which is as good. */
static enum mr_status merge(struct mr_join *join, struct mr_error *err)
{
    struct mr_join_ref *refs = mr_alloc(NULL, MERGED_ROWS * sizeof(*refs));
    enum mr_status status = MR_OK;

    if (refs == NULL)
        return mr_join__no_memory(err);
    for (unsigned p = 0; p < MR_JOIN_PARTS && status == MR_OK; p++) {
        for (unsigned side = 0; side < 2 && status == MR_OK; side++)
            status = merge_side(join, &join->parts[p], side, refs, err);
    }
    mr_free(refs);
    return status;
}

static void free_dead(struct mr_join *join)
{
    size_t kept = 0;

    join->held_rows = 0;
    for (size_t i = 0; i < join->held_count; i++) {
        struct mr_join_held *held = join->held[i];
        uint64_t live = 0;

        for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
            live += held->live[p];
        if (live == 0) {
            free_held(held);
            continue;
        }
        join->held_rows += (uint64_t)mr_batch_row_count(held->batch);
        join->held[kept++] = held;
    }
    join->held_count = kept;
}

enum mr_status mr_join__tidy(struct mr_join *join, struct mr_error *err)
{
    uint64_t live = 0;

    free_dead(join);
    for (unsigned p = 0; p < MR_JOIN_PARTS; p++)
        live += join->parts[p].side[0].live + join->parts[p].side[1].live;
    if (join->held_rows <= 4 * live + TIDY_ROWS_MIN &&
        join->held_count <= 2 * (live / 4096) + TIDY_BATCHES_MIN)
        return MR_OK;
    MR_TRY(merge(join, err));
    free_dead(join);
    return MR_OK;
}
