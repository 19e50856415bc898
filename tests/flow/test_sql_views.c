/*
 * Views that several INSERTs read, and tables that several INSERTs write: which statement stands
 * first changes neither what is allowed nor what a refusal says. Materialized views. NOT NULL.
 *
 * a, b: v BIGINT, ts TIMESTAMP with a watermark; plain: without; one sink per output mode.
 */
#include "support/sql_flow.h"

enum { TEXT_MAX = 600 };

static struct sql_flow *tables(struct test *t)
{
    static const char watermark[] = ", WATERMARK FOR ts AS ts - INTERVAL '10 seconds'";
    static const char columns[] = "v BIGINT, ts TIMESTAMP";
    struct sql_flow *flow = sql_flow_new(t);

    sql_flow_source(flow, "a", columns, watermark);
    sql_flow_source(flow, "b", columns, watermark);
    sql_flow_source(flow, "plain", columns, "");
    sql_flow_sink(flow, "appended", "", "append");
    sql_flow_sink(flow, "updated", "", "update");
    sql_flow_sink(flow, "whole", "", "complete");
    return flow;
}

/* The error of the script, "" without one. */
static void try_order(struct test *t, const char *view, const char *first, const char *second,
                      char *ret_text)
{
    struct sql_flow *flow = tables(t);
    struct mr_error err = {0};
    enum mr_status status;

    sql_flow_text(flow, view);
    sql_flow_text(flow, first);
    sql_flow_text(flow, second);
    status = sql_flow_check(flow, &err);
    snprintf(ret_text, TEXT_MAX, "%s", status == MR_OK ? "" : err.text);
    sql_flow_free(flow);
}

struct row {
    const char *view;
    const char *one;
    const char *other;
    const char *refusal; /* NULL: allowed */
};

#define AND_UPDATED "INSERT INTO updated SELECT * FROM w;"
#define BOTH                                                                                       \
    "view 'w' is read by INSERT INTO appended in output mode append and by INSERT INTO updated "   \
    "in output mode update"

static const struct row rows[] = {
    /* groups: final in one mode, changing in the other */
    {"CREATE VIEW w AS SELECT ts, count(*) AS n FROM a GROUP BY ts;",
     "INSERT INTO appended SELECT * FROM w;", AND_UPDATED, BOTH},
    {"CREATE VIEW w AS SELECT DISTINCT v FROM plain;", "INSERT INTO appended SELECT * FROM w;",
     AND_UPDATED, BOTH},
    {"CREATE VIEW w AS SELECT v FROM plain UNION SELECT v FROM a;",
     "INSERT INTO appended SELECT * FROM w;", AND_UPDATED, BOTH},
    {"CREATE VIEW w AS SELECT v, count(*) AS n FROM plain GROUP BY v ORDER BY n;",
     "INSERT INTO whole SELECT * FROM w;", AND_UPDATED,
     "view 'w' is read by INSERT INTO updated in output mode update and by INSERT INTO whole in "
     "output mode complete"},
    /* without groups: what one of the modes cannot have */
    {"CREATE VIEW w AS SELECT v FROM plain LIMIT 3;", "INSERT INTO appended SELECT * FROM w;",
     AND_UPDATED, BOTH},
    {"CREATE VIEW w AS SELECT a.v FROM a LEFT JOIN b ON a.v = b.v AND a.ts = b.ts;",
     "INSERT INTO appended SELECT * FROM w;", AND_UPDATED, BOTH},
    {"CREATE VIEW w AS SELECT a.v FROM a JOIN b ON a.v = b.v;",
     "INSERT INTO appended SELECT * FROM w;",
     "INSERT INTO whole SELECT v, count(*) FROM w GROUP BY v;",
     "view 'w' is read by INSERT INTO appended in output mode append and by INSERT INTO whole in "
     "output mode complete"},
    /* a view of a view: the inner one is named */
    {"CREATE VIEW w AS SELECT v FROM plain LIMIT 3; CREATE VIEW x AS SELECT v + 1 AS v FROM w;",
     "INSERT INTO appended SELECT * FROM x;", "INSERT INTO updated SELECT * FROM x;", BOTH},
    /* the same rows in both modes */
    {"CREATE VIEW w AS SELECT v FROM plain WHERE v > 1;", "INSERT INTO appended SELECT * FROM w;",
     AND_UPDATED, NULL},
    {"CREATE VIEW w AS SELECT DISTINCT ON (v) * FROM plain;",
     "INSERT INTO appended SELECT * FROM w;", AND_UPDATED, NULL},
    {"CREATE VIEW w AS SELECT a.v FROM a JOIN b ON a.v = b.v;",
     "INSERT INTO appended SELECT * FROM w;", AND_UPDATED, NULL},
    {"CREATE VIEW w AS SELECT v FROM plain LIMIT 3;", "INSERT INTO appended SELECT * FROM w;",
     "INSERT INTO whole SELECT v, count(*) FROM w GROUP BY v;", NULL},
    {"CREATE MATERIALIZED VIEW w WITH (output_mode = 'append') AS SELECT ts, count(*) AS n FROM a "
     "GROUP BY ts;",
     "INSERT INTO appended SELECT * FROM w;",
     "INSERT INTO updated SELECT n, count(*) FROM w "
     "GROUP BY n;",
     NULL},
};

