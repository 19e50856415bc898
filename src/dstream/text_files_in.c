/*
 * Text file streams: the lines of new files in directories, chosen by modification time (FILE-1 ..
 * FILE-9).
 *
 *     a file is read by batch t when   max(start, t - remember) < mtime <= t,   and it was not read
 *                                      within `remember`
 *
 * start is the moment the stream was built; it travels in the offset, so a recovered program has
 * the first one's. The offset of a batch lists its files, so the batch can run again without
 * looking at the directory:
 *
 *     {"start":1767225600000,"time":1767225602000,"files":[{"p":"in/a.txt","s":120}]}
 *
 * What was read is kept in the source's store (path -> batch time) and forgotten after `remember`:
 * a file whose mtime is older than that is never read, so it need not be known.
 *
 * The path is a glob of directories; only their direct, plain files count, and not those whose
 * names begin with '.' or '_'. A file must be complete when it appears: write it elsewhere and
 * rename it in. Of one that grows, the bytes that were there at planning are read.
 *
 * Thread: planning on the driver, reading on any worker; a reader has everything it needs of its
 * own.
 */
#include "dstream/streams.h"

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"

#include <millrace/ext/bad_records.h>

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH_FILES_MAX =
        10000, /* their names travel in the PLAN record; the rest waits for the next batch */
    PARTITIONS_MAX = 1024,
    BLOCK_BYTES = 1 << 20,
    LINE_BYTES_MAX = 16 << 20,
};

struct file {
    const char *path; /* in the listing's arena */
    uint64_t size_bytes;
};

/* The files of one batch, in the order of their paths. */
struct files {
    struct mr_arena arena;
    struct file *items;
    size_t count;
    size_t capacity;
    int64_t start_ms;
};

struct mr_source {
    struct mr_env *env;
    struct mr_kv *kv;
    char *name;
    char *path;
    int64_t start_ms;
    int64_t remember_ms;
    const struct mr_format *format;
    struct mr_options *options; /* borrowed from the graph */
    struct mr_schema *schema;
    enum mr_on_error on_error;
};

struct mr_reader {
    struct mr_source *source;
    struct files files;
    size_t next;
    size_t end;
    struct mr_file *file; /* at hand, files.items[next] */
    uint64_t offset;
    uint64_t line;
    struct mr_buf rest; /* the beginning of a line whose end was not read yet */
    struct mr_decoder *decoder;
    struct mr_batch_builder *builder;
    struct mr_bad_records *bad;
};

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read text files: out of memory");
}

/* ---- lists and offsets ---- */

static void files_release(struct files *files)
{
    mr_free(files->items);
    mr_arena_release(&files->arena);
    *files = (struct files){0};
}

static bool files_add(struct files *files, const char *path, uint64_t size_bytes)
{
    char *copy;

    if (files->count == files->capacity) {
        size_t capacity = files->capacity * 2 + 16;
        struct file *grown = mr_realloc(NULL, files->items, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        files->items = grown;
        files->capacity = capacity;
    }
    copy = mr_arena_copy(&files->arena, path, strlen(path));
    if (copy == NULL)
        return false;
    files->items[files->count++] = (struct file){copy, size_bytes};
    return true;
}

static char *print_offset(const struct files *files, int64_t time_ms)
{
    struct mr_buf text = MR_BUF_INIT;
    struct mr_json_out out = {&text, false};

    mr_json_begin_object(&out, NULL);
    mr_json_add_int(&out, "start", files->start_ms);
    mr_json_add_int(&out, "time", time_ms);
    mr_json_begin_array(&out, "files");
    for (size_t i = 0; i < files->count; i++) {
        mr_json_begin_object(&out, NULL);
        mr_json_add_string(&out, "p", files->items[i].path);
        mr_json_add_int(&out, "s", (int64_t)files->items[i].size_bytes);
        mr_json_end_object(&out);
    }
    mr_json_end_array(&out);
    mr_json_end_object(&out);
    return mr_buf_take(&text);
}

/* *ret_files is released by the caller, also on failure. */
static enum mr_status parse_offset(const char *text, struct files *ret_files, int64_t *ret_time_ms,
                                   struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    const struct mr_json *list;
    enum mr_status status = mr_json_parse(text, strlen(text), &arena, &json, err);

    *ret_files = (struct files){0};
    if (status != MR_OK)
        goto done;
    list = mr_json_get(json, "files");
    if (list == NULL || !mr_json_int(mr_json_get(json, "start"), &ret_files->start_ms) ||
        !mr_json_int(mr_json_get(json, "time"), ret_time_ms)) {
        status = MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a text file stream");
        goto done;
    }
    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const char *path = mr_json_text(item, "p");
        int64_t size = -1;

        if (path == NULL || !mr_json_int(mr_json_get(item, "s"), &size) || size < 0)
            status = MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a text file stream");
        else if (!files_add(ret_files, path, (uint64_t)size))
            status = no_memory(err);
        if (status != MR_OK)
            break;
    }
done:
    mr_arena_release(&arena);
    return status;
}

