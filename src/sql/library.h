/* Functions out of a shared library; see library.c. Thread: the planner's. */
#ifndef MR_SQL_LIBRARY_H
#define MR_SQL_LIBRARY_H

#include "sql/plan.h"

struct mr_sql_library;

/* others: functions that are known as well; NULL: none. MR_CONFIG, or what the library says. */
enum mr_status mr_sql__library_load(const char *path, const struct mr_sql_functions *others,
                                    struct mr_sql_library **ret_library, struct mr_error *err);
void mr_sql__library_free(struct mr_sql_library *library); /* NULL allowed */
/* Borrowed from the library. */
const struct mr_sql_functions *mr_sql__library_functions(const struct mr_sql_library *library);

#endif