TEST(a_view_in_two_output_modes_is_refused_alike_whichever_statement_stands_first)
{
    char forth[TEXT_MAX];
    char back[TEXT_MAX];

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct row *row = &rows[i];

        try_order(t, row->view, row->one, row->other, forth);
        try_order(t, row->view, row->other, row->one, back);
        CHECK_EQ_STR(back, forth);
        if (row->refusal == NULL)
            CHECK_EQ_STR(forth, "");
        else
            CHECK_CONTAINS(forth, row->refusal);
    }
}

TEST(the_mode_of_a_table_follows_from_all_that_is_written_into_it)
{
    static const char raw[] = "INSERT INTO mixed SELECT v, v AS n FROM plain;";
    static const char groups[] = "INSERT INTO mixed SELECT v, count(*) FROM plain GROUP BY v;";

    for (int i = 0; i < 2; i++) {
        struct sql_flow *flow = tables(t);

        sql_flow_sink(flow, "mixed", "v BIGINT, n BIGINT", NULL);
        sql_flow_text(flow, i == 0 ? raw : groups);
        sql_flow_text(flow, i == 0 ? groups : raw);
        CHECK_CONTAINS(sql_flow_description(flow), "output mode update");
        sql_flow_free(flow);
    }
}

TEST(a_view_that_two_statements_share_is_planned_once)
{
    struct sql_flow *flow = tables(t);

    sql_flow_text(flow, "CREATE VIEW w AS SELECT DISTINCT ON (v) v FROM plain;"
                        "INSERT INTO updated SELECT * FROM w;"
                        "INSERT INTO appended SELECT v * 10 AS v FROM w;");
    sql_flow_step(flow, "plain", "(1, NULL), (2, NULL), (1, NULL)");
    CHECK_EQ_STR(sql_flow_run(flow, "updated"), "1\n2\n");
    CHECK_EQ_STR(sql_flow_run(flow, "appended"), "10\n20\n");
    CHECK_EQ_STR(sql_flow_state(flow), "2/2/0/0");
    sql_flow_free(flow);
}

TEST(a_materialized_view_that_nobody_reads_runs_for_its_state)
{
    struct sql_flow *flow = tables(t);

    sql_flow_text(flow, "CREATE MATERIALIZED VIEW per_v AS SELECT v, count(*) AS n FROM plain "
                        "GROUP BY v;"
                        "CREATE MATERIALIZED VIEW many AS SELECT v FROM per_v WHERE n > 1;");
    CHECK_CONTAINS(sql_flow_description(flow), "state 'per_v.agg'");
    CHECK_CONTAINS(sql_flow_description(flow), "view many: nobody reads it; its state is kept");
    CHECK(strstr(sql_flow_description(flow), "view per_v") == NULL);
    sql_flow_step(flow, "plain", "(1, NULL), (2, NULL), (1, NULL)");
    sql_flow_run(flow, "appended");
    CHECK_EQ_STR(sql_flow_state(flow), "2/2/0/0");
    sql_flow_step(flow, "plain", "(3, NULL)");
    sql_flow_run(flow, "appended");
    CHECK_EQ_STR(sql_flow_state(flow), "3/1/0/0");
    sql_flow_free(flow);
}

