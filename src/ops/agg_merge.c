/*
 * Partials into the store of the aggregate fold.
 *
 *     small batch   in order of arrival: partition by partition, row by row
 *     else          dealt out by shard --> sorted by hash --> one pass through the shard
 *
 * A shard keeps its entries by hash, so the sorted pass walks through memory instead of jumping
 * about in it, and the entries it will need are asked for ahead. Partials of one key lie side by
 * side then, in order of arrival (the sort is stable), so a changed group can be emitted as soon as
 * the last of them is in, without looking it up again.
 *
 * Thread: mr_agg_deal the driver's, the others the lane's.
 */
#include "ops/agg_fold.h"

#include "base/check.h"

#include <string.h>

enum {
    FAR = 32,
    NEAR = 16,
    DIGIT_BITS = 11,
    DIGITS = 1 << DIGIT_BITS,
    SORTED_FROM = 28, /* bits of a hash below it are not sorted by */
    FIRST_LOOK = 256,
};
/* Not an event time: they are at least INT64_MIN + 1. */
static const int64_t NO_TIME = INT64_MIN;

static struct mr_slice key_of(const struct mr_agg_ref *ref)
{
    return (struct mr_slice){ref->key, ref->key_bytes};
}

static struct mr_slice value_of(const struct mr_agg_ref *ref)
{
    return (struct mr_slice){ref->value, ref->value_bytes};
}

/* ---- One partial ---- */

/* Counts a late one. *ret_time_us: NO_TIME = it has none. */
static enum mr_status check_time(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                 struct mr_slice key, struct mr_slice buffers, bool *ret_late,
                                 int64_t *ret_time_us, struct mr_error *err)
{
    const struct mr_batch_info *info = lane->info;
    int64_t time_us = 0;
    bool has_time = false;

    *ret_late = false;
    *ret_time_us = NO_TIME;
    if (fold->time_key < 0)
        return MR_OK;
    MR_TRY(mr_agg_key_time(fold, key.data, key.size_bytes, &has_time, &time_us, err));
    if (!has_time)
        return MR_OK;
    if (fold->mode != MR_MODE_COMPLETE && info->late_watermark_us != INT64_MIN &&
        time_us <= info->late_watermark_us) {
        MR_TRY(mr_agg_check(fold->layout, buffers, err));
        lane->late_rows += mr_load_u64(buffers.data);
        *ret_late = true;
        return MR_OK;
    }
    *ret_time_us = time_us;
    return MR_OK;
}

/* A group that was not there. */
static enum mr_status note_time(struct mr_agg_fold *fold, uint64_t hash, int64_t time_us,
                                struct mr_error *err)
{
    struct mr_agg_times *times = &fold->times[mr_store_shard(hash)];

    if (time_us == NO_TIME || fold->mode == MR_MODE_COMPLETE)
        return MR_OK;
    times->least_us = MR_MIN(times->least_us, time_us);
    if (times->is_known && !mr_agg_times_add(times, time_us, (uint32_t)(hash >> 32)))
        return mr_agg_fold_no_memory(err);
    return MR_OK;
}

/* Merges a partial; *ret_value: the buffers of its group now, until the next change of the lane. */
static enum mr_status merge_group(struct mr_agg_fold *fold, struct mr_agg_lane *lane, uint64_t hash,
                                  int64_t time_us, struct mr_slice key, struct mr_slice buffers,
                                  struct mr_slice *ret_value, struct mr_error *err)
{
    const struct mr_agg_layout *layout = fold->layout;
    char *value = NULL;
    bool created = false;

    MR_TRY(mr_agg_check(layout, buffers, err));
    if (layout->bytes_count == 0) {
        MR_TRY(mr_store_upsert_hashed(fold->store, hash, key.data, key.size_bytes,
                                      layout->fixed_bytes, &value, &created, err));
        *ret_value = (struct mr_slice){value, layout->fixed_bytes};
        if (!created)
            return mr_agg_merge_fixed(layout, value, buffers.data, err);
        memcpy(value, buffers.data, buffers.size_bytes);
        return note_time(fold, hash, time_us, err);
    }
    struct mr_slice have = {NULL, 0};
    *ret_value = buffers;
    if (mr_store_get_hashed(fold->store, hash, key.data, key.size_bytes, &have.data,
                            &have.size_bytes)) {
        MR_TRY(mr_agg_merge_into(layout, have, buffers, &lane->merged, err));
        *ret_value = (struct mr_slice){lane->merged.data, lane->merged.size};
    } else {
        MR_TRY(note_time(fold, hash, time_us, err));
    }
    return mr_store_put(fold->store, key.data, key.size_bytes, ret_value->data,
                        ret_value->size_bytes, err);
}

