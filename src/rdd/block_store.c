/*
 * Blocks in memory and on disk (block_store.h).
 *
 *     put --> room in memory? --yes--> memory, newest of the list
 *                  | no: the oldest give way: dropped, or spilled to disk
 *                  \--still none--> disk, or refused
 *     get --> memory --> copy 1 --> copy 2 --> not found
 *
 * A block of a dataset never pushes out another one of the same dataset: a dataset that is larger
 * than the budget keeps its first partitions instead of none.
 *
 * Invariants: memory_bytes is the sum over blocks in memory and at most the budget; a block is in
 * memory or on disk, or is forgotten.
 *
 * Threads: any; everything under one lock, reading and writing files too.
 */
#include "rdd/block_dir.h"

#include "base/hash.h"
#include "base/log.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BUCKETS_FIRST = 64, COPIES = MR__BLOCK_COPIES };

struct block {
    struct mr__block_id id;
    struct mr__block_options options;
    bool in_memory;
    bool has_rows; /* columns; else data */
    struct mr__batches rows;
    char *data; /* owned */
    size_t size_bytes;
    uint64_t memory_bytes;
    bool on_disk[COPIES];
    uint64_t disk_bytes[COPIES];
    struct block *next;  /* of the bucket */
    struct block *newer; /* of those in memory */
    struct block *older;
};

struct mr__block_store {
    uint64_t budget_bytes;
    struct mr_mutex lock; /* guards what follows */
    struct mr__block_dir dir;
    struct block **buckets;
    size_t bucket_count;
    struct block *newest;
    struct block *oldest;
    struct mr__block_stats stats;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a block: out of memory");
}

/* ---- levels ---- */

struct level {
    bool memory;
    bool disk;
    bool encoded;
    bool second;
};

static struct level level_of(enum mr_storage_level level)
{
    static const struct level levels[] = {
        [MR_STORAGE_NONE] = {false, false, false, false},
        [MR_STORAGE_DISK_ONLY] = {false, true, true, false},
        [MR_STORAGE_DISK_ONLY_2] = {false, true, true, true},
        [MR_STORAGE_MEMORY_ONLY] = {true, false, false, false},
        [MR_STORAGE_MEMORY_ONLY_2] = {true, false, false, true},
        [MR_STORAGE_MEMORY_ONLY_SER] = {true, false, true, false},
        [MR_STORAGE_MEMORY_ONLY_SER_2] = {true, false, true, true},
        [MR_STORAGE_MEMORY_AND_DISK] = {true, true, false, false},
        [MR_STORAGE_MEMORY_AND_DISK_2] = {true, true, false, true},
        [MR_STORAGE_MEMORY_AND_DISK_SER] = {true, true, true, false},
        [MR_STORAGE_MEMORY_AND_DISK_SER_2] = {true, true, true, true},
        [MR_STORAGE_OFF_HEAP] = {true, true, true, false},
    };
    return levels[level];
}

/* ---- rows as bytes: count u32, rows in the value form ---- */

static enum mr_status encode_rows(struct mr_batch *const *batches, size_t batch_count,
                                  struct mr_buf *out, struct mr_error *err)
{
    const struct mr_column **columns = NULL;
    uint64_t rows = 0;

