/*
 * Queries that are edited between two runs over one checkpoint: what the comparison says of each
 * part, and what the query gives after the change was accepted.
 *
 * Every edit goes through the same steps: the script before runs over the first rows; the script
 * after is compared with the checkpoint; it must not start without a word when anything but `same`
 * was said, and must leave the checkpoint as it is; it runs over the second rows with the word; and
 * then it is the same.
 */
#include "base/buf.h"
#include "core/query.h"
#include "duck/duck.h"
#include "plugins/plugins.h"
#include "sql/plan.h"
#include "state/state.h"
#include "support/sql_flow.h"
#include "support/test.h"
#include "wal/checkpoint.h"

#include <millrace/ext/memory.h>

#include <stdlib.h>
#include <string.h>

struct edit {
    const char *before; /* script, behind the tables below */
    const char *after;
    const char *classes; /* of all that is not `same`: "out.agg=extend out=extend"; "" = all same */
    const char *reason;  /* part of what must be told, or NULL */
    const char *rows;    /* of out in the run after the change, sorted; NULL: it cannot run */
};

/* @ is the test's name: memory tables are the process's. */
static const char tables[] =
    "CREATE TABLE a (v BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 "
    "second')\n"
    "  WITH (connector = 'memory', table = '@.a');\n"
    "CREATE TABLE b (v BIGINT, k VARCHAR) WITH (connector = 'memory', table = '@.b');\n"
    "CREATE TABLE out WITH (connector = 'memory', table = '@.%s');\n"
    "CREATE TABLE other WITH (connector = 'memory', table = '@.other-%s');\n"
    "SET checkpoint = '%s';\n"
    "SET trigger = 'until caught up';\n";

#define FIRST_A                                                                                    \
    "(1, 'x', TIMESTAMP '2026-01-01 00:00:01'), (2, 'y', TIMESTAMP '2026-01-01 00:00:02'), "       \
    "(3, 'x', TIMESTAMP '2026-01-01 00:00:03')"
#define SECOND_A "(10, 'x', TIMESTAMP '2026-01-01 00:00:04')"
#define FIRST_B "(100, 'x')"
#define SECOND_B "(200, 'y')"

#define COUNTS "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s FROM a GROUP BY k;"

struct world {
    struct test *t;
    const char *checkpoint;
    struct mr_duck *duck;
    struct mr_buf told; /* by mr_query_new */
};

/* ---- Scripts ---- */

static char *script_text(struct world *w, const char *text, const char *sink)
{
    struct mr_buf out = MR_BUF_INIT, all = MR_BUF_INIT;

    mr_buf_printf(&all, tables, sink, sink, test_path(w->t, w->checkpoint));
    mr_buf_add_str(&all, text);
    for (const char *at = all.data; *at != '\0'; at++) {
        if (*at == '@')
            mr_buf_printf(&out, "%.100s", w->t->name);
        else
            mr_buf_add_char(&out, *at);
    }
    mr_buf_release(&all);
    return mr_buf_take(&out);
}

static struct mr_sql_plan *make_plan(struct world *w, const char *text, const char *sink,
                                     struct mr_sql_script **ret_script)
{
    struct mr_sql_args args = {.env = mr_env_posix()};
    struct mr_sql_plan *plan = NULL;
    struct mr_error err = {0};
    char *script = script_text(w, text, sink);

    CHECK_OK(mr_sql_script_parse("test.sql", script, strlen(script), ret_script, &err), &err);
    CHECK_OK(mr_sql_plan(*ret_script, &args, &plan, &err), &err);
    mr_text_free(script);
    return plan;
}

static void note(void *arg, const struct mr_evolution *evolution)
{
    struct world *w = arg;

    mr_buf_clear(&w->told);
    mr_evolution_print(evolution, true, &w->told);
}

static enum mr_status live(struct world *w, const char *text, const char *sink, const char *accept,
                           struct mr_error *err)
{
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = make_plan(w, text, sink, &script);
    struct mr_query *query = NULL;
    enum mr_status status;

    plan->config.accept = accept;
    plan->config.on_evolution = note;
    plan->config.on_evolution_arg = w;
    status = mr_query_new(mr_env_posix(), plan->graph, &plan->config, &query, err);
    plan->graph = NULL;
    if (status == MR_OK)
        status = mr_query_run(query, err);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    return status;
}

/* What `millrace check` would say: "name=class" of all that is not the same, and all reasons. */
static void compare(struct world *w, const char *text, struct mr_buf *classes,
                    struct mr_buf *reasons)
{
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = make_plan(w, text, "after", &script);
    struct mr_evolution *evolution = NULL;
    struct mr_evolution_item item;
    struct mr_error err = {0};

    CHECK_OK(mr_evolution_compare(mr_env_posix(), plan->graph, plan->config.checkpoint_dir, NULL,
                                  &evolution, &err),
             &err);
    mr_buf_clear(classes);
    mr_buf_clear(reasons);
    for (size_t i = 0; evolution != NULL && mr_evolution_item(evolution, i, &item); i++) {
        mr_buf_printf(reasons, "%s: %s\n", item.name, item.reason);
        if (item.change != MR_CHANGE_SAME)
            mr_buf_printf(classes, "%s%s=%s", classes->size > 0 ? " " : "", item.name,
                          mr_change_class_text(item.change));
    }
    mr_buf_add_char(classes, '\0');
    mr_evolution_free(evolution);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
}

/* ---- Rows ---- */

static enum mr_status keep(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_batch **kept = arg;

    (void)err;
    *kept = mr_batch_ref(batch);
    return MR_OK;
}

static void add(struct world *w, const char *name, const char *columns, const char *values)
{
    char *table = mr_asprintf("%.100s.%s", w->t->name, name);
    char *sql =
        mr_asprintf("SELECT v::BIGINT AS v, * EXCLUDE (v) FROM (VALUES %s) t(%s)", values, columns);
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_duck_exec(w->duck, sql, keep, &batch, &err), &err);
    CHECK_OK(mr_memory_add(mr_memory_table(table), batch, &err), &err);
    mr_batch_unref(batch);
    mr_free(sql);
    mr_free(table);
}

static void add_first(struct world *w)
{
    add(w, "a", "v, k, ts", FIRST_A);
    add(w, "b", "v, k", FIRST_B);
}

