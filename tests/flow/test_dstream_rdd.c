/*
 * Datasets inside of streams: foreach_rdd, transform, transform_with, transform_all.
 */
#include "support/dstream.h"
#include "support/rdd.h"

#include <millrace/ext/memory.h>

/* ---- transform ---- */

static struct mr_rdd *as_texts(struct mr_rdd *const *inputs, size_t count, int64_t time_ms,
                               void *arg)
{
    (void)count, (void)time_ms, (void)arg;
    return mr_rdd_map(inputs[0], MR_SQL("value::VARCHAR"));
}

static struct mr_rdd *sorted(struct mr_rdd *const *inputs, size_t count, int64_t time_ms, void *arg)
{
    (void)count, (void)time_ms, (void)arg;
    return mr_rdd_sort_by_key(inputs[0], true);
}

static struct mr_rdd *joined(struct mr_rdd *const *inputs, size_t count, int64_t time_ms, void *arg)
{
    (void)count, (void)time_ms, (void)arg;
    return mr_rdd_join(inputs[0], inputs[1]);
}

static struct mr_rdd *all_of(struct mr_rdd *const *inputs, size_t count, int64_t time_ms, void *arg)
{
    struct mr_rdd *all = inputs[0];

    (void)time_ms, (void)arg;
    for (size_t i = 1; i < count; i++)
        all = mr_rdd_union(all, inputs[i]);
    return all;
}

static void transform_gives(struct test *t, struct mr_fn fn)
{
    struct ds *d = ds_new(t, "value BIGINT");

    ds_input(d, "1,2,3,4 | 5,6,7,8 | 9,10,11,12");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_transform(ds_stream(d), fn));
    ds_must_run(d, 3);
    CHECK_EQ_STR(ds_output(d, false), "1,2,3,4 | 5,6,7,8 | 9,10,11,12");
    ds_free(d);
}

TEST(V26_transform_maps_the_dataset_of_each_batch)
{
    transform_gives(t, MR_FN_AS(as_texts, "value VARCHAR"));
    transform_gives(t, MR_SQL("SELECT value::VARCHAR AS value FROM input"));
    transform_gives(t, (struct mr_fn){.kind = MR_FN_KIND_SQL,
                                      .name = "SELECT value FROM input",
                                      .type = "value VARCHAR"});
}

TEST(V46_transform_sorts_by_key)
{
    for (unsigned workers = 1; workers <= 4; workers += 3) {
        struct ds *d = ds_new(t, "key BIGINT, value BIGINT");

        ds_input(d, "3:5,1:5,4:5,2:5 | 2:5,3:5,4:5,1:5");
        ds_begin(d, MR_SECONDS(1), NULL);
        mr__context_config(ds_context(d))->workers = workers;
        ds_collect(d, mr_transform(ds_stream(d), MR_FN(sorted)));
        ds_must_run(d, 2);
        CHECK_EQ_STR(ds_output(d, false), "1:5,2:5,3:5,4:5 | 1:5,2:5,3:5,4:5");
        ds_free(d);
    }
}

/* The input's elements with a sign that says the stream: +1 in a, -1 in b. */
static void two_streams(struct test *t, struct mr_fn join, const char *expected)
{
    struct ds *d = ds_new(t, "side BIGINT, key VARCHAR");
    struct mr_dstream *a, *b, *pairs;

    ds_input(d, "1:a,1:b,2:a,2:b | 1:a,1:\"\",2:b,2:\"\" | 1:\"\" | 2:\"\"");
    ds_begin(d, MR_SECONDS(1), NULL);
    pairs = ds_stream(d);
    a = mr_map_to_pair(mr_filter(pairs, MR_SQL("side = 1")), MR_SQL("key, 1"));
    b = mr_map_to_pair(mr_filter(pairs, MR_SQL("side = 2")), MR_SQL("key, 'x'"));
    ds_collect(d, mr_transform_with(a, b, join));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, true), ds_tidy(d, expected, true));
    ds_free(d);
}

TEST(V29_transform_with_joins_two_streams)
{
    static const char columns[] = "key VARCHAR, value STRUCT(\"left\" BIGINT, \"right\" VARCHAR)";

    two_streams(t, MR_FN_AS(joined, columns),
                "a:{left: 1, right: x},b:{left: 1, right: x} | \"\":{left: 1, right: x} |  | ");
    two_streams(t, MR_SQL("SELECT key, a.value AS l, b.value AS r FROM a JOIN b USING (key)"),
                "a:1:x,b:1:x | \"\":1:x |  | ");
}

