/*
 * Versioned state: the stores of one query (architecture section 3).
 *
 *     struct mr_state      all stores of a query, one version per batch
 *     struct mr_store      one named store: key bytes -> value bytes, in 256 key groups
 *
 * During batch N the driver changes stores; mr_state_prepare(N) writes the changes as deltas (small
 * ones into the batch log, large ones as files) and fills the parts of COMMIT(N);
 * mr_state_applied(N) tells that COMMIT(N) is in the log; mr_state_rollback undoes a batch that
 * failed. A store's content is its newest snapshot plus the deltas after it.
 *
 *     <checkpoint>/state/<store>/<version>-<epoch>-<attempt>.delta | .snap
 *     (part.c draws what is inside)
 *
 * Files are immutable; only a COMMIT makes one real; files that no retained COMMIT names are
 * removed at start and at purge. Thread: driver, except that stores may be read by tasks of a batch
 * while nobody writes.
 */
#ifndef MR_STATE_STATE_H
#define MR_STATE_STATE_H

#include "base/buf.h"
#include "env/jobs.h"
#include "wal/batch_log.h"

#include <millrace/batch.h>

enum { MR_KEY_GROUPS = 256 };

struct mr_state;
struct mr_store;

struct mr_state_config {
    uint8_t query_id[16];
    uint32_t epoch;
    uint64_t inline_bytes_max; /* deltas up to here travel in the log: 1 MiB */
    /* a snapshot is due when delta bytes since the last one exceed this (1 MiB) ... */
    uint64_t snapshot_min_bytes;
    double snapshot_ratio;   /* ... and this many times the size of the last snapshot (1.0) */
    uint32_t snapshot_every; /* tests: also every k batches; 0 = never */
    uint32_t retain_batches; /* 100 */
    bool volatile_only;      /* nothing is written */
    /*
     * Threads that load and write the shards of stores with so many bytes or more; {0}: the
     * caller's alone. The bytes in the files, and what is loaded, do not depend on them.
     */
    struct mr_jobs jobs;
    uint64_t spread_min_bytes;
};

/* dir is <checkpoint>/state. Loads what recovered->parts names. log_dir: to read in-log deltas. */
enum mr_status mr_state_open(struct mr_env *env, const char *dir, const char *log_dir,
                             const struct mr_state_config *config,
                             const struct mr_recovered *recovered, struct mr_state **ret_state,
                             struct mr_error *err);
void mr_state_close(struct mr_state *state);

/*
 * The store of that name: created empty when new. kind names what owns it ("aggregate", "window",
 * "source"); key_schema and value_schema are the print form of mr_schema_print or a short tag; they
 * are kept in the manifest and compared: different ones are MR_CONFIG with both texts. Names:
 * letters, digits, '_', '-', '.', at most 100 bytes (others are percent-encoded in paths).
 */
enum mr_status mr_state_store(struct mr_state *state, const char *name, const char *kind,
                              const char *key_schema, const char *value_schema,
                              struct mr_store **ret_store, struct mr_error *err);
/* Who asks from now on (mr_store_info.owner); borrowed as long as the state lives. */
void mr_state_set_owner(struct mr_state *state, const char *owner);
/* Stores that the checkpoint has and nobody asked for (an operator was removed): names; NULL past
 * the end. */
const char *mr_state_unclaimed(struct mr_state *state, size_t index);

/*
 * Change (docs/evolution.md): what becomes of a store whose operator is no longer what the
 * checkpoint knows.
 */
enum mr_change_class {
    MR_CHANGE_SAME,      /* its state is used as it is */
    MR_CHANGE_EXTEND,    /* used; something is added with a default, or dropped for good */
    MR_CHANGE_REBUILD,   /* emptied: it begins anew with the next batch */
    MR_CHANGE_IMPOSSIBLE /* there is no way to go on */
};
const char *mr_change_class_text(enum mr_change_class change); /* "same", "extend", ... */

struct mr_store_change {
    const char *store;
    const char *old_kind, *old_key_schema, *old_value_schema; /* what the checkpoint has */
    const char *kind, *key_schema, *value_schema;             /* what the operator asks for */
    uint64_t key_count;                                       /* in the checkpoint */
};
/* Rewrites one entry; both buffers are empty before. Different keys must stay different. */
typedef enum mr_status (*mr_store_convert_fn)(void *arg, struct mr_slice key, struct mr_slice value,
                                              struct mr_buf *ret_key, struct mr_buf *ret_value,
                                              struct mr_error *err);
