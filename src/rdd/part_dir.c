/*
 * Directories of parts (part_dir.h draws them).
 *
 * Called by mr_save_as_*_files of streams (a sink of the kernel, per batch) and by mr_rdd_save_as_*
 * of datasets. Parts are made one after the other: rows are encoded into a buffer that goes to the
 * newest part when it is full; a Parquet part is written by its library at the end of the part.
 *
 * Invariant: parts[0 .. begun) exist, all but the newest are complete.
 *
 * Thread: the owner's.
 */
#include "rdd/part_dir.h"

#include "base/alloc.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/mutant.h"
#include "base/number_text.h"
#include "data/object_file.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/format.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PART_NAME_BYTES = 40, FLUSH_BYTES = 1 << 20, PARTS_MAX = MR_LIMIT_DATASET_PARTS };

struct mr__part_dir {
    struct mr_env *env;
    char *path;
    enum mr__part_kind kind;
    struct mr_schema *schema;
    const struct mr_format *parquet;
    uint32_t part_count;
    struct mr_staged **parts;
    uint32_t begun;
    uint32_t published;
    /* Of the newest part: */
    struct mr_buf bytes; /* not written yet */
    uint64_t row_count;
    void *writer; /* Parquet */
};

static enum mr_status no_memory(const char *path, struct mr_error *err)
{
    return MR_FAIL(err, MR_NOMEM, "cannot save to '%s': out of memory", path);
}

static void add_value(struct mr_buf *out, const struct mr_row *row, uint32_t column)
{
    size_t need = mr_row_print(row, column, NULL, 0);

    if (!mr_buf_reserve(out, need + 1))
        return;
    mr_row_print(row, column, out->data + out->size, need + 1);
    out->size += need;
}

void mr__element_print(struct mr_buf *out, const struct mr_row *row)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(row->batch));

    if (columns == 1) {
        add_value(out, row, 0);
        return;
    }
    for (uint32_t i = 0; i < columns; i++) {
        mr_buf_add_char(out, i == 0 ? '(' : ',');
        add_value(out, row, i);
    }
    mr_buf_add_char(out, ')');
}

/* ---- life ---- */

enum mr_status mr__part_dir_begin(struct mr_env *env, const char *path, enum mr__part_kind kind,
                                  const struct mr_schema *schema, uint32_t part_count,
                                  struct mr__part_dir **ret_dir, struct mr_error *err)
{
    struct mr__part_dir *dir;
    uint64_t swept = 0;
    enum mr_status status = MR_OK;

    if (part_count > PARTS_MAX)
        return MR_FAIL(err, MR_LIMIT,
                       "cannot save to '%s': %" PRIu32
                       " partitions, a directory has at most %d parts; use fewer partitions",
                       path, part_count, PARTS_MAX);
    dir = mr_alloc_zero(NULL, sizeof(*dir));
    if (dir == NULL)
        return no_memory(path, err);
    dir->env = env;
    dir->kind = kind;
    dir->schema = mr_schema_ref(schema);
    dir->part_count = part_count;
    dir->path = mr_strdup(path);
    dir->parts = mr_alloc_zero(NULL, ((size_t)part_count + 1) * sizeof(struct mr_staged *));
    if (dir->path == NULL || dir->parts == NULL)
        MR_TRY_GOTO(no_memory(path, err));
    if (kind == MR__PART_PARQUET) {
        dir->parquet = mr_format_find("parquet");
        if (dir->parquet == NULL)
            MR_TRY_GOTO(MR_FAIL(err, MR_CONFIG,
                                "cannot save to '%s': this build has no Parquet format", path));
    }
    MR_TRY_GOTO(mr_durable_mkdirs(env, path, err));
    MR_TRY_GOTO(mr_durable_sweep(env, path, &swept, err));
    *ret_dir = dir;
    dir = NULL;
done:
    mr__part_dir_free(dir);
    return status;
}

void mr__part_dir_free(struct mr__part_dir *dir)
{
    if (dir == NULL)
        return;
    if (dir->writer != NULL && dir->parquet != NULL) /* closing is the only way to free it */
        (void)dir->parquet->file_writer_close(dir->writer, NULL);
    for (uint32_t i = 0; dir->parts != NULL && i < dir->begun; i++)
        mr_staged_free(dir->parts[i]);
    mr_free(dir->parts);
    mr_schema_unref(dir->schema);
    mr_buf_release(&dir->bytes);
    mr_free(dir->path);
    mr_free(dir);
}

/* ---- parts ---- */

static void part_name(const struct mr__part_dir *dir, uint32_t index, char *name)
{
    snprintf(name, PART_NAME_BYTES, "part-%05" PRIu32 "%s", index,
             dir->kind == MR__PART_PARQUET ? ".parquet" : "");
}

static enum mr_status flush(struct mr__part_dir *dir, struct mr_error *err)
{
    size_t size = dir->bytes.size;

    if (dir->bytes.failed)
        return no_memory(dir->path, err);
    if (size == 0)
        return MR_OK;
    dir->bytes.size = 0;
    return mr_staged_write(dir->parts[dir->begun - 1], dir->bytes.data, size, err);
}

static enum mr_status end_part(struct mr__part_dir *dir, struct mr_error *err)
{
    void *writer = dir->writer;

