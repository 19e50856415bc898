/*
 * A pool of connections for outputs: opened when first needed, shared by all partitions and
 * batches, closed when they were not used for a while (the guide's pattern for foreachPartition).
 *
 *     static enum mr_status write_rows(struct mr_rows *rows, void *arg, struct mr_error *err)
 *     {
 *         struct mr_pool *pool = arg;
 *         void *connection;
 *
 *         MR_TRY(mr_pool_take(pool, &connection, err));
 *         ...
 *         mr_pool_give(pool, connection, failed);
 *
 * Thread: any. open, close and check are called without a lock, in the thread that takes or gives.
 */
#ifndef MILLRACE_POOL_H
#define MILLRACE_POOL_H

#include <millrace/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mr_pool;

struct mr_pool_options {
    enum mr_status (*open)(void *arg, void **ret_connection, struct mr_error *err);
    void (*close)(void *arg, void *connection);
    /* Is an idle connection still good? Asked before it is used again; NULL = yes. */
    bool (*check)(void *arg, void *connection);
    void *arg;
    unsigned connections_max; /* who needs one more waits for another to be given back; 0 = 16 */
    int64_t idle_ms; /* unused for that long: closed by the next call on the pool; 0 = 60 s */
};

/* Copies options. MR_CONFIG without open or close. */
MR_API enum mr_status mr_pool_new(const struct mr_pool_options *options, struct mr_pool **ret_pool,
                                  struct mr_error *err);
/* Closes what is idle; all connections must have been given back. NULL allowed. */
MR_API void mr_pool_free(struct mr_pool *pool);

/* The connection used last that is idle and good, else a new one; errors are those of open. */
MR_API enum mr_status mr_pool_take(struct mr_pool *pool, void **ret_connection,
                                   struct mr_error *err);
/* is_broken: it is closed instead of kept. */
MR_API void mr_pool_give(struct mr_pool *pool, void *connection, bool is_broken);

struct mr_pool_counts {
    unsigned idle;
    unsigned used;
    uint64_t opened; /* since the start */
    uint64_t closed;
};
MR_API void mr_pool_counts(struct mr_pool *pool, struct mr_pool_counts *ret_counts);

#ifdef __cplusplus
}
#endif
#endif
