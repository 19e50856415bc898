/*
 * Inside of the incremental aggregation: where the buffers of one group keep what. The form is
 * drawn in aggregate.c; it is part of the on-disk formats.
 *
 *   agg_layout.c    slots and schemas                  agg_update.c   rows into buffers
 *   aggregate.c     merge, subtract                    agg_wide.c     slots that keep values
 *   agg_emit.c      results                            agg_sketch.c   slots that keep sketches
 *   agg_partial.c   the map operator                   agg_text.c     layouts as text
 *   agg_fold.c      the fold operator                  agg_change.c   buffers of other layouts
 *   agg_user.c      aggregates of a program       agg_pack.c     buffers in few bytes
 *   agg_topn.c      the n best values             agg_set.c      sets of numbers
 *   agg_narrow.h    counts and integer sums as words
 */
#ifndef MR_OPS_AGGREGATE_H
#define MR_OPS_AGGREGATE_H

#include "base/limits.h"
#include "ops/ops.h"

#include "base/buf.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum mr_slot_kind {
    MR_SLOT_COUNT,     /* count i64 */
    MR_SLOT_SUM_INT,   /* sum i128 | count i64 */
    MR_SLOT_SUM_FLOAT, /* sum f64 | error f64 | count i64 */
    MR_SLOT_PRODUCT,   /* product f64 | count i64 */
    MR_SLOT_MOMENTS,   /* count i64 | mean f64 | squares f64 */
    MR_SLOT_COMOMENTS, /* count i64 | mean y, x f64 | squares y, x f64 | products f64 */
    /* from here on the first byte tells whether there was a value */
    MR_SLOT_BEST_64,  /* present u8 | ordinal i64 */
    MR_SLOT_BEST_128, /* present u8 | i128 */
    MR_SLOT_BITS,     /* present u8 | u64 */
    /* from here on present u8 | size u32; the bytes follow the fixed part */
    MR_SLOT_BEST_BYTES,
    MR_SLOT_FIRST,    /* value */
    MR_SLOT_LAST,     /* value */
    MR_SLOT_ARG_BEST, /* key size u32 | key | value */
    MR_SLOT_LIST,     /* (key size varint | value size varint | key | value) ... */
    MR_SLOT_SET,      /* (key size varint | key) ..., ascending */
    MR_SLOT_HLL,      /* 0 | hash u64 ..., ascending; or 1 | 4,096 registers */
    MR_SLOT_DIGEST,   /* (mean f64 | weight u64) ..., ascending */
    MR_SLOT_TOP,      /* agg_topn.c */
    MR_SLOT_USER,     /* what functions of the program keep */
};

static inline bool mr_slot_has_flag(enum mr_slot_kind kind)
{
    return kind >= MR_SLOT_BEST_64;
}
static inline bool mr_slot_is_wide(enum mr_slot_kind kind)
{
    return kind >= MR_SLOT_BEST_BYTES;
}

/* What aggregates keep: those that keep the same of the same may share a slot (sum and avg). */
struct mr_agg_slot {
    enum mr_slot_kind kind;
    const char *what; /* its word in the value schema: "sum", "max"; also tells min from max */
    char *identity;   /* of what: mr_agg.identity */
    bool wants_max;   /* BEST, ARG_BEST, TOP: the greatest, else the least */
    bool is_unsigned; /* SUM_INT, BITS of UINT64 */
    bool skips_nulls; /* FIRST: any_value */
    uint32_t column;  /* of the input */
    uint32_t other;   /* ARG_BEST, TOP, COMOMENTS */
    uint32_t limit;   /* TOP: how many; of a layout from text 0: it only shows them */
    bool has_filter;  /* wide ones */
    uint32_t filter;
    uint32_t order_count; /* LIST */
    struct mr_agg_order orders[MR_AGG_ORDERS_MAX];
    uint32_t offset;                /* in the fixed part */
    uint32_t word;                  /* of narrow layouts: the first one */
    uint32_t bytes_index;           /* wide: which of the byte strings behind the fixed part */
    struct mr_type type;            /* of the input column; fields point into the input schema */
    const struct mr_agg_user *user; /* USER */
};

struct mr_agg_result {
    enum mr_agg_kind kind;
    uint32_t slot; /* unused for COUNT_ALL */
    double fraction;
};

