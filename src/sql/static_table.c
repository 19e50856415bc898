/*
 * Static tables: the small side of a join. Read when the plan is made for a run, through the same
 * source plug-in a stream would use, from the beginning to the end that is there now; kept in
 * memory and lent to every batch.
 *
 *     static_reload = '1 minute'    the first task of a batch that asks for rows a minute (of batch
 *                                   times) after they were read reads them again; all tasks of it,
 *                                   and the batch when it runs again, get the same rows
 *
 * A batch that a crash interrupted runs again with what is there at the start. The limit below
 * keeps a mistake from filling the memory.
 *
 * Thread: reading the planner's; later any worker's, under the lock.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "env/thread.h"
#include "sql/internal.h"

#include <string.h>

enum { STATIC_BYTES_MAX = MR_LIMIT_SQL_STATIC_TABLE };

struct mr_sql_reload {
    struct mr_mutex lock; /* guards all of this, and the rows it belongs to */
    struct mr_env *env;
    const struct mr_sql_table *table;
    int64_t interval_us;
    int64_t read_us; /* batch time of the batch that read them; of the first: that batch's */
    uint64_t batch_id;
    bool any_batch;
};

static void drop_rows(struct mr_sql_static *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        mr_batch_unref(rows->batches[i]);
    mr_free(rows->batches);
    rows->batches = NULL;
    rows->count = 0;
}

void mr_sql__static_free(struct mr_sql_static *rows)
{
    if (rows == NULL)
        return;
    if (rows->reload != NULL)
        mr_mutex_release(&rows->reload->lock);
    mr_free(rows->reload);
    drop_rows(rows);
    mr_free(rows);
}

/* Takes batch. */
static enum mr_status keep(struct mr_sql_static *rows, struct mr_batch *batch, const char *name,
                           size_t *bytes, struct mr_error *err)
{
    struct mr_batch **grown = mr_realloc(NULL, rows->batches, (rows->count + 1) * sizeof(*grown));

    *bytes += mr_batch_bytes(batch);
    if (grown == NULL || *bytes > STATIC_BYTES_MAX) {
        mr_batch_unref(batch);
        if (grown != NULL)
            rows->batches = grown;
        return MR_FAIL(err, grown == NULL ? MR_NOMEM : MR_LIMIT,
                       "cannot read static table '%s': more than 1 GiB; only a small table can be "
                       "joined with a stream",
                       name);
    }
    rows->batches = grown;
    rows->batches[rows->count++] = batch;
    return MR_OK;
}

static enum mr_status read_partition(const struct mr_sql_table *table, struct mr_source *source,
                                     const char *end, uint32_t partition,
                                     struct mr_sql_static *rows, size_t *bytes,
                                     struct mr_error *err)
{
    const struct mr_source_ops *ops = table->source->ops;
    struct mr_reader *reader = NULL;
    enum mr_status status;

    MR_TRY(ops->read(source, NULL, end, partition, &reader, err));
    for (;;) {
        struct mr_batch *batch = NULL;

        status = ops->next(reader, &batch, err);
        if (status != MR_OK || batch == NULL)
            break;
        status = keep(rows, batch, table->name, bytes, err);
        if (status != MR_OK)
            break;
    }
    ops->close(reader);
    return status;
}

static enum mr_status read_all(const struct mr_sql_table *table, struct mr_source *source,
                               struct mr_sql_static *rows, struct mr_error *err)
{
    const struct mr_source_ops *ops = table->source->ops;
    struct mr_plan_limits limits = {.ignore = true};
    uint32_t partitions = 0;
    uint64_t work_bytes;
    size_t bytes = 0;
    char *end = NULL;
    enum mr_status status;

    MR_TRY(ops->plan(source, NULL, &limits, &end, err));
    if (end == NULL)
        return MR_OK; /* nothing there */
    status = ops->split(source, NULL, end, &partitions, &work_bytes, err);
    for (uint32_t i = 0; i < partitions && status == MR_OK; i++)
        status = read_partition(table, source, end, i, rows, &bytes, err);
    mr_text_free(end);
    return status;
}

/* Reads the table as it is now into rows without any. */
static enum mr_status read_table(struct mr_env *env, const struct mr_sql_table *table,
                                 struct mr_sql_static *rows, struct mr_error *err)
{
    struct mr_source_args args = {.env = env,
                                  .name = table->name,
                                  .declared = table->full,
                                  .schema = table->narrow,
                                  .options = table->options,
                                  .format = table->format,
                                  .on_error = MR_ON_ERROR_FAIL,
                                  .until_caught_up = true,
                                  .user = table->binding != NULL ? table->binding->user : NULL};
    struct mr_source *source;
    enum mr_status status;

    if (table->source->ops == NULL || table->source->open == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "table '%s' cannot be static: connector '%s' only has what arrives",
                       table->name, table->connector);
    MR_TRY(table->source->open(&args, &source, err));
    status = read_all(table, source, rows, err);
    if (table->source->ops->stop != NULL)
        table->source->ops->stop(source);
    if (status != MR_OK)
        drop_rows(rows);
    return status;
}

static enum mr_status add_reload(struct mr_env *env, const struct mr_sql_table *table,
                                 struct mr_sql_static *rows, struct mr_error *err)
{
    if (table->static_reload_us < 0)
        return MR_OK;
    rows->reload = mr_alloc_zero(NULL, sizeof(*rows->reload));
    if (rows->reload == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read static table '%s': out of memory", table->name);
    mr_mutex_init(&rows->reload->lock);
    rows->reload->env = env;
    rows->reload->table = table;
    rows->reload->interval_us = table->static_reload_us;
    return MR_OK;
}

enum mr_status mr_sql__static_read(struct mr_env *env, const struct mr_sql_table *table,
                                   struct mr_sql_static **ret_rows, struct mr_error *err)
{
    struct mr_sql_static *rows = mr_alloc_zero(NULL, sizeof(*rows));
    enum mr_status status;

    if (rows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read static table '%s': out of memory", table->name);
    status = read_table(env, table, rows, err);
    if (status == MR_OK)
        status = add_reload(env, table, rows, err);
    if (status == MR_OK)
        *ret_rows = rows;
    else
        mr_sql__static_free(rows);
    return status;
}

/* Under the lock, in the first task of a batch. */
static enum mr_status begin_batch(struct mr_sql_static *rows, const struct mr_batch_info *info,
                                  struct mr_error *err)
{
    struct mr_sql_reload *reload = rows->reload;
    struct mr_sql_static fresh = {0};

    if (!reload->any_batch) {
        reload->read_us = info->batch_time_us;
    } else if (info->batch_time_us - reload->read_us >= reload->interval_us) {
        MR_TRY(read_table(reload->env, reload->table, &fresh, err));
        drop_rows(rows);
        rows->batches = fresh.batches;
        rows->count = fresh.count;
        reload->read_us = info->batch_time_us;
    }
    reload->any_batch = true;
    reload->batch_id = info->batch_id;
    return MR_OK;
}

enum mr_status mr_sql__static_rows(struct mr_sql_static *rows, const struct mr_batch_info *info,
                                   struct mr_batch *const **ret_batches, size_t *ret_count,
                                   struct mr_error *err)
{
    struct mr_sql_reload *reload = rows->reload;
    enum mr_status status = MR_OK;

    if (reload != NULL) {
        mr_mutex_lock(&reload->lock);
        if (!reload->any_batch || reload->batch_id != info->batch_id)
            status = begin_batch(rows, info, err);
        mr_mutex_unlock(&reload->lock);
    }
    *ret_batches = rows->batches;
    *ret_count = rows->count;
    return status;
}
