/*
 * Inputs and outputs of DStreams: queues, constant streams, files out, print, foreachRDD.
 */
#include "support/dstream.h"

#include "data/object_file.h"
#include "env/sim.h"

#include <millrace/ext/durable.h>
#include <millrace/kafka.h>
#include <millrace/rdd.h>

#include <stdlib.h>
#include <unistd.h>

/* ---- queues ---- */

static void push_three(struct mr_queue *queue)
{
    const int64_t values[3][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};

    for (size_t i = 0; i < 3; i++)
        mr_queue_push_ints(queue, values[i], 3);
}

/* Pushes what `left` says after each batch; groups of numbers, 0 ends a group. */
struct pusher {
    struct mr_queue *queue;
    const int64_t *left; /* ends with two zeros */
};

static void push_group(struct pusher *pusher)
{
    for (; *pusher->left != 0; pusher->left++)
        mr_queue_push_ints(pusher->queue, pusher->left, 1);
    if (pusher->left[1] != 0)
        pusher->left++;
}

static enum mr_status push_after(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                                 struct mr_error *err)
{
    (void)rdd;
    (void)batch_time_ms;
    (void)err;
    push_group(arg);
    return MR_OK;
}

TEST(V184_two_enqueued_per_tick_come_out_one_per_batch)
{
    static const int64_t values[] = {1, 2, 0, 3, 4, 0, 5, 0, 0};
    struct ds *d = ds_new(t, "value BIGINT");
    struct pusher pusher = {mr_queue_new("value BIGINT"), values};
    struct mr_dstream *numbers =
        mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), pusher.queue, true);

    push_group(&pusher);
    ds_collect(d, numbers);
    mr_foreach_rdd(numbers, push_after, &pusher);
    ds_must_run(d, 7);
    CHECK_EQ_STR(ds_output(d, false), "1 | 2 | 3 | 4 | 5 |  | ");
    ds_free(d);
    mr_queue_free(pusher.queue);
}

TEST(V185_a_queue_gives_all_it_has_at_each_tick)
{
    static const int64_t values[] = {1, 2, 3, 0, 4, 5, 0, 0};
    struct ds *d = ds_new(t, "value BIGINT");
    struct pusher pusher = {mr_queue_new("value BIGINT"), values};
    struct mr_dstream *numbers =
        mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), pusher.queue, false);

    push_group(&pusher);
    ds_collect(d, numbers);
    mr_foreach_rdd(numbers, push_after, &pusher);
    ds_must_run(d, 3);
    CHECK_EQ_STR(ds_output(d, false), "1,2,3 | 4,5 | ");
    ds_free(d);
    mr_queue_free(pusher.queue);
}

TEST(V187_a_queue_gives_one_dataset_per_batch)
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

/* One row. */
static struct mr_batch *number(int64_t value)
{
    struct mr_schema *schema;
    struct mr_batch_builder *builder;
    struct mr_batch *batch;

    CHECK_OK(mr_schema_parse("value BIGINT", 12, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_batch_builder_int(builder, 0, value);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

TEST(an_empty_queue_gives_its_default_and_new_entries_come_before_it)
{
    for (int one_at_a_time = 0; one_at_a_time < 2; one_at_a_time++) {
        static const int64_t values[] = {1, 0, 2, 0, 0};
        struct ds *d = ds_new(t, "value BIGINT");
        struct pusher pusher = {mr_queue_new("value BIGINT"), values};
        struct mr_batch *nine = number(9);
        struct mr_dstream *numbers =
            mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), pusher.queue, one_at_a_time == 1);

        mr_queue_set_default(pusher.queue, nine);
        mr_batch_unref(nine);
        push_group(&pusher);
        ds_collect(d, numbers);
        mr_foreach_rdd(numbers, push_after, &pusher);
        ds_must_run(d, 4);
        CHECK_EQ_STR(ds_output(d, false), "1 | 2 | 9 | 9");
        ds_free(d);
        mr_queue_free(pusher.queue);
    }
}

TEST(a_batch_without_a_dataset_has_no_output_and_an_empty_one_has)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = ds_begin(d, MR_SECONDS(1), NULL);

