/*
 * Shared between the files of joins of streams: join.c (names), join_tree.c (order),
 * join_pair.c (one join), join_bound.c (times).
 *
 *     FROM tree --leaves, one name a column--> expressions over those names
 *               --groups of inner joins, outer joins--> operators of two inputs
 *               --> one leaf 'mr_joined' (and static tables beside it) for the rest of the planner
 *
 * Thread: the planner's.
 */
#ifndef MR_SQL_JOINS_H
#define MR_SQL_JOINS_H

#include "base/limits.h"
#include "ops/join.h"
#include "sql/internal.h"

enum {
    MR_SQL_CONJUNCTS_MAX = MR_LIMIT_SQL_JOIN_CONDITIONS,
    MR_SQL_MERGED_MAX = MR_LIMIT_SQL_JOIN_MERGED,
    MR_SQL_RANGES_MAX = MR_LIMIT_SQL_JOIN_RANGES
};

#define MR_SQL_JOINED "mr_joined"

/* A table, view or subquery of the FROM. */
struct mr_sql_join_leaf {
    struct mr_json *node;
    const char *alias;
    bool is_static; /* stays in the FROM, beside the joined streams */
    bool in_unit;   /* a static one that a stream is joined with before streams are joined */
    bool hidden;    /* right side of a SEMI or ANTI join: only its ON sees it */
    const struct mr_schema *schema; /* NULL: a static subquery */
    const struct mr_schema *all;    /* of a table also the columns nobody reads; or NULL */
    struct mr_sql_rel rel;          /* a stream's */
    const char **names;             /* of its columns in the joined rows */
    bool *merged;                   /* by USING */
    uint32_t *uses;                 /* places that still need a column */
};

/* A column that USING made of two. */
struct mr_sql_join_merged {
    const char *name;
    struct mr_json *expr;
    uint64_t leaves;
};

/* A condition that must hold: one operand of the ANDs of an ON or of WHERE. */
struct mr_sql_conjunct {
    struct mr_json *expr;
    uint64_t leaves;
    bool opaque; /* has a subquery or a static column: not for the joins of streams */
    bool used;
    bool in_where; /* still stands in WHERE when no join takes it */
};

struct mr_sql_conjuncts {
    struct mr_sql_conjunct *items[MR_SQL_CONJUNCTS_MAX];
    uint32_t count;
};

struct mr_sql_joins {
    struct mr_sql_planner *p;
    struct mr_sql_query *query;
    const struct mr_sql_scope *scope;
    struct mr_json *select; /* the block */
    struct mr_sql_join_leaf leaves[MR_SQL_INPUTS_MAX];
    uint32_t count;
    struct mr_sql_join_merged merged[MR_SQL_MERGED_MAX];
    uint32_t merged_count;
};

/* Streams joined so far, columns with their names in the joined rows. */
struct mr_sql_side {
    struct mr_sql_rel rel;
    uint64_t leaves;
};

/* join_expr.c */
/* Leaf and column of a rewritten reference ("mr_joined".name...); false: it is none. */
bool mr_sql__joined_column(const struct mr_sql_joins *joins, const struct mr_json *reference,
                           uint32_t *ret_leaf, uint32_t *ret_column, size_t *ret_rest);
/* Leaves below an expression; *ret_opaque: it needs more than streams. */
uint64_t mr_sql__leaves_of(const struct mr_sql_joins *joins, const struct mr_json *expr,
                           bool *ret_opaque);
/* Adds n (or takes 1 away, n = -1) to the uses of every column in an expression. */
void mr_sql__count_uses(struct mr_sql_joins *joins, const struct mr_json *expr, int n);
/* Operands of the ANDs of a condition, appended to list. */
enum mr_status mr_sql__conjuncts(struct mr_sql_joins *joins, struct mr_json *condition,
                                 bool in_where, struct mr_sql_conjuncts *list);

/* join_tree.c: the FROM with one stream in it. */
enum mr_status mr_sql__join_tree(struct mr_sql_joins *joins, struct mr_json *tree,
                                 struct mr_sql_conjuncts *where);
bool mr_sql__join_has_streams(const struct mr_sql_joins *joins, const struct mr_json *tree,
                              unsigned *ret_count);
/* Marks what is joined with static tables before streams are joined. */
enum mr_status mr_sql__join_units(struct mr_sql_joins *joins, struct mr_json *tree, bool below);