static void add_second(struct world *w)
{
    add(w, "a", "v, k, ts", SECOND_A);
    add(w, "b", "v, k", SECOND_B);
}

static void print_step(const struct mr_batch *batch, struct mr_buf *out)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));

    for (int64_t i = 0; i < mr_batch_row_count(batch); i++) {
        struct mr_row row = {batch, i};

        for (uint32_t k = 0; k < columns; k++) {
            char text[400];

            mr_row_print(&row, k, text, sizeof(text));
            mr_buf_printf(out, "%s%c", text, k + 1 < columns ? '|' : '\n');
        }
    }
}

/* Rows of a sink's table from a step on, sorted. */
static char *rows_of(struct world *w, const char *name, size_t from)
{
    char *table = mr_asprintf("%.100s.%s", w->t->name, name);
    struct mr_batch *batch = NULL;
    struct mr_buf out = MR_BUF_INIT;
    int64_t batch_id;
    char *text;

    for (size_t i = from; mr_memory_step(mr_memory_table(table), i, &batch, &batch_id); i++) {
        print_step(batch, &out);
        mr_batch_unref(batch);
    }
    mr_free(table);
    mr_buf_add_char(&out, '\0');
    text = mr_buf_take(&out);
    sql_flow_sort(text);
    return text;
}

static void begin(struct world *w, struct test *t)
{
    struct mr_error err = {0};

    *w = (struct world){.t = t, .checkpoint = "checkpoint"};
    mr_plugins_register();
    CHECK_OK(mr_duck_open(&w->duck, &err), &err);
}

static void end(struct world *w)
{
    static const char *const names[] = {"a",           "b",   "before", "after", "other-before",
                                        "other-after", "one", "two",    "three", "other-one"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char *table = mr_asprintf("%.100s.%s", w->t->name, names[i]);

        mr_memory_drop(table);
        mr_free(table);
    }
    mr_duck_close(w->duck);
    mr_buf_release(&w->told);
}

/* ---- The table ---- */

static void check_edit(struct world *w, const struct edit *edit)
{
    struct mr_buf classes = MR_BUF_INIT, reasons = MR_BUF_INIT;
    struct mr_error err = {0};
    char *rows;

    add_first(w);
    CHECK_OK(live(w, edit->before, "before", NULL, &err), &err);
    compare(w, edit->after, &classes, &reasons);
    CHECK_EQ_STR(classes.data, edit->classes);
    if (edit->reason != NULL &&
        (reasons.data == NULL || strstr(reasons.data, edit->reason) == NULL))
        FAIL("nothing is said of '%s':\n%s", edit->reason, reasons.data);
    add_second(w);
    if (edit->classes[0] != '\0') {
        CHECK_FAILS(live(w, edit->after, "after", NULL, &err), &err, MR_CONFIG,
                    "cannot go on from");
        memset(&err, 0, sizeof(err));
        compare(w, edit->before, &classes, &reasons);
        CHECK_EQ_STR(classes.data, ""); /* nothing was written */
    }
    if (edit->rows == NULL) {
        CHECK_FAILS(live(w, edit->after, "after", "extend,rebuild", &err), &err, MR_CONFIG,
                    "impossible");
    } else {
        CHECK_OK(live(w, edit->after, "after", "extend,rebuild", &err), &err);
        rows = rows_of(w, "after", 0);
        CHECK_EQ_STR(rows, edit->rows);
        mr_text_free(rows);
        compare(w, edit->after, &classes, &reasons);
        CHECK_EQ_STR(classes.data, "");
    }
    mr_buf_release(&classes);
    mr_buf_release(&reasons);
}

static void run_edit(struct test *t, const struct edit *edit)
{
    struct world w;

    begin(&w, t);
    check_edit(&w, edit);
    end(&w);
}

#define EDIT(name, ...)                                                                            \
    TEST(name)                                                                                     \
    {                                                                                              \
        run_edit(t, &(const struct edit){__VA_ARGS__});                                            \
    }

EDIT(white_space_and_comments, COUNTS,
     "-- counts\nINSERT INTO out\n  SELECT k,  count(*) AS n /* rows */, sum(v) AS s\n  FROM a\n"
     "  GROUP BY k;",
     "", NULL, "x|3|14\n")

EDIT(a_column_of_the_result_is_renamed, COUNTS,
     "INSERT INTO out SELECT k AS kind, count(*) AS many, sum(v) AS total FROM a GROUP BY k;", "",
     NULL, "x|3|14\n")

EDIT(aggregates_in_another_order, COUNTS,
     "INSERT INTO out SELECT sum(v) AS s, count(*) AS n, k FROM a GROUP BY k;", "", NULL,
     "14|3|x\n")

EDIT(keywords_in_another_case, COUNTS,
     "insert into out select k, COUNT(*) as n, SUM(v) as s from a group by k;", "", NULL,
     "x|3|14\n")

EDIT(group_by_the_place_instead_of_the_name, COUNTS,
     "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s FROM a GROUP BY 1;", "", NULL,
     "x|3|14\n")

EDIT(the_table_has_an_alias, COUNTS,
     "INSERT INTO out SELECT t.k, count(*) AS n, sum(t.v) AS s FROM a t GROUP BY t.k;", "", NULL,
     "x|3|14\n")

EDIT(a_stateless_expression_over_the_results, COUNTS,
     "INSERT INTO out SELECT upper(k) AS k, count(*) * 10 AS n, sum(v) AS s FROM a GROUP BY k;", "",
     NULL, "X|30|14\n")

EDIT(
    having_is_added, COUNTS,
    "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s FROM a GROUP BY k HAVING count(*) > 100;",
    "", NULL, "")

EDIT(an_average_beside_its_sum_and_count, COUNTS,
     "INSERT INTO out SELECT k, avg(v) AS mean FROM a GROUP BY k;", "", NULL,
     "x|4.666666666666667\n")

EDIT(a_filter_in_front_of_the_state, COUNTS,
     "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s FROM a WHERE v > 5 GROUP BY k;", "",
     "what it has counted already stays", "x|3|14\n")

EDIT(a_filter_in_front_of_the_state_goes,
     "INSERT INTO out SELECT k, count(*) AS n FROM a WHERE v > 2 GROUP BY k;",
     "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k;", "",
     "what it has counted already stays", "x|2\n")