    for (size_t i = 0; i < batch_count; i++)
        rows += (uint64_t)mr_batch_row_count(batches[i]);
    if (rows > UINT32_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot keep more than 2^32 rows in one block");
    mr_buf_add_u32(out, (uint32_t)rows);
    for (size_t i = 0; i < batch_count && !out->failed; i++) {
        uint32_t count = mr_schema_field_count(mr_batch_schema(batches[i]));

        if (columns == NULL)
            columns = mr_alloc(NULL, (count + (size_t)1) * sizeof(struct mr_column *));
        if (columns == NULL)
            return no_memory(err);
        for (uint32_t c = 0; c < count; c++)
            columns[c] = mr_batch_column(batches[i], c);
        for (int64_t row = 0; row < mr_batch_row_count(batches[i]) && !out->failed; row++)
            mr_value_encode(out, columns, count, row);
    }
    mr_free(columns);
    return out->failed ? no_memory(err) : MR_OK;
}

static enum mr_status decode_into(struct mr_bytes *bytes, struct mr_batch_builder *builder,
                                  uint32_t column_count, struct mr_error *err)
{
    uint32_t rows = mr_bytes_u32(bytes);
    struct mr_column_builder **columns =
        mr_alloc(NULL, (column_count + (size_t)1) * sizeof(struct mr_column_builder *));
    enum mr_status status = columns != NULL ? MR_OK : no_memory(err);

    for (uint32_t c = 0; status == MR_OK && c < column_count; c++)
        columns[c] = mr_batch_builder_column(builder, c);
    for (uint32_t row = 0; status == MR_OK && row < rows; row++)
        status = mr_value_decode(bytes, columns, column_count, err);
    if (status == MR_OK)
        status = mr_batch_builder_rows_added(builder, rows, err);
    mr_free(columns);
    return status;
}

static enum mr_status decode_rows(const char *data, size_t size_bytes,
                                  const struct mr_schema *schema, struct mr__batches *ret_rows,
                                  struct mr_error *err)
{
    struct mr_bytes bytes = mr_bytes_of(data, size_bytes);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(schema, &builder, err));
    status = decode_into(&bytes, builder, mr_schema_field_count(schema), err);
    if (status == MR_OK)
        status = mr_batch_builder_finish(builder, &batch, err);
    if (status == MR_OK && mr_batch_row_count(batch) > 0)
        status = mr__batches_add(ret_rows, batch, err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    return status;
}

/* ---- copies on disk ---- */

static enum mr_status write_copy(struct mr__block_store *store, struct block *block, unsigned copy,
                                 const void *data, size_t size_bytes, struct mr_error *err)
{
    MR_TRY(mr__block_dir_write(&store->dir, block->id, copy, data, size_bytes,
                               &block->disk_bytes[copy - 1], err));
    block->on_disk[copy - 1] = true;
    store->stats.disk_bytes += block->disk_bytes[copy - 1];
    return MR_OK;
}

static void forget_copy(struct mr__block_store *store, struct block *block, unsigned copy)
{
    if (!block->on_disk[copy - 1])
        return;
    mr__block_dir_remove(&store->dir, block->id, copy);
    store->stats.disk_bytes -= block->disk_bytes[copy - 1];
    block->on_disk[copy - 1] = false;
}

/* From one copy; a damaged one is forgotten. */
static enum mr_status read_copy(struct mr__block_store *store, struct block *block, unsigned copy,
                                char **ret_data, size_t *ret_size_bytes, struct mr_error *err)
{
    struct mr_error local;
    enum mr_status status;

    mr_error_clear(&local);
    status = mr__block_dir_read(&store->dir, block->id, copy, ret_data, ret_size_bytes, &local);
    if (status == MR_OK)
        return MR_OK;
    if (status == MR_NOMEM) {
        if (err != NULL)
            *err = local;
        return status;
    }
    store->stats.damaged++;
    mr_log(MR_LOG_WARNING, "rdd", "block store", -1, "copy %u of a block is lost: %s", copy,
           local.text);
    forget_copy(store, block, copy);
    return MR_NOT_FOUND;
}

/* ---- blocks ---- */

static size_t bucket_of(const struct mr__block_store *store, struct mr__block_id id)
{
    return mr_hash(&id, sizeof(id), 0) & (store->bucket_count - 1);
}

static struct block *find(const struct mr__block_store *store, struct mr__block_id id)
{
    struct block *block = store->buckets[bucket_of(store, id)];

