/*
 * Inside of the received-block log: shared by block_log.c, block_log_read.c and block_spill.c.
 */
#ifndef MR_WAL_BLOCK_LOG_INTERNAL_H
#define MR_WAL_BLOCK_LOG_INTERNAL_H

#include "base/limits.h"
#include "env/thread.h"
#include "wal/block_files.h"

enum { MR_SPILL_FILES_MAX = MR_LIMIT_RECEIVER_SPILL_FILES };

/* Blocks that found no room in memory: files of at least SPILL_FILE_BYTES, each removed when its
 * last block is forgotten. Nothing here is durable. */
struct mr_block_spill {
    struct mr_env *env;
    const char *dir;
    struct mr_file *file;              /* the one that is written; NULL = none */
    uint32_t number;                   /* of it; they start with 1 */
    uint64_t at;                       /* its size */
    struct mr_mutex lock;              /* guards: */
    uint64_t uses[MR_SPILL_FILES_MAX]; /* blocks in file number i, modulo */
};
void mr__spill_init(struct mr_block_spill *spill, struct mr_env *env, const char *dir);
void mr__spill_release(struct mr_block_spill *spill); /* removes the files */
/* Writes the block's data; place->data stays. One thread at a time. */
enum mr_status mr__spill_write(struct mr_block_spill *spill, struct mr_block_place *place,
                               struct mr_error *err);
enum mr_status mr__spill_read(struct mr_block_spill *spill, const struct mr_block_place *place,
                              struct mr_buf *out, struct mr_error *err);
/* The block is forgotten. */
void mr__spill_forget(struct mr_block_spill *spill, const struct mr_block_place *place);

/* Framed records and what is to be known about them: the next flush. */
struct mr_block_batch {
    struct mr_buf records;
    struct mr_block_index blocks;
    uint64_t chain; /* behind them */
};

struct mr_block_log {
    struct mr_env *env;
    char *dir;
    char *copy_dir, *spill_dir;
    struct mr_block_log_config config;
    struct mr_block_files files; /* whoever flushes */
    struct mr_block_spill spill; /* whoever flushes; reading: any */
    struct mr_block_batch flushing;
    uint64_t synced_chain;

    struct mr_mutex append_lock; /* taken before lock; guards: */
    struct mr_cond flushed;
    struct mr_block_batch pending;
    uint64_t next_block;
    uint64_t durable_block;
    bool is_flushing;
    enum mr_status failed; /* sticks */
    struct mr_error failure;

    struct mr_mutex lock;       /* guards: */
    struct mr_block_replay log; /* index, segments */
    uint64_t memory_bytes;
    size_t oldest_in_memory; /* index of the first place that may have data */
};

static inline void mr__block_log_tell(const struct mr_block_log *log, enum mr_block_event event)
{
    if (log->config.event != NULL)
        log->config.event(log->config.event_arg, event);
}

#endif
