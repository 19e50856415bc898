/*
 * File streams: building calls, planning, and what is remembered (file_stream.h has the parts).
 *
 * The offset of a batch lists its files with their sizes, so the batch can run again without
 * looking at the directory; `start`, the moment the stream was first built, travels in it, so a
 * recovered program has the first one's (FILE-4, FILE-11).
 *
 * What was read is kept in the source's store (path -> batch time) and forgotten after `remember`:
 * a file whose mtime is older than that is never read, so it need not be known.
 *
 * A file must be complete when it appears: write it elsewhere and rename it in. Of one that grows,
 * the bytes that were there at planning are read.
 *
 * Thread: building in the program's, the rest on the driver.
 */
#include "dstream/file_stream.h"
#include "dstream/input.h"

#include <inttypes.h>
#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read files: out of memory");
}

/* ---- planning ---- */

static enum mr_status files_plan(struct mr_source *source, const char *start,
                                 const struct mr_plan_limits *limits, char **ret_end,
                                 struct mr_error *err)
{
    struct mr__files files = {.start_ms = source->spec->built_ms};
    int64_t time_ms = limits->batch_time_us / 1000;
    enum mr_status status = MR_OK;

    *ret_end = NULL;
    if (start != NULL) {
        struct mr__files before;
        int64_t before_ms = 0;

        status = mr__files_parse(start, &before, &before_ms, err);
        files.start_ms = before.start_ms;
        mr__files_release(&before);
        MR_TRY(status);
    }
    MR_TRY_GOTO(mr__files_search(source, time_ms, &files, err));
    if (files.count > 0 || start == NULL) {
        *ret_end = mr__files_print(&files, time_ms);
        if (*ret_end == NULL)
            status = no_memory(err);
    }
done:
    mr__files_release(&files);
    return status;
}

static enum mr_status files_split(struct mr_source *source, const char *start, const char *end,
                                  uint32_t *ret_partitions, uint64_t *ret_bytes,
                                  struct mr_error *err)
{
    struct mr__files files;
    int64_t time_ms;
    enum mr_status status = mr__files_parse(end, &files, &time_ms, err);

    MR_UNUSED(source);
    MR_UNUSED(start);
    *ret_partitions = mr__file_partitions(source, &files);
    *ret_bytes = 1;
    for (size_t i = 0; i < files.count; i++)
        *ret_bytes += files.items[i].size_bytes;
    mr__files_release(&files);
    return status;
}

/* FILE-10: the paths, one a line. */
static char *files_describe(struct mr_source *source, const char *start, const char *end)
{
    struct mr_buf text = MR_BUF_INIT;
    struct mr__files files = {0};
    int64_t time_ms;
    enum mr_status status = end != NULL ? mr__files_parse(end, &files, &time_ms, NULL) : MR_OK;

    MR_UNUSED(source);
    MR_UNUSED(start);
    mr_buf_add_str(&text, "");
    for (size_t i = 0; i < files.count && status == MR_OK; i++)
        mr_buf_printf(&text, "%s%s", i > 0 ? "\n" : "", files.items[i].path);
    mr__files_release(&files);
    return mr_buf_take(&text);
}

/* Paths of the store that are too old to come again. */
struct old_paths {
    int64_t before_ms;
    struct mr_buf paths; /* blocks */
};

static bool collect_old(struct mr_slice key, struct mr_slice value, void *arg)
{
    struct old_paths *old = arg;
    struct mr_bytes bytes = mr_bytes_of(value.data, value.size_bytes);

    if ((int64_t)mr_bytes_u64(&bytes) < old->before_ms)
        mr_buf_add_block(&old->paths, key.data, key.size_bytes);
    return true;
}

static enum mr_status forget_old(struct mr_source *source, struct mr_kv *kv, int64_t time_ms,
                                 struct mr_error *err)
{
    struct old_paths old = {time_ms - source->remember_ms, MR_BUF_INIT};
    struct mr_bytes bytes;
    enum mr_status status = MR_OK;

    mr_kv_scan(kv, collect_old, &old);
    if (old.paths.failed)
        status = no_memory(err);
    bytes = mr_bytes_of(old.paths.data, old.paths.size);
    while (status == MR_OK && mr_bytes_left(&bytes) > 0) {
        size_t size;
        const char *path = mr_bytes_block(&bytes, &size);
        status = mr_kv_delete(kv, (struct mr_slice){path, size}, err);
    }
    mr_buf_release(&old.paths);
    return status;
}

static enum mr_status files_remember(struct mr_source *source, const char *start, const char *end,
                                     struct mr_kv *kv, struct mr_error *err)
{
    struct mr_buf value = MR_BUF_INIT;
    struct mr__files files;
    int64_t time_ms = 0;
    enum mr_status status = mr__files_parse(end, &files, &time_ms, err);

    MR_UNUSED(start);
    mr_buf_add_u64(&value, (uint64_t)time_ms);
    if (status == MR_OK && value.failed)
        status = no_memory(err);
    for (size_t i = 0; i < files.count && status == MR_OK; i++) {
        struct mr_slice key = {files.items[i].path, strlen(files.items[i].path)};
        status = mr_kv_put(kv, key, (struct mr_slice){value.data, value.size}, err);
    }
    if (status == MR_OK)
        status = forget_old(source, kv, time_ms, err);
    mr_buf_release(&value);
    mr__files_release(&files);
    return status;
}

