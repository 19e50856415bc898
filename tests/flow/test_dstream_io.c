/*
 * Inputs and outputs of DStreams: queues, text files in, text files out, print, foreachRDD.
 */
#include "support/dstream.h"

#include "env/sim.h"

#include <millrace/ext/durable.h>

#include <stdlib.h>
#include <unistd.h>

/* ---- queues ---- */

static void push_three(struct mr_queue *queue)
{
    const int64_t values[3][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};

    for (size_t i = 0; i < 3; i++)
        mr_queue_push_ints(queue, values[i], 3);
}

TEST(V184_V187_a_queue_gives_one_dataset_per_batch)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");

    push_three(queue);
    ds_collect(d, mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), queue, true));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, false), "1,2,3 | 4,5,6 | 7,8,9 | ");
    ds_free(d);
    mr_queue_free(queue);
}

TEST(V185_a_queue_gives_all_it_has)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");

    push_three(queue);
    ds_collect(d, mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), queue, false));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "1,2,3,4,5,6,7,8,9 | ");
    ds_free(d);
    mr_queue_free(queue);
}

TEST(a_batch_that_fails_gets_the_same_dataset_of_the_queue_again)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_error err;

    push_three(queue);
    ds_collect(d, mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), queue, true));
    ds_fail_at(d, "staged", 1);
    CHECK_FAILS(ds_run(d, 3, &err), &err, MR_INTERNAL, "killed at");
    CHECK_EQ_STR(ds_output(d, false), "1,2,3");
    /* What was not committed is still in the queue. */
    ds_forget_output(d);
    CHECK_NULL(mr_queue_new("value NO_SUCH_TYPE"));
    ds_free(d);
    mr_queue_free(queue);
}

/* ---- text files in ---- */

/* Writes a file whose only line is the number; its mtime is the virtual clock's. */
static void write_number(struct ds *d, const char *dir, int number)
{
    char name[32], text[32];

    snprintf(name, sizeof(name), "%d", number);
    snprintf(text, sizeof(text), "%d\n", number);
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(d)), dir, NULL), NULL);
    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), dir, name, text, strlen(text), false, NULL),
             NULL);
}

static void advance_ms(struct ds *d, int64_t ms)
{
    mr_sim_advance_ns(ds_sim(d), ms * 1000000);
}

static int64_t now_ms(struct ds *d)
{
    return mr_env_wall_us(mr_sim_env(ds_sim(d))) / 1000;
}

/* After the batch at times[i] (from `zero_ms`) the clock goes on by a second and file numbers[i]
 * appears. */
struct arrivals {
    struct ds *d;
    int64_t zero_ms;
    const int64_t *times;
    const int *numbers;
    size_t count;
};

static enum mr_status let_files_arrive(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                       struct mr_error *err)
{
    struct arrivals *arrivals = arg;

    (void)rdd;
    (void)err;
    for (size_t i = 0; i < arrivals->count; i++) {
        if (batch_time_ms - arrivals->zero_ms != arrivals->times[i])
            continue;
        advance_ms(arrivals->d,
                   arrivals->zero_ms + arrivals->times[i] + 1000 - now_ms(arrivals->d));
        write_number(arrivals->d, "/in", arrivals->numbers[i]);
    }
    return MR_OK;
}

TEST(V172_only_files_newer_than_the_stream_are_read)
{
    static const int64_t times[] = {2000, 4000, 6000, 8000, 10000};
    static const int numbers[] = {1, 2, 3, 4, 5};
    struct ds *d = ds_new(t, "value VARCHAR");
    struct arrivals arrivals = {d, 0, times, numbers, 5};
    struct mr_dstream *lines;

    write_number(d, "/in", 0);
    advance_ms(d, 2000);
    lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/in");
    arrivals.zero_ms = now_ms(d) / 2000 * 2000;
    ds_collect(d, lines);
    mr_foreach_rdd(lines, let_files_arrive, &arrivals);
    ds_must_run(d, 7);
    CHECK_EQ_STR(ds_output(d, false), " | 1 | 2 | 3 | 4 | 5 | ");
    ds_free(d);
}

