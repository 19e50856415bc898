/* Batches: building, nulls, nesting, slice, take, select, rows as text, the Arrow border. */
#include "data/batch_internal.h"

#include "base/alloc.h"
#include "support/test.h"

#include <millrace/arrow.h>
#include <millrace/batch.h>
#include <millrace/ext/builder.h>

static const char all_types[] = "b BOOLEAN, i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, u8 "
                                "UTINYINT, u16 USMALLINT, u32 UINTEGER, "
                                "u64 UBIGINT, f FLOAT, d DOUBLE, m DECIMAL(20,2), t TEXT, y BLOB, "
                                "dt DATE, ts TIMESTAMP, tn TIMESTAMP_NS, "
                                "l INT[], s STRUCT(x BIGINT, y TEXT[])";

static struct mr_schema *parse(const char *text)
{
    struct mr_schema *schema = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_schema_parse(text, strlen(text), &schema, &err), &err);
    return schema;
}

static uint64_t random_state;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static void add_random(struct mr_column_builder *column)
{
    struct mr_error err = {0};
    uint64_t r = next_random();

    if (r % 5 == 0) {
        CHECK_OK(mr_column_builder_null(column, &err), &err);
        return;
    }
    int64_t small = (int64_t)(r >> 33) % 100;
    switch (column->type->id) {
    case MR_TYPE_BOOL:
        CHECK_OK(mr_column_builder_bool(column, (r & 64) != 0, &err), &err);
        return;
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        CHECK_OK(mr_column_builder_double(column, (double)small / 4, &err), &err);
        return;
    case MR_TYPE_DECIMAL:
        CHECK_OK(mr_column_builder_decimal(column, (mr_int128)small * 1000000007, &err), &err);
        return;
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        CHECK_OK(mr_column_builder_text(column, "abcdefghijklmnopqrstuvwxyz",
                                        (size_t)(r >> 40) % 27, &err),
                 &err);
        return;
    case MR_TYPE_LIST:
        for (uint64_t i = 0; i < (r >> 40) % 4; i++)
            add_random(&column->children[0]);
        CHECK_OK(mr_column_builder_list_end(column, &err), &err);
        return;
    case MR_TYPE_STRUCT:
        for (uint32_t i = 0; i < column->type->field_count; i++)
            add_random(&column->children[i]);
        CHECK_OK(mr_column_builder_struct_end(column, &err), &err);
        return;
    default:
        CHECK_OK(mr_column_builder_int(column, small, &err), &err);
        return;
    }
}

static struct mr_batch *random_batch(const char *types, int64_t rows)
{
    struct mr_schema *schema = parse(types);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    random_state = test_seed(88172645463325252u);
    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    for (int64_t i = 0; i < rows; i++) {
        for (uint32_t c = 0; c < mr_schema_field_count(schema); c++)
            add_random(mr_batch_builder_column(builder, c));
        CHECK_OK(mr_batch_builder_rows_added(builder, 1, &err), &err);
    }
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
    CHECK_EQ_INT(mr_batch_row_count(batch), rows);
    return batch;
}

static const char *print(const struct mr_batch *batch, int64_t row, uint32_t column)
{
    static char texts[4][600];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    struct mr_row cursor = {batch, row};

    CHECK(mr_row_print(&cursor, column, text, sizeof texts[0]) < sizeof texts[0]);
    return text;
}

static void check_same_row(const struct mr_batch *a, int64_t a_row, const struct mr_batch *b,
                           int64_t b_row)
{
    for (uint32_t c = 0; c < mr_schema_field_count(mr_batch_schema(a)); c++)
        CHECK_EQ_STR(print(a, a_row, c), print(b, b_row, c));
}

