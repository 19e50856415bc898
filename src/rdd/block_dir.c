/*
 * Blocks as files (block_dir.h): the directory of a store, and the copies in it.
 *
 *     <parent>/millrace-blocks-<random>/lock               held while the store lives
 *                                      /1/<owner>-<number>  head, bytes
 *                                      /2/<owner>-<number>
 *     head: "MRBLOCK1" owner number size XXH3
 *
 * Numbers of the head are u64, little-endian; names are hexadecimal. Thread: the caller's, one at a
 * time.
 */
#include "rdd/block_dir.h"

#include "base/hash.h"

#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <string.h>

enum { HEADER_BYTES = 40 };

#define DIR_PREFIX "millrace-blocks-"

static const char magic[8] = {'M', 'R', 'B', 'L', 'O', 'C', 'K', '1'};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot keep a block: out of memory");
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
    for (unsigned copy = 1; copy <= MR__BLOCK_COPIES; copy++) {
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
    for (unsigned copy = 1; copy <= MR__BLOCK_COPIES; copy++) {
        char *dir = mr_asprintf("%s/%u", root, copy);
        enum mr_status status = dir != NULL ? mr_env_mkdir(env, dir, err) : no_memory(err);

        mr_free(dir);
        MR_TRY(status);
    }
    return MR_OK;
}

static enum mr_status need_root(struct mr__block_dir *dir, struct mr_error *err)
{
    uint64_t number;
    char *root;
    enum mr_status status;

    if (dir->root != NULL)
        return MR_OK;
    MR_TRY(mr_durable_mkdirs(dir->env, dir->parent, err));
    sweep(dir->env, dir->parent);
    mr_env_random(dir->env, &number, sizeof(number));
    root = mr_asprintf("%s/" DIR_PREFIX "%016" PRIx64, dir->parent, number);
    if (root == NULL)
        return no_memory(err);
    MR_TRY_GOTO(mr_env_mkdir(dir->env, root, err));
    status = lock_root(dir->env, root, &dir->lock, err);
    if (status == MR_OK)
        status = make_copy_dirs(dir->env, root, err);
    if (status != MR_OK) {
        remove_root(dir->env, root, dir->lock);
        dir->lock = NULL;
        goto done;
    }
    dir->root = root;
    root = NULL;
done:
    mr_free(root);
    return status;
}

char *mr__block_dir_path(const struct mr__block_dir *dir, struct mr__block_id id, unsigned copy)
{
    if (dir->root == NULL)
        return NULL;
    return mr_asprintf("%s/%u/%" PRIx64 "-%" PRIx64, dir->root, copy, id.owner, id.number);
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

enum mr_status mr__block_dir_write(struct mr__block_dir *dir, struct mr__block_id id, unsigned copy,
                                   const void *data, size_t size_bytes, uint64_t *ret_file_bytes,
                                   struct mr_error *err)
{
    struct mr_buf head = MR_BUF_INIT;
    char *path = NULL;
    enum mr_status status;

    MR_TRY(need_root(dir, err));
    path = mr__block_dir_path(dir, id, copy);
    mr_buf_add(&head, magic, sizeof(magic));
    mr_buf_add_u64(&head, id.owner);
    mr_buf_add_u64(&head, id.number);
    mr_buf_add_u64(&head, size_bytes);
    mr_buf_add_u64(&head, mr_checksum(data, size_bytes));
    if (path == NULL || head.failed)
        status = no_memory(err);
    else
        status = write_file(dir->env, path, head.data, data, size_bytes, err);
    mr_free(path);
    mr_buf_release(&head);
    if (status == MR_OK)
        *ret_file_bytes = size_bytes + HEADER_BYTES;
    return status;
}

void mr__block_dir_remove(struct mr__block_dir *dir, struct mr__block_id id, unsigned copy)
{
    char *path = mr__block_dir_path(dir, id, copy);

    if (path != NULL)
        (void)mr_env_unlink(dir->env, path, NULL);
    mr_free(path);
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

enum mr_status mr__block_dir_read(const struct mr__block_dir *dir, struct mr__block_id id,
                                  unsigned copy, char **ret_data, size_t *ret_size_bytes,
                                  struct mr_error *err)
{
    char *path = mr__block_dir_path(dir, id, copy);
    enum mr_status status;

    if (path == NULL)
        return no_memory(err);
    status = read_file(dir->env, path, id, ret_data, ret_size_bytes, err);
    mr_free(path);
    return status;
}

enum mr_status mr__block_dir_init(struct mr__block_dir *dir, struct mr_env *env, const char *parent,
                                  struct mr_error *err)
{
    *dir = (struct mr__block_dir){.env = env, .parent = mr_strdup(parent)};
    return dir->parent != NULL ? MR_OK : no_memory(err);
}

void mr__block_dir_release(struct mr__block_dir *dir)
{
    if (dir->root != NULL)
        remove_root(dir->env, dir->root, dir->lock);
    mr_free(dir->root);
    mr_free(dir->parent);
}
