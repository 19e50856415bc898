/*
 * The durable primitives under every crash and every failing call of the simulated environment.
 *
 * Each claim of durable.h is one function that looks at a state after a crash and says what is
 * wrong with it, or NULL. The claims are then also tested themselves: with one flush left out they
 * must find a state that is wrong (see the tests named "..._is_needed").
 */
#include "support/test.h"

#include <millrace/ext/durable.h>

#include "base/alloc.h"
#include "base/check.h"
#include "env/sim.h"

#include <errno.h>
#include <unistd.h>

enum { STATES_MAX = 600 };

static struct mr_error err;

/* ---------------------------------------------------------------- helpers */

/* Text of a file, "(absent)" without one; in a static buffer. */
static const char *text_of(struct mr_env *env, const char *path)
{
    static char text[400];
    char *data;
    size_t size;

    if (mr_durable_get(env, path, sizeof(text) - 1, &data, &size, NULL) != MR_OK)
        return "(absent)";
    memcpy(text, data, size + 1);
    mr_free(data);
    return text;
}

static bool count_names(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)name;
    (void)kind;
    ++*(int *)arg;
    return true;
}

static int entries_in(struct mr_env *env, const char *dir)
{
    int count = 0;

    if (mr_env_list(env, dir, count_names, &count, NULL) != MR_OK)
        return -1;
    return count;
}

/* A disk with a durable directory /d; the trace counts from here. */
static struct mr_sim *new_disk(void)
{
    struct mr_sim *sim = mr_sim_new(5);

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), "/d", &err), &err);
    return sim;
}

/* What a state must look like: NULL, or what is wrong with it. done: operations after the scenario
 * returned to its caller; what it promised must be there. */
typedef const char *(*claim_fn)(struct mr_env *env, bool done);

struct check {
    claim_fn claim;
    uint64_t done_at; /* number of operations at which the scenario had returned */
    uint64_t wrong;
    char text[1200];
};

static void check_state(struct mr_sim *after, const struct mr_sim_crash *crash, void *arg)
{
    struct check *check = arg;
    const char *wrong = check->claim(mr_sim_env(after), crash->op_count >= check->done_at);

    if (wrong == NULL)
        return;
    if (check->wrong++ == 0)
        snprintf(check->text, sizeof(check->text), "%s: %s", wrong, crash->text);
}

static void check_all_crashes(struct mr_sim *sim, uint64_t from, claim_fn claim)
{
    struct check check = {.claim = claim, .done_at = mr_sim_op_count(sim)};
    uint64_t states = mr_sim_crash_everywhere(sim, from, STATES_MAX, 1, check_state, &check);

    CHECK(states > 1);
    if (check.wrong > 0)
        FAIL("%" PRIu64 " of %" PRIu64 " states are wrong, first: %s", check.wrong, states,
             check.text);
}

/*
 * Runs the scenario with its nth flush left out, for every n: each time some state must be wrong.
 * run must make a disk, run, set *ret_from to where the interesting operations begin.
 */
typedef struct mr_sim *(*run_fn)(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs);

static void check_every_flush_is_needed(run_fn run, claim_fn claim)
{
    uint64_t from;
    uint64_t syncs;

    mr_sim_free(run(0, &from, &syncs));
    CHECK(syncs > 0);
    for (uint64_t n = 1; n <= syncs; n++) {
        uint64_t ignored;
        struct mr_sim *sim = run(n, &from, &ignored);
        struct check check = {.claim = claim, .done_at = mr_sim_op_count(sim)};

        mr_sim_crash_everywhere(sim, from, STATES_MAX, 1, check_state, &check);
        mr_sim_free(sim);
        if (check.wrong == 0)
            FAIL("without flush %" PRIu64 " of %" PRIu64 " every state is still right", n, syncs);
    }
}

/*
 * Makes every call of the scenario fail, once and for ever, with EIO and ENOSPC; and every
 * allocation. run returns the status of the tested call on the disk it is given.
 */
typedef enum mr_status (*call_fn)(struct mr_env *env);

