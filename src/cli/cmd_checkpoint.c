/*
 * millrace checkpoint show|verify|rewind DIR: the batch log, readable; a check of every checksum
 * below the directory; a copy that ends with an older batch. All of them only read DIR, and work
 * beside a running query.
 */
#include "cli/cli.h"
#include "cli/verify_output.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/time_text.h"
#include "state/state.h"
#include "wal/batch_log.h"
#include "wal/block_log.h"
#include "wal/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void print_time(const char *label, int64_t us)
{
    char text[MR_TIME_TEXT_BYTES];

    if (us == INT64_MIN) {
        printf(" %s=none", label);
        return;
    }
    mr_timestamp_print_ms(us, text);
    printf(" %s=%s", label, text);
}

static void print_plan(const struct mr_plan *plan)
{
    printf("PLAN %llu epoch=%u", (unsigned long long)plan->batch_id, plan->epoch);
    print_time("time", plan->batch_time_us);
    print_time("watermark", plan->watermark_us);
    printf("\n");
    for (uint32_t i = 0; i < plan->source_count; i++)
        printf("    %s: %s -> %s\n", plan->sources[i].name,
               plan->sources[i].start != NULL ? plan->sources[i].start : "-",
               plan->sources[i].end != NULL ? plan->sources[i].end : "-");
}

static void print_commit(const struct mr_commit *commit)
{
    printf("COMMIT %llu epoch=%u attempt=%u", (unsigned long long)commit->batch_id, commit->epoch,
           commit->attempt);
    print_time("next_watermark", commit->next_watermark_us);
    printf("\n");
    for (uint32_t i = 0; i < commit->part_count; i++) {
        const struct mr_state_part *part = &commit->parts[i];
        printf("    state %s: %s%s%s, %llu bytes, %llu keys\n", part->store,
               part->is_snapshot ? "snapshot" : "delta", part->in_log ? " in the log" : " ",
               part->file != NULL ? part->file : "", (unsigned long long)part->size_bytes,
               (unsigned long long)part->key_count);
    }
    for (uint32_t i = 0; i < commit->receipt_count; i++)
        printf("    sink %s\n", commit->receipts[i]);
}

static bool print_record(const struct mr_log_entry *entry, void *arg)
{
    uint64_t *count = arg;

    (*count)++;
    if (entry->kind == MR_RECORD_PLAN)
        print_plan(entry->plan);
    else if (entry->kind == MR_RECORD_COMMIT)
        print_commit(entry->commit);
    else if (entry->kind == MR_RECORD_EPOCH)
        printf("EPOCH %u\n", entry->epoch);
    else if (entry->kind == MR_RECORD_DELTA)
        printf("    %s %llu %s, %zu bytes\n", entry->delta_is_snapshot ? "SNAPSHOT" : "DELTA",
               (unsigned long long)entry->delta_batch, entry->delta_store, entry->delta_bytes);
    return true;
}

static bool count_record(const struct mr_log_entry *entry, void *arg)
{
    uint64_t *count = arg;

    MR_UNUSED(entry);
    (*count)++;
    return true;
}

static void print_identity(const struct mr_checkpoint *checkpoint)
{
    char text[MR_TIME_TEXT_BYTES];

    mr_timestamp_print_ms(checkpoint->created_us, text);
    printf("checkpoint %s\nquery id   %s\ncreated    %s\n", checkpoint->dir,
           checkpoint->query_id_text, text);
}

static enum mr_status show(const struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    uint64_t records = 0, torn_bytes = 0;

    print_identity(checkpoint);
    MR_TRY(mr_batch_log_walk(checkpoint->env, checkpoint->log_dir, print_record, &records,
                             &torn_bytes, err));
    printf("%llu records, %llu torn bytes behind the last flush\n", (unsigned long long)records,
           (unsigned long long)torn_bytes);
    return MR_OK;
}

static void report_problem(const char *line, void *arg)
{
    MR_UNUSED(arg);
    fprintf(stderr, "millrace: %s\n", line);
}

static bool note_stream(const char *name, enum mr_file_kind kind, void *arg)
{
    struct mr_buf *names = arg;

    if (kind == MR_KIND_DIRECTORY)
        mr_buf_add(names, name, strlen(name) + 1);
    return true;
}

static enum mr_status verify_stream(const struct mr_checkpoint *checkpoint, const char *name,
                                    struct mr_error *err)
{
    char *dir = mr_asprintf("%s/%s", checkpoint->received_dir, name);
    uint64_t first = 0, last = 0;
    enum mr_status status;

    if (dir == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot verify received blocks: out of memory");
    status = mr_block_log_verify(checkpoint->env, dir, &first, &last, err);
    if (status == MR_OK)
        printf("received blocks of '%s' are good: %llu to %llu\n", name, (unsigned long long)first,
               (unsigned long long)last);
    mr_free(dir);
    return status;
}

/* The tail of a block log that is being appended to looks torn: only while no query has the
 * lock. */
static enum mr_status verify_received(const struct mr_checkpoint *checkpoint, struct mr_error *err)
{
    struct mr_buf names = MR_BUF_INIT;
    struct mr_lock *lock = NULL;
    char *path = mr_asprintf("%s/lock", checkpoint->dir);
    enum mr_status status;

    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot verify received blocks: out of memory");
    status = mr_env_lock(checkpoint->env, path, &lock, err);
    mr_free(path);
    if (status == MR_BUSY) {
        printf("received blocks were not checked: the query is running\n");
        return MR_OK;
    }
    if (status == MR_OK)
        status = mr_env_list(checkpoint->env, checkpoint->received_dir, note_stream, &names, err);
    for (size_t at = 0; status == MR_OK && at < names.size; at += strlen(names.data + at) + 1)
        status = verify_stream(checkpoint, names.data + at, err);
    mr_buf_release(&names);
    mr_env_unlock(checkpoint->env, lock);
    return status;
}

/* output: TABLE=DIR, or NULL. */
static enum mr_status verify(const struct mr_checkpoint *checkpoint, const char *output,
                             struct mr_error *err)
{
    uint64_t records = 0, torn_bytes = 0, bad = 0;

