/*
 * Source `rate`: rows at a steady rate, computed from the clock (structured.md 19.3).
 *
 * Columns `timestamp` and `value`. The offset is the time the source began and the whole seconds
 * since then, so that a range alone says which rows it has:
 *
 *     {"start_us":1700000000000000,"seconds":12}
 *
 *     rows of (s0, s1]   values value_at(s0) .. value_at(s1) - 1, spread evenly over the seconds
 *     partition p of n   every n-th value from value_at(s0) + p
 *
 * The rate grows linearly during ramp_up_time.  A clock that goes back is ignored.
 *
 * Thread: plan on the driver, readers anywhere.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"

#include <millrace/ext/source.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { BATCH_ROWS = 32768, US_PER_SECOND = 1000000 };

struct mr_source {
    struct mr_env *env;
    struct mr_schema *schema;
    int64_t rows_per_second;
    int64_t ramp_seconds;
    uint32_t partitions;
    int64_t start_us;  /* of a query that begins now; others have it in their offset */
    int64_t newest_us; /* latest time seen: the clock may go back */
    bool frozen;
};

struct span {
    int64_t start_us;
    int64_t seconds;
};

struct mr_reader {
    struct mr_source *source;
    int64_t start_us;
    int64_t from_second;
    int64_t span_ms;
    int64_t first_value;
    int64_t value_count;
    int64_t at; /* index of the next value of this partition */
    int64_t stride;
    struct mr_batch_builder *builder;
};

static const struct mr_option rate_options[] = {
    {"rows_per_second", "rowsPerSecond", MR_OPTION_INT, 0, "1", "1", "1000000000",
     "Rows a second."},
    {"ramp_up_time", "rampUpTime", MR_OPTION_DURATION, 0, "0s", "0s", "24 hours",
     "Time in which the rate grows to rows_per_second; whole seconds count."},
    {"num_partitions", "numPartitions", MR_OPTION_INT, 0, "1", "1", "1024",
     "Partitions of a batch."},
};

static const struct mr_schema *rate_fixed_schema(const struct mr_options *options)
{
    static const char text[] = "timestamp TIMESTAMP, value BIGINT";
    static _Atomic(struct mr_schema *) kept;
    struct mr_schema *schema = atomic_load(&kept);
    struct mr_schema *expected = NULL;

    MR_UNUSED(options);
    if (schema != NULL || mr_schema_parse(text, strlen(text), &schema, NULL) != MR_OK)
        return schema;
    if (!atomic_compare_exchange_strong(&kept, &expected, schema)) {
        mr_schema_unref(schema);
        schema = expected;
    }
    return schema;
}

static void rate_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_free(source);
}

static enum mr_status check_columns(const struct mr_source_args *args, struct mr_error *err)
{
    const struct mr_schema *have = rate_fixed_schema(args->options);

    if (have == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open rate source '%s': out of memory", args->name);
    for (uint32_t i = 0; i < mr_schema_field_count(args->schema); i++) {
        const struct mr_field *field = mr_schema_field(args->schema, i);
        int32_t found = mr_schema_find(have, field->name, strlen(field->name));

        if (found < 0 ||
            !mr_type_equal(&field->type, &mr_schema_field(have, (uint32_t)found)->type))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot open rate source '%s': column '%s' is not one of 'timestamp' "
                           "TIMESTAMP and 'value' "
                           "BIGINT; leave the columns out or use connector 'datagen'",
                           args->name, field->name);
    }
    return MR_OK;
}

static enum mr_status rate_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                struct mr_error *err)
{
    struct mr_source *source;

    MR_TRY(check_columns(args, err));
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open rate source '%s': out of memory", args->name);
    source->env = args->env;
    source->schema = mr_schema_ref(args->schema);
    source->rows_per_second = mr_options_int(args->options, "rows_per_second");
    source->ramp_seconds = mr_options_int(args->options, "ramp_up_time") / US_PER_SECOND;
    source->partitions = (uint32_t)mr_options_int(args->options, "num_partitions");
    source->start_us = mr_env_wall_us(args->env);
    source->newest_us = source->start_us;
    source->frozen = args->until_caught_up;
    *ret_source = source;
    return MR_OK;
}

