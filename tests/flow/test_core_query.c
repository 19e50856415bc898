/*
 * The batch loop over memory tables: a counting fold stands for any stateful operator, and named
 * failpoints end the query at every step of every batch. Outputs are compared as they are, never
 * de-duplicated.
 */
#include "support/flow.h"
#include "support/test.h"

#include "base/check.h"
#include "core/query.h"

#include <millrace/ext/memory.h>

#include <string.h>

/* ---- The pipeline: memory table `in` -> sum -> memory table `out`. ---- */

struct names {
    const char *in;
    const char *out;
    const char *fold;
};

static struct mr_graph *build(const struct names *names)
{
    const struct flow_end source = {names->in, "memory", "", mr_memory_table(names->in)};
    const struct flow_end sink = {names->out, "memory", "", mr_memory_table(names->out)};

    return flow_sum_graph(&source, &sink, names->fold);
}

static void add_pairs(const char *table, const int64_t (*pairs)[2], size_t count)
{
    struct mr_schema *schema = flow_pair_schema();
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (size_t i = 0; i < count; i++) {
        mr_batch_builder_int(builder, 0, pairs[i][0]);
        mr_batch_builder_int(builder, 1, pairs[i][1]);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table(table), batch, &err), &err);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

/* "1=3 2=5 ..." of all rows of a table in order. */
static void read_rows(const char *table, char *text, size_t size)
{
    struct mr_batch *batch = NULL;
    size_t at = 0;

    text[0] = '\0';
    if (mr_memory_rows(mr_memory_table(table), &batch, NULL) != MR_OK)
        return;
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++)
        at += (size_t)snprintf(text + at, size - at, "%s%lld=%lld", row > 0 ? " " : "",
                               (long long)mr_column_int(mr_batch_column(batch, 0), row),
                               (long long)mr_column_int(mr_batch_column(batch, 1), row));
    mr_batch_unref(batch);
}

static enum mr_status run_query(const struct names *names, const struct mr_query_config *config,
                                struct mr_error *err)
{
    struct mr_query *query = NULL;
    enum mr_status status = mr_query_new(mr_env_posix(), build(names), config, &query, err);

    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    return status;
}

static struct mr_query_config caught_up(const char *dir)
{
    struct mr_query_config config;

    mr_query_config_init(&config);
    config.name = "test";
    config.checkpoint_dir = dir;
    config.trigger = MR_TRIGGER_CAUGHT_UP;
    config.workers = 1;
    return config;
}

static void drop_tables(const struct names *names)
{
    mr_memory_drop(names->in);
    mr_memory_drop(names->out);
}

