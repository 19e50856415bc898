/*
 * Sink `file`: each batch becomes files in one directory, which a plain `ls` may read.
 *
 *     <path>/part-<batch, 10 digits>-<partition, 5 digits>.<extension>    none without rows
 *     <path>/.tmp-*                                                        being written; removed
 *                                                                          when a batch is given up
 *     <path>/.millrace/manifest.json                                       whose directory, what is
 *                                                                          published (manifest.c)
 *
 *   begin    an empty slot per partition
 *   write    the slot's file is made beside the others under a temporary name (same file system:
 *            the rename cannot fail with EXDEV)
 *   stage    every file is closed and synced; none may have the name of a file that is not ours
 *   publish  manifest notes the names; what a dead attempt of the batch left besides is removed;
 *            renames; one directory sync
 *
 * A killed publish is completed by running the batch again: the same plan gives the same names and
 * bytes. Exactly once: the manifest recognises (query, batch).
 *
 * Thread: write by any worker, one thread per partition at a time: slots share nothing. Everything
 * else: driver.
 */
#include "sinks/file/file_sink.h"

#include "base/mutant.h"

#include <inttypes.h>
#include <string.h>

struct part {
    char *name;
    struct mr_staged *staged;
    void *writer; /* of a whole-file format */
    uint64_t row_count;
    bool published;
};

struct mr_sink {
    struct mr_env *env;
    char *name;
    char *path;
    const struct mr_format *format;
    const struct mr_options *options;
    struct mr_schema *schema;
    struct mr_fsink_manifest manifest;
    struct mr_sink_batch info;
    struct part *parts; /* one per partition of the batch */
    uint32_t part_count;
};

static const struct mr_option file_options[] = {
    {"path", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED | MR_OPTION_WRITES, NULL, NULL, NULL,
     "The output directory; it is made when missing and belongs to one query."},
};

static void drop_parts(struct mr_sink *sink)
{
    for (uint32_t i = 0; i < sink->part_count; i++) {
        struct part *part = &sink->parts[i];

        if (part->writer != NULL) /* frees it; the file goes with the staged one */
            (void)sink->format->file_writer_close(part->writer, NULL);
        mr_staged_free(part->staged);
        mr_free(part->name);
    }
    mr_free(sink->parts);
    sink->parts = NULL;
    sink->part_count = 0;
}

static void file_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    drop_parts(sink);
    mr_fsink_manifest_release(&sink->manifest);
    mr_schema_unref(sink->schema);
    mr_free(sink->path);
    mr_free(sink->name);
    mr_free(sink);
}

static enum mr_status check_args(const struct mr_sink_args *args, struct mr_error *err)
{
    if (args->format == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot open file sink '%s': option 'format' is missing",
                       args->name);
    if (args->mode == MR_MODE_COMPLETE)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open file sink '%s': files cannot be replaced as a whole each "
                       "batch; use output mode "
                       "append or update, or the console or memory sink",
                       args->name);
    if (args->format->extension == NULL ||
        (args->format->whole_files ? args->format->file_writer_new == NULL
                                   : args->format->encode == NULL))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open file sink '%s': format '%s' cannot be written; use json or csv",
                       args->name, args->format->name);
    return MR_OK;
}

static enum mr_status file_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                struct mr_error *err)
{
    struct mr_sink *sink;
    uint64_t swept = 0, swept_meta = 0;
    enum mr_status status;

    MR_TRY(check_args(args, err));
    sink = mr_alloc_zero(NULL, sizeof(*sink));
    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open file sink '%s': out of memory", args->name);
    sink->env = args->env;
    sink->format = args->format;
    sink->options = args->options;
    sink->schema = mr_schema_ref(args->schema);
    sink->name = mr_strdup(args->name);
    sink->path = mr_strdup(mr_options_text(args->options, "path"));
    if (sink->name == NULL || sink->path == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot open file sink '%s': out of memory", args->name);
        goto done;
    }
    MR_TRY_GOTO(mr_fsink_manifest_open(&sink->manifest, args, sink->path, err));
    if (!MR_MUTANT("file-sink.open.sweep"))
        MR_TRY_GOTO(mr_durable_sweep(sink->env, sink->path, &swept, err));
    MR_TRY_GOTO(mr_durable_sweep(sink->env, sink->manifest.meta_dir, &swept_meta, err));
    swept += swept_meta;
    if (swept > 0)
        mr_ext_log('I', sink->name, "removed %" PRIu64 " unfinished files from '%s'", swept,
                   sink->path);
    *ret_sink = sink;
    sink = NULL;
done:
    file_close(sink);
    return status;
}

