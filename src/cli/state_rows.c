/*
 * See state_rows.h. Called by cmd_state.c.
 *
 *     entry --view--> builder --batches of ROWS_MAX--> format --> stdout, or a staged file
 *
 * Thread: main.
 */
#include "cli/state_rows.h"

#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/format.h>

#include <stdio.h>
#include <string.h>

enum { ROWS_MAX = 4096 };

struct cli_rows {
    struct mr_state_view *view;
    const struct mr_format *format;
    struct mr_options *options;
    struct mr_batch_builder *builder;
    uint32_t waiting; /* entries in the builder */
    bool any;         /* something was written */
    struct mr_staged *staged;
    void *writer; /* of a format of whole files */
    const char *prefix;
};

struct first_entry {
    struct mr_slice key;
    struct mr_slice value;
};

static bool take_first(const char *key, size_t key_bytes, const char *value, size_t value_bytes,
                       void *arg)
{
    struct first_entry *first = arg;

    first->key = (struct mr_slice){key, key_bytes};
    first->value = (struct mr_slice){value, value_bytes};
    return false;
}

static enum mr_status open_view(struct mr_state *state, const char *dir, const char *name,
                                struct mr_state_view **ret_view, struct mr_error *err)
{
    struct first_entry first = {{"", 0}, {"", 0}};
    struct mr_store_info info;

    for (size_t i = 0; mr_state_info(state, i, &info); i++) {
        if (strcmp(info.name, name) != 0)
            continue;
        mr_store_scan(mr_state_find(state, name), take_first, &first);
        return mr_state_view_open(&info, first.key, first.value, ret_view, err);
    }
    return MR_FAIL(err, MR_NOT_FOUND, "no store '%s' in '%s': 'millrace state ls %s' lists them",
                   name, dir, dir);
}

