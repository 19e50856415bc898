/*
 * Inside of update_state_by_key and map_with_state: the operators, and what their files share.
 */
#ifndef MR_DSTREAM_UPDATE_H
#define MR_DSTREAM_UPDATE_H

#include "dstream/state_rows.h"
#include "dstream/streams.h"

/* ---- the initial dataset (state_initial.c) ---- */

/* Pairs (key, state) that a program brings; computed when the first batch needs them. */
typedef enum mr_status (*mr__initial_read_fn)(void *source, struct mr_batch **ret_batch,
                                              struct mr_error *err);
struct mr__initial {
    void *source;
    mr__initial_read_fn read; /* all rows; returns new. Driver */
    void (*free_source)(void *source);
};
/* Takes source. NULL without memory. */
struct mr__initial *mr__initial_new(void *source, mr__initial_read_fn read,
                                    void (*free_source)(void *source));
/* These rows; shares. */
struct mr__initial *mr__initial_of_batch(const struct mr_batch *batch);
void mr__initial_free(struct mr__initial *initial); /* NULL allowed */
/* Are they pairs of that key and that state? */
enum mr_status mr__initial_check(const struct mr_schema *found, const struct mr_type *key,
                                 const struct mr_type *state, struct mr_error *err);
/* Into an empty store: the first row of each key; a null state is none. prefix: bytes before each
 * value (8, or NULL for none). */
enum mr_status mr__initial_put(struct mr_store *store, const char *name,
                               const struct mr_batch *rows, const char *prefix,
                               struct mr_error *err);

/* ---- update_state_by_key ---- */

struct update_op {
    struct mr__function *update; /* borrowed from the context */
    struct mr__initial *initial; /* borrowed from the stream; NULL: none */
    uint32_t partition_count;
    bool is_native; /* state_builtin.c runs it */
    char *name;
    struct mr_schema *pairs;
    struct mr_schema *output; /* key, value = state */
    struct mr_schema *values; /* one column: a key's values, as C functions see them */
    struct mr_schema *keys;   /* one column: the key */
    struct mr_schema *states; /* one column: the state */
    struct mr_store *store;
};

struct mr__update_spec {
    struct mr__function *update;
    struct mr__initial *initial; /* NULL: none */
    const char *name;
    uint32_t partition_count;
    const struct mr_schema *pairs;
    const struct mr_schema *output;
};
enum mr_status mr__update_op(const struct mr__update_spec *spec, struct mr_fold_op *ret_op,
                             struct mr_error *err);
/* mr_update_state_by_key with an initial dataset of these columns; takes it. Also for tests. */
struct mr_dstream *mr__update_state_by_key_of(struct mr_dstream *pairs, const char *name,
                                              struct mr_fn update, const struct mr_schema *columns,
                                              struct mr__initial *initial);

enum { MR__UPDATE_CHUNK = 16 * 1024 }; /* keys that are updated at once */

/* Keys that are collected for one call of the function. */
struct chunk {
    struct update_op *op;
    struct mr_fold_call *call;
    struct mr__state_rows *rows;
    struct mr__state_walk walk;
    struct mr__state_item *items; /* MR__UPDATE_CHUNK */
    uint32_t count;
    struct mr_batch *keys; /* of the items, once they were evaluated */
    struct mr_buf bytes;   /* a value on its way to the store */
};
/* New states of the items, null for those that go; sets chunk->keys. Returns new. */
enum mr_status mr__update_eval(struct chunk *chunk, struct mr_batch **ret_states,
                               struct mr_error *err);
/* The function of all keys, once; emits its rows and keeps the first state of each key. */
enum mr_status mr__update_all(struct chunk *chunk, struct mr__shards shards, struct mr_error *err);
/* The items in the order of their keys. */
void mr__update_sort(struct chunk *chunk);
/* Keys and states of the items as batches, for a function. Return new. */
enum mr_status mr__update_keys(struct chunk *chunk, struct mr_batch **ret_keys,
                               struct mr_error *err);
enum mr_status mr__update_states(struct chunk *chunk, struct mr_batch **ret_states,
                                 struct mr_error *err);
/* The values of one item as a batch; none: one without rows. Returns new. */
enum mr_status mr__update_values(struct chunk *chunk, const struct mr__state_item *item,
                                 const struct mr_batch *none, struct mr_batch **ret_values,
                                 struct mr_error *err);

/* ---- built-ins over numbers (state_builtin.c) ---- */

bool mr__native_can(const struct mr_type *value, const struct mr_type *state,
                    enum mr_builtin builtin);
enum mr_status mr__native_update(struct mr_store *store, enum mr_builtin builtin,
                                 const struct mr_schema *output, struct mr__shards shards,
                                 struct mr_fold_call *call, struct mr_error *err);
/* Emits all (key, state) of these shards; skip_bytes: what stands before the state in a value. */
enum mr_status mr__emit_all_states(const struct mr_store *store, const struct mr_schema *output,
                                   size_t skip_bytes, struct mr__shards shards,
                                   struct mr_output *out, struct mr_error *err);
/*
 * Running values of map_with_state: touched time and state of each record's key; emits (key, state)
 * a record.
 */
enum mr_status mr__native_running(struct mr_store *store, enum mr_builtin builtin,
                                  const struct mr_schema *output, struct mr__shards shards,
                                  struct mr_fold_call *call, struct mr_error *err);

#endif
