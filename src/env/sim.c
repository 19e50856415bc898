/*
 * The simulated environment: files, clock, random numbers, faults, and the trace; see sim.h for the
 * model and sim_disk.h for the disk.
 *
 * Called through the struct mr_env by tested code, and through sim.h by tests.  Every call that can
 * fail passes gate() first: it counts the call and decides whether it fails.  Every change is made
 * by add_op(), which applies it to the live view and puts it into the trace.
 *
 * Threads: every function of the table takes sim->lock; list() calls back without it.
 */
#include "env/sim.h"

#include "base/check.h"
#include "base/text.h"
#include "env/env_posix.h"
#include "env/sim_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_BYTES_MAX = 256, DEPTH_MAX = 64 };

struct mr_file {
    uint64_t node;
    bool writable;
    bool poisoned;
    char *path;
};

struct mr_lock {
    uint64_t node;
};

static struct mr_sim *lock_sim(struct mr_env *env)
{
    struct mr_sim *sim = (struct mr_sim *)env;

    MR_ASSERT(pthread_mutex_lock(&sim->lock) == 0);
    return sim;
}

/* Passes the status through, so that callers are one line. */
static enum mr_status unlock_sim(struct mr_sim *sim, enum mr_status status)
{
    MR_ASSERT(pthread_mutex_unlock(&sim->lock) == 0);
    return status;
}

/* ---------------------------------------------------------------- faults, trace */

enum needs { NEEDS_NOTHING, NEEDS_SPACE };

static bool wants_space_only(int os_errno)
{
    return os_errno == ENOSPC || os_errno == EDQUOT;
}

static enum mr_status gate(struct mr_sim *sim, enum needs needs, const char *action,
                           const char *path, struct mr_error *err)
{
    sim->call_count++;
    if (sim->fail_first == 0 || sim->call_count < sim->fail_first)
        return MR_OK;
    if (wants_space_only(sim->fail_errno) && needs != NEEDS_SPACE)
        return MR_OK;
    if (!sim->fail_forever)
        sim->fail_first = 0;
    return mr__posix_fail(err, action, path, sim->fail_errno);
}

__attribute__((format(printf, 3, 4))) static struct sim_op *new_op(struct mr_sim *sim,
                                                                   enum sim_op_kind kind,
                                                                   const char *format, ...)
{
    struct sim_op *op = sim_calloc(1, sizeof(*op));
    va_list args;

    op->refs = 1;
    op->kind = kind;
    op->at_ns = sim->wall_ns;
    va_start(args, format);
    MR_ASSERT(vasprintf(&op->text, format, args) >= 0);
    va_end(args);
    return op;
}

static char *copy_text(const char *text)
{
    char *copy = strdup(text);

    MR_ASSERT(copy != NULL);
    return copy;
}

static void add_op(struct mr_sim *sim, struct sim_op *op)
{
    if ((sim->op_count & (sim->op_count + 1)) == 0 || sim->ops == NULL)
        sim->ops = sim_realloc(sim->ops, (2 * sim->op_count + 2) * sizeof(struct sim_op *));
    sim->ops[sim->op_count++] = op;
    sim_op_apply(op, SIM_APPLIED, 0, &sim->live);
}

/* ---------------------------------------------------------------- paths */

struct place {
    uint64_t dir;              /* the directory of the last part */
    char name[NAME_BYTES_MAX]; /* the last part; empty for the root */
    uint64_t node;             /* 0: there is none */
};

static const struct sim_node *node_of(const struct mr_sim *sim, uint64_t node)
{
    return sim_image_node(&sim->live, node);
}

/* Next part of a path, without "." and empty ones. NULL at the end. */
static const char *next_part(const char *at, size_t *ret_size)
{
    for (;;) {
        while (*at == '/')
            at++;
        *ret_size = strcspn(at, "/");
        if (*ret_size == 0)
            return NULL;
        if (*ret_size != 1 || *at != '.')
            return at;
        at++;
    }
}

