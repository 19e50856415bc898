/*
 * Parses column lists: "a BIGINT, b VARCHAR(10), c STRUCT(x INT, y DOUBLE)[]".
 *
 *     columns := [ column { ',' column } ]
 *     column  := name type
 *     type    := base { '[' ']' }
 *     base    := STRUCT | ROW ( columns ) or < columns > with an optional ':' after a name
 *              | ARRAY | LIST ( type ) or < type >
 *              | words [ '(' number [ ',' number ] ')' ] [ WITH | WITHOUT [LOCAL] TIME ZONE ]
 *              | BLOB ( codec ) | codec, by the name that it is registered with
 *     name    := word | "quoted ""word"""
 *
 * Comments (-- and slash-star) count as blanks. Called by the SQL front end for CREATE TABLE and by
 * whoever stores a schema as text. Fields are collected in a scratch arena and copied by
 * mr_schema_new, which checks the names. Threads: any.
 */
#include "base/alloc.h"
#include "base/check.h"
#include "base/text.h"

#include "data/codec.h"
#include "data/types_internal.h"

#include <string.h>

struct parser {
    const char *at;
    const char *end;
    struct mr_arena arena;
    struct mr_error *err;
};

struct word {
    const char *text;
    size_t size_bytes;
};

struct synonym {
    const char *word;
    enum mr_type_id id;
};

static const struct synonym synonyms[] = {
    {"BOOLEAN", MR_TYPE_BOOL},
    {"BOOL", MR_TYPE_BOOL},
    {"LOGICAL", MR_TYPE_BOOL},
    {"TINYINT", MR_TYPE_INT8},
    {"INT1", MR_TYPE_INT8},
    {"BYTE", MR_TYPE_INT8},
    {"SMALLINT", MR_TYPE_INT16},
    {"INT2", MR_TYPE_INT16},
    {"INT16", MR_TYPE_INT16},
    {"SHORT", MR_TYPE_INT16},
    {"INTEGER", MR_TYPE_INT32},
    {"INT", MR_TYPE_INT32},
    {"INT4", MR_TYPE_INT32},
    {"INT32", MR_TYPE_INT32},
    {"SIGNED", MR_TYPE_INT32},
    {"BIGINT", MR_TYPE_INT64},
    {"LONG", MR_TYPE_INT64},
    {"INT8", MR_TYPE_INT64},
    {"INT64", MR_TYPE_INT64},
    {"UTINYINT", MR_TYPE_UINT8},
    {"UINT8", MR_TYPE_UINT8},
    {"USMALLINT", MR_TYPE_UINT16},
    {"UINT16", MR_TYPE_UINT16},
    {"UINTEGER", MR_TYPE_UINT32},
    {"UINT32", MR_TYPE_UINT32},
    {"UBIGINT", MR_TYPE_UINT64},
    {"UINT64", MR_TYPE_UINT64},
    {"FLOAT", MR_TYPE_FLOAT},
    {"FLOAT4", MR_TYPE_FLOAT},
    {"REAL", MR_TYPE_FLOAT},
    {"DOUBLE", MR_TYPE_DOUBLE},
    {"FLOAT8", MR_TYPE_DOUBLE},
    {"DECIMAL", MR_TYPE_DECIMAL},
    {"NUMERIC", MR_TYPE_DECIMAL},
    {"DEC", MR_TYPE_DECIMAL},
    {"VARCHAR", MR_TYPE_TEXT},
    {"TEXT", MR_TYPE_TEXT},
    {"STRING", MR_TYPE_TEXT},
    {"CHAR", MR_TYPE_TEXT},
    {"CHARACTER", MR_TYPE_TEXT},
    {"BPCHAR", MR_TYPE_TEXT},
    {"BLOB", MR_TYPE_BINARY},
    {"BINARY", MR_TYPE_BINARY},
    {"VARBINARY", MR_TYPE_BINARY},
    {"BYTES", MR_TYPE_BINARY},
    {"BYTEA", MR_TYPE_BINARY},
    {"DATE", MR_TYPE_DATE},
    {"TIMESTAMP", MR_TYPE_TIMESTAMP},
    {"DATETIME", MR_TYPE_TIMESTAMP},
    {"TIMESTAMP_US", MR_TYPE_TIMESTAMP},
    {"TIMESTAMP_MS", MR_TYPE_TIMESTAMP},
    {"TIMESTAMP_S", MR_TYPE_TIMESTAMP},
    {"TIMESTAMPTZ", MR_TYPE_TIMESTAMP},
    {"TIMESTAMP_LTZ", MR_TYPE_TIMESTAMP},
    {"TIMESTAMP_NTZ", MR_TYPE_TIMESTAMP},
    {"TIMESTAMP_NS", MR_TYPE_TIMESTAMP_NS},
    {"LIST", MR_TYPE_LIST},
    {"ARRAY", MR_TYPE_LIST},
    {"STRUCT", MR_TYPE_STRUCT},
    {"ROW", MR_TYPE_STRUCT},
};