TEST(V175_directories_match_a_glob_and_hidden_names_are_left_out)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/streaming/sub*"));
    advance_ms(d, 10);
    write_number(d, "/streaming/subdir", 1);
    write_number(d, "/streaming/subdir/deeper", 2);
    write_number(d, "/streaming/other", 3);
    CHECK_OK(
        mr_durable_put(mr_sim_env(ds_sim(d)), "/streaming/subdir", "_hidden", "4", 1, false, NULL),
        NULL);
    CHECK_OK(
        mr_durable_put(mr_sim_env(ds_sim(d)), "/streaming/subdir", ".hidden", "5", 1, false, NULL),
        NULL);
    CHECK_OK(mr_durable_put(mr_sim_env(ds_sim(d)), "/streaming/subdir", "a", "six\nseven", 9, false,
                            NULL),
             NULL);
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "1,six,seven | ");
    ds_free(d);
}

TEST(a_missing_directory_is_an_empty_batch)
{
    struct ds *d = ds_new(t, "value VARCHAR");

    ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), NULL), "/nowhere"));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), " | ");
    ds_free(d);
}

/* The sum of the numbers of the last minute; files arrive as the table says. */
static void build_sums(struct ds *d, struct arrivals *arrivals)
{
    struct mr_dstream *lines = mr_text_file_stream(ds_begin(d, MR_SECONDS(2), "/cp"), "/in");
    struct mr_dstream *pairs = mr_map_to_pair(lines, MR_SQL("'sum', CAST(value AS BIGINT)"));

    ds_collect(d, mr_reduce_by_key_and_window(pairs, MR_SUM, MR_NO_FN, MR_SECONDS(60),
                                              MR_SECONDS(2), MR_NO_FN));
    mr_foreach_rdd(lines, let_files_arrive, arrivals);
}

TEST(V170_files_that_came_while_the_program_was_down_belong_to_the_batches_of_their_time)
{
    static const int64_t times[] = {2000, 4000, 16000, 18000};
    static const int numbers[] = {2, 3, 8, 9};
    struct ds *d = ds_new(t, "value VARCHAR");
    struct arrivals arrivals = {d, now_ms(d), times, numbers, 4};
    struct mr_error err;

    CHECK_EQ_INT(arrivals.zero_ms % 2000, 0);
    build_sums(d, &arrivals);
    advance_ms(d, 1000);
    write_number(d, "/in", 1);
    ds_fail_at(d, "ran", 2);
    CHECK_FAILS(ds_run(d, 3, &err), &err, MR_INTERNAL, "killed at");
    CHECK_EQ_STR(ds_output(d, false), "sum:1 | sum:3");
    for (int number = 4; number <= 7; number++) {
        advance_ms(d, arrivals.zero_ms + 1000 + 2000 * number - now_ms(d));
        write_number(d, "/in", number);
    }
    build_sums(d, &arrivals); /* at 15000 */
    ds_must_run(d, 8);
    CHECK_EQ_STR(
        ds_output(d, false),
        "sum:1 | sum:3 | sum:6 | sum:6 | sum:10 | sum:15 | sum:21 | sum:28 | sum:36 | sum:45");
    ds_free(d);
}

TEST(a_planned_file_that_was_removed_is_data_loss)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    struct mr_error err;

    for (int run = 0; run < 2; run++) {
        ds_collect(d, mr_text_file_stream(ds_begin(d, MR_SECONDS(2), "/cp"), "/in"));
        if (run == 0) {
            advance_ms(d, 10);
            write_number(d, "/in", 1);
            ds_fail_at(d, "ran", 0);
            CHECK_FAILS(ds_run(d, 1, &err), &err, MR_INTERNAL, "killed at");
            CHECK_OK(mr_env_unlink(mr_sim_env(ds_sim(d)), "/in/1", NULL), NULL);
        } else {
            CHECK_FAILS(ds_run(d, 1, &err), &err, MR_DATA_LOSS, "/in/1");
        }
    }
    ds_free(d);
}

