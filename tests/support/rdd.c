/* See rdd.h. */
#include "support/rdd.h"

#include <stdlib.h>

enum { TEXT_BYTES = 1 << 16, ROWS_MAX = 4096 };

static void add_value(struct mr_batch_builder *builder, const struct mr_schema *schema,
                      uint32_t column, const char *text, size_t size)
{
    enum mr_type_id id = mr_schema_field(schema, column)->type.id;
    char copy[256];

    snprintf(copy, sizeof(copy), "%.*s", (int)size, text);
    if (strcmp(copy, "null") == 0)
        mr_batch_builder_null(builder, column);
    else if (id == MR_TYPE_TEXT)
        mr_batch_builder_text(builder, column, copy, strcmp(copy, "\"\"") == 0 ? 0 : size);
    else if (id == MR_TYPE_DOUBLE)
        mr_batch_builder_double(builder, column, strtod(copy, NULL));
    else
        mr_batch_builder_int(builder, column, strtoll(copy, NULL, 10));
}

struct mr_batch *rdd_batch(const char *columns, const char *text)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_schema *schema = NULL;
    struct mr_batch *batch = NULL;

    CHECK_OK(mr_schema_parse(columns, strlen(columns), &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    for (uint32_t column = 0; *text != '\0';) {
        size_t size = strcspn(text, ":,");

        add_value(builder, schema, column++, text, size);
        text += size;
        if (*text != ':') {
            mr_batch_builder_end_row(builder);
            column = 0;
        }
        text += *text != '\0';
        text += strspn(text, " ");
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    return batch;
}

static char *next_buffer(void)
{
    static _Thread_local char buffers[4][TEXT_BYTES];
    static _Thread_local unsigned next;
    char *buffer = buffers[next++ % 4];

    buffer[0] = '\0';
    return buffer;
}

static size_t print_row(const struct mr_row *row, char *text, size_t size)
{
    uint32_t columns = mr_schema_field_count(mr_batch_schema(row->batch));
    size_t used = 0;

    for (uint32_t i = 0; i < columns && used + 1 < size; i++) {
        size_t bytes;
        if (i > 0)
            text[used++] = ':';
        bytes = mr_row_print(row, i, text + used, size - used);
        if (bytes == 0)
            bytes = (size_t)snprintf(text + used, size - used, "\"\"");
        used += bytes;
    }
    return used;
}

static void append_rows(char *text, const struct mr_batch *batch)
{
    size_t used = strlen(text);

    for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
        if (row.index > 0)
            used += (size_t)snprintf(text + used, TEXT_BYTES - used, ", ");
        used += print_row(&row, text + used, TEXT_BYTES - used);
    }
}

const char *rdd_text(const struct mr_batch *batch)
{
    char *text = next_buffer();

    append_rows(text, batch);
    return text;
}

const char *rdd_rows(struct mr_rdd *rdd)
{
    struct mr_batch *batch = NULL;
    const char *text;
    struct mr_error err;

    CHECK_OK(mr_rdd_collect(rdd, &batch, &err), &err);
    text = rdd_text(batch);
    mr_batch_unref(batch);
    return text;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

const char *rdd_sorted(struct mr_rdd *rdd)
{
    char *rows[ROWS_MAX], *text = next_buffer();
    struct mr_batch *batch = NULL;
    struct mr_error err;
    size_t count = 0, used = 0;

    CHECK_OK(mr_rdd_collect(rdd, &batch, &err), &err);
    CHECK(mr_batch_row_count(batch) <= ROWS_MAX);
    for (struct mr_row row = {batch, 0}; row.index < mr_batch_row_count(batch); row.index++) {
        char line[1024];
        size_t size = print_row(&row, line, sizeof(line));
        rows[count++] = strndup(line, size);
    }
    qsort(rows, count, sizeof(char *), compare_texts);
    for (size_t i = 0; i < count; i++) {
        used +=
            (size_t)snprintf(text + used, TEXT_BYTES - used, "%s%s", i > 0 ? ", " : "", rows[i]);
        free(rows[i]);
    }
    mr_batch_unref(batch);
    return text;
}

const char *rdd_partitions(struct mr_rdd *rdd)
{
    char *text = next_buffer();

    for (uint32_t p = 0; p < mr_rdd_partition_count(rdd); p++) {
        struct mr_batch *batch = NULL;
        struct mr_error err;

        CHECK_OK(mr_rdd_partition(rdd, p, &batch, &err), &err);
        snprintf(text + strlen(text), TEXT_BYTES - strlen(text), "%s[", p > 0 ? " " : "");
        append_rows(text, batch);
        snprintf(text + strlen(text), TEXT_BYTES - strlen(text), "]");
        mr_batch_unref(batch);
    }
    return text;
}
