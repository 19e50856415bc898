/*
 * The lexer behind lex.h: called by the pass over time functions (rewrite.c) and by the statement
 * parser of src/sql.
 *
 * It knows the parts of DuckDB's lexical rules that decide where a token ends: '' and "" doubling,
 * E'' escapes, dollar quotes, nested block comments, line comments. Everything else is a word, a
 * number or a one-character symbol.
 *
 * Thread: any.
 */
#include "duck/lex.h"

#include "base/text.h"

#include <string.h>

static bool is_word_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_word_start(c) || is_digit(c) || c == '$';
}

struct mr_lexer mr_lexer_of(const char *text, size_t size)
{
    struct mr_lexer lexer = {text, size, 0};

    return lexer;
}

void mr_text_place(const char *text, size_t offset, uint32_t *ret_line, uint32_t *ret_column)
{
    uint32_t line = 1;
    size_t start = 0;

    for (size_t i = 0; i < offset && text[i] != '\0'; i++) {
        if (text[i] == '\n') {
            line++;
            start = i + 1;
        }
    }
    *ret_line = line;
    *ret_column = (uint32_t)(offset - start) + 1;
}

enum mr_status mr_error_place(struct mr_error *err, const char *text, size_t offset,
                              enum mr_status status)
{
    if (err != NULL)
        mr_text_place(text, offset, &err->sql_line, &err->sql_column);
    return status;
}

static char peek(const struct mr_lexer *lexer, size_t ahead)
{
    return lexer->at + ahead < lexer->size ? lexer->text[lexer->at + ahead] : '\0';
}

static enum mr_status skip_block_comment(struct mr_lexer *lexer, struct mr_error *err)
{
    size_t start = lexer->at;
    unsigned depth = 0;

    while (lexer->at < lexer->size) {
        if (peek(lexer, 0) == '/' && peek(lexer, 1) == '*') {
            depth++;
            lexer->at += 2;
        } else if (peek(lexer, 0) == '*' && peek(lexer, 1) == '/') {
            depth--;
            lexer->at += 2;
            if (depth == 0)
                return MR_OK;
        } else {
            lexer->at++;
        }
    }
    return mr_error_place(
        err, lexer->text, start,
        MR_FAIL(err, MR_SQL_ERROR, "cannot read the statement: this comment has no '*/'"));
}

static enum mr_status skip_blanks(struct mr_lexer *lexer, struct mr_error *err)
{
    for (;;) {
        char c = peek(lexer, 0);

        if (lexer->at >= lexer->size)
            return MR_OK;
        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            lexer->at++;
        } else if (c == '-' && peek(lexer, 1) == '-') {
            while (lexer->at < lexer->size && lexer->text[lexer->at] != '\n')
                lexer->at++;
        } else if (c == '/' && peek(lexer, 1) == '*') {
            MR_TRY(skip_block_comment(lexer, err));
        } else {
            return MR_OK;
        }
    }
}

/* Goes behind the closing quote; a doubled quote stays inside, and so does \' when escapes are
 * on. */
static enum mr_status skip_quoted(struct mr_lexer *lexer, char quote, bool escapes,
                                  struct mr_error *err)
{
    size_t start = lexer->at++;

    while (lexer->at < lexer->size) {
        char c = lexer->text[lexer->at++];

        if (escapes && c == '\\' && lexer->at < lexer->size) {
            lexer->at++;
        } else if (c == quote) {
            if (peek(lexer, 0) != quote)
                return MR_OK;
            lexer->at++;
        }
    }
    return mr_error_place(err, lexer->text, start,
                          MR_FAIL(err, MR_SQL_ERROR,
                                  "cannot read the statement: this %s has no closing %c",
                                  quote == '"' ? "name" : "text", quote));
}

/* $$...$$ and $tag$...$tag$; anything else that begins with $ is a parameter. */
static enum mr_status read_dollar(struct mr_lexer *lexer, struct mr_token *token,
                                  struct mr_error *err)
{
    size_t start = lexer->at;
    size_t end = start + 1;
    size_t tag;

