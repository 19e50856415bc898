/*
 * Building graphs: see graph.h. The front ends call the constructors in order; each new node links
 * itself behind its inputs, so the node array is a topological order, which the runner relies on.
 *
 * Ownership: the graph takes operators and options even when a constructor fails, so that a caller
 * has one case.
 */
#include "core/internal.h"

#include "base/buf.h"
#include "base/hash.h"

#include <string.h>

struct mr_graph *mr_graph_new(void)
{
    return mr_alloc_zero(NULL, sizeof(struct mr_graph));
}

static void source_run_free(struct mr_source_run *run)
{
    if (run == NULL)
        return;
    mr_options_free(run->spec.options);
    mr_schema_unref((struct mr_schema *)run->spec.declared);
    mr_schema_unref(run->schema);
    mr_free(run->start);
    mr_free(run->end);
    mr_free(run->previous);
    mr_free(run);
}

static void sink_run_free(struct mr_sink_run *run)
{
    if (run == NULL)
        return;
    mr_options_free(run->spec.options);
    mr_free(run->receipt);
    mr_free(run->bases);
    mr_free(run);
}

static void node_free(struct mr_node *node)
{
    if (node == NULL)
        return;
    if (node->map != NULL && node->map->free != NULL)
        node->map->free(node->op);
    if (node->fold != NULL && node->fold->free != NULL)
        node->fold->free(node->op);
    if (node->kind == MR_NODE_SOURCE)
        source_run_free(node->source);
    sink_run_free(node->sink);
    mr_schema_unref(node->schema);
    mr_free(node->inputs);
    mr_free(node->in_edges);
    mr_free(node->consumers);
    mr_free(node->origins);
    mr_free(node->meaning);
    mr_free(node->identity);
    mr_free(node->detail);
    mr_free(node->name);
    mr_free(node);
}

void mr_graph_free(struct mr_graph *graph)
{
    if (graph == NULL)
        return;
    for (uint32_t i = graph->node_count; i > 0; i--)
        node_free(graph->nodes[i - 1]);
    for (uint32_t i = 0; i < graph->edge_count; i++)
        mr_free(graph->edges[i]);
    mr_free(graph->nodes);
    mr_free(graph->edges);
    mr_free(graph);
}

/* Grows a pointer array by one. */
static bool push_pointer(void ***array, size_t count, void *pointer)
{
    void **grown = mr_realloc(NULL, *array, (count + 1) * sizeof(void *));
    if (grown == NULL)
        return false;
    grown[count] = pointer;
    *array = grown;
    return true;
}

static bool connect_nodes(struct mr_graph *graph, struct mr_node *from, struct mr_node *to,
                          uint32_t port)
{
    struct mr_edge *edge = mr_alloc_zero(NULL, sizeof(*edge));
    if (edge == NULL)
        return false;
    edge->from = from;
    edge->to = to;
    edge->port = port;
    edge->id = graph->edge_count;
    if (!push_pointer((void ***)&graph->edges, graph->edge_count, edge)) {
        mr_free(edge);
        return false;
    }
    graph->edge_count++;
    if (!push_pointer((void ***)&from->consumers, from->consumer_count, edge))
        return false;
    from->consumer_count++;
    to->in_edges[port] = edge;
    return true;
}

static bool name_is_taken(const struct mr_graph *graph, enum mr_node_kind kind, const char *name)
{
    for (uint32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->kind == kind && strcmp(graph->nodes[i]->name, name) == 0)
            return true;
    }
    return false;
}

/*
 * Sources and folds are their own origins; the others have those of their inputs. Bad records are
 * in the tasks of their source: mr_graph_bad_records says so. False: out of memory.
 */
