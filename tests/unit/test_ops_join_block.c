/*
 * Blocks of a join's state: every type goes in and comes out, and damaged bytes are told.
 */
#include "support/ops_harness.h"

#include "base/alloc.h"
#include "base/check.h"
#include "ops/join_block.h"

static const char schema_text[] =
    "a BOOLEAN, b TINYINT, c SMALLINT, d INTEGER, e BIGINT, f UTINYINT, g UBIGINT, h FLOAT, "
    "i DOUBLE, j DECIMAL(30,2), k VARCHAR, l BLOB, m DATE, n TIMESTAMP, o BIGINT[], "
    "p STRUCT(x BIGINT, y VARCHAR)";
static const char rows_text[] =
    "true|-3|-300|-70000|-9000000000|255|18446744073709551615|0.5|-0.25|-12.34|text|b|19000|1s|"
    "[1,2]|null";

enum { COLUMNS = 16 };

struct block {
    struct mr_schema *schema;
    struct mr_batch *batch;
    struct mr_buf bytes;
    struct mr_join_packed packed[COLUMNS];
};

static const struct mr_column **columns_of(const struct mr_batch *batch)
{
    const struct mr_column **columns = mr_alloc(NULL, COLUMNS * sizeof(struct mr_column *));

    for (uint32_t i = 0; i < COLUMNS; i++)
        columns[i] = mr_batch_column(batch, i);
    return columns;
}

static void append_struct(struct mr_column_builder *to, int row)
{
    struct mr_error err = {0};

    CHECK_OK(mr_column_builder_int(&to->children[0], row, &err), &err);
    CHECK_OK(mr_column_builder_null(&to->children[1], &err), &err);
    CHECK_OK(mr_column_builder_struct_end(to, &err), &err);
}

/* Rows of which every second value is null, so many of each kind. */
static struct mr_batch *make_rows(const struct mr_schema *schema, int count)
{
    struct mr_batch *one = ops_batch(schema_text, rows_text);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int row = 0; row < count; row++) {
        for (uint32_t c = 0; c < COLUMNS; c++) {
            struct mr_column_builder *to = mr_batch_builder_column(builder, c);

            if ((row + (int)c) % 2 == 1)
                CHECK_OK(mr_column_builder_null(to, &err), &err);
            else if (c == 4)
                CHECK_OK(mr_column_builder_int(to, (int64_t)row * row * row, &err), &err);
            else if (c == 10)
                CHECK_OK(mr_column_builder_text(to, "some text", (size_t)(row % 10), &err), &err);
            else if (c == 15)
                append_struct(to, row);
            else
                CHECK_OK(mr_column_builder_copy(to, mr_batch_column(one, c), 0, &err), &err);
        }
    }
    CHECK_OK(mr_batch_builder_rows_added(builder, count, &err), &err);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_batch_unref(one);
    return batch;
}

static void make_block(struct block *block, int count, const uint8_t *matched)
{
    uint64_t *numbers = mr_alloc(NULL, MR_JOIN_BLOCK_ROWS * sizeof(*numbers));
    struct mr_join_ref *refs = mr_alloc(NULL, (size_t)count * sizeof(*refs));
    struct mr_join_held held = {0};

    *block = (struct block){.schema = ops_schema(schema_text)};
    block->batch = make_rows(block->schema, count);
    held.columns = columns_of(block->batch);
    for (int i = 0; i < count; i++)
        refs[i] = (struct mr_join_ref){&held, (uint32_t)i};
    mr_join__pack(&block->bytes, block->schema, refs, (size_t)count, matched, numbers);
    CHECK(!block->bytes.failed);
    mr_free((void *)(uintptr_t)held.columns);
    mr_free(refs);
    mr_free(numbers);
}

static void free_block(struct block *block)
{
    mr_schema_unref(block->schema);
    mr_batch_unref(block->batch);
    mr_buf_release(&block->bytes);
}

static struct mr_batch *read_back(struct block *block, uint32_t rows)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(block->schema, &builder, &err), &err);
    for (uint32_t row = 0; row < rows; row++) {
        for (uint32_t c = 0; c < COLUMNS; c++)
            CHECK_OK(
                mr_join__append(mr_batch_builder_column(builder, c), &block->packed[c], row, &err),
                &err);
    }
    CHECK_OK(mr_batch_builder_rows_added(builder, rows, &err), &err);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    return batch;
}

TEST(values_of_every_type_come_back_from_a_block)
{
    static const int counts[] = {1, 2, 7, 300, 1024};

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct mr_buf want = MR_BUF_INIT, have = MR_BUF_INIT;
        struct mr_error err = {0};
        const uint8_t *matched = NULL;
        struct mr_batch *batch;
        struct block block;
        uint32_t rows = 0;

        make_block(&block, counts[i], NULL);
        CHECK_OK(mr_join__unpack((struct mr_slice){block.bytes.data, block.bytes.size},
                                 block.schema, block.packed, &rows, &matched, &err),
                 &err);
        CHECK_EQ_INT(rows, counts[i]);
        CHECK(matched == NULL);
        batch = read_back(&block, rows);
        ops_print(&want, block.batch);
        ops_print(&have, batch);
        CHECK_EQ_STR(have.data, want.data);
        mr_batch_unref(batch);
        mr_buf_release(&want);
        mr_buf_release(&have);
        free_block(&block);
    }
}

TEST(a_block_that_is_cut_or_damaged_is_told_or_reads_as_something)
{
    uint8_t matched[9] = {1, 0, 0, 1, 1, 0, 0, 0, 1};
    struct block block;
    struct mr_error err = {0};
    const uint8_t *bits = NULL;
    uint32_t rows = 0;

    make_block(&block, 9, matched);
    CHECK_OK(mr_join__unpack((struct mr_slice){block.bytes.data, block.bytes.size}, block.schema,
                             block.packed, &rows, &bits, &err),
             &err);
    CHECK(bits != NULL && bits[0] == 0x19 && bits[1] == 1);
    for (size_t size = 0; size < block.bytes.size; size++) {
        char *cut = mr_alloc(NULL, size + 1);

        if (size > 0)
            memcpy(cut, block.bytes.data, size);
        cut = mr_realloc(NULL, cut, MR_MAX(size, (size_t)1));
        CHECK_EQ_INT(mr_join__unpack((struct mr_slice){cut, size}, block.schema, block.packed,
                                     &rows, &bits, NULL),
                     MR_CORRUPT);
        mr_free(cut);
    }
    for (size_t at = 0; at < block.bytes.size; at++) {
        struct mr_batch_builder *builder = NULL;

        block.bytes.data[at] ^= 0x55;
        CHECK_OK(mr_batch_builder_new(block.schema, &builder, &err), &err);
        if (mr_join__unpack((struct mr_slice){block.bytes.data, block.bytes.size}, block.schema,
                            block.packed, &rows, &bits, NULL) == MR_OK) {
            for (uint32_t c = 0; c < COLUMNS; c++)
                (void)mr_join__append(mr_batch_builder_column(builder, c), &block.packed[c],
                                      rows - 1, NULL);
        }
        mr_batch_builder_free(builder);
        block.bytes.data[at] ^= 0x55;
    }
    free_block(&block);
}
