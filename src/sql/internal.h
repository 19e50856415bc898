/*
 * Shared between the files of the planner (plan.c shows how they follow each other).
 *
 * Everything lives in the planner's arena or in the graph. Trees are DuckDB's syntax trees, edited
 * in place. Thread: the planner's caller; operators (engine.c) run on workers.
 */
#ifndef MR_SQL_INTERNAL_H
#define MR_SQL_INTERNAL_H

#include "base/json.h"
#include "base/limits.h"
#include "duck/duck.h"
#include "duck/lex.h"
#include "ops/ops.h"
#include "sql/plan.h"
#include "sql/script.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

enum {
    MR_SQL_MARKS_MAX = 8,
    MR_SQL_INPUTS_MAX = MR_LIMIT_SQL_INPUTS,
    MR_SQL_DEPTH_MAX = MR_LIMIT_SQL_QUERIES_NESTED,
    MR_SQL_NODES_MAX = MR_LIMIT_SQL_OPERATORS,
    MR_SQL_WALKS_MAX = MR_LIMIT_SQL_QUERIES_UNFOLDED,
    MR_SQL_TREE_DEPTH_MAX = 20000, /* of a syntax tree with its views: of our own recursion */
    MR_SQL_KEYS_MAX = MR_LIMIT_SQL_KEYS,
    MR_SQL_AGGS_MAX = MR_LIMIT_SQL_AGGREGATES
};

/* engine.c: instances of DuckDB, one a worker, opened when first needed. */
struct mr_sql_engine;
/* functions: NULL, or must outlive the engine. has_window_time: the macro is made at once. */
enum mr_status mr_sql__engine_new(const struct mr_sql_functions *functions, bool has_window_time,
                                  struct mr_sql_engine **ret_engine, struct mr_error *err);
/* A statement of the plan calls window_time(): all instances have it from now on. Planner only. */
enum mr_status mr_sql__engine_window_time(struct mr_sql_engine *engine, struct mr_error *err);
struct mr_sql_engine *mr_sql__engine_ref(struct mr_sql_engine *engine);
void mr_sql__engine_unref(struct mr_sql_engine *engine); /* NULL allowed */
/* The planner's own instance, which is worker 0's too. */
enum mr_status mr_sql__engine_duck(struct mr_sql_engine *engine, unsigned worker,
                                   struct mr_duck **ret_duck, struct mr_error *err);

/* An operator that runs a statement: a map over each batch, or a fold without state over all rows
 * that a batch of the query brings, from all partitions (whole). */
struct mr_sql_static;
struct mr_sql_input {
    const char *name;
    const struct mr_schema *schema;
    struct mr_sql_static *rows; /* NULL: the stream */
};
struct mr_sql_map_spec {
    struct mr_sql_engine *engine;
    const char *sql;
    const struct mr_sql_input *inputs; /* exactly one is the stream */
    size_t input_count;
};
enum mr_status mr_sql__map_new(const struct mr_sql_map_spec *spec, struct mr_map_op *ret_op,
                               struct mr_error *err);
enum mr_status mr_sql__whole_new(const struct mr_sql_map_spec *spec, struct mr_fold_op *ret_op,
                                 struct mr_error *err);

/* static_table.c: a bounded table, read at the start and, with static_reload, again. */
struct mr_sql_reload;
struct mr_sql_static {
    struct mr_batch **batches;
    size_t count;
    struct mr_sql_reload *reload; /* NULL: never read again */
};
/* The rows for a batch, the same for all that ask in it; they live until the next batch asks. Any
 * thread. */
enum mr_status mr_sql__static_rows(struct mr_sql_static *rows, const struct mr_batch_info *info,
                                   struct mr_batch *const **ret_batches, size_t *ret_count,
                                   struct mr_error *err);
struct mr_sql_table;
enum mr_status mr_sql__static_read(struct mr_env *env, const struct mr_sql_table *table,
                                   struct mr_sql_static **ret_rows, struct mr_error *err);
