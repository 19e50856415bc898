/* The simulated environment itself: the rules of its disk, its faults, its clock. */
#include "support/test.h"

#include "base/check.h"
#include "env/sim.h"

#include <errno.h>

static struct mr_error err;

static void put(struct mr_env *env, const char *path, const char *text, bool sync)
{
    struct mr_file *file;

    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, text, strlen(text), 0, &err), &err);
    if (sync)
        CHECK_OK(mr_env_sync(env, file, &err), &err);
    mr_env_close(env, file);
}

/* Text of a file, "(absent)" without one; in a static buffer. */
static const char *text_of(struct mr_env *env, const char *path)
{
    static char text[200];
    struct mr_file *file;
    size_t size;

    if (mr_env_open(env, path, MR_FILE_READ, &file, NULL) != MR_OK)
        return "(absent)";
    CHECK_OK(mr_env_pread(env, file, text, sizeof(text) - 1, 0, &size, &err), &err);
    text[size] = '\0';
    mr_env_close(env, file);
    return text;
}

/* Counts how the file "/f" looks in the states of a crash. */
struct tally {
    uint64_t absent;
    uint64_t empty;
    uint64_t whole;   /* "new" */
    uint64_t old;     /* "old" */
    uint64_t partial; /* a shorter prefix of "new" */
    uint64_t other;
};

static void tally_up(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct tally *tally = arg;
    const char *text = text_of(mr_sim_env(after), "/f");

    (void)crash;
    if (strcmp(text, "(absent)") == 0)
        tally->absent++;
    else if (text[0] == '\0')
        tally->empty++;
    else if (strcmp(text, "new") == 0)
        tally->whole++;
    else if (strcmp(text, "old") == 0)
        tally->old++;
    else if (strncmp("new", text, strlen(text)) == 0)
        tally->partial++;
    else
        tally->other++;
}

static struct tally crash_now(struct mr_sim *sim)
{
    struct tally tally = {0};

    mr_sim_crash_states(sim, mr_sim_op_count(sim), 4096, 1, tally_up, &tally);
    return tally;
}

TEST(a_synced_file_without_a_synced_directory_may_vanish_but_is_never_torn)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct tally tally;

    put(mr_sim_env(sim), "/f", "new", true);
    tally = crash_now(sim);
    CHECK_EQ_UINT(tally.absent, 1);
    CHECK_EQ_UINT(tally.whole, 1);
    CHECK_EQ_UINT(tally.empty + tally.partial + tally.other, 0);
    CHECK_OK(mr_env_sync_dir(mr_sim_env(sim), "/", &err), &err);
    tally = crash_now(sim);
    CHECK_EQ_UINT(tally.whole, 1);
    CHECK_EQ_UINT(tally.absent, 0);
    mr_sim_free(sim);
}

TEST(an_unsynced_write_may_be_absent_torn_zeros_or_garbage)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct tally tally;

    put(mr_sim_env(sim), "/f", "new", false);
    CHECK_OK(mr_env_sync_dir(mr_sim_env(sim), "/", &err), &err);
    tally = crash_now(sim);
    CHECK_EQ_UINT(tally.absent, 0);
    CHECK_EQ_UINT(tally.whole, 1);
    CHECK(tally.empty >= 1); /* absent or torn at its start, and "zeros" as a C string */
    CHECK_EQ_UINT(tally.whole + tally.empty + tally.partial + tally.other, 5);
    mr_sim_free(sim);
}

TEST(a_rename_before_the_sync_shows_the_classic_empty_file)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct tally tally;

    put(env, "/f", "old", true);
    CHECK_OK(mr_env_sync_dir(env, "/", &err), &err);
    put(env, "/t", "new", false);
    CHECK_OK(mr_env_rename(env, "/t", "/f", false, &err), &err);
    tally = crash_now(sim);
    CHECK(tally.old > 0 && tally.whole > 0 && tally.empty > 0);
    CHECK_EQ_UINT(tally.absent, 0);
    mr_sim_free(sim);
}

TEST(operations_survive_in_any_combination)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct tally tally;

    put(env, "/f", "old", true);
    CHECK_OK(mr_env_sync_dir(env, "/", &err), &err);
    CHECK_OK(mr_env_unlink(env, "/f", &err), &err);
    tally = crash_now(sim);
    CHECK_EQ_UINT(tally.old, 1);
    CHECK_EQ_UINT(tally.absent, 1);
    CHECK_OK(mr_env_mkdir(env, "/d", &err), &err);
    CHECK_OK(mr_env_mkdir(env, "/e", &err), &err);
    tally = crash_now(sim);
    CHECK_EQ_UINT(tally.old, 4);
    CHECK_EQ_UINT(tally.absent, 4);
    mr_sim_free(sim);
}

