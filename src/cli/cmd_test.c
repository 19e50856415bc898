/*
 * millrace test: runs the TEST blocks of pipelines, without their services.
 *
 * Exit codes: 0 all passed, 1 some failed, 64 a file that cannot be read as SQL.
 */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/log.h"
#include "plugins/plugins.h"
#include "testing/testing.h"

#include <millrace/ext/durable.h>

#include <stdio.h>
#include <string.h>

enum { EXIT_FAILED = 1 };

static const struct cli_flag flags[] = {
    {"--filter", NULL, "TEXT", "Run only the tests whose title holds TEXT."},
    {"--crash-everywhere", NULL, NULL,
     "Run each test again for every step of every batch, with a crash there."},
    {"--junit", NULL, "FILE", "Write the result as JUnit XML to FILE, too."},
};

static int fail(const struct mr_testing_place *place, const struct mr_error *err)
{
    if (err->sql_line == 0 || place->file[0] == '\0')
        return cli_fail(err);
    fprintf(stderr, "millrace: %s:%u:%u: %s\n  %s\n  ", place->file, err->sql_line, err->sql_column,
            err->text, place->line_text);
    for (uint32_t i = 1; i < err->sql_column && place->line_text[i - 1] != '\0'; i++)
        fputc(place->line_text[i - 1] == '\t' ? '\t' : ' ', stderr);
    fprintf(stderr, "^\n");
    return mr_status_exit_code(err->status);
}

static enum mr_status write_junit(const char *path, const struct mr_testing_report *report,
                                  struct mr_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t dir_bytes = slash != NULL ? (size_t)(slash - path) + 1 : 0;
    char *dir = dir_bytes > 0 ? mr_strndup(path, dir_bytes) : mr_strdup(".");
    struct mr_buf text = MR_BUF_INIT;
    enum mr_status status;

    mr_testing_junit(report, &text);
    status = text.failed || dir == NULL
                 ? MR_FAIL(err, MR_NOMEM, "cannot write '%s': out of memory", path)
                 : mr_durable_put(mr_env_posix(), dir, path + dir_bytes, text.data, text.size,
                                  false, err);
    mr_buf_release(&text);
    mr_free(dir);
    return status;
}

static enum mr_status run_files(const struct cli_args *args, const struct mr_testing_choice *choice,
                                struct mr_testing_report *report, struct mr_testing_place *place,
                                struct mr_error *err)
{
    const char *filter = choice->filter;

    if (args->argument_count == 0)
        return MR_FAIL(
            err, MR_USAGE,
            "give one or more files of SQL with TEST blocks: see 'millrace test --help'");
    for (size_t i = 0; i < args->argument_count; i++)
        MR_TRY(mr_testing_run(args->arguments[i], choice, report, place, err));
    if (report->count == 0)
        return MR_FAIL(err, MR_USAGE,
                       "no test was found%s%s%s: write TEST 'title' AS BEGIN ... END",
                       filter != NULL ? " with '" : "", filter != NULL ? filter : "",
                       filter != NULL ? "' in its title" : "");
    return MR_OK;
}

/* What tests provoke is not worth a warning each, unless asked for. */
static bool asks_for_log(int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "--log", 5) == 0)
            return true;
    }
    return false;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct mr_testing_report report = {0};
    struct mr_testing_place place = {0};
    struct mr_testing_choice choice;
    struct mr_buf text = MR_BUF_INIT;
    struct cli_args args;
    struct mr_error err = {0};
    const char *junit;
    enum mr_status status;
    int code;

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    if (!asks_for_log(argc, argv))
        mr_log_configure(MR_LOG_ERROR, MR_LOG_TEXT);
    mr_plugins_register();
    junit = cli_value(command, &args, "--junit");
    choice = (struct mr_testing_choice){cli_value(command, &args, "--filter"),
                                        cli_value(command, &args, "--crash-everywhere") != NULL};
    status = run_files(&args, &choice, &report, &place, &err);
    if (status == MR_OK) {
        mr_testing_tap(&report, &text);
        printf("%s", text.data != NULL ? text.data : "");
        if (junit != NULL)
            status = write_junit(junit, &report, &err);
    }
    code = status == MR_OK ? cli_finish_stdout() : fail(&place, &err);
    if (code == 0 && report.failed_count > 0)
        code = EXIT_FAILED;
    mr_buf_release(&text);
    mr_testing_report_release(&report);
    return code;
}

const struct cli_command cli_test = {
    .name = "test",
    .arguments = "FILE.sql ...",
    .summary = "Run the TEST blocks of pipelines with a virtual clock; no services",
    .details =
        "  TEST 'late rows are dropped' AS BEGIN\n"
        "    INSERT INTO clicks VALUES (1, 'Bonn', '2026-01-01 10:00:00');\n"
        "    RUN;\n"
        "    CRASH AFTER STAGED;\n"
        "    ASSERT per_city = VALUES ('Bonn', 1);\n"
        "  END;\n\n"
        "  The tests of q.sql stand in q.sql or in q.test.sql beside it. Every table is one in\n"
        "  memory; disk and clock are simulated. Steps:\n"
        "    GIVEN statement                          more of the pipeline, for this test\n"
        "    INSERT INTO table VALUES ... | SELECT    rows into a source\n"
        "    INSERT INTO table RECORDS ('line', ...)  decoded by its format\n"
        "    RUN                                      process all there is (ASSERT does it, too)\n"
        "    ADVANCE TIME BY '10 seconds' | TO 'time'\n"
        "    ADVANCE WATERMARK | EVENT TIME OF table TO 'time'\n"
        "    CRASH | KILL [AFTER | BEFORE PLANNED | RAN | STAGED | PUBLISHED | COMMITTED\n"
        "      [IN BATCH n]]\n"
        "    RESTART\n"
        "    ASSERT [NEW | LAST] [ORDERED] table [KEY (column, ...)] = VALUES ... | SELECT ... |\n"
        "      EMPTY\n"
        "    ASSERT (SELECT ...) = ...; ASSERT ERROR 'text'; ASSERT STATE "
        "'total/updated/dropped/removed';\n"
        "    ASSERT [LAST] WATERMARK 'time'; ASSERT LATE ROWS n; ASSERT BAD ROWS n;\n"
        "    ASSERT BATCHES n\n"
        "  Prints TAP version 14. Exits 0 when all passed, 1 when some failed. Guide: "
        "docs/testing.md\n",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
