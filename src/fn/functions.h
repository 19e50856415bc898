/*
 * A list of functions of a program (<millrace/function.h>) as the SQL side uses it.
 *
 * Thread: built by one thread, then read by any.
 */
#ifndef MR_FN_FUNCTIONS_H
#define MR_FN_FUNCTIONS_H

#include "duck/duck.h"
#include "ops/ops.h"

#include <millrace/function.h>

enum mr_status mr_functions_new(struct mr_functions **ret_functions, struct mr_error *err);
void mr_functions_free(struct mr_functions *functions); /* NULL allowed */
/* Makes all of them known to an instance; the list must outlive it. */
enum mr_status mr_functions_add_to(struct mr_functions *functions, struct mr_duck *duck,
                                   struct mr_error *err);
/* The aggregate of that name, or NULL; lives as long as the list. */
const struct mr_agg_user *mr_functions_aggregate(const struct mr_functions *functions,
                                                 const char *name);

#endif