TEST(a_directory_that_was_not_synced_takes_its_files_along)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_sim *after;
    struct tally tally;

    CHECK_OK(mr_env_mkdir(env, "/d", &err), &err);
    put(env, "/d/f", "new", true);
    CHECK_OK(mr_env_sync_dir(env, "/d", &err), &err);
    CHECK_OK(mr_env_rename(env, "/d/f", "/f", true, &err), &err);
    /* a rename is durable with either directory */
    CHECK_OK(mr_env_sync_dir(env, "/d", &err), &err);
    tally = crash_now(sim);
    CHECK_EQ_UINT(tally.whole, 2); /* with and without /d */
    after = mr_sim_kill(sim, 3);
    CHECK_EQ_STR(text_of(mr_sim_env(after), "/d/f"), "new");
    tally = crash_now(after);
    CHECK_EQ_UINT(tally.absent, tally.absent + tally.whole);
    mr_sim_free(after);
    mr_sim_free(sim);
}

TEST(a_killed_process_leaves_everything_visible_and_pending_what_was)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_sim *after;
    struct mr_lock *lock;
    struct mr_lock *again;
    struct tally tally;

    CHECK_OK(mr_env_lock(mr_sim_env(sim), "/LOCK", &lock, &err), &err);
    put(mr_sim_env(sim), "/f", "new", false);
    after = mr_sim_kill(sim, mr_sim_op_count(sim));
    CHECK_EQ_UINT(mr_sim_disk_hash(after), mr_sim_disk_hash(sim));
    CHECK_OK(mr_env_lock(mr_sim_env(after), "/LOCK", &again, &err), &err);
    mr_env_unlock(mr_sim_env(after), again);
    tally = crash_now(after);
    CHECK(tally.absent > 0 && tally.whole > 0);
    mr_sim_free(after);
    after = mr_sim_kill(sim, 1);
    CHECK_EQ_STR(text_of(mr_sim_env(after), "/f"), "(absent)");
    mr_sim_free(after);
    mr_env_unlock(mr_sim_env(sim), lock);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
}

static void stop_at_first(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    char *text = arg;

    (void)after;
    if (crash->number == 1)
        snprintf(text, 200, "%s", crash->text);
}

TEST(a_power_loss_keeps_what_was_synced_before_it_and_nothing_else)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_sim *after;
    uint64_t op_count;

    put(env, "/f", "old", true);
    CHECK_OK(mr_env_sync_dir(env, "/", &err), &err);
    put(env, "/g", "unsynced", false);
    op_count = mr_sim_op_count(sim);
    put(env, "/f", "new", true); /* what is synced later comes too late */
    after = mr_sim_power_loss(sim, op_count);
    CHECK_EQ_STR(text_of(mr_sim_env(after), "/f"), "old");
    CHECK_EQ_STR(text_of(mr_sim_env(after), "/g"), "(absent)");
    CHECK_EQ_STR(text_of(env, "/f"), "new");
    mr_sim_free(after);
    mr_sim_free(sim);
}

TEST(states_say_how_they_came_about_and_a_large_number_is_sampled)
{
    struct mr_sim *sim = mr_sim_new(1);
    char text[200] = "";
    char op[100];

    put(mr_sim_env(sim), "/f", "new", false);
    CHECK_EQ_UINT(mr_sim_crash_states(sim, 2, 4096, 1, stop_at_first, text), 10);
    CHECK_EQ_STR(text, "after 2 of 2 operations (write 3 bytes at 0 of /f); 1 applied, 2 absent");
    mr_sim_op_text(sim, 0, op, sizeof(op));
    CHECK_EQ_STR(op, "create /f");
    for (int i = 0; i < 30; i++)
        put(mr_sim_env(sim), "/f", "new", false);
    CHECK_EQ_UINT(mr_sim_crash_states(sim, 32, 100, 1, stop_at_first, text), 100);
    CHECK_EQ_UINT(mr_sim_crash_states(sim, 0, 100, 1, stop_at_first, text), 1);
    mr_sim_free(sim);
}

static void hash_up(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    uint64_t *hash = arg;

    *hash = *hash * 31 + mr_sim_disk_hash(after) + crash->op_count;
}

