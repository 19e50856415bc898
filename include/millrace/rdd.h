/*
 * Datasets: immutable, partitioned, computed when an action asks for them, recomputed from their
 * lineage when a task fails or a stored partition is lost (features D7; Spark's RDD).
 *
 *     struct mr_rdd *pairs = mr_rdd_map_to_pair(words, MR_COUNT);
 *     struct mr_rdd *counts = mr_rdd_reduce_by_key(pairs, MR_SUM);
 *     mr_rdd_take(counts, 10, &batch, err);
 *
 * They are what foreach_rdd and transform see of a stream, and can be made from data in memory.
 *
 * Building calls need no check: a mistake sticks to the dataset and every action on it, or on what
 * is made from it, returns it. A NULL dataset is ignored.
 *
 * Ownership: a dataset belongs to what made it. Made inside a function of foreach_rdd or transform
 * it lives as long as that call; made elsewhere as long as its session (or until mr_session_leave).
 * mr_rdd_ref keeps one for longer; each needs an mr_rdd_unref.
 *
 * Order: the same rows in the same partitions give the same rows in the same partitions, whatever
 * the threads do. What shuffles (by key, distinct, sorting) has as many partitions as its largest
 * input.
 *
 * Thread: a dataset may be used from any thread; actions run its tasks on the session's workers.
 */
#ifndef MILLRACE_RDD_H
#define MILLRACE_RDD_H

#include <millrace/fn.h>
#include <millrace/storage.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_session;

/* ---- Sessions ---- */

struct mr_session_options {
    unsigned workers;      /* threads that run tasks; 0 = cores */
    uint64_t memory_bytes; /* of stored partitions; 0 = 256 MiB */
    const char *spill_dir; /* for levels with disk; NULL = a directory of its own below TMPDIR */
    uint32_t task_tries;   /* 0 = 4 */
};
/* options NULL: defaults. A stream context has a session of its own (mr_context_session). */
MR_API enum mr_status mr_session_new(const struct mr_session_options *options,
                                     struct mr_session **ret_session, struct mr_error *err);
MR_API void mr_session_free(struct mr_session *session); /* NULL allowed */

/*
 * SQL over the views of the session (mr_rdd_create_view); any thread, also while batches run: a
 * query sees each view as it was when the query began. The result is computed at once.
 */
MR_API struct mr_rdd *mr_session_sql(struct mr_session *session, const char *sql);
MR_API void mr_session_drop_view(struct mr_session *session, const char *name);

/*
 * For threads that compute or query again and again: the datasets that this thread makes between
 * the two go with mr_session_leave, instead of with the session. In pairs, on one thread.
 */
MR_API enum mr_status mr_session_enter(struct mr_session *session, struct mr_error *err);
MR_API void mr_session_leave(struct mr_session *session);

/* ---- Making ---- */

/* The rows of a batch, in that many partitions (0 = one a worker); the batch is shared. */
MR_API struct mr_rdd *mr_rdd_parallelize(struct mr_session *session, const struct mr_batch *batch,
                                         uint32_t partition_count);
/* No rows and no partitions. */
MR_API struct mr_rdd *mr_rdd_empty(struct mr_session *session, const char *columns);
/* Lines of a file or of the files of a directory (part-*): one partition a file. */
MR_API struct mr_rdd *mr_rdd_text_file(struct mr_session *session, const char *path);
/* What mr_rdd_save_as_object_file wrote. */
MR_API struct mr_rdd *mr_rdd_object_file(struct mr_session *session, const char *path);

MR_API struct mr_rdd *mr_rdd_ref(struct mr_rdd *rdd);
MR_API void mr_rdd_unref(struct mr_rdd *rdd); /* NULL allowed */

/* ---- Looking ---- */

MR_API struct mr_session *mr_rdd_session(const struct mr_rdd *rdd);
MR_API const struct mr_schema *mr_rdd_schema(const struct mr_rdd *rdd); /* NULL: failed to build */
MR_API uint32_t mr_rdd_partition_count(const struct mr_rdd *rdd);
MR_API enum mr_status mr_rdd_error(const struct mr_rdd *rdd, struct mr_error *err);
/* With the partition: the id for idempotent and transactional output (OUT-7). 0 outside a batch. */
MR_API uint64_t mr_rdd_batch_id(const struct mr_rdd *rdd);

/* ---- Transformations ---- */

