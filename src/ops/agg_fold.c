/*
 * The aggregate fold: merges the partial aggregates of a batch into its store and emits by output
 * mode (structured.md 7, 11).
 *
 *     store    key bytes (row_codec of the key columns) -> buffers (aggregate.c)
 *
 *     partials --late? dropped and counted--> merge into the store (agg_merge.c), then emit
 *
 *     append    expired groups, which leave the store
 *     update    changed groups; expired ones leave silently
 *     complete  the whole store, which keeps everything
 *
 * A group is late when its event time is at or below the late watermark of the batch, expired when
 * it is at or below the watermark in force. Without keys there is one group, which update and
 * complete emit in every batch, and so they do with the group of an empty grouping set.
 *
 * A small batch is one partition's, and emits in key order. In others each shard of the store is
 * one, run by any worker, and emits changed groups in the order of their hashes, expired ones in
 * key order. Which it is depends on the plan of the batch alone (core/operator.h), so a batch that
 * runs again emits the same.
 *
 * Which groups have expired is known from an index by event time (agg_times.h), one a shard, made
 * when it is first needed and forgotten when a batch is run again, since the groups its first run
 * removed are back then.
 *
 * Called by the driver of a query: open, then once a batch run and, on workers, run_partition;
 * wants_batch between batches.
 */
#include "ops/agg_fold.h"

#include "base/check.h"
#include "ops/ordinal.h"

#include <stdlib.h>
#include <string.h>

enum {
    EMIT_ROWS_MAX = 64 * 1024,
    EMIT_BYTES_MAX = 16 * 1024 * 1024,
    EMIT_CHECK_ROWS = 256,
    LEARN_AT_ONCE = 64,
    HINT_AHEAD = 16,
    /* when more than one group in so many may expire, reading all of a shard in order is faster
     * than looking each of them up */
    SCAN_SHARE = 8,
};

enum mr_status mr_agg_fold_no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot fold an aggregation: out of memory");
}

/* ---- keys ---- */

bool mr_agg_keys_add(struct mr_agg_keys *list, const char *data, size_t size_bytes)
{
    if (list->count == list->capacity) {
        size_t capacity = list->capacity == 0 ? 64 : list->capacity * 2;
        struct mr_agg_key *keys = mr_realloc(NULL, list->keys, capacity * sizeof(*keys));
        if (keys == NULL)
            return false;
        list->keys = keys;
        list->capacity = capacity;
    }
    list->keys[list->count++] = (struct mr_agg_key){data, size_bytes};
    return true;
}

static int compare_keys(const void *a_pointer, const void *b_pointer)
{
    const struct mr_agg_key *a = a_pointer;
    const struct mr_agg_key *b = b_pointer;
    size_t common = MR_MIN(a->size_bytes, b->size_bytes);
    int order = common == 0 ? 0 : memcmp(a->data, b->data, common);

    return order != 0 ? order : (a->size_bytes > common) - (b->size_bytes > common);
}

void mr_agg_keys_sort(struct mr_agg_keys *list)
{
    size_t kept = 0;

    if (list->count < 2)
        return;
    qsort(list->keys, list->count, sizeof(*list->keys), compare_keys);
    for (size_t i = 1; i < list->count; i++)
        if (compare_keys(&list->keys[kept], &list->keys[i]) != 0)
            list->keys[++kept] = list->keys[i];
    list->count = kept + 1;
}

