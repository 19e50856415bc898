/*
 * Sink `kafka`: rows as records of a topic.
 *
 *   formats raw and text     columns `value`, and if there are any `key`, `topic`, `partition`
 *                            (structured.md 18.8)
 *   other formats            the whole row is the value; key_column names the column whose text is
 *                            the key
 *
 *   write    records are queued and sent in the background
 *   stage    returns when the brokers have acknowledged every record: from here on readers see them
 *   publish  nothing is left to do
 *
 * At least once: a batch that runs again after a crash writes its records again. Readers that need
 * each of them once can take the key or a column of their own to recognise them.
 *
 * Thread: write by any worker, one thread per partition at a time; the others: driver.
 */
#include "base/limits.h"
#include "sinks/kafka/producer.h"

#include <inttypes.h>
#include <string.h>

enum { KEY_BYTES_MAX = MR_LIMIT_KAFKA_SINK_KEY };

struct mr_sink {
    struct mr_ksink_producer producer;
    const struct mr_format *format;
    const struct mr_options *options;
    const char *topic; /* of every record, NULL = column */
    bool plain;
    bool line_format; /* one line a row: a whole batch is encoded at once and cut at line ends */
    int32_t key_column;
    int32_t value_column;
    int32_t topic_column;
    int32_t partition_column;
    uint64_t batch_id;
    _Atomic uint64_t row_count;
};

static const struct mr_option kafka_options[] = {
    {"brokers", "bootstrap|bootstrap.servers|kafka.bootstrap.servers|properties.bootstrap.servers",
     MR_OPTION_TEXT, MR_OPTION_REQUIRED, NULL, NULL, NULL,
     "Brokers to ask first, as host:port with ',' between."},
    {"broker_hosts", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Hosts that may be connected to, whatever the brokers name: names, *.names, addresses, and "
     "networks like 10.1.0.0/16, with ',' between; any without it."},
    {"topic", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Topic of every record; unset: column 'topic'."},
    {"key_column", NULL, MR_OPTION_TEXT, 0, NULL, NULL, NULL,
     "Column whose text is the record's key, for formats that make the value of the whole row."},
    {"delivery_timeout", NULL, MR_OPTION_DURATION, 0, "60s", "1s", "1 hour",
     "How long a record may wait to be acknowledged before the batch is tried again."},
    {"kafka.", NULL, MR_OPTION_SECRET_PREFIX, 0, NULL, NULL, NULL,
     "kafka.PROPERTY goes to librdkafka, for example kafka.compression.type, kafka.sasl.password; "
     "no value is ever printed, and 'file:PATH' takes it from a file."},
};

static void kafka_close(struct mr_sink *sink)
{
    if (sink == NULL)
        return;
    mr_ksink_producer_release(&sink->producer);
    mr_free(sink);
}

static bool is_bytes(enum mr_type_id id)
{
    return id == MR_TYPE_TEXT || id == MR_TYPE_BINARY;
}

/* The column of that name, -1 when there is none; MR_CONFIG when its type does not fit. */
static enum mr_status find_column(const struct mr_sink_args *args, const char *name, bool number,
                                  int32_t *ret_column, struct mr_error *err)
{
    int32_t found = mr_schema_find(args->schema, name, strlen(name));

    *ret_column = found;
    if (found >= 0) {
        enum mr_type_id id = mr_schema_field(args->schema, (uint32_t)found)->type.id;

        if (number ? id != MR_TYPE_INT32 && id != MR_TYPE_INT64 : !is_bytes(id))
            return MR_FAIL(err, MR_CONFIG, "cannot open Kafka sink '%s': column '%s' must be %s",
                           args->name, name, number ? "INTEGER" : "VARCHAR or BLOB");
    }
    return MR_OK;
}

static enum mr_status find_plain_columns(struct mr_sink *sink, const struct mr_sink_args *args,
                                         struct mr_error *err)
{
    if (mr_options_has(args->options, "key_column"))
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka sink '%s': 'key_column' is for formats like json; with "
                       "'%s' name the column "
                       "'key'",
                       args->name, args->format->name);
    MR_TRY(find_column(args, "value", false, &sink->value_column, err));
    MR_TRY(find_column(args, "key", false, &sink->key_column, err));
    MR_TRY(find_column(args, "topic", false, &sink->topic_column, err));
    MR_TRY(find_column(args, "partition", true, &sink->partition_column, err));
    if (sink->value_column < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka sink '%s': format '%s' needs a column 'value'; add it, "
                       "or set format = 'json'",
                       args->name, args->format->name);
    if (sink->topic == NULL && sink->topic_column < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka sink '%s': give option 'topic' or a column 'topic'",
                       args->name);
    return MR_OK;
}

static enum mr_status find_row_columns(struct mr_sink *sink, const struct mr_sink_args *args,
                                       struct mr_error *err)
{
    const char *key = mr_options_text(args->options, "key_column");

