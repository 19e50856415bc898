/*
 * The tables of a test: connectors in memory that the planner puts in the place of those that WITH
 * names (sql/plan.h: bindings). pipeline.c binds them, steps.c fills and reads them.
 *
 *     INSERT, ADVANCE --> inputs[0..n)     offset of the source: inputs read so far, in decimal
 *     batch N         --> outputs          one entry a batch, also for one without rows
 *
 * The tables live as long as the test: they are the world outside, which a crash of the pipeline
 * does not touch. A batch that is published again changes nothing, and must bring the same rows.
 *
 * Threads: the driver, which is the test's own (one worker).
 */
#include "testing/internal.h"

#include "base/check.h"
#include "base/number_text.h"

#include <millrace/ext/bad_records.h>

#include <string.h>

static enum mr_status no_memory(const char *name, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep the rows of table '%s': out of memory", name);
}

/* ---- Rows ---- */

enum mr_status mr_testing__rows_add(struct mr_test_rows *rows, const struct mr_batch *batch,
                                    struct mr_error *err)
{
    struct mr_batch **grown =
        mr_realloc(NULL, rows->batches, (rows->count + 1) * sizeof(struct mr_batch *));

    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot keep the rows of a test: out of memory");
    rows->batches = grown;
    rows->batches[rows->count++] = mr_batch_ref(batch);
    return MR_OK;
}

void mr_testing__rows_release(struct mr_test_rows *rows)
{
    for (size_t i = 0; i < rows->count; i++)
        mr_batch_unref(rows->batches[i]);
    mr_free(rows->batches);
    *rows = (struct mr_test_rows){0};
}

/* ---- The source ---- */

struct mr_source {
    struct mr_test_table *table;
    struct mr_schema *schema;
    enum mr_on_error on_error;
};

struct mr_reader {
    struct mr_source *source;
    uint64_t at;
    uint64_t end;
    struct mr_bad_records *bad;
};

static enum mr_status range_of(const char *start, const char *end, uint64_t *ret_from,
                               uint64_t *ret_to, struct mr_error *err)
{
    *ret_from = *ret_to = 0;
    if ((start != NULL && !mr_uint_parse(start, strlen(start), ret_from)) ||
        (end != NULL && !mr_uint_parse(end, strlen(end), ret_to)) || *ret_to < *ret_from)
        return MR_FAIL(err, MR_CORRUPT, "cannot read a table of the test: its offset is damaged");
    return MR_OK;
}

static void source_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_free(source);
}

static enum mr_status source_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                  struct mr_error *err)
{
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));

    if (source == NULL)
        return no_memory(args->name, err);
    source->table = args->user;
    source->schema = mr_schema_ref(args->schema);
    source->on_error = args->on_error;
    *ret_source = source;
    return MR_OK;
}

static enum mr_status source_plan(struct mr_source *source, const char *start,
                                  const struct mr_plan_limits *limits, char **ret_end,
                                  struct mr_error *err)
{
    uint64_t from, to;

    MR_UNUSED(limits);
    MR_TRY(range_of(NULL, start, &to, &from, err));
    *ret_end = NULL;
    if (from >= source->table->input_count)
        return MR_OK;
    *ret_end = mr_asprintf("%zu", source->table->input_count);
    return *ret_end != NULL ? MR_OK : no_memory(source->table->name, err);
}

static enum mr_status source_split(struct mr_source *source, const char *start, const char *end,
                                   uint32_t *ret_partitions, uint64_t *ret_bytes,
                                   struct mr_error *err)
{
    uint64_t from, to;

    MR_UNUSED(source);
    MR_TRY(range_of(start, end, &from, &to, err));
    *ret_partitions = 1;
    *ret_bytes = 1;
    return MR_OK;
}

static void source_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_bad_records_free(reader->bad);
    mr_free(reader);
}

static enum mr_status source_read(struct mr_source *source, const char *start, const char *end,
                                  uint32_t partition, struct mr_reader **ret_reader,
                                  struct mr_error *err)
{
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    enum mr_status status;

    MR_UNUSED(partition);
    if (reader == NULL)
        return no_memory(source->table->name, err);
    status = range_of(start, end, &reader->at, &reader->end, err);
    reader->source = source;
    MR_ASSERT(reader->end <= source->table->input_count);
    if (status == MR_OK)
        status = mr_bad_records_new(source->table->name, source->on_error, &reader->bad, err);
    if (status == MR_OK)
        *ret_reader = reader;
    else
        source_close(reader);
    return status;
}

