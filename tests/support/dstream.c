/*
 * See dstream.h. The input is a table in memory (source `memory`), so it outlives contexts as a
 * real source would; the output is collected by mr_foreach_rdd. Everything runs in the test's
 * thread on the virtual clock.
 */
#include "support/dstream.h"

#include "base/log.h"
#include "env/sim.h"

#include <millrace/ext/memory.h>

#include <stdlib.h>

enum { BATCHES_MAX = 256, TEXT_BYTES = 16384, ELEMENTS_MAX = 1024 };

struct ds {
    struct test *t;
    struct mr_sim *sim;
    struct mr_schema *schema;
    char *columns;
    char table_name[128];
    struct mr_memory *table;
    unsigned partitions;
    struct mr_context *ctx;
    const char *fail_point;
    uint64_t fail_batch;
    int64_t times[BATCHES_MAX];
    char *texts[BATCHES_MAX];
    size_t batch_count;
    bool shows_partitions;
    char output[TEXT_BYTES];
    char tidy[TEXT_BYTES];
};

struct ds *ds_new(struct test *t, const char *columns)
{
    static unsigned number;
    struct ds *d = calloc(1, sizeof(*d));

    CHECK_NOT_NULL(d);
    mr_log_configure(MR_LOG_WARNING, MR_LOG_TEXT);
    d->t = t;
    d->partitions = 1;
    d->sim = mr_sim_new(1);
    d->columns = strdup(columns);
    snprintf(d->table_name, sizeof(d->table_name), "%.100s-%u", t->name, number++);
    CHECK_OK(mr_schema_parse(columns, strlen(columns), &d->schema, NULL), NULL);
    d->table = mr_memory_table(d->table_name);
    CHECK_NOT_NULL(d->table);
    return d;
}

void ds_forget_output(struct ds *d)
{
    for (size_t i = 0; i < d->batch_count; i++)
        free(d->texts[i]);
    d->batch_count = 0;
}

void ds_free(struct ds *d)
{
    mr_context_free(d->ctx);
    ds_forget_output(d);
    mr_memory_drop(d->table_name);
    mr_schema_unref(d->schema);
    mr_sim_free(d->sim);
    free(d->columns);
    free(d);
}

struct mr_sim *ds_sim(struct ds *d)
{
    return d->sim;
}

struct mr_context *ds_context(struct ds *d)
{
    return d->ctx;
}

/* ---- input ---- */

static void trim(const char **text, size_t *size)
{
    while (*size > 0 && **text == ' ') {
        (*text)++;
        (*size)--;
    }
    while (*size > 0 && (*text)[*size - 1] == ' ')
        (*size)--;
}

/* Calls visit for each part of text between separators; none for a text of spaces only, when
 * skip_empty says so. */
static void each_part(const char *text, size_t size, char separator, bool skip_empty,
                      void (*visit)(const char *part, size_t size, void *arg), void *arg)
{
    const char *end = text + size;

    for (const char *at = text;;) {
        const char *stop = memchr(at, separator, (size_t)(end - at));
        const char *part = at;
        size_t part_size = (size_t)((stop != NULL ? stop : end) - at);

        trim(&part, &part_size);
        if (part_size > 0 || !skip_empty)
            visit(part, part_size, arg);
        if (stop == NULL)
            return;
        at = stop + 1;
    }
}

struct row_input {
    struct mr_batch_builder *builder;
    const struct mr_schema *schema;
    uint32_t column;
};

static void add_column(const char *part, size_t size, void *arg)
{
    struct row_input *row = arg;
    char text[256];

    if (mr_schema_field(row->schema, row->column)->type.id == MR_TYPE_TEXT) {
        bool is_empty = size == 2 && memcmp(part, "\"\"", 2) == 0;
        mr_batch_builder_text(row->builder, row->column, part, is_empty ? 0 : size);
    } else if (mr_schema_field(row->schema, row->column)->type.id == MR_TYPE_DOUBLE) {
        snprintf(text, sizeof(text), "%.*s", (int)size, part);
        mr_batch_builder_double(row->builder, row->column, strtod(text, NULL));
    } else {
        snprintf(text, sizeof(text), "%.*s", (int)size, part);
        mr_batch_builder_int(row->builder, row->column, strtoll(text, NULL, 10));
    }
    row->column++;
}