    while (block != NULL && (block->id.owner != id.owner || block->id.number != id.number))
        block = block->next;
    return block;
}

static void link_newest(struct mr__block_store *store, struct block *block)
{
    block->newer = NULL;
    block->older = store->newest;
    if (store->newest != NULL)
        store->newest->newer = block;
    else
        store->oldest = block;
    store->newest = block;
}

static void unlink_memory(struct mr__block_store *store, struct block *block)
{
    *(block->newer != NULL ? &block->newer->older : &store->newest) = block->older;
    *(block->older != NULL ? &block->older->newer : &store->oldest) = block->newer;
}

static void leave_memory(struct mr__block_store *store, struct block *block)
{
    if (!block->in_memory)
        return;
    unlink_memory(store, block);
    mr__batches_release(&block->rows);
    mr_free(block->data);
    block->data = NULL;
    block->in_memory = false;
    store->stats.memory_bytes -= block->memory_bytes;
}

static void forget(struct mr__block_store *store, struct block *block)
{
    struct block **at = &store->buckets[bucket_of(store, block->id)];

    while (*at != block)
        at = &(*at)->next;
    *at = block->next;
    leave_memory(store, block);
    for (unsigned copy = 1; copy <= COPIES; copy++)
        forget_copy(store, block, copy);
    store->stats.blocks--;
    mr_free(block);
}

static void grow_buckets(struct mr__block_store *store)
{
    size_t count = store->bucket_count * 2, before = store->bucket_count;
    struct block **old = store->buckets;
    struct block **buckets;

    if (store->stats.blocks < store->bucket_count)
        return;
    buckets = mr_alloc_zero(NULL, count * sizeof(struct block *));
    if (buckets == NULL)
        return; /* chains get longer, no more */
    store->buckets = buckets;
    store->bucket_count = count;
    for (size_t i = 0; i < before; i++) {
        while (old[i] != NULL) {
            struct block *block = old[i];
            size_t to = bucket_of(store, block->id);
            old[i] = block->next;
            block->next = buckets[to];
            buckets[to] = block;
        }
    }
    mr_free(old);
}

/* ---- room ---- */

/* Writes copy 1 of a block that is in memory. */
static enum mr_status spill(struct mr__block_store *store, struct block *block,
                            struct mr_error *err)
{
    struct mr_buf bytes = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    if (block->on_disk[0])
        return MR_OK;
    if (block->has_rows)
        status = encode_rows(block->rows.items, block->rows.count, &bytes, err);
    if (status == MR_OK)
        status = write_copy(store, block, 1, block->has_rows ? bytes.data : block->data,
                            block->has_rows ? bytes.size : block->size_bytes, err);
    mr_buf_release(&bytes);
    if (status == MR_OK)
        store->stats.spilled++;
    return status;
}

/* Can this one leave memory for a block of `owner`? It does. */
static bool give_way(struct mr__block_store *store, struct block *block, uint64_t owner)
{
    bool has_disk = level_of(block->options.level).disk;
    struct mr_error err;

    if (block->options.may_drop && block->id.owner == owner)
        return false;
    if (has_disk) {
        if (spill(store, block, &err) != MR_OK) {
            mr_log(MR_LOG_WARNING, "rdd", "block store", -1, "cannot spill a block: %s", err.text);
            return false;
        }
        leave_memory(store, block);
        return true;
    }
    if (!block->options.may_drop)
        return false;
    store->stats.dropped++;
    if (block->on_disk[1])
        leave_memory(store, block); /* its second copy is there */
    else
        forget(store, block);
    return true;
}

static bool make_room(struct mr__block_store *store, uint64_t bytes, uint64_t owner)
{
    struct block *block = store->oldest;

    if (bytes > store->budget_bytes)
        return false;
    while (block != NULL && store->stats.memory_bytes + bytes > store->budget_bytes) {
        struct block *newer = block->newer;

        (void)give_way(store, block, owner);
        block = newer;
    }
    return store->stats.memory_bytes + bytes <= store->budget_bytes;
}

/* ---- putting ---- */

/* What is put: rows, or bytes, or both forms of the same. */
struct content {
    struct mr_batch *const *batches;
    size_t batch_count;
    bool has_rows;
    const char *data; /* NULL: not encoded */
    size_t size_bytes;
};

static enum mr_status fill_memory(struct mr__block_store *store, struct block *block,
                                  const struct content *content, struct mr_error *err)
{
    bool keeps_rows = content->has_rows && !level_of(block->options.level).encoded;

    block->memory_bytes = content->size_bytes;
    if (keeps_rows) {
        block->memory_bytes = 0;
        for (size_t i = 0; i < content->batch_count; i++)
            block->memory_bytes += mr_batch_bytes(content->batches[i]);
    }
    if (!make_room(store, block->memory_bytes, block->id.owner))
        return MR_OK; /* in_memory stays false */
    if (keeps_rows) {
        for (size_t i = 0; i < content->batch_count; i++)
            MR_TRY(mr__batches_add(&block->rows, content->batches[i], err));
    } else {
        block->data = mr_alloc(NULL, content->size_bytes + 1);
        if (block->data == NULL)
            return no_memory(err);
        memcpy(block->data, content->data, content->size_bytes);
        block->size_bytes = content->size_bytes;
    }
    block->has_rows = keeps_rows;
    block->in_memory = true;
    link_newest(store, block);
    store->stats.memory_bytes += block->memory_bytes;
    store->stats.memory_peak_bytes =
        MR_MAX(store->stats.memory_peak_bytes, store->stats.memory_bytes);
    return MR_OK;
}

static enum mr_status encoded(const struct content *content, struct mr_buf *scratch,
                              const char **ret_data, size_t *ret_size, struct mr_error *err)
{
    if (content->data != NULL) {
        *ret_data = content->data;
        *ret_size = content->size_bytes;
        return MR_OK;
    }
    MR_TRY(encode_rows(content->batches, content->batch_count, scratch, err));
    *ret_data = scratch->data;
    *ret_size = scratch->size;
    return MR_OK;
}

static enum mr_status fill_disk(struct mr__block_store *store, struct block *block,
                                const struct content *content, struct mr_error *err)
{
    struct level level = level_of(block->options.level);
    bool wants_first = level.disk && !block->in_memory;
    struct mr_buf scratch = MR_BUF_INIT;
    const char *data;
    size_t size;
    struct mr_error local;
    enum mr_status status = MR_OK;

    if (!wants_first && !level.second)
        return MR_OK;
    MR_TRY_GOTO(encoded(content, &scratch, &data, &size, err));
    if (wants_first) {
        MR_TRY_GOTO(write_copy(store, block, 1, data, size, err));
        store->stats.spilled += level.memory;
    }
    if (level.second && write_copy(store, block, 2, data, size, &local) != MR_OK)
        mr_log(MR_LOG_WARNING, "rdd", "block store", -1,
               "a block has no second copy, and goes on with one: %s", local.text);
done:
    mr_buf_release(&scratch);
    return status;
}

/* A block that is nowhere was refused. */
static enum mr_status check_kept(struct mr__block_store *store, const struct block *block,
                                 struct mr_error *err)
{
    if (block->in_memory || block->on_disk[0] || block->on_disk[1])
        return MR_OK;
    store->stats.refused++;
    return MR_FAIL(err, MR_LIMIT,
                   "cannot keep a block of %" PRIu64 " bytes in memory: %" PRIu64 " of %" PRIu64
                   " bytes are used; raise the memory or use a level with disk",
                   block->memory_bytes, store->stats.memory_bytes, store->budget_bytes);
}

static enum mr_status put(struct mr__block_store *store, struct mr__block_id id,
                          struct mr__block_options options, const struct content *content,
                          struct mr_error *err)
{
    struct block *block;
    enum mr_status status = MR_OK;