/* File n has n times "a"; one appears after each batch, and two while the program is down. */
struct drip {
    struct ds *d;
    int next;
    uint64_t last_batch;
};

static void drip_one(struct drip *drip)
{
    char name[32], text[128] = "";

    if (drip->next > 30)
        return;
    snprintf(name, sizeof(name), "%d", drip->next);
    for (int i = 0; i < drip->next; i++)
        strcat(text, "a\n");
    CHECK_OK(mr_durable_mkdirs(mr_sim_env(ds_sim(drip->d)), "/in", NULL), NULL);
    CHECK_OK(
        mr_durable_put(mr_sim_env(ds_sim(drip->d)), "/in", name, text, strlen(text), false, NULL),
        NULL);
    drip->next++;
}

static enum mr_status drip_after_batch(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                       struct mr_error *err)
{
    struct drip *drip = arg;

    (void)batch_time_ms;
    (void)err;
    drip->last_batch = mr_rdd_batch_id(rdd);
    drip_one(drip);
    return MR_OK;
}

static void build_drip(struct drip *drip)
{
    struct mr_dstream *lines = mr_text_file_stream(ds_begin(drip->d, MR_SECONDS(1), "/cp"), "/in");

    ds_collect(drip->d, mr_update_state_by_key(mr_map_to_pair(lines, MR_COUNT), "sums", MR_SUM));
    mr_foreach_rdd(lines, drip_after_batch, drip);
}

TEST(V171_sums_survive_repeated_failures)
{
    static const char *const points[] = {"planned", "ran", "staged", "published", "committed"};
    struct drip drip = {ds_new(t, "value VARCHAR"), 1, 0};
    struct mr_error err;
    const char *output;
    int64_t sum = 0;

    for (unsigned failure = 0; drip.next <= 30; failure++) {
        build_drip(&drip);
        ds_fail_at(drip.d, points[failure % 5], drip.last_batch + 3);
        CHECK_FAILS(ds_run(drip.d, 100, &err), &err, MR_INTERNAL, "killed at");
        for (int i = 0; i < 2; i++) {
            advance_ms(drip.d, 1300);
            drip_one(&drip);
        }
    }
    build_drip(&drip);
    ds_must_run(drip.d, 8);
    /* Every output is a sum 1 + 2 + ... + n, growing; the last one is that of all files. */
    output = ds_output(drip.d, false);
    for (const char *at = output; (at = strstr(at, "a:")) != NULL; at++) {
        int64_t value = strtoll(at + 2, NULL, 10), n = 0;

        while (n * (n + 1) / 2 < value)
            n++;
        CHECK_EQ_INT(n * (n + 1) / 2, value);
        CHECK(value >= sum);
        sum = value;
    }
    CHECK_EQ_INT(sum, 465);
    ds_free(drip.d);
}

/* ---- text files out ---- */

static const char *read_file(struct ds *d, const char *path)
{
    static char text[4096];
    char *data = NULL;
    size_t size = 0;

    if (mr_durable_get(mr_sim_env(ds_sim(d)), path, sizeof(text) - 1, &data, &size, NULL) != MR_OK)
        return NULL;
    snprintf(text, sizeof(text), "%s", data);
    mr_text_free(data);
    return text;
}

static bool count_entry(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)name;
    (void)kind;
    (*(size_t *)arg)++;
    return true;
}

static size_t entries_of(struct ds *d, const char *dir)
{
    size_t count = 0;

    if (mr_env_list(mr_sim_env(ds_sim(d)), dir, count_entry, &count, NULL) != MR_OK)
        return 0;
    return count;
}

