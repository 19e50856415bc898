/*
 * Building calls: streams on streams. Each checks what it is given, finds the type of its result,
 * and compiles its function; the first mistake sticks to the context and the call returns NULL,
 * which all later calls ignore.
 *
 * The name of an operator is <operation>-<ordinal>, the ordinal counted per operation, so that
 * adding a map does not rename a window; mr_dstream_set_name gives a better one.
 *
 * Thread: the building one.
 */
#include "dstream/remember.h"

#include "ops/aggregate.h"

#include <string.h>

/* ---- streams in general ---- */

size_t mr__ordinal(const struct mr_context *ctx, const char *operation)
{
    size_t count = 0;

    for (size_t i = 0; i < ctx->stream_count; i++)
        count += strcmp(ctx->streams[i]->operation, operation) == 0;
    return count;
}

bool mr__blame(struct mr_context *ctx, const struct mr_fn *fn, const char *operation,
               const struct mr_error *err)
{
    char place[256];

    mr__place(fn, operation, place, sizeof(place));
    return mr__context_blame(ctx, place, err);
}

static void stream_free(struct mr_dstream *stream)
{
    if (stream == NULL)
        return;
    mr_options_free(stream->source.options);
    mr_schema_unref(stream->source.declared);
    mr_schema_unref(stream->schema);
    mr__kept_free(stream->kept);
    if (stream->own_free != NULL)
        stream->own_free(stream->own);
    mr_free(stream->inputs);
    mr_free(stream->operation);
    mr_free(stream->name);
    mr_free(stream);
}

void mr__streams_free(struct mr_context *ctx)
{
    for (size_t i = 0; i < ctx->stream_count; i++)
        stream_free(ctx->streams[i]);
    mr_free(ctx->streams);
    ctx->streams = NULL;
    ctx->stream_count = 0;
}

static enum mr_status keep_stream(struct mr_context *ctx, struct mr_dstream *stream,
                                  struct mr_error *err)
{
    struct mr_dstream **grown;

    if (ctx->stream_count >= MR_DSTREAM_STREAMS_MAX)
        return MR_FAIL(err, MR_LIMIT, "a context has at most %d streams", MR_DSTREAM_STREAMS_MAX);
    grown = mr_realloc(NULL, ctx->streams, (ctx->stream_count + 1) * sizeof(struct mr_dstream *));
    if (grown == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    ctx->streams = grown;
    ctx->streams[ctx->stream_count++] = stream;
    return MR_OK;
}

static enum mr_status fill_stream(struct mr_dstream *stream, const char *operation,
                                  struct mr_dstream *const *inputs, size_t input_count,
                                  struct mr_error *err)
{
    struct mr_context *ctx = stream->ctx;

