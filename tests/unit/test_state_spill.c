/* State beyond its share of the memory: the same answers, from a file that nobody else sees. */
#include "base/alloc.h"
#include "base/limits.h"
#include "base/memory.h"
#include "env/memory_limit.h"
#include "env/spill_file.h"
#include "env/thread.h"
#include "state/internal.h"
#include "state/spill.h"
#include "support/evidence.h"
#include "support/test.h"

#include <millrace/limits.h>

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARE_BYTES = 1 << 20, KEYS = 60000, VALUE_BYTES = 40 };

static void fill(char *value, uint64_t key, uint64_t round)
{
    for (size_t i = 0; i < VALUE_BYTES; i++)
        value[i] = (char)(key * 31 + round * 7 + i);
}

static enum mr_status put(struct mr_store *store, uint64_t key, uint64_t round,
                          struct mr_error *err)
{
    char value[VALUE_BYTES];

    fill(value, key, round);
    return mr_store_put(store, &key, sizeof(key), value, sizeof(value), err);
}

static void check(const struct mr_store *store, uint64_t key, uint64_t round)
{
    char wanted[VALUE_BYTES];
    const char *value = NULL;
    size_t size = 0;

    fill(wanted, key, round);
    CHECK(mr_store_get(store, &key, sizeof(key), &value, &size));
    CHECK_EQ_UINT(size, sizeof(wanted));
    CHECK_EQ_MEM(value, wanted, sizeof(wanted));
}

static void check_all(const struct mr_store *store, uint64_t count, uint64_t round)
{
    CHECK_EQ_UINT(mr_store_count(store), count);
    for (uint64_t key = 0; key < count; key++)
        check(store, key, round);
}

static size_t entries_of(const char *path)
{
    DIR *dir = opendir(path);
    size_t count = 0;

    CHECK_NOT_NULL(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2;
}

TEST(C13_state_beyond_its_share_goes_to_a_file_without_a_name_and_is_the_same)
{
    struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);
    struct mr_error err = {0};
    uint64_t keys = test_quick() ? KEYS / 2 : KEYS;

    mr_state_memory_configure(t->dir, SHARE_BYTES);
    for (uint64_t key = 0; key < keys; key++)
        CHECK_OK(put(store, key, 0, &err), &err);
    mr__store_accept(store);
    CHECK(mr_state_spilled_bytes() > 0);
    CHECK(mr_state_memory_bytes() < SHARE_BYTES);
    CHECK_EQ_UINT(entries_of(t->dir), 0);
    check_all(store, keys, 0);
    CHECK_OK(mr_state_check_memory(&err), &err);

    for (uint64_t key = 0; key < keys; key += 2) /* a batch that fails changes nothing */
        CHECK_OK(put(store, key, 1, &err), &err);
    mr__store_rollback(store);
    check_all(store, keys, 0);
    for (uint64_t key = 0; key < keys; key++)
        CHECK_OK(put(store, key, 2, &err), &err);
    mr__store_accept(store);
    check_all(store, keys, 2);
    evidence_add("limits", "spilled_bytes", mr_state_spilled_bytes());
    mr__store_free(store);
    CHECK_EQ_UINT(mr_state_spilled_bytes(), 0);
    CHECK_EQ_UINT(mr_state_memory_bytes(), 0);
    mr_state_memory_configure(NULL, 0);
}

enum { THREADS = 4 };
struct lane {
    struct mr_store *store;
    unsigned number;
    enum mr_status status;
};

static void change_shards(void *arg)
{
    struct lane *lane = arg;

    for (uint64_t key = 0; key < KEYS / 2 && lane->status == MR_OK; key++) {
        if (mr_store_shard(mr_store_hash(lane->store, &key, sizeof(key))) % THREADS == lane->number)
            lane->status = put(lane->store, key, 3, NULL);
    }
}

TEST(shards_that_spill_are_changed_by_several_threads_at_once)
{
    struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);
    struct mr_thread *threads[THREADS] = {NULL};
    struct lane lanes[THREADS];
    struct mr_error err = {0};

    mr_state_memory_configure(t->dir, SHARE_BYTES / 2);
    for (unsigned i = 0; i < THREADS; i++) {
        lanes[i] = (struct lane){store, i, MR_OK};
        CHECK_OK(mr_thread_start("lane", change_shards, &lanes[i], &threads[i], &err), &err);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        mr_thread_join(threads[i]);
        CHECK_EQ_INT(lanes[i].status, MR_OK);
    }
    CHECK(mr_state_spilled_bytes() > 0);
    mr__store_accept(store);
    check_all(store, KEYS / 2, 3);
    mr__store_free(store);
    CHECK_EQ_UINT(mr_state_spilled_bytes(), 0);
    mr_state_memory_configure(NULL, 0);
}