    if (sink->topic == NULL)
        return MR_FAIL(err, MR_CONFIG, "cannot open Kafka sink '%s': option 'topic' is missing",
                       args->name);
    if (args->format->check != NULL)
        MR_TRY(args->format->check(args->schema, args->options, true, err));
    if (key == NULL)
        return MR_OK;
    sink->key_column = mr_schema_find(args->schema, key, strlen(key));
    if (sink->key_column < 0)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka sink '%s': there is no column '%s' for 'key_column'",
                       args->name, key);
    return MR_OK;
}

static enum mr_status kafka_open(const struct mr_sink_args *args, struct mr_sink **ret_sink,
                                 struct mr_error *err)
{
    struct mr_sink *sink;
    enum mr_status status;

    if (args->format == NULL || args->format->whole_files || args->format->encode == NULL)
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot open Kafka sink '%s': its format must be one of records, such as json",
            args->name);
    sink = mr_alloc_zero(NULL, sizeof(*sink));
    if (sink == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open Kafka sink '%s': out of memory", args->name);
    sink->format = args->format;
    sink->options = args->options;
    sink->topic = mr_options_text(args->options, "topic");
    sink->plain = strcmp(args->format->name, "raw") == 0 || strcmp(args->format->name, "text") == 0;
    sink->line_format = strcmp(args->format->name, "json") == 0;
    sink->key_column = sink->value_column = sink->topic_column = sink->partition_column = -1;
    status = sink->plain ? find_plain_columns(sink, args, err) : find_row_columns(sink, args, err);
    if (status == MR_OK)
        status = mr_ksink_producer_open(&sink->producer, args, err);
    if (status != MR_OK) {
        kafka_close(sink);
        return status;
    }
    *ret_sink = sink;
    return MR_OK;
}

static enum mr_status kafka_last_published(struct mr_sink *sink, int64_t *ret_batch_id,
                                           struct mr_error *err)
{
    MR_UNUSED(sink);
    MR_UNUSED(err);
    *ret_batch_id = -1; /* nothing tells which batches the topic has */
    return MR_OK;
}

static enum mr_status kafka_begin(struct mr_sink *sink, const struct mr_sink_batch *info,
                                  struct mr_error *err)
{
    sink->batch_id = info->batch_id;
    atomic_store(&sink->row_count, 0);
    return mr_ksink_producer_begin(&sink->producer, err);
}

/* Bytes of a text or binary value; data NULL for null or no such column. */
static struct mr_slice bytes_of(const struct mr_batch *batch, int32_t column, int64_t row)
{
    const struct mr_column *values = column >= 0 ? mr_batch_column(batch, (uint32_t)column) : NULL;
    struct mr_slice none = {NULL, 0};
    struct mr_slice bytes;

    if (values == NULL || mr_column_is_null(values, row))
        return none;
    bytes = mr_column_text(values, row);
    return bytes.size_bytes > 0 ? bytes : (struct mr_slice){"", 0};
}

static enum mr_status send_plain_row(struct mr_sink *sink, const struct mr_batch *batch,
                                     int64_t row, struct mr_error *err)
{
    struct mr_ksink_record record = {sink->topic, RD_KAFKA_PARTITION_UA,
                                     bytes_of(batch, sink->key_column, row),
                                     bytes_of(batch, sink->value_column, row)};
    struct mr_slice name = bytes_of(batch, sink->topic_column, row);
    char topic[MR_NAME_BYTES_MAX + 1];

    if (sink->topic == NULL) {
        if (name.data == NULL || name.size_bytes == 0 || name.size_bytes > MR_NAME_BYTES_MAX)
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot write to Kafka sink '%s': column 'topic' is null or not a "
                           "topic's name; set option "
                           "'topic'",
                           sink->producer.name);
        memcpy(topic, name.data, name.size_bytes);
        topic[name.size_bytes] = '\0';
        record.topic = topic;
    }
    if (sink->partition_column >= 0) {
        const struct mr_column *partitions =
            mr_batch_column(batch, (uint32_t)sink->partition_column);

        if (!mr_column_is_null(partitions, row))
            record.partition = (int32_t)MR_MIN(mr_column_int(partitions, row), (int64_t)INT32_MAX);
        if (record.partition < RD_KAFKA_PARTITION_UA)
            return MR_FAIL(err, MR_BAD_DATA,
                           "cannot write to Kafka sink '%s': partition %" PRId32 " is negative",
                           sink->producer.name, record.partition);
    }
    return mr_ksink_producer_send(&sink->producer, &record, err);
}

static enum mr_status append(void *arg, const void *data, size_t size_bytes, struct mr_error *err)
{
    struct mr_buf *out = arg;

    mr_buf_add(out, data, size_bytes);
    return out->failed ? MR_FAIL(err, MR_NOMEM, "cannot encode rows for Kafka: out of memory")
                       : MR_OK;
}

