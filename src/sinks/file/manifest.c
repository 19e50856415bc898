/*
 * The manifest of an output directory: <dir>/.millrace/manifest.json, replaced whole.
 *
 *     {"version":2,"query":"<checkpoint's id>","sink":"per_city",
 *      "published":40,"publishing":41,"files":[{"n":"part-0000000041-00000.json","s":1204}],
 *      "stale":[],"sum":"<XXH3-64 of all bytes before ,"sum":>"}
 *
 * (one line; version 1 had no sum).
 *
 * It binds the directory to one sink of one query, and it is the note of intent that lets publish
 * be repeated:
 *
 *     begin(41) ---- renames, one directory sync ---- done(41) ---- begin(42) says "published":41
 *        |  killed here: files of 41 that are there are ours; some may be missing: the batch runs
 *           again
 *                                              |  killed here: all of them are there: 41 counts as
 *                                                 published
 *
 * So one small durable write a batch answers three questions: is a file of our name ours, is batch
 * N complete, what did a dead attempt of N leave behind that this one does not make.
 *
 * Thread: driver.
 */
#include "base/limits.h"
#include "sinks/file/file_sink.h"

#include "base/hash.h"
#include "base/json.h"
#include "base/mutant.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MANIFEST_NAME "manifest.json"
#define PART_PREFIX "part-" /* of every file that the sink makes */

enum { MANIFEST_VERSION = 2, VERSION_WITHOUT_SUM = 1 };
enum { MANIFEST_BYTES_MAX = MR_LIMIT_FILE_SINK_MANIFEST };
enum { SUM_BYTES = 27 }; /* ,"sum":"0123456789abcdef"} and the line's end */

enum mr_status mr_fsink_names_add(struct mr_fsink_names *names, const char *name,
                                  uint64_t size_bytes, struct mr_error *err)
{
    char *copy;

    if (names->count == names->capacity) {
        size_t capacity = names->capacity * 2 + 8;
        struct mr_fsink_name *items = mr_realloc(NULL, names->items, capacity * sizeof(*items));

        if (items == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot note output file '%s': out of memory", name);
        names->items = items;
        names->capacity = capacity;
    }
    copy = mr_strdup(name);
    if (copy == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot note output file '%s': out of memory", name);
    names->items[names->count++] = (struct mr_fsink_name){copy, size_bytes};
    return MR_OK;
}

bool mr_fsink_names_have(const struct mr_fsink_names *names, const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->items[i].name, name) == 0)
            return true;
    return false;
}

void mr_fsink_names_release(struct mr_fsink_names *names)
{
    for (size_t i = 0; i < names->count; i++)
        mr_free(names->items[i].name);
    mr_free(names->items);
    memset(names, 0, sizeof(*names));
}

/* ---- writing ---- */

static void write_names(struct mr_json_out *out, const char *key,
                        const struct mr_fsink_names *names)
{
    mr_json_begin_array(out, key);
    for (size_t i = 0; i < names->count; i++) {
        mr_json_begin_object(out, NULL);
        mr_json_add_string(out, "n", names->items[i].name);
        mr_json_add_int(out, "s", (int64_t)names->items[i].size_bytes);
        mr_json_end_object(out);
    }
    mr_json_end_array(out);
}

static enum mr_status write_manifest(const struct mr_fsink_manifest *manifest, struct mr_error *err)
{
    struct mr_buf buf = MR_BUF_INIT;
    struct mr_json_out out = {&buf, false};
    char sum[17] = "";
    enum mr_status status;

    mr_json_begin_object(&out, NULL);
    mr_json_add_int(&out, "version", MANIFEST_VERSION);
    mr_json_add_string(&out, "query", manifest->query_id);
    mr_json_add_string(&out, "sink", manifest->sink_name);
    mr_json_add_int(&out, "published", manifest->published);
    mr_json_add_int(&out, "publishing", manifest->publishing);
    write_names(&out, "files", &manifest->files);
    write_names(&out, "stale", &manifest->stale);
    if (!buf.failed)
        snprintf(sum, sizeof(sum), "%016" PRIx64, mr_checksum(buf.data, buf.size));
    mr_json_add_string(&out, "sum", sum);
    mr_json_end_object(&out);
    mr_buf_add_char(&buf, '\n');
    if (buf.failed)
        status = MR_FAIL(err, MR_NOMEM, "cannot write the manifest of '%s': out of memory",
                         manifest->dir);
    else
        status = mr_durable_put(manifest->env, manifest->meta_dir, MANIFEST_NAME, buf.data,
                                buf.size, false, err);
    mr_buf_release(&buf);
    return status;
}