    stream->operation = mr_strdup(operation);
    stream->name = mr_asprintf("%s-%zu", operation, mr__ordinal(ctx, operation));
    stream->inputs = mr_alloc_zero(NULL, (input_count + 1) * sizeof(struct mr_dstream *));
    if (stream->operation == NULL || stream->name == NULL || stream->inputs == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    for (size_t i = 0; i < input_count; i++)
        stream->inputs[i] = inputs[i];
    stream->input_count = input_count;
    stream->slide_ms = input_count > 0 ? inputs[0]->slide_ms : ctx->interval_ms;
    stream->named = stream;
    stream->kept = mr__kept_new();
    if (stream->kept == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    return keep_stream(ctx, stream, err);
}

struct mr_dstream *mr__stream_new(struct mr_context *ctx, mr__lower_fn lower, const char *operation,
                                  struct mr_dstream *const *inputs, size_t input_count)
{
    struct mr_dstream *stream;
    struct mr_error err;

    if (!mr__context_is_open(ctx, operation))
        return NULL;
    stream = mr_alloc_zero(NULL, sizeof(*stream));
    if (stream == NULL) {
        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__context_blame(ctx, operation, &err);
        return NULL;
    }
    stream->ctx = ctx;
    stream->lower = lower;
    if (fill_stream(stream, operation, inputs, input_count, &err) != MR_OK) {
        stream_free(stream);
        mr__context_blame(ctx, operation, &err);
        return NULL;
    }
    return stream;
}

struct mr_context *mr_dstream_context(const struct mr_dstream *stream)
{
    return stream != NULL ? stream->ctx : NULL;
}

int64_t mr_dstream_slide_ms(const struct mr_dstream *stream)
{
    return stream != NULL ? stream->slide_ms : 0;
}

const struct mr_schema *mr_dstream_schema(const struct mr_dstream *stream)
{
    return stream != NULL ? stream->schema : NULL;
}

static bool is_good_name(const char *name)
{
    size_t size = strlen(name);

    if (size == 0 || size > MR_STATE_NAME_BYTES_MAX)
        return false;
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.") ==
           size;
}

void mr_dstream_set_name(struct mr_dstream *stream, const char *name)
{
    struct mr_error err;
    char *copy;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "mr_dstream_set_name"))
        return;
    if (name == NULL || !is_good_name(name)) {
        MR_FAIL(&err, MR_CONFIG,
                "cannot use '%s' as a name; use 1 to %d letters, digits, '_', '-' and '.'",
                name != NULL ? name : "", MR_STATE_NAME_BYTES_MAX);
        mr__context_blame(stream->ctx, "mr_dstream_set_name", &err);
        return;
    }
    copy = mr_strdup(name);
    if (copy == NULL) {
        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__context_blame(stream->ctx, "mr_dstream_set_name", &err);
        return;
    }
    mr_free(stream->named->name);
    stream->named->name = copy;
}

/* ---- one function per element ---- */

/* Hands a compiled function to the context and makes it the stream's. */
struct mr_dstream *mr__with_function(struct mr_dstream *stream, struct mr__function *function)
{
    if (stream == NULL || !mr__context_keep(stream->ctx, function)) {
        if (stream == NULL)
            mr__function_free(function);
        return NULL;
    }
    stream->function = function;
    stream->schema = mr_schema_ref(function->output);
    return stream;
}

struct mr_dstream *mr__build_mapped(struct mr_dstream *input, const char *operation,
                                    const struct mr_fn *fn, mr__compile_fn compile,
                                    mr__lower_fn lower)
{
    struct mr__function *function;
    struct mr_error err;

    if (input == NULL || !mr__context_is_open(input->ctx, operation))
        return NULL;
    mr_error_clear(&err);
    if (compile(&input->ctx->engines, operation, fn, input->schema, &function, &err) != MR_OK) {
        mr__blame(input->ctx, fn, operation, &err);
        return NULL;
    }
    return mr__with_function(mr__stream_new(input->ctx, lower, operation, &input, 1), function);
}

static struct mr_dstream *build_map(struct mr_dstream *input, const char *operation,
                                    const struct mr_fn *fn, mr__compile_fn compile)
{
    struct mr_dstream *stream = mr__build_mapped(input, operation, fn, compile, mr__lower_map);

    if (stream != NULL)
        stream->one_to_one = operation[0] == 'm'; /* map, map_to_pair */
    return stream;
}

struct mr_dstream *mr_map(struct mr_dstream *stream, struct mr_fn fn)
{
    return build_map(stream, "map", &fn, mr__compile_map);
}

struct mr_dstream *mr_map_to_pair(struct mr_dstream *stream, struct mr_fn fn)
{
    return build_map(stream, "map_to_pair", &fn, mr__compile_map);
}

struct mr_dstream *mr_flat_map(struct mr_dstream *stream, struct mr_fn fn)
{
    return build_map(stream, "flat_map", &fn, mr__compile_flat_map);
}

struct mr_dstream *mr_filter(struct mr_dstream *stream, struct mr_fn fn)
{
    return build_map(stream, "filter", &fn, mr__compile_filter);
}

/* ---- several streams, partitions ---- */

bool mr__go_together(struct mr_dstream *const *streams, size_t count, const struct mr_fn *fn,
                     const char *operation)
{
    struct mr_error err;
    size_t i = 1;

    while (i < count && streams[i]->ctx == streams[0]->ctx &&
           streams[i]->slide_ms == streams[0]->slide_ms)
        i++;
    if (i == count)
        return true;
    if (streams[i]->ctx != streams[0]->ctx)
        MR_FAIL(&err, MR_CONFIG, "the streams belong to different contexts; build both on one");
    else
        MR_FAIL(
            &err, MR_CONFIG,
            "the streams have different slides (%lld ms and %lld ms); window both with the same",
            (long long)streams[0]->slide_ms, (long long)streams[i]->slide_ms);
    return mr__blame(streams[0]->ctx, fn, operation, &err);
}

bool mr__partitions_are_good(struct mr_context *ctx, const char *operation,
                             uint32_t partition_count)
{
    struct mr_error err;

    if (partition_count > 0 && partition_count <= MR_DSTREAM_PARTITIONS_MAX)
        return true;
    MR_FAIL(&err, MR_CONFIG, "cannot make %u partitions; use 1 to %d", partition_count,
            MR_DSTREAM_PARTITIONS_MAX);
    return mr__context_blame(ctx, operation, &err);
}

void mr_dstream_set_partitions(struct mr_dstream *stream, uint32_t partition_count)
{
    if (stream == NULL || !mr__context_is_open(stream->ctx, "mr_dstream_set_partitions") ||
        !mr__partitions_are_good(stream->ctx, "mr_dstream_set_partitions", partition_count))
        return;
    stream->named->partition_count = partition_count;
}

/* ---- reducing ---- */

/* A pair stream, or the mistake sticks. */
bool mr__needs_pairs(struct mr_dstream *stream, const struct mr_fn *fn, const char *operation)
{
    struct mr_error err;
    char *columns;

    if (mr__is_pairs(stream->schema))
        return true;
    columns = mr_schema_print(stream->schema);
    MR_FAIL(&err, MR_CONFIG,
            "the stream has the columns '%s', not key and value; use mr_map_to_pair first",
            columns != NULL ? columns : "");
    mr_text_free(columns);
    mr__blame(stream->ctx, fn, operation, &err);
    return false;
}

/* The kernels of src/ops do a built-in: only the type of the result is found here. */
static struct mr_dstream *reduce_with_kernel(struct mr_dstream *pairs, const struct mr_fn *fn,
                                             const char *operation, enum mr_agg_kind agg,
                                             bool count_values)
{
    struct mr_dstream *stream =
        mr__stream_new(pairs->ctx, mr__lower_reduce_builtin, operation, &pairs, 1);
    struct mr_aggregate_spec spec;
    struct mr__agg_names names;
    struct mr_agg_layout *layout;
    struct mr_error err;

    if (stream == NULL)
        return NULL;
    stream->agg = agg;
    stream->count_values = count_values;
    mr__aggregate_spec(stream, &names, &spec);
    mr_error_clear(&err);
    if (mr_agg_layout_new(&spec, &layout, &err) != MR_OK) {
        mr__blame(pairs->ctx, fn, operation, &err);
        return NULL;
    }
    stream->schema = mr_schema_ref(layout->output);
    mr_agg_layout_free(layout);
    return stream;
}

bool mr__kernel_of(const struct mr_fn *fn, const struct mr_type *type, enum mr_agg_kind *ret_agg)
{
    bool orders_bytes = type->field_count == 0 && type->extension == NULL;

    /* Minima and maxima of lists, structs and objects are not what the kernels compare. */
    if (fn->kind != MR_FN_KIND_BUILTIN || (!orders_bytes && fn->builtin != MR_BUILTIN_COUNT))
        return false;
    switch (fn->builtin) {
    case MR_BUILTIN_SUM:
        *ret_agg = MR_AGG_SUM;
        return true;
    case MR_BUILTIN_MIN:
        *ret_agg = MR_AGG_MIN;
        return true;
    case MR_BUILTIN_MAX:
        *ret_agg = MR_AGG_MAX;
        return true;
    case MR_BUILTIN_COUNT:
        *ret_agg = MR_AGG_COUNT_ALL;
        return true;
    case MR_BUILTIN_NONE:
    case MR_BUILTIN_WORDS:
        break;
    }
    return false;
}

struct mr_dstream *mr__reduce(struct mr_dstream *pairs, const struct mr_fn *fn,
                              const char *operation)
{
    struct mr__function *function;
    struct mr_dstream *stream;
    enum mr_agg_kind agg;
    struct mr_error err;

    if (pairs == NULL || !mr__context_is_open(pairs->ctx, operation) ||
        !mr__needs_pairs(pairs, fn, operation))
        return NULL;
    if (mr__kernel_of(fn, mr__column_type(pairs->schema, 1), &agg))
        return reduce_with_kernel(pairs, fn, operation, agg, false);
    mr_error_clear(&err);
    if (mr__compile_reduce(&pairs->ctx->engines, operation, fn, pairs->schema, &function, &err) !=
        MR_OK) {
        mr__blame(pairs->ctx, fn, operation, &err);
        return NULL;
    }
    stream = mr__stream_new(pairs->ctx, mr__lower_reduce, operation, &pairs, 1);
    if (mr__with_function(stream, function) == NULL)
        return NULL;
    mr_schema_unref(stream->schema);
    stream->schema = mr_schema_ref(pairs->schema); /* the key again, and a value of the same type */
    return stream;
}

struct mr_dstream *mr_reduce_by_key(struct mr_dstream *pairs, struct mr_fn reduce)
{
    return mr__reduce(pairs, &reduce, "reduce_by_key");
}

struct mr_dstream *mr_count_by_value(struct mr_dstream *stream)
{
    const struct mr_fn none = {.kind = MR_FN_KIND_NONE};
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, "count_by_value"))
        return NULL;
    if (mr_schema_field_count(stream->schema) != 1) {
        MR_FAIL(&err, MR_CONFIG, "the elements have %u columns; map them to the one to count first",
                mr_schema_field_count(stream->schema));
        mr__context_blame(stream->ctx, "count_by_value", &err);
        return NULL;
    }
    return reduce_with_kernel(stream, &none, "count_by_value", MR_AGG_COUNT_ALL, true);
}

/* The aggregation of a REDUCE_BUILTIN stream; the spec borrows from names and the stream. */
void mr__aggregate_spec(const struct mr_dstream *stream, struct mr__agg_names *names,
                        struct mr_aggregate_spec *ret_spec)
{
    names->key = 0;
    names->key_name = "key";
    names->agg = (struct mr_agg){
        .kind = stream->agg, .column = stream->count_values ? 0 : 1, .name = "value"};
    *ret_spec = (struct mr_aggregate_spec){
        .input = stream->inputs[0]->schema,
        .keys = &names->key,
        .key_names = &names->key_name,
        .key_count = 1,
        .aggs = &names->agg,
        .agg_count = 1,
        .mode = MR_MODE_UPDATE,
        .state_name = stream->name,
        .event_time_key = -1,
    };
}
