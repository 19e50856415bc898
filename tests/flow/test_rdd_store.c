/*
 * Stored blocks and partitions: levels, a memory budget, spilling, second copies, damage.
 */
#include "env/sim.h"
#include "env/thread.h"
#include "rdd/rdd.h"
#include "support/rdd.h"

#include <errno.h>
#include <stdatomic.h>

enum { KIB = 1024 };

static struct mr__block_store *store_of(struct mr_env *env, const char *dir, uint64_t bytes)
{
    struct mr__block_store *store = NULL;
    struct mr_error err;

    CHECK_OK(mr__block_store_new(env, dir, bytes, &store, &err), &err);
    return store;
}

static struct mr__block_stats stats_of(struct mr__block_store *store)
{
    struct mr__block_stats stats;

    mr__block_stats(store, &stats);
    return stats;
}

/* A block of bytes that says its number. */
static enum mr_status put(struct mr__block_store *store, uint64_t number, size_t size,
                          enum mr_storage_level level, bool may_drop, struct mr_error *err)
{
    struct mr__block_id id = {number % 3 + 1, number};
    struct mr__block_options options = {level, may_drop};
    static _Thread_local char data[64 * KIB];

    memset(data, (int)('a' + number % 26), size);
    return mr__block_put(store, id, options, data, size, err);
}

/* False: it is not there. What is there must be right. */
static bool has(struct mr__block_store *store, uint64_t number, size_t size)
{
    struct mr__block_id id = {number % 3 + 1, number};
    struct mr_error err;
    char *data = NULL;
    size_t found = 0;
    enum mr_status status = mr__block_get(store, id, &data, &found, &err);

    if (status == MR_NOT_FOUND)
        return false;
    CHECK_OK(status, &err);
    CHECK_EQ_UINT(found, size);
    for (size_t i = 0; i < size; i++)
        CHECK(data[i] == (char)('a' + number % 26));
    mr_free(data);
    return true;
}

/* ---- levels ---- */

TEST(every_level_gives_back_what_was_put)
{
    for (int level = MR_STORAGE_DISK_ONLY; level <= MR_STORAGE_OFF_HEAP; level++) {
        struct mr__block_store *store = store_of(mr_env_posix(), t->dir, 64 * KIB);
        struct mr_batch *batch = rdd_batch("key VARCHAR, value BIGINT", "a:1, null:2, b:null");
        struct mr__block_options options = {(enum mr_storage_level)level, true};
        struct mr__block_id id = {99, 1};
        struct mr__batches rows = {0};
        struct mr_error err;

        CHECK_OK(put(store, 5, 3000, (enum mr_storage_level)level, false, &err), &err);
        CHECK(has(store, 5, 3000));
        CHECK(!has(store, 8, 3000));
        CHECK_OK(put(store, 5, 0, (enum mr_storage_level)level, false, &err), &err);
        CHECK(has(store, 5, 0)); /* replaced */
        CHECK_OK(mr__block_put_rows(store, id, options, &batch, 1, &err), &err);
        CHECK_OK(mr__block_get_rows(store, id, mr_batch_schema(batch), &rows, &err), &err);
        CHECK_EQ_UINT(rows.count, 1);
        CHECK_EQ_STR(rdd_text(rows.items[0]), "a:1, null:2, b:null");
        mr__batches_release(&rows);
        mr__block_drop(store, id);
        CHECK_STATUS(mr__block_get_rows(store, id, mr_batch_schema(batch), &rows, &err),
                     MR_NOT_FOUND);
        mr_batch_unref(batch);
        mr__block_store_free(store);
    }
}