/* 0 or an errno: ENOENT only when a directory on the way is missing. */
static int resolve(const struct mr_sim *sim, const char *path, struct place *ret_place)
{
    uint64_t way[DEPTH_MAX] = {SIM_ROOT};
    struct place place = {.dir = SIM_ROOT, .node = SIM_ROOT};
    size_t depth = 0;
    size_t size;

    if (*path == '\0')
        return ENOENT;
    for (const char *at = next_part(path, &size); at != NULL; at = next_part(at + size, &size)) {
        if (place.node == 0)
            return ENOENT;
        if (node_of(sim, place.node)->kind != MR_KIND_DIRECTORY)
            return ENOTDIR;
        if (size >= sizeof(place.name) || depth + 1 >= DEPTH_MAX)
            return ENAMETOOLONG;
        way[depth] = place.node;
        if (size == 2 && memcmp(at, "..", 2) == 0) {
            depth -= depth > 0 ? 1 : 0;
            place.node = way[depth];
            place.name[0] = '\0';
            continue;
        }
        place.dir = place.node;
        memcpy(place.name, at, size);
        place.name[size] = '\0';
        place.node = sim_image_look_up(&sim->live, place.dir, place.name);
        depth++;
    }
    *ret_place = place;
    return 0;
}

/* The same, and the last part must be there. */
static int resolve_existing(const struct mr_sim *sim, const char *path, struct place *ret_place)
{
    int failed = resolve(sim, path, ret_place);

    return failed != 0 ? failed : ret_place->node == 0 ? ENOENT : 0;
}

static void info_of(const struct mr_sim *sim, uint64_t number, struct mr_file_info *ret_info)
{
    const struct sim_node *node = node_of(sim, number);

    ret_info->kind = node->kind;
    ret_info->size_bytes = node->size_bytes;
    ret_info->mtime_ns = node->mtime_ns;
    ret_info->inode = number;
    ret_info->device = 1;
}

/* ---------------------------------------------------------------- files */

static struct sim_op *new_entry_op(struct mr_sim *sim, enum sim_op_kind kind, const char *verb,
                                   const struct place *place, uint64_t node, const char *path)
{
    struct sim_op *op = new_op(sim, kind, "%s %s", verb, path);

    op->node = node;
    op->node_kind = kind == SIM_MKDIR || kind == SIM_RMDIR ? MR_KIND_DIRECTORY : MR_KIND_FILE;
    op->dir = place->dir;
    op->name = copy_text(place->name);
    return op;
}

static void truncate_node(struct mr_sim *sim, uint64_t node, uint64_t size, const char *path)
{
    struct sim_op *op = new_op(sim, SIM_TRUNCATE, "resize %s to %" PRIu64, path, size);

    op->node = node;
    op->offset = size;
    add_op(sim, op);
}

static enum mr_status open_locked(struct mr_sim *sim, const char *path, unsigned flags,
                                  struct mr_file **ret_file, struct mr_error *err)
{
    bool create = (flags & MR_FILE_CREATE) != 0;
    struct place place;
    int failed = resolve(sim, path, &place);
    struct mr_file *file;

    MR_TRY(gate(sim, create ? NEEDS_SPACE : NEEDS_NOTHING, create ? "create" : "open", path, err));
    if (failed == 0 && place.node == 0 && !create)
        failed = ENOENT;
    if (failed == 0 && place.node != 0 && create && (flags & MR_FILE_EXCLUSIVE) != 0)
        failed = EEXIST;
    if (failed == 0 && place.node != 0 && node_of(sim, place.node)->kind != MR_KIND_FILE)
        failed = EISDIR;
    if (failed != 0)
        return mr__posix_fail(err, create ? "create" : "open", path, failed);
    if (place.node == 0) {
        place.node = sim->next_node++;
        add_op(sim, new_entry_op(sim, SIM_CREATE, "create", &place, place.node, path));
    } else if ((flags & MR_FILE_TRUNCATE) != 0 && node_of(sim, place.node)->size_bytes > 0) {
        truncate_node(sim, place.node, 0, path);
    }
    file = sim_calloc(1, sizeof(*file));
    file->node = place.node;
    file->writable = (flags & MR_FILE_WRITE) != 0;
    file->path = copy_text(path);
    sim->open_count++;
    *ret_file = file;
    return MR_OK;
}

