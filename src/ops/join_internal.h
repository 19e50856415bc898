/*
 * Shared between the files of the join (join.h tells what it does).
 *
 *     struct mr_join        the operator: driver, read by partitions
 *       part[8]             keys whose hash falls into shard p of the stores; one worker at a time
 *         keys              hash table: key -> chain of left rows, chain of right rows
 *         side[2].blocks    rows in state, by up to 1,024; their columns lie in the store
 *         side[2].heap      blocks by the first of their rows that expires
 *         in[2]             rows of the batch at hand
 *       held                batches at hand; shared by all partitions
 *
 * A row in state has the number (block << 10 | place in the block). Everything in memory can be
 * made again from the stores (mr_join__load), and is, when a batch runs again.
 */
#ifndef MR_OPS_JOIN_INTERNAL_H
#define MR_OPS_JOIN_INTERNAL_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "ops/join.h"
#include "ops/join_block.h"

#include <millrace/ext/builder.h>

#include <stdatomic.h>
#include <string.h>

enum { MR_JOIN_PARTS = MR_STORE_SHARDS, MR_JOIN_CHUNK_PAIRS = 8192 };
#define MR_JOIN_NO_ROW UINT32_MAX
#define MR_JOIN_NO_TIME INT64_MAX /* never expires, never late */

/* A row's place in the chain of its key. */
struct mr_join_link {
    uint32_t next;
    uint32_t prev;
    uint32_t key; /* MR_JOIN_NO_ROW: a null key, matches nothing */
};

enum { MR_JOIN_LIVE = 1, MR_JOIN_MATCHED = 2, MR_JOIN_LEAVING = 4 };

/* Rows of one batch (or of several small ones) in state. */
struct mr_join_block {
    struct mr_join_held held;
    struct mr_join_link *links;
    uint8_t *flags;         /* MR_JOIN_LIVE ... */
    uint64_t *row_numbers;  /* an entry a row, as the first version wrote them; NULL */
    uint64_t number;        /* its key in the store; blocks are in the order of numbers */
    int64_t due_us;         /* no live row expires before; MR_JOIN_NO_TIME: none expires */
    uint64_t run;           /* in which it was made */
    uint32_t before, after; /* its neighbours; MR_JOIN_NO_ROW */
    uint32_t slot;
    uint32_t rows, live;
    uint32_t value_bytes; /* of its entry */
    uint16_t marks;       /* part of the key of its marks; 0: it has none */
    bool touched;         /* among those to be settled */
};

struct mr_join_due {
    int64_t time_us;
    uint64_t number; /* slots are used again: a due entry is of the block with that number */
    uint32_t slot;
};

struct mr_join_list {
    uint32_t *rows;
    size_t count;
    size_t capacity;
};

struct mr_join_rows {
    struct mr_join_block **blocks;
    uint32_t count; /* slots ever used */
    uint32_t capacity;
    struct mr_join_list free;
    uint32_t first, last; /* in the order of numbers */
    uint64_t live;
    uint64_t held; /* rows of all blocks, dead ones too */
    struct mr_join_due *heap;
    size_t heap_count;
    size_t heap_capacity;
    struct mr_join_list touched;
    uint64_t next_number;
};