/* ---- reading ---- */

static enum mr_status damaged(const struct mr_fsink_manifest *manifest, const char *what,
                              struct mr_error *err)
{
    return MR_FAIL(err, MR_CORRUPT,
                   "cannot read '%s/" MANIFEST_NAME
                   "': %s; restore it from a backup, or use a new output directory",
                   manifest->meta_dir, what);
}

/* It is joined to the directory, and what is stale is removed: nothing but files of ours. */
static bool is_part_name(const char *name)
{
    return strncmp(name, PART_PREFIX, strlen(PART_PREFIX)) == 0 && strchr(name, '/') == NULL &&
           strlen(name) <= NAME_MAX;
}

static enum mr_status read_names(const struct mr_fsink_manifest *manifest,
                                 const struct mr_json *list, struct mr_fsink_names *names,
                                 struct mr_error *err)
{
    if ((list == NULL || list->kind != MR_JSON_ARRAY) && !MR_MUTANT("file-manifest.names.list"))
        return damaged(manifest, "a list of files is missing", err);
    for (const struct mr_json *item = list->first; item != NULL; item = item->next) {
        const char *name = mr_json_text(item, "n");
        const struct mr_json *size = mr_json_get(item, "s");
        int64_t size_bytes;

        if (name == NULL || (!is_part_name(name) && !MR_MUTANT("file-manifest.names.path")) ||
            size == NULL || !mr_json_int(size, &size_bytes) || size_bytes < 0)
            return damaged(manifest, "an entry is not a file", err);
        MR_TRY(mr_fsink_names_add(names, name, (uint64_t)size_bytes, err));
    }
    return MR_OK;
}

static enum mr_status check_owner(const struct mr_fsink_manifest *manifest,
                                  const struct mr_json *json, bool *ret_ours, struct mr_error *err)
{
    const char *query = mr_json_text(json, "query");
    const char *sink = mr_json_text(json, "sink");

    if (query == NULL || sink == NULL)
        return damaged(manifest, "it does not say whose directory this is", err);
    *ret_ours = strcmp(query, manifest->query_id) == 0 || MR_MUTANT("file-manifest.owner.query");
    if (*ret_ours && strcmp(sink, manifest->sink_name) != 0 &&
        !MR_MUTANT("file-manifest.owner.sink"))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot write to '%s': it is the output of '%s' of this query; give '%s' a "
                       "directory of its own",
                       manifest->dir, sink, manifest->sink_name);
    return MR_OK;
}

/* Any damage to the file shows: its last bytes are the sum of all before them. */
static bool sum_fits(const char *text, size_t size_bytes)
{
    char tail[SUM_BYTES + 1];

    if (size_bytes < SUM_BYTES)
        return false;
    snprintf(tail, sizeof(tail), ",\"sum\":\"%016" PRIx64 "\"}\n",
             mr_checksum(text, size_bytes - SUM_BYTES));
    return memcmp(text + size_bytes - SUM_BYTES, tail, SUM_BYTES) == 0;
}

static enum mr_status parse_manifest(struct mr_fsink_manifest *manifest, const char *text,
                                     size_t size_bytes, bool *ret_ours, struct mr_error *err)
{
    struct mr_arena arena = MR_ARENA_INIT;
    struct mr_json *json;
    int64_t version = 0;
    enum mr_status status;

    status = mr_json_parse(text, size_bytes, &arena, &json, err);
    if (status == MR_NOMEM)
        goto done;
    if (status != MR_OK || json->kind != MR_JSON_OBJECT) {
        status = damaged(manifest, "it is not a JSON object", err);
        goto done;
    }
    if (mr_json_get(json, "version") == NULL ||
        !mr_json_int(mr_json_get(json, "version"), &version)) {
        status = damaged(manifest, "it has no version", err);
        goto done;
    }
    if (version == MANIFEST_VERSION && !sum_fits(text, size_bytes) &&
        !MR_MUTANT("file-manifest.parse.sum")) {
        status = damaged(manifest, "its checksum does not match", err);
        goto done;
    }
    if (version != MANIFEST_VERSION && version != VERSION_WITHOUT_SUM &&
        !MR_MUTANT("file-manifest.parse.version")) {
        status = MR_FAIL(err, MR_VERSION,
                         "cannot write to '%s': its manifest has version %" PRId64
                         "; run the millrace that made it, or use a new output directory",
                         manifest->dir, version);
        goto done;
    }
    MR_TRY_GOTO(check_owner(manifest, json, ret_ours, err));
    if (mr_json_get(json, "published") == NULL ||
        !mr_json_int(mr_json_get(json, "published"), &manifest->published) ||
        mr_json_get(json, "publishing") == NULL ||
        !mr_json_int(mr_json_get(json, "publishing"), &manifest->publishing) ||
        ((manifest->published < -1 || manifest->publishing < -1) &&
         !MR_MUTANT("file-manifest.parse.published"))) {
        status = damaged(manifest, "it does not say what is published", err);
        goto done;
    }
    MR_TRY_GOTO(read_names(manifest, mr_json_get(json, "files"), &manifest->files, err));
    MR_TRY_GOTO(read_names(manifest, mr_json_get(json, "stale"), &manifest->stale, err));
done:
    mr_arena_release(&arena);
    return status;
}

