/*
 * Actions: what computes a dataset.
 *
 *     action --> mr__rdd_prepare (shuffles of the lineage) --> a task a partition --> results
 *
 * Results are gathered by partition, so they do not depend on which worker was first. take goes
 * through the partitions in rounds, 1, then 4 times as many as before, until it has its rows.
 *
 * Thread: any; the caller's works too (task.c).
 */
#include "rdd/task.h"

#include "fn/rows.h"

/* ---- rows of several partitions ---- */

/* What tasks give, by partition. */
struct gathered {
    struct mr_rdd *rdd;
    uint32_t first;
    struct mr__batches *rows;
};

static enum mr_status gather(struct mr__task *task, void *arg, struct mr_error *err)
{
    const struct gathered *gathered = arg;
    struct mr__batches *rows = &gathered->rows[task->info.partition - gathered->first];
    enum mr_status status = mr__rdd_rows(gathered->rdd, task->info.partition, task, rows, err);

    if (status != MR_OK)
        mr__batches_release(rows); /* the next try begins again */
    return status;
}

static void lists_free(struct mr__batches *lists, uint32_t count)
{
    for (uint32_t i = 0; lists != NULL && i < count; i++)
        mr__batches_release(&lists[i]);
    mr_free(lists);
}

/* Rows of the partitions [first, first + count), a list each; freed with lists_free. */
static enum mr_status rows_of(struct mr_rdd *rdd, uint32_t first, uint32_t count,
                              struct mr__batches **ret_lists, struct mr_error *err)
{
    struct gathered gathered = {rdd, first, NULL};
    enum mr_status status;

    gathered.rows = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(*gathered.rows));
    if (gathered.rows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot collect a dataset: out of memory");
    status = mr__run_tasks(rdd, first, count, gather, &gathered, err);
    if (status != MR_OK) {
        lists_free(gathered.rows, count);
        return status;
    }
    *ret_lists = gathered.rows;
    return MR_OK;
}

/* All lists as one. */
static enum mr_status flatten(struct mr__batches *all, const struct mr__batches *lists,
                              uint32_t count, struct mr_error *err)
{
    for (uint32_t p = 0; p < count; p++) {
        for (size_t i = 0; i < lists[p].count; i++)
            MR_TRY(mr__batches_add(all, lists[p].items[i], err));
    }
    return MR_OK;
}

/* ---- what every action does ---- */

static enum mr_status begin(struct mr_rdd *rdd, struct mr__action *action, struct mr_error *err)
{
    enum mr_status status;

    MR_TRY(mr_rdd_error(rdd, err));
    mr__action_enter(action, rdd->session);
    status = mr__rdd_prepare(rdd, err);
    if (status != MR_OK)
        mr__action_leave(action);
    return status;
}

/* Rows of all partitions in order, in any number of batches. */
enum mr_status mr__rdd_collect(struct mr_rdd *rdd, struct mr__batches *ret_rows,
                               struct mr_error *err)
{
    struct mr__batches *lists = NULL, all = {0};
    struct mr__action action;
    enum mr_status status;

    MR_TRY(begin(rdd, &action, err));
    MR_TRY_GOTO(rows_of(rdd, 0, rdd->partition_count, &lists, err));
    status = flatten(&all, lists, rdd->partition_count, err);
done:
    lists_free(lists, rdd->partition_count);
    mr__action_leave(&action);
    if (status == MR_OK)
        *ret_rows = all;
    else
        mr__batches_release(&all);
    return status;
}

enum mr_status mr__rdd_collect_partitions(struct mr_rdd *rdd, struct mr__batches **ret_lists,
                                          struct mr_error *err)
{
    struct mr__action action;
    enum mr_status status;

    MR_TRY(begin(rdd, &action, err));
    status = rows_of(rdd, 0, rdd->partition_count, ret_lists, err);
    mr__action_leave(&action);
    return status;
}