static bool find_origins(const struct mr_graph *graph, struct mr_node *node)
{
    bool *marks = mr_alloc_zero(NULL, graph->node_count * sizeof(*marks));
    uint32_t count = 0;

    if (marks == NULL)
        return false;
    if (node->kind == MR_NODE_SOURCE || node->kind == MR_NODE_FOLD)
        marks[node->id] = true;
    for (size_t k = 0; node->kind != MR_NODE_FOLD && k < node->input_count; k++) {
        for (uint32_t i = 0; i < node->inputs[k]->origin_count; i++)
            marks[node->inputs[k]->origins[i]->id] = true;
    }
    for (uint32_t i = 0; i < graph->node_count; i++)
        count += marks[i];
    node->origins = mr_alloc(NULL, ((size_t)count + 1) * sizeof(*node->origins));
    for (uint32_t i = 0; node->origins != NULL && i < graph->node_count; i++) {
        if (marks[i])
            node->origins[node->origin_count++] = graph->nodes[i];
    }
    mr_free(marks);
    return node->origins != NULL;
}

/* Makes the node and links it; on failure everything made here is gone again, but op and options
 * are the caller's to free. */
static enum mr_status add_node(struct mr_graph *graph, enum mr_node_kind kind, const char *name,
                               struct mr_node *const *inputs, size_t input_count,
                               const struct mr_schema *schema, struct mr_node **ret_node,
                               struct mr_error *err)
{
    struct mr_node *node;

    if (graph->node_count >= MR_NODES_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot add operator '%s': a query has at most %d operators",
                       name, MR_NODES_MAX);
    if (kind != MR_NODE_BAD && name_is_taken(graph, kind, name))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot add '%s': the name is used twice; give each a name of its own",
                       name);
    for (size_t i = 1; i < input_count; i++) {
        if (kind != MR_NODE_FOLD && !mr_schema_equal(inputs[0]->schema, inputs[i]->schema))
            return MR_FAIL(err, MR_CONFIG, "cannot unite the inputs of '%s': their columns differ",
                           name);
    }
    node = mr_alloc_zero(NULL, sizeof(*node));
    if (node == NULL)
        goto no_memory;
    node->kind = kind;
    node->id = graph->node_count;
    node->watermark_us = INT64_MIN;
    node->name = mr_strdup(name);
    node->schema = mr_schema_ref(schema);
    node->inputs = mr_alloc_zero(NULL, (input_count + 1) * sizeof(*node->inputs));
    node->in_edges = mr_alloc_zero(NULL, (input_count + 1) * sizeof(*node->in_edges));
    if (node->name == NULL || node->inputs == NULL || node->in_edges == NULL)
        goto no_memory;
    if (!push_pointer((void ***)&graph->nodes, graph->node_count, node))
        goto no_memory;
    graph->node_count++;
    for (size_t i = 0; i < input_count; i++) {
        node->inputs[i] = inputs[i];
        node->input_count++;
        if (!connect_nodes(graph, inputs[i], node, (uint32_t)i))
            return MR_FAIL(err, MR_NOMEM, "cannot add operator '%s': out of memory", name);
    }
    if (!find_origins(graph, node))
        return MR_FAIL(err, MR_NOMEM, "cannot add operator '%s': out of memory", name);
    *ret_node = node;
    return MR_OK;

no_memory:
    node_free(node);
    return MR_FAIL(err, MR_NOMEM, "cannot add operator '%s': out of memory", name);
}

enum mr_status mr_graph_source(struct mr_graph *graph, const struct mr_source_spec *spec,
                               struct mr_node **ret_node, struct mr_error *err)
{
    struct mr_node *node;
    struct mr_source_run *run = mr_alloc_zero(NULL, sizeof(*run));
    enum mr_status status;

    if (run == NULL) {
        mr_options_free(spec->options);
        return MR_FAIL(err, MR_NOMEM, "cannot add source '%s': out of memory", spec->name);
    }
    status = add_node(graph, MR_NODE_SOURCE, spec->name, NULL, 0, spec->schema, &node, err);
    if (status != MR_OK) {
        mr_options_free(spec->options);
        mr_free(run);
        return status;
    }
    run->spec = *spec;
    run->spec.name = node->name;
    run->spec.declared = spec->declared != NULL ? mr_schema_ref(spec->declared) : NULL;
    run->schema = mr_schema_ref(spec->schema);
    run->spec.schema = run->schema;
    run->node = node;
    node->source = run;
    *ret_node = node;
    return MR_OK;
}

