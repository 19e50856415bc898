/*
 * What the columns of a datagen source get.
 *
 *     fields.<column>.kind      sequence  start, start + step, ...; text: "<column>-<number>"
 *                               random    min .. max; text: length letters; with choices one of
 *                                         them
 *                               time      TIMESTAMP: the time the row was due (with
 *                                         rows_per_second), or a sequence from start
 *     fields.<column>.min max start step length choices nulls
 *
 * Default: timestamps are `time`, everything else `random`: integers 0 .. 99, floats 0 .. 1, text 8
 * letters.
 *
 * A random value is a hash of (seed, column name, row number): no state, any order.
 *
 * Thread: made on the driver, then read-only.
 */
#include "base/limits.h"
#include "sources/datagen/datagen.h"

#include "base/hash.h"
#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <inttypes.h>
#include <string.h>

enum {
    LENGTH_MAX = MR_LIMIT_DATAGEN_LENGTH,
    CHOICES_MAX = MR_LIMIT_DATAGEN_CHOICES,
    US_PER_MS = 1000
};

static const char *const keys[] = {"kind", "min",    "max",     "start",
                                   "step", "length", "choices", "nulls"};

static bool is_integer(enum mr_type_id id)
{
    return id >= MR_TYPE_INT8 && id <= MR_TYPE_UINT64;
}

static bool is_time(enum mr_type_id id)
{
    return id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS;
}

/* The largest values an integer type takes, within int64. */
static void integer_limits(enum mr_type_id id, int64_t *ret_min, int64_t *ret_max)
{
    unsigned bits = 8 * mr_type_width(id);
    bool is_signed = id <= MR_TYPE_INT64;

    *ret_max = bits == 64 ? INT64_MAX : (INT64_C(1) << (is_signed ? bits - 1 : bits)) - 1;
    *ret_min = is_signed ? -*ret_max - 1 : 0;
}

static enum mr_status bad_value(const struct mr_dgen_column *column, const char *key,
                                const char *value, const char *wanted, struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG, "wrong value '%s' of 'fields.%s.%s': %s", value, column->name,
                   key, wanted);
}

/* A bound or a start, as the column's type writes it. */
static bool parse_value(const struct mr_dgen_column *column, const char *value, int64_t *ret_value)
{
    size_t size = strlen(value);
    int32_t days;
    int64_t min;
    int64_t max;

    if (is_time(column->type.id))
        return mr_timestamp_parse(value, size, column->type.id == MR_TYPE_TIMESTAMP_NS, ret_value);
    if (column->type.id == MR_TYPE_DATE) {
        if (!mr_date_parse(value, size, &days))
            return false;
        *ret_value = days;
        return true;
    }
    if (!mr_int_parse(value, size, ret_value))
        return false;
    if (!is_integer(column->type.id))
        return true;
    integer_limits(column->type.id, &min, &max);
    return *ret_value >= min && *ret_value <= max;
}

static enum mr_status set_kind(struct mr_dgen_column *column, const char *value,
                               struct mr_error *err)
{
    enum mr_type_id id = column->type.id;
    bool no_sequence = id == MR_TYPE_BOOL || id == MR_TYPE_BINARY || id == MR_TYPE_FLOAT ||
                       id == MR_TYPE_DOUBLE || id == MR_TYPE_DECIMAL;

    if (strcmp(value, "random") == 0)
        column->kind = MR_DGEN_RANDOM;
    else if (strcmp(value, "sequence") == 0 && !no_sequence)
        column->kind = MR_DGEN_SEQUENCE;
    else if (strcmp(value, "time") == 0 && is_time(id))
        column->kind = MR_DGEN_TIME;
    else
        return bad_value(column, "kind", value,
                         is_time(id)   ? "one of random, sequence, time"
                         : no_sequence ? "only random fits this type"
                                       : "one of random, sequence",
                         err);
    return MR_OK;
}

/* Cuts "a,b,c" into texts; a choice may be empty. */
static enum mr_status set_choices(struct mr_dgen_column *column, const char *value,
                                  struct mr_error *err)
{
    uint32_t count = 1;

