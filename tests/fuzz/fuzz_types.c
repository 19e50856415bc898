/*
 * Any bytes as a column list: what is accepted is printed, read again as the same schema and
 * printed to the same text; the same through its types one by one. What is refused says why.
 */
#include "fuzz/fuzz.h"

#include "data/codec.h"

#include <millrace/codec.h>
#include <millrace/types.h>

#include <string.h>

static void print_types(const struct mr_schema *schema)
{
    char whole[4096], part[16];

    for (uint32_t i = 0; i < mr_schema_field_count(schema); i++) {
        const struct mr_field *field = mr_schema_field(schema, i);
        size_t size = mr_type_print(&field->type, whole, sizeof whole);

        FUZZ_CHECK(mr_type_print(&field->type, part, sizeof part) == size);
        FUZZ_CHECK(strncmp(whole, part, MR_MIN(size, sizeof part - 1)) == 0);
        FUZZ_CHECK(mr_type_equal(&field->type, &field->type));
        FUZZ_CHECK(mr__type_stored_alike(&field->type, &field->type));
        (void)mr__type_print_sql(&field->type, part, sizeof part);
        FUZZ_CHECK(mr_schema_find(schema, field->name, strlen(field->name)) == (int32_t)i);
    }
}

static void one(const uint8_t *data, size_t size)
{
    static const struct mr_codec click = {
        .struct_size = sizeof click, .name = "click", .size_bytes = 8};
    struct mr_schema *schema = NULL, *again = NULL;
    struct mr_error err = {0};
    char *text = NULL, *text_again = NULL;

    (void)mr_codec_register(&click, NULL);
    if (mr_schema_parse((const char *)data, size, &schema, &err) != MR_OK) {
        FUZZ_REFUSED3(&err, MR_CONFIG, MR_LIMIT, MR_BAD_DATA);
        return;
    }
    print_types(schema);
    text = mr_schema_print(schema);
    FUZZ_CHECK(text != NULL);
    if (text != NULL && mr_schema_parse(text, strlen(text), &again, &err) == MR_OK) {
        FUZZ_CHECK(mr_schema_equal(schema, again));
        text_again = mr_schema_print(again);
        FUZZ_CHECK(text_again != NULL && strcmp(text, text_again) == 0);
    } else {
        fuzz_fail(__FILE__, __LINE__, "what was printed is a column list");
    }
    mr_text_free(text);
    mr_text_free(text_again);
    mr_schema_unref(schema);
    mr_schema_unref(again);
}

int FUZZ_ONE(const uint8_t *data, size_t size)
{
    return fuzz_run(one, data, size);
}
