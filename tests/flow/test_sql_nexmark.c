/*
 * The queries of bench/nexmark over 20,000 events (20 s of event time) in batches of several
 * sizes, against DuckDB over all events at once: each .sql with its results in memory beside its
 * _duck.sql.
 *
 * Results of update mode are folded by key first: the newest row of a key counts.
 */
#include "duck/duck.h"
#include "plugins/plugins.h"
#include "sql/plan.h"
#include "support/sql_flow.h"

#include "base/buf.h"

#include <millrace/ext/env.h>
#include <millrace/ext/memory.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const tables[] = {"person", "auction", "bid"};
enum { TABLES = 3, EVENTS = 20000 };

struct bench {
    struct mr_duck *duck;
    struct mr_memory *inputs[TABLES];
};

static char *read_query(const char *name)
{
    const char *source = getenv("MILLRACE_SOURCE_DIR");
    struct mr_buf text = MR_BUF_INIT;
    char path[400];
    char piece[4096];
    size_t size;
    FILE *file;

    snprintf(path, sizeof(path), "%s/bench/nexmark/%s.sql", source != NULL ? source : ".", name);
    file = fopen(path, "r");
    CHECK(file != NULL);
    if (file == NULL)
        return NULL;
    while ((size = fread(piece, 1, sizeof(piece), file)) > 0)
        mr_buf_add(&text, piece, size);
    fclose(file);
    return mr_buf_take(&text);
}

static void run_script(const char *name, const char *text, struct mr_memory *results)
{
    const struct mr_sql_binding binding = {
        .table = "results", .sink = mr_sink_find("memory"), .user = results};
    const struct mr_option_pair caught_up = {"trigger", "until caught up"};
    const struct mr_sql_args args = {.env = mr_env_posix(),
                                     .settings = &caught_up,
                                     .setting_count = 1,
                                     .bindings = &binding,
                                     .binding_count = 1};
    struct mr_sql_script *script = NULL;
    struct mr_sql_plan *plan = NULL;
    struct mr_query *query = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_sql_script_parse(name, text, strlen(text), &script, &err), &err);
    CHECK_OK(mr_sql_plan(script, &args, &plan, &err), &err);
    if (plan == NULL)
        return;
    CHECK_OK(mr_query_new(mr_env_posix(), plan->graph, &plan->config, &query, &err), &err);
    plan->graph = NULL;
    CHECK_OK(mr_query_run(query, &err), &err);
    mr_query_free(query);
    mr_sql_plan_free(plan);
    mr_sql_script_free(script);
}

static struct mr_memory *fresh_table(struct test *t, const char *name)
{
    char key[200];

    snprintf(key, sizeof(key), "%.100s.%s", t->name, name);
    mr_memory_drop(key);
    return mr_memory_table(key);
}

static void set_sizes(const char *batch, const char *checkpoint)
{
    setenv("EVENTS", "20000", 1);
    setenv("GAP_NS", "1000000", 1);
    setenv("EVENTS_PER_BATCH", batch, 1);
    setenv("CHECKPOINT", checkpoint, 1);
    setenv("MODE", "generate", 1);
}

static void open_bench(struct test *t, struct bench *bench)
{
    struct mr_error err = {0};

    mr_plugins_register();
    CHECK_OK(mr_duck_open(&bench->duck, &err), &err);
    set_sizes("20000", "unused");
    for (size_t i = 0; i < TABLES; i++) {
        char text[500];

        snprintf(text, sizeof(text),
                 "CREATE TABLE events WITH (connector = 'nexmark', table = '%s', events = "
                 "'${EVENTS}', inter_event_ns = '${GAP_NS}');\n"
                 "CREATE TABLE results WITH (connector = 'null');\n"
                 "INSERT INTO results SELECT * FROM events;",
                 tables[i]);
        bench->inputs[i] = fresh_table(t, tables[i]);
        run_script(tables[i], text, bench->inputs[i]);
    }
}

static void close_bench(struct bench *bench)
{
    mr_duck_close(bench->duck);
}

static enum mr_status print_row_text(void *arg, const struct mr_batch *batch, struct mr_error *err)
{
    struct mr_buf *out = arg;

    (void)err;
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        const struct mr_row one = {batch, row};

        for (uint32_t column = 0; column < mr_schema_field_count(mr_batch_schema(batch));
             column++) {
            char text[2048];

            mr_row_print(&one, column, text, sizeof(text));
            mr_buf_printf(out, "%s%s", column > 0 ? "|" : "", text);
        }
        mr_buf_add_char(out, '\n');
    }
    return MR_OK;
}

/* Rows of a SELECT over the tables and `changes` (NULL: none), sorted. */
static void print_select(const struct bench *bench, const char *select, struct mr_memory *changes,
                         struct mr_buf *ret_text)
{
    struct mr_duck_input inputs[TABLES + 1];
    struct mr_batch *rows[TABLES + 1] = {NULL};
    struct mr_batch *const *batches[TABLES + 1];
    size_t counts[TABLES + 1];
    struct mr_duck_stmt *stmt = NULL;
    struct mr_error err = {0};
    size_t count = TABLES + (changes != NULL);

