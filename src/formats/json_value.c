/*
 * JSON values into columns, the general way: any nesting, escapes, blanks; and the same checks for
 * values nobody wants.
 *
 *     BOOL              true, false                     coerce_strings: "true"
 *     TINYINT..UBIGINT  12, -3, 1.0, 1e3 when exact     coerce_strings: "12"
 *     FLOAT, DOUBLE     a finite number, "NaN", "Infinity", "-Infinity"      coerce_strings: "1.5"
 *     DECIMAL           a number that is exact at the scale coerce_strings: "1.50"
 *     VARCHAR           "text"; any other value: its bytes as they are written
 *     BLOB              "text": its UTF-8 bytes
 *     DATE, TIMESTAMP   "2026-11-21", "2026-11-21T10:00:00Z"; timestamp_format 'epoch_*': a number
 *     LIST, STRUCT      [...], {...}: unknown names are ignored, missing ones null, the last of
 *                       equal names wins
 *     null              null for every type
 *
 * What makes a record bad, wanted value or not: a token that JSON does not have (RFC 8259), a
 * control character in a string, an escape that does not exist, half a surrogate pair, more than
 * MR__JSON_DEPTH_MAX levels. UTF-8 is checked by json.c.
 *
 * Called by json_line.c.  Threads: the decoder's.
 */
#include "formats/json_internal.h"

#include "base/number_text.h"
#include "base/text.h"
#include "base/time_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *mr__json_wrong(struct mr__json *json, const char *at, const char *what)
{
    (void)MR_FAIL(&json->err, MR_BAD_DATA, "not valid JSON: %s at byte %zu of the line", what,
                  (size_t)(at - json->line) + 1);
    return NULL;
}

/* A value of the wrong kind or out of range: the token, cut at what ends it. */
static const char *not_a(struct mr__json *json, const struct mr_type *type, const char *at,
                         const char *end)
{
    (void)mr__not_a(type, at, (size_t)(end - at), &json->err);
    return NULL;
}

/* Turns a builder's status into a place. */
static inline const char *after_append(enum mr_status status, const char *after)
{
    return status == MR_OK ? after : NULL;
}

