/* Text helpers: UTF-8, comparison without case, edit distance, escaping.  Thread: any. */
#ifndef MR_BASE_TEXT_H
#define MR_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True when all of it is valid UTF-8 (no overlong forms, no surrogates). Fast on ASCII. */
bool mr_utf8_valid(const char *data, size_t size_bytes);
/* Length of the longest valid prefix. */
size_t mr_utf8_valid_prefix(const char *data, size_t size_bytes);
/* ASCII only: no locale. */
bool mr_text_equal_nocase(const char *a, size_t a_bytes, const char *b, size_t b_bytes);
/* The candidate nearest to text (edit distance at most 3 and a third of its length), or NULL. */
const char *mr_text_nearest(const char *text, const char *const *candidates,
                            size_t candidate_count);
/* For log and error texts: control characters and bad UTF-8 as \xNN, cut with "..." at size. Always
 * terminates. */
size_t mr_text_escape(const char *data, size_t data_bytes, char *text, size_t size);

#endif