/* ---- listing ---- */

/* Names of one directory. */
struct names {
    struct mr_buf text; /* each with its NUL */
    enum mr_file_kind kind;
    const char *pattern; /* NULL = plain files that are not hidden */
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct names *names = arg;

    if (kind != names->kind)
        return true;
    if (names->pattern != NULL ? fnmatch(names->pattern, name, FNM_PERIOD) != 0
                               : name[0] == '.' || name[0] == '_')
        return true;
    mr_buf_add(&names->text, name, strlen(name) + 1);
    return true;
}

/* One search: what batch t may read. */
struct search {
    struct mr_source *source;
    int64_t threshold_ms;
    int64_t time_ms;
    struct files *files;
    bool was_cut;
};

static enum mr_status consider_file(struct search *search, const char *path, struct mr_error *err)
{
    struct mr_slice key = {path, strlen(path)}, seen;
    struct mr_file_info info;
    int64_t mtime_ms;

    if (!mr_utf8_valid(path,
                       strlen(path))) { /* the offset is text: it could not name the file again */
        mr_log(MR_LOG_WARNING, "dstream", search->source->name, -1,
               "a file is left out: its name is not UTF-8");
        return MR_OK;
    }
    if (mr_env_path_info(search->source->env, path, true, &info, NULL) != MR_OK ||
        info.kind != MR_KIND_FILE)
        return MR_OK; /* gone again, or not a file: as if it had not been listed */
    mtime_ms = info.mtime_ns / 1000000;
    if (mtime_ms <= search->threshold_ms || mtime_ms > search->time_ms)
        return MR_OK;
    if (search->source->kv != NULL && mr_kv_get(search->source->kv, key, &seen))
        return MR_OK;
    if (search->files->count == BATCH_FILES_MAX) {
        search->was_cut = true;
        return MR_OK;
    }
    return files_add(search->files, path, info.size_bytes) ? MR_OK : no_memory(err);
}

static enum mr_status list_into(struct search *search, const char *dir, struct names *names,
                                struct mr_error *err)
{
    struct mr_error local;
    enum mr_status status;

    mr_error_clear(&local);
    status = mr_env_list(search->source->env, dir[0] != '\0' ? dir : ".", add_name, names, &local);
    /* FILE-9: a directory that cannot be listed gives an empty batch. */
    if (status != MR_OK && status != MR_NOMEM)
        mr_log(MR_LOG_WARNING, "dstream", search->source->name, -1, "%s", local.text);
    return names->text.failed ? no_memory(err) : MR_OK;
}

static enum mr_status search_directory(struct search *search, const char *dir, struct mr_error *err)
{
    struct names names = {.kind = MR_KIND_FILE};
    enum mr_status status = list_into(search, dir, &names, err);

    for (size_t at = 0; at < names.text.size && status == MR_OK;
         at += strlen(names.text.data + at) + 1) {
        char *path = mr_asprintf("%s/%s", dir, names.text.data + at);

        status = path != NULL ? consider_file(search, path, err) : no_memory(err);
        mr_free(path);
    }
    mr_buf_release(&names.text);
    return status;
}

