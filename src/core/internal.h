/*
 * Inside of src/core: the structs behind graph.h and query.h.
 *
 *   graph.c       building                     receiver.c   receivers as replayable sources
 *   task.c        one partition, its maps      progress.c   the document per batch
 *   workers.c     threads that run jobs        open.c       checkpoint, state, sources, sinks
 *   batch.c       the life of one batch        query.c      triggers, the loop, stopping
 *   watermark.c   event time, per operator
 *   fold.c        folds and their partitions   sinks.c      numbering, writing, publishing
 *   evolution.c   the graph and its checkpoint compared, the manifest
 *   events.c      telling listeners            control.c    looking and steering, from any thread
 *
 * Thread: everything belongs to the driver, except what a comment says.
 */
#ifndef MR_CORE_INTERNAL_H
#define MR_CORE_INTERNAL_H

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "core/doing.h"
#include "core/evolution.h"
#include "core/graph.h"
#include "core/operator.h"
#include "core/query.h"
#include "env/thread.h"
#include "wal/batch_log.h"
#include "wal/block_log.h"
#include "wal/checkpoint.h"

#include <stdatomic.h>

enum { MR_NODES_MAX = MR_LIMIT_OPERATORS };

enum mr_node_kind { MR_NODE_SOURCE, MR_NODE_BAD, MR_NODE_MAP, MR_NODE_FOLD, MR_NODE_SINK };

/* An edge from a producer to a consumer; batches that wait for a fold or a sink are collected per
 * edge. */
struct mr_edge {
    struct mr_node *from;
    struct mr_node *to;
    uint32_t id;
    uint32_t port; /* index into to->inputs */
};

/* A source while the query runs. */
struct mr_source_run {
    struct mr_source_spec spec; /* strings owned by the graph */
    struct mr_schema *schema;
    struct mr_source *object;
    const struct mr_source_ops *ops;
    struct mr_store *store; /* behind kv */
    struct mr_kv *kv;
    struct mr_node *bad; /* where bad records go, NULL = nowhere */
    char *start;         /* offsets of the batch being run; end becomes start at the commit */
    char *end;
    char *previous; /* start of the batch committed last, for progress */
    struct mr_node *node;
    uint64_t work_bytes;
    /* time of the newest batch in which there was more than before; of the first one since the
     * start when there was none */
    int64_t moved_us;
    uint64_t rows; /* of this batch: driver, after the tasks */
    uint64_t bad_rows;
    int64_t last_error_log_us;
    _Atomic int64_t rate; /* records a second, 0 = no limit; any thread. Receivers have their own */
};

struct mr_sink_run {
    uint32_t index; /* among the sinks, in graph order */
    struct mr_sink_spec spec;
    struct mr_sink *object;
    int64_t last_published;
    bool skip;  /* batch already published: recognised (query, N) */
    bool begun; /* between begin and publish: abort is owed */
    char *receipt;
    uint64_t rows;
    /* Of the batch being run: number of the first partition of each origin, per node id. */
    uint32_t *bases;
    uint32_t partition_count;
};

struct mr_node {
    enum mr_node_kind kind;
    uint32_t id;
    char *name;
    char *meaning;  /* mr_node_set_meaning; may be NULL */
    char *identity; /* mr_node_set_identity; may be NULL */
    char *detail;   /* mr_node_set_detail; may be NULL */
    struct mr_schema *schema;
    struct mr_node **inputs;
    size_t input_count;
    struct mr_edge **consumers;
    size_t consumer_count;
    struct mr_edge **in_edges;
    int64_t slide_us; /* own; 0 = as inputs */
    bool requires_all;
    bool fires;               /* in the batch being run */
    struct mr_node **origins; /* sources and folds in whose task contexts its rows can be */
    uint32_t origin_count;
    /* sources and folds, in the batch being run: task contexts in which their rows begin */
    uint32_t task_count;
    const struct mr_map_ops *map;
    const struct mr_fold_ops *fold;
    void *op;
    bool is_watermark;
    int64_t watermark_delay_us;
    int64_t watermark_us; /* of this node, INT64_MIN = none yet */
    /* The watermarks of its input in the batch being run (structured.md 7.5). */
    int64_t evict_input_us;
    int64_t late_input_us;
    int64_t reach_us; /* scratch of watermark.c: what it passes on */
    struct mr_source_run *source;
    struct mr_sink_run *sink;
    int64_t run_us; /* folds: time of the batch being run */
    /* Of the batch being run, merged from the tasks. */
    uint64_t late_rows;
    uint64_t event_count;
    int64_t event_min_us;
    int64_t event_max_us;
    double event_sum_us;
};

struct mr_graph {
    struct mr_node **nodes; /* in order: inputs come first */
    uint32_t node_count;
    struct mr_edge **edges;
    uint32_t edge_count;
};

