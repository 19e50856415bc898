/*
 * Between the files of the session fold (session.c): its parts, and sessions as bytes.
 *
 *     session.c        the operator: open, run, a partition, state of an edited query
 *     session_merge.c  the partials of a batch by key, merged with the sessions of the store
 *     session_emit.c   sessions that are emitted, and those that the watermark closes
 *
 * Thread: take_input and deal: driver; the others: the worker that has the lane.
 */
#ifndef MR_OPS_SESSION_FOLD_H
#define MR_OPS_SESSION_FOLD_H

#include "ops/aggregate.h"
#include "ops/stateful.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/ordinal.h"

#include <string.h>

enum {
    MR__SESSION_HEAD_BYTES = 20, /* of a session: start, end, size */
    MR__SESSION_TIME_BYTES = 9,  /* of one TIMESTAMP in a key */
};

/* A session, of a row or merged; the data is borrowed. */
struct mr__session {
    int64_t start_us;
    int64_t end_us;
    struct mr_slice buffers;
};

struct mr__session_part {
    uint64_t hash; /* of the key */
    const char *key;
    size_t key_bytes; /* without the session */
    struct mr__session session;
};

/* What is known of a shard of the store. */
struct mr__session_shard {
    bool is_known;
    int64_t least_us; /* no session ends earlier; INT64_MAX = there is none */
    uint64_t sessions;
};

/* What a partition needs; memory is kept from batch to batch. */
struct mr__session_lane {
    struct mr__session_fold *fold;
    struct mr_output *out;
    struct mr__session_shard *shard; /* at hand */
    uint64_t updated;                /* of the batch */
    uint64_t removed;
    struct mr_buf list;         /* the new value of a key */
    struct mr_buf merged;       /* buffers of the session at hand */
    struct mr_buf key;          /* of a session that is emitted */
    struct mr_store_entry *due; /* entries with sessions to emit */
    size_t due_count;
    size_t due_capacity;
    struct mr_batch_builder *builder;
    int64_t builder_rows;
};

struct mr__session_fold {
    struct mr_agg_layout *layout;
    enum mr_output_mode mode;
    bool closes; /* there is a watermark */
    char *state_name;
    char *key_text; /* for the manifest */
    char *value_text;
    struct mr_store *store;

    bool any_run; /* since open: the two below hold */
    uint64_t last_batch_id;
    int64_t last_watermark_us;
    struct mr__session_shard shards[MR_STORE_SHARDS];
    struct mr__session_lane lanes[MR_STORE_SHARDS];

    /* Of the batch being run; memory is kept. */
    uint64_t late_rows;
    struct mr__session_part *parts;
    size_t part_count;
    size_t part_capacity;
    const struct mr__session_part **order; /* parts by bucket: the high bits of their hashes */
    uint32_t *ends;                        /* of the buckets in order */
    unsigned bits;                         /* of a hash that make its bucket */
};

/* Shards. */
struct mr__session_range {
    unsigned first;
    unsigned last;
};

static inline enum mr_status mr__session_no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot fold sessions: out of memory");
}

static inline enum mr_status mr__session_damaged(const struct mr__session_fold *fold,
                                                 struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the sessions of a key of '%s'; restore the checkpoint from a copy",
                   fold->state_name);
}

/* Takes the first session off a list; false at its end, or when *ret_ok says that it is damaged. */
static inline bool mr__session_next(struct mr_slice *list, struct mr__session *ret_session,
                                    bool *ret_ok)
{
    uint32_t size;

    *ret_ok = true;
    if (list->size_bytes == 0)
        return false;
    *ret_ok = list->size_bytes >= MR__SESSION_HEAD_BYTES;
    if (!*ret_ok)
        return false;
    size = mr_load_u32(list->data + 16);
    *ret_ok = list->size_bytes - MR__SESSION_HEAD_BYTES >= size;
    if (!*ret_ok)
        return false;
    *ret_session = (struct mr__session){mr_load_i64(list->data),
                                        mr_load_i64(list->data + 8),
                                        {list->data + MR__SESSION_HEAD_BYTES, size}};
    list->data += MR__SESSION_HEAD_BYTES + size;
    list->size_bytes -= MR__SESSION_HEAD_BYTES + size;
    return true;
}

static inline void mr__session_add(struct mr_buf *list, int64_t start_us, int64_t end_us,
                                   const char *buffers, size_t size)
{
    char head[MR__SESSION_HEAD_BYTES];

    mr_store_i64(head, start_us);
    mr_store_i64(head + 8, end_us);
    mr_store_u32(head + 16, (uint32_t)size);
    mr_buf_add(list, head, sizeof(head));
    mr_buf_add(list, buffers, size);
}

static inline int mr__session_compare(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t common = MR_MIN(a_bytes, b_bytes);
    int order = common == 0 ? 0 : memcmp(a, b, common);

    return order != 0 ? order : (a_bytes > common) - (b_bytes > common);
}

/* ---- session_merge.c ---- */

/* The partials of a batch; late ones are dropped and counted. */
enum mr_status mr__session_take_input(struct mr__session_fold *fold,
                                      const struct mr_fold_call *call, struct mr_error *err);
/* Fills fold->order bucket by bucket; inside of a bucket in order of arrival. */
enum mr_status mr__session_deal(struct mr__session_fold *fold, struct mr_error *err);
/* Merges the parts of a shard. */
enum mr_status mr__session_merge_shard(struct mr__session_lane *lane, unsigned shard,
                                       struct mr_error *err);

/* ---- session_emit.c ---- */

/* Looks at all entries of a shard: counts sessions, finds the least end that stays, and, with a
 * lane, the entries with sessions that are due. */
enum mr_status mr__session_search(struct mr__session_fold *fold, unsigned shard,
                                  int64_t watermark_us, struct mr__session_lane *lane,
                                  struct mr_error *err);
/* Emits and removes what the watermark has reached. */
enum mr_status mr__session_expire(struct mr__session_lane *lane, struct mr__session_range range,
                                  int64_t watermark_us, struct mr_error *err);
enum mr_status mr__session_emit_whole(struct mr__session_lane *lane, struct mr__session_range range,
                                      struct mr_error *err);
/* What was emitted and not yet handed on. */
enum mr_status mr__session_flush(struct mr__session_lane *lane, struct mr_error *err);

#endif