static enum mr_status sim_open(struct mr_env *env, const char *path, unsigned flags,
                               struct mr_file **ret_file, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, open_locked(sim, path, flags, ret_file, err));
}

static void sim_close(struct mr_env *env, struct mr_file *file)
{
    struct mr_sim *sim;

    if (file == NULL)
        return;
    sim = lock_sim(env);
    sim->open_count--;
    unlock_sim(sim, MR_OK);
    free(file->path);
    free(file);
}

static enum mr_status sim_pread(struct mr_env *env, struct mr_file *file, void *data, size_t size,
                                uint64_t offset, size_t *ret_read, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);
    enum mr_status status = gate(sim, NEEDS_NOTHING, "read", file->path, err);

    if (status == MR_OK)
        *ret_read = sim_node_read(node_of(sim, file->node), offset, data, size);
    return unlock_sim(sim, status);
}

static void write_node(struct mr_sim *sim, const struct mr_file *file, const void *data,
                       size_t size, uint64_t offset)
{
    struct sim_op *op =
        new_op(sim, SIM_WRITE, "write %zu bytes at %" PRIu64 " of %s", size, offset, file->path);

    op->node = file->node;
    op->offset = offset;
    op->size_bytes = size;
    op->data = sim_calloc(size, 1);
    memcpy(op->data, data, size);
    add_op(sim, op);
}

static enum mr_status sim_pwrite(struct mr_env *env, struct mr_file *file, const void *data,
                                 size_t size, uint64_t offset, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);
    enum mr_status status = gate(sim, NEEDS_SPACE, "write", file->path, err);

    MR_ASSERT(file->writable);
    if (status != MR_OK) /* the disk was full, or broke, somewhere on the way */
        size = (size_t)(sim_mix(sim->seed ^ sim->call_count) % (size + 1));
    if (size > 0)
        write_node(sim, file, data, size, offset);
    return unlock_sim(sim, status);
}

/* Counts a sync; true when it shall do nothing. */
static bool sync_is_ignored(struct mr_sim *sim)
{
    sim->sync_count++;
    return sim->ignored_sync != 0 && sim->sync_count == sim->ignored_sync;
}

static enum mr_status sync_locked(struct mr_sim *sim, struct mr_file *file, struct mr_error *err)
{
    struct sim_op *op;
    enum mr_status status;

    errno = 0;
    if (file->poisoned)
        return MR_FAIL(err, MR_IO, "cannot flush '%s': an earlier flush failed", file->path);
    status = gate(sim, NEEDS_SPACE, "flush", file->path, err);
    file->poisoned = status != MR_OK;
    if (status != MR_OK || sync_is_ignored(sim))
        return status;
    op = new_op(sim, SIM_SYNC, "sync %s", file->path);
    op->node = file->node;
    add_op(sim, op);
    return MR_OK;
}

static enum mr_status sim_sync(struct mr_env *env, struct mr_file *file, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, sync_locked(sim, file, err));
}

static enum mr_status sim_truncate(struct mr_env *env, struct mr_file *file, uint64_t size,
                                   struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);
    bool grows = size > node_of(sim, file->node)->size_bytes;
    enum mr_status status =
        gate(sim, grows ? NEEDS_SPACE : NEEDS_NOTHING, "resize", file->path, err);

    MR_ASSERT(file->writable);
    if (status == MR_OK)
        truncate_node(sim, file->node, size, file->path);
    return unlock_sim(sim, status);
}

static enum mr_status sim_file_info(struct mr_env *env, struct mr_file *file,
                                    struct mr_file_info *ret_info, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);
    enum mr_status status = gate(sim, NEEDS_NOTHING, "look at", file->path, err);

    if (status == MR_OK)
        info_of(sim, file->node, ret_info);
    return unlock_sim(sim, status);
}

/* ---------------------------------------------------------------- directories */

static enum mr_status sim_path_info(struct mr_env *env, const char *path, bool follow,
                                    struct mr_file_info *ret_info, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);
    enum mr_status status = gate(sim, NEEDS_NOTHING, "look at", path, err);
    struct place place;
    int failed;

    MR_UNUSED(follow);
    if (status == MR_OK) {
        failed = resolve_existing(sim, path, &place);
        if (failed != 0)
            status = mr__posix_fail(err, "look at", path, failed);
        else
            info_of(sim, place.node, ret_info);
    }
    return unlock_sim(sim, status);
}

