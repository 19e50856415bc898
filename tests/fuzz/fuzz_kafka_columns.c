/*
 * Records of Kafka as rows: key, value, place, times and headers of any bytes into columns of the
 * types that may take them, and tables that ask for columns which a record does not have. Texts
 * that are not UTF-8 make a bad record, never a bad value; what is not text comes back as it was.
 *
 * The record is ours: librdkafka's two functions that look behind the public part of one are
 * replaced here, its headers are real.
 */
#include "fuzz/fuzz.h"

#ifdef MR_WITH_KAFKA

#include "base/log.h"
#include "base/text.h"
#include "plugins/plugins.h"
#include "sources/kafka/kafka_source.h"

#include <string.h>

enum { HEADERS_MAX = 6 };

/* The record at hand: what stands behind the public part. */
static rd_kafka_headers_t *headers_of_record;
static rd_kafka_timestamp_type_t time_type;
static int64_t record_time_ms;

rd_kafka_resp_err_t rd_kafka_message_headers(const rd_kafka_message_t *message,
                                             rd_kafka_headers_t **ret_headers)
{
    MR_UNUSED(message);
    if (headers_of_record == NULL)
        return RD_KAFKA_RESP_ERR__NOENT;
    *ret_headers = headers_of_record;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}

int64_t rd_kafka_message_timestamp(const rd_kafka_message_t *message,
                                   rd_kafka_timestamp_type_t *ret_type)
{
    MR_UNUSED(message);
    if (ret_type != NULL)
        *ret_type = time_type;
    return record_time_ms;
}

/* A piece of the input: up to n bytes. */
static struct mr_slice take(struct fuzz_input *input, uint32_t n)
{
    size_t wanted = fuzz_below(input, n + 1), left = (size_t)(input->end - input->at);
    struct mr_slice slice = {(const char *)input->at, MR_MIN(wanted, left)};

    input->at += slice.size_bytes;
    return slice;
}

static void make_record(struct fuzz_input *input, rd_kafka_message_t *record)
{
    uint8_t what = fuzz_byte(input);
    struct mr_slice key = take(input, 20), value = take(input, 40);

    memset(record, 0, sizeof *record);
    if ((what & 1) != 0) {
        record->key = (void *)(uintptr_t)key.data;
        record->key_len = key.size_bytes;
    }
    if ((what & 2) != 0) {
        record->payload = (void *)(uintptr_t)value.data;
        record->len = value.size_bytes;
    }
    record->partition = (int32_t)fuzz_below(input, 1000);
    record->offset = (int64_t)fuzz_below(input, 60000);
    time_type = (rd_kafka_timestamp_type_t)(what / 4 % 3);
    record_time_ms = (what & 128) != 0 ? -1 : (int64_t)fuzz_below(input, 1 << 24) * 100000;
    headers_of_record = NULL;
    if ((what & 64) == 0)
        return;
    headers_of_record = rd_kafka_headers_new(4);
    for (uint32_t count = fuzz_below(input, HEADERS_MAX); count > 0; count--) {
        struct mr_slice name = take(input, 8), content = take(input, 12);
        bool none = fuzz_below(input, 4) == 0;

        (void)rd_kafka_header_add(headers_of_record, name.data, (ssize_t)name.size_bytes,
                                  none ? NULL : content.data,
                                  none ? 0 : (ssize_t)content.size_bytes);
    }
}

static void check_headers(const struct mr_column *column)
{
    size_t count = 0;
    const char *name;
    const void *value;
    size_t size;

    if (headers_of_record == NULL) {
        FUZZ_CHECK(mr_column_is_null(column, 0));
        return;
    }
    FUZZ_CHECK(!mr_column_is_null(column, 0));
    while (rd_kafka_header_get_all(headers_of_record, count, &name, &value, &size) ==
           RD_KAFKA_RESP_ERR_NO_ERROR) {
        const struct mr_column *names = &column->children[0].children[0];
        const struct mr_column *values = &column->children[0].children[1];
        struct mr_slice have = mr_column_text(values, (int64_t)count);

        FUZZ_CHECK(mr_column_is_null(names, (int64_t)count) == !mr_utf8_valid(name, strlen(name)));
        FUZZ_CHECK(mr_column_is_null(values, (int64_t)count) == (value == NULL));
        if (value != NULL)
            FUZZ_CHECK(have.size_bytes == size && memcmp(have.data, value, size) == 0);
        count++;
    }
    FUZZ_CHECK(column->offsets[1] - column->offsets[0] == (int32_t)count);
}

static void check_bytes(const struct mr_column *column, const void *data, size_t size)
{
    struct mr_slice have = mr_column_text(column, 0);

    FUZZ_CHECK(mr_column_is_null(column, 0) == (data == NULL));
    if (data != NULL)
        FUZZ_CHECK(have.size_bytes == size && (size == 0 || memcmp(have.data, data, size) == 0));
    if (data != NULL && column->type->id == MR_TYPE_TEXT)
        FUZZ_CHECK(mr_utf8_valid(have.data, have.size_bytes));
}