TEST(memory_stays_within_its_budget_and_the_oldest_blocks_are_spilled)
{
    struct mr__block_store *store = store_of(mr_env_posix(), t->dir, 10 * KIB);
    struct mr_error err;

    for (uint64_t i = 0; i < 40; i++)
        CHECK_OK(put(store, i, KIB, MR_STORAGE_MEMORY_AND_DISK_SER, false, &err), &err);
    CHECK(stats_of(store).memory_peak_bytes <= 10 * KIB);
    CHECK_EQ_UINT(stats_of(store).spilled, 30);
    for (uint64_t i = 0; i < 40; i++)
        CHECK(has(store, i, KIB));
    CHECK_OK(put(store, 41, 20 * KIB, MR_STORAGE_MEMORY_AND_DISK, false, &err), &err);
    CHECK(has(store, 41, 20 * KIB)); /* larger than the budget: on disk at once */
    mr__block_store_free(store);
}

TEST(a_block_that_may_not_be_dropped_is_refused_when_memory_is_full)
{
    struct mr__block_store *store = store_of(mr_env_posix(), t->dir, 10 * KIB);
    struct mr_error err;

    for (uint64_t i = 0; i < 10; i++)
        CHECK_OK(put(store, i, KIB, MR_STORAGE_MEMORY_ONLY, false, &err), &err);
    CHECK_FAILS(put(store, 10, KIB, MR_STORAGE_MEMORY_ONLY, false, &err), &err, MR_LIMIT,
                "cannot keep a block of 1024 bytes in memory");
    CHECK(!has(store, 10, KIB));
    for (uint64_t i = 0; i < 10; i++)
        CHECK(has(store, i, KIB));
    mr__block_drop_owner(store, 1); /* 0, 3, 6, 9 */
    CHECK_OK(put(store, 10, KIB, MR_STORAGE_MEMORY_ONLY, false, &err), &err);
    CHECK_EQ_UINT(stats_of(store).refused, 1);
    mr__block_store_free(store);
}

TEST(blocks_that_can_be_made_again_give_way_to_newer_ones)
{
    struct mr__block_store *store = store_of(mr_env_posix(), t->dir, 10 * KIB);
    struct mr_error err;

    for (uint64_t i = 0; i < 10; i++)
        CHECK_OK(put(store, i, KIB, MR_STORAGE_MEMORY_ONLY, true, &err), &err);
    CHECK(has(store, 1, KIB)); /* used: not the oldest any more */
    CHECK_OK(put(store, 12, KIB, MR_STORAGE_MEMORY_ONLY, true, &err), &err);
    CHECK(has(store, 1, KIB));
    CHECK(has(store, 12, KIB));
    CHECK(!has(store, 2, KIB)); /* 0 is of the same owner as 12, 1 was used */
    CHECK(has(store, 0, KIB));
    CHECK_EQ_UINT(stats_of(store).dropped, 1);
    mr__block_store_free(store);
}

/* ---- the directory ---- */

static bool count_names(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)name, (void)kind;
    (*(unsigned *)arg)++;
    return true;
}

static unsigned files_in(struct mr_env *env, const char *dir)
{
    unsigned count = 0;

    CHECK_OK(mr_env_list(env, dir, count_names, &count, NULL), NULL);
    return count;
}

TEST(the_directory_is_gone_with_the_store)
{
    struct mr__block_store *store = store_of(mr_env_posix(), t->dir, KIB);
    struct mr_error err;

    CHECK_EQ_UINT(files_in(mr_env_posix(), t->dir), 0); /* made when it is needed */
    for (uint64_t i = 0; i < 5; i++)
        CHECK_OK(put(store, i, KIB, MR_STORAGE_DISK_ONLY_2, false, &err), &err);
    CHECK_EQ_UINT(files_in(mr_env_posix(), t->dir), 1);
    CHECK(stats_of(store).disk_bytes >= 10 * KIB);
    mr__block_drop_owner(store, 1);
    mr__block_drop_owner(store, 2);
    mr__block_drop_owner(store, 3);
    CHECK_EQ_UINT(stats_of(store).disk_bytes, 0);
    mr__block_store_free(store);
    CHECK_EQ_UINT(files_in(mr_env_posix(), t->dir), 0);
}

