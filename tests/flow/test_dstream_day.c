/*
 * A day of batches on the virtual clock: memory, number of files and their size stay flat.
 *
 * One program with every kind of state: a window, an incremental one, updateStateByKey whose keys
 * come and go, mapWithState with a timeout. A second a batch; samples are taken inside of batches,
 * after the first hour and at the end. QUICK=1: two hours.
 */
#include "support/dstream.h"

#include "base/log.h"
#include "env/sim.h"

#include <stdlib.h>

enum { HOUR = 3600, KEYS = 50 };

struct disk_use {
    struct mr_env *env;
    uint64_t files;
    uint64_t size_bytes;
};

struct day {
    struct mr_env *env;
    int64_t batches;
    int64_t rows;
    size_t memory_after_an_hour_bytes;
    size_t memory_bytes;
    struct disk_use disk_after_an_hour;
    struct disk_use disk;
};

struct folder {
    struct disk_use *use;
    const char *path;
};

static void look_into(struct disk_use *use, const char *path);

static bool look_at(const char *name, enum mr_file_kind kind, void *arg)
{
    struct folder *folder = arg;
    struct mr_file_info info;
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", folder->path, name);
    if (kind == MR_KIND_DIRECTORY) {
        look_into(folder->use, path);
    } else if (mr_env_path_info(folder->use->env, path, false, &info, NULL) == MR_OK) {
        folder->use->files++;
        folder->use->size_bytes += info.size_bytes;
    }
    return true;
}

static void look_into(struct disk_use *use, const char *path)
{
    struct folder folder = {use, path};

    mr_env_list(use->env, path, look_at, &folder, NULL);
}

static struct disk_use measure_disk(struct mr_env *env)
{
    struct disk_use use = {.env = env};

    look_into(&use, "/checkpoint");
    return use;
}

/* Files and memory go up and down with the snapshots: the highest of some minutes counts. */
static void keep_highest(struct day *day, size_t *memory_bytes, struct disk_use *disk)
{
    struct disk_use now = measure_disk(day->env);
    size_t memory_now = mr_budget_used(NULL);

    if (memory_now > *memory_bytes)
        *memory_bytes = memory_now;
    if (now.files > disk->files)
        disk->files = now.files;
    if (now.size_bytes > disk->size_bytes)
        disk->size_bytes = now.size_bytes;
}

static enum mr_status sample(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                             struct mr_error *err)
{
    struct day *day = arg;
    int64_t hours = test_quick() ? 2 : 24, last = hours * HOUR;
    int64_t rows = 0;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_count(rdd, &rows, err));
    day->rows += rows;
    day->batches++;
    if (day->batches > HOUR / 2 && day->batches <= HOUR)
        keep_highest(day, &day->memory_after_an_hour_bytes, &day->disk_after_an_hour);
    if (day->batches > last - HOUR / 2)
        keep_highest(day, &day->memory_bytes, &day->disk);
    return MR_OK;
}

static enum mr_status ignore(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                             struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)arg;
    (void)err;
    return MR_OK;
}

static void build(struct mr_context *ctx, struct day *day)
{
    const char *const options[] = {"rows_per_second", "7", NULL};
    struct mr_dstream *rows = mr_connector_stream(ctx, "rate", NULL, options);
    struct mr_dstream *keys = mr_map(rows, MR_SQL("value"));
    struct mr_dstream *pairs =
        mr_map_to_pair(keys, MR_SQL("CAST(value // 100 % 50 AS VARCHAR), value % 3"));
    struct mr_dstream *windowed = mr_window(pairs, MR_SECONDS(60), MR_SECONDS(10));
    struct mr_dstream *sums = mr_reduce_by_key_and_window(pairs, MR_SUM, MR_SUM, MR_SECONDS(300),
                                                          MR_SECONDS(1), MR_SQL("value <> 0"));
    struct mr_dstream *idle = mr_update_state_by_key(
        pairs, "idle",
        MR_SQL("CASE WHEN len(\"values\") > 0 THEN 0 WHEN state < 40 THEN state + 1 END"));

    struct mr_state_spec spec = {
        .name = "running", .function = MR_SUM, .timeout_ms = MR_SECONDS(30)};

    mr_foreach_rdd(windowed, ignore, NULL);
    mr_foreach_rdd(mr_state_snapshots(mr_map_with_state(pairs, &spec)), ignore, NULL);
    mr_foreach_rdd(mr_union(sums, idle), sample, day);
}

TEST(a_day_of_batches_leaves_memory_files_and_log_as_they_were)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct day day = {.env = mr_sim_env(ds_sim(d))};
    uint64_t batches = (uint64_t)(test_quick() ? 2 : 24) * HOUR;

    build(ds_begin(d, MR_SECONDS(1), "/checkpoint"), &day);
    ds_must_run(d, batches);
    CHECK_EQ_INT(day.batches, (int64_t)batches);
    CHECK(day.rows > day.batches * KEYS / 2);
    printf("memory %zu -> %zu bytes, files %llu -> %llu, size %llu -> %llu bytes\n",
           day.memory_after_an_hour_bytes, day.memory_bytes,
           (unsigned long long)day.disk_after_an_hour.files, (unsigned long long)day.disk.files,
           (unsigned long long)day.disk_after_an_hour.size_bytes,
           (unsigned long long)day.disk.size_bytes);
    CHECK(day.memory_bytes <= day.memory_after_an_hour_bytes * 11 / 10 + 65536);
    CHECK(day.disk.files <= day.disk_after_an_hour.files + 2);
    CHECK(day.disk.size_bytes <= day.disk_after_an_hour.size_bytes * 11 / 10 + 65536);
    ds_free(d);
}
