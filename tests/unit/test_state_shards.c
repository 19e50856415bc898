/*
 * Large stores with several threads: the same bytes, the same content, the same errors as with one
 * (faults.md B2, B3, B14, B15, B16, C1, C11).
 */
#include "base/alloc.h"
#include "env/sim.h"
#include "env/thread.h"
#include "state/internal.h"
#include "support/test.h"
#include "wal/checkpoint.h"

#include <stdatomic.h>

#define DIR "/cp"
enum { KEYS = 40000, FILE_BYTES_MAX = 4 << 20 };

/* ---------------------------------------------------------------- threads */

struct pool {
    unsigned thread_count;
    mr_job_fn fn;
    void *arg;
    size_t count;
    atomic_size_t next;
    atomic_bool failed;
    enum mr_status statuses[4096];
    struct mr_error errors[4096];
};

static void work(void *arg)
{
    struct pool *pool = arg;
    size_t i;

    while (!atomic_load(&pool->failed) && (i = atomic_fetch_add(&pool->next, 1)) < pool->count) {
        pool->statuses[i] = pool->fn(pool->arg, i, 0, &pool->errors[i]);
        if (pool->statuses[i] != MR_OK)
            atomic_store(&pool->failed, true);
    }
}

static enum mr_status run_jobs(void *arg, mr_job_fn fn, void *fn_arg, size_t count,
                               struct mr_error *err)
{
    struct pool *pool = arg;
    struct mr_thread *threads[8] = {0};

    CHECK(count <= 4096 && pool->thread_count <= 8);
    memset(pool->statuses, 0, sizeof(pool->statuses));
    memset(pool->errors, 0, count * sizeof(pool->errors[0]));
    pool->fn = fn;
    pool->arg = fn_arg;
    pool->count = count;
    atomic_store(&pool->next, 0);
    atomic_store(&pool->failed, false);
    for (unsigned i = 1; i < pool->thread_count; i++)
        (void)mr_thread_start("test", work, pool, &threads[i], NULL); /* fewer are enough */
    work(pool);
    for (unsigned i = 1; i < pool->thread_count; i++)
        mr_thread_join(threads[i]);
    for (size_t i = 0; i < count; i++) {
        if (pool->statuses[i] == MR_OK)
            continue;
        if (err != NULL)
            *err = pool->errors[i];
        return pool->statuses[i];
    }
    return MR_OK;
}

/* ---------------------------------------------------------------- a checkpoint */

struct parts {
    struct mr_checkpoint checkpoint;
    struct mr_batch_log *log;
    struct mr_recovered recovered;
    struct mr_state *state;
    struct mr_store *store;
};

static struct pool pool;

static void close_parts(struct parts *parts)
{
    mr_state_close(parts->state);
    mr_batch_log_close(parts->log);
    mr_recovered_release(&parts->recovered);
    mr_checkpoint_release(&parts->checkpoint);
}

/* thread_count 0: no pool at all. */
static enum mr_status try_open(struct mr_env *env, unsigned thread_count, struct parts *parts,
                               struct mr_error *err)
{
    struct mr_batch_log_config log_config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_state_config config = {.inline_bytes_max = 64 << 10,
                                     .snapshot_every = 2,
                                     .retain_batches = 100,
                                     .spread_min_bytes = 1};

    *parts = (struct parts){0};
    pool.thread_count = thread_count;
    if (thread_count > 0)
        config.jobs = (struct mr_jobs){run_jobs, &pool};
    MR_TRY(mr_checkpoint_open(env, DIR, &parts->checkpoint, err));
    memcpy(log_config.query_id, parts->checkpoint.query_id, 16);
    memcpy(config.query_id, parts->checkpoint.query_id, 16);
    MR_TRY(mr_batch_log_open(env, parts->checkpoint.log_dir, &log_config, &parts->log,
                             &parts->recovered, err));
    config.epoch = parts->recovered.epoch;
    MR_TRY(mr_state_open(env, parts->checkpoint.state_dir, parts->checkpoint.log_dir, &config,
                         &parts->recovered, &parts->state, err));
    return mr_state_store(parts->state, "counts", "aggregate", "word TEXT", "n BIGINT",
                          &parts->store, err);
}

static void open_parts(struct mr_env *env, unsigned thread_count, struct parts *parts)
{
    struct mr_error err = {0};

    CHECK_OK(try_open(env, thread_count, parts, &err), &err);
}

