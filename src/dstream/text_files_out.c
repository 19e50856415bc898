/*
 * mr_save_as_text_files: a directory per batch (OUT-3, OUT-4).
 *
 *     prefix-1700000001000.suffix/part-00000      elements, one a line; a part for each partition
 *                                                 that has any
 *                                 part-00001
 *                                 _SUCCESS        last
 *
 * Stage makes the directory and its parts under temporary names; publish renames them, then makes
 * _SUCCESS. A crash leaves no directory, one without _SUCCESS, or a whole one; the batch then runs
 * again and puts files of the same names and bytes in their place. Parts that a batch of another
 * run left there under the same time are removed, after its _SUCCESS.
 *
 * Thread: driver.
 */
#include "dstream/streams.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/sink.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PART_NAME_BYTES = 32, FLUSH_BYTES = 1 << 20 };

struct mr_sink {
    struct mr_env *env;
    const struct mr__output *output;
    char *dir; /* of this batch */
    struct mr_staged **parts;
    uint32_t part_count;
    uint32_t last_partition;
    struct mr_buf text; /* of the newest part, not written yet */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot save a batch: out of memory");
}

static enum mr_status files_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                 struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return no_memory(err);
    sink->env = args->env;
    sink->output = args->user;
    *ret_sink = sink;
    return MR_OK;
}

static void files_abort(struct mr_sink *sink)
{
    for (uint32_t i = 0; i < sink->part_count; i++)
        mr_staged_free(sink->parts[i]);
    mr_free(sink->parts);
    sink->parts = NULL;
    sink->part_count = 0;
    mr_free(sink->dir);
    sink->dir = NULL;
    mr_buf_clear(&sink->text);
}

static void files_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    files_abort(sink);
    mr_buf_release(&sink->text);
    mr_free(sink);
}

char *mr__batch_dir(const char *prefix, const char *suffix, int64_t batch_time_ms)
{
    bool has_prefix = prefix != NULL && prefix[0] != '\0';
    bool has_suffix = suffix != NULL && suffix[0] != '\0';

    return mr_asprintf("%s%s%" PRId64 "%s%s", has_prefix ? prefix : "", has_prefix ? "-" : "",
                       batch_time_ms, has_suffix ? "." : "", has_suffix ? suffix : "");
}

static enum mr_status files_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                  struct mr_error *err)
{
    uint64_t swept = 0;

    files_abort(sink);
    sink->dir =
        mr__batch_dir(sink->output->prefix, sink->output->suffix, info->batch_time_us / 1000);
    if (sink->dir == NULL)
        return no_memory(err);
    MR_TRY(mr_durable_mkdirs(sink->env, sink->dir, err));
    return mr_durable_sweep(sink->env, sink->dir, &swept, err); /* of an attempt that died */
}

static enum mr_status flush_text(struct mr_sink *sink, struct mr_error *err)
{
    size_t size = sink->text.size;

    if (sink->text.failed)
        return no_memory(err);
    if (size == 0)
        return MR_OK;
    sink->text.size = 0;
    return mr_staged_write(sink->parts[sink->part_count - 1], sink->text.data, size, err);
}

static void part_name(uint32_t index, char *name)
{
    snprintf(name, PART_NAME_BYTES, "part-%05" PRIu32, index);
}

static enum mr_status begin_part(struct mr_sink *sink, struct mr_error *err)
{
    struct mr_staged **grown;
    char name[PART_NAME_BYTES];

    MR_TRY(flush_text(sink, err));
    grown =
        mr_realloc(NULL, sink->parts, ((size_t)sink->part_count + 1) * sizeof(struct mr_staged *));
    if (grown == NULL)
        return no_memory(err);
    sink->parts = grown;
    part_name(sink->part_count, name);
    MR_TRY(mr_staged_create(sink->env, sink->dir, name, &sink->parts[sink->part_count], err));
    sink->part_count++;
    return MR_OK;
}

