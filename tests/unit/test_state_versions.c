/*
 * Versions of state on the disk: parts, damage to them, ways round it (faults.md A6, A7, A13, A17,
 * B1-B7, B12-B16, B18, B21).
 */
#include "base/alloc.h"
#include "env/sim.h"
#include "state/internal.h"
#include "support/test.h"
#include "wal/checkpoint.h"

#include <stdlib.h>

#define DIR "/cp"

struct parts {
    struct mr_env *env;
    struct mr_checkpoint checkpoint;
    struct mr_batch_log *log;
    struct mr_recovered recovered;
    struct mr_state *state;
    struct mr_store *store;
    uint64_t next_batch;
};

struct options {
    uint64_t inline_bytes_max;
    uint32_t snapshot_every;
    uint32_t retain;
};
static const struct options in_files = {.inline_bytes_max = 1, .snapshot_every = 4, .retain = 100};
static const struct options in_log = {
    .inline_bytes_max = 1 << 20, .snapshot_every = 4, .retain = 100};

static void close_parts(struct parts *parts)
{
    mr_state_close(parts->state);
    mr_batch_log_close(parts->log);
    mr_recovered_release(&parts->recovered);
    mr_checkpoint_release(&parts->checkpoint);
}

static enum mr_status try_open(struct mr_env *env, const struct options *options,
                               struct parts *parts, struct mr_error *err)
{
    struct mr_batch_log_config log_config = {.segment_bytes = 1 << 20,
                                             .retain_batches = options->retain};
    struct mr_state_config config = {.inline_bytes_max = options->inline_bytes_max,
                                     .snapshot_min_bytes = 1 << 20,
                                     .snapshot_ratio = 1.0,
                                     .snapshot_every = options->snapshot_every,
                                     .retain_batches = options->retain};

    *parts = (struct parts){.env = env};
    MR_TRY(mr_checkpoint_open(env, DIR, &parts->checkpoint, err));
    memcpy(log_config.query_id, parts->checkpoint.query_id, 16);
    memcpy(config.query_id, parts->checkpoint.query_id, 16);
    MR_TRY(mr_batch_log_open(env, parts->checkpoint.log_dir, &log_config, &parts->log,
                             &parts->recovered, err));
    config.epoch = parts->recovered.epoch;
    MR_TRY(mr_state_open(env, parts->checkpoint.state_dir, parts->checkpoint.log_dir, &config,
                         &parts->recovered, &parts->state, err));
    parts->next_batch = parts->recovered.has_commit ? parts->recovered.last_commit.batch_id + 1 : 0;
    return mr_state_store(parts->state, "counts", "aggregate", "word TEXT", "n BIGINT",
                          &parts->store, err);
}

static void open_parts(struct mr_env *env, const struct options *options, struct parts *parts)
{
    struct mr_error err = {0};

    CHECK_OK(try_open(env, options, parts, &err), &err);
}

static void plan(struct parts *parts)
{
    struct mr_plan batch = {.batch_id = parts->next_batch};
    struct mr_error err = {0};

    CHECK_OK(mr_batch_log_plan(parts->log, &batch, &err), &err);
    CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
}

static void commit_attempt(struct parts *parts, uint32_t attempt)
{
    struct mr_commit commit = {.batch_id = parts->next_batch, .attempt = attempt};
    struct mr_error err = {0};

    CHECK_OK(mr_state_prepare(parts->state, commit.batch_id, attempt, parts->log, &commit, &err),
             &err);
    CHECK_OK(mr_batch_log_commit(parts->log, &commit, &err), &err);
    mr_state_applied(parts->state, commit.batch_id);
    CHECK_OK(mr_batch_log_sync(parts->log, &err), &err);
    mr_commit_release(&commit);
    parts->next_batch++;
}

static void put_number(struct mr_store *store, uint64_t key, uint64_t value)
{
    struct mr_error err = {0};

    CHECK_OK(mr_store_put(store, &key, sizeof(key), &value, sizeof(value), &err), &err);
}