enum { MR_NARROW_WORDS_MAX = 8, MR_NARROW_BYTES_MAX = 8 };
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
    uint32_t bytes_count;  /* wide slots */
    uint32_t narrow_words; /* agg_narrow.h: words of a group; 0: it is not of that kind */
    uint32_t narrow_sums;  /* which of them are sums: a bit each */
    uint32_t narrow_bytes; /* of a packed value that is read and written as a word */
    char **key_identities; /* one a key */
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

/* BITS: two values become one. */
static inline uint64_t mr_bits_of(const struct mr_agg_slot *slot, uint64_t a, uint64_t b)
{
    switch (slot->what[4]) { /* bit_and, bit_or, bit_xor */
    case 'a':
        return a & b;
    case 'o':
        return a | b;
    default:
        return a ^ b;
    }
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
/* out becomes the merged buffers of both. */
enum mr_status mr_agg_merge_into(const struct mr_agg_layout *layout, struct mr_slice a,
                                 struct mr_slice b, struct mr_buf *out, struct mr_error *err);
enum mr_status mr_agg_sum_overflow(const struct mr_agg_slot *slot, struct mr_error *err);
/* mr_agg_emit of a row that the caller tells the builder of (mr_batch_builder_rows_added). */
enum mr_status mr_agg_emit_row(const struct mr_agg_layout *layout, struct mr_slice key,
                               struct mr_slice buffers, struct mr_batch_builder *out,
                               struct mr_error *err);
/* The same of a narrow group (agg_narrow.h). */
enum mr_status mr_agg_emit_narrow(const struct mr_agg_layout *layout, struct mr_slice key,
                                  const uint64_t *words, struct mr_batch_builder *out,
                                  struct mr_error *err);
/* A sum as BIGINT or DECIMAL(38,s); MR_BAD_DATA when it does not fit. */
enum mr_status mr_agg_emit_int_sum(const struct mr_agg_slot *slot, mr_int128 sum,
                                   struct mr_column_builder *out, struct mr_error *err);
/* Appends the value schema (mr_agg_value_schema). */
void mr_agg_print(const struct mr_agg_layout *layout, struct mr_buf *out);
/* MR_CORRUPT when these are no buffers of this layout. */
enum mr_status mr_agg_check(const struct mr_agg_layout *layout, struct mr_slice buffers,
                            struct mr_error *err);

enum mr_status mr_agg_damaged(size_t size_bytes, struct mr_error *err);

/*
 * agg_pack.c: buffers without byte strings in few bytes. Only layouts that pack: values of a store
 * of kind "aggregate" and partials on their way to it may then have either form, which their size
 * tells.
 */
enum { MR_AGG_PACKS_UP_TO_BYTES = 512, MR_AGG_PACK_ROOM_BYTES = 1024 };
static inline bool mr_agg_packs(const struct mr_agg_layout *layout)
{
    return layout->bytes_count == 0 && layout->fixed_bytes <= MR_AGG_PACKS_UP_TO_BYTES;
}
/* out: MR_AGG_PACK_ROOM_BYTES. Returns how many were written, at most fixed_bytes. */
size_t mr_agg_pack(const struct mr_agg_layout *layout, const char *fixed, char *out);
/* Either form into fixed_bytes at `fixed`. MR_CORRUPT. */
enum mr_status mr_agg_unpack(const struct mr_agg_layout *layout, struct mr_slice value, char *fixed,
                             struct mr_error *err);

/* State of the partial aggregation of rows: buffers of all groups of a task. */
struct mr_agg_bytes {
    char *data; /* in the arena */
    uint32_t size_bytes;
    uint32_t capacity_bytes;
    uint32_t sealed_bytes; /* sets and sketches: what is in its final form */
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
/* Brings the buffers of one group into the stored form and appends them as one value to a BINARY
 * column. fixed and bytes are those of that group. */
enum mr_status mr_agg_write_group(const struct mr_agg_layout *layout, char *fixed,
                                  struct mr_agg_bytes *bytes, struct mr_arena *arena,
                                  struct mr_column_builder *out, struct mr_error *err);

/* Bytes of all wide slots of one group, and of one aggregate of one group: a row of state has a
 * limit (MR_LIMIT). */
enum { MR_AGG_WIDE_BYTES_MAX = MR_LIMIT_STATE_AGGREGATE };

/* agg_wide.c, agg_sketch.c: the byte string of one wide slot. */
/* Rows into the byte strings of their groups; bytes: of group 0, with a stride of bytes_count. */
struct mr_agg_rows {
    const struct mr_batch *batch;
    int64_t from;
    uint32_t count;
    const uint32_t *groups;
    char *slots; /* the slot of group 0 */
    size_t slot_stride;
    struct mr_agg_bytes *bytes;
    size_t bytes_stride;
    struct mr_arena *arena;
};
enum mr_status mr_wide_update(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                              struct mr_error *err);
enum mr_status mr_wide_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                            struct mr_arena *arena, struct mr_error *err);
/* Appends the merged byte string to out; a came first. */
enum mr_status mr_wide_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                             struct mr_buf *out, struct mr_error *err);
/* Appends the result; there was a value. */
enum mr_status mr_wide_emit(const struct mr_agg_slot *slot, enum mr_agg_kind kind, double fraction,
                            struct mr_slice bytes, struct mr_column_builder *out,
                            struct mr_error *err);
