/*
 * The table of one shard, shared by store.c and store_batch.c; table.c draws it.  Private to
 * src/state.  Thread: one writer, or many readers while nobody writes.
 */
#ifndef MR_STATE_TABLE_H
#define MR_STATE_TABLE_H

#include "state/internal.h"

#include <string.h>

/* What the running batch did to an entry. */
enum {
    MR_ENTRY_DIRTY = 1,
    MR_ENTRY_DELETED = 2,
    MR_ENTRY_NEW = 4,
    MR_ENTRY_SUPERSEDED = 8,
    MR_ENTRY_MASK = 15,
};
/* What a change did, in the low two bits of mr_change.undo; store.c explains them. */
enum { MR_UNDO_NEW = 0, MR_UNDO_INPLACE = 1, MR_UNDO_REPLACED = 2, MR_UNDO_MASK = 3 };

enum { MR_ENTRY_HEADER_BYTES = 8, MR_TABLE_BITS_MIN = 4, MR_TABLE_BITS_MAX = 29 };

struct mr_entry {
    uint32_t value_bytes;
    uint32_t meta; /* key size << 12 | class << 4 | flags */
    char bytes[];
};

static inline struct mr_entry *mr__entry_at(const struct mr_shard *shard, uint32_t ref)
{
    return mr__slab_at(&shard->slab, ref);
}

static inline size_t mr__entry_key_bytes(const struct mr_entry *entry)
{
    return entry->meta >> 12;
}

static inline unsigned mr__entry_class(const struct mr_entry *entry)
{
    return entry->meta >> 4 & 0xff;
}

static inline char *mr__entry_value(struct mr_entry *entry)
{
    return entry->bytes + mr__entry_key_bytes(entry);
}

static inline uint64_t mr__load_word(const char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

/* Most keys are of 8 to 16 bytes: two comparisons, without a call. */
static inline bool mr__entry_has_key(const struct mr_entry *entry, const char *key,
                                     size_t key_bytes)
{
    const char *mine = entry->bytes;

    if (mr__entry_key_bytes(entry) != key_bytes)
        return false;
    if (key_bytes - 8 > 8) /* also those of less than 8 */
        return memcmp(mine, key, key_bytes) == 0;
    return mr__load_word(mine) == mr__load_word(key) &&
           mr__load_word(mine + key_bytes - 8) == mr__load_word(key + key_bytes - 8);
}

/* memmove, without a call when it is little. */
static inline void mr__copy(char *to, const char *from, size_t size_bytes)
{
    if (size_bytes > 16) {
        memmove(to, from, size_bytes);
    } else if (size_bytes >= 8) {
        uint64_t first, last;

        memcpy(&first, from, 8);
        memcpy(&last, from + size_bytes - 8, 8);
        memcpy(to, &first, 8);
        memcpy(to + size_bytes - 8, &last, 8);
    } else if (size_bytes >= 4) {
        uint32_t first, last;

        memcpy(&first, from, 4);
        memcpy(&last, from + size_bytes - 4, 4);
        memcpy(to, &first, 4);
        memcpy(to + size_bytes - 4, &last, 4);
    } else if (size_bytes > 0) {
        char first = from[0], middle = from[size_bytes / 2], last = from[size_bytes - 1];

        to[0] = first;
        to[size_bytes / 2] = middle;
        to[size_bytes - 1] = last;
    }
}

/* Room for one more change, and for so many bytes more in the undo log; false without memory. */
bool mr__change_room(struct mr_shard *shard);
bool mr__undo_room(struct mr_shard *shard, size_t bytes);
static inline void mr__change_note(struct mr_shard *shard, uint32_t fragment, uint32_t ref,
                                   uint64_t undo)
{
    shard->changes[shard->change_count++] = (struct mr_change){fragment, ref, undo};
}

/* By key bytes. */
int mr__entry_compare(const struct mr_entry *a, const struct mr_entry *b);

/*
 * An entry with room for value_bytes (or more, when it is known to grow), holding the key; the
 * value is not set. MR_LIMIT, MR_NOMEM.
 */
enum mr_status mr__entry_make(struct mr_shard *shard, const void *key, size_t key_bytes,
                              size_t value_bytes, size_t room_bytes, unsigned flags,
                              uint32_t *ret_ref, struct mr_error *err);
void mr__entry_free(struct mr_shard *shard, uint32_t ref);

static inline uint32_t mr__table_home(const struct mr_shard *shard, uint32_t fragment)
{
    /* The top bits say which shard it is, and are the same for all of its keys. */
    return fragment << MR_SHARD_BITS >> (32 - shard->capacity_bits);
}

/* The slot of the key, or the one before which it belongs (*ret_found). Needs slots. */
uint32_t mr__table_find(const struct mr_shard *shard, uint32_t fragment, const void *key,
                        size_t key_bytes, bool *ret_found);
uint32_t mr__table_slot_of(const struct mr_shard *shard, uint32_t fragment, uint32_t ref);
/* Puts a slot before position i by shifting up to the next gap. */
enum mr_status mr__table_insert(struct mr_shard *shard, uint32_t i, struct mr_slot slot,
                                struct mr_error *err);
/* A new key at position i; its value is not set. */
enum mr_status mr__table_add(struct mr_shard *shard, uint32_t i, uint32_t fragment, const void *key,
                             size_t key_bytes, size_t value_bytes, unsigned flags,
                             uint32_t *ret_ref, struct mr_error *err);
void mr__table_remove(struct mr_shard *shard, uint32_t i);
bool mr__table_is_full(const struct mr_shard *shard, uint64_t more);
enum mr_status mr__table_resize(struct mr_shard *shard, unsigned bits, struct mr_error *err);
enum mr_status mr__table_grow(struct mr_shard *shard, struct mr_error *err); /* when it is full */
void mr__table_shrink(struct mr_shard *shard); /* when it is mostly empty */
/* Entries into the order of the slots; no changes may be in flight. */
void mr__table_tidy(struct mr_shard *shard);

#endif
