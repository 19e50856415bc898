/*
 * session window: puts the session that a row would be alone in front of it (structured.md 10.3).
 *
 *     ts | city          start | end | ts | city
 *      7 | Bonn    -->       7 |  17 |  7 | Bonn        gap 10
 *
 * The gap is one for all rows or a column of each. Rows without a time or a gap, or whose gap is
 * not positive, are in no session. Nothing is copied when all rows stay. A session that would end
 * after the end of time is MR_BAD_DATA.
 *
 * Called by the front ends (mr_op_session_window), then by tasks. Threads: any, the operator is
 * read-only.
 */
#include "ops/stateful.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/batch_internal.h"
#include "ops/ordinal.h"

#include <inttypes.h>

struct session_window {
    struct mr_schema *schema;
    uint32_t column;
    int32_t gap_column;
    bool nanos;
    int64_t gap_us;
};

/* What a batch of ours borrows from. */
struct session_rows {
    struct mr_batch *batch;
    int64_t *starts;
    int64_t *ends;
    uint32_t *rows; /* that stay; scratch */
    int64_t count;
};

static void rows_free(void *arg)
{
    struct session_rows *rows = arg;

    if (rows == NULL)
        return;
    mr_batch_unref(rows->batch);
    mr_free(rows->starts);
    mr_free(rows->ends);
    mr_free(rows->rows);
    mr_free(rows);
}

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot add sessions to a batch: out of memory");
}

static enum mr_status rows_new(int64_t count, struct session_rows **ret_rows, struct mr_error *err)
{
    struct session_rows *rows = mr_alloc_zero(NULL, sizeof(*rows));
    size_t size = (size_t)count;

    if (rows == NULL)
        return no_memory(err);
    rows->starts = mr_alloc(NULL, size * sizeof(*rows->starts));
    rows->ends = mr_alloc(NULL, size * sizeof(*rows->ends));
    rows->rows = mr_alloc(NULL, size * sizeof(*rows->rows));
    if (rows->starts == NULL || rows->ends == NULL || rows->rows == NULL) {
        rows_free(rows);
        return no_memory(err);
    }
    *ret_rows = rows;
    return MR_OK;
}

static enum mr_status fill(const struct session_window *window, const struct mr_batch *batch,
                           struct session_rows *rows, struct mr_error *err)
{
    const struct mr_column *times = mr_batch_column(batch, window->column);
    const struct mr_column *gaps =
        window->gap_column >= 0 ? mr_batch_column(batch, (uint32_t)window->gap_column) : NULL;
    int64_t row_count = mr_batch_row_count(batch);

    for (int64_t row = 0; row < row_count; row++) {
        if (mr_column_is_null(times, row) || (gaps != NULL && mr_column_is_null(gaps, row)))
            continue;
        int64_t time_us = ((const int64_t *)times->values)[row];
        int64_t gap_us = gaps != NULL ? ((const int64_t *)gaps->values)[row] : window->gap_us;
        if (window->nanos)
            time_us = mr_floor_div(time_us, 1000);
        if (gap_us <= 0)
            continue;
        rows->rows[rows->count] = (uint32_t)row;
        rows->starts[rows->count] = time_us;
        if (__builtin_add_overflow(time_us, gap_us, &rows->ends[rows->count++]))
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot find the session of time %" PRId64
                           " us since 1970: its end is out of range; filter such rows out",
                           time_us);
    }
    return MR_OK;
}

/* Takes rows: its batch has the rows that starts and ends are for. */
static enum mr_status emit(const struct session_window *window, struct session_rows *rows,
                           struct mr_output *out, struct mr_error *err)
{
    uint32_t column_count = mr_schema_field_count(window->schema);
    struct mr_column *columns = mr_alloc_zero(NULL, column_count * sizeof(*columns));
    struct mr_batch *result = NULL;
    enum mr_status status;