/* Steps over one key value (data/row_codec.h); false when it is none. */
static bool skip_value(struct mr_bytes *bytes, const struct mr_type *type)
{
    uint8_t flag = mr_bytes_u8(bytes);

    if (bytes->failed || flag > 1)
        return false;
    if (flag == 0)
        return true;
    switch (type->id) {
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        do { /* up to 00 00; 00 ff is a zero byte of the text */
            const uint8_t *zero = memchr(bytes->at, 0, mr_bytes_left(bytes));
            if (zero == NULL)
                return false;
            bytes->at = zero + 1;
            flag = mr_bytes_u8(bytes);
        } while (!bytes->failed && flag == 0xff);
        return !bytes->failed && flag == 0;
    case MR_TYPE_LIST:
        while ((flag = mr_bytes_u8(bytes)) == 1 && !bytes->failed)
            if (!skip_value(bytes, &type->fields[0].type))
                return false;
        return !bytes->failed && flag == 0;
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < type->field_count; i++)
            if (!skip_value(bytes, &type->fields[i].type))
                return false;
        return true;
    default:
        (void)mr_bytes_take(bytes, type->id == MR_TYPE_BOOL ? 1 : mr_type_width(type->id));
        return !bytes->failed;
    }
}

enum mr_status mr_agg_key_time(const struct mr_agg_fold *fold, const char *key, size_t key_bytes,
                               bool *ret_has, int64_t *ret_time_us, struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(key, key_bytes);
    uint64_t time = 0;
    bool ok = true;

    for (int32_t i = 0; ok && i < fold->time_key; i++)
        ok = skip_value(&bytes, &mr_schema_field(fold->layout->output, (uint32_t)i)->type);
    uint8_t flag = ok ? mr_bytes_u8(&bytes) : 0;
    const uint8_t *at = flag == 1 ? (const uint8_t *)mr_bytes_take(&bytes, 8) : NULL;
    if (!ok || bytes.failed || flag > 1)
        return MR_FAIL(err, MR_CORRUPT,
                       "cannot find the event time in a key; restore the checkpoint from a copy");
    *ret_has = at != NULL;
    if (at == NULL)
        return MR_OK;
    for (int i = 0; i < 8; i++)
        time = time << 8 | at[i];
    int64_t time_us = (int64_t)(time ^ UINT64_C(1) << 63);
    if (fold->time_is_nanos)
        time_us = mr_floor_div(time_us, 1000);
    if (__builtin_add_overflow(time_us, fold->time_add_us, &time_us))
        time_us = fold->time_add_us < 0 ? INT64_MIN + 1 : INT64_MAX;
    *ret_time_us = time_us;
    return MR_OK;
}

/* ---- output ---- */

static enum mr_status flush(struct mr_agg_lane *lane, struct mr_error *err)
{
    struct mr_batch *batch = NULL;

    if (lane->builder_rows == 0)
        return MR_OK;
    MR_TRY(mr_batch_builder_rows_added(lane->builder, lane->builder_rows, err));
    lane->builder_rows = 0;
    MR_TRY(mr_batch_builder_finish(lane->builder, &batch, err));
    enum mr_status status = mr_output_emit(lane->out, batch, err);
    mr_batch_unref(batch);
    return status;
}

static inline enum mr_status end_row(struct mr_agg_lane *lane, struct mr_error *err)
{
    lane->builder_rows++;
    if (lane->builder_rows >= EMIT_ROWS_MAX ||
        (lane->builder_rows % EMIT_CHECK_ROWS == 0 &&
         mr_batch_builder_bytes(lane->builder) >= EMIT_BYTES_MAX))
        return flush(lane, err);
    return MR_OK;
}

enum mr_status mr_agg_lane_emit(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                struct mr_slice key, struct mr_slice buffers, struct mr_error *err)
{
    if (lane->builder == NULL)
        MR_TRY(mr_batch_builder_new(fold->layout->output, &lane->builder, err));
    MR_TRY(mr_agg_emit_row(fold->layout, key, buffers, lane->builder, err));
    return end_row(lane, err);
}

/* Of a batch that begins. */
static enum mr_status reserve_rows(const struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                   struct mr_error *err)
{
    int64_t rows = (int64_t)MR_MIN(lane->rows_left, (size_t)EMIT_ROWS_MAX);
    uint32_t columns = fold->layout->key_count + fold->layout->result_count;

