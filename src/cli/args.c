/*
 * Command lines: flags as data, help printed from the same tables. Called by every sub-command
 * first.
 */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

static const struct cli_flag common_flags[] = {
    {"--log", NULL, "text|json", "Form of log lines on standard error."},
    {"--log-level", NULL, "error|warning|info|debug",
     "Least important log lines to show (default warning)."},
    {"--help", "-h", NULL, "Print this and exit."},
};

static enum mr_log_style log_style = MR_LOG_TEXT;
static enum mr_log_level log_level = MR_LOG_WARNING;

static enum mr_status set_common(const struct cli_flag *flag, const char *value,
                                 struct mr_error *err)
{
    static const char *const levels[] = {"error", "warning", "info", "debug"};

    if (strcmp(flag->name, "--log") == 0) {
        if (strcmp(value, "text") != 0 && strcmp(value, "json") != 0)
            return MR_FAIL(err, MR_USAGE, "cannot set --log to '%s': it is text or json", value);
        log_style = strcmp(value, "json") == 0 ? MR_LOG_JSON : MR_LOG_TEXT;
        mr_log_configure(log_level, log_style);
        return MR_OK;
    }
    for (size_t i = 0; i < MR_ARRAY_SIZE(levels); i++) {
        if (strcmp(value, levels[i]) == 0) {
            log_level = (enum mr_log_level)i;
            mr_log_configure(log_level, log_style);
            return MR_OK;
        }
    }
    return MR_FAIL(err, MR_USAGE,
                   "cannot set --log-level to '%s': it is error, warning, info or debug", value);
}

static const struct cli_flag *find_flag(const struct cli_flag *flags, size_t count,
                                        const char *name, size_t name_bytes)
{
    for (size_t i = 0; i < count; i++) {
        if ((strlen(flags[i].name) == name_bytes && memcmp(flags[i].name, name, name_bytes) == 0) ||
            (flags[i].short_name != NULL && strlen(flags[i].short_name) == name_bytes &&
             memcmp(flags[i].short_name, name, name_bytes) == 0))
            return &flags[i];
    }
    return NULL;
}

static enum mr_status unknown_flag(const struct cli_command *command, const char *name,
                                   struct mr_error *err)
{
    const char *names[CLI_ARGUMENTS_MAX];
    size_t count = 0;
    const char *nearest;

    for (size_t i = 0; i < command->flag_count; i++)
        names[count++] = command->flags[i].name;
    for (size_t i = 0; i < MR_ARRAY_SIZE(common_flags); i++)
        names[count++] = common_flags[i].name;
    nearest = mr_text_nearest(name, names, count);
    if (nearest != NULL)
        return MR_FAIL(err, MR_USAGE,
                       "unknown flag '%s': did you mean %s? See 'millrace %s --help'", name,
                       nearest, command->name);
    return MR_FAIL(err, MR_USAGE, "unknown flag '%s': see 'millrace %s --help'", name,
                   command->name);
}

/* One flag with its value, which may be the next argument or follow '='. */
static enum mr_status take_flag(const struct cli_command *command, int argc, char **argv, int *at,
                                struct cli_args *args, struct mr_error *err)
{
    const char *word = argv[*at];
    const char *equals = strchr(word, '=');
    size_t name_bytes = equals != NULL ? (size_t)(equals - word) : strlen(word);
    const struct cli_flag *own = find_flag(command->flags, command->flag_count, word, name_bytes);
    const struct cli_flag *flag =
        own != NULL ? own : find_flag(common_flags, MR_ARRAY_SIZE(common_flags), word, name_bytes);
    const char *value = "";

    if (flag == NULL)
        return unknown_flag(command, word, err);
    if (flag->value == NULL && equals != NULL)
        return MR_FAIL(err, MR_USAGE, "flag %s takes no value", flag->name);
    if (flag->value != NULL && equals != NULL) {
        value = equals + 1;
    } else if (flag->value != NULL) {
        if (*at + 1 >= argc)
            return MR_FAIL(err, MR_USAGE, "flag %s needs a value: %s", flag->name, flag->value);
        value = argv[++*at];
    }
    if (own != NULL) {
        args->values[own - command->flags] = value;
        return MR_OK;
    }
    if (strcmp(flag->name, "--help") == 0) {
        cli_print_help(command);
        args->help_printed = true;
        return MR_OK;
    }
    return set_common(flag, value, err);
}