TEST(a_materialized_view_that_would_do_nothing_is_refused)
{
    struct sql_flow *flow = tables(t);
    struct mr_error err = {0};

    sql_flow_text(flow, "CREATE MATERIALIZED VIEW w AS SELECT v FROM plain WHERE v > 1;");
    CHECK_STATUS(sql_flow_check(flow, &err), MR_SQL_ERROR);
    CHECK_CONTAINS(err.text, "materialized view 'w' keeps no state and nobody reads it");
    sql_flow_free(flow);
}

TEST(views_that_double_at_every_step_are_planned_once_each)
{
    struct sql_flow *flow = tables(t);
    char text[200];

    sql_flow_text(flow, "CREATE VIEW v0 AS SELECT v FROM plain;");
    for (int i = 1; i < 45; i++) {
        snprintf(text, sizeof(text),
                 "CREATE VIEW v%d AS SELECT v FROM v%d UNION ALL SELECT v FROM v%d;", i, i - 1,
                 i - 1);
        sql_flow_text(flow, text);
    }
    sql_flow_text(flow, "INSERT INTO updated SELECT count(*) FROM v44;");
    CHECK_CONTAINS(sql_flow_description(flow), "sink updated");
    sql_flow_free(flow);
}

TEST(with_queries_that_double_at_every_step_are_refused)
{
    struct sql_flow *flow = tables(t);
    struct mr_error err = {0};
    char text[200];

    sql_flow_text(flow, "INSERT INTO updated WITH c0 AS (SELECT v FROM plain)");
    for (int i = 1; i < 40; i++) {
        snprintf(text, sizeof(text), ", c%d AS (SELECT v FROM c%d UNION ALL SELECT v FROM c%d)", i,
                 i - 1, i - 1);
        sql_flow_text(flow, text);
    }
    sql_flow_text(flow, " SELECT count(*) FROM c39;");
    CHECK_STATUS(sql_flow_check(flow, &err), MR_SQL_ERROR);
    CHECK_CONTAINS(err.text, "make views of those that are read several times");
    sql_flow_free(flow);
}

TEST(what_cannot_be_kept_of_a_constraint_is_refused)
{
    static const struct {
        const char *sql;
        const char *refusal;
    } bad[] = {
        {"CREATE TABLE x (v BIGINT NOT NULL) WITH (connector = 'file', path = 'x', format = "
         "'json', on_error = 'skip'); INSERT INTO appended SELECT * FROM x;",
         "NOT NULL ends the query at a null, and on_error asks for going on"},
        {"CREATE TABLE x (v BIGINT NOT NULL) WITH (connector = 'file', path = 'x', format = "
         "'json', static = 'true'); INSERT INTO appended SELECT p.v FROM plain p JOIN x ON "
         "p.v = x.v;",
         "NOT NULL is checked of streams only"},
        {"CREATE TABLE x (v BIGINT PRIMARY KEY ENFORCED) WITH (connector = 'null');",
         "a PRIMARY KEY is not enforced"},
        {"INSERT INTO appended SELECT * FROM plain QUALIFY row_number() OVER (PARTITION BY v "
         "ORDER BY ts DESC) = 1;",
         "arg_max({...}, time) with GROUP BY key"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sql_flow *flow = tables(t);
        struct mr_error err = {0};

        sql_flow_text(flow, bad[i].sql);
        CHECK(sql_flow_check(flow, &err) != MR_OK);
        CHECK_CONTAINS(err.text, bad[i].refusal);
        sql_flow_free(flow);
    }
}
