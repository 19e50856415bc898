/*
 * One line of JSON into the columns: the hot path.
 *
 *     {"user_id": "a1", "page_id": "b2", "n": 3}
 *     ^^^^^^^^^^^^    ^^^^^^^^^^^^^    ^^^^^^^  ^
 *     gap of step 0   gap of step 1    step 2   end
 *
 * Lines of one producer repeat their gaps byte for byte. A step remembers the gap it saw last and
 * the column of its key; when the bytes at hand are equal, the key needs no parsing. When they are
 * not, the next few steps are tried (a key may be missing), then the key is parsed in the general
 * way and the step learns it. Values are never predicted: every byte between two gaps goes through
 * the same checks as in the general way, and a gap that was learned was parsed before, in the same
 * place of the grammar. So the prediction changes how fast a line is decoded, never whether or to
 * what.
 *
 * Called by json.c.  Threads: the decoder's.
 */
#include "formats/json_internal.h"

#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { LOOK_AHEAD = 3 };

#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* ---- gaps ---- */

/* Up to MR__JSON_GAP_BYTES_MAX bytes may be read at `at`: there is slack behind the region. */
static inline bool gap_matches(const struct mr__json_step *step, const char *at)
{
#if defined(__SSE2__)
    const __m128i *want = (const __m128i *)(const void *)step->gap;
    const __m128i *have = (const __m128i *)(const void *)at;
    uint32_t size_bytes = step->gap_bytes;
    uint32_t equal =
        (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(want), _mm_loadu_si128(have)));

    if (LIKELY(size_bytes <= 16))
        return (~equal & ((1u << size_bytes) - 1)) == 0 && size_bytes != 0;
    if (equal != 0xffff)
        return false;
    equal = (uint32_t)_mm_movemask_epi8(
        _mm_cmpeq_epi8(_mm_loadu_si128(want + 1), _mm_loadu_si128(have + 1)));
    if (size_bytes <= 32)
        return (~equal & ((1u << (size_bytes - 16)) - 1)) == 0;
    return equal == 0xffff && memcmp(step->gap + 32, at + 32, size_bytes - 32) == 0;
#else
    return step->gap_bytes != 0 && memcmp(step->gap, at, step->gap_bytes) == 0;
#endif
}

static void learn(const struct mr__json *json, struct mr__json_step *step, const char *gap,
                  const char *end, int32_t column)
{
    size_t size_bytes = (size_t)(end - gap);

    if (size_bytes > MR__JSON_GAP_BYTES_MAX || !json->predict)
        return;
    memcpy(step->gap, gap, size_bytes);
    step->gap_bytes = (uint32_t)size_bytes;
    step->column = column;
    step->value_bytes = MR__JSON_LENGTH_UNKNOWN;
}

/*
 * The gap at `at` in the general way, for *step, which moves when a later one matches. Returns
 * where the value begins and sets *ret_column; at the end of the object: where its '}' stands, with
 * *ret_end.
 */
static const char *slow_gap(struct mr__json *json, const char *at, struct mr__json_step **step,
                            int32_t *ret_column, bool *ret_end)
{
    const struct mr__json_step *last = json->steps + MR__JSON_STEPS_MAX;
    const char *gap = at;
    const char *key = NULL;
    size_t key_bytes = 0;
    bool first = *step == json->steps;

    /* Not for the first gap: it begins with '{' where all others begin with ','. */
    for (int i = 1; i <= LOOK_AHEAD && !first && *step + i < last; i++) {
        if (gap_matches(*step + i, at)) {
            *step += i;
            *ret_column = (*step)->column;
            return mr__json_blanks(at + (*step)->gap_bytes);
        }
    }
    at = mr__json_blanks(at);
    *ret_end = *at == '}' && !first;
    if (*ret_end)
        return at;
    if (*at != (first ? '{' : ','))
        return mr__json_wrong(
            json, at, first ? "no '{' where the record begins" : "no ',' or '}' behind a value");
    at = mr__json_blanks(at + 1);
    *ret_end = *at == '}' && first;
    if (*ret_end)
        return at;
    at = mr__json_key(json, at, &key, &key_bytes);
    if (at == NULL)
        return NULL;
    *ret_column = mr__json_shape_find(&json->shape, key, key_bytes);
    at = mr__json_blanks(at);
    if (*at != ':')
        return mr__json_wrong(json, at, "no ':' behind a name");
    at = mr__json_blanks(at + 1);
    if (*step < last)
        learn(json, *step, gap, at, *ret_column);
    return at;
}

