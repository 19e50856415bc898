/*
 * The received-block log: what a receiver took in, durable before a batch may see it (dstream.md 8,
 * 10; architecture section 1).
 *
 *     <checkpoint>/received/<stream>/<first block, 20 digits>.blk     preallocated segments
 *     record kind BLOCK: { block number, received at (us), record count, metadata, bytes }
 *
 * Blocks are numbered 1, 2, 3 ...; the number of the last block is the stream's offset.  Blocks
 * that come while a flush is on its way share the next one (group commit): they are one group of
 * the segment (segment.c), which also says what is a torn tail and what is damage.  A torn tail is
 * cut at open, but never a block that a PLAN has named (min_last): that is MR_CORRUPT.
 *
 * With copy_dir everything is written twice; block_files.h says what happens when one is lost.
 *
 * Without a checkpoint (volatile_only) blocks live in memory; with spill_dir those that find no
 * room in memory_bytes go to files there, which are removed with their blocks and at close.
 *
 * Thread: append, sync, put, read: any. purge: driver.
 */
#ifndef MR_WAL_BLOCK_LOG_H
#define MR_WAL_BLOCK_LOG_H

#include "base/buf.h"

#include <millrace/batch.h>
#include <millrace/ext/durable.h>

struct mr_block_log;

enum mr_block_event {
    MR_BLOCK_COPY_LOST,     /* of two copies; the log goes on with the other */
    MR_BLOCK_COPY_REPAIRED, /* it is whole again */
    MR_BLOCK_SPILLED,       /* a block went to a file for lack of memory */
};

struct mr_block_log_config {
    uint64_t segment_bytes; /* 16 MiB */
    uint64_t memory_bytes;  /* newest blocks kept in memory for readers; 64 MiB */
    uint64_t min_last;      /* blocks up to here must be there: named by a PLAN; 0 = none */
    bool volatile_only;     /* no files of its own: for queries without a durable checkpoint */
    bool prepares;          /* a thread makes segments ahead */
    const char *copy_dir;   /* a second copy of everything; NULL = none */
    const char *spill_dir;  /* volatile_only: where blocks beyond memory_bytes go; NULL = nowhere */
    void (*event)(void *arg, enum mr_block_event event); /* any thread; may be NULL */
    void *event_arg;
};

enum mr_status mr_block_log_open(struct mr_env *env, const char *dir,
                                 const struct mr_block_log_config *config,
                                 struct mr_block_log **ret_log, struct mr_error *err);
void mr_block_log_close(struct mr_block_log *log);

struct mr_block_data {
    const char *data;
    size_t size_bytes;
    uint64_t record_count;
    int64_t received_us;
    const char *metadata; /* NULL = none */
};
/* Appends one block (not yet durable). *ret_block gets its number. */
enum mr_status mr_block_log_append(struct mr_block_log *log, const struct mr_block_data *block,
                                   uint64_t *ret_block, struct mr_error *err);
/* Makes all appended blocks durable; they become visible to last and read. */
enum mr_status mr_block_log_sync(struct mr_block_log *log, struct mr_error *err);
/* Both, for this block; threads that meet share a flush. */
enum mr_status mr_block_log_put(struct mr_block_log *log, const struct mr_block_data *block,
                                uint64_t *ret_block, struct mr_error *err);

uint64_t mr_block_log_last(struct mr_block_log *log);  /* newest durable block, 0 = none */
uint64_t mr_block_log_first(struct mr_block_log *log); /* oldest kept */

struct mr_block_info {
    uint64_t number;
    uint64_t size_bytes;
    uint64_t record_count;
    int64_t received_us;
};
enum mr_status mr_block_log_info(struct mr_block_log *log, uint64_t block,
                                 struct mr_block_info *ret_info, struct mr_error *err);
/* The block's metadata, a line, appended to out; nothing when it has none. */
enum mr_status mr_block_log_metadata(struct mr_block_log *log, uint64_t block, struct mr_buf *out,
                                     struct mr_error *err);
/* Reads one durable block into out (cleared first). MR_DATA_LOSS when it was purged. */
enum mr_status mr_block_log_read(struct mr_block_log *log, uint64_t block, struct mr_buf *out,
                                 struct mr_error *err);
/* Blocks below keep_from are not needed any more: whole segments of them are removed. */
enum mr_status mr_block_log_purge(struct mr_block_log *log, uint64_t keep_from,
                                  struct mr_error *err);

/* Reads and checks all blocks without changing anything (inspectors; nobody may be appending). */
enum mr_status mr_block_log_verify(struct mr_env *env, const char *dir, uint64_t *ret_first,
                                   uint64_t *ret_last, struct mr_error *err);

#endif
