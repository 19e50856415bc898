/*
 * Tokens, names, keys, values and lengths of time, for the parsers of statements; see
 * script_parse.h. Called by script.c and script_table.c.
 *
 * Thread: any.
 */
#include "sql/script_parse.h"

#include "base/buf.h"
#include "base/check.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN_BYTES = 40 };

enum mr_status mr_sql__parser_no_memory(struct mr_sql_parser *parser)
{
    return MR_FAIL(parser->err, MR_NOMEM, "cannot parse the statements: out of memory");
}

/* ---- Tokens ---- */

enum mr_status mr_sql__advance(struct mr_sql_parser *parser)
{
    return mr_lexer_next(&parser->lexer, &parser->token, parser->err);
}

bool mr_sql__at_word(const struct mr_sql_parser *parser, const char *word)
{
    return mr_token_is(&parser->lexer, &parser->token, word);
}

bool mr_sql__at_symbol(const struct mr_sql_parser *parser, char symbol)
{
    return mr_token_is_symbol(&parser->lexer, &parser->token, symbol);
}

bool mr_sql__at_end(const struct mr_sql_parser *parser)
{
    return parser->token.kind == MR_TOKEN_END || mr_sql__at_symbol(parser, ';');
}

bool mr_sql__next_is_word(const struct mr_sql_parser *parser, const char *word)
{
    struct mr_lexer ahead = parser->lexer;
    struct mr_token token;

    return mr_lexer_next(&ahead, &token, NULL) == MR_OK && mr_token_is(&ahead, &token, word);
}

bool mr_sql__next_is_symbol(const struct mr_sql_parser *parser, char symbol)
{
    struct mr_lexer ahead = parser->lexer;
    struct mr_token token;

    return mr_lexer_next(&ahead, &token, NULL) == MR_OK &&
           mr_token_is_symbol(&ahead, &token, symbol);
}

/* ---- Errors ---- */

enum mr_status mr_sql__parser_fail(struct mr_sql_parser *parser, size_t at, const char *format, ...)
{
    va_list args;
    enum mr_status status;

    va_start(args, format);
    status = mr_error_setv(parser->err, __FILE__, __LINE__, MR_SQL_ERROR, format, args);
    va_end(args);
    return mr_error_place(parser->err, parser->lexer.text, at, status);
}

enum mr_status mr_sql__unexpected_of(struct mr_sql_parser *parser, const char *expected,
                                     const char *const *words, size_t count)
{
    const struct mr_token *token = &parser->token;
    const char *found = parser->lexer.text + token->at;
    int size = (int)MR_MIN(token->size, (size_t)SHOWN_BYTES);
    char word[SHOWN_BYTES + 1];
    const char *nearest = NULL;

    if (token->kind == MR_TOKEN_END)
        return mr_sql__parser_fail(parser, token->at, "expected %s, found the end of the text",
                                   expected);
    if (token->kind == MR_TOKEN_WORD && token->size <= SHOWN_BYTES) {
        for (int i = 0; i < size; i++)
            word[i] = (char)(found[i] >= 'a' && found[i] <= 'z' ? found[i] - 32 : found[i]);
        word[size] = '\0';
        nearest = mr_text_nearest(word, words, count);
    }
    if (nearest != NULL)
        return mr_sql__parser_fail(parser, token->at,
                                   "expected %s, found '%.*s'; did you mean '%s'?", expected, size,
                                   found, nearest);
    return mr_sql__parser_fail(parser, token->at, "expected %s, found '%.*s'", expected, size,
                               found);
}

enum mr_status mr_sql__unexpected(struct mr_sql_parser *parser, const char *expected)
{
    return mr_sql__unexpected_of(parser, expected, NULL, 0);
}

enum mr_status mr_sql__expect_word(struct mr_sql_parser *parser, const char *word,
                                   const char *expected)
{
    char upper[SHOWN_BYTES];
    const char *words[1] = {upper};
    size_t size = strlen(word);

    if (mr_sql__at_word(parser, word))
        return mr_sql__advance(parser);
    MR_ASSERT(size < sizeof(upper));
    for (size_t i = 0; i <= size; i++)
        upper[i] = (char)(word[i] >= 'a' && word[i] <= 'z' ? word[i] - 32 : word[i]);
    return mr_sql__unexpected_of(parser, expected, words, 1);
}

