/*
 * Blocks in memory and on disk (block_store.h).
 *
 *     put --> room in memory? --yes--> memory, newest of the list
 *                  | no: the oldest give way: dropped, or spilled to disk
 *                  \--still none--> disk, or refused
 *     get --> memory --> copy 1 --> copy 2 --> not found
 *
 *     <dir>/millrace-blocks-<random>/lock               held while the store lives
 *                                   /1/<owner>-<number>  "MRBLOCK1" owner number size XXH3  bytes
 *                                   /2/<owner>-<number>
 *
 * A block of a dataset never pushes out another one of the same dataset: a dataset that is larger
 * than the budget keeps its first partitions instead of none.
 *
 * Invariants: memory_bytes is the sum over blocks in memory and at most the budget; a block is in
 * memory or on disk, or is forgotten.
 *
 * Threads: any; everything under one lock, reading and writing files too.
 */
#include "rdd/block_store.h"

#include "base/hash.h"
#include "base/log.h"
#include "data/row_codec.h"

#include <millrace/ext/builder.h>
#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BUCKETS_FIRST = 64, HEADER_BYTES = 40, COPIES = 2 };

#define DIR_PREFIX "millrace-blocks-"

static const char magic[8] = {'M', 'R', 'B', 'L', 'O', 'C', 'K', '1'};

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
    struct mr_env *env;
    char *dir;
    uint64_t budget_bytes;
    struct mr_mutex lock; /* guards what follows */
    char *root;           /* NULL: not made yet */
    struct mr_lock *root_lock;
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

/* ---- the directory ---- */

static void remove_file(struct mr_env *env, const char *dir, const char *name)
{
    char *path = mr_asprintf("%s/%s", dir, name);

    if (path != NULL)
        (void)mr_env_unlink(env, path, NULL);
    mr_free(path);
}

struct names {
    struct mr_buf names; /* each with its NUL */
    enum mr_file_kind kind;
};

static bool keep_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct names *names = arg;

    if (kind == names->kind)
        mr_buf_add(&names->names, name, strlen(name) + 1);
    return true;
}

/* Best effort: what stays is a file in a temporary directory. */
static void remove_copies(struct mr_env *env, const char *root)
{
    for (unsigned copy = 1; copy <= COPIES; copy++) {
        char *dir = mr_asprintf("%s/%u", root, copy);
        struct names names = {MR_BUF_INIT, MR_KIND_FILE};

        if (dir != NULL && mr_env_list(env, dir, keep_name, &names, NULL) == MR_OK) {
            for (size_t at = 0; at < names.names.size; at += strlen(names.names.data + at) + 1)
                remove_file(env, dir, names.names.data + at);
            (void)mr_env_rmdir(env, dir, NULL);
        }
        mr_buf_release(&names.names);
        mr_free(dir);
    }
}

static void remove_root(struct mr_env *env, const char *root, struct mr_lock *held)
{
    remove_copies(env, root);
    remove_file(env, root, "lock");
    mr_env_unlock(env, held);
    (void)mr_env_rmdir(env, root, NULL);
}

static enum mr_status lock_root(struct mr_env *env, const char *root, struct mr_lock **ret_lock,
                                struct mr_error *err)
{
    char *path = mr_asprintf("%s/lock", root);
    enum mr_status status;

    if (path == NULL)
        return no_memory(err);
    status = mr_env_lock(env, path, ret_lock, err);
    mr_free(path);
    return status;
}

/* Directories of processes that died: nobody holds their lock. */
static void sweep(struct mr_env *env, const char *dir)
{
    struct names names = {MR_BUF_INIT, MR_KIND_DIRECTORY};

    if (mr_env_list(env, dir, keep_name, &names, NULL) != MR_OK)
        names.names.size = 0;
    for (size_t at = 0; at < names.names.size; at += strlen(names.names.data + at) + 1) {
        const char *name = names.names.data + at;
        struct mr_lock *lock = NULL;
        char *root;

        if (strncmp(name, DIR_PREFIX, sizeof(DIR_PREFIX) - 1) != 0)
            continue;
        root = mr_asprintf("%s/%s", dir, name);
        if (root != NULL && lock_root(env, root, &lock, NULL) == MR_OK)
            remove_root(env, root, lock);
        mr_free(root);
    }
    mr_buf_release(&names.names);
}

static enum mr_status make_copy_dirs(struct mr_env *env, const char *root, struct mr_error *err)
{
    for (unsigned copy = 1; copy <= COPIES; copy++) {
        char *dir = mr_asprintf("%s/%u", root, copy);
        enum mr_status status = dir != NULL ? mr_env_mkdir(env, dir, err) : no_memory(err);

        mr_free(dir);
        MR_TRY(status);
    }
    return MR_OK;
}

static enum mr_status need_root(struct mr__block_store *store, struct mr_error *err)
{
    uint64_t number;
    char *root;
    enum mr_status status;

    if (store->root != NULL)
        return MR_OK;
    MR_TRY(mr_durable_mkdirs(store->env, store->dir, err));
    sweep(store->env, store->dir);
    mr_env_random(store->env, &number, sizeof(number));
    root = mr_asprintf("%s/" DIR_PREFIX "%016" PRIx64, store->dir, number);
    if (root == NULL)
        return no_memory(err);
    MR_TRY_GOTO(mr_env_mkdir(store->env, root, err));
    MR_TRY_GOTO(lock_root(store->env, root, &store->root_lock, err));
    status = make_copy_dirs(store->env, root, err);
    if (status != MR_OK) {
        remove_root(store->env, root, store->root_lock);
        store->root_lock = NULL;
        goto done;
    }
    store->root = root;
    root = NULL;
done:
    mr_free(root);
    return status;
}

