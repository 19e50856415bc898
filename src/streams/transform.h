/*
 * Inside of transform_with_state (structured.md 16).
 *
 *   transform_op.c      the fold: stores, partitions, timers, lifetimes, when a batch is wanted
 *   transform_call.c    one call of a function: what it sees, what is written back
 *   transform_cells.c   variables of the key at hand in memory, and their stored form
 *   transform_state.c   what programs call (mr_value_state_*, mr_list_state_*, mr_map_state_*)
 *   transform_timers.c  mr_timer_*, and the timers of a key
 *
 * Thread: see each.
 */
#ifndef MR_STREAMS_TRANSFORM_H
#define MR_STREAMS_TRANSFORM_H

#include "base/limits.h"
#include "ops/ops.h"
#include "streams/due.h"
#include "streams/keyed.h"

enum { MR_TRANSFORM_VARIABLES_MAX = MR_LIMIT_STATE_VARIABLES };

/* ---- the operator ---- */

struct mr_transform_op_spec {
    struct mr_keyed_spec keyed;
    const struct mr_transform_spec *transform; /* read here; texts are copied */
};
enum mr_status mr_transform_op(const struct mr_transform_op_spec *spec, struct mr_fold_op *ret_op,
                               struct mr_error *err);

struct transform_variable {
    char *name;
    char *store_name;
    enum mr_state_kind kind;
    struct mr_schema *columns;
    struct mr_schema *map_key; /* one column; NULL: not a map */
    int64_t ttl_ms;
    struct mr_store *store;
    struct mr_due due; /* with a lifetime: when its first cell ends */
};

struct transform_op {
    struct mr_keyed keyed;
    const struct mr_processor *processor;
    void *arg;
    enum mr_time_mode time_mode;
    enum mr_output_mode mode;
    int32_t event_time; /* output column, -1: none */
    struct transform_variable *variables;
    uint32_t variable_count;
    struct mr_store *marks;  /* only the mark of the first batch */
    struct mr_store *timers; /* NULL: time mode none */
    struct mr_due timers_due;
    struct mr_transform *contexts[MR_STORE_SHARDS]; /* per partition */
    bool is_ready;                                  /* init was called */
    bool any_run;                                   /* since open: the two below hold */
    uint64_t last_batch_id;
    int64_t last_watermark_us;
    int64_t late_us;
};

/* ---- variables of the key at hand (transform_cells.c) ---- */

/*
 * Stored form of a variable:
 *     value   end of life i64 (milliseconds, MR_DUE_NEVER) | value form of the columns
 *     list    earliest end of life i64 | { end of life i64 | size u32 | value form }
 *     map     the same, with { end i64 | key size u32 | key (row_codec) | size u32 | value form }
 */
struct transform_cell {
    int64_t end_ms;
    struct mr_slice key; /* of a map's entry */
    struct mr_slice value;
};
enum transform_pending { PENDING_NONE, PENDING_VALUE, PENDING_PUT, PENDING_APPEND, PENDING_ENTRY };
struct transform_cells {
    bool is_loaded;
    bool is_changed;
    bool had_entry;
    int64_t old_end_ms; /* as stored */
    struct transform_cell *cells;
    uint32_t count;
    uint32_t capacity;
    /* What the program is emitting. */
    enum transform_pending pending;
    struct mr_slice pending_key;
    struct mr_emitter emitter;
    bool has_emitter;
    /* What the program has asked for: all cells as rows. */
    struct mr_batch *values;
    struct mr_batch *keys;
};

struct mr_transform_counts {
    uint64_t updated, removed, registered, deleted, expired, ended;
};

/* What a call may use; one a partition, used again for each key. */
struct mr_transform {
    struct transform_op *op;
    bool is_active; /* inside a function of the program */
    struct mr_error error;
    const char *key;
    size_t key_bytes;
    unsigned shard;
    uint64_t batch_id;
    struct transform_cells *variables;
    bool timers_loaded, timers_changed;
    int64_t *timers; /* ascending */
    size_t timer_count;
    size_t timer_capacity;
    struct mr_arena arena; /* of the key at hand */
    struct mr_buf bytes;
    struct mr_emitter nowhere;         /* takes rows after a mistake */
    struct mr_transform_counts counts; /* of the batch */
};

/* The first mistake sticks. */
void mr_transform_blame(struct mr_transform *at, const char *format, ...) MR_PRINTF(2, 3);
/* The variable, loaded, with what was emitted taken in; NULL after a mistake. */
struct transform_cells *mr_transform_cells(struct mr_transform *at, size_t variable,
                                           enum mr_state_kind kind);
/* Rows of all cells: valid until the variable changes. NULL after a mistake. */
struct mr_batch *mr_transform_values(struct mr_transform *at, size_t variable);
struct mr_batch *mr_transform_keys(struct mr_transform *at, size_t variable);
/* Where the next row goes; never NULL. */
struct mr_emitter *mr_transform_emit(struct mr_transform *at, size_t variable,
                                     enum mr_state_kind kind, enum transform_pending pending,
                                     struct mr_slice key);
void mr_transform_changed(struct transform_cells *cells);
/* Index of an entry by its key's bytes; *ret_found false: where it would be. */
uint32_t mr_transform_find(const struct transform_cells *cells, struct mr_slice key,
                           bool *ret_found);
/* Bytes of a map's key, in the arena; data NULL after a mistake. */
struct mr_slice mr_transform_map_key(struct mr_transform *at, size_t variable,
                                     struct mr_map_key key);
/* After the call: takes in what was emitted, writes what changed, forgets. */
enum mr_status mr_transform_write(struct mr_transform *at, struct mr_error *err);
void mr_transform_forget(struct mr_transform *at);
/* Takes cells out of a variable whose life has ended; at->key is set. */
enum mr_status mr_transform_end_cells(struct mr_transform *at, size_t variable,
                                      struct mr_error *err);

/* ---- timers of the key at hand (transform_timers.c) ---- */

void mr_transform_load_timers(struct mr_transform *at);
bool mr_transform_has_timer(struct mr_transform *at, int64_t expiry_ms);
void mr_transform_drop_timer(struct mr_transform *at, int64_t expiry_ms);
enum mr_status mr_transform_write_timers(struct mr_transform *at, struct mr_error *err);

/* ---- calls (transform_call.c) ---- */

enum mr_status mr_transform_context_new(struct transform_op *op, struct mr_transform **ret_at,
                                        struct mr_error *err);
void mr_transform_context_free(struct mr_transform *at); /* NULL allowed */

/* A partition of a batch. */
struct mr_transform_run {
    struct transform_op *op;
    struct mr_transform *at;
    struct mr_output *out;
    struct mr_emitter emitter;
};
enum mr_status mr_transform_call_initial(struct mr_transform_run *run,
                                         const struct mr__state_rows *rows, struct mr_error *err);
enum mr_status mr_transform_call_rows(struct mr_transform_run *run,
                                      const struct mr__state_rows *rows, struct mr_error *err);
/* Timers (time, key) in order. */
enum mr_status mr_transform_call_timers(struct mr_transform_run *run,
                                        const struct mr_due_list *timers, struct mr_error *err);
enum mr_status mr_transform_flush(struct mr_transform_run *run, struct mr_error *err);

#endif
