/*
 * Structs of the program in columns: registering codecs, their types, objects in and out; and
 * values inside values.
 */
#include "support/test.h"

#include <stdlib.h>

#include "data/codec.h"

#include <millrace/arrow.h>
#include <millrace/codec.h>
#include <millrace/ext/builder.h>

/* ---- codecs ---- */

struct point {
    int32_t x;
    int32_t y;
};

static size_t print_point(const void *object, char *text, size_t size)
{
    const struct point *point = object;

    return (size_t)snprintf(text, size, "<%d %d>", point->x, point->y);
}

/* By y, then by x: not the order of the bytes. */
static int compare_points(const void *a_pointer, const void *b_pointer)
{
    const struct point *a = a_pointer, *b = b_pointer;

    return a->y != b->y ? (a->y > b->y) - (a->y < b->y) : (a->x > b->x) - (a->x < b->x);
}

static const struct mr_codec point_codec = {
    .struct_size = sizeof(struct mr_codec),
    .name = "point",
    .size_bytes = sizeof(struct point),
    .compare = compare_points,
    .print = print_point,
};

/* A name of any length: its pointer is into the row. */
struct label {
    const char *text;
    size_t size_bytes;
};

static size_t encode_label(const void *object, char *bytes, size_t size)
{
    const struct label *label = object;

    if (size > label->size_bytes) {
        bytes[0] = 'L';
        memcpy(bytes + 1, label->text, label->size_bytes);
    }
    return label->size_bytes + 1;
}

static bool decode_label(const char *bytes, size_t size_bytes, void *ret_object)
{
    struct label *label = ret_object;

    if (size_bytes == 0 || bytes[0] != 'L')
        return false;
    *label = (struct label){bytes + 1, size_bytes - 1};
    return true;
}

static const struct mr_codec label_codec = {
    .struct_size = sizeof(struct mr_codec),
    .name = "label",
    .size_bytes = sizeof(struct label),
    .encode = encode_label,
    .decode = decode_label,
};

static struct mr_schema *schema_of(const char *columns)
{
    struct mr_schema *schema = NULL;
    struct mr_error err;

    mr_error_clear(&err);
    CHECK_OK(mr_codec_register(&point_codec, &err), &err);
    CHECK_OK(mr_codec_register(&label_codec, &err), &err);
    CHECK_OK(mr_schema_parse(columns, strlen(columns), &schema, &err), &err);
    return schema;
}

static void check_refused(struct mr_codec codec, const char *says)
{
    static struct mr_codec kept;
    struct mr_error err;

    mr_error_clear(&err);
    kept = codec;
    CHECK_EQ_INT(mr_codec_register(&kept, &err), MR_CONFIG);
    CHECK_NOT_NULL(strstr(err.text, says));
}

TEST(a_codec_has_a_name_of_its_own_and_both_directions)
{
    struct mr_codec codec = point_codec;

    mr_schema_unref(schema_of("value point"));
    CHECK_OK(mr_codec_register(&point_codec, NULL), NULL);
    check_refused(codec, "another one has that name");
    codec.name = "varchar";
    check_refused(codec, "no SQL type");
    codec.name = "9lives";
    check_refused(codec, "letters, digits");
    codec.name = "";
    check_refused(codec, "letters, digits");
    codec.name = "half";
    codec.encode = encode_label;
    check_refused(codec, "only one of encode and decode");
    codec.encode = NULL;
    codec.size_bytes = 0;
    check_refused(codec, "size_bytes is 0");
    codec.struct_size = 8;
    check_refused(codec, "struct_size");
    CHECK(mr_codec_find("half") == NULL);
    CHECK(mr_codec_find("point") == &point_codec);
}

