/*
 * window: puts the event-time windows of a row in front of it (structured.md 10.1).
 *
 *     ts | city          start | end | ts | city
 *      7 | Bonn    -->       5 |  10 |  7 | Bonn        size 5, tumbling
 *
 *     windows of t:  last = the greatest (offset + k * slide) <= t;
 *                    [last - i * slide, ... + size) for i = 0, 1, ... while it covers t
 *
 * With a step, a tumbling window of t is [start, start + k * step) for each k that covers t, the
 * shortest first.
 *
 * Tumbling windows copy nothing: the new batch borrows the columns of the old one and adds two.
 * Sliding windows repeat rows, in pieces of at most PIECE_ROWS. Rows without a time are in no
 * window. All arithmetic is in whole microseconds and checked: a time so near the end of time that
 * its window would not fit is MR_BAD_DATA, never another window.
 *
 * Called by the front ends (mr_op_window), then by tasks.  Threads: any, the operator is read-only.
 */
#include "base/limits.h"
#include "ops/ops.h"

#include "base/alloc.h"
#include "base/check.h"
#include "data/batch_internal.h"
#include "ops/ordinal.h"

#include <inttypes.h>

enum { PIECE_ROWS = 64 * 1024, WINDOWS_PER_ROW_MAX = MR_LIMIT_WINDOWS_PER_ROW };

struct window {
    struct mr_schema *schema;
    uint32_t column;
    bool nanos; /* the column is TIMESTAMP_NS */
    int64_t size_us;
    int64_t slide_us;
    int64_t offset_us;
    int64_t step_us;
    uint32_t windows_per_row; /* at most */
};

/* What a batch of ours borrows from. */
struct window_owner {
    struct mr_batch *batch;
    int64_t *starts;
    int64_t *ends;
    uint32_t *rows; /* scratch while building; NULL once wrapped */
};

static void owner_free(void *arg)
{
    struct window_owner *owner = arg;

    if (owner == NULL)
        return;
    mr_batch_unref(owner->batch);
    mr_free(owner->starts);
    mr_free(owner->ends);
    mr_free(owner->rows);
    mr_free(owner);
}

static struct window_owner *owner_new(const struct mr_batch *batch, int64_t row_count,
                                      bool wants_rows)
{
    struct window_owner *owner = mr_alloc_zero(NULL, sizeof(*owner));
    size_t count = (size_t)row_count;

    if (owner == NULL)
        return NULL;
    owner->starts = mr_alloc(NULL, count * sizeof(*owner->starts));
    owner->ends = mr_alloc(NULL, count * sizeof(*owner->ends));
    if (wants_rows)
        owner->rows = mr_alloc(NULL, count * sizeof(*owner->rows));
    if (owner->starts == NULL || owner->ends == NULL || (wants_rows && owner->rows == NULL)) {
        owner_free(owner);
        return NULL;
    }
    owner->batch = batch == NULL ? NULL : mr_batch_ref(batch);
    return owner;
}

static inline int64_t time_of(const struct window *window, const int64_t *times, int64_t row)
{
    return window->nanos ? mr_floor_div(times[row], 1000) : times[row];
}

static enum mr_status out_of_range(int64_t time_us, struct mr_error *err)
{
    return MR_FAIL(err, MR_BAD_DATA,
                   "cannot find the windows of time %" PRId64
                   " us since 1970: they are out of range; filter such rows out",
                   time_us);
}

/* The latest window that holds the time. */
static enum mr_status last_window(const struct window *window, int64_t time_us, int64_t *ret_start,
                                  int64_t *ret_end, struct mr_error *err)
{
    int64_t since;
    int64_t start;
    int64_t end;

    if (!__builtin_sub_overflow(time_us, window->offset_us, &since)) {
        int64_t past = since % window->slide_us;
        past = past < 0 ? past + window->slide_us : past;
        if (!__builtin_sub_overflow(time_us, past, &start) &&
            !__builtin_add_overflow(start, window->size_us, &end)) {
            *ret_start = start;
            *ret_end = end;
            return MR_OK;
        }
    }
    return out_of_range(time_us, err);
}

/* One window per row. Times mostly come in order: the window of the row before is tried first. */
static enum mr_status tumble(const struct window *window, const int64_t *times, int64_t count,
                             struct window_owner *owner, struct mr_error *err)
{
    int64_t start = 1;
    int64_t end = 0;

