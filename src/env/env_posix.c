/*
 * The POSIX environment: the table, the clock, random numbers, and the mapping of errno.
 *
 * Reached through mr_env_posix(), made once, handed down to everything.  The table's functions are
 * in env_posix_file.c, env_posix_path.c and env_posix_net.c.
 *
 * A standard descriptor that is closed is occupied when the table is first asked for: the next file
 * to be opened would become it, and rows and log lines would be written into a checkpoint.
 *
 * Thread: any; there is no state besides the objects handed out.
 */
#include "env/env_posix.h"

#include "base/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------- errno */

struct meaning {
    int os_errno;
    enum mr_status status;
    const char *remedy; /* NULL: the text says enough */
};

static const struct meaning meanings[] = {
    {ENOENT, MR_NOT_FOUND, NULL},
    {ENOTDIR, MR_NOT_FOUND, "a part of the path is no directory"},
    {EACCES, MR_PERMISSION, "give this user the right"},
    {EPERM, MR_PERMISSION, "give this user the right"},
    {EEXIST, MR_CANNOT_CREATE, NULL},
    {ENOTEMPTY, MR_CANNOT_CREATE, "empty it first"},
    {ENOSPC, MR_IO, "free space or inodes on this file system, then start again"},
    {EDQUOT, MR_IO, "free space or raise this user's quota, then start again"},
    {EFBIG, MR_IO, "raise the file size limit ('ulimit -f'), then start again"},
    {EROFS, MR_IO, "mount this file system for writing, then start again"},
    {EIO, MR_IO, "check the disk and the kernel's log before starting again"},
    {ELOOP, MR_IO, "symbolic links are not followed here; name the file itself"},
    {EISDIR, MR_IO, "name a regular file"},
    {ENXIO, MR_IO, "name a regular file"},
    {EXDEV, MR_IO, "put both on one file system"},
    {EMFILE, MR_LIMIT, "raise the limit of open files ('ulimit -n')"},
    {ENFILE, MR_LIMIT, "the machine has no open files left"},
    {ENOLCK, MR_LIMIT, "the machine or file server has no locks left"},
    {ENAMETOOLONG, MR_LIMIT, "use a shorter path"},
    {ENOTSUP, MR_IO, "this file system cannot do that; use another one"},
    {ENOMEM, MR_NOMEM, NULL},
};

/* The ends of a long path: what is wrong and what to do must fit behind it. Cut between
 * characters. */
static const char *shorten(const char *path, char *shown, size_t size)
{
    enum { SHOWN_MAX = 240, END_BYTES = 100 };
    size_t bytes = strlen(path), first = END_BYTES, last = bytes - END_BYTES;

    if (bytes <= SHOWN_MAX)
        return path;
    while (first > 0 && ((uint8_t)path[first] & 0xc0) == 0x80)
        first--;
    while (last < bytes && ((uint8_t)path[last] & 0xc0) == 0x80)
        last++;
    (void)snprintf(shown, size, "%.*s...%s", (int)first, path, path + last);
    return shown;
}

enum mr_status mr__posix_fail(struct mr_error *err, const char *action, const char *path,
                              int os_errno)
{
    const struct meaning *meaning = NULL;
    const char *text = strerrordesc_np(os_errno);
    char shown[256];
    enum mr_status status;

    for (size_t i = 0; i < MR_ARRAY_SIZE(meanings); i++) {
        if (meanings[i].os_errno == os_errno)
            meaning = &meanings[i];
    }
    errno = os_errno;
    status = meaning == NULL ? MR_IO : meaning->status;
    if (text == NULL)
        text = "unknown error";
    path = shorten(path, shown, sizeof(shown));
    if (meaning == NULL || meaning->remedy == NULL)
        return MR_FAIL(err, status, "cannot %s '%s': %s", action, path, text);
    return MR_FAIL(err, status, "cannot %s '%s': %s; %s", action, path, text, meaning->remedy);
}

void mr__posix_info_of(const struct stat *from, struct mr_file_info *ret_info)
{
    ret_info->kind = S_ISREG(from->st_mode)   ? MR_KIND_FILE
                     : S_ISDIR(from->st_mode) ? MR_KIND_DIRECTORY
                                              : MR_KIND_OTHER;
    ret_info->size_bytes = (uint64_t)from->st_size;
    ret_info->mtime_ns = (int64_t)from->st_mtim.tv_sec * 1000000000 + from->st_mtim.tv_nsec;
    ret_info->inode = from->st_ino;
    ret_info->device = from->st_dev;
}