enum { MR_CHANGE_REASON_BYTES = 400 };
struct mr_store_adaption {
    enum mr_change_class change;
    char reason[MR_CHANGE_REASON_BYTES]; /* for people; "" with SAME: nothing to say */
    mr_store_convert_fn convert;         /* NULL: the entries stay as they are */
    void *arg;                           /* of convert */
    void (*free)(void *arg);             /* NULL: nothing to free */
};
/*
 * Who decides. Asked by mr_state_store for every store that the checkpoint has, also when nothing
 * differs. SAME and EXTEND keep the entries, converted if it says so; REBUILD and IMPOSSIBLE empty
 * the store. All of that happens in memory: the first commit after it writes the store as one
 * snapshot in its new form, so a crash before it leaves the old one. No judge (the standard):
 * different texts are MR_CONFIG.
 */
typedef enum mr_status (*mr_state_judge_fn)(void *arg, const struct mr_store_change *change,
                                            struct mr_store_adaption *ret_adaption,
                                            struct mr_error *err);
void mr_state_set_judge(struct mr_state *state, mr_state_judge_fn judge, void *arg);
/* The state of an operator that is gone: emptied and forgotten with the next commit. */
enum mr_status mr_state_drop(struct mr_state *state, const char *name, struct mr_error *err);

/*
 * The manifest: what the graph was, key by key, versioned with the state. Not among the stores that
 * mr_state_info, mr_state_unclaimed and the totals tell of.
 */
typedef bool (*mr_state_manifest_fn)(const char *key, const char *text, void *arg);
/* Every entry, by key; texts are borrowed during the visit. */
enum mr_status mr_state_manifest_visit(struct mr_state *state, mr_state_manifest_fn visit,
                                       void *arg, struct mr_error *err);
/* Replaces all of it, with the next commit; nothing happens when it is the same already. */
struct mr_manifest_entry {
    const char *key;
    const char *text;
};
enum mr_status mr_state_manifest_set(struct mr_state *state,
                                     const struct mr_manifest_entry *entries, size_t count,
                                     struct mr_error *err);

/*
 * A store consists of shards, each the keys of some neighbouring key groups. Different shards may
 * be read and changed by different threads at the same time; one shard, by one thread. Everything
 * that is not said to be of a shard wants all of them.
 */
enum { MR_STORE_SHARDS = 8 };
static inline unsigned mr_store_shard(uint64_t key_hash)
{
    return (unsigned)(key_hash >> 61);
}

static inline unsigned mr_key_group(uint64_t key_hash)
{
    return (unsigned)(key_hash >> 56);
}
uint64_t mr_store_hash(const struct mr_store *store, const void *key, size_t key_bytes);
/* It is mr_hash with this seed. */
uint64_t mr_store_seed(const struct mr_store *store);

/* *ret_value borrows until the next change of the store. */
bool mr_store_get(const struct mr_store *store, const void *key, size_t key_bytes,
                  const char **ret_value, size_t *ret_value_bytes);
bool mr_store_get_hashed(const struct mr_store *store, uint64_t hash, const void *key,
                         size_t key_bytes, const char **ret_value, size_t *ret_value_bytes);
enum mr_status mr_store_put(struct mr_store *store, const void *key, size_t key_bytes,
                            const void *value, size_t value_bytes, struct mr_error *err);
/* The same when the key's hash is at hand. */
enum mr_status mr_store_put_hashed(struct mr_store *store, uint64_t hash, const void *key,
                                   size_t key_bytes, const void *value, size_t value_bytes,
                                   struct mr_error *err);
/*
 * For merges on the hot path: finds or makes the key (a new one has value_bytes of zeros;
 * *ret_created tells) and gives its value for changing in place, at a fixed size. The caller must
 * write it before the next call on the store.
 */
enum mr_status mr_store_upsert(struct mr_store *store, const void *key, size_t key_bytes,
                               size_t value_bytes, char **ret_value, bool *ret_created,
                               struct mr_error *err);
/*
 * The same when the key's hash (mr_store_hash) is at hand. With many keys, memory is what takes the
 * time: asking for a key 32 places ahead with hint 0 and 16 ahead with hint 1, by their hashes,
 * makes lookups two to three times as fast. Hints never fail.
 */
enum mr_status mr_store_upsert_hashed(struct mr_store *store, uint64_t hash, const void *key,
                                      size_t key_bytes, size_t value_bytes, char **ret_value,
                                      bool *ret_created, struct mr_error *err);
void mr_store_hint(const struct mr_store *store, uint64_t hash, unsigned step);
/*
 * So many more keys are likely to come into a shard. Worth saying when they come in the order of
 * their hashes: a table that only grows when it is full would have all of them at its beginning,
 * each search through the ones before. Cannot fail: without memory it is as if nothing was said.
 */
void mr_store_expect(struct mr_store *store, unsigned shard, uint64_t more);
enum mr_status mr_store_delete(struct mr_store *store, const void *key, size_t key_bytes,
                               struct mr_error *err);
