/*
 * Shared by the files that say what a function means to an operator (compile.c, compile_pairs.c,
 * compile_state.c). See fn.h.
 */
#ifndef MR_FN_COMPILE_H
#define MR_FN_COMPILE_H

#include "fn/fn.h"

/* MR_CONFIG: names what was given and what the operator takes. */
enum mr_status mr__refuse(const struct mr_fn *fn, const char *takes, struct mr_error *err);
void mr__add_name(struct mr_buf *out, const char *name);
/* SELECT CAST(c0 AS T) AS "name", ... FROM (<head> expression <tail> FROM table) AS t(c0, ...), the
 * columns of shape. NULL without memory. */
char *mr__cast_statement(const struct mr_schema *shape, const char *head, const char *expression,
                         const char *tail, const char *table);
void mr__add_type(struct mr_buf *out, const struct mr_type *type);
bool mr__is_narrow_integer(const struct mr_type *type);
bool mr__can_be_added(const struct mr_type *type);
/* Integers count in BIGINT (SQL's sum of them is wider), floats in DOUBLE; other types stay what
 * they are. */
struct mr_type mr__wide_type(const struct mr_type *found);
/* The columns a C function's result has: declared, or the operator's usual ones. Returns new. */
enum mr_status mr__declared_or(const struct mr_fn *fn, const struct mr_schema *usual,
                               struct mr_schema **ret_schema, struct mr_error *err);
/* A function of one result column, `value`, of that type. */
enum mr_status mr__compile_value(struct mr__engines *engines, const char *operation,
                                 const struct mr_fn *fn, const struct mr_type *type,
                                 const struct mr_schema *input, struct mr__function **ret_function,
                                 struct mr_error *err);

#endif
