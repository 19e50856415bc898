/*
 * Inside of src/state: the structs behind state.h.
 *
 *   store.c   the table in memory, changes and undo of one batch
 *   part.c    deltas and snapshots as bytes
 *   state.c   the stores of a query: prepare, applied, rollback, purge
 *   load.c    recovery, the offline reader, verify
 *   kv.c      the view that plug-ins get
 *
 * Thread: driver.
 */
#ifndef MR_STATE_INTERNAL_H
#define MR_STATE_INTERNAL_H

#include "base/alloc.h"
#include "base/check.h"
#include "state/state.h"
#include "wal/part_list.h"

/*
 * One key. Bytes of the key follow the header, then value_capacity bytes for the value. A key
 * deleted in this batch stays in the table as dead until the batch is applied, so that its change
 * record is found when it comes back.
 */
struct mr_entry {
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t value_capacity;
    uint32_t dead : 1;
    uint32_t change : 31; /* 1 + index into changes; 0 = not changed in this batch */
};

struct mr_slot {
    uint64_t hash;
    struct mr_entry *entry; /* NULL = free */
};

/* What a key was before the batch touched it. */
struct mr_change {
    struct mr_entry *entry; /* as it is now; moves when the value grows */
    uint64_t hash;
    bool existed;
    uint32_t old_value_bytes;
    const char *old_value; /* in undo */
};

/* free lists for entries of 16, 32 .. 1024 bytes */
enum { MR_ENTRY_CLASSES = 64, MR_ENTRY_UNIT = 16 };

struct mr_slab;

struct mr_store {
    char *name;
    char *dir_name; /* name, percent-encoded */
    char *kind;
    char *key_schema;
    char *value_schema;
    bool claimed;   /* an operator asked for it in this run */
    bool persisted; /* at least one part names it */
    bool has_dir;   /* its directory was made durable in this run */
    uint64_t seed;

    struct mr_slot *slots;
    uint64_t slot_count; /* power of two, or 0 */
    uint64_t used;       /* slots taken, dead entries included */
    uint64_t live;
    uint64_t bytes; /* of entries and slots */
    struct mr_slab *slabs;
    char *slab_at;
    char *slab_end;
    struct mr_entry *free_entries[MR_ENTRY_CLASSES + 1]; /* linked through their first bytes */

    struct mr_change *changes;
    uint32_t change_count;
    uint32_t change_capacity;
    struct mr_arena undo;
    struct mr_store_stats stats; /* of the batch last prepared */

    /* since the newest snapshot; this and the next three are derived from the list of parts */
    uint64_t delta_bytes;
    uint32_t delta_count;
    uint64_t snapshot_bytes; /* size of the newest snapshot */
    /* oldest batch whose in-log part a load would need; UINT64_MAX = none */
    uint64_t pinned_from;
    uint64_t version; /* newest applied batch that changed it */
};

struct mr_state {
    struct mr_env *env;
    char *dir;
    char *log_dir;
    struct mr_state_config config;
    uint64_t seed;
    struct mr_store **stores;
    size_t store_count;
    uint64_t snapshots_written;
    uint64_t snapshots_rebuilt;
    /* live parts of all stores: what a load of the newest version may need */
    struct mr_part_list parts;
    uint32_t committed_parts; /* of them; those behind it belong to the batch in flight */
    bool read_only;
};

/* store.c */
struct mr_store *mr__store_new(const char *name, const char *kind, const char *key_schema,
                               const char *value_schema, uint64_t seed);
void mr__store_free(struct mr_store *store);
void mr__store_clear(struct mr_store *store);    /* no keys, no changes */
void mr__store_accept(struct mr_store *store);   /* changes become the base */
void mr__store_rollback(struct mr_store *store); /* changes are undone */
static inline char *mr__entry_key(struct mr_entry *entry)
{
    return (char *)(entry + 1);
}
static inline char *mr__entry_value(struct mr_entry *entry)
{
    return (char *)(entry + 1) + entry->key_bytes;
}

/* part.c: a delta of the store's changes, or a snapshot of all of it. */
struct mr_part_head {
    bool is_snapshot;
    uint8_t query_id[16];
    uint64_t version;
    uint32_t epoch;
    uint32_t attempt;
    uint64_t seed;
};
enum mr_status mr__part_encode(struct mr_store *store, const struct mr_part_head *head,
                               struct mr_buf *out, struct mr_error *err);
/* Applies the bytes of a part to a store (a snapshot clears it first). expect: head fields that
 * must agree, name too. */
enum mr_status mr__part_apply(struct mr_store *store, const struct mr_part_head *expect,
                              const void *data, size_t size_bytes, const char *where,
                              struct mr_error *err);
/* Only the names in the head, to make a store before its first part is applied. Freed by the caller
 * with mr_free. */
enum mr_status mr__part_names(const void *data, size_t size_bytes, const char *where,
                              char **ret_kind, char **ret_key_schema, char **ret_value_schema,
                              uint64_t *ret_seed, struct mr_error *err);

/* state.c */
enum mr_status mr__state_new(struct mr_env *env, const char *dir, const char *log_dir,
                             const struct mr_state_config *config, struct mr_state **ret_state,
                             struct mr_error *err);
enum mr_status mr__state_add_store(struct mr_state *state, const char *name, const char *kind,
                                   const char *key_schema, const char *value_schema,
                                   struct mr_store **ret_store, struct mr_error *err);
enum mr_status mr__state_keep_part(struct mr_state *state, const struct mr_state_part *part,
                                   struct mr_error *err);
/* Derives from the list what the stores need to know about their parts. */
void mr__state_recount(struct mr_state *state);
char *mr__state_part_path(const struct mr_state *state, const struct mr_state_part *part);

#endif
