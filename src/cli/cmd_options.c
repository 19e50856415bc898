/*
 * millrace options [connector]: every option with type, default, range and meaning, from the tables
 * that parse them. With --markdown it prints docs/options.md, with --metrics-markdown
 * docs/metrics.md, with --limits every limit and with --limits-markdown docs/limits.md.
 */
#include "cli/cli.h"

#include "base/check.h"
#include "base/limits.h"
#include "base/metrics.h"
#include "dstream/settings.h"
#include "plugins/plugins.h"
#include "sql/settings.h"

#include <millrace/ext/format.h>
#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <stdio.h>
#include <string.h>

static const struct cli_flag flags[] = {
    {"--markdown", NULL, NULL, "Print the page docs/options.md."},
    {"--metrics-markdown", NULL, NULL, "Print the page docs/metrics.md."},
    {"--limits", NULL, NULL, "Print every limit: its value, what happens there, what changes it."},
    {"--limits-markdown", NULL, NULL, "Print the page docs/limits.md."},
};

static const char *type_name(enum mr_option_type type)
{
    static const char *const names[] = {
        [MR_OPTION_TEXT] = "text",         [MR_OPTION_BOOL] = "boolean",
        [MR_OPTION_INT] = "integer",       [MR_OPTION_DOUBLE] = "number",
        [MR_OPTION_DURATION] = "duration", [MR_OPTION_SIZE] = "size",
        [MR_OPTION_ENUM] = "one of",       [MR_OPTION_SECRET] = "secret",
        [MR_OPTION_PREFIX] = "any key",    [MR_OPTION_SECRET_PREFIX] = "any key, secret values",
    };
    return names[type];
}

/* "1 to 100", "at least 1", the choices, or "". */
static void range_text(const struct mr_option *option, char *text, size_t size)
{
    if (option->type == MR_OPTION_ENUM)
        snprintf(text, size, "%s", option->minimum);
    else if (option->minimum != NULL && option->maximum != NULL)
        snprintf(text, size, "%s to %s", option->minimum, option->maximum);
    else if (option->minimum != NULL)
        snprintf(text, size, "at least %s", option->minimum);
    else if (option->maximum != NULL)
        snprintf(text, size, "at most %s", option->maximum);
    else
        text[0] = '\0';
}

static void print_bars_escaped(const char *text)
{
    for (; *text != '\0'; text++)
        printf(*text == '|' ? "\\|" : "%c", *text);
}

static void print_option(const struct mr_option *option, bool markdown)
{
    const char *standard = option->standard != NULL             ? option->standard
                           : option->flags & MR_OPTION_REQUIRED ? "required"
                                                                : "unset";
    char range[256];

    range_text(option, range, sizeof(range));
    if (!markdown) {
        printf("  %-28s %s%s%s, %s%s\n      %s\n", option->name, type_name(option->type),
               range[0] != '\0' ? " " : "", range, option->standard != NULL ? "default " : "",
               standard, option->help);
        if (option->aliases != NULL)
            printf("      also: %s\n", option->aliases);
        return;
    }
    printf("| `%s` | %s ", option->name, type_name(option->type));
    print_bars_escaped(range);
    printf(" | %s | %s", standard, option->help);
    if (option->aliases != NULL) {
        printf(" Also `");
        print_bars_escaped(option->aliases);
        printf("`.");
    }
    printf(" |\n");
}

