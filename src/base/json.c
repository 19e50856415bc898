/*
 * Small JSON documents: the reader and the trees; see json.h.  json_write.c has the writers.
 *
 * Called by sources (offsets), core (progress, manifests), duck and sql (syntax trees).
 *
 * The reader is RFC 8259 without extensions: the text is UTF-8, control characters in strings and
 * unpaired surrogates are refused, depth is at most 200.  Of equal keys in an object the last one
 * stays.  A node and its texts live in the arena of the caller.
 *
 * Thread: the owner of the arena.
 */
#include "base/json.h"

#include "base/check.h"
#include "base/limits.h"
#include "base/number_text.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = MR_LIMIT_JSON_OWN_DEPTH, FEW_MEMBERS = 16 };

struct parser {
    const char *text;
    const char *at;
    const char *end;
    struct mr_arena *arena;
    struct mr_error *err;
};

/* ---------------------------------------------------------------- reader */

static enum mr_status wrong(struct parser *parser, const char *what)
{
    return MR_FAIL(parser->err, MR_BAD_DATA, "cannot read JSON: %s at byte %zu", what,
                   (size_t)(parser->at - parser->text));
}

static enum mr_status no_memory(struct parser *parser)
{
    return MR_FAIL(parser->err, MR_NOMEM, "cannot read JSON: out of memory");
}

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->end && (*parser->at == ' ' || *parser->at == '\n' ||
                                        *parser->at == '\r' || *parser->at == '\t'))
        parser->at++;
}

static bool next_is(const struct parser *parser, char c)
{
    return parser->at < parser->end && *parser->at == c;
}

static bool hex4(const char *at, const char *end, unsigned *ret_value)
{
    unsigned value = 0;

    if (end - at < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        char c = at[i];
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
            digit = (unsigned)((c | 0x20) - 'a') + 10;
        else
            return false;
        value = value * 16 + digit;
    }
    *ret_value = value;
    return true;
}