enum mr_status mr_sql__expect_symbol(struct mr_sql_parser *parser, char symbol,
                                     const char *expected)
{
    return mr_sql__at_symbol(parser, symbol) ? mr_sql__advance(parser)
                                             : mr_sql__unexpected(parser, expected);
}

enum mr_status mr_sql__skip_word(struct mr_sql_parser *parser, const char *word, bool *ret_there)
{
    bool there = mr_sql__at_word(parser, word);

    if (there)
        MR_TRY(mr_sql__advance(parser));
    if (ret_there != NULL)
        *ret_there = there;
    return MR_OK;
}

/* ---- Names and texts ---- */

/* Copies the inside of a quoted token, doubled quotes undone. */
static enum mr_status unquote(struct mr_sql_parser *parser, const char **ret_text)
{
    const char *from = parser->lexer.text + parser->token.at;
    size_t size = parser->token.size;
    char quote = from[0];
    char *text = mr_arena_alloc(&parser->script->arena, size + 1);
    size_t used = 0;

    if (text == NULL)
        return mr_sql__parser_no_memory(parser);
    for (size_t i = 1; i + 1 < size; i++) {
        text[used++] = from[i];
        if (from[i] == quote)
            i++;
    }
    text[used] = '\0';
    *ret_text = text;
    return MR_OK;
}

/* `name` with the quotes of Spark and Flink: the lexer sees three tokens. */
static enum mr_status parse_backquoted(struct mr_sql_parser *parser, const char **ret_name)
{
    const char *text = parser->lexer.text;
    size_t from = parser->token.at + 1;
    const char *close = memchr(text + from, '`', parser->lexer.size - from);

    if (close == NULL)
        return mr_sql__parser_fail(parser, parser->token.at,
                                   "cannot read the statement: this name has no closing `");
    *ret_name = mr_arena_copy(&parser->script->arena, text + from, (size_t)(close - text) - from);
    if (*ret_name == NULL)
        return mr_sql__parser_no_memory(parser);
    parser->lexer.at = (size_t)(close - text) + 1;
    return MR_OK;
}

enum mr_status mr_sql__parse_name(struct mr_sql_parser *parser, const char *expected,
                                  const char **ret_name)
{
    const struct mr_token *token = &parser->token;

    if (token->kind == MR_TOKEN_QUOTED) {
        MR_TRY(unquote(parser, ret_name));
    } else if (mr_sql__at_symbol(parser, '`')) {
        MR_TRY(parse_backquoted(parser, ret_name));
    } else if (token->kind == MR_TOKEN_WORD) {
        *ret_name =
            mr_arena_copy(&parser->script->arena, parser->lexer.text + token->at, token->size);
        if (*ret_name == NULL)
            return mr_sql__parser_no_memory(parser);
    } else {
        return mr_sql__unexpected(parser, expected);
    }
    if ((*ret_name)[0] == '\0' || strlen(*ret_name) > MR_NAME_BYTES_MAX)
        return mr_sql__unexpected(parser, "a name of 1 to 255 bytes");
    return mr_sql__advance(parser);
}

enum mr_status mr_sql__parse_raw_text(struct mr_sql_parser *parser, const char *expected,
                                      const char **ret_text)
{
    if (parser->token.kind != MR_TOKEN_STRING)
        return mr_sql__unexpected(parser, expected);
    MR_TRY(unquote(parser, ret_text));
    return mr_sql__advance(parser);
}