    if (column->type.id != MR_TYPE_TEXT)
        return bad_value(column, "choices", value, "only for text columns", err);
    for (const char *at = value; *at != '\0'; at++)
        count += *at == ',';
    if (count > CHOICES_MAX)
        return bad_value(column, "choices", "...", "at most 65536", err);
    mr_free(column->choices);
    mr_free(column->choice_offsets);
    column->choices = mr_strdup(value);
    column->choice_offsets = mr_alloc(NULL, count * sizeof(*column->choice_offsets));
    if (column->choices == NULL || column->choice_offsets == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open a datagen source: out of memory");
    column->choice_count = 0;
    column->choice_offsets[column->choice_count++] = 0;
    for (char *at = column->choices; *at != '\0'; at++) {
        if (*at == ',') {
            *at = '\0';
            column->choice_offsets[column->choice_count++] = (uint32_t)(at + 1 - column->choices);
        }
    }
    return MR_OK;
}

static enum mr_status set_bound(struct mr_dgen_column *column, const char *key, const char *value,
                                struct mr_error *err)
{
    bool is_min = strcmp(key, "min") == 0;
    enum mr_type_id id = column->type.id;

    if (id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE || id == MR_TYPE_DECIMAL) {
        if (!mr_double_parse(value, strlen(value),
                             is_min ? &column->min_double : &column->max_double))
            return bad_value(column, key, value, "not a number", err);
        return MR_OK;
    }
    if (!(is_integer(id) || is_time(id) || id == MR_TYPE_DATE) ||
        !parse_value(column, value, is_min ? &column->min : &column->max))
        return bad_value(column, key, value, "not a value of the column's type", err);
    return MR_OK;
}

static enum mr_status set_step(struct mr_dgen_column *column, const char *value,
                               struct mr_error *err)
{
    int64_t step_us;

