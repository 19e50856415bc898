/*
 * Operators without a query: batches written as text, an output that records, and a partial
 * aggregate with its fold over a volatile state.
 *
 *     rows are separated by ';', fields by '|':   "10s|Bonn;12s|null"
 *     timestamps are microseconds, or seconds with an 's'
 *
 * The same form comes out again, so a test compares strings. Failures of the harness itself fail
 * the test.
 */
#ifndef MR_TESTS_SUPPORT_OPS_HARNESS_H
#define MR_TESTS_SUPPORT_OPS_HARNESS_H

#include "ops/ops.h"
#include "support/test.h"

/* A batch of the schema ("ts TIMESTAMP, city VARCHAR") with those rows. */
struct mr_batch *ops_batch(const char *schema, const char *rows);
/* Appends the rows of a batch to out, in the form above. */
void ops_print(struct mr_buf *out, const struct mr_batch *batch);
struct mr_schema *ops_schema(const char *text);

/* What an operator emitted. It is the struct mr_output of core/operator.h for programs that link
 * this file. */
struct mr_output {
    struct mr_buf text;
    struct mr_batch **batches;
    size_t batch_count;
    int64_t rows;
    uint64_t late_rows;
    uint64_t event_count;
    int64_t event_min_us;
    int64_t event_max_us;
    double event_sum_us;
};
void ops_output_release(struct mr_output *out);

/* Runs a map operator over one batch as one partition, frees the operator, returns what came out
 * (freed at the end of the test). */
const char *ops_map(struct mr_map_op *op, struct mr_batch *batch);

/* partial aggregates of several partitions, one fold, one state */
struct ops_flow {
    const char *dir;
    struct mr_state *state;
    struct mr_map_op partial;
    struct mr_fold_op fold;
    struct mr_output out; /* of the last batch */
    uint64_t batch_id;
    int64_t watermark_us; /* of the batch to run */
    int64_t late_watermark_us;
    struct mr_schema *input;
    void (*make)(struct ops_flow *flow, void *arg); /* NULL: an aggregation */
    void *make_arg;
    bool sharded; /* batches are run as large ones are: a shard of the store a partition */
};
/* spec->input is made from the text. The state is volatile; dir is not written to. */
void ops_flow_open(struct ops_flow *flow, const char *dir, const char *schema,
                   struct mr_aggregate_spec *spec);
/* With other operators: make sets flow->fold, and flow->partial if there is one (else rows go to
 * the fold as they are). Restarts take spec NULL. */
void ops_flow_open_with(struct ops_flow *flow, const char *dir, const char *schema,
                        void (*make)(struct ops_flow *flow, void *arg), void *arg);
/* One batch: each non-NULL text is a partition. Commits. Returns the rows emitted. */
const char *ops_flow_batch(struct ops_flow *flow, const char *const *partitions, size_t count);
const char *ops_flow_rows(struct ops_flow *flow, const char *rows); /* one partition */
/* The batch whose commit failed: state is rolled back, the id stays. */
enum mr_status ops_flow_run(struct ops_flow *flow, const char *const *partitions, size_t count,
                            struct mr_error *err);
void ops_flow_commit(struct ops_flow *flow);
void ops_flow_rollback(struct ops_flow *flow);
/* New operators over a new state with the same content, as after a restart. */
void ops_flow_restart(struct ops_flow *flow, struct mr_aggregate_spec *spec);
uint64_t ops_flow_groups(struct ops_flow *flow);
void ops_flow_close(struct ops_flow *flow);

#endif