/* join_pair.c: takes the conditions it can use out of the list (used). */
enum mr_status mr_sql__join_pair(struct mr_sql_joins *joins, const struct mr_json *place,
                                 enum mr_join_type type, const struct mr_sql_side *left,
                                 const struct mr_sql_side *right, struct mr_sql_conjuncts *list,
                                 struct mr_sql_side *ret_side);
/* Rows of a side that pass all conditions over it alone. */
enum mr_status mr_sql__join_filter(struct mr_sql_joins *joins, struct mr_sql_side *side,
                                   struct mr_sql_conjuncts *list);
/* Is there an equality between the two sets of leaves? */
bool mr_sql__join_linked(const struct mr_sql_joins *joins, uint64_t left, uint64_t right,
                         const struct mr_sql_conjuncts *list);

/*
 * join_bound.c: a comparison of one column of each side, solved:
 *
 *     left column <compare> right column + add     (add in units of the columns; times in us)
 */
struct mr_sql_bound {
    const char *left; /* names in the joined rows */
    const char *right;
    enum mr_compare compare;
    int64_t add;
    bool exact;   /* is the condition itself, so that the operator can decide it */
    bool is_time; /* both are TIMESTAMPs */
};
/* A conjunct as one or two bounds (BETWEEN); 0: it is something else. */
enum mr_status mr_sql__join_bounds(struct mr_sql_joins *joins, const struct mr_sql_side *left,
                                   const struct mr_sql_side *right, const struct mr_json *expr,
                                   struct mr_sql_bound bounds[2], uint32_t *ret_count);

/* One join on its way from conditions to an operator. */
struct mr_sql_pair_key {
    struct mr_json *exprs[2];
    struct mr_json *conjunct; /* for places */
    bool null_equal;
    const char *names[2]; /* of the columns */
};

struct mr_sql_pair {
    struct mr_sql_joins *joins;
    struct mr_sql_planner *p;
    const struct mr_json *place;
    enum mr_join_type type;
    struct mr_sql_side sides[2];
    struct mr_sql_pair_key keys[MR_SQL_KEYS_MAX];
    uint32_t key_count;
    struct mr_sql_bound bounds[MR_SQL_RANGES_MAX]; /* exact ones are ranges */
    uint32_t bound_count;
    struct mr_json *rest[MR_SQL_CONJUNCTS_MAX]; /* for the statement over pairs */
    uint32_t rest_count;
    struct mr_json *pass[2]; /* AND of conditions over a side that is kept */
    const char *pass_names[2];
    const char *time_names[2]; /* of the event time that conditions use */
    struct mr_join_time expiry[2];
    const char *expiry_names[2];
    int64_t shift_us[2];
    const char *state_name;
};

/* join_times.c */
/* The watermarked mark of a column, or NULL. */
const struct mr_sql_mark *mr_sql__mark_named(const struct mr_sql_rel *rel, const char *name);
/* How a marked column tells when the watermark has passed its row. */
struct mr_join_time mr_sql__pair_time_of(const struct mr_sql_mark *mark,
                                         const struct mr_type *type);
/* A watermarked key: both sides' rows leave by it. */
bool mr_sql__pair_key_case(struct mr_sql_pair *pair);
void mr_sql__pair_value_case(struct mr_sql_pair *pair);
/* The event time of a side: that of the conditions, else its first. */
void mr_sql__pair_time(struct mr_sql_pair *pair, unsigned side);
/* Is this join allowed, in this output mode? */
enum mr_status mr_sql__pair_rules(struct mr_sql_pair *pair, bool by_key);
const char *mr_sql__pair_name(enum mr_join_type type);

/* join_node.c */
enum mr_status mr_sql__pair_late(struct mr_sql_pair *pair, unsigned side);
enum mr_status mr_sql__pair_narrow(struct mr_sql_pair *pair, unsigned side);
enum mr_status mr_sql__pair_node(struct mr_sql_pair *pair, bool by_key,
                                 struct mr_sql_side *ret_side);

/* join_filter.c: a statement that gives BOOLEAN for each row of mr_input_0, as a condition over
 * pairs with those columns; ret_filter's columns are the caller's to set. */
enum mr_status mr_sql__pair_filter(struct mr_sql_engine *engine, const char *sql,
                                   const struct mr_schema *schema,
                                   struct mr_join_filter *ret_filter, struct mr_error *err);

#endif
