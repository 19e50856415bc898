/*
 * Tables in memory: the `memory` source reads one, the `memory` sink writes one. For tests and for
 * programs that want the result of a query in their own process.
 *
 *     mr_memory_add --> source 'memory' --> query --> sink 'memory' --> mr_memory_rows
 *
 * A table is found by its name, lives until mr_memory_drop or the end of the process, and so
 * outlives a query: a query that is started again goes on where its checkpoint says, and the sink
 * still recognises the batches it has (exactly once).
 *
 * Thread: any; every call takes the table's lock for a short time.
 */
#ifndef MILLRACE_EXT_MEMORY_H
#define MILLRACE_EXT_MEMORY_H

#include <millrace/batch.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_memory;

/* The table of that name, made empty when there is none; the same pointer each time, owned by the
 * process. NULL without memory. Option `table` of the connectors (default: the name in CREATE
 * TABLE), or `user` of the source's or sink's spec. */
MR_API struct mr_memory *mr_memory_table(const char *name);
/* Frees the table of that name; nothing may use it any more. An unknown name is fine. */
MR_API void mr_memory_drop(const char *name);

/* Adds one step: rows that the source delivers as a unit (an empty batch is a step too). Shares
 * batch. All steps must have the same schema (MR_CONFIG). Wakes queries that read the table. */
MR_API enum mr_status mr_memory_add(struct mr_memory *table, const struct mr_batch *batch,
                                    struct mr_error *err);
/* Adds a step without a dataset (DStreams, DS-2), which is not the same as one without rows. */
MR_API enum mr_status mr_memory_add_absent(struct mr_memory *table, struct mr_error *err);
/* No more steps will come: a query over the table ends by itself once it has read them all. */
MR_API void mr_memory_end(struct mr_memory *table);

/* Steps added, or batches published by a sink. */
MR_API size_t mr_memory_step_count(struct mr_memory *table);
MR_API int64_t mr_memory_row_count(struct mr_memory *table);
/* Rows of one step and, for a sink's table, the id of the query's batch (-1 for steps added by
 * hand). *ret_batch is shared: the caller unrefs it; NULL for an absent step. False past the
 * end. */
MR_API bool mr_memory_step(struct mr_memory *table, size_t index, struct mr_batch **ret_batch,
                           int64_t *ret_batch_id);
/* All rows in order, as one batch. MR_STATE while the table has no schema yet (nothing was added).
 * Returns new. */
MR_API enum mr_status mr_memory_rows(struct mr_memory *table, struct mr_batch **ret_batch,
                                     struct mr_error *err);

/*
 * For the connectors. publish adds `batches` as steps of batch `batch_id` of that query in one go
 * (replace: instead of all rows there were); a batch id that this query has published before
 * changes nothing. Shares the batches.
 */
MR_API enum mr_status mr_memory_publish(struct mr_memory *table, const char *query_id,
                                        int64_t batch_id, bool replace,
                                        struct mr_batch *const *batches, size_t batch_count,
                                        struct mr_error *err);
/* The columns that rows will have, so that a table without rows yet can be read; nothing when it
 * has some. Any thread. */
MR_API void mr_memory_declare(struct mr_memory *table, const struct mr_schema *schema);
/* Highest batch id published by that query, or -1. */
MR_API int64_t mr_memory_last_published(struct mr_memory *table, const char *query_id);
/* The schema of the rows, or NULL when nothing was added yet. Returns a new reference. */
MR_API struct mr_schema *mr_memory_schema(struct mr_memory *table);
MR_API bool mr_memory_ended(struct mr_memory *table);
/* wake(arg) is called after each change, until it is taken away again. */
MR_API enum mr_status mr_memory_watch(struct mr_memory *table, void (*wake)(void *arg), void *arg,
                                      struct mr_error *err);
MR_API void mr_memory_unwatch(struct mr_memory *table, void *arg);

#ifdef __cplusplus
}
#endif
#endif
