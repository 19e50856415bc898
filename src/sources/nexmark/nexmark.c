/*
 * Source `nexmark`: the events of an auction site, the usual input of streaming benchmarks.
 *
 * One table each for people, auctions and bids. The offset is a number of events over all three
 * tables, so that a range alone says which rows it has, and tables that are read by the same query
 * with the same options stay in step:
 *
 *     {"start_us":1436918400000000,"events":1000000}
 *
 * start_us is the wall clock's when events come at a rate (it decides how many are due), which has
 * nothing to do with event time.
 *
 * Thread: plan on the driver, readers anywhere.
 */
#include "sources/nexmark/nexmark.h"
#include "sources/nexmark/replay.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/json.h"

#include <millrace/ext/source.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum {
    BATCH_ROWS = 16384,
    PARTITION_EVENTS = 256 * 1024,
    PARTITIONS_MAX = 64,
    COLUMNS_MAX = 10,
    TABLES = 3,
    US_PER_SECOND = 1000000,
    ROW_BYTES_GUESS = 64,
};

/* When Nexmark begins: 2015-07-15 00:00:00 UTC. */
#define START_US INT64_C(1436918400000000)

struct mr_source {
    struct mr_env *env;
    struct mr_schema *schema;
    struct mr_nex_model model;
    enum mr_nex_table table;
    uint32_t fields[COLUMNS_MAX]; /* of the columns to produce */
    struct mr_nex_block *block;   /* mode = 'replay', else NULL */
    int64_t events_max;
    int64_t events_per_second;
    int64_t events_per_batch;
    int64_t start_us; /* by the wall clock; of a query that begins now */
    int64_t newest_us;
    bool frozen;
};

struct point {
    int64_t start_us;
    int64_t events;
};

struct mr_reader {
    const struct mr_source *source;
    int64_t at; /* rows of the table */
    int64_t end;
    struct mr_batch_builder *builder;
};

static const struct mr_option nexmark_options[] = {
    {"table", NULL, MR_OPTION_ENUM, MR_OPTION_REQUIRED, NULL, "person|auction|bid", NULL,
     "Which of the three tables."},
    {"events", "events.num", MR_OPTION_INT, 0, NULL, "0", NULL,
     "Events in all, over the three tables (1 : 3 : 46); without it the source never ends."},
    {"events_per_second", "tps|first-event.rate", MR_OPTION_INT, 0, "0", "0", "1000000000",
     "Events a second; 0 makes them as fast as they are read."},
    {"events_per_batch", NULL, MR_OPTION_INT, 0, "1000000", "50", "100000000",
     "Events of a batch when events_per_second is 0."},
    {"mode", NULL, MR_OPTION_ENUM, 0, "generate", "generate|replay", NULL,
     "Whether each event is made when it is read, or the first replay_events of them are made at "
     "the "
     "start and shown again and again with later ids and times."},
    {"replay_events", NULL, MR_OPTION_INT, 0, "8000000", "50", "100000000",
     "Events that mode = 'replay' makes; whole epochs of 50."},
    {"inter_event_ns", NULL, MR_OPTION_INT, 0, "100", "1", "1000000000",
     "Event time between two events, in nanoseconds."},
    {"seed", NULL, MR_OPTION_INT, 0, "88172645463325252", "0", NULL,
     "Same seed, same events; tables of one query need the same."},
};

static const struct mr_schema *nexmark_fixed_schema(const struct mr_options *options)
{
    static _Atomic(struct mr_schema *) kept[TABLES];
    int64_t table = mr_options_int(options, "table");
    const char *text = mr_nex_columns((enum mr_nex_table)table);
    struct mr_schema *schema = atomic_load(&kept[table]);
    struct mr_schema *expected = NULL;

    if (schema != NULL || mr_schema_parse(text, strlen(text), &schema, NULL) != MR_OK)
        return schema;
    if (!atomic_compare_exchange_strong(&kept[table], &expected, schema)) {
        mr_schema_unref(schema);
        schema = expected;
    }
    return schema;
}

static void nexmark_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_nex_block_free(source->block);
    mr_free(source);
}

/* The columns to produce, by their numbers in the table. */
static enum mr_status find_fields(const struct mr_source_args *args, struct mr_source *source,
                                  struct mr_error *err)
{
    const struct mr_schema *full = nexmark_fixed_schema(args->options);

