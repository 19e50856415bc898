/*
 * What a batch brings to the session fold (session.c): partials by key, then start, merged with the
 * sessions of the store.
 *
 *     [s, e) and the next [s2, e2) with s2 <= e become [s, max(e, e2))
 *
 * Thread: taking and dealing, the driver; merging, the worker that has the lane.
 */
#include "ops/session_fold.h"

#include <stdlib.h>

enum { SESSION_KEY_BYTES = 2 * MR__SESSION_TIME_BYTES, HINT_FIRST = 32, HINT_SECOND = 16 };

/* A TIMESTAMP that is not null, as in a key (data/row_codec.h). */
static bool read_time(const char *at, int64_t *ret_us)
{
    uint64_t time = 0;

    for (int i = 1; i < MR__SESSION_TIME_BYTES; i++)
        time = time << 8 | (uint8_t)at[i];
    *ret_us = (int64_t)(time ^ UINT64_C(1) << 63);
    return at[0] == 1;
}

/* ---- the batch's partials, by key ---- */

static enum mr_status take_part(struct mr__session_fold *fold, const struct mr_batch_info *info,
                                struct mr_slice key, struct mr_slice buffers, struct mr_error *err)
{
    struct mr__session_part part = {.key = key.data, .session.buffers = buffers};
    bool ok = key.size_bytes >= SESSION_KEY_BYTES;

    if (ok) {
        part.key_bytes = key.size_bytes - SESSION_KEY_BYTES;
        ok = read_time(key.data + part.key_bytes, &part.session.start_us) &&
             read_time(key.data + part.key_bytes + MR__SESSION_TIME_BYTES, &part.session.end_us);
    }
    if (!ok)
        return MR_FAIL(err, MR_INTERNAL, "cannot find the session in a key: report this");
    MR_TRY(mr_agg_check(fold->layout, buffers, err));
    if (fold->closes && fold->mode == MR_MODE_APPEND && info->late_watermark_us != INT64_MIN &&
        part.session.end_us <= info->late_watermark_us) {
        fold->late_rows += mr_load_u64(buffers.data);
        return MR_OK;
    }
    if (fold->part_count == fold->part_capacity) {
        size_t capacity = fold->part_capacity == 0 ? 1024 : fold->part_capacity * 2;
        struct mr__session_part *parts = mr_realloc(NULL, fold->parts, capacity * sizeof(*parts));
        if (parts == NULL)
            return mr__session_no_memory(err);
        fold->parts = parts;
        fold->part_capacity = capacity;
    }
    part.hash = mr_store_hash(fold->store, part.key, part.key_bytes);
    fold->parts[fold->part_count++] = part;
    return MR_OK;
}

enum mr_status mr__session_take_input(struct mr__session_fold *fold,
                                      const struct mr_fold_call *call, struct mr_error *err)
{
    fold->part_count = 0;
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; call->inputs[i].present && b < call->inputs[i].batch_count; b++) {
            const struct mr_batch *batch = call->inputs[i].batches[b];
            const struct mr_column *keys = mr_batch_column(batch, 0);
            const struct mr_column *values = mr_batch_column(batch, 1);
            for (int64_t row = 0; row < keys->length; row++)
                MR_TRY(take_part(fold, call->info, mr_column_text(keys, row),
                                 mr_column_text(values, row), err));
        }
    }
    return MR_OK;
}

static bool same_key(const struct mr__session_part *a, const struct mr__session_part *b)
{
    return a->hash == b->hash && a->key_bytes == b->key_bytes &&
           (a->key_bytes == 0 || memcmp(a->key, b->key, a->key_bytes) == 0);
}

/* By hash, key, start; equal ones as they came. */
static int compare_parts(const void *a_pointer, const void *b_pointer)
{
    const struct mr__session_part *a = *(const struct mr__session_part *const *)a_pointer;
    const struct mr__session_part *b = *(const struct mr__session_part *const *)b_pointer;
    int order;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    order = mr__session_compare(a->key, a->key_bytes, b->key, b->key_bytes);
    if (order != 0)
        return order;
    if (a->session.start_us != b->session.start_us)
        return a->session.start_us < b->session.start_us ? -1 : 1;
    return (a > b) - (a < b);
}

enum mr_status mr__session_deal(struct mr__session_fold *fold, struct mr_error *err)
{
    size_t count = fold->part_count;
    unsigned bits = 3; /* at least the shard */
    unsigned shift;

    while (bits < 20 && ((size_t)1 << bits) < count / 2)
        bits++;
    shift = 64 - bits;
    mr_free(fold->ends);
    mr_free(fold->order);
    fold->bits = bits;
    fold->ends = mr_alloc_zero(NULL, (((size_t)1 << bits) + 1) * sizeof(*fold->ends));
    fold->order = mr_alloc(NULL, (count + 1) * sizeof(*fold->order));
    if (fold->ends == NULL || fold->order == NULL || count > UINT32_MAX)
        return mr__session_no_memory(err);
    for (size_t i = 0; i < count; i++)
        fold->ends[(fold->parts[i].hash >> shift) + 1]++;
    for (size_t i = 0; i < (size_t)1 << bits; i++)
        fold->ends[i + 1] += fold->ends[i];
    for (size_t i = 0; i < count; i++)
        fold->order[fold->ends[fold->parts[i].hash >> shift]++] = &fold->parts[i];
    return MR_OK;
}

