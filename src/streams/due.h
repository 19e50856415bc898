/*
 * Which keys of a store are due: an index in memory over values that begin with a time.
 *
 *     store   key -> time i64 (little-endian; MR_DUE_NEVER: none) | anything
 *     index   per shard a heap of (time or earlier, key)
 *
 * Every key with a time has at least one entry at or before it. An entry may be too early, or of a
 * key that is gone: it is compared with the store when it comes up. So a key whose time moves ahead
 * with every batch costs one entry, and expiry costs what is due, not what is there.
 *
 * Thread: a shard's heap belongs to whoever has the shard; init, next: driver.
 */
#ifndef MR_STREAMS_DUE_H
#define MR_STREAMS_DUE_H

#include "base/alloc.h"
#include "state/state.h"

#define MR_DUE_NEVER INT64_MAX

struct mr_due_entry {
    int64_t time;
    const char *key; /* in the shard's arena */
    size_t key_bytes;
};

struct mr_due_heap {
    struct mr_due_entry *entries;
    size_t count;
    size_t capacity;
    size_t made; /* entries since the heap was built: their keys fill the arena */
    struct mr_arena arena;
};

struct mr_due {
    struct mr_due_heap heaps[MR_STORE_SHARDS];
    bool built;
};

void mr_due_release(struct mr_due *due);
/* The store changed behind the index (a batch was taken back): it is built again when it is next
 * asked. */
void mr_due_forget(struct mr_due *due);
/* Before the partitions of a batch run. Reads the whole store when the index is not built. */
enum mr_status mr_due_build(struct mr_due *due, const struct mr_store *store, struct mr_error *err);

/* A key got a time that is earlier than the one it had, or its first. */
enum mr_status mr_due_note(struct mr_due *due, unsigned shard, int64_t time, const char *key,
                           size_t key_bytes, struct mr_error *err);

/* Keys whose time is before `before`, by (time in the store, key), each once; they leave the index.
 * Keys live in arena. */
struct mr_due_list {
    struct mr_due_entry *entries;
    size_t count;
    size_t capacity;
    struct mr_arena arena;
};
enum mr_status mr_due_take(struct mr_due *due, const struct mr_store *store, unsigned shard,
                           int64_t before, struct mr_due_list *list, struct mr_error *err);
/* The key is not copied. */
enum mr_status mr_due_list_add(struct mr_due_list *list, const struct mr_due_entry *entry,
                               struct mr_error *err);
void mr_due_list_sort(struct mr_due_list *list);
void mr_due_list_release(struct mr_due_list *list);
/* Puts the keys of the list that still have a time back into the index. */
enum mr_status mr_due_settle(struct mr_due *due, const struct mr_store *store,
                             const struct mr_due_list *list, struct mr_error *err);

/* The earliest time of all keys; MR_DUE_NEVER: none. */
enum mr_status mr_due_next(struct mr_due *due, const struct mr_store *store, int64_t *ret_time,
                           struct mr_error *err);

/* The time of a key in the store. */
int64_t mr_due_time(const struct mr_store *store, const char *key, size_t key_bytes);

#endif