    if (is_time(column->type.id)) {
        if (!mr_parse_duration_us(value, &step_us))
            return bad_value(column, "step", value, "not a duration", err);
        column->step = column->type.id == MR_TYPE_TIMESTAMP_NS ? step_us * 1000 : step_us;
        return MR_OK;
    }
    if (!mr_int_parse(value, strlen(value), &column->step))
        return bad_value(column, "step", value, "not a whole number", err);
    return MR_OK;
}

static enum mr_status set_key(struct mr_dgen_column *column, const char *key, const char *value,
                              struct mr_error *err)
{
    if (strcmp(key, "kind") == 0)
        return set_kind(column, value, err);
    if (strcmp(key, "choices") == 0)
        return set_choices(column, value, err);
    if (strcmp(key, "min") == 0 || strcmp(key, "max") == 0)
        return set_bound(column, key, value, err);
    if (strcmp(key, "step") == 0)
        return set_step(column, value, err);
    if (strcmp(key, "start") == 0)
        return parse_value(column, value, &column->start)
                   ? MR_OK
                   : bad_value(column, key, value, "not a value of the column's type", err);
    if (strcmp(key, "length") == 0)
        return mr_int_parse(value, strlen(value), &column->length) && column->length >= 0 &&
                       column->length <= LENGTH_MAX
                   ? MR_OK
                   : bad_value(column, key, value, "0 .. 4096", err);
    if (strcmp(key, "nulls") == 0)
        return mr_int_parse(value, strlen(value), &column->null_percent) &&
                       column->null_percent >= 0 && column->null_percent <= 100
                   ? MR_OK
                   : bad_value(column, key, value, "a percentage, 0 .. 100", err);
    return MR_FAIL(err, MR_CONFIG, "unknown option 'fields.%s.%s'; did you mean '%s'?",
                   column->name, key,
                   mr_text_nearest(key, keys, MR_ARRAY_SIZE(keys)) != NULL
                       ? mr_text_nearest(key, keys, MR_ARRAY_SIZE(keys))
                       : "kind");
}

static enum mr_status set_defaults(struct mr_dgen_column *column, const struct mr_field *field,
                                   int64_t rows_per_second, struct mr_error *err)
{
    column->type = field->type;
    column->name = mr_strdup(field->name);
    if (column->name == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open a datagen source: out of memory");
    column->salt = mr_hash(field->name, strlen(field->name), 0);
    column->kind = MR_DGEN_RANDOM;
    column->max = 99;
    column->max_double = 1;
    column->step = 1;
    column->length = 8;
    if (field->type.id == MR_TYPE_LIST || field->type.id == MR_TYPE_STRUCT)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make values for column '%s': lists and structs are not supported",
                       field->name);
    if (is_time(field->type.id)) {
        int64_t unit = field->type.id == MR_TYPE_TIMESTAMP_NS ? 1000 : 1;

        column->kind = MR_DGEN_TIME;
        column->step = US_PER_MS * unit;
        column->start = INT64_MIN; /* not set */
        column->rows_per_second = rows_per_second;
        column->max = INT64_C(86400000000) * unit;
    } else if (field->type.id == MR_TYPE_DATE) {
        column->max = 365;
    }
    return MR_OK;
}

/* Splits "city.kind" at the last dot: column names may hold dots. */
static enum mr_status apply_pair(const struct mr_source_args *args, struct mr_dgen_column *columns,
                                 const char *pair, const char *value, struct mr_error *err)
{
    const char *dot = strrchr(pair, '.');
    int32_t found = -1;

    if (dot == NULL)
        return MR_FAIL(
            err, MR_CONFIG,
            "wrong option 'fields.%s': write fields.COLUMN.KEY, for example fields.%s.kind", pair,
            pair);
    if (mr_schema_find(args->declared, pair, (size_t)(dot - pair)) < 0)
        return MR_FAIL(err, MR_CONFIG, "wrong option 'fields.%s': table '%s' has no such column",
                       pair, args->name);
    found = mr_schema_find(args->schema, pair, (size_t)(dot - pair));
    return found < 0 ? MR_OK : set_key(&columns[found], dot + 1, value, err);
}

static enum mr_status check_column(const struct mr_dgen_column *column, struct mr_error *err)
{
    if (column->min > column->max || column->min_double > column->max_double)
        return MR_FAIL(err, MR_CONFIG, "wrong options of 'fields.%s': min is larger than max",
                       column->name);
    return MR_OK;
}

enum mr_status mr_dgen_columns_new(const struct mr_source_args *args,
                                   struct mr_dgen_column **ret_columns, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(args->schema);
    struct mr_dgen_column *columns = mr_alloc_zero(NULL, (count + (size_t)1) * sizeof(*columns));
    const char *key;
    const char *value;
    enum mr_status status = MR_OK;

    if (columns == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open datagen source '%s': out of memory", args->name);
    for (uint32_t i = 0; i < count; i++)
        MR_TRY_GOTO(set_defaults(&columns[i], mr_schema_field(args->schema, i),
                                 mr_options_int(args->options, "rows_per_second"), err));
    for (size_t i = 0;
         mr_options_prefixed(args->options, "fields.", i, &key, &value) && value != NULL; i++)
        MR_TRY_GOTO(apply_pair(args, columns, key, value, err));
    for (uint32_t i = 0; i < count; i++)
        MR_TRY_GOTO(check_column(&columns[i], err));
    *ret_columns = columns;
    columns = NULL;
done:
    mr_dgen_columns_free(columns, count);
    return status;
}

void mr_dgen_columns_free(struct mr_dgen_column *columns, uint32_t count)
{
    for (uint32_t i = 0; columns != NULL && i < count; i++) {
        mr_free(columns[i].name);
        mr_free(columns[i].choices);
        mr_free(columns[i].choice_offsets);
    }
    mr_free(columns);
}

/* ---- values ---- */

/* splitmix64: good enough for test data, and the same everywhere. */
static uint64_t mix(uint64_t value)
{
    value += UINT64_C(0x9e3779b97f4a7c15);
    value = (value ^ value >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    value = (value ^ value >> 27) * UINT64_C(0x94d049bb133111eb);
    return value ^ value >> 31;
}

static int64_t random_between(uint64_t random, int64_t min, int64_t max)
{
    uint64_t width = (uint64_t)max - (uint64_t)min + 1; /* 0: all of them */

    return width == 0 ? (int64_t)random : (int64_t)((uint64_t)min + random % width);
}

static int64_t time_value(const struct mr_dgen_column *column, int64_t start_us, int64_t row)
{
    int64_t unit = column->type.id == MR_TYPE_TIMESTAMP_NS ? 1000 : 1;
    int64_t start = column->start == INT64_MIN ? start_us * unit : column->start;

    if (column->rows_per_second > 0) {
        __extension__ typedef __int128 wide;

        return start + (int64_t)((wide)row * 1000000 * unit / column->rows_per_second);
    }
    return (int64_t)((uint64_t)start + (uint64_t)row * (uint64_t)column->step);
}

static int64_t sequence_value(const struct mr_dgen_column *column, int64_t row)
{
    int64_t start = column->start == INT64_MIN ? 0 : column->start;
    uint64_t value = (uint64_t)start + (uint64_t)row * (uint64_t)column->step;
    int64_t min;
    int64_t max;
    uint64_t width;

    if (!is_integer(column->type.id))
        return (int64_t)value;
    integer_limits(column->type.id, &min, &max);
    width = (uint64_t)max - (uint64_t)min + 1;
    /* A narrow sequence starts again at its smallest value; 0 is all of 64 bits. */
    return width == 0 ? (int64_t)value : min + (int64_t)((value - (uint64_t)min) % width);
}

static void append_letters(const struct mr_dgen_column *column, uint64_t random,
                           struct mr_batch_builder *builder, uint32_t index)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
    char text[LENGTH_MAX];

    for (int64_t i = 0; i < column->length; i++) {
        if (i % 12 == 0)
            random = mix(random);
        text[i] = letters[random >> (5 * (i % 12)) & 31];
    }
    mr_batch_builder_text(builder, index, text, (size_t)column->length);
}

static void append_text(const struct mr_dgen_column *column, uint64_t random, int64_t row,
                        struct mr_batch_builder *builder, uint32_t index)
{
    char text[MR_NAME_BYTES_MAX + MR_NUMBER_TEXT_BYTES + 2];
    size_t size;

    if (column->kind == MR_DGEN_SEQUENCE) {
        size = MR_MIN(strlen(column->name), (size_t)MR_NAME_BYTES_MAX);
        memcpy(text, column->name, size);
        text[size++] = '-';
        size += mr_int_print(sequence_value(column, row), text + size);
        mr_batch_builder_text(builder, index, text, size);
    } else if (column->choice_count > 0) {
        const char *choice =
            column->choices + column->choice_offsets[random % column->choice_count];

        mr_batch_builder_text(builder, index, choice, strlen(choice));
    } else {
        append_letters(column, random, builder, index);
    }
}

static double random_double(const struct mr_dgen_column *column, uint64_t random)
{
    return column->min_double +
           (column->max_double - column->min_double) * ((double)(random >> 11) * 0x1p-53);
}

static void append_decimal(const struct mr_dgen_column *column, uint64_t random,
                           struct mr_batch_builder *builder, uint32_t index)
{
    double scaled = random_double(column, random);

    for (unsigned i = 0; i < column->type.scale; i++)
        scaled *= 10;
    mr_batch_builder_decimal(builder, index, (int64_t)MR_MAX(MR_MIN(scaled, 9e18), -9e18));
}

bool mr_dgen_is_plain(const struct mr_dgen_column *column)
{
    return (column->type.id == MR_TYPE_INT64 || column->type.id == MR_TYPE_TIMESTAMP) &&
           column->null_percent == 0;
}

void mr_dgen_append_plain(const struct mr_dgen_column *column, uint64_t seed, int64_t start_us,
                          int64_t row, int64_t count, struct mr_column_builder *out)
{
    uint64_t key = mix(seed ^ column->salt);

    for (int64_t end = row + count; row < end; row++) {
        int64_t value;

        if (column->kind == MR_DGEN_RANDOM)
            value = random_between(mix(key ^ (uint64_t)row), column->min, column->max);
        else if (column->kind == MR_DGEN_SEQUENCE)
            value = sequence_value(column, row);
        else
            value = time_value(column, start_us, row);
        mr_column_builder_i64(out, value);
    }
}

void mr_dgen_append(const struct mr_dgen_column *column, uint64_t seed, int64_t start_us,
                    int64_t row, struct mr_batch_builder *builder, uint32_t index)
{
    uint64_t random = mix(mix(seed ^ column->salt) ^ (uint64_t)row);

    if (column->null_percent > 0 && mix(random) % 100 < (uint64_t)column->null_percent) {
        mr_batch_builder_null(builder, index);
        return;
    }
    switch (column->type.id) {
    case MR_TYPE_BOOL:
        mr_batch_builder_bool(builder, index, (random & 1) != 0);
        break;
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        mr_batch_builder_double(builder, index, random_double(column, random));
        break;
    case MR_TYPE_DECIMAL:
        append_decimal(column, random, builder, index);
        break;
    case MR_TYPE_TEXT:
        append_text(column, random, row, builder, index);
        break;
    case MR_TYPE_BINARY:
        append_letters(column, random, builder, index);
        break;
    default:
        if (column->kind == MR_DGEN_TIME)
            mr_batch_builder_int(builder, index, time_value(column, start_us, row));
        else if (column->kind == MR_DGEN_SEQUENCE)
            mr_batch_builder_int(builder, index, sequence_value(column, row));
        else
            mr_batch_builder_int(builder, index, random_between(random, column->min, column->max));
        break;
    }
}
