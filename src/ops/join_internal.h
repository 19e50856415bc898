/*
 * Shared between the files of the join (join.h tells what it does).
 *
 *     struct mr_join        the operator: driver, read by partitions
 *       part[8]             keys whose hash falls into shard p of the stores; one worker at a time
 *         keys              hash table: key -> chain of left rows, chain of right rows
 *         side[2].rows      rows in state; each points into a held batch
 *         side[2].heap      rows by expiry, least first
 *         in[2]             rows of the batch at hand
 *       held                input batches that rows in state live in; shared by all partitions
 *
 * Everything in memory can be made again from the stores (mr_join__load), and is, when a batch
 * runs again.
 */
#ifndef MR_OPS_JOIN_INTERNAL_H
#define MR_OPS_JOIN_INTERNAL_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "ops/join.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { MR_JOIN_PARTS = MR_STORE_SHARDS, MR_JOIN_CHUNK_PAIRS = 8192, MR_JOIN_STORE_ROWS = 32 };
#define MR_JOIN_NO_ROW UINT32_MAX
#define MR_JOIN_NO_TIME INT64_MAX /* never expires, never late */

/* A batch whose rows are in state, or in the batch at hand. */
struct mr_join_held {
    struct mr_batch *batch;
    const struct mr_column **columns;
    uint32_t live[MR_JOIN_PARTS]; /* rows in state, by partition: each writes its own */
};

struct mr_join_ref {
    const struct mr_join_held *held; /* NULL: nulls */
    uint32_t at;
};

struct mr_join_row {
    struct mr_join_held *held;
    int64_t time_us; /* of expiry */
    uint64_t number; /* its key in the store */
    uint32_t at;
    uint32_t next; /* of the same key; of a free row: the next free one */
    uint32_t prev;
    uint32_t key; /* MR_JOIN_NO_ROW: a null key, matches nothing */
    bool matched;
    bool used;
    bool fresh;   /* not in the store yet */
    bool leaving; /* a semi join's left row that matched: goes at the end of the batch */
};

struct mr_join_due {
    int64_t time_us;
    uint64_t number; /* rows are used again: a due entry is of the row with that number */
    uint32_t row;
};

struct mr_join_rows {
    struct mr_join_row *rows;
    uint32_t count; /* ever used */
    uint32_t capacity;
    uint32_t free;
    uint64_t live;
    struct mr_join_due *heap;
    size_t heap_count;
    size_t heap_capacity;
    uint64_t next_number;
};

struct mr_join_key {
    uint64_t hash;
    uint32_t head[2]; /* rows of left, right; head[0] of a free key: the next free one */
    uint32_t tail[2];
};

struct mr_join_keys {
    struct mr_join_key *keys;
    uint32_t count;
    uint32_t capacity;
    uint32_t free;
    uint32_t live;
    uint32_t *slots; /* key + 1, 0 = empty */
    uint32_t slot_mask;
};

/* A row of the batch at hand. */
enum mr_join_fate { MR_JOIN_SEARCHES, MR_JOIN_NULL_KEY, MR_JOIN_FAILS };
struct mr_join_in {
    struct mr_join_held *held;
    uint64_t hash;
    uint32_t at;
    uint32_t key; /* found by the search, MR_JOIN_NO_ROW: none, or it may be gone */
    uint8_t fate;
    bool matched;
};

struct mr_join_ins {
    struct mr_join_in *rows;
    size_t count;
    size_t capacity;
};

/* A candidate: row `in` of the batch at hand and row `other` of the other side's state. */
struct mr_join_pair {
    uint32_t in;
    uint32_t other;
};

struct mr_join_list {
    uint32_t *rows;
    size_t count;
    size_t capacity;
};

struct mr_join_part {
    struct mr_join_keys keys;
    struct mr_join_rows side[2];
    struct mr_join_ins in[2];
    struct mr_join_pair *pairs;
    struct mr_join_ref *refs[2]; /* of pairs to emit, left and right */
    bool *keep;
    struct mr_join_list list;  /* rows that leave */
    struct mr_join_list fresh; /* left rows of a semi join that are not in the store yet */
    struct mr_batch_builder *builder;
    struct mr_batch_builder *candidates; /* for the filter */
    struct mr_buf value;
    uint64_t updated; /* counters of the batch at hand */
    uint64_t removed;
    unsigned index;
};

struct mr_join_key_column {
    uint32_t column[2];
    enum mr_type_id type;
    uint8_t width; /* of a fixed-width value as stored, 0 = bytes, 0xff = by key encoding */
    bool null_equal;
};

