/*
 * millrace check: parses, type-checks and plans a pipeline, compares it with its checkpoint, and
 * touches nothing.
 */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/check.h"
#include "cli/script.h"
#include "core/evolution.h"
#include "plugins/plugins.h"
#include "testing/testing.h"
#include "wal/batch_log.h"
#include "wal/checkpoint.h"

#include <stdio.h>
#include <string.h>

static const struct cli_flag flags[] = {CLI_SCRIPT_FLAGS, CLI_ACCEPT_FLAG};

struct newest {
    bool has_commit;
    uint64_t batch_id;
};

static bool remember_newest(const struct mr_log_entry *entry, void *arg)
{
    struct newest *newest = arg;

    if (entry->kind == MR_RECORD_COMMIT) {
        newest->has_commit = true;
        newest->batch_id = entry->commit->batch_id;
    }
    return true;
}

/* Says where a run would go on. */
static enum mr_status describe_checkpoint(const char *dir, struct mr_error *err)
{
    struct mr_checkpoint checkpoint = {0};
    struct newest newest = {0};
    uint64_t torn_bytes = 0;
    enum mr_status status;

    if (dir == NULL)
        return MR_OK; /* the plan says so */
    status = mr_checkpoint_peek(mr_env_posix(), dir, &checkpoint, err);
    if (status == MR_NOT_FOUND) {
        printf("  it is new\n");
        return MR_OK;
    }
    if (status == MR_OK)
        status = mr_batch_log_walk(checkpoint.env, checkpoint.log_dir, remember_newest, &newest,
                                   &torn_bytes, err);
    if (status == MR_OK && newest.has_commit)
        printf("  it goes on after batch %llu\n", (unsigned long long)newest.batch_id);
    else if (status == MR_OK)
        printf("  it has no committed batch yet\n");
    mr_checkpoint_release(&checkpoint);
    return status;
}

/* What of the checkpoint the pipeline goes on with, part by part. */
static enum mr_status compare(struct mr_sql_plan *plan, const char *accept, struct mr_error *err)
{
    struct mr_evolution *evolution = NULL;
    struct mr_buf text = MR_BUF_INIT;
    const char *wants;
    enum mr_status status;

    if (plan->config.checkpoint_dir == NULL)
        return MR_OK;
    status = mr_evolution_compare(mr_env_posix(), plan->graph, plan->config.checkpoint_dir, accept,
                                  &evolution, err);
    if (status == MR_NOT_FOUND || (status == MR_OK && evolution == NULL)) {
        mr_error_clear(err);
        return MR_OK;
    }
    MR_TRY(status);
    mr_evolution_print(evolution, true, &text);
    printf("compared with the checkpoint:\n%s", text.data != NULL ? text.data : "");
    wants = mr_evolution_wants(evolution);
    if (mr_evolution_class(evolution) == MR_CHANGE_IMPOSSIBLE)
        printf("  'millrace run' refuses this checkpoint\n");
    else if (wants != NULL && plan->config.on_change == MR_ON_CHANGE_ALLOW)
        printf("  'millrace run' accepts that (on_change = 'allow')\n");
    else if (wants != NULL)
        printf("  'millrace run' needs your word for that: --accept %s\n", wants);
    mr_evolution_free(evolution);
    mr_buf_release(&text);
    return MR_OK;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct cli_script script = {0};
    struct cli_args args;
    struct mr_error err = {0};
    struct mr_sql_plan *plan = NULL;
    enum mr_status status;
    int code;

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    mr_plugins_register();
    status = mr_evolution_check_accept(cli_value(command, &args, "--accept"), &err);
    if (status == MR_OK)
        status = cli_script_load(command, &args, &script, &err);
    if (status == MR_OK)
        status = cli_script_plan(&script, true, &plan, &err);
    if (status == MR_OK)
        status = mr_testing_check(script.parsed, &err);
    if (status == MR_OK) {
        printf("%s", plan->description);
        status = describe_checkpoint(plan->config.checkpoint_dir, &err);
    }
    if (status == MR_OK)
        status = compare(plan, cli_value(command, &args, "--accept"), &err);
    code = status == MR_OK ? cli_finish_stdout() : cli_script_fail(&script, &err);
    mr_sql_plan_free(plan);
    cli_script_release(&script);
    return code;
}

const struct cli_command cli_check = {
    .name = "check",
    .arguments = "FILE.sql",
    .summary = "Parse, type-check and plan a pipeline; touches nothing",
    .details = "  Prints the plan: sources, operators with the names of their state, sinks, and "
               "where the checkpoint is; and for each part what becomes of it in the checkpoint:\n"
               "same, extend, rebuild or impossible, and why.\n",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