static enum mr_status parse_offset(const char *text, struct span *ret_span, struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    const struct mr_json *start;
    const struct mr_json *seconds;
    struct span span = {0, 0};
    enum mr_status status;

    MR_TRY_GOTO(mr_json_parse(text, strlen(text), &arena, &json, err));
    start = mr_json_get(json, "start_us");
    seconds = mr_json_get(json, "seconds");
    if (start == NULL || seconds == NULL || !mr_json_int(start, &span.start_us) ||
        !mr_json_int(seconds, &span.seconds) || span.seconds < 0)
        status = MR_FAIL(err, MR_CORRUPT, "cannot read the offset '%s' of a rate source", text);
    else
        *ret_span = span;
done:
    mr_arena_release(&arena);
    return status;
}

/* Values produced in the first `second` seconds; the last step is where an overflow would be. */
static enum mr_status value_at(const struct mr_source *source, int64_t second, int64_t *ret_value,
                               struct mr_error *err)
{
    int64_t ramp = source->ramp_seconds;
    int64_t slope = source->rows_per_second / (ramp + 1);
    int64_t ramped = MR_MIN(second, ramp);
    int64_t low = slope * (ramped * (ramped + 1) / 2);
    int64_t steady;
    int64_t value;

    if (__builtin_mul_overflow(second - ramped, source->rows_per_second, &steady) ||
        __builtin_add_overflow(low, steady, &value))
        return MR_FAIL(err, MR_LIMIT,
                       "cannot count the rows of a rate source: second %" PRId64 " times %" PRId64
                       " rows a second is too large; start a new query or lower 'rows_per_second'",
                       second, source->rows_per_second);
    *ret_value = value;
    return MR_OK;
}

static enum mr_status rate_plan(struct mr_source *source, const char *start,
                                const struct mr_plan_limits *limits, char **ret_end,
                                struct mr_error *err)
{
    struct span from = {source->start_us, 0};
    int64_t seconds;
    int64_t value;

    MR_UNUSED(limits);
    *ret_end = NULL;
    if (start != NULL)
        MR_TRY(parse_offset(start, &from, err));
    if (!source->frozen)
        source->newest_us = MR_MAX(source->newest_us, mr_env_wall_us(source->env));
    seconds = (source->newest_us - from.start_us) / US_PER_SECOND;
    if (seconds <= from.seconds)
        return MR_OK;
    MR_TRY(value_at(source, seconds, &value, err));
    *ret_end =
        mr_asprintf("{\"start_us\":%" PRId64 ",\"seconds\":%" PRId64 "}", from.start_us, seconds);
    return *ret_end != NULL ? MR_OK
                            : MR_FAIL(err, MR_NOMEM, "cannot plan a rate source: out of memory");
}

struct rows {
    struct span from;
    struct span to;
    int64_t first_value;
    int64_t value_count;
};

static enum mr_status rows_of(const struct mr_source *source, const char *start, const char *end,
                              struct rows *ret_rows, struct mr_error *err)
{
    int64_t last = 0;

    MR_TRY(parse_offset(end, &ret_rows->to, err));
    ret_rows->from = (struct span){ret_rows->to.start_us, 0};
    if (start != NULL)
        MR_TRY(parse_offset(start, &ret_rows->from, err));
    MR_TRY(value_at(source, ret_rows->from.seconds, &ret_rows->first_value, err));
    MR_TRY(value_at(source, ret_rows->to.seconds, &last, err));
    if (last < ret_rows->first_value)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read a rate source: the range ends before it starts");
    ret_rows->value_count = last - ret_rows->first_value;
    return MR_OK;
}

static uint32_t partition_count(const struct mr_source *source, const struct rows *rows)
{
    return (uint32_t)MR_MIN(rows->value_count, (int64_t)source->partitions);
}

static enum mr_status rate_split(struct mr_source *source, const char *start, const char *end,
                                 uint32_t *ret_partitions, uint64_t *ret_bytes,
                                 struct mr_error *err)
{
    struct rows rows = {{0, 0}, {0, 0}, 0, 0};