    mr_mutex_lock(&store->lock);
    block = find(store, id);
    if (block != NULL)
        forget(store, block);
    block = mr_alloc_zero(NULL, sizeof(*block));
    if (block == NULL) {
        mr_mutex_unlock(&store->lock);
        return no_memory(err);
    }
    grow_buckets(store);
    block->id = id;
    block->options = options;
    block->next = store->buckets[bucket_of(store, id)];
    store->buckets[bucket_of(store, id)] = block;
    store->stats.blocks++;
    if (level_of(options.level).memory)
        status = fill_memory(store, block, content, err);
    if (status == MR_OK)
        status = fill_disk(store, block, content, err);
    if (status == MR_OK)
        status = check_kept(store, block, err);
    if (status != MR_OK) {
        if (!block->in_memory) { /* what fill_memory left half done */
            mr__batches_release(&block->rows);
            mr_free(block->data);
        }
        forget(store, block);
    }
    mr_mutex_unlock(&store->lock);
    return status;
}

enum mr_status mr__block_put(struct mr__block_store *store, struct mr__block_id id,
                             struct mr__block_options options, const void *data, size_t size_bytes,
                             struct mr_error *err)
{
    struct content content = {.data = data != NULL ? data : "", .size_bytes = size_bytes};

    return put(store, id, options, &content, err);
}

enum mr_status mr__block_put_rows(struct mr__block_store *store, struct mr__block_id id,
                                  struct mr__block_options options, struct mr_batch *const *batches,
                                  size_t batch_count, struct mr_error *err)
{
    struct content content = {.batches = batches, .batch_count = batch_count, .has_rows = true};
    struct mr_buf bytes = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    if (level_of(options.level).encoded) { /* outside of the lock */
        status = encode_rows(batches, batch_count, &bytes, err);
        content.data = bytes.data;
        content.size_bytes = bytes.size;
    }
    if (status == MR_OK)
        status = put(store, id, options, &content, err);
    mr_buf_release(&bytes);
    return status;
}

/* ---- getting ---- */

/* From either copy; what the other one lost is written again. */
static enum mr_status read_disk(struct mr__block_store *store, struct block *block, char **ret_data,
                                size_t *ret_size_bytes, struct mr_error *err)
{
    bool had[COPIES] = {block->on_disk[0], block->on_disk[1]};
    enum mr_status status = MR_NOT_FOUND;

    for (unsigned copy = 1; copy <= COPIES && status == MR_NOT_FOUND; copy++) {
        if (block->on_disk[copy - 1])
            status = read_copy(store, block, copy, ret_data, ret_size_bytes, err);
    }
    if (status == MR_NOT_FOUND)
        return MR_FAIL(err, MR_NOT_FOUND, "the block is not there any more: no copy is whole");
    for (unsigned copy = 1; status == MR_OK && copy <= COPIES; copy++) {
        if (had[copy - 1] && !block->on_disk[copy - 1])
            (void)write_copy(store, block, copy, *ret_data, *ret_size_bytes, NULL);
    }
    return status;
}

/* One of the two results is set. */
static enum mr_status get(struct mr__block_store *store, struct mr__block_id id,
                          struct mr__batches *ret_rows, char **ret_data, size_t *ret_size_bytes,
                          struct mr_error *err)
{
    struct block *block = find(store, id);
    enum mr_status status = MR_OK;

