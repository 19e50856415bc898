/*
 * Datasets that begin a lineage: rows in memory, and nothing.
 *
 * Thread: any. What they hold does not change.
 */
#include "rdd/rdd.h"

#include <string.h>

/* ---- a batch in slices ---- */

static enum mr_status parallelize_compute(struct mr_rdd *rdd, uint32_t partition,
                                          struct mr__task *task, struct mr__batches *ret_rows,
                                          struct mr_error *err)
{
    const struct mr_batch *batch = rdd->own;
    int64_t rows = mr_batch_row_count(batch);
    int64_t from = rows * partition / rdd->partition_count;
    int64_t to = rows * ((int64_t)partition + 1) / rdd->partition_count;
    struct mr_batch *slice = NULL;
    enum mr_status status;

    MR_UNUSED(task);
    if (from == to)
        return MR_OK;
    if (to - from == rows)
        return mr__batches_add(ret_rows, batch, err);
    MR_TRY(mr_batch_slice(batch, from, to - from, &slice, err));
    status = mr__batches_add(ret_rows, slice, err);
    mr_batch_unref(slice);
    return status;
}

static void parallelize_free(struct mr_rdd *rdd)
{
    mr_batch_unref(rdd->own);
}

static const struct mr__rdd_kind parallelize_kind = {
    .name = "parallelize",
    .compute = parallelize_compute,
    .free = parallelize_free,
};

struct mr_rdd *mr_rdd_parallelize(struct mr_session *session, const struct mr_batch *batch,
                                  uint32_t partition_count)
{
    struct mr_rdd *rdd;
    struct mr_error err;

    if (session == NULL)
        return NULL;
    rdd = mr__rdd_new(session, &parallelize_kind, NULL, 0);
    if (rdd == NULL)
        return NULL;
    if (batch == NULL)
        return mr__rdd_blame(rdd, NULL, MR_FAIL(&err, MR_CONFIG, "there is no batch"), &err);
    rdd->own = mr_batch_ref(batch);
    return mr__rdd_ready(rdd, mr_schema_ref(mr_batch_schema(batch)),
                         partition_count != 0 ? partition_count : session->worker_count);
}

/* ---- partitions that are there ---- */

static enum mr_status batches_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                      struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct mr__batches *rows = (const struct mr__batches *)rdd->own + partition;

    MR_UNUSED(task);
    for (size_t i = 0; i < rows->count; i++)
        MR_TRY(mr__batches_add(ret_rows, rows->items[i], err));
    return MR_OK;
}

static void free_partitions(struct mr__batches *partitions, uint32_t count)
{
    for (uint32_t i = 0; partitions != NULL && i < count; i++)
        mr__batches_release(&partitions[i]);
    mr_free(partitions);
}

static void batches_free(struct mr_rdd *rdd)
{
    free_partitions(rdd->own, rdd->partition_count);
}

static const struct mr__rdd_kind batches_kind = {
    .name = "dataset",
    .compute = batches_compute,
    .free = batches_free,
};

struct mr_rdd *mr__rdd_of_batches(struct mr_session *session, const struct mr_schema *schema,
                                  struct mr__batches *partitions, uint32_t partition_count,
                                  uint64_t batch_id, int64_t batch_time_us)
{
    struct mr_rdd *rdd = mr__rdd_new(session, &batches_kind, NULL, 0);

    if (rdd == NULL || partition_count > MR_RDD_PARTITIONS_MAX) {
        free_partitions(partitions, partition_count);
        return rdd == NULL ? NULL : mr__rdd_ready(rdd, NULL, partition_count);
    }
    rdd->own = partitions;
    rdd->in_batch = true;
    rdd->batch_id = batch_id;
    rdd->time_us = batch_time_us;
    return mr__rdd_ready(rdd, mr_schema_ref(schema), partition_count);
}

struct mr_rdd *mr_rdd_empty(struct mr_session *session, const char *columns)
{
    struct mr_schema *schema = NULL;
    struct mr_rdd *rdd;
    struct mr_error err;

    if (session == NULL)
        return NULL;
    rdd = mr__rdd_new(session, &batches_kind, NULL, 0);
    if (rdd == NULL)
        return NULL;
    if (columns == NULL)
        return mr__rdd_blame(rdd, NULL, MR_FAIL(&err, MR_CONFIG, "there are no columns"), &err);
    mr__rdd_blame(rdd, NULL, mr_schema_parse(columns, strlen(columns), &schema, &err), &err);
    return schema != NULL ? mr__rdd_ready(rdd, schema, 0) : rdd;
}
