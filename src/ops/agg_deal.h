/*
 * Partials on their way from the tasks to the fold of one aggregation: in the order of the shards
 * of its store, with the hashes of their keys, so that nobody deals them out again. Private to
 * src/ops. Thread: a record list is its task's; the link is read-only once the fold is open.
 */
#ifndef MR_OPS_AGG_DEAL_H
#define MR_OPS_AGG_DEAL_H

#include "ops/aggregate.h"

/*
 * Batches between the halves: key BINARY | value BINARY | hash UBIGINT, ascending by bucket, the
 * top bits of the hash. 64 buckets of each shard: those of a large batch fit a second-level cache.
 * A builder makes them, so values have MR_BUILDER_SLACK_BYTES behind them.
 */
enum { MR_AGG_BUCKET_BITS = 9, MR_AGG_BUCKETS = 1 << MR_AGG_BUCKET_BITS };
_Static_assert(MR_AGG_BUCKETS % MR_STORE_SHARDS == 0, "a bucket is of one shard");

static inline uint32_t mr_agg_bucket(uint64_t hash)
{
    return (uint32_t)(hash >> (64 - MR_AGG_BUCKET_BITS));
}

/* What both halves know. The seed is the store's: it is known when the fold has opened it, before
 * the first task runs. */
struct mr_agg_link {
    uint32_t user_count;
    uint64_t seed;
};
void mr_agg_link_unref(struct mr_agg_link *link); /* NULL allowed; the driver */
/* The halves of an aggregation; link NULL: plain ones (mr_op_aggregate_partial). */
enum mr_status mr_agg_partial_new(const struct mr_aggregate_spec *spec, struct mr_agg_link *link,
                                  struct mr_map_op *ret_op, struct mr_error *err);
enum mr_status mr_agg_fold_new(const struct mr_aggregate_spec *spec, struct mr_agg_link *link,
                               struct mr_fold_op *ret_op, struct mr_error *err);

/* One partial: its key, and behind it the packed buffers of layouts that pack. */
struct mr_agg_record {
    uint64_t hash;
    size_t at; /* in bytes */
    uint32_t key_bytes;
    uint32_t value_bytes;
};
/* Behind the bytes: copies may be of more than there is. */
enum { MR_AGG_RECORDS_SLACK_BYTES = 16 };
struct mr_agg_records {
    struct mr_agg_record *records;
    size_t count;
    size_t capacity;
    char *bytes;
    size_t bytes_used;
    size_t bytes_capacity;
    uint32_t *order; /* of mr_agg_records_sort */
    size_t order_capacity;
};
/* Room for so many records more, with so many bytes; false without memory. */
bool mr_agg_records_reserve(struct mr_agg_records *list, size_t records, size_t bytes);
/* list->order: numbers of records by bucket, those of one bucket in the order in which they were
 * added. False without memory. */
bool mr_agg_records_sort(struct mr_agg_records *list);
void mr_agg_records_clear(struct mr_agg_records *list); /* keeps memory, unless it is a lot */
void mr_agg_records_release(struct mr_agg_records *list);

/* Where the next record's bytes go; room was reserved. */
static inline char *mr_agg_records_end(struct mr_agg_records *list)
{
    return list->bytes + list->bytes_used;
}

/* The bytes at mr_agg_records_end become a record. */
static inline void mr_agg_records_add(struct mr_agg_records *list, uint64_t hash, size_t key_bytes,
                                      size_t value_bytes)
{
    list->records[list->count++] =
        (struct mr_agg_record){hash, list->bytes_used, (uint32_t)key_bytes, (uint32_t)value_bytes};
    list->bytes_used += key_bytes + value_bytes;
}

#endif