static enum mr_status file_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                          struct mr_error *err)
{
    MR_UNUSED(err);
    *ret_batch_id = sink->manifest.published;
    return MR_OK;
}

static enum mr_status file_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                 struct mr_error *err)
{
    drop_parts(sink);
    sink->info = *info;
    sink->parts = mr_alloc_zero(NULL, (info->partition_count + (size_t)1) * sizeof(*sink->parts));
    if (sink->parts == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write to '%s': out of memory", sink->path);
    sink->part_count = info->partition_count;
    return MR_OK;
}

static enum mr_status open_part(struct mr_sink *sink, uint32_t partition, struct mr_error *err)
{
    struct part *part = &sink->parts[partition];

    part->name = mr_asprintf("part-%010" PRIu64 "-%05" PRIu32 ".%s", sink->info.batch_id, partition,
                             sink->format->extension);
    if (part->name == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write to '%s': out of memory", sink->path);
    MR_TRY(mr_staged_create(sink->env, sink->path, part->name, &part->staged, err));
    if (!sink->format->whole_files)
        return MR_OK;
    return sink->format->file_writer_new(mr_staged_path(part->staged), sink->schema, sink->options,
                                         &part->writer, err);
}

static enum mr_status write_part(void *arg, const void *data, size_t size_bytes,
                                 struct mr_error *err)
{
    struct part *part = arg;

    return mr_staged_write(part->staged, data, size_bytes, err);
}

static enum mr_status file_write(struct mr_sink *sink, uint32_t partition,
                                 const struct mr_batch *batch, struct mr_error *err)
{
    struct part *part;
    bool first;

    MR_ASSERT(partition < sink->part_count);
    if (mr_batch_row_count(batch) == 0)
        return MR_OK;
    part = &sink->parts[partition];
    first = part->staged == NULL;
    if (first)
        MR_TRY(open_part(sink, partition, err));
    part->row_count += (uint64_t)mr_batch_row_count(batch);
    if (part->writer != NULL)
        return sink->format->file_writer_write(part->writer, batch, err);
    return sink->format->encode(sink->options, batch, first, write_part, part, err);
}

/* A file of that name which no attempt of this batch made belongs to somebody else. */
static enum mr_status check_not_foreign(struct mr_sink *sink, const struct part *part,
                                        struct mr_error *err)
{
    struct mr_file_info info;
    enum mr_status status;
    char *path;

    if (mr_fsink_manifest_owns(&sink->manifest, (int64_t)sink->info.batch_id, part->name))
        return MR_OK;
    path = mr_asprintf("%s/%s", sink->path, part->name);
    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write to '%s': out of memory", sink->path);
    status = mr_env_path_info(sink->env, path, false, &info, err);
    if (status == MR_OK)
        status = MR_FAIL(err, MR_CANNOT_CREATE,
                         "cannot create '%s': there is a file of that name which this query did "
                         "not make; move it away",
                         path);
    else if (status == MR_NOT_FOUND)
        status = MR_OK;
    mr_free(path);
    return status;
}

static enum mr_status file_stage(struct mr_sink *sink, struct mr_error *err)
{
    for (uint32_t i = 0; i < sink->part_count; i++) {
        struct part *part = &sink->parts[i];
        void *writer = part->writer;

        if (part->staged == NULL)
            continue;
        part->writer = NULL;
        if (writer != NULL)
            MR_TRY(sink->format->file_writer_close(writer, err));
        MR_TRY(mr_staged_seal(part->staged, err));
        if (!MR_MUTANT("file-sink.stage.foreign"))
            MR_TRY(check_not_foreign(sink, part, err));
    }
    return MR_OK;
}

static enum mr_status part_size(struct mr_sink *sink, const struct part *part, uint64_t *ret_bytes,
                                struct mr_error *err)
{
    struct mr_file_info info;

