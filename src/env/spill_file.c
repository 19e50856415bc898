/*
 * A file behind memory; see spill_file.h. Called by state/spill.c.
 *
 *     O_TMPFILE in dir (or created and unlinked at once)
 *     | extent 0 | extent 1 | hole, given back | extent 3 | ...   each reserved, then mapped
 *
 * The extents of all files are in one table without a lock, because the handler of SIGBUS looks
 * there: an address of ours means that the disk failed, any other is somebody else's mistake.
 *
 * Threads: see the header. The handler runs on whichever thread touched the page.
 */
#include "env/spill_file.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "env/pin.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct mr_spill_file {
    int fd;
    char *dir;
    uint64_t end; /* of the file */
};

struct extent {
    _Atomic uintptr_t begin; /* 0 = free */
    _Atomic size_t bytes;
    uint64_t offset; /* in its file */
};

static struct extent extents[MR_LIMIT_SPILL_EXTENTS];
static struct sigaction action_before;
static _Atomic bool has_handler;

/* ---------------------------------------------------------------- SIGBUS */

static bool is_ours(uintptr_t address)
{
    for (size_t i = 0; i < MR_LIMIT_SPILL_EXTENTS; i++) {
        uintptr_t begin = atomic_load(&extents[i].begin);

        if (begin != 0 && address >= begin && address - begin < atomic_load(&extents[i].bytes))
            return true;
    }
    return false;
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
    static const char text[] =
        "millrace: cannot read spilled state: input or output error; the checkpoint is whole: "
        "look at the disk of the spill directory, or set another 'spill_dir', and start again\n";

    (void)number;
    (void)context;
    if (is_ours((uintptr_t)info->si_addr)) {
        ssize_t written = write(STDERR_FILENO, text, sizeof(text) - 1);

        (void)written;
        _exit(mr_status_exit_code(MR_IO));
    }
    /* Not ours: as it was before; the access is repeated and raises the signal again. */
    (void)sigaction(SIGBUS, &action_before, NULL);
}

static void install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};

    if (atomic_exchange(&has_handler, true))
        return;
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGBUS, &action, &action_before);
}

/* ---------------------------------------------------------------- the file */

