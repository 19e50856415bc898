/*
 * millrace checkpoint verify --output TABLE=DIR: are the files there that the batches' COMMITs say
 * a file sink wrote? Row B22 of docs/faults.md. Called by cmd_checkpoint.c.
 *
 *     COMMIT 12, receipt  d={"files":2,"rows":40}    against    DIR/part-0000000012-*
 *
 * The log retains the newest batches only; older ones cannot be compared. Only reads. One thread.
 */
#include "cli/verify_output.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "wal/batch_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PART_PREFIX "part-" /* then the number of the batch in ten digits or more, and '-' */

struct output {
    const char *table;
    size_t table_bytes;
    const char *dir;
    struct mr_buf batches; /* of each file that is there: the number of its batch, uint64_t */
    uint64_t compared;
    uint64_t lacking;
};

static bool note_file(const char *name, enum mr_file_kind kind, void *arg)
{
    struct output *output = arg;
    size_t prefix = strlen(PART_PREFIX);
    char *end = NULL;
    uint64_t batch_id;

    if (kind != MR_KIND_FILE || strncmp(name, PART_PREFIX, prefix) != 0 || name[prefix] < '0' ||
        name[prefix] > '9')
        return true;
    batch_id = strtoull(name + prefix, &end, 10);
    if (*end == '-')
        mr_buf_add(&output->batches, &batch_id, sizeof(batch_id));
    return true;
}

static uint64_t files_of(const struct output *output, uint64_t batch_id)
{
    uint64_t count = 0, other;

    for (size_t at = 0; at < output->batches.size; at += sizeof(other)) {
        memcpy(&other, output->batches.data + at, sizeof(other));
        count += other == batch_id;
    }
    return count;
}

/* The number of files in the receipt of this table; false when it is not one of a file sink. */
static bool receipt_files(const struct output *output, const char *receipt, uint64_t *ret_files)
{
    const char *text = receipt + output->table_bytes;
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    int64_t files = -1;

    if (strncmp(receipt, output->table, output->table_bytes) != 0 || *text++ != '=')
        return false;
    if (mr_json_parse(text, strlen(text), &arena, &json, NULL) != MR_OK ||
        mr_json_get(json, "files") == NULL || !mr_json_int(mr_json_get(json, "files"), &files))
        files = -1;
    mr_arena_release(&arena);
    *ret_files = (uint64_t)files;
    return files >= 0;
}

static bool compare(const struct mr_log_entry *entry, void *arg)
{
    struct output *output = arg;
    const struct mr_commit *commit = entry->commit;

    if (entry->kind != MR_RECORD_COMMIT)
        return true;
    for (uint32_t i = 0; i < commit->receipt_count; i++) {
        uint64_t wrote, there;

        if (!receipt_files(output, commit->receipts[i], &wrote))
            continue;
        output->compared++;
        there = files_of(output, commit->batch_id);
        if (there >= wrote)
            continue;
        output->lacking++;
        fprintf(stderr,
                "millrace: batch %" PRIu64 ": table '%.*s' wrote %" PRIu64 " files, and %" PRIu64
                " are in '%s'\n",
                commit->batch_id, (int)output->table_bytes, output->table, wrote, there,
                output->dir);
    }
    return true;
}

enum mr_status cli_verify_output(const struct mr_checkpoint *checkpoint, const char *place,
                                 struct mr_error *err)
{
    const char *equals = strchr(place, '=');
    struct output output = {.table = place, .batches = MR_BUF_INIT};
    uint64_t torn_bytes;
    enum mr_status status;

    if (equals == NULL || equals == place || equals[1] == '\0')
        return MR_FAIL(err, MR_USAGE,
                       "cannot read --output '%s': say TABLE=DIR, as in --output results=out",
                       place);
    output.table_bytes = (size_t)(equals - place);
    output.dir = equals + 1;
    MR_TRY_GOTO(mr_env_list(checkpoint->env, output.dir, note_file, &output, err));
    if (output.batches.failed) {
        status = MR_FAIL(err, MR_NOMEM, "cannot look at '%s': out of memory", output.dir);
        goto done;
    }
    MR_TRY_GOTO(mr_batch_log_walk(checkpoint->env, checkpoint->log_dir, compare, &output,
                                  &torn_bytes, err));
    status = MR_OK;
    if (output.lacking > 0)
        status = MR_FAIL(err, MR_CORRUPT,
                         "'%s' is not whole: files of %" PRIu64
                         " batches, listed above, are gone; restore them from a copy, or "
                         "rewind the checkpoint to before them",
                         output.dir, output.lacking);
    else if (output.compared == 0)
        status = MR_FAIL(err, MR_USAGE,
                         "no batch in the log has a receipt of a table '%.*s' that writes "
                         "files; millrace checkpoint show lists them",
                         (int)output.table_bytes, output.table);
    else
        printf("the files of %" PRIu64 " batches are in '%s'\n", output.compared, output.dir);
done:
    mr_buf_release(&output.batches);
    return status;
}