TEST(what_a_dead_process_left_is_removed_and_what_a_live_one_has_is_not)
{
    struct mr__block_store *live = store_of(mr_env_posix(), t->dir, KIB), *other;
    char dead[640], path[700];
    struct mr_file *file = NULL;
    struct mr_error err;

    CHECK_OK(put(live, 1, KIB, MR_STORAGE_DISK_ONLY, false, &err), &err);
    snprintf(dead, sizeof(dead), "%s/millrace-blocks-0123456789abcdef", t->dir);
    CHECK_OK(mr_env_mkdir(mr_env_posix(), dead, &err), &err);
    snprintf(path, sizeof(path), "%s/1", dead);
    CHECK_OK(mr_env_mkdir(mr_env_posix(), path, &err), &err);
    snprintf(path, sizeof(path), "%s/1/1-1", dead);
    CHECK_OK(mr_env_open(mr_env_posix(), path, MR_FILE_WRITE | MR_FILE_CREATE, &file, &err), &err);
    mr_env_close(mr_env_posix(), file);
    other = store_of(mr_env_posix(), t->dir, KIB);
    CHECK_OK(put(other, 1, KIB, MR_STORAGE_DISK_ONLY, false, &err), &err);
    CHECK_EQ_UINT(files_in(mr_env_posix(), t->dir), 2);
    CHECK(has(live, 1, KIB));
    mr__block_store_free(other);
    mr__block_store_free(live);
    CHECK_EQ_UINT(files_in(mr_env_posix(), t->dir), 0);
}

/* ---- damage ---- */

static void overwrite(const char *path, uint64_t at, const char *text)
{
    struct mr_file *file = NULL;
    struct mr_error err;

    CHECK_OK(mr_env_open(mr_env_posix(), path, MR_FILE_WRITE, &file, &err), &err);
    CHECK_OK(mr_env_pwrite(mr_env_posix(), file, text, strlen(text), at, &err), &err);
    mr_env_close(mr_env_posix(), file);
}

TEST(a_damaged_copy_is_never_given_back)
{
    static const uint64_t places[] = {0, 8, 16, 24, 32, 40, 1000};
    struct mr__block_id id = {2, 1};
    struct mr_error err;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        for (int copies = 1; copies <= 2; copies++) {
            struct mr__block_store *store = store_of(mr_env_posix(), t->dir, 64 * KIB);
            char *path;

            CHECK_OK(put(store, 1, KIB, copies == 1 ? MR_STORAGE_DISK_ONLY : MR_STORAGE_DISK_ONLY_2,
                         false, &err),
                     &err);
            path = mr__block_path(store, id, 1);
            overwrite(path, places[i], "#");
            CHECK(has(store, 1, KIB) == (copies == 2));
            CHECK_EQ_UINT(stats_of(store).damaged, 1);
            if (copies == 2) { /* the copy was written again */
                mr_free(path);
                path = mr__block_path(store, id, 2);
                CHECK_OK(mr_env_unlink(mr_env_posix(), path, &err), &err);
                CHECK(has(store, 1, KIB));
            }
            mr_free(path);
            mr__block_store_free(store);
        }
    }
}

/* Two threads put and get while a third removes copies: nothing is ever wrong, and what has two
 * copies is there. */
struct load {
    struct mr__block_store *store;
    atomic_bool stop;
    uint64_t first;
};

static void run_load(void *arg)
{
    struct load *load = arg;
    struct mr_error err;

    for (uint64_t round = 0; round < 30; round++) {
        for (uint64_t i = load->first; i < load->first + 20; i++)
            CHECK_OK(put(load->store, i, 2 * KIB, MR_STORAGE_MEMORY_AND_DISK_2, false, &err), &err);
        for (uint64_t i = load->first; i < load->first + 20; i++)
            CHECK(has(load->store, i, 2 * KIB));
    }
}

