/*
 * Shuffles: rows of all partitions of the inputs to the partition that their key's hash says.
 *
 *     input 0   partition 0  --before--> cut --> parts[0][0] parts[0][1] ...
 *               partition 1  --before--> cut --> parts[1][0] parts[1][1] ...
 *                                                    |           |
 *                                                    v after     v after
 *     result                                     partition 0  partition 1
 *
 * The first half runs once, in prepare, a task a partition; its parts stay in memory, shared with
 * what they were cut from where nothing had to be copied, until the dataset goes. The second half
 * runs when a partition is asked for. Everything is in the order of partitions and rows, so the
 * same input gives the same partitions, whoever computes them.
 *
 * Threads: any; parts are written by the task of their partition, and read when all are done.
 */
#include "rdd/shuffle.h"

#include "base/hash.h"

struct shuffled {
    const struct mr__shuffled_ops *ops;
    void *extra;
    struct mr__once once;
    struct mr__batches **parts; /* by input: [partition of the input * partitions + partition] */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot shuffle a dataset: out of memory");
}

uint32_t mr__shuffled_partitions(const struct mr_rdd *rdd)
{
    uint32_t count = 1;

    for (uint32_t i = 0; i < rdd->input_count; i++)
        count = MR_MAX(count, rdd->inputs[i]->partition_count);
    return count;
}

enum mr_status mr__shuffled_init(struct mr_rdd *rdd, const struct mr__shuffled_ops *ops,
                                 void *extra, struct mr_error *err)
{
    struct shuffled *shuffled = mr_alloc_zero(NULL, sizeof(*shuffled));

    if (shuffled != NULL)
        shuffled->parts =
            mr_alloc_zero(NULL, (rdd->input_count + (size_t)1) * sizeof(struct mr__batches *));
    if (shuffled == NULL || shuffled->parts == NULL) {
        mr_free(shuffled);
        if (ops->free != NULL)
            ops->free(extra);
        return no_memory(err);
    }
    shuffled->ops = ops;
    shuffled->extra = extra;
    mr__once_init(&shuffled->once);
    rdd->own = shuffled;
    return MR_OK;
}

void *mr__shuffled_extra(const struct mr_rdd *rdd)
{
    const struct shuffled *shuffled = rdd->own;

    return shuffled->extra;
}

static void release_parts(const struct mr_rdd *rdd, struct shuffled *shuffled)
{
    for (uint32_t i = 0; i < rdd->input_count; i++) {
        size_t count = (size_t)rdd->inputs[i]->partition_count * rdd->partition_count;

        for (size_t k = 0; shuffled->parts[i] != NULL && k < count; k++)
            mr__batches_release(&shuffled->parts[i][k]);
        mr_free(shuffled->parts[i]);
        shuffled->parts[i] = NULL;
    }
}

void mr__shuffled_free(struct mr_rdd *rdd)
{
    struct shuffled *shuffled = rdd->own;

    release_parts(rdd, shuffled);
    if (shuffled->ops->free != NULL)
        shuffled->ops->free(shuffled->extra);
    mr__once_release(&shuffled->once);
    mr_free(shuffled->parts);
    mr_free(shuffled);
}

/* ---- the first half ---- */

/* One input's tasks. */
struct cutting {
    struct mr_rdd *rdd;
    struct mr_rdd *input;
    const struct mr__shuffled_ops *ops;
    struct mr__batches *parts;
};

/* Rows in turn; start: the part of the first. */
static enum mr_status deal(const struct mr_batch *batch, uint64_t start, uint32_t count,
                           struct mr_batch **ret_parts, struct mr_error *err)
{
    size_t rows = (size_t)mr_batch_row_count(batch);
    uint32_t *parts = mr_alloc(NULL, (rows + 1) * sizeof(*parts));
    uint32_t *counts = mr_alloc_zero(NULL, count * sizeof(*counts));
    enum mr_status status;

    if (parts == NULL || counts == NULL) {
        status = no_memory(err);
    } else {
        for (size_t row = 0; row < rows; row++) {
            parts[row] = (uint32_t)((start + row) % count);
            counts[parts[row]]++;
        }
        status = mr__split_rows(batch, parts, counts, count, ret_parts, err);
    }
    mr_free(parts);
    mr_free(counts);
    return status;
}

/* Adds the parts of one batch; gone: rows of the partition before it. */
static enum mr_status cut_batch(const struct cutting *cutting, uint32_t partition,
                                const struct mr_batch *batch, uint64_t gone,
                                struct mr__batches *parts, struct mr_error *err)
{
    uint32_t count = cutting->rdd->partition_count;
    struct mr_batch **cut;
    enum mr_status status;

