/*
 * Sink `null`: counts rows and forgets them; for benchmarks and for comparing runs.
 *
 * The checksum is the sum of a hash of each row: it does not depend on the order of rows,
 * partitions or batches, and two runs that wrote the same rows, the same number of times, have the
 * same one. Each batch's receipt has both numbers, and the totals of the run are logged at the end.
 *
 *     row hash = mix(column 0 value) * K + mix(column 1 value) * K ...
 *     null values have a hash of their own
 *
 * At least once: nothing is kept that could tell a batch that runs again.
 *
 * Thread: write by any worker; the sums are atomic.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/hash.h"

#include <millrace/ext/sink.h>
#include <millrace/ext/source.h>

#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>

enum { STRIP_ROWS = 1024, PRINTED_BYTES_MAX = 4096 };

static const uint64_t COLUMN_FACTOR = UINT64_C(0x9e3779b97f4a7c15);
static const uint64_t NULL_HASH = UINT64_C(0x6a09e667f3bcc909);

struct mr_sink {
    char *name;
    uint64_t batch_id;
    _Atomic uint64_t batch_rows;
    _Atomic uint64_t batch_sum;
    uint64_t rows; /* of all published batches of this run */
    uint64_t sum;
    uint64_t batches;
};

static void null_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    mr_ext_log('I', sink->name, "%" PRIu64 " rows in %" PRIu64 " batches, checksum %016" PRIx64,
               sink->rows, sink->batches, sink->sum);
    mr_free(sink->name);
    mr_free(sink);
}

static enum mr_status null_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                struct mr_error *err)
{
    struct mr_sink *sink = mr_alloc_zero(NULL, sizeof(*sink));

    if (sink == NULL || (sink->name = mr_strdup(args->name)) == NULL) {
        mr_free(sink);
        return MR_FAIL(err, MR_NOMEM, "cannot open null sink '%s': out of memory", args->name);
    }
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status null_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                          struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    *ret_batch_id = -1;
    return MR_OK;
}

static enum mr_status null_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                 struct mr_error *err)
{
    MR_UNUSED(err);
    sink->batch_id = info->batch_id;
    atomic_store(&sink->batch_rows, 0);
    atomic_store(&sink->batch_sum, 0);
    return MR_OK;
}

static uint64_t mix(uint64_t value)
{
    value ^= value >> 33;
    value *= UINT64_C(0xff51afd7ed558ccd);
    value ^= value >> 33;
    value *= UINT64_C(0xc4ceb9fe1a85ec53);
    return value ^ value >> 33;
}

/* Lists and structs by their text: correct before fast. */
static uint64_t hash_printed(const struct mr_batch *batch, uint32_t column, int64_t row)
{
    struct mr_row cursor = {batch, row};
    char text[PRINTED_BYTES_MAX];
    size_t size = mr_row_print(&cursor, column, text, sizeof(text));

    return mr_hash(text, MR_MIN(size, sizeof(text) - 1), size);
}

static uint64_t hash_value(const struct mr_batch *batch, uint32_t index, int64_t row)
{
    const struct mr_column *column = mr_batch_column(batch, index);
    uint32_t width = mr_type_width(column->type->id);
    uint64_t value = 0;
    struct mr_slice text;

    if (mr_column_is_null(column, row))
        return NULL_HASH;
    if (width > 0 && width <= sizeof(value)) {
        memcpy(&value, (const char *)column->values + (size_t)row * width, width);
        return mix(value + 1);
    }
    if (width > 0)
        return mr_hash((const char *)column->values + (size_t)row * width, width, 0);
    if (column->type->id == MR_TYPE_BOOL)
        return mix(mr_column_bool(column, row) ? 2 : 1);
    if (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY) {
        text = mr_column_text(column, row);
        return mr_hash(text.data, text.size_bytes, 1);
    }
    return hash_printed(batch, index, row);
}

/* hash_value of words without nulls, which most columns are. */
static void add_words(const uint64_t *values, int64_t count, uint64_t *hashes)
{
    for (int64_t i = 0; i < count; i++)
        hashes[i] = (hashes[i] + mix(values[i] + 1)) * COLUMN_FACTOR;
}

static void add_column(const struct mr_batch *batch, uint32_t index, int64_t from, int64_t count,
                       uint64_t *hashes)
{
    const struct mr_column *column = mr_batch_column(batch, index);

    if (column->validity == NULL && mr_type_width(column->type->id) == sizeof(uint64_t)) {
        add_words((const uint64_t *)column->values + from, count, hashes);
        return;
    }
    for (int64_t i = 0; i < count; i++)
        hashes[i] = (hashes[i] + hash_value(batch, index, from + i)) * COLUMN_FACTOR;
}

static enum mr_status null_write(struct mr_sink *sink, uint32_t partition,
                                 const struct mr_batch *batch, struct mr_error *err)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(batch));
    int64_t rows = mr_batch_row_count(batch);
    uint64_t hashes[STRIP_ROWS];
    uint64_t sum = 0;

    MR_UNUSED(partition);
    MR_UNUSED(err);
    for (int64_t from = 0; from < rows; from += STRIP_ROWS) {
        int64_t strip = MR_MIN(rows - from, (int64_t)STRIP_ROWS);

        memset(hashes, 0, sizeof(hashes));
        for (uint32_t column = 0; column < columns; column++)
            add_column(batch, column, from, strip, hashes);
        for (int64_t i = 0; i < strip; i++)
            sum += mix(hashes[i]);
    }
    atomic_fetch_add_explicit(&sink->batch_sum, sum, memory_order_relaxed);
    atomic_fetch_add_explicit(&sink->batch_rows, (uint64_t)rows, memory_order_relaxed);
    return MR_OK;
}

static enum mr_status null_stage(struct mr_sink *sink, struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    return MR_OK;
}

static enum mr_status null_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                   struct mr_error *err)
{
    uint64_t rows = atomic_load(&sink->batch_rows);
    uint64_t sum = atomic_load(&sink->batch_sum);

    MR_ASSERT(batch_id == sink->batch_id);
    *ret_receipt = mr_asprintf("{\"rows\":%" PRIu64 ",\"checksum\":\"%016" PRIx64 "\"}", rows, sum);
    if (*ret_receipt == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot write the receipt of sink '%s': out of memory",
                       sink->name);
    sink->rows += rows;
    sink->sum += sum;
    sink->batches++;
    return MR_OK;
}

static void null_abort(struct mr_sink *sink)
{
    MR_UNUSED(sink);
}

static const struct mr_sink_ops null_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = null_last_published,
    .begin = null_begin,
    .write = null_write,
    .stage = null_stage,
    .publish = null_publish,
    .abort = null_abort,
    .close = null_close,
    .concurrent = true,
};

extern const struct mr_sink_connector mr_sink_null_connector;
const struct mr_sink_connector mr_sink_null_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "null",
    .summary = "Counts the rows and forgets them; the receipt has a checksum that does not depend "
               "on their order.",
    .guarantee = MR_AT_LEAST_ONCE,
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE,
    .open = null_open,
    .ops = &null_ops,
};
