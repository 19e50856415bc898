/*
 * late: splits rows by the late watermark of the stateful operator that stands behind it, for ON
 * LATE INTO. Two nodes over the same input:
 *
 *     rows --late (keep)---> rows that are not late ---> the stateful operator, which then drops
 *          |                                             nothing
 *          --late (route)--> late rows, and mr_watermark, mr_operator ---> the table of the clause
 *
 * A row is late when its time, and what is added to it (the size of a window whose start it is), is
 * at or below the late watermark: structured.md 7.4. A null time is not late. A map operator in
 * front of a fold sees the same two watermarks as the fold: nothing between them changes them.
 *
 * Called by the SQL front end (mr_op_late), then by tasks. Threads: any, the operator is read-only.
 */
#include "ops/late.h"

#include "base/alloc.h"
#include "base/check.h"

#include <string.h>

enum { NANOS_PER_US = 1000 };

struct late {
    struct mr_schema *schema; /* of the output */
    uint32_t column;
    int32_t field; /* of a window: its end; -1: the column is the time */
    bool nanos;
    int64_t add_us;
    char *operator_name; /* NULL: keep */
};

static int64_t floor_us(int64_t nanos)
{
    return nanos / NANOS_PER_US - (nanos % NANOS_PER_US < 0 ? 1 : 0);
}

static bool is_late(const struct late *late, const struct mr_column *column, int64_t row,
                    int64_t watermark_us)
{
    int64_t time_us;

    if (mr_column_is_null(column, row))
        return false;
    if (late->field >= 0) {
        column = &column->children[late->field];
        if (mr_column_is_null(column, row))
            return false;
    }
    time_us = mr_column_int(column, row);
    if (late->nanos)
        time_us = floor_us(time_us);
    return !__builtin_add_overflow(time_us, late->add_us, &time_us) && time_us <= watermark_us;
}

/* One late row with what was decided about it. */
static enum mr_status emit_late(const struct late *late, const struct mr_batch *batch,
                                const uint32_t *rows, int64_t count, int64_t watermark_us,
                                struct mr_output *out, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(late->schema, &builder, err));
    for (int64_t i = 0; i < count; i++) {
        for (uint32_t k = 0; k < columns; k++)
            mr_batch_builder_copy(builder, k, mr_batch_column(batch, k), rows[i]);
        mr_batch_builder_int(builder, columns, watermark_us);
        mr_batch_builder_text(builder, columns + 1, late->operator_name,
                              strlen(late->operator_name));
        mr_batch_builder_end_row(builder);
    }
    status = mr_batch_builder_finish(builder, &result, err);
    if (status == MR_OK)
        status = mr_output_emit(out, result, err);
    mr_batch_unref(result);
    mr_batch_builder_free(builder);
    return status;
}

static enum mr_status emit_kept(const struct mr_batch *batch, const uint32_t *rows, int64_t count,
                                struct mr_output *out, struct mr_error *err)
{
    struct mr_batch *taken = NULL;
    enum mr_status status;

    if (count == mr_batch_row_count(batch))
        return mr_output_emit(out, batch, err);
    if (count == 0)
        return MR_OK;
    MR_TRY(mr_batch_take(batch, rows, count, &taken, err));
    status = mr_output_emit(out, taken, err);
    mr_batch_unref(taken);
    return status;
}

static enum mr_status late_apply(void *op, void *task, const struct mr_batch_info *info,
                                 const struct mr_batch *batch, struct mr_output *out,
                                 struct mr_error *err)
{
    const struct late *late = op;
    bool keeps = late->operator_name == NULL;
    const struct mr_column *column = mr_batch_column(batch, late->column);
    int64_t row_count = mr_batch_row_count(batch);
    int64_t watermark_us = info->late_watermark_us;
    uint32_t *rows;
    int64_t count = 0;
    enum mr_status status = MR_OK;

