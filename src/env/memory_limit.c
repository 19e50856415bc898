/*
 * What the machine, control groups and limits leave to this process; see memory_limit.h. Called
 * once when a query starts without a memory of its own.
 *
 * /proc/self/cgroup names the groups: "0::/a/b" of version 2, "4:memory:/a/b" of version 1. Limits
 * hold for all below, so every group up to the root is asked. Inside a container the path is often
 * that of outside and not there: then the root of the mount is the container's own group.
 */
#include "env/memory_limit.h"

#include "base/number_text.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_BYTES = 4096, TEXT_BYTES = 64, LIST_BYTES = 16384 };

static bool read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, size - 1) : -1;

    if (fd >= 0)
        (void)close(fd);
    if (got <= 0)
        return false;
    text[got] = '\0';
    return true;
}

/* Bytes in dir/file; UINT64_MAX: none, or "max". */
static uint64_t limit_in(const char *dir, const char *file)
{
    char path[PATH_BYTES], text[TEXT_BYTES];
    int64_t bytes = 0;

    if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, file) >= sizeof(path) ||
        !read_text(path, text, sizeof(text)))
        return UINT64_MAX;
    return mr_int_parse(text, strcspn(text, "\n"), &bytes) && bytes > 0 ? (uint64_t)bytes
                                                                        : UINT64_MAX;
}

/* The smallest limit of mount/group and all above it, down to mount itself. */
static uint64_t limit_up(const char *mount, const char *group, const char *file)
{
    char dir[PATH_BYTES];
    uint64_t least = UINT64_MAX;
    size_t root = strlen(mount);

    if ((size_t)snprintf(dir, sizeof(dir), "%s%s", mount, group) >= sizeof(dir))
        return UINT64_MAX;
    for (;;) {
        uint64_t limit = limit_in(dir, file);
        char *slash;

        least = limit < least ? limit : least;
        slash = strrchr(dir, '/');
        if (slash == NULL || (size_t)(slash - dir) < root)
            return least;
        *slash = '\0';
    }
}

static uint64_t limit_of_line(const char *root, char *line)
{
    char mount[PATH_BYTES];
    char *kinds = strchr(line, ':');
    char *group = kinds != NULL ? strchr(kinds + 1, ':') : NULL;
    uint64_t a, b;

    if (group == NULL)
        return UINT64_MAX;
    *group++ = '\0';
    if (strcmp(group, "/") == 0)
        group[0] = '\0';
    if (kinds[1] == '\0') { /* version 2, alone or beside version 1 */
        snprintf(mount, sizeof(mount), "%.4000s/sys/fs/cgroup", root);
        a = limit_up(mount, group, "memory.max");
        snprintf(mount, sizeof(mount), "%.4000s/sys/fs/cgroup/unified", root);
        b = limit_up(mount, group, "memory.max");
        return a < b ? a : b;
    }
    if (strstr(kinds + 1, "memory") == NULL)
        return UINT64_MAX;
    snprintf(mount, sizeof(mount), "%.4000s/sys/fs/cgroup/memory", root);
    return limit_up(mount, group, "memory.limit_in_bytes");
}

uint64_t mr_memory_of_cgroups(const char *root)
{
    char path[PATH_BYTES];
    char list[LIST_BYTES];
    uint64_t least = UINT64_MAX;
    char *rest = NULL;

    snprintf(path, sizeof(path), "%.4000s/proc/self/cgroup", root);
    if (!read_text(path, list, sizeof(list)))
        return UINT64_MAX;
    for (char *line = strtok_r(list, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        uint64_t limit = limit_of_line(root, line);

        least = limit < least ? limit : least;
    }
    return least;
}

uint64_t mr_memory_of_machine(const char **ret_what)
{
    uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t groups = mr_memory_of_cgroups("");
    struct rlimit limit;

    *ret_what = "machine";
    if (groups < least) {
        least = groups;
        *ret_what = "control group";
    }
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < least) {
        least = limit.rlim_cur;
        *ret_what = "ulimit -v";
    }
    if (getrlimit(RLIMIT_DATA, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < least) {
        least = limit.rlim_cur;
        *ret_what = "ulimit -d";
    }
    return least;
}
