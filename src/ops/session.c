/*
 * The session fold: merges sessions of a key that overlap or touch, with all their aggregates
 * (structured.md 12).
 *
 *     store    key bytes: row_codec of the keys, without the session
 *              -> the key's sessions, by start; no two overlap or touch
 *     session  start i64 | end i64 | size u32 | aggregate buffers (aggregate.c)
 *
 *     partials --late? dropped and counted--> by key, then start --merge with the store's--> store
 *
 * Partials come from mr_op_aggregate_partial with start and end of a row's session as the last two
 * keys. Only entries of keys that are in the batch are read: one look-up, one write a key and
 * batch, however many rows and sessions it has.
 *
 *     [s, e) and the next [s2, e2) with s2 <= e become [s, max(e, e2))
 *
 *     append    sessions with end <= watermark leave and are emitted
 *     complete  everything stays and is emitted
 *
 * `run` takes the partials in and deals them out by the high bits of their hashes. Then, in a small
 * batch, one partition does the rest for all shards of the store; in others each shard is one, run
 * by any worker. Which it is depends on the plan of the batch alone (core/operator.h), so a batch
 * that runs again emits the same: in a small batch in key order, in others in the order of the
 * keys' hashes; sessions that leave, in key order unless they are many.
 *
 * Counting is that of sessions: updated = written by a new start or with new rows, removed = a
 * start that is no start any more. What is known of a shard is found out when it is first needed
 * after open or after a batch that is run again.
 *
 * Called by the driver of a query: open, then run once a batch and, on workers, run_partition;
 * wants_batch between batches.
 */
#include "ops/aggregate.h"
#include "ops/stateful.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/ordinal.h"

#include <stdlib.h>

enum {
    TIME_KEY_BYTES = 9, /* of one TIMESTAMP in a key */
    SESSION_KEY_BYTES = 2 * TIME_KEY_BYTES,
    HEAD_BYTES = 20, /* of a session: start, end, size */
    EMIT_ROWS_MAX = 64 * 1024,
    EMIT_BYTES_MAX = 16 * 1024 * 1024,
    EMIT_CHECK_ROWS = 256,
    ENTRIES_MAX = 256,
    SORTED_MAX = 16 * 1024, /* keys with sessions that leave, in key order up to here */
    HINT_FIRST = 32,
    HINT_SECOND = 16
};

/* A session, of a row or merged; the data is borrowed. */
struct session {
    int64_t start_us;
    int64_t end_us;
    struct mr_slice buffers;
};

struct part {
    uint64_t hash; /* of the key */
    const char *key;
    size_t key_bytes; /* without the session */
    struct session session;
};

/* What is known of a shard of the store. */
struct shard {
    bool is_known;
    int64_t least_us; /* no session ends earlier; INT64_MAX = there is none */
    uint64_t sessions;
};

/* What a partition needs; memory is kept from batch to batch. */
struct lane {
    struct session_fold *fold;
    struct mr_output *out;
    struct shard *shard; /* at hand */
    uint64_t updated;    /* of the batch */
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

struct session_fold {
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
    struct shard shards[MR_STORE_SHARDS];
    struct lane lanes[MR_STORE_SHARDS];

    /* Of the batch being run; memory is kept. */
    uint64_t late_rows;
    struct part *parts;
    size_t part_count;
    size_t part_capacity;
    const struct part **order; /* parts by bucket: the high bits of their hashes */
    uint32_t *ends;            /* of the buckets in order */
    unsigned bits;             /* of a hash that make its bucket */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot fold sessions: out of memory");
}

static enum mr_status damaged(const struct session_fold *fold, struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read the sessions of a key of '%s'; restore the checkpoint from a copy",
                   fold->state_name);
}

/* ---- sessions as bytes ---- */

/* Takes the first session off a list; false at its end, or when *ret_ok says that it is damaged. */
static bool next_session(struct mr_slice *list, struct session *ret_session, bool *ret_ok)
{
    uint32_t size;

    *ret_ok = true;
    if (list->size_bytes == 0)
        return false;
    *ret_ok = list->size_bytes >= HEAD_BYTES;
    if (!*ret_ok)
        return false;
    size = mr_load_u32(list->data + 16);
    *ret_ok = list->size_bytes - HEAD_BYTES >= size;
    if (!*ret_ok)
        return false;
    *ret_session = (struct session){
        mr_load_i64(list->data), mr_load_i64(list->data + 8), {list->data + HEAD_BYTES, size}};
    list->data += HEAD_BYTES + size;
    list->size_bytes -= HEAD_BYTES + size;
    return true;
}

