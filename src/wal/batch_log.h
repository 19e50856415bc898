/*
 * The batch log: PLAN, DELTA and COMMIT records of one query, in preallocated segments
 * (architecture section 2).
 *
 *     <checkpoint>/log/00000000000000000001.log, 2, 3 ...
 *     segment:  SEGMENT{number, size, query id, where the log stood} group group ... NEXT zeros
 *
 * PLAN(N) is durable before N runs; COMMIT(N) alone decides what of N is real.  Small state deltas
 * travel inside the log, so that a steady stream needs one flush a batch: DELTA(N) COMMIT(N)
 * PLAN(N+1) share it.
 *
 * Validity: records are chained (each one's `chain` is the checksum of the one before, across
 * segments), so a stale, lost or misplaced record breaks the chain (B6, B7). Everything between
 * two syncs is one group of tagged sectors (segment.c draws it). At open, a group that did not
 * arrive whole is a torn tail if and only if nothing later exists: a group is written only after
 * the one before it was synced, so any later sector or segment proves that it had been relied on,
 * and then it is MR_CORRUPT naming file, byte and reason. A group whose sectors all arrived and
 * whose records do not check was damaged: MR_CORRUPT as well. The head of a segment says where the
 * log stood when it was made (last PLAN and COMMIT, live state parts), so older segments can go;
 * its last record, NEXT, says that there must be a next segment. A clean close adds a CLOSE group:
 * then no damage at rest can look like a torn tail.
 *
 * Thread: driver.
 */
#ifndef MR_WAL_BATCH_LOG_H
#define MR_WAL_BATCH_LOG_H

#include "base/buf.h"
#include "wal/record.h"

#include <millrace/ext/durable.h>

/* One source's share of a PLAN. Texts are owned by the record. */
struct mr_plan_source {
    char *name;
    char *start; /* offset text, NULL at the very beginning */
    char *end;
};

struct mr_plan {
    uint64_t batch_id;
    uint32_t epoch;
    uint32_t attempt; /* of the plan: 0 unless planned again after a crash before it was durable */
    int64_t batch_time_us;
    int64_t watermark_us;      /* in force during the batch; INT64_MIN = none yet */
    int64_t late_watermark_us; /* watermark of the previous batch: rows at or below are late */
    uint64_t graph_fingerprint;
    char *settings; /* pinned settings, JSON */
    struct mr_plan_source *sources;
    uint32_t source_count;
};
void mr_plan_release(struct mr_plan *plan);

/* Where a part of the state of one operator is. */
struct mr_state_part {
    char *store;      /* store name (operator name) */
    uint64_t version; /* batch id it belongs to */
    uint32_t epoch;
    uint32_t attempt;
    bool is_snapshot; /* false: delta */
    bool in_log;      /* inside the log (a DELTA record of the same batch), else a file */
    char *file;       /* file name below state/<store>/, NULL when in_log */
    uint64_t size_bytes;
    uint64_t sum;       /* checksum of the whole part */
    uint64_t key_count; /* keys in the store after this part */
    char *data;         /* in_log parts of mr_recovered: their size_bytes bytes; NULL elsewhere */
};
void mr_state_part_release(struct mr_state_part *part);

/*
 * What the next start should know about a time of the graph: the watermark of a node, or when a
 * source last had anything new. Only where there are several watermarks, so that one of them can be
 * behind the common one.
 */
enum mr_mark_kind { MR_MARK_WATERMARK = 0, MR_MARK_MOVED = 1 };
struct mr_mark {
    char *name; /* of the node */
    enum mr_mark_kind kind;
    int64_t time_us;
};

struct mr_commit {
    uint64_t batch_id;
    uint32_t epoch;
    uint32_t attempt;
    uint64_t plan_sum;            /* checksum of PLAN(N); filled in by the log, like the next */
    uint64_t previous_commit_sum; /* 0 for the first */
    int64_t next_watermark_us;
    struct mr_state_part *parts; /* deltas and snapshots made by this batch */
    uint32_t part_count;
    char **receipts; /* one per sink, in graph order, "name=text"; may be empty */
    uint32_t receipt_count;
    struct mr_mark *marks; /* optional */
    uint32_t mark_count;
};
void mr_commit_release(struct mr_commit *commit);

struct mr_batch_log;

/*
 * What recovery finds. last_plan.batch_id may be last_commit.batch_id + 1: that batch must run
 * again with the same ranges. Everything is owned by the caller (mr_recovered_release).
 */
struct mr_recovered {
    bool has_plan;
    bool has_commit;
    struct mr_plan last_plan;      /* newest PLAN */
    struct mr_commit last_commit;  /* newest COMMIT */
    struct mr_plan committed_plan; /* PLAN of the newest COMMIT */
    uint32_t epoch;                /* the new one, after the bump */
    /*
     * State to load, in the order in which it was made: for each store its newest snapshot part and
     * all delta parts after it; and before them, while they are retained, the snapshot before it
     * and its deltas (a way round a damaged snapshot, B15).  A batch that made both has its delta
     * first.
     */
    struct mr_state_part *parts;
    uint32_t part_count;
    uint64_t tail_dropped_bytes; /* torn bytes behind the last good record, never relied on */
};
void mr_recovered_release(struct mr_recovered *recovered);