static uint64_t next_batch(const struct parts *parts)
{
    return parts->recovered.has_commit ? parts->recovered.last_commit.batch_id + 1 : 0;
}

static void plan(struct parts *parts, uint64_t batch_id)
{
    struct mr_plan batch = {.batch_id = batch_id};
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_plan(parts->log, &batch, &err), &err);
    CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
}

static enum mr_status try_commit(struct parts *parts, uint64_t batch_id, uint32_t attempt,
                                 struct mr_error *err)
{
    struct mr_commit commit = {.batch_id = batch_id, .attempt = attempt};
    enum mr_status status =
        mr_state_prepare(parts->state, batch_id, attempt, parts->log, &commit, err);

    if (status == MR_OK) {
        CHECK_OK(mr_batch_log_commit(parts->log, &commit, err), err);
        mr_state_applied(parts->state, batch_id);
        CHECK_OK(mr_batch_log_sync(parts->log, err), err);
    }
    mr_commit_release(&commit);
    return status;
}

/* Batch 0 makes KEYS keys; each later one changes every third of them, and removes a few. */
static void change_keys(struct mr_store *store, uint64_t batch_id)
{
    struct mr_error err = {0};
    char value[40] = {0};

    for (uint64_t key = 0; key < KEYS; key++) {
        size_t size = 8 + (size_t)((key + batch_id) % 29);

        memcpy(value, &batch_id, 8);
        if (batch_id > 0 && key % 97 == batch_id)
            CHECK_OK(mr_store_delete(store, &key, 8, &err), &err);
        else if (batch_id == 0 || key % 3 == 0)
            CHECK_OK(mr_store_put(store, &key, 8, value, size, &err), &err);
    }
}

static void run_batch(struct parts *parts, uint64_t batch_id)
{
    struct mr_error err = {0};

    plan(parts, batch_id);
    change_keys(parts->store, batch_id);
    CHECK_OK(try_commit(parts, batch_id, 0, &err), &err);
}

/* Batches 0 .. count - 1: deltas of all, and a snapshot after each second one. */
static struct mr_sim *make_state(unsigned thread_count, uint64_t count)
{
    struct mr_sim *sim = mr_sim_new(21);
    struct parts parts;

    open_parts(mr_sim_env(sim), thread_count, &parts);
    for (uint64_t n = 0; n < count; n++)
        run_batch(&parts, n);
    close_parts(&parts);
    return sim;
}

static bool add_entry(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                      void *arg)
{
    struct mr_buf *buf = arg;

    mr_buf_add_block(buf, key, key_bytes);
    mr_buf_add_block(buf, value, value_bytes);
    return true;
}

/* Everything in the store, in its order. */
static struct mr_buf content(const struct mr_store *store)
{
    struct mr_buf buf = MR_BUF_INIT;

    mr_store_scan(store, add_entry, &buf);
    CHECK(!buf.failed);
    return buf;
}

static bool same(const struct mr_buf *a, const struct mr_buf *b)
{
    return a->size == b->size && memcmp(a->data, b->data, a->size) == 0;
}

/* ---------------------------------------------------------------- files */

static const char *file_path(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), DIR "/state/counts/%s", name);
    return path;
}

static struct mr_buf read_file(struct mr_env *env, const char *name)
{
    struct mr_buf data = MR_BUF_INIT;
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK(mr_buf_reserve(&data, FILE_BYTES_MAX));
    CHECK_OK(mr_env_open(env, file_path(name), MR_FILE_READ, &file, &err), &err);
    CHECK_OK(mr_env_pread(env, file, data.data, FILE_BYTES_MAX, 0, &data.size, &err), &err);
    CHECK(data.size < FILE_BYTES_MAX);
    mr_env_close(env, file);
    return data;
}

static void write_file(struct mr_env *env, const char *name, const void *data, size_t size)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, file_path(name), MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE,
                         &file, &err),
             &err);
    CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    mr_env_close(env, file);
}

/* ---------------------------------------------------------------- tests */

TEST(the_bytes_of_a_part_do_not_depend_on_the_workers)
{
    static const char *const names[] = {"0-1-0.delta", "1-1-0.delta", "1-1-0.snap", "2-1-0.delta"};
    struct mr_sim *alone = make_state(0, 3);

    for (unsigned thread_count = 1; thread_count <= 5; thread_count += 2) {
        struct mr_sim *sim = make_state(thread_count, 3);

        for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
            struct mr_buf wanted = read_file(mr_sim_env(alone), names[i]);
            struct mr_buf found = read_file(mr_sim_env(sim), names[i]);

            CHECK(wanted.size > 100000);
            CHECK(same(&wanted, &found));
            mr_buf_release(&wanted);
            mr_buf_release(&found);
        }
        mr_sim_free(sim);
    }
    mr_sim_free(alone);
}

