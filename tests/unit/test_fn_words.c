/*
 * MR_WORDS against a loop over bytes: every length around the blocks of the scan, every byte.
 */
#include "support/test.h"

#include "data/batch_internal.h"
#include "fn/fn.h"

#include <ctype.h>
#include <stdlib.h>

enum { TEXTS = 40 };

static struct mr_batch *words_of(struct mr_batch *texts)
{
    struct mr_batch *words = NULL;
    struct mr_error err;

    mr_error_clear(&err);
    CHECK_OK(mr__words(texts, mr_batch_schema(texts), &words, &err), &err);
    return words;
}

static struct mr_batch_builder *new_builder(void)
{
    struct mr_schema *schema = NULL;
    struct mr_batch_builder *builder = NULL;

    CHECK_OK(mr_schema_parse("value VARCHAR", 13, &schema, NULL), NULL);
    CHECK_OK(mr_batch_builder_new(schema, &builder, NULL), NULL);
    mr_schema_unref(schema);
    return builder;
}

/* The next word of a text by bytes; false at its end. */
static bool next_word(struct mr_slice text, size_t *at, struct mr_slice *ret_word)
{
    size_t from = *at;

    while (from < text.size_bytes && isspace((unsigned char)text.data[from]))
        from++;
    *at = from;
    while (*at < text.size_bytes && !isspace((unsigned char)text.data[*at]))
        (*at)++;
    *ret_word = (struct mr_slice){text.data + from, *at - from};
    return *at > from;
}

static void check_words(struct mr_batch_builder *builder)
{
    struct mr_batch *texts = NULL, *words;
    const struct mr_column *column;
    struct mr_slice word;
    int64_t count = 0;

    CHECK_OK(mr_batch_builder_finish(builder, &texts, NULL), NULL);
    words = words_of(texts);
    column = mr_batch_column(words, 0);
    for (int64_t row = 0; row < mr_batch_row_count(texts); row++) {
        struct mr_row text = {texts, row};
        size_t at = 0;

        while (next_word(mr_row_text(&text, 0), &at, &word)) {
            struct mr_slice found;
            CHECK(count < column->length);
            found = mr_column_text(column, count++);
            CHECK_EQ_INT(found.size_bytes, word.size_bytes);
            CHECK(memcmp(found.data, word.data, word.size_bytes) == 0);
        }
    }
    CHECK_EQ_INT(count, column->length);
    mr_batch_unref(words);
    mr_batch_unref(texts);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

TEST(words_of_every_length_are_those_of_a_loop_over_bytes)
{
    struct mr_batch_builder *builder = new_builder();
    uint32_t state = 7;
    char text[512];

    /* From nearly all spaces to nearly all letters. */
    for (unsigned letters = 0; letters <= 16; letters++) {
        for (int i = 0; i < TEXTS; i++) {
            size_t size = next_random(&state) % 200;

            for (size_t k = 0; k < size; k++)
                text[k] = next_random(&state) % 16 < letters
                              ? (char)('a' + (char)(next_random(&state) % 26))
                              : ' ';
            mr_batch_builder_text(builder, 0, text, size);
            mr_batch_builder_end_row(builder);
        }
        check_words(builder);
    }
    mr_batch_builder_free(builder);
}

TEST(words_may_end_at_the_edges_of_blocks_and_texts)
{
    struct mr_batch_builder *builder = new_builder();
    char text[300];

    for (size_t size = 0; size < 200; size++) {
        for (size_t space = 0; space < 3; space++) {
            memset(text, 'x', sizeof(text));
            if (space > 0 && size > 0)
                text[size * space / 3] = ' ';
            mr_batch_builder_text(builder, 0, text, size);
            mr_batch_builder_end_row(builder);
        }
        if (size % 7 == 0)
            check_words(builder);
    }
    check_words(builder);
    mr_batch_builder_free(builder);
}

TEST(white_space_is_what_c_calls_so)
{
    struct mr_batch_builder *builder = new_builder();
    char text[3 * 256];

    for (int c = 0; c < 256; c++) {
        text[3 * c] = 'a';
        text[3 * c + 1] = (char)c;
        text[3 * c + 2] = 'b';
        mr_batch_builder_text(builder, 0, text + 3 * c, 3);
        mr_batch_builder_end_row(builder);
    }
    mr_batch_builder_text(builder, 0, text, sizeof(text));
    mr_batch_builder_end_row(builder);
    check_words(builder);
    mr_batch_builder_free(builder);
}

TEST(nulls_and_empty_texts_have_no_words)
{
    struct mr_batch_builder *builder = new_builder();

    mr_batch_builder_text(builder, 0, "one", 3);
    mr_batch_builder_end_row(builder);
    mr_batch_builder_null(builder, 0);
    mr_batch_builder_end_row(builder);
    mr_batch_builder_text(builder, 0, "", 0);
    mr_batch_builder_end_row(builder);
    check_words(builder);
    check_words(builder); /* a batch without rows */
    mr_batch_builder_free(builder);
}
