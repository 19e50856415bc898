/*
 * The paths that a pipeline names, without planning it: what `millrace run --sandbox` leaves open.
 *
 * Thread: any.
 */
#ifndef MR_SQL_PATHS_H
#define MR_SQL_PATHS_H

#include "sql/script.h"

/* A path as the script says it (relative ones to the working directory); borrowed for the call. */
typedef enum mr_status (*mr_sql_path_fn)(void *arg, const char *path, bool write,
                                         struct mr_error *err);

/*
 * Visits the paths of all tables' options and of the settings; settings win over SET, as in a plan.
 * Files of secrets ("file:PATH") and of keys and certificates (kafka.*.location) are read ones. A
 * path may come twice. What SELECTs read by functions of DuckDB (read_csv) is not among them.
 */
enum mr_status mr_sql_paths(const struct mr_sql_script *script,
                            const struct mr_option_pair *settings, size_t setting_count,
                            mr_sql_path_fn visit, void *arg, struct mr_error *err);

#endif