EDIT(a_new_aggregate, COUNTS,
     "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s, max(v) AS top FROM a GROUP BY k;",
     "out.agg=extend", "max of 'v'", "x|3|14|10\n")

EDIT(a_new_aggregate_in_front, "INSERT INTO out SELECT k, sum(v) AS s FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, min(v) AS least, sum(v) AS s FROM a GROUP BY k;", "out.agg=extend",
     "min of 'v'", "x|10|14\n")

EDIT(an_aggregate_is_dropped,
     "INSERT INTO out SELECT k, max(v) AS top, sum(v) AS s FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, sum(v) AS s FROM a GROUP BY k;", "out.agg=extend", "max of 'v'",
     "x|14\n")

EDIT(another_argument_of_an_aggregate, "INSERT INTO out SELECT k, sum(v) AS s FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, sum(v * 2) AS s FROM a GROUP BY k;", "out.agg=extend", NULL,
     "x|20\n")

EDIT(more_of_the_best_values,
     "INSERT INTO out SELECT k, list_sum(max(v, 2)) AS s FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, list_sum(max(v, 3)) AS s FROM a GROUP BY k;", "out.agg=extend",
     "top_max", "x|10\n")

EDIT(another_key, COUNTS,
     "INSERT INTO out SELECT v AS k, count(*) AS n, sum(v) AS s FROM a GROUP BY v;",
     "out.agg=rebuild", "emptied", "10|1|10\n")

EDIT(one_key_more, COUNTS, "INSERT INTO out SELECT k, v, count(*) AS n FROM a GROUP BY k, v;",
     "out.agg=rebuild", "emptied", "x|10|1\n")

EDIT(another_expression_as_key_of_the_same_type, COUNTS,
     "INSERT INTO out SELECT upper(k) AS k, count(*) AS n, sum(v) AS s FROM a GROUP BY upper(k);",
     "out.agg=rebuild", "emptied", "X|1|10\n")

EDIT(other_windows,
     "INSERT INTO out SELECT window_start AS w, count(*) AS n FROM TUMBLE(TABLE a, DESCRIPTOR(ts), "
     "INTERVAL '10 seconds') GROUP BY window_start, window_end;",
     "INSERT INTO out SELECT window_start AS w, count(*) AS n FROM TUMBLE(TABLE a, DESCRIPTOR(ts), "
     "INTERVAL '1 minute') GROUP BY window_start, window_end;",
     "out.agg=rebuild", "windows of 10000 ms", "")

EDIT(
    windows_that_slide,
    "INSERT INTO out SELECT window(ts, '10 seconds') AS w, count(*) AS n FROM a GROUP BY 1;",
    "INSERT INTO out SELECT window(ts, '10 seconds', '5 seconds') AS w, count(*) AS n FROM a GROUP "
    "BY 1;",
    "out.agg=rebuild", "every 5000 ms", "")

EDIT(another_output_mode_with_state, "SET output_mode = 'update'; " COUNTS,
     "SET output_mode = 'complete'; " COUNTS, "out.agg=rebuild", "output mode complete", "x|1|10\n")

EDIT(another_output_mode_without_state,
     "SET output_mode = 'append'; INSERT INTO out SELECT v FROM a;",
     "SET output_mode = 'update'; INSERT INTO out SELECT v FROM a;", "",
     "mode 'update' was 'append'", "10\n")

EDIT(a_new_view_with_state_and_its_sink, COUNTS,
     COUNTS " CREATE VIEW per_v AS SELECT v, count(*) AS n FROM a GROUP BY v; INSERT INTO other "
            "SELECT * FROM per_v;",
     "per_v.agg=extend other=extend", "starts empty", "x|3|14\n")

EDIT(an_insert_goes_with_its_state,
     COUNTS " INSERT INTO other SELECT v, count(*) AS n FROM a "
            "GROUP BY v;",
     COUNTS, "other.agg=extend other=extend", "dropped for good", "x|3|14\n")

EDIT(two_inserts_change_places,
     COUNTS " INSERT INTO other SELECT v, count(*) AS n FROM a GROUP BY v;",
     "INSERT INTO other SELECT v, count(*) AS n FROM a GROUP BY v; " COUNTS, "", NULL, "x|3|14\n")

EDIT(the_sink_is_renamed, COUNTS,
     "CREATE TABLE third WITH (connector = 'memory', table = '@.after'); INSERT INTO third SELECT "
     "k, "
     "count(*) AS n, sum(v) AS s FROM a GROUP BY k;",
     "third.agg=extend out.agg=extend third=extend out=extend", "give it its old name", "x|1|10\n")

EDIT(a_view_is_renamed,
     "CREATE VIEW one AS SELECT k, count(*) AS n FROM a GROUP BY k; INSERT INTO out SELECT * FROM "
     "one;",
     "CREATE VIEW two AS SELECT k, count(*) AS n FROM a GROUP BY k; INSERT INTO out SELECT * FROM "
     "two;",
     "two.agg=extend one.agg=extend", "give it its old name", "x|1\n")

EDIT(a_view_is_extracted, COUNTS,
     "CREATE VIEW one AS SELECT k, count(*) AS n, sum(v) AS s FROM a GROUP BY k; INSERT INTO out "
     "SELECT * FROM one;",
     "one.agg=extend out.agg=extend", "starts empty", "x|1|10\n")

EDIT(a_view_is_inlined,
     "CREATE VIEW one AS SELECT k, count(*) AS n, sum(v) AS s FROM a GROUP BY k; INSERT INTO out "
     "SELECT * FROM one;",
     COUNTS, "out.agg=extend one.agg=extend", "starts empty", "x|1|10\n")

EDIT(a_stateless_view_is_extracted, COUNTS,
     "CREATE VIEW rows AS SELECT k, v FROM a; INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s "
     "FROM rows GROUP BY k;",
     "", NULL, "x|3|14\n")

EDIT(a_new_source_beside_the_old_one, COUNTS, COUNTS " INSERT INTO other SELECT k FROM b;",
     "b=extend other=extend", "start option", "x|3|14\n")

EDIT(a_source_is_removed, COUNTS " INSERT INTO other SELECT k FROM b;", COUNTS,
     "b=extend other=extend", "offsets are dropped", "x|3|14\n")

