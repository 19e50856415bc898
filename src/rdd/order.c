/*
 * The order of rows, over all partitions: repartition, sort_by, sort_by_key.
 *
 *     repartition   rows of each partition in turn to all others, from a start that its number says
 *     sort          all rows gathered, numbered in order; partition p of n gets the rows
 *                   [rows * p / n, rows * (p + 1) / n) of that order
 *
 * Sorting is by the encoded bytes of the key (null first), for objects of the program by their
 * codec; it is stable: equal keys stay in the order of partitions and rows, in both directions. The
 * sorted order is kept, as the parts of a shuffle are.
 *
 * Thread: building in any; computing on workers.
 */
#include "rdd/shuffle.h"

#include "data/codec.h"
#include "data/row_codec.h"

#include <stdlib.h>
#include <string.h>

/* ---- repartition ---- */

static const struct mr__shuffled_ops deal_ops = {.is_round_robin = true};
static const struct mr__rdd_kind repartition_kind = MR__SHUFFLED_KIND("repartition");

struct mr_rdd *mr_rdd_repartition(struct mr_rdd *input, uint32_t partition_count)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, &repartition_kind, &input, 1);
    struct mr_error err;
    enum mr_status status;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    if (partition_count == 0)
        return mr__rdd_blame(
            rdd, NULL, MR_FAIL(&err, MR_CONFIG, "cannot make 0 partitions; ask for at least one"),
            &err);
    status = mr__shuffled_init(rdd, &deal_ops, NULL, &err);
    if (status != MR_OK)
        return mr__rdd_blame(rdd, NULL, status, &err);
    return mr__rdd_ready(rdd, mr_schema_ref(input->schema), partition_count);
}

/* ---- sorting ---- */

struct sorted {
    struct mr__once once;
    bool ascending;
    struct mr_batch *rows; /* of all partitions */
    uint32_t *order;       /* row numbers, sorted */
};

struct sort_key {
    const char *data;
    uint32_t size_bytes;
    uint32_t row;
    const struct mr_type *type; /* of objects that their codec orders; else NULL */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot sort a dataset: out of memory");
}

static void sorted_free(struct mr_rdd *rdd)
{
    struct sorted *sorted = rdd->own;

    mr_batch_unref(sorted->rows);
    mr_free(sorted->order);
    mr__once_release(&sorted->once);
    mr_free(sorted);
}

static int compare(const struct sort_key *a, const struct sort_key *b)
{
    uint32_t common = MR_MIN(a->size_bytes, b->size_bytes);

    /* Behind a byte that says null or not: 0 or 1. */
    if (a->type != NULL && a->data[0] == 1 && b->data[0] == 1)
        return mr__object_compare(a->type, (struct mr_slice){a->data + 1, a->size_bytes - 1},
                                  (struct mr_slice){b->data + 1, b->size_bytes - 1});
    int order = common == 0 ? 0 : memcmp(a->data, b->data, common);

    return order != 0 ? order : (a->size_bytes > common) - (b->size_bytes > common);
}

static int compare_up(const void *a_pointer, const void *b_pointer)
{
    const struct sort_key *a = a_pointer, *b = b_pointer;
    int order = compare(a, b);

    return order != 0 ? order : (a->row > b->row) - (a->row < b->row);
}

static int compare_down(const void *a_pointer, const void *b_pointer)
{
    const struct sort_key *a = a_pointer, *b = b_pointer;
    int order = compare(b, a);

    return order != 0 ? order : (a->row > b->row) - (a->row < b->row);
}

/* Rows of a partition and their keys side by side. */
struct sorting {
    struct mr_rdd *rdd;
    struct mr__batches *rows;
    struct mr__batches *keys;
};

/* Keys of a partition: what the function gives, or the column `key`. */
static enum mr_status find_keys(const struct sorting *sorting, struct mr__task *task,
                                const struct mr__batches *rows, struct mr__batches *keys,
                                struct mr_error *err)
{
    const struct mr__compiled *compiled = sorting->rdd->compiled;

    for (size_t i = 0; i < rows->count; i++) {
        if (compiled == NULL)
            MR_TRY(mr__batches_add(keys, rows->items[i], err));
        else
            MR_TRY(mr__apply(mr__compiled_function(compiled), false, task->when, rows->items[i],
                             keys, err));
    }
    return MR_OK;
}

static enum mr_status gather(struct mr__task *task, void *arg, struct mr_error *err)
{
    const struct sorting *sorting = arg;
    uint32_t partition = task->info.partition;
    struct mr__batches rows = {0}, keys = {0};
    enum mr_status status = mr__rdd_rows(sorting->rdd->inputs[0], partition, task, &rows, err);