/* ---- values ---- */

/*
 * The special that ends the string whose inside begins at text. Where the strings of a step have
 * one length (ids, times), the place is also computed from that length, and that copy is handed on
 * once both are known to be equal: the processor then goes on with the next key without waiting for
 * the load and count of the bitmap. The empty assembly keeps the compiler from seeing that the two
 * are one.
 */
static inline const char *string_end(const struct mr__json *json, struct mr__json_step *step,
                                     const char *text)
{
    const char *end = mr__json_special(json, text);
    const char *guess = text + step->value_bytes;
    const char *same = guess;

    __asm__("" : "+r"(same));
    if (LIKELY(end == guess))
        return same;
    if (UNLIKELY(step->value_bytes != MR__JSON_LENGTH_VARIES))
        step->value_bytes = step->value_bytes == MR__JSON_LENGTH_UNKNOWN ? (uint32_t)(end - text)
                                                                         : MR__JSON_LENGTH_VARIES;
    return end;
}

/* A string without escapes, at its opening quote, its inside [at + 1, end): copied in whole vectors
 * where there is room. A column that could not be given memory for its bytes has no room for an
 * empty text either, hence >=. */
static inline bool append_text(struct mr__json *json, struct mr_column_builder *column,
                               const char *text, size_t size_bytes)
{
    if (UNLIKELY(column->length >= column->capacity ||
                 size_bytes >= column->bytes_capacity - column->bytes_used)) {
        if (mr_column_builder_reserve(column, 1, size_bytes, &json->err) != MR_OK)
            return false;
    }
    uint8_t *to = column->values + column->bytes_used;
    if (size_bytes <= 16)
        memcpy(to, text, 16); /* the builder and the region both have slack */
    else if (size_bytes <= MR_BUILDER_SLACK_BYTES)
        memcpy(to, text, MR_BUILDER_SLACK_BYTES);
    else
        memcpy(to, text, size_bytes);
    mr_column_builder_valid(column);
    column->bytes_used += size_bytes;
    column->offsets[++column->length] = (int32_t)column->bytes_used;
    return true;
}

static inline bool append_int64(struct mr__json *json, struct mr_column_builder *column,
                                int64_t value)
{
    if (UNLIKELY(column->length >= column->capacity) &&
        mr_column_builder_reserve(column, 1, 0, &json->err) != MR_OK)
        return false;
    mr_column_builder_i64(column, value);
    return true;
}

static int64_t timestamp_factor(enum mr__timestamp_form form)
{
    static const int64_t factors[] = {[MR__TIME_ISO] = 0,
                                      [MR__TIME_EPOCH_S] = 1000000,
                                      [MR__TIME_EPOCH_MS] = 1000,
                                      [MR__TIME_EPOCH_US] = 1};

    return factors[form];
}

/* BIGINT, or a timestamp that is a whole number of its unit: plain digits, quoted or not. NULL: the
 * general way. */
static inline const char *fast_int64(struct mr__json *json, struct mr_column_builder *column,
                                     const char *at, int64_t factor)
{
    bool quoted = *at == '"';
    int64_t value = 0;

    if (quoted && !json->coerce_strings)
        return NULL;
    const char *end = mr__json_fast_int(at + quoted, &value);
    if (end == NULL || (quoted ? *end != '"' : !mr__json_ends_value(*end)))
        return NULL;
    if (__builtin_mul_overflow(value, factor, &value))
        return NULL;
    return append_int64(json, column, value) ? end + quoted : NULL;
}

static inline const char *fast_timestamp(struct mr__json *json, struct mr_column_builder *column,
                                         const char *at)
{
    int64_t value = 0;

    if (json->timestamp_form != MR__TIME_ISO)
        return fast_int64(json, column, at, timestamp_factor(json->timestamp_form));
    const char *end = mr__json_fast_timestamp(at, &json->date, &value);
    return end != NULL && append_int64(json, column, value) ? end : NULL;
}

static inline const char *fast_double(struct mr__json *json, struct mr_column_builder *column,
                                      const char *at)
{
    double value = 0;
    const char *end = mr__json_fast_double(at, &value);

    if (end == NULL || mr_column_builder_reserve(column, 1, 0, &json->err) != MR_OK)
        return NULL;
    mr_column_builder_f64(column, value);
    return end;
}

