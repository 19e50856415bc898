/*
 * Durable I/O: put, appender, staged files; see <millrace/ext/durable.h>.
 *
 * Called by wal, state, sinks and the command.  Everything goes through the struct mr_env, so the
 * simulated environment can enumerate what a crash after any step leaves behind:
 *
 *     put       create .tmp-NAME-RANDOM | write | sync | rename NAME | sync dir
 *               crash before the rename is durable: the old file or none, and perhaps a temporary
 *     appender  create .tmp-NAME-RANDOM | write head, zeros | sync | rename | sync dir    (create)
 *               zero behind the tail | sync | sync dir                                   (open)
 *               write at the tail ... | sync                                             (append)
 *               crash: the bytes synced last, then any part of the later ones
 *     staged    create .tmp-NAME | write ... | sync (seal) | rename NAME (publish)
 *               crash before the caller's sync dir: NAME is absent, old or new and whole
 *
 * A step that fails removes the temporary if that still works, and returns the first error.  After
 * a failed write or sync an appender refuses to go on: what is behind its tail is unknown, and only
 * mr_appender_open makes it known again.
 *
 * Thread: one object belongs to one thread at a time.
 */
#include <millrace/ext/durable.h>

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024, SWEEP_NAMES_MAX = MR_LIMIT_SWEPT_FILES };

#define TEMPORARY ".tmp-"

static const uint8_t zeros[CHUNK_BYTES];

static enum mr_status no_memory(const char *path, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot write '%s': out of memory", path);
}

static char *join(const char *dir, const char *name)
{
    return mr_asprintf("%s/%s", dir, name);
}

static char *random_temporary(struct mr_env *env, const char *dir, const char *name)
{
    uint64_t number;

    mr_env_random(env, &number, sizeof(number));
    return mr_asprintf("%s/" TEMPORARY "%s-%016" PRIx64, dir, name, number);
}

/* ---------------------------------------------------------------- directories */

/* The directory a path is in: "." for a name alone. Owned by the caller, NULL without memory. */
static char *parent_of(const char *path, size_t path_bytes)
{
    while (path_bytes > 0 && path[path_bytes - 1] != '/')
        path_bytes--;
    while (path_bytes > 1 && path[path_bytes - 1] == '/')
        path_bytes--;
    return path_bytes == 0 ? mr_strdup(".") : mr_strndup(path, path_bytes);
}

static bool is_there(struct mr_env *env, const char *path)
{
    struct mr_file_info info;

    return mr_env_path_info(env, path, true, &info, NULL) == MR_OK;
}

/*
 * One directory whose parent is there. Also one that exists is made durable: the process that made
 * it may have died before it was. Only where it exists and we may not open its parent, nothing is
 * done: then it is not ours either.
 */
static enum mr_status make_one(struct mr_env *env, const char *dir, struct mr_error *err)
{
    char *parent = parent_of(dir, strlen(dir));
    enum mr_status status = MR_OK;
    bool existed;

    if (parent == NULL)
        return no_memory(dir, err);
    existed = is_there(env, dir);
    MR_TRY_GOTO(mr_env_mkdir(env, dir, err));
    if (!MR_MUTANT("durable.make-one.sync-parent"))
        status = mr_env_sync_dir(env, parent, err);
    if (existed && status == MR_PERMISSION)
        status = MR_OK;
done:
    mr_free(parent);
    return status;
}

/*
 * The next of the directories that lead to `dir`, "a", "a/b", "a/b/c": its end, 0 behind the last.
 */
static size_t next_part(const char *dir, size_t size, size_t end)
{
    while (end < size && dir[end] == '/')
        end++;
    if (end == size)
        return 0;
    while (end < size && dir[end] != '/')
        end++;
    return end;
}

/*
 * From the first directory that is missing on, each is made durable before the next one is made in
 * it. So a process that died here has left one at most that is not: the last one that is there. The
 * directories above it were there before any of ours, and a file system that kept what is below
 * them and lost them would have lost everything anyway; they are not flushed.
 */
static enum mr_status make_missing(struct mr_env *env, const char *dir, size_t size,
                                   struct mr_error *err)
{
    char *found = NULL; /* the last one that is there, while none is missing */
    enum mr_status status = MR_OK;
    bool missing = false;

