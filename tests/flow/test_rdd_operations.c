/*
 * Operations of datasets, each against what it should give, said as SQL, C and built-ins.
 */
#include "support/rdd.h"

#include <stdlib.h>

static struct mr_session *session_of(unsigned workers)
{
    struct mr_session_options options = {.workers = workers};
    struct mr_session *session = NULL;
    struct mr_error err;

    CHECK_OK(mr_session_new(&options, &session, &err), &err);
    return session;
}

static struct mr_rdd *rows(struct mr_session *session, const char *columns, const char *text,
                           uint32_t partitions)
{
    struct mr_batch *batch = rdd_batch(columns, text);
    struct mr_rdd *rdd = mr_rdd_parallelize(session, batch, partitions);

    mr_batch_unref(batch);
    return rdd;
}

static struct mr_rdd *ints(struct mr_session *session, const char *text, uint32_t partitions)
{
    return rows(session, "value BIGINT", text, partitions);
}

static struct mr_rdd *pairs(struct mr_session *session, const char *text, uint32_t partitions)
{
    return rows(session, "key VARCHAR, value BIGINT", text, partitions);
}

/* ---- one partition to one ---- */

static void plus_one(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0) + 1);
}

static enum mr_status plus_one_all(const struct mr_batch *in, struct mr_batch_builder *out,
                                   void *arg, struct mr_error *err)
{
    (void)arg, (void)err;
    for (struct mr_row row = {in, 0}; row.index < mr_batch_row_count(in); row.index++) {
        mr_batch_builder_int(out, 0, mr_row_int(&row, 0) + 1);
        mr_batch_builder_end_row(out);
    }
    return MR_OK;
}

static bool is_odd(const struct mr_row *row, void *arg)
{
    (void)arg;
    return mr_row_int(row, 0) % 2 != 0;
}

static void twice(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < mr_row_int(row, 0); i++)
        mr_emit_int(out, mr_row_int(row, 0));
}

static void rest_by_three(const struct mr_row *row, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(row, 0) % 3);
    mr_emit_int(out, mr_row_int(row, 0));
    mr_emit_end(out);
}

static void count_all(struct mr_rows *all, struct mr_emitter *out, void *arg)
{
    struct mr_row row;
    int64_t count = 0;

    (void)arg;
    while (mr_rows_next(all, &row))
        count++;
    mr_emit_int(out, count);
}

TEST(map_filter_and_flat_map_give_the_same_said_in_sql_and_in_c)
{
    for (unsigned workers = 1; workers <= 3; workers++) {
        struct mr_session *session = session_of(workers);
        struct mr_rdd *numbers = ints(session, "1, 2, 3, 4, 5", 3);

        CHECK_EQ_STR(rdd_partitions(numbers), "[1] [2, 3] [4, 5]");
        CHECK_EQ_STR(rdd_partitions(mr_rdd_map(numbers, MR_SQL("value + 1"))), "[2] [3, 4] [5, 6]");
        CHECK_EQ_STR(rdd_rows(mr_rdd_map(numbers, MR_FN(plus_one))), "2, 3, 4, 5, 6");
        CHECK_EQ_STR(rdd_rows(mr_rdd_map(numbers, MR_FN(plus_one_all))), "2, 3, 4, 5, 6");
        CHECK_EQ_STR(rdd_rows(mr_rdd_filter(numbers, MR_SQL("value % 2 = 1"))), "1, 3, 5");
        CHECK_EQ_STR(rdd_rows(mr_rdd_filter(numbers, MR_FN(is_odd))), "1, 3, 5");
        CHECK_EQ_STR(
            rdd_rows(mr_rdd_filter(mr_rdd_flat_map(numbers, MR_FN(twice)), MR_SQL("value < 4"))),
            "1, 2, 2, 3, 3, 3");
        CHECK_EQ_STR(rdd_rows(mr_rdd_flat_map(numbers, MR_SQL("[value, -value]"))),
                     "1, -1, 2, -2, 3, -3, 4, -4, 5, -5");
        CHECK_EQ_STR(rdd_rows(mr_rdd_map_to_pair(numbers, MR_SQL("value % 3, value"))),
                     "1:1, 2:2, 0:3, 1:4, 2:5");
        CHECK_EQ_STR(rdd_rows(mr_rdd_map_to_pair(
                         numbers, MR_FN_AS(rest_by_three, "key BIGINT, value BIGINT"))),
                     "1:1, 2:2, 0:3, 1:4, 2:5");
        mr_session_free(session);
    }
}