static const char *batch_path(struct ds *d, int64_t after_ms, const char *name)
{
    static char path[256];
    static int64_t zero_ms;

    if (after_ms == 0)
        zero_ms = now_ms(d);
    snprintf(path, sizeof(path), "/out/counts-%lld.txt%s%s", (long long)(zero_ms + after_ms),
             name[0] != '\0' ? "/" : "", name);
    return path;
}

static void build_saved(struct ds *d)
{
    ds_begin(d, MR_SECONDS(1), "/cp");
    mr_save_as_text_files(mr_reduce_by_key(ds_stream(d), MR_SUM), "/out/counts", "txt");
}

TEST(V158_each_batch_is_a_directory_and_an_empty_one_has_an_empty_part)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");

    batch_path(d, 0, "");
    ds_input(d, "b:2,a:1,b:3 | ");
    build_saved(d);
    ds_must_run(d, 2);
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00000")), "(a,1)\n(b,5)\n");
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "_SUCCESS")), "");
    CHECK_EQ_UINT(entries_of(d, batch_path(d, 1000, "")), 2);
    CHECK_EQ_UINT(entries_of(d, batch_path(d, 2000, "")), 2);
    CHECK_EQ_STR(read_file(d, batch_path(d, 2000, "part-00000")), "");
    ds_free(d);
}

TEST(V158_a_batch_that_runs_again_overwrites_its_directory)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};

    for (size_t point = 0; point < 4; point++) {
        struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
        struct mr_error err;
        bool published = strcmp(points[point], "published") == 0;

        batch_path(d, 0, "");
        ds_input(d, "b:2,a:1,b:3 | c:1");
        build_saved(d);
        ds_fail_at(d, points[point], 0);
        CHECK_FAILS(ds_run(d, 1, &err), &err, MR_INTERNAL, "killed at");
        CHECK_EQ_INT(read_file(d, batch_path(d, 1000, "_SUCCESS")) != NULL, published);
        build_saved(d);
        ds_must_run(d, 2);
        CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00000")), "(a,1)\n(b,5)\n");
        CHECK_EQ_UINT(entries_of(d, batch_path(d, 1000, "")), 2);
        CHECK_EQ_STR(read_file(d, batch_path(d, 2000, "part-00000")), "(c,1)\n");
        ds_free(d);
    }
}

TEST(parts_of_another_run_under_the_same_time_are_removed)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_env *env = mr_sim_env(ds_sim(d));

    batch_path(d, 0, "");
    CHECK_OK(mr_durable_mkdirs(env, batch_path(d, 1000, ""), NULL), NULL);
    CHECK_OK(mr_durable_put(env, batch_path(d, 1000, ""), "part-00007", "old\n", 4, false, NULL),
             NULL);
    ds_input(d, "a:1");
    build_saved(d);
    ds_must_run(d, 1);
    CHECK_EQ_UINT(entries_of(d, batch_path(d, 1000, "")), 2);
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00000")), "(a,1)\n");
    ds_free(d);
}

TEST(V332_directories_are_named_by_prefix_time_and_suffix)
{
    static const struct {
        const char *prefix, *suffix, *expected;
    } rows[] = {
        {"spark", NULL, "spark-12345678910"},
        {"spark", "tmp", "spark-12345678910.tmp"},
        {"", "", "12345678910"},
        {NULL, "tmp", "12345678910.tmp"},
    };

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char *name = mr__batch_dir(rows[i].prefix, rows[i].suffix, INT64_C(12345678910));
        CHECK_EQ_STR(name, rows[i].expected);
        mr_free(name);
    }
}

/* ---- print ---- */

