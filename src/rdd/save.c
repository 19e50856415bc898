/*
 * Datasets as files: directories of parts that actions write, and datasets that read them back.
 *
 *     mr_rdd_save_as_*   all partitions computed, then a part for each, then _SUCCESS (part_dir.h)
 *     mr_rdd_text_file   one partition a file: part-*, or the file itself; a line a row
 *     mr_rdd_object_file the same, rows and columns as they were saved
 *
 * Files are listed when the dataset is made, read when a partition is computed. A file that was
 * removed meanwhile, or is damaged, fails the task.
 *
 * Thread: any; writing on the thread that asks.
 */
#include "rdd/rdd.h"

#include "data/object_file.h"
#include "rdd/part_dir.h"

#include <millrace/ext/durable.h>

#include <stdlib.h>
#include <string.h>

/* ---- saving ---- */

static enum mr_status write_parts(struct mr__part_dir *dir, const struct mr__batches *lists,
                                  uint32_t count, struct mr_error *err)
{
    for (uint32_t p = 0; p < count; p++) {
        for (size_t i = 0; i < lists[p].count; i++)
            MR_TRY(mr__part_dir_write(dir, p, lists[p].items[i], err));
    }
    MR_TRY(mr__part_dir_stage(dir, err));
    return mr__part_dir_publish(dir, err);
}

static enum mr_status save(struct mr_rdd *rdd, const char *path, enum mr__part_kind kind,
                           struct mr_error *err)
{
    struct mr__part_dir *dir = NULL;
    struct mr__batches *lists = NULL;
    enum mr_status status;

    MR_TRY(mr_rdd_error(rdd, err));
    if (path == NULL || path[0] == '\0')
        return MR_FAIL(err, MR_CONFIG, "cannot save a dataset: there is no directory");
    MR_TRY(mr__rdd_collect_partitions(rdd, &lists, err));
    status = mr__part_dir_begin(rdd->session->env, path, kind, rdd->schema, rdd->partition_count,
                                &dir, err);
    if (status == MR_OK)
        status = write_parts(dir, lists, rdd->partition_count, err);
    mr__part_dir_free(dir);
    for (uint32_t p = 0; p < rdd->partition_count; p++)
        mr__batches_release(&lists[p]);
    mr_free(lists);
    return status;
}

enum mr_status mr_rdd_save_as_text_file(struct mr_rdd *rdd, const char *dir, struct mr_error *err)
{
    return save(rdd, dir, MR__PART_TEXT, err);
}

enum mr_status mr_rdd_save_as_object_file(struct mr_rdd *rdd, const char *dir, struct mr_error *err)
{
    return save(rdd, dir, MR__PART_OBJECT, err);
}

enum mr_status mr_rdd_save_as_parquet_file(struct mr_rdd *rdd, const char *dir,
                                           struct mr_error *err)
{
    return save(rdd, dir, MR__PART_PARQUET, err);
}

/* ---- which files ---- */

/* Paths in the order of their names. */
struct files {
    char **paths;
    size_t count;
    size_t capacity;
    const char *dir;
    bool failed;
};

static void files_free(struct mr_rdd *rdd)
{
    struct files *files = rdd->own;

    for (size_t i = 0; i < files->count; i++)
        mr_free(files->paths[i]);
    mr_free(files->paths);
    mr_free(files);
}

static void add_path(struct files *files, char *path)
{
    if (path != NULL && files->count == files->capacity) {
        size_t capacity = files->capacity == 0 ? 16 : files->capacity * 2;
        char **grown = mr_realloc(NULL, files->paths, capacity * sizeof(char *));

        if (grown != NULL) {
            files->paths = grown;
            files->capacity = capacity;
        }
    }
    if (path == NULL || files->count == files->capacity) {
        files->failed = true;
        mr_free(path);
        return;
    }
    files->paths[files->count++] = path;
}

static bool keep_part(const char *name, enum mr_file_kind kind, void *arg)
{
    struct files *files = arg;

    if (kind == MR_KIND_FILE && strncmp(name, "part-", 5) == 0)
        add_path(files, mr_asprintf("%s/%s", files->dir, name));
    return !files->failed;
}

