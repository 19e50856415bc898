/*
 * Inputs: a connector becomes a stream (input.c). For those that have a building call of their own.
 */
#ifndef MR_DSTREAM_INPUT_H
#define MR_DSTREAM_INPUT_H

#include "dstream/streams.h"

/*
 * A stream of that connector; options are pairs key, value, ..., NULL, as in mr_connector_stream,
 * also `format` and `on_error`. columns NULL = the connector's own, or the format's. NULL: the
 * mistake sticks to the context.
 */
struct mr_dstream *mr__connect_as(struct mr_context *ctx, const char *operation,
                                  const struct mr_source_connector *connector, const char *columns,
                                  const char *const *options);
/* The same with a connector of the registry. */
struct mr_dstream *mr__connect_named(struct mr_context *ctx, const char *operation,
                                     const char *name, const char *columns,
                                     const char *const *options);

#endif