/* The parts of a shard are order[*ret_from, *ret_to); sorts them. */
static void sort_shard(struct mr__session_fold *fold, unsigned shard, size_t *ret_from,
                       size_t *ret_to)
{
    size_t first = (size_t)shard << (fold->bits - 3);
    size_t last = ((size_t)shard + 1) << (fold->bits - 3);
    size_t from = first == 0 ? 0 : fold->ends[first - 1];

    *ret_from = from;
    for (size_t bucket = first; bucket < last; from = fold->ends[bucket++]) {
        if (fold->ends[bucket] - from > 1)
            qsort(fold->order + from, fold->ends[bucket] - from, sizeof(*fold->order),
                  compare_parts);
    }
    *ret_to = from;
}

/* ---- merging ---- */

/* The session that grows while a key's old and new ones are walked in order. */
struct growing {
    bool open;
    int64_t start_us;
    int64_t end_us;
    bool has_new;
    bool keeps_start; /* one of the old ones begins where it does */
    uint64_t old_count;
};

static enum mr_status grow(struct mr__session_lane *lane, struct growing *growing,
                           const struct mr__session *session, bool is_new, struct mr_error *err)
{
    if (growing->open && session->start_us <= growing->end_us) {
        growing->end_us = MR_MAX(growing->end_us, session->end_us);
    } else {
        MR_ASSERT(!growing->open);
        *growing = (struct growing){
            .open = true, .start_us = session->start_us, .end_us = session->end_us};
        mr_buf_clear(&lane->merged);
    }
    growing->has_new = growing->has_new || is_new;
    growing->old_count += !is_new;
    growing->keeps_start =
        growing->keeps_start || (!is_new && session->start_us == growing->start_us);
    return mr_agg_merge(lane->fold->layout, &lane->merged, session->buffers.data,
                        session->buffers.size_bytes, err);
}

static void close_growing(struct mr__session_lane *lane, struct growing *growing)
{
    if (!growing->open)
        return;
    mr__session_add(&lane->list, growing->start_us, growing->end_us, lane->merged.data,
                    lane->merged.size);
    lane->shard->least_us = MR_MIN(lane->shard->least_us, growing->end_us);
    lane->updated += growing->has_new;
    lane->removed += growing->old_count - growing->keeps_start;
    lane->shard->sessions +=
        1 - growing->old_count; /* wraps back: those that were merged are gone */
    growing->open = false;
}

/* The new list of a key from the old one and its parts [from, to) in order, into lane->list. */
static enum mr_status merge_lists(struct mr__session_lane *lane, struct mr_slice old, size_t from,
                                  size_t to, struct mr_error *err)
{
    const struct mr__session_part *const *order = lane->fold->order;
    struct growing growing = {0};
    struct mr__session stored = {0};
    bool ok = true;
    bool more = mr__session_next(&old, &stored, &ok);

    mr_buf_clear(&lane->list);
    while (ok && (more || from < to)) {
        bool is_new = !more || (from < to && order[from]->session.start_us < stored.start_us);
        const struct mr__session *session = is_new ? &order[from]->session : &stored;

        if (growing.open && session->start_us > growing.end_us)
            close_growing(lane, &growing);
        MR_TRY(grow(lane, &growing, session, is_new, err));
        if (is_new)
            from++;
        else
            more = mr__session_next(&old, &stored, &ok);
    }
    if (!ok)
        return mr__session_damaged(lane->fold, err);
    close_growing(lane, &growing);
    return lane->list.failed || lane->merged.failed ? mr__session_no_memory(err) : MR_OK;
}

static enum mr_status merge_key(struct mr__session_lane *lane, size_t from, size_t to,
                                struct mr_error *err)
{
    struct mr__session_fold *fold = lane->fold;
    const struct mr__session_part *part = fold->order[from];
    struct mr_slice old = {NULL, 0};
    char *value = NULL;
    bool created = false;
    bool found = mr_store_get_hashed(fold->store, part->hash, part->key, part->key_bytes, &old.data,
                                     &old.size_bytes);

    MR_TRY(merge_lists(lane, old, from, to, err));
    if (found && old.size_bytes != lane->list.size)
        return mr_store_put(fold->store, part->key, part->key_bytes, lane->list.data,
                            lane->list.size, err);
    MR_TRY(mr_store_upsert_hashed(fold->store, part->hash, part->key, part->key_bytes,
                                  lane->list.size, &value, &created, err));
    MR_ASSERT(created != found);
    memcpy(value, lane->list.data, lane->list.size);
    return MR_OK;
}

enum mr_status mr__session_merge_shard(struct mr__session_lane *lane, unsigned shard,
                                       struct mr_error *err)
{
    struct mr__session_fold *fold = lane->fold;
    size_t end;
    size_t from;

    sort_shard(fold, shard, &from, &end);
    for (size_t to; from < end; from = to) {
        if (from + HINT_FIRST < end)
            mr_store_hint(fold->store, fold->order[from + HINT_FIRST]->hash, 0);
        if (from + HINT_SECOND < end) {
            mr_store_hint(fold->store, fold->order[from + HINT_SECOND]->hash, 1);
            __builtin_prefetch(fold->order[from + HINT_SECOND]->session.buffers.data);
        }
        for (to = from + 1; to < end; to++) {
            if (!same_key(fold->order[from], fold->order[to]))
                break;
        }
        MR_TRY(merge_key(lane, from, to, err));
    }
    return MR_OK;
}
