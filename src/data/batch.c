/*
 * Finished batches: one block with the column structs, around buffers that somebody owns.
 *
 *     mr_batch  references, schema, rows, owner
 *               nodes: [ column 0 ][ column 1 ] ... [ children of column 0 ] ...
 *                          `-> buffers of the owner: builder, other batch, DuckDB, Arrow array
 *
 * Everything that makes a batch goes through mr_batch_wrap: finish of a builder, select (owner: the
 * batch selected from), slice and take (owner: new builders), import.
 *
 * Invariants: a node's type points into the batch's own schema; every column of the top level has
 * row_count values. Threads: any; a batch never changes and its reference count is atomic.
 */
#include "data/batch_internal.h"
#include "data/builder_internal.h"
#include "data/codec.h"

#include "base/alloc.h"
#include "base/check.h"

#include <inttypes.h>
#include <stdatomic.h>

struct mr_batch {
    atomic_uint references;
    uint32_t column_count;
    struct mr_schema *schema;
    int64_t row_count;
    size_t size_bytes;
    void *owner;
    void (*release_owner)(void *owner);
    struct mr_column nodes[];
};

/* ---- making ---- */

static size_t count_nodes(const struct mr_field *fields, uint32_t count)
{
    size_t nodes = count;

    for (uint32_t i = 0; i < count; i++)
        nodes += count_nodes(fields[i].type.fields, fields[i].type.field_count);
    return nodes;
}

static size_t column_bytes(const struct mr_column *column)
{
    size_t rows = (size_t)column->length;
    size_t bytes = column->validity != NULL ? (rows + 7) / 8 : 0;

    if (column->type->id == MR_TYPE_BOOL)
        bytes += (rows + 7) / 8;
    else if (column->offsets != NULL)
        bytes += (rows + 1) * sizeof *column->offsets;
    else
        bytes += rows * mr_type_width(column->type->id);
    if (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY) {
        MR_ASSERT(column->offsets != NULL);
        bytes += (size_t)(column->offsets[rows] - column->offsets[0]);
    }
    return bytes;
}

/* Copies one column and what is below it; *next is the first free node. */
static enum mr_status copy_node(struct mr_batch *batch, struct mr_column *node,
                                const struct mr_column *from, const struct mr_type *type,
                                struct mr_column **next, struct mr_error *err)
{
    if (from->type != NULL && !mr__type_stored_alike(from->type, type)) {
        char have[128];
        char want[128];
        (void)mr_type_print(from->type, have, sizeof have);
        (void)mr_type_print(type, want, sizeof want);
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make batch: a column has type %s where the schema says %s; use the "
                       "schema of the data",
                       have, want);
    }
    *node = *from;
    node->type = type;
    node->children = NULL;
    batch->size_bytes += column_bytes(node);
    if (type->field_count == 0)
        return MR_OK;
    struct mr_column *children = *next;
    *next += type->field_count;
    node->children = children;
    for (uint32_t i = 0; i < type->field_count; i++)
        MR_TRY(
            copy_node(batch, &children[i], &from->children[i], &type->fields[i].type, next, err));
    return MR_OK;
}

static enum mr_status fill_batch(struct mr_batch *batch, const struct mr_schema *schema,
                                 const struct mr_column *columns, int64_t row_count,
                                 struct mr_error *err)
{
    struct mr_column *next = batch->nodes + batch->column_count;

    for (uint32_t i = 0; i < batch->column_count; i++) {
        if (columns[i].length != row_count)
            return MR_FAIL(err, MR_INTERNAL,
                           "cannot make batch: column '%s' has %" PRId64 " values for %" PRId64
                           " rows; columns must be of one length",
                           mr_schema_field(schema, i)->name, columns[i].length, row_count);
        MR_TRY(copy_node(batch, &batch->nodes[i], &columns[i], &mr_schema_field(schema, i)->type,
                         &next, err));
    }
    return MR_OK;
}

enum mr_status mr_batch_wrap(const struct mr_schema *schema, const struct mr_column *columns,
                             int64_t row_count, void *owner, void (*release_owner)(void *owner),
                             struct mr_batch **ret_batch, struct mr_error *err)
{
    uint32_t column_count = mr_schema_field_count(schema);
    size_t nodes = column_count == 0 ? 0 : count_nodes(mr_schema_field(schema, 0), column_count);
    struct mr_batch *batch = mr_alloc_zero(NULL, sizeof *batch + nodes * sizeof(struct mr_column));
    enum mr_status status = MR_OK;

    MR_ASSERT(row_count >= 0);
    if (batch == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot make batch: out of memory");
        goto done;
    }
    atomic_init(&batch->references, 1);
    batch->column_count = column_count;
    batch->row_count = row_count;
    MR_TRY_GOTO(fill_batch(batch, schema, columns, row_count, err));
    batch->schema = mr_schema_ref(schema);
    batch->owner = owner;
    batch->release_owner = release_owner;
    *ret_batch = batch;
    return MR_OK;
done:
    mr_free(batch);
    if (release_owner != NULL)
        release_owner(owner);
    return status;
}

