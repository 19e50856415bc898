/*
 * The kernels over pairs: grouping, joins, combining, distinct rows, hash partitions.
 */
#include "rdd/pairs.h"
#include "support/rdd.h"

static struct mr_batch *pairs_of(const char *text)
{
    return rdd_batch("key VARCHAR, value BIGINT", text);
}

static struct mr__pairs side(struct mr_batch *const *batch)
{
    return (struct mr__pairs){batch, 1, mr_batch_schema(*batch)};
}

static void expect_join(enum mr__join_kind kind, const char *left, const char *right,
                        const char *expected)
{
    struct mr_batch *a = pairs_of(left), *b = pairs_of(right), *joined = NULL;
    struct mr_schema *output = NULL;
    struct mr_error err;

    CHECK_OK(mr__joined_schema(kind, mr_batch_schema(a), mr_batch_schema(b), &output, &err), &err);
    CHECK_OK(mr__join(kind, side(&a), side(&b), output, &joined, &err), &err);
    CHECK_EQ_STR(rdd_text(joined), expected);
    mr_batch_unref(joined);
    mr_schema_unref(output);
    mr_batch_unref(a);
    mr_batch_unref(b);
}

TEST(grouping_gives_the_values_of_a_key_in_the_order_of_arrival)
{
    struct mr_batch *batches[2] = {pairs_of("b:1, a:2, b:3"), pairs_of("b:4, null:5, a:6")};
    struct mr__pairs pairs = {batches, 2, mr_batch_schema(batches[0])};
    struct mr_schema *output = NULL;
    struct mr_batch *grouped = NULL;

    CHECK_OK(mr__grouped_schema(pairs.schema, &output, NULL), NULL);
    CHECK_OK(mr__group_by_key(pairs, output, &grouped, NULL), NULL);
    CHECK_EQ_STR(rdd_text(grouped), "null:[5], a:[2, 6], b:[1, 3, 4]");
    mr_batch_unref(grouped);
    mr_schema_unref(output);
    mr_batch_unref(batches[0]);
    mr_batch_unref(batches[1]);
}

TEST(a_join_pairs_every_value_with_every_value_of_the_same_key)
{
    static const char left[] = "b:1, a:2, b:3, d:4", right[] = "b:10, c:20, b:30, a:40";

    expect_join(MR__JOIN_INNER, left, right,
                "a:{left: 2, right: 40}, b:{left: 1, right: 10}, b:{left: 1, right: 30}, "
                "b:{left: 3, right: 10}, b:{left: 3, right: 30}");
    expect_join(MR__JOIN_LEFT, "a:1, b:2", "b:3",
                "a:{left: 1, right: null}, b:{left: 2, right: 3}");
    expect_join(MR__JOIN_RIGHT, "b:2", "a:1, b:3",
                "a:{left: null, right: 1}, b:{left: 2, right: 3}");
    expect_join(MR__JOIN_FULL, "a:1, b:2", "b:3, c:4",
                "a:{left: 1, right: null}, b:{left: 2, right: 3}, c:{left: null, right: 4}");
    expect_join(MR__JOIN_COGROUP, "a:1, b:2, a:3", "b:3, c:4",
                "a:{left: [1, 3], right: []}, b:{left: [2], right: [3]}, c:{left: [], right: [4]}");
    expect_join(MR__JOIN_FULL, "", "", "");
    expect_join(MR__JOIN_INNER, "null:1", "null:2", "null:{left: 1, right: 2}");
}

TEST(keys_of_two_types_are_refused_when_the_join_is_built)
{
    struct mr_batch *a = pairs_of("a:1"), *b = rdd_batch("key BIGINT, value BIGINT", "1:1");
    struct mr_schema *output = NULL;
    struct mr_error err;

    CHECK_FAILS(
        mr__joined_schema(MR__JOIN_INNER, mr_batch_schema(a), mr_batch_schema(b), &output, &err),
        &err, MR_CONFIG, "VARCHAR and BIGINT");
    mr_batch_unref(a);
    mr_batch_unref(b);
}

TEST(combining_creates_once_a_key_and_merges_the_other_values_in_order)
{
    struct mr__engines engines = {0};
    struct mr__combiner combiner;
    struct mr_batch *batches[2] = {pairs_of("b:1, a:2, b:3, b:5"), pairs_of("a:7, b:9")};
    struct mr_batch *parts[2] = {NULL, NULL}, *merged = NULL;
    struct mr_fn create = MR_SQL("'<' || value"), value = MR_SQL("a || '+' || b"),
                 merge = MR_SQL("a || '|' || b");
    struct mr__when when = {0, 0};
    struct mr_error err;

    CHECK_OK(mr__combiner_new(&engines, &create, &value, &merge, mr_batch_schema(batches[0]),
                              &combiner, &err),
             &err);
    for (int i = 0; i < 2; i++)
        CHECK_OK(mr__combine_values(&combiner, when, side(&batches[i]), &parts[i], &err), &err);
    CHECK_EQ_STR(rdd_text(parts[0]), "a:<2, b:<1+3+5");
    CHECK_OK(mr__combine_merge(&combiner, when, (struct mr__pairs){parts, 2, combiner.output},
                               &merged, &err),
             &err);
    CHECK_EQ_STR(rdd_text(merged), "a:<2|<7, b:<1+3+5|<9");
    mr_batch_unref(merged);
    for (int i = 0; i < 2; i++) {
        mr_batch_unref(parts[i]);
        mr_batch_unref(batches[i]);
    }
    mr__combiner_free(&combiner);
    mr__engines_release(&engines);
}

TEST(distinct_rows_keep_the_first_of_each)
{
    struct mr_batch *batches[2] = {pairs_of("b:1, a:2, b:1"), pairs_of("a:2, null:1, b:2, null:1")};
    struct mr_batch *rows = NULL;

    CHECK_OK(mr__distinct_rows(batches, 2, mr_batch_schema(batches[0]), &rows, NULL), NULL);
    CHECK_EQ_STR(rdd_text(rows), "b:1, a:2, null:1, b:2");
    mr_batch_unref(rows);
    mr_batch_unref(batches[0]);
    mr_batch_unref(batches[1]);
}

TEST(a_key_is_in_one_partition_whatever_the_batch_and_null_is_in_the_first)
{
    struct mr_batch *batch = pairs_of("a:1, b:2, c:3, null:4, a:5, d:6, b:7, e:8");
    struct mr_batch *parts[3];
    int64_t rows = 0;

    CHECK_OK(mr__split_by_key(batch, 0, 3, parts, NULL), NULL);
    for (uint32_t p = 0; p < 3; p++) {
        struct mr_batch *again[3];
        if (parts[p] == NULL)
            continue;
        rows += mr_batch_row_count(parts[p]);
        if (p != 0)
            CHECK(strstr(rdd_text(parts[p]), "null") == NULL);
        CHECK_OK(mr__split_by_key(parts[p], 0, 3, again, NULL), NULL);
        for (uint32_t q = 0; q < 3; q++)
            CHECK((again[q] != NULL) == (q == p));
        mr_batch_unref(again[p]);
        mr_batch_unref(parts[p]);
    }
    CHECK_EQ_INT(rows, 8);
    mr_batch_unref(batch);
}
