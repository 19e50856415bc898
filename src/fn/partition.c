/*
 * map_partitions: a function that sees all rows of a partition, once, also when there are none.
 *
 *     SQL             one statement over all rows: aggregates give one row a partition
 *     C, an iterator  mr_rows_next hands out row after row, over all batches of the partition
 *     C, by batch     the whole partition as one batch
 *
 * Called by the operators of streams and datasets at the end of a partition; the rows are those
 * that they have gathered. foreach_partition uses the iterator too.
 *
 * Thread: the evaluating worker's.
 */
#include "fn/fn.h"

#include "fn/rows.h"

bool mr_rows_next(struct mr_rows *rows, struct mr_row *ret_row)
{
    if (rows->next != NULL)
        return rows->next(rows, ret_row);
    while (rows->batch < rows->batch_count) {
        const struct mr_batch *batch = rows->batches[rows->batch];

        if (rows->row < mr_batch_row_count(batch)) {
            *ret_row = (struct mr_row){batch, rows->row++};
            return true;
        }
        rows->batch++;
        rows->row = 0;
    }
    return false;
}

static enum mr_status call_iterator(const struct mr__function *function, struct mr_rows *rows,
                                    struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr_emitter emitter;
    enum mr_status status;

    MR_TRY(mr__emitter_init(&emitter, function->output, err));
    mr__inside_user_code++;
    ((mr_partition_fn)function->fn.call)(rows, &emitter, function->fn.arg);
    mr__inside_user_code--;
    status = mr__emitter_finish(&emitter, ret_batch, err);
    mr__emitter_release(&emitter);
    return status;
}

static enum mr_status call_whole(const struct mr__function *function,
                                 struct mr_batch *const *batches, size_t batch_count,
                                 struct mr_batch **ret_batch, struct mr_error *err)
{
    mr_batch_fn call = (mr_batch_fn)function->fn.call;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *whole = NULL;
    enum mr_status status;

    MR_TRY(mr__batches_join(batches, batch_count, function->input, &whole, err));
    MR_TRY_GOTO(mr_batch_builder_new(function->output, &builder, err));
    mr__inside_user_code++;
    status = call(whole, builder, function->fn.arg, err);
    mr__inside_user_code--;
    if (status == MR_OK)
        status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr_batch_unref(whole);
    mr_batch_builder_free(builder);
    return status;
}

enum mr_status mr__apply_partition(struct mr__function *function, struct mr__when when,
                                   struct mr_batch *const *batches, size_t batch_count,
                                   struct mr__batches *ret_results, struct mr_error *err)
{
    struct mr_rows rows = {.batches = batches, .batch_count = batch_count};
    struct mr_batch *result = NULL;
    enum mr_status status;

    if (function->fn.kind == MR_FN_KIND_SQL)
        status = mr__function_run_sql(function, when, batches, batch_count, ret_results, err);
    else if (function->fn.kind == MR_FN_KIND_PARTITION)
        status = call_iterator(function, &rows, &result, err);
    else
        status = call_whole(function, batches, batch_count, &result, err);
    if (status == MR_OK && result != NULL)
        status = mr__batches_add(ret_results, result, err);
    mr_batch_unref(result);
    return mr__function_blame(function, status, err);
}
