/*
 * The SQL front end: the text of a pipeline to a graph and the configuration of a query.
 *
 *     text --(script.c)--> statements --(analysis, plan)--> mr_graph + mr_query_config --> mr_query_new
 *
 * Everything that can be known before running is checked here: a plan that is made runs.  Errors carry line and column of the text
 * (err->sql_line, err->sql_column; the text of the error does not repeat them).
 *
 * Thread: one.
 */
#ifndef MR_SQL_PLAN_H
#define MR_SQL_PLAN_H

#include "core/query.h"

#include <millrace/ext/options.h>

/* What the command line says; it wins over SET in the file. NULL and false: not said. */
struct mr_sql_overrides {
    const struct mr_option_pair *settings; /* --set name=value, in order */
    size_t setting_count;
    bool to_terminal; /* a bare SELECT prints for a person (table), else one JSON object a line */
};

struct mr_sql_plan;

/*
 * Plans the whole text: all INSERTs into one graph, or, without any INSERT, the last SELECT to the console. A `stdin` that is read but
 * not declared is a table over standard input whose columns are those that the query uses, as text or as numbers where it
 * computes with them (documented in src/sql/README.md).
 * Errors: MR_SQL_ERROR, MR_CONFIG. Returns new.
 */
enum mr_status mr_sql_plan_new(const char *text, size_t text_bytes, const struct mr_sql_overrides *overrides,
                               struct mr_sql_plan **ret_plan, struct mr_error *err);
void mr_sql_plan_free(struct mr_sql_plan *plan); /* after the query that runs it; NULL allowed */

struct mr_graph *mr_sql_plan_take_graph(struct mr_sql_plan *plan); /* once; for mr_query_new */
struct mr_query_config *mr_sql_plan_config(struct mr_sql_plan *plan); /* strings borrow from the plan */
/* For people, as `millrace check` prints it: sources, operators with their state names, sinks, output modes, watermark. */
const char *mr_sql_plan_text(const struct mr_sql_plan *plan);


#endif