static void add_session(struct mr_buf *list, int64_t start_us, int64_t end_us, const char *buffers,
                        size_t size)
{
    char head[HEAD_BYTES];

    mr_store_i64(head, start_us);
    mr_store_i64(head + 8, end_us);
    mr_store_u32(head + 16, (uint32_t)size);
    mr_buf_add(list, head, sizeof(head));
    mr_buf_add(list, buffers, size);
}

/* A TIMESTAMP that is not null, as in a key (data/row_codec.h). */
static bool read_time(const char *at, int64_t *ret_us)
{
    uint64_t time = 0;

    for (int i = 1; i < TIME_KEY_BYTES; i++)
        time = time << 8 | (uint8_t)at[i];
    *ret_us = (int64_t)(time ^ UINT64_C(1) << 63);
    return at[0] == 1;
}

static void add_time(struct mr_buf *key, int64_t time_us)
{
    uint64_t time = (uint64_t)time_us ^ UINT64_C(1) << 63;

    mr_buf_add_char(key, 1);
    for (int shift = 56; shift >= 0; shift -= 8)
        mr_buf_add_char(key, (char)(time >> shift & 0xff));
}

/* ---- the batch's partials, by key ---- */

static enum mr_status take_part(struct session_fold *fold, const struct mr_batch_info *info,
                                struct mr_slice key, struct mr_slice buffers, struct mr_error *err)
{
    struct part part = {.key = key.data, .session.buffers = buffers};
    bool ok = key.size_bytes >= SESSION_KEY_BYTES;

    if (ok) {
        part.key_bytes = key.size_bytes - SESSION_KEY_BYTES;
        ok = read_time(key.data + part.key_bytes, &part.session.start_us) &&
             read_time(key.data + part.key_bytes + TIME_KEY_BYTES, &part.session.end_us);
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
        struct part *parts = mr_realloc(NULL, fold->parts, capacity * sizeof(*parts));
        if (parts == NULL)
            return no_memory(err);
        fold->parts = parts;
        fold->part_capacity = capacity;
    }
    part.hash = mr_store_hash(fold->store, part.key, part.key_bytes);
    fold->parts[fold->part_count++] = part;
    return MR_OK;
}

static enum mr_status take_input(struct session_fold *fold, const struct mr_fold_call *call,
                                 struct mr_error *err)
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

static int compare_bytes(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t common = MR_MIN(a_bytes, b_bytes);
    int order = common == 0 ? 0 : memcmp(a, b, common);

    return order != 0 ? order : (a_bytes > common) - (b_bytes > common);
}

static bool same_key(const struct part *a, const struct part *b)
{
    return a->hash == b->hash && a->key_bytes == b->key_bytes &&
           (a->key_bytes == 0 || memcmp(a->key, b->key, a->key_bytes) == 0);
}

/* By hash, key, start; equal ones as they came. */
static int compare_parts(const void *a_pointer, const void *b_pointer)
{
    const struct part *a = *(const struct part *const *)a_pointer;
    const struct part *b = *(const struct part *const *)b_pointer;
    int order;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    order = compare_bytes(a->key, a->key_bytes, b->key, b->key_bytes);
    if (order != 0)
        return order;
    if (a->session.start_us != b->session.start_us)
        return a->session.start_us < b->session.start_us ? -1 : 1;
    return (a > b) - (a < b);
}

/* Fills fold->order bucket by bucket; inside of a bucket in order of arrival. */
static enum mr_status deal_parts(struct session_fold *fold, struct mr_error *err)
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
        return no_memory(err);
    for (size_t i = 0; i < count; i++)
        fold->ends[(fold->parts[i].hash >> shift) + 1]++;
    for (size_t i = 0; i < (size_t)1 << bits; i++)
        fold->ends[i + 1] += fold->ends[i];
    for (size_t i = 0; i < count; i++)
        fold->order[fold->ends[fold->parts[i].hash >> shift]++] = &fold->parts[i];
    return MR_OK;
}

/* The parts of a shard are order[*ret_from, *ret_to); sorts them. */
static void sort_shard(struct session_fold *fold, unsigned shard, size_t *ret_from, size_t *ret_to)
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