/* The columns that the query reads. */
static enum mr_status fit(const struct mr_batch *batch, const struct mr_schema *schema,
                          struct mr_batch **ret_batch, struct mr_error *err)
{
    const struct mr_schema *have = mr_batch_schema(batch);
    uint32_t count = mr_schema_field_count(schema);
    uint32_t *indexes = mr_alloc(NULL, (count + 1) * sizeof(*indexes));
    enum mr_status status;

    if (indexes == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read a table of the test: out of memory");
    for (uint32_t i = 0; i < count; i++) {
        const char *name = mr_schema_field(schema, i)->name;
        int32_t found = mr_schema_find(have, name, strlen(name));

        MR_ASSERT(found >= 0);
        indexes[i] = (uint32_t)found;
    }
    status = mr_batch_select(batch, schema, indexes, ret_batch, err);
    mr_free(indexes);
    return status;
}

static enum mr_status source_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                  struct mr_error *err)
{
    const struct mr_source *source = reader->source;
    const struct mr_test_input *input = NULL;

    *ret_batch = NULL;
    while (input == NULL && reader->at < reader->end) {
        input = &source->table->inputs[reader->at++];
        if (input->batch == NULL && input->records == NULL)
            input = NULL; /* only a time */
    }
    if (input == NULL)
        return MR_OK;
    if (input->batch != NULL)
        return fit(input->batch, source->schema, ret_batch, err);
    return mr_testing__decode(source->table, input->records, source->schema, source->on_error,
                              reader->bad, ret_batch, err);
}

static enum mr_status source_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                      uint64_t *ret_count, struct mr_error *err)
{
    return mr_bad_records_take(reader->bad, ret_bad, ret_count, err);
}

static bool source_exhausted(struct mr_source *source, const char *end)
{
    uint64_t from, to;

    return range_of(NULL, end, &from, &to, NULL) == MR_OK && to >= source->table->input_count;
}

static bool source_event_time(struct mr_source *source, const char *start, const char *end,
                              int64_t *ret_event_us)
{
    uint64_t from, to;

    *ret_event_us = INT64_MIN;
    if (range_of(start, end, &from, &to, NULL) != MR_OK)
        return false;
    for (; from < to; from++)
        *ret_event_us = MR_MAX(*ret_event_us, source->table->inputs[from].event_us);
    return *ret_event_us != INT64_MIN;
}

static const struct mr_source_ops source_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = source_plan,
    .split = source_split,
    .read = source_read,
    .next = source_next,
    .take_bad = source_take_bad,
    .close = source_close,
    .exhausted = source_exhausted,
    .event_time = source_event_time,
    .stop = source_stop,
};

const struct mr_source_connector mr_testing__source = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "test",
    .summary = "Rows that a test inserts.",
    .guarantee = "replayable",
    .open = source_open,
    .ops = &source_ops,
};

/* ---- The sink ---- */

struct mr_sink {
    struct mr_test_table *table;
    struct mr_test_rows staged;
};

static void sink_abort(struct mr_sink *sink)
{
    mr_testing__rows_release(&sink->staged);
}

static void sink_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    sink_abort(sink);
    mr_free(sink);
}

static enum mr_status sink_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));
    struct mr_test_table *table = args->user;

    if (sink == NULL)
        return no_memory(args->name, err);
    sink->table = table;
    mr_schema_unref(table->written);
    table->written = mr_schema_ref(args->schema);
    table->mode = args->mode;
    if (strncmp(table->query_id, args->query_id, sizeof(table->query_id)) != 0) {
        size_t size = MR_MIN(strlen(args->query_id), sizeof(table->query_id) - 1);

        memcpy(table->query_id, args->query_id, size);
        table->query_id[size] = '\0';
        table->last_batch_id = -1;
    }
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status sink_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                          struct mr_error *err)
{
    MR_UNUSED(err);
    /* Of the newest batch the sink keeps silent: should it run again, its rows are compared. */
    *ret_batch_id = sink->table->last_batch_id - (sink->table->last_batch_id >= 0 ? 1 : 0);
    return MR_OK;
}

static enum mr_status sink_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                 struct mr_error *err)
{
    MR_UNUSED(info);
    MR_UNUSED(err);
    sink_abort(sink);
    return MR_OK;
}

static enum mr_status sink_write(struct mr_sink *sink, uint32_t partition,
                                 const struct mr_batch *batch, struct mr_error *err)
{
    MR_UNUSED(partition);
    return mr_testing__rows_add(&sink->staged, batch, err);
}