    if (columns == NULL) {
        rows_free(rows);
        return no_memory(err);
    }
    columns[0].values = rows->starts;
    columns[1].values = rows->ends;
    for (uint32_t i = 0; i < column_count; i++) {
        if (i >= 2)
            columns[i] = *mr_batch_column(rows->batch, i - 2);
        columns[i].type = &mr_schema_field(window->schema, i)->type;
        columns[i].length = rows->count;
    }
    status = mr_batch_wrap(window->schema, columns, rows->count, rows, rows_free, &result, err);
    mr_free(columns);
    MR_TRY(status);
    status = mr_output_emit(out, result, err);
    mr_batch_unref(result);
    return status;
}

static enum mr_status session_window_apply(void *op, void *task, const struct mr_batch_info *info,
                                           const struct mr_batch *batch, struct mr_output *out,
                                           struct mr_error *err)
{
    const struct session_window *window = op;
    int64_t row_count = mr_batch_row_count(batch);
    struct session_rows *rows = NULL;
    enum mr_status status;

    (void)task;
    (void)info;
    if (row_count == 0)
        return MR_OK;
    MR_TRY(rows_new(row_count, &rows, err));
    MR_TRY_GOTO(fill(window, batch, rows, err));
    if (rows->count == 0)
        goto done;
    if (rows->count == row_count)
        rows->batch = mr_batch_ref(batch);
    else
        MR_TRY_GOTO(mr_batch_take(batch, rows->rows, rows->count, &rows->batch, err));
    return emit(window, rows, out, err);
done:
    rows_free(rows);
    return status;
}

static void session_window_free(void *op)
{
    struct session_window *window = op;

    if (window == NULL)
        return;
    mr_schema_unref(window->schema);
    mr_free(window);
}

static const struct mr_map_ops session_window_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "session window",
    .apply = session_window_apply,
    .free = session_window_free,
};

static enum mr_status check_spec(const struct mr_schema *input,
                                 const struct mr_session_window_spec *spec, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(input);

    if (spec->column >= count || spec->gap_column >= (int32_t)count)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make sessions of columns %u and %d: the input has %u", spec->column,
                       (int)spec->gap_column, count);
    const struct mr_field *field = mr_schema_field(input, spec->column);
    if (field->type.id != MR_TYPE_TIMESTAMP && field->type.id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make sessions of '%s': it must be a TIMESTAMP; cast it first",
                       field->name);
    if (spec->gap_column >= 0 &&
        mr_schema_field(input, (uint32_t)spec->gap_column)->type.id != MR_TYPE_INT64)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot take '%s' as the gap of sessions: it must be a BIGINT",
                       mr_schema_field(input, (uint32_t)spec->gap_column)->name);
    if (spec->gap_column < 0 && spec->gap_us <= 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make sessions with a gap of %" PRId64 " us: it must be positive",
                       spec->gap_us);
    return MR_OK;
}

enum mr_status mr_op_session_window(const struct mr_schema *input,
                                    const struct mr_session_window_spec *spec,
                                    struct mr_map_op *ret_op, struct mr_error *err)
{
    struct session_window *window = NULL;
    struct mr_field *fields = NULL;
    uint32_t count = mr_schema_field_count(input);
    enum mr_status status;

    MR_TRY(check_spec(input, spec, err));
    window = mr_alloc_zero(NULL, sizeof(*window));
    fields = mr_alloc_zero(NULL, (count + 2) * sizeof(*fields));
    if (window == NULL || fields == NULL) {
        status = no_memory(err);
        goto done;
    }
    fields[0] = (struct mr_field){.name = spec->start_name, .type = {.id = MR_TYPE_TIMESTAMP}};
    fields[1] = (struct mr_field){.name = spec->end_name, .type = {.id = MR_TYPE_TIMESTAMP}};
    for (uint32_t i = 0; i < count; i++)
        fields[i + 2] = *mr_schema_field(input, i);
    MR_TRY_GOTO(mr_schema_new(fields, count + 2, &window->schema, err));
    window->column = spec->column;
    window->gap_column = spec->gap_column;
    window->gap_us = spec->gap_us;
    window->nanos = mr_schema_field(input, spec->column)->type.id == MR_TYPE_TIMESTAMP_NS;
    *ret_op = (struct mr_map_op){&session_window_ops, window, mr_schema_ref(window->schema)};
    window = NULL;
done:
    session_window_free(window);
    mr_free(fields);
    return status;
}