TEST(a_store_that_workers_load_is_the_one_that_was_written)
{
    struct mr_sim *sim = make_state(3, 4);
    struct mr_buf wanted;
    struct parts parts;

    open_parts(mr_sim_env(sim), 0, &parts);
    CHECK_EQ_UINT(next_batch(&parts), 4);
    CHECK(mr_store_count(parts.store) > KEYS * 9 / 10);
    wanted = content(parts.store);
    close_parts(&parts);
    for (unsigned thread_count = 1; thread_count <= 8; thread_count += 3) {
        struct mr_buf found;

        open_parts(mr_sim_env(sim), thread_count, &parts);
        found = content(parts.store);
        CHECK(same(&wanted, &found));
        mr_buf_release(&found);
        close_parts(&parts);
    }
    mr_buf_release(&wanted);
    mr_sim_free(sim);
}

TEST(what_workers_loaded_goes_on)
{
    struct mr_sim *sim = make_state(2, 3), *other = make_state(0, 5);
    struct mr_buf wanted, found;
    struct parts parts;

    open_parts(mr_sim_env(sim), 4, &parts);
    run_batch(&parts, 3);
    run_batch(&parts, 4);
    found = content(parts.store);
    close_parts(&parts);
    open_parts(mr_sim_env(other), 0, &parts);
    wanted = content(parts.store);
    close_parts(&parts);
    CHECK(same(&wanted, &found));
    mr_buf_release(&wanted);
    mr_buf_release(&found);
    mr_sim_free(sim);
    mr_sim_free(other);
}

TEST(values_of_megabytes_wait_for_their_turn)
{
    enum { LARGE = 3 << 20, COUNT = 12 };
    struct mr_buf found[2];

    for (unsigned i = 0; i < 2; i++) {
        struct mr_sim *sim = mr_sim_new(21);
        char *value = mr_alloc_zero(NULL, LARGE);
        struct mr_error err = {0};
        struct parts parts;

        open_parts(mr_sim_env(sim), i == 0 ? 0 : 3, &parts);
        plan(&parts, 0);
        change_keys(parts.store, 0);
        for (uint64_t key = 0; key < COUNT; key++)
            CHECK_OK(mr_store_put(parts.store, &key, 8, value, LARGE, &err), &err);
        CHECK_OK(try_commit(&parts, 0, 0, &err), &err);
        close_parts(&parts);
        open_parts(mr_sim_env(sim), i == 0 ? 0 : 3, &parts);
        found[i] = content(parts.store);
        CHECK(found[i].size > (size_t)COUNT * LARGE);
        close_parts(&parts);
        mr_free(value);
        mr_sim_free(sim);
    }
    CHECK(same(&found[0], &found[1]));
    mr_buf_release(&found[0]);
    mr_buf_release(&found[1]);
}

/* Opens with and without workers: both fail with the same words, or give the same store. */
static void check_same_opinion(struct mr_env *env)
{
    struct mr_error alone = {0}, together = {0};
    struct mr_buf wanted = MR_BUF_INIT, found = MR_BUF_INIT;
    struct parts parts;
    enum mr_status status = try_open(env, 0, &parts, &alone);

    if (status == MR_OK)
        wanted = content(parts.store);
    close_parts(&parts);
    CHECK_STATUS(try_open(env, 3, &parts, &together), status);
    if (status == MR_OK)
        found = content(parts.store);
    close_parts(&parts);
    if (status == MR_OK)
        CHECK(same(&wanted, &found));
    else
        CHECK_EQ_STR(alone.text, together.text);
    mr_buf_release(&wanted);
    mr_buf_release(&found);
}