TEST(pages_that_were_dropped_come_back_with_what_was_in_them)
{
    struct mr_spill_file *file = NULL;
    struct mr_error err = {0};
    enum { BYTES = 4 << 20 };
    void *memory = NULL;
    uint8_t *bytes;

    CHECK_OK(mr_spill_file_open(t->dir, &file, &err), &err);
    CHECK_OK(mr_spill_file_extend(file, BYTES, &memory, &err), &err);
    bytes = memory;
    for (size_t i = 0; i < BYTES; i++)
        CHECK_EQ_UINT(bytes[i], 0);
    for (size_t i = 0; i < BYTES; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 4096);
    mr_spill_file_drop(memory, BYTES);
    CHECK_OK(mr_spill_file_check(file, &err), &err);
    for (size_t i = 0; i < BYTES; i++)
        CHECK(bytes[i] == (uint8_t)(i * 7 + i / 4096));
    mr_spill_file_release(file, memory);
    mr_spill_file_close(file);
}

TEST(C11_every_failing_allocation_while_state_is_spilled_leaves_it_as_it_was)
{
    enum { BASE = 12000, MORE = 6000 };
    uint64_t nth = 1;
    bool done = false;

    for (; !done; nth += nth / 16 + 1) {
        struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);
        struct mr_error err = {0};
        enum mr_status status = MR_OK;

        mr_state_memory_configure(t->dir, SHARE_BYTES / 4);
        for (uint64_t key = 0; key < BASE; key++)
            CHECK_OK(put(store, key, 0, &err), &err);
        mr__store_accept(store);
        CHECK(mr_state_spilled_bytes() > 0);
        mr_alloc_fail_at(nth, true);
        for (uint64_t key = 0; key < BASE + MORE && status == MR_OK; key++)
            status = put(store, key, 1, &err);
        done = status == MR_OK;
        mr_alloc_fail_at(0, false);
        if (!done) {
            CHECK_EQ_INT(status, MR_NOMEM);
            mr__store_rollback(store);
            check_all(store, BASE, 0);
        }
        mr__store_free(store);
        CHECK_EQ_UINT(mr_state_spilled_bytes(), 0);
        mr_state_memory_configure(NULL, 0);
    }
    CHECK(nth > 2);
}

TEST(a_spill_file_that_may_not_grow_is_an_error_with_its_remedy)
{
    struct mr_store *store = mr__store_new("s", "test", "k", "v", 99);
    struct rlimit before, small = {.rlim_cur = 1 << 20};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    enum mr_status status = MR_OK;
    struct mr_error err = {0};

    CHECK_EQ_INT(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    CHECK_EQ_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    mr_state_memory_configure(t->dir, SHARE_BYTES);
    for (uint64_t key = 0; key < KEYS && status == MR_OK; key++)
        status = put(store, key, 0, &err);
    CHECK_EQ_INT(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    CHECK_EQ_INT(status, MR_IO);
    CHECK_CONTAINS(err.text, "'spill_dir'");
    CHECK_CONTAINS(err.text, t->dir);
    mr__store_rollback(store);
    CHECK_EQ_UINT(mr_store_count(store), 0);
    mr__store_free(store);
    mr_state_memory_configure(NULL, 0);
}

TEST(a_spill_directory_that_cannot_be_made_is_named)
{
    struct mr_spill_file *file = NULL;
    struct mr_error err = {0};

    CHECK_EQ_INT(mr_spill_file_open(test_path(t, "no/such/place"), &file, &err), MR_CANNOT_CREATE);
    CHECK_CONTAINS(err.text, "no/such/place");
    CHECK_CONTAINS(err.text, "'spill_dir'");
}

/* A child whose spill file was cut behind its back: what a page that cannot be read does. */
static void touch_lost_page(const char *dir)
{
    char path[64];
    struct mr_spill_file *file = NULL;
    void *memory = NULL;

    if (mr_spill_file_open(dir, &file, NULL) != MR_OK ||
        mr_spill_file_extend(file, 1 << 20, &memory, NULL) != MR_OK)
        _exit(1);
    *(volatile char *)memory = 1;
    for (int fd = 3; fd < 64; fd++) {
        struct stat info;

        if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_nlink == 0 &&
            info.st_size == 1 << 20) {
            snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
            if (truncate(path, 0) != 0)
                _exit(2);
        }
    }
    if (freopen("/dev/null", "w", stderr) == NULL)
        _exit(4);
    *(volatile char *)memory = 2;
    _exit(3);
}

TEST(a_page_that_cannot_be_read_ends_the_process_with_74)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0)
        touch_lost_page(t->dir);
    CHECK(child > 0);
    CHECK_EQ_INT(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ_INT(WEXITSTATUS(status), 74);
}