    print_identity(checkpoint);
    MR_TRY(mr_batch_log_walk(checkpoint->env, checkpoint->log_dir, count_record, &records,
                             &torn_bytes, err));
    MR_TRY(mr_state_verify(checkpoint->env, checkpoint->dir, report_problem, NULL, &bad, err));
    if (bad > 0)
        return MR_FAIL(
            err, MR_CORRUPT,
            "checkpoint '%s' is damaged: %llu problems, listed above; restore it from a copy",
            checkpoint->dir, (unsigned long long)bad);
    printf("%llu log records and all state files are good\n", (unsigned long long)records);
    MR_TRY(verify_received(checkpoint, err));
    return output == NULL ? MR_OK : cli_verify_output(checkpoint, output, err);
}

static const struct cli_flag flags[] = {
    {"--to", NULL, "N", "rewind: the batch that is the newest one in the copy."},
    {"--output", NULL, "TABLE=DIR", "verify: are the files there that this table wrote?"},
};

static enum mr_status rewind_to(const char *dir, const char *into, const char *to,
                                struct mr_error *err)
{
    char query_id[37], *end = NULL;
    uint64_t batch_id, oldest = 0, newest = 0;

    if (to == NULL)
        return MR_FAIL(err, MR_USAGE, "say where to: millrace checkpoint rewind --to N DIR INTO");
    batch_id = strtoull(to, &end, 10);
    if (to[0] < '0' || to[0] > '9' || *end != '\0')
        return MR_FAIL(err, MR_USAGE, "cannot read --to '%s': it is the number of a batch", to);
    MR_TRY(mr_state_retained(mr_env_posix(), dir, &oldest, &newest, err));
    if (batch_id < oldest || batch_id > newest)
        return MR_FAIL(err, MR_NOT_FOUND,
                       "cannot rewind '%s' to batch %llu: its state is retained from batch %llu to "
                       "%llu",
                       dir, (unsigned long long)batch_id, (unsigned long long)oldest,
                       (unsigned long long)newest);
    MR_TRY(mr_state_rewind(mr_env_posix(), dir, batch_id, into, query_id, err));
    printf("'%s' is '%s' as it was after batch %llu; its query id is %s\n", into, dir,
           (unsigned long long)batch_id, query_id);
    printf("sinks were not rewound: what batches %llu to %llu wrote is still there, and a run of "
           "the copy writes those rows again\n"
           "give the sinks other places, or remove what came after batch %llu first\n",
           (unsigned long long)(batch_id + 1), (unsigned long long)newest,
           (unsigned long long)batch_id);
    return MR_OK;
}

static int run(const struct cli_command *command, int argc, char **argv)
{
    struct mr_checkpoint checkpoint = {0};
    struct cli_args args;
    struct mr_error err = {0};
    enum mr_status status;
    bool is_show;

    if (cli_parse(command, argc, argv, &args, &err) != MR_OK)
        return cli_fail(&err);
    if (args.help_printed)
        return cli_finish_stdout();
    if (args.argument_count == 3 && strcmp(args.arguments[0], "rewind") == 0) {
        status = rewind_to(args.arguments[1], args.arguments[2], cli_value(command, &args, "--to"),
                           &err);
        return status == MR_OK ? cli_finish_stdout() : cli_fail(&err);
    }
    is_show = args.argument_count == 2 && strcmp(args.arguments[0], "show") == 0;
    if (!is_show && !(args.argument_count == 2 && strcmp(args.arguments[0], "verify") == 0)) {
        MR_FAIL(
            &err, MR_USAGE,
            "say what to do: millrace checkpoint show DIR, verify DIR, or rewind --to N DIR INTO");
        return cli_fail(&err);
    }
    status = mr_checkpoint_peek(mr_env_posix(), args.arguments[1], &checkpoint, &err);
    if (status == MR_OK)
        status = is_show ? show(&checkpoint, &err)
                         : verify(&checkpoint, cli_value(command, &args, "--output"), &err);
    mr_checkpoint_release(&checkpoint);
    return status == MR_OK ? cli_finish_stdout() : cli_fail(&err);
}

const struct cli_command cli_checkpoint = {
    .name = "checkpoint",
    .arguments = "show DIR | verify DIR | rewind --to N DIR INTO",
    .summary = "The batch log, readable; a check of every checksum; a copy as of an older batch",
    .details =
        "  show    every PLAN, COMMIT and state delta in order\n"
        "  verify  reads the whole log, every state file and, while no query runs, every\n"
        "          received block; with --output also counts the files of each batch\n"
        "          that the log retains; exit code 74 when one is damaged or gone\n"
        "  rewind  makes INTO: the checkpoint as it was after batch N, with a query id of its\n"
        "          own. Sinks are not rewound; DIR stays as it is\n",
    .flags = flags,
    .flag_count = MR_ARRAY_SIZE(flags),
    .run = run,
};
