/*
 * Rows as JSON lines; see json_encode.c.
 */
#ifndef MR_FORMATS_JSON_ENCODE_H
#define MR_FORMATS_JSON_ENCODE_H

#include <millrace/ext/format.h>

enum mr_status mr__json_encode(const struct mr_options *options, const struct mr_batch *batch,
                               bool first,
                               enum mr_status (*write)(void *arg, const void *data,
                                                       size_t size_bytes, struct mr_error *err),
                               void *arg, struct mr_error *err);

#endif
