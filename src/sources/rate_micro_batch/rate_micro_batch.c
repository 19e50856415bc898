/*
 * Source `rate-micro-batch`: the same number of rows in every batch, whatever the clock says
 * (structured.md 19.4): for tests that need to know what a batch has.
 *
 * Columns `timestamp` and `value`. The offset is what the next batch begins with:
 *
 *     {"offset":20,"timestamp":1100}
 *
 *     rows of (a, b]   values a.offset .. b.offset - 1, all at a.timestamp milliseconds
 *     partition p of n every n-th of them from a.offset + p
 *
 * The rows of a range follow from the range alone, but for the first batch, whose start is in the
 * options: options that no longer fit a planned first batch are an error.
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

enum { BATCH_ROWS = 32768 };

struct position {
    int64_t offset;
    int64_t timestamp_ms;
};

struct mr_source {
    struct mr_schema *schema;
    int64_t rows_per_batch;
    int64_t advance_ms;
    uint32_t partitions;
    struct position first;
    bool frozen; /* until caught up: one batch */
    bool ended;  /* it was planned: nothing behind `end` */
    struct position end;
};

struct mr_reader {
    struct mr_source *source;
    int64_t timestamp_us;
    int64_t at; /* next value of this partition */
    int64_t end;
    int64_t stride;
    struct mr_batch_builder *builder;
};

static const struct mr_option options_table[] = {
    {"rows_per_batch", "rowsPerBatch", MR_OPTION_INT, MR_OPTION_REQUIRED, NULL, "1", "1000000000",
     "Rows of every batch."},
    {"num_partitions", "numPartitions", MR_OPTION_INT, 0, "1", "1", "1024",
     "Partitions of a batch."},
    {"start_timestamp", "startTimestamp", MR_OPTION_INT, 0, "0", "0", "9000000000000000",
     "Time of the first batch's rows, in milliseconds since the epoch."},
    {"advance_ms_per_batch", "advanceMillisPerBatch", MR_OPTION_INT, 0, "1000", "0",
     "9000000000000000", "How many milliseconds later the rows of the next batch are."},
};

static const struct mr_schema *fixed_schema(const struct mr_options *options)
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

static void stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_free(source);
}

static enum mr_status check_columns(const struct mr_source_args *args, struct mr_error *err)
{
    const struct mr_schema *have = fixed_schema(args->options);

    if (have == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open rate source '%s': out of memory", args->name);
    for (uint32_t i = 0; i < mr_schema_field_count(args->schema); i++) {
        const struct mr_field *field = mr_schema_field(args->schema, i);
        int32_t found = mr_schema_find(have, field->name, strlen(field->name));

        if (found < 0 ||
            !mr_type_equal(&field->type, &mr_schema_field(have, (uint32_t)found)->type))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot open rate source '%s': column '%s' is not one of 'timestamp' "
                           "TIMESTAMP and 'value' BIGINT; leave the columns out",
                           args->name, field->name);
    }
    return MR_OK;
}

static enum mr_status open_source(const struct mr_source_args *args, struct mr_source **ret_source,
                                  struct mr_error *err)
{
    struct mr_source *source;

    MR_TRY(check_columns(args, err));
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open rate source '%s': out of memory", args->name);
    source->schema = mr_schema_ref(args->schema);
    source->rows_per_batch = mr_options_int(args->options, "rows_per_batch");
    source->partitions = (uint32_t)mr_options_int(args->options, "num_partitions");
    source->first.timestamp_ms = mr_options_int(args->options, "start_timestamp");
    source->advance_ms = mr_options_int(args->options, "advance_ms_per_batch");
    source->frozen = args->until_caught_up;
    *ret_source = source;
    return MR_OK;
}

/* NULL: where the first batch begins. */
static enum mr_status parse_offset(const struct mr_source *source, const char *text,
                                   struct position *ret_position, struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    struct position position = {0, 0};
    enum mr_status status;

    if (text == NULL) {
        *ret_position = source->first;
        return MR_OK;
    }
    status = mr_json_parse(text, strlen(text), &arena, &json, err);
    if (status == MR_OK && (!mr_json_int(mr_json_get(json, "offset"), &position.offset) ||
                            !mr_json_int(mr_json_get(json, "timestamp"), &position.timestamp_ms) ||
                            position.offset < 0 || position.timestamp_ms < 0))
        status = MR_FAIL(err, MR_CORRUPT, "cannot read the offset '%s' of a rate source", text);
    mr_arena_release(&arena);
    if (status == MR_OK)
        *ret_position = position;
    return status;
}

static enum mr_status next_position(const struct mr_source *source, const struct position *from,
                                    struct position *ret_to, struct mr_error *err)
{
    int64_t us;

    if (__builtin_add_overflow(from->offset, source->rows_per_batch, &ret_to->offset) ||
        __builtin_add_overflow(from->timestamp_ms, source->advance_ms, &ret_to->timestamp_ms) ||
        __builtin_mul_overflow(ret_to->timestamp_ms, INT64_C(1000), &us))
        return MR_FAIL(err, MR_LIMIT,
                       "cannot make another batch of a rate source: its numbers are used up at "
                       "value %" PRId64 "; start a new query",
                       from->offset);
    return MR_OK;
}