TEST(B2_B3_B14_B15_B16_damage_is_told_in_the_same_words_whoever_finds_it)
{
    static const char *const names[] = {"1-1-0.snap", "2-1-0.delta", "0-1-0.delta"};
    struct mr_sim *sim = make_state(2, 3);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};

    for (unsigned i = 0; i < 3; i++) {
        struct mr_buf data = read_file(env, names[i]);
        size_t step = data.size / (test_quick() ? 4 : 16);

        for (size_t at = 7; at < data.size; at += step) {
            data.data[at] ^= 0x10;
            write_file(env, names[i], data.data, data.size);
            check_same_opinion(env);
            data.data[at] ^= 0x10;
        }
        write_file(env, names[i], data.data, data.size / 2);
        check_same_opinion(env);
        CHECK_OK(mr_env_unlink(env, file_path(names[i]), &err), &err);
        check_same_opinion(env);
        write_file(env, names[i], data.data, data.size);
        mr_buf_release(&data);
    }
    check_same_opinion(env);
    mr_sim_free(sim);
}

TEST(C1_C5_a_write_that_fails_below_some_worker_fails_the_batch_and_the_next_try_works)
{
    struct mr_sim *sim = make_state(3, 1);
    struct mr_error err = {0};
    struct parts parts;
    uint64_t calls, failed = 0;

    open_parts(mr_sim_env(sim), 3, &parts);
    plan(&parts, 1);
    for (uint64_t nth = 1;; nth++) {
        struct mr_commit commit = {.batch_id = 1, .attempt = (uint32_t)nth};
        enum mr_status status;

        CHECK(nth < 200);
        change_keys(parts.store, 1);
        calls = mr_sim_call_count(sim);
        mr_sim_fail_at(sim, nth, 5 /* EIO */, false);
        status = mr_state_prepare(parts.state, 1, commit.attempt, parts.log, &commit, &err);
        mr_sim_fail_at(sim, 0, 0, false);
        calls = mr_sim_call_count(sim) - calls;
        mr_commit_release(&commit);
        mr_state_rollback(parts.state);
        mr_batch_log_discard_deltas(parts.log);
        if (calls < nth)
            break;
        CHECK(status == MR_OK || status == MR_IO); /* some calls only ask what is there */
        failed += status == MR_IO;
    }
    CHECK(failed > 8);
    change_keys(parts.store, 1);
    CHECK_OK(try_commit(&parts, 1, 0, &err), &err);
    close_parts(&parts);
    open_parts(mr_sim_env(sim), 3, &parts);
    CHECK_EQ_UINT(next_batch(&parts), 2);
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(C11_an_allocation_that_fails_in_some_worker_while_writing_is_an_error_without_leak)
{
    struct mr_sim *sim = make_state(3, 1);
    struct mr_error err = {0};
    struct parts parts;
    uint64_t nth = 1;
    enum mr_status status;

    open_parts(mr_sim_env(sim), 3, &parts);
    plan(&parts, 1);
    do {
        size_t used;

        CHECK(nth < 5000);
        change_keys(parts.store, 1);
        used = mr_budget_used(NULL);
        mr_alloc_fail_at(nth, false);
        nth += test_quick() ? 3 : 1;
        {
            struct mr_commit commit = {.batch_id = 1, .attempt = (uint32_t)nth};

            status = mr_state_prepare(parts.state, 1, (uint32_t)nth, parts.log, &commit, &err);
            mr_alloc_fail_at(0, false);
            mr_commit_release(&commit);
        }
        CHECK(status == MR_OK || status == MR_NOMEM);
        if (status != MR_OK)
            CHECK(mr_budget_used(NULL) <= used + 4096); /* lists of parts may have grown */
        mr_state_rollback(parts.state);
        mr_batch_log_discard_deltas(parts.log);
    } while (status != MR_OK);
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(C11_an_allocation_or_a_read_that_fails_in_some_worker_while_loading_is_an_error_without_leak)
{
    struct mr_sim *sim = make_state(3, 3);

    for (unsigned kind = 0; kind < 2; kind++) {
        enum mr_status status;
        uint64_t nth = 1;

        do {
            size_t used = mr_budget_used(NULL);
            struct mr_error err = {0};
            struct parts parts;

            CHECK(nth < 5000);
            if (kind == 0)
                mr_alloc_fail_at(nth, false);
            else
                mr_sim_fail_at(sim, nth, 5 /* EIO */, false);
            nth += test_quick() ? 7 : 1;
            status = try_open(mr_sim_env(sim), 3, &parts, &err);
            mr_alloc_fail_at(0, false);
            mr_sim_fail_at(sim, 0, 0, false);
            close_parts(&parts);
            CHECK(status == MR_OK || status == (kind == 0 ? MR_NOMEM : MR_IO));
            CHECK_EQ_UINT(mr_budget_used(NULL), used);
        } while (status != MR_OK);
    }
    mr_sim_free(sim);
}