static enum mr_status files_write(struct mr_sink *sink, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    if (sink->part_count == 0 || partition != sink->last_partition)
        MR_TRY(begin_part(sink, err));
    sink->last_partition = partition;
    for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
        mr__element_print(&sink->text, &row);
        mr_buf_add_char(&sink->text, '\n');
        if (sink->text.size >= FLUSH_BYTES)
            MR_TRY(flush_text(sink, err));
    }
    return MR_OK;
}

static enum mr_status files_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_TRY(flush_text(sink, err));
    for (uint32_t i = 0; i < sink->part_count; i++)
        MR_TRY(mr_staged_seal(sink->parts[i], err));
    return MR_OK;
}

/* Parts of an earlier batch of the same time that this one does not replace. */
struct leftovers {
    uint32_t part_count;
    struct mr_buf names; /* each with its NUL */
};

static bool is_leftover(const char *name, enum mr_file_kind kind, void *arg)
{
    struct leftovers *left = arg;
    char own[PART_NAME_BYTES];

    if (kind != MR_KIND_FILE || strncmp(name, "part-", 5) != 0)
        return true;
    for (uint32_t i = 0; i < left->part_count; i++) {
        part_name(i, own);
        if (strcmp(name, own) == 0)
            return true;
    }
    mr_buf_add(&left->names, name, strlen(name) + 1);
    return true;
}

static enum mr_status remove_file(struct mr_sink *sink, const char *name, struct mr_error *err)
{
    char *path = mr_asprintf("%s/%s", sink->dir, name);
    enum mr_status status;

    if (path == NULL)
        return no_memory(err);
    status = mr_env_unlink(sink->env, path, err);
    mr_free(path);
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status remove_leftovers(struct mr_sink *sink, struct mr_error *err)
{
    struct leftovers left = {sink->part_count, MR_BUF_INIT};
    enum mr_status status;

    MR_TRY_GOTO(mr_env_list(sink->env, sink->dir, is_leftover, &left, err));
    if (left.names.failed)
        status = no_memory(err);
    if (status == MR_OK && left.names.size > 0)
        status = remove_file(sink, "_SUCCESS", err);
    for (size_t at = 0; at < left.names.size && status == MR_OK;
         at += strlen(left.names.data + at) + 1)
        status = remove_file(sink, left.names.data + at, err);
done:
    mr_buf_release(&left.names);
    return status;
}

static enum mr_status files_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                    struct mr_error *err)
{
    MR_UNUSED(batch_id);
    MR_UNUSED(ret_receipt);
    MR_TRY(remove_leftovers(sink, err));
    for (uint32_t i = 0; i < sink->part_count; i++)
        MR_TRY(mr_staged_publish(sink->parts[i], err));
    if (sink->part_count > 0)
        MR_TRY(mr_env_sync_dir(sink->env, sink->dir, err));
    MR_TRY(mr_durable_put(sink->env, sink->dir, "_SUCCESS", "", 0, false, err));
    files_abort(sink);
    return MR_OK;
}

static const struct mr_sink_ops files_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = files_begin,
    .write = files_write,
    .stage = files_stage,
    .publish = files_publish,
    .abort = files_abort,
    .close = files_close,
};

/* Publishing a batch twice puts the same bytes under the same names: exactly-once without
 * remembering anything. */
static const struct mr_sink_connector files_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "text_files",
    .summary = "A directory of text files per batch.",
    .guarantee = MR_EXACTLY_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = files_open,
    .ops = &files_ops,
};

void mr_save_as_text_files(struct mr_dstream *stream, const char *prefix, const char *suffix)
{
    struct mr__output *output = mr__output_new(stream, "save_as_text_files", &files_connector);
    struct mr_error err;

    if (output == NULL)
        return;
    output->prefix = mr_strdup(prefix != NULL ? prefix : "");
    output->suffix = mr_strdup(suffix != NULL ? suffix : "");
    if (output->prefix == NULL || output->suffix == NULL) {
        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__context_blame(stream->ctx, "save_as_text_files", &err);
    }
}
