/*
 * Source `memory`: rows that a test or a program adds in its own process
 * (include/millrace/ext/memory.h).
 *
 * The offset is the number of steps consumed, as decimal text. A step is never cut: batch
 * boundaries are the test's own, or every max_steps_per_trigger steps. Step i belongs to partition
 * i modulo the number of partitions of the range.
 *
 *     start "2", end "5", partitions 2:   partition 0 = steps 2, 4    partition 1 = step 3
 *
 * Thread: plan and split on the driver, readers anywhere; the table locks itself.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/number_text.h"

#include <millrace/ext/memory.h>
#include <millrace/ext/source.h>

#include <inttypes.h>
#include <string.h>

struct mr_source {
    struct mr_memory *table;
    struct mr_schema *schema;
    uint64_t steps_max;
    uint32_t partitions;
    bool frozen; /* the end was fixed at start */
    uint64_t frozen_end;
    void *watcher; /* what the table wakes, NULL = nothing */
};

struct mr_reader {
    struct mr_source *source;
    uint64_t at;
    uint64_t end;
    uint32_t stride;
};

static const struct mr_option memory_options[] = {
    {"table", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Name of the table in memory; the name in CREATE TABLE when unset."},
    {"max_steps_per_trigger", "maxStepsPerTrigger", MR_OPTION_INT, 0, "0", "0", NULL,
     "At most this many steps in a batch; 0 takes all."},
    {"partitions", "numPartitions", MR_OPTION_INT, 0, "1", "1", "1024",
     "Partitions a batch is cut into."},
};

static enum mr_status memory_parse(const char *text, uint64_t *ret_steps, struct mr_error *err)
{
    *ret_steps = 0;
    if (text == NULL)
        return MR_OK;
    if (!mr_uint_parse(text, strlen(text), ret_steps))
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read the offset '%s' of a memory source: not a number", text);
    return MR_OK;
}

static void memory_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    if (source->watcher != NULL)
        mr_memory_unwatch(source->table, source->watcher);
    mr_schema_unref(source->schema);
    mr_free(source);
}

static enum mr_status memory_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                  struct mr_error *err)
{
    const char *name = mr_options_text(args->options, "table");
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));

    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open memory source '%s': out of memory", args->name);
    source->table =
        args->user != NULL ? args->user : mr_memory_table(name != NULL ? name : args->name);
    source->schema = mr_schema_ref(args->schema);
    source->steps_max = (uint64_t)mr_options_int(args->options, "max_steps_per_trigger");
    source->partitions = (uint32_t)mr_options_int(args->options, "partitions");
    if (source->table == NULL) {
        memory_stop(source);
        return MR_FAIL(err, MR_NOMEM, "cannot open memory source '%s': out of memory", args->name);
    }
    if (args->until_caught_up) {
        source->frozen = true;
        source->frozen_end = mr_memory_step_count(source->table);
    }
    *ret_source = source;
    return MR_OK;
}

static enum mr_status memory_plan(struct mr_source *source, const char *start,
                                  const struct mr_plan_limits *limits, char **ret_end,
                                  struct mr_error *err)
{
    uint64_t from;
    uint64_t end = source->frozen ? source->frozen_end : mr_memory_step_count(source->table);

    MR_TRY(memory_parse(start, &from, err));
    *ret_end = NULL;
    if (end < from && !source->frozen)
        return MR_FAIL(err, MR_DATA_LOSS,
                       "cannot read memory table steps from %" PRIu64 ": it has only %" PRIu64
                       " (tables in memory do not outlive the process)",
                       from, end);
    if (end <= from)
        return MR_OK;
    if (source->steps_max != 0 && !limits->ignore)
        end = MR_MIN(end, from + source->steps_max);
    *ret_end = mr_asprintf("%" PRIu64, end);
    return *ret_end != NULL ? MR_OK
                            : MR_FAIL(err, MR_NOMEM, "cannot plan a memory source: out of memory");
}

static enum mr_status memory_range(const char *start, const char *end, uint64_t *ret_from,
                                   uint64_t *ret_end, struct mr_error *err)
{
    MR_TRY(memory_parse(start, ret_from, err));
    MR_TRY(memory_parse(end, ret_end, err));
    if (*ret_end < *ret_from)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot read a memory source: the range ends before it starts");
    return MR_OK;
}

static uint32_t memory_partitions(const struct mr_source *source, uint64_t steps)
{
    return (uint32_t)MR_MIN(steps, (uint64_t)source->partitions);
}

static enum mr_status memory_split(struct mr_source *source, const char *start, const char *end,
                                   uint32_t *ret_partitions, uint64_t *ret_bytes,
                                   struct mr_error *err)
{
    uint64_t from;
    uint64_t to;
    uint64_t bytes = 0;
    struct mr_batch *batch;
    int64_t batch_id;

    MR_TRY(memory_range(start, end, &from, &to, err));
    for (uint64_t i = from; i < to && mr_memory_step(source->table, (size_t)i, &batch, &batch_id);
         i++) {
        bytes += batch != NULL ? mr_batch_bytes(batch) : 0;
        mr_batch_unref(batch);
    }
    *ret_partitions = memory_partitions(source, to - from);
    *ret_bytes = bytes;
    return MR_OK;
}

