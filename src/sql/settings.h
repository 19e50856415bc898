/* The settings of a pipeline (SET name = 'value') as a table, for src/cli and docs/options.md. See plan.h. */
#ifndef MR_SQL_SETTINGS_H
#define MR_SQL_SETTINGS_H

#include <millrace/ext/options.h>

const struct mr_option_table *mr_sql_settings_table(void);

#endif