    lane->rows_left -= (size_t)rows;
    for (uint32_t i = 0; i < columns && rows > 0; i++)
        MR_TRY(mr_column_builder_reserve(mr_batch_builder_column(lane->builder, i), rows, 0, err));
    return MR_OK;
}

enum mr_status mr_agg_lane_emit_narrow(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                       struct mr_slice key, const uint64_t *words,
                                       struct mr_error *err)
{
    if (lane->builder == NULL)
        MR_TRY(mr_batch_builder_new(fold->layout->output, &lane->builder, err));
    if (lane->builder_rows == 0)
        MR_TRY(reserve_rows(fold, lane, err));
    MR_TRY(mr_agg_emit_narrow(fold->layout, key, words, lane->builder, err));
    return end_row(lane, err);
}

static enum mr_status emit_keys(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                const struct mr_agg_keys *list, struct mr_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        struct mr_slice key = {list->keys[i].data, list->keys[i].size_bytes};
        struct mr_slice buffers = {NULL, 0};
        bool found =
            mr_store_get(fold->store, key.data, key.size_bytes, &buffers.data, &buffers.size_bytes);
        MR_ASSERT(found);
        MR_TRY(mr_agg_lane_emit(fold, lane, key, buffers, err));
    }
    return MR_OK;
}

struct emit_all {
    struct mr_agg_fold *fold;
    struct mr_agg_lane *lane;
    enum mr_status status;
    struct mr_error *err;
};

static bool emit_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct emit_all *all = arg;

    all->status = mr_agg_lane_emit(all->fold, all->lane, (struct mr_slice){key, key_bytes},
                                   (struct mr_slice){value, value_bytes}, all->err);
    return all->status == MR_OK;
}

/* All groups of the lane: in key order when it has all there are. */
static enum mr_status emit_groups(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                  struct mr_error *err)
{
    struct emit_all all = {fold, lane, MR_OK, err};

    if (lane->first_shard == lane->last_shard)
        (void)mr_store_scan_shard(fold->store, lane->first_shard, emit_entry, &all);
    else
        MR_TRY(mr_store_scan_sorted(fold->store, NULL, 0, emit_entry, &all, err));
    return all.status;
}

bool mr_agg_is_always(const struct mr_agg_fold *fold, struct mr_slice key)
{
    for (size_t i = 0; i < fold->always.count; i++) {
        const struct mr_agg_key *one = &fold->always.keys[i];

        if (one->size_bytes == key.size_bytes &&
            (key.size_bytes == 0 || memcmp(one->data, key.data, key.size_bytes) == 0))
            return true;
    }
    return false;
}

/* A group that is there from the first batch on: count 0, the others null. Update mode emits it in
 * every batch: a lane of one shard here, the lane of all with the changed groups. */
static enum mr_status touch_group(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                  const struct mr_agg_key *key, struct mr_error *err)
{
    unsigned shard = mr_store_shard(mr_store_hash(fold->store, key->data, key->size_bytes));
    struct mr_slice have = {NULL, 0};

    if (shard < lane->first_shard || shard > lane->last_shard)
        return MR_OK; /* another lane's */
    if (!mr_store_get(fold->store, key->data, key->size_bytes, &have.data, &have.size_bytes)) {
        mr_buf_clear(&lane->merged);
        if (!mr_buf_reserve(&lane->merged, fold->layout->fixed_bytes))
            return mr_agg_fold_no_memory(err);
        memset(lane->merged.data, 0, fold->layout->fixed_bytes);
        have = (struct mr_slice){lane->merged.data, fold->layout->fixed_bytes};
        MR_TRY(
            mr_store_put(fold->store, key->data, key->size_bytes, have.data, have.size_bytes, err));
    }
    if (fold->mode != MR_MODE_UPDATE)
        return MR_OK;
    if (lane->first_shard == lane->last_shard)
        return mr_agg_lane_emit(fold, lane, (struct mr_slice){key->data, key->size_bytes}, have,
                                err);
    return mr_agg_keys_add(&lane->touched, key->data, key->size_bytes) ? MR_OK
                                                                       : mr_agg_fold_no_memory(err);
}