void mr_sql__static_free(struct mr_sql_static *rows); /* NULL allowed */

enum { MR_SQL_ALL_MODES = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE };

/* How a column of a relation relates to the watermark. */
enum mr_sql_mark_kind {
    MR_SQL_MARK_TIME,   /* event time itself */
    MR_SQL_MARK_START,  /* start of a window: closed at start + size */
    MR_SQL_MARK_END,    /* end of a window */
    MR_SQL_MARK_WINDOW, /* struct {start, end} */
};
struct mr_sql_mark {
    uint32_t column;
    enum mr_sql_mark_kind kind;
    int64_t size_us;
    bool watermarked; /* false: a window of a column without a watermark */
    int64_t delay_us; /* of the watermark */
};

/* A stream of rows that was planned: a node of the graph. */
struct mr_sql_rel {
    struct mr_node *node;
    const struct mr_schema *schema;
    struct mr_sql_mark marks[MR_SQL_MARKS_MAX];
    uint32_t mark_count;
    bool aggregated; /* an aggregation is above its sources */
};

/* A table of the catalogue: a source, a sink, or both. */
struct mr_sql_table {
    const char *name;
    const struct mr_sql_statement *statement; /* NULL: `stdin` without CREATE TABLE */
    const char *connector;
    const struct mr_sql_binding *binding; /* NULL: none */
    bool is_static;
    bool is_stream;           /* static = 'false' was written */
    int64_t static_reload_us; /* -1: read once */
    /* As a source. */
    const struct mr_source_connector *source;
    const struct mr_format *format;
    struct mr_options *options;   /* moves into the graph */
    const struct mr_schema *full; /* all columns; borrowed or owned below */
    struct mr_schema *owned;      /* schemas made for it */
    struct mr_schema *narrow;     /* columns to read */
    enum mr_on_error on_error;
    const char *bad_table; /* on_error = 'into TABLE' */
    bool resolved;
    bool needs_all;
    bool *needed;         /* per column of full */
    const char **guessed; /* undeclared stdin: names that queries use */
    size_t guessed_count;
    struct mr_sql_rel *rel;
    struct mr_node *source_node; /* in front of the watermark */
    struct mr_sql_static *rows;
};

struct mr_sql_query; /* a SELECT's text and tree */

struct mr_sql_view {
    const char *name;
    const struct mr_sql_program_view *program; /* NULL: a SELECT */
    struct mr_sql_query *query;
    const struct mr_sql_statement *statement; /* NULL: a program's */
    struct mr_sql_rel *rel;                   /* once planned */
    const char *readers[3];                   /* per output mode: who reads it, NULL nobody */
    unsigned modes;                           /* it can be planned for, bits; with rel */
    bool busy;                                /* being planned: a cycle when met again */
    /* Views of views double at every step: what was found out about one is kept. */
    unsigned looked; /* the pass over the traits of a statement that has seen it */
    unsigned walks;  /* over what it needs; whole from some number on */
    bool walked;     /* all of it is needed, and that is noted below it */
    bool static_known;
    bool is_static;
};

/* What streams add to a SELECT besides windows, taken out of its text by the token pass: clauses.c.
 * A node of the tree has its number: "mr_clause". */
enum mr_sql_clause_kind { MR_SQL_ON_LATE_DROP, MR_SQL_ON_LATE_INTO, MR_SQL_WATERMARK };
struct mr_sql_clause {
    enum mr_sql_clause_kind kind;
    size_t at;        /* in the script */
    const char *name; /* INTO: the table; WATERMARK: the column */
    int64_t delay_us; /* WATERMARK */
    bool used;        /* an operator has taken it */
};

struct mr_sql_query {
    const char *owner; /* name of the sink or view: prefix of node names */
    size_t at;         /* offset of the text in the script */
    const char *sql;   /* after the token pass */
    struct mr_edits edits;
    struct mr_json *node; /* the SELECT_NODE or SET_OPERATION_NODE */
    struct mr_sql_clause *clauses;
    size_t clause_count;
    bool planned; /* a statement that runs has used it */
    struct mr_sql_query *next;
};