/* ---------------------------------------------------------------- clock, random numbers */

static int64_t nanoseconds(clockid_t clock)
{
    struct timespec now;

    MR_ASSERT(clock_gettime(clock, &now) == 0);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t posix_wall_us(struct mr_env *env)
{
    MR_UNUSED(env);
    return nanoseconds(CLOCK_REALTIME) / 1000;
}

static int64_t posix_monotonic_ns(struct mr_env *env)
{
    MR_UNUSED(env);
    return nanoseconds(CLOCK_MONOTONIC);
}

/* Until an absolute time, so that signals do not make it longer. */
static void posix_sleep_ns(struct mr_env *env, int64_t duration_ns)
{
    int64_t until = posix_monotonic_ns(env);
    struct timespec at;

    if (duration_ns <= 0)
        return;
    until = duration_ns > INT64_MAX - until ? INT64_MAX : until + duration_ns;
    at.tv_sec = (time_t)(until / 1000000000);
    at.tv_nsec = (long)(until % 1000000000);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}

static void posix_random(struct mr_env *env, void *data, size_t size)
{
    uint8_t *at = data;

    MR_UNUSED(env);
    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);

        MR_ASSERT(got > 0 || errno == EINTR);
        if (got > 0) {
            at += got;
            size -= (size_t)got;
        }
    }
}

int64_t mr__posix_deadline(struct mr_env *env, int64_t timeout_ms)
{
    int64_t now = posix_monotonic_ns(env);

    if (timeout_ms < 0 || timeout_ms > (INT64_MAX - now) / 1000000)
        return -1;
    return now + timeout_ms * 1000000;
}

int mr__posix_ms_left(struct mr_env *env, int64_t deadline_ns)
{
    enum { POLL_MS_MAX = 1000000 };
    int64_t left;

    if (deadline_ns < 0)
        return -1;
    left = (deadline_ns - posix_monotonic_ns(env) + 999999) / 1000000;
    return left <= 0 ? 0 : left > POLL_MS_MAX ? POLL_MS_MAX : (int)left;
}

/* ---------------------------------------------------------------- the table */

/* Occupied by what can neither be read nor written, so that use fails as on a closed one; a
 * descriptor's number is always the lowest free one. */
static void occupy_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        int made = fcntl(fd, F_GETFD) < 0 ? open("/", O_PATH) : fd;

        if (made > STDERR_FILENO) /* another thread has taken the number meanwhile */
            close(made);
    }
}

struct mr_env *mr_env_posix(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    static const struct mr_env_ops ops = {
        .struct_size = sizeof(ops),
        .open = mr__posix_open,
        .close = mr__posix_close,
        .pread = mr__posix_pread,
        .pwrite = mr__posix_pwrite,
        .sync = mr__posix_sync,
        .write_soon = mr__posix_write_soon,
        .is_volatile = mr__posix_is_volatile,
        .truncate = mr__posix_truncate,
        .file_info = mr__posix_file_info,
        .path_info = mr__posix_path_info,
        .rename = mr__posix_rename,
        .unlink = mr__posix_unlink,
        .mkdir = mr__posix_mkdir,
        .rmdir = mr__posix_rmdir,
        .list = mr__posix_list,
        .sync_dir = mr__posix_sync_dir,
        .lock = mr__posix_lock,
        .unlock = mr__posix_unlock,
        .wall_us = posix_wall_us,
        .monotonic_ns = posix_monotonic_ns,
        .sleep_ns = posix_sleep_ns,
        .random = posix_random,
        .connect = mr__posix_connect,
        .recv = mr__posix_recv,
        .disconnect = mr__posix_disconnect,
        .shutdown = mr__posix_shutdown,
        .virtual_time = false,
        .read_stdin = mr__posix_read_stdin,
        .write_stdout = mr__posix_write_stdout,
    };
    static struct mr_env env = {&ops};

    pthread_once(&once, occupy_standard_descriptors);
    return &env;
}