/* ---- the connectors ---- */

static enum mr_status files_read(struct mr_source *source, const char *start, const char *end,
                                 uint32_t partition, struct mr_reader **ret_reader,
                                 struct mr_error *err)
{
    MR_UNUSED(start);
    return mr__file_reader_new(source, end, partition, ret_reader, err);
}

static void files_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_free(source->name);
    mr_free(source);
}

static enum mr_status files_open(const struct mr_source_args *args, struct mr_source **ret_source,
                                 struct mr_error *err)
{
    const struct mr_dstream *stream = args->user;
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));

    if (source == NULL)
        return no_memory(err);
    source->env = args->env;
    source->kv = args->kv;
    source->spec = stream->own;
    source->interval_ms = stream->ctx->interval_ms;
    source->remember_ms =
        mr__file_batches(stream->ctx->remember_files_us / 1000, source->interval_ms) *
        source->interval_ms;
    source->format = args->format;
    source->options = args->options;
    source->on_error = args->on_error;
    source->schema = mr_schema_ref(args->schema);
    source->name = mr_strdup(args->name);
    if (source->name == NULL) {
        files_stop(source);
        return no_memory(err);
    }
    *ret_source = source;
    return MR_OK;
}

static const struct mr_source_ops files_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = files_plan,
    .split = files_split,
    .read = files_read,
    .next = mr__file_reader_next,
    .take_bad = mr__file_reader_take_bad,
    .close = mr__file_reader_close,
    .remember = files_remember,
    .stop = files_stop,
    .describe = files_describe,
};

static const struct mr_source_connector files_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "file_stream",
    .summary = "Rows of new files in directories, by modification time.",
    .guarantee = "replayable while the files are there",
    .takes_format = true,
    .default_format = "text",
    .open = files_open,
    .ops = &files_ops,
};

static const struct mr_source_connector records_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "binary_records_stream",
    .summary = "Records of a fixed length of new files in directories, by modification time.",
    .guarantee = "replayable while the files are there",
    .open = files_open,
    .ops = &files_ops,
};

/* ---- building ---- */

static void spec_free(void *own)
{
    struct mr__file_spec *spec = own;

    if (spec != NULL)
        mr_free(spec->dir);
    mr_free(spec);
}

/* Gives the stream what it reads; record_bytes 0: a format decodes. */
static enum mr_status give_spec(struct mr_dstream *stream, const struct mr_file_stream *files,
                                int64_t record_bytes, struct mr_error *err)
{
    struct mr__file_spec *spec;

    if (files == NULL || files->dir == NULL || files->dir[0] == '\0')
        return MR_FAIL(err, MR_CONFIG, "there is no directory to read");
    spec = mr_alloc_zero(NULL, sizeof(*spec));
    if (spec == NULL)
        return no_memory(err);
    stream->own = spec;
    stream->own_free = spec_free;
    spec->filter = files->filter;
    spec->filter_arg = files->filter_arg;
    spec->built_ms = files->all_files ? 0 : mr_env_wall_us(stream->ctx->env) / 1000;
    spec->record_bytes = record_bytes;
    spec->dir = mr_strdup(files->dir);
    return spec->dir != NULL ? MR_OK : no_memory(err);
}

static struct mr_dstream *build(struct mr_context *ctx, const char *operation,
                                const struct mr_source_connector *connector,
                                const struct mr_file_stream *files, int64_t record_bytes)
{
    const char *options[] = {"format", files != NULL ? files->format : NULL, NULL};
    const char *columns = record_bytes > 0 ? "value BLOB" : files != NULL ? files->columns : NULL;
    struct mr_dstream *stream =
        mr__connect_as(ctx, operation, connector, columns, options[1] != NULL ? options : NULL);
    struct mr_error err;

    if (stream == NULL)
        return NULL;
    stream->source.is_own = true;
    if (give_spec(stream, files, record_bytes, &err) == MR_OK)
        return stream;
    mr__context_blame(ctx, operation, &err);
    return NULL;
}

struct mr_dstream *mr_file_stream(struct mr_context *ctx, const struct mr_file_stream *files)
{
    return build(ctx, "file_stream", &files_connector, files, 0);
}

struct mr_dstream *mr_text_file_stream(struct mr_context *ctx, const char *dir)
{
    return build(ctx, "text_file_stream", &files_connector, &(struct mr_file_stream){.dir = dir},
                 0);
}

struct mr_dstream *mr_binary_records_stream(struct mr_context *ctx, const char *dir,
                                            int64_t record_bytes)
{
    struct mr_error err;

    if (record_bytes >= 1 && record_bytes <= MR__FILE_RECORD_BYTES_MAX)
        return build(ctx, "binary_records_stream", &records_connector,
                     &(struct mr_file_stream){.dir = dir}, record_bytes);
    if (!mr__context_is_open(ctx, "binary_records_stream"))
        return NULL;
    MR_FAIL(&err, MR_CONFIG, "records cannot have %" PRId64 " bytes; use a length of 1 to %d bytes",
            record_bytes, MR__FILE_RECORD_BYTES_MAX);
    mr__context_blame(ctx, "binary_records_stream", &err);
    return NULL;
}