struct mr_batch_list {
    struct mr_batch **batches;
    size_t count;
    size_t capacity;
};
enum mr_status mr__batch_list_add(struct mr_batch_list *list, const struct mr_batch *batch,
                                  struct mr_error *err);
void mr__batch_list_release(struct mr_batch_list *list);

/* What one task gathered about a node. */
struct mr_node_stats {
    uint64_t late_rows;
    uint64_t event_count;
    int64_t event_min_us;
    int64_t event_max_us;
    double event_sum_us;
};

/*
 * A task context: one source partition, or one partition of a fold's output, on its way through
 * the map operators. Owned by one thread at a time: the worker that runs it, then the driver.
 */
struct mr_task {
    struct mr_query *query;
    struct mr_batch_info info;
    struct mr_node *origin; /* source or fold */
    uint32_t index;         /* partition of the origin */
    void **map_tasks;       /* per node id: what begin gave */
    bool *begun;            /* per node id */
    /* per edge id: batches waiting for a fold or for the driver to write to a sink */
    struct mr_batch_list *collected;
    struct mr_node_stats *stats; /* per node id */
    uint64_t rows;
    uint64_t bad_rows;
    uint64_t *sink_rows; /* per node id */
};

/* Where an operator of a task emits to. */
struct mr_output {
    struct mr_task *task;
    struct mr_node *node;
};

enum mr_status mr__task_init(struct mr_task *task, struct mr_query *query, struct mr_node *origin,
                             uint32_t index, struct mr_error *err);
void mr__task_release(struct mr_task *task);
/* reads its source partition */
enum mr_status mr__task_run(struct mr_task *task, struct mr_error *err);
/* Is there a way from the task's source or fold to this node, by map operators only? */
bool mr__task_reaches(const struct mr_task *task, const struct mr_node *node);
enum mr_status mr__task_finish_maps(struct mr_task *task, struct mr_error *err);
enum mr_status mr__push(struct mr_task *task, struct mr_node *from, const struct mr_batch *batch,
                        struct mr_error *err);

/* Workers: threads that take jobs in index order. The owner, the driver say, helps as worker 0. */
struct mr_workers;
typedef enum mr_status (*mr__job_fn)(void *arg, size_t index, unsigned worker,
                                     struct mr_error *err);
/* count: workers, the owner included; it can become max. */
enum mr_status mr__workers_new(unsigned count, unsigned max, struct mr_workers **ret_workers,
                               struct mr_error *err);
/* Between runs: threads that are too many end, missing ones start when they are needed. */
void mr__workers_resize(struct mr_workers *workers, unsigned count);
unsigned mr__workers_count(const struct mr_workers *workers);
unsigned mr__workers_threads(
    const struct mr_workers *workers); /* that there are, besides the owner */
void mr__workers_free(struct mr_workers *workers);
/* Runs fn(arg, 0 .. count - 1); the error of the lowest failed index is returned. wake: use the
 * other threads too. */
enum mr_status mr__workers_run(struct mr_workers *workers, mr__job_fn fn, void *arg, size_t count,
                               bool wake, struct mr_error *err);

/* The numbers behind a progress document: taken after each batch, made into text when somebody
 * asks. */
struct mr_report_source {
    char *start;
    char *end;
    char *latest;
    char *description; /* of the batch's range; NULL = none */
    int64_t rows_behind;
    int64_t newest_us; /* time of the newest record or event read; INT64_MIN = not known */
    uint64_t rows;
    uint64_t bad_rows;
};
struct mr_report_fold {
    bool has_state;
    struct mr_fold_progress progress;
    int64_t run_us;
};
/* A map node that is a watermark operator. */
struct mr_report_watermark {
    const char *source; /* the graph's; NULL: no source alone stands before it */
    int64_t watermark_us;
    int64_t delay_us;
    bool is_idle; /* left out of the minimum */
};
struct mr_report_sink {
    char *receipt;
    uint64_t rows;
};
struct mr_report_node {
    uint64_t late_rows;
    union {
        struct mr_report_source source;
        struct mr_report_fold fold;
        struct mr_report_sink sink;
        struct mr_report_watermark watermark;
    };
};
struct mr_report {
    uint64_t batch_id;
    int64_t timestamp_us;
    int64_t reported_us; /* when the numbers were taken */
    int64_t since_us;    /* from the trigger before to this one; 0 = there was none */
    int64_t duration_us;
    int64_t plan_us;
    int64_t log_us;
    int64_t run_us;
    int64_t commit_us;
    uint64_t input_rows;
    bool has_watermark;
    int64_t watermark_us;
    bool has_events;
    int64_t event_avg_us;
    int64_t event_min_us;
    int64_t event_max_us;
    struct mr_report_node *nodes; /* per node id; NULL: none to report yet, or no memory for it */
};

