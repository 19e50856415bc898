/*
 * Results that come whole with every batch (complete mode), ordered and cut off: the same rows in
 * the same order whether an aggregation emits them from one partition or, as large batches do, from
 * eight.
 */
#include "support/sql_flow.h"

#include <string.h>

/* Tables a and b, 200 keys in each; of a key k there are k % 7 + 1 rows, in b one more. */
static struct sql_flow *open_counts(struct test *t, const char *mode, bool large,
                                    const char *select)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT", "");
    sql_flow_source(flow, "b", "k BIGINT", "");
    sql_flow_static(flow, "s", "k BIGINT, name VARCHAR");
    sql_flow_sink(flow, "out", "", mode);
    sql_flow_text(flow, "CREATE VIEW na AS SELECT k, count(*) AS n FROM a GROUP BY k;"
                        "CREATE VIEW nb AS SELECT -k AS k, count(*) AS n FROM b GROUP BY k;");
    sql_flow_text(flow, "INSERT INTO out ");
    sql_flow_text(flow, select);
    sql_flow_text(flow, ";");
    if (large)
        sql_flow_large_batches(flow);
    sql_flow_step(flow, "s", "(1, 'one'), (2, 'two'), (150, 'many')");
    sql_flow_step(flow, "a", "SELECT k FROM range(0, 200) r(k), range(0, 7) c(i) WHERE i <= k % 7");
    sql_flow_step(flow, "b",
                  "SELECT k FROM range(0, 200) r(k), range(0, 8) c(i) "
                  "WHERE i <= k % 7 + 1");
    return flow;
}

/* The complete result of a batch, in order. */
static void check_last(struct test *t, const char *select, const char *want)
{
    for (int large = 0; large < 2; large++) {
        struct sql_flow *flow = open_counts(t, "complete", large != 0, select);

        (void)sql_flow_run(flow, "out");
        CHECK_EQ_STR(sql_flow_last(flow, "out"), want);
        sql_flow_free(flow);
    }
}

TEST(order_by_and_limit_of_a_block_that_groups)
{
    check_last(t, "SELECT k, count(*) AS n FROM a GROUP BY k ORDER BY k LIMIT 3",
               "0|1\n1|2\n2|3\n");
    check_last(t,
               "SELECT k, count(*) AS n FROM a GROUP BY k HAVING count(*) > 6 "
               "ORDER BY n DESC, k DESC LIMIT 2",
               "195|7\n188|7\n");
}

TEST(order_by_and_limit_around_an_aggregation)
{
    check_last(t, "SELECT k * 2 AS d, n FROM na WHERE k > 100 ORDER BY d LIMIT 2",
               "202|4\n204|5\n");
    check_last(t, "SELECT na.k, s.name FROM na JOIN s ON na.k = s.k ORDER BY na.k DESC LIMIT 2",
               "150|many\n2|two\n");
    /* ordered, cut off, and then something is done with the rows */
    check_last(t, "SELECT k + 1 AS k FROM (SELECT k FROM na ORDER BY k LIMIT 2)", "1\n2\n");
    check_last(t, "SELECT k FROM (SELECT k FROM na ORDER BY k LIMIT 5) ORDER BY k DESC LIMIT 2",
               "4\n3\n");
}

TEST(order_by_and_limit_over_union_all)
{
    check_last(t,
               "SELECT * FROM (SELECT * FROM na UNION ALL SELECT * FROM nb) "
               "ORDER BY n DESC, k LIMIT 2",
               "-195|8\n-188|8\n");
    check_last(t, "SELECT * FROM na UNION ALL SELECT * FROM nb ORDER BY k LIMIT 3",
               "-199|5\n-198|4\n-197|3\n");
    check_last(t, "SELECT k FROM a UNION SELECT -k FROM b ORDER BY 1 DESC LIMIT 2", "199\n198\n");
    check_last(t, "SELECT k FROM a EXCEPT SELECT k FROM s ORDER BY k LIMIT 3", "0\n3\n4\n");
    check_last(t,
               "(SELECT k FROM na ORDER BY k LIMIT 1) UNION ALL "
               "(SELECT k FROM nb ORDER BY k LIMIT 1) ORDER BY k",
               "-199\n0\n");
}

