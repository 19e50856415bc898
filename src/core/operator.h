/*
 * Operators: what the front ends put into a graph.
 *
 *   map   stateless, pure: batches of one partition in, batches out. Runs in tasks, on any worker,
 *         several partitions at once.
 *   fold  sees a whole batch at once and may keep state: runs on the driver when all its inputs are
 *         there, in partition order; its output has partitions of its own, on which the workers can
 *         work side by side.
 *
 * An operator must be deterministic: the same input batches, times and state give the same output
 * bytes.
 */
#ifndef MR_CORE_OPERATOR_H
#define MR_CORE_OPERATOR_H

#include "state/state.h"

#include <millrace/batch.h>

struct mr_output; /* where an operator emits to */

/* What a task or a fold may know about the batch it belongs to. */
struct mr_batch_info {
    uint64_t batch_id;
    uint32_t attempt;
    int64_t batch_time_us;
    /*
     * The two watermarks of the operator at hand in this batch (structured.md 7.5), INT64_MIN =
     * none: state at or below watermark_us may be evicted; rows at or below late_watermark_us are
     * late. They are those of its input: a join above may hold back what it passes on.
     */
    int64_t watermark_us;
    int64_t late_watermark_us;
    /* number of the task context in the batch: source partitions first, then those of the folds */
    uint32_t partition;
    /* 0 = the driver; below mr_query_config.workers_max: index for per-worker resources */
    unsigned worker;
};

/* Hands a batch on; shares it. Batches without rows are allowed and dropped. */
enum mr_status mr_output_emit(struct mr_output *out, const struct mr_batch *batch,
                              struct mr_error *err);
/* Event times that passed a watermark operator (microseconds); summed over all tasks of the
 * batch. */
void mr_output_event_times(struct mr_output *out, int64_t min_us, int64_t max_us, double sum_us,
                           uint64_t count);
/* Rows dropped as late by this operator: counted in the metrics, the progress document and the
 * log. */
void mr_output_late_rows(struct mr_output *out, uint64_t count);

struct mr_map_ops {
    size_t struct_size;
    const char *kind; /* "project", "watermark": for progress and errors */
    /* All three of begin, finish, end may be NULL. begin: once per partition and batch; *ret_task
     * is the task's own. */
    enum mr_status (*begin)(void *op, const struct mr_batch_info *info, void **ret_task,
                            struct mr_error *err);
    enum mr_status (*apply)(void *op, void *task, const struct mr_batch_info *info,
                            const struct mr_batch *batch, struct mr_output *out,
                            struct mr_error *err);
    enum mr_status (*finish)(void *op, void *task, const struct mr_batch_info *info,
                             struct mr_output *out,
                             struct mr_error *err); /* after the last batch of the partition */
    void (*end)(void *op, void *task);              /* always follows a begin that succeeded */
    void (*free)(void *op);
    /* begin and finish run for partitions that bring no rows, too (map_partitions, glom). */
    bool every_partition;
    /* The late rows that it reports are its output: routed, not dropped. */
    bool routes_late;
};

struct mr_fold_input {
    /* false: this input has no dataset in this batch (its slide does not fire) */
    bool present;
    struct mr_batch **batches; /* in partition order */
    size_t batch_count;
    /* Where the partitions end among the batches, those without rows too; only for operators with
     * wants_partitions. */
    size_t *partition_ends;
    uint32_t partition_count;
};

struct mr_fold_call {
    const struct mr_batch_info *info;
    const struct mr_fold_input *inputs;
    size_t input_count;
    /* output of this batch will be used; false: only take the input in (windows) */
    bool fires;
    struct mr_output *out;
    struct mr_output *outputs; /* one per partition; the kernel's: mr_fold_output */
    uint32_t partition_count;  /* of the output, in this batch */
};

/* What an operator shows of its state in the progress document (structured.md 22.1). */
enum { MR_FOLD_METRICS_MAX = 16 };
struct mr_fold_metric {
    const char *name; /* static: "numDroppedDuplicateRows" */
    int64_t value;    /* of the batch just run */
};
struct mr_fold_progress {
    uint64_t rows_total; /* in state, after the batch */
    uint64_t rows_updated;
    uint64_t rows_removed;
    uint64_t bytes;
    uint32_t store_count;
    struct mr_fold_metric metrics[MR_FOLD_METRICS_MAX];
    size_t metric_count;
};