/* Names that mean a query inside a query: WITH c AS (...). */
struct mr_sql_scope {
    const char *name;
    struct mr_json *node;
    const struct mr_sql_scope *outer; /* what the CTE itself sees */
    const struct mr_sql_scope *next;
};

struct mr_sql_name {
    const char *text; /* owner.what, owner.what2 */
    const char *owner;
    const char *what;
    unsigned number;
    struct mr_sql_name *next;
};

/* Late rows on their way to a table; the sinks are made when all statements are planned. */
struct mr_sql_late {
    const char *table;
    const char *owner; /* the stateful operator they were late for */
    size_t at;         /* of the clause */
    struct mr_sql_rel rel;
    struct mr_sql_late *next;
};

/* Streams that joins made, by the name they have in a FROM. */
struct mr_sql_own {
    const char *name;
    struct mr_sql_rel rel;
    struct mr_sql_own *next;
};

struct mr_sql_planner {
    const struct mr_sql_script *script;
    const struct mr_sql_args *args;
    struct mr_arena arena;
    struct mr_sql_engine *engine;
    struct mr_duck *duck;
    struct mr_graph *graph;
    struct mr_sql_table *tables;
    size_t table_count;
    struct mr_sql_view *views;
    size_t view_count;
    struct mr_sql_query *queries; /* all, for their edits */
    enum mr_output_mode mode;     /* of the INSERT at hand */
    const char *reader;           /* and its words, for errors: "INSERT INTO t" */
    unsigned modes;               /* bits: what the view at hand can be planned for so far */
    unsigned looks;               /* passes over the traits of statements */
    uint64_t walks;               /* over queries, views put in */
    bool mode_refused;            /* the error is one of the mode: with another it may go */
    unsigned workers;             /* that the query will have, at least 1 */
    unsigned depth;
    struct mr_sql_name *names; /* of nodes, to keep them unique */
    size_t name_count;
    struct mr_sql_late *lates;
    struct mr_sql_own *own;
    unsigned own_count;
    struct mr_buf text; /* the description */
    struct mr_error *err;
};

/* text.c: the token pass (window, TUMBLE, ${NAME}) and parsing. */
enum mr_status mr_sql__query_parse(struct mr_sql_planner *p, const char *owner, size_t at,
                                   size_t size, struct mr_sql_query **ret_query);
/* SELECT * FROM that table or view, without a place in the script (program views). */
enum mr_status mr_sql__query_make(struct mr_sql_planner *p, const char *owner, const char *input,
                                  struct mr_sql_query **ret_query);
/* Fails with the place of a node of the tree (NULL: of the query). Returns the status. */
enum mr_status mr_sql__fail(struct mr_sql_planner *p, const struct mr_sql_query *query,
                            const struct mr_json *node, const char *format, ...) MR_PRINTF(4, 5);
/* The same for a place in the script. */
enum mr_status mr_sql__fail_at(struct mr_sql_planner *p, size_t at, const char *format, ...)
    MR_PRINTF(3, 4);
/* What a native operator refuses (MR_CONFIG: two columns of one name, a sum of texts) is a mistake
 * in the query. */
enum mr_status mr_sql__as_sql_error(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    enum mr_status status);
/* There is no such column in any table that the script reads: says so, with the nearest name. */
enum mr_status mr_sql__unknown_column(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                      const struct mr_json *node, const char *name);
/* An error of DuckDB's parser: its place in the script, and the keyword that may be meant. */
enum mr_status mr_sql__place_syntax(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    enum mr_status status);
/* Moves the place of an error in a printed statement to where the user wrote the same word, and
 * makes a text of DuckDB's ours. */
void mr_sql__place_printed(struct mr_sql_planner *p, const struct mr_sql_query *query,
                           const char *printed);
enum mr_status mr_sql__no_memory(struct mr_sql_planner *p);

