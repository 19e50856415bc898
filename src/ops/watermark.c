/*
 * watermark: lets every batch pass and reports the event times in it; the driver makes the
 * watermark of the next batch from them (structured.md 7.2). Times are floored to whole
 * milliseconds, nulls are ignored.
 *
 * Called by the front ends (mr_op_watermark), then by tasks. Threads: any, the operator is
 * read-only.
 */
#include "ops/ops.h"

#include "base/alloc.h"
#include "ops/ordinal.h"

struct watermark {
    uint32_t column;
    int64_t units_per_ms; /* of the column: 1,000 or 1,000,000 */
};

/* Sums are exact: whole milliseconds in 128 bits. */
struct times {
    int64_t min_ms;
    int64_t max_ms;
    mr_int128 sum_ms;
    uint64_t count;
};

/* Infinity is no time that passes: as the greatest one it would close everything for ever. */
static inline bool is_finite(int64_t value)
{
    return value != INT64_MAX && value > -INT64_MAX;
}

static inline void times_add(struct times *times, int64_t ms)
{
    times->min_ms = ms < times->min_ms ? ms : times->min_ms;
    times->max_ms = ms > times->max_ms ? ms : times->max_ms;
    times->sum_ms += ms;
    times->count++;
}

/* Two loops so that the division is by a constant. */
static void times_of_us(const struct mr_column *column, struct times *times)
{
    const int64_t *values = column->values;
    bool nulls = mr_column_has_nulls(column);

    for (int64_t row = 0; row < column->length; row++)
        if (is_finite(values[row]) && (!nulls || !mr_column_is_null(column, row)))
            times_add(times, mr_floor_div(values[row], 1000));
}

static void times_of_ns(const struct mr_column *column, struct times *times)
{
    const int64_t *values = column->values;
    bool nulls = mr_column_has_nulls(column);

    for (int64_t row = 0; row < column->length; row++)
        if (is_finite(values[row]) && (!nulls || !mr_column_is_null(column, row)))
            times_add(times, mr_floor_div(values[row], 1000000));
}

/* Milliseconds as microseconds; near the ends of time what fits. */
static int64_t us_of_ms(int64_t ms)
{
    int64_t us;

    if (__builtin_mul_overflow(ms, INT64_C(1000), &us))
        return ms < 0 ? INT64_MIN + 1 : INT64_MAX;
    return us;
}

static enum mr_status watermark_apply(void *op, void *task, const struct mr_batch_info *info,
                                      const struct mr_batch *batch, struct mr_output *out,
                                      struct mr_error *err)
{
    const struct watermark *watermark = op;
    const struct mr_column *column = mr_batch_column(batch, watermark->column);
    struct times times = {.min_ms = INT64_MAX, .max_ms = INT64_MIN};

    (void)task;
    (void)info;
    if (column->null_count < column->length) {
        if (watermark->units_per_ms == 1000)
            times_of_us(column, &times);
        else
            times_of_ns(column, &times);
    }
    if (times.count > 0)
        mr_output_event_times(out, us_of_ms(times.min_ms), us_of_ms(times.max_ms),
                              (double)times.sum_ms * 1000, times.count);
    return mr_output_emit(out, batch, err);
}

static void watermark_free(void *op)
{
    mr_free(op);
}

static const struct mr_map_ops watermark_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "watermark",
    .apply = watermark_apply,
    .free = watermark_free,
};

enum mr_status mr_op_watermark(const struct mr_schema *input, uint32_t column,
                               struct mr_map_op *ret_op, struct mr_error *err)
{
    if (column >= mr_schema_field_count(input))
        return MR_FAIL(err, MR_CONFIG, "cannot watch column %u: the input has %u", column,
                       mr_schema_field_count(input));

    const struct mr_field *field = mr_schema_field(input, column);
    if (field->type.id != MR_TYPE_TIMESTAMP && field->type.id != MR_TYPE_TIMESTAMP_NS)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot put a watermark on '%s': it must be a TIMESTAMP; cast it first",
                       field->name);

    struct watermark *watermark = mr_alloc_zero(NULL, sizeof(*watermark));
    if (watermark == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a watermark: out of memory");
    watermark->column = column;
    watermark->units_per_ms = field->type.id == MR_TYPE_TIMESTAMP ? 1000 : 1000000;
    *ret_op = (struct mr_map_op){&watermark_ops, watermark, mr_schema_ref(input)};
    return MR_OK;
}
