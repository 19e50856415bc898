/*
 * Rows and stored keys of one partition side by side; see state_rows.h. Called by update_op.c and
 * map_with_state_op.c.
 *
 * Every partition looks at all rows of the batch and takes its own: hashing a key twice costs less
 * than handing rows from thread to thread. Rows are sorted by the top 32 bits of the hash with a
 * stable radix sort; rows of equal hashes are told apart by their keys, so those of a key stay in
 * order of arrival.
 *
 * Thread: the partition's.
 */
#include "dstream/state_rows.h"

#include "base/log.h"
#include "data/row_codec.h"
#include "dstream/streams.h"

#include <string.h>

enum { KEY_TEXT_BYTES = 48 };

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot bring rows and states together: out of memory");
}

uint32_t mr__state_partitions(const struct mr_dstream *stream)
{
    uint32_t count =
        stream->partition_count > 0 ? stream->partition_count : stream->ctx->partition_count;

    return MR_MIN(count, (uint32_t)MR_STORE_SHARDS);
}

void mr__state_check_name(const struct mr_dstream *stream)
{
    size_t bytes = strlen(stream->operation);

    if (stream->ctx->checkpoint_dir == NULL ||
        strncmp(stream->name, stream->operation, bytes) != 0 || stream->name[bytes] != '-')
        return;
    mr_log(
        MR_LOG_WARNING, "dstream", stream->ctx->name, -1,
        "the state '%s' in the checkpoint has a name made from the order of the program's calls; "
        "give it one of its own, so that it is found again when the program changes",
        stream->name);
}

struct mr__shards mr__shards_of(uint32_t partition, uint32_t partition_count)
{
    return (struct mr__shards){partition * MR_STORE_SHARDS / partition_count,
                               (partition + 1) * MR_STORE_SHARDS / partition_count};
}

/* ---- taking rows ---- */

void mr__state_rows_release(struct mr__state_rows *rows)
{
    mr_free(rows->at);
    mr_free(rows->hashes);
    mr_free(rows->key_at);
    mr_free(rows->sorted);
    mr_free(rows->starts);
    mr_buf_release(&rows->keys);
    *rows = (struct mr__state_rows){0};
}

/* Keeps the row whose key was just appended to rows->keys, or takes its key away again. */
static inline void keep_row(struct mr__state_rows *rows, const struct mr_store *store,
                            struct mr__shards shards, size_t from, struct mr__row_at at)
{
    uint64_t hash;
    unsigned shard;

    if (rows->keys.failed)
        return;
    hash = mr_store_hash(store, rows->keys.data + from, rows->keys.size - from);
    shard = mr_store_shard(hash);
    if (shard < shards.first || shard >= shards.end) {
        rows->keys.size = from;
        rows->foreign++;
        return;
    }
    rows->hashes[rows->count] = hash;
    rows->at[rows->count++] = at;
    rows->key_at[rows->count] = rows->keys.size;
}

/* Appends the keys of one batch's rows that belong to these shards. */
static void take_batch(struct mr__state_rows *rows, const struct mr_store *store,
                       struct mr__shards shards, const struct mr__key_columns *keys, uint32_t batch)
{
    int64_t count = mr_batch_row_count(rows->batches[batch]);

    for (int64_t row = 0; row < count; row++) {
        size_t from = rows->keys.size;

        for (uint32_t k = 0; k < keys->count; k++)
            mr_key_encode(&rows->keys, mr_batch_column(rows->batches[batch], keys->columns[k]),
                          row);
        keep_row(rows, store, shards, from, (struct mr__row_at){batch, (uint32_t)row});
    }
}

enum mr_status mr__state_rows_take(struct mr__state_rows *rows, const struct mr_store *store,
                                   struct mr__shards shards, struct mr_batch *const *batches,
                                   size_t batch_count, struct mr_error *err)
{
    const uint32_t first = 0;
    const struct mr__key_columns keys = {&first, 1};

    return mr__state_rows_take_keys(rows, store, shards, &keys, batches, batch_count, err);
}

enum mr_status mr__state_rows_take_keys(struct mr__state_rows *rows, const struct mr_store *store,
                                        struct mr__shards shards,
                                        const struct mr__key_columns *keys,
                                        struct mr_batch *const *batches, size_t batch_count,
                                        struct mr_error *err)
{
    uint64_t total = 0;

    *rows = (struct mr__state_rows){.batches = batches};
    for (size_t i = 0; i < batch_count; i++)
        total += (uint64_t)mr_batch_row_count(batches[i]);
    if (total >= UINT32_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot update state with more than 2^32 rows of one batch; use a shorter "
                       "batch interval or a rate limit");
    rows->at = mr_alloc(NULL, (total + 1) * sizeof(*rows->at));
    rows->hashes = mr_alloc(NULL, (total + 1) * sizeof(*rows->hashes));
    rows->key_at = mr_alloc(NULL, (total + 1) * sizeof(*rows->key_at));
    if (rows->at == NULL || rows->hashes == NULL || rows->key_at == NULL)
        return no_memory(err);
    rows->key_at[0] = 0;
    for (size_t i = 0; i < batch_count; i++)
        take_batch(rows, store, shards, keys, (uint32_t)i);
    return rows->keys.failed ? no_memory(err) : MR_OK;
}