static enum mr_status plan(struct mr_source *source, const char *start,
                           const struct mr_plan_limits *limits, char **ret_end,
                           struct mr_error *err)
{
    struct position from;

    MR_UNUSED(limits);
    *ret_end = NULL;
    MR_TRY(parse_offset(source, start, &from, err));
    if (source->frozen && source->ended && from.offset >= source->end.offset)
        return MR_OK;
    MR_TRY(next_position(source, &from, &source->end, err));
    source->ended = true;
    *ret_end = mr_asprintf("{\"offset\":%" PRId64 ",\"timestamp\":%" PRId64 "}", source->end.offset,
                           source->end.timestamp_ms);
    return *ret_end != NULL ? MR_OK
                            : MR_FAIL(err, MR_NOMEM, "cannot plan a rate source: out of memory");
}

static enum mr_status range_of(const struct mr_source *source, const char *start, const char *end,
                               struct position *ret_from, struct position *ret_to,
                               struct mr_error *err)
{
    MR_TRY(parse_offset(source, start, ret_from, err));
    MR_TRY(parse_offset(source, end, ret_to, err));
    if (ret_from->offset > ret_to->offset || ret_from->timestamp_ms > ret_to->timestamp_ms)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot read a rate source: the batch was planned to end at value %" PRId64
                       " and %" PRId64 " ms, but it begins at %" PRId64 " and %" PRId64
                       " ms; set start_timestamp as it was",
                       ret_to->offset, ret_to->timestamp_ms, ret_from->offset,
                       ret_from->timestamp_ms);
    return MR_OK;
}

static uint32_t partition_count(const struct mr_source *source, const struct position *from,
                                const struct position *to)
{
    return (uint32_t)MR_MIN(to->offset - from->offset, (int64_t)source->partitions);
}

static enum mr_status split(struct mr_source *source, const char *start, const char *end,
                            uint32_t *ret_partitions, uint64_t *ret_bytes, struct mr_error *err)
{
    struct position from, to;

    MR_TRY(range_of(source, start, end, &from, &to, err));
    *ret_partitions = partition_count(source, &from, &to);
    *ret_bytes = (uint64_t)(to.offset - from.offset) * 16;
    return MR_OK;
}

static void close_reader(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_builder_free(reader->builder);
    mr_free(reader);
}

static enum mr_status read_partition(struct mr_source *source, const char *start, const char *end,
                                     uint32_t partition, struct mr_reader **ret_reader,
                                     struct mr_error *err)
{
    struct position from, to;
    struct mr_reader *reader;
    enum mr_status status;

    MR_TRY(range_of(source, start, end, &from, &to, err));
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a rate source: out of memory");
    reader->source = source;
    reader->timestamp_us = from.timestamp_ms * 1000;
    reader->at = from.offset + partition;
    reader->end = to.offset;
    reader->stride = partition_count(source, &from, &to);
    status = mr_batch_builder_new(source->schema, &reader->builder, err);
    if (status == MR_OK)
        *ret_reader = reader;
    else
        close_reader(reader);
    return status;
}

static enum mr_status next(struct mr_reader *reader, struct mr_batch **ret_batch,
                           struct mr_error *err)
{
    const struct mr_schema *schema = reader->source->schema;
    uint32_t columns = mr_schema_field_count(schema);

    *ret_batch = NULL;
    if (reader->at >= reader->end)
        return MR_OK;
    for (int64_t i = 0; i < BATCH_ROWS && reader->at < reader->end; i++) {
        for (uint32_t column = 0; column < columns; column++) {
            bool is_time = mr_schema_field(schema, column)->type.id == MR_TYPE_TIMESTAMP;

            mr_batch_builder_int(reader->builder, column,
                                 is_time ? reader->timestamp_us : reader->at);
        }
        mr_batch_builder_end_row(reader->builder);
        reader->at += reader->stride;
    }
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

static bool exhausted(struct mr_source *source, const char *end)
{
    struct position at;

    return source->frozen && source->ended && parse_offset(source, end, &at, NULL) == MR_OK &&
           at.offset >= source->end.offset;
}

static const struct mr_source_ops ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = plan,
    .split = split,
    .read = read_partition,
    .next = next,
    .close = close_reader,
    .exhausted = exhausted,
    .stop = stop,
};

extern const struct mr_source_connector mr_source_rate_micro_batch_connector;
const struct mr_source_connector mr_source_rate_micro_batch_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "rate-micro-batch",
    .summary = "Makes so many rows in every batch, with times that follow the batches.",
    .guarantee = "replayable",
    .options = options_table,
    .option_count = MR_ARRAY_SIZE(options_table),
    .fixed_schema = fixed_schema,
    .open = open_source,
    .ops = &ops,
};