static void check_all_failures(call_fn call, claim_fn claim)
{
    static const int errnos[] = {EIO, ENOSPC};

    for (int kind = 0; kind < 6; kind++) {
        bool forever = kind % 2 == 1;
        enum mr_status status = MR_IO;

        for (uint64_t nth = 1; status != MR_OK; nth++) {
            struct mr_sim *sim = new_disk();
            const char *wrong;

            CHECK(nth < 200);
            if (kind < 4)
                mr_sim_fail_at(sim, nth, errnos[kind / 2], forever);
            else
                mr_alloc_fail_at(nth, forever);
            status = call(mr_sim_env(sim));
            mr_sim_fail_at(sim, 0, 0, false);
            mr_alloc_fail_at(0, false);
            CHECK(status == MR_OK || status == (kind < 4 ? MR_IO : MR_NOMEM));
            CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
            wrong = claim(mr_sim_env(sim), status == MR_OK);
            if (wrong != NULL)
                FAIL("failure %" PRIu64 " of kind %d: %s", nth, kind, wrong);
            mr_sim_free(sim);
        }
    }
}

/* ---------------------------------------------------------------- put */

static const char *put_is_old_or_new(struct mr_env *env, bool done)
{
    const char *text = text_of(env, "/d/f");
    uint64_t removed;

    if (strcmp(text, "new") != 0 && (done || strcmp(text, "old") != 0))
        return text;
    if (mr_durable_sweep(env, "/d", &removed, &err) != MR_OK || removed > 1)
        return "the sweep failed";
    if (entries_in(env, "/d") != 1)
        return "something is left over";
    return NULL;
}

static struct mr_sim *run_put(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *sim = new_disk();
    uint64_t before;

    CHECK_OK(mr_durable_put(mr_sim_env(sim), "/d", "f", "old", 3, false, &err), &err);
    *ret_from = mr_sim_op_count(sim);
    before = mr_sim_sync_count(sim);
    mr_sim_ignore_sync(sim, ignored_sync);
    CHECK_OK(mr_durable_put(mr_sim_env(sim), "/d", "f", "new", 3, false, &err), &err);
    *ret_syncs = mr_sim_sync_count(sim) - before;
    return sim;
}

TEST(put_leaves_the_old_file_or_the_new_one_after_every_crash)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_put(0, &from, &syncs);

    check_all_crashes(sim, from, put_is_old_or_new);
    mr_sim_free(sim);
}

TEST(every_flush_of_put_is_needed)
{
    check_every_flush_is_needed(run_put, put_is_old_or_new);
}

static enum mr_status put_twice(struct mr_env *env)
{
    enum mr_status status = mr_durable_put(env, "/d", "f", "old", 3, true, NULL);

    return status == MR_OK ? mr_durable_put(env, "/d", "f", "new", 3, false, NULL) : status;
}

/* A put that fails may leave no file at all: the first one failed. */
static const char *put_is_absent_old_or_new(struct mr_env *env, bool done)
{
    const char *text = text_of(env, "/d/f");

    if (strcmp(text, "(absent)") == 0 && !done)
        return NULL;
    return strcmp(text, "new") == 0 || (!done && strcmp(text, "old") == 0) ? NULL : text;
}

TEST(put_reports_every_failure_and_leaves_old_or_new)
{
    check_all_failures(put_twice, put_is_absent_old_or_new);
}

TEST(a_put_that_failed_once_leaves_no_temporary)
{
    for (uint64_t nth = 1; nth <= 4; nth++) { /* create, write, sync, rename */
        struct mr_sim *sim = new_disk();

        mr_sim_fail_at(sim, nth, EIO, false);
        CHECK_FAILS(mr_durable_put(mr_sim_env(sim), "/d", "f", "x", 1, false, &err), &err, MR_IO,
                    "check the disk");
        CHECK_EQ_INT(entries_in(mr_sim_env(sim), "/d"), 0);
        mr_sim_free(sim);
    }
}

TEST(put_replaces_only_when_allowed)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);

    CHECK_OK(mr_durable_put(env, "/d", "f", "one", 3, true, &err), &err);
    CHECK_FAILS(mr_durable_put(env, "/d", "f", "two", 3, true, &err), &err, MR_CANNOT_CREATE,
                "/d/f");
    CHECK_EQ_STR(text_of(env, "/d/f"), "one");
    CHECK_EQ_INT(entries_in(env, "/d"), 1);
    CHECK_FAILS(mr_durable_put(env, "/no", "f", "two", 3, true, &err), &err, MR_NOT_FOUND, "/no/");
    mr_sim_free(sim);
}