static void try_record(struct fuzz_input *input)
{
    static const char *const tables[] = {
        "key BLOB, value BLOB, topic VARCHAR, partition INTEGER, offset BIGINT, timestamp "
        "TIMESTAMP, timestamp_type INTEGER, headers STRUCT(key VARCHAR, value BLOB)[]",
        "key VARCHAR, value VARCHAR, partition BIGINT, timestamp TIMESTAMP_NS, timestamp_type "
        "BIGINT",
    };
    const char *text = tables[fuzz_below(input, 2)];
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    rd_kafka_message_t record;
    bool taken, valid;

    if (mr_schema_parse(text, strlen(text), &schema, NULL) != MR_OK)
        return;
    make_record(input, &record);
    valid = text == tables[0] ||
            ((record.key == NULL || mr_utf8_valid(record.key, record.key_len)) &&
             (record.payload == NULL || mr_utf8_valid(record.payload, record.len)));
    if (mr_batch_builder_new(schema, &builder, NULL) == MR_OK) {
        taken = mr_ksrc_columns_append(schema, &record, "topic", builder);
        FUZZ_CHECK(taken == valid);
        if (mr_batch_builder_finish(builder, &batch, NULL) == MR_OK) {
            FUZZ_CHECK(mr_batch_row_count(batch) == (taken ? 1 : 0));
            if (taken) {
                check_bytes(mr_batch_column(batch, 0), record.key, record.key_len);
                check_bytes(mr_batch_column(batch, 1), record.payload, record.len);
            }
            if (taken && text == tables[0])
                check_headers(mr_batch_column(batch, 7));
        } else {
            FUZZ_CHECK(false);
        }
    }
    if (headers_of_record != NULL)
        rd_kafka_headers_destroy(headers_of_record);
    headers_of_record = NULL;
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

static void drop_line(void *arg, enum mr_log_level level, const char *line, size_t size)
{
    MR_UNUSED(arg);
    MR_UNUSED(level);
    MR_UNUSED(line);
    MR_UNUSED(size);
}

/* Columns of a table and the option that names those of the record: taken, or refused by name. */
static void try_table(struct fuzz_input *input)
{
    static const char *const names[] = {"key",       "value",   "topic", "partition",      "offset",
                                        "timestamp", "headers", "n",     "timestamp_type", "KEY"};
    static const char *const types[] = {"VARCHAR",
                                        "BLOB",
                                        "INTEGER",
                                        "BIGINT",
                                        "TIMESTAMP",
                                        "TIMESTAMP_NS",
                                        "DOUBLE",
                                        "STRUCT(key VARCHAR, value BLOB)[]",
                                        "STRUCT(key VARCHAR)[]",
                                        "VARCHAR[]"};
    static const char *const formats[] = {"raw", "text", "json", "csv"};
    const struct mr_source_connector *kafka = mr_source_find("kafka");
    const struct mr_format *format = mr_format_find(formats[fuzz_below(input, 4)]);
    struct mr_option_table own = {"connector 'kafka'", kafka->options, kafka->option_count};
    struct mr_option_table of_format = {"format", format->options, format->option_count};
    const struct mr_option_table *tables[] = {&own, &of_format};
    struct mr_option_pair pairs[] = {{"brokers", "b:1"}, {"topic", "t"}, {"metadata_columns", ""}};
    struct mr_source_args args = {.name = "t", .format = format};
    struct mr_ksrc_columns columns = {0};
    struct mr_options *options = NULL;
    struct mr_schema *schema = NULL;
    struct mr_buf text = MR_BUF_INIT, listed = MR_BUF_INIT;
    struct mr_error err = {0};

    for (uint32_t i = 0, count = 1 + fuzz_below(input, 4); i < count; i++) {
        const char *name = names[fuzz_below(input, MR_ARRAY_SIZE(names))];

        mr_buf_printf(&text, "%s%s %s", i > 0 ? ", " : "", name,
                      types[fuzz_below(input, MR_ARRAY_SIZE(types))]);
        if (fuzz_below(input, 2) == 0)
            mr_buf_printf(&listed, "%s%s", i > 0 ? " , " : " ", name);
    }
    mr_buf_add_char(&listed, '\0');
    if (text.failed || listed.failed)
        goto done;
    pairs[2].value = listed.data;
    if (mr_options_parse(tables, 2, pairs, listed.size > 1 ? 3 : 2, MR_OPTION_SOURCE, &options,
                         &err) == MR_OK &&
        mr_schema_parse(text.data, text.size, &schema, &err) == MR_OK) {
        args.options = options;
        args.schema = schema;
        args.declared = fuzz_below(input, 8) == 0 ? NULL : schema;
        mr_log_set_sink(drop_line, NULL); /* it says which columns are metadata */
        if (mr_ksrc_columns_init(&columns, &args, &err) != MR_OK)
            FUZZ_REFUSED(&err, MR_CONFIG);
        else
            FUZZ_CHECK(mr_schema_field_count(columns.schema) == mr_schema_field_count(schema));
        mr_log_set_sink(NULL, NULL);
        mr_ksrc_columns_release(&columns);
    } else {
        FUZZ_REFUSED(&err, MR_CONFIG);
    }
done:
    mr_options_free(options);
    mr_schema_unref(schema);
    mr_buf_release(&text);
    mr_buf_release(&listed);
}

static void one(const uint8_t *data, size_t size)
{
    struct fuzz_input input = fuzz_input_of(data, size);

    if (fuzz_byte(&input) % 4 == 0)
        try_table(&input);
    else
        try_record(&input);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    mr_plugins_register();
    (void)mr_ksrc_fixed_schema(NULL); /* lives for ever */
    return size > 1000 ? 0 : fuzz_run(one, data, size);
}

#else

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    (void)data;
    (void)size;
    return 0;
}

#endif