static enum mr_status grow(struct lane *lane, struct growing *growing,
                           const struct session *session, bool is_new, struct mr_error *err)
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

static void close_growing(struct lane *lane, struct growing *growing)
{
    if (!growing->open)
        return;
    add_session(&lane->list, growing->start_us, growing->end_us, lane->merged.data,
                lane->merged.size);
    lane->shard->least_us = MR_MIN(lane->shard->least_us, growing->end_us);
    lane->updated += growing->has_new;
    lane->removed += growing->old_count - growing->keeps_start;
    lane->shard->sessions +=
        1 - growing->old_count; /* wraps back: those that were merged are gone */
    growing->open = false;
}

/* The new list of a key from the old one and its parts [from, to) in order, into lane->list. */
static enum mr_status merge_lists(struct lane *lane, struct mr_slice old, size_t from, size_t to,
                                  struct mr_error *err)
{
    const struct part *const *order = lane->fold->order;
    struct growing growing = {0};
    struct session stored = {0};
    bool ok = true;
    bool more = next_session(&old, &stored, &ok);

    mr_buf_clear(&lane->list);
    while (ok && (more || from < to)) {
        bool is_new = !more || (from < to && order[from]->session.start_us < stored.start_us);
        const struct session *session = is_new ? &order[from]->session : &stored;

        if (growing.open && session->start_us > growing.end_us)
            close_growing(lane, &growing);
        MR_TRY(grow(lane, &growing, session, is_new, err));
        if (is_new)
            from++;
        else
            more = next_session(&old, &stored, &ok);
    }
    if (!ok)
        return damaged(lane->fold, err);
    close_growing(lane, &growing);
    return lane->list.failed || lane->merged.failed ? no_memory(err) : MR_OK;
}

static enum mr_status merge_key(struct lane *lane, size_t from, size_t to, struct mr_error *err)
{
    struct session_fold *fold = lane->fold;
    const struct part *part = fold->order[from];
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

/* Merges the parts of a shard. */
static enum mr_status merge_shard(struct lane *lane, unsigned shard, struct mr_error *err)
{
    struct session_fold *fold = lane->fold;
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

/* ---- output ---- */

static enum mr_status flush(struct lane *lane, struct mr_error *err)
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

static enum mr_status emit(struct lane *lane, struct mr_slice key, const struct session *session,
                           struct mr_error *err)
{
    const struct mr_agg_layout *layout = lane->fold->layout;

    mr_buf_clear(&lane->key);
    mr_buf_add(&lane->key, key.data, key.size_bytes);
    add_time(&lane->key, session->start_us);
    add_time(&lane->key, session->end_us);
    if (lane->key.failed)
        return no_memory(err);
    if (lane->builder == NULL)
        MR_TRY(mr_batch_builder_new(layout->output, &lane->builder, err));
    MR_TRY(mr_agg_emit(layout, (struct mr_slice){lane->key.data, lane->key.size}, session->buffers,
                       lane->builder, err));
    lane->builder_rows++;
    if (lane->builder_rows >= EMIT_ROWS_MAX ||
        (lane->builder_rows % EMIT_CHECK_ROWS == 0 &&
         mr_batch_builder_bytes(lane->builder) >= EMIT_BYTES_MAX))
        return flush(lane, err);
    return MR_OK;
}

struct emit_all {
    struct lane *lane;
    enum mr_status status;
    struct mr_error *err;
};

static bool emit_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct emit_all *all = arg;
    struct mr_slice list = {value, value_bytes};
    struct session session;
    bool ok = true;

    while (all->status == MR_OK && next_session(&list, &session, &ok))
        all->status = emit(all->lane, (struct mr_slice){key, key_bytes}, &session, all->err);
    if (all->status == MR_OK && !ok)
        all->status = damaged(all->lane->fold, all->err);
    return all->status == MR_OK;
}

/* ---- expiry ---- */

static enum mr_status add_due(struct lane *lane, const struct mr_store_entry *entry,
                              struct mr_error *err)
{
    if (lane->due_count == lane->due_capacity) {
        size_t capacity = lane->due_capacity == 0 ? 64 : lane->due_capacity * 2;
        struct mr_store_entry *due = mr_realloc(NULL, lane->due, capacity * sizeof(*due));
        if (due == NULL)
            return no_memory(err);
        lane->due = due;
        lane->due_capacity = capacity;
    }
    lane->due[lane->due_count++] = *entry;
    return MR_OK;
}

/* Looks at all entries of a shard: counts sessions, finds the least end that stays, and, with a
 * lane, the entries with sessions that are due. */
static enum mr_status search(struct session_fold *fold, unsigned shard, int64_t watermark_us,
                             struct lane *lane, struct mr_error *err)
{
    struct mr_store_entry entries[ENTRIES_MAX];
    struct shard found = {true, INT64_MAX, 0};
    uint32_t cursor = 0;
    size_t count;