    if (status == MR_OK)
        status = find_keys(sorting, task, &rows, &keys, err);
    if (status != MR_OK) {
        mr__batches_release(&rows);
        mr__batches_release(&keys);
        return status;
    }
    sorting->rows[partition] = rows;
    sorting->keys[partition] = keys;
    return MR_OK;
}

/* The column of keys when these are objects of the program, whose codec orders them. */
static const struct mr_column *object_keys(const struct mr_rdd *rdd, const struct mr_batch *batch)
{
    const struct mr_column *column = mr_batch_column(batch, 0);
    uint32_t columns = rdd->compiled == NULL ? 1 : mr_schema_field_count(mr_batch_schema(batch));

    return columns == 1 && column->type->extension != NULL ? column : NULL;
}

/* Bytes of the keys of a batch, appended; column 0 without a function, else all of its result. */
static void encode_keys(const struct mr_rdd *rdd, const struct mr_batch *batch, struct mr_buf *out,
                        size_t *ends, uint32_t *row_count)
{
    uint32_t columns = rdd->compiled == NULL ? 1 : mr_schema_field_count(mr_batch_schema(batch));

    const struct mr_column *objects = object_keys(rdd, batch);

    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        for (uint32_t i = 0; i < columns && objects == NULL; i++)
            mr_key_encode(out, mr_batch_column(batch, i), row);
        if (objects != NULL) {
            bool is_null = mr_column_is_null(objects, row);
            struct mr_slice bytes = mr_column_text(objects, row);
            mr_buf_add_char(out, is_null ? 0 : 1);
            mr_buf_add(out, bytes.data, is_null ? 0 : bytes.size_bytes);
        }
        ends[(*row_count)++] = out->size;
    }
}

static enum mr_status sort_rows(struct mr_rdd *rdd, const struct mr__batches *keys, uint32_t rows,
                                struct mr_error *err)
{
    struct sorted *sorted = rdd->own;
    struct sort_key *list = mr_alloc(NULL, (rows + (size_t)1) * sizeof(*list));
    size_t *ends = mr_alloc(NULL, (rows + (size_t)1) * sizeof(*ends));
    struct mr_buf bytes = MR_BUF_INIT;
    const struct mr_column *objects = NULL;
    enum mr_status status = MR_OK;
    uint32_t count = 0;

    sorted->order = mr_alloc(NULL, (rows + (size_t)1) * sizeof(*sorted->order));
    if (list == NULL || ends == NULL || sorted->order == NULL) {
        status = no_memory(err);
        goto done;
    }
    for (uint32_t p = 0; p < rdd->inputs[0]->partition_count; p++) {
        for (size_t i = 0; i < keys[p].count; i++)
            encode_keys(rdd, keys[p].items[i], &bytes, ends, &count);
        if (keys[p].count > 0)
            objects = object_keys(rdd, keys[p].items[0]);
    }
    if (bytes.failed) {
        status = no_memory(err);
        goto done;
    }
    MR_ASSERT(count == rows);
    for (uint32_t row = 0; row < rows; row++) {
        size_t start = row == 0 ? 0 : ends[row - 1];
        list[row] = (struct sort_key){bytes.data + start, (uint32_t)(ends[row] - start), row,
                                      objects != NULL ? objects->type : NULL};
    }
    qsort(list, rows, sizeof(*list), sorted->ascending ? compare_up : compare_down);
    for (uint32_t row = 0; row < rows; row++)
        sorted->order[row] = list[row].row;
done:
    mr_free(list);
    mr_free(ends);
    mr_buf_release(&bytes);
    return status;
}

static enum mr_status join_rows(struct mr_rdd *rdd, const struct mr__batches *lists,
                                struct mr_error *err)
{
    struct sorted *sorted = rdd->own;
    struct mr__batches all = {0};
    enum mr_status status = MR_OK;

    for (uint32_t p = 0; p < rdd->inputs[0]->partition_count && status == MR_OK; p++) {
        for (size_t i = 0; i < lists[p].count && status == MR_OK; i++)
            status = mr__batches_add(&all, lists[p].items[i], err);
    }
    if (status == MR_OK)
        status = mr__batches_join(all.items, all.count, rdd->schema, &sorted->rows, err);
    mr__batches_release(&all);
    if (status == MR_OK && mr_batch_row_count(sorted->rows) >= INT32_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot sort more than 2^31 rows at once");
    return status;
}

static enum mr_status run_sort(struct mr_rdd *rdd, struct mr_error *err)
{
    struct sorted *sorted = rdd->own;
    uint32_t count = rdd->inputs[0]->partition_count;
    struct sorting sorting = {.rdd = rdd};
    enum mr_status status;