TEST(put_works_on_the_real_disk)
{
    struct mr_env *env = mr_env_posix();
    const char *dir = test_path(t, "a/b/c");
    uint64_t removed = 99;
    char *data;
    size_t size;

    CHECK_OK(mr_durable_mkdirs(env, dir, &err), &err);
    CHECK_OK(mr_durable_mkdirs(env, dir, &err), &err);
    CHECK_OK(mr_durable_put(env, dir, "f", "one", 3, false, &err), &err);
    CHECK_OK(mr_durable_put(env, dir, "f", "", 0, false, &err), &err);
    CHECK_FAILS(mr_durable_put(env, dir, "f", "x", 1, true, &err), &err, MR_CANNOT_CREATE, "f");
    CHECK_OK(mr_durable_get(env, test_path(t, "a/b/c/f"), 10, &data, &size, &err), &err);
    CHECK_EQ_UINT(size, 0);
    mr_free(data);
    CHECK_EQ_INT(entries_in(env, dir), 1);
    CHECK_OK(mr_durable_sweep(env, dir, &removed, &err), &err);
    CHECK_EQ_UINT(removed, 0);
}

/* ---------------------------------------------------------------- get, sweep, mkdirs */

TEST(get_refuses_what_is_too_large_and_what_is_not_there)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    char *data = NULL;
    size_t size;

    CHECK_OK(mr_durable_put(env, "/d", "f", "12345", 5, false, &err), &err);
    CHECK_OK(mr_durable_get(env, "/d/f", 5, &data, &size, &err), &err);
    CHECK_EQ_STR(data, "12345");
    mr_free(data);
    CHECK_FAILS(mr_durable_get(env, "/d/f", 4, &data, &size, &err), &err, MR_LIMIT,
                "it has 5 bytes, 4 are allowed");
    CHECK_FAILS(mr_durable_get(env, "/d/g", 4, &data, &size, &err), &err, MR_NOT_FOUND, "/d/g");
    CHECK_FAILS(mr_durable_get(env, "/d", 4, &data, &size, &err), &err, MR_IO, "/d");
    for (uint64_t nth = 1; nth <= 3; nth++) { /* open, look, read */
        mr_sim_fail_at(sim, nth, EIO, false);
        CHECK_FAILS(mr_durable_get(env, "/d/f", 9, &data, &size, &err), &err, MR_IO, "/d/f");
    }
    mr_alloc_fail_at(1, false);
    CHECK_FAILS(mr_durable_get(env, "/d/f", 9, &data, &size, &err), &err, MR_NOMEM, "/d/f");
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
}

TEST(the_sweep_removes_temporaries_and_nothing_else)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    static const char *const paths[] = {"/d/.tmp-a", "/d/.tmp-b-17", "/d/.tmp", "/d/x.tmp-c"};
    struct mr_file *file;
    uint64_t removed = 0;

    for (size_t i = 0; i < MR_ARRAY_SIZE(paths); i++) {
        CHECK_OK(mr_env_open(env, paths[i], MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
        mr_env_close(env, file);
    }
    CHECK_OK(mr_env_mkdir(env, "/d/.tmp-dir", &err), &err);
    mr_sim_fail_at(sim, 1, EIO, false);
    CHECK_FAILS(mr_durable_sweep(env, "/d", &removed, &err), &err, MR_IO, "/d");
    mr_sim_fail_at(sim, 2, EIO, false);
    CHECK_FAILS(mr_durable_sweep(env, "/d", &removed, &err), &err, MR_IO, ".tmp-");
    for (uint64_t nth = 1; nth <= 3; nth++) {
        mr_alloc_fail_at(nth, false);
        CHECK_FAILS(mr_durable_sweep(env, "/d", &removed, &err), &err, MR_NOMEM, NULL);
    }
    mr_alloc_fail_at(0, false);
    CHECK_OK(mr_durable_sweep(env, "/d", &removed, &err), &err);
    CHECK_EQ_UINT(removed, 2);
    CHECK_EQ_INT(entries_in(env, "/d"), 3);
    CHECK_FAILS(mr_durable_sweep(env, "/no", &removed, &err), &err, MR_NOT_FOUND, "/no");
    mr_sim_free(sim);
}

static const char *directories_are_there(struct mr_env *env, bool done)
{
    struct mr_file_info info;

    if (done && mr_env_path_info(env, "/a/b/c", false, &info, NULL) != MR_OK)
        return "/a/b/c vanished";
    return NULL;
}

static struct mr_sim *run_mkdirs(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *sim = mr_sim_new(1);

    mr_sim_ignore_sync(sim, ignored_sync);
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), "/a//b/c/", &err), &err);
    *ret_from = 0;
    *ret_syncs = mr_sim_sync_count(sim);
    return sim;
}

