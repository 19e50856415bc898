/*
 * Files of the POSIX environment: open, read, write, flush.
 *
 * Called through the table of env_posix.c.
 *
 * A file is opened without following a link in its last part and without waiting (a FIFO would
 * block for ever), and must turn out to be regular.  What open creates gets mode 0600 whatever the
 * umask is: a restrictive umask must not lock the next start out.  After a flush failed, the kernel
 * may have dropped the dirty pages and would report success the next time: such a file is poisoned
 * and refuses every later flush (faults.md C5).
 *
 * Thread: one file belongs to one thread at a time.
 */
#include "base/limits.h"
#include "env/env_posix.h"
#include "env/pin.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IO_BYTES_MAX = MR_LIMIT_IO_AT_ONCE, OPEN_ATTEMPTS_MAX = 16 };

struct mr_file {
    int fd;
    bool poisoned; /* a flush failed */
    char path[];   /* for error texts */
};

static int open_again(const char *path, int flags)
{
    int fd;

    do
        fd = openat(mr_env_pin_fd(), path,
                    flags | O_CLOEXEC | (MR_MUTANT("posix.open.no-follow") ? 0 : O_NOFOLLOW) |
                        O_NONBLOCK | O_NOCTTY,
                    0600);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int open_new(const char *path, int flags)
{
    int fd = open_again(path, flags | O_CREAT | (MR_MUTANT("posix.open.exclusive") ? 0 : O_EXCL));
    int kept;

    if (fd >= 0 && fchmod(fd, 0600) != 0 && errno != EPERM && errno != ENOTSUP) {
        kept = errno;
        close(fd);
        (void)unlinkat(mr_env_pin_fd(), path, 0);
        errno = kept;
        return -1;
    }
    return fd;
}

/* CREATE without EXCLUSIVE: only a file that we made gets its mode set. */
static int open_or_create(const char *path, int flags)
{
    for (int i = 0; i < OPEN_ATTEMPTS_MAX; i++) {
        int fd = open_again(path, flags);

        if (fd >= 0 || errno != ENOENT)
            return fd;
        fd = open_new(path, flags);
        if (fd >= 0 || errno != EEXIST) /* else somebody else was faster */
            return fd;
    }
    return -1;
}

static enum mr_status check_regular(int fd, const char *path, struct mr_error *err)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return mr__posix_fail(err, "look at", path, errno);
    errno = 0;
    if (!S_ISREG(info.st_mode) && !MR_MUTANT("posix.open.regular"))
        return MR_FAIL(err, MR_IO, "cannot open '%s': it is not a regular file", path);
    return MR_OK;
}

enum mr_status mr__posix_open(struct mr_env *env, const char *path, unsigned flags,
                              struct mr_file **ret_file, struct mr_error *err)
{
    int os_flags = (flags & MR_FILE_WRITE) != 0 ? O_RDWR : O_RDONLY;
    size_t path_bytes = strlen(path);
    struct mr_file *file;
    enum mr_status status = MR_OK;