/* ---- words ---- */

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->end) {
        const char *at = parser->at;
        size_t left = (size_t)(parser->end - at);
        if (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r') {
            parser->at++;
        } else if (left >= 2 && at[0] == '-' && at[1] == '-') {
            const char *newline = memchr(at, '\n', left);
            parser->at = newline == NULL ? parser->end : newline + 1;
        } else if (left >= 4 && at[0] == '/' && at[1] == '*') {
            const char *close = memmem(at + 2, left - 2, "*/", 2);
            parser->at = close == NULL ? parser->end : close + 2;
        } else {
            return;
        }
    }
}

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static struct word peek_word(struct parser *parser)
{
    skip_blanks(parser);
    struct word word = {parser->at, 0};
    while (word.text + word.size_bytes < parser->end && is_word_char(word.text[word.size_bytes]))
        word.size_bytes++;
    return word;
}

static bool word_is(struct word word, const char *text)
{
    return mr_text_equal_nocase(word.text, word.size_bytes, text, strlen(text));
}

bool mr__is_type_word(const char *word, size_t word_bytes)
{
    for (size_t i = 0; i < MR_ARRAY_SIZE(synonyms); i++) {
        if (mr_text_equal_nocase(word, word_bytes, synonyms[i].word, strlen(synonyms[i].word)))
            return true;
    }
    return false;
}

static bool take_word(struct parser *parser, const char *text)
{
    struct word word = peek_word(parser);

    if (!word_is(word, text))
        return false;
    parser->at += word.size_bytes;
    return true;
}

static bool take_char(struct parser *parser, char c)
{
    skip_blanks(parser);
    if (parser->at >= parser->end || *parser->at != c)
        return false;
    parser->at++;
    return true;
}

/* Says what stands where something else was expected. */
static enum mr_status fail_here(struct parser *parser, const char *expected)
{
    struct word word = peek_word(parser);
    char shown[64];

    if (parser->at >= parser->end)
        return MR_FAIL(parser->err, MR_CONFIG,
                       "cannot read column list: it ends where %s is expected; complete it",
                       expected);
    mr_text_escape(parser->at, word.size_bytes > 0 ? word.size_bytes : 1, shown, sizeof shown);
    return MR_FAIL(parser->err, MR_CONFIG,
                   "cannot read column list: '%s' stands where %s is expected; write it as "
                   "'name TYPE, name TYPE'",
                   shown, expected);
}

static enum mr_status no_memory(struct parser *parser)
{
    return MR_FAIL(parser->err, MR_NOMEM, "cannot read column list: out of memory");
}

static enum mr_status take_quoted(struct parser *parser, const char **ret_name)
{
    const char *from = ++parser->at;
    size_t size_bytes = 0;
    char *name = mr_arena_copy(&parser->arena, from, (size_t)(parser->end - from));

    if (name == NULL)
        return no_memory(parser);
    for (; parser->at < parser->end; parser->at++) {
        if (*parser->at == '"') {
            if (parser->at + 1 == parser->end || parser->at[1] != '"') {
                parser->at++;
                name[size_bytes] = '\0';
                *ret_name = name;
                return MR_OK;
            }
            parser->at++;
        }
        name[size_bytes++] = *parser->at;
    }
    return MR_FAIL(parser->err, MR_CONFIG,
                   "cannot read column list: a quoted name has no closing '\"'; add it");
}