enum mr_status mr_rdd_collect(struct mr_rdd *rdd, struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr__batches rows = {0};
    enum mr_status status;

    MR_TRY(mr__rdd_collect(rdd, &rows, err));
    status = mr__batches_join(rows.items, rows.count, rdd->schema, ret_batch, err);
    mr__batches_release(&rows);
    return status;
}

enum mr_status mr_rdd_partition(struct mr_rdd *rdd, uint32_t partition, struct mr_batch **ret_batch,
                                struct mr_error *err)
{
    struct mr__batches *lists = NULL;
    struct mr__action action;
    enum mr_status status;

    MR_TRY(mr_rdd_error(rdd, err));
    if (partition >= rdd->partition_count)
        return MR_FAIL(err, MR_NOT_FOUND, "there is no partition %u; the dataset has %u", partition,
                       rdd->partition_count);
    MR_TRY(begin(rdd, &action, err));
    status = rows_of(rdd, partition, 1, &lists, err);
    mr__action_leave(&action);
    MR_TRY(status);
    status = mr__batches_join(lists[0].items, lists[0].count, rdd->schema, ret_batch, err);
    lists_free(lists, 1);
    return status;
}

/* ---- count ---- */

struct counting {
    struct mr_rdd *rdd;
    int64_t *counts;
};

static int64_t rows_in(const struct mr__batches *rows)
{
    int64_t count = 0;

    for (size_t i = 0; i < rows->count; i++)
        count += mr_batch_row_count(rows->items[i]);
    return count;
}

static enum mr_status count_rows(struct mr__task *task, void *arg, struct mr_error *err)
{
    const struct counting *counting = arg;
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(counting->rdd, task->info.partition, task, &rows, err);

    counting->counts[task->info.partition] = rows_in(&rows);
    mr__batches_release(&rows);
    return status;
}

enum mr_status mr_rdd_count(struct mr_rdd *rdd, int64_t *ret_count, struct mr_error *err)
{
    struct counting counting = {rdd, NULL};
    struct mr__action action;
    enum mr_status status;
    int64_t count = 0;

    MR_TRY(begin(rdd, &action, err));
    counting.counts =
        mr_alloc_zero(NULL, (rdd->partition_count + (size_t)1) * sizeof(*counting.counts));
    if (counting.counts == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot count a dataset: out of memory");
    else
        status = mr__run_tasks(rdd, 0, rdd->partition_count, count_rows, &counting, err);
    for (uint32_t p = 0; status == MR_OK && p < rdd->partition_count; p++)
        count += counting.counts[p];
    mr_free(counting.counts);
    mr__action_leave(&action);
    if (status == MR_OK)
        *ret_count = count;
    return status;
}

/* ---- take, first, is_empty ---- */

static enum mr_status take_round(struct mr_rdd *rdd, uint32_t first, uint32_t count,
                                 struct mr__batches *all, struct mr_error *err)
{
    struct mr__batches *lists = NULL;
    enum mr_status status;

    MR_TRY(rows_of(rdd, first, count, &lists, err));
    status = flatten(all, lists, count, err);
    lists_free(lists, count);
    return status;
}

/* The first row_count rows of a list as one batch. */
static enum mr_status cut(const struct mr_rdd *rdd, const struct mr__batches *all,
                          int64_t row_count, struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr__batches kept = {0};
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < all->count && row_count > 0 && status == MR_OK; i++) {
        int64_t rows = MR_MIN(mr_batch_row_count(all->items[i]), row_count);
        struct mr_batch *part = NULL;

        status = mr_batch_slice(all->items[i], 0, rows, &part, err);
        if (status == MR_OK)
            status = mr__batches_add(&kept, part, err);
        mr_batch_unref(part);
        row_count -= rows;
    }
    if (status == MR_OK)
        status = mr__batches_join(kept.items, kept.count, rdd->schema, ret_batch, err);
    mr__batches_release(&kept);
    return status;
}

