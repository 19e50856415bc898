/*
 * Inside of datasets (<millrace/rdd.h>).
 *
 *   session.c   sessions, scopes, slots      task.c       jobs on workers, tries, mr_task_info
 *   dataset.c   life, lineage, looking       source.c     from memory and from files
 *   map.c       one partition to one         shuffle.c    all partitions to all
 *   keyed.c     shuffles of pairs            order.c      repartition, sort
 *   action.c    what computes                save.c       directories of parts
 *   persist.c   stored partitions            block_store.c  where they are
 *   sql.c       views and queries            pairs.h      kernels
 *
 * A dataset knows its kind, its inputs and how many partitions it has; nothing is computed before
 * an action. An action prepares (shuffles of its lineage, deepest first), then runs a task for each
 * partition; a task asks its inputs for their partitions, down to what is stored or shuffled.
 *
 * Locks, none held while a function of the program runs: session->lock, scope->lock,
 * shuffle->lock, the block store's; build_lock is held while a function is compiled.
 */
#ifndef MR_RDD_RDD_H
#define MR_RDD_RDD_H

#include "base/limits.h"
#include "fn/fn.h"
#include "rdd/block_store.h"
#include "rdd/pairs.h"

#include <millrace/rdd.h>

#include <stdatomic.h>

enum {
    MR_RDD_PARTITIONS_MAX = MR_LIMIT_DATASET_PARTITIONS,
    MR_RDD_DEPTH_MAX = MR_LIMIT_DATASET_LINEAGE, /* of a lineage: computing is recursive */
};

struct mr__task;

/* ---- kinds of datasets ---- */

struct mr__rdd_kind {
    const char *name; /* "map", for errors */
    /* Appends the rows of a partition. Any worker, several partitions at once. */
    enum mr_status (*compute)(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                              struct mr__batches *ret_rows, struct mr_error *err);
    /* What must be there before a partition can be computed, its inputs being prepared; may run
     * tasks. NULL: nothing. */
    enum mr_status (*prepare)(struct mr_rdd *rdd, struct mr_error *err);
    /* Does prepare have nothing to do, so that its inputs need not be prepared either? */
    bool (*is_prepared)(struct mr_rdd *rdd);
    void (*free)(struct mr_rdd *rdd); /* of own; NULL: there is nothing */
};

struct mr_rdd {
    atomic_uint references;
    struct mr_session *session;
    const struct mr__rdd_kind *kind;
    struct mr_schema *schema; /* NULL: failed to build */
    struct mr_error error;    /* why */
    uint32_t partition_count;
    uint32_t depth; /* of the lineage */
    struct mr_rdd **inputs;
    uint32_t input_count;
    struct mr__compiled *compiled; /* its function; NULL: none */
    void *own;                     /* the kind's */
    uint64_t batch_id;
    int64_t time_us; /* of the batch; outside of one, when it was made */
    bool in_batch;
    uint64_t id; /* in the block store */
    _Atomic(enum mr_storage_level) level;
    atomic_bool was_kept; /* some of it may be in the store */
    struct mr_rdd *next;  /* of its scope */
};

/*
 * A new dataset of a kind on the session of its inputs (or the one given), owned by the scope of
 * this thread. A mistake of an input is taken over: its schema stays NULL then, and the caller
 * returns it as it is. NULL only without memory.
 */
struct mr_rdd *mr__rdd_new(struct mr_session *session, const struct mr__rdd_kind *kind,
                           struct mr_rdd *const *inputs, uint32_t input_count);
/* The mistake sticks; returns rdd. schema must not be set yet. */
struct mr_rdd *mr__rdd_blame(struct mr_rdd *rdd, const struct mr_fn *fn, enum mr_status status,
                             struct mr_error *err);
/* Completes it; takes schema. */
struct mr_rdd *mr__rdd_ready(struct mr_rdd *rdd, struct mr_schema *schema,
                             uint32_t partition_count);
/* Rows of a partition, from the store or computed; appended. */
enum mr_status mr__rdd_rows(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                            struct mr__batches *ret_rows, struct mr_error *err);
/* Are all its partitions in the store now? */
bool mr__rdd_is_kept(struct mr_rdd *rdd);
/* Shuffles of the lineage. */
enum mr_status mr__rdd_prepare(struct mr_rdd *rdd, struct mr_error *err);
/* Rows of all partitions, in order. */
enum mr_status mr__rdd_collect(struct mr_rdd *rdd, struct mr__batches *ret_rows,
                               struct mr_error *err);
/* The same as an array of partition_count lists, which the caller frees. */
enum mr_status mr__rdd_collect_partitions(struct mr_rdd *rdd, struct mr__batches **ret_lists,
                                          struct mr_error *err);
/* Rows that are there: what a stream hands to a function. partitions are taken (the array and the
 * lists), also on failure. */
struct mr_rdd *mr__rdd_of_batches(struct mr_session *session, const struct mr_schema *schema,
                                  struct mr__batches *partitions, uint32_t partition_count,
                                  uint64_t batch_id, int64_t batch_time_us);

/* ---- what is done once for all partitions ---- */

/* A dataset's own result that all of its partitions need: made by the first thread that asks, while
 * others wait. After a failure the next one tries again. */
struct mr__once {
    struct mr_mutex lock;
    struct mr_cond changed;
    enum { MR__ONCE_NEW, MR__ONCE_RUNNING, MR__ONCE_DONE } state;
};
void mr__once_init(struct mr__once *once);
void mr__once_release(struct mr__once *once);
bool mr__once_is_done(struct mr__once *once);
enum mr_status mr__once_run(struct mr__once *once, struct mr_rdd *rdd,
                            enum mr_status (*run)(struct mr_rdd *rdd, struct mr_error *err),
                            struct mr_error *err);