TEST(a_partition_is_seen_as_a_whole)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *numbers = ints(session, "1, 2, 3, 4, 5", 3);
    struct mr_rdd *few = ints(session, "7", 3);

    CHECK_EQ_STR(rdd_rows(mr_rdd_map_partitions(numbers, MR_SQL("sum(value)"))), "1, 5, 9");
    CHECK_EQ_STR(rdd_rows(mr_rdd_map_partitions(numbers, MR_FN(count_all))), "1, 2, 2");
    CHECK_EQ_STR(rdd_rows(mr_rdd_map_partitions(few, MR_FN(count_all))), "0, 0, 1");
    CHECK_EQ_STR(rdd_rows(mr_rdd_glom(numbers)), "[1], [2, 3], [4, 5]");
    CHECK_EQ_STR(rdd_rows(mr_rdd_glom(few)), "[], [], [7]");
    CHECK_EQ_STR(rdd_rows(mr_rdd_glom(pairs(session, "a:1, b:2", 1))),
                 "[{key: a, value: 1}, {key: b, value: 2}]");
    mr_session_free(session);
}

TEST(a_union_has_the_partitions_of_both)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *both = mr_rdd_union(ints(session, "1, 2", 2), ints(session, "3, 4, 5", 1));
    struct mr_error err;

    CHECK_EQ_STR(rdd_partitions(both), "[1] [2] [3, 4, 5]");
    CHECK_EQ_STR(rdd_partitions(mr_rdd_union(mr_rdd_empty(session, "value BIGINT"), both)),
                 "[1] [2] [3, 4, 5]");
    CHECK_FAILS(mr_rdd_error(mr_rdd_union(both, pairs(session, "a:1", 1)), &err), &err, MR_CONFIG,
                "union: the two have different columns");
    mr_session_free(session);
}

/* ---- all partitions to all ---- */

TEST(repartition_deals_rows_out_to_exactly_that_many_partitions)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *numbers = ints(session, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10", 2);
    char first[256];
    struct mr_error err;

    snprintf(first, sizeof(first), "%s", rdd_partitions(mr_rdd_repartition(numbers, 3)));
    CHECK_EQ_STR(rdd_partitions(mr_rdd_repartition(numbers, 3)), first);
    CHECK_EQ_STR(rdd_sorted(mr_rdd_repartition(numbers, 3)), "1, 10, 2, 3, 4, 5, 6, 7, 8, 9");
    for (uint32_t count = 1; count < 12; count++) {
        struct mr_rdd *dealt = mr_rdd_repartition(numbers, count);
        CHECK_EQ_UINT(mr_rdd_partition_count(dealt), count);
        for (uint32_t p = 0; p < count; p++) {
            struct mr_batch *part = NULL;
            CHECK_OK(mr_rdd_partition(dealt, p, &part, NULL), NULL);
            /* two sources of five rows: each gives a partition at most ceil(5 / count) */
            CHECK(mr_batch_row_count(part) <= 2 * ((5 + count - 1) / count));
            mr_batch_unref(part);
        }
    }
    CHECK_FAILS(mr_rdd_error(mr_rdd_repartition(numbers, 0), &err), &err, MR_CONFIG,
                "cannot make 0 partitions");
    mr_session_free(session);
}

TEST(sorting_orders_the_rows_over_all_partitions_and_is_stable)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *numbers = ints(session, "5, -1, 4, null, 2, 3", 3);
    struct mr_rdd *some = pairs(session, "b:1, a:2, b:3, c:4, a:5", 2);

    CHECK_EQ_STR(rdd_partitions(mr_rdd_sort_by(numbers, MR_SQL("value"), true)),
                 "[null, -1] [2, 3] [4, 5]");
    CHECK_EQ_STR(rdd_rows(mr_rdd_sort_by(numbers, MR_SQL("value"), false)), "5, 4, 3, 2, -1, null");
    CHECK_EQ_STR(rdd_rows(mr_rdd_sort_by(some, MR_SQL("-value"), true)), "a:5, c:4, b:3, a:2, b:1");
    CHECK_EQ_STR(rdd_rows(mr_rdd_sort_by_key(some, true)), "a:2, a:5, b:1, b:3, c:4");
    CHECK_EQ_STR(rdd_rows(mr_rdd_sort_by_key(some, false)), "c:4, b:1, b:3, a:2, a:5");
    mr_session_free(session);
}