enum mr_status mr_rdd_take(struct mr_rdd *rdd, int64_t row_count, struct mr_batch **ret_batch,
                           struct mr_error *err)
{
    struct mr__batches all = {0};
    struct mr__action action;
    uint32_t at = 0, round = 1;
    enum mr_status status = MR_OK;

    if (row_count < 0)
        return MR_FAIL(err, MR_CONFIG, "cannot take %lld rows; use 0 or more",
                       (long long)row_count);
    MR_TRY(begin(rdd, &action, err));
    while (status == MR_OK && at < rdd->partition_count && rows_in(&all) < row_count) {
        uint32_t count = MR_MIN(round, rdd->partition_count - at);

        status = take_round(rdd, at, count, &all, err);
        at += count;
        round *= 4;
    }
    if (status == MR_OK)
        status = cut(rdd, &all, row_count, ret_batch, err);
    mr__batches_release(&all);
    mr__action_leave(&action);
    return status;
}

enum mr_status mr_rdd_first(struct mr_rdd *rdd, struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr_batch *row = NULL;

    MR_TRY(mr_rdd_take(rdd, 1, &row, err));
    if (mr_batch_row_count(row) == 0) {
        mr_batch_unref(row);
        return MR_FAIL(err, MR_NOT_FOUND, "there is no first row: the dataset is empty");
    }
    *ret_batch = row;
    return MR_OK;
}

enum mr_status mr_rdd_is_empty(struct mr_rdd *rdd, bool *ret_empty, struct mr_error *err)
{
    struct mr_batch *row = NULL;

    MR_TRY(mr_rdd_take(rdd, 1, &row, err));
    *ret_empty = mr_batch_row_count(row) == 0;
    mr_batch_unref(row);
    return MR_OK;
}

/* ---- reduce ---- */

struct reducing {
    struct mr_rdd *rdd;
    struct mr__function *function;
    struct mr_batch **values; /* by partition; NULL: no rows */
    struct mr_batch *result;
};

static enum mr_status reduce_partition(struct mr__task *task, void *arg, struct mr_error *err)
{
    const struct reducing *reducing = arg;
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(reducing->rdd, task->info.partition, task, &rows, err);

    if (status == MR_OK && rows_in(&rows) > 0)
        status = mr__reduce_all(reducing->function, task->when, rows.items, rows.count,
                                &reducing->values[task->info.partition], err);
    mr__batches_release(&rows);
    return status;
}

/* Values of the partitions to one; a task too, so a function that fails is called again. */
static enum mr_status reduce_values(struct mr__task *task, void *arg, struct mr_error *err)
{
    struct reducing *reducing = arg;
    struct mr__batches values = {0};
    enum mr_status status = MR_OK;

    for (uint32_t p = 0; p < reducing->rdd->partition_count && status == MR_OK; p++) {
        if (reducing->values[p] != NULL)
            status = mr__batches_add(&values, reducing->values[p], err);
    }
    if (status == MR_OK)
        status = mr__reduce_all(reducing->function, task->when, values.items, values.count,
                                &reducing->result, err);
    mr__batches_release(&values);
    return status;
}

static enum mr_status run_reducing(struct reducing *reducing, struct mr_error *err)
{
    struct mr_rdd *rdd = reducing->rdd;
    struct mr__action action;
    enum mr_status status;

    MR_TRY(begin(rdd, &action, err));
    reducing->values =
        mr_alloc_zero(NULL, (rdd->partition_count + (size_t)1) * sizeof(struct mr_batch *));
    if (reducing->values == NULL)
        status = MR_FAIL(err, MR_NOMEM, "cannot reduce a dataset: out of memory");
    else
        status = mr__run_tasks(rdd, 0, rdd->partition_count, reduce_partition, reducing, err);
    if (status == MR_OK)
        status = mr__run_tasks(rdd, 0, 1, reduce_values, reducing, err);
    for (uint32_t p = 0; reducing->values != NULL && p < rdd->partition_count; p++)
        mr_batch_unref(reducing->values[p]);
    mr_free(reducing->values);
    mr__action_leave(&action);
    if (status == MR_OK && reducing->result == NULL)
        return MR_FAIL(err, MR_NOT_FOUND, "there is nothing to reduce: the dataset is empty");
    return status;
}