TEST(directories_are_durable_when_mkdirs_returns)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_mkdirs(0, &from, &syncs);

    CHECK_EQ_UINT(syncs, 3);
    check_all_crashes(sim, from, directories_are_there);
    mr_sim_free(sim);
    check_every_flush_is_needed(run_mkdirs, directories_are_there);
}

/* The process dies behind each of its operations in turn; the next one makes the same. */
TEST(mkdirs_makes_directories_durable_that_a_dead_process_left)
{
    uint64_t from, syncs;
    struct mr_sim *first = run_mkdirs(0, &from, &syncs);

    for (uint64_t steps = 0; steps <= mr_sim_op_count(first); steps++) {
        struct mr_sim *sim = mr_sim_kill(first, steps);

        CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), "a/b/c", &err), &err);
        check_all_crashes(sim, 0, directories_are_there);
        mr_sim_free(sim);
    }
    mr_sim_free(first);
}

/* One flush for a directory that is there, however deep it is. */
TEST(mkdirs_flushes_no_more_than_the_last_directory_that_was_there)
{
    uint64_t from, syncs;
    struct mr_sim *sim = run_mkdirs(0, &from, &syncs);

    CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), "/a/b/c", &err), &err);
    CHECK_EQ_UINT(mr_sim_sync_count(sim), syncs + 1);
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(sim), "/a/b/c/d", &err), &err);
    CHECK_EQ_UINT(mr_sim_sync_count(sim), syncs + 3);
    mr_sim_free(sim);
}

static enum mr_status make_directories(struct mr_env *env)
{
    return mr_durable_mkdirs(env, "/a/b/c", NULL);
}

TEST(mkdirs_reports_every_failure)
{
    struct mr_sim *sim = new_disk();

    check_all_failures(make_directories, directories_are_there);
    CHECK_OK(mr_durable_put(mr_sim_env(sim), "/d", "f", "x", 1, false, &err), &err);
    CHECK_FAILS(mr_durable_mkdirs(mr_sim_env(sim), "/d/f", &err), &err, MR_CANNOT_CREATE, "/d/f");
    CHECK_FAILS(mr_durable_mkdirs(mr_sim_env(sim), "/d/f/g", &err), &err, MR_CANNOT_CREATE, "/d/f");
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- appender */

enum { LOG_BYTES = 70000 }; /* more than one chunk of zeros */

static const char *log_is_absent_or_whole(struct mr_env *env, bool done)
{
    struct mr_file_info info;
    uint64_t removed;

    if (mr_env_path_info(env, "/d/log", false, &info, NULL) != MR_OK)
        return done ? "the log vanished" : NULL;
    if (info.size_bytes != LOG_BYTES)
        return "the log has another size";
    if (mr_durable_sweep(env, "/d", &removed, &err) != MR_OK || entries_in(env, "/d") != 1)
        return "something is left over";
    return NULL;
}

static struct mr_sim *run_create(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *sim = new_disk();
    struct mr_appender *log;
    uint64_t before = mr_sim_sync_count(sim);

    *ret_from = mr_sim_op_count(sim);
    mr_sim_ignore_sync(sim, ignored_sync);
    CHECK_OK(mr_appender_create(mr_sim_env(sim), "/d", "log", LOG_BYTES, &log, &err), &err);
    CHECK_EQ_UINT(mr_appender_tail(log), 0);
    CHECK_EQ_UINT(mr_appender_room(log), LOG_BYTES);
    mr_appender_close(log);
    *ret_syncs = mr_sim_sync_count(sim) - before;
    return sim;
}

TEST(a_new_log_is_absent_or_has_its_full_size_after_every_crash)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_create(0, &from, &syncs);

    check_all_crashes(sim, from, log_is_absent_or_whole);
    mr_sim_free(sim);
    check_every_flush_is_needed(run_create, log_is_absent_or_whole);
}