    MR_TRY(rows_of(source, start, end, &rows, err));
    *ret_partitions = partition_count(source, &rows);
    *ret_bytes = (uint64_t)rows.value_count * 16;
    return MR_OK;
}

static void rate_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_builder_free(reader->builder);
    mr_free(reader);
}

static enum mr_status rate_read(struct mr_source *source, const char *start, const char *end,
                                uint32_t partition, struct mr_reader **ret_reader,
                                struct mr_error *err)
{
    struct rows rows = {{0, 0}, {0, 0}, 0, 0};
    struct mr_reader *reader;
    enum mr_status status;

    MR_TRY(rows_of(source, start, end, &rows, err));
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a rate source: out of memory");
    reader->source = source;
    reader->start_us = rows.to.start_us;
    reader->from_second = rows.from.seconds;
    reader->span_ms = (rows.to.seconds - rows.from.seconds) * 1000;
    reader->first_value = rows.first_value;
    reader->value_count = rows.value_count;
    reader->at = partition;
    reader->stride = partition_count(source, &rows);
    status = mr_batch_builder_new(source->schema, &reader->builder, err);
    if (status != MR_OK) {
        rate_close(reader);
        return status;
    }
    *ret_reader = reader;
    return MR_OK;
}

/* Milliseconds are rounded half up, as the reference does; the product is at most about 2^63 *
 * 10^3. */
static int64_t time_of(const struct mr_reader *reader, int64_t index)
{
    __extension__ typedef __int128 wide;
    wide scaled = (wide)index * reader->span_ms * 2 + reader->value_count;
    int64_t offset_ms = (int64_t)(scaled / ((wide)reader->value_count * 2));

    return reader->start_us + reader->from_second * US_PER_SECOND + offset_ms * 1000;
}

static enum mr_status rate_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                struct mr_error *err)
{
    const struct mr_schema *schema = reader->source->schema;
    uint32_t columns = mr_schema_field_count(schema);

    *ret_batch = NULL;
    if (reader->at >= reader->value_count)
        return MR_OK;
    for (int64_t i = 0; i < BATCH_ROWS && reader->at < reader->value_count; i++) {
        for (uint32_t column = 0; column < columns; column++) {
            bool is_time = mr_schema_field(schema, column)->type.id == MR_TYPE_TIMESTAMP;

            mr_batch_builder_int(reader->builder, column,
                                 is_time ? time_of(reader, reader->at)
                                         : reader->first_value + reader->at);
        }
        mr_batch_builder_end_row(reader->builder);
        reader->at += reader->stride;
    }
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

static bool rate_exhausted(struct mr_source *source, const char *end)
{
    struct span span = {source->start_us, 0};

    if (!source->frozen || (end != NULL && parse_offset(end, &span, NULL) != MR_OK))
        return false;
    return span.seconds >= (source->newest_us - span.start_us) / US_PER_SECOND;
}

/* The newest row up to end has the time at which its second ends. */
static void rate_stats(struct mr_source *source, const char *end, struct mr_source_stats *ret_stats)
{
    struct span span = {source->start_us, 0};

    if (end != NULL && parse_offset(end, &span, NULL) == MR_OK)
        ret_stats->newest_us = span.start_us + span.seconds * US_PER_SECOND;
}

static const struct mr_source_ops rate_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = rate_plan,
    .split = rate_split,
    .read = rate_read,
    .next = rate_next,
    .close = rate_close,
    .stats = rate_stats,
    .exhausted = rate_exhausted,
    .stop = rate_stop,
};

extern const struct mr_source_connector mr_source_rate_connector;
const struct mr_source_connector mr_source_rate_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "rate",
    .summary = "Makes rows with a time and a number, so many a second.",
    .guarantee = "replayable",
    .options = rate_options,
    .option_count = MR_ARRAY_SIZE(rate_options),
    .fixed_schema = rate_fixed_schema,
    .open = rate_open,
    .ops = &rate_ops,
};