TEST(one_copy_may_be_deleted_under_load)
{
    struct mr__block_store *store = store_of(mr_env_posix(), t->dir, 8 * KIB);
    struct load loads[2] = {{.store = store, .first = 0}, {.store = store, .first = 100}};
    struct mr_thread *threads[2];
    struct mr_error err;

    for (int i = 0; i < 2; i++)
        CHECK_OK(mr_thread_start("load", run_load, &loads[i], &threads[i], &err), &err);
    for (uint64_t i = 0; i < 400; i++) {
        uint64_t number = i % 20 + (i / 20 % 2) * 100;
        struct mr__block_id id = {number % 3 + 1, number};
        char *path = mr__block_path(store, id, 1);

        if (path != NULL)
            (void)mr_env_unlink(mr_env_posix(), path, NULL);
        mr_free(path);
    }
    for (int i = 0; i < 2; i++)
        mr_thread_join(threads[i]);
    mr__block_store_free(store);
}

/* ---- datasets ---- */

static struct mr_session *session_of(struct test *t, uint64_t memory_bytes)
{
    struct mr_session_options options = {
        .workers = 2, .memory_bytes = memory_bytes, .spill_dir = t->dir};
    struct mr_session *session = NULL;
    struct mr_error err;

    CHECK_OK(mr_session_new(&options, &session, &err), &err);
    return session;
}

static void widen(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    char text[256];
    int size = snprintf(text, sizeof(text), "%0200d", (int)mr_row_int(row, 0));

    atomic_fetch_add((atomic_int *)arg, 1);
    mr_emit_str(out, text, (size_t)size);
}