TEST(the_same_seed_gives_the_same_states_and_numbers)
{
    uint64_t hashes[2] = {0, 0};
    uint64_t numbers[2];

    for (int i = 0; i < 2; i++) {
        struct mr_sim *sim = mr_sim_new(7);

        mr_env_random(mr_sim_env(sim), &numbers[i], sizeof(numbers[i]));
        put(mr_sim_env(sim), "/f", "some text to tear", true);
        for (int j = 0; j < 6; j++)
            put(mr_sim_env(sim), "/g", "some text to tear", false);
        mr_sim_crash_everywhere(sim, 0, 50, 3, hash_up, &hashes[i]);
        mr_sim_free(sim);
    }
    CHECK_EQ_UINT(hashes[0], hashes[1]);
    CHECK_EQ_UINT(numbers[0], numbers[1]);
}

TEST(faults_hit_the_nth_call_once_or_for_ever)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_file *file;
    struct mr_file_info info;

    mr_sim_fail_at(sim, 2, EIO, false);
    CHECK_OK(mr_env_open(env, "/f", MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_FAILS(mr_env_pwrite(env, file, "abcdef", 6, 0, &err), &err, MR_IO, "check the disk");
    CHECK_EQ_INT(err.os_errno, EIO);
    CHECK_OK(mr_env_pwrite(env, file, "abcdef", 6, 0, &err), &err);
    mr_sim_fail_at(sim, 1, ENOSPC, true);
    CHECK_OK(mr_env_file_info(env, file, &info, &err), &err); /* needs no space */
    CHECK_FAILS(mr_env_pwrite(env, file, "x", 1, 6, &err), &err, MR_IO, "free space");
    CHECK_FAILS(mr_env_mkdir(env, "/d", &err), &err, MR_IO, "free space");
    CHECK_OK(mr_env_unlink(env, "/f", &err), &err);
    mr_sim_fail_at(sim, 0, 0, false);
    CHECK_OK(mr_env_mkdir(env, "/d", &err), &err);
    mr_env_close(env, file);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
}

TEST(after_a_failed_sync_a_file_refuses_to_sync)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_file *file;

    CHECK_OK(mr_env_open(env, "/f", MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    mr_sim_fail_at(sim, 1, EIO, false);
    CHECK_FAILS(mr_env_sync(env, file, &err), &err, MR_IO, "flush");
    CHECK_FAILS(mr_env_sync(env, file, &err), &err, MR_IO, "an earlier flush failed");
    mr_env_close(env, file);
    mr_sim_free(sim);
}

TEST(a_sync_can_be_made_to_lie)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct tally tally;

    mr_sim_ignore_sync(sim, 1);
    put(mr_sim_env(sim), "/f", "new", true);
    CHECK_OK(mr_env_sync_dir(mr_sim_env(sim), "/", &err), &err);
    CHECK_EQ_UINT(mr_sim_sync_count(sim), 2);
    tally = crash_now(sim);
    CHECK(tally.empty > 0);
    mr_sim_free(sim);
}

TEST(time_moves_only_when_somebody_sleeps)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    int64_t wall = mr_env_wall_us(env);
    int64_t monotonic = mr_env_monotonic_ns(env);
    struct mr_file_info info;

    CHECK(env->ops->virtual_time);
    CHECK_EQ_INT(mr_env_monotonic_ns(env), monotonic);
    mr_env_sleep_ns(env, 5000);
    mr_env_sleep_ns(env, -5000);
    CHECK_EQ_INT(mr_env_monotonic_ns(env), monotonic + 5000);
    CHECK_EQ_INT(mr_env_wall_us(env), wall + 5);
    put(env, "/f", "x", false);
    CHECK_OK(mr_env_path_info(env, "/f", true, &info, &err), &err);
    CHECK_EQ_INT(info.mtime_ns, (wall + 5) * 1000);
    mr_sim_free(sim);
}

TEST(a_lock_is_held_once_and_names_its_holder)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_lock *lock;
    struct mr_lock *second;

    CHECK_OK(mr_env_lock(env, "/LOCK", &lock, &err), &err);
    put(env, "/LOCK", "pid 7\n", false);
    CHECK_FAILS(mr_env_lock(env, "/LOCK", &second, &err), &err, MR_BUSY, "in use by pid 7; stop");
    mr_env_unlock(env, lock);
    CHECK_OK(mr_env_lock(env, "/LOCK", &lock, &err), &err);
    mr_env_unlock(env, lock);
    mr_env_unlock(env, NULL);
    mr_sim_free(sim);
}

static bool count_names(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)name;
    (void)kind;
    return ++*(int *)arg < 2;
}