/* ---- opening ---- */

struct entries {
    bool any;   /* a name that `ls` shows */
    bool parts; /* a name like ours */
};

static bool visit_entry(const char *name, enum mr_file_kind kind, void *arg)
{
    struct entries *entries = arg;

    MR_UNUSED(kind);
    if (name[0] != '.')
        entries->any = true;
    if (strncmp(name, PART_PREFIX, strlen(PART_PREFIX)) == 0)
        entries->parts = true;
    return true;
}

static enum mr_status refuse_foreign(const struct mr_fsink_manifest *manifest, struct mr_error *err)
{
    return MR_FAIL(err, MR_CONFIG,
                   "cannot write to '%s': output directory belongs to another query; use a new "
                   "directory, or that "
                   "query's checkpoint",
                   manifest->dir);
}

/* May a query that did not make the directory use it? */
static enum mr_status check_contents(const struct mr_fsink_manifest *manifest, bool ephemeral,
                                     bool has_manifest, struct mr_error *err)
{
    struct entries entries = {false, false};

    MR_TRY(mr_env_list(manifest->env, manifest->dir, visit_entry, &entries, err));
    if (ephemeral && entries.any && !MR_MUTANT("file-manifest.contents.ephemeral"))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot write to '%s': it is not empty, and without a checkpoint nothing "
                       "tells which of its "
                       "files are this query's; SET checkpoint, or empty it",
                       manifest->dir);
    if (!entries.parts || MR_MUTANT("file-manifest.contents.parts"))
        return MR_OK;
    if (has_manifest)
        return refuse_foreign(manifest, err);
    return MR_FAIL(
        err, MR_CONFIG,
        "cannot write to '%s': it holds part files but no manifest of a query; use a new directory",
        manifest->dir);
}

/* Is every file of the batch that was being published there, and nothing else of it? */
static enum mr_status find_published(struct mr_fsink_manifest *manifest, struct mr_error *err)
{
    bool complete = true;

    if (manifest->publishing < 0)
        return MR_OK;
    for (size_t i = 0; i < manifest->files.count + manifest->stale.count && complete; i++) {
        bool stale = i >= manifest->files.count;
        const struct mr_fsink_name *item =
            stale ? &manifest->stale.items[i - manifest->files.count] : &manifest->files.items[i];
        char *path = mr_asprintf("%s/%s", manifest->dir, item->name);
        struct mr_file_info info;
        enum mr_status status;

        if (path == NULL)
            return MR_FAIL(err, MR_NOMEM, "cannot look at '%s': out of memory", manifest->dir);
        status = mr_env_path_info(manifest->env, path, false, &info, err);
        mr_free(path);
        if (status != MR_OK && status != MR_NOT_FOUND)
            return status;
        complete = stale ? status == MR_NOT_FOUND || MR_MUTANT("file-manifest.published.stale")
                         : status == MR_OK && (info.size_bytes == item->size_bytes ||
                                               MR_MUTANT("file-manifest.published.size"));
    }
    if (!complete && !MR_MUTANT("file-manifest.published.complete"))
        return MR_OK;
    /* What is seen now may not be durable yet: the commit that will rely on it must not be ahead of
     * it. */
    /* redundant: making .millrace durable has just synced the directory, until that changes */
    if (!MR_MUTANT("file-manifest.published.sync-dir"))
        MR_TRY(mr_env_sync_dir(manifest->env, manifest->dir, err));
    mr_fsink_manifest_done(manifest);
    return MR_OK;
}

