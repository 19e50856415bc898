/*
 * The exchange: rows of equal keys come together in one of n partitions.
 *
 *     task 0   rows --split--> [rows of 0] [rows of 1] ...  \
 *     task 1   rows --split--> [rows of 0] [rows of 1] ...   >  fold, run_partition(p): picks the
 *     ...                                                   /   batches of p, on any worker
 *
 * Splitting is a map operator at the end of the tasks, so the driver hands out nothing. It keeps
 * one promise: all rows of a batch that it emits belong to one partition. So a partition of the
 * fold knows its batches by their first row; a row in each batch costs less than a tag on it would.
 *
 * The partition is the hash of the key's bytes (row_codec) modulo n, 0 for a null (DS-14): the same
 * for all operators and all forms of their functions, and for datasets; equal keys are together
 * whatever their bits (-0.0 and 0.0, all NaNs). The order of rows is kept. With one partition
 * there is nothing to split and no operator.
 *
 * Thread: the operators on workers; picking in the thread of the partition.
 */
#include "dstream/exchange.h"

#include "base/hash.h"
#include "data/row_codec.h"
#include "rdd/pairs.h"

#include <stdio.h>
#include <string.h>

enum { ROWS_ON_STACK = 64, PARTS_ON_STACK = 16 };

struct exchange_op {
    struct mr__exchange exchange;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot hand out rows by key: out of memory");
}

static uint32_t partition_of(struct mr__exchange exchange, const struct mr_column *keys,
                             int64_t row, struct mr_buf *scratch)
{
    static const char null_key = 0; /* how the row codec writes a null */
    struct mr_slice bytes;

    if (exchange.encoded) {
        bytes = mr_column_text(keys, row);
    } else {
        mr_buf_clear(scratch);
        mr_key_encode(scratch, keys, row);
        bytes = (struct mr_slice){scratch->data, scratch->size};
    }
    if (bytes.size_bytes == 1 && bytes.data[0] == null_key)
        return 0;
    return (uint32_t)(mr_hash(bytes.data, bytes.size_bytes, 0) % exchange.partition_count);
}

static enum mr_status choose_parts(const struct mr_batch *batch, struct mr__exchange exchange,
                                   uint32_t *parts, uint32_t *counts, struct mr_error *err)
{
    const struct mr_column *keys = mr_batch_column(batch, 0);
    struct mr_buf scratch = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (int64_t row = 0; row < keys->length && !scratch.failed; row++) {
        parts[row] = partition_of(exchange, keys, row, &scratch);
        counts[parts[row]]++;
    }
    if (scratch.failed)
        status = no_memory(err);
    mr_buf_release(&scratch);
    return status;
}

/* Are all rows of one partition? */
static bool is_one_part(const uint32_t *counts, uint32_t partition_count, int64_t rows)
{
    for (uint32_t p = 0; p < partition_count; p++) {
        if (counts[p] > 0)
            return counts[p] == rows;
    }
    return true;
}

/* Emits the parts of a batch in the order of their numbers. */
static enum mr_status emit_parts(const struct mr_batch *batch, const uint32_t *parts,
                                 uint32_t *counts, uint32_t partition_count, struct mr_output *out,
                                 struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);
    struct mr_batch *on_stack[PARTS_ON_STACK];
    struct mr_batch **split;
    enum mr_status status;

    if (is_one_part(counts, partition_count, rows))
        return mr_output_emit(out, batch, err);
    split = on_stack;
    if (partition_count > PARTS_ON_STACK)
        split = mr_alloc(NULL, partition_count * sizeof(struct mr_batch *));
    if (split == NULL)
        return no_memory(err);
    memset(split, 0, partition_count * sizeof(struct mr_batch *));
    status = mr__split_rows(batch, parts, counts, partition_count, split, err);
    for (uint32_t p = 0; p < partition_count; p++) {
        if (status == MR_OK && split[p] != NULL)
            status = mr_output_emit(out, split[p], err);
        mr_batch_unref(split[p]);
    }
    if (split != on_stack)
        mr_free(split);
    return status;
}

static enum mr_status exchange_apply(void *pointer, void *task, const struct mr_batch_info *info,
                                     const struct mr_batch *batch, struct mr_output *out,
                                     struct mr_error *err)
{
    const struct exchange_op *op = pointer;
    size_t rows = (size_t)mr_batch_row_count(batch);
    size_t count_bytes = op->exchange.partition_count * sizeof(uint32_t);
    uint32_t few_parts[ROWS_ON_STACK], few_counts[PARTS_ON_STACK];
    uint32_t *parts = few_parts, *counts = few_counts;
    enum mr_status status;

    MR_UNUSED(task);
    MR_UNUSED(info);
    if (rows == 0)
        return MR_OK;
    if (rows > ROWS_ON_STACK)
        parts = mr_alloc(NULL, rows * sizeof(*parts));
    if (op->exchange.partition_count > PARTS_ON_STACK)
        counts = mr_alloc(NULL, count_bytes);
    if (counts != NULL)
        memset(counts, 0, count_bytes);
    if (parts == NULL || counts == NULL)
        status = no_memory(err);
    else
        status = choose_parts(batch, op->exchange, parts, counts, err);
    if (status == MR_OK)
        status = emit_parts(batch, parts, counts, op->exchange.partition_count, out, err);
    if (parts != few_parts)
        mr_free(parts);
    if (counts != few_counts)
        mr_free(counts);
    return status;
}

static void exchange_free(void *op)
{
    mr_free(op);
}

static const struct mr_map_ops exchange_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "exchange",
    .apply = exchange_apply,
    .free = exchange_free,
};

enum mr_status mr__exchange_add(struct mr__lowering *low, const struct mr_dstream *stream,
                                const char *part, struct mr__exchange exchange,
                                struct mr_node *input, struct mr_node **ret_node,
                                struct mr_error *err)
{
    char name[2 * MR_STATE_NAME_BYTES_MAX];
    struct exchange_op *op;

    if (exchange.partition_count == 1) {
        *ret_node = input;
        return MR_OK;
    }
    op = mr_alloc_zero(NULL, sizeof(*op));
    if (op == NULL)
        return no_memory(err);
    op->exchange = exchange;
    snprintf(name, sizeof(name), "%s.%s", stream->name, part);
    return mr_graph_map(low->graph, name, &input, 1, mr_node_schema(input), &exchange_ops, op,
                        ret_node, err);
}

enum mr_status mr__exchange_pick(const struct mr_fold_input *input, uint32_t partition,
                                 struct mr__exchange exchange, struct mr__batches *ret_batches,
                                 struct mr_error *err)
{
    struct mr_buf scratch = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < input->batch_count && status == MR_OK; i++) {
        const struct mr_column *keys = mr_batch_column(input->batches[i], 0);

        if (exchange.partition_count == 1 || partition_of(exchange, keys, 0, &scratch) == partition)
            status = mr__batches_add(ret_batches, input->batches[i], err);
    }
    if (scratch.failed)
        status = no_memory(err);
    mr_buf_release(&scratch);
    return status;
}