/* ---- strings ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits at `at`, or -1. */
static int32_t hex4(const char *at)
{
    int32_t value = 0;

    for (int i = 0; i < 4; i++) {
        int digit = hex_value(at[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static size_t put_utf8(uint32_t code, char out[4])
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char)(0xe0 | code >> 12);
        out[1] = (char)(0x80 | (code >> 6 & 0x3f));
        out[2] = (char)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | code >> 18);
    out[1] = (char)(0x80 | (code >> 12 & 0x3f));
    out[2] = (char)(0x80 | (code >> 6 & 0x3f));
    out[3] = (char)(0x80 | (code & 0x3f));
    return 4;
}

/* One escape at its backslash: what it stands for into out; behind it. */
static const char *escape(struct mr__json *json, const char *at, char out[4], size_t *ret_bytes)
{
    static const char letters[] = "\"\\/bfnrt";
    static const char meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter = at[1] == '\0' ? NULL : strchr(letters, at[1]);

    if (letter != NULL) {
        out[0] = meanings[letter - letters];
        *ret_bytes = 1;
        return at + 2;
    }
    int32_t code = at[1] == 'u' ? hex4(at + 2) : -1;
    if (code < 0)
        return mr__json_wrong(json, at, "an escape that does not exist");
    if (code >= 0xd800 && code < 0xe000) {
        int32_t low = code < 0xdc00 && at[6] == '\\' && at[7] == 'u' ? hex4(at + 8) : -1;
        if (low < 0xdc00 || low >= 0xe000)
            return mr__json_wrong(json, at, "half a surrogate pair");
        *ret_bytes =
            put_utf8(0x10000u + ((uint32_t)(code - 0xd800) << 10) + (uint32_t)(low - 0xdc00), out);
        return at + 12;
    }
    *ret_bytes = put_utf8((uint32_t)code, out);
    return at + 6;
}

/* At a special that is neither quote nor backslash. */
static const char *broken_string(struct mr__json *json, const char *at)
{
    return mr__json_wrong(
        json, at, *at == '\n' ? "a string without its end" : "a control character in a string");
}

const char *mr__json_skip_escapes(struct mr__json *json, const char *at)
{
    char ignored[4];
    size_t ignored_bytes = 0;

    while (*at == '\\') {
        at = escape(json, at, ignored, &ignored_bytes);
        if (at == NULL)
            return NULL;
        at = mr__json_special(json, at);
    }
    return *at == '"' ? at + 1 : broken_string(json, at);
}

static const char *skip_string(struct mr__json *json, const char *at)
{
    const char *end = mr__json_special(json, at + 1);

    return *end == '"' ? end + 1 : mr__json_skip_escapes(json, end);
}

/* Writes the string whose inside begins at `at` without escapes to `to`, which has room for it as
 * written. */
static const char *unescape(struct mr__json *json, const char *at, char *to, size_t *ret_bytes)
{
    char *start = to;

    for (;;) {
        const char *end = mr__json_special(json, at);
        size_t size_bytes = 0;
        memcpy(to, at, (size_t)(end - at));
        to += end - at;
        if (*end == '"') {
            *ret_bytes = (size_t)(to - start);
            return end + 1;
        }
        if (*end != '\\')
            return broken_string(json, end);
        at = escape(json, end, to, &size_bytes);
        if (at == NULL)
            return NULL;
        to += size_bytes;
    }
}

/* A string with escapes into json->scratch: from its opening quote; behind its closing one. */
static const char *unescape_to_scratch(struct mr__json *json, const char *at, const char **ret_text,
                                       size_t *ret_bytes)
{
    const char *end = skip_string(json, at);

    if (end == NULL)
        return NULL;
    mr_buf_clear(&json->scratch);
    if (!mr_buf_reserve(&json->scratch, (size_t)(end - at) + 4)) {
        (void)MR_FAIL(&json->err, MR_NOMEM, "cannot decode JSON: out of memory");
        return NULL;
    }
    *ret_text = json->scratch.data;
    return unescape(json, at + 1, json->scratch.data, ret_bytes);
}

const char *mr__json_key(struct mr__json *json, const char *at, const char **ret_key,
                         size_t *ret_key_bytes)
{
    if (*at != '"')
        return mr__json_wrong(json, at, "no name where one belongs");
    const char *end = mr__json_special(json, at + 1);
    if (*end != '"')
        return unescape_to_scratch(json, at, ret_key, ret_key_bytes);
    *ret_key = at + 1;
    *ret_key_bytes = (size_t)(end - at) - 1;
    return end + 1;
}

static const char *text_value(struct mr__json *json, struct mr_column_builder *column,
                              const char *at)
{
    const char *end = skip_string(json, at);
    size_t size_bytes = 0;

    if (end == NULL)
        return NULL;
    if (mr_column_builder_reserve(column, 1, (size_t)(end - at) + 4, &json->err) != MR_OK)
        return NULL;
    char *to = (char *)column->values + column->bytes_used;
    at = unescape(json, at + 1, to, &size_bytes);
    mr_column_builder_valid(column);
    column->bytes_used += size_bytes;
    column->offsets[++column->length] = (int32_t)column->bytes_used;
    return at;
}

const char *mr__json_from_string(struct mr__json *json, struct mr_column_builder *column,
                                 const char *text, size_t size_bytes, const char *after)
{
    enum mr_type_id id = column->type->id;
    bool number = id == MR_TYPE_FLOAT || id == MR_TYPE_DOUBLE;
    bool timestamp = id == MR_TYPE_TIMESTAMP || id == MR_TYPE_TIMESTAMP_NS;
    bool allowed = json->coerce_strings || id == MR_TYPE_DATE ||
                   (timestamp && json->timestamp_form == MR__TIME_ISO);

    if (number && !allowed) {
        static const char *const names[] = {"NaN", "Infinity", "-Infinity"};
        for (size_t i = 0; i < MR_ARRAY_SIZE(names); i++)
            allowed |= size_bytes == strlen(names[i]) && memcmp(text, names[i], size_bytes) == 0;
    }
    if (!allowed)
        return not_a(json, column->type, text - 1, text + size_bytes + 1); /* with its quotes */
    return after_append(
        mr__value_from_text(column, text, size_bytes, json->timestamp_form, &json->err), after);
}

static const char *string_value(struct mr__json *json, struct mr_column_builder *column,
                                const char *at)
{
    const char *text = at + 1;
    const char *end = mr__json_special(json, text);
    size_t size_bytes = (size_t)(end - text);

    if (column->type->id == MR_TYPE_TEXT || column->type->id == MR_TYPE_BINARY)
        return text_value(json, column, at);
    if (*end == '"')
        return mr__json_from_string(json, column, text, size_bytes, end + 1);
    end = unescape_to_scratch(json, at, &text, &size_bytes);
    if (end == NULL)
        return NULL;
    /* not_a shows a quote on either side */
    char *copy = json->scratch.data;
    memmove(copy + 1, copy, size_bytes);
    copy[0] = '"';
    copy[size_bytes + 1] = '"';
    return mr__json_from_string(json, column, copy + 1, size_bytes, end);
}

/* ---- numbers and words ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Behind the number, or NULL when JSON has no such number. *ret_whole: digits only. */
static const char *number_end(const char *at, bool *ret_whole)
{
    *ret_whole = true;
    at += *at == '-';
    if (!is_digit(*at))
        return NULL;
    if (*at == '0')
        at++;
    else
        while (is_digit(*at))
            at++;
    if (*at == '.') {
        *ret_whole = false;
        if (!is_digit(*++at))
            return NULL;
        while (is_digit(*at))
            at++;
    }
    if (*at == 'e' || *at == 'E') {
        *ret_whole = false;
        at++;
        at += *at == '+' || *at == '-';
        if (!is_digit(*at))
            return NULL;
        while (is_digit(*at))
            at++;
    }
    return at;
}

/* What may stand behind a number or a word. */
static bool ends_token(char c)
{
    return c == ',' || c == '}' || c == ']' || c == '\n' || c == ' ' || c == '\t' || c == '\r';
}

/* Where a wrong token ends, for the error text. */
static const char *token_end(struct mr__json *json, const char *at)
{
    if (*at == '"') {
        const char *end = skip_string(json, at);
        return end != NULL ? end : at + 1;
    }
    const char *end = at;
    while (!ends_token(*end))
        end++;
    return end > at ? end : at + 1;
}

static const char *integer_value(struct mr__json *json, struct mr_column_builder *column,
                                 const char *at, const char *end, bool whole)
{
    size_t size_bytes = (size_t)(end - at);
    mr_int128 exact = 0;
    int64_t value = 0;
    enum mr_status status;

    if (whole && mr_int_parse(at, size_bytes, &value))
        status = mr_column_builder_int(column, value, &json->err);
    else if (!mr_decimal_parse(at, size_bytes, 38, 0, &exact) || exact < INT64_MIN ||
             exact > UINT64_MAX)
        return not_a(json, column->type, at, end);
    else if (exact < 0)
        status = mr_column_builder_int(column, (int64_t)exact, &json->err);
    else
        status = mr_column_builder_uint(column, (uint64_t)exact, &json->err);
    return status == MR_BAD_DATA ? not_a(json, column->type, at, end) : after_append(status, end);
}

static const char *number_value(struct mr__json *json, struct mr_column_builder *column,
                                const char *at)
{
    const struct mr_type *type = column->type;
    bool whole = false;
    const char *end = number_end(at, &whole);
    size_t size_bytes = end == NULL ? 0 : (size_t)(end - at);
    mr_int128 unscaled = 0;
    double real = 0;

    if (end == NULL || !ends_token(*end))
        return not_a(json, type, at, token_end(json, at));
    switch (type->id) {
    case MR_TYPE_BOOL:
    case MR_TYPE_BINARY:
    case MR_TYPE_DATE:
    case MR_TYPE_LIST:
    case MR_TYPE_STRUCT:
        return not_a(json, type, at, end);
    case MR_TYPE_TEXT:
        return after_append(mr_column_builder_text(column, at, size_bytes, &json->err), end);
    case MR_TYPE_FLOAT:
    case MR_TYPE_DOUBLE:
        if (!mr_double_parse(at, size_bytes, &real) || !isfinite(real) ||
            (type->id == MR_TYPE_FLOAT && isinf((float)real)))
            return not_a(json, type, at, end);
        return after_append(mr_column_builder_double(column, real, &json->err), end);
    case MR_TYPE_DECIMAL:
        if (!mr_decimal_parse(at, size_bytes, type->precision, type->scale, &unscaled))
            return not_a(json, type, at, end);
        return after_append(mr_column_builder_decimal(column, unscaled, &json->err), end);
    case MR_TYPE_TIMESTAMP:
    case MR_TYPE_TIMESTAMP_NS:
        if (json->timestamp_form == MR__TIME_ISO)
            return not_a(json, type, at, end);
        return after_append(
            mr__timestamp_from_number(column, at, size_bytes, json->timestamp_form, &json->err),
            end);
    default:
        return integer_value(json, column, at, end, whole);
    }
}

/* Behind `word` when it stands at `at` as a whole token, else NULL. */
static const char *word_end(const char *at, const char *word, size_t word_bytes)
{
    return memcmp(at, word, word_bytes) == 0 ? at + word_bytes : NULL;
}

/* true, false, null: behind it; *ret_word is its first letter. NULL: none of them. */
static const char *any_word(const char *at, char *ret_word)
{
    *ret_word = *at;
    if (*at == 't')
        return word_end(at, "true", 4);
    if (*at == 'f')
        return word_end(at, "false", 5);
    return *at == 'n' ? word_end(at, "null", 4) : NULL;
}

static const char *word_value(struct mr__json *json, struct mr_column_builder *column,
                              const char *at)
{
    char word = 0;
    const char *end = any_word(at, &word);

    if (end == NULL || !ends_token(*end))
        return not_a(json, column->type, at, token_end(json, at));
    if (word == 'n')
        return after_append(mr_column_builder_null(column, &json->err), end);
    if (column->type->id == MR_TYPE_TEXT)
        return after_append(mr_column_builder_text(column, at, (size_t)(end - at), &json->err),
                            end);
    if (column->type->id != MR_TYPE_BOOL)
        return not_a(json, column->type, at, end);
    return after_append(mr_column_builder_bool(column, word == 't', &json->err), end);
}

/* ---- nested ---- */

static const char *too_deep(struct mr__json *json, const char *at)
{
    (void)MR_FAIL(&json->err, MR_BAD_DATA, "nested deeper than %d at byte %zu of the line",
                  MR__JSON_DEPTH_MAX, (size_t)(at - json->line) + 1);
    return NULL;
}

static const char *list_value(struct mr__json *json, const struct mr__json_shape *shape,
                              struct mr_column_builder *column, const char *at, unsigned depth)
{
    if (depth >= MR__JSON_DEPTH_MAX)
        return too_deep(json, at);
    at = mr__json_blanks(at + 1);
    while (*at != ']') {
        at = mr__json_value(json, &shape->children[0], &column->children[0], at, depth + 1);
        if (at == NULL)
            return NULL;
        at = mr__json_blanks(at);
        if (*at == ']')
            break;
        if (*at != ',')
            return mr__json_wrong(json, at, "no ',' or ']' behind an item");
        at = mr__json_blanks(at + 1);
        if (*at == ']')
            return mr__json_wrong(json, at, "no item behind a ','");
    }
    return after_append(mr_column_builder_list_end(column, &json->err), at + 1);
}

/* The name, ':' and blanks of a member; *ret_index of the field, -1 when it is unknown. */
static const char *member_name(struct mr__json *json, const struct mr__json_shape *shape,
                               const char *at, int32_t *ret_index)
{
    const char *key = NULL;
    size_t key_bytes = 0;

    at = mr__json_key(json, at, &key, &key_bytes);
    if (at == NULL)
        return NULL;
    *ret_index = shape == NULL ? -1 : mr__json_shape_find(shape, key, key_bytes);
    at = mr__json_blanks(at);
    if (*at != ':')
        return mr__json_wrong(json, at, "no ':' behind a name");
    return mr__json_blanks(at + 1);
}

/* Members of an object behind its '{'; shape and column NULL: nobody wants them. Behind its '}'. */
static const char *members(struct mr__json *json, const struct mr__json_shape *shape,
                           struct mr_column_builder *column, const char *at, unsigned depth)
{
    at = mr__json_blanks(at);
    while (*at != '}') {
        int32_t index = -1;
        at = member_name(json, shape, at, &index);
        if (at == NULL)
            return NULL;
        if (index < 0) {
            at = mr__json_skip(json, at, depth);
        } else {
            MR_ASSERT(shape != NULL && column != NULL);
            struct mr_column_builder *child = &column->children[index];
            if (child->length > column->length)
                mr_column_builder_pop(child); /* the last of equal names wins */
            at = mr__json_value(json, &shape->children[index], child, at, depth);
        }
        if (at == NULL)
            return NULL;
        at = mr__json_blanks(at);
        if (*at == '}')
            break;
        if (*at != ',')
            return mr__json_wrong(json, at, "no ',' or '}' behind a value");
        at = mr__json_blanks(at + 1);
        if (*at == '}')
            return mr__json_wrong(json, at, "no name behind a ','");
    }
    return at + 1;
}

static const char *struct_value(struct mr__json *json, const struct mr__json_shape *shape,
                                struct mr_column_builder *column, const char *at, unsigned depth)
{
    if (depth >= MR__JSON_DEPTH_MAX)
        return too_deep(json, at);
    at = members(json, shape, column, at + 1, depth + 1);
    if (at == NULL)
        return NULL;
    for (uint32_t i = 0; i < column->type->field_count; i++) {
        if (column->children[i].length == column->length &&
            mr_column_builder_null(&column->children[i], &json->err) != MR_OK)
            return NULL;
    }
    return after_append(mr_column_builder_struct_end(column, &json->err), at);
}

static const char *skip_list(struct mr__json *json, const char *at, unsigned depth)
{
    at = mr__json_blanks(at + 1);
    while (*at != ']') {
        at = mr__json_skip(json, at, depth + 1);
        if (at == NULL)
            return NULL;
        at = mr__json_blanks(at);
        if (*at == ']')
            break;
        if (*at != ',')
            return mr__json_wrong(json, at, "no ',' or ']' behind an item");
        at = mr__json_blanks(at + 1);
        if (*at == ']')
            return mr__json_wrong(json, at, "no item behind a ','");
    }
    return at + 1;
}

const char *mr__json_skip(struct mr__json *json, const char *at, unsigned depth)
{
    const char *end = NULL;
    bool whole = false;
    char word = 0;

    if (*at == '"')
        return skip_string(json, at);
    if (*at == '{' || *at == '[') {
        if (depth >= MR__JSON_DEPTH_MAX)
            return too_deep(json, at);
        return *at == '[' ? skip_list(json, at, depth)
                          : members(json, NULL, NULL, at + 1, depth + 1);
    }
    end = *at == '-' || is_digit(*at) ? number_end(at, &whole) : any_word(at, &word);
    return end != NULL ? end : mr__json_wrong(json, at, "no value where one belongs");
}

/* A list or object where the column is no list or struct: text as written, or wrong. */
static const char *nested_elsewhere(struct mr__json *json, struct mr_column_builder *column,
                                    const char *at, unsigned depth)
{
    const char *end = mr__json_skip(json, at, depth);

    if (end == NULL)
        return NULL;
    if (column->type->id != MR_TYPE_TEXT)
        return not_a(json, column->type, at, end);
    return after_append(mr_column_builder_text(column, at, (size_t)(end - at), &json->err), end);
}

const char *mr__json_value(struct mr__json *json, const struct mr__json_shape *shape,
                           struct mr_column_builder *column, const char *at, unsigned depth)
{
    switch (*at) {
    case '"':
        return string_value(json, column, at);
    case '[':
        if (column->type->id == MR_TYPE_LIST)
            return list_value(json, shape, column, at, depth);
        return nested_elsewhere(json, column, at, depth);
    case '{':
        if (column->type->id == MR_TYPE_STRUCT)
            return struct_value(json, shape, column, at, depth);
        return nested_elsewhere(json, column, at, depth);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9':
        return number_value(json, column, at);
    case 't':
    case 'f':
    case 'n':
        return word_value(json, column, at);
    default:
        return mr__json_wrong(json, at, "no value where one belongs");
    }
}
