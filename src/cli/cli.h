/*
 * The command: one file per sub-command, flags as data.
 *
 * Only this folder prints and decides exit codes. Standard output is for what was asked for,
 * standard error for log lines and errors; an error is one line that ends in what to do. Thread:
 * main, but for the signal thread of cmd_run.c.
 */
#ifndef MR_CLI_CLI_H
#define MR_CLI_CLI_H

#include "base/limits.h"

#include <millrace/error.h>

struct cli_flag {
    const char *name;       /* "--until-caught-up" */
    const char *short_name; /* "-e" or NULL */
    const char *value;      /* what it takes, for help: "SQL"; NULL = a switch */
    const char *help;
};

struct cli_command {
    const char *name;
    const char *arguments; /* "FILE.sql" */
    const char *summary;   /* one line, no full stop */
    const char *details;   /* more lines for --help, each ending in \n; may be NULL */
    const struct cli_flag *flags;
    size_t flag_count;
    /* returns the exit code */
    int (*run)(const struct cli_command *command, int argc, char **argv);
};

extern const struct cli_command cli_run;
extern const struct cli_command cli_check;
extern const struct cli_command cli_test;
extern const struct cli_command cli_state;
extern const struct cli_command cli_checkpoint;
extern const struct cli_command cli_options;
extern const struct cli_command cli_version;

enum { CLI_ARGUMENTS_MAX = MR_LIMIT_ARGUMENTS };

/* A parsed command line. Flags that every command takes (--help, --log, --log-level) are handled
 * inside. */
struct cli_args {
    const char *arguments[CLI_ARGUMENTS_MAX]; /* what is not a flag, in order */
    size_t argument_count;
    /* by index into command->flags: "" for a switch that is on, else NULL */
    const char *values[CLI_ARGUMENTS_MAX];
    bool help_printed; /* --help was there: exit 0 */
};
enum mr_status cli_parse(const struct cli_command *command, int argc, char **argv,
                         struct cli_args *ret_args, struct mr_error *err);
/* Value of a flag of the command, NULL when it was not given. */
const char *cli_value(const struct cli_command *command, const struct cli_args *args,
                      const char *name);

void cli_print_help(const struct cli_command *command);
/* Prints "millrace: text" to standard error and returns the exit code of the error. */
int cli_fail(const struct mr_error *err);
/* The same with the place in a script, NULL = none. True: it was printed as JSON, for machines. */
bool cli_fail_at(const char *file, const struct mr_error *err);
/* The exit code of output to stdout: 74 when it could not be written (closed pipe, full disk). */
int cli_finish_stdout(void);

#endif