uint64_t mr_store_count(const struct mr_store *store);
uint64_t mr_store_shard_count(const struct mr_store *store, unsigned shard);
uint64_t mr_store_bytes(const struct mr_store *store);

/*
 * Visits entries sorted by key bytes: all of them, or those with key >= from (NULL = start). Return
 * false to stop. The store must not change meanwhile: collect keys first.
 */
typedef bool (*mr_store_visit_fn)(const char *key, size_t key_bytes, const char *value,
                                  size_t value_bytes, void *arg);
enum mr_status mr_store_scan_sorted(const struct mr_store *store, const void *from,
                                    size_t from_bytes, mr_store_visit_fn visit, void *arg,
                                    struct mr_error *err);
/*
 * Entries of one shard in the order of their hashes, equal ones by key: the same for the same keys,
 * whatever has happened to the store, and cheap. *cursor begins at 0; returns how many of max were
 * filled in, 0 at the end. Keys may be changed meanwhile with put_at and delete_at, or otherwise as
 * long as no key is added to that shard. An entry's value is valid until it is changed.
 */
struct mr_store_entry {
    const char *key;
    const char *value;
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t fragment; /* top 32 bits of the key's hash */
    uint32_t slot;     /* where it is: for put_at and delete_at */
};
/*
 * Before reading all of a shard: when that happens again and again and many entries are not in
 * memory in that order, they are moved (once in a while), so that reading is sequential. Only
 * before the first change of a batch; later it does nothing. Cannot fail.
 */
void mr_store_tidy_shard(struct mr_store *store, unsigned shard);
size_t mr_store_read_shard(const struct mr_store *store, unsigned shard, uint32_t *cursor,
                           struct mr_store_entry *entries, size_t max);
enum mr_status mr_store_put_at(struct mr_store *store, const struct mr_store_entry *at,
                               const void *value, size_t value_bytes, struct mr_error *err);
enum mr_status mr_store_delete_at(struct mr_store *store, const struct mr_store_entry *at,
                                  struct mr_error *err);
/* The entry of a key, unless it is not there: for put_at and delete_at. */
bool mr_store_find(const struct mr_store *store, uint64_t hash, const void *key, size_t key_bytes,
                   struct mr_store_entry *ret_entry);
/* The same in two steps, for many keys that are known ahead: where the key seems to be, its entry
 * being asked for (after mr_store_hint 0); and the entry, wherever it is by then. */
uint32_t mr_store_locate(const struct mr_store *store, uint64_t hash);
bool mr_store_find_at(const struct mr_store *store, uint64_t hash, const void *key,
                      size_t key_bytes, uint32_t place, struct mr_store_entry *ret_entry);
/*
 * A walk: the changes of a batch to one shard, each key once, in the order of a delta (by the top
 * 32 bits of the hash, then by key), before anything else changes it. An entry is looked at once
 * then: its line of the delta is written beside its old value, and nothing in it has to be marked.
 * Begun for a shard without changes, else it does nothing. Puts out of order, and any other change,
 * are as good as ever and end it. MR_NOMEM.
 */
enum mr_status mr_store_walk_begin(struct mr_store *store, unsigned shard, struct mr_error *err);
/* mr_store_put_at: the entry is one that mr_store_find_at or mr_store_find told. */
enum mr_status mr_store_walk_put(struct mr_store *store, const struct mr_store_entry *at,
                                 const void *value, size_t value_bytes, struct mr_error *err);
/* mr_store_put_hashed: a key that is not there. */
enum mr_status mr_store_walk_add(struct mr_store *store, uint64_t hash, const void *key,
                                 size_t key_bytes, const void *value, size_t value_bytes,
                                 struct mr_error *err);
/* Visits the entries of keys whose hash has those top 32 bits: mostly one, or none. */
void mr_store_visit_fragment(const struct mr_store *store, uint32_t fragment,
                             mr_store_visit_fn visit, void *arg);
/* The same as visits; false: visit stopped it. */
bool mr_store_scan_shard(const struct mr_store *store, unsigned shard, mr_store_visit_fn visit,
                         void *arg);
/* All shards, one after the other. */
void mr_store_scan(const struct mr_store *store, mr_store_visit_fn visit, void *arg);

/*
 * Writes the changes since the last commit; appends parts to commit (arrays grow with mr_realloc).
 */
enum mr_status mr_state_prepare(struct mr_state *state, uint64_t batch_id, uint32_t attempt,
                                struct mr_batch_log *log, struct mr_commit *commit,
                                struct mr_error *err);
/* COMMIT(N) is appended: the changes are now the base of N + 1. */
void mr_state_applied(struct mr_state *state, uint64_t batch_id);
/* Forgets all changes since the last applied batch. */
void mr_state_rollback(struct mr_state *state);
/* After COMMIT is durable: removes files that no retained commit can reach. *ret_needed_from feeds
 * mr_batch_log_purge. */
