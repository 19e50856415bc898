/*
 * What map_groups and transform_with_state have in common: rows of a batch by key, late rows,
 * initial states.
 *
 *     input batches --late? dropped and counted--> rows by key of a partition --> function
 *
 * Thread: init, take_batches, drop_batches: driver; the rest: the partition's worker.
 */
#ifndef MR_STREAMS_KEYED_H
#define MR_STREAMS_KEYED_H

#include "dstream/state_rows.h"
#include "fn/fn.h"
#include "fn/rows.h"

#include <millrace/groups.h>

/* Where a keyed operator finds what in its input. */
struct mr_keyed_spec {
    const struct mr_schema *input;
    const uint32_t *keys; /* input columns */
    uint32_t key_count;
    int32_t time_column; /* decides which rows are late; -1: none are */
    int64_t time_add_us; /* window size when that is a start */
    const char *output;  /* columns, as text */
    const char *name;    /* of the operator and its stores */
    const struct mr_batch *initial;
    uint32_t partition_count;
    bool has_watermark; /* of the input */
};

struct mr_keyed {
    struct mr_schema *input;
    struct mr_schema *key;
    struct mr_schema *output;
    uint32_t *columns;
    uint32_t key_count;
    int32_t time_column;
    int64_t time_add_us;
    bool time_is_nanos;
    bool has_watermark;
    char *name;
    struct mr_batch *initial; /* its first columns are the key */
    uint32_t partition_count;
    /* of the batch being run */
    bool initial_now;
    struct mr_batch **batches; /* borrowed from the call, or among the copies */
    size_t batch_count;
    struct mr_batch **copies; /* those that had late rows */
    size_t copy_count;
    int64_t batch_time_ms;
    int64_t watermark_ms; /* 0: none yet */
};

/* Release also after a failure. */
enum mr_status mr_keyed_init(struct mr_keyed *keyed, const struct mr_keyed_spec *spec,
                             struct mr_error *err);
void mr_keyed_release(struct mr_keyed *keyed);

/* The rows of this batch that are not late; drop_batches when the batch is over. */
enum mr_status mr_keyed_take_batches(struct mr_keyed *keyed, struct mr_fold_call *call,
                                     struct mr_error *err);
void mr_keyed_drop_batches(struct mr_keyed *keyed);

/* Rows of a partition, grouped. */
enum mr_status mr_keyed_rows(const struct mr_keyed *keyed, const struct mr_store *store,
                             struct mr__shards shards, struct mr__state_rows *rows,
                             struct mr_error *err);
/* Rows of the initial states of a partition, grouped. */
enum mr_status mr_keyed_initial_rows(const struct mr_keyed *keyed, const struct mr_store *store,
                                     struct mr__shards shards, struct mr__state_rows *rows,
                                     struct mr_error *err);
/* The key of a group, as bytes. */
const char *mr_keyed_group_key(const struct mr__state_rows *rows, uint32_t group,
                               size_t *ret_bytes);
/* Order of two groups in their lists. */
int mr_keyed_compare_groups(const struct mr__state_rows *a, uint32_t a_group,
                            const struct mr__state_rows *b, uint32_t b_group);
/* Appends a key's columns to a builder of keyed->key; the caller ends the row. */
enum mr_status mr_keyed_key_get(const struct mr_keyed *keyed, const char *key, size_t key_bytes,
                                struct mr_batch_builder *builder, struct mr_error *err);

/* mr_rows over the rows of one group; group UINT32_MAX: none. */
struct mr_keyed_iterator {
    struct mr_rows rows; /* first: mr_rows_next gets it */
    const struct mr__state_rows *of;
    uint32_t group;
    uint32_t next;
};
void mr_keyed_iterate(struct mr_keyed_iterator *iterator, const struct mr__state_rows *rows,
                      uint32_t group);

/* "city VARCHAR, day DATE", for the manifest and for errors; NULL without memory; mr_text_free. */
char *mr_keyed_print(const struct mr_schema *schema);
/* Puts the key in front of the text of an error that a function made; returns its status. */
enum mr_status mr_keyed_blame(const struct mr_keyed *keyed, const struct mr_row *key,
                              enum mr_status status, struct mr_error *err);
/* MR_LIMIT when a record of a key is larger than state allows. */
enum mr_status mr_keyed_check_size(const struct mr_keyed *keyed, const struct mr_row *key,
                                   size_t value_bytes, struct mr_error *err);
/* Is there any value in row `row` of what is being emitted, or nothing but nulls? */
bool mr_keyed_any_value(struct mr_emitter *emitter, int64_t row);

static inline int64_t mr_keyed_ms(int64_t time_us)
{
    int64_t ms = time_us / 1000;

    return time_us % 1000 < 0 ? ms - 1 : ms;
}

#endif
