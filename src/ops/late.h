/*
 * ON LATE INTO: the rows in front of a stateful operator, split by its late watermark.
 *
 * Thread: any; operators are read-only.
 */
#ifndef MR_OPS_LATE_H
#define MR_OPS_LATE_H

#include "ops/ops.h"

struct mr_late_spec {
    uint32_t column; /* of the input: TIMESTAMP or TIMESTAMP_NS, or a window: its field 'end' */
    int64_t add_us;  /* added to it before comparing with the late watermark */
    const char *operator_name; /* of the stateful operator; NULL: keep what is not late */
};

/* Those that are not late (operator_name NULL), or the late ones with the columns mr_watermark and
 * mr_operator behind theirs; the latter are counted as late rows of the node. */
enum mr_status mr_op_late(const struct mr_schema *input, const struct mr_late_spec *spec,
                          struct mr_map_op *ret_op, struct mr_error *err);

#endif
