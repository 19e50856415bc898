/*
 * Blocks: bytes, or batches of rows, kept in memory and on disk by their storage level, under an id
 * (millrace/storage.h; dstream.md STO-4, STO-5). Datasets keep their partitions here, receivers the
 * blocks that no write-ahead log has.
 *
 *     level            memory            when memory is full         second copy (_2)
 *     MEMORY_ONLY      columns           DROP: the oldest go         on disk, written at once
 *                                        else: the put is refused
 *     .._SER           encoded rows      the same                    the same
 *     MEMORY_AND_DISK  columns, or       to disk, oldest first       the same
 *                      encoded (_SER)
 *     DISK_ONLY        -                 -                           in the other directory
 *     OFF_HEAP         as MEMORY_AND_DISK_SER
 *
 * Files are in a directory of the store's own, copy 1 and copy 2 below it, made when the first is
 * needed and removed with the store; what a dead process left there is removed by the next store
 * in the same place. Each file has a checksum: a copy that is damaged or gone is counted, logged
 * and passed over, so a block is what was put or MR_NOT_FOUND, never something else. Nothing is
 * synced: blocks end with their process.
 *
 * Thread: any.
 */
#ifndef MR_RDD_BLOCK_STORE_H
#define MR_RDD_BLOCK_STORE_H

#include "fn/fn.h"

#include <millrace/ext/env.h>
#include <millrace/storage.h>

struct mr__block_store;

struct mr__block_id {
    uint64_t owner; /* a dataset, a receiver's stream: dropped together */
    uint64_t number;
};

struct mr__block_options {
    enum mr_storage_level level;
    bool may_drop; /* who put it can make it again: memory-only blocks give way (MEMORY_ONLY) */
};

struct mr__block_stats {
    uint64_t memory_bytes; /* now */
    uint64_t memory_peak_bytes;
    uint64_t disk_bytes; /* now, all copies */
    uint64_t blocks;
    uint64_t dropped; /* since the start: memory-only blocks that gave way */
    uint64_t spilled; /* written to disk because memory was full */
    uint64_t refused; /* memory-only puts that found no room */
    uint64_t damaged; /* copies on disk that were lost or did not fit their checksum */
};

/* dir: where the store makes its directory; copied. memory_bytes: the budget of all blocks. */
enum mr_status mr__block_store_new(struct mr_env *env, const char *dir, uint64_t memory_bytes,
                                   struct mr__block_store **ret_store, struct mr_error *err);
void mr__block_store_free(struct mr__block_store *store); /* NULL allowed; removes its files */

/*
 * Keeps a block; one of the same id is replaced. MR_LIMIT: the level is memory-only and there is no
 * room; nothing is kept then. A second copy that cannot be written is a warning in the log.
 */
enum mr_status mr__block_put(struct mr__block_store *store, struct mr__block_id id,
                             struct mr__block_options options, const void *data, size_t size_bytes,
                             struct mr_error *err);
/* MR_NOT_FOUND: it is not there, or not any more. *ret_data: freed with mr_free. */
enum mr_status mr__block_get(struct mr__block_store *store, struct mr__block_id id, char **ret_data,
                             size_t *ret_size_bytes, struct mr_error *err);

/* The same for rows: shared in memory unless the level says encoded. get appends them. */
enum mr_status mr__block_put_rows(struct mr__block_store *store, struct mr__block_id id,
                                  struct mr__block_options options, struct mr_batch *const *batches,
                                  size_t batch_count, struct mr_error *err);
enum mr_status mr__block_get_rows(struct mr__block_store *store, struct mr__block_id id,
                                  const struct mr_schema *schema, struct mr__batches *ret_rows,
                                  struct mr_error *err);

bool mr__block_has(struct mr__block_store *store, struct mr__block_id id);
void mr__block_drop(struct mr__block_store *store, struct mr__block_id id);
void mr__block_drop_owner(struct mr__block_store *store, uint64_t owner);
void mr__block_stats(struct mr__block_store *store, struct mr__block_stats *ret_stats);
/* Of a file on disk, for tests: copy 1 or 2. NULL without memory. Freed with mr_free. */
char *mr__block_path(struct mr__block_store *store, struct mr__block_id id, unsigned copy);

#endif