enum mr_status mr_sql__parse_names(struct mr_sql_parser *parser, const char ***ret_names,
                                   size_t *ret_count)
{
    const char **names =
        mr_arena_alloc(&parser->script->arena, MR_SQL_OPTIONS_MAX * sizeof(*names));
    size_t count = 0;

    if (names == NULL)
        return mr_sql__parser_no_memory(parser);
    for (;;) {
        const char *comment;

        if (count == MR_SQL_OPTIONS_MAX)
            return mr_sql__unexpected(parser, "at most 200 columns");
        MR_TRY(mr_sql__parse_name(parser, "the name of a column", &names[count]));
        count++;
        if (mr_sql__at_word(parser, "comment")) {
            MR_TRY(mr_sql__advance(parser));
            MR_TRY(mr_sql__parse_raw_text(parser, "a text after COMMENT", &comment));
        }
        if (mr_sql__at_symbol(parser, ')'))
            break;
        MR_TRY(mr_sql__expect_symbol(parser, ',', "',' or ')' after a column"));
    }
    *ret_names = names;
    *ret_count = count;
    return mr_sql__advance(parser);
}

/* ---- Values and keys ---- */

enum mr_status mr_sql_expand(struct mr_arena *arena, const char *text, size_t size,
                             const char **ret_text, struct mr_error *err)
{
    struct mr_buf out = MR_BUF_INIT;
    enum mr_status status = MR_OK;

    for (size_t i = 0; i < size && status == MR_OK; i++) {
        const char *close;
        char name[MR_NAME_BYTES_MAX + 1];
        const char *value;
        size_t name_size;

        if (text[i] != '$' || i + 1 >= size || text[i + 1] != '{') {
            mr_buf_add_char(&out, text[i]);
            continue;
        }
        close = memchr(text + i, '}', size - i);
        name_size = close != NULL ? (size_t)(close - text) - i - 2 : 0;
        if (close == NULL || name_size == 0 || name_size >= sizeof(name)) {
            status = MR_FAIL(err, MR_SQL_ERROR, "this text has '${' without a name and '}'");
            break;
        }
        memcpy(name, text + i + 2, name_size);
        name[name_size] = '\0';
        value = getenv(name);
        if (value == NULL)
            status =
                MR_FAIL(err, MR_CONFIG,
                        "environment variable '%s' is not set; set it, or write the value", name);
        else
            mr_buf_add_str(&out, value);
        i += name_size + 2;
    }
    if (status == MR_OK) {
        *ret_text = mr_arena_copy(arena, out.data != NULL ? out.data : "", out.size);
        if (out.failed || *ret_text == NULL)
            status = MR_FAIL(err, MR_NOMEM, "cannot parse the statements: out of memory");
    }
    mr_buf_release(&out);
    return status;
}

/* 'text' with ${NAME} filled in. */
static enum mr_status parse_string(struct mr_sql_parser *parser, const char **ret_text)
{
    const char *raw = NULL;
    enum mr_status status;

    MR_TRY(unquote(parser, &raw));
    MR_ASSERT(raw != NULL);
    status = mr_sql_expand(&parser->script->arena, raw, strlen(raw), ret_text, parser->err);
    if (status != MR_OK)
        return mr_error_place(parser->err, parser->lexer.text, parser->token.at, status);
    return mr_sql__advance(parser);
}

enum mr_status mr_sql__parse_key(struct mr_sql_parser *parser, struct mr_sql_option *option)
{
    size_t end;

    option->at = parser->token.at;
    if (parser->token.kind == MR_TOKEN_STRING || parser->token.kind == MR_TOKEN_QUOTED) {
        MR_TRY(unquote(parser, &option->key));
        return mr_sql__advance(parser);
    }
    if (mr_sql__at_symbol(parser, '`')) {
        MR_TRY(parse_backquoted(parser, &option->key));
        return mr_sql__advance(parser);
    }
    if (parser->token.kind != MR_TOKEN_WORD)
        return mr_sql__unexpected(parser, "the name of an option");
    do {
        end = parser->token.at + parser->token.size;
        MR_TRY(mr_sql__advance(parser));
        if (!mr_sql__at_symbol(parser, '.') && !mr_sql__at_symbol(parser, '-'))
            break;
        MR_TRY(mr_sql__advance(parser));
    } while (parser->token.kind == MR_TOKEN_WORD);
    option->key =
        mr_arena_copy(&parser->script->arena, parser->lexer.text + option->at, end - option->at);
    return option->key != NULL ? MR_OK : mr_sql__parser_no_memory(parser);
}