/* "first" was synced; "second" was written over three calls and synced at the end. */
static const char *log_keeps_what_was_synced(struct mr_env *env, bool done)
{
    char data[32];
    struct mr_file *file;
    size_t size = 0;

    if (mr_env_open(env, "/d/log", MR_FILE_READ, &file, NULL) != MR_OK)
        return "the log vanished";
    CHECK_OK(mr_env_pread(env, file, data, sizeof(data), 0, &size, &err), &err);
    mr_env_close(env, file);
    if (size < sizeof(data) || memcmp(data, "first", 5) != 0)
        return "what was synced is lost";
    if (done && memcmp(data + 5, "second", 6) != 0)
        return "what was synced last is lost";
    return NULL;
}

static struct mr_sim *run_append(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *sim = new_disk();
    struct mr_appender *log;
    uint64_t before;

    CHECK_OK(mr_appender_create(mr_sim_env(sim), "/d", "log", 4096, &log, &err), &err);
    before = mr_sim_sync_count(sim);
    mr_sim_ignore_sync(sim, ignored_sync);
    CHECK_OK(mr_appender_write(log, "first", 5, &err), &err);
    CHECK_OK(mr_appender_sync(log, &err), &err);
    *ret_from = mr_sim_op_count(sim);
    CHECK_OK(mr_appender_write(log, "se", 2, &err), &err);
    CHECK_OK(mr_appender_write(log, "co", 2, &err), &err);
    CHECK_OK(mr_appender_write(log, "nd", 2, &err), &err);
    CHECK_EQ_UINT(mr_appender_tail(log), 11);
    CHECK_EQ_UINT(mr_appender_room(log), 4085);
    CHECK_OK(mr_appender_sync(log, &err), &err);
    mr_appender_close(log);
    *ret_syncs = mr_sim_sync_count(sim) - before;
    return sim;
}

TEST(a_log_keeps_what_was_synced_after_every_crash)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_append(0, &from, &syncs);

    check_all_crashes(sim, from, log_keeps_what_was_synced);
    mr_sim_free(sim);
    check_every_flush_is_needed(run_append, log_keeps_what_was_synced);
}

/* Opening at byte 5: "first" stays, everything behind becomes zeros, durably. */
static const char *log_ends_at_five(struct mr_env *env, bool done)
{
    char data[4096];
    struct mr_file *file;
    size_t size = 0;

    if (mr_env_open(env, "/d/log", MR_FILE_READ, &file, NULL) != MR_OK)
        return done ? "the log vanished" : NULL;
    CHECK_OK(mr_env_pread(env, file, data, sizeof(data), 0, &size, &err), &err);
    mr_env_close(env, file);
    if (!done)
        return NULL;
    if (size < 4096 || memcmp(data, "first", 5) != 0)
        return "what was before the tail is lost";
    for (size_t i = 5; i < size; i++) {
        if (data[i] != 0)
            return "something is behind the tail";
    }
    return NULL;
}

/* The first process dies after everything was written but with nothing synced, the log's own name
 * included: opening has to make all of it durable. */
static struct mr_sim *run_open(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *first = new_disk();
    struct mr_sim *sim;
    struct mr_file *file;
    struct mr_appender *log;
    static const char zeros[4096];

    CHECK_OK(mr_env_open(mr_sim_env(first), "/d/log", MR_FILE_WRITE | MR_FILE_CREATE, &file, &err),
             &err);
    CHECK_OK(mr_env_pwrite(mr_sim_env(first), file, zeros, sizeof(zeros), 0, &err), &err);
    CHECK_OK(mr_env_pwrite(mr_sim_env(first), file, "first", 5, 0, &err), &err);
    CHECK_OK(mr_env_pwrite(mr_sim_env(first), file, "garbage", 7, 100, &err), &err);
    mr_env_close(mr_sim_env(first), file);
    sim = mr_sim_kill(first, mr_sim_op_count(first));
    mr_sim_free(first);
    *ret_from = mr_sim_op_count(sim);
    mr_sim_ignore_sync(sim, ignored_sync);
    CHECK_OK(mr_appender_open(mr_sim_env(sim), "/d", "log", 5, &log, &err), &err);
    CHECK_EQ_UINT(mr_appender_tail(log), 5);
    mr_appender_close(log);
    *ret_syncs = mr_sim_sync_count(sim);
    return sim;
}

TEST(opening_a_log_makes_it_durable_and_clears_what_is_behind_the_tail)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_open(0, &from, &syncs);

    check_all_crashes(sim, from, log_ends_at_five);
    mr_sim_free(sim);
    check_every_flush_is_needed(run_open, log_ends_at_five);
}