/* A batch that runs for so long is told of when somebody asks. */
enum { RUNNING_TOLD_US = 1000000 };

enum mr_stop { MR_STOP_NONE, MR_STOP_GRACEFUL, MR_STOP_NOW };

struct mr_query {
    struct mr_env *env;
    struct mr_graph *graph;
    struct mr_query_config config;
    char *name;
    char *settings; /* pinned, JSON */
    struct mr_checkpoint checkpoint;
    bool durable;
    char run_id[37];
    struct mr_batch_log *log; /* NULL when not durable */
    struct mr_state *state;
    struct mr_workers *workers;
    struct mr_workers *publishers; /* NULL: outputs publish one after the other */
    struct mr_metrics metrics;
    uint32_t epoch;
    uint64_t fingerprint;

    struct mr_doings doings;

    uint64_t next_batch; /* number of the next batch to plan */
    /* plan holds a batch that is planned (in the log, if durable) and not committed */
    bool has_plan;
    struct mr_plan plan;
    uint64_t last_commit_sum;
    uint64_t plan_sum;
    int64_t last_batch_time_us;
    int64_t watermark_us;      /* for the next batch */
    int64_t judged_us;         /* time of the batch after which that was settled */
    int64_t last_watermark_us; /* in force in the last batch: the late watermark of the next */
    int64_t zero_time_us;
    uint64_t batches_done;
    bool any_batch_ran;
    /* The checkpoint is of another version of the query: the first commit makes it this one, so a
     * batch runs even without new data. */
    bool settles;
    /* graceful stop: receivers have stopped, what they stored is still being run */
    bool draining;
    int64_t draining_since_us; /* monotonic */
    int64_t stop_wall_us;      /* when a graceful stop was asked for; guarded by lock */
    bool frozen_done;          /* CAUGHT_UP, ONCE: nothing more to do */
    int64_t down_since_us;     /* monotonic; when a peer became unavailable, 0 = all there */
    uint32_t attempt;

    /* For events: the batch that is told of; after a commit the plan may be the next one's. */
    uint64_t told_batch_id;
    int64_t told_batch_time_us;
    uint32_t told_attempt;
    int64_t submitted_us;
    int64_t started_us;
    int64_t run_began_us;
    bool backlog_told; /* that batches wait; until none does */
    struct mr_mutex
        event_lock; /* held while a listener is called; no other lock is taken under it */

    /* For progress. */
    int64_t trigger_start_us;
    int64_t previous_trigger_start_us;
    int64_t
        trigger_mono_us; /* the same moment as trigger_start_us by the monotonic clock; 0 = none */
    int64_t last_progress_us;
    int64_t duration_plan_us;
    int64_t duration_log_us;
    int64_t duration_run_us;
    int64_t duration_commit_us;
    uint64_t batch_input_rows;
    uint64_t batch_output_rows;
    uint64_t batch_late_rows;
    uint64_t batch_bad_rows;

    /* TICK: time of the batch that runs, or ran last. Any thread reads it. */
    _Atomic int64_t running_time_us;

    _Atomic unsigned wanted_workers; /* from the next batch on; any thread */

    /*
     * A stop that does not wait for the batch. Any thread. The deadline is by the monotonic clock,
     * 0 = none; past it the batch is interrupted.
     */
    _Atomic bool interrupted;
    _Atomic int64_t stop_deadline_ns;

    /* Guarded by lock: written by any thread. */
    struct mr_mutex lock;
    struct mr_cond wake;
    bool woken;
    enum mr_stop stop;
    struct mr_report report; /* numbers of the newest progress document */
};

/* open.c */
void mr__choose_source_ops(struct mr_graph *graph);
/* The store of a source that remembers things; nothing for others. */
enum mr_status mr__source_store_open(struct mr_node *node, struct mr_state *state,
                                     struct mr_error *err);
enum mr_status mr__query_open_parts(struct mr_query *query, struct mr_error *err);
void mr__query_close_parts(struct mr_query *query);

/* evolution.c */
struct mr__comparing {
    struct mr_env *env;
    struct mr_graph *graph;
    struct mr_state *state;      /* loaded; its stores are not claimed yet */
    const struct mr_plan *plan;  /* the newest one of the checkpoint */
    bool has_commit;             /* else nothing was kept yet */
    enum mr_on_change on_change; /* judges only when it is not KEEP */
    const char *accept;
    const char *checkpoint_dir; /* for errors */
};
/*
 * Compares, and opens every operator of the graph on the way: each claims its stores, which become
 * what was accepted. MR_CONFIG when something is not accepted; *ret_evolution is set then as well
 * (mr_evolution_free).
 */
enum mr_status mr__evolution_open(const struct mr__comparing *comparing,
                                  struct mr_evolution **ret_evolution, struct mr_error *err);
