/*
 * Inside of src/state: the structs behind state.h.
 *
 *   slab.c         memory for entries
 *   table.c        slots and entries of one shard
 *   store.c        what operators call; changes and undo of one batch
 *   store_batch.c  end of a batch, visits in file order
 *   store_load.c   filling shards from parts
 *   part_write.c   deltas and snapshots: which runs of keys, by whom, in which order
 *   part_encode.c  one run of keys as bytes
 *   part_read.c    reading them back
 *   state.c        the stores of a query: prepare, applied, rollback, purge
 *   load.c         recovery, the offline reader, verify
 *   load_shards.c  a store by all workers, each a shard
 *   kv.c           the view that plug-ins get
 *   change.c       stores whose operator has changed or gone; the manifest
 *
 * Thread: driver; shards: see state.h.
 */
#ifndef MR_STATE_INTERNAL_H
#define MR_STATE_INTERNAL_H

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "state/slab.h"
#include "state/state.h"
#include "wal/part_list.h"

enum { MR_SHARD_BITS = 3 };
_Static_assert(1 << MR_SHARD_BITS == MR_STORE_SHARDS, "shards are the top bits of the hash");

enum {
    MR_STORE_KEY_BYTES_MAX = MR_LIMIT_STATE_KEY,
    MR_STORE_VALUE_BYTES_MAX = MR_LIMIT_STATE_VALUE
};

struct mr_slot {
    uint32_t fragment; /* top 32 bits of the key's hash */
    uint32_t ref;      /* entry in the slab; 0 = free */
};

struct mr_change {
    uint32_t fragment;
    uint32_t ref;  /* entry as of this change */
    uint64_t undo; /* low two bits: what happened; the rest: where the old value is */
};

/* The keys of 32 neighbouring key groups; one thread at a time. */
struct mr_shard {
    const char *name;       /* of the store, for errors */
    struct mr_slot *slots;  /* NULL while empty */
    unsigned capacity_bits; /* 2^bits home slots */
    uint32_t slot_count;    /* all of them, slack and end mark included */
    uint64_t used_slots;    /* entries deleted in this batch included */
    uint64_t live_count;
    uint64_t committed_count; /* live_count at the last accept */
    struct mr_slab slab;
    uint64_t loose_count;      /* entries made since the slab was last in the order of the table */
    unsigned scan_count;       /* scans of everything since then */
    struct mr_change *changes; /* of the running batch, in order */
    size_t change_count, change_capacity;
    size_t unsettled_count; /* of the changes: that a later one may have made void */
    bool is_walk;           /* all changes are of a walk (store_walk.c) */
    size_t replaced_count;  /* a walk: of its changes, that put another entry in place of one */
    char *undo;             /* old values; a walk: the delta too */
    size_t undo_size, undo_capacity;
};

struct mr_store {
    char *name;
    char *dir_name; /* name, percent-encoded */
    char *kind;
    char *key_schema;
    char *value_schema;
    const char *owner;   /* who asked for it; borrowed */
    bool claimed;        /* an operator asked for it in this run */
    bool persisted;      /* at least one part names it */
    bool has_dir;        /* its directory was made durable in this run */
    bool wants_snapshot; /* it was loaded around a damaged one */
    /* its content in memory is not what the parts say: the next commit writes one snapshot and no
     * delta, so that no reader puts a delta on what was there before */
    bool relaid;
    uint64_t told_keys; /* heads only: keys in the newest part */
    uint64_t seed;

    struct mr_shard *shards[MR_STORE_SHARDS]; /* NULL until it has had a key */

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
    bool heads_only;
    uint64_t reader_batch;
    mr_state_judge_fn judge; /* NULL: what differs is refused */
    void *judge_arg;
    const char *owner; /* who asks for stores; borrowed */
};

/* ---------------------------------------------------------------- store.c, store_batch.c */

struct mr_store *mr__store_new(const char *name, const char *kind, const char *key_schema,
                               const char *value_schema, uint64_t seed);
/* The shard of a hash, made when it is not there. */
enum mr_status mr__store_shard(struct mr_store *store, uint64_t hash, struct mr_shard **ret_shard,
                               struct mr_error *err);
void mr__store_free(struct mr_store *store);     /* NULL allowed */
void mr__store_clear(struct mr_store *store);    /* no keys, no changes; memory given back */
void mr__store_accept(struct mr_store *store);   /* changes become the base; cannot fail */
void mr__shard_accept(struct mr_shard *shard);   /* the same of one */
void mr__store_rollback(struct mr_store *store); /* changes are undone; cannot fail */
bool mr__store_is_changed(const struct mr_store *store); /* since the last accept */
void mr__store_count_changes(const struct mr_store *store, struct mr_store_stats *ret_stats);