    while ((count = mr_store_read_shard(fold->store, shard, &cursor, entries, ENTRIES_MAX)) > 0) {
        for (size_t i = 0; i < count; i++) {
            struct mr_slice list = {entries[i].value, entries[i].value_bytes};
            struct session session;
            bool due = false;
            bool ok;

            for (; next_session(&list, &session, &ok); found.sessions++) {
                if (lane != NULL && session.end_us <= watermark_us)
                    due = true;
                else
                    found.least_us = MR_MIN(found.least_us, session.end_us);
            }
            if (!ok)
                return damaged(fold, err);
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

    return compare_bytes(a->key, a->key_bytes, b->key, b->key_bytes);
}

/* Emits the sessions of a key that are due, the first ones of its list; the others stay. */
static enum mr_status close_entry(struct lane *lane, const struct mr_store_entry *entry,
                                  int64_t watermark_us, struct mr_error *err)
{
    struct shard *shard = &lane->fold->shards[entry->fragment >> 29];
    struct mr_slice list = {entry->value, entry->value_bytes};
    struct mr_slice rest = list;
    struct session session;
    bool ok = true;

    while (next_session(&list, &session, &ok) && session.end_us <= watermark_us) {
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
        return no_memory(err);
    return mr_store_put_at(lane->fold->store, entry, lane->list.data, lane->list.size, err);
}

/* ---- a partition ---- */

struct range {
    unsigned first; /* shards */
    unsigned last;
};

static enum mr_status expire(struct lane *lane, struct range range, int64_t watermark_us,
                             struct mr_error *err)
{
    if (!lane->fold->closes || watermark_us == INT64_MIN)
        return MR_OK;
    lane->due_count = 0;
    for (unsigned shard = range.first; shard <= range.last; shard++) {
        if (lane->fold->shards[shard].least_us <= watermark_us)
            MR_TRY(search(lane->fold, shard, watermark_us, lane, err));
    }
    if (lane->due_count > 1 && lane->due_count <= SORTED_MAX)
        qsort(lane->due, lane->due_count, sizeof(*lane->due), compare_entries);
    for (size_t i = 0; i < lane->due_count; i++)
        MR_TRY(close_entry(lane, &lane->due[i], watermark_us, err));
    return MR_OK;
}

static enum mr_status emit_whole(struct lane *lane, struct range range, struct mr_error *err)
{
    struct emit_all all = {lane, MR_OK, err};

    if (range.last > range.first)
        MR_TRY(mr_store_scan_sorted(lane->fold->store, NULL, 0, emit_entry, &all, err));
    else
        (void)mr_store_scan_shard(lane->fold->store, range.first, emit_entry, &all);
    return all.status;
}

static enum mr_status run_shards(struct lane *lane, struct range range,
                                 const struct mr_fold_call *call, struct mr_error *err)
{
    struct session_fold *fold = lane->fold;

    for (unsigned shard = range.first; shard <= range.last; shard++) {
        if (!fold->shards[shard].is_known)
            MR_TRY(search(fold, shard, INT64_MIN, NULL, err));
        lane->shard = &fold->shards[shard];
        MR_TRY(merge_shard(lane, shard, err));
    }
    if (!call->fires)
        return MR_OK; /* nobody would see what leaves: it stays for a batch that fires */
    if (fold->mode == MR_MODE_COMPLETE)
        MR_TRY(emit_whole(lane, range, err));
    else
        MR_TRY(expire(lane, range, call->info->watermark_us, err));
    return flush(lane, err);
}

static enum mr_status session_run_partition(void *op, uint32_t partition, struct mr_fold_call *call,
                                            struct mr_error *err)
{
    struct session_fold *fold = op;
    struct lane *lane = &fold->lanes[partition];
    struct range range = {partition, partition};
    enum mr_status status;

    if (call->partition_count == 1)
        range.last = MR_STORE_SHARDS - 1;
    lane->out = call->out;
    if (partition == 0 && fold->late_rows > 0)
        mr_output_late_rows(call->out, fold->late_rows);
    status = run_shards(lane, range, call, err);
    if (status != MR_OK) { /* the builder may hold half a row */
        mr_batch_builder_free(lane->builder);
        lane->builder = NULL;
        lane->builder_rows = 0;
    }
    return status;
}

/* ---- the operator ---- */

static void forget_shards(struct session_fold *fold)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++)
        fold->shards[shard].is_known = false;
}

static enum mr_status session_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct session_fold *fold = op;