TEST(the_name_of_a_codec_is_a_type_that_prints_and_reads_back)
{
    struct mr_schema *schema = schema_of("key point, value STRUCT(l label, p point[])");
    struct mr_schema *again = NULL, *bytes;
    char *text = mr_schema_print(schema);

    CHECK_EQ_STR(text, "key BLOB(point), value STRUCT(l BLOB(label), p BLOB(point)[])");
    CHECK_OK(mr_schema_parse(text, strlen(text), &again, NULL), NULL);
    CHECK(mr_schema_equal(schema, again));
    bytes = schema_of("key BLOB, value STRUCT(l label, p point[])");
    CHECK(!mr_schema_equal(schema, bytes));
    mr_schema_unref(bytes);
    bytes = schema_of("key label, value STRUCT(l label, p point[])");
    CHECK(!mr_schema_equal(schema, bytes));
    mr_schema_unref(bytes);
    mr_schema_unref(again);
    mr_schema_unref(schema);
    mr_text_free(text);
}

/* A checkpoint is shown by programs that do not have the codec. */
TEST(a_type_of_an_unknown_codec_is_read_from_its_printed_form_only)
{
    struct mr_schema *schema = schema_of("a BLOB(somebody), b BLOB(16), c BLOB");
    struct mr_error err;
    char *text = mr_schema_print(schema);

    CHECK_EQ_STR(text, "a BLOB(somebody), b BLOB, c BLOB");
    CHECK_EQ_INT(mr_schema_parse("a somebody", 10, &schema, &err), MR_CONFIG);
    CHECK_NOT_NULL(strstr(err.text, "unknown type 'somebody'"));
    CHECK_EQ_INT(mr_schema_parse("a BLOB(somebody", 15, &schema, &err), MR_CONFIG);
    CHECK_EQ_INT(mr_schema_parse("a BLOB(BIGINT)", 14, &schema, &err), MR_CONFIG);
    mr_text_free(text);
    mr_schema_unref(schema);
}

static struct mr_batch *points_and_labels(const struct mr_schema *schema)
{
    const struct point points[] = {{3, 1}, {-1, 2}};
    char *long_text = calloc(5000, 1);
    struct label labels[] = {{"one", 3}, {long_text, 5000}};
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_error err;

    mr_error_clear(&err);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    for (int i = 0; i < 2; i++) {
        mr_batch_builder_object(builder, 0, &points[i]);
        mr_batch_builder_object(builder, 1, &labels[i]);
        mr_batch_builder_end_row(builder);
    }
    mr_batch_builder_end_row(builder); /* nulls */
    CHECK_OK(mr_batch_builder_finish(builder, &batch, &err), &err);
    mr_batch_builder_free(builder);
    free(long_text);
    return batch;
}

