/*
 * The default number of partitions of a program: its workers, or the cores, at the first start with
 * a checkpoint; from then on what that start wrote down.
 *
 *     <checkpoint>/partitions   decimal number | " sum=" | XXH3-64 of it in 16 digits | newline
 *
 * A line with the number alone is as good: somebody wrote it by hand, or an older millrace.
 *
 * A batch that runs again after a crash must have the partitions of its first run, wherever it
 * runs: outputs that remember (batch, partition) would else skip or double rows.
 * mr_dstream_set_partitions overrides the default for a stream; who changes that between two runs
 * has to know that no batch is pending.
 *
 * Thread: the starting one.
 */
#include "dstream/streams.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/number_text.h"

#include <millrace/ext/durable.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES_MAX = 64, PARTITIONS_MAX = 1024 };

static const char file_name[] = "partitions";

static uint32_t of_this_machine(const struct mr_context *ctx)
{
    unsigned count = ctx->config.workers > 0 ? ctx->config.workers : mr_cpu_count();

    return MR_MIN(count, (unsigned)PARTITIONS_MAX);
}

/* The line for a number; its size. */
static size_t print_line(int64_t count, bool with_sum, char *line)
{
    int size = snprintf(line, LINE_BYTES_MAX, "%" PRId64, count);

    if (with_sum)
        size += snprintf(line + size, LINE_BYTES_MAX - (size_t)size, " sum=%016" PRIx64,
                         mr_checksum(line, (size_t)size));
    size += snprintf(line + size, LINE_BYTES_MAX - (size_t)size, "\n");
    return (size_t)size;
}

/* Is the text what would be written for that number? */
static bool is_line(const char *text, size_t size_bytes, int64_t count, bool with_sum)
{
    char line[LINE_BYTES_MAX];
    size_t size = print_line(count, with_sum, line);

    return size == size_bytes && memcmp(line, text, size) == 0;
}

static enum mr_status read_pinned(struct mr_context *ctx, const char *path, int64_t *ret_count,
                                  struct mr_error *err)
{
    char *text = NULL;
    size_t size_bytes = 0, digits = 0;
    enum mr_status status;

    MR_TRY(mr_durable_get(ctx->env, path, LINE_BYTES_MAX, &text, &size_bytes, err));
    while (digits < size_bytes && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    if (mr_int_parse(text, digits, ret_count) && *ret_count >= 1 && *ret_count <= PARTITIONS_MAX &&
        (is_line(text, size_bytes, *ret_count, true) ||
         is_line(text, size_bytes, *ret_count, false) || MR_MUTANT("partitions.read.sum")))
        status = MR_OK;
    else
        status = MR_FAIL(err, MR_CORRUPT,
                         "cannot start: '%s' is not a number of partitions between 1 and %d, or is "
                         "damaged; write the number of workers of the first run into it, as a "
                         "line",
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
    char text[LINE_BYTES_MAX];
    size_t size = print_line(ctx->partition_count, true, text);

    if (ctx->are_partitions_pinned)
        return MR_OK;
    MR_TRY(mr_durable_put(ctx->env, ctx->checkpoint_dir, file_name, text, size, false, err));
    ctx->are_partitions_pinned = true;
    return MR_OK;
}