struct mr_join {
    enum mr_join_type type;
    struct mr_schema *schema[2];
    struct mr_join_key_column *keys;
    uint32_t key_count;
    struct mr_join_time event[2];
    struct mr_join_time expiry[2];
    int64_t shift_us[2];
    int32_t pass[2];
    struct mr_join_range *ranges;
    uint32_t range_count;
    struct mr_join_filter filter; /* keep NULL = none */
    struct mr_schema *filter_schema;
    struct mr_join_column *outputs;
    uint32_t output_count;
    struct mr_schema *output;
    char *name;
    struct mr_store *store[2];
    uint64_t seed;
    struct mr_join_part parts[MR_JOIN_PARTS];
    struct mr_join_held **held;
    size_t held_count;
    size_t held_capacity;
    uint64_t held_rows;
    bool loaded;
    bool any_run;
    uint64_t last_batch_id;
    int64_t last_watermark_us;
    struct mr_buf scratch; /* driver */
};

/* Which sides keep their unmatched rows. */
static inline bool mr_join__preserves(const struct mr_join *join, unsigned side)
{
    return join->type == MR_JOIN_FULL || join->type == (side == 0 ? MR_JOIN_LEFT : MR_JOIN_RIGHT);
}

enum mr_status mr_join__no_memory(struct mr_error *err);

/* join_key.c */
void mr_join__key_width(struct mr_join_key_column *key, const struct mr_type *type);
/* Hashes of the keys of all rows; any[i] tells a null that matches nothing. */
enum mr_status mr_join__hash(struct mr_join *join, unsigned side, const struct mr_join_held *held,
                             uint64_t *hashes, bool *any_null, struct mr_error *err);
bool mr_join__equal(const struct mr_join *join, unsigned side_a, const struct mr_join_held *a,
                    uint32_t row_a, unsigned side_b, const struct mr_join_held *b, uint32_t row_b);
/* MR_JOIN_NO_TIME when there is none or it is null. */
int64_t mr_join__time(const struct mr_join_time *time, const struct mr_join_held *held,
                      uint32_t row);
/* All range conditions of a pair. */
bool mr_join__in_range(const struct mr_join *join, const struct mr_join_ref *left,
                       const struct mr_join_ref *right);

/* join_table.c: rows and keys of a partition */
uint32_t mr_join__find_key(const struct mr_join *join, const struct mr_join_part *part,
                           unsigned side, const struct mr_join_in *in);
/* Asks memory for what finding a hash will read: step 0 well ahead, then step 1, then step 2. */
void mr_join__hint(const struct mr_join_part *part, unsigned side, uint64_t hash, unsigned step);
/* Puts a row into the table, the heap and the chain of its key; number is set by the caller. */
enum mr_status mr_join__add_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                const struct mr_join_in *in, uint64_t number, uint32_t *ret_row,
                                struct mr_error *err);
void mr_join__remove_row(struct mr_join_part *part, unsigned side, uint32_t row);
/* Fills part->list with the rows of a side that expire at or below until_us, by number; they leave
 * the heap. */
enum mr_status mr_join__expired(struct mr_join_part *part, unsigned side, int64_t until_us,
                                struct mr_error *err);
/* Time of the first row that may expire, MR_JOIN_NO_TIME when none can. */
int64_t mr_join__first_due(struct mr_join_part *part, unsigned side);
enum mr_status mr_join__list_add(struct mr_join_list *list, uint32_t row, struct mr_error *err);
void mr_join__part_clear(struct mr_join_part *part);
void mr_join__part_release(struct mr_join_part *part);
enum mr_status mr_join__hold(struct mr_join *join, struct mr_batch *batch,
                             struct mr_join_held **ret_held, struct mr_error *err);
void mr_join__held_clear(struct mr_join *join);
/* Frees batches without rows in state; merges what is left when it is mostly dead or in small
 * pieces. Driver, between batches. */
enum mr_status mr_join__tidy(struct mr_join *join, struct mr_error *err);

/* join_state.c: the stores */
enum mr_status mr_join__open_stores(struct mr_join *join, struct mr_state *state,
                                    struct mr_error *err);
enum mr_status mr_join__load(struct mr_join *join, struct mr_error *err);
/* Adds rows, at most MR_JOIN_STORE_ROWS, to table and store. */
enum mr_status mr_join__store_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   const struct mr_join_in *const *ins, size_t count,
                                   struct mr_error *err);
/* The same in two steps: into the table, and later, when it has not left, into the store. */
enum mr_status mr_join__keep_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 const struct mr_join_in *in, uint32_t *ret_row,
                                 struct mr_error *err);
enum mr_status mr_join__store_kept(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   uint32_t row, struct mr_error *err);
enum mr_status mr_join__store_matched(struct mr_join *join, struct mr_join_part *part,
                                      unsigned side, uint32_t row, struct mr_error *err);
/* Removes a row from store and table. */
enum mr_status mr_join__drop_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 uint32_t row, struct mr_error *err);

/* join_pairs.c: one batch in one partition */
enum mr_status mr_join__run_part(struct mr_join *join, struct mr_join_part *part,
                                 struct mr_fold_call *call, struct mr_error *err);
/* Column `column` of refs appended to a builder's column. */
enum mr_status mr_join__gather(struct mr_column_builder *out, const struct mr_join_ref *refs,
                               size_t count, uint32_t column, struct mr_error *err);

#endif
