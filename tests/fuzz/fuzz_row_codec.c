/*
 * Any bytes as stored rows: what decodes is encoded to the same bytes (readers take exactly what
 * the writers make), keys keep their order as bytes, and what does not decode leaves nothing
 * behind. The first byte chooses the columns, its top bit keys or values.
 */
#include "fuzz/fuzz.h"

#include "data/row_codec.h"

#include <millrace/batch.h>

#include <string.h>

static const char *const schemas[] = {
    "a BIGINT, b VARCHAR, c DOUBLE",
    "a BOOLEAN, b TINYINT, c SMALLINT, d INTEGER, e FLOAT, f DATE, g TIMESTAMP, h TIMESTAMP_NS",
    "a DECIMAL(38,3), b BLOB, c VARCHAR[]",
    "a STRUCT(x BIGINT, y VARCHAR[]), b STRUCT(p STRUCT(q DOUBLE), r BOOLEAN)[]",
    "a VARCHAR",
    "a UTINYINT, b USMALLINT, c UINTEGER, d UBIGINT, e BIGINT[][]",
};
enum { SCHEMAS = sizeof schemas / sizeof schemas[0], COLUMNS_MAX = 16, ROWS_MAX = 8 };

struct rows {
    struct mr_schema *schema;
    struct mr_batch_builder *builder;
    struct mr_column_builder *columns[COLUMNS_MAX];
    uint32_t count;
};

static void rows_end(struct rows *rows)
{
    mr_batch_builder_free(rows->builder);
    mr_schema_unref(rows->schema);
}

/* False: no memory, nothing to end. */
static bool rows_begin(struct rows *rows, const char *text)
{
    struct mr_error err = {0};

    memset(rows, 0, sizeof *rows);
    if (mr_schema_parse(text, strlen(text), &rows->schema, &err) != MR_OK ||
        mr_batch_builder_new(rows->schema, &rows->builder, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_NOMEM);
        rows_end(rows);
        return false;
    }
    rows->count = mr_schema_field_count(rows->schema);
    for (uint32_t i = 0; i < rows->count; i++)
        rows->columns[i] = mr_batch_builder_column(rows->builder, i);
    return true;
}

/* One row; one that is refused leaves the columns as they were. */
static bool decode_row(struct rows *rows, bool key, struct mr_bytes *bytes)
{
    struct mr_error err = {0};
    enum mr_status status = MR_OK;

    if (!key)
        status = mr_value_decode(bytes, rows->columns, rows->count, &err);
    for (uint32_t i = 0; key && i < rows->count && status == MR_OK; i++) {
        status =
            mr_key_decode(bytes, &mr_schema_field(rows->schema, i)->type, rows->columns[i], &err);
        while (status != MR_OK && i > 0)
            mr_column_builder_pop(rows->columns[--i]);
        if (status != MR_OK)
            break;
    }
    if (status != MR_OK)
        FUZZ_REFUSED3(&err, MR_CORRUPT, MR_LIMIT, MR_CORRUPT);
    return status == MR_OK;
}

static void encode_row(struct mr_buf *out, const struct mr_batch *batch, bool key, int64_t row)
{
    const struct mr_column *columns[COLUMNS_MAX] = {NULL};
    uint32_t count = mr_schema_field_count(mr_batch_schema(batch));

    for (uint32_t i = 0; i < count; i++)
        columns[i] = mr_batch_column(batch, i);
    if (!key)
        mr_value_encode(out, columns, count, row);
    for (uint32_t i = 0; key && i < count; i++)
        mr_key_encode(out, columns[i], row);
}

static void check_rows(struct rows *rows, bool key, const uint8_t *data, const size_t *ends,
                       int64_t count)
{
    struct mr_batch *batch = NULL;
    struct mr_buf out = MR_BUF_INIT;
    struct mr_error err = {0};
    size_t from = 0;

    if (mr_batch_builder_rows_added(rows->builder, count, &err) != MR_OK ||
        mr_batch_builder_finish(rows->builder, &batch, &err) != MR_OK) {
        FUZZ_REFUSED(&err, MR_NOMEM);
        return;
    }
    for (int64_t row = 0; row < count; row++) {
        struct mr_buf in = {(char *)(uintptr_t)data + from, ends[row] - from, 0, false};
        char text[64];

        mr_buf_clear(&out);
        encode_row(&out, batch, key, row);
        if (!out.failed)
            FUZZ_SAME(&in, &out);
        for (uint32_t i = 0; i < rows->count; i++)
            (void)mr_row_print(&(struct mr_row){batch, row}, i, text, sizeof text);
        from = ends[row];
    }
    mr_buf_release(&out);
    mr_batch_unref(batch);
}

/* Keys of one integer and one text compare as the values do. */
static void check_order(const uint8_t *data, size_t size)
{
    struct rows rows;
    struct mr_batch *batch = NULL;
    struct mr_buf a = MR_BUF_INIT, b = MR_BUF_INIT;

    if (size < 18 || !rows_begin(&rows, "a BIGINT, b VARCHAR"))
        return;
    for (int row = 0; row < 2; row++) {
        int64_t number;

        memcpy(&number, data + 8 * row, 8);
        mr_batch_builder_int(rows.builder, 0, (data[16] & 1) != 0 ? number : number % 2);
        mr_batch_builder_text(rows.builder, 1, row == 0 ? "" : (const char *)data + 17,
                              row == 0 ? 0 : size - 17);
        mr_batch_builder_end_row(rows.builder);
    }
    if (mr_batch_builder_finish(rows.builder, &batch, NULL) == MR_OK) {
        int64_t x = mr_column_int(mr_batch_column(batch, 0), 0);
        int64_t y = mr_column_int(mr_batch_column(batch, 0), 1);
        int order;

        encode_row(&a, batch, true, 0);
        encode_row(&b, batch, true, 1);
        if (!a.failed && !b.failed) {
            order = memcmp(a.data, b.data, MR_MIN(a.size, b.size));
            FUZZ_CHECK(x < y ? order < 0 : x > y ? order > 0 : order <= 0);
        }
        mr_batch_unref(batch);
    }
    mr_buf_release(&a);
    mr_buf_release(&b);
    rows_end(&rows);
}

static void one(const uint8_t *data, size_t size)
{
    struct mr_bytes bytes;
    struct rows rows;
    size_t ends[ROWS_MAX];
    int64_t count = 0;
    bool key;

    if (size < 2)
        return;
    key = (data[0] & 128) != 0;
    check_order(data, size);
    if (!rows_begin(&rows, schemas[data[0] % 64 % SCHEMAS]))
        return;
    bytes = mr_bytes_of(data + 1, size - 1);
    while (count < ROWS_MAX && mr_bytes_left(&bytes) > 0 && decode_row(&rows, key, &bytes))
        ends[count++] = (size_t)(bytes.at - (data + 1));
    /* A row that was refused: its columns are as long as they were. */
    check_rows(&rows, key, data + 1, ends, count);
    rows_end(&rows);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