    while (end < lexer->size && (is_word_start(lexer->text[end]) || is_digit(lexer->text[end])))
        end++;
    token->kind = MR_TOKEN_PARAM;
    lexer->at = end;
    if (end >= lexer->size || lexer->text[end] != '$' || is_digit(lexer->text[start + 1]))
        return MR_OK;
    tag = end + 1 - start;
    token->kind = MR_TOKEN_STRING;
    for (size_t i = end + 1; i + tag <= lexer->size; i++) {
        if (memcmp(lexer->text + i, lexer->text + start, tag) == 0) {
            lexer->at = i + tag;
            return MR_OK;
        }
    }
    return mr_error_place(err, lexer->text, start,
                          MR_FAIL(err, MR_SQL_ERROR,
                                  "cannot read the statement: this text has no closing %.*s",
                                  (int)tag, lexer->text + start));
}

static void read_number(struct mr_lexer *lexer)
{
    while (is_word(peek(lexer, 0)) || peek(lexer, 0) == '.') {
        char c = lexer->text[lexer->at++];
        if ((c == 'e' || c == 'E') && (peek(lexer, 0) == '+' || peek(lexer, 0) == '-') &&
            is_digit(peek(lexer, 1)))
            lexer->at++;
    }
}

enum mr_status mr_lexer_next(struct mr_lexer *lexer, struct mr_token *ret_token,
                             struct mr_error *err)
{
    struct mr_token token = {MR_TOKEN_END, 0, 0};
    char c;

    MR_TRY(skip_blanks(lexer, err));
    token.at = lexer->at;
    c = peek(lexer, 0);
    if (lexer->at >= lexer->size) {
        token.kind = MR_TOKEN_END;
    } else if ((c == 'e' || c == 'E') && peek(lexer, 1) == '\'') {
        token.kind = MR_TOKEN_STRING;
        lexer->at++;
        MR_TRY(skip_quoted(lexer, '\'', true, err));
    } else if (is_word_start(c)) {
        token.kind = MR_TOKEN_WORD;
        while (is_word(peek(lexer, 0)))
            lexer->at++;
    } else if (is_digit(c) || (c == '.' && is_digit(peek(lexer, 1)))) {
        token.kind = MR_TOKEN_NUMBER;
        read_number(lexer);
    } else if (c == '\'' || c == '"') {
        token.kind = c == '"' ? MR_TOKEN_QUOTED : MR_TOKEN_STRING;
        MR_TRY(skip_quoted(lexer, c, false, err));
    } else if (c == '$') {
        MR_TRY(read_dollar(lexer, &token, err));
    } else {
        token.kind = c == '?' ? MR_TOKEN_PARAM : MR_TOKEN_SYMBOL;
        lexer->at++;
    }
    token.size = lexer->at - token.at;
    *ret_token = token;
    return MR_OK;
}

bool mr_token_is(const struct mr_lexer *lexer, const struct mr_token *token, const char *word)
{
    return token->kind == MR_TOKEN_WORD &&
           mr_text_equal_nocase(lexer->text + token->at, token->size, word, strlen(word));
}

bool mr_token_is_symbol(const struct mr_lexer *lexer, const struct mr_token *token, char symbol)
{
    return token->kind == MR_TOKEN_SYMBOL && lexer->text[token->at] == symbol;
}

void mr_edits_add(struct mr_edits *edits, const struct mr_edit *edit)
{
    mr_buf_add(&edits->list, edit, sizeof(*edit));
}

size_t mr_edits_old_position(const struct mr_edits *edits, size_t position)
{
    size_t count = edits->list.size / sizeof(struct mr_edit);
    size_t shrunk = 0; /* how much longer the old text is before the position, modulo 2^n */

    for (size_t i = 0; i < count; i++) {
        struct mr_edit edit;

        memcpy(&edit, edits->list.data + i * sizeof(edit), sizeof(edit));
        if (position < edit.from)
            break;
        if (position < edit.from + edit.size)
            return edit.old_from;
        shrunk = edit.old_from + edit.old_size - (edit.from + edit.size);
    }
    return position + shrunk;
}

void mr_edits_release(struct mr_edits *edits)
{
    mr_buf_release(&edits->list);
}