/* Batch n puts n under the keys n and 0, and removes key n - 2. */
static void run_batch(struct parts *parts)
{
    uint64_t n = parts->next_batch, gone = n - 2;
    struct mr_error err = {0};

    if (!parts->recovered.has_plan || parts->recovered.last_plan.batch_id != n)
        plan(parts);
    put_number(parts->store, n, n);
    put_number(parts->store, 0, n);
    if (n > 2)
        CHECK_OK(mr_store_delete(parts->store, &gone, sizeof(gone), &err), &err);
    commit_attempt(parts, 0);
}

static bool number_is(struct mr_store *store, uint64_t key, uint64_t wanted)
{
    const char *value = NULL;
    size_t size = 0;

    return mr_store_get(store, &key, sizeof(key), &value, &size) && size == 8 &&
           memcmp(value, &wanted, 8) == 0;
}

/* After batches 0 .. n - 1. */
static bool is_version(struct mr_store *store, uint64_t n)
{
    return mr_store_count(store) == (n == 1  ? 1
                                     : n < 4 ? n
                                             : 3) &&
           number_is(store, 0, n - 1) && number_is(store, n - 1, n - 1);
}

static struct mr_sim *make_state(const struct options *options, uint64_t batches)
{
    struct mr_sim *sim = mr_sim_new(21);
    struct parts parts;

    open_parts(mr_sim_env(sim), options, &parts);
    for (uint64_t n = 0; n < batches; n++)
        run_batch(&parts);
    CHECK(is_version(parts.store, batches));
    close_parts(&parts);
    return sim;
}

/* ---------------------------------------------------------------- files */

struct found {
    char names[64][48];
    size_t count;
    const char *end;
};

static bool collect(const char *name, enum mr_file_kind kind, void *arg)
{
    struct found *found = arg;
    size_t size = strlen(name), end = strlen(found->end);

    CHECK_EQ_INT(kind, MR_KIND_FILE);
    if (size >= end && strcmp(name + size - end, found->end) == 0)
        snprintf(found->names[found->count++], sizeof(found->names[0]), "%s", name);
    return true;
}

static struct found files(struct mr_env *env, const char *end)
{
    struct found found = {.end = end};
    struct mr_error err = {0};

    CHECK_OK(mr_env_list(env, DIR "/state/counts", collect, &found, &err), &err);
    return found;
}

static const char *file_path(const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), DIR "/state/counts/%s", name);
    return path;
}

static size_t read_file(struct mr_env *env, const char *path, uint8_t *data, size_t size)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};
    size_t got = 0;

    CHECK_OK(mr_env_open(env, path, MR_FILE_READ, &file, &err), &err);
    CHECK_OK(mr_env_pread(env, file, data, size, 0, &got, &err), &err);
    mr_env_close(env, file);
    return got;
}

static void write_file(struct mr_env *env, const char *path, const uint8_t *data, size_t size)
{
    struct mr_file *file = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_env_open(env, path, MR_FILE_WRITE | MR_FILE_CREATE | MR_FILE_TRUNCATE, &file, &err),
             &err);
    if (size > 0)
        CHECK_OK(mr_env_pwrite(env, file, data, size, 0, &err), &err);
    mr_env_close(env, file);
}

static enum mr_status read_state(struct mr_env *env, bool *ret_right, uint64_t version,
                                 uint64_t *ret_rebuilt, struct mr_error *err)
{
    struct mr_state *state = NULL;
    struct mr_state_totals totals;

    MR_TRY(mr_state_open_reader(env, DIR, &state, err));
    mr_state_totals(state, &totals);
    *ret_rebuilt = totals.snapshots_rebuilt;
    *ret_right = is_version(mr_state_find(state, "counts"), version);
    mr_state_close(state);
    return MR_OK;
}