static char *put_utf8(char *to, unsigned code)
{
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | (code >> 6));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | (code >> 12));
        *to++ = (char)(0x80 | ((code >> 6) & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | (code >> 18));
        *to++ = (char)(0x80 | ((code >> 12) & 0x3f));
        *to++ = (char)(0x80 | ((code >> 6) & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

/* At the 'u' of an escape; a high surrogate takes the escape of its low one along. */
static enum mr_status unicode_escape(struct parser *parser, char **to)
{
    unsigned code;
    unsigned low;

    if (!hex4(parser->at + 1, parser->end, &code))
        return wrong(parser, "a bad \\u escape");
    if (code >= 0xdc00 && code <= 0xdfff)
        return wrong(parser, "an unpaired surrogate");
    parser->at += 5;
    if (code >= 0xd800 && code <= 0xdbff) {
        if (parser->end - parser->at < 6 || parser->at[0] != '\\' || parser->at[1] != 'u' ||
            !hex4(parser->at + 2, parser->end, &low) || low < 0xdc00 || low > 0xdfff)
            return wrong(parser, "an unpaired surrogate");
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        parser->at += 6;
    }
    *to = put_utf8(*to, code);
    return MR_OK;
}

static enum mr_status escape(struct parser *parser, char **to)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    const char *name;

    if (++parser->at == parser->end)
        return wrong(parser, "an open string");
    if (*parser->at == 'u')
        return unicode_escape(parser, to);
    name = *parser->at == '\0' ? NULL : strchr(names, *parser->at);
    if (name == NULL)
        return wrong(parser, "an unknown escape");
    *(*to)++ = values[name - names];
    parser->at++;
    return MR_OK;
}

/* At the opening quote. The decoded text is never longer than what was written. */
static enum mr_status string(struct parser *parser, const char **ret_text, size_t *ret_bytes)
{
    const char *from = ++parser->at;
    const char *close = from;
    char *text;
    char *to;

    while (close < parser->end && *close != '"')
        close += *close == '\\' && close + 1 < parser->end ? 2 : 1;
    if (close >= parser->end) {
        parser->at = parser->end;
        return wrong(parser, "an open string");
    }
    text = mr_arena_alloc(parser->arena, (size_t)(close - from) + 1);
    if (text == NULL)
        return no_memory(parser);
    to = text;
    while (parser->at < close) {
        if ((unsigned char)*parser->at < 0x20)
            return wrong(parser, "a control character in a string");
        if (*parser->at == '\\')
            MR_TRY(escape(parser, &to));
        else
            *to++ = *parser->at++;
    }
    *to = '\0';
    parser->at = close + 1;
    *ret_text = text;
    *ret_bytes = (size_t)(to - text);
    return MR_OK;
}

static size_t digits_at(const struct parser *parser, const char *at)
{
    const char *from = at;

    while (at < parser->end && *at >= '0' && *at <= '9')
        at++;
    return (size_t)(at - from);
}

static enum mr_status number(struct parser *parser, struct mr_json *json)
{
    const char *from = parser->at;
    const char *at = from + (*from == '-' ? 1 : 0);
    size_t digits = digits_at(parser, at);

    if (digits == 0 || (digits > 1 && *at == '0'))
        return wrong(parser, "a bad number");
    at += digits;
    if (at < parser->end && *at == '.') {
        digits = digits_at(parser, at + 1);
        if (digits == 0)
            return wrong(parser, "a bad number");
        at += 1 + digits;
    }
    if (at < parser->end && (*at == 'e' || *at == 'E')) {
        at++;
        at += at < parser->end && (*at == '-' || *at == '+') ? 1 : 0;
        digits = digits_at(parser, at);
        if (digits == 0)
            return wrong(parser, "a bad number");
        at += digits;
    }
    json->kind = MR_JSON_NUMBER;
    json->text_bytes = (size_t)(at - from);
    json->text = mr_arena_copy(parser->arena, from, json->text_bytes);
    parser->at = at;
    return json->text == NULL ? no_memory(parser) : MR_OK;
}

static bool word(struct parser *parser, const char *text)
{
    size_t size = strlen(text);

    if ((size_t)(parser->end - parser->at) < size || memcmp(parser->at, text, size) != 0)
        return false;
    parser->at += size;
    return true;
}

/* ---------------------------------------------------------------- equal keys */

struct member {
    struct mr_json *json;
    size_t place;
};

static int by_key_and_place(const void *a, const void *b)
{
    const struct member *one = a;
    const struct member *two = b;
    int order = strcmp(one->json->key, two->json->key);

    return order != 0 ? order : one->place < two->place ? -1 : 1;
}

/* Rebuilds the list without the children that `dropped` says. */
static void relink(struct mr_json *object, const struct member *members, const bool *dropped)
{
    object->first = NULL;
    object->last = NULL;
    for (size_t i = 0, count = object->count; i < count; i++) {
        if (dropped[i]) {
            object->count--;
            continue;
        }
        members[i].json->next = NULL;
        if (object->last == NULL)
            object->first = members[i].json;
        else
            object->last->next = members[i].json;
        object->last = members[i].json;
    }
}

static bool has_equal_keys(const struct mr_json *object)
{
    for (const struct mr_json *a = object->first; a != NULL; a = a->next) {
        for (const struct mr_json *b = a->next; b != NULL; b = b->next) {
            if (strcmp(a->key, b->key) == 0)
                return true;
        }
    }
    return false;
}

static enum mr_status keep_last_of_equal_keys(struct parser *parser, struct mr_json *object)
{
    struct member *members;
    struct member *sorted;
    bool *dropped;
    size_t at = 0;

    if (object->count <= FEW_MEMBERS && !has_equal_keys(object))
        return MR_OK;
    members = mr_arena_alloc(parser->arena, object->count * 2 * sizeof(*members));
    dropped = mr_arena_alloc(parser->arena, object->count);
    if (members == NULL || dropped == NULL)
        return no_memory(parser);
    sorted = members + object->count;
    memset(dropped, 0, object->count);
    for (struct mr_json *json = object->first; json != NULL; json = json->next, at++) {
        members[at].json = json;
        members[at].place = at;
    }
    memcpy(sorted, members, object->count * sizeof(*members));
    qsort(sorted, object->count, sizeof(*sorted), by_key_and_place);
    for (size_t i = 1; i < object->count; i++) {
        if (strcmp(sorted[i - 1].json->key, sorted[i].json->key) == 0)
            dropped[sorted[i - 1].place] = true;
    }
    relink(object, members, dropped);
    return MR_OK;
}

/* ---------------------------------------------------------------- values */

static enum mr_status value(struct parser *parser, unsigned depth, struct mr_json *json);

static enum mr_status member_key(struct parser *parser, const char **ret_key)
{
    size_t size;

    skip_blanks(parser);
    if (!next_is(parser, '"'))
        return wrong(parser, "no member name");
    MR_TRY(string(parser, ret_key, &size));
    if (strlen(*ret_key) != size)
        return wrong(parser, "a NUL in a member name");
    skip_blanks(parser);
    if (!next_is(parser, ':'))
        return wrong(parser, "no ':'");
    parser->at++;
    return MR_OK;
}

/* At the opening bracket. */
static enum mr_status container(struct parser *parser, unsigned depth, struct mr_json *json)
{
    bool object = *parser->at == '{';
    char close = object ? '}' : ']';

    json->kind = object ? MR_JSON_OBJECT : MR_JSON_ARRAY;
    if (depth >= DEPTH_MAX)
        return wrong(parser, "more than 200 levels");
    parser->at++;
    skip_blanks(parser);
    if (next_is(parser, close)) {
        parser->at++;
        return MR_OK;
    }
    for (;;) {
        struct mr_json *child = mr_arena_alloc(parser->arena, sizeof(*child));

        if (child == NULL)
            return no_memory(parser);
        memset(child, 0, sizeof(*child));
        if (object)
            MR_TRY(member_key(parser, &child->key));
        MR_TRY(value(parser, depth + 1, child));
        mr_json_push(json, child);
        skip_blanks(parser);
        if (next_is(parser, close))
            break;
        if (!next_is(parser, ','))
            return wrong(parser, object ? "no ',' or '}'" : "no ',' or ']'");
        parser->at++;
    }
    parser->at++;
    return object ? keep_last_of_equal_keys(parser, json) : MR_OK;
}

static enum mr_status value(struct parser *parser, unsigned depth, struct mr_json *json)
{
    skip_blanks(parser);
    if (parser->at == parser->end)
        return wrong(parser, "the end of the text");
    switch (*parser->at) {
    case '{':
    case '[':
        return container(parser, depth, json);
    case '"':
        json->kind = MR_JSON_STRING;
        return string(parser, &json->text, &json->text_bytes);
    case 't':
    case 'f':
        json->kind = MR_JSON_BOOL;
        json->boolean = *parser->at == 't';
        return word(parser, json->boolean ? "true" : "false") ? MR_OK
                                                              : wrong(parser, "an unknown word");
    case 'n':
        json->kind = MR_JSON_NULL;
        return word(parser, "null") ? MR_OK : wrong(parser, "an unknown word");
    default:
        if (*parser->at == '-' || (*parser->at >= '0' && *parser->at <= '9'))
            return number(parser, json);
        return wrong(parser, "an unexpected character");
    }
}

enum mr_status mr_json_parse(const char *text, size_t text_bytes, struct mr_arena *arena,
                             struct mr_json **ret_json, struct mr_error *err)
{
    struct parser parser = {text, text, text + text_bytes, arena, err};
    struct mr_json *json;
    size_t valid = mr_utf8_valid_prefix(text, text_bytes);

    if (valid != text_bytes) {
        parser.at = text + valid;
        return wrong(&parser, "bad UTF-8");
    }
    json = mr_arena_alloc(arena, sizeof(*json));
    if (json == NULL)
        return no_memory(&parser);
    memset(json, 0, sizeof(*json));
    MR_TRY(value(&parser, 0, json));
    skip_blanks(&parser);
    if (parser.at != parser.end)
        return wrong(&parser, "something behind the value");
    *ret_json = json;
    return MR_OK;
}

/* ---------------------------------------------------------------- looking */

struct mr_json *mr_json_get(const struct mr_json *object, const char *key)
{
    if (object == NULL || object->kind != MR_JSON_OBJECT)
        return NULL;
    for (struct mr_json *child = object->first; child != NULL; child = child->next) {
        if (strcmp(child->key, key) == 0)
            return child;
    }
    return NULL;
}

struct mr_json *mr_json_at(const struct mr_json *array, size_t index)
{
    struct mr_json *child;

    if (array == NULL || array->kind != MR_JSON_ARRAY)
        return NULL;
    for (child = array->first; child != NULL && index > 0; child = child->next)
        index--;
    return child;
}

const char *mr_json_text(const struct mr_json *object, const char *key)
{
    const struct mr_json *json = mr_json_get(object, key);

    return json != NULL && json->kind == MR_JSON_STRING ? json->text : NULL;
}

bool mr_json_int(const struct mr_json *json, int64_t *ret_value)
{
    mr_int128 value;

    if (json == NULL || json->kind != MR_JSON_NUMBER)
        return false;
    if (mr_int_parse(json->text, json->text_bytes, ret_value))
        return true;
    /* 1e3 and 5.0 are integers too */
    if (!mr_decimal_parse(json->text, json->text_bytes, 19, 0, &value) || value > INT64_MAX ||
        value < INT64_MIN)
        return false;
    *ret_value = (int64_t)value;
    return true;
}

bool mr_json_is(const struct mr_json *json, const char *text)
{
    return json != NULL && json->kind == MR_JSON_STRING && json->text_bytes == strlen(text) &&
           memcmp(json->text, text, json->text_bytes) == 0;
}

/* ---------------------------------------------------------------- building */

static struct mr_json *new_node(struct mr_arena *arena, enum mr_json_kind kind)
{
    struct mr_json *json = mr_arena_alloc(arena, sizeof(*json));

    if (json == NULL)
        return NULL;
    memset(json, 0, sizeof(*json));
    json->kind = kind;
    return json;
}

static struct mr_json *new_text(struct mr_arena *arena, enum mr_json_kind kind, const char *text,
                                size_t size)
{
    struct mr_json *json = new_node(arena, kind);

    if (json == NULL)
        return NULL;
    json->text = mr_arena_copy(arena, text, size);
    json->text_bytes = size;
    return json->text == NULL ? NULL : json;
}

struct mr_json *mr_json_new_object(struct mr_arena *arena)
{
    return new_node(arena, MR_JSON_OBJECT);
}

struct mr_json *mr_json_new_array(struct mr_arena *arena)
{
    return new_node(arena, MR_JSON_ARRAY);
}

struct mr_json *mr_json_new_string(struct mr_arena *arena, const char *text)
{
    return new_text(arena, MR_JSON_STRING, text, strlen(text));
}

struct mr_json *mr_json_new_int(struct mr_arena *arena, int64_t number_value)
{
    char text[MR_NUMBER_TEXT_BYTES];

    return new_text(arena, MR_JSON_NUMBER, text, mr_int_print(number_value, text));
}

struct mr_json *mr_json_new_bool(struct mr_arena *arena, bool boolean)
{
    struct mr_json *json = new_node(arena, MR_JSON_BOOL);

    if (json != NULL)
        json->boolean = boolean;
    return json;
}

struct mr_json *mr_json_new_null(struct mr_arena *arena)
{
    return new_node(arena, MR_JSON_NULL);
}

struct mr_json *mr_json_copy(struct mr_arena *arena, const struct mr_json *json)
{
    struct mr_json *copy;

    if (json->kind == MR_JSON_STRING || json->kind == MR_JSON_NUMBER)
        copy = new_text(arena, json->kind, json->text, json->text_bytes);
    else
        copy = new_node(arena, json->kind);
    if (copy == NULL)
        return NULL;
    copy->boolean = json->boolean;
    for (const struct mr_json *child = json->first; child != NULL; child = child->next) {
        struct mr_json *one = mr_json_copy(arena, child);

        if (one == NULL)
            return NULL;
        if (child->key != NULL) {
            one->key = mr_arena_copy(arena, child->key, strlen(child->key));
            if (one->key == NULL)
                return NULL;
        }
        mr_json_push(copy, one);
    }
    return copy;
}

void mr_json_push(struct mr_json *array, struct mr_json *item)
{
    if (item == NULL) /* no memory: whoever uses the tree looks at arena->failed */
        return;
    item->next = NULL;
    if (array->last == NULL)
        array->first = item;
    else
        array->last->next = item;
    array->last = item;
    array->count++;
}

void mr_json_put(struct mr_arena *arena, struct mr_json *object, const char *key,
                 struct mr_json *item)
{
    struct mr_json **link = &object->first;
    struct mr_json *old;

    MR_ASSERT(object->kind == MR_JSON_OBJECT);
    if (item == NULL)
        return;
    while (*link != NULL && strcmp((*link)->key, key) != 0)
        link = &(*link)->next;
    old = *link;
    if (old == NULL) {
        item->key = mr_arena_copy(arena, key, strlen(key));
        if (item->key != NULL)
            mr_json_push(object, item);
        return;
    }
    item->key = old->key;
    item->next = old->next;
    *link = item;
    if (object->last == old)
        object->last = item;
}
