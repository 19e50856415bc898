/*
 * filter: keeps the rows for which every comparison is true (null is not true).
 *
 *     batch --chunk of 1,024 rows--> selection (row numbers) --each predicate shrinks it--> take
 *
 * Comparisons are of a column with a literal, which is parsed once, as the column's type. NaN
 * equals NaN and is above all numbers; -0.0 equals 0.0; text compares by bytes. A batch that passes
 * whole is handed on as it is.
 *
 * Called by the front ends (mr_op_filter), then by tasks.  Threads: any, the operator is read-only.
 */
#include "ops/ops.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/number_text.h"
#include "base/time_text.h"
#include "ops/ordinal.h"

#include <inttypes.h>

enum { LITERAL_SHOWN_BYTES = 60 };

struct predicate {
    uint32_t column;
    enum mr_compare compare;
    int64_t ordinal; /* the literal of a fixed-width column */
    mr_int128 decimal;
    char *text; /* of TEXT and BINARY */
    size_t text_bytes;
};

struct filter {
    struct predicate *predicates;
    uint32_t count;
};

/* The outcome a comparison accepts: bit 0 less, bit 1 equal, bit 2 greater. */
static unsigned accepted(enum mr_compare compare)
{
    switch (compare) {
    case MR_EQ:
        return 2;
    case MR_NE:
        return 1 | 4;
    case MR_LT:
        return 1;
    case MR_LE:
        return 1 | 2;
    case MR_GT:
        return 4;
    case MR_GE:
        return 2 | 4;
    default:
        return 0;
    }
}

static inline unsigned outcome(bool less, bool equal)
{
    return less ? 1 : equal ? 2 : 4;
}

/*
 * The kernels below shrink a selection: rows[0 .. count) are offsets from `from`, ascending; what
 * passes is moved to the front.
 */
static uint32_t keep_valid(const struct mr_column *column, int64_t from, bool want_null,
                           uint32_t *rows, uint32_t count)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        rows[kept] = rows[i];
        kept += mr_column_is_null(column, from + rows[i]) == want_null;
    }
    return kept;
}

static uint32_t keep_ordinals(const struct predicate *predicate, const struct mr_column *column,
                              int64_t from, uint32_t chunk, uint32_t *rows, uint32_t count)
{
    int64_t ordinals[MR_CHUNK_ROWS];
    unsigned wanted = accepted(predicate->compare);
    int64_t literal = predicate->ordinal;
    uint32_t kept = 0;

    mr_ordinal_load(column, from, chunk, ordinals);
    for (uint32_t i = 0; i < count; i++) {
        int64_t ordinal = ordinals[rows[i]];
        rows[kept] = rows[i];
        kept += (wanted & outcome(ordinal < literal, ordinal == literal)) != 0;
    }
    return kept;
}

static uint32_t keep_decimals(const struct predicate *predicate, const struct mr_column *column,
                              int64_t from, uint32_t *rows, uint32_t count)
{
    unsigned wanted = accepted(predicate->compare);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        mr_int128 value = mr_column_decimal(column, from + rows[i]);
        rows[kept] = rows[i];
        kept += (wanted & outcome(value < predicate->decimal, value == predicate->decimal)) != 0;
    }
    return kept;
}

static uint32_t keep_equal_text(const struct predicate *predicate, const struct mr_column *column,
                                int64_t from, uint32_t *rows, uint32_t count)
{
    bool wanted = predicate->compare == MR_EQ;
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct mr_slice value = mr_column_text(column, from + rows[i]);
        bool equal = value.size_bytes == predicate->text_bytes &&
                     memcmp(value.data, predicate->text, value.size_bytes) == 0;
        rows[kept] = rows[i];
        kept += equal == wanted;
    }
    return kept;
}

static uint32_t keep_text(const struct predicate *predicate, const struct mr_column *column,
                          int64_t from, uint32_t *rows, uint32_t count)
{
    unsigned wanted = accepted(predicate->compare);
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        struct mr_slice value = mr_column_text(column, from + rows[i]);
        size_t common = MR_MIN(value.size_bytes, predicate->text_bytes);
        int order = common == 0 ? 0 : memcmp(value.data, predicate->text, common);
        if (order == 0)
            order = (value.size_bytes > common) - (predicate->text_bytes > common);
        rows[kept] = rows[i];
        kept += (wanted & outcome(order < 0, order == 0)) != 0;
    }
    return kept;
}