/* tree.c: the syntax tree. */
bool mr_sql__class_is(const struct mr_json *node, const char *name);
bool mr_sql__type_is(const struct mr_json *node, const char *name);
const char *mr_sql__function(const struct mr_json *node); /* its name in lower case, or NULL */
const char *mr_sql__alias(const struct mr_json *node);    /* "" when none */
bool mr_sql__equal(const struct mr_json *a, const struct mr_json *b); /* but for places, aliases */
bool mr_sql__same_name(const char *a, const char *b);
/* Puts the content of `with` (not copied) in the place of node; keeps its place in the parent. */
void mr_sql__replace(struct mr_json *node, const struct mr_json *with);
struct mr_json *mr_sql__column(struct mr_sql_planner *p, const char *name, const char *alias);
void mr_sql__set_alias(struct mr_sql_planner *p, struct mr_json *node, const char *alias);
struct mr_json *mr_sql__table_ref(struct mr_sql_planner *p, const char *name, const char *alias);
/* SELECT <nothing yet> FROM from: select_list is empty. */
struct mr_json *mr_sql__select(struct mr_sql_planner *p, struct mr_json *from);
struct mr_json *mr_sql__call(struct mr_sql_planner *p, const char *function,
                             struct mr_json *const *arguments, const char *const *names,
                             size_t count);
/* Statement text of a query node. Result in arena. */
enum mr_status mr_sql__print(struct mr_sql_planner *p, const struct mr_json *node,
                             const char **ret_sql);
/* SQL text of an expression. Result in arena. */
enum mr_status mr_sql__expression_text(struct mr_sql_planner *p, const struct mr_json *expression,
                                       const char **ret_text);
/* The trees of texts of our own, without places. */
enum mr_status mr_sql__parse_select(struct mr_sql_planner *p, const char *sql,
                                    struct mr_json **ret_node);
enum mr_status mr_sql__parse_expression(struct mr_sql_planner *p, const char *text,
                                        struct mr_json **ret_expression);
/* What DuckDB would call an expression without AS. */
enum mr_status mr_sql__natural_name(struct mr_sql_planner *p, const struct mr_json *expression,
                                    const char **ret_name);
/* "name" and a type's SQL spelling, for statements made as text. */
void mr_sql__add_quoted(struct mr_buf *sql, const char *name);
void mr_sql__add_type(struct mr_buf *sql, const struct mr_type *type);
/* First node below (or at) `node` that accepts; SUBQUERY expressions are not entered. */
struct mr_json *mr_sql__find(struct mr_json *node, bool (*accepts)(const struct mr_json *node));
bool mr_sql__is_aggregate(const struct mr_json *node); /* of DuckDB, or of the program */
/* The program's aggregate of that name among those of the planner at work on this thread. */
const struct mr_agg_user *mr_sql__user_aggregate(const char *name);
void mr_sql__use_functions(const struct mr_sql_functions *functions); /* NULL: none */
bool mr_sql__is_over(const struct mr_json *node);                     /* f() OVER (...) */
bool mr_sql__is_star(const struct mr_json *node);
bool mr_sql__plain_star(const struct mr_json *node); /* '*' alone */

/* catalog.c: tables and views. */
enum mr_status mr_sql__catalog(struct mr_sql_planner *p);
/* Options of a connector of the caller, in the place of *options. MR_OPTION_SOURCE or _SINK. */
enum mr_status mr_sql__bound_options(struct mr_sql_planner *p, const struct mr_option *own,
                                     size_t own_count, unsigned kind, struct mr_options **options);
struct mr_sql_table *mr_sql__table(struct mr_sql_planner *p, const char *name); /* NULL: none */
struct mr_sql_view *mr_sql__view(struct mr_sql_planner *p, const char *name);
/* Sets view->rel: the rows with the names of CREATE VIEW v (a, b), or as they are. */
enum mr_status mr_sql__view_columns(struct mr_sql_planner *p, struct mr_sql_view *view,
                                    struct mr_sql_rel *rel);