    *ret_data = NULL;
    if (block == NULL)
        return MR_FAIL(err, MR_NOT_FOUND, "there is no such block");
    if (!block->in_memory) {
        status = read_disk(store, block, ret_data, ret_size_bytes, err);
        if (status == MR_NOT_FOUND)
            forget(store, block);
        return status;
    }
    unlink_memory(store, block);
    link_newest(store, block);
    if (block->has_rows) {
        MR_ASSERT(ret_rows != NULL); /* put as rows, got as bytes */
        for (size_t i = 0; status == MR_OK && i < block->rows.count; i++)
            status = mr__batches_add(ret_rows, block->rows.items[i], err);
        return status;
    }
    *ret_data = mr_alloc(NULL, block->size_bytes + 1);
    if (*ret_data == NULL)
        return no_memory(err);
    memcpy(*ret_data, block->data, block->size_bytes);
    *ret_size_bytes = block->size_bytes;
    return MR_OK;
}

enum mr_status mr__block_get(struct mr__block_store *store, struct mr__block_id id, char **ret_data,
                             size_t *ret_size_bytes, struct mr_error *err)
{
    enum mr_status status;

    mr_mutex_lock(&store->lock);
    status = get(store, id, NULL, ret_data, ret_size_bytes, err);
    mr_mutex_unlock(&store->lock);
    return status;
}

enum mr_status mr__block_get_rows(struct mr__block_store *store, struct mr__block_id id,
                                  const struct mr_schema *schema, struct mr__batches *ret_rows,
                                  struct mr_error *err)
{
    char *data = NULL;
    size_t size = 0;
    enum mr_status status;

