/*
 * Connectors without a query (plugin_harness.h).
 */
#include "support/plugin_harness.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/number_text.h"
#include "plugins/plugins.h"

#include <millrace/ext/durable.h>

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { PAIRS_MAX = 32, NAMES_MAX = 256 };

/* Parses "a=b\nc=d" against the connector's and the format's tables. */
static enum mr_status parse_options(const struct mr_option_table *tables, size_t table_count,
                                    const char *text, unsigned side,
                                    struct mr_options **ret_options, struct mr_error *err)
{
    const struct mr_option_table *pointers[2] = {&tables[0], &tables[1]};
    struct mr_option_pair pairs[PAIRS_MAX];
    size_t count = 0;
    char *copy = mr_strdup(text != NULL ? text : "");
    char *next = NULL;
    enum mr_status status;

    for (char *line = copy; line != NULL && *line != '\0'; line = next) {
        char *end = strchr(line, '\n');
        char *equals = strchr(line, '=');

        CHECK(equals != NULL && count < PAIRS_MAX);
        next = end != NULL ? end + 1 : NULL;
        if (end != NULL)
            *end = '\0';
        *equals = '\0';
        pairs[count++] = (struct mr_option_pair){line, equals + 1};
    }
    status = mr_options_parse(pointers, table_count, pairs, count, side, ret_options, err);
    mr_free(copy);
    return status;
}

static const struct mr_format *pick_format(bool takes, const char *name, const char *standard)
{
    const struct mr_format *format;

    if (!takes)
        return NULL;
    CHECK(name != NULL || standard != NULL);
    format = mr_format_find(name != NULL ? name : standard);
    CHECK_NOT_NULL(format);
    return format;
}

static struct mr_schema *parse_schema(const char *text)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    return schema;
}

/* ---- sources ---- */

static void make_kv(struct plug_source *src)
{
    struct mr_state_config config = {.volatile_only = true, .retain_batches = 100};
    struct mr_recovered recovered = {0};
    struct mr_store *store = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_state_open(mr_env_posix(), NULL, NULL, &config, &recovered, &src->state, &err),
             &err);
    CHECK_OK(mr_state_store(src->state, "source", "source", "", "", &store, &err), &err);
    src->kv = mr_kv_of(store);
}

static const struct mr_schema *own_schema(const struct plug_source *src)
{
    const struct mr_schema *schema = NULL;

    if (src->connector->fixed_schema != NULL)
        schema = src->connector->fixed_schema(src->options);
    if (schema == NULL && src->format != NULL && src->format->fixed_schema != NULL)
        schema = src->format->fixed_schema();
    CHECK_NOT_NULL(schema);
    return schema;
}

enum mr_status plug_source_try(struct plug_source *src, const struct plug_source_spec *spec,
                               struct mr_error *err)
{
    struct mr_option_table tables[2];
    size_t table_count = 1;

    memset(src, 0, sizeof(*src));
    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT); /* thousands of recoveries need no line each */
    mr_plugins_register();
    src->connector = mr_source_find(spec->connector);
    CHECK_NOT_NULL(src->connector);
    src->format =
        pick_format(src->connector->takes_format, spec->format, src->connector->default_format);
    tables[0] = (struct mr_option_table){"connector", src->connector->options,
                                         src->connector->option_count};
    if (src->format != NULL)
        tables[table_count++] =
            (struct mr_option_table){"format", src->format->options, src->format->option_count};
    MR_TRY(parse_options(tables, table_count, spec->options, MR_OPTION_SOURCE, &src->options, err));
    src->declared =
        spec->columns != NULL ? parse_schema(spec->columns) : mr_schema_ref(own_schema(src));
    if (spec->kv != NULL)
        src->kv = spec->kv;
    else
        make_kv(src);
    src->args = (struct mr_source_args){
        .env = spec->env != NULL ? spec->env : mr_env_posix(),
        .name = "src",
        .declared = spec->columns != NULL ? src->declared : NULL,
        .schema =
            spec->produce != NULL ? parse_schema(spec->produce) : mr_schema_ref(src->declared),
        .options = src->options,
        .format = src->format,
        .on_error = spec->on_error,
        .kv = src->kv,
        .seed = 42,
        .until_caught_up = spec->until_caught_up,
        .user = spec->user,
    };
    return src->connector->open(&src->args, &src->object, err);
}

void plug_source_open(struct plug_source *src, const struct plug_source_spec *spec)
{
    struct mr_error err = {0};

    CHECK_OK(plug_source_try(src, spec, &err), &err);
}

void plug_source_stop(struct plug_source *src)
{
    if (src->connector != NULL)
        src->connector->ops->stop(src->object);
    mr_schema_unref((struct mr_schema *)src->args.schema);
    mr_schema_unref(src->declared);
    mr_options_free(src->options);
    mr_state_close(src->state);
    mr_buf_release(&src->rows);
    mr_free(src->bad_position);
    memset(src, 0, sizeof(*src));
}

