/*
 * Rows D of the fault catalogue (docs/faults.md) for a host application that uses the library: made
 * and freed many times, from many threads, and a host that forks.
 *
 * The rule for fork (include/millrace/sql.h and dstream.h say nothing else): the child of a host
 * with a running query has none of its threads; it may exec or _exit, and it must not touch what it
 * inherited. Descriptors of a checkpoint are closed by exec, so a child that does neither for long
 * keeps the checkpoint's lock.
 */
#include "support/flow.h"
#include "support/test.h"

#include "base/check.h"
#include "base/log.h"
#include "env/sim.h"
#include "env/thread.h"
#include "plugins/plugins.h"

#include <millrace/ext/memory.h>

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

static void quiet(void *arg, enum mr_log_level level, const char *line, size_t size_bytes)
{
    (void)arg, (void)level, (void)line, (void)size_bytes;
}

static void add_pairs(const char *table, int64_t count)
{
    struct mr_schema *schema = flow_pair_schema();

    for (int64_t i = 0; i < count; i++) {
        struct mr_batch_builder *builder = NULL;
        struct mr_batch *batch = NULL;
        struct mr_error err = {0};

        CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
        mr_batch_builder_int(builder, 0, 1);
        mr_batch_builder_int(builder, 1, i);
        mr_batch_builder_end_row(builder);
        CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
        CHECK_OK(mr_memory_add(mr_memory_table(table), batch, &err), &err);
        mr_batch_unref(batch);
        mr_batch_builder_free(builder);
    }
    mr_schema_unref(schema);
}

static struct mr_graph *sums(void)
{
    const struct flow_end source = {"in", "memory", "max_steps_per_trigger=1",
                                    mr_memory_table("in")};
    const struct flow_end sink = {"out", "memory", "", mr_memory_table("out")};

    return flow_sum_graph(&source, &sink, "sum");
}

static struct mr_query_config config_for(const char *dir)
{
    struct mr_query_config config;

    mr_query_config_init(&config);
    config.name = "host";
    config.checkpoint_dir = dir;
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 2;
    return config;
}

static size_t open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    size_t count = 0;

    CHECK_NOT_NULL(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static int64_t last_sum(void)
{
    struct mr_batch *rows = NULL;
    struct mr_error err = {0};
    int64_t sum = -1;

    CHECK_OK(mr_memory_rows(mr_memory_table("out"), &rows, &err), &err);
    if (mr_batch_row_count(rows) > 0)
        sum = mr_column_int(mr_batch_column(rows, 1), mr_batch_row_count(rows) - 1);
    mr_batch_unref(rows);
    return sum;
}

static void drop_tables(void)
{
    mr_memory_drop("in");
    mr_memory_drop("out");
}

TEST(D13_a_query_that_is_made_and_freed_thousands_of_times_leaves_nothing)
{
    const int rounds = test_quick() ? 1000 : 10000;
    const struct mr_query_config config = config_for("/cp");
    struct mr_sim *sim = mr_sim_new(1);
    uint64_t ops = 0;

    mr_log_set_sink(quiet, NULL);
    for (int i = 0; i < rounds; i++) {
        struct mr_query *query = NULL;
        struct mr_error err = {0};

        CHECK_OK(mr_query_new(mr_sim_env(sim), sums(), &config, &query, &err), &err);
        mr_query_free(query);
        CHECK_EQ_UINT(mr_sim_open_count(sim), 0);
        if (i == 1)
            ops = mr_sim_op_count(sim);
    }
    /* each start does as much as the one before: nothing piles up on the disk */
    CHECK(mr_sim_op_count(sim) <= ops * (uint64_t)rounds);
    drop_tables();
    mr_sim_free(sim);
}

TEST(D13_descriptors_and_threads_of_a_real_checkpoint_are_given_back)
{
    const char *dir = test_path(t, "cp");
    const struct mr_query_config config = config_for(dir);
    size_t before = 0;

    mr_log_set_sink(quiet, NULL);
    for (int i = 0; i < 20; i++) {
        struct mr_query *query = NULL;
        struct mr_error err = {0};

        add_pairs("in", 1);
        CHECK_OK(mr_query_new(mr_env_posix(), sums(), &config, &query, &err), &err);
        CHECK_OK(mr_query_run(query, &err), &err);
        mr_query_free(query);
        if (i == 1)
            before = open_descriptors();
    }
    CHECK_EQ_UINT(open_descriptors(), before);
    drop_tables();
}

/* A child at every point of every batch, as a host's popen or crash handler would make it. */
static enum mr_status fork_here(void *arg, const char *point, uint64_t batch_id,
                                struct mr_error *err)
{
    int *children = arg, ended = 0;
    pid_t child = fork();

    MR_UNUSED(point);
    MR_UNUSED(batch_id);
    if (child == 0)
        _exit(7);
    if (child < 0 || waitpid(child, &ended, 0) != child || !WIFEXITED(ended) ||
        WEXITSTATUS(ended) != 7)
        return MR_FAIL(err, MR_INTERNAL, "the child did not end as it should");
    ++*children;
    return MR_OK;
}

TEST(D13_a_host_that_forks_while_a_query_runs_loses_and_doubles_nothing)
{
    struct mr_query_config config = config_for(test_path(t, "cp"));
    struct mr_error err = {0};
    int children = 0;

    mr_log_set_sink(quiet, NULL);
    config.failpoint = fork_here;
    config.failpoint_arg = &children;
    add_pairs("in", 5);
    for (int i = 0; i < 2; i++) { /* the second start finds no lock of a child */
        struct mr_query *query = NULL;

        CHECK_OK(mr_query_new(mr_env_posix(), sums(), &config, &query, &err), &err);
        CHECK_OK(mr_query_run(query, &err), &err);
        mr_query_free(query);
        CHECK_EQ_INT(last_sum(), 0 + 1 + 2 + 3 + 4);
    }
    CHECK(children >= 5);
    drop_tables();
}