/* Walks the glob component by component; what is left of it is in `rest`. */
static enum mr_status search_glob(struct search *search, const char *dir, const char *path,
                                  struct mr_error *err)
{
    const char *rest = path + strspn(path, "/");
    size_t size = strcspn(rest, "/");
    const char *after = rest[size] == '/' ? rest + size + 1 : rest + size;
    char *component = mr_strndup(rest, size);
    struct names names = {.kind = MR_KIND_DIRECTORY, .pattern = component};
    enum mr_status status = component != NULL ? MR_OK : no_memory(err);
    bool is_plain = component != NULL && strpbrk(component, "*?[") == NULL;

    if (status == MR_OK && rest[0] == '\0') {
        status = search_directory(search, dir, err);
    } else if (status == MR_OK && is_plain) {
        char *next = mr_asprintf("%s%s%s", dir, dir[0] != '\0' && strcmp(dir, "/") != 0 ? "/" : "",
                                 component);
        status = next != NULL ? search_glob(search, next, after, err) : no_memory(err);
        mr_free(next);
    } else if (status == MR_OK) {
        status = list_into(search, dir, &names, err);
        for (size_t at = 0; at < names.text.size && status == MR_OK;
             at += strlen(names.text.data + at) + 1) {
            char *next =
                mr_asprintf("%s%s%s", dir, dir[0] != '\0' && strcmp(dir, "/") != 0 ? "/" : "",
                            names.text.data + at);
            status = next != NULL ? search_glob(search, next, after, err) : no_memory(err);
            mr_free(next);
        }
    }
    mr_buf_release(&names.text);
    mr_free(component);
    return status;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

/* ---- planning ---- */

static enum mr_status files_plan(struct mr_source *source, const char *start,
                                 const struct mr_plan_limits *limits, char **ret_end,
                                 struct mr_error *err)
{
    struct files files = {.start_ms = source->start_ms};
    struct search search = {
        .source = source, .files = &files, .time_ms = limits->batch_time_us / 1000};
    enum mr_status status = MR_OK;

    *ret_end = NULL;
    if (start != NULL) {
        struct files before;
        int64_t time_ms = 0;

        status = parse_offset(start, &before, &time_ms, err);
        files.start_ms = before.start_ms;
        files_release(&before);
        MR_TRY(status);
    }
    search.threshold_ms = MR_MAX(files.start_ms, search.time_ms - source->remember_ms);
    MR_TRY_GOTO(search_glob(&search, source->path[0] == '/' ? "/" : "", source->path, err));
    if (search.was_cut)
        mr_log(MR_LOG_WARNING, "dstream", source->name, -1,
               "more than %d new files: the others wait for the next batch, and are read only "
               "within file_remember",
               BATCH_FILES_MAX);
    if (files.count > 0)
        qsort(files.items, files.count, sizeof(*files.items), compare_files);
    if (files.count > 0 || start == NULL) {
        *ret_end = print_offset(&files, search.time_ms);
        if (*ret_end == NULL)
            status = no_memory(err);
    }
done:
    files_release(&files);
    return status;
}

static uint32_t partitions_of(const struct files *files)
{
    return (uint32_t)MR_MIN(files->count, (size_t)PARTITIONS_MAX);
}

static enum mr_status files_split(struct mr_source *source, const char *start, const char *end,
                                  uint32_t *ret_partitions, uint64_t *ret_bytes,
                                  struct mr_error *err)
{
    struct files files;
    int64_t time_ms;
    enum mr_status status = parse_offset(end, &files, &time_ms, err);

    MR_UNUSED(source);
    MR_UNUSED(start);
    *ret_partitions = partitions_of(&files);
    *ret_bytes = 1;
    for (size_t i = 0; i < files.count; i++)
        *ret_bytes += files.items[i].size_bytes;
    files_release(&files);
    return status;
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
    struct files files;
    int64_t time_ms = 0;
    enum mr_status status = parse_offset(end, &files, &time_ms, err);

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
    files_release(&files);
    return status;
}

/* ---- reading ---- */

static void files_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_env_close(reader->source->env, reader->file);
    if (reader->decoder != NULL)
        reader->source->format->decoder_free(reader->decoder);
    mr_batch_builder_free(reader->builder);
    mr_bad_records_free(reader->bad);
    mr_buf_release(&reader->rest);
    files_release(&reader->files);
    mr_free(reader);
}