TEST(values_of_every_type_are_read_back_and_printed)
{
    struct mr_schema *schema = parse(all_types);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    mr_batch_builder_bool(builder, 0, true);
    for (uint32_t c = 1; c <= 8; c++)
        mr_batch_builder_int(builder, c, 100 + c);
    mr_batch_builder_double(builder, 9, 0.5);
    mr_batch_builder_double(builder, 10, 0.1);
    mr_batch_builder_decimal(builder, 11, -150);
    mr_batch_builder_text(builder, 12, "x\0y", 3);
    mr_batch_builder_text(builder, 13, "\x00\xff", 2);
    mr_batch_builder_int(builder, 14, 1);
    mr_batch_builder_int(builder, 15, 1500000);
    mr_batch_builder_int(builder, 16, 1000000001);
    struct mr_column_builder *list = mr_batch_builder_column(builder, 17);
    CHECK_OK(mr_column_builder_int(&list->children[0], 7, &err), &err);
    CHECK_OK(mr_column_builder_null(&list->children[0], &err), &err);
    CHECK_OK(mr_column_builder_list_end(list, &err), &err);
    struct mr_column_builder *pair = mr_batch_builder_column(builder, 18);
    CHECK_OK(mr_column_builder_int(&pair->children[0], 1, &err), &err);
    CHECK_OK(mr_column_builder_null(&pair->children[1], &err), &err);
    CHECK_OK(mr_column_builder_struct_end(pair, &err), &err);
    mr_batch_builder_end_row(builder);
    mr_batch_builder_end_row(builder); /* all null */
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(batch), 2);

    struct mr_row row = {batch, 0};
    CHECK(mr_row_bool(&row, 0));
    CHECK_EQ_INT(mr_row_int(&row, 8), 108);
    CHECK_EQ_DOUBLE(mr_row_double(&row, 11), -1.5);
    CHECK_EQ_UINT(mr_row_text(&row, 12).size_bytes, 3);
    static const char *const want[] = {"true",
                                       "101",
                                       "102",
                                       "103",
                                       "104",
                                       "105",
                                       "106",
                                       "107",
                                       "108",
                                       "0.5",
                                       "0.1",
                                       "-1.50",
                                       NULL,
                                       "\\x00ff",
                                       "1970-01-02",
                                       "1970-01-01 00:00:01.5",
                                       "1970-01-01 00:00:01.000000001",
                                       "[7, null]",
                                       "{x: 1, y: null}"};
    for (uint32_t c = 0; c < 19; c++) {
        if (want[c] != NULL && c != 15)
            CHECK_EQ_STR(print(batch, 0, c), want[c]);
        CHECK_EQ_STR(print(batch, 1, c), "null");
        CHECK(!mr_row_is_null(&row, c));
    }
    CHECK_CONTAINS(print(batch, 0, 15), "1970-01-01 00:00:01.5");
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(slice_and_take_copy_the_rows_named)
{
    struct mr_batch *batch = random_batch(all_types, 300);
    struct mr_batch *part = NULL;
    struct mr_error err = {0};
    uint32_t rows[100];

    CHECK_OK(mr_batch_slice(batch, 77, 150, &part, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(part), 150);
    for (int64_t i = 0; i < 150; i++)
        check_same_row(part, i, batch, 77 + i);
    mr_batch_unref(part);
    for (int i = 0; i < 100; i++)
        rows[i] = (uint32_t)(next_random() % 300);
    CHECK_OK(mr_batch_take(batch, rows, 100, &part, &err), &err);
    for (int64_t i = 0; i < 100; i++)
        check_same_row(part, i, batch, rows[i]);
    mr_batch_unref(part);
    CHECK_OK(mr_batch_take(batch, NULL, 0, &part, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(part), 0);
    mr_batch_unref(part);
    mr_batch_unref(batch);
}

TEST(select_shares_the_columns_and_outlives_its_source)
{
    struct mr_batch *batch = random_batch("a BIGINT, b TEXT, c INT[]", 50);
    struct mr_schema *schema = parse("z INT[], a BIGINT");
    struct mr_schema *wrong = parse("z INT[], a TEXT");
    const uint32_t indexes[] = {2, 0};
    struct mr_batch *selected = NULL;
    struct mr_error err = {0};

    CHECK_FAILS(mr_batch_select(batch, wrong, indexes, &selected, &err), &err, MR_CONFIG, "type");
    CHECK_OK(mr_batch_select(batch, schema, indexes, &selected, &err), &err);
    CHECK(mr_batch_column(selected, 1)->values == mr_batch_column(batch, 0)->values);
    CHECK(mr_batch_bytes(selected) < mr_batch_bytes(batch));
    char first[100];
    snprintf(first, sizeof first, "%s", print(batch, 3, 2));
    mr_batch_unref(batch);
    CHECK_EQ_STR(print(selected, 3, 0), first);
    mr_batch_unref(selected);
    mr_schema_unref(schema);
    mr_schema_unref(wrong);
}

TEST(append_joins_batches_with_and_without_nulls)
{
    struct mr_batch *batch = random_batch(all_types, 67);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *twice = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(mr_batch_schema(batch), &builder, &err), &err);
    mr_batch_builder_append(builder, batch);
    mr_batch_builder_append(builder, batch);
    CHECK_OK(mr_batch_builder_finish(builder, &twice, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(twice), 134);
    for (int64_t i = 0; i < 134; i++)
        check_same_row(twice, i, batch, i % 67);
    for (uint32_t c = 0; c < 19; c++)
        CHECK_EQ_INT(mr_batch_column(twice, c)->null_count,
                     2 * mr_batch_column(batch, c)->null_count);
    mr_batch_unref(twice);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
}

TEST(a_value_that_does_not_fit_sticks_until_finish)
{
    struct mr_schema *schema = parse("a TINYINT, b UBIGINT");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
    mr_batch_builder_int(builder, 0, 128);
    mr_batch_builder_end_row(builder);
    CHECK_FAILS(mr_batch_builder_finish(builder, &batch, &err), &err, MR_BAD_DATA,
                "column 'a': 128 does not fit into TINYINT");
    mr_batch_builder_int(builder, 1, -1);
    CHECK_FAILS(mr_batch_builder_finish(builder, &batch, &err), &err, MR_BAD_DATA,
                "-1 does not fit into UBIGINT");
    mr_batch_builder_text(builder, 0, "x", 1);
    CHECK_FAILS(mr_batch_builder_finish(builder, &batch, &err), &err, MR_USAGE, "TINYINT");
    mr_batch_builder_int(builder, 0, 1);
    mr_batch_builder_int(builder, 0, 2);
    mr_batch_builder_end_row(builder);
    CHECK_FAILS(mr_batch_builder_finish(builder, &batch, &err), &err, MR_USAGE,
                "2 values for one row");
    mr_batch_builder_int(builder, 0, -128);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    CHECK_EQ_STR(print(batch, 0, 0), "-128");
    CHECK_EQ_STR(print(batch, 0, 1), "null");
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(pop_and_truncate_take_values_of_every_type_away_again)
{
    struct mr_batch *batch = random_batch(all_types, 40);
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *result = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_builder_new(mr_batch_schema(batch), &builder, &err), &err);
    for (uint32_t c = 0; c < 19; c++) {
        struct mr_column_builder *column = mr_batch_builder_column(builder, c);
        for (int64_t i = 0; i < 40; i++) {
            CHECK_OK(mr_column_builder_copy(column, mr_batch_column(batch, c), 39 - i, &err), &err);
            mr_column_builder_pop(column);
            CHECK_OK(mr_column_builder_copy(column, mr_batch_column(batch, c), i, &err), &err);
        }
        CHECK_OK(mr_column_builder_copy(column, mr_batch_column(batch, c), 0, &err), &err);
        mr_column_builder_truncate(column, 40);
        CHECK_EQ_INT(column->null_count, mr_batch_column(batch, c)->null_count);
    }
    CHECK_OK(mr_batch_builder_rows_added(builder, 40, &err), &err);
    CHECK_OK(mr_batch_builder_finish(builder, &result, &err), &err);
    for (int64_t i = 0; i < 40; i++)
        check_same_row(result, i, batch, i);
    mr_batch_unref(result);
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
}

TEST(an_exported_batch_comes_back_equal_without_copying_values)
{
    struct mr_batch *batch = random_batch(all_types, 100);
    struct ArrowSchema schema;
    struct ArrowArray array;
    struct mr_batch *back = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_export(batch, &schema, &array, &err), &err);
    CHECK_EQ_STR(schema.format, "+s");
    CHECK_EQ_STR(schema.children[11]->format, "d:20,2");
    CHECK_OK(mr_batch_import(&schema, &array, &back, &err), &err);
    CHECK(mr_schema_equal(mr_batch_schema(back), mr_batch_schema(batch)));
    CHECK(mr_batch_column(back, 4)->values == mr_batch_column(batch, 4)->values);
    for (int64_t i = 0; i < 100; i++)
        check_same_row(back, i, batch, i);
    mr_batch_unref(batch);
    CHECK_EQ_INT(mr_batch_row_count(back), 100);
    mr_batch_unref(back);
}

TEST(an_import_with_offsets_shows_the_rows_from_there)
{
    for (int64_t offset = 0; offset < 20; offset += 3) {
        struct mr_batch *batch = random_batch(all_types, 60);
        struct ArrowSchema schema;
        struct ArrowArray array;
        struct mr_batch *back = NULL;
        struct mr_error err = {0};

        CHECK_OK(mr_batch_export(batch, &schema, &array, &err), &err);
        array.offset = offset;
        array.length = 60 - 2 * offset;
        for (int64_t i = 0; i < array.n_children; i++) {
            array.children[i]->offset = i % 2 == 0 ? offset : 0;
            array.children[i]->length -= array.children[i]->offset;
        }
        CHECK_OK(mr_batch_import(&schema, &array, &back, &err), &err);
        for (int64_t i = 0; i < mr_batch_row_count(back); i++) {
            for (uint32_t c = 0; c < 19; c++)
                CHECK_EQ_STR(print(back, i, c),
                             print(batch, offset + i + (c % 2 == 0 ? offset : 0), c));
        }
        mr_batch_unref(back);
        mr_batch_unref(batch);
    }
}

TEST(an_import_of_a_foreign_type_is_refused_and_released)
{
    struct mr_batch *batch = random_batch("a TEXT", 3);
    struct ArrowSchema schema;
    struct ArrowArray array;
    struct mr_batch *back = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_export(batch, &schema, &array, &err), &err);
    schema.children[0]->format = "U";
    CHECK_FAILS(mr_batch_import(&schema, &array, &back, &err), &err, MR_CONFIG, "format 'U'");
    CHECK(schema.release == NULL && array.release == NULL);
    mr_batch_unref(batch);
}