    if (dir->begun == 0)
        return MR_OK;
    if (writer != NULL) {
        dir->writer = NULL;
        return dir->parquet->file_writer_close(writer, err);
    }
    if (dir->kind == MR__PART_OBJECT)
        mr_object_end(&dir->bytes, dir->row_count);
    return flush(dir, err);
}

static enum mr_status begin_part(struct mr__part_dir *dir, struct mr_error *err)
{
    char name[PART_NAME_BYTES];

    MR_TRY(end_part(dir, err));
    dir->row_count = 0;
    part_name(dir, dir->begun, name);
    MR_TRY(mr_staged_create(dir->env, dir->path, name, &dir->parts[dir->begun], err));
    dir->begun++;
    if (dir->kind == MR__PART_OBJECT)
        mr_object_begin(&dir->bytes, dir->schema);
    if (dir->kind == MR__PART_PARQUET)
        return dir->parquet->file_writer_new(mr_staged_path(dir->parts[dir->begun - 1]),
                                             dir->schema, NULL, &dir->writer, err);
    return MR_OK;
}

static enum mr_status write_text(struct mr__part_dir *dir, const struct mr_batch *batch,
                                 struct mr_error *err)
{
    for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
        mr__element_print(&dir->bytes, &row);
        mr_buf_add_char(&dir->bytes, '\n');
        if (dir->bytes.size >= FLUSH_BYTES)
            MR_TRY(flush(dir, err));
    }
    return dir->bytes.failed ? no_memory(dir->path, err) : MR_OK;
}

enum mr_status mr__part_dir_write(struct mr__part_dir *dir, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    MR_ASSERT(partition < dir->part_count && partition + 1 >= dir->begun);
    while (dir->begun <= partition)
        MR_TRY(begin_part(dir, err));
    dir->row_count += (uint64_t)mr_batch_row_count(batch);
    if (dir->kind == MR__PART_TEXT)
        return write_text(dir, batch, err);
    if (dir->kind == MR__PART_PARQUET)
        return dir->parquet->file_writer_write(dir->writer, batch, err);
    mr_object_add(&dir->bytes, batch);
    return dir->bytes.size >= FLUSH_BYTES || dir->bytes.failed ? flush(dir, err) : MR_OK;
}

enum mr_status mr__part_dir_stage(struct mr__part_dir *dir, struct mr_error *err)
{
    while (dir->begun < dir->part_count)
        MR_TRY(begin_part(dir, err));
    MR_TRY(end_part(dir, err));
    for (uint32_t i = 0; i < dir->begun; i++)
        MR_TRY(mr_staged_seal(dir->parts[i], err));
    return MR_OK;
}

/* ---- publishing ---- */

/* Parts that are in the directory and will not be replaced. */
struct leftovers {
    const struct mr__part_dir *dir;
    struct mr_buf names; /* each with its NUL */
};

static bool is_leftover(const char *name, enum mr_file_kind kind, void *arg)
{
    struct leftovers *left = arg;
    char own[PART_NAME_BYTES];
    uint64_t index;

    if (kind != MR_KIND_FILE || strncmp(name, "part-", 5) != 0)
        return true;
    if (mr_uint_parse(name + 5, strspn(name + 5, "0123456789"), &index) &&
        index < left->dir->begun) {
        part_name(left->dir, (uint32_t)index, own);
        if (strcmp(name, own) == 0)
            return true;
    }
    mr_buf_add(&left->names, name, strlen(name) + 1);
    return true;
}

static enum mr_status remove_file(struct mr__part_dir *dir, const char *name, struct mr_error *err)
{
    char *path = mr_asprintf("%s/%s", dir->path, name);
    enum mr_status status;

    if (path == NULL)
        return no_memory(dir->path, err);
    status = mr_env_unlink(dir->env, path, err);
    mr_free(path);
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status remove_leftovers(struct mr__part_dir *dir, struct mr_error *err)
{
    struct leftovers left = {dir, MR_BUF_INIT};
    enum mr_status status;

    MR_TRY_GOTO(mr_env_list(dir->env, dir->path, is_leftover, &left, err));
    if (left.names.failed)
        status = no_memory(dir->path, err);
    if (status == MR_OK && left.names.size > 0)
        status = remove_file(dir, "_SUCCESS", err);
    for (size_t at = 0; at < left.names.size && status == MR_OK;
         at += strlen(left.names.data + at) + 1)
        status = remove_file(dir, left.names.data + at, err);
done:
    mr_buf_release(&left.names);
    return status;
}

enum mr_status mr__part_dir_publish(struct mr__part_dir *dir, struct mr_error *err)
{
    if (dir->published == 0)
        MR_TRY(remove_leftovers(dir, err));
    for (; dir->published < dir->begun; dir->published++)
        MR_TRY(mr_staged_publish(dir->parts[dir->published], err));
    /* redundant: _SUCCESS behind it makes the directory durable before the batch counts as done */
    if (dir->begun > 0 && !MR_MUTANT("part-dir.publish.sync-dir"))
        MR_TRY(mr_env_sync_dir(dir->env, dir->path, err));
    return mr_durable_put(dir->env, dir->path, "_SUCCESS", "", 0, false, err);
}
