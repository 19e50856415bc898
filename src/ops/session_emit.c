/*
 * What leaves the session fold (session.c): all sessions in complete mode, else those that end at
 * or before the watermark, which leave the store too.
 *
 * Only shards whose least end is due are searched. Thread: the worker that has the lane.
 */
#include "ops/session_fold.h"

#include <stdlib.h>

enum {
    EMIT_ROWS_MAX = 64 * 1024,
    EMIT_BYTES_MAX = 16 * 1024 * 1024,
    EMIT_CHECK_ROWS = 256,
    ENTRIES_MAX = 256,
    SORTED_MAX = 16 * 1024, /* keys with sessions that leave, in key order up to here */
};

/* ---- output ---- */

static void add_time(struct mr_buf *key, int64_t time_us)
{
    uint64_t time = (uint64_t)time_us ^ UINT64_C(1) << 63;

    mr_buf_add_char(key, 1);
    for (int shift = 56; shift >= 0; shift -= 8)
        mr_buf_add_char(key, (char)(time >> shift & 0xff));
}

enum mr_status mr__session_flush(struct mr__session_lane *lane, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status;

    if (lane->builder_rows == 0)
        return MR_OK;
    lane->builder_rows = 0;
    MR_TRY(mr_batch_builder_finish(lane->builder, &batch, err));
    status = mr_output_emit(lane->out, batch, err);
    mr_batch_unref(batch);
    return status;
}

static enum mr_status emit(struct mr__session_lane *lane, struct mr_slice key,
                           const struct mr__session *session, struct mr_error *err)
{
    const struct mr_agg_layout *layout = lane->fold->layout;

    mr_buf_clear(&lane->key);
    mr_buf_add(&lane->key, key.data, key.size_bytes);
    add_time(&lane->key, session->start_us);
    add_time(&lane->key, session->end_us);
    if (lane->key.failed)
        return mr__session_no_memory(err);
    if (lane->builder == NULL)
        MR_TRY(mr_batch_builder_new(layout->output, &lane->builder, err));
    MR_TRY(mr_agg_emit(layout, (struct mr_slice){lane->key.data, lane->key.size}, session->buffers,
                       lane->builder, err));
    lane->builder_rows++;
    if (lane->builder_rows >= EMIT_ROWS_MAX ||
        (lane->builder_rows % EMIT_CHECK_ROWS == 0 &&
         mr_batch_builder_bytes(lane->builder) >= EMIT_BYTES_MAX))
        return mr__session_flush(lane, err);
    return MR_OK;
}

struct emit_all {
    struct mr__session_lane *lane;
    enum mr_status status;
    struct mr_error *err;
};

static bool emit_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct emit_all *all = arg;
    struct mr_slice list = {value, value_bytes};
    struct mr__session session;
    bool ok = true;

    while (all->status == MR_OK && mr__session_next(&list, &session, &ok))
        all->status = emit(all->lane, (struct mr_slice){key, key_bytes}, &session, all->err);
    if (all->status == MR_OK && !ok)
        all->status = mr__session_damaged(all->lane->fold, all->err);
    return all->status == MR_OK;
}

/* ---- expiry ---- */

static enum mr_status add_due(struct mr__session_lane *lane, const struct mr_store_entry *entry,
                              struct mr_error *err)
{
    if (lane->due_count == lane->due_capacity) {
        size_t capacity = lane->due_capacity == 0 ? 64 : lane->due_capacity * 2;
        struct mr_store_entry *due = mr_realloc(NULL, lane->due, capacity * sizeof(*due));
        if (due == NULL)
            return mr__session_no_memory(err);
        lane->due = due;
        lane->due_capacity = capacity;
    }
    lane->due[lane->due_count++] = *entry;
    return MR_OK;
}

enum mr_status mr__session_search(struct mr__session_fold *fold, unsigned shard,
                                  int64_t watermark_us, struct mr__session_lane *lane,
                                  struct mr_error *err)
{
    struct mr_store_entry entries[ENTRIES_MAX];
    struct mr__session_shard found = {true, INT64_MAX, 0};
    uint32_t cursor = 0;
    size_t count;

    while ((count = mr_store_read_shard(fold->store, shard, &cursor, entries, ENTRIES_MAX)) > 0) {
        for (size_t i = 0; i < count; i++) {
            struct mr_slice list = {entries[i].value, entries[i].value_bytes};
            struct mr__session session;
            bool due = false;
            bool ok;

            for (; mr__session_next(&list, &session, &ok); found.sessions++) {
                if (lane != NULL && session.end_us <= watermark_us)
                    due = true;
                else
                    found.least_us = MR_MIN(found.least_us, session.end_us);
            }
            if (!ok)
                return mr__session_damaged(fold, err);
            if (lane != NULL && due)
                MR_TRY(add_due(lane, &entries[i], err));
        }
    }
    fold->shards[shard] = found;
    return MR_OK;
}

static int compare_entries(const void *a_pointer, const void *b_pointer)
{
    const struct mr_store_entry *a = a_pointer;
    const struct mr_store_entry *b = b_pointer;

    return mr__session_compare(a->key, a->key_bytes, b->key, b->key_bytes);
}

/* Emits the sessions of a key that are due, the first ones of its list; the others stay. */
static enum mr_status close_entry(struct mr__session_lane *lane, const struct mr_store_entry *entry,
                                  int64_t watermark_us, struct mr_error *err)
{
    struct mr__session_shard *shard = &lane->fold->shards[entry->fragment >> 29];
    struct mr_slice list = {entry->value, entry->value_bytes};
    struct mr_slice rest = list;
    struct mr__session session;
    bool ok = true;

    while (mr__session_next(&list, &session, &ok) && session.end_us <= watermark_us) {
        MR_TRY(emit(lane, (struct mr_slice){entry->key, entry->key_bytes}, &session, err));
        rest = list;
        lane->removed++;
        shard->sessions--;
    }
    MR_ASSERT(ok);
    if (rest.size_bytes == 0)
        return mr_store_delete_at(lane->fold->store, entry, err);
    mr_buf_clear(&lane->list);
    mr_buf_add(&lane->list, rest.data, rest.size_bytes);
    if (lane->list.failed)
        return mr__session_no_memory(err);
    return mr_store_put_at(lane->fold->store, entry, lane->list.data, lane->list.size, err);
}

enum mr_status mr__session_expire(struct mr__session_lane *lane, struct mr__session_range range,
                                  int64_t watermark_us, struct mr_error *err)
{
    if (!lane->fold->closes || watermark_us == INT64_MIN)
        return MR_OK;
    lane->due_count = 0;
    for (unsigned shard = range.first; shard <= range.last; shard++) {
        if (lane->fold->shards[shard].least_us <= watermark_us)
            MR_TRY(mr__session_search(lane->fold, shard, watermark_us, lane, err));
    }
    if (lane->due_count > 1 && lane->due_count <= SORTED_MAX)
        qsort(lane->due, lane->due_count, sizeof(*lane->due), compare_entries);
    for (size_t i = 0; i < lane->due_count; i++)
        MR_TRY(close_entry(lane, &lane->due[i], watermark_us, err));
    return MR_OK;
}

enum mr_status mr__session_emit_whole(struct mr__session_lane *lane, struct mr__session_range range,
                                      struct mr_error *err)
{
    struct emit_all all = {lane, MR_OK, err};

    if (range.last > range.first)
        MR_TRY(mr_store_scan_sorted(lane->fold->store, NULL, 0, emit_entry, &all, err));
    else
        (void)mr_store_scan_shard(lane->fold->store, range.first, emit_entry, &all);
    return all.status;
}