char *plug_plan(struct plug_source *src, const char *start)
{
    struct mr_plan_limits limits = {false};
    struct mr_error err = {0};
    char *end = NULL;

    CHECK_OK(src->connector->ops->plan(src->object, start, &limits, &end, &err), &err);
    return end;
}

void plug_print(struct mr_buf *out, const struct mr_batch *batch)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));

    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        struct mr_row cursor = {batch, row};

        if (out->size > 0)
            mr_buf_add_char(out, ';');
        for (uint32_t column = 0; column < columns; column++) {
            size_t size = mr_row_print(&cursor, column, NULL, 0);

            if (column > 0)
                mr_buf_add_char(out, '|');
            CHECK(mr_buf_reserve(out, size + 1));
            mr_row_print(&cursor, column, out->data + out->size, size + 1);
            out->size += size;
        }
    }
}

static enum mr_status take_bad(struct plug_source *src, struct mr_reader *reader,
                               struct mr_error *err)
{
    struct mr_batch *bad = NULL;
    uint64_t count = 0;

    if (src->connector->ops->take_bad == NULL)
        return MR_OK;
    MR_TRY(src->connector->ops->take_bad(reader, &bad, &count, err));
    src->bad_count += count;
    if (bad != NULL) {
        struct mr_slice position =
            mr_column_text(mr_batch_column(bad, 1), mr_batch_row_count(bad) - 1);

        mr_free(src->bad_position);
        src->bad_position = mr_strndup(position.data, position.size_bytes);
    }
    mr_batch_unref(bad);
    return MR_OK;
}

static enum mr_status read_partition(struct plug_source *src, const char *start, const char *end,
                                     uint32_t partition, struct mr_error *err)
{
    const struct mr_source_ops *ops = src->connector->ops;
    struct mr_reader *reader = NULL;
    struct mr_batch *batch;
    enum mr_status status;

    MR_TRY(ops->read(src->object, start, end, partition, &reader, err));
    for (;;) {
        batch = NULL;
        MR_TRY_GOTO(ops->next(reader, &batch, err));
        if (batch == NULL)
            break;
        plug_print(&src->rows, batch);
        mr_batch_unref(batch);
    }
    status = take_bad(src, reader, err);
done:
    ops->close(reader);
    return status;
}

enum mr_status plug_read_try(struct plug_source *src, const char *start, const char *end,
                             struct mr_error *err)
{
    uint64_t bytes = 0;

    mr_buf_clear(&src->rows);
    src->bad_count = 0;
    MR_TRY(src->connector->ops->split(src->object, start, end, &src->partitions, &bytes, err));
    for (uint32_t i = 0; i < src->partitions; i++)
        MR_TRY(read_partition(src, start, end, i, err));
    return MR_OK;
}

const char *plug_read(struct plug_source *src, const char *start, const char *end)
{
    struct mr_error err = {0};

    CHECK_OK(plug_read_try(src, start, end, &err), &err);
    CHECK(mr_buf_reserve(&src->rows, 1));
    src->rows.data[src->rows.size] = '\0';
    return src->rows.data;
}

void plug_remember(struct plug_source *src, const char *start, const char *end)
{
    struct mr_error err = {0};

    if (src->connector->ops->remember != NULL)
        CHECK_OK(src->connector->ops->remember(src->object, start, end, src->kv, &err), &err);
}

/* ---- batches ---- */

static void add_field(struct mr_batch_builder *builder, uint32_t column, enum mr_type_id type,
                      const char *text, size_t size)
{
    int64_t number = 0;
    double real = 0;

    if (size == 4 && memcmp(text, "null", 4) == 0) {
        mr_batch_builder_null(builder, column);
        return;
    }
    switch (type) {
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        mr_batch_builder_text(builder, column, text, size);
        break;
    case MR_TYPE_BOOL:
        mr_batch_builder_bool(builder, column, size == 4);
        break;
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        CHECK(mr_double_parse(text, size, &real));
        mr_batch_builder_double(builder, column, real);
        break;
    default:
        CHECK(mr_int_parse(text, size, &number));
        mr_batch_builder_int(builder, column, number);
        break;
    }
}

