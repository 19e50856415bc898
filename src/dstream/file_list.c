/*
 * The files of a batch of a file stream: the list, its offset text, and the search in directories.
 *
 *     a file is read by batch t when   max(start, t - remember) < mtime <= t, the filter takes it,
 *                                      and no batch that is still remembered has read it (FILE-5)
 *
 * The path is a glob of directories (FILE-1); only their direct, plain files count. Names that
 * begin with '_' never do; without a filter of the program neither do those that begin with '.'
 * (FILE-2).
 *
 * Thread: the driver; lists and offsets any.
 */
#include "dstream/file_stream.h"

#include "base/json.h"
#include "base/log.h"
#include "base/mutant.h"
#include "base/text.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static enum mr_status no_memory(struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot read files: out of memory");
}

/* ---- lists and offsets ---- */

void mr__files_release(struct mr__files *files)
{
    mr_free(files->items);
    mr_arena_release(&files->arena);
    *files = (struct mr__files){0};
}

static bool files_add(struct mr__files *files, const char *path, uint64_t size_bytes)
{
    char *copy;

    if (files->count == files->capacity) {
        size_t capacity = files->capacity * 2 + 16;
        struct mr__file *grown = mr_realloc(NULL, files->items, capacity * sizeof(*grown));

        if (grown == NULL)
            return false;
        files->items = grown;
        files->capacity = capacity;
    }
    copy = mr_arena_copy(&files->arena, path, strlen(path));
    if (copy == NULL)
        return false;
    files->items[files->count++] = (struct mr__file){copy, size_bytes};
    return true;
}

char *mr__files_print(const struct mr__files *files, int64_t time_ms)
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
enum mr_status mr__files_parse(const char *text, struct mr__files *ret_files, int64_t *ret_time_ms,
                               struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json = NULL;
    const struct mr_json *list;
    enum mr_status status = mr_json_parse(text, strlen(text), &arena, &json, err);

    *ret_files = (struct mr__files){0};
    if (status != MR_OK)
        goto done;
    list = mr_json_get(json, "files");
    if ((list == NULL || !mr_json_int(mr_json_get(json, "start"), &ret_files->start_ms) ||
         !mr_json_int(mr_json_get(json, "time"), ret_time_ms)) &&
        !MR_MUTANT("file-list.parse.fields")) {
        status = MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a file stream");
        goto done;
    }
    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const char *path = mr_json_text(item, "p");
        int64_t size = -1;

        if ((path == NULL || !mr_json_int(mr_json_get(item, "s"), &size) || size < 0) &&
            !MR_MUTANT("file-list.files.fields"))
            status = MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a file stream");
        else if (!files_add(ret_files, path, (uint64_t)size))
            status = no_memory(err);
        if (status != MR_OK)
            break;
    }
done:
    mr_arena_release(&arena);
    return status;
}

/* ---- search ---- */

/* Names of one directory. */
struct names {
    struct mr_buf text; /* each with its NUL */
    enum mr_file_kind kind;
    const char *pattern; /* of directories; NULL = files */
    bool hidden;         /* also those that begin with '.' */
};

static bool add_name(const char *name, enum mr_file_kind kind, void *arg)
{
    struct names *names = arg;

    if (kind != names->kind)
        return true;
    if (names->pattern != NULL ? fnmatch(names->pattern, name, FNM_PERIOD) != 0
                               : name[0] == '_' || (name[0] == '.' && !names->hidden))
        return true;
    mr_buf_add(&names->text, name, strlen(name) + 1);
    return true;
}

/* One search: what batch t may read. */
struct search {
    struct mr_source *source;
    int64_t threshold_ms;
    int64_t time_ms;
    struct mr__files *files;
    bool was_cut;
    uint32_t unlisted; /* directories that could not be listed */
};

/* Was it read by a batch that is still remembered? What batch T read is forgotten when the first
 * batch is planned whose predecessor is more than `remember` behind T (FILE-6). */
static bool is_remembered(const struct search *search, const char *path)
{
    const struct mr_source *source = search->source;
    struct mr_slice value;
    struct mr_bytes bytes;

    if (source->kv == NULL || !mr_kv_get(source->kv, (struct mr_slice){path, strlen(path)}, &value))
        return false;
    bytes = mr_bytes_of(value.data, value.size_bytes);
    return (int64_t)mr_bytes_u64(&bytes) >=
           search->time_ms - source->interval_ms - source->remember_ms;
}

static enum mr_status consider_file(struct search *search, const char *path, struct mr_error *err)
{
    const struct mr__file_spec *spec = search->source->spec;
    struct mr_file_info info;
    int64_t mtime_ms;

    if (!mr_utf8_valid(path,
                       strlen(path))) { /* the offset is text: it could not name the file again */
        mr_log(MR_LOG_WARNING, "dstream", search->source->name, -1,
               "a file is left out: its name is not UTF-8");
        return MR_OK;
    }
    if (spec->filter != NULL && !spec->filter(path, spec->filter_arg))
        return MR_OK;
    if (mr_env_path_info(search->source->env, path, true, &info, NULL) != MR_OK ||
        info.kind != MR_KIND_FILE)
        return MR_OK; /* gone again, or not a file: as if it had not been listed */
    mtime_ms = info.mtime_ns / 1000000;
    if (mtime_ms <= search->threshold_ms || mtime_ms > search->time_ms ||
        is_remembered(search, path))
        return MR_OK;
    if (search->files->count == MR__BATCH_FILES_MAX) {
        search->was_cut = true;
        return MR_OK;
    }
    return files_add(search->files, path, info.size_bytes) ? MR_OK : no_memory(err);
}