EDIT(a_second_source_is_united_with_the_first, COUNTS,
     "CREATE VIEW u AS SELECT k, v FROM a UNION ALL SELECT k, v FROM b; INSERT INTO out SELECT k, "
     "count(*) AS n, sum(v) AS s FROM u GROUP BY k;",
     "b=extend", "what it has counted already stays", "x|4|114\ny|2|202\n")

EDIT(other_settings_other_workers, COUNTS,
     "SET workers = 3; SET retries = 7; SET retain_batches = 50; " COUNTS, "", NULL, "x|3|14\n")

EDIT(the_watermark_policy_is_pinned, COUNTS, "SET watermark_policy = 'max'; " COUNTS, "", NULL,
     "x|3|14\n")

EDIT(a_wider_type_of_a_minimum_s_argument,
     "INSERT INTO out SELECT k, max(v::INTEGER) AS top FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, max(v) AS top FROM a GROUP BY k;", "out.agg=extend", NULL, "x|10\n")

EDIT(another_type_of_a_key, "INSERT INTO out SELECT v, count(*) AS n FROM a GROUP BY v;",
     "INSERT INTO out SELECT v::DOUBLE AS v, count(*) AS n FROM a GROUP BY v::DOUBLE;",
     "out.agg=rebuild", "emptied", "10.0|1\n")

EDIT(two_kinds_of_buffers_change_places,
     "INSERT INTO out SELECT k, sum(v) AS s, max(v) AS top FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, max(v) AS top, sum(v) AS s FROM a GROUP BY k;", "", NULL,
     "x|10|14\n")

EDIT(one_aggregate_goes_and_another_comes,
     "INSERT INTO out SELECT k, sum(v) AS s, max(v) AS top FROM a GROUP BY k;",
     "INSERT INTO out SELECT k, min(v) AS least, sum(v) AS s FROM a GROUP BY k;", "out.agg=extend",
     "no longer kept, for good: max of 'v'", "x|10|14\n")

EDIT(a_wider_type_of_a_sum_s_argument,
     "CREATE VIEW n AS SELECT k, v::INTEGER AS v FROM a; INSERT INTO out SELECT k, sum(v) AS s "
     "FROM n "
     "GROUP BY k;",
     "CREATE VIEW n AS SELECT k, v::BIGINT AS v FROM a; INSERT INTO out SELECT k, sum(v) AS s FROM "
     "n "
     "GROUP BY k;",
     "", NULL, "x|14\n")

EDIT(a_narrower_type_of_a_sum_s_argument,
     "CREATE VIEW n AS SELECT k, v::DOUBLE AS v FROM a; INSERT INTO out SELECT k, sum(v) AS s FROM "
     "n "
     "GROUP BY k;",
     "CREATE VIEW n AS SELECT k, v::INTEGER AS v FROM a; INSERT INTO out SELECT k, sum(v) AS s "
     "FROM n "
     "GROUP BY k;",
     "out.agg=rebuild", "emptied", "x|10\n")

EDIT(sessions_with_another_gap,
     "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k, session_window(ts, '5 seconds');",
     "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k, session_window(ts, '1 second');",
     "out.agg=rebuild", "gap of 1000 ms", "")

EDIT(a_window_becomes_a_session,
     "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k, window(ts, '5 seconds');",
     "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k, session_window(ts, '5 seconds');",
     "out.agg=rebuild", "it was 'aggregate' and is 'session'", "")

EDIT(another_aggregate_of_sessions,
     "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k, session_window(ts, '5 seconds');",
     "INSERT INTO out SELECT k, sum(v) AS s FROM a GROUP BY k, session_window(ts, '5 seconds');",
     "out.agg=extend", "counting from now on", "")

EDIT(keys_of_a_deduplication, "INSERT INTO out SELECT DISTINCT ON (k) k, v FROM a;",
     "INSERT INTO out SELECT DISTINCT ON (v) k, v FROM a;", "out.dedup=rebuild", "other keys",
     "x|10\n")

EDIT(other_columns_of_a_deduplication, "INSERT INTO out SELECT DISTINCT ON (k) k, v FROM a;",
     "INSERT INTO out SELECT DISTINCT ON (k) k, v * 2 AS twice FROM a;", "", NULL, "")

EDIT(another_type_of_join,
     "CREATE TABLE c (v BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 "
     "second') "
     "WITH (connector = 'memory', table = '@.a'); INSERT INTO out SELECT a.k, a.v FROM a JOIN c ON "
     "a.k = c.k AND a.ts = c.ts;",
     "CREATE TABLE c (v BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 "
     "second') "
     "WITH (connector = 'memory', table = '@.a'); INSERT INTO out SELECT a.k, a.v FROM a LEFT JOIN "
     "c "
     "ON a.k = c.k AND a.ts = c.ts;",
     "out.join=rebuild", "left join", "x|10\n")

EDIT(other_keys_of_a_join, "INSERT INTO out SELECT a.k, b.v FROM a JOIN b ON a.k = b.k;",
     "INSERT INTO out SELECT a.k, b.v FROM a JOIN b ON a.v = b.v;", "out.join=rebuild", "emptied",
     "")

EDIT(other_columns_after_a_join, "INSERT INTO out SELECT a.k, b.v FROM a JOIN b ON a.k = b.k;",
     "INSERT INTO out SELECT upper(a.k) AS k, b.v + 1 AS v FROM a JOIN b ON a.k = b.k;", "", NULL,
     "X|101\nY|201\n")

EDIT(a_join_instead_of_a_union, "INSERT INTO out SELECT k, v FROM a UNION ALL SELECT k, v FROM b;",
     "INSERT INTO out SELECT a.k, b.v FROM a JOIN b ON a.k = b.k;", "out.join=extend",
     "starts empty", "")

EDIT(a_source_with_another_connector,
     "CREATE TABLE c (v BIGINT, k VARCHAR) WITH (connector = 'memory', table = '@.b'); INSERT INTO "
     "out "
     "SELECT v FROM c;",
     "CREATE TABLE c WITH (connector = 'rate'); INSERT INTO out SELECT value AS v FROM c;",
     "c=impossible", "a name of its own", NULL)

EDIT(another_number_of_partitions,
     "CREATE TABLE c (v BIGINT, k VARCHAR) WITH (connector = 'memory', table = '@.b', partitions = "
     "1); "
     "INSERT INTO out SELECT k, count(*) AS n FROM c GROUP BY k;",
     "CREATE TABLE c (v BIGINT, k VARCHAR) WITH (connector = 'memory', table = '@.b', partitions = "
     "3); "
     "INSERT INTO out SELECT k, count(*) AS n FROM c GROUP BY k;",
     "", "partitions '1' -> '3'", "y|1\n")

