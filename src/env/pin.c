/*
 * The directory of relative paths; pin.h.
 *
 * Called by contexts and sessions (hold, let go) and by the POSIX environment at every path. The
 * directory is held by a descriptor, so it may be renamed or removed like any other.
 */
#include "env/pin.h"

#include "base/alloc.h"
#include "base/log.h"
#include "base/text.h"
#include "env/thread.h"

#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static struct {
    struct mr_mutex lock;
    unsigned holders;
    atomic_int fd; /* AT_FDCWD: nobody holds it */
} pin = {.lock = {PTHREAD_MUTEX_INITIALIZER}, .fd = AT_FDCWD};

void mr_env_pin(void)
{
    mr_mutex_lock(&pin.lock);
    if (pin.holders++ == 0) {
        int fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
            mr_log(MR_LOG_WARNING, "env", NULL, -1,
                   "cannot hold on to the current directory; relative paths are those of the "
                   "process from now on");
        else
            atomic_store(&pin.fd, fd);
    }
    mr_mutex_unlock(&pin.lock);
}

void mr_env_unpin(void)
{
    int fd;

    mr_mutex_lock(&pin.lock);
    fd = --pin.holders == 0 ? atomic_exchange(&pin.fd, AT_FDCWD) : AT_FDCWD;
    mr_mutex_unlock(&pin.lock);
    if (fd != AT_FDCWD)
        close(fd);
}

int mr_env_pin_fd(void)
{
    return atomic_load_explicit(&pin.fd, memory_order_relaxed);
}

char *mr_env_pin_path(const char *path)
{
    char place[64], directory[PATH_MAX];
    int fd = mr_env_pin_fd();
    ssize_t size;

    if (fd == AT_FDCWD || path[0] == '/')
        return mr_strdup(path);
    snprintf(place, sizeof(place), "/proc/self/fd/%d", fd);
    size = readlink(place, directory, sizeof(directory));
    if (size <= 0 || (size_t)size >= sizeof(directory))
        return mr_strdup(path); /* without /proc it is the process's */
    return mr_asprintf("%.*s/%s", (int)size, directory, path);
}