/* Puts what the graph is into the manifest. */
enum mr_status mr__manifest_write(const struct mr_graph *graph, struct mr_state *state,
                                  struct mr_error *err);

/* batch.c */
/* Plans the next batch and appends PLAN to the log (not synced). *ret_planned false: nothing to
 * do. */
enum mr_status mr__batch_plan(struct mr_query *query, int64_t batch_time_us, bool always,
                              bool *ret_planned, struct mr_error *err);
/* Runs query->plan to its COMMIT in the log (not synced); clears has_plan. */
enum mr_status mr__batch_run(struct mr_query *query, struct mr_error *err);
void mr__batch_abort(struct mr_query *query);
enum mr_status mr__batch_after_commit(struct mr_query *query, struct mr_error *err);
/* MR_STOPPED: the batch shall not go on. Any thread; between pieces of work, not at a commit. */
enum mr_status mr__check_interrupt(struct mr_query *query, struct mr_error *err);
enum mr_status mr__failpoint(struct mr_query *query, const char *point, struct mr_error *err);

bool mr__same_offset(const char *a, const char *b); /* NULL allowed */

/* watermark.c */
/* Both watermarks of every node for the planned batch. */
void mr__watermarks_place(struct mr_query *query);
/* Watermark after this batch (structured.md 7.2). */
int64_t mr__watermark_next(struct mr_query *query);
/* Is it left out of the minimum, as its sources are idle? Also of a batch just run. */
bool mr__watermark_is_idle(const struct mr_query *query, const struct mr_node *node);
/* The watermarks of the nodes into a commit, after mr__watermark_next; and back at a start. */
enum mr_status mr__watermark_keep(const struct mr_query *query, struct mr_commit *commit,
                                  struct mr_error *err);
void mr__watermark_restore(struct mr_query *query, const struct mr_commit *commit);
/* plan_check.c: fields of the log's last PLAN that no plan can have. MR_CORRUPT. */
enum mr_status mr__plan_check(const struct mr_query *query, const struct mr_recovered *recovered,
                              bool run_again, struct mr_error *err);

/* The source in front of a watermark operator, or NULL when more than maps of it are between. */
const struct mr_source_run *mr__watermark_source(const struct mr_node *node);
/* Does some operator want a batch without new data? */
bool mr__watermark_wants_batch(struct mr_query *query, int64_t batch_time_us);

/* events.c: nothing happens while nobody listens. failure: NULL = none. Any thread. */
void mr__event_batch(struct mr_query *query, enum mr_query_event_kind kind, const char *failure);
/* Returns when it is; that is the started_us of its completion. */
#define MR_OUTPUT_STARTS INT64_MIN
int64_t mr__event_output(struct mr_query *query, const struct mr_node *node, int64_t started_us,
                         const char *failure);
void mr__event_receiver(struct mr_query *query, enum mr_query_event_kind kind, const char *name,
                        const struct mr_receiver_state *state);

/* fold.c */
/* Counts the task contexts of each fold that runs in this batch; returns how many in all.
 * input_bytes: planned. */
size_t mr__folds_split(struct mr_query *query, uint64_t input_bytes);
enum mr_status mr__folds_run(struct mr_query *query, struct mr_task *tasks, size_t *task_count,
                             struct mr_error *err);

/* sinks.c */
enum mr_status mr__sinks_begin(struct mr_query *query, struct mr_error *err);
/* The sink's own number of a task's partition. Any thread. */
uint32_t mr__sink_partition(const struct mr_sink_run *sink, const struct mr_task *task);
enum mr_status mr__sinks_write(struct mr_query *query, const struct mr_task *tasks,
                               size_t task_count, struct mr_error *err);
enum mr_status mr__sinks_stage(struct mr_query *query, struct mr_error *err);
enum mr_status mr__sinks_publish(struct mr_query *query, struct mr_error *err);
void mr__sinks_abort(struct mr_query *query);

/* query.c */
void mr__phase(struct mr_query *query, enum mr_query_phase phase, const char *name);

/* progress.c */
void mr__progress_report(struct mr_query *query, bool idle);
void mr__progress_release(struct mr_query *query);

/* receiver.c: a receiver as a source. min_last: newest block that a PLAN names. */
enum mr_status mr__receiver_source_open(struct mr_query *query, struct mr_source_run *run,
                                        uint64_t min_last, struct mr_source **ret_source,
                                        struct mr_error *err);
extern const struct mr_source_ops mr__receiver_source_ops;
/* Stops taking data in, makes what was taken durable. Driver. */
void mr__receiver_source_drain(struct mr_source *source);
/* Its data has an end (stdin) that was not reached yet. Driver. */
bool mr__receiver_source_unended(struct mr_source *source);

#endif