    *ret_bytes = mr_staged_size(part->staged);
    if (!sink->format->whole_files || part->published)
        return MR_OK;
    /* A library wrote it through its path. */
    MR_TRY(mr_env_path_info(sink->env, mr_staged_path(part->staged), false, &info, err));
    *ret_bytes = info.size_bytes;
    return MR_OK;
}

static enum mr_status note_intent(struct mr_sink *sink, struct mr_error *err)
{
    struct mr_fsink_names names = {0};
    enum mr_status status = MR_OK;

    for (uint32_t i = 0; i < sink->part_count && status == MR_OK; i++) {
        const struct part *part = &sink->parts[i];
        uint64_t size_bytes = 0;

        if (part->staged == NULL)
            continue;
        status = part_size(sink, part, &size_bytes, err);
        if (status == MR_OK)
            status = mr_fsink_names_add(&names, part->name, size_bytes, err);
    }
    if (status != MR_OK) {
        mr_fsink_names_release(&names);
        return status;
    }
    return mr_fsink_manifest_begin(&sink->manifest, (int64_t)sink->info.batch_id, &names, err);
}

static enum mr_status remove_stale(struct mr_sink *sink, struct mr_error *err)
{
    for (size_t i = 0; i < sink->manifest.stale.count; i++) {
        char *path = mr_asprintf("%s/%s", sink->path, sink->manifest.stale.items[i].name);
        enum mr_status status;

        if (path == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot write to '%s': out of memory", sink->path);
        status = mr_env_unlink(sink->env, path, err);
        mr_free(path);
        if (status != MR_OK && status != MR_NOT_FOUND)
            return status;
    }
    return MR_OK;
}

static enum mr_status show_parts(struct mr_sink *sink, struct mr_error *err)
{
    for (uint32_t i = 0; i < sink->part_count; i++) {
        struct part *part = &sink->parts[i];

        if (part->staged == NULL || part->published)
            continue;
        MR_TRY(mr_staged_publish(part->staged, err));
        part->published = true;
    }
    return MR_MUTANT("file-sink.show-parts.sync-dir") ? MR_OK
                                                      : mr_env_sync_dir(sink->env, sink->path, err);
}

static enum mr_status file_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                   struct mr_error *err)
{
    uint64_t files = 0;
    uint64_t rows = 0;

    MR_ASSERT(batch_id == sink->info.batch_id);
    for (uint32_t i = 0; i < sink->part_count; i++) {
        files += sink->parts[i].staged != NULL;
        rows += sink->parts[i].row_count;
    }
    /* A batch without rows leaves no trace, unless a dead attempt of it did. */
    if (files > 0 || (sink->manifest.publishing == (int64_t)batch_id &&
                      !MR_MUTANT("file-sink.publish.empty-again"))) {
        if (!MR_MUTANT("file-sink.publish.intent"))
            MR_TRY(note_intent(sink, err));
        if (!MR_MUTANT("file-sink.publish.stale"))
            MR_TRY(remove_stale(sink, err));
        MR_TRY(show_parts(sink, err));
        mr_fsink_manifest_done(&sink->manifest);
    }
    *ret_receipt = mr_asprintf("{\"files\":%" PRIu64 ",\"rows\":%" PRIu64 "}", files, rows);
    drop_parts(sink);
    return MR_OK;
}

static void file_abort(struct mr_sink *sink)
{
    drop_parts(sink);
}

static const struct mr_sink_ops file_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = file_last_published,
    .begin = file_begin,
    .write = file_write,
    .stage = file_stage,
    .publish = file_publish,
    .abort = file_abort,
    .close = file_close,
    .concurrent = true,
};

extern const struct mr_sink_connector mr_sink_file_connector;
const struct mr_sink_connector mr_sink_file_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "file",
    .summary = "Writes each batch as files into one directory, visible all at once.",
    .guarantee = MR_EXACTLY_ONCE,
    .options = file_options,
    .option_count = MR_ARRAY_SIZE(file_options),
    .takes_format = true,
    .default_format = "json",
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE,
    .open = file_open,
    .ops = &file_ops,
};
