/*
 * What the parsers of statements share (script.c, script_table.c): tokens with one of look-ahead,
 * names, keys, values, errors with a place and a suggestion.
 *
 * Thread: any; a parser belongs to one call of mr_sql_script_parse.
 */
#ifndef MR_SQL_SCRIPT_PARSE_H
#define MR_SQL_SCRIPT_PARSE_H

#include "duck/lex.h"
#include "sql/script.h"

struct mr_sql_parser {
    struct mr_sql_script *script;
    struct mr_lexer lexer;
    struct mr_token token; /* look-ahead */
    struct mr_error *err;
};

enum mr_status mr_sql__parser_no_memory(struct mr_sql_parser *parser);
enum mr_status mr_sql__advance(struct mr_sql_parser *parser);
bool mr_sql__at_word(const struct mr_sql_parser *parser, const char *word);
bool mr_sql__at_symbol(const struct mr_sql_parser *parser, char symbol);
bool mr_sql__at_end(const struct mr_sql_parser *parser); /* of the statement */
/* Is the token behind the look-ahead that word? */
bool mr_sql__next_is_word(const struct mr_sql_parser *parser, const char *word);
bool mr_sql__next_is_symbol(const struct mr_sql_parser *parser, char symbol);

/* "expected X, found Y" at the token, and the nearest of `words` when Y is like one. */
enum mr_status mr_sql__unexpected(struct mr_sql_parser *parser, const char *expected);
enum mr_status mr_sql__unexpected_of(struct mr_sql_parser *parser, const char *expected,
                                     const char *const *words, size_t count);
/* Fails with a text of its own at an offset. */
enum mr_status mr_sql__parser_fail(struct mr_sql_parser *parser, size_t at, const char *format, ...)
    MR_PRINTF(3, 4);
enum mr_status mr_sql__expect_word(struct mr_sql_parser *parser, const char *word,
                                   const char *expected);
enum mr_status mr_sql__expect_symbol(struct mr_sql_parser *parser, char symbol,
                                     const char *expected);
/* Goes over a word if it is there. */
enum mr_status mr_sql__skip_word(struct mr_sql_parser *parser, const char *word, bool *ret_there);

enum mr_status mr_sql__parse_name(struct mr_sql_parser *parser, const char *expected,
                                  const char **ret_name);
/* 'text', without filling ${NAME}. */
enum mr_status mr_sql__parse_raw_text(struct mr_sql_parser *parser, const char *expected,
                                      const char **ret_text);
/* a, b, c ) : the bracket is open already; both lists in the arena. */
enum mr_status mr_sql__parse_names(struct mr_sql_parser *parser, const char ***ret_names,
                                   size_t *ret_count);
/* A key: 'a.b', a.b or "a.b". */
enum mr_status mr_sql__parse_key(struct mr_sql_parser *parser, struct mr_sql_option *option);
/* A value: 'text', or what stands bare up to , ) or ;. */
enum mr_status mr_sql__parse_value(struct mr_sql_parser *parser, bool in_list,
                                   struct mr_sql_option *option);
/* Room for one more option of a statement. */
enum mr_status mr_sql__new_option(struct mr_sql_parser *parser, struct mr_sql_statement *statement,
                                  struct mr_sql_option **ret_option);
/* ( key = value, key value, ... ) */
enum mr_status mr_sql__parse_options(struct mr_sql_parser *parser,
                                     struct mr_sql_statement *statement, const char *expected);
/* A length of time that stands bare up to the end of a clause: zero or more, no months. `example`
 * completes the error. */
enum mr_status mr_sql__parse_delay(struct mr_sql_parser *parser, const char *const *ends,
                                   size_t end_count, int64_t *ret_us);
/* A length of time as SQL writes it: '5 seconds', INTERVAL '5' SECOND, INTERVAL '1 2:3:4' DAY TO
 * SECOND. False when it is none; a negative one is one. */
bool mr_sql__interval_us(const char *text, int64_t *ret_us);

/* script_table.c: ( columns ) of CREATE TABLE, with its watermark; then what may follow. */
enum mr_status mr_sql__parse_columns(struct mr_sql_parser *parser,
                                     struct mr_sql_statement *statement);
enum mr_status mr_sql__parse_clauses(struct mr_sql_parser *parser,
                                     struct mr_sql_statement *statement);

#endif