    MR_ASSERT(count > 0);
    if (count == 1)
        return mr__batches_add(&parts[0], batch, err);
    cut = mr_alloc_zero(NULL, count * sizeof(struct mr_batch *));
    if (cut == NULL)
        return no_memory(err);
    if (cutting->ops->is_round_robin)
        status =
            deal(batch, mr_hash(&partition, sizeof(partition), 0) % count + gone, count, cut, err);
    else
        status = mr__split_by_key(batch, cutting->ops->column, count, cut, err);
    for (uint32_t p = 0; p < count; p++) {
        if (status == MR_OK && cut[p] != NULL)
            status = mr__batches_add(&parts[p], cut[p], err);
        mr_batch_unref(cut[p]);
    }
    mr_free(cut);
    return status;
}

static enum mr_status cut_rows(const struct cutting *cutting, uint32_t partition,
                               const struct mr__batches *rows, struct mr_error *err)
{
    uint32_t count = cutting->rdd->partition_count;
    struct mr__batches *parts = cutting->parts + (size_t)partition * count;
    enum mr_status status = MR_OK;
    uint64_t gone = 0;

    for (uint32_t p = 0; p < count; p++)
        mr__batches_release(&parts[p]); /* of a try that failed */
    for (size_t i = 0; status == MR_OK && i < rows->count; i++) {
        status = cut_batch(cutting, partition, rows->items[i], gone, parts, err);
        gone += (uint64_t)mr_batch_row_count(rows->items[i]);
    }
    return status;
}

static enum mr_status cut_partition(struct mr__task *task, void *arg, struct mr_error *err)
{
    const struct cutting *cutting = arg;
    struct mr__batches rows = {0}, combined = {0};
    enum mr_status status = mr__rdd_rows(cutting->input, task->info.partition, task, &rows, err);

    if (status == MR_OK && cutting->ops->before != NULL && rows.count > 0) {
        status = cutting->ops->before(cutting->rdd, task, &rows, &combined, err);
        mr__batches_release(&rows);
        rows = combined;
    }
    if (status == MR_OK)
        status = cut_rows(cutting, task->info.partition, &rows, err);
    mr__batches_release(&rows);
    return status;
}

static enum mr_status run(struct mr_rdd *rdd, struct mr_error *err)
{
    struct shuffled *shuffled = rdd->own;
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < rdd->input_count && status == MR_OK; i++) {
        struct mr_rdd *input = rdd->inputs[i];
        size_t count = (size_t)input->partition_count * rdd->partition_count;
        struct cutting cutting = {rdd, input, shuffled->ops, NULL};

        shuffled->parts[i] = mr_alloc_zero(NULL, (count + 1) * sizeof(struct mr__batches));
        cutting.parts = shuffled->parts[i];
        if (cutting.parts == NULL)
            status = no_memory(err);
        else
            status = mr__run_tasks(rdd, 0, input->partition_count, cut_partition, &cutting, err);
    }
    if (status != MR_OK)
        release_parts(rdd, shuffled);
    return status;
}

bool mr__shuffled_is_prepared(struct mr_rdd *rdd)
{
    struct shuffled *shuffled = rdd->own;

    return mr__once_is_done(&shuffled->once);
}

enum mr_status mr__shuffled_prepare(struct mr_rdd *rdd, struct mr_error *err)
{
    struct shuffled *shuffled = rdd->own;

    return mr__once_run(&shuffled->once, rdd, run, err);
}

/* ---- the second half ---- */

static enum mr_status gather_side(const struct mr_rdd *rdd, uint32_t input, uint32_t partition,
                                  struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct shuffled *shuffled = rdd->own;

    for (uint32_t from = 0; from < rdd->inputs[input]->partition_count; from++) {
        const struct mr__batches *part =
            &shuffled->parts[input][(size_t)from * rdd->partition_count + partition];
        for (size_t i = 0; i < part->count; i++)
            MR_TRY(mr__batches_add(ret_rows, part->items[i], err));
    }
    return MR_OK;
}

/* A stored dataset that lost a partition is computed again without prepare: run it now, then. */
enum mr_status mr__shuffled_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                    struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct mr__shuffled_ops *ops = ((const struct shuffled *)rdd->own)->ops;
    struct mr__batches sides[2] = {{0}, {0}};
    enum mr_status status;

    MR_ASSERT(rdd->input_count <= MR_ARRAY_SIZE(sides));
    MR_TRY_GOTO(mr__shuffled_prepare(rdd, err));
    for (uint32_t i = 0; i < rdd->input_count; i++)
        MR_TRY_GOTO(gather_side(rdd, i, partition, ops->after != NULL ? &sides[i] : ret_rows, err));
    if (ops->after != NULL)
        status = ops->after(rdd, task, sides, ret_rows, err);
done:
    mr__batches_release(&sides[0]);
    mr__batches_release(&sides[1]);
    return status;
}