static enum mr_status files_read(struct mr_source *source, const char *start, const char *end,
                                 uint32_t partition, struct mr_reader **ret_reader,
                                 struct mr_error *err)
{
    struct mr_decoder_args args = {source->schema, source->schema, source->options,
                                   source->on_error};
    struct mr_reader *reader = mr_alloc_zero(NULL, sizeof(*reader));
    int64_t time_ms;
    size_t count;
    enum mr_status status;

    MR_UNUSED(start);
    if (reader == NULL)
        return no_memory(err);
    reader->source = source;
    MR_TRY_GOTO(parse_offset(end, &reader->files, &time_ms, err));
    count = partitions_of(&reader->files);
    MR_ASSERT(partition < count);
    reader->next = reader->files.count * partition / count;
    reader->end = reader->files.count * (partition + 1) / count;
    MR_TRY_GOTO(mr_bad_records_new(source->name, source->on_error, &reader->bad, err));
    MR_TRY_GOTO(mr_batch_builder_new(source->schema, &reader->builder, err));
    MR_TRY_GOTO(source->format->decoder_new(&args, &reader->decoder, err));
    *ret_reader = reader;
    return MR_OK;
done:
    files_close(reader);
    return status;
}

static enum mr_status open_next(struct mr_reader *reader, struct mr_error *err)
{
    const struct file *file = &reader->files.items[reader->next];
    struct mr_env *env = reader->source->env;
    struct mr_file_info info;
    enum mr_status status = mr_env_open(env, file->path, MR_FILE_READ, &reader->file, err);

    if (status == MR_NOT_FOUND)
        return MR_FAIL(
            err, MR_DATA_LOSS,
            "cannot read '%s': it was removed after its batch was planned; leave files in "
            "place until they are %lld s old",
            file->path, (long long)(reader->source->remember_ms / 1000));
    MR_TRY(status);
    MR_TRY(env->ops->file_info(env, reader->file, &info, err));
    if (info.size_bytes < file->size_bytes)
        return MR_FAIL(err, MR_DATA_LOSS,
                       "cannot read '%s': it has %" PRIu64 " bytes, and had %" PRIu64
                       " when its batch was planned; rename complete files in",
                       file->path, info.size_bytes, file->size_bytes);
    reader->offset = 0;
    reader->line = 1;
    mr_buf_clear(&reader->rest);
    return MR_OK;
}

/* Decodes the whole lines of what was read; at the end of the file also the last one. */
static enum mr_status decode_lines(struct mr_reader *reader, bool at_end, struct mr_error *err)
{
    const struct file *file = &reader->files.items[reader->next];
    const char *last =
        reader->rest.size > 0 ? memrchr(reader->rest.data, '\n', reader->rest.size) : NULL;
    size_t whole = at_end         ? reader->rest.size
                   : last != NULL ? (size_t)(last - reader->rest.data) + 1
                                  : 0;
    struct mr_position position = {file->path, reader->line, reader->offset - reader->rest.size};

    if (whole == 0 && reader->rest.size > LINE_BYTES_MAX)
        return MR_FAIL(err, MR_LIMIT, "cannot read '%s': line %" PRIu64 " is longer than %d MiB",
                       file->path, reader->line, LINE_BYTES_MAX >> 20);
    if (whole == 0)
        return MR_OK;
    MR_TRY(reader->source->format->decode(reader->decoder,
                                          (struct mr_slice){reader->rest.data, whole}, &position,
                                          reader->builder, mr_bad_records_add, reader->bad, err));
    for (const char *at = reader->rest.data;
         (at = memchr(at, '\n', whole - (size_t)(at - reader->rest.data))) != NULL; at++)
        reader->line++;
    memmove(reader->rest.data, reader->rest.data + whole, reader->rest.size - whole);
    reader->rest.size -= whole;
    return MR_OK;
}

