/*
 * The default number of partitions of a program: its workers, or the cores, at the first start with
 * a checkpoint; from then on what that start wrote down.
 *
 *     <checkpoint>/partitions   decimal number
 *
 * A batch that runs again after a crash must have the partitions of its first run, wherever it
 * runs: outputs that remember (batch, partition) would else skip or double rows.
 * mr_dstream_set_partitions overrides the default for a stream; who changes that between two runs
 * has to know that no batch is pending.
 *
 * Thread: the starting one.
 */
#include "dstream/streams.h"

#include "base/log.h"
#include "base/number_text.h"

#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <stdio.h>

enum { NUMBER_BYTES_MAX = 16, PARTITIONS_MAX = 1024 };

static const char file_name[] = "partitions";

static uint32_t of_this_machine(const struct mr_context *ctx)
{
    unsigned count = ctx->config.workers > 0 ? ctx->config.workers : mr_cpu_count();

    return MR_MIN(count, (unsigned)PARTITIONS_MAX);
}

static enum mr_status read_pinned(struct mr_context *ctx, const char *path, int64_t *ret_count,
                                  struct mr_error *err)
{
    char *text = NULL;
    size_t size_bytes = 0;
    enum mr_status status;

    MR_TRY(mr_durable_get(ctx->env, path, NUMBER_BYTES_MAX, &text, &size_bytes, err));
    while (size_bytes > 0 && text[size_bytes - 1] == '\n')
        size_bytes--;
    if (mr_int_parse(text, size_bytes, ret_count) && *ret_count >= 1 &&
        *ret_count <= PARTITIONS_MAX)
        status = MR_OK;
    else
        status = MR_FAIL(err, MR_CORRUPT,
                         "cannot start: '%s' is not a number of partitions between 1 and %d; write "
                         "the number of workers of the last run into it",
                         path, PARTITIONS_MAX);
    mr_text_free(text);
    return status;
}

enum mr_status mr__partitions_load(struct mr_context *ctx, struct mr_error *err)
{
    uint32_t here = of_this_machine(ctx);
    enum mr_status status = MR_NOT_FOUND;
    int64_t pinned = 0;
    char *path;

    ctx->partition_count = here;
    ctx->are_partitions_pinned = true;
    if (ctx->checkpoint_dir == NULL)
        return MR_OK;
    path = mr_asprintf("%s/%s", ctx->checkpoint_dir, file_name);
    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot start: out of memory");
    status = read_pinned(ctx, path, &pinned, err);
    mr_free(path);
    if (status == MR_NOT_FOUND) {
        ctx->are_partitions_pinned = false; /* a new checkpoint */
        return MR_OK;
    }
    MR_TRY(status);
    ctx->partition_count = (uint32_t)pinned;
    if (ctx->partition_count != here)
        mr_log(MR_LOG_INFO, "dstream", ctx->name, -1,
               "streams keep the %" PRIu32 " partitions of the checkpoint's first start; "
               "mr_dstream_set_partitions gives others",
               ctx->partition_count);
    return MR_OK;
}

enum mr_status mr__partitions_pin(struct mr_context *ctx, struct mr_error *err)
{
    char text[NUMBER_BYTES_MAX];
    int size = snprintf(text, sizeof(text), "%" PRIu32 "\n", ctx->partition_count);

    if (ctx->are_partitions_pinned)
        return MR_OK;
    MR_TRY(
        mr_durable_put(ctx->env, ctx->checkpoint_dir, file_name, text, (size_t)size, false, err));
    ctx->are_partitions_pinned = true;
    return MR_OK;
}