    for (size_t end = next_part(dir, size, 0); end > 0 && status == MR_OK;
         end = next_part(dir, size, end)) {
        char *part = mr_strndup(dir, end);

        if (part == NULL) {
            status = no_memory(dir, err);
        } else if (!missing && is_there(env, part)) {
            mr_free(found);
            found = part;
            continue;
        } else {
            if (!missing && found != NULL && !MR_MUTANT("durable.make-missing.found"))
                status = make_one(env, found, err);
            if (status == MR_OK)
                status = make_one(env, part, err);
            missing = true;
        }
        mr_free(part);
    }
    if (status == MR_OK && !missing && found != NULL)
        status = make_one(env, found, err);
    mr_free(found);
    return status;
}

enum mr_status mr_durable_mkdirs(struct mr_env *env, const char *dir, struct mr_error *err)
{
    /* PATH_MAX of Linux, and what is made below: nothing is made of a path that ends too deep. */
    enum { PATH_BYTES_MAX = 4096, BELOW_BYTES = 256 };
    size_t size = strlen(dir);

    if (size > PATH_BYTES_MAX - BELOW_BYTES)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot make the directory '%.100s...': its path has %zu bytes, at most %d "
                       "are possible; use a shorter path",
                       dir, size, PATH_BYTES_MAX - BELOW_BYTES);
    return make_missing(env, dir, size, err);
}

/* ---------------------------------------------------------------- small files */

static enum mr_status write_and_sync(struct mr_env *env, const char *path, const void *data,
                                     size_t size_bytes, struct mr_error *err)
{
    struct mr_file *file;
    enum mr_status status;

    MR_TRY(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_EXCLUSIVE, &file, err));
    MR_TRY_GOTO(mr_env_pwrite(env, file, data, size_bytes, 0, err));
    if (!MR_MUTANT("durable.write-and-sync.sync"))
        MR_TRY_GOTO(mr_env_sync(env, file, err));
done:
    mr_env_close(env, file);
    if (status != MR_OK && !MR_MUTANT("durable.write-and-sync.undo"))
        (void)mr_env_unlink(env, path, NULL);
    return status;
}

/* The temporary becomes `path`, durably. When the rename fails the temporary is removed. */
static enum mr_status rename_durably(struct mr_env *env, const char *dir, const char *temporary,
                                     const char *path, bool no_replace, struct mr_error *err)
{
    bool keeps = no_replace && !MR_MUTANT("durable.rename-durably.no-replace");
    enum mr_status status = mr_env_rename(env, temporary, path, keeps, err);

    if (status != MR_OK) {
        if (!MR_MUTANT("durable.rename-durably.undo"))
            (void)mr_env_unlink(env, temporary, NULL);
        return status;
    }
    return MR_MUTANT("durable.rename-durably.sync-dir") ? MR_OK : mr_env_sync_dir(env, dir, err);
}

enum mr_status mr_durable_put(struct mr_env *env, const char *dir, const char *name,
                              const void *data, size_t size_bytes, bool no_replace,
                              struct mr_error *err)
{
    char *temporary = random_temporary(env, dir, name);
    char *path = join(dir, name);
    enum mr_status status;

    if (temporary == NULL || path == NULL)
        MR_TRY_GOTO(no_memory(name, err));
    MR_TRY_GOTO(write_and_sync(env, temporary, data, size_bytes, err));
    MR_TRY_GOTO(rename_durably(env, dir, temporary, path, no_replace, err));
done:
    mr_free(temporary);
    mr_free(path);
    return status;
}