enum mr_status mr_wide_too_large(const struct mr_agg_slot *slot, struct mr_error *err);
enum mr_status mr_wide_corrupt(const struct mr_agg_slot *slot, struct mr_error *err);
/* Room for more bytes behind bytes->size_bytes; NULL with the error set. */
char *mr_wide_room(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes, size_t more,
                   struct mr_arena *arena, struct mr_error *err);

/* agg_set.c: SET of numbers and times; the bytes are those of other sets */
bool mr_set_is_fixed(const struct mr_agg_slot *slot);
enum mr_status mr_set_update(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                             const struct mr_column *filter, struct mr_error *err);
enum mr_status mr_set_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                           struct mr_arena *arena, struct mr_error *err);
enum mr_status mr_set_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                            struct mr_buf *out, struct mr_error *err);
/* Values that are not null; -1: the bytes are damaged. */
int64_t mr_set_count(const struct mr_agg_slot *slot, struct mr_slice whole);

/* agg_topn.c */
enum mr_status mr_top_add(const struct mr_agg_slot *slot, const struct mr_batch *batch,
                          const struct mr_column *column, int64_t row, char *fixed,
                          struct mr_agg_bytes *bytes, struct mr_arena *arena,
                          struct mr_buf scratch[2], struct mr_error *err);
enum mr_status mr_top_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                           struct mr_error *err);
enum mr_status mr_top_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                            struct mr_buf *out, struct mr_error *err);
enum mr_status mr_top_emit(const struct mr_agg_slot *slot, struct mr_slice bytes,
                           struct mr_column_builder *out, struct mr_error *err);

/* agg_user.c */
enum mr_status mr_user_update(const struct mr_agg_slot *slot, const struct mr_agg_rows *rows,
                              struct mr_error *err);
enum mr_status mr_user_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                             struct mr_buf *out, struct mr_error *err);
enum mr_status mr_user_emit(const struct mr_agg_slot *slot, struct mr_slice bytes,
                            struct mr_column_builder *out, struct mr_error *err);

/* agg_sketch.c */
enum mr_status mr_hll_add(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes, uint64_t hash,
                          struct mr_arena *arena, struct mr_error *err);
enum mr_status mr_hll_seal(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                           struct mr_arena *arena, struct mr_error *err);
enum mr_status mr_hll_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                            struct mr_buf *out, struct mr_error *err);
/* INT64_MIN when the bytes are damaged. */
int64_t mr_hll_estimate(struct mr_slice bytes);
enum mr_status mr_digest_add(const struct mr_agg_slot *slot, struct mr_agg_bytes *bytes,
                             double value, struct mr_arena *arena, struct mr_error *err);
enum mr_status mr_digest_seal(struct mr_agg_bytes *bytes, struct mr_arena *arena,
                              struct mr_error *err);
enum mr_status mr_digest_merge(const struct mr_agg_slot *slot, struct mr_slice a, struct mr_slice b,
                               struct mr_buf *out, struct mr_error *err);
double mr_digest_quantile(struct mr_slice bytes, double fraction);

#endif