    if (full == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open nexmark source '%s': out of memory", args->name);
    for (uint32_t i = 0; i < mr_schema_field_count(args->schema); i++) {
        const struct mr_field *field = mr_schema_field(args->schema, i);
        int32_t found = mr_schema_find(full, field->name, strlen(field->name));

        if (found < 0 || i >= COLUMNS_MAX ||
            !mr_type_equal(&field->type, &mr_schema_field(full, (uint32_t)found)->type))
            return MR_FAIL(err, MR_CONFIG,
                           "cannot open nexmark source '%s': column '%s' is not one of (%s); leave "
                           "the columns out to get all of them",
                           args->name, field->name, mr_nex_columns(source->table));
        source->fields[i] = (uint32_t)found;
    }
    return MR_OK;
}

static enum mr_status nexmark_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                   struct mr_error *err)
{
    const struct mr_options *options = args->options;
    bool bounded = mr_options_has(options, "events");
    struct mr_source *source;
    enum mr_status status;

    if (args->until_caught_up && !bounded && mr_options_int(options, "events_per_second") == 0)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot open nexmark source '%s': it has no end to catch up with; set 'events'",
            args->name);
    source = mr_alloc_zero(NULL, sizeof(*source));
    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open nexmark source '%s': out of memory", args->name);
    source->env = args->env;
    source->schema = mr_schema_ref(args->schema);
    source->table = (enum mr_nex_table)mr_options_int(options, "table");
    source->model = (struct mr_nex_model){(uint64_t)mr_options_int(options, "seed"), START_US,
                                          mr_options_int(options, "inter_event_ns")};
    source->events_max = bounded ? mr_options_int(options, "events") : INT64_MAX;
    source->events_per_second = mr_options_int(options, "events_per_second");
    source->events_per_batch = mr_options_int(options, "events_per_batch");
    source->start_us = mr_env_wall_us(args->env);
    source->newest_us = source->start_us;
    source->frozen = args->until_caught_up;
    status = find_fields(args, source, err);
    if (status == MR_OK && mr_options_int(options, "mode") == 1) {
        int64_t events = mr_options_int(options, "replay_events");

        status = mr_nex_block_new(&source->model, source->table, events - events % MR_NEX_EPOCH,
                                  source->schema, source->fields, &source->block, err);
    }
    if (status != MR_OK) {
        nexmark_stop(source);
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
    struct point point = {source->start_us, 0};
    enum mr_status status = MR_OK;

    if (text != NULL) {
        MR_TRY_GOTO(mr_json_parse(text, strlen(text), &arena, &json, err));
        if (!mr_json_int(mr_json_get(json, "start_us"), &point.start_us) ||
            !mr_json_int(mr_json_get(json, "events"), &point.events) || point.events < 0) {
            status =
                MR_FAIL(err, MR_CORRUPT, "cannot read the offset '%s' of a nexmark source", text);
            goto done;
        }
    }
    *ret_point = point;
done:
    mr_arena_release(&arena);
    return status;
}

/* Events that are due now, counted from the beginning. */
static int64_t events_due(const struct mr_source *source, const struct point *from, bool limits)
{
    __extension__ typedef __int128 wide;
    wide due;

    if (source->events_per_second == 0) {
        int64_t room = source->events_max - MR_MIN(from->events, source->events_max);

        if (!limits && source->events_max != INT64_MAX)
            return source->events_max;
        return from->events + MR_MIN(room, source->events_per_batch);
    }
    due = (wide)(source->newest_us - from->start_us) * source->events_per_second / US_PER_SECOND;
    return due < 0 ? 0 : (int64_t)MR_MIN(due, (wide)source->events_max);
}

static enum mr_status nexmark_plan(struct mr_source *source, const char *start,
                                   const struct mr_plan_limits *limits, char **ret_end,
                                   struct mr_error *err)
{
    struct point from = {0, 0};
    int64_t end;

    *ret_end = NULL;
    MR_TRY(parse_offset(source, start, &from, err));
    if (!source->frozen)
        source->newest_us = MR_MAX(source->newest_us, mr_env_wall_us(source->env));
    end = events_due(source, &from, !limits->ignore);
    if (end <= from.events)
        return MR_OK;
    *ret_end = mr_asprintf("{\"start_us\":%" PRId64 ",\"events\":%" PRId64 "}", from.start_us, end);
    return *ret_end != NULL ? MR_OK
                            : MR_FAIL(err, MR_NOMEM, "cannot plan a nexmark source: out of memory");
}