struct mr_join_key {
    uint32_t hash;
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

struct mr_join_part {
    struct mr_join_keys keys;
    struct mr_join_rows side[2];
    struct mr_join_ins in[2];
    struct mr_join_pair *pairs;
    struct mr_join_ref *refs[2]; /* of pairs to emit, left and right */
    bool *keep;
    const struct mr_join_in **ins; /* to be stored */
    struct mr_join_list list;      /* rows that leave; blocks */
    struct mr_batch_builder *builder;
    struct mr_batch_builder *candidates; /* for the filter */
    struct mr_buf value;
    uint64_t *numbers; /* of a column that is packed */
    uint64_t run;      /* how often it ran */
    uint64_t updated;  /* counters of the batch at hand */
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
    atomic_uint parts_to_run;    /* of the batch at hand */
    bool has_texts[2];           /* or lists or structs: rows may be large */
    struct mr_schema *nested[2]; /* the columns that blocks hold decoded; NULL = none */
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
                             size_t rows, uint64_t *hashes, bool *any_null, struct mr_error *err);
bool mr_join__equal(const struct mr_join *join, unsigned side_a, const struct mr_join_held *a,
                    uint32_t row_a, unsigned side_b, const struct mr_join_held *b, uint32_t row_b);
/* MR_JOIN_NO_TIME when there is none or it is null. */
int64_t mr_join__time(const struct mr_join *join, unsigned side, const struct mr_join_time *time,
                      const struct mr_join_held *held, uint32_t row);
/* All range conditions of a pair. */
bool mr_join__in_range(const struct mr_join *join, const struct mr_join_ref *left,
                       const struct mr_join_ref *right);

/* join_table.c: rows and keys of a partition */
uint32_t mr_join__find_key(const struct mr_join *join, const struct mr_join_part *part,
                           unsigned side, const struct mr_join_in *in);
/* Asks memory for what finding a hash will read: step 0 well ahead, then step 1, then step 2. */
void mr_join__hint(const struct mr_join_part *part, unsigned side, uint64_t hash, unsigned step);

static inline struct mr_join_block *mr_join__block(const struct mr_join_part *part, unsigned side,
                                                   uint32_t row)
{
    return part->side[side].blocks[row >> MR_JOIN_BLOCK_BITS];
}
static inline uint32_t mr_join__place(uint32_t row)
{
    return row & (MR_JOIN_BLOCK_ROWS - 1);
}
static inline struct mr_join_ref mr_join__ref(const struct mr_join_part *part, unsigned side,
                                              uint32_t row)
{
    return (struct mr_join_ref){&mr_join__block(part, side, row)->held, mr_join__place(row)};
}
static inline struct mr_join_link *mr_join__link(const struct mr_join_part *part, unsigned side,
                                                 uint32_t row)
{
    return &mr_join__block(part, side, row)->links[mr_join__place(row)];
}
static inline uint8_t *mr_join__flags(const struct mr_join_part *part, unsigned side, uint32_t row)
{
    return &mr_join__block(part, side, row)->flags[mr_join__place(row)];
}

/* An empty block of so many rows, at the end of its side; the caller fills in what it holds. */
enum mr_status mr_join__block_new(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                  uint64_t number, uint32_t rows, struct mr_join_block **ret_block,
                                  struct mr_error *err);
void mr_join__block_free(struct mr_join_part *part, unsigned side, struct mr_join_block *block);
/* Makes row `at` of a block a row of the table: its flags, the chain of its key. */
enum mr_status mr_join__add_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                struct mr_join_block *block, uint32_t at,
                                const struct mr_join_in *in, struct mr_error *err);
/* Takes a row out of the table. */
void mr_join__remove_row(struct mr_join_part *part, unsigned side, uint32_t row);
/* Row `to` of another block is what row `from` was. */
void mr_join__move_row(struct mr_join_part *part, unsigned side, uint32_t from, uint32_t to);
/* Finds out when the next of its rows expires, and puts it into the heap. */
enum mr_status mr_join__block_due(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                  struct mr_join_block *block, struct mr_error *err);
/* Fills part->list with the rows of a side that expire at or below until_us, by number. */
enum mr_status mr_join__expired(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                int64_t until_us, struct mr_error *err);
/* Time of the first row that may expire, MR_JOIN_NO_TIME when none can. */
int64_t mr_join__first_due(struct mr_join_part *part, unsigned side);
enum mr_status mr_join__list_add(struct mr_join_list *list, uint32_t row, struct mr_error *err);
void mr_join__part_clear(struct mr_join_part *part);
void mr_join__part_release(struct mr_join_part *part);
enum mr_status mr_join__hold(struct mr_join *join, struct mr_batch *batch,
                             struct mr_join_held **ret_held, struct mr_error *err);
void mr_join__held_clear(struct mr_join *join);

/* join_state.c: the stores */
enum mr_status mr_join__open_stores(struct mr_join *join, struct mr_state *state,
                                    struct mr_error *err);
enum mr_status mr_join__load(struct mr_join *join, struct mr_error *err);
/* Adds the first count of part->ins, up to MR_JOIN_BLOCK_ROWS, as a block to table and store. */
enum mr_status mr_join__store_rows(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                   size_t count, struct mr_error *err);
enum mr_status mr_join__set_matched(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                    uint32_t row, struct mr_error *err);
/* A row leaves the table at once, the store with mr_join__settle. */
enum mr_status mr_join__drop_row(struct mr_join *join, struct mr_join_part *part, unsigned side,
                                 uint32_t row, struct mr_error *err);
/* Writes what happened to the rows of older blocks, and merges small and mostly dead ones. */
enum mr_status mr_join__settle(struct mr_join *join, struct mr_join_part *part, unsigned side,
                               struct mr_error *err);

/* join_pairs.c: one batch in one partition */
enum mr_status mr_join__make_room(struct mr_join_part *part, struct mr_error *err);
enum mr_status mr_join__run_part(struct mr_join *join, struct mr_join_part *part,
                                 struct mr_fold_call *call, struct mr_error *err);

#endif