    for (int64_t row = 0; row < count; row++) {
        int64_t time_us = time_of(window, times, row);
        if (time_us < start || time_us >= end)
            MR_TRY(last_window(window, time_us, &start, &end, err));
        owner->starts[row] = start;
        owner->ends[row] = end;
    }
    return MR_OK;
}

/* Every window of the rows [from, to) that have a time; *ret_count: how many. */
static enum mr_status slide(const struct window *window, const struct mr_column *column,
                            int64_t from, int64_t to, struct window_owner *owner,
                            int64_t *ret_count, struct mr_error *err)
{
    int64_t count = 0;

    for (int64_t row = from; row < to; row++) {
        if (mr_column_is_null(column, row))
            continue;
        int64_t time_us = time_of(window, column->values, row);
        int64_t start = 0;
        int64_t end = 0;
        MR_TRY(last_window(window, time_us, &start, &end, err));
        if (window->step_us > 0) {
            for (int64_t step = start + window->step_us; step <= end; step += window->step_us) {
                if (step <= time_us)
                    continue;
                owner->starts[count] = start;
                owner->ends[count] = step;
                owner->rows[count++] = (uint32_t)row;
                if (step == end)
                    break;
            }
            continue;
        }
        for (uint32_t i = 0; i < window->windows_per_row && end > time_us; i++) {
            owner->starts[count] = start;
            owner->ends[count] = end;
            owner->rows[count++] = (uint32_t)row;
            if (__builtin_sub_overflow(end, window->slide_us, &end))
                break; /* before all times: does not hold this one */
            if (__builtin_sub_overflow(start, window->slide_us, &start)) {
                if (end > time_us)
                    return out_of_range(time_us, err);
                break;
            }
        }
    }
    *ret_count = count;
    return MR_OK;
}

/* Takes owner: its batch has the rows that starts and ends are for. */
static enum mr_status emit(const struct window *window, struct window_owner *owner, int64_t count,
                           struct mr_output *out, struct mr_error *err)
{
    uint32_t column_count = mr_schema_field_count(window->schema);
    struct mr_column *columns = mr_alloc_zero(NULL, column_count * sizeof(*columns));
    struct mr_batch *result = NULL;

    if (columns == NULL) {
        owner_free(owner);
        return MR_FAIL(err, MR_NOMEM, "cannot add windows to a batch: out of memory");
    }
    columns[0].values = owner->starts;
    columns[1].values = owner->ends;
    for (uint32_t i = 0; i < column_count; i++) {
        if (i >= 2)
            columns[i] = *mr_batch_column(owner->batch, i - 2);
        columns[i].type = &mr_schema_field(window->schema, i)->type;
        columns[i].length = count;
    }
    enum mr_status status =
        mr_batch_wrap(window->schema, columns, count, owner, owner_free, &result, err);
    mr_free(columns);
    MR_TRY(status);
    status = mr_output_emit(out, result, err);
    mr_batch_unref(result);
    return status;
}

static enum mr_status apply_tumbling(const struct window *window, const struct mr_batch *batch,
                                     struct mr_output *out, struct mr_error *err)
{
    int64_t count = mr_batch_row_count(batch);
    struct window_owner *owner = owner_new(batch, count, false);

    if (owner == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot add windows to a batch: out of memory");
    enum mr_status status =
        tumble(window, mr_batch_column(batch, window->column)->values, count, owner, err);
    if (status != MR_OK) {
        owner_free(owner);
        return status;
    }
    return emit(window, owner, count, out, err);
}

static enum mr_status apply_repeating(const struct window *window, const struct mr_batch *batch,
                                      int64_t from, int64_t to, struct mr_output *out,
                                      struct mr_error *err)
{
    struct window_owner *owner = owner_new(NULL, (to - from) * window->windows_per_row, true);
    int64_t count = 0;
    enum mr_status status;