static enum mr_status touch_always(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                   struct mr_error *err)
{
    for (size_t i = 0; i < fold->always.count; i++)
        MR_TRY(touch_group(fold, lane, &fold->always.keys[i], err));
    return MR_OK;
}

/* ---- expiry ---- */

/* Visits of one shard or of single entries. */
struct search {
    struct mr_agg_fold *fold;
    struct mr_agg_lane *lane; /* collects expired keys */
    int64_t watermark_us;
    enum mr_status status;
    struct mr_error *err;
};

/* Expired keys into the lane. */
static bool collect_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                          void *arg)
{
    struct search *search = arg;
    struct mr_agg_lane *lane = search->lane;
    int64_t time_us = 0;
    bool has_time = false;

    (void)value;
    (void)value_bytes;
    search->status =
        mr_agg_key_time(search->fold, key, key_bytes, &has_time, &time_us, search->err);
    if (search->status != MR_OK)
        return false;
    if (!has_time || time_us > search->watermark_us)
        return true;
    char *copy = mr_arena_copy(&lane->arena, key, key_bytes);
    if (copy == NULL || !mr_agg_keys_add(&lane->expired, copy, key_bytes))
        search->status = mr_agg_fold_no_memory(search->err);
    return search->status == MR_OK;
}

/* The index of a shard from its groups. */
static enum mr_status learn_times(struct mr_agg_fold *fold, unsigned shard, struct mr_error *err)
{
    struct mr_agg_times *times = &fold->times[shard];
    struct mr_store_entry entries[LEARN_AT_ONCE];
    uint32_t cursor = 0;
    size_t count;

    mr_agg_times_clear(times);
    while ((count = mr_store_read_shard(fold->store, shard, &cursor, entries, LEARN_AT_ONCE)) > 0) {
        for (size_t i = 0; i < count; i++) {
            int64_t time_us = 0;
            bool has_time = false;

            MR_TRY(mr_agg_key_time(fold, entries[i].key, entries[i].key_bytes, &has_time, &time_us,
                                   err));
            if (!has_time)
                continue;
            times->least_us = MR_MIN(times->least_us, time_us);
            if (!mr_agg_times_add(times, time_us, entries[i].fragment))
                return mr_agg_fold_no_memory(err);
        }
    }
    times->is_known = true;
    return MR_OK;
}

static int compare_fragments(const void *a_pointer, const void *b_pointer)
{
    const uint32_t *a = a_pointer;
    const uint32_t *b = b_pointer;

    return (*a > *b) - (*a < *b);
}

/* By the index: in the order of the table, so that memory is read forwards. */
static enum mr_status collect_some(struct search *search, const struct mr_agg_times *times,
                                   uint64_t count)
{
    uint32_t *fragments = mr_alloc(NULL, (count + 1) * sizeof(*fragments));

    if (fragments == NULL)
        return mr_agg_fold_no_memory(search->err);
    mr_agg_times_read(times, search->watermark_us, fragments);
    qsort(fragments, count, sizeof(*fragments), compare_fragments);
    for (uint64_t i = 0; i < count && search->status == MR_OK; i++) {
        if (i + HINT_AHEAD < count)
            mr_store_hint(search->fold->store, (uint64_t)fragments[i + HINT_AHEAD] << 32, 0);
        if (i == 0 || fragments[i] != fragments[i - 1])
            mr_store_visit_fragment(search->fold->store, fragments[i], collect_entry, search);
    }
    mr_free(fragments);
    return search->status;
}

