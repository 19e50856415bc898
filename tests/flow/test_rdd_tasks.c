/*
 * When datasets are computed, on which threads, and what happens when a task fails.
 */
#include "env/thread.h"
#include "rdd/rdd.h"
#include "support/rdd.h"

#include <stdatomic.h>

static struct mr_session *session_of(unsigned workers, uint32_t tries)
{
    struct mr_session_options options = {.workers = workers, .task_tries = tries};
    struct mr_session *session = NULL;
    struct mr_error err;

    CHECK_OK(mr_session_new(&options, &session, &err), &err);
    return session;
}

static struct mr_rdd *numbers(struct mr_session *session, int64_t count, uint32_t partitions)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_schema *schema = NULL;
    struct mr_batch *batch = NULL;
    struct mr_rdd *rdd;

    CHECK_OK(mr_schema_parse("value BIGINT", 12, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    for (int64_t i = 0; i < count; i++) {
        mr_batch_builder_int(builder, 0, i);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    rdd = mr_rdd_parallelize(session, batch, partitions);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return rdd;
}

static int64_t count_of(struct mr_rdd *rdd)
{
    struct mr_error err;
    int64_t count = -1;

    CHECK_OK(mr_rdd_count(rdd, &count, &err), &err);
    return count;
}

static int64_t sum_of(struct mr_rdd *rdd)
{
    struct mr_batch *batch = NULL;
    struct mr_error err;
    int64_t sum;

    CHECK_OK(mr_rdd_reduce(rdd, MR_SUM, &batch, &err), &err);
    sum = mr_column_int(mr_batch_column(batch, 0), 0);
    mr_batch_unref(batch);
    return sum;
}

/* ---- laziness ---- */

static void counted(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
    mr_emit_int(out, mr_row_int(row, 0));
}

TEST(nothing_is_computed_before_an_action_asks)
{
    struct mr_session *session = session_of(2, 0);
    atomic_int calls = 0;
    struct mr_rdd *mapped = mr_rdd_map(numbers(session, 10, 5), MR_FN_FULL(counted, NULL, &calls));
    struct mr_rdd *reduced = mr_rdd_reduce_by_key(mr_rdd_map_to_pair(mapped, MR_COUNT), MR_SUM);
    struct mr_batch *batch = NULL;

    CHECK_EQ_INT(atomic_load(&calls), 0);
    CHECK_EQ_INT(count_of(mapped), 10);
    CHECK_EQ_INT(atomic_load(&calls), 10);
    CHECK_EQ_INT(count_of(mapped), 10);
    CHECK_EQ_INT(atomic_load(&calls), 20); /* nobody asked to keep it */
    CHECK_OK(mr_rdd_take(mapped, 1, &batch, NULL), NULL);
    mr_batch_unref(batch);
    CHECK_EQ_INT(atomic_load(&calls), 22); /* one partition of five */
    CHECK_EQ_INT(count_of(reduced), 10);
    CHECK_EQ_INT(count_of(reduced), 10);
    CHECK_EQ_INT(atomic_load(&calls), 32); /* what was shuffled is kept */
    mr_session_free(session);
}

TEST(a_cached_dataset_is_computed_once)
{
    struct mr_session *session = session_of(2, 0);
    atomic_int calls = 0;
    struct mr_rdd *mapped = mr_rdd_map(numbers(session, 10, 5), MR_FN_FULL(counted, NULL, &calls));

    CHECK(mr_rdd_cache(mapped) == mapped);
    CHECK_EQ_INT(count_of(mapped), 10);
    CHECK_EQ_INT(sum_of(mr_rdd_map(mapped, MR_SQL("value * 2"))), 90);
    CHECK_EQ_INT(atomic_load(&calls), 10);
    mr_rdd_unpersist(mapped);
    CHECK_EQ_INT(count_of(mapped), 10);
    CHECK_EQ_INT(atomic_load(&calls), 20);
    mr_session_free(session);
}

/* ---- failures ---- */

struct failing {
    atomic_int left;
    int64_t value;
    atomic_uint last_attempt;
};

static void fail_some(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    struct failing *failing = arg;
    struct mr_task_info info;

    if (mr_row_int(row, 0) == failing->value) {
        CHECK(mr_task_info(&info));
        atomic_store(&failing->last_attempt, info.attempt);
        if (atomic_fetch_sub(&failing->left, 1) > 0) {
            mr_emit_fail(out, "the table is locked");
            return;
        }
    }
    mr_emit_int(out, mr_row_int(row, 0));
}

TEST(a_task_that_fails_three_times_is_run_a_fourth_time)
{
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        struct mr_session *session = session_of(workers, 0);
        struct failing failing = {.left = 3, .value = 7};
        struct mr_rdd *mapped =
            mr_rdd_map(numbers(session, 20, 4), MR_FN_FULL(fail_some, NULL, &failing));

        CHECK_EQ_INT(sum_of(mapped), 190);
        CHECK_EQ_UINT(atomic_load(&failing.last_attempt), 3);
        /* in the first half of a shuffle, too */
        atomic_store(&failing.left, 3);
        CHECK_EQ_INT(sum_of(mr_rdd_repartition(mapped, 3)), 190);
        mr_session_free(session);
    }
}

TEST(a_task_that_fails_for_ever_fails_the_action_with_the_words_of_the_function)
{
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        struct mr_session *session = session_of(workers, 2);
        struct failing failing = {.left = 1000, .value = 7};
        struct mr_rdd *mapped =
            mr_rdd_map(numbers(session, 20, 4), MR_FN_FULL(fail_some, NULL, &failing));
        struct mr_rdd *dealt = mr_rdd_repartition(mapped, 3);
        struct mr_error err;
        int64_t count;

        CHECK_FAILS(mr_rdd_count(mapped, &count, &err), &err, MR_USER, "the table is locked");
        CHECK_CONTAINS(err.text, "test_rdd_tasks.c:");
        CHECK_EQ_INT(atomic_load(&failing.left), 998);
        CHECK_FAILS(mr_rdd_count(dealt, &count, &err), &err, MR_USER, "the table is locked");
        atomic_store(&failing.left, 0);
        CHECK_EQ_INT(count_of(dealt), 20); /* it works again: so does the dataset */
        mr_session_free(session);
    }
}