/* FILE-9: a directory that cannot be listed gives an empty batch; said once until it can be. */
static enum mr_status list_into(struct search *search, const char *dir, struct names *names,
                                struct mr_error *err)
{
    struct mr_source *source = search->source;
    struct mr_error local;
    enum mr_status status;

    mr_error_clear(&local);
    status = mr_env_list(source->env, dir[0] != '\0' ? dir : ".", add_name, names, &local);
    if (status == MR_NOMEM || names->text.failed)
        return no_memory(err);
    if (status == MR_OK)
        return MR_OK;
    if (!source->warned)
        mr_log(MR_LOG_WARNING, "dstream", source->name, -1,
               "%s; batches are without its files until it can be listed", local.text);
    search->unlisted++;
    mr_buf_clear(&names->text); /* half a listing is none */
    return MR_OK;
}

static enum mr_status search_directory(struct search *search, const char *dir, struct mr_error *err)
{
    struct names names = {.kind = MR_KIND_FILE, .hidden = search->source->spec->filter != NULL};
    enum mr_status status = list_into(search, dir, &names, err);

    for (size_t at = 0; at < names.text.size && status == MR_OK;
         at += strlen(names.text.data + at) + 1) {
        char *path = mr_asprintf("%s%s%s", dir, dir[0] == '\0' || strcmp(dir, "/") == 0 ? "" : "/",
                                 names.text.data + at);

        status = path != NULL ? consider_file(search, path, err) : no_memory(err);
        mr_free(path);
    }
    mr_buf_release(&names.text);
    return status;
}

static enum mr_status search_glob(struct search *search, const char *dir, const char *path,
                                  struct mr_error *err);

static enum mr_status search_below(struct search *search, const char *dir, const char *name,
                                   const char *after, struct mr_error *err)
{
    char *next =
        mr_asprintf("%s%s%s", dir, dir[0] != '\0' && strcmp(dir, "/") != 0 ? "/" : "", name);
    enum mr_status status = next != NULL ? search_glob(search, next, after, err) : no_memory(err);

    mr_free(next);
    return status;
}

/* Walks the glob component by component; what is left of it is in path. */
static enum mr_status search_glob(struct search *search, const char *dir, const char *path,
                                  struct mr_error *err)
{
    const char *rest = path + strspn(path, "/");
    size_t size = strcspn(rest, "/");
    const char *after = rest[size] == '/' ? rest + size + 1 : rest + size;
    char *component = mr_strndup(rest, size);
    struct names names = {.kind = MR_KIND_DIRECTORY, .pattern = component};
    enum mr_status status = component != NULL ? MR_OK : no_memory(err);

    if (status == MR_OK && rest[0] == '\0') {
        status = search_directory(search, dir, err);
    } else if (status == MR_OK && strpbrk(component, "*?[") == NULL) {
        status = search_below(search, dir, component, after, err);
    } else if (status == MR_OK) {
        status = list_into(search, dir, &names, err);
        for (size_t at = 0; at < names.text.size && status == MR_OK;
             at += strlen(names.text.data + at) + 1)
            status = search_below(search, dir, names.text.data + at, after, err);
    }
    mr_buf_release(&names.text);
    mr_free(component);
    return status;
}

static int compare_files(const void *a, const void *b)
{
    return strcmp(((const struct mr__file *)a)->path, ((const struct mr__file *)b)->path);
}

enum mr_status mr__files_search(struct mr_source *source, int64_t time_ms, struct mr__files *files,
                                struct mr_error *err)
{
    struct search search = {.source = source,
                            .files = files,
                            .time_ms = time_ms,
                            .threshold_ms = MR_MAX(files->start_ms, time_ms - source->remember_ms)};
    const char *dir = source->spec->dir;
    int64_t began_ns = mr_env_monotonic_ns(source->env);
    int64_t took_ms;

    MR_TRY(search_glob(&search, dir[0] == '/' ? "/" : "", dir, err));
    took_ms = (mr_env_monotonic_ns(source->env) - began_ns) / 1000000;
    source->warned = search.unlisted > 0;
    if (took_ms > source->interval_ms)
        mr_log(MR_LOG_WARNING, "dstream", source->name, -1,
               "listing '%s' took %" PRId64 " ms, longer than a batch of %" PRId64
               " ms: make batches longer, or move files away that were read",
               dir, took_ms, source->interval_ms);
    if (search.was_cut)
        mr_log(MR_LOG_WARNING, "dstream", source->name, -1,
               "more than %d new files: the others wait for the next batch, and are read only "
               "within file_remember",
               MR__BATCH_FILES_MAX);
    if (files->count > 0)
        qsort(files->items, files->count, sizeof(*files->items), compare_files);
    return MR_OK;
}

int64_t mr__file_batches(int64_t remember_ms, int64_t interval_ms)
{
    return (remember_ms + interval_ms - 1) / interval_ms;
}

uint64_t mr__file_pieces(const struct mr_source *source, const struct mr__file *file)
{
    const struct mr_format *format = source->format;

    if (format == NULL || format->whole_files || format->cut != NULL || file->size_bytes == 0 ||
        mr__is_compressed(file->path))
        return 1;
    return (file->size_bytes - 1) / MR__FILE_PIECE_BYTES + 1;
}

uint64_t mr__file_pieces_of(const struct mr_source *source, const struct mr__files *files)
{
    uint64_t count = 0;

    for (size_t i = 0; i < files->count; i++)
        count += mr__file_pieces(source, &files->items[i]);
    return count;
}

uint32_t mr__file_partitions(const struct mr_source *source, const struct mr__files *files)
{
    return (uint32_t)MR_MIN(mr__file_pieces_of(source, files), (uint64_t)MR__FILE_PARTITIONS_MAX);
}