static size_t count_lines(const char *text)
{
    size_t count = 0;

    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

TEST(a_limit_without_an_order_is_one_limit)
{
    static const char *const selects[] = {
        "SELECT k, count(*) AS n FROM a GROUP BY k LIMIT 7",
        "SELECT * FROM na LIMIT 7",
        "SELECT * FROM na UNION ALL SELECT * FROM nb LIMIT 7",
        "SELECT * FROM (SELECT * FROM na UNION ALL SELECT * FROM nb) LIMIT 7",
    };

    for (size_t i = 0; i < sizeof(selects) / sizeof(selects[0]); i++) {
        struct sql_flow *flow = open_counts(t, "complete", true, selects[i]);

        (void)sql_flow_run(flow, "out");
        CHECK_EQ_UINT(count_lines(sql_flow_last(flow, "out")), 7);
        sql_flow_step(flow, "a", "(300), (301)");
        (void)sql_flow_run(flow, "out");
        CHECK_EQ_UINT(count_lines(sql_flow_last(flow, "out")), 7);
        sql_flow_free(flow);
    }
}

/* Large by its bytes, not by a setting of the test. */
TEST(a_batch_of_more_than_4_mib_is_ordered_as_a_whole)
{
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", "k BIGINT, text VARCHAR", "");
    sql_flow_sink(flow, "out", "", "complete");
    sql_flow_text(flow,
                  "INSERT INTO out SELECT k, count(*) AS n FROM a WHERE text <> '' GROUP BY k "
                  "ORDER BY k LIMIT 3;");
    sql_flow_step(flow, "a", "SELECT i % 100, repeat('x', 5000) FROM range(0, 1200) r(i)");
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "0|12\n1|12\n2|12\n");
    sql_flow_free(flow);
}

TEST(an_ordered_result_survives_a_crash_at_every_point_of_a_batch)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};
    struct sql_flow *flow = open_counts(t, "complete", true, "SELECT * FROM na ORDER BY k LIMIT 2");

    for (int i = 0; i < 4; i++) {
        sql_flow_step(flow, "a", "(0), (-1)");
        sql_flow_run_until(flow, points[i]);
    }
    (void)sql_flow_run(flow, "out");
    sql_flow_step(flow, "a", "(-1)");
    (void)sql_flow_run(flow, "out");
    CHECK_EQ_STR(sql_flow_last(flow, "out"), "-1|5\n0|5\n");
    sql_flow_free(flow);
}

TEST(the_total_of_grouping_sets_comes_once_with_every_batch)
{
    for (int large = 0; large < 2; large++) {
        struct sql_flow *flow = sql_flow_new(t);

        sql_flow_source(flow, "a", "k BIGINT", "");
        sql_flow_sink(flow, "out", "", "update");
        sql_flow_text(flow, "INSERT INTO out SELECT k, count(*) AS n, grouping(k) AS g FROM a "
                            "WHERE k > 0 GROUP BY GROUPING SETS ((k), ());");
        if (large != 0)
            sql_flow_large_batches(flow);
        sql_flow_step(flow, "a", "(0)"); /* nothing passes: the total is there */
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "null|0|1\n");
        sql_flow_step(flow, "a", "(1), (2), (1)");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "1|2|0\n2|1|0\nnull|3|1\n");
        sql_flow_step(flow, "a", "(0)");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "null|3|1\n");
        sql_flow_step(flow, "a", "(2), (2)");
        CHECK_EQ_STR(sql_flow_run(flow, "out"), "2|3|0\nnull|5|1\n");
        sql_flow_free(flow);
    }
}

TEST(the_sides_of_a_complete_union_all_are_both_aggregations)
{
    static const struct {
        const char *select;
        bool right; /* the side that is refused */
    } cases[] = {
        {"SELECT k, n FROM na UNION ALL SELECT k, 1 AS n FROM b", true},
        {"SELECT k, 1 AS n FROM a UNION ALL SELECT k, n FROM nb", false},
        {"SELECT * FROM (SELECT k FROM a GROUP BY k UNION ALL SELECT k FROM b) ORDER BY k", true},
        {"SELECT k FROM na UNION ALL SELECT k FROM nb UNION ALL SELECT k FROM b", true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sql_flow *flow = open_counts(t, "complete", false, cases[i].select);
        struct mr_error err = {0};

        CHECK_EQ_INT(sql_flow_check(flow, &err), MR_SQL_ERROR);
        CHECK(strstr(err.text, "both sides of UNION ALL must be aggregations") != NULL);
        CHECK(strstr(err.text, "aggregate it, or write it to another table") != NULL);
        CHECK(err.sql_line > 0);
        sql_flow_free(flow);
    }
}

TEST(streams_are_still_united_below_a_complete_aggregation)
{
    check_last(t,
               "SELECT k % 2 AS odd, count(*) AS n FROM (SELECT k FROM a UNION ALL "
               "SELECT k FROM b) GROUP BY odd ORDER BY odd",
               "0|892\n1|896\n");
}
