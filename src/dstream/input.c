/*
 * Inputs: any connector of the registry as a stream, and the socket stream, which is one of them.
 *
 * The options of a connector and of its format come in one list, as in CREATE TABLE ... WITH;
 * `format` and `on_error` are taken out here. A receiver (socket) becomes replayable in the kernel:
 * its blocks are in the write-ahead log before a batch sees them.
 *
 * Thread: the building one.
 */
#include "dstream/input.h"

#include "base/limits.h"

#include <stdio.h>
#include <string.h>

enum { OPTIONS_MAX = MR_LIMIT_DSTREAM_OPTIONS };

struct mr_dstream *mr__stream_source(struct mr_context *ctx, const char *operation,
                                     struct mr__source *source, const struct mr_schema *schema)
{
    struct mr_dstream *stream = mr__stream_new(ctx, mr__lower_source, operation, NULL, 0);

    if (stream == NULL) {
        mr_options_free(source->options);
        mr_schema_unref(source->declared);
        return NULL;
    }
    stream->source = *source;
    stream->schema = mr_schema_ref(schema);
    return stream;
}

/* The options of one call, sorted out. */
struct given {
    struct mr_option_pair pairs[OPTIONS_MAX];
    size_t count;
    const char *format;
    const char *on_error;
};

static enum mr_status sort_out(const char *const *options, struct given *given,
                               struct mr_error *err)
{
    *given = (struct given){.count = 0};
    for (; options != NULL && options[0] != NULL; options += 2) {
        if (options[1] == NULL)
            return MR_FAIL(err, MR_CONFIG,
                           "option '%s' has no value; options are pairs: key, value, ..., NULL",
                           options[0]);
        if (strcmp(options[0], "format") == 0)
            given->format = options[1];
        else if (strcmp(options[0], "on_error") == 0)
            given->on_error = options[1];
        else if (given->count == OPTIONS_MAX)
            return MR_FAIL(err, MR_LIMIT, "at most %d options", OPTIONS_MAX);
        else
            given->pairs[given->count++] = (struct mr_option_pair){options[0], options[1]};
    }
    return MR_OK;
}

static enum mr_status find_format(struct mr__source *source, const struct given *given,
                                  struct mr_error *err)
{
    const char *name = given->format != NULL ? given->format : source->connector->default_format;

    if (!source->connector->takes_format) {
        if (given->format != NULL)
            return MR_FAIL(err, MR_CONFIG, "connector '%s' takes no format; leave it out",
                           source->connector->name);
        return MR_OK;
    }
    if (name == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "connector '%s' needs a format, such as \"format\", \"text\"",
                       source->connector->name);
    source->format = mr_format_find(name);
    if (source->format == NULL)
        return MR_FAIL(err, MR_CONFIG, "there is no format '%s'; use text, csv, json or parquet",
                       name);
    return MR_OK;
}

static enum mr_status parse_options(struct mr__source *source, const struct given *given,
                                    struct mr_error *err)
{
    char connector_owner[96], format_owner[96];
    struct mr_option_table connector = {connector_owner, source->connector->options,
                                        source->connector->option_count};
    struct mr_option_table format = {format_owner, NULL, 0};
    const struct mr_option_table *tables[] = {&connector, &format};

    snprintf(connector_owner, sizeof(connector_owner), "connector '%s'", source->connector->name);
    if (source->format != NULL) {
        snprintf(format_owner, sizeof(format_owner), "format '%s'", source->format->name);
        format.options = source->format->options;
        format.option_count = source->format->option_count;
    }
    return mr_options_parse(tables, source->format != NULL ? 2 : 1, given->pairs, given->count,
                            MR_OPTION_SOURCE, &source->options, err);
}

static enum mr_status parse_on_error(struct mr__source *source, const struct given *given,
                                     struct mr_error *err)
{
    source->on_error = MR_ON_ERROR_FAIL;
    if (given->on_error == NULL || strcmp(given->on_error, "fail") == 0)
        return MR_OK;
    source->on_error = MR_ON_ERROR_SKIP;
    if (strcmp(given->on_error, "skip") == 0)
        return MR_OK;
    return MR_FAIL(err, MR_CONFIG, "on_error is '%s'; use 'fail' or 'skip'", given->on_error);
}