/* Fills lane->expired from the shards whose oldest group may have expired. */
static enum mr_status find_expired(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                   int64_t watermark_us, struct mr_error *err)
{
    for (unsigned shard = lane->first_shard; shard <= lane->last_shard; shard++) {
        struct mr_agg_times *times = &fold->times[shard];
        struct search search = {fold, lane, watermark_us, MR_OK, err};
        uint64_t count;

        if (!times->is_known)
            MR_TRY(learn_times(fold, shard, err));
        if (times->least_us > watermark_us)
            continue;
        count = mr_agg_times_count(times, watermark_us);
        if (count > mr_store_shard_count(fold->store, shard) / SCAN_SHARE)
            (void)mr_store_scan_shard(fold->store, shard, collect_entry, &search);
        else
            MR_TRY(collect_some(&search, times, count));
        MR_TRY(search.status);
        mr_agg_times_drop(times, watermark_us);
    }
    mr_agg_keys_sort(&lane->expired);
    return MR_OK;
}

static enum mr_status expire(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                             struct mr_error *err)
{
    int64_t watermark_us = lane->info->watermark_us;

    if (fold->time_key < 0 || fold->mode == MR_MODE_COMPLETE || watermark_us == INT64_MIN)
        return MR_OK;
    MR_TRY(find_expired(fold, lane, watermark_us, err));
    if (fold->mode == MR_MODE_APPEND)
        MR_TRY(emit_keys(fold, lane, &lane->expired, err));
    for (size_t i = 0; i < lane->expired.count; i++)
        MR_TRY(mr_store_delete(fold->store, lane->expired.keys[i].data,
                               lane->expired.keys[i].size_bytes, err));
    return MR_OK;
}

/* ---- the operator ---- */

static void clear_lane(struct mr_agg_lane *lane)
{
    lane->touched.count = 0;
    lane->expired.count = 0;
    lane->late_rows = 0;
    lane->rows_left = 0;
    mr_arena_clear(&lane->arena);
}

static enum mr_status find_parts(struct mr_agg_fold *fold, const struct mr_fold_call *call,
                                 struct mr_error *err)
{
    size_t count = 0;

    fold->part_count = 0;
    for (size_t i = 0; i < call->input_count; i++)
        count += call->inputs[i].present ? call->inputs[i].batch_count : 0;
    mr_free(fold->parts);
    fold->parts = mr_alloc(NULL, (count + 1) * sizeof(*fold->parts));
    if (fold->parts == NULL)
        return mr_agg_fold_no_memory(err);
    for (size_t i = 0; i < call->input_count; i++) {
        for (size_t b = 0; call->inputs[i].present && b < call->inputs[i].batch_count; b++) {
            const struct mr_batch *batch = call->inputs[i].batches[b];

            fold->parts[fold->part_count++] =
                (struct mr_agg_part){mr_batch_column(batch, 0), mr_batch_column(batch, 1),
                                     fold->link == NULL ? NULL : mr_batch_column(batch, 2)->values};
        }
    }
    return MR_OK;
}

static void forget_times(struct mr_agg_fold *fold)
{
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++)
        mr_agg_times_clear(&fold->times[shard]);
}

static enum mr_status fold_run(void *op, struct mr_fold_call *call, struct mr_error *err)
{
    struct mr_agg_fold *fold = op;

    /* run again: the state was rolled back */
    if (fold->any_run && call->info->batch_id <= fold->last_batch_id)
        forget_times(fold);
    fold->any_run = true;
    fold->last_batch_id = call->info->batch_id;
    fold->last_watermark_us = call->info->watermark_us;
    return find_parts(fold, call, err);
}

static enum mr_status fold_lane(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                const struct mr_fold_call *call, struct mr_error *err)
{
    bool whole = call->partition_count == 1;