TEST(V31_transform_all_unites_three_streams)
{
    static const char sql[] = "SELECT * FROM input_0 UNION ALL SELECT * FROM input_1 "
                              "UNION ALL SELECT * FROM input_2";
    struct mr_fn forms[] = {MR_FN(all_of), MR_SQL(sql)};

    for (size_t i = 0; i < 2; i++) {
        struct ds *d = ds_new(t, "value BIGINT");
        struct mr_dstream *streams[3];

        ds_input(d, "1,2,3,4 | 101,102,103,104 | 201,202,203,204");
        ds_begin(d, MR_SECONDS(1), NULL);
        streams[0] = ds_stream(d);
        streams[1] = mr_map(streams[0], MR_SQL("value + 4"));
        streams[2] = mr_map(streams[0], MR_SQL("value + 8"));
        ds_collect(d, mr_transform_all(streams, 3, forms[i]));
        ds_must_run(d, 3);
        CHECK_EQ_STR(ds_output(d, false),
                     "1,2,3,4,5,6,7,8,9,10,11,12 | 101,102,103,104,105,106,107,108,109,110,111,112 "
                     "| 201,202,203,204,205,206,207,208,209,210,211,212");
        ds_free(d);
    }
}

TEST(V28_transform_of_a_batch_without_a_dataset_is_an_error)
{
    struct mr_queue *queue = mr_queue_new("value BIGINT");
    static const int64_t numbers[] = {1, 2, 3, 4};
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_context *ctx;
    struct mr_error err;

    mr_queue_push_ints(queue, numbers, 4);
    mr_queue_push_absent(queue);
    ctx = ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_transform(mr_queue_stream(ctx, queue, true), MR_FN_AS(as_texts, "value "
                                                                                     "VARCHAR")));
    mr_error_clear(&err);
    CHECK(ds_run(d, 2, &err) != MR_OK);
    CHECK_CONTAINS(err.text, "dataset");
    CHECK_EQ_STR(ds_output(d, false), "1,2,3,4");
    ds_free(d);
    mr_queue_free(queue);
}

static struct mr_rdd *nothing(struct mr_rdd *const *inputs, size_t count, int64_t time_ms,
                              void *arg)
{
    (void)inputs, (void)count, (void)time_ms, (void)arg;
    return NULL;
}

static void refused(struct test *t, struct mr_fn fn, enum mr_status status, const char *text)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_error err;

    ds_input(d, "1,2");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_transform(ds_stream(d), fn));
    mr_error_clear(&err);
    CHECK_FAILS(ds_run(d, 1, &err), &err, status, text);
    ds_free(d);
}

TEST(a_transform_that_returns_nothing_is_told_to_return_an_empty_dataset)
{
    refused(t, MR_FN(nothing), MR_USER,
            "'nothing' returned NULL; when there is nothing, return an "
            "empty dataset");
    refused(t, MR_FN(as_texts), MR_USER, "the columns value VARCHAR, not value BIGINT");
    refused(t, MR_FN(sorted), MR_CONFIG, "sort_by_key: the input is not pairs");
    refused(t, MR_SQL("SELECT valu FROM input"), MR_SQL_ERROR, "column 8 of the expression");
    refused(t, MR_SQL("SELECT valu FROM input"), MR_SQL_ERROR, "test_dstream_rdd.c:");
    refused(t, MR_SUM, MR_CONFIG, "MR_SQL with a whole SELECT");
}

/* A table of the program, another one from the third batch on. */
static struct mr_rdd *with_table(struct mr_rdd *const *inputs, size_t count, int64_t time_ms,
                                 void *arg)
{
    struct mr_rdd **tables = arg;
    static int call;

    (void)count, (void)time_ms;
    return mr_rdd_map_values(mr_rdd_join(inputs[0], tables[call++ / 2]), MR_SQL("value.\"right\""));
}

TEST(a_captured_dataset_may_be_replaced_between_batches)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct mr_rdd *tables[2];

    ds_input(d, "a:1 | b:1 | a:1 | b:1");
    ds_begin(d, MR_SECONDS(1), NULL);
    for (int i = 0; i < 2; i++) {
        struct mr_batch *rows =
            rdd_batch("key VARCHAR, value BIGINT", i == 0 ? "a:10, b:20" : "a:11, b:21");
        tables[i] = mr_rdd_parallelize(mr_context_session(ds_context(d)), rows, 1);
        mr_batch_unref(rows);
    }
    ds_collect(d, mr_transform(ds_stream(d), MR_FN_FULL(with_table, NULL, tables)));
    ds_must_run(d, 4);
    CHECK_EQ_STR(ds_output(d, false), "a:10 | b:20 | a:11 | b:21");
    ds_free(d);
}

