/*
 * Functions of a program (struct mr_fn of <millrace/fn.h>) as operators evaluate them: SQL
 * expressions, C functions and built-ins, all over whole batches.
 *
 *   fn.c       functions, engines, statements      compile.c  what a function means to an operator
 *   emit.c     results of C functions              builtin.c  native functions
 *   reduce.c   values of a key to one          apply.c    map, flat_map, filter of a batch
 *   partition.c  map_partitions                values.c   map_values, flat_map_values
 *
 * Thread: compiled in the building thread; evaluated by workers, each with a statement of its own.
 */
#ifndef MR_FN_FN_H
#define MR_FN_FN_H

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "duck/duck.h"
#include "env/thread.h"
#include "ops/ops.h"

#include <millrace/fn.h>

enum {
    MR_FN_WORKERS_MAX = MR_LIMIT_FUNCTION_WORKERS,
    MR_FN_RENAMED_MAX = MR_LIMIT_FUNCTION_CODEC_COLUMNS, /* columns of a result with codecs in it */
};

/* ---- functions (fn.c) ---- */

/* SQL engines, one per worker, opened when a worker first needs one. Slot i is used by worker i
 * only. */
struct mr__engines {
    struct mr_duck *ducks[MR_FN_WORKERS_MAX];
};

/* A function as an operator evaluates it; owned by the context. */
struct mr__function {
    struct mr_fn fn;         /* texts owned */
    char *place;             /* "word_count.c:12: map_to_pair" */
    struct mr_schema *input; /* of its rows; reduce: a, b; update: key, values, state */
    struct mr_schema *output;
    struct mr_schema *value; /* map_values in C: the one column its emitter takes, else NULL */
    bool renames;            /* output has codecs, which the result of the statement has not */
    char *sql;               /* whole statement, the user's expression from its line 2 on */
    struct mr__engines *engines;
    struct mr_duck_stmt *stmts[MR_FN_WORKERS_MAX];
};

/* A list of batches, shared. */
struct mr__batches {
    struct mr_batch **items;
    size_t count;
    size_t capacity;
};
enum mr_status mr__batches_add(struct mr__batches *list, const struct mr_batch *batch,
                               struct mr_error *err);
void mr__batches_release(struct mr__batches *list);

/* The moment of an evaluation. */
struct mr__when {
    unsigned worker;
    int64_t batch_time_us;
};

void mr__function_free(struct mr__function *function);
/* Makes one for the expression `sql` (NULL: not SQL). Takes nothing; copies fn's texts. Returns
 * new. */
enum mr_status mr__function_new(struct mr__engines *engines, const struct mr_fn *fn,
                                const char *operation, const struct mr_schema *input,
                                const struct mr_schema *output, const char *sql,
                                struct mr__function **ret_function, struct mr_error *err);
/* Runs its statement over batches of its input schema, results appended in order; renamed to its
 * output. */
enum mr_status mr__function_run_sql(struct mr__function *function, struct mr__when when,
                                    struct mr_batch *const *batches, size_t batch_count,
                                    struct mr__batches *ret_results, struct mr_error *err);
/* Makes the SQL position of an error a part of its text. */
void mr__tell_position(struct mr_error *err);
/* Adds the name of its stream to the place: "word_count.c:12: map 'lengths'". */
enum mr_status mr__function_set_name(struct mr__function *function, const char *name,
                                     struct mr_error *err);
/* Puts the place in front of an error's text; returns its status. */
enum mr_status mr__function_blame(const struct mr__function *function, enum mr_status status,
                                  struct mr_error *err);
/* map, flat_map, filter, map_to_pair (apply.c): results of one batch, appended. is_flat: any number
 * of results per row. Errors say where the function was given. */
enum mr_status mr__apply(struct mr__function *function, bool is_flat, struct mr__when when,
                         const struct mr_batch *batch, struct mr__batches *ret_results,
                         struct mr_error *err);
/* map_partitions (partition.c): all rows of a partition, also when there are none. */
enum mr_status mr__apply_partition(struct mr__function *function, struct mr__when when,
                                   struct mr_batch *const *batches, size_t batch_count,
                                   struct mr__batches *ret_results, struct mr_error *err);
/* map_values and flat_map_values (values.c): a batch of pairs. */
enum mr_status mr__apply_values(struct mr__function *function, bool is_flat, struct mr__when when,
                                const struct mr_batch *batch, struct mr__batches *ret_results,
                                struct mr_error *err);
/* Rows of any number of batches as one batch of that schema. Returns new. */
enum mr_status mr__batches_join(struct mr_batch *const *batches, size_t batch_count,
                                const struct mr_schema *schema, struct mr_batch **ret_batch,
                                struct mr_error *err);
/* Two columns of as many rows as one batch, shared: nothing is copied. Returns new. */
enum mr_status mr__side_by_side(const struct mr_schema *schema, const struct mr_batch *a,
                                uint32_t a_column, const struct mr_batch *b, uint32_t b_column,
                                struct mr_batch **ret_batch, struct mr_error *err);