static enum mr_status sink_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status publish_again(struct mr_sink *sink, uint64_t batch_id, struct mr_error *err)
{
    struct mr_test_table *table = sink->table;
    char *changed = NULL;

    for (size_t i = table->output_count; i > 0; i--) {
        const struct mr_test_output *output = &table->outputs[i - 1];

        if (output->batch_id != (int64_t)batch_id)
            continue;
        MR_TRY(mr_testing__compare_again(&output->rows, &sink->staged, &changed, err));
        break; /* an older one is of another query */
    }
    sink_abort(sink);
    if (changed == NULL)
        return MR_OK;
    mr_text_free(table->changed);
    table->changed = changed;
    return MR_FAIL(
        err, MR_STATE,
        "batch %llu of '%s' ran again and gave other rows than those that were published",
        (unsigned long long)batch_id, table->name);
}

static enum mr_status sink_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                   struct mr_error *err)
{
    struct mr_test_table *table = sink->table;
    struct mr_test_output *grown;

    MR_UNUSED(ret_receipt);
    if ((int64_t)batch_id <= table->last_batch_id)
        return publish_again(sink, batch_id, err);
    grown = mr_realloc(NULL, table->outputs, (table->output_count + 1) * sizeof(*grown));
    if (grown == NULL)
        return no_memory(table->name, err);
    table->outputs = grown;
    table->outputs[table->output_count++] =
        (struct mr_test_output){.batch_id = (int64_t)batch_id, .rows = sink->staged};
    table->last_batch_id = (int64_t)batch_id;
    sink->staged = (struct mr_test_rows){0};
    return MR_OK;
}

static const struct mr_sink_ops sink_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = sink_last_published,
    .begin = sink_begin,
    .write = sink_write,
    .stage = sink_stage,
    .publish = sink_publish,
    .abort = sink_abort,
    .close = sink_close,
};

/* ---- Tables ---- */

/* What the connector takes that the table has outside of tests: a test must not allow more. */
static unsigned modes_of(const struct mr_sql_statement *statement)
{
    const struct mr_sink_connector *real = NULL;

    for (size_t i = 0; statement != NULL && i < statement->option_count; i++) {
        if (strcmp(statement->options[i].key, "connector") == 0)
            real = mr_sink_find(statement->options[i].value);
    }
    return real != NULL ? real->modes
                        : 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE;
}

void mr_testing__table_init(struct mr_test_table *table, const char *name,
                            const struct mr_sql_statement *statement)
{
    *table = (struct mr_test_table){
        .name = name,
        .statement = statement,
        .last_batch_id = -1,
        .sink = {.struct_size = sizeof(struct mr_sink_connector),
                 .name = "test",
                 .summary = "Rows that a test looks at.",
                 .guarantee = MR_EXACTLY_ONCE,
                 .modes = modes_of(statement),
                 .open = sink_open,
                 .ops = &sink_ops},
    };
    if (statement != NULL && statement->columns != NULL)
        table->schema = mr_schema_ref(statement->columns);
}

static void input_release(struct mr_test_input *input)
{
    mr_batch_unref(input->batch);
    mr_free(input->records);
}

void mr_testing__table_release(struct mr_test_table *table)
{
    for (size_t i = 0; i < table->input_count; i++)
        input_release(&table->inputs[i]);
    for (size_t i = 0; i < table->output_count; i++)
        mr_testing__rows_release(&table->outputs[i].rows);
    mr_free(table->inputs);
    mr_free(table->outputs);
    mr_schema_unref(table->schema);
    mr_schema_unref(table->written);
    mr_text_free(table->changed);
}

enum mr_status mr_testing__table_add(struct mr_test_table *table, const struct mr_test_input *input,
                                     struct mr_error *err)
{
    struct mr_test_input *grown =
        mr_realloc(NULL, table->inputs, (table->input_count + 1) * sizeof(*grown));
    char *records = input->records != NULL ? mr_strdup(input->records) : NULL;

    if (grown != NULL)
        table->inputs = grown;
    if (grown == NULL || (input->records != NULL && records == NULL)) {
        mr_free(records);
        return no_memory(table->name, err);
    }
    table->inputs[table->input_count++] =
        (struct mr_test_input){.batch = input->batch != NULL ? mr_batch_ref(input->batch) : NULL,
                               .records = records,
                               .event_us = input->event_us};
    return MR_OK;
}