enum mr_status mr_sql__unknown_table(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                     const struct mr_json *node, const char *name);
/* Looks up connector and options of a table used as a source. */
enum mr_status mr_sql__resolve_source(struct mr_sql_planner *p, struct mr_sql_table *table);
/* The value of one of the options every table has, as written, or NULL. */
const char *mr_sql__table_option(const struct mr_sql_table *table, const char *name);
/* All options of a table against the tables of its connector and format. side: MR_OPTION_SOURCE or
 * MR_OPTION_SINK. */
enum mr_status mr_sql__table_options(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                     const struct mr_option *connector_options,
                                     size_t connector_count, const struct mr_format *format,
                                     unsigned side, struct mr_options **ret_options);
/* Columns to read are known once the needs of all queries are: makes table->narrow. */
enum mr_status mr_sql__source_prepare(struct mr_sql_planner *p, struct mr_sql_table *table);
/* NOT NULL of the table's columns, over rows that have them: nothing, or a check. */
enum mr_status mr_sql__add_required(struct mr_sql_planner *p, const struct mr_sql_table *table,
                                    const char *owner, struct mr_sql_rel *rel);
/* Computed columns are made of streams only. */
enum mr_status mr_sql__check_static(struct mr_sql_planner *p, const struct mr_sql_table *table);
/* A watermark of a column behind some rows; at: where it is declared. */
enum mr_status mr_sql__add_watermark(struct mr_sql_planner *p, const char *owner,
                                     const struct mr_sql_rel *input, const char *column,
                                     int64_t delay_us, size_t at, struct mr_sql_rel *ret_rel);
/* Its node (made at the first call): only the needed columns, then the watermark. */
enum mr_status mr_sql__source_rel(struct mr_sql_planner *p, struct mr_sql_table *table,
                                  struct mr_sql_rel **ret_rel);

/* The error that was made is about the output mode. Returns the status. */
enum mr_status mr_sql__of_mode(struct mr_sql_planner *p, enum mr_status status);
/* The mode a view is planned in: its own, or that of whoever reads it. */
enum mr_output_mode mr_sql__view_mode(const struct mr_sql_planner *p,
                                      const struct mr_sql_view *view);

/* needs.c: which columns of each source are used, and who reads which view in which mode; a dry
 * walk over everything an INSERT reads. */
enum mr_status mr_sql__needs(struct mr_sql_planner *p, struct mr_sql_query *query);

/*
 * clauses.c: ON LATE and WATERMARK ... DELAY OF.
 *
 * The token pass calls mr_sql__clause at a word that may begin one: *ret_end is behind its last
 * byte, *ret_text what stands there for DuckDB's parser; *ret_end = 0: it is none. After parsing,
 * mr_sql__place_clauses moves them to the nodes they belong to.
 */
enum mr_status mr_sql__clause(struct mr_sql_planner *p, struct mr_sql_query *query,
                              const struct mr_lexer *lexer, const struct mr_token *token,
                              size_t *ret_end, const char **ret_text);
void mr_sql__place_clauses(struct mr_sql_planner *p, struct mr_sql_query *query);
/* Those that no operator has taken are mistakes. After all is planned. */
enum mr_status mr_sql__check_clauses(struct mr_sql_planner *p);
/* WATERMARK behind a table or subquery: the column it needs (NULL: none); the stream with it. */
const char *mr_sql__watermark_column(const struct mr_sql_query *query, const struct mr_json *node);
enum mr_status mr_sql__clause_watermark(struct mr_sql_planner *p, struct mr_sql_query *query,
                                        const struct mr_json *node, struct mr_sql_rel **rel);
/* ON LATE INTO at the end of a block: does its table declare (or, without columns, take) a column
 * of that name? Then it counts as used up to the split. false: no clause. */
bool mr_sql__late_wants(struct mr_sql_planner *p, const struct mr_sql_query *query,
                        const struct mr_json *node, const char *name);
