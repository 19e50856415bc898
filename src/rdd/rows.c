/*
 * Kernels over rows of any columns: distinct rows, partitions by hash.  See
 * pairs.h.  Thread: any.
 */
#include "rdd/pairs.h"

#include "base/hash.h"
#include "data/batch_internal.h"
#include "data/row_codec.h"
#include "ops/group_table.h"

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot divide a batch: out of memory");
}

/* ---- distinct ---- */

/* The first row of each group, in order; groups are numbered by first appearance. */
static enum mr_status first_rows(const struct mr_batch *batch, struct mr_group_table *table,
                                 uint32_t *ret_rows, int64_t *ret_count, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch), count = 0;
    uint32_t groups[MR_CHUNK_ROWS];

    for (int64_t from = 0; from < rows; from += MR_CHUNK_ROWS) {
        uint32_t chunk = (uint32_t)MR_MIN(rows - from, (int64_t)MR_CHUNK_ROWS);

        MR_TRY(mr_group_table_find(table, batch, from, chunk, groups, err));
        for (uint32_t i = 0; i < chunk; i++) {
            if (groups[i] == count)
                ret_rows[count++] = (uint32_t)(from + i);
        }
    }
    *ret_count = count;
    return MR_OK;
}

enum mr_status mr__distinct_rows(struct mr_batch *const *batches, size_t batch_count,
                                 const struct mr_schema *schema, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    uint32_t column_count = mr_schema_field_count(schema);
    uint32_t *columns = mr_alloc(NULL, (column_count + (size_t)1) * sizeof(*columns));
    struct mr_group_table *table = NULL;
    struct mr_batch *all = NULL;
    uint32_t *rows = NULL;
    int64_t count;
    enum mr_status status;

    MR_TRY_GOTO(mr__batches_join(batches, batch_count, schema, &all, err));
    rows = mr_alloc(NULL, ((size_t)mr_batch_row_count(all) + 1) * sizeof(*rows));
    if (columns == NULL || rows == NULL) {
        status = no_memory(err);
        goto done;
    }
    for (uint32_t i = 0; i < column_count; i++)
        columns[i] = i;
    MR_TRY_GOTO(mr_group_table_new(schema, columns, column_count, &table, err));
    MR_TRY_GOTO(first_rows(all, table, rows, &count, err));
    status = mr_batch_take(all, rows, count, ret_batch, err);
done:
    mr_group_table_free(table);
    mr_batch_unref(all);
    mr_free(columns);
    mr_free(rows);
    return status;
}

/* ---- partitions ---- */

static void encode_row(struct mr_buf *out, const struct mr_batch *batch, uint32_t column,
                       int64_t row)
{
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));

    mr_buf_clear(out);
    if (column != MR__ALL_COLUMNS) {
        mr_key_encode(out, mr_batch_column(batch, column), row);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        mr_key_encode(out, mr_batch_column(batch, i), row);
}

/* The part of each row, and how many rows each part has. */
static enum mr_status choose_parts(const struct mr_batch *batch, uint32_t column,
                                   uint32_t partition_count, uint32_t *parts, uint32_t *counts,
                                   struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);
    struct mr_buf bytes = MR_BUF_INIT;

    for (int64_t row = 0; row < rows && !bytes.failed; row++) {
        bool is_null =
            column != MR__ALL_COLUMNS && mr_column_is_null(mr_batch_column(batch, column), row);

        parts[row] = 0;
        if (!is_null) {
            encode_row(&bytes, batch, column, row);
            parts[row] = (uint32_t)(mr_hash(bytes.data, bytes.size, 0) % partition_count);
        }
        counts[parts[row]]++;
    }
    bool failed = bytes.failed;
    mr_buf_release(&bytes);
    return failed ? no_memory(err) : MR_OK;
}

enum mr_status mr__split_rows(const struct mr_batch *batch, const uint32_t *parts, uint32_t *counts,
                              uint32_t partition_count, struct mr_batch **ret_parts,
                              struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);
    uint32_t *order = mr_alloc(NULL, ((size_t)rows + 1) * sizeof(*order));
    enum mr_status status = MR_OK;
    uint32_t start = 0;

    for (uint32_t p = 0; p < partition_count; p++)
        ret_parts[p] = NULL;
    if (order == NULL)
        return no_memory(err);
    for (uint32_t p = 0; p < partition_count; p++) {
        uint32_t count = counts[p];
        counts[p] = start; /* where the next row of the part goes */
        start += count;
    }
    for (int64_t row = 0; row < rows; row++)
        order[counts[parts[row]]++] = (uint32_t)row;
    start = 0;
    for (uint32_t p = 0; p < partition_count && status == MR_OK; p++) {
        if (counts[p] > start)
            status = mr_batch_take(batch, order + start, counts[p] - start, &ret_parts[p], err);
        start = counts[p];
    }
    for (uint32_t p = 0; p < partition_count && status != MR_OK; p++)
        ret_parts[p] = mr_batch_unref(ret_parts[p]);
    mr_free(order);
    return status;
}

enum mr_status mr__split_by_key(const struct mr_batch *batch, uint32_t column,
                                uint32_t partition_count, struct mr_batch **ret_parts,
                                struct mr_error *err)
{
    size_t rows = (size_t)mr_batch_row_count(batch);
    uint32_t *parts = mr_alloc(NULL, (rows + 1) * sizeof(*parts));
    uint32_t *counts = mr_alloc_zero(NULL, partition_count * sizeof(*counts));
    enum mr_status status;

    if (parts == NULL || counts == NULL) {
        status = no_memory(err);
        goto done;
    }
    MR_TRY_GOTO(choose_parts(batch, column, partition_count, parts, counts, err));
    status = mr__split_rows(batch, parts, counts, partition_count, ret_parts, err);
done:
    mr_free(parts);
    mr_free(counts);
    return status;
}
