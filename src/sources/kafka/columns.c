/*
 * Which column of a Kafka table comes from where.
 *
 *   no columns declared, formats raw and text      key, value, topic, partition, offset, timestamp,
 *                                                  timestamp_type
 *   columns declared, formats raw and text         those of the names above, and headers; value: as
 *                                                  it is
 *   columns declared, other formats                names listed in metadata_columns come from the
 *                                                  record's metadata, all others from its value,
 *                                                  decoded by the format
 *
 * A null value (a tombstone) is a row whose decoded columns are null.
 *
 * Thread: init on the driver, then read-only.
 */
#include "sources/kafka/kafka_source.h"

#include "base/text.h"

#include <millrace/ext/builder.h>

#include <string.h>

enum { METADATA_KINDS = 9 };

static const char *const names[METADATA_KINDS] = {
    [KSRC_FROM_FORMAT] = "",
    [KSRC_FROM_KEY] = "key",
    [KSRC_FROM_VALUE] = "value",
    [KSRC_FROM_TOPIC] = "topic",
    [KSRC_FROM_PARTITION] = "partition",
    [KSRC_FROM_OFFSET] = "offset",
    [KSRC_FROM_TIMESTAMP] = "timestamp",
    [KSRC_FROM_TIMESTAMP_TYPE] = "timestamp_type",
    [KSRC_FROM_HEADERS] = "headers",
};

const struct mr_schema *mr_ksrc_fixed_schema(const struct mr_options *options)
{
    static const struct mr_field fields[] = {
        {"key", {.id = MR_TYPE_BINARY}},           {"value", {.id = MR_TYPE_BINARY}},
        {"topic", {.id = MR_TYPE_TEXT}},           {"partition", {.id = MR_TYPE_INT32}},
        {"offset", {.id = MR_TYPE_INT64}},         {"timestamp", {.id = MR_TYPE_TIMESTAMP}},
        {"timestamp_type", {.id = MR_TYPE_INT32}},
    };
    static _Atomic(struct mr_schema *) kept;
    struct mr_schema *schema = atomic_load(&kept);
    struct mr_schema *expected = NULL;

    MR_UNUSED(options);
    if (schema != NULL || mr_schema_new(fields, MR_ARRAY_SIZE(fields), &schema, NULL) != MR_OK)
        return schema;
    if (!atomic_compare_exchange_strong(&kept, &expected, schema)) {
        mr_schema_unref(schema);
        schema = expected;
    }
    return schema;
}

static enum mr_ksrc_from from_name(const char *name)
{
    for (int i = 1; i < METADATA_KINDS; i++)
        if (mr_text_equal_nocase(name, strlen(name), names[i], strlen(names[i])))
            return (enum mr_ksrc_from)i;
    return KSRC_FROM_FORMAT;
}

/* Is name in a list "a,b,c"? */
static bool is_listed(const char *list, const char *name)
{
    size_t size = strlen(name);

    while (list != NULL && *list != '\0') {
        size_t item = strcspn(list, ",");
        size_t blanks = strspn(list, " ");
        size_t end = item;

        while (end > blanks && list[end - 1] == ' ')
            end--;
        if (blanks <= end && mr_text_equal_nocase(list + blanks, end - blanks, name, size))
            return true;
        list += item + (list[item] == ',');
    }
    return false;
}

/* STRUCT(key VARCHAR, value BLOB)[] */
static bool is_headers(const struct mr_type *type)
{
    const struct mr_type *item;

    if (type->id != MR_TYPE_LIST)
        return false;
    item = &type->fields[0].type;
    return item->id == MR_TYPE_STRUCT && item->field_count == 2 &&
           item->fields[0].type.id == MR_TYPE_TEXT && item->fields[1].type.id == MR_TYPE_BINARY;
}

static bool type_fits(enum mr_ksrc_from from, const struct mr_type *type)
{
    enum mr_type_id id = type->id;

    switch (from) {
    case KSRC_FROM_HEADERS:
        return is_headers(type);
    case KSRC_FROM_KEY:
    case KSRC_FROM_VALUE:
        return id == MR_TYPE_BINARY || id == MR_TYPE_TEXT;
    case KSRC_FROM_TOPIC:
        return id == MR_TYPE_TEXT;
    case KSRC_FROM_PARTITION:
    case KSRC_FROM_TIMESTAMP_TYPE:
        return id == MR_TYPE_INT32 || id == MR_TYPE_INT64;
    case KSRC_FROM_OFFSET:
        return id == MR_TYPE_INT64;
    case KSRC_FROM_TIMESTAMP:
        return id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS;
    default:
        return true;
    }
}