struct mr_batch *plug_batch(const char *columns, const char *rows)
{
    struct mr_schema *schema = parse_schema(columns);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    const char *at = rows;

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    while (*at != '\0') {
        for (uint32_t column = 0; column < mr_schema_field_count(schema); column++) {
            size_t size = strcspn(at, "|;");

            add_field(builder, column, mr_schema_field(schema, column)->type.id, at, size);
            at += size;
            if (*at == '|')
                at++;
        }
        mr_batch_builder_end_row(builder);
        if (*at == ';')
            at++;
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

/* ---- sinks ---- */

enum mr_status plug_sink_try(struct plug_sink *sink, const struct plug_sink_spec *spec,
                             struct mr_error *err)
{
    struct mr_option_table tables[2];
    size_t table_count = 1;
    struct mr_sink_args args;

    memset(sink, 0, sizeof(*sink));
    mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_plugins_register();
    sink->connector = mr_sink_find(spec->connector);
    CHECK_NOT_NULL(sink->connector);
    sink->format =
        pick_format(sink->connector->takes_format, spec->format, sink->connector->default_format);
    tables[0] = (struct mr_option_table){"connector", sink->connector->options,
                                         sink->connector->option_count};
    if (sink->format != NULL)
        tables[table_count++] =
            (struct mr_option_table){"format", sink->format->options, sink->format->option_count};
    MR_TRY(parse_options(tables, table_count, spec->options, MR_OPTION_SINK, &sink->options, err));
    sink->schema = parse_schema(spec->columns);
    args = (struct mr_sink_args){
        .env = spec->env != NULL ? spec->env : mr_env_posix(),
        .name = spec->name != NULL ? spec->name : "out",
        .query_id = spec->query_id != NULL ? spec->query_id : "q1",
        .schema = sink->schema,
        .options = sink->options,
        .format = sink->format,
        .mode = spec->mode,
        .ephemeral = spec->ephemeral,
        .user = spec->user,
    };
    return sink->connector->open(&args, &sink->object, err);
}

void plug_sink_open(struct plug_sink *sink, const struct plug_sink_spec *spec)
{
    struct mr_error err = {0};

    CHECK_OK(plug_sink_try(sink, spec, &err), &err);
}

void plug_sink_close(struct plug_sink *sink)
{
    if (sink->connector != NULL)
        sink->connector->ops->close(sink->object);
    mr_options_free(sink->options);
    mr_schema_unref(sink->schema);
    memset(sink, 0, sizeof(*sink));
}

int64_t plug_last_published(struct plug_sink *sink)
{
    struct mr_error err = {0};
    int64_t last = -2;

    CHECK_OK(sink->connector->ops->last_published(sink->object, &last, &err), &err);
    return last;
}

enum mr_status plug_stage(struct plug_sink *sink, uint64_t batch_id, const char *const *rows,
                          uint32_t partition_count, struct mr_error *err)
{
    const struct mr_sink_ops *ops = sink->connector->ops;
    struct mr_sink_batch info = {batch_id, 1, INT64_C(1700000000000000), partition_count};
    char *columns = mr_schema_print(sink->schema);
    enum mr_status status;

    MR_TRY_GOTO(ops->begin(sink->object, &info, err));
    for (uint32_t i = 0; i < partition_count; i++) {
        struct mr_batch *batch;

        if (rows[i] == NULL || rows[i][0] == '\0')
            continue;
        batch = plug_batch(columns, rows[i]);
        status = ops->write(sink->object, i, batch, err);
        mr_batch_unref(batch);
        if (status != MR_OK)
            goto done;
    }
    status = ops->stage(sink->object, err);
done:
    mr_text_free(columns);
    return status;
}

void plug_batch_out(struct plug_sink *sink, uint64_t batch_id, const char *const *rows,
                    uint32_t partition_count)
{
    struct mr_error err = {0};
    char *receipt = NULL;

    CHECK_OK(plug_stage(sink, batch_id, rows, partition_count, &err), &err);
    CHECK_OK(sink->connector->ops->publish(sink->object, batch_id, &receipt, &err), &err);
    mr_text_free(receipt);
}

/* ---- files ---- */

void plug_write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "wb");

    CHECK_NOT_NULL(file);
    CHECK(fwrite(text, 1, strlen(text), file) == strlen(text));
    CHECK(fclose(file) == 0);
}

char *plug_read_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;

    return mr_durable_get(mr_env_posix(), path, 1 << 30, &text, &size, NULL) == MR_OK ? text : NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *plug_ls(const char *path)
{
    struct mr_buf out = MR_BUF_INIT;
    char *names[NAMES_MAX];
    size_t count = 0;
    DIR *dir = opendir(path);

    CHECK_NOT_NULL(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.')
            continue;
        CHECK(count < NAMES_MAX);
        names[count++] = mr_strdup(entry->d_name);
    }
    closedir(dir);
    qsort(names, count, sizeof(names[0]), compare_names);
    for (size_t i = 0; i < count; i++) {
        mr_buf_printf(&out, "%s%s", i > 0 ? " " : "", names[i]);
        mr_free(names[i]);
    }
    return out.size == 0 ? mr_strdup("") : mr_buf_take(&out);
}