enum mr_status mr_rdd_reduce(struct mr_rdd *rdd, struct mr_fn reduce, struct mr_batch **ret_batch,
                             struct mr_error *err)
{
    struct reducing reducing = {.rdd = rdd};
    struct mr__compiled *compiled = NULL;
    enum mr_status status;

    MR_TRY(mr_rdd_error(rdd, err));
    if (reduce.kind == MR_FN_KIND_BUILTIN && reduce.builtin == MR_BUILTIN_COUNT)
        return mr_rdd_reduce(mr_rdd_map(rdd, MR_SQL("1::BIGINT")), MR_SUM, ret_batch, err);
    if (mr_schema_field_count(rdd->schema) != 1)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot reduce rows of several columns; map them to one value, a STRUCT "
                       "for several");
    MR_TRY(mr__compiled_get(rdd->session, MR__REDUCE, &reduce, rdd->schema, &compiled, err));
    reducing.function = mr__compiled_function(compiled);
    status = run_reducing(&reducing, err);
    if (status == MR_OK)
        *ret_batch = reducing.result;
    mr__compiled_unref(rdd->session, compiled);
    return status;
}

/* ---- foreach ---- */

struct each {
    struct mr_rdd *rdd;
    mr_foreach_fn row_fn; /* one of the two */
    mr_foreach_partition_fn rows_fn;
    void *arg;
};

static enum mr_status call_rows(const struct each *each, const struct mr__batches *rows,
                                struct mr_error *err)
{
    struct mr_rows iterator = {.batches = rows->items, .batch_count = rows->count};
    enum mr_status status = MR_OK;
    struct mr_row row;

    mr__inside_user_code++;
    if (each->rows_fn != NULL) {
        status = each->rows_fn(&iterator, each->arg, err);
    } else {
        while (status == MR_OK && mr_rows_next(&iterator, &row))
            status = each->row_fn(&row, each->arg, err);
    }
    mr__inside_user_code--;
    if (status != MR_OK && err != NULL && err->status == MR_OK)
        MR_FAIL(err, status, "the function failed and did not say why");
    return status;
}

static enum mr_status each_partition(struct mr__task *task, void *arg, struct mr_error *err)
{
    const struct each *each = arg;
    struct mr__batches rows = {0};
    enum mr_status status = mr__rdd_rows(each->rdd, task->info.partition, task, &rows, err);

    if (status == MR_OK)
        status = call_rows(each, &rows, err);
    mr__batches_release(&rows);
    return status;
}

static enum mr_status run_each(struct each *each, struct mr_error *err)
{
    struct mr__action action;
    enum mr_status status;

    MR_TRY(mr_rdd_error(each->rdd, err));
    if (each->row_fn == NULL && each->rows_fn == NULL)
        return MR_FAIL(err, MR_CONFIG, "there is no function to call");
    MR_TRY(begin(each->rdd, &action, err));
    status = mr__run_tasks(each->rdd, 0, each->rdd->partition_count, each_partition, each, err);
    mr__action_leave(&action);
    return status;
}

enum mr_status mr_rdd_foreach(struct mr_rdd *rdd, mr_foreach_fn fn, void *arg, struct mr_error *err)
{
    struct each each = {rdd, fn, NULL, arg};

    return run_each(&each, err);
}

enum mr_status mr_rdd_foreach_partition(struct mr_rdd *rdd, mr_foreach_partition_fn fn, void *arg,
                                        struct mr_error *err)
{
    struct each each = {rdd, NULL, fn, arg};

    return run_each(&each, err);
}