TEST(a_log_with_zeros_behind_the_tail_is_opened_without_writing)
{
    struct mr_sim *sim = new_disk();
    struct mr_appender *log;
    uint64_t before;

    CHECK_OK(mr_appender_create(mr_sim_env(sim), "/d", "log", LOG_BYTES, &log, &err), &err);
    mr_appender_close(log);
    before = mr_sim_op_count(sim);
    CHECK_OK(mr_appender_open(mr_sim_env(sim), "/d", "log", 0, &log, &err), &err);
    mr_appender_close(log);
    CHECK_EQ_UINT(mr_sim_op_count(sim), before + 2); /* sync, sync of the directory */
    mr_sim_free(sim);
}

TEST(a_log_grows_past_its_end_and_a_tail_past_the_end_is_damage)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_appender *log;

    CHECK_OK(mr_appender_create(env, "/d", "log", 4, &log, &err), &err);
    CHECK_OK(mr_appender_write(log, "123456", 6, &err), &err);
    CHECK_EQ_UINT(mr_appender_tail(log), 6);
    CHECK_EQ_UINT(mr_appender_room(log), 0);
    CHECK_OK(mr_appender_sync(log, &err), &err);
    mr_appender_close(log);
    CHECK_EQ_STR(text_of(env, "/d/log"), "123456");
    CHECK_FAILS(mr_appender_open(env, "/d", "log", 7, &log, &err), &err, MR_CORRUPT,
                "it has only 6 bytes");
    CHECK_FAILS(mr_appender_open(env, "/d", "none", 0, &log, &err), &err, MR_NOT_FOUND, "/d/none");
    CHECK_FAILS(mr_appender_create(env, "/d", "log", 4, &log, &err), &err, MR_CANNOT_CREATE,
                "/d/log");
    CHECK_EQ_INT(entries_in(env, "/d"), 1);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
}

TEST(a_log_that_is_made_of_an_old_file_replaces_none)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_appender *log;

    CHECK_OK(mr_appender_create(env, "/d", "log", 4, &log, &err), &err);
    mr_appender_close(log);
    CHECK_OK(mr_appender_create(env, "/d", "spare", 4, &log, &err), &err);
    mr_appender_close(log);
    CHECK_FAILS(mr_appender_create_from(env, "/d", "spare", "log", "head", 4, &log, &err), &err,
                MR_CANNOT_CREATE, "/d/log");
    CHECK_OK(mr_appender_create_from(env, "/d", "spare", "next", "head", 4, &log, &err), &err);
    mr_appender_close(log);
    CHECK_EQ_INT(entries_in(env, "/d"), 2);
    mr_sim_free(sim);
}

TEST(after_a_failed_write_or_sync_a_log_must_be_opened_again)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_appender *log;

    CHECK_OK(mr_appender_create(env, "/d", "log", 64, &log, &err), &err);
    CHECK_OK(mr_appender_write(log, "good", 4, &err), &err);
    mr_sim_fail_at(sim, 1, ENOSPC, false);
    CHECK_FAILS(mr_appender_write(log, "half", 4, &err), &err, MR_IO, "free space");
    CHECK_EQ_UINT(mr_appender_tail(log), 4);
    CHECK_FAILS(mr_appender_write(log, "x", 1, &err), &err, MR_IO, "an earlier write failed");
    CHECK_FAILS(mr_appender_sync(log, &err), &err, MR_IO, "an earlier write failed");
    mr_appender_close(log);
    CHECK_OK(mr_appender_open(env, "/d", "log", 4, &log, &err), &err);
    CHECK_EQ_STR(text_of(env, "/d/log"), "good");
    CHECK_OK(mr_appender_write(log, "more", 4, &err), &err);
    mr_sim_fail_at(sim, 1, EIO, false);
    CHECK_FAILS(mr_appender_sync(log, &err), &err, MR_IO, "check the disk");
    CHECK_FAILS(mr_appender_sync(log, &err), &err, MR_IO, "an earlier write failed");
    mr_appender_close(log);
    mr_appender_close(NULL);
    mr_sim_free(sim);
}

static enum mr_status create_write_reopen(struct mr_env *env)
{
    struct mr_appender *log = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_appender_create(env, "/d", "log", LOG_BYTES, &log, NULL));
    MR_TRY_GOTO(mr_appender_write(log, "first", 5, NULL));
    MR_TRY_GOTO(mr_appender_write(log, "garbage", 7, NULL));
    mr_appender_close(log);
    log = NULL;
    MR_TRY_GOTO(mr_appender_open(env, "/d", "log", 5, &log, NULL));
    MR_TRY_GOTO(mr_appender_sync(log, NULL));
