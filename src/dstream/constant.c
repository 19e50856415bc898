/*
 * mr_constant_stream: the same rows in every batch.
 *
 *     offset   "<batches so far> <XXH3 of the rows>"
 *
 * The checksum tells a batch that runs again after a restart with other rows: its rows would not be
 * those that were planned, which is MR_SOURCE_CHANGED instead of a different result.
 *
 * Thread: building in the program's; reading on any worker.
 */
#include "dstream/input.h"

#include "base/hash.h"
#include "base/number_text.h"
#include "data/object_file.h"

#include <inttypes.h>
#include <string.h>

struct constant {
    struct mr_batch *rows;
    uint64_t sum;
};

struct mr_source {
    const struct constant *constant; /* the stream's */
};

struct mr_reader {
    struct mr_batch *batch;
};

static enum mr_status constant_open(const struct mr_source_args *args,
                                    struct mr_source **ret_source, struct mr_error *err)
{
    const struct mr_dstream *stream = args->user;
    struct mr_source *source = mr_alloc_zero(NULL, sizeof(*source));

    if (source == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    source->constant = stream->own;
    *ret_source = source;
    return MR_OK;
}

static enum mr_status parse(const char *text, uint64_t *ret_count, uint64_t *ret_sum,
                            struct mr_error *err)
{
    size_t size = strcspn(text, " ");

    if (text[size] == ' ' && mr_uint_parse(text, size, ret_count) &&
        mr_uint_parse(text + size + 1, strlen(text + size + 1), ret_sum))
        return MR_OK;
    return MR_FAIL(err, MR_CORRUPT, "cannot read the offset of a constant stream");
}

static enum mr_status constant_plan(struct mr_source *source, const char *start,
                                    const struct mr_plan_limits *limits, char **ret_end,
                                    struct mr_error *err)
{
    uint64_t count = 0, sum;

    MR_UNUSED(limits);
    if (start != NULL)
        MR_TRY(parse(start, &count, &sum, err));
    *ret_end = mr_asprintf("%" PRIu64 " %" PRIu64, count + 1, source->constant->sum);
    return *ret_end != NULL ? MR_OK : MR_FAIL(err, MR_NOMEM, "out of memory");
}

static enum mr_status constant_split(struct mr_source *source, const char *start, const char *end,
                                     uint32_t *ret_partitions, uint64_t *ret_bytes,
                                     struct mr_error *err)
{
    MR_UNUSED(start);
    MR_UNUSED(end);
    MR_UNUSED(err);
    *ret_partitions = 1;
    *ret_bytes = (uint64_t)mr_batch_bytes(source->constant->rows) + 1;
    return MR_OK;
}

static enum mr_status constant_read(struct mr_source *source, const char *start, const char *end,
                                    uint32_t partition, struct mr_reader **ret_reader,
                                    struct mr_error *err)
{
    struct mr_reader *reader;
    uint64_t count, sum;

    MR_UNUSED(start);
    MR_UNUSED(partition);
    MR_TRY(parse(end, &count, &sum, err));
    if (sum != source->constant->sum)
        return MR_FAIL(err, MR_SOURCE_CHANGED,
                       "cannot run a batch again: the rows of the constant stream are not those "
                       "that were planned; start once with the old ones, or with a new checkpoint");
    reader = mr_alloc_zero(NULL, sizeof(*reader));
    if (reader == NULL)
        return MR_FAIL(err, MR_NOMEM, "out of memory");
    reader->batch = mr_batch_ref(source->constant->rows);
    *ret_reader = reader;
    return MR_OK;
}

static enum mr_status constant_next(struct mr_reader *reader, struct mr_batch **ret_batch,
                                    struct mr_error *err)
{
    MR_UNUSED(err);
    *ret_batch = reader->batch;
    reader->batch = NULL;
    return MR_OK;
}

static void constant_close(struct mr_reader *reader)
{
    if (reader == NULL)
        return;
    mr_batch_unref(reader->batch);
    mr_free(reader);
}

static bool constant_row_count(struct mr_source *source, const char *start, const char *end,
                               uint64_t *ret_rows)
{
    MR_UNUSED(start);
    MR_UNUSED(end);
    *ret_rows = (uint64_t)mr_batch_row_count(source->constant->rows);
    return true;
}

static void constant_stop(struct mr_source *source)
{
    mr_free(source);
}

static const struct mr_source_ops constant_ops = {
    .struct_size = sizeof(struct mr_source_ops),
    .plan = constant_plan,
    .split = constant_split,
    .read = constant_read,
    .next = constant_next,
    .close = constant_close,
    .stop = constant_stop,
    .row_count = constant_row_count,
};

static const struct mr_source_connector constant_connector = {
    .struct_size = sizeof(struct mr_source_connector),
    .name = "constant_stream",
    .summary = "The same rows in every batch.",
    .guarantee = "replayable by a program that gives the same rows",
    .open = constant_open,
    .ops = &constant_ops,
};

static void constant_free(void *own)
{
    struct constant *constant = own;

    mr_batch_unref(constant->rows);
    mr_free(constant);
}

static enum mr_status keep_rows(const struct mr_batch *rows, struct constant **ret_constant,
                                struct mr_error *err)
{
    struct constant *constant = mr_alloc_zero(NULL, sizeof(*constant));
    struct mr_buf bytes = MR_BUF_INIT;
    bool failed;

    mr_object_begin(&bytes, mr_batch_schema(rows));
    mr_object_add(&bytes, rows);
    failed = constant == NULL || bytes.failed;
    if (!failed) {
        constant->rows = mr_batch_ref(rows);
        constant->sum = mr_checksum(bytes.data, bytes.size);
        *ret_constant = constant;
        constant = NULL;
    }
    mr_buf_release(&bytes);
    mr_free(constant);
    return failed ? MR_FAIL(err, MR_NOMEM, "out of memory") : MR_OK;
}

struct mr_dstream *mr_constant_stream(struct mr_context *ctx, const struct mr_batch *rows)
{
    struct mr__source source = {.connector = &constant_connector, .is_own = true};
    struct constant *constant = NULL;
    struct mr_dstream *stream;
    struct mr_error err;
    enum mr_status status;

    if (!mr__context_is_open(ctx, "constant_stream"))
        return NULL;
    status = rows != NULL ? keep_rows(rows, &constant, &err)
                          : MR_FAIL(&err, MR_CONFIG,
                                    "there are no rows; give a batch, which may "
                                    "be one without rows");
    if (status != MR_OK) {
        mr__context_blame(ctx, "constant_stream", &err);
        return NULL;
    }
    stream = mr__stream_source(ctx, "constant_stream", &source, mr_batch_schema(rows));
    if (stream == NULL) {
        constant_free(constant);
        return NULL;
    }
    stream->own = constant;
    stream->own_free = constant_free;
    return stream;
}