/* What a program prints: standard output goes to a file meanwhile. */
static const char *printed(struct test *t, const int64_t *values, size_t count, int rows)
{
    static char text[4096];
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("test", 10);
    const char *path = test_path(t, "stdout");
    int saved;
    FILE *file;
    size_t size;

    mr_queue_push_ints(queue, values, count);
    mr_print(mr_map_to_pair(mr_queue_stream(ctx, queue, true), MR_SQL("'k' || value, value")),
             rows);
    mr_context_set(ctx, "batches_max", "1");
    fflush(stdout);
    saved = dup(1);
    CHECK_NOT_NULL(freopen(path, "w", stdout));
    CHECK_EQ_INT(mr_context_main(ctx), 0);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    mr_queue_free(queue);
    file = fopen(path, "r");
    CHECK_NOT_NULL(file);
    size = fread(text, 1, sizeof(text) - 1, file);
    text[size] = '\0';
    fclose(file);
    return text;
}

/* The time differs from run to run: it is checked to be a number and cut out. */
static const char *without_time(const char *text)
{
    static char out[4096];
    const char *time = strstr(text, "Time: ");

    CHECK_NOT_NULL(time);
    CHECK(strtoll(time + 6, NULL, 10) > 0);
    snprintf(out, sizeof(out), "%.*s%s", (int)(time + 6 - text), text, strstr(time, " ms"));
    return out;
}

#define RULE "-------------------------------------------\n"

TEST(V331_print_shows_the_first_rows_and_says_when_there_are_more)
{
    const int64_t values[] = {1, 2, 3, 4};

    CHECK_EQ_STR(without_time(printed(t, values, 4, 3)),
                 RULE "Time:  ms\n" RULE "(k1,1)\n(k2,2)\n(k3,3)\n...\n\n");
    CHECK_EQ_STR(without_time(printed(t, values, 3, 3)),
                 RULE "Time:  ms\n" RULE "(k1,1)\n(k2,2)\n(k3,3)\n\n");
    CHECK_EQ_STR(without_time(printed(t, values, 0, 10)), RULE "Time:  ms\n" RULE "\n");
}

/* ---- foreachRDD ---- */

struct seen {
    uint64_t batch_ids[8];
    int64_t times[8];
    size_t count;
    int fail_left;
};

static enum mr_status watch(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                            struct mr_error *err)
{
    struct seen *seen = arg;

    CHECK(seen->count < 8);
    seen->batch_ids[seen->count] = mr_rdd_batch_id(rdd);
    seen->times[seen->count++] = batch_time_ms;
    if (mr_rdd_count(rdd) > 0 && seen->fail_left-- > 0) {
        mr_error_set(err, __FILE__, __LINE__, MR_USER, "the table is locked");
        return MR_USER;
    }
    return MR_OK;
}

TEST(foreach_rdd_that_fails_is_called_again_with_the_same_batch)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct seen seen = {.fail_left = 2};
    struct mr_dstream *numbers;

    ds_input(d, "1,2 | 3");
    ds_begin(d, MR_SECONDS(1), "/cp");
    numbers = ds_stream(d);
    ds_collect(d, numbers);
    mr_foreach_rdd(numbers, watch, &seen);
    ds_must_run(d, 2);
    CHECK_EQ_UINT(seen.count, 4);
    CHECK_EQ_UINT(seen.batch_ids[0], seen.batch_ids[2]);
    CHECK_EQ_INT(seen.times[0], seen.times[2]);
    CHECK_EQ_UINT(seen.batch_ids[3], seen.batch_ids[2] + 1);
    CHECK_EQ_STR(ds_output(d, false), "1,2 | 3");
    ds_free(d);
}

TEST(outputs_run_in_the_order_of_their_registration)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct seen first = {0}, second = {.fail_left = 100};
    struct mr_dstream *numbers;
    struct mr_error err;

    ds_input(d, "1");
    ds_begin(d, MR_SECONDS(1), NULL);
    numbers = ds_stream(d);
    mr_foreach_rdd(numbers, watch, &first);
    mr_context_set(numbers->ctx, "retries", "0");
    mr_foreach_rdd(numbers, watch, &second);
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_USER, "the table is locked");
    CHECK_EQ_UINT(first.count, 1);
    CHECK_EQ_UINT(second.count, 1);
    ds_free(d);
}
