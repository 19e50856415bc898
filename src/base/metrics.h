/*
 * Metrics are a table: name, kind, unit, help. Values are atomics in a struct mr_metrics of each
 * query; src/core adds to them, the progress document and docs/metrics.md read them. Thread: any.
 */
#ifndef MR_BASE_METRICS_H
#define MR_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

/* id, name, kind (counter, gauge), unit, help */
#define MR_METRIC_TABLE(X)                                                                         \
    X(BATCHES, "batches_committed", "counter", "batches", "Batches committed since start.")        \
    X(INPUT_ROWS, "input_rows", "counter", "rows", "Rows read from all sources.")                  \
    X(OUTPUT_ROWS, "output_rows", "counter", "rows", "Rows handed to all sinks.")                  \
    X(LATE_ROWS, "late_rows", "counter", "rows",                                                   \
      "Rows dropped because they were older than the watermark.")                                  \
    X(BAD_ROWS, "bad_rows", "counter", "rows",                                                     \
      "Records skipped or routed because they could not be decoded.")                              \
    X(TASK_RETRIES, "task_retries", "counter", "attempts", "Batches run again after a failure.")   \
    X(STATE_KEYS, "state_keys", "gauge", "keys", "Keys in all state stores.")                      \
    X(STATE_BYTES, "state_bytes", "gauge", "bytes", "Memory of all state stores.")                 \
    X(STATE_MEMORY_BYTES, "state_memory_bytes", "gauge", "bytes",                                  \
      "State of all queries of the process that is in memory.")                                    \
    X(STATE_SPILLED_BYTES, "state_spilled_bytes", "gauge", "bytes",                                \
      "State of all queries of the process that is in the spill file.")                            \
    X(MEMORY_BYTES, "memory_bytes", "gauge", "bytes",                                              \
      "Memory that the process's budget counts, of all queries.")                                  \
    X(LOG_SYNCS, "log_syncs", "counter", "calls", "Flushes of the batch log.")                     \
    X(SNAPSHOTS, "state_snapshots", "counter", "files", "State snapshots written.")                \
    X(RECEIVED_BLOCKS, "received_blocks", "counter", "blocks",                                     \
      "Blocks made durable by receivers.")                                                         \
    X(RECEIVED_BYTES, "received_bytes", "counter", "bytes", "Bytes made durable by receivers.")    \
    X(SPILLED_BLOCKS, "spilled_blocks", "counter", "blocks",                                       \
      "Received blocks written to spill files because memory was full.")                           \
    X(BLOCK_COPIES_LOST, "block_copies_lost", "counter", "copies",                                 \
      "Times one of the two copies of received blocks was lost or found damaged.")                 \
    X(BLOCK_COPIES_REPAIRED, "block_copies_repaired", "counter", "copies",                         \
      "Times a lost copy of received blocks was made again from the other.")                       \
    X(RECEIVER_RESTARTS, "receiver_restarts", "counter", "restarts",                               \
      "Times a receiver was started again.")                                                       \
    X(RECEIVER_DROPPED, "receiver_records_dropped", "counter", "records",                          \
      "Records that receivers left out: too long, or cut by the end of a connection.")             \
    X(MISSED_TRIGGERS, "missed_triggers", "counter", "triggers",                                   \
      "Trigger times that passed while a batch was running.")                                      \
    X(TEMP_FILES_REMOVED, "temp_files_removed", "counter", "files",                                \
      "Temporary files of dead processes removed at start.")                                       \
    X(LOG_LINES_LOST, "log_lines_lost", "counter", "lines",                                        \
      "Log lines of the process that could not be written.")                                       \
    X(WATERMARK_US, "watermark", "gauge", "microseconds", "Watermark in force, since the epoch.")

enum mr_metric {
#define X(id, name, kind, unit, help) MR_METRIC_##id,
    MR_METRIC_TABLE(X)
#undef X
        MR_METRIC_COUNT
};

struct mr_metrics {
    _Atomic int64_t values[MR_METRIC_COUNT];
};

struct mr_metric_info {
    const char *name;
    const char *kind;
    const char *unit;
    const char *help;
};
extern const struct mr_metric_info mr_metric_infos[MR_METRIC_COUNT];

static inline void mr_metric_add(struct mr_metrics *metrics, enum mr_metric metric, int64_t value)
{
    atomic_fetch_add_explicit(&metrics->values[metric], value, memory_order_relaxed);
}
static inline void mr_metric_set(struct mr_metrics *metrics, enum mr_metric metric, int64_t value)
{
    atomic_store_explicit(&metrics->values[metric], value, memory_order_relaxed);
}
static inline int64_t mr_metric_get(const struct mr_metrics *metrics, enum mr_metric metric)
{
    return atomic_load_explicit(&metrics->values[metric], memory_order_relaxed);
}

#endif