EDIT(another_delay_of_the_watermark,
     "CREATE TABLE c (v BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 "
     "second') "
     "WITH (connector = 'memory', table = '@.a'); "
     "INSERT INTO out SELECT window(ts, '2 seconds') AS w, count(*) AS n FROM c GROUP BY 1;",
     "CREATE TABLE c (v BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '9 "
     "seconds') "
     "WITH (connector = 'memory', table = '@.a'); "
     "INSERT INTO out SELECT window(ts, '2 seconds') AS w, count(*) AS n FROM c GROUP BY 1;",
     "", "watermark with a delay of 9000 ms", "")

EDIT(another_table_to_read_from, COUNTS,
     "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s FROM b GROUP BY k;",
     "b=extend a=extend out.agg=rebuild", "kept what came from 'a' and would get",
     "x|1|100\ny|1|200\n")

/* The names of their operators, out.agg and out.agg2, go by the order of the text. */
#define COUNTS_OF_A "INSERT INTO out SELECT 'a' AS src, k, count(*) AS n FROM a GROUP BY k; "
#define COUNTS_OF_B "INSERT INTO out SELECT 'b' AS src, k, count(*) AS n FROM b GROUP BY k; "

EDIT(two_inserts_into_one_table_change_places, COUNTS_OF_A COUNTS_OF_B, COUNTS_OF_B COUNTS_OF_A,
     "out.agg=rebuild out.agg2=rebuild", "back in their old order keeps the state",
     "a|x|1\nb|y|1\n")

EDIT(an_insert_in_front_of_another_one_into_its_table, COUNTS_OF_A, COUNTS_OF_B COUNTS_OF_A,
     "b=extend out.agg=rebuild out.agg2=extend", "back in their old order keeps the state",
     "a|x|1\nb|x|1\nb|y|1\n")

#define COUNTS_WHERE(condition)                                                                    \
    "INSERT INTO out SELECT '" condition "' AS src, k, count(*) AS n FROM a WHERE " condition      \
    " GROUP BY k; "

EDIT(two_inserts_from_one_table_change_places, COUNTS_WHERE("v < 3") COUNTS_WHERE("v > 0"),
     COUNTS_WHERE("v > 0") COUNTS_WHERE("v < 3"), "out.agg=rebuild out.agg2=rebuild",
     "changed places with 'out.agg2'", "v > 0|x|1\n")

EDIT(an_insert_in_front_of_another_one_from_its_table, COUNTS_WHERE("v > 0"),
     COUNTS_WHERE("v < 3") COUNTS_WHERE("v > 0"), "out.agg=rebuild out.agg2=extend",
     "changed places with 'out.agg2'", "v > 0|x|1\n")

EDIT(the_condition_of_one_of_two_inserts_changes, COUNTS_WHERE("v < 3") COUNTS_WHERE("v > 0"),
     COUNTS_WHERE("v < 30") COUNTS_WHERE("v > 0"), "", "what it has counted already stays",
     "v < 30|x|2\nv > 0|x|3\n")

EDIT(a_source_that_is_read_already_is_united_with_the_first,
     COUNTS " INSERT INTO other SELECT k FROM b;",
     "CREATE VIEW u AS SELECT k, v FROM a UNION ALL SELECT k, v FROM b; INSERT INTO out SELECT k, "
     "count(*) AS n, sum(v) AS s FROM u GROUP BY k; INSERT INTO other SELECT k FROM b;",
     "out.agg=extend", "what comes from 'b' is counted too", "x|3|14\ny|2|202\n")

EDIT(a_source_leaves_a_union,
     "CREATE VIEW u AS SELECT k, v FROM a UNION ALL SELECT k, v FROM b; INSERT INTO out SELECT k, "
     "count(*) AS n, sum(v) AS s FROM u GROUP BY k;",
     COUNTS, "b=extend out.agg=rebuild", "kept what came from 'a', 'b'", "x|1|10\n")

EDIT(the_sides_of_a_join_change_places, "INSERT INTO out SELECT a.k FROM a JOIN b ON a.k = b.k;",
     "INSERT INTO out SELECT a.k FROM b JOIN a ON a.k = b.k;", "out.join=rebuild", "emptied", "")

/* A second table over the rows of a, with a watermark of its own. */
#define TABLE_C                                                                                    \
    "CREATE TABLE c (v BIGINT, k VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1 "     \
    "second') WITH (connector = 'memory', table = '@.a'); "
#define JOIN_WITHIN(type, seconds)                                                                 \
    TABLE_C "INSERT INTO out SELECT a.v AS v, c.v AS w FROM a " type " c ON a.k = c.k AND c.ts "   \
            "BETWEEN a.ts AND a.ts + INTERVAL '" seconds " seconds';"

EDIT(other_bounds_of_a_join, JOIN_WITHIN("JOIN", "5"), JOIN_WITHIN("JOIN", "2"), "",
     "what it has counted already stays", "10|10\n3|10\n")

EDIT(other_bounds_of_an_outer_join, JOIN_WITHIN("LEFT JOIN", "5"), JOIN_WITHIN("LEFT JOIN", "2"),
     "out.join=rebuild", "emptied", "10|10\n")

EDIT(another_condition_of_a_join_over_both_sides,
     "INSERT INTO out SELECT a.v AS v, b.v AS w FROM a JOIN b ON a.k = b.k AND a.v + b.v > 0;",
     "INSERT INTO out SELECT a.v AS v, b.v AS w FROM a JOIN b ON a.k = b.k AND a.v + b.v > 105;",
     "", "rows that have left it are gone", "10|100\n2|200\n")

#define LEFT_JOIN_OVER(least)                                                                      \
    TABLE_C                                                                                        \
    "INSERT INTO out SELECT a.v AS v, c.v AS w FROM a LEFT JOIN c ON a.k = c.k AND a.ts = "        \
    "c.ts AND a.v + c.v > " least ";"

EDIT(another_condition_of_an_outer_join_over_both_sides, LEFT_JOIN_OVER("0"), LEFT_JOIN_OVER("3"),
     "out.join=rebuild", "emptied", "10|10\n")