enum mr_status cli_parse(const struct cli_command *command, int argc, char **argv,
                         struct cli_args *ret_args, struct mr_error *err)
{
    bool only_arguments = false;

    *ret_args = (struct cli_args){0};
    mr_log_configure(log_level, log_style);
    for (int i = 0; i < argc; i++) {
        if (!only_arguments && strcmp(argv[i], "--") == 0) {
            only_arguments = true;
        } else if (!only_arguments && argv[i][0] == '-' && argv[i][1] != '\0') {
            MR_TRY(take_flag(command, argc, argv, &i, ret_args, err));
        } else if (ret_args->argument_count < CLI_ARGUMENTS_MAX) {
            ret_args->arguments[ret_args->argument_count++] = argv[i];
        } else {
            return MR_FAIL(err, MR_USAGE, "too many arguments: at most %d", CLI_ARGUMENTS_MAX);
        }
    }
    return MR_OK;
}

const char *cli_value(const struct cli_command *command, const struct cli_args *args,
                      const char *name)
{
    const struct cli_flag *flag =
        find_flag(command->flags, command->flag_count, name, strlen(name));

    MR_ASSERT(flag != NULL);
    return args->values[flag - command->flags];
}

static void print_flag(const struct cli_flag *flag)
{
    char left[96];

    snprintf(left, sizeof(left), "%s%s%s%s%s", flag->short_name != NULL ? flag->short_name : "",
             flag->short_name != NULL ? ", " : "", flag->name, flag->value != NULL ? " " : "",
             flag->value != NULL ? flag->value : "");
    printf("  %-34s %s\n", left, flag->help);
}

void cli_print_help(const struct cli_command *command)
{
    printf("usage: millrace %s [flags] %s\n\n%s.\n", command->name, command->arguments,
           command->summary);
    if (command->details != NULL)
        printf("\n%s", command->details);
    printf("\nflags:\n");
    for (size_t i = 0; i < command->flag_count; i++)
        print_flag(&command->flags[i]);
    for (size_t i = 0; i < MR_ARRAY_SIZE(common_flags); i++)
        print_flag(&common_flags[i]);
}

/* With --log json: {"level":"E","code":"MR_SQL_ERROR","exit":64,"file":..,"line":..,"text":".."} */
static bool fail_json(const char *file, const struct mr_error *err, const char *text)
{
    struct mr_buf line = MR_BUF_INIT;
    bool printed;

    mr_buf_printf(&line, "{\"level\":\"E\",\"code\":\"%s\",\"exit\":%d,",
                  mr_status_name(err->status), mr_status_exit_code(err->status));
    if (file != NULL) {
        mr_buf_printf(&line, "\"file\":");
        mr_json_quote(&line, file, strlen(file));
        mr_buf_printf(&line, ",\"line\":%u,\"column\":%u,", err->sql_line, err->sql_column);
    }
    mr_buf_printf(&line, "\"text\":");
    mr_json_quote(&line, text, strlen(text));
    mr_buf_printf(&line, "}\n");
    printed = !line.failed;
    if (printed)
        fprintf(stderr, "%s", line.data);
    mr_buf_release(&line);
    return printed;
}

int cli_fail(const struct mr_error *err)
{
    (void)cli_fail_at(NULL, err);
    return mr_status_exit_code(err->status);
}

bool cli_fail_at(const char *file, const struct mr_error *err)
{
    const char *text = err->text[0] != '\0' ? err->text : mr_status_text(err->status);

    if (log_style == MR_LOG_JSON && fail_json(file, err, text))
        return true;
    if (file != NULL)
        fprintf(stderr, "millrace: %s:%u:%u: %s\n", file, err->sql_line, err->sql_column, text);
    else
        fprintf(stderr, "millrace: %s\n", text);
    return false;
}

int cli_finish_stdout(void)
{
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "millrace: cannot write to standard output\n");
        return mr_status_exit_code(MR_IO);
    }
    return 0;
}
