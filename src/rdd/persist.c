/*
 * Partitions that are kept (features D8): what mr_rdd_persist asks for.
 *
 *     mr__rdd_rows --kept?--> block store
 *                  \--no----> computed from the lineage --> kept, if the level says so and there
 *                                                           is room
 *
 * What is lost, dropped for others, or damaged on disk is computed again: a dataset is never wrong
 * for it, only slower. A partition that could not be kept is computed again each time.
 *
 * Thread: workers; two that need the same partition at once both compute it.
 */
#include "rdd/rdd.h"

#include "base/log.h"

static struct mr__block_id block_of(const struct mr_rdd *rdd, uint32_t partition)
{
    return (struct mr__block_id){rdd->id, partition};
}

/* From the lineage, and into the store. */
static enum mr_status compute_and_keep(struct mr_rdd *rdd, uint32_t partition,
                                       struct mr__task *task, enum mr_storage_level level,
                                       struct mr__batches *ret_rows, struct mr_error *err)
{
    struct mr__block_options options = {level, true};
    struct mr__batches rows = {0};
    struct mr_error kept;
    enum mr_status status = rdd->kind->compute(rdd, partition, task, &rows, err);

    mr_error_clear(&kept);
    if (status == MR_OK &&
        mr__block_put_rows(rdd->session->blocks, block_of(rdd, partition), options, rows.items,
                           rows.count, &kept) != MR_OK &&
        kept.status != MR_LIMIT)
        mr_log(MR_LOG_WARNING, "rdd", rdd->kind->name, -1, "partition %u is not kept: %s",
               partition, kept.text);
    for (size_t i = 0; status == MR_OK && i < rows.count; i++)
        status = mr__batches_add(ret_rows, rows.items[i], err);
    mr__batches_release(&rows);
    return status;
}

enum mr_status mr__rdd_rows(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                            struct mr__batches *ret_rows, struct mr_error *err)
{
    enum mr_storage_level level = atomic_load(&rdd->level);
    enum mr_status status;

    if (level == MR_STORAGE_NONE)
        return rdd->kind->compute(rdd, partition, task, ret_rows, err);
    status = mr__block_get_rows(rdd->session->blocks, block_of(rdd, partition), rdd->schema,
                                ret_rows, err);
    if (status != MR_NOT_FOUND)
        return status;
    return compute_and_keep(rdd, partition, task, level, ret_rows, err);
}

bool mr__rdd_is_kept(struct mr_rdd *rdd)
{
    if (atomic_load(&rdd->level) == MR_STORAGE_NONE)
        return false;
    for (uint32_t p = 0; p < rdd->partition_count; p++) {
        if (!mr__block_has(rdd->session->blocks, block_of(rdd, p)))
            return false;
    }
    return true;
}

struct mr_rdd *mr_rdd_persist(struct mr_rdd *rdd, enum mr_storage_level level)
{
    enum mr_storage_level before;

    if (rdd == NULL || rdd->schema == NULL)
        return rdd;
    if ((unsigned)level > MR_STORAGE_OFF_HEAP) {
        mr_log(MR_LOG_ERROR, "rdd", rdd->kind->name, -1,
               "there is no storage level %d; the dataset is not kept", (int)level);
        return rdd;
    }
    if (level != MR_STORAGE_NONE)
        atomic_store(&rdd->was_kept, true);
    before = atomic_exchange(&rdd->level, level);
    if (before != MR_STORAGE_NONE && before != level)
        mr__block_drop_owner(rdd->session->blocks, rdd->id); /* what is kept has the old level */
    return rdd;
}

struct mr_rdd *mr_rdd_cache(struct mr_rdd *rdd)
{
    return mr_rdd_persist(rdd, MR_STORAGE_MEMORY_ONLY);
}

void mr_rdd_unpersist(struct mr_rdd *rdd)
{
    if (rdd != NULL)
        (void)mr_rdd_persist(rdd, MR_STORAGE_NONE);
}
