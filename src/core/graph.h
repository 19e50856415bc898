/*
 * The graph: what a front end builds and the driver runs. Nodes are made in order, inputs first;
 * names are the identity of state, sources and sinks in the checkpoint, so they must be stable and
 * unique.
 *
 *     source --> map* --> fold --> map* --> sink
 *
 * Thread: one builder; afterwards read-only.
 */
#ifndef MR_CORE_GRAPH_H
#define MR_CORE_GRAPH_H

#include "core/operator.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>
#include <millrace/storage.h>

struct mr_graph;
struct mr_node;

struct mr_graph *mr_graph_new(void);
/* frees operators, options and everything taken; NULL allowed */
void mr_graph_free(struct mr_graph *graph);

struct mr_source_spec {
    const char *name;
    const struct mr_source_connector *connector;
    struct mr_options *options;       /* takes */
    const struct mr_schema *declared; /* shares; NULL when the connector's schema is used */
    const struct mr_schema *schema;   /* shares: columns to produce */
    const struct mr_format *format;   /* NULL when it takes none */
    enum mr_on_error on_error;
    void *user;
    enum mr_storage_level level; /* of a receiver's blocks (docs/decisions/0015) */
};

struct mr_sink_spec {
    const char *name;
    const struct mr_sink_connector *connector;
    struct mr_options *options; /* takes */
    const struct mr_format *format;
    enum mr_output_mode mode;
    void *user;
};

/* All return the node, owned by the graph; what they take is freed by the graph, also on failure.
 * NULL err text never. */
enum mr_status mr_graph_source(struct mr_graph *graph, const struct mr_source_spec *spec,
                               struct mr_node **ret_node, struct mr_error *err);
/* The stream of records of a source that could not be decoded (schema mr_bad_schema); switches
 * routing on. */
enum mr_status mr_graph_bad_records(struct mr_graph *graph, struct mr_node *source,
                                    struct mr_node **ret_node, struct mr_error *err);
/* Several inputs of one schema: their union. Takes op (freed with ops->free). Shares schema. */
enum mr_status mr_graph_map(struct mr_graph *graph, const char *name, struct mr_node *const *inputs,
                            size_t input_count, const struct mr_schema *schema,
                            const struct mr_map_ops *ops, void *op, struct mr_node **ret_node,
                            struct mr_error *err);
enum mr_status mr_graph_fold(struct mr_graph *graph, const char *name,
                             struct mr_node *const *inputs, size_t input_count,
                             const struct mr_schema *schema, const struct mr_fold_ops *ops,
                             void *op, struct mr_node **ret_node, struct mr_error *err);
enum mr_status mr_graph_sink(struct mr_graph *graph, const struct mr_sink_spec *spec,
                             struct mr_node *const *inputs, size_t input_count,
                             struct mr_error *err);

/*
 * Slide of a node's output (DStreams): fires when (batch time - zero time) is a multiple. 0 = in
 * every batch in which an input does. A fold with a slide of its own fires by that alone, also when
 * its inputs have no dataset (windows, state); other nodes need an input that fires as well.
 */
void mr_node_set_slide(struct mr_node *node, int64_t slide_us);
/* A batch in which some of its inputs have a dataset and others have none is an error (unions);
 * with a slide, also a batch in which it is due and none of them has one. */
void mr_node_require_all(struct mr_node *node);
/* Declares this map node a watermark operator with that delay: its event times
 * (mr_output_event_times) move the watermark. */
void mr_node_set_watermark(struct mr_node *node, int64_t delay_us);
/* Do all task contexts of each of these nodes come before those of the next one? Then the rows of
 * a map over them are in that order. */
bool mr_nodes_in_order(struct mr_node *const *nodes, size_t node_count);
/*
 * What a node does, for people and for the comparison with a checkpoint (evolution.h). A meaning is
 * only told when it changed ("price > 3"); an identity is part of what the next fold's state means,
 * or that fold's own state ("output mode update", "windows of 10 s"): another one rebuilds it.
 * Copied; NULL or never: nothing to say; without memory it is left out.
 */
void mr_node_set_meaning(struct mr_node *node, const char *text);
void mr_node_set_identity(struct mr_node *node, const char *text);
/* What else a node does that an edit may change without a trace in the state ("columns 1, 0"): told
 * to nobody, only part of the fingerprint. */
void mr_node_set_detail(struct mr_node *node, const char *text);
/* The way up, for rules about chains of operators: inputs, enum mr_fold_traits (0 for others), and
 * whether it keeps state. */
size_t mr_node_input_count(const struct mr_node *node);
const struct mr_node *mr_node_input(const struct mr_node *node, size_t index);
unsigned mr_node_traits(const struct mr_node *node);
bool mr_node_keeps_state(const struct mr_node *node);
/* Do its rows come with an older watermark than the sources', or none (mr_fold_ops.output_watermark
 * of it or of something before it)? */
bool mr_node_moves_watermark(const struct mr_node *node);
const struct mr_schema *mr_node_schema(const struct mr_node *node);
const char *mr_node_name(const struct mr_node *node);

/* Hash of a text that changes whenever the meaning of the graph does: names, kinds, schemas,
 * meanings, identities, details. */
uint64_t mr_graph_fingerprint(const struct mr_graph *graph);

#endif
