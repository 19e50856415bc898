/*
 * Partials into the store of the aggregate fold.
 *
 *     small batch   in order of arrival: partition by partition, row by row
 *     else          a shard bucket by bucket: gathered from all tasks --> sorted by hash --> merged
 *
 * Each batch of partials has its rows by bucket (agg_deal.h), so a bucket is one stretch of rows in
 * each of them, and what is gathered and sorted at a time fits the second-level cache. A shard has
 * its entries by hash, so merging walks through memory instead of jumping about in it, and the
 * entries it will need are asked for ahead. Partials of one key lie side by side then, in order of
 * arrival (the sort is stable), so a changed group can be emitted as soon as the last of them is
 * in, without looking it up again.
 *
 * Thread: the lane's.
 */
#include "ops/agg_fold.h"
#include "ops/agg_narrow.h"

#include "base/check.h"

#include <string.h>

enum {
    FAR = 32,
    NEAR = 16,
    /* A store has keys by the top 32 bits of their hash, then by their bytes. */
    PLACE_BITS = 32 - MR_AGG_BUCKET_BITS,
    DIGIT_BITS = 8,
    DIGITS = 1 << DIGIT_BITS,
    FEW = 48, /* are sorted by insertion */
    FIRST_LOOK = 256,
};
/* Not an event time: they are at least INT64_MIN + 1. */
static const int64_t NO_TIME = INT64_MIN;
static const uint32_t NO_PLACE = UINT32_MAX;

static struct mr_slice key_of(const struct mr_agg_ref *ref)
{
    return (struct mr_slice){ref->key, ref->key_bytes};
}

static struct mr_slice value_of(const struct mr_agg_ref *ref)
{
    return (struct mr_slice){ref->value, ref->value_bytes};
}

/* ---- One partial ---- */

static enum mr_status count_late(const struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                 struct mr_slice buffers, struct mr_error *err)
{
    if (mr_agg_packs(fold->layout)) {
        MR_TRY(mr_agg_unpack(fold->layout, buffers, lane->fixed, err));
        buffers.data = lane->fixed;
    } else {
        MR_TRY(mr_agg_check(fold->layout, buffers, err));
    }
    lane->late_rows += mr_load_u64(buffers.data);
    return MR_OK;
}

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
        *ret_late = true;
        return count_late(fold, lane, buffers, err);
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

/* Layouts that pack: the group in lane->fixed into the store; *ret_value: its buffers now, plain,
 * in the lane. */
static enum mr_status merge_packed(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                   uint64_t hash, uint32_t place, int64_t time_us,
                                   struct mr_slice key, struct mr_slice *ret_value,
                                   struct mr_error *err)
{
    const struct mr_agg_layout *layout = fold->layout;
    struct mr_store_entry at;
    size_t size;

    if (!mr_store_find_at(fold->store, hash, key.data, key.size_bytes, place, &at)) {
        *ret_value = (struct mr_slice){lane->fixed, layout->fixed_bytes};
        size = mr_agg_pack(layout, lane->fixed, lane->packed);
        MR_TRY(mr_store_walk_add(fold->store, hash, key.data, key.size_bytes, lane->packed, size,
                                 err));
        return note_time(fold, hash, time_us, err);
    }
    *ret_value = (struct mr_slice){lane->group, layout->fixed_bytes};
    MR_TRY(mr_agg_unpack(layout, (struct mr_slice){at.value, at.value_bytes}, lane->group, err));
    MR_TRY(mr_agg_merge_fixed(layout, lane->group, lane->fixed, err));
    size = mr_agg_pack(layout, lane->group, lane->packed);
    return mr_store_walk_put(fold->store, &at, lane->packed, size, err);
}

/* Merges a partial; *ret_value: the buffers of its group now, until the next change of the lane. */
static enum mr_status merge_group(struct mr_agg_fold *fold, struct mr_agg_lane *lane, uint64_t hash,
                                  int64_t time_us, struct mr_slice key, struct mr_slice buffers,
                                  struct mr_slice *ret_value, struct mr_error *err)
{
    const struct mr_agg_layout *layout = fold->layout;