enum mr_status mr_durable_get(struct mr_env *env, const char *path, size_t size_max,
                              char **ret_data, size_t *ret_size_bytes, struct mr_error *err)
{
    struct mr_file_info info;
    struct mr_file *file;
    enum mr_status status;
    char *data = NULL;
    size_t got;

    MR_TRY(mr_env_open(env, path, MR_FILE_READ, &file, err));
    MR_TRY_GOTO(mr_env_file_info(env, file, &info, err));
    if (info.size_bytes > size_max && !MR_MUTANT("durable.get.size-max"))
        MR_TRY_GOTO(MR_FAIL(err, MR_LIMIT,
                            "cannot read '%s': it has %" PRIu64
                            " bytes, %zu are allowed; check that it is the right file",
                            path, info.size_bytes, size_max));
    data = mr_alloc(NULL, (size_t)info.size_bytes + 1);
    if (data == NULL)
        MR_TRY_GOTO(MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", path));
    MR_TRY_GOTO(mr_env_pread(env, file, data, (size_t)info.size_bytes, 0, &got, err));
    data[got] = '\0';
    *ret_data = data;
    *ret_size_bytes = got;
    data = NULL;
done:
    mr_free(data);
    mr_env_close(env, file);
    return status;
}

/* ---------------------------------------------------------------- sweep */

struct name {
    struct name *next;
    char text[];
};

struct names {
    struct name *first;
    size_t count;
    bool no_memory;
};

static bool collect_temporary(const char *text, enum mr_file_kind kind, void *arg)
{
    struct names *names = arg;
    struct name *name;
    size_t size = strlen(text) + 1;

    if (kind == MR_KIND_DIRECTORY || strncmp(text, TEMPORARY, strlen(TEMPORARY)) != 0)
        return true;
    if (names->count >= SWEEP_NAMES_MAX) /* the next start removes the rest */
        return false;
    name = mr_alloc(NULL, sizeof(*name) + size);
    if (name == NULL) {
        names->no_memory = true;
        return false;
    }
    memcpy(name->text, text, size);
    name->next = names->first;
    names->first = name;
    names->count++;
    return true;
}

static enum mr_status remove_in(struct mr_env *env, const char *dir, const char *name,
                                uint64_t *count, struct mr_error *err)
{
    char *path = join(dir, name);
    enum mr_status status;

    if (path == NULL)
        return no_memory(name, err);
    status = mr_env_unlink(env, path, err);
    mr_free(path);
    if (status == MR_OK)
        (*count)++;
    return status == MR_NOT_FOUND ? MR_OK : status;
}

/* Collected first and removed then: removing while listing may skip entries. */
enum mr_status mr_durable_sweep(struct mr_env *env, const char *dir, uint64_t *ret_removed,
                                struct mr_error *err)
{
    struct names names = {0};
    uint64_t removed = 0;
    enum mr_status status;

    MR_TRY_GOTO(mr_env_list(env, dir, collect_temporary, &names, err));
    if (names.no_memory)
        MR_TRY_GOTO(MR_FAIL(err, MR_NOMEM, "cannot sweep '%s': out of memory", dir));
    for (const struct name *name = names.first; name != NULL; name = name->next)
        if (!MR_MUTANT("durable.sweep.remove"))
            MR_TRY_GOTO(remove_in(env, dir, name->text, &removed, err));
    *ret_removed = removed;
done:
    while (names.first != NULL) {
        struct name *next = names.first->next;

        mr_free(names.first);
        names.first = next;
    }
    return status;
}

/* ---------------------------------------------------------------- appender */

struct mr_appender {
    struct mr_env *env;
    struct mr_file *file;
    uint64_t tail;
    uint64_t size_bytes; /* of the file */
    bool failed;         /* what is behind the tail is unknown */
    char *path;
};

static enum mr_status new_appender(struct mr_env *env, const char *dir, const char *name,
                                   struct mr_appender **ret_appender, struct mr_error *err)
{
    struct mr_appender *appender = mr_alloc_zero(NULL, sizeof(*appender));

    if (appender == NULL)
        return no_memory(name, err);
    appender->env = env;
    appender->path = join(dir, name);
    if (appender->path == NULL) {
        mr_free(appender);
        return no_memory(name, err);
    }
    *ret_appender = appender;
    return MR_OK;
}

void mr_appender_close(struct mr_appender *appender)
{
    if (appender == NULL)
        return;
    mr_env_close(appender->env, appender->file);
    mr_free(appender->path);
    mr_free(appender);
}

static enum mr_status write_zeros(struct mr_env *env, struct mr_file *file, uint64_t from,
                                  uint64_t to, struct mr_error *err)
{
    while (from < to) {
        size_t size = (size_t)MR_MIN(to - from, (uint64_t)CHUNK_BYTES);

        MR_TRY(mr_env_pwrite(env, file, zeros, size, from, err));
        from += size;
    }
    return MR_OK;
}

/*
 * The file gets its final name when it is whole and synced: a crash leaves a temporary for the
 * sweep, never a half-made file under the final name.
 */
enum mr_status mr_appender_create_with(struct mr_env *env, const char *dir, const char *name,
                                       uint64_t size_bytes, const void *head, size_t head_bytes,
                                       struct mr_appender **ret_appender, struct mr_error *err)
{
    const unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_EXCLUSIVE;
    struct mr_appender *appender = NULL;
    char *temporary = random_temporary(env, dir, name);
    bool made = false;
    enum mr_status status;

    if (temporary == NULL)
        return no_memory(name, err);
    MR_TRY_GOTO(new_appender(env, dir, name, &appender, err));
    MR_TRY_GOTO(mr_env_open(env, temporary, flags, &appender->file, err));
    made = true;
    if (head_bytes > 0)
        MR_TRY_GOTO(mr_env_pwrite(env, appender->file, head, head_bytes, 0, err));
    MR_TRY_GOTO(write_zeros(env, appender->file, head_bytes, size_bytes, err));
    if (!MR_MUTANT("durable.create-with.sync"))
        MR_TRY_GOTO(mr_env_sync(env, appender->file, err));
    MR_TRY_GOTO(mr_env_rename(env, temporary, appender->path,
                              !MR_MUTANT("durable.create-with.no-replace"), err));
    made = false;
    if (!MR_MUTANT("durable.create-with.sync-dir"))
        MR_TRY_GOTO(mr_env_sync_dir(env, dir, err));
    appender->tail = head_bytes;
    appender->size_bytes = MR_MAX(size_bytes, (uint64_t)head_bytes);
    *ret_appender = appender;
    appender = NULL;
done:
    mr_appender_close(appender);
    if (made && !MR_MUTANT("durable.create-with.undo"))
        (void)mr_env_unlink(env, temporary, NULL);
    mr_free(temporary);
    return status;
}

enum mr_status mr_appender_create_from(struct mr_env *env, const char *dir, const char *old_name,
                                       const char *name, const void *head, size_t head_bytes,
                                       struct mr_appender **ret_appender, struct mr_error *err)
{
    struct mr_appender *appender = NULL;
    char *old_path = join(dir, old_name);
    struct mr_file_info info;
    enum mr_status status;

    if (old_path == NULL)
        return no_memory(name, err);
    MR_TRY_GOTO(new_appender(env, dir, name, &appender, err));
    MR_TRY_GOTO(mr_env_open(env, old_path, MR_FILE_WRITE, &appender->file, err));
    MR_TRY_GOTO(mr_env_file_info(env, appender->file, &info, err));
    MR_TRY_GOTO(mr_env_pwrite(env, appender->file, head, head_bytes, 0, err));
    if (!MR_MUTANT("durable.create-from.sync"))
        MR_TRY_GOTO(mr_env_sync(env, appender->file, err));
    MR_TRY_GOTO(mr_env_rename(env, old_path, appender->path,
                              !MR_MUTANT("durable.create-from.no-replace"), err));
    if (!MR_MUTANT("durable.create-from.sync-dir"))
        MR_TRY_GOTO(mr_env_sync_dir(env, dir, err));
    appender->tail = head_bytes;
    appender->size_bytes = MR_MAX(info.size_bytes, (uint64_t)head_bytes);
    *ret_appender = appender;
    appender = NULL;
done:
    mr_appender_close(appender);
    mr_free(old_path);
    return status;
}

enum mr_status mr_appender_create(struct mr_env *env, const char *dir, const char *name,
                                  uint64_t size_bytes, struct mr_appender **ret_appender,
                                  struct mr_error *err)
{
    return mr_appender_create_with(env, dir, name, size_bytes, NULL, 0, ret_appender, err);
}

/* Behind the tail may be whatever a crash left; only what is not zero is written. */
static enum mr_status zero_behind(struct mr_appender *appender, struct mr_error *err)
{
    uint8_t *chunk = mr_alloc(NULL, CHUNK_BYTES);
    enum mr_status status = MR_OK;
    uint64_t at = appender->tail;
    size_t got;

    if (chunk == NULL)
        return no_memory(appender->path, err);
    while (at < appender->size_bytes) {
        size_t size = (size_t)MR_MIN(appender->size_bytes - at, (uint64_t)CHUNK_BYTES);

        MR_TRY_GOTO(mr_env_pread(appender->env, appender->file, chunk, size, at, &got, err));
        if (got < size)
            MR_TRY_GOTO(
                MR_FAIL(err, MR_IO, "cannot read '%s': it shrank meanwhile", appender->path));
        if (memcmp(chunk, zeros, size) != 0)
            MR_TRY_GOTO(mr_env_pwrite(appender->env, appender->file, zeros, size, at, err));
        at += size;
    }
done:
    mr_free(chunk);
    return status;
}

/*
 * What is before the tail was read, but may have been written by a process that died before it
 * synced: so the file and its directory entry are flushed again before anybody relies on them.
 */
enum mr_status mr_appender_open(struct mr_env *env, const char *dir, const char *name,
                                uint64_t tail, struct mr_appender **ret_appender,
                                struct mr_error *err)
{
    struct mr_appender *appender;
    struct mr_file_info info;
    enum mr_status status;

    MR_TRY(new_appender(env, dir, name, &appender, err));
    MR_TRY_GOTO(mr_env_open(env, appender->path, MR_FILE_WRITE, &appender->file, err));
    MR_TRY_GOTO(mr_env_file_info(env, appender->file, &info, err));
    if (tail > info.size_bytes && !MR_MUTANT("durable.appender-open.size"))
        MR_TRY_GOTO(MR_FAIL(err, MR_CORRUPT,
                            "cannot go on in '%s' at byte %" PRIu64 ": it has only %" PRIu64
                            " bytes; restore it from a copy",
                            appender->path, tail, info.size_bytes));
    appender->tail = tail;
    appender->size_bytes = info.size_bytes;
    if (!MR_MUTANT("durable.appender-open.zero-behind"))
        MR_TRY_GOTO(zero_behind(appender, err));
    if (!MR_MUTANT("durable.appender-open.sync"))
        MR_TRY_GOTO(mr_env_sync(env, appender->file, err));
    if (!MR_MUTANT("durable.appender-open.sync-dir"))
        MR_TRY_GOTO(mr_env_sync_dir(env, dir, err));
    *ret_appender = appender;
    appender = NULL;
done:
    mr_appender_close(appender);
    return status;
}

uint64_t mr_appender_tail(const struct mr_appender *appender)
{
    return appender->tail;
}

uint64_t mr_appender_room(const struct mr_appender *appender)
{
    return appender->tail < appender->size_bytes ? appender->size_bytes - appender->tail : 0;
}

static enum mr_status refuse_failed(const struct mr_appender *appender, struct mr_error *err)
{
    return MR_FAIL(err, MR_IO, "cannot append to '%s': an earlier write failed; start again",
                   appender->path);
}

enum mr_status mr_appender_write(struct mr_appender *appender, const void *data, size_t size_bytes,
                                 struct mr_error *err)
{
    enum mr_status status;

    if (appender->failed && !MR_MUTANT("durable.appender-write.failed"))
        return refuse_failed(appender, err);
    status = mr_env_pwrite(appender->env, appender->file, data, size_bytes, appender->tail, err);
    if (status != MR_OK) {
        appender->failed = true;
        return status;
    }
    appender->tail += size_bytes;
    appender->size_bytes = MR_MAX(appender->size_bytes, appender->tail);
    return MR_OK;
}

enum mr_status mr_appender_is_taken(struct mr_appender *appender, bool *ret_taken,
                                    struct mr_error *err)
{
    uint8_t behind[64];
    size_t size = 0;
    bool taken = false;

    MR_TRY(mr_env_pread(appender->env, appender->file, behind, sizeof(behind), appender->tail,
                        &size, err));
    for (size_t i = 0; i < size && !MR_MUTANT("durable.is-taken.look"); i++)
        taken |= behind[i] != 0;
    *ret_taken = taken;
    return MR_OK;
}

enum mr_status mr_appender_sync(struct mr_appender *appender, struct mr_error *err)
{
    enum mr_status status;

    if (appender->failed && !MR_MUTANT("durable.appender-sync.failed"))
        return refuse_failed(appender, err);
    if (MR_MUTANT("durable.appender-sync.sync"))
        return MR_OK;
    status = mr_env_sync(appender->env, appender->file, err);
    appender->failed = status != MR_OK;
    return status;
}

/* ---------------------------------------------------------------- staged files */

enum { SEND_BYTES = 1 << 20 };
enum staged_state { STAGED_OPEN, STAGED_SEALED, STAGED_PUBLISHED };

struct mr_staged {
    struct mr_env *env;
    struct mr_file *file; /* NULL once sealed */
    uint64_t size_bytes;
    uint64_t sent_bytes; /* of them: the disk was told */
    enum staged_state state;
    char *temporary;
    char *path;
};

static enum mr_status open_temporary(struct mr_staged *staged, struct mr_error *err)
{
    const unsigned flags = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_EXCLUSIVE;
    struct mr_env *env = staged->env;
    enum mr_status status = mr_env_open(env, staged->temporary, flags, &staged->file, err);

    if (status != MR_CANNOT_CREATE)
        return status;
    /* An earlier attempt left it. A new file, so that a writer that still has the old one open
     * cannot reach ours. */
    if (MR_MUTANT("durable.open-temporary.new-file"))
        return mr_env_open(env, staged->temporary, MR_FILE_WRITE, &staged->file, err);
    MR_TRY(mr_env_unlink(env, staged->temporary, err));
    return mr_env_open(env, staged->temporary, flags, &staged->file, err);
}

enum mr_status mr_staged_create(struct mr_env *env, const char *dir, const char *final_name,
                                struct mr_staged **ret_staged, struct mr_error *err)
{
    struct mr_staged *staged = mr_alloc_zero(NULL, sizeof(*staged));
    enum mr_status status;

    if (staged == NULL)
        return no_memory(final_name, err);
    staged->env = env;
    staged->path = join(dir, final_name);
    staged->temporary = mr_asprintf("%s/" TEMPORARY "%s", dir, final_name);
    if (staged->path == NULL || staged->temporary == NULL)
        MR_TRY_GOTO(no_memory(final_name, err));
    MR_TRY_GOTO(open_temporary(staged, err));
    *ret_staged = staged;
    return MR_OK;
done:
    staged->state = STAGED_PUBLISHED; /* there is no temporary of ours to remove */
    mr_staged_free(staged);
    return status;
}

enum mr_status mr_staged_write(struct mr_staged *staged, const void *data, size_t size_bytes,
                               struct mr_error *err)
{
    MR_ASSERT(staged->state == STAGED_OPEN);
    MR_TRY(mr_env_pwrite(staged->env, staged->file, data, size_bytes, staged->size_bytes, err));
    staged->size_bytes += size_bytes;
    if (staged->size_bytes - staged->sent_bytes >= SEND_BYTES) {
        mr_env_write_soon(staged->env, staged->file, staged->sent_bytes,
                          staged->size_bytes - staged->sent_bytes);
        staged->sent_bytes = staged->size_bytes;
    }
    return MR_OK;
}

const char *mr_staged_path(const struct mr_staged *staged)
{
    return staged->temporary;
}

uint64_t mr_staged_size(const struct mr_staged *staged)
{
    return staged->size_bytes;
}

/* A library that was given the path may have replaced the file: then that one is synced. */
static enum mr_status sync_replaced(struct mr_staged *staged, struct mr_file_info *ret_info,
                                    struct mr_error *err)
{
    struct mr_file *file;
    enum mr_status status;

    MR_TRY(mr_env_open(staged->env, staged->temporary, MR_FILE_WRITE, &file, err));
    if (!MR_MUTANT("durable.sync-replaced.sync"))
        MR_TRY_GOTO(mr_env_sync(staged->env, file, err));
    MR_TRY_GOTO(mr_env_file_info(staged->env, file, ret_info, err));
done:
    mr_env_close(staged->env, file);
    return status;
}

enum mr_status mr_staged_seal(struct mr_staged *staged, struct mr_error *err)
{
    struct mr_env *env = staged->env;
    struct mr_file_info ours;
    struct mr_file_info named;

    MR_ASSERT(staged->state == STAGED_OPEN);
    if (!MR_MUTANT("durable.staged-seal.sync"))
        MR_TRY(mr_env_sync(env, staged->file, err));
    MR_TRY(mr_env_file_info(env, staged->file, &ours, err));
    MR_TRY(mr_env_path_info(env, staged->temporary, false, &named, err));
    if ((named.inode != ours.inode || named.device != ours.device) &&
        !MR_MUTANT("durable.staged-seal.replaced"))
        MR_TRY(sync_replaced(staged, &ours, err));
    mr_env_close(env, staged->file);
    staged->file = NULL;
    staged->size_bytes = ours.size_bytes;
    staged->state = STAGED_SEALED;
    return MR_OK;
}

enum mr_status mr_staged_publish(struct mr_staged *staged, struct mr_error *err)
{
    MR_ASSERT(staged->state == STAGED_SEALED);
    MR_TRY(mr_env_rename(staged->env, staged->temporary, staged->path, false, err));
    staged->state = STAGED_PUBLISHED;
    return MR_OK;
}

void mr_staged_free(struct mr_staged *staged)
{
    if (staged == NULL)
        return;
    mr_env_close(staged->env, staged->file);
    if (staged->state != STAGED_PUBLISHED && !MR_MUTANT("durable.staged-free.undo"))
        (void)mr_env_unlink(staged->env, staged->temporary, NULL);
    mr_free(staged->temporary);
    mr_free(staged->path);
    mr_free(staged);
}