/* ---- scopes: who owns the datasets that a thread makes ---- */

struct mr__scope {
    struct mr_mutex lock;
    struct mr_rdd *first;
    struct mr__scope *outer;          /* of the thread that entered */
    const struct mr_session *entered; /* by mr_session_enter; else NULL */
    bool in_batch;
    uint64_t batch_id;
    int64_t batch_time_us;
};
/* Around a function of the program that gets datasets of a batch: what it makes lives until leave.
 * On the thread that calls it; tasks of its actions make theirs in it too. */
void mr__scope_enter(struct mr__scope *scope, uint64_t batch_id, int64_t batch_time_us);
void mr__scope_leave(struct mr__scope *scope);

/* ---- tasks (task.c) ---- */

struct mr__task {
    struct mr_task_info info;
    struct mr__when when; /* slot and time, for functions */
    struct mr__task *outer;
};
typedef enum mr_status (*mr__task_fn)(struct mr__task *task, void *arg, struct mr_error *err);

/*
 * Calls fn for the partitions [first, first + count), on the workers and on this thread; on this
 * thread alone when it runs a task already. A call that fails is made again, up to task_tries times
 * in all; then the others end and the failure is returned, of the lowest partition that failed.
 */
enum mr_status mr__run_tasks(struct mr_rdd *rdd, uint32_t first, uint32_t count, mr__task_fn fn,
                             void *arg, struct mr_error *err);

/* For mr_task_info: around functions of streams, on a thread of the kernel. */
void mr__task_enter_stream(struct mr__task *task, const struct mr_batch_info *info);
void mr__task_enter(struct mr__task *task, const struct mr_task_info *info);
void mr__task_leave(struct mr__task *task);

/* ---- sessions (session.c) ---- */

struct mr__view {
    atomic_uint references;
    char *name;
    struct mr_schema *schema;
    struct mr__batches rows;
};

/* A table that a statement may name; schema and batches are borrowed. */
struct mr__table {
    const char *name;
    const struct mr_schema *schema;
    struct mr_batch *const *batches;
    size_t batch_count;
};
/* Columns of a SELECT over tables (of which only names and schemas matter), with the engine of slot
 * 0. Returns new. */
enum mr_status mr__sql_columns(struct mr__engines *engines, const char *sql,
                               const struct mr__table *tables, size_t table_count,
                               struct mr_schema **ret_schema, struct mr_error *err);
/* Runs it on this thread; rows are appended. ret_schema (NULL allowed): new. */
enum mr_status mr__sql_run(struct mr_session *session, const char *sql,
                           const struct mr__table *tables, size_t table_count, int64_t time_us,
                           struct mr__batches *ret_rows, struct mr_schema **ret_schema,
                           struct mr_error *err);

struct mr__job;
struct mr__compiled;

struct mr_session {
    atomic_uint references; /* of who made it, and of each dataset */
    struct mr_env *env;
    unsigned worker_count;
    uint32_t task_tries;
    struct mr__scope root;
    struct mr__block_store *blocks;
    atomic_uint_fast64_t next_id;

    struct mr_mutex build_lock; /* slot 0 of the engines; compiled functions */
    struct mr__engines engines;
    struct mr__compiled *compiled;
    size_t compiled_count;

    struct mr_mutex lock; /* guards what follows */
    struct mr_cond changed;
    uint64_t slots; /* bit i: slot i is taken */
    struct mr__job *jobs;
    struct mr_thread **threads;
    unsigned thread_count;
    bool closing;
    struct mr__view **views;
    size_t view_count;
};

/* With an environment of its own, for tests and contexts. */
enum mr_status mr__session_new_on(struct mr_env *env, const struct mr_session_options *options,
                                  struct mr_session **ret_session, struct mr_error *err);
struct mr_session *mr__session_ref(struct mr_session *session);
void mr__session_unref(struct mr_session *session);
/* A number below MR_FN_WORKERS_MAX for this thread's evaluations, until it is given back. */
unsigned mr__slot_take(struct mr_session *session);
void mr__slot_give(struct mr_session *session, unsigned slot);
void mr__views_release(struct mr_session *session);

/* ---- compiled functions (compiled.c) ---- */

/* Functions are kept by what they are made of, so that the same call in the next batch finds its
 * statements ready. */
enum mr__operation {
    MR__MAP,
    MR__MAP_TO_PAIR,
    MR__FLAT_MAP,
    MR__FILTER,
    MR__MAP_PARTITIONS,
    MR__MAP_VALUES,
    MR__FLAT_MAP_VALUES,
    MR__REDUCE_BY_KEY,
    MR__REDUCE,
    MR__SORT_BY,
    MR__SQL, /* a whole statement over the table `input` */
};
/* Compiles it, or finds it. input: the schema of what it is applied to. Give back with
 * mr__compiled_unref. */
enum mr_status mr__compiled_get(struct mr_session *session, enum mr__operation operation,
                                const struct mr_fn *fn, const struct mr_schema *input,
                                struct mr__compiled **ret_compiled, struct mr_error *err);
void mr__compiled_unref(struct mr_session *session, struct mr__compiled *compiled);
struct mr__function *mr__compiled_function(const struct mr__compiled *compiled);
void mr__compiled_release_all(struct mr_session *session);

#endif