enum mr_status mr_graph_bad_records(struct mr_graph *graph, struct mr_node *source,
                                    struct mr_node **ret_node, struct mr_error *err)
{
    MR_ASSERT(source->kind == MR_NODE_SOURCE);
    if (source->source->bad == NULL) {
        struct mr_node *node;
        MR_TRY(add_node(graph, MR_NODE_BAD, source->name, NULL, 0, mr_bad_schema(), &node, err));
        node->source = source->source;
        node->origins[node->origin_count++] = source;
        source->source->bad = node;
        source->source->spec.on_error = MR_ON_ERROR_ROUTE;
    }
    *ret_node = source->source->bad;
    return MR_OK;
}

enum mr_status mr_graph_map(struct mr_graph *graph, const char *name, struct mr_node *const *inputs,
                            size_t input_count, const struct mr_schema *schema,
                            const struct mr_map_ops *ops, void *op, struct mr_node **ret_node,
                            struct mr_error *err)
{
    struct mr_node *node;
    enum mr_status status =
        add_node(graph, MR_NODE_MAP, name, inputs, input_count, schema, &node, err);

    if (status != MR_OK) {
        if (ops->free != NULL)
            ops->free(op);
        return status;
    }
    node->map = ops;
    node->op = op;
    *ret_node = node;
    return MR_OK;
}

enum mr_status mr_graph_fold(struct mr_graph *graph, const char *name,
                             struct mr_node *const *inputs, size_t input_count,
                             const struct mr_schema *schema, const struct mr_fold_ops *ops,
                             void *op, struct mr_node **ret_node, struct mr_error *err)
{
    struct mr_node *node;
    enum mr_status status =
        add_node(graph, MR_NODE_FOLD, name, inputs, input_count, schema, &node, err);

    if (status != MR_OK) {
        if (ops->free != NULL)
            ops->free(op);
        return status;
    }
    node->fold = ops;
    node->op = op;
    *ret_node = node;
    return MR_OK;
}

enum mr_status mr_graph_sink(struct mr_graph *graph, const struct mr_sink_spec *spec,
                             struct mr_node *const *inputs, size_t input_count,
                             struct mr_error *err)
{
    struct mr_node *node;
    struct mr_sink_run *run = mr_alloc_zero(NULL, sizeof(*run));
    enum mr_status status;

    if (run == NULL) {
        mr_options_free(spec->options);
        return MR_FAIL(err, MR_NOMEM, "cannot add sink '%s': out of memory", spec->name);
    }
    status = add_node(graph, MR_NODE_SINK, spec->name, inputs, input_count, inputs[0]->schema,
                      &node, err);
    if (status != MR_OK) {
        mr_options_free(spec->options);
        mr_free(run);
        return status;
    }
    run->spec = *spec;
    run->spec.name = node->name;
    run->last_published = -1;
    for (uint32_t i = 0; i < node->id; i++)
        run->index += graph->nodes[i]->kind == MR_NODE_SINK;
    node->sink = run;
    return MR_OK;
}

void mr_node_set_slide(struct mr_node *node, int64_t slide_us)
{
    MR_ASSERT(slide_us >= 0);
    node->slide_us = slide_us;
}

void mr_node_require_all(struct mr_node *node)
{
    node->requires_all = true;
}

void mr_node_set_watermark(struct mr_node *node, int64_t delay_us)
{
    MR_ASSERT(node->kind == MR_NODE_MAP && delay_us >= 0);
    char *meaning = mr_asprintf("watermark with a delay of %lld ms", (long long)(delay_us / 1000));

    mr_node_set_meaning(node, meaning);
    mr_free(meaning);
    node->is_watermark = true;
    node->watermark_delay_us = delay_us;
}