static enum mr_status take_name(struct parser *parser, const char **ret_name)
{
    struct word word = peek_word(parser);

    if (parser->at < parser->end && *parser->at == '"')
        return take_quoted(parser, ret_name);
    if (word.size_bytes == 0)
        return fail_here(parser, "a column name");
    const char *name = mr_arena_copy(&parser->arena, word.text, word.size_bytes);
    if (name == NULL)
        return no_memory(parser);
    parser->at += word.size_bytes;
    *ret_name = name;
    return MR_OK;
}

/* ---- types ---- */

/* "(10)" or "(10,2)": up to two numbers. *ret_count says how many there were. */
static enum mr_status take_numbers(struct parser *parser, unsigned numbers[2], unsigned *ret_count)
{
    *ret_count = 0;
    if (!take_char(parser, '('))
        return MR_OK;
    do {
        struct word word = peek_word(parser);
        unsigned value = 0;
        if (word.size_bytes == 0 || word.size_bytes > 9 || *ret_count == 2)
            return fail_here(parser, "a number or ')'");
        for (size_t i = 0; i < word.size_bytes; i++) {
            if (word.text[i] < '0' || word.text[i] > '9')
                return fail_here(parser, "a number");
            value = value * 10 + (unsigned)(word.text[i] - '0');
        }
        parser->at += word.size_bytes;
        numbers[(*ret_count)++] = value;
    } while (take_char(parser, ','));
    return take_char(parser, ')') ? MR_OK : fail_here(parser, "')'");
}

static enum mr_status parse_type(struct parser *parser, const char *name, unsigned depth,
                                 struct mr_type *ret_type);

/* Columns up to `close` (0: the end of the text). */
static enum mr_status parse_columns(struct parser *parser, char close, unsigned depth,
                                    struct mr_field **ret_fields, uint32_t *ret_count)
{
    struct mr_field *fields = NULL;
    uint32_t count = 0;
    uint32_t capacity = 0;

    do {
        if (count == capacity) {
            capacity = capacity == 0 ? 16 : capacity * 2;
            struct mr_field *more = mr_arena_alloc(&parser->arena, sizeof *more * capacity);
            if (more == NULL)
                return no_memory(parser);
            if (count > 0)
                memcpy(more, fields, sizeof *more * count);
            fields = more;
        }
        if (count == MR_COLUMNS_MAX)
            return MR_FAIL(parser->err, MR_CONFIG,
                           "cannot read column list: more than %d columns; use fewer",
                           MR_COLUMNS_MAX);
        MR_TRY(take_name(parser, &fields[count].name));
        if (close != 0)
            (void)take_char(parser, ':');
        MR_TRY(parse_type(parser, fields[count].name, depth, &fields[count].type));
        count++;
    } while (take_char(parser, ','));
    if (close != 0 && !take_char(parser, close))
        return fail_here(parser, close == '>' ? "',' or '>'" : "',' or ')'");
    *ret_fields = fields;
    *ret_count = count;
    return MR_OK;
}

static enum mr_status parse_nested(struct parser *parser, const char *name, unsigned depth,
                                   struct mr_type *type)
{
    char close = take_char(parser, '(') ? ')' : take_char(parser, '<') ? '>' : 0;

    if (close == 0)
        return fail_here(parser, "'(' with what the type holds");
    if (type->id == MR_TYPE_STRUCT) {
        struct mr_field *fields = NULL;
        MR_TRY(parse_columns(parser, close, depth + 1, &fields, &type->field_count));
        type->fields = fields;
        return MR_OK;
    }
    struct mr_field *item = mr_arena_alloc(&parser->arena, sizeof *item);
    if (item == NULL)
        return no_memory(parser);
    item->name = "item";
    MR_TRY(parse_type(parser, name, depth + 1, &item->type));
    if (!take_char(parser, close))
        return fail_here(parser, close == '>' ? "'>'" : "')'");
    type->fields = item;
    type->field_count = 1;
    return MR_OK;
}