static int check_rename(const struct mr_sim *sim, const char *from, const char *to,
                        const struct place *old, const struct place *new, bool no_replace)
{
    const struct sim_node *node = node_of(sim, old->node);
    const struct sim_node *target;
    size_t size = strlen(from);

    if (old->name[0] == '\0' || new->name[0] == '\0')
        return EBUSY;
    if (strncmp(from, to, size) == 0 && to[size] == '/')
        return EINVAL; /* into itself */
    if (new->node == 0)
        return 0;
    if (no_replace)
        return EEXIST;
    target = node_of(sim, new->node);
    if (target->kind != node->kind)
        return target->kind == MR_KIND_DIRECTORY ? EISDIR : ENOTDIR;
    return target->entry_count > 0 ? ENOTEMPTY : 0;
}

static enum mr_status rename_locked(struct mr_sim *sim, const char *from, const char *to,
                                    bool no_replace, struct mr_error *err)
{
    struct place old;
    struct place new;
    struct sim_op *op;
    int failed;

    MR_TRY(gate(sim, NEEDS_SPACE, "rename", from, err));
    failed = resolve_existing(sim, from, &old);
    if (failed == 0)
        failed = resolve(sim, to, &new);
    if (failed == 0)
        failed = check_rename(sim, from, to, &old, &new, no_replace);
    if (failed != 0)
        return mr__posix_fail(err, failed == EEXIST ? "rename a file to" : "rename",
                              failed == EEXIST ? to : from, failed);
    if (old.node == new.node)
        return MR_OK;
    op = new_op(sim, SIM_RENAME, "rename %s to %s", from, to);
    op->node = old.node;
    op->node_kind = node_of(sim, old.node)->kind;
    op->dir_from = old.dir;
    op->name_from = copy_text(old.name);
    op->dir = new.dir;
    op->name = copy_text(new.name);
    add_op(sim, op);
    return MR_OK;
}

static enum mr_status sim_rename(struct mr_env *env, const char *from, const char *to,
                                 bool no_replace, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, rename_locked(sim, from, to, no_replace, err));
}

static enum mr_status remove_locked(struct mr_sim *sim, const char *path, bool directory,
                                    struct mr_error *err)
{
    const char *action = directory ? "remove the directory" : "remove";
    const struct sim_node *node;
    struct place place;
    int failed;

    MR_TRY(gate(sim, NEEDS_NOTHING, action, path, err));
    failed = resolve_existing(sim, path, &place);
    if (failed == 0) {
        node = node_of(sim, place.node);
        if (place.name[0] == '\0')
            failed = EBUSY;
        else if (directory != (node->kind == MR_KIND_DIRECTORY))
            failed = directory ? ENOTDIR : EISDIR;
        else if (node->entry_count > 0)
            failed = ENOTEMPTY;
    }
    if (failed != 0)
        return mr__posix_fail(err, action, path, failed);
    add_op(sim, new_entry_op(sim, directory ? SIM_RMDIR : SIM_UNLINK,
                             directory ? "rmdir" : "unlink", &place, place.node, path));
    return MR_OK;
}

static enum mr_status sim_unlink(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, remove_locked(sim, path, false, err));
}

static enum mr_status sim_rmdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, remove_locked(sim, path, true, err));
}

static enum mr_status mkdir_locked(struct mr_sim *sim, const char *path, struct mr_error *err)
{
    struct place place;
    int failed;

    MR_TRY(gate(sim, NEEDS_SPACE, "make the directory", path, err));
    failed = resolve(sim, path, &place);
    if (failed == 0 && place.node != 0) {
        if (node_of(sim, place.node)->kind == MR_KIND_DIRECTORY)
            return MR_OK;
        failed = EEXIST;
    }
    if (failed != 0)
        return mr__posix_fail(err, "make the directory", path, failed);
    add_op(sim, new_entry_op(sim, SIM_MKDIR, "mkdir", &place, sim->next_node++, path));
    return MR_OK;
}