    if (owner == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot add windows to a batch: out of memory");
    MR_TRY_GOTO(
        slide(window, mr_batch_column(batch, window->column), from, to, owner, &count, err));
    if (count == 0)
        goto done;
    MR_TRY_GOTO(mr_batch_take(batch, owner->rows, count, &owner->batch, err));
    mr_free(owner->rows);
    owner->rows = NULL;
    return emit(window, owner, count, out, err);
done:
    owner_free(owner);
    return status;
}

static enum mr_status window_apply(void *op, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    const struct window *window = op;
    int64_t count = mr_batch_row_count(batch);
    int64_t step = MR_MAX(1, PIECE_ROWS / (int64_t)window->windows_per_row);

    (void)task;
    (void)info;
    if (count == 0)
        return MR_OK;
    if (window->windows_per_row == 1 && window->size_us == window->slide_us &&
        window->step_us == 0 && !mr_column_has_nulls(mr_batch_column(batch, window->column)))
        return apply_tumbling(window, batch, out, err);
    for (int64_t from = 0; from < count; from += step)
        MR_TRY(apply_repeating(window, batch, from, MR_MIN(from + step, count), out, err));
    return MR_OK;
}

static void window_free(void *op)
{
    struct window *window = op;

    if (window == NULL)
        return;
    mr_schema_unref(window->schema);
    mr_free(window);
}

static const struct mr_map_ops window_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "window",
    .apply = window_apply,
    .free = window_free,
};

static enum mr_status check_spec(const struct mr_schema *input, const struct mr_window_spec *spec,
                                 struct mr_error *err)
{
    if (spec->column >= mr_schema_field_count(input))
        return MR_FAIL(err, MR_CONFIG, "cannot make windows of column %u: the input has %u",
                       spec->column, mr_schema_field_count(input));
    const struct mr_field *field = mr_schema_field(input, spec->column);
    if (field->type.id != MR_TYPE_TIMESTAMP && field->type.id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make windows of '%s': it must be a TIMESTAMP; cast it first",
                       field->name);
    if (spec->size_us <= 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make windows of %" PRId64 " us: the size must be positive",
                       spec->size_us);
    if (spec->slide_us <= 0 || spec->slide_us > spec->size_us)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot slide windows of %" PRId64 " us by %" PRId64
                       " us: the slide must be positive and at most the size",
                       spec->size_us, spec->slide_us);
    if (spec->offset_us <= -spec->slide_us || spec->offset_us >= spec->slide_us)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot start windows at %" PRId64
                       " us: the start must be between minus and plus the slide of %" PRId64 " us",
                       spec->offset_us, spec->slide_us);
    if (spec->step_us < 0 || (spec->step_us > 0 && (spec->size_us % spec->step_us != 0 ||
                                                    spec->slide_us != spec->size_us)))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot cut windows of %" PRId64 " us into steps of %" PRId64
                       " us: the size must be a multiple of the step",
                       spec->size_us, spec->step_us);
    if ((spec->size_us - 1) / (spec->step_us > 0 ? spec->step_us : spec->slide_us) >=
        WINDOWS_PER_ROW_MAX)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot put a row into %" PRId64 " windows: at most %d; use a larger slide",
                       (spec->size_us - 1) / spec->slide_us + 1, WINDOWS_PER_ROW_MAX);
    return MR_OK;
}

static enum mr_status window_schema(const struct mr_schema *input,
                                    const struct mr_window_spec *spec,
                                    struct mr_schema **ret_schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(input);
    struct mr_field *fields = mr_alloc_zero(NULL, (count + 2) * sizeof(*fields));

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make windows: out of memory");
    fields[0] = (struct mr_field){.name = spec->start_name, .type = {.id = MR_TYPE_TIMESTAMP}};
    fields[1] = (struct mr_field){.name = spec->end_name, .type = {.id = MR_TYPE_TIMESTAMP}};
    for (uint32_t i = 0; i < count; i++)
        fields[i + 2] = *mr_schema_field(input, i);
    enum mr_status status = mr_schema_new(fields, count + 2, ret_schema, err);
    mr_free(fields);
    return status;
}

enum mr_status mr_op_window(const struct mr_schema *input, const struct mr_window_spec *spec,
                            struct mr_map_op *ret_op, struct mr_error *err)
{
    struct window *window = NULL;
    enum mr_status status;

    MR_TRY(check_spec(input, spec, err));
    window = mr_alloc_zero(NULL, sizeof(*window));
    if (window == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make windows: out of memory");
    MR_TRY_GOTO(window_schema(input, spec, &window->schema, err));
    window->column = spec->column;
    window->nanos = mr_schema_field(input, spec->column)->type.id == MR_TYPE_TIMESTAMP_NS;
    window->size_us = spec->size_us;
    window->slide_us = spec->slide_us;
    window->offset_us = spec->offset_us;
    window->step_us = spec->step_us;
    window->windows_per_row =
        (uint32_t)(spec->step_us > 0 ? spec->size_us / spec->step_us
                                     : (spec->size_us - 1) / spec->slide_us + 1);
    *ret_op = (struct mr_map_op){&window_ops, window, mr_schema_ref(window->schema)};
    window = NULL;
done:
    window_free(window);
    return status;
}
