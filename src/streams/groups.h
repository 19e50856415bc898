/*
 * Inside of map_groups_with_state and flat_map_groups_with_state.
 *
 *   groups_op.c     the fold: partitions, timeouts, when a batch is wanted
 *   groups_calls.c  calls of the function, slice by slice, and what becomes of the state
 *   groups_state.c  what the function sees of its key (mr_group_*)
 *
 * Thread: see each.
 */
#ifndef MR_STREAMS_GROUPS_H
#define MR_STREAMS_GROUPS_H

#include "ops/ops.h"
#include "streams/due.h"
#include "streams/keyed.h"

/* ---- the handle of one call (groups_state.c) ---- */

struct mr_group_state {
    const struct mr_row *old; /* NULL: none */
    struct mr__new_states *news;
    bool is_updated; /* at most one of these two */
    bool is_removed;
    bool timed_out;
    int64_t before;       /* rows of news when the last update began */
    struct mr_row newest; /* the new state, once it was asked for */
    enum mr_group_timeout kind;
    int64_t timeout_ms; /* MR_DUE_NEVER: none */
    int64_t batch_time_ms;
    int64_t watermark_ms;
    bool has_watermark;
    const char *mistake; /* the first one */
};
/* After the call: MR_USER when a rule was broken. *ret_news: number of the new state, when there is
 * one. */
enum mr_status mr_group_end(struct mr_group_state *state, int64_t *ret_news, struct mr_error *err);

/* What is written back (structured.md 15): from what was there and what the call did. */
enum mr_group_write { MR_GROUP_KEEP, MR_GROUP_PUT, MR_GROUP_DELETE };
enum mr_group_write mr_group_writes(const struct mr_group_state *state, bool had_entry,
                                    int64_t old_timeout_ms, bool *ret_has_state);

/* ---- the operator ---- */

struct mr_groups_op_spec {
    struct mr_keyed_spec keyed;
    const struct mr_groups_spec *groups; /* read here; texts and function are copied */
    bool is_map;
};
enum mr_status mr_groups_op(const struct mr_groups_op_spec *spec, struct mr_fold_op *ret_op,
                            struct mr_error *err);

/* Counters of one partition; on a cache line of its own. */
struct mr_groups_counts {
    uint64_t updated;
    uint64_t removed;
    char apart[48];
};

struct groups_op {
    struct mr_keyed keyed;
    struct mr_schema *state;
    mr_group_fn call;
    void *arg;
    bool is_map;
    enum mr_group_timeout timeout;
    enum mr_output_mode mode;
    struct mr_store *store;
    struct mr_due due;
    struct mr_groups_counts counts[MR_STORE_SHARDS]; /* per partition */
    bool any_run;                                    /* since open: the two below hold */
    uint64_t last_batch_id;
    int64_t last_watermark_us;
};

/*
 * Stored value:
 *     timeout i64, milliseconds, MR_DUE_NEVER = none | has state u8 | value form of the state
 */
enum { MR_GROUP_HEAD_BYTES = 9 };

/* Keys to call the function for. */
struct mr_group_item {
    const char *key;
    size_t key_bytes;
    uint32_t group; /* its rows; UINT32_MAX: none */
};
struct mr_groups_run {
    struct groups_op *op;
    uint32_t partition;
    const struct mr__state_rows *rows;
    bool timing_out;
    struct mr_output *out;
};
enum mr_status mr_groups_calls(const struct mr_groups_run *run, const struct mr_group_item *items,
                               size_t count, struct mr_error *err);
/* Puts the initial states of a partition into the store. Two rows of one key: MR_CONFIG. */
enum mr_status mr_groups_begin(struct groups_op *op, const struct mr__state_rows *rows,
                               struct mr_error *err);

#endif
