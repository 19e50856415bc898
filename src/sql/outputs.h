/*
 * What a pipeline writes: the tables of its INSERTs, their output modes, and the casts to their
 * columns. Shared by plan.c, which makes the outputs, and sink.c.
 *
 * Thread: the planner's.
 */
#ifndef MR_SQL_OUTPUTS_H
#define MR_SQL_OUTPUTS_H

#include "sql/internal.h"

/* sink.c: sinks, and casts to their columns. */
struct mr_sql_output {
    struct mr_sql_table *table; /* NULL: the terminal */
    const struct mr_sink_connector *connector;
    struct mr_options *options;
    const struct mr_format *format;
    void *user;
    enum mr_output_mode mode;
    bool mode_given;
    bool mode_known;
    unsigned wishes; /* bits: modes that its INSERTs would choose */
    struct mr_node **inputs;
    size_t input_count;
};
enum mr_status mr_sql__sink_resolve(struct mr_sql_planner *p, struct mr_sql_output *output,
                                    const char *mode);
/* The mode of an output depends on all that is written into it, whatever stands first: each query
 * wishes, then the mode is settled; check refuses what a query cannot be. */
void mr_sql__wish_mode(struct mr_sql_planner *p, struct mr_sql_output *output,
                       const struct mr_sql_query *query);
void mr_sql__settle_mode(struct mr_sql_output *output);
enum mr_status mr_sql__check_mode(struct mr_sql_planner *p, const struct mr_sql_output *output,
                                  const struct mr_sql_query *query);
enum mr_status mr_sql__fit(struct mr_sql_planner *p, struct mr_sql_query *query,
                           const struct mr_sql_output *output,
                           const struct mr_sql_statement *insert, const struct mr_sql_rel *rel,
                           struct mr_sql_rel *ret_rel);

#endif