TEST(texts_are_sorted_by_their_bytes_however_long_they_are)
{
    static const char *const texts[] = {"b",
                                        "a",
                                        "\"\"",
                                        "abcdefghijklmnop",
                                        "abcdefghijklmno",
                                        "abcdefghijklmnopq",
                                        "abcdefghijklmnopqrstuvwxyz",
                                        "abcdefghijklmnopqrstuvwxya",
                                        "ab"};
    struct mr_session *session = session_of(2);
    char text[512] = "";

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i > 0 ? ", " : "",
                 texts[i]);
    CHECK_EQ_STR(
        rdd_rows(mr_rdd_sort_by(rows(session, "value VARCHAR", text, 3), MR_SQL("value"), true)),
        "\"\", a, ab, abcdefghijklmno, abcdefghijklmnop, abcdefghijklmnopq, "
        "abcdefghijklmnopqrstuvwxya, abcdefghijklmnopqrstuvwxyz, b");
    mr_session_free(session);
}

TEST(distinct_and_count_by_value_see_equal_rows_of_all_partitions)
{
    struct mr_session *session = session_of(3);
    struct mr_rdd *numbers = ints(session, "1, 2, 1, 3, null, 1, null, 2", 3);

    CHECK_EQ_STR(rdd_sorted(mr_rdd_distinct(numbers)), "1, 2, 3, null");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_count_by_value(numbers)), "1:3, 2:2, 3:1, null:2");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_distinct(pairs(session, "a:1, a:2, a:1, b:1", 2))),
                 "a:1, a:2, b:1");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_count_by_value(pairs(session, "a:1, a:2, a:1", 2))),
                 "{key: a, value: 1}:2, {key: a, value: 2}:1");
    mr_session_free(session);
}

/* ---- pairs ---- */

static void add(const struct mr_row *a, const struct mr_row *b, struct mr_emitter *out, void *arg)
{
    (void)arg;
    mr_emit_int(out, mr_row_int(a, 0) + mr_row_int(b, 0));
}

TEST(keys_values_and_their_maps_keep_rows_where_they_are)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *some = pairs(session, "b:1, a:2, b:3", 2);

    CHECK_EQ_STR(rdd_partitions(mr_rdd_keys(some)), "[b] [a, b]");
    CHECK_EQ_STR(rdd_partitions(mr_rdd_values(some)), "[1] [2, 3]");
    CHECK_EQ_STR(rdd_rows(mr_rdd_map_values(some, MR_SQL("value * 10"))), "b:10, a:20, b:30");
    CHECK_EQ_STR(rdd_rows(mr_rdd_map_values(some, MR_FN(plus_one))), "b:2, a:3, b:4");
    CHECK_EQ_STR(rdd_rows(mr_rdd_flat_map_values(some, MR_FN(twice))),
                 "b:1, a:2, a:2, b:3, b:3, b:3");
    CHECK_EQ_STR(rdd_rows(mr_rdd_flat_map_values(some, MR_SQL("[value, 0]"))),
                 "b:1, b:0, a:2, a:0, b:3, b:0");
    mr_session_free(session);
}

TEST(reducing_by_key_gives_the_same_for_sql_c_and_built_ins)
{
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        struct mr_session *session = session_of(workers);
        struct mr_rdd *some = pairs(session, "b:1, a:2, b:3, c:9, a:5, b:7", 3);
        static const char sums[] = "a:7, b:11, c:9";

        CHECK_EQ_STR(rdd_sorted(mr_rdd_reduce_by_key(some, MR_SUM)), sums);
        CHECK_EQ_STR(rdd_sorted(mr_rdd_reduce_by_key(some, MR_SQL("a + b"))), sums);
        CHECK_EQ_STR(rdd_sorted(mr_rdd_reduce_by_key(some, MR_FN(add))), sums);
        CHECK_EQ_STR(rdd_sorted(mr_rdd_reduce_by_key(some, MR_MAX_OF)), "a:5, b:7, c:9");
        CHECK_EQ_STR(rdd_sorted(mr_rdd_reduce_by_key(some, MR_COUNT)), "a:2, b:3, c:1");
        CHECK_EQ_STR(rdd_sorted(mr_rdd_group_by_key(some)), "a:[2, 5], b:[1, 3, 7], c:[9]");
        CHECK_EQ_STR(rdd_sorted(mr_rdd_combine_by_key(some, MR_SQL("{'n': 1, 'sum': value}"),
                                                      MR_SQL("{'n': a.n + 1, 'sum': a.sum + b}"),
                                                      MR_SQL("{'n': a.n + b.n, "
                                                             "'sum': a.sum + b.sum}"))),
                     "a:{n: 2, sum: 7}, b:{n: 3, sum: 11}, c:{n: 1, sum: 9}");
        mr_session_free(session);
    }
}