static enum mr_status sim_mkdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, mkdir_locked(sim, path, err));
}

static enum mr_status sync_dir_locked(struct mr_sim *sim, const char *path, struct mr_error *err)
{
    struct place place;
    struct sim_op *op;
    int failed;

    MR_TRY(gate(sim, NEEDS_SPACE, "flush the directory", path, err));
    failed = resolve_existing(sim, path, &place);
    if (failed == 0 && node_of(sim, place.node)->kind != MR_KIND_DIRECTORY)
        failed = ENOTDIR;
    if (failed != 0)
        return mr__posix_fail(err, "flush the directory", path, failed);
    if (sync_is_ignored(sim))
        return MR_OK;
    op = new_op(sim, SIM_SYNC_DIR, "sync directory %s", path);
    op->node = place.node;
    add_op(sim, op);
    return MR_OK;
}

static enum mr_status sim_sync_dir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, sync_dir_locked(sim, path, err));
}

struct listed {
    char *name;
    enum mr_file_kind kind;
};

/* The order depends on the seed: nobody may rely on it. */
static enum mr_status copy_list(struct mr_sim *sim, const char *path, struct listed **ret_list,
                                size_t *ret_count, struct mr_error *err)
{
    const struct sim_node *node;
    struct listed *list;
    struct place place;
    uint64_t start;
    int failed;

    MR_TRY(gate(sim, NEEDS_NOTHING, "list the directory", path, err));
    failed = resolve_existing(sim, path, &place);
    if (failed == 0 && node_of(sim, place.node)->kind != MR_KIND_DIRECTORY)
        failed = ENOTDIR;
    if (failed != 0)
        return mr__posix_fail(err, "list the directory", path, failed);
    node = node_of(sim, place.node);
    list = sim_calloc(node->entry_count, sizeof(*list));
    start = sim_mix(sim->seed ^ place.node);
    for (size_t i = 0; i < node->entry_count; i++) {
        const struct sim_entry *entry =
            &node->entries[(start % node->entry_count + i) % node->entry_count];

        list[i].name = copy_text(entry->name);
        list[i].kind = node_of(sim, entry->node)->kind;
    }
    *ret_list = list;
    *ret_count = node->entry_count;
    return MR_OK;
}

static enum mr_status sim_list(struct mr_env *env, const char *path, mr_dir_visit_fn visit,
                               void *arg, struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);
    struct listed *list = NULL;
    size_t count = 0;
    enum mr_status status = unlock_sim(sim, copy_list(sim, path, &list, &count, err));
    bool more = true;

    for (size_t i = 0; i < count; i++) {
        more = more && visit(list[i].name, list[i].kind, arg);
        free(list[i].name);
    }
    free(list);
    return status;
}

/* ---------------------------------------------------------------- locks */

static enum mr_status refuse(const struct mr_sim *sim, uint64_t node, const char *path,
                             struct mr_error *err)
{
    char text[160];
    char shown[320];
    size_t size = sim_node_read(node_of(sim, node), 0, text, sizeof(text));

    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\0'))
        size--;
    mr_text_escape(text, size, shown, sizeof(shown));
    errno = EWOULDBLOCK;
    return MR_FAIL(err, MR_BUSY, "cannot lock '%s': in use by %s; stop it first", path,
                   size == 0 ? "another process" : shown);
}

static enum mr_status lock_locked(struct mr_sim *sim, const char *path, struct mr_lock **ret_lock,
                                  struct mr_error *err)
{
    struct mr_file *file = NULL;
    struct mr_lock *lock;
    uint64_t node;

    MR_TRY(open_locked(sim, path, MR_FILE_WRITE | MR_FILE_CREATE, &file, err));
    MR_ASSERT(file != NULL);
    node = file->node;
    free(file->path);
    free(file);
    sim->open_count--;
    for (size_t i = 0; i < sim->locked_count; i++) {
        if (sim->locked[i] == node)
            return refuse(sim, node, path, err);
    }
    sim->locked = sim_realloc(sim->locked, (sim->locked_count + 1) * sizeof(uint64_t));
    sim->locked[sim->locked_count++] = node;
    lock = sim_calloc(1, sizeof(*lock));
    lock->node = node;
    sim->open_count++;
    *ret_lock = lock;
    return MR_OK;
}