enum mr_status mr_sql__parse_value(struct mr_sql_parser *parser, bool in_list,
                                   struct mr_sql_option *option)
{
    size_t from = parser->token.at;
    size_t end = from;

    if (parser->token.kind == MR_TOKEN_STRING)
        return parse_string(parser, &option->value);
    while (!mr_sql__at_end(parser) &&
           !(in_list && (mr_sql__at_symbol(parser, ',') || mr_sql__at_symbol(parser, ')')))) {
        end = parser->token.at + parser->token.size;
        MR_TRY(mr_sql__advance(parser));
    }
    if (end == from)
        return mr_sql__unexpected(parser, "a value");
    option->value = mr_arena_copy(&parser->script->arena, parser->lexer.text + from, end - from);
    return option->value != NULL ? MR_OK : mr_sql__parser_no_memory(parser);
}

enum mr_status mr_sql__new_option(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                  struct mr_sql_option **ret_option)
{
    if (statement->options == NULL)
        statement->options = mr_arena_alloc(&parser->script->arena,
                                            MR_SQL_OPTIONS_MAX * sizeof(*statement->options));
    if (statement->options == NULL)
        return mr_sql__parser_no_memory(parser);
    if (statement->option_count == MR_SQL_OPTIONS_MAX)
        return mr_sql__unexpected(parser, "at most 200 options");
    *ret_option = &statement->options[statement->option_count++];
    **ret_option = (struct mr_sql_option){.at = parser->token.at};
    return MR_OK;
}

enum mr_status mr_sql__parse_options(struct mr_sql_parser *parser,
                                     struct mr_sql_statement *statement, const char *expected)
{
    MR_TRY(mr_sql__expect_symbol(parser, '(', expected));
    for (;;) {
        struct mr_sql_option *option = NULL;

        MR_TRY(mr_sql__new_option(parser, statement, &option));
        MR_ASSERT(option != NULL);
        MR_TRY(mr_sql__parse_key(parser, option));
        /* Spark: OPTIONS (path 'x') */
        if (parser->token.kind != MR_TOKEN_STRING)
            MR_TRY(mr_sql__expect_symbol(parser, '=', "'=' after the name of an option"));
        MR_TRY(mr_sql__parse_value(parser, true, option));
        if (mr_sql__at_symbol(parser, ')'))
            return mr_sql__advance(parser);
        MR_TRY(mr_sql__expect_symbol(parser, ',', "',' or ')' after an option"));
    }
}

/* ---- Lengths of time ---- */

enum { PART_DAY, PART_HOUR, PART_MINUTE, PART_SECOND, PART_COUNT };

static int part_of(const char *word, size_t size)
{
    static const char *const names[PART_COUNT] = {"day", "hour", "minute", "second"};

    for (int i = 0; i < PART_COUNT; i++) {
        if (mr_text_equal_nocase(word, size, names[i], strlen(names[i])))
            return i;
    }
    return -1;
}

/* "1 2:3:4.5" between two parts: DAY TO SECOND, HOUR TO MINUTE. The parts must be all there. */
static bool fields_us(const char *at, int from, int to, int64_t *ret_us)
{
    static const int64_t units[PART_COUNT] = {INT64_C(86400000000), INT64_C(3600000000), 60000000,
                                              1000000};
    int64_t total = 0;
    bool negative = *at == '-';

    MR_ASSERT(from >= 0 && to < PART_COUNT);
    at += negative ? 1 : 0;
    for (int part = from; part <= to; part++) {
        size_t digits = strspn(at, "0123456789");
        char text[64] = "";
        int64_t us = 0;

        if (part == PART_SECOND && at[digits] == '.')
            digits += 1 + strspn(at + digits + 1, "0123456789");
        if (digits == 0 || digits > 30)
            return false;
        memcpy(text, at, digits);
        memcpy(text + digits, " us", 4);
        if (part == PART_SECOND)
            memcpy(text + digits, " s", 3);
        if (!mr_parse_duration_us(text, &us) ||
            (part != PART_SECOND && __builtin_mul_overflow(us, units[part], &us)) ||
            __builtin_add_overflow(total, us, &total))
            return false;
        at += digits;
        if (part < to && *at++ != (part == PART_DAY ? ' ' : ':'))
            return false;
    }
    *ret_us = negative ? -total : total;
    return *at == '\0';
}

