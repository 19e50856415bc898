/*
 * Source `datagen`: made-up rows for any declared columns, the same for the same seed.
 *
 * A value is a function of (seed of the checkpoint or option seed, column, row number) alone, so
 * ranges can be read in any order, on any thread, again and again. The offset is the number of rows
 * and the time the source began:
 *
 *     {"start_us":1700000000000000,"rows":2500}
 *
 * With rows_per_second, the rows that are due come in each batch; without it, up to rows_per_batch
 * at once. Each partition of a range has PARTITION_ROWS consecutive rows, or more when there would
 * be more than PARTITIONS_MAX partitions.
 *
 * What a column gets is set with fields.<column>.<key> (columns.c).
 *
 * Thread: plan on the driver, readers anywhere.
 */
#include "sources/datagen/datagen.h"

#include "base/json.h"
#include "base/limits.h"

#include <inttypes.h>
#include <string.h>

enum {
    BATCH_ROWS = 16384,
    BATCH_BYTES = 1 << 20,
    CHECK_ROWS = 256, /* between looks at the bytes */
    PARTITION_ROWS = 1 << 18,
    PARTITIONS_MAX = MR_LIMIT_DATAGEN_PARTITIONS,
    US_PER_SECOND = 1000000,
};

struct mr_source {
    struct mr_env *env;
    struct mr_schema *schema;
    struct mr_dgen_column *columns; /* one a column of schema */
    uint64_t seed;
    int64_t rows_max; /* in all, INT64_MAX = no end */
    int64_t rows_per_second;
    int64_t rows_per_batch;
    int64_t start_us;
    int64_t newest_us;
    bool frozen;
};

struct point {
    int64_t start_us;
    int64_t rows;
};

struct mr_reader {
    struct mr_source *source;
    int64_t start_us;
    int64_t at;
    int64_t end;
    struct mr_batch_builder *builder;
};

static const struct mr_option datagen_options[] = {
    {"rows", "number-of-rows", MR_OPTION_INT, 0, NULL, "0", NULL,
     "Rows in all; without it the source never ends."},
    {"rows_per_second", "rows-per-second|rowsPerSecond", MR_OPTION_INT, 0, "0", "0", "1000000000",
     "Rows a second; 0 makes them as fast as they are read."},
    {"rows_per_batch", "rowsPerBatch", MR_OPTION_INT, 0, "10000", "1", "100000000",
     "Rows of a batch when rows_per_second is 0."},
    {"seed", NULL, MR_OPTION_INT, 0, NULL, "0", NULL,
     "Same seed, same values; by default that of the checkpoint."},
    {"fields.", NULL, MR_OPTION_PREFIX, 0, NULL, NULL, NULL,
     "fields.COLUMN.kind = sequence, random or time; .min, .max, .start, .step, .length, .choices "
     "('a,b,c'), .nulls "
     "(percent)."},
};

static void datagen_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_dgen_columns_free(source->columns, mr_schema_field_count(source->schema));
    mr_schema_unref(source->schema);
    mr_free(source);
}

static enum mr_status datagen_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                   struct mr_error *err)
{
    const struct mr_options *options = args->options;
    struct mr_source *source;
    enum mr_status status;

    if (args->declared == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot open datagen source '%s': declare its columns",
                       args->name);
    if (args->until_caught_up && !mr_options_has(options, "rows") &&
        mr_options_int(options, "rows_per_second") == 0)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot open datagen source '%s': it has no end to catch up with; set 'rows'",
            args->name);
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open datagen source '%s': out of memory", args->name);
    source->env = args->env;
    source->schema = mr_schema_ref(args->schema);
    source->seed =
        mr_options_has(options, "seed") ? (uint64_t)mr_options_int(options, "seed") : args->seed;
    source->rows_max =
        mr_options_has(options, "rows") ? mr_options_int(options, "rows") : INT64_MAX;
    source->rows_per_second = mr_options_int(options, "rows_per_second");
    source->rows_per_batch = mr_options_int(options, "rows_per_batch");
    source->start_us = mr_env_wall_us(args->env);
    source->newest_us = source->start_us;
    source->frozen = args->until_caught_up;
    status = mr_dgen_columns_new(args, &source->columns, err);
    if (status != MR_OK) {
        datagen_stop(source);
        return status;
    }
    *ret_source = source;
    return MR_OK;
}