struct mr_fold_ops {
    size_t struct_size;
    const char *kind;
    /* Claims its stores. Once, after the state was loaded. NULL: stateless fold. */
    enum mr_status (*open)(void *op, struct mr_state *state, struct mr_error *err);
    /* NULL is allowed when there is run_partition. */
    enum mr_status (*run)(void *op, struct mr_fold_call *call, struct mr_error *err);
    /*
     * Should a batch run without new data, now that the watermark of its input is this (INT64_MIN
     * = none) and the batch would have this time? (structured.md 7.6). NULL: never. Called before
     * open's first batch, too, when the checkpoint has one.
     */
    bool (*wants_batch)(void *op, int64_t watermark_us, int64_t batch_time_us);
    /* Watermark of its output when that of its input is this, never INT64_MIN (structured.md 7.5);
     * INT64_MIN = none. NULL: the same. */
    int64_t (*output_watermark)(void *op, int64_t watermark_us);
    /* Its part of the progress document, of the batch just prepared; zeroed before. NULL: from its
     * main store. */
    void (*progress)(void *op, struct mr_fold_progress *ret_progress);
    void (*free)(void *op);
    struct mr_store *(*store)(void *op); /* its main store, for progress; may be NULL */
    /* Partitions of its output, the same in every batch; NULL: 1. */
    uint32_t (*partition_count)(void *op);
    /* With less than MR_FOLD_SMALL_BYTES of planned input it has one partition instead: a batch of
     * a few rows is done before eight contexts are made (mr_fold_call.partition_count tells). */
    bool one_when_small;
    /*
     * After run, whenever that was called, once per partition, on any worker, several at once;
     * call->out and call->info are that partition's, the inputs those of run; run must not emit
     * then. NULL: run emits everything (mr_fold_output). Stores: the shards of one partition only
     * (state.h).
     */
    enum mr_status (*run_partition)(void *op, uint32_t partition, struct mr_fold_call *call,
                                    struct mr_error *err);
    /* Bytes that all partitions of this batch go through, an estimate: with less than
     * parallel_min_bytes no thread is woken. NULL: bytes of the inputs and of the main store.
     * Driver, after run. */
    uint64_t (*work_bytes)(void *op, const struct mr_fold_call *call);
    bool wants_partitions; /* of its inputs: mr_fold_input.partition_ends */
    /*
     * A store of it is in the checkpoint with other texts than it asked for now (open is under way:
     * what it wants is decided): can the entries be carried over? Fills *ret_adaption (state.h);
     * convert must not need the operator to be open. It is not asked when the kind differs. NULL:
     * such a store is rebuilt. Driver.
     */
    enum mr_status (*adapt)(void *op, const struct mr_store_change *change,
                            struct mr_store_adaption *ret_adaption, struct mr_error *err);
    /* What a front end must know of it to judge output modes and chains of stateful operators:
     * enum mr_fold_traits. NULL: 0. */
    unsigned (*traits)(void *op);
};

enum mr_fold_traits {
    MR_FOLD_MAP_GROUPS = 1,    /* functions with state of a key: one row a call */
    MR_FOLD_FLAT_APPEND = 2,   /* rows that are final */
    MR_FOLD_FLAT_UPDATE = 4,   /* rows that replace older ones of their key */
    MR_FOLD_EVENT_TIMEOUT = 8, /* may emit rows of any event time */
    MR_FOLD_TRANSFORM = 16,
    MR_FOLD_TIMELESS = 32, /* keeps state, but none that late rows could make wrong: a limit */
};

/* By what sources say of the ranges of the batch, which is the same when it runs again. */
enum { MR_FOLD_SMALL_BYTES = 4 * 1024 * 1024 };

/* Where `run` emits the rows of a partition of its output; call->out is partition 0. Driver. */
struct mr_output *mr_fold_output(struct mr_fold_call *call, uint32_t partition);

#endif