static enum mr_status sim_lock(struct mr_env *env, const char *path, struct mr_lock **ret_lock,
                               struct mr_error *err)
{
    struct mr_sim *sim = lock_sim(env);

    return unlock_sim(sim, lock_locked(sim, path, ret_lock, err));
}

static void sim_unlock(struct mr_env *env, struct mr_lock *lock)
{
    struct mr_sim *sim;

    if (lock == NULL)
        return;
    sim = lock_sim(env);
    for (size_t i = 0; i < sim->locked_count; i++) {
        if (sim->locked[i] == lock->node) {
            sim->locked[i] = sim->locked[--sim->locked_count];
            break;
        }
    }
    sim->open_count--;
    unlock_sim(sim, MR_OK);
    free(lock);
}

/* ---------------------------------------------------------------- clock, random, network */

static int64_t sim_wall_us(struct mr_env *env)
{
    struct mr_sim *sim = lock_sim(env);
    int64_t now = sim->wall_ns / 1000;

    unlock_sim(sim, MR_OK);
    return now;
}

static int64_t sim_monotonic_ns(struct mr_env *env)
{
    struct mr_sim *sim = lock_sim(env);
    int64_t now = sim->monotonic_ns;

    unlock_sim(sim, MR_OK);
    return now;
}

static void sim_sleep_ns(struct mr_env *env, int64_t duration_ns)
{
    if (duration_ns > 0)
        mr_sim_advance_ns((struct mr_sim *)env, duration_ns);
}

static void sim_random(struct mr_env *env, void *data, size_t size)
{
    struct mr_sim *sim = lock_sim(env);
    uint8_t *to = data;

    for (size_t i = 0; i < size; i++)
        to[i] = (uint8_t)sim_mix(sim->random_state++);
    unlock_sim(sim, MR_OK);
}

static enum mr_status sim_connect(struct mr_env *env, const char *host, const char *port,
                                  int64_t timeout_ms, struct mr_socket **ret_socket,
                                  struct mr_error *err)
{
    MR_UNUSED(env);
    MR_UNUSED(timeout_ms);
    MR_UNUSED(ret_socket);
    errno = 0;
    return MR_FAIL(err, MR_UNAVAILABLE,
                   "cannot connect to '%s' port %s: the simulated environment has no network", host,
                   port);
}

static enum mr_status sim_recv(struct mr_env *env, struct mr_socket *socket, void *data,
                               size_t size, int64_t timeout_ms, size_t *ret_read,
                               struct mr_error *err)
{
    MR_UNUSED(env);
    MR_UNUSED(socket);
    MR_UNUSED(data);
    MR_UNUSED(size);
    MR_UNUSED(timeout_ms);
    MR_UNUSED(ret_read);
    errno = 0;
    return MR_FAIL(err, MR_UNAVAILABLE, "cannot receive: the simulated environment has no network");
}

static void sim_no_socket(struct mr_env *env, struct mr_socket *socket)
{
    MR_UNUSED(env);
    MR_UNUSED(socket);
}

/* ---------------------------------------------------------------- making and asking */

static const struct mr_env_ops sim_ops = {
    .struct_size = sizeof(sim_ops),
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwrite = sim_pwrite,
    .sync = sim_sync,
    .truncate = sim_truncate,
    .file_info = sim_file_info,
    .path_info = sim_path_info,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .mkdir = sim_mkdir,
    .rmdir = sim_rmdir,
    .list = sim_list,
    .sync_dir = sim_sync_dir,
    .lock = sim_lock,
    .unlock = sim_unlock,
    .wall_us = sim_wall_us,
    .monotonic_ns = sim_monotonic_ns,
    .sleep_ns = sim_sleep_ns,
    .random = sim_random,
    .connect = sim_connect,
    .recv = sim_recv,
    .disconnect = sim_no_socket,
    .shutdown = sim_no_socket,
    .virtual_time = true,
};

static struct mr_sim *new_sim(uint64_t seed)
{
    struct mr_sim *sim = sim_calloc(1, sizeof(*sim));

