/*
 * Small pieces for tests of the kernel: a summing fold, options from pairs, files of pairs.
 *
 *     source (k BIGINT, v BIGINT) -> flow_sum: the keys it changed with their sums -> sink
 */
#ifndef MR_TESTS_SUPPORT_FLOW_H
#define MR_TESTS_SUPPORT_FLOW_H

#include "core/query.h"
#include "support/test.h"

#include <millrace/ext/options.h>

/* The schema "k BIGINT, v BIGINT"; the caller unrefs it. */
struct mr_schema *flow_pair_schema(void);

/* Options of a connector (and a format, NULL = none), parsed from "key=value key=value". */
struct mr_options *flow_options(const char *owner, const struct mr_option *options, size_t count,
                                const struct mr_format *format, const char *pairs);

/* Adds a fold that sums v by k under that state name. */
struct mr_node *flow_add_sum(struct mr_graph *graph, struct mr_node *input, const char *name);

/* A graph: connector source -> sum -> connector sink, both with format json when they take one. */
struct flow_end {
    const char *name; /* of the table */
    const char *connector;
    const char *options; /* "key=value key=value" */
    void *user;
};
struct mr_graph *flow_sum_graph(const struct flow_end *source, const struct flow_end *sink,
                                const char *fold_name);

#endif