EDIT(another_expression_of_a_deduplication,
     "INSERT INTO out SELECT DISTINCT ON (upper(k)) k, v FROM a;",
     "INSERT INTO out SELECT DISTINCT ON (lower(k)) k, v FROM a;", "out.dedup=rebuild", "emptied",
     "x|10\n")

EDIT(another_expression_of_distinct_rows, "INSERT INTO out SELECT DISTINCT upper(k) AS k FROM a;",
     "INSERT INTO out SELECT DISTINCT lower(k) AS k FROM a;", "out.agg=rebuild", "emptied", "x\n")

EDIT(another_expression_of_a_join_key,
     "INSERT INTO out SELECT a.v FROM a JOIN b ON upper(a.k) = upper(b.k);",
     "INSERT INTO out SELECT a.v FROM a JOIN b ON lower(a.k) = lower(b.k);", "out.join=rebuild",
     "emptied", "")

EDIT(another_condition_beside_the_keys_of_a_join,
     "INSERT INTO out SELECT a.k, b.v FROM a JOIN b ON a.k = b.k;",
     "INSERT INTO out SELECT a.k, b.v FROM a JOIN b ON a.k = b.k AND b.v > 150;", "",
     "what it has counted already stays", "x|100\ny|200\n")

EDIT(a_limit_is_raised, "INSERT INTO out SELECT v FROM a LIMIT 2;",
     "INSERT INTO out SELECT v FROM a LIMIT 3;", "", NULL, "10\n")

static void start(struct world *w)
{
    struct mr_error err = {0};

    add_first(w);
    CHECK_OK(live(w, COUNTS, "before", NULL, &err), &err);
    add_second(w);
}

/* ---- FMT-10 in our terms ---- */

TEST(FMT_10_a_field_added_to_a_key_rebuilds)
{
    run_edit(t,
             &(const struct edit){
                 "INSERT INTO out SELECT {'a': k} AS key, count(*) AS n FROM a GROUP BY {'a': k};",
                 "INSERT INTO out SELECT {'a': k, 'b': v} AS key, count(*) AS n FROM a GROUP BY "
                 "{'a': k, 'b': "
                 "v};",
                 "out.agg=rebuild", "emptied", "{a: x, b: 10}|1\n"});
}

TEST(FMT_10_a_field_taken_from_a_key_rebuilds)
{
    run_edit(t,
             &(const struct edit){
                 "INSERT INTO out SELECT {'a': k, 'b': v} AS key, count(*) AS n FROM a GROUP BY "
                 "{'a': k, 'b': "
                 "v};",
                 "INSERT INTO out SELECT {'a': k} AS key, count(*) AS n FROM a GROUP BY {'a': k};",
                 "out.agg=rebuild", "emptied", "{a: x}|1\n"});
}

TEST(FMT_10_another_type_of_a_value_is_another_aggregate)
{
    run_edit(t, &(const struct edit){
                    "INSERT INTO out SELECT k, max(v::VARCHAR) AS top FROM a GROUP BY k;",
                    "INSERT INTO out SELECT k, max(v::DOUBLE) AS top FROM a GROUP BY k;",
                    "out.agg=extend", "counting from now on", "x|10.0\n"});
}

TEST(FMT_10_the_columns_that_deduplication_passes_on_are_no_part_of_its_state)
{
    run_edit(
        t, &(const struct edit){"INSERT INTO out SELECT DISTINCT ON (k) k, v FROM a;",
                                "INSERT INTO out SELECT DISTINCT ON (k) k, v::VARCHAR AS v FROM a;",
                                "", NULL, ""});
}

