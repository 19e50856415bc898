/*
 * millrace run --sandbox: what stays open, and the step inside.
 */
#ifndef MR_CLI_SANDBOX_H
#define MR_CLI_SANDBOX_H

#include "cli/script.h"

#define CLI_SANDBOX_FLAGS                                                                          \
    {"--sandbox", NULL, NULL,                                                                      \
     "Only the pipeline's own paths and the system calls it needs, from before it is planned."},   \
        {"--sandbox-read", NULL, "PATH[:PATH]", "With --sandbox: more paths that may be read."},   \
    {                                                                                              \
        "--sandbox-write", NULL, "PATH[:PATH]", "With --sandbox: more paths that may be written."  \
    }

/*
 * Parses the script, loads the libraries it will need, makes the directories it will write, and
 * enters. Before the first thread. Does nothing without --sandbox.
 */
enum mr_status cli_sandbox_enter(const struct cli_command *command, const struct cli_args *args,
                                 struct cli_script *script, struct mr_error *err);

#endif