    sim->env.ops = &sim_ops;
    MR_ASSERT(pthread_mutex_init(&sim->lock, NULL) == 0);
    sim->seed = seed;
    sim->random_state = sim_mix(seed);
    sim->next_node = SIM_ROOT + 1;
    sim->wall_ns = INT64_C(1767225600) * 1000000000; /* 2026-01-01 */
    sim->monotonic_ns = 1000000000;
    return sim;
}

struct mr_sim *mr_sim_new(uint64_t seed)
{
    struct mr_sim *sim = new_sim(seed);

    sim_image_init(&sim->base);
    sim_image_copy(&sim->live, &sim->base);
    return sim;
}

struct mr_sim *sim_new_on(const struct mr_sim *from, const struct sim_image *disk)
{
    struct mr_sim *sim = new_sim(from->seed);

    sim_image_copy(&sim->base, disk);
    sim_image_copy(&sim->live, disk);
    sim->next_node = from->next_node;
    sim->wall_ns = from->wall_ns;
    sim->monotonic_ns = from->monotonic_ns;
    sim->random_state = from->random_state;
    return sim;
}

void mr_sim_free(struct mr_sim *sim)
{
    if (sim == NULL)
        return;
    for (uint64_t i = 0; i < sim->op_count; i++)
        sim_op_unref(sim->ops[i]);
    free(sim->ops);
    free(sim->locked);
    sim_replay_release(&sim->replay);
    sim_image_release(&sim->base);
    sim_image_release(&sim->live);
    pthread_mutex_destroy(&sim->lock);
    free(sim);
}

struct mr_sim *mr_sim_kill(const struct mr_sim *sim, uint64_t op_count)
{
    struct mr_sim *after = sim_new_on(sim, &sim->base);

    MR_ASSERT(op_count <= sim->op_count);
    for (uint64_t i = 0; i < op_count; i++)
        add_op(after, sim_op_ref(sim->ops[i]));
    return after;
}

struct mr_env *mr_sim_env(struct mr_sim *sim)
{
    return &sim->env;
}

uint64_t mr_sim_op_count(const struct mr_sim *sim)
{
    return sim->op_count;
}

size_t mr_sim_op_text(const struct mr_sim *sim, uint64_t op, char *text, size_t size)
{
    MR_ASSERT(op < sim->op_count);
    return mr_text_escape(sim->ops[op]->text, strlen(sim->ops[op]->text), text, size);
}

uint64_t mr_sim_disk_hash(struct mr_sim *sim)
{
    return sim_image_hash(&sim->live, SIM_ROOT);
}

uint64_t mr_sim_open_count(const struct mr_sim *sim)
{
    return sim->open_count;
}

void mr_sim_advance_ns(struct mr_sim *sim, int64_t duration_ns)
{
    lock_sim(&sim->env);
    MR_ASSERT(duration_ns >= 0);
    sim->wall_ns += duration_ns;
    sim->monotonic_ns += duration_ns;
    unlock_sim(sim, MR_OK);
}

void mr_sim_set_time(struct mr_sim *to, const struct mr_sim *from)
{
    to->wall_ns = from->wall_ns;
    to->monotonic_ns = from->monotonic_ns;
}

const char *mr_sim_file_path(const struct mr_file *file)
{
    return file->path;
}

void mr_sim_fail_at(struct mr_sim *sim, uint64_t nth, int os_errno, bool forever)
{
    lock_sim(&sim->env);
    sim->fail_first = nth == 0 ? 0 : sim->call_count + nth;
    sim->fail_errno = os_errno;
    sim->fail_forever = forever;
    unlock_sim(sim, MR_OK);
}

uint64_t mr_sim_call_count(const struct mr_sim *sim)
{
    return sim->call_count;
}

void mr_sim_ignore_sync(struct mr_sim *sim, uint64_t nth)
{
    lock_sim(&sim->env);
    sim->ignored_sync = nth == 0 ? 0 : sim->sync_count + nth;
    unlock_sim(sim, MR_OK);
}

uint64_t mr_sim_sync_count(const struct mr_sim *sim)
{
    return sim->sync_count;
}