/* Puts one more entry into the manifest, with a batch of its own. */
static void write_manifest(struct world *w, const struct mr_manifest_entry *entries, size_t count)
{
    struct mr_batch_log_config log_config = {.segment_bytes = 1 << 20, .retain_batches = 100};
    struct mr_state_config config = {.inline_bytes_max = 1 << 20,
                                     .snapshot_min_bytes = 1 << 20,
                                     .snapshot_ratio = 1.0,
                                     .retain_batches = 100};
    const char *dir = test_path(w->t, w->checkpoint);
    struct mr_checkpoint checkpoint = {0};
    struct mr_recovered recovered = {0};
    struct mr_batch_log *log = NULL;
    struct mr_state *state = NULL;
    struct mr_commit commit = {0};
    struct mr_error err = {0};
    struct mr_plan plan;

    CHECK_OK(mr_checkpoint_open(mr_env_posix(), dir, &checkpoint, &err), &err);
    memcpy(log_config.query_id, checkpoint.query_id, 16);
    memcpy(config.query_id, checkpoint.query_id, 16);
    CHECK_OK(
        mr_batch_log_open(mr_env_posix(), checkpoint.log_dir, &log_config, &log, &recovered, &err),
        &err);
    config.epoch = recovered.epoch;
    CHECK_OK(mr_state_open(mr_env_posix(), checkpoint.state_dir, checkpoint.log_dir, &config,
                           &recovered, &state, &err),
             &err);
    CHECK_OK(mr_state_manifest_set(state, entries, count, &err), &err);
    plan = recovered.committed_plan;
    commit.batch_id = ++plan.batch_id;
    CHECK_OK(mr_batch_log_plan(log, &plan, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    CHECK_OK(mr_state_prepare(state, commit.batch_id, 0, log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_commit(log, &commit, &err), &err);
    CHECK_OK(mr_batch_log_sync(log, &err), &err);
    mr_commit_release(&commit);
    mr_state_close(state);
    mr_batch_log_close(log);
    mr_recovered_release(&recovered);
    mr_checkpoint_release(&checkpoint);
}

TEST(FMT_04_a_newer_manifest_is_refused_and_entries_of_other_kinds_are_ignored)
{
    static const struct mr_manifest_entry newer[] = {{"format", "99999"}};
    static const struct mr_manifest_entry other[] = {
        {"format", "1"}, {"weather out", "{\"sunny\":true}"}, {"sink out", "{}"}};
    struct mr_buf classes = MR_BUF_INIT, reasons = MR_BUF_INIT;
    struct mr_error err = {0};
    struct world w;

    begin(&w, t);
    start(&w);
    write_manifest(&w, other, 3);
    compare(&w, COUNTS, &classes, &reasons);
    CHECK_EQ_STR(classes.data, "");
    write_manifest(&w, newer, 1);
    CHECK_FAILS(live(&w, COUNTS, "after", NULL, &err), &err, MR_VERSION, "newer millrace");
    mr_buf_release(&classes);
    mr_buf_release(&reasons);
    end(&w);
}

/* ---- what is accepted, and by whom ---- */

#define TWO_CHANGES                                                                                \
    "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s, max(v) AS top FROM a GROUP BY k; "      \
    "INSERT INTO other SELECT v, count(*) AS n FROM a GROUP BY v;"

TEST(changes_are_accepted_by_kind_and_by_name)
{
    struct mr_error err = {0};
    struct world w;

    begin(&w, t);
    start(&w);
    CHECK_FAILS(live(&w, TWO_CHANGES, "after", "rebuild", &err), &err, MR_CONFIG,
                "--accept extend");
    CHECK_FAILS(live(&w, TWO_CHANGES, "after", "extend:out.agg", &err), &err, MR_CONFIG,
                "other.agg");
    CHECK_FAILS(live(&w, TWO_CHANGES, "after", "extend:out.agg,extend:other.agg", &err), &err,
                MR_CONFIG, "sink 'other'");
    memset(&err, 0, sizeof(err));
    CHECK_OK(live(&w, TWO_CHANGES, "after", "extend:other,extend:out.agg,extend:other.agg", &err),
             &err);
    end(&w);
}

TEST(on_change_allow_accepts_everything_that_is_possible)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    start(&w);
    CHECK_OK(live(&w, "SET on_change = 'allow'; " TWO_CHANGES, "after", NULL, &err), &err);
    rows = rows_of(&w, "after", 0);
    CHECK_EQ_STR(rows, "x|3|14|10\n");
    CHECK_CONTAINS(w.told.data, "out.agg");
    mr_text_free(rows);
    end(&w);
}

TEST(an_accept_list_knows_its_words)
{
    struct mr_error err = {0};

    CHECK_OK(mr_evolution_check_accept(NULL, &err), &err);
    CHECK_OK(mr_evolution_check_accept("extend,rebuild:out.agg", &err), &err);
    CHECK_FAILS(mr_evolution_check_accept("everything", &err), &err, MR_USAGE, "rebuild:out.agg");
}

/* ---- crashes around the first commit of a changed query ---- */

static enum mr_status fail_at(void *arg, const char *point, uint64_t batch_id, struct mr_error *err)
{
    (void)batch_id;
    return strcmp(point, arg) == 0 ? MR_FAIL(err, MR_USER, "the test ends here") : MR_OK;
}

static enum mr_status live_until(struct world *w, const char *text, const char *accept,
                                 const char *point, struct mr_error *err)
{
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = make_plan(w, text, "after", &script);
    struct mr_query *query = NULL;
    enum mr_status status;

    plan->config.accept = accept;
    plan->config.retries = 0;
    plan->config.failpoint = fail_at;
    plan->config.failpoint_arg = (void *)(uintptr_t)point;
    CHECK_OK(mr_query_new(mr_env_posix(), plan->graph, &plan->config, &query, err), err);
    plan->graph = NULL;
    status = mr_query_run(query, err);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
    return status;
}

#define WITH_TOP                                                                                   \
    "INSERT INTO out SELECT k, count(*) AS n, sum(v) AS s, max(v) AS top FROM a GROUP BY k;"

TEST(a_crash_before_the_first_commit_leaves_the_state_of_the_old_query)
{
    static const char *const points[] = {"planned", "ran", "staged", "published"};

    for (size_t i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
        struct mr_buf classes = MR_BUF_INIT, reasons = MR_BUF_INIT;
        struct mr_error err = {0};
        struct test one = *t;
        struct world w;
        char name[60];
        char *rows;

        snprintf(name, sizeof(name), "crash_at_%s", points[i]);
        one.name = name;
        begin(&w, &one);
        w.checkpoint = points[i];
        start(&w);
        CHECK_FAILS(live_until(&w, WITH_TOP, "extend", points[i], &err), &err, MR_USER,
                    "ends here");
        memset(&err, 0, sizeof(err));
        compare(&w, COUNTS, &classes, &reasons);
        CHECK_EQ_STR(classes.data, ""); /* still that of the old query */
        compare(&w, WITH_TOP, &classes, &reasons);
        CHECK_EQ_STR(classes.data, "out.agg=extend");
        CHECK_OK(live(&w, WITH_TOP, "after", "extend", &err), &err);
        rows = rows_of(&w, "after", 0);
        CHECK_EQ_STR(rows, "x|3|14|10\n");
        mr_text_free(rows);
        mr_buf_release(&classes);
        mr_buf_release(&reasons);
        end(&w);
    }
}

/* The plan names a source that is gone, and does not know one that is new. */
TEST(a_batch_planned_by_the_old_query_is_run_by_the_new_one_with_other_sources)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    add_first(&w);
    CHECK_OK(
        live(&w, "INSERT INTO out SELECT k, sum(v) AS s FROM b GROUP BY k;", "before", NULL, &err),
        &err);
    add_second(&w);
    CHECK_FAILS(live_until(&w, "INSERT INTO out SELECT k, sum(v) AS s FROM b GROUP BY k;", NULL,
                           "planned", &err),
                &err, MR_USER, "ends here");
    memset(&err, 0, sizeof(err));
    CHECK_OK(live(&w, "INSERT INTO out SELECT k, sum(v) AS s FROM a GROUP BY k;", "two",
                  "extend,rebuild", &err),
             &err);
    rows = rows_of(&w, "two", 0);
    CHECK_EQ_STR(rows, "x|14\ny|2\n");
    mr_text_free(rows);
    end(&w);
}

#define FIRST_OF_EACH "INSERT INTO out SELECT DISTINCT ON (k) k, v FROM a;"
#define FIRST_BIG_ONES "INSERT INTO out SELECT DISTINCT ON (k) k, v FROM a WHERE v >= 10;"

/* Ends a run of `text` at that point of its first batch, with more data for the next run. */
static void interrupt(struct world *w, const char *text, const char *point)
{
    struct mr_error err = {0};

    CHECK_FAILS(live_until(w, text, NULL, point, &err), &err, MR_USER, "ends here");
}

TEST(a_batch_published_by_the_old_query_is_finished_by_the_old_query)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    add_first(&w);
    interrupt(&w, FIRST_OF_EACH, "published");
    add_second(&w);
    CHECK_FAILS(live(&w, FIRST_BIG_ONES, "after", NULL, &err), &err, MR_CONFIG,
                "run the old query once more");
    memset(&err, 0, sizeof(err));
    CHECK_FAILS(live(&w, "SET on_change = 'allow'; " FIRST_BIG_ONES, "after", NULL, &err), &err,
                MR_CONFIG, "sink 'out' has batch 0");
    memset(&err, 0, sizeof(err));
    CHECK_OK(live(&w, "/* as it was */ " FIRST_OF_EACH, "after", NULL, &err), &err);
    CHECK_OK(live(&w, FIRST_BIG_ONES, "after", NULL, &err), &err);
    rows = rows_of(&w, "after", 0);
    CHECK_EQ_STR(rows, "x|1\ny|2\n");
    mr_text_free(rows);
    end(&w);
}