static void set_text(char **text, const char *value)
{
    mr_free(*text);
    *text = value != NULL ? mr_strdup(value) : NULL;
}

void mr_node_set_meaning(struct mr_node *node, const char *text)
{
    set_text(&node->meaning, text);
}

void mr_node_set_identity(struct mr_node *node, const char *text)
{
    set_text(&node->identity, text);
}

void mr_node_set_detail(struct mr_node *node, const char *text)
{
    set_text(&node->detail, text);
}

/* Where the task contexts of a node are in a batch: those of sources first, then those of folds. */
static void context_range(const struct mr_node *node, uint64_t *first, uint64_t *last)
{
    for (uint32_t i = 0; i < node->origin_count; i++) {
        const struct mr_node *origin = node->origins[i];
        uint64_t place = (origin->kind == MR_NODE_FOLD ? (uint64_t)1 << 32 : 0) + origin->id;

        *first = MR_MIN(*first, place);
        *last = MR_MAX(*last, place);
    }
}

bool mr_nodes_in_order(struct mr_node *const *nodes, size_t node_count)
{
    for (size_t i = 0; i + 1 < node_count; i++) {
        uint64_t first = UINT64_MAX, last = 0, next_first = UINT64_MAX, next_last = 0;

        context_range(nodes[i], &first, &last);
        context_range(nodes[i + 1], &next_first, &next_last);
        if (last >= next_first)
            return false;
    }
    return true;
}

size_t mr_node_input_count(const struct mr_node *node)
{
    return node->input_count;
}

const struct mr_node *mr_node_input(const struct mr_node *node, size_t index)
{
    MR_ASSERT(index < node->input_count);
    return node->inputs[index];
}

unsigned mr_node_traits(const struct mr_node *node)
{
    return node->kind == MR_NODE_FOLD && node->fold->traits != NULL ? node->fold->traits(node->op)
                                                                    : 0;
}

bool mr_node_keeps_state(const struct mr_node *node)
{
    return node->kind == MR_NODE_FOLD && node->fold->open != NULL;
}

bool mr_node_moves_watermark(const struct mr_node *node)
{
    if (node->kind == MR_NODE_FOLD && node->fold->output_watermark != NULL &&
        node->fold->output_watermark(node->op, 0) != 0)
        return true;
    for (size_t i = 0; i < node->input_count; i++) {
        if (mr_node_moves_watermark(node->inputs[i]))
            return true;
    }
    return false;
}

const struct mr_schema *mr_node_schema(const struct mr_node *node)
{
    return node->schema;
}

const char *mr_node_name(const struct mr_node *node)
{
    return node->name;
}

uint64_t mr_graph_fingerprint(const struct mr_graph *graph)
{
    struct mr_buf text = MR_BUF_INIT;
    uint64_t sum;

    for (uint32_t i = 0; i < graph->node_count; i++) {
        const struct mr_node *node = graph->nodes[i];
        const char *kind = node->map != NULL    ? node->map->kind
                           : node->fold != NULL ? node->fold->kind
                                                : "";
        char *schema = mr_schema_print(node->schema);

        mr_buf_printf(&text, "%d %s %s (%s)", (int)node->kind, node->name, kind,
                      schema != NULL ? schema : "");
        for (size_t k = 0; k < node->input_count; k++)
            mr_buf_printf(&text, " <%s", node->inputs[k]->name);
        mr_buf_printf(&text, " | %s | %s | %s", node->meaning != NULL ? node->meaning : "",
                      node->identity != NULL ? node->identity : "",
                      node->detail != NULL ? node->detail : "");
        mr_buf_add_char(&text, '\n');
        mr_text_free(schema);
    }
    sum = mr_checksum(text.data != NULL ? text.data : "", text.size);
    mr_buf_release(&text);
    return sum;
}
