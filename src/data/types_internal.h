/*
 * Text output like snprintf: counts what it would need, writes what fits. Used to print types and
 * rows.
 */
#ifndef MR_DATA_TYPES_INTERNAL_H
#define MR_DATA_TYPES_INTERNAL_H

#include <millrace/types.h>

struct mr__out {
    char *text; /* may be NULL when size is 0 */
    size_t size;
    size_t used; /* bytes wanted so far */
};

void mr__out_add(struct mr__out *out, const char *data, size_t size_bytes);
void mr__out_add_str(struct mr__out *out, const char *text);
size_t mr__out_end(struct mr__out *out); /* terminates; returns the bytes wanted */

/* A word of at most 63 letters, digits and '_' that is no SQL type. */
bool mr__extension_name_is_good(const char *name);
bool mr__is_type_word(const char *word, size_t word_bytes); /* type_parse.c */

#endif