enum mr_status mr_agg_merge_all(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                struct mr_error *err)
{
    for (size_t p = 0; p < fold->part_count; p++) {
        const struct mr_agg_part *part = &fold->parts[p];

        for (int64_t row = 0; row < part->keys->length; row++) {
            struct mr_slice key = mr_column_text(part->keys, row);
            struct mr_slice buffers = mr_column_text(part->values, row);
            uint64_t hash = mr_store_hash(fold->store, key.data, key.size_bytes);
            struct mr_slice value;
            int64_t time_us;
            bool late;

            MR_TRY(check_time(fold, lane, key, buffers, &late, &time_us, err));
            if (late)
                continue;
            MR_TRY(merge_group(fold, lane, hash, time_us, key, buffers, &value, err));
            if (fold->mode == MR_MODE_UPDATE &&
                !mr_agg_keys_add(&lane->touched, key.data, key.size_bytes))
                return mr_agg_fold_no_memory(err);
        }
    }
    return MR_OK;
}

/* ---- Dealing out, sorting ---- */

void mr_agg_refs_release(struct mr_agg_refs *refs)
{
    mr_free(refs->refs);
    mr_free(refs->scratch);
    *refs = (struct mr_agg_refs){0};
}

static bool refs_reserve(struct mr_agg_refs *refs, size_t count)
{
    if (count <= refs->capacity)
        return true;
    mr_agg_refs_release(refs);
    refs->refs = mr_alloc(NULL, count * sizeof(*refs->refs));
    refs->scratch = mr_alloc(NULL, count * sizeof(*refs->scratch));
    if (refs->refs == NULL || refs->scratch == NULL) {
        mr_agg_refs_release(refs);
        return false;
    }
    refs->capacity = count;
    return true;
}

/* The hash of each partial, and room for as many as each shard gets. */
static enum mr_status count_shards(struct mr_agg_fold *fold, uint64_t *hashes, struct mr_error *err)
{
    size_t counts[MR_STORE_SHARDS] = {0};
    size_t at = 0;

    for (size_t p = 0; p < fold->part_count; p++) {
        const struct mr_column *keys = fold->parts[p].keys;

        for (int64_t row = 0; row < keys->length; row++) {
            struct mr_slice key = mr_column_text(keys, row);

            hashes[at] = mr_store_hash(fold->store, key.data, key.size_bytes);
            counts[mr_store_shard(hashes[at++])]++;
        }
    }
    for (unsigned shard = 0; shard < MR_STORE_SHARDS; shard++) {
        fold->lanes[shard].refs.count = 0;
        if (!refs_reserve(&fold->lanes[shard].refs, counts[shard]))
            return mr_agg_fold_no_memory(err);
    }
    return MR_OK;
}

enum mr_status mr_agg_deal(struct mr_agg_fold *fold, struct mr_error *err)
{
    size_t rows = 0, at = 0;
    uint64_t *hashes;
    enum mr_status status;

    for (size_t p = 0; p < fold->part_count; p++)
        rows += (size_t)fold->parts[p].keys->length;
    hashes = mr_alloc(NULL, (rows + 1) * sizeof(*hashes));
    if (hashes == NULL)
        return mr_agg_fold_no_memory(err);
    status = count_shards(fold, hashes, err);
    for (size_t p = 0; p < fold->part_count && status == MR_OK; p++) {
        for (int64_t row = 0; row < fold->parts[p].keys->length; row++, at++) {
            struct mr_agg_refs *refs = &fold->lanes[mr_store_shard(hashes[at])].refs;
            struct mr_slice key = mr_column_text(fold->parts[p].keys, row);
            struct mr_slice value = mr_column_text(fold->parts[p].values, row);

            refs->refs[refs->count++] =
                (struct mr_agg_ref){hashes[at], key.data, value.data, (uint32_t)key.size_bytes,
                                    (uint32_t)value.size_bytes};
        }
    }
    mr_free(hashes);
    return status;
}

static void sort_digit(struct mr_agg_refs *refs, unsigned shift)
{
    uint32_t starts[DIGITS + 1] = {0};
    struct mr_agg_ref *sorted = refs->scratch;

    for (size_t i = 0; i < refs->count; i++)
        starts[(refs->refs[i].hash >> shift & (DIGITS - 1)) + 1]++;
    for (size_t d = 0; d < DIGITS; d++)
        starts[d + 1] += starts[d];
    for (size_t i = 0; i < refs->count; i++)
        sorted[starts[refs->refs[i].hash >> shift & (DIGITS - 1)]++] = refs->refs[i];
    refs->scratch = refs->refs;
    refs->refs = sorted;
}

