/*
 * Inside of a batch, for src/data and for modules that make batches around foreign memory (DuckDB,
 * Arrow).
 */
#ifndef MR_DATA_BATCH_INTERNAL_H
#define MR_DATA_BATCH_INTERNAL_H

#include <millrace/batch.h>

/*
 * Makes a batch whose columns borrow from `owner`, which release_owner(owner) drops when the last
 * reference goes. The column structs themselves are copied deeply (children too); the buffers are
 * not. Returns new; takes owner also on failure.
 */
enum mr_status mr_batch_wrap(const struct mr_schema *schema, const struct mr_column *columns,
                             int64_t row_count, void *owner, void (*release_owner)(void *owner),
                             struct mr_batch **ret_batch, struct mr_error *err);

/* A batch with no rows. Returns new. */
enum mr_status mr_batch_empty(const struct mr_schema *schema, struct mr_batch **ret_batch,
                              struct mr_error *err);

#endif
