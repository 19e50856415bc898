/*
 * Pipelines in tests: SQL text over tables in memory, one step of input after the other, and what
 * came out as text.
 *
 *     struct sql_flow *f = sql_flow_new(t);
 *     sql_flow_source(f, "a", "v BIGINT", "");
 *     sql_flow_sink(f, "out", "", "update");
 *     sql_flow_text(f, "INSERT INTO out SELECT v, count(*) FROM a GROUP BY v;");
 *     sql_flow_step(f, "a", "(3), (2)");
 *     CHECK_EQ_STR(sql_flow_run(f, "out"), "2|1\n3|1\n");
 *
 * Every run plans the script anew, recovers from the checkpoint in the test's directory and
 * processes all there is, batches without data too: each run is a restart. Rows come back sorted,
 * so texts compare as multisets.
 *
 * Thread: the test's.
 */
#ifndef MR_TESTS_SUPPORT_SQL_FLOW_H
#define MR_TESTS_SUPPORT_SQL_FLOW_H

#include "duck/duck.h"
#include "support/test.h"

struct sql_flow;

struct sql_flow *sql_flow_new(struct test *t);
void sql_flow_free(struct sql_flow *flow); /* drops its tables */

/* A table in memory to read; extra: ", WATERMARK FOR ts AS ts - INTERVAL '5 seconds'" or "". */
void sql_flow_source(struct sql_flow *flow, const char *name, const char *columns,
                     const char *extra);
/* One that is read once, at the start of each run. */
void sql_flow_static(struct sql_flow *flow, const char *name, const char *columns);
/* A table in memory to write; columns "" = those of the query, mode NULL = chosen by the
 * planner. */
void sql_flow_sink(struct sql_flow *flow, const char *name, const char *columns, const char *mode);
/* More of the script: SET, CREATE VIEW, INSERT. */
void sql_flow_text(struct sql_flow *flow, const char *sql);
/* Instead of all text so far: the query was edited between two runs. */
void sql_flow_retext(struct sql_flow *flow, const char *sql);
/* Batches of that many steps; 0 = all there are. */
void sql_flow_steps_per_batch(struct sql_flow *flow, int steps);
/* Every batch runs as large ones do: shard by shard. */
void sql_flow_large_batches(struct sql_flow *flow);

/* A view that is an operator of a program, behind a table or view (sql/plan.h). */
struct mr_sql_program_view;
void sql_flow_view(struct sql_flow *flow, const struct mr_sql_program_view *view);
/* The one of that name as another one from the next run on. */
void sql_flow_view_replace(struct sql_flow *flow, const struct mr_sql_program_view *view);
/* Functions for SQL (sql/plan.h); must outlive the flow. */
struct mr_sql_functions;
void sql_flow_functions(struct sql_flow *flow, const struct mr_sql_functions *functions);
/* From now on on a simulated disk and clock, which is moved to that many milliseconds after its
 * start; never back. The first call comes before the first run. */
void sql_flow_clock(struct sql_flow *flow, int64_t time_ms);
/* A run that fails: its error. */
enum mr_status sql_flow_fail(struct sql_flow *flow, struct mr_error *ret_err);
/* "operator": the value of a custom metric in the newest batch of the last run; -1: none. */
int64_t sql_flow_metric(const struct sql_flow *flow, const char *name);

/* Adds a step of rows: the VALUES list, or a SELECT. "" = a step without rows. */
void sql_flow_step(struct sql_flow *flow, const char *table, const char *values);
/* Adds rows [from, to) of a batch as a step. */
void sql_flow_step_slice(struct sql_flow *flow, const char *table, const struct mr_batch *rows,
                         int64_t from, int64_t to);
struct mr_batch *sql_flow_batch(struct sql_flow *flow,
                                const char *sql); /* of a query on DuckDB; caller unrefs */

/* Runs to the end of the input; rows that came out since the last call, sorted. Lives until the
 * next call. */
const char *sql_flow_run(struct sql_flow *flow, const char *sink);
/* Runs until the batch loop comes to that point ("planned", "ran", "staged", "published"), where it
 * ends as a crash would. */
void sql_flow_run_until(struct sql_flow *flow, const char *point);
/* Only the rows of the newest batch that wrote anything, in the order they were written. */
const char *sql_flow_last(struct sql_flow *flow, const char *sink);
/* All rows there are, as if each replaced the earlier one with the same first key_columns.
 * Sorted. */
const char *sql_flow_upserted(struct sql_flow *flow, const char *sink, uint32_t key_columns);
/* The script must not plan: text and place of the error. */
enum mr_status sql_flow_check(struct sql_flow *flow, struct mr_error *ret_err);
const char *sql_flow_description(struct sql_flow *flow);

/* The same SELECT once over all rows added so far, by DuckDB. Sorted. */
const char *sql_flow_oracle(struct sql_flow *flow, const char *select);
/* Watermark in force (ms) in batch `index` of the last run, in its order; -1 past the last. */
int64_t sql_flow_watermark_ms(const struct sql_flow *flow, size_t index);
/* Rows (groups) dropped as late by the last run. */
uint64_t sql_flow_late_rows(const struct sql_flow *flow);
/*
 * What the vectors call st: "total/updated/dropped/removed" of each stateful operator, the one
 * nearest the sink first, separated by blanks; totals as after the newest batch, the others summed
 * over the batches since the last call. Lives until the next call.
 */
const char *sql_flow_state(struct sql_flow *flow);

/* Lines of a text, sorted (in place). */
void sql_flow_sort(char *lines);

#endif
