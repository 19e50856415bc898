/*
 * Sink `template`: the smallest complete sink that delivers exactly once. Copy this folder to start
 * one of your own.
 *
 * It writes the rows of each batch as lines of text into one file:
 *
 *     <path>/batch-<N>.txt        first line "# <query id>", then one row a line, values separated
 *                                 by tabs
 *
 * What every sink must decide:
 *
 *   stage      Everything the batch wrote must be safe, but nobody may see it yet. Here the rows
 *              wait in memory, because the
 *              checkpoint can make them again: the batch is not committed before publish is done.
 *   publish    One step makes batch N visible. It is asked again after a crash, so it must give the
 *              same result when it has
 *              been done already.  Here: a durable write of a whole file under a name made from N.
 *   (query, N) How does the sink recognise a batch that it has published?  If it cannot, it is
 *              at-least-once, and says so in its descriptor.  Here: by the file's name and
 *              first line.
 *
 * Life: open -> last_published -> { begin -> write... -> stage -> publish | abort } ... -> close
 *
 * Thread: driver; set `concurrent` when write may be called by several workers at once.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/number_text.h"

#include <millrace/ext/durable.h>
#include <millrace/ext/sink.h>

#include <inttypes.h>
#include <string.h>

enum { VALUE_BYTES_MAX = 4096, FILE_BYTES_MAX = 256 << 20 };

struct mr_sink {
    struct mr_env *env; /* the only way to the operating system */
    char *path;
    char *query_id;
    uint64_t batch_id;
    uint64_t row_count;
    struct mr_buf out; /* the file being made */
};

static const struct mr_option template_options[] = {
    {"path", NULL, MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL,
     "Directory of the files; made when missing."},
};

static void template_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    mr_buf_release(&sink->out);
    mr_free(sink->query_id);
    mr_free(sink->path);
    mr_free(sink);
}

static enum mr_status template_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                    struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));
    enum mr_status status;

    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open template sink '%s': out of memory", args->name);
    sink->env = args->env;
    sink->path = mr_strdup(mr_options_text(args->options, "path"));
    sink->query_id = mr_strdup(args->query_id);
    if (sink->path == NULL || sink->query_id == NULL) {
        status =
            MR_FAIL(err, MR_NOMEM, "cannot open template sink '%s': out of memory", args->name);
        goto done;
    }
    MR_TRY_GOTO(mr_durable_mkdirs(sink->env, sink->path, err));
    *ret_sink = sink;
    sink = NULL;
done:
    template_close(sink);
    return status;
}

/* True when the file is of this query: its first line says so. */
static enum mr_status is_ours(struct mr_sink *sink, uint64_t batch_id, bool *ret_ours,
                              struct mr_error *err)
{
    char *path = mr_asprintf("%s/batch-%" PRIu64 ".txt", sink->path, batch_id);
    char *text = NULL;
    size_t size = 0;
    size_t id_bytes = strlen(sink->query_id);
    enum mr_status status;

    if (path == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot read '%s': out of memory", sink->path);
    status = mr_durable_get(sink->env, path, FILE_BYTES_MAX, &text, &size, err);
    if (status == MR_OK)
        *ret_ours = size > id_bytes + 2 && memcmp(text, "# ", 2) == 0 &&
                    memcmp(text + 2, sink->query_id, id_bytes) == 0 && text[id_bytes + 2] == '\n';
    mr_text_free(text);
    mr_free(path);
    return status;
}

struct highest {
    int64_t batch_id;
};

static bool visit(const char *name, enum mr_file_kind kind, void *arg)
{
    struct highest *highest = arg;
    size_t size = strlen(name);
    int64_t batch_id;

    MR_UNUSED(kind);
    if (size > 10 && memcmp(name, "batch-", 6) == 0 && memcmp(name + size - 4, ".txt", 4) == 0 &&
        mr_int_parse(name + 6, size - 10, &batch_id))
        highest->batch_id = MR_MAX(highest->batch_id, batch_id);
    return true;
}

static enum mr_status template_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                              struct mr_error *err)
{
    struct highest highest = {-1};
    bool ours = false;

