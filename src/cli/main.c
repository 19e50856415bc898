/*
 * millrace: finds the sub-command and runs it.
 *
 * SIGPIPE is ignored for the whole process, so that a closed terminal or pipe is an error of a
 * write (exit 74), not a death.
 */
#include "cli/cli.h"

#include "base/check.h"
#include "base/text.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const struct cli_command *const commands[] = {
    &cli_run, &cli_check, &cli_test, &cli_state, &cli_checkpoint, &cli_options, &cli_version,
};

static void print_usage(FILE *out)
{
    fprintf(out, "usage: millrace COMMAND [flags] [arguments]\n\n"
                 "millrace runs streaming SQL: exactly once, batch by batch.\n\ncommands:\n");
    for (size_t i = 0; i < MR_ARRAY_SIZE(commands); i++)
        fprintf(out, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(out, "\n'millrace COMMAND --help' says more. Try:\n"
                 "  echo '{\"city\": \"Oslo\"}' | millrace run -e \"SELECT city, count(*) FROM "
                 "stdin GROUP BY city\"\n");
}

static int unknown_command(const char *name)
{
    const char *names[MR_ARRAY_SIZE(commands)];
    const char *nearest;

    for (size_t i = 0; i < MR_ARRAY_SIZE(commands); i++)
        names[i] = commands[i]->name;
    nearest = mr_text_nearest(name, names, MR_ARRAY_SIZE(commands));
    if (nearest != NULL)
        fprintf(stderr, "millrace: unknown command '%s': did you mean '%s'?\n", name, nearest);
    else
        fprintf(stderr, "millrace: unknown command '%s': 'millrace --help' lists them\n", name);
    return mr_status_exit_code(MR_USAGE);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    /* A pipeline outlives its terminal; what it still writes there fails like any closed output. */
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGALRM, SIG_IGN);
    if (argc < 2) {
        print_usage(stderr);
        return mr_status_exit_code(MR_USAGE);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return cli_finish_stdout();
    }
    if (strcmp(argv[1], "--version") == 0)
        return cli_version.run(&cli_version, 0, NULL);
    for (size_t i = 0; i < MR_ARRAY_SIZE(commands); i++) {
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(commands[i], argc - 2, argv + 2);
    }
    return unknown_command(argv[1]);
}
