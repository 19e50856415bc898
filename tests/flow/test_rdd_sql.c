/*
 * SQL over datasets: a query over one, views of a session, queries from other threads while views
 * are replaced.
 */
#include "env/thread.h"
#include "support/rdd.h"

#include <stdatomic.h>

static struct mr_session *session_of(unsigned workers)
{
    struct mr_session_options options = {.workers = workers};
    struct mr_session *session = NULL;
    struct mr_error err;

    CHECK_OK(mr_session_new(&options, &session, &err), &err);
    return session;
}

static struct mr_rdd *pairs(struct mr_session *session, const char *text, uint32_t partitions)
{
    struct mr_batch *batch = rdd_batch("key VARCHAR, value BIGINT", text);
    struct mr_rdd *rdd = mr_rdd_parallelize(session, batch, partitions);

    mr_batch_unref(batch);
    return rdd;
}

static void view(struct mr_rdd *rdd, const char *name)
{
    struct mr_error err;

    CHECK_OK(mr_rdd_create_view(rdd, name, &err), &err);
}

TEST(a_query_sees_all_partitions_as_one_table)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *some = pairs(session, "b:1, a:2, b:3, c:4", 3);
    struct mr_rdd *sums = mr_rdd_sql(
        some, "SELECT key, sum(value)::BIGINT AS total FROM input GROUP BY key ORDER BY key");

    CHECK_EQ_UINT(mr_rdd_partition_count(sums), 1);
    CHECK_EQ_STR(rdd_rows(sums), "a:2, b:4, c:4");
    CHECK_EQ_STR(rdd_rows(mr_rdd_filter(sums, MR_SQL("total > 3"))), "b:4, c:4");
    CHECK_EQ_STR(rdd_rows(mr_rdd_sql(mr_rdd_repartition(some, 5), "SELECT count(*) FROM input")),
                 "4");
    CHECK_EQ_STR(
        rdd_rows(mr_rdd_sql(mr_rdd_empty(session, "value BIGINT"), "SELECT count(*) FROM input")),
        "0");
    mr_session_free(session);
}

TEST(a_mistake_in_sql_says_where_it_is)
{
    struct mr_session *session = session_of(1);
    struct mr_rdd *some = pairs(session, "a:1", 1);
    struct mr_error err;

    CHECK_FAILS(mr_rdd_error(mr_rdd_sql(some, "SELECT key,\n       valu FROM input"), &err), &err,
                MR_SQL_ERROR, "(line 2, column 8 of the expression)");
    CHECK_FAILS(mr_rdd_error(mr_session_sql(session, "SELECT 1 FROM nowhere"), &err), &err,
                MR_SQL_ERROR, "nowhere");
    CHECK_FAILS(mr_rdd_error(mr_session_sql(session, "SELEC 1"), &err), &err, MR_SQL_ERROR,
                "column 1 of the expression");
    CHECK_FAILS(mr_rdd_error(mr_session_sql(session, "SELECT 'x'::BIGINT"), &err), &err,
                MR_BAD_DATA, NULL);
    CHECK_FAILS(mr_rdd_error(mr_session_sql(session, NULL), &err), &err, MR_CONFIG, "no SQL");
    mr_session_free(session);
}

TEST(views_are_tables_whatever_the_case_of_their_names)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *result;
    struct mr_error err;

    view(pairs(session, "a:1, b:2", 2), "Left");
    view(pairs(session, "b:3, c:4", 1), "right side");
    CHECK_EQ_STR(rdd_rows(mr_session_sql(session, "SELECT l.key, l.value, r.value AS other "
                                                  "FROM \"left\" AS l JOIN \"Right Side\" AS r "
                                                  "USING (key)")),
                 "b:2:3");
    result = mr_session_sql(session, "SELECT key FROM \"LEFT\" ORDER BY key");
    view(pairs(session, "z:9", 1), "LEFT");
    CHECK_EQ_STR(rdd_rows(result), "a, b"); /* computed at once */
    CHECK_EQ_STR(rdd_rows(mr_session_sql(session, "SELECT key FROM \"left\"")), "z");
    mr_session_drop_view(session, "left");
    CHECK_FAILS(mr_rdd_error(mr_session_sql(session, "SELECT key FROM \"left\""), &err), &err,
                MR_SQL_ERROR, NULL);
    CHECK_FAILS(mr_rdd_create_view(pairs(session, "a:1", 1), "", &err), &err, MR_CONFIG, "a name");
    mr_session_free(session);
}

/* ---- many threads ---- */

struct watching {
    struct mr_session *session;
    atomic_bool stop;
};

/* The view has n rows of n, for some n: a query that saw parts of two views would not. */
static void watch(void *arg)
{
    struct watching *watching = arg;

    while (!atomic_load(&watching->stop)) {
        struct mr_rdd *rdd = mr_session_sql(
            watching->session,
            "SELECT (SELECT count(*) FROM numbers) = (SELECT max(value) FROM numbers) AND "
            "(SELECT count(*) FROM numbers) = (SELECT min(value) FROM numbers) AS same");
        struct mr_batch *batch = NULL;
        struct mr_error err;

        CHECK_OK(mr_rdd_collect(rdd, &batch, &err), &err);
        CHECK(mr_column_bool(mr_batch_column(batch, 0), 0));
        mr_batch_unref(batch);
    }
}

static void make_numbers(struct mr_session *session, int64_t count)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_schema *schema = NULL;
    struct mr_batch *batch = NULL;

    CHECK_OK(mr_schema_parse("value BIGINT", 12, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    for (int64_t i = 0; i < count; i++) {
        mr_batch_builder_int(builder, 0, count);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    view(mr_rdd_parallelize(session, batch, 2), "numbers");
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(a_query_of_another_thread_sees_a_view_as_it_was_when_it_began)
{
    struct watching watching = {.session = session_of(2)};
    struct mr_thread *threads[2];
    struct mr_error err;

    make_numbers(watching.session, 1);
    for (int i = 0; i < 2; i++)
        CHECK_OK(mr_thread_start("watch", watch, &watching, &threads[i], &err), &err);
    for (int64_t count = 2; count < 60; count++)
        make_numbers(watching.session, count);
    atomic_store(&watching.stop, true);
    for (int i = 0; i < 2; i++)
        mr_thread_join(threads[i]);
    mr_session_free(watching.session);
}