MR_API struct mr_rdd *mr_rdd_map(struct mr_rdd *rdd, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_flat_map(struct mr_rdd *rdd, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_filter(struct mr_rdd *rdd, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_map_to_pair(struct mr_rdd *rdd, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_map_partitions(struct mr_rdd *rdd, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_glom(struct mr_rdd *rdd); /* a list per partition */
MR_API struct mr_rdd *mr_rdd_union(struct mr_rdd *a, struct mr_rdd *b);
MR_API struct mr_rdd *mr_rdd_distinct(struct mr_rdd *rdd);
MR_API struct mr_rdd *mr_rdd_repartition(struct mr_rdd *rdd, uint32_t partition_count);
/* Over all partitions, by what the function gives; equal ones stay in their order. Null is first,
 * last when descending. */
MR_API struct mr_rdd *mr_rdd_sort_by(struct mr_rdd *rdd, struct mr_fn key, bool ascending);
MR_API struct mr_rdd *mr_rdd_sort_by_key(struct mr_rdd *pairs, bool ascending);
/* A whole SELECT over the table `input`, all partitions together; one partition comes out. */
MR_API struct mr_rdd *mr_rdd_sql(struct mr_rdd *rdd, const char *sql);

MR_API struct mr_rdd *mr_rdd_keys(struct mr_rdd *pairs);
MR_API struct mr_rdd *mr_rdd_values(struct mr_rdd *pairs);
MR_API struct mr_rdd *mr_rdd_map_values(struct mr_rdd *pairs, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_flat_map_values(struct mr_rdd *pairs, struct mr_fn fn);
MR_API struct mr_rdd *mr_rdd_group_by_key(struct mr_rdd *pairs); /* value: a list */
MR_API struct mr_rdd *mr_rdd_reduce_by_key(struct mr_rdd *pairs, struct mr_fn reduce);
MR_API struct mr_rdd *mr_rdd_combine_by_key(struct mr_rdd *pairs, struct mr_fn create,
                                            struct mr_fn merge_value, struct mr_fn merge_combiners);
/* The key is the element: its value, or a STRUCT of its columns. */
MR_API struct mr_rdd *mr_rdd_count_by_value(struct mr_rdd *rdd);
/* value: STRUCT("left", "right"), lists in cogroup; a side that may be missing is null. */
MR_API struct mr_rdd *mr_rdd_cogroup(struct mr_rdd *a, struct mr_rdd *b);
MR_API struct mr_rdd *mr_rdd_join(struct mr_rdd *a, struct mr_rdd *b);
MR_API struct mr_rdd *mr_rdd_left_outer_join(struct mr_rdd *a, struct mr_rdd *b);
MR_API struct mr_rdd *mr_rdd_right_outer_join(struct mr_rdd *a, struct mr_rdd *b);
MR_API struct mr_rdd *mr_rdd_full_outer_join(struct mr_rdd *a, struct mr_rdd *b);

/* ---- Storing (features D8) ---- */

/*
 * Computed partitions are kept. A memory-only partition that finds no room is computed again when
 * it is needed; with disk it goes to the spill directory; _2 keeps a second copy on disk.
 */
MR_API struct mr_rdd *mr_rdd_persist(struct mr_rdd *rdd, enum mr_storage_level level); /* rdd */
MR_API struct mr_rdd *mr_rdd_cache(struct mr_rdd *rdd); /* MEMORY_ONLY */
MR_API void mr_rdd_unpersist(struct mr_rdd *rdd);

/* ---- Actions: they compute ---- */

/* All rows as one batch. Returns new. */
MR_API enum mr_status mr_rdd_collect(struct mr_rdd *rdd, struct mr_batch **ret_batch,
                                     struct mr_error *err);
MR_API enum mr_status mr_rdd_count(struct mr_rdd *rdd, int64_t *ret_count, struct mr_error *err);
MR_API enum mr_status mr_rdd_is_empty(struct mr_rdd *rdd, bool *ret_empty, struct mr_error *err);
/* The first rows in partition order; no more partitions are computed than needed. Returns new. */
MR_API enum mr_status mr_rdd_take(struct mr_rdd *rdd, int64_t row_count,
                                  struct mr_batch **ret_batch, struct mr_error *err);
/* One row; MR_NOT_FOUND when there is none. Returns new. */
MR_API enum mr_status mr_rdd_first(struct mr_rdd *rdd, struct mr_batch **ret_batch,
                                   struct mr_error *err);
/* Of rows with one column. One row; MR_NOT_FOUND when the dataset is empty. Returns new. */
MR_API enum mr_status mr_rdd_reduce(struct mr_rdd *rdd, struct mr_fn reduce,
                                    struct mr_batch **ret_batch, struct mr_error *err);
/* One partition as one batch. Returns new. */
MR_API enum mr_status mr_rdd_partition(struct mr_rdd *rdd, uint32_t partition,
                                       struct mr_batch **ret_batch, struct mr_error *err);

/* On the workers, several partitions at once. A function that fails is called again for its
 * partition up to the session's task_tries; then the action fails. */
typedef enum mr_status (*mr_foreach_fn)(const struct mr_row *row, void *arg, struct mr_error *err);
MR_API enum mr_status mr_rdd_foreach(struct mr_rdd *rdd, mr_foreach_fn fn, void *arg,
                                     struct mr_error *err);
typedef enum mr_status (*mr_foreach_partition_fn)(struct mr_rows *rows, void *arg,
                                                  struct mr_error *err);
MR_API enum mr_status mr_rdd_foreach_partition(struct mr_rdd *rdd, mr_foreach_partition_fn fn,
                                               void *arg, struct mr_error *err);

/* A directory of part-00000 ... and _SUCCESS (OUT-3); replaces what a run before left there. */
MR_API enum mr_status mr_rdd_save_as_text_file(struct mr_rdd *rdd, const char *dir,
                                               struct mr_error *err);
MR_API enum mr_status mr_rdd_save_as_object_file(struct mr_rdd *rdd, const char *dir,
                                                 struct mr_error *err);
MR_API enum mr_status mr_rdd_save_as_parquet_file(struct mr_rdd *rdd, const char *dir,
                                                  struct mr_error *err);
/* A table of that name for SQL, until it is replaced or dropped; computes and keeps the rows. */
MR_API enum mr_status mr_rdd_create_view(struct mr_rdd *rdd, const char *name,
                                         struct mr_error *err);

/* ---- The task (Spark's TaskContext) ---- */

struct mr_task_info {
    uint64_t batch_id; /* with partition: the id of transactional output; 0 outside a batch */
    int64_t batch_time_ms;
    uint32_t partition;
    uint32_t attempt; /* 0, then counting up when the task runs again */
    unsigned worker;
};
/*
 * Of the function that this thread runs: one of a dataset, or of map, filter, flat_map,
 * map_partitions and map_values of a stream (partition and attempt are those of the batch then).
 * False: it runs none of them.
 */
MR_API bool mr_task_info(struct mr_task_info *ret_info);

#ifdef __cplusplus
}
#endif
#endif
