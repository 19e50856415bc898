/*
 * Row-wise building of batches: what C callbacks and operators use.
 *
 *     append values of a row in any order -> end_row -> ... -> finish -> batch; builder empty
 *
 * The first failure sticks: later appends do nothing and finish returns it, so a callback needs no
 * checks. Invariants: between rows every column has row_count values; within one it has row_count
 * or row_count + 1. Threads: the builder's owner.
 */
#include "data/builder_internal.h"

#include "base/alloc.h"
#include "base/check.h"

#include <millrace/codec.h>

#include <inttypes.h>

struct mr_batch_builder {
    struct mr_schema *schema;
    uint32_t column_count;
    struct mr_column_builder *columns;
    int64_t row_count;
    enum mr_status status; /* MR_OK, or the first failure, described in error */
    struct mr_error error;
};

static enum mr_status new_columns(struct mr_batch_builder *builder,
                                  struct mr_column_builder **ret_columns, struct mr_error *err)
{
    const struct mr_field *fields =
        builder->column_count == 0 ? NULL : mr_schema_field(builder->schema, 0);

    return mr__columns_new(fields, builder->column_count, ret_columns, err);
}

enum mr_status mr_batch_builder_new(const struct mr_schema *schema,
                                    struct mr_batch_builder **ret_builder, struct mr_error *err)
{
    struct mr_batch_builder *builder = mr_alloc_zero(NULL, sizeof *builder);