static void add_element(const char *part, size_t size, void *arg)
{
    struct row_input *row = arg;

    row->column = 0;
    each_part(part, size, ':', false, add_column, row);
    mr_batch_builder_end_row(row->builder);
}

/* A step of the table per partition. */
static void add_partitions(struct ds *d, const struct mr_batch *batch)
{
    int64_t rows = mr_batch_row_count(batch);

    for (int64_t p = 0; p < d->partitions; p++) {
        int64_t from = rows * p / d->partitions, to = rows * (p + 1) / d->partitions;
        struct mr_batch *part = NULL;

        CHECK_OK(mr_batch_slice(batch, from, to - from, &part, NULL), NULL);
        CHECK_OK(mr_memory_add(d->table, part, NULL), NULL);
        mr_batch_unref(part);
    }
}

static void add_batch(const char *part, size_t size, void *arg)
{
    struct ds *d = arg;
    struct row_input row = {NULL, d->schema, 0};
    struct mr_batch *batch = NULL;

    if (size == 4 && memcmp(part, "null", 4) == 0) {
        for (unsigned p = 0; p < d->partitions; p++)
            CHECK_OK(mr_memory_add_absent(d->table, NULL), NULL);
        return;
    }
    CHECK_OK(mr_batch_builder_new(d->schema, &row.builder, NULL), NULL);
    each_part(part, size, ',', true, add_element, &row);
    CHECK_OK(mr_batch_builder_finish(row.builder, &batch, NULL), NULL);
    add_partitions(d, batch);
    mr_batch_unref(batch);
    mr_batch_builder_free(row.builder);
}

void ds_partitions(struct ds *d, unsigned partitions)
{
    CHECK(mr_memory_step_count(d->table) == 0 && partitions > 0);
    d->partitions = partitions;
}

void ds_input(struct ds *d, const char *text)
{
    each_part(text, strlen(text), '|', false, add_batch, d);
}

/* ---- running ---- */

static enum mr_status fail_there(void *arg, const char *point, uint64_t batch_id,
                                 struct mr_error *err)
{
    struct ds *d = arg;

    if (d->fail_point == NULL || strcmp(point, d->fail_point) != 0 || batch_id != d->fail_batch)
        return MR_OK;
    d->fail_point = NULL;
    return MR_FAIL(err, MR_INTERNAL, "killed at '%s' of batch %" PRIu64, point, batch_id);
}

struct mr_context *ds_begin(struct ds *d, int64_t interval_ms, const char *checkpoint)
{
    struct mr_query_config *config;

    CHECK(d->ctx == NULL);
    d->ctx = mr_context_new(d->t->name, interval_ms);
    CHECK_NOT_NULL(d->ctx);
    mr__context_use(d->ctx, mr_sim_env(d->sim));
    mr_context_checkpoint(d->ctx, checkpoint);
    config = mr__context_config(d->ctx);
    config->failpoint = fail_there;
    config->failpoint_arg = d;
    config->workers = 1;
    return d->ctx;
}

struct mr_dstream *ds_stream_of(struct ds *d, struct ds *input)
{
    char count[16];
    const char *options[] = {
        "table", input->table_name, "max_steps_per_trigger", count, "partitions", count, NULL};

    snprintf(count, sizeof(count), "%u", input->partitions);
    return mr_connector_stream(d->ctx, "memory", input->columns, options);
}

struct mr_dstream *ds_stream(struct ds *d)
{
    return ds_stream_of(d, d);
}

void ds_fail_at(struct ds *d, const char *point, uint64_t batch_id)
{
    d->fail_point = point;
    d->fail_batch = batch_id;
}

enum mr_status ds_run(struct ds *d, uint64_t batches, struct mr_error *err)
{
    enum mr_status status;

    mr__context_config(d->ctx)->batches_max = batches;
    status = mr__context_run_here(d->ctx, err);
    mr_context_free(d->ctx);
    d->ctx = NULL;
    return status;
}

void ds_must_run(struct ds *d, uint64_t batches)
{
    struct mr_error err;
    enum mr_status status;

    mr_error_clear(&err);
    status = ds_run(d, batches, &err);
    CHECK_OK(status, &err);
}

/* ---- output ---- */

__attribute__((format(printf, 2, 3))) static void append(char *text, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, TEXT_BYTES - used, format, args);
    va_end(args);
}