TEST(a_transform_sees_the_partitions_of_its_input_and_gives_its_own)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_dstream *stream;

    ds_input(d, "1,2,3,4,5,6");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_show_partitions(d);
    stream = mr_transform(mr_repartition(ds_stream(d), 3), MR_FN(all_of));
    mr_dstream_set_partitions(stream, 3);
    ds_collect(d, stream);
    ds_must_run(d, 1);
    CHECK_EQ_STR(ds_output(d, false), "[1,4] [2,5] [3,6]");
    ds_free(d);
}

/* ---- foreach_rdd ---- */

struct seen {
    char text[512];
    struct mr_rdd *kept;
    uint64_t last_batch;
    int64_t last_time_ms;
};

static enum mr_status look(struct mr_rdd *rdd, int64_t time_ms, void *arg, struct mr_error *err)
{
    struct mr_rdd *sums = mr_rdd_reduce_by_key(rdd, MR_SUM);
    struct seen *seen = arg;

    (void)err;
    snprintf(seen->text + strlen(seen->text), sizeof(seen->text) - strlen(seen->text), "%s | ",
             rdd_sorted(sums));
    mr_rdd_unref(seen->kept);
    seen->kept = mr_rdd_ref(sums);
    seen->last_batch = mr_rdd_batch_id(sums);
    seen->last_time_ms = time_ms;
    return MR_OK;
}

TEST(foreach_rdd_computes_with_the_dataset_of_each_batch_and_may_keep_it)
{
    struct ds *d = ds_new(t, "key VARCHAR, value BIGINT");
    struct seen seen = {0};

    ds_input(d, "a:1,b:2,a:3 |  | b:5");
    ds_begin(d, MR_SECONDS(1), NULL);
    mr_foreach_rdd(ds_stream(d), look, &seen);
    ds_must_run(d, 3);
    CHECK_EQ_STR(seen.text, "a:4, b:2 |  | b:5 | ");
    CHECK_EQ_UINT(seen.last_batch, 2);
    CHECK_EQ_STR(rdd_rows(seen.kept), "b:5"); /* the context is gone */
    mr_rdd_unref(seen.kept);
    ds_free(d);
}

static enum mr_status put_partition(struct mr_rows *rows, void *arg, struct mr_error *err)
{
    char *text = arg;
    struct mr_task_info info;
    struct mr_row row;
    int64_t count = 0;

    (void)err;
    CHECK(mr_task_info(&info));
    while (mr_rows_next(rows, &row))
        count++;
    snprintf(text + strlen(text), 512 - strlen(text),
             "%" PRIu64 "/%u at %" PRId64 ": %" PRId64 "; ", info.batch_id, info.partition,
             info.batch_time_ms % 10000, count);
    return MR_OK;
}

static enum mr_status put_batch(struct mr_rdd *rdd, int64_t time_ms, void *arg,
                                struct mr_error *err)
{
    (void)time_ms;
    return mr_rdd_foreach_partition(rdd, put_partition, arg, err);
}

TEST(foreach_partition_knows_the_id_of_its_output)
{
    struct ds *d = ds_new(t, "value BIGINT");
    char text[512] = "";
    struct mr_task_info info;

    ds_input(d, "1,2,3 | 4");
    ds_begin(d, MR_SECONDS(1), NULL);
    mr_foreach_rdd(mr_repartition(ds_stream(d), 2), put_batch, text);
    ds_must_run(d, 2);
    CHECK_CONTAINS(text, "0/0 at ");
    CHECK_CONTAINS(text, ": 2; 0/1 at ");
    CHECK_CONTAINS(text, "1/0 at ");
    CHECK_CONTAINS(text, ": 1; 1/1 at ");
    CHECK(!mr_task_info(&info));
    ds_free(d);
}

static bool count_names(const char *name, enum mr_file_kind kind, void *arg)
{
    (void)name, (void)kind;
    (*(unsigned *)arg)++;
    return true;
}

static void show_task(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct mr_task_info info;

    (void)row, (void)arg;
    CHECK(mr_task_info(&info));
    mr_emit_int(out, (int64_t)info.batch_id * 10 + info.partition);
}