struct mr_batch *mr_batch_ref(const struct mr_batch *batch)
{
    struct mr_batch *counted = (struct mr_batch *)(uintptr_t)batch;

    MR_ASSERT(counted != NULL);
    atomic_fetch_add_explicit(&counted->references, 1, memory_order_relaxed);
    return counted;
}

struct mr_batch *mr_batch_unref(struct mr_batch *batch)
{
    if (batch == NULL ||
        atomic_fetch_sub_explicit(&batch->references, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (batch->release_owner != NULL)
        batch->release_owner(batch->owner);
    mr_schema_unref(batch->schema);
    mr_free(batch);
    return NULL;
}

/* ---- from builders ---- */

/* Buffers of a finished builder. The schema keeps the types alive that the builders point to. */
struct built {
    struct mr_schema *schema;
    struct mr_column_builder *columns;
};

static void release_built(void *owner)
{
    struct built *built = owner;

    mr__columns_free(built->columns, mr_schema_field_count(built->schema));
    mr_schema_unref(built->schema);
    mr_free(built);
}

/* Columns of a batch have real pointers even when there is nothing behind them. */
static const int32_t zero_offset[1] = {0};
static const uint64_t no_values[8] = {0};

static void view_builder(const struct mr_column_builder *column, struct mr_column *view,
                         struct mr_column **next)
{
    uint32_t child_count = column->type->field_count;
    bool offsets = column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY ||
                   column->type->id == MR_TYPE_LIST;

    *view = (struct mr_column){
        .type = column->type,
        .length = column->length,
        .null_count = column->null_count,
        .validity = column->null_count > 0 ? column->validity : NULL,
        .values = column->values != NULL ? (const void *)column->values : no_values,
        .offsets = !offsets                  ? NULL
                   : column->offsets != NULL ? column->offsets
                                             : zero_offset,
    };
    if (child_count == 0)
        return;
    struct mr_column *children = *next;
    *next += child_count;
    view->children = children;
    for (uint32_t i = 0; i < child_count; i++)
        view_builder(&column->children[i], &children[i], next);
}

enum mr_status mr__batch_of_builders(const struct mr_schema *schema,
                                     struct mr_column_builder *columns, int64_t row_count,
                                     struct mr_batch **ret_batch, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(schema);
    size_t nodes = count == 0 ? 0 : count_nodes(mr_schema_field(schema, 0), count);
    struct mr_column *views = mr_alloc(NULL, (nodes + 1) * sizeof *views);
    struct built *built = mr_alloc(NULL, sizeof *built);

    if (views == NULL || built == NULL) {
        mr_free(views);
        mr_free(built);
        mr__columns_free(columns, count);
        return MR_FAIL(err, MR_NOMEM, "cannot make batch: out of memory");
    }
    *built = (struct built){mr_schema_ref(schema), columns};
    struct mr_column *next = views + count;
    for (uint32_t i = 0; i < count; i++)
        view_builder(&columns[i], &views[i], &next);
    enum mr_status status =
        mr_batch_wrap(schema, views, row_count, built, release_built, ret_batch, err);
    mr_free(views);
    return status;
}

enum mr_status mr_batch_empty(const struct mr_schema *schema, struct mr_batch **ret_batch,
                              struct mr_error *err)
{
    struct mr_column_builder *columns = NULL;
    uint32_t count = mr_schema_field_count(schema);

    MR_TRY(mr__columns_new(count == 0 ? NULL : mr_schema_field(schema, 0), count, &columns, err));
    return mr__batch_of_builders(schema, columns, 0, ret_batch, err);
}

/* ---- from other batches ---- */

static void release_batch(void *owner)
{
    mr_batch_unref(owner);
}

enum mr_status mr_batch_select(const struct mr_batch *batch, const struct mr_schema *schema,
                               const uint32_t *indexes, struct mr_batch **ret_batch,
                               struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(schema);
    struct mr_column *columns = mr_alloc(NULL, (count + (size_t)1) * sizeof *columns);

    if (columns == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot select columns: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        MR_ASSERT(indexes[i] < batch->column_count);
        columns[i] = batch->nodes[indexes[i]];
    }
    enum mr_status status = mr_batch_wrap(schema, columns, batch->row_count, mr_batch_ref(batch),
                                          release_batch, ret_batch, err);
    mr_free(columns);
    return status;
}

/* rows NULL: the range [from, from + count). */
static enum mr_status copy_rows(const struct mr_batch *batch, const uint32_t *rows, int64_t from,
                                int64_t count, struct mr_batch **ret_batch, struct mr_error *err)
{
    uint32_t column_count = batch->column_count;
    struct mr_column_builder *columns = NULL;
    enum mr_status status = MR_OK;

    MR_TRY(mr__columns_new(column_count == 0 ? NULL : mr_schema_field(batch->schema, 0),
                           column_count, &columns, err));
    for (uint32_t i = 0; status == MR_OK && i < column_count; i++) {
        status = rows == NULL ? mr__column_append(&columns[i], &batch->nodes[i], from, count, err)
                              : mr__column_gather(&columns[i], &batch->nodes[i], rows, count, err);
    }
    if (status != MR_OK) {
        mr__columns_free(columns, column_count);
        return status;
    }
    return mr__batch_of_builders(batch->schema, columns, count, ret_batch, err);
}

enum mr_status mr_batch_slice(const struct mr_batch *batch, int64_t from, int64_t count,
                              struct mr_batch **ret_batch, struct mr_error *err)
{
    MR_ASSERT(from >= 0 && count >= 0 && count <= batch->row_count - from);
    return copy_rows(batch, NULL, from, count, ret_batch, err);
}

enum mr_status mr_batch_take(const struct mr_batch *batch, const uint32_t *rows, int64_t row_count,
                             struct mr_batch **ret_batch, struct mr_error *err)
{
    MR_ASSERT(row_count >= 0);
    for (int64_t i = 0; i < row_count; i++)
        MR_ASSERT(rows[i] < batch->row_count);
    static const uint32_t none[1] = {0};
    return copy_rows(batch, row_count > 0 ? rows : none, 0, row_count, ret_batch, err);
}

/* ---- reading ---- */

const struct mr_schema *mr_batch_schema(const struct mr_batch *batch)
{
    return batch->schema;
}

int64_t mr_batch_row_count(const struct mr_batch *batch)
{
    return batch->row_count;
}

const struct mr_column *mr_batch_column(const struct mr_batch *batch, uint32_t index)
{
    MR_ASSERT(index < batch->column_count);
    return &batch->nodes[index];
}

size_t mr_batch_bytes(const struct mr_batch *batch)
{
    return batch->size_bytes;
}

#define READ(c_type)                                                                               \
    c_type value;                                                                                  \
    memcpy(&value, (const char *)column->values + (size_t)row * sizeof value, sizeof value)

int64_t mr_column_int(const struct mr_column *column, int64_t row)
{
    MR_ASSERT(row >= 0 && row < column->length);
    switch (column->type->id) {
    case MR_TYPE_INT8: {
        READ(int8_t);
        return value;
    }
    case MR_TYPE_INT16: {
        READ(int16_t);
        return value;
    }
    case MR_TYPE_INT32:
    case MR_TYPE_DATE: {
        READ(int32_t);
        return value;
    }
    case MR_TYPE_UINT8: {
        READ(uint8_t);
        return value;
    }
    case MR_TYPE_UINT16: {
        READ(uint16_t);
        return value;
    }
    case MR_TYPE_UINT32: {
        READ(uint32_t);
        return value;
    }
    case MR_TYPE_INT64:
    case MR_TYPE_UINT64:
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS: {
        READ(int64_t);
        return value;
    }
    default:
        break;
    }
    MR_ASSERT(mr_type_width(column->type->id) == 0 && column->length < 0); /* no integer type */
    return 0;
}

mr_int128 mr_column_decimal(const struct mr_column *column, int64_t row)
{
    MR_ASSERT(row >= 0 && row < column->length && column->type->id == MR_TYPE_DECIMAL);
    READ(mr_int128);
    return value;
}

double mr_column_double(const struct mr_column *column, int64_t row)
{
    MR_ASSERT(row >= 0 && row < column->length);
    switch (column->type->id) {
    case MR_TYPE_DOUBLE: {
        READ(double);
        return value;
    }
    case MR_TYPE_FLOAT: {
        READ(float);
        return (double)value;
    }
    case MR_TYPE_UINT64: {
        READ(uint64_t);
        return (double)value;
    }
    case MR_TYPE_DECIMAL: {
        double unit = 1;
        for (unsigned i = 0; i < column->type->scale; i++)
            unit *= 10;
        return (double)mr_column_decimal(column, row) / unit;
    }
    default:
        return (double)mr_column_int(column, row);
    }
}

bool mr_row_is_null(const struct mr_row *row, uint32_t column)
{
    return mr_column_is_null(mr_batch_column(row->batch, column), row->index);
}

int64_t mr_row_int(const struct mr_row *row, uint32_t column)
{
    const struct mr_column *from = mr_batch_column(row->batch, column);

    return mr_column_is_null(from, row->index) ? 0 : mr_column_int(from, row->index);
}

double mr_row_double(const struct mr_row *row, uint32_t column)
{
    const struct mr_column *from = mr_batch_column(row->batch, column);

    return mr_column_is_null(from, row->index) ? 0 : mr_column_double(from, row->index);
}

bool mr_row_bool(const struct mr_row *row, uint32_t column)
{
    const struct mr_column *from = mr_batch_column(row->batch, column);

    MR_ASSERT(from->type->id == MR_TYPE_BOOL);
    return !mr_column_is_null(from, row->index) && mr_column_bool(from, row->index);
}

struct mr_slice mr_row_text(const struct mr_row *row, uint32_t column)
{
    const struct mr_column *from = mr_batch_column(row->batch, column);

    MR_ASSERT(from->type->id == MR_TYPE_TEXT || from->type->id == MR_TYPE_BINARY);
    if (mr_column_is_null(from, row->index))
        return (struct mr_slice){"", 0};
    return mr_column_text(from, row->index);
}