TEST(joins_bring_the_values_of_a_key_together_from_all_partitions)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *a = pairs(session, "x:1, y:2, x:3", 2);
    struct mr_rdd *b = rows(session, "key VARCHAR, value VARCHAR", "x:p, z:q", 1);

    CHECK_EQ_STR(rdd_sorted(mr_rdd_join(a, b)), "x:{left: 1, right: p}, x:{left: 3, right: p}");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_left_outer_join(a, b)),
                 "x:{left: 1, right: p}, x:{left: 3, right: p}, y:{left: 2, right: null}");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_right_outer_join(a, b)),
                 "x:{left: 1, right: p}, x:{left: 3, right: p}, z:{left: null, right: q}");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_full_outer_join(a, b)),
                 "x:{left: 1, right: p}, x:{left: 3, right: p}, y:{left: 2, right: null}, "
                 "z:{left: null, right: q}");
    CHECK_EQ_STR(
        rdd_sorted(mr_rdd_cogroup(a, b)),
        "x:{left: [1, 3], right: [p]}, y:{left: [2], right: []}, z:{left: [], right: [q]}");
    CHECK_EQ_STR(rdd_sorted(mr_rdd_join(a, a)),
                 "x:{left: 1, right: 1}, x:{left: 1, right: 3}, x:{left: 3, right: 1}, "
                 "x:{left: 3, right: 3}, y:{left: 2, right: 2}");
    mr_session_free(session);
}

/* ---- actions ---- */

TEST(actions_count_take_and_reduce)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *numbers = ints(session, "4, 5, 6, 7, 8", 4);
    struct mr_rdd *none = mr_rdd_empty(session, "value BIGINT");
    struct mr_batch *batch = NULL;
    struct mr_error err;
    int64_t count;
    bool empty;

    CHECK_OK(mr_rdd_count(numbers, &count, &err), &err);
    CHECK_EQ_INT(count, 5);
    for (int64_t n = 0; n <= 6; n++) {
        CHECK_OK(mr_rdd_take(numbers, n, &batch, &err), &err);
        CHECK_EQ_INT(mr_batch_row_count(batch), n < 5 ? n : 5);
        for (int64_t i = 0; i < mr_batch_row_count(batch); i++)
            CHECK_EQ_INT(mr_column_int(mr_batch_column(batch, 0), i), 4 + i);
        mr_batch_unref(batch);
    }
    CHECK_FAILS(mr_rdd_take(numbers, -1, &batch, &err), &err, MR_CONFIG, "cannot take -1 rows");
    CHECK_OK(mr_rdd_first(numbers, &batch, &err), &err);
    CHECK_EQ_STR(rdd_text(batch), "4");
    mr_batch_unref(batch);
    CHECK_OK(mr_rdd_reduce(numbers, MR_SQL("a + b"), &batch, &err), &err);
    CHECK_EQ_STR(rdd_text(batch), "30");
    mr_batch_unref(batch);
    CHECK_OK(mr_rdd_reduce(numbers, MR_FN(add), &batch, &err), &err);
    CHECK_EQ_STR(rdd_text(batch), "30");
    mr_batch_unref(batch);
    CHECK_OK(mr_rdd_reduce(numbers, MR_COUNT, &batch, &err), &err);
    CHECK_EQ_STR(rdd_text(batch), "5");
    mr_batch_unref(batch);
    CHECK_FAILS(mr_rdd_reduce(none, MR_SUM, &batch, &err), &err, MR_NOT_FOUND, "nothing to reduce");
    CHECK_FAILS(mr_rdd_first(none, &batch, &err), &err, MR_NOT_FOUND, "no first row");
    CHECK_OK(mr_rdd_is_empty(none, &empty, &err), &err);
    CHECK(empty);
    CHECK_OK(mr_rdd_is_empty(numbers, &empty, &err), &err);
    CHECK(!empty);
    CHECK_FAILS(mr_rdd_partition(numbers, 4, &batch, &err), &err, MR_NOT_FOUND, "no partition 4");
    CHECK_EQ_STR(rdd_rows(mr_rdd_reduce_by_key(mr_rdd_map_to_pair(none, MR_COUNT), MR_SUM)), "");
    mr_session_free(session);
}

/* ---- mistakes ---- */

