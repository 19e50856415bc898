/*
 * Functions of a program as scalar functions of DuckDB, over whole columns.
 *
 * Thread: as the instance; call is made on the instance's thread.
 */
#ifndef MR_DUCK_FUNCTION_H
#define MR_DUCK_FUNCTION_H

#include "duck/duck.h"

/* Rows of the arguments (their schema) to as many values, appended to a builder of one column. */
typedef enum mr_status (*mr_duck_function_fn)(const void *arg, const struct mr_batch *rows,
                                              struct mr_batch_builder *out, struct mr_error *err);

struct mr_duck_function {
    const char *name;
    const struct mr_schema *arguments; /* NULL: none */
    const struct mr_schema *result;    /* one column */
    mr_duck_function_fn call;
    const void *arg;
    bool is_volatile; /* never folded */
};
/* Makes it known to an instance. function must outlive it. MR_CONFIG when the name is taken. */
enum mr_status mr_duck_add_function(struct mr_duck *duck, const struct mr_duck_function *function,
                                    struct mr_error *err);

#endif