/* INTERVAL '1 2:3:4' DAY TO SECOND */
static bool range_us(const char *text, int64_t *ret_us)
{
    const char *open = strchr(text, '\'');
    const char *close = open != NULL ? strchr(open + 1, '\'') : NULL;
    char fields[64];
    const char *at;
    int part[2];

    if (close == NULL || (size_t)(close - open) > sizeof(fields))
        return false;
    memcpy(fields, open + 1, (size_t)(close - open) - 1);
    fields[close - open - 1] = '\0';
    at = close + 1;
    for (int i = 0; i < 2; i++) {
        size_t size;

        at += strspn(at, " \t\r\n");
        if (i == 1) {
            if (!mr_text_equal_nocase(at, MR_MIN(strlen(at), (size_t)2), "to", 2))
                return false;
            at += 2;
            at += strspn(at, " \t\r\n");
        }
        size = strcspn(at, " \t\r\n");
        part[i] = part_of(at, size);
        at += size;
    }
    at += strspn(at, " \t\r\n");
    return *at == '\0' && part[0] >= 0 && part[0] < part[1] &&
           fields_us(fields, part[0], part[1], ret_us);
}

bool mr_sql__interval_us(const char *text, int64_t *ret_us)
{
    size_t size;
    char plain[128];

    text += strspn(text, " \t\r\n");
    size = strlen(text);
    while (size > 0 && strchr(" \t\r\n", text[size - 1]) != NULL)
        size--;
    if (size >= 2 && size < sizeof(plain) && text[0] == '\'' && text[size - 1] == '\'') {
        memcpy(plain, text + 1, size - 2);
        plain[size - 2] = '\0';
        return mr_parse_duration_us(plain, ret_us);
    }
    return mr_parse_duration_us(text, ret_us) || range_us(text, ret_us);
}

static bool has_months(const char *text)
{
    static const char *const words[] = {"month", "year", "quarter", "decade", "centur"};

    for (; *text != '\0'; text++) {
        for (size_t i = 0; i < MR_ARRAY_SIZE(words); i++) {
            if (strncasecmp(text, words[i], strlen(words[i])) == 0)
                return true;
        }
    }
    return false;
}

static bool at_any(const struct mr_sql_parser *parser, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (mr_sql__at_word(parser, words[i]))
            return true;
    }
    return false;
}

enum mr_status mr_sql__parse_delay(struct mr_sql_parser *parser, const char *const *ends,
                                   size_t end_count, int64_t *ret_us)
{
    size_t from = parser->token.at;
    size_t end = from;
    const char *text;
    int64_t us;

    while (!mr_sql__at_end(parser) && !mr_sql__at_symbol(parser, ',') &&
           !mr_sql__at_symbol(parser, ')') && !at_any(parser, ends, end_count)) {
        end = parser->token.at + parser->token.size;
        MR_TRY(mr_sql__advance(parser));
    }
    text = mr_arena_copy(&parser->script->arena, parser->lexer.text + from, end - from);
    if (text == NULL)
        return mr_sql__parser_no_memory(parser);
    if (has_months(text))
        return mr_sql__parser_fail(parser, from,
                                   "'%.*s' is no delay of a watermark: months and years have no "
                                   "fixed length; use days",
                                   SHOWN_BYTES, text);
    if (!mr_sql__interval_us(text, &us) || us < 0)
        return mr_sql__parser_fail(parser, from,
                                   "'%.*s' is no delay of a watermark: write INTERVAL '5 seconds', "
                                   "zero or more, without months",
                                   SHOWN_BYTES, text);
    *ret_us = us;
    return MR_OK;
}