static void print_table(const char *kind, const char *name, const char *summary,
                        const struct mr_option *options, size_t count, bool markdown)
{
    if (markdown)
        printf("\n## %s `%s`\n\n%s\n", kind, name, summary);
    else
        printf("%s %s: %s\n", kind, name, summary);
    if (count == 0) {
        printf(markdown ? "\nNo options.\n" : "  no options\n");
        return;
    }
    if (markdown)
        printf("\n| option | type | default | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < count; i++)
        print_option(&options[i], markdown);
}

static const char *guarantee_name(enum mr_guarantee guarantee)
{
    return guarantee == MR_EXACTLY_ONCE ? "exactly-once" : "at-least-once";
}

/* Prints all tables whose owner is called name, or all when name is NULL. Returns how many. */
static size_t print_matching(const char *name, bool markdown)
{
    size_t printed = 0;

    for (size_t i = 0; mr_source_at(i) != NULL; i++) {
        const struct mr_source_connector *one = mr_source_at(i);
        if (name != NULL && strcmp(name, one->name) != 0)
            continue;
        print_table("source", one->name, one->summary, one->options, one->option_count, markdown);
        printed++;
    }
    for (size_t i = 0; mr_sink_at(i) != NULL; i++) {
        const struct mr_sink_connector *one = mr_sink_at(i);
        char summary[512];

        if (name != NULL && strcmp(name, one->name) != 0)
            continue;
        snprintf(summary, sizeof(summary), "%s (%s)", one->summary, guarantee_name(one->guarantee));
        print_table("sink", one->name, summary, one->options, one->option_count, markdown);
        printed++;
    }
    for (size_t i = 0; mr_format_at(i) != NULL; i++) {
        const struct mr_format *one = mr_format_at(i);
        if (name != NULL && strcmp(name, one->name) != 0)
            continue;
        print_table("format", one->name, one->summary, one->options, one->option_count, markdown);
        printed++;
    }
    return printed;
}

static void print_settings(bool markdown)
{
    const struct mr_option_table *table = mr_sql_settings_table();

    print_table("statement", "SET", "Settings of a pipeline: SET name = 'value';", table->options,
                table->option_count, markdown);
}

static void print_context_settings(bool markdown)
{
    const struct mr_option_table *table = mr__settings_table();
    const char *name, *why;

    print_table("context", "settings",
                "Settings of a program's context: mr_context_set, a file, MILLRACE_SET, --set.",
                table->options, table->option_count, markdown);
    if (markdown)
        printf("\nNames of Spark that are accepted and have no meaning here:\n\n"
               "| name | why |\n|---|---|\n");
    for (size_t i = 0; markdown && mr__settings_meaningless(i, &name, &why); i++)
        printf("| `%s%s` | %s |\n", name, name[strlen(name) - 1] == '.' ? "*" : "", why);
}

static void print_metrics_page(void)
{
    printf("# Metrics\n\nGenerated by `millrace options --metrics-markdown`; do not edit.\n\n"
           "What a query counts from its start; `metrics` in the progress document of each batch "
           "(`millrace run --progress json`).\n\n"
           "| metric | kind | unit | meaning |\n|---|---|---|---|\n");
    for (size_t i = 0; i < MR_METRIC_COUNT; i++)
        printf("| `%s` | %s | %s | %s |\n", mr_metric_infos[i].name, mr_metric_infos[i].kind,
               mr_metric_infos[i].unit, mr_metric_infos[i].help);
}

/* "SQL_BYTES" -> "sql_bytes" */
static void lower_name(const char *name, char *text, size_t size)
{
    size_t used = 0;

    for (; name[used] != '\0' && used + 1 < size; used++)
        text[used] =
            (char)(name[used] >= 'A' && name[used] <= 'Z' ? name[used] + ('a' - 'A') : name[used]);
    text[used] = '\0';
}

static void print_limits(bool markdown)
{
    const struct mr_limit_group *group;

    if (markdown)
        printf("# Limits\n\nGenerated by `millrace options --limits-markdown`; do not edit.\n\n"
               "Whatever comes from outside meets a limit before it meets the memory. A refusal "
               "names the limit; what is left out is counted. Behind them all stands the memory of "
               "the process: `SET memory`, in [structured.md](structured.md#memory).\n");
    for (size_t i = 0; (group = mr_limit_group_at(i)) != NULL; i++) {
        printf(markdown ? "\n## %s\n\n| limit | value | when it is reached | changed by |\n"
                          "|---|---|---|---|\n"
                        : "%s\n",
               group->title);
        for (size_t k = 0; k < group->count; k++) {
            const struct mr_limit *limit = &group->limits[k];
            char name[64], value[32];

            lower_name(limit->name, name, sizeof(name));
            mr_limit_print(limit, value, sizeof(value));
            if (markdown)
                printf("| `%s` | %s | %s | %s |\n", name, value, limit->what, limit->option);
            else
                printf("  %-28s %-12s %s\n      %s\n", name, value, limit->option, limit->what);
        }
    }
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_args args;
    struct mr_error err = {0};
    const char *name;
    bool markdown;

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    if (cli_value(command, &args, "--metrics-markdown") != NULL) {
        print_metrics_page();
        return cli_finish_stdout();
    }
    if (cli_value(command, &args, "--limits") != NULL ||
        cli_value(command, &args, "--limits-markdown") != NULL) {
        print_limits(cli_value(command, &args, "--limits-markdown") != NULL);
        return cli_finish_stdout();
    }
    mr_plugins_register();
    markdown = cli_value(command, &args, "--markdown") != NULL;
    name = args.argument_count > 0 ? args.arguments[0] : NULL;
    if (markdown)
        printf("# Options\n\nGenerated by `millrace options --markdown`; do not edit.\n");
    if (name == NULL || strcmp(name, "SET") == 0 || strcmp(name, "set") == 0)
        print_settings(markdown);
    if (name == NULL)
        print_context_settings(markdown);
    if (print_matching(name, markdown) == 0 && name != NULL && strcmp(name, "SET") != 0 &&
        strcmp(name, "set") != 0) {
        MR_FAIL(&err, MR_CONFIG, "unknown connector or format '%s': 'millrace options' lists all",
                name);
        return cli_fail(&err);
    }
    return cli_finish_stdout();
}

const struct cli_command cli_options = {
    .name = "options",
    .arguments = "[connector | format | SET]",
    .summary = "Every option with type, default, range and meaning",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