/* A key as it goes into a part. */
struct mr_item {
    uint32_t fragment;
    const char *key;
    size_t key_bytes;
    const char *value;
    size_t value_bytes;
    bool is_delete;
};
typedef enum mr_status (*mr_item_fn)(const struct mr_item *item, void *arg, struct mr_error *err);
/* Each changed key of a shard once, by fragment and then key. */
struct mr_sorted_changes {
    struct mr_slot *items; /* owned by the caller: mr__state_free; NULL: those of a walk */
    size_t count;
};
enum mr_status mr__shard_sort_changes(const struct mr_shard *shard, /* NULL: has none */
                                      struct mr_sorted_changes *ret_sorted, struct mr_error *err);
/* Those at places [from, end) of them. */
enum mr_status mr__shard_visit_changes(const struct mr_shard *shard,
                                       const struct mr_sorted_changes *sorted, size_t from,
                                       size_t end, mr_item_fn visit, void *arg,
                                       struct mr_error *err);
/* The live keys of a shard with fragments in [from, end), in the same order. */
enum mr_status mr__shard_visit_range(const struct mr_shard *shard, uint64_t from, uint64_t end,
                                     mr_item_fn visit, void *arg, struct mr_error *err);

/* All shards. */
enum mr_status mr__store_visit_changes(const struct mr_store *store, mr_item_fn visit, void *arg,
                                       struct mr_error *err);
enum mr_status mr__store_visit_all(const struct mr_store *store, mr_item_fn visit, void *arg,
                                   struct mr_error *err);

/* ---------------------------------------------------------------- store_walk.c */

/* Before a change that is none of the walk: its changes become like any others. Cannot fail. */
void mr__walk_settle(struct mr_shard *shard);
/* A change as the entry of a delta that it leaves (part_write.c draws it). */
struct mr_slice mr__walk_entry(const struct mr_shard *shard, size_t change);
/* What was in the slot before a change that replaced it. */
uint32_t mr__walk_replaced(const struct mr_shard *shard, const struct mr_change *change);
enum mr_status mr__walk_visit(const struct mr_shard *shard, size_t from, size_t end,
                              mr_item_fn visit, void *arg, struct mr_error *err);

/* ---------------------------------------------------------------- part_encode.c */

/*
 * Entries as GROUP records whose headers are not made yet: each has room for one, which holds the
 * bytes of its payload (u32) so far. Whoever puts the records of a part one behind the other makes
 * them.
 */
struct mr_encoder {
    struct mr_encoder *next;
    const char *store_name; /* for errors */
    struct mr_buf bytes;    /* whole records */
    size_t record;          /* where the one being filled begins; SIZE_MAX: there is none */
    size_t section;         /* where the length of the open section goes; SIZE_MAX: none is open */
    unsigned group;         /* of it */
    uint64_t entries, deletes;
    /* called after each whole record but the last; may take what is in bytes */
    enum mr_status (*full)(struct mr_encoder *encoder, void *arg, struct mr_error *err);
    void *arg;
};
void mr__encoder_begin(struct mr_encoder *encoder, const char *store_name);
/* An mr_item_fn: the encoder is arg. */
enum mr_status mr__encoder_add(const struct mr_item *item, void *arg, struct mr_error *err);
/* Bytes of an entry behind `bytes`, which may be read and thrown away. */
enum { MR_ENCODED_SLACK_BYTES = 32 };
/* An entry that stays, in the form in which it is in a part. */
enum mr_status mr__encoder_add_encoded(struct mr_encoder *encoder, uint32_t fragment,
                                       struct mr_slice entry, struct mr_error *err);
enum mr_status mr__encoder_end(struct mr_encoder *encoder, struct mr_error *err);

/* ---------------------------------------------------------------- store_load.c */

/* One shard being filled from a part; its thread's. */
struct mr_loader {
    struct mr_shard *shard;
    bool in_order; /* each key so far came behind the one before it, into an empty shard */
    uint32_t last; /* in_order: the slot of the last key */
};
/* key_count: of the whole store in the end, for the size of the table; 0 = unknown. */
enum mr_status mr__loader_begin(struct mr_store *store, unsigned shard, uint64_t key_count,
                                struct mr_loader *ret_loader, struct mr_error *err);
/* Asks memory for what a key needs: step 0 well ahead, step 1 later. */
void mr__loader_hint(const struct mr_loader *loader, uint64_t hash, unsigned step);
enum mr_status mr__loader_put(struct mr_loader *loader, uint64_t hash, const void *key,
                              size_t key_bytes, const void *value, size_t value_bytes,
                              struct mr_error *err);
void mr__loader_delete(struct mr_loader *loader, uint64_t hash, const void *key, size_t key_bytes);
void mr__loader_end(struct mr_loader *loader);
/* One key, at any time outside of a batch. */
enum mr_status mr__store_load_put(struct mr_store *store, uint64_t hash, const void *key,
                                  size_t key_bytes, const void *value, size_t value_bytes,
                                  struct mr_error *err);