TEST(a_query_without_checkpoint_runs_what_is_there_and_ends)
{
    const struct names names = {"in", "out", "sum"};
    const struct mr_query_config config = caught_up(NULL);
    struct mr_error err = {0};
    char rows[256];

    add_pairs("in", (const int64_t[][2]){{1, 1}, {2, 5}, {1, 2}}, 3);
    CHECK_OK(run_query(&names, &config, &err), &err);
    read_rows("out", rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=3 2=5");
    drop_tables(&names);
}

TEST(a_second_run_goes_on_where_the_first_one_stopped)
{
    const struct names names = {"in", "out", "sum"};
    const struct mr_query_config config = caught_up(test_path(t, "cp"));
    struct mr_error err = {0};
    char rows[256];

    add_pairs("in", (const int64_t[][2]){{1, 1}, {2, 5}}, 2);
    CHECK_OK(run_query(&names, &config, &err), &err);
    CHECK_OK(run_query(&names, &config, &err), &err);
    add_pairs("in", (const int64_t[][2]){{1, 10}}, 1);
    CHECK_OK(run_query(&names, &config, &err), &err);
    read_rows("out", rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=1 2=5 1=11");
    drop_tables(&names);
}

struct crash {
    const char *point;
    uint64_t batch_id;
    bool done;
};

static enum mr_status crash_there(void *arg, const char *point, uint64_t batch_id,
                                  struct mr_error *err)
{
    struct crash *crash = arg;

    if (crash->done || strcmp(point, crash->point) != 0 || batch_id != crash->batch_id)
        return MR_OK;
    crash->done = true;
    return MR_FAIL(err, MR_INTERNAL, "failpoint '%s'", point);
}

/* Three batches, one step each; the query ends at the point of the batch and is started again. */
static void crash_and_compare(struct test *t, const char *point, uint64_t batch_id)
{
    const struct names names = {"in", "out", "sum"};
    char dir_name[64], rows[256];
    struct crash crash = {point, batch_id, false};
    struct mr_error err = {0};
    struct mr_query_config config;

    snprintf(dir_name, sizeof(dir_name), "cp-%s-%d", point, (int)batch_id);
    config = caught_up(test_path(t, dir_name));
    config.failpoint = crash_there;
    config.failpoint_arg = &crash;
    for (int64_t step = 1; step <= 3; step++) {
        add_pairs("in", (const int64_t[][2]){{1, step}, {step, 100}}, 2);
        if (run_query(&names, &config, &err) != MR_OK)
            CHECK_OK(run_query(&names, &config, &err), &err);
    }
    CHECK(crash.done);
    read_rows("out", rows, sizeof(rows));
    CHECK_EQ_STR(rows, "1=101 1=103 2=100 1=106 3=100");
    drop_tables(&names);
}

TEST(a_query_that_ends_at_any_step_of_any_batch_repeats_and_loses_nothing)
{
    const char *const points[] = {"planned", "ran", "staged", "published", "committed"};

    for (size_t i = 0; i < MR_ARRAY_SIZE(points); i++) {
        for (uint64_t batch_id = 0; batch_id < 3; batch_id++)
            crash_and_compare(t, points[i], batch_id);
    }
}

static enum mr_status fail_twice(void *arg, const char *point, uint64_t batch_id,
                                 struct mr_error *err)
{
    int *failures = arg;

    MR_UNUSED(batch_id);
    if (strcmp(point, "published") != 0 || *failures == 0)
        return MR_OK;
    (*failures)--;
    return MR_FAIL(err, MR_USER, "not yet");
}

TEST(a_batch_that_fails_and_may_pass_is_run_again_with_the_same_result)
{
    const struct names names = {"in", "out", "sum"};
    struct mr_query_config config = caught_up(test_path(t, "cp"));
    struct mr_error err = {0};
    int failures = 2;
    char rows[256];

    config.failpoint = fail_twice;
    config.failpoint_arg = &failures;
    add_pairs("in", (const int64_t[][2]){{7, 1}, {7, 2}}, 2);
    CHECK_OK(run_query(&names, &config, &err), &err);
    CHECK_EQ_INT(failures, 0);
    read_rows("out", rows, sizeof(rows));
    CHECK_EQ_STR(rows, "7=3");
    drop_tables(&names);
}

TEST(a_second_query_on_the_same_checkpoint_is_refused_as_busy)
{
    const struct names names = {"in", "out", "sum"};
    const struct mr_query_config config = caught_up(test_path(t, "cp"));
    struct mr_query *query = NULL, *second = NULL;
    struct mr_error err = {0};

    add_pairs("in", (const int64_t[][2]){{1, 1}}, 1);
    CHECK_OK(mr_query_new(mr_env_posix(), build(&names), &config, &query, &err), &err);
    CHECK_STATUS(mr_query_new(mr_env_posix(), build(&names), &config, &second, &err), MR_BUSY);
    mr_query_free(query);
    drop_tables(&names);
}

TEST(a_query_without_a_source_of_its_checkpoint_is_refused)
{
    const struct names names = {"in", "out", "sum"}, other = {"in2", "out", "sum"};
    const struct mr_query_config config = caught_up(test_path(t, "cp"));
    struct mr_error err = {0};

    add_pairs("in", (const int64_t[][2]){{1, 1}}, 1);
    CHECK_OK(run_query(&names, &config, &err), &err);
    CHECK_STATUS(run_query(&other, &config, &err), MR_CONFIG);
    CHECK(strstr(err.text, "'in'") != NULL);
    drop_tables(&names);
    mr_memory_drop("in2");
}

TEST(a_query_without_an_operator_that_has_state_is_refused)
{
    const struct names names = {"in", "out", "sum"}, other = {"in", "out", "total"};
    const struct mr_query_config config = caught_up(test_path(t, "cp"));
    struct mr_error err = {0};

    add_pairs("in", (const int64_t[][2]){{1, 1}}, 1);
    CHECK_OK(run_query(&names, &config, &err), &err);
    CHECK_STATUS(run_query(&other, &config, &err), MR_CONFIG);
    CHECK(strstr(err.text, "'sum'") != NULL);
    drop_tables(&names);
}

static void keep_progress(void *arg, const struct mr_progress *progress)
{
    char *text = arg;
    snprintf(text, 4096, "%s", progress->json);
}

TEST(the_progress_document_has_the_field_names_that_tools_know)
{
    const struct names names = {"in", "out", "sum"};
    struct mr_query_config config = caught_up(NULL);
    struct mr_error err = {0};
    char text[4096] = "";

    config.on_progress = keep_progress;
    config.on_progress_arg = text;
    add_pairs("in", (const int64_t[][2]){{1, 1}, {2, 2}}, 2);
    CHECK_OK(run_query(&names, &config, &err), &err);
    CHECK(strstr(text, "\"batchId\":0") != NULL);
    CHECK(strstr(text, "\"numInputRows\":2") != NULL);
    CHECK(strstr(text, "\"durationMs\":{") != NULL);
    CHECK(strstr(text, "\"stateOperators\":[") != NULL);
    CHECK(strstr(text, "\"numOutputRows\":2") != NULL);
    drop_tables(&names);
}
