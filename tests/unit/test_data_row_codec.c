/* Keys and values of state as bytes: order, round trips, damaged bytes. */
#include "data/row_codec.h"

#include "support/test.h"

#include <millrace/batch.h>

#include <math.h>

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static struct mr_schema *parse(const char *text)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    return schema;
}

static double random_double(void)
{
    static const double some[] = {0.0, -0.0, INFINITY,  -INFINITY, NAN,
                                  1.0, -1.0, 0x1p-1074, 1e308,     0.1};
    uint64_t r = next_random();
    double value;

    if (r % 3 == 0)
        return some[(r >> 8) % 10];
    memcpy(&value, &r, sizeof value);
    return r % 3 == 1 ? value : (double)((int64_t)r >> 40);
}

static void add_random(struct mr_column_builder *column)
{
    struct mr_error err = {0};
    uint64_t r = next_random();
    char text[8];

    if (r % 7 == 0) {
        CHECK_OK(mr_column_builder_null(column, &err), &err);
        return;
    }
    r >>= 3;
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        CHECK_OK(mr_column_builder_bool(column, r & 1, &err), &err);
        return;
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        CHECK_OK(mr_column_builder_double(column, random_double(), &err), &err);
        return;
    case MR_TYPE_DECIMAL:
        CHECK_OK(mr_column_builder_decimal(column, ((mr_int128)(int64_t)r << (r % 50)), &err),
                 &err);
        return;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        for (int i = 0; i < 8; i++)
            text[i] = "\0\0\x01\xff"
                      "ab"[next_random() % 6];
        CHECK_OK(mr_column_builder_text(column, text, r % 6, &err), &err);
        return;
    case MR_TYPE_LIST:
        for (uint64_t i = 0; i < r % 4; i++)
            add_random(&column->children[0]);
        CHECK_OK(mr_column_builder_list_end(column, &err), &err);
        return;
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < column->type->field_count; i++)
            add_random(&column->children[i]);
        CHECK_OK(mr_column_builder_struct_end(column, &err), &err);
        return;
    case MR_TYPE_UINT8:
    case MR_TYPE_UINT16:
    case MR_TYPE_UINT32:
    case MR_TYPE_UINT64:
        CHECK_OK(mr_column_builder_uint(column, r & 0xff, &err), &err);
        return;
    default:
        CHECK_OK(mr_column_builder_int(column, (int64_t)(r % 256) - 128, &err), &err);
        return;
    }
}

static struct mr_batch *random_column(const struct mr_schema *schema, int64_t rows)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int64_t i = 0; i < rows; i++) {
        for (uint32_t c = 0; c < mr_schema_field_count(schema); c++)
            add_random(mr_batch_builder_column(builder, c));
        CHECK_OK(mr_batch_builder_rows_added(builder, 1, &err), &err);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    return batch;
}

static int sign(int64_t value)
{
    return value > 0 ? 1 : value < 0 ? -1 : 0;
}

static int compare_doubles(double a, double b)
{
    if (isnan(a) || isnan(b))
        return (int)isnan(a) - (int)isnan(b);
    return a > b ? 1 : a < b ? -1 : 0;
}

/* The order that the key encoding promises, told by the values alone. */
static int compare(const struct mr_column *column, int64_t a, int64_t b)
{
    bool a_null = mr_column_is_null(column, a);
    bool b_null = mr_column_is_null(column, b);

    if (a_null || b_null)
        return (int)b_null - (int)a_null;
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        return (int)mr_column_bool(column, a) - (int)mr_column_bool(column, b);
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        return compare_doubles(mr_column_double(column, a), mr_column_double(column, b));
    case MR_TYPE_DECIMAL: {
        mr_int128 x = mr_column_decimal(column, a);
        mr_int128 y = mr_column_decimal(column, b);
        return x > y ? 1 : x < y ? -1 : 0;
    }
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY: {
        struct mr_slice x = mr_column_text(column, a);
        struct mr_slice y = mr_column_text(column, b);
        size_t least = x.size_bytes < y.size_bytes ? x.size_bytes : y.size_bytes;
        int order = memcmp(x.data, y.data, least);
        return order != 0 ? sign(order) : sign((int64_t)x.size_bytes - (int64_t)y.size_bytes);
    }
    case MR_TYPE_LIST: {
        int32_t i = column->offsets[a];
        int32_t k = column->offsets[b];
        for (; i < column->offsets[a + 1] && k < column->offsets[b + 1]; i++, k++) {
            int order = compare(&column->children[0], i, k);
            if (order != 0)
                return order;
        }
        return (int)(i < column->offsets[a + 1]) - (int)(k < column->offsets[b + 1]);
    }
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < column->type->field_count; i++) {
            int order = compare(&column->children[i], a, b);
            if (order != 0)
                return order;
        }
        return 0;
    default:
        return sign(mr_column_int(column, a) - mr_column_int(column, b));
    }
}

