/*
 * From statements to one graph: the SQL front end's planner.
 *
 *     script --> tables, views, settings --> columns needed --> nodes of each INSERT --> graph
 *
 * A source that several statements use is read once; a view is planned once. Nothing is opened and
 * no data is read, except static tables when a plan (not a check) asks for it.
 *
 * Thread: one at a time.
 */
#ifndef MR_SQL_PLAN_H
#define MR_SQL_PLAN_H

#include "core/query.h"
#include "sql/script.h"

/* Connects a table of the script to an object of the caller's (the C API's callbacks, the memory
 * tables of `millrace test`) instead of what its WITH says; the WITH is still checked. */
struct mr_sql_binding {
    const char *table;
    const struct mr_source_connector *source; /* NULL: as the script says */
    const struct mr_sink_connector *sink;     /* NULL: as the script says */
    void *user;                               /* given to the connector's open */
};

/*
 * A view that is an operator of a program instead of a SELECT (C API: functions with state). It is
 * planned when a query first reads it.
 */
struct mr_sql_planner;
struct mr_sql_rel;
struct mr_sql_program_view {
    const char *name;
    const char *input; /* a table or view; all its columns are read */
    /* Adds nodes behind input to the planner's graph (sql/internal.h). */
    enum mr_status (*plan)(void *arg, struct mr_sql_planner *planner,
                           const struct mr_sql_rel *input, struct mr_sql_rel *ret_rel);
    void *arg;
};

/* A function of a program that SQL may call: made known to every instance of DuckDB of the plan,
 * each before its first statement (duck/duck.h). */
struct mr_duck;
struct mr_agg_user;
struct mr_sql_functions {
    enum mr_status (*add)(void *arg, struct mr_duck *duck, struct mr_error *err);
    void *arg;
    /* The program's aggregate of that name, or NULL (ops/ops.h). NULL: there are none. */
    const struct mr_agg_user *(*aggregate)(void *arg, const char *name);
};

struct mr_sql_args {
    struct mr_env *env;
    const struct mr_option_pair *settings; /* win over SET: the command line's */
    size_t setting_count;
    const struct mr_sql_binding *bindings;
    size_t binding_count;
    const struct mr_sql_program_view *views;
    size_t view_count;
    const struct mr_sql_functions *functions; /* NULL: none; must outlive the plan */
    bool check_only; /* static tables are not read: the graph must not be run */
};

struct mr_sql_plan {
    struct mr_graph *graph;        /* mr_query_new takes it: set it to NULL then */
    struct mr_query_config config; /* its texts belong to the plan */
    char *
        /* sources, operators, state, sinks, output modes, watermark: a few lines of text */
        description;
    struct mr_options *settings;
    bool prints; /* a sink writes to standard output */
    /* The script has EXPLAIN: the graph is that of the explained statements, and what is wanted is
     * the description, not a run. */
    bool explains;
};

/*
 * Plans all INSERT statements (without any: the last SELECT goes to the terminal). The graph uses
 * the plan's SQL engine: free the plan after the query. Errors: MR_SQL_ERROR with line and column,
 * MR_CONFIG for options, MR_NOT_FOUND for unknown connectors' parts.
 */
enum mr_status mr_sql_plan(const struct mr_sql_script *script, const struct mr_sql_args *args,
                           struct mr_sql_plan **ret_plan, struct mr_error *err);
void mr_sql_plan_free(struct mr_sql_plan *plan); /* NULL allowed */

/* Plans without reading anything and gives the description; freed with mr_text_free. */
enum mr_status mr_sql_check(const struct mr_sql_script *script, const struct mr_sql_args *args,
                            char **ret_text, struct mr_error *err);

#endif