static enum mr_status refuse(struct mr_rows *rows, void *arg, struct mr_error *err)
{
    struct mr_row row;
    int64_t first = -1;

    if (mr_rows_next(rows, &row))
        first = mr_row_int(&row, 0);
    atomic_fetch_add((atomic_int *)arg, 1);
    if (first < 5)
        return MR_OK;
    return mr_error_set(err, __FILE__, __LINE__, MR_UNAVAILABLE, "no room for %d", (int)first);
}

TEST(the_error_of_an_action_is_that_of_the_lowest_partition)
{
    struct mr_session *session = session_of(3, 3);
    struct mr_rdd *rows = numbers(session, 20, 20);
    struct mr_error err;

    for (int i = 0; i < 20; i++) {
        atomic_int calls = 0;
        CHECK_FAILS(mr_rdd_foreach_partition(rows, refuse, &calls, &err), &err, MR_UNAVAILABLE,
                    "no room for 5");
        CHECK(atomic_load(&calls) >= 5 + 3);
    }
    mr_session_free(session);
}

/* ---- actions inside of functions ---- */

static enum mr_status count_inside(struct mr_rows *rows, void *arg, struct mr_error *err)
{
    struct mr_rdd *inner = arg;
    int64_t count;
    struct mr_row row;

    while (mr_rows_next(rows, &row))
        ;
    MR_TRY(mr_rdd_count(mr_rdd_filter(mr_rdd_repartition(inner, 3), MR_SQL("value < 50")), &count,
                        err));
    CHECK_EQ_INT(count, 50);
    return MR_OK;
}

TEST(an_action_inside_of_a_task_runs_in_place)
{
    struct mr_session *session = session_of(3, 0);
    struct mr_rdd *inner = numbers(session, 100, 7);
    struct mr_error err;

    for (int i = 0; i < 5; i++)
        CHECK_OK(mr_rdd_foreach_partition(numbers(session, 10, 10), count_inside, inner, &err),
                 &err);
    mr_session_free(session);
}

/* ---- many threads ---- */

struct user {
    struct mr_rdd *shared;
    struct mr_session *session;
};

static void use(void *arg)
{
    const struct user *user = arg;

    for (int i = 0; i < 8; i++) {
        struct mr_rdd *pairs = mr_rdd_map_to_pair(user->shared, MR_SQL("value % 7, value"));

        CHECK_EQ_INT(count_of(mr_rdd_group_by_key(pairs)), 7);
        CHECK_EQ_INT(sum_of(user->shared), 499500);
        CHECK_EQ_INT(count_of(mr_rdd_distinct(mr_rdd_map(user->shared, MR_SQL("value % 10")))), 10);
    }
}