TEST(an_empty_batch_has_columns_and_no_rows)
{
    struct mr_schema *schema = parse(all_types);
    struct mr_batch *batch = NULL;
    struct mr_error err = {0};

    CHECK_OK(mr_batch_empty(schema, &batch, &err), &err);
    CHECK_EQ_INT(mr_batch_row_count(batch), 0);
    CHECK_EQ_INT(mr_batch_column(batch, 12)->offsets[0], 0);
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

TEST(building_survives_every_failing_allocation)
{
    struct mr_batch *source = random_batch(all_types, 70);
    size_t used = mr_budget_used(NULL);

    for (uint64_t nth = 1; nth < 400; nth++) {
        struct mr_batch_builder *builder = NULL;
        struct mr_batch *batch = NULL;
        struct mr_batch *part = NULL;
        struct ArrowSchema schema = {0};
        struct ArrowArray array = {0};

        mr_alloc_fail_at(nth, false);
        enum mr_status status = mr_batch_builder_new(mr_batch_schema(source), &builder, NULL);
        if (status == MR_OK) {
            mr_batch_builder_append(builder, source);
            status = mr_batch_builder_finish(builder, &batch, NULL);
        }
        if (status == MR_OK)
            status = mr_batch_slice(batch, 1, 60, &part, NULL);
        if (status == MR_OK)
            status = mr_batch_export(part, &schema, &array, NULL);
        mr_alloc_fail_at(0, false);
        CHECK(status == MR_OK || status == MR_NOMEM);
        if (array.release != NULL) {
            array.release(&array);
            schema.release(&schema);
        }
        mr_batch_unref(part);
        mr_batch_unref(batch);
        mr_batch_builder_free(builder);
        CHECK_EQ_UINT(mr_budget_used(NULL), used);
    }
    mr_batch_unref(source);
}
TEST(a_text_column_that_ran_out_of_memory_has_memory_for_an_empty_text_afterwards)
{
    for (uint64_t nth = 1; nth < 4; nth++) {
        struct mr_batch_builder *builder = NULL;
        struct mr_schema *schema = NULL;
        struct mr_column_builder *column;
        struct mr_error err = {0};

        CHECK_OK(mr_schema_parse("t VARCHAR", 9, &schema, &err), &err);
        CHECK_OK(mr_batch_builder_new(schema, &builder, &err), &err);
        column = mr_batch_builder_column(builder, 0);
        mr_alloc_fail_at(nth, false);
        if (mr_column_builder_reserve(column, 1, 0, &err) != MR_OK)
            CHECK_EQ_INT(err.status, MR_NOMEM);
        mr_alloc_fail_at(0, false);
        CHECK(column->capacity == 0 || column->values != NULL);
        mr_batch_builder_free(builder);
        mr_schema_unref(schema);
    }
}