/* Rows of the table in the range, and into how many partitions they go. */
struct rows {
    int64_t from;
    int64_t to;
    uint32_t partitions;
};

static enum mr_status rows_of(const struct mr_source *source, const char *start, const char *end,
                              struct rows *ret_rows, struct mr_error *err)
{
    struct point from = {0, 0};
    struct point to = {0, 0};
    int64_t events;

    MR_TRY(parse_offset(source, start, &from, err));
    MR_TRY(parse_offset(source, end, &to, err));
    if (to.events < from.events)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read a nexmark source: the range ends before it starts");
    events = to.events - from.events;
    ret_rows->from = mr_nex_rows_before(source->table, from.events);
    ret_rows->to = mr_nex_rows_before(source->table, to.events);
    ret_rows->partitions = (uint32_t)MR_MIN((events + PARTITION_EVENTS - 1) / PARTITION_EVENTS,
                                            (int64_t)PARTITIONS_MAX);
    return MR_OK;
}

static enum mr_status nexmark_split(struct mr_source *source, const char *start, const char *end,
                                    uint32_t *ret_partitions, uint64_t *ret_bytes,
                                    struct mr_error *err)
{
    struct rows rows = {0, 0, 0};

    MR_TRY(rows_of(source, start, end, &rows, err));
    *ret_partitions = rows.partitions;
    *ret_bytes = (uint64_t)(rows.to - rows.from) * ROW_BYTES_GUESS;
    return MR_OK;
}

static void nexmark_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_builder_free(reader->builder);
    mr_free(reader);
}

static enum mr_status nexmark_read(struct mr_source *source, const char *start, const char *end,
                                   uint32_t partition, struct mr_reader **ret_reader,
                                   struct mr_error *err)
{
    struct rows rows = {0, 0, 0};
    struct mr_reader *reader;
    int64_t each;
    enum mr_status status;

    MR_TRY(rows_of(source, start, end, &rows, err));
    MR_ASSERT(partition < rows.partitions);
    each = (rows.to - rows.from + rows.partitions - 1) / rows.partitions;
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a nexmark source: out of memory");
    reader->source = source;
    reader->at = MR_MIN(rows.from + each * partition, rows.to);
    reader->end = MR_MIN(reader->at + each, rows.to);
    status = mr_batch_builder_new(source->schema, &reader->builder, err);
    if (status != MR_OK) {
        nexmark_close(reader);
        return status;
    }
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status nexmark_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                   struct mr_error *err)
{
    const struct mr_source *source = reader->source;
    int64_t count = MR_MIN(reader->end - reader->at, (int64_t)BATCH_ROWS);

    *ret_batch = NULL;
    if (count <= 0)
        return MR_OK;
    if (source->block != NULL)
        MR_TRY(mr_nex_block_append(source->block, reader->at, count, reader->builder, &count, err));
    else
        MR_TRY(mr_nex_append(&source->model, source->table, reader->at, count, source->fields,
                             mr_schema_field_count(source->schema), reader->builder, err));
    reader->at += count;
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

static bool nexmark_exhausted(struct mr_source *source, const char *end)
{
    struct point point = {0, 0};

    if (parse_offset(source, end, &point, NULL) != MR_OK)
        return false;
    if (point.events >= source->events_max)
        return true;
    return source->frozen && source->events_per_second > 0 &&
           point.events >= events_due(source, &point, true);
}

static bool nexmark_row_count(struct mr_source *source, const char *start, const char *end,
                              uint64_t *ret_rows)
{
    struct rows rows = {0, 0, 0};

    if (rows_of(source, start, end, &rows, NULL) != MR_OK)
        return false;
    *ret_rows = (uint64_t)(rows.to - rows.from);
    return true;
}

static const struct mr_source_ops nexmark_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = nexmark_plan,
    .split = nexmark_split,
    .read = nexmark_read,
    .next = nexmark_next,
    .close = nexmark_close,
    .exhausted = nexmark_exhausted,
    .stop = nexmark_stop,
    .row_count = nexmark_row_count,
};

extern const struct mr_source_connector mr_source_nexmark_connector;
const struct mr_source_connector mr_source_nexmark_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "nexmark",
    .summary = "Makes the people, auctions and bids of the Nexmark benchmark.",
    .guarantee = "replayable",
    .options = nexmark_options,
    .option_count = MR_ARRAY_SIZE(nexmark_options),
    .fixed_schema = nexmark_fixed_schema,
    .open = nexmark_open,
    .ops = &nexmark_ops,
};