    mr_queue_push_ints(queue, (const int64_t[]){1}, 1);
    mr_queue_push_absent(queue);
    mr_queue_push_ints(queue, NULL, 0);
    mr_queue_push_ints(queue, (const int64_t[]){2}, 1);
    ds_collect(d, mr_map(mr_queue_stream(ctx, queue, true), MR_SQL("value + 10")));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, false), "11 |  | 12");
    ds_free(d);
    mr_queue_free(queue);
}

TEST(absent_entries_add_nothing_to_all_that_a_queue_has)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");

    mr_queue_push_absent(queue);
    mr_queue_push_ints(queue, (const int64_t[]){1, 2}, 2);
    mr_queue_push_absent(queue);
    mr_queue_push_ints(queue, (const int64_t[]){3}, 1);
    ds_collect(d, mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), queue, false));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "1,2,3 | ");
    ds_free(d);
    mr_queue_free(queue);
}

TEST(a_queue_cannot_be_used_with_a_checkpoint)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_error err;

    ds_collect(d, mr_queue_stream(ds_begin(d, MR_SECONDS(1), "/cp"), queue, true));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_CONFIG, "doesn't support checkpointing");
    ds_free(d);
    mr_queue_free(queue);
}

TEST(a_batch_of_other_columns_in_a_queue_is_an_error)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value VARCHAR");
    struct mr_batch *one = number(1);
    struct mr_error err;

    mr_queue_push(queue, one);
    mr_batch_unref(one);
    ds_collect(d, mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), queue, true));
    CHECK_FAILS(ds_run(d, 1, &err), &err, MR_NOMEM, "do not fit the columns");
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

/* ---- constant streams ---- */

TEST(a_constant_stream_gives_its_rows_in_every_batch)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_batch *seven = number(7);

    for (int run = 0; run < 2; run++) {
        ds_collect(d, mr_constant_stream(ds_begin(d, MR_SECONDS(1), "/cp"), seven));
        ds_must_run(d, 2);
    }
    CHECK_EQ_STR(ds_output(d, false), "7 | 7 | 7 | 7");
    mr_batch_unref(seven);
    ds_free(d);
}

TEST(a_batch_that_runs_again_with_other_constant_rows_is_refused)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;

    for (int run = 0; run < 2; run++) {
        struct mr_batch *rows = number(run);

        ds_collect(d, mr_constant_stream(ds_begin(d, MR_SECONDS(1), "/cp"), rows));
        mr_batch_unref(rows);
        if (run == 0)
            ds_fail_at(d, "ran", 0);
        CHECK_FAILS(ds_run(d, 1, &err), &err, run == 0 ? MR_INTERNAL : MR_SOURCE_CHANGED,
                    run == 0 ? "killed at" : "constant stream");
    }
    ds_free(d);
}

TEST(a_constant_stream_without_rows_is_an_argument_error)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;

    CHECK_NULL(mr_constant_stream(ds_begin(d, MR_SECONDS(1), NULL), NULL));
    CHECK_FAILS(mr_context_error(ds_context(d), &err), &err, MR_CONFIG, "there are no rows");
    ds_free(d);
}

/* ---- direct Kafka streams, without a broker ---- */

static void refuse_direct(struct test *t, const struct mr_kafka_direct *spec, const char *text)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;

    CHECK_NULL(mr_kafka_direct_stream(ds_begin(d, MR_SECONDS(1), NULL), spec));
    CHECK_FAILS(mr_context_error(ds_context(d), &err), &err, MR_CONFIG, text);
    ds_free(d);
}

TEST(a_direct_stream_says_what_is_missing)
{
    struct mr_kafka_direct spec = {.brokers = "localhost:9092", .topics = "a"};

    refuse_direct(t, NULL, "no spec");
    refuse_direct(t, &(struct mr_kafka_direct){.topics = "a"}, "no brokers");
    refuse_direct(t, &(struct mr_kafka_direct){.brokers = "a:1"}, "nothing to read; give topics");
    spec.strategy = MR_KAFKA_ASSIGN;
    refuse_direct(t, &spec, "nothing to read; give partitions");
    spec.strategy = MR_KAFKA_SUBSCRIBE;
    spec.reset = MR_KAFKA_RESET_NONE;
    refuse_direct(t, &spec, "not said where to begin");
    spec.reset = MR_KAFKA_LATEST;
    spec.options = (const char *const[]){"poll_timeout", NULL};
    refuse_direct(t, &spec, "'poll_timeout' has no value");
}