/* The rows for which a C test says yes. Returns new. */
enum mr_status mr__filter_rows(struct mr__function *test, const struct mr_batch *batch,
                               struct mr_batch **ret_batch, struct mr_error *err);
void mr__engines_release(struct mr__engines *engines);
/* Schema of the columns of `SELECT sql`, for build time. *ret_schema new. */
enum mr_status mr__sql_describe(struct mr__engines *engines, const char *sql,
                                const struct mr_schema *input, struct mr_schema **ret_schema,
                                struct mr_error *err);
/* "input", or a table that has the column batch_time too when the expression names it. */
const char *mr__sql_table(const char *expression, const struct mr_schema *input);

/*
 * Functions by operator: check the kind, find the result's columns, and compile. operation is the
 * name for errors. shape_of_pairs: exactly two columns, key and value.
 */
enum mr_status mr__compile_map(struct mr__engines *engines, const char *operation,
                               const struct mr_fn *fn, const struct mr_schema *input,
                               struct mr__function **ret_function, struct mr_error *err);
enum mr_status mr__compile_flat_map(struct mr__engines *engines, const char *operation,
                                    const struct mr_fn *fn, const struct mr_schema *input,
                                    struct mr__function **ret_function, struct mr_error *err);
/* Called once a partition, with all of its rows. */
enum mr_status mr__compile_map_partitions(struct mr__engines *engines, const char *operation,
                                          const struct mr_fn *fn, const struct mr_schema *input,
                                          struct mr__function **ret_function, struct mr_error *err);
enum mr_status mr__compile_filter(struct mr__engines *engines, const char *operation,
                                  const struct mr_fn *fn, const struct mr_schema *input,
                                  struct mr__function **ret_function, struct mr_error *err);
/* Two values of a key to one: input (a, b) of the value's type, output one column of it. */
enum mr_status mr__compile_reduce(struct mr__engines *engines, const char *operation,
                                  const struct mr_fn *fn, const struct mr_schema *pairs,
                                  struct mr__function **ret_function, struct mr_error *err);
/* input (key, values, state), output one column `value`, the new state; of a function of all keys
 * (key, value = state). */
enum mr_status mr__compile_update(struct mr__engines *engines, const struct mr_fn *fn,
                                  const struct mr_schema *pairs, struct mr__function **ret_function,
                                  struct mr_error *err);

/*
 * map_values, flat_map_values: a function of the value alone (SQL may name the key too). Rows are
 * (key, value), the function's result is the new value.
 */
enum mr_status mr__compile_values(struct mr__engines *engines, const char *operation, bool is_flat,
                                  const struct mr_fn *fn, const struct mr_schema *pairs,
                                  struct mr__function **ret_function, struct mr_error *err);
/* Two values to one: of the elements of a stream with one column (reduce). */
enum mr_status mr__compile_reduce_of(struct mr__engines *engines, const char *operation,
                                     const struct mr_fn *fn, const struct mr_type *type,
                                     struct mr__function **ret_function, struct mr_error *err);

/*
 * map_with_state: input (key, value, state); *ret_state one column; *ret_mapped what it emits. The
 * output of an expression is the state and the mapped columns, of others the mapped columns. Both
 * schemas are new.
 */
enum mr_status mr__compile_state(struct mr__engines *engines, const struct mr_fn *fn,
                                 const char *state_columns, const struct mr_schema *pairs,
                                 struct mr__function **ret_function, struct mr_schema **ret_state,
                                 struct mr_schema **ret_mapped, struct mr_error *err);

/* Schemas of one, two and three named columns with the types of others. Return new. */
struct mr__column_of {
    const char *name;
    const struct mr_type *type;
};
enum mr_status mr__schema_of(const struct mr__column_of *columns, uint32_t count,
                             struct mr_schema **ret_schema, struct mr_error *err);
bool mr__is_pairs(const struct mr_schema *schema);
const struct mr_type *mr__column_type(const struct mr_schema *schema, uint32_t column);
extern const struct mr_type mr__bigint;
extern const struct mr_type mr__double;

/* ---- results of C functions (emit.c) ---- */

struct mr_emitter {
    struct mr_batch_builder *builder;
    struct mr_column_builder *columns; /* the builder's */
    int64_t pending;                   /* rows that the builder was not told of yet */
    uint32_t column_count;
    uint32_t column; /* of the row that is being emitted one column at a time */
    bool failed;
    char text[MR_ERROR_TEXT_BYTES];
};
enum mr_status mr__emitter_init(struct mr_emitter *emitter, const struct mr_schema *schema,
                                struct mr_error *err);
void mr__emitter_release(struct mr_emitter *emitter);
int64_t mr__emitter_rows(const struct mr_emitter *emitter);
/* Emits a row of one null. */
void mr__emitter_null(struct mr_emitter *emitter);
/* MR_USER when the function said so, or left half a row. */
enum mr_status mr__emitter_check(struct mr_emitter *emitter, struct mr_error *err);
/* The function emitted too little or too much: its own failure to emit, or MR_USER "'name' must
 * emit <wants>". */
