/*
 * The index behind due.h: a binary heap a shard, checked against the store as entries come up.
 *
 *     take    pop what is early enough; time in the store: none -> drop
 *                                                          later -> push back with that time
 *                                                          due   -> list
 *
 * A heap that has seen twice as many entries as its shard has keys is built again, so what is out
 * of date never takes more memory than what is not.
 *
 * Called by groups_op.c and transform_op.c. Invariant: entries[i].time >= entries[(i - 1) / 2].time
 */
#include "streams/due.h"

#include "base/check.h"

#include <stdlib.h>
#include <string.h>

enum { REBUILD_MIN = 4096 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot note when a key is due: out of memory");
}

static void heap_clear(struct mr_due_heap *heap)
{
    heap->count = heap->made = 0;
    mr_arena_clear(&heap->arena);
}

void mr_due_release(struct mr_due *due)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        mr_free(due->heaps[shard].entries);
        mr_arena_release(&due->heaps[shard].arena);
    }
    *due = (struct mr_due){0};
}

void mr_due_forget(struct mr_due *due)
{
    due->built = false;
}

static bool room(struct mr_due_entry **entries, size_t count, size_t *capacity)
{
    size_t more = *capacity == 0 ? 16 : *capacity * 2;
    struct mr_due_entry *grown;

    if (count < *capacity)
        return true;
    grown = mr_realloc(NULL, *entries, more * sizeof(*grown));
    if (grown == NULL)
        return false;
    *entries = grown;
    *capacity = more;
    return true;
}

/* ---- heap ---- */

static enum mr_status push(struct mr_due_heap *heap, struct mr_due_entry entry,
                           struct mr_error *err)
{
    size_t at = heap->count;

    if (!room(&heap->entries, heap->count, &heap->capacity))
        return no_memory(err);
    heap->count++;
    for (; at > 0 && heap->entries[(at - 1) / 2].time > entry.time; at = (at - 1) / 2)
        heap->entries[at] = heap->entries[(at - 1) / 2];
    heap->entries[at] = entry;
    return MR_OK;
}

static struct mr_due_entry pop(struct mr_due_heap *heap)
{
    struct mr_due_entry top = heap->entries[0];
    struct mr_due_entry last = heap->entries[--heap->count];
    size_t at = 0;

    for (size_t child = 1; child < heap->count; child = 2 * at + 1) {
        if (child + 1 < heap->count && heap->entries[child + 1].time < heap->entries[child].time)
            child++;
        if (heap->entries[child].time >= last.time)
            break;
        heap->entries[at] = heap->entries[child];
        at = child;
    }
    heap->entries[at] = last;
    return top;
}

static int64_t time_of(const char *value, size_t value_bytes)
{
    int64_t time = MR_DUE_NEVER;

    if (value_bytes >= sizeof(time))
        memcpy(&time, value, sizeof(time));
    return time;
}

int64_t mr_due_time(const struct mr_store *store, const char *key, size_t key_bytes)
{
    const char *value = NULL;
    size_t value_bytes = 0;

    if (!mr_store_get(store, key, key_bytes, &value, &value_bytes))
        return MR_DUE_NEVER;
    return time_of(value, value_bytes);
}

/* ---- building ---- */

struct build {
    struct mr_due_heap *heap;
    enum mr_status status;
    struct mr_error *err;
};

static bool build_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                        void *arg)
{
    struct build *build = arg;
    struct mr_due_entry entry = {time_of(value, value_bytes), NULL, key_bytes};

    if (key_bytes == 0 || entry.time == MR_DUE_NEVER)
        return true; /* the empty key is the mark of the first batch */
    entry.key = mr_arena_copy(&build->heap->arena, key, key_bytes);
    build->status =
        entry.key != NULL ? push(build->heap, entry, build->err) : no_memory(build->err);
    return build->status == MR_OK;
}

static enum mr_status build_shard(struct mr_due *due, const struct mr_store *store, unsigned shard,
                                  struct mr_error *err)
{
    struct build build = {&due->heaps[shard], MR_OK, err};

    heap_clear(build.heap);
    (void)mr_store_scan_shard(store, shard, build_entry, &build);
    return build.status;
}

enum mr_status mr_due_build(struct mr_due *due, const struct mr_store *store, struct mr_error *err)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        uint64_t keys = mr_store_shard_count(store, shard);

        if (!due->built || due->heaps[shard].made > REBUILD_MIN + 2 * keys)
            MR_TRY(build_shard(due, store, shard, err));
    }
    due->built = true;
    return MR_OK;
}

