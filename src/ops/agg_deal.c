/*
 * Partials in the order of the shards of their store; see agg_deal.h.
 *
 *     records   hash | where | sizes      in the order of the rows
 *     bytes     key, packed buffers | key, packed buffers | ...
 *     order     numbers of records by bucket: one pass that counts, one that deals
 *
 * Called by agg_partial.c, and by front ends for both halves at once (mr_op_aggregate). Threads:
 * see agg_deal.h.
 */
#include "ops/agg_deal.h"

#include "base/alloc.h"
#include "base/check.h"

enum { KEPT_BYTES_MAX = 16 << 20, RECORDS_MIN = 64, BYTES_MIN = 1024 };

/* ---- records ---- */

static bool grow_records(struct mr_agg_records *list, size_t wanted)
{
    size_t capacity = MR_MAX(MR_MAX(wanted, list->capacity * 2), (size_t)RECORDS_MIN);
    struct mr_agg_record *grown = mr_realloc(NULL, list->records, capacity * sizeof(*grown));

    if (grown == NULL)
        return false;
    list->records = grown;
    list->capacity = capacity;
    return true;
}

static bool grow_bytes(struct mr_agg_records *list, size_t wanted)
{
    size_t capacity = MR_MAX(MR_MAX(wanted, list->bytes_capacity * 2), (size_t)BYTES_MIN);
    char *grown = mr_realloc(NULL, list->bytes, capacity + MR_AGG_RECORDS_SLACK_BYTES);

    if (grown == NULL)
        return false;
    list->bytes = grown;
    list->bytes_capacity = capacity;
    return true;
}

bool mr_agg_records_reserve(struct mr_agg_records *list, size_t records, size_t bytes)
{
    if (list->count + records > list->capacity && !grow_records(list, list->count + records))
        return false;
    return list->bytes_used + bytes <= list->bytes_capacity ||
           grow_bytes(list, list->bytes_used + bytes);
}

bool mr_agg_records_sort(struct mr_agg_records *list)
{
    uint32_t starts[MR_AGG_BUCKETS + 1] = {0};

    MR_ASSERT(list->count <= UINT32_MAX);
    if (list->count > list->order_capacity) {
        mr_free(list->order);
        list->order_capacity = 0;
        list->order = mr_alloc(NULL, list->count * sizeof(*list->order));
        if (list->order == NULL)
            return false;
        list->order_capacity = list->count;
    }
    for (size_t i = 0; i < list->count; i++)
        starts[mr_agg_bucket(list->records[i].hash) + 1]++;
    for (size_t b = 0; b < MR_AGG_BUCKETS; b++)
        starts[b + 1] += starts[b];
    for (size_t i = 0; i < list->count; i++)
        list->order[starts[mr_agg_bucket(list->records[i].hash)]++] = (uint32_t)i;
    return true;
}

void mr_agg_records_clear(struct mr_agg_records *list)
{
    size_t kept = list->capacity * sizeof(*list->records) + list->bytes_capacity +
                  list->order_capacity * sizeof(*list->order);

    list->count = 0;
    list->bytes_used = 0;
    if (kept > KEPT_BYTES_MAX)
        mr_agg_records_release(list);
}

void mr_agg_records_release(struct mr_agg_records *list)
{
    mr_free(list->records);
    mr_free(list->bytes);
    mr_free(list->order);
    *list = (struct mr_agg_records){0};
}

/* ---- both halves ---- */

void mr_agg_link_unref(struct mr_agg_link *link)
{
    if (link != NULL && --link->user_count == 0)
        mr_free(link);
}

enum mr_status mr_op_aggregate(const struct mr_aggregate_spec *spec, struct mr_map_op *ret_partial,
                               struct mr_fold_op *ret_fold, struct mr_error *err)
{
    struct mr_agg_link *link = mr_alloc_zero(NULL, sizeof(*link));
    struct mr_map_op partial = {0};
    enum mr_status status;

    if (link == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make an aggregation: out of memory");
    link->user_count = 1;
    status = mr_agg_partial_new(spec, link, &partial, err);
    if (status == MR_OK)
        status = mr_agg_fold_new(spec, link, ret_fold, err);
    if (status == MR_OK) {
        *ret_partial = partial;
    } else if (partial.op != NULL) {
        partial.ops->free(partial.op);
        mr_schema_unref(partial.schema);
    }
    mr_agg_link_unref(link);
    return status;
}