/* 200 rows of 200 bytes in ten partitions. */
static struct mr_rdd *wide_rows(struct mr_session *session, atomic_int *calls)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_schema *schema = NULL;
    struct mr_batch *batch = NULL;
    struct mr_rdd *rdd;

    CHECK_OK(mr_schema_parse("value BIGINT", 12, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    for (int i = 0; i < 200; i++) {
        mr_batch_builder_int(builder, 0, i);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    rdd = mr_rdd_map(mr_rdd_parallelize(session, batch, 10),
                     MR_FN_FULL(widen, "value VARCHAR", calls));
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return rdd;
}

static void narrow(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_slice text = mr_row_text(row, 0);
    int64_t value = 0;

    (void)arg;
    for (size_t i = 0; i < text.size_bytes; i++)
        value = value * 10 + (text.data[i] - '0');
    mr_emit_int(out, value);
}

static int64_t checked_sum(struct mr_rdd *rdd)
{
    struct mr_batch *batch = NULL;
    struct mr_error err;
    int64_t sum;

    CHECK_OK(mr_rdd_reduce(mr_rdd_map(rdd, MR_FN_AS(narrow, "value BIGINT")), MR_SUM, &batch, &err),
             &err);
    sum = mr_column_int(mr_batch_column(batch, 0), 0);
    mr_batch_unref(batch);
    return sum;
}

TEST(a_dataset_larger_than_memory_is_spilled_or_computed_again_and_never_wrong)
{
    for (int level = MR_STORAGE_DISK_ONLY; level <= MR_STORAGE_OFF_HEAP; level++) {
        struct mr_session *session = session_of(t, 16 * KIB);
        bool memory_only = level >= MR_STORAGE_MEMORY_ONLY && level <= MR_STORAGE_MEMORY_ONLY_SER_2;
        bool second = level == MR_STORAGE_MEMORY_ONLY_2 || level == MR_STORAGE_MEMORY_ONLY_SER_2;
        atomic_int calls = 0;
        struct mr_rdd *rdd =
            mr_rdd_persist(wide_rows(session, &calls), (enum mr_storage_level)level);

        for (int i = 0; i < 3; i++)
            CHECK_EQ_INT(checked_sum(rdd), 19900);
        if (memory_only && !second)
            CHECK(atomic_load(&calls) > 200 && atomic_load(&calls) < 600);
        else
            CHECK_EQ_INT(atomic_load(&calls), 200);
        CHECK(stats_of(session->blocks).memory_peak_bytes <= 16 * KIB);
        mr_session_free(session);
    }
}

TEST(a_spill_file_that_is_damaged_or_gone_is_computed_again)
{
    struct mr_session *session = session_of(t, 16 * KIB);
    atomic_int calls = 0;
    struct mr_rdd *rdd = mr_rdd_persist(wide_rows(session, &calls), MR_STORAGE_DISK_ONLY);
    struct mr_error err;
    char *path;

    CHECK_EQ_INT(checked_sum(rdd), 19900);
    path = mr__block_path(session->blocks, (struct mr__block_id){rdd->id, 3}, 1);
    overwrite(path, 100, "#");
    mr_free(path);
    path = mr__block_path(session->blocks, (struct mr__block_id){rdd->id, 5}, 1);
    CHECK_OK(mr_env_unlink(mr_env_posix(), path, &err), &err);
    mr_free(path);
    CHECK_EQ_INT(checked_sum(rdd), 19900);
    CHECK_EQ_INT(atomic_load(&calls), 240); /* two partitions of twenty rows */
    CHECK_EQ_UINT(stats_of(session->blocks).damaged, 2);
    CHECK_EQ_INT(checked_sum(rdd), 19900);
    CHECK_EQ_INT(atomic_load(&calls), 240);
    mr_session_free(session);
}

TEST(a_lost_partition_behind_a_shuffle_is_computed_again)
{
    struct mr_session *session = session_of(t, 16 * KIB);
    atomic_int calls = 0;
    struct mr_rdd *rdd =
        mr_rdd_persist(mr_rdd_repartition(wide_rows(session, &calls), 4), MR_STORAGE_DISK_ONLY);

    CHECK_EQ_INT(checked_sum(rdd), 19900);
    mr__block_drop(session->blocks, (struct mr__block_id){rdd->id, 2});
    CHECK_EQ_INT(checked_sum(rdd), 19900);
    CHECK_EQ_INT(atomic_load(&calls), 200); /* its shuffle was still there */
    mr_session_free(session);
}

/* On a simulated disk; the nth call that can fail fails (0: none). Returns how many there were. */
static uint64_t sum_twice(uint64_t nth, int os_errno, bool forever, int expected_calls)
{
    struct mr_sim *sim = mr_sim_new(3);
    struct mr_session_options options = {.workers = 1, .memory_bytes = 1, .spill_dir = "/spill"};
    struct mr_session *session = NULL;
    atomic_int calls = 0;
    struct mr_error err;
    struct mr_rdd *rdd;
    uint64_t count;

    CHECK_OK(mr__session_new_on(mr_sim_env(sim), &options, &session, &err), &err);
    mr_sim_fail_at(sim, nth, os_errno, forever);
    rdd = mr_rdd_persist(wide_rows(session, &calls), MR_STORAGE_MEMORY_AND_DISK_2);
    CHECK_EQ_INT(checked_sum(rdd), 19900);
    CHECK_EQ_INT(checked_sum(rdd), 19900);
    if (expected_calls != 0)
        CHECK_EQ_INT(atomic_load(&calls), expected_calls);
    mr_session_free(session);
    count = mr_sim_call_count(sim);
    CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
    mr_sim_free(sim);
    return count;
}

TEST(a_full_disk_makes_it_slower_not_wrong)
{
    sum_twice(0, 0, false, 200);
    sum_twice(1, ENOSPC, true, 400); /* nothing is kept: all is computed again */
}

TEST(no_failure_of_the_disk_makes_a_dataset_wrong)
{
    uint64_t calls = sum_twice(0, 0, false, 200);

    CHECK(calls > 50);
    for (uint64_t nth = 1; nth <= calls; nth++)
        sum_twice(nth, EIO, false, 0);
}