TEST(ranges_have_spark_s_text)
{
    struct mr_kafka_range range = {"t", 3, 10, 20};
    char text[128] = "";
    size_t size = mr_kafka_range_print(&range, text, sizeof(text));

    CHECK_EQ_UINT(size, strlen(text));
    CHECK_EQ_STR(text, "OffsetRange(topic: 't', partition: 3, range: [10 -> 20])");
}

#ifdef MR_WITH_KAFKA
TEST(a_direct_stream_without_group_commits_nothing_and_has_ranges_only_in_a_batch)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_kafka_direct spec = {.brokers = "localhost:9092", .topics = "a"};
    struct mr_dstream *numbers, *records;
    struct mr_kafka_range range = {"a", 0, 0, 1}, *ranges;
    struct mr_error err;
    size_t count;

    ds_begin(d, MR_SECONDS(1), NULL);
    numbers = ds_stream(d);
    records = mr_kafka_direct_stream(ds_context(d), &spec);
    CHECK_NOT_NULL(records);
    CHECK_FAILS(mr_kafka_commit_async(records, &range, 1, NULL, NULL, &err), &err, MR_CONFIG,
                "no consumer group");
    CHECK_FAILS(mr_kafka_offset_ranges(records, &ranges, &count, &err), &err, MR_STATE,
                "inside a function of foreach_rdd");
    CHECK_FAILS(mr_kafka_offset_ranges(numbers, &ranges, &count, &err), &err, MR_CONFIG,
                "no direct Kafka stream");
    CHECK_OK(mr_context_error(ds_context(d), &err), &err);
    ds_free(d);
}
#else
TEST(a_build_without_kafka_says_so)
{
    refuse_direct(t, &(struct mr_kafka_direct){.brokers = "a:1", .topics = "a"},
                  "no connector 'kafka'");
}
#endif

/* ---- files out ---- */

static int64_t now_ms(struct ds *d)
{
    return mr_env_wall_us(mr_sim_env(ds_sim(d))) / 1000;
}

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

/* Four partitions with a partition for each pushed batch, all at once. */
static void build_partitions(struct ds *d, struct mr_queue *queue, bool objects)
{
    struct mr_dstream *stream = mr_queue_stream(ds_begin(d, MR_SECONDS(1), NULL), queue, false);

    mr_queue_push_ints(queue, (const int64_t[]){1, 2}, 2);
    mr_queue_push_ints(queue, NULL, 0);
    mr_queue_push_ints(queue, (const int64_t[]){3}, 1);
    mr_queue_push_ints(queue, NULL, 0);
    if (objects)
        mr_save_as_object_files(stream, "/out/counts", "txt");
    else
        mr_save_as_text_files(stream, "/out/counts", "txt");
}

TEST(every_partition_has_its_part_also_an_empty_one)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");

    batch_path(d, 0, "");
    build_partitions(d, queue, false);
    ds_must_run(d, 2);
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00000")), "1\n2\n");
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00001")), "");
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00002")), "3\n");
    CHECK_EQ_STR(read_file(d, batch_path(d, 1000, "part-00003")), "");
    CHECK_EQ_UINT(entries_of(d, batch_path(d, 1000, "")), 5);
    /* No partitions, no parts. */
    CHECK_EQ_UINT(entries_of(d, batch_path(d, 2000, "")), 1);
    ds_free(d);
    mr_queue_free(queue);
}

static void check_object_file(struct ds *d, const char *path, const char *expected)
{
    struct mr_object_reader *reader = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err;
    char text[256] = "";

    CHECK_OK(mr_object_open(mr_sim_env(ds_sim(d)), path, &reader, &err), &err);
    for (;;) {
        CHECK_OK(mr_object_next(reader, &batch, &err), &err);
        if (batch == NULL)
            break;
        for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++)
            snprintf(text + strlen(text), sizeof(text) - strlen(text), "%lld;",
                     (long long)mr_row_int(&row, 0));
        mr_batch_unref(batch);
    }
    mr_object_close(reader);
    CHECK_EQ_STR(text, expected);
}

TEST(object_files_have_rows_and_columns)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_queue *queue = mr_queue_new("value BIGINT");

    batch_path(d, 0, "");
    build_partitions(d, queue, true);
    ds_must_run(d, 1);
    check_object_file(d, batch_path(d, 1000, "part-00000"), "1;2;");
    check_object_file(d, batch_path(d, 1000, "part-00001"), "");
    check_object_file(d, batch_path(d, 1000, "part-00002"), "3;");
    CHECK_NOT_NULL(read_file(d, batch_path(d, 1000, "_SUCCESS")));
    ds_free(d);
    mr_queue_free(queue);
}