enum mr_status mr__emitter_count_is_wrong(struct mr_emitter *emitter, const char *name,
                                          const char *wants, struct mr_error *err);
enum mr_status mr__emitter_finish(struct mr_emitter *emitter, struct mr_batch **ret_batch,
                                  struct mr_error *err);

/* ---- native functions (builtin.c, words.c) ---- */

/* Words between white space of column 0. */
enum mr_status mr__words(const struct mr_batch *batch, const struct mr_schema *output,
                         struct mr_batch **ret_batch, struct mr_error *err);
/* (value, 1) for each row: the column is shared. */
enum mr_status mr__pair_with_one(const struct mr_batch *batch, const struct mr_schema *output,
                                 struct mr_batch **ret_batch, struct mr_error *err);
/* Row by row: one of sum, min, max of column 0 of a and b; with inverse, a - b. Null is the other
 * one. */
enum mr_status mr__builtin_pairs(enum mr_builtin builtin, bool inverse, const struct mr_batch *a,
                                 const struct mr_batch *b, const struct mr_schema *output,
                                 struct mr_batch **ret_batch, struct mr_error *err);

/* New states of rows (key, values, state): sum, count, min, max of the values and the state. */
enum mr_status mr__builtin_update(enum mr_builtin builtin, const struct mr_batch *rows,
                                  const struct mr_schema *output, struct mr_batch **ret_states,
                                  struct mr_error *err);

/* ---- state of one key, keys of a partition (key_state.c) ---- */

/* New states of many calls of a state function, numbered from 0. */
struct mr__new_states {
    struct mr_emitter out;
    struct mr__batches done; /* the rows before those in out */
    int64_t *starts;         /* number of the first row of each */
    size_t starts_capacity;
    int64_t done_rows;
};
enum mr_status mr__new_states_init(struct mr__new_states *states, const struct mr_schema *schema,
                                   struct mr_error *err);
void mr__new_states_release(struct mr__new_states *states);
/* The row with that number; valid until release. */
enum mr_status mr__new_states_row(struct mr__new_states *states, int64_t number,
                                  struct mr_row *ret_row, struct mr_error *err);

/* What a state function sees of its key: made for each call. */
struct mr_key_state {
    const struct mr_row *old; /* NULL: none */
    bool is_timing_out;
    bool is_updated;
    bool is_removed;
    const char *mistake; /* how it was used against its rules */
    struct mr__new_states *news;
    int64_t before;       /* rows of news when the last update of this call began */
    struct mr_row newest; /* the new state, once it was asked for */
};
/* After the call: MR_USER when a rule was broken. *ret_row is the number of the new state when it
 * was updated. */
enum mr_status mr__key_state_end(struct mr_key_state *state, const struct mr_row *key,
                                 int64_t *ret_row, struct mr_error *err);

/* Keys of a partition, one at a time. */
struct mr_updates {
    bool (*next)(struct mr_updates *updates, struct mr_update *ret_update);
};

/* ---- reducing (reduce.c) ---- */

/* Row by row: f(a, b); a and b have one column each and the same number of rows, as the result
 * does. Returns new. */
enum mr_status mr__reduce_pairs(struct mr__function *reduce, struct mr__when when,
                                const struct mr_batch *a, const struct mr_batch *b,
                                struct mr_batch **ret_batch, struct mr_error *err);
/* One row per key, in key order (row_codec), out of rows (key, value) in any number of batches.
 * NULL when there are none. */
enum mr_status mr__reduce_rows(struct mr__function *reduce, struct mr__when when,
                               struct mr_batch *const *batches, size_t batch_count,
                               const struct mr_schema *pairs, struct mr_batch **ret_batch,
                               struct mr_error *err);

/* All values of one column to one. NULL when there are none. Returns new, one row. */
enum mr_status mr__reduce_all(struct mr__function *reduce, struct mr__when when,
                              struct mr_batch *const *batches, size_t batch_count,
                              struct mr_batch **ret_batch, struct mr_error *err);

/* Which rows belong to which key: rows of keys in order. */
struct mr__grouping {
    struct mr_batch *batch; /* all rows */
    uint32_t count;         /* keys */
    uint32_t *starts;       /* count + 1: rows of key i are order[starts[i] .. starts[i + 1]) */
    uint32_t *order;        /* row numbers, in key order, then in row order */
    char **keys;            /* encoded */
    size_t *key_bytes;
    struct mr_arena arena;
};
enum mr_status mr__group(struct mr_batch *const *batches, size_t batch_count,
                         const struct mr_schema *pairs, struct mr__grouping *ret_grouping,
                         struct mr_error *err);
void mr__grouping_release(struct mr__grouping *grouping);

/* Marks that this thread runs a function of the program. */
extern _Thread_local unsigned mr__inside_user_code;

#endif
