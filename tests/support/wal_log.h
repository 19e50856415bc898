/*
 * Helpers for tests of the logs: a tiny query that plans and commits on a simulated disk, and files
 * that are damaged on purpose.
 */
#ifndef MR_TESTS_SUPPORT_WAL_LOG_H
#define MR_TESTS_SUPPORT_WAL_LOG_H

#include "base/alloc.h"
#include "env/sim.h"
#include "support/test.h"
#include "wal/internal.h"

#include <stdlib.h>

#define LOG_DIR "/log"

static inline struct mr_batch_log_config log_config(uint64_t segment_bytes, uint32_t retain)
{
    struct mr_batch_log_config config = {.segment_bytes = segment_bytes, .retain_batches = retain};

    memset(config.query_id, 7, sizeof(config.query_id));
    return config;
}

static inline void make_dir(struct mr_env *env, const char *dir)
{
    struct mr_error err = {0};

    CHECK_OK(mr_durable_mkdirs(env, dir, &err), &err);
}

static inline struct mr_batch_log *open_log(struct mr_env *env, uint64_t segment_bytes,
                                            struct mr_recovered *recovered)
{
    struct mr_batch_log_config config = log_config(segment_bytes, 100);
    struct mr_batch_log *log = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_open(env, LOG_DIR, &config, &log, recovered, &err), &err);
    return log;
}

/* PLAN(n) with one source; buffered only. */
static inline void log_plan(struct mr_batch_log *log, uint64_t n)
{
    char start[32], end[32], settings[] = "{}", name[] = "clicks";
    struct mr_plan_source source = {name, n == 0 ? NULL : start, end};
    struct mr_plan plan = {.batch_id = n,
                           .epoch = 1,
                           .batch_time_us = (int64_t)n * 1000,
                           .watermark_us = INT64_MIN,
                           .late_watermark_us = INT64_MIN,
                           .graph_fingerprint = 42,
                           .settings = settings,
                           .sources = &source,
                           .source_count = 1};
    struct mr_error err = {0};

    snprintf(start, sizeof(start), "%" PRIu64, n * 10);
    snprintf(end, sizeof(end), "%" PRIu64, n * 10 + 10);
    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
}

/* DELTA(n) of delta_bytes (0 = none) and COMMIT(n); buffered only. */
static inline void log_commit(struct mr_batch_log *log, uint64_t n, size_t delta_bytes)
{
    char store[] = "counts", receipt[] = "out=done";
    char *receipts[] = {receipt};
    struct mr_state_part part = {.store = store,
                                 .version = n,
                                 .epoch = 1,
                                 .in_log = true,
                                 .size_bytes = delta_bytes,
                                 .sum = n,
                                 .key_count = n};
    struct mr_commit commit = {.batch_id = n,
                               .epoch = 1,
                               .next_watermark_us = (int64_t)n,
                               .parts = &part,
                               .part_count = delta_bytes > 0,
                               .receipts = receipts,
                               .receipt_count = 1};
    struct mr_error err = {0};

    if (delta_bytes > 0) {
        char *data = malloc(delta_bytes);

        memset(data, 'a' + (int)(n % 26), delta_bytes);
        CHECK_OK(mr_batch_log_delta(log, n, store, false, data, delta_bytes, &err), &err);
        free(data);
    }
    CHECK_OK(mr_batch_log_commit(log, &commit, &err), &err);
}

static inline void log_sync(struct mr_batch_log *log)
{
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_sync(log, &err), &err);
}

/*
 * A steady stream: PLAN(from), then [DELTA COMMIT(n) PLAN(n + 1)] for each batch; the last plan
 * stays without commit.
 */
static inline void log_batches(struct mr_batch_log *log, uint64_t from, uint64_t to,
                               size_t delta_bytes)
{
    log_plan(log, from);
    log_sync(log);
    for (uint64_t n = from; n < to; n++) {
        log_commit(log, n, delta_bytes);
        log_plan(log, n + 1);
        log_sync(log);
    }
}

/* A file of the simulated disk, whole. Freed with free. */
struct bytes {
    uint8_t *data;
    size_t size;
};

static inline struct bytes read_bytes(struct mr_env *env, const char *path)
{
    struct bytes bytes = {0};
    struct mr_file *file = NULL;
    struct mr_file_info info;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, MR_FILE_READ, &file, &err), &err);
    CHECK_OK(mr_env_file_info(env, file, &info, &err), &err);
    bytes.data = malloc(info.size_bytes + 1);
    CHECK_OK(mr_env_pread(env, file, bytes.data, info.size_bytes, 0, &bytes.size, &err), &err);
    mr_env_close(env, file);
    return bytes;
}

static inline void write_bytes(struct mr_env *env, const char *path, const void *data, size_t size)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE, &file, &err),
             &err);
    CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    CHECK_OK(mr_env_sync(env, file, &err), &err);
    mr_env_close(env, file);
}

static inline const char *segment_file(uint64_t number)
{
    static char path[64];

    snprintf(path, sizeof(path), LOG_DIR "/%020" PRIu64 ".log", number);
    return path;
}

/* What a reading of the log says, in one comparable line; "" with the status when it is refused. */
static inline enum mr_status log_summary(struct mr_env *env, char *text, size_t size,
                                         struct mr_error *err)
{
    struct mr_batch_log_config config = log_config(0, 100);
    struct mr_replay_options options = {.query_id = config.query_id};
    struct mr_replay replay;
    enum mr_status status = mr__replay_run(env, LOG_DIR, &options, &replay, err);

    text[0] = '\0';
    if (status != MR_OK)
        return status;
    snprintf(text, size,
             "plan %" PRIu64 " %016" PRIx64 " commit %" PRIu64 " %016" PRIx64 " parts %u",
             replay.position.plan_batch, replay.position.plan_sum, replay.position.commit_batch,
             replay.position.commit_sum, replay.parts.count);
    mr__replay_release(&replay);
    return MR_OK;
}

#endif