static char *path_of(const struct mr__block_store *store, struct mr__block_id id, unsigned copy)
{
    return mr_asprintf("%s/%u/%" PRIx64 "-%" PRIx64, store->root, copy, id.owner, id.number);
}

/* ---- one copy on disk ---- */

static enum mr_status write_file(struct mr_env *env, const char *path, const char *head,
                                 const void *data, size_t size_bytes, struct mr_error *err)
{
    struct mr_file *file = NULL;
    enum mr_status status;

    MR_TRY(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE, &file, err));
    status = mr_env_pwrite(env, file, head, HEADER_BYTES, 0, err);
    if (status == MR_OK && size_bytes > 0)
        status = mr_env_pwrite(env, file, data, size_bytes, HEADER_BYTES, err);
    mr_env_close(env, file);
    if (status != MR_OK)
        (void)mr_env_unlink(env, path, NULL);
    return status;
}

static enum mr_status write_copy(struct mr__block_store *store, struct block *block, unsigned copy,
                                 const void *data, size_t size_bytes, struct mr_error *err)
{
    struct mr_buf head = MR_BUF_INIT;
    char *path = NULL;
    enum mr_status status;

    MR_TRY(need_root(store, err));
    path = path_of(store, block->id, copy);
    mr_buf_add(&head, magic, sizeof(magic));
    mr_buf_add_u64(&head, block->id.owner);
    mr_buf_add_u64(&head, block->id.number);
    mr_buf_add_u64(&head, size_bytes);
    mr_buf_add_u64(&head, mr_checksum(data, size_bytes));
    if (path == NULL || head.failed)
        status = no_memory(err);
    else
        status = write_file(store->env, path, head.data, data, size_bytes, err);
    mr_free(path);
    mr_buf_release(&head);
    MR_TRY(status);
    block->on_disk[copy - 1] = true;
    block->disk_bytes[copy - 1] = size_bytes + HEADER_BYTES;
    store->stats.disk_bytes += block->disk_bytes[copy - 1];
    return MR_OK;
}

static void forget_copy(struct mr__block_store *store, struct block *block, unsigned copy)
{
    char *path;

    if (!block->on_disk[copy - 1])
        return;
    path = path_of(store, block->id, copy);
    if (path != NULL)
        (void)mr_env_unlink(store->env, path, NULL);
    mr_free(path);
    store->stats.disk_bytes -= block->disk_bytes[copy - 1];
    block->on_disk[copy - 1] = false;
}

/* The head and the length must be what was written: a file of another length is damaged. */
static enum mr_status read_file(struct mr_env *env, const char *path, struct mr__block_id id,
                                char **ret_data, size_t *ret_size_bytes, struct mr_error *err)
{
    struct mr_bytes head;
    size_t file_bytes, size;
    uint64_t sum;
    char *file;
    const char *found;

    MR_TRY(mr_durable_get(env, path, SIZE_MAX / 2, &file, &file_bytes, err));
    head = mr_bytes_of(file, file_bytes);
    found = mr_bytes_take(&head, sizeof(magic));
    bool is_ours = found != NULL && memcmp(found, magic, sizeof(magic)) == 0 &&
                   mr_bytes_u64(&head) == id.owner && mr_bytes_u64(&head) == id.number;
    size = (size_t)mr_bytes_u64(&head);
    sum = mr_bytes_u64(&head);
    if (!is_ours || head.failed || mr_bytes_left(&head) != size ||
        mr_checksum(head.at, size) != sum) {
        mr_text_free(file);
        return MR_FAIL(err, MR_CORRUPT, "cannot read the block '%s': it is damaged", path);
    }
    memmove(file, file + HEADER_BYTES, size);
    *ret_data = file;
    *ret_size_bytes = size;
    return MR_OK;
}

/* From one copy; a damaged one is forgotten. */
static enum mr_status read_copy(struct mr__block_store *store, struct block *block, unsigned copy,
                                char **ret_data, size_t *ret_size_bytes, struct mr_error *err)
{
    char *path = path_of(store, block->id, copy);
    struct mr_error local;
    enum mr_status status;

    if (path == NULL)
        return no_memory(err);
    mr_error_clear(&local);
    status = read_file(store->env, path, block->id, ret_data, ret_size_bytes, &local);
    mr_free(path);
    if (status == MR_OK || status == MR_NOMEM) {
        if (status != MR_OK && err != NULL)
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
    path = store->root != NULL ? path_of(store, id, copy) : NULL;
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
    store->env = env;
    store->dir = mr_strdup(dir);
    store->budget_bytes = memory_bytes;
    store->bucket_count = BUCKETS_FIRST;
    store->buckets = mr_alloc_zero(NULL, BUCKETS_FIRST * sizeof(struct block *));
    if (store->dir == NULL || store->buckets == NULL) {
        mr_free(store->dir);
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
    if (store->root != NULL)
        remove_root(store->env, store->root, store->root_lock);
    mr_free(store->root);
    mr_free(store->buckets);
    mr_free(store->dir);
    mr_mutex_release(&store->lock);
    mr_free(store);
}
