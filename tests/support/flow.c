/*
 * See flow.h.  The fold keeps its sums in a store, so it stands for any stateful operator.
 */
#include "support/flow.h"

#include "base/alloc.h"
#include "base/check.h"
#include "plugins/plugins.h"

#include <stdlib.h>

struct sum_fold {
    struct mr_store *store;
    struct mr_schema *schema;
    const char *name;
};

static enum mr_status sum_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct sum_fold *fold = op;
    return mr_state_store(state, fold->name, "sum", "key BIGINT", "sum", &fold->store, err);
}

static int compare_ints(const void *a, const void *b)
{
    int64_t x, y;

    memcpy(&x, a, 8);
    memcpy(&y, b, 8);
    return (x > y) - (x < y);
}

static enum mr_status add_rows(struct sum_fold *fold, const struct mr_batch *batch, int64_t *keys,
                               size_t *key_count, struct mr_error *err)
{
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        int64_t key = mr_column_int(mr_batch_column(batch, 0), row);
        int64_t sum = mr_column_int(mr_batch_column(batch, 1), row);
        const char *old;
        size_t old_bytes;
        bool known = false;

        if (mr_store_get(fold->store, &key, 8, &old, &old_bytes)) {
            int64_t before;
            memcpy(&before, old, 8);
            sum += before;
        }
        for (size_t i = 0; i < *key_count; i++)
            known |= keys[i] == key;
        if (!known)
            keys[(*key_count)++] = key;
        MR_TRY(mr_store_put(fold->store, &key, 8, &sum, 8, err));
    }
    return MR_OK;
}

static enum mr_status sum_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct sum_fold *fold = op;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *out = NULL;
    int64_t keys[256];
    size_t key_count = 0;
    enum mr_status status;

    for (size_t i = 0; i < call->inputs[0].batch_count; i++)
        MR_TRY(add_rows(fold, call->inputs[0].batches[i], keys, &key_count, err));
    qsort(keys, key_count, 8, compare_ints);
    MR_TRY(mr_batch_builder_new(fold->schema, &builder, err));
    for (size_t i = 0; i < key_count; i++) {
        const char *value;
        size_t value_bytes;
        int64_t sum;

        MR_ASSERT(mr_store_get(fold->store, &keys[i], 8, &value, &value_bytes));
        memcpy(&sum, value, 8);
        mr_batch_builder_int(builder, 0, keys[i]);
        mr_batch_builder_int(builder, 1, sum);
        mr_batch_builder_end_row(builder);
    }
    status = mr_batch_builder_finish(builder, &out, err);
    if (status == MR_OK)
        status = mr_output_emit(call->out, out, err);
    mr_batch_unref(out);
    mr_batch_builder_free(builder);
    return status;
}

static void sum_free(void *op)
{
    struct sum_fold *fold = op;
    mr_schema_unref(fold->schema);
    mr_free(fold);
}

static const struct mr_fold_ops sum_ops = {.struct_size = sizeof(struct mr_fold_ops),
                                           .kind = "sum",
                                           .open = sum_open,
                                           .run = sum_run,
                                           .free = sum_free};

struct mr_schema *flow_pair_schema(void)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};
    const char *text = "k BIGINT, v BIGINT";

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    return schema;
}

struct mr_node *flow_add_sum(struct mr_graph *graph, struct mr_node *input, const char *name)
{
    struct sum_fold *fold = mr_alloc_zero(NULL, sizeof(*fold));
    struct mr_node *node = NULL;
    struct mr_error err = {0};

    CHECK_NOT_NULL(fold);
    fold->schema = flow_pair_schema();
    fold->name = name;
    CHECK_OK(mr_graph_fold(graph, name, &input, 1, fold->schema, &sum_ops, fold, &node, &err),
             &err);
    return node;
}

/* Cuts "key=value key=value" into pairs, in place. */
static size_t split_pairs(char *text, struct mr_option_pair *pairs, size_t room)
{
    size_t count = 0;

    for (char *at = text; *at != '\0' && count < room;) {
        char *equals = strchr(at, '=');
        char *end = at + strcspn(at, " ");
        bool last = *end == '\0';

        CHECK(equals != NULL && equals < end);
        *equals = *end = '\0';
        pairs[count++] = (struct mr_option_pair){at, equals + 1};
        at = last ? end : end + 1;
    }
    return count;
}

struct mr_options *flow_options(const char *owner, const struct mr_option *options, size_t count,
                                const struct mr_format *format, const char *pairs)
{
    const struct mr_option_table own = {owner, options, count};
    const struct mr_option_table of_format = {"format", format != NULL ? format->options : NULL,
                                              format != NULL ? format->option_count : 0};
    const struct mr_option_table *tables[] = {&own, &of_format};
    struct mr_option_pair list[16];
    char text[1024];
    struct mr_options *parsed = NULL;
    struct mr_error err = {0};

    snprintf(text, sizeof(text), "%s", pairs);
    CHECK_OK(mr_options_parse(tables, format != NULL ? 2 : 1, list,
                              split_pairs(text, list, MR_ARRAY_SIZE(list)), 0, &parsed, &err),
             &err);
    return parsed;
}

struct mr_graph *flow_sum_graph(const struct flow_end *source, const struct flow_end *sink,
                                const char *fold_name)
{
    struct mr_graph *graph = mr_graph_new();
    struct mr_schema *schema = flow_pair_schema();
    struct mr_source_spec source_spec = {
        .name = source->name, .declared = schema, .schema = schema};
    struct mr_sink_spec sink_spec = {.name = sink->name, .mode = MR_MODE_UPDATE};
    struct mr_node *node, *fold;
    struct mr_error err = {0};

    mr_plugins_register();
    source_spec.connector = mr_source_find(source->connector);
    source_spec.format = source_spec.connector->takes_format ? mr_format_find("json") : NULL;
    source_spec.user = source->user;
    source_spec.options =
        flow_options(source->connector, source_spec.connector->options,
                     source_spec.connector->option_count, source_spec.format, source->options);
    sink_spec.connector = mr_sink_find(sink->connector);
    sink_spec.format = sink_spec.connector->takes_format ? mr_format_find("json") : NULL;
    sink_spec.user = sink->user;
    sink_spec.options =
        flow_options(sink->connector, sink_spec.connector->options,
                     sink_spec.connector->option_count, sink_spec.format, sink->options);
    CHECK_OK(mr_graph_source(graph, &source_spec, &node, &err), &err);
    fold = flow_add_sum(graph, node, fold_name);
    CHECK_OK(mr_graph_sink(graph, &sink_spec, &fold, 1, &err), &err);
    mr_schema_unref(schema);
    return graph;
}
