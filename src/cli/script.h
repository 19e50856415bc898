/*
 * The pipeline that a command was given: a file or -e text, the settings of the command line, and
 * how its errors are shown.
 */
#ifndef MR_CLI_SCRIPT_H
#define MR_CLI_SCRIPT_H

#include "base/limits.h"
#include "cli/cli.h"
#include "sql/plan.h"

enum { CLI_SETTINGS_MAX = MR_LIMIT_SCRIPT_SETTINGS, CLI_SCRIPT_BYTES_MAX = MR_LIMIT_SQL_BYTES };

/* Flags of every command that takes a pipeline; the first rows of its table. */
#define CLI_SCRIPT_FLAGS                                                                           \
    {"--execute", "-e", "SQL", "Take the pipeline from here instead of a file."},                  \
        {"--checkpoint", NULL, "DIR", "Checkpoint directory; wins over SET checkpoint."},          \
        {"--library", NULL, "FILE", "Shared library with functions for SQL: ./libshout.so."},      \
    {                                                                                              \
        "--set", NULL, "NAME=VALUE[;...]", "Settings that win over SET in the file."               \
    }

/* Of commands that compare the pipeline with its checkpoint. */
#define CLI_ACCEPT_FLAG                                                                            \
    {                                                                                              \
        "--accept", NULL, "extend,rebuild[:NAME]",                                                 \
            "Changes since the checkpoint to go on with, all of a kind or of one part."            \
    }

struct cli_script {
    char *text;
    size_t text_bytes;
    const char *name; /* for errors: the path, or "-e" */
    char *set_text;   /* copy of --set, cut into pairs */
    struct mr_option_pair settings[CLI_SETTINGS_MAX];
    size_t setting_count;
    struct mr_sql_script *parsed;
};

/* Reads the file or -e, and the settings. A file that is missing is MR_USAGE. */
enum mr_status cli_script_load(const struct cli_command *command, const struct cli_args *args,
                               struct cli_script *script, struct mr_error *err);
enum mr_status cli_script_set(struct cli_script *script, const char *name, const char *value,
                              struct mr_error *err);
/* The statements, into parsed; at the first call. */
enum mr_status cli_script_parse(struct cli_script *script, struct mr_error *err);
/* check_only: nothing is opened or read, and the plan must not be run. */
enum mr_status cli_script_plan(struct cli_script *script, bool check_only,
                               struct mr_sql_plan **ret_plan, struct mr_error *err);
/*
 * Prints the error; one in the SQL text as
 *     millrace: q.sql:3:8: unknown column 'citty'; did you mean 'city'?
 *       SELECT citty, count(*)
 *              ^
 * Returns the exit code.
 */
int cli_script_fail(const struct cli_script *script, const struct mr_error *err);
/* Prints the lines `-- next: ...` of the file, without the mark: what to try after an example. */
void cli_script_print_hints(const struct cli_script *script);
void cli_script_release(struct cli_script *script);

#endif