static int open_unnamed(const char *dir)
{
    char *path, *pinned;
    int fd = openat(mr_env_pin_fd(), dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
        return fd;
    pinned = mr_env_pin_path(dir);
    path = pinned != NULL ? mr_asprintf("%s/.tmp-spill-XXXXXX", pinned) : NULL;
    mr_free(pinned);
    if (path == NULL) { /* the name is swept like any temporary */
        errno = ENOMEM;
        return -1;
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        (void)unlinkat(AT_FDCWD, path, 0);
    mr_free(path);
    return fd;
}

enum mr_status mr_spill_file_open(const char *dir, struct mr_spill_file **ret_file,
                                  struct mr_error *err)
{
    struct mr_spill_file *file = mr_alloc_zero(NULL, sizeof(*file));
    enum mr_status status;

    if (file == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot spill state: out of memory");
    file->fd = -1;
    file->dir = mr_strdup(dir);
    if (file->dir == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot spill state: out of memory");
        goto done;
    }
    if (mkdirat(AT_FDCWD, dir, 0700) != 0 && errno != EEXIST) {
        status = MR_FAIL(err, MR_CANNOT_CREATE,
                         "cannot make the spill directory '%s': %s; set 'spill_dir' to another one",
                         dir, strerrordesc_np(errno));
        goto done;
    }
    file->fd = open_unnamed(dir);
    if (file->fd < 0) {
        status =
            MR_FAIL(err, MR_CANNOT_CREATE,
                    "cannot make a spill file in '%s': %s; set 'spill_dir' to another directory",
                    dir, strerrordesc_np(errno));
        goto done;
    }
    *ret_file = file;
    return MR_OK;
done:
    mr_spill_file_close(file);
    return status;
}

static struct extent *extent_at(const void *memory)
{
    for (size_t i = 0; i < MR_LIMIT_SPILL_EXTENTS; i++) {
        if (atomic_load(&extents[i].begin) == (uintptr_t)memory)
            return &extents[i];
    }
    return NULL;
}

/* A free place of the table, taken (begin 1 is no address). */
static struct extent *take_place(void)
{
    for (size_t i = 0; i < MR_LIMIT_SPILL_EXTENTS; i++) {
        uintptr_t none = 0;

        if (atomic_compare_exchange_strong(&extents[i].begin, &none, 1))
            return &extents[i];
    }
    return NULL;
}

static enum mr_status reserve(struct mr_spill_file *file, size_t bytes, struct mr_error *err)
{
    int failed;

    do
        failed = posix_fallocate(file->fd, (off_t)file->end, (off_t)bytes);
    while (failed == EINTR);
    if (failed == 0)
        return MR_OK;
    errno = failed;
    return MR_FAIL(err, MR_IO,
                   "cannot spill state: no %zu MiB more in '%s': %s; make room there, set "
                   "'spill_dir' to another directory, or give more 'memory'",
                   bytes >> 20, file->dir, strerrordesc_np(failed));
}

enum mr_status mr_spill_file_extend(struct mr_spill_file *file, size_t bytes, void **ret_memory,
                                    struct mr_error *err)
{
    struct extent *place = take_place();
    enum mr_status status;
    void *memory;

    MR_ASSERT(bytes > 0 && bytes % 65536 == 0);
    if (place == NULL)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot spill state: more than %d extents in '%s' (spill_extents); give "
                       "more 'memory'",
                       MR_LIMIT_SPILL_EXTENTS, file->dir);
    status = reserve(file, bytes, err);
    if (status != MR_OK) {
        atomic_store(&place->begin, 0);
        return status;
    }
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd, (off_t)file->end);
    if (memory == MAP_FAILED) {
        atomic_store(&place->begin, 0);
        return MR_FAIL(err, MR_LIMIT,
                       "cannot spill state: %s; raise the limits of address space and mappings "
                       "('ulimit -v', vm.max_map_count)",
                       strerrordesc_np(errno));
    }
    /* Keys come in no order: reading around a page would throw others out. */
    (void)madvise(memory, bytes, MADV_RANDOM);
    install_handler();
    place->offset = file->end;
    atomic_store(&place->bytes, bytes);
    atomic_store(&place->begin, (uintptr_t)memory);
    file->end += bytes;
    *ret_memory = memory;
    return MR_OK;
}

void mr_spill_file_release(struct mr_spill_file *file, void *memory)
{
    struct extent *extent = extent_at(memory);
    size_t bytes;

    MR_ASSERT(extent != NULL);
    bytes = atomic_load(&extent->bytes);
    (void)fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)extent->offset,
                    (off_t)bytes);
    (void)munmap(memory, bytes);
    atomic_store(&extent->bytes, 0);
    atomic_store(&extent->begin, 0);
}

void mr_spill_file_drop(void *memory, size_t bytes)
{
    /* Out of the tables of the process: what was written is now the kernel's to write to the file,
     * when it wants its pages back. Starting that here would write a page once for each round. */
    (void)madvise(memory, bytes, MADV_DONTNEED);
}

enum mr_status mr_spill_file_check(struct mr_spill_file *file, struct mr_error *err)
{
    if (sync_file_range(file->fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) == 0)
        return MR_OK;
    return MR_FAIL(err, MR_IO,
                   "cannot write spilled state to '%s': %s; look at that disk, or set 'spill_dir' "
                   "to another directory, and start again",
                   file->dir, strerrordesc_np(errno));
}

void mr_spill_file_close(struct mr_spill_file *file)
{
    if (file == NULL)
        return;
    if (file->fd >= 0)
        (void)close(file->fd);
    mr_free(file->dir);
    mr_free(file);
}

size_t mr_mapped_resident_bytes(void)
{
    char text[128];
    char *at = text;
    unsigned long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

    if (fd >= 0)
        (void)close(fd);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    for (int field = 0; field < 3; field++) { /* size, resident, shared */
        char *end;

        pages = strtoul(at, &end, 10);
        if (end == at)
            return 0;
        at = end;
    }
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}
