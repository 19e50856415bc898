/* millrace version [--deps]: what this binary is, and with --deps what it stands on. */
#include "cli/cli.h"

#include "base/check.h"
#include "cli/version.h"
#include "duck/duck.h"

#include <stdio.h>
#include <xxhash.h>

#ifdef MR_WITH_KAFKA
#include <librdkafka/rdkafka.h>
#endif
#ifdef MR_WITH_ZLIB
#include <zlib.h>
#endif

static const struct cli_flag flags[] = {
    {"--deps", NULL, NULL, "Also print the libraries in use and how the program was compiled."},
};

static void print_deps(void)
{
    const char *duckdb = NULL;
    struct mr_error err = {0};

    printf("xxhash     %u.%u.%u\n", XXH_versionNumber() / 10000, XXH_versionNumber() / 100 % 100,
           XXH_versionNumber() % 100);
    if (mr_duck_version(&duckdb, &err) == MR_OK)
        printf("duckdb     %s\n", duckdb);
    else
        printf("duckdb     not found: %s\n", err.text);
#ifdef MR_WITH_KAFKA
    printf("librdkafka %s\n", rd_kafka_version_str());
#else
    printf("librdkafka not built in: connector 'kafka' is missing\n");
#endif
#ifdef MR_WITH_ZLIB
    printf("zlib       %s\n", zlibVersion());
#else
    printf("zlib       not built in: file streams cannot read .gz\n");
#endif
    printf("compiler   %s\nflags      %s\n", MR_COMPILER, MR_COMPILE_FLAGS);
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_args args;
    struct mr_error err = {0};

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    printf("millrace %s\n", MR_VERSION_TEXT);
    if (cli_value(command, &args, "--deps") != NULL)
        print_deps();
    return cli_finish_stdout();
}

const struct cli_command cli_version = {
    .name = "version",
    .arguments = "",
    .summary = "The version, and with --deps the libraries in use",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