/* "(name)" behind BLOB: the printed form of a type with a codec. A number is a length. */
static enum mr_status take_extension(struct parser *parser, struct mr_type *type)
{
    const char *before = parser->at;
    struct word word;

    if (!take_char(parser, '('))
        return MR_OK;
    word = peek_word(parser);
    if (word.size_bytes == 0 || (word.text[0] >= '0' && word.text[0] <= '9')) {
        parser->at = before;
        return MR_OK;
    }
    type->extension = mr_arena_copy(&parser->arena, word.text, word.size_bytes);
    if (type->extension == NULL)
        return no_memory(parser);
    parser->at += word.size_bytes;
    return take_char(parser, ')') ? MR_OK : fail_here(parser, "')'");
}

/* Parameters and the words that may follow the first one of a type's name. */
static enum mr_status parse_parameters(struct parser *parser, const char *name,
                                       struct mr_type *type)
{
    unsigned numbers[2] = {0, 0};
    unsigned count = 0;

    if (type->id == MR_TYPE_DOUBLE)
        (void)take_word(parser, "PRECISION");
    if (type->id == MR_TYPE_TEXT)
        (void)take_word(parser, "VARYING");
    if (type->id == MR_TYPE_BINARY)
        MR_TRY(take_extension(parser, type));
    if (type->extension != NULL)
        return MR_OK;
    MR_TRY(take_numbers(parser, numbers, &count));
    bool zone = type->id == MR_TYPE_TIMESTAMP &&
                (take_word(parser, "WITH") || take_word(parser, "WITHOUT"));
    if (zone) {
        (void)take_word(parser, "LOCAL");
        if (!take_word(parser, "TIME") || !take_word(parser, "ZONE"))
            return fail_here(parser, "TIME ZONE");
    }
    switch (type->id) {
    case MR_TYPE_DECIMAL: /* the default is DuckDB's */
        if (numbers[0] > 38 || (count > 0 && numbers[0] == 0) || numbers[1] > numbers[0])
            return MR_FAIL(parser->err, MR_CONFIG,
                           "cannot read column list: column '%s' is DECIMAL(%u,%u); precision must "
                           "be 1 to 38 and scale 0 to precision",
                           name, numbers[0], numbers[1]);
        type->precision = count > 0 ? (uint8_t)numbers[0] : 18;
        type->scale = count > 0 ? (uint8_t)numbers[1] : 3;
        return MR_OK;
    case MR_TYPE_TIMESTAMP:
        if (count > 1 || numbers[0] > 9)
            return MR_FAIL(parser->err, MR_CONFIG,
                           "cannot read column list: column '%s' is TIMESTAMP(%u); use 0 to 9 "
                           "digits",
                           name, numbers[0]);
        if (numbers[0] > 6)
            type->id = MR_TYPE_TIMESTAMP_NS;
        return MR_OK;
    case MR_TYPE_TEXT: /* lengths are accepted and not enforced, as in DuckDB */
    case MR_TYPE_BINARY:
        if (count < 2)
            return MR_OK;
        break;
    default:
        if (count == 0)
            return MR_OK;
        break;
    }
    return MR_FAIL(parser->err, MR_CONFIG,
                   "cannot read column list: the type of column '%s' takes no such parameters; "
                   "leave out the '(...)'",
                   name);
}

static enum mr_status unknown_type(struct parser *parser, const char *name, struct word word)
{
    const char *candidates[MR_ARRAY_SIZE(synonyms)];
    char shown[64];
    char upper[64];

