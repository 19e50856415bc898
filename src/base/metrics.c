/*
 * The table of metrics as data, for the progress document, the metrics page and docs; see
 * metrics.h. Thread: any.
 */
#include "base/metrics.h"

const struct mr_metric_info mr_metric_infos[MR_METRIC_COUNT] = {
#define X(id, name, kind, unit, help) [MR_METRIC_##id] = {name, kind, unit, help},
    MR_METRIC_TABLE(X)
#undef X
};