static void append_row(char *text, const struct mr_row *row, bool is_first)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(row->batch));

    append(text, "%s", is_first ? "" : ",");
    for (uint32_t i = 0; i < columns; i++) {
        char value[512];

        mr_row_print(row, i, value, sizeof(value));
        append(text, "%s%s", i > 0 ? ":" : "", value[0] != '\0' ? value : "\"\"");
    }
}

/* A batch that runs again must give the same. */
static void keep_batch(struct ds *d, int64_t time_ms, const char *text)
{
    size_t at = d->batch_count;

    for (size_t i = 0; i < d->batch_count; i++) {
        if (d->times[i] == time_ms) {
            CHECK_EQ_STR(text, d->texts[i]);
            return;
        }
    }
    CHECK(d->batch_count < BATCHES_MAX);
    d->times[at] = time_ms;
    d->texts[at] = strdup(text);
    d->batch_count++;
}

static enum mr_status collect(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                              struct mr_error *err)
{
    static char text[TEXT_BYTES];
    struct ds *d = arg;

    text[0] = '\0';
    for (uint32_t p = 0; p < mr_rdd_partition_count(rdd); p++) {
        struct mr_batch *rows;

        MR_TRY(mr_rdd_partition(rdd, p, &rows, err));
        if (d->shows_partitions)
            append(text, "%s", p > 0 ? " [" : "[");
        for (struct mr_row row = {rows, 0}; row.index < mr_batch_row_count(rows); row.index++)
            append_row(text, &row, row.index == 0 && (d->shows_partitions || text[0] == '\0'));
        if (d->shows_partitions)
            append(text, "]");
        mr_batch_unref(rows);
    }
    keep_batch(d, batch_time_ms, text);
    return MR_OK;
}

void ds_show_partitions(struct ds *d)
{
    d->shows_partitions = true;
}

void ds_collect(struct ds *d, struct mr_dstream *stream)
{
    mr_foreach_rdd(stream, collect, d);
}

struct tidying {
    char *out;
    bool sorted;
    bool any_batch;
    char *elements[ELEMENTS_MAX];
    size_t count;
};

static void keep_element(const char *part, size_t size, void *arg)
{
    struct tidying *tidying = arg;
    char text[512];

    CHECK(tidying->count < ELEMENTS_MAX);
    snprintf(text, sizeof(text), "%.*s", (int)size, part);
    tidying->elements[tidying->count++] = strdup(text);
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void tidy_batch(const char *part, size_t size, void *arg)
{
    struct tidying *tidying = arg;

    tidying->count = 0;
    each_part(part, size, ',', true, keep_element, tidying);
    if (tidying->sorted)
        qsort(tidying->elements, tidying->count, sizeof(char *), compare_texts);
    append(tidying->out, "%s", tidying->any_batch ? " | " : "");
    for (size_t i = 0; i < tidying->count; i++) {
        append(tidying->out, "%s%s", i > 0 ? "," : "", tidying->elements[i]);
        free(tidying->elements[i]);
    }
    tidying->any_batch = true;
}

static void tidy_into(char *out, const char *text, bool sorted)
{
    struct tidying tidying = {.out = out, .sorted = sorted};

    out[0] = '\0';
    each_part(text, strlen(text), '|', false, tidy_batch, &tidying);
}

const char *ds_tidy(struct ds *d, const char *text, bool sorted)
{
    tidy_into(d->tidy, text, sorted);
    return d->tidy;
}

const char *ds_output(struct ds *d, bool sorted)
{
    static char joined[TEXT_BYTES];

    joined[0] = '\0';
    for (size_t i = 0; i < d->batch_count; i++)
        append(joined, "%s%s", i > 0 ? "|" : "", d->texts[i]);
    tidy_into(d->output, joined, sorted);
    return d->output;
}

/* ---- vectors ---- */

static const struct ds_vector vectors[] = {
#define VECTOR(id, operation, columns, input, expected, order)                                     \
    {id, operation, columns, input, expected, order},
#define ORDERED true
#define AS_SETS false
#define CASE(id, what, expected)
#define DIFFERS(id, what, expected, ours, reason)
#define LATER(id, what, reason)
#include "flow/vectors_dstream.inc"
#undef VECTOR
#undef ORDERED
#undef AS_SETS
};

const struct ds_vector *ds_vector(const char *id)
{
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        if (strcmp(vectors[i].id, id) == 0)
            return &vectors[i];
    }
    FAIL("there is no vector '%s'", id);
    return NULL;
}