done:
    mr_appender_close(log);
    return status;
}

static const char *log_is_absent_or_has_its_size(struct mr_env *env, bool done)
{
    struct mr_file_info info;

    if (mr_env_path_info(env, "/d/log", false, &info, NULL) != MR_OK)
        return done ? "the log vanished" : NULL;
    return info.size_bytes == LOG_BYTES ? NULL : "the log has another size";
}

TEST(a_log_reports_every_failure_and_leaks_nothing)
{
    check_all_failures(create_write_reopen, log_is_absent_or_has_its_size);
}

/* ---------------------------------------------------------------- staged files */

static struct mr_sim *run_staged(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_staged *staged;
    uint64_t before;

    CHECK_OK(mr_durable_put(env, "/d", "f", "old", 3, false, &err), &err);
    *ret_from = mr_sim_op_count(sim);
    before = mr_sim_sync_count(sim);
    mr_sim_ignore_sync(sim, ignored_sync);
    CHECK_OK(mr_staged_create(env, "/d", "f", &staged, &err), &err);
    CHECK_OK(mr_staged_write(staged, "n", 1, &err), &err);
    CHECK_OK(mr_staged_write(staged, "ew", 2, &err), &err);
    CHECK_OK(mr_staged_seal(staged, &err), &err);
    CHECK_EQ_UINT(mr_staged_size(staged), 3);
    CHECK_EQ_STR(text_of(env, "/d/f"), "old"); /* out of sight before publish */
    CHECK_OK(mr_staged_publish(staged, &err), &err);
    CHECK_EQ_STR(text_of(env, "/d/f"), "new");
    mr_staged_free(staged);
    CHECK_OK(mr_env_sync_dir(env, "/d", &err), &err);
    *ret_syncs = mr_sim_sync_count(sim) - before;
    return sim;
}

TEST(a_staged_file_is_old_or_new_after_every_crash)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_staged(0, &from, &syncs);

    check_all_crashes(sim, from, put_is_old_or_new);
    mr_sim_free(sim);
    check_every_flush_is_needed(run_staged, put_is_old_or_new);
}

static const char *final_name_is_absent(struct mr_env *env, bool done)
{
    (void)done;
    return strcmp(text_of(env, "/d/f"), "(absent)") == 0 ? NULL : "it is visible";
}

TEST(a_staged_file_is_invisible_after_every_crash_before_publish)
{
    struct mr_sim *sim = new_disk();
    struct mr_staged *staged;
    uint64_t from = mr_sim_op_count(sim);

    CHECK_OK(mr_staged_create(mr_sim_env(sim), "/d", "f", &staged, &err), &err);
    CHECK_OK(mr_staged_write(staged, "new", 3, &err), &err);
    CHECK_OK(mr_staged_seal(staged, &err), &err);
    check_all_crashes(sim, from, final_name_is_absent);
    mr_staged_free(staged);
    CHECK_EQ_INT(entries_in(mr_sim_env(sim), "/d"), 0); /* not published: nothing is left */
    mr_sim_free(sim);
}

TEST(a_left_over_of_an_earlier_attempt_is_replaced_by_a_new_file)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_staged *zombie;
    struct mr_staged *staged;

    CHECK_OK(mr_staged_create(env, "/d", "f", &zombie, &err), &err);
    CHECK_OK(mr_staged_write(zombie, "a long text of the old attempt", 30, &err), &err);
    CHECK_OK(mr_staged_create(env, "/d", "f", &staged, &err), &err);
    CHECK_OK(mr_staged_write(staged, "new", 3, &err), &err);
    CHECK_OK(mr_staged_write(zombie, "more", 4, &err), &err); /* reaches only its own file */
    CHECK_OK(mr_staged_seal(staged, &err), &err);
    CHECK_OK(mr_staged_publish(staged, &err), &err);
    CHECK_EQ_STR(text_of(env, "/d/f"), "new");
    mr_staged_free(staged);
    mr_staged_free(zombie);
    CHECK_EQ_STR(text_of(env, "/d/f"), "new");
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
}