/* Refuses such a clause for an operator whose late rows cannot be split off; MR_OK: none. */
enum mr_status mr_sql__late_refuse(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                   const struct mr_json *node, const char *why);
/* The table of ON LATE INTO at the end of a block, or NULL. */
struct mr_sql_table *mr_sql__late_table(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                        const struct mr_json *node);
/*
 * Every stateful operator that drops late rows calls this for the rows in front of it (in front of
 * its partial step when it has one), with the SELECT_NODE of its block: with ON LATE INTO the late
 * ones go to the table and *ret_rel are the others, of the same schema; with ON LATE DROP, or
 * without a clause, *ret_rel are all of them.
 *
 * Late: column (of rows, a TIMESTAMP) + add_us at or below the late watermark: exactly the rule of
 * the operator behind it. An aggregation gives the start of the window and its size, or the key
 * that is the event time; a deduplication its event time; a session the time and the gap (end of
 * the row's own session); a join calls it once per side with the side's time and how far behind the
 * watermark a row may still find a partner. operator_name is what the rows say in mr_operator: the
 * name of the state.
 *
 * names: what columns of `rows` are called in the table, NULL at i: not offered (keys, arguments of
 * a rewritten statement). mr_sql__late_names makes them for rows that keep the user's names.
 */
enum mr_status mr_sql__late_split(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  const struct mr_json *node, const char *operator_name,
                                  const struct mr_sql_rel *rows, uint32_t column, int64_t add_us,
                                  const char *const *names, struct mr_sql_rel *ret_rel);
/* Own names of the columns; those that begin with mr_ are not offered, but for mr_start and mr_end:
 * window_start and window_end. In arena, NULL without memory. */
const char *const *mr_sql__late_names(struct mr_sql_planner *p, const struct mr_schema *schema);

/* from.c */
struct mr_sql_leaf {
    const char *alias;              /* as the query names it */
    const char *input;              /* name in the statement that DuckDB gets */
    const struct mr_schema *schema; /* NULL: unknown (a static subquery) */
    struct mr_sql_rel *rel;         /* NULL: static */
    struct mr_sql_static *rows;
    bool is_static;
};
struct mr_sql_from {
    struct mr_sql_leaf leaves[MR_SQL_INPUTS_MAX];
    uint32_t count;
    int32_t stream;       /* index of the one stream, -1 = none */
    bool joined;          /* more than the stream alone */
    struct mr_json *tree; /* with the leaves' input names */
};
enum mr_status mr_sql__from(struct mr_sql_planner *p, struct mr_sql_query *query,
                            struct mr_json *node, const struct mr_sql_scope *scope,
                            struct mr_sql_from *ret_from);
/* Column a COLUMN_REF means, in which leaf; *ret_rest = name parts behind it (fields). False: not
 * known here. */
bool mr_sql__resolve(const struct mr_sql_from *from, const struct mr_json *reference,
                     uint32_t *ret_leaf, uint32_t *ret_column, size_t *ret_rest);
const struct mr_sql_mark *mr_sql__mark_of(const struct mr_sql_rel *rel, uint32_t column);

/* What a table, view or subquery of a FROM is, before it is planned; *ret_table: NULL when it is no
 * table. */
enum mr_status mr_sql__from_leaf_kind(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_scope *scope,
                                      bool on_right, bool *ret_stream,
                                      struct mr_sql_table **ret_table);
/* Plans one that is a stream. */
enum mr_status mr_sql__from_leaf(struct mr_sql_planner *p, struct mr_sql_query *query,
                                 const struct mr_json *node, const struct mr_sql_scope *scope,
                                 struct mr_sql_rel **ret_rel);
/* A name under which a stream that is planned already can stand in a FROM. NULL without memory. */
const char *mr_sql__own_stream(struct mr_sql_planner *p, const struct mr_sql_rel *rel);

/* join.c: a FROM with several streams becomes one with the stream mr_joined; names in the block are
 * rewritten. Nothing happens with one stream. */