static enum mr_status memory_read(struct mr_source *source, const char *start, const char *end,
                                  uint32_t partition, struct mr_reader **ret_reader,
                                  struct mr_error *err)
{
    uint64_t from;
    uint64_t to;
    struct mr_reader *reader;

    MR_TRY(memory_range(start, end, &from, &to, err));
    if (to > mr_memory_step_count(source->table))
        return MR_FAIL(err, MR_DATA_LOSS,
                       "cannot read memory table steps %" PRIu64 " to %" PRIu64
                       ": they are gone (tables in memory do not outlive the process)",
                       from, to);
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a memory source: out of memory");
    reader->source = source;
    reader->at = from + partition;
    reader->end = to;
    reader->stride = memory_partitions(source, to - from);
    *ret_reader = reader;
    return MR_OK;
}

/* The columns of batch that schema has, found by name; types must be equal. */
static enum mr_status memory_fit(const struct mr_batch *batch, const struct mr_schema *schema,
                                 struct mr_batch **ret_batch, struct mr_error *err)
{
    const struct mr_schema *have = mr_batch_schema(batch);
    uint32_t count = mr_schema_field_count(schema);
    uint32_t *indexes = mr_alloc(NULL, (count + 1) * sizeof(*indexes));
    enum mr_status status = MR_OK;

    if (indexes == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a memory source: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        const struct mr_field *want = mr_schema_field(schema, i);
        int32_t found = mr_schema_find(have, want->name, strlen(want->name));

        if (found < 0 ||
            !mr_type_equal(&want->type, &mr_schema_field(have, (uint32_t)found)->type)) {
            status = MR_FAIL(
                err, MR_CONFIG,
                "cannot read a memory source: the rows added to it have no column '%s' of the "
                "declared type",
                want->name);
            goto done;
        }
        indexes[i] = (uint32_t)found;
    }
    status = mr_batch_select(batch, schema, indexes, ret_batch, err);
done:
    mr_free(indexes);
    return status;
}

static enum mr_status memory_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    int64_t batch_id;
    enum mr_status status;

    for (; batch == NULL && reader->at < reader->end; reader->at += reader->stride) {
        if (!mr_memory_step(reader->source->table, (size_t)reader->at, &batch, &batch_id))
            return MR_FAIL(err, MR_DATA_LOSS,
                           "cannot read memory table step %" PRIu64 ": it is gone", reader->at);
    }
    *ret_batch = NULL;
    if (batch == NULL)
        return MR_OK;
    status = memory_fit(batch, reader->source->schema, ret_batch, err);
    mr_batch_unref(batch);
    return status;
}

/* Only absent steps, and at least one. */
static bool memory_absent(struct mr_source *source, const char *start, const char *end)
{
    struct mr_batch *batch = NULL;
    uint64_t from, to;
    int64_t batch_id;

    if (memory_range(start, end, &from, &to, NULL) != MR_OK || from == to)
        return false;
    for (; from < to && batch == NULL; from++) {
        if (!mr_memory_step(source->table, (size_t)from, &batch, &batch_id))
            return false;
    }
    mr_batch_unref(batch);
    return batch == NULL;
}

static void memory_close(struct mr_reader *reader)
{
    mr_free(reader);
}

static void memory_stats(struct mr_source *source, const char *end,
                         struct mr_source_stats *ret_stats)
{
    MR_UNUSED(end);
    ret_stats->latest_offset = mr_asprintf("%zu", mr_memory_step_count(source->table));
    ret_stats->rows_behind = -1;
}

static void memory_set_wakeup(struct mr_source *source, void (*wake)(void *arg), void *arg)
{
    /* The wake-up is only a hint; without room for it the driver's poll finds the rows. */
    if (mr_memory_watch(source->table, wake, arg, NULL) == MR_OK)
        source->watcher = arg;
}

static bool memory_exhausted(struct mr_source *source, const char *end)
{
    uint64_t steps;

    if (memory_parse(end, &steps, NULL) != MR_OK)
        return false;
    if (source->frozen)
        return steps >= source->frozen_end;
    return mr_memory_ended(source->table) && steps >= mr_memory_step_count(source->table);
}

static const struct mr_schema *memory_fixed_schema(const struct mr_options *options)
{
    const char *name = mr_options_text(options, "table");
    struct mr_memory *table = name != NULL ? mr_memory_table(name) : NULL;
    struct mr_schema *schema = table != NULL ? mr_memory_schema(table) : NULL;

    /* The table keeps a reference for as long as it lives, so this one may be lent. */
    mr_schema_unref(schema);
    return schema;
}

static const struct mr_source_ops memory_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = memory_plan,
    .split = memory_split,
    .read = memory_read,
    .next = memory_next,
    .close = memory_close,
    .stats = memory_stats,
    .set_wakeup = memory_set_wakeup,
    .exhausted = memory_exhausted,
    .stop = memory_stop,
    .absent = memory_absent,
};

extern const struct mr_source_connector mr_source_memory_connector;
const struct mr_source_connector mr_source_memory_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "memory",
    .summary = "Rows that a test or a program adds in its own process.",
    .guarantee = "replayable while the process lives",
    .options = memory_options,
    .option_count = MR_ARRAY_SIZE(memory_options),
    .fixed_schema = memory_fixed_schema,
    .open = memory_open,
    .ops = &memory_ops,
};