    mr_mutex_lock(&store->lock);
    status = get(store, id, ret_rows, &data, &size, err);
    mr_mutex_unlock(&store->lock);
    if (status == MR_OK && data != NULL)
        status = decode_rows(data, size, schema, ret_rows, err);
    mr_free(data);
    return status;
}

bool mr__block_has(struct mr__block_store *store, struct mr__block_id id)
{
    bool has;

    mr_mutex_lock(&store->lock);
    has = find(store, id) != NULL;
    mr_mutex_unlock(&store->lock);
    return has;
}

void mr__block_drop(struct mr__block_store *store, struct mr__block_id id)
{
    struct block *block;

    mr_mutex_lock(&store->lock);
    block = find(store, id);
    if (block != NULL)
        forget(store, block);
    mr_mutex_unlock(&store->lock);
}

void mr__block_drop_owner(struct mr__block_store *store, uint64_t owner)
{
    mr_mutex_lock(&store->lock);
    for (size_t i = 0; i < store->bucket_count; i++) {
        for (struct block *block = store->buckets[i]; block != NULL;) {
            struct block *next = block->next;
            if (block->id.owner == owner)
                forget(store, block);
            block = next;
        }
    }
    mr_mutex_unlock(&store->lock);
}

void mr__block_stats(struct mr__block_store *store, struct mr__block_stats *ret_stats)
{
    mr_mutex_lock(&store->lock);
    *ret_stats = store->stats;
    mr_mutex_unlock(&store->lock);
}

char *mr__block_path(struct mr__block_store *store, struct mr__block_id id, unsigned copy)
{
    char *path;

    mr_mutex_lock(&store->lock);
    path = mr__block_dir_path(&store->dir, id, copy);
    mr_mutex_unlock(&store->lock);
    return path;
}

/* ---- making and freeing ---- */

enum mr_status mr__block_store_new(struct mr_env *env, const char *dir, uint64_t memory_bytes,
                                   struct mr__block_store **ret_store, struct mr_error *err)
{
    struct mr__block_store *store = mr_alloc_zero(NULL, sizeof(*store));

    if (store == NULL)
        return no_memory(err);
    store->budget_bytes = memory_bytes;
    store->bucket_count = BUCKETS_FIRST;
    store->buckets = mr_alloc_zero(NULL, BUCKETS_FIRST * sizeof(struct block *));
    if (store->buckets == NULL || mr__block_dir_init(&store->dir, env, dir, err) != MR_OK) {
        mr_free(store->buckets);
        mr_free(store);
        return no_memory(err);
    }
    mr_mutex_init(&store->lock);
    *ret_store = store;
    return MR_OK;
}

void mr__block_store_free(struct mr__block_store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < store->bucket_count; i++) {
        while (store->buckets[i] != NULL)
            forget(store, store->buckets[i]);
    }
    mr__block_dir_release(&store->dir);
    mr_free(store->buckets);
    mr_mutex_release(&store->lock);
    mr_free(store);
}