    if (whole)
        MR_TRY(mr_agg_merge_all(fold, lane, err));
    else
        MR_TRY(mr_agg_merge_shard(fold, lane, err));
    if (lane->late_rows > 0)
        mr_output_late_rows(call->out, lane->late_rows);
    MR_TRY(touch_always(fold, lane, err));
    if (!call->fires)
        return MR_OK; /* nobody would see what leaves: it stays for a batch that fires */
    if (fold->mode == MR_MODE_COMPLETE)
        MR_TRY(emit_groups(fold, lane, err));
    if (fold->mode == MR_MODE_UPDATE && whole) {
        mr_agg_keys_sort(&lane->touched);
        MR_TRY(emit_keys(fold, lane, &lane->touched, err));
    }
    MR_TRY(expire(fold, lane, err));
    return flush(lane, err);
}

static enum mr_status fold_run_partition(void *op, uint32_t partition, struct mr_fold_call *call,
                                         struct mr_error *err)
{
    struct mr_agg_fold *fold = op;
    struct mr_agg_lane *lane = &fold->lanes[partition];
    enum mr_status status;

    clear_lane(lane);
    lane->out = call->out;
    lane->info = call->info;
    lane->first_shard = call->partition_count == 1 ? 0 : partition;
    lane->last_shard = call->partition_count == 1 ? MR_STORE_SHARDS - 1 : partition;
    status = fold_lane(fold, lane, call, err);
    if (status != MR_OK) { /* the builder may hold half a row */
        mr_batch_builder_free(lane->builder);
        lane->builder = NULL;
        lane->builder_rows = 0;
    }
    return status;
}

static uint32_t fold_partition_count(void *op)
{
    const struct mr_agg_fold *fold = op;

    return fold->layout->key_count == 0 || fold->link == NULL ? 1 : MR_STORE_SHARDS;
}

/* The least event time of all groups. */
static enum mr_status find_least(struct mr_agg_fold *fold, int64_t *ret_least_us)
{
    *ret_least_us = INT64_MAX;
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        if (!fold->times[shard].is_known)
            MR_TRY(learn_times(fold, shard, NULL));
        *ret_least_us = MR_MIN(*ret_least_us, fold->times[shard].least_us);
    }
    return MR_OK;
}

/*
 * Uninterrupted: whenever the watermark has moved since the last run. First batch after a restart:
 * when there is something to take out, so that a run that was killed before its last empty batch
 * emits what it would have emitted.
 */
static bool fold_wants_batch(void *op, int64_t watermark_us, int64_t batch_time_us)
{
    struct mr_agg_fold *fold = op;
    int64_t least_us;

    (void)batch_time_us;
    if (fold->time_key < 0 || fold->mode == MR_MODE_COMPLETE || watermark_us == INT64_MIN)
        return false;
    if (fold->any_run)
        return watermark_us > fold->last_watermark_us;
    /* a failure: the batch will report it */
    return find_least(fold, &least_us) != MR_OK || least_us <= watermark_us;
}

static enum mr_status fold_open(void *op, struct mr_state *state, struct mr_error *err)
{
    struct mr_agg_fold *fold = op;
    char *keys = NULL;
    char *values = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_agg_key_schema(fold->layout, &keys, err));
    MR_TRY_GOTO(mr_agg_value_schema(fold->layout, &values, err));
    MR_TRY_GOTO(
        mr_state_store(state, fold->state_name, "aggregate", keys, values, &fold->store, err));
    if (fold->link != NULL)
        fold->link->seed = mr_store_seed(fold->store);
    fold->any_run = false;
    forget_times(fold);
done:
    mr_text_free(keys);
    mr_text_free(values);
    return status;
}

static enum mr_status fold_adapt(void *op, const struct mr_store_change *change,
                                 struct mr_store_adaption *ret_adaption, struct mr_error *err)
{
    (void)op;
    return mr_agg_adapt_store(change, ret_adaption, err);
}

static struct mr_store *fold_store(void *op)
{
    return ((struct mr_agg_fold *)op)->store;
}