static uint32_t keep(const struct predicate *predicate, const struct mr_column *column,
                     int64_t from, uint32_t chunk, uint32_t *rows, uint32_t count)
{
    bool is_null_test = predicate->compare == MR_IS_NULL || predicate->compare == MR_IS_NOT_NULL;

    if (mr_column_has_nulls(column) || is_null_test)
        count = keep_valid(column, from, predicate->compare == MR_IS_NULL, rows, count);
    if (is_null_test || count == 0)
        return count;
    switch (column->type->id) {
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        if (predicate->compare == MR_EQ || predicate->compare == MR_NE)
            return keep_equal_text(predicate, column, from, rows, count);
        return keep_text(predicate, column, from, rows, count);
    case MR_TYPE_DECIMAL:
        return keep_decimals(predicate, column, from, rows, count);
    default:
        return keep_ordinals(predicate, column, from, chunk, rows, count);
    }
}

static enum mr_status filter_apply(void *op, void *task, const struct mr_batch_info *info,
                                   const struct mr_batch *batch, struct mr_output *out,
                                   struct mr_error *err)
{
    const struct filter *filter = op;
    int64_t row_count = mr_batch_row_count(batch);
    uint32_t *selected = mr_alloc(NULL, (size_t)row_count * sizeof(*selected));
    struct mr_batch *taken = NULL;
    int64_t total = 0;
    enum mr_status status = MR_OK;

    (void)task;
    (void)info;
    if (selected == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot filter a batch: out of memory");
    for (int64_t from = 0; from < row_count; from += MR_CHUNK_ROWS) {
        uint32_t *rows = selected + total;
        uint32_t chunk = (uint32_t)MR_MIN(row_count - from, (int64_t)MR_CHUNK_ROWS);
        uint32_t count = chunk;

        for (uint32_t i = 0; i < chunk; i++)
            rows[i] = i;
        for (uint32_t i = 0; i < filter->count && count > 0; i++) {
            const struct predicate *predicate = &filter->predicates[i];
            count = keep(predicate, mr_batch_column(batch, predicate->column), from, chunk, rows,
                         count);
        }
        for (uint32_t i = 0; i < count; i++)
            rows[i] += (uint32_t)from;
        total += count;
    }
    if (total == row_count) {
        status = mr_output_emit(out, batch, err);
    } else if (total > 0) {
        MR_TRY_GOTO(mr_batch_take(batch, selected, total, &taken, err));
        status = mr_output_emit(out, taken, err);
    }
done:
    mr_batch_unref(taken);
    mr_free(selected);
    return status;
}

static void filter_free(void *op)
{
    struct filter *filter = op;

    if (filter == NULL)
        return;
    for (uint32_t i = 0; filter->predicates != NULL && i < filter->count; i++)
        mr_free(filter->predicates[i].text);
    mr_free(filter->predicates);
    mr_free(filter);
}

static const struct mr_map_ops filter_ops = {
    .struct_size = sizeof(struct mr_map_ops),
    .kind = "filter",
    .apply = filter_apply,
    .free = filter_free,
};

static bool parse_bool(const char *text, size_t size_bytes, int64_t *ret_ordinal)
{
    if (size_bytes == 4 && memcmp(text, "true", 4) == 0)
        *ret_ordinal = 1;
    else if (size_bytes == 5 && memcmp(text, "false", 5) == 0)
        *ret_ordinal = 0;
    else
        return false;
    return true;
}

static bool parse_date(const char *text, size_t size_bytes, int64_t *ret_ordinal)
{
    int32_t days;

    if (!mr_date_parse(text, size_bytes, &days))
        return false;
    *ret_ordinal = days;
    return true;
}

static bool parse_double(const char *text, size_t size_bytes, bool single, int64_t *ret_ordinal)
{
    double value;

    if (!mr_double_parse(text, size_bytes, &value))
        return false;
    *ret_ordinal = mr_ordinal_of_double(single ? (double)(float)value : value);
    return true;
}

static bool parse_uint(const char *text, size_t size_bytes, int64_t *ret_ordinal)
{
    uint64_t value;

    if (!mr_uint_parse(text, size_bytes, &value))
        return false;
    *ret_ordinal = mr_ordinal_of_uint(value);
    return true;
}

/* False when the literal is not a value of that type. Integers may lie outside the column's range:
 * then nothing is equal. */
static bool parse_literal(struct predicate *predicate, const struct mr_type *type, const char *text,
                          size_t size_bytes)
{
    switch (type->id) {
    case MR_TYPE_BOOL:
        return parse_bool(text, size_bytes, &predicate->ordinal);
    case MR_TYPE_UINT64:
        return parse_uint(text, size_bytes, &predicate->ordinal);
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        return parse_double(text, size_bytes, type->id == MR_TYPE_FLOAT, &predicate->ordinal);
    case MR_TYPE_DECIMAL:
        return mr_decimal_parse(text, size_bytes, type->precision, type->scale,
                                &predicate->decimal);
    case MR_TYPE_DATE:
        return parse_date(text, size_bytes, &predicate->ordinal);
    case MR_TYPE_TIMESTAMP:
        return mr_timestamp_parse(text, size_bytes, false, &predicate->ordinal);
    case MR_TYPE_TIMESTAMP_NS:
        return mr_timestamp_parse(text, size_bytes, true, &predicate->ordinal);
    default:
        return mr_int_parse(text, size_bytes, &predicate->ordinal);
    }
}

static enum mr_status set_predicate(const struct mr_schema *input, const struct mr_predicate *from,
                                    struct predicate *predicate, struct mr_error *err)
{
    if (from->column >= mr_schema_field_count(input))
        return MR_FAIL(err, MR_CONFIG, "cannot filter by column %u: the input has %u", from->column,
                       mr_schema_field_count(input));
    const struct mr_field *field = mr_schema_field(input, from->column);
    char type[64];

