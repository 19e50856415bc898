/*
 * mr_save_as_text_files, mr_save_as_object_files, mr_save_as_parquet_files: a directory per batch
 * (OUT-3, OUT-4).
 *
 *     prefix-1700000001000.suffix/part-00000      a file for each partition of the dataset, also
 *                                 part-00001      for an empty one
 *                                 _SUCCESS        last
 *
 * A sink of the kernel; rdd/part_dir.h says what a crash leaves. The batch then runs again and puts
 * files of the same names and bytes in their place: exactly-once without remembering anything.
 *
 * Thread: driver.
 */
#include "dstream/streams.h"
#include "rdd/part_dir.h"

#include <millrace/ext/sink.h>

#include <inttypes.h>

struct mr_sink {
    struct mr_env *env;
    const struct mr__output *output;
    struct mr_schema *schema;
    enum mr__part_kind kind;
    struct mr__part_dir *dir; /* of this batch */
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot save a batch: out of memory");
}

static enum mr_status open_kind(const struct mr_sink_args *args, enum mr__part_kind kind,
                                struct mr_sink **ret_sink, struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return no_memory(err);
    sink->env = args->env;
    sink->output = args->user;
    sink->schema = mr_schema_ref(args->schema);
    sink->kind = kind;
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status text_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                struct mr_error *err)
{
    return open_kind(args, MR__PART_TEXT, ret_sink, err);
}

static enum mr_status object_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                  struct mr_error *err)
{
    return open_kind(args, MR__PART_OBJECT, ret_sink, err);
}

static enum mr_status parquet_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                   struct mr_error *err)
{
    return open_kind(args, MR__PART_PARQUET, ret_sink, err);
}

static void files_abort(struct mr_sink *sink)
{
    mr__part_dir_free(sink->dir);
    sink->dir = NULL;
}

static void files_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    files_abort(sink);
    mr_schema_unref(sink->schema);
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
    char *path =
        mr__batch_dir(sink->output->prefix, sink->output->suffix, info->batch_time_us / 1000);
    enum mr_status status;

    files_abort(sink);
    if (path == NULL)
        return no_memory(err);
    status = mr__part_dir_begin(sink->env, path, sink->kind, sink->schema, info->partition_count,
                                &sink->dir, err);
    mr_free(path);
    return status;
}

static enum mr_status files_write(struct mr_sink *sink, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    return mr__part_dir_write(sink->dir, partition, batch, err);
}

static enum mr_status files_stage(struct mr_sink *sink, struct mr_error *err)
{
    return mr__part_dir_stage(sink->dir, err);
}

static enum mr_status files_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                    struct mr_error *err)
{
    MR_UNUSED(batch_id);
    MR_UNUSED(ret_receipt);
    MR_TRY(mr__part_dir_publish(sink->dir, err));
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

static const struct mr_sink_connector text_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "text_files",
    .summary = "A directory of text files per batch.",
    .guarantee = MR_EXACTLY_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = text_open,
    .ops = &files_ops,
};

static const struct mr_sink_connector object_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "object_files",
    .summary = "A directory of object files per batch.",
    .guarantee = MR_EXACTLY_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = object_open,
    .ops = &files_ops,
};

static const struct mr_sink_connector parquet_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "parquet_files",
    .summary = "A directory of Parquet files per batch.",
    .guarantee = MR_EXACTLY_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = parquet_open,
    .ops = &files_ops,
};

static void save(struct mr_dstream *stream, const char *operation,
                 const struct mr_sink_connector *connector, const char *prefix, const char *suffix)
{
    struct mr__output *output = mr__output_new(stream, operation, connector);
    struct mr_error err;

    if (output == NULL)
        return;
    output->prefix = mr_strdup(prefix != NULL ? prefix : "");
    output->suffix = mr_strdup(suffix != NULL ? suffix : "");
    if (output->prefix == NULL || output->suffix == NULL) {
        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__context_blame(stream->ctx, operation, &err);
    }
}

void mr_save_as_text_files(struct mr_dstream *stream, const char *prefix, const char *suffix)
{
    save(stream, "save_as_text_files", &text_connector, prefix, suffix);
}

void mr_save_as_object_files(struct mr_dstream *stream, const char *prefix, const char *suffix)
{
    save(stream, "save_as_object_files", &object_connector, prefix, suffix);
}

void mr_save_as_parquet_files(struct mr_dstream *stream, const char *prefix, const char *suffix)
{
    save(stream, "save_as_parquet_files", &parquet_connector, prefix, suffix);
}