enum mr_status mr_due_note(struct mr_due *due, unsigned shard, int64_t time, const char *key,
                           size_t key_bytes, struct mr_error *err)
{
    struct mr_due_heap *heap = &due->heaps[shard];
    struct mr_due_entry entry = {time, NULL, key_bytes};

    MR_ASSERT(time != MR_DUE_NEVER);
    entry.key = mr_arena_copy(&heap->arena, key, key_bytes);
    if (entry.key == NULL)
        return no_memory(err);
    heap->made++;
    return push(heap, entry, err);
}

/* ---- what is due ---- */

static int compare_keys(const struct mr_due_entry *a, const struct mr_due_entry *b)
{
    size_t common = MR_MIN(a->key_bytes, b->key_bytes);
    int order = common == 0 ? 0 : memcmp(a->key, b->key, common);

    return order != 0 ? order : (a->key_bytes > b->key_bytes) - (a->key_bytes < b->key_bytes);
}

static int compare_entries(const void *a_pointer, const void *b_pointer)
{
    const struct mr_due_entry *a = a_pointer, *b = b_pointer;

    if (a->time != b->time)
        return a->time < b->time ? -1 : 1;
    return compare_keys(a, b);
}

void mr_due_list_sort(struct mr_due_list *list)
{
    size_t kept = 0;

    if (list->count < 2)
        return;
    qsort(list->entries, list->count, sizeof(*list->entries), compare_entries);
    for (size_t i = 1; i < list->count; i++) {
        if (compare_entries(&list->entries[kept], &list->entries[i]) != 0)
            list->entries[++kept] = list->entries[i];
    }
    list->count = kept + 1;
}

enum mr_status mr_due_list_add(struct mr_due_list *list, const struct mr_due_entry *entry,
                               struct mr_error *err)
{
    if (!room(&list->entries, list->count, &list->capacity))
        return no_memory(err);
    list->entries[list->count++] = *entry;
    return MR_OK;
}

void mr_due_list_release(struct mr_due_list *list)
{
    mr_free(list->entries);
    mr_arena_release(&list->arena);
    *list = (struct mr_due_list){0};
}

/* The top of the heap is early enough: what does the store say? */
static enum mr_status take_top(struct mr_due_heap *heap, const struct mr_store *store,
                               int64_t before, struct mr_due_list *list, struct mr_error *err)
{
    struct mr_due_entry entry = pop(heap);

    entry.time = mr_due_time(store, entry.key, entry.key_bytes);
    if (entry.time == MR_DUE_NEVER)
        return MR_OK;
    if (entry.time >= before)
        return push(heap, entry, err);
    entry.key = mr_arena_copy(&list->arena, entry.key, entry.key_bytes);
    return entry.key != NULL ? mr_due_list_add(list, &entry, err) : no_memory(err);
}

enum mr_status mr_due_take(struct mr_due *due, const struct mr_store *store, unsigned shard,
                           int64_t before, struct mr_due_list *list, struct mr_error *err)
{
    struct mr_due_heap *heap = &due->heaps[shard];

    MR_ASSERT(due->built);
    while (heap->count > 0 && heap->entries[0].time < before)
        MR_TRY(take_top(heap, store, before, list, err));
    return MR_OK;
}

enum mr_status mr_due_settle(struct mr_due *due, const struct mr_store *store,
                             const struct mr_due_list *list, struct mr_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct mr_due_entry *entry = &list->entries[i];
        int64_t time = mr_due_time(store, entry->key, entry->key_bytes);
        unsigned shard = mr_store_shard(mr_store_hash(store, entry->key, entry->key_bytes));

        if (time != MR_DUE_NEVER)
            MR_TRY(mr_due_note(due, shard, time, entry->key, entry->key_bytes, err));
    }
    return MR_OK;
}

/* The earliest entry of a heap that agrees with the store. */
static enum mr_status heap_next(struct mr_due_heap *heap, const struct mr_store *store,
                                int64_t *ret_time, struct mr_error *err)
{
    while (heap->count > 0) {
        struct mr_due_entry entry = heap->entries[0];
        int64_t time = mr_due_time(store, entry.key, entry.key_bytes);

        if (time == entry.time) {
            *ret_time = time;
            return MR_OK;
        }
        (void)pop(heap);
        entry.time = time;
        if (time != MR_DUE_NEVER)
            MR_TRY(push(heap, entry, err));
    }
    *ret_time = MR_DUE_NEVER;
    return MR_OK;
}

enum mr_status mr_due_next(struct mr_due *due, const struct mr_store *store, int64_t *ret_time,
                           struct mr_error *err)
{
    int64_t least = MR_DUE_NEVER;

    MR_TRY(mr_due_build(due, store, err));
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        int64_t time = MR_DUE_NEVER;

        MR_TRY(heap_next(&due->heaps[shard], store, &time, err));
        least = MR_MIN(least, time);
    }
    *ret_time = least;
    return MR_OK;
}
