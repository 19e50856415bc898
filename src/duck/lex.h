/*
 * Tokens of DuckDB's SQL dialect with their places: for passes over the text before DuckDB's own
 * parser sees it.
 *
 * Thread: any; the text is borrowed and must outlive the lexer.
 */
#ifndef MR_DUCK_LEX_H
#define MR_DUCK_LEX_H

#include "base/buf.h"

enum mr_token_kind {
    MR_TOKEN_END,
    MR_TOKEN_WORD,   /* bare identifier or keyword */
    MR_TOKEN_QUOTED, /* "identifier", quotes included */
    MR_TOKEN_STRING, /* 'text', E'text', $$text$$ */
    MR_TOKEN_NUMBER,
    MR_TOKEN_PARAM,  /* $1, $name, ? */
    MR_TOKEN_SYMBOL, /* one character: ( ) , ; . = < > ... */
};

struct mr_token {
    enum mr_token_kind kind;
    size_t at;   /* byte offset in the text */
    size_t size; /* bytes */
};

struct mr_lexer {
    const char *text;
    size_t size;
    size_t at;
};

struct mr_lexer mr_lexer_of(const char *text, size_t size);
/* Next token, comments and blanks skipped. MR_SQL_ERROR with line and column for an unfinished
 * string or comment. */
enum mr_status mr_lexer_next(struct mr_lexer *lexer, struct mr_token *ret_token,
                             struct mr_error *err);

/* A bare word equal to `word` (lower case), whatever its case. */
bool mr_token_is(const struct mr_lexer *lexer, const struct mr_token *token, const char *word);
bool mr_token_is_symbol(const struct mr_lexer *lexer, const struct mr_token *token, char symbol);

/* 1-based line and column (bytes) of an offset. */
void mr_text_place(const char *text, size_t offset, uint32_t *ret_line, uint32_t *ret_column);
/* Sets the place of an SQL error and returns err's status, so that a call can end with it. */
enum mr_status mr_error_place(struct mr_error *err, const char *text, size_t offset,
                              enum mr_status status);

/*
 * Replacements in a text, kept so that a position in the new text leads back to the old one.
 */
struct mr_edits {
    struct mr_buf list; /* struct mr_edit..., in order */
};

struct mr_edit {
    size_t from; /* offset in the new text */
    size_t size; /* bytes in the new text */
    size_t old_from;
    size_t old_size;
};

void mr_edits_add(struct mr_edits *edits, const struct mr_edit *edit);
size_t mr_edits_old_position(const struct mr_edits *edits, size_t position);
void mr_edits_release(struct mr_edits *edits);

#endif