/* ---------------------------------------------------------------- part_write.c, part_read.c */

/* Where a part goes: into bytes while it is small, else into a staged file. */
struct mr_part_target {
    struct mr_env *env;
    const char *dir;  /* of the store's files; exists when a file is needed (make_dir) */
    const char *file; /* name for it */
    uint64_t inline_bytes_max;
    enum mr_status (*make_dir)(void *arg, struct mr_error *err);
    void *arg;
    struct mr_buf bytes;      /* the part, when it stayed small */
    struct mr_staged *staged; /* sealed, not published; else NULL */
};
void mr__part_target_release(struct mr_part_target *target);
/*
 * A delta of the store's changes, or a snapshot of all of it. Fills size_bytes, sum, key_count and
 * in_log of part; its other fields go into the head. *ret_stats: what is in it.
 */
enum mr_status mr__part_write(const struct mr_store *store, struct mr_state_part *part,
                              const uint8_t query_id[16], const struct mr_jobs *jobs,
                              struct mr_part_target *target, struct mr_store_stats *ret_stats,
                              struct mr_error *err);

struct mr_part_reader;
/* Opens a part where `part` says it is; `where` names it in errors and is its path when it is a
 * file. Both are borrowed until close. MR_NOT_FOUND when the file is gone. */
enum mr_status mr__part_open(struct mr_env *env, const struct mr_state_part *part,
                             const char *where, struct mr_part_reader **ret_reader,
                             struct mr_error *err);
void mr__part_close(struct mr_part_reader *reader); /* NULL allowed */
/* What its head says; valid until close. */
struct mr_part_names {
    const char *kind;
    const char *key_schema;
    const char *value_schema;
    uint64_t seed;
};
enum mr_status mr__part_head(struct mr_part_reader *reader, const uint8_t query_id[16],
                             struct mr_part_names *ret_names, struct mr_error *err);
/* The rest, applied to store (a snapshot clears it first), after mr__part_head. count_keys: the
 * store is whole, so its number of keys must be what the part says. */
enum mr_status mr__part_apply(struct mr_part_reader *reader, struct mr_store *store,
                              bool count_keys, struct mr_error *err);

/*
 * The same by shards: where the records of a part are, and what its foot says. Made from a reader
 * behind its head; any other reader of the same part can then apply one shard of it.
 */
struct mr_part_mark {
    uint64_t at;    /* in the part */
    uint64_t chain; /* the sum of the record before */
    uint8_t group;  /* its first key group */
};
struct mr_part_index {
    struct mr_part_mark *marks;
    uint32_t count, capacity;
    uint64_t entries;
};
enum mr_status mr__part_index(struct mr_part_reader *reader, struct mr_part_index *index,
                              struct mr_error *err);
void mr__part_index_release(struct mr_part_index *index);
/* Neither clears the shard nor counts its keys. *ret_entries: how many it had for this shard. */
enum mr_status mr__part_apply_shard(struct mr_part_reader *reader,
                                    const struct mr_part_index *index, struct mr_store *store,
                                    unsigned shard, uint64_t *ret_entries, struct mr_error *err);

/* ---------------------------------------------------------------- load.c, load_shards.c */

/* Where a part is, for people; a path when it is a file. NULL without memory. */
char *mr__part_place(struct mr_state *state, const struct mr_state_part *part);
/* The head of a part against the store as the parts before it left it. */
enum mr_status mr__part_take_names(struct mr_store *store, const struct mr_state_part *part,
                                   const struct mr_part_names *names, bool is_first,
                                   const char *where, struct mr_error *err);
/* Does the batch of this snapshot have a delta too? */
bool mr__part_has_delta(const struct mr_state_part *parts, uint32_t snapshot);
/*
 * A store from its parts from index `from` on, by all workers. *ret_done is false when it is not
 * worth it. When a part is damaged the status says so, but not which part: the caller loads it part
 * by part then, and finds the first.
 */
enum mr_status mr__load_by_shards(struct mr_state *state, const struct mr_state_part *parts,
                                  uint32_t count, const char *name, uint32_t from, bool *ret_done,
                                  struct mr_error *err);

/* ---------------------------------------------------------------- change.c */

/* Kinds of stores that are not an operator's. */
#define MR_STORE_KIND_MANIFEST "manifest"
#define MR_STORE_KIND_DROPPED "dropped"
/* Is it one of them? */
bool mr__store_is_hidden(const struct mr_store *store);
enum mr_status mr__store_set_texts(struct mr_store *store, const char *kind, const char *key_schema,
                                   const char *value_schema, struct mr_error *err);
/* A store of the checkpoint is asked for by an operator: asks the judge and does what it says. */
enum mr_status mr__store_adapt(struct mr_state *state, struct mr_store *store, const char *kind,
                               const char *key_schema, const char *value_schema,
                               struct mr_error *err);

/* ---------------------------------------------------------------- state.c */

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