TEST(a_mistake_sticks_with_the_place_of_its_function)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *numbers = ints(session, "1", 1);
    struct mr_rdd *wrong = mr_rdd_map(numbers, MR_SQL("valu + 1"));
    struct mr_batch *batch = NULL;
    struct mr_error err;
    int64_t count;

    CHECK_NULL(mr_rdd_schema(wrong));
    CHECK_FAILS(mr_rdd_collect(wrong, &batch, &err), &err, MR_SQL_ERROR, "test_rdd_operations.c:");
    CHECK_CONTAINS(err.text, ": map: ");
    CHECK_CONTAINS(err.text, "column 1 of the expression");
    CHECK_FAILS(
        mr_rdd_count(mr_rdd_filter(mr_rdd_union(wrong, numbers), MR_SQL("true")), &count, &err),
        &err, MR_SQL_ERROR, ": map: ");
    CHECK_FAILS(mr_rdd_error(mr_rdd_reduce_by_key(numbers, MR_SUM), &err), &err, MR_CONFIG,
                "the input is not pairs");
    CHECK_FAILS(mr_rdd_error(mr_rdd_map_values(numbers, MR_SQL("value")), &err), &err, MR_CONFIG,
                "map_values: the input is not pairs");
    CHECK_FAILS(mr_rdd_error(mr_rdd_map(NULL, MR_SQL("1")), &err), &err, MR_NOMEM, NULL);
    CHECK_FAILS(mr_rdd_error(mr_rdd_empty(session, "value WRONG"), &err), &err, MR_CONFIG, "WRONG");
    mr_session_free(session);
}

TEST(datasets_of_two_sessions_do_not_mix)
{
    struct mr_session *a = session_of(1), *b = session_of(1);
    struct mr_rdd *both = mr_rdd_union(ints(a, "1", 1), ints(b, "2", 1));
    struct mr_error err;

    CHECK_FAILS(mr_rdd_error(both, &err), &err, MR_CONFIG, "two sessions");
    mr_session_free(a);
    mr_session_free(b);
}

TEST(a_lineage_of_many_steps_is_refused_before_the_stack_ends)
{
    struct mr_session *session = session_of(1);
    struct mr_rdd *rdd = ints(session, "1", 1);
    struct mr_error err;

    for (int i = 0; i < 999; i++)
        rdd = mr_rdd_union(rdd, mr_rdd_empty(session, "value BIGINT"));
    CHECK_EQ_STR(rdd_rows(rdd), "1");
    for (int i = 0; i < 10; i++)
        rdd = mr_rdd_union(rdd, mr_rdd_empty(session, "value BIGINT"));
    CHECK_FAILS(mr_rdd_error(rdd, &err), &err, MR_LIMIT, "more than 1000 steps");
    mr_session_free(session);
}

/* ---- files ---- */

TEST(datasets_are_saved_and_read_back)
{
    struct mr_session *session = session_of(2);
    struct mr_rdd *some = pairs(session, "b:1, a:2, b:3", 2);
    char text[600], object[600], parquet[600], lines[640];
    struct mr_error err;

    snprintf(text, sizeof(text), "%s/text", t->dir);
    snprintf(object, sizeof(object), "%s/object", t->dir);
    snprintf(parquet, sizeof(parquet), "%s/parquet", t->dir);
    CHECK_OK(mr_rdd_save_as_text_file(some, text, &err), &err);
    CHECK_EQ_STR(rdd_partitions(mr_rdd_text_file(session, text)), "[(b,1)] [(a,2), (b,3)]");
    CHECK_OK(mr_rdd_save_as_text_file(mr_rdd_repartition(some, 1), text, &err), &err);
    CHECK_EQ_UINT(mr_rdd_partition_count(mr_rdd_text_file(session, text)), 1);
    snprintf(lines, sizeof(lines), "%s/part-00000", text);
    CHECK_EQ_STR(rdd_sorted(mr_rdd_text_file(session, lines)), "(a,2), (b,1), (b,3)");
    CHECK_OK(mr_rdd_save_as_object_file(some, object, &err), &err);
    CHECK_EQ_STR(rdd_partitions(mr_rdd_object_file(session, object)), "[b:1] [a:2, b:3]");
    CHECK(mr_schema_equal(mr_rdd_schema(mr_rdd_object_file(session, object)), mr_rdd_schema(some)));
    CHECK_OK(mr_rdd_save_as_parquet_file(some, parquet, &err), &err);
    snprintf(lines, sizeof(lines), "%s/nothing", t->dir);
    CHECK_FAILS(mr_rdd_error(mr_rdd_text_file(session, lines), &err), &err, MR_NOT_FOUND,
                "text_file: ");
    mr_session_free(session);
}