    MR_TRY(mr_env_list(sink->env, sink->path, visit, &highest, err));
    if (highest.batch_id >= 0)
        MR_TRY(is_ours(sink, (uint64_t)highest.batch_id, &ours, err));
    if (highest.batch_id >= 0 && !ours)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot write to '%s': it belongs to another query; use a new directory",
                       sink->path);
    *ret_batch_id = highest.batch_id;
    return MR_OK;
}

static enum mr_status template_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                     struct mr_error *err)
{
    MR_UNUSED(err);
    sink->batch_id = info->batch_id;
    sink->row_count = 0;
    mr_buf_clear(&sink->out);
    mr_buf_printf(&sink->out, "# %s\n", sink->query_id);
    return MR_OK;
}

static enum mr_status template_write(struct mr_sink *sink, uint32_t partition,
                                     const struct mr_batch *batch, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));
    char value[VALUE_BYTES_MAX];

    MR_UNUSED(
        /* partitions come one after another: the order of the lines is always the same */
        partition);
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        struct mr_row cursor = {batch, row};

        for (uint32_t column = 0; column < columns; column++) {
            size_t size = mr_row_print(&cursor, column, value, sizeof(value));

            if (size >= sizeof(value))
                return MR_FAIL(err, MR_LIMIT,
                               "cannot write to '%s': a value is longer than %d bytes", sink->path,
                               (int)VALUE_BYTES_MAX);
            if (column > 0)
                mr_buf_add_char(&sink->out, '\t');
            mr_buf_add(&sink->out, value, size);
        }
        mr_buf_add_char(&sink->out, '\n');
    }
    sink->row_count += (uint64_t)mr_batch_row_count(batch);
    /* A failed append sticks in the buffer: one check a batch is enough. */
    return sink->out.failed
               ? MR_FAIL(err, MR_NOMEM, "cannot write to '%s': out of memory", sink->path)
               : MR_OK;
}

/* Refuse here what publish could not do: from now on the batch must succeed. */
static enum mr_status template_stage(struct mr_sink *sink, struct mr_error *err)
{
    bool ours = true;
    enum mr_status status = is_ours(sink, sink->batch_id, &ours, err);

    if (status == MR_OK && !ours)
        return MR_FAIL(err, MR_CANNOT_CREATE,
                       "cannot create 'batch-%" PRIu64 ".txt' in '%s': it is another query's",
                       sink->batch_id, sink->path);
    return status == MR_NOT_FOUND ? MR_OK : status;
}

static enum mr_status template_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                       struct mr_error *err)
{
    char name[MR_NUMBER_TEXT_BYTES + 16] = "batch-";
    size_t size = strlen(name);

    MR_ASSERT(batch_id == sink->batch_id);
    size += mr_uint_print(batch_id, name + size);
    memcpy(name + size, ".txt", sizeof(".txt"));
    /* Whole or absent, also after a crash; replacing our own file by the same bytes changes
     * nothing. */
    MR_TRY(mr_durable_put(sink->env, sink->path, name, sink->out.data, sink->out.size, false, err));
    *ret_receipt = mr_asprintf("{\"rows\":%" PRIu64 "}", sink->row_count);
    return MR_OK;
}

/* The batch failed: forget it. begin comes again with the next attempt. */
static void template_abort(struct mr_sink *sink)
{
    mr_buf_clear(&sink->out);
}

static const struct mr_sink_ops template_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = template_last_published,
    .begin = template_begin,
    .write = template_write,
    .stage = template_stage,
    .publish = template_publish,
    .abort = template_abort,
    .close = template_close,
};

/* The folder's name makes the symbol's: the build registers mr_sink_<folder>_connector by
 * itself. */
extern const struct mr_sink_connector mr_sink_template_connector;
const struct mr_sink_connector mr_sink_template_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "template",
    .summary = "Writes each batch as one text file; a pattern for sinks of your own.",
    .guarantee = MR_EXACTLY_ONCE,
    .options = template_options,
    .option_count = MR_ARRAY_SIZE(template_options),
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE,
    .open = template_open,
    .ops = &template_ops,
};