TEST(paths_and_their_errors_are_those_of_a_real_disk)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    const unsigned exclusive = MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_EXCLUSIVE;
    struct mr_file_info info;
    struct mr_file *file;
    int count = 0;

    CHECK_OK(mr_env_mkdir(env, "/d", &err), &err);
    CHECK_OK(mr_env_mkdir(env, "d/", &err), &err);
    put(env, "//d/./../../d/f", "long", false);
    CHECK_EQ_STR(text_of(env, "d/f"), "long");
    CHECK_FAILS(mr_env_open(env, "/d/x/../f", MR_FILE_READ, &file, &err), &err, MR_NOT_FOUND, NULL);
    put(env, "/d/f", "abc", false);
    CHECK_FAILS(mr_env_open(env, "/d/f", exclusive, &file, &err), &err, MR_CANNOT_CREATE, "/d/f");
    CHECK_FAILS(mr_env_open(env, "/d", MR_FILE_READ, &file, &err), &err, MR_IO, "regular file");
    CHECK_FAILS(mr_env_open(env, "/no/f", exclusive, &file, &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_open(env, "/d/f/g", exclusive, &file, &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_mkdir(env, "/d/f", &err), &err, MR_CANNOT_CREATE, NULL);
    CHECK_FAILS(mr_env_rmdir(env, "/d", &err), &err, MR_CANNOT_CREATE, NULL);
    CHECK_FAILS(mr_env_rmdir(env, "/d/f", &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_unlink(env, "/d", &err), &err, MR_IO, NULL);
    CHECK_FAILS(mr_env_unlink(env, "/", &err), &err, MR_IO, NULL);
    CHECK_FAILS(mr_env_rename(env, "/d", "/d/e", false, &err), &err, MR_IO, NULL);
    CHECK_FAILS(mr_env_rename(env, "/d/f", "/d", false, &err), &err, MR_IO, NULL);
    CHECK_FAILS(mr_env_rename(env, "/d", "/d/f", false, &err), &err, MR_IO, NULL);
    CHECK_FAILS(mr_env_rename(env, "/no", "/d/f", false, &err), &err, MR_NOT_FOUND, "/no");
    put(env, "/g", "x", false);
    CHECK_FAILS(mr_env_rename(env, "/g", "/d/f", true, &err), &err, MR_CANNOT_CREATE, "/d/f");
    CHECK_OK(mr_env_rename(env, "/d", "/e", false, &err), &err);
    CHECK_FAILS(mr_env_path_info(env, "/d", false, &info, &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_sync_dir(env, "/e/f", &err), &err, MR_NOT_FOUND, NULL);
    CHECK_FAILS(mr_env_list(env, "/e/f", count_names, &count, &err), &err, MR_NOT_FOUND, NULL);
    put(env, "/e/g", "x", false);
    put(env, "/e/h", "x", false);
    CHECK_OK(mr_env_list(env, "/e", count_names, &count, &err), &err);
    CHECK_EQ_INT(count, 2); /* it was asked to stop */
    CHECK_STATUS(env->ops->connect(env, "host", "1", 1, NULL, &err), MR_UNAVAILABLE);
    CHECK_STATUS(env->ops->recv(env, NULL, NULL, 0, 1, NULL, &err), MR_UNAVAILABLE);
    mr_sim_free(sim);
}

TEST(large_files_are_read_back_across_pages_and_truncation)
{
    struct mr_sim *sim = mr_sim_new(1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_file_info info;
    struct mr_file *file;
    static uint8_t data[20000];
    static uint8_t back[20000];
    size_t size;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + 1);
    CHECK_OK(mr_env_open(env, "/f", MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, data, sizeof(data), 3000, &err), &err);
    CHECK_OK(mr_env_pread(env, file, back, sizeof(back), 3000, &size, &err), &err);
    CHECK_EQ_UINT(size, sizeof(data));
    CHECK_EQ_MEM(back, data, size);
    CHECK_OK(mr_env_truncate(env, file, 5000, &err), &err);
    CHECK_OK(mr_env_truncate(env, file, 9000, &err), &err);
    CHECK_OK(mr_env_pread(env, file, back, sizeof(back), 3000, &size, &err), &err);
    CHECK_EQ_UINT(size, 6000);
    CHECK_EQ_MEM(back, data, 2000);
    for (size_t i = 2000; i < size; i++)
        CHECK_EQ_INT(back[i], 0);
    CHECK_OK(mr_env_file_info(env, file, &info, &err), &err);
    CHECK_EQ_UINT(info.size_bytes, 9000);
    mr_env_close(env, file);
    CHECK_OK(mr_env_open(env, "/f", MR_FILE_WRITE | MR_FILE_TRUNCATE, &file, &err), &err);
    CHECK_OK(mr_env_file_info(env, file, &info, &err), &err);
    CHECK_EQ_UINT(info.size_bytes, 0);
    mr_env_close(env, file);
    mr_sim_free(sim);
}
