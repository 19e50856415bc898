/* checkpoint verify --output TABLE=DIR; see verify_output.c. */
#ifndef MR_CLI_VERIFY_OUTPUT_H
#define MR_CLI_VERIFY_OUTPUT_H

#include "wal/checkpoint.h"

/*
 * Compares the number of files that each COMMIT in the log says the table wrote with those in the
 * directory, and prints what it found. MR_CORRUPT: files are gone, named on stderr. MR_USAGE:
 * `place` is not TABLE=DIR, or that table wrote no files.
 */
enum mr_status cli_verify_output(const struct mr_checkpoint *checkpoint, const char *place,
                                 struct mr_error *err);

#endif