TEST(objects_go_into_columns_and_come_out)
{
    struct mr_schema *schema = schema_of("p point, l label");
    struct mr_batch *batch = points_and_labels(schema);
    struct mr_row row = {batch, 1};
    struct point point;
    struct label label;
    char text[64];

    CHECK(mr_row_object(&row, 0, &point));
    CHECK_EQ_INT(point.x, -1);
    CHECK_EQ_INT(point.y, 2);
    CHECK(mr_row_object(&row, 1, &label));
    CHECK_EQ_INT(label.size_bytes, 5000);
    row.index = 0;
    CHECK(mr_row_object(&row, 1, &label));
    CHECK(label.size_bytes == 3 && memcmp(label.text, "one", 3) == 0);
    mr_row_print(&row, 0, text, sizeof(text));
    CHECK_EQ_STR(text, "<3 1>");
    CHECK_EQ_INT(mr_row_print(&row, 0, text, 3), 5);
    CHECK_EQ_STR(text, "<3");
    CHECK_EQ_INT(mr_row_print(&row, 0, NULL, 0), 5);
    mr_row_print(&row, 1, text, sizeof(text)); /* no print function: bytes */
    CHECK_EQ_STR(text, "\\x4c6f6e65");
    row.index = 2;
    CHECK(!mr_row_object(&row, 0, &point));
    mr_row_print(&row, 0, text, sizeof(text));
    CHECK_EQ_STR(text, "null");
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

TEST(bytes_that_are_no_object_are_shown_as_bytes)
{
    struct mr_schema *schema = schema_of("p point, l label");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct mr_row row = {0};
    struct point point = {7, 7};
    struct label label;
    char text[64];

    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_batch_builder_text(builder, 0, "abc", 3);
    mr_batch_builder_text(builder, 1, "abc", 3);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    row.batch = batch;
    CHECK(!mr_row_object(&row, 0, &point));
    CHECK_EQ_INT(point.x, 7);
    CHECK(!mr_row_object(&row, 1, &label));
    mr_row_print(&row, 0, text, sizeof(text));
    CHECK_EQ_STR(text, "\\x616263");
    mr_batch_unref(batch);
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(objects_are_ordered_as_their_codec_says)
{
    struct mr_schema *schema = schema_of("p point");
    const struct mr_type *type = &mr_schema_field(schema, 0)->type;
    const struct point low = {5, -1}, high = {2, 3};
    struct mr_slice a = {(const char *)&low, sizeof(low)}, b = {(const char *)&high, sizeof(high)};

    CHECK(mr__object_compare(type, a, b) < 0);
    CHECK(mr__object_compare(type, b, a) > 0);
    CHECK(mr__object_compare(type, a, a) == 0);
    mr_schema_unref(schema);
}

TEST(an_object_for_a_column_without_a_codec_is_refused)
{
    struct mr_schema *schema = schema_of("p BLOB");
    struct mr_batch_builder *builder = NULL;
    struct mr_batch *batch = NULL;
    struct point point = {1, 2};
    struct mr_error err;

    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_batch_builder_object(builder, 0, &point);
    mr_batch_builder_end_row(builder);
    CHECK_EQ_INT(mr_batch_builder_finish(builder, &batch, &err), MR_USAGE);
    CHECK_NOT_NULL(strstr(err.text, "column 'p': cannot append an object"));
    mr_batch_builder_free(builder);
    mr_schema_unref(schema);
}

TEST(the_arrow_border_keeps_the_name_of_a_known_codec)
{
    struct mr_schema *schema = schema_of("p point, l label");
    struct mr_batch *batch = points_and_labels(schema), *back = NULL;
    struct ArrowSchema arrow_schema;
    struct ArrowArray arrow_array;
    char *metadata;

    CHECK_OK(mr_batch_export(batch, &arrow_schema, &arrow_array, NULL), NULL);
    CHECK_EQ_STR(arrow_schema.children[0]->format, "z");
    CHECK(memmem(arrow_schema.children[0]->metadata, 40, "ARROW:extension:name", 20) != NULL);
    /* What a producer with another codec would say. */
    metadata = (char *)(uintptr_t)arrow_schema.children[1]->metadata;
    memcpy(memmem(metadata, 64, "label", 5), "babel", 5);
    CHECK_OK(mr_batch_import(&arrow_schema, &arrow_array, &back, NULL), NULL);
    metadata = mr_schema_print(mr_batch_schema(back));
    CHECK_EQ_STR(metadata, "p BLOB(point), l BLOB");
    mr_text_free(metadata);
    mr_batch_unref(back);
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

/* ---- values inside values ---- */

/* {left: 7, right: [1, null, 3]} and null */
static struct mr_batch *nested(const struct mr_schema *schema)
{
    struct mr_batch_builder *builder = NULL;
    struct mr_column_builder *object, *list;
    struct mr_batch *batch = NULL;

    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    object = mr_batch_builder_column(builder, 0);
    list = &object->children[1];
    CHECK_OK(mr_column_builder_int(&object->children[0], 7, NULL), NULL);
    CHECK_OK(mr_column_builder_text(&list->children[0], "a", 1, NULL), NULL);
    CHECK_OK(mr_column_builder_null(&list->children[0], NULL), NULL);
    CHECK_OK(mr_column_builder_text(&list->children[0], "ccc", 3, NULL), NULL);
    CHECK_OK(mr_column_builder_list_end(list, NULL), NULL);
    CHECK_OK(mr_column_builder_struct_end(object, NULL), NULL);
    CHECK_OK(mr_batch_builder_rows_added(builder, 1, NULL), NULL);
    mr_batch_builder_end_row(builder);
    CHECK_OK(mr_batch_builder_finish(builder, &batch, NULL), NULL);
    mr_batch_builder_free(builder);
    return batch;
}

TEST(fields_and_items_are_values_of_their_own)
{
    struct mr_schema *schema = schema_of("value STRUCT(\"left\" BIGINT, \"right\" VARCHAR[])");
    struct mr_batch *batch = nested(schema);
    struct mr_row row = {batch, 0};
    struct mr_value sides = mr_row_value(&row, 0);
    struct mr_value list = mr_value_named(sides, "right");

    CHECK_EQ_INT(mr_value_int(mr_value_field(sides, 0)), 7);
    CHECK(mr_value_double(mr_value_named(sides, "left")) == 7.0);
    CHECK_EQ_INT(mr_value_count(list), 3);
    CHECK_EQ_INT(mr_value_text(mr_value_item(list, 2)).size_bytes, 3);
    CHECK(mr_value_is_null(mr_value_item(list, 1)));
    CHECK_EQ_INT(mr_value_text(mr_value_item(list, 1)).size_bytes, 0);
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

TEST(what_is_not_there_reads_as_null)
{
    struct mr_schema *schema = schema_of("value STRUCT(\"left\" BIGINT, \"right\" VARCHAR[])");
    struct mr_batch *batch = nested(schema);
    struct mr_row row = {batch, 1};
    struct mr_value nothing = mr_row_value(&row, 0);
    struct mr_value list;

    CHECK(mr_value_is_null(nothing));
    CHECK(mr_value_is_null(mr_value_field(nothing, 0)));
    CHECK(mr_value_is_null(mr_value_named(nothing, "left")));
    CHECK_EQ_INT(mr_value_int(mr_value_field(nothing, 0)), 0);
    row.index = 0;
    list = mr_value_field(mr_row_value(&row, 0), 1);
    CHECK(mr_value_is_null(mr_value_item(list, 3)));
    CHECK(mr_value_is_null(mr_value_item(list, -1)));
    CHECK(mr_value_is_null(mr_value_field(list, 0)));
    CHECK(mr_value_is_null(mr_value_named(mr_row_value(&row, 0), "middle")));
    CHECK(mr_value_is_null(mr_value_field(mr_row_value(&row, 0), 9)));
    CHECK_EQ_INT(mr_value_count(mr_value_field(mr_row_value(&row, 0), 0)), 0);
    mr_batch_unref(batch);
    mr_schema_unref(schema);
}

/* ---- lengths ---- */

TEST(a_length_beyond_two_gib_is_refused_before_anything_is_read)
{
    const size_t lengths[] = {SIZE_MAX, SIZE_MAX - 10, (size_t)INT32_MAX + 1, (size_t)3 << 30};
    struct mr_schema *schema = schema_of("value VARCHAR");

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct mr_batch_builder *builder = NULL;
        struct mr_batch *batch = NULL;
        struct mr_error err;

        CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
        mr_batch_builder_text(builder, 0, "some bytes before", 17);
        mr_batch_builder_end_row(builder);
        mr_batch_builder_text(builder, 0, "x", lengths[i]);
        mr_batch_builder_end_row(builder);
        CHECK_EQ_INT(mr_batch_builder_finish(builder, &batch, &err), MR_LIMIT);
        CHECK_NOT_NULL(strstr(err.text, "2 GiB"));
        mr_batch_builder_free(builder);
    }
    mr_schema_unref(schema);
}