    (void)task;
    if (watermark_us == INT64_MIN)
        return keeps ? mr_output_emit(out, batch, err) : MR_OK;
    rows = mr_alloc(NULL, ((size_t)row_count + 1) * sizeof(*rows));
    if (rows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot find the late rows of a batch: out of memory");
    for (int64_t i = 0; i < row_count; i++) {
        rows[count] = (uint32_t)i;
        count += is_late(late, column, i, watermark_us) != keeps;
    }
    if (keeps) {
        status = emit_kept(batch, rows, count, out, err);
    } else if (count > 0) {
        mr_output_late_rows(out, (uint64_t)count);
        status = emit_late(late, batch, rows, count, watermark_us, out, err);
    }
    mr_free(rows);
    return status;
}

static void late_free(void *op)
{
    struct late *late = op;

    if (late == NULL)
        return;
    mr_schema_unref(late->schema);
    mr_free(late->operator_name);
    mr_free(late);
}

static const struct mr_map_ops keep_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "late (kept)",
    .apply = late_apply,
    .free = late_free,
};

static const struct mr_map_ops route_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "late (routed)",
    .routes_late = true,
    .apply = late_apply,
    .free = late_free,
};

static enum mr_status routed_schema(const struct mr_schema *input, struct mr_schema **ret_schema,
                                    struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(input);
    struct mr_field *fields = mr_alloc_zero(NULL, (count + 2) * sizeof(*fields));
    enum mr_status status;

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot route late rows: out of memory");
    for (uint32_t i = 0; i < count; i++)
        fields[i] = *mr_schema_field(input, i);
    fields[count] = (struct mr_field){.name = "mr_watermark", .type = {.id = MR_TYPE_TIMESTAMP}};
    fields[count + 1] = (struct mr_field){.name = "mr_operator", .type = {.id = MR_TYPE_TEXT}};
    status = mr_schema_new(fields, count + 2, ret_schema, err);
    mr_free(fields);
    return status;
}

/* The field that tells the time of a window; -1: it is none. */
static int32_t window_end(const struct mr_type *type)
{
    for (uint32_t i = 0; type->id == MR_TYPE_STRUCT && i < type->field_count; i++) {
        if (strcmp(type->fields[i].name, "end") == 0)
            return (int32_t)i;
    }
    return -1;
}

enum mr_status mr_op_late(const struct mr_schema *input, const struct mr_late_spec *spec,
                          struct mr_map_op *ret_op, struct mr_error *err)
{
    struct late *late;
    const struct mr_field *field;
    const struct mr_type *type;
    int32_t end;
    enum mr_status status = MR_OK;

    if (spec->column >= mr_schema_field_count(input))
        return MR_FAIL(err, MR_CONFIG, "cannot find late rows by column %u: the input has %u",
                       spec->column, mr_schema_field_count(input));
    field = mr_schema_field(input, spec->column);
    end = window_end(&field->type);
    type = end >= 0 ? &field->type.fields[end].type : &field->type;
    if (type->id != MR_TYPE_TIMESTAMP && type->id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot find late rows by '%s': it must be a TIMESTAMP; cast it first",
                       field->name);
    late = mr_alloc_zero(NULL, sizeof(*late));
    if (late == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot route late rows: out of memory");
    late->column = spec->column;
    late->field = end;
    late->nanos = type->id == MR_TYPE_TIMESTAMP_NS;
    late->add_us = spec->add_us;
    if (spec->operator_name != NULL) {
        late->operator_name = mr_strdup(spec->operator_name);
        if (late->operator_name == NULL) {
            status = MR_FAIL(err, MR_NOMEM, "cannot route late rows: out of memory");
            goto done;
        }
        MR_TRY_GOTO(routed_schema(input, &late->schema, err));
    } else {
        late->schema = mr_schema_ref(input);
    }
    *ret_op = (struct mr_map_op){spec->operator_name != NULL ? &route_ops : &keep_ops, late,
                                 mr_schema_ref(late->schema)};
    late = NULL;
done:
    late_free(late);
    return status;
}
