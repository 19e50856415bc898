/*
 * Static tables: the small side of a join. Read once, when the plan is made for a run, through the
 * same source plug-in a stream would use, from the beginning to the end that is there now; kept in
 * memory and lent to every batch.
 *
 * A later change of the files is not seen before the next start; the limit below keeps a mistake
 * from filling the memory.
 *
 * Thread: the planner's.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "sql/internal.h"

#include <string.h>

enum { STATIC_BYTES_MAX = 1 << 30 };

void mr_sql__static_free(struct mr_sql_static *rows)
{
    if (rows == NULL)
        return;
    for (size_t i = 0; i < rows->count; i++)
        mr_batch_unref(rows->batches[i]);
    mr_free(rows->batches);
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

enum mr_status mr_sql__static_read(struct mr_env *env, const struct mr_sql_table *table,
                                   struct mr_sql_static **ret_rows, struct mr_error *err)
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
    struct mr_sql_static *rows;
    struct mr_source *source;
    enum mr_status status;

    if (table->source->ops == NULL || table->source->open == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "table '%s' cannot be static: connector '%s' only has what arrives",
                       table->name, table->connector);
    rows = mr_alloc_zero(NULL, sizeof(*rows));
    if (rows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read static table '%s': out of memory", table->name);
    status = table->source->open(&args, &source, err);
    if (status == MR_OK) {
        status = read_all(table, source, rows, err);
        if (table->source->ops->stop != NULL)
            table->source->ops->stop(source);
    }
    if (status == MR_OK)
        *ret_rows = rows;
    else
        mr_sql__static_free(rows);
    return status;
}
