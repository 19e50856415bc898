/*
 * SET key = value: the settings of a pipeline, as an option table.
 *
 * Thread: any; the table is constant.
 */
#ifndef MR_SQL_SETTINGS_H
#define MR_SQL_SETTINGS_H

#include "core/query.h"

#include <millrace/ext/options.h>

/* The table, for the parser, `millrace options SET` and the docs. Static. */
const struct mr_option_table *mr_sql_settings_table(void);

/* "1 second", "asap", "once", "until caught up", "continuous" (and Spark's spellings). MR_CONFIG
 * otherwise. */
enum mr_status mr_sql_trigger_parse(const char *text, enum mr_trigger_kind *ret_kind,
                                    int64_t *ret_interval_us, struct mr_error *err);
/* Puts parsed settings into a config; its texts are borrowed from options. */
enum mr_status mr_sql_settings_apply(const struct mr_options *options,
                                     struct mr_query_config *config, struct mr_error *err);

#endif