static int compare_bytes(const struct mr_buf *a, const struct mr_buf *b)
{
    size_t least = a->size < b->size ? a->size : b->size;
    int order = memcmp(a->data, b->data, least);

    return order != 0 ? sign(order) : sign((int64_t)a->size - (int64_t)b->size);
}

static const char *const types[] = {
    "v BOOLEAN",
    "v TINYINT",
    "v SMALLINT",
    "v INT",
    "v BIGINT",
    "v UTINYINT",
    "v USMALLINT",
    "v UINTEGER",
    "v UBIGINT",
    "v FLOAT",
    "v DOUBLE",
    "v DECIMAL(38,2)",
    "v TEXT",
    "v BLOB",
    "v DATE",
    "v TIMESTAMP",
    "v TIMESTAMP_NS",
    "v INT[]",
    "v TEXT[]",
    "v STRUCT(a TEXT, b INT)",
    "v STRUCT(a INT[], b TEXT)[]",
};

TEST(key_bytes_sort_like_the_values)
{
    random_state = test_seed(42);
    for (size_t t_index = 0; t_index < sizeof types / sizeof types[0]; t_index++) {
        struct mr_schema *schema = parse(types[t_index]);
        struct mr_batch *batch = random_column(schema, 120);
        const struct mr_column *column = mr_batch_column(batch, 0);
        struct mr_buf keys[120] = {{0}};

        for (int i = 0; i < 120; i++)
            mr_key_encode(&keys[i], column, i);
        for (int i = 0; i < 120; i++) {
            for (int k = 0; k < 120; k++) {
                if (compare_bytes(&keys[i], &keys[k]) != compare(column, i, k))
                    FAIL("%s: rows %d and %d sort differently", types[t_index], i, k);
            }
        }
        for (int i = 0; i < 120; i++)
            mr_buf_release(&keys[i]);
        mr_batch_unref(batch);
        mr_schema_unref(schema);
    }
}

TEST(keys_and_values_come_back_as_they_were)
{
    struct mr_schema *schema = parse(
        "a BOOLEAN, b TINYINT, c SMALLINT, d INT, e BIGINT, f UBIGINT, g FLOAT, h DOUBLE, i "
        "DECIMAL(38,2), "
        "j TEXT, k BLOB, l DATE, m TIMESTAMP, n INT[], o STRUCT(x TEXT, y STRUCT(z INT[])[])");
    struct mr_error err = {0};

    random_state = test_seed(7);
    struct mr_batch *batch = random_column(schema, 200);
    struct mr_batch_builder *builder = NULL;
    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t row = 0; row < 200; row++) {
            const struct mr_column *columns[15];
            struct mr_column_builder *out[15];
            struct mr_buf first = MR_BUF_INIT;
            struct mr_buf second = MR_BUF_INIT;

            for (uint32_t c = 0; c < 15; c++) {
                columns[c] = mr_batch_column(batch, c);
                out[c] = mr_batch_builder_column(builder, c);
                if (pass == 0)
                    mr_key_encode(&first, columns[c], row);
            }
            if (pass == 1)
                mr_value_encode(&first, columns, 15, row);
            struct mr_bytes bytes = mr_bytes_of(first.data, first.size);
            for (uint32_t c = 0; pass == 0 && c < 15; c++)
                CHECK_OK(mr_key_decode(&bytes, columns[c]->type, out[c], &err), &err);
            if (pass == 1)
                CHECK_OK(mr_value_decode(&bytes, out, 15, &err), &err);
            CHECK_EQ_UINT(mr_bytes_left(&bytes), 0);
            CHECK_OK(mr_batch_builder_rows_added(builder, 1, &err), &err);
            struct mr_batch *one = NULL;
            CHECK_OK(mr_batch_builder_finish(builder, &one, &err), &err);
            for (uint32_t c = 0; c < 15; c++) {
                columns[c] = mr_batch_column(one, c);
                if (pass == 0)
                    mr_key_encode(&second, columns[c], 0);
            }
            if (pass == 1)
                mr_value_encode(&second, columns, 15, 0);
            CHECK_EQ_UINT(second.size, first.size);
            CHECK_EQ_MEM(second.data, first.data, first.size);
            mr_batch_unref(one);
            mr_buf_release(&first);
            mr_buf_release(&second);
        }
    }
    mr_batch_builder_free(builder);
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