/* Declared columns, or the connector's own, or the format's. *ret_schema is new. */
static enum mr_status find_schema(struct mr__source *source, const char *columns,
                                  struct mr_schema **ret_schema, struct mr_error *err)
{
    const struct mr_schema *fixed = NULL;

    if (columns != NULL) {
        MR_TRY(mr_schema_parse(columns, strlen(columns), &source->declared, err));
        *ret_schema = mr_schema_ref(source->declared);
    } else {
        if (source->connector->fixed_schema != NULL)
            fixed = source->connector->fixed_schema(source->options);
        if (fixed == NULL && source->format != NULL && source->format->fixed_schema != NULL)
            fixed = source->format->fixed_schema();
        if (fixed == NULL)
            return MR_FAIL(err, MR_CONFIG,
                           "connector '%s' needs its columns declared, as in \"value VARCHAR\"",
                           source->connector->name);
        source->declared = mr_schema_ref(fixed);
        *ret_schema = mr_schema_ref(fixed);
    }
    if (source->format != NULL && source->format->check != NULL &&
        !source->connector->checks_columns)
        return source->format->check(source->declared, source->options, false, err);
    return MR_OK;
}

static enum mr_status prepare_source(const struct mr_source_connector *connector,
                                     const char *columns, const char *const *options,
                                     struct mr__source *source, struct mr_schema **ret_schema,
                                     struct mr_error *err)
{
    struct given given;

    source->connector = connector;
    MR_TRY(sort_out(options, &given, err));
    MR_TRY(find_format(source, &given, err));
    MR_TRY(parse_options(source, &given, err));
    MR_TRY(parse_on_error(source, &given, err));
    return find_schema(source, columns, ret_schema, err);
}

struct mr_dstream *mr__connect_as(struct mr_context *ctx, const char *operation,
                                  const struct mr_source_connector *connector, const char *columns,
                                  const char *const *options)
{
    struct mr__source source = {0};
    struct mr_schema *schema = NULL;
    struct mr_dstream *stream = NULL;
    struct mr_error err;

    if (!mr__context_is_open(ctx, operation))
        return NULL;
    mr_error_clear(&err);
    if (prepare_source(connector, columns, options, &source, &schema, &err) == MR_OK) {
        stream = mr__stream_source(ctx, operation, &source, schema);
    } else {
        mr_options_free(source.options);
        mr_schema_unref(source.declared);
        mr__context_blame(ctx, operation, &err);
    }
    mr_schema_unref(schema);
    return stream;
}

struct mr_dstream *mr__connect_named(struct mr_context *ctx, const char *operation,
                                     const char *name, const char *columns,
                                     const char *const *options)
{
    const struct mr_source_connector *connector = mr_source_find(name);
    struct mr_error err;

    if (connector != NULL)
        return mr__connect_as(ctx, operation, connector, columns, options);
    if (!mr__context_is_open(ctx, operation))
        return NULL;
    MR_FAIL(&err, MR_CONFIG,
            "there is no connector '%s' in this build; 'millrace options' lists them", name);
    mr__context_blame(ctx, operation, &err);
    return NULL;
}

struct mr_dstream *mr_connector_stream(struct mr_context *ctx, const char *connector,
                                       const char *columns, const char *const *options)
{
    return mr__connect_named(ctx, connector != NULL ? connector : "connector",
                             connector != NULL ? connector : "", columns, options);
}

struct mr_dstream *mr_socket_text_stream(struct mr_context *ctx, const char *host, int port)
{
    char port_text[16];
    const char *options[] = {"host", host != NULL ? host : "", "port", port_text, "format", "text",
                             NULL};

    snprintf(port_text, sizeof(port_text), "%d", port);
    return mr__connect_named(ctx, "socket_text_stream", "socket", NULL, options);
}
