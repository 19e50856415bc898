/*
 * Native operators with state besides the aggregation of ops.h: session windows, deduplication,
 * LIMIT. Constructors as there.
 *
 *     sessions   scan -> session window -> partial aggregate ==> session fold -> project -> sink
 *     others     scan -> ==> dedup fold -> ...        scan -> local limit ==> limit fold -> ...
 */
#ifndef MR_OPS_STATEFUL_H
#define MR_OPS_STATEFUL_H

#include "ops/ops.h"

/*
 * Session windows (structured.md 12). The map operator puts [time, time + gap) in front of each row
 * as two TIMESTAMP columns; rows without a time or a gap, or with a gap that is not positive, are
 * left out.
 */
struct mr_session_window_spec {
    uint32_t column;    /* TIMESTAMP or TIMESTAMP_NS */
    int32_t gap_column; /* BIGINT, microseconds, of each row; -1: gap_us for all */
    int64_t gap_us;
    const char *start_name;
    const char *end_name;
};
enum mr_status mr_op_session_window(const struct mr_schema *input,
                                    const struct mr_session_window_spec *spec,
                                    struct mr_map_op *ret_op, struct mr_error *err);
/*
 * Partials (mr_op_aggregate_partial) whose last two keys are start and end of a row's session: the
 * fold merges sessions of the other keys that overlap or touch, with all their aggregates. append
 * emits and removes sessions that the watermark has reached; complete emits everything and keeps
 * it; update is MR_CONFIG. Late: end <= late watermark. event_time_key of the spec: the end, or -1
 * without a watermark. Emission order: by key, then start, in small batches; in large ones by the
 * hashes of the keys where there are many.
 */
enum mr_status mr_op_session_fold(const struct mr_aggregate_spec *spec, struct mr_fold_op *ret_op,
                                  struct mr_error *err);

/*
 * Deduplication (structured.md 13): the first row of a key passes. Rows whose time is at or below
 * the late watermark are dropped and counted. Keys leave the state when the watermark reaches their
 * time, if the time column is one of them; within: when it reaches the time of the first row +
 * delay_us; else never.
 */
struct mr_dedup_spec {
    const struct mr_schema *input;
    const uint32_t *keys; /* input columns */
    uint32_t key_count;
    const char *const *key_identities; /* in the checkpoint; NULL: names of the columns */
    const char *state_name;
    int32_t time_column; /* event time of a row (TIMESTAMP, TIMESTAMP_NS), -1 = none */
    int64_t time_add_us; /* added to it first (window size when it is a start) */
    bool within;
    int64_t delay_us;
};
enum mr_status mr_op_dedup(const struct mr_dedup_spec *spec, struct mr_fold_op *ret_op,
                           struct mr_error *err);

/* LIMIT (structured.md 17): the first rows_max rows of the query's whole life. The map operator
 * passes at most that many of a partition, so that the fold gets no more. */
enum mr_status mr_op_local_limit(const struct mr_schema *input, uint64_t rows_max,
                                 struct mr_map_op *ret_op, struct mr_error *err);
enum mr_status mr_op_limit(const struct mr_schema *input, uint64_t rows_max, const char *state_name,
                           struct mr_fold_op *ret_op, struct mr_error *err);

#endif
