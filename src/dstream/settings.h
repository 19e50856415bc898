/*
 * The settings of contexts as a table, for who prints them.
 */
#ifndef MR_DSTREAM_SETTINGS_H
#define MR_DSTREAM_SETTINGS_H

#include <millrace/ext/options.h>

const struct mr_option_table *mr__settings_table(void);
/* Names of Spark that are accepted and change nothing, and why. False past the end. */
bool mr__settings_meaningless(size_t index, const char **ret_name, const char **ret_why);

#endif