static enum mr_status send_value(struct mr_sink *sink, const struct mr_batch *batch, int64_t row,
                                 const char *value, size_t size_bytes, struct mr_error *err)
{
    struct mr_ksink_record record = {
        sink->topic, RD_KAFKA_PARTITION_UA, {NULL, 0}, {value, size_bytes}};
    struct mr_row cursor = {batch, row};
    char text[256];
    char *large = NULL;
    enum mr_status status;

    if (sink->key_column >= 0 && !mr_row_is_null(&cursor, (uint32_t)sink->key_column)) {
        size_t size = mr_row_print(&cursor, (uint32_t)sink->key_column, text, sizeof(text));

        record.key = (struct mr_slice){text, size};
        if (size >= sizeof(text)) {
            large = size <= KEY_BYTES_MAX ? mr_alloc(NULL, size + 1) : NULL;
            if (large == NULL)
                return MR_FAIL(err, MR_LIMIT,
                               "cannot write to Kafka sink '%s': a key of %zu bytes is too large",
                               sink->producer.name, size);
            mr_row_print(&cursor, (uint32_t)sink->key_column, large, size + 1);
            record.key.data = large;
        }
    }
    status = mr_ksink_producer_send(&sink->producer, &record, err);
    mr_free(large);
    return status;
}

/* The format has line ends only between rows: one call for the whole batch. */
static enum mr_status send_lines(struct mr_sink *sink, const struct mr_batch *batch,
                                 struct mr_error *err)
{
    struct mr_buf out = MR_BUF_INIT;
    const char *at;
    enum mr_status status;

    MR_TRY_GOTO(sink->format->encode(sink->options, batch, false, append, &out, err));
    at = out.data;
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++) {
        const char *end = memchr(at, '\n', out.size - (size_t)(at - out.data));

        MR_ASSERT(end != NULL);
        MR_TRY_GOTO(send_value(sink, batch, row, at, (size_t)(end - at), err));
        at = end + 1;
    }
done:
    mr_buf_release(&out);
    return status;
}

static enum mr_status send_rows(struct mr_sink *sink, const struct mr_batch *batch,
                                struct mr_error *err)
{
    struct mr_buf out = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (int64_t row = 0; row < mr_batch_row_count(batch) && status == MR_OK; row++) {
        struct mr_batch *one = NULL;

        mr_buf_clear(&out);
        MR_TRY_GOTO(mr_batch_slice(batch, row, 1, &one, err));
        status = sink->format->encode(sink->options, one, false, append, &out, err);
        mr_batch_unref(one);
        if (status != MR_OK)
            goto done;
        if (out.size > 0 && out.data[out.size - 1] == '\n')
            out.size--;
        status = send_value(sink, batch, row, out.data, out.size, err);
    }
done:
    mr_buf_release(&out);
    return status;
}

static enum mr_status kafka_write(struct mr_sink *sink, uint32_t partition,
                                  const struct mr_batch *batch, struct mr_error *err)
{
    MR_UNUSED(partition);
    if (mr_batch_row_count(batch) == 0)
        return MR_OK;
    atomic_fetch_add(&sink->row_count, (uint64_t)mr_batch_row_count(batch));
    if (!sink->plain)
        return sink->line_format ? send_lines(sink, batch, err) : send_rows(sink, batch, err);
    for (int64_t row = 0; row < mr_batch_row_count(batch); row++)
        MR_TRY(send_plain_row(sink, batch, row, err));
    return MR_OK;
}

static enum mr_status kafka_stage(struct mr_sink *sink, struct mr_error *err)
{
    return mr_ksink_producer_flush(&sink->producer, err);
}

static enum mr_status kafka_publish(struct mr_sink *sink, uint64_t batch_id, char **ret_receipt,
                                    struct mr_error *err)
{
    MR_UNUSED(err);
    MR_ASSERT(batch_id == sink->batch_id);
    *ret_receipt = mr_asprintf("{\"rows\":%" PRIu64 "}", atomic_load(&sink->row_count));
    return MR_OK;
}

static void kafka_abort(struct mr_sink *sink)
{
    mr_ksink_producer_abort(&sink->producer);
}

static const struct mr_sink_ops kafka_ops = {
    .struct_size = sizeof(struct mr_sink_ops),
    .last_published = kafka_last_published,
    .begin = kafka_begin,
    .write = kafka_write,
    .stage = kafka_stage,
    .publish = kafka_publish,
    .abort = kafka_abort,
    .close = kafka_close,
    .concurrent = true,
};

extern const struct mr_sink_connector mr_sink_kafka_connector;
const struct mr_sink_connector mr_sink_kafka_connector = {
    .struct_size = sizeof(struct mr_sink_connector),
    .name = "kafka",
    .summary = "Writes rows as records of a topic; at least once: a batch that runs again writes "
               "them again.",
    .guarantee = MR_AT_LEAST_ONCE,
    .options = kafka_options,
    .option_count = MR_ARRAY_SIZE(kafka_options),
    .takes_format = true,
    .default_format = "raw",
    .modes = 1u << MR_MODE_APPEND | 1u << MR_MODE_UPDATE | 1u << MR_MODE_COMPLETE,
    .open = kafka_open,
    .ops = &kafka_ops,
    .checks_columns = true,
};
