/*
 * Shared between the files of the batch log: codec, state-part list, replay.  Private to src/wal
 * (the part list also to src/state).
 */
#ifndef MR_WAL_INTERNAL_H
#define MR_WAL_INTERNAL_H

#include "wal/batch_log.h"
#include "wal/part_list.h"
#include "wal/segment.h"

#define MR_BATCH_LOG_SUFFIX ".log"

/*
 * Where the log stands: what the next PLAN and COMMIT must follow. Stored in every segment's head.
 */
struct mr_log_position {
    bool has_plan;
    bool has_commit;
    uint64_t plan_batch;
    uint64_t plan_sum;
    uint64_t commit_batch;
    uint64_t commit_sum;
    uint32_t epoch;
};

/*
 * batch_log_codec.c: payloads. Encoders append to out (check out->failed); decoders return false on
 * any oddity.
 */
enum {
    MR_PLAN_VERSION = 1,
    MR_COMMIT_VERSION = 1,
    MR_COMMIT_MARKS_VERSION = 2,
    MR_DELTA_VERSION = 1,
    MR_EPOCH_VERSION = 1
};
enum { MR_NEXT_VERSION = 1, MR_CLOSE_VERSION = 1 };
void mr__plan_encode(struct mr_buf *out, const struct mr_plan *plan);
bool mr__plan_decode(struct mr_bytes bytes, struct mr_plan *ret_plan, bool *ret_no_memory);
/* plan_sum and previous_commit_sum are those of position, not the caller's. */
void mr__commit_encode(struct mr_buf *out, const struct mr_commit *commit,
                       const struct mr_log_position *position);
bool mr__commit_decode(struct mr_bytes bytes, struct mr_commit *ret_commit, bool *ret_no_memory);
void mr__delta_encode(struct mr_buf *out, uint64_t batch_id, const char *store, bool is_snapshot,
                      const void *data, size_t size_bytes);
struct mr_delta {
    uint64_t batch_id;
    const char *store; /* borrowed, store_bytes long, no NUL */
    size_t store_bytes;
    bool is_snapshot;
    const char *data;
    size_t size_bytes;
};
bool mr__delta_decode(struct mr_bytes bytes, struct mr_delta *ret_delta);
void mr__head_encode(struct mr_buf *out, const struct mr_log_position *position,
                     const struct mr_part_list *parts);
bool mr__head_decode(struct mr_bytes bytes, struct mr_log_position *ret_position,
                     struct mr_part_list *ret_parts, bool *ret_no_memory);

/* Where a segment of the log is and which batches it speaks of. */
struct mr_segment_use {
    uint64_t number;
    uint64_t size_bytes;
    bool has_batch;
    uint64_t last_batch; /* newest batch any record names; valid with has_batch */
};

/* What reading the whole log gives. */
struct mr_replay {
    struct mr_log_position position;
    struct mr_part_list parts; /* in_log ones that the log still has carry their data */
    bool has_last_plan, has_committed_plan;
    struct mr_plan last_plan, committed_plan;
    struct mr_commit last_commit;
    uint64_t chain;   /* sum of the last record */
    uint64_t segment; /* number of the newest segment that counts; 0 = there is no log */
    uint64_t segment_bytes;
    uint64_t tail;           /* in it: byte behind the last whole group */
    uint32_t ordinal;        /* in it: number of the next group */
    uint64_t unused_segment; /* a next segment that was made and never used; 0 = none */
    uint64_t torn_bytes;
    struct mr_segment_use *uses;
    size_t use_count, use_capacity;
    uint8_t query_id[16];
};
void mr__replay_release(struct mr_replay *replay);

struct mr_replay_options {
    const uint8_t *query_id; /* must match; NULL = any */
    bool keep_data;          /* keep the bytes of in-log parts */
    /* somebody may be appending and purging: look again before calling anything damage */
    bool beside_writer;
    bool (*visit)(const struct mr_log_entry *entry,
                  void *arg); /* may be NULL; false stops (replay is then partial) */
    void *arg;
};
/* batch_log_recover.c. Reads and checks every segment. */
enum mr_status mr__replay_run(struct mr_env *env, const char *dir,
                              const struct mr_replay_options *options, struct mr_replay *ret_replay,
                              struct mr_error *err);
/*
 * Moves what a caller of open may see out of the replay; drops fallback parts that are not
 * complete.
 */
enum mr_status mr__replay_recovered(struct mr_replay *replay, const char *dir,
                                    uint32_t retain_batches, struct mr_recovered *ret_recovered,
                                    struct mr_error *err);

#endif