    if (builder == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make batch builder: out of memory");
    builder->schema = mr_schema_ref(schema);
    builder->column_count = mr_schema_field_count(schema);
    enum mr_status status = new_columns(builder, &builder->columns, err);
    if (status != MR_OK) {
        mr_batch_builder_free(builder);
        return status;
    }
    *ret_builder = builder;
    return MR_OK;
}

void mr_batch_builder_free(struct mr_batch_builder *builder)
{
    if (builder == NULL)
        return;
    mr__columns_free(builder->columns, builder->column_count);
    mr_schema_unref(builder->schema);
    mr_free(builder);
}

int64_t mr_batch_builder_row_count(const struct mr_batch_builder *builder)
{
    return builder->row_count;
}

size_t mr_batch_builder_bytes(const struct mr_batch_builder *builder)
{
    size_t bytes = 0;

    for (uint32_t i = 0; i < builder->column_count; i++)
        bytes += mr__column_bytes(&builder->columns[i]);
    return bytes;
}

struct mr_column_builder *mr_batch_builder_column(struct mr_batch_builder *builder, uint32_t column)
{
    MR_ASSERT(column < builder->column_count);
    return &builder->columns[column];
}

/* Keeps the first failure, with the name of its column in front. */
static void keep_failure(struct mr_batch_builder *builder, uint32_t column, enum mr_status status)
{
    if (status == MR_OK)
        return;
    builder->status = status;
    mr_error_prefix(&builder->error, "column '%s'", mr_schema_field(builder->schema, column)->name);
}

#define APPEND(call)                                                                               \
    do {                                                                                           \
        MR_ASSERT(column < builder->column_count);                                                 \
        if (builder->status == MR_OK)                                                              \
            keep_failure(builder, column, (call));                                                 \
    } while (0)

void mr_batch_builder_null(struct mr_batch_builder *builder, uint32_t column)
{
    APPEND(mr_column_builder_null(&builder->columns[column], &builder->error));
}

void mr_batch_builder_int(struct mr_batch_builder *builder, uint32_t column, int64_t value)
{
    APPEND(mr_column_builder_int(&builder->columns[column], value, &builder->error));
}

void mr_batch_builder_double(struct mr_batch_builder *builder, uint32_t column, double value)
{
    APPEND(mr_column_builder_double(&builder->columns[column], value, &builder->error));
}

void mr_batch_builder_bool(struct mr_batch_builder *builder, uint32_t column, bool value)
{
    APPEND(mr_column_builder_bool(&builder->columns[column], value, &builder->error));
}

void mr_batch_builder_decimal(struct mr_batch_builder *builder, uint32_t column, mr_int128 unscaled)
{
    APPEND(mr_column_builder_decimal(&builder->columns[column], unscaled, &builder->error));
}

void mr_batch_builder_text(struct mr_batch_builder *builder, uint32_t column, const char *data,
                           size_t size_bytes)
{
    APPEND(mr_column_builder_text(&builder->columns[column], data, size_bytes, &builder->error));
}

void mr_batch_builder_object(struct mr_batch_builder *builder, uint32_t column, const void *object)
{
    APPEND(mr__column_builder_object(&builder->columns[column], object, &builder->error));
}

void mr_batch_builder_copy(struct mr_batch_builder *builder, uint32_t column,
                           const struct mr_column *from, int64_t row)
{
    MR_ASSERT(row >= 0 && row < from->length);
    APPEND(mr_column_builder_copy(&builder->columns[column], from, row, &builder->error));
}

void mr_batch_builder_end_row(struct mr_batch_builder *builder)
{
    if (builder->status != MR_OK)
        return;
    for (uint32_t i = 0; i < builder->column_count; i++) {
        int64_t extra = builder->columns[i].length - builder->row_count;
        if (extra == 0)
            mr_batch_builder_null(builder, i);
        else if (extra != 1)
            keep_failure(builder, i,
                         MR_FAIL(&builder->error, MR_USAGE,
                                 "cannot end row: %" PRId64 " values for one row; append one",
                                 extra));
        if (builder->status != MR_OK)
            return;
    }
    builder->row_count++;
}

enum mr_status mr_batch_builder_rows_added(struct mr_batch_builder *builder, int64_t rows,
                                           struct mr_error *err)
{
    MR_ASSERT(rows >= 0);
    for (uint32_t i = 0; i < builder->column_count; i++) {
        if (builder->columns[i].length != builder->row_count + rows)
            return MR_FAIL(err, MR_INTERNAL,
                           "cannot add rows: column '%s' has %" PRId64 " values for %" PRId64
                           " rows; append one value a row to every column",
                           mr_schema_field(builder->schema, i)->name, builder->columns[i].length,
                           builder->row_count + rows);
    }
    builder->row_count += rows;
    return MR_OK;
}

void mr_batch_builder_append(struct mr_batch_builder *builder, const struct mr_batch *batch)
{
    int64_t rows = mr_batch_row_count(batch);

    if (builder->status != MR_OK)
        return;
    if (!mr_schema_equal(builder->schema, mr_batch_schema(batch))) {
        builder->status = MR_FAIL(&builder->error, MR_USAGE,
                                  "cannot append batch: its schema differs from the builder's; "
                                  "select the columns first");
        return;
    }
    for (uint32_t i = 0; builder->status == MR_OK && i < builder->column_count; i++)
        keep_failure(builder, i,
                     mr__column_append(&builder->columns[i], mr_batch_column(batch, i), 0, rows,
                                       &builder->error));
    if (builder->status == MR_OK)
        builder->row_count += rows;
}

enum mr_status mr_batch_builder_finish(struct mr_batch_builder *builder,
                                       struct mr_batch **ret_batch, struct mr_error *err)
{
    struct mr_column_builder *empty = NULL;
    enum mr_status status = builder->status;

    if (status != MR_OK) {
        if (err != NULL)
            *err = builder->error;
        for (uint32_t i = 0; i < builder->column_count; i++)
            mr_column_builder_truncate(&builder->columns[i], 0);
        builder->row_count = 0;
        builder->status = MR_OK;
        mr_error_clear(&builder->error);
        return status;
    }
    MR_TRY(new_columns(builder, &empty, err));
    struct mr_column_builder *columns = builder->columns;
    int64_t row_count = builder->row_count;
    builder->columns = empty;
    builder->row_count = 0;
    return mr__batch_of_builders(builder->schema, columns, row_count, ret_batch, err);
}
