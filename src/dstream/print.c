/*
 * mr_print: the first rows of each batch on standard output, as OUT-2 says.
 *
 *     -------------------------------------------
 *     Time: 1700000001000 ms
 *     -------------------------------------------
 *     (hello,2)
 *     (world,1)
 *     ...                                            when there are more than `rows`
 *                                                    an empty line, always
 *
 * A sink of the kernel: rows are made into text as they come, the text goes out in one write at
 * publish. A crash between the write and the commit prints the batch again: at-least-once, as any
 * terminal.
 *
 * Also here: outputs in general.  Thread: driver.
 */
#include "dstream/streams.h"
#include "rdd/part_dir.h"

#include <millrace/ext/sink.h>

#include <inttypes.h>

#define RULE "-------------------------------------------\n"

struct mr_sink {
    struct mr_env *env;
    int64_t rows_max;
    int64_t rows; /* of this batch, printed or not */
    struct mr_buf text;
};

static enum mr_status print_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                 struct mr_error *err)
{
    const struct mr__output *output = args->user;
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    sink->env = args->env;
    sink->rows_max = output->rows;
    *ret_sink = sink;
    return MR_OK;
}

static void print_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    mr_buf_release(&sink->text);
    mr_free(sink);
}

static void print_abort(struct mr_sink *sink)
{
    mr_buf_clear(&sink->text);
    sink->rows = 0;
}

static enum mr_status print_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                  struct mr_error *err)
{
    MR_UNUSED(err);
    print_abort(sink);
    mr_buf_printf(&sink->text, RULE "Time: %" PRId64 " ms\n" RULE, info->batch_time_us / 1000);
    return MR_OK;
}

static enum mr_status print_write(struct mr_sink *sink, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    int64_t rows = mr_batch_row_count(batch);

    MR_UNUSED(partition);
    for (struct mr_row row = {batch, 0};
         row.index < rows && sink->rows + row.index < sink->rows_max; row.index++) {
        mr__element_print(&sink->text, &row);
        mr_buf_add_char(&sink->text, '\n');
    }
    sink->rows += rows;
    return sink->text.failed ? MR_FAIL(err, MR_NOMEM, "cannot print a batch: out of memory")
                             : MR_OK;
}

static enum mr_status print_stage(struct mr_sink *sink, struct mr_error *err)
{
    if (sink->rows > sink->rows_max)
        mr_buf_add_str(&sink->text, "...\n");
    mr_buf_add_char(&sink->text, '\n');
    return sink->text.failed ? MR_FAIL(err, MR_NOMEM, "cannot print a batch: out of memory")
                             : MR_OK;
}

static enum mr_status print_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                    struct mr_error *err)
{
    size_t size = sink->text.size;

    MR_UNUSED(batch_id);
    MR_UNUSED(ret_receipt);
    sink->text.size = 0; /* what was written in part is not written again by a second publish */
    return sink->env->ops->write_stdout(sink->env, sink->text.data, size, err);
}

static const struct mr_sink_ops print_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .begin = print_begin,
    .write = print_write,
    .stage = print_stage,
    .publish = print_publish,
    .abort = print_abort,
    .close = print_close,
};

static const struct mr_sink_connector print_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "print",
    .summary = "The first elements of each batch on standard output.",
    .guarantee = MR_AT_LEAST_ONCE,
    .modes = 1u << MR_MODE_APPEND,
    .open = print_open,
    .ops = &print_ops,
};

void mr_print(struct mr_dstream *stream, int rows)
{
    struct mr__output *output = mr__output_new(stream, "print", &print_connector);
    struct mr_error err;

    if (output == NULL)
        return;
    output->rows = rows;
    if (rows < 0) {
        MR_FAIL(&err, MR_CONFIG, "cannot print %d rows; use 0 or more", rows);
        mr__context_blame(stream->ctx, "print", &err);
    }
}

/* ---- outputs in general ---- */

struct mr__output *mr__output_new(struct mr_dstream *stream, const char *operation,
                                  const struct mr_sink_connector *connector)
{
    struct mr__output **grown;
    struct mr__output *output;
    struct mr_context *ctx;
    struct mr_error err;

    if (stream == NULL || !mr__context_is_open(stream->ctx, operation))
        return NULL;
    ctx = stream->ctx;
    output = mr_alloc_zero(NULL, sizeof(*output));
    grown = mr_realloc(NULL, ctx->outputs, (ctx->output_count + 1) * sizeof(struct mr__output *));
    if (grown != NULL)
        ctx->outputs = grown;
    if (output != NULL) {
        output->stream = stream;
        output->connector = connector;
        output->name = mr_asprintf("%s-%zu", operation, ctx->output_count);
    }
    if (output == NULL || grown == NULL || output->name == NULL) {
        mr_free(output != NULL ? output->name : NULL);
        mr_free(output);
        MR_FAIL(&err, MR_NOMEM, "out of memory");
        mr__context_blame(ctx, operation, &err);
        return NULL;
    }
    ctx->outputs[ctx->output_count++] = output;
    return output;
}