static inline const char *fast_bool(struct mr__json *json, struct mr_column_builder *column,
                                    const char *at)
{
    bool value = false;
    const char *end = mr__json_fast_bool(at, &value);

    return end != NULL && mr_column_builder_bool(column, value, &json->err) == MR_OK ? end : NULL;
}

static inline const char *column_value(struct mr__json *json, struct mr__json_step *step,
                                       uint32_t index, const char *at)
{
    struct mr_column_builder *column = json->columns[index];
    const char *end = NULL;

    if (UNLIKELY(column->length != json->rows)) /* the last of equal keys wins */
        mr_column_builder_pop(column);
    else
        json->filled++;
    switch (json->predict ? column->type->id : MR_TYPE_STRUCT) { /* no short cuts without */
    case MR_TYPE_TEXT:
    case MR_TYPE_BINARY:
        if (*at != '"')
            break;
        end = string_end(json, step, at + 1);
        if (UNLIKELY(*end != '"'))
            break;
        return append_text(json, column, at + 1, (size_t)(end - at) - 1) ? end + 1 : NULL;
    case MR_TYPE_INT64:
        end = fast_int64(json, column, at, 1);
        break;
    case MR_TYPE_TIMESTAMP:
        end = fast_timestamp(json, column, at);
        break;
    case MR_TYPE_DOUBLE:
        end = fast_double(json, column, at);
        break;
    case MR_TYPE_BOOL:
        end = fast_bool(json, column, at);
        break;
    default:
        break;
    }
    if (end != NULL && column->length > json->rows)
        return end;
    return mr__json_value(json, &json->shape.children[index], column, at, 1);
}

static inline const char *unwanted_value(struct mr__json *json, struct mr__json_step *step,
                                         const char *at)
{
    if (LIKELY(*at == '"')) {
        const char *end = string_end(json, step, at + 1);
        return LIKELY(*end == '"') ? end + 1 : mr__json_skip_escapes(json, end);
    }
    return mr__json_skip(json, at, 1);
}

/* ---- the line ---- */

static bool fill_missing(struct mr__json *json)
{
    for (uint32_t i = 0; i < json->column_count; i++) {
        if (json->columns[i]->length == json->rows &&
            mr_column_builder_null(json->columns[i], &json->err) != MR_OK)
            return false;
    }
    return true;
}

/* Behind the '}' of the record: nothing but blanks and the newline. */
static const char *line_end(struct mr__json *json, const char *at)
{
    if (UNLIKELY(*at != '\n')) {
        at = mr__json_blanks(at);
        if (*at != '\n')
            return mr__json_wrong(json, at, "something behind the record");
    }
    if (json->filled != json->column_count && !fill_missing(json))
        return NULL;
    return at + 1;
}

/* Says in which column a bad value stands. */
static void name_column(struct mr__json *json, int32_t column)
{
    if (column >= 0)
        mr_error_prefix(&json->err, "column '%s'", json->top.fields[column].name);
}

const char *mr__json_line(struct mr__json *json, const char *line, bool *ret_blank)
{
    struct mr__json_step *last = json->steps + MR__JSON_STEPS_MAX;
    const char *at = line;

    json->line = line;
    json->filled = 0;
    *ret_blank = false;
    for (struct mr__json_step *step = json->steps;; step += step < last) {
        int32_t column = step->column;
        bool end = false;
        if (LIKELY(gap_matches(step, at))) {
            at += step->gap_bytes;
            if (UNLIKELY(*at == ' ' || *at == '\t' || *at == '\r'))
                at = mr__json_blanks(at); /* more of them than when the gap was learned */
        } else {
            if (at == line && *mr__json_blanks(at) == '\n') {
                *ret_blank = true;
                return mr__json_blanks(at) + 1;
            }
            at = slow_gap(json, at, &step, &column, &end);
            if (at == NULL)
                return NULL;
            if (end)
                return line_end(json, at + 1);
        }
        at = column < 0 ? unwanted_value(json, step, at)
                        : column_value(json, step, (uint32_t)column, at);
        if (UNLIKELY(at == NULL)) {
            name_column(json, column);
            return NULL;
        }
        if (*at == '}')
            return line_end(json, at + 1);
    }
}