enum mr_status mr_sql__plan_joins(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *select, const struct mr_sql_scope *scope);

/* select.c: blocks without aggregation, unions; the entry of the recursion. */
enum mr_status mr_sql__plan_query(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  struct mr_sql_rel **ret_rel);
enum mr_status mr_sql__ctes(struct mr_sql_planner *p, struct mr_json *node,
                            const struct mr_sql_scope **scope);

/* nodes.c */
/* Adds a map node behind rel. Takes op. */
enum mr_status mr_sql__add_map(struct mr_sql_planner *p, const char *owner, const char *what,
                               struct mr_map_op *op, struct mr_node *const *inputs,
                               size_t input_count, struct mr_sql_rel *ret_rel);
/* A statement over the FROM's inputs as a map node; marks stay empty. */
enum mr_status mr_sql__add_statement(struct mr_sql_planner *p, struct mr_sql_query *query,
                                     const struct mr_sql_from *from, const char *sql, bool whole,
                                     struct mr_sql_rel *ret_rel);
/* WHERE as native predicates over one leaf: false when it is more than comparisons of columns with
 * literals. */
bool mr_sql__native_filter(struct mr_sql_planner *p, const struct mr_sql_from *from,
                           const struct mr_json *where, struct mr_predicate *predicates,
                           uint32_t *ret_count);
enum { MR_SQL_PREDICATES_MAX = 32 };
/* Filters natively; *ret_done false when the operator refuses a literal (then DuckDB must do
 * it). */
enum mr_status mr_sql__add_filter(struct mr_sql_planner *p, const char *owner,
                                  const struct mr_sql_rel *input,
                                  const struct mr_predicate *predicates, uint32_t count,
                                  struct mr_sql_rel *ret_rel, bool *ret_done);
enum mr_status mr_sql__add_project(struct mr_sql_planner *p, const char *owner,
                                   const struct mr_sql_rel *input, const uint32_t *columns,
                                   const char *const *names, uint32_t count,
                                   struct mr_sql_rel *ret_rel);

/* owner.what, with a number when there is one already. In arena; NULL without memory. */
const char *mr_sql__node_name(struct mr_sql_planner *p, const char *owner, const char *what);
/* The same rows under other names and types: nothing, a renaming or a statement with casts. */
enum mr_status mr_sql__cast(struct mr_sql_planner *p, struct mr_sql_query *query,
                            const struct mr_sql_rel *input, const struct mr_schema *target,
                            struct mr_sql_rel *ret_rel);
/* Refuses what no block of a stream may have: samples, QUALIFY, OVER. */
enum mr_status mr_sql__check_block(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                   struct mr_json *node);
/* WHERE and the list over one stream, without modifiers (but ORDER BY and LIMIT of a result that
 * comes whole). */
enum mr_status mr_sql__plan_stateless(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, const struct mr_sql_from *from,
                                      struct mr_sql_rel *rel);
/* Marks of result columns that are plain references to marked ones. */
void mr_sql__inherit_marks(const struct mr_sql_from *from, const struct mr_json *list,
                           struct mr_sql_rel *rel);

/* window.c: window(), tumble(), hop() in expressions and in FROM. */
enum mr_sql_window_part { MR_SQL_WINDOW_WHOLE, MR_SQL_WINDOW_START, MR_SQL_WINDOW_END };
struct mr_sql_window {
    struct mr_json *time; /* expression */
    int64_t size_us;
    int64_t slide_us;
    int64_t offset_us;
    enum mr_sql_window_part part;
    int64_t step_us;     /* of cumulate: each window begins anew with every step; else 0 */
    bool session;        /* size_us is the gap */
    struct mr_json *gap; /* of sessions: an expression for each row, or NULL */
};
bool mr_sql__is_window_call(const struct mr_json *node);
bool mr_sql__find_session(const struct mr_json *node); /* a session window at or below; NULL: no */
enum mr_status mr_sql__window_parse(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *node, struct mr_sql_window *ret_window);
/* window(w, ...) of a window w is window(window_time(w), ...). In select.c. */
enum mr_status mr_sql__window_of_window(struct mr_sql_planner *p, const struct mr_sql_from *from,
                                        struct mr_sql_window *window);
