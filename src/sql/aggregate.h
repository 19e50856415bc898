/*
 * Inside of the planner of GROUP BY: one block while it is planned (aggregate.c shows the steps).
 *
 *   aggregate.c          the steps in order, and the fold      aggregate_input.c    before it
 *   aggregate_groups.c   GROUP BY                              aggregate_output.c   after it
 *   aggregate_calls.c    aggregate functions                   aggregate_rewrite.c  the list over
 *                                                                                   the groups
 *
 * Thread: the planner's.
 */
#ifndef MR_SQL_AGGREGATE_H
#define MR_SQL_AGGREGATE_H

#include "base/limits.h"
#include "sql/internal.h"

enum { MR_SQL_NAME_BYTES = 16, MR_SQL_SETS_MAX = MR_LIMIT_SQL_GROUPING_SETS };

struct mr_sql_key {
    struct mr_json *expr; /* NULL: the start of the block's window */
    char name[MR_SQL_NAME_BYTES];
    uint32_t column; /* of the aggregation's input */
};

/* An expression over the rows that goes into the aggregation beside the keys. */
struct mr_sql_argument {
    struct mr_json *expr;
    char name[MR_SQL_NAME_BYTES];
    uint32_t column; /* of the aggregation's input */
};

#define MR_SQL_NONE UINT32_MAX

/* One aggregate of the fold; arguments are indexes into the block's, or MR_SQL_NONE. */
struct mr_sql_agg {
    enum mr_agg_kind kind;
    char name[MR_SQL_NAME_BYTES];
    uint32_t argument;
    uint32_t other;
    uint32_t filter;
    double fraction;
    uint32_t limit; /* of the n best */
    const struct mr_agg_user *user;
    struct mr_agg_order orders[MR_AGG_ORDERS_MAX]; /* column: index of the argument */
    uint32_t order_count;
    const char *identity;
};

/* lambda x, i: ... around an expression: these names are not columns. */
struct mr_sql_lambda {
    struct mr_json *names; /* a reference, or a row() of them */
    const struct mr_sql_lambda *outer;
};

struct mr_sql_block {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    struct mr_json *node;
    struct mr_json *list;
    struct mr_sql_from *from;
    struct mr_sql_key keys[MR_SQL_KEYS_MAX];
    uint32_t key_count;
    struct mr_sql_agg aggs[MR_SQL_AGGS_MAX];
    uint32_t agg_count;
    struct mr_sql_argument arguments[MR_SQL_AGGS_MAX];
    uint32_t argument_count;
    /* GROUPING SETS: of each, the keys that are in it; the last key is the set's number. */
    uint64_t sets[MR_SQL_SETS_MAX];
    uint32_t set_count;
    uint32_t set_key;
    const struct mr_sql_lambda *lambda; /* around what is being rewritten */
    uint64_t last_keys;                 /* what the expression just read in GROUP BY became */
    bool has_window;
    bool uses_end;
    struct mr_sql_window window;
    uint32_t gap_column; /* of the input, when the window is a session with a gap of each row */
    const char *window_alias; /* of the select item that is the window, or "" */
    struct mr_json
        *structs[4]; /* GROUP BY w, a window of a subquery: keys i, i + 1 are its fields */
    uint32_t struct_keys[4];
    uint32_t struct_count;
    struct mr_sql_rel input; /* of the partial aggregation */
};

/* aggregate_groups.c */
bool mr_sql__block_resolves(const struct mr_sql_block *block, const struct mr_json *reference);
/* Equal, or two references to one column: city and t.city. */
bool mr_sql__same_expr(const struct mr_sql_block *block, const struct mr_json *a,
                       const struct mr_json *b);
/* Name of a reference without a qualifier, or NULL. */
const char *mr_sql__single_name(const struct mr_json *node);
/* The select item of that alias, or NULL. */
struct mr_json *mr_sql__item_of_alias(const struct mr_sql_block *block, const char *alias);
enum mr_status mr_sql__read_groups(struct mr_sql_block *block);

/* Puts what grouping(a, b) means, by the number of the set, in its place. */
enum mr_status mr_sql__put_grouping(struct mr_sql_block *block, struct mr_json *node);

/* aggregate_calls.c: puts the result of an aggregate function, or an expression over results, in
 * the place of its call. */
enum mr_status mr_sql__put_aggregate(struct mr_sql_block *block, struct mr_json *call);
/* Puts an expression in the place of another, which keeps its alias. */
enum mr_status mr_sql__put(struct mr_sql_block *block, struct mr_json *node, struct mr_json *with);
/* Text of an expression that names the stream's columns without qualifiers: the same for the same
 * meaning. */
enum mr_status mr_sql__identity(struct mr_sql_block *block, const struct mr_json *expr,
                                const char **ret_text);

/* aggregate_rewrite.c */
/* Names of result columns, before the expressions are replaced. */
enum mr_status mr_sql__name_items(struct mr_sql_block *block);
/* Keys, windows and aggregates become columns of the aggregation's result. aliases: names of the
 * list may be used. */
enum mr_status mr_sql__rewrite(struct mr_sql_block *block, struct mr_json *node, bool aliases);

/* aggregate_input.c: fills block->input and the columns of keys and arguments. */
enum mr_status mr_sql__plan_agg_input(struct mr_sql_block *block);

/* session.c */
/* The gap of each row as microseconds. */
enum mr_status mr_sql__session_gap(struct mr_sql_block *block, struct mr_json **ret_expr);
/* Puts mr_start and mr_end in front of block->input. */
enum mr_status mr_sql__add_session_window(struct mr_sql_block *block, uint32_t time_column,
                                          struct mr_sql_rel *ret_rel);
/* Checks the keys; start and end become the last ones. */
enum mr_status mr_sql__session_keys(struct mr_sql_block *block);
void mr_sql__session_time(const struct mr_sql_block *block, struct mr_aggregate_spec *spec);

/* aggregate_output.c: the SELECT list, HAVING, ORDER BY and LIMIT over the groups. */
enum mr_status mr_sql__plan_agg_output(struct mr_sql_block *block, struct mr_sql_rel *groups,
                                       struct mr_sql_rel *rel);

#endif