static void write_text(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    CHECK_NOT_NULL(file);
    CHECK(fputs(text, file) >= 0);
    CHECK_EQ_INT(fclose(file), 0);
}

static void make_dirs(struct test *t, const char *path)
{
    char text[512];

    snprintf(text, sizeof(text), "%s/%s", t->dir, path);
    for (char *at = text + strlen(t->dir) + 1;; at++) {
        char kept = *at;

        if (kept != '/' && kept != '\0')
            continue;
        *at = '\0';
        mkdir(text, 0700);
        *at = kept;
        if (kept == '\0')
            return;
    }
}

TEST(the_smallest_limit_of_all_control_groups_above_the_process_counts)
{
    make_dirs(t, "proc/self");
    make_dirs(t, "sys/fs/cgroup/a/b");
    write_text(test_path(t, "proc/self/cgroup"), "0::/a/b\n");
    write_text(test_path(t, "sys/fs/cgroup/a/b/memory.max"), "max\n");
    CHECK_EQ_UINT(mr_memory_of_cgroups(t->dir), UINT64_MAX);
    write_text(test_path(t, "sys/fs/cgroup/a/memory.max"), "536870912\n");
    CHECK_EQ_UINT(mr_memory_of_cgroups(t->dir), 512 << 20);
    write_text(test_path(t, "sys/fs/cgroup/a/b/memory.max"), "1073741824\n");
    CHECK_EQ_UINT(mr_memory_of_cgroups(t->dir), 512 << 20);
    make_dirs(t, "sys/fs/cgroup/memory/x");
    write_text(test_path(t, "sys/fs/cgroup/memory/x/memory.limit_in_bytes"), "268435456\n");
    write_text(test_path(t, "proc/self/cgroup"), "5:cpu:/y\n4:memory:/x\n0::/a/b\n");
    CHECK_EQ_UINT(mr_memory_of_cgroups(t->dir), 256 << 20);
    /* a path of outside the container: its own group is the root of the mount */
    write_text(test_path(t, "proc/self/cgroup"), "4:memory:/outside/group\n");
    write_text(test_path(t, "sys/fs/cgroup/memory/memory.limit_in_bytes"), "134217728\n");
    CHECK_EQ_UINT(mr_memory_of_cgroups(t->dir), 128 << 20);
}

TEST(the_shares_of_the_memory_stay_within_it)
{
    uint64_t before = mr_memory_bytes();
    struct mr_error err = {0};

    for (uint64_t bytes = MR_MEMORY_BYTES_MIN; bytes < UINT64_C(1) << 36; bytes += bytes / 3) {
        mr_memory_set(bytes, true);
        CHECK(mr_budget_limit(NULL) + MR_MIN(bytes / 4, (uint64_t)MR_MEMORY_CODE_BYTES) <= bytes);
        CHECK(mr_memory_state() < mr_budget_limit(NULL));
        CHECK(mr_memory_batch() > 0 && mr_memory_batch() < mr_memory_state());
        CHECK(mr_memory_part(8, UINT64_MAX) == bytes / 8);
        CHECK_EQ_UINT(mr_memory_part(8, 1), 1);
    }
    CHECK_EQ_INT(mr_set_memory_limit(MR_MEMORY_BYTES_MIN - 1, &err), MR_CONFIG);
    CHECK_CONTAINS(err.text, "64 MiB");
    CHECK_OK(mr_set_memory_limit(UINT64_C(1) << 30, &err), &err);
    CHECK_EQ_UINT(mr_memory_bytes(), UINT64_C(1) << 30);
    mr_memory_set(before, true);
    CHECK_EQ_UINT(mr_budget_limit(NULL), before == 0 ? 0 : mr_budget_limit(NULL));
}
