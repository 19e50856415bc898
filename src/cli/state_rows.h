/*
 * Entries of a store on their way out: through its view (state/view.h) and a format, to standard
 * output or a file.
 */
#ifndef MR_CLI_STATE_ROWS_H
#define MR_CLI_STATE_ROWS_H

#include "state/view.h"

struct cli_rows;

/* How to open one: format "json", "csv" or "parquet"; path NULL = standard output. */
struct cli_rows_options {
    const char *format;
    const char *path;
};
/* dir: for errors. */
enum mr_status cli_rows_new(struct mr_state *state, const char *dir, const char *name,
                            const struct cli_rows_options *options, struct cli_rows **ret_rows,
                            struct mr_error *err);
enum mr_status cli_rows_add(struct cli_rows *rows, struct mr_slice key, struct mr_slice value,
                            struct mr_error *err);
/* Everything that was added is out; a file has its name. */
enum mr_status cli_rows_finish(struct cli_rows *rows, struct mr_error *err);
void cli_rows_free(struct cli_rows *rows); /* NULL allowed */

/* Prints those rows of an entry, as JSON, whose key is `wanted`, its columns written with ','
 * between: "2026-01-01 00:00:00,Oslo"; *found counts them. Not while rows that were added wait. */
enum mr_status cli_rows_find(struct cli_rows *rows, struct mr_slice key, struct mr_slice value,
                             const char *wanted, uint64_t *found, struct mr_error *err);
/* Prints the rows of one entry as JSON, each line behind `prefix`. */
enum mr_status cli_rows_print(struct cli_rows *rows, const char *prefix, struct mr_slice key,
                              struct mr_slice value, struct mr_error *err);

#endif