enum mr_status mr_state_purge(struct mr_state *state, uint64_t batch_id, uint64_t *ret_needed_from,
                              struct mr_error *err);

/* The key/value view of a store that plug-ins get (ext/source.h). Borrows; lives as long as the
 * store. */
struct mr_kv;
struct mr_kv *mr_kv_of(struct mr_store *store);

struct mr_state_totals {
    uint64_t key_count;
    uint64_t memory_bytes;
    uint64_t snapshots_written;
    /* damaged ones that were made again from older parts at open (B15) */
    uint64_t snapshots_rebuilt;
};
void mr_state_totals(const struct mr_state *state, struct mr_state_totals *ret_totals);
/* The store that takes most memory: its name (borrowed), keys and bytes; NULL: there is none. */
const char *mr_state_largest(const struct mr_state *state, uint64_t *ret_keys, uint64_t *ret_bytes);

/*
 * How much of the state of all queries of the process stays in memory (0 = all of it), and where
 * the rest goes; the directory is opened when it is needed first, and one that is in use stays.
 */
void mr_state_memory_configure(const char *spill_dir, uint64_t share_bytes);
uint64_t mr_state_memory_bytes(void);  /* in memory, of all queries */
uint64_t mr_state_spilled_bytes(void); /* in the spill file, resident or not */
/*
 * Before a batch is published and before it is committed: whether the disk kept all that was
 * spilled to it. MR_IO when not, as the batch may have read what was lost.
 */
enum mr_status mr_state_check_memory(struct mr_error *err);
/* Progress of one store in the batch just prepared. */
struct mr_store_stats {
    uint64_t updated;
    uint64_t removed;
};
void mr_store_stats(const struct mr_store *store, struct mr_store_stats *ret_stats);

/* Offline reader: opens the newest committed version read-only beside a running query (no lock, no
 * epoch). */
enum mr_status mr_state_open_reader(struct mr_env *env, const char *checkpoint_dir,
                                    struct mr_state **ret_state, struct mr_error *err);
/* Which version, and how much of it. {0}: the newest one, all of it. */
struct mr_state_reader_options {
    bool at_batch; /* as of this batch; MR_NOT_FOUND when the checkpoint does not retain it */
    uint64_t batch_id;
    bool heads;             /* names, schemas and numbers of keys; of the entries, the manifest's */
    const char *only_store; /* entries of this one only; NULL = of all */
};
enum mr_status mr_state_open_reader_at(struct mr_env *env, const char *checkpoint_dir,
                                       const struct mr_state_reader_options *options,
                                       struct mr_state **ret_state, struct mr_error *err);
/* The batch that a reader shows. */
uint64_t mr_state_reader_batch(const struct mr_state *state);
struct mr_store_info {
    const char *name;
    const char *kind;
    const char *key_schema;
    const char *value_schema;
    uint64_t key_count;
    uint64_t memory_bytes;
    uint64_t version;
    const char *owner; /* that asked for it in this run; NULL = nobody, or nobody said */
    bool is_new;       /* the checkpoint does not have it */
    /* on the disk: of the parts that a load needs, and of all that are kept */
    uint64_t stored_bytes;
    uint64_t retained_bytes;
    uint32_t part_count; /* that are kept */
};
/* false past the end */
bool mr_state_info(struct mr_state *state, size_t index, struct mr_store_info *ret_info);
/* NULL when there is none */
struct mr_store *mr_state_find(struct mr_state *state, const char *name);

/* The oldest and the newest committed batch whose state can still be read. MR_NOT_FOUND: nothing
 * was committed yet. */
enum mr_status mr_state_retained(struct mr_env *env, const char *checkpoint_dir,
                                 uint64_t *ret_oldest, uint64_t *ret_newest, struct mr_error *err);

/*
 * Makes a checkpoint in `into`, which must not be there, with that batch as the newest: offsets,
 * watermark, settings and state as they were after it. It has a query id of its own, so sinks do
 * not know its batches. Only reads `dir`, also beside a running query. MR_NOT_FOUND: the batch is
 * not retained; MR_CONFIG: a receiver's input cannot be read again. ret_query_id: UUID text.
 */
enum mr_status mr_state_rewind(struct mr_env *env, const char *dir, uint64_t batch_id,
                               const char *into, char ret_query_id[37], struct mr_error *err);

/* Reads and checks every part and file below checkpoint_dir; problems are reported one line each.
 * *ret_bad counts them. */
enum mr_status mr_state_verify(struct mr_env *env, const char *checkpoint_dir,
                               void (*report)(const char *line, void *arg), void *arg,
                               uint64_t *ret_bad, struct mr_error *err);

#endif