    predicate->column = from->column;
    predicate->compare = from->compare;
    if (from->compare == MR_IS_NULL || from->compare == MR_IS_NOT_NULL)
        return MR_OK;
    if (from->literal == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot compare '%s' with nothing: give a literal",
                       field->name);
    if (field->type.id == MR_TYPE_TEXT || field->type.id == MR_TYPE_BINARY) {
        predicate->text_bytes = from->literal_bytes;
        predicate->text = mr_strndup(from->literal, from->literal_bytes);
        if (predicate->text == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot make a filter: out of memory");
        return MR_OK;
    }
    mr_type_print(&field->type, type, sizeof(type));
    if (field->type.id == MR_TYPE_LIST || field->type.id == MR_TYPE_STRUCT)
        return MR_FAIL(err, MR_CONFIG, "cannot compare '%s' with a literal: it is a %s",
                       field->name, type);
    if (!parse_literal(predicate, &field->type, from->literal, from->literal_bytes))
        return MR_FAIL(err, MR_CONFIG, "cannot compare '%s' with '%.*s': not a %s", field->name,
                       (int)MR_MIN(from->literal_bytes, (size_t)LITERAL_SHOWN_BYTES), from->literal,
                       type);
    return MR_OK;
}

enum mr_status mr_op_filter(const struct mr_schema *input, const struct mr_predicate *predicates,
                            uint32_t count, struct mr_map_op *ret_op, struct mr_error *err)
{
    struct filter *filter = mr_alloc_zero(NULL, sizeof(*filter));
    enum mr_status status = MR_OK;

    if (filter == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot make a filter: out of memory");
    filter->predicates = mr_alloc_zero(NULL, (count + 1) * sizeof(*filter->predicates));
    if (filter->predicates == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot make a filter: out of memory");
        goto done;
    }
    filter->count = count;
    for (uint32_t i = 0; i < count; i++)
        MR_TRY_GOTO(set_predicate(input, &predicates[i], &filter->predicates[i], err));
    *ret_op = (struct mr_map_op){&filter_ops, filter, mr_schema_ref(input)};
    filter = NULL;
done:
    filter_free(filter);
    return status;
}