/* ---------------------------------------------------------------- versions */

TEST(state_comes_back_from_the_log_and_from_files)
{
    const struct options *both[] = {&in_files, &in_log};

    for (unsigned i = 0; i < 2; i++) {
        for (uint64_t batches = 1; batches < 11; batches++) {
            struct mr_sim *sim = make_state(both[i], batches);
            struct parts parts;

            open_parts(mr_sim_env(sim), both[i], &parts);
            CHECK(is_version(parts.store, batches));
            run_batch(&parts);
            CHECK(is_version(parts.store, batches + 1));
            close_parts(&parts);
            mr_sim_free(sim);
        }
    }
}

TEST(the_same_content_is_the_same_bytes_whatever_came_before)
{
    struct mr_sim *sims[2] = {mr_sim_new(21), mr_sim_new(21)};
    uint8_t data[2][65536];
    size_t size[2];

    for (unsigned i = 0; i < 2; i++) {
        struct options options = {.inline_bytes_max = 1, .snapshot_every = 2, .retain = 100};
        struct parts parts;

        open_parts(mr_sim_env(sims[i]), &options, &parts);
        for (uint64_t k = 0; k < 500; k++) {
            uint64_t key = i == 0 ? k : 499 - k, extra = key + 1000;
            struct mr_error err = {0};

            put_number(parts.store, key, key);
            if (i == 1) { /* other keys came and went, values changed their size */
                put_number(parts.store, extra, 1);
                CHECK_OK(mr_store_delete(parts.store, &extra, 8, &err), &err);
                CHECK_OK(mr_store_put(parts.store, &key, 8, "a longer value before", 21, &err),
                         &err);
                put_number(parts.store, key, key);
            }
        }
        plan(&parts);
        commit_attempt(&parts, 0);
        plan(&parts);
        commit_attempt(&parts, 0);
        close_parts(&parts);
        size[i] =
            read_file(mr_sim_env(sims[i]), file_path("0-1-0.delta"), data[i], sizeof(data[i]));
    }
    CHECK_EQ_UINT(size[0], size[1]);
    CHECK_EQ_MEM(data[0], data[1], size[0]);
    for (unsigned i = 0; i < 2; i++)
        size[i] = read_file(mr_sim_env(sims[i]), file_path("1-1-0.snap"), data[i], sizeof(data[i]));
    CHECK_EQ_UINT(size[0], size[1]);
    CHECK_EQ_MEM(data[0], data[1], size[0]);
    mr_sim_free(sims[0]);
    mr_sim_free(sims[1]);
}

TEST(a_store_that_never_had_a_key_is_known_after_a_restart)
{
    struct mr_sim *sim = mr_sim_new(21);
    struct mr_error err = {0};
    struct parts parts;

    open_parts(mr_sim_env(sim), &in_log, &parts);
    plan(&parts);
    commit_attempt(&parts, 0);
    close_parts(&parts);
    open_parts(mr_sim_env(sim), &in_log, &parts);
    CHECK_NULL(mr_state_unclaimed(parts.state, 0));
    close_parts(&parts);
    struct mr_state *state = NULL;
    struct mr_store_info info;
    CHECK_OK(mr_state_open_reader(mr_sim_env(sim), DIR, &state, &err), &err);
    CHECK(mr_state_info(state, 0, &info));
    CHECK_EQ_STR(info.name, "counts");
    CHECK_EQ_STR(info.kind, "aggregate");
    CHECK_EQ_STR(info.key_schema, "word TEXT");
    CHECK_EQ_STR(info.value_schema, "n BIGINT");
    CHECK_EQ_STR(mr_state_unclaimed(state, 0), "counts");
    mr_state_close(state);
    mr_sim_free(sim);
}

