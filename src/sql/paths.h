/*
 * What a pipeline says of itself without being planned: its paths, which `millrace run --sandbox`
 * leaves open, and its settings, which are wanted before there is a plan.
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

/*
 * The value of a setting as a plan would take it: settings win over SET, the last one counts; NULL
 * when nobody gives it. name: as in mr_sql_settings_table; the script may use an alias. Not
 * validated. Borrowed from the script or from settings.
 */
const char *mr_sql_setting(const struct mr_sql_script *script,
                           const struct mr_option_pair *settings, size_t setting_count,
                           const char *name);

#endif
