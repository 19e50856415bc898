/*
 * Sink `console`: the rows of each batch on standard output, as an aligned table, as JSON lines, or
 * exactly as Spark shows them.
 *
 *     -- batch 3, 2026-11-21T10:00:00.000Z, 12 rows
 *     city    |  n
 *     --------+---
 *     London  |  3
 *     ... 11 more rows
 *
 * A batch is drawn at stage and written at publish, in one write: a batch that fails leaves no half
 * table. Append and update print nothing for a batch without rows; complete prints every batch.
 * With style = 'spark' every batch that runs is a table in a box below "Batch: 3" (structured.md
 * 18.3), 20 rows of 20 characters when nothing else is said, so that what reads Spark's output
 * reads ours. With style = 'json' every row is a line, there is no header and no limit, so that the
 * output can be piped into another program.
 *
 * At least once: the terminal cannot tell what it has shown, so a batch that runs again after a
 * crash is printed again.
 *
 * Thread: driver.
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/check.h"
#include "base/limits.h"
#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"
#include "sinks/console/table.h"

#include <millrace/ext/sink.h>

#include <inttypes.h>
#include <string.h>

enum { TABLE_CHARS = 30, SPARK_CHARS = 20, CHARS_MAX = MR_LIMIT_CONSOLE_WIDTH };

struct mr_sink {
    struct mr_env *env;
    const struct mr_format *json; /* style = 'json', else NULL */
    bool is_spark;                /* style = 'spark' */
    enum mr_output_mode mode;
    uint32_t rows_max;
    uint32_t cell_chars_max;
    struct mr_sink_batch info;
    uint64_t row_count;
    struct mr_table *table;
    struct mr_buf out;
};

static const struct mr_option console_options[] = {
    {"style", NULL, MR_OPTION_ENUM, 0, "table", "table|json|spark", NULL,
     "table: an aligned table with a header; json: one line a row and nothing else; spark: every "
     "batch as Spark's console shows it."},
    {"rows", "numRows", MR_OPTION_INT, 0, "20", "0", "1000000",
     "Rows of a batch that the table shows; the others are counted."},
    {"truncate", NULL, MR_OPTION_TEXT, 0, "true", NULL, NULL,
     "Characters of a value that the table shows; true: 30, with style 'spark' 20; false or 0: "
     "all."},
};

static void console_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    mr_table_free(sink->table);
    mr_buf_release(&sink->out);
    mr_free(sink);
}

static enum mr_status read_truncate(const struct mr_sink_args *args, bool is_spark,
                                    uint32_t *ret_chars, struct mr_error *err)
{
    const char *text = mr_options_text(args->options, "truncate");
    uint64_t chars = 0;

    if (mr_text_equal_nocase(text, strlen(text), "true", 4))
        chars = is_spark ? SPARK_CHARS : TABLE_CHARS;
    else if (!mr_text_equal_nocase(text, strlen(text), "false", 5) &&
             (!mr_uint_parse(text, strlen(text), &chars) || chars > CHARS_MAX))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open console sink '%s': truncate = '%s' is not true, false or 0 to "
                       "%d",
                       args->name, text, (int)CHARS_MAX);
    *ret_chars = (uint32_t)chars;
    return MR_OK;
}

static enum mr_status console_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                   struct mr_error *err)
{
    const char *style = mr_options_text(args->options, "style");
    bool as_json = strcmp(style, "json") == 0;
    struct mr_sink *sink;
    enum mr_status status;

    if (args->env->ops->write_stdout == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open console sink '%s': there is no standard output here",
                       args->name);
    sink = mr_alloc_zero(NULL, sizeof(*sink));
    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open console sink '%s': out of memory", args->name);
    sink->env = args->env;
    sink->mode = args->mode;
    sink->rows_max = (uint32_t)mr_options_int(args->options, "rows");
    sink->is_spark = strcmp(style, "spark") == 0;
    status = read_truncate(args, sink->is_spark, &sink->cell_chars_max, err);
    if (status != MR_OK) {
        console_close(sink);
        return status;
    }
    if (as_json) {
        sink->json = mr_format_find("json");
        if (sink->json == NULL) {
            console_close(sink);
            return MR_FAIL(err, MR_CONFIG,
                           "cannot open console sink '%s': format 'json' is not part of this build",
                           args->name);
        }
    } else {
        status =
            mr_table_new(args->schema, sink->cell_chars_max, sink->is_spark, &sink->table, err);
        if (status != MR_OK) {
            console_close(sink);
            return status;
        }
    }
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status console_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                             struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    *ret_batch_id = -1;
    return MR_OK;
}