    if (mr_agg_packs(layout)) {
        MR_TRY(mr_agg_unpack(layout, buffers, lane->fixed, err));
        return merge_packed(fold, lane, hash, NO_PLACE, time_us, key, ret_value, err);
    }
    struct mr_slice have = {NULL, 0};
    MR_TRY(mr_agg_check(layout, buffers, err));
    *ret_value = buffers;
    if (mr_store_get_hashed(fold->store, hash, key.data, key.size_bytes, &have.data,
                            &have.size_bytes)) {
        MR_TRY(mr_agg_merge_into(layout, have, buffers, &lane->merged, err));
        *ret_value = (struct mr_slice){lane->merged.data, lane->merged.size};
    } else {
        MR_TRY(note_time(fold, hash, time_us, err));
    }
    return mr_store_put_hashed(fold->store, hash, key.data, key.size_bytes, ret_value->data,
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
            uint64_t hash = part->hashes != NULL
                                ? part->hashes[row]
                                : mr_store_hash(fold->store, key.data, key.size_bytes);
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

/* ---- Gathering and sorting a bucket ---- */

void mr_agg_bucket_release(struct mr_agg_bucket_refs *bucket)
{
    mr_free(bucket->refs);
    mr_free(bucket->places);
    mr_free(bucket->scratch);
    *bucket = (struct mr_agg_bucket_refs){0};
}

static bool grow_array(void *array_pointer, size_t capacity, size_t width)
{
    void *array;

    memcpy(&array, array_pointer, sizeof(array));
    array = mr_realloc(NULL, array, capacity * width);
    if (array == NULL)
        return false;
    memcpy(array_pointer, &array, sizeof(array));
    return true;
}

static bool reserve_refs(struct mr_agg_bucket_refs *bucket, size_t more)
{
    size_t capacity = MR_MAX(bucket->count + more, bucket->capacity * 2);

    if (bucket->count + more <= bucket->capacity)
        return true;
    if (!grow_array(&bucket->refs, capacity, sizeof(*bucket->refs)) ||
        !grow_array(&bucket->places, capacity, sizeof(*bucket->places)) ||
        !grow_array(&bucket->scratch, capacity, sizeof(*bucket->scratch)))
        return false;
    bucket->capacity = capacity;
    return true;
}

/* The first row at or behind `from` whose bucket is not before that one. */
static size_t find_bucket(const struct mr_agg_part *part, size_t from, uint32_t bucket)
{
    size_t low = from, high = (size_t)part->keys->length;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (mr_agg_bucket(part->hashes[middle]) < bucket)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where each part's rows of the lane's shard begin, and how many there are. */
static enum mr_status find_shard(const struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                 size_t *ret_count, struct mr_error *err)
{
    uint32_t first = lane->first_shard * (MR_AGG_BUCKETS / MR_STORE_SHARDS);

    mr_free(lane->cursors);
    lane->cursors = mr_alloc(NULL, (fold->part_count + 1) * sizeof(*lane->cursors));
    if (lane->cursors == NULL)
        return mr_agg_fold_no_memory(err);
    *ret_count = 0;
    for (size_t p = 0; p < fold->part_count; p++) {
        size_t begins = find_bucket(&fold->parts[p], 0, first);

        lane->cursors[p] = begins;
        *ret_count +=
            find_bucket(&fold->parts[p], begins, first + MR_AGG_BUCKETS / MR_STORE_SHARDS) - begins;
    }
    return MR_OK;
}

static void add_row(struct mr_agg_bucket_refs *bucket, const struct mr_agg_part *part, size_t row)
{
    const int32_t *keys = part->keys->offsets + row;
    const int32_t *values = part->values->offsets + row;
    uint64_t hash = part->hashes[row];

    const char *key = (const char *)part->keys->values + keys[0];
    const char *value = (const char *)part->values->values + values[0];

    /* for when the bucket is sorted: it fits the second-level cache */
    __builtin_prefetch(key, 0, 2);
    __builtin_prefetch(value, 0, 2);
    bucket->refs[bucket->count] = (struct mr_agg_ref){
        hash, key, value, (uint32_t)(keys[1] - keys[0]), (uint32_t)(values[1] - values[0])};
    bucket->places[bucket->count] = (struct mr_agg_place){
        (uint32_t)(hash >> 32) & (((uint32_t)1 << PLACE_BITS) - 1), (uint32_t)bucket->count};
    bucket->count++;
}

/* What is read of the parts behind this one: where their rows are, then their bytes. */
static void hint_parts(const struct mr_agg_fold *fold, const struct mr_agg_lane *lane, size_t p)
{
    enum { LINES = 4 };

    if (p + 2 < fold->part_count) {
        const struct mr_agg_part *part = &fold->parts[p + 2];
        size_t row = lane->cursors[p + 2];

        for (size_t i = 0; i < LINES; i++)
            __builtin_prefetch(part->hashes + row + i * 8);
        __builtin_prefetch(part->keys->offsets + row);
        __builtin_prefetch(part->values->offsets + row);
    }
    if (p + 1 < fold->part_count) {
        const struct mr_agg_part *part = &fold->parts[p + 1];
        size_t row = lane->cursors[p + 1];

        __builtin_prefetch((const char *)part->keys->values + part->keys->offsets[row]);
        __builtin_prefetch((const char *)part->values->values + part->values->offsets[row]);
    }
}

/* All partials of the bucket, in order of arrival. */
static enum mr_status gather(const struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                             uint32_t number, struct mr_error *err)
{
    struct mr_agg_bucket_refs *bucket = &lane->bucket;

    bucket->number = number;
    bucket->count = 0;
    for (size_t p = 0; p < fold->part_count; p++) {
        const struct mr_agg_part *part = &fold->parts[p];
        size_t row = lane->cursors[p], end = row, length = (size_t)part->keys->length;

        hint_parts(fold, lane, p);
        while (end < length && mr_agg_bucket(part->hashes[end]) == number)
            end++;
        if (bucket->count + (end - row) > UINT32_MAX)
            return MR_FAIL(err, MR_LIMIT,
                           "cannot fold an aggregation: more than %u partials with one start of "
                           "their hashes; make batches smaller",
                           UINT32_MAX);
        if (!reserve_refs(bucket, end - row))
            return mr_agg_fold_no_memory(err);
        for (; row < end; row++)
            add_row(bucket, part, row);
        lane->cursors[p] = end;
    }
    return MR_OK;
}

static void sort_digit(struct mr_agg_bucket_refs *bucket, unsigned shift)
{
    uint32_t starts[DIGITS + 1] = {0};
    struct mr_agg_place *sorted = bucket->scratch;

    for (size_t i = 0; i < bucket->count; i++)
        starts[(bucket->places[i].low >> shift & (DIGITS - 1)) + 1]++;
    for (size_t d = 0; d < DIGITS; d++)
        starts[d + 1] += starts[d];
    for (size_t i = 0; i < bucket->count; i++)
        sorted[starts[bucket->places[i].low >> shift & (DIGITS - 1)]++] = bucket->places[i];
    bucket->scratch = bucket->places;
    bucket->places = sorted;
}

/* By hash; what is equal stays in order. */
static void sort_places(struct mr_agg_bucket_refs *bucket)
{
    struct mr_agg_place *places = bucket->places;

    if (bucket->count > FEW) {
        for (unsigned shift = 0; shift < PLACE_BITS; shift += DIGIT_BITS)
            sort_digit(bucket, shift);
        return;
    }
    for (size_t i = 1; i < bucket->count; i++) {
        struct mr_agg_place place = places[i];
        size_t k = i;

        for (; k > 0 && places[k - 1].low > place.low; k--)
            places[k] = places[k - 1];
        places[k] = place;
    }
}

/* ---- A shard ---- */

static bool same_key(const struct mr_agg_ref *a, const struct mr_agg_ref *b)
{
    return a->hash == b->hash && a->key_bytes == b->key_bytes &&
           memcmp(a->key, b->key, a->key_bytes) == 0;
}

/* By key; partials of a key in order of arrival. The order of the store, as the upper halves of
 * their hashes are equal. */
static int compare_refs(const struct mr_agg_ref *refs, struct mr_agg_place a, struct mr_agg_place b)
{
    const struct mr_agg_ref *x = &refs[a.number], *y = &refs[b.number];
    int order;

    order = memcmp(x->key, y->key, MR_MIN(x->key_bytes, y->key_bytes));
    if (order == 0 && x->key_bytes != y->key_bytes)
        order = x->key_bytes < y->key_bytes ? -1 : 1;
    return order != 0 ? order : (a.number > b.number) - (a.number < b.number);
}

static void sift_down(const struct mr_agg_ref *refs, struct mr_agg_place *heap, size_t at,
                      size_t count)
{
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        struct mr_agg_place place = heap[at];

        if (child + 1 < count && compare_refs(refs, heap[child], heap[child + 1]) < 0)
            child++;
        if (compare_refs(refs, place, heap[child]) >= 0)
            return;
        heap[at] = heap[child];
        heap[child] = place;
    }
}

/* Different keys whose hashes are equal as far as the sort looked: rare, but each of them may have
 * many partials. */
static void sort_run(const struct mr_agg_ref *refs, struct mr_agg_place *run, size_t count)
{
    for (size_t i = count / 2; i-- > 0;)
        sift_down(refs, run, i, count);
    for (size_t end = count; end-- > 1;) {
        struct mr_agg_place greatest = run[0];

        run[0] = run[end];
        run[end] = greatest;
        sift_down(refs, run, 0, end);
    }
}

/* Partials of one key: with each other, then with what the store has. */
static enum mr_status merge_partials(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                     const struct mr_agg_place *places, size_t count,
                                     uint32_t place, int64_t time_us, struct mr_slice *ret_value,
                                     struct mr_error *err)
{
    const struct mr_agg_layout *layout = fold->layout;
    const struct mr_agg_ref *refs = lane->bucket.refs;
    const struct mr_agg_ref *first = &refs[places[0].number];

    if (!mr_agg_packs(layout)) {
        for (size_t i = 0; i < count; i++)
            MR_TRY(merge_group(fold, lane, first->hash, time_us, key_of(first),
                               value_of(&refs[places[i].number]), ret_value, err));
        return MR_OK;
    }
    MR_TRY(mr_agg_unpack(layout, value_of(first), lane->fixed, err));
    for (size_t i = 1; i < count; i++) {
        MR_TRY(mr_agg_unpack(layout, value_of(&refs[places[i].number]), lane->group, err));
        MR_TRY(mr_agg_merge_fixed(layout, lane->fixed, lane->group, err));
    }
    return merge_packed(fold, lane, first->hash, place, time_us, key_of(first), ret_value, err);
}

/* All partials of one key, of a layout of counts and sums. *ret_done false: their numbers are too
 * large for this way, and nothing has happened. */
static enum mr_status merge_narrow(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                   const struct mr_agg_place *places, size_t count, uint32_t place,
                                   int64_t time_us, bool *ret_done, struct mr_error *err)
{
    const struct mr_agg_layout *layout = fold->layout;
    const struct mr_agg_ref *refs = lane->bucket.refs;
    const struct mr_agg_ref *first = &refs[places[0].number];
    uint64_t words[MR_NARROW_WORDS_MAX], more[MR_NARROW_WORDS_MAX];
    char packed[MR_NARROW_BYTES_MAX];
    struct mr_store_entry at;
    size_t size;
    bool found;

    *ret_done = false;
    if (!mr_narrow_read_ahead(layout, first->value, first->value_bytes, words))
        return MR_OK;
    for (size_t i = 1; i < count; i++) {
        const struct mr_agg_ref *ref = &refs[places[i].number];

        if (!mr_narrow_read_ahead(layout, ref->value, ref->value_bytes, more) ||
            !mr_narrow_merge(layout, words, more))
            return MR_OK;
    }
    found = mr_store_find_at(fold->store, first->hash, first->key, first->key_bytes, place, &at);
    if (found && (!mr_narrow_read_behind(layout, at.value, at.value_bytes, more) ||
                  !mr_narrow_merge(layout, words, more)))
        return MR_OK;
    size = mr_narrow_write(layout, words, packed);
    if (size == 0)
        return MR_OK;
    *ret_done = true;
    if (found) {
        MR_TRY(mr_store_walk_put(fold->store, &at, packed, size, err));
    } else {
        MR_TRY(mr_store_walk_add(fold->store, first->hash, first->key, first->key_bytes, packed,
                                 size, err));
        MR_TRY(note_time(fold, first->hash, time_us, err));
    }
    if (fold->mode != MR_MODE_UPDATE ||
        (fold->always.count > 0 && mr_agg_is_always(fold, key_of(first))))
        return MR_OK;
    return mr_agg_lane_emit_narrow(fold, lane, key_of(first), words, err);
}

/* All partials of one key; update mode: emits the group, unless every batch does at its end. */
static enum mr_status merge_key(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                const struct mr_agg_place *places, size_t count, uint32_t place,
                                struct mr_error *err)
{
    const struct mr_agg_ref *refs = lane->bucket.refs;
    const struct mr_agg_ref *first = &refs[places[0].number];
    struct mr_slice key = key_of(first);
    struct mr_slice value = {NULL, 0};
    int64_t time_us;
    bool late, done = false;

    MR_TRY(check_time(fold, lane, key, value_of(first), &late, &time_us, err));
    if (late) { /* all of them are: it is the key's time */
        for (size_t i = 1; i < count; i++)
            MR_TRY(count_late(fold, lane, value_of(&refs[places[i].number]), err));
        return MR_OK;
    }
    if (fold->layout->narrow_words > 0)
        MR_TRY(merge_narrow(fold, lane, places, count, place, time_us, &done, err));
    if (done)
        return MR_OK;
    MR_TRY(merge_partials(fold, lane, places, count, place, time_us, &value, err));
    if (fold->mode != MR_MODE_UPDATE || mr_agg_is_always(fold, key))
        return MR_OK;
    return mr_agg_lane_emit(fold, lane, key, value, err);
}

/* Partials whose hashes are equal as far as they were sorted: nearly always of one key. */
static enum mr_status merge_run(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                struct mr_agg_place *run, size_t count, uint32_t place,
                                struct mr_error *err)
{
    const struct mr_agg_ref *refs = lane->bucket.refs;
    size_t begin = 0;

    for (size_t i = 1; i < count; i++) {
        if (!same_key(&refs[run[0].number], &refs[run[i].number])) {
            sort_run(refs, run, count);
            break;
        }
    }
    for (size_t end = 1; end <= count; end++) {
        if (end < count && same_key(&refs[run[begin].number], &refs[run[end].number]))
            continue;
        MR_TRY(merge_key(fold, lane, &run[begin], end - begin, place, err));
        begin = end;
    }
    return MR_OK;
}

/* The upper half of a hash: all that the table looks at. */
static uint64_t hash_of(const struct mr_agg_bucket_refs *bucket, size_t at)
{
    return (uint64_t)bucket->number << (64 - MR_AGG_BUCKET_BITS) | (uint64_t)bucket->places[at].low
                                                                       << 32;
}

/* What will be needed soon: the place in the table, then the entry. */
static void hint_far(const struct mr_agg_fold *fold, const struct mr_agg_bucket_refs *bucket,
                     size_t at)
{
    if (at >= bucket->count)
        return;
    mr_store_hint(fold->store, hash_of(bucket, at), 0);
    __builtin_prefetch(&bucket->refs[bucket->places[at].number]);
}

static void hint_near(const struct mr_agg_fold *fold, const struct mr_agg_bucket_refs *bucket,
                      size_t at, uint32_t *places)
{
    if (at < bucket->count)
        places[at % NEAR] = mr_store_locate(fold->store, hash_of(bucket, at));
}

static enum mr_status merge_bucket(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                   struct mr_error *err)
{
    struct mr_agg_bucket_refs *bucket = &lane->bucket;
    uint32_t places[NEAR] = {0}; /* of the next ones in the table */
    size_t end;

    sort_places(bucket);
    for (size_t at = 0; at < FAR; at++)
        hint_far(fold, bucket, at);
    for (size_t at = 0; at < NEAR; at++)
        hint_near(fold, bucket, at, places);
    for (size_t at = 0; at < bucket->count; at = end) {
        uint32_t low = bucket->places[at].low;
        uint32_t place = places[at % NEAR];

        for (end = at; end < bucket->count && bucket->places[end].low == low; end++) {
            hint_far(fold, bucket, end + FAR);
            hint_near(fold, bucket, end + NEAR, places);
        }
        MR_TRY(merge_run(fold, lane, &bucket->places[at], end - at, place, err));
    }
    return MR_OK;
}

enum mr_status mr_agg_merge_shard(struct mr_agg_fold *fold, struct mr_agg_lane *lane,
                                  struct mr_error *err)
{
    uint32_t first = lane->first_shard * (MR_AGG_BUCKETS / MR_STORE_SHARDS);
    uint64_t count_before = mr_store_shard_count(fold->store, lane->first_shard);
    size_t look_at = FIRST_LOOK, done = 0, count = 0;

    MR_TRY(find_shard(fold, lane, &count, err));
    if (count > 0 && mr_agg_packs(fold->layout) && !mr_agg_may_expire(fold))
        MR_TRY(mr_store_walk_begin(fold->store, lane->first_shard, err));
    lane->rows_left = count;
    for (uint32_t i = 0; i < MR_AGG_BUCKETS / MR_STORE_SHARDS; i++) {
        MR_TRY(gather(fold, lane, first + i, err));
        MR_TRY(merge_bucket(fold, lane, err));
        done += lane->bucket.count;
        if (done < look_at)
            continue;
        /* How many groups of all will be new ones? Hashes are even: the first tell. */
        uint64_t made = mr_store_shard_count(fold->store, lane->first_shard) - count_before;
        mr_store_expect(fold->store, lane->first_shard, made * (count - done) / done * 9 / 8 + 16);
        look_at = done * 16;
    }
    return MR_OK;
}