    for (size_t i = 0; i < count; i++) {
        CHECK_OK(mr_memory_rows(i < TABLES ? bench->inputs[i] : changes, &rows[i], &err), &err);
        inputs[i] =
            (struct mr_duck_input){i < TABLES ? tables[i] : "changes", mr_batch_schema(rows[i])};
        batches[i] = &rows[i];
        counts[i] = 1;
    }
    CHECK_OK(mr_duck_prepare(bench->duck, select, inputs, count, &stmt, &err), &err);
    CHECK_OK(mr_duck_run(stmt, batches, counts, 0, print_row_text, ret_text, &err), &err);
    mr_duck_stmt_free(stmt);
    for (size_t i = 0; i < count; i++)
        mr_batch_unref(rows[i]);
    mr_buf_add_char(ret_text, '\0');
    sql_flow_sort(ret_text->data);
}

/* key: columns that identify a row of update mode; NULL: every row counts. */
static void check_query(struct test *t, const char *name, const char *key)
{
    static const char *const batch_sizes[] = {"20000", "7000", "1000"};
    struct bench bench;
    struct mr_buf want = MR_BUF_INIT;
    char duck_name[40];
    char fold[300];
    char *text;
    char *reference;

    open_bench(t, &bench);
    snprintf(duck_name, sizeof(duck_name), "%s_duck", name);
    text = read_query(name);
    reference = read_query(duck_name);
    if (key == NULL)
        snprintf(fold, sizeof(fold), "SELECT * FROM changes");
    else
        snprintf(fold, sizeof(fold),
                 "SELECT * EXCLUDE (mr_n) FROM (SELECT *, row_number() OVER () AS mr_n FROM "
                 "changes) QUALIFY row_number() OVER (PARTITION BY %s ORDER BY mr_n DESC) = 1",
                 key);
    print_select(&bench, reference, NULL, &want);
    CHECK(strlen(want.data) > 0);
    for (size_t i = !test_quick()       ? 0
                    : test_slow_build() ? 2
                                        : 1;
         i < sizeof(batch_sizes) / sizeof(batch_sizes[0]); i++) {
        struct mr_memory *results = fresh_table(t, "results");
        struct mr_buf have = MR_BUF_INIT;
        char checkpoint[400];

        snprintf(checkpoint, sizeof(checkpoint), "%s/%s", t->dir, batch_sizes[i]);
        set_sizes(batch_sizes[i], checkpoint);
        run_script(name, text, results);
        print_select(&bench, fold, results, &have);
        CHECK_EQ_STR(have.data, want.data);
        mr_buf_release(&have);
    }
    mr_buf_release(&want);
    mr_text_free(text);
    mr_text_free(reference);
    close_bench(&bench);
}

TEST(nexmark_q0_every_bid)
{
    check_query(t, "q0", NULL);
}

TEST(nexmark_q1_another_currency)
{
    check_query(t, "q1", NULL);
}

TEST(nexmark_q2_some_auctions)
{
    check_query(t, "q2", NULL);
}

TEST(nexmark_q3_who_sells_where)
{
    check_query(t, "q3", NULL);
}

TEST(nexmark_q4_prices_of_closed_auctions)
{
    check_query(t, "q4", "category");
}

TEST(nexmark_q5_hot_auctions)
{
    check_query(t, "q5", NULL);
}

TEST(nexmark_q6_the_last_ten_auctions_of_each_seller)
{
    check_query(t, "q6", "seller");
}

TEST(nexmark_q7_highest_bids)
{
    check_query(t, "q7", NULL);
}

TEST(nexmark_q8_newcomers_who_sell)
{
    check_query(t, "q8", NULL);
}

TEST(nexmark_q9_winning_bids)
{
    check_query(t, "q9", NULL);
}

TEST(nexmark_q18_the_last_bid_of_each_bidder)
{
    check_query(t, "q18", "auction, bidder");
}

TEST(nexmark_q19_the_ten_highest_bids_of_each_auction)
{
    check_query(t, "q19", "auction, place");
}

TEST(nexmark_q11_sessions_of_bidders)
{
    check_query(t, "q11", NULL);
}

TEST(nexmark_q15_bidders_and_auctions_of_each_day)
{
    check_query(t, "q15", "day");
}

TEST(nexmark_q16_bidders_and_auctions_of_each_channel)
{
    check_query(t, "q16", "channel, day");
}

TEST(nexmark_q20_bids_with_their_auctions)
{
    check_query(t, "q20", NULL);
}

TEST(nexmark_q14_prices_in_a_range)
{
    check_query(t, "q14", NULL);
}

TEST(nexmark_q17_bids_of_each_auction_and_day)
{
    check_query(t, "q17", "auction, day");
}

TEST(nexmark_q21_the_number_of_the_channel)
{
    check_query(t, "q21", NULL);
}

TEST(nexmark_q22_parts_of_the_address)
{
    check_query(t, "q22", NULL);
}