TEST(functions_of_a_stream_know_their_batch)
{
    struct ds *d = ds_new(t, "value BIGINT");
    struct mr_task_info info;

    ds_input(d, "1,2 | 3");
    ds_begin(d, MR_SECONDS(1), NULL);
    ds_collect(d, mr_map(ds_stream(d), MR_FN(show_task)));
    ds_must_run(d, 2);
    CHECK_EQ_STR(ds_output(d, false), "0,0 | 10");
    CHECK(!mr_task_info(&info));
    ds_free(d);
}

TEST(the_session_of_a_context_follows_its_settings)
{
    struct ds *d = ds_new(t, "value BIGINT");
    char rows[8192] = "1";
    struct mr_batch *batch;
    struct mr_rdd *rdd;
    struct mr_error err;
    int64_t count;
    unsigned names = 0;

    for (int i = 2; i < 1500; i++)
        snprintf(rows + strlen(rows), sizeof(rows) - strlen(rows), ", %d", i);
    ds_begin(d, MR_SECONDS(1), NULL);
    mr_context_set(ds_context(d), "stored_memory", "64 KiB");
    mr_context_set(ds_context(d), "spark.local.dir", "/spill");
    batch = rdd_batch("value BIGINT", rows);
    for (int i = 0; i < 20; i++) {
        rdd = mr_rdd_parallelize(mr_context_session(ds_context(d)), batch, 2);
        CHECK_OK(mr_rdd_count(mr_rdd_persist(rdd, MR_STORAGE_MEMORY_AND_DISK), &count, &err), &err);
        CHECK_EQ_INT(count, 1499);
    }
    mr_batch_unref(batch);
    CHECK_OK(mr_env_list(ds_context(d)->env, "/spill", count_names, &names, &err), &err);
    CHECK_EQ_UINT(names, 1);
    ds_free(d);
}

/* ---- SQL on a stream ---- */

static enum mr_status as_view(struct mr_rdd *rdd, int64_t time_ms, void *arg, struct mr_error *err)
{
    struct mr_session *session = mr_rdd_session(rdd);
    char *text = arg;

    (void)time_ms;
    MR_TRY(mr_rdd_create_view(rdd, "Words", err));
    snprintf(text + strlen(text), 512 - strlen(text), "%s | ",
             rdd_rows(mr_session_sql(session, "SELECT value, count(*) AS n FROM words GROUP BY "
                                              "value ORDER BY value")));
    return MR_OK;
}

TEST(each_batch_is_a_table_for_sql)
{
    struct ds *d = ds_new(t, "value VARCHAR");
    char text[512] = "";

    ds_input(d, "b,a,b | c");
    ds_begin(d, MR_SECONDS(1), NULL);
    mr_foreach_rdd(ds_stream(d), as_view, text);
    ds_must_run(d, 2);
    CHECK_EQ_STR(text, "a:1, b:2 | c:1 | ");
    ds_free(d);
}

static enum mr_status remember_words(struct mr_rdd *rdd, int64_t time_ms, void *arg,
                                     struct mr_error *err)
{
    (void)time_ms, (void)arg;
    return mr_rdd_create_view(mr_rdd_count_by_value(rdd), "counts", err);
}

TEST(another_thread_queries_the_newest_batch_while_batches_run)
{
    static const char *const words[] = {"a", "b", "a"};
    struct mr_queue *queue = mr_queue_new("value VARCHAR");
    struct mr_context *ctx = mr_context_new("queried", 5);
    struct mr_session *session;
    struct mr_error err;
    int seen = 0;

    for (int i = 0; i < 50; i++)
        mr_queue_push_texts(queue, words, 3);
    mr_context_set(ctx, "batches_max", "40");
    mr_context_set(ctx, "workers", "2");
    mr_foreach_rdd(mr_queue_stream(ctx, queue, true), remember_words, NULL);
    session = mr_context_session(ctx);
    CHECK_OK(mr_context_start(ctx, &err), &err);
    while (mr_context_state(ctx) == MR_CONTEXT_ACTIVE || seen == 0) {
        struct mr_rdd *rdd;

        CHECK_OK(mr_session_enter(session, &err), &err);
        rdd = mr_session_sql(session, "SELECT key, value FROM counts ORDER BY key");
        if (mr_rdd_error(rdd, &err) == MR_OK) { /* before the first batch there is no view */
            CHECK_EQ_STR(rdd_rows(rdd), "a:2, b:1");
            seen++;
        } else {
            CHECK_CONTAINS(err.text, "counts");
        }
        mr_session_leave(session);
    }
    CHECK_OK(mr_context_await(ctx, &err), &err);
    mr_context_free(ctx);
    mr_queue_free(queue);
}