bool mr_sql__window_equal(const struct mr_sql_window *a, const struct mr_sql_window *b);
/* tumble(t, descriptor(c), ...): name of the table and of the column, and the window. */
bool mr_sql__is_window_table(const struct mr_json *function);
enum mr_status mr_sql__window_table(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *function, struct mr_json **ret_table,
                                    const char **ret_column, struct mr_sql_window *ret_window);
/* Adds the window operator: two columns in front. Not of sessions. */
enum mr_status mr_sql__add_window(struct mr_sql_planner *p, const char *owner,
                                  const struct mr_sql_rel *input, uint32_t column,
                                  const struct mr_sql_window *window, const char *start_name,
                                  const char *end_name, struct mr_sql_rel *ret_rel);

/* modifiers.c: DISTINCT, ORDER BY, LIMIT. */
struct mr_sql_modifiers {
    struct mr_json *distinct; /* the DISTINCT_MODIFIER, or NULL */
    bool limits;
    uint64_t rows_max;
};
/*
 * Takes DISTINCT and LIMIT out of a query's modifiers and refuses what a stream cannot have. whole:
 * every batch brings the whole result (an aggregation in complete mode), then ORDER BY and LIMIT
 * stay, for a statement.
 */
enum mr_status mr_sql__take_modifiers(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                      struct mr_json *node, bool whole,
                                      struct mr_sql_modifiers *ret_modifiers);
/* The first rows_max rows of rel. */
enum mr_status mr_sql__add_limit(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                 uint64_t rows_max, struct mr_sql_rel *rel);
/* SELECT DISTINCT ON (...). */
enum mr_status mr_sql__plan_distinct_on(struct mr_sql_planner *p, struct mr_sql_query *query,
                                        struct mr_json *node, const struct mr_sql_from *from,
                                        const struct mr_json *distinct, struct mr_sql_rel *rel);
/* SELECT DISTINCT becomes GROUP BY ALL; stars are replaced by columns. */
enum mr_status mr_sql__distinct_to_groups(struct mr_sql_planner *p,
                                          const struct mr_sql_query *query, struct mr_json *node,
                                          const struct mr_sql_from *from);

/* setop.c: UNION, EXCEPT. */
enum mr_status mr_sql__plan_setop(struct mr_sql_planner *p, struct mr_sql_query *query,
                                  struct mr_json *node, const struct mr_sql_scope *scope,
                                  struct mr_sql_rel **ret_rel);
/* True when nothing below a query node is a stream. */
bool mr_sql__is_static(struct mr_sql_planner *p, const struct mr_json *node,
                       const struct mr_sql_scope *scope);
/* Static tables below a static query become further inputs of from. */
enum mr_status mr_sql__adopt_static(struct mr_sql_planner *p, struct mr_sql_query *query,
                                    struct mr_json *node, const struct mr_sql_scope *scope,
                                    struct mr_sql_from *from);

/* sugar.c: table functions that mean a query, right after parsing. */
enum mr_status mr_sql__desugar(struct mr_sql_planner *p, struct mr_sql_query *query,
                               struct mr_json *node);

/* aggregate.c */
enum mr_status mr_sql__plan_aggregate(struct mr_sql_planner *p, struct mr_sql_query *query,
                                      struct mr_json *node, struct mr_sql_from *from,
                                      struct mr_sql_rel **ret_rel);

/* groups_rules.c: output modes and chains of functions with state of a key above this result. */
enum mr_status mr_sql__check_groups(struct mr_sql_planner *p, const struct mr_sql_query *query,
                                    const struct mr_sql_rel *rel);

/* Does anything above this result keep state? */
enum mr_status mr_sql__keeps_state(struct mr_sql_planner *p, const struct mr_sql_rel *rel,
                                   bool *ret_keeps);

#endif