TEST(a_batch_that_nobody_published_is_run_by_the_new_query)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    add_first(&w);
    interrupt(&w, FIRST_OF_EACH, "staged");
    add_second(&w);
    CHECK_OK(live(&w, FIRST_BIG_ONES, "after", NULL, &err), &err);
    rows = rows_of(&w, "after", 0);
    CHECK_EQ_STR(rows, "x|10\n");
    mr_text_free(rows);
    end(&w);
}

/* Its PLAN is still that of the old query. */
TEST(a_batch_that_the_new_query_took_over_and_published_is_its_own)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    add_first(&w);
    interrupt(&w, FIRST_OF_EACH, "planned");
    interrupt(&w, FIRST_BIG_ONES, "published");
    CHECK_FAILS(live(&w, FIRST_OF_EACH, "after", NULL, &err), &err, MR_CONFIG,
                "sink 'out' has batch 0");
    memset(&err, 0, sizeof(err));
    add_second(&w);
    CHECK_OK(live(&w, FIRST_BIG_ONES, "after", NULL, &err), &err);
    rows = rows_of(&w, "after", 0);
    CHECK_EQ_STR(rows, "x|10\n");
    mr_text_free(rows);
    end(&w);
}

/* Edits that leave no trace in names, schemas and state. */
TEST(the_fingerprint_of_a_query_tells_what_its_rows_are_made_of)
{
    static const char *const pairs[][2] = {
        {"INSERT INTO out SELECT v AS x, v + 1 AS y FROM a;",
         "INSERT INTO out SELECT v AS x, v + 2 AS y FROM a;"},
        {"INSERT INTO out SELECT a.v AS x, c.v AS y FROM a JOIN a AS c ON a.k = c.k;",
         "INSERT INTO out SELECT c.v AS x, a.v AS y FROM a JOIN a AS c ON a.k = c.k;"},
        {"INSERT INTO out SELECT k, max(v) AS x, min(v) AS y FROM a GROUP BY k;",
         "INSERT INTO out SELECT k, min(v) AS x, max(v) AS y FROM a GROUP BY k;"},
        {"INSERT INTO out SELECT k, v FROM a WHERE v > 1;",
         "INSERT INTO out SELECT k, v FROM a WHERE v > 2;"},
        {"INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k HAVING count(*) > 1;",
         "INSERT INTO out SELECT k, count(*) AS n FROM a GROUP BY k HAVING count(*) > 2;"},
        {"INSERT INTO out SELECT v FROM a LIMIT 2;", "INSERT INTO out SELECT v FROM a LIMIT 3;"},
    };
    struct world w;

    begin(&w, t);
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        uint64_t sums[3];

        for (size_t k = 0; k < 3; k++) {
            struct mr_sql_script *script = NULL;
            struct mr_sql_plan *plan = make_plan(&w, pairs[i][k % 2], "after", &script);

            sums[k] = mr_graph_fingerprint(plan->graph);
            mr_sql_plan_free(plan);
            mr_sql_script_free(script);
        }
        CHECK(sums[0] == sums[2]);
        if (sums[0] == sums[1])
            FAIL("nothing tells '%s' from '%s'", pairs[i][0], pairs[i][1]);
    }
    end(&w);
}

TEST(a_changed_query_commits_its_new_form_without_new_data)
{
    struct mr_buf classes = MR_BUF_INIT, reasons = MR_BUF_INIT;
    struct mr_error err = {0};
    struct world w;

    begin(&w, t);
    add_first(&w);
    CHECK_OK(live(&w, COUNTS, "before", NULL, &err), &err);
    CHECK_OK(live(&w, WITH_TOP, "after", "extend", &err), &err);
    compare(&w, WITH_TOP, &classes, &reasons);
    CHECK_EQ_STR(classes.data, "");
    mr_buf_release(&classes);
    mr_buf_release(&reasons);
    end(&w);
}

/* ---- several edits, one after the other ---- */

TEST(state_goes_through_many_edits_and_back)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    start(&w);
    CHECK_OK(live(&w, WITH_TOP, "one", "extend", &err), &err);
    add(&w, "a", "v, k, ts", "(20, 'x', TIMESTAMP '2026-01-01 00:00:05')");
    CHECK_OK(live(&w, COUNTS, "two", "extend", &err), &err);
    rows = rows_of(&w, "two", 0);
    CHECK_EQ_STR(rows, "x|4|34\n");
    mr_text_free(rows);
    add(&w, "a", "v, k, ts", "(5, 'x', TIMESTAMP '2026-01-01 00:00:06')");
    CHECK_OK(live(&w, WITH_TOP, "three", "extend", &err), &err);
    rows = rows_of(&w, "three", 0);
    CHECK_EQ_STR(rows, "x|5|39|5\n"); /* the maximum was dropped for good */
    mr_text_free(rows);
    end(&w);
}

TEST(a_removed_operator_that_comes_back_begins_empty)
{
    struct mr_error err = {0};
    struct world w;
    char *rows;

    begin(&w, t);
    start(&w);
    CHECK_OK(live(&w, "INSERT INTO other SELECT v FROM a;", "one", "extend", &err), &err);
    add(&w, "a", "v, k, ts", "(20, 'x', TIMESTAMP '2026-01-01 00:00:05')");
    CHECK_OK(live(&w, COUNTS, "two", "extend", &err), &err);
    rows = rows_of(&w, "two", 0);
    CHECK_EQ_STR(rows, "x|1|20\n");
    mr_text_free(rows);
    end(&w);
}