    if (fold->any_run && call->info->batch_id <= fold->last_batch_id)
        forget_shards(fold); /* run again: the state was rolled back */
    fold->any_run = true;
    fold->last_batch_id = call->info->batch_id;
    fold->last_watermark_us = call->info->watermark_us;
    fold->late_rows = 0;
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        fold->lanes[i].updated = fold->lanes[i].removed = 0;
    MR_TRY(take_input(fold, call, err));
    return deal_parts(fold, err);
}

static uint32_t session_partition_count(void *op)
{
    (void)op;
    return MR_STORE_SHARDS;
}

/* As the aggregate fold: whenever the watermark has moved since the last run; the first time after
 * a restart, when a session is due. */
static bool session_wants_batch(void *op, int64_t watermark_us, int64_t batch_time_us)
{
    struct session_fold *fold = op;

    (void)batch_time_us;
    if (!fold->closes || fold->mode == MR_MODE_COMPLETE || watermark_us == INT64_MIN)
        return false;
    if (fold->any_run)
        return watermark_us > fold->last_watermark_us;
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        if (!fold->shards[shard].is_known && search(fold, shard, INT64_MIN, NULL, NULL) != MR_OK)
            return true; /* the batch will report it */
        if (fold->shards[shard].least_us <= watermark_us)
            return true;
    }
    return false;
}

/* The keys without the session, and what their sessions keep, for the manifest. */
static enum mr_status print_schemas(struct session_fold *fold, struct mr_error *err)
{
    struct mr_agg_layout keys = *fold->layout; /* borrows */

    keys.key_count -= 2;
    MR_TRY(mr_agg_key_schema(&keys, &fold->key_text, err));
    return mr_agg_value_schema(fold->layout, &fold->value_text, err);
}

static enum mr_status session_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct session_fold *fold = op;

    MR_TRY(mr_state_store(state, fold->state_name, "session", fold->key_text, fold->value_text,
                          &fold->store, err));
    fold->any_run = false;
    forget_shards(fold);
    return MR_OK;
}

/* ---- state of an edited query ---- */

static void adaption_free(void *arg)
{
    struct mr_store_adaption *of_buffers = arg;

    if (of_buffers->free != NULL)
        of_buffers->free(of_buffers->arg);
    mr_free(of_buffers);
}

/* The buffers of each session become those of the query as it is now. */
static enum mr_status convert_list(void *arg, struct mr_slice key, struct mr_slice value,
                                   struct mr_buf *ret_key, struct mr_buf *ret_value,
                                   struct mr_error *err)
{
    const struct mr_store_adaption *of_buffers = arg;
    struct mr_buf same_key = MR_BUF_INIT;
    struct mr_buf buffers = MR_BUF_INIT;
    struct session session;
    enum mr_status status = MR_OK;
    bool ok = true;

    mr_buf_add(ret_key, key.data, key.size_bytes);
    while (status == MR_OK && next_session(&value, &session, &ok)) {
        mr_buf_clear(&same_key);
        mr_buf_clear(&buffers);
        status =
            of_buffers->convert(of_buffers->arg, key, session.buffers, &same_key, &buffers, err);
        if (status == MR_OK)
            add_session(ret_value, session.start_us, session.end_us, buffers.data, buffers.size);
    }
    if (status == MR_OK && !ok)
        status = MR_FAIL(err, MR_CORRUPT, "cannot convert sessions: a list of them is cut short");
    if (status == MR_OK && (ret_key->failed || ret_value->failed || buffers.failed))
        status = no_memory(err);
    mr_buf_release(&same_key);
    mr_buf_release(&buffers);
    return status;
}