/* Reads and decodes a block of the file at hand; goes on to the next file at its end. */
static enum mr_status read_block(struct mr_reader *reader, struct mr_error *err)
{
    const struct file *file = &reader->files.items[reader->next];
    size_t want, got;

    if (reader->file == NULL)
        MR_TRY(open_next(reader, err));
    want = (size_t)MR_MIN(file->size_bytes - reader->offset, (uint64_t)BLOCK_BYTES);
    if (!mr_buf_reserve(&reader->rest, want + 1))
        return no_memory(err);
    MR_TRY(mr_env_pread(reader->source->env, reader->file, reader->rest.data + reader->rest.size,
                        want, reader->offset, &got, err));
    if (got < want)
        return MR_FAIL(err, MR_DATA_LOSS, "cannot read '%s': it became shorter while it was read",
                       file->path);
    reader->rest.size += got;
    reader->offset += got;
    MR_TRY(decode_lines(reader, reader->offset == file->size_bytes, err));
    if (reader->offset == file->size_bytes) {
        mr_env_close(reader->source->env, reader->file);
        reader->file = NULL;
        reader->next++;
    }
    return MR_OK;
}

static enum mr_status files_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    *ret_batch = NULL;
    while (reader->next < reader->end && mr_batch_builder_bytes(reader->builder) < BLOCK_BYTES)
        MR_TRY(read_block(reader, err));
    if (mr_batch_builder_row_count(reader->builder) == 0)
        return MR_OK;
    return mr_batch_builder_finish(reader->builder, ret_batch, err);
}

static enum mr_status files_take_bad(struct mr_reader *reader, struct mr_batch **ret_bad,
                                     uint64_t *ret_count, struct mr_error *err)
{
    return mr_bad_records_take(reader->bad, ret_bad, ret_count, err);
}

/* ---- the connector ---- */

static void files_stop(struct mr_source *source)
{
    if (source == NULL)
        return;
    mr_schema_unref(source->schema);
    mr_free(source->name);
    mr_free(source->path);
    mr_free(source);
}

/* FILE-3: a whole number of batches that is at least the setting. */
static int64_t whole_batches(int64_t remember_ms, int64_t interval_ms)
{
    return (remember_ms + interval_ms - 1) / interval_ms * interval_ms;
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
    source->start_ms = stream->source.built_ms;
    source->remember_ms =
        whole_batches(stream->ctx->remember_files_us / 1000, stream->ctx->interval_ms);
    source->format = args->format;
    source->options = (struct mr_options *)(uintptr_t)args->options;
    source->on_error = args->on_error;
    source->schema = mr_schema_ref(args->schema);
    source->name = mr_strdup(args->name);
    source->path = mr_strdup(stream->source.path);
    if (source->name == NULL || source->path == NULL) {
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
    .next = files_next,
    .take_bad = files_take_bad,
    .close = files_close,
    .remember = files_remember,
    .stop = files_stop,
};

static const struct mr_source_connector files_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "text_file_stream",
    .summary = "Lines of new files in directories, by modification time.",
    .guarantee = "replayable while the files are there",
    .takes_format = true,
    .default_format = "text",
    .open = files_open,
    .ops = &files_ops,
};

struct mr_dstream *mr_text_file_stream(struct mr_context *ctx, const char *dir)
{
    struct mr_dstream *stream = mr__connect(ctx, "text_file_stream", &files_connector);
    struct mr_error err;

    if (stream == NULL)
        return NULL;
    stream->source.is_own = true;
    stream->source.built_ms = mr_env_wall_us(ctx->env) / 1000;
    stream->source.path = dir != NULL ? mr_strdup(dir) : NULL;
    if (stream->source.path != NULL && dir[0] != '\0')
        return stream;
    MR_FAIL(&err, MR_CONFIG, "there is no directory to read");
    mr__context_blame(ctx, "text_file_stream", &err);
    return NULL;
}