TEST(datasets_are_used_by_many_threads_at_once)
{
    struct mr_session *session = session_of(3, 0);
    struct user user = {mr_rdd_cache(mr_rdd_repartition(numbers(session, 1000, 4), 6)), session};
    struct mr_thread *threads[4];
    struct mr_error err;

    for (int i = 0; i < 4; i++)
        CHECK_OK(mr_thread_start("user", use, &user, &threads[i], &err), &err);
    for (int i = 0; i < 4; i++)
        mr_thread_join(threads[i]);
    mr_session_free(session);
}

TEST(the_same_input_gives_the_same_bytes_whatever_the_workers)
{
    char expected[16384] = "";

    for (unsigned workers = 1; workers <= 4; workers++) {
        struct mr_session *session = session_of(workers, 0);
        struct mr_rdd *pairs =
            mr_rdd_map_to_pair(numbers(session, 300, 5), MR_SQL("'k' || (value % 11), value"));
        struct mr_rdd *all = mr_rdd_repartition(
            mr_rdd_flat_map_values(mr_rdd_group_by_key(pairs), MR_SQL("value")), 4);

        if (expected[0] == '\0')
            snprintf(expected, sizeof(expected), "%s", rdd_partitions(all));
        CHECK_EQ_STR(rdd_partitions(all), expected);
        mr_session_free(session);
    }
}

/* ---- scopes ---- */

TEST(what_is_made_inside_of_a_batch_goes_with_it)
{
    struct mr_session *session = session_of(2, 0);
    size_t before = 0;

    for (int i = 0; i < 3; i++) {
        struct mr__scope scope;
        struct mr_rdd *rdd, *kept;

        if (i == 1)
            before = mr_budget_used(NULL);
        mr__scope_enter(&scope, 7, 3000000);
        rdd = mr_rdd_cache(mr_rdd_repartition(numbers(session, 1000, 4), 3));
        CHECK_EQ_UINT(mr_rdd_batch_id(rdd), 7);
        CHECK_EQ_INT(count_of(mr_rdd_filter(rdd, MR_SQL("value >= 500"))), 500);
        kept = mr_rdd_ref(rdd);
        mr__scope_leave(&scope);
        CHECK_EQ_INT(count_of(kept), 1000);
        mr_rdd_unref(kept);
        if (i == 2)
            CHECK(mr_budget_used(NULL) <= before);
    }
    mr_session_free(session);
}

TEST(a_thread_that_asks_again_and_again_keeps_nothing)
{
    struct mr_session *session = session_of(2, 0);
    size_t before = 0;
    struct mr_error err;

    for (int i = 0; i < 20; i++) {
        if (i == 2)
            before = mr_budget_used(NULL);
        CHECK_OK(mr_session_enter(session, &err), &err);
        CHECK_EQ_INT(count_of(mr_rdd_distinct(numbers(session, 500, 4))), 500);
        CHECK_OK(mr_rdd_error(mr_session_sql(session, "SELECT 1 AS value"), &err), &err);
        mr_session_leave(session);
    }
    CHECK(mr_budget_used(NULL) <= before);
    mr_session_free(session);
}

TEST(a_dataset_that_is_held_works_after_its_session_was_freed)
{
    struct mr_session *session = session_of(3, 0);
    struct mr_rdd *rdd = mr_rdd_ref(mr_rdd_repartition(numbers(session, 100, 4), 3));

    mr_session_free(session);
    CHECK_EQ_INT(count_of(rdd), 100);
    mr_rdd_unref(rdd);
}

/* ---- memory ---- */

TEST(datasets_survive_that_memory_ends_at_any_point)
{
    struct mr_session *session = session_of(1, 0);
    struct mr_batch *batch = rdd_batch("key VARCHAR, value BIGINT", "a:1, b:2, a:3, c:4");
    uint64_t failed = 0;

    for (uint64_t nth = 1;; nth++) {
        struct mr__scope scope;
        struct mr_error err;
        struct mr_rdd *rdd;
        enum mr_status status;
        int64_t count = 0;

        mr__scope_enter(&scope, 0, 0);
        mr_alloc_fail_at(nth, true);
        rdd = mr_rdd_parallelize(session, batch, 2);
        rdd = mr_rdd_sort_by_key(
            mr_rdd_join(mr_rdd_reduce_by_key(rdd, MR_SUM), mr_rdd_group_by_key(mr_rdd_cache(rdd))),
            false);
        status = mr_rdd_count(rdd, &count, &err);
        mr_alloc_fail_at(0, false);
        mr__scope_leave(&scope);
        if (status == MR_OK && count == 3)
            break;
        CHECK(status == MR_NOMEM);
        failed++;
    }
    CHECK(failed > 50);
    mr_batch_unref(batch);
    mr_session_free(session);
}