static void push_pair(struct mr_queue *queue, const char *key, int64_t value)
{
    struct mr_schema *schema;
    struct mr_batch_builder *builder;
    struct mr_batch *batch;

    CHECK_OK(mr_schema_parse("key VARCHAR, value BIGINT", 25, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_batch_builder_text(builder, 0, key, strlen(key));
    mr_batch_builder_int(builder, 1, value);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    mr_queue_push(queue, batch);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

static bool keep_name(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)kind;
    snprintf(arg, 256, "%s", name);
    return true;
}

static const char *only_entry(const char *dir)
{
    static char name[256];

    name[0] = '\0';
    CHECK_OK(mr_env_list(mr_env_posix(), dir, keep_name, name, NULL), NULL);
    return name[0] != '\0' ? name : NULL;
}

/* The rows of two batches, counted. */
static enum mr_status sum_rows(struct mr_rdd *rdd, int64_t batch_time_ms, void *arg,
                               struct mr_error *err)
{
    int64_t *sum = arg;

    struct mr_batch *rows;

    (void)batch_time_ms;
    MR_TRY(mr_rdd_collect(rdd, &rows, err));
    for (struct mr_row row = {rows, 0}; row.index < mr_batch_row_count(rows); row.index++)
        *sum += mr_row_int(&row, 0);
    mr_batch_unref(rows);
    return MR_OK;
}

TEST(parquet_files_of_a_stream_are_read_by_a_stream)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    struct mr_context *ctx = mr_context_new("writes", 10);
    char prefix[512], glob[520];
    struct mr_file_stream files = {
        .dir = glob, .format = "parquet", .columns = "value BIGINT", .all_files = true};
    struct mr_error err;
    int64_t sum = 0;

    snprintf(prefix, sizeof(prefix), "%s", test_path(t, "out"));
    snprintf(glob, sizeof(glob), "%s-*", prefix);
    mr_queue_push_ints(queue, (const int64_t[]){1, 2}, 2);
    mr_queue_push_ints(queue, (const int64_t[]){40}, 1);
    mr_save_as_parquet_files(mr_queue_stream(ctx, queue, true), prefix, NULL);
    mr_context_set(ctx, "batches_max", "2");
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    ctx = mr_context_new("reads", 10);
    mr_foreach_rdd(mr_file_stream(ctx, &files), sum_rows, &sum);
    mr_context_set(ctx, "batches_max", "2");
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    CHECK_EQ_INT(sum, 43);
    mr_queue_free(queue);
}

TEST(object_files_of_a_stream_are_a_dataset)
{
    struct mr_queue *queue = mr_queue_new("key VARCHAR, value BIGINT");
    struct mr_context *ctx = mr_context_new("writes", 10);
    struct mr_session *session = NULL;
    struct mr_batch *batch = NULL;
    char prefix[512];
    const char *dir = NULL;
    struct mr_error err;

    snprintf(prefix, sizeof(prefix), "%s", test_path(t, "out"));
    push_pair(queue, "a", 1);
    push_pair(queue, "b", 2);
    mr_save_as_object_files(mr_queue_stream(ctx, queue, false), prefix, NULL);
    mr_context_set(ctx, "batches_max", "1");
    CHECK_OK(mr_context_start(ctx, &err), &err);
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    mr_queue_free(queue);
    dir = only_entry(t->dir);
    CHECK_NOT_NULL(dir);
    CHECK_OK(mr_session_new(NULL, &session, &err), &err);
    CHECK_OK(mr_rdd_collect(mr_rdd_object_file(session, test_path(t, dir)), &batch, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(batch), 2);
    CHECK_EQ_INT(mr_row_int(&(struct mr_row){batch, 1}, 1), 2);
    mr_batch_unref(batch);
    mr_session_free(session);
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
    bool empty;

    CHECK(seen->count < 8);
    seen->batch_ids[seen->count] = mr_rdd_batch_id(rdd);
    seen->times[seen->count++] = batch_time_ms;
    MR_TRY(mr_rdd_is_empty(rdd, &empty, err));
    if (!empty && seen->fail_left-- > 0) {
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