static enum mr_status session_adapt(void *op, const struct mr_store_change *change,
                                    struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    struct mr_store_adaption of_buffers = {0};
    struct mr_store_adaption *copy;

    (void)op;
    MR_TRY(mr_agg_adapt_store(change, &of_buffers, err));
    *ret_adaption = of_buffers;
    if (of_buffers.convert == NULL)
        return MR_OK;
    copy = mr_alloc(NULL, sizeof(*copy));
    if (copy == NULL) {
        if (of_buffers.free != NULL)
            of_buffers.free(of_buffers.arg);
        return no_memory(err);
    }
    *copy = of_buffers;
    ret_adaption->convert = convert_list;
    ret_adaption->arg = copy;
    ret_adaption->free = adaption_free;
    return MR_OK;
}

static void session_progress(void *op, struct mr_fold_progress *ret_progress)
{
    const struct session_fold *fold = op;

    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        ret_progress->rows_total += fold->shards[i].sessions;
        ret_progress->rows_updated += fold->lanes[i].updated;
        ret_progress->rows_removed += fold->lanes[i].removed;
    }
    ret_progress->bytes = mr_store_bytes(fold->store);
    ret_progress->store_count = 1;
}

static struct mr_store *session_store(void *op)
{
    return ((struct session_fold *)op)->store;
}

static void session_free(void *op)
{
    struct session_fold *fold = op;

    if (fold == NULL)
        return;
    mr_agg_layout_free(fold->layout);
    mr_free(fold->state_name);
    mr_text_free(fold->key_text);
    mr_text_free(fold->value_text);
    mr_free(fold->parts);
    mr_free(fold->order);
    mr_free(fold->ends);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++) {
        mr_free(fold->lanes[i].due);
        mr_buf_release(&fold->lanes[i].list);
        mr_buf_release(&fold->lanes[i].merged);
        mr_buf_release(&fold->lanes[i].key);
        mr_batch_builder_free(fold->lanes[i].builder);
    }
    mr_free(fold);
}

static const struct mr_fold_ops session_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "session",
    .open = session_open,
    .run = session_run,
    .run_partition = session_run_partition,
    .partition_count = session_partition_count,
    .one_when_small = true,
    .wants_batch = session_wants_batch,
    .progress = session_progress,
    .adapt = session_adapt,
    .free = session_free,
    .store = session_store,
};

static enum mr_status check_spec(const struct mr_aggregate_spec *spec, struct mr_error *err)
{
    if (spec->mode == MR_MODE_UPDATE)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot update sessions: one that grows is another row; use append or "
                       "complete mode");
    if (spec->key_count < 3)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot make sessions over all rows; group by another column, too");
    for (uint32_t i = spec->key_count - 2; i < spec->key_count; i++)
        if (mr_schema_field(spec->input, spec->keys[i])->type.id != MR_TYPE_TIMESTAMP)
            return MR_FAIL(err, MR_CONFIG,
                           "cannot take key '%s' as a session: it must be a "
                           "TIMESTAMP",
                           spec->key_names[i]);
    if (spec->event_time_key >= 0 ? (uint32_t)spec->event_time_key != spec->key_count - 1
                                  : spec->mode == MR_MODE_APPEND)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot append sessions that may still grow: their time needs a watermark, "
                       "or use complete mode");
    return MR_OK;
}

enum mr_status mr_op_session_fold(const struct mr_aggregate_spec *spec, struct mr_fold_op *ret_op,
                                  struct mr_error *err)
{
    struct session_fold *fold = mr_alloc_zero(NULL, sizeof(*fold));
    enum mr_status status;

    if (fold == NULL)
        return no_memory(err);
    MR_TRY_GOTO(mr_agg_layout_new(spec, &fold->layout, err));
    MR_TRY_GOTO(check_spec(spec, err));
    MR_TRY_GOTO(print_schemas(fold, err));
    fold->mode = spec->mode;
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        fold->lanes[i].fold = fold;
    fold->closes = spec->event_time_key >= 0;
    fold->state_name = mr_strdup(spec->state_name);
    if (fold->state_name == NULL) {
        status = no_memory(err);
        goto done;
    }
    *ret_op = (struct mr_fold_op){&session_ops, fold, mr_schema_ref(fold->layout->output)};
    fold = NULL;
done:
    session_free(fold);
    return status;
}