static enum mr_status parse_offset(const struct mr_source *source, const char *text,
                                   struct point *ret_point, struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    const struct mr_json *start;
    const struct mr_json *rows;
    struct point point = {source->start_us, 0};
    enum mr_status status = MR_OK;

    if (text != NULL) {
        MR_TRY_GOTO(mr_json_parse(text, strlen(text), &arena, &json, err));
        start = mr_json_get(json, "start_us");
        rows = mr_json_get(json, "rows");
        if (start == NULL || rows == NULL || !mr_json_int(start, &point.start_us) ||
            !mr_json_int(rows, &point.rows) || point.rows < 0) {
            status =
                MR_FAIL(err, MR_CORRUPT, "cannot read the offset '%s' of a datagen source", text);
            goto done;
        }
    }
    *ret_point = point;
done:
    mr_arena_release(&arena);
    return status;
}

/* About. */
static uint64_t bytes_of_rows(const struct mr_source *source, int64_t rows)
{
    return (uint64_t)rows * 16 * mr_schema_field_count(source->schema);
}

/* Rows that are due now, counted from the beginning. limits: NULL = what is due, whatever it is. */
static int64_t rows_due(const struct mr_source *source, const struct point *from,
                        const struct mr_plan_limits *limits)
{
    __extension__ typedef __int128 wide;
    int64_t rows_max = INT64_MAX;
    wide due;

    if (limits != NULL && !limits->ignore && limits->bytes_max > 0)
        rows_max = (int64_t)(limits->bytes_max / bytes_of_rows(source, 1));
    if (source->rows_per_second == 0) {
        int64_t room = source->rows_max - MR_MIN(from->rows, source->rows_max);

        /* Without limits (Trigger.Once) everything, when there is an end. */
        if (limits != NULL && limits->ignore && source->rows_max != INT64_MAX)
            return source->rows_max;
        return from->rows + MR_MIN(room, MR_MIN(source->rows_per_batch, rows_max));
    }
    due = (wide)(source->newest_us - from->start_us) * source->rows_per_second / US_PER_SECOND;
    due = MR_MIN(due, (wide)from->rows + rows_max);
    return due < 0 ? 0 : (int64_t)MR_MIN(due, (wide)source->rows_max);
}

static enum mr_status datagen_plan(struct mr_source *source, const char *start,
                                   const struct mr_plan_limits *limits, char **ret_end,
                                   struct mr_error *err)
{
    struct point from = {0, 0};
    int64_t end;

    *ret_end = NULL;
    MR_TRY(parse_offset(source, start, &from, err));
    if (!source->frozen)
        source->newest_us = MR_MAX(source->newest_us, mr_env_wall_us(source->env));
    end = rows_due(source, &from, limits);
    if (end <= from.rows)
        return MR_OK;
    *ret_end = mr_asprintf("{\"start_us\":%" PRId64 ",\"rows\":%" PRId64 "}", from.start_us, end);
    return *ret_end != NULL ? MR_OK
                            : MR_FAIL(err, MR_NOMEM, "cannot plan a datagen source: out of memory");
}

static enum mr_status parse_range(const struct mr_source *source, const char *start,
                                  const char *end, struct point *ret_from, struct point *ret_to,
                                  struct mr_error *err)
{
    MR_TRY(parse_offset(source, start, ret_from, err));
    MR_TRY(parse_offset(source, end, ret_to, err));
    if (ret_to->rows < ret_from->rows)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read a datagen source: the range ends before it starts");
    return MR_OK;
}

static uint32_t partition_count(int64_t rows)
{
    return (uint32_t)MR_MIN((rows + PARTITION_ROWS - 1) / PARTITION_ROWS, (int64_t)PARTITIONS_MAX);
}

static enum mr_status datagen_split(struct mr_source *source, const char *start, const char *end,
                                    uint32_t *ret_partitions, uint64_t *ret_bytes,
                                    struct mr_error *err)
{
    struct point from = {0, 0};
    struct point to = {0, 0};

    MR_TRY(parse_range(source, start, end, &from, &to, err));
    *ret_partitions = partition_count(to.rows - from.rows);
    *ret_bytes = bytes_of_rows(source, to.rows - from.rows);
    return MR_OK;
}

static void datagen_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_builder_free(reader->builder);
    mr_free(reader);
}

