/*
 * Paths, directories and locks of the POSIX environment.
 *
 * Called through the table of env_posix.c.
 *
 * A lock is an open file description lock on a file: it is the kernel's, so it ends with the
 * process however that dies, another open file of the same process does not have it, and closing
 * another descriptor of the file does not lose it.  The holder's pid and host are in the file,
 * and go into the error text of the one who is refused.
 *
 * Thread: any.
 */
#include "env/env_posix.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/mutant.h"
#include "base/text.h"
#include "env/pin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { HOLDER_BYTES_MAX = 160, LOCK_ATTEMPTS_MAX = 16 };

struct mr_lock {
    int fd;
};

enum mr_status mr__posix_path_info(struct mr_env *env, const char *path, bool follow,
                                   struct mr_file_info *ret_info, struct mr_error *err)
{
    struct stat info;

    MR_UNUSED(env);
    if (fstatat(mr_env_pin_fd(), path, &info, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
        return mr__posix_fail(err, "look at", path, errno);
    mr__posix_info_of(&info, ret_info);
    return MR_OK;
}

/* Without RENAME_NOREPLACE: two steps, of which the first refuses an existing name. A file system
 * without links says EPERM, which is no matter of rights: then it is ENOTSUP. */
static int link_and_unlink(const char *from, const char *to)
{
    if (linkat(mr_env_pin_fd(), from, mr_env_pin_fd(), to, 0) != 0) {
        errno = errno == EPERM || errno == ENOSYS ? ENOTSUP : errno;
        return -1;
    }
    return unlinkat(mr_env_pin_fd(), from, 0);
}

enum mr_status mr__posix_rename(struct mr_env *env, const char *from, const char *to,
                                bool no_replace, struct mr_error *err)
{
    int result;

    MR_UNUSED(env);
    if (!no_replace || MR_MUTANT("posix.rename.no-replace")) {
        result = renameat(mr_env_pin_fd(), from, mr_env_pin_fd(), to);
    } else {
        result = renameat2(mr_env_pin_fd(), from, mr_env_pin_fd(), to, RENAME_NOREPLACE);
        if (result != 0 && (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP))
            result = link_and_unlink(from, to);
    }
    if (result == 0)
        return MR_OK;
    if (errno == ENOENT || errno == EACCES || errno == EPERM)
        return mr__posix_fail(err, "rename", from, errno);
    return mr__posix_fail(err, "rename a file to", to, errno);
}

enum mr_status mr__posix_unlink(struct mr_env *env, const char *path, struct mr_error *err)
{
    MR_UNUSED(env);
    return unlinkat(mr_env_pin_fd(), path, 0) == 0 ? MR_OK
                                                   : mr__posix_fail(err, "remove", path, errno);
}

enum mr_status mr__posix_mkdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    struct stat info;

    MR_UNUSED(env);
    if (mkdirat(mr_env_pin_fd(), path, 0700) != 0) {
        int kept = errno;

        if (kept == EEXIST && fstatat(mr_env_pin_fd(), path, &info, 0) == 0 &&
            S_ISDIR(info.st_mode))
            return MR_OK;
        return mr__posix_fail(err, "make the directory", path, kept);
    }
    /* The umask may have taken our own rights away. */
    if (fstatat(mr_env_pin_fd(), path, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        ((info.st_mode & 0777) != 0700 && fchmodat(mr_env_pin_fd(), path, 0700, 0) != 0))
        return mr__posix_fail(err, "set the mode of the directory", path, errno);
    return MR_OK;
}

enum mr_status mr__posix_rmdir(struct mr_env *env, const char *path, struct mr_error *err)
{
    MR_UNUSED(env);
    return unlinkat(mr_env_pin_fd(), path, AT_REMOVEDIR) == 0
               ? MR_OK
               : mr__posix_fail(err, "remove the directory", path, errno);
}

static enum mr_file_kind kind_of(DIR *dir, const struct dirent *entry)
{
    struct stat info;

    switch (entry->d_type) {
    case DT_REG:
        return MR_KIND_FILE;
    case DT_DIR:
        return MR_KIND_DIRECTORY;
    case DT_UNKNOWN: /* some file systems do not say */
        if (fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            return MR_KIND_OTHER;
        return S_ISREG(info.st_mode)   ? MR_KIND_FILE
               : S_ISDIR(info.st_mode) ? MR_KIND_DIRECTORY
                                       : MR_KIND_OTHER;
    default:
        return MR_KIND_OTHER;
    }
}

enum mr_status mr__posix_list(struct mr_env *env, const char *path, mr_dir_visit_fn visit,
                              void *arg, struct mr_error *err)
{
    enum mr_status status = MR_OK;
    int fd = openat(mr_env_pin_fd(), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

    MR_UNUSED(env);
    if (dir == NULL) {
        int kept = errno;

        if (fd >= 0)
            close(fd);
        return mr__posix_fail(err, "list the directory", path, kept);
    }
    for (;;) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (entry == NULL) {
            if (errno != 0)
                status = mr__posix_fail(err, "list the directory", path, errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!visit(entry->d_name, kind_of(dir, entry), arg))
            break;
    }
    closedir(dir);
    return status;
}

enum mr_status mr__posix_sync_dir(struct mr_env *env, const char *path, struct mr_error *err)
{
    int fd = openat(mr_env_pin_fd(), path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result;
    int kept;

    MR_UNUSED(env);
    if (fd < 0)
        return mr__posix_fail(err, "open the directory", path, errno);
    do
        result = MR_MUTANT("posix.sync-dir.fsync") ? 0 : fsync(fd);
    while (result != 0 && errno == EINTR);
    kept = errno;
    close(fd);
    /* EINVAL: a file system whose directories need no flush says so this way. */
    if (result == 0 || kept == EINVAL)
        return MR_OK;
    return mr__posix_fail(err, "flush the directory", path, kept);
}

bool mr__posix_is_volatile(struct mr_env *env, const char *path)
{
    struct statfs system;
    char *pinned = mr_env_pin_path(path);
    bool known = pinned != NULL && statfs(pinned, &system) == 0;

    MR_UNUSED(env);
    mr_free(pinned);
    return known && (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
}

/* ---------------------------------------------------------------- locks */

static enum mr_status refuse(int fd, const char *path, struct mr_error *err)
{
    char text[HOLDER_BYTES_MAX];
    char shown[2 * HOLDER_BYTES_MAX];
    ssize_t size = pread(fd, text, sizeof(text), 0);

    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\0'))
        size--;
    errno = EWOULDBLOCK;
    if (size <= 0)
        return MR_FAIL(err, MR_BUSY, "cannot lock '%s': another process uses it; stop it first",
                       path);
    mr_text_escape(text, (size_t)size, shown, sizeof(shown));
    return MR_FAIL(err, MR_BUSY, "cannot lock '%s': in use by %s; stop it first", path, shown);
}

/* 0, or an errno; EWOULDBLOCK when somebody has it. */
static int take_lock(int fd)
{
    struct flock range = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fcntl(fd, F_OFD_SETLK, &range) == 0)
        return 0;
    if (errno == EACCES || errno == EAGAIN)
        return EWOULDBLOCK;
    if (errno == EINVAL && flock(fd, LOCK_EX | LOCK_NB) == 0) /* no such locks here */
        return 0;
    return errno;
}

/* True when path still names the open file: the holder before us may have removed it. */
static bool still_there(int fd, const char *path)
{
    struct stat open_file;
    struct stat named;

    return fstat(fd, &open_file) == 0 &&
           fstatat(mr_env_pin_fd(), path, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

/*
 * Says who we are, for those who are refused. Not worth an error: the lock is the kernel's, the
 * text is only for people.
 */
static void sign(int fd)
{
    char host[HOLDER_BYTES_MAX / 2] = "?", text[HOLDER_BYTES_MAX];
    int size;

    if (gethostname(host, sizeof(host)) != 0)
        host[0] = '?';
    host[sizeof(host) - 1] = '\0';
    size = snprintf(text, sizeof(text), "pid %ld on %s\n", (long)getpid(), host);
    if (size > 0 && pwrite(fd, text, (size_t)size, 0) == size && ftruncate(fd, size) != 0)
        errno = 0;
}

static enum mr_status try_lock(const char *path, int *ret_fd, struct mr_error *err)
{
    int fd = openat(mr_env_pin_fd(), path,
                    O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    enum mr_status status = MR_OK;
    struct stat info;
    int refused;

    if (fd < 0)
        return mr__posix_fail(err, "open the lock", path, errno);
    refused = MR_MUTANT("posix.lock.take") ? 0 : take_lock(fd);
    errno = 0;
    if (fstat(fd, &info) == 0 && !S_ISREG(info.st_mode) && !MR_MUTANT("posix.lock.regular"))
        status = MR_FAIL(err, MR_IO, "cannot lock '%s': it is not a regular file", path);
    else if (refused == EWOULDBLOCK)
        status = refuse(fd, path, err);
    else if (refused != 0)
        status = mr__posix_fail(err, "lock", path, refused);
    if (status != MR_OK) {
        close(fd);
        return status;
    }
    /* The umask may have taken our own rights away: the next start must be able to open it. */
    if ((info.st_mode & 0777) != 0600 && info.st_size == 0 && fchmod(fd, 0600) != 0)
        errno = 0; /* not worth an error: this lock is held */
    sign(fd);
    *ret_fd = fd;
    return MR_OK;
}

enum mr_status mr__posix_lock(struct mr_env *env, const char *path, struct mr_lock **ret_lock,
                              struct mr_error *err)
{
    struct mr_lock *lock;
    int fd = -1;

    MR_UNUSED(env);
    for (int i = 0; i < LOCK_ATTEMPTS_MAX; i++) {
        MR_TRY(try_lock(path, &fd, err));
        if (still_there(fd, path) || MR_MUTANT("posix.lock.still-there"))
            break;
        close(fd);
        fd = -1;
    }
    errno = 0;
    if (fd < 0)
        return MR_FAIL(err, MR_BUSY, "cannot lock '%s': somebody keeps replacing it", path);
    lock = mr_alloc(NULL, sizeof(*lock));
    if (lock == NULL) {
        close(fd);
        return MR_FAIL(err, MR_NOMEM, "cannot lock '%s': out of memory", path);
    }
    lock->fd = fd;
    *ret_lock = lock;
    return MR_OK;
}

void mr__posix_unlock(struct mr_env *env, struct mr_lock *lock)
{
    MR_UNUSED(env);
    if (lock == NULL)
        return;
    close(lock->fd);
    mr_free(lock);
}