    for (size_t i = 0; i < MR_ARRAY_SIZE(synonyms); i++)
        candidates[i] = synonyms[i].word;
    mr_text_escape(word.text, word.size_bytes, shown, sizeof shown);
    size_t i = 0;
    for (; shown[i] != '\0'; i++)
        upper[i] = (char)(shown[i] >= 'a' && shown[i] <= 'z' ? shown[i] - 32 : shown[i]);
    upper[i] = '\0';
    const char *nearest = mr_text_nearest(upper, candidates, MR_ARRAY_SIZE(candidates));
    if (nearest != NULL)
        return MR_FAIL(parser->err, MR_CONFIG,
                       "cannot read column list: column '%s' has unknown type '%s'; did you mean "
                       "'%s'?",
                       name, shown, nearest);
    return MR_FAIL(parser->err, MR_CONFIG,
                   "cannot read column list: column '%s' has unknown type '%s'; use BOOLEAN, "
                   "TINYINT to BIGINT, UTINYINT to UBIGINT, FLOAT, DOUBLE, DECIMAL, VARCHAR, BLOB, "
                   "DATE, TIMESTAMP, TIMESTAMP_NS, TYPE[] or STRUCT(...), or register a codec",
                   name, shown);
}

static enum mr_status parse_base(struct parser *parser, const char *name, unsigned depth,
                                 struct mr_type *type)
{
    struct word word = peek_word(parser);

    if (word.size_bytes == 0)
        return fail_here(parser, "a type");
    for (size_t i = 0; i < MR_ARRAY_SIZE(synonyms); i++) {
        if (!word_is(word, synonyms[i].word))
            continue;
        parser->at += word.size_bytes;
        *type = (struct mr_type){.id = synonyms[i].id};
        if (type->id == MR_TYPE_LIST || type->id == MR_TYPE_STRUCT)
            return parse_nested(parser, name, depth, type);
        return parse_parameters(parser, name, type);
    }
    const char *codec = mr__codec_name(word.text, word.size_bytes);
    if (codec == NULL)
        return unknown_type(parser, name, word);
    parser->at += word.size_bytes;
    *type = (struct mr_type){.id = MR_TYPE_BINARY, .extension = codec};
    return MR_OK;
}

static enum mr_status parse_type(struct parser *parser, const char *name, unsigned depth,
                                 struct mr_type *ret_type)
{
    struct mr_type type;
    unsigned lists = 0;

    if (depth > MR_TYPE_DEPTH_MAX)
        return MR_FAIL(parser->err, MR_CONFIG,
                       "cannot read column list: type of '%s' is nested deeper than %d; flatten it",
                       name, MR_TYPE_DEPTH_MAX);
    MR_TRY(parse_base(parser, name, depth, &type));
    while (take_char(parser, '[')) {
        if (!take_char(parser, ']'))
            return fail_here(parser, "']' (lists have no fixed length)");
        if (++lists > MR_TYPE_DEPTH_MAX)
            return MR_FAIL(parser->err, MR_CONFIG,
                           "cannot read column list: type of '%s' is nested deeper than %d; "
                           "flatten it",
                           name, MR_TYPE_DEPTH_MAX);
        struct mr_field *item = mr_arena_alloc(&parser->arena, sizeof *item);
        if (item == NULL)
            return no_memory(parser);
        *item = (struct mr_field){"item", type};
        type = (struct mr_type){.id = MR_TYPE_LIST, .field_count = 1, .fields = item};
    }
    *ret_type = type;
    return MR_OK;
}

enum mr_status mr_schema_parse(const char *text, size_t text_bytes, struct mr_schema **ret_schema,
                               struct mr_error *err)
{
    struct parser parser = {.at = text, .end = text + text_bytes, .err = err};
    struct mr_field *fields = NULL;
    uint32_t count = 0;
    enum mr_status status = MR_OK;

    if (memchr(text, '\0', text_bytes) != NULL) {
        return MR_FAIL(err, MR_CONFIG, "cannot read column list: it holds a NUL byte; remove it");
    }
    skip_blanks(&parser);
    if (parser.at < parser.end)
        MR_TRY_GOTO(parse_columns(&parser, 0, 1, &fields, &count));
    skip_blanks(&parser);
    if (parser.at < parser.end) {
        status = fail_here(&parser, "',' or the end");
        goto done;
    }
    MR_TRY_GOTO(mr_schema_new(fields, count, ret_schema, err));
done:
    mr_arena_release(&parser.arena);
    return status;
}