TEST(another_schema_under_the_same_name_is_refused_with_both)
{
    struct mr_sim *sim = make_state(&in_log, 1);
    struct mr_error err = {0};
    struct mr_store *store = NULL;
    struct parts parts;

    open_parts(mr_sim_env(sim), &in_log, &parts);
    CHECK_FAILS(
        mr_state_store(parts.state, "counts", "aggregate", "word TEXT", "n BIGINT", &store, &err),
        &err, MR_CONFIG, "two operators");
    mr_state_close(parts.state);
    parts.state = NULL;
    struct mr_state_config config = {.epoch = 9, .retain_batches = 100};
    memcpy(config.query_id, parts.checkpoint.query_id, 16);
    CHECK_OK(mr_state_open(parts.env, parts.checkpoint.state_dir, parts.checkpoint.log_dir, &config,
                           &parts.recovered, &parts.state, &err),
             &err);
    CHECK_FAILS(
        mr_state_store(parts.state, "counts", "aggregate", "word TEXT", "n DOUBLE", &store, &err),
        &err, MR_CONFIG,
        "the checkpoint has the state type 'n BIGINT', the program wants 'n DOUBLE'");
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(A6_A7_files_that_no_commit_names_are_removed_and_never_loaded)
{
    struct mr_sim *sim = make_state(&in_files, 3);
    struct mr_env *env = mr_sim_env(sim);
    uint8_t data[8192];
    size_t size = read_file(env, file_path("1-1-0.delta"), data, sizeof(data));
    struct parts parts;

    /* A zombie's attempt, and what one that died left. */
    write_file(env, file_path("2-1-7.delta"), data, size);
    write_file(env, file_path("2-9-0.snap"), data, 10);
    write_file(env, file_path("notes.txt"), data, 10); /* not ours: stays (B21) */
    open_parts(env, &in_files, &parts);
    CHECK(is_version(parts.store, 3));
    close_parts(&parts);
    CHECK_EQ_UINT(files(env, ".delta").count, 3);
    CHECK_EQ_UINT(files(env, ".snap").count, 0);
    CHECK_EQ_UINT(files(env, ".txt").count, 1);
    mr_sim_free(sim);
}

TEST(A17_purge_keeps_what_a_load_can_need_and_removes_the_rest)
{
    struct options options = {.inline_bytes_max = 1, .snapshot_every = 4, .retain = 6};
    struct mr_sim *sim = mr_sim_new(21);
    struct mr_env *env = mr_sim_env(sim);
    struct parts parts;

    open_parts(env, &options, &parts);
    for (uint64_t n = 0; n < 30; n++) {
        uint64_t needed_from = 0;
        struct mr_error err = {0};

        run_batch(&parts);
        CHECK_OK(mr_state_purge(parts.state, n, &needed_from, &err), &err);
        CHECK_EQ_UINT(needed_from, UINT64_MAX); /* nothing is in the log */
        CHECK(files(env, ".snap").count <= 2);
        CHECK(files(env, ".delta").count <= 9);
    }
    close_parts(&parts);
    open_parts(env, &options, &parts);
    CHECK(is_version(parts.store, 30));
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(deltas_in_the_log_are_needed_until_a_snapshot_covers_them)
{
    struct options options = {.inline_bytes_max = 1 << 20, .snapshot_every = 10, .retain = 2};
    struct mr_sim *sim = mr_sim_new(21);
    uint64_t needed_from = 0;
    struct mr_error err = {0};
    struct parts parts;

    open_parts(mr_sim_env(sim), &options, &parts);
    for (uint64_t n = 0; n < 9; n++)
        run_batch(&parts);
    CHECK_OK(mr_state_purge(parts.state, 8, &needed_from, &err), &err);
    CHECK_EQ_UINT(needed_from, 0);
    run_batch(&parts); /* 9: writes a snapshot */
    run_batch(&parts);
    CHECK_OK(mr_state_purge(parts.state, 10, &needed_from, &err), &err);
    CHECK_EQ_UINT(needed_from, 0); /* the way round is still retained */
    run_batch(&parts);
    run_batch(&parts);
    CHECK_OK(mr_state_purge(parts.state, 12, &needed_from, &err), &err);
    CHECK_EQ_UINT(needed_from, 9);
    close_parts(&parts);
    mr_sim_free(sim);
}

/* ---------------------------------------------------------------- damage */

TEST(B2_B3_B16_every_cut_and_every_flipped_bit_of_a_delta_is_noticed)
{
    struct mr_sim *sim = make_state(&in_files, 2);
    struct mr_env *env = mr_sim_env(sim);
    const char *path = file_path("1-1-0.delta");
    uint8_t data[8192];
    size_t size = read_file(env, path, data, sizeof(data));
    struct mr_error err = {0};
    uint64_t rebuilt;
    bool right;

    for (size_t cut = 0; cut <= size + 1; cut++) {
        if (cut == size)
            continue;
        data[size] = 0;
        write_file(env, path, data, cut);
        CHECK_STATUS(read_state(env, &right, 2, &rebuilt, &err), MR_CORRUPT);
        CHECK_CONTAINS(err.text, "1-1-0.delta");
    }
    for (size_t bit = 0; bit < size * 8; bit += test_quick() ? 5 : 1) {
        enum mr_status status;

        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_file(env, path, data, size);
        status = read_state(env, &right, 2, &rebuilt, &err);
        if (status != MR_CORRUPT && status != MR_VERSION)
            FAIL("bit %zu flipped gives %d", bit, (int)status);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    write_file(env, path, data, size);
    CHECK_OK(read_state(env, &right, 2, &rebuilt, &err), &err);
    CHECK(right && rebuilt == 0);
    mr_sim_free(sim);
}

TEST(B15_every_damage_to_a_snapshot_is_noticed_and_rebuilt_from_the_deltas)
{
    struct mr_sim *sim = make_state(&in_files, 6); /* a snapshot after batch 3, deltas of all */
    struct mr_env *env = mr_sim_env(sim);
    const char *path = file_path("3-1-0.snap");
    uint8_t data[8192];
    size_t size = read_file(env, path, data, sizeof(data));
    struct mr_error err = {0};
    uint64_t rebuilt;
    bool right;

    for (size_t bit = 0; bit < size * 8; bit += test_quick() ? 5 : 1) {
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_file(env, path, data, size);
        if (read_state(env, &right, 6, &rebuilt, &err) != MR_OK || !right || rebuilt != 1)
            FAIL("bit %zu flipped: right %d, rebuilt %d, '%s'", bit, right, (int)rebuilt, err.text);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t cut = 0; cut < size; cut++) {
        write_file(env, path, data, cut);
        CHECK_OK(read_state(env, &right, 6, &rebuilt, &err), &err);
        CHECK(right && rebuilt == 1);
    }
    CHECK_OK(mr_env_unlink(env, path, &err), &err); /* B14: gone altogether */
    CHECK_OK(read_state(env, &right, 6, &rebuilt, &err), &err);
    CHECK(right && rebuilt == 1);
    mr_sim_free(sim);
}

TEST(B15_a_damaged_second_snapshot_is_rebuilt_from_the_first)
{
    struct mr_sim *sim = make_state(&in_files, 9); /* snapshots after batches 3 and 7 */
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    struct parts parts;

    write_file(env, file_path("7-1-0.snap"), (const uint8_t *)"x", 1);
    open_parts(env, &in_files, &parts);
    CHECK(is_version(parts.store, 9));
    run_batch(&parts);
    close_parts(&parts);
    /* The batch after it wrote a good one at once, so that the way round is not needed for long. */
    CHECK_OK(mr_env_unlink(env, file_path("3-1-0.snap"), &err), &err);
    open_parts(env, &in_files, &parts);
    CHECK(is_version(parts.store, 10));
    close_parts(&parts);
    CHECK_OK(mr_env_unlink(env, file_path("9-2-0.snap"), &err), &err);
    CHECK_FAILS(try_open(env, &in_files, &parts, &err), &err, MR_CORRUPT, "counts");
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(a_failed_batch_after_a_restart_removes_only_its_own_files)
{
    struct mr_sim *sim = make_state(&in_files, 6);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_commit commit = {.batch_id = 6};
    struct mr_error err = {0};
    struct parts parts;

    open_parts(env, &in_files, &parts);
    plan(&parts);
    put_number(parts.store, 77, 77);
    CHECK_OK(mr_state_prepare(parts.state, 6, 0, parts.log, &commit, &err), &err);
    mr_commit_release(&commit);
    CHECK_EQ_UINT(files(env, ".delta").count, 7);
    mr_state_rollback(parts.state);
    CHECK_EQ_UINT(files(env, ".delta").count, 6);
    CHECK(is_version(parts.store, 6));
    close_parts(&parts);
    open_parts(env, &in_files, &parts);
    CHECK(is_version(parts.store, 6));
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(B14_a_missing_delta_stops_the_start_and_names_the_file)
{
    struct mr_sim *sim = make_state(&in_files, 6);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    struct parts parts;

    CHECK_OK(mr_env_unlink(env, file_path("5-1-0.delta"), &err), &err);
    CHECK_FAILS(try_open(env, &in_files, &parts, &err), &err, MR_CORRUPT, "counts");
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(B6_B7_a_file_with_what_another_batch_wrote_is_refused)
{
    struct mr_sim *sim = make_state(&in_files, 3);
    struct mr_env *env = mr_sim_env(sim);
    uint8_t data[8192];
    size_t size = read_file(env, file_path("1-1-0.delta"), data, sizeof(data));
    struct mr_error err = {0};
    struct parts parts;

    write_file(env, file_path("2-1-0.delta"), data, size);
    CHECK_STATUS(try_open(env, &in_files, &parts, &err), MR_CORRUPT);
    close_parts(&parts);
    mr_sim_free(sim);
}

TEST(B13_state_that_is_newer_than_the_log_is_left_alone)
{
    struct mr_sim *sim = make_state(&in_files, 3);
    struct mr_env *env = mr_sim_env(sim);
    uint8_t data[8192];
    size_t size = read_file(env, file_path("2-1-0.delta"), data, sizeof(data));
    struct mr_error err = {0};
    struct parts parts;

    write_file(env, file_path("8-1-0.delta"), data, size);
    CHECK_FAILS(try_open(env, &in_files, &parts, &err), &err, MR_CORRUPT,
                "batch 8, which the log does not know");
    close_parts(&parts);
    CHECK_EQ_UINT(files(env, ".delta").count, 4);
    mr_sim_free(sim);
}

TEST(B18_a_directory_in_the_place_of_a_part_is_refused)
{
    struct mr_sim *sim = make_state(&in_files, 2);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    struct parts parts;

    CHECK_OK(mr_env_unlink(env, file_path("1-1-0.delta"), &err), &err);
    CHECK_OK(mr_env_mkdir(env, file_path("1-1-0.delta"), &err), &err);
    CHECK(try_open(env, &in_files, &parts, &err) != MR_OK);
    close_parts(&parts);
    mr_sim_free(sim);
}

static void count_line(const char *line, void *arg)
{
    CHECK(strlen(line) > 0);
    (*(unsigned *)arg)++;
}

TEST(verify_reports_each_damaged_part_once)
{
    struct mr_sim *sim = make_state(&in_files, 6);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    unsigned lines = 0;
    uint64_t bad = 1;

    CHECK_OK(mr_state_verify(env, DIR, count_line, &lines, &bad, &err), &err);
    CHECK_EQ_UINT(bad, 0);
    write_file(env, file_path("3-1-0.snap"), (const uint8_t *)"x", 1);
    write_file(env, file_path("1-1-0.delta"), (const uint8_t *)"x", 1);
    CHECK_OK(mr_state_verify(env, DIR, count_line, &lines, &bad, &err), &err);
    CHECK_EQ_UINT(bad, 2);
    CHECK_EQ_UINT(lines, 2);
    mr_sim_free(sim);
}

TEST(C1_a_full_disk_fails_the_batch_and_the_next_try_works)
{
    for (uint64_t nth = 1; nth < 60; nth++) {
        struct mr_sim *sim = make_state(&in_files, 3);
        struct mr_env *env = mr_sim_env(sim);
        struct mr_commit commit = {.batch_id = 3};
        struct mr_error err = {0};
        struct parts parts;
        enum mr_status status;

        open_parts(env, &in_files, &parts);
        plan(&parts);
        put_number(parts.store, 3, 3);
        mr_sim_fail_at(sim, nth, 28 /* ENOSPC */, false);
        status = mr_state_prepare(parts.state, 3, 0, parts.log, &commit, &err);
        mr_sim_fail_at(sim, 0, 0, false);
        mr_commit_release(&commit);
        if (status == MR_OK) {
            mr_state_rollback(parts.state);
            close_parts(&parts);
            mr_sim_free(sim);
            return;
        }
        mr_state_rollback(parts.state);
        mr_batch_log_discard_deltas(parts.log);
        CHECK(is_version(parts.store, 3));
        put_number(parts.store, 3, 3);
        put_number(parts.store, 0, 3);
        commit_attempt(&parts, 1);
        CHECK(number_is(parts.store, 3, 3));
        close_parts(&parts);
        open_parts(env, &in_files, &parts);
        CHECK(number_is(parts.store, 3, 3));
        close_parts(&parts);
        mr_sim_free(sim);
    }
    FAIL("the write never worked");
}

TEST(C11_every_failing_allocation_at_open_is_an_error_without_leak)
{
    for (uint64_t nth = 1; nth < 1000; nth++) {
        struct mr_sim *sim = make_state(&in_files, 5);
        struct mr_error err = {0};
        struct parts parts;
        size_t used = mr_budget_used(NULL);
        enum mr_status status;

        mr_alloc_fail_at(nth, false);
        status = try_open(mr_sim_env(sim), &in_files, &parts, &err);
        mr_alloc_fail_at(0, false);
        close_parts(&parts);
        CHECK(status == MR_OK || status == MR_NOMEM);
        CHECK_EQ_UINT(mr_budget_used(NULL), used);
        CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
        mr_sim_free(sim);
        if (status == MR_OK)
            return;
    }
    FAIL("the open never worked");
}

/* ---------------------------------------------------------------- the directory */

TEST(B12_a_missing_identity_stops_the_start_and_makes_no_new_one)
{
    struct mr_sim *sim = make_state(&in_files, 1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    struct mr_file_info info;
    struct parts parts;

    CHECK_OK(mr_env_unlink(env, DIR "/query", &err), &err);
    CHECK_FAILS(try_open(env, &in_files, &parts, &err), &err, MR_CORRUPT, "'query' is missing");
    close_parts(&parts);
    CHECK_STATUS(mr_env_path_info(env, DIR "/query", false, &info, &err), MR_NOT_FOUND);
    mr_sim_free(sim);
}

TEST(B13_state_without_any_log_stops_the_start)
{
    struct mr_sim *sim = make_state(&in_files, 1);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_error err = {0};
    struct parts parts;

    CHECK_OK(mr_env_unlink(env, DIR "/log/00000000000000000001.log", &err), &err);
    CHECK_FAILS(try_open(env, &in_files, &parts, &err), &err, MR_CORRUPT, "no log");
    close_parts(&parts);
    CHECK_EQ_UINT(files(env, ".delta").count, 1);
    mr_sim_free(sim);
}

TEST(A14_the_identity_is_made_once)
{
    struct mr_sim *sim = mr_sim_new(3);
    struct mr_checkpoint first = {0}, second = {0};
    struct mr_error err = {0};

    CHECK_OK(mr_checkpoint_open(mr_sim_env(sim), DIR, &first, &err), &err);
    CHECK(first.is_new);
    CHECK_FAILS(mr_checkpoint_open(mr_sim_env(sim), DIR, &second, &err), &err, MR_BUSY,
                NULL); /* D9, D14 */
    CHECK_OK(mr_checkpoint_peek(mr_sim_env(sim), DIR, &second, &err), &err);
    CHECK_EQ_STR(second.query_id_text, first.query_id_text);
    CHECK_EQ_UINT(second.seed, first.seed);
    mr_checkpoint_release(&second);
    mr_checkpoint_release(&first);
    CHECK_OK(mr_checkpoint_open(mr_sim_env(sim), DIR, &second, &err), &err);
    CHECK(!second.is_new);
    mr_checkpoint_release(&second);
    CHECK_STATUS(mr_checkpoint_peek(mr_sim_env(sim), "/nowhere", &second, &err), MR_NOT_FOUND);
    mr_sim_free(sim);
}

TEST(B2_B3_B4_B19_every_damage_to_the_identity_is_noticed)
{
    struct mr_sim *sim = make_state(&in_files, 1);
    struct mr_env *env = mr_sim_env(sim);
    uint8_t data[512];
    size_t size = read_file(env, DIR "/query", data, sizeof(data));
    struct mr_checkpoint checkpoint = {0};
    struct mr_error err = {0};

    for (size_t cut = 0; cut <= size + 2; cut++) {
        if (cut == size)
            continue;
        data[size] = '\r';
        data[size + 1] = '\n';
        write_file(env, DIR "/query", data, cut);
        CHECK_STATUS(mr_checkpoint_open(env, DIR, &checkpoint, &err), MR_CORRUPT);
    }
    for (size_t bit = 0; bit < size * 8; bit++) {
        enum mr_status status;

        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        write_file(env, DIR "/query", data, size);
        status = mr_checkpoint_open(env, DIR, &checkpoint, &err);
        CHECK(status == MR_CORRUPT || status == MR_VERSION);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    mr_sim_free(sim);
}

TEST(B18_foreign_kinds_of_entries_are_refused)
{
    static const char *const names[] = {DIR "/query", DIR "/log", DIR "/state", DIR "/received"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct mr_sim *sim = mr_sim_new(3);
        struct mr_env *env = mr_sim_env(sim);
        struct mr_checkpoint checkpoint = {0};
        struct mr_error err = {0};

        CHECK_OK(mr_env_mkdir(env, DIR, &err), &err);
        if (i == 0)
            CHECK_OK(mr_env_mkdir(env, names[i], &err), &err);
        else
            write_file(env, names[i], (const uint8_t *)"x", 1);
        CHECK_STATUS(mr_checkpoint_open(env, DIR, &checkpoint, &err), MR_CORRUPT);
        mr_sim_free(sim);
    }
}

TEST(A2_B24_temporaries_of_dead_processes_are_removed_and_counted)
{
    struct mr_sim *sim = make_state(&in_files, 2);
    struct mr_env *env = mr_sim_env(sim);
    struct mr_checkpoint checkpoint = {0};
    struct mr_error err = {0};

    write_file(env, DIR "/.tmp-query-1", (const uint8_t *)"x", 1);
    write_file(env, DIR "/log/.tmp-1", (const uint8_t *)"x", 1);
    write_file(env, file_path(".tmp-5-1-0.snap"), (const uint8_t *)"x", 1);
    CHECK_OK(mr_checkpoint_open(env, DIR, &checkpoint, &err), &err);
    CHECK_EQ_UINT(checkpoint.temp_files_removed, 3);
    mr_checkpoint_release(&checkpoint);
    mr_sim_free(sim);
}