    MR_UNUSED(env);
    MR_ASSERT((flags & (MR_FILE_CREATE | MR_FILE_TRUNCATE)) == 0 || (flags & MR_FILE_WRITE) != 0);
    file = mr_alloc_zero(NULL, sizeof(*file) + path_bytes + 1);
    if (file == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open '%s': out of memory", path);
    memcpy(file->path, path, path_bytes + 1);
    if ((flags & MR_FILE_CREATE) == 0)
        file->fd = open_again(path, os_flags);
    else if ((flags & MR_FILE_EXCLUSIVE) != 0)
        file->fd = open_new(path, os_flags);
    else
        file->fd = open_or_create(path, os_flags);
    if (file->fd < 0)
        MR_TRY_GOTO(
            mr__posix_fail(err, (flags & MR_FILE_EXCLUSIVE) != 0 ? "create" : "open", path, errno));
    MR_TRY_GOTO(check_regular(file->fd, path, err));
    if ((flags & MR_FILE_TRUNCATE) != 0)
        MR_TRY_GOTO(mr__posix_truncate(env, file, 0, err));
    *ret_file = file;
    return MR_OK;
done:
    mr__posix_close(env, file);
    return status;
}

/* Nothing durable hangs on close: who wanted durability has synced before. */
void mr__posix_close(struct mr_env *env, struct mr_file *file)
{
    MR_UNUSED(env);
    if (file == NULL)
        return;
    if (file->fd >= 0)
        close(file->fd);
    mr_free(file);
}

static bool fits_offset(uint64_t offset, size_t size)
{
    return offset <= (uint64_t)INT64_MAX && size <= (uint64_t)INT64_MAX - offset;
}

enum mr_status mr__posix_pread(struct mr_env *env, struct mr_file *file, void *data, size_t size,
                               uint64_t offset, size_t *ret_read, struct mr_error *err)
{
    size_t done = 0;

    MR_UNUSED(env);
    if (!fits_offset(offset, size))
        return mr__posix_fail(err, "read", file->path, EFBIG);
    while (done < size) {
        ssize_t got = pread(file->fd, (uint8_t *)data + done,
                            MR_MIN(size - done, (size_t)IO_BYTES_MAX), (off_t)(offset + done));

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return mr__posix_fail(err, "read", file->path, errno);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *ret_read = done;
    return MR_OK;
}

enum mr_status mr__posix_pwrite(struct mr_env *env, struct mr_file *file, const void *data,
                                size_t size, uint64_t offset, struct mr_error *err)
{
    size_t done = 0;

    MR_UNUSED(env);
    if (!fits_offset(offset, size))
        return mr__posix_fail(err, "write", file->path, EFBIG);
    while (done < size) {
        ssize_t put = pwrite(file->fd, (const uint8_t *)data + done,
                             MR_MIN(size - done, (size_t)IO_BYTES_MAX), (off_t)(offset + done));

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return mr__posix_fail(err, "write", file->path, errno);
        if (put == 0) /* a file system that neither writes nor says why is full */
            return mr__posix_fail(err, "write", file->path, ENOSPC);
        done += (size_t)put;
    }
    return MR_OK;
}

/* The kernel would begin when it has many dirty pages, or at the sync, which then waits for all of
 * them. */
void mr__posix_write_soon(struct mr_env *env, struct mr_file *file, uint64_t offset, uint64_t size)
{
    (void)env;
    (void)sync_file_range(file->fd, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);
}

enum mr_status mr__posix_sync(struct mr_env *env, struct mr_file *file, struct mr_error *err)
{
    int result;

    MR_UNUSED(env);
    errno = 0;
    if (file->poisoned && !MR_MUTANT("posix.sync.poisoned"))
        return MR_FAIL(err, MR_IO,
                       "cannot flush '%s': an earlier flush failed, so its bytes may be lost; "
                       "start again",
                       file->path);
    do
        result = MR_MUTANT("posix.sync.fdatasync") ? 0 : fdatasync(file->fd);
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return MR_OK;
    file->poisoned = true;
    return mr__posix_fail(err, "flush", file->path, errno);
}

enum mr_status mr__posix_truncate(struct mr_env *env, struct mr_file *file, uint64_t size,
                                  struct mr_error *err)
{
    int result;

    MR_UNUSED(env);
    if (!fits_offset(size, 0))
        return mr__posix_fail(err, "resize", file->path, EFBIG);
    do
        result = ftruncate(file->fd, (off_t)size);
    while (result != 0 && errno == EINTR);
    return result == 0 ? MR_OK : mr__posix_fail(err, "resize", file->path, errno);
}

enum mr_status mr__posix_file_info(struct mr_env *env, struct mr_file *file,
                                   struct mr_file_info *ret_info, struct mr_error *err)
{
    struct stat info;

    MR_UNUSED(env);
    if (fstat(file->fd, &info) != 0)
        return mr__posix_fail(err, "look at", file->path, errno);
    mr__posix_info_of(&info, ret_info);
    return MR_OK;
}
