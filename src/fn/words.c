/*
 * MR_WORDS: the words of a column of texts, what stands between white space.
 *
 *     text    t h e _ q u i c k _ _ f o x     64 bytes at a time become two bitmaps:
 *     word    1 1 1 0 1 1 1 1 1 0 0 1 1 1     which bytes belong to words,
 *     edges   1 0 0 1 1 0 0 0 0 1 0 1 0 0 1   and where that changes: a word begins, a word ends
 *
 * So the work is by words and not by bytes. The end of a text is an edge too. SSE2 compares sixteen
 * bytes at once; elsewhere a loop does, with the same result.
 *
 * White space is what C's isspace calls so: space, \t, \n, \v, \f, \r. Other bytes belong to words,
 * those of UTF-8 as well.
 *
 * Thread: the evaluating worker's; nothing is kept.
 */
#include "fn/fn.h"

#include <millrace/ext/builder.h>

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { BLOCK_BYTES = 64, WIDE_BYTES = 16 };

/* Bit i: byte i is no white space. */
static uint64_t word_bytes(const char *block)
{
    uint64_t spaces = 0;

#if defined(__SSE2__)
    const __m128i space = _mm_set1_epi8(' '), tab = _mm_set1_epi8('\t' - 1);
    const __m128i past_return = _mm_set1_epi8('\r' + 1);

    for (int i = 0; i < 4; i++) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(block + i * WIDE_BYTES));
        /* Bytes are signed here, those of UTF-8 below all white space. */
        __m128i is_control =
            _mm_and_si128(_mm_cmpgt_epi8(bytes, tab), _mm_cmplt_epi8(bytes, past_return));
        __m128i is_space = _mm_or_si128(_mm_cmpeq_epi8(bytes, space), is_control);

        spaces |= (uint64_t)(uint32_t)_mm_movemask_epi8(is_space) << (i * WIDE_BYTES);
    }
#else
    for (int i = 0; i < BLOCK_BYTES; i++) {
        unsigned char c = (unsigned char)block[i];
        spaces |= (uint64_t)(c == ' ' || (c >= '\t' && c <= '\r')) << i;
    }
#endif
    return ~spaces;
}

/* Where words go. Room for all of them was reserved. */
struct words_out {
    char *values;
    int32_t *offsets; /* of the next word's end */
    size_t used;
    const char *source_end; /* of all texts: so far may be read */
};

static inline void add_word(struct words_out *out, const char *start, const char *end)
{
    size_t size = (size_t)(end - start);

    /* Values have slack behind them: a short word is one store. */
    if (size <= WIDE_BYTES && out->source_end - start >= WIDE_BYTES)
        memcpy(out->values + out->used, start, WIDE_BYTES);
    else
        memcpy(out->values + out->used, start, size);
    out->used += size;
    *out->offsets++ = (int32_t)out->used;
}

/* A word of the text whose end was not seen yet begins at *word, NULL: none does. */
static void add_block(struct words_out *out, const char *text, uint64_t bytes, const char **word)
{
    uint64_t edges = bytes ^ (bytes << 1 | (*word != NULL));
    const char *start = *word;

    for (; edges != 0; edges &= edges - 1) {
        const char *at = text + __builtin_ctzll(edges);

        if (start == NULL) {
            start = at;
        } else {
            add_word(out, start, at);
            start = NULL;
        }
    }
    *word = start;
}

static void add_words(struct words_out *out, struct mr_slice text)
{
    const char *at = text.data, *end = text.data + text.size_bytes, *word = NULL;

    for (; end - at >= BLOCK_BYTES; at += BLOCK_BYTES)
        add_block(out, at, word_bytes(at), &word);
    if (at != NULL && at < end) {
        size_t rest = (size_t)(end - at);
        char block[BLOCK_BYTES];

        if (out->source_end - at >= BLOCK_BYTES) {
            memcpy(block, at, BLOCK_BYTES); /* texts that follow: masked out */
        } else {
            memset(block, ' ', sizeof(block));
            memcpy(block, at, rest);
        }
        add_block(out, at, word_bytes(block) & (((uint64_t)1 << rest) - 1), &word);
    }
    if (word != NULL)
        add_word(out, word, end);
}

enum mr_status mr__words(const struct mr_batch *batch, const struct mr_schema *output,
                         struct mr_batch **ret_batch, struct mr_error *err)
{
    const struct mr_column *texts = mr_batch_column(batch, 0);
    const char *source = texts->values;
    size_t bytes = (size_t)(texts->offsets[texts->length] - texts->offsets[0]);
    struct mr_batch_builder *builder = NULL;
    struct mr_column_builder *column;
    struct words_out out;
    enum mr_status status;

    MR_TRY(mr_batch_builder_new(output, &builder, err));
    column = mr_batch_builder_column(builder, 0);
    /* A word takes a byte and the space behind it, but for the last of a row. */
    MR_TRY_GOTO(
        mr_column_builder_reserve(column, (int64_t)(bytes / 2) + texts->length, bytes, err));
    out = (struct words_out){(char *)column->values, column->offsets + 1, 0,
                             source + texts->offsets[texts->length]};
    for (int64_t row = 0; row < texts->length; row++) {
        if (!mr_column_is_null(texts, row))
            add_words(&out, mr_column_text(texts, row));
    }
    column->length = out.offsets - (column->offsets + 1);
    column->bytes_used = out.used;
    MR_TRY_GOTO(mr_batch_builder_rows_added(builder, column->length, err));
    status = mr_batch_builder_finish(builder, ret_batch, err);
done:
    mr_batch_builder_free(builder);
    return status;
}