/* Where a column of the table comes from; MR_CONFIG when its type does not fit. */
static enum mr_status judge(const struct mr_source_args *args, const struct mr_field *field,
                            bool plain, enum mr_ksrc_from *ret_from, struct mr_error *err)
{
    enum mr_ksrc_from from = from_name(field->name);
    bool listed = is_listed(mr_options_text(args->options, "metadata_columns"), field->name);

    if (!plain && (from == KSRC_FROM_VALUE || !listed))
        from = KSRC_FROM_FORMAT;
    if (plain && from == KSRC_FROM_FORMAT)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka source '%s': format '%s' has no column '%s'; it has key, "
                       "value, topic, "
                       "partition, offset, timestamp, timestamp_type, headers",
                       args->name, args->format->name, field->name);
    if (!type_fits(from, &field->type)) {
        char type[64];

        mr_type_print(&field->type, type, sizeof(type));
        return MR_FAIL(
            err, MR_CONFIG,
            "cannot open Kafka source '%s': column '%s' comes from the record's metadata and "
            "cannot be %s; "
            "change its type, or leave it out of 'metadata_columns' to take it from the value",
            args->name, field->name, type);
    }
    *ret_from = from;
    return MR_OK;
}

/* The fields of schema that come from the value (decoded), or the others. */
static enum mr_status subset(const struct mr_source_args *args, const struct mr_schema *schema,
                             bool decoded, struct mr_schema **ret_schema, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(schema);
    struct mr_field *fields = mr_alloc(NULL, (count + (size_t)1) * sizeof(*fields));
    uint32_t kept = 0;
    enum mr_status status = MR_OK;

    if (fields == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open Kafka source '%s': out of memory", args->name);
    for (uint32_t i = 0; i < count; i++) {
        enum mr_ksrc_from from = KSRC_FROM_FORMAT;

        MR_TRY_GOTO(judge(args, mr_schema_field(schema, i), false, &from, err));
        if ((from == KSRC_FROM_FORMAT) == decoded)
            fields[kept++] = *mr_schema_field(schema, i);
    }
    status = mr_schema_new(fields, kept, ret_schema, err);
done:
    mr_free(fields);
    return status;
}

static enum mr_status init_decoded(struct mr_ksrc_columns *columns,
                                   const struct mr_source_args *args, struct mr_error *err)
{
    if (args->declared == NULL)
        return MR_FAIL(err, MR_CONFIG,
                       "cannot open Kafka source '%s': format '%s' needs the columns of its "
                       "records; declare them",
                       args->name, args->format->name);
    MR_TRY(subset(args, args->declared, true, &columns->decoded_declared, err));
    MR_TRY(subset(args, args->schema, true, &columns->decoded, err));
    MR_TRY(subset(args, args->schema, false, &columns->metadata, err));
    if (args->format->check != NULL)
        MR_TRY(args->format->check(columns->decoded_declared, args->options, false, err));
    columns->mixed = mr_schema_field_count(columns->metadata) > 0;
    for (uint32_t i = 0; i < mr_schema_field_count(columns->metadata); i++)
        mr_ext_log('I', args->name,
                   "column '%s' comes from the records' metadata, not from their values "
                   "(metadata_columns)",
                   mr_schema_field(columns->metadata, i)->name);
    return MR_OK;
}

enum mr_status mr_ksrc_columns_init(struct mr_ksrc_columns *columns,
                                    const struct mr_source_args *args, struct mr_error *err)
{
    uint32_t count = mr_schema_field_count(args->schema);

    columns->schema = mr_schema_ref(args->schema);
    columns->plain =
        strcmp(args->format->name, "raw") == 0 || strcmp(args->format->name, "text") == 0;
    columns->from = mr_alloc(NULL, (count + (size_t)1) * sizeof(*columns->from));
    if (columns->from == NULL)
        return MR_FAIL(err, MR_NOMEM, "cannot open Kafka source '%s': out of memory", args->name);
    for (uint32_t i = 0; i < count; i++)
        MR_TRY(
            judge(args, mr_schema_field(args->schema, i), columns->plain, &columns->from[i], err));
    return columns->plain ? MR_OK : init_decoded(columns, args, err);
}

void mr_ksrc_columns_release(struct mr_ksrc_columns *columns)
{
    mr_schema_unref(columns->schema);
    mr_schema_unref(columns->decoded_declared);
    mr_schema_unref(columns->decoded);
    mr_schema_unref(columns->metadata);
    mr_free(columns->from);
    memset(columns, 0, sizeof(*columns));
}

/* A record without a time has -1. */
static void append_time(const rd_kafka_message_t *message, const struct mr_type *type, bool kind,
                        struct mr_batch_builder *builder, uint32_t column)
{
    rd_kafka_timestamp_type_t time_type;
    int64_t time_ms = rd_kafka_message_timestamp(message, &time_type);

    if (kind)
        mr_batch_builder_int(builder, column,
                             time_type == RD_KAFKA_TIMESTAMP_CREATE_TIME       ? 0
                             : time_type == RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME ? 1
                                                                               : -1);
    else if (time_type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE || time_ms < 0)
        mr_batch_builder_null(builder, column);
    else
        mr_batch_builder_int(builder, column,
                             time_ms * (type->id == MR_TYPE_TIMESTAMP_NS ? 1000000 : 1000));
}

static void append_bytes(const void *data, size_t size_bytes, struct mr_batch_builder *builder,
                         uint32_t column)
{
    if (data == NULL)
        mr_batch_builder_null(builder, column);
    else
        mr_batch_builder_text(builder, column, data, size_bytes);
}

/* Null when there are none; a header's name that is not UTF-8 is null. */
static void append_headers(const rd_kafka_message_t *message, struct mr_batch_builder *builder,
                           uint32_t column)
{
    struct mr_column_builder *list = mr_batch_builder_column(builder, column);
    struct mr_column_builder *item = &list->children[0];
    rd_kafka_headers_t *headers = NULL;
    const char *name;
    const void *value;
    size_t size;
    enum mr_status status = MR_OK;

    if (rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        mr_batch_builder_null(builder, column);
        return;
    }
    for (size_t i = 0;
         status == MR_OK &&
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++) {
        status = mr_utf8_valid(name, strlen(name))
                     ? mr_column_builder_text(&item->children[0], name, strlen(name), NULL)
                     : mr_column_builder_null(&item->children[0], NULL);
        if (status == MR_OK)
            status = value != NULL ? mr_column_builder_text(&item->children[1], value, size, NULL)
                                   : mr_column_builder_null(&item->children[1], NULL);
        if (status == MR_OK)
            status = mr_column_builder_struct_end(item, NULL);
    }
    if (status == MR_OK)
        status = mr_column_builder_list_end(list, NULL);
    if (status != MR_OK) {
        mr_column_builder_truncate(list, list->length);
        mr_batch_builder_int(builder, column, 0); /* of another type: sticks, finish returns it */
    }
}

static bool text_is_valid(const struct mr_schema *schema, const rd_kafka_message_t *message)
{
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        const struct mr_field *field = mr_schema_field(schema, i);
        enum mr_ksrc_from from = from_name(field->name);

        if (field->type.id != MR_TYPE_TEXT)
            continue;
        if (from == KSRC_FROM_KEY && message->key != NULL &&
            !mr_utf8_valid(message->key, message->key_len))
            return false;
        if (from == KSRC_FROM_VALUE && message->payload != NULL &&
            !mr_utf8_valid(message->payload, message->len))
            return false;
    }
    return true;
}

bool mr_ksrc_columns_append(const struct mr_schema *schema, const rd_kafka_message_t *message,
                            const char *topic, struct mr_batch_builder *builder)
{
    if (!text_is_valid(schema, message))
        return false;
    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        const struct mr_field *field = mr_schema_field(schema, i);
        enum mr_ksrc_from from = from_name(field->name);

        if (from == KSRC_FROM_KEY)
            append_bytes(message->key, message->key_len, builder, i);
        else if (from == KSRC_FROM_VALUE)
            append_bytes(message->payload, message->len, builder, i);
        else if (from == KSRC_FROM_TOPIC)
            mr_batch_builder_text(builder, i, topic, strlen(topic));
        else if (from == KSRC_FROM_PARTITION)
            mr_batch_builder_int(builder, i, message->partition);
        else if (from == KSRC_FROM_OFFSET)
            mr_batch_builder_int(builder, i, message->offset);
        else if (from == KSRC_FROM_HEADERS)
            append_headers(message, builder, i);
        else
            append_time(message, &field->type, from == KSRC_FROM_TIMESTAMP_TYPE, builder, i);
    }
    mr_batch_builder_end_row(builder);
    return true;
}