static void forget_contents(struct mr_fsink_manifest *manifest)
{
    mr_fsink_names_release(&manifest->files);
    mr_fsink_names_release(&manifest->stale);
    manifest->published = -1;
    manifest->publishing = -1;
}

enum mr_status mr_fsink_manifest_open(struct mr_fsink_manifest *manifest,
                                      const struct mr_sink_args *args, const char *dir,
                                      struct mr_error *err)
{
    char *path = NULL;
    char *text = NULL;
    size_t size_bytes = 0;
    bool ours = false;
    enum mr_status status;

    manifest->env = args->env;
    manifest->dir = dir;
    forget_contents(manifest);
    manifest->meta_dir = mr_asprintf("%s/.millrace", dir);
    manifest->query_id = mr_strdup(args->query_id);
    manifest->sink_name = mr_strdup(args->name);
    path = mr_asprintf("%s/.millrace/" MANIFEST_NAME, dir);
    if (manifest->meta_dir == NULL || manifest->query_id == NULL || manifest->sink_name == NULL ||
        path == NULL) {
        status = MR_FAIL(err, MR_NOMEM, "cannot open output directory '%s': out of memory", dir);
        goto done;
    }
    MR_TRY_GOTO(mr_durable_mkdirs(args->env, manifest->meta_dir, err));
    status = mr_durable_get(args->env, path, MANIFEST_BYTES_MAX, &text, &size_bytes, err);
    if (status == MR_OK)
        status = parse_manifest(manifest, text, size_bytes, &ours, err);
    else if (status == MR_NOT_FOUND)
        status = MR_OK;
    if (status != MR_OK)
        goto done;
    if (ours) {
        status = find_published(manifest, err);
        goto done;
    }
    MR_TRY_GOTO(check_contents(manifest, args->ephemeral, text != NULL, err));
    forget_contents(manifest);
    status = write_manifest(manifest, err);
done:
    mr_text_free(text);
    mr_free(path);
    return status;
}

void mr_fsink_manifest_release(struct mr_fsink_manifest *manifest)
{
    forget_contents(manifest);
    mr_free(manifest->meta_dir);
    mr_free(manifest->query_id);
    mr_free(manifest->sink_name);
    memset(manifest, 0, sizeof(*manifest));
}

/* ---- publishing ---- */

bool mr_fsink_manifest_owns(const struct mr_fsink_manifest *manifest, int64_t batch_id,
                            const char *name)
{
    return manifest->publishing == batch_id && (mr_fsink_names_have(&manifest->files, name) ||
                                                mr_fsink_names_have(&manifest->stale, name));
}

/* Moves names that keep does not have to the end of stale. */
static enum mr_status add_stale(struct mr_fsink_names *stale, const struct mr_fsink_names *names,
                                const struct mr_fsink_names *keep, struct mr_error *err)
{
    for (size_t i = 0; i < names->count; i++)
        if (!mr_fsink_names_have(keep, names->items[i].name))
            MR_TRY(mr_fsink_names_add(stale, names->items[i].name, 0, err));
    return MR_OK;
}

enum mr_status mr_fsink_manifest_begin(struct mr_fsink_manifest *manifest, int64_t batch_id,
                                       struct mr_fsink_names *files, struct mr_error *err)
{
    struct mr_fsink_names stale = {0};
    enum mr_status status;

    if (manifest->publishing == batch_id && !MR_MUTANT("file-manifest.begin.stale")) {
        MR_TRY_GOTO(add_stale(&stale, &manifest->files, files, err));
        MR_TRY_GOTO(add_stale(&stale, &manifest->stale, files, err));
    }
    mr_fsink_names_release(&manifest->files);
    mr_fsink_names_release(&manifest->stale);
    manifest->files = *files;
    manifest->stale = stale;
    manifest->publishing = batch_id;
    memset(files, 0, sizeof(*files));
    memset(&stale, 0, sizeof(stale));
    status = write_manifest(manifest, err);
done:
    mr_fsink_names_release(&stale);
    mr_fsink_names_release(files);
    return status;
}

void mr_fsink_manifest_done(struct mr_fsink_manifest *manifest)
{
    manifest->published = MR_MAX(manifest->published, manifest->publishing);
    manifest->publishing = -1;
    mr_fsink_names_release(&manifest->files);
    mr_fsink_names_release(&manifest->stale);
}
