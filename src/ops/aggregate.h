/*
 * Inside of the incremental aggregation: where the buffers of one group keep what. The form is
 * drawn in aggregate.c; it is part of the on-disk formats.
 *
 *   aggregate.c     layout, merge, subtract, emit      agg_update.c   rows into buffers
 *   agg_partial.c   the map operator                   agg_fold.c     the fold operator
 */
#ifndef MR_OPS_AGGREGATE_H
#define MR_OPS_AGGREGATE_H

#include "ops/ops.h"

#include "base/buf.h"

#include <string.h>

enum mr_slot_kind {
    MR_SLOT_COUNT,     /* count i64 */
    MR_SLOT_SUM_INT,   /* sum i128 | count i64 */
    MR_SLOT_SUM_FLOAT, /* sum f64 | error f64 | count i64 */
    MR_SLOT_BEST_64,   /* present u8 | ordinal i64 */
    MR_SLOT_BEST_128,  /* present u8 | i128 */
    MR_SLOT_BEST_BYTES /* present u8 | size u32; the bytes follow the fixed part */
};

/* What aggregates keep: two of them over one column may share a slot (sum and avg). */
struct mr_agg_slot {
    enum mr_slot_kind kind;
    bool wants_max;       /* BEST: MAX, else MIN */
    bool is_unsigned;     /* SUM_INT of UINT64 */
    uint32_t column;      /* of the input */
    uint32_t offset;      /* in the fixed part */
    uint32_t bytes_index; /* BEST_BYTES: which of the byte strings behind the fixed part */
    struct mr_type type;  /* of the input column; fields point into the input schema */
};

struct mr_agg_result {
    enum mr_agg_kind kind;
    uint32_t slot; /* unused for COUNT_ALL */
};

enum { MR_AGG_ROWS_BYTES = 8 }; /* every buffer begins with the group's row count, u64 */

struct mr_agg_layout {
    struct mr_schema *input;
    struct mr_schema *output;  /* keys, then results */
    struct mr_schema *partial; /* key BINARY, value BINARY */
    uint32_t *keys;
    uint32_t key_count;
    struct mr_agg_slot *slots;
    uint32_t slot_count;
    struct mr_agg_result *results;
    uint32_t result_count;
    uint32_t fixed_bytes;
    uint32_t bytes_count; /* BEST_BYTES slots */
};

/* Buffers are packed: these go through memcpy, which is one instruction. */
#define MR_SLOT_ACCESS(name, type)                                                                 \
    static inline type mr_load_##name(const void *at)                                              \
    {                                                                                              \
        type value;                                                                                \
        memcpy(&value, at, sizeof(value));                                                         \
        return value;                                                                              \
    }                                                                                              \
    static inline void mr_store_##name(void *at, type value)                                       \
    {                                                                                              \
        memcpy(at, &value, sizeof(value));                                                         \
    }
MR_SLOT_ACCESS(i64, int64_t)
MR_SLOT_ACCESS(u64, uint64_t)
MR_SLOT_ACCESS(u32, uint32_t)
MR_SLOT_ACCESS(f64, double)
MR_SLOT_ACCESS(i128, mr_int128)
#undef MR_SLOT_ACCESS

/* True when `a` of a BEST slot gives way to `b`. */
static inline bool mr_better_i64(bool wants_max, int64_t a, int64_t b)
{
    return wants_max ? b > a : b < a;
}

/* Adds to a SUM_FLOAT pair: sum + error is the sum to about 106 bits (Knuth's two-sum). */
static inline void mr_float_add(double *sum, double *error, double value)
{
    double total = *sum + value;

    if (__builtin_isfinite(total)) {
        double part = total - *sum;
        *error += (*sum - (total - part)) + (value - part);
    } else {
        *error = 0; /* infinity or NaN stays what it is */
    }
    *sum = total;
}

/* Merges b into the fixed-size buffers at a; both of fixed_bytes, without byte strings. */
enum mr_status mr_agg_merge_fixed(const struct mr_agg_layout *layout, char *a, const char *b,
                                  struct mr_error *err);
/* What the buffers keep, as text: "rows, sum(price DOUBLE), max(name VARCHAR)". Kept beside the
 * state and compared. */
void mr_agg_print(const struct mr_agg_layout *layout, struct mr_buf *out);
/* MR_CORRUPT when these are no buffers of this layout. */
enum mr_status mr_agg_check(const struct mr_agg_layout *layout, struct mr_slice buffers,
                            struct mr_error *err);

/* State of the partial aggregation of rows: buffers of all groups of a task. */
struct mr_agg_bytes {
    char *data; /* in the arena */
    uint32_t size_bytes;
    uint32_t capacity_bytes;
};
struct mr_arena;
/*
 * Adds rows [from, from + count) of a batch (at most MR_CHUNK_ROWS) to the buffers of their groups:
 * fixed holds fixed_bytes a group, bytes holds bytes_count a group.
 */
enum mr_status mr_agg_update(const struct mr_agg_layout *layout, const struct mr_batch *batch,
                             int64_t from, uint32_t count, const uint32_t *groups, char *fixed,
                             struct mr_agg_bytes *bytes, struct mr_arena *arena,
                             struct mr_error *err);

#endif