static enum mr_status datagen_read(struct mr_source *source, const char *start, const char *end,
                                   uint32_t partition, struct mr_reader **ret_reader,
                                   struct mr_error *err)
{
    struct mr_reader *reader;
    struct point from = {0, 0};
    struct point to = {0, 0};
    int64_t rows;
    int64_t each;
    enum mr_status status;

    MR_TRY(parse_range(source, start, end, &from, &to, err));
    rows = to.rows - from.rows;
    MR_ASSERT(partition < partition_count(rows));
    each = (rows + partition_count(rows) - 1) / partition_count(rows);
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a datagen source: out of memory");
    reader->source = source;
    reader->start_us = to.start_us;
    reader->at = MR_MIN(from.rows + each * partition, to.rows);
    reader->end = MR_MIN(reader->at + each, to.rows);
    status = mr_batch_builder_new(source->schema, &reader->builder, err);
    if (status != MR_OK) {
        datagen_close(reader);
        return status;
    }
    *ret_reader = reader;
    return MR_OK;
}

/* Rows of plain columns: cut into batches where datagen_next does. */
static enum mr_status append_plain(struct mr_reader *reader, uint32_t columns, struct mr_error *err)
{
    const struct mr_source *source = reader->source;
    int64_t added = 0, room = MR_MIN((int64_t)BATCH_ROWS, reader->end - reader->at);

    room = MR_MIN(room, (int64_t)(BATCH_BYTES / (MR_MAX(columns, UINT32_C(1)) * sizeof(int64_t)) +
                                  CHECK_ROWS));
    while (added < BATCH_ROWS && reader->at < reader->end) {
        int64_t most = added == 0 ? 1 : MR_MIN((int64_t)CHECK_ROWS, BATCH_ROWS - added);
        int64_t count = MR_MIN(most, reader->end - reader->at);

        for (uint32_t i = 0; i < columns; i++) {
            struct mr_column_builder *out = mr_batch_builder_column(reader->builder, i);

            MR_TRY(mr_column_builder_reserve(out, added == 0 ? room : count, 0, err));
            mr_dgen_append_plain(&source->columns[i], source->seed, reader->start_us, reader->at,
                                 count, out);
        }
        MR_TRY(mr_batch_builder_rows_added(reader->builder, count, err));
        added += count;
        reader->at += count;
        if (mr_batch_builder_bytes(reader->builder) >= BATCH_BYTES)
            break;
    }
    return MR_OK;
}

static enum mr_status datagen_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    const struct mr_source *source = reader->source;
    uint32_t columns = mr_schema_field_count(source->schema), plain = 0;

    *ret_batch = NULL;
    if (reader->at >= reader->end)
        return MR_OK;
    while (plain < columns && mr_dgen_is_plain(&source->columns[plain]))
        plain++;
    if (plain == columns) {
        MR_TRY(append_plain(reader, columns, err));
        return mr_batch_builder_finish(reader->builder, ret_batch, err);
    }
    for (int64_t i = 0; i < BATCH_ROWS && reader->at < reader->end; i++, reader->at++) {
        for (uint32_t column = 0; column < columns; column++)
            mr_dgen_append(&source->columns[column], source->seed, reader->start_us, reader->at,
                           reader->builder, column);
        mr_batch_builder_end_row(reader->builder);
        if (i % CHECK_ROWS == 0 && mr_batch_builder_bytes(reader->builder) >= BATCH_BYTES) {
            reader->at++;
            break;
        }
    }
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

static bool datagen_exhausted(struct mr_source *source, const char *end)
{
    struct point point = {0, 0};

    if (parse_offset(source, end, &point, NULL) != MR_OK)
        return false;
    if (point.rows >= source->rows_max)
        return true;
    return source->frozen && source->rows_per_second > 0 &&
           point.rows >= rows_due(source, &point, NULL);
}

static const struct mr_source_ops datagen_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = datagen_plan,
    .split = datagen_split,
    .read = datagen_read,
    .next = datagen_next,
    .close = datagen_close,
    .exhausted = datagen_exhausted,
    .stop = datagen_stop,
};

extern const struct mr_source_connector mr_source_datagen_connector;
const struct mr_source_connector mr_source_datagen_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "datagen",
    .summary = "Makes up rows for the declared columns.",
    .guarantee = "replayable",
    .options = datagen_options,
    .option_count = MR_ARRAY_SIZE(datagen_options),
    .open = datagen_open,
    .ops = &datagen_ops,
};