static void free_lane(struct mr_agg_lane *lane)
{
    mr_agg_bucket_release(&lane->bucket);
    mr_free(lane->cursors);
    mr_free(lane->touched.keys);
    mr_free(lane->expired.keys);
    mr_arena_release(&lane->arena);
    mr_buf_release(&lane->merged);
    mr_batch_builder_free(lane->builder);
}

static void fold_free(void *op)
{
    struct mr_agg_fold *fold = op;

    if (fold == NULL)
        return;
    mr_agg_layout_free(fold->layout);
    mr_agg_link_unref(fold->link);
    mr_free(fold->state_name);
    mr_free(fold->parts);
    mr_free(fold->always.keys);
    mr_arena_release(&fold->arena);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        free_lane(&fold->lanes[i]);
    for (unsigned i = 0; i < MR_STORE_SHARDS; i++)
        mr_agg_times_release(&fold->times[i]);
    mr_free(fold);
}

static const struct mr_fold_ops fold_ops = {
    .struct_size = sizeof(struct mr_fold_ops),
    .kind = "aggregate",
    .open = fold_open,
    .run = fold_run,
    .partition_count = fold_partition_count,
    .one_when_small = true,
    .run_partition = fold_run_partition,
    .wants_batch = fold_wants_batch,
    .free = fold_free,
    .store = fold_store,
    .adapt = fold_adapt,
};

static enum mr_status copy_always(struct mr_agg_fold *fold, const struct mr_aggregate_spec *spec,
                                  struct mr_error *err)
{
    if (fold->layout->key_count == 0)
        return mr_agg_keys_add(&fold->always, "", 0) ? MR_OK : mr_agg_fold_no_memory(err);
    for (uint32_t i = 0; i < spec->always_count && spec->mode != MR_MODE_APPEND; i++) {
        const struct mr_slice *key = &spec->always[i];
        const char *copy = mr_arena_copy(&fold->arena, key->data, key->size_bytes);

        if (copy == NULL || !mr_agg_keys_add(&fold->always, copy, key->size_bytes))
            return mr_agg_fold_no_memory(err);
    }
    return MR_OK;
}

enum mr_status mr_agg_fold_new(const struct mr_aggregate_spec *spec, struct mr_agg_link *link,
                               struct mr_fold_op *ret_op, struct mr_error *err)
{
    struct mr_agg_fold *fold = NULL;
    enum mr_status status;

    if (spec->mode == MR_MODE_APPEND && spec->event_time_key < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot append groups that may still change: group by an event time with a "
                       "watermark, or use update or complete mode");
    fold = mr_alloc_zero(NULL, sizeof(*fold));
    if (fold == NULL)
        return mr_agg_fold_no_memory(err);
    if (link != NULL) {
        fold->link = link;
        link->user_count++;
    }
    MR_TRY_GOTO(mr_agg_layout_new(spec, &fold->layout, err));
    MR_TRY_GOTO(copy_always(fold, spec, err));
    fold->mode = spec->mode;
    fold->time_key = spec->event_time_key;
    fold->time_add_us = spec->event_time_add_us;
    fold->time_is_nanos =
        spec->event_time_key >= 0 &&
        mr_schema_field(fold->layout->output, (uint32_t)spec->event_time_key)->type.id ==
            MR_TYPE_TIMESTAMP_NS;
    fold->state_name = mr_strdup(spec->state_name);
    if (fold->state_name == NULL) {
        status = mr_agg_fold_no_memory(err);
        goto done;
    }
    *ret_op = (struct mr_fold_op){&fold_ops, fold, mr_schema_ref(fold->layout->output)};
    fold = NULL;
done:
    fold_free(fold);
    return status;
}

enum mr_status mr_op_aggregate_fold(const struct mr_aggregate_spec *spec, struct mr_fold_op *ret_op,
                                    struct mr_error *err)
{
    return mr_agg_fold_new(spec, NULL, ret_op, err);
}