/* By the upper 33 bits below those of the shard; what is equal in them stays in order. */
static void sort_refs(struct mr_agg_refs *refs)
{
    for (unsigned digit = 0; digit < 3; digit++)
        sort_digit(refs, SORTED_FROM + digit * DIGIT_BITS);
}

/* ---- A shard ---- */

/* Has an earlier partial of the run the same key? */
static bool is_repeated(const struct mr_agg_ref *run, size_t index)
{
    struct mr_slice key = key_of(&run[index]);

    for (size_t i = 0; i < index; i++) {
        struct mr_slice other = key_of(&run[i]);

        if (run[i].hash == run[index].hash && other.size_bytes == key.size_bytes &&
            memcmp(other.data, key.data, key.size_bytes) == 0)
            return true;
    }
    return false;
}

/* The groups of a run of partials whose hashes are equal as far as they were sorted; those that
 * every batch emits follow at its end. */
static enum mr_status emit_run(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                               const struct mr_agg_ref *run, size_t count, struct mr_error *err)
{
    for (size_t i = 0; i < count; i++) {
        struct mr_slice key = key_of(&run[i]);
        struct mr_slice value = {NULL, 0};

        if (is_repeated(run, i) || mr_agg_is_always(fold, key) ||
            !mr_store_get_hashed(fold->store, run[i].hash, key.data, key.size_bytes, &value.data,
                                 &value.size_bytes))
            continue;
        MR_TRY(mr_agg_lane_emit(fold, lane, key, value, err));
    }
    return MR_OK;
}

static enum mr_status merge_run(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                const struct mr_agg_ref *run, size_t count, struct mr_error *err)
{
    struct mr_slice value = {NULL, 0};
    size_t merged = 0;

    for (size_t i = 0; i < count; i++) {
        struct mr_slice key = key_of(&run[i]);
        struct mr_slice buffers = value_of(&run[i]);
        int64_t time_us;
        bool late;

        MR_TRY(check_time(fold, lane, key, buffers, &late, &time_us, err));
        if (late)
            continue;
        MR_TRY(merge_group(fold, lane, run[i].hash, time_us, key, buffers, &value, err));
        merged++;
    }
    if (fold->mode != MR_MODE_UPDATE || merged == 0)
        return MR_OK;
    if (count == 1 && !mr_agg_is_always(fold, key_of(run)))
        return mr_agg_lane_emit(fold, lane, key_of(run), value, err);
    return emit_run(fold, lane, run, count, err);
}

/* What will be needed soon: the bytes of the partial, its place in the table, its entry. */
static void hint(const struct mr_agg_fold *fold, const struct mr_agg_refs *refs, size_t at)
{
    const struct mr_agg_ref *ref = &refs->refs[at];
    size_t left = refs->count - at;

    if (left > FAR) {
        __builtin_prefetch(ref[FAR].key);
        __builtin_prefetch(ref[FAR].value);
        mr_store_hint(fold->store, ref[FAR].hash, 0);
    }
    if (left > NEAR)
        mr_store_hint(fold->store, ref[NEAR].hash, 1);
}

/* After some partials: how many groups of all will be new ones? Hashes are even: the first
 * tell. */
static void expect_groups(struct mr_agg_fold *fold, const struct mr_agg_lane *lane, size_t done,
                          uint64_t count_before)
{
    uint64_t made = mr_store_shard_count(fold->store, lane->first_shard) - count_before;
    uint64_t left = (uint64_t)(lane->refs.count - done);

    mr_store_expect(fold->store, lane->first_shard, made * left / done * 9 / 8 + 16);
}

enum mr_status mr_agg_merge_shard(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                  struct mr_error *err)
{
    struct mr_agg_refs *refs = &lane->refs;
    uint64_t count_before = mr_store_shard_count(fold->store, lane->first_shard);
    size_t look_at = FIRST_LOOK;
    size_t end;

    sort_refs(refs);
    for (size_t at = 0; at < refs->count; at = end) {
        uint64_t bits = refs->refs[at].hash >> SORTED_FROM;

        hint(fold, refs, at);
        for (end = at + 1; end < refs->count && refs->refs[end].hash >> SORTED_FROM == bits; end++)
            hint(fold, refs, end);
        MR_TRY(merge_run(fold, lane, &refs->refs[at], end - at, err));
        if (end >= look_at) {
            expect_groups(fold, lane, end, count_before);
            look_at *= 16;
        }
    }
    return MR_OK;
}