static void console_abort(struct mr_sink *sink)
{
    mr_buf_clear(&sink->out);
    if (sink->table != NULL)
        mr_table_clear(sink->table);
    sink->row_count = 0;
}

static enum mr_status console_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                    struct mr_error *err)
{
    MR_UNUSED(err);
    console_abort(sink);
    sink->info = *info;
    return MR_OK;
}

static enum mr_status append_out(void *arg, const void *data, size_t size_bytes,
                                 struct mr_error *err)
{
    struct mr_buf *out = arg;

    mr_buf_add(out, data, size_bytes);
    return out->failed ? MR_FAIL(err, MR_NOMEM, "cannot print a batch: out of memory") : MR_OK;
}

static enum mr_status console_write(struct mr_sink *sink, uint32_t partition,
                                    const struct mr_batch *batch, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);

    MR_UNUSED(partition);
    if (rows == 0)
        return MR_OK;
    if (sink->json != NULL) {
        MR_TRY(sink->json->encode(NULL, batch, sink->row_count == 0, append_out, &sink->out, err));
    } else {
        for (int64_t row = 0; row < rows && sink->row_count + (uint64_t)row < sink->rows_max; row++)
            MR_TRY(mr_table_add(sink->table, batch, row, err));
    }
    sink->row_count += (uint64_t)rows;
    return MR_OK;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* Every batch, also one without rows; behind the table an empty line, or what is missing. */
static enum mr_status draw_as_spark(struct mr_sink *sink, bool is_cut, struct mr_error *err)
{
    static const char rule[] = "-------------------------------------------\n";

    mr_buf_printf(&sink->out, "%sBatch: %" PRIu64 "\n%s", rule, sink->info.batch_id, rule);
    mr_table_draw_boxed(sink->table, &sink->out);
    if (is_cut)
        mr_buf_printf(&sink->out, "only showing top %" PRIu32 " row%s\n", sink->rows_max,
                      plural(sink->rows_max));
    else
        mr_buf_add_char(&sink->out, '\n');
    return sink->out.failed ? MR_FAIL(err, MR_NOMEM, "cannot print a batch: out of memory") : MR_OK;
}

static enum mr_status console_stage(struct mr_sink *sink, struct mr_error *err)
{
    char time[MR_TIME_TEXT_BYTES];
    uint64_t hidden = sink->row_count > sink->rows_max ? sink->row_count - sink->rows_max : 0;

    if (sink->is_spark)
        return draw_as_spark(sink, hidden > 0, err);
    if (sink->json != NULL || (sink->row_count == 0 && sink->mode != MR_MODE_COMPLETE))
        return MR_OK;
    mr_timestamp_print_ms(sink->info.batch_time_us, time);
    mr_buf_printf(&sink->out, "-- batch %" PRIu64 ", %s, %" PRIu64 " row%s\n", sink->info.batch_id,
                  time, sink->row_count, plural(sink->row_count));
    mr_table_draw(sink->table, &sink->out);
    if (hidden > 0)
        mr_buf_printf(&sink->out, "... %" PRIu64 " more row%s\n", hidden, plural(hidden));
    mr_buf_add_char(&sink->out, '\n');
    return sink->out.failed ? MR_FAIL(err, MR_NOMEM, "cannot print a batch: out of memory") : MR_OK;
}

static enum mr_status console_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                      struct mr_error *err)
{
    MR_UNUSED(ret_receipt);
    MR_ASSERT(batch_id == sink->info.batch_id);
    if (sink->out.size > 0) {
        /* Cleared first: what was written in part must not be written again by a second publish. */
        size_t size = sink->out.size;

        sink->out.size = 0;
        MR_TRY(sink->env->ops->write_stdout(sink->env, sink->out.data, size, err));
    }
    console_abort(sink);
    return MR_OK;
}

static const struct mr_sink_ops console_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = console_last_published,
    .begin = console_begin,
    .write = console_write,
    .stage = console_stage,
    .publish = console_publish,
    .abort = console_abort,
    .close = console_close,
};

extern const struct mr_sink_connector mr_sink_console_connector;
const struct mr_sink_connector mr_sink_console_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "console",
    .summary = "Prints the rows of each batch on standard output.",
    .guarantee = MR_AT_LEAST_ONCE,
    .options = console_options,
    .option_count = MR_ARRAY_SIZE(console_options),
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE,
    .open = console_open,
    .ops = &console_ops,
};