struct mr_batch_log_config {
    uint64_t segment_bytes;  /* 1 MiB; tests use small ones */
    uint32_t retain_batches; /* 100 */
    uint8_t query_id[16];
};

/*
 * Opens for writing: reads all segments, checks the chain, cuts a torn tail, flushes again what it
 * relies on, appends and syncs an EPOCH record (fencing epoch + 1). dir is <checkpoint>/log and
 * exists. Errors: MR_CORRUPT, MR_VERSION, MR_IO.
 */
enum mr_status mr_batch_log_open(struct mr_env *env, const char *dir,
                                 const struct mr_batch_log_config *config,
                                 struct mr_batch_log **ret_log, struct mr_recovered *ret_recovered,
                                 struct mr_error *err);
/*
 * Like open, but reads only: no cut, no epoch (ret_recovered->epoch is the last one). Works beside
 * a running query.
 */
enum mr_status mr_batch_log_peek(struct mr_env *env, const char *dir, uint32_t retain_batches,
                                 struct mr_recovered *ret_recovered, struct mr_error *err);
/*
 * The same as the log stood right after COMMIT of that batch. MR_NOT_FOUND: the log does not go
 * back that far, or not on; err says from where to where it goes.
 */
enum mr_status mr_batch_log_peek_at(struct mr_env *env, const char *dir, uint64_t batch_id,
                                    struct mr_recovered *ret_recovered, struct mr_error *err);
/*
 * NULL allowed. When everything was synced and nothing failed, a CLOSE group is appended and synced
 * first; it protects the last group from damage at rest and is not needed for anything else, so a
 * failure of that is no error.
 */
void mr_batch_log_close(struct mr_batch_log *log);

/*
 * Buffered until sync. Order: PLAN(N) sync DELTA(N)* COMMIT(N) [PLAN(N+1)] sync; anything else is
 * an assertion failure.
 */
enum mr_status mr_batch_log_plan(struct mr_batch_log *log, const struct mr_plan *plan,
                                 struct mr_error *err);
/* A delta, or a small snapshot, of one store that travels in the log. */
enum mr_status mr_batch_log_delta(struct mr_batch_log *log, uint64_t batch_id, const char *store,
                                  bool is_snapshot, const void *data, size_t size_bytes,
                                  struct mr_error *err);
enum mr_status mr_batch_log_commit(struct mr_batch_log *log, const struct mr_commit *commit,
                                   struct mr_error *err);
/*
 * Forgets DELTA records buffered for a batch that failed and will be tried again (nothing of it was
 * synced).
 */
void mr_batch_log_discard_deltas(struct mr_batch_log *log);
enum mr_status mr_batch_log_sync(struct mr_batch_log *log, struct mr_error *err);
/* Is it still this process's log? MR_BUSY: another one has taken it over (D10); MR_IO: the file was
 * removed. sync asks it first. */
enum mr_status mr_batch_log_check(const struct mr_batch_log *log, struct mr_error *err);
uint64_t mr_batch_log_sync_count(const struct mr_batch_log *log);
/* Bytes of log that have to be kept while something of that batch is needed. */
uint64_t mr_batch_log_bytes_from(const struct mr_batch_log *log, uint64_t batch_id);

/*
 * Removes segments that hold nothing needed: older than retain_batches before the last commit, and
 * no delta that is newer than needed_from (the oldest batch whose in-log delta a recovery would
 * load; UINT64_MAX = none).
 */
enum mr_status mr_batch_log_purge(struct mr_batch_log *log, uint64_t needed_from,
                                  struct mr_error *err);

/*
 * Reads one in-log delta or snapshot (inspectors; recovery gets them with mr_recovered). *ret_data
 * freed with mr_free.
 */
enum mr_status mr_batch_log_read_delta(struct mr_env *env, const char *dir, uint64_t batch_id,
                                       const char *store, bool is_snapshot, char **ret_data,
                                       size_t *ret_size, struct mr_error *err);

/*
 * Read-only walk for `checkpoint show|verify`: works beside a running query. Return false from
 * visit to stop.
 */
struct mr_log_entry {
    enum mr_record_kind kind;
    const char *file;
    uint64_t offset;
    uint32_t epoch;                 /* EPOCH */
    const struct mr_plan *plan;     /* PLAN */
    const struct mr_commit *commit; /* COMMIT */
    uint64_t delta_batch;           /* DELTA */
    const char *delta_store;
    size_t delta_bytes;
    bool delta_is_snapshot;
    const void *delta_data; /* borrowed during the visit */
};
enum mr_status mr_batch_log_walk(struct mr_env *env, const char *dir,
                                 bool (*visit)(const struct mr_log_entry *entry, void *arg),
                                 void *arg, uint64_t *ret_torn_bytes, struct mr_error *err);

#endif