static int compare_paths(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum mr_status list_files(struct mr_env *env, const char *path, struct files *files,
                                 struct mr_error *err)
{
    struct mr_file_info info;

    MR_TRY(mr_env_path_info(env, path, true, &info, err));
    if (info.kind == MR_KIND_DIRECTORY) {
        files->dir = path;
        MR_TRY(mr_env_list(env, path, keep_part, files, err));
        if (files->count > 0)
            qsort(files->paths, files->count, sizeof(char *), compare_paths);
    } else {
        add_path(files, mr_strdup(path));
    }
    return files->failed ? MR_FAIL(err, MR_NOMEM, "cannot list '%s': out of memory", path) : MR_OK;
}

/* A dataset of the files below path; its schema is to come. NULL files: it has its mistake. */
static struct mr_rdd *of_files(struct mr_session *session, const struct mr__rdd_kind *kind,
                               const char *path, struct files **ret_files)
{
    struct mr_rdd *rdd;
    struct files *files;
    struct mr_error err;
    enum mr_status status;

    *ret_files = NULL;
    if (session == NULL)
        return NULL;
    rdd = mr__rdd_new(session, kind, NULL, 0);
    if (rdd == NULL)
        return NULL;
    files = mr_alloc_zero(NULL, sizeof(*files));
    mr_error_clear(&err);
    if (files == NULL || path == NULL)
        status = MR_FAIL(&err, MR_CONFIG, "there is no path");
    else
        status = list_files(session->env, path, files, &err);
    rdd->own = files;
    if (status != MR_OK)
        return mr__rdd_blame(rdd, NULL, status, &err);
    files->dir = NULL; /* the caller's */
    *ret_files = files;
    return rdd;
}

/* ---- lines ---- */

static void add_lines(struct mr_batch_builder *builder, const char *text, size_t size)
{
    const char *end = text + size;

    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t bytes = (size_t)((stop != NULL ? stop : end) - text);
        size_t shown = bytes > 0 && text[bytes - 1] == '\r' ? bytes - 1 : bytes;

        mr_batch_builder_text(builder, 0, text, shown);
        mr_batch_builder_end_row(builder);
        text += bytes + 1;
    }
}

static enum mr_status lines_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                    struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct files *files = rdd->own;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    char *text;
    size_t size;
    enum mr_status status;

    MR_UNUSED(task);
    MR_TRY(
        mr_durable_get(rdd->session->env, files->paths[partition], INT32_MAX, &text, &size, err));
    MR_TRY_GOTO(mr_batch_builder_new(rdd->schema, &builder, err));
    add_lines(builder, text, size);
    MR_TRY_GOTO(mr_batch_builder_finish(builder, &batch, err));
    if (mr_batch_row_count(batch) > 0)
        status = mr__batches_add(ret_rows, batch, err);
done:
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_text_free(text);
    return status;
}

static const struct mr__rdd_kind text_kind = {
    .name = "text_file",
    .compute = lines_compute,
    .free = files_free,
};

struct mr_rdd *mr_rdd_text_file(struct mr_session *session, const char *path)
{
    static const struct mr_type text = {.id = MR_TYPE_TEXT};
    struct mr__column_of value = {"value", &text};
    struct mr_schema *schema = NULL;
    struct files *files;
    struct mr_rdd *rdd = of_files(session, &text_kind, path, &files);
    struct mr_error err;

    if (files == NULL)
        return rdd;
    mr__rdd_blame(rdd, NULL, mr__schema_of(&value, 1, &schema, &err), &err);
    return schema != NULL ? mr__rdd_ready(rdd, schema, (uint32_t)files->count) : rdd;
}

/* ---- object files ---- */

static enum mr_status read_blocks(const struct mr_rdd *rdd, struct mr_object_reader *reader,
                                  const char *path, struct mr__batches *ret_rows,
                                  struct mr_error *err)
{
    if (!mr_schema_equal(mr_object_schema(reader), rdd->schema))
        return MR_FAIL(err, MR_BAD_DATA, "cannot read '%s': it has other columns than the first",
                       path);
    for (;;) {
        struct mr_batch *batch = NULL;
        enum mr_status status;

        MR_TRY(mr_object_next(reader, &batch, err));
        if (batch == NULL)
            return MR_OK;
        status = mr__batches_add(ret_rows, batch, err);
        mr_batch_unref(batch);
        MR_TRY(status);
    }
}

static enum mr_status objects_compute(struct mr_rdd *rdd, uint32_t partition, struct mr__task *task,
                                      struct mr__batches *ret_rows, struct mr_error *err)
{
    const struct files *files = rdd->own;
    struct mr_object_reader *reader;
    enum mr_status status;

    MR_UNUSED(task);
    MR_TRY(mr_object_open(rdd->session->env, files->paths[partition], &reader, err));
    status = read_blocks(rdd, reader, files->paths[partition], ret_rows, err);
    mr_object_close(reader);
    return status;
}

static const struct mr__rdd_kind object_kind = {
    .name = "object_file",
    .compute = objects_compute,
    .free = files_free,
};

struct mr_rdd *mr_rdd_object_file(struct mr_session *session, const char *path)
{
    struct mr_object_reader *reader = NULL;
    struct mr_schema *schema = NULL;
    struct files *files;
    struct mr_rdd *rdd = of_files(session, &object_kind, path, &files);
    struct mr_error err;
    enum mr_status status;

    if (files == NULL)
        return rdd;
    mr_error_clear(&err);
    if (files->count == 0)
        status =
            MR_FAIL(&err, MR_NOT_FOUND,
                    "there are no files part-* in '%s', so no columns; save a dataset there", path);
    else
        status = mr_object_open(session->env, files->paths[0], &reader, &err);
    if (status == MR_OK)
        schema = mr_schema_ref(mr_object_schema(reader));
    mr_object_close(reader);
    mr__rdd_blame(rdd, NULL, status, &err);
    return schema != NULL ? mr__rdd_ready(rdd, schema, (uint32_t)files->count) : rdd;
}