/* ---- grouping ---- */

/* Stable, 11 bits at a time; returns the one of both arrays that holds the result. */
static struct mr__hashed *sort_hashed(struct mr__hashed *items, struct mr__hashed *scratch,
                                      uint32_t count)
{
    enum { BITS = 11, DIGITS = 1 << BITS };

    for (unsigned shift = 0; shift < 32; shift += BITS) {
        uint32_t starts[DIGITS] = {0};
        struct mr__hashed *sorted = scratch;
        uint32_t at = 0;

        for (uint32_t i = 0; i < count; i++)
            starts[items[i].fragment >> shift & (DIGITS - 1)]++;
        for (unsigned digit = 0; digit < DIGITS; digit++) {
            uint32_t here = starts[digit];
            starts[digit] = at;
            at += here;
        }
        for (uint32_t i = 0; i < count; i++)
            sorted[starts[items[i].fragment >> shift & (DIGITS - 1)]++] = items[i];
        scratch = items;
        items = sorted;
    }
    return items;
}

static void sort_few(struct mr__hashed *items, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct mr__hashed item = items[i];
        uint32_t k = i;

        for (; k > 0 && items[k - 1].fragment > item.fragment; k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

static int compare_keys(const char *a, size_t a_bytes, const char *b, size_t b_bytes)
{
    size_t common = MR_MIN(a_bytes, b_bytes);
    int order = common == 0 ? 0 : memcmp(a, b, common);

    return order != 0 ? order : (a_bytes > b_bytes) - (a_bytes < b_bytes);
}

static int compare_numbers(const struct mr__state_rows *rows, uint32_t a, uint32_t b)
{
    size_t a_bytes, b_bytes;
    const char *a_key = mr__state_row_key(rows, a, &a_bytes);
    const char *b_key = mr__state_row_key(rows, b, &b_bytes);

    return compare_keys(a_key, a_bytes, b_key, b_bytes);
}

/* Different keys of equal hashes are rare: they are put in order by insertion, rows of equal keys
 * keep theirs. */
static void order_run(const struct mr__state_rows *rows, struct mr__hashed *items, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct mr__hashed item = items[i];
        uint32_t k = i;

        for (; k > 0 && compare_numbers(rows, items[k - 1].number, item.number) > 0; k--)
            items[k] = items[k - 1];
        items[k] = item;
    }
}

static void find_groups(struct mr__state_rows *rows)
{
    uint32_t i = 0;

    while (i < rows->count) {
        uint32_t end = i + 1;
        bool mixed = false;

        while (end < rows->count && rows->sorted[end].fragment == rows->sorted[i].fragment) {
            mixed |= compare_numbers(rows, rows->sorted[i].number, rows->sorted[end].number) != 0;
            end++;
        }
        if (mixed)
            order_run(rows, rows->sorted + i, end - i);
        for (uint32_t k = i; k < end; k++) {
            if (k == i || (mixed && compare_numbers(rows, rows->sorted[k - 1].number,
                                                    rows->sorted[k].number) != 0))
                rows->starts[rows->group_count++] = k;
        }
        i = end;
    }
    rows->starts[rows->group_count] = rows->count;
}

enum mr_status mr__state_rows_group(struct mr__state_rows *rows, struct mr_error *err)
{
    enum { FEW = 64 };
    struct mr__hashed *items = mr_alloc(NULL, ((size_t)rows->count + 1) * sizeof(*items));
    struct mr__hashed *scratch =
        rows->count > FEW ? mr_alloc(NULL, (size_t)rows->count * sizeof(*scratch)) : NULL;

    rows->starts = mr_alloc(NULL, ((size_t)rows->count + 1) * sizeof(*rows->starts));
    if (items == NULL || rows->starts == NULL || (scratch == NULL && rows->count > FEW)) {
        mr_free(items);
        mr_free(scratch);
        return no_memory(err);
    }
    for (uint32_t i = 0; i < rows->count; i++)
        items[i] = (struct mr__hashed){(uint32_t)(rows->hashes[i] >> 32), i};
    if (rows->count > FEW)
        rows->sorted = sort_hashed(items, scratch, rows->count);
    else
        sort_few(rows->sorted = items, rows->count);
    mr_free(rows->sorted == items ? scratch : items);
    find_groups(rows);
    return MR_OK;
}

/* ---- walking ---- */

enum mr_status mr__state_walk_init(struct mr__state_walk *walk, const struct mr_store *store,
                                   const struct mr__state_rows *rows, struct mr__shards shards,
                                   struct mr_error *err)
{
    walk->store = store;
    walk->rows = rows;
    walk->shards = shards;
    walk->cursor = 0;
    walk->entry_count = walk->entry_next = 0;
    walk->next_group = walk->fresh_count = walk->fresh_next = 0;
    walk->scanned = false;
    walk->fresh = mr_alloc(NULL, ((size_t)rows->group_count + 1) * sizeof(*walk->fresh));
    return walk->fresh != NULL ? MR_OK : no_memory(err);
}

void mr__state_walk_release(struct mr__state_walk *walk)
{
    mr_free(walk->fresh);
    walk->fresh = NULL;
}

static const struct mr__hashed *group_head(const struct mr__state_walk *walk)
{
    return &walk->rows->sorted[walk->rows->starts[walk->next_group]];
}

/* Is the next group before this entry (< 0), of it (0), or behind it? */
static int compare_group(const struct mr__state_walk *walk, const struct mr_store_entry *entry)
{
    const struct mr__hashed *head = group_head(walk);
    const char *key;
    size_t key_bytes;

    if (head->fragment != entry->fragment)
        return head->fragment < entry->fragment ? -1 : 1;
    key = mr__state_row_key(walk->rows, head->number, &key_bytes);
    return compare_keys(key, key_bytes, entry->key, entry->key_bytes);
}

static void give_entry(struct mr__state_walk *walk, const struct mr_store_entry *entry,
                       struct mr__state_item *ret_item)
{
    int order = 1;

    *ret_item = (struct mr__state_item){.key = entry->key,
                                        .key_bytes = entry->key_bytes,
                                        .group = UINT32_MAX,
                                        .has_state = true,
                                        .entry = *entry};
    while (walk->next_group < walk->rows->group_count) {
        order = compare_group(walk, entry);
        if (order >= 0)
            break;
        walk->fresh[walk->fresh_count++] = walk->next_group++;
    }
    if (order == 0)
        ret_item->group = walk->next_group++;
}

/* The shard's entries are through: what is left of its groups is new. */
static void finish_shard(struct mr__state_walk *walk)
{
    while (walk->next_group < walk->rows->group_count &&
           group_head(walk)->fragment >> (32 - 3) == walk->shards.first)
        walk->fresh[walk->fresh_count++] = walk->next_group++;
    walk->scanned = true;
}

static void give_fresh(struct mr__state_walk *walk, struct mr__state_item *ret_item)
{
    uint32_t group = walk->fresh[walk->fresh_next++];

    *ret_item = (struct mr__state_item){.group = group};
    ret_item->key = mr__state_row_key(
        walk->rows, walk->rows->sorted[walk->rows->starts[group]].number, &ret_item->key_bytes);
}

bool mr__state_walk_next(struct mr__state_walk *walk, struct mr__state_item *ret_item)
{
    while (walk->shards.first < walk->shards.end) {
        if (!walk->scanned && walk->entry_next == walk->entry_count) {
            walk->entry_next = 0;
            walk->entry_count = mr_store_read_shard(walk->store, walk->shards.first, &walk->cursor,
                                                    walk->entries, MR__WALK_ENTRIES);
            if (walk->entry_count == 0)
                finish_shard(walk);
        }
        if (walk->entry_next < walk->entry_count) {
            const struct mr_store_entry *entry = &walk->entries[walk->entry_next++];

            if (mr__state_is_marker(entry->key_bytes))
                continue;
            give_entry(walk, entry, ret_item);
            return true;
        }
        if (!walk->scanned)
            continue;
        if (walk->fresh_next < walk->fresh_count) {
            give_fresh(walk, ret_item);
            return true;
        }
        walk->shards.first++;
        walk->cursor = 0;
        walk->scanned = false;
        walk->fresh_count = walk->fresh_next = 0;
    }
    return false;
}

/* ---- the first batch ---- */

bool mr__state_has_begun(const struct mr_store *store)
{
    return mr_store_count(store) > 0; /* the marker is a key */
}

enum mr_status mr__state_begin(struct mr_store *store, struct mr_error *err)
{
    return mr_store_put(store, "", 0, "\1", 1, err);
}

/* ---- limits ---- */

enum mr_status mr__state_check_size(const char *name, const struct mr_batch *keys, int64_t row,
                                    size_t value_bytes, int64_t batch_time_us, struct mr_error *err)
{
    struct mr_row key = {keys, row};
    char text[KEY_TEXT_BYTES];
    size_t need;

    if (value_bytes <= MR_STATE_RECORD_BYTES_MAX)
        return MR_OK;
    need = mr_row_print(&key, 0, text, sizeof(text));
    return MR_FAIL(err, MR_LIMIT,
                   "cannot keep the state of key '%s%s' of '%s' in batch %lld ms: it has %zu "
                   "bytes, the limit is %d; keep less for each key, or split the key",
                   text, need >= sizeof(text) ? "..." : "", name, (long long)(batch_time_us / 1000),
                   value_bytes, MR_STATE_RECORD_BYTES_MAX);
}