/* A library got the path and made a file of its own there. */
static struct mr_sim *run_replaced(uint64_t ignored_sync, uint64_t *ret_from, uint64_t *ret_syncs)
{
    struct mr_sim *sim = new_disk();
    struct mr_env *env = mr_sim_env(sim);
    struct mr_staged *staged;
    struct mr_file *file;
    uint64_t before = mr_sim_sync_count(sim);

    CHECK_OK(mr_durable_put(env, "/d", "f", "old", 3, false, &err), &err);
    *ret_from = mr_sim_op_count(sim);
    before = mr_sim_sync_count(sim);
    CHECK_OK(mr_staged_create(env, "/d", "f", &staged, &err), &err);
    CHECK_OK(mr_env_open(env, "/d/lib", MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(env, file, "new", 3, 0, &err), &err);
    mr_env_close(env, file);
    CHECK_OK(mr_env_rename(env, "/d/lib", mr_staged_path(staged), false, &err), &err);
    /* The first sync is of our own empty file, which is gone: only the library's counts. */
    mr_sim_ignore_sync(sim, ignored_sync == 0 ? 0 : ignored_sync + 1);
    CHECK_OK(mr_staged_seal(staged, &err), &err);
    CHECK_EQ_UINT(mr_staged_size(staged), 3);
    CHECK_OK(mr_staged_publish(staged, &err), &err);
    mr_staged_free(staged);
    CHECK_OK(mr_env_sync_dir(env, "/d", &err), &err);
    *ret_syncs = mr_sim_sync_count(sim) - before - 1;
    return sim;
}

static const char *file_is_old_or_new(struct mr_env *env, bool done)
{
    const char *text = text_of(env, "/d/f");

    return strcmp(text, "new") == 0 || (!done && strcmp(text, "old") == 0) ? NULL : text;
}

TEST(a_file_that_a_library_put_in_place_is_synced_too)
{
    uint64_t from;
    uint64_t syncs;
    struct mr_sim *sim = run_replaced(0, &from, &syncs);

    check_all_crashes(sim, from, file_is_old_or_new);
    mr_sim_free(sim);
    check_every_flush_is_needed(run_replaced, file_is_old_or_new);
}

static enum mr_status stage_all(struct mr_env *env)
{
    struct mr_staged *staged = NULL;
    enum mr_status status;

    MR_TRY_GOTO(mr_staged_create(env, "/d", "f", &staged, NULL));
    MR_TRY_GOTO(mr_staged_write(staged, "new", 3, NULL));
    MR_TRY_GOTO(mr_staged_seal(staged, NULL));
    MR_TRY_GOTO(mr_staged_publish(staged, NULL));
    MR_TRY_GOTO(mr_env_sync_dir(env, "/d", NULL));
done:
    mr_staged_free(staged);
    return status;
}

static const char *staged_is_absent_or_new(struct mr_env *env, bool done)
{
    const char *text = text_of(env, "/d/f");

    if (strcmp(text, "new") != 0 && (done || strcmp(text, "(absent)") != 0))
        return text;
    return NULL;
}

TEST(a_staged_file_reports_every_failure_and_leaks_nothing)
{
    check_all_failures(stage_all, staged_is_absent_or_new);
}

TEST(staging_works_on_the_real_disk)
{
    struct mr_env *env = mr_env_posix();
    struct mr_staged *staged;
    struct mr_appender *log;

    CHECK_OK(mr_staged_create(env, t->dir, "f", &staged, &err), &err);
    CHECK_OK(mr_staged_write(staged, "new", 3, &err), &err);
    CHECK_OK(mr_staged_seal(staged, &err), &err);
    CHECK_EQ_INT(entries_in(env, t->dir), 1);
    CHECK_OK(mr_staged_publish(staged, &err), &err);
    mr_staged_free(staged);
    CHECK_EQ_STR(text_of(env, test_path(t, "f")), "new");
    CHECK_OK(mr_appender_create(env, t->dir, "log", 100, &log, &err), &err);
    CHECK_OK(mr_appender_write(log, "abc", 3, &err), &err);
    CHECK_OK(mr_appender_sync(log, &err), &err);
    mr_appender_close(log);
    CHECK_OK(mr_appender_open(env, t->dir, "log", 2, &log, &err), &err);
    CHECK_EQ_UINT(mr_appender_room(log), 98);
    mr_appender_close(log);
    CHECK_EQ_STR(text_of(env, test_path(t, "log")), "ab");
    CHECK_EQ_INT(entries_in(env, t->dir), 2);
}