static enum mr_status open_file(struct cli_rows *rows, const char *path, struct mr_error *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash == NULL   ? mr_strdup(".")
                : slash == path ? mr_strdup("/")
                                : mr_strndup(path, (size_t)(slash - path));
    enum mr_status status;

    if (dir == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write '%s': out of memory", path);
    status =
        mr_staged_create(mr_env_posix(), dir, slash != NULL ? slash + 1 : path, &rows->staged, err);
    mr_free(dir);
    if (status == MR_OK && rows->format->whole_files)
        status = rows->format->file_writer_new(mr_staged_path(rows->staged),
                                               mr_state_view_columns(rows->view), rows->options,
                                               &rows->writer, err);
    return status;
}

static enum mr_status open_format(struct cli_rows *rows, const struct cli_rows_options *options,
                                  struct mr_error *err)
{
    static const struct mr_option_pair header = {"header", "true"}; /* names are half of it */
    struct mr_option_table table;
    const struct mr_option_table *tables[1] = {&table};

    rows->format = mr_format_find(options->format);
    if (rows->format == NULL || (rows->format->encode == NULL && !rows->format->whole_files))
        return MR_FAIL(err, MR_USAGE, "cannot write format '%s': it is json, csv or parquet",
                       options->format);
    if (rows->format->whole_files && options->path == NULL)
        return MR_FAIL(err, MR_USAGE, "format '%s' needs a file: give --output FILE",
                       options->format);
    table = (struct mr_option_table){"format", rows->format->options, rows->format->option_count};
    return mr_options_parse(tables, 1, &header, strcmp(options->format, "csv") == 0 ? 1 : 0,
                            MR_OPTION_SINK, &rows->options, err);
}

enum mr_status cli_rows_new(struct mr_state *state, const char *dir, const char *name,
                            const struct cli_rows_options *options, struct cli_rows **ret_rows,
                            struct mr_error *err)
{
    struct cli_rows *rows = mr_alloc_zero(NULL, sizeof(*rows));
    enum mr_status status;

    if (rows == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot show state '%s': out of memory", name);
    rows->prefix = "";
    status = open_view(state, dir, name, &rows->view, err);
    if (status == MR_OK)
        status = open_format(rows, options, err);
    if (status == MR_OK)
        status = mr_batch_builder_new(mr_state_view_columns(rows->view), &rows->builder, err);
    if (status == MR_OK && options->path != NULL)
        status = open_file(rows, options->path, err);
    if (status != MR_OK) {
        cli_rows_free(rows);
        return status;
    }
    *ret_rows = rows;
    return MR_OK;
}

static enum mr_status write_bytes(void *arg, const void *data, size_t size_bytes,
                                  struct mr_error *err)
{
    struct cli_rows *rows = arg;

    if (rows->staged != NULL)
        return mr_staged_write(rows->staged, data, size_bytes, err);
    if (fwrite(data, 1, size_bytes, stdout) != size_bytes)
        return MR_FAIL(err, MR_IO, "cannot write to standard output");
    return MR_OK;
}

static enum mr_status take_batch(struct cli_rows *rows, struct mr_batch **ret_batch,
                                 struct mr_error *err)
{
    MR_TRY(mr_batch_builder_finish(rows->builder, ret_batch, err));
    rows->waiting = 0;
    mr_batch_builder_free(rows->builder);
    rows->builder = NULL;
    return mr_batch_builder_new(mr_state_view_columns(rows->view), &rows->builder, err);
}

static enum mr_status flush(struct cli_rows *rows, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status = take_batch(rows, &batch, err);

    if (status == MR_OK && rows->writer != NULL)
        status = rows->format->file_writer_write(rows->writer, batch, err);
    else if (status == MR_OK)
        status = rows->format->encode(rows->options, batch, !rows->any, write_bytes, rows, err);
    rows->any = true;
    mr_batch_unref(batch);
    return status;
}

enum mr_status cli_rows_add(struct cli_rows *rows, struct mr_slice key, struct mr_slice value,
                            struct mr_error *err)
{
    MR_TRY(mr_state_view_add(rows->view, key, value, rows->builder, err));
    return ++rows->waiting == ROWS_MAX ? flush(rows, err) : MR_OK;
}

enum mr_status cli_rows_finish(struct cli_rows *rows, struct mr_error *err)
{
    void *writer = rows->writer;

    if (rows->waiting > 0 || !rows->any)
        MR_TRY(flush(rows, err));
    rows->writer = NULL;
    if (writer != NULL)
        MR_TRY(rows->format->file_writer_close(writer, err));
    if (rows->staged == NULL)
        return MR_OK;
    MR_TRY(mr_staged_seal(rows->staged, err));
    return mr_staged_publish(rows->staged, err);
}

void cli_rows_free(struct cli_rows *rows)
{
    if (rows == NULL)
        return;
    if (rows->writer != NULL)
        (void)rows->format->file_writer_close(rows->writer, NULL);
    mr_staged_free(rows->staged);
    mr_batch_builder_free(rows->builder);
    mr_options_free(rows->options);
    mr_state_view_free(rows->view);
    mr_free(rows);
}

/* ---- single entries ---- */

static enum mr_status rows_of_entry(struct cli_rows *rows, struct mr_slice key,
                                    struct mr_slice value, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    MR_ASSERT(rows->waiting == 0);
    MR_TRY(mr_state_view_add(rows->view, key, value, rows->builder, err));
    return take_batch(rows, ret_batch, err);
}

/* Lines with the prefix in front of each. */
static enum mr_status write_lines(void *arg, const void *data, size_t size_bytes,
                                  struct mr_error *err)
{
    struct mr_buf *out = arg;

    mr_buf_add(out, data, size_bytes);
    return out->failed ? MR_FAIL(err, MR_NOMEM, "cannot show the state: out of memory") : MR_OK;
}

static enum mr_status print_batch(struct cli_rows *rows, const char *prefix, struct mr_batch *batch,
                                  struct mr_error *err)
{
    struct mr_buf text = MR_BUF_INIT;
    enum mr_status status =
        rows->format->encode(rows->options, batch, true, write_lines, &text, err);

    for (size_t at = 0; status == MR_OK && at < text.size;) {
        const char *end = memchr(text.data + at, '\n', text.size - at);
        size_t size = end != NULL ? (size_t)(end - text.data) - at : text.size - at;

        printf("%s%.*s\n", prefix, (int)size, text.data + at);
        at += size + 1;
    }
    mr_buf_release(&text);
    return status;
}

enum mr_status cli_rows_print(struct cli_rows *rows, const char *prefix, struct mr_slice key,
                              struct mr_slice value, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status;

    MR_TRY(rows_of_entry(rows, key, value, &batch, err));
    status = print_batch(rows, prefix, batch, err);
    mr_batch_unref(batch);
    return status;
}

static bool has_key(const struct cli_rows *rows, const struct mr_row *row, const char *wanted)
{
    struct mr_buf text = MR_BUF_INIT;
    bool has;

    for (uint32_t c = 0; c < mr_state_view_key_count(rows->view); c++) {
        char one[1024];

        mr_row_print(row, c, one, sizeof(one));
        mr_buf_printf(&text, "%s%s", c > 0 ? "," : "", one);
    }
    has = text.data != NULL && strcmp(text.data, wanted) == 0;
    mr_buf_release(&text);
    return has;
}

enum mr_status cli_rows_find(struct cli_rows *rows, struct mr_slice key, struct mr_slice value,
                             const char *wanted, uint64_t *found, struct mr_error *err)
{
    struct mr_batch *batch = NULL;
    enum mr_status status = MR_OK;

    MR_TRY(rows_of_entry(rows, key, value, &batch, err));
    for (int64_t at = 0; at < mr_batch_row_count(batch) && status == MR_OK; at++) {
        struct mr_row row = {batch, at};
        struct mr_batch *one = NULL;

        if (!has_key(rows, &row, wanted))
            continue;
        ++*found;
        status = mr_batch_slice(batch, at, 1, &one, err);
        if (status == MR_OK)
            status = print_batch(rows, "", one, err);
        mr_batch_unref(one);
    }
    mr_batch_unref(batch);
    return status;
}