    sorting.rows = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(*sorting.rows));
    sorting.keys = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(*sorting.keys));
    if (sorting.rows == NULL || sorting.keys == NULL)
        status = no_memory(err);
    else
        status = mr__run_tasks(rdd, 0, count, gather, &sorting, err);
    if (status == MR_OK)
        status = join_rows(rdd, sorting.rows, err);
    if (status == MR_OK)
        status = sort_rows(rdd, sorting.keys, (uint32_t)mr_batch_row_count(sorted->rows), err);
    for (uint32_t p = 0; p < count; p++) {
        if (sorting.rows != NULL)
            mr__batches_release(&sorting.rows[p]);
        if (sorting.keys != NULL)
            mr__batches_release(&sorting.keys[p]);
    }
    mr_free(sorting.rows);
    mr_free(sorting.keys);
    if (status != MR_OK) {
        sorted->rows = mr_batch_unref(sorted->rows);
        mr_free(sorted->order);
        sorted->order = NULL;
    }
    return status;
}

static enum mr_status sorted_prepare(struct mr_rdd *rdd, struct mr_error *err)
{
    struct sorted *sorted = rdd->own;

    return mr__once_run(&sorted->once, rdd, run_sort, err);
}

static bool sorted_is_prepared(struct mr_rdd *rdd)
{
    struct sorted *sorted = rdd->own;

    return mr__once_is_done(&sorted->once);
}

static enum mr_status sorted_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                     struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct sorted *sorted = rdd->own;
    struct mr_batch *part = NULL;
    int64_t rows, from, to;
    enum mr_status status;

    MR_UNUSED(task);
    MR_TRY(sorted_prepare(rdd, err)); /* done, but for a stored dataset that lost a partition */
    rows = mr_batch_row_count(sorted->rows);
    from = rows * partition / rdd->partition_count;
    to = rows * ((int64_t)partition + 1) / rdd->partition_count;
    if (from == to)
        return MR_OK;
    MR_TRY(mr_batch_take(sorted->rows, sorted->order + from, to - from, &part, err));
    status = mr__batches_add(ret_rows, part, err);
    mr_batch_unref(part);
    return status;
}

static const struct mr__rdd_kind sort_kind = {
    .name = "sort_by",
    .compute = sorted_compute,
    .prepare = sorted_prepare,
    .is_prepared = sorted_is_prepared,
    .free = sorted_free,
};
static const struct mr__rdd_kind sort_key_kind = {
    .name = "sort_by_key",
    .compute = sorted_compute,
    .prepare = sorted_prepare,
    .is_prepared = sorted_is_prepared,
    .free = sorted_free,
};

static struct mr_rdd *finish_sort(struct mr_rdd *rdd, bool ascending)
{
    struct sorted *sorted = mr_alloc_zero(NULL, sizeof(*sorted));
    struct mr_error err;

    if (sorted == NULL)
        return mr__rdd_blame(rdd, NULL, no_memory(&err), &err);
    mr__once_init(&sorted->once);
    sorted->ascending = ascending;
    rdd->own = sorted;
    return mr__rdd_ready(rdd, mr_schema_ref(rdd->inputs[0]->schema), mr__shuffled_partitions(rdd));
}

struct mr_rdd *mr_rdd_sort_by(struct mr_rdd *input, struct mr_fn key, bool ascending)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, &sort_kind, &input, 1);
    struct mr_error err;
    enum mr_status status;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    mr_error_clear(&err);
    status = mr__compiled_get(rdd->session, MR__SORT_BY, &key, input->schema, &rdd->compiled, &err);
    return status == MR_OK ? finish_sort(rdd, ascending) : mr__rdd_blame(rdd, &key, status, &err);
}

struct mr_rdd *mr_rdd_sort_by_key(struct mr_rdd *pairs, bool ascending)
{
    struct mr_rdd *rdd = mr__rdd_new(NULL, &sort_key_kind, &pairs, 1);
    struct mr_error err;

    if (rdd == NULL || rdd->error.status != MR_OK)
        return rdd;
    if (!mr__is_pairs(pairs->schema))
        return mr__rdd_blame(rdd, NULL, mr__needs_pairs_error(&err), &err);
    return finish_sort(rdd, ascending);
}