TEST(zeros_are_one_key_and_nans_are_one_key)
{
    struct mr_schema *schema = parse("v DOUBLE");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};
    const double values[] = {0.0, -0.0, NAN, -NAN, INFINITY};
    struct mr_buf keys[5] = {{0}};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int i = 0; i < 5; i++) {
        mr_batch_builder_double(builder, 0, values[i]);
        mr_batch_builder_end_row(builder);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    for (int i = 0; i < 5; i++)
        mr_key_encode(&keys[i], mr_batch_column(batch, 0), i);
    CHECK_EQ_INT(compare_bytes(&keys[0], &keys[1]), 0);
    CHECK_EQ_INT(compare_bytes(&keys[2], &keys[3]), 0);
    CHECK_EQ_INT(compare_bytes(&keys[2], &keys[4]), 1);
    for (int i = 0; i < 5; i++)
        mr_buf_release(&keys[i]);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(bytes_cut_short_are_refused_and_leave_the_builder_as_it_was)
{
    struct mr_error err = {0};

    random_state = test_seed(9);
    for (size_t t_index = 0; t_index < sizeof types / sizeof types[0]; t_index++) {
        struct mr_schema *schema = parse(types[t_index]);
        struct mr_batch *batch = random_column(schema, 20);
        const struct mr_column *column = mr_batch_column(batch, 0);
        struct mr_batch_builder *builder = NULL;
        CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
        struct mr_column_builder *out = mr_batch_builder_column(builder, 0);

        for (int row = 0; row < 20; row++) {
            for (int form = 0; form < 2; form++) {
                struct mr_buf buf = MR_BUF_INIT;
                if (form == 0)
                    mr_key_encode(&buf, column, row);
                else
                    mr_value_encode(&buf, &column, 1, row);
                for (size_t cut = 0; cut < buf.size; cut++) {
                    struct mr_bytes bytes = mr_bytes_of(buf.data, cut);
                    enum mr_status status = form == 0
                                                ? mr_key_decode(&bytes, column->type, out, &err)
                                                : mr_value_decode(&bytes, &out, 1, &err);
                    CHECK_EQ_INT(status, MR_CORRUPT);
                    CHECK_EQ_INT(out->length, 0);
                }
                mr_buf_release(&buf);
            }
        }
        mr_batch_builder_free(builder);
        mr_batch_unref(batch);
        mr_schema_unref(schema);
    }
}

TEST(what_a_damaged_key_decodes_to_encodes_back_to_the_same_bytes)
{
    struct mr_error err = {0};

    random_state = test_seed(11);
    for (size_t t_index = 0; t_index < sizeof types / sizeof types[0]; t_index++) {
        struct mr_schema *schema = parse(types[t_index]);
        struct mr_batch *batch = random_column(schema, 30);
        const struct mr_column *column = mr_batch_column(batch, 0);
        struct mr_batch_builder *builder = NULL;
        CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
        for (int row = 0; row < 30; row++) {
            struct mr_buf key = MR_BUF_INIT;
            mr_key_encode(&key, column, row);
            for (int round = 0; round < 20; round++) {
                size_t at = next_random() % key.size;
                char kept = key.data[at];
                key.data[at] = (char)(kept ^ (1 << next_random() % 8));
                struct mr_bytes bytes = mr_bytes_of(key.data, key.size);
                struct mr_column_builder *out = mr_batch_builder_column(builder, 0);
                if (mr_key_decode(&bytes, column->type, out, &err) == MR_OK) {
                    size_t used = key.size - mr_bytes_left(&bytes);
                    struct mr_batch *one = NULL;
                    struct mr_buf again = MR_BUF_INIT;
                    CHECK_OK(mr_batch_builder_rows_added(builder, 1, &err), &err);
                    CHECK_OK(mr_batch_builder_finish(builder, &one, &err), &err);
                    mr_key_encode(&again, mr_batch_column(one, 0), 0);
                    CHECK_EQ_UINT(again.size, used);
                    CHECK_EQ_MEM(again.data, key.data, used);
                    mr_buf_release(&again);
                    mr_batch_unref(one);
                }
                key.data[at] = kept;
            }
            mr_buf_release(&key);
        }
        mr_batch_builder_free(builder);
        mr_batch_unref(batch);
        mr_schema_unref(schema);
    }
}
